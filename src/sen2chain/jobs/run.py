"""A run of a job: all its lines, one run at a time, with a record of what was done."""

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
from sen2chain.jobs.file import first
from sen2chain.jobs.line import LineRun, Setting
from sen2chain.jobs.record import LineRecord, RunLog, RunRecord, last_lines, one_line, places, prune, troubled_before
from sen2chain.jobs.task import DEFAULTS, read_command, read_settings, read_task
from sen2chain.progress import is_watched
from sen2chain.store import held_since, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sen2chain.jobs.file import JobFile
    from sen2chain.jobs.task import Settings

_HOOK_SECONDS = 600
_OFTEN = 1.0  # seconds between two states of the record
_NEARLY, _NOT_LONG = 0.8, dt.timedelta(hours=1)  # of the time between two runs, after which one is thought to hang


class BusyError(JobError):
    """Another run of the job is going on."""


class JobRun:
    """One run of a job.

    Parameters
    ----------
    name
        The job.
    path
        Its file, as messages name it.
    file
        The file's lines.
    home
        Where relative paths of layers start.
    folder
        Where logs and records lie.
    library
        The Sen2Chain library; None for that of the user's home.
    quiet
        Whether to show no progress.
    echo
        Called with each line of the log.
    pauses
        Seconds before a broken delivery is tried again.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        file: JobFile,
        *,
        home: Path,
        folder: Path,
        library: Path | None = None,
        quiet: bool = False,
        echo: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._name, self._path, self._file, self._home, self._folder = name, path, file, home, folder
        self._library, self._quiet, self._echo, self._pauses = library, quiet, echo, pauses
        self._last: list[dict[str, Any]] = []

    def run(self) -> RunRecord:
        """Run every line and write the record.

        Raises
        ------
        BusyError
            If another run of the job is going on.
        JobError
            If the file cannot be understood; the record says so too, and no layer or archive was touched.
        OutputError
            If the folder of logs cannot be written.
        """
        check_folder(self._folder)
        with contextlib.ExitStack() as stack:
            try:
                # A moment, because `is_locked` holds it for one.
                stack.enter_context(locked(self._folder, wait=2, quiet=True))
            except StoreError as error:
                busy = BusyError(f"The job {self._name} is being run already: {error}")
                self._tell_if_hanging(busy)
                raise busy from None
            return self._run()

    def _tell_if_hanging(self, busy: BusyError) -> None:
        """Write a record, and call on_failure, when the run that is going on has kept a scheduled one from its time."""
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
        record = RunRecord(self._name, str(self._path), now, "failed", ended=now, path=path)
        record.errors = [
            f"{one_line(str(busy))} It has gone on for {str(now - since).partition('.')[0]}, and may hang."
        ]
        log = RunLog(None, self._echo)
        self._keep(record, log)
        self._hook(record, log)
        prune(self._folder, self._name, settings.keep_runs)

    def _run(self) -> RunRecord:
        started = dt.datetime.now(dt.UTC)
        settings, problems = read_settings(self._file)
        log_path, record_path = places(self._folder, self._name, started, logs=settings.logs if settings else True)
        record = RunRecord(self._name, str(self._path), started, log=str(log_path or ""), path=record_path)
        log = RunLog(log_path, self._echo, watched=is_watched(quiet=self._quiet))
        self._last = last_lines(self._folder)  # before the record takes the place of that one
        try:
            record.write()
            log.say(f"Job {self._name} begins, process {os.getpid()}.")
            if settings is None:
                record.errors = first(problems)
                raise JobError(f"The job file {self._path} cannot be used: {'; '.join(record.errors)}")  # noqa: TRY301
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
                record.errors = [one_line(str(error)) or type(error).__name__]
            for sentence in record.errors:
                log.say(sentence)
            raise
        finally:
            record.ended = record.ended or dt.datetime.now(dt.UTC)
            if log.trouble:
                record.notes.append(log.trouble)
            self._keep(record, log)
            log.say(str(record))
            if record.status != "interrupted":  # the user who stops a run knows, and the machine may be going down
                self._hook(record, log)
            if settings is not None:
                prune(self._folder, self._name, settings.keep_runs)
        return record

    def _keep(self, record: RunRecord, log: RunLog) -> None:
        """Write the record for good; that it cannot be written is part of how the run ended."""
        try:
            record.write()
        except OutputError as error:
            if str(error) not in record.errors:
                log.say(str(error))
                record.errors.append(str(error))
            record.status = "partly" if record.status == "done" else record.status

    def _lines(self, settings: Settings, record: RunRecord, log: RunLog, today: dt.date) -> None:
        """Run the lines in batches: each is extracted, then compiled, then sent."""
        written = -_OFTEN
        setting = Setting(
            today=today, library=self._library, processors=settings.processors, time_limit=settings.delivery_timeout,
            pauses=self._pauses, quiet=self._quiet, safe=settings.folder_of_products(self._home),
            verify=settings.verify, log=log, owners=DeliveryRegistry(self._folder.parent),
        )  # fmt: skip
        runs = []
        for row in self._file.rows:
            if row.skipped:
                record.skipped.append(row.line)
                continue
            noted = LineRecord(row.line, row.shown("shapefile"))
            record.lines.append(noted)
            task, problems = read_task(row, self._home, today)
            for problem in problems:
                noted.fail("file", str(problem))
                log.say(str(problem))
            if task is not None:
                runs.append(LineRun(task, setting, noted))
                noted.before = troubled_before(self._last, noted)
        if not record.lines:
            log.say("No line is to be run; write one, or take the ! away from one.")
        size = settings.batch or max(len(runs), 1)
        for start in range(0, len(runs), size):
            batch = runs[start : start + size]
            for step in (LineRun.extract, LineRun.compile, LineRun.deliver):
                for run in batch:
                    run.run(step)
                    if time.monotonic() > written + _OFTEN:
                        with contextlib.suppress(OutputError):  # the last one tells
                            record.write()  # it shows how far a run came that goes on or was killed
                        written = time.monotonic()
            for run in batch:
                run.end()

    def _hook(self, record: RunRecord, log: RunLog) -> None:
        """Call the user's command for the way the run ended; its failure changes nothing."""
        name = "on_success" if record.status == "done" else "on_failure"
        command = _command(self._file, name)
        if not command or record.status == "nothing":
            return
        if record.status == "partly" and not record.has_news:
            log.say(f"{name}: not called, because nothing went wrong that had not in the run before.")
            return
        told = {"SEN2CHAIN_JOB": self._name, "SEN2CHAIN_STATUS": record.status}
        trouble = _call([*command, str(record.path)], {**os.environ, **told}, self._home)
        if not trouble:
            log.say(f"{name}: {command[0]} was run.")
            return
        log.say(f"{name}: {trouble}")
        record.notes.append(one_line(f"{name}: {trouble}"))
        self._keep(record, log)


def _call(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Call a user's command in a folder, and say what went wrong; nothing where nothing did."""
    # A file and no pipe, whose end we would wait for while something goes on in the background.
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
    """Return the command after a run, also of a file of which something else is wrong."""
    text = file.settings.get(name, (0, DEFAULTS[name]))[1]
    with contextlib.suppress(RequestError):
        return read_command(text)
    return ()
