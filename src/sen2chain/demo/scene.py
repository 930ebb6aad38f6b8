"""Parameters of a demo archive: tiles, dates, skies, files; each value is checked when it is built."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import shapely
from pyproj import Transformer
from rasterio import Affine

from sen2chain.demo.index_formulas import FORMULAS
from sen2chain.errors import RequestError, UnknownNameError, out_of_range, real_number, whole_number
from sen2chain.products import ProductId

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL_TILE = 10980
MOST_PARCELS = 1_000_000
MOST_SEED = 2**63 - 1
BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
ALL_BANDS = (*BANDS_10M, *BANDS_20M, "SCL", "CLDPRB")

OFFSET_BASELINE = 400
"""From processing baseline 04.00 on DNs carry an offset (https://sentinels.copernicus.eu, 25 January 2022)."""
REPROCESSED_BASELINE = 500


@dataclass(frozen=True, slots=True)
class Overpass:
    """One passage of a satellite: its time, platform and baseline, its clouds, and the edge of its swath."""

    sensing: dt.datetime
    """Sensing start (UTC, no zone), the same in all tiles."""
    platform: str = "S2A"
    """``S2A``, ``S2B``, ..."""
    baseline: int = OFFSET_BASELINE
    """Processing baseline times 100; from 400 on DNs carry the offset of +1000."""
    cloud: float = 0.0
    """Share of the first tile's window that is under cloud, 0 to 1."""
    cirrus: float = 0.0
    """Share of the first tile's window that has thin cirrus where it has no cloud, 0 to 1."""
    edge: float | None = None
    """Share of the first tile's window, from the west, that the swath covers; ``None`` = all."""
    cut: tuple[int, ...] = ()
    """Positions in `Scene.tiles` of the products that end at `edge`; empty = all of them."""


def season(count: int = 12, first: dt.date = dt.date(2021, 10, 15), step: int = 25) -> tuple[Overpass, ...]:
    """Overpasses from autumn to harvest; the skies repeat every twelve overpasses.

    Parameters
    ----------
    count
        Number of overpasses.
    first
        Day of the first one. Products sensed before 25 January 2022 get baseline 03.01, later ones 04.00.
    step
        Days between two overpasses; one orbit has multiples of 5.
    """
    whole_number("count", count, 0, 10_000)
    whole_number("step", step, 1, 1000, "days")
    clouds = (0.0, 0.3, 0.05, 0.6, 0.1, 0.0, 0.35, 0.0, 0.15, 1.0, 0.05, 0.0)
    cirrus = (0.0, 0.0, 0.2, 0.0, 0.0, 0.15, 0.0, 0.1, 0.0, 0.0, 0.1, 0.0)
    edges: dict[int, tuple[float, tuple[int, ...]]] = {4: (0.55, ()), 7: (0.5, (1,))}
    passes = []
    for k in range(count):
        day = first + dt.timedelta(days=k * step)
        edge, cut = edges.get(k % 12, (None, ()))
        passes.append(
            Overpass(
                sensing=dt.datetime.combine(day, dt.time(10, 30, 21)),
                # The two satellites follow each other on one orbit by five days.
                platform=("S2A", "S2B")[day.toordinal() // 5 % 2],
                baseline=OFFSET_BASELINE if day >= dt.date(2022, 1, 25) else 301,
                cloud=clouds[k % 12],
                cirrus=cirrus[k % 12],
                edge=edge,
                cut=cut,
            )
        )
    return tuple(passes)


@dataclass(frozen=True, slots=True)
class Scene:
    """Parameters of a demo archive; equal parameters give equal pixels."""

    tiles: tuple[str, ...] = ("31TGJ", "32TLP")
    """MGRS tiles that overlap on the ground. The first one's CRS is the land's, its window the parcels'."""
    size: int = 360
    """Width and height of each tile's window in 10 m pixels; even, up to 10980, the full tile."""
    overpasses: tuple[Overpass, ...] = field(default_factory=season)
    """Dates and skies."""
    orbit: int = 108
    """Relative orbit of all products."""
    seed: int = 1
    """Seed of land, skies and sensor noise."""
    bands: tuple[str, ...] = ALL_BANDS
    """Rasters written into each product: names as in `ALL_BANDS`."""
    parcels: int = 48
    """Number of polygons in the layer."""
    layer_crs: str = "EPSG:4326"
    """CRS of the layer's file."""
    noise: float = 60.0
    """Standard deviation of the sensor noise of a 10 m pixel of reflectance 0.1, in DN; it grows with the root of the
    reflectance, and a 20 m pixel has half of it. The default also stands for the texture of real land: the 10 m bands
    take as many bits per pixel as ESA's."""
    reprocessed: tuple[tuple[int, str], ...] = ()
    """(overpass, tile) of products that exist in baseline 05.00, too."""
    damaged: tuple[tuple[int, str, str], ...] = ()
    """(overpass, tile, band) of truncated files."""
    indices: tuple[str, ...] = ()
    """Indices stored beside the products; only indices of 10 m bands."""
    index_format: str = "tif"
    """``tif``: lossless COG; ``jp2``: lossy, 15 bits, as old archives have them."""
    masks: tuple[str, ...] = ()
    """Cloud masks stored beside the products, by file suffix: ``CM001``, ``CM003-...``, ``CM004-...``, ``SCL-...``."""
    mask_format: str = "jp2"
    """``jp2`` or ``tif``, both lossless."""

    def __post_init__(self) -> None:
        if not self.tiles or len(set(self.tiles)) != len(self.tiles):
            raise RequestError(f"tiles is {self.tiles!r}; a scene needs at least one tile, and each only once.")
        for name, low, high, what in (
            ("size", 2, FULL_TILE, "even numbers of 10 m pixels"),
            ("parcels", 1, MOST_PARCELS, "at least one polygon, whole numbers"),
            ("seed", 0, MOST_SEED, "whole numbers"),
            ("orbit", 1, 143, "whole numbers"),
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high, what))
        if self.size % 2:
            raise out_of_range("size", self.size, f"even numbers of 10 m pixels from 2 to {FULL_TILE}")
        real_number("noise", self.noise, 0, 10_000, "DN")
        _known("band", self.bands, ALL_BANDS)
        _known("index of 10 m bands", self.indices, [n for n, (_, b) in FORMULAS.items() if set(b) <= set(BANDS_10M)])
        _known("raster format", (self.index_format, self.mask_format), ("tif", "jp2"))
        missing = {b for name in self.indices for b in FORMULAS[name][1]} - set(self.bands)
        if missing:
            raise RequestError(f"bands lacks {', '.join(sorted(missing))}, which the stored indices need; add it.")
        _known("band of the scene", [band for _, _, band in self.damaged], self.bands)
        for position, tile in (*self.reprocessed, *((k, tile) for k, tile, _ in self.damaged)):
            _known("tile of the scene", (tile,), self.tiles)
            if not 0 <= position < len(self.overpasses):
                raise RequestError(f"The scene has no overpass {position}; it has 0 to {len(self.overpasses) - 1}.")

    def frames(self) -> tuple[Frame, ...]:
        """Window of each tile, around the centre of the area that all tiles cover."""
        full = [full_tile(tile) for tile in self.tiles]
        lon, lat = _meeting_point(full)
        return tuple(frame.window(lon, lat, self.size) for frame in full)

    def products(self, tile: str) -> tuple[tuple[int, ProductId], ...]:
        """(overpass, product) of one tile, in the order in which they are written."""
        listed = []
        for k, overpass in enumerate(self.overpasses):
            listed.append((k, _product(overpass, self.orbit, tile)))
            if (k, tile) in self.reprocessed:
                listed.append((k, _product(overpass, self.orbit, tile, REPROCESSED_BASELINE)))
        return tuple(listed)


def _known(kind: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise UnknownNameError(kind, name, allowed)


def _product(overpass: Overpass, orbit: int, tile: str, baseline: int | None = None) -> ProductId:
    made = overpass.sensing + (dt.timedelta(hours=3) if baseline is None else dt.timedelta(days=500))
    return ProductId(
        platform=overpass.platform,
        sensing=overpass.sensing,
        baseline=overpass.baseline if baseline is None else baseline,
        orbit=orbit,
        tile=tile,
        generation=f"{made:%Y%m%dT%H%M%S}",
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """A square window of a tile, the extent of its rasters."""

    tile: str
    """MGRS name."""
    epsg: int
    """UTM zone's EPSG code."""
    left: float
    """Easting of the window's west edge, metres."""
    top: float
    """Northing of the window's north edge, metres."""
    size: int
    """Width and height in 10 m pixels."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north edge in metres of the tile's CRS."""
        return self.left, self.top - self.size * 10, self.left + self.size * 10, self.top

    def transform(self, resolution: int) -> Affine:
        """Georeference of a raster with pixels of `resolution` metres."""
        return Affine(resolution, 0.0, self.left, 0.0, -resolution, self.top)

    def window(self, lon: float, lat: float, size: int) -> Frame:
        """Window of `size` pixels around a point (degrees), inside this frame, on its 60 m grid."""
        x, y = Transformer.from_crs(4326, self.epsg, always_xy=True).transform(lon, lat)
        most = self.size - size
        column = min(max(round((x - self.left) / 10 - size / 2), 0), most) // 6 * 6
        row = min(max(round((self.top - y) / 10 - size / 2), 0), most) // 6 * 6
        return Frame(self.tile, self.epsg, self.left + column * 10, self.top - row * 10, size)


def _meeting_point(frames: Sequence[Frame]) -> tuple[float, float]:
    """Longitude and latitude of the centre of the area that all tiles cover."""
    extents = []
    for frame in frames:
        to_degrees = Transformer.from_crs(frame.epsg, 4326, always_xy=True)
        outline = shapely.segmentize(shapely.box(*frame.bounds), 10_000.0)
        extents.append(shapely.transform(outline, to_degrees.transform, interleaved=False))
    common = shapely.intersection_all(extents)
    if common.area == 0:
        names = ", ".join(frame.tile for frame in frames)
        raise RequestError(f"The tiles {names} do not overlap on the ground; choose neighbours.")
    return float(common.centroid.x), float(common.centroid.y)


_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_LATITUDES = "CDEFGHJKLMNPQRSTUVWX"


def full_tile(tile: str) -> Frame:
    """Extent of a whole Sentinel-2 tile, by its MGRS name.

    A tile is its 100 km square, its corner moved out to a multiple of 60 m and grown to 109.8 km
    (https://sentiwiki.copernicus.eu/web/s2-products, "tiling grid").

    Raises
    ------
    RequestError
        If the name is not that of an MGRS square.
    """
    if not re.fullmatch(r"(0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", tile):
        raise RequestError(f"{tile!r} is not an MGRS tile; give zone, latitude band and square, like 31TGJ.")
    zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
    columns = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3]
    if column not in columns:
        raise RequestError(f"{tile!r} is not an MGRS tile: zone {zone} has the columns {columns}.")
    east = (columns.index(column) + 1) * 100_000
    north = (_ROWS.index(row) - (0 if zone % 2 else 5)) % 20 * 100_000
    latitude = _LATITUDES.index(band) * 8 - 80
    # Row letters repeat every 2000 km: take the square nearest to the middle of the latitude band.
    southern = latitude < 0
    equator = 10_000_000 if southern else 0
    middle = (latitude + 4) * 110_900 + equator
    north += round((middle - north) / 2_000_000) * 2_000_000
    return Frame(
        tile=tile,
        epsg=(32700 if southern else 32600) + zone,
        left=math.floor(east / 60) * 60.0,
        # The 60 m are counted from the equator, which is northing 10 000 000 in the south.
        top=math.ceil((north + 100_000 - equator) / 60) * 60.0 + equator,
        size=FULL_TILE,
    )


DEFAULT = Scene(reprocessed=((2, "31TGJ"),), damaged=((8, "32TLP", "B04"),))
"""Scene of the demo: a season of two tiles in two UTM zones, with a reprocessed product and a damaged file."""
