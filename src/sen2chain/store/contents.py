"""The contents of a layer's folder as people ask for them: the layer, its series with dates and rows, the files."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from sen2chain.errors import StoreError
from sen2chain.store.extraction_folder import COMPILED, RAW, ExtractionFolder
from sen2chain.store.images import list_images
from sen2chain.store.kept_catalogue import KeptCatalogue
from sen2chain.store.ledger import ImageLedger, State
from sen2chain.store.recognition import read_note

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.store.images import RawImage

_NOT_RESULTS = {".json", ".tmp"}
_WHOLE = (".html", ".gpkg", ".xlsx")  # results of all indices and masks
_CHUNK = 1 << 20


@dataclass(slots=True)
class StoredSeries:
    """The raw rows of one index under one mask."""

    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""
    images: int = 0
    """Images with rows."""
    rows: int = 0
    """Their rows."""
    first: dt.datetime | None = None
    """Sensing time of the first of them."""
    last: dt.datetime | None = None
    """Sensing time of the last of them."""
    states: Counter[State] = field(default_factory=Counter)
    """State -> number of images in the ledger, those without rows included."""
    size: int = 0
    """Bytes of the files."""


@dataclass(slots=True)
class ResultFiles:
    """The files of one folder of results."""

    place: str
    """The folder, as a path in that of the layer, with slashes; empty for the layer's folder itself."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Suffix -> number of files, without the JSON beside them."""
    size: int = 0
    """Bytes."""
    changed: float = 0.0
    """Time of the last change, seconds since 1970."""


@dataclass(slots=True)
class StoredPixels:
    """The kept pixels of some bands and quality rasters on one tile."""

    tile: str
    """The tile."""
    names: tuple[str, ...]
    """Names of the bands and quality rasters."""
    margin: float
    """Metres around the features in which quality rasters are kept."""
    acquisitions: int = 0
    """Acquisitions of which these pixels are kept."""
    partly: int = 0
    """Those of them that lack pixels of features that clouds hid when they were kept."""
    lost: int = 0
    """Those of them whose file is gone or cut off."""
    first: dt.datetime | None = None
    """Sensing time of the first of them."""
    last: dt.datetime | None = None
    """Sensing time of the last of them."""
    size: int = 0
    """Bytes of the files."""


@dataclass(slots=True)
class FolderContents:
    """The contents of a layer's folder."""

    root: Path
    """The folder."""
    source: str | None = None
    """The layer's file, as it was last used."""
    features: int | None = None
    """Number of features; None where it is not known."""
    crs: str = ""
    """CRS of the layer."""
    series: list[StoredSeries] = field(default_factory=list)
    """Raw rows by index and mask."""
    results: list[ResultFiles] = field(default_factory=list)
    """Compiled tables, pictures and pages."""
    pixels: list[StoredPixels] = field(default_factory=list)
    """Kept pixels by tile, bands and margin."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what could not be read."""


def is_layer_folder(path: Path) -> bool:
    """Tell whether a folder is that of a layer."""
    return any((path / name).is_dir() for name in (RAW, COMPILED, ExtractionFolder(path).layer_files.name))


def contents_of(folder: ExtractionFolder) -> FolderContents:
    """Look what a layer's folder holds; nothing is written or locked.

    Parameters
    ----------
    folder
        The folder, also one of the original program.

    Raises
    ------
    StoreError
        If the folder cannot be listed.
    """
    note = read_note(folder)
    found = FolderContents(folder.root, note.get("source"), note.get("features"), str(note.get("crs") or ""))
    try:
        ledger = ImageLedger(folder.ledger, read_only=True)
    except StoreError as error:  # the files are there all the same
        found.notes.append(str(error))
        ledger = ImageLedger(folder.root / "none", read_only=True)
    with ledger:
        for index, mask in _outputs(folder, ledger):
            found.series.append(_series(folder, ledger, index, mask))
        found.pixels = _pixels(folder, KeptCatalogue(ledger))
    found.results = list(_results(folder.root))
    return found


def _outputs(folder: ExtractionFolder, ledger: ImageLedger) -> list[tuple[str, str]]:
    """Return each index and mask that has images in the ledger or a folder of raw rows."""
    known = set(ledger.outputs())
    for index in folder.indices():
        with os.scandir(folder.root / RAW / index) as masks:
            known |= {(index, mask.name) for mask in masks if mask.is_dir()}
    return sorted(known)


def _series(folder: ExtractionFolder, ledger: ImageLedger, index: str, mask: str) -> StoredSeries:
    entries = ledger.entries(index, mask)
    images = list_images(folder, index, mask, {product: entry.file for product, entry in entries.items() if entry.file})
    made = StoredSeries(index, mask, len(images), states=Counter(entry.state for entry in entries.values()))
    if images:
        made.first, made.last = images[0].product.sensing, images[-1].product.sensing
    for image in images:
        entry = entries.get(str(image.product))
        made.rows += entry.rows if entry is not None and entry.rows else _count(image)
        made.size += image.size
    return made


def _pixels(folder: ExtractionFolder, catalogue: KeptCatalogue) -> list[StoredPixels]:
    """Return the kept pixels that the catalogue names."""
    found: dict[object, StoredPixels] = {}
    for entry in sorted(catalogue.entries().values(), key=lambda entry: entry.id.sensing):
        product = entry.id
        key = product.tile, entry.names, entry.margin
        made = found.setdefault(key, StoredPixels(*key, first=product.sensing))
        made.acquisitions, made.last = made.acquisitions + 1, product.sensing
        made.partly += not entry.is_whole
        made.lost += not entry.is_there(folder)
        made.size += entry.size
    return sorted(found.values(), key=lambda made: (made.tile, made.names, made.margin))


def _count(image: RawImage) -> int:
    """Return the rows of a file that the ledger does not know; 0 where it cannot be read."""
    with contextlib.suppress(OSError, pa.ArrowException):
        if image.path.suffix == ".parquet":
            return int(pq.read_metadata(image.path).num_rows)
        with image.path.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
        return max(lines - 1, 0)
    return 0


def _results(root: Path) -> Iterator[ResultFiles]:
    """Yield the folders of results that have files, the layer's folder itself last."""
    for place, folders, names in os.walk(root / COMPILED):
        folders.sort()
        yield from _files(root, place, names)
    whole = [name for name in os.listdir(root) if name.lower().endswith(_WHOLE)]  # noqa: PTH208  # names
    yield from _files(root, str(root), whole)


def _files(root: Path, place: str, names: list[str]) -> Iterator[ResultFiles]:
    made = ResultFiles("" if place == str(root) else os.path.relpath(place, root).replace(os.sep, "/"))
    for name in names:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # names alone
        if suffix in _NOT_RESULTS or name.startswith("."):
            continue
        with contextlib.suppress(OSError):  # a file that has just been replaced
            facts = os.stat(os.path.join(place, name))  # noqa: PTH116, PTH118
            if stat.S_ISREG(facts.st_mode):
                made.kinds[suffix.removeprefix(".")] += 1
                made.size += facts.st_size
                made.changed = max(made.changed, facts.st_mtime)
    if made.kinds:
        yield made
