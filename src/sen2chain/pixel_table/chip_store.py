"""Chips of features in a Zarr store, for training: a group ``<tile>/<fid>`` for each feature, which xarray opens.

Acquisitions come by date, and a group holds all dates of a feature. So the records of all acquisitions are kept in a
temporary file, feature after feature, and groups are written at the end, some dates and rows of pixels at a time.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyproj

from sen2chain.atomic import temporary, writing
from sen2chain.errors import EmptyResultError, RequestError
from sen2chain.export import to_json
from sen2chain.indices import NODATA
from sen2chain.pixel_table.dataset_folder import DatasetFolder, remove_folder
from sen2chain.pixel_table.pixel_columns import WEIGHT
from sen2chain.pixel_table.pixel_parquet import ROWS_PER_GROUP, stretches
from sen2chain.pixel_table.pixel_writers import missing_columns
from sen2chain.pixel_table.zarr_files import ZarrGroup
from sen2chain.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

    from sen2chain.coverage import PixelPlan
    from sen2chain.pixel_table.pixel_columns import PixelColumns
    from sen2chain.pixel_table.pixel_extraction import PixelTaskResult
    from sen2chain.products import ProductId

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]
    Records = npt.NDArray[np.void]

_EDGE = 512
"""Pixels along the edge of a chunk, unless the feature is smaller."""
_CHUNK = 1 << 21
"""Pixels and bands of a chunk over all of its dates."""
_IN_MEMORY = 64 << 20
"""Bytes of records that go to the disk only beyond."""
_FEW = 200
"""Groups whose metadata the store itself has too. Of more, programs would read all for each group that they open."""
_ARRAYS = ("reflectance", "masked", "inside", "band", "mask")
"""Arrays and dimensions of a group beside the columns of a table."""
_COORDINATES = "coordinates"
"""The attribute that names further coordinates."""
_TIME = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard", "standard_name": "time", "axis": "T"}


@dataclass(slots=True, eq=False)
class _Tile:
    """What is kept of the acquisitions of one tile."""

    plan: PixelPlan
    fid_of: Ints
    """(features of the plan,) their fids."""
    products: list[ProductId] = field(default_factory=list)
    fids: list[Ints] = field(default_factory=list)
    """For each product, its features."""
    places: list[Ints] = field(default_factory=list)
    """For each product, the position of the first record of each feature in the file."""


class ChipStore:
    """Writes chips of features, see `ChipStore.add` and `ChipStore.finish`.

    Parameters
    ----------
    path
        The folder of the store.
    columns
        What the chips hold.
    keys
        (features of the layer,) the user's own keys; None for none.
    note
        How the chips are made.
    overwrite
        Whether a store with chips is replaced by one without.
    quiet
        Whether to show no progress.

    Raises
    ------
    RequestError
        If an index has the name of another array.
    """

    def __init__(
        self,
        path: Path,
        columns: PixelColumns,
        keys: pa.ChunkedArray | None,
        note: Mapping[str, Any],
        *,
        overwrite: bool,
        quiet: bool,
    ) -> None:
        taken = [index.name for index in columns.indices if index.name.lower() in _ARRAYS]
        if taken:
            raise RequestError(f"Two arrays of the chips would be called {taken[0]}; give the index another name.")
        self.folder = DatasetFolder(path)
        self._columns, self._keys, self._note = columns, keys, note
        self._overwrite, self._quiet = overwrite, quiet
        self._tiles: dict[str, _Tile] = {}
        self._count = 0
        self._part = temporary(path)

    def __enter__(self) -> Self:
        with writing(self.folder.path):
            self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self.folder.path.parent))
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        remove_folder(self._part)

    def add(self, result: PixelTaskResult, fids: Ints) -> None:
        """Keep the pixels of some features of one product."""
        pixels, product = result.pixels, result.task.product
        if pixels is None or not len(fids):
            return
        coverage = pixels.coverage
        tile = self._tiles.setdefault(product.tile, _Tile(coverage.plan, coverage.fid))
        missing = missing_columns(result, self._columns)
        with writing(self.folder.path):
            for _, _, _, records in stretches(pixels, fids, ROWS_PER_GROUP):
                self._file.write(_without(records, missing, self._columns).tobytes())
        lengths = np.diff(pixels.records.starts)[np.searchsorted(coverage.fid, fids)]
        tile.products.append(product)
        tile.fids.append(fids)
        tile.places.append(self._count + np.cumsum(lengths) - lengths)
        self._count += int(lengths.sum())

    def finish(self) -> tuple[int, int, int, list[str]]:
        """Write the groups, and give the store its name.

        Raises
        ------
        EmptyResultError
            If this run has no pixels, and an earlier one has.
        """
        if not self._count and not self._overwrite and self.folder.path.exists():
            raise EmptyResultError(
                f"{self.folder.path} has chips and is kept, since this run gave none; overwrite=True (--overwrite) "
                "replaces it.",
                [],
            )
        root = ZarrGroup(self._part, {"sen2chain": to_json(self._note)})
        size = groups = 0
        total = sum(len(np.unique(np.concatenate(tile.fids))) for tile in self._tiles.values())
        with progress("writing chips", total, quiet=self._quiet) as step:
            for name, tile in self._tiles.items():
                folder = ZarrGroup(self._part / name, {"tile": name})
                size += folder.size
                root.include(folder, name)
                for chips in _chips_of(tile):
                    group = self._write(self._part / name / str(chips.fid), name, chips)
                    size += group.size
                    groups += 1
                    if total <= _FEW:
                        root.include(group, f"{name}/{chips.fid}")
                    step()
        if total <= _FEW:
            root.finish()
        size += root.size
        self.folder.replace(self._part)
        return groups, self._count, size, []

    def _write(self, folder: Path, tile: str, chips: _Chips) -> ZarrGroup:
        """Write the group of a feature."""
        columns, grid = self._columns, chips.plan.grid
        crs = pyproj.CRS(grid.crs)
        told: dict[str, Any] = {
            "fid": chips.fid,
            "tile": tile,
            "epsg": crs.to_epsg(),
            _COORDINATES: "product spatial_ref",
        }
        if self._keys is not None:
            key = columns.id_field if columns.id_field != _COORDINATES else f"attr_{_COORDINATES}"
            told[key] = _plain(self._keys[chips.fid].as_py())
        group = ZarrGroup(folder, told)
        self._write_coordinates(group, chips, crs)
        space, n = {"y": chips.shape[0], "x": chips.shape[1]}, len(chips.products)
        high, wide = (min(edge, _EDGE) for edge in chips.shape)
        dates = min(max(_CHUNK // (high * wide * max(len(columns.bands), 1)), 1), n)
        cube, mapping = {"date": n, **space}, {"grid_mapping": "spatial_ref"}
        for index in columns.indices:
            title = {"long_name": index.title or index.definition, **mapping}
            kind, fill = (
                columns.in_units(index, np.zeros(0, np.int16)).dtype,
                float("nan") if columns.in_index_units else NODATA,
            )
            group.create(index.name, kind, cube, (dates, high, wide), fill=fill, attributes=title)
        if columns.bands:
            own = {"date": n, "band": len(columns.bands), **space}
            title = {"long_name": "surface reflectance", "units": "1", **mapping}
            group.create(
                "reflectance", "<f4", own, (dates, own["band"], high, wide), fill=float("nan"), attributes=title
            )
        if columns.masks:
            own = {"date": n, "mask": len(columns.masks), **space}
            group.create("masked", "|b1", own, (dates, own["mask"], high, wide), attributes=mapping)
        if columns.classification:
            title = {"long_name": "class of the scene classification, 0 outside of the feature", **mapping}
            group.create(columns.classification, "|u1", cube, (dates, high, wide), attributes=title)
        inside = "weight" if columns.weighted else "inside"
        title = {"long_name": "share of each pixel inside the feature" if columns.weighted else "pixels of the feature"}
        group.create(inside, "<f4" if columns.weighted else "|b1", space, (high, wide), attributes={**title, **mapping})
        for first in range(0, chips.shape[0], high):
            for day in range(0, n, dates):
                block, within = self._block(
                    chips, slice(day, min(day + dates, n)), slice(first, min(first + high, chips.shape[0]))
                )
                self._write_block(group, block, day, first)
                if day == 0:
                    group.write(inside, block[WEIGHT][0] if columns.weighted else within, (first, 0))
        group.finish()
        return group

    def _write_coordinates(self, group: ZarrGroup, chips: _Chips, crs: pyproj.CRS) -> None:
        """Write dates, products, bands, masks, the places of pixels and their CRS."""
        grid, n = chips.plan.grid, len(chips.products)
        row, column = (first + np.arange(count) + 0.5 for first, count in zip(chips.corner, chips.shape, strict=True))
        axes = {
            "x": (grid.transform[2] + column * grid.transform[0], "X", "easting"),
            "y": (grid.transform[5] + row * grid.transform[4], "Y", "northing"),
        }
        for name, (values, axis, what) in axes.items():
            told = {
                "axis": axis,
                "units": "m",
                "standard_name": f"projection_{name}_coordinate",
                "long_name": f"{what} of pixel centres",
            }
            group.create(name, "<f8", {name: len(values)}, attributes=told)
            group.write(name, values)
        seconds = np.array([p.sensing for p in chips.products], "datetime64[s]").astype(np.int64)
        group.create("date", "<i8", {"date": n}, attributes={"long_name": "sensing time (UTC)", **_TIME})
        group.write("date", seconds)
        texts = {"product": ("date", [str(p) for p in chips.products]), "band": ("band", self._columns.bands)}
        texts["mask"] = ("mask", [mask.name for mask in self._columns.masks])
        for name, (dimension, found) in texts.items():
            if found:
                array = np.array(found)
                group.create(name, array.dtype.newbyteorder("<"), {dimension: len(found)})
                group.write(name, array)
        group.create("spatial_ref", "<i4", {}, attributes={**crs.to_cf(), "GeoTransform": _geotransform(chips)})
        group.write("spatial_ref", np.zeros((), np.int32))

    def _block(self, chips: _Chips, days: slice, rows: slice) -> tuple[Records, npt.NDArray[np.bool_]]:
        """Return the records of some dates and rows of the box of a feature, and which pixels are the feature's."""
        shape = rows.stop - rows.start, chips.shape[1]
        block = np.zeros((days.stop - days.start, shape[0] * shape[1]), self._columns.record_dtype)
        for band in self._columns.bands:
            block[band] = np.nan
        for index in self._columns.indices:
            block[index.name] = NODATA
        first, last = np.searchsorted(chips.row, (rows.start + chips.corner[0], rows.stop + chips.corner[0]))
        length = chips.length[first:last]
        begin = (
            (chips.row[first:last] - chips.corner[0] - rows.start) * shape[1]
            + chips.column[first:last]
            - chips.corner[1]
        )
        before = np.cumsum(length) - length
        place = np.repeat(begin - before, length) + np.arange(int(length.sum()))
        skipped = int(chips.length[:first].sum())
        for k in range(days.start, days.stop):
            self._file.seek((chips.places[k] + skipped) * self._columns.record_dtype.itemsize)
            data = self._file.read(len(place) * self._columns.record_dtype.itemsize)
            block[k - days.start, place] = np.frombuffer(data, self._columns.record_dtype)
        within = np.zeros(shape[0] * shape[1], np.bool_)
        within[place] = True
        return block.reshape(-1, *shape), within.reshape(shape)

    def _write_block(self, group: ZarrGroup, block: Records, day: int, row: int) -> None:
        """Write what a block of records holds into the arrays of a group."""
        columns = self._columns
        for index in columns.indices:
            stored = np.ascontiguousarray(block[index.name])
            values = columns.in_units(index, stored)
            values = np.where(stored == NODATA, np.nan if columns.in_index_units else NODATA, values).astype(
                values.dtype
            )
            group.write(index.name, values, (day, row, 0))
        if columns.bands:
            group.write("reflectance", np.stack([block[band] for band in columns.bands], axis=1), (day, 0, row, 0))
        if columns.masks:
            masked = [block[columns.mask_column(mask)] > 0 for mask in columns.masks]
            group.write("masked", np.stack(masked, axis=1), (day, 0, row, 0))
        if columns.classification:
            group.write(columns.classification, block[columns.classification], (day, row, 0))


