from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from page_examples import NASTY, Parts, rows_of, series_of, shown, squares, unpacked
from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.cli import main
from sen2chain.errors import EmptyResultError, LibraryError, OutputError, RequestError, UnknownNameError
from sen2chain.page import LARGEST, Curves, RunAccount, content_of, page_html, page_rows
from sen2chain.page.encoding import MISSING, packed, packed_json, positions, quantised, script_json
from sen2chain.page.page_file import LIBRARIES, SCRIPTS, STYLES
from sen2chain.page.page_rows import PageRows
from sen2chain.page.page_shapes import NOWHERE, packed_shapes
from sen2chain.smoothing import Smoother
from sen2chain.vectors import Layer

# ------------------------------------------------------------------------------------------------------- encoding


@given(st.lists(st.integers(-(2**15), 2**15 - 1)), st.sampled_from(["int16", "int32", "uint8", "uint16", "uint32"]))
def test_packed_arrays_come_back(numbers: list[int], kind: str) -> None:
    array = np.array(numbers, np.int64).astype(kind)
    assert np.array_equal(unpacked(packed(array)), array)


def test_values_are_rounded_to_steps_that_fit() -> None:
    plain = quantised([0.72345, -0.2, np.nan, np.inf, 3.2767])
    assert plain.per_unit == 10_000
    assert plain.numbers.dtype == np.int16
    assert plain.numbers.tolist() == [7234, -2000, MISSING["int16"], MISSING["int16"], 32767]
    large = quantised([41.5, 20.001, -300.0], scale=100)  # as a simple ratio has
    assert large.per_unit == 100
    assert large.numbers.dtype == np.int16
    assert large.numbers.tolist() == [4150, 2000, -30000]


@pytest.mark.parametrize("scale", [1, 100, 10_000])
def test_one_large_value_does_not_round_the_others_away(scale: int) -> None:
    """A burned area index is 0 to 10 for most fields, and thousands for one that burned."""
    usual = np.random.default_rng(0).gamma(2.0, 2.5, 500)
    values = np.append(usual, [np.nan, 4000.0, -3.2768])
    found = quantised(values, scale)
    assert found.numbers.dtype == np.int32
    known = unpacked(packed(found.numbers)) / found.per_unit
    assert found.numbers[500] == MISSING["int32"]
    assert known[:500] == pytest.approx(usual, abs=max(usual) / 1000)
    assert known[:500] == pytest.approx(usual, abs=0.51 / scale)
    assert np.median(np.abs(known[:500] / usual - 1)) < 1e-3
    assert known[[501, 502]] == pytest.approx([4000.0, -3.2768], abs=0.5 / found.per_unit + 1e-9)
    assert found.per_unit <= 10_000


def test_numbers_have_32_bits_only_where_it_matters() -> None:
    assert quantised([2000.4, 3100.2, 1500.0], scale=1).numbers.dtype == np.int16  # all of one size
    two_kinds = np.r_[np.linspace(1, 9, 45), np.linspace(3000, 4000, 55)]
    assert quantised(two_kinds, scale=1).per_unit >= 10, "the smaller half is not whole numbers"
    assert quantised([0.012345, 0.000123], scale=1_000_000).per_unit == 1_000_000
    assert quantised([]).numbers.dtype == quantised([0.0, np.nan]).numbers.dtype == np.int16
    huge = quantised([1e12, 1.0])
    assert huge.numbers[0] / huge.per_unit == pytest.approx(1e12)


def test_positions_do_not_wrap_around() -> None:
    assert positions(np.array([], np.int64)).dtype == np.uint16
    assert positions(np.array([65_535])).dtype == np.uint16
    assert unpacked(packed(positions(np.array([3, 65_536])))).tolist() == [3, 65_536]


def test_texts_of_any_kind_come_back() -> None:
    assert unpacked(packed_json({"a": [1, None, "<é>", "\ud83d"]})) == {"a": [1, None, "<é>", "?"]}
    assert "<" not in script_json(NASTY)
    assert json.loads(script_json(NASTY[:5])) == NASTY[:5]


