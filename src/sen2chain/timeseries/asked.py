"""What is to be compiled, checked once, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, get_args

from sen2chain import periods
from sen2chain.errors import RequestError, choice, items_of, truth
from sen2chain.timeseries.smoothed_files import SmoothRequest

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

FORMATS = ("csv", "parquet")
"""Formats of compiled files."""


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """Which files are asked for."""

    kinds: tuple[str, ...] = ()
    """Some of `sen2chain.periods.KINDS`."""
    custom: bool = False
    """Whether a range of dates is asked for."""
    first: dt.date | None = None
    """First date of the range, inclusive; None is open."""
    last: dt.date | None = None
    """Last date of the range, inclusive; None is open."""
    week: periods.Week = "sunday"
    """How weeks are counted."""
    formats: tuple[str, ...] = ("csv",)
    """``csv``, ``parquet``."""
    aggregation: periods.Aggregation | None = None
    """What is made of the dates of a period, besides the rows themselves."""
    smooth: SmoothRequest | None = None
    """How all dates, or those of the range, are smoothed."""

    @classmethod
    def of(
        cls,
        *,
        flags: Mapping[str, bool],
        first: dt.date | None = None,
        last: dt.date | None = None,
        week: periods.Week = "sunday",
        formats: str | Sequence[str] = "csv",
        aggregate: str | Iterable[str] | None = None,
        smoothing: bool | str = False,
        smooth: Mapping[str, Any] | None = None,
    ) -> Self:
        """Check what is asked for.

        Raises
        ------
        RequestError
            If nothing is asked for, or something that does not go together.
        """
        kinds = tuple(kind for kind in periods.KINDS if truth(kind.replace("all_data", "alldata"), flags[kind]))
        custom = first is not None or last is not None
        if not kinds and not custom:
            raise RequestError(
                "Nothing is to be compiled; "
                "ask for alldata, yearly, monthly, weekly or daily, or pass datemin or datemax."
            )
        if first and last and first > last:
            raise RequestError(f"datemin {first} is after datemax {last}; swap them.")
        choice("week", week, get_args(periods.Week))
        named = (
            [formats] if isinstance(formats, str) else items_of("formats", () if formats is None else formats, '"csv"')
        )
        for name in named:
            choice("format", name, FORMATS)
        chosen = tuple(dict.fromkeys(named))
        if not chosen:
            raise RequestError(f"No format is asked for; allowed: {', '.join(FORMATS)}.")
        method = SmoothRequest.of(smoothing, **(smooth or {}))
        if method is not None and periods.ALL not in kinds and not custom:
            raise RequestError("Whole series are smoothed; ask for alldata=True, datemin or datemax with smoothing.")
        aggregation = None if aggregate is None else periods.Aggregation.of(aggregate)
        return cls(kinds, custom, first, last, week, chosen, aggregation, method)

    @classmethod
    def of_kind(cls, kind: str, aggregate: str | Iterable[str] | None, week: periods.Week) -> Self:
        """Ask for the aggregates of one kind of period.

        Raises
        ------
        RequestError
            If one of them is unknown.
        """
        choice("kind", kind, periods.KINDS)
        if aggregate is None:
            raise RequestError(f"No aggregate is asked for; allowed: {', '.join(periods.AGGREGATES)}.")
        return cls.of(flags={name: name == kind for name in periods.KINDS}, week=week, aggregate=aggregate)

    def is_within(self, day: dt.date) -> bool:
        """Tell whether a day is in the range."""
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


@dataclass(slots=True)
class Compiled:
    """What a compilation did."""

    files: list[Path] = field(default_factory=list)
    """Files that were written."""
    unchanged: list[Path] = field(default_factory=list)
    """Files that are as they would be written."""
    removed: list[Path] = field(default_factory=list)
    """Files of periods that have no rows any more."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what was asked for and is not there."""
    remarks: list[str] = field(default_factory=list)
    """Sentences on what was written."""

    def __str__(self) -> str:
        text = f"{len(self.files)} file{'s' * (len(self.files) != 1)} written, {len(self.unchanged)} unchanged"
        return f"{text}, {len(self.removed)} removed." if self.removed else f"{text}."
