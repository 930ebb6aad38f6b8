"""Bytes of a raster's file at any offset: of a file on disk, or of a file stored or deflated in a zip file."""

from __future__ import annotations

import os
import struct
import threading
import zipfile
import zlib
from typing import TYPE_CHECKING, Protocol, Self

from sen2chain.errors import UnreadableError
from sen2chain.files import open_regular, split_zip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedReader
    from types import TracebackType

_ZIP_ERRORS = (
    OSError, ValueError, LookupError, RuntimeError, EOFError, OverflowError, struct.error, zipfile.BadZipFile
)  # fmt: skip
"""What `zipfile` raises on a damaged zip file."""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Header of a file in a zip file: lengths of its name and its extra field, behind which the file begins."""
_ENCRYPTED = 1
_FORMS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LARGEST_RATIO = 1032  # that deflating can reach

_CHUNK = 1 << 14  # bytes that are inflated at once; a kept state may hold so many
_LARGEST_STEP = 1 << 20  # bytes of output that inflating a chunk may make at once
_SHORTEST_INTERVAL = 2 << 20  # bytes between two kept states
_MOST_STATES = 64  # of about 50 KB each
_MOST_RECENT = 4  # states where a read ended; files are mostly read in order, by a few threads


class Bytes(Protocol):
    """Bytes of a raster's file, wherever it is: read in any threads at once."""

    @property
    def location(self) -> str:
        """The raster, for messages."""
        ...

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Read some bytes, see `FileBytes.read`."""
        ...

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch (offset, length) that will be read, where that takes time."""
        ...

    def release(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Forget fetched bytes that are not needed again."""
        ...


class FileBytes:
    """A range of an open file, read in any threads at once; use it as a context.

    Parameters
    ----------
    location
        The raster, for messages.
    file
        The open file; it is closed together with this.
    start, size
        Offset and number of the bytes in `file`, which the caller has checked.
    """

    def __init__(self, location: str, file: BufferedReader, start: int, size: int) -> None:
        self.location, self._file, self._start = location, file, start
        self.size = size
        """Number of bytes."""
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Read some bytes.

        Parameters
        ----------
        offset, length
            Where, and how many; what lies behind the end is left out.

        Returns
        -------
        bytes
            `length` bytes; fewer only at the end of the file.

        Raises
        ------
        UnreadableError
            If they cannot be read.
        """
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        return self._read_range(self._start + offset, length)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: what lies on disk is read when it is needed."""

    def release(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: nothing is held."""

    def _read_range(self, position: int, length: int) -> bytes:
        """Read bytes of the open file.

        Raises
        ------
        UnreadableError
            If there are not so many.
        """
        try:
            data = self._read_at(position, length)
            while len(data) < length and (more := self._read_at(position + len(data), length - len(data))):
                data += more
        except OSError as error:
            raise UnreadableError(f"{self.location} cannot be read: {error.strerror or error}.") from error
        if len(data) < length:
            raise UnreadableError(f"{self.location} cannot be read: it has become shorter since it was opened.")
        return data

    def _read_at(self, position: int, length: int) -> bytes:
        """Read what one call of the system gives, which may be less on a network."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), length, position)
        with self._lock:
            self._file.seek(position)
            return self._file.read(length)

    def close(self) -> None:
        """Close the file, when no thread reads it any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _InflatedBytes(FileBytes):
    """The bytes of a file that lies deflated in a zip file.

    Deflated data can only be inflated in order. Copies of the inflating state are kept where some megabytes have been
    inflated, so that any part is reached from the nearest one before it.

    Parameters
    ----------
    location, file, start
        As of `FileBytes`.
    deflated
        Number of bytes in the zip file.
    size
        Number of bytes of the file.
    """

    def __init__(self, location: str, file: BufferedReader, start: int, deflated: int, size: int) -> None:
        super().__init__(location, file, start, size)
        self._end = start + deflated
        self._interval = max(_SHORTEST_INTERVAL, -(-size // _MOST_STATES))
        self._kept = [_Inflating(start)]
        """States at offsets that ascend, `_interval` or a little more apart; each is only ever copied."""
        self._recent: list[_Inflating] = []
        """States where reads ended, the latest last."""
        self._frontier = threading.Lock()
        """Held by the thread that inflates what no thread has inflated before, so that it is done once."""

    def read(self, offset: int, length: int) -> bytes:
        """Read some bytes, see `FileBytes.read`."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        state = self._nearest(offset)
        if offset - state.offset > self._interval + _LARGEST_STEP:
            with self._frontier:
                state = self._nearest(offset)
                while state.offset < offset:
                    self._inflate(state, offset - state.offset)
        while state.offset < offset:
            self._inflate(state, offset - state.offset)
        data = bytearray()
        while len(data) < length:
            data += self._inflate(state, length - len(data))
        with self._lock:
            self._recent = [*self._recent, state][-_MOST_RECENT:]
        return bytes(data)

    def _nearest(self, offset: int) -> _Inflating:
        """Return a state for the caller alone, at `offset` or as little before it as there is one."""
        with self._lock:
            kept = max((state for state in self._kept if state.offset <= offset), key=_offset)
            recent = max((state for state in self._recent if state.offset <= offset), key=_offset, default=kept)
            if recent.offset <= kept.offset:
                return kept.copy()
            self._recent.remove(recent)
            return recent

    def _inflate(self, state: _Inflating, most: int) -> bytes:
        """Advance a state and return at most so many bytes; keep a copy of it where the next one is due.

        Raises
        ------
        UnreadableError
            If the deflated data are damaged, or end too early.
        """
        chunk = state.left or self._read_range(state.position, min(_CHUNK, self._end - state.position))
        if not state.left:
            state.position += len(chunk)
        try:
            data = state.inflater.decompress(chunk, min(most, _LARGEST_STEP))
        except zlib.error as error:
            raise self._damaged(f"{error}") from error
        state.offset += len(data)
        if not data and (state.inflater.eof or not chunk):
            raise self._damaged(f"they end after {state.offset} of {self.size} bytes")
        with self._lock:
            if state.offset >= self._kept[-1].offset + self._interval:
                self._kept.append(state.copy())
        return data

    def _damaged(self, what: str) -> UnreadableError:
        return UnreadableError(f"{self.location} cannot be read: its deflated data are damaged ({what}).")


class _Inflating:
    """A place in deflated data.

    Parameters
    ----------
    position
        Offset in the zip file of the bytes that are inflated next.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.offset = 0
        """Bytes that were inflated."""
        self.inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def left(self) -> bytes:
        """Bytes that were read and not inflated yet, since their output was limited."""
        return self.inflater.unconsumed_tail

    def copy(self) -> _Inflating:
        """Return a state of its own at the same place."""
        other = _Inflating.__new__(_Inflating)
        other.position, other.offset, other.inflater = self.position, self.offset, self.inflater.copy()
        return other


def _offset(state: _Inflating) -> int:
    return state.offset


def open_bytes(location: str) -> FileBytes | None:
    """Open the bytes of a raster's file.

    Parameters
    ----------
    location
        Path of a file on disk, or ``/vsizip/<archive>.zip/<path inside>``.

    Returns
    -------
    FileBytes or None
        None where only GDAL can read it: in another of its file systems, or packed in another way.

    Raises
    ------
    UnreadableError
        If it cannot be opened, or is damaged.
    """
    path = inside = ""
    try:
        path, inside = split_zip(location) if location.startswith("/vsizip/") else (location, "")
    except FileNotFoundError:
        return None
    if not inside and location.startswith("/vsi"):
        return None
    try:
        file = open_regular(path)
    except OSError as error:
        raise UnreadableError(f"{location} cannot be opened: {error.strerror or error}.") from error
    opened = None
    try:
        if inside:
            opened = _open_member(location, file, inside)
        else:
            opened = FileBytes(location, file, 0, os.fstat(file.fileno()).st_size)
    finally:
        if opened is None:
            file.close()
    return opened


def _open_member(location: str, file: BufferedReader, inside: str) -> FileBytes | None:
    """Open the bytes of a file in an open zip file; parameters and errors as of `open_bytes`."""
    try:
        with zipfile.ZipFile(file) as archive:
            # Of several files of one name GDAL may read another one than zipfile.
            entries = [entry for entry in archive.infolist() if entry.filename == inside]
            if len(entries) != 1 or entries[0].flag_bits & _ENCRYPTED or entries[0].compress_type not in _FORMS:
                return None
            (entry,) = entries
            archive.open(entry).close()  # compares the file's own header with the list of files
        file.seek(entry.header_offset)
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    except _ZIP_ERRORS as error:
        raise _damaged_zip(location, str(getattr(error, "strerror", None) or error)) from error
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    packed, size = entry.compress_size, entry.file_size
    if start + packed > os.fstat(file.fileno()).st_size:
        raise _damaged_zip(location, "it ends within this file")
    stored = entry.compress_type == zipfile.ZIP_STORED
    if (stored and size != packed) or size > _LARGEST_RATIO * packed:
        raise _damaged_zip(location, f"{packed} bytes in it cannot be {size} bytes of this file")
    return FileBytes(location, file, start, size) if stored else _InflatedBytes(location, file, start, packed, size)


def _damaged_zip(location: str, what: str) -> UnreadableError:
    return UnreadableError(f"{location} cannot be opened: the zip file is damaged ({what}).")
