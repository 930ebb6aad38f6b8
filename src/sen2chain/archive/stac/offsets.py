"""Scale and offsets of an item's digital numbers: decided from collection, baseline, flag, and pixels where needed.

What catalogues say is not always true: items of Earth Search whose flag says that the offset has not been subtracted
often have pixels from which it was (https://github.com/Element84/earth-search/issues/71).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain import settings
from sen2chain.archive.offset_check import OFFSET, QUANTIFICATION, Verdict
from sen2chain.archive.stac import kept_verdicts
from sen2chain.archive.stac.offset_pixels import show
from sen2chain.errors import UnreadableError
from sen2chain.products import Radiometry
from sen2chain.remote import is_remote
from sen2chain.rows import Overruled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sen2chain.products import Details, Footprint, ProductId

_FOLDER = "offsets"  # in the cache folder


@dataclass(frozen=True, slots=True)
class Told:
    """What a catalogue says of the offset of one item's digital numbers (DN)."""

    rule: Verdict = Verdict.UNDECIDED
    """State that the documentation of the collection says all its items with offsets have; where it says nothing, they
    are expected to be as ESA delivers them."""
    settled: bool = False
    """Whether the rule is known to hold: pixels are looked at only where the item itself says otherwise."""
    baseline: float | None = None
    """Processing baseline that the item says, 4.0 for 04.00; None leaves it to the product's name."""
    flag: bool | None = None
    """Whether the item says that the offset has been subtracted; None where it says nothing."""
    offsets: Mapping[str, float] = field(default_factory=dict)
    """Band -> offset in DN that the item's assets say (-1000.0, or 0.0); bands that say nothing are absent."""
    quantification: float = QUANTIFICATION
    """DN per unit of reflectance that the item's assets say, of several the one that is not `QUANTIFICATION`."""

    @property
    def item(self) -> Verdict:
        """State that the item itself says: its flag where it has one, else the offsets of its assets."""
        if self.flag is not None:
            return Verdict.SUBTRACTED if self.flag else Verdict.INCLUDED
        values = set(self.offsets.values())
        if values == {0.0}:
            return Verdict.SUBTRACTED
        return Verdict.INCLUDED if values and max(values) < 0 else Verdict.UNDECIDED


