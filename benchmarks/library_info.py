"""Time of `sen2chain library info` on a large archive: ``python -m benchmarks.library_info``.

The tree has bands that are empty files, small index rasters with tags, and metadata as ESA writes them, from the folder
of real metadata beside the checkout. Each run is a process of its own: the first with an empty cache, the second with
what the first kept.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from sen2chain import INDICES as FORMULAS
from sen2chain.products import ProductId
from sen2chain.raster_tags import RasterTags
from sen2chain.sensor import ESA_NAMING

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "safe_metadata"
BANDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL")}
INDICES = ("NDVI", "NDWIGAO", "NBR")
MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
_RUN = """
import time
start = time.perf_counter()
import sys
from sen2chain.archive import open_library
from sen2chain.inspection import read_contents
loaded = time.perf_counter()
info = read_contents(open_library(sys.argv[1]), quiet=True)
read = time.perf_counter()
text = info.text(width=100)
print(f"{read - loaded:.2f} {time.perf_counter() - read:.2f} {loaded - start:.2f}")
print(text)
"""


def build(library: Path, products: int, tiles: int) -> None:
    """Write the tree of an archive: SAFE folders, one mask and three index rasters for each product."""
    models = [path.read_text(encoding="utf-8") for path in sorted(REAL.glob("*/MTD_MSIL2A.xml"))]
    models_of = [ProductId.parse(path.parent.name) for path in sorted(REAL.glob("*/MTD_MSIL2A.xml"))]
    each = -(-products // tiles)
    drawn = {index: _raster(library, index) for index in INDICES}
    for count in range(products):
        tile, number = f"31T{'CDEFGHJKLM'[count // each % 10]}{'JKLMN'[count // each // 10]}", count % each
        model = number % len(models)
        sensing = dt.datetime(2017, 1, 1, 10, 30, 21) + dt.timedelta(days=5 * (number // 2), minutes=number % 2)  # noqa: DTZ001  # as in names
        product = ProductId(
            ("S2A", "S2B")[number // 2 % 2],
            sensing,
            models_of[model].baseline,
            (8, 51)[number % 2],
            tile,
            f"{sensing:%Y%m%d}T160000",
        )
        _write(library, product, models[model].replace(str(models_of[model]), str(product)), drawn)


def _raster(folder: Path, index: str) -> bytes:
    """Return a small index raster with the tags that sen2chain writes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "raster.tif"
    offsets = dict.fromkeys(FORMULAS[index].bands, -1000.0)
    tags = RasterTags(
        ESA_NAMING.example, index, FORMULAS[index].formula, quantification=1e4, offsets=offsets, inputs="0" * 32
    )
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "int16", "nodata": 32767}
    with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, 300000, 0, -10, 5000000), **profile) as raster:
        raster.update_tags(**tags.items())
        raster.write(np.zeros((1, 16, 16), np.int16))
    content = path.read_bytes()
    path.unlink()
    return content


def _write(library: Path, product: ProductId, metadata: str, drawn: dict[str, bytes]) -> None:
    safe = library / "L2A" / product.tile / f"{product}.SAFE"
    granule = safe / "GRANULE" / f"L2A_T{product.tile}_A040188_{product.sensing:%Y%m%dT%H%M%S}"
    for metres, names in BANDS.items():
        folder = granule / "IMG_DATA" / f"R{metres}m"
        folder.mkdir(parents=True)
        for name in names:
            _touch(folder / f"T{product.tile}_{product.sensing:%Y%m%dT%H%M%S}_{name}_{metres}m.jp2")
    (granule / "QI_DATA").mkdir()
    _touch(granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2")
    path = safe / "MTD_MSIL2A.xml"
    path.write_text(metadata, encoding="utf-8")
    os.utime(path, (time.time() - 3600,) * 2)
    mask = library / "CLOUDMASKS" / product.tile / str(product) / f"{product}_{MASK}.jp2"
    mask.parent.mkdir(parents=True)
    _put(mask, b"\x00\x00\x00\x0cjP  \r\n\x87\n")
    for index, content in drawn.items():
        raster = library / "INDICES" / index / product.tile / str(product) / f"{product}_{index}.tif"
        raster.parent.mkdir(parents=True)
        _put(raster, content.replace(ESA_NAMING.example.encode(), str(product).encode()))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (time.time() - 3600,) * 2)


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def _processor_seconds() -> float:
    """Processor time of the runs so far, which other work on the machine changes less than the time on the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Build the tree, and print the time of two runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--products", type=int, default=5000)
    parser.add_argument("--tiles", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the tree is kept for another run; by default it is removed")
    parser.add_argument("--show", action="store_true", help="print what the command prints")
    options = parser.parse_args()
    if not REAL.is_dir():
        sys.exit(f"The real metadata are not beside this checkout: {REAL}.")
    with tempfile.TemporaryDirectory() as folder:
        library = options.folder or Path(folder) / "library"
        if not library.exists():
            build(library, options.products, options.tiles)
        files = sum(len(names) for _, _, names in os.walk(library))
        print(f"{options.products} products in {options.tiles} tiles, {files} files", flush=True)
        for run in ("first", "second"):
            environment = {**os.environ, "SEN2CHAIN_CACHE": str(Path(folder) / "cache")}
            start, before = time.perf_counter(), _processor_seconds()
            ran = subprocess.run(  # noqa: S603  # our own interpreter
                [sys.executable, "-c", _RUN, str(library)], check=True, capture_output=True, text=True, env=environment
            )
            whole, used = time.perf_counter() - start, _processor_seconds() - before
            head, _, text = ran.stdout.partition("\n")
            reading, writing, loading = head.split()
            parts = f"reading {reading} s, text {writing} s, imports {loading} s"
            print(f"{run} run: {whole:.1f} s, {used:.1f} processor seconds ({parts})", flush=True)
            size = sum(path.stat().st_size for path in (Path(folder) / "cache").rglob("*") if path.is_file())
            print(f"  cache: {size / 1e6:.1f} MB")
        if options.show:
            print(text)


if __name__ == "__main__":
    main()
