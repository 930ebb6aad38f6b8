"""A yearly curve: mean, annual and semiannual wave, and a trend, fitted to all observations of a feature.

    z(t) = a0 + a1 cos(2 pi t) + b1 sin(2 pi t) + a2 cos(4 pi t) + b2 sin(4 pi t) + c t        t in years of 365.25 days

by weighted least squares (Z. Zhu and C. E. Woodcock 2014, https://doi.org/10.1016/j.rse.2014.01.011, use such models).
Short or gappy series get fewer terms. Observations far from the curve lose weight by the rule of P. J. Huber (1964,
https://doi.org/10.1214/aoms/1177703732).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import kernel
from sen2chain.smoothing.observations import STEP, TO_SIGMA

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
_ANGLE = 2 * np.pi / YEAR * np.arange(4 * YEAR)
_WAVES = np.stack([np.cos(_ANGLE), np.sin(_ANGLE), np.cos(2 * _ANGLE), np.sin(2 * _ANGLE)], axis=1)
"""Waves of every day, (1461, 4): after four years they are the same."""


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
    starts, counts = observations.starts, np.diff(observations.starts)
    if not len(observations.day):
        return np.full(len(days.day), np.nan)
    first = observations.day[np.minimum(starts[:-1], len(observations.day) - 1)]
    last = observations.day[starts[1:] - 1]
    middle = (0.5 * (first + last)).astype(np.float64)
    terms = _terms(observations.day, middle[observations.feature])
    size = _sizes(starts, first, last, terms, observations.weight)
    terms *= np.arange(max(SIZES)) < size[observations.feature, None]
    weight = observations.weight
    coefficients = _solutions(starts, size, terms, weight, observations.value)
    for _ in range(ROUNDS):
        weight = np.empty_like(weight)
        _adjust(starts, terms, observations.weight, observations.value, coefficients, weight)
        coefficients = _solutions(starts, size, terms, weight, observations.value)
    feature = np.repeat(np.arange(len(counts)), np.diff(days.starts))
    asked = _terms(np.clip(days.day, first[feature], last[feature]), middle[feature])
    return np.where(counts[feature] > 0, np.einsum("ij,ij->i", asked, coefficients[feature]), np.nan)


def _terms(day: Ints, middle: Floats) -> Floats:
    """Values of all terms at these days, (days, 6); `middle` of each is where the trend is 0."""
    terms = np.ones((len(day), max(SIZES)))
    terms[:, 1:5] = _WAVES[day % len(_WAVES)]
    terms[:, 5] = (day - middle) / YEAR
    return terms


def _sizes(starts: Ints, first: Ints, last: Ints, terms: Floats, weight: Floats) -> Ints:
    """Find the most terms with which no value of the curve is less certain than one observation is.

    The variance of the curve at x, in relation to that of an observation of weight 1, is x' (X' W X)^-1 x. Where waves
    would swing in a season without observations it is large. Days are looked at every `STEP`.
    """
    counts = np.diff(starts)
    found = np.where(counts > 0, SIZES[-1], 0)
    normal, _ = _equations(starts, terms, weight, weight)
    open_ = np.ones(len(counts), dtype=bool)
    for size in SIZES[:-1]:
        asked = open_ & (counts >= PER_TERM * size)
        if size == max(SIZES):
            asked &= last - first >= TREND_FROM
        place = np.flatnonzero(asked)
        place = place[np.linalg.cond(normal[place, :size, :size]) < SINGULAR]
        variance, inverse = np.empty(len(place)), np.linalg.inv(normal[place, :size, :size]).astype(np.float64)
        _largest_variance(first[place], last[place], inverse, _WAVES, variance)
        place = place[variance <= 1]
        found[place], open_[place] = size, False
    return found


def _solutions(starts: Ints, size: Ints, terms: Floats, weight: Floats, value: Floats) -> Floats:
    """Solve the normal equations of every feature; coefficients of terms that it does not have are 0."""
    normal, right = _equations(starts, terms, weight, value)
    place = np.arange(max(SIZES))
    normal[:, place, place] += place >= size[:, None]
    return np.linalg.solve(normal, right[:, :, None])[:, :, 0].astype(np.float64, copy=False)


def _equations(starts: Ints, terms: Floats, weight: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Sum up X' W X, (features, 6, 6), and X' W y, (features, 6)."""
    normal = np.zeros((len(starts) - 1, terms.shape[1], terms.shape[1]))
    right = np.zeros(normal.shape[:2])
    _sum_up(starts, terms, weight, value, normal, right)
    return normal, right


@kernel("void(int64[::1], float64[:, ::1], float64[::1], float64[::1], float64[:, :, ::1], float64[:, ::1])")
def _sum_up(starts: Ints, terms: Floats, weight: Floats, value: Floats, normal: Floats, right: Floats) -> None:
    """Fill both sides of the normal equations, which hold 0."""
    for g in range(starts.size - 1):
        for i in range(starts[g], starts[g + 1]):
            for j in range(terms.shape[1]):
                weighted = weight[i] * terms[i, j]
                right[g, j] += weighted * value[i]
                for k in range(j + 1):
                    normal[g, j, k] += weighted * terms[i, k]
        for j in range(terms.shape[1]):
            for k in range(j):
                normal[g, k, j] = normal[g, j, k]


@kernel("void(int64[::1], float64[:, ::1], float64[::1], float64[::1], float64[:, ::1], float64[::1])")
def _adjust(starts: Ints, terms: Floats, weight: Floats, value: Floats, coefficients: Floats, adjusted: Floats) -> None:
    """Take weight from observations that are far from the curve."""
    for g in range(starts.size - 1):
        a, b = starts[g], starts[g + 1]
        if a == b:
            continue
        distance = np.empty(b - a)
        for i in range(a, b):
            curve = 0.0
            for k in range(terms.shape[1]):
                curve += terms[i, k] * coefficients[g, k]
            # An observation of weight w has errors larger by 1 / sqrt(w).
            distance[i - a] = abs(value[i] - curve) * np.sqrt(weight[i])
        limit = max(HUBER * TO_SIGMA * np.median(distance), SMALLEST)
        for i in range(a, b):
            adjusted[i] = weight[i] * limit / max(distance[i - a], limit)


@kernel("void(int64[::1], int64[::1], float64[:, :, ::1], float64[:, ::1], float64[::1])")
def _largest_variance(first: Ints, last: Ints, inverse: Floats, waves: Floats, out: Floats) -> None:
    """Find the largest x' (X' W X)^-1 x between the first and the last day of each feature."""
    size = inverse.shape[1]
    x = np.ones(max(SIZES))
    for g in range(first.size):
        largest, middle = 0.0, 0.5 * (first[g] + last[g])
        for day in range(first[g], last[g] + 1, STEP):
            x[1:5] = waves[day % waves.shape[0]]
            x[5] = (day - middle) / YEAR
            variance = 0.0
            for j in range(size):
                along = 0.0
                for k in range(size):
                    along += inverse[g, j, k] * x[k]
                variance += x[j] * along
            largest = max(largest, variance)
        out[g] = largest
