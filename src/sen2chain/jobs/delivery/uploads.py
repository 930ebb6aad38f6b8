"""Delivery to what fsspec reaches: object stores, and servers of other kinds."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import is_abandoned, temporary_name
from sen2chain.jobs.delivery.destination import OBJECT_STORES
from sen2chain.jobs.delivery.retry import GoneError, IncompleteError, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.jobs.delivery.destination import Bucket

_LASTING = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def missing_package(destination: Bucket) -> str | None:
    """Return a sentence on the package that is not installed; None if all are."""
    try:
        import fsspec  # noqa: PLC0415 - few deliveries need it
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


def send(
    root: Path,
    names: Sequence[str],
    destination: Bucket,
    patience: Patience,
    *,
    is_new: bool = True,
    marks: dict[str, str] | None = None,
) -> list[str]:
    """Upload files, except those that are there with the same content.

    The content is compared by a checksum of the store, by the mark that was made when the file arrived, or else by
    reading the file; times are not compared. The time limit is checked between files; the limits of a single upload are
    those of the driver.

    Returns
    -------
    list of str
        The names that were uploaded.

    Raises
    ------
    IncompleteError
        If not all files arrived.
    """
    marks = {} if marks is None else marks
    sent: list[str] = []
    waiting = list(reversed(names))
    place: _Place | None = None
    while waiting:
        if not patience.left():
            raise patience.over(destination, sent)
        name = waiting[-1]
        try:
            if place is None:
                place = _Place(destination, is_new=is_new)
            if place.bring(root / name, name, marks):
                sent.append(name)
            waiting.pop()
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001  # drivers let through whatever their libraries raise
            sentence, passing = _understand(error, name, destination)
            if not (passing and patience.pause(sentence)):
                # A traceback would repeat what the driver says, with the password.
                said = "".join(traceback.format_exception(error))
                safe = destination.without_secrets(said) == said
                raise IncompleteError(sentence, sent) from (error if safe else None)
    return sent


class _Place:
    """A destination during one delivery, with the list of its files.

    Raises
    ------
    GoneError
        If it does not exist although files were delivered to it before.
    """

    def __init__(self, destination: Bucket, *, is_new: bool) -> None:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - few deliveries need it

        self._system, base = url_to_fs(destination.url)
        self._system.invalidate_cache()  # an earlier delivery of this process may have listed the folders
        self._base = base.rstrip("/")
        self._whole = destination.protocol in OBJECT_STORES
        self._listed: dict[str, dict[str, Any]] = {}
        if not is_new and not self._whole and self._base:
            try:
                self._system.info(self._base)
            except FileNotFoundError:
                raise GoneError(destination) from None
            except NotImplementedError:  # then it is not known
                pass

    def bring(self, source: Path, name: str, marks: dict[str, str]) -> bool:
        """Upload one file, and set its mark; False if it is there already."""
        target = f"{self._base}/{name}"
        size, checksum = source.stat().st_size, _checksum(source)
        found = self._info(target)
        if found is not None and found.get("size") == size and self._is_same(target, found, checksum, marks.get(name)):
            marks[name] = f"{checksum} {_told(found)}"
            return False
        marks.pop(name, None)
        self._upload(source, target)
        self._system.invalidate_cache()
        found = self._system.info(target)
        # Some servers refuse a rename without an error.
        if found["size"] != size:
            raise OSError(errno.EIO, f"it has {found['size']} bytes there and {size} here")
        marks[name] = f"{checksum} {_told(found)}"
        return True

    def _is_same(self, target: str, found: Mapping[str, Any], checksum: str, mark: str | None) -> bool:
        """Tell whether a file of the same size has the same content."""
        if _told(found) == checksum:
            return True
        if mark is not None:  # the file is ours, unless its checksum has changed since
            return mark == f"{checksum} {_told(found)}"
        try:
            with self._system.open(target, "rb") as file:
                return _digest(file) == checksum
        except (FileNotFoundError, PermissionError, NotImplementedError):
            return False

    def _info(self, target: str) -> dict[str, Any] | None:
        """Return the properties of a file; None without one. Its folder is listed once."""
        folder, _, name = target.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._listed[folder].get(name)

    def _list(self, folder: str) -> dict[str, Any]:
        """List the files of a folder, and remove temporary files that killed deliveries of this machine left."""
        try:
            entries = self._system.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError, NotImplementedError):
            return {}
        found = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        for name in filter(is_abandoned, found):
            with contextlib.suppress(Exception):  # it does no harm where it is
                self._system.rm_file(f"{folder}/{name}")
        return found

    def _upload(self, source: Path, target: str) -> None:
        if self._whole:
            self._system.put_file(str(source), target)
            return
        folder = target.rpartition("/")[0]
        self._system.makedirs(folder, exist_ok=True)
        part = f"{folder}/{temporary_name()}"
        try:
            self._system.put_file(str(source), part)
            _move(self._system, part, target)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is reported
                self._system.rm_file(part)
            raise


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: Any) -> str:
    """Return the MD5 of a file, the checksum of most stores; it is not a protection against forgery."""
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _told(found: Mapping[str, Any]) -> str:
    """Return the MD5 of a file at a store, or else its ETag, which changes with the content."""
    settings = found.get("content_settings")
    md5 = found.get("md5Hash") or (settings.get("content_md5") if isinstance(settings, Mapping) else None)
    if isinstance(md5, bytes | bytearray):
        return md5.hex()
    if isinstance(md5, str):
        with contextlib.suppress(ValueError):
            return base64.b64decode(md5, validate=True).hex()
    return str(found.get("ETag") or found.get("etag") or "").strip('"')


def _move(system: Any, part: str, target: str) -> None:
    """Rename a complete file, in one step where the destination can."""
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
    """Return a sentence on an error, and whether another try may succeed."""
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
    """Return the message of an error as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char for char in text if char.isprintable())[:300].rstrip(".")
