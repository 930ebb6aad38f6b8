"""Sky of one overpass: clouds, shadows and swath edge, as scene classes and cloud probabilities of 20 m pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sen2chain.demo.noise import Field, Lattice, Noise, upsample

if TYPE_CHECKING:
    from sen2chain.demo.scene import Frame, Overpass

Bytes = NDArray[np.uint8]

NO_DATA, SHADOW, VEGETATION, BARE, WATER, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 0, 3, 4, 5, 6, 8, 9, 10

MEDIUM_FROM, HIGH_FROM = 35, 65
"""Cloud probabilities, percent, from which a pixel is cloud of medium and of high probability."""

SHADOW_SHIFT = (-260.0, 330.0)
"""Metres east and north from a cloud to its shadow: the morning sun stands in the south-east."""

# Where nothing is wrong the sky must be perfectly clear, so that clear pixels hold the truth.
OPACITY = np.where(np.arange(101) > 0, 0.06 + 0.94 * np.arange(101) / 100, 0.0).astype(np.float32)
"""Share of a pixel's light that comes from the cloud, by CLDPRB."""
SHADOW_LIGHT = np.float32(0.4)
"""Share of the light left in a cloud's shadow."""

# Percent (standard deviation) by which CLDPRB varies from pixel to pixel, so that it takes as many bits as ESA's.
_ROUGHNESS = np.float32(0.3)


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """Clouds, cirrus and the edge of the swath as functions of the position on the ground, equal for all tiles."""

    clouds: Noise
    cirrus: Noise
    cloud_from: float
    """Value of `clouds` above which there is cloud."""
    cirrus_from: float
    seed: tuple[int, ...]
    """Seed of the roughness of the probabilities."""
    edge: tuple[float, float, float] | None
    """(a, b, c): the swath covers a x + b y < c, in metres of the land's CRS; None covers everything."""

    @classmethod
    def draw(cls, overpass: Overpass, seed: int, reference: Lattice) -> Self:
        """Draw the sky; the overpass's shares of cloud refer to the reference nodes, the first tile's window."""
        day = overpass.sensing.toordinal()
        extent = float(np.ptp(reference.x))
        coarse = min(max(extent / 6, 500.0), 12_000.0)
        octaves = 1 + max(0, int(math.log2(coarse / 400.0)))
        clouds, cirrus = Noise.draw((seed, day, 1), coarse, octaves), Noise.draw((seed, day, 2), coarse, octaves)
        line = None
        if overpass.edge is not None:
            # Descending orbits run from north-north-east to south-south-west.
            a, b = math.cos(math.radians(12)), -math.sin(math.radians(12))
            line = (a, b, float(np.quantile(a * reference.x + b * reference.y, overpass.edge)))
        return cls(
            clouds=clouds,
            cirrus=cirrus,
            cloud_from=_threshold(clouds.at(reference.x, reference.y), overpass.cloud),
            cirrus_from=_threshold(cirrus.at(reference.x, reference.y), overpass.cirrus),
            seed=(seed, day, 3),
            edge=line,
        )

    def over(self, frame: Frame, lattice: Lattice, surface: Bytes, *, cut: bool) -> tuple[Bytes, Bytes]:
        """SCL and CLDPRB of a tile's window.

        Parameters
        ----------
        frame, lattice
            The window and its nodes.
        surface
            Scene class of the ground, (20 m rows, 20 m columns).
        cut
            Whether this product ends at the edge of the swath.

        Returns
        -------
        SCL and CLDPRB, uint8, of the shape of `surface`. CLDPRB is above 0 exactly where SCL is 8, 9 or 10.
        """
        east, north = SHADOW_SHIFT
        cloud_at = self.clouds.at(lattice.x, lattice.y)
        shadow_at = self.clouds.at(lattice.x - east, lattice.y - north)
        cirrus_at = self.cirrus.at(lattice.x, lattice.y)
        width = frame.size // 2
        scl, cldprb = surface.copy(), np.zeros_like(surface)
        rng = np.random.default_rng(self.seed)
        for start in range(0, width, 640):
            rows = range(start, min(start + 640, width))
            block, probability = scl[rows.start : rows.stop], cldprb[rows.start : rows.stop]
            block[upsample(shadow_at, rows, width, 20) > self.cloud_from] = SHADOW
            veil = upsample(cirrus_at, rows, width, 20) - np.float32(self.cirrus_from)
            rough = _ROUGHNESS * rng.standard_normal(block.shape, dtype=np.float32)
            probability[...] = np.where(veil > 0, np.maximum(_percent(4, 24, veil) + rough, 1), 0)
            dense = upsample(cloud_at, rows, width, 20) - np.float32(self.cloud_from)
            thick = np.clip(_percent(MEDIUM_FROM, 100, dense) + rough, MEDIUM_FROM, 100)
            probability[...] = np.where(dense > 0, thick, probability)
            block[probability > 0] = CIRRUS
            block[probability >= MEDIUM_FROM] = CLOUD_MEDIUM
            block[probability >= HIGH_FROM] = CLOUD_HIGH
            if cut and self.edge is not None:
                a, b, c = self.edge
                outside = upsample((a * lattice.x + b * lattice.y - c).astype(np.float32), rows, width, 20) >= 0
                block[outside], probability[outside] = NO_DATA, 0
        return scl, cldprb


def _threshold(values: Field, share: float) -> float:
    """Value that a `share` of the values exceeds; beyond all values for shares of 0 and 1."""
    if share <= 0:
        return math.inf
    if share >= 1:
        return float(values.min()) - 10.0
    return float(np.quantile(values, 1 - share))


def _percent(least: int, most: int, excess: Field) -> Field:
    """Probability in percent, from `least` to `most`, rising with the excess over the threshold."""
    return np.asarray(least + (most - least) * np.minimum(np.maximum(excess, 0) / 0.7, 1), dtype=np.float32)
