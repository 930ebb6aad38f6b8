"""Outliers: observations that stand out from their neighbours; they are reported, and used in the fit by default.

An observation is compared with the lines between a neighbour before it and one after it, of which there are up to
three on each side: their median at its day follows growth and decline, and one odd neighbour does not move it. It is an
outlier where its distance from that median exceeds 3.5 times the spread of these distances over the series; the spread
is 1.4826 times their median, which is the standard deviation where errors are normal. That is F. R. Hampel's identifier
(1974, https://doi.org/10.1080/01621459.1974.10482962) with the limit of B. Iglewicz and D. C. Hoaglin (1993, How to
Detect and Handle Outliers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sen2chain.smoothing.observations import STEP, TO_SIGMA

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Bools, Floats, Observations

NEIGHBOURS = 3
FEWEST_NEIGHBOURS = 2
"""Neighbours on each side without which an observation is not tested: of two observations alone either may be the
odd one."""
LIMIT = 3.5


def outliers(observations: Observations, window_length: int, smallest: float) -> Bools:
    """Find the observations that stand out.

    Parameters
    ----------
    observations
        By feature and date.
    window_length
        Neighbours are at most so many steps of 5 days away.
    smallest
        Spread below which the values' own resolution hides differences, in their unit.

    Returns
    -------
    numpy.ndarray
        (observations,) bool. The first two and the last two of a feature, and others with fewer than two neighbours on
        one side, are not tested: False.
    """
    distance = np.abs(observations.value - _between_neighbours(observations, window_length * STEP))
    spread = TO_SIGMA * pd.Series(distance).groupby(observations.feature).transform("median").to_numpy()
    found: Bools = distance > LIMIT * np.maximum(spread, smallest)
    return found


def _between_neighbours(observations: Observations, reach: int) -> Floats:
    """Median of the lines between neighbours, at each observation; NaN where there are too few."""
    day, value, feature = observations.day, observations.value, observations.feature
    here = np.arange(len(day))
    sides = []
    for sign in (-1, 1):
        places = here[:, None] + sign * np.arange(1, NEIGHBOURS + 1)
        inside = np.clip(places, 0, len(day) - 1)
        known = (places == inside) & (feature[inside] == feature[:, None])
        known &= np.abs(day[inside] - day[:, None]) <= reach
        sides.append((day[inside], np.where(known, value[inside], np.nan), known.sum(axis=1)))
    (before, low, n_before), (after, high, n_after) = sides
    span = (after[:, None, :] - before[:, :, None]).astype(np.float64)
    passed = (day[:, None] - before).astype(np.float64)[:, :, None]
    # All three on one day: the middle between them.
    share = np.divide(passed, span, out=np.full(span.shape, 0.5), where=span > 0)
    lines = low[:, :, None] + share * (high[:, None, :] - low[:, :, None])
    # Sorting puts unknown lines last, and the median is that of the known ones before them.
    lines = np.sort(lines.reshape(len(day), NEIGHBOURS**2), axis=1)
    n = np.maximum(n_before * n_after, 1)
    median = 0.5 * (lines[here, (n - 1) // 2] + lines[here, n // 2])
    return np.where(np.minimum(n_before, n_after) >= FEWEST_NEIGHBOURS, median, np.nan)
