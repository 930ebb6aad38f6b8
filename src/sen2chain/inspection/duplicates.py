"""Duplicates in an archive: acquisitions, products and rasters that are there more than once."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

import shapely

from sen2chain.archive import FileKind
from sen2chain.inspection.findings import Finding, Part, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sen2chain.archive import ArchiveFiles
    from sen2chain.products import Acquisition, ProductId

_SAME_GROUND = 0.5
"""Share of the smaller of two products from which they show the same ground; two parts of one pass hardly overlap."""
_RASTERS = {FileKind.INDEX, FileKind.MASKED, FileKind.MASK}


def find_duplicates(
    acquisitions: Iterable[Acquisition],
    copies: Mapping[ProductId, Sequence[str]],
    files: ArchiveFiles,
    shown: Callable[[str], str],
    tiles: frozenset[str] | None = None,
) -> Iterator[Finding]:
    """Find what is there twice.

    Parameters
    ----------
    acquisitions
        The products.
    copies
        Product -> its folders and zip files, where there is more than one.
    files
        All files of the archive.
    shown
        Returns a path as people know it.
    tiles
        The tiles that are checked; None for all.
    """
    yield from _acquisitions(acquisitions)
    for product, places in sorted(copies.items()):
        if tiles is None or product.tile in tiles:
            clause = f"is there {len(places)} times: {', '.join(map(shown, places))}"
            yield Finding(
                Severity.WARNING,
                Part.DUPLICATES,
                str(product),
                clause,
                "keep one of them; they count once",
                product.tile,
            )
    twice: dict[str, list[str]] = defaultdict(list)
    tile_of = {}
    for file in files.files:
        if file.kind in _RASTERS and (tiles is None or file.tile in tiles):
            stem, _, suffix = file.location.rpartition(".")
            twice[stem].append(suffix)
            tile_of[stem] = file.tile
    for stem, suffixes in twice.items():
        if {"tif", "jp2"} <= set(suffixes):
            yield Finding(
                Severity.NOTE,
                Part.DUPLICATES,
                shown(f"{stem}.jp2"),
                "is there as .tif, too, which is read",
                "remove the .jp2 where nothing else reads it, or move it with sen2chain library convert --move-old",
                tile_of[stem],
            )


def _acquisitions(acquisitions: Iterable[Acquisition]) -> Iterator[Finding]:
    """Find acquisitions that exist in several products."""
    groups: dict[tuple[object, ...], list[Acquisition]] = defaultdict(list)
    for acquisition in acquisitions:
        if acquisition.bands:
            id_ = acquisition.id
            groups[id_.tile, id_.sensing, id_.platform, id_.orbit].append(acquisition)
    for group in groups.values():
        if len(group) < 2:
            continue
        best = max(group, key=lambda acquisition: (acquisition.id.baseline_rank, acquisition.id.generation))
        for other in group:
            if other is best or not _show_same_ground(best, other):
                continue
            same = other.id.baseline == best.id.baseline
            what = "generation of the same baseline" if same else "baseline"
            yield Finding(
                Severity.WARNING if same else Severity.NOTE,
                Part.DUPLICATES,
                str(other.id),
                f"is the same acquisition as {best.id}, in another {what}; the latter gives rows where both have data",
                "remove it if you do not need it",
                other.id.tile,
            )


def _show_same_ground(one: Acquisition, other: Acquisition) -> bool:
    """Whether two products show the same ground, and not two parts of one pass; True where that is not known."""
    outlines = one.details.footprint(), other.details.footprint()
    if outlines[0] is None or outlines[1] is None:
        return True
    with contextlib.suppress(shapely.errors.ShapelyError, ValueError):
        first, second = (shapely.make_valid(shapely.Polygon(outline)) for outline in outlines)
        smaller = min(first.area, second.area)
        return bool(smaller == 0 or first.intersection(second).area >= _SAME_GROUND * smaller)
    return True
