"""Tables for spreadsheets and machine learning: one row per feature, CSV for Excel, and workbooks."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sen2chain import export, periods
from sen2chain.atomic import check_folder
from sen2chain.errors import EmptyResultError, RequestError, choice, escaped, truth
from sen2chain.export.workbook import Sheet
from sen2chain.files import is_file, read_limited
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_results, conditions, has_rows, shared_note
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.layer_series import LayerSeries
from sen2chain.vectors import to_pandas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

_PERIODS = ("yearly", "monthly", "weekly")
_LARGEST_NOTE = 1 << 30  # bytes of a JSON beside a table


class SeriesTables(LayerSeries):
    """Tables of the rows of a layer that have another shape, or are for Excel."""

    @suggest_keywords
    def wide(
        self,
        stat: str = "mean",
        index: str | None = None,
        mask: str | None = None,
        period: str | None = None,
        *,
        aggregate: str = "mean",
        week: periods.Week = "sunday",
        complete: bool = False,
    ) -> pd.DataFrame:
        """Return one row per feature, with one column per date (``2021-10-15``) or period (``2021-10``).

        All features of the layer are there, by fid. Columns are fid, the user's own key, the other attributes, then the
        dates: float64, NaN where a feature has no value, as machine learning takes it. Where a feature has several
        acquisitions on a day, the one with the most valid pixels counts.

        Parameters
        ----------
        stat
            The statistic: a column of numbers of the rows, as ``mean``, ``std``, ``count``; in the unit of the rows.
        index
            Name of the index; needed where there are several.
        mask
            Name of the cloud mask; needed where there are several.
        period
            ``monthly``, ``weekly`` or ``yearly``: aggregates over the dates of a period instead of single dates.
        aggregate
            With `period`: ``mean``, ``median``, ``max``, ``count`` (number of dates) or ``weighted_mean`` (by the
            number of valid pixels).
        week
            ``sunday``: weeks as ``%U`` counts them; ``iso``: ISO 8601.
        complete
            Include the dates of all acquisitions of the run, also those on which no feature has a value.

        Raises
        ------
        RequestError
            If a parameter cannot be used, or the table would take more than half of the memory.

        Examples
        --------
        >>> ts.wide(index="NDVI", period="monthly", aggregate="max")  # doctest: +SKIP
        """
        index = _one_of("index", index, [item.name for item in self.request.indices])
        mask = _one_of("mask", mask, [item.name for item in self.request.masks])
        frame: pd.DataFrame = to_pandas(
            self._wide_table(index, mask, stat, period, aggregate, week, complete=truth("complete", complete))
        )
        return frame

    def _wide_table(
        self,
        index: str,
        mask: str,
        stat: str = "mean",
        period: str | None = None,
        aggregate: str = "mean",
        week: periods.Week = "sunday",
        *,
        complete: bool = False,
    ) -> pa.Table:
        self._check_wide(stat, period, aggregate, week)
        spool, report = self._rows_of(index, mask), self._reported()
        layout, features = spool.layout, len(self._engine.layer)
        dates = {date for date in report.about(index, mask).dates if date is not None} if complete else set()
        steps = dates | spool.dates(index, mask)
        # The statistic and the number of pixels by date, and the table itself.
        export.check_cube(
            features=features, steps=len(steps), outputs=1, columns=3, instead="to_parquet, or period=", what="table"
        )
        dated = export.by_date(spool.values(index, mask, [stat, "count"]), features, 2, dates)
        if period is None:
            columns = export.daily(dated)
        else:
            columns = export.by_period(dated, lambda date: periods.key_of(date, period, week), aggregate)
        return export.wide_table(columns, layout.attributes, layout.id_field)

    def _check_wide(self, stat: str, period: str | None, aggregate: str, week: str) -> None:
        choice("statistic", stat, ("count", "nodata", "nbcld", "cldprb", *self.request.statistics.columns))
        if period is not None:
            choice("period", period, _PERIODS)
        choice("aggregate", aggregate, periods.AGGREGATES)
        choice("week", week, ("sunday", "iso"))

    @suggest_keywords
    def to_wide_csv(
        self,
        out_path: str | Path | None = None,
        stat: str = "mean",
        period: str | None = None,
        *,
        aggregate: str = "mean",
        week: periods.Week = "sunday",
        dialect: str = "plain",
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the wide table of each index and mask as CSV: ``<stem>_<INDEX>_<date_min>_<date_max>_wide.csv``.

        Where they are not the usual ones, the statistic and the period are part of the name (``..._wide_std.csv``,
        ``..._wide_monthly_max.csv``), and so is ``excel``.

        Parameters
        ----------
        out_path
            Folder for the layer's folder; None writes beside the compiled files of a `TimeSeriesCompil`.
        stat, period, aggregate, week
            As for `wide`.
        dialect
            ``plain``, ``excel`` or ``excel-semicolon``, as for `TimeSeries.to_csv`.
        overwrite
            Replace files that were made in another way too.

        Returns
        -------
        list
            The files.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        OutputError
            If a file cannot be written, or one that was made in another way is there; nothing is written then.
        EmptyResultError
            If a file with rows is there and this run gave none; all other files are written.
        """
        self._check_wide(stat, period, aggregate, week)
        choice("dialect", dialect, export.DIALECTS)
        kind = _wide_kind(stat, period, aggregate, week, dialect)
        planned = self._planned_wide(out_path, kind)
        if not overwrite:
            self._remarks += check_results(planned).sentences()
        for folder in {table.path.parent for table in planned}:
            check_folder(folder)
        files, kept = [], []
        for (index, mask), table in zip(self._engine.outputs, planned, strict=True):
            if not (overwrite or self._rows_of(index, mask).rows(index, mask)) and _had_rows(table.path):
                kept.append(table.path)
                continue
            made = self._wide_table(index, mask, stat, period, aggregate, week)
            note = {**self.provenance(index, mask), "table": _in_json(stat, period, aggregate, week)}
            with activity(f"writing {table.path.name}", quiet=self._quiet):
                export.write_csv([made], table.path, note, made.schema, export.DIALECTS[dialect])
            files.append(table.path)
        _tell_kept(kept, files)
        return files

    @suggest_keywords
    def to_excel(self, out_path: str | Path | None = None, *, overwrite: bool = False) -> list[Path]:
        """Write one workbook for Excel: a sheet for each index and mask, one with the parameters, one with the report.

        Dates are dates of Excel, and texts stay texts whatever they begin with. The header stays in view and filters.
        Needs the extra ``sen2chain[excel]``.

        Parameters
        ----------
        out_path
            Folder for the layer's folder; None writes to that of a `TimeSeriesCompil`.
        overwrite
            Replace a workbook that was made in another way too.

        Returns
        -------
        list
            The workbook, ``<stem>_<date_min>_<date_max>.xlsx``.

        Raises
        ------
        SheetLimitError
            If an index has more rows than a sheet takes (1,048,575); nothing is written then.
        OutputError
            If the folder cannot be written, or if a workbook that was made in another way is there.
        EmptyResultError
            If a workbook with rows is there and this run gave none.
        MissingExtraError
            If XlsxWriter is not installed.
        """
        (table,) = self._planned_results(out_path, "xlsx")
        if not overwrite:
            self._remarks += check_results([table]).sentences()
        sheets = list(self._sheets())
        export.check_workbook(sheets, "write CSV or Parquet, or ask for fewer dates")
        if not (overwrite or self._reported().rows) and is_file(table.path) and has_rows(table.path):
            _tell_kept([table.path], [])
        check_folder(table.path.parent)
        note, mark = shared_note(table.path, self.provenance(), self._reported().rows)
        with activity(f"writing {table.path.name}", quiet=self._quiet):
            export.write_workbook([*sheets, *self._about(note)], table.path, note, mark)
        return [table.path]

    def _sheets(self) -> Iterator[Sheet]:
        """Yield a sheet for the rows of each index and mask."""
        several = len(self.request.masks) > 1
        for index, mask in self._engine.outputs:
            spool = self._rows_of(index, mask)
            tables = functools.partial(spool.tables, index, mask)
            yield Sheet(f"{index} {mask}" if several else index, spool.schema, tables, spool.rows(index, mask))

    def _about(self, note: Mapping[str, Any]) -> Iterator[Sheet]:
        """Yield the sheets with the parameters and with the report."""
        lines = [("layer", note["layer"]["path"] or note["layer"]["name"]), ("archive", note["archive"])]
        lines += [("created", note["created"]), *note["parameters"].items(), ("rows", note["rows"])]
        lines += [(f"without a row: {reason}", count) for reason, count in note["left_out"].items()]
        lines += [(f"version of {name}", version) for name, version in note["versions"].items()]
        for name, definition in self._engine.definitions.items():
            lines.append((f"column {name}", f"{definition['long_name']}; unit {definition['units']}"))
        lines += [("note", sentence) for sentence in self._reported().notes]
        values = pa.array([_in_words(value) for _, value in lines], pa.string())
        about = pa.table({"what": [name for name, _ in lines], "value": values})
        report = pa.Table.from_pandas(self.report, preserve_index=False)
        # A column of nulls has no type of its own.
        nulls = [f if not pa.types.is_null(f.type) else pa.field(f.name, pa.string()) for f in report.schema]
        report = report.cast(pa.schema(nulls))
        for name, table in (("about", about), ("report", report)):
            yield Sheet(name, table.schema, functools.partial(iter, [table]), table.num_rows)

    def _planned_wide(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        """Return the wide tables of each index and mask."""
        return [
            PlannedTable(
                self._results_folder(out_path, index, mask) / f"{self._results_stem(index, mask)}_{kind}.csv",
                conditions(self.request, self._engine.layer, index=index, mask=mask),
                first_column="fid",
            )
            for index, mask in self._engine.outputs
        ]

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind == "xlsx":
            export.check_workbook([], "")  # a missing library is told before any work
            path = self._results_folder(out_path) / f"{self._results_stem()}.xlsx"
            return [PlannedTable(path, conditions(self.request, self._engine.layer))]
        if kind in {"wide", "wide_excel", "wide_excel_semicolon"}:
            return self._planned_wide(out_path, kind.removesuffix("_semicolon"))
        return super()._planned_results(out_path, kind)


def _wide_kind(stat: str, period: str | None, aggregate: str, week: str, dialect: str) -> str:
    """Return the end of the name of a wide table."""
    parts = ["wide", stat if stat != "mean" else "", period or ""]
    if period is not None:
        parts += [aggregate if aggregate != "mean" else "", week if (period, week) == ("weekly", "iso") else ""]
    return "_".join(filter(None, [*parts, "excel" if dialect != "plain" else ""]))


def _in_json(stat: str, period: str | None, aggregate: str, week: str) -> dict[str, str]:
    """Return how a wide table was made, for its JSON."""
    made = {"kind": "wide", "statistic": stat}
    return made if period is None else {**made, "period": period, "aggregate": aggregate, "week": week}


def _one_of(what: str, wanted: str | None, names: Sequence[str]) -> str:
    """Return the name that is meant: the one given, or the only one.

    Raises
    ------
    RequestError
        If it is not one of the names, or there are several and none is given.
    """
    if wanted is not None:
        choice(what, wanted, names)
        return wanted
    if len(names) > 1:
        raise RequestError(f"There are several: {', '.join(names)}; name one, as {what}={names[0]!r}.")
    return names[0]


def _in_words(value: Any) -> str:
    """Return a parameter as text."""
    if isinstance(value, dict):
        return escaped("; ".join(f"{name}: {item}" for name, item in value.items()))
    if isinstance(value, list | tuple):
        return escaped(", ".join(map(str, value)))
    return "" if value is None else escaped(str(value))


def _had_rows(path: Path) -> bool:
    """Tell whether a table is there whose JSON says that its run gave rows."""
    try:
        note = json.loads(read_limited(path.with_suffix(".json"), _LARGEST_NOTE)) if path.is_file() else {}
    except (OSError, ValueError):
        return False
    return isinstance(note, dict) and bool(note.get("rows"))


def _tell_kept(kept: Sequence[Path], files: Iterable[Path]) -> None:
    """Tell which files are kept.

    Raises
    ------
    EmptyResultError
        If there are any.
    """
    if kept:
        more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        raise EmptyResultError(
            f"{kept[0]}{more} has rows and is kept, since this run gave none; "
            "overwrite=True (--overwrite) replaces it.",
            list(files),
        )