def outlines(item: dict[str, Any]) -> list[list[list[list[tuple[int, int]]]]]:
    counts = {name: unpacked(item[name]) for name in ("parts", "rings", "points")}
    points = iter(zip(unpacked(item["x"]).tolist(), unpacked(item["y"]).tolist(), strict=True))
    rings = iter([[next(points) for _ in range(count)] for count in counts["points"]])
    parts = iter([[next(rings) for _ in range(count)] for count in counts["rings"]])
    found = [[next(parts) for _ in range(count)] for count in counts["parts"]]
    assert not list(points)
    return found


def test_outlines_come_back_with_holes_parts_and_features_without_place() -> None:
    ring = shapely.Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
    several = shapely.MultiPolygon([shapely.box(10, 10, 11, 11), shapely.box(12, 10, 13, 11)])
    line = shapely.LineString([(5, 5), (6, 6)])
    item = packed_shapes(np.array([ring, None, several, shapely.Polygon(), line]), "EPSG:4326")
    found = outlines(item)
    assert [len(parts) for parts in found] == [1, 0, 2, 0, 0]
    assert [len(points) for points in found[0][0]] == [4, 4]  # the closing point is left out
    hole = shapely.Polygon(found[0][0][0], [found[0][0][1]])
    assert hole.area == pytest.approx(15e12)
    assert shapely.MultiPolygon([shapely.Polygon(part[0]) for part in found[2]]).bounds == (10e6, 10e6, 13e6, 11e6)
    anchors = unpacked(item["anchorX"]).tolist(), unpacked(item["anchorY"]).tolist()
    assert [x == NOWHERE for x in anchors[0]] == [False, True, False, True, False]
    assert ring.contains(shapely.Point(anchors[0][0] / 1e6, anchors[1][0] / 1e6))


def test_outlines_are_in_degrees_and_within_half_a_metre() -> None:
    layer = squares(3)
    found = outlines(packed_shapes(layer.geometry, layer.crs))
    import pyproj  # noqa: PLC0415  # an oracle of this test alone

    back = pyproj.Transformer.from_crs("EPSG:4326", layer.crs, always_xy=True)
    for shape, parts in zip(layer.geometry, found, strict=True):
        x, y = back.transform(*(np.array(parts[0][0]) / 1e6).T)
        assert shapely.hausdorff_distance(shapely.Polygon(zip(x, y, strict=True)), shape) < 0.6


def test_a_layer_across_the_date_line_stays_together() -> None:
    shapes = np.array([shapely.box(179.8, 10, 179.9, 10.1), shapely.box(-179.9, 10, -179.8, 10.1)])
    found = outlines(packed_shapes(shapes, "EPSG:4326"))
    x = [point[0] / 1e6 for parts in found for point in parts[0][0]]
    assert min(x) == pytest.approx(179.8)
    assert max(x) == pytest.approx(180.2)
    world = np.array([shapely.box(x, 0, x + 0.5, 1) for x in (-170, -1, 1, 169)])
    assert min(x for parts in outlines(packed_shapes(world, "EPSG:4326")) for x, _ in parts[0][0]) == -170_000_000


def test_outlines_with_many_points_are_simplified() -> None:
    angles = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    edge = 1 + 0.01 * np.cos(40 * angles)
    shapes = np.array(
        [shapely.Polygon(np.column_stack([edge * np.cos(angles) + x, edge * np.sin(angles)])) for x in (0, 5, 9)]
    )
    item = packed_shapes(shapes, "EPSG:4326")
    assert item["points"]["length"] == 3
    assert item["x"]["length"] < 400_000
    assert item["tolerance"] >= 0.5


# ----------------------------------------------------------------------------------------------------------- rows


