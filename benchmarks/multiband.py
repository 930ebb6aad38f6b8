"""``python -m benchmarks.multiband``: every band of a raster of 64 bands under 20,000 polygons.

Three contenders in one run: `zonal_statistics`, plain decoding with rasterio of the blocks that the polygons touch, in
as many threads, and exactextract, which is asked about fewer polygons since it takes long. The raster is drawn here,
tiled and compressed; the layer's pixels are found anew in each run, and the time for that is given alone, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from exactextract import exact_extract
from rasterio.windows import Window

from sen2chain import zonal_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BANDS = 64
PIXEL = 10.0
BLOCK = 256
WAYS: dict[str, dict[str, Any]] = {
    "count, mean, std, min, max": {},
    "mean, std, median, percentile_10, percentile_90": {
        "stats": ["mean", "std", "median", "percentile_10", "percentile_90"]
    },
    "weighted: mean, std": {"stats": ["mean", "std"], "pixels": "weighted"},
}


def draw(path: Path, size: int, dtype: str, interleave: str) -> None:
    """Draw a raster of patches with noise, block by block; it is kept for later runs."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "width": size, "height": size, "count": BANDS, "dtype": dtype, "crs": "EPSG:32632",
        "transform": rasterio.Affine(PIXEL, 0, 600_000, 0, -PIXEL, 5_000_000), "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "zlevel": 6, "interleave": interleave, "num_threads": "ALL_CPUS",
        "bigtiff": "yes",
    }  # fmt: skip
    part = path.with_suffix(".part.tif")
    with rasterio.open(part, "w", **profile) as file:
        for row in range(0, size, BLOCK):
            for column in range(0, size, BLOCK):
                shape = BANDS, min(BLOCK, size - row), min(BLOCK, size - column)
                patches = rng.normal(0, 40, (BANDS, BLOCK // 16, BLOCK // 16)).repeat(16, 1).repeat(16, 2)
                values = patches[:, : shape[1], : shape[2]] + rng.normal(0, 5, shape)
                window = Window(column, row, shape[2], shape[1])
                file.write(np.clip(values, -127, 127).astype(dtype), window=window)
    part.rename(path)


def parcels(count: int, size: int) -> gpd.GeoDataFrame:
    """Draw parcels of 435 pixels on the average, evenly over the raster; some overlap."""
    rng = np.random.default_rng(1)
    x = 600_000 + rng.uniform(0, size, count) * PIXEL
    y = 5_000_000 - rng.uniform(0, size, count) * PIXEL
    radius = PIXEL * np.sqrt(435 / np.pi) * rng.uniform(0.5, 1.4, count)
    return gpd.GeoDataFrame(geometry=shapely.buffer(shapely.points(x, y), radius, quad_segs=3), crs="EPSG:32632")


def plain(path: Path, layer: gpd.GeoDataFrame, threads: int) -> int:
    """Decode all bands of the blocks that polygons touch, and do nothing with them; return their number."""
    tree = shapely.STRtree(layer.geometry.to_numpy())
    with rasterio.open(path) as file:
        windows = [window for _, window in file.block_windows(1)]
        boxes = [shapely.box(*file.window_bounds(window)) for window in windows]
    touched = [w for w, box in zip(windows, boxes, strict=True) if len(tree.query(box, predicate="intersects"))]

    def decode(own: Sequence[Window]) -> None:
        with rasterio.Env(GDAL_NUM_THREADS=1), rasterio.open(path) as file:
            for window in own:
                file.read(window=window)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, [touched[i::threads] for i in range(threads)]))
    return len(touched)


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Return the median time of some runs."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the raster, measure all contenders in turn, print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multiband", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sen2chain-benchmark")
    parser.add_argument("--size", type=int, default=4000, help="edge of the raster in pixels (default: 4000)")
    parser.add_argument("--polygons", type=int, default=20_000)
    parser.add_argument("--peer-polygons", type=int, default=500, help="polygons that exactextract is asked about")
    parser.add_argument("--types", default="int8-pixel,float32-pixel,int8-band", help="types and interleavings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["SEN2CHAIN_CACHE"] = str(options.folder / "cache")
    layer = parcels(options.polygons, options.size)
    few = layer.iloc[: options.peer_polygons]
    for kind in options.types.split(","):
        dtype, interleave = kind.split("-")
        path = options.folder / f"bands_{options.size}_{dtype}_{interleave}.tif"
        draw(path, options.size, dtype, interleave)
        size = path.stat().st_size / 1e6
        print(f"{kind}: {options.size} x {options.size} x {BANDS}, {size:.0f} MB, {options.polygons} polygons")
        for keywords in WAYS.values():  # kernels are compiled, and pixels found, before anything is timed
            zonal_statistics(path, layer, bands=[1], quiet=True, **keywords)
        decoding = timed(lambda path=path: plain(path, layer, options.threads), options.repeats)  # type: ignore[misc]
        print(f"  {decoding:7.2f} s         plain decoding of the touched blocks, {options.threads} threads")
        for name, keywords in WAYS.items():
            run = timed(
                lambda path=path, keywords=keywords: zonal_statistics(  # type: ignore[misc]
                    path, layer, multiproc=options.threads, quiet=True, **keywords
                ),
                options.repeats,
            )
            print(f"  {run:7.2f} s {run / decoding:6.2f} x  zonal_statistics: {name}")
        if len(few):
            peer = timed(lambda path=path: exact_extract(str(path), few, ["mean", "stdev"], output="pandas"), 1)  # type: ignore[misc]
            print(f"  {peer:7.2f} s {'':8}  exactextract: mean, stdev of {len(few)} polygons, one thread")


if __name__ == "__main__":
    main()
