"""Room on the disks that files are written to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sen2chain.files import is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """Room on one disk."""

    folder: Path
    """The library, or the folder of it that files are written into."""
    needed: int
    """Bytes that are to be written."""
    free: int | None
    """Bytes that are free; None where that is not known."""
    meanwhile: int = 0
    """Bytes that the files which are in the making take besides."""

    @property
    def fits(self) -> bool:
        """Whether there is room for it, as far as that is known."""
        return self.free is None or self.needed + self.meanwhile <= self.free


def rooms_of(
    files: Iterable[tuple[Path, int]], named: Iterable[Path] = (), at_once: Iterable[tuple[Path, int]] = ()
) -> tuple[Room, ...]:
    """Add up what is written to each disk, and look how much is free there.

    Parameters
    ----------
    files
        Files with the bytes that they will take.
    named
        Folders by which disks are named, where one of them is on the disk: the library's own, then its parts.
    at_once
        Those of the files that are written at once, with the bytes of what lies beside them meanwhile.
    """
    needed: dict[int, int] = {}
    beside: dict[int, int] = {}
    folder_of: dict[int, Path] = {}
    known: dict[int, Path] = {}
    place_of: dict[Path, tuple[int, Path] | None] = {}
    for path, size in files:
        if path.parent not in place_of:
            place_of[path.parent] = _disk_of(path.parent)
        if (place := place_of[path.parent]) is not None:
            disk, folder = place
            folder_of.setdefault(disk, folder)
            needed[disk] = needed.get(disk, 0) + size
    for path, size in at_once:
        if (place := place_of.get(path.parent)) is not None:
            beside[place[0]] = beside.get(place[0], 0) + size
    for folder in named:
        if (place := _disk_of(folder)) is not None and place[0] not in known:
            known[place[0]] = folder
    return tuple(
        Room(known.get(disk, folder_of[disk]), total, _free(folder_of[disk]), beside.get(disk, 0))
        for disk, total in needed.items()
    )


def _disk_of(folder: Path) -> tuple[int, Path] | None:
    """Return the number of the disk of a folder, and the nearest folder above it that exists."""
    place = next((parent for parent in (folder, *folder.parents) if is_folder(parent)), None)
    if place is None:
        return None
    return place.stat().st_dev, place


def _free(folder: Path) -> int | None:
    """Return the bytes that are free on the disk of a folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
