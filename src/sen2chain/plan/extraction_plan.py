"""The plan of an extraction: the tasks that a request, a layer and a source give. No pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyproj

from sen2chain.coverage import near
from sen2chain.errors import RasterError, RequestError
from sen2chain.grid import Grid, nominal_grid
from sen2chain.parallel import apart
from sen2chain.plan.raster_choice import Task, plan_task
from sen2chain.products import LOCAL, Area
from sen2chain.rasters import environment, open_raster
from sen2chain.sensor import SENTINEL2, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sen2chain.plan.extraction_request import Request
    from sen2chain.plan.keep_request import KeepRequest
    from sen2chain.products import Acquisition, Reading, Source
    from sen2chain.vectors import Layer


_CELLS = 10  # along an edge of the rectangle around a layer
_DEGREES, _METRES_OF_A_DEGREE = 1.0, 110_000.0  # about the edge of a tile


@dataclass(frozen=True, slots=True)
class ExtractionPlan:
    """Tasks of a run, and the tiles and products that were left out."""

    tasks: tuple[Task, ...]
    """Ordered by sensing time, then tile and name; tasks of one sensing time compete for rows."""
    tiles: tuple[str, ...]
    """Tiles that were looked at."""
    far_tiles: tuple[str, ...] = ()
    """Tiles of the archive that lie nowhere near the layer."""
    outside_cover: int = 0
    """Products left out because of their cloud cover."""
    far_features: tuple[int, ...] = ()
    """fid of features that have a place, but near none of `tiles`; empty where there are no such tiles."""


def make_plan(
    request: Request,
    source: Source,
    layer: Layer,
    bands: Sequence[str] | None = None,
    keep: KeepRequest | None = None,
) -> ExtractionPlan:
    """Find the acquisitions of a request and choose their rasters.

    Parameters
    ----------
    request
        The request.
    source
        The source of products.
    layer
        The layer, to know which tiles to look at.
    bands
        Bands whose pixels are asked for beside the outputs, with the scene classification; None: neither is.
    keep
        The pixels to keep; None keeps none.
    """
    area = area_of(layer, request.buffer)
    tiles, far, far_features = _tiles_of(source, layer, area, request)
    tasks, outside_cover = [], 0
    for tile in tiles:
        for acquisition in source.acquisitions(tile, request.first, request.last, area):
            if not _within_cover(acquisition, request):
                outside_cover += 1
                continue
            task = plan_task(
                acquisition,
                request.indices,
                request.masks,
                prefer=request.prefer,
                needs_scl=request.statistics.needs_scl or bands is not None,
                verify=request.verify != "never",
                bands=bands or (),
            )
            tasks.append(task if keep is None else replace(task, keep=keep.of_acquisition(acquisition, task.outputs)))
    tasks.sort(key=lambda task: (task.product.sensing, task.product.tile, str(task.product)))
    return ExtractionPlan(tuple(tasks), tiles, far, outside_cover, far_features)


def area_of(layer: Layer, buffer: float | None = None) -> Area | None:
    """Return the rectangle around all features of a layer; None where none of them has a place.

    Parameters
    ----------
    layer
        The layer.
    buffer
        Metres by which its features grow or shrink.
    """
    placed = layer.bounds[np.isfinite(layer.bounds).all(axis=1)]
    if not len(placed):
        return None
    return Area(_around(placed), layer.crs, max(buffer or 0.0, 0.0), _parts(placed, layer.crs))


def _around(boxes: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the rectangle around boxes, (boxes, 4)."""
    (left, bottom), (right, top) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    return left, bottom, right, top


