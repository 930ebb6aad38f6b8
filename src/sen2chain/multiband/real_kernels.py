"""Kernels on windows of numbers of 16 bits and more where each pixel counts 1: moments and quantiles of pieces.

Quantiles are found by selection: values are counted in buckets, and only those in the buckets of the wanted ranks are
sorted. A pixel is valid where it is finite, is not the band's no-data value, and no mask removes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper
from sen2chain.multiband.lanes import COPIED, SUMS, lane_squares, lane_totals
from sen2chain.multiband.piece_gather import gathered, longest_piece, unmasked
from sen2chain.multiband.piece_kernels import COUNT, HIGH, LOW, SQUARES, TOTAL, typed_kernel
from sen2chain.zonal.reduce import between

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Counts = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float64]

_MOST_BUCKETS = 1 << 15
_RUNS = "int64[::1], int64[::1], int64[::1], int64[::1]"


@typed_kernel(
    f"void({{t}}[:,:,::1], uint8[:,:,::1], {{t}}[::1], boolean[::1], {_RUNS}, boolean[::1], float64[::1], "
    "float64[:,:,::1], float64[:,:,::1])"
)
def real_pieces(
    image: Array,
    valid: Bytes,
    nodata: Array,
    has_nodata: Bools,
    first: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    whole: Bools,
    quantiles: Floats,
    moments: Floats,
    table: Floats,
) -> None:
    """Moments and quantiles of each piece in each band.

    Parameters
    ----------
    image
        (bands, rows, columns) of values.
    valid, first, row, column, length, whole, quantiles, moments, table
        As of `byte_pieces`; the last four columns of the table stay as they are.
    nodata, has_nodata
        (bands,) The value that means no data, and whether there is one.
    """
    flat = image.reshape(-1)
    start = row * image.shape[2] + column
    longest = longest_piece(first, length)
    taken, few = np.empty(longest + COPIED, image.dtype), np.empty(longest, image.dtype)
    spots = np.empty(longest, np.int32)
    counts = np.empty(min(longest, _MOST_BUCKETS) + 1, np.int32)
    is_wanted, places = np.zeros(counts.size, np.bool_), np.empty(quantiles.size, np.int64)
    order = np.argsort(quantiles)
    sums, low, high = np.empty(SUMS), np.empty(SUMS, image.dtype), np.empty(SUMS, image.dtype)
    for b in range(image.shape[0]):  # one band after the other stays in the processor's cache
        base = b * image.shape[1] * image.shape[2]
        for p in range(first.size - 1):
            n = gathered(flat, base, start, length, first[p], first[p + 1], taken)
            if valid.shape[0]:
                n = unmasked(taken, valid[min(b, valid.shape[0] - 1)], row, column, length, first[p], first[p + 1])
            n = _valid(taken, n, nodata[b], has_nodata[b])
            own = moments[p, b]
            _moments(taken, n, sums, low, high, own)
            if n and whole[p] and quantiles.size:
                _selected(
                    taken, n, own[LOW], own[HIGH], quantiles, order, spots, counts, is_wanted, places, few, table[p, b]
                )


@helper
def _valid(values: Array, n: int, empty: Any, has: bool) -> Any:  # noqa: FBT001  # a kernel takes no keywords
    """Keep the finite values that are not the no-data value; return their number."""
    bad: Any = 0
    for i in range(n):
        v = values[np.uint64(i)]
        bad += np.int64(v - v != 0.0)
    if has:
        for i in range(n):
            bad += np.int64(values[np.uint64(i)] == empty)
    if bad == 0:
        return n
    m: Any = 0
    for i in range(n):
        v = values[np.uint64(i)]
        values[np.uint64(m)] = v
        m += np.int64(v - v == 0.0 and not (has and v == empty))
    return m


@helper
def _moments(values: Array, n: int, sums: Floats, low: Array, high: Array, out: Floats) -> None:
    """Fill in the moments of n finite values; `sums`, `low` and `high`, `SUMS` long, are room to work in."""
    out[COUNT], out[TOTAL], out[SQUARES], out[LOW], out[HIGH] = n, 0.0, 0.0, np.inf, -np.inf
    if n == 0:
        return
    blocks = n // SUMS
    lane_totals(values, blocks, sums, low, high)
    for i in range(blocks * SUMS, n):
        lane = i - blocks * SUMS
        sums[lane] += values[i]
        low[lane], high[lane] = min(low[lane], values[i]), max(high[lane], values[i])
    total = 0.0
    for i in range(SUMS):
        total += sums[i]
        out[LOW], out[HIGH] = min(out[LOW], np.float64(low[i])), max(out[HIGH], np.float64(high[i]))
    mean = total / n
    lane_squares(values, blocks, mean, sums)
    for i in range(blocks * SUMS, n):
        sums[i - blocks * SUMS] += (values[i] - mean) * (values[i] - mean)
    squares = 0.0
    for i in range(SUMS):
        squares += sums[i]
    out[TOTAL], out[SQUARES] = total, squares


@helper
def _selected(
    values: Array,
    n: int,
    low: float,
    high: float,
    quantiles: Floats,
    order: Ints,
    spots: Counts,
    counts: Counts,
    is_wanted: Bools,
    places: Ints,
    few: Array,
    out: Floats,
) -> None:
    """Fill in the quantiles of n values between `low` and `high`.

    `order` are positions of ascending quantiles; `spots`, `counts`, `is_wanted` (all false, as it is left), `places`
    and `few` are room to work in.
    """
    buckets = max(min(n >> 1, _MOST_BUCKETS), 1)
    _count(values, n, low, high, buckets, spots, counts)
    # Where the values of the wanted ranks stand among those of the wanted buckets, once these are sorted.
    b: Any = 0
    before: Any = 0  # values in earlier buckets
    kept: Any = 0  # and those of them that are in wanted ones
    for q in order:
        rank = np.int64(np.floor(quantiles[q] * (n - 1)))
        while before + counts[np.uint64(b)] <= rank:
            kept += counts[b] if is_wanted[b] else 0
            before += counts[np.uint64(b)]
            b += 1
        is_wanted[b] = True
        places[q] = kept + rank - before
        if rank + 1 == before + counts[b] and rank + 1 < n:  # the next value is in a later bucket
            after = b + 1
            while counts[after] == 0:
                after += 1
            is_wanted[after] = True
    m: Any = 0
    for i in range(n):
        few[np.uint64(m)] = values[np.uint64(i)]
        m += np.int64(is_wanted[np.uint64(spots[np.uint64(i)])])
    _sort(few, m)
    for q in range(quantiles.size):
        spot = quantiles[q] * (n - 1)
        after = min(places[q] + 1, m - 1)
        out[q] = between(np.float64(few[places[q]]), np.float64(few[after]), spot - np.floor(spot))
    for i in range(buckets):
        is_wanted[i] = False


@helper
def _count(values: Array, n: int, low: float, high: float, buckets: int, spots: Counts, counts: Counts) -> None:
    """Fill in the bucket of each value, in the order of values, and the number of values of each bucket."""
    # Halves, since a difference may be beyond the largest number.
    half = low * 0.5
    width = high * 0.5 - half
    factor = (buckets - 1) / width if width > 1e-290 else 0.0
    for b in range(buckets):
        counts[b] = 0
    for i in range(n):
        spots[np.uint64(i)] = np.int32((values[np.uint64(i)] * 0.5 - half) * factor)
    for i in range(n):
        counts[np.uint64(spots[np.uint64(i)])] += 1


@helper
def _sort(values: Array, n: int) -> None:
    """Sort n values in place: few as a rule, and without much time where they are many (Shell's gaps of Ciura)."""
    gap = 1
    while gap < n // 3:
        gap = max(gap * 9 // 4, gap + 3)
    while True:
        for i in range(gap, n):
            v = values[i]
            j = i
            while j >= gap and values[j - gap] > v:
                values[j] = values[j - gap]
                j -= gap
            values[j] = v
        if gap == 1:
            return
        gap = max(gap * 4 // 9, 1)
