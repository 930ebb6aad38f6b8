"""JSON documents of catalogues, from disk and from servers, of a limited size; and texts without secrets.

Locations never hold a query string or a login: both are taken off (`sen2chain.remote.split_query`) and never shown.
"""

from __future__ import annotations

import functools
import json
import os
import posixpath
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

from sen2chain.archive.stac.providers import PROVIDERS
from sen2chain.errors import RequestError, UnreadableError, quoted, shown
from sen2chain.files import absolute, is_file, is_folder, read_limited
from sen2chain.remote import fetch_document, is_remote, split_query

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.remote import Access

    Json = dict[str, Any]

LARGEST_LOCAL = 512 << 20
"""Largest JSON file on disk in bytes."""
LARGEST_REMOTE = 128 << 20
"""Largest JSON document of a server in bytes."""

FILES = (".json", ".geojson", ".parquet", ".geoparquet")
"""Endings of the files that can be catalogues."""
_OTHER_FILES = frozenset({
    ".csv", ".gml", ".gpkg", ".html", ".ipynb", ".jp2", ".jsonl", ".kml", ".md", ".ndjson", ".pdf", ".py", ".safe",
    ".shp", ".sqlite", ".tif", ".tiff", ".toml", ".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
})  # fmt: skip

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # of two letters or more, since C: is a drive
_READ = ("http", "https", "s3", "file")
# What a query string may keep when an address is written: the version of an object. Anything else may be a key.
_HARMLESS = frozenset({"versionid", "version", "generation"})
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s\"'<>]+")
_SECRET_NAME = re.compile(
    r"token|secret|signature|password|passwd|credential|authorization|bearer|cookie|\bsas\b|^sig$|^key$"
    r"|(?:api|access|account|shared|subscription)[ _-]?key",
    re.IGNORECASE,
)
_RELATIVE_QUERY = re.compile(r"\?[^/?]*=")  # of an address without host; a path on disk seldom looks so
_ASSIGNED = re.compile(
    r"\b(sig|signature|token|password|secret|api[_-]?key|accountkey)(=|%3D)[^\s&;\"'<>]+", re.IGNORECASE
)


def location_of(href: str | Path) -> tuple[str, str]:
    """Return the location of a catalogue that the user gives, and the query string that it came with.

    Raises
    ------
    RequestError
        If it is neither a path nor an address that can be read.
    """
    text = os.fspath(href) if isinstance(href, os.PathLike) else href
    if not isinstance(text, str) or not text or not text.isprintable():
        raise RequestError(
            f"{quoted(href)} is not a catalogue; pass its address (https://host/v1) or the path of a file."
        )
    scheme = scheme_of(text)
    if scheme == "file":
        return _path_of(path_of_file(text)), ""
    if scheme in _READ:
        location, query = split_query(text)
        suffix = posixpath.splitext(location)[1].lower()
        if suffix in _OTHER_FILES:
            raise RequestError(
                f"{location} is not a catalogue; pass the address of an API, or of a file {', '.join(FILES)}."
            )
        if not urlsplit(location).netloc:
            raise RequestError(f"{quoted(location)} names no host; pass an address like https://host/v1.")
        return location, query
    if scheme and "://" in text:
        raise RequestError(f"Catalogues are not read by {scheme}:// ({quoted(public(text))}); pass https://.")
    return _path_of(text), ""


def _path_of(text: str) -> str:
    """Return the path of a catalogue on disk; it need not exist yet.

    Raises
    ------
    RequestError
        If it is not the name of such a file.
    """
    path = absolute(text)
    if path.suffix.lower() in FILES:
        return str(path)
    if is_file(path) or path.suffix.lower() in _OTHER_FILES:
        raise RequestError(
            f"{path} is not a catalogue; pass a file {', '.join(FILES)}, or an address (https://host/v1)."
        )
    if is_folder(path):
        raise RequestError(f"{path} is a folder; pass the file of the catalogue in it, as {path / 'catalog.json'}.")
    names = ", ".join(provider.name for provider in PROVIDERS if provider.address)
    host = text.partition("/")[0].partition(":")[0]
    address = f"https://{text}" if "." in host.strip(".") or host == "localhost" else "https://host/v1"
    raise RequestError(
        f"{quoted(text)} is not a catalogue: there is no such file, and it is not the name of a provider ({names}); "
        f"write an address as {shown(public(address))}."
    )


def scheme_of(href: str) -> str:
    """Return the scheme of an address in small letters; empty for a path."""
    match = _SCHEME.match(href)
    return match[1].lower() if match else ""


def path_of_file(href: str) -> str:
    """Return the path of a ``file://`` address.

    Raises
    ------
    RequestError
        If it cannot be understood.
    """
    try:
        parts = urlsplit(href)
    except ValueError:
        raise RequestError(f"{quoted(public(href))} is not an address or a path.") from None
    path = unquote(parts.path)
    return path if parts.netloc in {"", "localhost"} else f"//{parts.netloc}{path}"


