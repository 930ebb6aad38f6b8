"""Remote files: many acquisitions over a server that takes its time, beside one read after the other and GDAL's way.

::

    python -m benchmarks.remote                          # 100 acquisitions, 50 ms for each answer; some minutes
    python -m benchmarks.remote --acquisitions 10        # a tenth

The server runs on this machine, in a process of its own, and adds a latency to each answer. Files are Cloud-Optimized
GeoTIFF of 2048 x 2048 pixels in blocks of 256, four assets for each acquisition (B03, B04, B08 at 10 m, SCL at 20 m).
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.shutil import copy
from rasterio.windows import from_bounds

from sen2chain import TimeSeries, remote
from sen2chain.archive import MemorySource
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry, Reading
from sen2chain.remote import Access
from sen2chain.sensor import SENTINEL2

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from troubled_server import started

EDGE, BLOCK = 2048, 256
LEFT, TOP, EPSG, TILE = 600_000, 5_100_000, 32632, "32TPS"
BANDS = ("B03", "B04", "B08", "SCL")
LATENCY = 0.05
AT_ONCE = 32
INDICES = ("NDVI", "NDWIMCF")
MASK = "CM004"


def make_files(folder: Path, acquisitions: int) -> None:
    """Write one file for each band, and folders of acquisitions that link to them."""
    generator = np.random.default_rng(1)
    small = generator.normal(2500, 600, (EDGE // 64, EDGE // 64))
    land = np.kron(small, np.ones((64, 64))) + generator.normal(0, 60, (EDGE, EDGE))
    for number, band in enumerate(BANDS):
        pixels = (
            (land + 200 * number).astype(np.uint16) if band != "SCL" else np.full((EDGE // 2, EDGE // 2), 4, np.uint8)
        )
        if band == "SCL":
            pixels[100:160, 200:300] = 9
        size = 10 * EDGE / len(pixels)
        plain = folder / f"plain_{band}.tif"
        profile = {
            "driver": "GTiff", "dtype": pixels.dtype, "count": 1, "height": len(pixels), "width": len(pixels),
            "crs": f"EPSG:{EPSG}", "transform": Affine(size, 0, LEFT, 0, -size, TOP), "nodata": 0,
        }  # fmt: skip
        with rasterio.open(plain, "w", **profile) as dataset:
            dataset.write(pixels, 1)
        copy(plain, folder / f"{band}.tif", driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE=BLOCK)
    for number in range(acquisitions):
        own = folder / f"{number}"
        own.mkdir()
        for band in BANDS:
            (own / f"{band}.tif").symlink_to(folder / f"{band}.tif")


def make_layer(parcels: int) -> gpd.GeoDataFrame:
    """Return scattered parcels of about 200 x 200 m."""
    generator = np.random.default_rng(2)
    x = LEFT + generator.uniform(300, 10 * EDGE - 300, parcels)
    y = TOP - generator.uniform(300, 10 * EDGE - 300, parcels)
    squares = shapely.box(x - 100, y - 100, x + 100, y + 100)
    return gpd.GeoDataFrame({"n": range(parcels)}, geometry=squares, crs=EPSG)


def source(root: str, acquisitions: int, at_once: int) -> MemorySource:
    """Return the acquisitions under an address (or a folder)."""
    is_remote = remote.is_remote(root)
    access = Access(catalogue=root, at_once=at_once) if is_remote else None
    radiometry = Radiometry(10_000.0, dict.fromkeys((band.name for band in SENTINEL2.bands), -1000.0))
    day = dt.datetime(2023, 1, 1, 10, tzinfo=dt.UTC).replace(tzinfo=None)
    found = [
        Acquisition(
            ProductId("S2A", day + dt.timedelta(days=number), 509, 22, TILE, "20230101T120000"),
            KnownDetails(radiometry),
            {band: f"{root}/{number}/{band}.tif" for band in BANDS},
        )
        for number in range(acquisitions)
    ]
    return MemorySource(found, reading=Reading(access=access, at_once=at_once if is_remote else None))


@dataclass(frozen=True)
class Run:
    """One run."""

    seconds: float
    processor: float
    requests: int
    fetched: int
    rows: bytes


def ours(root: str, layer: gpd.GeoDataFrame, acquisitions: int, at_once: int = AT_ONCE, threads: int = 0) -> Run:
    """Extract everything to a CSV."""
    with tempfile.TemporaryDirectory() as out, remote.counting() as traffic:
        begin, processor = time.perf_counter(), time.process_time()
        series = TimeSeries(
            layer, list(INDICES), masks=[MASK], library=source(root, acquisitions, at_once), multiproc=threads,
            name="parcels", quiet=True,
        )  # fmt: skip
        files = series.to_csv(out)
        seconds, used = time.perf_counter() - begin, time.process_time() - processor
        return Run(seconds, used, traffic.requests, traffic.bytes, b"".join(file.read_bytes() for file in files))


def gdal(root: str, layer: gpd.GeoDataFrame, acquisitions: int) -> float:
    """Read the window of each parcel from each asset with GDAL's /vsicurl/, in as many threads; return seconds."""
    boxes = layer.geometry.bounds.to_numpy()
    options = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_HTTP_MULTIPLEX": "YES", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif", "VSI_CACHE": "YES",
    }  # fmt: skip

    def read(number: int) -> None:
        with rasterio.Env(**options):
            for band in BANDS:
                with rasterio.open(f"/vsicurl/{root}/{number}/{band}.tif") as dataset:
                    for box in boxes:
                        dataset.read(1, window=from_bounds(*box, dataset.transform))

    begin = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(read, range(acquisitions)))
    return time.perf_counter() - begin


def measure(acquisitions: int, parcels: int, latency: float) -> dict[str, float]:
    """Measure everything once, and print it."""
    layer = make_layer(parcels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, acquisitions)
        local = ours(str(folder), layer, 1)  # compiles
        local = ours(str(folder), layer, acquisitions)
        with started(folder) as server:
            fast = ours(server.url, layer, acquisitions)
        with started(folder, latency) as server:
            together = ours(server.url, layer, acquisitions)
            few = max(acquisitions // 10, 1)
            one = ours(server.url, layer, few, at_once=1, threads=1)
            peer = gdal(server.url, layer, few) * acquisitions / few
            most = server.most_at_once()
    if not together.rows == local.rows == fast.rows:
        raise SystemExit("The rows differ.")
    serial = one.seconds * acquisitions / few
    bound = together.requests * latency / AT_ONCE + fast.seconds
    found = {
        "remote s": together.seconds, "one after the other s": serial, "times faster": serial / together.seconds,
        "GDAL /vsicurl s": peer, "bound s": bound, "of the bound": together.seconds / bound,
        "requests": together.requests, "megabytes": together.fetched / 1e6, "most at once": most,
        "without latency s": fast.seconds, "local s": local.seconds, "processor s": together.processor,
        "local processor s": local.processor,
    }  # fmt: skip
    for what, value in found.items():
        print(f"{what:24}{value:12.2f}", flush=True)
    return found


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acquisitions", type=int, default=100)
    parser.add_argument("--parcels", type=int, default=50)
    parser.add_argument("--latency", type=float, default=LATENCY, help="seconds (default: %(default)s)")
    options = parser.parse_args()
    print(
        f"{options.acquisitions} acquisitions x {len(BANDS)} assets x {options.parcels} parcels; {os.cpu_count()} cores"
    )
    measure(options.acquisitions, options.parcels, options.latency)


if __name__ == "__main__":
    main()
