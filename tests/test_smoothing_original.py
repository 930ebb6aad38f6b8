"""The original's way, against what the original program wrote and against values computed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy.signal import savgol_filter

from sen2chain.errors import RequestError
from sen2chain.smoothing import OriginalSmooth, read_published, smooth_original, to_csv_text

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.fixture(scope="session")
def samples(shared: Path) -> Path:
    return shared / "reference" / "samples" / "smoothing"


def read(path: Path) -> pd.DataFrame:
    """Read numbers to their last digit, which the parser of some versions of pandas does not."""
    rows = pd.read_csv(path, dtype=str)
    numbers = rows.columns.difference(["date", "tile", "filename"])
    return rows.assign(date=pd.to_datetime(rows["date"]), **{name: rows[name].map(float) for name in numbers})


def assert_same(found: pd.DataFrame, path: Path) -> None:
    """Columns, row numbers, dates, order and gaps are equal; numbers to 1e-9."""
    expected = read_published(path)
    assert to_csv_text(found).partition("\n")[0] == path.read_text(encoding="utf-8").partition("\n")[0]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=0, atol=1e-9, check_index_type=False)


def without_last(text: str) -> list[str]:
    """Lines without their last column."""
    return [line.rpartition(",")[0] for line in text.splitlines()]


RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("all_data", "w11_p3", {}),
    ("all_data", "w7_p2", {"window_length": 7, "polyorder": 2}),
    ("all_data", "w11_p3_season", {"season_mean": True}),
    ("all_data_two_orbits", "two_orbits_w11_p3", {}),
]


@pytest.mark.parametrize(("rows", "name", "options"), RUNS, ids=[name for _, name, _ in RUNS])
def test_samples(samples: Path, rows: str, name: str, options: dict[str, Any]) -> None:
    found = smooth_original(read(samples / f"{rows}.csv"), index="NDVI", **options)
    assert_same(found.smoothed, samples / f"smooth_{name}.csv")
    # What has no history is even the same text, but for the last bits of the curve, which differ between processors.
    text = (samples / f"smooth_{name}.csv").read_text(encoding="utf-8")
    assert without_last(to_csv_text(found.smoothed)) == without_last(text)
    stats = samples / f"stats_{name}.csv"
    if stats.exists():
        assert to_csv_text(found.stats) == stats.read_text(encoding="utf-8")


def test_sample_that_was_published_and_continued(samples: Path) -> None:
    rows = read(samples / "all_data.csv")
    early = smooth_original(rows[rows["date"] < "2022-01-01"], index="NDVI").smoothed
    assert_same(early, samples / "smooth_until_2021.csv")
    published = read_published(samples / "smooth_until_2021.csv")
    found = smooth_original(rows, index="NDVI", published=published)
    assert_same(found.smoothed, samples / "smooth_continued.csv")
    known = found.smoothed[found.smoothed["valid"] == 1]
    expected = (known["smoothed"] - known["mean_div"]).abs().groupby(known["fid"]).mean()
    assert found.stats["MAE"].tolist() == expected.round(4).tolist()


def test_dates_lost_by_the_continuation_of_the_sample(samples: Path) -> None:
    rows = read(samples / "all_data.csv")
    whole = smooth_original(rows, index="NDVI").smoothed
    continued = smooth_original(
        rows, index="NDVI", published=read_published(samples / "smooth_until_2021.csv")
    ).smoothed
    key = ["fid", "date"]
    lost = pd.MultiIndex.from_frame(whole[key]).difference(pd.MultiIndex.from_frame(continued[key]))
    assert [(int(fid), str(date.date())) for fid, date in lost] == [(1, "2021-12-28"), (2, "2021-12-28")]


# --- constructed series


def series(values: dict[int, float], *, fid: int = 0) -> pd.DataFrame:
    """Rows of one feature: day since the start -> index value."""
    date = pd.Timestamp("2020-01-01 10:30:00") + pd.to_timedelta(list(values), unit="D")
    return pd.DataFrame({
        "date": date, "fid": fid, "tile": "32TPS", "filename": "x", "count": 100, "nodata": 0.0,
        "mean": 10000 * np.array(list(values.values())), "completeness": 1.0, "crop": "maize",
    })  # fmt: skip


def smooth(rows: pd.DataFrame, **options: Any) -> OriginalSmooth:
    return smooth_original(rows, index="NDVI", **{"window_length": 3, "polyorder": 1, **options})


def test_gaps_are_filled_by_moving_averages_that_become_longer() -> None:
    # Grid: 0.1 0.2 . . . . 0.8 0.9. Averages of 3 reach one row into the gap from each side, then again.
    rows = series({0: 0.1, 5: 0.2, 30: 0.8, 35: 0.9})
    found = smooth(rows, window_length=1, polyorder=0).smoothed
    assert found["smoothed"].to_list() == pytest.approx([0.1, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8, 0.9])
    assert found["valid"].isna().tolist() == [False, False, True, True, True, True, False, False]


def test_filter_is_scipys_on_the_grid() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.9, 40)
    found = smooth(series(dict(zip(range(0, 200, 5), values, strict=True))), window_length=7, polyorder=2)
    expected = savgol_filter(values, 7, 2)
    assert found.smoothed["smoothed"].to_numpy() == pytest.approx(expected, abs=1e-12)
    error = expected - values
    assert found.stats.to_dict("records") == [{
        "indice": "NDVI", "fid": 0, "MAE": pytest.approx(np.abs(error).mean(), abs=5e-5),
        "RMSE": pytest.approx(np.sqrt((error**2).mean()), abs=5e-5),
        "MAPE": pytest.approx(100 * np.abs(error / values).mean(), abs=5e-5),
    }]  # fmt: skip


def test_observations_off_the_grid_are_dropped() -> None:
    rows = series({0: 0.1, 3: 9.0, 5: 0.1, 8: 9.0, 10: 0.1, 13: 9.0})
    found = smooth(rows).smoothed
    assert found["smoothed"].to_list() == pytest.approx([0.1, 0.1, 0.1])
    assert [str(date.date()) for date in found["date"]] == ["2020-01-01", "2020-01-06", "2020-01-11"]


def test_what_counts_is_measured_by_the_largest_count() -> None:
    rows = series({0: 0.1, 5: 0.2, 10: 0.3, 15: 0.4})
    rows.loc[1, ["count", "nodata"]] = 25, 75.0
    rows.loc[2, ["count", "nodata"]] = 26, 74.0
    found = smooth(rows).smoothed
    assert found["valid"].isna().tolist() == [False, True, False, False]
    assert found["pct_no_data"].to_list()[2:] == [74.0, 0.0]
    assert smooth(rows, covermax=76).smoothed["valid"].sum() == 4


def test_columns_keep_their_order_and_attributes() -> None:
    found = smooth(series({0: 0.1, 5: 0.2, 10: 0.3})).smoothed
    assert list(found) == [
        "date", "fid", "tile", "filename", "count", "nodata", "mean", "completeness", "crop",
        "pixel_tot", "pct_no_data", "valid", "mean_div", "smoothed",
    ]  # fmt: skip
    assert (
        to_csv_text(found)
        .splitlines()[1]
        .startswith("0,2020-01-01,0.0,32TPS,x,100,0.0,1000.0,1.0,maize,100,0.0,1,0.1,")
    )


def test_the_mean_of_the_season_fills_gaps_of_three_years() -> None:
    def yearly(days: range, years: int) -> dict[int, float]:
        return {d: 0.1 + 0.8 * (d % 365) / 365 for d in range(0, 365 * years, 5) if d not in days}

    gap = range(365 + 100, 365 + 160)
    for years, season in ((3, True), (2, False)):
        found = smooth(series(yearly(gap, years)), window_length=1, polyorder=0, season_mean=True).smoothed
        middle = found.iloc[(365 + 130) // 5]
        assert bool(middle["smoothed"] == pytest.approx(0.1 + 0.8 * 130 / 365)) is season


def test_a_short_feature_is_left_empty_and_all_short_is_an_error() -> None:
    long, short = series({0: 0.1, 5: 0.2, 10: 0.3}), series({0: 0.1, 5: 0.2}, fid=1)
    found = smooth(pd.concat([long, short]))
    assert found.smoothed["smoothed"].isna().tolist() == [False] * 3 + [True] * 2
    assert found.stats["MAE"].isna().tolist() == [False, True]
    with pytest.raises(RequestError, match=r"window_length = 5 \(the longest has 3\)"):
        smooth(pd.concat([long, short]), window_length=5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window_length": 4}, "window_length is 4"), ({"window_length": 2.5}, "window_length is 2.5"),
        ({"polyorder": 3}, "polyorder is 3"), ({"polyorder": -1}, "polyorder is -1"),
        ({"covermax": 0}, "covermax = 0 %"),
    ],
)  # fmt: skip
def test_refusals(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        smooth(series({0: 0.1, 5: 0.2, 10: 0.3}), **options)


def test_rows_that_cannot_be_smoothed() -> None:
    with pytest.raises(RequestError, match="no column mean"):
        smooth(series({0: 0.1}).drop(columns="mean"))
    with pytest.raises(RequestError, match="no rows"):
        smooth(series({0: 0.1}).iloc[:0])


# --- continuation


def ramp(days: range, fid: int = 0, jump: float = 0.0) -> pd.DataFrame:
    return series({d: 0.1 + 0.001 * d + jump * (d % 10) for d in days}, fid=fid)


def republished(found: OriginalSmooth, tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "x_smooth.csv"
    path.write_text(to_csv_text(found.smoothed), encoding="utf-8")
    return read_published(path)


def test_a_continuation_keeps_what_was_published_and_appends_later_dates(tmp_path: Path) -> None:
    early, late = ramp(range(0, 400, 5)), ramp(range(0, 430, 5))
    published = republished(smooth(early), tmp_path)
    published["smoothed"] += 1  # so that kept rows can be told
    found = smooth(late, published=published).smoothed
    assert (found["smoothed"] > 1).sum() == 80
    assert len(found) == 86
    assert found["index"].to_list()[-6:] == [80, 81, 82, 83, 84, 85]
    assert found["index"].iloc[:80].isna().all()
    assert found["smoothed"].to_list()[-6:] == pytest.approx([0.1 + 0.001 * d for d in range(400, 430, 5)])
    assert list(found)[-2:] == ["smoothed", "index"]
    again = smooth(ramp(range(0, 440, 5)), published=republished(OriginalSmooth(found, found), tmp_path)).smoothed
    assert list(again) == list(found)
    assert again["index"].to_list()[-2:] == [86, 87]


def test_a_continuation_loses_the_dates_that_one_feature_had_not_reached(tmp_path: Path) -> None:
    early = pd.concat([ramp(range(0, 400, 5)), ramp(range(0, 390, 5), fid=1)])
    late = pd.concat([ramp(range(0, 430, 5)), ramp(range(0, 430, 5), fid=1).drop(index=[78, 79])])
    found = smooth(late, published=republished(smooth(early), tmp_path)).smoothed
    assert found.groupby("fid").size().to_list() == [86, 84]  # days 390 and 395 of feature 1
    assert smooth(late).smoothed.groupby("fid").size().to_list() == [86, 86]


def test_nothing_new_keeps_everything(tmp_path: Path) -> None:
    rows = ramp(range(0, 400, 5))
    published = republished(smooth(rows), tmp_path)
    pd.testing.assert_frame_equal(smooth(rows, published=published).smoothed, published)


@pytest.mark.parametrize("case", ["a date between", "short", "few dates"])
def test_what_starts_everything_afresh(tmp_path: Path, case: str) -> None:
    late = ramp(range(0, 430, 5), jump=0.01)
    early = {
        "a date between": late.iloc[:80].drop(index=[40]).assign(fid=0),
        "short": late.iloc[:50],
        "few dates": late.iloc[[0]],
    }[case]
    if case == "a date between":
        late = pd.concat([late, series({203: 0.5})])
    published = republished(smooth(early, window_length=1, polyorder=0), tmp_path)
    pd.testing.assert_frame_equal(smooth(late, published=published).smoothed, smooth(late).smoothed)


def test_a_column_that_was_empty_until_now(tmp_path: Path) -> None:
    early, late = ramp(range(0, 400, 5)), ramp(range(0, 430, 5))
    early["crop"], late["crop"] = None, ["maize"] * len(late)
    found = smooth(late, published=republished(smooth(early), tmp_path)).smoothed
    assert found["crop"].isna().sum() == 80
    assert found["crop"].iloc[-1] == "maize"
