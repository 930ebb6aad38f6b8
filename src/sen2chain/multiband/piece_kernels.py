"""Kernels on windows with weights, or whose values are sorted: moments of pieces of features, values, frequencies.

Those that read windows are compiled for the type of the values when they are first called with them. A pixel is valid
where it is finite, is not the band's no-data value, and no mask removes it. Sums run in one order: results do not
depend on the number of threads.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper, kernel
from sen2chain.zonal.reduce import between, weighted_quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.float32]

TYPES = ("float32", "float64")
"""Types of windows that these kernels and `real_kernels` take; `held_type` says which one others are turned into."""

COUNT, TOTAL, SQUARES, LOW, HIGH = range(5)
"""Columns of moments; SQUARES is the sum of squared deviations from the mean."""


def typed_kernel(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a function for the type of its first argument; ``{t}`` in the signature stands for that type."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.cache
        def of_type(name: str) -> Callable[..., None]:
            return kernel(signature.format(t=name))(function)

        @functools.wraps(function)
        def call(values: Array, *arguments: Any) -> None:
            of_type(values.dtype.name)(values, *arguments)

        return call

    return decorate


@helper
def _weight(i: int, head: int, tail: int, length: int, own: int, weights: Weights) -> float:
    """Weight of pixel i of a run of the plan, whose weights begin at `own`."""
    if i < head:
        return weights[own + i]
    if i >= length - tail:
        return weights[own + head + i - (length - tail)]
    return 1.0


_WINDOW = "{t}[:,:,::1], uint8[:,:,::1], {t}[::1], boolean[::1]"
_RUNS = "int64[::1], int64[::1], int64[::1], int64[::1]"
_OF_PLAN = "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float32[::1]"


@typed_kernel(f"void({_WINDOW}, {_RUNS}, {_OF_PLAN}, float64[:,:,::1])")
def weighted_moments(
    image: Array,
    valid: Bytes,
    nodata: Array,
    has_nodata: Bools,
    first: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    skip: Ints,
    head: Ints,
    tail: Ints,
    whole: Ints,
    own: Ints,
    weights: Weights,
    out: Floats,
) -> None:
    """Count, sum, squared deviations and range of the valid pixels of each piece in each band, by their weights.

    Parameters
    ----------
    image
        (bands, rows, columns) of values.
    valid
        (0, 1 or bands, rows, columns): 0 removes a pixel.
    nodata, has_nodata
        (bands,) The value that means no data, and whether there is one.
    first
        (pieces + 1,) Runs of each piece.
    row, column, length
        (runs,) Pixels of the window.
    skip, head, tail, whole, own
        (runs,) Pixels of the plan's run before the first; the leading and trailing pixels of that run with weights, its
        length and the position of its weights.
    weights
        The weights of the plan.
    out
        (pieces, bands, 5) COUNT, TOTAL, SQUARES, LOW, HIGH; 0, 0, 0, inf, -inf without valid pixels.
    """
    longest = 0
    for p in range(first.size - 1):
        n = 0
        for k in range(first[p], first[p + 1]):
            n += length[k]
        longest = max(longest, n)
    taken = np.empty(longest + 1)
    shares = np.empty(longest + 1)
    pixels = 0
    for k in range(row.size):
        pixels += length[k]
    every = np.empty(pixels)
    n = 0
    for k in range(row.size):
        for i in range(length[k]):
            every[n] = _weight(skip[k] + i, head[k], tail[k], whole[k], own[k], weights)
            n += 1
    for b in range(image.shape[0]):  # one band after the other stays in the processor's cache
        layer = image[b]
        empty, has = nodata[b], has_nodata[b]
        mask = min(b, valid.shape[0] - 1)
        j = 0
        for p in range(first.size - 1):
            n = 0
            for k in range(first[p], first[p + 1]):
                line = layer[row[k]]
                c = column[k]
                for i in range(length[k]):
                    v = line[np.uint64(c + i)]
                    ok = not (has and v == empty)
                    if mask >= 0:
                        ok = ok and valid[mask, row[k], c + i] != 0
                    x = np.float64(v)
                    ok = ok and x - x == 0.0  # neither NaN nor infinite
                    taken[np.uint64(n)] = x
                    shares[np.uint64(n)] = every[np.uint64(j)]
                    j += 1
                    n += np.int64(ok)
            found = out[p, b]
            found[COUNT] = found[TOTAL] = found[SQUARES] = 0.0
            found[LOW], found[HIGH] = np.inf, -np.inf
            if n > 0:
                _moments_weighted(taken, shares, n, found)


@helper
def _moments_weighted(values: Floats, shares: Floats, n: int, out: Floats) -> None:
    """Fill the columns of `weighted_moments` for n values with weights."""
    whole = total = 0.0
    low, high = values[0], values[0]
    for i in range(n):
        whole += shares[i]
        total += shares[i] * values[i]
        low, high = min(low, values[i]), max(high, values[i])
    mean = total / whole
    squares = 0.0
    for i in range(n):
        squares += shares[i] * (values[i] - mean) * (values[i] - mean)
    out[COUNT], out[TOTAL], out[SQUARES], out[LOW], out[HIGH] = whole, total, squares, low, high


@typed_kernel(f"void({_WINDOW}, {_RUNS}, {_OF_PLAN}, {{t}}, int64[::1], {{t}}[::1], float32[::1])")
def piece_values(
    image: Array,
    valid: Bytes,
    nodata: Array,
    has_nodata: Bools,
    first: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    skip: Ints,
    head: Ints,
    tail: Ints,
    whole: Ints,
    own: Ints,
    weights: Weights,
    last: Any,
    place: Ints,
    out: Array,
    shares: Weights,
) -> None:
    """Collect the values of pieces: (bands, pixels) of each piece, one piece after the other.

    Parameters
    ----------
    image, valid, nodata, has_nodata, first, row, column, length, skip, head, tail, whole, own, weights
        As of `weighted_moments`; the last six are empty where each pixel counts 1.
    last
        Stands in the place of values that are not valid; no value sorts after it.
    place
        (pieces,) Position in `out` where a piece begins.
    out
        All values.
    shares
        Their weights, 0 where they are not valid; empty where each pixel counts 1.
    """
    for p in range(first.size - 1):
        s = place[p]
        for b in range(image.shape[0]):
            layer = image[b]
            empty, has = nodata[b], has_nodata[b]
            mask = min(b, valid.shape[0] - 1)
            for k in range(first[p], first[p + 1]):
                line = layer[row[k]]
                c = column[k]
                for i in range(length[k]):
                    v = line[np.uint64(c + i)]
                    ok = not (has and v == empty)
                    if mask >= 0:
                        ok = ok and valid[mask, row[k], c + i] != 0
                    x = np.float64(v)
                    ok = ok and x - x == 0.0
                    out[np.uint64(s)] = v if ok else last
                    if whole.size:
                        w = _weight(skip[k] + i, head[k], tail[k], whole[k], own[k], weights)
                        shares[s] = w if ok else 0.0
                    s += 1


@kernel("void(float64[::1], float32[::1], int64[::1], int64[:,::1], float64[::1], boolean, float64[:,:,::1])")
def sorted_statistics(
    values: Floats,
    shares: Weights,
    place: Ints,
    pixels: Ints,
    quantiles: Floats,
    frequencies: bool,  # noqa: FBT001  # a kernel takes no keywords
    out: Floats,
) -> None:
    """Quantiles of pieces whose values are sorted, and what follows from the counts of single values.

    Parameters
    ----------
    values, shares
        What `piece_values` gives, sorted within each band of each piece.
    place
        (pieces + 1,) Positions where pieces begin.
    pixels
        (pieces, bands) Valid ones; those come first where each counts 1.
    quantiles
        Shares from 0 to 1.
    frequencies
        Whether the last four columns are wanted.
    out
        (pieces, bands, quantiles + 4): quantiles, then MAD, majority, minority, variety; unchanged without
        valid pixels.
    """
    bands = pixels.shape[1]
    longest = 0
    for p in range(place.size - 1):
        longest = max(longest, (place[p + 1] - place[p]) // bands)
    distinct, sums = np.empty(longest + 1), np.empty(longest + 1)
    for p in range(place.size - 1):
        n = (place[p + 1] - place[p]) // bands
        for b in range(bands):
            m = pixels[p, b]
            if m == 0:
                continue
            s = place[p] + b * n
            if not shares.size:
                for q in range(quantiles.size):
                    spot = quantiles[q] * (m - 1)
                    i = np.int64(np.floor(spot))
                    out[p, b, q] = between(values[s + i], values[s + min(i + 1, m - 1)], spot - i)
            if not (shares.size or frequencies):
                continue
            k = _distinct(values, shares, s, n if shares.size else m, distinct, sums)
            if shares.size:
                for q in range(quantiles.size):
                    out[p, b, q] = weighted_quantile(distinct[:k], sums[:k], quantiles[q])
            if frequencies:
                frequencies_of(distinct[:k], sums[:k], shares.size > 0, out[p, b, quantiles.size :])


@helper
def _distinct(values: Floats, shares: Weights, s: int, n: int, distinct: Floats, sums: Floats) -> int:
    """Collect the different values of n sorted ones from `s` on, and their weights; return their number."""
    k = -1
    for i in range(s, s + n):
        w = np.float64(shares[i]) if shares.size else 1.0
        if w == 0.0:
            continue
        v = values[i]
        if k < 0 or v != distinct[k]:
            k += 1
            distinct[k], sums[k] = v, 0.0
        sums[k] += w
    return k + 1


@helper
def _median(values: Floats, sums: Floats, weighted: bool) -> float:  # noqa: FBT001  # a kernel takes no keywords
    """Median of distinct ascending values that occur `sums` times."""
    if weighted:
        return weighted_quantile(values, sums, 0.5)
    n = np.int64(sums.sum())
    below = 0.0
    low = values[0]
    found = False
    for k in range(values.size):
        below += sums[k]
        if not found and below > (n - 1) // 2:
            low = values[k]
            found = True
        if below > n // 2:
            return 0.5 * (low + values[k])
    return values[-1]


@helper
def frequencies_of(values: Floats, sums: Floats, weighted: bool, out: Floats) -> None:  # noqa: FBT001  # as above
    """Median absolute deviation, most and least frequent value, and number of values, of distinct ascending ones."""
    most, least = -1.0, np.inf
    for k in range(values.size):
        if sums[k] > most:
            most = sums[k]
            out[1] = values[k]
        if sums[k] < least:
            least = sums[k]
            out[2] = values[k]
    out[3] = values.size
    deviation = np.abs(values - _median(values, sums, weighted))
    order = np.argsort(deviation)
    d, w = deviation[order], sums[order]
    last = 0
    for i in range(1, d.size):  # equal deviations on both sides of the median are one value
        if d[i] == d[last]:
            w[last] += w[i]
        else:
            last += 1
            d[last], w[last] = d[i], w[i]
    out[0] = _median(d[: last + 1].copy(), w[: last + 1].copy(), weighted)


@kernel("void(float64[::1], float32[::1], int64[::1], int64[:,::1], int64[:,::1], float64[::1], float64[::1])")
def class_weights(
    values: Floats, shares: Weights, place: Ints, pixels: Ints, counts: Ints, classes: Floats, sums: Floats
) -> None:
    """Different values of each piece and band, and their weights.

    Parameters
    ----------
    values, shares, place, pixels
        As of `sorted_statistics`.
    counts
        (bands, pieces) Receives their numbers.
    classes, sums
        Receive the values and weights, one band and piece after the other, as many as there are valid pixels at most.
    """
    bands = pixels.shape[1]
    at = 0
    for b in range(bands):
        for p in range(place.size - 1):
            n = (place[p + 1] - place[p]) // bands
            if pixels[p, b] == 0:
                counts[b, p] = 0
                continue
            m = n if shares.size else pixels[p, b]
            found = _distinct(values, shares, place[p] + b * n, m, classes[at:], sums[at:])
            counts[b, p] = found
            at += found
