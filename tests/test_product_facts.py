"""Metadata are parsed once and tags read once, and again when their files change; a damaged cache is not believed."""

from __future__ import annotations

import json
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_trees import metadata, name, put
from sen2chain import INDICES, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import product_facts
from sen2chain.archive.product_details import ProductDetails
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.products import ProductId
from sen2chain.raster_form import RasterForm
from sen2chain.raster_tags import RasterTags
from sen2chain.rasters import Header, read_header

SCENE = demo.Scene(size=90, parcels=4, overpasses=demo.season(3), bands=("B04", "B08", "SCL", "CLDPRB"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    made = demo.build(tmp_path_factory.mktemp("covers"), SCENE)
    for path in made.library.rglob("MTD_MSIL2A.xml"):
        os.utime(path, (time.time() - 60,) * 2)
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The metadata that are parsed for their cloud cover."""
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    seen: list[str] = []
    parse = read_metadata

    def parsed(location: str, *rest: Any) -> Any:
        seen.append(location)
        return parse(location, *rest)

    monkeypatch.setattr(product_facts, "read_metadata", parsed)
    return seen


@pytest.mark.parametrize("cover_max", [60, 100])
def test_a_night_without_news_parses_no_metadata(
    archive: demo.DemoArchive, tmp_path: Path, read: list[str], cover_max: float
) -> None:
    options: dict[str, Any] = {"indices": ["NDVI"], "library": archive.library, "quiet": True, "multiproc": 1}
    options["cover_max"] = cover_max

    def update() -> TimeSeriesCompil:
        series = TimeSeriesCompil(archive.layer, extraction=tmp_path / "extraction", **options)
        series.extract_data()
        return series

    first = update()
    assert len(read) == len(set(read)) > 0
    read.clear()
    outside = first.plan.outside_cover
    again = update()
    assert TimeSeries(archive.layer, **options).plan.outside_cover == again.plan.outside_cover == outside
    assert read == []
    path = next(archive.library.rglob("MTD_MSIL2A.xml"))
    os.utime(path, (time.time() - 30,) * 2)
    update()
    assert set(read) <= {str(path)}
    if cover_max < 100:
        assert read


def test_a_figure_holds_as_long_as_the_file(archive: demo.DemoArchive, tmp_path: Path, read: list[str]) -> None:
    place, source = tmp_path / "MTD_MSIL2A.xml", next(archive.library.rglob("MTD_MSIL2A.xml"))
    text, product = source.read_text(), ProductId.parse(source.parent.name)
    (figure,) = {part.partition("<")[0] for part in text.split("Cloud_Coverage_Assessment>")[1:2]}

    def say(cover: str, seconds: float) -> None:
        place.write_text(text.replace(f">{figure}<", f">{cover}<"))
        os.utime(place, (time.time() - seconds,) * 2)

    def of() -> float | None:
        found = ProductFacts(tmp_path / "kept")
        cover = found.cloud_cover(str(place), product)
        found.save()
        return cover

    say("12.5", 100)
    assert [of(), of(), of()] == [12.5] * 3
    assert len(read) == 1
    say("13.5", 50)
    assert [of(), of()] == [13.5] * 2
    say("14.5", -10)  # so young that it may change again under the same time
    assert [of(), of()] == [14.5] * 2
    assert len(read) == 4
    place.write_text("broken")
    os.utime(place, (time.time() - 20,) * 2)
    assert [of(), of()] == [None] * 2
    assert len(read) == 6  # whoever may not read it today may do so tomorrow
    place.unlink()
    assert (of(), ProductFacts(None).cloud_cover(None, product)) == (None, None)
    say("12.5", 100)
    for odd in ("[]", "{", json.dumps({str(place): [1]}), json.dumps({str(place): 5}), "\udcff"):
        (tmp_path / "kept" / f"{product.tile}.json").write_text(odd, errors="surrogateescape")
        assert of() == 12.5
    assert (
        ProductFacts(tmp_path / "MTD_MSIL2A.xml").cloud_cover(str(place), product) == 12.5
    )  # where nothing can be kept


# ------------------------------------------------------------------------------------------------------ tags of rasters

TILE = "32TPS"
TAGS = RasterTags(name("20220605"), "NDVI", INDICES["NDVI"].formula, offsets={"B04": -1000.0}, inputs="a")


def raster(path: Path, tags: RasterTags | None = TAGS, age: float = 600) -> str:
    """Write a small GeoTIFF and return its location."""
    with rasterio.MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "int16"}
        with memory.open(transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5e6), **profile) as file:
            file.update_tags(**({} if tags is None else tags.items()))
        return str(put(path, bytes(memory.getbuffer()), age))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rasters whose header is read."""
    seen: list[str] = []

    def texts(path: str) -> Header:
        seen.append(path)
        return read_header(path)

    monkeypatch.setattr(product_facts, "read_header", texts)
    return seen


def test_tags_are_read_once(tmp_path: Path, opened: list[str]) -> None:
    ours, foreign = raster(tmp_path / "a.tif"), raster(tmp_path / "b.tif", None)
    for _ in range(3):
        facts = ProductFacts(tmp_path / "kept")
        assert (facts.tags(ours, TILE), facts.tags(foreign, TILE)) == (TAGS, None)
        assert (facts.tags(ours, TILE), facts.tags(foreign, TILE)) == (TAGS, None)
        facts.save()
    assert opened == [ours, foreign]
    other = replace(TAGS, precision=0.5)
    raster(tmp_path / "a.tif", other, age=60)
    facts = ProductFacts(tmp_path / "kept")
    assert facts.tags(ours, TILE) == other
    assert opened == [ours, foreign, ours]


def test_damage_is_learned_once_and_what_cannot_be_opened_is_looked_at_again(tmp_path: Path, opened: list[str]) -> None:
    broken, folder = str(put(tmp_path / "a.tif", b"II*\0 broken")), str(tmp_path)
    for _ in range(2):
        facts = ProductFacts(tmp_path / "kept")
        assert facts.tags(broken, TILE) is None
        assert facts.form(broken, TILE) == RasterForm("is damaged (it is not a TIFF file)")
        assert facts.form(folder, TILE) is None
        facts.save()
    assert opened == [broken, folder, folder]
    assert ProductFacts(tmp_path / "kept").tags(str(tmp_path / "absent.tif"), TILE) is None
    assert ProductFacts(tmp_path / "kept").tags("no\0path", TILE) is None


def test_remembered_tags_spare_the_first_look(tmp_path: Path, opened: list[str]) -> None:
    location = raster(tmp_path / "a.tif", age=0)
    facts = ProductFacts(tmp_path / "kept")
    facts.remember_tags(location, TILE, TAGS)
    facts.remember_tags(str(tmp_path / "absent.tif"), TILE, TAGS)
    assert facts.tags(location, TILE) == TAGS
    facts.save()
    again = ProductFacts(tmp_path / "kept")
    assert again.tags(location, TILE) == TAGS
    assert opened == []
    # Written again within the resolution of its time: what was remembered last holds.
    other = replace(TAGS, inputs="b")
    facts_of = Path(location).stat()
    raster(tmp_path / "a.tif", other)
    os.utime(location, ns=(facts_of.st_atime_ns, facts_of.st_mtime_ns))
    assert Path(location).stat().st_size == facts_of.st_size
    again.remember_tags(location, TILE, other)
    assert again.tags(location, TILE) == other
    again.save()
    assert ProductFacts(tmp_path / "kept").tags(location, TILE) == other
    assert opened == []


# ---------------------------------------------------------------------------------------------------- the cache's files


def test_two_runs_keep_the_entries_of_both(tmp_path: Path, opened: list[str]) -> None:
    locations = [raster(tmp_path / f"{number}.tif") for number in range(4)]
    one, two = ProductFacts(tmp_path / "kept"), ProductFacts(tmp_path / "kept")
    for facts, location in zip((one, two, one, two), locations, strict=True):
        assert facts.tags(location, TILE) == TAGS
        facts.save()
    assert opened == locations
    found = ProductFacts(tmp_path / "kept")
    assert [found.tags(location, TILE) for location in locations] == [TAGS] * 4
    assert opened == locations


def test_many_writers_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    locations = [raster(tmp_path / f"{number}.tif") for number in range(24)]

    def write(location: str) -> RasterTags | None:
        facts = ProductFacts(tmp_path / "kept")
        found = facts.tags(location, TILE)
        facts.save()
        return found

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(write, locations)) == [TAGS] * 24
    kept = json.loads((tmp_path / "kept" / f"{TILE}.json").read_text())
    assert kept.keys() <= set(locations)
    assert len(kept) >= 1
    assert list((tmp_path / "kept").glob("*.tmp")) == []


def test_threads_share_one_object(tmp_path: Path) -> None:
    locations = [raster(tmp_path / f"{number}.tif") for number in range(10)]
    facts = ProductFacts(tmp_path / "kept")

    def ask(number: int) -> RasterTags | None:
        found = facts.tags(locations[number % 10], TILE)
        if number % 7 == 0:
            facts.save()
        return found

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == [TAGS] * 200
    facts.save()
    assert json.loads((tmp_path / "kept" / f"{TILE}.json").read_text()).keys() == set(locations)


def test_the_oldest_entries_go_first(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_facts, "_MOST", 3)
    locations = [raster(tmp_path / f"{number}.tif") for number in range(5)]
    for location in locations:
        facts = ProductFacts(tmp_path / "kept")
        facts.tags(location, TILE)
        facts.save()
    opened.clear()
    facts = ProductFacts(tmp_path / "kept")
    assert [facts.tags(location, TILE) for location in locations] == [TAGS] * 5
    assert opened == locations[:2]


def test_the_reason_for_unreadable_metadata_is_told(tmp_path: Path) -> None:
    product = ProductId.parse(name("20220605"))
    path = put(tmp_path / "MTD_MSIL2A.xml", metadata(name("20220615")))
    facts = ProductFacts(tmp_path / "kept")
    assert facts.fault(str(path)) == ""
    assert facts.metadata(str(path), product) is None
    assert "belongs to another product" in facts.fault(str(path))
    put(path, metadata(str(product)), age=60)
    found = facts.metadata(str(path), product)
    assert found is not None
    assert found.cloud_cover == 12.5
    assert facts.fault(str(path)) == ""


def test_workers_get_details_that_read_by_themselves(tmp_path: Path, read: list[str], opened: list[str]) -> None:
    product = ProductId.parse(name("20220605"))
    place, location = str(put(tmp_path / "MTD_MSIL2A.xml", metadata(str(product)))), raster(tmp_path / "a.tif")
    facts = ProductFacts(tmp_path / "kept")
    details = ProductDetails(product, place, None, facts)
    assert (details.cloud_cover(), details.tags(location)) == (12.5, TAGS)
    facts.save()
    sent = pickle.loads(pickle.dumps(details))  # noqa: S301  # our own
    assert sent == details
    assert (sent.cloud_cover(), sent.tags(location)) == (12.5, TAGS)
    assert (read, opened) == ([place] * 2, [location] * 2)
    assert len(pickle.dumps(details)) < 1000
    sent.facts.save()
    assert len(list((tmp_path / "kept").iterdir())) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_cache_is_never_believed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    product = ProductId.parse(name("20220605"))
    place, location = str(folder / "MTD_MSIL2A.xml"), str(folder / "a.tif")
    if not folder.exists():
        put(Path(place), metadata(str(product)))
        raster(Path(location))
    kept = folder / "kept" / f"{TILE}.json"
    kept.unlink(missing_ok=True)

    def look() -> tuple[object, object]:
        facts = ProductFacts(folder / "kept")
        found = facts.metadata(place, product), facts.tags(location, TILE)
        facts.save()
        return found

    truth = read_metadata(place), TAGS
    assert look() == truth
    whole = json.loads(kept.read_text())
    how = data.draw(st.sampled_from(["bytes", "cut", "entry", "fact", "swap", "other"]))
    if how == "bytes":
        kept.write_bytes(data.draw(st.binary(max_size=50)))
    elif how == "cut":
        content = kept.read_bytes()
        kept.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif how == "other":
        kept.write_text(json.dumps(data.draw(JSON)))
    else:
        which = data.draw(st.sampled_from([place, location]))
        if how == "entry":
            whole[which] = data.draw(JSON)
        elif how == "swap":
            whole[place][2], whole[location][2] = whole[location][2], whole[place][2]
        elif which == place:  # a value of another kind; one of the right kind cannot be told from the truth
            known = data.draw(st.sampled_from(["quantification", "offsets", "cloud_cover", "footprint", "more"]))
            right = {"quantification": float, "offsets": dict, "cloud_cover": float | None, "footprint": list | None}
            drawn = JSON.filter(lambda value: not isinstance(value, right.get(known, ())) or value != value)  # noqa: PLR0124
            whole[place][2][known] = data.draw(drawn)
        else:
            whole[location][2] = data.draw(JSON.filter(lambda value: value != {}))
        kept.write_text(json.dumps(whole))
    assert look() == truth
    assert look() == truth
