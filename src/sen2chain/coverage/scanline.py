"""Kernels that turn rings into row runs. Arrays in, arrays out.

Coordinates are in pixels from the grid's upper left corner, rows downwards; nothing here knows a CRS. Rings are
closed (last vertex = first). All rings of a feature count together: a point is inside when it is inside an odd
number of them, so holes and parts need no distinction.

A run is a stretch of pixels of one row: (feature, row, first column, length). The first ``head`` and the last
``tail`` pixels of a run have a weight of their own, the rest has weight 1. Runs come ordered by feature, row,
column, never overlap within a feature, and lie inside the raster; ``total`` counts without that limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import helper, kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Runs = npt.NDArray[np.int32]
    Floats = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.float32]

# Coverage above this is a full pixel.
_FULL = 1.0 - 1e-9
# A pixel belongs to a feature from this share of its area on: far above the noise of coordinates, so that one layer
# stored in several CRSs has the same pixels, and far below anything that matters.
_TOUCHED = 1e-8

_RINGS = "float64[::1], float64[::1], int64[::1], int64[::1], int64, int64"


@helper
def _room(table: Runs, n: int) -> Runs:
    """Return `table` with room for row `n`, doubling as needed."""
    if n < table.shape[0]:
        return table
    bigger = np.empty((2 * table.shape[0], table.shape[1]), np.int32)
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            bigger[i, j] = table[i, j]
    return bigger


@helper
def _rows(y: Floats, first: int, last: int) -> tuple[int, int]:
    """First and last row (or column) that some coordinates lie in."""
    low, high = y[first], y[first]
    for i in range(first + 1, last):
        low, high = min(low, y[i]), max(high, y[i])
    return int(np.floor(low)), int(np.floor(high))


@helper
def _bucket(y: Floats, rings: Ints, first_ring: int, last_ring: int, low: int, order: Ints, starts: Ints) -> int:
    """Order the edges of a feature by the first row they touch.

    An edge is named by its second vertex. Afterwards ``order[starts[r]:starts[r + 1]]`` are the edges that start
    in row ``low + r``. Returns the number of edges.
    """
    for r in range(starts.size):
        starts[r] = 0
    n = 0
    for ring in range(first_ring, last_ring):
        for i in range(rings[ring] + 1, rings[ring + 1]):
            starts[int(np.floor(min(y[i - 1], y[i]))) - low + 1] += 1
            n += 1
    for r in range(1, starts.size):
        starts[r] += starts[r - 1]
    place = np.empty(starts.size - 1, np.int64)
    for r in range(place.size):
        place[r] = starts[r]
    for ring in range(first_ring, last_ring):
        for i in range(rings[ring] + 1, rings[ring + 1]):
            r = int(np.floor(min(y[i - 1], y[i]))) - low
            order[place[r]] = i
            place[r] += 1
    return n


@helper
def _sort(keys: Ints, carried: Ints, n: int) -> None:
    """Sort the first n numbers, and carry others along (Shell's sort: few numbers, and numba's own compiles long)."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            key, other = keys[i], carried[i]
            j = i
            while j >= gap and keys[j - gap] > key:
                keys[j], carried[j] = keys[j - gap], carried[j - gap]
                j -= gap
            keys[j], carried[j] = key, other
        gap //= 3


# Loops stand where numpy would take a slice: numba compiles an assignment to a slice for seconds.
# The two kernels are longer than 70 lines: a part of them would be a function of a dozen arrays and counters.


