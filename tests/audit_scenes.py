"""Archives of small pictures over two or more years, to test how dates with a wrong offset are found.

They have what moves reflectance in real archives: seasons, harvest, wet ground, floods, fires, snow, haze, cirrus,
glint on water, clouds and shadows (not all of which the classification marks), two orbits with other view angles, two
platforms, swaths that cover a part, and a change of baseline in the middle. Values are reflectance as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from sen2chain.inspection.baseline_audit import Pictures

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

#                     blue   green  red    B8A    B11    B12
SOIL = np.array([0.080, 0.110, 0.150, 0.240, 0.320, 0.280])
CANOPY = np.array([0.020, 0.050, 0.024, 0.460, 0.180, 0.080])
FOREST = np.array([0.020, 0.040, 0.025, 0.320, 0.140, 0.070])
WATER = np.array([0.040, 0.042, 0.030, 0.010, 0.005, 0.004])
STONE = np.array([0.120, 0.140, 0.160, 0.210, 0.250, 0.220])
SAND = np.array([0.150, 0.240, 0.330, 0.440, 0.520, 0.460])
GRASS = np.array([0.040, 0.070, 0.060, 0.300, 0.240, 0.140])
DRY = np.array([0.070, 0.110, 0.150, 0.260, 0.340, 0.240])
ASH = np.array([0.030, 0.035, 0.040, 0.060, 0.110, 0.130])
SNOW = np.array([0.90, 0.88, 0.86, 0.75, 0.08, 0.05])
CLOUD = np.array([0.62, 0.60, 0.60, 0.62, 0.45, 0.38])
HAZE = np.array([1.0, 0.8, 0.6, 0.25, 0.05, 0.03])
HAZE_SEEN = (1.0, 0.8, 0.6, 0.3, 0.05, 0.05)

PLACES = {
    "farmland": {"crop": 0.6, "forest": 0.2, "stone": 0.1, "water": 0.1},
    "coast": {"water": 0.75, "crop": 0.15, "stone": 0.1},
    "mountains": {"forest": 0.5, "stone": 0.3, "grass": 0.2},
    "desert": {"sand": 0.75, "stone": 0.25},
    "savanna": {"grass": 0.8, "forest": 0.1, "stone": 0.1},
}
KINDS = ("crop", "forest", "stone", "water", "sand", "grass")


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """A simulated archive."""

    truth: Array
    """(dates, rows, columns, bands) reflectance as it should be read, NaN for no data."""
    marked: Array
    """(dates, rows, columns) True where the scene classification marks cloud, shadow or snow."""
    clear: Array
    """(dates, rows, columns) True where the ground is seen, whatever is marked."""
    days: Array
    """(dates,) day since the first of January of the first year."""
    has_classes: Array
    """(dates,) whether the product has a scene classification."""

    def pictures(self, errors: dict[int, float] | None = None) -> Pictures:
        """Return the pictures, with the reflectance of some dates shifted.

        A provider that subtracts the offset keeps nothing below DN 0, which is a reflectance of -0.1 where it is
        subtracted again.
        """
        values = self.truth.copy()
        for date, error in (errors or {}).items():
            values[date] = np.maximum(values[date], 0.0 if error < 0 else -1.0) + np.float32(error)
        clear = ~(self.marked & self.has_classes[:, None, None]) & np.isfinite(values).all(axis=3)
        return Pictures(values, clear, HAZE_SEEN)

    def judgeable(self, date: int, share: float = 0.12) -> bool:
        """Whether enough of a date's ground is seen and not under snow or thick haze."""
        return bool(self.clear[date].mean() >= share)


