"""Boxes of longitude and latitude that a catalogue is asked for: an area in as few pieces as it takes.

Products are about a degree wide, so boxes near each other find the same ones and are joined, and boxes on two
continents stay apart. No box crosses 180 degrees.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyproj

from sen2chain.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sen2chain.products import Area

    Box = tuple[float, float, float, float]

MOST_BOXES = 100
"""Largest number of boxes of one area."""

_METRES_OF_A_DEGREE = 110_000.0  # of latitude, rounded down, so that margins are rather too wide
_REACH = 1.0  # degrees; about the width of a product, which a box finds beyond its edges
_CELL = 0.25  # degrees; parts this close are one piece from the start
_MOST_PIECES = 300  # that are compared pair by pair
_DIGITS = 4  # of a degree: 11 m


def search_boxes(area: Area) -> tuple[Box, ...]:
    """Return boxes (west, south, east, north) in degrees that hold an area, at most `MOST_BOXES`.

    They are rounded outwards to four digits.

    Raises
    ------
    RequestError
        If the area has no place on the globe.
    """
    return tuple(sorted({_rounded(box) for box in _joined(boxes_of(area))}))


def boxes_of(area: Area) -> list[Box]:
    """Return the parts of an area as boxes in degrees, grown by its margin, none of which crosses 180 degrees.

    Raises
    ------
    RequestError
        If the area has no place on the globe.
    """
    to_degrees = pyproj.Transformer.from_crs(area.crs, "EPSG:4326", always_xy=True)
    boxes = []
    for part in area.parts or (area.bounds,):
        left, bottom, right, top = to_degrees.transform_bounds(*part)
        if not all(map(math.isfinite, (left, bottom, right, top))) or bottom > top:
            raise RequestError(
                f"The area {part} ({area.crs[:40]}) has no longitude and latitude; check the layer's CRS."
            )
        boxes += _on_globe(left, bottom, right if right >= left else right + 360, top, area.margin)
    return boxes


def meets(box: Box | None, boxes: Iterable[Box] | None) -> bool:
    """Tell whether an item's box may meet one of several boxes; yes where either is not known.

    An item whose west is east of its east crosses 180 degrees.
    """
    if box is None or boxes is None:
        return True
    west, south, east, north = box
    spans = ((west, east),) if west <= east else ((west, 180.0), (-180.0, east))
    return any(
        south <= top and north >= bottom and any(w <= right and e >= left for w, e in spans)
        for left, bottom, right, top in boxes
    )


def _on_globe(left: float, bottom: float, right: float, top: float, margin: float) -> list[Box]:
    """Grow a box by metres, and cut it where it crosses 180 degrees; `left` may be any longitude."""
    up = margin / _METRES_OF_A_DEGREE
    aside = up / max(math.cos(math.radians(min(max(abs(bottom), abs(top)) + up, 89.0))), 1e-3)
    bottom, top = max(bottom - up, -90.0), min(top + up, 90.0)
    left, width = left - aside, right - left + 2 * aside
    if width >= 360:
        return [(-180.0, bottom, 180.0, top)]
    west = (left + 180) % 360 - 180
    if west + width <= 180:
        return [(west, bottom, west + width, top)]
    return [(west, bottom, 180.0, top), (-180.0, bottom, west + width - 360, top)]


def _joined(boxes: Sequence[Box]) -> list[Box]:
    """Join boxes that are cheaper to ask for together, and as many more as it takes."""
    pieces = np.array(boxes, dtype=np.float64)
    cell = _CELL
    while len(pieces) > _MOST_PIECES or cell == _CELL:
        pieces = _by_cell(pieces, cell)
        cell *= 2
    while len(pieces) > 1:
        low = np.minimum(pieces[:, None, :2], pieces[None, :, :2])
        high = np.maximum(pieces[:, None, 2:], pieces[None, :, 2:])
        alone = (pieces[:, 2:] - pieces[:, :2] + _REACH).prod(axis=1)
        cost = (high - low + _REACH).prod(axis=2) - alone[:, None] - alone[None, :]
        np.fill_diagonal(cost, np.inf)
        first, second = np.unravel_index(int(cost.argmin()), cost.shape)
        if cost[first, second] > 0 and len(pieces) <= MOST_BOXES:
            break
        pieces[first] = _around(pieces[[first, second]])
        pieces = np.delete(pieces, second, axis=0)
    return [(west, south, east, north) for west, south, east, north in pieces.tolist()]


def _by_cell(pieces: npt.NDArray[np.float64], cell: float) -> npt.NDArray[np.float64]:
    """Join the boxes whose middles lie in one cell of a grid of `cell` degrees."""
    middle = (pieces[:, :2] + pieces[:, 2:]) / 2
    _, number = np.unique(np.floor(middle / cell), axis=0, return_inverse=True)
    order = np.argsort(number.ravel(), kind="stable")
    groups = np.split(pieces[order], np.flatnonzero(np.diff(number.ravel()[order])) + 1)
    return np.array([_around(group) for group in groups])


def _around(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _rounded(box: Box) -> Box:
    scale, little = 10**_DIGITS, 1e-3  # a centimetre, so that 11.2 stays 11.2
    west, south = (math.floor(edge * scale + little) / scale for edge in box[:2])
    east, north = (math.ceil(edge * scale - little) / scale for edge in box[2:])
    return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)
