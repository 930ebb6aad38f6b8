"""Repair of geometries: 2-D, valid rings, no edges across the map's seam, so that they can be rasterised.

A geometry that cannot be repaired becomes empty, and a note says why; the other features are not affected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyproj
import shapely

from sen2chain.coverage import is_tangled
from sen2chain.grid import turn
from sen2chain.vectors.layer import of_features

# Coordinates beyond this, in any unit, are not a place on earth, and lose their decimals when edges are cut.
_MOST = 1e12
# Metres, in projected CRSs whose meridians are not parallel: what is not as wide lies on one side of the map, and what
# is higher may be the frame of a map of the world.
_WIDE, _HIGH = 3e6, 1e7
_POLYGONAL = (3, 6, 7)  # shapely's type ids of Polygon, MultiPolygon, GeometryCollection


@dataclass(frozen=True, eq=False)
class Repaired:
    """Repaired geometries of a layer, and notes on the changes."""

    geometry: np.ndarray
    """Geometries (n,), 2-D, polygons valid; None where null. Read-only."""
    repaired: tuple[int, ...]
    """Positions of those whose rings were repaired."""
    notes: tuple[str, ...]
    """Sentences on the others that were changed or emptied, for the user."""


class _LeftOutError(Exception):
    """A feature cannot be used, for the reason in the message."""


def repair(shapes: np.ndarray, crs: str) -> Repaired:
    """Force geometries to 2-D, repair rings, and join features that are written on both sides of the 180th meridian.

    Parameters
    ----------
    shapes
        Geometries (n,); None where null.
    crs
        Their CRS.
    """
    geometry = np.array(shapes, dtype=object)
    deep = shapely.get_coordinate_dimension(geometry) > 2  # heights or measures
    geometry[deep] = shapely.force_2d(geometry[deep])
    valid = shapely.is_valid(geometry)
    left_out: dict[int, str] = dict.fromkeys(
        _senseless(geometry, valid), "have coordinates that are not finite or beyond 1e12 and are left out"
    )
    geometry[list(left_out)] = shapely.Polygon()
    crossing = _unwrap_all(geometry, crs, left_out)
    changed = [*left_out, *crossing]
    valid[changed] = shapely.is_valid(geometry[changed])
    broken = np.isin(shapely.get_type_id(geometry), _POLYGONAL) & ~valid
    for fid in np.flatnonzero(broken).tolist():
        try:
            geometry[fid] = _with_valid_rings(geometry[fid])
        except _LeftOutError as why:
            geometry[fid], left_out[fid] = shapely.Polygon(), str(why)
    # Bounds of None and of empty ones are NaN.
    gone = ~np.isfinite(shapely.bounds(geometry)).all(axis=1) & ~shapely.is_missing(geometry)
    geometry[gone] = shapely.Polygon()
    geometry.flags.writeable = False
    changes = {"have an edge longer than half way around the earth, taken for one across the 180th meridian": crossing}
    for cause in dict.fromkeys(left_out.values()):
        changes[cause] = [fid for fid, reason in left_out.items() if reason == cause]
    notes = (of_features(sorted(fids), len(geometry), what) for what, fids in changes.items() if fids)
    return Repaired(geometry, tuple(np.flatnonzero(broken & ~gone).tolist()), tuple(notes))


def _senseless(geometry: np.ndarray, valid: np.ndarray) -> list[int]:
    """Find features with coordinates that are not finite or beyond 1e12."""
    somewhere = ~shapely.is_missing(geometry) & ~shapely.is_empty(geometry)
    # Bounds pass over some NaN, with which a geometry is not valid.
    with np.errstate(invalid="ignore"):
        within = (np.abs(shapely.bounds(geometry)) <= _MOST).all(axis=1) & valid
    suspects = np.flatnonzero(somewhere & ~within)
    points, owner = shapely.get_coordinates(geometry[suspects], return_index=True)
    wrong = ~(np.abs(points) <= _MOST).all(axis=1)
    found: list[int] = suspects[np.unique(owner[wrong])].tolist()
    return found


def _with_valid_rings(shape: Any) -> Any:
    """Repair the rings of a polygon.

    Raises
    ------
    _LeftOutError
        If that would take too long, or cannot be done.
    """
    if is_tangled(shape):
        raise _LeftOutError("have rings that cross themselves too often to be repaired and are left out")
    try:
        # The structure method keeps holes as holes; without collapsed parts a polygon stays polygonal.
        return shapely.make_valid(shape, method="structure", keep_collapsed=False)
    except shapely.GEOSException as error:
        raise _LeftOutError("have rings that cannot be repaired and are left out") from error


def _unwrap_all(geometry: np.ndarray, crs: str, left_out: dict[int, str]) -> list[int]:
    """Unwrap, in place, features with an edge longer than half way around the earth; give their positions.

    RFC 7946 (3.1.9) wants a feature that crosses the 180th meridian to be cut there. One that is not has an edge that
    leads the other way around the earth; continued beyond 180 degrees it is one piece again, which the coverage meets
    a turn further. What is also higher than a quarter of a turn is taken for a map's frame, and left as it is.
    """
    around = turn(crs)
    limits = shapely.bounds(geometry)
    width, height = (limits[:, 2:] - limits[:, :2]).T
    wide = (width > _WIDE) & (height < _HIGH) if around is None else (width > around / 2) & (height < around / 4)
    crossing = []
    for fid in np.flatnonzero(wide).tolist():
        try:
            unwrapped = _cut_at_180(geometry[fid], crs) if around is None else _unwrap(geometry[fid], around)
        except _LeftOutError as why:
            geometry[fid], left_out[fid] = shapely.Polygon(), str(why)
            continue
        if unwrapped is not geometry[fid]:
            geometry[fid] = unwrapped
            crossing.append(fid)
    return crossing


def _cut_at_180(shape: Any, crs: str) -> Any:
    """Cut a geometry at the 180th meridian, where an edge leads the other way around; itself where none does.

    In a CRS whose meridians are not parallel it cannot be continued beyond.

    Raises
    ------
    _LeftOutError
        If it is a ring around a pole, or has no such parts.
    """
    if not _leads_around(shape, crs):
        return shape
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    whole = shapely.make_valid(_unwrap(shapely.transform(shape, to_degrees.transform, interleaved=False), 360.0))
    parts = []
    for turns in (-360.0, 0.0, 360.0):
        part = shapely.intersection(whole, shapely.box(turns - 180, -90, turns + 180, 90))
        degrees = shapely.transform(part, lambda points, turns=turns: points - (turns, 0.0))
        parts.append(shapely.transform(degrees, partial(to_degrees.transform, direction="INVERSE"), interleaved=False))
    cut = shapely.union_all(parts)
    if not np.isfinite(shapely.bounds(cut)).all():
        raise _LeftOutError("have an edge across the 180th meridian and are left out; cut them there")
    return cut


def _leads_around(shape: Any, crs: str) -> bool:
    """Tell whether an edge that is meant to cross the 180th meridian leads the other way around the earth."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for part in shapely.get_parts([shape]):
        for path in shapely.get_rings(part) if part.geom_type == "Polygon" else [part]:
            points = shapely.get_coordinates(path)
            start, end = points[:-1], points[1:]
            here, middle, there = (to_degrees.transform(*at.T)[0] for at in (start, (start + end) / 2, end))
            with np.errstate(invalid="ignore"):  # places that are not on the map
                written = np.abs(there - here)
                led = np.abs(_shortest(middle - here) + _shortest(there - middle))
                # An edge of a whole turn is the frame of a map of the world.
                if ((written > 180) & (written < 360 - 1e-6) & (led > 180)).any():
                    return True
    return False


