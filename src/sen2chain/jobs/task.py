"""What a job's file means: its settings, and one task for each line of its table."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from sen2chain import periods
from sen2chain.coverage import PixelRule
from sen2chain.errors import RequestError, Sen2ChainError, UnknownNameError, quoted
from sen2chain.files import absolute, is_file, is_folder
from sen2chain.indices import INDICES, Index, resolve_indices
from sen2chain.jobs.cells import EARLIEST, Day, is_off, items, percentage, switch, whole_number
from sen2chain.jobs.delivery import parse_destination
from sen2chain.jobs.file import COLUMNS, DESTINATION, Problem, safe
from sen2chain.jobs.schedule import Timing
from sen2chain.masks import NO_MASK, Mask
from sen2chain.parallel import MOST_WORKERS
from sen2chain.plan import resolve_masks
from sen2chain.plan.request import MOST_BUFFER, Verify
from sen2chain.smoothing import METHODS
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from sen2chain.jobs.delivery import Destination
    from sen2chain.jobs.file import JobFile, Row

DEFAULTS = {
    "logs": "False", "timing": "0 0 * * *", "nb_proc": "8", "process_by_line": "0", "on_failure": "",
    "on_success": "", "delivery_timeout": "3600", "keep_runs": "400", "safe": "", "verify": "never",
}  # fmt: skip
"""Settings, and what they are where a file does not say."""

MOST_LINES = 100_000
"""Largest number of lines of a batch, and of runs that are kept."""
LONGEST_DELIVERY = 7 * 86400
"""Largest number of seconds for a delivery."""

_RANGE, _ALL_DATA, _EVERY_INDEX = "all", periods.ALL, "all"
_KINDS = ("yearly", "monthly", "weekly", "daily")
_BARE = {"probability": 1, "iterations": 1}  # what completes a bare CM003 or CM004, as in TimeSeriesCompil
_SMOOTHING = (*METHODS, "original")
_OF_THE_KERNEL = (f"{os.sep}proc{os.sep}", f"{os.sep}sys{os.sep}", f"{os.sep}dev{os.sep}")  # some are read without end
_MISPLACED = "it looks like a destination with a login, and is not repeated here; is a ; missing before it?"
_LAYER_NAME = "|layername="  # as QGIS writes a layer of a file that has several


@dataclass(frozen=True, slots=True)
class Settings:
    """What stands above the table."""

    logs: bool
    """Whether each run leaves a log and a record."""
    timing: Timing
    """When it runs."""
    processors: int
    """Number of threads; 0 uses all processors."""
    batch: int
    """Lines that are extracted before the first of them is compiled; 0 is all."""
    on_failure: tuple[str, ...]
    """Command after a run that did not do all, as a program and its arguments."""
    on_success: tuple[str, ...]
    """Command after a run that did all."""
    delivery_timeout: float
    """Seconds that a delivery may take."""
    keep_runs: int
    """Number of runs whose logs and records are kept; 0 is all."""
    safe: str
    """Folder of SAFE products in the place of the library's archive, as written; empty for that."""
    verify: Verify
    """Whether products' files are compared with their checksums before they are first extracted."""

    def folder_of_products(self, home: Path) -> Path | None:
        """Return the folder of SAFE products; a relative one starts in the home."""
        return absolute(self.safe, home) if self.safe else None


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the table, as it is run."""

    line: int
    """Line of the file, from 1."""
    path: Path
    """The layer's file."""
    layer: str | None
    """Layer of a file that has several."""
    indices: tuple[Index, ...] | None
    """Radiometric indices; None is all."""
    masks: tuple[Mask, ...]
    """Cloud masks."""
    date_min: Day | None
    """First sensing date; None is 2015-01-01."""
    date_max: Day | None
    """Last sensing date, inclusive; None is open."""
    max_clouds: float
    """Largest cloud cover of products, percent."""
    force: bool
    """Whether every image is extracted again."""
    kinds: tuple[str, ...]
    """Files that are compiled: yearly, monthly, weekly, daily, all_data."""
    in_range: bool
    """Whether the range of dates is compiled into one file too."""
    smoothing: str | bool
    """How the files of all dates and of the range are smoothed, or False."""
    destination: Destination | None
    """Where compiled files are sent."""
    pixels: PixelRule
    """Which pixels belong to a polygon."""
    buffer: float | None
    """Metres by which features grow or shrink."""
    stats: tuple[str, ...]
    """Statistics beyond the documented ones."""
    min_valid: float
    """Smallest share of valid pixels of a row."""
    aggregates: tuple[str, ...]
    """What is made of the dates of a period, besides the rows."""
    encoding: str | None
    """Encoding of the layer's texts; None is found out."""
    crs: str | None
    """CRS of a layer that does not say its own."""

    def dates(self, today: dt.date) -> tuple[dt.date, dt.date | None]:
        """Return the first and the last sensing date of a run."""
        first = self.date_min.on(today) if self.date_min else EARLIEST
        return first, self.date_max.on(today) if self.date_max else None

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled."""
        return bool(self.kinds) or self.in_range

    def compilation(self, today: dt.date) -> dict[str, Any]:
        """Return the parameters of `TimeSeriesCompil.compile_data`."""
        first, last = self.dates(today)
        flags = {kind: kind in self.kinds for kind in _KINDS}
        within = {"datemin": first, "datemax": last} if self.in_range else {}
        return {
            **flags, "alldata": _ALL_DATA in self.kinds, "smoothing": self.smoothing,
            "aggregate": self.aggregates or None, **within,
        }  # fmt: skip

    @property
    def extras(self) -> dict[str, Any]:
        """The values of optional columns that are set."""
        given = {
            "pixels": self.pixels if self.pixels != "center" else None, "buffer": self.buffer,
            "stats": list(self.stats) or None, "min_valid": self.min_valid or None,
            "aggregate": list(self.aggregates) or None, "encoding": self.encoding, "crs": self.crs,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


class _Reader:
    """Reads values and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, make: Callable[[str], Any], cell: tuple[str, str], problem: Callable[[str], Problem]) -> Any:
        name, text = cell
        try:
            return make(text)
        except Sen2ChainError as error:
            # A destination in the wrong column is not repeated: it may have a password.
            known = name == DESTINATION or safe(text, path=name == COLUMNS[0]) == text
            self.problems.append(problem(str(error) if known else _MISPLACED))
            return None


