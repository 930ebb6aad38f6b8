"""Metadata are parsed once, and again when they change."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import product_facts
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.products import ProductId

if TYPE_CHECKING:
    from pathlib import Path

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
    metadata = next(archive.library.rglob("MTD_MSIL2A.xml"))
    os.utime(metadata, (time.time() - 30,) * 2)
    update()
    assert set(read) <= {str(metadata)}
    if cover_max < 100:
        assert read


def test_a_figure_holds_as_long_as_the_file(archive: demo.DemoArchive, tmp_path: Path, read: list[str]) -> None:
    metadata, source = tmp_path / "MTD_MSIL2A.xml", next(archive.library.rglob("MTD_MSIL2A.xml"))
    text, product = source.read_text(), ProductId.parse(source.parent.name)
    (figure,) = {part.partition("<")[0] for part in text.split("Cloud_Coverage_Assessment>")[1:2]}

    def put(cover: str, seconds: float) -> None:
        metadata.write_text(text.replace(f">{figure}<", f">{cover}<"))
        os.utime(metadata, (time.time() - seconds,) * 2)

    def of() -> float | None:
        found = ProductFacts(tmp_path / "kept")
        cover = found.cloud_cover(str(metadata), product)
        found.save()
        return cover

    put("12.5", 100)
    assert [of(), of(), of()] == [12.5] * 3
    assert len(read) == 1
    put("13.5", 50)
    assert [of(), of()] == [13.5] * 2
    put("14.5", -10)  # so young that it may change again under the same time
    assert [of(), of()] == [14.5] * 2
    assert len(read) == 4
    metadata.write_text("broken")
    os.utime(metadata, (time.time() - 20,) * 2)
    assert [of(), of()] == [None] * 2
    assert len(read) == 6  # whoever may not read it today may do so tomorrow
    metadata.unlink()
    assert (of(), ProductFacts(None).cloud_cover(None, product)) == (None, None)
    put("12.5", 100)
    for odd in ("[]", "{", json.dumps({str(metadata): [1]}), json.dumps({str(metadata): 5}), "\udcff"):
        (tmp_path / "kept" / f"{product.tile}.json").write_text(odd, errors="surrogateescape")
        assert of() == 12.5
    assert (
        ProductFacts(tmp_path / "MTD_MSIL2A.xml").cloud_cover(str(metadata), product) == 12.5
    )  # where nothing can be kept
