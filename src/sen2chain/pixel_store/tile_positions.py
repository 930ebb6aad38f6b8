"""Positions of the kept pixels of a layer on one tile grid, for rasters of all resolutions, and their file."""

from __future__ import annotations

import hashlib
import io
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sen2chain.errors import GridMismatchError, KeptPixelsError
from sen2chain.grid import Grid
from sen2chain.parallel import Memo
from sen2chain.pixel_store.pixel_codec import decode, encode
from sen2chain.pixel_store.pixel_positions import (
    PixelPositions,
    bilinear_positions,
    finest_positions,
    nearest_positions,
)
from sen2chain.pixel_store.stored_members import StoredMembers, to_json, write_members

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.coverage import PixelPlan

FORMAT = 1
"""Version of the format of files of kept pixels and their positions."""
Role = Literal["band", "quality"]
"""What a raster is: a band is kept at the pixels of features, a quality raster with a margin around them."""

_MOST_RUNS = 1 << 25
_MOST_PIXELS = 1 << 28  # a whole tile has 120 million
_LARGEST_EDGE = 1 << 16  # pixels; a tile has 10980
_LARGEST_NUMBER = 1e10  # coordinates and sizes of pixels, in metres or degrees
_MEMO_BYTES = 256 << 20
_FACTS = "positions.json"
_ARRAYS = ("row", "column", "length")


@dataclass(frozen=True, eq=False)
class TilePositions:
    """Pixels of a layer's features on the finest grid of a tile, and from them those of every raster of the tile.

    Raises
    ------
    KeptPixelsError
        If there are more pixels or runs than can be kept.
    """

    finest: PixelPositions
    """The pixels of all features."""
    margin: float
    """Metres to all sides of these pixels in which quality rasters are kept."""
    _memo: Memo = field(default_factory=Memo, repr=False)

    def __post_init__(self) -> None:
        if len(self.finest.row) > _MOST_RUNS or self.finest.size > _MOST_PIXELS:
            raise KeptPixelsError(
                f"The layer has {self.finest.size:,} pixels in {len(self.finest.row):,} runs on one tile, and at most "
                f"{_MOST_PIXELS:,} in {_MOST_RUNS:,} can be kept; divide it."
            )

    @classmethod
    def of(cls, plans: Sequence[PixelPlan], margin: float) -> Self:
        """Join the pixels of some plans of one grid."""
        return cls(finest_positions(plans), float(margin))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for the grid, the pixels and the margin."""
        found: str = self._memo.once("digest", self._compute_digest)
        return found

    def _compute_digest(self) -> str:
        return hashlib.sha256(f"{self.finest.digest} {self.margin!r}".encode()).hexdigest()[:16]

    def of_raster(self, role: Role, grid: Grid) -> PixelPositions:
        """Return the kept pixels of a raster.

        Parameters
        ----------
        role
            Whether it is a band or a quality raster.
        grid
            Its grid, which covers the same ground as the finest one.

        Returns
        -------
        PixelPositions
            Of a band on the finest grid the pixels of features, of a coarser band all that interpolation reads for
            them; of a quality raster the pixels in which they lie, and those within the margin.
        """
        positions: PixelPositions = self._memo.once((role, grid), lambda: self._compute(role, grid))
        return positions

    def of_band(self, grid: Grid) -> PixelPositions:
        """Return the kept pixels of a band, see `of_raster`."""
        return self.of_raster("band", grid)

    def of_quality(self, grid: Grid) -> PixelPositions:
        """Return the kept pixels of a quality raster, see `of_raster`."""
        return self.of_raster("quality", grid)

    def _compute(self, role: Role, grid: Grid) -> PixelPositions:
        if role == "quality":
            return nearest_positions(self.finest, grid, margin_pixels(self.margin, grid))
        return self.finest if grid == self.finest.grid else bilinear_positions(self.finest, grid)

    def to_bytes(self) -> bytes:
        """Return the content of the file of these positions."""
        finest = self.finest
        facts = {
            "format": FORMAT,
            "digest": self.digest,
            "margin": self.margin,
            "grid": grid_facts(finest.grid),
            "runs": len(finest.row),
        }
        arrays = {name: encode(getattr(finest, name)) for name in _ARRAYS}
        return write_members({_FACTS: to_json(facts), **arrays})

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "positions") -> Self:
        """Return the positions of a file's content.

        Parameters
        ----------
        content
            What `to_bytes` has returned, or anything else.
        name
            The file, for messages.

        Raises
        ------
        KeptPixelsError
            If it is damaged, or of another version of the format.
        """
        with StoredMembers(name, io.BytesIO(content)) as members:
            return cls._read(members)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the positions in a file; errors as of `from_bytes`."""
        with StoredMembers.open(path) as members:
            return cls._read(members)

    @classmethod
    def _read(cls, members: StoredMembers) -> Self:
        facts = members.facts(_FACTS)
        if facts.get("format") != FORMAT:
            raise members.other_format(facts.get("format"), FORMAT)
        with members.reading():
            grid, margin, count = grid_of(facts["grid"]), facts["margin"], facts["runs"]
            if not (isinstance(margin, int | float) and 0 <= margin < math.inf):
                raise ValueError("its margin is not a length")
            if type(count) is not int or not 0 <= count <= _MOST_RUNS:
                raise ValueError("its number of runs is out of range")
            dtype = np.dtype(np.int32)
            most = count * dtype.itemsize * 2 + 1024
            runs = [decode(members.read(name, most), dtype, count) for name in _ARRAYS]
            _check_runs(grid, *(array.astype(np.int64) for array in runs))
            found = cls(PixelPositions(grid, *runs), float(margin))
            if found.digest != facts["digest"]:
                raise ValueError("its digest does not fit its pixels")
        return found


