"""`JobExtraction`: a recurring extraction, with its file, its runs and its schedule."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from typing import TYPE_CHECKING, Any, Literal

from sen2chain.errors import JobError, RequestError, ScheduleError
from sen2chain.files import is_folder
from sen2chain.jobs.delivery import PAUSES
from sen2chain.jobs.delivery_registry import DeliveryRegistry
from sen2chain.jobs.dry_run import DryRun, dry_run
from sen2chain.jobs.editable_job import EditableJob
from sen2chain.jobs.job_file import COLUMNS, DESTINATION, KNOWN, first, safe
from sen2chain.jobs.job_location import JobLocation
from sen2chain.jobs.job_run import JobRun
from sen2chain.jobs.job_settings import DEFAULTS, OF_CATALOGUE, default_settings, read_settings
from sen2chain.jobs.line_run import RunContext
from sen2chain.jobs.run_record import RunLog, RunRecord, last_run, runs
from sen2chain.jobs.schedule import JobSchedule, ScheduleState, Timing
from sen2chain.notebook import card
from sen2chain.progress import say
from sen2chain.remote import is_remote, split_query
from sen2chain.store import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class JobExtraction(EditableJob):
    """A recurring extraction, described by a text file.

    Parameters
    ----------
    name
        Name of the job: letters, digits, ``_``, ``-`` and ``.``, the first a letter or a digit.
    library
        A Sen2Chain library, see `TimeSeries`; by default that of the user's home.

    Raises
    ------
    JobError
        If the name cannot be used, or the file cannot be read as text. `check` and `run` tell what is wrong with its
        lines.
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
        self._location = JobLocation.of(name, library)
        self._schedule = JobSchedule(self._location)
        super().__init__(name, self._location.file)

    @property
    def has_archive(self) -> bool:
        """Whether any folder of an archive exists."""
        found = self._location.paths
        return any(map(is_folder, (found.l2a, found.indices, found.cloudmasks)))

    @property
    def logs_folder(self) -> Path:
        """The folder of logs and records of runs."""
        return self._location.logs_folder

    # ----------------------------------------------------------------------------------------------------------- runs

    def check(self) -> DryRun:
        """Return what a run would do now, or what is wrong, line by line.

        Raises
        ------
        JobError
            If the file is missing, or has changes that are not saved.
        """
        file = self._saved()
        settings = read_settings(file)[0] or default_settings()
        log = RunLog(None, lambda sentence: None)  # noqa: ARG005
        today, registry = dt.datetime.now(dt.UTC).date(), DeliveryRegistry(self._location.paths.logs)
        found = dry_run(file, RunContext(settings, self._location, today, log, registry, quiet=True))
        held = any("://" in cell and "@" in cell for cell in (row.text(DESTINATION) for row in file.rows))
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
            Show neither progress nor messages.
        echo
            Called with each message of the run; by default messages are shown on a terminal.
        pauses
            Seconds before each further try of a delivery.

        Returns
        -------
        RunRecord
            What was done, line by line; `RunRecord.status` is ``done``, ``nothing``, ``partly`` or ``failed``.

        Raises
        ------
        JobError
            If the file cannot be used, is not saved, or another run of the job is going on.
        OutputError
            If the log cannot be written.
        """
        return JobRun(
            self._location,
            self._saved(),
            quiet=quiet,
            echo=echo or (lambda sentence: say(sentence, quiet=quiet)),
            pauses=pauses,
        ).run()

    def runs(self) -> list[Path]:
        """Return the paths of all records, oldest first."""
        return runs(self.logs_folder)

    def last_run(self) -> dict[str, Any] | None:
        """Return the record of the last run; None before the first one."""
        return last_run(self.logs_folder)

    @property
    def is_running(self) -> bool:
        """Whether a run of the job is going on."""
        return self.logs_folder.is_dir() and is_locked(self.logs_folder)

    # ------------------------------------------------------------------------------------------------------- schedule

    def _timing(self) -> Timing:
        """Return the timing of the file.

        Raises
        ------
        ScheduleError, JobError
            If the file cannot be used, or is not saved.
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
            Use a timer of the user's systemd instead of cron.

        Returns
        -------
        str
            What was done.

        Raises
        ------
        ScheduleError
            If the timing is wrong, or the crontab cannot be changed.
        """
        done = self._schedule.enable(self._timing(), timers=systemd)
        say(done)
        return done

    def cron_disable(self) -> str:
        """Keep the schedule, but do not run the job.

        Raises
        ------
        ScheduleError
            If there is no schedule.
        """
        done = self._schedule.disable()
        say(done)
        return done

    def cron_remove(self) -> str:
        """Remove the schedule; the job's file and its logs stay."""
        done = self._schedule.remove()
        say(done)
        return done

    def get_cron_status(self) -> Literal["enabled", "disabled", "absent"]:
        """Return whether the job has a schedule."""
        return self._schedule.status()

    @property
    def schedule(self) -> ScheduleState:
        """What is known of the job's schedule; the status is ``unknown`` where cron cannot be asked."""
        return self._schedule.state()

    def _repr_html_(self) -> str:
        """Show in a notebook the settings, the lines and the schedule; nothing is run for it."""
        with contextlib.suppress(JobError):  # what was read before is shown then
            self._refresh()
        file = self._file
        facts: list[tuple[str, object]] = [("File", f"{self.path}{' (not saved yet)' if self._text is None else ''}")]
        facts += [(name, _setting(name, file.settings[name][1])) for name in DEFAULTS if name in file.settings]
        facts += [("schedule", self.schedule), *(("problem", problem) for problem in file.problems)]
        used = [name for name in KNOWN if any(row.text(name) for row in file.rows)]
        lines = [
            (f"{i}{' (skipped)' if row.skipped else ''}", *(row.shown(name) if row.text(name) else "" for name in used))
            for i, row in enumerate(file.rows)
        ]
        step = "job.save()" if self._text is None else "job.check(), job.run(), job.cron_enable()"
        return card(f"JobExtraction {self.name}", facts, step, [("line", *used), *lines] if lines else ())

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
    """Return a setting as it can be shown: a command without its arguments, an address without its query."""
    if name == "library":
        return _place(text)
    if not name.startswith("on_"):
        return safe(text)
    program, *arguments = text.split(maxsplit=1) or [""]
    return f"{safe(program)} ..." if arguments else safe(program)


def _place(text: str) -> str:
    """Return the setting ``library`` without logins and queries; ``...`` where it cannot be understood."""
    kind, place = text[: len(OF_CATALOGUE)], text[len(OF_CATALOGUE) :].strip()
    if kind.lower() != OF_CATALOGUE or not is_remote(place):
        return f"{safe(text.partition('?')[0])}?..." if "?" in text else safe(text)
    try:
        location, query = split_query(place)
    except RequestError:
        return "..."
    return f"{OF_CATALOGUE}{location}{'?...' if query else ''}"
