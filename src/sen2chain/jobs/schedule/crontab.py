"""A job's line in the user's crontab; every other line stays as it is, byte for byte.

A line is ours if it ends with our mark, has the shape of a line of cron, and starts our command or the original
program's. Switched off, it has ``# `` before it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import filelock

from sen2chain import settings
from sen2chain.atomic import writing
from sen2chain.errors import ScheduleError
from sen2chain.files import is_file
from sen2chain.jobs.job_names import is_name
from sen2chain.jobs.schedule.job_command import mark
from sen2chain.store import file_lock, if_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sen2chain.jobs.schedule.job_command import JobCommand
    from sen2chain.jobs.schedule.timing import Timing

_PATIENCE = 60
"""Seconds for `crontab` to answer, and for another process to be done with it."""

_DAEMONS = {"cron", "crond", "fcron"}
_MISSING = (
    "This machine has no crontab command; install cron, use --systemd (cron_enable(systemd=True)), "
    'or run "sen2chain job run NAME" from the scheduler you have.'
)


def has_crontab() -> bool:
    """Tell whether there is a `crontab` command."""
    return shutil.which("crontab") is not None


def daemon_runs() -> bool | None:
    """Tell whether a process of cron is running; None where that cannot be seen."""
    # Where other users' processes are hidden, the first one is too.
    if not is_file(Path("/proc", "1", "comm")):
        return None
    for file in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if file.read_text(encoding="utf-8", errors="replace").strip() in _DAEMONS:
                return True
    return False


def enable(timing: Timing, command: JobCommand) -> str:
    """Let cron start a job: one line of it in the crontab, in the place of an earlier one.

    Returns
    -------
    str
        A sentence on what was done.

    Raises
    ------
    ScheduleError
        If cron cannot be told; the crontab is as it was then.
    OutputError
        If the folder of the command's output cannot be made.
    """
    line = os.fsencode(f"{timing.text} {command.as_crontab()}\n")
    place = _Lines(command.name)

    def put(lines: list[bytes]) -> list[bytes]:
        found = [number for number, other in enumerate(lines) if place.match(other)]
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
    """Switch a job's line off; it stays in the crontab.

    Returns
    -------
    str
        A sentence on what was done.

    Raises
    ------
    ScheduleError
        If the crontab has no such line, or cannot be changed.
    """
    place = _Lines(name)

    def comment(lines: list[bytes]) -> list[bytes]:
        found = [match for match in map(place.match, lines) if match]
        if not found:
            raise ScheduleError(f"Job {name} is not in the crontab; there is nothing to disable.")
        return [b"# " + line if (match := place.match(line)) and not match["off"] else line for line in lines]

    changed = _change(comment)
    return f"Job {name} is no longer started by cron." if changed else f"Job {name} was disabled already."


def remove(name: str) -> str:
    """Take a job's line out of the crontab, enabled or not.

    Returns
    -------
    str
        A sentence on what was done, also if there was nothing to remove.

    Raises
    ------
    ScheduleError
        If the crontab cannot be changed.
    """
    place = _Lines(name)
    if has_crontab() and _change(lambda lines: [line for line in lines if not place.match(line)]):
        return f"Job {name} is no longer in the crontab."
    return f"Job {name} is not in the crontab; there is nothing to remove."


def status(name: str) -> Literal["enabled", "disabled", "absent"]:
    """Tell whether cron starts a job, or has a line of it that is switched off.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    found = _find(name)
    if not found:
        return "absent"
    return "disabled" if found[0]["off"] else "enabled"


def entry(name: str) -> str | None:
    """Return a job's timing as it stands in the crontab, enabled or not; None without a line.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    found = _find(name)
    return " ".join(found[0]["when"].decode("ascii").split()) if found else None


def names() -> list[str]:
    """Return the names of all jobs that have a line of ours, enabled or not.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    if not has_crontab():
        return []
    found = []
    for line in io.BytesIO(_read()):
        name = os.fsdecode(line.rpartition(os.fsencode(mark("")))[2].strip())
        if is_name(name) and (match := _Lines(name).match(line)) and match["original"] is None:
            found.append(name)
    return sorted(set(found))


def is_foreign(command: JobCommand) -> bool:
    """Tell whether the line of a job of this name is about another home or library.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    return any(match["original"] is None and not command.shares_home(match[0]) for match in _find(command.name))


def is_original(name: str) -> bool:
    """Tell whether the job's line is one that the original program wrote.

    Raises
    ------
    ScheduleError
        If the crontab cannot be read.
    """
    found = _find(name)
    return bool(found) and found[0]["original"] is not None


class _Lines:
    """Recognises the lines of one job.

    Prose that ends with our mark is not cron-shaped: its first three words would have to begin with digits or stars.
    """

    def __init__(self, name: str) -> None:
        job = re.escape(os.fsencode(name))
        number, word = rb"[0-9*~][0-9*,/~-]*", rb"[0-9a-zA-Z*~][0-9a-zA-Z*,/~-]*"
        gap = rb"[ \t]+"
        when = rb"@[a-z]+|" + gap.join((number, number, number, word, word))
        ours = rb".* job run ['\"]*" + job + rb"['\"]* .*"
        original = rb"(?P<original>(?:.*[\s/'\"])?jobextraction_" + job + rb"\.py(?:[\s'\"].*)?)"
        self._pattern = re.compile(
            rb"\s*(?P<off>#[#\s]*)?(?P<when>" + when + rb")" + gap + rb"(?:" + ours + rb"|" + original + rb")"
            + re.escape(os.fsencode(mark(name))) + rb"\s*",
        )  # fmt: skip

    def match(self, line: bytes) -> re.Match[bytes] | None:
        return self._pattern.fullmatch(line)


def _find(name: str) -> list[re.Match[bytes]]:
    """Return a job's lines, the enabled ones first."""
    if not has_crontab():
        return []
    place = _Lines(name)
    found = [match for match in map(place.match, io.BytesIO(_read())) if match]
    return sorted(found, key=lambda match: match["off"] is not None)


def _change(how: Callable[[list[bytes]], list[bytes]]) -> bool:
    """Change the lines of the crontab while nobody else of us does; tell whether there was anything to change."""
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
        If it cannot be read, which is not the same as that there is none.
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
            timeout=_PATIENCE,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScheduleError(f"The command {program} cannot be used ({error}); see what it says by itself.") from error


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the crontab: it is read and written as a whole, so that two at a time would lose a line."""
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
