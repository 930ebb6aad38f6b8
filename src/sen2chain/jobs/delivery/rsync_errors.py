"""What rsync and ssh say when they fail, turned into one sentence that says what to do.

Both are run in English. Their exit codes alone say little: a server that cannot be reached, an unknown host key and a
refused login are all 255, and 12 with rsync 3.2, whose code for a missing rsync at the far end is 12 as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sen2chain.jobs.delivery.destination import Remote

_TAIL = 300
# Lines that follow every failure and say nothing of its cause.
_NOISE = re.compile(r"rsync error: |rsync: connection unexpectedly closed|rsync: \[\w+\] safe_write failed|@+$")
_PASSING_CODES = {10, 12, 30, 35, 255}


class Complaint(NamedTuple):
    """Why a try failed."""

    sentence: str
    passing: bool
    """Whether it may pass by itself, so that another try makes sense."""


class _Known(NamedTuple):
    """What is said, the cause it stands for, what to do about it, and whether it may pass by itself."""

    said: str
    cause: str
    advice: str
    passing: bool = False


# The first that matches counts, so the more exact ones come first.
_KNOWN = (
    _Known(
        r"HOST IDENTIFICATION HAS CHANGED",
        "{host} shows another host key than before",
        "ask its administrator whether that is meant, and only then remove the old key with 'ssh-keygen -R {host}' and "
        "log in once by hand",
    ),
    _Known(
        r"Host key verification failed|host key is known for",
        "the host key of {host} is not known here",
        "log in once by hand with 'ssh {login}', as the user who runs the job, and accept the key if it is right",
    ),
    _Known(
        r"Permission denied \((?!\d)|Too many authentication failures",
        "{host} refuses the login of {login}",
        "install your key there with 'ssh-copy-id {login}', one without a passphrase, because cron holds no unlocked "
        "keys",
    ),
    _Known(
        r"No space left on device|quota exceeded",
        "no room is left there on the disk or in the quota",
        "free some and deliver again",
    ),
    _Known(
        r"Failed to exec",
        "ssh cannot be started here",
        "install openssh-client, or correct RSYNC_RSH",
    ),
    _Known(
        r"command not found|rsync: not found|Unknown command|\(code 127\)",
        "there is no rsync at {host}",
        "ask for rsync to be installed there",
    ),
    _Known(
        r"mkpath: unknown option",
        "the folders above it are missing and an rsync older than 3.2.3, there or here, cannot make them",
        "make the folder there by hand with 'mkdir -p'",
    ),
    _Known(
        r"Permission denied \(13\)|Read-only file system|Operation not permitted",
        "{login} may not write everywhere there",
        "ask for the right to do so, or choose another folder",
    ),
    _Known(
        r"[Ss]ymbolic link|untrusted user|mkdir [^\n]* failed: File exists",
        "the way leads over a link that rsync there does not follow",
        "write the folder that the link leads to",
    ),
    _Known(
        r"Not a directory|could not make way|[Ii]s a directory",
        "there is a file in the place of a folder, or a folder in that of a file",
        "move it away, or choose another folder",
    ),
    _Known(
        r"File name too long",
        "a name is too long for the disk there",
        "choose shorter names, or another folder",
    ),
    _Known(
        r"\[sender\] (?:link_stat|send_files failed|change_dir)|file has vanished",
        "a file was removed or locked while it was sent",
        "deliver again when nothing else changes the files",
    ),
    _Known(
        r"is your shell clean",
        "{host} answers with text in the place of rsync",
        "see to it that 'ssh {login} true' prints nothing",
    ),
    _Known(
        r"Could not resolve hostname",
        "the name {host} is not known on the network",
        "check how it is written, and the network",
        passing=True,
    ),
    _Known(
        r"Connection (?:refused|timed out)|timed out during banner|No route to host|Network is unreachable",
        "{host} cannot be reached",
        "check that it runs and that ssh reaches it, and the next delivery sends the rest",
        passing=True,
    ),
)
# Now and then the far end is gone before its message about the full disk is through.
_UNSAID = _Known("", "nothing more can be written there, probably as no room is left", "free some and deliver again")
_LOST = _Known("", "the connection to {host} was lost", "the next delivery sends the rest", passing=True)


def understand(code: int, said: str, destination: Remote) -> Complaint:
    """Find out why a run of rsync failed.

    Parameters
    ----------
    code
        Its exit code.
    said
        What it and ssh wrote to standard error.
    destination
        Where the files were to go.
    """
    known = next((known for known in _KNOWN if re.search(known.said, said)), None) or _from_code(code)
    host = destination.host.strip("[]")
    login = host if destination.user is None else f"{destination.user}@{host}"
    told = f"{known.cause}; {known.advice}".format(host=host, login=login)
    tail = _tail(said)
    return Complaint(
        f"Not all files arrived at {destination}, because {told}{f' ({tail})' if tail else ''}.", known.passing
    )


def _from_code(code: int) -> _Known:
    if code == 11:
        return _UNSAID
    if code in _PASSING_CODES:
        return _LOST
    return _Known("", f"rsync failed with its code {code}", "see what it says, and mend that")


def _tail(said: str) -> str:
    """Return the end of what was said, as one short line that is safe to show."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.match(line)] or lines
    clean = "".join(char if char.isprintable() else " " for char in " ".join(telling))
    return clean[-_TAIL:].strip().rstrip(".")
