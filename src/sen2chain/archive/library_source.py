"""The Sen2Chain library: L2A products, cloud masks and index rasters, each in folders by tile.

An acquisition combines the files of the three parts. Each part may be missing, as a whole or for one product.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.archive.file_identity import FileIdentity
from sen2chain.archive.product_details import ProductDetails
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_search import find_products, identify, in_order, sensed_within
from sen2chain.archive.safe_product import listing, scan_best
from sen2chain.errors import LibraryError
from sen2chain.files import is_folder
from sen2chain.products import LOCAL, Acquisition, ProductId, Skipped
from sen2chain.reasons import Reason
from sen2chain.sensor import ESA_NAMING, MGRS_TILES, SAFE

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from sen2chain.archive.safe_folder import SafeFolder
    from sen2chain.products import Area, Details, Reading
    from sen2chain.settings import Paths

_TILE = re.compile(MGRS_TILES.pattern)

# Parts of a mask's name are joined by "-", except the version of OCM. "QL" ends the names of quicklooks.
_MASK = re.compile(r"(?!QL$)[A-Z][A-Z0-9]*(-[A-Z0-9]+)*|OCM_v[0-9]+(_[0-9]+)*")

# Lossless before possibly lossy: the first in this order is the one to read.
_SUFFIXES = (".tif", ".jp2")


@dataclass(slots=True)
class _Parts:
    """The parts of one product found so far, to build its `Acquisition` from."""

    details: Details
    bands: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    indices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    masked: dict[tuple[str, str], str] = field(default_factory=dict)
    remark: str = ""

    def acquisition(self, product: ProductId) -> Acquisition:
        return Acquisition(product, self.details, self.bands, self.masks, self.indices, self.masked, self.remark)


class LibrarySource(FileIdentity):
    """A Sen2Chain library as a source.

    Parameters
    ----------
    paths
        Folders of its parts.
    safe
        Folder of SAFE products (or one product) to take in the place of the library's own; None for the library's.
    facts
        Cache of facts about products.
    """

    def __init__(self, paths: Paths, facts: ProductFacts | None = None, safe: SafeFolder | None = None) -> None:
        self.paths = paths if safe is None else replace(paths, l2a=safe.path)
        """Folders of its parts."""
        self._facts, self._safe = facts or ProductFacts(None), safe
        self._skipped: set[Skipped] = set()
        self._outside: dict[str, list[tuple[ProductId, str]]] | None = None

    def describe(self) -> str:
        """Return the kind and the folder of the source."""
        beside = "" if self._safe is None else f" with the SAFE products in {self._safe.path}"
        return f"Sen2Chain library {self.paths.home}{beside}"

    @property
    def facts(self) -> ProductFacts:
        """What is known of its products and rasters."""
        return self._facts

    @property
    def has_other_products(self) -> bool:
        """Whether its products lie in a folder of SAFE products outside of the library."""
        return self._safe is not None

    @property
    def reading(self) -> Reading:
        """How its rasters are read: as files on disk."""
        return LOCAL

    def tiles(
        self,
        area: Area | None = None,  # noqa: ARG002  # names are listed anyway
        first: dt.date | None = None,  # noqa: ARG002
        last: dt.date | None = None,  # noqa: ARG002
    ) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted.

        Raises
        ------
        LibraryError
            If a folder cannot be listed.
        """
        roots = [self.paths.l2a, self.paths.cloudmasks, *self._index_roots()]
        places = [(root, entry.name) for root in roots for entry in listing(root) if _TILE.fullmatch(entry.name)]
        return sorted({tile for root, tile in places if self._has_product(root, tile)} | self._outside_tiles().keys())

    def acquisitions(
        self,
        tile: str,
        first: dt.date | None = None,
        last: dt.date | None = None,
        area: Area | None = None,  # noqa: ARG002  # the footprint of a product is not known before it is opened
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id.

        Raises
        ------
        LibraryError
            If a folder of the archive cannot be listed. A product's own folder that cannot be listed is skipped.
        """
        found: dict[ProductId, _Parts] = {}
        self._add_safes(found, tile, first, last)
        self._add_masks(found, tile, first, last)
        self._add_indices(found, tile, first, last)
        return [parts.acquisition(product) for product, parts in sorted(found.items(), key=lambda item: item[0])]

    def copies(self, tile: str) -> dict[ProductId, list[str]]:
        """Return the folders and zip files of the products of a tile that have more than one.

        Raises
        ------
        LibraryError
            If a folder cannot be listed.
        """
        return {product: places for product, places in self._candidates(tile, None, None).items() if len(places) > 1}

    def skipped(self) -> Sequence[Skipped]:
        """List the files and folders that the calls so far found and could not use."""
        return in_order(self._skipped)

    def save(self) -> None:
        """Write newly read facts about products to the cache."""
        self._facts.save()

    def _add_safes(
        self, found: dict[ProductId, _Parts], tile: str, first: dt.date | None, last: dt.date | None
    ) -> None:
        candidates = self._candidates(tile, first, last)
        for product, copies in candidates.items():
            safe = scan_best(product, copies, tile, self._skipped)
            if safe is not None:
                details = ProductDetails(product, safe.metadata, safe.manifest, self._facts)
                found[product] = _Parts(details, dict(safe.bands), remark=safe.remark)

    def _candidates(self, tile: str, first: dt.date | None, last: dt.date | None) -> dict[ProductId, list[str]]:
        """Map products of a tile to their folders and zip files."""
        candidates: dict[ProductId, list[str]] = {}
        for product, path in self._products(self.paths.l2a, tile, first, last):
            candidates.setdefault(product, []).append(path)
        for product, path in self._outside_tiles().get(tile, ()):
            if sensed_within(product, first, last):
                candidates.setdefault(product, []).append(path)
        return candidates

    def _add_masks(
        self, found: dict[ProductId, _Parts], tile: str, first: dt.date | None, last: dt.date | None
    ) -> None:
        for product, path in self._products(self.paths.cloudmasks, tile, first, last):
            files = self._files(path, tile)
            masks = {
                mask: places[0] for mask, places in _rasters(files, f"{product}_").items() if _MASK.fullmatch(mask)
            }
            side = {band: files[name] for name in sorted(files) if (band := SAFE.quality(name))}
            if masks or side:
                parts = found.setdefault(product, self._without_safe(product))
                parts.masks = masks
                parts.bands = side | parts.bands

    def _add_indices(
        self, found: dict[ProductId, _Parts], tile: str, first: dt.date | None, last: dt.date | None
    ) -> None:
        for root in self._index_roots():
            index = root.name
            for product, path in self._products(root, tile, first, last):
                # The index is known from its folder: a name may contain "_", which joins index and mask too.
                for rest, places in _rasters(self._files(path, tile), f"{product}_{index}").items():
                    mask = rest.removeprefix("_")
                    if not rest:
                        found.setdefault(product, self._without_safe(product)).indices[index] = places
                    elif mask != rest and _MASK.fullmatch(mask):
                        found.setdefault(product, self._without_safe(product)).masked[index, mask] = places[0]

    def _without_safe(self, product: ProductId) -> _Parts:
        """Return the parts of a product whose own folder is not there."""
        return _Parts(ProductDetails(product, facts=self._facts))

    def _index_roots(self) -> list[Path]:
        return [Path(entry.path) for entry in listing(self.paths.indices) if is_folder(entry)]

    def _outside_tiles(self) -> dict[str, list[tuple[ProductId, str]]]:
        """Tile -> L2A products outside of the folders of tiles, as in a library that has none."""
        if self._outside is None:
            self._outside = {}
            if self._safe is not None or is_folder(self.paths.l2a):
                for product, path in find_products(self.paths.l2a, but=_TILE.fullmatch):
                    if isinstance(product, Skipped):
                        self._skipped.add(product)
                    else:
                        self._outside.setdefault(product.tile, []).append((product, path))
        return self._outside

    def _has_product(self, root: Path, tile: str) -> bool:
        """Look for one usable product name; without one, all names found are kept for the report."""
        unusable: list[Skipped] = []
        for product, _ in self._named(root, tile):
            if isinstance(product, ProductId):
                return True
            unusable.append(product)
        self._skipped.update(unusable)
        return False

    def _products(
        self, root: Path, tile: str, first: dt.date | None, last: dt.date | None
    ) -> Iterator[tuple[ProductId, str]]:
        """Products of one part of the library with their paths, sensed from `first` to `last`."""
        for product, path in self._named(root, tile):
            if isinstance(product, Skipped):
                self._skipped.add(product)
            elif sensed_within(product, first, last):
                yield product, path

    def _named(self, root: Path, tile: str) -> Iterator[tuple[ProductId | Skipped, str]]:
        """Read the names of products in one tile's folder."""
        if root == self.paths.l2a:
            if is_folder(root / tile):
                yield from find_products(root / tile, tile)
            return
        for entry in listing(root / tile):
            if entry.name.startswith(ESA_NAMING.beginning) and is_folder(entry):
                yield identify(entry.name, tile), entry.path

    def _files(self, folder: str, tile: str) -> dict[str, str]:
        """Name -> path of the files of one product; empty, and reported, where its folder cannot be read."""
        try:
            return {entry.name: entry.path for entry in listing(folder)}
        except LibraryError as error:
            self._skipped.add(Skipped(Path(folder).name, tile, Reason.UNREADABLE, str(error)))
            return {}


def _rasters(files: Mapping[str, str], prefix: str) -> dict[str, tuple[str, ...]]:
    """Map what follows `prefix` in the names of rasters to their places, in the order of `_SUFFIXES`."""
    found: dict[str, tuple[str, ...]] = {}
    for suffix in _SUFFIXES:
        for name, path in files.items():
            if name.startswith(prefix) and name.endswith(suffix):
                rest = name[len(prefix) : -len(suffix)]
                found[rest] = (*found.get(rest, ()), path)
    return found
