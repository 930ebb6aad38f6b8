"""Words in settings and cells of a job's file: days, switches, numbers, lists."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Self

from sen2chain.errors import RequestError, quoted

EARLIEST = dt.date(2015, 1, 1)
"""First sensing date where ``date_min`` is empty: the year in which the first Sentinel-2 was launched."""
_OFF = {"", "false", "no", "off", "0", "none", "nan"}
_ON = {"true", "yes", "on", "1"}
_TODAY = re.compile(r"today(?:\s*-\s*([0-9]{1,6}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Day:
    """A date, or a day counted from the day of the run."""

    date: dt.date | None = None
    """The date; None counts from today."""
    back: int = 0
    """Days before today."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read ``YYYY-MM-DD``, ``today`` or ``today-30``; None for an empty or switched-off cell.

        Raises
        ------
        RequestError
            If it is none of these, or not a day of the calendar.
        """
        if is_off(text):
            return None
        if match := _TODAY.fullmatch(text):
            day = cls(back=int(match[1] or 0))
            if day.back > (dt.datetime.now(dt.UTC).date() - EARLIEST).days:
                raise RequestError(
                    f"{quoted(text)} is before {EARLIEST}, the time of the first image; count fewer days."
                )
            return day
        try:
            return cls(dt.datetime.strptime(text, "%Y-%m-%d").date())  # noqa: DTZ007  # dates of the archive are UTC
        except ValueError:
            raise RequestError(
                f"{quoted(text)} is not a date; write YYYY-MM-DD, today, or today-30 for 30 days before."
            ) from None

    def on(self, today: dt.date) -> dt.date:
        """Return the date on the day of a run."""
        return self.date or today - dt.timedelta(days=self.back)

    def __str__(self) -> str:
        return str(self.date) if self.date else f"today-{self.back}" if self.back else "today"


def is_off(text: str) -> bool:
    """Tell whether a cell is empty or switched off."""
    return text.strip().lower() in _OFF


def is_on(text: str) -> bool:
    """Tell whether a cell is switched on."""
    return text.strip().lower() in _ON


def switch(text: str) -> bool:
    """Read ``True`` or ``False``.

    Raises
    ------
    RequestError
        If it is neither.
    """
    if is_off(text) or is_on(text):
        return is_on(text)
    raise RequestError(f"{quoted(text)} is neither True nor False.")


def cell_number(text: str, largest: int) -> int:
    """Read a number from 0 to `largest`.

    Raises
    ------
    RequestError
        If it is not one.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > largest:
        raise RequestError(f"{quoted(text)} is not a whole number from 0 to {largest}.")
    return int(text)


def percentage(text: str) -> float:
    """Read a percentage; an empty or switched-off cell is 100, and ``0`` is 0.

    Raises
    ------
    RequestError
        If it is not a number from 0 to 100.
    """
    if is_off(text) and text.strip() != "0":
        return 100.0
    number = text.strip().removesuffix("%").rstrip()
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?", number) or float(number) > 100:
        raise RequestError(f"{quoted(text)} is not a percentage from 0 to 100.")
    return float(number)


def items(text: str) -> list[str]:
    """Split a list at ``/``; an empty or switched-off cell gives an empty list.

    Raises
    ------
    RequestError
        If a name between two ``/`` is empty, or the cell has a comma.
    """
    if is_off(text):
        return []
    if "," in text and "=" not in text:  # a formula has a comma of its own
        raise RequestError(f"{quoted(text)} has a comma; write / between names.")
    found = [item.strip() for item in text.split("/")]
    if not all(found):
        raise RequestError(f"{quoted(text)} has an empty name; write names with one / between them.")
    return found
