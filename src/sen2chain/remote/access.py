"""How the files of one provider are reached, and which locations may be read."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from sen2chain.errors import RequestError, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMOTE = re.compile(r"(?:https?|s3)://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")  # of two characters at least: "C:" is a drive
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ALLOW = "allow it with --stac-allow"


class Closable(Protocol):
    """An object that can be closed from any thread."""

    def close(self) -> None:
        """Close it."""


class Stop:
    """Closes the files of one run when it is interrupted, so that no thread waits for what is on its way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._ended = False

    def add(self, file: Closable) -> None:
        """Close a file when the run ends; at once, if it has ended."""
        with self._lock:
            if not self._ended:
                self._files.add(file)
                return
        file.close()

    def end(self) -> None:
        """Close all files, and those that are opened later."""
        with self._lock:
            self._ended = True
            files = list(self._files)
        for file in files:
            file.close()


@dataclass(frozen=True, slots=True)
class Access:
    """How the files of one provider are fetched; it can be pickled."""

    signing: str = ""
    """How requests are signed: ``""`` not at all, ``"s3"`` with the keys that botocore finds (files in ``s3://`` are
    always signed so), ``"planetary-computer"`` with a token of the container that is asked for and renewed in time."""
    at_once: int = 32
    """Largest number of requests in flight."""
    endpoint: str = ""
    """Address of the S3 server; empty: as botocore finds it."""
    region: str = ""
    """Region of the S3 server; empty: as botocore finds it."""
    requester_pays: bool = False
    """Whether the reader pays for requests to S3."""
    catalogue: str = ""
    """Location of the catalogue, without its query; files on its host are allowed."""
    allowed: tuple[str, ...] = ()
    """What a remote catalogue may point to besides: hosts (``"data.example.org"``, ``"*.blob.core.windows.net"``),
    buckets (``"s3://eodata"``), and ``"file"`` for local files."""
    queries: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Location -> the query string that its href came with, a signature for example; never shown."""
    stop: Stop | None = field(default=None, compare=False, repr=False)
    """Ends what the files of one run in this process fetch; None where nothing ends it."""


def is_remote(location: str) -> bool:
    """Whether a location is on a server: ``http://``, ``https://`` or ``s3://``."""
    return _REMOTE.match(location) is not None


def split_query(href: str) -> tuple[str, str]:
    """Split an href into its location, without query, login and fragment, and its query.

    Local paths are returned as they are, with an empty query.

    Raises
    ------
    RequestError
        If it is on a server and cannot be understood.
    """
    if not is_remote(href):
        return href, ""
    bare, _, query = href.partition("?")
    parts = split(bare)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.scheme == "s3":  # names of buckets are case sensitive, and any character may be in a key
        host, fragment = parts.netloc.rpartition("@")[2], bare.partition("#")[2]
        return f"s3://{host}{parts.path}{'#' * bool(fragment)}{fragment}", query
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", "")), query.partition("#")[0]


def split(url: str) -> SplitResult:
    """Split a URL of a server into its parts.

    Raises
    ------
    RequestError
        If it cannot be understood, or has no host.
    """
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.scheme == "s3" or parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise RequestError(f"{shown_location(url)} is not the address of a file on a server; mend the catalogue.")
    return parts


def shown_location(href: str) -> str:
    """Text of an href for messages: without its query and login."""
    bare = re.split(r"[?#]", href, maxsplit=1)[0]
    scheme, mark, rest = bare.partition("://")
    if mark:
        authority, slash, path = rest.partition("/")
        bare = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return escaped(bare)


def check_href(href: str, access: Access) -> None:
    """Check that an href of a catalogue may be read.

    A local catalogue may point anywhere. A remote one may point to files on its own host, and to the hosts and buckets
    that are allowed; a private address must be named, no pattern allows it.

    Parameters
    ----------
    href
        The href, with or without its query.
    access
        The catalogue and what is allowed besides.

    Raises
    ------
    RequestError
        If it may not be read, or not by this package.
    """
    location = shown_location(href)
    if not is_remote(href):
        _check_local(href, location, access)
        return
    parts = split(href.partition("?")[0])
    if parts.scheme == "s3" and not _BUCKET.fullmatch(parts.netloc):
        raise RequestError(f"{location} does not name a bucket as s3://bucket/key; mend the catalogue.")
    if not is_remote(access.catalogue):
        return
    own = split(shown_location(access.catalogue))
    if parts.scheme == "s3":
        if (own.scheme, own.netloc) != ("s3", parts.netloc) and not _allows_bucket(parts.netloc, access):
            raise RequestError(
                f"{location} is not read, because the catalogue {shown_location(access.catalogue)} points to another "
                f"bucket; {_ALLOW} s3://{parts.netloc} if you trust it."
            )
        return
    host = host_of(parts)
    if is_named(host, access):
        return
    if (address := _address(host)) is not None and is_private(address):
        raise RequestError(
            f"{location} is not read, because the catalogue {shown_location(access.catalogue)} points to a private "
            f"address; {_ALLOW} {host} if you trust it."
        )
    if not any("*" in pattern and fnmatch.fnmatchcase(host, pattern) for pattern in _hosts(access)):
        raise RequestError(
            f"{location} is not read, because the catalogue {shown_location(access.catalogue)} points to another host; "
            f"{_ALLOW} {host} if you trust it."
        )


def _check_local(href: str, location: str, access: Access) -> None:
    """Check an href that is not on a server, see `check_href`."""
    scheme = match.group(1).lower() if (match := _SCHEME.match(href)) else "file"
    if scheme != "file":
        raise RequestError(f"{location} is not read: only https://, http://, s3:// and local files are.")
    if is_remote(access.catalogue) and "file" not in access.allowed:
        raise RequestError(
            f"{location} is not read, because the catalogue {shown_location(access.catalogue)} is on a server and "
            f"points to a local file; {_ALLOW} file if you trust it."
        )


def host_of(parts: SplitResult) -> str:
    """Host of a URL in the form in which hosts are compared."""
    return _canonical(parts.hostname or "")


def _canonical(host: str) -> str:
    """Write a host in lower case, without the dot at the end, in ASCII."""
    host = host.lower().rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host


def _hosts(access: Access) -> list[str]:
    """Hosts and patterns of hosts that are allowed; addresses that users wrote with scheme, port or path count too."""
    found = []
    for entry in access.allowed:
        if entry.lower().startswith("s3://") or entry == "file":
            continue
        try:
            parts = urlsplit(entry if "://" in entry else f"//{entry}")
            found.append(_canonical(parts.hostname or ""))
        except ValueError:
            continue
    return [host for host in found if host]


def _allows_bucket(bucket: str, access: Access) -> bool:
    patterns = (entry[5:].partition("/")[0] for entry in access.allowed if entry.lower().startswith("s3://"))
    return any(fnmatch.fnmatchcase(bucket, pattern) for pattern in patterns)


def is_named(host: str, access: Access) -> bool:
    """Whether a host is the catalogue's own, or allowed by its full name: it may then have a private address."""
    if access.catalogue.lower().startswith("http") and is_remote(access.catalogue):
        own = split(shown_location(access.catalogue))
        if host == host_of(own):
            return True
    return host in _hosts(access)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ipaddress.IPv4Address("127.0.0.1") if host == "localhost" or host.endswith(".localhost") else None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its address, or by the name ``localhost``."""
    address = _address(host)
    return address is not None and address.is_loopback


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses behind a NAT64 gateway


def is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is not one of the public internet: private, loopback, link-local, shared, reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(inner)
    return not address.is_global or address.is_multicast
