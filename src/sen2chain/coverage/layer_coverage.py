"""Coverage of a grid by a layer: for every feature its pixels, or the reason why it has none.

A coverage is computed once per (geometries, grid, pixel rule, buffer), saved in the cache folder, and reused for every
date, index and mask.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyproj
import pyproj.datadir
import pyproj.network
import shapely
from rasterio import __gdal_version__ as gdal_version

from sen2chain import cache
from sen2chain.coverage.pixel_plan import PixelPlan, PixelRule, join, rasterize
from sen2chain.coverage.surroundings import boxes_meet, cut, cut_in_layer_crs, near_boxes
from sen2chain.coverage.tangles import is_tangled
from sen2chain.errors import RequestError
from sen2chain.grid import Bounds, Grid, nominal_grid
from sen2chain.parallel import in_threads, workers
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Geometries = npt.NDArray[np.object_]
    Codes = npt.NDArray[np.int8]
    Bools = npt.NDArray[np.bool_]

# Raise it when the meaning of a saved coverage changes.
_FORMAT = 5
# Fewer features than this are not worth a thread.
_FEATURES_PER_THREAD = 2000
_RUNS = ("feature", "row", "column", "length", "total")
_WEIGHTS = ("head", "tail", "weights")
_NEEDED = {*_RUNS, "fid", "state", "elsewhere"}

PLANNED = -1
"""State of a feature that has pixels; any other state is the position of its `Reason` in `REASONS`."""
REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """The pixels of a layer's features on one grid.

    Its arrays are as long as the features that meet the tile, however large the layer is. The other features are
    counted by reason: they have no geometry, an empty one, or lie outside the tile.
    """

    plan: PixelPlan
    """Pixels of the features in `fid`, in that order."""
    fid: npt.NDArray[np.int64]
    """(features,) Positions in the layer, ascending: features that meet the tile, with or without pixels, and features
    near the tile whose shape became empty (by a negative buffer, or because it cannot be buffered)."""
    state: Codes
    """(features,) `PLANNED`, or the position of a reason in `REASONS`."""
    elsewhere: Mapping[Reason, int]
    """Number of features of the layer that are not in `fid`, by reason; reasons without features are left out."""

    @property
    def nbytes(self) -> int:
        """Memory of its arrays."""
        return self.plan.nbytes + self.fid.nbytes + self.state.nbytes

    def reasons(self, state: Codes | None = None) -> dict[Reason, int]:
        """Count the features of the layer that have no pixels, by reason.

        Parameters
        ----------
        state
            (features,) codes to count instead of `state`, those of features without values in an acquisition.
        """
        counts = count_reasons(self.state if state is None else state)
        for reason, n in self.elsewhere.items():
            counts[reason] = counts.get(reason, 0) + n
        return {reason: counts[reason] for reason in REASONS if reason in counts}


def count_reasons(state: Codes) -> dict[Reason, int]:
    """Count codes by reason.

    Parameters
    ----------
    state
        (features,) `PLANNED`, which is not counted, or positions of reasons in `REASONS`.
    """
    counts = np.bincount(state[state != PLANNED], minlength=len(REASONS)).tolist()
    return {reason: n for reason, n in zip(REASONS, counts, strict=True) if n}


def compute_coverage(
    geometries: Geometries,
    crs: str,
    grid: Grid,
    *,
    tile: str = "",
    rule: PixelRule = "center",
    buffer: float | None = None,
    projected: dict[object, Geometries] | None = None,
) -> Coverage:
    """Compute the coverage of a grid by a layer.

    Parameters
    ----------
    geometries
        Geometries of the layer by position, None where a feature has none.
    crs
        Their CRS.
    grid
        The raster's grid.
    tile
        MGRS name, to tell a feature outside the tile from one outside a clipped raster.
    rule
        See `rasterize`.
    buffer
        Metres, in the grid's CRS, by which features grow or shrink before they become pixels.
    projected
        Store of geometries in the grid's CRS. A call adds those that it projected; the next call, for a grid of another
        resolution on the same ground, takes them out instead of projecting again.
    """
    missing = shapely.is_missing(geometries)
    empty = shapely.is_empty(geometries) & ~missing
    nominal = _nominal_bounds(tile, grid)
    near = near_boxes(shapely.bounds(geometries), crs, grid, (grid.bounds, nominal), abs(buffer or 0.0))
    near &= ~(missing | empty)
    candidates = np.flatnonzero(near)
    # Features do not depend on each other, and all that is slow here lets other threads run.
    parts = np.array_split(candidates, max(1, min(workers(), len(candidates) // _FEATURES_PER_THREAD)))

    def place(part: npt.NDArray[np.int64]) -> tuple[Codes, Bools, PixelPlan]:
        key = (grid.crs, grid.bounds, tile, buffer, len(parts), int(part[0]) if len(part) else -1)
        shapes = None if projected is None else projected.pop(key, None)
        if shapes is None:
            shapes = _project(geometries[part], crs, grid, abs(buffer or 0.0))
            if projected is not None:
                projected[key] = shapes
        return _place(shapes, grid, nominal, rule, buffer)

    pieces = list(in_threads(place, parts, len(parts)))
    fid = np.concatenate([part[kept] for part, (_, kept, _) in zip(parts, pieces, strict=True)])
    state = np.concatenate([codes for codes, _, _ in pieces])
    plan = join([plan for _, _, plan in pieces])
    elsewhere = {Reason.NULL_GEOMETRY: int(missing.sum()), Reason.EMPTY_GEOMETRY: int(empty.sum())}
    elsewhere[Reason.OUTSIDE_TILE] = len(geometries) - len(fid) - sum(elsewhere.values())
    return Coverage(plan, fid, state, {reason: n for reason, n in elsewhere.items() if n})


def _place(
    shapes: Geometries, grid: Grid, nominal: Bounds, rule: PixelRule, buffer: float | None
) -> tuple[Codes, Bools, PixelPlan]:
    """Turn some features, in the grid's CRS, into pixels.

    Returns
    -------
    state : int8 (kept,)
        `PLANNED`, or the position of a reason, of the features that are kept.
    kept : bool (features,)
        Which features meet the tile, or have another reason than lying outside.
    plan
        Pixels of these.
    """
    state = np.full(len(shapes), PLANNED, np.int8)
    shapes = _cut_and_buffered(shapes, grid, buffer, state)
    boxes = shapely.bounds(shapes)
    in_raster = boxes_meet(boxes, grid.bounds)
    outside = np.where(boxes_meet(boxes, nominal), _CODE[Reason.OUTSIDE_RASTER], _CODE[Reason.OUTSIDE_TILE])
    lost = ~in_raster & (state == PLANNED)
    state[lost] = outside[lost]
    # Features in the tile but outside a clipped raster still have a size on the unbounded grid.
    kept = state != _CODE[Reason.OUTSIDE_TILE]
    state, in_raster = state[kept], in_raster[kept]
    plan = rasterize(shapes[kept], grid, rule)
    has_pixels = np.zeros(len(state), dtype=bool)
    has_pixels[plan.feature] = True
    state[in_raster & (plan.total == 0)] = _CODE[Reason.NO_PIXEL]
    state[(plan.total > 0) & ~has_pixels] = _CODE[Reason.OUTSIDE_RASTER]
    return state, kept, plan


def _cut_and_buffered(shapes: Geometries, grid: Grid, buffer: float | None, state: Codes) -> Geometries:
    """Cut features in the grid's CRS to its surroundings, and buffer them; `state` gets the reasons of lost ones."""
    shapes = cut(shapes, grid, abs(buffer or 0.0))
    if buffer:
        # Polygons are valid, so they do not cross themselves.
        for k in np.flatnonzero(shapely.get_dimensions(shapes) == 1):
            if is_tangled(shapes[k]):
                shapes = shapes.copy()
                shapes[k], state[k] = shapely.Polygon(), _CODE[Reason.EMPTY_GEOMETRY]
        somewhere = ~shapely.is_empty(shapes)  # nothing is left of features that lie elsewhere altogether
        shapes = cut(shapely.buffer(shapes, buffer), grid)
        state[somewhere & shapely.is_empty(shapes)] = _CODE[Reason.BUFFERED_AWAY]
    return shapes


