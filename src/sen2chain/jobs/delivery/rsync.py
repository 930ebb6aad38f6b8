"""Delivery to a folder of a server, by the system's rsync over ssh.

Everything that users have set up for ssh is used: keys, known hosts, jumps, ports. rsync writes each file under a
hidden name and renames it when it is complete. It is not told to keep partial files: a later run would continue such a
file in its place, and of two runs at once one could give the file its name while the other still writes to it.

A failure is reported with rsync's exit code, its meaning in rsync's manual, and the first and last lines that rsync and
ssh wrote.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from sen2chain.errors import DeliveryError
from sen2chain.jobs.delivery.retry import GoneError, IncompleteError, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

    from sen2chain.jobs.delivery.destination import Remote

_SSH_OPTIONS = (
    "-o BatchMode=yes",  # no one can type an answer
    "-o ConnectTimeout=20",
    "-o ServerAliveInterval=15",
    "-o ServerAliveCountMax=4",
)
_OPTIONS = (
    "--times",
    "--omit-dir-times",  # the folder may belong to another user and be writable
    "--copy-links",  # a link would be left out without an error
    "--relative",
    "--no-implied-dirs",  # else a link to a folder at the far end is replaced by a folder
    "--files-from=-",
    "--from0",
    "--protect-args",
    "--timeout=60",
    "--itemize-changes",
)
_CODES = {
    1: "syntax or usage error",
    2: "protocol incompatibility",
    3: "errors selecting input or output files",
    4: "requested action not supported",
    5: "error starting the client-server protocol",
    6: "daemon unable to append to its log",
    10: "error in socket I/O",
    11: "error in file I/O",
    12: "error in the protocol data stream",
    13: "errors with program diagnostics",
    14: "error in IPC code",
    20: "interrupted",
    21: "error returned by waitpid()",
    22: "error allocating memory",
    23: "partial transfer due to an error",
    24: "partial transfer due to vanished source files",
    25: "the limit of deletions stopped it",
    30: "timeout in data send or receive",
    35: "timeout waiting for a daemon connection",
    127: "rsync not found",
    255: "error of ssh",
}
"""Exit codes: those of rsync's manual, and those of ssh and of the shell at the server, which rsync passes on."""
_CONNECTION = {5, 10, 12, 30, 35, 255}
"""Codes of a connection that failed; the next try may succeed."""
_FILE_IO = 11
_MKDIR = re.compile(r"mkdir [^\n]*\((?P<errno>[0-9]+)\)")
"""A folder that could not be made, with the number of the error: 2 no folder above it, 17 it exists by now."""
_NO_FOLDER_ABOVE, _EXISTS = "2", "17"
_LOOKS = 3
_SHOWN = 240  # characters of the first and of the last lines that rsync and ssh wrote
_SENT = re.compile(rb"^<f\S{9} (.+)$", re.MULTILINE)
_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")
_READ = 1 << 16
_GRACE = 3.0
"""Seconds that rsync and ssh have to end by themselves before they are killed."""


class _End(NamedTuple):
    """How a run of rsync ended."""

    code: int
    sent: set[str]
    said: str


def missing_program() -> str | None:
    """Return a sentence on the program that is not installed; None if both are."""
    if shutil.which("rsync") is None:
        return "There is no rsync on this machine; install the package rsync."
    ssh = _program(_remote_shell())
    if shutil.which(ssh) is None:
        return f"There is no {ssh} on this machine; install the package openssh-client, or correct RSYNC_RSH."
    return None


