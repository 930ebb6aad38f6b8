"""Values of the pixels of a piece, one after the other: what the kernels that follow work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper
from sen2chain.multiband.lanes import COPIED, copy_values
from sen2chain.multiband.piece_kernels import typed_kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Ints = npt.NDArray[np.int64]


@helper
def longest_piece(first: Ints, length: Ints) -> Any:
    """Largest number of pixels of a piece; `first` and `length` as of the kernels."""
    longest: Any = 1
    for p in range(first.size - 1):
        n = 0
        for k in range(first[p], first[p + 1]):
            n += length[k]
        longest = max(longest, n)
    return longest


@helper
def gathered(flat: Array, base: int, start: Ints, length: Ints, begin: int, end: int, taken: Array) -> Any:
    """Gather the values of some runs; return their number.

    Parameters
    ----------
    flat
        All values of a window.
    base
        Position of the band's first.
    start, length
        (runs,) Position in the band where a run begins, and its pixels.
    begin, end
        The first run, and one past the last.
    taken
        Receives the values; it has room for `COPIED` more.
    """
    n: Any = 0
    last = flat.size - COPIED
    for k in range(begin, end):
        s: Any = base + start[k]
        m: Any = length[k]
        # Most runs are short: a fixed number of values, of which too many are overwritten, beats a loop for each.
        if s + m <= last:
            copy_values(taken, n, flat, s)
            for i in range(COPIED, m, COPIED):
                copy_values(taken, n + i, flat, s + i)
        else:
            for i in range(m):
                taken[n + i] = flat[s + i]
        n += m
    return n


@helper
def unmasked(values: Array, mask: Bytes, row: Ints, column: Ints, length: Ints, begin: int, end: int) -> Any:
    """Keep those values of some runs that a mask does not remove; return their number."""
    n: Any = 0
    i = 0
    for k in range(begin, end):
        for c in range(column[k], column[k] + length[k]):
            values[n] = values[i]
            n += np.int64(mask[row[k], c] != 0)
            i += 1
    return n


@typed_kernel("void({t}[:,:,::1], int64[::1], int64[::1], int64[::1], int64[::1], {t}[:,::1])")
def copy_pieces(image: Array, first: Ints, row: Ints, column: Ints, length: Ints, out: Array) -> None:
    """Copy the values of pieces out of a window.

    Parameters
    ----------
    image
        (bands, rows, columns) of values.
    first
        (pieces + 1,) Runs of each piece.
    row, column, length
        (runs,) Pixels of the window.
    out
        (bands, pixels) Receives the values, one piece after the other.
    """
    flat = image.reshape(-1)
    start = row * image.shape[2] + column
    taken = np.empty(longest_piece(first, length) + COPIED, image.dtype)
    for b in range(image.shape[0]):
        at = 0
        for p in range(first.size - 1):
            n = gathered(flat, b * image.shape[1] * image.shape[2], start, length, first[p], first[p + 1], taken)
            for i in range(n):
                out[b, np.uint64(at + i)] = taken[np.uint64(i)]
            at += n
