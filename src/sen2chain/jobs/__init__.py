"""Recurring extraction: the job's file, its runs, its schedule, and the delivery of compiled files.

A job is a text file with settings and a table; each line of the table names a layer, dates, indices and masks.
`JobExtraction` is the public class. It reads and changes the file, checks it, runs it and schedules it.

`job_file` is the text, `cell_words` and `job_settings` its meaning, `editable_job` its changes from Python; `job_run`
runs its lines, each as a `line_run`, and keeps a `run_record`; `dry_run` tells what a run would do. `schedule` and
`delivery` are packages of their own.
"""

from __future__ import annotations

from sen2chain.jobs.dry_run import DryRun
from sen2chain.jobs.job_extraction import JobExtraction
from sen2chain.jobs.job_location import list_jobs
from sen2chain.jobs.job_run import BusyError
from sen2chain.jobs.run_record import RunRecord

Outlook = DryRun
"""Former name of `DryRun`, kept for one release."""

__all__ = ["BusyError", "DryRun", "JobExtraction", "Outlook", "RunRecord", "list_jobs"]
