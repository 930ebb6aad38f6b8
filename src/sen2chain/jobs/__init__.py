"""Recurring extraction: `JobExtraction`, and what it is made of.

`file` reads and changes the job's file as text, with the words of its `cells`, `template` writes the first one, and
`edited` is the file as an object; `task` knows what it means. `run` runs all lines, `line` one of them, `record` keeps
what was done, `outlook` says what would be. `schedule/` is when jobs run and `planned` the schedule of one; `deliver/`
is where files are sent, and `owners` whose lie there. `names` are those of jobs, and `job` puts all together.
"""

from __future__ import annotations

from sen2chain.jobs.job import JobExtraction
from sen2chain.jobs.names import list_jobs
from sen2chain.jobs.outlook import Outlook
from sen2chain.jobs.record import RunRecord
from sen2chain.jobs.run import BusyError

__all__ = ["BusyError", "JobExtraction", "Outlook", "RunRecord", "list_jobs"]
