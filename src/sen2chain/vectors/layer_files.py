"""Files of a layer for readers: the user's own, or a temporary copy.

Nothing is written beside the user's file. Two of GDAL's drivers write even when they only read: GML leaves a ``.gfs``
file, and SQLite (GeoPackage) in write-ahead mode, as QGIS leaves it while a file is open, makes and merges side files.
These files are copied first, and zip archives are unpacked to a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sen2chain.vectors.file_kinds import Kind, RefusedError, check_folder, kind_of, right_suffix, side_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IN_ZIP = (
    ".shp", ".gpkg", ".geojson", ".fgb", ".kml", ".gml", ".parquet", ".geoparquet", ".tab", ".mif", ".gpx", ".sqlite",
    ".geojsonl", ".topojson", ".pq", ".feather", ".arrow",
)  # fmt: skip
"""Suffixes of layers in zip archives; a ``.json`` counts where there is none of these."""

_GDAL_UNPACKS = {".kmz", ".xlsx", ".ods"}  # zip archives that are one document
# An archive that inflates to more than this many times its size is made to fill a disk.
_MOST_INFLATED, _SURELY_FINE = 500, 1 << 30
_MOST_FILES = 10_000  # in an archive
# GDAL's Python readers take these for a part of an address, or drop them.
_MISREAD = re.compile(r"[;?!\t\r\n\ud800-\udfff]")
_SCHEMA_LOCATION = re.compile(rb"""(?:\w+:)?(?:noNamespaceSchema|schema)Location\s*=\s*(?:"[^"]*"|'[^']*')""")


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file, or a folder, that a reader may open."""

    path: Path
    """Where it is."""
    kind: Kind | None
    """Kind of the file; None for a folder."""
    name: str
    """Its path in the archive, for messages; an empty text outside an archive."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[VectorFile]]:
    """Open the files of a layer for readers: one, or all layers of a zip archive.

    Parameters
    ----------
    path
        The user's file or folder.

    Raises
    ------
    RefusedError
        If it is not read, see `sen2chain.vectors.file_kinds`.
    OSError, zipfile.BadZipFile
        If it cannot be read.
    """
    with contextlib.ExitStack() as stack:

        def scratch() -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sen2chain-")))

        if path.is_dir():
            check_folder(path)
            yield [VectorFile(_linked(path, None, scratch), None, "")]
            return
        kind = kind_of(path)
        if kind == "zip" and path.suffix.lower() not in _GDAL_UNPACKS:
            yield _unpacked(path, scratch)
        else:
            if _writes_when_read(path, kind):
                path = _copied(path, scratch())
                kind = kind_of(path, ours=True)
            yield [VectorFile(_linked(path, kind, scratch), kind, "")]


def _writes_when_read(path: Path, kind: Kind) -> bool:
    if kind != "sqlite":
        return kind == "xml" and right_suffix(path, kind).lower() not in {".kml", ".gpx"}
    with path.open("rb") as file:
        # https://www.sqlite.org/fileformat.html: bytes 18 and 19 are 2 in write-ahead mode.
        return 2 in file.read(20)[18:20]


def _copied(path: Path, folder: Path) -> Path:
    files = [path, path.with_name(path.name + "-wal"), path.with_suffix(".xsd"), path.with_suffix(".gfs")]
    for file in dict.fromkeys(files):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    _keep_home(folder)
    return folder / path.name


def _keep_home(folder: Path) -> None:
    """Blank out the addresses of schemas in GML and its schemas, so that no reader fetches them."""
    for file in folder.iterdir():
        if file.suffix.lower() not in {".gml", ".xml", ".xsd"}:
            continue
        with file.open("rb+") as stream:
            head = stream.read(1 << 20)
            stream.seek(0)
            stream.write(_SCHEMA_LOCATION.sub(lambda match: b" " * len(match[0]), head))


