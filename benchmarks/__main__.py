"""``python -m benchmarks``: build the files, measure everybody in turn, write the tables.

See ``docs/benchmark.md`` for what is measured, and ``--help`` for sizes and formats.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import archive, contenders, start
from benchmarks.report import Report

FULL = 10980


def main() -> None:
    """Parse, build, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sen2chain-benchmark",
                        help="where the files are built, and kept for the next time (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("docs/benchmark-table.md"), help="default: %(default)s")
    parser.add_argument("--sizes", default="S,M,L,XL", help="layers, of S,M,L,XL (default: all)")
    parser.add_argument("--formats", default="cog,jp2,safe", help="of cog,jp2,safe (default: all)")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to measure (default: all, %(default)s)")
    parser.add_argument("--tile", type=int, default=FULL, help="edge of the tile in pixels (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is taken (default: 3)")
    parser.add_argument("--patience", type=float, default=20.0,
                        help="seconds per product from which a peer is measured only once (default: 20)")  # fmt: skip
    options = parser.parse_args()
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
    """Measure everybody on the COG archive."""
    if "cog" not in options.formats:
        return
    table = report.table(
        "COG, beside the peers",
        "Seconds per product of sen2chain and of plain decoding; the peers as multiples of sen2chain's time.",
    )
    many = archive.archive(options.folder, "cog", 8)
    for name, layer in _layers(options).items():
        everybody = {
            "sen2chain": lambda layer=layer: contenders.ours(many, layer, _out(options)),
            "plain decoding": lambda layer=layer: contenders.floor(many, layer),
            "exactextract (feature-sequential)": lambda layer=layer: contenders.exactextract(
                many, layer, _out(options), "feature-sequential"
            ),
            "exactextract (raster-sequential)": lambda layer=layer: contenders.exactextract(
                many, layer, _out(options), "raster-sequential"
            ),
            "extractrs": lambda layer=layer: contenders.extractrs(many, layer, _out(options)),
        }
        if archive.SIZES[name] <= 1000:  # its time grows with the polygons, by minutes
            everybody["rasterstats"] = lambda layer=layer: contenders.rasterstats(many, layer, _out(options))
        if contenders.has_gdal():
            everybody["gdal raster zonal-stats"] = lambda layer=layer: contenders.gdal(many, layer, _out(options))
        found = report.measure(f"cog {name}", everybody)
        best = min(found.pop("exactextract (feature-sequential)"), found.pop("exactextract (raster-sequential)"))
        us = found["sen2chain"]
        table.row({
            "layer": f"{name}, {archive.SIZES[name]:,} polygons",
            "sen2chain, s": f"{us:.2f}",
            "plain decoding, s": f"{found['plain decoding']:.2f}",
            "sen2chain / decoding": f"{us / found['plain decoding']:.2f}",
            "exactextract": f"{best / us:.1f} x",
            "extractrs": f"{found['extractrs'] / us:.1f} x",
            "rasterstats": f"{found['rasterstats'] / us:.0f} x" if "rasterstats" in found else "-",
            "gdal raster zonal-stats": f"{found['gdal raster zonal-stats'] / us:.0f} x"
            if "gdal raster zonal-stats" in found else "not installed",
        })  # fmt: skip
    table.notes += [f"{name}: {text}." for name, text in contenders.LIMITS.items()]
    table.notes.append("rasterstats is measured up to 1,000 polygons; its time grows with their number.")


def jpeg2000(report: Report, options: argparse.Namespace) -> None:
    """Measure JPEG 2000 against its floor."""
    table = report.table(
        "JPEG 2000, beside plain decoding",
        "Seconds per product: lossy index rasters of old archives with a stored mask; and SAFE products, NDVI from two "
        "bands and the mask from SCL.",
    )
    for kind, dates in (("jp2", 4), ("safe", 2)):
        if kind not in options.formats:
            continue
        some = archive.archive(options.folder, kind, dates)
        for name, layer in _layers(options).items():
            found = report.measure(f"{kind} {name}", {
                "sen2chain": lambda layer=layer, some=some: contenders.ours(some, layer, _out(options)),
                "plain decoding": lambda layer=layer, some=some: contenders.floor(some, layer),
            })  # fmt: skip
            us, least = found.values()
            table.row({
                "archive": {"jp2": "index, JP2", "safe": "bands, SAFE"}[kind], "layer": name,
                "sen2chain, s": f"{us:.2f}", "plain decoding, s": f"{least:.2f}",
                "sen2chain / decoding": f"{us / least:.2f}",
            })  # fmt: skip


def options_of_a_run(report: Report, options: argparse.Namespace) -> None:
    """Measure weights, and several masks and indices."""
    table = report.table("Weights, several masks and indices", "COG, seconds per product.")
    many = archive.archive(options.folder, "cog", 8)
    for name, layer in _layers(options).items():
        found = report.measure(f"weighted {name}", {
            pixels: lambda layer=layer, pixels=pixels: contenders.ours(many, layer, _out(options), pixels=pixels)
            for pixels in ("center", "weighted")
        })  # fmt: skip
        center, weighted = found.values()
        table.row({"what": f"{name}: pixels='weighted' / pixels='center'", "s": f"{weighted:.2f}",
                   "against, s": f"{center:.2f}", "ratio": f"{weighted / center:.2f}"})  # fmt: skip
    more = archive.archive(options.folder, "cog", 8, more_indices=True)
    layer = archive.layer(options.folder, "M", options.tile)
    asked = {"indices": [archive.INDEX, "BIGR"], "masks": [archive.MASK, "CM003-PRB1-ITER5", "SCL-3-8-9-10-11-ITER1"]}

    def rasters(product: archive.Product) -> list[Path]:
        bigr = Path(str(product.values[0]).replace(f"/{archive.INDEX}/", "/BIGR/").replace("_NDVI.", "_BIGR."))
        scl = next(product.mask.parent.glob("*_SCL_20m.jp2"))
        return [*product.values, bigr, product.mask, product.cldprb, scl]

    found = report.measure("three masks, two indices, M", {
        "sen2chain": lambda: contenders.ours(more, layer, _out(options), **asked),
        "plain decoding": lambda: contenders.floor(more, layer, rasters),
    })  # fmt: skip
    us, least = found.values()
    table.row({"what": "M: three masks and two indices / decoding their five rasters", "s": f"{us:.2f}",
               "against, s": f"{least:.2f}", "ratio": f"{us / least:.2f}"})  # fmt: skip


def setup(report: Report, options: argparse.Namespace) -> None:
    """Measure set-up, memory, growth and start, each in a process of its own."""
    start.measure(report, options.folder, options.tile)


PARTS = {"peers": peers, "jp2": jpeg2000, "options": options_of_a_run, "setup": setup}

if __name__ == "__main__":
    sys.exit(main())
