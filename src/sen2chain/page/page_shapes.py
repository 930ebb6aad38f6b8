"""Outlines of features for a page: in degrees, simplified to what a screen can show, as packed whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely

from sen2chain.page.encoding import packed

if TYPE_CHECKING:
    import numpy.typing as npt

PER_DEGREE = 1_000_000
"""Steps of a coordinate: 0.1 m."""
NOWHERE = -(2**31)
"""Coordinate of a feature without a place."""

_POINTS = 400_000  # in all; more are not worth their megabytes
_POINTS_EACH = 8
_FINEST = 0.5 / 111_320  # degrees: half a metre, a twentieth of a pixel
_COARSEST = 1_000 / 111_320
_POLYGON = 3  # shapely's type id


def packed_shapes(geometry: npt.NDArray[Any], crs: str) -> dict[str, Any]:
    """Pack the outlines of features.

    Parameters
    ----------
    geometry
        Shapely geometries (n,); None where null.
    crs
        Their CRS.

    Returns
    -------
    dict
        Packed arrays: ``parts`` polygons of each feature (n,), ``rings`` of each polygon, ``points`` of each ring
        without the closing one, ``x`` and ``y`` of all points, and ``anchorX``, ``anchorY`` (n,) of a point inside each
        feature, `NOWHERE` where it has no place. Coordinates are longitude and latitude, `PER_DEGREE` steps each;
        longitudes go beyond 180 where the layer crosses the date line. ``tolerance`` in metres says how far outlines
        were simplified. Lines and points have an anchor alone.
    """
    places = _in_degrees(geometry, crs)
    shapes, tolerance = _simplified(places)
    parts, of_feature = shapely.get_parts(shapes, return_index=True)
    is_polygon = shapely.get_type_id(parts) == _POLYGON
    parts, of_feature = parts[is_polygon], of_feature[is_polygon]
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    closing = np.append(of_ring[1:] != of_ring[:-1], True)[: len(of_ring)]
    points, of_ring = points[~closing], of_ring[~closing]
    anchors = shapely.get_coordinates(_anchors(places))
    anchor = np.full((len(places), 2), NOWHERE, dtype=np.int32)
    anchor[~_is_nowhere(places)] = _steps(anchors)
    steps = _steps(points)
    return {
        "parts": packed(np.bincount(of_feature, minlength=len(places)).astype(np.uint32)),
        "rings": packed(np.bincount(of_part, minlength=len(parts)).astype(np.uint32)),
        "points": packed(np.bincount(of_ring, minlength=len(rings)).astype(np.uint32)),
        "x": packed(steps[:, 0]),
        "y": packed(steps[:, 1]),
        "anchorX": packed(anchor[:, 0]),
        "anchorY": packed(anchor[:, 1]),
        "perDegree": PER_DEGREE,
        "tolerance": round(tolerance * 111_320, 1),
    }


def _in_degrees(geometry: npt.NDArray[Any], crs: str) -> npt.NDArray[Any]:
    """Return the geometries in longitude and latitude, None where they have no place there."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def moved(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.column_stack(to_degrees.transform(points[:, 0], points[:, 1]))

    flat = shapely.force_2d(np.asarray(geometry, dtype=object))
    places: npt.NDArray[Any] = np.atleast_1d(shapely.transform(flat, moved))
    with np.errstate(invalid="ignore"):
        bounds = shapely.bounds(places)
        lost = ~np.isfinite(bounds).all(axis=1) | (np.abs(bounds[:, [1, 3]]) > 90).any(axis=1)
    places[lost] = None
    west, east = bounds[~lost, 0], bounds[~lost, 2]
    if len(west) and east.max() - west.min() > 180:
        # Around the date line: degrees east of Greenwich only, where the layer is narrower so.
        x = np.unique(shapely.get_coordinates(places)[:, 0] % 360.0)
        if x[-1] - x[0] < east.max() - west.min():
            places = shapely.transform(places, lambda points: np.column_stack([points[:, 0] % 360.0, points[:, 1]]))
    return places


def _simplified(places: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """Return geometries with no more points than a page can hold, and the tolerance (degrees) that this takes."""
    most = max(_POINTS, _POINTS_EACH * len(places))
    tolerance = _FINEST
    while True:
        simpler = shapely.simplify(places, tolerance)
        if shapely.get_num_coordinates(simpler).sum() <= most or tolerance >= _COARSEST:
            return simpler, tolerance
        tolerance *= 2.0


def _is_nowhere(places: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(shapely.is_missing(places) | shapely.is_empty(places))


def _anchors(places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(shapely.point_on_surface(places[~_is_nowhere(places)]))


def _steps(points: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    steps: npt.NDArray[np.int32] = np.rint(points * PER_DEGREE).astype(np.int32)
    return steps
