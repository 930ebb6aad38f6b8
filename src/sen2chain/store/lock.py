"""One run at a time in the folder of a layer.

The lock is the operating system's, on a file: it ends with the process that holds it, however that ends, so that a
killed run locks nobody out. Beside it stands who holds it, for those who wait.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import filelock

from sen2chain.atomic import writing
from sen2chain.errors import StoreError
from sen2chain.progress import status
from sen2chain.settings import read_limited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"
_HOLDER = ".lock-holder"
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path, *, wait: float | None = None, quiet: bool = False) -> Iterator[None]:
    """Hold a folder for this run.

    Parameters
    ----------
    folder
        The folder; it exists.
    wait
        Seconds to wait for another run to end; None is as long as it takes.
    quiet
        Show nothing while waiting.

    Raises
    ------
    StoreError
        If another run holds the folder for longer; the message says who.
    """
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    with writing(folder / _LOCK):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = _holder_in_words(folder)
            logger.warning("Waiting for %s, which holds %s.", holder, folder)
            try:
                with status(f"waiting for {holder}, which holds {folder}", quiet=quiet):
                    lock.acquire(timeout=-1 if wait is None else wait)
            except filelock.Timeout:
                raise StoreError(
                    f"{folder} is held by {_holder_in_words(folder)}; wait until it is done, or stop it."
                ) from None
    try:
        _write_holder(folder)
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a run holds a folder now."""
    if not (folder / _LOCK).exists():
        return False
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    try:
        with lock.acquire(timeout=0):
            return False
    except (filelock.Timeout, OSError):
        return True


def held_since(folder: Path) -> datetime | None:
    """Return when the run that holds a folder began to; None where it does not say so."""
    try:
        return datetime.fromisoformat(_holder(folder)["since"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _write_holder(folder: Path) -> None:
    who = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError):  # it only serves a message
        # Whatever lies there is replaced, and a link not followed.
        (folder / _HOLDER).unlink(missing_ok=True)
        with (folder / _HOLDER).open("x", encoding="utf-8") as file:
            json.dump(who, file)


def _holder(folder: Path) -> dict[str, Any]:
    """Return what the run that holds a folder says of itself; nothing where that cannot be read."""
    try:
        who = json.loads(read_limited(folder / _HOLDER))
    except (OSError, ValueError, RecursionError):
        return {}
    return who if isinstance(who, dict) else {}


def _holder_in_words(folder: Path) -> str:
    who = _holder(folder)
    if not {"process", "host", "since"} <= who.keys():
        return "another run"
    return f"process {who['process']} on {who['host']} (since {who['since']})"