@dataclass(frozen=True, slots=True)
class StacDetails:
    """Details of a product in a catalogue, see `sen2chain.products.Details`."""

    product: ProductId
    """The product."""
    item: str
    """Name of the item in sentences, as ``S2B_33UXP_20250302_0_L2A``."""
    identity: str
    """Text that changes with catalogue, collection, item and its version; what the pixels show is kept under it and the
    locations of `pixels`."""
    told: Told = field(default_factory=Told)
    """What the catalogue says of the offset."""
    pixels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Band -> location of rasters that show whether the offset is in: B04 (or B03), B08 (or B8A), and SCL."""
    known_cloud_cover: float | None = None
    """Cloud cover in percent."""
    known_footprint: Footprint | None = None
    """Outline of the data."""

    @property
    def has_radiometry(self) -> bool:
        """Whether `radiometry` can be asked for: yes."""
        return True

    @property
    def has_checksums(self) -> bool:
        """Whether there are checksums: no."""
        return False

    @property
    def inputs(self) -> Mapping[str, str]:
        """Files that rows depend on beside rasters: none."""
        return {}

    def radiometry(self) -> Radiometry:
        """Decide whether the offset is in the digital numbers, and return scale and offsets.

        Call it inside of `sen2chain.rasters.environment` with the reading of the product.

        Raises
        ------
        UnreadableError
            If it cannot be decided, or the pixels that decide cannot be read, or the scale is another than ESA's.
        """
        if self.told.quantification != QUANTIFICATION:
            raise UnreadableError(
                f"{self.item} has {self.told.quantification:g} digital numbers per unit of reflectance as the item "
                f"says, and ESA's products have {QUANTIFICATION:g}; take the date from another collection or catalogue."
            )
        state, note = self._decide()
        sensor, told = self.product.sensor, self.told.offsets
        included = state is Verdict.INCLUDED
        if included and told and max(told.values()) > 0:
            raise UnreadableError(
                f"{self.item} has an offset of {max(told.values()):+g} digital numbers as the item says, and ESA's "
                f"products have {OFFSET:+g}; take the date from another collection or catalogue."
            )
        offsets = {band.name: (told.get(band.name) or OFFSET) if included else 0.0 for band in sensor.bands}
        return Radiometry(QUANTIFICATION, offsets, note)

    def _decide(self) -> tuple[Verdict, str]:
        """Return the state of the offset, and a sentence where pixels contradict the catalogue.

        Raises
        ------
        UnreadableError
            See `radiometry`.
        """
        told = self.told
        item: Verdict = told.item
        baselines = self.product.sensor.baselines_with_offsets
        named = float(self.product.baseline)
        baseline = named if told.baseline is None else round(told.baseline * 100)
        consistent = (named < baselines.start) == (baseline < baselines.start)
        expected: Verdict = Verdict.INCLUDED if told.rule is Verdict.UNDECIDED else told.rule
        if baseline < baselines.start:
            expected = item = Verdict.SUBTRACTED  # there was none, and nothing says more
        elif baseline >= baselines.stop:
            expected = told.rule  # made with Sen2Cor by others than ESA, with or without an offset
        settled = told.settled or baseline < baselines.start
        if settled and consistent and expected is not Verdict.UNDECIDED and item in {expected, Verdict.UNDECIDED}:
            return expected, ""
        # Files count, too: two catalogues on one host or disk may have other copies of the same item.
        identity = "\n".join((self.identity, *_files(self.pixels)))
        shown = kept_verdicts.once(settings.cache_dir() / _FOLDER, identity, lambda: show(self.pixels))
        said = expected if item is Verdict.UNDECIDED else item
        if shown is not Verdict.UNDECIDED:
            return shown, "" if said in {shown, Verdict.UNDECIDED} else Overruled(said, shown).sentence()
        # Where name and item disagree on whether there may be an offset, the baseline alone proves nothing.
        if expected is item and item is not Verdict.UNDECIDED and (consistent or told.item is item):
            return item, ""
        raise UnreadableError(
            f"It is unclear whether the digital numbers of {self.item} contain the offset of 1000: the catalogue "
            f"{_says(told.rule, item)}, and too few dark pixels show it; take the date from another collection or "
            "catalogue."
        )

    def cloud_cover(self) -> float | None:
        """Return the cloud cover that the catalogue says."""
        return self.known_cloud_cover

    def footprint(self) -> Footprint | None:
        """Return the outline that the catalogue says."""
        return self.known_footprint

    def remembered_radiometry(self) -> None:
        """Return None: it is asked for stored rasters alone."""
        return

    def tags(self, location: str) -> None:  # noqa: ARG002  # stored rasters of catalogues are not read
        """Return None: nothing is known of stored rasters."""
        return

    def form(self, location: str) -> None:  # noqa: ARG002  # stored rasters of catalogues are not read
        """Return None: a catalogue has no rasters of indices."""
        return

    def verifier(self) -> None:
        """Return None: there are no checksums."""
        return


def _files(pixels: Mapping[str, str]) -> Iterator[str]:
    """Yield what identifies the files that show the offset: locations, and size and time of files on disk."""
    for location in sorted(pixels.values()):
        yield location
        if not is_remote(location):
            with contextlib.suppress(OSError, ValueError):  # reading it says what is wrong
                status = os.stat(location)  # noqa: PTH116  # a text
                yield f"{status.st_size} {status.st_mtime_ns}"


def _says(rule: Verdict, item: Verdict) -> str:
    """Say what is known of a catalogue whose collection and item do not agree."""
    if item is Verdict.UNDECIDED:
        return "does not say it"
    if rule in {item, Verdict.UNDECIDED}:
        return f"says '{item}', against the processing baseline"
    return f"says '{rule}' of the collection and '{item}' of the item"


if TYPE_CHECKING:

    def _confirmed(details: StacDetails) -> Details:
        return details
