"""A run of a job: extract, compile and deliver every row of its table, and keep a record of what was done.

`JobRun` runs all rows of a job, one run of a job at a time; `LineRun` runs one row, step by step. A step that fails is
recorded and stops no other row. `RunRecord` is what programs read afterwards (JSON), `RunLog` what people read.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import socket
import subprocess
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from sen2chain.atomic import check_folder, replacing
from sen2chain.errors import (
    DeliveryError,
    JobError,
    LayerError,
    LibraryError,
    OutputError,
    RequestError,
    Sen2ChainError,
    SmoothingError,
    StoreError,
)
from sen2chain.files import is_file, read_limited
from sen2chain.jobs.delivery import PAUSES, GoneError, Remote, deliver, same_place
from sen2chain.jobs.delivery_registry import DeliveryRegistry
from sen2chain.jobs.job_file import COLUMNS, DEFAULTS, OPTIONAL, JobFile, first, read_command, read_settings, read_task
from sen2chain.progress import counted, is_watched, printable
from sen2chain.report import BROKEN, LACKING
from sen2chain.store import COMPILED, ExtractionFolder, held_since, locked
from sen2chain.timeseries import TimeSeriesCompil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sen2chain.jobs.delivery import Destination
    from sen2chain.jobs.job_file import JobTask, Settings
    from sen2chain.jobs.job_location import JobLocation
    from sen2chain.timeseries import Compiled, Extracted

# -------------------------------------------------------------------------------------------------------- the record

Status = Literal["running", "done", "nothing", "partly", "failed", "interrupted"]
EXIT_CODES: dict[Status, int] = {"done": 0, "failed": 1, "nothing": 3, "partly": 4, "interrupted": 130, "running": 1}
"""Exit codes of a run by how it ended."""

IN_WORDS: dict[Status, str] = {
    "done": "all done", "nothing": "no line is to be run", "partly": "a part could not be done", "failed": "failed",
    "interrupted": "interrupted", "running": "is running",
}  # fmt: skip
"""How a run ended, for people."""

_LAST = "last_run"
_STAMP = "%Y%m%dT%H%M%SZ"
_MOST_ERRORS = 50
_LONGEST_RECORD = 50_000_000  # bytes
_RUN = re.compile(r"(?P<stem>job_.*_run_(?P<time>[0-9]{8}T[0-9]{6}Z)(?:-(?P<again>[0-9]{1,9}))?)\.(?:json|log)")
_LARGEST_OUTPUT = 1_000_000  # bytes of what the scheduled runs print


@dataclass(slots=True)
class LineRecord:
    """What a run did with one line of the table."""

    line: int
    """Line of the file, from 1."""
    layer: str
    """The layer, as written in the line."""
    status: Status = "running"
    """``running``, ``done``, ``partly``, ``failed`` or ``interrupted``."""
    asked: dict[str, Any] = field(default_factory=dict)
    """Indices, masks, dates as resolved on the day of the run, and the other columns."""
    folder: str = ""
    """The layer's folder."""
    extracted: dict[str, int] = field(default_factory=dict)
    """Counts of images, rows and acquisitions."""
    compiled: dict[str, Any] = field(default_factory=dict)
    """Files that were written, and how many are unchanged."""
    delivered: dict[str, Any] = field(default_factory=dict)
    """Destination, names of the files that were sent, and number of unchanged files."""
    notes: list[str] = field(default_factory=list)
    """Remarks that are not errors."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """What went wrong: the step, and a message."""
    seconds: float = 0.0
    """Duration, seconds."""
    troubled: list[str] = field(default_factory=list)
    """Acquisitions with an image that could not be made."""

    def fail(self, step: str, sentence: str) -> None:
        """Record an error.

        Parameters
        ----------
        step
            ``file``, ``extract``, ``compile`` or ``deliver``.
        sentence
            What went wrong.
        """
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append({"step": step, "message": sentence})
        elif len(self.errors) == _MOST_ERRORS:
            self.errors.append({"step": step, "message": "There are more errors; the log has them all."})
        self.status = "failed" if step == "file" else "partly"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written to JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True, repr=False)
class RunRecord:
    """What a run did, line by line."""

    job: str
    """Name of the job."""
    file: str
    """The job's file."""
    started: dt.datetime
    """Start, UTC."""
    status: Status = "running"
    """``running``, ``done``, ``nothing`` (no line is to be run), ``partly``, ``failed`` or ``interrupted``."""
    ended: dt.datetime | None = None
    """End, UTC."""
    lines: list[LineRecord] = field(default_factory=list)
    """Lines that were run."""
    skipped: list[int] = field(default_factory=list)
    """Lines of the file with a ``!``."""
    errors: list[str] = field(default_factory=list)
    """Errors of the run as a whole."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the run as a whole that are not errors."""
    archive: str = ""
    """The STAC catalogue that products come from, in words; empty where the job reads an archive."""
    log: str = ""
    """The log file, where one is written."""
    path: Path | None = None
    """The file of this record."""
    reported: bool = False
    """Whether ``on_failure`` was called for this outcome, by this run or by an earlier one."""

    @property
    def exit_code(self) -> int:
        """0 all done, 1 failed, 3 no line is to be run, 4 a part failed."""
        return EXIT_CODES[self.status]

    @property
    def rows(self) -> int:
        """Rows that were extracted."""
        return sum(line.extracted.get("rows", 0) for line in self.lines)

    @property
    def delivered(self) -> int:
        """Files that were sent."""
        return sum(len(line.delivered.get("sent", ())) for line in self.lines)

    def end(self) -> None:
        """Set the status of the run from that of its lines, and its end."""
        states = {line.status for line in self.lines}
        if self.errors or (states and states <= {"failed"}):
            self.status = "failed"
        elif not states:
            self.status = "nothing"
        else:
            self.status = "done" if states <= {"done"} else "partly"
        self.ended = dt.datetime.now(dt.UTC)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written to JSON."""
        return {
            "job": self.job,
            "status": self.status,
            "exit_code": self.exit_code,
            "started": utc_text(self.started),
            "ended": utc_text(self.ended) if self.ended else None,
            "seconds": round((self.ended - self.started).total_seconds(), 3) if self.ended else None,
            "rows": self.rows,
            "files_written": sum(len(line.compiled.get("written", ())) for line in self.lines),
            "files_delivered": self.delivered,
            "archive": self.archive or None,
            "errors": self.errors,
            "notes": self.notes,
            "reported": self.reported,
            "lines": [line.as_dict() for line in self.lines],
            "skipped_lines": self.skipped,
            "file": self.file,
            "log": self.log or None,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "versions": {"sen2chain": importlib.metadata.version("sen2chain"), "python": platform.python_version()},
        }

    def write(self) -> None:
        """Write the record to its file, atomically."""
        if self.path is not None:
            text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False)
            with replacing(self.path) as file:
                file.write(text.encode("utf-8", "replace") + b"\n")

    def __str__(self) -> str:
        written = sum(len(line.compiled.get("written", ())) for line in self.lines)
        parts = [f"{counted(self.rows, 'new row')}", f"{counted(written, 'file')} written", f"{self.delivered} sent"]
        return f"Job {self.job}: {IN_WORDS[self.status]}; {counted(len(self.lines), 'line')}, {', '.join(parts)}."

    __repr__ = __str__


def printable_line(text: str) -> str:
    """Return a text as one line without control characters."""
    return printable(" ".join(text.split()))


def utc_text(time: dt.datetime) -> str:
    """Return a time in UTC as records write it, ``2021-12-31T00:00:00Z``."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunLog:
    """The log of a run: a file, and a function that shows each line.

    Parameters
    ----------
    path
        The file; None writes none.
    echo
        Called with each line as well.
    watched
        Whether the time series shows its own messages on a terminal.
    """

    def __init__(self, path: Path | None, echo: Callable[[str], None], *, watched: bool = False) -> None:
        self._path, self._echo, self._watched = path, echo, watched
        self.trouble = ""
        """Why the file could not be written to its end; empty where it could."""

    def say(self, sentence: str, *, told: bool = False) -> None:
        """Write a line.

        Parameters
        ----------
        sentence
            The sentence; line breaks become spaces.
        told
            Whether the time series has shown it on the terminal.
        """
        sentence = printable_line(sentence)
        # A full disk or a closed terminal does not stop the run; the record has a note on it.
        if self._path is not None and not self.trouble:
            try:
                with self._path.open("ab") as file:
                    file.write(f"{utc_text(dt.datetime.now(dt.UTC))} {sentence}\n".encode("utf-8", "replace"))
            except OSError as error:
                self.trouble = f"The log {self._path} cannot be written ({error.strerror})."
        if not (told and self._watched):
            with contextlib.suppress(Exception):
                self._echo(sentence)


