"""Overviews: smaller pictures of a raster, each half as wide and high as the one before it.

A pixel of an overview stands for 2 x 2 pixels of the picture before (fewer at the right and lower edge). It is

``average``
    the mean of those that have data, rounded half to even; no data where none has;
``mode``
    1 where at least half of them are 1, so that a cloud does not vanish in a small picture, else 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sen2chain.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Array = npt.NDArray[Any]

Overviews = Literal["average", "mode"]

SMALLEST = 512
"""Pictures are halved until they are not larger than this along an edge: a block of the file."""


def shapes_of(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (rows, columns) of a raster and of its overviews, the largest first."""
    shapes = [shape]
    while max(shapes[-1]) > SMALLEST:
        rows, columns = shapes[-1]
        shapes.append((-(-rows // 2), -(-columns // 2)))
    return shapes


class Halving:
    """Overviews of a raster that comes in strips, from top to bottom.

    Parameters
    ----------
    shape
        (rows, columns) of the raster.
    how
        How pixels are joined: ``average`` (int16) or ``mode`` (uint8, 0 and 1).
    nodata
        Value of pixels without data, for ``average``.
    """

    def __init__(self, shape: tuple[int, int], how: Overviews, nodata: int = 0) -> None:
        self.shapes = shapes_of(shape)
        """(rows, columns) of the raster and of its overviews."""
        self._how, self._nodata = how, nodata
        self._waiting: list[Array | None] = [None] * len(self.shapes)  # by picture, a row without its pair
        self._done = [0] * len(self.shapes)  # rows of each picture that have come

    def add(self, rows: Array) -> Iterator[tuple[int, int, Array]]:
        """Take the next rows of the raster, and yield the rows of all pictures that are complete now.

        Parameters
        ----------
        rows
            (rows, columns of the raster), one row at least.

        Yields
        ------
        tuple
            Number of the picture (0 is the raster), its first row, and its rows.
        """
        for level, (height, width) in enumerate(self.shapes):
            first = self._done[level]
            self._done[level] += len(rows)
            yield level, first, rows
            if level + 1 == len(self.shapes):
                return
            waiting = self._waiting[level]
            if waiting is not None:
                rows = np.concatenate([waiting, rows])
            # The last row of a picture of an odd height has no pair.
            even = len(rows) if self._done[level] == height else len(rows) // 2 * 2
            self._waiting[level] = rows[even:].copy() if even < len(rows) else None
            if not even:
                return
            halved = np.empty((-(-even // 2), -(-width // 2)), rows.dtype)
            part = np.ascontiguousarray(rows[:even])
            if self._how == "average":
                average(part, self._nodata, halved)
            else:
                mode(part, halved)
            rows = halved


@kernel("void(int16[:,::1], int64, int16[:,::1])")
def average(image: Array, nodata: int, out: Array) -> None:
    """Average the valid ones of each 2 x 2 pixels, half to even."""
    rows, columns = image.shape
    for i in range(out.shape[0]):
        above = image[2 * i]
        below = image[min(2 * i + 1, rows - 1)]
        pairs = 2 * i + 1 < rows
        for j in range(columns // 2):
            a, b, c, d = above[2 * j], above[2 * j + 1], below[2 * j], below[2 * j + 1]
            has_a, has_b, has_c, has_d = a != nodata, b != nodata, pairs & (c != nodata), pairs & (d != nodata)
            total = (a if has_a else 0) + (b if has_b else 0) + (c if has_c else 0) + (d if has_d else 0)
            count = np.int64(has_a) + np.int64(has_b) + np.int64(has_c) + np.int64(has_d)
            mean = np.rint(np.float64(total) / np.float64(max(count, 1)))
            out[i, j] = np.int16(mean) if count else nodata
        if columns % 2:
            a, c = above[columns - 1], below[columns - 1]
            has_a, has_c = a != nodata, pairs & (c != nodata)
            total = (a if has_a else 0) + (c if has_c else 0)
            count = np.int64(has_a) + np.int64(has_c)
            mean = np.rint(np.float64(total) / np.float64(max(count, 1)))
            out[i, columns // 2] = np.int16(mean) if count else nodata


@kernel("void(uint8[:,::1], uint8[:,::1])")
def mode(image: Array, out: Array) -> None:
    """Set a pixel where at least half of its 2 x 2 pixels are set."""
    rows, columns = image.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, count = 0, 0
            for r in range(2 * i, min(2 * i + 2, rows)):
                for c in range(2 * j, min(2 * j + 2, columns)):
                    total += image[r, c] != 0
                    count += 1
            out[i, j] = 2 * total >= count
