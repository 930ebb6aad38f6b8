"""Wide tables: one row per feature, and one column per date or period with one statistic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sen2chain.spool import attributes_beside, id_after_fid

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


def by_date(
    values: Iterable[tuple[dt.datetime, Ints, Floats]],
    features: int,
    columns: int,
    dates: Collection[dt.datetime] = (),
) -> dict[dt.datetime, Floats]:
    """Spread values of rows over features.

    Parameters
    ----------
    values
        What `sen2chain.spool.Spool.values` yields: the date, features and columns of some rows.
    features
        Number of features.
    columns
        Number of columns of values.
    dates
        Dates that are to be there; others are added.

    Returns
    -------
    dict
        Date -> (columns, features) values, NaN where a feature has no row; by date.
    """
    found: dict[dt.datetime, Floats] = {}
    for date in dates:
        found[date] = np.full((columns, features), np.nan)
    for date, fid, numbers in values:
        if date not in found:
            found[date] = np.full((columns, features), np.nan)
        found[date][:, fid] = numbers.T
    return dict(sorted(found.items()))


def daily(dated: Mapping[dt.datetime, Floats]) -> dict[str, Floats]:
    """Return one column per day; of several acquisitions of a day each feature takes that with the most valid pixels.

    Parameters
    ----------
    dated
        Date -> (2, features): the statistic, and the number of valid pixels; by date.

    Returns
    -------
    dict
        Day as ``2021-10-15`` -> (features,).
    """
    found: dict[str, Floats] = {}
    best: dict[str, Floats] = {}
    for date, (value, count) in dated.items():
        day = date.date().isoformat()
        if day not in found:
            found[day], best[day] = value, count
            continue
        better = ~np.isnan(value) & ~(count <= best[day])  # a count that is missing is no competitor
        found[day] = np.where(better, value, found[day])
        best[day] = np.where(better, count, best[day])
    return found


def by_period(
    dated: Mapping[dt.datetime, Floats], key_of: Callable[[dt.date], str], aggregate: str
) -> dict[str, Floats]:
    """Return one column per period: an aggregate over the dates on which a feature has a value.

    Parameters
    ----------
    dated
        As for `daily`.
    key_of
        Gives the period of a date.
    aggregate
        ``mean``, ``median``, ``max``, ``count`` (number of dates) or ``weighted_mean`` (by the number of valid pixels).

    Returns
    -------
    dict
        Period -> (features,); NaN where a feature has no value in it, and 0 for ``count``.
    """
    periods: dict[str, list[Floats]] = {}
    for date, columns in dated.items():
        periods.setdefault(key_of(date.date()), []).append(columns)
    return {key: _AGGREGATES[aggregate](*np.stack(columns, axis=1)) for key, columns in periods.items()}


def _count(values: Floats, _: Floats) -> Floats:
    number: Floats = np.count_nonzero(~np.isnan(values), axis=0).astype(float)
    return number


def _mean(values: Floats, _: Floats) -> Floats:
    return _ratio(np.nansum(values, axis=0), _count(values, _))


def _weighted_mean(values: Floats, counts: Floats) -> Floats:
    weights = np.where(np.isnan(values), 0, counts)
    return _ratio(np.nansum(values * weights, axis=0), np.nansum(weights, axis=0))


def _max(values: Floats, _: Floats) -> Floats:
    largest: Floats = np.fmax.reduce(values, axis=0)
    return largest


def _median(values: Floats, _: Floats) -> Floats:
    ordered = np.sort(values, axis=0)  # NaN last
    number = np.count_nonzero(~np.isnan(values), axis=0)
    middle = [np.maximum((number - 1) // 2, 0), np.minimum(number // 2, len(values) - 1)]
    lower, upper = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in middle)
    middle_value: Floats = np.where(number > 0, (lower + upper) / 2, np.nan)
    return middle_value


def _ratio(total: Floats, number: Floats) -> Floats:
    quotient: Floats = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    return quotient


_AGGREGATES: Mapping[str, Callable[[Floats, Floats], Any]] = {
    "mean": _mean, "median": _median, "max": _max, "count": _count, "weighted_mean": _weighted_mean,
}  # fmt: skip


def wide_table(columns: Mapping[str, Floats], attributes: pa.Table, id_field: str = "") -> pa.Table:
    """Return one row per feature: fid, the user's own key, the other attributes, then a column per date or period.

    Parameters
    ----------
    columns
        Name -> (features,) values.
    attributes
        Attributes of the layer by fid; ``attr_`` is put before those named like a date or period.
    id_field
        The attribute that goes right after ``fid``; empty for none.
    """
    names = attributes_beside(["fid", *columns], attributes)
    own = {"fid": pa.array(np.arange(attributes.num_rows)), **dict(zip(names, attributes.columns, strict=True))}
    moved = next((name for name, old in zip(names, attributes.schema.names, strict=True) if old == id_field), "")
    numbers = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    table = pa.table({**own, **numbers})
    order: Sequence[str] = id_after_fid(table.schema.names, moved)
    return table.select(order)
