"""The kept pixels in a layer's folder: pixel files are written, joined with former ones, entered, dropped.

The order makes each step safe: the positions are on the disk before a pixel file that needs them, the pixel file before
the catalogue names it, and a former file of the product goes after that. What the catalogue does not name was left by a
killed run, or the ledger was lost: `PixelFolder.adopt` enters files that are whole, and `sweep` removes the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.atomic import free_bytes, remove_unneeded, replacing, writing
from sen2chain.errors import KeptPixelsError, OutputError, PixelFormatError
from sen2chain.pixel_store import (
    FORMAT,
    KeptValues,
    PixelFile,
    TilePositions,
    content_digest,
    is_as_named,
    load_positions,
    pixel_file,
    with_facts,
)
from sen2chain.progress import counted, sized
from sen2chain.store.extraction_folder import POSITIONS_SUFFIX
from sen2chain.store.kept_catalogue import HeldRaster, KeptCatalogue, KeptEntry

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from sen2chain.extract.pixel_keeper import KeptPixels
    from sen2chain.products import ProductId
    from sen2chain.store.extraction_folder import ExtractionFolder
    from sen2chain.store.ledger import ImageLedger

_FORMAT_FACT = "pixel_format"
_ROOM = 16 << 20
"""Bytes that are left free on the disk for rows, which matter more."""


@dataclass(slots=True)
class DroppedPixels:
    """The result of `TimeSeriesCompil.drop_pixels`."""

    acquisitions: int = 0
    """Acquisitions whose pixels were dropped."""
    files: int = 0
    """Files that were removed: of pixels, and of positions that no other pixels need."""
    size: int = 0
    """Their bytes."""
    first: dt.date | None = None
    """Date of the first of the acquisitions."""
    last: dt.date | None = None
    """Date of the last of them."""
    left: int = 0
    """Acquisitions whose pixels are still kept."""
    is_forecast: bool = False
    """Whether nothing was removed: the run only looked."""

    def __str__(self) -> str:
        left = f"the pixels of {counted(self.left, 'acquisition')}" if self.left else ""
        if not self.acquisitions and not self.files:
            return f"No kept pixels to drop: {left} stay." if left else "No kept pixels to drop."
        days = f" from {self.first} to {self.last}" if self.first else ""
        verb = "would be dropped" if self.is_forecast else "were dropped"
        stay = f"{left} and all rows stay" if left else "none are left; all rows stay"
        what = f"Pixels of {counted(self.acquisitions, 'acquisition')}{days}"
        return f"{what} {verb} ({counted(self.files, 'file')}, {sized(self.size)}); {stay}."


class PixelFolder:
    """The kept pixels in the folder of a layer, whose lock is held.

    Parameters
    ----------
    folder, ledger
        The folder and its ledger.
    """

    def __init__(self, folder: ExtractionFolder, ledger: ImageLedger) -> None:
        self._folder, self._ledger = folder, ledger
        self._catalogue = KeptCatalogue(ledger)
        self._damaged: set[tuple[str, str]] = set()
        self._adopted: list[KeptEntry] = []

    @cached_property
    def entries(self) -> dict[str, KeptEntry]:
        """What the catalogue names, by product."""
        return self._catalogue.entries()

    def why_not(self) -> str:
        """Return a sentence on why no pixels can be kept here; empty where they can."""
        found = self._ledger.fact(_FORMAT_FACT)
        if found is None or found == str(FORMAT):
            return ""
        return (
            f"Pixels cannot be kept in {self._folder.root.name}: those that are there have the format {found} of "
            f"another version of sen2chain, and this one writes format {FORMAT}; update sen2chain, or drop them "
            "(drop_pixels(), sen2chain pixels --drop)."
        )

    def adopt(self) -> list[str]:
        """Add pixel files to the entries that the catalogue does not name, and return their products.

        They are those of a ledger that was lost, or of a run that was killed before it entered them. A file is adopted
        if all of it is as it was written, and if none of its product is there that is newer or holds more.
        `enter_adopted` writes them into the catalogue.
        """
        for path in self._unnamed(self.entries.values()):
            entry = self._stray(path)
            if entry is not None and self._is_better(entry, self.entries.get(entry.product)):
                self.entries[entry.product] = entry
                self._adopted.append(entry)
        return sorted({entry.product for entry in self._adopted})

    def _stray(self, path: Path) -> KeptEntry | None:
        """Return the entry of a pixel file that the catalogue does not name; None where it is not whole."""
        try:
            entry = KeptEntry.of_file(path)
        except KeptPixelsError:  # also a file of positions
            return None
        return entry if entry.path(self._folder) == path and is_as_named(path) else None

    def _is_better(self, entry: KeptEntry, listed: KeptEntry | None) -> bool:
        """Whether a file is to take the place of the one that is listed of its product."""
        if listed is None or not listed.is_there(self._folder):
            return True
        one, other = (e.path(self._folder).stat().st_mtime_ns for e in (entry, listed))
        return one > other and entry.holds_all_of(listed)

    def enter_adopted(self) -> None:
        """Enter adopted pixels in the catalogue."""
        if not self._adopted:
            return
        if self._ledger.fact(_FORMAT_FACT) is None:
            self._ledger.set_fact(_FORMAT_FACT, str(FORMAT))
        self._catalogue.record([self.entries[product] for product in {entry.product for entry in self._adopted}])
        self._adopted = []

    def usable(self, *, verify: bool = False) -> dict[str, KeptEntry]:
        """Return the entries whose pixel file is there and whose positions can be read.

        Parameters
        ----------
        verify
            Read each pixel file, and leave those out of which a byte has changed.
        """
        return {
            product: entry
            for product, entry in self.entries.items()
            if entry.is_there(self._folder)
            and self._has_positions(entry)
            and (not verify or is_as_named(entry.path(self._folder)))
        }

    def _has_positions(self, entry: KeptEntry) -> bool:
        key = entry.id.tile, entry.positions
        if key in self._damaged:
            return False
        try:
            load_positions(self._folder.pixels(key[0]), key[1])
        except KeptPixelsError:
            self._damaged.add(key)
        return key not in self._damaged

    def write(
        self,
        product: ProductId,
        kept: KeptPixels,
        positions: TilePositions,
        tokens: Mapping[str, tuple[Any, ...]],
        former: KeptEntry | None,
    ) -> KeptEntry:
        """Write the pixels of a product, and return the entry for `enter`.

        Parameters
        ----------
        product
            The product.
        kept
            Its pixels, not empty.
        positions
            Their positions.
        tokens
            Identities of the files they come from, see `sen2chain.store.inputs.kept_locations`.
        former
            The pixels of the same files that are there already; those that are not among the new ones stay. None where
            the new ones replace all that is there.

        Raises
        ------
        OutputError
            If they cannot be written, or the disk is nearly full.
        KeptPixelsError
            If they cannot be joined with the former ones.
        """
        entry = KeptEntry(
            str(product), "", 0, positions.digest, positions.margin,
            {name: HeldRaster(tokens[name], facts.grid, facts.masks) for name, facts in kept.rasters.items()},
            {role: token for role, token in tokens.items() if role not in kept.rasters and role not in kept.lacking},
            kept.radiometry, kept.cover, kept.footprint,
        )  # fmt: skip
        content = kept.content
        if former is not None:
            content, entry = self._joined(content, entry, former, positions)
        content = with_facts(content, entry.facts)
        path = self._folder.pixel_file(product, content_digest(content))
        places = self._folder.positions_file(product.tile, positions.digest)
        self._check_room(len(content))
        if self._ledger.fact(_FORMAT_FACT) is None:
            self._ledger.set_fact(_FORMAT_FACT, str(FORMAT))
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        key = product.tile, positions.digest
        if key in self._damaged or not places.is_file():
            with replacing(places) as file:
                file.write(positions.to_bytes())
            self._damaged.discard(key)
        with replacing(path) as file:
            file.write(content)
        return replace(entry, file=path.name, size=len(content))

    def _check_room(self, size: int) -> None:
        """Leave room on the disk for rows."""
        root = self._folder.root
        if free_bytes(root) < size + _ROOM:
            raise OutputError(f"No room is left on the disk for kept pixels in {root}; free some, or keep none.")

    def _joined(
        self, content: bytes, entry: KeptEntry, former: KeptEntry, positions: TilePositions
    ) -> tuple[bytes, KeptEntry]:
        """Join new pixels with former ones of the same source; rasters whose positions are others now are left out."""
        held, values = dict(entry.rasters), {}
        with (
            PixelFile.open(former.path(self._folder)) as old,
            PixelFile.of_bytes(content, positions, former.product) as new,
        ):
            for name in dict.fromkeys([*new.rasters, *old.rasters]):
                fits = name in former.rasters and _same_positions(old, name, positions)
                if fits:
                    values[name], held[name] = _values_of(name, old, new, former, entry)
                elif name in new.rasters:
                    values[name] = _read(new, name)
            facts = new.facts
        joined = replace(entry, rasters=held, radiometry=entry.radiometry or former.radiometry)
        return pixel_file(facts, values, positions), joined

    def enter(self, entry: KeptEntry) -> None:
        """Enter pixels that `write` has written; the former file of the product goes with `remove_former`."""
        self._catalogue.record([entry])

    def remove_former(self, entry: KeptEntry) -> None:
        """Remove the former file of a product, after the new one is entered for good."""
        before = self.entries.get(entry.product)
        self.entries[entry.product] = entry
        if before is not None and before.file != entry.file:
            remove_unneeded(before.path(self._folder))

    def superseded(self, product: ProductId, others: Callable[[ProductId], Iterable[ProductId]]) -> list[str]:
        """Drop the pixels of an acquisition in older baselines that the archive lacks, and return their products.

        Parameters
        ----------
        product
            The product whose pixels have just been kept.
        others
            Returns the products that the archive has of that day and tile.
        """
        key = _acquisition(product)
        # Products of one baseline may be two parts of a pass, which do not replace each other.
        old = [
            entry.product
            for entry in self.entries.values()
            if _acquisition(entry.id) == key and entry.id.baseline_rank < product.baseline_rank
        ]
        if old:
            there = set(map(str, others(product)))
            old = [name for name in old if name not in there]
            for path in self._forget(old):
                remove_unneeded(path)
        return old

    def sweep(self) -> None:
        """Remove pixel files that the catalogue does not name, and positions that no entry needs.

        Files of another version of the format stay, since that version can read them.
        """
        for path in self._unnamed(self.entries.values()):
            if not _has_other_format(path):
                remove_unneeded(path)

    def _unnamed(self, entries: Iterable[KeptEntry]) -> list[Path]:
        """Return the files that some entries do not need."""
        needed = set()
        for entry in entries:
            needed |= {entry.path(self._folder), self._folder.positions_file(entry.id.tile, entry.positions)}
        return [path for path in self._folder.all_pixel_files() if path not in needed]

    def drop(self, first: dt.date | None, last: dt.date | None, *, dry_run: bool) -> DroppedPixels:
        """Remove the kept pixels of a range of dates, both inclusive; None is open. Rows are not touched.

        Files that cannot be read are removed too; those of another version of the format where no date is given.

        Raises
        ------
        OutputError
            If files cannot be removed; the others are.
        """
        self.adopt()
        if not dry_run:
            self.enter_adopted()
        chosen: list[KeptEntry] = []
        rest: list[KeptEntry] = []
        for entry in self.entries.values():
            day = entry.id.sensing.date()
            (chosen if (first is None or first <= day) and (last is None or day <= last) else rest).append(entry)
        everything = first is None and last is None
        files = [path for path in self._unnamed(rest) if everything or not _has_other_format(path)]
        days = [entry.id.sensing.date() for entry in chosen]
        done = DroppedPixels(
            len(chosen), len(files), sum(path.stat().st_size for path in files),
            min(days, default=None), max(days, default=None), len(rest), dry_run,
        )  # fmt: skip
        if not dry_run:
            forgotten = self._forget([entry.product for entry in chosen])
            if not rest:
                self._ledger.forget_fact(_FORMAT_FACT)
            tried = ((path, remove_unneeded(path)) for path in dict.fromkeys([*forgotten, *files]))
            left = [(path, error) for path, error in tried if error is not None]
            if left:
                path, error = left[0]
                raise OutputError(
                    f"{counted(len(left), 'file')} of kept pixels cannot be removed, as {path}: "
                    f"{error.strerror or error}; make it possible to remove files there, and drop them again."
                )
        return done

    def _forget(self, products: list[str]) -> list[Path]:
        """Forget pixels, and return their files, which are to be removed then; positions stay for `sweep`."""
        self._catalogue.remove(products)
        return [self.entries.pop(name).path(self._folder) for name in products]


def _has_other_format(path: Path) -> bool:
    """Whether another version of sen2chain wrote a file of pixels or positions."""
    try:
        if path.suffix == POSITIONS_SUFFIX:
            TilePositions.load(path)
        else:
            PixelFile.open(path).close()
    except PixelFormatError:
        return True
    except KeptPixelsError:
        pass
    return False


def _read(file: PixelFile, name: str) -> KeptValues:
    header = file.header(name)
    return KeptValues(*file.read(name), header.role, header.grid, header.nodata, header.scale)


def _same_positions(file: PixelFile, name: str, positions: TilePositions) -> bool:
    """Whether a file holds a raster at positions that it has among others too."""
    if name not in file.rasters:
        return False
    header = file.header(name)
    return file.positions_of(name).digest == positions.of_raster(header.role, header.grid).digest


def _values_of(
    name: str, old: PixelFile, new: PixelFile, former: KeptEntry, entry: KeptEntry
) -> tuple[KeptValues, HeldRaster]:
    """Return the pixels of a raster from a former file, and from a new one where that has it."""
    if name not in new.rasters:
        return _read(old, name), former.rasters[name]
    one, other, held = _read(new, name), _read(old, name), entry.rasters[name]
    if one.present is None or other.present is None:
        whole = one if one.present is None else other
        return whole, replace(held, masks=None)
    values = np.where(one.present, one.values, other.values)
    masks = (held.masks or frozenset()) | (former.rasters[name].masks or frozenset())
    return one._replace(values=values, present=one.present | other.present), replace(held, masks=masks)


def _acquisition(product: ProductId) -> tuple[object, ...]:
    """Return what all products of one acquisition share."""
    return product.platform, product.sensing, product.orbit, product.tile
