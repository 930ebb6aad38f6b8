"""What a run did: the record that programs read, the log that people read, and where both lie."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from sen2chain.atomic import replacing
from sen2chain.files import read_limited
from sen2chain.progress import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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
    """What became of one line of the table."""

    line: int
    """Line of the file, from 1."""
    layer: str
    """The layer, as the line names it."""
    status: Status = "running"
    """How it ended: done, partly, failed."""
    asked: dict[str, Any] = field(default_factory=dict)
    """Indices, masks, dates as resolved, and what else was asked for."""
    folder: str = ""
    """The layer's folder."""
    extracted: dict[str, int] = field(default_factory=dict)
    """Counts of images, rows and acquisitions."""
    compiled: dict[str, Any] = field(default_factory=dict)
    """Files that were written, and how many are unchanged."""
    delivered: dict[str, Any] = field(default_factory=dict)
    """Where files were sent, which, and how many were there already."""
    notes: list[str] = field(default_factory=list)
    """Sentences that are no errors."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """What went wrong, with the step in which it did, and whether it is new since the run before."""
    seconds: float = 0.0
    """How long it took."""
    troubled: list[str] = field(default_factory=list)
    """Acquisitions of which an image could not be made."""
    before: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of the run before."""

    def fail(self, step: str, sentence: str, *, lasting: bool = False) -> None:
        """Note an error.

        Parameters
        ----------
        step
            ``file``, ``extract``, ``compile`` or ``deliver``.
        sentence
            What went wrong.
        lasting
            Whether it may stay so from run to run, as with a damaged product; ``new`` then tells whether the run before
            had it too.
        """
        if len(self.errors) < _MOST_ERRORS:
            new = not lasting or not self.troubled or not self.before.issuperset(self.troubled)
            self.errors.append({"step": step, "message": sentence, "new": new})
        elif len(self.errors) == _MOST_ERRORS:
            self.errors.append({"step": step, "message": "There are more errors; the log has them all.", "new": True})
        self.status = "failed" if step == "file" else "partly"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "before"}


@dataclass(slots=True, repr=False)
class RunRecord:
    """What a run did, line by line."""

    job: str
    """Name of the job."""
    file: str
    """The job's file."""
    started: datetime
    """Start, UTC."""
    status: Status = "running"
    """``running``, ``done``, ``nothing`` (no line is to be run), ``partly``, ``failed`` or ``interrupted``."""
    ended: datetime | None = None
    """End, UTC."""
    lines: list[LineRecord] = field(default_factory=list)
    """Lines that were run."""
    skipped: list[int] = field(default_factory=list)
    """Lines of the file with a ``!``."""
    errors: list[str] = field(default_factory=list)
    """What is wrong with the run as a whole."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the run as a whole that are no errors."""
    log: str = ""
    """The log file, where one is written."""
    path: Path | None = None
    """Where this record lies."""

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

    @property
    def has_news(self) -> bool:
        """Whether anything went wrong that had not gone wrong in the run before."""
        return bool(self.errors) or any(error["new"] for line in self.lines for error in line.errors)

    def end(self) -> None:
        """Note how the run ended, by how its lines did."""
        states = {line.status for line in self.lines}
        if self.errors or (states and states <= {"failed"}):
            self.status = "failed"
        elif not states:
            self.status = "nothing"
        else:
            self.status = "done" if states <= {"done"} else "partly"
        self.ended = datetime.now(UTC)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {
            "job": self.job,
            "status": self.status,
            "exit_code": self.exit_code,
            "started": stamp(self.started),
            "ended": stamp(self.ended) if self.ended else None,
            "seconds": round((self.ended - self.started).total_seconds(), 3) if self.ended else None,
            "rows": self.rows,
            "files_written": sum(len(line.compiled.get("written", ())) for line in self.lines),
            "files_delivered": self.delivered,
            "errors": self.errors,
            "notes": self.notes,
            "lines": [line.as_dict() for line in self.lines],
            "skipped_lines": self.skipped,
            "file": self.file,
            "log": self.log or None,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "versions": {"sen2chain": importlib.metadata.version("sen2chain"), "python": platform.python_version()},
        }

    def write(self) -> None:
        """Write the record to its place, as a whole."""
        if self.path is not None:
            text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False)
            with replacing(self.path) as file:
                file.write(text.encode("utf-8", "replace") + b"\n")

    def __str__(self) -> str:
        written = sum(len(line.compiled.get("written", ())) for line in self.lines)
        parts = [f"{counted(self.rows, 'new row')}", f"{counted(written, 'file')} written", f"{self.delivered} sent"]
        return f"Job {self.job}: {IN_WORDS[self.status]}; {counted(len(self.lines), 'line')}, {', '.join(parts)}."

    __repr__ = __str__