def _parts(boxes: npt.NDArray[np.float64], crs: str) -> tuple[tuple[float, float, float, float], ...]:
    """Return a rectangle for each cell of a coarse grid in which boxes lie; none where all lie close together."""
    left, bottom, right, top = _around(boxes)
    smallest = _DEGREES if pyproj.CRS(crs).is_geographic else _DEGREES * _METRES_OF_A_DEGREE
    cell = [max((right - left) / _CELLS, smallest), max((top - bottom) / _CELLS, smallest)]
    if right - left <= smallest and top - bottom <= smallest:
        return ()
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    _, number = np.unique(((middle - [left, bottom]) // cell).astype(np.int64), axis=0, return_inverse=True)
    order = np.argsort(number.ravel(), kind="stable")
    groups = np.split(boxes[order], np.flatnonzero(np.diff(number.ravel()[order])) + 1)
    return tuple(_around(group) for group in groups) if len(groups) > 1 else ()


def _tiles_of(
    source: Source, layer: Layer, area: Area | None, request: Request
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """Tiles whose nominal square is near a feature, the others, and the features near none of them.

    The square is only a hint: where it leaves no tile at all, a raster of each tile is opened to see where it lies.
    """
    tiles = tuple(source.tiles(area, request.first, request.last))
    apart_from_all = np.isfinite(layer.bounds).all(axis=1)

    def is_near(grid: Grid | None) -> bool:
        if grid is None:  # of a name that says nothing of where it lies
            apart_from_all[:] = False
            return True
        found = near(layer.bounds, layer.crs, grid, request.buffer)
        np.logical_and(apart_from_all, ~found, out=apart_from_all)
        return bool(found.any())

    close = [tile for tile in tiles if is_near(_nominal(tile, request.sensor))]
    if not close and not np.isnan(layer.bounds).all():
        close = [
            tile
            for tile in tiles
            if (grid := _real_grid(source.acquisitions(tile, request.first, request.last, area))) is not None
            and is_near(grid)
        ]
    far_features = tuple(np.flatnonzero(apart_from_all).tolist()) if close else ()
    return tuple(close), tuple(tile for tile in tiles if tile not in close), far_features


def why_outside(layer: Layer, tiles: Sequence[str], sensor: Sensor = SENTINEL2, kind: str = "archive") -> str:
    """Return a sentence on a layer far from all tiles: where both lie, and whether swapped axes are the cause.

    Parameters
    ----------
    layer
        The layer.
    tiles
        The tiles, at least one.
    sensor
        The sensor whose tiles they are.
    kind
        What the source of products is called, see `sen2chain.products.Reading.kind`.
    """
    placed = layer.bounds[np.isfinite(layer.bounds).all(axis=1)]
    if not len(placed):
        return (
            f"The layer {layer.name} has no feature with a place: of {len(layer)}, {len(layer.null)} are without "
            f"geometry and {len(layer.empty)} are empty or without area. Check its geometries."
        )
    sentence = f"The layer {layer.name} lies outside of every tile of the {kind} ({', '.join(tiles[:8])})"
    degrees = pyproj.CRS(layer.crs).is_geographic
    low, high = placed.min(axis=0), placed.max(axis=0)
    sentence += f": it spans {extent_in_words((low[0], low[1], high[2], high[3]), degrees=degrees)}"
    grid = _nominal(tiles[0], sensor)
    if grid is not None:
        to_layer = pyproj.Transformer.from_crs(grid.crs, layer.crs, always_xy=True)
        box = to_layer.transform_bounds(*grid.bounds)
        if np.isfinite(box).all():
            sentence += f", tile {tiles[0]} {extent_in_words(box, degrees=degrees)}"
    swapped = placed[:, [1, 0, 3, 2]]
    for tile in tiles:
        grid = _nominal(tile, sensor)
        if grid is not None and near(swapped, layer.crs, grid).any():
            what = "longitude and latitude" if degrees else "x and y"
            return f"{sentence}. With {what} swapped it would lie in tile {tile}; swap them in the layer."
    tiles_too = " and the tiles you downloaded" if kind == LOCAL.kind else ""
    return f"{sentence}. Check its CRS{tiles_too}."


def extent_in_words(box: tuple[float, float, float, float], *, degrees: bool) -> str:
    """Write an extent (left, bottom, right, top) as ``longitude 5.463 to 6.876 and latitude 43.201 to 44.226``."""
    left, bottom, right, top = (f"{edge:.3f}" if degrees else f"{edge:.0f}" for edge in box)
    x, y = ("longitude", "latitude") if degrees else ("x", "y")
    return f"{x} {left} to {right} and {y} {bottom} to {top}"


def _nominal(tile: str, sensor: Sensor) -> Grid | None:
    try:
        return nominal_grid(tile, sensor)
    except RequestError:
        return None


def _real_grid(acquisitions: Iterable[Acquisition]) -> Grid | None:
    """Grid of the first raster of a tile that can be opened."""
    for acquisition in acquisitions:
        locations = [*acquisition.bands.values(), *(p for ps in acquisition.indices.values() for p in ps)]
        for location in (*locations, *acquisition.masks.values(), *acquisition.masked.values()):
            try:
                return apart(partial(_grid, location, acquisition.reading))
            except RasterError:
                continue
    return None


def _grid(location: str, reading: Reading) -> Grid:
    with environment(reading), open_raster(location) as raster:
        return raster.grid


def _within_cover(acquisition: Acquisition, request: Request) -> bool:
    """Whether a product's cloud cover is within the limits; products without a figure are kept."""
    if request.cover_min <= 0 and request.cover_max >= 100:
        return True
    cover = acquisition.details.cloud_cover()
    return cover is None or request.cover_min <= cover <= request.cover_max
