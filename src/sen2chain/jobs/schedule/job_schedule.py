"""The schedule of one job: an entry of cron or of the user's systemd, one of them at most."""

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
class ScheduleState:
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


class JobSchedule:
    """The schedule of a job.

    Parameters
    ----------
    name
        The job.
    logs
        The folder of its logs.
    library
        The Sen2Chain library; None for that of the user's home.
    """

    def __init__(self, name: str, logs: Path, library: Path | None) -> None:
        self._name, self._logs, self._library = name, logs, library

    @property
    def _command(self) -> JobCommand:
        output = self._logs / f"job_{self._name}_schedule.log"
        return JobCommand.of(self._name, settings.home().parent, output, self._library)

    def _of_others(self) -> list[Scheduler]:
        """Return the schedulers that have a job of this name of another home; none that cannot be asked."""
        found: list[Scheduler] = []
        for one in (crontab, systemd):
            with contextlib.suppress(ScheduleError):
                if one.is_foreign(self._command):
                    found.append(one)
        return found

    def _check(self) -> None:
        """Make sure that nobody else's schedule is changed.

        Raises
        ------
        ScheduleError
            If a job of this name has one.
        """
        if self._of_others():
            raise ScheduleError(
                f"A job {self._name} of another home or library is scheduled, and would be changed; disable or remove "
                "it there, or give this job another name."
            )

    def enable(self, timing: Timing, *, timers: bool) -> str:
        """Start the job at its times from now on; the other scheduler forgets it.

        Parameters
        ----------
        timing
            When it runs.
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
        self._check()
        done = scheduler(systemd_timers=timers).enable(timing, self._command)
        if not timers and crontab.daemon_runs() is False:
            done = f"{done} No cron daemon is seen on this machine, though; start it, as with: service cron start."
        other = scheduler(systemd_timers=not timers)
        with contextlib.suppress(ScheduleError):  # who may not use cron has nothing there
            if other.status(self._name) != "absent":
                done = f"{done} {other.remove(self._name)}"
        return done

    def disable(self) -> str:
        """Keep the schedule, but do not run the job.

        Raises
        ------
        ScheduleError
            If there is none, or it cannot be changed.
        """
        self._check()
        return self._scheduler().disable(self._name)

    def remove(self) -> str:
        """Remove the schedule, if there is one.

        Raises
        ------
        ScheduleError
            If it cannot be changed.
        """
        self._check()
        return self._scheduler().remove(self._name)

    def status(self) -> Literal["enabled", "disabled", "absent"]:
        """Return whether there is a schedule.

        Raises
        ------
        ScheduleError
            If cron cannot be asked.
        """
        found = self._scheduler()
        return "absent" if found in self._of_others() else found.status(self._name)

    def scheduled(self) -> ScheduleState:
        """Return all that is known; it does not raise where cron cannot be asked."""
        try:
            found = self._scheduler()
            status, timing = self.status(), found.entry(self._name)
            if timing is None or status == "absent":
                return ScheduleState("absent")
            following = Timing.parse(timing).next_run() if status == "enabled" else None
            old = found is crontab and crontab.is_original(self._name)
        except ScheduleError as error:
            return ScheduleState("unknown", remark=str(error))
        by = "systemd" if found is systemd else "cron, by the original program" if old else "cron"
        return ScheduleState(status, by, timing, following)

    def _scheduler(self) -> Scheduler:
        """Return the one that knows the job, cron where none does."""
        return scheduler(systemd_timers=systemd.status(self._name) != "absent")


def scheduled_names() -> list[str]:
    """Return the names of all jobs that cron or systemd knows, of whatever home; none of one that cannot be asked."""
    found: set[str] = set()
    for one in (crontab, systemd):
        with contextlib.suppress(ScheduleError):
            found.update(one.names())
    return sorted(found)
