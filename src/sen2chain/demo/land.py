"""Land cover of a scene: class of each pixel, and reflectance of each class by date. Drawn from the scene's seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rasterio import features

from sen2chain.demo import index_formulas
from sen2chain.demo.fields import CROPS
from sen2chain.demo.noise import Field, Lattice, Noise, upsample

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import geopandas as gpd
    from numpy.typing import NDArray

    from sen2chain.demo.scene import Frame

SPECTRAL_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")

# Reflectances of the bands above, typical of each material.
SOIL = np.array([0.080, 0.110, 0.150, 0.170, 0.190, 0.205, 0.220, 0.240, 0.320, 0.280])
CANOPY = np.array([0.020, 0.050, 0.024, 0.080, 0.300, 0.400, 0.440, 0.460, 0.180, 0.080])
FOREST = np.array([0.020, 0.040, 0.025, 0.070, 0.220, 0.280, 0.300, 0.320, 0.140, 0.070])
WATER = np.array([0.040, 0.042, 0.030, 0.025, 0.020, 0.015, 0.012, 0.010, 0.005, 0.004])
STONE = np.array([0.120, 0.140, 0.160, 0.170, 0.180, 0.190, 0.200, 0.210, 0.250, 0.220])

MEADOW_ID, FOREST_ID, WATER_ID, STONE_ID, FIRST_PARCEL = range(5)
"""Classes of a pixel; parcel number k of the layer is class ``FIRST_PARCEL + k``."""

_SEASONS: Mapping[str, tuple[int, int, int, int, int, float, float]] = {
    # crop: sown (day of year), then days after: half grown, width, half ripe, width; least and most cover
    "wheat": (288, 140, 20, 262, 8, 0.02, 0.95),
    "rapeseed": (240, 70, 25, 302, 10, 0.02, 0.92),
    "barley": (275, 135, 20, 250, 8, 0.02, 0.90),
    "maize": (115, 50, 9, 145, 12, 0.02, 0.95),
    "sunflower": (105, 52, 8, 130, 10, 0.02, 0.85),
    "alfalfa": (30, 45, 15, 270, 25, 0.35, 0.85),
    "fallow": (30, 60, 25, 180, 30, 0.08, 0.40),
}


def cover(crop: str, day: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the ground covered by green leaves, 0 to 1, on days of the year (1 to 366)."""
    sown, grown, rise, ripe, fall, least, most = _SEASONS[crop]
    since = (day - sown) % 365.25
    growth = 1 / (1 + np.exp(-(since - grown) / rise)) - 1 / (1 + np.exp(-(since - ripe) / fall))
    return np.asarray(least + (most - least) * np.maximum(growth, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Land:
    """Land cover of a scene, without light, clouds and noise."""

    parcels: gpd.GeoDataFrame
    """The layer, in any CRS."""
    seed: int
    """The scene's seed."""
    reference: Lattice
    """Nodes of the first tile's window, over which the shares of the background classes are defined."""
    epsg: int
    """The land's CRS."""

    def classes(self, frame: Frame, lattice: Lattice) -> NDArray[np.int32]:
        """Class of each 10 m pixel: the parcel that holds the pixel's centre, else background; int32, (size, size)."""
        out = np.empty((frame.size, frame.size), dtype=np.int32)
        thresholds = self._thresholds()
        woods, rocks = (noise.at(lattice.x, lattice.y) for noise in self._background())
        for start in range(0, frame.size, 1024):
            rows = range(start, min(start + 1024, frame.size))
            wood, rock = upsample(woods, rows, frame.size, 10), upsample(rocks, rows, frame.size, 10)
            block = out[rows.start : rows.stop]
            block[...] = MEADOW_ID
            block[wood > thresholds[0]] = FOREST_ID
            block[rock < thresholds[1]] = STONE_ID
            block[rock > thresholds[2]] = WATER_ID
        shapes = self.parcels.geometry.to_crs(frame.epsg)
        numbered = ((shape, FIRST_PARCEL + k) for k, shape in enumerate(shapes))
        features.rasterize(numbered, out=out, transform=frame.transform(10))
        return out

    def light(self, lattice: Lattice) -> Field:
        """Light of the relief at the lattice nodes: a factor of all bands of a pixel, which cancels in ratio indices.

        Its mean over the first tile's window is 1; its range is 0.8 to 1.2.
        """
        relief = Noise.draw((self.seed, 23), 900.0, 2)
        mean = relief.at(self.reference.x, self.reference.y).mean()
        return np.asarray(1 + np.clip(0.06 * (relief.at(lattice.x, lattice.y) - mean), -0.2, 0.2), dtype=np.float32)

    def reflectance(self, days: Sequence[dt.datetime]) -> Mapping[str, NDArray[np.float64]]:
        """Reflectance of each class without light, noise and sky: band -> array of (dates, classes)."""
        of_year = np.array([day.timetuple().tm_yday for day in days], dtype=np.float64)
        rng = np.random.default_rng((self.seed, 29))
        n = len(self.parcels)
        late, vigour, soil = rng.uniform(-8, 8, n), rng.uniform(0.85, 1.0, n), rng.uniform(0.85, 1.15, n)
        green = np.zeros((len(days), n))
        crops = self.parcels["crop"].to_numpy()
        for crop in CROPS:
            mine = crops == crop
            green[:, mine] = cover(crop, of_year[:, None] - late[None, mine]) * vigour[mine]
        meadow = cover("alfalfa", of_year)[:, None]
        tables = {}
        for k, band in enumerate(SPECTRAL_BANDS):
            table = np.empty((len(days), FIRST_PARCEL + n))
            table[:, FIRST_PARCEL:] = SOIL[k] * soil * (1 - green) + CANOPY[k] * green
            table[:, [MEADOW_ID]] = SOIL[k] * (1 - meadow) + CANOPY[k] * meadow
            table[:, FOREST_ID], table[:, WATER_ID], table[:, STONE_ID] = FOREST[k], WATER[k], STONE[k]
            tables[band] = table
        return tables

    def _background(self) -> tuple[Noise, Noise]:
        return Noise.draw((self.seed, 17), 1100.0, 2), Noise.draw((self.seed, 19), 700.0, 2)

    def _thresholds(self) -> tuple[float, float, float]:
        woods, rocks = (noise.at(self.reference.x, self.reference.y) for noise in self._background())
        return float(np.quantile(woods, 0.7)), float(np.quantile(rocks, 0.06)), float(np.quantile(rocks, 0.95))


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """True reflectance of the parcels, without noise and sky: the result of a perfect extraction of clear pixels."""

    dates: tuple[dt.datetime, ...]
    """Sensing time of each overpass."""
    crops: tuple[str, ...]
    """Crop of each parcel, by fid."""
    reflectance: Mapping[str, NDArray[np.float64]]
    """Band -> reflectance, (overpasses, parcels)."""

    def index(self, name: str) -> NDArray[np.float64]:
        """One of the twelve indices, not scaled, (overpasses, parcels)."""
        return index_formulas.evaluate(name, self.reflectance)

    def table(self, *names: str) -> dict[str, NDArray[np.generic]]:
        """Columns of a data frame: date, fid, crop, the named indices (default NDVI); rows sorted by fid, then date."""
        many, few = len(self.dates), len(self.crops)
        columns: dict[str, NDArray[np.generic]] = {
            "date": np.tile(np.array(self.dates, dtype="datetime64[s]"), few),
            "fid": np.repeat(np.arange(few), many),
            "crop": np.repeat(np.array(self.crops), many),
        }
        return columns | {name: self.index(name).T.ravel() for name in names or ("NDVI",)}
