"""Where files are to arrive: a folder at a server, a folder of this machine, or a place that fsspec knows.

The text is one cell of a user's job file. It is data: nothing in it is ever given to a shell, and what would not arrive
as it is written is refused.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

from sen2chain.errors import DeliveryError
from sen2chain.settings import absolute

# Control characters, the line breaks of Unicode, and halves of characters, which have no bytes.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# What fsspec opens too: memory that is gone with the run, and views of other places.
_NO_PLACES = {
    "memory", "cached", "blockcache", "filecache", "simplecache", "dir", "reference", "zip", "tar", "libarchive",
    "generic", "data", "async_wrapper", "cache", "shell",
}  # fmt: skip
_LOCAL_URL = re.compile(r"(?:file|local)://")
_LOGIN = re.compile(r"(?:(?P<user>[^@:/]*)@)?(?P<host>\[[^\]]*\]|[^@:/\[]*):(?P<path>.*)")
_WORD = re.compile(r"(?!-)[A-Za-z0-9._-]+")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+\]")
# The user may be empty; a secret may hold anything, so it ends at the last @.
_WITH_SERVER = {
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "ftp", "ftps", "sftp", "ssh", "smb", "http", "https",
}  # fmt: skip
_WRONG_SECRET = re.compile(r"^(?P<user>[^/:@]*):[^/@]*@")
_QUERY = re.compile(r"\?.*")
_SECRET = re.compile(r"(?<=://)(?P<user>[^/:@]*):(?P<secret>.*)@")
_SHAPE = "user@server:path/to/destination"


@dataclass(frozen=True, slots=True)
class Remote:
    """A folder at a server that is reached with ssh."""

    user: str | None
    """The login there; None leaves it to the configuration of ssh."""
    host: str
    """A name or an address, IPv6 in brackets."""
    path: str
    """The folder as it was written: absolute, or relative to the home there."""

    def __str__(self) -> str:
        return f"{self.login}:{self.path}"

    @property
    def login(self) -> str:
        """The part before the colon."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def argument(self) -> str:
        """The destination as rsync is told it.

        Without the slash at its end, a single file would be given the folder's name if the folder is missing. With
        ``./`` before it, a relative path can begin with anything.
        """
        path = self.path
        if path == "~" or path.startswith("~/"):
            path = path[1:].lstrip("/")
        start = "" if path.startswith("/") else "./"
        return f"{self.login}:{start}{path}".rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine."""

    path: Path
    """Absolute."""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place that fsspec reaches: a bucket of an object store, a folder of another kind of server.

    Its text is the URL without the password, should there be one.
    """

    url: str = field(repr=False)
    """As it was written, with the password."""

    def __str__(self) -> str:
        return hidden(self.url)

    @property
    def protocol(self) -> str:
        """The part before ``://``."""
        return self.url.partition("://")[0]

    @property
    def secret(self) -> str | None:
        """The password in the URL."""
        found = _SECRET.search(self.url)
        return found["secret"] if found else None


Destination = Remote | Folder | Bucket


def same_place(destination: Destination) -> str:
    """Return a text that two spellings of one destination share."""
    match destination:
        case Remote():
            return f"{destination.login}:{posixpath.normpath(destination.argument.partition(':')[2])}"
        case Folder():
            return os.path.realpath(destination.path)
        case Bucket():
            scheme, _, rest = hidden(destination.url).partition("?")[0].partition("://")
            return f"{scheme.lower()}://{posixpath.normpath(rest)}"


def hidden(text: str) -> str:
    """Return a destination without its password and its query, which may be a signature."""
    if "://" in text:
        return _QUERY.sub("?***", _SECRET.sub(r"\g<user>:***@", text))
    return _WRONG_SECRET.sub(r"\g<user>:***@", text)


