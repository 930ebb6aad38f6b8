"""The files of an archive by kind, with their sizes, from one walk over its folders; no file is opened.

Kinds follow from the places of files and from the products that a source has found.
"""

from __future__ import annotations

import enum
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sen2chain.archive.file_contents import file_of
from sen2chain.archive.library_source import LibrarySource
from sen2chain.atomic import is_temporary
from sen2chain.files import is_folder as leads_to_folder
from sen2chain.sensor import ESA_NAMING, MGRS_TILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sen2chain.archive.safe_folder import SafeFolder
    from sen2chain.products import Acquisition

_TILE = re.compile(MGRS_TILES.pattern)
_TILE_IN_NAME = re.compile(rf"_T({MGRS_TILES.pattern})_")
_PRODUCT = re.compile(rf"{ESA_NAMING.beginning}[A-Z]_")
_QUICKLOOK = re.compile(r".*_QL\.[A-Za-z0-9]+(\.aux\.xml)?", re.DOTALL)
_RASTER_SUFFIX = re.compile(r"\.(tif|jp2)(\.aux\.xml)?\Z")


class FileKind(enum.StrEnum):
    """Kind of a file, by its place and its name."""

    PRODUCT = "product"
    """L2A products that are read; a whole folder or zip file counts as one."""
    UNUSED_PRODUCT = "product that is not read"
    """Files and folders called like a product that are not read: a second copy, a damaged one, another level."""
    INDEX = "index raster"
    MASKED = "masked index raster"
    MASK = "mask"
    QUALITY = "quality raster"
    """Quality rasters that were kept when the SAFE folder was deleted."""
    QUICKLOOK = "quicklook"
    LEFTOVER = "leftover"
    """Incomplete files: a run writes them now, or was interrupted."""
    OTHER = "other file"


class ArchiveFile(NamedTuple):
    """A file, or a whole product."""

    location: str
    """Its path."""
    kind: FileKind
    """Its kind."""
    tile: str
    """The tile that its folder or its name tells; empty where neither does."""
    size: int
    """Bytes, as the file's length says; of a product the sum."""
    changed: int
    """Time of the last change in nanoseconds; of a product 0."""
    files: int = 1
    """Number of files; more than one for a product."""


@dataclass(slots=True)
class ArchiveFiles:
    """All files of an archive."""

    files: list[ArchiveFile] = field(default_factory=list)
    """The files; each product is one."""
    empty: list[tuple[str, str]] = field(default_factory=list)
    """Empty folders that are called like a product: path and tile."""
    unread: list[str] = field(default_factory=list)
    """Folders that could not be listed, and files that could not be looked at: paths, with the reason."""


def archive_files(source: LibrarySource | SafeFolder, acquisitions: Iterable[Acquisition]) -> ArchiveFiles:
    """Walk over the folders of an archive.

    Links to folders are followed, where these do not lie in the archive anyway. Of a folder of SAFE products only the
    products are counted: it may hold anything else.

    Parameters
    ----------
    source
        The archive.
    acquisitions
        All products that it has found.
    """
    known = _Known.of(acquisitions)
    if not isinstance(source, LibrarySource):
        walk = _Walk(known, sorted(known.products))
        walk.products()
        return walk.found
    paths = source.paths
    roots = [str(root) for root in (paths.indices, paths.cloudmasks, paths.quicklooks)]
    own = [] if source.has_other_products else [str(paths.l2a)]
    walk = _Walk(known, [*own, *roots])
    for root in own:
        walk.folder(root, FileKind.UNUSED_PRODUCT)
    for root in roots:
        walk.folder(root, FileKind.QUICKLOOK if root == roots[-1] else FileKind.OTHER)
    if not own:
        walk.products()
    return walk.found


@dataclass(slots=True)
class _Known:
    """What the products of an archive say about its files."""

    products: dict[str, str] = field(default_factory=dict)
    """Folder or zip file of a product -> its tile."""
    rasters: dict[str, FileKind] = field(default_factory=dict)
    """Path of a raster, without its suffix -> its kind."""
    above: set[str] = field(default_factory=set)
    """Folders that a product lies in, at any depth."""

    @classmethod
    def of(cls, acquisitions: Iterable[Acquisition]) -> _Known:
        known = cls()
        for acquisition in acquisitions:
            known._add_product(acquisition)
            known._add(FileKind.INDEX, (place for places in acquisition.indices.values() for place in places))
            known._add(FileKind.MASKED, acquisition.masked.values())
            known._add(FileKind.MASK, acquisition.masks.values())
        return known

    def _add(self, kind: FileKind, locations: Iterable[str]) -> None:
        self.rasters.update((location[:-4], kind) for location in locations)

    def _add_product(self, acquisition: Acquisition) -> None:
        """Add the folder or the zip file of a product, and its rasters that lie elsewhere."""
        root = ""
        for location in acquisition.details.inputs.values():
            root = _file_or_empty(location) if location.startswith("/vsizip/") else location.rpartition("/")[0]
        for location in acquisition.bands.values():
            if location.startswith("/vsizip/"):
                root = root or _file_or_empty(location)
            elif not root or not location.startswith(f"{root}/"):
                before, granule, _ = location.rpartition("/GRANULE/")
                if granule:
                    root = root or before
                else:
                    self.rasters[location[:-4]] = FileKind.QUALITY
        if root:
            self.products[root] = acquisition.id.tile
            for above in _above(root):
                if above in self.above:
                    break
                self.above.add(above)


