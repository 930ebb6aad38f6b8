"""Files that change: while they are read, between two runs, and archives that are copied."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import distributed
import pandas as pd
import pytest

from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import file_identity, open_library
from sen2chain.archive.file_identity import FileIdentity, digest_of_parts
from sen2chain.extract import cluster, executors
from sen2chain.files import open_regular
from sen2chain.reasons import Reason
from sen2chain.store import Entry, ImageLedger, State
from sen2chain.store.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
SCENE = demo.Scene(
    size=90, parcels=8, tiles=("32TPS",), overpasses=demo.season(4), bands=("B04", "B08", "SCL", "CLDPRB")
)
FILES = {
    "band": "*_B04_10m.jp2", "mask": "*_SCL_20m.jp2", "metadata": "MTD_MSIL2A.xml", "cldprb": "MSK_CLDPRB_20m.jp2",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("inputs"), SCENE)


@pytest.fixture
def archive(made: demo.DemoArchive, tmp_path: Path) -> demo.DemoArchive:
    """An archive of its own, an hour old."""
    shutil.copytree(made.library, tmp_path / "sen2chain_data")
    age(tmp_path / "sen2chain_data", 3600)
    return replace(made, library=tmp_path / "sen2chain_data")


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in folder.rglob("*.*"):
        os.utime(path, (then, then))


def compil_of(archive: demo.DemoArchive, extraction: Path, **asked: Any) -> TimeSeriesCompil:
    options: dict[str, Any] = {"indices": ["NDVI"], "multiproc": 1, "quiet": True, "library": archive.library}
    return TimeSeriesCompil(archive.layer, extraction=extraction, **options | asked)


def products(archive: demo.DemoArchive) -> list[Path]:
    return sorted((archive.library / "data" / "L2A").glob("*/*.SAFE"))


def entry_of(series: TimeSeriesCompil, product: Path) -> Entry:
    with ImageLedger(series.folder / "ledger.sqlite", read_only=True) as ledger:
        return ledger.entries("NDVI", CM004)[product.stem]


def other_content(one: Path, another: Path, what: str) -> bytes:
    """The same file of another product, so that its rows differ."""
    (path,) = another.rglob(FILES[what])
    if what != "metadata":
        return path.read_bytes()
    (own,) = one.rglob(FILES[what])
    text = own.read_text()
    return text.replace(">10000<", ">20000<").encode()


def put(path: Path, content: bytes) -> None:
    """Replace a file as downloads do: by a new one that takes its name."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def disturbed(
    monkeypatch: pytest.MonkeyPatch, product: Path, what: Callable[[], object], when: str, module: Any = executors
) -> None:
    """Let something happen once, before or after the rasters of a product are read."""
    extract, left = module.extract, [what]

    def disturbing(task: Any, *rest: Any) -> Any:
        mine = str(task.product) == product.stem and left
        if mine and when == "before":
            left.pop()()
        result = extract(task, *rest)
        if mine and when == "after":
            left.pop()()
        return result

    monkeypatch.setattr(module, "extract", disturbing)


# ------------------------------------------------------------------------------------------------- while they are read


@pytest.mark.parametrize(("when", "multiproc"), [("before", 1), ("after", 2)])
@pytest.mark.parametrize("what", FILES)
def test_an_image_whose_files_changed_while_they_were_read_is_extracted_again(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multiproc: int, what: str, when: str
) -> None:
    one, another, *_ = products(archive)[1:]
    (path,) = one.rglob(FILES[what])
    content = other_content(one, another, what)
    with monkeypatch.context() as patch:
        disturbed(patch, one, lambda: put(path, content), when)
        series = compil_of(archive, tmp_path / "extraction", multiproc=multiproc)
        done = series.extract_data()
    assert (done.changed, done.failed) == (1, 0)
    assert "1 changed while being read" in str(done)
    entry = entry_of(series, one)
    assert (entry.state, entry.file, entry.rows) == (State.PENDING, "", 0)
    assert not list(series.folder.rglob(f"*{one.stem}*"))
    assert series.incomplete
    (error,) = series.report.query("changed_while_read > 0")["error"]
    assert error == f"{path.name} of {one.stem} changed while being read; run again."
    again = compil_of(archive, tmp_path / "extraction")
    looked = again.extract_data(getstat=False)
    assert looked.notes == ["1 image to be extracted: their files changed while they were read."]
    assert again.extract_data().acquisitions == 1
    fresh = compil_of(archive, tmp_path / "fresh")
    fresh.extract_data()
    pd.testing.assert_frame_equal(again.data["NDVI"], fresh.data["NDVI"])
    assert not again.incomplete
    assert compil_of(archive, tmp_path / "extraction").extract_data().acquisitions == 0


