"""Facts about products and their rasters, cached from run to run, so that each file is opened once to learn them.

These are the metadata of products (scale, offsets, cloud cover, footprint), and tags and form of stored rasters. The
cache is one small file per tile. An entry holds as long as its file keeps its size and time of change.
"""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from sen2chain import cache
from sen2chain.archive.file_contents import file_of
from sen2chain.archive.product_metadata import ProductMetadata, read_metadata
from sen2chain.errors import UnreadableError
from sen2chain.files import is_young, read_limited
from sen2chain.raster_form import NAMES, RasterForm
from sen2chain.raster_tags import PREFIX, RasterTags
from sen2chain.rasters import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.products import ProductId

    Known = dict[str, Any]

_METADATA = {field.name for field in fields(ProductMetadata)}
_MOST = 200_000  # files in a tile's file, of all archives together
_LARGEST = 256 << 20  # bytes of such a file


class ProductFacts:
    """Cache of facts about products and their rasters; several threads may ask it.

    Parameters
    ----------
    folder
        Folder of the cache; None keeps nothing beyond this object.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, list[Any]]] = {}
        self._new: dict[str, dict[str, list[Any]]] = {}
        self._here: dict[tuple[str, int, int], Known | None] = {}
        self._faults: dict[str, str] = {}
        self._read_from: dict[str, tuple[int, int, int] | None] = {}
        self._lock = threading.RLock()

    def metadata(self, location: str | None, product: ProductId) -> ProductMetadata | None:
        """Return the metadata of a product; None where there are none, or they cannot be read.

        Parameters
        ----------
        location
            Location of the metadata; None where there are none.
        product
            The product that the metadata must belong to.
        """
        if location is None:
            return None

        def read() -> Known | None:
            try:
                found, fault = asdict(read_metadata(location, product)), ""
            except UnreadableError as error:
                found, fault = None, str(error)
            with self._lock:
                self._faults[location] = fault
            return found

        found = self._of(location, product.tile, read, metadata=True)
        return None if found is None else _metadata(found)

    def fault(self, location: str) -> str:
        """Return the sentence that says why metadata could not be read when they were asked for; else empty."""
        with self._lock:
            return self._faults.get(location, "")

    def cloud_cover(self, location: str | None, product: ProductId) -> float | None:
        """Return the cloud cover of a product in percent; None where its metadata do not say it; see `metadata`."""
        found = self.metadata(location, product)
        return None if found is None else found.cloud_cover

    def tags(self, location: str, tile: str) -> RasterTags | None:
        """Return the tags of a stored raster; None where it has none, or cannot be opened.

        Parameters
        ----------
        location
            The file.
        tile
            The tile that it belongs to.
        """
        found = self._raster(location, tile)
        return RasterTags.read(found) if found else None

    def form(self, location: str, tile: str) -> RasterForm | None:
        """Return the form of a stored raster as its header tells it; None where it cannot be opened.

        Parameters
        ----------
        location
            The file.
        tile
            The tile that it belongs to.
        """
        found = self._raster(location, tile)
        return None if found is None else RasterForm.read(found)

    def header(self, location: str, tile: str) -> tuple[RasterTags | None, RasterForm | None]:
        """Return what `tags` and `form` return, with one look at the file."""
        found = self._raster(location, tile)
        return (RasterTags.read(found) if found else None), (None if found is None else RasterForm.read(found))

    def _raster(self, location: str, tile: str) -> Known | None:
        """Return tags and form of a stored raster as texts."""
        return self._of(location, tile, lambda: _known_of(location))

    def remember_tags(self, location: str, tile: str, tags: RasterTags) -> None:
        """Keep the tags of a file that has just been written, so that no run opens it to learn them."""
        facts = _facts(location)
        if facts is not None:
            with self._lock:
                key = location, facts.st_size, facts.st_mtime_ns
                self._here[key] = known = tags.items()
                # Nothing else changes it within the moment in which its time would not tell.
                self._new.setdefault(tile, {})[location] = [facts.st_size, facts.st_mtime_ns, known]

    def save(self) -> None:
        """Write new entries to the folder. Where that fails, the next run reads the files again."""
        with self._lock:
            for tile, found in self._new.items():
                every = self._of_tile(tile)
                if self._folder is not None and self._read_from.get(tile) != self._identity(tile):
                    every = self._read(tile)  # another run has added other products since
                for location, entry in found.items():
                    every.pop(location, None)
                    every[location] = entry
                self._known[tile] = dict(list(every.items())[-_MOST:])
                if self._folder is not None:
                    content = json.dumps(self._known[tile], separators=(",", ":")).encode()
                    cache.save_bytes(self._folder / f"{tile}.json", content)
                    # Not looked at again: what another run writes in this moment must be read before the next save.
                    self._read_from.pop(tile, None)
            self._new.clear()

    def _of(
        self, location: str, tile: str, read: Callable[[], Known | None], *, metadata: bool = False
    ) -> Known | None:
        """Return what is known of a file, or read it. What cannot be read is not cached: it may be mended."""
        facts = _facts(location)
        if facts is None:
            return None
        with self._lock:
            is_known, found = self._kept(location, tile, facts.st_size, facts.st_mtime_ns, metadata=metadata)
        if is_known:
            return found
        found = read()
        with self._lock:
            self._here[location, facts.st_size, facts.st_mtime_ns] = found
            if found is not None and not is_young(facts):
                self._new.setdefault(tile, {})[location] = [facts.st_size, facts.st_mtime_ns, found]
        return found

    def _kept(
        self, location: str, tile: str, size: int, changed: int, *, metadata: bool = False
    ) -> tuple[bool, Known | None]:
        """Return whether the facts of a file are known as it is now, and these. The lock is held."""
        # What this object saw goes first: a file that was just written may have size and time of the one before.
        if (key := (location, size, changed)) in self._here:
            return True, self._here[key]
        known = self._of_tile(tile).get(location)
        if (
            known is not None
            and known[0] == size
            and known[1] == changed
            and (known[2].keys() == _METADATA) == metadata
        ):
            return True, known[2]
        return False, None

    def _of_tile(self, tile: str) -> dict[str, list[Any]]:
        if tile not in self._known:
            self._known[tile] = self._read(tile)
        return self._known[tile]

    def _identity(self, tile: str) -> tuple[int, int, int] | None:
        """Return what changes when the file of a tile is replaced; None where there is none."""
        facts = _facts(str(self._folder / f"{tile}.json")) if self._folder is not None else None
        return None if facts is None else (facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def _read(self, tile: str) -> dict[str, list[Any]]:
        if self._folder is None:
            return {}
        self._read_from[tile] = self._identity(tile)
        try:
            found = json.loads(read_limited(self._folder / f"{tile}.json", _LARGEST))
            return {where: known for where, known in found.items() if _is_whole(known)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}


def _facts(location: str) -> os.stat_result | None:
    try:
        return os.stat(file_of(location))  # noqa: PTH116  # thousands of texts
    except (OSError, ValueError):
        return None


def _known_of(location: str) -> Known | None:
    """Read the tags of sen2chain in a file, and its form, as texts; None where it cannot be opened."""
    try:
        header = read_header(location)
    except UnreadableError:
        return None
    tags = RasterTags.read(header.texts)
    return {**({} if tags is None else tags.items()), **header.form.items()}


def _metadata(known: Known) -> ProductMetadata:
    footprint = known["footprint"]
    return ProductMetadata(
        known["quantification"],
        known["offsets"],
        known["cloud_cover"],
        None if footprint is None else tuple((x, y) for x, y in footprint),
    )


def _is_whole(entry: object) -> bool:
    """Tell whether an entry is a list of size, time and facts: metadata, or tags and form."""
    if not isinstance(entry, list) or len(entry) != 3 or type(entry[0]) is not int or type(entry[1]) is not int:
        return False
    known = entry[2]
    if not isinstance(known, dict):
        return False
    if known.keys() != _METADATA:
        texts = all(isinstance(text, str) and (n.startswith(PREFIX) or n in NAMES) for n, text in known.items())
        return texts and RasterForm.read(known) is not None
    offsets, cover, footprint = known["offsets"], known["cloud_cover"], known["footprint"]
    return (
        _is_number(known["quantification"])
        and isinstance(offsets, dict)
        and all(map(_is_number, offsets.values()))
        and (cover is None or _is_number(cover))
        and (footprint is None or (isinstance(footprint, list) and all(map(_is_corner, footprint))))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_corner(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_number(value[0]) and _is_number(value[1])
