"""Jobs in the user's crontab: one line for each job; every other line stays as it is, byte for byte.

A line of a job ends with two marks: ``# sen2chain_home_<folder>`` and ``# sen2chain_job_<name>``. Lines of earlier
versions and of the original program have the second mark alone; they count where they also have the shape of a line of
cron and start the job of that name. A line that is switched off begins with ``# ``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import filelock

from sen2chain import settings
from sen2chain.atomic import writing
from sen2chain.errors import ScheduleError
from sen2chain.files import is_file
from sen2chain.jobs.job_location import is_name
from sen2chain.jobs.schedule.schedule_entry import BY_CRON, BY_ORIGINAL, ScheduleEntry
from sen2chain.store import file_lock, if_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sen2chain.jobs.schedule.job_command import JobCommand
    from sen2chain.jobs.schedule.timing import Timing

_ANSWER = 10
"""Seconds for `crontab` to answer, which takes an instant where it works."""
_PATIENCE = 60
"""Seconds for another process to release the lock on the crontab."""

_DAEMONS = {"cron", "crond", "fcron"}
_MISSING = (
    "This machine has no crontab command; install cron, use --systemd (cron_enable(systemd=True)), "
    'or run "sen2chain job run NAME" from the scheduler you have.'
)


def has_crontab() -> bool:
    """Tell whether there is a `crontab` command."""
    return shutil.which("crontab") is not None


def daemon_runs() -> bool | None:
    """Tell whether a process of cron is running; None where processes are hidden."""
    # Where other users' processes are hidden, the first one is too.
    if not is_file(Path("/proc", "1", "comm")):
        return None
    for file in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if file.read_text(encoding="utf-8", errors="replace").strip() in _DAEMONS:
                return True
    return False


def enable(timing: Timing, command: JobCommand) -> str:
    """Write the line of a job, in place of an earlier one.

    Returns
    -------
    str
        A sentence on what was done.

    Raises
    ------
    ScheduleError
        If the crontab cannot be changed; it then is as it was.
    OutputError
        If the folder of the command's output cannot be made.
    """
    line = os.fsencode(f"{timing.text} {command.as_crontab()}\n")

    def put(lines: list[bytes]) -> list[bytes]:
        found = [number for number, other in enumerate(lines) if _is_of(command.name, other)]
        if found:
            lines[found[0]] = line
            return [other for number, other in enumerate(lines) if number not in found[1:]]
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        return [*lines, line]

    with writing(command.output):
        command.output.parent.mkdir(parents=True, exist_ok=True)
    changed = _change(put)
    when = f"at {timing.text!r}, next on {timing.next_run():%Y-%m-%d at %H:%M}"
    return f"Job {command.name} is started by cron {when}." if changed else f"Cron knows job {command.name}, {when}."


def disable(name: str) -> str:
    """Turn a job's line into a comment.

    Returns
    -------
    str
        A sentence on what was done.

    Raises
    ------
    ScheduleError
        If the crontab has no such line, or cannot be changed.
    """

    def comment(lines: list[bytes]) -> list[bytes]:
        found = [_entry(line) for line in lines if _is_of(name, line)]
        if not found:
            raise ScheduleError(f"Job {name} is not in the crontab; there is nothing to disable.")
        return [
            b"# " + line if (entry := _entry(line)) and entry.name == name and entry.enabled else line for line in lines
        ]

    changed = _change(comment)
    return f"Job {name} is no longer started by cron." if changed else f"Job {name} was disabled already."


def remove(name: str) -> str:
    """Remove a job's line, enabled or not.

    Returns
    -------
    str
        A sentence on what was done, also if there was nothing to remove.

    Raises
    ------
    ScheduleError
        If the crontab cannot be changed.
    """
    if has_crontab() and _change(lambda lines: [line for line in lines if not _is_of(name, line)]):
        return f"Job {name} is no longer in the crontab."
    return f"Job {name} is not in the crontab; there is nothing to remove."


def entries() -> list[ScheduleEntry]:
    """Read the lines of all jobs, of whatever home; the enabled ones first.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    if not has_crontab():
        return []
    found = [entry for entry in map(_entry, io.BytesIO(_read())) if entry]
    return sorted(found, key=lambda entry: not entry.enabled)


