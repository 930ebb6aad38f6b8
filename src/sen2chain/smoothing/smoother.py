"""The smoother: a method with its checked parameters, called with compiled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sen2chain.errors import TooShortError, choice, truth
from sen2chain.smoothing import harmonic, savgol, whittaker
from sen2chain.smoothing.goodness import errors_of, folds
from sen2chain.smoothing.observations import (
    STEP,
    Days,
    Observations,
    check_positive,
    check_window,
    observe,
    offsets,
    ordered,
)
from sen2chain.smoothing.outliers import outliers

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from sen2chain.smoothing.observations import Bools, Floats, Ints

    Dates = npt.NDArray[np.datetime64]

METHODS = ("savgol", "whittaker", "harmonic")


@dataclass(frozen=True, slots=True)
class Smoothed:
    """The result of smoothing some features: series and statistics of fit."""

    series: pd.DataFrame
    """Rows by `fid`, then `date`: every observation, and the dates of the 5-day grid on whose day there is none.

    `date` is datetime64[s]; observations keep their time, dates of the grid are midnights. `grid` is 1 on the grid
    (for the first observation of the day, if there are several), else 0. `observed` is the observation in index units
    and `weight` its share of valid pixels, both empty on dates without one; `outlier` is 1 where it stands out, else 0,
    and empty where there is nothing to test. `smoothed` is in index units, and empty for a feature that is too
    short."""
    stats: pd.DataFrame
    """One row for each fid of the rows: `indice`, `fid`, `observations`, `outliers`, then `MAE`, `RMSE` (index units)
    and `MAPE` (percent) at the observations, the same with `_left_out` when they are left out in five turns, and
    `note`, which says why a feature was not smoothed."""


@dataclass(frozen=True, slots=True)
class Smoother:
    """A way of smoothing, checked when it is built.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    RequestError
        If a number cannot be used.
    """

    method: str = "savgol"
    """``savgol``, ``whittaker`` or ``harmonic``."""
    window_length: int = 11
    """Odd. Of ``savgol``: width of the window, in steps of 5 days. Of all methods: fewest observations of a series."""
    polyorder: int = 3
    """Of ``savgol``: order of the polynomials."""
    covermax: float = 75.0
    """Percentage of missing pixels from which a date is not an observation."""
    scale: float = 10000.0
    """What the rows' `mean` is divided by to get index units."""
    use_outliers: bool = True
    """Whether observations that stand out take part in the fit; they are reported in any case."""

    def __post_init__(self) -> None:
        choice("smoothing method", self.method, METHODS)
        window_length, polyorder = check_window(self.window_length, self.polyorder)
        checked = {
            "window_length": window_length, "polyorder": polyorder,
            "use_outliers": truth("use_outliers", self.use_outliers),
            **{name: check_positive(name, getattr(self, name)) for name in ("covermax", "scale")},
        }  # fmt: skip
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __call__(self, rows: pd.DataFrame, index: str) -> Smoothed:
        """Smooth the complete series of some features.

        A feature's result depends on its own rows alone, so that a layer may be smoothed in parts.

        Parameters
        ----------
        rows
            Compiled rows with at least `date` (as column or index), `fid`, `count`, `nodata` and `mean`, in any order.
        index
            Name of the index, for the statistics.

        Returns
        -------
        Smoothed
            Series and statistics. A feature with fewer than `window_length` observations has no smoothed values and a
            note; see `check_any_smoothed` for the case that all are like that.

        Raises
        ------
        RequestError
            If there are no rows, or a column is missing.
        """
        fids, kept, observations = observe(ordered(rows), self.covermax, self.scale)
        counts = np.diff(observations.starts)
        enough = counts >= self.window_length
        long = enough[observations.feature]
        used = observations.where(long)
        flagged = np.full(len(long), np.nan)
        flagged[long] = self._outliers(used)
        series = _table(fids, kept["date"].to_numpy(), observations, flagged)
        days = series.pop("day").to_numpy(copy=True)  # kernels take no read-only views
        series["smoothed"] = self._curve(
            used, Days(offsets(np.bincount(series.pop("feature"), minlength=len(fids))), days)
        )
        errors = errors_of(
            used.value, series["smoothed"].to_numpy()[series["observed"].notna() & series["smoothed"].notna()],
            used.feature, len(fids),
        )  # fmt: skip
        left_out = errors_of(used.value, self._left_out(used), used.feature, len(fids))
        stats = pd.DataFrame({
            "indice": index, "fid": fids, "observations": counts,
            "outliers": np.bincount(observations.feature, flagged == 1, len(fids)).astype(np.int64),
            **errors, **{f"{name}_left_out": values for name, values in left_out.items()},
            "note": [
                "" if long_enough else f"too short: {count} of {self.window_length} observations"
                for count, long_enough in zip(counts, enough, strict=True)
            ],
        })  # fmt: skip
        return Smoothed(series, stats)

    def _outliers(self, observations: Observations) -> Bools:
        # Means are stored with the resolution of the scaled value at best.
        return outliers(observations, self.window_length, 1 / self.scale)

    def _curve(self, observations: Observations, days: Days) -> Floats:
        """Fit to observations and evaluate at days."""
        if not self.use_outliers:
            observations = observations.where(~self._outliers(observations))
        if self.method == "savgol":
            return savgol.fit(observations, days, self.window_length, self.polyorder)
        return (whittaker.fit if self.method == "whittaker" else harmonic.fit)(observations, days)

    def _left_out(self, observations: Observations) -> Floats:
        """Value of every observation's day when the observation is left out, one turn after the other."""
        turn = folds(observations)
        found = np.full(len(turn), np.nan)
        for k in np.unique(turn):
            asked = observations.where(turn == k)
            found[turn == k] = self._curve(observations.where(turn != k), Days(asked.starts, asked.day))
        return found


