"""Kinds of files, judged by their bytes before a reader opens them, and files that are refused.

GDAL chooses its driver by the content of a file, not by its name, and some formats only point to other files or to
addresses. Such files are refused, and so are those that may not end: pipes, devices, huge side files.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sqlite3
import stat
from functools import partial
from json import JSONDecoder
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET  # `_check_vrt` refuses what makes it unsafe

from sen2chain.files import has_document_type

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["parquet", "arrow", "zip", "sqlite", "shapefile", "json", "vrt", "xml", "other"]

_HEAD = 1 << 16
_SMALL = 1 << 20  # bytes of a VRT, or of a side file that says a little about a layer
_LARGE = 64 << 20  # bytes of a schema
_SIDE_FILES = {".prj": _SMALL, ".qpj": _SMALL, ".cpg": _SMALL, ".csvt": _SMALL, ".xsd": _LARGE, ".gfs": _LARGE}
_MAGIC: dict[bytes, Kind] = {
    b"PAR1": "parquet", b"ARROW1": "arrow", b"PK\x03\x04": "zip", b"SQLite format 3\0": "sqlite",
    b"\x00\x00\x27\x0a": "shapefile",
}  # fmt: skip
_VRT = b"<OGRVRTDataSource"
# Documents that GDAL takes for a list of services, rasters or commands.
_POINTERS = re.compile(
    rb"<OGR(?!VRT)\w*DataSource|<VRTDataset|<GDAL\w|gdal_streamed_alg|<(?:\w+:)?(?:WFS_|CSW_)?Capabilities",
    re.IGNORECASE,
)
_CRS_MEMBER = re.compile(rb'"(?:c|\\u0063)(?:r|\\u0072)(?:s|\\u0073)"\s*:\s*\{')
_LONGEST_CRS = 1 << 16
_MEASURES = 5  # of VRT in VRT
# SQL that names other data sources, or calls functions of GDAL and SpatiaLite that open files and addresses.
_REACHING_SQL = re.compile(
    r"://|/vsi|\b(?:ogr|gdal)_\w+\s*\(|'\s*\.|\bload_extension\b|\bBlobFromFile\b", re.IGNORECASE
)
# Virtual tables that hold their content in the file itself.
_OWN_TABLES = re.compile(
    r"using\s+\W?(?:rtree\w*|geopoly|fts[345]\w*|VirtualSpatialIndex|VirtualElementary|VirtualKNN2?)\b", re.IGNORECASE
)


_MARKUP = re.compile(rb"<(?:\w+:)?(kml|gpx)\b", re.IGNORECASE)
# Suffixes that tell GDAL's drivers the truth; under another one, that of another format, they may not look inside.
_SUFFIXES = {
    ".gpkg": {".gpkg", ".gpkx"},
    ".sqlite": {".sqlite", ".sqlite3", ".db", ".spatialite"},
    ".json": {".json", ".geojson", ".geojsonl", ".geojsons", ".jsonl", ".ndjson", ".topojson"},
    ".fgb": {".fgb"},
    ".kml": {".kml"},
    ".gpx": {".gpx"},
    ".gml": {".gml", ".xml"},
}


class RefusedError(ValueError):
    """A file is not read, for the reason in the message."""


def kind_of(path: Path, *, ours: bool = False) -> Kind:
    """Return the kind of a file; refuse one whose content points to other places.

    Parameters
    ----------
    path
        A file on this machine.
    ours
        Whether it is a temporary copy, beside which SQLite may write.

    Raises
    ------
    RefusedError
        If the file or one beside it is not a regular file or too large for what it is, or if its content points to
        other places.
    OSError
        If it cannot be read.
    """
    for file in side_files(path):
        _check_regular(file)
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            if kind == "sqlite":
                _check_tables(path, ours=ours)
            return kind
    if pointer := _POINTERS.search(head):
        what = pointer[0].decode(errors="replace").lstrip("<")
        raise RefusedError(f"it is not a layer but points to one elsewhere ({what}); save that one as a file")
    if _VRT.lower() in head.lower():
        _check_vrt(path)
        return "vrt"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\x1e")[:1]
    if start in {b"{", b"["}:
        _check_json(path)
        return "json"
    return "xml" if start == b"<" else "other"


def right_suffix(path: Path, kind: Kind | None) -> str:
    """Return the suffix by which GDAL's drivers recognise a file: its own, unless it is that of another format.

    Parameters
    ----------
    path, kind
        The file, and its kind from `kind_of`; None for a folder.
    """
    if kind not in {"sqlite", "json", "xml", "other"}:
        return path.suffix
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if kind == "sqlite":
        wanted = ".gpkg" if head[68:70] == b"GP" else ".sqlite"  # the application's id
    elif kind == "xml":
        found = _MARKUP.search(head)
        wanted = f".{found[1].decode().lower()}" if found else ".gml"
    elif kind == "json":
        wanted = ".json"
    else:
        wanted = ".fgb" if head.startswith(b"fgb\x03") else path.suffix
    return path.suffix if path.suffix.lower() in _SUFFIXES.get(wanted, ()) else wanted


def side_files(path: Path) -> list[Path]:
    """Return a file and its side files: those of the same stem, and those whose name continues its own."""
    stem, name = _literal(path.stem), _literal(path.name)
    return sorted({path, *path.parent.glob(f"{stem}.*"), *path.parent.glob(f"{name}-*")})


def check_folder(path: Path) -> None:
    """Refuse a folder that is not a file geodatabase or holds anything but regular files.

    Raises
    ------
    RefusedError
        If it does, or if it has no layer in it.
    """
    found = False
    with os.scandir(path) as entries:
        for entry in entries:
            found = found or entry.name.lower().endswith((".shp", ".gdbtable", ".tab", ".mif"))
            if not entry.is_dir():
                _check_regular(Path(entry.path))
    if not found:
        raise RefusedError("it is a folder without a layer in it; pass the file")


def _check_regular(path: Path) -> None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return  # a broken link beside the file
    if stat.S_ISDIR(facts.st_mode):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise RefusedError(f"{path.name} is not a regular file but a pipe, a socket or a device; copy its content")
    limit = _SIDE_FILES.get(path.suffix.lower())
    if limit and facts.st_size > limit:
        raise RefusedError(f"{path.name} has {facts.st_size >> 20} MB, which no such file has; replace or remove it")


def _check_json(path: Path) -> None:
    """Refuse a GeoJSON file whose CRS is a link to an address."""
    with path.open("rb") as stream, contextlib.ExitStack() as stack:
        try:
            content = stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):  # a file system that maps nothing
            content = stream.read()  # type: ignore[assignment]  # searched in the same way
        for match in _CRS_MEMBER.finditer(content):
            start = match.end() - 1
            text = content[start : start + _LONGEST_CRS].decode(errors="replace")
            try:
                member, _ = JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                continue  # the reader says what is wrong with it
            kind = str(member.get("type", "")).lower()
            if kind.startswith(("link", "url")):
                raise RefusedError(
                    "its CRS is a link to an address, which is not followed; write the CRS itself, or remove the "
                    'member "crs" where the coordinates are longitudes and latitudes'
                )


def _check_tables(path: Path, *, ours: bool) -> None:
    """Refuse a database with tables or views that take rows from other places."""
    # Without a write-ahead log, which is only merged in a copy, SQLite writes nothing beside the file.
    address = f"{path.absolute().as_uri()}?mode=ro{'' if ours else '&immutable=1'}"
    # The reader tells of damage.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(address, uri=True)) as base:
        base.text_factory = partial(str, encoding="utf-8", errors="replace")  # a name that is not UTF-8 hides no other
        for name, sql in base.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
            text = str(sql)
            virtual = re.match(r"\s*create\s+virtual\s+table", text, re.IGNORECASE)
            view = re.match(r"\s*create\s+(?:temp(?:orary)?\s+)?view", text, re.IGNORECASE)
            if (virtual and not _OWN_TABLES.search(text)) or (view and _REACHING_SQL.search(text)):
                raise RefusedError(
                    f"its table {name!r} takes its rows from elsewhere, which is not followed; copy the rows into it"
                )


def _check_vrt(path: Path, depth: int = 1) -> None:
    """Refuse a virtual layer without its suffix, or with sources that are not files on this machine."""
    if path.suffix.lower() not in {".vrt", ".ovf"}:
        raise RefusedError("it is a virtual layer (VRT) under another name, which points to other files; rename it")
    if path.stat().st_size > _SMALL or depth > _MEASURES:
        raise RefusedError("it is too large or too deep for a virtual layer; save it as a GeoPackage")
    for source in _sources(path):
        if not source.exists():
            raise RefusedError(f"it points to {str(source)!r}, which is not a file on this machine; save a copy of it")
        if source.is_dir():
            check_folder(source)
        elif source.suffix.lower() in {".vrt", ".ovf"}:
            _check_regular(source)
            _check_vrt(source, depth + 1)
        elif kind_of(source) == "zip":
            raise RefusedError("it points into a zip archive; unpack it")


def _sources(path: Path) -> Iterator[Path]:
    document = path.read_bytes()
    if has_document_type(document):
        raise RefusedError("it has a document type (DOCTYPE), which no virtual layer has")
    try:
        root = ET.fromstring(document)  # noqa: S314  # without a document type it is safe
    except ET.ParseError as error:
        raise RefusedError(f"it is not valid XML ({error})") from error
    for element in root.iter():
        text, tag = (element.text or "").strip(), str(element.tag).lower()
        if tag == "ooi" or (tag == "srcsql" and _REACHING_SQL.search(text)):
            raise RefusedError(f"its {element.tag} may reach other places; save the layer as a GeoPackage")
        if tag == "srcdatasource":
            relative = element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"
            yield path.absolute().parent / text if relative else Path(text)
        elif re.search(r"://|^/vsi", text):
            raise RefusedError(f"its {element.tag} names an address; write what is meant itself")


def _literal(name: str) -> str:
    """Escape the special characters of a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
