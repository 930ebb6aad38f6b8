"""Rows laid out as a cube of xarray: feature x date, led by index and mask where there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sen2chain.errors import RequestError
from sen2chain.export import cf_conventions as conventions
from sen2chain.export.provenance_json import to_json
from sen2chain.parallel import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import xarray as xr

    from sen2chain.zonal import Statistics

_KEYS = ("index", "mask", "date", "fid")


def to_dataset(
    frames: Mapping[tuple[str, str], pd.DataFrame],
    *,
    geometry: np.ndarray,
    crs: str,
    attributes: pd.DataFrame,
    definitions: Mapping[str, Mapping[str, str]],
    provenance: Mapping[str, Any],
    along: str = "date",
    steps: Iterable[Any] = (),
    bounds: Callable[[str], tuple[Any, Any]] | None = None,
) -> xr.Dataset:
    """Lay rows out as a cube: fid x date, led by index and mask where there are several.

    The dataset follows the CF conventions 1.11 as a discrete sampling geometry of time series, so that its methods
    `to_netcdf` and `to_zarr` write it as it is.

    Parameters
    ----------
    frames
        (index name, mask name) -> rows, with one row per (date, fid); `date` is the index or a column.
    geometry
        Shapely geometries (n,), the position is the fid.
    crs
        CRS of `geometry`.
    attributes
        The layer's attributes (n rows); become coordinates along `fid`.
    definitions
        Column -> its ``long_name``, ``units``, ``description``: attributes of the variable.
    provenance
        Kept as JSON in the dataset's attribute ``sen2chain``.
    along
        The column that becomes the dimension beside `fid`: ``date``, or ``period`` for aggregates.
    steps
        Dates that are to be there even where no row has them.
    bounds
        First and last day of a period; needed with ``period``.

    Returns
    -------
    xarray.Dataset
        Numbers are NaN and texts empty where there is no row, or no value. A number takes 8 bytes, and so does a text,
        since equal texts are one object. Geometries are WKT in the layer's CRS, "" where null.
    """
    import xarray as xr  # noqa: PLC0415  # half a second that few runs need

    tables = {key: frame if along in frame else frame.reset_index() for key, frame in frames.items()}
    found = pd.Index(sorted(set(steps).union(*(table[along] for table in tables.values()))))
    found = pd.DatetimeIndex(found) if along == "date" else found
    indices, masks = (pd.Index(dict.fromkeys(names)) for names in zip(*tables, strict=True))
    shape = (len(indices), len(masks), len(geometry), len(found))
    left_out = {*_KEYS, along, *attributes.columns}
    cubes: dict[str, np.ndarray] = {}
    for (index, mask), table in tables.items():
        step = found.get_indexer(pd.Index(table[along]))
        cell = (indices.get_loc(index), masks.get_loc(mask), table["fid"].to_numpy(), step)
        _fill(cubes, shape, cell, {name: table[name] for name in table.columns if name not in left_out})

    data = {
        # With fastpath, since otherwise xarray may make a text of its own for each cell.
        name: xr.Variable(
            ("index", "mask", "fid", along),
            cube,
            conventions.of_column(name, definitions.get(name, {}), tuple(indices), along),
            conventions.encoding_of(cube, grid=True),
            fastpath=True,
        )
        for name, cube in cubes.items()
    }
    coordinates: dict[str, xr.Variable] = {
        "index": xr.Variable("index", indices.to_numpy(object), {"long_name": "radiometric index"}),
        "mask": xr.Variable("mask", masks.to_numpy(object), {"long_name": "cloud mask"}),
        **conventions.of_steps(found, along, bounds),
        **conventions.of_features(geometry, crs),
    }
    coordinates |= conventions.of_attributes(attributes, {*_KEYS, along, *data, *coordinates})
    notes = {**conventions.of_dataset(provenance, tuple(indices)), "sen2chain": to_json(provenance)}
    cube = xr.Dataset(data, coords=coordinates, attrs=notes)
    for name, names in (("index", indices), ("mask", masks)):
        if len(names) == 1:
            # As an object, since Zarr has no lasting form of numpy's texts of fixed length.
            one = xr.Variable((), names.to_numpy(object).reshape(()), coordinates[name].attrs)
            cube = cube.squeeze(name).assign_coords({name: one})
    return cube


def _fill(
    cubes: dict[str, np.ndarray], shape: tuple[int, ...], cell: tuple[Any, ...], columns: Mapping[str, pd.Series[Any]]
) -> None:
    """Write columns of rows into their cubes, which are made where they are missing.

    Parameters
    ----------
    cubes
        Column -> cube.
    shape
        Shape of a cube.
    cell
        Position of each row in a cube, one number or array for each dimension.
    columns
        Column -> its values, one for each row.
    """
    for name, column in columns.items():
        number = pd.api.types.is_numeric_dtype(column)
        if name not in cubes:
            cubes[name] = np.full(shape, np.nan) if number else np.full(shape, "", dtype=object)
        cubes[name][cell] = column.to_numpy(float, na_value=np.nan) if number else _shared(column)


def column_definitions(statistics: Statistics, *, in_index_units: bool) -> dict[str, dict[str, str]]:
    """Return the long name and the unit of each column of numbers, as xarray's attributes.

    Parameters
    ----------
    statistics
        The columns of statistics.
    in_index_units
        Whether values are in index units (0.72), not times 10000.
    """
    definitions = {}
    for column in ("count", "nodata", "nbcld", "cldprb", *statistics.columns):
        power = statistics.power(column) if column != "cldprb" else 0
        units = "percent" if column == "cldprb" else "1" if in_index_units or not power else f"1e{-4 * power}"
        definitions[column] = {"long_name": statistics.define(column), "units": units}
    return definitions


def check_cube(*, features: int, steps: int, outputs: int, columns: int, instead: str, what: str = "cube") -> None:
    """Refuse a cube that needs more than half of the memory; the other half is for its rows and for work with it.

    Parameters
    ----------
    features, steps, outputs
        Its size: features, dates or periods, and indices times masks.
    columns
        Variables with a value for each cell, of 8 bytes each.
    instead
        The call that the message suggests instead.
    what
        The noun in the message.

    Raises
    ------
    RequestError
        If it is too large.
    """
    needed, available = features * steps * outputs * columns * 8, memory()
    if available is not None and needed > available / 2:
        raise RequestError(
            f"A {what} of {features:,} features x {steps:,} dates x {outputs} outputs x {columns} columns takes "
            f"{needed / 2**30:,.1f} GiB, more than half of this machine's memory ({available / 2**30:,.1f} GiB); use "
            f"{instead}, or ask for fewer dates, indices or statistics."
        )


def _shared(column: pd.Series[Any]) -> np.ndarray:
    """Return texts as objects, "" where missing; equal texts share one object, so that a cell costs a pointer."""
    codes, texts = pd.factorize(column)
    return np.append(np.asarray(texts, dtype=object), "")[codes]  # the code of a missing one is -1, the last