def read_settings(file: JobFile) -> tuple[Settings | None, list[Problem]]:
    """Read what stands above the table; None where something is wrong with the file as a whole.

    Parameters
    ----------
    file
        The lines.

    Returns
    -------
    tuple
        The settings, and all problems in the order of their lines.
    """
    reader = _Reader()
    reader.problems += file.problems
    for name, (line, _) in file.settings.items():
        if name not in DEFAULTS:
            reader.problems.append(Problem(str(UnknownNameError("setting", name, DEFAULTS)), line, name))

    def value(name: str, make: Callable[[str], Any]) -> Any:
        line, text = file.settings.get(name, (0, DEFAULTS[name]))
        return reader.read(make, (name, text), lambda sentence: Problem(sentence, line, name))

    made = Settings(
        logs=value("logs", switch),
        timing=value("timing", Timing.parse),
        processors=value("nb_proc", lambda text: whole_number(text or "0", MOST_WORKERS)),
        batch=value("process_by_line", lambda text: 0 if is_off(text) else whole_number(text, MOST_LINES)),
        on_failure=value("on_failure", read_command),
        on_success=value("on_success", read_command),
        delivery_timeout=value("delivery_timeout", _seconds),
        keep_runs=value("keep_runs", lambda text: 0 if is_off(text) else whole_number(text, MOST_LINES)),
        safe=value("safe", lambda text: "" if is_off(text) else text),
        verify=value("verify", _verify),
    )
    return (None if reader.problems else made), sorted(reader.problems, key=lambda problem: problem.line)


