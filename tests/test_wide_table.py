"""Wide tables: one row per feature, a column per date or period, against plain pandas."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain import periods
from sen2chain.export import by_date, by_period, daily, wide_table

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = dt.datetime(2021, 12, 20, 10, 30)  # noqa: DTZ001  # times of results have no zone
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 60), st.floats(-1, 1), st.integers(1, 9)),
    unique_by=lambda row: row[:2], max_size=60,
)  # fmt: skip


def batches(rows: list[tuple[int, int, float, int]]) -> Iterator[tuple[dt.datetime, Any, Any]]:
    """Yield rows of (fid, half days after the first date, value, count) date by date."""
    for half in sorted({row[1] for row in rows}):
        chosen = sorted(row for row in rows if row[1] == half)
        yield (
            FIRST + dt.timedelta(hours=12 * half),
            np.array([row[0] for row in chosen]),
            np.array([row[2:] for row in chosen], float),
        )


def frame(rows: list[tuple[int, int, float, int]]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["fid", "half", "value", "count"])
    found["date"] = [FIRST + dt.timedelta(hours=12 * half) for half in found["half"]]
    return found.astype({"date": "datetime64[us]"})


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_each_day_has_the_row_with_the_most_pixels(rows: list[tuple[int, int, float, int]]) -> None:
    got = daily(by_date(batches(rows), 5, 2))
    table = frame(rows).assign(day=lambda t: t["date"].dt.strftime("%Y-%m-%d"))
    best = table.sort_values(["count", "half"], ascending=[False, True]).drop_duplicates(["fid", "day"])
    want = best.pivot_table(index="fid", columns="day", values="value").reindex(range(5))
    assert list(got) == sorted(set(table["day"]))
    for day, values in got.items():
        np.testing.assert_array_equal(values, want[day])


@given(ROWS, st.sampled_from(["yearly", "monthly", "weekly"]), st.sampled_from(periods.AGGREGATES))
@settings(max_examples=100, deadline=None)
def test_periods_agree_with_those_of_compiled_files(
    rows: list[tuple[int, int, float, int]], kind: str, aggregate: str
) -> None:
    got = by_period(by_date(batches(rows), 5, 2), lambda day: periods.key_of(day, kind), aggregate)
    table = pa.Table.from_pandas(frame(rows).rename(columns={"value": "mean"}), preserve_index=False)
    want = periods.Aggregation.of(aggregate).apply(table, kind)
    for period, fid, *_, value in want[["period", "fid", *(c for c in want if c not in {"period", "fid"})]].to_numpy():
        assert got[period][int(fid)] == pytest.approx(value, rel=1e-12, abs=1e-15)
    found = sum(int(np.count_nonzero(values if aggregate == "count" else ~np.isnan(values))) for values in got.values())
    assert found == len(want)


def test_all_features_and_dates_are_there() -> None:
    dated = by_date(iter([]), 3, 2, {FIRST})
    table = wide_table(daily(dated), pa.table({"crop": ["rye", None, "oats"], "2021-12-20": [1, 2, 3]}), "crop")
    assert table.schema.names == ["fid", "crop", "attr_2021-12-20", "2021-12-20"]
    assert table.column("2021-12-20").to_pylist() == [None] * 3
    assert table.column("fid").to_pylist() == [0, 1, 2]


def test_a_row_without_a_value_does_not_hide_another_of_its_day() -> None:
    later = FIRST + dt.timedelta(minutes=1)
    both = {FIRST: np.array([[0.5], [4.0]]), later: np.array([[np.nan], [0.0]])}
    for first, second in (both, reversed(both)):
        assert daily({first: both[first], second: both[second]})["2021-12-20"].tolist() == [0.5]
