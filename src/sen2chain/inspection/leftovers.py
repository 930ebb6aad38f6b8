"""Leftovers in an archive: incomplete files, side files without raster, empty folders, names that are not read."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from sen2chain.archive import FileKind
from sen2chain.atomic import is_abandoned
from sen2chain.inspection.findings import DOWNLOAD, Finding, Part, Severity
from sen2chain.progress import counted
from sen2chain.reasons import Reason
from sen2chain.sensor import ESA_NAMING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sen2chain.archive import ArchiveFile, ArchiveFiles
    from sen2chain.products import Skipped

_SIDE = ".aux.xml"
_PARTIAL = re.compile(r".*\.(part|partial|tmp|temp)", re.IGNORECASE | re.DOTALL)
_RASTER = re.compile(r".*\.(tif|jp2)", re.DOTALL)
_LONGEST_WRITE = 86400.0  # seconds after its last change, from which no program writes a file any more
_MOST_NAMED = 3  # files that are named in a sentence


BEING_WRITTEN = "is an incomplete file that a run may be writing now"
"""Clause on an incomplete file that is too young to be a leftover."""


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
    strays: dict[str, list[str]] = defaultdict(list)
    for file in files.files:
        if tiles is None or file.tile in tiles or not file.tile:
            found = list(_of_file(file, present, shown))
            yield from found
            if not found and file.kind is FileKind.OTHER and _is_beside_rasters(file.location):
                strays[file.tile].append(shown(file.location))
    for tile, names in strays.items():
        yield _strays(tile, names)
    for folder, tile in files.empty:
        if tiles is None or tile in tiles:
            clause, advice = "is an empty folder of a product", "remove it, or let --fix do so"
            yield Finding(Severity.NOTE, Part.LEFTOVERS, shown(folder), clause, advice, tile, folder)
    for item in skipped:
        if tiles is None or item.tile in tiles or not item.tile:
            severity = Severity.ERROR if item.reason is Reason.UNREADABLE else Severity.WARNING
            yield Finding(severity, Part.LEFTOVERS, item.name, f"is not read: {item.detail.rstrip('.')}", "", item.tile)
    for text in files.unread:
        yield Finding(Severity.WARNING, Part.LEFTOVERS, text, "could not be looked at", "check its permissions")


def _is_beside_rasters(location: str) -> bool:
    """Whether a file lies in a folder of one product's indices, masks or quicklooks."""
    folder = location.rpartition("/")[0].rpartition("/")[2]
    return ESA_NAMING.resembles(folder) and not folder.endswith(".SAFE")


def _strays(tile: str, names: list[str]) -> Finding:
    """Return the note on files that no product knows."""
    first = ", ".join(name.rpartition("/")[2] for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    clause = (
        f"has {counted(len(names), 'file')} in folders of products whose names are not those of an index or a mask of "
        f"the product, so they are not read: {first}{more}"
    )
    return Finding(Severity.NOTE, Part.LEFTOVERS, tile or names[0], clause, "", tile)


def _of_file(file: ArchiveFile, present: set[str], shown: Callable[[str], str]) -> Iterator[Finding]:
    name = file.location.rpartition("/")[2]
    is_partial = (
        file.kind in {FileKind.OTHER, FileKind.QUICKLOOK}
        and _PARTIAL.fullmatch(name) is not None
        and _is_beside_rasters(file.location)
    )
    if file.kind is FileKind.LEFTOVER or is_partial:
        age = max(time.time() - file.changed / 1e9, 0.0)
        if is_abandoned(name, age) or (is_partial and age > _LONGEST_WRITE):
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
            yield Finding(Severity.NOTE, Part.LEFTOVERS, shown(file.location), BEING_WRITTEN, "", file.tile)
    elif (
        file.kind is FileKind.OTHER and not file.size and _RASTER.fullmatch(name) and _is_beside_rasters(file.location)
    ):
        clause, advice = "is an empty file in the place of a raster", "let --fix move it aside"
        yield Finding(Severity.ERROR, Part.LEFTOVERS, shown(file.location), clause, advice, file.tile, file.location)
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
