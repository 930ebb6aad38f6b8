"""Atomic writing of files: a file appears under its final name only when it is complete.

A file is written under a temporary name in the same folder, synced to the disk, and renamed; then the folder is synced,
so that the new name survives a power cut, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import filecmp
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Self

from sen2chain.errors import OutputError
from sen2chain.files import is_file, is_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

# The name holds the machine and the process that write the file; files of the first version lack both.
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}(?:-(?P<place>[0-9a-f]{8})-(?P<process>[0-9]{1,10}))?\.tmp")
NAME_MAX = 255
"""Largest length of a file name in bytes, on almost all file systems."""

_LONGEST_WRITE = 86400
"""Age in seconds from which an incomplete file counts as abandoned, whichever machine wrote it."""


@contextlib.contextmanager
def replacing(path: Path, beside: Mapping[Path, bytes] | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its final name when the block ends without an error.

    Parameters
    ----------
    path
        Final name; an existing file is replaced as a whole.
    beside
        Further files with their content, which take their names just before.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final names has changed then.
    """
    beside = beside or {}
    data = temporary(path)
    notes = {place: temporary(place) for place in beside}
    for place in (path, *notes):
        with writing(place):
            if is_folder(place):  # else it would be found out when a part of the files has its final name
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    try:
        with writing(path):
            file = data.open("xb")
        try:
            yield file
            with writing(path):
                sync(file)
        finally:
            # After a failed write the disk is full for the last bytes too; the first error is the one to tell.
            with contextlib.suppress(OSError):
                file.close()
        with writing(path):
            for place, note in notes.items():
                with note.open("xb") as side:
                    side.write(beside[place])
                    sync(side)
            for place, note in notes.items():
                note.replace(place)
            data.replace(path)
            sync_folder(path.parent)
    finally:
        for leftover in (data, *notes.values()):
            leftover.unlink(missing_ok=True)


class FileGroup:
    """A group of files on one disk that take their final names together, when all are complete.

    Use it as a context manager and call `finish` for each group; without that call no file is left. Files are not kept
    open, so a group may have thousands.

    Contents are on the disk before files take their names, in one step for all files of a group. Names that replace a
    former file are on the disk when `finish` returns, names of new files when the context ends. (A new file whose name
    is lost in a power cut is missing, and what is missing is made again.)

    Parameters
    ----------
    root
        A folder that all files are in, at any depth.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parts: dict[Path, Path] = {}
        self._folders: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for part in self._parts.values():
            part.unlink(missing_ok=True)
        # The first error is the one to tell.
        with contextlib.suppress(OutputError) if error[0] else contextlib.nullcontext(), writing(self._root):
            sync_folders(self._root, self._folders)

    def append(self, path: Path, content: bytes | memoryview) -> None:
        """Add to the end of a file, which is begun with its folder where there is none.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written.
        """
        with writing(path):
            if path not in self._parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._parts[path] = temporary(path)
            with self._parts[path].open("ab") as file:
                file.write(content)

    def finish(self) -> None:
        """Give all files of the group their names; what is appended afterwards begins another group.

        Raises
        ------
        OutputError
            If a file cannot be written; those that took their names before it are complete.
        """
        with writing(next(iter(self._parts), self._root)):
            sync_all(self._root, [*self._parts.values()])
        replaced: set[Path] = set()
        for path, part in self._parts.items():
            (replaced if path.exists() else self._folders).add(path.parent)
            with writing(path):
                part.replace(path)
        self._parts.clear()
        with writing(self._root):
            sync_folders(self._root, replaced)


def temporary(path: Path) -> Path:
    """Return an unused temporary path in the folder of `path`."""
    # Not named after `path`, whose name may be as long as the file system allows.
    return path.with_name(temporary_name())


def temporary_name() -> str:
    """Return a name for an incomplete file; it contains the machine and the process that write it."""
    return f".{secrets.token_hex(8)}-{_here()}-{os.getpid()}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a name is that of an incomplete file."""
    return _TEMPORARY.fullmatch(name) is not None


def is_abandoned(name: str, age: float = 0.0) -> bool:
    """Whether a name is that of an incomplete file whose writer has ended.

    Parameters
    ----------
    name
        The name, without its folder.
    age
        Seconds since its last change; 0 if unknown.
    """
    found = _TEMPORARY.fullmatch(name)
    if found is None:
        return False
    return age > _LONGEST_WRITE or (found["place"] == _here() and not _is_alive(int(found["process"])))


def sweep_temporary(folder: Path) -> None:
    """Remove incomplete files of killed runs from a folder; files that are being written, on any machine, stay."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # another run sweeps too
        for entry in entries:
            if is_temporary(entry.name) and is_abandoned(entry.name, time.time() - entry.stat().st_mtime):
                Path(entry.path).unlink(missing_ok=True)


def remove_unneeded(path: Path) -> OSError | None:
    """Remove a file that is not needed any more; where it stays, for a later run to remove, return the error."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


