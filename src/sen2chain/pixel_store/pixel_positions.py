"""Positions of kept pixels on one raster grid: which pixels, each once, and the order of their values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sen2chain.pixel_store import run_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int32]
    Starts = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]
    Runs = tuple[Ints, Ints, Ints]
    Resize = Callable[[Ints, Ints, Ints, int, int, int, Ints, Ints, Ints], int]

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, eq=False)
class PixelPositions:
    """Pixels of a raster as row runs, ordered by row, then column; runs of a row do not touch.

    The values of the pixels form a vector in the order of the runs, so that the values of some rows stand together.
    Build it with `of_runs`, which makes this hold for any runs.
    """

    grid: Grid
    """The grid of the raster."""
    row: Ints
    """Per run: row of the grid."""
    column: Ints
    """Per run: its first column."""
    length: Ints
    """Per run: its pixels."""

    @cached_property
    def start(self) -> Starts:
        """(runs + 1,) Position of the value of each run's first pixel; the last entry is the number of pixels."""
        start = np.zeros(len(self.length) + 1, np.int64)
        np.cumsum(self.length, out=start[1:])
        return start

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(self.start[-1])

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for the grid and the pixels."""
        found = hashlib.sha256(repr((self.grid.crs, self.grid.transform, self.grid.shape)).encode())
        for array in (self.row, self.column, self.length):
            found.update(array.astype("<i4", copy=False).tobytes())
        return found.hexdigest()[:16]

    @classmethod
    def of_runs(cls, grid: Grid, row: Ints, column: Ints, length: Ints) -> Self:
        """Build the positions of all pixels of any runs inside a grid; where runs overlap, a pixel counts once."""
        order = np.argsort(row.astype(np.int64) * (grid.shape[1] + 1) + column, kind="stable")
        runs = [np.ascontiguousarray(array[order], np.int32) for array in (row, column, length)]
        count = run_kernels.unite(*runs)
        return cls(grid, *(array[:count].copy() for array in runs))

    def values_of_rows(self, first: int, last: int) -> slice:
        """Return where the values of some rows stand in the vector.

        Parameters
        ----------
        first, last
            First row, and one past the last.
        """
        a, b = self._runs_of_rows(first, last)
        return slice(int(self.start[a]), int(self.start[b]))

    def take(self, image: Array, row0: int = 0, out: Array | None = None) -> Array:
        """Return the values of the pixels in some rows of a raster.

        Parameters
        ----------
        image
            (rows, columns of the grid) whole rows of the raster, contiguous.
        row0
            The first of these rows.
        out
            Where to write them, contiguous, of the type of the image; by default a new vector.

        Returns
        -------
        numpy.ndarray
            The values at ``values_of_rows(row0, row0 + rows)``.
        """
        first, last = self._runs_of_rows(row0, row0 + self._check(image, row0))
        size = int(self.start[last] - self.start[first])
        if out is None:
            out = np.empty(size, image.dtype)
        if out.shape != (size,) or out.dtype != image.dtype:
            raise ValueError(f"{size} values of {image.dtype} are to be written to {out.shape} of {out.dtype}.")
        runs = self.row, self.column, self.length, self.start
        run_kernels.take(_bits(image), row0, *runs, first, last, _bits(out))
        return out

    def put(self, values: Array, image: Array, row0: int = 0) -> None:
        """Write values to the pixels in some rows of a raster; its other pixels stay as they are.

        Parameters
        ----------
        values
            The values at ``values_of_rows(row0, row0 + rows)``, contiguous, of the type of the image.
        image, row0
            As of `take`.
        """
        first, last = self._runs_of_rows(row0, row0 + self._check(image, row0))
        size = int(self.start[last] - self.start[first])
        if values.shape != (size,) or values.dtype != image.dtype:
            raise ValueError(f"{size} values of {image.dtype} are needed, not {values.shape} of {values.dtype}.")
        runs = self.row, self.column, self.length, self.start
        run_kernels.put(_bits(values), row0, *runs, first, last, _bits(image))

    def to_stripes(self, values: Array, first: int, last: int) -> Array:
        """Return the values of the pixels in some rows in the order in which they are coded best.

        Neighbours on the ground are neighbours there more often: stripes of 64 columns come one after the other, and
        every second row runs back.

        Parameters
        ----------
        values
            The values at ``values_of_rows(first, last)``, contiguous, of a type of at most 4 bytes.
        first, last
            First row, and one past the last.
        """
        return self._reordered(values, first, last, to_rows=False)

    def from_stripes(self, values: Array, first: int, last: int) -> Array:
        """Return values in the order of the runs, the inverse of `to_stripes`."""
        return self._reordered(values, first, last, to_rows=True)

    def _reordered(self, values: Array, first: int, last: int, *, to_rows: bool) -> Array:
        cut, out = self.values_of_rows(first, last), np.empty_like(values)
        if values.shape != (cut.stop - cut.start,):
            raise ValueError(f"{cut.stop - cut.start} values are needed, not {values.shape}.")
        runs = (self.row, self.column, self.length, *self._runs_of_rows(first, last))
        run_kernels.reorder(*runs, to_rows, _bits(values), _bits(out))
        return out

    def find(self, row: Ints, column: Ints, length: Ints) -> Starts:
        """Return where the values of runs begin in the vector; -1 for a run that is not wholly inside.

        Parameters
        ----------
        row, column, length
            (runs,) Runs of the same grid, in any order; those without pixels are inside nothing.
        """
        if not len(self.row) or not len(row):
            return np.full(len(row), -1, np.int64)
        width = self.grid.shape[1] + 1
        at = np.searchsorted(self._keys, row.astype(np.int64) * width + column, side="right") - 1
        at = np.maximum(at, 0)
        offset = column.astype(np.int64) - self.column[at]
        inside = (self.row[at] == row) & (offset >= 0) & (length > 0) & (offset + length <= self.length[at])
        return np.where(inside, self.start[at] + offset, -1)

    def holds(self, row: Ints, column: Ints, length: Ints) -> Bools:
        """Return for each run whether all its pixels are among these; parameters as of `find`."""
        found: Bools = self.find(row, column, length) >= 0
        return found

    def coordinates(self) -> tuple[Ints, Ints]:
        """Return row and column of every pixel, in the order of the values."""
        within = np.arange(self.size) - np.repeat(self.start[:-1], self.length)
        columns = np.repeat(self.column, self.length) + within
        return np.repeat(self.row, self.length), columns.astype(np.int32)

    @cached_property
    def _keys(self) -> Starts:
        """Ascending number of each run by row and column."""
        return self.row.astype(np.int64) * (self.grid.shape[1] + 1) + self.column

    def _runs_of_rows(self, first: int, last: int) -> tuple[int, int]:
        runs = self._runs_above
        return int(runs[min(first, len(runs) - 1)]), int(runs[min(last, len(runs) - 1)])

    @cached_property
    def _runs_above(self) -> Starts:
        """(rows + 1,) Number of runs above each row of the grid, and of all."""
        return np.searchsorted(self.row, np.arange(self.grid.shape[0] + 1))

    def _check(self, image: Array, row0: int) -> int:
        """Return the rows of an image, if they are whole rows of the grid."""
        rows, columns = (int(n) for n in image.shape)
        if columns != self.grid.shape[1] or row0 < 0 or row0 + rows > self.grid.shape[0]:
            raise ValueError(f"{rows} rows of {columns} pixels from row {row0} on are not rows of the {self.grid}.")
        return rows


def finest_positions(plans: Sequence[PixelPlan]) -> PixelPositions:
    """Return the pixels of all features of some plans, which share their grid; at least one plan."""
    arrays = [np.concatenate([getattr(plan, name) for plan in plans]) for name in ("row", "column", "length")]
    return PixelPositions.of_runs(plans[0].grid, *arrays)


def bilinear_positions(finest: PixelPositions, coarse: Grid) -> PixelPositions:
    """Return the pixels of a coarser raster that interpolation between pixel centres reads for some pixels.

    See `sen2chain.grid.Grid.bilinear_in` for the neighbours; one with share 0 is not read.
    """
    return PixelPositions.of_runs(coarse, *bilinear_runs(finest.grid, coarse, finest.row, finest.column, finest.length))


def bilinear_runs(fine: Grid, coarse: Grid, row: Ints, column: Ints, length: Ints) -> Runs:
    """Return the runs of a coarser raster that interpolation reads for runs of a finer grid: two for each run.

    The second run of a pair lies one row below; it has no pixels where that row has share 0.
    """
    rows, columns = fine.bilinear_in(coarse, 0), fine.bilinear_in(coarse, 1)
    last = column + length - 1
    begin = columns.first[column]
    end = columns.first[last] + (columns.share[last] > 0)
    wide = (end - begin + 1).astype(np.int32)
    top = rows.first[row]
    below = np.where(rows.share[row] > 0, wide, 0).astype(np.int32)
    return np.concatenate([top, top + 1]), np.concatenate([begin, begin]), np.concatenate([wide, below])


def nearest_positions(finest: PixelPositions, coarse: Grid, margin: int = 0) -> PixelPositions:
    """Return the pixels of a raster in which some pixels' centres lie, and those around them.

    Parameters
    ----------
    finest
        The pixels, on a grid of the same ground.
    coarse
        Grid of the raster.
    margin
        Pixels of the raster to all sides, diagonally too, that count as well; cut to the raster.
    """
    found = PixelPositions.of_runs(coarse, *nearest_runs(finest.grid, coarse, finest.row, finest.column, finest.length))
    return grown(found, margin)


def nearest_runs(fine: Grid, coarse: Grid, row: Ints, column: Ints, length: Ints) -> Runs:
    """Return the runs of a raster in which the pixels of runs of another grid lie, one for each run."""
    rows, columns = fine.nearest_in(coarse, 0), fine.nearest_in(coarse, 1)
    begin = columns[column]
    return rows[row], begin, columns[column + length - 1] - begin + 1


def grown(positions: PixelPositions, margin: int) -> PixelPositions:
    """Return all pixels within `margin` pixels of some pixels to all sides, cut to the raster."""
    return _resized(positions, margin, run_kernels.grow)


def shrunk(positions: PixelPositions, margin: int) -> PixelPositions:
    """Return the pixels around which all pixels within `margin` to all sides are there, as far as the raster goes."""
    return _resized(positions, margin, run_kernels.shrink)


def chosen_pixels(positions: PixelPositions, chosen: Bools) -> PixelPositions:
    """Return some of the pixels; `chosen` has a truth value for each."""
    if len(chosen) != positions.size:
        raise ValueError(f"{positions.size} truth values are needed, not {len(chosen)}.")
    runs, nothing = (positions.row, positions.column, positions.length), np.zeros(0, np.int32)
    count = run_kernels.select(*runs, chosen, nothing, nothing, nothing)
    found = [np.empty(count, np.int32) for _ in range(3)]
    run_kernels.select(*runs, chosen, *found)
    return PixelPositions(positions.grid, *found)


def _resized(positions: PixelPositions, margin: int, resize: Resize) -> PixelPositions:
    if margin <= 0:
        return positions
    runs, (height, width) = (positions.row, positions.column, positions.length), positions.grid.shape
    nothing = np.zeros(0, np.int32)
    count = resize(*runs, height, width, margin, nothing, nothing, nothing)
    found = [np.empty(count, np.int32) for _ in range(3)]
    resize(*runs, height, width, margin, *found)
    return PixelPositions(positions.grid, *found)


def _bits(array: Array) -> Array:
    """View values of any type as unsigned numbers of the same width."""
    bits: Array = array.view(_UNSIGNED[array.dtype.itemsize])
    return bits
