"""Savitzky-Golay on dates as they are: local polynomials through every observation, on the 5-day grid or not.

The value at a day is that of the polynomial of order `polyorder` that fits all observations within `window_length`
steps of 5 days around it best, in the sense of least squares. Where two observations are farther apart than a step and
a half, the line between them is put in as further points, about 5 days apart, before the polynomials are fitted. So
every window holds as many points as its order needs, evenly spread, and a polynomial cannot swing in a gap.

On a grid without gaps this is `scipy.signal.savgol_filter`, and with gaps that filter of the linearly interpolated
series, ends (``mode="interp"``) included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import helper, kernel
from sen2chain.smoothing.observations import STEP, offsets

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Days, Floats, Ints, Observations

SAME = 1e-10
"""Norm of a polynomial on nodes with x of size 1 below which it is zero on all of them: they are too few different
days for its order."""


def fit(observations: Observations, days: Days, window_length: int, polyorder: int) -> Floats:
    """Evaluate the smoothed curve.

    Parameters
    ----------
    observations
        What the curve is fitted to. Weights play no part, as in the filter that this generalises.
    days
        Where it is evaluated; a day outside its feature's observations takes the value at the nearest of them.
    window_length
        Width of the window in steps of 5 days, odd.
    polyorder
        Order of the polynomials.

    Returns
    -------
    numpy.ndarray
        (days,) float64, in the observations' unit; NaN for a feature without observations.
    """
    starts, day, value = _with_gaps_filled(observations)
    out = np.full(len(days.day), np.nan)
    _fit(starts, day, value, days.starts, days.day.astype(np.float64), window_length, polyorder, out)
    return out


def _with_gaps_filled(observations: Observations) -> tuple[Ints, Floats, Floats]:
    """Add equally spaced points, about 5 days apart, on the line across each gap; return starts, days and values."""
    day, value, feature = observations.day, observations.value, observations.feature
    if len(day) == 0:
        return observations.starts, day.astype(np.float64), value
    gap = np.where(np.diff(feature, append=-1) == 0, np.diff(day, append=day[-1]), 0)
    pieces = np.maximum((2 * gap + STEP) // (2 * STEP), 1)
    source = np.repeat(np.arange(len(day)), pieces)
    share = (np.arange(len(source)) - (np.cumsum(pieces) - pieces)[source]) / pieces[source]
    following = np.minimum(source + 1, len(day) - 1)
    counts = np.bincount(feature[source], minlength=observations.features)
    return (
        offsets(counts),
        day[source] + share * gap[source],
        # In this form a point of share 0 is the observation itself, to the last digit.
        value[source] + share * (value[following] - value[source]),
    )


@helper
def _local(x: Floats, y: Floats, first: int, last: int, at: float, order: int, basis: Floats) -> float:
    """Fit a polynomial to points ``first`` to ``last - 1`` and return its value at `at`.

    The polynomials that are orthonormal on the points are made one from the other by their recurrence of three terms,
    at the points and at `at` alike (G. E. Forsythe 1957, https://doi.org/10.1137/0105007), which needs no matrix and
    keeps its precision. `basis` is room for (3, points) numbers.
    """
    n = last - first
    middle, reach = 0.5 * (x[first] + x[last - 1]), max(0.5 * (x[last - 1] - x[first]), 1.0)
    at = (at - middle) / reach
    for i in range(n):
        basis[0, i], basis[1, i], basis[2, i] = 0.0, 1.0 / np.sqrt(n), (x[first + i] - middle) / reach
    before, now, norm, fitted = 0.0, 1.0 / np.sqrt(n), 0.0, 0.0
    for k in range(order + 1):
        share, shift = 0.0, 0.0
        for i in range(n):
            share += basis[1, i] * y[first + i]
            shift += basis[2, i] * basis[1, i] * basis[1, i]
        fitted += share * now
        if k + 1 >= n:
            break
        square = 0.0
        for i in range(n):
            following = (basis[2, i] - shift) * basis[1, i] - norm * basis[0, i]
            basis[0, i], basis[1, i] = basis[1, i], following
            square += following * following
        following = (at - shift) * now - norm * before
        norm = np.sqrt(square)
        if norm < SAME:
            break
        before, now = now, following / norm
        for i in range(n):
            basis[1, i] /= norm
    return fitted


@kernel("void(int64[::1], float64[::1], float64[::1], int64[::1], float64[::1], int64, int64, float64[::1])")
def _fit(starts: Ints, x: Floats, y: Floats, at_starts: Ints, at: Floats, window: int, order: int, out: Floats) -> None:
    """Fill `out`, which holds NaN, with the values at days `at`; the points of each feature ascend."""
    half, inner = 0.5 * STEP * window, STEP * (window // 2)
    basis = np.empty((3, np.diff(starts).max() if starts.size > 1 else 0))
    for f in range(starts.size - 1):
        a, b = starts[f], starts[f + 1]
        if a == b:
            continue
        points, low, high = x[a:b], x[a], x[b - 1]
        for j in range(at_starts[f], at_starts[f + 1]):
            day = min(max(at[j], low), high)
            # At the ends the last whole window is used, as mode="interp" of the filter does.
            centre = min(max(day, low + inner), high - inner) if high - low >= 2 * inner else 0.5 * (low + high)
            first = a + np.searchsorted(points, centre - half)
            last = a + np.searchsorted(points, centre + half, "right")
            out[j] = _local(x, y, first, last, day, order, basis)
