"""The tree of a Sen2Chain library: where a mask, an index raster or a quicklook of a product belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.products import ProductId
    from sen2chain.settings import Paths


def index_file(paths: Paths, product: ProductId, index: str, mask: str = "", suffix: str = ".tif") -> Path:
    """Return the file of an index raster.

    Parameters
    ----------
    paths
        The folders of the library.
    product
        The product.
    index
        Name of the index.
    mask
        Of a masked index: the mask as it stands in file names.
    suffix
        ``.tif``, or ``.jp2`` for a raster of the original program.
    """
    masked = f"_{mask}" if mask else ""
    return paths.indices / index / product.tile / str(product) / f"{product}_{index}{masked}{suffix}"


def mask_file(paths: Paths, product: ProductId, mask: str, suffix: str = ".tif") -> Path:
    """Return the file of a mask; `mask` is its name as it stands in file names, as ``OCM_v1_8_1``."""
    return paths.cloudmasks / product.tile / str(product) / f"{product}_{mask}{suffix}"


def quicklook_file(paths: Paths, product: ProductId, index: str = "", suffix: str = ".jpg") -> Path:
    """Return the file of a quicklook: of an index, or where that is empty of the true colour."""
    what = f"_{index}" if index else ""
    return paths.quicklooks / product.tile / str(product) / f"{product}{what}_QL{suffix}"