def outlines(
    geometries: Geometries, crs: str, grid: Grid, *, tile: str = "", buffer: float | None = None
) -> Geometries:
    """Return the features as they become pixels: in the grid's CRS, cut to its surroundings, and buffered.

    Parameters
    ----------
    geometries, crs, grid, tile, buffer
        Those of `compute_coverage`.

    Returns
    -------
    numpy.ndarray
        (features,) geometries, empty where a feature has none or lies nowhere near the tile.
    """
    found = np.array([shapely.Polygon()] * len(geometries), dtype=object)
    boxes = grid.bounds, _nominal_bounds(tile, grid)
    near = near_boxes(shapely.bounds(geometries), crs, grid, boxes, abs(buffer or 0.0))
    near &= ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if near.any():
        shapes = _project(geometries[near], crs, grid, abs(buffer or 0.0))
        found[near] = _cut_and_buffered(shapes, grid, buffer, np.full(len(shapes), PLANNED, np.int8))
    return found


def _nominal_bounds(tile: str, grid: Grid) -> Bounds:
    """Box of the full tile; that of the raster where the tile's name is unknown or its CRS another one."""
    try:
        full = nominal_grid(tile)
    except RequestError:
        return grid.bounds
    return full.bounds if full.crs == grid.crs else grid.bounds


