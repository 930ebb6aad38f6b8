"""Runs of a pixel plan cut to the parts of a mosaic and to the windows that are read, each pixel in exactly one piece.

A piece is what one feature has in one window. A window is a whole number of blocks of a file, so that no block is
decoded twice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PieceRuns:
    """Runs of pixels, ordered by feature; each is a part of a run of the plan."""

    feature: Ints
    """Position of the feature in the plan."""
    origin: Ints
    """The run of the plan that it is a part of."""
    skip: Ints
    """Pixels of that run before its first."""
    row: Ints
    """Row."""
    column: Ints
    """First column."""
    length: Ints
    """Pixels."""

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, plan: PixelPlan) -> Self:
        """Take all runs of a plan."""
        feature, row, column, length = (
            array.astype(np.int64) for array in (plan.feature, plan.row, plan.column, plan.length)
        )
        return cls(feature, np.arange(len(row)), np.zeros(len(row), np.int64), row, column, length)

    def take(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> Self:
        """Return some runs."""
        return type(self)(
            self.feature[chosen], self.origin[chosen], self.skip[chosen], self.row[chosen], self.column[chosen],
            self.length[chosen],
        )  # fmt: skip

    def cut_columns(self, width: int) -> PieceRuns:
        """Cut the runs at the columns that are multiples of `width`."""
        first = self.column // width
        count = (self.column + self.length - 1) // width - first + 1
        if not len(self) or count.max() == 1:
            return self
        index = np.repeat(np.arange(len(self)), count)
        stretch = first[index] + np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        return _cut(self.take(index), stretch * width, (stretch + 1) * width)

    def turned(self, around: int, start: int, width: int) -> PieceRuns:
        """Bring runs on a grid of several turns around the earth to the raster.

        Parameters
        ----------
        around
            Columns of one turn.
        start
            Column of that grid where the raster begins; a multiple of `around`.
        width
            Columns of the raster, from its left edge.
        """
        cut = replace(self, column=self.column - start).cut_columns(around)
        cut = replace(cut, column=cut.column % around)
        return cut.inside(0, 0, int(cut.row.max(initial=0)) + 1, width)

    def inside(self, top: int, left: int, rows: int, columns: int) -> PieceRuns:
        """Cut the runs to a rectangle, and count rows and columns from its corner."""
        met = (self.row >= top) & (self.row < top + rows)
        met &= (self.column < left + columns) & (self.column + self.length > left)
        kept = _cut(self.take(met), np.int64(left), np.int64(left + columns))
        return replace(kept, row=kept.row - top, column=kept.column - left)

    def upside_down(self, rows: int) -> Self:
        """Count the rows from the other edge of a raster of so many rows."""
        return replace(self, row=rows - 1 - self.row)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A window of one file, and the pieces of features in it."""

    part: int
    """Number of the file."""
    rows: tuple[int, int]
    """First row of the file, and one past the last."""
    columns: tuple[int, int]
    """First column of the file, and one past the last."""
    runs: PieceRuns
    """The runs in it, ordered by feature; rows and columns are counted from its corner."""
    first: Ints
    """(pieces + 1,) ``first[i]:first[i + 1]`` are the runs of piece i."""

    @property
    def features(self) -> Ints:
        """(pieces,) Positions of their features in the plan, ascending, each once."""
        return self.runs.feature[self.first[:-1]]

    @property
    def pixels(self) -> Ints:
        """(pieces,) Pixels of each."""
        before = np.concatenate([[0], np.cumsum(self.runs.length)])
        return np.diff(before[self.first])

    def touched(self, rows: slice, columns: slice) -> Bools:
        """Return which pieces have a pixel in some rows and columns, counted from the corner of the window."""
        runs = self.runs
        within = (runs.row >= rows.start) & (runs.row < rows.stop) & (runs.column < columns.stop)
        within &= runs.column + runs.length > columns.start
        pieces: Bools = np.logical_or.reduceat(within, self.first[:-1])
        return pieces


def _cut(runs: PieceRuns, first: Ints | np.int64, last: Ints | np.int64) -> PieceRuns:
    """Cut each run to its own range of columns."""
    begin = np.maximum(runs.column, first)
    end = np.minimum(runs.column + runs.length, last)
    return replace(runs, column=begin, length=end - begin, skip=runs.skip + begin - runs.column)


def chunks_of(runs: PieceRuns, part: int, height: int, width: int, columns: int) -> list[Chunk]:
    """Cut runs to the windows of a file, in the order of the file: by row, then column.

    Parameters
    ----------
    runs
        Runs in rows and columns of the file.
    part
        Number of the file.
    height, width
        Rows and columns of a window.
    columns
        Columns of the file.
    """
    runs = runs.cut_columns(width)
    if not len(runs):
        return []
    key = runs.row // height * (columns // width + 1) + runs.column // width
    order = np.argsort(key, kind="stable")
    runs, key = runs.take(order), key[order]
    edges = [*np.flatnonzero(np.diff(key, prepend=-1)).tolist(), len(key)]
    return [_chunk(runs.take(slice(a, b)), part) for a, b in itertools.pairwise(edges)]


def _chunk(runs: PieceRuns, part: int) -> Chunk:
    """Return the chunk of the runs of one window, which is the box around them."""
    top, left = int(runs.row.min()), int(runs.column.min())
    bottom, right = int(runs.row.max()) + 1, int((runs.column + runs.length).max())
    first = np.flatnonzero(np.diff(runs.feature, prepend=-1, append=-1))
    return Chunk(
        part, (top, bottom), (left, right), replace(runs, row=runs.row - top, column=runs.column - left), first
    )