@dataclass(frozen=True, slots=True, eq=False)
class _Chips:
    """The dates of one feature in one tile."""

    fid: int
    plan: PixelPlan
    row: Ints
    column: Ints
    length: Ints
    """Its runs."""
    corner: tuple[int, int]
    """First row and column of its box."""
    shape: tuple[int, int]
    """Rows and columns of its box."""
    products: Sequence[ProductId]
    places: Ints
    """(products,) position of its first record in the file."""


def _chips_of(tile: _Tile) -> Any:
    """Yield the chips of each feature of a tile."""
    fid, place = np.concatenate(tile.fids), np.concatenate(tile.places)
    number = np.repeat(np.arange(len(tile.products)), [len(own) for own in tile.fids])
    order = np.argsort(fid, kind="stable")  # the dates of a feature keep their order
    edges = np.flatnonzero(np.diff(fid[order], prepend=-1))
    starts = np.searchsorted(tile.plan.feature, np.arange(len(tile.fid_of) + 1))
    for own in np.split(order, edges[1:]) if len(order) else ():
        feature = int(np.searchsorted(tile.fid_of, fid[own[0]]))
        runs = slice(int(starts[feature]), int(starts[feature + 1]))
        row, column, length = (getattr(tile.plan, name)[runs].astype(np.int64) for name in ("row", "column", "length"))
        corner = int(row.min()), int(column.min())
        shape = int(row.max()) + 1 - corner[0], int((column + length).max()) - corner[1]
        products = [tile.products[k] for k in number[own]]
        yield _Chips(int(fid[own[0]]), tile.plan, row, column, length, corner, shape, products, place[own])


def _without(records: Records, missing: set[str], columns: PixelColumns) -> Records:
    """Return records without the values of columns that the product could not give; a mask counts as masking."""
    lost = [index.name for index in columns.indices if index.name in missing]
    masks = [name for mask in columns.masks if (name := columns.mask_column(mask)) in missing]
    for name in lost:
        records[name] = NODATA
    for name in masks:
        records[name] = 1
    return records


def _geotransform(chips: _Chips) -> str:
    """Return the place of a feature's box as GDAL writes it."""
    a, _, left, _, e, top = chips.plan.grid.transform
    return f"{left + chips.corner[1] * a} {a} 0 {top + chips.corner[0] * e} 0 {e}"


def _plain(value: object) -> object:
    """Return a value that JSON has."""
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