@kernel(f"int64({_RINGS}, int32[:,::1], float64[::1])")
def _centre_runs(
    x: Floats, y: Floats, rings: Ints, features: Ints, height: int, width: int, runs: Runs, total: Floats
) -> int:
    """Fill `runs` and `total`, which holds zeros, as `centre_runs` gives them; return the number of runs."""
    n_runs = 0
    for f in range(features.size - 1):
        first_vertex, last_vertex = rings[features[f]], rings[features[f + 1]]
        if first_vertex == last_vertex:
            continue
        low, high = _rows(y, first_vertex, last_vertex)
        n_max = last_vertex - first_vertex
        order = np.empty(n_max, np.int64)
        starts = np.empty(high - low + 2, np.int64)
        _bucket(y, rings, features[f], features[f + 1], low, order, starts)
        active = np.empty(n_max, np.int64)
        n_active = 0
        crossings = np.empty(n_max, np.int64)
        nothing = np.empty(n_max, np.int64)
        begin = np.empty(n_max, np.int64)
        end = np.empty(n_max, np.int64)
        for row in range(low, high + 1):
            for k in range(starts[row - low], starts[row - low + 1]):
                active[n_active] = order[k]
                n_active += 1
            centre = row + 0.5
            n_cross = 0
            n_span = 0
            k = 0
            while k < n_active:
                i = active[k]
                x1, y1, x2, y2 = x[i - 1], y[i - 1], x[i], y[i]
                if y1 < y2:
                    pass
                elif y1 > y2:
                    x1, y1, x2, y2 = x2, y2, x1, y1
                elif y1 == centre and x1 > x2:
                    # GDAL fills a horizontal edge on a line of centres when it runs leftwards (a bottom edge of a
                    # clockwise ring), and leaves the rightward ones to the crossings of their neighbours.
                    begin[n_span] = int(np.floor(x2 + 0.5))
                    end[n_span] = int(np.floor(x1 + 0.5))
                    n_span += 1
                if y2 < row + 1.0:
                    n_active -= 1
                    active[k] = active[n_active]
                else:
                    k += 1
                if y1 <= centre < y2:
                    crossings[n_cross] = int(np.floor((centre - y1) * (x2 - x1) / (y2 - y1) + x1 + 0.5))
                    n_cross += 1
            if n_cross > 1:
                _sort(crossings, nothing, n_cross)
                for k in range(0, n_cross - 1, 2):
                    begin[n_span] = crossings[k]
                    end[n_span] = crossings[k + 1]
                    n_span += 1
            if n_span == 0:
                continue
            _sort(begin, end, n_span)
            a, b = begin[0], end[0]
            for k in range(1, n_span + 1):
                if k < n_span and begin[k] <= b:
                    b = max(b, end[k])  # touching or overlapping: one run
                    continue
                if b > a:
                    total[f] += b - a
                    c0, c1 = max(a, 0), min(b, width)
                    if 0 <= row < height and c1 > c0:
                        runs[n_runs, 0], runs[n_runs, 1] = f, row
                        runs[n_runs, 2], runs[n_runs, 3] = c0, c1 - c0
                        n_runs += 1
                if k < n_span:
                    a, b = begin[k], end[k]
    return n_runs


def centre_runs(x: Floats, y: Floats, rings: Ints, features: Ints, height: int, width: int) -> tuple[Runs, Floats]:
    """Pixels whose centre lies inside: pixel for pixel GDAL's polygon rasterisation. Rings run clockwise.

    Parameters
    ----------
    x, y
        Vertices of all rings.
    rings
        ``rings[k]:rings[k + 1]`` are the vertices of ring k.
    features
        ``features[f]:features[f + 1]`` are the rings of feature f.
    height, width
        Shape of the raster.

    Returns
    -------
    runs : int32 (n, 4)
        feature, row, column, length.
    total : float64 (features,)
        Pixels of each feature on the unbounded grid.
    """
    # A run lies between two edges that cross its line of centres, or along one edge on it.
    line = np.clip(np.ceil(y - 0.5), 0, height)
    most = int(np.abs(np.diff(line)).sum()) // 2 + int((np.diff(y) == 0.0).sum()) + 1
    runs = np.empty((most, 4), np.int32)
    total = np.zeros(len(features) - 1)
    n = _centre_runs(x, y, rings, features, height, width, runs, total)
    return runs[:n].copy(), total


