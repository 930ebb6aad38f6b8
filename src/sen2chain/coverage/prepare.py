"""A layer and a tile's grid become a coverage: every feature has its pixels or the reason why it has none.

A coverage is computed once per (geometries, grid, pixel rule, buffer), saved, and reused for every date, index and
mask.
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
from sen2chain.coverage.pixels import PixelPlan, PixelRule, join, rasterize
from sen2chain.coverage.surroundings import boxes_meet, cut, cut_in_layer_crs, near_boxes
from sen2chain.coverage.tangles import is_tangled
from sen2chain.errors import RequestError
from sen2chain.grid import Bounds, Grid, nominal_grid
from sen2chain.parallel import in_threads, workers
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    import numpy.typing as npt

    Geometries = npt.NDArray[np.object_]
    Codes = npt.NDArray[np.int8]
    Bools = npt.NDArray[np.bool_]

# Raise it when the meaning of a saved coverage changes.
_FORMAT = 4
# Fewer features than this are not worth a thread.
_FEATURES_PER_THREAD = 2000
_RUNS = ("feature", "row", "column", "length", "total")
_WEIGHTS = ("head", "tail", "weights")

PLANNED = -1
"""State of a feature that has pixels; any other state is the position of its `Reason`."""
REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """The pixels of a layer's features on one grid."""

    plan: PixelPlan
    """Pixels of the features in `fid`, in that order."""
    fid: npt.NDArray[np.int64]
    """Positions in the layer of the features that meet the raster, ascending, those without a pixel included."""
    state: Codes
    """Per feature of the layer: `PLANNED`, or the position of a reason in `REASONS`."""
    touched: npt.NDArray[np.float64]
    """Per feature of the layer: pixels on the unbounded grid; 0 for those that were not projected."""

    @property
    def nbytes(self) -> int:
        """Memory of its arrays."""
        return self.plan.nbytes + self.fid.nbytes + self.state.nbytes + self.touched.nbytes

    def reasons(self) -> dict[Reason, int]:
        """How many features of the layer have no pixels, by reason."""
        codes, counts = np.unique(self.state[self.state != PLANNED], return_counts=True)
        return {REASONS[c]: int(n) for c, n in zip(codes, counts, strict=True)}


def prepare(
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
        Geometries of this layer in the grid's CRS that a call leaves for the next one, on a grid of another resolution
        on the same ground, which takes them out.
    """
    state = np.full(len(geometries), PLANNED, np.int8)
    missing = shapely.is_missing(geometries)
    empty = shapely.is_empty(geometries) & ~missing
    state[missing], state[empty] = _CODE[Reason.NULL_GEOMETRY], _CODE[Reason.EMPTY_GEOMETRY]

    nominal = _nominal_bounds(tile, grid)
    near = near_boxes(shapely.bounds(geometries), crs, grid, (grid.bounds, nominal), abs(buffer or 0.0))
    near &= state == PLANNED
    state[(state == PLANNED) & ~near] = _CODE[Reason.OUTSIDE_TILE]
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
    for part, (codes, _, _) in zip(parts, pieces, strict=True):
        state[part] = codes
    fid = np.concatenate([part[measured] for part, (_, measured, _) in zip(parts, pieces, strict=True)])
    plan = join([plan for _, _, plan in pieces])
    touched = np.zeros(len(geometries))
    touched[fid] = plan.total
    return Coverage(plan, fid, state, touched)


def _place(
    shapes: Geometries, grid: Grid, nominal: Bounds, rule: PixelRule, buffer: float | None
) -> tuple[Codes, Bools, PixelPlan]:
    """Turn some features, in the grid's CRS, into pixels.

    Returns
    -------
    state : int8 (features,)
        `PLANNED`, or the position of a reason.
    measured : bool (features,)
        Which features meet the tile, so that they have a size.
    plan
        Pixels of these.
    """
    state = np.full(len(shapes), PLANNED, np.int8)
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
    boxes = shapely.bounds(shapes)
    in_raster = boxes_meet(boxes, grid.bounds)
    outside = np.where(boxes_meet(boxes, nominal), _CODE[Reason.OUTSIDE_RASTER], _CODE[Reason.OUTSIDE_TILE])
    lost = ~in_raster & (state == PLANNED)
    state[lost] = outside[lost]
    # Features in the tile but outside a clipped raster still have a size on the unbounded grid.
    measured = in_raster | (state == _CODE[Reason.OUTSIDE_RASTER])
    plan = rasterize(shapes[measured], grid, rule)
    places = np.flatnonzero(measured)
    has_pixels = np.zeros(len(places), dtype=bool)
    has_pixels[plan.feature] = True
    state[places[in_raster[measured] & (plan.total == 0)]] = _CODE[Reason.NO_PIXEL]
    state[places[(plan.total > 0) & ~has_pixels]] = _CODE[Reason.OUTSIDE_RASTER]
    return state, measured, plan


def _nominal_bounds(tile: str, grid: Grid) -> Bounds:
    """Box of the full tile; that of the raster where the name says nothing about it."""
    try:
        full = nominal_grid(tile)
    except RequestError:
        return grid.bounds
    return full.bounds if full.crs == grid.crs else grid.bounds


def _project(geometries: Geometries, crs: str, grid: Grid, margin: float) -> Geometries:
    """Bring geometries into the grid's CRS, vertex by vertex, but for what lies far away, see `cut`."""
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
    """Name under which a coverage is saved: everything it depends on, the versions of the libraries included."""
    versions = [_FORMAT, shapely.geos_version_string, pyproj.proj_version_str, shapely.__version__, gdal_version]
    parts = [identity, grid.crs, grid.transform, grid.shape, tile, rule, buffer or 0.0, versions, _shift_grids()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _shift_grids() -> list[str]:
    """Name the grids that PROJ has for datum shifts: with another one, features lie elsewhere."""
    if pyproj.network.is_network_enabled():  # type: ignore[attr-defined]  # its annotations leave it out
        return ["network"]
    data = pyproj.datadir
    folders = (*data.get_data_dir().split(os.pathsep), data.get_user_data_dir())  # type: ignore[attr-defined]  # likewise
    files = (file.name for folder in folders for file in Path(folder).glob("*.*"))
    return sorted({name for name in files if name.endswith((".tif", ".gsb"))})


def save(coverage: Coverage, key: str, folder: Path) -> None:
    """Keep a coverage for later runs and other processes; what cannot be written only costs them its time."""
    plan = coverage.plan
    arrays = {name: getattr(plan, name) for name in (*_RUNS, *_WEIGHTS)}
    arrays |= {"fid": coverage.fid, "state": coverage.state, "touched": coverage.touched}
    table = pa.table({
        name: pa.LargeListArray.from_arrays([0, len(values)], pa.array(values))
        for name, values in arrays.items() if values is not None
    })  # fmt: skip  # arrays of any length, each in the only row
    cache.save(folder / f"{key}.arrow", table)


def load(key: str, grid: Grid, folder: Path) -> Coverage | None:
    """Return a saved coverage, or None when there is none that can be read."""
    table = cache.load(folder / f"{key}.arrow")
    if table is None:
        return None
    # Kernels are compiled for arrays that may be written, so the mapped ones are copied, which takes milliseconds.
    arrays = {n: table[n].chunk(0).values.to_numpy(zero_copy_only=False, writable=True) for n in table.column_names}
    plan = PixelPlan(grid, *(arrays[name] for name in _RUNS), *(arrays.get(name) for name in _WEIGHTS))
    return Coverage(plan, arrays["fid"], arrays["state"], arrays["touched"])
