"""An independent computation of the compiled time series, written from the documented layout alone.

Whole tables, one row looked at after the other: slow, plain, and sharing no line with the package. Nothing here
imports it. A table has the column `date` as timestamps, the documented numbers as numbers (`fid` whole), and tile,
file name and the layer's attributes as the text that stands in the file ("" where nothing does).
"""

from __future__ import annotations

import math
import re
import statistics
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COUNTS: Final = ("count", "nodata", "nbcld")
STATISTICS: Final = ("cldprb", "min", "max", "mean", "std", "median", "percentile_25", "percentile_75")
COLUMNS: Final = ("date", "fid", "tile", "filename", *COUNTS, *STATISTICS)
NUMBERS: Final = ("fid", *COUNTS, *STATISTICS, "completeness")
HELPERS: Final = ("year", "month", "week", "day")
KINDS: Final = ("all_data", "yearly", "monthly", "weekly", "daily")

PRODUCT: Final = re.compile(
    r"S2[A-Z]_MSIL2A_\d{8}T\d{6}_N(?P<baseline>\d{4})_R\d{3}_T(?P<tile>\w{5})_(?P<generation>\d{8}T\d{6})",
)
# How a number is written; codes with zeros in front, such as 0471, are no numbers.
NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")

# ------------------------------------------------------------------------------------------------------------ reading


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give date and numbers their types and make text of the rest, in a new table with rows from 0."""
    result = pd.DataFrame(index=range(len(table)))
    for name in table.columns:
        column = table[name].reset_index(drop=True)
        if name == "date":
            result[name] = pd.to_datetime(column, format="ISO8601").astype("datetime64[ns]")
        elif name in NUMBERS:
            numbers = [math.nan if text(value) == "" else float(value) for value in column]
            result[name] = pd.Series(numbers, dtype="int64" if name == "fid" else "float64")
        else:
            result[name] = pd.Series([text(value) for value in column], dtype="object")
    return result


def text(value: Any) -> str:
    """Give what stands in a cell; nothing is "", whatever the kind of nothing."""
    return "" if value is None or value is pd.NA or value is pd.NaT or value != value else str(value)  # noqa: PLR0124


def read(path: Path) -> pd.DataFrame:
    """Read a raw or compiled CSV file: "NA" is a text, and every digit counts."""
    return typed(pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8"))


def without_helpers(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the columns year, month, week and day that the original leaves behind the attributes of some files."""
    names = list(table.columns)
    for helper in reversed(HELPERS):
        if names[-1] == helper:
            names.pop()
    return table[names]


def raw_rows(folder: Path, index: str, mask: str) -> pd.DataFrame:
    """Read all rows of all images of one index and mask, by file name; attributes are "" in rows from Parquet.

    `folder` is the layer's folder, the one that holds `raw_data`.
    """
    place = folder / "raw_data" / index / mask
    paths = sorted([*place.glob("*.csv"), *place.glob("*.parquet")])
    images: dict[str, Path] = {}
    tables = []
    for path in paths:
        found = list(PRODUCT.finditer(path.stem))
        assert found, f"{path.name} names no product"
        image = path.stem[found[-1].start() :]
        assert image not in images, f"{image} has two files: {images[image].name} and {path.name}"
        images[image] = path
        if path.suffix == ".csv":
            table = read(path)
            assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS, f"{path.name} has the columns {list(table)}"
        else:
            with pq.ParquetFile(path) as file:
                table = typed(file.read().to_pandas(ignore_metadata=True))
            assert tuple(table.columns) == COLUMNS, f"{path.name} has the columns {list(table)}"
        tables.append(table)
    if not tables:
        return typed(pd.DataFrame(columns=list(COLUMNS), dtype="object"))
    rows = pd.concat(tables, ignore_index=True)
    for name in rows.columns[len(COLUMNS) :]:
        rows[name] = pd.Series([text(value) for value in rows[name]], dtype="object")
    return rows


# ------------------------------------------------------------------------------------------------------------ one row


def cut_off(row: pd.Series[Any]) -> float:
    """Give the part of the polygon's pixels without data for another reason than cloud."""
    return float((row["nodata"] - row["nbcld"]) / (row["count"] + row["nodata"]))


