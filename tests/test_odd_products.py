"""Libraries with odd rasters, folders and settings: what is produced, read and checked in spite of them."""

from __future__ import annotations

import multiprocessing
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
def test_a_forked_process_can_produce(home: Path) -> None:
    """It has none of the threads that GDAL began in the process before."""
    assert produce(home, force=True).failed == []
    process = multiprocessing.get_context("fork").Process(target=produce, args=(home,), kwargs={"force": True})
    process.start()
    process.join(60)
    is_done = process.exitcode == 0
    process.kill()
    assert is_done


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
        ({"PRODUCT": "x\n\x7f" * 100}, "refused"),
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
