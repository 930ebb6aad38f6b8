"""Lossy index rasters become Cloud-Optimized GeoTIFF: from bands where they are there, else with the same values."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio

from far_end import lock, small_disk
from sen2chain import INDICES, Index, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import open_target
from sen2chain.errors import OutputError, RequestError
from sen2chain.parallel import apart
from sen2chain.produce import (
    ConversionOutcome,
    ConversionSource,
    ProductRequest,
    convert_rasters,
    plan_products,
    produce_files,
)
from sen2chain.raster_tags import FROM_LOSSY, RasterTags
from sen2chain.rasters import read_header_texts

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.produce import Conversion

SCENE = demo.Scene(
    size=100,
    parcels=5,
    overpasses=demo.season(3),
    bands=("B03", "B04", "B08", "SCL"),
    indices=("NDVI", "BIGR"),
    index_format="jp2",
    tiles=("31TGJ",),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    made = demo.build(tmp_path_factory.mktemp("lossy"), SCENE)
    old = time.time() - 60
    for path in made.library.rglob("*"):
        os.utime(path, (old, old))
    return made


@pytest.fixture
def library(archive: demo.DemoArchive, tmp_path: Path) -> Path:
    """A library with the lossy rasters and without products, until `bring_back` links to them."""
    shutil.copytree(archive.library / "data/INDICES", tmp_path / "library/data/INDICES")
    return tmp_path / "library"


def bring_back(library: Path, archive: demo.DemoArchive) -> None:
    (library / "data/L2A").symlink_to(archive.library / "data/L2A")


def convert(library: Path, **asked: Any) -> Conversion:
    return convert_rasters(open_target(library), quiet=True, **asked)


def pixels(path: Path) -> tuple[Any, dict[str, Any]]:
    def read() -> tuple[Any, dict[str, Any]]:
        with rasterio.open(path) as file:
            return file.read(1), {"scales": file.scales, "layout": file.tags(ns="IMAGE_STRUCTURE"), **file.profile}

    return apart(read)


def files_of(library: Path, suffix: str = "") -> list[Path]:
    return sorted(path for path in (library / "data").rglob(f"*{suffix}") if path.is_file())


def state_of(library: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in files_of(library)}


def rows(archive: demo.DemoArchive, library: Path, **asked: Any) -> tuple[dict[str, pd.DataFrame], set[str]]:
    options = {"indices": ["NDVI", "BIGR"], "masks": "none", "quiet": True, **asked}
    series = TimeSeries(archive.layer, library=library, **options)
    return series.data, set(series.report["value_source"])


def assert_lossy_copy(jp2: Path, tif: Path, index: str) -> None:
    (old, _), (new, profile) = pixels(jp2), pixels(tif)
    np.testing.assert_array_equal(new, np.where(old == 16383, 32767, old))
    assert (profile["dtype"], profile["nodata"], profile["scales"]) == ("int16", 32767, (1e-4,))
    assert profile["layout"]["LAYOUT"] == "COG"
    tags = RasterTags.read(read_header_texts(str(tif)))
    assert tags is not None
    assert (tags.name, tags.source, tags.definition) == (index, FROM_LOSSY, INDICES[index].definition)
    assert not tags.is_exact


def test_values_are_copied_where_the_bands_are_gone_and_rows_stay(archive: demo.DemoArchive, library: Path) -> None:
    before, kinds = rows(archive, library)
    assert kinds == {"lossy index raster"}
    dry = convert(library, dry_run=True)
    assert dry.counts() == {"to convert": 6}
    assert dry.expected_bytes > 0
    assert "6 from the JP2" in str(dry)
    assert not files_of(library, ".tif")
    done = convert(library)
    assert done.counts() == {"converted": 6}
    assert {file.source for file in done.files} == {ConversionSource.LOSSY}
    for file in done.files:
        assert file.old.is_file()
        assert_lossy_copy(file.old, file.path, file.index)
    after, kinds = rows(archive, library)
    assert kinds == {"lossy index raster"}
    for index, frame in before.items():
        pd.testing.assert_frame_equal(frame, after[index])
    assert convert(library).counts() == {"kept": 6}


def test_bands_that_come_back_are_read_first_and_give_an_exact_raster(
    archive: demo.DemoArchive, library: Path, tmp_path: Path
) -> None:
    def update() -> int:
        asked: dict[str, Any] = {"indices": "NDVI", "masks": "none", "quiet": True, "library": library}
        return TimeSeriesCompil(archive.layer, extraction=tmp_path / "rows", **asked).extract_data().images

    assert update() == 3
    convert(library)
    assert update() == 0  # the same values
    bring_back(library, archive)
    assert rows(archive, library)[1] == {"bands"}
    assert rows(archive, library, prefer="stored")[1] == {"lossy index raster"}
    assert update() == 3
    done = convert(library)
    assert done.counts() == {"converted": 6}
    assert {file.source for file in done.files} == {ConversionSource.BANDS}
    assert rows(archive, library)[1] == {"index raster"}
    assert update() == 0
    assert convert(library).counts() == {"kept": 6}
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    bring_back(other, archive)
    source = open_target(other)
    request = ProductRequest(indices=(INDICES["NDVI"], INDICES["BIGR"]))
    produce_files(plan_products(request, source), source, quiet=True)
    for path in files_of(other, ".tif"):
        np.testing.assert_array_equal(pixels(path)[0], pixels(library / path.relative_to(other))[0])


def test_what_is_there_of_others_is_kept(library: Path) -> None:
    first, second, third, *_ = (path.with_suffix(".tif") for path in files_of(library, "_NDVI.jp2"))
    shutil.copy(first.with_suffix(".jp2"), first)  # another program's, whatever it holds
    convert(library, indices=[INDICES["NDVI"]])
    with rasterio.open(second, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(SEN2CHAIN_DEFINITION="B08")
    third.write_bytes(third.read_bytes()[:40])
    done = convert(library, indices=[INDICES["NDVI"]])
    assert [str(file.outcome) for file in done.files] == ["kept", "refused", "converted"]
    assert "written by another program" in done.files[0].detail
    assert "holds something else; --force (force=True) replaces it" in str(done)
    assert done.failed == 1
    assert convert(library, indices=[INDICES["NDVI"]], force=True).counts() == {"converted": 3}


def test_a_damaged_raster_costs_itself_alone(archive: demo.DemoArchive, library: Path) -> None:
    bad = files_of(library, "_NDVI.jp2")[1]
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    done = convert(library)
    assert done.counts() == {"converted": 5, "failed": 1}
    (failed,) = (file for file in done.files if file.outcome is ConversionOutcome.FAILED)
    assert failed.old == bad
    assert failed.detail.startswith(f"{bad.relative_to(library)} cannot be read")
    assert not failed.path.exists()
    assert not list(library.rglob(".*.tmp"))
    bring_back(library, archive)
    assert convert(library).counts() == {"converted": 6}  # the bands are there, whatever the lossy raster is


def test_moved_rasters_keep_their_paths_and_replace_nothing(library: Path, tmp_path: Path) -> None:
    legacy, target = files_of(library, ".jp2"), tmp_path / "old"
    side = legacy[0].with_name(f"{legacy[0].name}.aux.xml")
    side.write_text("<PAMDataset/>")
    content = {path: path.read_bytes() for path in legacy}

    def place(path: Path) -> Path:
        return target / path.relative_to(library / "data")

    for path in legacy[1:3]:
        place(path).parent.mkdir(parents=True)
    place(legacy[1]).write_bytes(b"something else")
    place(legacy[2]).write_bytes(content[legacy[2]])  # a move that was killed
    legacy[3].rename(legacy[3].with_suffix(".real"))
    legacy[3].symlink_to(legacy[3].with_suffix(".real").name)
    done = convert(library, move_old=target)
    assert done.counts() == {"converted": 6}
    assert done.left == 2
    by_old = {file.old: file for file in done.files}
    assert f"{place(legacy[1])} is there already, so {legacy[1]} stays" in by_old[legacy[1]].left
    assert "is a link" in by_old[legacy[3]].left
    assert by_old[legacy[1]].left in str(done)
    for path in (legacy[0], legacy[2], *legacy[4:]):
        assert by_old[path].moved_to == place(path)
        assert not path.exists()
        assert place(path).read_bytes() == content[path]
    assert not side.exists()
    assert place(side).read_text() == "<PAMDataset/>"
    assert place(legacy[1]).read_bytes() == b"something else"
    assert legacy[1].read_bytes() == content[legacy[1]]
    again = convert(library, move_old=target)
    assert again.counts() == {"kept": 2}
    assert again.left == 2


def test_rasters_are_not_moved_into_the_library_nor_without_a_new_raster(library: Path, tmp_path: Path) -> None:
    for inside in (library / "data/INDICES", library / "data/INDICES/old", library / "data/L2A/x"):
        with pytest.raises(RequestError, match="where rasters are looked for"):
            convert(library, move_old=inside)
    bad = files_of(library, "_NDVI.jp2")[0]
    bad.write_bytes(b"no raster")
    done = convert(library, move_old=tmp_path / "old")
    assert bad.is_file()
    assert sum(file.moved_to is not None for file in done.files) == 5


def test_rasters_are_not_moved_onto_themselves(library: Path, tmp_path: Path) -> None:
    """Moved below the folder that holds INDICES, each raster would be its own target, and be removed."""
    before = state_of(library)
    (tmp_path / "link").symlink_to(library / "data")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/INDICES").symlink_to(library / "data/INDICES")
    for folder in (library / "data", tmp_path / "link", tmp_path / "other", library / "data/x/.."):
        with pytest.raises(RequestError, match="where rasters are looked for"):
            convert(library, move_old=folder)
        assert state_of(library) == before


def test_rasters_are_moved_to_another_disk(library: Path, tmp_path: Path) -> None:
    legacy = files_of(library, ".jp2")
    content = {path: path.read_bytes() for path in legacy}
    with small_disk(tmp_path / "disk", "8m") as disk:
        done = convert(library, move_old=disk)
        assert done.left == 0
        assert {path: (disk / path.relative_to(library / "data")).read_bytes() for path in legacy} == content
    assert not files_of(library, ".jp2")


def test_a_full_disk_for_the_old_rasters_leaves_them_where_they_are(library: Path, tmp_path: Path) -> None:
    legacy = files_of(library, ".jp2")
    content = {path: path.read_bytes() for path in legacy}
    with small_disk(tmp_path / "disk", "20k") as disk:
        done = convert(library, move_old=disk)
        moved = {file.old: file.moved_to for file in done.files if file.moved_to is not None}
        assert done.left == len(legacy) - len(moved) > 0
        assert all("No room is left" in file.left for file in done.files if file.left)
        for path in legacy:
            assert (moved.get(path) or path).read_bytes() == content[path]
        assert not list(disk.rglob(".*.tmp"))


def test_a_full_disk_is_one_sentence_and_the_archive_is_as_it_was(archive: demo.DemoArchive, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300k") as disk:
        shutil.copytree(archive.library / "data/INDICES", disk / "data/INDICES")
        before = state_of(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - (12 << 10)))
        done = convert(disk)
        assert done.failed > 0
        assert "No room is left on the disk for" in str(done)
        assert not list(disk.rglob(".*.tmp"))
        after = state_of(disk)
        assert {path: after.get(path) for path in before} == before
        filler.unlink()
        convert(disk)
        assert len(files_of(disk, ".tif")) == 6


def test_folders_that_cannot_be_written_are_one_sentence_before_the_work(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        shutil.copytree(archive.library / "data/INDICES", disk / "data/INDICES")
        before = state_of(disk)
        lock(disk)
        with pytest.raises(OutputError, match=r"Cannot write .*\(Read-only file system\); choose a folder"):
            convert(disk)
        assert state_of(disk) == before
        assert convert(disk, dry_run=True).counts() == {"to convert": 6}


def test_the_result_as_table_json_and_html(library: Path, tmp_path: Path) -> None:
    done = convert(library, indices=[INDICES["BIGR"]], move_old=tmp_path / "old")
    values = json.loads(json.dumps(done.to_dict()))
    assert values["counts"] == {"converted": 3}
    frame = done.to_frame()
    assert list(frame["outcome"]) == ["converted"] * 3
    assert values["files"] == frame.to_dict("records")
    assert "3 converted" in done._repr_html_()
    assert repr(done) == str(done)
    nothing = convert(library, indices=[INDICES["BIGR"]])
    assert (nothing.nothing, nothing.others) == (False, 3)
    assert "no lossy index raster" in str(nothing)
    assert nothing.to_frame().empty


def test_masked_copies_and_rasters_of_other_indices_are_left(library: Path) -> None:
    first = files_of(library, "_NDVI.jp2")[0]
    shutil.copy(first, first.with_name(first.name.replace("_NDVI", "_NDVI_CM001")))
    other = library / "data/INDICES/MINE" / first.parent.relative_to(library / "data/INDICES/NDVI")
    other.mkdir(parents=True)
    shutil.copy(first, other / first.name.replace("NDVI", "MINE"))
    done = convert(library)
    assert (done.counts(), done.masked_copies) == ({"converted": 6}, 1)
    assert "1 lossy raster of masked indices left as they are" in str(done)
    with pytest.raises(RequestError, match="MINE is not one of the twelve"):
        convert(library, indices=[Index("MINE", "B08")])


def test_real_rasters_of_the_original_program(bolzano: Path, tmp_path: Path) -> None:
    shutil.copytree(bolzano / "legacy/INDICES", tmp_path / "data/INDICES", copy_function=shutil.copyfile)
    done = convert(tmp_path)
    assert (done.counts(), done.masked_copies) == ({"converted": 24}, 24)
    for file in done.files[::5]:
        assert_lossy_copy(file.old, file.path, file.index)
    written, expected = sum(file.bytes for file in done.files), convert(tmp_path, dry_run=True, force=True)
    assert 0.5 * written < expected.expected_bytes < 2 * written
