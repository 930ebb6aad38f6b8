"""Names, attributes and coordinates of a cube that follow the CF conventions for metadata, version 1.11.

A cube is a discrete sampling geometry of time series: each feature is a place, given by a point inside of it, in
degrees, and its outline as WKT. Every variable can be written to NetCDF and Zarr.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyproj
import shapely

from sen2chain.errors import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import xarray as xr

CONVENTIONS = "CF-1.11"
GRID_MAPPING = "wgs84"
"""The variable that describes the coordinate system of longitude and latitude."""
_BEYOND_FLOATS = 2**53  # from here on floats are not every whole number
_SINCE_1970 = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard", "dtype": "int64"}
_NO_TIME = np.iinfo(np.int64).min  # numpy's own value for it
_STANDARD_NAMES = {"NDVI": "normalized_difference_vegetation_index"}
_CELL_METHODS = {
    "min": "minimum", "max": "maximum", "mean": "mean", "std": "standard_deviation", "median": "median",
    "sum": "sum", "variance": "variance", "range": "range", "majority": "mode",
}  # fmt: skip
_TEXTS = {"tile": "Sentinel-2 tile", "filename": "raster of the index", "reason": "why there is no value"}
_OF_VALUES = re.compile("min|max|mean|median|percentile_.*|majority|minority|weighted_mean")


def of_column(name: str, definition: Mapping[str, str], indices: Collection[str], along: str) -> dict[str, str]:
    """Return the attributes of the variable of a column.

    Parameters
    ----------
    name
        The column.
    definition
        Its ``long_name``, ``units`` and others, which are kept.
    indices
        Names of the indices of the cube.
    along
        ``date``, where a value is of one date; else it is an aggregate.
    """
    found = {"long_name": _TEXTS.get(name, name), **definition}
    standard = _STANDARD_NAMES.get(next(iter(indices))) if len(indices) == 1 else None
    if standard and _OF_VALUES.fullmatch(name):
        found["standard_name"] = standard
    if along == "date" and name in _CELL_METHODS:
        found["cell_methods"] = f"area: {_CELL_METHODS[name]}"
    return found


def encoding_of(values: np.ndarray, *, grid: bool = False) -> dict[str, Any]:
    """Return how a variable is written: numbers compressed, and with the coordinate system of its places."""
    found: dict[str, Any] = {"grid_mapping": GRID_MAPPING} if grid else {}
    return found if values.dtype == object else {**found, "zlib": True, "complevel": 1}


def of_dataset(provenance: Mapping[str, Any], indices: Collection[str]) -> dict[str, str]:
    """Return the attributes of a cube as a whole."""
    layer = provenance.get("layer", {}).get("name", "a layer")
    version = provenance.get("versions", {}).get("sen2chain", "")
    return {
        "Conventions": CONVENTIONS,
        "featureType": "timeSeries",
        "title": f"Statistics of {', '.join(indices)} of the features of {escaped(layer)}",
        "source": escaped(str(provenance.get("archive", "Sentinel-2 MSI Level-2A"))),
        "history": f"{provenance.get('created', '')} written by sen2chain {version}".strip(),
        "institution": "not stated",
        "references": "https://sen2chain.readthedocs.io",
        "comment": "The attribute sen2chain has all parameters, versions and products as JSON.",
    }


def of_steps(steps: pd.Index, along: str, bounds: Callable[[str], tuple[Any, Any]] | None) -> dict[str, xr.Variable]:
    """Return the coordinates along dates, or along periods with the time they span.

    Parameters
    ----------
    steps
        Dates, or names of periods.
    along
        ``date`` or ``period``.
    bounds
        Gives the first moment of a period, and the first one after it.
    """
    import xarray as xr  # noqa: PLC0415  # half a second that few runs need

    time = {"standard_name": "time", "units_metadata": "leap_seconds: none"}
    if along == "date":
        text = {"long_name": "sensing time (UTC)", "axis": "T", **time}
        return {"date": xr.Variable("date", steps.to_numpy(), text, dict(_SINCE_1970))}
    named = {along: xr.Variable(along, steps.to_numpy(object), {"long_name": "period"})}
    if bounds is None:
        return named
    spans = np.array([bounds(step) for step in steps], dtype="datetime64[s]").reshape(-1, 2).astype("datetime64[ns]")
    text = {"long_name": "first moment of the period (UTC)", "bounds": "time_bounds", **time}
    return named | {
        "time": xr.Variable(along, spans[:, 0], text, dict(_SINCE_1970)),
        "time_bounds": xr.Variable((along, "bound"), spans, {}, dict(_SINCE_1970)),
    }


def of_features(geometry: np.ndarray, crs: str) -> dict[str, xr.Variable]:
    """Return the coordinates along features: fid, outline as WKT, and a point inside of it.

    Parameters
    ----------
    geometry
        Shapely geometries (n,), None where null.
    crs
        Their CRS.
    """
    import xarray as xr  # noqa: PLC0415

    system = pyproj.CRS("EPSG:4326")
    lon, lat = _points(geometry, crs, system)
    texts = np.asarray(shapely.to_wkt(geometry, rounding_precision=-1), dtype=object)
    texts[shapely.is_missing(geometry)] = ""
    inside = "of a point inside the feature"
    return {
        "fid": xr.Variable(
            "fid",
            np.arange(len(geometry)),
            {"long_name": "position of the feature in the layer, from 0", "cf_role": "timeseries_id"},
        ),
        "geometry": xr.Variable("fid", texts, {"long_name": "outline of the feature as WKT", "crs": crs}),
        "lon": xr.Variable(
            "fid", lon, {"long_name": f"longitude {inside}", "standard_name": "longitude", "units": "degrees_east"}
        ),
        "lat": xr.Variable(
            "fid", lat, {"long_name": f"latitude {inside}", "standard_name": "latitude", "units": "degrees_north"}
        ),
        GRID_MAPPING: xr.Variable((), np.int32(0), {"long_name": "system of lon and lat", **system.to_cf()}),
    }


def _points(geometry: np.ndarray, crs: str, system: pyproj.CRS) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of a point inside each geometry; NaN where there is none."""
    # An empty point has no coordinates to ask for.
    places = geometry.copy()
    places[shapely.is_empty(geometry)] = None
    points = shapely.point_on_surface(places)
    transformer = pyproj.Transformer.from_crs(crs, system, always_xy=True)
    lon, lat = transformer.transform(shapely.get_x(points), shapely.get_y(points))
    placed = np.isfinite(lon) & np.isfinite(lat)
    return np.where(placed, lon, np.nan), np.where(placed, lat, np.nan)


