"""The text of a job's file: settings, and a table whose cells are split and changed without touching any other byte.

`JobFile` splits the text into settings, columns and rows; a `Problem` is an error with line, column and character.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from sen2chain.atomic import replacing, writing
from sen2chain.errors import JobError, OutputError, RequestError, UnknownNameError
from sen2chain.files import read_limited
from sen2chain.jobs.delivery import hidden, looks_like_login

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

COLUMNS = (
    "shapefile", "date_min", "date_max", "max_clouds", "cloudmasks", "indices", "force_extraction", "compiled_data",
    "smooth_data", "copy_server",
)  # fmt: skip
OPTIONAL = (
    "pixels", "buffer", "stats", "min_valid", "aggregate", "id_field", "encoding", "crs", "keep_pixels", "keep_margin",
)  # fmt: skip
"""Columns that a file may have as well, anywhere behind the first."""
KNOWN = (*COLUMNS, *OPTIONAL)
"""All columns."""
DESTINATION = COLUMNS[-1]
"""The column that may hold a password."""
OLDER = {"cloudmask": "cloudmasks"}
"""Names of columns that older files have."""
_SKIP = "!"
_LARGEST = 4 << 20  # bytes; a job of ten thousand lines has a quarter of it
_SETTING = re.compile(r"\s*(\w+)\s*=(.*)")
_COMMENT = re.compile(r"(?:^|\s)#")
_BLANKS = re.compile(r"[ \t]*")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"[ \t]*(?=;|$)')
# Also the line ends of Unicode, surrogates, and invisible marks, some of which turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PRIVATE = 0o600
_MANY = 20
_LONG = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a job's file, with its place."""

    sentence: str
    """The error, and what to write instead."""
    line: int = 0
    """Line of the file, from 1; 0 for the file as a whole."""
    column: str = ""
    """Column of the table, or setting."""
    character: int = 0
    """Position in the line, from 1; 0 where unknown."""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        if self.column:
            place += f", {self.column}"
        if self.character:
            place += f" (character {self.character})"
        return f"{place}: {self.sentence}" if place else self.sentence


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the table; positions count characters of the line, from 0."""

    text: str
    """Text, without quotes and outer spaces."""
    start: int
    """Begin of the cell, before its spaces."""
    end: int
    """End of the cell: the next ``;``, or the end of the line."""
    inner: int
    """Begin of the text."""
    unclosed: bool = False
    """Whether a quote at its begin is not closed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    line: int
    """Line of the file, from 1."""
    skipped: bool
    """Whether the line begins with ``!``."""
    cells: Mapping[str, Cell]
    """Column -> cell, without columns that the file or the line lacks."""
    problems: tuple[Problem, ...] = ()
    """Errors that show before any cell is read."""

    def text(self, column: str) -> str:
        """Return the text of a column; empty where the column is missing."""
        cell = self.cells.get(column)
        return cell.text if cell else ""

    def shown(self, column: str) -> str:
        """Return the text of a column without logins, so that it can be shown, logged and kept."""
        text = self.text(column)
        return hidden(text) if column == DESTINATION and text else safe(text, path=column == COLUMNS[0])

    def problem(self, column: str, sentence: str) -> Problem:
        """Return a problem at a cell."""
        cell = self.cells.get(column)
        return Problem(sentence, self.line, column, cell.inner + 1 if cell else 0)


