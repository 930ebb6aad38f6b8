"""``python -m benchmarks.kept_pixels``: what keeping the pixels of a layer costs, and what asking them again saves.

A full tile is drawn (some minutes, once); further dates are links to its files. Each run is a process of its own, timed
from its start. Figures are kept in ``figures.json`` of the folder, so that parts can be measured one at a time:

- ``keep-M``, ``keep-L``: ``update`` with and without kept pixels, in turn, under a clear sky and under clouds that
  cover more than half of the polygons;
- ``size``: bits per pixel and band on the real pixels beside the checkout;
- ``fill-M``, ``fill-L``: keep the pixels of all dates (from COG, which is faster), as far as ``--patience`` allows;
  call it until it says that all are kept;
- ``safe-M``, ``safe-L``, ``cog-M``, ``cog-L``: a new index under a new mask from SAFE and from COG; a sample of the
  dates, from which the time of all dates is computed;
- ``ask-M``, ``ask-L``: the same from kept pixels, all dates; the rows are compared with those of the sample.

M is a layer of 1,000 polygons of about 435 pixels, spread over the tile, L one of 20,000.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import rasterio
from rasterio.shutil import copy

from benchmarks import archive
from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import MemorySource
from sen2chain.coverage import compute_coverage
from sen2chain.grid import Grid
from sen2chain.pixel_store import KeptValues, TilePositions, pixel_file
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PARTS = (*(f"{part}-{name}" for name in ("M", "L") for part in ("keep", "fill", "safe", "cog", "ask")), "size")
BANDS = ("B04", "B08", "SCL", "CLDPRB")
FIRST: dict[str, Any] = {"indices": ["NDVI"], "cm_version": "CM004"}
"""What ``update`` extracts when the pixels are kept."""
QUESTION: dict[str, Any] = {
    "indices": ["SAVI=1.5*(B08-B04)/(B08+B04+0.5)"], "masks": ["SCL-3-8-9-10-11-ITER2"], "stats": ["percentile_90"],
}  # fmt: skip
"""The new question."""
KEEPING: dict[str, Any] = {"nothing": False, "pixels": True, "named": ["B04", "B08"]}
"""Ways of `keep_pixels`, by the word of the child process."""
REAL = ("B02", "B03", "B04", "B08")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Measured:
    """One run of a process."""

    seconds: float
    """By the clock, from the start of the process to its end."""
    processors: float
    """Of all processors."""
    memory: float
    """Largest, bytes."""


@dataclass(frozen=True)
class Setting:
    """Where and how much is measured."""

    folder: Path
    tile: int
    dates: int
    sample: int
    repeats: int
    patience: float

    def layer(self, name: str) -> Path:
        """Layer of polygons."""
        return archive.layer(self.folder, name, self.tile)

    def library(self, sky: str) -> Path:
        """Archive of SAFE products under a sky: ``drawn``, ``clear``, or ``clouds-`` and the layer that they cover."""
        if sky == "drawn":
            return archive.archive(self.folder, "safe", self.dates).library
        classes = archive.clear if sky == "clear" else archive.clouds_over(self.layer(sky[-1]), self.tile)
        return archive.with_clouds(self.folder, sky, self.dates, classes).library

    def kept(self, name: str) -> Path:
        """Return the extraction folder that keeps the pixels of a layer."""
        return self.folder / f"kept-{name}"

    def days(self, count: int) -> dict[str, Any]:
        """Range of a number of dates, from the first."""
        first = dt.date(2022, 5, 1)  # as in `archive.archive`
        return {"date_min": first, "date_max": first + dt.timedelta(days=10 * (count - 1))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts, and write the table of all that was measured so far."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept_pixels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    default = Path(tempfile.gettempdir()) / "sen2chain-benchmark-kept"
    parser.add_argument("--folder", type=Path, default=default, help="where files are kept (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/kept_pixels.md"), help="default: %(default)s")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--tile", type=int, default=archive.FULL, help="edge of the tile in pixels")
    parser.add_argument("--dates", type=int, default=100, help="dates whose pixels are kept (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=4, help="dates read from the source (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is taken (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=150, help="seconds after which fill stops (default: 150)")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)  # what a child process measures
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["SEN2CHAIN_CACHE"] = str(options.folder / "cache")
    names = ("folder", "tile", "dates", "sample", "repeats", "patience")
    setting = Setting(**{name: getattr(options, name) for name in names})
    if options.work:
        WORK[options.work[0]](setting, *options.work[1:])
        return 0
    archive.build(options.folder, options.tile)
    for part in options.parts.split(","):
        print(part, flush=True)
        what, _, name = part.partition("-")
        found = MEASURE[what](setting, *([name] if name else [])) | {"runs": setting.repeats}
        figures = read_figures(setting) | {f"{part} {key}": value for key, value in found.items()}
        (options.folder / "figures.json").write_text(json.dumps(figures, indent=1))
        for key, value in found.items():
            print(f"  {key}: {value:.4g}", flush=True)
    options.out.write_text("\n".join(table(setting)) + "\n", encoding="utf-8")
    print(f"{options.out} written")
    return 0


def read_figures(setting: Setting) -> dict[str, float]:
    """Read what was measured so far."""
    path = setting.folder / "figures.json"
    figures: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    return figures


def child(setting: Setting, *work: str) -> Measured:
    """Run a work in a process of its own.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    options = {"--folder": setting.folder, "--tile": setting.tile, "--dates": setting.dates, "--sample": setting.sample}
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "benchmarks.kept_pixels", *words, "--work", *work]
    begin = time.perf_counter()
    process = subprocess.Popen(command)  # noqa: S603  # our own interpreter
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(work)} ended with exit code {process.returncode}")
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def in_turn(repeats: int, runs: Mapping[str, Callable[[], Measured]]) -> dict[str, Measured]:
    """Measure several runs in turn; return the medians of each."""
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(run())
            last = found[name][-1]
            print(f"  {name}: {last.seconds:.2f} s, {last.processors:.2f} s of processors", flush=True)
    fields = ("seconds", "processors", "memory")
    return {
        name: Measured(*(statistics.median(getattr(one, field) for one in many) for field in fields))
        for name, many in found.items()
    }


