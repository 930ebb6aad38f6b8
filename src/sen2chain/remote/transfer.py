"""Requests for one file, repeated where a server or a connection fails."""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.remote import connections, traffic
from sen2chain.remote.access import Access, check_href, host_of, is_named, is_remote, shown_location, split
from sen2chain.remote.signatures import signer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sen2chain.remote.connections import Exchange
    from sen2chain.remote.signatures import Signed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often requests are repeated, and after which pauses."""

    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    """Seconds before each repetition; up to a quarter is added at random, so that threads do not come back at once."""
    longest: float = 120.0
    """Longest pause in seconds that a server may ask for (``Retry-After``)."""


patience = Patience()
"""The pauses of this process."""
_own_random = random.Random()  # noqa: S311  # no secret; the generator of the whole process is the user's
_rests: dict[tuple[str, int], float] = {}
"""Host and port of servers that have asked to wait -> time until which they are not asked."""

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSED = frozenset({400, 401, 403})  # S3 answers 400 once a session has expired
_MOST_REDIRECTS = 5
_SMALL = 1 << 20  # bytes of a whole file that are taken from a server that does not answer ranges
_STEP = 1 << 16  # bytes that are read at once
_PROGRESS = 1 << 16  # bytes that must have come for a broken connection not to count as a failure
_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")  # http.client's error
_TIMES = ("", "", "twice", "three times", "four times", "five times", "six times", "seven times", "eight times")


class Part(NamedTuple):
    """Bytes of a file."""

    data: bytearray | bytes
    size: int
    """Bytes of the whole file."""
    version: str


class _TroubleError(Exception):
    """A request failed in a way that another one may not.

    Parameters
    ----------
    what
        The failure, as the end of a sentence.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class FileRequests:
    """Requests for one file, from any threads at once.

    Parameters
    ----------
    location
        The file, without query.
    access
        How it is reached.
    query
        Query that its href came with; empty: as `access` has it.
    document
        Whether it is a document of a catalogue.
    """

    def __init__(self, location: str, access: Access, query: str = "", *, document: bool = False) -> None:
        self._location, self._access = location, access
        self._signer = signer(location, access, query, _document, document=document)
        self._moved = ""  # where a redirect led; it may hold a signature

    def part(self, start: int, stop: int, stopped: threading.Event) -> Part:
        """Fetch a range of bytes.

        Parameters
        ----------
        start, stop
            First byte, and the one behind the last; the file may end before.
        stopped
            Set when the bytes are not needed any more.

        Returns
        -------
        Part
            The range; or the whole file, with more than the range, where a server sends a small file whole.

        Raises
        ------
        UnreadableError
            If it cannot be fetched.
        """
        state = _Range(self._location, start, stop)

        def attempt() -> Part:
            position = start + state.filled
            exchange = self._ask({"Range": f"bytes={position}-{stop - 1}"}, {200, 206, 416}, stopped)
            try:
                part = state.take(exchange, stopped)
            except BaseException:
                exchange.abandon()
                raise
            exchange.finish()
            return part

        return self._persist(attempt, stopped, lambda: state.filled)

    def whole(self, limit: int, stopped: threading.Event, headers: Mapping[str, str] | None = None) -> bytes:
        """Fetch the whole file, of at most `limit` bytes; errors as of `part`."""

        def attempt() -> bytes:
            exchange = self._ask({"Accept-Encoding": "gzip", **(headers or {})}, {200}, stopped)
            try:
                data = self._read_whole(exchange, limit)
            except BaseException:
                exchange.abandon()
                raise
            exchange.finish()
            return data

        return self._persist(attempt, stopped, lambda: 0)

    def _read_whole(self, exchange: Exchange, limit: int) -> bytes:
        """Read a document, inflated where it comes so, and never more than the limit."""
        import zlib  # noqa: PLC0415  # only documents need it

        length = exchange.length
        if length is not None and length > limit:
            raise self._too_large(limit)
        encoding = exchange.header("Content-Encoding").strip().lower()
        if encoding not in {"", "identity", "gzip"}:
            raise UnreadableError(f"{self._location} cannot be read: it came encoded as {encoding[:40]!r}.")
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
        data, came = bytearray(), 0
        try:
            while chunk := exchange.read(_STEP):
                came += len(chunk)
                data += inflater.decompress(chunk, limit + 1 - len(data)) if inflater else chunk
                if len(data) > limit or came > limit:
                    raise self._too_large(limit)
        except zlib.error as error:
            raise UnreadableError(f"{self._location} cannot be read: its gzip data are damaged ({error}).") from None
        except http.client.IncompleteRead:
            raise _TroubleError("its connection was cut") from None
        if length is not None and came < length:
            raise _TroubleError("its connection was cut")
        if inflater and not inflater.eof:
            raise UnreadableError(f"{self._location} cannot be read: its gzip data are cut off.")
        return bytes(data)

    def _too_large(self, limit: int) -> UnreadableError:
        return UnreadableError(f"{self._location} cannot be read: it has more than {limit:,} bytes.")

    def _persist(self, attempt: Callable[[], T], stopped: threading.Event, progress: Callable[[], int]) -> T:
        """Repeat an attempt until it succeeds, is refused, or has failed too often."""
        pauses = patience.pauses
        failed, before = 0, 0
        while True:
            most = len(pauses) + 1
            try:
                return attempt()
            except _TroubleError as error:
                what = error.what
            except connections.TROUBLES as error:
                what = _failure(error)
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise UnreadableError(f"{self._location} cannot be read: {what}.") from None
                if isinstance(error, socket.gaierror | ConnectionRefusedError):
                    most = min(most, 3)  # without a network each file would wait in vain
            except connections.RefusedError as error:
                raise UnreadableError(f"{self._location} is not read: {error}.") from None
            if (came := progress()) - before >= _PROGRESS:
                failed, before = 0, came
            failed += 1
            if failed >= most:
                raise UnreadableError(f"{self._location} cannot be read: {what}{_times(failed)}.")
            self._wait(pauses[failed - 1], stopped)
            traffic.count(retries=1)

    def _wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait, a little longer at random so that threads do not come back at once.

        Raises
        ------
        UnreadableError
            If the bytes are not needed any more.
        """
        if stopped.wait(seconds * _own_random.uniform(1, 1.25)):
            raise UnreadableError(f"{self._location} cannot be read: it has been closed.")

    def _ask(self, more: dict[str, str], wanted: Collection[int], stopped: threading.Event) -> Exchange:
        """Send one request, follow redirects, and sign anew once where the signature is refused."""
        renewed = False
        for _ in range(_MOST_REDIRECTS + 1):
            moved = self._moved
            signed = None if moved else self._signer.sign(self._location)
            exchange = self._send(moved, signed, more, stopped)
            if exchange.status in wanted:
                return exchange
            if exchange.status in _REDIRECTS and (there := exchange.header("Location")):
                exchange.finish()
                # S3 redirects to the region of a bucket, and the request has to be signed for that.
                elsewhere = signed is not None and exchange.header("x-amz-bucket-region")
                if signed is None or not elsewhere or not self._renew(signed, exchange):
                    self._moved = self._checked(moved or (signed.url if signed else ""), there)
                continue
            error = self._error(exchange)
            if isinstance(error, _TroubleError) or renewed or exchange.status not in _REFUSED:
                raise error
            renewed = True
            if signed is None:
                self._moved = ""  # it may have been signed for a while only
            elif not self._renew(signed, exchange):
                raise error
        raise UnreadableError(f"{self._location} cannot be read: its server redirects{_times(_MOST_REDIRECTS + 1)}.")

    def _renew(self, signed: Signed, exchange: Exchange) -> bool:
        return self._signer.renew(signed, exchange.header("x-amz-bucket-region"))

    def _send(self, moved: str, signed: Signed | None, more: dict[str, str], stopped: threading.Event) -> Exchange:
        if signed is None:
            to = connections.target(moved, may_be_private=self._may_be_private(moved))
            signature: Mapping[str, str] = {}
        else:
            trusted = signed.trusted or not is_remote(self._access.catalogue)
            to = connections.target(
                signed.url, signed.query, may_be_private=trusted or is_named(host_of(split(signed.url)), self._access)
            )
            signature = self._signer.headers(signed, to.path, to.authority)
        while (left := _rests.get((to.host, to.port), 0.0) - time.monotonic()) > 0:
            self._wait(left, stopped)
        return connections.send(to, {**signature, **more})

    def _may_be_private(self, moved: str) -> bool:
        """Whether a redirect may lead to a private address: to a host that is named, or within the file's own host."""
        host = host_of(split(moved))
        own = urlsplit(self._location).hostname if self._location.startswith("http") else None
        return is_named(host, self._access) or (host == own and not is_remote(self._access.catalogue))

    def _checked(self, base: str, there: str) -> str:
        """Return where a redirect from an address leads, if it may.

        Raises
        ------
        UnreadableError
            If it leads where the catalogue may not point either.
        """
        try:
            url = urljoin(base, there)
        except ValueError:
            url = there  # it is not an address
        shown = shown_location(url)
        if not url.lower().startswith(("http://", "https://")):
            raise UnreadableError(f"{self._location} is not read, because its server redirects to {shown}.")
        if self._location.lower().startswith("https://") and not url.lower().startswith("https://"):
            raise UnreadableError(
                f"{self._location} is not read, because its server redirects to {shown}, which is not encrypted."
            )
        try:
            check_href(url, self._access)
        except RequestError:
            raise UnreadableError(
                f"{self._location} is not read, because its server redirects to {shown}; allow that host with "
                "--stac-allow if you trust it."
            ) from None
        return url

    def _error(self, exchange: Exchange) -> _TroubleError | UnreadableError:
        """Return the error for an answer that is not wanted, and finish it."""
        status, code = exchange.status, exchange.header("x-ms-error-code")
        try:
            match = _CODE.search(exchange.read(2048))
        except connections.TROUBLES:
            match = None
            exchange.abandon()
        else:
            exchange.finish()
        if match:
            code = match.group(1).decode("ascii")
        what = f"its server answered {status}" + (f" ({code})" if re.fullmatch(r"[A-Za-z]{1,60}", code) else "")
        if status in _RETRIED:
            pause = min(_pause_asked(exchange.header("Retry-After")), patience.longest)
            if pause:  # the other requests to this server wait, too
                _rests[exchange.host] = time.monotonic() + pause
            return _TroubleError(what)
        advice = self._signer.advice() if status in {401, 403} else ""
        return UnreadableError(f"{self._location} cannot be read: {what}{'; ' * bool(advice)}{advice}.")


