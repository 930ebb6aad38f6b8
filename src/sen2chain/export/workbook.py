"""Workbooks for Excel: a sheet for each table, and sheets on how they were made."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.atomic import replacing, writing
from sen2chain.errors import MissingExtraError, OutputError, SheetLimitError
from sen2chain.export.marks import PROPERTY
from sen2chain.export.provenance_json import beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MOST_ROWS = 1_048_575
"""Rows of a sheet below its header."""
MOST_COLUMNS = 16_384
"""Columns of a sheet."""
_LONGEST_TEXT = 32_767  # characters of a cell
_LONGEST_NAME = 31  # characters of a sheet's name
_EXACT = 10**15  # Excel keeps 15 digits of a number
_UNFIT = re.compile(r"[\[\]:*?/\\\x00-\x1f]+")
_WIDEST = 40  # characters
_SAMPLE = 200  # rows whose values set the width of a column
_DAY_ZERO, _FIRST_DAY = dt.datetime(1899, 12, 30), dt.datetime(1900, 3, 1)  # noqa: DTZ001  # times without a zone
_MANY_CELLS = 20_000_000  # from here on a sheet may be beyond 4 GiB before it is compressed


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A table that becomes a sheet."""

    name: str
    """Name, which is shortened and made unique where needed."""
    schema: pa.Schema
    """Its columns."""
    tables: Callable[[], Iterable[pa.Table]]
    """Gives its rows in order."""
    rows: int
    """Number of rows."""


