"""`JobExtraction`: a recurring extraction, from its file to its schedule and its runs."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any, Literal

from sen2chain import settings
from sen2chain.atomic import writing
from sen2chain.errors import JobError, RequestError, ScheduleError, UnknownNameError
from sen2chain.jobs import planned
from sen2chain.jobs.cells import switch, whole_number
from sen2chain.jobs.deliver import hidden
from sen2chain.jobs.file import COLUMNS, JobFile, first, read_text, write_text
from sen2chain.jobs.line import Setting
from sen2chain.jobs.names import check_name, job_file, logs_folder
from sen2chain.jobs.outlook import Outlook, outlook
from sen2chain.jobs.record import RunLog, RunRecord, last_run, runs
from sen2chain.jobs.run import PAUSES, JobRun
from sen2chain.jobs.schedule import Timing
from sen2chain.jobs.task import DEFAULTS, MOST_PROCESSORS, read_settings
from sen2chain.jobs.template import template
from sen2chain.progress import say
from sen2chain.store import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class JobExtraction:
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
        If `library` is no library.

    Examples
    --------
    >>> jb = JobExtraction("JobName")  # doctest: +SKIP
    >>> jb.save()  # doctest: +SKIP
    >>> jb.cron_enable()  # doctest: +SKIP
    >>> jb.run()  # doctest: +SKIP
    """

    def __init__(self, name: str, library: str | Path | None = None) -> None:
        self.name = check_name(name)
        self._library = settings.absolute(library) if library is not None else None
        self._paths = settings.paths(self._library)
        self._text: str | None = None
        self._file = JobFile([])
        self._read()
        self._changed = False

    @property
    def path(self) -> Path:
        """The job's file, whether it exists or not."""
        return job_file(self._paths.config, self.name)

    @property
    def logs_folder(self) -> Path:
        """The folder of logs and records of runs."""
        return logs_folder(self._paths.logs, self.name)

    # ------------------------------------------------------------------------------------------------------ the file

    def save(self) -> Path:
        """Write the file: the template for a new job, or what was changed here.

        Raises
        ------
        JobError
            If the file was edited since it was read, and would lose what was changed here or there.
        OutputError
            If it cannot be written.
        """
        self._refresh()
        if self._file.text != self._text:
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self._file.text)
            self._text, self._changed = self._file.text, False
        say(f"Job {self.name} is described in {self.path}; edit it, then check() tells what it would do.")
        return self.path

    def _refresh(self) -> JobFile:
        """Return the lines as they are now; what was edited in the file since is read again.

        Raises
        ------
        JobError
            If lines were changed both here and in the file.
        """
        if self._on_disk() != self._text:
            if self._changed:
                raise JobError(
                    f"{self.path} was edited while this job was changed here; "
                    f"read it again with JobExtraction({self.name!r}), and change that."
                )
            self._read()
        return self._file

    def _on_disk(self) -> str | None:
        """Return the file's text; None where there is no file."""
        return read_text(self.path) if os.path.lexists(self.path) else None

    def _read(self) -> None:
        self._text = self._on_disk()
        self._file = JobFile.parse(template(self.name) if self._text is None else self._text)

    def _saved(self) -> JobFile:
        """Return the lines as they are on the disk.

        Raises
        ------
        JobError
            If there are changes that are not.
        """
        file = self._refresh()
        if self._changed or self._text is None:
            raise JobError(f"The job {self.name} has changes that are not in {self.path}; call save() first.")
        return file

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The lines of the table as text, skipped ones with their ``!``."""
        return [
            {column: ("!" if row.skipped and column == COLUMNS[0] else "") + row.text(column) for column in COLUMNS}
            for row in self._refresh().rows
        ]

    def task_add(self, task: Mapping[str, Any] | None = None) -> None:
        """Add a line to the table.

        Parameters
        ----------
        task
            Column -> value; columns that are left out are switched off. None adds the example of the template.

        Raises
        ------
        UnknownNameError
            If a column is unknown.
        RequestError
            If a value cannot stand in a line.
        """
        if task is None:
            row = JobFile.parse(template(self.name)).rows[0]
            task = {column: row.text(column) for column in COLUMNS} | {COLUMNS[0]: "!" + row.text(COLUMNS[0])}
        self._refresh().add(_texts(task))
        self._changed = True

    def task_edit(self, i: int, **values: Any) -> None:
        """Change columns of line `i` of the table, from 0; skipped lines count.

        Raises
        ------
        RequestError
            If there is no such line or column, or a value cannot stand in a line.
        """
        file = self._refresh()
        file.change(_position(i, file), _texts(values))
        self._changed = True

    def task_remove(self, i: int) -> None:
        """Remove line `i` of the table, from 0; skipped lines count.

        Raises
        ------
        RequestError
            If there is no such line.
        """
        file = self._refresh()
        file.remove(_position(i, file))
        self._changed = True

    def _get(self, name: str) -> str:
        return self._refresh().settings.get(name, (0, DEFAULTS[name]))[1]

    def _set(self, name: str, value: object) -> None:
        self._refresh().set(name, "" if value is None else str(value))
        self._changed = True

    @property
    def logs(self) -> bool:
        """Whether each run leaves a log and a record."""
        return switch(self._get("logs"))

    @logs.setter
    def logs(self, value: bool) -> None:
        self._set("logs", bool(value))

    @property
    def timing(self) -> str:
        """When the job runs, as cron has it, in the machine's local time."""
        return self._get("timing")

    @timing.setter
    def timing(self, value: str) -> None:
        self._set("timing", Timing.parse(value).text)

    @property
    def nb_proc(self) -> int:
        """Number of processors; 0 uses all."""
        return whole_number(self._get("nb_proc") or "0")

    @nb_proc.setter
    def nb_proc(self, value: int) -> None:
        self._set("nb_proc", whole_number(str(value), MOST_PROCESSORS))

    @property
    def process_by_line(self) -> int:
        """Lines of a batch; 0 is all."""
        return whole_number(self._get("process_by_line") or "0")

    @process_by_line.setter
    def process_by_line(self, value: int) -> None:
        self._set("process_by_line", whole_number(str(value)))

    @property
    def on_failure(self) -> str:
        """Command after a run that did not do all."""
        return self._get("on_failure")

    @on_failure.setter
    def on_failure(self, value: str) -> None:
        self._set("on_failure", value)

    @property
    def on_success(self) -> str:
        """Command after a run that did all."""
        return self._get("on_success")

    @on_success.setter
    def on_success(self, value: str) -> None:
        self._set("on_success", value)

    # ----------------------------------------------------------------------------------------------------------- runs

    def check(self) -> Outlook:
        """Say, line by line, what a run would do now, or what is wrong.

        Raises
        ------
        JobError
            If the file is missing, or has changes that are not saved.
        """
        log = RunLog(None, lambda sentence: None)  # noqa: ARG005
        setting = Setting(dt.datetime.now(dt.UTC).date(), self._library, 0, 0, (), quiet=True, log=log)
        found = outlook(self._saved(), self._paths.home, setting)
        now = self.schedule
        if now.status == "enabled" and not found.problems and now.timing != Timing.parse(self.timing).text:
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
            What was done, line by line; `RunRecord.status` is ``done``, ``partly`` or ``failed``.

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
        file = self._saved()
        found, problems = read_settings(file)
        problems += file.problems
        if found is None or problems:
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
        done = planned.enable(self.name, self._timing(), self.logs_folder, self._library, timers=systemd)
        say(done)
        return done

    def cron_disable(self) -> str:
        """Keep the schedule, but do not run the job.

        Raises
        ------
        ScheduleError
            If there is no schedule.
        """
        done = planned.scheduler_of(self.name).disable(self.name)
        say(done)
        return done

    def cron_remove(self) -> str:
        """Remove the schedule; the job's file and its logs stay."""
        done = planned.scheduler_of(self.name).remove(self.name)
        say(done)
        return done

    def get_cron_status(self) -> Literal["enabled", "disabled", "absent"]:
        """Return whether the job has a schedule."""
        return planned.scheduler_of(self.name).status(self.name)

    @property
    def schedule(self) -> planned.Scheduled:
        """What is known of the job's schedule; it does not raise where cron cannot be asked."""
        return planned.scheduled(self.name)

    def __repr__(self) -> str:
        file = self._refresh()
        lines = [f"JobExtraction {self.name}: {self.path}" + (" (not saved yet)" if self._text is None else "")]
        lines += [f"  {name} = {self._get(name)}" for name in DEFAULTS if name in file.settings]
        lines += [f"  schedule: {self.schedule}", *(f"  {problem}" for problem in file.problems)]
        for i, task in enumerate(self.tasks):
            lines.append(f"  {i}: {task[COLUMNS[0]]}")
            lines.append("     " + ", ".join(f"{name} {hidden(task[name])}" for name in COLUMNS[1:] if task[name]))
        return "\n".join(lines)


def _position(i: int, file: JobFile) -> int:
    if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(file.rows):
        raise RequestError(f"There is no line {i!r} in the table; it has {len(file.rows)}, from 0.")
    return i


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as they stand in a line."""
    for name in values:
        if name not in COLUMNS:
            raise UnknownNameError("column", name, COLUMNS)
    return {
        name: "" if value is None else "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in values.items()
    }
