"""Real servers of a STAC catalogue and its files, each a program of its own on a free port of this machine.

`FileServer` is nginx, with ranges, signed places and an access log; `Database` is PostgreSQL with PostGIS and pgstac;
`Api` is stac-fastapi-pgstac, run by uvicorn; `ObjectStore` is moto's S3; `TokenServer` hands out the tokens that
nginx asks for in its signed places, as Planetary Computer does. The fixtures are in ``conftest.py``, started once per
test process::

    def test(file_server: FileServer, stac_api: Api) -> None:
        (file_server.place / "a.tif").write_bytes(content)
        stac_api.load("my-collection", [item, ...])
        with file_server.watched() as requests:
            ...  # read file_server.href("a.tif"), search stac_api.href
        assert requests[0].range == "bytes=0-32767"
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import http.server
import itertools
import json
import math
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import urllib3

from far_end import descendants, program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HOST = "127.0.0.1"

S3_KEY, S3_SECRET = "AKIALOOPBACKKEY00000", "loopback/secret+key0000000000000000000000"
"""Keys of the object store, which no file and no log may show."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether something listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


def postgres_program(name: str) -> str:
    """Find a program of PostgreSQL: Debian keeps them beside the path, by version."""
    versions = Path("/usr/lib/postgresql")
    folders = sorted(versions.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, folders))) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} of PostgreSQL is not installed")
    return found


def get(url: str) -> urllib3.BaseHTTPResponse:
    """Fetch a document without the module under test."""
    with urllib3.PoolManager() as pool:
        return pool.request("GET", url, retries=False, timeout=5)


class Server:
    """A program that is started on a free port, and stopped and started again there at will.

    Parameters
    ----------
    folder
        An empty folder for its files and its log.
    """

    name = "server"
    ending = signal.SIGTERM
    """The signal that ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def command(self) -> Sequence[str]:
        """Return the program with its arguments; writes the files that it needs."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return variables that the program has besides those of this process."""
        return {}

    def account(self) -> str | None:
        """Return the user under whom it runs; None is the user of the tests."""
        return None

    def begin(self) -> None:
        """Start it without waiting until it answers; on the same port again if it ran before."""
        self.port = self.port or free_port()
        command = self.command()
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own server
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | self.environment(),
                user=self.account(),
                group=self.account(),
                extra_groups=[] if self.account() else None,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        for _ in wait_until(f"{self.name} answers", 30):
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            if answers(self.port):
                return

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.begin()
        self.wait()

    def stop(self) -> None:
        """End it; a program that does not end by itself is killed."""
        if self._process is None:
            return
        self._process.send_signal(self.ending)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        """Return what it wrote."""
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True, slots=True)
class Request:
    """One line of nginx's access log."""

    method: str
    path: str
    """Path of the file below `FileServer.place`, without the place it was asked for in (``open/``, ``signed/``)."""
    query: str
    range: str
    """The header ``Range``, as ``bytes=0-32767``; empty where there was none."""
    status: int
    length: int
    """Bytes of the answer's body."""

    @property
    def bounds(self) -> tuple[int, int]:
        """First byte and the byte behind the last, as asked for."""
        first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", self.range).groups()  # type: ignore[union-attr]
        return int(first), int(last) + 1


