"""Read a polygon layer. Nothing is ever written beside the user's file.

The position of a feature in its layer, from 0, is its ``fid``, whatever the format calls its ids. Null and empty
geometries keep their position, so that every feature can be accounted for later.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
import shapely

from sen2chain.errors import LayerError
from sen2chain.parallel import recorded_warnings
from sen2chain.records import RESERVED_COLUMNS
from sen2chain.vectors import saved
from sen2chain.vectors.layer import LINE_BREAKS, Layer, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyproj

logger = logging.getLogger(__name__)

_PARQUET = {".parquet", ".geoparquet"}
_IN_ZIP = {".shp", ".gpkg", ".geojson", ".json", ".fgb", ".kml", ".gml"}
_POLYGONAL = (3, 6, 7)  # shapely's type ids of Polygon, MultiPolygon, GeometryCollection


def read_layer(
    source: str | Path | gpd.GeoDataFrame,
    layer: str | None = None,
    name: str | None = None,
    field_names: str | Sequence[str] | None = None,
    cache: Path | None = None,
) -> Layer:
    """Read a layer from a file that pyogrio reads, a zipped one, a GeoParquet file or a GeoDataFrame.

    Parameters
    ----------
    source
        Path (``~`` is understood) or GeoDataFrame.
    layer
        Name of the layer; needed where a file has several with geometry.
    name
        Stem of result files, instead of the file's own stem (``layer`` for a GeoDataFrame).
    field_names
        Attributes that must exist, as the layer calls them.
    cache
        Folder where a file's layer is kept until the file changes; None keeps none.

    Raises
    ------
    LayerError
        If the file is missing or unreadable, has no CRS, no geometry or no feature, if the layer's name is
        missing or unknown, or if an attribute of `field_names` does not exist.
    """
    if isinstance(source, gpd.GeoDataFrame):
        label, found = "The GeoDataFrame", _from_frame("layer", source, "The GeoDataFrame", None)
    else:
        path = Path(source).expanduser()
        label = f"The layer {path}"
        if not path.exists():
            raise LayerError(f"{label} does not exist; check the path.")
        found = _from_file(path, label, layer, cache)
    known, fields = found
    _check_fields(field_names, fields, label)
    # The name becomes a folder and file names.
    return replace(known, name=re.sub(r"[/\\:\0]", "_", name or known.name))


def _from_file(path: Path, label: str, layer: str | None, cache: Path | None) -> tuple[Layer, list[str]]:
    """Give a file's layer, from the cache where the file has not changed, and its attributes' original names."""
    key = saved.stamp(path, layer) if cache else None
    if cache is None or key is None:
        return _from_frame(*_read_file(path, layer), label, path)
    found = saved.load_with_fields(cache / f"{key}.arrow", path)
    if found is None:
        found = _from_frame(*_read_file(path, layer), label, path)
        if saved.stamp(path, layer) == key:  # it was not changed meanwhile
            found = replace(found[0], saved=saved.save(*found, key, cache)), found[1]
    return found


def _from_frame(stem: str, frame: Any, label: str, path: Path | None) -> tuple[Layer, list[str]]:
    """Check what was read and make it a layer; give it with the attributes' original names."""
    if not isinstance(frame, gpd.GeoDataFrame) or frame.active_geometry_name is None:
        raise LayerError(f"{label} has no geometry column; give a layer of polygons, lines or points.")
    crs = _crs_text(frame.crs)
    if crs is None:
        raise LayerError(f"{label} has no coordinate reference system; assign the right one (a .prj file, in QGIS).")
    if not len(frame):
        raise LayerError(f"{label} has no features; give one with at least one polygon.")
    table = pd.DataFrame(frame).drop(columns=frame.active_geometry_name)
    geometry, repaired = _repair(np.array(frame.geometry.array, dtype=object))
    layer = Layer.of(geometry, crs, name=stem, path=path, attributes=_attributes(table), repaired=repaired)
    return layer, [str(column) for column in table.columns]