def _project(geometries: Geometries, crs: str, grid: Grid, margin: float) -> Geometries:
    """Project geometries to the grid's CRS, vertex by vertex; parts far from the grid are cut off, see `cut`."""
    if pyproj.CRS(crs) == pyproj.CRS(grid.crs):
        return geometries
    geometries = cut_in_layer_crs(geometries, crs, grid, margin)
    transformer = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)
    points = shapely.get_coordinates(geometries)
    moved = np.stack(transformer.transform(points[:, 0], points[:, 1]), axis=1)
    lost = ~np.isfinite(moved).all(axis=1)
    if lost.any():  # a vertex on the edge of a map of the world may lie outside of it by its last digits
        moved[lost] = np.stack(transformer.transform(*(points[lost] * (1 - 1e-11)).T), axis=1)
        lost = ~np.isfinite(moved).all(axis=1)
    if lost.any():  # nothing near the tile is lost, so such a feature has nothing to do with it
        owner = shapely.get_coordinates(geometries, return_index=True)[1]
        geometries = geometries.copy()
        geometries[np.unique(owner[lost])] = shapely.Point()
        moved = moved[~np.isin(owner, owner[lost])]
    projected: Geometries = shapely.set_coordinates(geometries.copy(), moved)
    return projected


def coverage_key(
    identity: str, grid: Grid, *, tile: str = "", rule: PixelRule = "center", buffer: float | None = None
) -> str:
    """Name of a saved coverage: a digest of everything it depends on, the versions of the libraries included."""
    versions = [_FORMAT, shapely.geos_version_string, pyproj.proj_version_str, shapely.__version__, gdal_version]
    parts = [identity, grid.crs, grid.transform, grid.shape, tile, rule, buffer or 0.0]
    parts += [versions, REASONS, _shift_grids()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _shift_grids() -> list[str]:
    """Names of the datum shift grids that PROJ has; features have other coordinates with another one."""
    if pyproj.network.is_network_enabled():  # type: ignore[attr-defined]  # its annotations leave it out
        return ["network"]
    data = pyproj.datadir
    folders = (*data.get_data_dir().split(os.pathsep), data.get_user_data_dir())  # type: ignore[attr-defined]  # likewise
    files = (file.name for folder in folders for file in Path(folder).glob("*.*"))
    return sorted({name for name in files if name.endswith((".tif", ".gsb"))})


def save(coverage: Coverage, key: str, folder: Path) -> None:
    """Save a coverage for later runs and other processes. A folder that cannot be written is not an error."""
    plan = coverage.plan
    arrays = {name: getattr(plan, name) for name in (*_RUNS, *_WEIGHTS)}
    elsewhere = np.array([coverage.elsewhere.get(reason, 0) for reason in REASONS], np.int64)
    arrays |= {"fid": coverage.fid, "state": coverage.state, "elsewhere": elsewhere}
    table = pa.table({
        name: pa.LargeListArray.from_arrays([0, len(values)], pa.array(values))
        for name, values in arrays.items() if values is not None
    })  # fmt: skip  # arrays of any length, each in the only row
    cache.save(folder / f"{key}.arrow", table)


def load(key: str, grid: Grid, folder: Path) -> Coverage | None:
    """Read a saved coverage; None where there is no such file, or not a complete one of this format."""
    table = cache.load(folder / f"{key}.arrow")
    if table is None or not _NEEDED.issubset(table.column_names):
        return None
    # Kernels are compiled for arrays that may be written, so the mapped ones are copied, which takes milliseconds.
    arrays = {n: table[n].chunk(0).values.to_numpy(zero_copy_only=False, writable=True) for n in table.column_names}
    plan = PixelPlan(grid, *(arrays[name] for name in _RUNS), *(arrays.get(name) for name in _WEIGHTS))
    elsewhere = {reason: n for reason, n in zip(REASONS, arrays["elsewhere"].tolist(), strict=True) if n}
    return Coverage(plan, arrays["fid"], arrays["state"], elsewhere)
