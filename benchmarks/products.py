"""``python -m benchmarks.products``: time of produced rasters against decoding alone, and of reading them.

One product of a full tile is drawn (some minutes, once). Each figure is taken in a process of its own: seconds by the
clock, seconds of all processors, and the largest memory.

- ``one``: NDVI and CM004, against decoding B04, B08 and SCL by the faster of sen2chain's decoder and GDAL's, each with
  all processors;
- ``five``: five indices, against decoding their six bands and writing five files;
- ``cog``: one index raster from memory, against GDAL's COG driver from memory;
- ``extract``: zonal statistics of 100,000 parcels from the produced raster, against those from the product.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._io import MemoryDataset
from rasterio.windows import Window

from benchmarks import archive
from sen2chain import TimeSeries, demo
from sen2chain.archive import open_target
from sen2chain.coverage import touched_blocks
from sen2chain.grid import Grid
from sen2chain.indices import INDICES, NODATA
from sen2chain.masks import Mask
from sen2chain.parallel import Crew, apart, workers
from sen2chain.produce import ProductRequest, plan_products, produce_files, write_cog
from sen2chain.produce.acquisition_rasters import whole_rows
from sen2chain.rasters import Raster, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

FIVE = ("NDVI", "NDWIGAO", "MNDWI", "NDRE", "NBR")
BANDS = ("B03", "B04", "B05", "B08", "B11", "B12", "SCL", "CLDPRB")
PARTS = ("one", "five", "cog", "extract")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description=__doc__)
    default = Path(tempfile.gettempdir()) / "sen2chain-benchmark-products"
    parser.add_argument("--folder", type=Path, default=default, help="where files are kept (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--tile", type=int, default=archive.FULL, help="edge of the tile in pixels")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)  # what a child process measures
    options = parser.parse_args(arguments)
    safe = build(options.folder, options.tile)
    if options.work:
        print(json.dumps(measured(WORK[options.work[0]], options.folder, safe, options.work[1:])))
        return 0

    def child(what: str, *names: str) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.products", "--folder", str(options.folder)]
        size = ["--tile", str(options.tile)]
        done = subprocess.run([*command, *size, "--work", what, *names], check=True, stdout=subprocess.PIPE)  # noqa: S603
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        print(f"  {what} {' '.join(names)}: {found['seconds']:.1f} s, {found['processors']:.1f} s of processors, "
              f"{found['memory'] / 2**30:.2f} GiB", flush=True)  # fmt: skip
        return found

    for part in options.parts.split(","):
        print(part, flush=True)
        report(part, child)
    return 0


def report(part: str, child: Callable[..., dict[str, float]]) -> None:
    """Measure a part, and print its ratio."""
    if part == "one":
        work, limit = child("produce", "NDVI", archive.MASK), decoding(child, "B04", "B08", "SCL")
    elif part == "five":
        work, limit = child("produce", *FIVE), decoding(child, *BANDS[:6])
        writing = child("write", *FIVE)
        limit = {key: limit[key] + writing[key] for key in limit}
    elif part == "cog":
        work, limit = child("write", "NDVI"), child("write-gdal")
    else:
        work, limit = child("extract", "safe"), child("extract", "produced")
    clock, processors = (work[key] / limit[key] for key in ("seconds", "processors"))
    print(f"  ratio: {clock:.2f} by the clock, {processors:.2f} by processor time", flush=True)


def decoding(child: Callable[..., dict[str, float]], *bands: str) -> dict[str, float]:
    """Return the faster of two decoders."""
    return min((child("decode", *bands), child("decode-gdal", *bands)), key=lambda found: found["seconds"])


def build(folder: Path, size: int) -> Path:
    """Draw the product unless it exists, and return its folder."""
    drawn = folder / f"drawn-{size}"
    if not drawn.exists():
        first = demo.Overpass(dt.datetime(2022, 5, 1, 10, 30, 21), cloud=0.1, cirrus=0.05)  # noqa: DTZ001  # UTC
        scene = demo.Scene(tiles=(archive.TILE,), size=size, overpasses=(first,), bands=BANDS, parcels=50)
        demo.build(drawn.with_suffix(".part"), scene)
        drawn.with_suffix(".part").rename(drawn)
    (safe,) = (drawn / "sen2chain_data" / "data" / "L2A" / archive.TILE).glob("*.SAFE")
    return safe


def measured(work: Callable[..., Callable[[], object]], *arguments: Any) -> dict[str, float]:
    """Prepare and do a work; return seconds by the clock and of processors, and the largest memory in bytes."""
    prepared = work(*arguments)
    begin, processors = time.perf_counter(), time.process_time()
    prepared()
    return {
        "seconds": time.perf_counter() - begin,
        "processors": time.process_time() - processors,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _rasters(safe: Path, names: Sequence[str]) -> list[str]:
    return [str(next(safe.glob(f"GRANULE/*/IMG_DATA/R*/*_{name}_*.jp2"))) for name in names]


def produce(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:
    """Produce indices and masks into an empty library."""
    library = folder / "library"
    shutil.rmtree(library, ignore_errors=True)
    library.mkdir()
    source = open_target(library, safe)
    indices = tuple(INDICES[name] for name in names if name in INDICES)
    masks = tuple(Mask.parse(name) for name in names if name not in INDICES)
    plan = plan_products(ProductRequest(indices, masks), source)
    return lambda: produce_files(plan, source, quiet=True)


def decode(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:  # noqa: ARG001  # as the others
    """Decode whole rasters with sen2chain's decoder in all threads."""

    def work(crew: Crew, path: str) -> None:
        with environment(), Raster(path) as raster:
            rows, columns = raster.grid.shape
            height = raster.strip_height
            touched = touched_blocks(whole_rows(raster.grid, height), raster.grid, raster.block_shape, 0)
            out = np.empty((height, columns), raster.dtype)
            for top in range(0, rows, height):
                area = top, min(top + height, rows)
                crew.begin(raster.pieces(touched, area, out[: area[1] - top]), environment).finish()

    def run() -> None:
        crew = Crew(workers())

        def every(paths: list[str]) -> None:
            for path in paths:
                work(crew, path)

        for _ in crew.results(every, [_rasters(safe, names)]):
            pass

    return run


