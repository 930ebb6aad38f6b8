"""Locations of rasters that users name: files on this machine, in any format that GDAL reads, and what they refer to.

A location is a path, a part of a file as GDAL writes it (``NETCDF:"file.nc":temperature``), or a file in an archive
(``/vsizip/``). Servers are not read: neither by the location, nor by a VRT that refers to one.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.errors import RequestError, UnreadableError, quoted
from sen2chain.files import absolute, is_file, is_folder, open_regular, read_limited

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART = re.compile(r'([A-Za-z][A-Za-z0-9_]*):(?:"([^"]+)"|([^":]+))(:.*)', re.DOTALL)
"""A part of a file: driver, path with or without quotes, and the part."""
_ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/", "/vsi7z/", "/vsirar/")
_SERVER = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)", re.IGNORECASE)
_ON_SERVER = re.compile(
    r"\b(?:https?|ftp|s3|gs|az)://|/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)"
    r"|^(?:WMS|WCS|WMTS|EEDAI?|PLMosaic|DAAS|STACIT|STACTA|OGCAPI|PG|HTTP):",
    re.IGNORECASE,
)
_SOURCE = re.compile(r"<(Source(?:Filename|Dataset)|OverviewFile|Filename)\b([^>]*)>([^<]*)<")
_LARGEST_VRT = 64 << 20
_DEEPEST = 8  # VRT in VRT
_HEAD = 1 << 10

NETWORK_DRIVERS = frozenset(
    {"DAAS", "EEDA", "EEDAI", "GTI", "HTTP", "MRF", "NGW", "OGCAPI", "PLMOSAIC", "PostGISRaster", "STACIT", "STACTA",
     "WCS", "WMS", "WMTS"}
)  # fmt: skip
"""GDAL's drivers whose files send it to servers."""


def local_location(given: str | os.PathLike[str]) -> str:
    """Return the location of a raster as GDAL takes it, with an absolute path.

    Raises
    ------
    RequestError
        If it is on a server, or not the path of a file.
    UnreadableError
        If there is no such file, or if it refers to a server.
    """
    text = os.fsdecode(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f"{quoted(given)} is not the path of a raster; pass a text or a pathlib.Path.")
    if _SERVER.match(text):
        raise RequestError(f"{quoted(text)} is on a server; zonal statistics read local files, so download it first.")
    if text.startswith(_ARCHIVES):
        return text
    if (part := _PART.fullmatch(text)) and not is_file(text):
        path = absolute(part[2] or part[3])
        if is_file(path) or is_folder(path):
            return f'{part[1]}:"{path}"{part[4]}'
    path = absolute(text)
    if not (is_file(path) or is_folder(path)):
        what = "is not a file" if os.path.lexists(path) else "does not exist"
        raise UnreadableError(f"{path} {what}; check the path of the raster.")
    if is_file(path):
        _check_references(path, 0)
    return str(path)


def given_rasters(rasters: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """Return the rasters that a user names, one or several.

    Raises
    ------
    RequestError
        If there are none.
    """
    if isinstance(rasters, str | os.PathLike):
        return [rasters]
    try:
        found = list(rasters)
    except TypeError:
        raise RequestError(f"rasters is {quoted(rasters)}; pass the path of a raster, or several.") from None
    if not found:
        raise RequestError("No raster is named; pass the path of a raster, or several.")
    return found


def as_text(raster: object) -> str:
    """Return what a user names a raster by, as text."""
    return os.fsdecode(raster) if isinstance(raster, str | bytes | os.PathLike) else str(raster)


def stamp_of(location: str) -> tuple[int, int]:
    """Return size and time of a file; zeros for a part of one, or one in an archive."""
    try:
        facts = Path(location).stat()
    except (OSError, ValueError):
        return (0, 0)
    return facts.st_size, facts.st_mtime_ns


def stem_of(location: str, *, with_folder: bool = False) -> str:
    """Return a short name of a raster: the stem of its file, and the part of it that is read.

    Parameters
    ----------
    location
        What `local_location` returns.
    with_folder
        Whether the name of its folder comes first.
    """
    part = _PART.fullmatch(location)
    path = Path(location if part is None else part[2] or part[3])
    inner = "" if part is None else re.sub(r"[^\w.-]+", "_", part[4]).strip("_")
    return "_".join(filter(None, (path.parent.name if with_folder else "", path.stem, inner)))


def _check_references(path: Path, depth: int) -> None:
    """Make sure that a file that refers to others refers to none on a server."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
        if b"<GDAL_W" in head or b"<WMTS" in head:
            raise UnreadableError(
                f"{path} describes a server; zonal statistics read local files, so download it first."
            )
        if b"<VRTDataset" not in head:
            return
        text = read_limited(path, _LARGEST_VRT).decode("utf-8", "replace")
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error.strerror or error}.") from error
    if depth > _DEEPEST:
        raise UnreadableError(f"{path} is a VRT of a VRT, and so on more than {_DEEPEST} times.")
    for _, attributes, name in _SOURCE.findall(text):
        source = html.unescape(name).strip()
        if _ON_SERVER.search(source):
            raise UnreadableError(
                f"{path} refers to {quoted(source)}, which is on a server; zonal statistics read local files."
            )
        inner = path.parent / source if 'relativeToVRT="1"' in attributes else Path(source)
        if is_file(inner):
            _check_references(inner, depth + 1)
