"""The record of a job's run, which programs read afterwards (JSON), and its log, which people read."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from sen2chain.atomic import replacing
from sen2chain.files import read_limited
from sen2chain.progress import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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
