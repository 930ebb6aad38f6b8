"""Kept pixels as a source of products: those of an archive, and those that only kept pixels are left of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sen2chain.archive import MemorySource
from sen2chain.kept_source.kept_details import KeptDetails
from sen2chain.kept_source.kept_search import kept_entries
from sen2chain.pixel_store import is_kept, kept_location, split_kept
from sen2chain.products import OF_PARTS, Acquisition, IdentityToken, Reading
from sen2chain.store.inputs import Inputs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sen2chain.products import Area, ProductId, Skipped, Source
    from sen2chain.store import ExtractionFolder, KeptEntry

_METADATA = "metadata"
KEPT_ALONE = Reading(kind="folder of kept pixels")
"""How kept pixels are read where there is no archive."""


class KeptSource:
    """Kept pixels of a layer, before an archive that has the rest.

    Products of the archive are given as the archive has them, but for what is known of them without their metadata;
    `sen2chain.kept_source.served` chooses where kept pixels serve. Products that the archive lacks are given with
    their kept pixels, unless the archive has a newer one of the same acquisition. Where the metadata of a product are
    not those that its pixels were kept with, they are not used.

    Parameters
    ----------
    folder
        The layer's folder that the pixels were kept in. It is neither locked nor changed, and pixel files are opened
        only to read pixels.
    archive
        The source of the rest; None where there is none.
    why_alone
        That there is no archive, a sentence.

    Raises
    ------
    StoreError
        If the folder's ledger is damaged or of a newer version.
    """

    def __init__(self, folder: ExtractionFolder, archive: Source | None, why_alone: str = "") -> None:
        self.folder, self.archive = folder, archive
        self._rest: Source = MemorySource(()) if archive is None else archive
        self.why_alone = why_alone
        """That there is no archive, a sentence; empty where there is one."""
        self.entries = kept_entries(folder)
        """Product -> what is kept of it."""
        self.stale: set[str] = set()
        """Products whose files have changed since their pixels were kept, as far as the calls so far have found out."""
        self.superseded: set[str] = set()
        """Products that the archive has a newer one in the place of, likewise."""
        self.paths: dict[str, str] = {}
        """Product -> its pixel file."""
        self._by_tile: dict[str, list[tuple[ProductId, KeptEntry]]] = {}
        places: dict[str, str] = {}
        for entry in self.entries.values():
            product = entry.id
            self._by_tile.setdefault(product.tile, []).append((product, entry))
            place = places[product.tile] = places.get(product.tile) or str(folder.pixels(product.tile))
            self.paths[entry.product] = f"{place}/{entry.file}"
        self._by_file = {path: self.entries[product] for product, path in self.paths.items()}
        self._origins: dict[str, str] = {}

    @property
    def reading(self) -> Reading:
        """How the archive's rasters are read."""
        return KEPT_ALONE if self.archive is None else self.archive.reading

    def describe(self) -> str:
        """Return the folder of kept pixels, and the archive."""
        kept = f"pixels kept in {self.folder.root}"
        return kept if self.archive is None else f"{self.archive.describe()}, and {kept}"

    def tiles(
        self, area: Area | None = None, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[str]:
        """MGRS names of the tiles of kept pixels and of those of the archive, sorted; errors as of the archive."""
        own = {
            tile
            for tile, entries in self._by_tile.items()
            if any(_sensed_within(product, first, last) for product, _ in entries)
        }
        return sorted(own.union(self._rest.tiles(area, first, last)))

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None, area: Area | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last`, sorted by id; errors as of the archive."""
        theirs = self._rest.acquisitions(tile, first, last, area)
        found = {str(acquisition.id): acquisition for acquisition in theirs}
        newest: dict[tuple[object, ...], int] = {}
        for acquisition in theirs:
            key = _acquisition_of(acquisition.id)
            newest[key] = max(newest.get(key, 0), acquisition.id.baseline_rank)
        self._look_at_metadata(theirs)
        for product, entry in self._by_tile.get(tile, ()):
            if not _sensed_within(product, first, last) or entry.product in self.stale:
                continue
            known = found.get(entry.product)
            if known is not None:
                found[entry.product] = replace(known, details=self._details(entry, known))
                continue
            # Products of one baseline may be two parts of a pass, which do not replace each other.
            if newest.get(_acquisition_of(product), 0) > product.baseline_rank:
                self.superseded.add(entry.product)
            else:
                found[entry.product] = self.alone(entry, product=product)
        return sorted(found.values(), key=lambda acquisition: acquisition.id)

    def alone(self, entry: KeptEntry, product: ProductId | None = None) -> Acquisition:
        """Return a product of which only kept pixels are used.

        Parameters
        ----------
        entry
            What is kept of it.
        product
            The product, if its name was read already.
        """
        path = self.paths[entry.product]
        bands = {name: kept_location(path, name) for name in entry.rasters}
        return Acquisition(product or entry.id, self._details(entry, None), bands, reading=self.reading)

    def _details(self, entry: KeptEntry, archive: Acquisition | None) -> KeptDetails:
        path = self.paths[entry.product]
        return KeptDetails(
            entry.product,
            {role: kept_location(path, role) for role in entry.inputs},
            entry.radiometry,
            entry.cover,
            entry.footprint,
            None if archive is None else archive.details,
        )

    def _look_at_metadata(self, acquisitions: Iterable[Acquisition]) -> None:
        """Find the products whose metadata, or scale and offsets, have changed since their pixels were kept."""
        known = {}
        for acquisition in acquisitions:
            entry = self.entries.get(str(acquisition.id))
            if entry is None:
                continue
            where = acquisition.details.inputs.get(_METADATA)
            if where is not None:
                known[entry.product] = where
            elif entry.radiometry and acquisition.details.remembered_radiometry() not in (None, entry.radiometry):
                self.stale.add(entry.product)
        self.compare(
            (product, {_METADATA: self.entries[product].inputs.get(_METADATA, ())}, {_METADATA: where})
            for product, where in known.items()
        )

    def compare(self, products: Iterable[tuple[str, Mapping[str, Sequence[object]], Mapping[str, str]]]) -> None:
        """Compare files of the archive with those that pixels were kept of; products that differ become `stale`.

        Files that are gone from the archive do not count: archives are thinned out.

        Parameters
        ----------
        products
            Product, role -> token that was kept, role -> location in the archive.
        """
        products, inputs = list(products), Inputs(self._rest)
        inputs.look_at(dict.fromkeys(where for _, _, places in products for where in places.values()))
        for product, tokens, places in products:
            path = self.paths[product]
            for role, where in places.items():
                token = tokens.get(role)
                self._origins[kept_location(path, role)] = where
                if not inputs.exists(where) or (token and inputs.is_same(token, where)):
                    continue
                self.stale.add(product)

    def skipped(self) -> Sequence[Skipped]:
        """List what the archive found and could not use."""
        return self._rest.skipped()

    def identify(
        self, locations: Iterable[str], contents: Collection[str] | None = None
    ) -> Mapping[str, IdentityToken]:
        """Return for kept pixels the tokens of the files that they were kept of, and look at other files.

        So what was made of kept pixels and what was made of the archive have the same inputs. A pixel file that is
        there never changes.
        """
        where = list(dict.fromkeys(locations))
        others = [location for location in where if not is_kept(location)]
        found = dict(self._rest.identify(others, contents))
        for location in where:
            if location not in found:
                found[location] = self._token(location, whole=contents is not None and location in contents)
        return found

    def _token(self, location: str, *, whole: bool) -> IdentityToken:
        """Return the token that was kept with a raster or the metadata."""
        parts = split_kept(location)
        assert parts is not None  # noqa: S101  # the caller has looked
        path, role = parts
        entry = self._by_file.get(str(path))
        kept = () if entry is None else entry.inputs.get(role) or (r.token if (r := entry.rasters.get(role)) else ())
        if not kept:
            return IdentityToken(role)
        token = IdentityToken(*kept)
        origin = self._origins.get(location)
        if whole and not token.is_whole and origin is not None:
            return self._rest.identify((origin,), (origin,))[origin]
        return token

    def digest(self, location: str) -> str:
        """Return the digest of a file's content, of kept pixels that of the file that they were kept of."""
        if not is_kept(location):
            return self._rest.digest(location)
        content = self._token(location, whole=False).content
        return content if content.startswith(OF_PARTS) else ""

    def reach(self, first: dt.date | None, last: dt.date | None) -> str:
        """Return a sentence on the dates that pixels are kept of, where no archive has the others that are asked for.

        Parameters
        ----------
        first, last
            The dates that are asked for; None on a side that is open.
        """
        dates = [entry.id.sensing.date() for entry in self.entries.values()]
        if self.archive is not None or not dates:
            return ""
        begin, end = min(dates), max(dates)
        if (first is None or first >= begin) and (last is None or last <= end):
            return ""
        return f"Kept pixels reach from {begin} to {end}; of other dates nothing is known."

    def save(self) -> None:
        """Have the archive keep what it found out about products."""
        self._rest.save()


def _sensed_within(product: ProductId, first: dt.date | None, last: dt.date | None) -> bool:
    date = product.sensing.date()
    return (first is None or first <= date) and (last is None or date <= last)


def _acquisition_of(product: ProductId) -> tuple[object, ...]:
    """Return what all products of one acquisition have in common."""
    return product.platform, product.sensing, product.orbit, product.tile


if TYPE_CHECKING:

    def _confirmed(source: KeptSource) -> Source:
        return source
