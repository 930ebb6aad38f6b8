"""The schedule of one job: a line in the crontab or a timer of systemd, never both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from sen2chain import settings
from sen2chain.errors import ScheduleError
from sen2chain.jobs.schedule import crontab, systemd
from sen2chain.jobs.schedule.job_command import JobCommand
from sen2chain.jobs.schedule.schedule_entry import BY_ORIGINAL, BY_SYSTEMD, ScheduleEntry
from sen2chain.jobs.schedule.timing import Timing

if TYPE_CHECKING:
    import datetime as dt

    from sen2chain.jobs.job_location import JobLocation


class Scheduler(Protocol):
    """A program that starts jobs: `crontab` or `systemd`. All functions raise `ScheduleError` if it cannot be used."""

    def enable(self, timing: Timing, command: JobCommand) -> str:
        """Start a job at its times from now on; return a sentence on what was done."""

    def disable(self, name: str) -> str:
        """Stop starting a job, but keep its entry; return a sentence on what was done."""

    def remove(self, name: str) -> str:
        """Remove a job's entry if there is one; return a sentence on what was done."""

    def entries(self) -> list[ScheduleEntry]:
        """Return the entries of all jobs, of whatever home."""


def scheduler(*, systemd_timers: bool) -> Scheduler:
    """Return systemd's user timers, or else cron."""
    return systemd if systemd_timers else crontab


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What is known of a job's schedule."""

    status: Literal["enabled", "disabled", "absent", "unknown"]
    """``unknown`` where the crontab cannot be read."""
    by: str = ""
    """Who starts the job: ``cron``, also that of the original program, or ``systemd``."""
    timing: str = ""
    """The timing as the scheduler has it; the file may have another one by now."""
    next_run: dt.datetime | None = None
    """When the job runs next, in local time."""
    remark: str = ""
    """Why the status is unknown."""

    def __str__(self) -> str:
        return f"{self.status} ({self.by or self.remark})" if self.by or self.remark else self.status


@dataclass(frozen=True, slots=True)
class AllSchedules:
    """The entries of all jobs of this user, read once."""

    entries: tuple[ScheduleEntry, ...]
    """Entries of systemd, then those of cron."""
    trouble: str = ""
    """Why the crontab cannot be read; empty where it was read."""

    @classmethod
    def read(cls) -> Self:
        """Ask systemd and cron, once each."""
        timers = systemd.entries()
        try:
            return cls((*timers, *crontab.entries()))
        except ScheduleError as error:
            return cls(tuple(timers), str(error))

    def names(self) -> set[str]:
        """Return the names of all jobs, except those that only the original program starts."""
        return {entry.name for entry in self.entries if entry.by != BY_ORIGINAL}

    def of(self, location: JobLocation) -> list[ScheduleEntry]:
        """Return the entries of a job; one that names no home is taken for the job's."""
        return [entry for entry in self._named(location) if entry.home in {None, str(location.home)}]

    def others(self, location: JobLocation) -> list[ScheduleEntry]:
        """Return the entries of jobs of the same name of another home or library."""
        return [entry for entry in self._named(location) if entry.home not in {None, str(location.home)}]

    def _named(self, location: JobLocation) -> list[ScheduleEntry]:
        return [entry for entry in self.entries if entry.name == location.name]

    def state(self, location: JobLocation) -> ScheduleState:
        """Return what is known of a job's schedule."""
        found = self.of(location)
        if not found:
            return ScheduleState("unknown", remark=self.trouble) if self.trouble else ScheduleState("absent")
        entry = found[0]
        try:
            following = Timing.parse(entry.timing).next_run() if entry.enabled else None
        except ScheduleError as error:
            return ScheduleState("unknown", remark=str(error))
        return ScheduleState("enabled" if entry.enabled else "disabled", entry.by, entry.timing, following)


class JobSchedule:
    """The schedule of a job.

    Parameters
    ----------
    location
        The job.
    """

    def __init__(self, location: JobLocation) -> None:
        self._location = location

    def _known(self) -> AllSchedules:
        """Read all schedules before one is changed.

        Raises
        ------
        ScheduleError
            If a job of the same name of another home is scheduled.
        """
        known = AllSchedules.read()
        if known.others(self._location):
            raise ScheduleError(
                f"A job {self._location.name} of another home or library is scheduled, and would be changed; disable "
                "or remove it there, or give this job another name."
            )
        return known

    def enable(self, timing: Timing, *, timers: bool) -> str:
        """Start the job at its times from now on, and remove it from the other scheduler.

        Parameters
        ----------
        timing
            When the job runs.
        timers
            Whether the user's systemd starts it instead of cron.

        Returns
        -------
        str
            What was done, and what remains to be done by hand.

        Raises
        ------
        ScheduleError
            If the scheduler cannot be used.
        """
        known, location = self._known(), self._location
        if known.trouble and not timers:
            raise ScheduleError(known.trouble)
        command = JobCommand.of(location.name, settings.home().parent, location.output, location.library, location.home)
        done = scheduler(systemd_timers=timers).enable(timing, command)
        if not timers and crontab.daemon_runs() is False:
            done = f"{done} No cron daemon is seen on this machine, though; start it, as with: service cron start."
        if any((entry.by == BY_SYSTEMD) != timers for entry in known.of(location)):
            done = f"{done} {scheduler(systemd_timers=not timers).remove(location.name)}"
        return done

    def disable(self) -> str:
        """Keep the schedule, but do not run the job.

        Raises
        ------
        ScheduleError
            If there is no schedule, or it cannot be changed.
        """
        return self._scheduler(self._known()).disable(self._location.name)

    def remove(self) -> str:
        """Remove the schedule, if there is one.

        Raises
        ------
        ScheduleError
            If it cannot be changed.
        """
        return self._scheduler(self._known()).remove(self._location.name)

    def status(self) -> Literal["enabled", "disabled", "absent"]:
        """Return whether there is a schedule.

        Raises
        ------
        ScheduleError
            If the crontab cannot be read, and systemd does not have the job.
        """
        known = AllSchedules.read()
        found = known.of(self._location)
        if not found and known.trouble:
            raise ScheduleError(known.trouble)
        return "absent" if not found else "enabled" if found[0].enabled else "disabled"

    def state(self) -> ScheduleState:
        """Return what is known of the schedule; where cron cannot be asked, the status is ``unknown``."""
        return AllSchedules.read().state(self._location)

    def _scheduler(self, known: AllSchedules) -> Scheduler:
        """Return the scheduler that has the job; cron where none has.

        Raises
        ------
        ScheduleError
            If that is cron, and the crontab cannot be read.
        """
        timers = any(entry.by == BY_SYSTEMD for entry in known.of(self._location))
        if known.trouble and not timers:
            raise ScheduleError(known.trouble)
        return scheduler(systemd_timers=timers)
