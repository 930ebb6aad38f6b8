"""Pictures of series show the rows: points, gaps, bands, names, dates and files; no setting of matplotlib changes."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import locale
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.dates import ConciseDateFormatter, num2date
from matplotlib.figure import Figure
from PIL import Image

from far_end import small_disk
from sen2chain import INDICES, TimeSeries, TimeSeriesCompil, demo
from sen2chain.cli import main
from sen2chain.errors import MissingExtraError, OutputError, RequestError, StoreError, UnknownKeywordError
from sen2chain.legends import legend_of
from sen2chain.pictures.drawn_text import MISSING, drawable, fonts_for, shortened
from sen2chain.pictures.figure_files import write_figures
from sen2chain.pictures.figure_settings import default_settings
from sen2chain.pictures.series_figures import (
    PANELS,
    Captions,
    FeatureLine,
    draw_overview,
    overview_figure,
    overview_of,
    panel_figures,
)
from sen2chain.smoothing import Smoother
from sen2chain.timeseries import series_plots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
NDVI = Captions("parcels: NDVI", "mean", "NDVI", -0.2, 1.0)
HOSTILE = [
    "$x_1^{2}$",
    "$broken^",
    "a\nb\tc\x1b[31m",
    "<b>&amp;</b>",
    "x" * 300,
    "日本 сад",
    "\udcff\U0001f600",
    "_a_ %s {0}",
    "",
]


def days(*offsets: int) -> npt.NDArray[np.datetime64]:
    return np.datetime64("2022-03-01T10:30:21", "s") + np.array(offsets) * np.timedelta64(86400, "s")


def line(name: str = "one", values: Iterable[float] = (0.2, np.nan, 0.5, 0.6), **more: Any) -> FeatureLine:
    value = np.array(list(values))
    return FeatureLine(name, days(*range(0, 5 * len(value), 5)), value, **more)


def full_line(name: str = "one") -> FeatureLine:
    value = np.array([0.2, np.nan, 0.5, 0.6])
    return line(
        name, value, quarter=value - 0.1, three_quarters=value + 0.05, std=value / 10, valid=value * 0 + [1, 0, 0.25, 1]
    )


def found(axes: Axes, gid: str) -> list[Any]:
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def drawn_points(artist: Any) -> tuple[list[np.datetime64], list[float]]:
    """Dates to the second, and values, of a line."""
    x, y = (np.asarray(part) for part in artist.get_data(orig=True))
    return x.astype("datetime64[s]").tolist(), y.tolist()


def day_of(number: float) -> dt.datetime:
    found = num2date(number)  # type: ignore[no-untyped-call]
    assert isinstance(found, dt.datetime)
    return found


def segments(collection: LineCollection) -> dict[dt.datetime, tuple[float, float]]:
    """Date -> lower and upper end, of vertical bars."""
    ends = [np.asarray(segment) for segment in collection.get_segments()]
    return {day_of(end[0, 0]).replace(tzinfo=None): (float(end[0, 1]), float(end[1, 1])) for end in ends}


def axes_of(figure: Figure) -> Axes:
    return figure.axes[0]


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text  # noqa: PLC0415

    return [str(text.get_text()) for text in figure.findobj(Text)]


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def empty_axes() -> Axes:
    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.add_subplot()


# --- the texts


def test_texts_are_one_line_and_end_with_their_own_end() -> None:
    assert shortened("  a\nb\tc \x00", 20) == "a b c"
    cut = shortened("field " * 60 + "number 17", 30)
    assert len(cut) <= 30
    assert cut.startswith("field field")
    assert cut.endswith("number 17")
    assert len(shortened("y" * 10_000_000, 40)) == 40


def test_characters_without_a_font_become_boxes() -> None:
    assert drawable("сад é ab") == "сад é ab"
    assert drawable("\udcff") == MISSING
    assert fonts_for(["сад"]) == ["DejaVu Sans"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_drawn_as_text_without_a_warning(name: str) -> None:
    captions = Captions(name, name, name, if_empty=name)
    figure = overview_figure([line(name)], captions)
    assert drawable(name, 22) in texts(figure)
    png(figure)
    png(next(panel_figures([full_line(name)], captions)))
    png(overview_figure([line(name, [np.nan])], captions))


def test_any_name_is_drawn_in_all_formats(tmp_path: Path) -> None:
    captions = Captions("".join(HOSTILE[:-2]), HOSTILE[5], HOSTILE[0])
    figures = [overview_figure([line(name) for name in HOSTILE], captions)]
    figures += panel_figures([full_line(name) for name in HOSTILE], captions)
    files = write_figures(figures, tmp_path / "picture", ["svg", "pdf"])
    assert "$broken^" in files[0].read_text(encoding="utf-8")  # matplotlib writes each text as a comment too


# --- all features over time


def test_points_are_the_values_and_gaps_stay_open() -> None:
    figure = overview_figure([line()], NDVI)
    faint, solid = found(axes_of(figure), "line-0")
    dates, values = drawn_points(solid)
    assert dates == days(0, 5, 10, 15).tolist()
    np.testing.assert_array_equal(values, [0.2, np.nan, 0.5, 0.6])
    assert solid.get_linestyle() == "-"
    assert drawn_points(faint) == (days(0, 10, 15).tolist(), [0.2, 0.5, 0.6])
    assert faint.get_linestyle() != "-"


def test_dates_are_a_time_axis_in_utc_and_values_have_the_usual_range() -> None:
    axes = axes_of(overview_figure([line()], NDVI))
    assert isinstance(axes.xaxis.get_major_formatter(), ConciseDateFormatter)
    first, last = (day_of(end) for end in axes.get_xlim())
    assert first < dt.datetime(2022, 3, 1, 10, 30, 21, tzinfo=dt.UTC)
    assert last < dt.datetime(2022, 3, 19, tzinfo=dt.UTC)
    assert axes.get_ylim() == (-0.2, 1.0)
    low, high = axes_of(overview_figure([line(values=(-0.5, 1.5))], NDVI)).get_ylim()
    assert -0.7 < low < -0.5
    assert 1.5 < high < 1.7


def test_a_day_carries_its_month_and_a_month_its_year() -> None:
    short = overview_figure([line()], NDVI)
    png(short)
    assert any(label.get_text().endswith("Mar") for label in axes_of(short).get_xticklabels())
    years = FeatureLine("one", days(0, 400, 2000), np.array([0.1, 0.2, 0.3]))
    long = overview_figure([years], NDVI)
    png(long)
    assert "2024" in [label.get_text() for label in axes_of(long).get_xticklabels()]


def test_one_date_has_room_on_both_sides() -> None:
    axes = axes_of(overview_figure([line(values=[0.4])], NDVI))
    first, last = (day_of(end).replace(tzinfo=None) for end in axes.get_xlim())
    assert (last - first) == dt.timedelta(days=60)


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    figure = overview_figure([line(f"field {i}", (0.3, 0.5 + i / 1000)) for i in range(12)], NDVI)
    png(figure)
    axes = axes_of(figure)
    boxes = sorted(
        (text.get_window_extent() for text in axes.texts if text.get_text().startswith("field")), key=lambda box: box.y0
    )
    assert len(boxes) == 12
    assert all(lower.y1 <= upper.y0 + 2 for lower, upper in itertools.pairwise(boxes))
    assert boxes[-1].x1 <= figure.bbox.x1


def test_the_distribution_has_the_quantiles_of_numpy() -> None:
    rng = np.random.default_rng(1)
    value = rng.random((40, 30))
    value[rng.random(value.shape) < 0.3] = np.nan
    date = np.broadcast_to(days(*range(30)), value.shape).ravel()
    shuffled = rng.permutation(value.size)
    got = overview_of(date[shuffled], np.repeat(np.arange(40), 30)[shuffled], value.ravel()[shuffled])
    want = np.nanpercentile(value, [10, 25, 50, 75, 90], axis=0)
    np.testing.assert_allclose(got.levels, want)
    assert got.features.tolist() == np.isfinite(value).sum(axis=0).tolist()
    assert got.date.tolist() == days(*range(30)).tolist()
    assert got.days == 1


def test_many_dates_are_drawn_in_steps_of_several_days() -> None:
    date = days(*range(0, 3650, 3))
    got = overview_of(date, np.arange(len(date)) % 7, np.linspace(0, 1, len(date)))
    assert got.days == 15
    assert 200 < len(got.date) <= 300
    assert (got.features[1:-1] == 5).all()
    assert np.all(np.diff(got.levels[2]) > 0)


def test_a_feature_counts_once_in_a_step_of_several_days() -> None:
    date = days(*range(0, 3650, 3))
    got = overview_of(date, np.arange(len(date)) // 5 % 2, np.ones(len(date)))
    assert set(got.features[1:-1].tolist()) <= {1, 2}


def test_dates_of_few_features_stand_apart_from_the_line() -> None:
    fid = np.concatenate([np.arange(50), [3], np.arange(50)])
    date = days(*[0] * 50, 5, *[10] * 50)
    value = np.concatenate([np.full(50, 0.4), [0.9], np.full(50, 0.6)])
    axes = axes_of(overview_figure([], NDVI, overview_of(date, fid, value)))
    assert drawn_points(found(axes, "median")[0]) == (days(0, 10).tolist(), [0.4, 0.6])
    assert drawn_points(found(axes, "few")[0]) == (days(5).tolist(), [0.9])


def test_the_strip_counts_features_and_marks_dates_without_any() -> None:
    overview = overview_of(days(*[0] * 3, 10), np.array([0, 1, 2, 0]), np.array([0.1, 0.2, 0.3, 0.4]))
    figure = overview_figure([line()], NDVI, overview, days(5))
    strip = figure.axes[1]
    bars = segments(next(artist for artist in strip.collections if isinstance(artist, LineCollection)))
    assert [top for _, top in bars.values()] == [3, 1]
    assert drawn_points(found(strip, "empty")[0])[0] == days(5).tolist()
    assert "date without any value" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert strip.get_xlim() == axes_of(figure).get_xlim()
    colours = {artist.get_color() for artist in [*found(axes_of(figure), "median"), *found(axes_of(figure), "line-0")]}
    assert len(colours) == 2  # a chosen feature is not mistaken for the median


def test_axes_that_show_something_keep_it_and_grow() -> None:
    axes = empty_axes()
    draw_overview(axes, [line("a")], NDVI, named=True)
    first = axes.get_xlim()
    later = FeatureLine("a", days(100, 200), np.array([3.0, 5.0]))
    draw_overview(axes, [later], Captions("parcels: SR", value="SR", low=0, high=4), named=True)
    assert axes.get_xlim()[0] == first[0]
    assert axes.get_xlim()[1] > first[1] + 100
    low, high = axes.get_ylim()
    assert low == -0.2
    assert high > 5
    assert len({one.get_color() for one in axes.lines}) == 2
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "a · SR"]
    assert axes.get_ylabel() == "NDVI, SR"
    figure = axes.get_figure(root=True)
    assert figure is not None
    png(figure)


def test_texts_are_light_on_dark_axes() -> None:
    for ground, is_dark in (("black", True), ("white", False), ("none", False)):
        axes = empty_axes()
        axes.set_facecolor(ground)
        draw_overview(axes, [line()], NDVI, named=True)
        assert (sum(to_rgb(axes.yaxis.label.get_color())) > 1.5) is is_dark


def test_nothing_to_see_is_said_in_words() -> None:
    reason = "No feature has a value of NDVI. Most often, clouds cover the feature (4 times)."
    empty = Captions("parcels: NDVI", if_empty=reason)
    nothing = overview_of(days(), np.zeros(0, np.int64), np.zeros(0))
    for figure in (
        overview_figure([], empty, nothing, days(0, 5)), overview_figure([line(values=[np.nan])], empty),
        next(panel_figures([], empty)),
    ):  # fmt: skip
        png(figure)
        assert reason in " ".join(" ".join(texts(figure)).split())


# --- one panel for each feature


def test_a_panel_shows_mean_spread_valid_share_and_dates_without_values() -> None:
    axes = axes_of(next(panel_figures([full_line()], NDVI)))
    dates, values = drawn_points(found(axes, "mean")[0])
    assert dates == days(0, 5, 10, 15).tolist()
    np.testing.assert_array_equal(values, [0.2, np.nan, 0.5, 0.6])
    first = days(0)[0].item()
    for gid, want in (("quartiles", (0.1, 0.25)), ("std", (0.18, 0.22))):
        bars = segments(found(axes, gid)[0])
        assert len(bars) == 3
        assert next(
            ends for date, ends in bars.items() if abs(date - first) < dt.timedelta(seconds=2)
        ) == pytest.approx(want)
    shares = segments(found(axes, "valid")[0])
    whole = found(axes, "strip")[0].get_ydata()[0]
    assert [top / whole for _, top in shares.values()] == pytest.approx([1, 0.25, 1])
    assert drawn_points(found(axes, "without")[0])[0] == days(5).tolist()
    assert axes.get_ylim()[1] == 1.0
    assert all(tick >= -0.2 for tick in axes.get_yticks())  # the strip is not on the axis of values


def test_without_gaps_the_line_joins_the_values_and_marks_nothing() -> None:
    axes = axes_of(next(panel_figures([full_line()], NDVI, gaps=False)))
    assert drawn_points(found(axes, "mean")[0]) == (days(0, 10, 15).tolist(), [0.2, 0.5, 0.6])
    assert not found(axes, "without")


def test_long_series_have_wide_panels_and_bars_instead_of_crosses() -> None:
    value = np.where(np.arange(500) % 3, 0.5, np.nan)
    pages = list(panel_figures([line(f"field {i}", value, valid=value * 2) for i in range(9)], NDVI))
    assert [len(page.axes) for page in pages] == [8, 1]
    axes = axes_of(pages[0])
    assert list(segments(found(axes, "without")[0])) == [date.item() for date in days(*range(0, 2500, 15))]
    png(pages[1])


def test_the_smoothed_curve_is_drawn_and_named() -> None:
    smooth = FeatureLine("one", days(0), np.array([0.1]), smooth_date=days(0, 5), smooth=np.array([0.1, 0.3]))
    figure = next(panel_figures([smooth], NDVI, curve="smoothed (whittaker)"))
    assert drawn_points(found(axes_of(figure), "smooth")[0]) == (days(0, 5).tolist(), [0.1, 0.3])
    assert "smoothed (whittaker)" in texts(figure)
    assert "smoothed (whittaker)" not in texts(next(panel_figures([line()], NDVI, curve="smoothed (whittaker)")))


def test_panels_are_in_order_on_pages_with_the_same_axes(tmp_path: Path) -> None:
    lines = [line(f"field {i}", (0.1, i / 50)) for i in range(PANELS + 2)]
    pages = list(panel_figures(lines, NDVI))
    assert [len(page.axes) for page in pages] == [PANELS, 2]
    titles = [axes.get_title(loc="left") for page in pages for axes in page.axes]
    assert titles == [one.name for one in lines]
    assert len({axes.get_xlim() for page in pages for axes in page.axes}) == 1
    assert len({axes.get_ylim() for page in pages for axes in page.axes}) == 1
    assert f"features {PANELS + 1} to {PANELS + 2} of {PANELS + 2}" in " ".join(texts(pages[1]))
    pages = [page for one in lines[:2] for page in panel_figures([one], NDVI)]
    files = write_figures(pages, tmp_path / "p", ["pdf", "svg"])
    assert [file.name for file in files] == ["p.svg", "p_page2.svg", "p.pdf"]
    assert files[-1].read_bytes().count(b"/Type /Page ") == 2


# --- files and settings


def test_files_are_what_their_endings_say_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_figures([overview_figure([line()], NDVI)], tmp_path / name, ["png", "svg", "pdf"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size == (1100, 616)
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()[:1000]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_settings_of_matplotlib_stay_and_do_not_matter(tmp_path: Path) -> None:
    plain = png(overview_figure([line()], NDVI))
    with mpl.rc_context():
        mpl.style.use("dark_background")
        mpl.rcParams.update({"font.family": "serif", "timezone": "Asia/Tokyo", "figure.dpi": 30, "font.size": 20})
        before = (dict(mpl.rcParams), locale.setlocale(locale.LC_TIME), dict(warnings.__dict__))
        write_figures(panel_figures([full_line()], NDVI), tmp_path / "p", ["png", "svg", "pdf"])
        assert (dict(mpl.rcParams), locale.setlocale(locale.LC_TIME), dict(warnings.__dict__)) == before
        assert png(overview_figure([line()], NDVI)) == plain


def test_files_do_not_depend_on_settings_of_the_user(tmp_path: Path) -> None:
    def written(name: str) -> dict[str, bytes]:
        figures = [overview_figure([line("a_$_%")], NDVI), *panel_figures([full_line("b_$x$_&")], NDVI)]
        write_figures(figures, tmp_path / name, ["png", "pdf"])
        return {file.name.removeprefix(name): file.read_bytes() for file in tmp_path.glob(f"{name}*")}

    plain = written("plain")
    assert len(plain) == 3
    mine: dict[Any, Any] = {
        "text.usetex": True, "savefig.bbox": "tight", "savefig.pad_inches": 2.0, "savefig.transparent": True,
        "figure.autolayout": True, "axes.grid": True, "axes.grid.axis": "both", "xtick.top": True, "pdf.fonttype": 42,
        "path.sketch": (1.0, 100.0, 2.0), "lines.solid_capstyle": "round", "axes.unicode_minus": False,
    }  # fmt: skip
    with mpl.rc_context(mine):  # without LaTeX here, a text that is given to it raises
        before = dict(mpl.rcParams)
        assert written("mine") == plain
        assert dict(mpl.rcParams) == before


def test_settings_that_another_thread_changes_meanwhile_stay() -> None:
    with mpl.rc_context({"font.size": 20.0, "axes.grid": True}):
        with default_settings():
            assert mpl.rcParams["font.size"] == 10
            mpl.rcParams["font.size"] = 7.0
        assert mpl.rcParams["font.size"] == 7
        assert mpl.rcParams["axes.grid"]
        with pytest.raises(KeyError), default_settings():
            dict[str, int]()["an error of drawing"]
        assert mpl.rcParams["axes.grid"]


def test_names_in_a_notebook_are_data_under_tex_too() -> None:
    with mpl.rc_context({"text.usetex": True}):
        axes = empty_axes()
        draw_overview(axes, [line("a_$_%")], NDVI, named=True)
    legend = axes.get_legend()
    assert legend is not None
    named = [*legend.get_texts(), axes.title, axes._left_title, axes.yaxis.label]  # type: ignore[attr-defined]
    written = [text for text in named if text.get_text()]
    assert [text.get_text() for text in written] == ["a_$_%", "parcels: NDVI", "NDVI"]
    assert not any(text.get_usetex() or text.get_parse_math() for text in written)


def test_a_wrong_backend_of_the_environment_is_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "draw.py"
    script.write_text(
        "from sen2chain.errors import RequestError\n"
        "from sen2chain.pictures.figure_files import need_matplotlib\n"
        "try:\n    need_matplotlib()\nexcept RequestError as error:\n    print(error)\n",
        encoding="utf-8",
    )
    told = subprocess.run(  # noqa: S603  # our own script
        [sys.executable, str(script)], env={**os.environ, "MPLBACKEND": "teh window"}, capture_output=True, check=True
    )
    assert told.stdout.decode().strip() == (
        "The environment variable MPLBACKEND is 'teh window', which matplotlib does not know; unset it, or set it to "
        "agg."
    )


def test_a_notebook_without_its_backend_is_told_how_to_go_on(
    series: TimeSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(RequestError, match=r"cannot show figures here .*MPLBACKEND to agg, or pass ax="):
        series.plot()


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_full_disk_is_told_and_the_former_picture_stays(kind: str, tmp_path: Path) -> None:
    figures = [overview_figure([line(f"field {number}")], NDVI) for number in range(3)]
    with small_disk(tmp_path / "disk", "256k") as disk:
        former = disk / f"p.{kind}"
        former.write_bytes(b"former")
        (disk / "others").write_bytes(bytes(256 * 1024 - 8192))  # two pages of 4 KiB are left, one is the former file's
        with pytest.raises(OutputError, match=rf"No room is left on the disk for .*p\.{kind}; free some"):
            write_figures(figures, disk / "p", [kind])
        assert former.read_bytes() == b"former"
        assert {file.name for file in disk.iterdir()} == {f"p.{kind}", "others"}


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_an_error_of_drawing_is_not_taken_for_one_of_writing(kind: str, tmp_path: Path) -> None:
    def pages() -> Iterator[Figure]:
        yield overview_figure([line()], NDVI)
        raise FileNotFoundError(2, "No such file", "rows.parquet")

    with pytest.raises(FileNotFoundError, match=r"rows\.parquet"):
        write_figures(pages(), tmp_path / "p", [kind])
    assert {file.name for file in tmp_path.iterdir()} <= {f"p.{kind}"}
    assert kind != "pdf" or not list(tmp_path.iterdir())


def test_figures_are_drawn_in_threads() -> None:
    def draw(number: int) -> bytes:
        return png(next(panel_figures([full_line(f"field {number % 3}")], NDVI)))

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, range(9)))
    assert drawn == [drawn[number % 3] for number in range(9)]
    assert len(set(drawn)) == 3


# --- time series


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=100, parcels=13, bands=("B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("pictures"), scene)


def extract(archive: demo.DemoArchive, layer: Any = None, **more: Any) -> TimeSeries:
    asked: dict[str, Any] = {"indices": ["NDVI"], "cm_version": "CM004", "iterations": 1, "library": archive.library}
    return TimeSeries(archive.layer if layer is None else layer, **{**asked, "quiet": True, **more})


@pytest.fixture(scope="module")
def series(archive: demo.DemoArchive) -> TimeSeries:
    return extract(archive, field_names="parcel").run()


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Figure]]:
    """Figures by the name of their file, instead of files."""
    kept: dict[str, list[Figure]] = {}

    def keep(figures: Iterator[Figure], path: Path, formats: Iterable[str]) -> list[Path]:
        assert list(formats) == ["png"]
        kept[path.name] = list(figures)
        return [path]

    monkeypatch.setattr(series_plots, "write_figures", keep)
    return kept


def test_plot_draws_the_rows_in_index_units(series: TimeSeries) -> None:
    axes = empty_axes()
    assert series.plot(features=[3, "P000005"], ax=axes) is axes
    rows = series.data["NDVI"]
    for place, fid in enumerate((3, 5)):
        own = rows[rows["fid"] == fid]
        faint, solid = found(axes, f"line-{place}")
        dates, values = drawn_points(faint)
        assert dates == own.index.to_numpy().astype("datetime64[s]").tolist()
        assert values == pytest.approx((own["mean"] / 10000).tolist())
        # Acquisitions without a row are gaps of the solid line.
        report = series.report
        tiles = report[report["tile"].isin(own["tile"]) & report["error"].eq("")]
        every = np.unique(tiles["date"].to_numpy().astype("datetime64[s]")).tolist()
        dates, values = drawn_points(solid)
        assert dates == every
        assert np.isnan(values).sum() == len(every) - len(own) > 0
    legend = axes.get_legend()
    assert legend is not None
    assert "P000003" in [text.get_text() for text in legend.get_texts()]
    assert axes.get_ylim()[0] == legend_of(INDICES["NDVI"]).low


@pytest.mark.parametrize(
    ("stat", "factor"), [("std", 10000), ("percentile_75", 10000), ("variance", 1e8), ("count", 1)]
)
def test_columns_are_scaled_by_their_unit(archive: demo.DemoArchive, stat: str, factor: float) -> None:
    for units, scale in (("scaled", factor), ("index", 1)):
        ts = extract(archive, stats=["variance"], units=units, date_max="2021-12-31")
        axes = ts.plot([3], stat, empty_axes())
        rows = ts.data["NDVI"]
        want = rows.loc[rows["fid"] == 3, stat] / scale
        assert drawn_points(found(axes, "line-0")[0])[1] == pytest.approx(want.tolist())


def test_plot_shows_the_distribution_of_all_under_chosen_features(series: TimeSeries) -> None:
    axes = series.plot(features=[2], ax=empty_axes())
    rows = series.data["NDVI"]
    by_date = rows.groupby(rows.index.to_numpy().astype("datetime64[D]"))["mean"]
    dates, values = drawn_points(found(axes, "median")[0])
    few = by_date.count() < 0.1 * by_date.count().max()
    assert values == pytest.approx((by_date.median()[~few] / 10000).tolist())
    assert (
        np.array(dates).astype("datetime64[D]").tolist() == pd.DatetimeIndex(by_date.median()[~few].index).date.tolist()
    )
    assert len(found(axes, "line-0")) == 2
    assert not found(series.plot(ax=empty_axes()), "line-0")


def test_plot_in_a_notebook_makes_a_figure_of_its_own(series: TimeSeries) -> None:
    with mpl.rc_context({"backend": "agg"}):
        import matplotlib.pyplot as plt  # noqa: PLC0415  # as a notebook does

        axes = series.plot(features=[1])
        assert axes.figure in [plt.figure(number) for number in plt.get_fignums()]
        plt.close("all")


def test_names_that_are_unknown_are_refused(series: TimeSeries, tmp_path: Path) -> None:
    three: Any = 3
    for call, part in (
        (lambda: series.plot(["P9"]), "P9"),
        (lambda: series.plot(stat="tile"), "tile"),
        (lambda: series.plot(index="NBR"), "NBR"),
        (lambda: series.plot_global(tmp_path, formats="jpg"), "jpg"),
        (lambda: series.plot_global(tmp_path, formats=[]), "format"),
        (lambda: series.plot_details(tmp_path, smoothing="lowess"), "lowess"),
        (lambda: series.plot_details(tmp_path, smoothing=three), "smoothing is 3"),
        (series.plot_global, "folder"),
    ):
        with pytest.raises((RequestError, OutputError), match=part):
            call()
    with pytest.raises(UnknownKeywordError, match="did you mean formats"):
        series.plot_global(tmp_path, format="png")  # type: ignore[call-arg]
    assert not list(tmp_path.rglob("*.*"))


def test_several_indices_or_masks_are_chosen_by_name(archive: demo.DemoArchive) -> None:
    ts = extract(archive, indices=["NDVI", "S=B08-B04"], masks=["none", "CM004"], date_max="2021-12-31")
    with pytest.raises(RequestError, match="index has to be chosen"):
        ts.plot(mask="none")
    with pytest.raises(RequestError, match="mask has to be chosen"):
        ts.plot(index="S")
    axes = ts.plot(index="s", mask="cm004", ax=empty_axes())
    assert axes.get_ylabel() == "S"
    values = ts.data["S"].query("mask != 'none'")["mean"] / 10000
    low, high = axes.get_ylim()
    assert low <= values.min()
    assert high - low < 4 * (values.max() - values.min())  # a range that fits an index of the user's


def test_documented_names_of_files(series: TimeSeries, archive: demo.DemoArchive, tmp_path: Path) -> None:
    (file,) = series.plot_global(tmp_path)
    assert file == tmp_path / "parcels" / "parcels_plot-global_NDVI_None_None.png"
    with Image.open(file) as image:
        assert image.size[0] == 1100
    files = series.plot_details(tmp_path, features=[0, 1], formats=["png", "pdf"])
    assert [file.name for file in files] == [
        "parcels_plot-details_NDVI_None_None.png", "parcels_plot-details_NDVI_None_None.pdf",
        "parcels_plot-details_NDVI-nonan_None_None.png", "parcels_plot-details_NDVI-nonan_None_None.pdf",
    ]  # fmt: skip
    masked = extract(archive, masks=["none", CM004], date_min="2021-10-01", date_max="2021-10-31")
    names = [file.name for file in masked.plot_global(tmp_path)]
    period = "2021-10-01_2021-10-31"
    assert names == [f"parcels_plot-global_NDVI_{period}_{mask.name}.png" for mask in masked.request.masks]


def test_a_panel_for_each_feature_shows_its_rows(
    series: TimeSeries, tmp_path: Path, pages: dict[str, list[Figure]]
) -> None:
    series.plot_details(tmp_path, features=range(6), smoothing=Smoother(window_length=5))
    panels = [axes for page in pages["parcels_plot-details_NDVI_None_None"] for axes in page.axes]
    joined = [axes for page in pages["parcels_plot-details_NDVI-nonan_None_None"] for axes in page.axes]
    assert len(panels) == len(joined) == 6
    rows = series.data["NDVI"]
    curves = Smoother(window_length=5)(rows, "NDVI").series
    for fid, (axes, other) in enumerate(zip(panels, joined, strict=True)):
        own = rows[rows["fid"] == fid]
        assert axes.get_title(loc="left") == f"P{fid:06}"
        dates, values = drawn_points(found(other, "mean")[0])
        assert dates == own.index.to_numpy().astype("datetime64[s]").tolist()
        assert values == pytest.approx((own["mean"] / 10000).tolist())
        known = np.isfinite(found(axes, "mean")[0].get_ydata())
        assert known.sum() == len(own)
        if len(own):
            bars = segments(found(axes, "quartiles")[0])
            assert [low for low, _ in bars.values()] == pytest.approx((own["percentile_25"] / 10000).tolist())
            whole = found(axes, "strip")[0].get_ydata()[0]
            shares = own["count"] / (own["count"] + own["nodata"])
            assert [top / whole for _, top in segments(found(axes, "valid")[0]).values()] == pytest.approx(
                shares.tolist()
            )
        curve = curves[(curves["fid"] == fid) & curves["smoothed"].notna()]
        got = found(axes, "smooth")
        assert bool(got) == bool(len(curve))
        if got:
            assert drawn_points(got[0])[1] == pytest.approx(curve["smoothed"].tolist())


def test_an_index_without_any_row_gets_a_picture_that_says_why(
    archive: demo.DemoArchive, tmp_path: Path, pages: Any
) -> None:
    ts = extract(archive, min_valid=1.0, date_min="2022-05-28", date_max="2022-05-28")  # all cloud
    ts.plot_global(tmp_path)
    ts.plot_details(tmp_path)
    assert len(pages) == 3
    for page in pages.values():
        assert "No feature has a value of NDVI" in " ".join(" ".join(texts(page[0])).split())
        assert "cloud" in " ".join(texts(page[0]))
    extract(archive, date_min="2031-01-01").plot_global(tmp_path)
    said = " ".join(" ".join(texts(pages["parcels_plot-global_NDVI_2031-01-01_None"][0])).split())
    assert "no product of" in said


def test_large_layers_show_the_first_features_and_say_so(
    archive: demo.DemoArchive, tmp_path: Path, pages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_plots, "MOST_PANELS", 5)
    monkeypatch.setattr(series_plots, "_MOST_CHOSEN", 6)
    monkeypatch.setattr(series_plots, "_MOST_VALUES", 20)
    ts = extract(archive, date_max="2021-12-31")
    ts.plot_details(tmp_path)
    assert len(pages["parcels_plot-details_NDVI_None_2021-12-31"][0].axes) == 5
    assert any("the first 5 of 13 features" in note for note in ts.notes)
    with pytest.raises(RequestError, match="at most 6 features, and 7 are chosen"):
        ts.plot_details(tmp_path, features=range(7))
    ts.plot_global(tmp_path)
    assert any("th feature is counted" in text for text in texts(pages["parcels_plot-global_NDVI_None_2021-12-31"][0]))


def test_odd_names_and_empty_rows_of_a_layer(archive: demo.DemoArchive, tmp_path: Path) -> None:
    names = [name.replace("\udcff", "?") for name in HOSTILE]  # pandas takes no broken text
    layer = gpd.read_file(archive.layer).head(len(names)).assign(label=names)
    layer.loc[len(names) - 1, "label"] = None
    asked = {"id_field": "label", "keep_empty": True, "date_min": "2022-05-01", "date_max": "2022-06-30"}
    ts = extract(archive, layer, name="f$_", **asked)
    files = [*ts.plot_global(tmp_path), *ts.plot_details(tmp_path, formats="svg")]
    assert all(file.stat().st_size > 5000 for file in files)
    empty = ts.data["NDVI"]["mean"].isna()
    axes = ts.plot(ax=empty_axes())
    points = sum(len(drawn_points(found(axes, f"line-{place}")[0])[1]) for place in range(len(names)))
    assert points == (~empty).sum() < len(empty)


def test_names_too_long_for_a_file_are_refused_before_the_run(archive: demo.DemoArchive, tmp_path: Path) -> None:
    layer = gpd.read_file(archive.layer)
    ts = extract(archive, layer, name="n" * 215)
    with pytest.raises(RequestError, match="too long for a file"):
        ts.plot_details(tmp_path)
    assert repr(ts).endswith("not run)")


def test_a_missing_matplotlib_is_one_sentence_before_the_run(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts = extract(archive)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (ts.plot, lambda: ts.plot_global(tmp_path), lambda: ts.plot_details(tmp_path)):
        with pytest.raises(MissingExtraError, match=r"need matplotlib.*pip install.*sen2chain\[plot\]"):
            call()
    result = CliRunner().invoke(
        main, ["extract", str(archive.layer), "--library", str(archive.library), "--plot", "--out", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "matplotlib" in result.output
    assert not list(tmp_path.rglob("*.csv"))


def test_the_command_draws_both_pictures(archive: demo.DemoArchive, tmp_path: Path) -> None:
    asked = ["--index", "NDVI", "--mask", "CM004", "--to", "2021-12-31", "--out", str(tmp_path), "--plot"]
    result = CliRunner().invoke(main, ["extract", str(archive.layer), "--library", str(archive.library), *asked])
    assert result.exit_code == 0, result.output
    names = sorted(file.name for file in (tmp_path / "parcels").glob("*.png"))
    kinds = ("plot-details_NDVI-nonan", "plot-details_NDVI", "plot-global_NDVI")
    assert names == [f"parcels_{kind}_None_2021-12-31.png" for kind in kinds]
    assert names[2] in result.output


def test_pictures_of_a_folder_lie_beside_its_tables_and_show_their_curves(
    archive: demo.DemoArchive, tmp_path: Path, pages: dict[str, list[Figure]]
) -> None:
    asked: dict[str, Any] = {"library": archive.library, "extraction": tmp_path / "EXTRACTION", "quiet": True}
    ts = TimeSeriesCompil(archive.layer, ["NDVI"], **asked)
    ts.extract_data()
    for method in ("savgol", "whittaker", "original"):
        ts.compile_data(alldata=True, smoothing=method, window_length=5, reset_smoothing=True)
        (place,) = ts.plot_global()
        assert place.parent == ts.folder / "compiled_data" / "NDVI" / CM004 / "all_data"
        ts.plot_details(features=range(5))
        (page,) = pages["parcels_plot-details_NDVI_None_None"]
        assert f"smoothed ({method})" in texts(page)
        file = max(place.parent.glob("*_smooth.csv"), key=lambda path: path.stat().st_mtime_ns)
        smoothed = pd.read_csv(file, parse_dates=["date"]).dropna(subset="smoothed")
        assert len(smoothed) > 50
        for fid, axes in enumerate(page.axes):
            own = smoothed[smoothed["fid"] == fid]
            if len(own):
                dates, values = drawn_points(found(axes, "smooth")[0])
                assert values == pytest.approx(own["smoothed"].tolist())
                assert dates == own["date"].to_numpy("datetime64[s]").tolist()
    ts.plot_details(features=[0], smoothing=False)
    assert "smoothed (original)" not in texts(pages["parcels_plot-details_NDVI_None_None"][0])
    file.write_bytes(b"date;fid\n1;2\n")
    with pytest.raises(StoreError, match="cannot be read"):
        ts.plot_details()


def test_compiled_tables_and_pictures_of_the_indices_that_were_extracted(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    asked = [str(archive.layer), "--library", str(archive.library), "--extraction", str(tmp_path)]
    result = CliRunner().invoke(main, ["update", *asked, "--index", "NDVI", "--to", "2021-12-31"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["compile", *asked, "--all", "--plot"])
    assert result.exit_code == 0, result.output
    (folder,) = tmp_path.glob("*/compiled_data")
    assert [path.name for path in folder.iterdir()] == ["NDVI"]
    names = [path.name for path in (folder / "NDVI" / CM004 / "all_data").glob("*.png")]
    assert len(names) == 3
    assert all(name in result.output for name in names)
