"""Destinations of deliveries: a folder of a server, a folder of this machine, or a URL of fsspec.

The text is one cell of a user's job file. It is never given to a shell, and a text that would not arrive as it is
written is refused. It may hold a password or a token, also in the wrong place, so that only parts that cannot be secret
are shown, see `hidden`.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from sen2chain.errors import DeliveryError
from sen2chain.files import absolute

if TYPE_CHECKING:
    from pathlib import Path

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "tos", "obs", "r2"})
"""Protocols of stores without folders, in which an object appears when it is complete."""

# Control characters, the line breaks of Unicode, and surrogates, which cannot be encoded.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Other protocols of fsspec: memory that ends with the run, and views of other places.
_NO_PLACES = {
    "memory", "cached", "blockcache", "filecache", "simplecache", "dir", "reference", "zip", "tar", "libarchive",
    "generic", "data", "async_wrapper", "cache", "shell",
}  # fmt: skip
_LOCAL_URL = re.compile(r"(?:file|local)://")
_LOGIN = re.compile(r"(?:(?P<user>[^@:/]*)@)?(?P<host>\[[^\]]*\]|[^@:/\[]*):(?P<path>.*)")
_WORD = re.compile(r"(?!-)[A-Za-z0-9._-]+")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+\]")
_WITH_SERVER = {
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "ftp", "ftps", "sftp", "ssh", "smb", "http", "https",
}  # fmt: skip
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]{1,5})?")
_QUERY = re.compile(r"([?#]).*", re.DOTALL)
_ALIAS = re.compile(r"~[0-9a-f]{12}")
_SHAPE = "user@server:path/to/destination"
_ENCODED = "write / @ : ? # in a user's name or a password as %2F %40 %3A %3F %23"
_LONG_USER = 8  # characters; what is shorter is a login, and part of too many words to be hidden in a message


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

    Its text is the URL without login and query, which may be a password, a token or a signature.
    """

    url: str = field(repr=False)
    """As it was written, with what may be secret."""

    def __str__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{_plain(rest)}"

    @property
    def protocol(self) -> str:
        """The part before ``://``."""
        return self.url.partition("://")[0]

    @property
    def user(self) -> str | None:
        """What stands before the password, or a token in the place of both; a container in some stores."""
        login, at, _ = self.url.partition("://")[2].rpartition("@")
        return login.partition(":")[0] if at else None

    def without_secrets(self, text: str) -> str:
        """Return the message of another library without password, token and signature of this destination."""
        rest = self.url.partition("://")[2]
        login, _, place = rest.rpartition("@")
        user, _, password = login.partition(":")
        query = place.partition("?")[2]
        parts = {self.url, rest, login, password, query, *(value for _, value in parse_qsl(query))}
        if not password or len(user) >= _LONG_USER:
            parts.add(user)
        spelled = {spell(part) for part in parts for spell in (str, unquote, quote, _all_quoted, _escaped)}
        for part in sorted(spelled - {""}, key=len, reverse=True):
            text = text.replace(part, "***")
        return text


Destination = Remote | Folder | Bucket


def same_place(destination: Destination) -> str:
    """Return the key of a destination: the same for all of its spellings, and without secrets."""
    match destination:
        case Remote():
            return f"{destination.login}:{posixpath.normpath(destination.argument.partition(':')[2])}"
        case Folder():
            return os.path.realpath(destination.path)
        case Bucket():
            rest = _QUERY.sub("", destination.url.partition("://")[2]).rpartition("@")[2]
            login = _alias(destination.user) if destination.user else ""
            return f"{destination.protocol.lower()}://{login}{posixpath.normpath(rest)}"


def _alias(user: str) -> str:
    """Return a digest of a login: two logins are two destinations, and a user's name may be a token."""
    return f"~{hashlib.sha256(user.encode()).hexdigest()[:12]}@"