def _shortest(degrees: np.ndarray) -> np.ndarray:
    turned: np.ndarray = (degrees + 180) % 360 - 180
    return turned


def _unwrap(shape: Any, around: float) -> Any:
    """Continue a geometry's edges beyond 180 degrees where they lead across; the geometry itself where none does."""
    if shape.is_empty or shape.geom_type == "Point":
        return shape
    if shape.geom_type in {"LineString", "LinearRing"}:
        path = _unwrapped(shapely.get_coordinates(shape), around)
        return shape if path is None else type(shape)(path)
    if shape.geom_type == "Polygon":
        written = [shape.exterior, *shape.interiors]
        rings = [_unwrap(ring, around) for ring in written]
        if all(new is old for new, old in zip(rings, written, strict=True)):
            return shape
        middle = (rings[0].bounds[0] + rings[0].bounds[2]) / 2
        holes = [_nearest(ring, middle, around) for ring in rings[1:]]
        return shapely.Polygon(rings[0], holes)
    parts = list(shape.geoms)
    unwrapped = [_unwrap(part, around) for part in parts]
    if all(new is old for new, old in zip(unwrapped, parts, strict=True)):
        return shape
    return type(shape)(unwrapped)


def _unwrapped(points: np.ndarray, around: float) -> np.ndarray | None:
    """Continue a path (vertices, 2) across the 180th meridian; None where it does not lead across.

    Raises
    ------
    _LeftOutError
        If it is a ring around a pole.
    """
    steps = np.diff(points[:, 0])
    # An edge of a whole turn is the frame of a map of the world.
    across = (np.abs(steps) > around / 2) & (np.abs(steps) < around * (1 - 1e-9))
    if not across.any():
        return None
    turns = np.concatenate([[0.0], np.cumsum(np.where(across, -np.sign(steps), 0.0))])
    if (points[0] == points[-1]).all() and turns[-1] != 0:
        raise _LeftOutError("lie around a pole and are left out; cut them at the 180th meridian")
    return np.column_stack([points[:, 0] + turns * around, points[:, 1]])


def _nearest(ring: Any, middle: float, around: float) -> Any:
    """Move a hole by whole turns to where its shell is."""
    left, _, right, _ = ring.bounds
    shift = np.array([round((middle - (left + right) / 2) / around) * around, 0.0])
    return shapely.transform(ring, lambda points: points + shift) if shift.any() else ring
