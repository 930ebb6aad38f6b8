"""A small HTTP server on loopback that answers ranges, and fails as it is told.

::

    with TroubledServer({"/a.tif": data}) as server:
        server.script("/a.tif", Trouble(503), Trouble(cut_after=1000))    # its first two requests
        ... server.url + "/a.tif" ...
        assert [(entry.status, entry.sent) for entry in server.log] == ...

It serves bytes that it is given, and files of a folder. `started` runs it in a process of its own, so that it does not
take processor time from what is measured. As a program it serves a folder: ``python tests/troubled_server.py FOLDER``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import defaultdict, deque
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_STEP = 1 << 18


@dataclass(frozen=True, slots=True)
class Trouble:
    """How one request is answered otherwise than usual; `Trouble()` changes nothing."""

    status: int = 0
    """Status to answer with, with `headers` and `body` alone; 0: the file."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers."""
    body: bytes = b""
    """Contents for `status`."""
    wait: float = 0.0
    """Seconds before the answer; a stall where it is longer than clients wait."""
    cut_after: int | None = None
    """Bytes of the contents after which the connection is closed."""
    reset: bool = False
    """Whether it is then reset, as by a firewall."""
    shift: int = 0
    """Bytes by which another range is sent, and truly declared, than was asked for."""
    undeclared: bool = False
    """Whether ``Content-Range`` is left out."""
    whole: bool = False
    """Whether the whole file is sent, with status 200, in spite of a range."""
    etag: str = ""
    """Another ETag than the file's."""
    trickle: float = 0.0
    """Seconds between any two bytes of the contents."""
    chunked: bool = False
    """Whether the contents come in chunks, without a length."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what was answered."""

    path: str
    """Without query, unquoted."""
    first: int | None = None
    """First byte of the range that was asked for; None: the whole file."""
    last: int | None = None
    """Last byte of it."""
    status: int = 0
    """Status of the answer."""
    sent: int = 0
    """Bytes of contents that were sent."""
    query: str = ""
    """The query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the request, with names in lower case."""
    connection: int = 0
    """Number of the connection, from 1."""
    target: str = ""
    """Path and query as they were sent."""


