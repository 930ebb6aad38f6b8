"""Files to places that fsspec reaches: object stores, and servers of other kinds."""

from __future__ import annotations

import contextlib
import errno
import secrets
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sen2chain.jobs.deliver.attempt import IncompleteError, Patience
from sen2chain.jobs.deliver.destination import OBJECT_STORES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.jobs.deliver.destination import Bucket

_LASTING = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def missing_package(destination: Bucket) -> str | None:
    """Say which package is not installed here; None if none is missing."""
    try:
        import fsspec  # noqa: PLC0415 - only whoever delivers there pays for it
        from fsspec.registry import known_implementations  # noqa: PLC0415
    except ImportError:
        return f"{destination} is reached with fsspec, which is not installed; install it with 'pip install fsspec'."
    protocol = destination.protocol
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = (
            known_implementations[protocol]["class"].partition(".")[0] if protocol in known_implementations else ""
        )
        if package in {"", "fsspec"}:
            asked = destination.without_secrets(_line(error))
            return f"{destination} needs a package that is not installed; install what it asks for ({asked})."
        return (
            f"{destination} is reached with {package}, which is not installed; install it with 'pip install {package}'."
        )
    except ValueError:
        return (
            f"{destination} begins with {protocol}://, which fsspec does not know; write one of its own, such as s3://."
        )
    return None


def send(root: Path, names: Sequence[str], destination: Bucket, patience: Patience) -> list[str]:
    """Upload files, except those that are there with the same size and were put there after their last change.

    The time limit is looked at between files; a single upload ends by the limits of the driver.

    Returns
    -------
    list of str
        The names that were uploaded.

    Raises
    ------
    IncompleteError
        If not all files arrived.
    """
    from fsspec.core import url_to_fs  # noqa: PLC0415 - only whoever delivers there pays for it

    sent: list[str] = []
    waiting = list(reversed(names))
    place: tuple[Any, str] | None = None
    while waiting:
        if not patience.left():
            raise patience.over(destination, sent)
        name = waiting[-1]
        try:
            if place is None:
                place = url_to_fs(destination.url)
                place[0].invalidate_cache()  # an earlier delivery of this process may have listed the folders
            system, base = place
            if _upload(system, root / name, f"{base.rstrip('/')}/{name}", whole=destination.protocol in OBJECT_STORES):
                sent.append(name)
            waiting.pop()
        except Exception as error:  # noqa: BLE001  # drivers let through whatever their libraries raise
            sentence, passing = _understand(error, name, destination)
            if not (passing and patience.pause(sentence)):
                # A traceback would repeat what the driver says, with the password.
                said = "".join(traceback.format_exception(error))
                safe = destination.without_secrets(said) == said
                raise IncompleteError(sentence, sent) from (error if safe else None)
    return sent


def _upload(system: Any, source: Path, target: str, *, whole: bool) -> bool:
    """Upload one file; False if it is there already."""
    state = source.stat()
    if _same(system, target, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC)):
        return False
    if whole:
        system.put_file(str(source), target)
        return True
    folder = target.rpartition("/")[0]
    system.makedirs(folder, exist_ok=True)
    part = f"{folder}/.{secrets.token_hex(8)}.tmp"
    try:
        system.put_file(str(source), part)
        _move(system, part, target)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            system.rm_file(part)
        raise
    # Some servers answer no to a rename without an error.
    if (size := system.info(target)["size"]) != state.st_size:
        raise OSError(errno.EIO, f"it has {size} bytes there and {state.st_size} here")
    return True


def _same(system: Any, target: str, size: int, changed: datetime) -> bool:
    """Tell whether a file is there already; where the place knows no times it is not."""
    try:
        if system.info(target)["size"] != size:
            return False
        there: datetime = system.modified(target)
    except (FileNotFoundError, NotImplementedError):
        return False
    return (there if there.tzinfo else there.replace(tzinfo=UTC)) >= changed


def _move(system: Any, part: str, target: str) -> None:
    """Give a complete file its name, with one step where the place has one."""
    from fsspec import AbstractFileSystem  # noqa: PLC0415 - as in `send`

    if type(system).mv is AbstractFileSystem.mv:
        # What fsspec would do too, but it takes '*' and '[' in a name for a pattern.
        system.cp_file(part, target)
        system.rm_file(part)
        return
    try:
        system.mv(part, target)
    except FileExistsError:
        system.rm_file(target)
        system.mv(part, target)


def _understand(error: Exception, name: str, destination: Bucket) -> tuple[str, bool]:
    """Turn an error into a sentence, and tell whether it may pass by itself."""
    passing = False
    if isinstance(error, OSError) and error.errno in _FULL:
        what = f"No room is left for {name} in {destination}; free some there and deliver again"
    elif isinstance(error, PermissionError):
        what = f"{name} may not be written to {destination}; check the credentials and the rights there"
    elif isinstance(error, NotImplementedError):
        what = f"{destination} cannot be written, only read; choose another destination"
    elif isinstance(error, OSError) and not isinstance(error, _LASTING):
        what = f"{name} cannot be sent to {destination} now; check the network, and the next delivery sends the rest"
        passing = True
    else:
        what = f"{name} cannot be sent to {destination}; check that the place exists and that the credentials are right"
    reason = destination.without_secrets(_line(error))
    return f"{what} ({reason})." if reason else f"{what}.", passing


def _line(error: Exception) -> str:
    """Return what an error says, as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char for char in text if char.isprintable())[:300].rstrip(".")