def _linked(path: Path, kind: Kind | None, scratch: Callable[[], Path]) -> Path:
    """Return a path that GDAL's readers understand: the file's own, or that of a link to it."""
    misnamed = os.name != "nt" and _MISREAD.search(str(path.absolute()))
    projection = _projection_in_utf8(path)
    name = path.stem + right_suffix(path, kind)
    if not misnamed and not projection and name == path.name:
        return path
    folder = scratch()
    for file in [path] if path.is_dir() else side_files(path):
        if file.name.startswith(path.name):
            place = folder / _MISREAD.sub("_", name + file.name[len(path.name) :])
        else:
            place = folder / _MISREAD.sub("_", file.name)
        if file.suffix.lower() == ".prj" and projection:
            place.write_bytes(projection)
        elif os.name == "nt":
            shutil.copyfile(file, place)  # a link takes rights there
        else:
            place.symlink_to(file.absolute())
    return folder / _MISREAD.sub("_", name)


def _projection_in_utf8(path: Path) -> bytes | None:
    """Return the ``.prj`` of a shapefile in UTF-8; None where it is in UTF-8, since readers fail on others."""
    for suffix in (".prj", ".PRJ") if path.suffix.lower() == ".shp" else ():
        with contextlib.suppress(FileNotFoundError):
            content = path.with_suffix(suffix).read_bytes()
            try:
                content.decode()
            except UnicodeDecodeError:
                return content.decode("cp1252", "replace").encode()
    return None


def _unpacked(path: Path, scratch: Callable[[], Path]) -> list[VectorFile]:
    """Unpack the layers of a zip archive, each into a folder of its own."""
    folder = scratch()
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(info.filename.replace("\\", "/")): info for info in archive.infolist()}
        members = {
            name: info
            for name, info in members.items()
            if not info.is_dir() and "__MACOSX" not in name.parts and not name.name.startswith(".")
        }
        if len(members) > _MOST_FILES:
            raise RefusedError(f"the archive has {len(members)} files; unpack it, and pass the file of the layer")
        found = _layers(members)
        if not found:
            some = ", ".join(name.name for name in list(members)[:5]) or "nothing"
            raise RefusedError(f"the archive has no layer in it, but {some}; pack a shapefile or a GeoPackage")
        _check_inflation(path, [members[part] for parts in found.values() for part in parts])
        files = []
        for number, (name, parts) in enumerate(found.items()):
            place = folder / str(number)
            is_folder = name.suffix.lower() == ".gdb"
            target = place / _MISREAD.sub("_", name.name)
            (target if is_folder else place).mkdir(parents=True)
            for part in parts:
                # The files of a shapefile have one stem, which may be written in capitals in some of them.
                own = part.name if is_folder else name.stem + part.name[len(name.stem) :]
                to = (target if is_folder else place) / _MISREAD.sub("_", own)
                with archive.open(members[part]) as source, to.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            _keep_home(place)
            kind = None if is_folder else kind_of(target, ours=True)
            files.append(VectorFile(_linked(target, kind, scratch), kind, str(name)))
        return files


def _layers(members: Mapping[PurePosixPath, object]) -> dict[PurePosixPath, list[PurePosixPath]]:
    """Find the layers of an archive: file or geodatabase -> its members."""
    found: dict[PurePosixPath, list[PurePosixPath]] = {}
    for name in members:
        for parent in name.parents:
            if parent.suffix.lower() == ".gdb":
                found.setdefault(parent, []).append(name)
    if not found and (tables := [name for name in members if name.suffix.lower() == ".gdbtable"]):
        # Of a geodatabase, only the content of its folder was packed.
        parent = tables[0].parent
        found[parent / "geodatabase.gdb"] = [name for name in members if name.parent == parent]
    inside = {part for parts in found.values() for part in parts}
    # Folder and beginning, up to any dot -> files: those of a layer have its stem, and more behind it.
    beginning: defaultdict[tuple[PurePosixPath, str], list[PurePosixPath]] = defaultdict(list)
    for name in members:
        plain = name.name.casefold()
        for dot in re.finditer(r"\.", plain):
            beginning[name.parent, plain[: dot.start()]].append(name)
    for suffixes in (IN_ZIP, (".json",), (".xml", ".csv")):
        for name in members:
            if name not in inside and name.suffix.lower() in suffixes:
                found[name] = beginning[name.parent, name.stem.casefold()]
        if found:
            return found
    return found


def _check_inflation(archive: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    size = sum(info.file_size for info in members)
    if size > max(_SURELY_FINE, _MOST_INFLATED * archive.stat().st_size):
        raise RefusedError(f"the archive inflates to {size >> 20} MB; unpack it if that is meant")
