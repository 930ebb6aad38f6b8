"""``python -m benchmarks``: build the files, measure all contenders in turn, write the tables.

``docs/benchmark.md`` describes the measurements, ``--help`` the sizes and formats.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import distributed

from benchmarks import archive, contenders, jp2_rows, large_layer, page, start
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DATES = 16
"""Dates of a run on COG."""
MANY = 1_000
"""Number of polygons beyond which some peers take minutes for a product."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, build the files, measure, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sen2chain-benchmark",
                        help="where the files are built and kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("benchmarks/table.md"), help="default: %(default)s")
    parser.add_argument("--sizes", default="S,M,L,XL", help="layers, of S,M,L,XL (default: all)")
    parser.add_argument("--rows", default="all",
                        help="rows of the part jp2, or beginnings of their names, of "
                        f"{', '.join(jp2_rows.NAMES)} (default: all)")  # fmt: skip
    parser.add_argument("--products", type=int, default=0,
                        help="products of each row of the part jp2 (default: 8, or fewer)")  # fmt: skip
    parser.add_argument("--parts", default="peers,ways,setup", help=f"of {','.join(PARTS)} (default: %(default)s)")
    parser.add_argument(
        "--tile", type=int, default=archive.FULL, help="edge of the tile in pixels (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is taken (default: 3)")
    parser.add_argument("--patience", type=float, default=60.0,
                        help="seconds per product from which a peer is measured only once (default: 60)")  # fmt: skip
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["SEN2CHAIN_CACHE"] = str(folder / "cache")
    begin = time.perf_counter()
    print("building the archive (some minutes, once)", flush=True)
    archive.build(folder, options.tile)
    print(f"built in {time.perf_counter() - begin:.0f} s", flush=True)
    report = Report(options.repeats, options.patience)
    for part in options.parts.split(","):
        PARTS[part](report, options)
    report.write(options.out)
    print(options.out.read_text(encoding="utf-8"))
    print(f"{options.out} written after {time.perf_counter() - begin:.0f} s")


def _layers(options: argparse.Namespace) -> dict[str, Path]:
    return {name: archive.layer(options.folder, name, options.tile) for name in options.sizes.split(",")}


def _out(options: argparse.Namespace) -> Path:
    out: Path = options.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    return out


def peers(report: Report, options: argparse.Namespace) -> None:
    """Measure all contenders on the COG archive."""
    table = report.table(
        "COG, beside the peers",
        "Seconds per product of sen2chain and of plain decoding; the peers as multiples of sen2chain's time.",
    )
    many = archive.archive(options.folder, "cog", DATES)
    for name, layer in _layers(options).items():
        polygons = archive.polygons(name, options.tile)
        found = report.measure(f"cog {name}", _everybody(many, layer, options, polygons))
        us, least = found["sen2chain"], found["plain decoding"]

        def ratio(peer: str, missing: str, found: dict[str, float] = found, us: float = us) -> str:
            best = min((seconds for name, seconds in found.items() if name.startswith(peer)), default=None)
            return missing if best is None else f"{best / us:.1f} x"

        table.row({
            "layer": f"{name}, {polygons:,} polygons", "sen2chain, s": f"{us:.2f}",
            "plain decoding, s": f"{least:.2f}", "sen2chain / decoding": f"{us / least:.2f}",
            "exactextract": ratio("exactextract", "-"), "extractrs": ratio("extractrs", "not installed"),
            "rasterstats": ratio("rasterstats", "-"),
            "gdal raster zonal-stats": ratio("gdal raster zonal-stats", "not installed"),
        })  # fmt: skip
    table.notes += [f"{name}: {text}." for name, text in contenders.LIMITS.items()]
    table.notes.append(
        f"rasterstats and exactextract's feature-sequential strategy are measured up to {MANY:,} polygons; their time "
        "grows with the number of polygons.",
    )


