"""Pixel plan: the pixels of each feature on a grid, as row runs, with weights where asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize as gdal_rasterize

from sen2chain.coverage.scanline import centre_runs, weighted_runs
from sen2chain.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sen2chain.grid import Grid

    Ints = npt.NDArray[np.int32]
    Geometries = npt.NDArray[np.object_]

PixelRule = Literal["center", "all_touched", "weighted"]

# A window that GDAL fills for one feature has at most this many pixels; a larger one is cut into squares of this edge,
# and those that the feature does not meet are left out.
_WINDOW_PIXELS = 1 << 24
_SQUARE = 1024
# rasterio changes the warning filters of all threads while it rasterises, and two threads would undo each other's.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class PixelPlan:
    """Row runs of many features on one grid, ordered by feature, row and column.

    A run is ``length`` pixels of ``row`` from ``column`` on. With weights, its first ``head`` and last ``tail``
    pixels have weights of their own, which stand in ``weights`` run after run, and the pixels between have weight 1.
    """

    grid: Grid
    """The grid the rows and columns count on."""
    feature: Ints
    """Per run: position of the feature in the array that was rasterised."""
    row: Ints
    """Per run: row of the grid."""
    column: Ints
    """Per run: its first column."""
    length: Ints
    """Per run: its pixels."""
    total: npt.NDArray[np.float64]
    """Per feature: pixels (with weights: area in pixels) on the unbounded grid."""
    head: Ints | None = None
    """Per run: leading pixels with a weight."""
    tail: Ints | None = None
    """Per run: trailing pixels with a weight."""
    weights: npt.NDArray[np.float32] | None = None
    """Per head and tail pixel: share of its area inside the feature."""

    @property
    def nbytes(self) -> int:
        """Memory of its arrays."""
        arrays = (self.feature, self.row, self.column, self.length, self.total, self.head, self.tail, self.weights)
        return sum(array.nbytes for array in arrays if array is not None)

    def pixels(self, feature: int) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
        """Rows, columns and weights of the pixels of one feature inside the raster; for people and tests."""
        runs = np.flatnonzero(self.feature == feature)
        rows = np.repeat(self.row[runs], self.length[runs])
        columns = [np.arange(self.column[k], self.column[k] + self.length[k], dtype=np.int32) for k in runs]
        weights = []
        if self.head is None or self.tail is None or self.weights is None:
            weights = [np.ones(self.length[k]) for k in runs]
        else:
            ends = np.cumsum(self.head + self.tail)
            for k in runs:
                w = np.ones(self.length[k])
                own = self.weights[ends[k] - self.head[k] - self.tail[k] : ends[k]]
                w[: self.head[k]] = own[: self.head[k]]
                w[w.size - self.tail[k] :] = own[self.head[k] :]
                weights.append(w)
        empty = np.zeros(0)
        return rows, np.concatenate([empty.astype(np.int32), *columns]), np.concatenate([empty, *weights])


def rasterize(geometries: Geometries, grid: Grid, rule: PixelRule = "center") -> PixelPlan:
    """Turn geometries into the pixels of a grid.

    Parameters
    ----------
    geometries
        Geometries in the grid's CRS, none of them null; any type. Polygons follow `rule`; points take the pixel
        they lie in and lines every pixel they touch, with weight 1. Of a collection with polygons, these count.
    grid
        The grid.
    rule
        ``center``: pixels whose centre lies inside, exactly as GDAL rasterises; ``all_touched``: pixels of which more
        than 1e-8 lies inside (what GDAL's all-touched rasterisation means, without its accidents where an edge meets
        pixel corners); ``weighted``: the same pixels with the share of their area.
    """
    if rule not in get_args(PixelRule):
        raise UnknownNameError("pixel rule", rule, get_args(PixelRule))
    parts, owner = _flat_parts(geometries)
    is_polygon = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    thin = ~is_polygon & ~np.isin(owner, owner[is_polygon])
    runs, weights, total = _polygon_runs(parts[is_polygon], owner[is_polygon], len(geometries), grid, rule)
    if thin.any():
        burnt, burnt_total = _burn(parts[thin], owner[thin], len(geometries), grid)
        runs, total = np.concatenate([runs, burnt]), total + burnt_total
        # A stable order leaves the weights, which burnt runs do not have, where they are.
        runs = runs[np.argsort(runs[:, 0], kind="stable")]
    feature, row, column, length, head, tail = np.ascontiguousarray(runs.T)
    if rule != "weighted":
        return PixelPlan(grid, feature, row, column, length, total)
    return PixelPlan(grid, feature, row, column, length, total, head, tail, weights)


def join(plans: Sequence[PixelPlan]) -> PixelPlan:
    """Concatenate the plans of several arrays of features on one grid."""
    first = plans[0]
    if len(plans) == 1:
        return first
    before = np.cumsum([0, *(len(plan.total) for plan in plans[:-1])])
    feature = np.concatenate([plan.feature + np.int32(n) for plan, n in zip(plans, before, strict=True)])

    def every(name: str) -> Any:
        arrays = [getattr(plan, name) for plan in plans]
        return None if arrays[0] is None else np.concatenate(arrays)

    names = ("row", "column", "length", "total", "head", "tail", "weights")
    return PixelPlan(first.grid, feature, *map(every, names))


def _flat_parts(geometries: Geometries) -> tuple[Geometries, npt.NDArray[np.int64]]:
    """Points, lines and polygons of all features, and the feature each belongs to."""
    parts, owner = geometries, np.arange(len(geometries))
    while True:  # collections may hold collections
        nested = shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT
        if not nested.any():
            kept = ~shapely.is_empty(parts)
            return parts[kept], owner[kept]
        parts, index = shapely.get_parts(parts, return_index=True)
        owner = owner[index]


def _polygon_runs(
    polygons: Geometries, owner: npt.NDArray[np.int64], n_features: int, grid: Grid, rule: PixelRule
) -> tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Run the kernel of a rule over all rings at once."""
    if rule != "center":
        polygons = shapely.orient_polygons(polygons)
    rings, polygon_of_ring = shapely.get_rings(polygons, return_index=True)
    if rule == "center":
        # GDAL turns every ring clockwise, which decides where an edge runs along a line of centres.
        rings = np.where(shapely.is_ccw(rings), shapely.reverse(rings), rings)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    x, y = _in_pixels(points, grid, as_gdal=rule == "center").T
    ring_starts = np.searchsorted(ring_of_point, np.arange(len(rings) + 1))
    feature_starts = np.searchsorted(owner[polygon_of_ring], np.arange(n_features + 1))
    rows, columns = grid.shape
    arrays = (np.ascontiguousarray(x), np.ascontiguousarray(y), ring_starts, feature_starts, rows, columns)
    if rule != "center":
        return weighted_runs(*arrays, rule == "all_touched")
    runs, total = centre_runs(*arrays)
    return np.pad(runs, ((0, 0), (0, 2))), np.zeros(0, np.float32), total