def _read_file(path: Path, layer: str | None) -> tuple[str, Any]:
    """Read one layer of a file: its stem for result files, and the frame."""
    with recorded_warnings() as remarks, _reader_errors(path):
        if path.suffix.lower() in _PARQUET:
            stem, frame = path.stem, gpd.read_parquet(path)
            if layer not in {None, stem}:
                raise LayerError(f"{path} has no layer {layer!r}; it has one, leave the name out.")
        else:
            if "!" in str(path):
                raise ValueError("GDAL's reader takes a ! in a path for an archive; rename the folder or the file")
            _check_shapefile(path)
            with _untouched(path) as location:
                chosen, several = _choose_layer(path, location, layer)
                stem = f"{_stem(path)}-{chosen}" if several else _stem(path)
                frame = _read_ogr(location, chosen)
    for remark in remarks:
        # GDAL's remarks on odd files; what matters for results (rings, CRS) is looked at here.
        logger.info("%s: %s", path, remark.message)
    return stem, frame


def _check_shapefile(path: Path) -> None:
    """Refuse a truncated shapefile, whose missing shapes GDAL gives as null geometries without a word."""
    if path.suffix.lower() == ".shp" and path.is_file():
        with path.open("rb") as file:
            words = int.from_bytes(file.read(28)[24:], "big")  # the header tells the length in 16-bit words
        if path.stat().st_size < 2 * words:
            raise ValueError("the file is truncated")


@contextlib.contextmanager
def _reader_errors(path: Path) -> Iterator[None]:
    """Turn what the readers raise on a broken file into one sentence.

    pyogrio's errors are RuntimeErrors, pyarrow's OSErrors or ValueErrors.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        detail = str(error).split("\n")[0].split("; It might help")[0].rstrip(".")
        message = f"The layer {path} cannot be read ({detail}); check that it is a complete vector file."
        raise LayerError(message) from error


def _read_ogr(location: str, layer: str) -> Any:
    try:
        return pyogrio.read_dataframe(location, layer=layer, use_arrow=True)
    except NotImplementedError:
        # Curves: only the slower reader turns them into lines.
        return pyogrio.read_dataframe(location, layer=layer)


def _choose_layer(path: Path, location: str, layer: str | None) -> tuple[str, bool]:
    """Give the layer to read, and whether the file has several with geometry."""
    kinds = {str(name): kind for name, kind in pyogrio.list_layers(location)}
    names = [name for name, kind in kinds.items() if kind is not None] or list(kinds)
    listing = ", ".join(names)
    if layer is None and len(names) > 1:
        raise LayerError(f"{path} has several layers ({listing}); name one of them.")
    if not names:
        raise RuntimeError("it has no layer")  # as GDAL sees some truncated files
    if layer is not None and layer not in kinds:
        raise LayerError(f"{path} has no layer {layer!r}; it has {listing}.")
    return layer or names[0], len(names) > 1


def _stem(path: Path) -> str:
    """Give ``parcels`` for ``parcels.gpkg``, ``parcels.zip`` and ``parcels.shp.zip``."""
    inner = Path(path.stem)
    return inner.stem if path.suffix.lower() == ".zip" and inner.suffix.lower() in _IN_ZIP else path.stem


@contextlib.contextmanager
def _untouched(path: Path) -> Iterator[str]:
    """Give a location of `path` that GDAL can open without leaving a trace beside the user's file.

    Two drivers write even when they only read: GML leaves a ``.gfs`` file, and SQLite (GeoPackage) in
    write-ahead mode, as QGIS leaves it while a file is open, makes and merges side files. These are read from a
    temporary copy.
    """
    files = [path] if _writes_when_read(path) else []
    if not files:
        yield _inside_zip(path)
        return
    files += [path.with_name(path.name + "-wal"), path.with_suffix(".xsd"), path.with_suffix(".gfs")]
    with tempfile.TemporaryDirectory(prefix="sen2chain-") as folder:
        for file in files:
            if file.is_file():
                shutil.copyfile(file, Path(folder, file.name))
        yield str(Path(folder, path.name))


def _writes_when_read(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        head = file.read(20)
    # https://www.sqlite.org/fileformat.html: bytes 18 and 19 are 2 in write-ahead mode.
    return path.suffix.lower() == ".gml" or (head.startswith(b"SQLite format 3\0") and 2 in head[18:20])


def _inside_zip(path: Path) -> str:
    """Point GDAL at the one vector file of a zip archive, which it only finds by itself in the top folder."""
    if path.suffix.lower() != ".zip":
        return str(path)
    with zipfile.ZipFile(path) as archive:
        inner = [member for member in archive.namelist() if Path(member).suffix.lower() in _IN_ZIP]
    return f"/vsizip/{path.absolute()}/{inner[0]}" if len(inner) == 1 else str(path)


def _crs_text(crs: pyproj.CRS | None) -> str | None:
    """Name a CRS in the same way whatever format it was read from; None where it does not tie down to the earth."""
    # GeoPackage spells "unknown" as CRS records named "Undefined ...".
    if crs is None or crs.name.startswith("Undefined") or not (crs.is_geographic or crs.is_projected):
        return None
    flat = crs.to_2d()
    authority = flat.to_authority(min_confidence=100)
    if authority is None:
        return str(flat.to_wkt())
    # They differ in axis order only, and coordinates in layers are always x, y.
    return "EPSG:4326" if authority == ("OGC", "CRS84") else ":".join(authority)


def _check_fields(wanted: str | Sequence[str] | None, known: Sequence[str], label: str) -> None:
    wanted = [wanted] if isinstance(wanted, str) else wanted or []
    for field in wanted:
        if field not in known:
            listing = ", ".join(known) or "none"
            raise LayerError(f"{label} has no attribute {field!r}; its attributes are: {listing}.")


def _repair(shapes: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Force geometries to 2-D and repair invalid polygons; give them and the fids of the repaired ones."""
    geometry = np.array(shapes, dtype=object)
    deep = shapely.get_coordinate_dimension(geometry) > 2  # heights or measures
    geometry[deep] = shapely.force_2d(geometry[deep])
    broken = np.isin(shapely.get_type_id(geometry), _POLYGONAL) & ~shapely.is_valid(geometry)
    # The structure method keeps holes as holes; without collapsed parts a polygon stays polygonal.
    geometry[broken] = shapely.make_valid(geometry[broken], method="structure", keep_collapsed=False)
    # Coordinates that are not finite have no place on earth; bounds of None and of empty ones are NaN too.
    lost = ~np.isfinite(shapely.bounds(geometry)).all(axis=1) & ~shapely.is_missing(geometry)
    geometry[lost] = shapely.Polygon()
    geometry.flags.writeable = False
    return geometry, tuple(np.flatnonzero(broken & ~lost).tolist())