def registered(key: str) -> str | None:
    """Return a key of the delivery registry, with a digest in place of a login that an earlier version kept.

    Returns
    -------
    str or None
        None for a destination that was mistyped.
    """
    word, space, layer = key.partition(" ")
    if not _URL.match(word):
        mistyped = _has(word, ":", "@") and (word.startswith("/") or "@" not in word.partition(":")[0])
        return None if mistyped else key
    scheme, _, rest = word.partition("://")
    login, at, place = rest.rpartition("@")
    if not at or _ALIAS.fullmatch(login):
        return key
    return f"{scheme}://{_alias(login.partition(':')[0])}{place}{space}{layer}"


def hidden(text: str) -> str:
    """Return a destination as it can be shown: without its login if it can be parsed, else its protocol or server."""
    try:
        return str(parse_destination(text))
    except DeliveryError:
        return _safe_part(text)


def looks_like_login(text: str) -> bool:
    """Tell whether a text of another column may hold a login, as when a ``;`` before a destination is missing."""
    begins_so = re.match(r"\w*//", text) is not None and "@" in text
    return begins_so or _has(text, ":", "@") or _has(text, "?", "=") or re.search(r"\w\w:/", text) is not None


def _has(text: str, first: str, second: str) -> bool:
    """Tell whether a character follows another; a pattern would be slow for a long text."""
    return second in text.partition(first)[2]


def _safe_part(text: str) -> str:
    """Return the protocol or the server of a destination that cannot be parsed, followed by ``...``."""
    text = text.strip()
    if match := _URL.match(text):
        return f"{match[0]}..."
    login = _LOGIN.fullmatch(text)
    if login and "@" not in login["path"] and _is_login(login["user"], login["host"]):
        return f"{text[: login.start('path')]}..."
    return "..."


def _plain(rest: str) -> str:
    """Return what follows the protocol of a URL without its login and its query, which may be a signature."""
    _, at, place = rest.rpartition("@")
    return _QUERY.sub(r"\1***", f"***@{place}" if at else place)


def _is_login(user: str | None, host: str) -> bool:
    word = user is None or _WORD.fullmatch(user) is not None
    return word and (_WORD.fullmatch(host) or _IPV6.fullmatch(host)) is not None


def _all_quoted(text: str) -> str:
    return quote(text, safe="")


def _escaped(text: str) -> str:
    return repr(text)[1:-1]


def parse_destination(text: str) -> Destination:
    """Parse a destination.

    Parameters
    ----------
    text
        ``user@server:path/to/destination`` (the user may be left out), a folder of this machine that begins with ``/``
        or ``~/``, or a URL of fsspec such as ``s3://bucket/folder``.

    Raises
    ------
    DeliveryError
        If it is none of these, or would not arrive as it is written. The message does not repeat it: it may hold a
        password where none was expected.
    """
    shown = f"The destination {_safe_part(text)}"
    if _NO_TEXT.search(text):
        raise DeliveryError(f"{shown} holds a control character; write it in one plain line.")
    text = text.strip()
    if "://" in text and not text.startswith(("/", "~")):
        return _parse_url(text, shown)
    if text.startswith(("/", "~")):
        return _parse_folder(text, shown)
    if ":" in text:
        return _parse_remote(text, shown)
    if "@" in text:
        raise DeliveryError(f"{shown} has no colon behind the server; write {_SHAPE}.")
    raise DeliveryError(
        f"{shown} names no server; write {_SHAPE}, or a folder of this machine that begins with / or ~/."
    )