# -------------------------------------------------------------------------------------------------------- keeping


def keep(setting: Setting, name: str) -> dict[str, float]:
    """Measure ``update`` with and without kept pixels."""
    figures = {}
    child(setting, "ask", name, "safe", "1")  # fills the disk's cache, compiles, saves the pixels of the layer
    for sky in ("clear", f"clouds-{name}"):
        setting.library(sky)
        runs = {way: partial(child, setting, "update", name, sky, way) for way in KEEPING}
        found = in_turn(setting.repeats, runs)
        word = sky.partition("-")[0]
        for way, measured in found.items():
            figures[f"{word} {way} seconds"] = measured.seconds / setting.sample
            figures[f"{word} {way} processors"] = measured.processors / setting.sample
        figures |= {f"{word} {way} memory": found[way].memory for way in found}
    return figures


def update(setting: Setting, name: str, sky: str, way: str) -> None:
    """Extract a sample of dates into an empty folder, as a child process."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        series = TimeSeriesCompil(
            setting.layer(name), library=setting.library(sky), extraction=folder, quiet=True,
            **FIRST, **setting.days(setting.sample), **_keeping(way),
        )  # fmt: skip
        done = series.extract_data()
        assert done.images == setting.sample, done  # noqa: S101


def _keeping(way: str) -> dict[str, Any]:
    return {"keep_pixels": KEEPING[way]} if KEEPING[way] else {}


def fill(setting: Setting, name: str) -> dict[str, float]:
    """Keep the pixels of dates, until all are kept or patience has ended."""
    begin = time.perf_counter()
    make_cogs(setting)
    done = 0
    while done < setting.dates and time.perf_counter() - begin < setting.patience:
        done = min(done + 4, setting.dates)
        series = TimeSeriesCompil(
            setting.layer(name), library=cogs(setting), extraction=setting.kept(name), quiet=True,
            **FIRST, **setting.days(done), **_keeping("pixels"),
        )  # fmt: skip
        series.extract_data()
    print(f"  {done} of {setting.dates} dates are kept", flush=True)
    folder = _folder_of_pixels(setting.kept(name))
    return {"dates": done, "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())}


def _folder_of_pixels(extraction: Path) -> Path:
    (folder,) = extraction.glob("*/pixels")
    return folder


# --------------------------------------------------------------------------------------------------------- asking


def source(place: str, setting: Setting, name: str) -> dict[str, float]:
    """Measure the new question from SAFE or from COG, with few and with more dates."""
    make_cogs(setting)
    few, more = setting.sample // 2, setting.sample
    child(setting, "ask", name, place, "1")  # fills the disk's cache, compiles, saves the pixels of the layer
    runs = {str(count): partial(child, setting, "ask", name, place, str(count)) for count in (few, more)}
    found = in_turn(setting.repeats, runs)
    a, b = found[str(few)], found[str(more)]
    figures = {"memory": b.memory, "dates": more}
    for field in ("seconds", "processors"):
        each = (getattr(b, field) - getattr(a, field)) / (more - few)
        figures |= {f"each {field}": each, field: getattr(b, field) + (setting.dates - more) * each}
    return figures


def asked(setting: Setting, name: str) -> dict[str, float]:
    """Measure the new question from kept pixels, all dates, and compare the rows of the sample."""
    run = {"kept": partial(child, setting, "ask", name, "kept", str(setting.dates))}
    found = in_turn(setting.repeats, run)["kept"]
    child(setting, "ask", name, "kept", str(setting.sample))
    if not list(_out(setting, name, "safe", setting.sample).glob("*/*.csv")):
        child(setting, "ask", name, "safe", str(setting.sample))
    ours, theirs = (pd.read_csv(_table(setting, name, place, setting.sample)) for place in ("kept", "safe"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    return {
        "seconds": found.seconds, "processors": found.processors, "memory": found.memory,
        "rows compared": len(ours),
    }  # fmt: skip


def ask(setting: Setting, name: str, place: str, count: str) -> None:
    """Ask the new question about some dates, as a child process."""
    places: dict[str, Callable[[], dict[str, Any]]] = {
        "safe": lambda: {"library": setting.library("drawn")},
        "cog": lambda: {"library": cogs(setting)},
        "kept": lambda: {"pixels_from": next(setting.kept(name).glob("*/pixels")).parent},
    }
    out = _out(setting, name, place, int(count))
    series = TimeSeries(setting.layer(name), quiet=True, **places[place](), **QUESTION, **setting.days(int(count)))
    series.to_csv(out, overwrite=True)


def _out(setting: Setting, name: str, place: str, count: int) -> Path:
    return setting.folder / "out" / f"{name}-{place}-{count}"


def _table(setting: Setting, name: str, place: str, count: int) -> Path:
    (path,) = _out(setting, name, place, count).glob("*/*.csv")
    return path


def make_cogs(setting: Setting) -> None:
    """Write the drawn rasters as COG, as providers have them, unless they exist."""
    for product in archive.archive(setting.folder, "safe", 2).products:
        for band, path in zip(BANDS, archive.rasters_of(product, BANDS[:2]), strict=True):
            cog = _cog(setting, path.resolve(), band)
            if not cog.exists():
                cog.parent.mkdir(exist_ok=True)
                bits = 16 if band.startswith("B") else 8  # the drawn bands have 15, which has no predictor
                copy(path, cog.with_suffix(".part"), driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE=512,
                     OVERVIEWS="NONE", NBITS=bits, NUM_THREADS="ALL_CPUS")  # fmt: skip
                cog.with_suffix(".part").rename(cog)


def _cog(setting: Setting, path: Path, band: str) -> Path:
    safe = next(parent for parent in path.parents if parent.suffix == ".SAFE")
    return setting.folder / "cog-bands" / f"{safe.stem}_{band}.tif"


def cogs(setting: Setting) -> MemorySource:
    """Return the dates as products of a catalogue, with bands as COG on this disk."""
    radiometry = Radiometry(10_000.0, dict.fromkeys((band.name for band in SENTINEL2.bands), -1000.0))
    return MemorySource(
        Acquisition(ProductId.parse(product.name), KnownDetails(radiometry), {
            band: str(_cog(setting, path.resolve(), band))
            for band, path in zip(BANDS, archive.rasters_of(product, BANDS[:2]), strict=True)
        }) for product in archive.archive(setting.folder, "safe", setting.dates).products
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- size


def size(setting: Setting) -> dict[str, float]:
    """Measure bits per pixel and band on real pixels."""
    layer = SHARED / "bolzano" / "vectors" / "parcels_utm32.gpkg"
    extraction = setting.folder / "kept-bolzano"
    shutil.rmtree(extraction, ignore_errors=True)
    series = TimeSeriesCompil(layer, safe=SHARED / "bolzano", extraction=extraction, keep_pixels=list(REAL), quiet=True,
                              **FIRST)  # fmt: skip
    series.extract_data()
    folder = _folder_of_pixels(extraction)
    files = sorted(folder.rglob("*.pixels"))
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    pixels = _pixels_of(layer)
    values = pixels * len(REAL) * len(files)
    return {
        "dates": len(files), "pixels": pixels, "bits": 8 * whole / values,
        "bits of SCL": 8 * sum(_member_bytes(files, "SCL")) / values,
        "bits of positions": 8 * sum(path.stat().st_size for path in folder.rglob("*.positions")) / values,
        **{f"Ireland bits of {name}": bits for name, bits in quality_bits(1000).items()},
    }  # fmt: skip


def quality_bits(polygons: int, margin: float = 300.0) -> dict[str, float]:
    """Return bits per 10 m pixel of SCL and CLDPRB of a real product under drawn parcels where it has data."""
    (safe,) = (SHARED / "ireland" / "L2A").glob("*/*.SAFE")
    rasters = {}
    for name, path in (("SCL", "IMG_DATA/R20m/*_SCL_20m.jp2"), ("CLDPRB", "QI_DATA/MSK_CLDPRB_20m.jp2")):
        with rasterio.open(next(safe.glob(f"GRANULE/*/{path}"))) as dataset:
            rasters[name] = dataset.read(1)
            coarse = Grid(str(dataset.crs), tuple(dataset.transform)[:6], dataset.shape)
            bounds = tuple(dataset.bounds)
    parcels = demo.parcels(polygons, bounds, coarse.crs, seed=3)
    row, column = (
        ((bounds[3] - parcels.centroid.y) // 20).astype(int),
        ((parcels.centroid.x - bounds[0]) // 20).astype(int),
    )
    layer = parcels.geometry[rasters["SCL"][row, column] > 0].reset_index(drop=True)
    rows, columns = coarse.shape
    finest = Grid(coarse.crs, (10.0, 0.0, bounds[0], 0.0, -10.0, bounds[3]), (2 * rows, 2 * columns))
    positions = TilePositions.of([compute_coverage(layer, layer.crs, finest, tile=safe.parent.name).plan], margin)
    found = {}
    for name, values in rasters.items():
        kept = KeptValues(positions.of_quality(coarse).take(values), None, "quality", coarse, None, (1.0, 0.0))
        found[name] = 8 * len(pixel_file({"product": safe.stem}, {name: kept}, positions)) / positions.finest.size
    return found


def _pixels_of(layer: Path) -> int:
    """Count the 10 m pixels that any polygon touches, each once."""
    import geopandas as gpd  # noqa: PLC0415  # only here
    import rasterio.features  # noqa: PLC0415

    parcels = gpd.read_file(layer)
    left, bottom, right, top = parcels.total_bounds // 10 * 10
    shape = round((top - bottom) / 10) + 2, round((right - left) / 10) + 2
    transform = rasterio.Affine(10, 0, left, 0, -10, top + 10)
    return int(rasterio.features.geometry_mask(
        parcels.geometry, shape, transform, all_touched=True, invert=True
    ).sum())  # fmt: skip


def _member_bytes(files: Iterable[Path], band: str) -> Iterable[int]:
    """Yield the sizes of a band's members of pixel files."""
    for path in files:
        with zipfile.ZipFile(path) as file:
            yield from (member.file_size for member in file.infolist() if member.filename.startswith(f"{band}/"))


