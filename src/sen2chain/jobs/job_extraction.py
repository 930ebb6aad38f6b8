"""`JobExtraction`: a recurring extraction, from its file to its schedule and its runs."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from typing import TYPE_CHECKING, Any, Literal

from sen2chain import settings
from sen2chain.errors import JobError, ScheduleError
from sen2chain.files import absolute, is_folder
from sen2chain.jobs.delivery import PAUSES
from sen2chain.jobs.delivery_registry import DeliveryRegistry
from sen2chain.jobs.dry_run import DryRun, dry_run
from sen2chain.jobs.edited import EditedJob
from sen2chain.jobs.file import COLUMNS, DESTINATION, KNOWN, first, safe
from sen2chain.jobs.job_names import check_name, job_file, logs_folder
from sen2chain.jobs.line import Setting
from sen2chain.jobs.record import RunLog, RunRecord, last_run, runs
from sen2chain.jobs.run import JobRun
from sen2chain.jobs.schedule import Timing
from sen2chain.jobs.schedule.job_schedule import JobSchedule, ScheduleState
from sen2chain.jobs.task import DEFAULTS, read_settings
from sen2chain.progress import say
from sen2chain.store import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class JobExtraction(EditedJob):
    """A recurring extraction that is described by a file.

    Parameters
    ----------
    name
        Name of the job: letters, digits, ``_``, ``-`` and ``.``, the first a letter or a digit.
    library
        A Sen2Chain library, see `TimeSeries`; by default that of the user's home.

    Raises
    ------
    JobError
        If the name cannot be used, or the file cannot be read as text. What is wrong with its lines is told by `check`
        and `run`.
    LibraryError
        If `library` is not a library.

    Examples
    --------
    >>> jb = JobExtraction("JobName")  # doctest: +SKIP
    >>> jb.save()  # doctest: +SKIP
    >>> jb.cron_enable()  # doctest: +SKIP
    >>> jb.run()  # doctest: +SKIP
    """

    def __init__(self, name: str, library: str | Path | None = None) -> None:
        self._library = absolute(library) if library is not None else None
        self._paths = settings.paths(self._library)
        super().__init__(check_name(name), job_file(self._paths.config, name))

    @property
    def has_archive(self) -> bool:
        """Whether there is any folder of an archive."""
        found = self._paths
        return any(map(is_folder, (found.l2a, found.indices, found.cloudmasks)))

    @property
    def _plan(self) -> JobSchedule:
        return JobSchedule(self.name, self.logs_folder, self._library)

    @property
    def logs_folder(self) -> Path:
        """The folder of logs and records of runs."""
        return logs_folder(self._paths.logs, self.name)

    # ----------------------------------------------------------------------------------------------------------- runs

    def check(self) -> DryRun:
        """Say, line by line, what a run would do now, or what is wrong.

        Raises
        ------
        JobError
            If the file is missing, or has changes that are not saved.
        """
        known, _ = read_settings(self._saved())
        setting = Setting(
            safe=known.folder_of_products(self._paths.home) if known else None,
            verify=known.verify if known else "never",
            today=dt.datetime.now(dt.UTC).date(), library=self._library, processors=0, time_limit=0, pauses=(),
            quiet=True, log=RunLog(None, lambda sentence: None), owners=DeliveryRegistry(self._paths.logs),  # noqa: ARG005
        )  # fmt: skip
        found = dry_run(self._saved(), self._paths.home, setting)
        held = any("://" in cell and "@" in cell for cell in (row.text(DESTINATION) for row in self._file.rows))
        if held and os.name == "posix" and self.path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            found.notes.append(f"{self.path} has a login in it, and others may read it; call chmod 600 on it.")
        now = self.schedule
        if now.status == "enabled" and "original" in now.by:
            found.notes.append("The original program runs this job; enable it to run it with this one instead.")
        elif now.status == "enabled" and not found.of_file and now.timing != Timing.parse(self.timing).text:
            found.notes.append(
                f"The schedule still has {now.timing!r}, the file {self.timing!r}; enable the job again."
            )
        return found

    def run(
        self,
        *,
        quiet: bool = False,
        echo: Callable[[str], None] | None = None,
        pauses: Sequence[float] = PAUSES,
    ) -> RunRecord:
        """Run the job now.

        Parameters
        ----------
        quiet
            Show no progress, and say nothing.
        echo
            Called with each sentence on the run; by default they are shown on a terminal.
        pauses
            Seconds before a broken delivery is tried again.

        Returns
        -------
        RunRecord
            What was done, line by line; `RunRecord.status` is ``done``, ``nothing``, ``partly`` or ``failed``.

        Raises
        ------
        JobError
            If the file cannot be understood, is not saved, or another run of the job is going on.
        OutputError
            If the log cannot be written.
        """
        file = self._saved()
        return JobRun(
            self.name,
            self.path,
            file,
            home=self._paths.home,
            folder=self.logs_folder,
            library=self._library,
            quiet=quiet,
            echo=echo or (lambda sentence: say(sentence, quiet=quiet)),
            pauses=pauses,
        ).run()

    def runs(self) -> list[Path]:
        """Return the records of the runs that there were, oldest first."""
        return runs(self.logs_folder)

    def last_run(self) -> dict[str, Any] | None:
        """Return the record of the last run; None where there is none."""
        return last_run(self.logs_folder)

    @property
    def is_running(self) -> bool:
        """Whether a run of the job is going on."""
        return self.logs_folder.is_dir() and is_locked(self.logs_folder)

    # ------------------------------------------------------------------------------------------------------- schedule

    def _timing(self) -> Timing:
        """Return when the job runs.

        Raises
        ------
        ScheduleError, JobError
            If the file does not say so, or cannot be run at all.
        """
        found, problems = read_settings(self._saved())
        if found is None:
            raise ScheduleError(f"The job {self.name} cannot be enabled: {'; '.join(first(problems))}")
        return found.timing

    def cron_enable(self, *, systemd: bool = False) -> str:
        """Run the job from now on at the times of its file.

        Parameters
        ----------
        systemd
            Use a timer of the user's systemd, for machines without cron.

        Returns
        -------
        str
            What was done.

        Raises
        ------
        ScheduleError
            If the timing is wrong, or this machine's cron cannot be told.
        """
        done = self._plan.enable(self._timing(), timers=systemd)
        say(done)
        return done

    def cron_disable(self) -> str:
        """Keep the schedule, but do not run the job.

        Raises
        ------
        ScheduleError
            If there is no schedule.
        """
        done = self._plan.disable()
        say(done)
        return done

    def cron_remove(self) -> str:
        """Remove the schedule; the job's file and its logs stay."""
        done = self._plan.remove()
        say(done)
        return done

    def get_cron_status(self) -> Literal["enabled", "disabled", "absent"]:
        """Return whether the job has a schedule."""
        return self._plan.status()

    @property
    def schedule(self) -> ScheduleState:
        """What is known of the job's schedule; it does not raise where cron cannot be asked."""
        return self._plan.scheduled()

    def __repr__(self) -> str:
        with contextlib.suppress(JobError):  # what was read before is shown then
            self._refresh()
        file = self._file
        lines = [f"JobExtraction {self.name}: {self.path}" + (" (not saved yet)" if self._text is None else "")]
        lines += [f"  {name} = {_setting(name, file.settings[name][1])}" for name in DEFAULTS if name in file.settings]
        lines += [f"  schedule: {self.schedule}", *(f"  {problem}" for problem in file.problems)]
        for i, row in enumerate(file.rows):
            lines.append(f"  {i} (line {row.line}): {'!' * row.skipped}{row.shown(COLUMNS[0])}")
            cells = [f"{name} {row.shown(name)}" for name in KNOWN[1:] if row.text(name)]
            lines.append(f"     {', '.join(cells)}")
        return "\n".join(lines)


def _setting(name: str, text: str) -> str:
    """Return a setting as it may be shown: of a command the program, since its arguments may be a login."""
    if not name.startswith("on_"):
        return safe(text)
    program, *arguments = text.split(maxsplit=1) or [""]
    return f"{safe(program)} ..." if arguments else safe(program)
