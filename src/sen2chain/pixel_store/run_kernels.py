"""Kernels on row runs of a raster: their union, growth, containment, and the copying of their pixels.

A run is ``length`` pixels of ``row`` from ``column`` on. Arrays in, arrays out. Callers have made sure that all runs
lie inside the raster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int32]
    Starts = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

_RUNS = "int32[::1], int32[::1], int32[::1], int64[::1]"
_STRIPE = 64  # columns


@kernel("int64(int32[::1], int32[::1], int32[::1])")
def unite(row: Ints, column: Ints, length: Ints) -> int:
    """Join runs that overlap or touch, in place; they are ordered by row and column. Returns how many are left."""
    last = -1
    for k in range(row.size):
        if length[k] <= 0:
            continue
        if last >= 0 and row[last] == row[k] and column[k] <= column[last] + length[last]:
            length[last] = max(length[last], column[k] + length[k] - column[last])
            continue
        last += 1
        row[last], column[last], length[last] = row[k], column[k], length[k]
    return last + 1


@kernel("int64(int32[::1], int32[::1], int32[::1], int64, int64, int64, int32[::1], int32[::1], int32[::1])")
def grow(
    row: Ints,
    column: Ints,
    length: Ints,
    height: int,
    width: int,
    margin: int,
    out_row: Ints,
    out_column: Ints,
    out_length: Ints,
) -> int:
    """Write the runs of all pixels within `margin` pixels of runs to all sides, cut to the raster.

    The runs are ordered by row. Returns how many there are; where the outputs have no room, they are only counted.
    """
    until = np.full(width, -1, np.int32)  # the last row that each column is reached in, as far as runs are known
    furthest, k, found, room = -1, 0, 0, out_row.size
    for r in range(height):
        while k < row.size and row[k] <= r + margin:
            furthest = row[k] + margin
            for c in range(max(column[k] - margin, 0), min(column[k] + length[k] + margin, width)):
                until[c] = furthest
            k += 1
        if furthest < r:
            continue
        begin = -1
        for c in range(width):
            if until[c] >= r:
                if begin < 0:
                    begin = c
            elif begin >= 0:
                if found < room:
                    out_row[found], out_column[found], out_length[found] = r, begin, c - begin
                found += 1
                begin = -1
        if begin >= 0:
            if found < room:
                out_row[found], out_column[found], out_length[found] = r, begin, width - begin
            found += 1
    return found


@kernel("int64(int32[::1], int32[::1], int32[::1], int64, int64, int64, int32[::1], int32[::1], int32[::1])")
def shrink(
    row: Ints,
    column: Ints,
    length: Ints,
    height: int,
    width: int,
    margin: int,
    out_row: Ints,
    out_column: Ints,
    out_length: Ints,
) -> int:
    """Write the runs of all pixels whose surroundings within `margin` pixels lie in runs, as far as the raster goes.

    The runs are ordered by row and do not touch. Returns how many there are; where the outputs have no room, they are
    only counted.
    """
    # Per column: the last row in which it lies deep inside a run, and the first of the rows without a gap up to it.
    last, since = np.full(width, -2, np.int32), np.zeros(width, np.int32)
    ahead, found, room = 0, 0, out_row.size
    for k in range(row.size):
        r = row[k]
        top, bottom = max(r - margin, 0), min(r + margin, height - 1)
        while ahead < row.size and row[ahead] <= bottom:
            begin, end, i = column[ahead], column[ahead] + length[ahead], row[ahead]
            for c in range(begin + margin if begin > 0 else 0, end - margin if end < width else width):
                if last[c] != i - 1:
                    since[c] = i
                last[c] = i
            ahead += 1
        begin = -1
        for c in range(column[k], column[k] + length[k]):
            if last[c] == bottom and since[c] <= top:
                if begin < 0:
                    begin = c
            elif begin >= 0:
                if found < room:
                    out_row[found], out_column[found], out_length[found] = r, begin, c - begin
                found += 1
                begin = -1
        if begin >= 0:
            if found < room:
                out_row[found], out_column[found], out_length[found] = r, begin, column[k] + length[k] - begin
            found += 1
    return found


@kernel("int64(int32[::1], int32[::1], int32[::1], boolean[::1], int32[::1], int32[::1], int32[::1])")
def select(
    row: Ints, column: Ints, length: Ints, chosen: Bools, out_row: Ints, out_column: Ints, out_length: Ints
) -> int:
    """Write the runs of chosen pixels; `chosen` has a truth value for each pixel of the runs.

    Returns how many there are; where the outputs have no room, they are only counted.
    """
    found, room, s = 0, out_row.size, 0
    for k in range(row.size):
        begin = -1
        for i in range(length[k] + 1):
            if i < length[k] and chosen[s + i]:
                if begin < 0:
                    begin = i
            elif begin >= 0:
                if found < room:
                    out_row[found], out_column[found], out_length[found] = row[k], column[k] + begin, i - begin
                found += 1
                begin = -1
        s += length[k]
    return found


@kernel(
    *(
        f"void({dtype}[:,::1], int64, {_RUNS}, int64, int64, {dtype}[::1])"
        for dtype in ("uint8", "uint16", "uint32", "uint64")
    )
)
def take(
    image: Array, row0: int, row: Ints, column: Ints, length: Ints, start: Starts, first: int, last: int, out: Array
) -> None:
    """Copy the pixels of runs `first` to `last` out of rows of the raster, of which row0 is the first.

    Those of the first of these runs come to the beginning of `out`.
    """
    for k in range(first, last):
        line = image[row[k] - row0]
        c, s = np.uint32(column[k]), np.uint64(start[k] - start[first])
        for i in range(np.uint32(length[k])):
            out[s + i] = line[c + i]


@kernel(
    *(
        f"void({dtype}[::1], int64, {_RUNS}, int64, int64, {dtype}[:,::1])"
        for dtype in ("uint8", "uint16", "uint32", "uint64")
    )
)
def put(
    values: Array, row0: int, row: Ints, column: Ints, length: Ints, start: Starts, first: int, last: int, image: Array
) -> None:
    """Copy values of the pixels of runs `first` to `last` into rows of the raster, the inverse of `take`."""
    for k in range(first, last):
        line = image[row[k] - row0]
        c, s = np.uint32(column[k]), np.uint64(start[k] - start[first])
        for i in range(np.uint32(length[k])):
            line[c + i] = values[s + i]


@kernel(
    *(
        f"void(int32[::1], int32[::1], int32[::1], int64, int64, boolean, {dtype}[::1], {dtype}[::1])"
        for dtype in ("uint8", "uint16", "uint32")
    )
)
def reorder(
    row: Ints,
    column: Ints,
    length: Ints,
    first: int,
    last: int,
    to_rows: bool,  # noqa: FBT001  # kernels have no keywords
    values: Array,
    out: Array,
) -> None:
    """Bring the values of the pixels of runs `first` to `last` from the order of runs into that of stripes, or back.

    A stripe is 64 columns of the raster. Stripes come from left to right, and their rows from top to bottom; runs in
    odd rows are reversed. `to_rows` is for the way back.
    """
    stripes = 0
    for k in range(first, last):
        stripes = max(stripes, (column[k] + length[k] - 1) // _STRIPE + 1)
    place = np.zeros(stripes + 1, np.int64)  # where the next values of each stripe belong
    for k in range(first, last):
        c, end = column[k], column[k] + length[k]
        while c < end:
            stop = min(end, (c // _STRIPE + 1) * _STRIPE)
            place[c // _STRIPE + 1] += stop - c
            c = stop
    for s in range(stripes):
        place[s + 1] += place[s]
    at = np.uint64(0)
    for k in range(first, last):
        c, end = column[k], column[k] + length[k]
        while c < end:
            stop = min(end, (c // _STRIPE + 1) * _STRIPE)
            n, s = np.uint64(stop - c), c // _STRIPE
            there = np.uint64(place[s])
            place[s] += stop - c
            c = stop
            back = there + n - np.uint64(1)
            if row[k] % 2 == 0:
                for i in range(n):
                    if to_rows:
                        out[at + i] = values[there + i]
                    else:
                        out[there + i] = values[at + i]
            else:
                for i in range(n):
                    if to_rows:
                        out[at + i] = values[back - i]
                    else:
                        out[back - i] = values[at + i]
            at += n
