"""A job as a timer and a service of the user's systemd.

Whether a timer is enabled is what `systemctl enable` makes of it: a link among the wishes of ``timers.target``. It is
made and removed here where systemd cannot be asked, so that the next login finds what was wanted.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sen2chain.atomic import replacing, writing
from sen2chain.errors import ScheduleError
from sen2chain.files import is_file
from sen2chain.jobs.job_names import is_name

if TYPE_CHECKING:
    from sen2chain.jobs.schedule.job_command import JobCommand
    from sen2chain.jobs.schedule.timing import Timing

_PATIENCE = 60
"""Seconds for `systemctl` to answer."""

_LONGEST = 255
"""Characters of a unit's name, as long as systemd takes it."""

_UNIT = re.compile(r"sen2chain-job-(.+)\.timer")
_TIMING = "# timing: "
_LINGER = 'it also runs while you are logged out once "loginctl enable-linger" has been called'


def enable(timing: Timing, command: JobCommand) -> str:
    """Let systemd start a job: its service and timer are written, or written anew, and the timer is started.

    A run that was missed while the machine was off, or the timer disabled, is made up for at once.

    Returns
    -------
    str
        A sentence on what was done, and on what to do by hand where systemd could not be told.

    Raises
    ------
    ScheduleError
        If the command cannot stand in a unit, or the name makes none.
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
            f"Job {command.name} has its timer in {timer.parent}, but systemd could not be told ({trouble}): "
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
    before = status(name)
    if before == "absent":
        raise ScheduleError(f"Job {name} has no timer in {_folder()}; there is nothing to disable.")
    trouble = _stop(_timer(name))
    if before == "disabled":
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
    if status(name) == "absent":
        return f"Job {name} has no timer; there is nothing to remove."
    trouble = _stop(timer)
    with writing(timer):
        # The service goes first: as long as the timer is there, this can be called again.
        timer.with_suffix(".service").unlink(missing_ok=True)
        timer.unlink()
    _systemctl("daemon-reload")
    return f"The timer of job {name} is removed{trouble}."


def status(name: str) -> Literal["enabled", "disabled", "absent"]:
    """Tell whether systemd starts a job, from the next login on at the latest."""
    timer = _timer(name)
    if not is_file(timer):
        return "absent"
    return "enabled" if _link(timer).is_symlink() else "disabled"


def entry(name: str) -> str | None:
    """Return the timing from which a job's timer was written, enabled or not; None without a timer.

    Raises
    ------
    ScheduleError
        If the timer cannot be read.
    """
    timer = _timer(name)
    if not is_file(timer):
        return None
    try:
        lines = timer.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(f"The timer {timer} cannot be read ({error}); mend or remove it.") from error
    return next((line.removeprefix(_TIMING) for line in lines if line.startswith(_TIMING)), None)


def names() -> list[str]:
    """Return the names of all jobs that have a timer, enabled or not."""
    try:
        files = [file.name for file in _folder().iterdir()]
    except OSError:
        return []
    found = [match[1] for match in map(_UNIT.fullmatch, files) if match]
    plain = [re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(n)) for n in found]
    return sorted(name for name in map(os.fsdecode, plain) if is_name(name))


def is_foreign(command: JobCommand) -> bool:
    """Tell whether the service of a job of this name is about another home or library."""
    try:
        lines = _timer(command.name).with_suffix(".service").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    own = command.as_systemd()
    if command.library is not None:
        return not any(_tail(line) == _tail(own_line) for line in lines for own_line in own if _tail(own_line))
    return own[0] not in lines or any(_tail(line) for line in lines)


def _tail(line: str) -> str:
    """Return the library in the line of the program, as it is written there."""
    return line.partition(' "--library" ')[2] if line.startswith("ExecStart=") else ""


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
    """Stop and disable a timer; return what to add to a sentence if systemd could not be told."""
    trouble = _systemctl("disable", "--now", timer.name)
    with writing(timer):
        _link(timer).unlink(missing_ok=True)
    if not trouble:
        return ""
    hand = shlex.join(["systemctl", "--user", "stop", timer.name])
    return f', but systemd could not be told ({trouble}): where it runs, call "{hand}" or log in anew'


def _systemctl(*arguments: str) -> str | None:
    """Tell the user's systemd; return why that did not work."""
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