# ---------------------------------------------------------------------------------------------------------- table


def table(setting: Setting) -> list[str]:
    """Write what was measured so far as Markdown."""
    figures = read_figures(setting)
    machine = f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})"
    head = (
        f"Measured on {machine}, on a tile of {setting.tile} x {setting.tile} pixels, with polygons of 435 pixels. "
        "Each figure is the median of so many runs in turn, each a process of its own, timed from its start."
    )
    keeping = ("`update`, seconds per date", "polygons", "sky", "without", "with", "ratio", "of processor time", "runs")
    asking = (f"new index, new mask, {setting.dates} dates", "polygons", "seconds", "s per date", "memory, MiB",
              "kept pixels are faster", "by processor time", "runs")  # fmt: skip
    note = "\\* computed from the time of these dates, and that of a further one for each other date."
    lines = [head, *_markdown(keeping, _keeping_rows(setting, figures))]
    lines += [*_markdown(asking, _asking_rows(setting, figures)), "", note]
    size = _figures_of(figures, "size")
    if size:
        sentence = (
            f"On the real pixels of {size['dates']:.0f} dates under 150 polygons (four bands, SCL), {size['bits']:.1f} "
            f"bits are kept for each pixel and 10 m band. SCL with its margin of 300 m takes "
            f"{size['bits of SCL']:.2f} of them, positions {size['bits of positions']:.2f}. Of a real product, "
            f"cloudy, SCL takes {size['Ireland bits of SCL']:.1f} and CLDPRB {size['Ireland bits of CLDPRB']:.1f} bits "
            "for each 10 m pixel under 565 scattered polygons, margin included: divide them by the number of bands."
        )
        lines += ["", sentence]
    return lines