def test_rows_come_back_by_feature_and_date() -> None:
    layer = squares(4, parcel=["a", "b", "c", "d"])
    table = rows_of([0, 0, 2, 3], [0, 10, 5, 0], [7234.4, 5000.0, None, -1500.0], tile=["A", "B", "A", "B"])
    days = {
        "A": np.array(["2022-01-01T10:00:00", "2022-01-06T10:00:00"], "datetime64[s]"),
        "B": np.array(["2022-01-01T10:00:00", "2022-01-11T10:00:00", "2022-01-20T10:00:00"], "datetime64[s]"),
    }
    one = series_of(table, layer, days=days)
    parts = shown(content_of([one], RunAccount(), statistics=("mean", "std")))
    block = parts.data("page-rows-0")
    assert unpacked(block["counts"]).tolist() == [2, 0, 0, 1]  # a row without a value is a date without one
    dates = np.array(block["dates"], "datetime64[s]").astype("datetime64[D]").astype(str)
    assert dates[unpacked(block["when"])].tolist() == ["2022-01-01", "2022-01-11", "2022-01-01"]
    mean = block["values"]["mean"]
    assert (unpacked(mean) / mean["perUnit"]).tolist() == [0.7234, 0.5, -0.15]
    assert unpacked(block["valid"]).tolist() == [75, 75, 75]
    # Acquisitions of the tiles of each feature, from which its dates without a value follow.
    groups = [[block["tileNames"][tile] for tile in group] for group in block["groups"]]
    assert [groups[group] for group in unpacked(block["group"])] == [["A", "B"], [], [], ["B"]]
    seen = [dates[unpacked(tile)].tolist() for tile in block["tiles"]]
    assert seen == [["2022-01-01", "2022-01-06"], ["2022-01-01", "2022-01-11", "2022-01-20"]]
    frame = one.frame([0])
    gone = sorted({*seen[0], *seen[1]} - {"2022-01-01", "2022-01-11"})
    assert one.dates_without_values(frame).astype("datetime64[D]").astype(str).tolist() == gone


def test_rows_in_index_units_and_of_weighted_pixels() -> None:
    table = rows_of([0, 1], [0, 0], [0.72345, 41.0], std=[0.01, 2.0], count=[12.5, 3.25], nodata=[12.5, 0.0])
    block = content_of([series_of(table, squares(2), scale=1.0)], RunAccount()).blocks[0]
    mean = block["values"]["mean"]
    assert (unpacked(mean) / mean["perUnit"]).tolist() == pytest.approx([0.72, 41.0], abs=0.005)
    assert unpacked(block["valid"]).tolist() == [50, 100]


def test_rows_of_more_than_65536_times_keep_their_dates() -> None:
    """Layers over many tiles and years have so many sensing times."""
    seconds = 10 * np.arange(70_000, dtype=np.int64)
    rows = PageRows(
        np.array([0, 0]), seconds[[5, 69_999]], {"mean": np.array([0.1, 0.2])}, np.array([100, 100], np.uint8),
        np.array([[0, 0]]), ("31TEH",), 10_000.0,
    )  # fmt: skip
    block = rows.packed(1, [seconds])
    assert np.array(block["dates"])[unpacked(block["when"])].tolist() == [50, 699_990]
    assert np.array_equal(np.array(block["dates"])[unpacked(block["tiles"][0])], seconds)


def test_rows_of_an_index_with_large_values() -> None:
    means: list[float | None] = [5.25, 0.5, 4000.0, 7.125]
    one = series_of(rows_of([0, 1, 2, 3], [0] * 4, means, std=[0.5] * 4), squares(4), "BAI", scale=1.0)
    curve = Curves("smoothed", {0: (np.array(["2022-01-01", "2022-01-02"], "datetime64[D]"), np.array([5.25, 4000.0]))})
    block = content_of([one], RunAccount(), curves={("BAI", "CM001"): curve}).blocks[0]
    mean, smooth = block["values"]["mean"], block["smooth"]["values"]
    assert mean["type"] == smooth["type"] == "int32"
    assert (unpacked(mean) / mean["perUnit"]).tolist() == pytest.approx(means, abs=0.005)
    assert (unpacked(smooth) / smooth["perUnit"]).tolist() == pytest.approx([5.25, 4000.0], abs=0.005)
    assert block["values"]["std"]["type"] == "int16"


