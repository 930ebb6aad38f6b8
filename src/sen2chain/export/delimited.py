"""Tables of rows written as CSV, in the documented dialect or in one for Excel."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.atomic import replacing, writing
from sen2chain.export.gathered_tables import gathered_tables
from sen2chain.export.provenance_json import beside
from sen2chain.parallel import closed, in_threads, workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the columns of a row become a line of text."""

    separator: str = ","
    """Between columns."""
    decimal: str = "."
    """In numbers."""
    line_end: str = "\n"
    """After each row."""
    marked: bool = False
    """Whether the file begins with a byte order mark, from which Excel knows that it is UTF-8."""
    guarded: bool = False
    """Whether an apostrophe keeps texts from being formulas."""


PLAIN = Dialect()
"""The documented files: RFC 4180 with a line feed."""
DIALECTS = {
    "plain": PLAIN,
    "excel": Dialect(line_end="\r\n", marked=True, guarded=True),
    "excel-semicolon": Dialect(";", ",", "\r\n", marked=True, guarded=True),
}
"""Name -> dialect; the last is for systems with decimal commas."""

_FORMULA = r"([ \t\r\n]*)([=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}\t\r])"  # the last four are their wide forms
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"
_SPECIAL = '[",\r\n]'
_SPECIAL_ANYWHERE = '[",;\t\r\n]'
_MARK = b"\xef\xbb\xbf"
_ROWS_PER_TEXT = 1 << 15  # keeps the text of one piece far below Arrow's 2 GiB for one array of strings


def write_csv(
    batches: Iterable[pa.RecordBatch | pa.Table],
    path: Path,
    provenance: Mapping[str, Any],
    schema: pa.Schema | None = None,
    dialect: Dialect = PLAIN,
) -> int:
    r"""Write rows as CSV, and the provenance as JSON beside it under the same stem.

    Comma, ``\n``, header unquoted, text quoted only where RFC 4180 needs it, nulls and NaN empty, floats in
    the shortest form that reads back exactly (``5888``, ``260.1666666666667``), times as ``2021-01-07 06:24:59``.

    Parameters
    ----------
    batches
        Pieces of the table in order; one is held at a time.
    path
        The file to write; replaced as a whole where it exists.
    provenance
        The JSON beside the file, see `sen2chain.provenance`; may hold paths, dates and numpy numbers.
    schema
        Columns and types; needed only where there may be no batch at all. Otherwise that of the first batch.
    dialect
        Another separator, decimal sign or line end.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final names has changed then.
    """
    schema, tables = gathered_tables(batches, schema, _ROWS_PER_TEXT)
    rows = 0
    with replacing(path, beside(path, provenance)) as file:
        with writing(path):
            file.write((_MARK if dialect.marked else b"") + csv_header(schema, dialect))
        # Numbers become texts in all threads while the next rows are gathered.
        pieces = (piece for table in tables for piece in table.combine_chunks().to_batches(_ROWS_PER_TEXT))
        texts = in_threads(lambda piece: (piece.num_rows, text_of(csv_lines(piece, dialect))), pieces, workers())
        with closed(texts):
            for count, lines in texts:
                with writing(path):
                    file.write(lines)
                rows += count
    return rows


def csv_header(schema: pa.Schema, dialect: Dialect = PLAIN) -> bytes:
    """Return the first line of a CSV file of these columns."""
    names = _quoted(pa.array(schema.names, pa.string()), dialect).to_pylist()
    return (dialect.separator.join(names) + dialect.line_end).encode()


def csv_lines(batch: pa.RecordBatch, dialect: Dialect = PLAIN) -> pa.StringArray:
    """Return each row as a line of a CSV file, with its line end.

    pyarrow's own CSV writer quotes every text or none; joining the columns as texts is as fast.
    """
    lines = pc.binary_join_element_wise(
        *(_csv_text(column, dialect) for column in batch.columns),
        dialect.separator,
        null_handling="replace",
        null_replacement="",
    )
    return pc.binary_join_element_wise(lines, dialect.line_end, "")


def text_of(lines: pa.StringArray) -> memoryview:
    """Return the bytes of consecutive lines, without a copy."""
    if not len(lines):
        return memoryview(b"")
    ends = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset :][: len(lines) + 1]
    return memoryview(lines.buffers()[2])[ends[0] : ends[-1]]


def _csv_text(column: pa.Array, dialect: Dialect) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _csv_text(column.dictionary_decode(), dialect)
    if pa.types.is_floating(kind):
        texts = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), column.cast(pa.string()))
        return texts if dialect.decimal == "." else pc.replace_substring(texts, ".", dialect.decimal)
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    if pa.types.is_timestamp(kind):
        with contextlib.suppress(pa.ArrowInvalid):  # an attribute with fractions of a second keeps them
            column = column.cast(pa.timestamp("s", kind.tz))
        return column.cast(pa.string())
    if pa.types.is_integer(kind):
        return column.cast(pa.string())
    return _quoted(column.cast(pa.string()), dialect)


def _quoted(column: pa.Array, dialect: Dialect) -> pa.Array:
    encoded = column.dictionary_encode()  # most texts repeat: each is looked at once
    texts = encoded.dictionary
    if dialect.guarded:
        is_number = pc.match_substring_regex(texts, _NUMBER)
        # Where the system's separator is another one, it begins a cell within a text.
        others = "[\t,]" if dialect.separator == ";" else "[\t;]"
        plain = pc.replace_substring_regex(texts, f"(^|{others}){_FORMULA}", r"\1\2'\3")
        texts = pc.if_else(is_number, texts, plain)
    elif not pc.any(pc.match_substring_regex(texts, _SPECIAL)).as_py():
        return column
    special = pc.match_substring_regex(texts, _SPECIAL_ANYWHERE if dialect.guarded else _SPECIAL)
    inside = pc.replace_substring(texts, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', inside, '"', ""), texts).take(encoded.indices)
