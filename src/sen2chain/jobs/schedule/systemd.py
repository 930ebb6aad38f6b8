"""Jobs as timers and services of the user's systemd.

A timer is enabled by a link in the folder ``timers.target.wants``, which `systemctl enable` makes. The link is made and
removed here too, so that the next login finds it right where systemd cannot be asked now.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from sen2chain.atomic import replacing, writing
from sen2chain.errors import ScheduleError
from sen2chain.files import is_file
from sen2chain.jobs.job_location import is_name
from sen2chain.jobs.schedule.schedule_entry import BY_SYSTEMD, ScheduleEntry

if TYPE_CHECKING:
    from sen2chain.jobs.schedule.job_command import JobCommand
    from sen2chain.jobs.schedule.timing import Timing

_PATIENCE = 60
"""Seconds for `systemctl` to answer."""

_LONGEST = 255
"""Characters of a unit's name, as long as systemd takes it."""

_UNIT = re.compile(r"sen2chain-job-(.+)\.timer")
_TIMING = "# timing: "
_HOME = "# home: "
_LINGER = 'it also runs while you are logged out once "loginctl enable-linger" has been called'


def enable(timing: Timing, command: JobCommand) -> str:
    """Write the service and the timer of a job, and start the timer.

    A run that was missed while the machine was off or the timer disabled starts at once.

    Returns
    -------
    str
        A sentence on what was done, and on what to do by hand where systemd could not be reached.

    Raises
    ------
    ScheduleError
        If the command or the name cannot be used in a unit.
    OutputError
        If the folder of units cannot be written.
    """
    timer = _timer(command.name)
    if len(timer.with_suffix(".service").name) > _LONGEST:
        raise ScheduleError(f"Job {command.name} cannot be scheduled by systemd: its name is too long; use cron.")
    title = f"Sen2Chain job {command.name}"
    service = ["[Unit]", f"Description={title}", "", "[Service]", "Type=oneshot", *command.as_systemd()]
    clock = [
        f"{_TIMING}{timing.text}",
        *([f"{_HOME}{quote(os.fsencode(command.home))}"] if command.home else []),
        "[Unit]",
        f"Description=When {title} runs",
        "",
        "[Timer]",
        *(f"OnCalendar={expression}" for expression in timing.on_calendar()),
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    with writing(timer):
        timer.parent.mkdir(parents=True, exist_ok=True)
        command.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(timer, {timer.with_suffix(".service"): _unit(service)}) as file:
        file.write(_unit(clock))
    trouble = _systemctl("daemon-reload") or _systemctl("enable", "--now", timer.name)
    link = _link(timer)
    with writing(link):
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(timer)
    if trouble:
        hand = shlex.join(["systemctl", "--user", "enable", "--now", timer.name])
        return (
            f"Job {command.name} has its timer in {timer.parent}, but systemd could not be reached ({trouble}): "
            f'call "{hand}" or log in anew; {_LINGER}.'
        )
    when = f"at {timing.text!r}, next on {timing.next_run():%Y-%m-%d at %H:%M}"
    return f"Job {command.name} is started by systemd {when}; {_LINGER}."


def disable(name: str) -> str:
    """Stop a job's timer; its files stay.

    Returns
    -------
    str
        A sentence on what was done.

    Raises
    ------
    ScheduleError
        If the job has no timer.
    OutputError
        If the folder of units cannot be written.
    """
    timer = _timer(name)
    if not is_file(timer):
        raise ScheduleError(f"Job {name} has no timer in {_folder()}; there is nothing to disable.")
    was_enabled = _link(timer).is_symlink()
    trouble = _stop(timer)
    if not was_enabled:
        return f"Job {name} was disabled already."
    return f"Job {name} is no longer started by systemd{trouble}."


def remove(name: str) -> str:
    """Stop a job's timer and delete its files.

    Returns
    -------
    str
        A sentence on what was done, also if there was nothing to remove.

    Raises
    ------
    OutputError
        If the folder of units cannot be written.
    """
    timer = _timer(name)
    if not is_file(timer):
        return f"Job {name} has no timer; there is nothing to remove."
    trouble = _stop(timer)
    with writing(timer):
        # The service goes first: as long as the timer is there, this can be called again.
        timer.with_suffix(".service").unlink(missing_ok=True)
        timer.unlink()
    _systemctl("daemon-reload")
    return f"The timer of job {name} is removed{trouble}."


def entries() -> list[ScheduleEntry]:
    """Read the timers of all jobs, of whatever home."""
    try:
        timers = sorted(_folder().iterdir())
    except OSError:
        return []
    found = []
    for timer in timers:
        if not (match := _UNIT.fullmatch(timer.name)) or not is_file(timer):
            continue
        plain = re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(match[1]))
        if not is_name(name := os.fsdecode(plain)):
            continue
        try:
            lines = timer.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        timing, home = (
            next((line.removeprefix(x) for line in lines if line.startswith(x)), "") for x in (_TIMING, _HOME)
        )
        where = os.fsdecode(unquote_to_bytes(home)) if home else None
        found.append(ScheduleEntry(name, timing, _link(timer).is_symlink(), where, BY_SYSTEMD))
    return found


def _folder() -> Path:
    chosen = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one does not count, by the rules for this variable.
    config = Path(chosen) if chosen.startswith("/") else Path.home() / ".config"
    return config / "systemd" / "user"


def _timer(name: str) -> Path:
    """Return the file of a job's timer; letters outside ASCII are escaped as systemd-escape does."""
    escaped = re.sub(
        r"[^\w.-]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), name, flags=re.ASCII
    )
    return _folder() / f"sen2chain-job-{escaped}.timer"


def _link(timer: Path) -> Path:
    return timer.parent / "timers.target.wants" / timer.name


def _unit(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _stop(timer: Path) -> str:
    """Stop and disable a timer; return what to add to a sentence if systemd could not be reached."""
    trouble = _systemctl("disable", "--now", timer.name)
    with writing(timer):
        _link(timer).unlink(missing_ok=True)
    if not trouble:
        return ""
    hand = shlex.join(["systemctl", "--user", "stop", timer.name])
    return f', but systemd could not be reached ({trouble}): where it runs, call "{hand}" or log in anew'


def _systemctl(*arguments: str) -> str | None:
    """Call `systemctl --user`; return why that failed, or None."""
    program = shutil.which("systemctl")
    if program is None:
        return "there is no systemctl"
    try:
        run = subprocess.run(  # noqa: S603 - the command of the system, with fixed words and a valid name
            [program, "--user", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if run.returncode == 0:
        return None
    return " ".join(run.stderr.decode(errors="replace").split()) or f"it ended with {run.returncode}"
