"""Kernels that reduce the collected pixels of many features to statistics. Arrays in, arrays out.

``offsets[f]:offsets[f + 1]`` are the pixels of feature f. A pixel is valid when its value is not 32767 and its bit is
not set in ``cloud``; it is cloud when it has a value and its bit is set. Sums of unweighted pixels are sums of
integers, those of weighted pixels run in the order of the pixels: results do not depend on how work is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import helper, kernel
from sen2chain.zonal.buckets import BUCKETS, bucket, ranked, sort, sort_weighted

if TYPE_CHECKING:
    import numpy.typing as npt

    Values = npt.NDArray[np.int16]
    Bytes = npt.NDArray[np.uint8]
    Offsets = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.float32]

COUNT, CLOUD, INVALID, MIN, MAX, SUM, MEAN, VARIANCE = range(8)
"""Columns of the result; one per quantile follows."""
N_MOMENTS = 8

NODATA = 32767
"""Value of a pixel without data."""

_PIXELS = "int16[::1], uint8[::1], uint8, int64[::1]"


@helper
def between(low: float, high: float, t: float) -> float:
    """Interpolate as numpy does, which keeps both ends exact."""
    if t >= 0.5:
        return high - (high - low) * (1.0 - t)
    return low + (high - low) * t


@helper
def _longest(offsets: Offsets) -> int:
    longest = 0
    for f in range(offsets.size - 1):
        longest = max(longest, offsets[f + 1] - offsets[f])
    return longest


@kernel(f"void({_PIXELS}, float64[::1], int64, float64[:,::1])")
def _reduce_counted(
    values: Values, cloud: Bytes, bit: int, offsets: Offsets, quantiles: Floats, longest: int, out: Floats
) -> None:
    """Fill `out`, which holds NaN, as `reduce_counted` gives it; `longest` are the pixels of the largest feature."""
    n_features = offsets.size - 1
    valid, ordered = np.empty(longest, np.int16), np.empty(longest, np.int16)
    starts = np.empty(BUCKETS * longest + 2, np.int32)
    for f in range(n_features):
        n = 0
        clouded = 0
        total = 0
        low, high = 32767, -32768
        pixels, bits = values[offsets[f] : offsets[f + 1]], cloud[offsets[f] : offsets[f + 1]]
        for i in range(pixels.size):
            v = np.int64(pixels[i])
            if v == NODATA:
                continue
            if bits[i] & bit:
                clouded += 1
                continue
            valid[n] = v
            n += 1
            total += v
            low = min(low, v)
            high = max(high, v)
        out[f, COUNT] = n
        out[f, CLOUD] = clouded
        out[f, INVALID] = offsets[f + 1] - offsets[f] - n
        if n == 0:
            continue
        out[f, MIN], out[f, MAX], out[f, SUM] = low, high, total
        out[f, MEAN] = total / n
        # Squares around a whole number near the mean stay exact integers and cannot cancel.
        middle = np.int64(np.rint(total / n))
        squares = 0
        for i in range(n):
            d = np.int64(valid[i]) - middle
            squares += d * d
        off = total / n - middle
        out[f, VARIANCE] = max(squares / n - off * off, 0.0)
        if quantiles.size == 0:
            continue
        shift = bucket(valid, n, low, high, starts)
        if shift > 0:
            sort(valid, n, low, shift, starts, ordered)
        for q in range(quantiles.size):
            place = quantiles[q] * (n - 1)
            first = np.int64(np.floor(place))
            second = min(first + 1, n - 1)
            if shift > 0:
                a, b = np.int64(ordered[first]), np.int64(ordered[second])
            else:
                a = ranked(first, low, high - low + 1, starts)
                b = ranked(second, low, high - low + 1, starts)
            out[f, N_MOMENTS + q] = between(np.float64(a), np.float64(b), place - first)


def is_compiled() -> bool:
    """Whether the kernels lie on disk as machine code; the first run on a machine compiles them."""
    return _reduce_counted.is_saved


def reduce_counted(values: Values, cloud: Bytes, bit: int, offsets: Offsets, quantiles: Floats) -> Floats:
    """Count, moments and quantiles of features whose pixels count 1 each.

    Returns
    -------
    numpy.ndarray
        float64 (features, 8 + quantiles); NaN but for the counts where no pixel is valid. Variance is that of the
        population; quantiles interpolate linearly between neighbours (numpy's default).
    """
    out = np.full((len(offsets) - 1, N_MOMENTS + len(quantiles)), np.nan)
    _reduce_counted(values, cloud, bit, offsets, quantiles, int(np.diff(offsets).max(initial=0)), out)
    return out


@helper
def weighted_quantile(values: Floats, weights: Floats, q: float) -> float:
    """Quantile of distinct ascending values with weights, as exactextract defines it.

    With s_k = k w_k + (n - 1) (w_0 + ... + w_{k-1}), the quantile is where the line through the points (s_k, x_k)
    reaches q s_{n-1}.
    """
    n = values.size
    before = 0.0
    whole = 0.0
    for k in range(n):
        whole += weights[k]
    target = q * (whole * (n - 1))
    last_s, last_x = 0.0, values[0]
    for k in range(n):
        s = 0.0 if k == 0 else k * weights[k] + (n - 1) * before
        if s > target:
            return last_x + (target - last_s) * (values[k] - last_x) / (s - last_s)
        last_s, last_x = s, values[k]
        before += weights[k]
    return last_x


@kernel(f"float64[:,::1]({_PIXELS}, float32[::1], float64[::1])")
def reduce_weighted(
    values: Values, cloud: Bytes, bit: int, offsets: Offsets, weights: Weights, quantiles: Floats
) -> Floats:
    """Count, moments and quantiles of features whose pixels count with their weight.

    Returns
    -------
    numpy.ndarray
        As `reduce_counted`; counts are sums of weights, mean and variance weighted, minimum and maximum those of all
        pixels with any weight, quantiles those of exactextract.
    """
    n_features = offsets.size - 1
    out = np.full((n_features, N_MOMENTS + quantiles.size), np.nan)
    longest = _longest(offsets)
    valid, ordered = np.empty(longest, np.int16), np.empty(longest, np.int16)
    weight, share = np.empty(longest, np.float32), np.empty(longest, np.float32)
    starts = np.empty(BUCKETS * longest + 2, np.int32)
    distinct, sums = np.empty(longest), np.empty(longest)
    for f in range(n_features):
        m = 0
        n = 0.0
        clouded = 0.0
        invalid = 0.0
        total = 0.0
        low, high = 32767, -32768
        for i in range(offsets[f], offsets[f + 1]):
            v = np.int64(values[i])
            w = np.float64(weights[i])
            if v == NODATA:
                invalid += w
            elif cloud[i] & bit:
                invalid += w
                clouded += w
            else:
                valid[m], weight[m] = v, weights[i]
                m += 1
                n += w
                total += w * v
                low = min(low, v)
                high = max(high, v)
        out[f, COUNT], out[f, CLOUD], out[f, INVALID] = n, clouded, invalid
        if n == 0.0:
            continue
        mean = total / n
        sort_weighted(valid, weight, m, low, high, starts, ordered, share)
        k = -1
        for i in range(m):
            if k < 0 or ordered[i] != distinct[k]:
                k += 1
                distinct[k], sums[k] = ordered[i], 0.0
            sums[k] += np.float64(share[i])
        squares = 0.0
        for i in range(k + 1):
            squares += sums[i] * (distinct[i] - mean) * (distinct[i] - mean)
        out[f, MIN], out[f, MAX], out[f, SUM] = low, high, total
        out[f, MEAN], out[f, VARIANCE] = mean, squares / n
        for q in range(quantiles.size):
            out[f, N_MOMENTS + q] = weighted_quantile(distinct[: k + 1], sums[: k + 1], quantiles[q])
    return out


@helper
def _median(values: Floats, weights: Floats, weighted: bool) -> float:  # noqa: FBT001  # a kernel takes no keywords
    """Median of distinct ascending values that occur `weights` times."""
    if weighted:
        return weighted_quantile(values, weights, 0.5)
    n = np.int64(weights.sum())
    below = 0.0
    low = values[0]
    found = False
    for k in range(values.size):
        below += weights[k]
        if not found and below > (n - 1) // 2:
            low = values[k]
            found = True
        if below > n // 2:
            return 0.5 * (low + values[k])
    return values[-1]


MAD, MAJORITY, MINORITY, VARIETY = range(4)
"""Columns of `reduce_frequencies`."""


@helper
def frequencies(
    tally: Floats,
    low: int,
    high: int,
    weighted: bool,  # noqa: FBT001  # a kernel takes no keywords
    distinct: Floats,
    share: Floats,
    out: Floats,
) -> None:
    """Fill the columns of `reduce_frequencies` for one feature, whose values lie between low and high."""
    k = 0
    most, least = -1.0, np.inf
    for v in range(low, high + 1):
        w = tally[v + 32768]
        if w > 0.0:
            distinct[k], share[k] = v, w
            k += 1
            if w > most:
                most = w
                out[MAJORITY] = v
            if w < least:
                least = w
                out[MINORITY] = v
    if k == 0:
        return
    out[VARIETY] = k
    x, w_x = distinct[:k].copy(), share[:k].copy()
    deviation = np.abs(x - _median(x, w_x, weighted))
    order = np.argsort(deviation)
    d, w_d = deviation[order], w_x[order]
    last = 0
    for i in range(1, k):  # equal deviations on both sides of the median are one value
        if d[i] == d[last]:
            w_d[last] += w_d[i]
        else:
            last += 1
            d[last], w_d[last] = d[i], w_d[i]
    out[MAD] = _median(d[: last + 1].copy(), w_d[: last + 1].copy(), weighted)


@kernel(f"float64[:,::1]({_PIXELS}, float32[::1])")
def reduce_frequencies(values: Values, cloud: Bytes, bit: int, offsets: Offsets, weights: Weights) -> Floats:
    """Median absolute deviation, most and least frequent value, and number of different values.

    `weights` may be empty, which means 1 each. Of equally frequent values the smallest is taken. The deviation's
    medians are those of `reduce_counted` or, with weights, of `reduce_weighted`.
    """
    n_features = offsets.size - 1
    out = np.full((n_features, 4), np.nan)
    tally = np.zeros(65536, np.float64)
    distinct = np.empty(65536, np.float64)
    share = np.empty(65536, np.float64)
    for f in range(n_features):
        low, high = 32767, -32768
        for i in range(offsets[f], offsets[f + 1]):
            v = np.int64(values[i])
            if v != NODATA and not cloud[i] & bit:
                tally[v + 32768] += np.float64(weights[i]) if weights.size else 1.0
                low = min(low, v)
                high = max(high, v)
        frequencies(tally, low, high, weights.size > 0, distinct, share, out[f])
        if high >= low:
            tally[low + 32768 : high + 32769] = 0.0
    return out


@helper
def bin_of(value: float, low: float, high: float, bins: int) -> int:
    """Column of `reduce_histogram` that a value belongs to."""
    if value < low:
        return 0
    if value > high:
        return bins + 1
    return min(np.int64(np.floor((value - low) * bins / (high - low))), bins - 1) + 1


@kernel(f"float64[:,::1]({_PIXELS}, float32[::1], float64, float64, int64)")
def reduce_histogram(
    values: Values, cloud: Bytes, bit: int, offsets: Offsets, weights: Weights, low: float, high: float, bins: int
) -> Floats:
    """Count (or sum of weights) of the valid pixels in equal bins from `low` to `high`, and below and above them.

    As in numpy's histogram a bin holds its lower edge, the last one both. Column 0 counts what lies below, the last
    column what lies above.
    """
    out = np.zeros((offsets.size - 1, bins + 2))
    for f in range(offsets.size - 1):
        for i in range(offsets[f], offsets[f + 1]):
            if values[i] != NODATA and not cloud[i] & bit:
                w = np.float64(weights[i]) if weights.size else 1.0
                out[f, bin_of(np.float64(values[i]), low, high, bins)] += w
    return out