class FileServer(Server):
    """nginx: the files of a folder with ranges; the same files under signatures; trouble where a test asks for it."""

    name = "nginx"
    ending = signal.SIGQUIT

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place = folder / "files"
        self.place.mkdir()
        self.secret = secrets.token_urlsafe(12)
        self._trouble = ""
        self._numbers = itertools.count(1)
        self._generation = 0

    def href(self, path: str, place: str = "open") -> str:
        """Return the address of a file; the place ``signed`` asks for a token of `sign`."""
        return f"http://{HOST}:{self.port}/{place}/{path}"

    def sign(self, seconds: float) -> str:
        """Return a query string that opens ``signed/`` for so many seconds from now, and up to one more."""
        end = math.ceil(time.time() + seconds)
        digest = hashlib.md5(f"{end} {self.secret}".encode(), usedforsecurity=False).digest()
        stamp = dt.datetime.fromtimestamp(end, dt.UTC).isoformat()
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return urllib.parse.urlencode({"se": stamp, "sp": "rl", "end": end, "sig": signature})

    def command(self) -> Sequence[str]:
        """Write the configuration and return the command."""
        self._configure()
        return program("nginx"), "-p", str(self.folder), "-e", "nginx.log", "-c", str(self.folder / "nginx.conf")

    def _configure(self) -> None:
        self._generation += 1
        places = "".join(f"  {kind}_temp_path temp;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        fields = {
            "method": "$request_method",
            "path": "$uri",
            "query": "$args",
            "range": "$http_range",
            "status": "$status",
            "length": "$body_bytes_sent",
        }
        user = "user root;" if os.geteuid() == 0 else ""  # temporary folders of tests are closed to others
        text = f"""
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
worker_shutdown_timeout 1s;
events {{ worker_connections 512; }}
http {{
{places}
  log_format requests escape=json '{json.dumps(fields)}';
  access_log access.log requests;
  limit_req_zone $server_addr zone=slow:1m rate=20r/s;
  server {{
    listen {HOST}:{self.port};
    location = /generation {{ return 200 {self._generation}; }}
    {self._trouble}
    location /open/ {{ alias {self.place}/; }}
    location /signed/ {{
      {self.signed_location()}
      alias {self.place}/;
    }}
  }}
}}
"""
        (self.folder / "nginx.conf").write_text(text, encoding="utf-8")

    def signed_location(self) -> str:
        """Return the lines of the configuration that make a location ask for a token of `sign`."""
        return f"""secure_link $arg_sig,$arg_end;
      secure_link_md5 "$secure_link_expires {self.secret}";
      if ($secure_link != 1) {{ return 403; }}"""

    @contextlib.contextmanager
    def troubled(self, configuration: str) -> Iterator[None]:
        """Add lines to the configuration of the server for as long as the context lasts.

        ``location ~ B04 { return 503; }`` answers 503 for some files. In a location that serves files ``limit_req
        zone=slow`` refuses more than 20 requests a second.
        """
        self._trouble = configuration
        self._reload()
        try:
            yield
        finally:
            self._trouble = ""
            self._reload()

    def _reload(self) -> None:
        assert self._process is not None
        before = set(descendants(self._process.pid))
        self._configure()
        self._process.send_signal(signal.SIGHUP)
        # For a moment both the old and the new worker process accept connections.
        for _ in wait_until("nginx has read its configuration"):
            if get(f"http://{HOST}:{self.port}/generation").data == str(self._generation).encode():
                break
        for _ in wait_until("nginx's old worker has ended"):
            if before.isdisjoint(descendants(self._process.pid)):
                return

    def requests(self) -> list[Request]:
        """Return all requests for files so far, in the order in which their answers ended."""
        # The one worker process writes the line of an answer before it reads the next request: when a marker is in the
        # log, so is all that was answered before it.
        mark = f"/mark/{next(self._numbers)}"
        get(f"http://{HOST}:{self.port}{mark}")
        for _ in wait_until("nginx has written its log"):
            lines = (self.folder / "access.log").read_text(encoding="utf-8").splitlines()
            if lines and mark in lines[-1]:
                break
        entries = [json.loads(line) for line in lines]
        return [
            Request(
                method=entry["method"],
                path=entry["path"].split("/", 2)[2],
                query=entry["query"],
                range=entry["range"],
                status=int(entry["status"]),
                length=int(entry["length"]),
            )
            for entry in entries
            if not entry["path"].startswith(("/mark/", "/generation"))
        ]

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Request]]:
        """Collect requests: when the context ends, the list holds those made while it lasted."""
        before, during = len(self.requests()), list[Request]()
        yield during
        during += self.requests()[before:]