def test_it_is_noticed_on_a_cluster_too(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another, *_ = products(archive)[1:]
    (band,) = one.rglob(FILES["band"])
    content = other_content(one, another, "band")
    disturbed(monkeypatch, one, lambda: put(band, content), "before", cluster)
    options: dict[str, Any] = {"processes": False, "n_workers": 1, "dashboard_address": ":0"}
    with distributed.Client(set_as_default=False, **options) as client:  # type: ignore[no-untyped-call]
        assert compil_of(archive, tmp_path / "extraction", executor=client).extract_data().changed == 1


def test_a_change_that_keeps_size_and_time_is_noticed_while_a_file_is_read(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = products(archive)[1]
    (band,) = one.rglob(FILES["band"])
    facts, content = band.stat(), bytearray(band.read_bytes())
    content[-200] ^= 1

    def overwrite() -> None:
        band.write_bytes(content)
        os.utime(band, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    disturbed(monkeypatch, one, overwrite, "after")
    assert compil_of(archive, tmp_path / "extraction").extract_data().changed == 1


def test_rows_that_are_there_stay_while_a_replacement_changes(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another, *_ = products(archive)[1:]
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    before, kept = series.data["NDVI"], entry_of(series, one)
    (band,) = one.rglob(FILES["band"])
    put(band, b"half")
    disturbed(monkeypatch, one, lambda: put(band, other_content(one, another, "band")), "before")
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    assert (done.changed, done.images) == (1, 0)
    assert replace(entry_of(series, one), state=State.DONE, reasons=kept.reasons, error="", grid=kept.grid) == kept
    pd.testing.assert_frame_equal(series.data["NDVI"], before)
    assert compil_of(archive, tmp_path / "extraction").extract_data().images == 1


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_removed_after_it_was_read_does_no_harm(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fresh = compil_of(archive, tmp_path / "fresh")
    fresh.extract_data()
    one = products(archive)[1]
    (path,) = one.rglob(FILES[what])
    disturbed(monkeypatch, one, path.unlink, "after")
    series = compil_of(archive, tmp_path / "extraction")
    assert (series.extract_data().changed, series.incomplete) == (0, False)
    pd.testing.assert_frame_equal(series.data["NDVI"], fresh.data["NDVI"])


def test_a_file_that_vanishes_before_it_is_read_leaves_no_poorer_row_for_good(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of an archive may be away for a moment, and come back with the same files."""
    one = products(archive)[1]
    (path,) = one.rglob(FILES["cldprb"])
    with monkeypatch.context() as patch:
        disturbed(patch, one, lambda: path.rename(tmp_path / "away"), "before")
        assert compil_of(archive, tmp_path / "extraction").extract_data().changed == 1
    (tmp_path / "away").rename(path)
    series = compil_of(archive, tmp_path / "extraction")
    assert series.extract_data().images == 1
    assert series.data["NDVI"]["cldprb"].notna().all()


def test_a_file_that_is_replaced_by_one_that_cannot_be_read_is_told(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = products(archive)[1]
    (band,) = one.rglob(FILES["band"])
    with monkeypatch.context() as patch:
        disturbed(patch, one, lambda: put(band, b"no raster"), "before")
        assert compil_of(archive, tmp_path / "extraction").extract_data().changed == 1
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    assert (done.changed, done.failed) == (0, 1)


def test_a_single_run_gives_no_row_of_files_that_changed(
    archive: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another, *_ = products(archive)[1:]
    (band,) = one.rglob(FILES["band"])
    disturbed(monkeypatch, one, lambda: put(band, other_content(one, another, "band")), "after")
    series = TimeSeries(archive.layer, ["NDVI"], cm_version="CM004", iterations=1, library=archive.library, quiet=True)
    assert not series.data["NDVI"]["filename"].str.startswith(one.stem).any()
    assert series.incomplete
    (line,) = series.report.query("changed_while_read > 0").to_dict("records")
    assert line["acquisition"] == one.stem
    assert "_B04_10m.jp2" in line["error"]


# -------------------------------------------------------------------------------------------------------- copied files


def test_a_copied_archive_is_known_again_by_its_content(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    age(archive.library, 100)  # new times, same bytes
    looked = compil_of(archive, tmp_path / "extraction").extract_data(getstat=False)
    assert (looked.asked, looked.notes) == (0, [])
    again = compil_of(archive, tmp_path / "extraction").extract_data()
    assert (again.acquisitions, again.kept) == (0, done.images + done.empty)
    inputs = json.loads(entry_of(series, products(archive)[0]).inputs)["files"]
    (band,) = products(archive)[0].rglob(FILES["band"])
    assert inputs["value B04"][:3] == [band.name, band.stat().st_size, band.stat().st_mtime_ns]


@pytest.mark.parametrize("what", FILES)
def test_other_bytes_in_the_middle_are_noticed_by_their_time(
    archive: demo.DemoArchive, tmp_path: Path, what: str
) -> None:
    compil_of(archive, tmp_path / "extraction").extract_data()
    age(archive.library, 100)
    (path,) = products(archive)[1].rglob(FILES[what])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (time.time() - 50,) * 2)
    series = compil_of(archive, tmp_path / "extraction")
    looked = series.extract_data(getstat=False)
    word = {"band": "B04", "mask": "SCL", "metadata": "MTD_MSIL2A.xml", "cldprb": "CLDPRB"}[what]
    assert looked.notes == [f"1 image to be extracted: files have changed ({word})."]


def test_parts_of_a_large_file_are_spread_over_it(tmp_path: Path) -> None:
    path, size = tmp_path / "band.jp2", 3 << 20
    content = bytearray(random.Random(1).choices(range(1, 256), k=size))
    path.write_bytes(content)
    whole = digest_of_parts(str(path))
    assert whole == digest_of_parts(str(shutil.copy(path, tmp_path / "copy.jp2")))
    for at in (0, 8000, size // 2, size - 1, *range(size // 20, size, size // 5)):
        lost = content.copy()
        lost[at : at + size // 16] = bytes(len(lost[at : at + size // 16]))  # a hole, as of a broken download
        path.write_bytes(lost)
        assert digest_of_parts(str(path)) != whole, at
    path.write_bytes(content[:-1])
    assert digest_of_parts(str(path)) != whole
    assert digest_of_parts(str(tmp_path / "absent.jp2")) == ""


def as_the_former_version_wrote_it(series: TimeSeriesCompil, archive: demo.DemoArchive, *, young: bool) -> None:
    """Enter what that version knew of files: name, size and time, and the SHA-256 of those younger than two seconds."""
    with closing(sqlite3.connect(series.folder / "ledger.sqlite")) as base, base:
        for product, text in base.execute("SELECT product, inputs FROM images").fetchall():
            (safe,) = archive.library.rglob(f"{product}.SAFE")
            inputs, stamps = json.loads(text), {}
            for role, (name, *_) in inputs["files"].items():
                (path,) = safe.rglob(name)
                stamps[role] = [name, path.stat().st_size, path.stat().st_mtime_ns]
                stamps[role] += [hashlib.sha256(path.read_bytes()).hexdigest()] if young else []
            former = json.dumps({"formula": inputs["formula"], "files": stamps}, sort_keys=True)
            base.execute("UPDATE images SET inputs = ? WHERE product = ?", (former, product))


@pytest.mark.parametrize("young", [False, True])
def test_a_folder_of_the_former_version_is_continued(archive: demo.DemoArchive, tmp_path: Path, *, young: bool) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    as_the_former_version_wrote_it(series, archive, young=young)
    again = compil_of(archive, tmp_path / "extraction").extract_data()
    assert (again.acquisitions, again.kept) == (0, done.images + done.empty)
    age(archive.library, 100)  # that run has learned what the content is
    assert compil_of(archive, tmp_path / "extraction").extract_data().acquisitions == 0
    as_the_former_version_wrote_it(series, archive, young=young)
    age(archive.library, 50)  # without that, the time decides as it did
    looked = compil_of(archive, tmp_path / "extraction").extract_data(getstat=False)
    assert looked.asked == (0 if young else done.images + done.empty)


def test_the_ledger_keeps_the_text_that_the_former_version_wrote(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    product = products(archive)[0]
    kept = {}
    for role, pattern in {"value B04": "*_B04_10m.jp2", "value B08": "*_B08_10m.jp2", "mask SCL": "*_SCL_20m.jp2",
                          "metadata": "MTD_MSIL2A.xml", "cldprb": "MSK_CLDPRB_20m.jp2"}.items():  # fmt: skip
        (path,) = product.rglob(pattern)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]  # all are smaller than 1 MiB
        kept[role] = [path.name, path.stat().st_size, path.stat().st_mtime_ns, f"parts:{digest}"]
    want = json.dumps({"formula": "(B08-B04)/(B08+B04)", "files": kept}, sort_keys=True)
    assert entry_of(series, product).inputs == want
    (young,) = product.rglob("*_B04_10m.jp2")
    os.utime(young, (time.time() + 60,) * 2)
    tasks = compil_of(archive, tmp_path / "other").plan.tasks
    (task,) = (each for each in tasks if str(each.product) == product.stem)
    kept["value B04"] = [young.name, young.stat().st_size, young.stat().st_mtime_ns]
    kept["value B04"] += [hashlib.sha256(young.read_bytes()).hexdigest()]
    for role in kept.keys() - {"value B04"}:
        kept[role] = kept[role][:3]  # no time was given for digests
    want = json.dumps({"formula": "(B08-B04)/(B08+B04)", "files": kept}, sort_keys=True)
    assert Inputs(open_library(archive.library)).identity(task, task.outputs[0]) == want
    task = replace(task, outputs=(replace(task.outputs[0], reason=Reason.FAILED, detail="lost"),))
    assert Inputs(open_library(archive.library)).identity(task, task.outputs[0]) == '{"missing": "lost"}'


# ----------------------------------------------------------------------------------------------------------------- why


def test_a_dry_run_says_why_images_are_to_be_extracted(archive: demo.DemoArchive, tmp_path: Path) -> None:
    first, second, third, fourth, *_ = found = products(archive)
    aside = first.rename(tmp_path / "aside")
    (broken,) = second.rglob(FILES["band"])
    good = broken.read_bytes()
    broken.write_bytes(b"no raster")
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    aside.rename(first)
    broken.write_bytes(good)
    next(series.folder.rglob(f"*{third.stem}*.parquet")).unlink()
    for name in ("band", "metadata"):
        (path,) = fourth.rglob(FILES[name])
        path.write_bytes(path.read_bytes() + b"\n")
    looked = compil_of(archive, tmp_path / "extraction").extract_data(getstat=False)
    assert set(looked.notes) == {
        "1 image to be extracted: they are new.",
        "1 image to be extracted: they failed before.",
        "1 image to be extracted: their file of rows is gone or was changed.",
        "1 image to be extracted: files have changed (B04, MTD_MSIL2A.xml).",
    }
    forced = compil_of(archive, tmp_path / "extraction").extract_data(getstat=False, force=True)
    assert f"{len(found) - 2} images to be extracted: all are asked for (force)." in forced.notes
    mine = {"indices": ["MINE=B08/B04"]}
    compil_of(archive, tmp_path / "extraction", **mine).extract_data()
    other = compil_of(archive, tmp_path / "extraction", indices=["MINE=B04/B08"]).extract_data(getstat=False)
    assert other.notes == [f"{len(found)} images to be extracted: their formula is another one."]


def test_a_young_zip_file_is_read_once_for_all_that_lies_in_it(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = products(archive)[0]
    shutil.make_archive(str(tmp_path / "safe" / product.name), "zip", product.parent, product.name)
    (task,) = TimeSeries(archive.layer, ["NDVI"], safe=tmp_path / "safe", quiet=True).plan.tasks
    opened: list[str] = []

    def noted(path: str) -> Any:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr(file_identity, "open_regular", noted)
    files = Inputs(open_library(safe=tmp_path / "safe"))
    files.note(task)
    assert opened == [str(tmp_path / "safe" / f"{product.name}.zip")]
    assert files.changed(task, digest=False) == {}
    assert len(opened) == 2


def test_a_zipped_product_is_known_by_its_archive(tmp_path: Path) -> None:
    folder = tmp_path / "old.zip"
    folder.mkdir()
    archive = folder / "S2A.zip"
    archive.write_bytes(b"x" * 10)
    location = f"/vsizip/{archive}/S2A.SAFE/band.jp2"
    assert FileIdentity().identify([location])[location].size == 10
