"""Leftovers in an archive: incomplete files, side files without raster, empty folders, names that are not read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sen2chain.archive import FileKind
from sen2chain.atomic import is_abandoned
from sen2chain.inspection.findings import DOWNLOAD, Finding, Part, Severity
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sen2chain.archive import ArchiveFile, ArchiveFiles
    from sen2chain.products import Skipped

_SIDE = ".aux.xml"


def find_leftovers(
    files: ArchiveFiles, skipped: Iterable[Skipped], shown: Callable[[str], str], tiles: frozenset[str] | None = None
) -> Iterator[Finding]:
    """Find what interrupted work left, and what serves nothing.

    Parameters
    ----------
    files
        All files of the archive.
    skipped
        What the source found and could not use.
    shown
        Returns a path as people know it.
    tiles
        The tiles that are checked; None for all.
    """
    present = {file.location for file in files.files}
    for file in files.files:
        if tiles is None or file.tile in tiles or not file.tile:
            yield from _of_file(file, present, shown)
    for folder, tile in files.empty:
        if tiles is None or tile in tiles:
            yield Finding(
                Severity.NOTE, Part.LEFTOVERS, shown(folder), "is an empty folder of a product", "remove it", tile
            )
    for item in skipped:
        if tiles is None or item.tile in tiles or not item.tile:
            severity = Severity.ERROR if item.reason is Reason.UNREADABLE else Severity.WARNING
            yield Finding(severity, Part.LEFTOVERS, item.name, f"is not read: {item.detail.rstrip('.')}", "", item.tile)
    for text in files.unread:
        yield Finding(Severity.WARNING, Part.LEFTOVERS, text, "could not be looked at", "check its permissions")


def _of_file(file: ArchiveFile, present: set[str], shown: Callable[[str], str]) -> Iterator[Finding]:
    name = file.location.rpartition("/")[2]
    if file.kind is FileKind.LEFTOVER:
        age = max(time.time() - file.changed / 1e9, 0.0)
        if is_abandoned(name, age):
            yield Finding(
                Severity.WARNING,
                Part.LEFTOVERS,
                shown(file.location),
                "is an incomplete file that an interrupted run left",
                "remove it, or let --fix move it aside",
                file.tile,
                file.location,
            )
        else:
            clause = "is an incomplete file that a run may be writing now"
            yield Finding(Severity.NOTE, Part.LEFTOVERS, shown(file.location), clause, "", file.tile)
    elif file.kind is FileKind.UNUSED_PRODUCT and not file.files:
        clause = "is an empty folder of a product"
        yield Finding(Severity.WARNING, Part.LEFTOVERS, shown(file.location), clause, DOWNLOAD, file.tile)
    elif name.endswith(_SIDE) and file.location.removesuffix(_SIDE) not in present:
        yield Finding(
            Severity.NOTE,
            Part.LEFTOVERS,
            shown(file.location),
            "is the side file of a raster that is not there",
            "remove it, or let --fix move it aside",
            file.tile,
            file.location,
        )