def _in_pixels(points: npt.NDArray[np.float64], grid: Grid, *, as_gdal: bool) -> npt.NDArray[np.float64]:
    """(x, y) in pixels from the upper left corner.

    By GDAL's arithmetic (its inverse geotransform), so that ties fall the same way; or as exactly as float64 can,
    which is a thousand times closer.
    """
    a, _, left, _, e, top = grid.transform
    if as_gdal:
        return np.stack([-left / a + points[:, 0] * (1.0 / a), -top / e + points[:, 1] * (1.0 / e)], axis=1)
    return np.stack([(points[:, 0] - left) / a, (points[:, 1] - top) / e], axis=1)


def _burn(
    parts: Geometries, owner: npt.NDArray[np.int64], n_features: int, grid: Grid
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Let GDAL rasterise the points and lines of each feature, all touched, in the window around it.

    Returns runs as the kernels give them, and per feature the number of pixels on the unbounded grid.
    """
    total = np.zeros(n_features)
    found = [np.zeros((0, 6), np.int32)]
    # A millionth of a pixel is above the noise of coordinates: a point on a pixel's edge stays there in every CRS.
    parts = shapely.transform(parts, lambda points: np.round(_in_pixels(points, grid, as_gdal=False), 6))
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(owner)], strict=True):
        feature = int(owner[first])
        every = np.concatenate(_burn_one(list(parts[first:last])))
        total[feature] = every[:, 2].sum()
        runs = _clip(every, grid.shape)
        block = np.zeros((len(runs), 6), np.int32)
        block[:, 0], block[:, 1:4] = feature, runs[np.lexsort((runs[:, 1], runs[:, 0]))]
        found.append(block)
    return np.concatenate(found), total


def _burn_one(parts: list[shapely.Geometry]) -> list[npt.NDArray[np.int64]]:
    """(row, column, length) of one feature given in pixels, window after window, on the unbounded grid."""
    x0, y0, x1, y1 = shapely.total_bounds(np.array(parts, dtype=object))
    # One pixel more on each side: GDAL also touches the neighbour of an edge that is met exactly.
    c0, c1 = int(np.floor(x0)) - 1, int(np.floor(x1)) + 2
    r0, r1 = int(np.floor(y0)) - 1, int(np.floor(y1)) + 2
    found = []
    for row, column, height, width in _windows(parts, r0, c0, r1, c1):
        with _one_at_a_time:
            image = gdal_rasterize(
                parts,
                (height, width),
                transform=Affine.translation(column, row),
                all_touched=True,
                dtype=np.uint8,
            )
        edges = np.diff(np.pad(image.astype(np.int8), ((0, 0), (1, 1))), axis=1)
        rows, begin = np.nonzero(edges == 1)
        end = np.nonzero(edges == -1)[1]
        found.append(np.stack([rows + row, begin + column, end - begin], axis=1))
    return found


def _windows(parts: list[shapely.Geometry], r0: int, c0: int, r1: int, c1: int) -> Iterator[tuple[int, int, int, int]]:
    """(row, column, height, width) of windows that hold all pixels of a feature."""
    if (r1 - r0) * (c1 - c0) <= _WINDOW_PIXELS:
        yield r0, c0, r1 - r0, c1 - c0
        return
    rows, columns = (corner.ravel() for corner in np.mgrid[r0:r1:_SQUARE, c0:c1:_SQUARE])
    # One pixel more on each side, as above.
    squares = shapely.STRtree(shapely.box(columns - 1, rows - 1, columns + _SQUARE + 1, rows + _SQUARE + 1))
    for k in np.unique(squares.query(parts, predicate="intersects")[1]):
        row, column = int(rows[k]), int(columns[k])
        yield row, column, min(_SQUARE, r1 - row), min(_SQUARE, c1 - column)


def _clip(runs: npt.NDArray[np.int64], shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Cut runs (row, column, length) to the raster."""
    begin = np.clip(runs[:, 1], 0, shape[1])
    end = np.clip(runs[:, 1] + runs[:, 2], 0, shape[1])
    kept = (runs[:, 0] >= 0) & (runs[:, 0] < shape[0]) & (end > begin)
    clipped: npt.NDArray[np.int64] = np.stack([runs[:, 0], begin, end - begin], axis=1)[kept]
    return clipped