def test_a_sample_that_fits_does_so_with_numbers_of_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.page.page_content.LARGEST", 300_000)
    monkeypatch.setattr("sen2chain.page.page_content._FRAME", 0)  # rows alone count here
    rng = np.random.default_rng(0)
    fid, day = np.repeat(np.arange(400), 100), np.tile(5 * np.arange(100), 400)
    numbers = {name: np.exp(rng.uniform(np.log(0.5), np.log(30_000.0), len(fid))) for name in page_rows.FULL}
    table = rows_of(fid.tolist(), day.tolist(), numbers.pop("mean").tolist(), **numbers)
    one = series_of(table, squares(400), "BAI", scale=1.0)
    content = content_of([one], RunAccount(), statistics=page_rows.FULL, sample="fit")
    assert content.blocks[0]["values"]["mean"]["type"] == "int32"
    assert len(script_json(content.blocks[0])) < 300_000
    assert f"a sample: {content.head['count']:,} of 400 features" in content.notes[0]
    with pytest.raises(RequestError, match=r"would be about 0 MB"):
        content_of([one], RunAccount(), statistics=page_rows.FULL, sample=content.head["count"] * 2)


def test_features_of_several_pieces_are_chosen_by_name() -> None:
    layer = squares(40, parcel=[f"p{i}" for i in range(40)])
    pieces = [rows_of([fid] * 3, [0, 1, 2], [1000.0 * fid] * 3) for fid in range(40)]
    one = series_of(pieces[0], layer, tables=lambda: iter(pieces), rows=120, id_field="parcel")
    content = content_of([one], RunAccount(), features=["p7", "p3"])
    table = unpacked(content.head["features"])
    assert table["fid"] == [3, 7]
    assert table["name"] == ["p3", "p7"]
    assert unpacked(content.blocks[0]["values"]["mean"]).tolist() == [3000] * 3 + [7000] * 3
    with pytest.raises(RequestError, match="p99"):
        content_of([one], RunAccount(), features="p99")
    with pytest.raises(RequestError, match="features is empty"):
        content_of([one], RunAccount(), features=[])


def test_statistics_are_those_of_the_rows_in_index_units() -> None:
    one = series_of(rows_of([0], [0], [1.0]), squares(1))
    assert list(content_of([one], RunAccount(), statistics="std").blocks[0]["values"]) == ["mean", "std"]
    with pytest.raises(UnknownNameError, match="count"):
        content_of([one], RunAccount(), statistics=["count"])


def test_a_page_above_the_limit_asks_for_features_or_names_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, table = squares(10), rows_of(list(range(10)), [0] * 10, [1.0] * 10)
    many = series_of(table, layer, rows=10_000_000)
    with pytest.raises(RequestError, match=r"about \d+ MB, more than 20 MB; choose some with features=, take a sample"):
        content_of([many], RunAccount())
    fitting = content_of([many], RunAccount(), sample="fit")
    assert fitting.head["count"] == len(unpacked(fitting.head["features"])["fid"]) == 2
    assert fitting.head["notes"] == fitting.notes
    assert "The page shows a sample: 2 of 10 features" in fitting.notes[0]
    five = content_of([series_of(table, layer)], RunAccount(), sample=5)
    assert unpacked(five.head["features"])["fid"] == [0, 2, 4, 7, 9]
    odd: list[Any] = [0, -1, True, "some", 2.5]
    for wrong in odd:
        with pytest.raises(RequestError, match="sample is"):
            content_of([many], RunAccount(), sample=wrong)
    monkeypatch.setattr("sen2chain.page.page_content._COMFORTABLE", 0)
    short = content_of([series_of(table, layer)], RunAccount())
    assert list(short.blocks[0]["values"]) == ["mean", "std"]
    assert "mean and std alone" in short.notes[0]


