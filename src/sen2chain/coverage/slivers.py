"""Kernel that finds pixels of which a polygon covers less than rounding.

Where an edge meets pixel borders or corners up to the last digits of its coordinates, it depends on those digits
whether it cuts a neighbour pixel. Such a share is worth nothing in a sum, but the definition of weighted quantiles
counts pixels too (and a minimum is one over all pixels with any share), so it has to be known. Sums of areas cannot
tell 1e-20 from 0; following the edge from pixel to pixel can. Edges cross pixel borders where the line through their
own end points does, computed from the side the edge comes from, as exactextract does, so that the same pixels are
found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.compiled import helper, kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

SLIVER = 1e-9
"""Larger shares are found by adding up areas."""

# A path through a pixel with more points than this is no sliver.
_MOST_POINTS = 8

_NONE, _LEFT, _RIGHT, _TOP, _BOTTOM = range(5)


@helper
def _crossing(
    x1: float, y1: float, x2: float, y2: float, left: float, bottom: float, right: float, top: float
) -> tuple[int, float, float]:
    """Side and point where the line from (x1, y1) towards (x2, y2), which lies outside, leaves a box."""
    if x1 == x2:
        return (_TOP, x1, top) if y2 >= top else (_BOTTOM, x1, bottom)
    if y1 == y2:
        return (_RIGHT, right, y1) if x2 >= right else (_LEFT, left, y1)
    slope = abs((y2 - y1) / (x2 - x1))
    run = (right - x1) if x2 > x1 else (x1 - left)
    beside, at = (_RIGHT, right) if x2 > x1 else (_LEFT, left)
    ahead = 1.0 if x2 > x1 else -1.0
    if y2 > y1:
        y = y1 + slope * run
        if y < top:
            return beside, at, min(max(y, bottom), top)
        return _TOP, min(max(x1 + ahead * ((top - y1) / slope), left), right), top
    y = y1 - slope * run
    if y > bottom:
        return beside, at, min(max(y, bottom), top)
    return _BOTTOM, min(max(x1 + ahead * ((y1 - bottom) / slope), left), right), bottom


@helper
def _along(x: float, y: float, left: float, bottom: float, right: float, top: float) -> float:
    """Distance of a point on the border of a box from its lower left corner, counterclockwise."""
    if y == bottom:
        return x - left
    if x == right:
        return (right - left) + (y - bottom)
    if y == top:
        return (right - left) + (top - bottom) + (right - x)
    return 2.0 * (right - left) + (top - bottom) + (top - y)


@helper
def _at_corner(x: float, y: float, left: float, bottom: float, right: float, top: float) -> bool:
    """Whether a point on the border of a box is so near a corner that a straight path from it may cut off a sliver."""
    near = 1e-4 * (right - left)
    return min(x - left, right - x) < near and min(y - bottom, top - y) < near


@helper
def _left_area(px: Floats, py: Floats, n: int, left: float, bottom: float, right: float, top: float) -> float:
    """Area of a box on the left of a path that enters and leaves it.

    `px`, `py` have room for the box's four corners behind the path's n points.
    """
    width, height = right - left, top - bottom
    border = 2.0 * (width + height)
    begin = _along(px[n - 1], py[n - 1], left, bottom, right, top)
    way = (_along(px[0], py[0], left, bottom, right, top) - begin) % border
    m = n
    for k in range(1, 9):  # the corners, twice round
        at = (k // 4) * border + (0.0, width, width + height, 2.0 * width + height)[k % 4]
        if begin < at < begin + way:
            px[m] = right if k % 4 in (1, 2) else left
            py[m] = top if k % 4 in (2, 3) else bottom
            m += 1
    area = 0.0
    for i in range(1, m - 1):
        area += (px[i] - px[0]) * (py[i + 1] - py[0]) - (px[i + 1] - px[0]) * (py[i] - py[0])
    return 0.5 * area


@kernel("float64[:,::1](float64[::1], float64[::1], int64[::1], int64[::1], float64, float64, float64, float64)")
def slivers(
    x: Floats, y: Floats, rings: Ints, owner: Ints, left: float, top: float, width: float, height: float
) -> Floats:
    """Find the slivers that counterclockwise shells cut off pixels.

    Parameters
    ----------
    x, y
        Vertices of all shells in the grid's CRS.
    rings, owner
        ``rings[k]:rings[k + 1]`` are the vertices of shell k, which belongs to feature ``owner[k]``.
    left, top, width, height
        Upper left corner of the grid and size of its pixels.

    Returns
    -------
    numpy.ndarray
        (n, 4): feature, row, column, share of the pixel's area.
    """
    found = np.empty((16, 4))
    n_found = 0
    px, py = np.empty(_MOST_POINTS + 4), np.empty(_MOST_POINTS + 4)
    for k in range(rings.size - 1):
        first, last = rings[k], rings[k + 1]
        if last - first < 4:
            continue
        column = np.int64(np.floor((x[first] - left) / width))
        row = np.int64(np.floor((top - y[first]) / height))
        n_vertices = last - first - 1  # the last one is the first
        i = 0
        stop = n_vertices + 1
        n = 0  # points of the path through this pixel so far
        entered = False  # the path that the shell begins with has no entry; it is walked again at the end
        has_entry = False
        entry_x, entry_y = 0.0, 0.0
        while i < stop:
            x0, x1 = left + column * width, left + (column + 1) * width
            y1, y0 = top - row * height, top - (row + 1) * height
            side = _NONE
            while i < stop:
                here, before = first + i % n_vertices, first + (i + n_vertices - 1) % n_vertices
                qx, qy = (entry_x, entry_y) if has_entry else (x[here], y[here])
                if n == 0 or (x0 <= qx <= x1 and y0 <= qy <= y1):
                    if n < _MOST_POINTS:
                        px[n], py[n] = qx, qy
                    n += 1
                    if has_entry:
                        has_entry = False
                    else:
                        i += 1
                    continue
                side, cx, cy = _crossing(x[before], y[before], qx, qy, x0, y0, x1, y1)
                if n < _MOST_POINTS:
                    px[n], py[n] = cx, cy
                n += 1
                if cx != qx or cy != qy:
                    has_entry = True
                    entry_x, entry_y = cx, cy
                break
            if side == _NONE:
                break  # the shell ends inside this pixel
            if not entered:
                entered = True
                stop += i
            elif 2 < n <= _MOST_POINTS or (
                n == 2 and (_at_corner(px[0], py[0], x0, y0, x1, y1) or _at_corner(px[1], py[1], x0, y0, x1, y1))
            ):
                share = _left_area(px, py, n, x0, y0, x1, y1) / (width * height)
                if 0.0 < share < SLIVER:
                    if n_found == found.shape[0]:
                        more = np.empty((2 * n_found, 4))
                        for a in range(n_found):
                            for b in range(4):
                                more[a, b] = found[a, b]
                        found = more
                    found[n_found, 0], found[n_found, 1] = owner[k], row
                    found[n_found, 2], found[n_found, 3] = column, share
                    n_found += 1
            n = 0
            if side == _LEFT:
                column -= 1
            elif side == _RIGHT:
                column += 1
            elif side == _TOP:
                row -= 1
            else:
                row += 1
    return found[:n_found].copy()
