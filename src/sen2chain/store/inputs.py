"""The input files of images, and whether they have changed since an image was made.

A file is known by the identity token that its source gives: name, size, time of change and content. The content is
asked for only where the time differs, or where no digest of it has been kept yet.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.products import OF_PARTS, IdentityToken
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.plan import Output, Task
    from sen2chain.products import Source

# The role of the metadata, as people read it.
_IN_WORDS = {
    "metadata": SENTINEL2.metadata,
    "cldprb": SENTINEL2.cloud_probability or "",
    "scl": SENTINEL2.classification or "",
}
_OPTIONAL = frozenset({"cldprb", "scl"})
UNKNOWN = "unknown"
"""Key of an identity: the features that the rows lack since their pixels were not kept, as ``[[first, last], ...]``."""


def with_unknown(identity: str, fid: npt.NDArray[np.int64] | None) -> str:
    """Return the identity of an image's inputs with the features of `sen2chain.rows.Batch.unknown`."""
    if fid is None or not len(fid):
        return identity
    parts = np.split(fid, np.flatnonzero(np.diff(fid) > 1) + 1)
    runs = [[int(part[0]), int(part[-1])] for part in parts]
    return json.dumps({**json.loads(identity or "{}"), UNKNOWN: runs}, sort_keys=True)


def unknown_in(identity: str) -> npt.NDArray[np.int64]:
    """Return the features that an identity of `with_unknown` names, ascending."""
    runs = json.loads(identity or "{}").get(UNKNOWN, ())
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, last + 1) for first, last in runs)])


class Inputs:
    """Identity tokens of a source's files: taken once for the plan, and again before and after a task reads them.

    Parameters
    ----------
    source
        Identifies its files.
    seconds
        Time limit for reading files only to add digests to the ledger; later runs add the rest.
    """

    def __init__(self, source: Source, seconds: float = 0.0) -> None:
        self._source, self._seconds = source, seconds
        self._tokens: dict[str, IdentityToken] = {}
        self._digests: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------- while a task is read

    def note(self, task: Task) -> None:
        """Take new tokens of all files of a task, just before the task reads them; of the archive's, too, if it may."""
        locations = [*_all_locations(task), *(_all_locations(task.otherwise) if task.otherwise else ())]
        for location in locations:
            self._digests.pop(location, None)
        self._tokens |= self._source.identify(locations)

    def changed(self, task: Task, *, digest: bool = True) -> dict[str, IdentityToken]:
        """Return the files of a task that have changed since `note`, after its rows are in.

        Parameters
        ----------
        task
            The acquisition.
        digest
            Read the digests that the ledger keeps, too, so that they belong to the files that the rows came from.

        Returns
        -------
        dict
            Location -> token now.
        """
        found = {}
        noted = {location: self._token(location) for location in _all_locations(task)}
        for location, before in noted.items():
            if digest and not before.content and before.exists:
                self._tokens[location] = replace(before, content=self._digest(location))
        current = self._source.identify(noted, {where for where, before in noted.items() if before.is_whole})
        for location, before in noted.items():
            now = current[location]
            if not _is_untouched(now, before) or (before.is_whole and now.content != before.content):
                found[location] = now
        return found

    def record_of(self, location: str) -> tuple[Any, ...]:
        """Return the identity of a file, as the catalogue of kept pixels has it: name, size, time, content."""
        return tuple(self._kept(location, None))

    # ------------------------------------------------------------------------------------------------ from run to run

    def identity(self, task: Task, output: Output, recorded: str = "") -> str:
        """Return the identity of an image's inputs as JSON text, as the ledger keeps it.

        Parameters
        ----------
        task
            The acquisition.
        output
            The index under a mask.
        recorded
            An earlier identity of the same image, whose digests are used where files are unchanged.
        """
        if output.reason is not None:
            return json.dumps({"missing": output.detail})
        known = json.loads(recorded or "{}").get("files", {})
        places = _locations(task, output)
        self.look_at(places.values())
        files = {role: self._kept(where, known.get(role)) for role, where in places.items()}
        # What a run did not find in kept pixels stays known as long as its rows stay.
        lacked = {name: value for name, value in json.loads(recorded or "{}").items() if name == UNKNOWN}
        return json.dumps({"formula": output.index.definition, "files": files, **lacked}, sort_keys=True)

    def difference(self, task: Task, output: Output, recorded: str, *, but_mask: bool = False) -> str:
        """Say how an image's inputs differ from those it was made from; inputs that are gone do not count.

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
            A few words; empty where nothing has changed.
        """
        before = json.loads(recorded or "{}")
        if "files" not in before:
            return "the archive has what they lacked"
        if not output.index.is_defined_by(before["formula"]):
            return "their formula is another one"
        where = {
            role: place
            for role, place in self._compared(task, output, before["files"]).items()
            if not (but_mask and role.startswith("mask "))
        }
        self.look_at(where.values())
        new = sorted(_word(role) for role in where.keys() - before["files"].keys())
        if new:
            return f"other files serve them now ({', '.join(dict.fromkeys(new))})"
        differ = [role for role, place in where.items() if not self.is_same(before["files"][role], place)]
        if not differ:
            return ""
        return f"files have changed ({', '.join(dict.fromkeys(map(_word, differ)))})"

    def _compared(self, task: Task, output: Output, before: Mapping[str, list[Any]]) -> dict[str, str]:
        """Role -> location of the files to compare with those that rows were made from.

        Where these are other files that give the same rows, they are compared themselves, as far as the archive still
        has them: an index raster that was made from the bands does not make rows from the bands old.
        """
        places = _locations(task, output)
        for kind, source in (("value", output.value), ("mask", output.clouds)):
            recorded = {role.removeprefix(f"{kind} ") for role in before if role.startswith(f"{kind} ")}
            if source is None or not recorded or not recorded <= source.same_as.keys():
                continue
            own = {f"{kind} {role}": where for role, where in source.rasters.items()}
            if own.keys() <= before.keys() and all(before[r][0] == self._token(w).name for r, w in own.items()):
                continue
            others = {f"{kind} {role}": source.same_as[role] for role in recorded if source.same_as[role]}
            places = {role: where for role, where in places.items() if role not in own} | others
        return places

    def _kept(self, location: str, known: list[Any] | None) -> list[Any]:
        """Return the token of a file for the ledger, with the digest where it is known or there is time to make it."""
        token = self._token(location)
        kept = _to_record(token)
        if not token.content and token.exists:
            if known is not None and known[:3] == kept and known[3:] and known[3].startswith(OF_PARTS):
                return known
            content = self._digests.get(location, "")
            if not content and self._seconds > 0:
                begin = time.monotonic()
                content = self._digest(location)
                self._seconds -= time.monotonic() - begin
            return _to_record(replace(token, content=content))
        return kept

    def is_same(self, kept: Sequence[Any], location: str) -> bool:
        """Tell whether a file is what the ledger says of it; its content decides where its time does not.

        Folders that were begun before contents were kept have name, size and time alone.
        """
        now = self._token(location)
        name, size, changed = tuple(kept[:3])
        content = kept[3] if len(kept) > 3 else ""
        if (name, size) != (now.name, now.size):
            return False
        if content and not content.startswith(OF_PARTS):
            if not now.is_whole:
                now = self._source.identify((location,), (location,))[location]
            return bool(content == now.content)
        return bool(changed == now.time or (content and content == self._digest(location)))

    def look_at(self, locations: Iterable[str]) -> None:
        """Look at those of some files that were not looked at yet, all at once."""
        unknown = [location for location in locations if location not in self._tokens]
        if unknown:
            self._tokens.update(self._source.identify(unknown))

    def exists(self, location: str) -> bool:
        """Tell whether there is such a file."""
        return self._token(location).exists

    def _token(self, location: str) -> IdentityToken:
        if location not in self._tokens:
            self.look_at((location,))
        return self._tokens[location]

    def _digest(self, location: str) -> str:
        """Return the digest of a file; an empty text where it has changed since it was looked at."""
        if location not in self._digests:
            before, content = self._token(location), self._source.digest(location)
            now = self._source.identify((location,), ())[location]
            self._digests[location] = content if _is_untouched(now, before) else ""
        return self._digests[location]