def send(
    root: Path, names: Sequence[str], destination: Remote, patience: Patience, *, is_new: bool = True
) -> list[str]:
    """Send files to a server, except those that are there with the same size and time.

    Returns
    -------
    list of str
        The names that were sent.

    Raises
    ------
    IncompleteError
        If not all files arrived.
    """
    sent: set[str] = set()
    parents = False
    looks = _LOOKS
    while True:
        arguments = command(root, destination, parents=parents, is_new=is_new)
        end = _run(arguments, names, destination, patience)
        # What a failed run lists was sent off but may not have arrived. When a later run succeeds, it has.
        sent |= end.sent
        if end.code == 0:
            return [name for name in names if name in sent]
        folder = _MKDIR.search(end.said) if end.code == _FILE_IO else None
        if folder and folder["errno"] == _NO_FOLDER_ABOVE and not parents:
            if not is_new:
                raise GoneError(destination)
            parents = True  # only now, because an rsync before 3.2.3 does not know the option
            continue
        # A folder that exists by now was made by another delivery in that moment. And rsync at the server may end
        # before its message is through. A second look tells, or succeeds.
        if looks and end.code > 0 and (folder["errno"] == _EXISTS if folder else not end.said.strip()):
            looks -= 1
            continue
        sentence = _sentence(end, destination)
        if not (end.code in _CONNECTION and patience.pause(sentence)):
            raise IncompleteError(sentence)


def _sentence(end: _End, destination: Remote) -> str:
    """Return a sentence on a failed run: the exit code, its meaning, and the ends of what rsync and ssh wrote."""
    login = destination.login.replace("[", "").replace("]", "")
    meaning = _CODES.get(end.code, "see what it says")
    advice = (
        f"try 'ssh {login}' by hand, as the user who runs the job and without a passphrase; the next delivery sends "
        "the rest"
        if end.code in _CONNECTION else "mend that, and the next delivery sends the rest"
    )  # fmt: skip
    # The lines that begin so only repeat the code.
    lines = [line.strip() for line in end.said.splitlines() if not line.startswith("rsync error: ")]
    clean = "".join(char if char.isprintable() else " " for char in " ".join(filter(None, lines)))
    short = clean if len(clean) <= 2 * _SHOWN else f"{clean[:_SHOWN]} ... {clean[-_SHOWN:]}"
    said = f' ("{short.strip().rstrip(".")}")' if short.strip() else ""
    return f"Not all files arrived at {destination}: rsync ended with code {end.code}, {meaning}{said}; {advice}."


def command(root: Path, destination: Remote, *, parents: bool, is_new: bool = True) -> list[str]:
    """Return the arguments of rsync, which reads the names from its standard input."""
    # rsync makes the last folder of a path where it is missing, but it cannot make one that is called ".".
    far = destination.argument if is_new else f"{destination.argument}./"
    return [
        "rsync",
        *_OPTIONS,
        *(["--mkpath"] if parents else []),
        "-e",
        " ".join((_remote_shell(), *_SSH_OPTIONS)),
        "--",
        f"{root}/",
        far,
    ]


def _run(arguments: list[str], names: Sequence[str], destination: Remote, patience: Patience) -> _End:
    """Run rsync once.

    Its input and output are files instead of pipes, so that only rsync itself is waited for, and not a connection that
    ssh keeps open in the background.

    Raises
    ------
    DeliveryError
        If it cannot be started, or takes longer than there is time.
    """
    with contextlib.ExitStack() as stack:
        try:
            asked, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            # Also with --from0 a name that begins with # or ; would be a comment, and be left out without an error.
            asked.write(b"".join(b"./" + os.fsencode(name) + b"\0" for name in names))
            asked.seek(0)
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, each of them checked
                arguments,
                stdin=asked,
                stdout=out,
                stderr=err,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise DeliveryError(
                f"rsync to {destination} cannot be started here ({reason}); mend that first."
            ) from error
        try:
            code = process.wait(patience.left())
        except subprocess.TimeoutExpired:
            raise patience.over(destination) from None
        finally:
            _end(process)
        return _End(code, _names(_content(out)), _content(err, _READ).decode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop rsync and its ssh, if they still run."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _content(file: IO[bytes], last: int | None = None) -> bytes:
    """Return what a program wrote, or its `last` bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0 if last is None else max(0, size - last))
    return file.read()


def _names(listed: bytes) -> set[str]:
    """Return the names of the files in rsync's list of changes."""
    plain = (_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name) for name in _SENT.findall(listed))
    return {os.fsdecode(name) for name in plain}


def _remote_shell() -> str:
    return os.environ.get("RSYNC_RSH", "").strip() or "ssh"


def _program(line: str) -> str:
    try:
        return shlex.split(line)[0]
    except (ValueError, IndexError):
        return line.split(maxsplit=1)[0]