_NUMBER, _WORD, _GAP = rb"[0-9*~][0-9*,/~-]*", rb"[0-9a-zA-Z*~][0-9a-zA-Z*,/~-]*", rb"[ \t]+"
# A sentence that ends with the mark has another shape: its first three words would have to begin with digits or stars.
_LINE = re.compile(
    rb"\s*(?P<off>#[#\s]*)?(?P<when>@[a-z]+|" + _GAP.join((_NUMBER, _NUMBER, _NUMBER, _WORD, _WORD)) + rb")" + _GAP
    + rb"(?P<command>.*?)(?:" + _GAP + rb"# sen2chain_home_(?P<home>\S+))?" + _GAP
    + rb"# sen2chain_job_(?P<name>\S+)\s*"
)  # fmt: skip


def _entry(line: bytes) -> ScheduleEntry | None:
    """Read a line of the crontab; None for one that is not a job's."""
    match = _LINE.fullmatch(line)
    if match is None or not is_name(name := os.fsdecode(match["name"])):
        return None
    home, by, command = None, BY_CRON, match["command"]
    if match["home"]:
        home = os.fsdecode(unquote_to_bytes(match["home"].replace(b"\\%", b"%")))
    elif re.fullmatch(rb"(?:.*[\s/'\"])?jobextraction_" + re.escape(match["name"]) + rb"\.py(?:[\s'\"].*)?", command):
        by = BY_ORIGINAL
    elif not re.search(rb" job run ['\"]*" + re.escape(match["name"]) + rb"['\"]* ", command + b" "):
        return None
    timing = " ".join(match["when"].decode("ascii").split())
    return ScheduleEntry(name, timing, match["off"] is None, home, by)


def _is_of(name: str, line: bytes) -> bool:
    entry = _entry(line)
    return entry is not None and entry.name == name


def _change(how: Callable[[list[bytes]], list[bytes]]) -> bool:
    """Change the lines of the crontab, locked against other processes; return whether anything has changed."""
    with _alone():
        before = _read()
        # Only a line feed ends a line: a carriage return, or any other byte, is part of it.
        after = b"".join(how(io.BytesIO(before).readlines()))
        if after == before:
            return False
        run = _crontab("-", table=after)
        if run.returncode:
            raise ScheduleError(f"The crontab stays as it was, because crontab refused the new one ({_said(run)}).")
        if _read() != after:
            raise ScheduleError('The crontab is not as it was written; look at it with "crontab -l" and mend it.')
        return True


def _read() -> bytes:
    """Return the user's crontab.

    Raises
    ------
    ScheduleError
        If it cannot be read; a missing crontab is an empty one.
    """
    run = _crontab("-l")
    if run.returncode == 0:
        return run.stdout
    if run.returncode == 1 and b"no crontab for" in run.stderr:
        return b""
    raise ScheduleError(f"The crontab cannot be read ({_said(run)}); ask who runs this machine, or use --systemd.")


def _said(run: subprocess.CompletedProcess[bytes]) -> str:
    words = " ".join(run.stderr.decode(errors="replace").split())
    return words or f"it ended with {run.returncode}"


def _crontab(*arguments: str, table: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("crontab")
    if program is None:
        raise ScheduleError(_MISSING)
    try:
        return subprocess.run(  # noqa: S603 - the command of the system, with fixed words
            [program, *arguments],
            input=table,
            capture_output=True,
            timeout=_ANSWER,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScheduleError(f"The command {program} cannot be used ({error}); see what it says by itself.") from error


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Lock the crontab: it is read and written as a whole, so that two processes at a time would lose a line."""
    file = settings.cache_dir() / "crontab.lock"
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file_lock(file)
        try:
            lock.acquire(timeout=_PATIENCE)
        except filelock.Timeout:
            raise ScheduleError(f"Another process holds {file}; try again when it is done{if_left(lock)}.") from None
    try:
        yield
    finally:
        lock.release()
