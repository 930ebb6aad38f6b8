"""Files of rows are on the disk before the ledger records them, at the price of one sync for an acquisition."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sen2chain import TimeSeriesCompil, atomic, demo
from sen2chain.atomic import FileGroup
from sen2chain.errors import OutputError
from sen2chain.store import ImageLedger


def images(folder: Path, count: int) -> list[Path]:
    return [folder / f"{n}" / f"{n}.csv" for n in range(count)]


def write(folder: Path, paths: list[Path], content: bytes = b"rows") -> None:
    with FileGroup(folder) as files:
        for path in paths:
            files.append(path, content)
        files.finish()


class Disk:
    """Counts what is synced, and lets `syncfs` end as a kernel may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int | None = 0) -> None:
        self.files, self.disks, self.code = 0, 0, code
        fsync = os.fsync

        def one(descriptor: int) -> None:
            self.files += 1
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", one)
        monkeypatch.setattr(atomic, "_syncfs", lambda: None if code is None else self._all)

    def _all(self, descriptor: int) -> int:
        assert os.fstat(descriptor)
        self.disks += 1
        ctypes.set_errno(self.code or 0)
        return -1 if self.code else 0


def test_the_files_of_an_acquisition_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    paths = images(tmp_path, 20)
    write(tmp_path, paths)
    assert (disk.files, disk.disks) == (0, 2)  # contents before they take their names, and names at the end
    write(tmp_path, paths, b"again")
    assert (disk.files, disk.disks) == (0, 4)
    assert {path.read_bytes() for path in paths} == {b"again"}
    write(tmp_path, paths[:1])
    assert (disk.files, disk.disks) == (2, 4)  # whatever else the disk has to write is not waited for
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize("code", [None, errno.ENOSYS, errno.EPERM])
def test_where_a_disk_cannot_be_synced_each_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    disk = Disk(monkeypatch, code)
    write(tmp_path, images(tmp_path, 5))
    assert disk.files == 10  # each file and its folder


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_the_disk_could_not_write_takes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    Disk(monkeypatch, code)
    with pytest.raises(OutputError, match="No room is left" if code == errno.ENOSPC else "Cannot write"):
        write(tmp_path, images(tmp_path, 5))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_contents_are_on_the_disk_before_names_and_names_of_replaced_files_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, seen = images(tmp_path, 2), list[str]()
    write(tmp_path, paths)
    replace = Path.replace

    def sync(_: Path) -> bool:
        seen.append("sync")
        return True

    def named(path: Path, to: Path) -> Path:
        seen.append("name")
        return replace(path, to)

    monkeypatch.setattr(atomic, "_sync_disk", sync)
    monkeypatch.setattr(Path, "replace", named)
    with FileGroup(tmp_path) as files:
        for path in paths:
            files.append(path, b"other")
        assert seen == []
        files.finish()
        assert seen == ["sync", "name", "name", "sync"]
    assert len(seen) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can sync a disk")
def test_this_kernel_can_sync_a_disk(tmp_path: Path) -> None:
    assert atomic._sync_disk(tmp_path) in {True, False}
    assert not atomic._sync_disk(tmp_path / "absent")


SCENE = demo.Scene(size=90, parcels=6, overpasses=demo.season(3), bands=("B04", "B08", "SCL", "CLDPRB"))


def test_an_update_syncs_once_for_each_acquisition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = demo.build(tmp_path, SCENE)
    options: dict[str, Any] = {"library": archive.library, "extraction": tmp_path / "e", "quiet": True, "multiproc": 1}
    options |= {"indices": ["NDVI", "A=B08/B04", "B=B04/B08"], "masks": ["CM001", "CM004"]}
    disk, seen = Disk(monkeypatch), list[int]()
    record = ImageLedger.record

    def recorded(ledger: ImageLedger, entries: list[Any]) -> None:
        seen.append(disk.disks)
        record(ledger, entries)

    monkeypatch.setattr(ImageLedger, "record", recorded)
    series = TimeSeriesCompil(archive.layer, **options)
    before = disk.files
    done = series.extract_data()
    assert done.images > 3 * done.acquisitions > 0
    assert seen == list(range(1, done.acquisitions + 1))  # before the ledger records the acquisition
    assert disk.disks == done.acquisitions + 1
    assert disk.files - before < 10  # the folder and the layer in it
    assert series.extract_data(force=True).images == done.images
    assert disk.disks <= 3 * done.acquisitions + 2  # names that replace others are synced too
