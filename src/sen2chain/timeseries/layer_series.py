"""The parts that `TimeSeries` and `TimeSeriesCompil` share: checked keywords, the layer, the rows and the report."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sen2chain import settings
from sen2chain.archive import chosen_source, reads_at_once
from sen2chain.errors import (
    EmptyResultError,
    OutputError,
    RequestError,
    shown,
    truth,
)
from sen2chain.export import to_frame, write_csv
from sen2chain.extract import resolve_executor
from sen2chain.files import absolute
from sen2chain.index_series import IndexSeries, days_of
from sen2chain.indices import SCALE
from sen2chain.kept_source import find_kept
from sen2chain.notebook import card
from sen2chain.plan import KeepRequest, Request
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_outside_tables, check_results, conditions, has_rows, provenance
from sen2chain.report import REPORT_COLUMNS
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.engine import Engine
from sen2chain.vectors import named_fields, own_copy, read_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pandas as pd

    from sen2chain.report import Report
    from sen2chain.spool import Spool
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
        self._all_indices = keywords["indices"] is None
        self.field_names = keywords["field_names"]
        library = chosen_source(*(keywords[name] for name in ("library", "safe", "stac", "collection")))
        executor = resolve_executor(
            *(keywords[name] for name in ("executor", "multiproc", "scheduler")), at_once=reads_at_once(library)
        )
        self._quiet = truth("quiet", keywords["quiet"])
        cache = settings.cache_dir() / "layers"
        with activity("reading the layer", quiet=self._quiet):
            layer = read_layer(
                keywords["vectors_file"],
                cache=cache,
                **{name: keywords[name] for name in _OF_LAYER},
            )
        own = keywords["id_field"]
        keys = () if isinstance(own, str) and not own else named_fields(layer, "id_field", own)
        self.id_field = keys[0] if keys else None
        place, buffer = keywords.get("pixels_from"), self.request.buffer
        self._engine = Engine(
            self.request, layer, executor, library, keywords["safe"], self._quiet,
            self.id_field, named_fields(layer, "field_names", self.field_names),
            None if place is None or (isinstance(place, str) and not place) else find_kept(place, layer, buffer, cache),
            keep=KeepRequest.of(keywords.get("keep_pixels"), keywords.get("keep_margin")),
        )  # fmt: skip
        self._report: Report | None = None
        self._frames: dict[str, pd.DataFrame] | None = None
        self._remarks: list[str] = []

    @abstractmethod
    def _reported(self) -> Report:
        """Return the report of everything that was requested."""

    @abstractmethod
    def _rows_of(self, index: str, mask: str) -> Spool:
        """Return a spool with the rows of an index under a mask; they are extracted or read first where needed."""

    @abstractmethod
    def _results_folder(self, out_path: str | Path | None, index: str | None = None, mask: str | None = None) -> Path:
        """Return the folder that files of an index under a mask go to, or files of all of them; it is not made.

        Parameters
        ----------
        out_path
            The folder that the user names; None is the usual one, where the class has one.
        index, mask
            Names; None is for files of all indices and masks.

        Raises
        ------
        OutputError
            If there is no such folder.
        """

    def _series(self) -> list[IndexSeries]:
        """Return the rows of each index under each mask, with what pictures and maps need to know of them."""
        found = []
        report = self._reported()
        for index in self.request.indices:
            for mask in self.request.masks:
                spool = self._rows_of(index.name, mask.name)
                found.append(
                    IndexSeries(
                        index,
                        mask.name,
                        self._engine.features,
                        scale=1.0 if self.request.units == "index" else float(SCALE),
                        schema=spool.schema,
                        tables=functools.partial(spool.tables, index.name, mask.name),
                        rows=spool.rows(index.name, mask.name),
                        days=days_of(report, index.name, mask.name),
                    )
                )
        return found

    def _shown(self) -> list[IndexSeries]:
        """Return the rows of what was asked for, without indices that were neither named nor extracted."""
        texts = self._reported().texts
        looked_at = set(zip(texts["index"], texts["mask"], strict=True))
        series = self._series()
        known = [one for one in series if (one.index.name, one.mask) in looked_at]
        return known if known and self._all_indices else series

    def _results_stem(self, index: str | None = None, mask: str | None = None, kind: str = "") -> str:
        """Return the stem of a file of results: ``<layer>[_<kind>][_<INDEX>]_<date_min>_<date_max>[_<MASK>]``.

        Parameters
        ----------
        index, mask
            Names; None where the file has all of them. The mask is part of the stem where there are several.
        kind
            What the file shows, as ``plot-global``.
        """
        request = self.request
        parts = [self._engine.layer.name, kind, index, request.first, request.last]
        if len(request.masks) > 1:
            parts.append(mask)
        return "_".join(f"{part}" for place, part in enumerate(parts) if part or place in {3, 4})

    def provenance(self, index: str | None = None, mask: str | None = None) -> dict[str, Any]:
        """Return how the rows came about: parameters, versions, layer, and the products and sources used."""
        engine, report = self._engine, self._reported().about(index, mask)
        return provenance(self.request, engine.layer, engine.archive, report, index=index, mask=mask)

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
            masks, frames = self.request.masks, {}
            for index in self.request.indices:
                spools = [(self._rows_of(index.name, mask.name), mask.name) for mask in masks]
                tables = [table for spool, mask in spools for table in spool.tables(index.name, mask)]
                frames[index.name] = to_frame(tables, spools[0][0].schema)
            self._frames = frames
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

    def check_results(
        self, out_path: str | Path | None, kinds: Iterable[str] = ("csv",), *, report: str | Path | None = None
    ) -> list[str]:
        """Make sure, before any work starts, that results can be written and replace no others.

        Parameters
        ----------
        out_path
            Folder for the results.
        kinds
            Kinds of results, as ``csv``, ``parquet``.
        report
            The file of the report too.

        Returns
        -------
        list
            Sentences on the results that are replaced.

        Raises
        ------
        OutputError
            If they cannot, see `TimeSeries.to_csv`.
        """
        planned = [table for kind in kinds for table in self._planned_results(out_path, kind)]
        if report:
            told = self._planned_report(report)
            beside = told.path.with_suffix(".json")
            if any(table.path.with_suffix(".json") == beside for table in planned):
                raise OutputError(f"{told.path} is where a result goes; choose another name for the report.")
            planned.append(told)
        return check_results(planned).sentences()

    def new_results(self, out_path: str | Path | None, kinds: Iterable[str] = ("csv",)) -> list[Path]:
        """Return the files of results that are not known to be there, made in the same way, before any work starts.

        A file without a JSON that says how it was made counts as new. Parameters and errors are those of
        `check_results`.
        """
        planned = [table for kind in kinds for table in self._planned_results(out_path, kind)]
        known = set(check_results(planned).known)
        return [table.path for table in planned if table.path not in known]

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:  # noqa: ARG002
        """Return the files that results of a kind go to, as far as they have a JSON beside them.

        Classes that write further kinds of results override it, and pass on the kinds that they do not know.

        Raises
        ------
        RequestError
            If there is no such kind of result.
        """
        raise RequestError(f"{type(self).__name__} cannot write {shown(kind)}.")

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
        file = absolute(path)
        check_outside_tables(file.parent)
        return PlannedTable(file, conditions(self.request, self._engine.layer), lambda: REPORT_COLUMNS)

    def _repr_html_(self) -> str:
        """Show in a notebook what this is, how much, and what to do next; nothing is extracted or read for it."""
        layer, request, report = self._engine.layer, self.request, self._report
        reasons = report.totals().most_common() if report is not None else []
        days = (("from", request.first), ("to", request.last))
        facts = [
            ("Layer", layer.path or layer.name), ("Features", len(layer)),
            ("Indices", ", ".join(index.name for index in request.indices)),
            ("Cloud masks", ", ".join(mask.name for mask in request.masks)),
            ("Dates", " ".join(f"{word} {day}" for word, day in days if day) or "all"),
            *self._facts(),
        ]  # fmt: skip
        if report is not None:
            facts.append(("Rows", report.rows))
        table = [("Without a row because", "times"), *((reason.sentence, count) for reason, count in reasons)]
        return card(type(self).__name__, facts, self._next_step(), table if reasons else ())

    @abstractmethod
    def _facts(self) -> list[tuple[str, object]]:
        """Return names and values for `_repr_html_` that only this class has."""

    @abstractmethod
    def _next_step(self) -> str:
        """Return the code that people may write next."""

    def _in_words(self) -> str:
        """Return the layer and the names of indices and masks, for `repr`."""
        layer, indices, masks = self._engine.layer, self.request.indices, self.request.masks
        names = [", ".join(index.name for index in indices), ", ".join(mask.name for mask in masks)]
        return f"{layer.name}: {len(layer)} features; {'; '.join(names)}"
