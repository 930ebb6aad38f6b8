"""Aggregates: one row per feature and period instead of one per feature and date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from sen2chain.errors import RequestError, choice, items_of
from sen2chain.periods.calendar import CUSTOM, key_of
from sen2chain.spool import attributes_beside, id_after_fid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sen2chain.periods.calendar import Week

AGGREGATES = ("mean", "median", "max", "count", "weighted_mean")
"""Statistics over the ``mean`` of each date in a period: mean, median, maximum, number of dates, and the mean weighted
by the number of valid pixels."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The statistics over the dates of a period."""

    names: tuple[str, ...]
    """Some of `AGGREGATES`."""

    @classmethod
    def of(cls, names: str | Iterable[str]) -> Aggregation:
        """Check names.

        Raises
        ------
        UnknownNameError
            If one of them is not one of `AGGREGATES`.
        """
        named = [names] if isinstance(names, str) else items_of("aggregate", names, '"mean"')
        for name in named:
            choice("aggregate", name, AGGREGATES)
        chosen = tuple(dict.fromkeys(named))
        if not chosen:
            raise RequestError(f"No aggregate is asked for; allowed: {', '.join(AGGREGATES)}.")
        return cls(chosen)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of numbers: the number of dates first, then the chosen aggregates."""
        return ("dates", *(name for name in self.names if name != "count"))

    @property
    def definitions(self) -> dict[str, dict[str, str]]:
        """Long name and unit of each column."""
        texts = {
            "dates": ("number of dates with valid pixels", "1"),
            "mean": ("mean over dates of the mean of valid pixels", "1e-4"),
            "median": ("median over dates of the mean of valid pixels", "1e-4"),
            "max": ("largest mean of valid pixels of a date", "1e-4"),
            "weighted_mean": ("mean over dates of the mean of valid pixels, weighted by their number", "1e-4"),
        }
        return {name: dict(zip(("long_name", "units"), texts[name], strict=True)) for name in self.columns}

    def schema(self, attributes: pa.Table, id_field: str = "") -> pa.Schema:
        """Return the columns of the table: period and feature, the user's own key, the numbers, the attributes."""
        head = [("period", pa.string()), ("fid", pa.int64()), ("dates", pa.int64())]
        head += [(name, pa.float64()) for name in self.columns[1:]]
        names = attributes_beside([name for name, _ in head], attributes)
        columns = pa.schema([*head, *zip(names, attributes.schema.types, strict=True)])
        moved = dict(zip(attributes.schema.names, names, strict=True)).get(id_field, "")
        return pa.schema([columns.field(name) for name in id_after_fid(columns.names, moved)])

    def apply(self, rows: pa.Table, kind: str, week: Week = "sunday", period: str = "") -> pd.DataFrame:
        """Aggregate the complete series of some features.

        Parameters
        ----------
        rows
            Columns ``date``, ``fid``, ``count`` and ``mean`` at least.
        kind
            One of `sen2chain.periods.KINDS`, or `CUSTOM`.
        week
            How weeks are counted.
        period
            Name of the one period of `CUSTOM`.

        Returns
        -------
        pandas.DataFrame
            Columns ``period``, ``fid`` and `columns`; by feature, then period.
        """
        frame = rows.select(["date", "fid", "count", "mean"]).to_pandas().dropna(subset="mean")
        days, which = np.unique(frame["date"].to_numpy().astype("datetime64[D]"), return_inverse=True)
        if kind == CUSTOM:
            keys = np.full(len(days), period, dtype=object)
        else:
            keys = np.array([key_of(day, kind, week) for day in days.tolist()], dtype=object)
        frame["period"] = keys[which] if len(days) else []
        frame["total"] = frame["mean"] * frame["count"]
        groups = frame.groupby(["fid", "period"], sort=True)
        made = pd.DataFrame({"dates": groups["mean"].count()})
        for name in self.columns[1:]:
            if name == "weighted_mean":
                made[name] = groups["total"].sum() / groups["count"].sum()
            else:
                made[name] = groups["mean"].agg(name)
        return made.reset_index()[["period", "fid", *self.columns]]
