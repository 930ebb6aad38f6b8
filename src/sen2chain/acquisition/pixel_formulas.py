"""Kernels of the two steps that every index has: digital numbers to reflectance, and values to stored numbers.

They give bit by bit what `sen2chain.indices.reflectance` and `sen2chain.indices.Index.compute` give, in one pass over
the pixels instead of ten: a full tile has 120 million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.indices import HIGHEST, LOWEST, NODATA
from sen2chain.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]


@kernel(
    "void(uint16[::1], float64, float64, float64, float64, float64[::1])",
    "void(float64[::1], float64, float64, float64, float64, float64[::1])",
)
def to_reflectance(
    dn: Array, offset: float, quantification: float, nodata: float, saturated: float, out: Floats
) -> None:
    """Turn digital numbers into reflectance, not below 0; NaN where there is no measurement."""
    for i in range(dn.size):
        number = np.float64(dn[i])
        value = (number + offset) / quantification
        value = 0.0 if value < 0 else value
        out[i] = np.nan if number == nodata or number == saturated else value  # noqa: PLR1714, SIM109  # a kernel


@kernel("void(float64[::1], boolean[::1], float64, int16[::1])")
def to_stored(value: Floats, bad: npt.NDArray[np.bool_], scale: float, out: npt.NDArray[np.int16]) -> None:
    """Scale values and round them half to even; they saturate, and are no data where `bad` or not finite."""
    for i in range(value.size):
        scaled = value[i] * scale
        rounded = np.rint(scaled)
        rounded = max(rounded, LOWEST)
        rounded = min(rounded, HIGHEST)
        out[i] = NODATA if bad[i] or not np.isfinite(scaled) else np.int16(rounded)
