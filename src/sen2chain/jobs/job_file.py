"""The job's file: a text with settings and a table, its meaning, and its changes from Python.

`JobFile` splits the text into settings, columns and rows, and changes single values without touching any other byte.
`read_settings` gives the `Settings` above the table, `read_task` the `JobTask` of one row; both return the problems
that they find, with line, column and character. `EditableJob` reads and writes the file on disk; `template` is the text
of a new job.
"""

from __future__ import annotations

import datetime as dt
import importlib.resources
import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast, get_args, overload

from sen2chain import periods
from sen2chain.atomic import replacing, writing
from sen2chain.coverage import PixelRule
from sen2chain.errors import (
    JobError,
    OutputError,
    RequestError,
    Sen2ChainError,
    UnknownNameError,
    quoted,
    shown,
    truth,
)
from sen2chain.errors import whole_number as check_whole_number
from sen2chain.files import absolute, is_file, is_folder, read_limited
from sen2chain.indices import Index, is_name, resolve_indices
from sen2chain.jobs.delivery import hidden, looks_like_login, parse_destination
from sen2chain.jobs.schedule import Timing
from sen2chain.masks import NO_MASK, Mask
from sen2chain.parallel import MOST_WORKERS
from sen2chain.plan import resolve_masks
from sen2chain.plan.extraction_request import MOST_BUFFER, Verify
from sen2chain.progress import say
from sen2chain.smoothing import METHODS
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sen2chain.archive import StacCatalogue
    from sen2chain.jobs.delivery import Destination

COLUMNS = (
    "shapefile", "date_min", "date_max", "max_clouds", "cloudmasks", "indices", "force_extraction", "compiled_data",
    "smooth_data", "copy_server",
)  # fmt: skip
OPTIONAL = ("pixels", "buffer", "stats", "min_valid", "aggregate", "id_field", "encoding", "crs")
"""Columns that a file may have as well, anywhere behind the first."""
KNOWN = (*COLUMNS, *OPTIONAL)
"""All columns."""
DEFAULTS = {
    "logs": "False", "timing": "0 0 * * *", "nb_proc": "8", "process_by_line": "0", "on_failure": "",
    "on_success": "", "delivery_timeout": "3600", "keep_runs": "400", "safe": "", "library": "",
    "collection": "", "stac_asset": "", "stac_allow": "", "verify": "never", "page": "False",
}  # fmt: skip
"""Settings, and their texts where a file lacks them."""
DESTINATION = COLUMNS[-1]
"""The column that may hold a password."""
_NOT_REPEATED = (DESTINATION, "library")
"""Column and setting that may hold a password, and whose errors do not repeat it."""
OLDER = {"cloudmask": "cloudmasks"}
"""Names of columns that older files have."""
OF_CATALOGUE = "stac:"
"""Beginning of the setting ``library`` that names a STAC catalogue."""
SOURCES = ("library", "safe", "collection", "stac_asset", "stac_allow")
"""Settings that say where products come from."""
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

MOST_LINES = 100_000
"""Largest number of rows in a batch, and of runs whose records are kept."""
LONGEST_DELIVERY = 7 * 86400
"""Largest time limit of a delivery, seconds."""
EARLIEST = dt.date(2015, 1, 1)
"""First sensing date where ``date_min`` is empty: the year in which the first Sentinel-2 was launched."""

_OFF = {"", "false", "no", "off", "0", "none", "nan"}
_ON = {"true", "yes", "on", "1"}
_TODAY = re.compile(r"today(?:\s*-\s*([0-9]{1,6}))?", re.IGNORECASE)
_RANGE, _ALL_DATA, _EVERY_INDEX = "all", periods.ALL, "all"
_KINDS = ("yearly", "monthly", "weekly", "daily")
_BARE = {"probability": 1, "iterations": 1}  # what completes a bare CM003 or CM004, as in TimeSeriesCompil
_SMOOTHING = (*METHODS, "original")
_OF_THE_KERNEL = (f"{os.sep}proc{os.sep}", f"{os.sep}sys{os.sep}", f"{os.sep}dev{os.sep}")  # some are read without end
_MISPLACED = "it looks like a destination with a login, and is not repeated here; is a ; missing before it?"
_LAYER_NAME = "|layername="  # as QGIS writes a layer of a file that has several
_DIGITS = 20

T = TypeVar("T")


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


