"""Whether the files that an image was made from have changed since.

A file is known by its name, size, time of change and content. For its content stands a digest of parts: of the whole
file up to one MiB, else of 17 blocks that are spread evenly over it. So a copied archive, whose files have new times,
is known again, and a file is read for its digest only where its time differs, or no digest of it has been kept yet.

A file that was changed within the last two seconds may change again under the same time (some file systems keep times
no finer), so all of its content counts, as a SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sen2chain.archive import file_of
from sen2chain.files import is_young, open_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sen2chain.plan import Output, Task

_ABSENT = -1
_WHOLE = 1 << 20  # bytes up to which all of a file counts
_BLOCKS, _BLOCK = 17, 1 << 14  # an odd number, so that one lies in the middle
_OF_PARTS, _DIGITS = "parts:", 32
# The role of the metadata, as people read it.
_IN_WORDS = {"metadata": "MTD_MSIL2A.xml", "cldprb": "CLDPRB", "scl": "SCL"}
_OPTIONAL = frozenset({"cldprb", "scl"})


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A file as it was when it was looked at."""

    name: str
    """Its name."""
    size: int
    """Bytes; `_ABSENT` where there is no file."""
    time: int
    """Time of the last change in nanoseconds."""
    content: str = ""
    """SHA-256 of a young file, or the digest of parts where it is known."""
    status: int = 0
    """Time of the last change of anything about the file; it tells of changes within a run, and no copy has it."""

    @classmethod
    def parse(cls, kept: list[Any]) -> _Stamp:
        """Read what `kept` returned; folders that were begun before contents were kept have three values."""
        return cls(*kept[:4])

    @property
    def kept(self) -> list[Any]:
        """What is written into the ledger."""
        return [self.name, self.size, self.time, *([self.content] if self.content else [])]

    @property
    def is_young(self) -> bool:
        """Whether all of the content counts."""
        return bool(self.content) and not self.content.startswith(_OF_PARTS)


