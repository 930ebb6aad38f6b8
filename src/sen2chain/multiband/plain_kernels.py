"""Kernels on windows of many bands where each pixel counts 1: moments, quantiles and frequencies of pieces of features.

Whole numbers of 8 bits are counted by value, and everything follows from the counts, exactly. Of other values the
quantiles are found by selection: they are counted in buckets, and only those in the buckets of the wanted ranks are
sorted. A pixel is valid where it is finite, is not the band's no-data value, and no mask removes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper, kernel
from sen2chain.multiband.piece_kernels import COUNT, HIGH, LOW, SQUARES, TOTAL, frequencies_of, typed_kernel
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


@kernel(
    f"void(uint8[:,:,::1], int64, uint8[:,:,::1], int64[::1], {_RUNS}, boolean[::1], float64[::1], boolean, "
    "float64[:,:,::1], float64[:,:,::1], int64[:,::1], float64[::1], float64[::1])"
)
def byte_pieces(
    image: Bytes,
    flip: int,
    valid: Bytes,
    nodata: Ints,
    first: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    whole: Bools,
    quantiles: Floats,
    frequencies: bool,  # noqa: FBT001  # a kernel takes no keywords
    moments: Floats,
    table: Floats,
    found: Ints,
    classes: Floats,
    sums: Floats,
) -> None:
    """Count the values of each piece in each band, and compute what follows from the counts.

    Parameters
    ----------
    image
        (bands, rows, columns) of bytes.
    flip
        128 where they are those of signed numbers, else 0.
    valid
        (0, 1 or bands, rows, columns): 0 removes a pixel.
    nodata
        (bands,) The value that means no data; one that no byte has where there is none.
    first
        (pieces + 1,) Runs of each piece.
    row, column, length
        (runs,) Pixels of the window.
    whole
        (pieces,) Whether quantiles and frequencies of a piece are wanted.
    quantiles
        Shares from 0 to 1.
    frequencies
        Whether median absolute deviation, majority, minority and variety are wanted.
    moments
        (pieces, bands, 5) COUNT, TOTAL, SQUARES, LOW, HIGH; 0, 0, 0, inf, -inf without valid pixels.
    table
        (pieces, bands, quantiles + 4): quantiles, then MAD, majority, minority, variety; unchanged without valid
        pixels.
    found, classes, sums
        (bands, pieces) Receives the numbers of different values; these and their counts follow one after the other.
        Empty where they are not wanted.
    """
    apart = np.zeros((4, 256), np.int32)  # four counts of each value in turn, so that equal neighbours do not wait
    counts = np.empty(256, np.int32)
    distinct, often = np.empty(256), np.empty(256)
    longest = 1
    for p in range(first.size - 1):
        pixels = 0
        for k in range(first[p], first[p + 1]):
            pixels += length[k]
        longest = max(longest, pixels)
    taken = np.empty(longest, np.uint8)
    at = 0
    turned = np.uint8(flip)
    for b in range(image.shape[0]):  # one band after the other stays in the processor's cache
        for p in range(first.size - 1):
            if not (whole[p] or valid.shape[0]):
                begin, end = first[p], first[p + 1]
                empty = nodata[b] + flip
                out = moments[p, b]
                _byte_moments(image[b], turned, flip, empty, row, column, length, begin, end, taken, out)
                continue
            for k in range(first[p], first[p + 1]):
                _count(image[b, row[k]], valid, b, row[k], column[k], length[k], turned, apart)
            n: Any = 0
            total: Any = 0
            squares: Any = 0
            for v in range(256):
                counts[v] = apart[0, v] + apart[1, v] + apart[2, v] + apart[3, v]
            for v in range(256):
                apart[0, v] = apart[1, v] = apart[2, v] = apart[3, v] = 0
            empty = nodata[b] + flip
            if 0 <= empty < 256:
                counts[empty] = 0
            for v in range(256):
                c = np.int64(counts[v])
                n += c
                total += c * v
                squares += c * (v * v)
            own = moments[p, b]
            own[COUNT], own[TOTAL], own[SQUARES], own[LOW], own[HIGH] = n, 0.0, 0.0, np.inf, -np.inf
            if n == 0:
                if found.size:
                    found[b, p] = 0
                continue
            low, high = 0, 255
            while counts[low] == 0:
                low += 1
            while counts[high] == 0:
                high -= 1
            _exact(n, total, squares, low, high, flip, own)
            if not whole[p]:
                continue
            if frequencies or found.size:
                m = 0
                for v in range(low, high + 1):
                    if counts[v]:
                        distinct[m], often[m] = v - flip, counts[v]
                        m += 1
                if frequencies:
                    frequencies_of(distinct[:m], often[:m], False, table[p, b, quantiles.size :])  # noqa: FBT003  # as above
                if found.size:
                    found[b, p] = m
                    classes[at : at + m], sums[at : at + m] = distinct[:m], often[:m]
                    at += m
            if quantiles.size:
                _counted_quantiles(counts, low, high, n, flip, quantiles, table[p, b])


@helper
def _exact(n: Any, total: Any, squares: Any, low: Any, high: Any, flip: int, out: Floats) -> None:
    """Fill in the moments of n values from sums of whole numbers."""
    # Squares around a whole number near the mean stay exact and cannot cancel.
    middle = total // n
    off = total - n * middle
    out[COUNT], out[TOTAL] = n, total - n * flip
    out[SQUARES] = (squares - 2 * middle * total + n * middle * middle) - (off * off) / n
    out[LOW], out[HIGH] = low - flip, high - flip


@helper
def _byte_moments(
    layer: Bytes,
    turned: Any,
    flip: int,
    empty: int,
    row: Ints,
    column: Ints,
    length: Ints,
    begin: int,
    end: int,
    taken: Bytes,
    out: Floats,
) -> None:
    """Fill in the moments of the values of some runs, which is faster than to count them."""
    n: Any = 0
    for k in range(begin, end):
        line, c = layer[row[k]], column[k]
        for i in range(length[k]):
            taken[np.uint64(n + i)] = line[np.uint64(c + i)] ^ turned
        n += length[k]
    if 0 <= empty < 256:
        m = n
        n = 0
        for i in range(m):
            v = taken[np.uint64(i)]
            taken[np.uint64(n)] = v
            n += np.int64(v != empty)
    out[COUNT], out[TOTAL], out[SQUARES], out[LOW], out[HIGH] = n, 0.0, 0.0, np.inf, -np.inf
    if n == 0:
        return
    total: Any = 0
    squares: Any = 0
    for i in range(n):
        x = np.int64(taken[np.uint64(i)])
        total += x
        squares += x * x
    low = high = taken[0]
    for i in range(n):
        low = min(low, taken[np.uint64(i)])
        high = max(high, taken[np.uint64(i)])
    _exact(n, total, squares, np.int64(low), np.int64(high), flip, out)


@helper
def _count(line: Bytes, valid: Bytes, b: int, row: int, column: int, length: int, turned: Any, apart: Counts) -> None:
    """Count the values of a run."""
    if valid.shape[0]:
        mask = valid[min(b, valid.shape[0] - 1), row]
        for i in range(column, column + length):
            if mask[i] != 0:
                apart[0, np.uint64(line[i] ^ turned)] += 1
        return
    fours = column + length - length % 4
    for i in range(column, fours, 4):
        apart[0, np.uint64(line[np.uint64(i)] ^ turned)] += 1
        apart[1, np.uint64(line[np.uint64(i + 1)] ^ turned)] += 1
        apart[2, np.uint64(line[np.uint64(i + 2)] ^ turned)] += 1
        apart[3, np.uint64(line[np.uint64(i + 3)] ^ turned)] += 1
    for i in range(fours, column + length):
        apart[0, np.uint64(line[np.uint64(i)] ^ turned)] += 1


@helper
def _counted_quantiles(counts: Counts, low: int, high: int, n: int, flip: int, quantiles: Floats, out: Floats) -> None:
    """Fill in the quantiles of n values from their counts, which become sums of the counts up to each value."""
    before = 0
    for v in range(low, high + 1):
        before += counts[v]
        counts[v] = before
    for q in range(quantiles.size):
        spot = quantiles[q] * (n - 1)
        rank: Any = np.int64(np.floor(spot))
        v = low + _bucket_of(rank, counts[low : high + 1])
        after = v
        if counts[v] == rank + 1 and v < high:
            after = low + _bucket_of(rank + 1, counts[low : high + 1])
        out[q] = between(np.float64(v - flip), np.float64(after - flip), spot - rank)


@helper
def _bucket_of(rank: int, until: Counts) -> int:
    """Position of the first sum of counts that is above a rank."""
    a, b = 0, until.size - 1
    while a < b:
        middle = (a + b) >> 1
        if until[middle] > rank:
            b = middle
        else:
            a = middle + 1
    return a


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
    longest = 1
    for p in range(first.size - 1):
        n = 0
        for k in range(first[p], first[p + 1]):
            n += length[k]
        longest = max(longest, n)
    taken, few = np.empty(longest, image.dtype), np.empty(longest, image.dtype)
    spots = np.empty(longest, np.int32)
    until = np.empty(min(longest, _MOST_BUCKETS) + 1, np.int32)
    is_wanted, chosen = np.zeros(until.size, np.bool_), np.empty(2 * quantiles.size, np.int32)
    for b in range(image.shape[0]):  # one band after the other stays in the processor's cache
        for p in range(first.size - 1):
            n = 0
            for k in range(first[p], first[p + 1]):
                line, c = image[b, row[k]], column[k]
                for i in range(length[k]):
                    taken[np.uint64(n + i)] = line[np.uint64(c + i)]
                n += length[k]
            if valid.shape[0]:
                n = _unmasked(taken, valid[min(b, valid.shape[0] - 1)], row, column, length, first[p], first[p + 1])
            n = _valid(taken, n, nodata[b], has_nodata[b])
            own = moments[p, b]
            own[COUNT], own[TOTAL], own[SQUARES], own[LOW], own[HIGH] = n, 0.0, 0.0, np.inf, -np.inf
            if n == 0:
                continue
            _moments(taken, n, own)
            if whole[p] and quantiles.size:
                _selected(taken, n, own[LOW], own[HIGH], quantiles, spots, until, is_wanted, chosen, few, table[p, b])


@helper
def _unmasked(values: Array, mask: Bytes, row: Ints, column: Ints, length: Ints, begin: int, end: int) -> Any:
    """Keep those values of some runs that a mask does not remove; return their number."""
    n: Any = 0
    i = 0
    for k in range(begin, end):
        for c in range(column[k], column[k] + length[k]):
            values[n] = values[i]
            n += np.int64(mask[row[k], c] != 0)
            i += 1
    return n


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
def _moments(values: Array, n: int, out: Floats) -> None:
    """Fill in the moments of n values; four sums at once keep the processor busy."""
    a = b = c = d = 0.0
    fours = n - n % 4
    for i in range(0, fours, 4):
        a += values[np.uint64(i)]
        b += values[np.uint64(i + 1)]
        c += values[np.uint64(i + 2)]
        d += values[np.uint64(i + 3)]
    for i in range(fours, n):
        a += values[i]
    total = (a + b) + (c + d)
    mean = total / n
    a = b = c = d = 0.0
    low = low_2 = high = high_2 = values[0]
    for i in range(0, fours, 4):
        s, t, u, v = (
            values[np.uint64(i)], values[np.uint64(i + 1)], values[np.uint64(i + 2)], values[np.uint64(i + 3)],
        )  # fmt: skip
        a += (s - mean) * (s - mean)
        b += (t - mean) * (t - mean)
        c += (u - mean) * (u - mean)
        d += (v - mean) * (v - mean)
        small, large = (s, t) if s < t else (t, s)
        small_2, large_2 = (u, v) if u < v else (v, u)
        low = min(low, small)
        high = max(high, large)
        low_2 = min(low_2, small_2)
        high_2 = max(high_2, large_2)
    for i in range(fours, n):
        v = values[i]
        a += (v - mean) * (v - mean)
        low = min(low, v)
        high = max(high, v)
    out[COUNT], out[TOTAL], out[SQUARES] = n, total, (a + b) + (c + d)
    out[LOW], out[HIGH] = min(low, low_2), max(high, high_2)


@helper
def _selected(
    values: Array,
    n: int,
    low: float,
    high: float,
    quantiles: Floats,
    spots: Counts,
    until: Counts,
    is_wanted: Bools,
    chosen: Counts,
    few: Array,
    out: Floats,
) -> None:
    """Fill in the quantiles of n values between `low` and `high`.

    `spots`, `until`, `is_wanted` (all false, as it is left), `chosen` and `few` are room to work in.
    """
    buckets = max(min(n >> 1, _MOST_BUCKETS), 1)
    # Halves, since a difference may be beyond the largest number.
    half = low * 0.5
    width = high * 0.5 - half
    factor = (buckets - 1) / width if width > 1e-290 else 0.0
    for b in range(buckets):
        until[b] = 0
    for i in range(n):
        spots[np.uint64(i)] = np.int32((values[np.uint64(i)] * 0.5 - half) * factor)
    for i in range(n):
        until[np.uint64(spots[np.uint64(i)])] += 1
    before = 0
    for b in range(buckets):
        before += until[b]
        until[b] = before
    wanted = 0
    for q in range(quantiles.size):
        rank: Any = np.int64(np.floor(quantiles[q] * (n - 1)))
        for r in (rank, min(rank + 1, n - 1)):
            b = _bucket_of(r, until[:buckets])
            if not is_wanted[b]:
                is_wanted[b] = True
                chosen[wanted] = b
                wanted += 1
    m: Any = 0
    for i in range(n):
        few[np.uint64(m)] = values[np.uint64(i)]
        m += np.int64(is_wanted[np.uint64(spots[np.uint64(i)])])
    _sort(few, m)
    for q in range(quantiles.size):
        spot = quantiles[q] * (n - 1)
        rank = np.int64(np.floor(spot))
        a = few[_place(rank, until[:buckets], chosen[:wanted])]
        z = few[_place(min(rank + 1, n - 1), until[:buckets], chosen[:wanted])]
        out[q] = between(np.float64(a), np.float64(z), spot - rank)
    for i in range(wanted):
        is_wanted[chosen[i]] = False


@helper
def _place(rank: int, until: Counts, chosen: Counts) -> int:
    """Position of the value of a rank among those of the chosen buckets."""
    own = _bucket_of(rank, until)
    place = rank - (until[own - 1] if own else 0)
    for b in chosen:
        if b < own:
            place += until[b] - (until[b - 1] if b else 0)
    return place


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
