"""Scale and offsets of an item's digital numbers: decided from collection, baseline, flag, and pixels where needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.archive.offset_check import OFFSET, QUANTIFICATION, Verdict
from sen2chain.errors import UnreadableError
from sen2chain.products import Radiometry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.products import Details, Footprint, ProductId


@dataclass(frozen=True, slots=True)
class Told:
    """What a catalogue says of the offset of one item's digital numbers (DN)."""

    rule: Verdict = Verdict.UNDECIDED
    """State that the documentation of the collection says all its items have."""
    settled: bool = False
    """Whether the rule is known to hold: pixels are looked at only where the item itself says otherwise."""
    baseline: float | None = None
    """Processing baseline that the item says, 4.0 for 04.00; None leaves it to the product's name."""
    flag: bool | None = None
    """Whether the item says that the offset has been subtracted; None where it says nothing."""
    offsets: Mapping[str, float] = field(default_factory=dict)
    """Band -> offset in DN that the item's assets say (-1000.0, or 0.0); bands that say nothing are absent."""

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
    """Text that changes with catalogue, collection, item and its version; what the pixels show is kept under it."""
    told: Told = field(default_factory=Told)
    """What the catalogue says of the offset."""
    pixels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Band -> location of rasters that show whether the offset is in: B04, B08, B02, B03, B8A, as far as there are."""
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
            If it cannot be decided, or the pixels that decide cannot be read.
        """
        sensor = self.product.sensor
        told = self.told
        baseline = self.product.baseline / 100 if told.baseline is None else told.baseline
        has_offset = sensor.has_offsets(baseline)
        if has_offset and Verdict.UNDECIDED in {told.rule, told.item} - ({told.item} if told.settled else set()):
            raise UnreadableError(f"It is unclear whether the digital numbers of {self.item} contain an offset.")
        included = has_offset and told.rule is Verdict.INCLUDED
        offsets = {band.name: told.offsets.get(band.name, OFFSET) if included else 0.0 for band in sensor.bands}
        return Radiometry(QUANTIFICATION, offsets)

    def cloud_cover(self) -> float | None:
        """Return the cloud cover that the catalogue says."""
        return self.known_cloud_cover

    def footprint(self) -> Footprint | None:
        """Return the outline that the catalogue says."""
        return self.known_footprint

    def verifier(self) -> None:
        """Return None: there are no checksums."""
        return


if TYPE_CHECKING:

    def _confirmed(details: StacDetails) -> Details:
        return details
