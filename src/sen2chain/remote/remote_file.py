"""A file on a server, read by ranges that are fetched in the background."""

from __future__ import annotations

import bisect
import itertools
import threading
from typing import TYPE_CHECKING, Self

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.parallel import detached
from sen2chain.remote.access import check_href, is_remote, shown_location, split_query
from sen2chain.remote.fetchers import fetchers
from sen2chain.remote.transfer import FileRequests

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from sen2chain.remote.access import Access
    from sen2chain.remote.transfer import Part

LARGEST_GAP = 1 << 10
"""Bytes between two ranges that are fetched with them, since another request costs more."""
LARGEST_PIECE = 8 << 20
"""Bytes that one request asks for at most."""


class _Piece:
    """A range of bytes that one request fetches."""

    __slots__ = ("asked", "begun", "data", "done", "dropped", "error", "readers", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.asked: set[tuple[int, int]] = set()
        """Ranges (offset, length) that `RemoteFile.fetch` was asked for, that have bytes here, and are not released."""
        self.dropped = False
        self.readers = 0
        """Threads that wait for it."""
        self.begun = self.done = False
        self.data: bytearray | bytes | None = None
        self.error: UnreadableError | None = None


class RemoteFile:
    """A file on a server; it can be read in any threads at once. Use it as a context, or close it.

    Parameters
    ----------
    location
        The file, without query.
    access
        How it is reached.
    beginning
        Bytes at the beginning that are fetched at once.
    """

    def __init__(self, location: str, access: Access, beginning: int) -> None:
        self.location = location
        self._requests = FileRequests(location, access)
        self._fetchers = fetchers(access.at_once)
        self._change = threading.Condition(threading.Lock())
        self._closed = threading.Event()
        self._size: int | None = None
        self._version = ""
        self._changed: UnreadableError | None = None
        self._first = _Piece(0, max(beginning, 1))
        self._pieces = [self._first]  # by offset; they do not overlap
        self._submit([self._first])
        if access.stop is not None:
            access.stop.add(self)

    @property
    def size(self) -> int:
        """Number of bytes; waits for the first answer.

        Raises
        ------
        UnreadableError
            If the file cannot be read.
        """
        with self._change:
            return self._wait_for_size()

    @property
    def version(self) -> str:
        """ETag of the file, else the time of its last change; empty where its server tells neither. Waits as `size`."""
        with self._change:
            self._wait_for_size()
            return self._version

    def read(self, offset: int, length: int, ahead: int = 0) -> bytes:
        """Read some bytes, which are fetched where that has not begun.

        Parameters
        ----------
        offset, length
            Where, and how many; what lies behind the end is left out.
        ahead
            Bytes from `offset` on that are fetched, where any has to be: for readers that go on there.

        Returns
        -------
        bytes
            `length` bytes; fewer only at the end of the file.

        Raises
        ------
        UnreadableError
            If they cannot be fetched.
        """
        with self._change:
            stop = min(offset + length, self._wait_for_size())
            if offset < 0 or stop <= offset:
                return b""
            found = self._overlapping(offset, stop)
            if sum(min(piece.stop, stop) - max(piece.start, offset) for piece in found) < stop - offset:
                self._begin([(offset, max(stop, min(offset + ahead, self._size or 0)))])
                found = self._overlapping(offset, stop)
            for piece in found:
                piece.readers += 1
            late = [piece for piece in found if not piece.begun and not piece.done]
        self._submit(late, urgent=True)  # what is waited for comes before what was asked for in advance
        with self._change:
            try:
                for piece in found:
                    while not piece.done and not self._closed.is_set():
                        self._change.wait()
                self._check_open()
                parts = [self._slice(piece, offset, stop) for piece in found]
            finally:
                for piece in found:
                    piece.readers -= 1
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch ranges in the background, as far as they are not held or on their way.

        Ranges with at most `LARGEST_GAP` bytes between them are fetched by one request, and no request is for more than
        `LARGEST_PIECE` bytes. Errors come from `read`.

        Parameters
        ----------
        ranges
            (offset, length) of each, in any order; they may overlap.
        """
        asked = [(offset, length) for offset, length in ranges if length > 0]
        with self._change:
            if self._closed.is_set():
                return
            made = self._begin([(max(offset, 0), offset + length) for offset, length in asked])
            for offset, length in asked:
                for piece in self._overlapping(offset, offset + length):
                    piece.asked.add((offset, length))
        self._submit(made)

    def release(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Forget ranges that are held or on their way; the beginning of the file is kept.

        Bytes that came by one request are forgotten once each range of them that `fetch` was asked for, however often,
        is released; those that only `read` asked for, when they lie in a range that is released.

        Parameters
        ----------
        ranges
            (offset, length) of each, as for `fetch`.
        """
        with self._change:
            for offset, length in ranges:
                for piece in self._overlapping(offset, offset + length):
                    was_asked = (offset, length) in piece.asked
                    piece.asked.discard((offset, length))
                    covered = offset <= piece.start and piece.stop <= offset + length
                    if piece is not self._first and not piece.asked and (was_asked or covered):
                        piece.dropped = True
                        self._pieces.remove(piece)

    def close(self) -> None:
        """Forget all bytes, and break off what is on its way."""
        with self._change:
            self._closed.set()
            self._pieces = []
            self._change.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for_size(self) -> int:
        """Return the size, once it is known; called with the lock."""
        while self._size is None:
            self._check_open()
            if self._first.error is not None:
                raise UnreadableError(*self._first.error.args)
            self._change.wait()
        return self._size

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise UnreadableError(f"{self.location} cannot be read: it has been closed.")

    def _overlapping(self, start: int, stop: int) -> list[_Piece]:
        """Return the pieces that meet a range, in order."""
        low = max(bisect.bisect_right(self._pieces, start, key=_start) - 1, 0)
        high = bisect.bisect_left(self._pieces, stop, key=_start)
        return [piece for piece in self._pieces[low:high] if piece.stop > start and piece.start < stop]

    def _begin(self, ranges: list[tuple[int, int]]) -> list[_Piece]:
        """Add pieces for the parts of ranges (start, stop) that no piece has; called with the lock."""
        missing = []
        for start, stop in merged(ranges):
            end = stop if self._size is None else min(stop, self._size)
            for piece in self._overlapping(start, end):
                if piece.start > start:
                    missing.append((start, piece.start))
                start = max(start, piece.stop)  # noqa: PLW2901  # the rest of the range
            if start < end:
                missing.append((start, end))
        made = []
        for needed in grouped(missing):
            # What another piece has between two ranges is not fetched again.
            for part in self._apart(needed):
                made += [_Piece(start, stop) for start, stop in cut(part)]
        for piece in made:
            bisect.insort(self._pieces, piece, key=_start)
        return made

    def _apart(self, needed: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Part ranges between which a piece lies."""
        parts = [needed[:1]]
        for before, after in itertools.pairwise(needed):
            if self._overlapping(before[1], after[0]):
                parts.append([])
            parts[-1].append(after)
        return parts

    def _submit(self, pieces: list[_Piece], *, urgent: bool = False) -> None:
        for piece in reversed(pieces) if urgent else pieces:
            self._fetchers.submit(lambda piece=piece: self._work(piece), urgent=urgent)  # type: ignore[misc]

    def _work(self, piece: _Piece) -> None:
        """Fetch a piece; runs in a thread."""
        with self._change:
            if piece.begun or self._closed.is_set() or (piece.dropped and not piece.readers):
                return
            piece.begun = True
        part, failed = None, None
        try:
            part = self._requests.part(piece.start, piece.stop, self._closed)
        except UnreadableError as error:
            failed = error
        except Exception as error:  # noqa: BLE001  # a fault of the program: the reader must not wait for ever
            failed = UnreadableError(f"{self.location} cannot be read: {type(error).__name__}.")
        with self._change:
            if part is not None:
                failed = self._accept(piece, part)
            piece.error, piece.done = failed, True
            self._change.notify_all()

    def _accept(self, piece: _Piece, part: Part) -> UnreadableError | None:
        """Keep what was fetched; return an error where it is of another version of the file."""
        if self._size is None:
            self._size = part.size
        self._version = self._version or part.version
        if self._size != part.size or part.version not in {self._version, ""}:
            self._changed = UnreadableError(f"{self.location} cannot be read: it changed while it was being read.")
            return self._changed
        stop = min(piece.stop, part.size)
        if len(part.data) == max(stop - piece.start, 0):
            piece.data = part.data
        elif self._pieces == [self._first] == [piece]:
            piece.data, piece.stop = part.data, part.size  # the whole file
        else:
            piece.data = part.data[piece.start : stop]
        return None

    def _slice(self, piece: _Piece, start: int, stop: int) -> memoryview:
        """Return what a piece has of a range."""
        error = self._changed or piece.error
        if error is not None:
            raise UnreadableError(*error.args)
        low = max(start - piece.start, 0)
        return memoryview(piece.data or b"")[low : stop - piece.start]


def _start(piece: _Piece) -> int:
    return piece.start


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort ranges (start, stop) and join those that overlap or touch; empty ones are left out."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if stop <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def grouped(ranges: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Group ranges (start, stop) that are in order and do not overlap: near ones are fetched by one request."""
    groups: list[list[tuple[int, int]]] = []
    for start, stop in ranges:
        if groups and start - groups[-1][-1][1] <= LARGEST_GAP and stop - groups[-1][0][0] <= LARGEST_PIECE:
            groups[-1].append((start, stop))
        else:
            groups.append([(start, stop)])
    return groups


def cut(group: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut what lies from the first to the last byte of a group into ranges (start, stop) that are not too large."""
    if not group:
        return []
    first, end = group[0][0], group[-1][1]
    return [(start, min(start + LARGEST_PIECE, end)) for start in range(first, end, LARGEST_PIECE)]


def requests_for(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the bytes, as (start, stop), that each request for some ranges (offset, length) asks for.

    It is what `RemoteFile.fetch` does with them at once, for estimates.
    """
    wanted = merged((offset, offset + length) for offset, length in ranges)
    return [piece for group in grouped(wanted) for piece in cut(group)]


def open_remote(location: str, access: Access, beginning: int = 1 << 15) -> RemoteFile:
    """Open a file on a server; its first bytes are fetched in the background. Errors of its server come from `read`.

    Parameters
    ----------
    location
        The file, without query, as `split_query` returns it.
    access
        How it is reached.
    beginning
        Bytes at the beginning that are fetched at once.

    Raises
    ------
    UnreadableError
        If it may not be read.
    """
    try:
        check_href(location, access)
    except RequestError as error:
        raise UnreadableError(str(error)) from None
    if not is_remote(location):
        raise UnreadableError(f"{shown_location(location)} is not on a server.")
    return RemoteFile(location, access, beginning)


def fetch_document(url: str, access: Access, limit: int = 64 << 20) -> bytes:
    """Fetch a document of a catalogue whole.

    Parameters
    ----------
    url
        The file; a query is sent, and never shown.
    access
        How it is reached.
    limit
        Largest number of bytes, compressed or not.

    Raises
    ------
    RequestError
        If it may not be read, see `check_href`.
    UnreadableError
        If it cannot be fetched, or is larger.
    """
    check_href(url, access)
    location, query = split_query(url)
    if not is_remote(location):
        raise RequestError(f"{shown_location(url)} is not on a server.")
    requests, stopped = FileRequests(location, access, query, document=True), threading.Event()
    try:
        return detached(lambda: requests.whole(limit, stopped)).result()
    finally:
        stopped.set()
