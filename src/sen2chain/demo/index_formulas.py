"""Formulas of the twelve indices in plain numpy, for stored rasters and true values; shares no code with `indices`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = NDArray[np.float64]

SCALE = 10_000
NODATA = 32767


def _ratio(one: Array, other: Array) -> Array:
    return (one - other) / (one + other)


def _brightness(one: Array, other: Array) -> Array:
    return np.sqrt((one**2 + other**2) / 2)


def _evi(nir: Array, red: Array, blue: Array) -> Array:
    return 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)


FORMULAS: Mapping[str, tuple[Callable[..., Array], tuple[str, ...]]] = {
    "NDVI": (_ratio, ("B08", "B04")),
    "NDWIMCF": (_ratio, ("B03", "B08")),
    "NDWIGAO": (_ratio, ("B08", "B11")),
    "MNDWI": (_ratio, ("B03", "B11")),
    "NDRE": (_ratio, ("B08", "B05")),
    "NBR": (_ratio, ("B08", "B12")),
    "NDBI": (_ratio, ("B11", "B08")),
    "IRECI": (lambda re3, red, re1, re2: (re3 - red) / (re1 / re2), ("B07", "B04", "B05", "B06")),
    "EVI": (_evi, ("B08", "B04", "B02")),
    "BIGR": (_brightness, ("B03", "B04")),
    "BIRNIR": (_brightness, ("B04", "B08")),
    "BIBG": (_brightness, ("B02", "B03")),
}
"""Index name -> (formula, its bands in the order of its arguments); arguments are reflectances."""


def evaluate(name: str, reflectance: Mapping[str, Array]) -> Array:
    """Compute one index from reflectances of any shape; undefined ratios become NaN or infinity."""
    formula, bands = FORMULAS[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        return formula(*(np.maximum(reflectance[band], 0.0) for band in bands))


def encode(values: Array) -> NDArray[np.int16]:
    """Scale index values to int16: times 10000, half to even, clipped to -32768 and 32766; 32767 where not finite."""
    valid = np.isfinite(values)
    scaled = np.clip(np.rint(np.where(valid, values, 0.0) * SCALE), -32768, 32766)
    return np.where(valid, scaled, NODATA).astype(np.int16)
