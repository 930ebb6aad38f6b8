"""A real far end for deliveries: an sshd of our own on a free port of this machine, with keys made for the test.

::

    @pytest.fixture(scope="module")
    def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarEnd]:
        with FarEnd(tmp_path_factory.mktemp("far")) as end:
            yield end

    def test(far: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RSYNC_RSH", far.shell())
        ...  # deliver to far.at("folder"), which is the folder far.place / "folder"
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "far"
"""The server's name in the configuration that `FarEnd.shell` gives to ssh."""


def program(name: str) -> str:
    """Find a program; sbin is not on everybody's path."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def make_key(path: Path) -> Path:
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)  # noqa: S603
    return path


def wait_until(what: str, seconds: float = 10.0) -> Iterator[None]:
    """Loop until the caller leaves it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.01)
    pytest.fail(f"waited in vain until {what}")


def descendants(process: int) -> list[int]:
    """Numbers of the processes below one."""
    try:
        children = [
            int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [below for child in children for below in descendants(child)]


class FarEnd:
    """A server that is started, stopped and cut off at will.

    Parameters
    ----------
    folder
        An empty folder for its keys, its configuration and what is delivered to it.
    settings
        More lines for ``sshd_config``.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        program("rsync")
        self.folder, self.settings = folder, settings
        self.place = folder / "place"
        self.place.mkdir()
        self.known = folder / "known_hosts"
        self.host_key = make_key(folder / "host_key")
        self.key = make_key(folder / "key")
        self.port = 0
        self._sshd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def at(self, path: str = "") -> str:
        """Return a destination at this server."""
        return f"{HOST}:{self.place}/{path}"

    def start(self) -> None:
        """Start it; on the same port again if it ran before."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # it will not run without, and packages make it at boot only
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.trust(self.host_key)
        lines = (
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.key}.pub",
            "UsePAM no",
            "StrictModes no",  # temporary folders lie in one that everybody may write
            "PidFile none",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            *self.settings,
        )
        config = self.folder / "sshd_config"
        config.write_text("\n".join((*lines, "")), encoding="utf-8")
        with (self.folder / "sshd.log").open("ab") as log:
            self._sshd = subprocess.Popen(  # noqa: S603 - our own server
                [program("sshd"), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )
        for _ in wait_until("sshd answers"):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._sshd.poll() is None, self.log()

    def stop(self) -> None:
        """Stop it, with all that goes on there."""
        if self._sshd is not None:
            self.cut()
            self._sshd.kill()
            self._sshd.wait()
            self._sshd = None

    def cut(self) -> None:
        """Kill the connections that are open."""
        assert self._sshd is not None
        for process in descendants(self._sshd.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def busy(self) -> bool:
        """Tell whether somebody is connected."""
        return self._sshd is not None and bool(descendants(self._sshd.pid))

    def trust(self, key: Path) -> None:
        """Take a key for that of this server from now on."""
        kind, text = Path(f"{key}.pub").read_text(encoding="ascii").split()[:2]
        self.known.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n", encoding="ascii")

    def shell(self, *, key: Path | None = None, known: Path | None = None) -> str:
        """Return what `RSYNC_RSH` is to be, and have its configuration written."""
        lines = (
            f"Host {HOST}",
            "  HostName 127.0.0.1",
            f"  Port {self.port}",
            f"  IdentityFile {key or self.key}",
            "  IdentitiesOnly yes",
            f"  UserKnownHostsFile {known or self.known}",
            "  GlobalKnownHostsFile none",
        )
        config = self.folder / "ssh_config"
        config.write_text("\n".join((*lines, "")), encoding="utf-8")
        return f"{program('ssh')} -F {config}"

    def log(self) -> str:
        """Return what it wrote."""
        return (self.folder / "sshd.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """Mount a disk without much room on a folder, which is made."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)  # noqa: S603, S607
    try:
        yield folder
    finally:
        # Lazily: what was cut off a moment ago may still hold a file.
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607


def lock(folder: Path) -> None:
    """Let nobody write on a small disk any more, root neither."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)  # noqa: S603, S607


def slow_rsync(folder: Path, rate: int) -> str:
    """Return a PATH on which rsync sends only so many kilobytes per second."""
    folder.mkdir()
    script = folder / "rsync"
    script.write_text(f'#!/bin/sh\nexec {program("rsync")} --bwlimit={rate} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def old_rsync(folder: Path) -> Path:
    """Return a folder with an rsync that does not know --mkpath, as those before 3.2.3."""
    folder.mkdir()
    copy = folder / "rsync"
    copy.write_bytes(Path(program("rsync")).read_bytes().replace(b"mkpath\0", b"mkpaty\0"))
    copy.chmod(0o755)
    return folder
