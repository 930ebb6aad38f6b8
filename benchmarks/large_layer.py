"""What features elsewhere cost: a large layer of which 1,000 features lie in the tile, beside those 1,000 alone."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from benchmarks import archive
from sen2chain.coverage import compute_coverage, save
from sen2chain.extract.batches import OutputStatistics, RowRules, make_batch
from sen2chain.grid import nominal_grid
from sen2chain.indices import INDICES
from sen2chain.masks import Mask
from sen2chain.plan import Output
from sen2chain.products import ProductId
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchmarks.report import Report
    from sen2chain.coverage import Coverage

NEAR = 1_000
"""Features in the tile."""
LARGE = 1_000_000
"""Features of the large layer."""
_OUTPUTS = 200  # timed together
_RULES, _OUTPUT = RowRules(), Output(INDICES["NDVI"], Mask.parse("CM001"), None, None)
_PRODUCT = ProductId.parse(f"S2A_MSIL2A_20220602T103021_N0400_R108_T{archive.TILE}_20220602T133021")


def _layer(features: int) -> Layer:
    """Squares of 50 m along the tile's diagonal, after others as far away as another country."""
    grid = nominal_grid(archive.TILE)
    here = 60.0 * np.arange(NEAR)
    x = np.append(np.full(features - NEAR, grid.bounds.left - 1e6), grid.bounds.left + 5000 + here)
    y = np.append(np.full(features - NEAR, grid.bounds.top), grid.bounds.top - 5000 - here)
    return Layer.of(shapely.box(x, y - 50, x + 50, y), grid.crs)


def _statistics() -> dict[str, npt.NDArray[np.float64]]:
    names = ("count", "invalid", "outside", "nbcld", "clipped", "cldprb", *_RULES.statistics.columns)
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, 100, NEAR).astype(np.float64) for name in names}


def _seconds(layer: Layer, coverage: Coverage, statistics: dict[str, npt.NDArray[np.float64]]) -> float:
    """Time the rows of some outputs."""
    begin = time.perf_counter()
    for _ in range(_OUTPUTS):
        found = OutputStatistics()
        found.add(np.arange(NEAR), statistics)
        make_batch(_PRODUCT, _OUTPUT, coverage, found, layer, _RULES, "")
    return time.perf_counter() - begin


def measure(report: Report, features: int = LARGE) -> None:
    """Fill the table."""
    table = report.table(
        "Large layers",
        f"{NEAR:,} features in the tile: time from the statistics of one index under one mask of one acquisition to "
        "its rows and reasons, and size of the tile's saved pixels.",
    )
    statistics = _statistics()
    rows, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (NEAR, features):
            layer = _layer(n)
            coverage = compute_coverage(layer.geometry, layer.crs, nominal_grid(archive.TILE), tile=archive.TILE)
            save(coverage, str(n), Path(folder))
            sizes[n] = (Path(folder) / f"{n}.arrow").stat().st_size

            rows[f"{n:,}"] = partial(_seconds, layer, coverage, statistics)
        seconds = report.measure("large layer", rows)
    for n in (NEAR, features):
        table.row({
            "features of the layer": f"{n:,}",
            "to rows, ms": f"{seconds[f'{n:,}'] / _OUTPUTS * 1000:.2f}",
            "saved pixels, kB": f"{sizes[n] / 1000:.0f}",
        })  # fmt: skip
