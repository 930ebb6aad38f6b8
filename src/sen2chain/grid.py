"""Grids: CRS + transform + shape. Rasters of one grid can be compared pixel by pixel.

Row 0 is the northern edge. Axis order is spelled out: shapes and windows are (rows, columns), points are (x, y).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyproj

from sen2chain.errors import GridMismatchError, RequestError
from sen2chain.sensor import SENTINEL2, Sensor

if TYPE_CHECKING:
    import numpy.typing as npt


class Bounds(NamedTuple):
    """A box in the units of some CRS."""

    left: float
    bottom: float
    right: float
    top: float


class Bilinear(NamedTuple):
    """Bilinear weights along one axis: two neighbours of each pixel in a coarser raster."""

    first: npt.NDArray[np.int32]
    """(n,) Index of the first neighbour; the second follows it."""
    share: npt.NDArray[np.float64]
    """(n,) Share of the second neighbour, from 0 to 1; that of the first is the rest."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Georeference of a raster, hashable and comparable.

    Raises
    ------
    GridMismatchError
        If the raster is rotated or not north-up; rasters of products are not.
    """

    crs: str
    """``EPSG:32632`` where an authority code matches, else WKT."""
    transform: tuple[float, float, float, float, float, float]
    """(pixel width, 0, left, 0, -pixel height, top), the order of affine."""
    shape: tuple[int, int]
    """(rows, columns)."""

    def __post_init__(self) -> None:
        a, b, _, d, e, _ = self.transform
        if b != 0 or d != 0 or a <= 0 or e >= 0:
            raise GridMismatchError(f"The raster is rotated or not north-up (transform {self.transform}).")

    @property
    def bounds(self) -> Bounds:
        """The box of the raster in its CRS."""
        a, _, left, _, e, top = self.transform
        rows, columns = self.shape
        return Bounds(left, top + rows * e, left + columns * a, top)

    @property
    def pixel_xy(self) -> tuple[float, float]:
        """Width and height of a pixel, both positive."""
        return self.transform[0], -self.transform[4]

    def covers(self, other: Grid) -> bool:
        """Whether this grid covers another one of the same CRS, up to one of the larger pixels (odd clip sizes)."""
        if self.crs != other.crs:
            return False
        slack = max(*self.pixel_xy, *other.pixel_xy)
        mine, theirs = self.bounds, other.bounds
        return (
            mine.left - theirs.left < slack
            and mine.bottom - theirs.bottom < slack
            and theirs.right - mine.right < slack
            and theirs.top - mine.top < slack
        )

    def __str__(self) -> str:
        """Describe the grid in words."""
        left, _, _, top = self.bounds
        unit = "m" if turn(self.crs) is None else "degrees"
        crs = self.crs if self.crs.startswith("EPSG") else "another CRS"
        pixels = f"{self.shape[1]} x {self.shape[0]} pixels of {self.pixel_xy[0]:g} {unit}"
        return f"{pixels} from ({left:.10g}, {top:.10g}) in {crs}"

    def refined(self, pixel: float) -> Grid:
        """Return the grid of the same ground with another pixel size."""
        a, _, left, _, e, top = self.transform
        rows, columns = self.shape
        shape = (round(rows * -e / pixel), round(columns * a / pixel))
        return Grid(self.crs, (pixel, 0.0, left, 0.0, -pixel, top), shape)

    def reduced(self, factor: int) -> Grid:
        """Return the grid of pixels so many times larger, with the same upper left corner, which covers all of it."""
        a, _, left, _, e, top = self.transform
        rows, columns = self.shape
        transform = (a * factor, 0.0, left, 0.0, e * factor, top)
        return Grid(self.crs, transform, (-(-rows // factor), -(-columns // factor)))

    def _positions_in(self, other: Grid, axis: int) -> npt.NDArray[np.float64]:
        """Pixel centres of this grid along an axis (0 rows, 1 columns), in pixels of another from its edge."""
        n = self.shape[axis]
        step, start = (self.transform[4], self.transform[5]) if axis == 0 else (self.transform[0], self.transform[2])
        o_step, o_start = (
            (other.transform[4], other.transform[5]) if axis == 0 else (other.transform[0], other.transform[2])
        )
        centres = start + (np.arange(n, dtype=np.float64) + 0.5) * step
        return (centres - o_start) / o_step

    def nearest_in(self, other: Grid, axis: int) -> npt.NDArray[np.int32]:
        """Index of the pixel of another grid that holds each pixel centre along an axis; (n,) int32, clipped to it.

        Parameters
        ----------
        other
            A grid in the same CRS that covers the same ground.
        axis
            0 for rows, 1 for columns.
        """
        position = np.floor(self._positions_in(other, axis)).astype(np.int32)
        return np.clip(position, 0, other.shape[axis] - 1, out=position)

    def bilinear_in(self, other: Grid, axis: int) -> Bilinear:
        """Neighbours and shares for bilinear interpolation along an axis, between pixel centres.

        At the edge of the other grid its last pixel is continued, as GDAL does.
        """
        position = self._positions_in(other, axis) - 0.5
        last = other.shape[axis] - 1
        position = np.clip(position, 0.0, float(last))
        first = np.minimum(np.floor(position), max(last - 1, 0)).astype(np.int32)
        return Bilinear(first, position - first)


@functools.lru_cache(maxsize=64)
def turn(crs: str) -> float | None:
    """Length along x of one turn around the earth, in units of a CRS; None where it differs from place to place.

    It is 360 for longitudes in degrees and 40,075,017 for Web Mercator, in which a place may be written a turn further
    east or west; None for a CRS whose meridians are not parallel lines, as UTM's are not.
    """
    system = pyproj.CRS(crs)
    base = system if system.is_geographic else system.geodetic_crs
    if base is None:
        return None
    circle: float = math.tau / base.axis_info[0].unit_conversion_factor
    if system.is_geographic:
        return circle
    longitude = np.linspace(-0.5, 0.5, 12, endpoint=False) * circle
    to_map = pyproj.Transformer.from_crs(base, system, always_xy=True)
    at_equator, further_north = (
        to_map.transform(longitude, np.full(longitude.shape, share * circle))[0] for share in (0.0, 0.14)
    )
    steps = np.sort(np.diff(at_equator))[1:]  # one of them may lead across the map's seam
    straight = np.isfinite(at_equator).all() and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6)
    parallel = straight and np.allclose(at_equator, further_north, rtol=0, atol=1e-6 * steps[0])
    return float(12 * steps[-1]) if parallel else None


_COLUMN_SETS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")  # by zone modulo 3
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_FALSE_NORTHING = 10_000_000


@functools.cache
def nominal_grid(tile: str, sensor: Sensor = SENTINEL2) -> Grid:
    """Compute the grid of a full tile, with the finest pixels of its sensor, from the tile's MGRS name.

    It only tells where to look: rasters of an archive may be clipped, and have grids of their own. The tile
    starts at the north-west corner of its 100 km square, moved outwards to a multiple of a step (in the south counted
    from the equator), so that the pixels of all bands share their edges: 60 m for Sentinel-2's of 10, 20 and 60 m.

    Raises
    ------
    RequestError
        If the name is not that of an MGRS 100 km square, or the tiles of the sensor are unknown.
    """
    tiling = sensor.tiling
    match = re.fullmatch(tiling.pattern, tile) if tiling else None
    zone = int(match[1]) if match else 0
    if tiling is None or match is None or not 1 <= zone <= 60 or match[3] not in _COLUMN_SETS[zone % 3]:
        raise RequestError(f"{tile!r} is not the name of an MGRS tile, like 40KCB.")
    easting = 100_000 * (_COLUMN_SETS[zone % 3].index(match[3]) + 1)
    row = _ROWS.index(match[4]) - (5 if zone % 2 == 0 else 0)
    band = _BANDS.index(match[2])
    south = band < _BANDS.index("N")
    middle = (-80 + 8 * band + 4) * 111_000.0 + (_FALSE_NORTHING if south else 0)
    # Row letters repeat every 2000 km; a latitude band is less than half of that high.
    northing = 100_000 * (row % 20)
    northing += 2_000_000 * round((middle - northing - 50_000) / 2_000_000)
    step, top = tiling.step, northing + 100_000
    left = easting // step * step
    top = _FALSE_NORTHING - (_FALSE_NORTHING - top) // step * step if south else math.ceil(top / step) * step
    pixel = float(sensor.finest)
    size = round(tiling.edge / pixel)
    return Grid(
        f"EPSG:{32700 + zone if south else 32600 + zone}",
        (pixel, 0.0, float(left), 0.0, -pixel, float(top)),
        (size, size),
    )