# --------------------------------------------------------------------------------------- words of settings and cells


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


def switch(text: str) -> bool:
    """Read ``True`` or ``False``.

    Raises
    ------
    RequestError
        If it is neither.
    """
    if is_off(text):
        return False
    if text.strip().lower() in _ON:
        return True
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


# ------------------------------------------------------------------------------------------------ settings and tasks


class LayerFile(NamedTuple):
    """The file of a polygon layer."""

    path: Path
    """The file, absolute."""
    layer: str | None = None
    """Layer in a file that has several."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings above the table; the fields are named after them."""

    logs: bool
    """Whether each run leaves a log and a record."""
    timing: Timing
    """When the job runs."""
    nb_proc: int
    """Number of threads; 0 uses all processors."""
    process_by_line: int
    """Number of rows in a batch, which is extracted before its first row is compiled; 0 is all rows."""
    on_failure: tuple[str, ...]
    """Program and arguments that are called after a run that failed, wholly or partly, in a new way."""
    on_success: tuple[str, ...]
    """Program and arguments that are called after a run that did everything."""
    delivery_timeout: float
    """Time limit of a delivery, seconds."""
    keep_runs: int
    """Number of runs whose logs and records are kept; 0 is all."""
    safe: str
    """Folder of SAFE products to read in place of the library's archive, as written; empty reads the archive."""
    library: str
    """Address or file of a STAC catalogue to read in place of the library's archive, as written behind ``stac:``; empty
    reads the archive."""
    collection: str | None
    """Collection of the catalogue; None is the one that it is known for."""
    stac_asset: Mapping[str, str]
    """Band -> name of the asset that holds it, beside the names that are known."""
    stac_allow: tuple[str, ...]
    """Hosts and buckets that items of the catalogue may refer to, beside the known ones."""
    verify: Verify
    """Whether the files of products are compared with their checksums before they are first extracted."""
    page: bool
    """Whether each line writes an HTML page of its series after it is compiled."""

    def folder_of_products(self, home: Path) -> Path | None:
        """Return the folder of SAFE products, or None; a relative path starts in the home."""
        return absolute(self.safe, home) if self.safe else None

    def catalogue(self, home: Path) -> StacCatalogue | None:
        """Return the STAC catalogue, or None; a relative path starts in the home. No request is made.

        Raises
        ------
        RequestError
            If it cannot be one.
        """
        if not self.library:
            return None
        from sen2chain.archive import StacCatalogue, provider_named  # noqa: PLC0415  # only jobs with a catalogue

        place: str | Path = self.library
        if "://" not in self.library:
            file = absolute(self.library, home)
            place = file if provider_named(self.library) is None or os.path.lexists(file) else self.library
        return StacCatalogue(place, self.collection, assets=self.stac_asset, allow=self.stac_allow)


