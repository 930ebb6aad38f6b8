"""Which layer's files lie at a destination, so that no other layer of the same name overwrites them.

It is kept from run to run, with the names that did not arrive: a file of a range of dates has another name the next
night, and would not be thought of again.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import check_folder, replacing
from sen2chain.errors import DeliveryError
from sen2chain.jobs.deliver import same_place
from sen2chain.store import locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sen2chain.jobs.deliver import Destination

_FILE = "destinations.json"


class Owners:
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
        return self._trouble(self._read(), destination, folder)

    def _trouble(self, owners: Mapping[str, Mapping[str, Any]], destination: Destination, folder: Path) -> str | None:
        key = place_of(destination, folder)
        owner = owners.get(key, {}).get("folder", folder.name)
        if owner == folder.name:
            return None
        return (
            f"{destination} has files of another layer {_stem(folder)} or of an earlier state of it (from {owner}), "
            "which would be overwritten; give this line another destination, or its layer's file another name, or, if "
            f'they may be replaced, remove the entry "{key}" from {self._path}.'
        )

    def claim(self, destination: Destination, folder: Path) -> list[str]:
        """Take the place for a layer, and return the names that did not arrive there before.

        Raises
        ------
        DeliveryError
            If it is another layer's.
        """
        with self._changed() as owners:
            if trouble := self._trouble(owners, destination, folder):
                raise DeliveryError(trouble)
            entry = owners.setdefault(place_of(destination, folder), {})
            entry["folder"] = folder.name
            return _names(entry)

    def expect(self, destination: Destination, folder: Path, names: Sequence[str]) -> None:
        """Note names that are being sent; until they have arrived, they are sent again, however a run ends."""
        with self._changed() as owners:
            entry = owners.setdefault(place_of(destination, folder), {})
            entry["missing"] = list(dict.fromkeys([*_names(entry), *names]))

    def arrived(self, destination: Destination, folder: Path, names: Sequence[str]) -> None:
        """Note names that have arrived."""
        with self._changed() as owners:
            if (entry := owners.get(place_of(destination, folder))) is not None:
                gone = set(names)
                entry["missing"] = [name for name in _names(entry) if name not in gone]

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise DeliveryError(
                f"{self._path} cannot be read ({error}), so nobody knows whose files lie where; mend it, or remove it."
            ) from error
        return (
            {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}
        )

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Change the file while no other job does."""
        check_folder(self._folder)
        with locked(self._folder, quiet=True):
            owners = self._read()
            before = json.dumps(owners)
            yield owners
            if json.dumps(owners) != before:
                with replacing(self._path) as file:
                    file.write(json.dumps(owners, indent=2).encode("ascii"))


def _names(entry: Mapping[str, Any]) -> list[str]:
    """Return the names that wait; what is no name inside the folder is left out."""
    listed = entry.get("missing")
    return [
        name
        for name in (listed if isinstance(listed, list) else ())
        if isinstance(name, str) and name and not name.startswith("/") and ".." not in name.split("/")
    ]


def place_of(destination: Destination, folder: Path) -> str:
    """Return what names the files of a layer at a destination: all layers of one name share it."""
    return f"{same_place(destination)} {_stem(folder)}"


def _stem(folder: Path) -> str:
    """Return what the names of a layer's files begin with, from the name of its folder."""
    return folder.name.rpartition("_")[0]