def test_a_sample_that_fits_does_so_with_long_attributes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.page.page_content.LARGEST", 1_000_000)
    letters = np.random.default_rng(0).integers(97, 123, (2000, 299), dtype=np.uint8)
    layer = squares(2000, text=[bytes(row).decode() for row in letters])
    table = rows_of(list(range(2000)), [0] * 2000, [1.0] * 2000)
    content = content_of([series_of(table, layer)], RunAccount(), sample="fit")
    assert 100 < content.head["count"] < 2000
    assert len(page_html(content)) < 1_000_000
    assert f"a sample: {content.head['count']:,} of 2,000 features" in content.notes[0]


def test_the_estimate_of_the_size_is_right_within_a_third() -> None:
    rng = np.random.default_rng(0)
    features, dates = 400, 120
    fid = np.repeat(np.arange(features), dates)
    keep = rng.random(len(fid)) < 0.6
    season = 3000 + 3000 * np.sin(np.tile(np.arange(dates), features) / 20)
    table = rows_of(
        fid[keep].tolist(), (5 * np.tile(np.arange(dates), features))[keep].tolist(),
        (season + rng.normal(0, 300, len(fid)))[keep].tolist(), std=rng.gamma(4, 120, keep.sum()),
        nodata=rng.integers(0, 20, keep.sum()),
    )  # fmt: skip
    content = content_of([series_of(table, squares(features))], RunAccount(), statistics=("mean", "std"))
    actual = len(script_json(content.blocks[0]))
    assert actual == pytest.approx(page_rows.estimated_size(keep.sum(), 2), rel=1 / 3)


def test_attributes_keep_what_they_say() -> None:
    layer = squares(
        3, text=NASTY[:3], whole=pd.array([1, None, 3], "Int64"), large=[2**60, 1, 2], real=[1.5, np.nan, 2.0],
        truth=[True, False, True], odd=[np.inf, 1.0, 2.0], nothing=[None, None, None], long=["x" * 1000] * 3,
        time=pd.to_datetime(pd.Series(["2022-01-01 10:00", None, "2022-01-03 00:00"])),
    )  # fmt: skip
    found = unpacked(content_of([series_of(rows_of([0], [0], [1.0]), layer)], RunAccount()).head["features"])
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["text"]["values"] == NASTY[:3]
    assert columns["whole"] == {"name": "whole", "kind": "number", "values": [1, None, 3]}
    assert columns["large"] == {"name": "large", "kind": "text", "values": [str(2**60), "1", "2"]}
    assert columns["real"]["values"] == [1.5, None, 2]
    assert columns["truth"] == {"name": "truth", "kind": "text", "values": ["True", "False", "True"]}
    assert columns["odd"]["values"] == ["inf", "1.0", "2.0"]
    assert columns["nothing"]["values"] == [None] * 3
    assert {len(text) for text in columns["long"]["values"]} == {303}
    assert columns["time"]["values"] == ["2022-01-01 10:00:00", None, "2022-01-03 00:00:00"]


def test_an_index_without_rows_and_a_layer_without_places() -> None:
    layer = Layer.of(np.array([None, None]), "EPSG:4326", name="nowhere")
    empty = rows_of([], [], [])
    content = content_of([series_of(empty, layer)], RunAccount())
    assert content.head["outputs"][0]["period"] == []
    assert unpacked(content.blocks[0]["counts"]).tolist() == [0, 0]
    assert shown(content).data("page-rows-0")["dates"] == []


# ------------------------------------------------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def nasty() -> Parts:
    columns: dict[str, Any] = {"</script><script>alert(2)</script>": NASTY, "{{data}}": NASTY}
    layer = squares(len(NASTY), **columns)
    account = RunAccount(remarks=NASTY[:5], notes=["<!-- a note"], facts=[("</title>", "<img src=x onerror=alert(3)>")])
    rows = rows_of([0, 1], [0, 0], [1.0, 2.0])
    one = series_of(rows, layer, id_field="{{data}}")
    return shown(content_of([one], account))


