"""The bytes of an archive's files, plain or in a zip file; never without a limit."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_ERRORS = (OSError, LookupError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a file, plain or zipped, can raise."""

LARGEST = 64 << 20
"""Bytes of metadata that are read; ESA's have less than one megabyte."""


def read_whole(location: str, largest: int = LARGEST) -> bytes:
    """Read a file that should be small.

    Parameters
    ----------
    location
        Path of the file; ``/vsizip/<archive>.zip/<path inside>`` in a zipped product.
    largest
        Bytes that it may have.

    Raises
    ------
    ValueError
        If it is larger, also when it is unpacked.
    OSError, zipfile.BadZipFile, ...
        If it cannot be read: one of `READ_ERRORS`.
    """
    with opened(location) as (file, size):
        # What a zip file says of a size may be wrong, and a file may grow.
        content = file.read(largest + 1) if size <= largest else b""
    if size > largest or len(content) > largest:
        raise ValueError(f"it has more than {largest >> 20} MB")
    return content


@contextlib.contextmanager
def opened(location: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file for reading; gives it with its size in bytes, unpacked, as its folder says.

    Parameters
    ----------
    location
        As for `read_whole`.

    Raises
    ------
    OSError, zipfile.BadZipFile, ...
        If it cannot be opened: one of `READ_ERRORS`.
    """
    if not location.startswith("/vsizip/"):
        with _opened_regular(location) as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    archive, inside = split_zip(location)
    with _opened_regular(archive) as file, zipfile.ZipFile(file) as unzipped:
        entry = unzipped.getinfo(inside)
        with unzipped.open(entry) as member:
            yield cast("BinaryIO", member), entry.file_size


def split_zip(location: str) -> tuple[str, str]:
    """Take a location in a zip file apart: the zip file, and the path inside.

    Raises
    ------
    FileNotFoundError
        If there is no such zip file.
    """
    path = location.removeprefix("/vsizip/")
    # As GDAL does: the archive ends at the first ".zip" that is a file, since folders may be called so too.
    for match in re.finditer(r"\.zip(?=/)", path, re.IGNORECASE):
        if os.path.isfile(path[: match.end()]):  # noqa: PTH113  # paths are texts here
            return path[: match.end()], path[match.end() + 1 :]
    raise FileNotFoundError("there is no such archive")


def check_regular(path: str) -> None:
    """Make sure that a path is that of a file on disk; a pipe or a device can keep a reader for ever.

    Raises
    ------
    OSError
        If it is not.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError("it is a pipe, a socket or a device and not a file")


def _opened_regular(path: str) -> BinaryIO:
    check_regular(path)
    return open(path, "rb")  # noqa: PTH123  # the caller closes it