def _parse_url(text: str, shown: str) -> Folder | Bucket:
    scheme, _, rest = text.partition("://")
    if "::" in text:
        raise DeliveryError(f"{shown} is a chain of URLs; write one URL without '::'.")
    if text.startswith("rsync:"):
        raise DeliveryError(f"{shown} needs an rsync daemon; write {_SHAPE}, which goes through ssh.")
    if "#" in rest:
        raise DeliveryError(f"{shown} has a # in it, which cannot be part of a destination; {_ENCODED}.")
    if _LOCAL_URL.match(text):
        if not rest.startswith("/"):
            raise DeliveryError(f"{shown} is not an absolute folder; write it with three slashes.")
        if "?" in rest:
            raise DeliveryError(f"{shown} has a ? in it; write the folder without {scheme}:// before it.")
        return _parse_folder(rest, shown)
    if not _URL.match(text):
        raise DeliveryError(f"{shown} does not begin with a protocol; write s3://bucket/folder.")
    if scheme.lower() in _NO_PLACES:
        raise DeliveryError(f"{shown} keeps nothing for others; write a server, a folder or a store.")
    if rest.startswith("/") and scheme.lower() in _WITH_SERVER:
        raise DeliveryError(f"{shown} names no server or bucket; write it after the two slashes.")
    named = re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
    is_arn = named.startswith("arn:") and scheme.lower() in OBJECT_STORES  # the only names of buckets with a colon
    if "%40" in named or not (is_arn or _HOST_AND_PORT.fullmatch(named)):
        raise DeliveryError(
            f"{shown} has a login, or a : without the number of a port, in the place of its server; write "
            f"{scheme}://user:password@server/folder."
        )
    # A / or ? inside a password ends it: the part before would be taken for a server and looked up.
    server = re.split(r"[/?]", rest, maxsplit=1)[0]
    before = rest.rpartition("@")[0]
    if len(before) > len(server) and (":" in before or scheme.lower() not in OBJECT_STORES):
        raise DeliveryError(f"{shown} has a / or ? before its last @; {_ENCODED}.")
    if not rest.strip("/"):
        raise DeliveryError(f"{shown} names no folder; write one after it.")
    return Bucket(text)


def _parse_folder(text: str, shown: str) -> Folder:
    if text.startswith("~") and text != "~" and not text.startswith("~/"):
        raise DeliveryError(f"{shown} is the home of another user; write that folder in full.")
    if _has(text, ":", "@") or (text.startswith("//") and "@" in text):
        raise DeliveryError(
            f"{shown} begins like a folder, and holds a login; write {_SHAPE}, or a URL such as s3://bucket/folder."
        )
    return Folder(absolute(text))


def _parse_remote(text: str, shown: str) -> Remote:
    found = _LOGIN.fullmatch(text)
    if found is None:
        raise DeliveryError(f"{shown} cannot be understood; write {_SHAPE}.")
    user, host, path = found["user"], found["host"], found["path"]
    if "@" in path:
        raise DeliveryError(
            f"{shown} has an @ behind its first colon, as if it held a password, which cannot be used: log in with a "
            f"key, and write {_SHAPE}."
        )
    if user is not None and not _WORD.fullmatch(user):
        raise DeliveryError(
            f"{shown} has a user before its @ that is not a login; write letters, digits, '.', '_' and '-' only."
        )
    if not _is_login(None, host):
        raise DeliveryError(f"{shown} has a text before its colon that is not the name of a server; write {_SHAPE}.")
    if path.startswith(":"):
        raise DeliveryError(f"{shown} needs an rsync daemon; write {_SHAPE}, which goes through ssh.")
    if not path:
        raise DeliveryError(f"{shown} names no folder; write one after the colon.")
    if path.startswith("~") and path != "~" and not path.startswith("~/"):
        raise DeliveryError(f"{shown} is the home of another user; write that folder in full.")
    if ".." in path.split("/"):
        # rsync drops it in some places and refuses it in others.
        raise DeliveryError(f"{shown} goes up with '..'; write its folder in full.")
    if wild := re.search(r"[*?[]", path):
        # rsync at the far end takes them for a pattern, and whichever folder matches gets the files.
        raise DeliveryError(
            f"The folder of {shown[:1].lower()}{shown[1:]} holds {wild[0]!r}, which rsync takes for a pattern; write a "
            "folder without '*', '?' and '['."
        )
    return Remote(user, host, path)
