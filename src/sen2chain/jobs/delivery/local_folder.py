"""Delivery to a folder of this machine, which may be on a disk of the network."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import PurePath
from typing import TYPE_CHECKING

from sen2chain.atomic import replacing, sweep_temporary
from sen2chain.errors import OutputError
from sen2chain.files import is_folder
from sen2chain.jobs.delivery.retry import GoneError, IncompleteError, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.jobs.delivery.destination import Folder

_FULL = {errno.ENOSPC, errno.EDQUOT}
# Nanoseconds that file systems round times down to: local disks, Windows shares, old disks, memory cards.
_STEPS = (1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000)


def send(
    root: Path, names: Sequence[str], destination: Folder, patience: Patience, *, is_new: bool = True
) -> list[str]:
    """Copy files, except those that are there with the same size and time.

    Temporary files that killed runs left in the same folders are removed.

    A full disk ends the delivery; a file that may not be written does not keep the others from arriving.

    Returns
    -------
    list of str
        The names that were copied.

    Raises
    ------
    IncompleteError
        If not all files arrived.
    """
    if not is_new and not is_folder(destination.path):
        raise GoneError(destination)
    for folder in {(destination.path / name).parent for name in names}:
        sweep_temporary(folder)
    sent: list[str] = []
    failed: list[str] = []
    for name in names:
        if not patience.left():
            raise patience.over(destination, sent)
        try:
            if _copy(root / name, destination.path, name, is_new=is_new):
                sent.append(name)
        except (OSError, OutputError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _FULL:
                raise IncompleteError(
                    f"No room is left on the disk or in the quota of {destination} ({len(sent)} files were sent "
                    "before); free some and the next delivery sends the rest.",
                    sent,
                ) from error
            failed.append(f"{name}: {getattr(cause, 'strerror', None) or cause}")
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(names)} files cannot be copied to {destination} (the first is {failed[0]}); see to "
            "it that they can be written there and the next delivery sends the rest.",
            sent,
        )
    return sent


def _copy(source: Path, base: Path, name: str, *, is_new: bool) -> bool:
    """Copy one file with its time; False if it is there already."""
    target = base / name
    with source.open("rb") as file:
        state = os.fstat(file.fileno())  # of the file that is open, whatever replaces it meanwhile
        if _same(state, target):
            return False
        # A disk may be taken away at any moment: what is above the destination is made for the first delivery only.
        base.mkdir(parents=True, exist_ok=True) if is_new else base.stat()
        for parent in reversed(PurePath(name).parents[:-1]):
            (base / parent).mkdir(exist_ok=True)
        with replacing(target) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()  # a write after this would change the time again
            os.utime(copy.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))
    return True


def _same(state: os.stat_result, target: Path) -> bool:
    try:
        there = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    time = state.st_mtime_ns
    return there.st_size == state.st_size and there.st_mtime_ns in {time // step * step for step in _STEPS}
