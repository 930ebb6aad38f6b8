"""Parcels of the layer: blocks that are split repeatedly, with roads between them and irregular outlines."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from sen2chain.errors import RequestError

Floats = NDArray[np.float64]

TYPICAL_AREA = 60_000.0
"""Usual area of a field in square metres; fields are smaller where the number of parcels asks for it."""

CROPS = ("wheat", "rapeseed", "barley", "maize", "sunflower", "alfalfa", "fallow")


def parcels(n: int, bounds: tuple[float, float, float, float], crs: object, seed: int = 0) -> gpd.GeoDataFrame:
    """Draw `n` parcels that do not overlap, spread over the bounds.

    Where `n` fields would be larger than the usual area, fields of the usual area are drawn and `n` of them chosen.
    One parcel has a hole, one has two parts (from the third on).

    Parameters
    ----------
    n
        Number of polygons.
    bounds
        West, south, east, north in metres of `crs`. Outlines may leave them by up to 40 m.
    crs
        A projected CRS in metres, as pyproj understands it.
    seed
        The same seed gives the same parcels.

    Returns
    -------
    GeoDataFrame with the columns ``parcel`` (a name), ``crop`` (one of `CROPS`), ``area_ha`` and ``geometry``.

    Raises
    ------
    RequestError
        If `n` is below 1, the bounds are empty or the CRS counts degrees.
    """
    west, south, east, north = bounds
    if n < 1:
        raise RequestError(f"n is {n}; at least one parcel must be asked for.")
    if west >= east or south >= north:
        raise RequestError(f"bounds is {bounds}; it must be west, south, east, north with an area.")
    if not CRS.from_user_input(crs).is_projected:
        raise RequestError(f"crs is {crs}; parcels are drawn in metres, so give a projected CRS.")
    rng = np.random.default_rng((seed, 11))
    rectangles = _split(bounds, max(n, int((east - west) * (north - south) / TYPICAL_AREA)), rng)
    chosen = np.sort(rng.choice(len(rectangles), n, replace=False))
    shapes = _outlines(rectangles[chosen], rng)
    if n >= 3:
        shapes[n // 3] = _with_hole(shapes[n // 3])
        shapes[2 * n // 3] = _in_two_parts(shapes[2 * n // 3])
    crops = rng.choice(CROPS, n)
    # Every crop there is, as far as the parcels reach, so that small layers show all seasons.
    crops[: min(n, len(CROPS))] = CROPS[: min(n, len(CROPS))]
    columns = {
        "parcel": [f"P{k:06d}" for k in range(n)],
        "crop": crops,
        "area_ha": np.round(shapely.area(shapes) / 10_000, 3),
    }
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)


def _split(bounds: tuple[float, float, float, float], count: int, rng: np.random.Generator) -> Floats:
    """Cut the bounds into `count` rectangles (west, south, east, north), the largest first, leaving roads."""
    boxes = np.array([bounds], dtype=np.float64)
    while len(boxes) < count:
        sides = boxes[:, 2:] - boxes[:, :2]
        order = np.argsort(-sides.prod(axis=1), kind="stable")
        parents, rest = boxes[order[: count - len(boxes)]], boxes[order[count - len(boxes) :]]
        sides = parents[:, 2:] - parents[:, :2]
        axis = np.argmax(sides, axis=1)
        long = sides.max(axis=1)
        at = parents[np.arange(len(parents)), axis] + long * rng.uniform(0.38, 0.62, len(parents))
        # Main roads between large blocks, tracks between fields; narrower where fields are tiny.
        road = np.minimum(np.select([long > 4000, long > 1000], [16.0, 9.0], 5.0), 0.05 * long)
        first, second = parents.copy(), parents.copy()
        first[np.arange(len(parents)), axis + 2] = at - road / 2
        second[np.arange(len(parents)), axis] = at + road / 2
        boxes = np.concatenate([rest, first, second])
    return boxes


def _outlines(boxes: Floats, rng: np.random.Generator) -> NDArray[np.object_]:
    """Turn rectangles into irregular quadrangles and L-shapes with 5 to 40 vertices."""
    n = len(boxes)
    wanted = np.clip(5 + rng.exponential(8.0, n).astype(int), 5, 40)
    bent = rng.random(n) < 0.15
    quads, bends = _quadrangles(n, rng), _l_shapes(n, rng)
    phases = rng.uniform(0, 2 * np.pi, 4)
    low, side = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None, :]
    shapes = np.empty(n, dtype=object)
    for corners, group in ((quads, ~bent), (bends, bent)):
        k = corners.shape[1]
        vertices = np.maximum(wanted, k + 1)
        for number in np.unique(vertices[group]):
            which = np.flatnonzero(group & (vertices == number))
            extra = rng.uniform(0, k, (len(which), number - k))
            along = np.sort(np.concatenate([np.broadcast_to(np.arange(k), (len(which), k)), extra], axis=1), axis=1)
            unit = _walk(corners[which], along)
            shapes[which] = shapely.polygons(_bend(low[which] + unit * side[which], phases))
    return shapes


def _quadrangles(n: int, rng: np.random.Generator) -> Floats:
    """Corners in the unit square, each moved inwards by up to an eighth of a side, (n, 4, 2)."""
    corner = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    return np.asarray(corner + (1 - 2 * corner) * rng.uniform(0, 0.125, (n, 4, 2)))


def _l_shapes(n: int, rng: np.random.Generator) -> Floats:
    """Corners of squares with one corner taken out, in the four orientations, (n, 6, 2)."""
    x, y = rng.uniform(0.4, 0.7, (2, n))
    zero, one = np.zeros(n), np.ones(n)
    points = np.stack(
        [np.stack(p, axis=-1) for p in ((zero, zero), (one, zero), (one, y), (x, y), (x, one), (zero, one))],
        axis=1,
    )
    mirrored = rng.random((n, 1, 2)) < 0.5
    return np.where(mirrored, 1 - points, points)


def _walk(corners: Floats, along: Floats) -> Floats:
    """Give points on the rings at `along` = number of the corner behind + share of the way to the next."""
    behind = along.astype(int)
    share = (along - behind)[..., None]
    here = np.take_along_axis(corners, behind[..., None], axis=1)
    ahead = np.take_along_axis(corners, ((behind + 1) % corners.shape[1])[..., None], axis=1)
    return np.asarray(here * (1 - share) + ahead * share)


def _bend(points: Floats, phases: Floats) -> Floats:
    """Bend the plane gently: one-to-one, and so little curved that neighbours stay apart."""
    x, y = points[..., 0], points[..., 1]
    turn = 2 * np.pi / 2600.0
    dx = 20.0 * np.sin(turn * y + phases[0]) + 12.0 * np.sin(turn * x + phases[1])
    dy = 20.0 * np.sin(turn * x + phases[2]) + 12.0 * np.sin(turn * y + phases[3])
    return np.stack([x + dx, y + dy], axis=-1)


def _with_hole(shape: shapely.Polygon) -> shapely.Geometry:
    hole = shape.buffer(-0.2 * np.sqrt(shape.area))
    return shape.difference(hole)


def _in_two_parts(shape: shapely.Polygon) -> shapely.Geometry:
    west, south, east, north = shape.bounds
    middle = shape.representative_point().x
    gap = 0.1 * (east - west)
    return shape.difference(shapely.box(middle - gap / 2, south, middle + gap / 2, north))
