"""Delivery registry: which layer's files lie at a destination, so that no other layer of the same name overwrites them.

It is kept from run to run, with the names that have arrived and those that did not: a file of a range of dates has
another name the next night, and would not be thought of again.
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
_PATIENCE = 60.0
"""Seconds to wait for another job, which holds the registry for an instant only."""

Entries = dict[str, dict[str, Any]]


class DeliveryRegistry:
    """The layers' folders whose files were sent, of all jobs of a home.

    Parameters
    ----------
    logs
        The folder of all logs.
    """

    def __init__(self, logs: Path) -> None:
        self._folder = logs
        self._path = logs / _FILE

    def trouble(self, destination: Destination, folder: Path) -> str | None:
        """Say why the files in a layer's folder may not be sent to a destination; None if they may.

        Raises
        ------
        DeliveryError
            If nobody knows whose files lie there.
        """
        owners = self._read()
        return self._taken(owners, destination, folder) or self._gone(owners, destination)

    def gone(self, destination: Destination) -> str | None:
        """Say that a folder of this machine is not there any more, although files were delivered to it.

        Raises
        ------
        DeliveryError
            If nobody knows that.
        """
        return self._gone(self._read(), destination)

    def _taken(self, owners: Entries, destination: Destination, folder: Path) -> str | None:
        key = place_of(destination, folder)
        owner = owners.get(key, {}).get("folder", folder.name)
        if owner == folder.name:
            return None
        whose = f"another layer {_stem(folder.name)} or of an earlier state of it"
        if ExtractionFolder(Path(str(owner))).checksum == ExtractionFolder(folder).checksum:
            whose = "this layer with another pixel rule, buffer, statistics or share"
        return (
            f"{destination} has files of {whose} (from {owner}), which would be overwritten; give this line another "
            "destination, or its layer's file another name, or, if "
            f'they may be replaced, remove the entry "{key}" from {self._path}.'
        )

    def _gone(self, owners: Entries, destination: Destination) -> str | None:
        if not isinstance(destination, Folder):
            return None
        entries = _at(owners, destination)
        # The folder on which a disk is mounted is there without the disk, too.
        lost = [entry["disk"] for entry in entries if "disk" in entry and not os.path.ismount(str(entry["disk"]))]
        if lost:
            return f"{destination} was on the disk at {lost[0]}, which is not mounted; {self._advice(destination)}"
        if entries and not is_folder(destination.path):
            return self.absent(destination)
        return None

    def absent(self, destination: Destination) -> str:
        """Say that a destination is gone, and what to do."""
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
            If nobody knows that.
        """
        return not _at(self._read(), destination)

    def claim(self, destination: Destination, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Take the place for a layer.

        Returns
        -------
        tuple
            The names that did not arrive there before, and those that have, with their marks.

        Raises
        ------
        DeliveryError
            If it is another layer's.
        StoreError
            If another job holds the registry for too long.
        """
        with self._changed() as owners:
            if taken := self._taken(owners, destination, folder):
                raise DeliveryError(taken)
            entry = owners.setdefault(place_of(destination, folder), {})
            entry["folder"] = folder.name
            return _missing(entry), _sent(entry)

    def expect(self, destination: Destination, folder: Path, names: Sequence[str]) -> None:
        """Note names that are being sent; until they have arrived, they are sent again, however a run ends."""
        with self._changed() as owners:
            entry = owners.setdefault(place_of(destination, folder), {})
            entry["missing"] = list(dict.fromkeys([*_missing(entry), *names]))

    def arrived(self, destination: Destination, folder: Path, marks: Mapping[str, str], gone: Iterable[str]) -> None:
        """Note names that have arrived, and forget those that are not here any more.

        Parameters
        ----------
        destination, folder
            As for `claim`.
        marks
            Name -> mark, see `sen2chain.jobs.delivery.deliver`.
        gone
            Names of files that are here no more.
        """
        with self._changed() as owners:
            if (entry := owners.get(place_of(destination, folder))) is None:
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
        entries = found.items() if isinstance(found, dict) else ()
        kept = ((registered(key), value) for key, value in entries if isinstance(value, dict))
        return {key: value for key, value in kept if key is not None}

    def _unreadable(self, error: Exception) -> DeliveryError:
        return DeliveryError(
            f"{self._path} cannot be read ({error}), so nobody knows whose files lie where; mend it, or remove it."
        )

    @contextlib.contextmanager
    def _changed(self) -> Iterator[Entries]:
        """Change the file while no other job does."""
        check_folder(self._folder)
        with locked(self._folder, wait=_PATIENCE, quiet=True):
            before = self._content()
            owners = self._parsed(before)
            yield owners
            after = json.dumps(owners, indent=2).encode("ascii")
            if after != before and (owners or before != b"{}"):
                with replacing(self._path) as file:
                    file.write(after)


def place_of(destination: Destination, folder: Path) -> str:
    """Return what names the files of a layer at a destination: all layers of one name share it."""
    return f"{same_place(destination)} {_stem(folder.name)}"


def _at(owners: Entries, destination: Destination) -> list[dict[str, Any]]:
    """Return the entries of a destination to which something was delivered, of whatever layer."""
    place = same_place(destination)
    return [
        entry
        for key, entry in owners.items()
        if key == f"{place} {_stem(str(entry.get('folder')))}"
        and (entry["sent"] if "sent" in entry else _is_old(entry))
    ]


def _is_old(entry: Mapping[str, Any]) -> bool:
    """Tell whether everything had arrived when a former version, which listed only what had not, wrote an entry."""
    return entry.get("missing") == []


def _missing(entry: Mapping[str, Any]) -> list[str]:
    """Return the names that wait."""
    listed = entry.get("missing")
    return list(filter(_is_name, listed if isinstance(listed, list) else ()))


def _sent(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that have arrived, with their marks."""
    listed = entry.get("sent")
    pairs = listed.items() if isinstance(listed, dict) else ()
    return {name: mark for name, mark in pairs if _is_name(name) and isinstance(mark, str)}


def _is_name(name: object) -> bool:
    """Tell whether something is a name inside the folder; anybody may have written it into the file."""
    if not isinstance(name, str) or not name or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name):
        return False
    return not {"", ".", ".."} & set(name.split("/"))


def _stem(folder: str) -> str:
    """Return what the names of a layer's files begin with, from the name of its folder."""
    return ExtractionFolder(Path(folder)).stem


def _disk(path: Path) -> str:
    """Return the folder on which the disk of a path is mounted."""
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)  # noqa: PTH120  # a text, as it is kept
    return place
