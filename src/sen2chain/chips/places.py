"""Places of features on a grid: the window around each, its outline there, and the pixels inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely

from sen2chain.coverage import PixelPlan, compute_coverage, outlines
from sen2chain.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.coverage import PixelRule

    Floats = npt.NDArray[np.float64]

# How far the window of a feature may reach beyond the raster: finest pixels (least, most), and as a part of its edge.
_BEYOND, _PART_BEYOND = (64, 256), 1 / 16
# The shorter side of a window is at least this part of the longer one.
_SLIMMEST = 0.5


@dataclass(frozen=True, slots=True)
class ChipSize:
    """Size of chips in pixels."""

    margin: float = 0.2
    """Ground around a feature on each side, as a part of its longer side."""
    least: int = 24
    """Smallest number of rows and columns, of the finest pixels."""
    largest: int = 512
    """Largest number of rows and columns; larger features have chips of a reduced resolution."""


@dataclass(frozen=True, slots=True, eq=False)
class ChipFeatures:
    """Features to read chips of."""

    fids: npt.NDArray[np.int64]
    """(n,) Positions in the layer."""
    geometry: npt.NDArray[np.object_]
    """(n,) Geometries, None where a feature has none."""
    crs: str
    """Their CRS."""
    rule: PixelRule = "center"
    """The rule that decides which pixels belong to a feature."""
    buffer: float | None = None
    """Metres by which features grow or shrink."""


class Part(NamedTuple):
    """The part of a window inside of the raster."""

    row: int
    column: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Window of one feature on a grid, which may reach beyond the raster."""

    position: int
    """Position of the feature among the chosen ones."""
    grid: Grid
    """The grid, at the resolution of the window."""
    factor: int
    """Edge of a pixel of the window in finest pixels."""
    row: int
    """First row, negative above the raster."""
    column: int
    """First column, negative left of the raster."""
    shape: tuple[int, int]
    """Rows and columns."""
    outline: tuple[Floats, ...]
    """Rings and lines of the feature: (vertices, 2) of x, y in pixels from the upper left corner of the window. A
    point has one vertex."""
    inside: npt.NDArray[np.float32]
    """(rows, columns) Share of each pixel inside the feature: 0 or 1, but for the rule ``weighted``."""
    total: float
    """Pixels of the feature on the unbounded grid."""

    @property
    def in_raster(self) -> Part:
        """The part of the window that is inside of the raster, which is not empty."""
        top, left = max(self.row, 0), max(self.column, 0)
        bottom = min(self.row + self.shape[0], self.grid.shape[0])
        right = min(self.column + self.shape[1], self.grid.shape[1])
        return Part(top, left, bottom - top, right - left)


def places_on(features: ChipFeatures, grid: Grid, tile: str, size: ChipSize | None = None) -> dict[int, list[Place]]:
    """Find the windows of features on the finest grid of a tile.

    Parameters
    ----------
    features
        The features. Those without geometry, and those away from the raster, have no window.
    grid
        The finest grid of the rasters.
    tile
        MGRS name of the tile.
    size
        Size of the windows.

    Returns
    -------
    dict
        Edge of a pixel in finest pixels (1, 2, 4, ...) -> windows with such pixels.
    """
    size = size or ChipSize()
    shapes = outlines(features.geometry, features.crs, grid, tile=tile, buffer=features.buffer)
    windows: dict[int, dict[int, tuple[int, int, int, int]]] = {}
    for position, box in enumerate(_boxes(shapes, grid)):
        if box is not None:
            factor, window = _window(box, size)
            windows.setdefault(factor, {})[position] = window
    return {factor: _placed(features, shapes, found, grid, tile, factor) for factor, found in windows.items()}


