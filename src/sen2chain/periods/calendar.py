"""The calendar: the period of a date, and the names of files of periods."""

from __future__ import annotations

import datetime as dt
import re
from typing import Literal

Week = Literal["sunday", "iso"]
"""``sunday``: weeks start on Sunday, the days before a year's first Sunday are week 00 (``%U``); ``iso``: ISO 8601."""

ALL = "all_data"
CUSTOM = "custom"
KINDS = (ALL, "yearly", "monthly", "weekly", "daily")
"""Kinds of compilation by the calendar; each is a folder of that name."""

_FORMATS = {"yearly": "%Y", "monthly": "%Y-%m", "weekly": "%Y-%U", "daily": "%Y-%m-%d"}
_KEYS = {
    "yearly": r"\d{4}",
    "monthly": r"\d{4}-\d{2}",
    "weekly": r"\d{4}-\d{2}",
    "iso": r"\d{4}-W\d{2}",
    "daily": r"\d{4}-\d{2}-\d{2}",
}


def key_of(date: dt.date, kind: str, week: Week = "sunday") -> str:
    """Return the period of a date, as it stands in file names.

    Parameters
    ----------
    date
        A date or a time.
    kind
        One of `KINDS`.
    week
        How weeks are counted.

    Returns
    -------
    str
        ``all_data``, ``2021``, ``2021-03``, ``2021-07`` (ISO: ``2021-W07``) or ``2021-03-05``.

    Examples
    --------
    >>> import datetime as dt
    >>> key_of(dt.date(2022, 6, 12), "weekly"), key_of(dt.date(2022, 6, 12), "weekly", "iso")
    ('2022-24', '2022-W23')
    """
    if kind == ALL:
        return ALL
    if kind == "weekly" and week == "iso":
        year, number, _ = date.isocalendar()
        return f"{year}-W{number:02d}"
    return date.strftime(_FORMATS[kind])


def span_of(key: str, kind: str, week: Week = "sunday") -> tuple[dt.date, dt.date]:
    """Return the first day of a period, and the day after its last one.

    Parameters
    ----------
    key
        A result of `key_of`.
    kind
        Its kind, one of `KINDS` but `ALL`, which has no days of its own.
    week
        How weeks are counted.

    Examples
    --------
    >>> span_of("2022-24", "weekly")
    (datetime.date(2022, 6, 12), datetime.date(2022, 6, 19))
    >>> span_of("2021-00", "weekly")
    (datetime.date(2021, 1, 1), datetime.date(2021, 1, 3))
    """
    if kind == "daily":
        first = dt.date.fromisoformat(key)
        return first, first + dt.timedelta(days=1)
    year, _, part = key.partition("-")
    january, next_year = dt.date(int(year), 1, 1), dt.date(int(year) + 1, 1, 1)
    if kind == "yearly":
        return january, next_year
    if kind == "monthly":
        first = january.replace(month=int(part))
        return first, (first + dt.timedelta(days=31)).replace(day=1)
    if week == "iso":
        first = dt.date.fromisocalendar(int(year), int(part.removeprefix("W")), 1)
        return first, first + dt.timedelta(days=7)
    sunday = january + dt.timedelta(days=(6 - january.weekday()) % 7)
    first = sunday + dt.timedelta(days=7 * (int(part) - 1))
    return max(first, january), min(first + dt.timedelta(days=7), next_year)


def is_key(text: str, kind: str, week: Week = "sunday") -> bool:
    """Tell whether a text is a period of a kind."""
    if kind == ALL:
        return text == ALL
    return re.fullmatch(_KEYS["iso" if kind == "weekly" and week == "iso" else kind], text) is not None


def compiled_stem(stem: str, cover: tuple[float, float], index: str, kind: str, key: str = "") -> str:
    """Return the name of a compiled file without its suffix.

    Parameters
    ----------
    stem
        The layer's.
    cover
        Smallest and largest cloud cover of products in percent; the smallest is in the name where it is not 0.
    index
        Name of the index.
    kind
        One of `KINDS`, or `CUSTOM`.
    key
        The period; ``<first date>_<last date>`` for `CUSTOM`.

    Examples
    --------
    >>> compiled_stem("parcels", (0, 100), "NDVI", "monthly", "2022-06")
    'parcels_CC100_NDVI_monthly_2022-06'
    """
    least, most = cover
    limits = f"{least:g}-{most:g}" if least > 0 else f"{most:g}"
    what = key if kind == CUSTOM else kind if kind == ALL else f"{kind}_{key}" if key else kind
    return f"{stem}_CC{limits}_{index}_{what}"