def smooth(rng: np.random.Generator, size: int, width: float) -> Array:
    """Return a smooth random field of unit variance."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), width, mode="wrap")
    scaled: Array = field / field.std()
    return scaled


def _greenness(day: float, late: Array, harvest: Array) -> Array:
    """Share of green canopy of crops on a day of the year: it grows in spring and is cut at harvest."""
    grown = 1 / (1 + np.exp(-(day - 110 - late) / 12))
    return np.where(day > harvest, 0.05, 0.05 + 0.9 * grown)


def simulate(place: str, seed: int, dates: int = 200, size: int = 60, classes: float = 0.95) -> Archive:
    """Return an archive of a place of `PLACES`; `classes` is the share of dates with a scene classification."""
    rng = np.random.default_rng((seed, len(place)))
    kinds = list(PLACES[place])
    fields = np.stack([smooth(rng, size, 3) for _ in kinds])
    order = np.argsort(np.argsort(fields.reshape(len(kinds), -1), axis=1), axis=1).reshape(fields.shape) / size**2
    shares = np.array([PLACES[place][kind] for kind in kinds])
    kind = (order ** (1 / shares[:, None, None])).argmax(axis=0)
    vigour = 1 + 0.12 * smooth(rng, size, 1)[..., None] * np.ones(6)
    late = 10 * smooth(rng, size, 2)
    harvest = 190 + 25 * smooth(rng, size, 2)
    height = smooth(rng, size, 6)
    burnt_on, burnt = int(rng.integers(200, 600)), smooth(rng, size, 5) > 1.2
    days = np.sort(rng.choice(np.arange(2, 5 * dates, 5), dates, replace=False)) if dates > 1 else np.array([100])
    truth = np.empty((dates, size, size, 6), np.float32)
    marked = np.zeros((dates, size, size), np.bool_)
    clear = np.zeros((dates, size, size), np.bool_)
    has_classes = rng.random(dates) < classes
    row, column = np.mgrid[:size, :size] / size
    view = {
        0: 1 + 0.06 * (column - 0.5)[..., None] * np.ones(6),
        1: 1.05 - 0.06 * (column - 0.5)[..., None] * np.ones(6),
    }
    noise = 0.004
    for k, day in enumerate(days):
        of_year = day % 365
        green = _greenness(of_year, late, harvest)[..., None]
        summer = 0.5 - 0.5 * np.cos(2 * np.pi * (of_year - 20) / 365)
        wet = 1 - (0.35 * rng.random() if rng.random() < 0.2 else 0)
        looks = {
            "crop": SOIL * wet * (1 - green) + CANOPY * green,
            "forest": FOREST * (0.9 + 0.15 * summer),
            "stone": STONE * (0.5 + 0.5 * wet),
            "water": WATER * rng.uniform(0.7, 1.6) * np.ones(6),
            "sand": SAND * wet,
            "grass": DRY * wet * (1 - summer) + GRASS * summer,
        }
        ground = np.zeros((size, size, 6))
        for number, name in enumerate(kinds):
            ground = np.where((kind == number)[..., None], looks[name], ground)
        is_water = np.isin(kind, [n for n, name in enumerate(kinds) if name == "water"])
        if burnt_on <= day < burnt_on + 150:
            ground = np.where((burnt & ~is_water)[..., None], ASH, ground)
        if rng.random() < 0.03:
            flood = height < rng.uniform(-1.5, -0.3)
            ground = np.where(flood[..., None], WATER * 2.0, ground)
            is_water = is_water | flood
        ground = ground * vigour * view[int(k % 2)] * (0.92 + 0.08 * summer) * rng.normal(1, 0.01)
        if place == "mountains" or rng.random() < 0.1:
            snowy = (height > 2.2 * summer + rng.normal(0.2, 0.5)) & ~is_water
            ground = np.where(snowy[..., None], SNOW * (0.7 + 0.3 * vigour), ground)
        else:
            snowy = np.zeros((size, size), np.bool_)
        if rng.random() < 0.25:  # glint, the same in all bands
            glint = rng.uniform(0, 0.14) * (0.6 + 0.8 * column) + 0.01 * rng.standard_normal((size, size))
            ground = ground + np.where(is_water, np.maximum(glint, 0), 0)[..., None]
        thick = rng.choice([0.0, 0.02, 0.05, 0.10], p=[0.55, 0.25, 0.15, 0.05])
        haze = np.maximum(thick * (1 + 0.3 * smooth(rng, size, 8)), 0)[..., None] * HAZE
        seen = ground * (1 - haze) + haze * 0.9
        cover = rng.choice([0.0, 0.1, 0.4, 0.8, 1.0], p=[0.3, 0.2, 0.2, 0.15, 0.15])
        above = smooth(rng, size, 5) if cover < 1 else np.full((size, size), 9.0)
        level = np.quantile(above, 1 - cover) if 0 < cover < 1 else (-9.0 if cover == 1 else 99.0)
        opacity = np.clip((above - level) * 0.8, 0, 1) if cover else np.zeros((size, size))
        cirrus = rng.uniform(0.05, 0.3) * np.clip(1 + 0.4 * smooth(rng, size, 10), 0, 2) * (rng.random() < 0.12)
        seen = seen * (1 - cirrus[..., None]) + 0.6 * cirrus[..., None] * np.array([1, 1, 1, 1, 0.85, 0.75])
        shadow = np.roll(opacity, (4, 4), (0, 1)) > 0.4
        seen = np.where(shadow[..., None], seen * 0.4, seen)
        seen = seen * (1 - opacity[..., None]) + CLOUD * opacity[..., None]
        seen = seen + noise * np.sqrt(np.maximum(seen, 0.01) / 0.1) * rng.standard_normal(seen.shape)
        edge = rng.uniform(0.3, 1.6)
        seen = np.where(((column + 0.2 * row) > edge)[..., None] & (k % 2 == 1), np.nan, seen)
        # The classification misses thin edges of clouds, half of the shadows and thin cirrus.
        marked[k] = (
            (opacity > rng.uniform(0.05, 0.2)) | (shadow & (rng.random() < 0.5)) | (snowy & (rng.random() < 0.8))
        )
        marked[k] |= cirrus > rng.uniform(0.05, 0.15)
        clear[k] = (opacity < 0.02) & ~shadow & ~snowy & (cirrus < 0.04) & np.isfinite(seen).all(axis=2)
        clear[k] &= (haze[..., 0] < 0.08) & ~is_water
        truth[k] = seen
    return Archive(truth, marked, clear, days, has_classes)
