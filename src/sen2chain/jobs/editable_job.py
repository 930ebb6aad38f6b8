"""The file of a job from Python: read from the disk, changed by attributes and methods, and written.

An edit by another program is noticed before the file is written; `template` is the text of a new job.
"""

from __future__ import annotations

import datetime as dt
import importlib.resources
import os
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from sen2chain.atomic import writing
from sen2chain.errors import JobError, RequestError, UnknownNameError, shown, truth
from sen2chain.errors import whole_number as check_whole_number
from sen2chain.jobs.cell_words import cell_number, switch
from sen2chain.jobs.job_file import COLUMNS, KNOWN, OLDER, OPTIONAL, JobFile, read_text, write_text
from sen2chain.jobs.job_settings import DEFAULTS, LONGEST_DELIVERY, MOST_LINES
from sen2chain.jobs.schedule import Timing
from sen2chain.parallel import MOST_WORKERS
from sen2chain.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_DIGITS = 20

T = TypeVar("T")


def _count(largest: int) -> Callable[[str], int]:
    return lambda text: cell_number(text or "0", largest)


def _checked_count(low: int, high: int) -> Callable[[str, Any], int]:
    """Return a check of a number, which may be passed as a text, as it stands in a file."""

    def check(name: str, value: object) -> int:
        if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
            value = int(value)
        return check_whole_number(name, value, low, high)

    return check


class _Attribute(Generic[T]):
    """An attribute of a job that stands for the setting of its name.

    Parameters
    ----------
    read
        Text of the setting -> value.
    check
        Name and new value -> what is written; it raises an error where that cannot be used.
    """

    def __init__(self, read: Callable[[str], T], check: Callable[[str, Any], object] = lambda _, value: value) -> None:
        self._read, self._check = read, check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, job: None, owner: type) -> Self: ...
    @overload
    def __get__(self, job: EditableJob, owner: type) -> T: ...
    def __get__(self, job: EditableJob | None, owner: type) -> Self | T:
        return self if job is None else self._read(job._text_of(self._name))  # noqa: SLF001  # a part of that class

    def __set__(self, job: EditableJob, value: Any) -> None:
        job._set(self._name, self._check(self._name, value))  # noqa: SLF001  # as above


def template(name: str) -> str:
    """Return the text of a new job's file, which explains every setting and column.

    Parameters
    ----------
    name
        Name of the job.
    """
    text = importlib.resources.files("sen2chain.jobs").joinpath("job_template.cfg").read_text(encoding="utf-8")
    return text.format(name=name, header=";".join(COLUMNS))


class EditableJob:
    """The file of a job on disk; an edit by another program is noticed before the file is written.

    Parameters
    ----------
    name
        The job.
    path
        The job's file; where it does not exist, `save` writes the template.

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
        """Write the file: the template for a new job, or the changes made here.

        Raises
        ------
        JobError
            If the file was edited after it was read, and changes would be lost.
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
        """Return the file's current lines, read again if the file was edited.

        Raises
        ------
        JobError
            If the file was changed both here and on disk.
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
        """Return the file as it is on disk.

        Raises
        ------
        JobError
            If there are changes that are not saved.
        """
        file = self._refresh()
        if self._text is None and not self._changed:
            raise JobError(f"There is no file {self.path}; save() writes it.")
        if self._changed:
            raise JobError(f"The job {self.name} has changes that are not in {self.path}; call save() first.")
        return file

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The rows as column -> text, with a ``!`` before skipped ones; optional columns where the file has them."""
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
            Column -> value; other columns are switched off. Without any value, the template's example is added.
        **values
            The same as keywords.

        Raises
        ------
        UnknownNameError
            If a column is unknown.
        RequestError
            If a value has a line break or a control character.
        """
        task = {**(task or {}), **values}
        if not task:
            row = JobFile.parse(template(self.name)).rows[0]
            task = {column: row.text(column) for column in COLUMNS} | {COLUMNS[0]: "!" + row.text(COLUMNS[0])}
        self._refresh().add(_texts(task))
        self._changed = True

    def task_edit(self, i: int, **values: Any) -> None:
        """Change cells of row `i`, counted from 0 with skipped rows.

        Raises
        ------
        RequestError
            If there is no such row or column, or a value has a line break.
        """
        file = self._refresh()
        file.change(_position(i, file), _texts(values))
        self._changed = True

    def task_remove(self, i: int) -> None:
        """Remove row `i`, counted from 0 with skipped rows.

        Raises
        ------
        RequestError
            If there is no such row.
        """
        file = self._refresh()
        file.remove(_position(i, file))
        self._changed = True

    def _text_of(self, name: str) -> str:
        return self._refresh().settings.get(name, (0, DEFAULTS[name]))[1]

    def _set(self, name: str, value: object) -> None:
        self._refresh().set(name, "" if value is None else _written(name, value))
        self._changed = True

    logs = _Attribute(switch, truth)
    """Whether each run leaves a log and a record."""
    timing = _Attribute(str, lambda _, value: Timing.parse(value).text)
    """When the job runs, as cron writes it, in the machine's local time."""
    nb_proc = _Attribute(_count(MOST_WORKERS), _checked_count(0, MOST_WORKERS))
    """Number of processors; 0 uses all."""
    process_by_line = _Attribute(_count(MOST_LINES), _checked_count(0, MOST_LINES))
    """Number of lines in a batch; 0 is all."""
    delivery_timeout = _Attribute(_count(LONGEST_DELIVERY), _checked_count(1, LONGEST_DELIVERY))
    """Seconds after which a delivery is given up until the next run."""
    keep_runs = _Attribute(_count(MOST_LINES), _checked_count(0, MOST_LINES))
    """Number of runs whose logs and records are kept; 0 is all."""
    safe = _Attribute(str)
    """Folder of SAFE products to read in place of the library's archive; empty reads the archive."""
    library = _Attribute(str)
    """STAC catalogue to read in place of the library's archive, as ``stac:https://...`` or ``stac:items.parquet``."""
    collection = _Attribute(str)
    """Collection of the catalogue; empty is the one that it is known for."""
    stac_asset = _Attribute(str)
    """Names of assets by band, as ``B04=red/B08=nir``; empty are those that are known."""
    stac_allow = _Attribute(str)
    """Hosts and buckets that items of the catalogue may refer to, with blanks between."""
    verify = _Attribute(str)
    """Whether the files of products are compared with their checksums: ``first`` or ``never``."""
    page = _Attribute(switch, truth)
    """Whether each line writes an HTML page of its series after it is compiled."""
    on_failure = _Attribute(str)
    """Command after a run of which a part, or everything, could not be done, unless the run before ended alike."""
    on_success = _Attribute(str)
    """Command after a run that did everything."""


def _position(i: int, file: JobFile) -> int:
    try:
        return check_whole_number("i", i, 0, len(file.rows) - 1)
    except RequestError:
        raise RequestError(f"There is no line {shown(i)} in the table; it has {len(file.rows)}, from 0.") from None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as the texts of cells."""
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
    """Return a value as text."""
    try:
        return str(value)
    except ValueError:  # a whole number of more than 4300 digits
        raise RequestError(f"{name} is {shown(value)}; pass a text, a number or a date.") from None