def _attributes(table: pd.DataFrame) -> pd.DataFrame:
    """Clean the values and give each column a name of its own that no column of a result has."""
    originals = {str(column) for column in table.columns}
    columns: dict[str, pd.Series[Any]] = {}
    for position, label in enumerate(table.columns):
        name = str(label)
        while name in RESERVED_COLUMNS or name in columns or (name != str(label) and name in originals):
            name = f"attr_{name}"
        columns[name] = _clean(table.iloc[:, position].reset_index(drop=True))
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _clean(column: pd.Series[Any]) -> pd.Series[Any]:
    """Keep numbers, truth values and times; dates without time and all else become text on one line."""
    if pd.api.types.is_datetime64_any_dtype(column):
        times = column.dropna()
        if times.dt.tz is not None or not times.eq(times.dt.normalize()).all() or times.empty:
            return column
        column = column.dt.strftime("%Y-%m-%d")
    elif pd.api.types.is_numeric_dtype(column):  # bool included
        return column
    if pd.api.types.infer_dtype(column, skipna=True) == "string":  # as `one_line`, all at once
        with contextlib.suppress(UnicodeError):
            texts = pc.replace_substring_regex(pa.array(column, pa.string(), from_pandas=True), LINE_BREAKS, "")
            return pd.Series(texts.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Series([one_line(value) for value in column], dtype=object)