def test_texts_from_outside_are_data(nasty: Parts) -> None:
    tags = [tag for tag, _, _ in nasty.found]
    assert "img" not in tags
    assert tags.count("script") == len(SCRIPTS) + len(LIBRARIES) + 3  # head, licences, rows
    assert nasty.data("page-head")["remarks"] == NASTY[:5]
    names = unpacked(nasty.data("page-head")["features"])["name"]
    assert names == [*NASTY[:5], NASTY[5].replace("\ud83d", "?")]
    assert next(text for tag, _, text in nasty.found if tag == "title").strip() == "fields - NDVI"


def test_the_policy_allows_the_scripts_of_the_page_alone(nasty: Parts) -> None:
    policy = next(a["content"] for t, a, _ in nasty.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == "'unsafe-inline'"
    assert rules["img-src"] == "data: blob:"
    sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in nasty.scripts()]
    assert rules["script-src"].split() == [f"'sha256-{one}'" for one in sums]
    assert "unsafe-eval" not in policy
    order = [attributes.get("http-equiv") for tag, attributes, _ in nasty.found if tag in {"meta", "style", "script"}]
    assert order.index("Content-Security-Policy") == 1  # before anything that it rules, after the encoding


def test_browser_libraries_are_the_files_of_their_packages() -> None:
    folder = importlib.resources.files("sen2chain.page") / "browser_libraries"
    libraries = json.loads((folder / "libraries.json").read_text(encoding="utf-8"))["libraries"]
    listed: dict[str, dict[str, str]] = {}
    for library in libraries:
        assert library["package"] == f"npm:{library['name']}@{library['version']}"
        assert f"LICENSE.{library['name']}.txt" in {one["file"] for one in library["files"]}
        listed |= {one["file"]: one for one in library["files"]}
    assert {one.name for one in folder.iterdir()} == {*listed, "libraries.json"}
    assert set(LIBRARIES) | set(STYLES) <= set(listed)
    for name, one in listed.items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"], name
        assert ("sha256_in_package" in one) == ("change" in one)
        assert not re.search(rb"sourceMappingURL|@import|url\([\"']?(https?:|//)|\beval\(|new Function\b", content), (
            name
        )


def test_own_scripts_reach_nothing_outside() -> None:
    assets = importlib.resources.files("sen2chain.page") / "assets"
    assert {one.name for one in assets.iterdir()} == {*SCRIPTS, "page.css", "page.html"}
    for one in assets.iterdir():
        text = one.read_text(encoding="utf-8")
        assert not re.search(
            r"https?:|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|\beval\(|import\(|url\(", text
        ), one.name
        assert "\r" not in text


# -------------------------------------------------------------------------------------------- from a run to a page


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("page"), demo.Scene(size=180, parcels=12))


@pytest.fixture(scope="module")
def series(archive: demo.DemoArchive) -> TimeSeries:
    return TimeSeries(
        archive.layer, ["NDVI", "NBR"], masks=["CM004", "none"], library=archive.library, id_field="parcel", quiet=True
    ).run()