def _figures_of(figures: Mapping[str, float], part: str) -> dict[str, float]:
    """Return the figures of a part."""
    return {key.removeprefix(f"{part} "): value for key, value in figures.items() if key.startswith(f"{part} ")}


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    return ["", *(f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows))]


def _keeping_rows(setting: Setting, figures: Mapping[str, float]) -> list[Sequence[str]]:
    """Write what keeping costs."""
    options = {"pixels": "`--keep-pixels`", "named": "`--keep-pixels B04,B08`"}
    skies = {"clear": "clear", "clouds": f"{archive.CLOUDED:.0%} of the polygons under clouds"}
    rows: list[Sequence[str]] = []
    for name, sky, way in itertools.product(("M", "L"), skies, options):
        of = _figures_of(figures, f"keep-{name} {sky}")
        if f"{way} seconds" in of:
            plain, kept = of["nothing seconds"], of[f"{way} seconds"]
            processors = of[f"{way} processors"] / of["nothing processors"]
            polygons = f"{archive.polygons(name, setting.tile):,}"
            cells = (options[way], polygons, skies[sky], f"{plain:.2f}", f"{kept:.2f}", f"{kept / plain:.2f}")
            rows.append((*cells, f"{processors:.2f}", f"{figures[f'keep-{name} runs']:.0f}"))
    return rows


