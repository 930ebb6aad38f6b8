"""Libraries with odd rasters, folders and settings: what is produced, read and checked in spite of them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
import rasterio
from affine import Affine

from sen2chain import Library, demo
from sen2chain.parallel import apart
from sen2chain.produce import Production, ProductPlan
from sen2chain.produce.cog_file import COMPRESSION
from sen2chain.produce.product_lock import lock_folder

if TYPE_CHECKING:
    from pathlib import Path

TILE = "31TGJ"
SCENE = demo.Scene(
    size=60, parcels=4, overpasses=demo.season(2), bands=("B03", "B04", "B08", "SCL", "CLDPRB"), tiles=(TILE,)
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """An archive with a raster of NDVI and a mask of each date, all of them a minute old."""
    archive = demo.build(tmp_path_factory.mktemp("odd"), SCENE)
    old = time.time() - 60
    for path in archive.library.rglob("*"):
        os.utime(path, (old, old))
    assert produce(archive.library, masks=["CM004"]).failed == []
    for path in archive.library.rglob("*"):
        os.utime(path, (old, old))
    return archive


@pytest.fixture
def home(made: demo.DemoArchive, tmp_path: Path) -> Path:
    return shutil.copytree(made.library, tmp_path / "library")


def produce(home: Path, **options: object) -> Production:
    done = Library(home).produce(**{"indices": ["NDVI"], "quiet": True, **options})  # type: ignore[arg-type]
    assert isinstance(done, Production)
    return done


def planned(home: Path, **options: object) -> ProductPlan:
    plan = Library(home).produce(**{"indices": ["NDVI"], "quiet": True, "dry_run": True, **options})  # type: ignore[arg-type]
    assert isinstance(plan, ProductPlan)
    return plan


def rasters(home: Path) -> list[Path]:
    return sorted(home.rglob("INDICES/**/*.tif"))


def retag(path: Path, **tags: str) -> None:
    def write() -> None:
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.update_tags(**{f"SEN2CHAIN_{name}": text for name, text in tags.items()})

    apart(write)
    os.utime(path, (1.6e9, 1.6e9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only there are processes forked")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_writes_without_the_threads_of_gdal() -> None:
    """It has none of those that GDAL began in the process before, and would wait for them for ever."""
    child = os.fork()
    if not child:
        os._exit(int(COMPRESSION["COG"]["NUM_THREADS"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert COMPRESSION["COG"]["NUM_THREADS"] == 2


def test_a_lock_that_a_killed_run_left_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a file system without locks a file takes their place, and a run would wait for it for ever."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = lock_folder(Library(home).paths)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(256):
        left = folder / f"{number:02x}.lock-soft"
        left.write_text("99999999\nanother-host\n")
        os.utime(left, (1.6e9, 1.6e9))
    done = produce(home, force=True)
    assert [str(file.outcome) for file in done.made] == ["failed", "failed"]
    assert all("is locked for more than a day" in file.detail for file in done.made)
    assert all("remove " in file.detail and ".lock-soft" in file.detail for file in done.made)
    assert "has no file locks" in caplog.text


def test_files_that_cannot_be_read_now_are_not_moved_aside(home: Path, tmp_path: Path) -> None:
    """A disk that fails, or a name that GDAL cannot take, says nothing about a raster."""
    odd = tmp_path / os.fsdecode(b"odd\xff")
    try:
        home.rename(odd)
    except OSError:
        pytest.skip("names are UTF-8 here")
    before = rasters(odd)
    checked = Library(odd).check(parts="rasters", fix=True, quiet=True)
    assert {found.sentence for found in checked.findings if found.item.endswith("_NDVI.tif")} == {
        "cannot be read: its name is not UTF-8"
    }
    assert rasters(odd) == before
    assert checked.set_aside is None


def test_locked_files_are_not_moved_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = rasters(home)[0]
    locked.write_bytes(locked.read_bytes()[:100])
    # Permissions do not hold for every user that runs tests.
    monkeypatch.setattr("sen2chain.inspection.raster_check.why_unread", lambda _: "Permission denied")
    checked = Library(home).check(parts="rasters", fix=True, quiet=True)
    assert {found.sentence for found in checked.findings} == {"cannot be read: Permission denied"}
    assert locked.exists()


def test_a_raster_beside_its_place_by_one_pixel_is_found(home: Path) -> None:
    odd = rasters(home)[0]

    def move() -> None:
        with rasterio.open(odd, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.transform = file.transform @ Affine.translation(1, 0)

    apart(move)
    found = Library(home).check(parts="rasters", quiet=True).findings
    assert [item.path for item in found if "other ground" in item.sentence] == [str(odd)]


@pytest.mark.parametrize(
    ("tags", "state"),
    [
        ({"INPUTS": '{"B04": ["a", Infinity, 1, "x"]}'}, "to make"),
        ({"INPUTS": '{"B04": ["a", 1, 1e999, "x"]}'}, "to make"),
        ({"INPUTS": "[" * 50_000}, "to make"),
        ({"OFFSETS": f'{{"B04": {"9" * 400}}}'}, "kept"),  # as the raster of another program
        ({"DEFINITION": "B04+" * 20_000 + "B04"}, "refused"),
        ({"PRODUCT": "x\n\x7f" * 100}, "to make"),
    ],
)
def test_odd_tags_cost_their_raster_alone_and_are_told_in_short(home: Path, tags: dict[str, str], state: str) -> None:
    odd = rasters(home)[0]
    retag(odd, **tags)
    files = {file.path: file for file in planned(home).files}
    assert str(files[odd].state) == state
    assert [str(file.state) for path, file in files.items() if path != odd] == ["kept"]
    assert len(files[odd].detail) < 400
    assert files[odd].detail.isprintable()
    checked = Library(home).check(parts="rasters", quiet=True)
    assert all(len(found.sentence) < 600 and found.sentence.isprintable() for found in checked.findings)
