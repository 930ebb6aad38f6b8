"""Whether digital numbers still contain the offset of 1000: told from pixels, without any file or catalogue.

Since baseline 04.00 ESA adds 1000 to each digital number (DN), so that negative reflectance can be stored. Some
providers subtract it again, and what they say of it is not always true. Dark ground shows it: water, shadow, and
vegetation in red light have reflectances of 0.00 to 0.06, so their DNs lie below 800 where the offset was subtracted,
and just above 1000 where it is still in. How the limits were found is told in
``docs/decisions/0016-offset-by-pixels.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Flags = npt.NDArray[np.bool_]

OFFSET = -1000.0
"""Offset of all bands in DN, in all products with offsets so far."""
QUANTIFICATION = 10000.0
"""DN per unit of reflectance."""

RED = SENTINEL2.true_colour[:2]
"""Bands that are looked at for dark pixels, the best first: red and green. In blue the correction of the atmosphere may
leave a fifth of the pixels below zero, which would look like an offset that was subtracted."""
INFRARED = SENTINEL2.near_infrared
"""Bands that tell vegetation, the best first."""
CLASSES = SENTINEL2.classification or ""
"""The raster with scene classes."""

LEAST_PIXELS = 1000
"""Valid pixels without which nothing is decided."""
BELOW = 800
"""DN that dark pixels lie below where the offset was subtracted: a reflectance of -0.02 where it is still in."""
LEAST_BELOW = 0.02
"""Share of valid pixels below `BELOW` from which the offset was subtracted."""
FLOOR = 900
"""DN that next to no pixel lies below where the offset is still in: a reflectance of -0.01."""
MOST_BELOW = 0.001
"""Share of valid pixels below `FLOOR` up to which the offset may still be in."""
DARKEST = 1200
"""DN that the darkest `MOST_BELOW` of the valid pixels lie below where the offset is still in."""
GREEN = 2000
"""DN that near infrared lies above red in vegetation; the offset cancels in the difference."""
LEAST_GREEN = (300, 0.005)
"""Pixels of vegetation, and their share in the valid ones, without which they do not decide."""
GREEN_BELOW = {0.05: 1350, 0.5: 1800}
"""Quantile -> DN of red that it lies below in vegetation where the offset is still in."""
_RIM = 2  # pixels beside those without data that a smaller picture may have mixed with them
_ON_LAND = [SENTINEL2.classes.index(name) for name in ("vegetation", "bare")]


class Verdict(StrEnum):
    """State of the offset in digital numbers."""

    SUBTRACTED = "subtracted"
    """The provider has subtracted it: DN / 10000 is the reflectance, and what was negative is lost."""
    INCLUDED = "included"
    """It is still in, as ESA delivers them."""
    UNDECIDED = "undecided"
    """It cannot be told."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What pixels show of the offset."""

    verdict: Verdict
    """The state they prove."""
    dark_share: Mapping[str, float]
    """Band -> share of its valid pixels below 1000, of the bands in `RED` that were given."""
    pixels: int
    """Valid pixels that were looked at: those of the first band in `RED`, away from pixels without data."""
    more_may_decide: bool = False
    """Whether the pixels may be of vegetation with the offset still in, which near infrared and scene classes tell."""


def look(
    bands: Mapping[str, Array], nodata: int = SENTINEL2.nodata, saturated: int | None = SENTINEL2.saturated
) -> Evidence:
    """Look at the pixels of one product.

    A wrong verdict is worse than none: clouds, snow, sand and sea without dark pixels give none.

    Parameters
    ----------
    bands
        Name -> (rows, columns), whole rasters or smaller pictures of them: digital numbers of a band of `RED`, and on
        the same pixels those of a band of `INFRARED` and the scene classes, called `CLASSES`. Others are not used.
    nodata, saturated
        DNs of pixels without a measurement; None where there is none.
    """
    values = {
        name: bands[name][away_from_gaps(_valid(bands[name], nodata, saturated))] for name in RED if name in bands
    }
    shares = {name: _share(found < -OFFSET) for name, found in values.items()}
    name, dark = next(iter(values.items()), ("", np.zeros(0, np.uint16)))
    verdict, more = Verdict.UNDECIDED, False
    if dark.size >= LEAST_PIXELS:
        if _share(dark < BELOW) >= LEAST_BELOW:
            verdict = Verdict.SUBTRACTED
        elif _share(dark < FLOOR) <= MOST_BELOW and np.quantile(dark, MOST_BELOW) <= DARKEST:
            red, classes = bands[name], bands.get(CLASSES)
            infrared = next((bands[b] for b in INFRARED if b in bands and bands[b].shape == red.shape), None)
            if infrared is None or classes is None or classes.shape != red.shape:
                more = True
            else:
                inner = away_from_gaps(_valid(red, nodata, saturated) & _valid(infrared, nodata, saturated))
                green = red[inner & np.isin(classes, _ON_LAND) & (infrared.astype(np.int32) - red >= GREEN)]
                if _is_dark_green(green, dark.size):
                    verdict = Verdict.INCLUDED
    return Evidence(verdict, shares, dark.size, more)


def _is_dark_green(red: Array, pixels: int) -> bool:
    """Whether there is enough vegetation, and as dark in red as it is with the offset still in."""
    least, share = LEAST_GREEN
    enough = red.size >= max(least, share * pixels)
    return enough and all(bool(np.quantile(red, at) < limit) for at, limit in GREEN_BELOW.items())


def _valid(values: Array, nodata: int, saturated: int | None) -> Flags:
    """Whether pixels have a measurement, (rows, columns)."""
    valid: Flags = values != nodata
    return valid if saturated is None else valid & (values != saturated)


def away_from_gaps(valid: Flags) -> Flags:
    """Whether pixels are valid and have no invalid one near; smaller pictures mix both along the edges of a swath."""
    for axis in (0, 1):
        whole = valid.copy()
        for step in range(1, _RIM + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            whole[tuple(behind)] &= valid[tuple(ahead)]
            whole[tuple(ahead)] &= valid[tuple(behind)]
        valid = whole
    return valid


def _share(flags: Flags) -> float:
    """Share of flags that are set, 0 where there are none."""
    return float(flags.mean()) if flags.size else 0.0
