"""Connections to servers, which are kept open for the next request, and one request on one of them.

`http.client` is used directly: it logs nothing, so that no query string with a signature reaches a log, and a request
costs a fraction of a millisecond of processor time.

Proxies are those of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), as the clients of
catalogues use them. Behind a proxy the address of a server is not known, so only its name can be checked. Certificates
are verified with the system's store (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are OpenSSL's variables for another one),
with that of ``certifi`` where the system has none, and with those in ``REQUESTS_CA_BUNDLE``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import importlib.metadata
import ipaddress
import os
import select
import socket
import ssl
import threading
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from sen2chain.remote import traffic
from sen2chain.remote.access import host_of, is_private, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS = 15.0
"""Longest wait for a connection."""
SILENT_SECONDS = 30.0
"""Longest wait for the next bytes of an answer."""
LONGEST_SECONDS = 60.0
"""Longest wait for the headers of an answer, and for its contents; a second is added for each `_SLOWEST` bytes."""
_SLOWEST = 2000
_UNKNOWN_LENGTH = 64 << 20  # bytes that are assumed where the server does not say
_IDLE_SECONDS = 50.0  # servers and their load balancers close connections after 60 s, some earlier
_MOST_IDLE = 128
_MOST_DRAINED = 1 << 16  # bytes of an unwanted answer that are read so that its connection can be kept
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:=&?~+!$,;'@()*-._"  # characters of a path or a query that are sent as they are

TROUBLES = (OSError, http.client.HTTPException)
"""What a broken connection raises."""


class RefusedError(Exception):
    """A request is not sent; the text is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address of a file, split for a request."""

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    """Path and query, quoted."""
    may_be_private: bool = False
    """Whether the host may have a private address, since the user named it."""

    @property
    def authority(self) -> str:
        """Host and port as the header ``Host`` gives them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def target(url: str, query: str = "", *, may_be_private: bool = False) -> Target:
    """Split the address of a file.

    Parameters
    ----------
    url
        ``http://`` or ``https://``; its own query, if it has one, comes first.
    query
        Further query.
    may_be_private
        See `Target`.

    Raises
    ------
    RequestError
        If it cannot be understood.
    """
    parts = split(url)
    path = quote(parts.path or "/", safe=_SAFE)
    asked = "&".join(part for part in (parts.query, query) if part)
    if asked:
        path += "?" + quote(asked, safe=_SAFE)
    return Target(parts.scheme, host_of(parts), parts.port or _DEFAULT_PORTS[parts.scheme], path, may_be_private)


class Exchange:
    """An answer whose contents have not been read yet. Call `finish` or `abandon` in any case."""

    def __init__(self, connection: _Connection, answer: http.client.HTTPResponse, watched: _Watched) -> None:
        self._connection, self._answer, self._watched = connection, answer, watched
        self.status = answer.status
        self.host = connection.place[1:3]
        """Host and port."""
        length = _UNKNOWN_LENGTH if answer.length is None else answer.length
        watched.until = time.monotonic() + LONGEST_SECONDS + length / _SLOWEST

    def header(self, name: str) -> str:
        """Return a header of the answer; empty where it has none."""
        return self._answer.getheader(name) or ""

    @property
    def length(self) -> int | None:
        """Bytes that are still to come; None where the server does not say."""
        return self._answer.length

    def read_into(self, room: memoryview) -> int:
        """Read bytes until the room is full or the answer ends; return how many.

        Raises
        ------
        OSError, http.client.HTTPException
            If the connection breaks; what came before may have been written.
        """
        with self._in_time():
            count = self._answer.readinto(room)
        traffic.count(arrived=count)
        return count

    def read(self, most: int) -> bytes:
        """Read up to so many bytes, fewer only at the end; errors as of `read_into`."""
        with self._in_time():
            data = self._answer.read(most)
        traffic.count(arrived=len(data))
        return data

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """Say why the watch has cut a connection; it looks like any other cut."""
        try:
            yield
        except TROUBLES:
            if not self._watched.cut:
                raise
        if self._watched.cut:
            raise TimeoutError

    def finish(self) -> None:
        """Keep the connection for the next request, if the answer has been read to its end or little is left."""
        try:
            # What is left may come too late as well, so that the watch goes on until here.
            left = _MOST_DRAINED
            while not self._answer.isclosed() and left > 0 and (self.length or 0) <= left:
                left -= len(self.read(left)) or left  # nothing comes at the end, which closes the answer
        except TROUBLES:
            self.abandon()
            return
        if self._answer.isclosed() and self._connection.http.sock is not None and not self._watched.cut:
            _watch.end(self._watched)
            _keep(self._connection)
        else:
            self.abandon()

    def abandon(self) -> None:
        """Close the connection."""
        _watch.end(self._watched)
        self._answer.close()
        self._connection.http.close()


