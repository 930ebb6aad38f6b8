"""Several files: parts of one mosaic, or side by side, by what GDAL says of them.

Parts of a mosaic have the same CRS, pixels that lie on one grid, and the same bands; a feature across a seam gets the
pixels of both. Files side by side have columns of their own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sen2chain.errors import RequestError, UnknownNameError, quoted
from sen2chain.rasters import stem_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sen2chain.grid import Grid
    from sen2chain.rasters import Band, StackFacts

COMBINATIONS = ("mosaic", "side-by-side")
"""What several files may be."""

_SHIFTED = 0.01  # share of a pixel by which grids may differ
_NARROW = 0.1  # share of a raster's edge that an overlap of parts has at most


@dataclass(frozen=True, slots=True)
class Part:
    """A file, and its place in the grid of its mosaic."""

    facts: StackFacts
    """What the file says of itself."""
    top: int
    """Row of the mosaic where it begins."""
    left: int
    """Column of the mosaic where it begins."""


@dataclass(frozen=True, slots=True)
class RasterGroup:
    """Files that give one set of columns: one file, or the parts of a mosaic."""

    name: str
    """What columns begin with; empty where there is one group only."""
    grid: Grid
    """Grid of all parts together."""
    bands: tuple[Band, ...]
    """The bands that are read, those of the first part."""
    parts: tuple[Part, ...]
    """The files; where they overlap, the first one that has a value counts."""

    def bands_of(self, part: int) -> list[Band]:
        """Return the bands of a part, which may have another no-data value."""
        by_number = {band.number: band for band in self.parts[part].facts.bands}
        return [by_number[band.number] for band in self.bands]

    @property
    def label(self) -> str:
        """The files in words."""
        first = self.parts[0].facts.location
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"


def arrange(
    files: Sequence[StackFacts],
    bands: str | Sequence[int | str] | None,
    combine: str | None,
    *,
    several: bool = False,
) -> list[RasterGroup]:
    """Decide what files are to each other.

    Parameters
    ----------
    files
        At least one.
    bands
        The bands that are wanted, see `chosen_bands`.
    combine
        One of `COMBINATIONS`; None decides by what the files say.
    several
        Whether a single file is what is left of several.

    Raises
    ------
    RequestError
        If that is not clear, or the files are not what `combine` says; the sentence names two of them.
    """
    if len(files) == 1:
        return [_group(stem_of(files[0].location) if several else "", files, bands)]
    if combine is None:
        combine = _what_they_are(files)
    if combine == "mosaic":
        for other in files[1:]:
            if why := _no_mosaic(files[0], other):
                raise RequestError(f"{files[0].location} and {other.location} are not parts of one mosaic: {why}.")
        return [_group("", files, bands)]
    return [_group(name, [one], bands) for name, one in zip(_names(files), files, strict=True)]


def _what_they_are(files: Sequence[StackFacts]) -> str:
    if any(_no_mosaic(files[0], other) for other in files[1:]):
        return "side-by-side"
    found = {}
    for one, other in itertools.combinations(files, 2):
        found[_overlap(one.grid, other.grid)] = one, other
    if "partial" in found or len(found.keys() - {"apart"}) + ("apart" in found) > 1:
        one, other = found.get("partial") or found["same"]
        raise RequestError(
            f"{one.location} and {other.location} overlap and have the same bands, so they may be parts of a mosaic or "
            "belong side by side; say which with combine='mosaic' or 'side-by-side' (--combine)."
        )
    return "side-by-side" if "same" in found else "mosaic"


def _overlap(one: Grid, other: Grid) -> str:
    """Tell how two rasters of one grid lie: the same ground, apart (but for a narrow seam), or in between."""
    mine, theirs = one.bounds, other.bounds
    if one.shape == other.shape and abs(mine.left - theirs.left) < one.pixel_xy[0] > abs(mine.top - theirs.top):
        return "same"
    wide = min(mine.right, theirs.right) - max(mine.left, theirs.left)
    high = min(mine.top, theirs.top) - max(mine.bottom, theirs.bottom)
    narrow = min(mine.right - mine.left, theirs.right - theirs.left) * _NARROW
    low = min(mine.top - mine.bottom, theirs.top - theirs.bottom) * _NARROW
    return "apart" if wide <= narrow or high <= low else "partial"


def _no_mosaic(one: StackFacts, other: StackFacts) -> str:
    """Return why two files are not parts of a mosaic; an empty text where they are."""
    first, second = one.grid, other.grid
    if first.crs != second.crs:
        return f"their CRS are {_crs(first)} and {_crs(second)}"
    (wide, high), (other_wide, other_high) = first.pixel_xy, second.pixel_xy
    rows, columns = max(first.shape[0], second.shape[0]), max(first.shape[1], second.shape[1])
    if abs(wide - other_wide) * columns > _SHIFTED * wide or abs(high - other_high) * rows > _SHIFTED * high:
        return f"their pixels are {wide:.10g} x {high:.10g} and {other_wide:.10g} x {other_high:.10g}"
    x, y = (second.bounds.left - first.bounds.left) / wide, (first.bounds.top - second.bounds.top) / high
    shift = max(abs(x - round(x)), abs(y - round(y)))
    if shift > _SHIFTED:
        return f"their pixels are shifted against each other by {shift:.3g} of a pixel"
    if len(one.bands) != len(other.bands):
        return f"they have {len(one.bands)} and {len(other.bands)} bands"
    for mine, theirs in zip(one.bands, other.bands, strict=True):
        for what in ("name", "number", "dtype", "scale", "offset"):
            if (was := getattr(mine, what)) != (now := getattr(theirs, what)):
                return f"the {what} of band {mine.number} is {was} and {now}"
    return ""


def _crs(grid: Grid) -> str:
    return grid.crs if len(grid.crs) < 40 else "another one"


def _group(name: str, files: Sequence[StackFacts], bands: str | Sequence[int | str] | None) -> RasterGroup:
    """Lay files out on one grid, that of the first one continued."""
    first = files[0].grid
    wide, high = first.pixel_xy
    left = [round((one.grid.bounds.left - first.bounds.left) / wide) for one in files]
    top = [round((first.bounds.top - one.grid.bounds.top) / high) for one in files]
    right = max(x + one.grid.shape[1] for x, one in zip(left, files, strict=True))
    bottom = max(y + one.grid.shape[0] for y, one in zip(top, files, strict=True))
    x, y = min(left), min(top)
    grid = first
    if len(files) > 1:
        corner = (wide, 0.0, first.bounds.left + x * wide, 0.0, -high, first.bounds.top - y * high)
        grid = replace(first, transform=corner, shape=(bottom - y, right - x))
    parts = tuple(Part(one, b - y, a - x) for one, a, b in zip(files, left, top, strict=True))
    return RasterGroup(name, grid, chosen_bands(files[0], bands), parts)


def _names(files: Sequence[StackFacts]) -> list[str]:
    """Return short names of files, with that of the folder where names of files repeat."""
    stems = [stem_of(one.location) for one in files]
    if len(set(stems)) < len(stems):
        stems = [stem_of(one.location, with_folder=True) for one in files]
    for i, stem in enumerate(stems):
        if stem in stems[:i]:
            one, other = files[stems.index(stem)].location, files[i].location
            raise RequestError(f"The columns of {one} and {other} would have the same names; rename one of the files.")
    return stems


def chosen_bands(file: StackFacts, wanted: str | Sequence[int | str] | None) -> tuple[Band, ...]:
    """Choose bands by number or name.

    Parameters
    ----------
    file
        The raster.
    wanted
        Numbers from 1, names, or a text of both as ``1,3,5-7,A00``; None means all.

    Raises
    ------
    RequestError
        If the raster has no such band, or none is named.
    """
    if wanted is None:
        return file.bands
    names = {band.name: band for band in file.bands}
    numbers = {band.number: band for band in file.bands}
    parts = wanted.split(",") if isinstance(wanted, str) else [wanted] if isinstance(wanted, int) else list(wanted)
    found: dict[int, Band] = {}
    for part in parts:
        text = part.strip() if isinstance(part, str) else str(part)
        low, dash, high = text.partition("-")
        if text in names:
            chosen = [names[text]]
        elif text.isdecimal():
            chosen = [numbers[int(text)]] if int(text) in numbers else []
        elif dash and low.strip().isdecimal() and high.strip().isdecimal():
            chosen = [numbers[i] for i in range(int(low), min(int(high), max(numbers)) + 1) if i in numbers]
            chosen = chosen if int(high) in numbers and int(low) in numbers else []
        else:
            chosen = []
        if not chosen:
            raise UnknownNameError(f"band of {file.location}", text, _known(file))
        found |= {band.number: band for band in chosen}
    if not found:
        raise RequestError(f"bands is {quoted(wanted)}; name at least one band, or leave it out for all.")
    return tuple(found.values())


def _known(file: StackFacts) -> list[str]:
    last = max(band.number for band in file.bands)
    names = [band.name for band in file.bands if band.name != f"band_{band.number}"]
    shown = names if len(names) <= 12 else [*names[:6], "...", names[-1]]
    return [f"1 to {last}" if last > 1 else "1", *shown]
