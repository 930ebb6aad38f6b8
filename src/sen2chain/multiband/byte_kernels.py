"""Kernels on windows of whole numbers of 8 bits where each pixel counts 1: moments, quantiles, frequencies of pieces.

Values are counted where more than moments is wanted, and everything follows from the counts, exactly. A pixel is valid
where it is not the band's no-data value, and no mask removes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import helper, kernel
from sen2chain.multiband.lanes import COPIED
from sen2chain.multiband.piece_gather import gathered, longest_piece, unmasked
from sen2chain.multiband.piece_kernels import COUNT, HIGH, LOW, SQUARES, TOTAL, frequencies_of
from sen2chain.zonal.reduce import between

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Counts = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float64]

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
    flat = image.reshape(-1)
    start = row * image.shape[2] + column
    order = np.argsort(quantiles)
    taken = np.empty(longest_piece(first, length) + COPIED, np.uint8)
    apart = np.zeros((4, 256), np.int32)  # four counts of each value in turn, so that equal neighbours do not wait
    counts, distinct, often = np.empty(256, np.int32), np.empty(256), np.empty(256)
    at = 0
    for b in range(image.shape[0]):  # one band after the other stays in the processor's cache
        base = b * image.shape[1] * image.shape[2]
        for p in range(first.size - 1):
            n = gathered(flat, base, start, length, first[p], first[p + 1], taken)
            if valid.shape[0]:
                n = unmasked(taken, valid[min(b, valid.shape[0] - 1)], row, column, length, first[p], first[p + 1])
            n = _turned(taken, n, flip, nodata[b] + flip)
            own = moments[p, b]
            _moments(taken, n, flip, own)
            if n == 0 or not whole[p]:
                if found.size:
                    found[b, p] = 0
                continue
            low: Any = np.int64(own[LOW]) + flip
            high: Any = np.int64(own[HIGH]) + flip
            _count(taken, n, low, high, apart, counts)
            if frequencies or found.size:
                m = _classes(counts, low, high, flip, distinct, often)
                if frequencies:
                    frequencies_of(distinct[:m], often[:m], False, table[p, b, quantiles.size :])  # noqa: FBT003  # as above
                if found.size:
                    found[b, p] = m
                    classes[at : at + m], sums[at : at + m] = distinct[:m], often[:m]
                    at += m
            _counted_quantiles(counts, low, n, flip, quantiles, order, table[p, b])


@helper
def _turned(taken: Bytes, n: int, flip: int, empty: int) -> Any:
    """Turn signed values into unsigned ones of the same order, and drop those without data; return their number."""
    if flip:
        turn = np.uint8(flip)
        for i in range(n):
            taken[np.uint64(i)] ^= turn
    if not 0 <= empty < 256:
        return n
    m: Any = 0
    for i in range(n):
        v = taken[np.uint64(i)]
        taken[np.uint64(m)] = v
        m += np.int64(v != empty)
    return m


@helper
def _moments(taken: Bytes, n: int, flip: int, out: Floats) -> None:
    """Fill in the moments of n values, which are `flip` more than the true ones."""
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
    # Squares around a whole number near the mean stay exact and cannot cancel.
    middle = total // n
    off = total - n * middle
    out[TOTAL] = total - n * flip
    out[SQUARES] = (squares - 2 * middle * total + n * middle * middle) - (off * off) / n
    out[LOW], out[HIGH] = np.int64(low) - flip, np.int64(high) - flip


@helper
def _count(taken: Bytes, n: int, low: int, high: int, apart: Counts, counts: Counts) -> None:
    """Count each value between `low` and `high`; `apart` is room to work in, all zero, as it is left."""
    fours = n - n % 4
    for i in range(0, fours, 4):
        apart[0, np.uint64(taken[np.uint64(i)])] += 1
        apart[1, np.uint64(taken[np.uint64(i + 1)])] += 1
        apart[2, np.uint64(taken[np.uint64(i + 2)])] += 1
        apart[3, np.uint64(taken[np.uint64(i + 3)])] += 1
    for i in range(fours, n):
        apart[0, np.uint64(taken[np.uint64(i)])] += 1
    for v in range(low, high + 1):
        j = np.uint64(v)
        counts[j] = apart[0, j] + apart[1, j] + apart[2, j] + apart[3, j]
    for k in range(4):
        for v in range(low, high + 1):
            apart[k, np.uint64(v)] = 0


@helper
def _classes(counts: Counts, low: int, high: int, flip: int, distinct: Floats, often: Floats) -> Any:
    """Collect the values that occur, and how often; return their number."""
    m = 0
    for v in range(low, high + 1):
        if counts[v]:
            distinct[m], often[m] = v - flip, counts[v]
            m += 1
    return m


@helper
def _counted_quantiles(
    counts: Counts, low: int, n: int, flip: int, quantiles: Floats, order: Ints, out: Floats
) -> None:
    """Fill in the quantiles of n values from their counts; `order` are positions of ascending quantiles."""
    v: Any = low
    until: Any = np.int64(counts[low])  # values up to v
    for q in order:
        spot = quantiles[q] * (n - 1)
        rank = np.int64(np.floor(spot))
        while until <= rank:
            v += 1
            until += counts[np.uint64(v)]
        after = v
        if until == rank + 1 and until < n:
            after += 1
            while counts[np.uint64(after)] == 0:
                after += 1
        out[q] = between(np.float64(v - flip), np.float64(after - flip), spot - rank)
