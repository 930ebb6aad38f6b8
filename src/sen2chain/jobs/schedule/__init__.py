"""When a recurring job runs: the timing, the command, and who starts it, cron or systemd.

`crontab` and `systemd` offer the same functions, those of `Scheduler`; `scheduler` returns one of them.
"""

from __future__ import annotations

from typing import Literal, Protocol

from sen2chain.jobs.schedule import crontab, systemd
from sen2chain.jobs.schedule.job_command import JobCommand, search_path
from sen2chain.jobs.schedule.timing import Timing

__all__ = ["JobCommand", "Scheduler", "Timing", "crontab", "scheduler", "search_path", "systemd"]


class Scheduler(Protocol):
    """What starts jobs. All raise `ScheduleError` if it cannot be asked or told."""

    def enable(self, timing: Timing, command: JobCommand) -> str:
        """Start a job at its times from now on; return a sentence on what was done."""

    def disable(self, name: str) -> str:
        """Start a job no more, but keep its entry; return a sentence on what was done."""

    def remove(self, name: str) -> str:
        """Remove a job's entry if there is one; return a sentence on what was done."""

    def status(self, name: str) -> Literal["enabled", "disabled", "absent"]:
        """Tell whether a job has an entry, and whether it counts."""

    def names(self) -> list[str]:
        """Return the names of all jobs that have an entry, of whatever home."""

    def is_foreign(self, command: JobCommand) -> bool:
        """Tell whether the entry of a job of this name is about another home or library."""

    def entry(self, name: str) -> str | None:
        """Return the timing of a job's entry, or None without one."""


def scheduler(*, systemd_timers: bool) -> Scheduler:
    """Return systemd's user timers, or else cron."""
    return systemd if systemd_timers else crontab
