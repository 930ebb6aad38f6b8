"""Decoding alone: processor time of GDAL, which decodes whole tiles, and of the windows of JPEG 2000 tiles."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from benchmarks import archive
from sen2chain.coverage import rasterize, touched_blocks
from sen2chain.rasters import Raster, environment
from sen2chain.settings import OPENJPEG_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid

SQUARE = 21
"""Edge of a polygon in pixels of 10 m."""
TILE = 1024
"""Edge of a tile of a 10 m raster."""


@dataclass(frozen=True)
class Row:
    """What is decoded."""

    what: str
    kind: str
    """Format of the archive."""
    polygons: int
    """Number of polygons on the whole tile."""
    rasters: int
    """Number of the product's rasters that are decoded: bands, SCL, CLDPRB."""
    in_one_tile: bool = False
    """Whether all polygons lie in one tile."""


_FURTHER = 20

ROWS = {
    "decode-50": Row("two 10 m bands, SCL and CLDPRB, 50 polygons", "safe", 50, 4),
    "decode-1000": Row("the same, 1,000 polygons", "safe", 1_000, 4),
    "decode-20000": Row("one 10 m band, 20,000 polygons", "safe", 20_000, 1),
    "decode-one": Row("one 10 m band, one polygon", "safe", 1, 1, in_one_tile=True),
    "decode-further": Row(f"the same, {1 + _FURTHER} polygons in one tile", "safe", 1 + _FURTHER, 1, in_one_tile=True),
    "decode-legacy-50": Row("a lossy index, 50 polygons", "jp2", 50, 1),
    "decode-legacy-1000": Row("a lossy index, 1,000 polygons", "jp2", 1_000, 1),
}
"""Rows by name."""


def measure(name: str, folder: Path, tile: int, repeats: int) -> Mapping[str, str]:
    """Measure a row.

    Parameters
    ----------
    name
        Key of `ROWS`.
    folder
        The benchmark's folder.
    tile
        Edge of the tile in pixels.
    repeats
        The median of so many is taken.
    """
    row = ROWS[name]
    (product,) = archive.archive(folder, row.kind, 1).products
    paths = [str(path) for path in (*product.rasters, product.mask, product.cldprb)[: row.rasters]]
    with environment(), Raster(paths[0]) as raster:
        grid = raster.grid
    plan = rasterize(_squares(row, grid, tile), grid)
    by_windows, by_gdal, tiles = [], [], 0
    for _ in range(repeats):
        by_windows.append(_seconds(paths, plan)[0])
        with _without_windows():
            seconds, tiles = _seconds(paths, plan)
        by_gdal.append(seconds)
    windows, gdal = statistics.median(by_windows), statistics.median(by_gdal)
    print(f"{name}: windows {windows:.4f}, GDAL {gdal:.4f}", flush=True)
    return {
        "what": row.what, "tiles": str(tiles), "GDAL, s": f"{gdal:.3f}", "windows, s": f"{windows:.3f}",
        "GDAL / windows": f"{gdal / windows:.1f}",
    }  # fmt: skip


def _squares(row: Row, grid: Grid, tile: int) -> npt.NDArray[np.object_]:
    """Draw squares in random places: on the whole tile of the archive, or inside one tile of its file."""
    rng = np.random.default_rng(row.polygons)
    n = row.polygons if row.in_one_tile else max(1, row.polygons * tile**2 // archive.FULL**2)
    edge = min(TILE, *grid.shape) if row.in_one_tile else min(grid.shape)
    left, top = grid.transform[2], grid.transform[5]
    across, down = rng.integers(0, edge - SQUARE, (2, n)) * 10
    west, north = left + across, top - down
    squares: npt.NDArray[np.object_] = shapely.box(west, north - SQUARE * 10, west + SQUARE * 10, north)
    return squares


@contextmanager
def _without_windows() -> Iterator[None]:
    """Leave the decoding to GDAL."""
    before = os.environ.get(OPENJPEG_VARIABLE)
    os.environ[OPENJPEG_VARIABLE] = "off"
    try:
        yield
    finally:
        del os.environ[OPENJPEG_VARIABLE]
        if before is not None:
            os.environ[OPENJPEG_VARIABLE] = before


def _seconds(paths: list[str], plan: PixelPlan) -> tuple[float, int]:
    """Open the rasters and decode what the plan needs: processor seconds, and blocks of the first raster."""
    seconds, blocks = 0.0, 0
    for path in reversed(paths):
        with environment():
            with Raster(path) as raster:  # which blocks are needed is known from the saved plan in a run
                touched = touched_blocks(plan, raster.grid, raster.block_shape, 0)
                out = np.empty(raster.grid.shape, raster.dtype)
            blocks = int(np.count_nonzero(touched.blocks))
            begin = time.process_time()
            with Raster(path) as raster:
                raster.read_blocks(touched, (0, raster.grid.shape[0]), out)
            seconds += time.process_time() - begin
    return seconds, blocks
