"""The delivery registry: which layer's files are at each destination, in ``logs/destinations.json``.

An entry stands for a destination and a layer's name, since files of two layers of one name would have the same paths
there. It holds the checksum of the layer, the files that have arrived, and those that have not arrived yet. A file of a
range of dates has another name the next night; only the registry knows that the one before still has to be sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import check_folder, replacing
from sen2chain.errors import DeliveryError
from sen2chain.files import is_folder, read_limited
from sen2chain.jobs.delivery import Folder, registered, same_place
from sen2chain.store import ExtractionFolder, locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sen2chain.jobs.delivery import Destination

_FILE = "destinations.json"
_LARGEST = 64 << 20  # bytes of it
_CHECKSUM = 16
"""Digits of a layer's checksum; options follow them."""
_PATIENCE = 60.0
"""Seconds to wait for another job, which holds the registry for an instant."""

Entries = dict[str, dict[str, Any]]
"""Destination and name of a layer, with a space between -> entry."""


class DeliveryRegistry:
    """The registry of all jobs of a home.

    Parameters
    ----------
    logs
        The folder of all logs, in which the registry lies.
    """

    def __init__(self, logs: Path) -> None:
        self._folder = logs
        self._path = logs / _FILE

    def trouble(self, destination: Destination, folder: Path) -> str | None:
        """Return why the files in a layer's folder may not be sent to a destination; None if they may.

        Raises
        ------
        DeliveryError
            If the registry cannot be read.
        """
        entries = self._read()
        return self._taken(entries, destination, folder) or self._gone(entries, destination)

    def gone(self, destination: Destination) -> str | None:
        """Return a sentence where a folder of this machine is gone to which files were delivered; else None.

        Raises
        ------
        DeliveryError
            If the registry cannot be read.
        """
        return self._gone(self._read(), destination)

    def _taken(self, entries: Entries, destination: Destination, folder: Path) -> str | None:
        key = place_of(destination, folder)
        entry = entries.get(key, {})
        theirs, ours = entry.get("checksum"), _checksum(folder.name)
        if "folder" not in entry or theirs == ours:
            return None
        is_same = str(theirs)[:_CHECKSUM] == ours[:_CHECKSUM]
        whose = (
            "this layer with another pixel rule, buffer, statistics or share" if is_same
            else f"another layer {_stem(folder.name)} or of an earlier state of it"
        )  # fmt: skip
        return (
            f"{destination} has files of {whose} (from {entry['folder']}), which would be overwritten; give this line "
            "another destination, or its layer's file another name, or, if "
            f'they may be replaced, remove the entry "{key}" from {self._path}.'
        )

    def _gone(self, entries: Entries, destination: Destination) -> str | None:
        if not isinstance(destination, Folder):
            return None
        there = _at(entries, destination)
        # The folder on which a disk is mounted is there without the disk, too.
        lost = [entry["disk"] for entry in there if "disk" in entry and not os.path.ismount(str(entry["disk"]))]
        if lost:
            return f"{destination} was on the disk at {lost[0]}, which is not mounted; {self._advice(destination)}"
        if there and not is_folder(destination.path):
            return self.absent(destination)
        return None

    def absent(self, destination: Destination) -> str:
        """Return a sentence that a destination is gone, with what to do."""
        return f"{destination} is not there, but files were sent to it before; {self._advice(destination)}"

    def _advice(self, destination: Destination) -> str:
        return (
            "mount it, or, if it is to be made anew, remove the entries that begin with "
            f'"{same_place(destination)} " from {self._path}.'
        )

    def is_new(self, destination: Destination) -> bool:
        """Tell whether nothing was ever delivered to a destination, so that its folder may be made.

        Raises
        ------
        DeliveryError
            If the registry cannot be read.
        """
        return not _at(self._read(), destination)

    def claim(self, destination: Destination, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Enter a layer as the one whose files are at a destination.

        Returns
        -------
        tuple
            The names that have not arrived yet, and those that have, with their marks.

        Raises
        ------
        DeliveryError
            If files of another layer are there.
        StoreError
            If another job holds the registry for longer than a minute.
        """
        with self._changed() as entries:
            if taken := self._taken(entries, destination, folder):
                raise DeliveryError(taken)
            entry = entries.setdefault(place_of(destination, folder), {})
            entry |= {"folder": folder.name, "checksum": _checksum(folder.name)}
            return _missing(entry), _sent(entry)

    def expect(self, destination: Destination, folder: Path, names: Sequence[str]) -> None:
        """Record names that are being sent; a later run sends them again until they have arrived."""
        with self._changed() as entries:
            entry = entries.setdefault(place_of(destination, folder), {})
            entry["missing"] = list(dict.fromkeys([*_missing(entry), *names]))

    def arrived(self, destination: Destination, folder: Path, marks: Mapping[str, str], gone: Iterable[str]) -> None:
        """Record names that have arrived, and forget those of files that do not exist here any more.

        Parameters
        ----------
        destination, folder
            As for `claim`.
        marks
            Name -> mark, see `sen2chain.jobs.delivery.deliver`.
        gone
            Names of files that do not exist here any more.
        """
        with self._changed() as entries:
            if (entry := entries.get(place_of(destination, folder))) is None:
                return
            lost = set(gone)
            entry["missing"] = [name for name in _missing(entry) if name not in marks and name not in lost]
            entry["sent"] = {name: mark for name, mark in {**_sent(entry), **marks}.items() if name not in lost}
            disk = _disk(destination.path) if isinstance(destination, Folder) else "/"
            entry.pop("disk", None)
            if disk != "/":
                entry["disk"] = disk

    def _read(self) -> Entries:
        return self._parsed(self._content())

    def _content(self) -> bytes:
        try:
            return read_limited(self._path, _LARGEST)
        except FileNotFoundError:
            return b"{}"
        except OSError as error:
            raise self._unreadable(error) from error

    def _parsed(self, content: bytes) -> Entries:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._unreadable(error) from None
        pairs = found.items() if isinstance(found, dict) else ()
        kept = ((registered(key), value) for key, value in pairs if isinstance(value, dict))
        found = {key: value for key, value in kept if key is not None}
        for entry in found.values():
            if "folder" in entry and "checksum" not in entry:  # of an earlier version, which had the folder alone
                entry["checksum"] = _checksum(str(entry["folder"]))
        return found

    def _unreadable(self, error: Exception) -> DeliveryError:
        return DeliveryError(
            f"{self._path} cannot be read ({error}), so it is not known whose files are where; mend it, or remove it."
        )

    @contextlib.contextmanager
    def _changed(self) -> Iterator[Entries]:
        """Yield the entries, locked against other jobs, and write them if they have changed."""
        check_folder(self._folder)
        with locked(self._folder, wait=_PATIENCE, quiet=True):
            before = self._content()
            entries = self._parsed(before)
            yield entries
            after = json.dumps(entries, indent=2).encode("ascii")
            if after != before and (entries or before != b"{}"):
                with replacing(self._path) as file:
                    file.write(after)


def place_of(destination: Destination, folder: Path) -> str:
    """Return the key of a layer at a destination, which all layers of one name share."""
    return f"{same_place(destination)} {_stem(folder.name)}"


def _at(entries: Entries, destination: Destination) -> list[dict[str, Any]]:
    """Return the entries of a destination, of all layers, to which something was delivered."""
    place = same_place(destination)
    return [
        entry
        for key, entry in entries.items()
        if key == f"{place} {_stem(str(entry.get('folder')))}"
        and (entry["sent"] if "sent" in entry else _is_old(entry))
    ]


def _is_old(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of an earlier version, which listed only what had not arrived, had nothing left to send."""
    return entry.get("missing") == []


def _missing(entry: Mapping[str, Any]) -> list[str]:
    """Return the names that have not arrived."""
    listed = entry.get("missing")
    return list(filter(_is_name, listed if isinstance(listed, list) else ()))


def _sent(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that have arrived, with their marks."""
    listed = entry.get("sent")
    pairs = listed.items() if isinstance(listed, dict) else ()
    return {name: mark for name, mark in pairs if _is_name(name) and isinstance(mark, str)}


def _is_name(name: object) -> bool:
    """Tell whether something is a name inside the folder; the file may have been edited by hand."""
    if not isinstance(name, str) or not name or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name):
        return False
    return not {"", ".", ".."} & set(name.split("/"))


def _stem(folder: str) -> str:
    """Return the name of a layer, with which its files begin, from the name of its folder."""
    return ExtractionFolder(Path(folder)).stem


def _checksum(folder: str) -> str:
    """Return the checksum of a layer and its options, from the name of its folder."""
    return folder.removeprefix(f"{_stem(folder)}_")


def _disk(path: Path) -> str:
    """Return the folder on which the disk of a path is mounted."""
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)  # noqa: PTH120  # a text, as it is kept
    return place