@dataclass(slots=True)
class JobFile:
    """A job's file as text: settings, then a table; a change rewrites one value or cell and keeps all other bytes."""

    lines: list[str]
    """The lines, with their line ends."""
    settings: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Setting -> line, from 1, and text of its value."""
    columns: list[str] = field(default_factory=list)
    """Columns of the table, in the order of the file."""
    header: int = 0
    """Line with the names of the columns, from 1; 0 without a table."""
    rows: list[Row] = field(default_factory=list)
    """Lines of the table, also skipped ones."""
    problems: list[Problem] = field(default_factory=list)
    """Errors that make the file as a whole unusable."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split the text of a file into settings, columns and rows."""
        file = cls(re.findall(r"[^\n]*\n|[^\n]+$", text))
        file._read()
        return file

    @property
    def text(self) -> str:
        """The text of the whole file."""
        return "".join(self.lines)

    # ------------------------------------------------------------------------------------------------------- reading

    def _read(self) -> None:
        self.settings, self.columns, self.header, self.rows, self.problems = {}, [], 0, [], []
        for number, raw in enumerate(self.lines, start=1):
            line = raw.rstrip("\r\n")
            if number == 1:
                line = line.removeprefix("\ufeff")  # editors of Windows begin a file with it
            bare = line.strip()
            if not bare.strip("; \t") or bare.startswith("#"):  # spreadsheets write empty lines as ;;;
                continue
            if self.header:
                self.rows.append(self._row(line, number))
            elif match := _CONTROL.search(line):
                self.problems.append(_control(match, number))
            elif bare.partition(";")[0].strip().strip('"').lower() == COLUMNS[0]:
                self._read_header(line, number)
            elif COLUMNS[0] in bare.lower() and COLUMNS[-1] in bare.lower():
                sentence = f"the names of columns begin with {COLUMNS[0]}, and have ; between them."
                self.problems.append(Problem(sentence, number))
                return  # what follows are not settings
            else:
                self._read_setting(line, number)
        if not (self.header or self.problems):
            self.problems.append(Problem(f"The table is missing; write a line {';'.join(COLUMNS)} and lines below it."))

    def _read_header(self, line: str, number: int) -> None:
        self.header = number
        for cell in _split(line):
            name = OLDER.get(cell.text.lower(), cell.text.lower())
            if name not in KNOWN and (name or cell.end < len(line)):
                sentence = str(UnknownNameError("column", safe(cell.text[:_LONG]), KNOWN))
                self.problems.append(Problem(sentence, number, character=cell.inner + 1))
            elif name in self.columns:
                sentence = f"the column {name} stands twice; remove one."
                self.problems.append(Problem(sentence, number, character=cell.inner + 1))
            self.columns.append(name)

    def _read_setting(self, line: str, number: int) -> None:
        match = _SETTING.fullmatch(line.rstrip("; \t"))
        if match is None:
            sentence = (
                f"{quoted_safely(line)} is neither a setting (name = value), a comment (#) nor the table's first line."
            )
            self.problems.append(Problem(sentence, number))
            return
        name = match[1].lower()
        if name in self.settings:
            sentence = f"it stands in line {self.settings[name][0]} too; remove one."
            self.problems.append(Problem(sentence, number, name))
        else:
            comment = _COMMENT.search(match[2])
            self.settings[name] = (number, (match[2][: comment.start()] if comment else match[2]).strip())

    def _row(self, line: str, number: int) -> Row:
        skipped = line.lstrip().startswith(_SKIP)
        begin = line.index(_SKIP) + 1 if skipped else 0
        found, problems = _split(line, begin), []
        if match := _CONTROL.search(line):
            problems.append(_control(match, number))
        if len(found) == 1 and not skipped and re.match(r"\s*\w+\s*=", line):
            problems.append(Problem("settings stand above the table; move it there.", number))
        beyond = next((cell for cell in found[len(self.columns) :] if cell.text), None)
        if beyond:
            sentence = f"{quoted_safely(beyond.text)} stands behind the last column; put a name with ; into quotes."
            problems.append(Problem(sentence, number, character=beyond.inner + 1))
        cells = dict(zip(self.columns, found, strict=False))
        for name, cell in cells.items():
            if cell.unclosed:
                problems.append(Problem('a " is not closed before the next ;.', number, name, cell.inner + 1))
        return Row(number, skipped, cells, tuple(problems))

    # ------------------------------------------------------------------------------------------------------ changing

    def set(self, name: str, value: str) -> None:
        """Change a setting, or add it above the table.

        Raises
        ------
        RequestError
            If the value has a line break, a ``#``, or a control character.
        """
        value = value.strip()
        if _CONTROL.search(value) or "\n" in value or _COMMENT.search(value):
            raise RequestError(f"{name} cannot be {safe(value)!a}; a value has one line and no #.")
        if name in self.settings:
            number, before = self.settings[name]
            line = self.lines[number - 1]
            at = line.index("=") + 1
            start = line.index(before, at) if before else at
            gap = "" if before else " "
            self.lines[number - 1] = f"{line[:start]}{gap}{value}{line[start + len(before) :]}"
        else:
            at = self.header - 1 if self.header else len(self.lines)
            # Above the comments that belong to the table.
            while at and self.lines[at - 1].strip().startswith("#"):
                at -= 1
            self._insert(at, f"{name} = {value}")
        self._read()

    def add(self, values: Mapping[str, str]) -> None:
        """Add a line at the end of the table.

        Raises
        ------
        RequestError
            If a value has a line break or a control character.
        """
        self._widen(values)
        last = self.rows[-1].line if self.rows else self.header
        self._insert(last, self._line([values.get(column, "") for column in self.columns]))
        self._read()

    def change(self, number: int, values: Mapping[str, str]) -> None:
        """Change cells of a row, counted from 0; the other cells stay as they are.

        Raises
        ------
        RequestError
            If a value has a line break or a control character.
        """
        self._widen(values)
        row = self.rows[number]
        line = self.lines[row.line - 1]
        body, end = line.rstrip("\r\n"), line[len(line.rstrip("\r\n")) :]
        if set(values) <= set(row.cells):
            # From the right, so that the places of the others stay true.
            for name, value in sorted(values.items(), key=lambda item: -row.cells[item[0]].start):
                cell = row.cells[name]
                before = body[cell.start : cell.end]
                left = before[: len(before) - len(before.lstrip(" \t"))]
                right = before[len(before.rstrip(" \t")) :] if before.strip() else ""
                text = self._cell(value, first=name == self.columns[0])
                if name == self.columns[0] and (row.skipped or text.startswith(_SKIP)):
                    left = body[: cell.start].partition(_SKIP)[0] if row.skipped else left
                    body = f"{left}{text}{right}{body[cell.end :]}"
                else:
                    body = f"{body[: cell.start]}{left}{text}{right}{body[cell.end :]}"
        else:
            mark = _SKIP if row.skipped and COLUMNS[0] not in values else ""
            body = mark + self._line([values.get(column, row.text(column)) for column in self.columns])
        self.lines[row.line - 1] = body + end
        self._read()

    def remove(self, number: int) -> None:
        """Remove a row, counted from 0."""
        del self.lines[self.rows[number].line - 1]
        self._read()

    def _widen(self, values: Mapping[str, str]) -> None:
        """Check values, and add the columns that an older file lacks for them."""
        if not self.header:
            raise RequestError(f"The file has no table; write a line {';'.join(COLUMNS)} first.")
        for name, value in values.items():
            self._cell(value, first=name == COLUMNS[0])
        lacking = [name for name in KNOWN if values.get(name, "").strip() and name not in self.columns]
        if lacking and self.header:
            line = self.lines[self.header - 1]
            body = line.rstrip("\r\n")
            self.lines[self.header - 1] = ";".join((body.rstrip("; \t"), *lacking)) + line[len(body) :]
            self._read()

    def _insert(self, at: int, text: str) -> None:
        end = "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"
        if at and not self.lines[at - 1].endswith("\n"):
            self.lines[at - 1] += end
        self.lines.insert(at, text + end)

    def _line(self, values: Sequence[str]) -> str:
        return ";".join(self._cell(value, first=i == 0) for i, value in enumerate(values))

    def _cell(self, value: str, *, first: bool) -> str:
        value = value.strip()
        if _CONTROL.search(value) or "\n" in value:
            raise RequestError(
                f"{safe(value)!a} cannot stand in a line of a job; it has a line break or a control character."
            )
        mark = _SKIP if first and value.startswith(_SKIP) else ""
        value = value.removeprefix(mark).lstrip()
        quoted = ";" in value or value.startswith('"') or (first and value.startswith(("#", _SKIP)))
        return mark + ('"' + value.replace('"', '""') + '"' if quoted else value)


