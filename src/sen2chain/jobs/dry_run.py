"""What a run would do, or what is wrong, line by line; only the layers and the archive are looked at."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.errors import LibraryError
from sen2chain.jobs.delivery import ready
from sen2chain.jobs.delivery_registry import place_of
from sen2chain.jobs.file import first
from sen2chain.jobs.line import as_sentence, describe, in_words, nothing_there, series_of
from sen2chain.jobs.schedule import search_path
from sen2chain.jobs.task import mask_notes, read_settings, read_task
from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.jobs.file import JobFile, Row
    from sen2chain.jobs.line import Setting
    from sen2chain.jobs.task import Settings, Task


@dataclass(slots=True)
class LineDryRun:
    """What one line would do."""

    line: int
    """Line of the file, from 1."""
    layer: str
    """The layer, as the line names it."""
    skipped: bool = False
    """Whether a ``!`` stands before it."""
    asked: dict[str, Any] = field(default_factory=dict)
    """Indices, masks, dates as resolved today, and what else is asked for."""
    features: int = 0
    """Features of the layer."""
    images: int = 0
    """Images (an index under a mask of an acquisition) that are new."""
    acquisitions: int = 0
    """Acquisitions that they are of."""
    problems: list[str] = field(default_factory=list)
    """What is wrong, and where."""
    notes: list[str] = field(default_factory=list)
    """Sentences that are no errors."""


@dataclass(slots=True)
class DryRun:
    """What a job would do now."""

    of_file: list[str] = field(default_factory=list)
    """What is wrong with the file as a whole; no line is run then."""
    of_commands: list[str] = field(default_factory=list)
    """What is wrong with the commands after a run."""
    lines: list[LineDryRun] = field(default_factory=list)
    """The lines of the table."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the job as a whole that are no errors."""

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
            parts += line.problems or [f"line {line.line}: {sentence(line)}"]
            parts += [f"line {line.line}: {note}" for note in line.notes]
        return "\n".join([*parts, *self.notes]) or "The table has no line."

    __repr__ = __str__


def sentence(line: LineDryRun) -> str:
    """Say what a line would do."""
    asked = line.asked
    images, acquisitions = counted(line.images, "new image"), counted(line.acquisitions, "acquisition")
    new = f"{images} of {acquisitions}" if line.images else "no new image"
    text = f"{line.layer} ({line.features} features): {in_words(asked)}: {new}"
    if asked["compiled_data"]:
        smooth = ", smoothed" if asked["smooth_data"] else ""
        text += f"; compiled {'/'.join(asked['compiled_data'])}{smooth}"
    sent = asked["copy_server"] and asked["compiled_data"]
    return f"{text}; sent to {asked['copy_server']}." if sent else f"{text}."


def dry_run(file: JobFile, home: Path, setting: Setting) -> DryRun:
    """Read a job's file as a run would, and say what that would do.

    Parameters
    ----------
    file
        The lines.
    home
        Where relative paths of layers start.
    setting
        What all lines share.
    """
    found = DryRun()
    settings, problems = read_settings(file)
    found.of_file, found.of_commands = first(problems), list(_commands(settings, home))
    places: dict[str, Path] = {}
    for row in file.rows:
        line = LineDryRun(row.line, row.shown("shapefile"), row.skipped)
        found.lines.append(line)
        if row.skipped:
            continue
        task, problems = read_task(row, home, setting.today)
        line.problems = [str(problem) for problem in problems]
        if task is not None:
            line.asked = describe(task, setting.today)
            line.notes += mask_notes(row.text("cloudmasks"))
            try:
                _look(task, row, setting, line, places)
            except LibraryError as error:  # which is no fault of the line
                line.problems.append(f"line {row.line}: {error}")
            except Exception as error:  # noqa: BLE001  # as in a run, what nobody thought of stops no other line
                line.problems.append(str(row.problem("shapefile", as_sentence(error))))
    return found


def _commands(settings: Settings | None, home: Path) -> Iterator[str]:
    """Say which commands after a run cannot be what was meant; no alarm is rung by a wrong one."""
    for name in ("on_failure", "on_success") if settings else ():
        program, *arguments = getattr(settings, name) or ("",)
        # A path is looked up in the home, where the command will run.
        found = shutil.which(home / program) if "/" in program else shutil.which(program, path=search_path())
        if program and found is None:
            yield f"{name}: cron finds no program {program}; write its full path, and make it executable."
        if {"|", ">", ">>", "<", "&&", ";", "&"} & set(arguments):
            yield f"{name}: no shell is asked, so that | or > is only one more argument; call a script of your own."


def _look(task: Task, row: Row, setting: Setting, line: LineDryRun, places: dict[str, Path]) -> None:
    """Ask the layer and the archive; `places` are those where earlier lines send their files."""
    series = series_of(task, setting)
    line.features = len(series.layer)
    done = series.extract_data(getstat=False, force=task.force)
    line.images, line.acquisitions = done.asked, done.acquisitions
    if why := nothing_there(series, done):
        line.problems.append(f"line {row.line}: {why}")
    else:
        line.notes += done.notes
    if done.missing:
        line.notes.append(f"{done.missing} images lack their inputs.")
    if task.destination is not None:
        taken = places.setdefault(place_of(task.destination, series.folder), series.folder)
        again = "an earlier line sends another layer of this name there; give this one another destination."
        troubles = (
            ready(task.destination), setting.owners.trouble(task.destination, series.folder),
            again if taken != series.folder else None,
        )  # fmt: skip
        line.problems += [str(row.problem("copy_server", trouble)) for trouble in troubles if trouble]
        if not task.compiles:
            line.notes.append("copy_server sends compiled files, and compiled_data names none.")
