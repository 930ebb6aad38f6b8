"""Windows that decode the needed pixels of a tile: which, in which order, or the tile as a whole where that costs less.

A window costs the code-blocks that it touches, in each of the wavelet's subbands, unless the window before touched them
too: OpenJPEG keeps those and forgets the others. So boxes are visited in Morton order, in which neighbours follow each
other, and two boxes that follow each other become one window where that costs less than both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import helper, kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

# Nanoseconds on the machine where they were measured, on ESA's files of 10, 20 and 60 m; only their ratios matter.
_PER_BYTE = 105.0
_PER_BLOCK = 200.0
_PER_SAMPLE = 4.0
"""Entropy decoding: of a byte of code, and for each code-block and each of its samples besides."""
_PER_PIXEL, _PER_PIXEL_OF_WHOLE = 20.0, 8.0
"""Wavelet and copy: of a pixel of a window, and of a pixel of a whole tile."""
_PER_CALL, _PER_CALL_AND_BLOCK = 60_000.0, 130.0
"""A window, besides, and for each code-block of the tile."""


@helper
def _touched(box: Ints, level: int, blocks: Ints, tile: Ints, margin: int) -> tuple[int, int, int, int]:
    """Return the code-blocks of a subband that a window needs: first row, one past the last, the same of columns."""
    top = max((box[0] >> level) - margin, tile[0] >> level) >> blocks[0]
    bottom = (min(((box[1] - 1) >> level) + margin, (tile[1] - 1) >> level) >> blocks[0]) + 1
    left = max((box[2] >> level) - margin, tile[2] >> level) >> blocks[1]
    right = (min(((box[3] - 1) >> level) + margin, (tile[3] - 1) >> level) >> blocks[1]) + 1
    return top, bottom, left, right


@helper
def _cost(box: Ints, before: Ints, tile: Ints, exponents: Ints, margin: int, per_sample: float) -> float:
    """Return the cost of a window after another one (an empty one for the first)."""
    total = 0.0
    for k in range(exponents.shape[0]):
        # The last row is the coarsest image, which has the level of the row before.
        is_image = k == exponents.shape[0] - 1
        level = k if is_image else k + 1
        blocks = exponents[k]
        top, bottom, left, right = _touched(box, level, blocks, tile, margin)
        count = (bottom - top) * (right - left)
        if before[0] < before[1]:
            above, below, west, east = _touched(before, level, blocks, tile, margin)
            high, wide = min(bottom, below) - max(top, above), min(right, east) - max(left, west)
            count -= max(high, 0) * max(wide, 0)
        high = min(1 << blocks[0], ((tile[1] - tile[0]) >> level) + 1)
        wide = min(1 << blocks[1], ((tile[3] - tile[2]) >> level) + 1)
        total += (1 if is_image else 3) * count * (_PER_BLOCK + high * wide * per_sample)
    return total


@helper
def _pixels(box: Ints) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])


@helper
def _morton(row: int, column: int) -> int:
    key = 0
    for bit in range(16):
        key |= ((column >> bit & 1) << (2 * bit)) | ((row >> bit & 1) << (2 * bit + 1))
    return key


@kernel("int64[:,::1](int64[:,::1], int64[::1], int64[:,::1], int64, float64)")
def order_windows(boxes: Ints, tile: Ints, exponents: Ints, margin: int, density: float) -> Ints:
    """Find the windows that decode some boxes of a tile at the least estimated cost.

    Parameters
    ----------
    boxes
        (boxes, 4): first row, one past the last, first column, one past the last.
    tile
        (4,) the tile, likewise.
    exponents
        (decompositions + 1, 2) sizes of code-blocks, see `Coding.block_exponents`.
    margin
        Samples of a subband around a window that its wavelet needs.
    density
        Bytes of code per pixel of the tile.

    Returns
    -------
    numpy.ndarray
        (windows, 4), in the order in which they are best decoded; the tile itself where that is best.
    """
    n = boxes.shape[0]
    per_sample = _PER_SAMPLE + _PER_BYTE * density
    keys = np.empty(n, np.int64)
    for i in range(n):
        # The middle, because a box may begin a little before the cell that most of it lies in.
        keys[i] = _morton((boxes[i, 0] + boxes[i, 1]) >> 5, (boxes[i, 2] + boxes[i, 3]) >> 5)
    ordered = boxes[np.argsort(keys, kind="mergesort")]
    nothing = np.zeros(4, np.int64)
    all_blocks = _cost(tile, nothing, tile, exponents, margin, 0.0) / _PER_BLOCK
    per_call = _PER_CALL + _PER_CALL_AND_BLOCK * all_blocks
    whole = _cost(tile, nothing, tile, exponents, margin, per_sample) + per_call + _PER_PIXEL_OF_WHOLE * _pixels(tile)
    windows = np.empty((n, 4), np.int64)
    count, total = 0, 0.0
    before, current = nothing, ordered[0].copy()
    cost = _cost(current, before, tile, exponents, margin, per_sample) + _PER_PIXEL * _pixels(current)
    for i in range(1, n + 1):
        if i < n:
            joined = current.copy()
            for k in (0, 2):
                joined[k] = min(current[k], ordered[i, k])
                joined[k + 1] = max(current[k + 1], ordered[i, k + 1])
            both = _cost(joined, before, tile, exponents, margin, per_sample) + _PER_PIXEL * _pixels(joined)
            own = _cost(ordered[i], current, tile, exponents, margin, per_sample) + _PER_PIXEL * _pixels(ordered[i])
            if both <= cost + per_call + own:
                current, cost = joined, both
                continue
            before_next, cost_next = current, own
        windows[count] = current
        count, total = count + 1, total + cost + per_call
        if i < n:
            before, current, cost = before_next, ordered[i].copy(), cost_next
    if total >= whole:
        windows[0] = tile
        count = 1
    return windows[:count].copy()