def _asking_rows(setting: Setting, figures: Mapping[str, float]) -> list[Sequence[str]]:
    """Write what asking saves."""
    places = {"ask": "kept pixels", "safe": "SAFE, JPEG 2000", "cog": "COG bands on the same disk"}
    rows: list[Sequence[str]] = []
    for name, place in itertools.product(("M", "L"), places):
        kept, of = (_figures_of(figures, f"{part}-{name}") for part in ("ask", place))
        if not (kept and of):
            continue
        ratios = (f"{of[field] / kept[field]:.0f} x" if place != "ask" else "" for field in ("seconds", "processors"))
        polygons, memory = f"{archive.polygons(name, setting.tile):,}", f"{of['memory'] / 2**20:.0f}"
        each = of["seconds"] / setting.dates
        dates = f", from {of['dates']:.0f} dates \\*" if place != "ask" else ""
        cells = (f"{places[place]}{dates}", polygons, f"{of['seconds']:.1f}", f"{each:.3f}", memory)
        rows.append((*cells, *ratios, f"{of['runs']:.0f}"))
    return rows


MEASURE: dict[str, Callable[..., dict[str, float]]] = {
    "keep": keep, "fill": fill, "safe": partial(source, "safe"),
    "cog": partial(source, "cog"), "ask": asked, "size": size,
}  # fmt: skip
"""Measurements by the first word of a part."""
WORK: dict[str, Callable[..., None]] = {"update": update, "ask": ask}
"""Works of child processes by name."""


if __name__ == "__main__":
    sys.exit(main())
