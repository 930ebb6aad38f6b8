"""Pixel tables as Parquet: one file for each product, in folders by tile and month.

``tile=32TPS/month=2022-06/<product>.parquet`` is the layout of Hive that pandas, pyarrow, DuckDB and Dask open as one
table. Rows are ordered by feature, and within a feature by row and column of the tile.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from sen2chain.atomic import replacing, writing
from sen2chain.export import to_json
from sen2chain.pixel_table.pixel_columns import DATE, EPSG, FID, PARTITIONS, PRODUCT, X, Y
from sen2chain.pixel_table.pixel_records import positions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid
    from sen2chain.pixel_table.pixel_columns import PixelColumns
    from sen2chain.pixel_table.pixel_extraction import CollectedPixels
    from sen2chain.products import ProductId

    Ints = npt.NDArray[np.int64]

ROWS_PER_GROUP = 1 << 18
"""Rows of a row group: large enough to compress, small enough to stay in memory."""
PATTERN = f"{PARTITIONS[0]}=*/{PARTITIONS[1]}=*/*.parquet"


def pixel_file(folder: Path, product: ProductId) -> Path:
    """Return the path of a product's file."""
    tile, month = PARTITIONS
    return folder / f"{tile}={product.tile}" / f"{month}={product.sensing:%Y-%m}" / f"{product}.parquet"


def write_pixels(
    path: Path,
    product: ProductId,
    pixels: CollectedPixels,
    fids: Ints,
    columns: PixelColumns,
    *,
    missing: Collection[str],
    keys: pa.ChunkedArray | None,
    note: Mapping[str, Any],
) -> int:
    """Write the pixels of some features of one product.

    Parameters
    ----------
    path
        The file; its folder is made.
    product, pixels
        The product, and its collected pixels.
    fids
        (features,) the features to write, ascending, each with records.
    columns, missing
        The columns, and those of them that the product could not give.
    keys
        (features of the layer,) the user's own keys; None for none.
    note
        How the table is made, which is kept in the metadata of the file.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final name has changed then.
    """
    grid = pixels.coverage.plan.grid
    epsg = pyproj.CRS(grid.crs).to_epsg()
    told = {**note, "product": str(product), "tile": product.tile, "epsg": epsg, "crs": pyproj.CRS(grid.crs).to_wkt()}
    schema = columns.schema.with_metadata({b"sen2chain": to_json(told).encode()})
    rows = 0
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        with writing(path):
            writer = pq.ParquetWriter(file, schema, compression="zstd")
        try:
            for fid, row, column, records in stretches(pixels, fids, ROWS_PER_GROUP):
                found = {**_own_columns(product, grid, epsg, fid, row, column), **columns.arrays(records, missing)}
                if keys is not None:
                    found[columns.id_field] = keys.take(pa.array(fid))
                table = pa.table([found[name] for name in schema.names], schema)
                with writing(path):
                    writer.write_table(table, row_group_size=ROWS_PER_GROUP)
                rows += len(fid)
            with writing(path):
                writer.close()
        finally:
            # After a failed write the footer cannot be written either.
            with contextlib.suppress(OSError):
                writer.close()
    return rows


def _own_columns(
    product: ProductId, grid: Grid, epsg: int | None, fid: Ints, row: Ints, column: Ints
) -> dict[str, pa.Array]:
    """Return the columns that name pixels."""
    n = len(fid)
    return {
        FID: pa.array(fid),
        PRODUCT: pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [str(product)]),
        EPSG: pa.nulls(n, pa.int32()) if epsg is None else pa.array(np.full(n, epsg, np.int32)),
        X: pa.array(grid.transform[2] + (column + 0.5) * grid.transform[0]),
        Y: pa.array(grid.transform[5] + (row + 0.5) * grid.transform[4]),
        DATE: pa.array(np.full(n, product.sensing, "datetime64[s]")),
    }


def stretches(
    pixels: CollectedPixels, fids: Ints, most: int
) -> Iterator[tuple[Ints, Ints, Ints, npt.NDArray[np.void]]]:
    """Yield the pixels of some features, at most `most` at a time.

    Yields
    ------
    tuple
        fid, row and column of the tile's grid, and record of each pixel.
    """
    plan, fid_of, records = pixels.coverage.plan, pixels.coverage.fid, pixels.records
    wanted = np.zeros(len(fid_of), np.bool_)
    wanted[np.searchsorted(fid_of, fids)] = True
    runs = np.flatnonzero(wanted[plan.feature])
    length = plan.length[runs].astype(np.int64)
    place = records.starts[plan.feature[runs]] + _before_in_feature(plan)[runs]
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, most):
        stop = min(begin + most, total)
        first, last = int(np.searchsorted(ends, begin, "right")), int(np.searchsorted(ends, stop, "left")) + 1
        own = runs[first:last]
        # A run that goes beyond either end is cut.
        skipped, n = np.zeros(len(own), np.int64), length[first:last].copy()
        skipped[0] = begin - (ends[first] - length[first])
        n[-1] -= ends[last - 1] - stop
        n[0] -= skipped[0]
        row = np.repeat(plan.row[own].astype(np.int64), n)
        column = positions(plan.column[own] + skipped, n)
        yield np.repeat(fid_of[plan.feature[own]], n), row, column, records.take(place[first:last] + skipped, n)


def _before_in_feature(plan: PixelPlan) -> Ints:
    """Return, for each run, the pixels of its feature in the runs before it."""
    length = plan.length.astype(np.int64)
    before = np.cumsum(length) - length
    is_first = np.diff(plan.feature, prepend=-1) != 0
    of_first: Ints = np.repeat(before[is_first], np.diff(np.append(np.flatnonzero(is_first), len(length))))
    return before - of_first