def test_the_page_of_a_run_has_its_rows(series: TimeSeries, tmp_path: Path) -> None:
    path = series.to_html(tmp_path)
    assert path == tmp_path / "parcels" / "parcels_None_None.html"
    parts = Parts(path.read_text(encoding="utf-8"))
    head = parts.data("page-head")
    assert [(one["index"], one["mask"]) for one in head["outputs"]] == series._engine.outputs
    names = unpacked(head["features"])["name"]
    assert names == series.layer.attributes["parcel"].tolist()
    frame = series.data["NBR"].reset_index()
    for place, output in enumerate(head["outputs"]):
        if output["index"] != "NBR":
            continue
        own = frame[frame["mask"] == output["mask"]].sort_values(["fid", "date"])
        block = parts.data(f"page-rows-{place}")
        fid = np.repeat(np.arange(len(names)), unpacked(block["counts"]))
        assert fid.tolist() == own["fid"].tolist()
        times = np.array(block["dates"], "datetime64[s]")[unpacked(block["when"])]
        assert np.array_equal(times, own["date"].to_numpy().astype("datetime64[s]"))
        for name in ("mean", "std", "median", "percentile_25", "percentile_75"):
            values = unpacked(block["values"][name]) / block["values"][name]["perUnit"]
            assert values == pytest.approx(own[name].to_numpy() / 10_000, abs=0.5e-4 + 1e-9)
        share = 100 * own["count"] / (own["count"] + own["nodata"])
        assert unpacked(block["valid"]) == pytest.approx(share.to_numpy(), abs=0.5 + 1e-9)
    told = {(one["index"], one["mask"]): one for one in head["reasons"]}
    assert told["NDVI", "none"]["rows"] == (series.data["NDVI"]["mask"] == "none").sum()
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["parameters"]["masks"] == [
        mask.name for mask in series.request.masks
    ]
    series.to_html(tmp_path)  # the same again
    assert any("of an earlier run is replaced" in note for note in series.notes)


def test_a_page_of_another_run_is_not_replaced(archive: demo.DemoArchive, series: TimeSeries, tmp_path: Path) -> None:
    path = series.to_html(tmp_path)
    other = TimeSeries(archive.layer, "NDVI", masks="none", library=archive.library, quiet=True)
    with pytest.raises(OutputError, match="mask"):
        other.to_html(tmp_path)
    with pytest.raises(OutputError, match="mask"):
        other.check_results(tmp_path, ["html"])
    assert other.to_html(tmp_path, overwrite=True) == path
    with pytest.raises(OutputError, match="pass out_path"):
        other.to_html()
    with pytest.raises(TypeError, match="feature"):
        other.to_html(tmp_path, feature=3)  # type: ignore[call-arg]


def test_a_page_with_rows_is_kept_where_a_run_gives_none(archive: demo.DemoArchive, tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"indices": "NDVI", "library": archive.library, "quiet": True}
    path = TimeSeries(archive.layer, **keywords).to_html(tmp_path)
    nothing = tmp_path / "nothing"
    (nothing / "L2A" / "32TLP").mkdir(parents=True)
    empty = TimeSeries(archive.layer, **keywords | {"library": nothing})
    content = path.read_bytes()
    with pytest.raises(EmptyResultError, match="is kept, since this run gave no rows"):
        empty.to_html(tmp_path)
    assert path.read_bytes() == content
    head = Parts(empty.to_html(tmp_path / "other").read_text(encoding="utf-8")).data("page-head")
    assert head["outputs"][0]["rows"] == 0
    assert empty.to_html(tmp_path, overwrite=True) == path


def test_the_page_of_a_folder_needs_no_archive(archive: demo.DemoArchive, tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"indices": "NDVI", "extraction": tmp_path / "folder", "quiet": True}
    TimeSeriesCompil(archive.layer, library=archive.library, **keywords).extract_data()
    ts = TimeSeriesCompil(archive.layer, library=tmp_path / "gone", **keywords)
    path = ts.to_html(features=[1, 2])
    assert path.parent == ts.folder
    parts = Parts(path.read_text(encoding="utf-8"))
    frame = ts.data["NDVI"]
    assert parts.data("page-head")["outputs"][0]["rows"] == frame["fid"].isin([1, 2]).sum()
    assert ts.to_html(tmp_path / "out").parent == tmp_path / "out" / "parcels"