class _Walk:
    """One walk over the folders of an archive."""

    def __init__(self, known: _Known, roots: Sequence[str]) -> None:
        self._known = known
        self.found = ArchiveFiles()
        self._roots = set(roots)
        self._covered: set[str] = set()
        self._above: set[str] = set()
        for root in roots:
            self._cover(os.path.realpath(root))

    def products(self) -> None:
        """Add the products alone."""
        for root, tile in sorted(self._known.products.items()):
            if leads_to_folder(root):
                self._product(root, FileKind.PRODUCT, tile)
            else:
                self._file_at(root, FileKind.PRODUCT, tile)

    def folder(self, root: str, otherwise: FileKind) -> None:
        """Add all files of one root.

        Parameters
        ----------
        root
            The folder; nothing is added where there is none.
        otherwise
            Kind of the files that no product knows: for `FileKind.UNUSED_PRODUCT`, of those called like a product.
        """
        todo = [(root, "")]
        while todo:
            folder, tile = todo.pop()
            entries = list(self._entries(folder))
            if not entries and _PRODUCT.match(folder.rpartition("/")[2]) and not self._has_any(folder):
                self.found.empty.append((folder, _tile_in(f"{folder}_") or tile))
            for entry, is_folder in entries:
                name, path = entry.name, entry.path
                of = self._known.products.get(path)
                if of is not None:
                    if is_folder:
                        self._product(path, FileKind.PRODUCT, of)
                    else:
                        self._file(entry, FileKind.PRODUCT, of)
                elif is_folder and otherwise is FileKind.UNUSED_PRODUCT and self._is_unused(path):
                    self._product(path, FileKind.UNUSED_PRODUCT, _tile_in(name) or tile)
                elif is_folder:
                    todo.append((path, name if _TILE.fullmatch(name) else tile))
                else:
                    self._file(entry, self._kind(name, path, otherwise), tile or _tile_in(name))

    def _has_any(self, folder: str) -> bool:
        """Whether a folder has entries, or cannot be listed."""
        try:
            with os.scandir(folder) as entries:
                return next(entries, None) is not None
        except OSError:
            return True

    def _is_unused(self, path: str) -> bool:
        """Whether a folder is called like a product, and holds none that is read."""
        return ESA_NAMING.resembles(path.rpartition("/")[2]) and path not in self._known.above

    def _kind(self, name: str, path: str, otherwise: FileKind) -> FileKind:
        suffix = _RASTER_SUFFIX.search(name)
        known = self._known.rasters.get(path[: suffix.start() - len(name)]) if suffix else None
        if known is not None:
            return known
        if is_temporary(name):
            return FileKind.LEFTOVER
        if _QUICKLOOK.fullmatch(name):
            return FileKind.QUICKLOOK
        if otherwise is FileKind.UNUSED_PRODUCT and not ESA_NAMING.resembles(name):
            return FileKind.OTHER
        return otherwise

    def _product(self, root: str, kind: FileKind, tile: str) -> None:
        """Add a product's folder as one."""
        size = files = 0
        todo = [root]
        while todo:
            for entry, is_folder in self._entries(todo.pop()):
                if is_folder:
                    todo.append(entry.path)
                else:
                    size += self._facts(entry)[0]
                    files += 1
        self.found.files.append(ArchiveFile(root, kind, tile, size, 0, files))

    def _file(self, entry: os.DirEntry[str], kind: FileKind, tile: str) -> None:
        self.found.files.append(ArchiveFile(entry.path, kind, tile, *self._facts(entry)))

    def _file_at(self, path: str, kind: FileKind, tile: str) -> None:
        try:
            facts = os.stat(path)  # noqa: PTH116  # thousands of texts
        except OSError as error:
            self.found.unread.append(f"{path} ({error.strerror})")
            return
        self.found.files.append(ArchiveFile(path, kind, tile, facts.st_size, facts.st_mtime_ns))

    def _facts(self, entry: os.DirEntry[str]) -> tuple[int, int]:
        """Return size and time of a file; 0 where it cannot be looked at, as a link to nowhere."""
        try:
            facts = entry.stat()
        except OSError as error:
            self.found.unread.append(f"{entry.path} ({error.strerror})")
            return 0, 0
        return facts.st_size, facts.st_mtime_ns

    def _entries(self, folder: str) -> Iterator[tuple[os.DirEntry[str], bool]]:
        """List a folder: entries, and whether they are folders to look into. Folders that are roots are left out."""
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if not folder.endswith("/lost+found"):  # a mounted disk has its own, which only root may read
                self.found.unread.append(f"{folder} ({error.strerror})")
            return
        for entry in listed:
            is_folder = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and leads_to_folder(entry))
            if is_folder and (entry.path in self._roots or (entry.is_symlink() and not self._is_new(entry.path))):
                continue
            yield entry, is_folder

    def _is_new(self, link: str) -> bool:
        """Whether a link to a folder leads to where nothing is walked over yet, nor anything above it."""
        target = os.path.realpath(link)
        if target in self._above or target in self._covered or any(above in self._covered for above in _above(target)):
            return False
        self._cover(target)
        return True

    def _cover(self, target: str) -> None:
        """Remember a real folder that is walked over, with all that is in it."""
        self._covered.add(target)
        self._above.update(_above(target))


def _above(path: str) -> Iterator[str]:
    """Yield the folders above a path, from the nearest to the root."""
    while path := path.rpartition("/")[0]:
        yield path
    yield "/"


def _file_or_empty(location: str) -> str:
    try:
        return file_of(location)
    except FileNotFoundError:
        return ""


def _tile_in(name: str) -> str:
    found = _TILE_IN_NAME.search(name)
    return found[1] if found else ""