class Inputs:
    """The files of an archive; each is looked at once for the plan, and twice more around a task that reads it.

    Parameters
    ----------
    seconds
        How long files may be read only to add digests that a folder lacks; the rest is left to later runs.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._stamps: dict[str, _Stamp] = {}
        self._digests: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------- while a task is read

    def note(self, task: Task) -> None:
        """Look at all files of a task again, just before it is read."""
        hashed: dict[str, str] = {}
        for location in _all_locations(task):
            self._digests.pop(location, None)
            self._stamps[location] = _look(location, hashed=hashed)

    def changed(self, task: Task, *, digest: bool = True) -> dict[str, bool]:
        """Return which files of a task are not what they were when it was noted, after its rows are in.

        Parameters
        ----------
        task
            The acquisition.
        digest
            Read what identities take, too, so that it is known to belong to the file that the rows came from.

        Returns
        -------
        dict
            Location -> whether there is still a file.
        """
        found = {}
        hashed: dict[str, str] = {}
        for location in _all_locations(task):
            before = self._stamp(location)
            if digest and not before.content and before.size != _ABSENT:
                self._stamps[location] = replace(before, content=self._digest(location))
            now = _look(location, whole=before.is_young, hashed=hashed)
            same = (now.size, now.time, now.status) == (before.size, before.time, before.status)
            if not same or (before.is_young and now.content != before.content):
                found[location] = now.size != _ABSENT
        return found

    # ------------------------------------------------------------------------------------------------ from run to run

    def identity(self, task: Task, output: Output, recorded: str = "") -> str:
        """Return the identity of what an image is made from, as text.

        Parameters
        ----------
        task
            The acquisition.
        output
            The index under a mask.
        recorded
            An identity of the same files, which may know digests already.
        """
        if output.reason is not None:
            return json.dumps({"missing": output.detail})
        known = json.loads(recorded or "{}").get("files", {})
        files = {role: self._kept(where, known.get(role)) for role, where in _locations(task, output).items()}
        return json.dumps({"formula": output.index.formula, "files": files}, sort_keys=True)

    def difference(self, task: Task, output: Output, recorded: str, *, but_mask: bool = False) -> str:
        """Say why an image would not be made from the same files as it was, or from those of them that are left.

        Parameters
        ----------
        task, output
            The image.
        recorded
            Its identity when it was made.
        but_mask
            Leave the files of the cloud mask out.

        Returns
        -------
        str
            A few words; nothing where nothing has changed.
        """
        before = json.loads(recorded or "{}")
        if "files" not in before:
            return "the archive has what they lacked"
        if before["formula"] != output.index.formula:
            return "their formula is another one"
        where = {
            role: place
            for role, place in _locations(task, output).items()
            if not (but_mask and role.startswith("mask "))
        }
        new = sorted(_word(role) for role in where.keys() - before["files"].keys())
        if new:
            return f"other files serve them now ({', '.join(dict.fromkeys(new))})"
        differ = [role for role, place in where.items() if not self._same(_Stamp.parse(before["files"][role]), place)]
        if not differ:
            return ""
        return f"files have changed ({', '.join(dict.fromkeys(map(_word, differ)))})"

    def _kept(self, location: str, known: list[Any] | None) -> list[Any]:
        """Return the stamp of a file for the ledger, with the digest where it is known or there is time to make it."""
        stamp = self._stamp(location)
        if not stamp.content and stamp.size != _ABSENT:
            if known is not None and known[:3] == stamp.kept and known[3:] and known[3].startswith(_OF_PARTS):
                return known
            content = self._digests.get(location, "")
            if not content and self._seconds > 0:
                begin = time.monotonic()
                content = self._digest(location)
                self._seconds -= time.monotonic() - begin
            return replace(stamp, content=content).kept
        return stamp.kept

    def _same(self, before: _Stamp, location: str) -> bool:
        """Tell whether a file is what it was in an earlier run; its content decides where its time does not."""
        now = self._stamp(location)
        if (before.name, before.size) != (now.name, now.size):
            return False
        if before.is_young:
            return before.content == (now.content if now.is_young else _sha256(location))
        if before.time == now.time:
            return True
        return bool(before.content) and before.content == self._digest(location)

    def _stamp(self, location: str) -> _Stamp:
        if location not in self._stamps:
            self._stamps[location] = _look(location)
        return self._stamps[location]

    def _digest(self, location: str) -> str:
        """Return the digest of parts of a file; nothing where it is not the file any more that was looked at."""
        if location not in self._digests:
            before, content = self._stamp(location), _parts(location)
            now = _look(location, whole=False)
            same = (now.size, now.time, now.status) == (before.size, before.time, before.status)
            self._digests[location] = content if same else ""
        return self._digests[location]


def _look(location: str, *, whole: bool | None = None, hashed: dict[str, str] | None = None) -> _Stamp:
    """Look at a file.

    Parameters
    ----------
    location
        The file.
    whole
        Whether the SHA-256 of its content is added; None adds it where the file is young.
    hashed
        File -> its SHA-256, kept from one location to the next, since all of a zipped product lie in one file.
    """
    name = os.path.basename(location)  # noqa: PTH119  # thousands of texts, some of them no paths
    try:
        file = file_of(location)
        facts = os.stat(file)  # noqa: PTH116
    except OSError:
        return _Stamp(name, _ABSENT, 0)
    if whole is None:
        whole = is_young(facts)
    content = ""
    if whole:
        hashed = {} if hashed is None else hashed
        content = hashed[file] = hashed.get(file) or _sha256(file)
    return _Stamp(name, facts.st_size, facts.st_mtime_ns, content, facts.st_ctime_ns)


def _locations(task: Task, output: Output) -> dict[str, str]:
    """Role -> location of everything that the rows of an output depend on."""
    places: Mapping[str, str] = {
        **{f"value {role}": where for role, where in (output.value.rasters if output.value else {}).items()},
        **{f"mask {role}": where for role, where in (output.clouds.rasters if output.clouds else {}).items()},
        **task.details.inputs,
        "cldprb": task.cldprb or "",
        "scl": task.scl or "",
    }
    return {role: where for role, where in places.items() if where}


def _all_locations(task: Task) -> Collection[str]:
    """Return the locations of everything that a task reads."""
    return dict.fromkeys(where for output in task.outputs for where in _locations(task, output).values())


def lost_while_read(task: Task, output: Output, changed: Mapping[str, bool], error: str) -> list[str]:
    """Return the files whose change while they were read leaves an output without rows that can be trusted.

    Parameters
    ----------
    task, output
        The image.
    changed
        What `Inputs.changed` returned.
    error
        What its rows say is missing in them.

    Returns
    -------
    list
        Names. A file that was removed after it had been read did no harm.
    """
    roles = _locations(task, output).items()
    harmed = [where for role, where in roles if where in changed and (changed[where] or (role in _OPTIONAL and error))]
    return list(dict.fromkeys(os.path.basename(where) for where in harmed))  # noqa: PTH119


def _word(role: str) -> str:
    """Return a role as people read it: the band, or what kind of raster it is."""
    kind, _, name = role.partition(" ")
    if name in {"value", "unmasked", "mask"}:
        return {"value": "index raster", "unmasked": "index raster", "mask": "mask raster"}[name]
    return name or _IN_WORDS[kind]


def _sha256(location: str) -> str:
    try:
        with open_regular(file_of(location)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _parts(location: str) -> str:
    """Return a digest of the content of a small file, or of blocks that are spread over a large one."""
    digest = hashlib.sha256()
    try:
        with open_regular(file_of(location)) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _WHOLE:
                digest.update(file.read())
            else:
                for n in range(_BLOCKS):
                    file.seek((size - _BLOCK) * n // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    except OSError:
        return ""
    return f"{_OF_PARTS}{digest.hexdigest()[:_DIGITS]}"
