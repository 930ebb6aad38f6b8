"""A run of a job: all lines of its table, one run of a job at a time, with a log and a record of what was done.

A line that fails stops no other line.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import check_folder
from sen2chain.errors import JobError, OutputError, RequestError, StoreError
from sen2chain.jobs.delivery import PAUSES
from sen2chain.jobs.delivery_registry import DeliveryRegistry
from sen2chain.jobs.job_file import COLUMNS, JobFile, first
from sen2chain.jobs.job_settings import DEFAULTS, read_command, read_settings, read_task
from sen2chain.jobs.line_run import LineRun, RunContext
from sen2chain.jobs.run_record import (
    LineRecord,
    RunLog,
    RunRecord,
    last_outcome,
    outcome,
    places,
    printable_line,
    prune,
)
from sen2chain.progress import is_watched
from sen2chain.store import held_since, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sen2chain.jobs.job_location import JobLocation
    from sen2chain.jobs.job_settings import Settings

_HOOK_SECONDS = 600
_OFTEN = 1.0  # seconds between two states of the record
_NEARLY, _NOT_LONG = 0.8, dt.timedelta(hours=1)  # of the time between two runs, after which one is thought to hang


class BusyError(JobError):
    """Another run of the job is going on."""


class JobRun:
    """One run of a job.

    Parameters
    ----------
    location
        The job.
    file
        The job's file as it is on disk.
    quiet
        Whether to show no progress.
    echo
        Called with each line of the log.
    pauses
        Seconds before each further try of a delivery.
    """

    def __init__(
        self,
        location: JobLocation,
        file: JobFile,
        *,
        quiet: bool = False,
        echo: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._location, self._file = location, file
        self._name, self._folder = location.name, location.logs_folder
        self._quiet, self._echo, self._pauses = quiet, echo, pauses
        self._before: dict[str, Any] | None = None

    def run(self) -> RunRecord:
        """Run every line and write the record.

        Raises
        ------
        BusyError
            If another run of the job is going on.
        JobError
            If the file cannot be used; the record has the reasons, and no layer or archive was read.
        OutputError
            If the folder of logs cannot be written.
        """
        check_folder(self._folder)
        with contextlib.ExitStack() as stack:
            try:
                # Two seconds, because `is_locked` holds the lock for a moment.
                stack.enter_context(locked(self._folder, wait=2, quiet=True))
            except StoreError as error:
                busy = BusyError(f"The job {self._name} is being run already: {error}")
                self._tell_if_hanging(busy)
                raise busy from None
            return self._run()

    def _tell_if_hanging(self, busy: BusyError) -> None:
        """Write a record and call ``on_failure`` if the run that holds the lock goes on for too long."""
        settings, _ = read_settings(self._file)
        since, now = held_since(self._folder), dt.datetime.now(dt.UTC)
        if settings is None or since is None:
            return
        missed = settings.timing.next_run(since)
        period = settings.timing.next_run(missed) - missed
        # A first run that was begun by hand in the evening may well go on until morning.
        if now < missed or now - since < max(_NEARLY * period, _NOT_LONG):
            return
        _, path = places(self._folder, self._name, now, logs=True)
        record = RunRecord(self._name, str(self._location.file), now, "failed", ended=now, path=path)
        record.errors = [
            f"{printable_line(str(busy))} It has gone on for {str(now - since).partition('.')[0]}, and may hang."
        ]
        log = RunLog(None, self._echo)
        self._keep(record, log)
        self._hook(record, log)
        prune(self._folder, self._name, settings.keep_runs)

    def _run(self) -> RunRecord:
        started = dt.datetime.now(dt.UTC)
        settings, problems = read_settings(self._file)
        log_path, record_path = places(self._folder, self._name, started, logs=settings.logs if settings else True)
        record = RunRecord(self._name, str(self._location.file), started, log=str(log_path or ""), path=record_path)
        log = RunLog(log_path, self._echo, watched=is_watched(quiet=self._quiet))
        self._before = last_outcome(self._folder)  # before the record takes the place of that one
        try:
            record.write()
            log.say(f"Job {self._name} begins, process {os.getpid()}.")
            if settings is None:
                record.errors = first(problems)
                raise JobError(f"The job file {self._location.file} cannot be used: {'; '.join(record.errors)}")  # noqa: TRY301
            if (catalogue := settings.catalogue(self._location.home)) is not None:
                record.archive = catalogue.describe()
                log.say(f"Products come from the {record.archive}.")
            self._lines(settings, record, log, started.date())
            record.end()
        except KeyboardInterrupt:
            record.status = "interrupted"
            for line in record.lines:
                line.status = "interrupted" if line.status == "running" else line.status
            raise
        except Exception as error:
            record.status = "failed"
            if not record.errors:
                record.errors = [printable_line(str(error)) or type(error).__name__]
            for sentence in record.errors:
                log.say(sentence)
            raise
        finally:
            record.ended = record.ended or dt.datetime.now(dt.UTC)
            if log.trouble:
                record.notes.append(log.trouble)
            self._keep(record, log)
            log.say(str(record))
            if record.status != "interrupted":  # by its user, or by a machine that shuts down
                self._hook(record, log)
            if settings is not None:
                prune(self._folder, self._name, settings.keep_runs)
        return record

    def _keep(self, record: RunRecord, log: RunLog) -> None:
        """Write the final record; if that fails, the failure is an error of the run."""
        try:
            record.write()
        except OutputError as error:
            if str(error) not in record.errors:
                log.say(str(error))
                record.errors.append(str(error))
            record.status = "partly" if record.status == "done" else record.status

    def _lines(self, settings: Settings, record: RunRecord, log: RunLog, today: dt.date) -> None:
        """Run the lines in batches: each is extracted, then compiled, then shown on a page, then sent."""
        written = -_OFTEN
        context = RunContext(
            settings, self._location, today, log, DeliveryRegistry(self._folder.parent), self._quiet, self._pauses
        )
        started = []
        for row in self._file.rows:
            if row.skipped:
                record.skipped.append(row.line)
                continue
            noted = LineRecord(row.line, row.shown(COLUMNS[0]))
            record.lines.append(noted)
            task, problems = read_task(row, self._location.home, today)
            for problem in problems:
                noted.fail("file", str(problem))
                log.say(str(problem))
            if task is not None:
                started.append(LineRun(task, context, noted))
        if not record.lines:
            log.say("No line is to be run; write one, or take the ! away from one.")
        size = settings.process_by_line or max(len(started), 1)
        for start in range(0, len(started), size):
            batch = started[start : start + size]
            for step in (LineRun.extract, LineRun.compile, LineRun.page, LineRun.deliver):
                for run in batch:
                    run.run(step)
                    if time.monotonic() > written + _OFTEN:
                        with contextlib.suppress(OutputError):  # the last one tells
                            record.write()  # it shows how far a run came that goes on or was killed
                        written = time.monotonic()
            for run in batch:
                run.end()

    def _hook(self, record: RunRecord, log: RunLog) -> None:
        """Call ``on_success`` or ``on_failure``; a failure of the command is noted in the record."""
        name = "on_success" if record.status == "done" else "on_failure"
        command = _command(self._file, name)
        if record.status == "nothing":
            return
        known = self._before is not None and outcome(self._before) == outcome(record.as_dict())
        # Records of earlier versions lack the key: these versions called the command themselves.
        if name == "on_failure" and known and self._before is not None and self._before.get("reported", True):
            record.reported = True
            self._keep(record, log)
            if command:
                log.say(f"{name}: not called, because the run before had the same outcome.")
            return
        if not command:
            return
        told = {"SEN2CHAIN_JOB": self._name, "SEN2CHAIN_STATUS": record.status}
        trouble = _call([*command, str(record.path)], {**os.environ, **told}, self._location.home)
        if trouble:
            record.notes.append(printable_line(f"{name}: {trouble}"))
        else:
            record.reported = name == "on_failure"
        log.say(f"{name}: {trouble or f'{command[0]} was run.'}")
        self._keep(record, log)


def _call(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Run a user's command in a folder; return a sentence if it failed, else an empty text."""
    # A file instead of a pipe: a pipe stays open as long as a process in the background holds it.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(  # noqa: S603  # the user's own command, and no shell
                command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                timeout=_HOOK_SECONDS, env=environment, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:  # whose own text repeats the arguments
            return f"{command[0]} was stopped after {_HOOK_SECONDS} s."
        except (OSError, ValueError) as error:
            return f"{command[0]} could not be run ({error})."
        if not done.returncode:
            return ""
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - 300))
        return f"{command[0]} ended with {done.returncode}. {said.read().decode('utf-8', 'replace')}".rstrip()


def _command(file: JobFile, name: str) -> tuple[str, ...]:
    """Return the command of a setting, also of a file with errors elsewhere."""
    text = file.settings.get(name, (0, DEFAULTS[name]))[1]
    with contextlib.suppress(RequestError):
        return read_command(text)
    return ()