@dataclass(frozen=True, slots=True)
class JobTask:
    """One row of the table; the fields behind `line` are named after the columns."""

    line: int
    """Line of the file, from 1."""
    shapefile: LayerFile
    """The polygon layer."""
    date_min: Day | None
    """First sensing date; None is 2015-01-01."""
    date_max: Day | None
    """Last sensing date, inclusive; None is no limit."""
    max_clouds: float
    """Largest cloud cover of products, percent."""
    cloudmasks: tuple[Mask, ...]
    """Cloud masks."""
    indices: tuple[Index, ...] | None
    """Radiometric indices; None is all."""
    force_extraction: bool
    """Whether every image is extracted again."""
    compiled_data: tuple[str, ...]
    """Compilations: ``yearly``, ``monthly``, ``weekly``, ``daily``, ``all_data``, and last ``all``, the row's dates."""
    smooth_data: str | bool
    """Smoothing method of the series in ``all`` and ``all_data``, or False."""
    copy_server: Destination | None
    """Destination of compiled files."""
    pixels: PixelRule
    """Which pixels belong to a polygon."""
    buffer: float | None
    """Metres by which features grow or shrink."""
    stats: tuple[str, ...]
    """Statistics beyond the documented ones."""
    min_valid: float
    """Smallest share of valid pixels in a row of results."""
    aggregate: tuple[str, ...]
    """Aggregates of each period, which are written beside its rows."""
    id_field: str | None
    """The attribute that is the user's own key of features; None for none."""
    encoding: str | None
    """Encoding of the layer's texts; None detects it."""
    crs: str | None
    """CRS of a layer whose file names none."""

    def dates(self, today: dt.date) -> tuple[dt.date, dt.date | None]:
        """Return the first and the last sensing date of a run."""
        first = self.date_min.on(today) if self.date_min else EARLIEST
        return first, self.date_max.on(today) if self.date_max else None

    def compilation(self, today: dt.date) -> dict[str, Any]:
        """Return the keywords of `TimeSeriesCompil.compile_data`."""
        first, last = self.dates(today)
        flags = {kind: kind in self.compiled_data for kind in _KINDS}
        within = {"datemin": first, "datemax": last} if _RANGE in self.compiled_data else {}
        return {
            **flags, "alldata": _ALL_DATA in self.compiled_data, "smoothing": self.smooth_data,
            "aggregate": self.aggregate or None, **within,
        }  # fmt: skip

    def request(self, today: dt.date) -> dict[str, Any]:
        """Return what the row asks for on a day, as it is recorded; optional columns only where they are set."""
        first, last = self.dates(today)
        optional = {
            "pixels": self.pixels if self.pixels != "center" else None, "buffer": self.buffer,
            "stats": list(self.stats) or None, "min_valid": self.min_valid or None,
            "aggregate": list(self.aggregate) or None, "id_field": self.id_field, "encoding": self.encoding,
            "crs": self.crs,
        }  # fmt: skip
        return {
            "indices": [index.name for index in self.indices] if self.indices else "All",
            "masks": [mask.name for mask in self.cloudmasks],
            "date_min": str(first),
            "date_max": str(last) if last else None,
            "max_clouds": self.max_clouds,
            "force_extraction": self.force_extraction,
            "compiled_data": list(self.compiled_data),
            "smooth_data": self.smooth_data,
            "copy_server": str(self.copy_server) if self.copy_server else None,
            **{name: value for name, value in optional.items() if value is not None},
        }


def _number_or_off(largest: int) -> Callable[[str], int]:
    """Return a reader of a whole number, which is 0 where the setting is off."""
    return lambda text: 0 if is_off(text) else cell_number(text, largest)


def _text_or_off(text: str) -> str | None:
    return None if is_off(text) else text


