"""The original program's smoothing, with its continuation and its faults, so that its files can be continued.

For each feature: the dates that count (see `observations`), a grid of 5 days from the first of them to the last,
the gaps of the grid filled by moving averages, then the Savitzky-Golay filter. Observations between the dates of the
grid are lost, and so are dates that an earlier run had no reason to publish; ``docs/smoothing.md`` shows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sen2chain.errors import RequestError, truth
from sen2chain.smoothing.goodness import errors_of
from sen2chain.smoothing.observations import STEP, check_positive, check_window, missing_share, ordered

if TYPE_CHECKING:
    from pathlib import Path

SCALE = 10000
ROWS_PER_YEAR = 73
"""Rows of the grid in a year: 73 x 5 = 365 days."""
SEASONS = 3
"""Years that a grid must cover before a season's mean fills gaps."""
PUBLISHED_DATES = 11
PUBLISHED_MONTHS = 10
"""What an earlier run must have published to be continued; also how far back the continuation begins."""

ADDED = ("pixel_tot", "pct_no_data", "valid", "mean_div", "smoothed")


@dataclass(frozen=True, slots=True)
class OriginalSmooth:
    """The result of one run of the original's smoothing."""

    smoothed: pd.DataFrame
    """The compiled columns, then `ADDED`, and `index` (the row's position among the compiled rows) after a
    continuation; one row for each date of each feature's grid. `valid` and the compiled columns are empty where the
    grid has no observation. `smoothed` is in index units and empty where a feature has fewer rows than the window."""
    stats: pd.DataFrame
    """`indice`, `fid`, and MAE, RMSE (index units) and MAPE (percent) over the rows with an observation, rounded to 4
    decimals."""


def smooth_original(
    rows: pd.DataFrame,
    *,
    index: str,
    published: pd.DataFrame | None = None,
    covermax: float = 75,
    window_length: int = 11,
    polyorder: int = 3,
    season_mean: bool = False,
) -> OriginalSmooth:
    """Smooth the compiled rows of a whole layer as the original program does.

    Parameters
    ----------
    rows
        Compiled rows of one index: `date`, `fid`, ..., `completeness`, then any attributes. Values are index x 10000.
    index
        Name of the index, for the statistics.
    published
        What an earlier run wrote, from `read_published`. With at least 11 dates over 10 months it is kept, and only
        what comes after its last date is smoothed (from the rows of the 10 months before on) and appended; unless a
        date before that last one has arrived since, which starts everything afresh.
    covermax
        Percentage of missing pixels from which a date does not count.
    window_length, polyorder
        Of the Savitzky-Golay filter, in dates of the grid; see `scipy.signal.savgol_filter`, whose ends are those of
        ``mode="interp"`` (A. Savitzky and M. J. E. Golay 1964, https://doi.org/10.1021/ac60214a047).
    season_mean
        Fill gaps of a grid of at least 3 years with the mean of the same 5 days of its other years.

    Returns
    -------
    OriginalSmooth
        Both tables; `to_csv_text` writes them.

    Raises
    ------
    RequestError
        If no date counts, every feature has fewer grid dates than the window, or a parameter cannot be used.
    """
    window_length, polyorder = check_window(window_length, polyorder)
    if type(covermax) is not int or covermax != 0:  # of which a later sentence says more
        covermax = check_positive("covermax", covermax)
    season_mean = truth("season_mean", season_mean)
    rows = ordered(rows, ("date", "fid", "count", "nodata", "mean"))
    # The original looks at days only.
    rows["date"] = rows["date"].astype("datetime64[s]").dt.floor("D")
    if published is None or not _continues(rows, published, covermax):
        smoothed = _smooth(rows, covermax, window_length, polyorder, season_mean=season_mean)
    else:
        last = published["date"].max()
        recent = rows.assign(index=np.arange(len(rows)))[rows["date"] > last - pd.DateOffset(months=PUBLISHED_MONTHS)]
        smoothed = published
        if (recent["date"] > last).any():
            tail = _smooth(recent, covermax, window_length, polyorder, season_mean=season_mean)
            smoothed = _append(published, tail[tail["date"] > last])
    if smoothed["smoothed"].isna().all():
        longest = smoothed.groupby("fid").size().max()
        raise RequestError(
            f"Every feature has fewer dates on the 5-day grid than window_length = {window_length} (the longest has "
            f"{longest}); pass a smaller window_length or more dates."
        )
    return OriginalSmooth(smoothed, _stats(smoothed, index))


def read_published(path: Path) -> pd.DataFrame:
    """Read what an earlier run wrote to a `_smooth.csv`."""
    return pd.read_csv(path, index_col=0, parse_dates=["date"]).astype({"date": "datetime64[s]", "fid": np.float64})


def to_csv_text(table: pd.DataFrame) -> str:
    """Write either table of `OriginalSmooth` as the text of its CSV file: row numbers first, days without time."""
    return table.to_csv(date_format="%Y-%m-%d", lineterminator="\n")


