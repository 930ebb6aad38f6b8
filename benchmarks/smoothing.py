"""``python -m benchmarks.smoothing``: errors of each method of smoothing at left-out dates.

Synthetic series with known true values: forest, one crop, two crops; noise; clouds that the mask has missed; scattered
and long gaps; one orbit or two. Dates are left out in five random turns. The value of a method at a left-out date (on
the straight line between its smoothed dates) is compared with the observation and with the true value.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sen2chain.smoothing import METHODS, Smoother, smooth_original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

YEAR = 365
TURNS = 5


@dataclass(frozen=True)
class Case:
    """One kind of series."""

    name: str
    """Name in the table."""
    orbits: int = 1
    """One pass each 5 days, or two: the second one 2 or 3 days later."""
    clear: float = 0.6
    """Share of passes without clouds in the middle of a summer; in winter half of it."""
    long_gaps: bool = False
    """Whether 30 to 80 days are missing in every year."""
    years: int = 3
    """Length of the series."""
    noise: float = 0.03
    """Standard deviation of an observation of the whole feature, in index units."""
    missed: float = 0.04
    """Share of observations with clouds that the mask has missed, which lower the index by 0.1 to 0.35."""


CASES = (
    Case("one orbit"),
    Case("one orbit, long gaps", clear=0.5, long_gaps=True),
    Case("two orbits", orbits=2),
    Case("two orbits, long gaps", orbits=2, clear=0.5, long_gaps=True),
)


SPEED = ((70, 1), (150, 3), (150, 6))
"""Dates and years of the series whose smoothing is timed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, make series, smooth them, print the errors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoothing", description=__doc__)
    parser.add_argument("--features", type=int, default=90, help="features of each kind of series (default: 90)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    options = parser.parse_args(arguments)
    rows = [
        {"series": case.name, "method": method, **errors}
        for case in CASES
        for method, errors in compare(case, options.features, options.seed).items()
    ]
    names = list(rows[0])
    print(f"| {' | '.join(names)} |\n|---|---|{'---:|' * (len(names) - 2)}")
    for row in rows:
        print(f"| {' | '.join(v if isinstance(v, str) else f'{v:.4f}' for v in row.values())} |")
    print()
    print("| ms per feature with | " + " | ".join(ways()) + " |\n|---|" + "---:|" * len(ways()))
    for dates, years in SPEED:
        found = speed(options.seed, dates, years, options.features)
        what = f"{dates} dates in {years} year{'s' * (years > 1)}"
        print(f"| {what} | " + " | ".join(f"{1000 * seconds:.2f}" for seconds in found.values()) + " |")


def make(case: Case, features: int, seed: int) -> pd.DataFrame:
    """Make compiled rows with a column `truth`, in index units; every third feature is a forest, a crop, two crops."""
    rng = np.random.default_rng(seed)
    return pd.concat([_feature(case, fid, rng) for fid in range(features)], ignore_index=True)


def _feature(case: Case, fid: int, rng: np.random.Generator) -> pd.DataFrame:
    days = np.arange(rng.integers(0, 5), YEAR * case.years, 5)
    if case.orbits == 2:
        days = np.sort(np.concatenate([days, days + rng.integers(2, 4)]))
    truth = np.concatenate([
        _season(days[days // YEAR == year] % YEAR, ("forest", "crop", "two crops")[fid % 3], rng)
        for year in np.unique(days // YEAR)
    ])  # fmt: skip
    winter = 0.5 + 0.5 * np.cos(2 * np.pi * (days - 15) / YEAR)
    seen = rng.random(len(days)) < case.clear * (1 - 0.5 * winter)
    if case.long_gaps:
        for year in range(case.years):
            begin = YEAR * year + rng.integers(0, YEAR)
            seen &= (days < begin) | (days >= begin + rng.integers(30, 80))
    seen[[0, -1]] = True
    days, truth = days[seen], truth[seen]
    n = len(days)
    valid = np.where(rng.random(n) < 0.6, 1.0, rng.uniform(0.3, 1.0, n))
    pixels = int(rng.integers(20, 400))
    count = np.maximum(np.round(pixels * valid), 1)
    missed = (rng.random(n) < case.missed) * rng.uniform(0.1, 0.35, n)
    value = truth + rng.normal(0, case.noise, n) / np.sqrt(valid) - missed
    date = np.datetime64("2019-01-01T10:30:21", "s") + days * np.timedelta64(86400, "s")
    return pd.DataFrame({
        "date": date, "fid": fid, "tile": "32TPS", "filename": "x", "count": count, "nodata": pixels - count,
        "mean": value * 10000, "truth": truth,
    })  # fmt: skip


def _season(day: Ints, kind: str, rng: np.random.Generator) -> Floats:
    """Follow one year as a double logistic, or as two of them (P. S. A. Beck 2006, doi:10.1016/j.rse.2005.10.021)."""

    def growth(begin: float, end: float, slow: tuple[float, float]) -> Floats:
        up, down = rng.uniform(*slow, 2)
        curve: Floats = 1 / (1 + np.exp(-(day - begin) / up)) - 1 / (1 + np.exp(-(day - end) / down))
        return curve

    base, height = rng.uniform(0.2, 0.3), rng.uniform(0.35, 0.6)
    if kind == "forest":
        return base + 0.2 + 0.6 * height * growth(rng.uniform(95, 125), rng.uniform(280, 310), (8, 15))
    begin = rng.uniform(70, 120)
    end = begin + rng.uniform(70, 110)
    curve = base + height * growth(begin, end, (4, 12))
    if kind == "two crops":
        curve += 0.8 * height * growth(end + rng.uniform(35, 50), min(end + rng.uniform(100, 130), 345), (4, 12))
    return curve


def ways() -> dict[str, Callable[[pd.DataFrame], tuple[Ints, Ints, Floats]]]:
    """Name the ways to smooth: rows -> fid, day and value of what is smoothed."""

    def original(rows: pd.DataFrame) -> tuple[Ints, Ints, Floats]:
        return _columns(smooth_original(rows, index="NDVI").smoothed)

    def ours(smoother: Smoother) -> Callable[[pd.DataFrame], tuple[Ints, Ints, Floats]]:
        return lambda rows: _columns(smoother(rows, "NDVI").series)

    return {
        "original": original,
        **{method: ours(Smoother(method)) for method in METHODS},
        "savgol without outliers": ours(Smoother("savgol", use_outliers=False)),
    }


def _columns(table: pd.DataFrame) -> tuple[Ints, Ints, Floats]:
    return table["fid"].to_numpy(np.int64), _day(table), table["smoothed"].to_numpy(np.float64)


def _day(table: pd.DataFrame) -> Ints:
    return table["date"].to_numpy().astype("datetime64[D]").astype(np.int64)


def compare(case: Case, features: int, seed: int, only: tuple[str, ...] = ()) -> dict[str, dict[str, float]]:
    """Leave dates out in five random turns; return errors at these dates, in index units, for each way or some."""
    rows = make(case, features, seed)
    inner = rows["fid"].diff().eq(0).to_numpy() & rows["fid"].diff(-1).eq(0).to_numpy()
    turn = np.where(inner, np.random.default_rng(seed).integers(0, TURNS, len(rows)), -1)
    found = {}
    for name, way in ways().items():
        if only and name not in only:
            continue
        value = np.full(len(rows), np.nan)
        for k in range(TURNS):
            value[turn == k] = _read_off(rows[turn == k], *way(rows[turn != k].drop(columns="truth")))
        found[name] = {
            f"{measure}, {what}": function(value[inner] - rows[column].to_numpy()[inner] / scale)
            for what, column, scale in (("observations", "mean", 10000), ("truth", "truth", 1))
            for measure, function in (("RMSE", _rmse), ("MAE", _mae))
        }
    return found


def _read_off(asked: pd.DataFrame, fid: Ints, day: Ints, value: Floats) -> Floats:
    """Value on the line between smoothed dates."""
    out = np.empty(len(asked))
    fids, days = asked["fid"].to_numpy(), _day(asked)
    for f in np.unique(fids):
        here = (fid == f) & np.isfinite(value)
        out[fids == f] = np.interp(days[fids == f], day[here], value[here])
    return out


def _rmse(error: Floats) -> float:
    return float(np.sqrt(np.mean(error**2)))


def _mae(error: Floats) -> float:
    return float(np.mean(np.abs(error)))


def speed(seed: int, dates: int, years: int, features: int) -> dict[str, float]:
    """Seconds of processor per feature of each way, statistics included, on evenly spread dates; after a first call."""
    found = {}
    rows = pd.concat(_spread(features, seed, dates, years), ignore_index=True)
    for name, way in ways().items():
        way(rows[rows["fid"] < 3])
        begin = time.process_time()
        way(rows)
        found[name] = (time.process_time() - begin) / features
    return found


def _spread(features: int, seed: int, dates: int, years: int) -> Iterator[pd.DataFrame]:
    always = replace(CASES[2], clear=2.0, years=years)
    for _, rows in make(always, features, seed).groupby("fid"):
        yield rows.iloc[np.linspace(0, len(rows) - 1, dates).astype(int)]


if __name__ == "__main__":
    main()