def places(folder: Path, job: str, started: dt.datetime, *, logs: bool) -> tuple[Path | None, Path]:
    """Return unused paths for the log and the record of a run.

    Parameters
    ----------
    folder
        The job's folder of logs.
    job
        The job's name.
    started
        The run's start.
    logs
        Whether each run has files of its own.
    """
    if not logs:
        return None, folder / f"job_{job}_{_LAST}.json"
    name = first = f"job_{job}_run_{started.astimezone(dt.UTC):{_STAMP}}"
    again = 1
    while (folder / f"{name}.json").exists() or (folder / f"{name}.log").exists():
        again += 1
        name = f"{first}-{again}"
    return folder / f"{name}.log", folder / f"{name}.json"


def runs(folder: Path) -> list[Path]:
    """Return the paths of the records in a job's folder of logs, oldest first."""
    found = []
    for name in _names(folder):
        if match := _RUN.fullmatch(name):
            if name.endswith(".json"):
                found.append((_order(match), folder / name))
        elif name.endswith(f"_{_LAST}.json"):
            with contextlib.suppress(OSError, OverflowError, ValueError):  # it has vanished
                time = dt.datetime.fromtimestamp((folder / name).lstat().st_mtime, dt.UTC)
                found.append(((f"{time:{_STAMP}}", 0), folder / name))
    return [path for _, path in sorted(found)]


