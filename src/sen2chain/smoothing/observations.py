"""Observations: the dates of compiled rows that count, with their values and weights. Arrays in, arrays out.

A date counts as observation of a feature where ``nodata / (largest count of that feature) < covermax %`` and its mean
is finite. That is the original program's rule: the largest count stands for the number of pixels of the feature, so
the share of missing pixels can exceed 100 % where the feature was never seen whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sen2chain.errors import RequestError, out_of_range, real_number, whole_number
from sen2chain.parallel import recorded_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

STEP = 5
"""Days between two dates of the grid: how often the two satellites pass over a place."""

TO_SIGMA = 1.4826
"""Standard deviation of normal errors in relation to the median of their sizes."""

NEEDED = ("date", "fid", "count", "nodata", "mean")


def ordered(rows: pd.DataFrame, needed: Iterable[str] = NEEDED) -> pd.DataFrame:
    """Sort compiled rows by fid and date; `date` may be the index.

    Dates with a time zone become those of UTC, in which all others are.

    Raises
    ------
    RequestError
        If there are no rows, a column is missing, or its values are not what it is for.
    """
    if not isinstance(rows, pd.DataFrame):
        raise RequestError(f"Rows to smooth are a {type(rows).__name__}; pass a pandas.DataFrame of compiled rows.")
    if "date" not in rows.columns and rows.index.name == "date":
        rows = rows.reset_index()
    needed = tuple(needed)
    missing = [name for name in needed if name not in rows.columns]
    twice = [name for name in needed if list(rows.columns).count(name) > 1]
    if twice:
        raise RequestError(f"Rows to smooth have several columns {', '.join(twice)}; keep one.")
    if missing:
        raise RequestError(f"Rows to smooth have no column {', '.join(missing)}; pass the rows of a compiled file.")
    if rows.empty:
        raise RequestError("There are no rows to smooth; extract or compile at least one date first.")
    checked: dict[str, Any] = {"date": _dates(rows["date"])}
    for name in ("fid", "count", "nodata", "mean"):
        if name in needed and not _is_numeric(rows[name], whole=name == "fid"):
            what = "whole numbers" if name == "fid" else "numbers"
            raise RequestError(f"The column {name} of rows to smooth holds other things than {what}; mend it.")
        if name in needed and pd.api.types.is_extension_array_dtype(rows[name].dtype):  # whose nulls no kernel knows
            checked[name] = rows[name].to_numpy(np.int64 if name == "fid" else np.float64, na_value=np.nan)
    return rows.assign(**checked).sort_values(["fid", "date"], kind="stable", ignore_index=True)


def _dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return dates without zone, in one unit for all, whatever the file or the pandas version made of them."""
    try:
        with recorded_warnings():  # pandas' advice on odd formats
            # Numbers would be taken for nanoseconds.
            dates = pd.to_datetime(column.astype(str) if pd.api.types.is_numeric_dtype(column) else column, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"The column date of rows to smooth holds other things than dates ({error}).") from error
    if dates.isna().any():
        raise RequestError("The column date of rows to smooth has empty values; leave those rows out.")
    return dates.dt.tz_localize(None).astype("datetime64[s]")


def _is_numeric(column: pd.Series[Any], *, whole: bool) -> bool:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
        return False
    return not whole or bool((column.notna() & (column % 1 == 0)).all())


LONGEST_WINDOW = 9999
"""Steps of 5 days, 137 years."""
HIGHEST_ORDER = 20
"""Order above which powers of the places in a long window do not fit into numbers."""
MOST = 1e9
"""Largest percentage of missing pixels; it exceeds 100 where a feature was never seen whole."""


def check_window(window_length: object, polyorder: object) -> tuple[int, int]:
    """Return the window and the order of a filter as Python's numbers.

    Raises
    ------
    RequestError
        If the window is not a sensible odd number, or the order is not below it.
    """
    window = whole_number("window_length", window_length, 1, LONGEST_WINDOW, "odd numbers")
    if window % 2 == 0:
        raise out_of_range("window_length", window, f"odd numbers from 1 to {LONGEST_WINDOW}")
    highest = min(window - 1, HIGHEST_ORDER)
    why = f"whole numbers below window_length = {window}," if highest < HIGHEST_ORDER else "whole numbers"
    return window, whole_number("polyorder", polyorder, 0, highest, why)


def check_positive(name: str, number: object) -> float:
    """Return a number above 0 as Python's own.

    Raises
    ------
    RequestError
        If it is not one, or too large.
    """
    found = real_number(name, number, 0, MOST, "numbers above 0,")
    if not found:
        raise out_of_range(name, number, f"numbers above 0, up to {MOST:.0f}")
    return found


def missing_share(rows: pd.DataFrame) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """Return the pixels of each row's feature, which are its largest count, and the percentage of them without data."""
    pixels = rows.groupby("fid")["count"].transform("max")
    return pixels, rows["nodata"] / pixels * 100


@dataclass(frozen=True, slots=True)
class Observations:
    """The observations of several features, one feature after the other and each by date.

    Those of feature f stand from ``starts[f]`` to ``starts[f + 1] - 1``.
    """

    starts: Ints
    """(features + 1,) where each feature begins."""
    day: Ints
    """(n,) UTC day, counted from 1970-01-01. Dates are compared by day, so that the minute of a pass plays no part."""
    value: Floats
    """(n,) mean in index units."""
    weight: Floats
    """(n,) share of the feature's pixels that were valid, count / (count + nodata): 0 < weight <= 1."""

    @property
    def features(self) -> int:
        """Number of features, those without observations included."""
        return len(self.starts) - 1

    @property
    def feature(self) -> Ints:
        """(n,) position of each observation's feature."""
        return np.repeat(np.arange(self.features), np.diff(self.starts))

    def where(self, kept: Bools) -> Observations:
        """Keep some of the observations, and all features."""
        counts = np.bincount(self.feature[kept], minlength=self.features)
        return Observations(offsets(counts), self.day[kept], self.value[kept], self.weight[kept])


@dataclass(frozen=True, slots=True)
class Days:
    """Days of several features at which a curve is asked for, laid out as `Observations`."""

    starts: Ints
    """(features + 1,) where each feature begins."""
    day: Ints
    """(n,) UTC day, counted from 1970-01-01."""


def offsets(counts: npt.NDArray[np.integer[Any]]) -> Ints:
    """Where groups of these sizes begin when they stand one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def observe(rows: pd.DataFrame, covermax: float, scale: float) -> tuple[Ints, pd.DataFrame, Observations]:
    """Find the observations among compiled rows.

    Parameters
    ----------
    rows
        Rows as `ordered` gives them.
    covermax
        Percentage of missing pixels from which a date does not count.
    scale
        Number that `mean` is divided by to get index units.

    Returns
    -------
    fids, kept, observations
        The fid of every feature, (features,); the rows that count; and what they observed.
    """
    _, missing = missing_share(rows)
    mean = rows["mean"].to_numpy(np.float64)
    counts = (missing < covermax).to_numpy() & np.isfinite(mean)
    kept = rows[counts]
    fids, feature = np.unique(rows["fid"].to_numpy(np.int64), return_inverse=True)
    count, nodata = kept["count"].to_numpy(np.float64), kept["nodata"].to_numpy(np.float64)
    observations = Observations(
        offsets(np.bincount(feature[counts], minlength=len(fids))),
        kept["date"].to_numpy().astype("datetime64[D]").astype(np.int64),
        mean[counts] / scale,
        count / (count + nodata),
    )
    return fids, kept, observations