def decode_by_gdal(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:  # noqa: ARG001
    """Decode whole rasters with GDAL and its own threads."""

    def work() -> None:
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
            for path in _rasters(safe, names):
                with rasterio.open(path) as dataset:
                    for top in range(0, dataset.height, 1024):
                        height = min(1024, dataset.height - top)
                        dataset.read(1, window=Window(0, top, dataset.width, height))

    return lambda: apart(work)


def _produced(folder: Path) -> Path:
    return next((folder / "library").rglob("*_NDVI.tif"))


def _values(folder: Path) -> tuple[npt.NDArray[np.int16], Grid]:
    with rasterio.open(_produced(folder)) as dataset:
        values: npt.NDArray[np.int16] = dataset.read(1)
        return values, Grid("EPSG:32631", tuple(dataset.transform[:6]), values.shape)


def write(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:  # noqa: ARG001
    """Write an array as often as there are names."""
    values, grid = _values(folder)

    def work() -> None:
        with environment():
            for name in names:
                write_cog(folder / f"written-{name}.tif", grid, values, np.int16, {}, nodata=NODATA, scale=1e-4)

    return lambda: apart(work)


def write_by_gdal(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:  # noqa: ARG001
    """Have GDAL's COG driver write an array, with its own overviews, and the same coding."""
    values, grid = _values(folder)
    options = {"COMPRESS": "ZSTD", "LEVEL": 1, "PREDICTOR": "STANDARD", "BLOCKSIZE": 512, "NUM_THREADS": "ALL_CPUS",
               "OVERVIEW_RESAMPLING": "AVERAGE", "BIGTIFF": "IF_SAFER"}  # fmt: skip

    def work() -> None:
        with environment():
            dataset = MemoryDataset(values, transform=rasterio.Affine(*grid.transform), crs=grid.crs)
            dataset.nodata = NODATA
            rasterio.shutil.copy(dataset, folder / "written-gdal.tif", driver="COG", **options)

    return lambda: apart(work)


def extract(folder: Path, safe: Path, names: Sequence[str]) -> Callable[[], object]:
    """Extract the parcels of the layer XL from the product, or from its produced raster and mask."""
    layer = archive.layer(folder, "XL", archive.FULL)
    place: dict[str, Any] = {"safe": safe} if names == ["safe"] else {"library": folder / "library"}
    options: dict[str, Any] = {"indices": ["NDVI"], "masks": [archive.MASK], "quiet": True, **place}
    TimeSeries(layer, **{**options, "date_min": "2030-01-01"})  # the pixels of the layer are saved
    return lambda: TimeSeries(layer, **options).run()


WORK: dict[str, Callable[..., Callable[[], object]]] = {
    "produce": produce,
    "decode": decode,
    "decode-gdal": decode_by_gdal,
    "write": write,
    "write-gdal": write_by_gdal,
    "extract": extract,
}
"""Works by name."""


if __name__ == "__main__":
    sys.exit(main())
