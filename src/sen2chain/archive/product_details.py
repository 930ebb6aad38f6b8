"""Details of a product on disk: radiometry, cloud cover, footprint, checksums; read when a caller needs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.archive.checksums import Manifest
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sen2chain.products import Details, Footprint, ProductId, Radiometry
    from sen2chain.raster_form import RasterForm
    from sen2chain.raster_tags import RasterTags


@dataclass(frozen=True, slots=True)
class ProductDetails:
    """Details of a product as ESA delivers it, see `sen2chain.products.Details`."""

    product: ProductId
    """The product that the metadata must belong to."""
    metadata: str | None = None
    """Location of ``MTD_MSIL2A.xml``."""
    manifest: str | None = field(default=None, compare=False)
    """Location of ``manifest.safe``, the list of the product's files with their checksums."""
    facts: ProductFacts = field(default_factory=lambda: ProductFacts(None), compare=False, repr=False)
    """Cache of facts; not pickled."""

    @property
    def has_radiometry(self) -> bool:
        """Whether there are metadata."""
        return self.metadata is not None

    @property
    def has_checksums(self) -> bool:
        """Whether there is a manifest."""
        return self.manifest is not None

    @property
    def inputs(self) -> Mapping[str, str]:
        """The metadata, where there are some."""
        return {} if self.metadata is None else {"metadata": self.metadata}

    def radiometry(self) -> Radiometry:
        """Read scale and offsets from the metadata, anew each time: the file may be replaced.

        Raises
        ------
        UnreadableError
            See `sen2chain.archive.product_metadata.read_metadata`.
        """
        if self.metadata is None:
            raise UnreadableError(f"{self.product} has no metadata, so its digital numbers are unclear.")
        return read_metadata(self.metadata, self.product).radiometry

    def remembered_radiometry(self) -> Radiometry | None:
        """Return scale and offsets from the cache, where the metadata have kept size and time; None if not known."""
        found = self.facts.metadata(self.metadata, self.product)
        return None if found is None else found.radiometry

    def cloud_cover(self) -> float | None:
        """Return the cloud cover in percent; None where the metadata do not say it or cannot be read."""
        return self.facts.cloud_cover(self.metadata, self.product)

    def footprint(self) -> Footprint | None:
        """Read the outline of the data from the metadata; None where they do not say it or cannot be read."""
        try:
            return read_metadata(self.metadata, self.product).footprint if self.metadata else None
        except UnreadableError:
            return None

    def tags(self, location: str) -> RasterTags | None:
        """Return the tags of a stored raster of the product; None where it has none."""
        return self.facts.tags(location, self.product.tile)

    def form(self, location: str) -> RasterForm | None:
        """Return the form of a stored raster of the product; None where it cannot be opened."""
        return self.facts.form(location, self.product.tile)

    def verifier(self) -> Callable[[str], None] | None:
        """Return the comparison with the manifest, which is read when the first file is compared."""
        return None if self.manifest is None else Manifest(self.manifest).check

    def __reduce__(self) -> tuple[Any, ...]:
        return ProductDetails, (self.product, self.metadata, self.manifest)


if TYPE_CHECKING:

    def _confirmed(details: ProductDetails) -> Details:
        return details
