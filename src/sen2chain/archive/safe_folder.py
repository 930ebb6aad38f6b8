"""A folder of L2A products as ESA delivers them (SAFE), as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain.archive.file_identity import FileIdentity
from sen2chain.archive.product_details import ProductDetails
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_search import find_products, in_order, is_zip, sensed_within
from sen2chain.archive.safe_product import is_zip_name, scan_best
from sen2chain.errors import LibraryError
from sen2chain.files import absolute, is_file, is_folder
from sen2chain.products import LOCAL, Acquisition, ProductId, Skipped

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.products import Area, Reading


class SafeFolder(FileIdentity):
    """A folder of SAFE products, plain or zipped, in it or in folders below it.

    The folder is searched once, by the first call that needs it.

    Parameters
    ----------
    path
        The folder, or a single product, plain or zipped.
    facts
        Cache of facts about products.

    Raises
    ------
    LibraryError
        If `path` is neither a folder nor a zip file.
    """

    def __init__(self, path: str | Path, facts: ProductFacts | None = None) -> None:
        self.path = absolute(path)
        """The folder."""
        self._facts = facts or ProductFacts(None)
        if not (is_folder(self.path) or (is_file(self.path) and is_zip_name(self.path.name))):
            hint = "pass a folder of SAFE products"
            if is_zip(self.path):
                hint = f"it is a zip file without .zip in its name, so rename it to {self.path.name}.zip"
            raise LibraryError(f"{self.path} is neither a folder nor a zip file *.zip; {hint}.")
        self._found: dict[ProductId, list[str]] | None = None
        self._skipped: set[Skipped] = set()

    def describe(self) -> str:
        """Return the kind and the folder of the source."""
        return f"SAFE products in {self.path}"

    @property
    def facts(self) -> ProductFacts:
        """What is known of its products."""
        return self._facts

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
        """MGRS names of the tiles that have any product, sorted."""
        return sorted({product.tile for product in self._products()})

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
            If the folder cannot be listed.
        """
        listed = []
        for product, candidates in sorted(self._products().items()):
            if product.tile == tile and sensed_within(product, first, last):
                parts = scan_best(product, candidates, "", self._skipped)
                if parts is not None:
                    details = ProductDetails(product, parts.metadata, parts.manifest, self._facts)
                    listed.append(Acquisition(product, details, parts.bands, remark=parts.remark))
        return listed

    def copies(self, tile: str) -> dict[ProductId, list[str]]:
        """Return the folders and zip files of the products of a tile that have more than one."""
        return {
            product: places for product, places in self._products().items() if product.tile == tile and len(places) > 1
        }

    def skipped(self) -> Sequence[Skipped]:
        """List the files and folders that the calls so far found and could not use."""
        return in_order(self._skipped)

    def save(self) -> None:
        """Write newly read facts about products to the cache."""
        self._facts.save()

    def _products(self) -> dict[ProductId, list[str]]:
        if self._found is None:
            self._found = {}
            for product, path in find_products(self.path):
                if isinstance(product, Skipped):
                    self._skipped.add(product)
                else:
                    self._found.setdefault(product, []).append(path)
        return self._found
