"""A yearly curve: mean, annual and semiannual wave, and a trend, fitted to all observations of a feature.

    z(t) = a0 + a1 cos(2 pi t) + b1 sin(2 pi t) + a2 cos(4 pi t) + b2 sin(4 pi t) + c t        t in years of 365.25 days

by weighted least squares (Z. Zhu and C. E. Woodcock 2014, https://doi.org/10.1016/j.rse.2014.01.011, use such models).
Short or gappy series get fewer terms. Observations far from the curve lose weight by the rule of P. J. Huber (1964,
https://doi.org/10.1214/aoms/1177703732).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.smoothing.observations import STEP

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Days, Floats, Ints, Observations

YEAR = 365.25
SIZES = (6, 5, 3, 1)
"""Numbers of terms that are tried: everything, no trend, no semiannual wave, the mean alone."""
TREND_FROM = 2 * YEAR
"""Days that a series must span for a trend: in a shorter one it cannot be told from the waves."""
PER_TERM = 2
"""Observations that each term needs."""
SINGULAR = 1e10
"""Condition of the normal equations from which their solution is not to be trusted."""
ROUNDS = 5
"""How often weights are adjusted; more changed nothing that is written."""
HUBER = 1.345
"""Distance from the curve, in standard deviations, from which an observation loses weight; for normal errors the
estimate is then 95 % as efficient as without."""
SMALLEST = 1e-9
"""Distance, in index units, that costs no weight even where most observations lie on the curve."""
TO_SIGMA = 1.4826
"""Standard deviation of normal errors in relation to the median of their sizes."""


def fit(observations: Observations, days: Days) -> Floats:
    """Evaluate the fitted curve.

    Parameters
    ----------
    observations
        What the curve is fitted to, with weights.
    days
        Where it is evaluated; a day outside its feature's observations takes the value at the nearest of them.

    Returns
    -------
    numpy.ndarray
        (days,) float64, in the observations' unit; NaN for a feature without observations.
    """
    out = np.full(len(days.day), np.nan)
    for f in range(observations.features):
        here = slice(observations.starts[f], observations.starts[f + 1])
        there = slice(days.starts[f], days.starts[f + 1])
        day = observations.day[here]
        if len(day):
            asked = np.clip(days.day[there], day[0], day[-1])
            out[there] = _curve(day, observations.value[here], observations.weight[here], asked)
    return out


def _basis(day: Ints, middle: float) -> Floats:
    """Values of all terms at these days, (days, 6)."""
    angle = 2 * np.pi / YEAR * day
    terms = np.ones((len(day), max(SIZES)))
    terms[:, 1], terms[:, 2] = np.cos(angle), np.sin(angle)
    terms[:, 3], terms[:, 4] = np.cos(2 * angle), np.sin(2 * angle)
    terms[:, 5] = (day - middle) / YEAR
    return terms


def _curve(day: Ints, value: Floats, weight: Floats, asked: Ints) -> Floats:
    """Fit one feature and evaluate."""
    middle = 0.5 * float(day[0] + day[-1])
    basis = _basis(day, middle)
    size = _size(day, weight, basis, _basis(np.arange(day[0], day[-1] + 1, STEP), middle))
    basis = basis[:, :size]
    coefficients = _solution(basis, weight, value)
    for _ in range(ROUNDS):
        # An observation of weight w has errors larger by 1 / sqrt(w).
        distance = np.abs(value - basis @ coefficients) * np.sqrt(weight)
        limit = max(HUBER * TO_SIGMA * float(np.median(distance)), SMALLEST)
        coefficients = _solution(basis, weight * limit / np.maximum(distance, limit), value)
    return _basis(asked, middle)[:, :size] @ coefficients


def _solution(basis: Floats, weight: Floats, value: Floats) -> Floats:
    weighted = basis * weight[:, None]
    return np.linalg.solve(weighted.T @ basis, weighted.T @ value).astype(np.float64)


def _size(day: Ints, weight: Floats, basis: Floats, between: Floats) -> int:
    """Find the most terms with which no value of the curve is less certain than one observation is.

    The variance of the curve at x, in relation to that of an observation of weight 1, is x' (X' W X)^-1 x. Where waves
    would swing in a season without observations it is large.
    """
    for size in SIZES[:-1]:
        if len(day) < PER_TERM * size or (size == max(SIZES) and day[-1] - day[0] < TREND_FROM):
            continue
        normal = (basis[:, :size] * weight[:, None]).T @ basis[:, :size]
        if np.linalg.cond(normal) < SINGULAR:
            x = between[:, :size]
            if np.einsum("ij,ji->i", x, np.linalg.solve(normal, x.T)).max() <= 1:
                return size
    return SIZES[-1]
