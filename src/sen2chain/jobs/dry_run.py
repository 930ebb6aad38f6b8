"""The dry run of a job: what a run would do now, or what is wrong, line by line.

Layers and the archive are read; nothing is extracted, written or sent.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.errors import LibraryError, RequestError, Sen2ChainError
from sen2chain.jobs.delivery import ready
from sen2chain.jobs.delivery_registry import place_of
from sen2chain.jobs.job_file import COLUMNS, DESTINATION, Problem, first
from sen2chain.jobs.job_settings import SOURCES, mask_notes, read_settings, read_task
from sen2chain.jobs.line_run import as_sentence, in_words, nothing_there, series_of
from sen2chain.jobs.schedule import search_path
from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.jobs.job_file import JobFile, Row
    from sen2chain.jobs.job_settings import JobTask, Settings
    from sen2chain.jobs.line_run import RunContext


@dataclass(slots=True)
class LineDryRun:
    """What a run would do with one line of the table."""

    line: int
    """Line of the file, from 1."""
    layer: str
    """The layer, as written in the line."""
    skipped: bool = False
    """Whether a ``!`` stands before the line."""
    asked: dict[str, Any] = field(default_factory=dict)
    """Indices, masks, dates as resolved today, and the other columns."""
    features: int = 0
    """Number of features in the layer."""
    images: int = 0
    """Number of new images; an image is one index under one mask of one acquisition."""
    acquisitions: int = 0
    """Number of acquisitions with new images."""
    problems: list[str] = field(default_factory=list)
    """What is wrong, with its place in the file."""
    notes: list[str] = field(default_factory=list)
    """Remarks that are not errors."""
    looked: bool = True
    """Whether the layer and the archive were looked at; not where the file does not say which archive."""


@dataclass(slots=True)
class DryRun:
    """What a run of a job would do now."""

    of_file: list[str] = field(default_factory=list)
    """What is wrong with the file as a whole; no line is run then."""
    of_commands: list[str] = field(default_factory=list)
    """What is wrong with the commands after a run."""
    lines: list[LineDryRun] = field(default_factory=list)
    """The lines of the table."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the job as a whole that are not errors."""

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, with the file as a whole and with its lines."""
        return [*self.of_file, *self.of_commands, *(problem for line in self.lines for problem in line.problems)]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        parts = [*self.of_file, *self.of_commands]
        for line in self.lines:
            if line.skipped:
                parts.append(f"line {line.line}: skipped ({line.layer})")
                continue
            unseen = f"{line.layer} was not looked at, since it is not known where products come from."
            parts += line.problems or [f"line {line.line}: {sentence(line) if line.looked else unseen}"]
            parts += [f"line {line.line}: {note}" for note in line.notes]
        return "\n".join([*parts, *self.notes]) or "The table has no line."

    __repr__ = __str__


def sentence(line: LineDryRun) -> str:
    """Return a sentence on what a run would do with a line."""
    asked = line.asked
    images, acquisitions = counted(line.images, "new image"), counted(line.acquisitions, "acquisition")
    new = f"{images} of {acquisitions}" if line.images else "no new image"
    text = f"{line.layer} ({line.features} features): {in_words(asked)}: {new}"
    if asked["compiled_data"]:
        smooth = ", smoothed" if asked["smooth_data"] else ""
        text += f"; compiled {'/'.join(asked['compiled_data'])}{smooth}"
    sent = asked["copy_server"] and asked["compiled_data"]
    return f"{text}; sent to {asked['copy_server']}." if sent else f"{text}."


def dry_run(file: JobFile, context: RunContext) -> DryRun:
    """Read a job's file as a run would, and tell what that run would do.

    Parameters
    ----------
    file
        The job's file.
    context
        What all lines share; the default settings where those of the file cannot be used.
    """
    found = DryRun()
    home = context.location.home
    settings, problems = read_settings(file)
    found.of_file, found.of_commands = first(problems), list(_commands(settings, home))
    if settings is not None:
        try:
            if (catalogue := settings.catalogue(home)) is not None:
                found.notes.append(f"Products come from the {catalogue.describe()}.")
        except Sen2ChainError as error:
            found.of_file.append(f"library: {error}")
    is_known = settings is not None and not found.of_file
    is_known |= settings is None and not any(isinstance(p, Problem) and p.column in SOURCES for p in problems)
    places: dict[str, Path] = {}
    for row in file.rows:
        line = LineDryRun(row.line, row.shown(COLUMNS[0]), row.skipped)
        found.lines.append(line)
        if row.skipped:
            continue
        task, problems = read_task(row, home, context.today)
        line.problems = [str(problem) for problem in problems]
        if task is not None:
            line.asked = task.request(context.today)
            line.notes += mask_notes(row.text("cloudmasks"))
            line.looked = is_known
            if not is_known:  # the archive of sen2chain_data would be looked at, which was not meant
                continue
            try:
                _look(task, row, context, line, places)
            except LibraryError as error:  # the line itself may be right
                line.problems.append(f"line {row.line}: {error}")
            except RequestError as error:
                column = "cloudmasks" if error.parameter == "masks" else COLUMNS[0]
                line.problems.append(str(row.problem(column, str(error))))
            except Exception as error:  # noqa: BLE001  # as in a run, an unexpected error stops no other line
                line.problems.append(str(row.problem(COLUMNS[0], as_sentence(error))))
    return found


def _commands(settings: Settings | None, home: Path) -> Iterator[str]:
    """Yield a sentence for each command after a run that cron could not start, or that needs a shell."""
    for name in ("on_failure", "on_success") if settings else ():
        program, *arguments = getattr(settings, name) or ("",)
        # A path is looked up in the home, where the command will run.
        found = shutil.which(home / program) if "/" in program else shutil.which(program, path=search_path())
        if program and found is None:
            yield f"{name}: cron finds no program {program}; write its full path, and make it executable."
        if {"|", ">", ">>", "<", "&&", ";", "&"} & set(arguments):
            yield f"{name}: no shell is asked, so that | or > is only one more argument; call a script of your own."


def _look(task: JobTask, row: Row, context: RunContext, line: LineDryRun, places: dict[str, Path]) -> None:
    """Read the layer and the archive; `places` maps the destinations of earlier lines to their layers' folders."""
    series = series_of(task, context)
    line.features = len(series.layer)
    done = series.extract_data(getstat=False, force=task.force_extraction)
    line.images, line.acquisitions = done.asked, done.acquisitions
    if why := nothing_there(series, done):
        line.problems.append(f"line {row.line}: {why}")
    else:
        line.notes += done.notes
    if done.missing:
        line.notes.append(f"{done.missing} images lack their inputs.")
    if task.copy_server is not None:
        taken = places.setdefault(place_of(task.copy_server, series.folder), series.folder)
        again = "an earlier line sends another layer of this name there; give this one another destination."
        troubles = (
            ready(task.copy_server), context.registry.trouble(task.copy_server, series.folder),
            again if taken != series.folder else None,
        )  # fmt: skip
        line.problems += [str(row.problem(DESTINATION, trouble)) for trouble in troubles if trouble]
        if not task.compiled_data:
            line.notes.append("copy_server sends compiled files, and compiled_data names none.")
