"""Whittaker's smoother on a daily grid: close to the observations, and as straight as they allow.

On the days from a feature's first observation to its last, z minimises

    sum of w (y - z)^2 over the observations  +  lambda * sum of (z[d] - 2 z[d + 1] + z[d + 2])^2 over the days

(P. H. C. Eilers 2003, https://doi.org/10.1021/ac034173t). Days without observation have no weight, so irregular dates
and gaps need no other rule: across a gap z is a cubic. lambda is the one of `LAMBDAS` with the least squares of the
errors that leaving out one observation after the other would give; they follow from one fit without leaving anything
out, y - z divided by 1 - h, where h is the derivative of z by y on that day (the same paper).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.compiled import helper, kernel

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Days, Floats, Ints, Observations

LAMBDAS = tuple(float(10 ** (k / 2)) for k in range(2, 15))
"""From 10 to 10 million in half powers of ten. With a full observation each 5 days they halve waves of 17 days to
530 days' length."""


def fit(observations: Observations, days: Days) -> Floats:
    """Evaluate the smoothed curve.

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
    _fit(
        observations.starts, observations.day, observations.value, observations.weight, days.starts, days.day,
        np.array(LAMBDAS), out,
    )  # fmt: skip
    return out


@helper
def _factor(weight: Floats, lam: float, d: Floats, e: Floats, f: Floats) -> None:
    """Factor W + lambda D'D = L diag(d) L', L with ones on its diagonal and e and f below it; n >= 3 days."""
    n = weight.size
    for i in range(n):
        # Rows of D'D: 1 5 6 6 ... 6 5 1 on the diagonal, -2 -4 -4 ... -4 -2 beside it, then 1.
        inside = min(i, n - 1 - i, 2)
        a = 1.0 if inside == 0 else 5.0 if inside == 1 else 6.0
        if n == 3 and i == 1:
            a = 4.0
        a = weight[i] + lam * a
        b = lam * (-2.0 if i in {0, n - 2} else -4.0)
        if i > 0:
            a -= d[i - 1] * e[i - 1] * e[i - 1]
            b -= d[i - 1] * e[i - 1] * f[i - 1]
        if i > 1:
            a -= d[i - 2] * f[i - 2] * f[i - 2]
        d[i] = a
        e[i] = b / a if i < n - 1 else 0.0
        f[i] = lam / a if i < n - 2 else 0.0


@helper
def _solve(right: Floats, d: Floats, e: Floats, f: Floats, z: Floats) -> None:
    """Solve with the factors."""
    n = right.size
    for i in range(n):
        z[i] = right[i]
        if i > 0:
            z[i] -= e[i - 1] * z[i - 1]
        if i > 1:
            z[i] -= f[i - 2] * z[i - 2]
    for i in range(n - 1, -1, -1):
        z[i] /= d[i]
        if i < n - 1:
            z[i] -= e[i] * z[i + 1]
        if i < n - 2:
            z[i] -= f[i] * z[i + 2]


@helper
def _inverse_diagonal(d: Floats, e: Floats, f: Floats, s: Floats) -> None:
    """Diagonal of the inverse of what was factored, from its last row on.

    M. F. Hutchinson and F. R. de Hoog 1985, https://doi.org/10.1007/BF01389878.
    """
    n = d.size
    near, far, beside = 0.0, 0.0, 0.0  # the inverse at (i + 1, i + 1), (i + 2, i + 2) and (i + 1, i + 2)
    for i in range(n - 1, -1, -1):
        one = -e[i] * near - f[i] * beside
        two = -e[i] * beside - f[i] * far
        s[i] = 1.0 / d[i] - e[i] * one - f[i] * two
        near, far, beside = s[i], near, one


@helper
def _left_out(day: Ints, value: Floats, weight: Floats, z: Floats, s: Floats) -> float:
    """Weighted squares of the errors of each observation when it is left out."""
    total = 0.0
    for i in range(day.size):
        error = (value[i] - z[day[i] - day[0]]) / max(1.0 - weight[i] * s[day[i] - day[0]], 1e-6)
        total += weight[i] * error * error
    return total


@helper
def _smooth(day: Ints, value: Floats, weight: Floats, lambdas: Floats) -> Floats:
    """Smooth one feature; return z of every day from its first to its last."""
    n = day[-1] - day[0] + 1
    summed, right = np.zeros(n), np.zeros(n)
    for i in range(day.size):
        summed[day[i] - day[0]] += weight[i]
        right[day[i] - day[0]] += weight[i] * value[i]
    z, best = np.empty(n), np.empty(n)
    if n < 3:  # nothing to be straight over; both days have observations
        for i in range(n):
            best[i] = right[i] / summed[i]
        return best
    d, e, f, s = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    least = np.inf
    for lam in lambdas:
        _factor(summed, lam, d, e, f)
        _solve(right, d, e, f, z)
        _inverse_diagonal(d, e, f, s)
        errors = _left_out(day, value, weight, z, s)
        if errors < least:
            least = errors
            best[:] = z
    return best


@kernel("void(int64[::1], int64[::1], float64[::1], float64[::1], int64[::1], int64[::1], float64[::1], float64[::1])")
def _fit(
    starts: Ints, day: Ints, value: Floats, weight: Floats, at_starts: Ints, at: Ints, lambdas: Floats, out: Floats
) -> None:
    """Fill `out`, which holds NaN, with the values at days `at`."""
    for g in range(starts.size - 1):
        a, b = starts[g], starts[g + 1]
        if a == b:
            continue
        z = _smooth(day[a:b], value[a:b], weight[a:b], lambdas)
        for j in range(at_starts[g], at_starts[g + 1]):
            out[j] = z[min(max(at[j] - day[a], 0), z.size - 1)]
