"""Sources of products: a library, a folder of SAFE products, STAC, or memory (`sen2chain.products.Source`).

Only this package knows paths and metadata files of products. `library`, `safe_folder` and `memory_source` are the
sources; `product_search` and `safe_product` find products and their parts; `product_details` reads facts about one
product, from `product_metadata`, `checksums` and `cloud_cover`; `file_identity` tells whether files have changed, and
`file_contents` reads files, plain or in a zip file. `stac` holds all of STAC catalogues, and `offset_check` tells from
pixels whether an offset is in digital numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain import settings
from sen2chain.archive.cloud_cover import Covers
from sen2chain.archive.library import Library
from sen2chain.archive.memory_source import MemorySource
from sen2chain.archive.safe_folder import SafeFolder
from sen2chain.archive.stac import PROVIDERS, Provider, StacCatalogue, save_items
from sen2chain.errors import LibraryError, RequestError
from sen2chain.files import is_folder
from sen2chain.products import Source

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PROVIDERS",
    "Library",
    "MemorySource",
    "Provider",
    "SafeFolder",
    "StacCatalogue",
    "open_library",
    "reads_at_once",
    "save_items",
]


def open_library(library: str | Path | Source | None = None, safe: str | Path | None = None) -> Source:
    """Open the source that a run reads from.

    Parameters
    ----------
    library
        A Sen2Chain library, in any form that `sen2chain.settings.paths` understands, or a source, which is returned as
        it is. By default the library in the user's home.
    safe
        A folder of SAFE products (or one product), instead of a library.

    Raises
    ------
    RequestError
        If both are given.
    LibraryError
        If there is no archive at that place.
    """
    if safe is not None:
        if library is not None:
            raise RequestError("Both a library and a folder of SAFE products were given; pass one of them.")
        return SafeFolder(safe, Covers(settings.cache_dir() / "covers"))
    if isinstance(library, Source):
        return library
    paths = settings.paths(library)
    folders = (paths.l2a, paths.indices, paths.cloudmasks)
    if not any(map(is_folder, folders)):
        raise LibraryError(
            f"There is no archive: none of {', '.join(map(str, folders))} is a folder; pass the library's folder, "
            f"a folder of SAFE products, or set {settings.HOME_VARIABLE}.",
        )
    return Library(paths, Covers(settings.cache_dir() / "covers"))


def reads_at_once(library: str | Path | Source | None) -> int | None:
    """Return how many products a source wants read at once; None where it does not say.

    Parameters
    ----------
    library
        As for `open_library`.
    """
    return library.reading.at_once if isinstance(library, Source) else None