def read_task(row: Row, home: Path, today: dt.date) -> tuple[Task | None, list[Problem]]:
    """Read one line of the table; None where something is wrong with it.

    Parameters
    ----------
    row
        The line.
    home
        Where relative paths start.
    today
        The day of the run.

    Returns
    -------
    tuple
        The task, and all problems in the order of the columns.
    """
    reader = _Reader()
    reader.problems += row.problems

    def value(column: str, make: Callable[[str], Any]) -> Any:
        return reader.read(make, (column, row.text(column)), lambda sentence: row.problem(column, sentence))

    path, layer = value(COLUMNS[0], lambda text: _layer(text, home)) or (Path(), None)
    kinds, in_range = value("compiled_data", _compiled) or ((), False)
    task = Task(
        line=row.line,
        path=path,
        layer=layer,
        indices=value("indices", _indices),
        masks=value("cloudmasks", _masks),
        date_min=value("date_min", Day.parse),
        date_max=value("date_max", Day.parse),
        max_clouds=value("max_clouds", percentage),
        force=value("force_extraction", switch),
        kinds=kinds,
        in_range=in_range,
        smoothing=value("smooth_data", _smoothing),
        destination=value("copy_server", lambda text: None if is_off(text) else parse_destination(text)),
        pixels=value("pixels", _pixels),
        buffer=value("buffer", _buffer),
        stats=value("stats", _stats),
        min_valid=value("min_valid", _share),
        aggregates=value("aggregate", _aggregates),
        encoding=value("encoding", lambda text: None if is_off(text) else text),
        crs=value("crs", lambda text: None if is_off(text) else text),
    )
    if reader.problems:
        return None, sorted(reader.problems, key=lambda problem: problem.character)
    if task.smoothing and not (in_range or _ALL_DATA in kinds):
        sentence = "whole series are smoothed; add all (the dates of this line) or all_data to compiled_data."
        return None, [row.problem("smooth_data", sentence)]
    if task.aggregates and not task.compiles:
        return None, [row.problem("aggregate", "periods are aggregated; name some in compiled_data.")]
    first, last = task.dates(today)
    if last is not None and first > last:
        return None, [row.problem("date_min", f"{first} is after date_max, {last}; swap them.")]
    return task, []


def _layer(text: str, home: Path) -> tuple[Path, str | None]:
    """Read the path of a layer, as ``parcels.gpkg|layername=fields`` where the file has several."""
    name, found, layer = text.partition(_LAYER_NAME)
    if not name:
        raise RequestError("it is empty; write the path of a polygon layer.")
    path = absolute(name, home)
    if found and not layer:
        raise RequestError(f"{text!r} names no layer after {_LAYER_NAME}.")
    # A device or a pipe would be read without end.
    if not (is_file(path) or is_folder(path)):
        raise RequestError(f"{path} does not exist or is no file; write the path of a polygon layer.")
    if os.path.realpath(path).startswith(_OF_THE_KERNEL):
        raise RequestError(f"{path} is no file on a disk; write the path of a polygon layer.")
    if not os.access(path, os.R_OK):
        raise RequestError(f"{path} may not be read; give this user the right to.")
    return path, layer or None


def _indices(text: str) -> tuple[Index, ...] | None:
    names: list[str] = []
    for item in items(text):
        # A / inside a formula, which begins with NAME=, does not begin another name.
        inside = names and "=" in names[-1] and "=" not in item and item.upper() not in INDICES
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
    """Say which names of masks in a cell mean another one than on the command line.

    Raises
    ------
    RequestError
        If the cell is no list of masks.
    """
    found = []
    for name in _mask_names(text):
        (here,), elsewhere = resolve_masks(name, _BARE), Mask.parse(name)
        if here != elsewhere:
            found.append(f"{name} is {here} in job files, and {elsewhere} on the command line; write it in full.")
    return found


def _compiled(text: str) -> tuple[tuple[str, ...], bool]:
    """Read which files are compiled: kinds of periods, and whether the range of dates too."""
    names = [name.lower() for name in items(text)]
    allowed = (*_KINDS, _RANGE, _ALL_DATA)
    for name in names:
        if name not in allowed:
            raise UnknownNameError("compilation", name, allowed)
    return tuple(kind for kind in periods.KINDS if kind in names), _RANGE in names


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
    """Read a command as a program and its arguments; no shell is asked.

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
    number = whole_number(text, LONGEST_DELIVERY)
    if not number:
        raise RequestError("0 seconds leave no time; write 3600 for an hour.")
    return float(number)