def _counting(rows: pd.DataFrame, covermax: float) -> pd.DataFrame:
    """Keep the rows that count, with the columns that say why."""
    pixels, missing = missing_share(rows)
    rows = rows.assign(pixel_tot=pixels, pct_no_data=missing, valid=1, mean_div=rows["mean"] / SCALE)
    kept: pd.DataFrame = rows[(missing < covermax) & np.isfinite(rows["mean"])]
    return kept


def _continues(rows: pd.DataFrame, published: pd.DataFrame, covermax: float) -> bool:
    """Whether what was published is kept: there is enough of it, and no date before its end has arrived since."""
    dates = published["date"].drop_duplicates()
    if len(dates) < PUBLISHED_DATES or dates.min() + pd.DateOffset(months=PUBLISHED_MONTHS) > dates.max():
        return False
    before = _counting(rows, covermax).loc[lambda r: r["date"] <= dates.max(), "date"]
    return bool(before.isin(dates).all())


def _smooth(
    rows: pd.DataFrame, covermax: float, window_length: int, polyorder: int, *, season_mean: bool
) -> pd.DataFrame:
    """Smooth rows from nothing."""
    valid = _counting(rows, covermax)
    if valid.empty:
        raise RequestError(
            f"No date has less than covermax = {covermax:g} % of missing pixels; pass a larger covermax."
        )
    grid = _grid(valid)
    smoothed = grid.merge(valid.astype({"fid": np.float64}), on=["fid", "date"], how="left")
    smoothed["smoothed"] = smoothed.groupby("fid")["mean_div"].transform(
        lambda values: _filter(_fill(values, season_mean=season_mean), window_length, polyorder)
    )
    # A continuation's row numbers come last.
    names = [name for name in rows.columns if name != "index"]
    return smoothed[[*names, *ADDED, *rows.columns.intersection(["index"])]]


def _grid(valid: pd.DataFrame) -> pd.DataFrame:
    """Make every 5th day from each feature's first date to its last."""
    first, last = (valid.groupby("fid")["date"].agg(which) for which in ("min", "max"))
    steps = ((last - first).dt.days // STEP + 1).to_numpy(np.int64)
    step = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    days = np.repeat(first.to_numpy().astype("datetime64[D]"), steps) + STEP * step
    return pd.DataFrame({
        "date": days.astype("datetime64[s]"), "fid": np.repeat(first.index.to_numpy(np.float64), steps),
    })  # fmt: skip


def _fill(values: pd.Series[float], *, season_mean: bool) -> pd.Series[float]:
    """Fill gaps by centred moving averages that become longer, and by the mean of the season before the second."""
    values = values.fillna(_moving_average(values, 3))
    if season_mean and len(values) >= SEASONS * ROWS_PER_YEAR:
        values = values.fillna(values.groupby(np.arange(len(values)) % ROWS_PER_YEAR).transform("mean"))
    window = 3
    while values.isna().any() and window <= len(values):
        values = values.fillna(_moving_average(values, window))
        window *= 2
    return values


def _moving_average(values: pd.Series[float], window: int) -> pd.Series[float]:
    return values.rolling(window, center=True, min_periods=1).mean()


def _filter(values: pd.Series[float], window_length: int, polyorder: int) -> pd.Series[float]:
    """Filter a series without gaps; one that is too short, or that nothing could fill, has no values."""
    if len(values) < window_length or values.isna().any():
        return pd.Series(np.nan, values.index)
    from scipy.signal import savgol_filter  # noqa: PLC0415  # two seconds that few runs need

    return pd.Series(savgol_filter(values.to_numpy(), window_length, polyorder), values.index)


def _append(published: pd.DataFrame, tail: pd.DataFrame) -> pd.DataFrame:
    """Put new rows behind those of an earlier run, which has no `index` unless it was continued before."""
    names = [*published.columns, *(name for name in tail.columns if name not in published.columns)]
    columns = {}
    for name in names:
        parts = [frame[name] if name in frame else pd.Series(np.nan, frame.index) for frame in (published, tail)]
        if parts[0].dtype != parts[1].dtype:
            # A column that was empty so far was read as numbers, whatever it holds now.
            parts = [part.astype(object) if part.isna().all() else part for part in parts]
        columns[name] = np.concatenate([part.to_numpy() for part in parts])
    return pd.DataFrame(columns)


def _stats(smoothed: pd.DataFrame, index: str) -> pd.DataFrame:
    """Compare what was smoothed with what was observed, for each feature."""
    known = smoothed[smoothed["valid"] == 1]
    fids, feature = np.unique(known["fid"].to_numpy(np.int64), return_inverse=True)
    found = errors_of(known["mean_div"].to_numpy(), known["smoothed"].to_numpy(), feature, len(fids), least=0.0)
    return pd.DataFrame({"indice": index, "fid": fids, **{name: values.round(4) for name, values in found.items()}})