@dataclass(slots=True)
class _Connection:
    http: http.client.HTTPConnection
    place: tuple[str, str, int, bool]
    absolute: str = ""  # what precedes the path, where a proxy is asked
    proxy_login: str = ""
    since: float = 0.0


@dataclass(slots=True, eq=False)
class _Watched:
    """A request that is under way."""

    sock: socket.socket
    until: float
    cut: bool = False


class _Watch:
    """A thread that cuts the connections of requests that take too long: waits for single bytes do not end them.

    Parameters
    ----------
    seconds
        How often it looks.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._watched: set[_Watched] = set()
        self._runs = False

    def begin(self, sock: socket.socket) -> _Watched:
        """Watch a request that begins now."""
        watched = _Watched(sock, time.monotonic() + LONGEST_SECONDS)
        with self._lock:
            self._watched.add(watched)
            starts, self._runs = not self._runs, True
        if starts:
            threading.Thread(target=self._run, name="sen2chain-watch", daemon=True).start()
        return watched

    def end(self, watched: _Watched) -> None:
        """Watch a request no more."""
        with self._lock:
            self._watched.discard(watched)

    def _run(self) -> None:
        while True:
            self._never.wait(self._seconds)
            now = time.monotonic()
            with self._lock:  # while it is held, no connection is closed whose number another one might get
                for watched in [watched for watched in self._watched if watched.until < now]:
                    self._watched.remove(watched)
                    watched.cut = True
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(watched.sock, socket.SHUT_RDWR)  # below TLS, which another thread reads
                if not self._watched:
                    self._runs = False
                    return


_watch = _Watch()


class _Idle:
    """Connections of this process that wait for the next request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.places: dict[tuple[str, str, int, bool], list[_Connection]] = {}
        self.count = 0
        self.most = _MOST_IDLE


_idle = _Idle()


def send(wanted: Target, headers: Mapping[str, str]) -> Exchange:
    """Send a request and return its answer, once its headers have come.

    Raises
    ------
    OSError, http.client.HTTPException
        If the connection cannot be made, or breaks.
    RefusedError
        If no request may be sent.
    """
    connection = _take(wanted)
    if connection is not None:
        # A server may close a kept connection at any time: that is not a failure.
        with contextlib.suppress(ConnectionError, http.client.BadStatusLine, ssl.SSLError):
            return _send(connection, wanted, headers)
    return _send(_connect(wanted), wanted, headers)


def _send(connection: _Connection, wanted: Target, headers: Mapping[str, str]) -> Exchange:
    own = {"Host": wanted.authority, "User-Agent": user_agent(), "Accept-Encoding": "identity"}
    if connection.proxy_login:
        own["Proxy-Authorization"] = connection.proxy_login
    watched = _watch.begin(connection.http.sock)
    try:
        connection.http.request("GET", connection.absolute + wanted.path, headers={**own, **headers})
        traffic.count(requests=1)
        answer = connection.http.getresponse()
    except BaseException:
        _watch.end(watched)
        connection.http.close()
        if watched.cut:
            raise TimeoutError from None
        raise
    return Exchange(connection, answer, watched)


def _place(wanted: Target) -> tuple[str, str, int, bool]:
    return wanted.scheme, wanted.host, wanted.port, wanted.may_be_private


def _take(wanted: Target) -> _Connection | None:
    """Return a kept connection, if there is one that the server has not closed."""
    place = _place(wanted)
    while True:
        with _idle.lock:
            kept = _idle.places.get(place)
            if not kept:
                return None
            connection = kept.pop()
            _idle.count -= 1
            if not kept:
                del _idle.places[place]
        if time.monotonic() - connection.since < _IDLE_SECONDS and not _is_readable(connection.http.sock):
            return connection
        connection.http.close()


def _is_readable(sock: socket.socket) -> bool:
    """Whether something has come on an idle connection: its end, or bytes that no request asked for."""
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _keep(connection: _Connection) -> None:
    """Keep a connection; the one that has waited longest is closed where there are too many."""
    connection.since = time.monotonic()
    with _idle.lock:
        _idle.places.setdefault(connection.place, []).append(connection)
        _idle.count += 1
        if _idle.count <= _idle.most:
            return
        oldest = min(_idle.places, key=lambda place: _idle.places[place][0].since)
        closed = _idle.places[oldest].pop(0)
        _idle.count -= 1
        if not _idle.places[oldest]:
            del _idle.places[oldest]
    closed.http.close()