def prune(folder: Path, job: str, keep: int) -> None:
    """Remove the logs and records of all runs but the last, and the beginning of the output of scheduled runs.

    Parameters
    ----------
    folder
        The job's folder of logs.
    job
        The job's name.
    keep
        Number of runs that are kept; 0 is all.
    """
    found: dict[tuple[str, int], set[str]] = {}
    for name in _names(folder):
        if (match := _RUN.fullmatch(name)) and name.startswith(f"job_{job}_run_"):
            found.setdefault(_order(match), set()).add(name)
    for order in sorted(found)[:-keep] if keep else ():
        for name in found[order]:
            with contextlib.suppress(OSError):  # the next run tries again
                (folder / name).unlink()
    output = folder / f"job_{job}_schedule.log"
    with contextlib.suppress(OSError):
        if output.is_symlink() or output.lstat().st_size <= _LARGEST_OUTPUT:
            return
        with output.open("r+b") as file:  # in its place: the run that is going on appends to it
            file.seek(-_LARGEST_OUTPUT // 2, os.SEEK_END)
            rest = file.read().partition(b"\n")[2]
            file.seek(0)
            file.write(rest)
            file.truncate()


def _names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def _order(match: re.Match[str]) -> tuple[str, int]:
    return match["time"], int(match["again"] or 1)


def last_run(folder: Path) -> dict[str, Any] | None:
    """Read the last record that can be read; None without one."""
    for path in reversed(runs(folder)):
        found = _read(path)
        if found is not None:
            return found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """Read a record; None for a file that is not a record."""
    try:
        found = json.loads(read_limited(path, _LONGEST_RECORD))
        if found["status"] not in get_args(Status) or not isinstance(found["lines"], list):
            return None
        dt.datetime.fromisoformat(found["started"]).astimezone()  # not every time is one of this zone
    except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None
    log = path.with_suffix(".log")
    return {**found, "log": str(log) if log.is_file() and not log.is_symlink() else None}


def last_outcome(folder: Path) -> dict[str, Any] | None:
    """Read the record of the last run that was neither killed nor interrupted; None without one."""
    for path in reversed(runs(folder)):
        found = _read(path)
        if found is not None and found["status"] not in {"running", "interrupted"}:
            return found
    return None


def outcome(record: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what makes the outcomes of two runs equal or different.

    Parameters
    ----------
    record
        `RunRecord.as_dict`, or a record of this or an earlier version as it was read from its file.

    Returns
    -------
    tuple or None
        Status and errors of the run; layer, status, errors and acquisitions that could not be used of each line. None
        for a record that has them in another form.
    """
    try:
        lines = [
            (line["layer"], line["status"], [(error["step"], error["message"]) for error in line["errors"]],
             line["troubled"]) for line in record["lines"]
        ]  # fmt: skip
        return record["status"], record["errors"], lines
    except (LookupError, TypeError):
        return None


# ---------------------------------------------------------------------------------------------------- one line of a run

_COUNTS = ("images", "rows", "empty", "failed", "changed", "kept", "missing", "lost", "acquisitions")
_EXAMPLES = 20
_LONGEST_END = 120  # letters of the name of a page after that of the layer
_BESIDE = (".json", "_stats.csv", "_stats.json")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all lines of a run share."""

    settings: Settings
    """The settings of the job's file."""
    location: JobLocation
    """The job's home, library and logs."""
    today: dt.date
    """The day that ``today`` means in every line, UTC."""
    log: RunLog
    """The log of the run."""
    registry: DeliveryRegistry
    """Which layer's files are at which destination."""
    quiet: bool = False
    """Whether to show no progress."""
    pauses: Sequence[float] = PAUSES
    """Seconds before each further try of a delivery."""
    out_of_reach: set[str] = field(default_factory=set)
    """Servers and other destinations that could not be reached during this run."""


def series_of(task: JobTask, context: RunContext) -> TimeSeriesCompil:
    """Return the compiled time series of a line."""
    first, last = task.dates(context.today)
    location = context.location
    safe, stac = context.settings.folder_of_products(location.home), context.settings.catalogue(location.home)
    return TimeSeriesCompil(
        task.shapefile.path,
        indices=task.indices,
        date_min=first,
        date_max=last,
        cover_max=task.max_clouds,
        masks=task.cloudmasks,
        multiproc=context.settings.nb_proc,
        library=None if safe or stac else location.library,
        extraction=location.paths.extraction,
        layer=task.shapefile.layer,
        quiet=context.quiet,
        safe=safe,
        stac=stac,
        verify=context.settings.verify,
        pixels=task.pixels,
        buffer=task.buffer,
        stats=task.stats,
        min_valid=task.min_valid,
        id_field=task.id_field,
        encoding=task.encoding,
        crs=task.crs,
    )


class LineRun:
    """One row of the table during a run.

    Parameters
    ----------
    task
        The row.
    context
        What all lines of the run share.
    record
        The record of the line.
    """

    def __init__(self, task: JobTask, context: RunContext, record: LineRecord) -> None:
        self.task, self.record, self._context = task, record, context
        self._files: list[Path] = []
        self._folder = Path()
        self._broken: set[str] = set()
        self._lost = False  # without its layer no step can do anything
        record.asked = task.request(context.today)

    def run(self, step: Callable[[LineRun], None]) -> None:
        """Do a step; an error ends the step and is recorded."""
        if self._lost:
            return
        began = time.monotonic()
        try:
            step(self)
        except Exception as error:  # noqa: BLE001  # an unexpected error stops no other line
            self._broken.add(step.__name__)
            self._lost = self._lost or isinstance(error, LayerError)
            self._fail(step.__name__, as_sentence(error))
        finally:
            self.record.seconds = round(self.record.seconds + time.monotonic() - began, 3)

    def end(self) -> None:
        """Set the status of the line after its last step."""
        if self.record.status == "running":
            self.record.status = "done"
        elif "extract" in self._broken and not self.record.compiled:
            self.record.status = "failed"

    def extract(self) -> None:
        """Extract what is new."""
        task, record = self.task, self.record
        self._say(f"{record.layer}: {in_words(record.asked)}.")
        series = series_of(task, self._context)
        done = series.extract_data(force=task.force_extraction)
        record.folder = str(series.folder)
        record.extracted = {name: getattr(done, name) for name in _COUNTS}
        self._say(str(done), told=True)
        if why := nothing_there(series, done):
            raise LibraryError(why)
        for note in (*series.notes, *done.notes):
            self._note(note, told=note in done.notes)
        self._count_what_is_missing(done, series)

    def _count_what_is_missing(self, done: Extracted, series: TimeSeriesCompil) -> None:
        """Record images that could not be extracted as errors, with examples of the reasons."""
        if not (done.failed or done.changed or done.missing or done.lost):
            return
        report = series.report
        marks = report[[reason.value for reason in (*BROKEN, *LACKING)]].any(axis="columns")
        self.record.troubled = sorted(set(report.loc[marks, "acquisition"]))
        counts = (
            (done.failed, "could not be used"), (done.changed, "changed while being read"),
            (done.missing, "lack their inputs"), (done.lost, "lost their rows"),
        )  # fmt: skip
        for count, what in counts:
            if count:
                self._fail("extract", f"{count} image{'s' * (count > 1)} {what}.")
        # The notes of the extraction give the reasons for the others.
        broken = report[report[[reason.value for reason in BROKEN]].any(axis="columns") & (report["error"] != "")]
        examples = broken.drop_duplicates("error").head(_EXAMPLES)
        for acquisition, error in zip(examples["acquisition"], examples["error"], strict=True):
            self._note(f"{acquisition}: {error}")

    def compile(self) -> None:
        """Write the requested tables that have changed."""
        if not self.task.compiled_data:
            return
        series = series_of(self.task, self._context)
        if "extract" in self._broken and not series.folder.is_dir():
            return  # no folder of the layer, because nothing was ever extracted
        self._folder = series.folder / COMPILED
        asked = self.task.compilation(self._context.today)
        try:
            part = series.compile_data(**asked)
        except SmoothingError as error:
            part = cast("Compiled", error.compiled)
            if error.too_short:
                self._note(f"Not all could be smoothed yet. {str(error).partition(';')[0]}.")
            else:
                self._fail("compile", str(error))
        except RequestError as error:
            if not self.task.smooth_data:
                raise
            # A series that cannot be smoothed keeps nothing else from being compiled.
            advice = " In a job, smooth_data says which way: original continues a series of the original program."
            self._fail("compile", str(error) + (advice if "reset_smoothing" in str(error) else ""))
            part = series.compile_data(**{**asked, "smoothing": False})
        for note in (*part.notes, *part.remarks):
            self._note(note, told=True)
        if part.removed:
            self._note(
                f"{len(part.removed)} compiled files have no rows any more and are removed here, not where sent."
            )
        self.record.compiled = {"written": [str(path) for path in part.files], "unchanged": len(part.unchanged)}
        self._files = [*part.files, *part.unchanged]
        self._say(str(part), told=True)

    def page(self) -> None:
        """Write the page of the line's series, where the job's file asks for pages."""
        if not self._context.settings.page:
            return
        series = series_of(self.task, self._context)
        if not series.folder.is_dir():
            return  # nothing was ever extracted, which the first step has said
        self._folder = series.folder / COMPILED
        path = self._folder / f"{series.layer.name}{self._page_end}.html"
        is_fresh = _is_newer(path, ExtractionFolder(series.folder).ledger)
        if not (is_fresh and series.page_is_current(path)):
            before = len(series.notes)
            series.write_page(path, sample="fit")  # a page that is too large shows a part, and says so
            for note in series.notes[before:]:
                self._note(note)
            self._say(f"Page written: {path}")
        self._files.append(path)

    @property
    def _page_end(self) -> str:
        """The end of the page's name, which stays the same from run to run: cloud cover, indices and masks."""
        task = self.task
        cover = f"_CC{task.max_clouds:g}" if task.max_clouds < 100 else ""
        indices = "-".join(index.name for index in task.indices or ()) or "All"
        masks = "-".join(mask.name for mask in task.cloudmasks)
        end = f"{cover}_{indices}_{masks}"
        return end if len(end) <= _LONGEST_END else f"{cover}_{hashlib.sha256(end.encode()).hexdigest()[:16]}"

    def deliver(self) -> None:
        """Send the compiled files and the page that the destination lacks."""
        destination = self.task.copy_server
        if destination is None:
            return
        if not self.task.compiled_data and not self._context.settings.page:
            self._note("copy_server sends compiled files, and compiled_data names none.")
            return
        if not self._folder.parts:
            self._note("Nothing was sent, because nothing could be compiled.")
            return
        context, folder = self._context, self._folder.parent
        is_new = context.registry.is_new(destination)
        late, marks = context.registry.claim(destination, folder)
        found = [path.relative_to(self._folder).as_posix() for path in with_companions(self._files)]
        # What has arrived may have been lost since, and is compared with what is there.
        again = filter(self._is_asked, marks)
        # Another job may have compiled this layer anew in the meantime.
        names = [name for name in dict.fromkeys([*found, *late, *again]) if is_file(self._folder / name)]
        if not names:
            return
        context.registry.expect(destination, folder, names)
        self.record.delivered = {"to": str(destination), "sent": [], "unchanged": 0}
        if gone := context.registry.gone(destination):
            raise DeliveryError(gone)
        host = destination.login if isinstance(destination, Remote) else same_place(destination)
        try:
            done = deliver(
                self._folder, names, destination, is_new=is_new, marks=marks,
                time_limit=context.settings.delivery_timeout,
                # What was out of reach for a line is not waited for again by each of the next.
                pauses=() if host in context.out_of_reach else context.pauses,
                on_retry=lambda sentence: self._wait(host, sentence),
            )  # fmt: skip
        except GoneError:
            raise DeliveryError(context.registry.absent(destination)) from None
        except DeliveryError as error:
            sent = list(getattr(error, "sent", ()))
            self.record.delivered["sent"] = sent
            self._note_arrival(destination, {name: marks.get(name, "") for name in sent})
            raise
        context.out_of_reach.discard(host)
        self.record.delivered |= {"sent": done.sent, "unchanged": done.unchanged}
        self._say(str(done))
        self._note_arrival(destination, {name: marks.get(name, "") for name in names}, {*late, *marks} - {*names})

    def _is_asked(self, name: str) -> bool:
        """Tell whether a file belongs to the indices, masks and compilations of this line."""
        if "/" not in name:
            return self._context.settings.page and name.rpartition(".")[0].endswith(self._page_end)
        asked, (index, mask, kind, *_) = self.record.asked, (*name.split("/"), "", "", "")
        kinds = {*asked["compiled_data"], *(["custom"] if "all" in asked["compiled_data"] else [])}
        return kind in kinds and mask in asked["masks"] and (asked["indices"] == "All" or index in asked["indices"])

    def _note_arrival(self, destination: Destination, marks: Mapping[str, str], others: Iterable[str] = ()) -> None:
        """Record the files that have arrived, and forget `others` that do not exist any more."""
        gone = [name for name in others if not is_file(self._folder / name)]
        with contextlib.suppress(OutputError, DeliveryError, StoreError):  # then they are compared once more
            self._context.registry.arrived(destination, self._folder.parent, marks, gone)

    def _wait(self, host: str, sentence: str) -> None:
        self._context.out_of_reach.add(host)
        self._say(sentence)

    def _fail(self, step: str, sentence: str) -> None:
        self.record.fail(step, sentence)
        self._say(f"{step}: {sentence}")

    def _note(self, sentence: str, *, told: bool = False) -> None:
        if sentence not in self.record.notes:
            self.record.notes.append(sentence)
            self._say(sentence, told=told)

    def _say(self, sentence: str, *, told: bool = False) -> None:
        self._context.log.say(f"line {self.task.line}: {sentence}", told=told)


def _is_newer(path: Path, other: Path) -> bool:
    """Tell whether a file was written after another one was last changed."""
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:  # one of them is not there
        return False


def nothing_there(series: TimeSeriesCompil, done: Extracted) -> str:
    """Return a sentence where the archive has no product of any date, as without its disk; else an empty text.

    An archive with products, but none in the dates of the line, is not an error.
    """
    if series.has_products:
        return ""
    return done.notes[-1] if done.notes else "The archive has no product; check the library."


def as_sentence(error: Exception) -> str:
    """Return the message of an error, and for an unexpected one its place in the code."""
    if isinstance(error, Sen2ChainError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {error} ({Path(where.filename).name}, line {where.lineno})."


def with_companions(files: Sequence[Path]) -> list[Path]:
    """Return files, each followed by its provenance (JSON) and its statistics of smoothing, where they exist."""
    found: dict[Path, None] = {}
    for path in files:
        found[path] = None
        for end in _BESIDE:
            other = path.with_name(f"{path.stem}{end}")
            if other.is_file():
                found[other] = None
    return list(found)


def in_words(asked: Mapping[str, Any]) -> str:
    """Return the result of `JobTask.request` as a phrase."""
    until = f"to {asked['date_max']}" if asked["date_max"] else "on"
    indices = asked["indices"] if isinstance(asked["indices"], str) else "/".join(asked["indices"])
    text = f"{indices} under {'/'.join(asked['masks'])}, from {asked['date_min']} {until}"
    extras = [f"{name} {_joined(asked[name])}" for name in OPTIONAL if name in asked]
    return f"{text} ({', '.join(extras)})" if extras else text


def _joined(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


# ---------------------------------------------------------------------------------------------------------- the run

_HOOK_SECONDS = 600
_OFTEN = 1.0  # seconds between two states of the record
_NEARLY, _NOT_LONG = 0.8, dt.timedelta(hours=1)  # of the time between two runs, after which one is thought to hang


class BusyError(JobError):
    """Another run of the job is going on."""


class JobRun:
    """One run of a job.

    Parameters
    ----------
    location
        The job.
    file
        The job's file as it is on disk.
    quiet
        Whether to show no progress.
    echo
        Called with each line of the log.
    pauses
        Seconds before each further try of a delivery.
    """

    def __init__(
        self,
        location: JobLocation,
        file: JobFile,
        *,
        quiet: bool = False,
        echo: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._location, self._file = location, file
        self._name, self._folder = location.name, location.logs_folder
        self._quiet, self._echo, self._pauses = quiet, echo, pauses
        self._before: dict[str, Any] | None = None

    def run(self) -> RunRecord:
        """Run every line and write the record.

        Raises
        ------
        BusyError
            If another run of the job is going on.
        JobError
            If the file cannot be used; the record has the reasons, and no layer or archive was read.
        OutputError
            If the folder of logs cannot be written.
        """
        check_folder(self._folder)
        with contextlib.ExitStack() as stack:
            try:
                # Two seconds, because `is_locked` holds the lock for a moment.
                stack.enter_context(locked(self._folder, wait=2, quiet=True))
            except StoreError as error:
                busy = BusyError(f"The job {self._name} is being run already: {error}")
                self._tell_if_hanging(busy)
                raise busy from None
            return self._run()

    def _tell_if_hanging(self, busy: BusyError) -> None:
        """Write a record and call ``on_failure`` if the run that holds the lock goes on for too long."""
        settings, _ = read_settings(self._file)
        since, now = held_since(self._folder), dt.datetime.now(dt.UTC)
        if settings is None or since is None:
            return
        missed = settings.timing.next_run(since)
        period = settings.timing.next_run(missed) - missed
        # A first run that was begun by hand in the evening may well go on until morning.
        if now < missed or now - since < max(_NEARLY * period, _NOT_LONG):
            return
        _, path = places(self._folder, self._name, now, logs=True)
        record = RunRecord(self._name, str(self._location.file), now, "failed", ended=now, path=path)
        record.errors = [
            f"{printable_line(str(busy))} It has gone on for {str(now - since).partition('.')[0]}, and may hang."
        ]
        log = RunLog(None, self._echo)
        self._keep(record, log)
        self._hook(record, log)
        prune(self._folder, self._name, settings.keep_runs)

    def _run(self) -> RunRecord:
        started = dt.datetime.now(dt.UTC)
        settings, problems = read_settings(self._file)
        log_path, record_path = places(self._folder, self._name, started, logs=settings.logs if settings else True)
        record = RunRecord(self._name, str(self._location.file), started, log=str(log_path or ""), path=record_path)
        log = RunLog(log_path, self._echo, watched=is_watched(quiet=self._quiet))
        self._before = last_outcome(self._folder)  # before the record takes the place of that one
        try:
            record.write()
            log.say(f"Job {self._name} begins, process {os.getpid()}.")
            if settings is None:
                record.errors = first(problems)
                raise JobError(f"The job file {self._location.file} cannot be used: {'; '.join(record.errors)}")  # noqa: TRY301
            if (catalogue := settings.catalogue(self._location.home)) is not None:
                record.archive = catalogue.describe()
                log.say(f"Products come from the {record.archive}.")
            self._lines(settings, record, log, started.date())
            record.end()
        except KeyboardInterrupt:
            record.status = "interrupted"
            for line in record.lines:
                line.status = "interrupted" if line.status == "running" else line.status
            raise
        except Exception as error:
            record.status = "failed"
            if not record.errors:
                record.errors = [printable_line(str(error)) or type(error).__name__]
            for sentence in record.errors:
                log.say(sentence)
            raise
        finally:
            record.ended = record.ended or dt.datetime.now(dt.UTC)
            if log.trouble:
                record.notes.append(log.trouble)
            self._keep(record, log)
            log.say(str(record))
            if record.status != "interrupted":  # by its user, or by a machine that shuts down
                self._hook(record, log)
            if settings is not None:
                prune(self._folder, self._name, settings.keep_runs)
        return record

    def _keep(self, record: RunRecord, log: RunLog) -> None:
        """Write the final record; if that fails, the failure is an error of the run."""
        try:
            record.write()
        except OutputError as error:
            if str(error) not in record.errors:
                log.say(str(error))
                record.errors.append(str(error))
            record.status = "partly" if record.status == "done" else record.status

    def _lines(self, settings: Settings, record: RunRecord, log: RunLog, today: dt.date) -> None:
        """Run the lines in batches: each is extracted, then compiled, then shown on a page, then sent."""
        written = -_OFTEN
        context = RunContext(
            settings, self._location, today, log, DeliveryRegistry(self._folder.parent), self._quiet, self._pauses
        )
        started = []
        for row in self._file.rows:
            if row.skipped:
                record.skipped.append(row.line)
                continue
            noted = LineRecord(row.line, row.shown(COLUMNS[0]))
            record.lines.append(noted)
            task, problems = read_task(row, self._location.home, today)
            for problem in problems:
                noted.fail("file", str(problem))
                log.say(str(problem))
            if task is not None:
                started.append(LineRun(task, context, noted))
        if not record.lines:
            log.say("No line is to be run; write one, or take the ! away from one.")
        size = settings.process_by_line or max(len(started), 1)
        for start in range(0, len(started), size):
            batch = started[start : start + size]
            for step in (LineRun.extract, LineRun.compile, LineRun.page, LineRun.deliver):
                for run in batch:
                    run.run(step)
                    if time.monotonic() > written + _OFTEN:
                        with contextlib.suppress(OutputError):  # the last one tells
                            record.write()  # it shows how far a run came that goes on or was killed
                        written = time.monotonic()
            for run in batch:
                run.end()

    def _hook(self, record: RunRecord, log: RunLog) -> None:
        """Call ``on_success`` or ``on_failure``; a failure of the command is noted in the record."""
        name = "on_success" if record.status == "done" else "on_failure"
        command = _command(self._file, name)
        if record.status == "nothing":
            return
        known = self._before is not None and outcome(self._before) == outcome(record.as_dict())
        # Records of earlier versions lack the key: these versions called the command themselves.
        if name == "on_failure" and known and self._before is not None and self._before.get("reported", True):
            record.reported = True
            self._keep(record, log)
            if command:
                log.say(f"{name}: not called, because the run before had the same outcome.")
            return
        if not command:
            return
        told = {"SEN2CHAIN_JOB": self._name, "SEN2CHAIN_STATUS": record.status}
        trouble = _call([*command, str(record.path)], {**os.environ, **told}, self._location.home)
        if trouble:
            record.notes.append(printable_line(f"{name}: {trouble}"))
        else:
            record.reported = name == "on_failure"
        log.say(f"{name}: {trouble or f'{command[0]} was run.'}")
        self._keep(record, log)


def _call(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Run a user's command in a folder; return a sentence if it failed, else an empty text."""
    # A file instead of a pipe: a pipe stays open as long as a process in the background holds it.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(  # noqa: S603  # the user's own command, and no shell
                command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                timeout=_HOOK_SECONDS, env=environment, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:  # whose own text repeats the arguments
            return f"{command[0]} was stopped after {_HOOK_SECONDS} s."
        except (OSError, ValueError) as error:
            return f"{command[0]} could not be run ({error})."
        if not done.returncode:
            return ""
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - 300))
        return f"{command[0]} ended with {done.returncode}. {said.read().decode('utf-8', 'replace')}".rstrip()


def _command(file: JobFile, name: str) -> tuple[str, ...]:
    """Return the command of a setting, also of a file with errors elsewhere."""
    text = file.settings.get(name, (0, DEFAULTS[name]))[1]
    with contextlib.suppress(RequestError):
        return read_command(text)
    return ()
