"""The page in a real browser: what it draws, what it answers to, and that it reaches nothing outside."""

from __future__ import annotations

import csv
import io
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from page_examples import rows_of, series_of
from sen2chain import INDICES
from sen2chain.export.delimited import DIALECTS, csv_lines
from sen2chain.legends import legend_of
from sen2chain.page import Chip, Curves, RunAccount, content_of, page_html
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
NASTY = "<script>alert(1)</script>"
COUNT, TINY, NOWHERE, EMPTY = 40, 37, 38, 39
"""Features, and the positions of one of 3 m, one without geometry and one without rows."""


def layer() -> Layer:
    shapes: list[Any] = []
    for fid in range(COUNT):
        x, y = 500_000 + 300 * (fid % 8), 5_000_000 + 300 * (fid // 8)
        shapes.append(shapely.box(x, y, x + 220, y + 220))
    shapes[TINY] = shapely.box(501_800, 5_001_300, 501_803, 5_001_303)
    shapes[NOWHERE] = None
    names = [f"P{fid:03d}" for fid in range(COUNT)]
    names[3] = NASTY
    crops = ["maize", "wheat", "barley", '"rye", late']
    attributes = pd.DataFrame({
        "parcel": names, "crop": [crops[fid % 4] for fid in range(COUNT)], "area_ha": np.arange(COUNT) / 4,
    })  # fmt: skip
    return Layer.of(np.array(shapes, dtype=object), "EPSG:32631", name="fields & <b>", attributes=attributes)


def table(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    fid, step = np.meshgrid(np.arange(COUNT), np.arange(24), indexing="ij")
    keep = (rng.random(fid.shape) < 0.7) & (fid != EMPTY)
    keep[:, 20] = fid[:, 20] != EMPTY  # a clear day
    fid, step = fid[keep], step[keep]
    mean = 1500 + 150 * fid + 1500 * np.sin(step / 4)
    return rows_of(
        fid.tolist(), (15 * step).tolist(), mean.round(1).tolist(), std=rng.gamma(4, 80, len(fid)).round(1),
        median=(mean + 10).round(1), percentile_25=(mean - 200).round(1), percentile_75=(mean + 200).round(1),
        nodata=rng.integers(0, 30, len(fid)),
    )  # fmt: skip


TABLES = {"NDVI": table(1), "NBR": table(2)}
ROWS = {index: rows.to_pandas() for index, rows in TABLES.items()}
DAYS = {"31TEH": np.datetime64("2022-01-01T10:00:00") + np.arange(24) * np.timedelta64(15, "D")}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series = [series_of(rows, layer(), index, id_field="parcel", days=DAYS) for index, rows in TABLES.items()]
    reasons = [
        {"index": index, "mask": "CM001", "acquisitions": 24, "rows": len(TABLES[index]), "why": "",
         "counts": [("cloud", "the cloud mask removed every valid pixel of the feature", 299)]}
        for index in TABLES
    ]  # fmt: skip
    account = RunAccount(reasons, ["A product cannot be read."], ["2 of 40 features are odd."], [("Made", "today")])
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(page_html(content_of(series, account)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # not there in the run with the oldest versions

    if not Path(CHROMIUM).exists():
        pytest.skip(f"the browser {CHROMIUM} is not here; CHROMIUM names another")
    with sync_playwright() as programs:
        found = programs.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page; at the end it has logged no error and asked for nothing but itself."""
    wrong: list[str] = []
    own: list[str] = []
    contexts = []

    def noted(message: ConsoleMessage) -> None:
        if "willReadFrequently" not in message.text and "Multiple readback" not in message.text:  # which tests do
            wrong.append(f"{message.type}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith((*own, "blob:", "data:")):
            wrong.append(request.url)

    def opened(path: Path, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", noted)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", asked)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('policy', event.violatedDirective))"
        )
        own.append(path.as_uri())
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def page(show: Callable[..., Page], file: Path) -> Page:
    return show(file)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("SEN2CHAIN_TEST_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def of_feature(fid: int, index: str = "NDVI") -> pd.DataFrame:
    frame = ROWS[index]
    found: pd.DataFrame = frame[frame["fid"] == fid]
    return found


def chosen(page: Page) -> list[str]:
    return page.locator("#chosen .name").all_text_contents()


def click_map(page: Page, fid: int, **options: Any) -> None:
    x, y = page.evaluate(
        "(p) => { const at = page.map.map.latLngToContainerPoint(page.features.anchors[p]); return [at.x, at.y]; }", fid
    )
    page.locator("#map").click(position={"x": x, "y": y}, **options)


def colour_at(page: Page, fid: int) -> list[int]:
    """Colour of the map's canvas inside a feature."""
    found: list[int] = page.evaluate(
        """(p) => {
          const canvas = document.querySelector("#map canvas"), box = canvas.getBoundingClientRect();
          const map = document.querySelector("#map").getBoundingClientRect();
          const at = page.map.map.latLngToContainerPoint(page.features.anchors[p]), scale = canvas.width / box.width;
          const x = (at.x + map.left - box.left) * scale, y = (at.y + map.top - box.top) * scale;
          return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
        }""",
        fid,
    )
    return found


def test_all_values_arrive(page: Page) -> None:
    assert page.title() == "fields & <b> - NDVI, NBR"
    assert page.locator("h1").text_content() == "fields & <b>"
    assert "40 features" in (page.locator("#subtitle").text_content() or "")
    for index, frame in ROWS.items():
        page.select_option("#index", index)
        page.wait_for_function("(name) => page.rows.output.index === name", arg=index)
        found = page.evaluate(
            """() => Array.from({length: page.features.count}, (_, p) => p).flatMap((p) =>
              Array.from({length: page.rows.count(p)}, (_, i) => page.rows.start[p] + i).map((row) => [
                page.features.fid[p], page.rows.dates[page.rows.when[row]], page.rows.value("mean", row),
                page.rows.value("std", row), page.rows.value("valid", row)]))"""
        )
        seconds = frame["date"].to_numpy().astype("datetime64[s]").astype(int)
        share = 100 * frame["count"] / (frame["count"] + frame["nodata"])
        expected = np.column_stack([frame["fid"], seconds, frame["mean"] / 1e4, frame["std"] / 1e4, share])
        assert np.array(found)[:, :2] == pytest.approx(expected[:, :2], abs=0)
        assert np.array(found)[:, 2:4] == pytest.approx(expected[:, 2:4], abs=0.51e-4)
        assert np.array(found)[:, 4] == pytest.approx(expected[:, 4], abs=0.51)


def test_the_map_has_the_colours_of_the_legend(page: Page, pictures: Path) -> None:
    page.screenshot(path=pictures / "page.png", full_page=True)
    legend = legend_of(INDICES["NDVI"])
    page.locator("#date").fill("20")
    page.wait_for_function("() => page.date === 20")
    for fid in (0, 9, 30):
        mean = of_feature(fid).set_index("date")["mean"][pd.Timestamp("2022-10-28 10:00:00")] / 1e4
        assert colour_at(page, fid) == pytest.approx(legend.rgb(mean).tolist(), abs=6)
    assert "2022-10-28" in (page.locator("#date-text").text_content() or "")
    assert "39 of 40 features with a value" in (page.locator("#date-text").text_content() or "")
    assert page.locator("#legend .ticks span").all_text_contents() == ["\u22120.2", "0.1", "0.4", "0.7", "1"]
    red, green, blue = colour_at(page, EMPTY)
    assert max(red, green, blue) - min(red, green, blue) < 20, "no value is grey"
    page.select_option("#statistic", "valid")
    assert page.locator("#legend .ticks span").last.text_content() == "100 %"


def test_small_features_are_symbols_until_the_map_is_close(page: Page) -> None:
    assert page.evaluate(f"page.map.shapes[{TINY}]._isSmall") is True
    red, green, blue = colour_at(page, TINY)
    assert max(red, green, blue) - min(red, green, blue) > 20, "it has its colour"
    click_map(page, TINY)
    assert chosen(page) == [f"P{TINY:03d}"]
    page.evaluate(f"page.map.map.setView(page.features.anchors[{TINY}], 19, {{animate: false}})")
    assert page.evaluate(f"page.map.shapes[{TINY}]._isSmall") is False


def test_a_click_on_the_map_shows_the_series(page: Page) -> None:
    click_map(page, 12)
    assert chosen(page) == ["P012"]
    rows = of_feature(12)
    assert f"P012: {len(rows)} dates with values of NDVI" in (page.locator("#status").text_content() or "")
    dates, line, low, high = page.evaluate("page.chart.plots[0].data.map((one) => [...one])")
    drawn = {date: values for date, *values in zip(dates, line, low, high, strict=True) if values[0] is not None}
    seconds = rows["date"].to_numpy().astype("datetime64[s]").astype(int).tolist()
    assert list(drawn) == seconds
    for second, mean, std in zip(seconds, rows["mean"] / 1e4, rows["std"] / 1e4, strict=True):
        assert drawn[second] == pytest.approx([mean, mean - std, mean + std], abs=1.1e-4)
    # Acquisitions without a value are marked.
    gaps = page.evaluate("page.chart.gaps[0].map((date) => page.rows.dates[date])")
    assert gaps == sorted(set(DAYS["31TEH"].astype("datetime64[s]").astype(int).tolist()) - set(seconds))
    assert "\u00d7\u00a0acquisition without a value" in (page.locator("#chart-key").text_content() or "")
    # A second one beside it, and away again.
    click_map(page, 20, modifiers=["Control"])
    assert chosen(page) == ["P012", "P020"]
    page.get_by_role("button", name="Take away P012").click()
    assert chosen(page) == ["P020"]
    # The axis is that of the index, whatever the values are.
    scale = page.evaluate("[page.chart.plots[0].scales.y.min, page.chart.plots[0].scales.y.max]")
    assert scale == [-0.2, 1]
    page.get_by_role("button", name="Compare").click()
    for fid in (0, 1, 2, 4, 5, 6):
        click_map(page, fid)
    assert chosen(page) == ["P000", "P001", "P002", "P004", "P005", "P006"]
    assert "P020 is no longer shown" in (page.locator("#status").text_content() or "") or len(chosen(page)) == 6


def test_the_search_finds_by_name_attribute_and_fid(page: Page) -> None:
    search = page.locator("#search")
    search.fill("script>alert")
    assert page.locator("#found li").count() == 1
    assert NASTY in (page.locator("#found li").first.text_content() or "")
    search.press("Enter")
    assert chosen(page) == [NASTY]
    assert page.locator("#table-count").text_content() == "1 of 40 features"
    search.fill("barley")
    assert page.locator("#table-count").text_content() == "10 of 40 features"
    search.press("ArrowDown")
    search.press("Enter")
    assert chosen(page) == ["P006"]
    search.fill("fid 38")
    search.press("Enter")
    assert chosen(page) == ["P038"]  # which is nowhere on the map
    search.fill("nothing like it")
    assert page.locator("#found").text_content() == "No feature has this text."
    search.press("Escape")
    page.locator("#clear-filters").click()
    assert page.locator("#table-count").text_content() == "40 features"


def type_into(page: Page, column: str, text: str) -> None:
    field = page.get_by_label(f"Filter {column}")
    field.fill("")
    field.press_sequentially(text)


def test_the_table_sorts_and_filters(page: Page) -> None:
    type_into(page, "area_ha", "> 9")
    page.wait_for_function("() => document.querySelector('#table-count').textContent === '3 of 40 features'")
    type_into(page, "area_ha", "2..3")
    page.wait_for_function("() => document.querySelector('#table-count').textContent === '5 of 40 features'")
    type_into(page, "crop", "RYE")
    page.wait_for_function("() => document.querySelector('#table-count').textContent === '1 of 40 features'")
    page.locator("#clear-filters").click()
    page.get_by_role("button", name="Sort by latest", exact=True).click()
    page.get_by_role("button", name="Sort by latest", exact=True).click()
    order = page.evaluate("page.table.shown()")
    latest = ROWS["NDVI"].sort_values("date").groupby("fid")["mean"].last()
    assert order[:5] == latest.sort_values(ascending=False).index[:5].tolist()
    assert order[-1] == EMPTY, "no value is last"
    page.locator("#table .tabulator-row").nth(1).click()
    assert chosen(page) == [f"P{order[1]:03d}"]


def test_rows_that_scroll_into_view_show_what_is_chosen_and_the_date_shown(page: Page) -> None:
    page.locator("#date").fill("3")
    page.evaluate("() => page.choose(16)")
    row = page.locator(".tabulator-row.chosen-row")
    assert "P016" in row.inner_text()
    page.locator("#date").fill("20")
    page.evaluate("() => page.table.table.scrollToRow(24, 'top', false)")
    values = of_feature(24).set_index("date")["mean"]
    shown = page.locator(".tabulator-row", has_text="P024").locator("[tabulator-field=now]").inner_text()
    assert shown == f"{values[pd.Timestamp('2022-10-28 10:00:00')] / 1e4:.2f}"
    page.evaluate("() => page.choose(0)")
    assert page.locator(".tabulator-row.chosen-row").count() == 1


def lines_of(page: Page, button: str, folder: Path) -> tuple[str, bytes]:
    with page.expect_download() as found:
        page.locator(button).click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path.name, path.read_bytes()


def test_what_is_shown_can_be_saved(page: Page, tmp_path: Path, pictures: Path) -> None:
    click_map(page, 3)
    click_map(page, 12, modifiers=["Shift"])
    name, content = lines_of(page, "#chart-csv", tmp_path)
    assert name == "fields & _b__NDVI_series.csv"
    assert content.startswith(b"\xef\xbb\xbfdate,fid,name,"), "Excel knows from the mark that it is UTF-8"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    expected = pd.concat([of_feature(3), of_feature(12)])
    assert [row["name"] for row in rows] == [NASTY] * len(of_feature(3)) + ["P012"] * len(of_feature(12))
    assert [row["date"] for row in rows] == expected["date"].astype(str).tolist()
    assert [float(row["mean"]) for row in rows] == pytest.approx((expected["mean"] / 1e4).tolist(), abs=0.51e-4)
    assert [float(row["std"]) for row in rows] == pytest.approx((expected["std"] / 1e4).tolist(), abs=0.51e-4)
    type_into(page, "crop", "rye")
    page.wait_for_function("() => document.querySelector('#table-count').textContent === '10 of 40 features'")
    _, content = lines_of(page, "#table-csv", tmp_path)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row["fid"] for row in rows] == [str(fid) for fid in range(3, 40, 4)]
    assert {row["crop"] for row in rows} == {'"rye", late'}
    last = ROWS["NDVI"].groupby("fid").last()
    for row in rows[:-1]:
        assert float(row["latest mean"]) == pytest.approx(last["mean"][int(row["fid"])] / 1e4, abs=0.51e-4)
        assert row["latest date"] == str(last["date"][int(row["fid"])])
    assert rows[-1]["latest mean"] == ""
    for button, part in (("#map-png", "_mean_"), ("#chart-png", "_series")):
        name, content = lines_of(page, button, tmp_path)
        assert part in name
        assert name.endswith(".png")
        (pictures / f"saved{part}.png").write_bytes(content)
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert width > 800
        assert height > 500
        assert len(content) > 10_000, "not one colour"


FORMULAS = [
    "=1+1", "  @SUM(A1)", "-2+3", "+49 171", "\uff1d1", "a;=1+1", "b\t-1", "-5", "+1,5", "plain = text", "x,=1",
    "two\nlines",
]  # fmt: skip


def test_saved_texts_are_no_formulas_and_large_values_arrive(show: Callable[..., Page], tmp_path: Path) -> None:
    count = len(FORMULAS)
    shapes = [shapely.box(500_000 + 300 * i, 5_000_000, 500_220 + 300 * i, 5_000_220) for i in range(count)]
    attributes = pd.DataFrame({"parcel": FORMULAS, "=cmd": FORMULAS, "height": np.arange(count) - 2.5})
    fields = Layer.of(np.array(shapes, dtype=object), "EPSG:32631", name="fields", attributes=attributes)
    # Some are -32768 steps, which stands for a missing value of 16 bits alone.
    means: list[float | None] = [5.25, 0.5, 4000.0, -3.2768, -32.768, -327.68, *[1.125] * (count - 6)]
    spread = [0.5, None, 4000.0, *[0.125] * (count - 3)]
    days = np.array(["2022-01-01", "2022-01-02"], "datetime64[D]")
    curve = Curves("smoothed", {0: (days, np.array([5.25, 4000.0]))})
    rows = rows_of(list(range(count)), [0] * count, means, std=spread)
    one = series_of(rows, fields, "BAI", id_field="parcel", scale=1.0)
    content = content_of([one], RunAccount(), curves={("BAI", "CM001"): curve})
    path = tmp_path / "large.html"
    path.write_bytes(page_html(content))
    page = show(path)
    found = page.evaluate("Array.from({length: page.features.count}, (_, p) => page.rows.value('mean', p))")
    assert found == pytest.approx(means, abs=0.005)
    found = page.evaluate("Array.from({length: page.features.count}, (_, p) => page.rows.value('std', p))")
    assert found[1] is None
    assert found[2:4] == pytest.approx([4000.0, 0.125], abs=0.005)
    assert np.array(page.evaluate("page.rows.curve(0)"))[:, 1] == pytest.approx([5.25, 4000.0], abs=0.005)
    # The same texts as the package's own files for Excel have.
    lines = lines_of(page, "#table-csv", tmp_path)[1].decode("utf-8-sig")
    names = pa.RecordBatch.from_pydict({"name": FORMULAS})
    ours = csv_lines(names, DIALECTS["excel"]).to_pylist()
    for fid, text in enumerate(ours):
        quoted = text.removesuffix("\r\n")
        assert f"\r\n{fid},{quoted},{quoted},{quoted},{fid - 2.5:g}," in lines
    assert lines.startswith("fid,name,parcel,'=cmd,height,")


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'search'")
    page.keyboard.type("P02")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert chosen(page) == ["P021"]
    page.locator("#clear-filters").focus()
    page.keyboard.press("Enter")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.className + ' ' + (document.activeElement.ariaLabel || '')"))
        if "tabulator-row" in seen[-1]:
            break
    assert any("Sort by crop" in one for one in seen)
    assert any("Filter crop" in one for one in seen)
    assert "tabulator-row" in seen[-1]
    start = page.evaluate("page.table.positionOf(document.activeElement)")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("(p) => page.table.positionOf(document.activeElement) === p", arg=start + 1)
    page.keyboard.press("ArrowDown")
    page.wait_for_function("(p) => page.table.positionOf(document.activeElement) === p", arg=start + 2)
    page.keyboard.press("Enter")
    assert page.evaluate("page.chosen") == [start + 2]
    page.keyboard.press("ArrowDown")
    page.wait_for_function("(p) => page.table.positionOf(document.activeElement) === p", arg=start + 3)
    page.keyboard.press(" ")
    assert page.evaluate("page.chosen") == [start + 2, start + 3]
    # The date, by the slider's own keys.
    page.locator("#date").focus()
    page.keyboard.press("Home")
    assert page.evaluate("page.date") == 0
    page.keyboard.press("ArrowRight")
    assert page.evaluate("page.date") == 1
    assert "features with a value" in (page.locator("#date").get_attribute("aria-valuetext") or "")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_dates_play(page: Page) -> None:
    assert not page.locator("#images").is_visible(), "there are none"
    before = page.evaluate("page.date")
    page.locator("#play").click()
    page.wait_for_function("(date) => page.date !== date", arg=before)
    page.locator("#play").click()
    assert page.locator("#play").text_content() == "Play"
    page.locator("#chart .u-over").click(position={"x": 20, "y": 100})
    assert page.evaluate("page.date") in {0, 1, 2}
    page.locator("#previous").click()
    page.locator("#values summary").click()
    first = page.locator("#value-table tbody tr").first
    first.wait_for()
    line = first.locator("td").all_text_contents()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", line[1])


def test_smoothed_curves_and_images_are_shown_where_there_are_some(
    show: Callable[..., Page], tmp_path: Path, pictures: Path
) -> None:
    days = np.datetime64("2022-01-03") + np.arange(0, 340, 5) * np.timedelta64(1, "D")
    curve = 0.4 + 0.2 * np.sin(np.arange(len(days)) / 12)
    known = series_of(TABLES["NDVI"], layer(), id_field="parcel", days=DAYS)
    jpegs = {None: jpeg((180, 140, 90)), "NDVI": jpeg((30, 120, 60)), "NBR": jpeg((200, 40, 40))}
    dates = DAYS["31TEH"].astype("datetime64[s]").astype(int).tolist()
    chips = [
        Chip(date, index, mask, 0.75, content)
        for date in dates[:15]
        for index, content in jpegs.items()
        for mask in ("CM001", "CM004")
    ]
    content = content_of(
        [known], RunAccount(), curves={("NDVI", "CM001"): Curves("smoothed (whittaker)", {12: (days, curve)})},
        chips={12: chips, 15: []},
    )  # fmt: skip
    path = tmp_path / "more.html"
    path.write_bytes(page_html(content))
    page = show(path)
    assert chosen(page) == ["P012"], "one that has images comes first"
    page.evaluate("() => page.choose(2)")
    assert page.locator("#chips button").all_text_contents() == ["P012", "P015"]
    page.get_by_role("button", name="P012", exact=True).click()
    data = page.evaluate("page.chart.plots[0].data.map((one) => [...one])")
    drawn = {time: value for time, value in zip(data[0], data[-1], strict=True) if value is not None}
    assert np.array(list(drawn), "datetime64[s]").astype("datetime64[D]").tolist() == days.tolist()
    assert list(drawn.values()) == pytest.approx(curve.tolist(), abs=0.51e-4)
    observed = [value for value in data[1] if value is not None]
    assert observed == pytest.approx((of_feature(12)["mean"] / 1e4).tolist(), abs=0.51e-4)
    assert "Line: smoothed (whittaker); points: observations." in (page.locator("#chart-key").text_content() or "")
    # True colour and the index shown, under the mask shown; an image chooses its date.
    assert page.locator(".chip").count() == 15
    assert page.locator(".chip").first.locator("img").count() == 2
    assert page.locator(".chip img").first.evaluate("(image) => image.naturalWidth") == 20
    assert page.locator(".chip").nth(2).locator("span").text_content() == "2022-01-31, 75 % valid"
    page.screenshot(path=pictures / "chips.png", full_page=True)
    page.locator(".chip").nth(2).click()
    assert page.evaluate("page.date") == 2
    page.locator("#chart .u-over").click(position={"x": 20, "y": 100})
    assert page.evaluate("page.date") in {0, 1, 2}, "the nearest date, not the nearest point of the curve"
    page.evaluate("() => page.choose(13)")
    assert page.locator(".chip").count() == 0
    assert "Line:" not in (page.locator("#chart-key").text_content() or "")


def jpeg(colour: tuple[int, int, int]) -> bytes:
    from PIL import Image  # noqa: PLC0415  # as the package does

    content = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(content, "JPEG")
    return content.getvalue()


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_both_forms(scheme: str, show: Callable[..., Page], file: Path, pictures: Path) -> None:
    page = show(file, color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.screenshot(path=pictures / f"{scheme}.png", full_page=True)
    names = ["h1", "#subtitle", "#chart-key", ".tabulator-col-title", ".tabulator-cell", "button", "dt", ".note", "th"]
    colours = page.evaluate(
        """(names) => names.map((name) => {
          let at = document.querySelector(name);
          const colour = getComputedStyle(at).color;
          while (at && /rgba\\(.*, 0\\)/.test(getComputedStyle(at).backgroundColor)) at = at.parentElement;
          return [name, colour, getComputedStyle(at || document.body).backgroundColor];
        })""",
        names,
    )
    for name, colour, ground in colours:
        assert contrast(colour, ground) >= 4.5, name
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_a_phone_scrolls_in_one_direction(show: Callable[..., Page], file: Path, pictures: Path) -> None:
    page = show(file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.screenshot(path=pictures / "phone.png", full_page=True)
    page.locator("#search").fill("P012")
    page.locator("#found li").first.tap()
    assert chosen(page) == ["P012"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_it_prints_light_and_without_controls(show: Callable[..., Page], file: Path, pictures: Path) -> None:
    page = show(file, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert not page.locator("#search").is_visible()
    assert page.locator("#value-table").is_visible()
    content = page.pdf(path=pictures / "print.pdf", format="A4")
    assert content.startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_scripts_of_others_do_not_run(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    got = page.evaluate("""async () => {
      const script = document.createElement("script");
      script.textContent = "window.foreign = true";
      document.body.append(script);
      const image = new Promise((resolve) => {
        const element = new Image();
        element.onload = element.onerror = (event) => resolve(event.type);
        element.src = "http://127.0.0.1:9/x.png";
      });
      const answer = await fetch("http://127.0.0.1:9/").then(() => "answered", () => "refused");
      return [window.foreign === undefined, answer, await image];
    }""")
    assert got == [True, "refused", "error"]
    page.close()


def test_pages_without_values_say_why(show: Callable[..., Page], tmp_path: Path, pictures: Path) -> None:
    nowhere = Layer.of(np.array([None, None]), "EPSG:4326", name="nowhere")
    why = "Most often, the product has no data on the feature."
    account = RunAccount([{"index": "NDVI", "mask": "CM001", "acquisitions": 0, "rows": 0, "why": why, "counts": []}])
    path = tmp_path / "empty.html"
    path.write_bytes(page_html(content_of([series_of(rows_of([], [], []), nowhere)], account)))
    page = show(path)
    assert f"NDVI under CM001 has no value on any date. {why}" in (page.locator("#notes").text_content() or "")
    page.screenshot(path=pictures / "empty.png", full_page=True)
    one = tmp_path / "one.html"
    one.write_bytes(page_html(content_of([series_of(rows_of([0], [3], [5000.0]), layer())], RunAccount())))
    page = show(one)  # one date
    assert page.evaluate("page.rows.coverage[0]") == 1
    assert page.locator("#date").is_disabled()
    page.screenshot(path=pictures / "one.png", full_page=True)
