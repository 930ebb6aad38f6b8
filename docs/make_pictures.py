"""Make the pictures of the README and of the documentation again, from the archive of `make demo`.

    .venv/bin/python docs/make_pictures.py            # all
    .venv/bin/python docs/make_pictures.py plot-global smoothing

Each function that is decorated with `picture` makes one file in docs/images. Files are the same each time with the same
versions of the libraries. One larger than 150 kB is refused, since it stays in the repository for good.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sen2chain import Library, TimeSeries, TimeSeriesCompil, demo

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
LARGEST = 150_000
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
WIDEST = 1300

PICTURES: dict[str, Callable[[Path, Path], Path]] = {}
"""Name of the picture's file without ``.png`` -> the function that makes it."""


def picture(name: str) -> Callable[[Callable[[Path, Path], Path]], Callable[[Path, Path], Path]]:
    """Enter a function that takes the folder of the demo's archive and a folder for files, and returns an image."""

    def enter(function: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        PICTURES[name] = function
        return function

    return enter


@picture("plot-global")
def plot_global(archive: Path, folder: Path) -> Path:
    """All parcels over time, with three of them on top."""
    return _series(archive).plot_global(folder, features=[1, 3, 5])[0]


@picture("plot-few")
def plot_few(archive: Path, folder: Path) -> Path:
    """Few parcels, each with a line."""
    import geopandas as gpd  # noqa: PLC0415

    layer = gpd.read_file(archive / "parcels.gpkg").head(6)
    return _series(archive, layer, name="parcels").plot_global(folder)[0]


@picture("plot-details")
def plot_details(archive: Path, folder: Path) -> Path:
    """Six parcels, each with a panel."""
    return _series(archive).plot_details(folder, features=range(6))[0]


@picture("plot-compiled")
def plot_compiled(archive: Path, folder: Path) -> Path:
    """Three parcels, each with a panel and the smoothed curve of the compiled files."""
    ts = TimeSeriesCompil(
        archive / "parcels.gpkg", ["NDVI"], library=archive / "sen2chain_data", extraction=folder / "EXTRACTION",
        field_names=["parcel", "crop"], quiet=True,
    )  # fmt: skip
    ts.extract_data()
    ts.compile_data(alldata=True, smoothing="whittaker", window_length=7)
    return ts.plot_details(folder, features=[2, 7, 14])[0]


@picture("quicklooks-colour")
def quicklooks_colour(archive: Path, folder: Path) -> Path:
    """Show the contact sheet of one parcel in true colour."""
    return _series(archive).extract_ql(folder, features=[7])[0]


@picture("quicklooks-ndvi")
def quicklooks_ndvi(archive: Path, folder: Path) -> Path:
    """Show the contact sheet of one parcel in NDVI."""
    return _series(archive).extract_ql(folder, features=[7])[1]


@picture("quicklook-product")
def quicklook_product(archive: Path, folder: Path) -> Path:
    """Make the quicklook of a product with clouds and the edge of a swath."""
    made = Library(folder / "library", safe=archive / "sen2chain_data" / "data" / "L2A").produce(
        indices=["NDVI"], masks=["CM004"], quicklooks=True, tiles=["31TGJ"], date_min="2022-01-23",
        date_max="2022-01-23", quiet=True,
    )  # fmt: skip
    small = folder / "quicklook.png"
    with Image.open(next(file for file in made.files if file.name.endswith("_NDVI_QL.jpg"))) as opened:
        opened.resize((640, round(opened.height * 640 / opened.width)), Image.Resampling.LANCZOS).save(small)
    return small


@picture("smoothing")
def smoothing(archive: Path, folder: Path) -> Path:  # noqa: ARG001
    """Curves of the worked example on the page about smoothing."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    from sen2chain.smoothing import Smoother  # noqa: PLC0415

    page: dict[str, object] = {}
    text = (ROOT / "docs" / "smoothing.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("found =")[0]
    exec(example, page)  # noqa: S102  # our own documentation
    figure = Figure(figsize=(9.5, 4.6))
    axes = figure.add_axes((0.07, 0.12, 0.91, 0.85))
    looks = {
        "savgol": (Smoother(), "#0072B2", "-"),
        "savgol without outliers": (Smoother(use_outliers=False), "#56B4E9", "--"),
        "whittaker": (Smoother("whittaker"), "#D55E00", "-."),
        "harmonic": (Smoother("harmonic"), "#009E73", ":"),
    }
    for name, (smoother, colour, line) in looks.items():
        series = smoother(page["field"], "NDVI").series  # type: ignore[arg-type]
        axes.plot(series["date"], series["smoothed"], color=colour, linestyle=line, linewidth=2, label=name)
    good = series["outlier"] != 1
    axes.plot(series["date"][good], series["observed"][good], "o", color="#1f2937", markersize=5, label="observation")
    axes.plot(series["date"][~good], series["observed"][~good], "x", color="#1f2937", markersize=8, label="outlier")
    axes.set_ylabel("NDVI")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color="#e5e7eb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_xlabel("2022")
    file = folder / "smoothing.png"
    figure.savefig(file, dpi=110)
    return file


@picture("page")
def page(archive: Path, folder: Path) -> Path:
    """Show the page of a run in a browser, with two parcels chosen and another date than the last."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    ts = TimeSeries(
        archive / "parcels.gpkg", ["NDVI", "NBR"], cm_version="CM004", iterations=1, id_field="parcel",
        library=archive / "sen2chain_data", quiet=True,
    )  # fmt: skip
    made, file = ts.to_html(folder), folder / "page.png"
    with sync_playwright() as programs:
        browser = programs.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        shown.goto(made.as_uri())
        shown.wait_for_selector("html[data-ready=true]")
        shown.evaluate("() => { page.choose(2); page.choose(13, true); page.setDate(7); scrollTo(0, 0); }")
        shown.wait_for_timeout(500)
        shown.screenshot(path=file)
        browser.close()
    return file


def _series(archive: Path, layer: object = None, **more: str) -> TimeSeries:
    """Return the series of the demo's parcels."""
    return TimeSeries(
        archive / "parcels.gpkg" if layer is None else layer,  # type: ignore[arg-type]
        indices=["NDVI"], cm_version="CM004", iterations=1, field_names=["parcel", "crop"],
        library=archive / "sen2chain_data", quiet=True, **more,
    )  # fmt: skip


def save(image: Path, file: Path) -> None:
    """Save an image without anything but its pixels; with 256 colours where all would take too much room."""
    with Image.open(image) as opened:
        pixels = opened.convert("RGB")
    if pixels.width > WIDEST:
        size = (WIDEST, round(pixels.height * WIDEST / pixels.width))
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    pixels.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        pixels.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        message = f"{file} has {file.stat().st_size} bytes, more than {LARGEST}; show less."
        raise SystemExit(message)


def main() -> None:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(PICTURES)}")
    parser.add_argument("--archive", type=Path, default=ROOT / "demo-archive", help="the folder of make demo")
    options = parser.parse_args()
    unknown = set(options.names) - set(PICTURES)
    if unknown:
        parser.error(f"no picture is named {', '.join(sorted(unknown))}")
    if not options.archive.is_dir():
        demo.build(options.archive)
    IMAGES.mkdir(exist_ok=True)
    for name in options.names or PICTURES:
        folder = Path(tempfile.mkdtemp(prefix="sen2chain-pictures-"))
        try:
            save(PICTURES[name](options.archive, folder), IMAGES / f"{name}.png")
        finally:
            shutil.rmtree(folder)
        print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
