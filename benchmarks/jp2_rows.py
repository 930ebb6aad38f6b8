"""Rows of the tables on JPEG 2000: whole runs beside plain decoding, clouds, threads, an update, memory, decoding.

Each row is measured on its own and written at once, so that a run that is interrupted or measures a few rows keeps the
others.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import archive, contenders, decoding, start
from sen2chain import TimeSeriesCompil

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.report import Report, Table

INDICES_10M_20M = ("NDVI", "NDWIMCF", "NDWIGAO", "NBR", "NDRE")
BANDS_10M_20M = ("B03", "B04", "B05", "B08", "B11", "B12")
"""Bands of the indices above."""
FLOOR_PRODUCTS = 2
"""Products of which plain decoding is measured: it takes as long for each."""


@dataclass(frozen=True)
class Place:
    """Where a row is measured, and how often."""

    folder: Path
    tile: int
    """Edge of the tile in pixels."""
    products: int
    report: Report

    def files(self, kind: str) -> archive.Archive:
        """Return the archive of a kind with the row's number of products; SAFE products without clouds."""
        if kind == "safe":
            return archive.with_clouds(self.folder, "clear", self.products, archive.clear)
        return archive.archive(self.folder, kind, self.products)

    def layer(self, name: str) -> Path:
        """Return a layer."""
        return archive.layer(self.folder, name, self.tile)

    def out(self) -> Path:
        """Return an empty folder for results."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def ours(self, files: archive.Archive, layer: Path, **options: Any) -> float:
        """Run sen2chain from the layer's file to the CSV, and return seconds per product."""
        return contenders.ours(files, layer, self.out(), **options)

    def floor(self, kind: str, layer: Path) -> Callable[[], float]:
        """Return plain decoding, in as many threads as products."""
        files = archive.archive(self.folder, kind, FLOOR_PRODUCTS)
        return partial(contenders.floor, files, layer, only_blocks=True)

    def measure(
        self, what: str, run: Callable[[], float], beside: Callable[[], float], layer: Path
    ) -> tuple[float, float]:
        """Measure two things in turn, after a run on one product that saves the plan and compiles."""
        one = archive.archive(self.folder, "safe", 1)
        found = self.report.measure(
            what, {"run": run, "beside it": beside}, warm_up=lambda: _warmed.get(layer) or self.ours(one, layer)
        )
        _warmed[layer] = True
        return found["run"], found["beside it"]


