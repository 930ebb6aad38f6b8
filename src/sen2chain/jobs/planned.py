"""The schedule of one job, whoever starts it: cron, or the user's systemd. It has one of them at most."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sen2chain import settings
from sen2chain.errors import ScheduleError
from sen2chain.jobs.schedule import JobCommand, Scheduler, Timing, crontab, scheduler, systemd

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What is known of a job's schedule."""

    status: Literal["enabled", "disabled", "absent", "unknown"]
    """``unknown`` where cron cannot be asked."""
    by: str = ""
    """Who starts the job: ``cron``, also that of the original program, or ``systemd``."""
    timing: str = ""
    """The times as the scheduler has them, which the file may have left behind."""
    next_run: dt.datetime | None = None
    """When the job runs next, in local time."""
    remark: str = ""
    """Why nothing is known."""

    def __str__(self) -> str:
        return f"{self.status} ({self.by or self.remark})" if self.by or self.remark else self.status


def enable(name: str, timing: Timing, logs: Path, library: Path | None, *, timers: bool) -> str:
    """Start a job at its times from now on; the other scheduler forgets it.

    Parameters
    ----------
    name
        The job.
    timing
        When it runs.
    logs
        The folder of its logs.
    library
        The Sen2Chain library; None for that of the user's home.
    timers
        Whether the user's systemd starts it, and not cron.

    Returns
    -------
    str
        What was done, and what else there is to do.

    Raises
    ------
    ScheduleError
        If the scheduler cannot be told.
    """
    command = JobCommand.of(name, settings.home().parent, logs / f"job_{name}_schedule.log", library)
    done = scheduler(systemd_timers=timers).enable(timing, command)
    if not timers and crontab.daemon_runs() is False:
        done = f"{done} No cron daemon is running on this machine, though; start it, as with: service cron start."
    other = scheduler(systemd_timers=not timers)
    with contextlib.suppress(ScheduleError):  # who may not use cron has nothing there
        if other.status(name) != "absent":
            done = f"{done} {other.remove(name)}"
    return done


def scheduler_of(name: str) -> Scheduler:
    """Return the one that knows a job, cron where none does."""
    return scheduler(systemd_timers=systemd.status(name) != "absent")


def scheduled(name: str) -> Scheduled:
    """Return what is known of a job's schedule; it does not raise where cron cannot be asked."""
    try:
        found = scheduler_of(name)
        status, timing = found.status(name), found.entry(name)
        if timing is None or status == "absent":
            return Scheduled("absent")
        following = Timing.parse(timing).next_run() if status == "enabled" else None
    except ScheduleError as error:
        return Scheduled("unknown", remark=str(error))
    by = "systemd" if found is systemd else "cron, by the original program" if crontab.is_original(name) else "cron"
    return Scheduled(status, by, timing, following)
