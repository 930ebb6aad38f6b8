"""The bytes of an archive's files, plain or in a zip file; never without a limit."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from sen2chain.files import is_file, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python lack it, and then no zip file is read with it
    LZMAError = zipfile.BadZipFile  # type: ignore[assignment, misc]

READ_ERRORS = (OSError, LookupError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)
"""What reading a file raises, plain or zipped, whole or cut or overwritten."""

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
        If it is larger, also when it is unpacked, or empty.
    OSError, zipfile.BadZipFile, ...
        If it cannot be read: one of `READ_ERRORS`.
    """
    with opened(location) as (file, size):
        return _limited(file, size, largest)


def read_member(archive: zipfile.ZipFile, inside: str) -> bytes:
    """Read a file that should be small from an open zip file.

    Parameters
    ----------
    archive
        The zip file.
    inside
        Path of the file in it.

    Raises
    ------
    ValueError, KeyError, zipfile.BadZipFile, ...
        As for `read_whole`.
    """
    entry = archive.getinfo(inside)
    with archive.open(entry) as member:
        return _limited(cast("BinaryIO", member), entry.file_size, LARGEST)


def _limited(file: BinaryIO, size: int, largest: int) -> bytes:
    """Read a whole file, whose stated size may be wrong: a zip file may lie, and a file may grow."""
    content = file.read(largest + 1) if size <= largest else b""
    if size > largest or len(content) > largest:
        raise ValueError(f"it has more than {largest >> 20} MB")
    if not content:
        raise ValueError("it is empty")
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
        with open_regular(location) as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    archive, inside = split_zip(location)
    with open_regular(archive) as file, zipfile.ZipFile(file) as unzipped:
        entry = unzipped.getinfo(inside)
        with unzipped.open(entry) as member:
            yield cast("BinaryIO", member), entry.file_size


def why(error: Exception) -> str:
    """Return what an error of reading says, without its number and the path, which the sentence around it names."""
    return str(getattr(error, "strerror", None) or error)


def file_of(location: str) -> str:
    """Return the file on disk that a location lies in: the zip file of a zipped product.

    Raises
    ------
    FileNotFoundError
        If there is no such zip file.
    """
    return split_zip(location)[0] if location.startswith("/vsizip/") else location


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
        if is_file(path[: match.end()]):
            return path[: match.end()], path[match.end() + 1 :]
    raise FileNotFoundError("there is no such archive")