def read_text(path: Path) -> str:
    """Read a job's file.

    Raises
    ------
    JobError
        If it cannot be read, or is not a text.
    """
    try:
        content = read_limited(path, _LARGEST)
    except FileNotFoundError:
        raise JobError(
            f"There is no job file {path}; write one with sen2chain job new, or JobExtraction(...).save()."
        ) from None
    except OSError as error:
        raise JobError(f"The job file {path} cannot be read ({error.strerror}); mend it, or move it away.") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise JobError(f"The job file {path} is not UTF-8 text (line {line}); save it as UTF-8.") from None


def write_text(path: Path, text: str) -> None:
    """Replace a job's file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = path.resolve()  # a link to the file stays a link
    if path.exists() and not path.is_file():
        raise OutputError(f"Cannot write {path} (it is not a file); move it away.")
    # It may hold a password: only its user reads it, unless its mode says otherwise.
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _PRIVATE
    with replacing(path) as file:
        with writing(path):
            os.chmod(file.name, mode)  # noqa: PTH101  # the name of the open file
        file.write(text.encode("utf-8"))


def _split(line: str, begin: int = 0) -> list[Cell]:
    """Split a line at ``;``; a cell in quotes may contain some."""
    cells = []
    start = begin
    while True:
        blanks = _BLANKS.match(line, start)
        inner = blanks.end() if blanks else start
        match = _QUOTED.match(line, inner)
        if match:
            end, text = match.end(), match[1].replace('""', '"').strip()
        else:
            end = line.find(";", inner)
            end = len(line) if end < 0 else end
            text = line[inner:end].strip()
        unclosed = not match and text.startswith('"')
        cells.append(Cell(text, start, end, min(inner, end), unclosed))
        if end >= len(line):
            return cells
        start = end + 1


def _control(match: re.Match[str], number: int) -> Problem:
    return Problem(
        f"it has the character {match[0]!a}, which is invisible; remove it.", number, character=match.start() + 1
    )


def safe(text: str, *, path: bool = False) -> str:
    """Return a text, or ``...`` for one that may be a destination with a login in the wrong place.

    Parameters
    ----------
    text
        A cell, a setting or a line.
    path
        Whether the text may be a path, in which an ``@`` is harmless.
    """
    return "..." if looks_like_login(text) or ("@" in text and not path) else text


def quoted_safely(text: str) -> str:
    """Quote a text for a sentence: the beginning of a long one, and nothing that may be a password."""
    text = safe(text.strip())
    return repr(text if len(text) <= _LONG else f"{text[:_LONG]}...")


def first(sentences: Iterable[object]) -> list[str]:
    """Return the first twenty sentences, and the number of the others."""
    found = [str(sentence) for sentence in sentences]
    return found if len(found) <= _MANY else [*found[:_MANY], f"... and {len(found) - _MANY} more."]
