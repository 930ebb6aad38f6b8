"""Surroundings of a tile: the features that may meet it, and cuts of those that reach far beyond it.

Only geometries that were cut here are projected, buffered and rasterised. So a feature takes at most the memory and
time of one that is some tiles wide, however far its coordinates reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely

from sen2chain.errors import RequestError
from sen2chain.grid import Bounds, Grid, nominal_grid, turn
from sen2chain.sensor import MGRS_TILES

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Geometries = npt.NDArray[np.object_]
    Bools = npt.NDArray[np.bool_]

# Metres around a tile in which features are projected before they are told to be outside; more than any datum shift.
_MARGIN = 2000.0
# Tiles around a tile beyond which features are cut: far enough to be no part of any count that matters, near enough
# for the projection to be true.
_SURROUNDINGS = 5
# A step along a projected outline this many times the usual one leads across the map.
_SEAM = 100
# Points between the corners of a box whose outline is projected.
_DENSIFIED = 21


def near(bounds: Floats, crs: str, grid: Grid, buffer: float | None = None) -> Bools:
    """Which features may meet a grid, judged generously by their bounds.

    Parameters
    ----------
    bounds
        (features, 4) of left, bottom, right, top; NaN where a feature has no place.
    crs
        Their CRS.
    grid, buffer
        The grid, and the metres by which features grow.
    """
    return near_boxes(bounds, crs, grid, (grid.bounds,), abs(buffer or 0.0))


def near_tile(bounds: Floats, crs: str, tile: str, buffer: float | None = None) -> npt.NDArray[np.int64]:
    """Positions of the features that may meet a tile, ascending; of all that have a place where its name tells nothing.

    Parameters
    ----------
    bounds, crs, buffer
        Those of `near`.
    tile
        MGRS name of the tile.
    """
    try:
        grid = nominal_grid(tile)
    except RequestError:
        return np.flatnonzero(np.isfinite(bounds).all(axis=1))
    return np.flatnonzero(near(bounds, crs, grid, buffer))


def near_boxes(limits: Floats, crs: str, grid: Grid, boxes: tuple[Bounds, ...], margin: float) -> Bools:
    """Which features may meet one of the boxes of a grid's CRS, judged by bounding boxes in the layer's own CRS."""
    found = np.zeros(len(limits), dtype=bool)
    for box in set(boxes):
        around = _in_layer_crs(_grown(box, _MARGIN + margin), crs, grid)
        if around is None:
            everywhere: Bools = ~np.isnan(limits[:, 0])
            return everywhere
        for shift in _shifts(crs):
            found |= boxes_meet(limits, _moved(around, shift))
    return found


def boxes_meet(boxes: Floats, box: Bounds) -> Bools:
    """Which (left, bottom, right, top) rows share ground with a box; rows of NaN do not."""
    meets: Bools = (
        (boxes[:, 0] <= box.right) & (boxes[:, 2] >= box.left) & (boxes[:, 1] <= box.top) & (boxes[:, 3] >= box.bottom)
    )
    return meets


def cut(geometries: Geometries, grid: Grid, margin: float = 0.0) -> Geometries:
    """Cut features, in the grid's CRS, that reach farther than some tile widths beyond the grid.

    Parameters
    ----------
    geometries
        Geometries in the grid's CRS.
    grid
        The grid.
    margin
        Metres by which more is kept, for a buffer that follows.
    """
    box = _grown(_surroundings(grid), margin)
    far = _beyond(geometries, box)
    if not far.any():
        return geometries
    geometries = geometries.copy()
    geometries[far] = _inside(geometries[far], box)
    return geometries


def cut_in_layer_crs(geometries: Geometries, crs: str, grid: Grid, margin: float = 0.0) -> Geometries:
    """Cut features that reach so far beyond the tile that its projection holds no more, before they are projected.

    Parameters
    ----------
    geometries, crs
        Geometries, and their CRS.
    grid, margin
        As in `cut`.
    """
    box = _in_layer_crs(_grown(_surroundings(grid), margin), crs, grid)
    if box is None:
        return geometries
    far = _beyond(geometries, box)
    if not far.any():
        return geometries
    # A feature may meet the box a turn around the earth further east or west, and is brought back to it.
    turned = []
    for shift in _shifts(crs):
        pieces = _inside(geometries[far], _moved(box, shift))
        turned.append(shapely.transform(pieces, lambda points, shift=shift: points - (shift, 0.0)))
    pieces = np.stack(turned)
    several = (~shapely.is_empty(pieces)).sum(axis=0) > 1
    joined = pieces[np.argmax(~shapely.is_empty(pieces), axis=0), np.arange(pieces.shape[1])]
    joined[several] = shapely.union_all(pieces[:, several], axis=0)
    geometries = geometries.copy()
    geometries[far] = joined
    return geometries


def _surroundings(grid: Grid) -> Bounds:
    """Box of some tile widths around a grid."""
    left, bottom, right, top = grid.bounds
    return _grown(grid.bounds, _SURROUNDINGS * max(right - left, top - bottom, MGRS_TILES.edge))


def _beyond(geometries: Geometries, box: Bounds) -> Bools:
    """Which features reach beyond a box."""
    limits = shapely.bounds(geometries)
    beyond: Bools = (
        (limits[:, 0] < box.left) | (limits[:, 2] > box.right) | (limits[:, 1] < box.bottom) | (limits[:, 3] > box.top)
    )
    return beyond


def _inside(geometries: Geometries, box: Bounds) -> Geometries:
    """Cut features to a box; those that only touch it become empty.

    GEOS's faster `clip_by_rect` is not used: it gives the part outside where a vertex lies on the box's border.
    """
    broken = ~shapely.is_valid(geometries)  # a projection may fold rings
    if broken.any():
        geometries = geometries.copy()
        geometries[broken] = shapely.make_valid(geometries[broken], method="structure", keep_collapsed=False)
    pieces: Geometries = shapely.intersection(geometries, shapely.box(*box))
    pieces[shapely.get_dimensions(pieces) < shapely.get_dimensions(geometries)] = shapely.Polygon()
    return pieces


def _in_layer_crs(box: Bounds, crs: str, grid: Grid) -> Bounds | None:
    """Box around a box of the grid's CRS in the layer's; None where it is not one: around a pole or a map's seam."""
    to_layer = pyproj.Transformer.from_crs(grid.crs, crs, always_xy=True)
    around = turn(crs)
    if pyproj.CRS(crs).is_geographic:
        left, bottom, right, top = to_layer.transform_bounds(*box, densify_pts=_DENSIFIED)
        if left > right and around:  # the box lies across the antimeridian
            right += around
        found = Bounds(left, bottom, right, top)
        return found if np.isfinite(found).all() else None
    spacing = max(box.right - box.left, box.top - box.bottom) / (_DENSIFIED + 1)
    x, y = to_layer.transform(*shapely.get_coordinates(shapely.segmentize(shapely.box(*box), spacing)).T)
    if not np.isfinite((x, y)).all():
        return None
    if around:
        x = np.unwrap(x, period=around)
    steps = np.hypot(np.diff(x), np.diff(y))
    if steps.max() > _SEAM * np.median(steps) or (around and abs(x[-1] - x[0]) > around / 2):
        return None
    return Bounds(x.min(), y.min(), x.max(), y.max())


def _shifts(crs: str) -> tuple[float, ...]:
    """Where else along x a place may have its coordinates: a turn around the earth further east or west."""
    around = turn(crs)
    return (-around, 0.0, around) if around else (0.0,)


def _grown(box: Bounds, margin: float) -> Bounds:
    return Bounds(box.left - margin, box.bottom - margin, box.right + margin, box.top + margin)


def _moved(box: Bounds, shift: float) -> Bounds:
    return Bounds(box.left + shift, box.bottom, box.right + shift, box.top)
