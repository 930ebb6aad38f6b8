"""Values of the pixels of a piece, one after the other: what the kernels that follow work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper
from sen2chain.multiband.lanes import COPIED, copy_values

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
