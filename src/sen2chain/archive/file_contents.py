"""Contents of an archive's files, plain or in a zip file, read with a size limit."""

from __future__ import annotations

import contextlib
import functools
import os
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from sen2chain.files import open_regular, split_zip

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python lack it, and then no zip file is read with it
    LZMAError = zipfile.BadZipFile  # type: ignore[assignment, misc]

READ_ERRORS = (OSError, LookupError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)
"""Errors that reading a file can raise: plain or zipped, cut or overwritten."""

LARGEST = 64 << 20
"""Largest size in bytes of a metadata file; ESA's have less than one megabyte."""


def read_whole(location: str, largest: int = LARGEST) -> bytes:
    """Read a small file.

    Parameters
    ----------
    location
        Path of the file; ``/vsizip/<archive>.zip/<path inside>`` in a zipped product.
    largest
        Largest size in bytes.

    Raises
    ------
    ValueError
        If it is larger (unpacked, in a zip file), or empty.
    OSError, zipfile.BadZipFile, ...
        If it cannot be read: one of `READ_ERRORS`.
    """
    with opened(location) as (file, size):
        return _limited(file, size, largest)


def read_member(archive: zipfile.ZipFile, inside: str) -> bytes:
    """Read a small file from an open zip file.

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
    """Open a file for reading, together with its size in bytes; in a zip file, the unpacked size that it states.

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


def size_of(location: str) -> int | None:
    """Return the bytes of a file, of one in a zip file those that its directory states; None where none are known."""
    try:
        facts = os.stat(file_of(location))  # noqa: PTH116  # thousands of texts
        if not location.startswith("/vsizip/"):
            return facts.st_size
        archive, inside = split_zip(location)
        return _sizes(archive, facts.st_size, facts.st_mtime_ns).get(inside)
    except READ_ERRORS:
        return None


@functools.lru_cache(maxsize=8)
def _sizes(archive: str, size: int, changed: int) -> dict[str, int]:  # noqa: ARG001  # another file has other sizes
    """Return the unpacked sizes of the files in a zip file."""
    with open_regular(archive) as file, zipfile.ZipFile(file) as unzipped:
        return {entry.filename: entry.file_size for entry in unzipped.infolist()}


def why(error: Exception) -> str:
    """Return the message of a read error without its number and path, for use in a sentence that names the path."""
    return str(getattr(error, "strerror", None) or error)


def file_of(location: str) -> str:
    """Return the file on disk of a location: itself, or the zip file that it lies in.

    Raises
    ------
    FileNotFoundError
        If there is no such zip file.
    """
    return split_zip(location)[0] if location.startswith("/vsizip/") else location
