"""Rings and lines that cross themselves too often: the number of crossings, estimated from a sample of edges.

GEOS repairs and buffers rings with self-crossings in time and memory proportional to the number of crossings, which
grows with the square of the number of vertices. A ring of 1,000 random vertices crosses itself 110,000 times, and takes
ten seconds and a gigabyte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MOST_CROSSINGS = 30_000
"""A ring or line that crosses itself more often is not worked on: each crossing costs 0.1 ms and 8 KB."""

# Those of fewer vertices are not looked at: even at random they hardly cross themselves more often.
_FEW = 500
# Edges of a sample, and pairs of edges that are compared at once.
_SAMPLE = 100
_PAIRS = 1_000_000


def is_tangled(shape: Any) -> bool:
    """Whether a ring or line of a geometry crosses itself more often than can be worked on.

    Parameters
    ----------
    shape
        A geometry of any type.
    """
    if shapely.get_num_coordinates(shape) <= _FEW:
        return False
    parts = np.array([shape], dtype=object)
    while (shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
        parts = shapely.get_parts(parts)
    is_polygon = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    paths = np.concatenate([shapely.get_rings(parts[is_polygon]), parts[~is_polygon]])
    long = shapely.get_num_coordinates(paths) > _FEW
    return any(_crossings(shapely.get_coordinates(path)) > MOST_CROSSINGS for path in paths[long])


def _crossings(points: Floats) -> float:
    """Estimate how often a path (vertices, 2) crosses itself."""
    start, end = points[:-1], points[1:]
    n = len(start)
    sample = np.unique(np.linspace(0, n - 1, _SAMPLE, dtype=np.int64))
    found = 0
    for some in np.array_split(sample, max(1, len(sample) * n // _PAIRS)):
        found += int(_cross(start[some, None], end[some, None], start, end).sum())
    return found / len(sample) * n / 2


def _cross(p: Floats, q: Floats, start: Floats, end: Floats) -> npt.NDArray[np.bool_]:
    """Whether edges cross the edges from p to q, end points apart; arrays are broadcast."""

    def side(a: Floats, b: Floats, c: Floats) -> Floats:
        ab, ac = b - a, c - a
        return np.asarray(np.sign(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]))

    apart = side(p, q, start) * side(p, q, end) < 0
    return np.asarray(apart & (side(start, end, p) * side(start, end, q) < 0))
