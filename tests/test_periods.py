from __future__ import annotations

import datetime as dt
import subprocess

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.periods import AGGREGATES, CUSTOM, KINDS, Aggregation, compiled_stem, is_key, key_of


@pytest.mark.parametrize(
    ("day", "kind", "week", "key"),
    [
        ("2022-06-12", "all_data", "sunday", "all_data"),
        ("2022-06-12", "yearly", "sunday", "2022"),
        ("2022-06-12", "monthly", "sunday", "2022-06"),
        ("2022-06-12", "daily", "sunday", "2022-06-12"),
        ("2022-06-11", "weekly", "sunday", "2022-23"),
        ("2022-06-12", "weekly", "sunday", "2022-24"),  # a Sunday
        ("2022-01-01", "weekly", "sunday", "2022-00"),  # before the first Sunday
        ("2022-12-31", "weekly", "sunday", "2022-52"),
        ("2022-06-12", "weekly", "iso", "2022-W23"),
        ("2021-01-01", "weekly", "iso", "2020-W53"),
        ("2024-12-30", "weekly", "iso", "2025-W01"),
    ],
)
def test_periods_of_dates(day: str, kind: str, week: str, key: str) -> None:
    date = dt.date.fromisoformat(day)
    assert key_of(date, kind, week) == key  # type: ignore[arg-type]
    assert is_key(key, kind, week)  # type: ignore[arg-type]
    assert not is_key(f"{key}x", kind, week)  # type: ignore[arg-type]


@given(st.dates(dt.date(2015, 1, 1), dt.date(2040, 1, 1)), st.sampled_from(KINDS))
def test_periods_follow_each_other(day: dt.date, kind: str) -> None:
    assert key_of(day, kind) <= key_of(day + dt.timedelta(1), kind)
    for week in ("sunday", "iso"):
        one, other = (key_of(d, "weekly", week) for d in (day, day + dt.timedelta(7)))
        assert one < other


def test_weeks_are_those_of_the_system() -> None:
    days = [dt.date(2019, 12, 20) + dt.timedelta(n) for n in range(30)]
    for form, week in (("%Y-%U", "sunday"), ("%G-W%V", "iso")):
        texts = "\n".join(map(str, days))
        said = subprocess.run(["date", "-f", "-", f"+{form}"], input=texts, text=True, capture_output=True, check=True)  # noqa: S607,S603  # the system's own
        assert said.stdout.split() == [key_of(day, "weekly", week) for day in days]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("all_data", "all_data", "parcels_CC100_NDVI_all_data"),
        ("yearly", "2021", "parcels_CC100_NDVI_yearly_2021"),
        ("monthly", "2021-03", "parcels_CC100_NDVI_monthly_2021-03"),
        ("weekly", "2021-07", "parcels_CC100_NDVI_weekly_2021-07"),
        ("daily", "2021-03-05", "parcels_CC100_NDVI_daily_2021-03-05"),
        (CUSTOM, "2021-03-05_2021-04-01", "parcels_CC100_NDVI_2021-03-05_2021-04-01"),
    ],
)
def test_names(kind: str, key: str, name: str) -> None:
    assert compiled_stem("parcels", (0, 100), "NDVI", kind, key) == name
    assert compiled_stem("parcels", (0.0, 100.0), "NDVI", kind, key) == name
    assert compiled_stem("parcels", (0, 37.5), "NDVI", kind, key) == name.replace("CC100", "CC37.5")
    assert compiled_stem("parcels", (5, 60), "NDVI", kind, key) == name.replace("CC100", "CC5-60")


DAYS = ["2022-06-01", "2022-06-11", "2022-06-30"] * 2 + ["2022-07-01"]
ROWS = pa.table(
    {
        "date": pa.array([dt.datetime.fromisoformat(day) for day in DAYS], pa.timestamp("s")),
        "fid": [0, 0, 0, 4, 4, 4, 4],
        "count": [10, 30, 10, 1, 1, 2, 5],
        "mean": [1000.0, 2000.0, 4000.0, -5.0, 5.0, 6.0, 9.0],
    }
)


def test_aggregates_by_hand() -> None:
    made = Aggregation.of(AGGREGATES).apply(ROWS, "monthly")
    want = pd.DataFrame(
        {
            "period": ["2022-06", "2022-06", "2022-07"],
            "fid": [0, 4, 4],
            "dates": [3, 3, 1],
            "mean": [7000 / 3, 2.0, 9.0],
            "median": [2000.0, 5.0, 9.0],
            "max": [4000.0, 6.0, 9.0],
            "weighted_mean": [110000 / 50, 12 / 4, 9.0],
        }
    )
    pd.testing.assert_frame_equal(made, want, check_dtype=False)
    weekly = Aggregation.of("count").apply(ROWS, "weekly")
    assert list(weekly.columns) == ["period", "fid", "dates"]
    assert weekly["dates"].tolist() == [1] * 3 + [1, 1, 2]
    assert Aggregation.of("max").apply(ROWS.slice(0, 0), "yearly").empty


def test_a_date_without_a_mean_is_no_date() -> None:
    rows = ROWS.set_column(3, "mean", pa.array([1000.0, None, 4000.0, None, None, None, None], pa.float64()))
    (made,) = Aggregation.of(["mean", "weighted_mean"]).apply(rows, "all_data").to_dict("records")
    assert made == {"period": "all_data", "fid": 0, "dates": 2, "mean": 2500.0, "weighted_mean": 2500.0}


def test_names_of_aggregates_are_checked() -> None:
    assert Aggregation.of(["mean", "mean", "count"]).columns == ("dates", "mean")
    with pytest.raises(UnknownNameError, match="Unknown aggregate 'avg'"):
        Aggregation.of("avg")
    with pytest.raises(RequestError, match="No aggregate"):
        Aggregation.of([])
    for name in AGGREGATES:
        assert all(Aggregation.of(name).definitions.values())