def of_attributes(attributes: pd.DataFrame, taken: Collection[str]) -> dict[str, xr.Variable]:
    """Return the layer's attributes as coordinates along features.

    Parameters
    ----------
    attributes
        The attributes (n rows), under the names they have in rows.
    taken
        Names of the other variables.

    Returns
    -------
    dict
        Under names of letters, digits and underscores, which differ not only by case; ``long_name`` is the attribute's.
    """
    import xarray as xr  # noqa: PLC0415

    names, found = {name.lower() for name in taken}, {}
    for attribute, column in attributes.items():
        name = variable_name(str(attribute), names)
        names.add(name.lower())
        values = _values(column)
        texts = {"long_name": str(attribute)}
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            texts["comment"] = "UTC"
        encoding = {**_SINCE_1970, "_FillValue": _NO_TIME} if values.dtype.kind == "M" else encoding_of(values)
        found[name] = xr.Variable("fid", values, texts, encoding)
    return found


def variable_name(text: str, taken: Collection[str]) -> str:
    """Return the name of a variable for an attribute's: letters of English, digits, underscores, a letter first.

    Parameters
    ----------
    text
        The attribute's name.
    taken
        Names in lower case that cannot be used; ``attr_`` is put before such a one, then a number after it.

    Examples
    --------
    >>> variable_name("Größe (ha)", {"count"}), variable_name("COUNT", {"count"}), variable_name("2021", set())
    ('Grosse_ha', 'attr_COUNT', 'attr_2021')
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "_", plain)
    name = name if name == text else name.strip("_")
    if not name[:1].isalpha() or name.lower() in taken:
        name = f"attr_{name}".rstrip("_")
    unique, number = name, 2
    while unique.lower() in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def _values(column: pd.Series[Any]) -> np.ndarray:
    """Return the values of an attribute as numbers, times or texts, which NetCDF and Zarr have."""
    if pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column):
        # Beside a null: numbers where a float holds each of them, else texts, to the last digit of an identifier.
        numbers = column.to_numpy(float, na_value=np.nan)
        exact = not (np.abs(numbers) >= _BEYOND_FLOATS).any()
        return numbers if exact else np.array(["" if pd.isna(value) else str(value) for value in column], dtype=object)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_dtype(column):
        return np.array(column)  # a copy, since users may change the cube
    codes, texts = pd.factorize(column)
    return np.array([*map(_writable, texts), ""], dtype=object)[codes]  # the code of a missing one is -1, the last


def _writable(value: object) -> str:
    """Return a value as a text without NUL, at which NetCDF ends it, and of whole characters only."""
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode()