def margin_pixels(margin: float, grid: Grid) -> int:
    """Return the pixels of a raster that lie within a margin of a pixel, in whole pixels."""
    return min(int(margin / max(grid.pixel_xy) + 1e-6), _LARGEST_EDGE)


def positions_path(folder: Path, digest: str) -> Path:
    """Return the path of the file of positions in the folder of a tile's pixel files."""
    return folder / f"{digest}.positions"


def load_positions(folder: Path, digest: str) -> TilePositions:
    """Return the positions of a tile's pixel files; they are read once in a process, as far as memory for them reaches.

    Raises
    ------
    KeptPixelsError
        If the file is missing, damaged, or holds other positions.
    """
    path = positions_path(folder, digest)
    return _loaded.get(path, digest)


class _Loaded:
    """Positions that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, str], TilePositions] = OrderedDict()

    def get(self, path: Path, digest: str) -> TilePositions:
        with self._lock:
            found = self._kept.pop((path, digest), None) or TilePositions.load(path)
            if found.digest != digest:
                raise KeptPixelsError(f"Kept pixels {path} hold other positions than their name says; remove them.")
            self._kept[path, digest] = found
            # The positions of coarser rasters take about as much again.
            while len(self._kept) > 1 and sum(3 * p.finest.row.nbytes for p in self._kept.values()) * 3 > _MEMO_BYTES:
                self._kept.popitem(last=False)
            return found


_loaded = _Loaded()


def grid_facts(grid: Grid) -> dict[str, Any]:
    """Return a grid for JSON."""
    return {"crs": grid.crs, "transform": grid.transform, "shape": grid.shape}


def grid_of(facts: Any) -> Grid:
    """Return the grid of `grid_facts`.

    Raises
    ------
    ValueError
        If they are not those of a raster of a tile.
    """
    crs, transform, shape = (facts[name] for name in ("crs", "transform", "shape"))
    numbers = [float(n) for n in transform]
    is_shape = len(shape) == 2 and all(type(n) is int and 0 < n <= _LARGEST_EDGE for n in shape)
    is_sane = len(numbers) == 6 and all(abs(n) < _LARGEST_NUMBER for n in numbers)
    if not (isinstance(crs, str) and is_sane and is_shape and min(abs(numbers[0]), abs(numbers[4])) > 1e-9):
        raise ValueError("its grid is not that of a raster")
    a, b, c, d, e, f = numbers
    try:
        return Grid(crs, (a, b, c, d, e, f), (shape[0], shape[1]))
    except GridMismatchError as error:
        raise ValueError(str(error)) from error


def _check_runs(grid: Grid, row: Any, column: Any, length: Any) -> None:
    """Raise `ValueError` unless runs are ordered, apart, and inside the grid."""
    height, width = grid.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (length > 0) & (column + length <= width)
    same = row[1:] == row[:-1]
    ordered = (row[1:] > row[:-1]) | (same & (column[1:] > (column + length)[:-1]))
    if not (inside.all() and ordered.all()):
        raise ValueError("its runs are not those of pixels of the grid")