def _read_all(readers: Mapping[str, Callable[[str], Any]], texts: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Read texts by their names; yield each name with its value, or with None and a sentence on what is wrong."""
    for name, read in readers.items():
        text = texts[name]
        try:
            yield name, read(text), ""
        except Sen2ChainError as error:
            # A destination in the wrong column is not repeated: it may hold a password.
            harmless = name in _NOT_REPEATED or safe(text, path=name == COLUMNS[0]) == text
            yield name, None, str(error) if harmless else _MISPLACED


def read_settings(file: JobFile) -> tuple[Settings | None, list[Problem]]:
    """Read the settings above the table.

    Parameters
    ----------
    file
        The job's file.

    Returns
    -------
    tuple
        The settings, or None where anything is wrong with them or with the file as a whole; and all problems, in the
        order of their lines.
    """
    problems = list(file.problems)
    for name, (line, _) in file.settings.items():
        if name not in DEFAULTS:
            problems.append(Problem(str(UnknownNameError("setting", name, DEFAULTS)), line, name))
    values = {}
    texts = {name: file.settings.get(name, (0, default)) for name, default in DEFAULTS.items()}
    for name, value, trouble in _read_all(_SETTING_READERS, {name: text for name, (_, text) in texts.items()}):
        values[name] = value
        if trouble:
            problems.append(Problem(trouble, texts[name][0], name))
    if not problems:
        problems += _contradictions(values, {name: line for name, (line, _) in texts.items()})
    return (None if problems else Settings(**values)), sorted(problems, key=lambda problem: problem.line)


def _contradictions(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[Problem]:
    """Yield problems of settings on where products come from that do not go together."""
    if values["safe"] and values["library"]:
        yield Problem("products come from one place; remove library or safe.", lines["library"], "library")
    if not values["library"]:
        for name in ("collection", "stac_asset", "stac_allow"):
            if values[name]:
                yield Problem(f"it belongs to library = {OF_CATALOGUE}...; add that, or remove it.", lines[name], name)


def read_task(row: Row, home: Path, today: dt.date) -> tuple[JobTask | None, list[Problem]]:
    """Read one row of the table.

    Parameters
    ----------
    row
        The row.
    home
        Folder in which relative paths start.
    today
        Day of the run.

    Returns
    -------
    tuple
        The task, or None where anything is wrong with the row; and all problems, in the order of the columns.
    """
    problems, values = list(row.problems), {}
    readers = {COLUMNS[0]: lambda text: _layer(text, home), **_CELL_READERS}
    for column, value, trouble in _read_all(readers, {column: row.text(column) for column in KNOWN}):
        values[column] = value
        if trouble:
            problems.append(row.problem(column, trouble))
    if problems:
        return None, sorted(problems, key=lambda problem: problem.character)
    task = JobTask(row.line, **values)
    if task.smooth_data and not {_RANGE, _ALL_DATA} & {*task.compiled_data}:
        sentence = "whole series are smoothed; add all (the dates of this line) or all_data to compiled_data."
        return None, [row.problem("smooth_data", sentence)]
    if task.aggregate and not task.compiled_data:
        return None, [row.problem("aggregate", "periods are aggregated; name some in compiled_data.")]
    first, last = task.dates(today)
    if last is not None and first > last:
        return None, [row.problem("date_min", f"{first} is after date_max, {last}; swap them.")]
    return task, []


def _layer(text: str, home: Path) -> LayerFile:
    """Read the path of a layer, as ``parcels.gpkg|layername=fields`` where the file has several."""
    name, found, layer = text.partition(_LAYER_NAME)
    if not name:
        raise RequestError("it is empty; write the path of a polygon layer.")
    path = absolute(name, home)
    if found and not layer:
        raise RequestError(f"{text!r} names no layer after {_LAYER_NAME}.")
    # A device or a pipe would be read without end.
    if not (is_file(path) or is_folder(path)):
        raise RequestError(f"{path} does not exist or is not a file; write the path of a polygon layer.")
    if os.path.realpath(path).startswith(_OF_THE_KERNEL):
        raise RequestError(f"{path} is not a file on a disk; write the path of a polygon layer.")
    if not os.access(path, os.R_OK):
        raise RequestError(f"{path} may not be read; give this user the right to.")
    return LayerFile(path, layer or None)


_FORMULA_OF = re.compile(r"\w+\s*=")


def _indices(text: str) -> tuple[Index, ...] | None:
    names: list[str] = []
    for item in items(text):
        # A / inside a formula, which begins with NAME=, does not begin another name.
        inside = names and "=" in names[-1] and not _FORMULA_OF.match(item) and not is_name(item)
        names[-1:] = [f"{names[-1]}/{item}"] if inside else [*names[-1:], item]
    if not names:
        raise RequestError("no index is named; write All, or names as NDVI/NBR.")
    if [name.lower() for name in names] == [_EVERY_INDEX]:
        return None
    return resolve_indices(names)


def _masks(text: str) -> tuple[Mask, ...]:
    names = _mask_names(text)
    if not names:
        raise RequestError("no cloud mask is named; write one or more, as CM004-CSH1-CMP1-CHP1-TCI1-ITER1.")
    return resolve_masks(names, _BARE)


def _mask_names(text: str) -> list[str]:
    # Elsewhere the word switches a column off, and there has to be a mask.
    return [NO_MASK] if text.strip().lower() == NO_MASK else items(text)


def mask_notes(text: str) -> list[str]:
    """Return sentences on names of masks that stand for another mask on the command line.

    Raises
    ------
    RequestError
        If the cell is not a list of masks.
    """
    found = []
    for name in _mask_names(text):
        (here,), elsewhere = resolve_masks(name, _BARE), Mask.parse(name)
        if here != elsewhere:
            found.append(f"{name} is {here} in job files, and {elsewhere} on the command line; write it in full.")
    return found


def _compiled(text: str) -> tuple[str, ...]:
    """Read the names of compilations, in a fixed order."""
    names = [name.lower() for name in items(text)]
    allowed = (*_KINDS, _RANGE, _ALL_DATA)
    for name in names:
        if name not in allowed:
            raise UnknownNameError("compilation", name, allowed)
    return tuple(kind for kind in (*periods.KINDS, _RANGE) if kind in names)


def _pixels(text: str) -> PixelRule:
    for rule in get_args(PixelRule):
        if text.lower() == rule:
            return cast("PixelRule", rule)
    if is_off(text):
        return "center"
    raise UnknownNameError("pixel rule", text, get_args(PixelRule))


def _buffer(text: str) -> float | None:
    if is_off(text):
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,6}(\.[0-9]{1,6})?", text) or abs(float(text)) > MOST_BUFFER:
        raise RequestError(
            f"{quoted(text)} is not a number of metres, at most {MOST_BUFFER:.0f}; write 10, or -10 to shrink."
        )
    return float(text) or None


def _stats(text: str) -> tuple[str, ...]:
    names = () if is_off(text) else tuple(name.strip() for name in text.split("/"))
    return Statistics.of(names).extra


def _share(text: str) -> float:
    if is_off(text):
        return 0.0
    if not re.fullmatch(r"[01]?(\.[0-9]{1,9})?", text) or float(text) > 1:
        raise RequestError(f"{quoted(text)} is not a share from 0 to 1; write 0.8 for 80 percent.")
    return float(text)


def _aggregates(text: str) -> tuple[str, ...]:
    names = items(text)
    return periods.Aggregation.of(names).names if names else ()


def _catalogue(text: str) -> str:
    """Read the setting ``library``; the message of an error does not repeat the address, which may hold a key."""
    if is_off(text):
        return ""
    kind, place = text[: len(OF_CATALOGUE)], text[len(OF_CATALOGUE) :].strip()
    if kind.lower() != OF_CATALOGUE or not place:
        raise RequestError(
            f"it does not name a catalogue; write {OF_CATALOGUE}https://... or {OF_CATALOGUE}items.parquet, or remove "
            "it to read the archive of sen2chain_data."
        )
    return place


def _assets(text: str) -> dict[str, str]:
    """Read names of assets by band, as ``B04=red/B08=nir``."""
    found = {}
    for item in items(text):
        band, is_there, asset = (part.strip() for part in item.partition("="))
        if not (band and is_there and asset):
            raise RequestError(f"{quoted(item)} does not name a band and its asset; write B04=red/B08=nir.")
        found[band.upper()] = asset
    return found


def _verify(text: str) -> Verify:
    for choice in get_args(Verify):
        if text.lower() == choice:
            return cast("Verify", choice)
    if is_off(text):
        return "never"
    raise UnknownNameError("verification", text, get_args(Verify))


def _smoothing(text: str) -> str | bool:
    if text.strip().lower() in _SMOOTHING:
        return text.strip().lower()
    try:
        return switch(text)
    except RequestError:
        raise UnknownNameError("smoothing", text, ("True", "False", *_SMOOTHING)) from None


def read_command(text: str) -> tuple[str, ...]:
    """Split a command into a program and its arguments, without a shell.

    Raises
    ------
    RequestError
        If a quote is not closed.
    """
    if text.strip().lower() in {"false", "none"}:
        return ()
    try:
        program, *arguments = shlex.split(text) or [""]
    except ValueError:
        raise RequestError("it has a quote that is not closed.") from None
    return (os.path.expanduser(program), *arguments) if program else ()  # noqa: PTH111  # it may be a plain name


def _seconds(text: str) -> float:
    number = cell_number(text, LONGEST_DELIVERY)
    if not number:
        raise RequestError("0 seconds leave no time; write 3600 for an hour.")
    return float(number)


_SETTING_READERS: dict[str, Callable[[str], Any]] = {
    "logs": switch,
    "timing": Timing.parse,
    "nb_proc": lambda text: cell_number(text or "0", MOST_WORKERS),
    "process_by_line": _number_or_off(MOST_LINES),
    "on_failure": read_command,
    "on_success": read_command,
    "delivery_timeout": _seconds,
    "keep_runs": _number_or_off(MOST_LINES),
    "safe": lambda text: _text_or_off(text) or "",
    "library": _catalogue,
    "collection": _text_or_off,
    "stac_asset": _assets,
    "stac_allow": lambda text: () if is_off(text) else tuple(text.split()),
    "verify": _verify,
    "page": switch,
}
"""How the text of each setting is read."""

_CELL_READERS: dict[str, Callable[[str], Any]] = {
    "date_min": Day.parse,
    "date_max": Day.parse,
    "max_clouds": percentage,
    "cloudmasks": _masks,
    "indices": _indices,
    "force_extraction": switch,
    "compiled_data": _compiled,
    "smooth_data": _smoothing,
    "copy_server": lambda text: None if is_off(text) else parse_destination(text),
    "pixels": _pixels,
    "buffer": _buffer,
    "stats": _stats,
    "min_valid": _share,
    "aggregate": _aggregates,
    "id_field": _text_or_off,
    "encoding": _text_or_off,
    "crs": _text_or_off,
}
"""How a cell of each column but the first is read."""


def default_settings() -> Settings:
    """Return the settings of a file that sets none."""
    return Settings(**{name: read(DEFAULTS[name]) for name, read in _SETTING_READERS.items()})


# -------------------------------------------------------------------------------------------- the file from Python


def _count(largest: int) -> Callable[[str], int]:
    return lambda text: cell_number(text or "0", largest)


def _checked_count(low: int, high: int) -> Callable[[str, Any], int]:
    """Return a check of a number, which may be passed as a text, as it stands in a file."""

    def check(name: str, value: object) -> int:
        if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
            value = int(value)
        return check_whole_number(name, value, low, high)

    return check


class _Attribute(Generic[T]):
    """An attribute of a job that stands for the setting of its name.

    Parameters
    ----------
    read
        Text of the setting -> value.
    check
        Name and new value -> what is written; it raises an error where that cannot be used.
    """

    def __init__(self, read: Callable[[str], T], check: Callable[[str, Any], object] = lambda _, value: value) -> None:
        self._read, self._check = read, check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, job: None, owner: type) -> Self: ...
    @overload
    def __get__(self, job: EditableJob, owner: type) -> T: ...
    def __get__(self, job: EditableJob | None, owner: type) -> Self | T:
        return self if job is None else self._read(job._text_of(self._name))  # noqa: SLF001  # a part of that class

    def __set__(self, job: EditableJob, value: Any) -> None:
        job._set(self._name, self._check(self._name, value))  # noqa: SLF001  # as above


def template(name: str) -> str:
    """Return the text of a new job's file, which explains every setting and column.

    Parameters
    ----------
    name
        Name of the job.
    """
    text = importlib.resources.files("sen2chain.jobs").joinpath("job_template.cfg").read_text(encoding="utf-8")
    return text.format(name=name, header=";".join(COLUMNS))


class EditableJob:
    """The file of a job on disk; an edit by another program is noticed before the file is written.

    Parameters
    ----------
    name
        The job.
    path
        The job's file; where it does not exist, `save` writes the template.

    Raises
    ------
    JobError
        If the file cannot be read as text.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self._text: str | None = None
        self._file = JobFile([])
        self._read()
        self._changed = False

    def save(self) -> Path:
        """Write the file: the template for a new job, or the changes made here.

        Raises
        ------
        JobError
            If the file was edited after it was read, and changes would be lost.
        OutputError
            If it cannot be written.
        """
        self._refresh()
        if self._file.text != self._text:
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self._file.text)
            self._text = self._file.text
        self._changed = False
        say(f"Job {self.name} is described in {self.path}; edit it, then check() tells what it would do.")
        return self.path

    def _refresh(self) -> JobFile:
        """Return the file's current lines, read again if the file was edited.

        Raises
        ------
        JobError
            If the file was changed both here and on disk.
        """
        if self._on_disk() != self._text:
            if self._changed:
                raise JobError(
                    f"{self.path} was edited while this job was changed here; "
                    f"read it again with JobExtraction({self.name!r}), and change that."
                )
            self._read()
        return self._file

    def _on_disk(self) -> str | None:
        """Return the file's text; None where there is no file."""
        return read_text(self.path) if os.path.lexists(self.path) else None

    def _read(self) -> None:
        self._text = self._on_disk()
        self._file = JobFile.parse(template(self.name) if self._text is None else self._text)

    def _saved(self) -> JobFile:
        """Return the file as it is on disk.

        Raises
        ------
        JobError
            If there are changes that are not saved.
        """
        file = self._refresh()
        if self._text is None and not self._changed:
            raise JobError(f"There is no file {self.path}; save() writes it.")
        if self._changed:
            raise JobError(f"The job {self.name} has changes that are not in {self.path}; call save() first.")
        return file

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The rows as column -> text, with a ``!`` before skipped ones; optional columns where the file has them."""
        file = self._refresh()
        columns = (*COLUMNS, *(name for name in OPTIONAL if name in file.columns))
        return [
            {column: ("!" if row.skipped and column == COLUMNS[0] else "") + row.text(column) for column in columns}
            for row in file.rows
        ]

    def task_add(self, task: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Add a line to the table.

        Parameters
        ----------
        task
            Column -> value; other columns are switched off. Without any value, the template's example is added.
        **values
            The same as keywords.

        Raises
        ------
        UnknownNameError
            If a column is unknown.
        RequestError
            If a value has a line break or a control character.
        """
        task = {**(task or {}), **values}
        if not task:
            row = JobFile.parse(template(self.name)).rows[0]
            task = {column: row.text(column) for column in COLUMNS} | {COLUMNS[0]: "!" + row.text(COLUMNS[0])}
        self._refresh().add(_texts(task))
        self._changed = True

    def task_edit(self, i: int, **values: Any) -> None:
        """Change cells of row `i`, counted from 0 with skipped rows.

        Raises
        ------
        RequestError
            If there is no such row or column, or a value has a line break.
        """
        file = self._refresh()
        file.change(_position(i, file), _texts(values))
        self._changed = True

    def task_remove(self, i: int) -> None:
        """Remove row `i`, counted from 0 with skipped rows.

        Raises
        ------
        RequestError
            If there is no such row.
        """
        file = self._refresh()
        file.remove(_position(i, file))
        self._changed = True

    def _text_of(self, name: str) -> str:
        return self._refresh().settings.get(name, (0, DEFAULTS[name]))[1]

    def _set(self, name: str, value: object) -> None:
        self._refresh().set(name, "" if value is None else _written(name, value))
        self._changed = True

    logs = _Attribute(switch, truth)
    """Whether each run leaves a log and a record."""
    timing = _Attribute(str, lambda _, value: Timing.parse(value).text)
    """When the job runs, as cron writes it, in the machine's local time."""
    nb_proc = _Attribute(_count(MOST_WORKERS), _checked_count(0, MOST_WORKERS))
    """Number of processors; 0 uses all."""
    process_by_line = _Attribute(_count(MOST_LINES), _checked_count(0, MOST_LINES))
    """Number of lines in a batch; 0 is all."""
    delivery_timeout = _Attribute(_count(LONGEST_DELIVERY), _checked_count(1, LONGEST_DELIVERY))
    """Seconds after which a delivery is given up until the next run."""
    keep_runs = _Attribute(_count(MOST_LINES), _checked_count(0, MOST_LINES))
    """Number of runs whose logs and records are kept; 0 is all."""
    safe = _Attribute(str)
    """Folder of SAFE products to read in place of the library's archive; empty reads the archive."""
    library = _Attribute(str)
    """STAC catalogue to read in place of the library's archive, as ``stac:https://...`` or ``stac:items.parquet``."""
    collection = _Attribute(str)
    """Collection of the catalogue; empty is the one that it is known for."""
    stac_asset = _Attribute(str)
    """Names of assets by band, as ``B04=red/B08=nir``; empty are those that are known."""
    stac_allow = _Attribute(str)
    """Hosts and buckets that items of the catalogue may refer to, with blanks between."""
    verify = _Attribute(str)
    """Whether the files of products are compared with their checksums: ``first`` or ``never``."""
    page = _Attribute(switch, truth)
    """Whether each line writes an HTML page of its series after it is compiled."""
    on_failure = _Attribute(str)
    """Command after a run of which a part, or everything, could not be done, unless the run before ended alike."""
    on_success = _Attribute(str)
    """Command after a run that did everything."""


def _position(i: int, file: JobFile) -> int:
    try:
        return check_whole_number("i", i, 0, len(file.rows) - 1)
    except RequestError:
        raise RequestError(f"There is no line {shown(i)} in the table; it has {len(file.rows)}, from 0.") from None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as the texts of cells."""
    named = {OLDER.get(name, name): value for name, value in values.items()}
    for name in named:
        if name not in KNOWN:
            raise UnknownNameError("column", name, KNOWN)
    return {name: _text(name, value) for name, value in named.items()}


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime) and value.year == value.year:  # pandas' NaT is a datetime too
        return str(value.date())
    if isinstance(value, list | tuple):
        return "/".join(_written(name, item) for item in value)
    return _written(name, value)


def _written(name: str, value: object) -> str:
    """Return a value as text."""
    try:
        return str(value)
    except ValueError:  # a whole number of more than 4300 digits
        raise RequestError(f"{name} is {shown(value)}; pass a text, a number or a date.") from None
