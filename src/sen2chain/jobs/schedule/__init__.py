"""The schedules of jobs: timings, the command that is started, and the two schedulers, cron and systemd.

`crontab` and `systemd` have the same functions, those of `Scheduler`. `AllSchedules` is what both have of all jobs,
read once; `JobSchedule` changes the schedule of one job.
"""

from __future__ import annotations

from sen2chain.jobs.schedule import crontab, systemd
from sen2chain.jobs.schedule.job_command import JobCommand, search_path
from sen2chain.jobs.schedule.job_schedule import AllSchedules, JobSchedule, Scheduler, ScheduleState, scheduler
from sen2chain.jobs.schedule.timing import Timing

__all__ = [
    "AllSchedules",
    "JobCommand",
    "JobSchedule",
    "ScheduleState",
    "Scheduler",
    "Timing",
    "crontab",
    "scheduler",
    "search_path",
    "systemd",
]
