"""What a run would do, or what is wrong, line by line; only the layers and the archive are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.errors import Sen2ChainError
from sen2chain.jobs.deliver import ready
from sen2chain.jobs.file import first
from sen2chain.jobs.line import describe, in_words, series_of
from sen2chain.jobs.task import check_dates, read_settings, read_task

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.jobs.file import JobFile, Row
    from sen2chain.jobs.line import Setting
    from sen2chain.jobs.task import Task


@dataclass(slots=True)
class LineOutlook:
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
class Outlook:
    """What a job would do now."""

    problems: list[str] = field(default_factory=list)
    """What is wrong with the file as a whole; no line is run then."""
    lines: list[LineOutlook] = field(default_factory=list)
    """The lines of the table."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the job as a whole that are no errors."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not any(line.problems for line in self.lines)

    def __str__(self) -> str:
        parts = list(self.problems)
        for line in self.lines:
            if line.skipped:
                parts.append(f"line {line.line}: skipped ({line.layer})")
                continue
            parts += line.problems or [f"line {line.line}: {sentence(line)}"]
            parts += [f"line {line.line}: {note}" for note in line.notes]
        return "\n".join([*parts, *self.notes]) or "The table has no line."

    __repr__ = __str__


def sentence(line: LineOutlook) -> str:
    """Say what a line would do."""
    asked = line.asked
    new = f"{line.images} new images of {line.acquisitions} acquisitions" if line.images else "no new image"
    text = f"{line.layer} ({line.features} features): {in_words(asked)}: {new}"
    if asked["compiled_data"]:
        smooth = ", smoothed" if asked["smooth_data"] else ""
        text += f"; compiled {'/'.join(asked['compiled_data'])}{smooth}"
    return f"{text}; sent to {asked['copy_server']}." if asked["copy_server"] else f"{text}."


def outlook(file: JobFile, home: Path, setting: Setting) -> Outlook:
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
    found = Outlook()
    _, problems = read_settings(file)
    found.problems = first((*problems, *file.problems))
    for row in file.rows:
        line = LineOutlook(row.line, row.text("shapefile"), row.skipped)
        found.lines.append(line)
        if row.skipped:
            continue
        task, problems = read_task(row, home)
        if task is not None:
            problems = check_dates(task, row, setting.today)
        line.problems = [str(problem) for problem in problems]
        if task is not None and not problems:
            line.asked = describe(task, setting.today)
            try:
                _look(task, row, setting, line)
            except Sen2ChainError as error:
                line.problems.append(str(row.problem("shapefile", str(error))))
    return found


def _look(task: Task, row: Row, setting: Setting, line: LineOutlook) -> None:
    """Ask the layer and the archive."""
    series = series_of(task, setting)
    line.features = len(series.layer)
    done = series.extract_data(getstat=False, force=task.force)
    line.images, line.acquisitions = done.asked, done.acquisitions
    line.notes += done.notes
    if done.missing:
        line.notes.append(f"{done.missing} images lack their inputs.")
    if task.destination is not None:
        why = ready(task.destination)
        if why:
            line.problems.append(str(row.problem("copy_server", why)))
        if not task.compiles:
            line.notes.append("copy_server sends compiled files, and compiled_data names none.")
