"""Periods: the day, week, month or year of a date, and the aggregates of rows by period."""

from __future__ import annotations

from sen2chain.periods.aggregate import AGGREGATES, Aggregation
from sen2chain.periods.calendar import ALL, CUSTOM, KINDS, Week, compiled_stem, is_key, key_of, span_of

__all__ = [
    "AGGREGATES",
    "ALL",
    "CUSTOM",
    "KINDS",
    "Aggregation",
    "Week",
    "compiled_stem",
    "is_key",
    "key_of",
    "span_of",
]
