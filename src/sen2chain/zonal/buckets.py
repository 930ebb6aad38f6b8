"""Bucket sort of the values of a feature, which are whole numbers of 16 bits.

Most buckets hold few values, so that little is left to sort within them. Where each bucket stands for one value, the
counts alone sort the values, and the value of a rank is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import helper

if TYPE_CHECKING:
    import numpy.typing as npt

    Values = npt.NDArray[np.int16]
    Weights = npt.NDArray[np.float32]

BUCKETS = 8
"""Buckets of equal width in relation to the number of values: with so many, few values share one."""


@helper
def bucket(values: Values, n: int, low: int, high: int, starts: npt.NDArray[np.int32]) -> int:
    """Prepare a sort into buckets: afterwards value v goes to place ``starts[(v - low) >> shift]`` and onwards.

    Returns the shift. `starts` has room for ``BUCKETS * n + 2`` numbers.
    """
    shift = 0
    while (high - low) >> shift >= BUCKETS * n:
        shift += 1
    last = ((high - low) >> shift) + 1
    for b in range(last + 1):
        starts[b] = 0
    for i in range(n):
        starts[((np.int64(values[i]) - low) >> shift) + 1] += 1
    for b in range(1, last + 1):
        starts[b] += starts[b - 1]
    return shift


@helper
def sort(values: Values, n: int, low: int, shift: int, starts: npt.NDArray[np.int32], out: Values) -> None:
    """Sort n values into their buckets, then within each, where hardly anything is left to do."""
    for i in range(n):
        b = (np.int64(values[i]) - low) >> shift
        out[np.uint32(starts[b])] = values[i]
        starts[b] += 1
    for i in range(1, n):
        v = out[i]
        j = i
        while j > 0 and out[j - 1] > v:
            out[j] = out[j - 1]
            j -= 1
        out[j] = v


@helper
def ranked(rank: int, low: int, buckets: int, starts: npt.NDArray[np.int32]) -> int:
    """Value of a rank, where every bucket holds one value: the first of which more than `rank` are not above it."""
    a, b = 0, buckets - 1
    while a < b:
        middle = (a + b) >> 1
        if starts[middle + 1] > rank:
            b = middle
        else:
            a = middle + 1
    return low + a


@helper
def sort_weighted(
    values: Values,
    weights: Weights,
    n: int,
    low: int,
    high: int,
    starts: npt.NDArray[np.int32],
    out: Values,
    share: Weights,
) -> None:
    """Sort n values with their weights; equal values keep their order."""
    shift = bucket(values, n, low, high, starts)
    for i in range(n):
        b = (np.int64(values[i]) - low) >> shift
        out[starts[b]], share[starts[b]] = values[i], weights[i]
        starts[b] += 1
    if shift == 0:
        return
    for i in range(1, n):
        v, w = out[i], share[i]
        j = i
        while j > 0 and out[j - 1] > v:
            out[j], share[j] = out[j - 1], share[j - 1]
            j -= 1
        out[j], share[j] = v, w
