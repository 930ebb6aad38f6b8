"""Kernels that reduce one very large feature whose pixels are counted by value instead of kept. Arrays in, arrays out.

The results equal those of the kernels of `reduce` for the same pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import kernel
from sen2chain.zonal.reduce import (
    CLOUD,
    COUNT,
    INVALID,
    MAX,
    MEAN,
    MIN,
    N_MOMENTS,
    NODATA,
    SUM,
    VARIANCE,
    between,
    bin_of,
    frequencies,
    weighted_quantile,
)

if TYPE_CHECKING:
    from sen2chain.zonal.reduce import Bytes, Floats, Values, Weights


@kernel("void(int16[::1], uint8[::1], uint8, float32[::1], float64[::1], float64[::1])")
def add_to_tally(values: Values, cloud: Bytes, bit: int, weights: Weights, tally: Floats, left_out: Floats) -> None:
    """Count pixels of one feature by value; with `weights`, which may be empty, add these up.

    Parameters
    ----------
    tally
        (65536,) sums so far by value + 32768.
    left_out
        (2,) cloud pixels, and all pixels that are not valid, so far.
    """
    for i in range(values.size):
        w = np.float64(weights[i]) if weights.size else 1.0
        if values[i] == NODATA:
            left_out[1] += w
        elif cloud[i] & bit:
            left_out[0] += w
            left_out[1] += w
        else:
            tally[np.int64(values[i]) + 32768] += w


@kernel("float64[:,::1](float64[::1], float64[::1], boolean, float64[::1])")
def reduce_tally(
    tally: Floats,
    left_out: Floats,
    weighted: bool,  # noqa: FBT001  # a kernel takes no keywords
    quantiles: Floats,
) -> Floats:
    """Reduce one feature's tally to what `reduce_counted` or `reduce_weighted` give, (1, 8 + quantiles)."""
    out = np.full((1, N_MOMENTS + quantiles.size), np.nan)
    out[0, CLOUD], out[0, INVALID] = left_out[0], left_out[1]
    held = np.flatnonzero(tally)
    out[0, COUNT] = tally.sum()
    if held.size == 0:
        return out
    x = (held - 32768).astype(np.float64)
    w = tally[held]
    n = out[0, COUNT]
    out[0, MIN], out[0, MAX], out[0, SUM] = x[0], x[-1], (w * x).sum()
    mean = out[0, SUM] / n
    out[0, MEAN] = mean
    if weighted:
        out[0, VARIANCE] = (w * (x - mean) * (x - mean)).sum() / n
        for q in range(quantiles.size):
            out[0, N_MOMENTS + q] = weighted_quantile(x, w, quantiles[q])
        return out
    middle = np.int64(np.rint(mean))
    squares = 0
    for k in range(held.size):
        d = held[k] - 32768 - middle
        squares += d * d * np.int64(w[k])
    shift = mean - middle
    out[0, VARIANCE] = max(squares / n - shift * shift, 0.0)
    below = np.cumsum(w)
    for q in range(quantiles.size):
        place = quantiles[q] * (n - 1)
        first = np.floor(place)
        a = x[np.searchsorted(below, first, side="right")]
        b = x[np.searchsorted(below, min(first + 1, n - 1), side="right")]
        out[0, N_MOMENTS + q] = between(a, b, place - first)
    return out


@kernel("float64[:,::1](float64[::1], boolean)")
def tally_frequencies(tally: Floats, weighted: bool) -> Floats:  # noqa: FBT001  # a kernel takes no keywords
    """Give the columns of `reduce_frequencies` for one feature's tally, (1, 4)."""
    out = np.full((1, 4), np.nan)
    frequencies(tally, -32768, 32767, weighted, np.empty(65536), np.empty(65536), out[0])
    return out


@kernel("float64[:,::1](float64[::1], float64, float64, int64)")
def tally_histogram(tally: Floats, low: float, high: float, bins: int) -> Floats:
    """Give the columns of `reduce_histogram` for one feature's tally, (1, bins + 2)."""
    out = np.zeros((1, bins + 2))
    for k in range(65536):
        if tally[k] > 0.0:
            out[0, bin_of(np.float64(k - 32768), low, high, bins)] += tally[k]
    return out