def close_idle() -> None:
    """Close the connections that wait for the next request."""
    with _idle.lock:
        kept = [connection for connections in _idle.places.values() for connection in connections]
        _idle.places.clear()
        _idle.count = 0
    for connection in kept:
        connection.http.close()


def _connect(wanted: Target) -> _Connection:
    """Connect to a server, or to the proxy that reaches it; errors as of `send`."""
    place = _place(wanted)
    proxy = _proxy(wanted)
    if proxy is None:
        made = http.client.HTTPConnection(wanted.host, wanted.port)
        try:
            sock = socket.create_connection((wanted.host, wanted.port), CONNECT_SECONDS)
        except UnicodeError:  # of a label that is too long
            raise RefusedError(f"{wanted.host} is not the name of a host") from None
        try:
            if not wanted.may_be_private:
                _check_peer(sock, wanted.host)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if wanted.scheme == "https":
                sock = _certificates().wrap_socket(sock, server_hostname=wanted.host)
            sock.settimeout(SILENT_SECONDS)
        except BaseException:
            sock.close()
            raise
        made.sock = sock
        return _Connection(made, place)
    made = http.client.HTTPConnection(proxy.host, proxy.port, timeout=CONNECT_SECONDS)
    login = {"Proxy-Authorization": proxy.login} if proxy.login else {}
    try:
        if wanted.scheme == "https":
            made.set_tunnel(wanted.host, wanted.port, headers=login)
        made.connect()
        if wanted.scheme == "https":
            made.sock = _certificates().wrap_socket(made.sock, server_hostname=wanted.host)
        made.sock.settimeout(SILENT_SECONDS)
    except BaseException:
        made.close()
        raise
    if wanted.scheme == "https":
        return _Connection(made, place)
    return _Connection(made, place, f"http://{wanted.authority}", proxy.login)


def _check_peer(sock: socket.socket, host: str) -> None:
    """Check the address that a connection has: a name may stand for one address when it is looked up, then another.

    Raises
    ------
    RefusedError
        If it is private.
    """
    address = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    if is_private(address):
        raise RefusedError(
            f"the host {host} has the private address {address}; allow it with --stac-allow {host} if you trust it"
        )


@dataclass(frozen=True, slots=True)
class _Proxy:
    host: str
    port: int
    login: str = field(repr=False)


def _proxy(wanted: Target) -> _Proxy | None:
    """Return the proxy of the environment for a server."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415  # few need it

    found = getproxies()
    text = found.get(wanted.scheme) or found.get("all")
    if not text or proxy_bypass(wanted.authority):
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "http" or not host:
        raise RefusedError(
            f"the proxy that the environment names for {wanted.scheme} is not an http:// address; mend the variable "
            f"{wanted.scheme.upper()}_PROXY or add {wanted.host} to NO_PROXY"
        )
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {b64encode(pair.encode()).decode('ascii')}"
    return _Proxy(host, port or 80, login)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the rules of TLS connections: certificates and host names are verified."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    folder = paths.capath
    if not (paths.cafile or (folder and os.listdir(folder))):  # noqa: PTH208  # a text
        with contextlib.suppress(ImportError):
            import certifi  # noqa: PLC0415  # only where the system has no store

            context.load_verify_locations(certifi.where())
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE"):
        if os.path.isdir(bundle):  # noqa: PTH112  # a text
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(bundle)
    return context


@functools.cache
def user_agent() -> str:
    """Name and version of this program, as servers see it."""
    try:
        return f"sen2chain/{importlib.metadata.version('sen2chain')}"
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "sen2chain"


def _forget() -> None:
    """Forget, in a forked process, the connections that its parent goes on using."""
    global _idle, _watch  # noqa: PLW0603  # one per process
    _watch = _Watch()
    for connections in _idle.places.values():
        for connection in connections:
            # Closes the descriptor of this process alone; unlike close() of TLS it sends nothing.
            with contextlib.suppress(OSError):
                os.close(connection.http.sock.detach())
    _idle = _Idle()


def _end() -> None:
    """Close the kept connections at the end of the process, and keep no more."""
    _idle.most = 0
    close_idle()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