@functools.cache
def _here() -> str:
    """Return an identifier of this machine, its current boot and its process namespace, 8 hex digits."""
    told = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on every system
        told.append(Path("/proc", "sys", "kernel", "random", "boot_id").read_text("ascii"))
        told.append(str(Path("/proc", "self", "ns", "pid").readlink()))
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere the question would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is somebody else's
    with contextlib.suppress(OSError):  # not on every system
        # A killed process stays in the list until its parent asks for it, which in a container may be never.
        state = Path("/proc", str(process), "stat").read_bytes().rpartition(b")")[2].split()[:1]
        return state not in ([b"Z"], [b"X"])
    return True


def check_folder(path: Path) -> Path:
    """Create a folder for results (with its parents) and check that it can be written, before work starts.

    Incomplete files of killed runs are removed from it.

    Raises
    ------
    OutputError
        If it cannot be created or written, or the disk is full.
    """
    folder = Path(path).expanduser()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name, where the system can do that, so that not even a killed run leaves it behind.
        with tempfile.TemporaryFile(dir=folder) as file:
            # A full disk still takes the name of an empty file, and only the sync tells.
            file.write(bytes(4096))
            sync(file)
    sweep_temporary(folder)
    return folder


def free_bytes(folder: Path) -> int:
    """Return the room that is left on the disk of a folder."""
    return shutil.disk_usage(folder).free


def sync(file: IO[bytes]) -> None:
    """Wait until a file's content is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_all(folder: Path, files: Sequence[Path]) -> None:
    """Wait until the contents of several files are on the disk, with one call where the system has it.

    Parameters
    ----------
    folder
        A folder on the disk that holds all of the files.
    files
        The files, none of them open.
    """
    if len(files) > 1 and _sync_disk(folder):
        return
    for path in files:
        with path.open("rb+") as file:
            sync(file)


def sync_folders(folder: Path, folders: Collection[Path]) -> None:
    """Wait until the names in several folders are on the disk; the parameters are those of `sync_all`."""
    if len(folders) < 2 or not _sync_disk(folder):
        for path in folders:
            sync_folder(path)


def _sync_disk(folder: Path) -> bool:
    """Sync the disk of a folder with Linux's ``syncfs``; False where that is missing or cannot report errors."""
    syncfs = _syncfs()
    if syncfs is None:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        if syncfs(descriptor) == 0:
            return True
        code = ctypes.get_errno()
    finally:
        os.close(descriptor)
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
        raise OSError(code, os.strerror(code), str(folder))
    return False


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """Linux's ``syncfs``, from kernel 5.8 on, where it reports failed writes; None elsewhere."""
    if sys.platform != "linux":
        return None
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if version is None or (int(version[1]), int(version[2])) < (5, 8):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some network file systems sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into an `OutputError` of one sentence; only writes belong into the block."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise OutputError(f"No room is left on the disk for {path}; free some or choose another folder.") from error
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {path} ({reason}); choose a folder that can be written.") from error


_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
"""Errors of `os.link` that mean another disk, or a file system without hard links."""


def move_to_new_name(path: Path, target: Path) -> None:
    """Move a file to a name that is not taken, on any disk; folders are made. A file that is there is never replaced.

    A move that was killed half-way is completed: where the target has the same content, the old name is removed.

    Parameters
    ----------
    path
        The file; a link is not moved, since it may name its file by a path that holds in its folder only.
    target
        The new name.

    Raises
    ------
    OutputError
        If it cannot be moved; then it is where it was.
    """
    if path.is_symlink():
        raise OutputError(f"{path} is a link, and stays where it is.")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name.casefold() == path.name.casefold() and target.parent.samefile(path.parent):
            # By another path, or in another case: the file would be compared with itself, and removed.
            raise OutputError(f"{path} and {target} are the same place, so the file stays where it is.")
        try:
            os.link(path, target)
        except FileExistsError:
            if not is_file(target) or not filecmp.cmp(path, target, shallow=False):
                raise OutputError(f"{target} is there already, so {path} stays where it is.") from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _copy_to_new_name(path, target)
        sync_folder(target.parent)
    with writing(path):
        try:
            path.unlink()
        except OSError:
            target.unlink(missing_ok=True)  # the file is in one place, its old one
            raise
        sync_folder(path.parent)


def _copy_to_new_name(path: Path, target: Path) -> None:
    """Copy a file with its times to a name that is not taken."""
    part = temporary(target)
    try:
        with path.open("rb") as old, part.open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            sync(new)
        shutil.copystat(path, part)
        try:
            os.link(part, target)
        except FileExistsError:
            raise OutputError(f"{target} is there already, so {path} stays where it is.") from None
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(target):
                raise
            part.rename(target)
    finally:
        part.unlink(missing_ok=True)