def check_workbook(sheets: Iterable[Sheet], instead: str) -> None:
    """Refuse tables that do not fit on a sheet.

    Parameters
    ----------
    sheets
        The tables.
    instead
        What the message suggests instead.

    Raises
    ------
    SheetLimitError
        If one has too many rows or columns; the message names it.
    MissingExtraError
        If XlsxWriter is not installed.
    """
    _library()
    for sheet in sheets:
        for what, count, most in (("rows", sheet.rows, MOST_ROWS), ("columns", len(sheet.schema), MOST_COLUMNS)):
            if count > most:
                raise SheetLimitError(
                    f"{sheet.name} has {count:,} {what}, and a sheet of Excel takes {most:,}; {instead}."
                )


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[str]:
    """Make a folder for the rows of a workbook.

    Raises
    ------
    OutputError
        If there is no folder for temporary files.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="sen2chain-sheets-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"The rows of {path.name} cannot be kept in the folder of temporary files ({error.strerror or error}); set "
            "TMPDIR to a folder that can be written."
        ) from error
    with made as folder:
        yield folder


def write_workbook(sheets: Sequence[Sheet], path: Path, provenance: Mapping[str, Any], mark: str = "") -> int:
    """Write tables as the sheets of an Excel workbook, and the provenance as JSON beside it.

    Texts stay texts: none becomes a formula, a link or a number. Times are dates of Excel, those with a time zone in
    UTC, those before 1900 texts. Whole numbers of more than 15 digits are texts, since Excel rounds them, and so are
    infinite numbers. NaN and nulls are empty cells. Texts are cut at 32,767 characters.

    Parameters
    ----------
    sheets
        The tables in order; `check_workbook` has accepted them.
    path
        The file to write; replaced as a whole where it exists.
    provenance
        The JSON beside the file.
    mark
        The mark by which the JSON knows the file, see `sen2chain.export.marks`; empty for none.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final names has changed then.
    MissingExtraError
        If XlsxWriter is not installed.
    """
    library = _library()
    options = {
        "constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
    }  # fmt: skip
    # XlsxWriter keeps the rows in files of this folder until the workbook is complete.
    with _temporary_folder(path) as folder, replacing(path, beside(path, provenance)) as file:
        book = library.Workbook(file, {**options, "tmpdir": folder})
        if mark:
            book.set_custom_property(PROPERTY, mark)
        if any(sheet.rows * len(sheet.schema) > _MANY_CELLS for sheet in sheets):
            book.use_zip64()
        header = book.add_format({"bold": True, "bottom": 1})
        time = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        parts = []
        try:
            for sheet, name in zip(sheets, sheet_names(sheet.name for sheet in sheets), strict=True):
                part = book.add_worksheet(name)
                parts.append(part)
                _write_header(part, sheet, header)
                row = 1
                for table in sheet.tables():
                    with writing(path):
                        row = _write_rows(part, table.select(sheet.schema.names), row, time)
            with writing(path), _as_os_error(library):
                book.close()
        finally:
            for part in parts:  # as XlsxWriter does when a workbook is complete
                with contextlib.suppress(AttributeError, OSError):
                    part._opt_close()  # noqa: SLF001
    return sum(sheet.rows for sheet in sheets)


def sheet_names(names: Iterable[str]) -> list[str]:
    r"""Return names that Excel takes: at most 31 characters, without ``[]:*?/\``, different in any case.

    Examples
    --------
    >>> sheet_names(["NDVI CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "ndvi CM004-CSH1-CMP1-CHP1-TCI1-ITER0", "a/b"])
    ['NDVI CM004-CSH1-CMP1-CHP1-TCI1-', 'ndvi CM004-CSH1-CMP1-CHP1-TC (2)', 'a_b']
    """
    found: list[str] = []
    taken = {"history"}  # a name that Excel keeps for itself
    for name in names:
        plain = _UNFIT.sub("_", name).strip("' ") or "sheet"
        own, number = plain[:_LONGEST_NAME].rstrip("' "), 2
        while own.casefold() in taken:
            end = f" ({number})"
            own, number = plain[: _LONGEST_NAME - len(end)] + end, number + 1
        taken.add(own.casefold())
        found.append(own)
    return found


def _library() -> Any:
    try:
        import xlsxwriter  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError("Workbooks for Excel", "XlsxWriter", "excel") from error
    return xlsxwriter


@contextlib.contextmanager
def _as_os_error(library: Any) -> Iterator[None]:
    """Turn XlsxWriter's wrapper of an error of the file system back into that error."""
    try:
        yield
    except library.exceptions.FileCreateError as error:
        cause = error.args[0] if error.args else None
        raise (cause if isinstance(cause, OSError) else OSError(str(error))) from error


def _write_header(part: Any, sheet: Sheet, header: Any) -> None:
    """Write the names of columns, which stay in view and filter, and set the widths of columns.

    Parameters
    ----------
    part
        The worksheet of XlsxWriter.
    sheet
        Its table.
    header
        The format of the first row.
    """
    part.freeze_panes(1, 0)
    if sheet.schema.names:
        part.autofilter(0, 0, sheet.rows, len(sheet.schema.names) - 1)
    first: pa.Table = next(iter(sheet.tables()), sheet.schema.empty_table()).slice(0, _SAMPLE)
    for place, field in enumerate(sheet.schema):
        part.set_column(place, place, _width(field, first.column(field.name)))
    for place, name in enumerate(sheet.schema.names):
        part.write_string(0, place, name[:_LONGEST_TEXT], header)


def _width(field: pa.Field, values: pa.ChunkedArray) -> float:
    """Return the width of a column in characters, from its name and some of its values."""
    if pa.types.is_timestamp(field.type):
        return 19
    texts = pc.utf8_length(values.cast(pa.string()))
    longest = 10 if pa.types.is_floating(field.type) else pc.max(texts).as_py() or 0
    return min(max(len(field.name) + 3, longest + 1, 6), _WIDEST)  # the arrow of the filter takes three


def _write_rows(part: Any, table: pa.Table, row: int, time: Any) -> int:
    """Write the rows of a table from a row on, and return the next row; `time` is the format of times."""
    columns = []
    for column in table.columns:
        write: Any = part.write_number
        if pa.types.is_timestamp(column.type):
            write = functools.partial(_write_time, part, time)
        elif pa.types.is_boolean(column.type):
            write = part.write_boolean
        columns.append((write, _cells(column)))
    for position in range(table.num_rows):
        for place, (write, values) in enumerate(columns):
            value = values[position]
            if value is None:
                continue
            if isinstance(value, str):
                part.write_string(row, place, value)
            else:
                write(row, place, value)
        row += 1
    return row


def _write_time(part: Any, time: Any, row: int, place: int, days: float) -> None:
    part.write_number(row, place, days, time)


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as Excel has them: numbers, texts, truth values; None for an empty cell."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _days(column)
    if pa.types.is_boolean(kind):
        return list(column.to_pylist())
    if pa.types.is_floating(kind):
        return [_number(value) for value in column.to_pylist()]
    if pa.types.is_integer(kind):
        return [value if value is None or abs(value) < _EXACT else str(value) for value in column.to_pylist()]
    return [value if value is None else value[:_LONGEST_TEXT] for value in column.cast(pa.string()).to_pylist()]


def _number(value: float | None) -> float | str | None:
    if value is None or value != value:  # noqa: PLR0124  # NaN
        return None
    return value if abs(value) != float("inf") else str(value)


def _days(column: pa.ChunkedArray) -> list[float | str | None]:
    """Return times as Excel counts them, in days; those before it counts rightly as texts."""
    found: list[float | str | None] = []
    for value in column.cast(pa.timestamp("us", column.type.tz)).to_pylist():
        if value is None:
            found.append(None)
            continue
        plain = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
        # Excel's 1900 has a 29 February, so that earlier days are counted otherwise.
        days = (plain - _DAY_ZERO) / dt.timedelta(days=1)
        found.append(days if plain >= _FIRST_DAY else plain.isoformat(" "))
    return found