class TroubledServer:
    """The server; use it as a context.

    Parameters
    ----------
    files
        Path, as ``"/a.tif"``, -> contents.
    folder
        Folder whose files are served, too.
    latency
        Seconds that are added to each answer.
    tls
        Certificate of the server, for ``https://``.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        folder: Path | None = None,
        *,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.files = dict(files or {})
        self.latency = latency
        self.log: list[Request] = []
        """Requests in the order in which their answers ended."""
        self.most_at_once = 0
        """Largest number of requests that were answered at a time."""
        self.connections = 0
        """Number of connections that were made."""
        self.begins_plain = False
        """Whether connections are encrypted only after ``CONNECT``, as those through a proxy are."""
        self.answers: dict[str, Callable[[Request], Trouble | None]] = {}
        """Path, or ``"*"`` -> function that answers its requests; None: with the file."""
        self._folder, self._tls = folder, tls
        self._scripts: dict[str, deque[Trouble | None]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._busy = 0
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    @property
    def port(self) -> int:
        """Port on loopback."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def script(self, path: str, *troubles: Trouble | None) -> None:
        """Say how the next requests for a path are answered, one each; ``"*"``: those for any path; None: as usual."""
        with self._lock:
            self._scripts[path].extend(troubles)

    def ranges(self, path: str) -> list[tuple[int, int]]:
        """Ranges (offset, length) that were asked for of a file, in order of the log."""
        return [
            (entry.first, (entry.last or 0) + 1 - entry.first)
            for entry in self.log
            if entry.path == path and entry.first is not None
        ]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for sock in left:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with self._lock:
            self._open.add(sock)
        plain = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls and not self.begins_plain:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._converse(sock, number)
        except (OSError, ValueError):
            pass  # the client has gone
        finally:
            with self._lock:
                self._open.discard(plain)
            sock.close()
            plain.close()

    def _converse(self, sock: socket.socket, number: int) -> None:
        """Answer the requests of one connection."""
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                chunk = sock.recv(1 << 16)
                if not chunk:
                    return
                buffer += chunk
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
            if method == "CONNECT":  # as a proxy that leads to this very server
                asked = Request(target, headers=headers, connection=number)
                status = self._trouble(asked).status or 200
                self.log.append(replace(asked, status=status))
                sock.sendall(b"HTTP/1.1 %d X\r\n\r\n" % status)
                if status != 200:
                    return
                if self._tls:
                    with self._tls.wrap_socket(sock, server_side=True) as inner:
                        self._converse(inner, number)
                    return
                continue
            while len(buffer) < int(headers.get("content-length", "0")):
                buffer += sock.recv(1 << 16)
            buffer = buffer[int(headers.get("content-length", "0")) :]
            parts = urlsplit(target)
            first = last = None
            if match := _RANGE.fullmatch(headers.get("range", "")):
                first, last = int(match[1]), int(match[2] or 1 << 62)
            asked = Request(unquote(parts.path), first, last, 0, 0, parts.query, headers, number, target)
            with self._lock:
                self._busy += 1
                self.most_at_once = max(self.most_at_once, self._busy)
            try:
                goes_on = self._answer(sock, asked)
            finally:
                with self._lock:
                    self._busy -= 1
            if not goes_on:
                return

    def _trouble(self, asked: Request) -> Trouble:
        with self._lock:
            for path in (asked.path, "*"):
                if self._scripts[path]:
                    return self._scripts[path].popleft() or Trouble()
        for path in (asked.path, "*"):
            if path in self.answers:
                return self.answers[path](asked) or Trouble()
        return Trouble()

    def _answer(self, sock: socket.socket, asked: Request) -> bool:
        """Answer one request; return whether the connection goes on."""
        trouble = self._trouble(asked)
        if self._ended.wait(trouble.wait) if trouble.wait else self._ended.is_set():
            return False
        if self.latency:
            time.sleep(self.latency)
        status, headers, body = self._contents(asked, trouble)
        headers |= trouble.headers
        if trouble.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"".join(
                b"%x\r\n%b\r\n" % (len(part), part)
                for part in (body[at : at + 1000] for at in range(0, len(body), 1000))
            )
            body += b"0\r\n\r\n"
        else:
            headers.setdefault("Content-Length", str(len(body)))
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        cut = trouble.cut_after is not None
        body = body[: trouble.cut_after]
        with self._lock:  # before it is sent: a client may look into the log as soon as it has its answer
            self.log.append(replace(asked, status=status, sent=len(body)))
        if trouble.trickle:
            sock.sendall(head.encode("latin-1"))
            for at in range(len(body)):
                if self._ended.wait(trouble.trickle):
                    return False
                sock.sendall(body[at : at + 1])
        elif len(body) < _STEP:
            sock.sendall(head.encode("latin-1") + body)
        else:
            sock.sendall(head.encode("latin-1"))
            sock.sendall(body)
        if cut and trouble.reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not cut and headers.get("Connection", "").lower() != "close"

    def _contents(self, asked: Request, trouble: Trouble) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and contents of an answer."""
        if trouble.status:
            return trouble.status, {}, trouble.body
        if asked.path == "/_log":
            with self._lock:
                entries = [asdict(entry) for entry in self.log]
                self.log.clear()
            return 200, {}, json.dumps({"entries": entries, "most_at_once": self.most_at_once}).encode()
        found = self._find(asked.path)
        if found is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        data, etag = found
        headers = {"ETag": trouble.etag or etag, "Accept-Ranges": "bytes"}
        if asked.first is None or trouble.whole or not data:
            return 200, headers, self._part(data, 0, len(data))
        if asked.first >= len(data):
            return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
        first = max(asked.first + trouble.shift, 0)
        last = min((asked.last or 0) + trouble.shift, len(data) - 1)
        if not trouble.undeclared:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, headers, self._part(data, first, last + 1)

    def _find(self, path: str) -> tuple[bytes | _OnDisk, str] | None:
        if path in self.files:
            data = self.files[path]
            return data, f'"{zlib.crc32(data):x}"'
        if self._folder is None:
            return None
        file = (self._folder / path.lstrip("/")).resolve()
        if not file.is_relative_to(self._folder.resolve()) or not file.is_file():
            return None
        facts = file.stat()
        return _OnDisk(file, facts.st_size), f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'

    @staticmethod
    def _part(data: bytes | _OnDisk, start: int, stop: int) -> bytes:
        if isinstance(data, bytes):
            return data[start:stop]
        with data.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@dataclass(frozen=True, slots=True)
class _OnDisk:
    path: Path
    size: int

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True, slots=True)
class Started:
    """A server in a process of its own."""

    url: str
    """Address, without a slash at the end."""

    def take_log(self) -> list[Request]:
        """Return the requests since the last call, without those for the log."""
        return [Request(**entry) for entry in self._log()["entries"]]

    def most_at_once(self) -> int:
        """Return the largest number of requests that were answered at a time."""
        return int(self._log()["most_at_once"])

    def _log(self) -> dict[str, Any]:
        with urlopen(f"{self.url}/_log") as answer:  # noqa: S310  # our own server
            found: dict[str, Any] = json.loads(answer.read())
        found["entries"] = [entry for entry in found["entries"] if entry["path"] != "/_log"]
        return found


@contextlib.contextmanager
def started(folder: Path, latency: float = 0.0) -> Iterator[Started]:
    """Serve a folder from a process of its own while the context lasts; see `TroubledServer`."""
    program = [sys.executable, __file__, str(folder), "--latency", str(latency)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own interpreter
        assert process.stdout is not None
        try:
            yield Started(process.stdout.readline().strip())
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a folder on loopback; prints the address.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds that are added to each answer.")
    options = parser.parse_args()
    with TroubledServer(folder=options.folder, latency=options.latency) as server:
        print(server.url, flush=True)  # noqa: T201  # a program that says where it is
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()  # until the process that started it ends


if __name__ == "__main__":
    main()