class TokenServer:
    """Tokens for the signed places of a file server, as Planetary Computer's signing service gives them.

    Parameters
    ----------
    files
        The file server.
    seconds
        How long a token is valid.
    told
        How long the service says that it is; None for the truth.
    """

    def __init__(self, files: FileServer, seconds: float = 3600, told: float | None = None) -> None:
        self.files, self.seconds = files, seconds
        self.told = seconds if told is None else told
        self.asked: list[str] = []
        """Paths of the requests."""
        self.given: list[str] = []
        """Tokens given."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                token = outer.files.sign(outer.seconds)
                outer.asked.append(self.path)
                outer.given.append(token)
                end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=outer.told)
                document = {"msft:expiry": end.isoformat(), "token": token}
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def href(self) -> str:
        """Address of the service, to which account and container are added."""
        return f"http://{HOST}:{self._server.server_address[1]}/api/sas/v1/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Database(Server):
    """PostgreSQL with PostGIS and pgstac's tables. It does not run as root, so that its folder is one of its own."""

    name = "postgres"
    ending = signal.SIGINT

    def __init__(self, folder: Path) -> None:
        initdb = postgres_program("initdb")
        if not Path(sys.prefix, "bin", "pypgstac").exists():
            pytest.skip("pypgstac is not installed")
        super().__init__(folder)
        self._own = tempfile.TemporaryDirectory(prefix="postgres-")
        self.data = Path(self._own.name, "data")
        if user := self.account():
            shutil.chown(self._own.name, user, user)
        command = (
            initdb,
            "-D",
            str(self.data),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        subprocess.run(  # noqa: S603 - our own server
            command, check=True, capture_output=True, cwd="/", user=user, group=user, extra_groups=[] if user else None
        )

    def account(self) -> str | None:
        """Return a user without rights where the tests run as root, as whom PostgreSQL does not start."""
        if os.geteuid() != 0:
            return None
        names = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in names else "nobody"

    def command(self) -> Sequence[str]:
        """Return the command: a server that forgets everything when the machine stops, which tests do not mind."""
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "shared_buffers": "32MB",
            "autovacuum": "off",
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        return postgres_program("postgres"), "-D", str(self.data), "-p", str(self.port), *options

    def begin(self) -> None:
        """Start it; PostgreSQL asks that it may enter the folder it is started in."""
        folder, self.folder = self.folder, Path(self._own.name)
        try:
            super().begin()
        finally:
            self.folder = folder

    def log(self) -> str:
        """Return what it wrote."""
        return Path(self._own.name, "postgres.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End it and remove its data."""
        super().stop()
        self._own.cleanup()

    def variables(self) -> Mapping[str, str]:
        """Return the variables that tell programs of this database."""
        return {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
            "PGPASSWORD": "none",
        }

    def migrate(self) -> None:
        """Make pgstac's tables."""
        command = (sys.executable, "-m", "pypgstac.pypgstac", "migrate")
        done = subprocess.run(  # noqa: S603 - our own server
            command, check=False, capture_output=True, text=True, env=os.environ | self.variables()
        )
        assert done.returncode == 0, done.stderr


class Api(Server):
    """stac-fastapi-pgstac, run by uvicorn, over a database."""

    name = "uvicorn"

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder)
        self.database = database

    @property
    def href(self) -> str:
        """Address of the API's landing page."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command."""
        app = ("--factory", "stac_fastapi.pgstac.app:create_app")
        return sys.executable, "-m", "uvicorn", *app, "--host", HOST, "--port", str(self.port)

    def environment(self) -> Mapping[str, str]:
        """Return where the database is."""
        return self.database.variables()

    def load(self, collection: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Add items to a collection, which is made where it is new; items of the same id are replaced."""
        from pypgstac.db import PgstacDB  # noqa: PLC0415  # a test process without it skips these tests
        from pypgstac.load import Loader, Methods  # noqa: PLC0415

        where = self.database.variables()
        dsn = f"postgresql://{where['PGUSER']}@{where['PGHOST']}:{where['PGPORT']}/{where['PGDATABASE']}"
        described = {
            "id": collection,
            "type": "Collection",
            "stac_version": "1.0.0",
            "description": "Sentinel-2 products of a test.",
            "license": "proprietary",
            "links": [],
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        }
        with PgstacDB(dsn=dsn) as database:
            loader = Loader(database)
            loader.load_collections(iter([described]), Methods.insert_ignore)
            loader.load_items(iter([dict(item) | {"collection": collection} for item in items]), Methods.upsert)

    def requests(self) -> list[str]:
        """Return the requests so far, as ``POST /search``."""
        return re.findall(r'"(\w+ \S+) HTTP/', self.log())


class ObjectStore(Server):
    """moto's S3 server. It refuses requests without a signature, and does not check signatures."""

    name = "moto"

    @property
    def href(self) -> str:
        """Address of the store, the endpoint."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command."""
        return sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)

    def client(self) -> Any:
        """Return botocore's client of the store."""
        import botocore.session  # noqa: PLC0415  # a test process without it skips these tests

        session = botocore.session.Session()
        session.set_credentials(S3_KEY, S3_SECRET)
        return session.create_client("s3", region_name="us-east-1", endpoint_url=self.href)

    def upload(self, bucket: str, folder: Path, below: str = "") -> None:
        """Copy the files of a folder into a bucket, which is made; only signed requests may read them."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.put_object(Bucket=bucket, Key=f"{below}{path.relative_to(folder)}", Body=path.read_bytes())
        client.close()

    def requests(self) -> list[str]:
        """Return the requests so far, as ``GET /bucket/key?query``."""
        return re.findall(r'"(\w+ \S+) HTTP/', self.log())


@contextlib.contextmanager
def started_api(folder: Path) -> Iterator[Api]:
    """Start a database and the API over it at the same time."""
    (folder / "database").mkdir()
    database = Database(folder / "database")
    with contextlib.ExitStack() as stack:
        stack.callback(database.stop)
        database.start()
        api = Api(folder, database)
        stack.callback(api.stop)
        api.begin()  # its libraries take as long to load as pgstac's tables to be made
        database.migrate()
        api.wait()
        yield api
