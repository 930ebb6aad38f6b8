"""Delivery of compiled files to a server, a folder of this machine, or a place that fsspec reaches.

`destination` parses what users write. `rsync`, `local_folder` and `uploads` are the three ways of delivery; `retry` has
their time limit and errors. A file gets its name at the destination when it is complete, and files that have not
changed are not sent.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sen2chain.errors import DeliveryError
from sen2chain.files import absolute
from sen2chain.jobs.delivery import local_folder, rsync, uploads
from sen2chain.jobs.delivery.destination import (
    Bucket,
    Destination,
    Folder,
    Remote,
    hidden,
    looks_like_login,
    parse_destination,
    registered,
    same_place,
)
from sen2chain.jobs.delivery.retry import GoneError, IncompleteError, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CONTROL = re.compile("[\x00-\x1f\x7f]")

PAUSES = (5.0, 30.0, 120.0)
"""Seconds before a broken delivery is tried again."""

__all__ = [
    "PAUSES",
    "Bucket",
    "Delivered",
    "Destination",
    "Folder",
    "GoneError",
    "IncompleteError",
    "Remote",
    "deliver",
    "hidden",
    "looks_like_login",
    "parse_destination",
    "ready",
    "registered",
    "same_place",
]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery after which every file is at its destination."""

    destination: Destination
    sent: list[str] = field(default_factory=list)
    """Names that were sent, in the order they were given."""
    unchanged: int = 0
    """How many files were there already."""
    seconds: float = 0.0
    """How long it took."""

    def __str__(self) -> str:
        count = len(self.sent)
        return f"{count} file{'' if count == 1 else 's'} sent to {self.destination}, {self.unchanged} unchanged."


def deliver(
    root: Path,
    names: Sequence[str],
    destination: Destination | str,
    *,
    is_new: bool = True,
    marks: dict[str, str] | None = None,
    time_limit: float = 3600,
    pauses: Sequence[float] = PAUSES,
    on_retry: Callable[[str], None] | None = None,
) -> Delivered:
    """Send files that have changed to a destination, under the same relative names.

    Parameters
    ----------
    root
        The folder of the files.
    names
        Their names relative to it, with ``/``. Without names no server is asked.
    destination
        From `parse_destination`, or the text for it.
    is_new
        Whether nothing was delivered there before, so that a missing folder is made; object stores have no folders.
    marks
        Name -> mark that a store's file got when it arrived, by which its content is known without reading it; updated
        by the delivery.
    time_limit
        Seconds for everything.
    pauses
        Seconds before each further try, after failures of the connection.
    on_retry
        Called before each pause with a sentence on its reason.

    Raises
    ------
    DeliveryError
        If not all files arrived. An `IncompleteError` has `sent`, names that arrived nevertheless; a `GoneError` says
        that the destination does not exist any more.
    """
    start = time.monotonic()
    if isinstance(destination, str):
        destination = parse_destination(destination)
    root = absolute(root)
    names = _checked(root, names)
    if not names:
        return Delivered(destination)
    if reason := ready(destination):
        raise DeliveryError(reason)
    patience = Patience(time_limit, pauses, on_retry)
    match destination:
        case Remote():
            sent = rsync.send(root, names, destination, patience, is_new=is_new)
        case Folder():
            sent = local_folder.send(root, names, destination, patience, is_new=is_new)
        case Bucket():
            sent = uploads.send(root, names, destination, patience, is_new=is_new, marks={} if marks is None else marks)
    return Delivered(destination, sent, len(names) - len(sent), time.monotonic() - start)


def ready(destination: Destination) -> str | None:
    """Return a sentence on a program or package that a destination needs and this machine lacks, or None."""
    match destination:
        case Remote():
            return rsync.missing_program()
        case Bucket():
            return uploads.missing_package(destination)
        case Folder():
            return None


def _checked(root: Path, names: Iterable[str]) -> list[str]:
    """Return the names once each, after a check of every name.

    Raises
    ------
    DeliveryError
        If a name leads out of the folder, cannot be sent, or is not that of a file.
    """
    unique = list(dict.fromkeys(names))
    for name in unique:
        if _CONTROL.search(name):
            raise DeliveryError(f"The file {name!r} has a control character in its name; rename it.")
        # The path's own text has neither empty parts nor '.', both of which mean something to rsync.
        path = PurePosixPath(name)
        if not name or str(path) != name or path.is_absolute() or {".", ".."} & set(path.parts):
            raise DeliveryError(
                f"{name!r} is not the name of a file in {root}; give plain names relative to that folder."
            )
        try:
            there = os.path.isfile(root / name)  # noqa: PTH113 - False, no error, behind a locked folder
            os.fsencode(name)
        except ValueError:
            there = False
        if not there:
            raise DeliveryError(f"{name!r} is not a file in {root}; it may have been removed, so compile again.")
    return unique