@kernel(f"Tuple((int32[:,::1], float32[::1], float64[::1]))({_RINGS}, boolean)")
def weighted_runs(
    x: Floats,
    y: Floats,
    rings: Ints,
    features: Ints,
    height: int,
    width: int,
    touched: bool,  # noqa: FBT001  # a kernel takes no keywords
) -> tuple[Runs, Weights, Floats]:
    """Pixels of which more than 1e-8 lies inside, with the share of their area that does.

    Exact up to rounding: along each edge the area to its right is added up with the edge's sign, cell by cell, and
    the heights are carried along the row; cells that no edge meets are passed over in one step. Rings must be
    oriented, holes against shells. With `touched`, each of these pixels counts 1.

    Returns
    -------
    runs : int32 (n, 6)
        feature, row, column, length, head, tail.
    weights : float32
        Weights of the head and tail pixels, run after run.
    total : float64 (features,)
        Area of each feature in pixels.
    """
    runs = np.empty((1024, 6), np.int32)
    weights = np.empty(4096, np.float32)
    total = np.zeros(features.size - 1)
    n_runs = 0
    n_weights = 0
    run_begin = 0
    for f in range(features.size - 1):
        first_vertex, last_vertex = rings[features[f]], rings[features[f + 1]]
        if first_vertex == last_vertex:
            continue
        low, high = _rows(y, first_vertex, last_vertex)
        n_max = last_vertex - first_vertex
        order = np.empty(n_max, np.int64)
        starts = np.empty(high - low + 2, np.int64)
        _bucket(y, rings, features[f], features[f + 1], low, order, starts)
        left, right = _rows(x, first_vertex, last_vertex)
        area = np.zeros(right - left + 1)  # signed area right of the edges inside each cell
        rise = np.zeros(right - left + 1)  # signed height of the edges inside each cell
        met = np.zeros(right - left + 1, np.bool_)
        cells = np.empty(right - left + 2, np.int64)  # those that edges meet in this row
        nothing = np.empty(right - left + 2, np.int64)
        active = np.empty(n_max, np.int64)
        n_active = 0
        for row in range(low, high + 1):
            for k in range(starts[row - low], starts[row - low + 1]):
                active[n_active] = order[k]
                n_active += 1
            n_cells = 0
            k = 0
            while k < n_active:
                i = active[k]
                sign = 1.0
                x1, y1, x2, y2 = x[i - 1], y[i - 1], x[i], y[i]
                if y1 > y2:
                    sign = -1.0
                    x1, y1, x2, y2 = x2, y2, x1, y1
                if y2 < row + 1.0:
                    n_active -= 1
                    active[k] = active[n_active]
                else:
                    k += 1
                top, bottom = max(y1, np.float64(row)), min(y2, row + 1.0)
                if bottom <= top:
                    continue
                slope = (x2 - x1) / (y2 - y1)
                xa = x1 + (top - y1) * slope if top > y1 else x1
                xb = x1 + (bottom - y1) * slope if bottom < y2 else x2
                if xa > xb:
                    xa, xb = xb, xa
                xa, xb = max(xa, np.float64(left)), min(xb, right + 1.0)
                first, last = min(int(np.floor(xa)), right), min(int(np.floor(xb)), right)
                rate = (bottom - top) / (xb - xa) if last > first else 0.0
                for c in range(first, last + 1):
                    if last > first:
                        xs, xe = max(xa, np.float64(c)), min(xb, c + 1.0)
                        height_inside = (xe - xs) * rate
                    else:
                        xs, xe, height_inside = xa, xb, bottom - top
                    rise[c - left] += sign * height_inside
                    area[c - left] += sign * height_inside * (1.0 - (0.5 * (xs + xe) - c))
                    if not met[c - left]:
                        met[c - left] = True
                        cells[n_cells] = c
                        n_cells += 1
            _sort(cells, nothing, n_cells)
            cells[n_cells] = right + 1
            carried = 0.0  # height of the edges left of here: the share of the cells that no edge meets
            length = 0  # of the open run
            head = 0
            tail = 0
            end = left  # one past the open run
            for k in range(n_cells + 1):
                # First the cells between the last met cell and this one, which share one value, then this one.
                for part in range(2):
                    if part == 0:
                        begin, size = end, cells[k] - end
                        share = abs(carried)
                    elif k < n_cells:
                        begin, size = cells[k], 1
                        share = abs(carried + area[cells[k] - left])
                        carried += rise[cells[k] - left]
                        area[cells[k] - left] = 0.0
                        rise[cells[k] - left] = 0.0
                        met[cells[k] - left] = False
                    else:
                        begin, size, share = right + 1, 0, 0.0
                    end = begin + size
                    if touched:
                        share = 1.0 if share > _TOUCHED else 0.0
                    elif share <= _TOUCHED:
                        share = 0.0
                    elif share > _FULL:
                        share = 1.0
                    total[f] += size * np.float64(np.float32(share))  # as the weights are kept
                    # Of what lies outside the raster nothing is kept.
                    kept_begin, kept_end = max(begin, 0), min(end, width)
                    kept = kept_end - kept_begin if 0 <= row < height and share > 0.0 else 0
                    is_gap = size > 0 and kept <= 0
                    if length > 0 and (
                        is_gap or (k == n_cells and part == 1) or (share == 1.0 and kept > 0 and tail > 0)
                    ):
                        runs = _room(runs, n_runs)
                        runs[n_runs, 0], runs[n_runs, 1] = f, row
                        runs[n_runs, 2], runs[n_runs, 3] = run_begin, length
                        runs[n_runs, 4], runs[n_runs, 5] = head, tail
                        n_runs += 1
                        length, head, tail = 0, 0, 0
                    if kept <= 0:
                        continue
                    if length == 0:
                        run_begin = kept_begin
                    if share == 1.0:
                        length += kept
                        continue
                    while n_weights + kept > weights.size:
                        more = np.empty(2 * weights.size, np.float32)
                        for i in range(n_weights):
                            more[i] = weights[i]
                        weights = more
                    for i in range(n_weights, n_weights + kept):
                        weights[i] = share
                    n_weights += kept
                    if head == length:
                        head += kept
                    else:
                        tail += kept
                    length += kept
    return runs[:n_runs].copy(), weights[:n_weights].copy(), total
