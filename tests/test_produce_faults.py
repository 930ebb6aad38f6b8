"""Production that is killed, interrupted, raced, or meets a full disk, a folder that cannot be written, damaged files.

``python tests/product_faults.py`` kills two hundred runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rasterio

from far_end import lock, small_disk
from product_faults import ProductFaults, content
from sen2chain import INDICES, Index, Mask, TimeSeries, demo
from sen2chain.archive import open_target
from sen2chain.atomic import is_temporary
from sen2chain.errors import OutputError
from sen2chain.produce import Outcome, ProductRequest, plan_products, produce_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sen2chain.produce import Production


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductFaults]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        made = ProductFaults(tmp_path_factory.mktemp("product-faults"))
        yield made
        made.close()


# Blocks, so that workers that run tests in parallel build few archives.
@pytest.mark.parametrize("block", range(2))
def test_nothing_half_written_is_taken_for_a_product_and_the_next_run_completes(
    faults: ProductFaults, block: int
) -> None:
    seen = [faults.kill_once(seed) for seed in range(25 * block, 25 * (block + 1))]
    # A test whose processes are all over before they are killed would prove nothing.
    # How many are depends on how much else the machine does.
    assert sum("killed" in how for how in seen) > 5


def test_runs_that_race_make_each_file_once(faults: ProductFaults) -> None:
    for seed, runs in enumerate((2, 2, 3)):
        faults.race(seed, runs)


def test_an_interrupted_run_ends_soon_and_leaves_whole_files_alone(faults: ProductFaults) -> None:
    ended_early = 0
    for n in range(6):
        library, result = faults.library(f"interrupted{n}"), faults.folder / "interrupted.json"
        process = faults.start(library, result)
        time.sleep(faults.seconds * (n + 1) / 7)
        os.kill(process, signal.SIGINT)
        begin = time.monotonic()
        code = faults.wait(process)
        assert time.monotonic() - begin < 20
        ended_early += code != 0
        assert not temporary_files(library)
        assert content(library).items() <= faults.want.items()
        faults.run(library)
        assert content(library) == faults.want
    assert ended_early


# ------------------------------------------------------------------------------------------- disks and folders


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(
        size=120, parcels=4, overpasses=demo.season(4), bands=("B04", "B08", "B11", "SCL"), tiles=("31TGJ",)
    )
    made = demo.build(tmp_path_factory.mktemp("disks"), scene)
    old = time.time() - 60
    for path in made.library.rglob("*"):
        os.utime(path, (old, old))
    return made


def library_at(folder: Path, archive: demo.DemoArchive) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data/L2A").symlink_to(archive.library / "data/L2A")
    return folder


def produce(library: Path, **asked: Any) -> Production:
    request = ProductRequest(**{"indices": (INDICES["NDVI"],), "masks": (Mask.parse("CM004"),), **asked})
    source = open_target(library)
    return produce_files(plan_products(request, source), source, quiet=True)


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if is_temporary(path.name)]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_full_disk_is_one_sentence_and_the_archive_is_as_it_was(
    archive: demo.DemoArchive, tmp_path: Path, workers: int
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        library = library_at(disk / "library", archive)
        produce(library, first=archive.products[-1].sensing.date())
        before = content(library)
        assert len(before) == 2
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - (100 << 10)))
        done = produce(library, workers=workers)
        assert "No room is left on the disk for" in done.ended_by
        assert done.ended_by.count(". ") == 0
        assert done.failed
        assert sum(done.counts().values()) == 8
        assert not temporary_files(disk)
        after = content(library)
        assert before.items() <= after.items()
        assert after.keys() == {str(path.relative_to(library)) for path in done.files}
        filler.unlink()
        again = produce(library)
        assert (again.failed, again.ended_by) == ([], "")
        assert len(content(library)) == 8


def test_every_amount_of_room_leaves_whole_files_or_none(archive: demo.DemoArchive, tmp_path: Path) -> None:
    """The disk is full at the source, in the compression, at its last bytes, at a folder."""
    produce(library_at(tmp_path / "whole", archive))
    want = content(tmp_path / "whole")
    one_day = {"first": archive.products[0].sensing.date(), "last": archive.products[0].sensing.date()}
    ended = 0
    with small_disk(tmp_path / "disk", "1m") as disk:
        for room in range(0, 120, 8):
            library = library_at(disk / "library", archive)
            filler = disk / "filler"
            filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - (room << 10), 0)))
            try:
                done = produce(library, **one_day)
                said = done.ended_by or "".join(file.detail for file in done.failed)
            except OutputError as error:  # already the folders cannot be made
                said = str(error)
            if said:
                ended += 1
                assert "No room is left" in said
            assert content(library).items() <= want.items()
            assert not temporary_files(disk)
            filler.unlink()
            shutil.rmtree(library)
    assert ended > 3


def test_folders_that_cannot_be_written_are_one_sentence_before_the_work(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        library = library_at(disk / "library", archive)
        produce(library, masks=())
        before = content(library)
        lock(disk)
        with pytest.raises(OutputError, match=r"Cannot write .*\(Read-only file system\); choose a folder") as error:
            produce(library)
        assert str(error.value).count(". ") == 0
        assert content(library) == before
        # What is there needs nothing to be written.
        assert produce(library, masks=()).counts() == {Outcome.KEPT: 4}


def test_one_part_of_the_library_on_a_read_only_disk(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_at(tmp_path / "library", archive)
    with small_disk(tmp_path / "disk", "1m") as disk:
        (library / "data/CLOUDMASKS").symlink_to(disk)
        lock(disk)
        with pytest.raises(OutputError, match="CLOUDMASKS"):
            produce(library)
        assert not content(library)
        assert len(produce(library, masks=()).files) == 4


def test_parts_of_the_library_that_are_links_to_other_disks(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_at(tmp_path / "library", archive)
    with small_disk(tmp_path / "disk", "4m") as disk:
        for part in ("INDICES", "CLOUDMASKS"):
            (disk / part).mkdir()
            (library / "data" / part).symlink_to(disk / part)
        assert produce(library).counts() == {Outcome.MADE: 8}
        assert len(list(disk.rglob("*.tif"))) == 8
        assert produce(library).counts() == {Outcome.KEPT: 8}


# --------------------------------------------------------------------------------------------------- damaged files


def copied(archive: demo.DemoArchive, folder: Path) -> Path:
    """Return a library with products of its own."""
    shutil.copytree(archive.library / "data/L2A", folder / "data/L2A")
    return folder


def test_a_damaged_band_costs_its_product_alone(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = copied(archive, tmp_path / "library")
    broken = archive.products[1]
    band = next((library / "data/L2A").rglob(f"{broken}.SAFE/**/*_B08_10m.jp2"))
    whole = band.read_bytes()
    band.write_bytes(whole[: len(whole) // 2])
    done = produce(library)
    assert done.counts() == {Outcome.MADE: 7, Outcome.FAILED: 1}
    (failed,) = done.failed
    assert (failed.product, failed.name) == (str(broken), "NDVI")
    assert band.name in failed.detail
    assert not failed.path.exists()
    assert not temporary_files(library)
    band.write_bytes(whole)
    assert produce(library).counts() == {Outcome.MADE: 1, Outcome.KEPT: 7}


@pytest.mark.parametrize(
    ("broken", "lost"),
    [
        (["B08"], {"NDVI"}),
        (["B04", "B08"], {"NDVI", "RED"}),
        (["SCL"], {Mask.parse("CM004").name}),
        (["B11"], {"SWIR"}),
    ],
)
def test_rasters_that_cannot_be_opened_cost_their_own_files_alone(
    archive: demo.DemoArchive, tmp_path: Path, broken: list[str], lost: set[str]
) -> None:
    library = copied(archive, tmp_path / "library")
    odd = archive.products[1]
    for band in broken:
        next((library / "data/L2A").rglob(f"{odd}.SAFE/**/*_{band}_?0m.jp2")).write_bytes(b"\0" * 100)
    indices = (INDICES["NDVI"], Index("RED", "B04"), Index("SWIR", "B11"))
    done = produce(library, indices=indices)
    assert done.counts() == {Outcome.MADE: 16 - len(lost), Outcome.FAILED: len(lost)}
    assert {(file.product, file.name) for file in done.failed} == {(str(odd), name) for name in lost}
    assert all("cannot be opened" in file.detail for file in done.failed)


def test_a_raster_that_was_damaged_later_costs_its_product_alone(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_at(tmp_path / "library", archive)
    produce(library)
    paths = sorted((library / "data/INDICES").rglob("*.tif"))
    cut, flipped = paths[0], paths[2]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    content_of = bytearray(flipped.read_bytes())
    middle = len(content_of) * 2 // 3
    content_of[middle : middle + 400] = bytes(400)
    flipped.write_bytes(content_of)
    asked: dict[str, Any] = {"indices": "NDVI", "masks": Mask.parse("CM004").name, "library": library, "quiet": True}
    report = TimeSeries(archive.layer, **asked).report.set_index("acquisition")
    bad = report[report["unreadable"] > 0]
    assert set(bad.index) == {flipped.parent.name}  # in the place of the one that is cut off the bands serve
    assert bad["error"].str.contains(r"\.tif").all()
    assert (report.drop(bad.index)["rows"] > 0).any()
    # Headers tell that a file is cut off; what is within files is looked at by `check`, not by each run.
    assert produce(library).counts() == {Outcome.AGAIN: 1, Outcome.KEPT: 7}
    assert produce(library, force=True).counts() == {Outcome.AGAIN: 8}
    report = TimeSeries(archive.layer, **asked).report
    assert not report["unreadable"].any()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_something_else_under_the_name_of_a_product(archive: demo.DemoArchive, tmp_path: Path, make: Any) -> None:
    library = library_at(tmp_path / "library", archive)
    odd = archive.products[0]
    place = library / "data/INDICES/NDVI" / odd.tile / str(odd) / f"{odd}_NDVI.tif"
    place.parent.mkdir(parents=True)
    make(place)
    done = produce(library)
    assert done.counts() == {Outcome.MADE: 7, Outcome.REFUSED: 1}
    assert done.refused[0].path == place
    assert "is not a file" in done.refused[0].detail
    assert os.path.lexists(place)


def test_files_of_other_programs_and_names_that_are_not_utf_8_are_left(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    library = library_at(tmp_path / "library", archive)
    produce(library)
    folder = next((library / "data/INDICES").rglob("*.tif")).parent
    strange = [
        folder / ".DS_Store",
        folder / os.fsdecode(b"caf\xe9.tif"),
        folder / ".0123456789abcdef.tmp",  # of the first version, and young
        folder / "notes.txt",
    ]
    for path in strange:
        path.write_bytes(b"mine")
    produce(library, force=True)
    assert [path.read_bytes() for path in strange] == [b"mine"] * 4


def test_products_whose_path_is_not_utf_8_have_a_reason_each(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = copied(archive, tmp_path / os.fsdecode(b"biblioth\xe8que"))
    done = produce(library)
    assert done.counts() == {Outcome.FAILED: 8}
    assert all("its name is not UTF-8; rename it" in file.detail for file in done.failed)
    assert not temporary_files(library)


def test_a_library_whose_path_is_not_utf_8_is_written(archive: demo.DemoArchive, tmp_path: Path) -> None:
    source = open_target(library_at(tmp_path / os.fsdecode(b"biblioth\xe8que"), archive), archive.library / "data/L2A")
    request = ProductRequest(indices=(INDICES["NDVI"],))
    done = produce_files(plan_products(request, source), source, quiet=True)
    assert set(done.counts()) in ({Outcome.MADE}, {Outcome.FAILED})
    assert all("UTF-8" in file.detail for file in done.failed)


def test_the_oracle_of_these_tests_can_fail(faults: ProductFaults) -> None:
    library = faults.library("tampered")
    faults.run(library)
    path = next((library / "data/INDICES").rglob("*.tif"))
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        pixels = file.read(1)
        pixels[3, 3] ^= 1
        file.write(pixels, 1)
    with pytest.raises(AssertionError, match="other content"):
        faults._check(library, 0)
