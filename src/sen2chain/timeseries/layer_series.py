"""The parts that `TimeSeries` and `TimeSeriesCompil` share: checked keywords, the layer, the rows and the report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sen2chain import settings
from sen2chain.archive import reads_at_once
from sen2chain.errors import EmptyResultError, truth
from sen2chain.export import write_csv
from sen2chain.extract import resolve_executor
from sen2chain.files import absolute
from sen2chain.plan import Request
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_results, conditions, has_rows, provenance
from sen2chain.report import REPORT_COLUMNS
from sen2chain.timeseries.engine import Engine
from sen2chain.timeseries.suggestions import suggest_keywords
from sen2chain.vectors import own_copy, read_layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from sen2chain.report import Report
    from sen2chain.vectors import Layer

_OF_MASK = ("cm_version", "probability", "iterations", "cld_shad", "cld_med_prob", "cld_hi_prob", "thin_cir")
_OF_REQUEST = (
    "indices", "masks", "date_min", "date_max", "stats", "cover_min", "cover_max", "pixels", "buffer", "min_valid",
    "units", "keep_empty", "prefer", "verify",
)  # fmt: skip
_OF_LAYER = ("layer", "name", "field_names", "encoding", "crs")


class LayerSeries(ABC):
    """Statistics of the polygons of one layer by date.

    Parameters
    ----------
    keywords
        The parameters of `TimeSeries` or `TimeSeriesCompil` by name; others are ignored.

    Raises
    ------
    RequestError
        If a parameter cannot be used; the message lists what is allowed.
    LayerError
        If the layer cannot be used.
    """

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        self.request = Request.build(
            keywords={name: keywords[name] for name in _OF_MASK},
            **{name: keywords[name] for name in _OF_REQUEST if name in keywords},
        )
        self.field_names = keywords["field_names"]
        executor = resolve_executor(
            *(keywords[name] for name in ("executor", "multiproc", "scheduler")),
            at_once=reads_at_once(keywords["library"]),
        )
        self._quiet = truth("quiet", keywords["quiet"])
        with activity("reading the layer", quiet=self._quiet):
            layer = read_layer(
                keywords["vectors_file"],
                cache=settings.cache_dir() / "layers",
                **{name: keywords[name] for name in _OF_LAYER},
            )
        self._engine = Engine(self.request, layer, executor, keywords["library"], keywords["safe"], self._quiet)
        self._frames: dict[str, pd.DataFrame] | None = None
        self._remarks: list[str] = []

    @abstractmethod
    def _reported(self) -> Report:
        """Return the report of everything that was requested."""

    @abstractmethod
    def _read_frames(self) -> dict[str, pd.DataFrame]:
        """Return the frames of `data`."""

    @property
    def layer(self) -> Layer:
        """The polygons; a copy, which can be changed without changing results."""
        return self._engine.layer.handed_out()

    @property
    def data(self) -> dict[str, pd.DataFrame]:
        """Index -> rows by feature, then date, indexed by date, in the documented columns.

        Each call gives frames of their own: changing one changes no other, and no result.
        """
        if self._frames is None:
            self._frames = self._read_frames()
        return {name: own_copy(frame) for name, frame in self._frames.items()}

    @property
    def report(self) -> pd.DataFrame:
        """One line per index, mask, tile and acquisition: sources, rows, and features left out by reason."""
        return self._reported().frame()

    @property
    def rows(self) -> int:
        """Number of rows with values."""
        return self._reported().rows

    @property
    def incomplete(self) -> bool:
        """Whether a product could not be used, or an index gave nothing at all."""
        return self._reported().is_incomplete(self._engine.outputs)

    def why_nothing(self) -> str:
        """Return the most likely cause why there is no row, and how to mend it; empty where there are rows.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        return self._engine.why_nothing(self._reported())

    def why_partly(self) -> str:
        """Return what could not be used, and which index or mask gave nothing and why; empty where all went well."""
        return self._reported().why_partly(self._engine.outputs)

    @suggest_keywords
    def report_to_csv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the report as one CSV file, with the JSON beside it; `overwrite` as for `TimeSeries.to_csv`."""
        if not overwrite:
            self._remarks += self.check_report(path)
        report, file = self._reported(), absolute(path)
        if not (overwrite or len(report)) and has_rows(file):
            raise EmptyResultError(
                f"{file} has rows and is kept, since this run's report has none; "
                "overwrite=True (--overwrite) replaces it."
            )
        note = provenance(self.request, self._engine.layer, self._engine.archive, report)
        write_csv([pa.Table.from_pandas(report.frame(), preserve_index=False)], file, note)
        return file

    def check_report(self, path: str | Path) -> list[str]:
        """Make sure, before any work starts, that a report replaces no other file.

        Returns
        -------
        list
            A sentence on the report that it replaces.

        Raises
        ------
        OutputError
            If a file is there that was made in another way.
        """
        return check_results([self._planned_report(path)]).sentences()

    def _planned_report(self, path: str | Path) -> PlannedTable:
        return PlannedTable(absolute(path), conditions(self.request, self._engine.layer), lambda: REPORT_COLUMNS)

    def _in_words(self) -> str:
        """Return the layer and the names of indices and masks, for `repr`."""
        layer, indices, masks = self._engine.layer, self.request.indices, self.request.masks
        names = [", ".join(index.name for index in indices), ", ".join(mask.name for mask in masks)]
        return f"{layer.name}: {len(layer)} features; {'; '.join(names)}"
