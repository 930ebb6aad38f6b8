"""Contenders of the benchmark. Each gets its inputs ready-made and returns seconds per product.

The work is the documented row: count, nodata, nbcld, cldprb, min, max, mean, std, median and two percentiles of every
polygon, written as CSV. `LIMITS` lists what a contender leaves out.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.windows import Window

from benchmarks.archive import INDEX, MASK, NODATA, read_in_utm
from sen2chain import TimeSeries
from sen2chain.parallel import workers
from sen2chain.rasters import GDAL_OPTIONS, Raster, environment, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.archive import Archive, Product
    from sen2chain.extract import Coverages

LIMITS = {
    "exactextract": "works with area fractions; one thread; the better of its two strategies",
    "rasterstats": "one thread",
    "extractrs": "count, mean, min, max and standard deviation of one masked raster only: no median, no percentile, "
    "no nbcld, no cldprb; its set-up, which it cannot save, is not counted",
    "gdal raster zonal-stats": "no median, no percentile; the better of its two strategies",
}
"""Parts of the work that a peer leaves out or does otherwise."""


_FAILED = (
    "unreadable",
    "grid_mismatch",
    "failed",
    "index_inputs_missing",
    "mask_inputs_missing",
    "changed_while_read",
)


def clock(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def series(archive: Archive, layer: Path, **options: Any) -> TimeSeries:
    """Prepare a run of sen2chain."""
    asked = {"indices": [INDEX], "masks": [MASK], **options}
    return TimeSeries(layer, library=archive.library, quiet=True, **asked)


def ours(archive: Archive, layer: Path, out: Path, **options: Any) -> float:
    """Run sen2chain with its saved plan, from the layer's file to the CSV.

    Raises
    ------
    RuntimeError
        If a product could not be read: it would count as a very fast one.
    """
    made: list[TimeSeries] = []

    def run() -> None:
        made.append(series(archive, layer, **options))
        made[0].to_csv(out, overwrite=True)

    seconds = clock(run) / len(archive.products)
    report = made[0].report
    failed = [reason for reason in _FAILED if reason in report and report[reason].any()]
    if failed or len(report) != len(archive.products) * len(made[0].plan.tasks[0].outputs):
        raise RuntimeError(f"not all products were read: {failed} {report.iloc[-1].to_dict()}")
    return seconds


# ---------------------------------------------------------------------------------------------------------------- floor


def floor(
    archive: Archive,
    layer: Path,
    rasters: Callable[[Product], Iterable[Path]] | None = None,
    *,
    only_blocks: bool = False,
) -> float:
    """Decode GDAL's blocks that hold features, or the whole rasters where that is faster, and discard the pixels.

    Parameters
    ----------
    archive, layer
        The products and the features.
    rasters
        Product -> its rasters, where they are not those of the index, the mask and CLDPRB.
    only_blocks
        Whether whole rasters are not tried.
    """
    products = archive.products
    threads = min(workers(0), len(products))
    wanted = rasters or (lambda product: (*product.rasters, product.mask, product.cldprb))
    jobs = [[(location(path), gdal_blocks(path, archive, layer)) for path in wanted(product)] for product in products]

    def by_blocks(job: list[tuple[str, Any]]) -> None:
        with environment():
            for path, touched in job:
                with rasterio.open(path) as file:
                    high, wide = file.block_shapes[0]
                    for r, a, b in spans(touched, 0, len(touched)):
                        rows, columns = min(high, file.height - r * high), min(b * wide, file.width) - a * wide
                        file.read(1, window=Window(a * wide, r * high, columns, rows))

    def whole(within: int) -> Callable[[list[tuple[str, Any]]], None]:
        def read(job: list[tuple[str, Any]]) -> None:
            with rasterio.Env(**{**GDAL_OPTIONS, "GDAL_NUM_THREADS": within}):
                for path, _ in job:
                    with rasterio.open(path) as file:
                        file.read(1)

        return read

    def side_by_side(read: Callable[[Any], None]) -> Callable[[], object]:
        def work() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(read, jobs))

        return work

    ways = {"block by block": side_by_side(by_blocks)}
    if not only_blocks and all(touched.mean() > _WHOLE for job in jobs for _, touched in job):
        ways["whole"] = side_by_side(whole(1))
        ways["whole, one after the other, in GDAL's threads"] = lambda: list(map(whole(threads), jobs))
    case = (archive.library, layer, rasters is None)
    if len(ways) > 1 and case not in _fastest:  # the first round, which does not count
        times = {way: clock(work) for way, work in ways.items()}
        _fastest[case] = min(times, key=lambda way: times[way])
    return clock(ways[_fastest.get(case, "block by block")]) / len(products)


# Whole rasters are tried where more than this share of the blocks is needed.
_WHOLE = 0.5
_fastest: dict[object, str] = {}
_known: dict[Path, tuple[str, Coverages]] = {}


def location(path: Path) -> str:
    """Return a path as GDAL opens it, also one that leads into a zip file."""
    return f"/vsizip/{path}" if any(parent.suffix == ".zip" for parent in path.parents) else str(path)


def gdal_blocks(path: Path, archive: Archive, layer: Path) -> Any:
    """Blocks that GDAL decodes for the features of a layer, as an array of bool (block rows, block columns)."""
    if layer not in _known:
        planned = series(archive, layer)
        _known[layer] = planned.plan.tiles[0], planned._engine.coverages()  # noqa: SLF001  # our own
    tile, coverages = _known[layer]
    with environment():
        with Raster(location(path)) as raster, Raster(location(archive.products[0].rasters[0])) as fine:
            coarse, grid = raster.grid, fine.grid
        with rasterio.open(location(path)) as file:
            shape = file.block_shapes[0]
    return coverages.layouts.touched(coverages.get(grid, tile).plan, coarse, shape).blocks


# ---------------------------------------------------------------------------------------------------------------- peers


def _write(frame: pd.DataFrame, product: Product, out: Path) -> None:
    out.mkdir(exist_ok=True)
    frame.assign(date=product.name[11:26], filename=product.name).to_csv(out / f"{product.name}.csv", index=False)


def exactextract(archive: Archive, layer: Path, out: Path, strategy: str) -> float:
    """Run exactextract on the masked and the unmasked index and on CLDPRB."""
    from exactextract import exact_extract  # noqa: PLC0415  # a peer, not a dependency

    parcels = read_in_utm(layer)
    operations = ["count", "min", "max", "mean", "stdev", "median", "quantile(q=0.25)", "quantile(q=0.75)"]

    def run(product: Product) -> None:
        def of(path: Path, asked: list[str]) -> pd.DataFrame:
            options = {"include_cols": ["fid"], "strategy": strategy, "output": "pandas"}
            found: pd.DataFrame = exact_extract(str(path), parcels, asked, **options)
            return found

        frame = of(product.masked, operations)
        seen = of(product.rasters[0], ["count"])["count"]
        frame["nbcld"] = seen - frame["count"]
        frame["nodata"] = parcels.area / 100 - frame["count"]
        frame["cldprb"] = of(product.cldprb, ["mean"])["mean"]
        _write(frame, product, out)

    return _each(run, archive)


def rasterstats(archive: Archive, layer: Path, out: Path) -> float:
    """Run rasterstats on the masked and the unmasked index and on CLDPRB."""
    from rasterstats import zonal_stats  # noqa: PLC0415

    parcels = read_in_utm(layer)
    asked = ["count", "nodata", "min", "max", "mean", "std", "median", "percentile_25", "percentile_75"]

    def run(product: Product) -> None:
        frame = pd.DataFrame(zonal_stats(parcels, str(product.masked), stats=asked))
        frame["nbcld"] = pd.DataFrame(zonal_stats(parcels, str(product.rasters[0]), stats=["count"])) - frame[["count"]]
        frame["cldprb"] = pd.DataFrame(zonal_stats(parcels, str(product.cldprb), stats=["mean"], nodata=255))["mean"]
        _write(frame, product, out)

    return _each(run, archive)


def extractrs(archive: Archive, layer: Path, out: Path) -> float:
    """Run extractrs on the masked index."""
    from extractrs import apply_stat, build_cache  # noqa: PLC0415

    parcels = read_in_utm(layer)
    with rasterio.open(archive.products[0].masked) as file:
        left, bottom, right, top = file.bounds
    shapes = list(parcels.geometry.to_wkb())
    cache = build_cache(shapes, list(range(len(shapes))), left, bottom, right, top, 10.0, 10.0)

    def run(product: Product) -> None:
        with rasterio.open(product.masked) as file:
            values = file.read(1).astype(np.float64)
        stats = {
            name: apply_stat(cache, values, float(NODATA), name) for name in ("count", "mean", "min", "max", "stdev")
        }
        _write(pd.DataFrame(stats), product, out)

    return _each(run, archive)


def gdal(archive: Archive, layer: Path, out: Path, strategy: str) -> float:
    """Run ``gdal raster zonal-stats`` on the masked and the unmasked index and on CLDPRB."""
    from benchmarks.archive import in_utm  # noqa: PLC0415

    zones = in_utm(layer).with_suffix(".gpkg")
    if not zones.exists():
        read_in_utm(layer).to_file(zones)

    def run(product: Product) -> None:
        out.mkdir(exist_ok=True)
        statistics = "count,min,max,mean,stdev"
        for name, path, asked in (
            ("masked", product.masked, statistics),
            ("unmasked", product.rasters[0], "count"),
            ("cldprb", product.cldprb, "mean"),
        ):
            stats = [f"--stat={stat}" for stat in asked.split(",")]
            to = out / f"{product.name}_{name}.csv"
            options = ["--overwrite", f"--zones={zones}", f"--strategy={strategy}", "--include-field=parcel", *stats]
            command = ["gdal", "raster", "zonal-stats", *options, str(path), str(to)]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603

    return _each(run, archive)


def has_gdal() -> bool:
    """Whether the installed GDAL has ``gdal raster zonal-stats``, as from 3.12 on."""
    program = shutil.which("gdal")
    if program is None:
        return False
    asked = [program, "raster", "zonal-stats", "--help"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0  # noqa: S603


def _each(run: Callable[[Product], None], archive: Archive) -> float:
    """Measure a peer on one date; its work is the same for every date."""
    return clock(lambda: run(archive.products[0]))
