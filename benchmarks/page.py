"""The page of 5,000 features x 300 dates: how large it is, how long it takes to make and to draw for the first time.

The prototype in ``../shared/prototypes/report_page``, where it is there, is drawn by the same browser in turn.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks import archive
from sen2chain import INDICES, demo
from sen2chain.index_series import IndexSeries, LayerFeatures
from sen2chain.page import RunAccount, content_of, page_html
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from benchmarks.report import Report

FEATURES, DATES = 5_000, 300
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
PROTOTYPE = Path(__file__).resolve().parents[2] / "shared" / "prototypes" / "report_page" / "gen.py"
_PACKAGES = {
    "uplot-1.6.32": {"uPlot.iife.min.js": "dist", "uPlot.min.css": "dist"},
    "leaflet-1.9.4": {"leaflet.js": "dist", "leaflet.css": "dist"},
    "tabulator-tables-6.5.3": {"tabulator.min.js": "dist/js", "tabulator_simple.min.css": "dist/css"},
}
"""Where the prototype looks for the files that the package has."""
_PIECE = 500  # features of a table
_STATISTICS = ("mean", "std")


def layer(features: int) -> Layer:
    """Parcels spread over a tile, in degrees."""
    frame = archive.scene(archive.FULL).frames()[0]
    parcels = demo.parcels(features, frame.bounds, f"EPSG:{frame.epsg}", seed=3).to_crs(4326)
    attributes = parcels.drop(columns="geometry").reset_index(drop=True)
    return Layer.of(parcels.geometry.to_numpy(), "EPSG:4326", name="parcels", attributes=attributes)


def series(known: Layer, dates: int) -> IndexSeries:
    """Rows with a season, noise and clouds, as the prototype's; 55 % of all dates have one."""
    rng, count = np.random.default_rng(0), len(known)
    days = np.sort(rng.choice(np.arange(365 * 4), dates, replace=False))
    high, peak = rng.uniform(2000, 6000, count)[:, None], rng.normal(180, 25, count)[:, None]
    season = high * np.exp(-(((days[None] % 365 - peak) / 60) ** 2))
    mean = np.round(2000 + season + rng.normal(0, 300, (count, dates)), 2)
    std, valid = rng.gamma(4, 120, (count, dates)), rng.integers(60, 101, (count, dates))
    keep = rng.random((count, dates)) >= 0.45
    fid, when = np.nonzero(keep)
    times = np.datetime64("2020-01-01T10:30:00") + days.astype("timedelta64[D]")
    whole = pa.table({
        "date": pa.array(times[when], pa.timestamp("s")), "fid": fid, "tile": [archive.TILE] * len(fid),
        "count": valid[keep], "nodata": 100 - valid[keep], "mean": mean[keep], "std": std[keep],
    })  # fmt: skip
    starts = np.searchsorted(fid, np.arange(0, count + _PIECE, _PIECE))

    def tables() -> Iterator[pa.Table]:
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            yield whole.slice(begin, end - begin)

    features = LayerFeatures(known, known.attributes)
    return IndexSeries(
        INDICES["NDVI"], "CM001", features, scale=10_000.0, schema=whole.schema, tables=tables, rows=len(fid), days={}
    )


def made(one: IndexSeries, path: Path) -> float:
    """Write the page; return the seconds that it takes."""
    begin = time.perf_counter()
    path.write_bytes(page_html(content_of([one], RunAccount(), statistics=_STATISTICS)))
    return time.perf_counter() - begin


def prototype(folder: Path) -> Path | None:
    """Write the prototype's page; None where the prototype is not there."""
    if not PROTOTYPE.exists():
        return None
    ours = importlib.resources.files("sen2chain.page") / "browser_libraries"
    for package, files in _PACKAGES.items():
        for name, place in files.items():
            target = folder / "npm" / package / "package" / place
            target.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ours / name).read_bytes())
    path = folder / "prototype.html"
    command = [sys.executable, str(PROTOTYPE), str(folder / "npm"), str(path)]
    # It takes the parcels of `benchmarks.archive`.
    found = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    subprocess.run(command, check=True, capture_output=True, env=found)  # noqa: S603  # the program beside this checkout
    return path


def drawn(browser: Any, path: Path, script: str) -> float:
    """Open a page anew; return the seconds until it is drawn, as `script` reads them from it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_function(f"() => Boolean({script})", polling=50, timeout=60_000)
    seconds = float(page.evaluate(script)) / 1000
    context.close()
    return seconds


_OURS = "performance.getEntriesByName('drawn')[0]?.startTime"
_PROTOTYPES = "/painted (\\d+)/.exec(document.getElementById('log')?.textContent ?? '')?.[1]"


def measure(report: Report, options: argparse.Namespace) -> None:
    """Measure the page; fewer features where the tile is small."""
    features = FEATURES * options.tile // archive.FULL
    dates = DATES if options.tile == archive.FULL else DATES // 10
    folder: Path = options.folder / "page"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    one, path = series(layer(features), dates), folder / "page.html"
    seconds = report.measure("page", {"made": partial(made, one, path)})["made"]
    table = report.table("Page", "One index, mean, std and valid share; first drawing in a headless Chromium.")
    cells = {
        "page": f"{features:,} features x {dates} dates", "MB": f"{path.stat().st_size / 1e6:.1f}",
        "made in, s": f"{seconds:.1f}", "first drawing, s": "not measured", "of the prototype's": "not measured",
    }  # fmt: skip
    if find_spec("playwright") and CHROMIUM.exists():
        from playwright.sync_api import sync_playwright  # noqa: PLC0415  # not everybody who measures has it

        runs: dict[str, tuple[Path, str]] = {"sen2chain": (path, _OURS)}
        other = prototype(folder) if features == FEATURES else None
        if other:
            runs["prototype"] = (other, _PROTOTYPES)
        with sync_playwright() as programs:
            browser = programs.chromium.launch(
                executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
            )
            found = report.measure("drawing", {name: partial(drawn, browser, *run) for name, run in runs.items()})
            browser.close()
        cells["first drawing, s"] = f"{found['sen2chain']:.2f}"
        if "prototype" in found:
            cells["of the prototype's"] = f"{found['sen2chain'] / found['prototype']:.2f}"
    table.row(cells)
