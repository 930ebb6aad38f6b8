"""The name of a job, and the files and folders that are named after it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sen2chain import settings
from sen2chain.errors import JobError, quoted
from sen2chain.files import absolute, is_folder

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"\w[\w.-]*")
_FILE = re.compile(r"job_(.+)\.cfg")
_LONGEST = 100  # bytes; names of files are made from it


@dataclass(frozen=True, slots=True)
class JobLocation:
    """A job of a Sen2Chain home or library; none of its files and folders has to exist."""

    name: str
    """Name of the job."""
    library: Path | None
    """The Sen2Chain library; None is that of the user's home."""
    paths: settings.Paths
    """The folders of the library."""

    @classmethod
    def of(cls, name: str, library: str | Path | None = None) -> Self:
        """Find the places of a job.

        Parameters
        ----------
        name
            Name of the job, see `is_name`.
        library
            A Sen2Chain library; by default that of the user's home.

        Raises
        ------
        JobError
            If the name cannot be used: it becomes part of file names and of the crontab.
        LibraryError
            If `library` is not a library.
        """
        chosen = absolute(library) if library is not None else None
        paths = settings.paths(chosen)
        if not is_name(name):
            raise JobError(
                f"{quoted(name)} cannot be the name of a job; use up to {_LONGEST} letters, digits, _, - "
                "and ., and begin with a letter, a digit or _."
            )
        return cls(name, chosen, paths)

    @property
    def home(self) -> Path:
        """The folder ``sen2chain_data``, in which relative paths of layers start."""
        return self.paths.home

    @property
    def file(self) -> Path:
        """The job's file."""
        return _folder(self.paths) / f"job_{self.name}.cfg"

    @property
    def logs_folder(self) -> Path:
        """The folder of the job's logs and records."""
        return self.paths.logs / f"job_{self.name}"

    @property
    def output(self) -> Path:
        """The file to which scheduled runs print."""
        return self.logs_folder / f"job_{self.name}_schedule.log"


def is_name(name: object) -> bool:
    """Tell whether a text can name a job: letters, digits, ``_``, ``-``, ``.``, and neither ``-`` nor ``.`` first."""
    return (
        isinstance(name, str)
        and _NAME.fullmatch(name) is not None
        and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST
    )


def list_jobs(library: str | Path | None = None) -> list[str]:
    """Return the names of all jobs that have a file, sorted.

    Parameters
    ----------
    library
        A Sen2Chain library; by default that of the user's home.

    Raises
    ------
    LibraryError
        If `library` is not a library.
    """
    folder = _folder(settings.paths(library))
    if not is_folder(folder):
        return []
    found = map(_FILE.fullmatch, os.listdir(folder))  # noqa: PTH208  # only names
    return sorted(match[1] for match in found if match and is_name(match[1]))


def _folder(paths: settings.Paths) -> Path:
    return paths.config / "jobs_extr"
