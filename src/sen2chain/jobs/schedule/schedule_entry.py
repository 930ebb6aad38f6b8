"""What is known of one job's schedule: its line in the crontab, or its timer of systemd."""

from __future__ import annotations

from dataclasses import dataclass

BY_CRON = "cron"
BY_ORIGINAL = "cron, by the original program"
BY_SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """A job in a scheduler."""

    name: str
    """Name of the job."""
    timing: str
    """Timing as the scheduler has it; empty where it cannot be read."""
    enabled: bool
    """Whether the scheduler starts the job."""
    home: str | None
    """Home or library of the job; None in what earlier versions and the original program wrote."""
    by: str
    """Who starts the job: `BY_CRON`, `BY_ORIGINAL` or `BY_SYSTEMD`."""
