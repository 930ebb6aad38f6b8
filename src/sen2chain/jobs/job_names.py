"""Names of jobs, and of the files that are called after them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sen2chain import settings
from sen2chain.errors import JobError, quoted
from sen2chain.files import is_folder

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"\w[\w.-]*")
_FILE = re.compile(r"job_(.+)\.cfg")
_LONGEST = 100  # bytes; names of files are made from it


def check_name(name: str) -> str:
    """Return a job's name.

    Raises
    ------
    JobError
        If it cannot be one; it becomes part of names of files and of cron's table.
    """
    if not is_name(name):
        raise JobError(
            f"{quoted(name)} cannot be the name of a job; use up to {_LONGEST} letters, digits, _, - "
            "and ., the first no - or dot."
        )
    return name


def is_name(name: object) -> bool:
    """Tell whether a job may be called so."""
    return (
        isinstance(name, str)
        and _NAME.fullmatch(name) is not None
        and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST
    )


def job_file(config: Path, name: str) -> Path:
    """Return the file of a job in the folder of the configuration."""
    return config / "jobs_extr" / f"job_{name}.cfg"


def logs_folder(logs: Path, name: str) -> Path:
    """Return the folder of a job's logs in that of all logs."""
    return logs / f"job_{name}"


def list_jobs(library: str | Path | None = None) -> list[str]:
    """Return the names of all jobs, sorted.

    Parameters
    ----------
    library
        A Sen2Chain library; by default that of the user's home.

    Raises
    ------
    LibraryError
        If `library` is not a library.
    """
    folder = job_file(settings.paths(library).config, "").parent
    if not is_folder(folder):
        return []
    found = map(_FILE.fullmatch, os.listdir(folder))  # noqa: PTH208  # only names
    return sorted(match[1] for match in found if match and is_name(match[1]))