def _everybody(
    many: archive.Archive, layer: Path, options: argparse.Namespace, polygons: int
) -> dict[str, Callable[[], float]]:
    """Contenders of the COG archive, name -> measurement."""
    out = partial(_out, options)
    found: dict[str, Callable[[], float]] = {
        "sen2chain": lambda: contenders.ours(many, layer, out()),
        "plain decoding": lambda: contenders.floor(many, layer),
    }
    for strategy in ("feature-sequential", "raster-sequential")[polygons > MANY :]:
        run = partial(contenders.exactextract, many, layer, strategy=strategy)
        found[f"exactextract ({strategy})"] = lambda run=run: run(out=out())  # type: ignore[misc]
    if find_spec("extractrs"):
        found["extractrs"] = lambda: contenders.extractrs(many, layer, out())
    if polygons <= MANY:
        found["rasterstats"] = lambda: contenders.rasterstats(many, layer, out())
    if contenders.has_gdal():
        for strategy in ("feature", "raster")[polygons > MANY :]:
            run = partial(contenders.gdal, many, layer, strategy=strategy)
            found[f"gdal raster zonal-stats ({strategy})"] = lambda run=run: run(out=out())  # type: ignore[misc]
    return found


def ways(report: Report, options: argparse.Namespace) -> None:
    """Measure weights, several masks and indices, and Dask."""
    table = report.table("Weights, several masks and indices, Dask", "COG, seconds per product.")

    def row(what: str, us: float, other: float) -> None:
        table.row({"what": what, "s": f"{us:.2f}", "against, s": f"{other:.2f}", "ratio": f"{us / other:.2f}"})

    many = archive.archive(options.folder, "cog", DATES)
    for name, layer in _layers(options).items():
        rules = {
            pixels: partial(contenders.ours, many, layer, options.folder / "out", pixels=pixels)
            for pixels in ("center", "weighted")
        }
        found = report.measure(f"weighted {name}", rules)
        row(f"{name}: `weighted` / `center`", found["weighted"], found["center"])
    more = archive.archive(options.folder, "cog", DATES, more_indices=True)
    layer = archive.layer(options.folder, "M", options.tile)
    asked = {"indices": [archive.INDEX, "BIGR"], "masks": [archive.MASK, "CM003-PRB1-ITER5", "SCL-3-8-9-10-11-ITER1"]}

    def rasters(product: archive.Product) -> list[Path]:
        bigr = Path(str(product.rasters[0]).replace(f"/{archive.INDEX}/", "/BIGR/").replace("_NDVI.", "_BIGR."))
        scl = next(product.mask.parent.glob("*_SCL_20m.jp2"))
        return [*product.rasters, bigr, product.mask, product.cldprb, scl]

    found = report.measure("three masks, two indices", {
        "sen2chain": lambda: contenders.ours(more, layer, _out(options), **asked),
        "plain decoding": lambda: contenders.floor(more, layer, rasters),
    })  # fmt: skip
    row("M: three masks and two indices / decoding their five rasters", found["sen2chain"], found["plain decoding"])
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        run = partial(contenders.ours, many, layer, options.folder / "out")
        found = report.measure("dask M", {"threads": run, "dask": partial(run, scheduler=cluster.scheduler_address)})
    row("M: Dask with two worker processes / two threads", found["dask"], found["threads"])


def setup(report: Report, options: argparse.Namespace) -> None:
    """Measure set-up, memory, growth and start, each in a process of its own."""
    start.measure(report, options.folder, options.tile)


def layers(report: Report, options: argparse.Namespace) -> None:
    """Measure the cost of features outside the tile; fewer of them where the tile is small."""
    large_layer.measure(report, large_layer.LARGE * options.tile // archive.FULL)


PARTS = {"peers": peers, "jp2": jp2_rows.measure, "ways": ways, "setup": setup, "layers": layers, "page": page.measure}

if __name__ == "__main__":
    main()