def _to_record(token: IdentityToken) -> list[Any]:
    """Return what the ledger keeps of a token: name, size, time, and the content where it is known."""
    return [token.name, token.size, token.time, *([token.content] if token.content else [])]


def _is_untouched(now: IdentityToken, before: IdentityToken) -> bool:
    """Tell whether a file was not touched between two looks of one run."""
    return (now.size, now.time, now.status) == (before.size, before.time, before.status)


def _locations(task: Task, output: Output) -> dict[str, str]:
    """Role -> location of all files that the rows of an output depend on."""
    places: Mapping[str, str] = {
        **{f"value {role}": where for role, where in (output.value.rasters if output.value else {}).items()},
        **{f"mask {role}": where for role, where in (output.clouds.rasters if output.clouds else {}).items()},
        **{f"band {band}": where for band, where in task.bands.items()},
        **task.details.inputs,
        "cldprb": task.cldprb or "",
        "scl": task.scl or "",
    }
    return {role: where for role, where in places.items() if where}


def _all_locations(task: Task) -> Collection[str]:
    """Return the locations of everything that a task reads."""
    of_outputs = (where for output in task.outputs for where in _locations(task, output).values())
    return dict.fromkeys((*of_outputs, *kept_locations(task).values()))


def kept_locations(task: Task) -> dict[str, str]:
    """Return role -> location of the files that the kept pixels of a task come from: rasters, metadata."""
    return {} if task.keep is None else {**task.keep.rasters, **task.details.inputs}


def lost_while_read(task: Task, output: Output, changed: Mapping[str, IdentityToken], error: str) -> list[str]:
    """Return the names of files that changed while they were read, so that rows of an output cannot be trusted.

    Parameters
    ----------
    task, output
        The image.
    changed
        What `Inputs.changed` returned.
    error
        The error of its rows, empty where they are complete.

    Returns
    -------
    list
        File names. A file that was removed after it had been read does not count.
    """
    roles = _locations(task, output).items()
    touched = [(role, changed[where]) for role, where in roles if where in changed]
    return list(dict.fromkeys(now.name for role, now in touched if now.exists or (role in _OPTIONAL and error)))


def pixels_lost_while_read(task: Task, changed: Mapping[str, IdentityToken]) -> list[str]:
    """Return the names of files that changed while pixels to keep were read; `changed` as of `Inputs.changed`."""
    touched = (changed[where] for where in kept_locations(task).values() if where in changed)
    return list(dict.fromkeys(now.name for now in touched if now.exists))


def _word(role: str) -> str:
    """Return the text for a role in sentences: the band, or the kind of raster."""
    kind, _, name = role.partition(" ")
    if name in {"value", "unmasked", "mask"}:
        return {"value": "index raster", "unmasked": "index raster", "mask": "mask raster"}[name]
    return name or _IN_WORDS[kind]
