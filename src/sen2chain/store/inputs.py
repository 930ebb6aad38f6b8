"""Whether the files that an image was made from have changed since.

A file is known by its name, size and time of change. A file that was changed within the last two seconds may change
again under the same time (some file systems keep times no finer), so its content is kept too, as a SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.plan import Output, Task

_SECONDS = 2.0
_ABSENT = -1


class Inputs:
    """The files of an archive as they are now; each is looked at once."""

    def __init__(self) -> None:
        self._stamps: dict[str, list[Any]] = {}

    def identity(self, task: Task, output: Output) -> str:
        """Return the identity of what an image is made from, as text.

        Parameters
        ----------
        task
            The acquisition.
        output
            The index under a mask.
        """
        if output.reason is not None:
            return json.dumps({"missing": output.detail})
        files = {role: self._stamp(where) for role, where in _locations(task, output).items()}
        return json.dumps({"formula": output.index.formula, "files": files}, sort_keys=True)

    def unchanged(self, task: Task, output: Output, recorded: str, *, but_mask: bool = False) -> bool:
        """Tell whether an image would be made from the same files as it was, or from those of them that are left.

        Parameters
        ----------
        task, output
            The image.
        recorded
            Its identity when it was made.
        but_mask
            Leave the files of the cloud mask out.
        """
        now = self.identity(task, output)
        if now == recorded:
            return True
        before, after = json.loads(recorded or "{}"), json.loads(now)
        if "files" not in before or "files" not in after or before["formula"] != after["formula"]:
            return False
        roles = {role for role in after["files"] if not (but_mask and role.startswith("mask "))}
        if not roles <= before["files"].keys():
            return False
        where = _locations(task, output)
        return all(_same(before["files"][role], after["files"][role], where[role]) for role in roles)

    def _stamp(self, location: str) -> list[Any]:
        """Return [name, size, time] of a file, and its SHA-256 where it is young."""
        found = self._stamps.get(location)
        if found is None:
            path = _file(location)
            name = os.path.basename(location)  # noqa: PTH119  # thousands of texts, some of them no paths
            try:
                facts = os.stat(path)  # noqa: PTH116
                found = [name, facts.st_size, facts.st_mtime_ns]
                if time.time() - facts.st_mtime < _SECONDS:
                    found.append(_sha256(path))
            except OSError:
                found = [name, _ABSENT, 0]
            self._stamps[location] = found
        return found


def _same(before: list[Any], after: list[Any], location: str) -> bool:
    """Compare two stamps of a file; its content decides where it was young."""
    if before == after:
        return True
    if before[:2] != after[:2]:
        return False
    if len(before) == len(after) == 3:
        return False  # another time
    if len(before) == 3:
        return bool(before == after[:3])
    try:
        return bool(before[3] == (after[3] if len(after) > 3 else _sha256(_file(location))))
    except OSError:
        return False


def _locations(task: Task, output: Output) -> dict[str, str]:
    """Role -> location of everything that the rows of an output depend on."""
    places: Mapping[str, str] = {
        **{f"value {role}": where for role, where in (output.value.rasters if output.value else {}).items()},
        **{f"mask {role}": where for role, where in (output.clouds.rasters if output.clouds else {}).items()},
        "metadata": task.metadata or "",
        "cldprb": task.cldprb or "",
        "scl": task.scl or "",
    }
    return {role: where for role, where in places.items() if where}


def _file(location: str) -> str:
    """Return the file on disk that a location lies in: the archive of a zipped product."""
    if not location.startswith("/vsizip/"):
        return location
    path = location.removeprefix("/vsizip/")
    end = path.lower().find(".zip/")
    return path if end < 0 else path[: end + 4]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()