_warmed: dict[Path, bool] = {}
Measured = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One row of the table of whole runs."""

    what: str
    """What is measured / what beside it."""
    goal: float
    """Ratio that is aimed at; 0 where there is none."""
    products: int
    measure: Callable[[Place, str], Measured]


def _whole_run(kind: str, size: str) -> Callable[[Place, str], Measured]:
    """Measure a whole run beside plain decoding of the tiles that hold features."""

    def measure(place: Place, name: str) -> Measured:
        files, layer = place.files(kind), place.layer(size)
        return place.measure(name, partial(place.ours, files, layer), place.floor(kind, layer), layer)

    return measure


def _clouds(place: Place, name: str) -> Measured:
    """Measure a run where clouds cover features, beside the same without clouds."""
    layer = place.layer("M")
    cloudy = archive.with_clouds(place.folder, "partly", place.products, archive.clouds_over(layer, place.tile))
    clear = partial(place.ours, place.files("safe"), layer)
    return place.measure(name, partial(place.ours, cloudy, layer), clear, layer)


def _overcast(place: Place, name: str) -> Measured:
    """Measure acquisitions that are cloud throughout, beside plain decoding of the tiles that hold features."""
    layer = place.layer("M")
    files = archive.with_clouds(place.folder, "overcast", place.products, archive.overcast)
    return place.measure(name, partial(place.ours, files, layer), place.floor("safe", layer), layer)


def _threads(size: str) -> Callable[[Place, str], Measured]:
    """Measure two threads beside one."""

    def measure(place: Place, name: str) -> Measured:
        files, layer = place.files("safe"), place.layer(size)
        two, one = (partial(place.ours, files, layer, multiproc=threads) for threads in (2, 1))
        return place.measure(name, two, one, layer)

    return measure


def _update(place: Place, name: str) -> Measured:
    """Measure the update of one new acquisition, beside plain decoding of the tiles that hold features."""
    layer = place.layer("S")
    known, grown = (archive.with_clouds(place.folder, "clear", dates, archive.clear) for dates in (1, 2))
    before, now = place.folder / "extraction-before", place.folder / "extraction"

    def series(files: archive.Archive, extraction: Path) -> TimeSeriesCompil:
        indices, masks = list(INDICES_10M_20M), [archive.MASK]
        return TimeSeriesCompil(layer, indices, masks=masks, library=files.library, extraction=extraction, quiet=True)

    shutil.rmtree(before, ignore_errors=True)
    series(known, before).extract_data()

    def update() -> float:
        shutil.rmtree(now, ignore_errors=True)
        shutil.copytree(before, now)
        done: list[Any] = []
        seconds = contenders.clock(lambda: done.append(series(grown, now).extract_data()))
        if done[0].images != len(INDICES_10M_20M):
            raise RuntimeError(f"not one new acquisition with {len(INDICES_10M_20M)} indices: {done[0]}")
        return seconds

    def rasters(product: archive.Product) -> Iterable[Path]:
        return archive.rasters_of(product, BANDS_10M_20M)

    floor = partial(contenders.floor, grown, layer, rasters, only_blocks=True)
    return place.measure(name, update, floor, layer)


ROWS = {
    **{
        f"safe-{size}": Row(f"SAFE, {text} / plain decoding", goal, products, _whole_run("safe", size))
        for size, text, goal, products in (
            ("S", "50 polygons", 0.15, 8), ("M", "1,000 polygons", 0.5, 8),
            ("district", "200 polygons of one district", 0.15, 8),
            ("L", "20,000 polygons", 1.05, 2), ("XL", "100,000 polygons", 1.05, 2),
        )
    },
    **{
        f"legacy-{size}": Row(f"lossy index, {text} / plain decoding", goal, products, _whole_run("jp2", size))
        for size, text, goal, products in (
            ("S", "50 polygons", 0.15, 8), ("M", "1,000 polygons", 0.5, 8),
            ("L", "20,000 polygons", 1.05, 2), ("XL", "100,000 polygons", 1.13, 2),
        )
    },
    "zip-S": Row("zipped SAFE, 50 polygons / plain decoding", 0, 8, _whole_run("zip", "S")),
    "zip-M": Row("zipped SAFE, 1,000 polygons / plain decoding", 0, 2, _whole_run("zip", "M")),
    "clouds-M": Row("SAFE, 1,000 polygons, clouds over 60 % of them / without clouds", 0.5, 4, _clouds),
    "overcast-M": Row("SAFE, 1,000 polygons, clouds over all / plain decoding", 0.05, 8, _overcast),
    "threads-M": Row("one SAFE product, 1,000 polygons: two threads / one", 0.58, 1, _threads("M")),
    "threads-XL": Row("one SAFE product, 100,000 polygons: two threads / one", 0.58, 1, _threads("XL")),
    "update-S": Row("update of one new SAFE product, 50 polygons, five indices / plain decoding", 0.2, 1, _update),
}  # fmt: skip
"""Whole runs, name -> row."""
MEMORY = {f"memory-{size}": size for size in archive.SIZES}
"""Peak memory, name -> layer."""
NAMES = (*ROWS, *MEMORY, *decoding.ROWS)
"""All rows, as ``--rows`` names them."""


def chosen(rows: str) -> list[str]:
    """Return the rows that a text names: ``all``, or names and beginnings of names, with commas.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    if rows == "all":
        return list(NAMES)
    found = []
    for name in rows.split(","):
        matching = [row for row in NAMES if row == name or row.startswith(f"{name}-")]
        if not matching:
            raise ValueError(f"--rows {name}: there is no such row; there are {', '.join(NAMES)}.")
        found += [row for row in matching if row not in found]
    return found


def measure(report: Report, options: argparse.Namespace) -> None:
    """Measure the chosen rows and fill the tables, writing them after each row."""
    names = chosen(options.rows)
    whole = report.table(
        "JPEG 2000, beside plain decoding",
        "Seconds per product, from the layer's file to the CSV with the plan saved: NDVI, its cloud mask and CLDPRB.",
        order=[row.what for row in ROWS.values()],
    )
    alone = report.table(
        "JPEG 2000, decoding alone",
        "Processor seconds of one thread to open the rasters and decode what holds squares of 21 by 21 pixels: whole "
        "tiles by GDAL, windows of tiles by sen2chain.",
        order=[row.what for row in decoding.ROWS.values()],
    )
    memory = report.table(
        "JPEG 2000, memory",
        "Peak of the process, GiB: two products, two threads.",
        order=list(archive.SIZES),
    )
    for name in names:
        if name in ROWS:
            products = options.products or ROWS[name].products
            _fill(whole, ROWS[name], name, Place(options.folder, options.tile, products, report))
        elif name in MEMORY:
            _memory(memory, MEMORY[name], options)
        else:
            alone.row(decoding.measure(name, options.folder, options.tile, options.repeats))
        report.write(options.out)


def _fill(table: Table, row: Row, name: str, place: Place) -> None:
    products = 1 if row.products == 1 else place.products
    run, beside = row.measure(Place(place.folder, place.tile, products, place.report), name)
    table.row({
        "run / beside it": row.what, "products": str(products), "run, s": f"{run:.2f}",
        "beside it, s": f"{beside:.2f}", "ratio": f"{run / beside:.2f}", "goal": f"{row.goal:.2f}" if row.goal else "-",
    })  # fmt: skip


def _memory(table: Table, size: str, options: argparse.Namespace) -> None:
    layer = archive.layer(options.folder, size, options.tile)
    found = {
        title: start.peak_memory(archive.archive(options.folder, kind, 2).library, layer, options.folder / "out")
        for title, kind in (("SAFE", "safe"), ("lossy index", "jp2"))
    }
    print(f"memory {size}: {found}", flush=True)
    table.row({"layer": size} | {title: f"{peak:.2f}" for title, peak in found.items()})
