"""Files to a folder at a server: rsync over ssh, both as the system has them.

What users have set up for ssh holds: keys, known hosts, jumps, ports. rsync writes each file under a hidden name and
renames it when it is complete. It is not told to keep partial files: a later run continues such a file in its place,
and when two runs do so at once, one gives the file its name while the other still writes into it. They would also keep
a full disk full.
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
from sen2chain.jobs.delivery.rsync_errors import understand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

    from sen2chain.jobs.delivery.destination import Remote

_SSH_OPTIONS = (
    "-o BatchMode=yes",  # nobody is there to type
    "-o ConnectTimeout=20",
    "-o ServerAliveInterval=15",
    "-o ServerAliveCountMax=4",
)
_OPTIONS = (
    "--times",
    "--omit-dir-times",  # somebody else may own a folder that we may write into
    "--copy-links",  # a link would be left out without an error
    "--relative",
    "--no-implied-dirs",  # else a link to a folder at the far end is replaced by a folder
    "--files-from=-",
    "--from0",
    "--protect-args",
    "--timeout=60",
    "--itemize-changes",
)
_MISSING_PARENTS = re.compile(r'mkdir "[^\n]*" failed: No such file or directory')
# Now and then rsync at the far end is gone before its message is through; a folder that exists all of a sudden was made
# by another delivery in that moment. A second look tells, or all is well then.
_UNCLEAR = re.compile(r"\s*|.*mkdir [^\n]* failed: File exists.*", re.DOTALL)
_LOOKS = 3
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
    """Say which program is not installed here; None if none is missing."""
    if shutil.which("rsync") is None:
        return "There is no rsync on this machine; install the package rsync."
    ssh = _program(_remote_shell())
    if shutil.which(ssh) is None:
        return f"There is no {ssh} on this machine; install the package openssh-client, or correct RSYNC_RSH."
    return None


def send(
    root: Path, names: Sequence[str], destination: Remote, patience: Patience, *, is_new: bool = True
) -> list[str]:
    """Bring files to a server, those only that are not there yet with the same size and time.

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
        if not parents and _MISSING_PARENTS.search(end.said):
            if not is_new:
                raise GoneError(destination)
            parents = True  # only now, because an rsync before 3.2.3 does not know the option
            continue
        if looks and end.code > 0 and _UNCLEAR.fullmatch(end.said):
            looks -= 1
            continue
        complaint = understand(end.code, end.said, destination)
        if not (complaint.passing and patience.pause(complaint.sentence)):
            raise IncompleteError(complaint.sentence)


def command(root: Path, destination: Remote, *, parents: bool, is_new: bool = True) -> list[str]:
    """Return what is run; the names follow on its standard input."""
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

    It reads and writes files in the place of pipes, so that only its own end is waited for, not that of a connection
    which ssh may keep open behind it.

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
    """See to it that neither rsync nor its ssh goes on, whatever made us stop."""
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
