"""Facts about a product whose pixels were kept, without its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.errors import PixelsNotKeptError
from sen2chain.pixel_store import is_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sen2chain.products import Details, Footprint, Radiometry
    from sen2chain.raster_form import RasterForm
    from sen2chain.raster_tags import RasterTags


@dataclass(frozen=True, slots=True)
class KeptDetails:
    """Details of a product as they were when its pixels were kept, see `sen2chain.products.Details`."""

    product: str
    """Name of the product."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role -> location of files that the facts come from, which only their source's `identify` knows."""
    known_radiometry: Radiometry | None = None
    """Scale and offsets; None where they were not needed yet, since masks removed every feature."""
    known_cloud_cover: float | None = None
    """Cloud cover in percent."""
    known_footprint: Footprint | None = None
    """Outline of the data."""
    archive: Details | None = None
    """Details of the same product in the archive, which are asked about stored rasters; None where it is not there."""

    @property
    def has_radiometry(self) -> bool:
        """Whether `radiometry` can be asked for: yes, else no band would be kept."""
        return True

    @property
    def has_checksums(self) -> bool:
        """Whether there are checksums to compare: files of kept pixels have their own, which are always compared."""
        return self.archive is None or self.archive.has_checksums

    def radiometry(self) -> Radiometry:
        """Return the kept scale and offsets.

        Raises
        ------
        UnreadableError
            If they were not kept, and the archive cannot tell them.
        """
        if self.known_radiometry is not None:
            return self.known_radiometry
        if self.archive is not None:
            return self.archive.radiometry()
        raise PixelsNotKeptError(f"Scale and offsets of {self.product} were not kept, since clouds hid every feature.")

    def remembered_radiometry(self) -> Radiometry | None:
        """Return the scale and offsets that the archive remembers, else the kept ones; None where neither has any."""
        remembered = None if self.archive is None else self.archive.remembered_radiometry()
        return remembered or self.known_radiometry

    def cloud_cover(self) -> float | None:
        """Return the kept cloud cover."""
        return self.known_cloud_cover

    def footprint(self) -> Footprint | None:
        """Return the kept outline."""
        return self.known_footprint

    def tags(self, location: str) -> RasterTags | None:
        """Return the tags of a stored raster in the archive; None where it has none."""
        return None if self.archive is None else self.archive.tags(location)

    def form(self, location: str) -> RasterForm | None:
        """Return the form of a stored raster in the archive; None where it is not known."""
        return None if self.archive is None else self.archive.form(location)

    def verifier(self) -> Callable[[str], None] | None:
        """Return the comparison of files of the archive with their checksums; kept pixels pass, see `has_checksums`."""
        check = None if self.archive is None else self.archive.verifier()
        return None if check is None else lambda where: None if is_kept(where) else check(where)


if TYPE_CHECKING:

    def _confirmed(details: KeptDetails) -> Details:
        return details
