"""Paths and files from outside the package: absolute paths, type checks, and reading with a size limit."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.errors import RequestError, quoted

if TYPE_CHECKING:
    from io import BufferedReader

# In each encoding that expat reads: UTF-16, and those that spell ASCII as ASCII.
_DOCUMENT_TYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))
_COARSEST_TIME = 2.0  # seconds; resolution of modification times on the coarsest file systems


def absolute(path: str | Path, start: Path | None = None) -> Path:
    """Expand ``~`` and make a path absolute, relative to `start` (default: the current folder).

    Raises
    ------
    RequestError
        If `path` is not a path, or the current folder does not exist any more.
    """
    try:
        text = os.fsdecode(path)
        os.fsencode(text)
    except (TypeError, UnicodeError):
        raise RequestError(
            f"{quoted(path)} is not the path of a file or a folder; pass a text or a pathlib.Path."
        ) from None
    if "\0" in text:
        raise RequestError(f"{quoted(text)} is not a path, which has no null character; mend it.")
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # "~name" without such a user is then a folder that does not exist
        path = path.expanduser()
    if path.is_absolute():
        return path
    try:
        return (start or Path.cwd()) / path
    except FileNotFoundError:
        raise RequestError(
            f"The current folder is gone, so {text!r} cannot be found; pass it from the root on."
        ) from None


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a folder, or a link to a folder, that this user can reach."""
    return os.path.isdir(path)  # noqa: PTH112 - unlike Path.is_dir it is False, no error, behind a locked folder


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a file, or a link to a file, that this user can reach."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading; pipes, sockets and devices, which can block for ever, are refused.

    Raises
    ------
    OSError
        If it is not a regular file, or cannot be opened.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116  # locations are texts
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device and not a file")
    return open(path, "rb")  # noqa: PTH123  # the caller closes it


def split_zip(location: str) -> tuple[str, str]:
    """Split a location in a zip file, ``/vsizip/<archive>.zip/<path inside>``, into the zip file and the path inside.

    Raises
    ------
    FileNotFoundError
        If there is no such zip file.
    """
    path = location.removeprefix("/vsizip/")
    # As GDAL does: the archive ends at the first ".zip" that is a file, since folders may be called so too.
    for match in re.finditer(r"\.zip(?=/)", path, re.IGNORECASE):
        if is_file(path[: match.end()]):
            return path[: match.end()], path[match.end() + 1 :]
    raise FileNotFoundError("there is no such archive")


def read_limited(path: str | os.PathLike[str], largest: int = 1 << 20) -> bytes:
    """Read a whole file, up to a size limit.

    Parameters
    ----------
    path
        The file.
    largest
        Largest size in bytes.

    Raises
    ------
    OSError
        If it is not a regular file, is larger than `largest`, or cannot be read.
    """
    content = bytearray()
    with open_regular(path) as file:
        while part := file.read(1 << 20):  # asked for at once, memory for the largest file would be taken
            content += part
            if len(content) > largest:
                raise OSError(errno.EFBIG, f"it has more than {largest >> 20} MB")
    return bytes(content)


def has_document_type(document: bytes) -> bool:
    """Tell whether XML has a document type, which alone can define entities that grow or name other files."""
    return any(doctype in document for doctype in _DOCUMENT_TYPES)


def is_young(facts: os.stat_result) -> bool:
    """Whether a file changed so recently that a second change could leave its modification time the same."""
    return time.time() - facts.st_mtime < _COARSEST_TIME