def check_any_smoothed(stats: Iterable[pd.DataFrame], smoother: Smoother) -> None:
    """Refuse a layer without any feature that could be smoothed.

    Parameters
    ----------
    stats
        The statistics of all parts of the layer.
    smoother
        What was asked.

    Raises
    ------
    TooShortError
        If every feature has a note; it names the longest series.
    """
    longest = 0
    for part in stats:
        if (part["note"] == "").any():
            return
        longest = max(longest, int(part["observations"].max()))
    raise TooShortError(
        f"Every feature has fewer observations than window_length = {smoother.window_length} (the longest series has "
        f"{longest}); pass a smaller window_length, more dates or a larger covermax."
    )


def _table(fids: Ints, dates: Dates, observations: Observations, flagged: Floats) -> pd.DataFrame:
    """Lay out observations and the rest of the grid by fid and date, with columns `feature` and `day` for the fit."""
    feature, day, starts = observations.feature, observations.day, observations.starts
    known = starts[:-1][np.diff(starts) > 0]
    first, last = (np.zeros(len(fids), np.int64) for _ in range(2))
    present = np.diff(starts) > 0
    first[present], last[present] = day[known], day[starts[1:][present] - 1]
    new_day = (np.diff(day, prepend=-1) != 0) | (np.diff(feature, prepend=-1) != 0)
    on_grid = new_day & ((day - first[feature]) % STEP == 0)
    # Every place of the grid, less those that an observation has taken.
    steps = np.where(present, (last - first) // STEP + 1, 0)
    begin = offsets(steps)
    free = np.ones(begin[-1], dtype=bool)
    free[begin[feature[on_grid]] + (day[on_grid] - first[feature[on_grid]]) // STEP] = False
    owner = np.repeat(np.arange(len(fids)), steps)[free]
    grid_day = first[owner] + STEP * (np.arange(begin[-1])[free] - begin[owner])
    rest = len(owner)
    nothing = np.full(rest, np.nan)
    table = pd.DataFrame({
        "date": np.concatenate([dates, grid_day.astype("datetime64[D]").astype("datetime64[s]")]),
        "fid": fids[np.concatenate([feature, owner])],
        "grid": np.concatenate([on_grid.astype(np.int64), np.ones(rest, np.int64)]),
        "observed": np.concatenate([observations.value, nothing]),
        "weight": np.concatenate([observations.weight, nothing]),
        "outlier": np.concatenate([flagged, nothing]),
        "feature": np.concatenate([feature, owner]),
        "day": np.concatenate([day, grid_day]),
    })  # fmt: skip
    return table.sort_values(["feature", "date"], kind="stable", ignore_index=True)