def test_images_and_curves_of_a_run(archive: demo.DemoArchive, series: TimeSeries, tmp_path: Path) -> None:
    path = series.to_html(
        tmp_path, features=["P000001", "P000002"], chips="P000004", smoothing=Smoother(window_length=5, polyorder=2)
    )
    parts = Parts(path.read_text(encoding="utf-8"))
    head = parts.data("page-head")
    assert unpacked(head["features"])["name"] == ["P000001", "P000002", "P000004"], "with those that have images"
    assert head["chips"] == [2]
    chips = parts.data("page-chips-2")
    assert {chip["index"] for chip in chips} == {None, "NDVI", "NBR"}
    assert {chip["mask"] for chip in chips} == {mask.name for mask in series.request.masks}
    frame = series.data["NDVI"]
    shown = frame[(frame["fid"] == 4) & (frame["mask"] == "none")]
    dates = {chip["date"] for chip in chips if chip["index"] == "NDVI" and chip["mask"] == "none"}
    assert set(shown.index.to_numpy().astype("datetime64[s]").astype(int).tolist()) <= dates
    assert all(base64.b64decode(chip["data"]).startswith(b"\xff\xd8") for chip in chips)
    place = next(i for i, one in enumerate(head["outputs"]) if (one["index"], one["mask"]) == ("NDVI", "none"))
    smooth = parts.data(f"page-rows-{place}")["smooth"]
    assert smooth["name"] == "smoothed (savgol)"
    own = frame[frame["mask"] == "none"].reset_index()
    made = Smoother(window_length=5, polyorder=2)(own[own["fid"].isin([1, 2, 4])], "NDVI").series.dropna(
        subset=["smoothed"]
    )
    assert unpacked(smooth["counts"]).tolist() == [(made["fid"] == fid).sum() for fid in (1, 2, 4)]
    values = unpacked(smooth["values"]) / smooth["values"]["perUnit"]
    assert values == pytest.approx(made["smoothed"].to_numpy(), abs=0.51e-4)
    with pytest.raises(RequestError, match="nobody"):
        series.to_html(tmp_path / "other", chips="nobody")
    gone = TimeSeriesCompil(archive.layer, "NDVI", extraction=tmp_path / "folder", library=archive.library, quiet=True)
    gone.extract_data()
    without = TimeSeriesCompil(archive.layer, "NDVI", extraction=tmp_path / "folder", library=tmp_path, quiet=True)
    with pytest.raises(LibraryError):
        without.to_html(chips=[1])


def run(*words: str) -> Any:
    return CliRunner().invoke(main, list(words), prog_name="sen2chain")


def test_the_commands_write_pages(archive: demo.DemoArchive, tmp_path: Path) -> None:
    layer, asked = str(archive.layer), ("--index", "NDVI", "--id", "parcel")
    extracted = run(
        "extract", layer, "--library", str(archive.library), *asked, "--html", "--out", str(tmp_path / "out")
    )
    path = tmp_path / "out" / "parcels" / "parcels_None_None.html"
    assert str(path) in extracted.output
    assert path.exists()
    folder = str(tmp_path / "folder")
    nothing = run("page", layer, "--extraction", folder, "--index", "NDVI")
    assert nothing.exit_code == 3
    assert "run sen2chain update first" in nothing.output
    run("update", layer, "--library", str(archive.library), "--extraction", folder, "--index", "NDVI", "--quiet")
    # Without --index it is of what was extracted.
    written = run("page", layer, "--extraction", folder, "--id", "parcel", "--feature", "P000003", "--verbose")
    assert written.exit_code == 0, written.output
    head = Parts(Path(written.output.strip().splitlines()[-1]).read_text(encoding="utf-8")).data("page-head")
    assert [output["index"] for output in head["outputs"]] == ["NDVI"]
    assert unpacked(head["features"])["name"] == ["P000003"]
    sampled = run("page", layer, "--extraction", folder, "--sample", "2", "--out", str(tmp_path / "pages"), "--verbose")
    assert "The page shows a sample: 2 of 12 features" in sampled.output
    unknown = run("page", layer, "--extraction", folder, "--feature", "nobody")
    assert unknown.exit_code == 2
    assert "nobody" in unknown.output


def test_a_page_is_far_below_the_limit() -> None:
    folder = importlib.resources.files("sen2chain.page")
    frame = sum(len((folder / "browser_libraries" / name).read_bytes()) for name in (*LIBRARIES, *STYLES))
    assert frame < 750_000 < LARGEST