def _document(url: str, headers: Mapping[str, str]) -> bytes:
    """Fetch a small document from a service that the user's settings name; it may not redirect to another host."""
    return FileRequests(url, Access(catalogue=url)).whole(1 << 16, threading.Event(), headers)


class _Range:
    """A range of bytes that may come in several answers."""

    def __init__(self, location: str, start: int, stop: int) -> None:
        self._location, self._start, self._stop = location, start, stop
        self.filled = 0
        self._data: bytearray | None = None
        self._whole: tuple[int, str] | None = None  # size and version that the first answer told

    def take(self, exchange: Exchange, stopped: threading.Event) -> Part:
        """Read an answer, behind what earlier ones brought.

        Raises
        ------
        _TroubleError
            If it ends too early; the next answer goes on there.
        UnreadableError
            If it is not the range that was asked for.
        """
        version = exchange.header("ETag").removeprefix("W/") or exchange.header("Last-Modified")
        if exchange.header("Content-Encoding").strip().lower() not in {"", "identity"}:
            raise UnreadableError(f"{self._location} cannot be read: its server compresses ranges.")
        if exchange.status == 200:  # OK
            return self._take_whole(exchange, version, stopped)
        first, last, size = self._told(exchange)
        if exchange.status == 416:  # Range Not Satisfiable
            if self.filled or size > self._start:
                raise UnreadableError(f"{self._location} cannot be read: its server refuses a range within the file.")
            return Part(b"", size, version)
        wanted = self._start + self.filled
        if first != wanted or last != min(self._stop, size) - 1:
            raise UnreadableError(
                f"{self._location} cannot be read: its server sent bytes {first} to {last} instead of {wanted} to "
                f"{min(self._stop, size) - 1}."
            )
        if self._whole not in {None, (size, version)}:
            raise self._changed()
        self._whole = size, version
        if self._data is None:
            self._data = bytearray(last + 1 - self._start)
        self._fill(exchange, self._data, stopped)
        return Part(self._data, size, version)

    def _changed(self) -> UnreadableError:
        return UnreadableError(f"{self._location} cannot be read: it changed while it was being read.")

    def _told(self, exchange: Exchange) -> tuple[int, int, int]:
        """Return the first byte, the last byte and the size of the file that ``Content-Range`` tells."""
        match = _RANGE.fullmatch(exchange.header("Content-Range").strip())
        if match and match[3] != "*" and (match[1] is not None or exchange.status == 416):  # as above
            return int(match[1] or 0), int(match[2] or 0), int(match[3])
        raise UnreadableError(f"{self._location} cannot be read: its server does not tell which range it sent.")

    def _take_whole(self, exchange: Exchange, version: str, stopped: threading.Event) -> Part:
        """Read the whole of a small file, from a server that does not answer ranges."""
        size = exchange.length
        if size is None or size > _SMALL:
            raise UnreadableError(
                f"{self._location} cannot be read: its server sends the whole file when it is asked for a range."
            )
        if self._whole not in {None, (size, version)}:
            raise self._changed()
        data, self._data, self.filled = bytearray(size), None, 0
        try:
            self._fill(exchange, data, stopped)
        except BaseException:
            self.filled = 0  # the next answer may be the range
            raise
        return Part(data, size, version)

    def _fill(self, exchange: Exchange, data: bytearray, stopped: threading.Event) -> None:
        with memoryview(data) as room:
            while self.filled < len(data):
                count = exchange.read_into(room[self.filled : self.filled + _STEP])
                if not count:
                    raise _TroubleError("its connection was cut")
                self.filled += count
                if stopped.is_set():
                    raise UnreadableError(f"{self._location} cannot be read: it has been closed.")


def _failure(error: BaseException) -> str:
    """Return a broken connection as the end of a sentence; nothing that the error itself says is secret."""
    found = f"its server cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})"
    if isinstance(error, TimeoutError):
        found = "its server did not answer in time"
    elif isinstance(error, ssl.SSLCertVerificationError):
        found = f"the certificate of its server is not valid ({error.verify_message})"
    elif isinstance(error, ssl.SSLError):
        found = f"the encrypted connection failed ({error.reason or 'cut'})"
    elif isinstance(
        error, ConnectionResetError | BrokenPipeError | http.client.IncompleteRead
    ):  # RemoteDisconnected too
        found = "its connection was cut"
    elif isinstance(error, http.client.HTTPException):
        found = "its server does not answer as HTTP demands"
    elif match := _TUNNEL.match(str(error)):
        found = f"its proxy answered {match[1]}"
    return found


def _times(count: int) -> str:
    if count == 1:
        return ""
    return f" {_TIMES[count]}" if count < len(_TIMES) else f" {count} times"


def _pause_asked(text: str) -> float:
    """Return the seconds that ``Retry-After`` asks to wait; 0 where it asks nothing that can be understood."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0) if text else 0.0
    except (TypeError, ValueError, OverflowError):
        return 0.0
