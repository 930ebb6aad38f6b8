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

    def trouble(self, destination: Destination, stem: str, folder: Path) -> str | None:
        """Say why files of a layer may not be sent there; None if they may.

        Parameters
        ----------
        destination
            Where they go.
        stem
            What their names begin with.
        folder
            The layer's folder.
        """
        owner = self._read().get(_key(destination, stem), {}).get("folder", folder.name)
        if owner == folder.name:
            return None
        return (
            f"{destination} has files of another layer {stem} or of an earlier state of it (from {owner}), which would "
            "be overwritten; give this line another destination, or its layer's file another name, or, if they may "
            f'be replaced, remove the entry "{_key(destination, stem)}" from {self._path}.'
        )

    def claim(self, destination: Destination, stem: str, folder: Path) -> list[str]:
        """Take the place for a layer, and return the names that did not arrive there before.

        Raises
        ------
        DeliveryError
            If it is another layer's.
        """
        with self._changed() as owners:
            if trouble := self.trouble(destination, stem, folder):
                raise DeliveryError(trouble)
            entry = owners.setdefault(_key(destination, stem), {})
            entry["folder"] = folder.name
            return _names(entry)

    def expect(self, destination: Destination, stem: str, names: Sequence[str]) -> None:
        """Note names that are being sent; until they have arrived, they are sent again, however a run ends."""
        with self._changed() as owners:
            entry = owners.setdefault(_key(destination, stem), {})
            entry["missing"] = list(dict.fromkeys([*_names(entry), *names]))

    def arrived(self, destination: Destination, stem: str, names: Sequence[str]) -> None:
        """Note names that have arrived."""
        with self._changed() as owners:
            if (entry := owners.get(_key(destination, stem))) is not None:
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


def _key(destination: Destination, stem: str) -> str:
    return f"{same_place(destination)} {stem}"
