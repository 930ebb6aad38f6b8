"""Kernels that collect the pixels of features from rasters. Arrays in, arrays out.

The pixels of a feature stand side by side in a flat array: run k fills ``out[start[k] : start[k] + length[k]]``.
Positions in inner loops are unsigned: numba then leaves out the check for positions counted from the end, which makes
short loops twice as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int32]
    Starts = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bytes = npt.NDArray[np.uint8]

_RUNS = "int32[::1], int32[::1], int32[::1], int64[::1]"


@kernel(f"void(uint16[:,::1], int64, {_RUNS}, uint16[::1])")
def take(image: Array, row0: int, row: Ints, column: Ints, length: Ints, start: Starts, out: Array) -> None:
    """Copy the pixels of runs out of full rows of the grid, of which row0 is the first; any 16 bits, seen as uint16."""
    for k in range(row.size):
        line = image[row[k] - row0]
        c, s = np.uint32(column[k]), np.uint64(start[k])
        for i in range(np.uint32(length[k])):
            out[s + i] = line[c + i]


@kernel(f"void(uint8[:,::1], int32[::1], int32[::1], {_RUNS}, uint8[::1])")
def take_nearest(
    image: Bytes,
    rows: Ints,
    columns: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    start: Starts,
    out: Bytes,
) -> None:
    """Copy the pixels of runs out of a raster of another resolution: grid row r lies in its row ``rows[r]``."""
    for k in range(row.size):
        line = image[rows[row[k]]]
        c, s = np.uint32(column[k]), np.uint64(start[k])
        for i in range(np.uint32(length[k])):
            out[s + i] = line[np.uint32(columns[c + i])]


@kernel(
    f"void(uint16[:,::1], int32[::1], float64[::1], int32[::1], float64[::1], {_RUNS}, float64[::1], int64, int64)",
)
def take_bilinear(
    image: Array,
    row_first: Ints,
    row_share: Floats,
    column_first: Ints,
    column_share: Floats,
    row: Ints,
    column: Ints,
    length: Ints,
    start: Starts,
    out: Floats,
    nodata: int,
    saturated: int,
) -> None:
    """Interpolate digital numbers of a coarser raster; NaN where one that contributes is `nodata` or `saturated`.

    Shares are those of the later neighbour; a neighbour with share 0 does not contribute.
    """
    for k in range(row.size):
        r, v = row_first[row[k]], row_share[row[k]]
        above = image[r]
        below = image[r + 1] if v > 0.0 else above
        for i in range(length[k]):
            c, u = column_first[column[k] + i], column_share[column[k] + i]
            d = c + 1 if u > 0.0 else c
            p, q, s, t = above[c], above[d], below[c], below[d]
            # Shares of exactly 0 or 1 leave one neighbour out.
            if u == 1.0:
                p, s = q, t
            if v == 1.0:
                p, q = s, t
            lost = (p == nodata) | (q == nodata) | (s == nodata) | (t == nodata)
            if lost | (p == saturated) | (q == saturated) | (s == saturated) | (t == saturated):
                out[start[k] + i] = np.nan
            else:
                out[start[k] + i] = (1.0 - v) * ((1.0 - u) * p + u * q) + v * ((1.0 - u) * s + u * t)


@kernel("void(int32[::1], int32[::1], int64[::1], float32[::1], int32[::1], int64[::1], float32[::1])")
def take_weights(
    head: Ints,
    tail: Ints,
    own: Starts,
    weights: npt.NDArray[np.float32],
    length: Ints,
    start: Starts,
    out: npt.NDArray[np.float32],
) -> None:
    """Write the weights of the pixels of runs; ``own[k]`` is where those of run k begin in `weights`."""
    for k in range(head.size):
        s, n, w = start[k], length[k], own[k]
        for i in range(head[k]):
            out[s + i] = weights[w + i]
        for i in range(head[k], n - tail[k]):
            out[s + i] = 1.0
        for i in range(tail[k]):
            out[s + n - tail[k] + i] = weights[w + head[k] + i]


@kernel("void(uint8[:,::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], uint8, uint8[::1])")
def common_bits(
    image: Bytes,
    rows: Ints,
    columns: Ints,
    feature: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    value: int,
    bits: Bytes,
) -> None:
    """Clear the bits of a feature in `bits` in which some pixel of it differs from `value`.

    The raster is looked up as in `take_nearest`; of one with smaller pixels than the grid's, those between the centres
    of a run's pixels count too. Features without a bit are not looked at.
    """
    for k in range(row.size):
        common = bits[feature[k]]
        if common == 0:
            continue
        first, last = columns[column[k]], columns[column[k] + length[k] - 1]
        line = image[rows[row[k]], first : last + 1]
        differ = np.uint8(0)  # numba makes wider numbers of bytes, unless it is told
        for i in range(line.size):
            differ = np.uint8(differ | np.uint8(line[i] ^ value))
        bits[feature[k]] = np.uint8(common & ~differ)


@kernel("void(uint8[:,::1], int32[::1], int32[::1], int32[::1], int32[::1], int64[::1], int64[::1])")
def add_up(image: Bytes, feature: Ints, row: Ints, column: Ints, length: Ints, total: Starts, count: Starts) -> None:
    """Add to each feature's sum and number of pixels, straight from a raster on the plan's own grid."""
    for k in range(feature.size):
        line = image[row[k]]
        c, s = np.uint32(column[k]), 0
        for i in range(np.uint32(length[k])):
            s += line[c + i]
        total[feature[k]] += s
        count[feature[k]] += length[k]


@kernel("float64[:,::1](uint8[::1], int64[::1], float32[::1], int64)")
def class_sums(classes: Bytes, offsets: Starts, weights: npt.NDArray[np.float32], n_classes: int) -> Floats:
    """Count the pixels of each class for each feature; column n_classes holds those of no class.

    `weights` may be empty, which means 1 each.
    """
    out = np.zeros((offsets.size - 1, n_classes + 1))
    for f in range(offsets.size - 1):
        for i in range(offsets[f], offsets[f + 1]):
            out[f, min(classes[i], n_classes)] += np.float64(weights[i]) if weights.size else 1.0
    return out