def place_of(location: str) -> str:
    """Return the host of a location, or the bucket as ``s3://bucket``; empty for a path and for what has no host."""
    if not is_remote(location):
        return ""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    if parts.scheme == "s3":
        return f"s3://{parts.netloc}"
    host = parts.netloc.lower()
    return host.removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, "")).rstrip(".")


def same_place(location: str) -> str:
    """Return a text that is the same for all spellings of the address of a catalogue: for comparisons alone."""
    if not is_remote(location):
        return location
    scheme, _, rest = location.partition("://")
    return f"{scheme.lower()}://{place_of(location).removeprefix('s3://')}/{rest.partition('/')[2].rstrip('/')}"


def resolve(href: str, base: str) -> tuple[str, str]:
    """Return the location and the query string of an href in a document.

    Parameters
    ----------
    href
        Address or path, absolute or relative to the document.
    base
        Location of the document, for relative ones.

    Raises
    ------
    RequestError
        If it is of a kind that is not read.
    """
    text = href.strip()
    if not text or not text.isprintable():
        raise RequestError(f"{quoted(public(text))} is not an address or a path.")
    if text.startswith("/vsis3/"):
        text = f"s3://{text.removeprefix('/vsis3/')}"
    elif text.startswith("/vsicurl/"):
        text = text.removeprefix("/vsicurl/")
    if text.startswith("/vsi"):
        raise RequestError(f"{quoted(public(text))} is a virtual path of GDAL, which is not read from items.")
    scheme = scheme_of(text)
    if scheme == "file":
        return path_of_file(text), ""
    if scheme in _READ:
        return split_query(text)
    if scheme:
        raise RequestError(f"Files are not read by {scheme}:// ({quoted(public(text))}).")
    if not is_remote(base):
        return os.path.normpath(os.path.join(os.path.dirname(base), text)), ""  # noqa: PTH118, PTH120  # texts
    if base.startswith("s3://"):
        bucket, _, key = base.removeprefix("s3://").partition("/")
        return f"s3://{bucket}{posixpath.normpath(posixpath.join('/', posixpath.dirname(key), text))}", ""
    try:
        return split_query(urljoin(base, text))
    except ValueError:
        raise RequestError(f"{quoted(public(text))} is not an address or a path.") from None


def read_json(location: str, access: Access, largest: int | None = None) -> Json:
    """Read a JSON document whose top is an object.

    Parameters
    ----------
    location
        Path or address.
    access
        How addresses are fetched.
    largest
        Largest size in bytes; None for the usual one.

    Raises
    ------
    UnreadableError
        If it cannot be fetched, is too large, or is not JSON of this kind.
    """
    if is_remote(location):
        content = fetch_document(location, access, largest or LARGEST_REMOTE)
    else:
        try:
            content = read_limited(location, largest or LARGEST_LOCAL)
        except OSError as error:
            raise UnreadableError(f"{location} cannot be read ({error.strerror or error}).") from None
    return parse_json(content, location)


def parse_json(content: bytes, location: str) -> Json:
    """Parse a JSON document whose top is an object; `location` names it in the message.

    Raises
    ------
    UnreadableError
        If it is not one.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError, MemoryError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else "it is cut off or damaged"
        raise UnreadableError(f"{location} cannot be understood as JSON: {why}.") from None
    if not isinstance(found, dict):
        raise UnreadableError(f"{location} is not a document of a STAC catalogue, which is a JSON object.")
    return found


def without_secrets(value: Any) -> Any:
    """Return a JSON value without logins and query strings in its addresses, and without members that hold keys.

    Query strings that only tell the version of an object stay.
    """
    if isinstance(value, dict):
        return {
            without_secrets(key): _without_query(inner) if key == "href" else without_secrets(inner)
            for key, inner in value.items()
            if not (isinstance(key, str) and isinstance(inner, str | list) and _is_secret(key))
        }
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    if isinstance(value, str):
        if "://" in value and ("?" in value or "@" in value):
            value = _ADDRESS.sub(lambda match: public(match[0]), value)
        if "=" in value or "%3" in value:
            value = _ASSIGNED.sub(r"\1\2...", value)
    return value


@functools.lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    """Whether the name of a member says that it holds a key; items share their names."""
    return _SECRET_NAME.search(name) is not None


def _without_query(href: Any) -> Any:
    """Return the href of a link or an asset without secrets, be it relative or not."""
    if isinstance(href, str) and "?" in href and "://" not in href and (match := _RELATIVE_QUERY.search(href)):
        return href[: match.start()]
    return without_secrets(href)


def public(href: str) -> str:
    """Return an address of any kind without login, and without its query string where that may hold a key."""
    bare, _, query = href.partition("?")
    scheme, mark, rest = bare.partition("#")[0].partition("://")
    host, slash, path = rest.partition("/")
    location = f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else scheme
    names = [name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)]
    return f"{location}?{query}" if names and _HARMLESS.issuperset(names) else location