def reduced(grid: Grid, factor: int) -> Grid:
    """Return a grid of larger pixels with the same upper left corner, which covers all of it."""
    a, _, left, _, e, top = grid.transform
    rows, columns = grid.shape
    return Grid(grid.crs, (a * factor, 0.0, left, 0.0, e * factor, top), (-(-rows // factor), -(-columns // factor)))


def _boxes(shapes: npt.NDArray[np.object_], grid: Grid) -> list[tuple[float, float, float, float] | None]:
    """Return top, left, bottom, right of each feature in pixels; None where it is away from the raster."""
    a, _, left, _, e, top = grid.transform
    rows, columns = grid.shape
    bounds = shapely.bounds(shapes)
    found: list[tuple[float, float, float, float] | None] = []
    for x0, y0, x1, y1 in bounds.tolist():
        box = (y1 - top) / e, (x0 - left) / a, (y0 - top) / e, (x1 - left) / a
        meets = box[0] < rows and box[1] < columns and box[2] > 0 and box[3] > 0  # never with NaN, of empty ones
        if not meets:
            found.append(None)
            continue
        y, x = (min(max(_PART_BEYOND * n, _BEYOND[0]), _BEYOND[1]) for n in grid.shape)
        found.append((max(box[0], -y), max(box[1], -x), min(box[2], rows + y), min(box[3], columns + x)))
    return found


def _window(box: tuple[float, float, float, float], size: ChipSize) -> tuple[int, tuple[int, int, int, int]]:
    """Return the factor and the window (row, column, rows, columns in pixels of that factor) around a feature."""
    top, left, bottom, right = box
    longer = max(bottom - top, right - left)
    margin = size.margin * longer
    high, wide = bottom - top + 2 * margin, right - left + 2 * margin
    least = max(size.least, _SLIMMEST * max(high, wide))
    high, wide = max(high, least), max(wide, least)
    factor = 1
    while max(high, wide) > size.largest * factor:
        factor *= 2
    rows, columns = math.ceil(high / factor), math.ceil(wide / factor)
    row = math.floor(((top + bottom) / 2 / factor) - rows / 2 + 0.5)
    column = math.floor(((left + right) / 2 / factor) - columns / 2 + 0.5)
    return factor, (row, column, rows, columns)


def _placed(
    features: ChipFeatures,
    shapes: npt.NDArray[np.object_],
    windows: Mapping[int, tuple[int, int, int, int]],
    fine: Grid,
    tile: str,
    factor: int,
) -> list[Place]:
    """Return the places of features whose windows have pixels of one size."""
    grid = reduced(fine, factor)
    positions = list(windows)
    options: dict[str, Any] = {"tile": tile, "rule": features.rule, "buffer": features.buffer}
    coverage = compute_coverage(features.geometry[positions], features.crs, grid, **options)
    own = {int(fid): k for k, fid in enumerate(coverage.fid)}
    found = []
    for k, position in enumerate(positions):
        row, column, rows, columns = windows[position]
        inside, total = np.zeros((rows, columns), np.float32), 0.0
        if k in own:
            total = float(coverage.plan.total[own[k]])
            _fill(inside, row, column, coverage.plan, own[k])
        paths = _paths(shapes[position], grid, row, column)
        found.append(Place(position, grid, factor, row, column, (rows, columns), paths, inside, total))
    return found


def _fill(inside: npt.NDArray[np.float32], row: int, column: int, plan: PixelPlan, feature: int) -> None:
    """Set the shares of the pixels of a feature in its window."""
    rows, columns, weights = plan.pixels(feature)
    rows, columns = rows - row, columns - column
    # The window of a feature that reaches beyond its surroundings holds a part of its pixels.
    kept = (rows >= 0) & (rows < inside.shape[0]) & (columns >= 0) & (columns < inside.shape[1])
    inside[rows[kept], columns[kept]] = weights[kept]


def _paths(shape: shapely.Geometry, grid: Grid, row: int, column: int) -> tuple[Floats, ...]:
    """Return rings and lines of a feature in pixels of its window."""
    a, _, left, _, e, top = grid.transform
    parts: Sequence[shapely.Geometry] = [shape]
    while any(hasattr(part, "geoms") for part in parts):
        parts = [piece for part in parts for piece in (part.geoms if hasattr(part, "geoms") else (part,))]
    polygons = [part for part in parts if part.geom_type == "Polygon"]
    others = [part for part in parts if part.geom_type != "Polygon"]
    lines = [*shapely.get_rings(np.array(polygons, dtype=object)), *others]
    corner = np.array([left + column * a, top + row * e])
    points = [shapely.get_coordinates(line) for line in lines if not line.is_empty]
    return tuple((xy - corner) / np.array([a, e]) for xy in points)
