"""Cache files: tables and bytes kept between runs, written atomically, with a checksum and a limit on their total size.

Processes share them: two may write the same file at once, and a file that is dropped while another process reads it
stays readable there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import time
import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

LIMIT = 20 << 30
"""Largest total size of a folder in bytes; beyond it the least recently used files are dropped."""

_DAY = 86400.0  # a run may still need files used since then
_SEAL = 4  # bytes of the checksum at the end of a file
_AT_ONCE = 1 << 24


def save(path: Path, table: pa.Table) -> bool:
    """Write a table to a cache file, atomically.

    Parameters
    ----------
    path
        The file; its folder is created if absent.
    table
        The table.

    Returns
    -------
    bool
        Whether the file was written. A folder that cannot be written is not an error: the next run computes again.
    """

    def write(stream: BinaryIO) -> None:
        with pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
        stream.flush()
        stream.seek(0)
        checksum = 0
        while chunk := stream.read(_AT_ONCE):
            checksum = zlib.crc32(chunk, checksum)
        stream.write(checksum.to_bytes(_SEAL, "big"))

    return _save(path, write)


def save_bytes(path: Path, content: bytes) -> bool:
    """Write bytes of a format that shows truncation, such as JSON; parameters and result as for `save`."""

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    return _save(path, write)


def _save(path: Path, write: Callable[[BinaryIO], None]) -> bool:
    temporary = path.with_name(f"{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x+b") as stream:
                write(stream)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        drop_oldest(path.parent)
    except OSError:
        return False
    return True


def load(path: Path) -> pa.Table | None:
    """Map the table of a cache file into memory; None if the file is missing or its checksum is wrong."""
    try:
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    content = memoryview(mapped)
    if zlib.crc32(content[:-_SEAL]).to_bytes(_SEAL, "big") != content[-_SEAL:]:
        return None
    release(mapped)
    try:
        table = pa.ipc.open_file(pa.py_buffer(content[:-_SEAL])).read_all()
    except pa.ArrowInvalid:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the age by which files are dropped is that of their last use
    return table


def release(mapped: mmap.mmap) -> None:
    """Release the memory of the pages of a mapped file; they are read from the disk again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def drop_oldest(folder: Path, limit: int | None = None) -> None:
    """Drop the least recently used files beyond `limit` bytes (default `LIMIT`), and incomplete files of killed runs.

    Files used within a day stay, since a run may still need them.
    """
    limit = LIMIT if limit is None else limit
    now = time.time()
    kept = 0
    facts = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            status = file.stat()
            facts.append((status.st_mtime, status.st_size, file))
    for changed, size, file in sorted(facts, reverse=True):
        kept += size
        if now - changed > _DAY and (kept > limit or file.suffix == ".tmp"):
            file.unlink(missing_ok=True)
