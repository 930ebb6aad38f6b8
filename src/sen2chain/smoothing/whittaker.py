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

from sen2chain.jit import helper, kernel

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Days, Floats, Ints, Observations

LAMBDAS = tuple(float(10 ** (k / 2)) for k in range(2, 15))
"""From 10 to 10 million in half powers of ten. With a full observation each 5 days they halve waves of 17 days to
530 days' length."""
LANES = 16
"""Lambdas that are worked on side by side, the last one as often as there is room: a processor divides 4 or 8 numbers
at a time, and steps from day to day wait for each other, those of several lambdas do not."""
D, E, F, Z = range(0, 4 * LANES, LANES)
"""Where the two factors, with one and two days between, and the solution of each lambda begin in the row of a day."""
ROW = 4 * LANES
"""Numbers of a day. Rows lie in one array of one axis, so that the compiler sees that they do not overlap."""


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
        np.pad(np.array(LAMBDAS), (0, LANES - len(LAMBDAS)), "edge"), out,
    )  # fmt: skip
    return out


@helper
def _forward(weight: Floats, right: Floats, lambdas: Floats, rows: Floats) -> None:
    """Factor W + lambda D'D = L diag(d) L', L with ones on its diagonal and e and f below it, and solve L z = right.

    `rows` begins with two days of zeros, so that the first days need no rule of their own. At least 3 days.
    """
    n = weight.size
    for i in range(n):
        # Rows of D'D: 1 5 6 6 ... 6 5 1 on the diagonal, -2 -4 -4 ... -4 -2 beside it, then 1.
        inside = min(i, n - 1 - i, 2)
        on = 1.0 if inside == 0 else 5.0 if inside == 1 else 6.0
        if n == 3 and i == 1:
            on = 4.0
        inside = min(i, n - 2 - i)
        beside = 0.0 if inside < 0 else -2.0 if inside == 0 else -4.0
        far = 1.0 if i < n - 2 else 0.0
        w, r = weight[i], right[i]
        days = rows[i * ROW : (i + 3) * ROW]  # the day before yesterday, yesterday, and the day itself
        for k in range(LANES):
            e1, f2 = days[ROW + E + k], days[F + k]
            d = w + lambdas[k] * on - days[ROW + D + k] * e1 * e1 - days[D + k] * f2 * f2
            days[2 * ROW + D + k] = d
            days[2 * ROW + E + k] = (lambdas[k] * beside - days[ROW + D + k] * e1 * days[ROW + F + k]) / d
            days[2 * ROW + F + k] = lambdas[k] * far / d
            days[2 * ROW + Z + k] = r - e1 * days[ROW + Z + k] - f2 * days[Z + k]


@helper
def _backward(weight: Floats, rows: Floats, inverse: Floats, s: Floats) -> None:
    """Solve diag(d) L' z = z, and find the diagonal of the inverse of what was factored on days with observations.

    M. F. Hutchinson and F. R. de Hoog 1985, https://doi.org/10.1007/BF01389878.
    """
    n = weight.size
    rows[(n + 2) * ROW : (n + 4) * ROW] = 0.0
    inverse[:] = 0.0  # at (i + 1, i + 1), (i + 2, i + 2) and (i + 1, i + 2)
    for i in range(n - 1, -1, -1):
        days = rows[(i + 2) * ROW : (i + 5) * ROW]  # the day, tomorrow, and the day after
        for k in range(LANES):
            d, e, f = days[D + k], days[E + k], days[F + k]
            days[Z + k] = days[Z + k] / d - e * days[ROW + Z + k] - f * days[2 * ROW + Z + k]
            near, far, beside = inverse[k], inverse[LANES + k], inverse[2 * LANES + k]
            first = -e * near - f * beside
            second = -e * beside - f * far
            inverse[k] = 1.0 / d - e * first - f * second
            inverse[LANES + k] = near
            inverse[2 * LANES + k] = first
        if weight[i] > 0:
            s[i * LANES : (i + 1) * LANES] = inverse[:LANES]


@helper
def _best(day: Ints, value: Floats, weight: Floats, rows: Floats, s: Floats) -> int:
    """Find the lambda with the least weighted squares of the errors of each observation when it is left out."""
    total = np.zeros(LANES)
    for i in range(day.size):
        y, w, at = value[i], weight[i], day[i] - day[0]
        now, own = rows[(at + 2) * ROW : (at + 3) * ROW], s[at * LANES : (at + 1) * LANES]
        for k in range(LANES):
            error = (y - now[Z + k]) / max(1.0 - w * own[k], 1e-6)
            total[k] += w * error * error
    least, best = np.inf, 0
    for k in range(LANES):
        if total[k] < least:
            least, best = total[k], k
    return best


@kernel("void(int64[::1], int64[::1], float64[::1], float64[::1], int64[::1], int64[::1], float64[::1], float64[::1])")
def _fit(
    starts: Ints, day: Ints, value: Floats, weight: Floats, at_starts: Ints, at: Ints, lambdas: Floats, out: Floats
) -> None:
    """Fill `out`, which holds NaN, with the values at days `at`."""
    longest = 0
    for g in range(starts.size - 1):
        if starts[g + 1] > starts[g]:
            longest = max(longest, day[starts[g + 1] - 1] - day[starts[g]] + 1)
    rows, s, inverse = np.zeros((longest + 4) * ROW), np.empty(longest * LANES), np.empty(3 * LANES)
    summed, right = np.empty(longest), np.empty(longest)
    for g in range(starts.size - 1):
        a, b = starts[g], starts[g + 1]
        if a == b:
            continue
        n = day[b - 1] - day[a] + 1
        summed[:n], right[:n] = 0.0, 0.0
        for i in range(a, b):
            summed[day[i] - day[a]] += weight[i]
            right[day[i] - day[a]] += weight[i] * value[i]
        best = 0
        if n < 3:  # nothing to be straight over; both days have observations
            for i in range(n):
                rows[(i + 2) * ROW + Z] = right[i] / summed[i]
        else:
            _forward(summed[:n], right[:n], lambdas, rows)
            _backward(summed[:n], rows, inverse, s)
            best = _best(day[a:b], value[a:b], weight[a:b], rows, s)
        for j in range(at_starts[g], at_starts[g + 1]):
            out[j] = rows[(min(max(at[j] - day[a], 0), n - 1) + 2) * ROW + Z + best]
