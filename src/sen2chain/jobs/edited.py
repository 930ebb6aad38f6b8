"""A job's file as an object: its settings and lines are read and changed from Python, and written back."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import writing
from sen2chain.errors import JobError, RequestError, UnknownNameError, shown, truth
from sen2chain.errors import whole_number as whole
from sen2chain.jobs.cells import switch, whole_number
from sen2chain.jobs.file import COLUMNS, KNOWN, OLDER, OPTIONAL, JobFile, read_text, write_text
from sen2chain.jobs.schedule import Timing
from sen2chain.jobs.task import DEFAULTS, LONGEST_DELIVERY, MOST_LINES
from sen2chain.jobs.template import template
from sen2chain.parallel import MOST_WORKERS
from sen2chain.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_DIGITS = 20


class EditedJob:
    """The file of a job, which somebody may edit at the same time.

    Parameters
    ----------
    name
        The job.
    path
        Its file, whether it exists or not; without one the template is what `save` writes.

    Raises
    ------
    JobError
        If the file cannot be read as text.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self._text: str | None = None
        self._file = JobFile([])
        self._read()
        self._changed = False

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
            self._text = self._file.text
        self._changed = False
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
        if self._text is None and not self._changed:
            raise JobError(f"There is no file {self.path}; save() writes it.")
        if self._changed:
            raise JobError(f"The job {self.name} has changes that are not in {self.path}; call save() first.")
        return file

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The lines of the table as text, skipped ones with their ``!``; optional columns where the file has them."""
        file = self._refresh()
        columns = (*COLUMNS, *(name for name in OPTIONAL if name in file.columns))
        return [
            {column: ("!" if row.skipped and column == COLUMNS[0] else "") + row.text(column) for column in columns}
            for row in file.rows
        ]

    def task_add(self, task: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Add a line to the table.

        Parameters
        ----------
        task
            Column -> value; columns that are left out are switched off. Nothing adds the template's example.
        **values
            The same as keywords.

        Raises
        ------
        UnknownNameError
            If a column is unknown.
        RequestError
            If a value cannot stand in a line.
        """
        task = {**(task or {}), **values}
        if not task:
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
        self._refresh().set(name, "" if value is None else _written(name, value))
        self._changed = True

    def _set_number(self, name: str, value: object, low: int, high: int) -> None:
        if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:  # as it stands in a file
            value = int(value)
        self._set(name, whole(name, value, low, high))

    @property
    def logs(self) -> bool:
        """Whether each run leaves a log and a record."""
        return switch(self._get("logs"))

    @logs.setter
    def logs(self, value: bool) -> None:
        self._set("logs", truth("logs", value))

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
        return whole_number(self._get("nb_proc") or "0", MOST_WORKERS)

    @nb_proc.setter
    def nb_proc(self, value: int) -> None:
        self._set_number("nb_proc", value, 0, MOST_WORKERS)

    @property
    def process_by_line(self) -> int:
        """Lines of a batch; 0 is all."""
        return whole_number(self._get("process_by_line") or "0", MOST_LINES)

    @process_by_line.setter
    def process_by_line(self, value: int) -> None:
        self._set_number("process_by_line", value, 0, MOST_LINES)

    @property
    def delivery_timeout(self) -> int:
        """Seconds after which a delivery is given up until the next run."""
        return whole_number(self._get("delivery_timeout"), LONGEST_DELIVERY)

    @delivery_timeout.setter
    def delivery_timeout(self, value: int) -> None:
        self._set_number("delivery_timeout", value, 1, LONGEST_DELIVERY)

    @property
    def keep_runs(self) -> int:
        """Number of runs whose logs and records are kept; 0 is all."""
        return whole_number(self._get("keep_runs") or "0", MOST_LINES)

    @keep_runs.setter
    def keep_runs(self, value: int) -> None:
        self._set_number("keep_runs", value, 0, MOST_LINES)

    @property
    def safe(self) -> str:
        """Folder of SAFE products in the place of the library's archive; empty for that."""
        return self._get("safe")

    @safe.setter
    def safe(self, value: str | Path | None) -> None:
        self._set("safe", value)

    @property
    def verify(self) -> str:
        """Whether products' files are compared with their checksums: ``first`` or ``never``."""
        return self._get("verify")

    @verify.setter
    def verify(self, value: str) -> None:
        self._set("verify", value)

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


def _position(i: int, file: JobFile) -> int:
    try:
        return whole("i", i, 0, len(file.rows) - 1)
    except RequestError:
        raise RequestError(f"There is no line {shown(i)} in the table; it has {len(file.rows)}, from 0.") from None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as they stand in a line."""
    named = {OLDER.get(name, name): value for name, value in values.items()}
    for name in named:
        if name not in KNOWN:
            raise UnknownNameError("column", name, KNOWN)
    return {name: _text(name, value) for name, value in named.items()}


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime) and value.year == value.year:  # pandas' NaT is a datetime too
        return str(value.date())
    if isinstance(value, list | tuple):
        return "/".join(_written(name, item) for item in value)
    return _written(name, value)


def _written(name: str, value: object) -> str:
    """Return a value as text, where it has one."""
    try:
        return str(value)
    except ValueError:  # a whole number of more than 4300 digits
        raise RequestError(f"{name} is {shown(value)}; pass a text, a number or a date.") from None