def one_line(text: str) -> str:
    """Return a text as one line that does nothing to a terminal."""
    return printable(" ".join(text.split()))


def stamp(time: datetime) -> str:
    """Write a time as records do, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunLog:
    """The log of a run: a file for people, and what a terminal shows.

    Parameters
    ----------
    path
        The file; None writes none.
    echo
        Called with each line as well.
    watched
        Whether somebody sees on a terminal what the series say themselves.
    """

    def __init__(self, path: Path | None, echo: Callable[[str], None], *, watched: bool = False) -> None:
        self._path, self._echo, self._watched = path, echo, watched
        self.trouble = ""
        """Why the file ends too early."""

    def say(self, sentence: str, *, told: bool = False) -> None:
        """Write a line.

        Parameters
        ----------
        sentence
            What is to be said; line breaks become spaces.
        told
            Whether the series has said it on the terminal.
        """
        sentence = one_line(sentence)
        # Neither a full disk nor a closed terminal keeps the work from being done; the record tells of the log.
        if self._path is not None and not self.trouble:
            try:
                with self._path.open("ab") as file:
                    file.write(f"{stamp(datetime.now(UTC))} {sentence}\n".encode("utf-8", "replace"))
            except OSError as error:
                self.trouble = f"The log {self._path} cannot be written ({error.strerror})."
        if not (told and self._watched):
            with contextlib.suppress(Exception):
                self._echo(sentence)


def places(folder: Path, job: str, started: datetime, *, logs: bool) -> tuple[Path | None, Path]:
    """Return the places of a run's log and record, which nothing has taken yet.

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
    name = first = f"job_{job}_run_{started.astimezone(UTC):{_STAMP}}"
    again = 1
    while (folder / f"{name}.json").exists() or (folder / f"{name}.log").exists():
        again += 1
        name = f"{first}-{again}"
    return folder / f"{name}.log", folder / f"{name}.json"


def runs(folder: Path) -> list[Path]:
    """Return the records in a job's folder of logs, oldest first; their names tell when the runs began."""
    found = []
    for name in _names(folder):
        if match := _RUN.fullmatch(name):
            if name.endswith(".json"):
                found.append((_order(match), folder / name))
        elif name.endswith(f"_{_LAST}.json"):
            with contextlib.suppress(OSError, OverflowError, ValueError):  # it has vanished
                time = datetime.fromtimestamp((folder / name).lstat().st_mtime, UTC)
                found.append(((f"{time:{_STAMP}}", 0), folder / name))
    return [path for _, path in sorted(found)]


def prune(folder: Path, job: str, keep: int) -> None:
    """Remove the logs and records of all runs but the last, and the beginning of what scheduled runs printed.

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
    """Return the names of the files in a folder, without a look at each of them."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def _order(match: re.Match[str]) -> tuple[str, int]:
    return match["time"], int(match["again"] or 1)


def last_run(folder: Path) -> dict[str, Any] | None:
    """Read the record of the last run; None where there is none that can be read."""
    for path in reversed(runs(folder)):
        found = _read(path)
        if found is not None:
            return found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """Read a record; None for a file that is none, whatever it holds."""
    try:
        found = json.loads(read_limited(path, _LONGEST_RECORD))
        if found["status"] not in get_args(Status) or not isinstance(found["lines"], list):
            return None
        datetime.fromisoformat(found["started"]).astimezone()  # not every time is one of this zone
    except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None
    log = path.with_suffix(".log")
    return {**found, "log": str(log) if log.is_file() and not log.is_symlink() else None}


def last_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the last run that had some and came to its end, as they were written."""
    for path in reversed(runs(folder)):
        found = _read(path)
        if found is not None and found["lines"] and found["status"] not in {"running", "interrupted"}:
            return [line for line in found["lines"] if isinstance(line, dict)]
    return []


def troubled_before(lines: Iterable[dict[str, Any]], line: LineRecord) -> frozenset[str]:
    """Return the acquisitions of which images of a line could not be made in an earlier run.

    Parameters
    ----------
    lines
        The lines of that run.
    line
        A line of this run, which may have moved in the file.
    """
    found: set[str] = set()
    for other in lines:
        with contextlib.suppress(LookupError, TypeError):
            same = all(other["asked"][name] == line.asked[name] for name in ("indices", "masks"))
            found |= set(other["troubled"]) if same and other["layer"] == line.layer else set()
    return frozenset(found)