def preference(row: pd.Series[Any]) -> tuple[bool, int, float, float, str, int]:
    """Order the rows of one polygon and date; the smallest is kept."""
    product = PRODUCT.match(row["filename"])
    assert product, f"{row['filename']} names no product"
    return (
        not cut_off(row) < 0.10,
        -int(product["baseline"]),
        -float(row["count"]),
        float(row["std"]),
        product["tile"],
        -int(product["generation"].replace("T", "")),
    )


def one_row(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the best row of each polygon and date, by polygon and then date, and add `completeness`.

    Two different rows between which no rule decides are an error of the rows.
    """
    best: dict[tuple[int, pd.Timestamp], int] = {}
    for number in range(len(rows)):
        row = rows.iloc[number]
        key = (int(row["fid"]), pd.Timestamp(row["date"]))
        if key not in best:
            best[key] = number
            continue
        kept = rows.iloc[best[key]]
        if preference(row) < preference(kept):
            best[key] = number
        elif preference(row) == preference(kept):
            assert row.equals(kept), f"no rule decides between two rows of {key}:\n{row}\n{kept}"
    result = rows.iloc[[best[key] for key in sorted(best)]].reset_index(drop=True)
    completeness = [1.0 - cut_off(result.iloc[number]) for number in range(len(result))]
    place = list(result.columns).index("percentile_75") + 1
    result.insert(place, "completeness", pd.Series(completeness, dtype="float64"))
    return result


# ------------------------------------------------------------------------------------------------------------ periods


def key_of(date: pd.Timestamp, kind: str, week: str) -> str:
    """Name the period that a date belongs to, as its file does."""
    assert kind in KINDS, kind
    assert week in {"sunday", "iso"}, week
    if kind == "all_data":
        return "all_data"
    if kind == "yearly":
        return f"{date.year:04d}"
    if kind == "monthly":
        return f"{date.year:04d}-{date.month:02d}"
    if kind == "daily":
        return f"{date.year:04d}-{date.month:02d}-{date.day:02d}"
    if week == "iso":
        iso = date.date().isocalendar()
        return f"{iso.year:04d}-W{iso.week:02d}"
    # Week 1 starts on the year's first Sunday; the days before it are week 0 of the same year.
    sundays = [
        day for day in pd.date_range(f"{date.year:04d}-01-01", date.normalize(), freq="D") if day.day_name() == "Sunday"
    ]
    return f"{date.year:04d}-{len(sundays):02d}"


def periods(rows: pd.DataFrame, kind: str, week: str = "sunday") -> dict[str, pd.DataFrame]:
    """Split rows by period, earliest period first; the order within a period stays."""
    keys = [key_of(pd.Timestamp(date), kind, week) for date in rows["date"]]
    numbers: dict[str, list[int]] = {key: [] for key in sorted(set(keys))}
    for number, key in enumerate(keys):
        numbers[key].append(number)
    return {key: rows.iloc[chosen].reset_index(drop=True) for key, chosen in numbers.items()}


def custom_key(rows: pd.DataFrame) -> str:
    """Name the days of the earliest and the latest row, which stand in the name of a file in `custom`."""
    return f"{rows['date'].min():%Y-%m-%d}_{rows['date'].max():%Y-%m-%d}"


def file_name(stem: str, cover: int, index: str, kind: str, key: str) -> str:
    """Name a compiled file; `kind` "custom" with a key "<first date>_<last date>" is the name in `custom`."""
    if kind == "all_data":
        return f"{stem}_CC{cover}_{index}_all_data.csv"
    if kind == "custom":
        return f"{stem}_CC{cover}_{index}_{key}.csv"
    assert kind in KINDS, kind
    return f"{stem}_CC{cover}_{index}_{kind}_{key}.csv"


def aggregate(rows: pd.DataFrame, kind: str, week: str = "sunday") -> pd.DataFrame:
    """Summarise the column `mean` per period and polygon, by period and then polygon."""
    result: list[dict[str, Any]] = []
    for period, members in periods(rows, kind, week).items():
        for fid in sorted(set(members["fid"])):
            own = members[members["fid"] == fid]
            means = [float(value) for value in own["mean"]]
            counts = [float(value) for value in own["count"]]
            weighted = math.fsum(count * mean for count, mean in zip(counts, means, strict=True)) / math.fsum(counts)
            result.append(
                {
                    "period": period,
                    "fid": int(fid),
                    "dates": len(means),
                    "mean": math.fsum(means) / len(means),
                    "median": statistics.median(means),
                    "max": max(means),
                    "weighted": weighted,
                },
            )
    return pd.DataFrame(result, columns=["period", "fid", "dates", "mean", "median", "max", "weighted"])


# ---------------------------------------------------------------------------------------------------------- comparing


def close(actual: float, expected: float, rtol: float) -> bool:
    if math.isnan(actual) or math.isnan(expected):
        return math.isnan(actual) and math.isnan(expected)
    return actual == expected or abs(actual - expected) <= rtol * abs(expected)


def same_text(actual: str, expected: str, rtol: float) -> bool:
    """Take 5888 for 5888.0, but not 7 for 007."""
    if NUMBER.fullmatch(actual) and NUMBER.fullmatch(expected):
        return close(float(actual), float(expected), rtol)
    return actual == expected


def names(table: pd.DataFrame, numbers: Iterable[int]) -> str:
    """Say which rows these are, by the columns that identify a row."""
    columns = [name for name in ("period", "date", "fid") if name in table.columns]
    lines = [
        f"row {number}: " + ", ".join(f"{name} {table[name].iloc[number]}" for name in columns) for number in numbers
    ]
    return "\n".join(lines[:10] + [f"and {len(lines) - 10} more"] * (len(lines) > 10))


def identities(table: pd.DataFrame) -> list[tuple[str, ...]]:
    columns = []
    for name in ("period", "date", "fid"):
        if name in table.columns:
            column = table[name]
            if name == "date":
                columns.append([text(value) for value in pd.to_datetime(column, format="ISO8601")])
            else:
                columns.append([str(float(value)) if name == "fid" else text(value) for value in column])
    return list(zip(*columns, strict=True))


def same(actual: pd.DataFrame, expected: pd.DataFrame, rtol: float = 1e-12) -> None:
    """Assert that two tables have the same columns, rows and values, in the same order.

    The column's type in `expected` says how to compare: dates as dates, numbers as numbers within `rtol`, anything
    else as text. Nothing equals nothing. A `date` in the index counts as a first column.
    """
    actual, expected = (table.reset_index() if table.index.name == "date" else table for table in (actual, expected))
    assert list(actual.columns) == list(expected.columns), (
        f"columns differ:\nactual   {list(actual.columns)}\nexpected {list(expected.columns)}"
    )
    here, there = identities(actual), identities(expected)
    if here != there:
        extra = [number for number, identity in enumerate(here) if identity not in set(there)]
        missing = [number for number, identity in enumerate(there) if identity not in set(here)]
        first = next(
            (n for n, (a, e) in enumerate(zip(here, there, strict=False)) if a != e), min(len(here), len(there))
        )
        raise AssertionError(
            f"rows differ: {len(here)} and {len(there)} expected; first at row {first}\n"
            f"only in actual:\n{names(actual, extra)}\nonly in expected:\n{names(expected, missing)}",
        )
    assert len(actual) == len(expected), f"{len(actual)} rows and {len(expected)} expected"
    for name in expected.columns:
        ours, theirs = actual[name].to_list(), expected[name].to_list()
        if pd.api.types.is_datetime64_any_dtype(expected[name]):
            dates = pd.to_datetime(actual[name], format="ISO8601").to_list()
            wrong = [n for n, (a, e) in enumerate(zip(dates, theirs, strict=True)) if text(a) != text(e)]
        elif pd.api.types.is_numeric_dtype(expected[name]) and not pd.api.types.is_bool_dtype(expected[name]):
            numbers = [math.nan if text(value) == "" else float(value) for value in ours]
            wrong = [n for n, (a, e) in enumerate(zip(numbers, theirs, strict=True)) if not close(a, float(e), rtol)]
        else:
            wrong = [
                n for n, (a, e) in enumerate(zip(ours, theirs, strict=True)) if not same_text(text(a), text(e), rtol)
            ]
        assert not wrong, (
            f"column {name} differs in {len(wrong)} of {len(theirs)} rows; the first is {ours[wrong[0]]!r}, "
            f"expected {theirs[wrong[0]]!r}\n{names(expected, wrong)}"
        )
