"""The command `sen2chain job`: the file, the runs and the schedule of recurring extractions."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import show
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_BUSY, EXIT_ERROR, EXIT_NOTHING, EXIT_USAGE
from sen2chain.cli.options import library as _library
from sen2chain.cli.options import together
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.jobs import JobExtraction
    from sen2chain.jobs.run_record import Status
    from sen2chain.jobs.schedule.job_schedule import ScheduleState

_RUN_EXAMPLES = """
\b
Examples:
  sen2chain job run lakes
  sen2chain job run lakes --quiet      as cron calls it

\b
Exit codes: 0 all done, also when nothing was new, 1 nothing could be done, 2 the file cannot be used, 3 no line is to
be run, 4 a part could not be done, 5 another run of the job is going on. sen2chain job logs lakes tells the rest.
"""

_debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
_of_job = together(click.argument("name", metavar="NAME"), _library, _debug)


@click.group()
def job() -> None:
    """Run extractions again and again, by cron or by hand.

    \b
    Begin one:  sen2chain job new lakes
                sen2chain job edit lakes
                sen2chain job check lakes
    Run it:     sen2chain job run lakes
    Keep it:    sen2chain job enable lakes
                sen2chain job list
    """  # noqa: D301  # the mark that keeps lines apart is a real backspace


@job.command(cls=Command)
@_of_job
def new(name: str, library: str | None, **_: Any) -> None:
    """Write the file of a new job NAME: every setting explained, and an example."""
    found = _job(name, library)
    if found.path.exists():
        fail(f"The job {name} is there already: {found.path}; sen2chain job edit {name} opens it.", EXIT_USAGE)
    click.echo(printable(str(found.save())))
    if not found.has_archive:
        click.echo(f"There is no archive at {found.path.parents[2]} yet; is that the right place?")
    click.echo(f"Edit it (sen2chain job edit {name}), then see what it would do: sen2chain job check {name}")


@job.command(cls=Command)
@_of_job
def edit(name: str, library: str | None, **_: Any) -> None:
    """Open the file of job NAME in your editor (VISUAL, EDITOR), then check it."""
    from sen2chain.jobs.job_location import JobLocation

    path = JobLocation.of(name, library).file
    if not path.exists():
        _saved(name, library)
    # Not click's own, which asks a shell in older versions.
    try:
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "") or ["vi"]
        subprocess.run([*editor, str(path)], check=False)  # noqa: S603  # the user's own editor
    except (OSError, ValueError) as error:
        fail(f"The editor cannot be started ({error}); set VISUAL, or edit {path}.")
    _check(_saved(name, library))


@job.command("show", cls=Command)
@_of_job
def show_(name: str, library: str | None, **_: Any) -> None:
    """Show the settings and the lines of job NAME, its schedule and its last run."""
    found = _saved(name, library)
    click.echo(printable(repr(found)))
    click.echo(f"  last run: {_last(found)}")
    click.echo(f"  next run: {_next(found)}")


@job.command(cls=Command)
@_of_job
def check(name: str, library: str | None, **_: Any) -> None:
    """Say, line by line, what a run of job NAME would do now, or what is wrong.

    Layers and the archive are looked at; nothing is extracted, written or sent. Exit code 2: something is wrong.
    """
    _check(_saved(name, library))


@job.command("list", cls=Command)
@_library
@_debug
def list_(library: str | None, **_: Any) -> None:
    """List all jobs: whether they are scheduled, how their last run ended, and when they run next."""
    from sen2chain.errors import JobError
    from sen2chain.jobs import JobExtraction, list_jobs
    from sen2chain.jobs.job_location import JobLocation
    from sen2chain.jobs.schedule import AllSchedules

    rows, troubles = [], []
    schedules = AllSchedules.read()  # once for all jobs: `crontab` may be slow to answer, or hang
    for name in list_jobs(library):
        state = schedules.state(JobLocation.of(name, library))
        try:
            found = JobExtraction(name, library)
        except JobError as error:
            rows.append([name, str(state), state.timing or "-", "-", "its file cannot be read", _when(state)])
            troubles.append(str(error))
            continue
        last = found.last_run()
        result = _result(found, last) if last else "-"
        began = _local(last["started"]) if last else "-"
        rows.append([name, str(state), found.timing, began, result, _when(state)])
    for name in sorted(schedules.names() - {row[0] for row in rows}):
        location = JobLocation.of(name, library)
        state = schedules.state(location)
        if schedules.of(location):  # else the job is one of another home
            rows.append([name, str(state), state.timing or "-", "-", "its file is gone", _when(state)])
            troubles.append(
                f"The job {name} has a schedule, but no file {location.file}; "
                f"sen2chain job remove {name} takes it out of the schedule, sen2chain job new {name} begins it anew."
            )
    if not rows:
        click.echo("There is no job; begin one with sen2chain job new NAME.")
        return
    header = ["job", "schedule", "timing", "last run", "result", "next run"]
    show.table("Jobs (local times)", header, rows, numeric=())
    for trouble in troubles:
        click.echo(f"! {printable(trouble)}")


@job.command(
    cls=Command,
    epilog=_RUN_EXAMPLES,
    interrupted="Files that are there are complete; the next run goes on from them.",
)
@_of_job
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def run(name: str, library: str | None, *, quiet: bool, **_: Any) -> None:
    """Run job NAME now, whether it is enabled or not."""
    from sen2chain.errors import JobError
    from sen2chain.jobs import BusyError

    found = _saved(name, library)
    show.say_if_compiling(quiet=quiet)
    try:
        with _stoppable():
            record = found.run(quiet=quiet, echo=(lambda sentence: None) if quiet else click.echo)  # noqa: ARG005
    except BusyError as error:
        fail(str(error), EXIT_BUSY)
    except JobError as error:
        fail(str(error), EXIT_USAGE)
    if quiet and record.exit_code:
        troubles = [*record.errors, *(error["message"] for line in record.lines for error in line.errors)]
        fail(f"{record} {' '.join(troubles[:3])} See {record.path}.", record.exit_code)
    sys.exit(record.exit_code)


@job.command(cls=Command)
@_of_job
@click.option("--systemd", is_flag=True, help="By a timer of your systemd, for machines without cron.")
def enable(name: str, library: str | None, *, systemd: bool, **_: Any) -> None:
    """Run job NAME from now on at the times of its file, by cron.

    Call it again after a change of the timing, and after the Python environment has moved.
    """
    found = _saved(name, library)
    show.result([found.cron_enable(systemd=systemd)])
    if all(task["shapefile"].startswith("!") for task in found.tasks):
        click.echo("No line of the job would be run, though; write one, or take the ! away from one.")
    click.echo(f"Next run: {_next(found)}")


@job.command(cls=Command)
@_of_job
def disable(name: str, library: str | None, **_: Any) -> None:
    """Keep job NAME, but do not run it until it is enabled again."""
    show.result([_job(name, library).cron_disable()])


@job.command(cls=Command)
@_of_job
def remove(name: str, library: str | None, **_: Any) -> None:
    """Remove job NAME from cron or systemd; its file, its logs and what it extracted stay."""
    found = _job(name, library)
    show.result([found.cron_remove()])
    if found.path.exists():
        click.echo(f"Its file stays: {found.path}")


@job.command(cls=Command)
@_of_job
@click.option("--all", "every", is_flag=True, help="List the records of all runs instead.")
def logs(name: str, library: str | None, *, every: bool, **_: Any) -> None:
    """Print the log of the last run of job NAME, or the paths of the records of all runs."""
    from pathlib import Path

    found = _job(name, library)
    records, last = found.runs(), found.last_run()
    if not records and not found.path.exists():
        _saved(name, library)
    if not records:
        fail(f"The job {name} has not been run yet, or its records in {found.logs_folder} are gone.", EXIT_ERROR)
    if every:
        for path in records:
            click.echo(printable(str(path)))
        return
    shown = Path(last["log"]) if last and last["log"] else records[-1]
    click.echo(printable(str(shown)))
    click.echo(printable(shown.read_text(encoding="utf-8", errors="replace")), nl=False)


def _job(name: str, library: str | Path | None) -> JobExtraction:
    from sen2chain.jobs import JobExtraction

    return JobExtraction(name, library)


def _saved(name: str, library: str | Path | None) -> JobExtraction:
    """Return a job whose file can be read; otherwise exit with a message."""
    from sen2chain.errors import JobError

    try:
        found = _job(name, library)
    except JobError as error:
        fail(str(error), EXIT_USAGE)
    if not found.path.exists():
        from sen2chain.jobs import list_jobs

        others = ", ".join(list_jobs(library)) or "none"
        fail(f"There is no job {name} ({found.path}); sen2chain job new {name} begins it. Jobs: {others}.", EXIT_USAGE)
    return found


def _check(found: JobExtraction) -> None:
    look = found.check()
    click.echo(printable(str(look)))
    if not look.is_good:
        sys.exit(EXIT_USAGE)
    if all(line.skipped for line in look.lines):
        fail("No line would be run; write one, or take the ! away from one.", EXIT_NOTHING)


def _last(found: JobExtraction) -> str:
    last = found.last_run()
    return f"{_local(last['started'])}, {_result(found, last)}" if last else "-"


def _result(found: JobExtraction, last: dict[str, Any]) -> str:
    """Return how a run ended, in words; a record that says ``running`` while nothing runs is that of a killed run."""
    from sen2chain.jobs.run_record import IN_WORDS

    status: Status = last["status"]
    if status == "running" and not found.is_running:
        return "stopped before its end"
    return IN_WORDS[status]


def _next(found: JobExtraction) -> str:
    return _when(found.schedule)


def _when(state: ScheduleState) -> str:
    return f"{state.next_run:%Y-%m-%d %H:%M}" if state.next_run else "-"


def _local(stamp: str) -> str:
    from datetime import datetime

    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn signals that stop the process into `KeyboardInterrupt`, so that the record is completed."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # Python lets no other one handle signals
        for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup wants it ignored
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
