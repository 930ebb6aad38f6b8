"""Sources of products: a library, a folder of SAFE products, STAC, or memory (`sen2chain.products.Source`).

Only this package knows paths and metadata files of products. `library_source`, `safe_folder` and `memory_source` are
the sources; `library_tree` tells where in a library a raster belongs; `product_search` and `safe_product` find products
and their parts; `product_details` reads facts about one product, from `product_metadata`, `checksums` and
`product_facts`; `archive_files` finds all files with their sizes; `file_identity` tells whether files have changed, and
`file_contents` reads files, plain or zipped. `stac` holds all of STAC catalogues, and `offset_check` tells from pixels
whether an offset is in digital numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from sen2chain import settings
from sen2chain.archive.archive_files import ArchiveFile, ArchiveFiles, FileKind, archive_files
from sen2chain.archive.file_contents import size_of
from sen2chain.archive.library_source import LibrarySource
from sen2chain.archive.library_tree import index_file, mask_file, quicklook_file
from sen2chain.archive.memory_source import MemorySource
from sen2chain.archive.offset_check import Verdict, away_from_gaps, look
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.safe_folder import SafeFolder
from sen2chain.archive.stac import PROVIDERS, Provider, Saved, StacCatalogue, by_reason, provider_named, save_items
from sen2chain.errors import LibraryError, RequestError, quoted
from sen2chain.products import Source

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PROVIDERS",
    "ArchiveFile",
    "ArchiveFiles",
    "FileKind",
    "LibrarySource",
    "MemorySource",
    "Provider",
    "SafeFolder",
    "Saved",
    "StacCatalogue",
    "Verdict",
    "archive_files",
    "away_from_gaps",
    "by_reason",
    "chosen_source",
    "index_file",
    "is_catalogue",
    "look",
    "mask_file",
    "open_library",
    "open_target",
    "provider_named",
    "quicklook_file",
    "reads_at_once",
    "save_items",
    "size_of",
]


def chosen_source(
    library: str | Path | Source | None = None,
    safe: str | Path | None = None,
    stac: str | Path | Source | None = None,
    collection: str | None = None,
) -> str | Path | Source | None:
    """Check where products are to come from, and return what `open_library` takes as `library`.

    No file is opened and no request is made.

    Parameters
    ----------
    library, safe, stac, collection
        As for `open_library`.

    Returns
    -------
    str, Path, Source or None
        A catalogue for `stac`, otherwise `library`.

    Raises
    ------
    RequestError
        If more than one place is named, or a collection without a catalogue.
    """
    named = [
        what
        for what, value in (("a library", library), ("a folder of SAFE products", safe), ("a STAC catalogue", stac))
        if value is not None
    ]
    beside = stac is None and not isinstance(library, Source)  # products beside a library's indices and masks
    if len(named) > 1 and not beside:
        raise RequestError(f"Products can come from one place, but {_joined(named)} were given; pass one of them.")
    if stac is None:
        if collection is not None:
            raise RequestError(
                f"The collection {quoted(collection)} is one of a STAC catalogue, but none was given; pass stac= "
                "(--stac) too."
            )
        return library
    if is_catalogue(stac):
        if collection is not None:
            raise RequestError(
                f"The collection {quoted(collection)} was given beside a StacCatalogue, which has its own; pass it to "
                "StacCatalogue(...)."
            )
        return stac
    if isinstance(stac, Source):
        raise RequestError(f"stac is a {type(stac).__name__}; pass an address, a file or a StacCatalogue.")
    return StacCatalogue(stac, collection)


def open_library(
    library: str | Path | Source | None = None,
    safe: str | Path | None = None,
    *,
    stac: str | Path | Source | None = None,
    collection: str | None = None,
    cover: tuple[float, float] = (0, 100),
) -> Source:
    """Open the source that a run reads from.

    Parameters
    ----------
    library
        A Sen2Chain library, in any form that `sen2chain.settings.paths` understands, or a source, which is returned as
        it is. By default the library in the user's home.
    safe
        A folder of SAFE products (or one product), instead of a library; together with `library`, its products are
        taken in the place of the library's own, and indices and masks from the library.
    stac
        A STAC catalogue instead: the address of an API or of a file, a file, or a `StacCatalogue`.
    collection
        The collection of `stac`.
    cover
        Limits of the cloud cover in percent that a catalogue is asked for; other sources list all products.

    Raises
    ------
    RequestError
        If more than one place is named, or a collection without a catalogue.
    LibraryError
        If there is no archive at that place.
    """
    found = chosen_source(library, safe, stac, collection)
    if isinstance(found, Source):
        return found.again(cover) if is_catalogue(found) else found
    facts = ProductFacts(settings.cache_dir() / "products")
    folder = None if safe is None else SafeFolder(safe, facts)
    if folder is not None and found is None:
        return folder
    paths = settings.paths(found)
    if folder is not None:
        return LibrarySource(paths, facts, folder)
    if not paths.has_archive:
        folders = ", ".join(map(str, (paths.l2a, paths.indices, paths.cloudmasks)))
        raise LibraryError(
            f"There is no archive: none of {folders} is a folder; pass the library's folder, "
            f"a folder of SAFE products, a STAC catalogue, or set {settings.HOME_VARIABLE}.",
        )
    return LibrarySource(paths, facts)


def open_target(library: str | Path | None = None, safe: str | Path | None = None) -> LibrarySource:
    """Open the library that rasters are written into, with the products that they are made from.

    Parameters
    ----------
    library
        A Sen2Chain library, in any form that `sen2chain.settings.paths` understands; with `safe` also a new one, whose
        folder is empty or does not exist. By default the library in the user's home. Nothing is created.
    safe
        A folder of SAFE products (or one product) in the place of the library's own.

    Raises
    ------
    RequestError
        If `library` is a catalogue, or another source that rasters cannot be written to.
    LibraryError
        If there is no archive at that place.
    """
    if isinstance(library, Source):
        raise RequestError(
            f"A {type(library).__name__} takes no rasters; pass the folder of a library, or safe= with library=."
        )
    if safe is None:
        found = open_library(library)
        assert isinstance(found, LibrarySource)  # noqa: S101  # the only source that is opened by its folder
        return found
    facts = ProductFacts(settings.cache_dir() / "products")
    folder = SafeFolder(safe, facts)
    return LibrarySource(settings.target_paths(library), facts, folder)


def is_catalogue(source: object) -> TypeGuard[StacCatalogue]:
    """Tell whether a source is a STAC catalogue."""
    return isinstance(source, StacCatalogue)


def reads_at_once(library: str | Path | Source | None) -> int | None:
    """Return how many products a source wants read at once; None where it does not say.

    Parameters
    ----------
    library
        As for `open_library`.
    """
    return library.reading.at_once if isinstance(library, Source) else None


def _joined(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
