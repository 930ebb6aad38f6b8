"""The lock of a layer's folder: one run at a time.

The lock is the operating system's, on a file: it ends with the process that holds it, so that a killed run locks nobody
out. A second file names the process that holds the folder, for the messages of waiting runs.

On file systems without such locks, a file that exists while the folder is held takes their place. A killed run may
leave it behind, so waiting has an end there, and the error names the file. This module decides between the two: some
versions of filelock switch by themselves with a warning, and others raise NotImplementedError.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import writing
from sen2chain.errors import StoreError
from sen2chain.files import read_limited
from sen2chain.parallel import recorded_warnings
from sen2chain.progress import activity

with recorded_warnings():  # its remark on systems without locks, which `file_lock` says itself
    import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"
_HOLDER = ".lock-holder"
_SOFT = "-soft"  # a file of its own: that of the system's lock stays when it is released
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP}
_SOFT_PATIENCE = 3600.0
"""Seconds to wait at most for a run that may have been killed."""
_LOOK = 2.0
"""Seconds between two looks whether the process that holds such a file still lives."""
_told: set[Path] = set()
logger = logging.getLogger(__name__)


def file_lock(path: Path) -> filelock.BaseFileLock:
    """Return the lock that a file stands for: the system's, or a file beside it where there are none.

    The latter is said once for each file.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    cause = _without_locks(path)
    if cause is None:
        return filelock.FileLock(path, thread_local=False)
    soft = path.with_name(path.name + _SOFT)
    if path not in _told:
        _told.add(path)
        logger.warning(
            "%s has no file locks (%s); %s takes their place, and has to be removed if a killed run leaves it.",
            path.parent, cause, soft.name,
        )  # fmt: skip
    return filelock.SoftFileLock(soft, thread_local=False)


def if_left(lock: filelock.BaseFileLock) -> str:
    """Return the advice to remove a lock file that a killed process left; empty where the lock is the system's."""
    if not isinstance(lock, filelock.SoftFileLock):
        return ""
    return f", or, if it is not running any more, remove {lock.lock_file}"


def _without_locks(path: Path) -> str | None:
    """Return why the file system of a file has no locks; None where it has locks."""
    if sys.platform == "win32":
        return None
    try:
        from fcntl import LOCK_UN, flock  # noqa: PLC0415  # not every system has them
    except ImportError:
        return "this system knows none"
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        flock(number, LOCK_UN)  # which releases nothing, as nothing is held by this number
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return os.strerror(error.errno)
    finally:
        os.close(number)
    return None


@contextlib.contextmanager
def locked(folder: Path, *, wait: float | None = None, quiet: bool = False) -> Iterator[None]:
    """Hold a folder for this run.

    Parameters
    ----------
    folder
        The folder; it exists.
    wait
        Seconds to wait for another run to end; None waits without limit.
    quiet
        Show nothing while waiting.

    Raises
    ------
    StoreError
        If another run holds the folder for longer; the message says who.
    """
    with writing(folder / _LOCK):
        lock = file_lock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = _holder_in_words(folder)
            logger.warning("Waiting for %s, which holds %s.", holder, folder)
            try:
                with activity(f"waiting for {holder}, which holds {folder}", quiet=quiet):
                    _acquire(lock, folder, wait)
            except filelock.Timeout:
                raise StoreError(
                    f"{folder} is held by {_holder_in_words(folder)}; wait until it is done, or stop it{if_left(lock)}."
                ) from None
    try:
        _write_holder(folder)
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a run holds a folder now."""
    if not any((folder / name).exists() for name in (_LOCK, _LOCK + _SOFT)):
        return False
    try:
        with file_lock(folder / _LOCK).acquire(timeout=0):
            return False
    except (filelock.Timeout, OSError):
        return True


def held_since(folder: Path) -> datetime | None:
    """Return when the folder was locked; None where that is not known."""
    try:
        return datetime.fromisoformat(_holder(folder)["since"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _acquire(lock: filelock.BaseFileLock, folder: Path, wait: float | None) -> None:
    """Wait for a lock, but with a limit for a lock file that a killed run may have left.

    Raises
    ------
    filelock.Timeout
        If it is held for longer, or by a process that is not there.
    """
    if not isinstance(lock, filelock.SoftFileLock):
        lock.acquire(timeout=-1 if wait is None else wait)
        return
    end = time.monotonic() + min(_SOFT_PATIENCE if wait is None else wait, _SOFT_PATIENCE)
    while True:
        left = max(end - time.monotonic(), 0)
        try:
            lock.acquire(timeout=min(left, _LOOK))
        except filelock.Timeout:
            if left <= _LOOK or _is_dead(_holder(folder)):
                raise
        else:
            return


def _is_dead(who: dict[str, Any]) -> bool:
    """Tell whether a process was one of this machine, and has ended."""
    if who.get("host") != socket.gethostname():
        return False
    try:
        os.kill(who["process"], 0)  # which sends nothing; on Windows locks are the system's
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, OverflowError):
        return False
    return False


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
    """Return process, host and time of the run that holds a folder; empty where that cannot be read."""
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
