"""Our own smoothing, against scipy and numpy and against curves that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from benchmarks.smoothing import CASES, compare
from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.smoothing import METHODS, Smoother, check_any_smoothed, harmonic, savgol, whittaker
from sen2chain.smoothing.goodness import errors_of, folds
from sen2chain.smoothing.observations import Days, Observations, offsets
from sen2chain.smoothing.outliers import outliers

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FIRST_DAY = 18000


def rows(day: Any, value: Any, *, fid: int = 0, count: Any = 100, nodata: Any = 0, hour: int = 10) -> pd.DataFrame:
    """Compiled rows of one feature; days are counted from 2019-04-14."""
    date = (FIRST_DAY + np.asarray(day)).astype("datetime64[D]").astype("datetime64[s]") + np.timedelta64(hour, "h")
    return pd.DataFrame({
        "date": date, "fid": fid, "tile": "32TPS", "count": count, "nodata": nodata, "mean": np.asarray(value) * 10000
    })  # fmt: skip


def observed(day: Any, value: Any, weight: Any = 1.0) -> Observations:
    day = np.asarray(day, np.int64)
    weight = np.broadcast_to(np.asarray(weight, float), day.shape).copy()
    return Observations(np.array([0, len(day)]), day, np.asarray(value, float), weight)


def asked(day: Any) -> Days:
    return Days(np.array([0, len(day)]), np.asarray(day, np.int64))


def gappy(seed: int, n: int = 80, share: float = 0.5) -> tuple[npt.NDArray[np.int64], Floats]:
    """Days of the grid, some missing, and noisy values of a season."""
    rng = np.random.default_rng(seed)
    day = 5 * np.flatnonzero((rng.random(n) < share) | (np.arange(n) % (n - 1) == 0)).astype(np.int64)
    return day, 0.5 - 0.3 * np.cos(2 * np.pi * day / 365) + rng.normal(0, 0.03, len(day))


# --- savgol


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 5), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_on_a_whole_grid_savgol_is_scipys_filter_ends_included(seed: int, half: int, order: int, more: int) -> None:
    window = 2 * half + 1
    order = min(order, window - 1)
    value = np.random.default_rng(seed).uniform(-1, 1, window + more)
    day = 5 * np.arange(len(value))
    found = savgol.fit(observed(day, value), asked(day), window, order)
    assert found == pytest.approx(savgol_filter(value, window, order, mode="interp"), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_with_gaps_savgol_is_scipys_filter_of_the_interpolated_series(seed: int) -> None:
    day, value = gappy(seed)
    grid = np.arange(0, day[-1] + 1, 5)
    found = savgol.fit(observed(day, value), asked(grid), 11, 3)
    assert found == pytest.approx(savgol_filter(np.interp(grid, day, value), 11, 3), abs=1e-12)


def test_savgol_fits_every_observation_of_the_window() -> None:
    rng = np.random.default_rng(3)
    day = np.sort(rng.choice(100, 60, replace=False))
    assert np.diff(day).max() < 8, "no gap to fill"
    value = rng.normal(size=60)
    for at in (40, 47, 53):
        near = np.abs(day - at) <= 27.5
        expected = np.polynomial.Polynomial.fit(day[near], value[near], 3)(at)
        assert savgol.fit(observed(day, value), asked([at]), 11, 3) == pytest.approx(expected, abs=1e-12)


def test_savgol_keeps_polynomials_of_its_order() -> None:
    day = np.sort(np.random.default_rng(4).choice(200, 150, replace=False))
    curve = np.polynomial.Polynomial([0.3, 2e-3, -4e-5, 1.2e-7])
    every = np.arange(day[0], day[-1] + 1)
    assert savgol.fit(observed(day, curve(day)), asked(every), 11, 3) == pytest.approx(curve(every), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_savgol_stays_near_the_observations_whatever_the_gaps(seed: int, share: float, order: int) -> None:
    rng = np.random.default_rng(seed)
    day = np.flatnonzero(rng.random(900) < share * rng.random(900) ** 4)
    day = np.concatenate([[0], day, [900]])
    value = rng.uniform(0, 1, len(day))
    found = savgol.fit(observed(day, value), asked(np.arange(901)), 11, order)
    # On a grid the sizes of the weights of such filters add up to 1.77 at most, which is 0.89 here; dates that are
    # not evenly spaced cost a little more. A polynomial through the observations alone reaches thousands.
    assert np.abs(found - 0.5).max() < 1.5


def test_across_a_long_gap_savgol_is_the_straight_line() -> None:
    day = np.concatenate([np.arange(0, 60, 5), np.arange(300, 360, 5)])
    value = np.where(day < 100, 0.2, 0.8)
    found = savgol.fit(observed(day, value), asked([100, 150, 250]), 11, 3)
    assert found == pytest.approx(np.interp([100, 150, 250], day, value), abs=1e-12)


def test_few_days_and_days_outside() -> None:
    for fit in (lambda o, d: savgol.fit(o, d, 5, 4), whittaker.fit, harmonic.fit):
        assert fit(observed([7, 7, 7], [1, 2, 3]), asked([0, 7, 90])) == pytest.approx([2, 2, 2])
        pair = fit(observed([7, 8], [1, 3]), asked([0, 7, 8, 90]))
        assert (pair[0], pair[3]) == (pair[1], pair[2])
        nothing = fit(observed([], []), asked([1, 2]))
        assert np.isnan(nothing).all()


# --- whittaker


def dense(day: Any, value: Floats, weight: Floats, lam: float) -> tuple[Floats, Floats]:
    """Smooth with full matrices; also the errors of leaving out each observation, by doing it."""
    n = day[-1] - day[0] + 1
    penalty = lam * np.diff(np.eye(n), 2, axis=0).T @ np.diff(np.eye(n), 2, axis=0)

    def solve(kept: Any) -> Floats:
        w, right = np.zeros(n), np.zeros(n)
        np.add.at(w, day[kept] - day[0], weight[kept])
        np.add.at(right, day[kept] - day[0], weight[kept] * value[kept])
        return np.linalg.solve(np.diag(w) + penalty, right).astype(np.float64)

    every = np.arange(len(day))
    errors = [value[i] - solve(every != i)[day[i] - day[0]] for i in every]
    return solve(every >= 0), np.array(errors)


@pytest.mark.parametrize("seed", range(4))
def test_whittaker_is_the_dense_solution_with_the_lambda_of_least_left_out_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 150, 30))  # some days twice
    value = np.sin(day / rng.uniform(5, 40)) + rng.normal(0, rng.uniform(0.05, 0.5), 30)
    weight = rng.uniform(0.3, 1, 30)
    fits = [dense(day, value, weight, lam) for lam in whittaker.LAMBDAS]
    best = int(np.argmin([(weight * errors**2).sum() for _, errors in fits]))
    found = whittaker.fit(observed(day, value, weight), asked(np.arange(day[0], day[-1] + 1)))
    assert found == pytest.approx(fits[best][0], abs=1e-6)


def layers(seed: int) -> tuple[Observations, Days]:
    """Features of all kinds beside each other: gaps, days twice, few dates, none, constant and rounded values."""
    rng = np.random.default_rng(seed)
    days, values = [], []
    for k in range(20):
        span = int(rng.choice([1, 2, 3, 4, 60, 200, 900]))
        day = FIRST_DAY + np.sort(rng.integers(0, span, 0 if k == 7 else rng.integers(1, 40)))
        season = 0.5 + 0.3 * np.sin(day / 58)
        days.append(day)
        values.append((
            season + rng.normal(0, 0.1, len(day)), np.full(len(day), 0.3), np.round(rng.random(len(day)), 1), day * 0.01
        )[k % 4])  # fmt: skip
    everywhere = [np.arange(day[0] - 3, day[-1] + 4) if len(day) else FIRST_DAY + np.arange(2) for day in days]
    weight = rng.choice([0.05, 0.4, 1.0], sum(map(len, days)))
    return (
        Observations(offsets(np.array([len(d) for d in days])), np.concatenate(days), np.concatenate(values), weight),
        Days(offsets(np.array([len(d) for d in everywhere])), np.concatenate(everywhere)),
    )


def one_by_one(fit: Any, observations: Observations, days: Days) -> Floats:
    """Call a fit of one feature for each."""
    out = np.full(len(days.day), np.nan)
    for f in range(observations.features):
        here, there = (slice(*x.starts[f : f + 2]) for x in (observations, days))
        day = observations.day[here]
        if len(day):
            asked = np.clip(days.day[there], day[0], day[-1])
            out[there] = fit(day, observations.value[here], observations.weight[here], asked)
    return out


def by_leverage(day: Any, value: Floats, weight: Floats, asked: Any) -> Floats:
    """Smooth with full matrices, and choose lambda as the documentation says."""
    at, n = day - day[0], day[-1] - day[0] + 1
    w, right = np.bincount(at, weight, n), np.bincount(at, weight * value, n)
    least, best = np.inf, right / np.where(w > 0, w, 1)
    for lam in whittaker.LAMBDAS if n > 2 else ():
        inverse = np.linalg.inv(np.diag(w) + lam * np.diff(np.eye(n), 2, axis=0).T @ np.diff(np.eye(n), 2, axis=0))
        z = inverse @ right
        errors = (weight * ((value - z[at]) / np.maximum(1 - weight * inverse[at, at], 1e-6)) ** 2).sum()
        if errors < least:
            least, best = errors, z
    found: Floats = best[asked - day[0]]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_whittaker_of_many_features_is_that_of_each(seed: int) -> None:
    observations, days = layers(seed)
    short = np.isin(observations.feature, np.flatnonzero(np.diff(days.starts) < 150))  # full matrices take their time
    observations = observations.where(short)
    want = one_by_one(by_leverage, observations, days)
    assert whittaker.fit(observations, days) == pytest.approx(want, abs=1e-6, nan_ok=True)


def test_whittaker_of_three_and_four_days_and_of_straight_lines() -> None:
    for day in ([0, 1, 2], [0, 2], [0, 1, 3], [0, 1, 2, 3, 400]):
        found = whittaker.fit(observed(day, np.array(day) * 0.1 + 1), asked(day))
        assert found == pytest.approx(np.array(day) * 0.1 + 1, abs=1e-8)


def test_half_of_a_wave_is_left_at_the_length_the_docs_name() -> None:
    # With one observation a day of weight w the response is 1 / (1 + lambda (2 sin(pi / P))^4 / w).
    for lam, length in ((10, 16.7), (1e7, 528.3)):
        assert 1 / (1 + lam * (2 * np.sin(np.pi / length)) ** 4 / 0.2) == pytest.approx(0.5, abs=0.01)


# --- harmonic


def yearly(day: Any) -> Floats:
    t = 2 * np.pi * (np.asarray(day) + FIRST_DAY) / 365.25
    found: Floats = 0.5 + 0.2 * np.cos(t) - 0.1 * np.sin(t) + 0.05 * np.cos(2 * t) + 0.03 * np.sin(2 * t)
    return found


def plain_harmonic(day: Any, value: Floats, weight: Floats, asked: Any) -> Floats:
    """The curve of one feature, as the documentation describes it, in the plainest way."""
    middle = 0.5 * (day[0] + day[-1])

    def basis(day: Any) -> Floats:
        angle = 2 * np.pi / 365.25 * day
        waves = [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
        return np.stack([np.ones(len(day)), *waves, (day - middle) / 365.25], axis=1)

    def size() -> int:
        for size in (6, 5, 3):
            if len(day) >= 2 * size and (size < 6 or day[-1] - day[0] >= 2 * 365.25):
                x, between = basis(day)[:, :size], basis(np.arange(day[0], day[-1] + 1, 5))[:, :size]
                normal = (x * weight[:, None]).T @ x
                if np.linalg.cond(normal) < 1e10:
                    variance = np.einsum("ij,ji->i", between, np.linalg.solve(normal, between.T))
                    if variance.max() <= 1:
                        return size
        return 1

    terms = size()
    x, w = basis(day)[:, :terms], weight
    for _ in range(6):
        coefficients = np.linalg.solve((x * w[:, None]).T @ x, (x * w[:, None]).T @ value)
        distance = np.abs(value - x @ coefficients) * np.sqrt(weight)
        limit = max(1.345 * 1.4826 * float(np.median(distance)), 1e-9)
        w = weight * limit / np.maximum(distance, limit)
    found: Floats = basis(asked)[:, :terms] @ coefficients
    return found


@pytest.mark.parametrize("seed", range(6))
def test_harmonic_of_many_features_is_that_of_each(seed: int) -> None:
    observations, days = layers(seed)
    # Three terms on three days repeated are so nearly dependent that rounding decides where half of the values lie.
    counts, spans = np.diff(observations.starts), np.diff(days.starts)
    observations = observations.where(np.isin(observations.feature, np.flatnonzero((counts < 6) | (spans > 20))))
    want = one_by_one(plain_harmonic, observations, days)
    assert harmonic.fit(observations, days) == pytest.approx(want, abs=1e-6, nan_ok=True)


def test_harmonic_finds_its_own_curves() -> None:
    day = np.sort(np.random.default_rng(5).choice(1200, 90, replace=False))
    every = np.arange(day[0], day[-1] + 1)
    for trend in (0.0, 1e-4):
        o = observed(day + FIRST_DAY, yearly(day) + trend * day)
        assert harmonic.fit(o, asked(every + FIRST_DAY)) == pytest.approx(yearly(every) + trend * every, abs=1e-9)


def test_odd_observations_hardly_move_harmonic() -> None:
    rng = np.random.default_rng(6)
    day = np.sort(rng.choice(1200, 150, replace=False))
    value = yearly(day) + rng.normal(0, 0.01, 150)
    value[rng.choice(150, 12, replace=False)] -= 0.5
    o = observed(day + FIRST_DAY, value)
    robust = harmonic.fit(o, asked(day + FIRST_DAY)) - yearly(day)
    basis = harmonic._terms(day + FIRST_DAY, np.full(150, FIRST_DAY + 600.0))
    plain = basis @ np.linalg.lstsq(basis, value, rcond=None)[0] - yearly(day)
    assert np.abs(robust).mean() < 0.3 * np.abs(plain).mean()


def test_harmonic_takes_fewer_terms_where_waves_would_swing() -> None:
    rng = np.random.default_rng(7)

    def size(day: Any) -> int:
        o = observed(day, np.zeros(len(day)))
        terms = harmonic._terms(o.day, np.full(len(day), o.day.mean()))
        return int(harmonic._sizes(o.starts, o.day[:1], o.day[-1:], terms, o.weight)[0])

    assert size(np.arange(0, 1000, 10)) == 6
    assert size(np.arange(0, 600, 10)) == 5, "too short for a trend"
    assert size(np.arange(0, 9 * 40, 40)) == 3, "9 observations are enough for 3 terms"
    assert size(np.arange(0, 50, 10)) == 1
    summers = np.concatenate([365 * y + np.arange(120, 240, 15) for y in range(3)])
    assert size(summers) < 5
    value = 0.6 + rng.normal(0, 0.05, len(summers))
    found = harmonic.fit(observed(summers, value), asked(np.arange(summers[0], summers[-1])))
    assert np.abs(found - 0.6).max() < 0.15


# --- outliers


def test_outliers_are_found_on_slopes_and_reported_only() -> None:
    day, value = gappy(8)
    odd = [10, 20, 30]
    value[odd] -= 0.25
    o = observed(day, value)
    assert np.flatnonzero(outliers(o, 11, 1e-4)).tolist() == odd
    found = Smoother()(rows(day, value), "NDVI")
    known = found.series[found.series["observed"].notna()].reset_index(drop=True)
    assert known["outlier"].to_numpy().nonzero()[0].tolist() == odd
    assert found.stats["outliers"].to_list() == [3]
    assert known["smoothed"].to_numpy() == pytest.approx(savgol.fit(o, asked(day), 11, 3), abs=1e-12)
    without = Smoother(use_outliers=False)(rows(day, value), "NDVI")
    others = np.delete(np.arange(len(day)), odd)
    expected = savgol.fit(observed(day[others], value[others]), asked(day), 11, 3)
    series = without.series
    assert series.loc[series["observed"].notna(), "smoothed"].to_numpy() == pytest.approx(expected, abs=1e-12)
    assert without.stats["RMSE"].iloc[0] > 0.03, "they still count as errors"


def test_outliers_by_the_definition() -> None:
    day, value = gappy(9)
    value[5] += 0.3
    expected, reach = np.full(len(day), np.nan), 55
    for i in range(len(day)):
        before = [j for j in range(max(i - 3, 0), i) if day[i] - day[j] <= reach]
        after = [j for j in range(i + 1, min(i + 4, len(day))) if day[j] - day[i] <= reach]
        if min(len(before), len(after)) >= 2:
            lines = [np.interp(day[i], day[[j, k]], value[[j, k]]) for j in before for k in after]
            expected[i] = abs(value[i] - np.median(lines))
    limit = 3.5 * 1.4826 * np.nanmedian(expected)
    assert outliers(observed(day, value), 11, 1e-4).tolist() == (expected > limit).tolist()


def test_on_a_constant_series_a_jump_is_an_outlier_and_rounding_is_not() -> None:
    value = np.full(20, 0.5)
    value[7], value[12] = 0.6, 0.5002
    assert np.flatnonzero(outliers(observed(5 * np.arange(20), value), 11, 1e-4)).tolist() == [7]


def test_observations_of_one_day_are_neighbours() -> None:
    found = outliers(observed([0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 9, 1, 1, 1]), 11, 1e-4)
    assert np.flatnonzero(found).tolist() == [4]


# --- the table


def test_rows_of_the_series() -> None:
    day = [0, 5, 5, 8, 20]
    table = pd.concat([rows(day[:2] + day[3:], [0.1, 0.2, 0.4, 0.5]), rows([5], [0.3], hour=11)])
    found = Smoother(window_length=3, polyorder=1)(table, "NDVI").series
    assert list(found) == ["date", "fid", "grid", "observed", "weight", "outlier", "smoothed"]
    assert found["date"].dtype == "datetime64[s]"
    assert found["date"].dt.strftime("%d %H").to_list() == [
        "14 10",
        "19 10",
        "19 11",
        "22 10",
        "24 00",
        "29 00",
        "04 10",
    ]
    assert found["grid"].to_list() == [1, 1, 0, 0, 1, 1, 1]
    assert found["observed"].fillna(-1).to_list() == pytest.approx([0.1, 0.2, 0.3, 0.4, -1, -1, 0.5])
    assert found["weight"].fillna(-1).to_list() == [1, 1, 1, 1, -1, -1, 1]
    assert found["outlier"].isna().tolist() == [False] * 4 + [True] * 2 + [False]
    assert found["smoothed"].notna().all()


def test_what_counts_as_observation() -> None:
    table = rows(
        5 * np.arange(6),
        [0.1, 0.2, np.nan, 0.4, 0.5, 0.6],
        count=[80, 25, 80, 20, 21, 80],
        nodata=[0, 60, 0, 59.9, 59, 40],
    )
    found = Smoother(window_length=3, polyorder=1)(table, "NDVI").series
    known = found[found["observed"].notna()]
    # nodata / largest count: 0, 75 %, (no mean), 74.9 %, 73.75 %, 50 %
    assert known["observed"].to_list() == pytest.approx([0.1, 0.4, 0.5, 0.6])
    assert known["weight"].to_list() == pytest.approx([1, 20 / 79.9, 21 / 80, 2 / 3])
    scaled = Smoother(window_length=3, polyorder=1, scale=1.0)(table.assign(mean=table["mean"] / 10000), "NDVI").series
    pd.testing.assert_frame_equal(scaled, found)


def test_rows_of_features_that_were_not_seen() -> None:
    table = pd.concat([
        rows([0, 5, 10], [0.1, 0.2, np.nan], count=[10, 10, 0], nodata=[0, 0, 10]),
        rows([0, 5], [np.nan, np.nan], fid=1, count=0, nodata=[0, 7]),
    ])  # fmt: skip
    found = Smoother(window_length=1, polyorder=0)(table, "NDVI")
    assert found.stats["observations"].to_list() == [2, 0]
    assert found.series["fid"].to_list() == [0, 0]


def layer(features: int = 12) -> pd.DataFrame:
    parts = []
    for fid in range(features):
        day, value = gappy(fid, n=60 + 3 * fid)
        nodata = np.random.default_rng(fid).integers(0, 70, len(day))
        parts.append(rows(day + fid % 7, value, fid=fid, count=100 - nodata, nodata=nodata))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_feature_does_not_depend_on_others_nor_on_the_order_of_rows(method: str) -> None:
    table, smoother = layer(), Smoother(method)
    whole = smoother(table.sample(frac=1, random_state=1), "NDVI")
    parts = [smoother(part, "NDVI") for part in (table[table["fid"] < 5], table[table["fid"] >= 5])]
    for name in ("series", "stats"):
        joined = pd.concat([getattr(part, name) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(getattr(whole, name), joined, check_exact=True)
    indexed = smoother(table.set_index("date"), "NDVI")
    pd.testing.assert_frame_equal(indexed.series, whole.series, check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_statistics_by_doing_it(method: str) -> None:
    day, value = gappy(11)
    smoother = Smoother(method)
    found = smoother(rows(day, value), "NDVI")
    [stats] = found.stats.to_dict("records")
    at = found.series.loc[found.series["observed"].notna(), "smoothed"].to_numpy()
    left_out = np.full(len(day), np.nan)
    for k in range(5):
        turn = np.arange(len(day)) % 5 == k
        fewer = smoother(rows(day[~turn], value[~turn]), "NDVI").series
        days = fewer["date"].to_numpy().astype("datetime64[D]").astype(int) - FIRST_DAY
        # All days of the grid are in the series; only the ends may have moved.
        left_out[turn] = np.interp(day[turn], days, fewer["smoothed"])
    same_grid = np.arange(len(day)) % 5 != 0  # without the first date the grid begins elsewhere
    values = smoother._left_out(observed(day + FIRST_DAY, value))
    assert values[same_grid] == pytest.approx(left_out[same_grid], abs=1e-9)
    for name, e in {"": at - value, "_left_out": values - value}.items():
        assert stats[f"MAE{name}"] == pytest.approx(np.abs(e).mean())
        assert stats[f"RMSE{name}"] == pytest.approx(np.sqrt((e**2).mean()))
        assert stats[f"MAPE{name}"] == pytest.approx(100 * np.abs(e / value).mean())
    assert (stats["indice"], stats["fid"], stats["observations"], stats["note"]) == ("NDVI", 0, len(day), "")
    assert list(found.stats) == [
        "indice", "fid", "observations", "outliers", "MAE", "RMSE", "MAPE", "MAE_left_out", "RMSE_left_out",
        "MAPE_left_out", "note",
    ]  # fmt: skip


def test_mape_leaves_out_values_near_nothing() -> None:
    found = errors_of(
        np.array([0.5, 0.001, 0.0, -0.2, 0.0]), np.array([0.6, 0.3, 0.3, -0.1, 1]), np.array([0, 0, 0, 0, 1]), 3
    )
    assert found["MAPE"].tolist() == pytest.approx([35.0, np.nan, np.nan], nan_ok=True)
    assert found["MAE"].tolist() == pytest.approx([0.19975, 1, np.nan], nan_ok=True)


def test_turns_are_interleaved_in_every_feature() -> None:
    o = Observations(np.array([0, 7, 7, 10]), np.arange(10), np.zeros(10), np.ones(10))
    assert folds(o).tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2]


# --- short series, refusals


@pytest.mark.parametrize("method", METHODS)
def test_short_features_are_noted_and_all_short_is_an_error(method: str) -> None:
    day, value = gappy(12)
    cloudy = rows([0, 5], [0.1, 0.2], fid=2, count=[10, 5], nodata=[90, 95])
    table = pd.concat([rows(day, value), rows(day[:9], value[:9], fid=1), cloudy])
    smoother = Smoother(method)
    found = smoother(table, "NDVI")
    assert found.stats["note"].to_list() == ["", "too short: 9 of 11 observations", "too short: 0 of 11 observations"]
    assert found.stats["MAE"].isna().tolist() == [False, True, True]
    short = found.series[found.series["fid"] == 1]
    assert short["observed"].notna().sum() == 9
    assert short[["smoothed", "outlier"]].isna().all(axis=None)
    assert not (found.series["fid"] == 2).any()
    alone = smoother(table[table["fid"] > 0], "NDVI")
    check_any_smoothed([found.stats, alone.stats], smoother)
    with pytest.raises(RequestError, match=r"window_length = 11 \(the longest series has 9\)"):
        check_any_smoothed([alone.stats], smoother)
    none = smoother(table[table["fid"] == 2], "NDVI")
    assert (len(none.series), len(none.stats)) == (0, 1)


def test_a_window_of_one_date() -> None:
    found = Smoother(window_length=1, polyorder=0)(rows([3], [0.4]), "NDVI")
    assert found.series["smoothed"].to_list() == pytest.approx([0.4])
    assert found.stats["MAE_left_out"].isna().all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window_length": 10}, "window_length is 10"), ({"window_length": -1}, "window_length is -1"),
        ({"window_length": True}, "window_length is True"), ({"window_length": 5.0}, "window_length is 5.0"),
        ({"polyorder": 11}, "polyorder is 11"), ({"polyorder": -1}, "polyorder is -1"),
        ({"covermax": 0}, "covermax is 0"), ({"covermax": float("nan")}, "covermax is nan"),
        ({"scale": -1}, "scale is -1"), ({"scale": "x"}, "scale is 'x'"), ({"covermax": None}, "covermax is None"),
    ],
)  # fmt: skip
def test_refusals(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        Smoother(**options)


def test_unknown_methods_and_rows_that_cannot_be_smoothed() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean whittaker"):
        Smoother("whitaker")
    with pytest.raises(RequestError, match="no column count, mean"):
        Smoother()(rows([0], [1]).drop(columns=["count", "mean"]), "NDVI")
    with pytest.raises(RequestError, match="no rows"):
        Smoother()(rows([], []), "NDVI")


def test_dates_with_a_zone_are_those_of_utc() -> None:
    plain = rows(5 * np.arange(20), np.linspace(0.2, 0.8, 20), hour=23)
    want = Smoother()(plain, "NDVI").series
    there = plain.assign(date=plain["date"].dt.tz_localize("UTC").dt.tz_convert("Indian/Reunion"))
    mixed = there.assign(date=[date.isoformat() for date in there["date"]])
    nullable = plain.astype({"count": "Int64", "nodata": "Int64", "mean": "Float64", "fid": "Int64"})
    for given_rows in (there, there.set_index("date"), mixed, nullable):
        pd.testing.assert_frame_equal(Smoother()(given_rows, "NDVI").series, want)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"date": "soon"}, "other things than dates"), ({"date": None}, "date of rows to smooth has empty values"),
        ({"fid": 0.5}, "fid of rows to smooth holds other things than whole numbers"),
        ({"fid": None}, "fid of rows"), ({"mean": "high"}, "mean of rows to smooth holds other things than numbers"),
        ({"count": 1j}, "count of rows"),
    ],
)  # fmt: skip
def test_columns_that_hold_other_things_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        Smoother()(rows(np.arange(20), np.ones(20)).assign(**change), "NDVI")
    for odd in (None, [1], {"date": 1}):
        with pytest.raises(RequestError, match=r"pass a pandas.DataFrame"):
            Smoother()(odd, "NDVI")  # type: ignore[arg-type]
    twice = rows(np.arange(20), np.ones(20))
    with pytest.raises(RequestError, match="several columns fid"):
        Smoother()(pd.concat([twice, twice[["fid"]]], axis=1), "NDVI")


# --- better than the original


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_savgol_is_closer_to_left_out_dates_than_the_original(case: Any, seed: int) -> None:
    found = compare(case, 15, seed, only=("original", "savgol"))
    for measure, error in found["savgol"].items():
        assert error < found["original"][measure], measure