def parse_destination(text: str) -> Destination:
    """Understand a destination as users write it.

    Parameters
    ----------
    text
        ``user@server:path/to/destination`` (the user may be left out), a folder of this machine that begins with ``/``
        or ``~/``, or a URL of fsspec such as ``s3://bucket/folder``.

    Raises
    ------
    DeliveryError
        If it is none of these, or would not arrive as it is written.
    """
    if _NO_TEXT.search(text):
        raise DeliveryError(f"The destination {hidden(text)!r} holds a control character; write it in one plain line.")
    text = text.strip()
    if _WRONG_SECRET.match(text):
        raise DeliveryError(
            f"The destination {hidden(text)!r} holds a password, which cannot be used; log in with a key, and write "
            f"{_SHAPE}."
        )
    if "://" in text and not text.startswith(("/", "~")):
        return _parse_url(text)
    if text.startswith(("/", "~")):
        return _parse_folder(text)
    if ":" in text:
        return _parse_remote(text)
    if "@" in text:
        raise DeliveryError(f"The destination {text!r} has no colon behind the server; write {_SHAPE}.")
    raise DeliveryError(
        f"The destination {text!r} names no server; write {_SHAPE}, or a folder of this machine that begins with / "
        "or ~/.",
    )


def _parse_url(text: str) -> Folder | Bucket:
    shown = hidden(text)
    rest = text.partition("://")[2]
    if "::" in text:
        raise DeliveryError(f"The destination {shown} is a chain of URLs; write one URL without '::'.")
    if text.startswith("rsync:"):
        raise DeliveryError(f"The destination {shown} needs an rsync daemon; write {_SHAPE}, which goes through ssh.")
    if _LOCAL_URL.match(text):
        if not rest.startswith("/"):
            raise DeliveryError(f"The destination {shown} is no absolute folder; write it with three slashes.")
        return Folder(Path(rest))
    if not _URL.match(text):
        raise DeliveryError(f"The destination {shown} begins with no name of a protocol; write s3://bucket/folder.")
    if text.partition("://")[0].lower() in _NO_PLACES:
        raise DeliveryError(f"The destination {shown} keeps nothing for others; write a server, a folder or a store.")
    if rest.startswith("/") and text.partition("://")[0].lower() in _WITH_SERVER:
        raise DeliveryError(f"The destination {shown} names no server or bucket; write it after the two slashes.")
    if not rest.strip("/"):
        raise DeliveryError(f"The destination {shown} names no folder; write one after it.")
    return Bucket(text)


def _parse_folder(text: str) -> Folder:
    if text.startswith("~") and text != "~" and not text.startswith("~/"):
        raise DeliveryError(f"The destination {text!r} is the home of somebody else; write that folder in full.")
    return Folder(absolute(text))


def _parse_remote(text: str) -> Remote:
    found = _LOGIN.fullmatch(text)
    if found is None:
        raise DeliveryError(f"The destination {text!r} cannot be understood; write {_SHAPE}.")
    user, host, path = found["user"], found["host"], found["path"]
    if user is not None and not _WORD.fullmatch(user):
        raise DeliveryError(
            f"The user {user!r} of the destination {text!r} is no login; write it with letters, digits, '.', '_' "
            "and '-' only.",
        )
    if not (_WORD.fullmatch(host) or _IPV6.fullmatch(host)):
        raise DeliveryError(f"The server {host!r} of the destination {text!r} is no name of a server; write {_SHAPE}.")
    if path.startswith(":"):
        raise DeliveryError(f"The destination {text!r} needs an rsync daemon; write {_SHAPE}, which goes through ssh.")
    if not path:
        raise DeliveryError(f"The destination {text!r} names no folder; write one after the colon.")
    if path.startswith("~") and path != "~" and not path.startswith("~/"):
        raise DeliveryError(f"The destination {text!r} is the home of somebody else; write that folder in full.")
    if ".." in path.split("/"):
        # rsync drops it in some places and refuses it in others.
        raise DeliveryError(f"The destination {text!r} goes up with '..'; write its folder in full.")
    if wild := re.search(r"[*?[]", path):
        # rsync at the far end takes them for a pattern, and whichever folder matches gets the files.
        raise DeliveryError(
            f"The folder of the destination {text!r} holds {wild[0]!r}, which rsync takes for a pattern; write a "
            "folder without '*', '?' and '['.",
        )
    return Remote(user, host, path)
