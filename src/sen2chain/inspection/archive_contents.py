"""Reading of what an archive holds (`sen2chain library info`).

Folders are listed and files looked at; the metadata of products and the tags in the headers of stored rasters are read
once for as long as their files stay the same. No pixel is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sen2chain.archive import FileKind, LibrarySource, SafeFolder, archive_files
from sen2chain.errors import RequestError
from sen2chain.inspection.archive_info import ArchiveInfo
from sen2chain.inspection.availability import LOSSY_SUFFIX, AvailabilityTable
from sen2chain.inspection.holdings import ProductEntry, StoredFile, holdings_of
from sen2chain.masks import Mask
from sen2chain.progress import activity, progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sen2chain.archive import ArchiveFile
    from sen2chain.products import Acquisition
    from sen2chain.raster_form import RasterForm
    from sen2chain.raster_tags import RasterTags

T = TypeVar("T")

_SELDOM = 50
_KINDS = {
    FileKind.PRODUCT: "L2A products",
    FileKind.UNUSED_PRODUCT: "products that are not read",
    FileKind.MASKED: "masked copies",
    FileKind.MASK: "masks",
    FileKind.QUALITY: "quality rasters of deleted products",
    FileKind.QUICKLOOK: "quicklooks",
    FileKind.LEFTOVER: "incomplete files",
    FileKind.OTHER: "other files",
}
SIDE_FILE = ".aux.xml"
"""Ending of the file that GDAL writes beside a raster for what its format cannot hold."""
_LOSSLESS, _LOSSY = "index rasters, lossless", "index rasters, lossy"


def read_contents(source: LibrarySource | SafeFolder, *, quiet: bool = False) -> ArchiveInfo:
    """Find out what an archive holds.

    Parameters
    ----------
    source
        A library, or a folder of SAFE products, as `sen2chain.archive.open_library` returns them.
    quiet
        Show no progress.

    Raises
    ------
    RequestError
        If `source` is another source.
    LibraryError
        If a folder of the archive cannot be listed. A product's own folder that cannot be listed is skipped.
    """
    if not isinstance(source, LibrarySource | SafeFolder):
        raise RequestError(
            f"Only a library or a folder of SAFE products can be described, and this is {source.describe()}; pass "
            "library= or safe=."
        )
    with activity("Listing the archive", quiet=quiet):
        acquisitions = [found for tile in source.tiles() for found in source.acquisitions(tile)]
        found = archive_files(source, acquisitions)
    try:
        tags, forms = _headers(source, found.files, quiet=quiet)
        entries = list(_entries(source, AvailabilityTable(acquisitions, tags, forms), acquisitions, quiet=quiet))
    finally:
        source.save()  # what an interrupted run has read need not be read again
    files = list(_stored(found.files, acquisitions, tags))
    names = sorted({entry.id.tile for entry in entries})
    of_tile: dict[str, tuple[list[ProductEntry], list[StoredFile]]] = {tile: ([], []) for tile in names}
    for entry in entries:
        of_tile[entry.id.tile][0].append(entry)
    for file in files:
        if file.tile in of_tile:
            of_tile[file.tile][1].append(file)
    total = holdings_of("", entries, files)
    if len(names) == 1 and all(file.tile == names[0] for file in files):
        tiles = {names[0]: replace(total, tile=names[0])}  # summed up once
    else:
        tiles = {tile: holdings_of(tile, *parts) for tile, parts in of_tile.items()}
    return ArchiveInfo(source.describe(), total, tiles, source.skipped(), tuple(found.unread))


def _headers(
    source: LibrarySource | SafeFolder, files: Iterable[ArchiveFile], *, quiet: bool
) -> tuple[dict[str, RasterTags], dict[str, RasterForm]]:
    """Return the tags and the forms of the stored rasters that have tags, by location."""
    kinds = {FileKind.INDEX, FileKind.MASKED, FileKind.MASK}
    rasters = [file for file in files if file.kind in kinds and not file.location.endswith(SIDE_FILE)]
    tags, forms = {}, {}
    for raster in _with_progress("Reading headers of rasters", rasters, quiet=quiet):
        found, form = source.facts.header(raster.location, raster.tile)
        if found is None:
            continue  # a raster of another program counts by its name; its form is left to the check of an archive
        tags[raster.location] = found
        if form is not None:
            forms[raster.location] = form
    return tags, forms


def _with_progress(title: str, items: Sequence[T], *, quiet: bool) -> Iterator[T]:
    """Yield items with progress, which is shown so seldom that it costs no time."""
    with progress(title, len(items), quiet=quiet) as step:
        for number, item in enumerate(items):
            if number % _SELDOM == 0:
                step(number, len(items))
            yield item


def _entries(
    source: LibrarySource | SafeFolder,
    table: AvailabilityTable,
    acquisitions: Sequence[Acquisition],
    *,
    quiet: bool,
) -> Iterator[ProductEntry]:
    """Look at each product."""
    for acquisition in _with_progress("Reading metadata", acquisitions, quiet=quiet):
        location = acquisition.details.inputs.get("metadata")
        metadata = source.facts.metadata(location, acquisition.id)
        sensor = acquisition.id.sensor
        clause = sentence = ""
        if location is None:
            clause = f"the metadata {sensor.metadata} are missing"
        elif metadata is None:
            clause = "the metadata cannot be used"
            sentence = source.facts.fault(location) or f"The metadata {location} are not there any more."
        has_safe = location is not None or bool(acquisition.remark) or any(map(sensor.band, acquisition.bands))
        indices, masks = table.of(acquisition, has_safe=has_safe, metadata_fault=clause)
        yield ProductEntry(
            acquisition.id,
            has_safe,
            None if metadata is None else metadata.cloud_cover,
            tuple(name for name in sensor.names if name in acquisition.bands),
            indices,
            masks,
            sentence,
            acquisition.remark,
        )


def _stored(
    files: Iterable[ArchiveFile],
    acquisitions: Iterable[Acquisition],
    tags: Mapping[str, RasterTags],
) -> Iterator[StoredFile]:
    """Say of what kind each file is."""
    redundant = {place for acquisition in acquisitions for place in _redundant(acquisition, tags)}
    for file in files:
        location, kind = file.location, _KINDS.get(file.kind, "")
        if file.kind is FileKind.INDEX:
            raster = location.removesuffix(SIDE_FILE)
            lossy = raster.endswith(LOSSY_SUFFIX) if raster not in tags else not tags[raster].is_exact
            kind = _LOSSY if lossy else _LOSSLESS
        yield StoredFile(
            location,
            kind,
            file.tile,
            file.size,
            file.files,
            location.removesuffix(SIDE_FILE) in redundant,
        )


def _redundant(acquisition: Acquisition, tags: Mapping[str, RasterTags]) -> Iterator[str]:
    """Yield the masked copies that are redundant.

    The unmasked raster has to be of the same make: the same format and, where tags are known, the same definition,
    precision and rules. The mask has to be stored under exactly this name, or to be one that can be computed as it was:
    not one that the original program made wrongly.
    """
    for (index, suffix), location in acquisition.masked.items():
        own = tags.get(location)
        same = [
            place
            for place in acquisition.indices.get(index, ())
            if place.rpartition(".")[2] == location.rpartition(".")[2] and _same_make(own, tags.get(place))
        ]
        if same and (suffix in acquisition.masks or _is_computable(acquisition, suffix, ours=own is not None)):
            yield location


def _same_make(one: RasterTags | None, other: RasterTags | None) -> bool:
    def make(tags: RasterTags) -> object:
        return tags.definition, tags.source, tags.precision, tags.rules

    return one is None or other is None or make(one) == make(other)


def _is_computable(acquisition: Acquisition, suffix: str, *, ours: bool) -> bool:
    """Whether a mask that is not stored can be computed as it was when a masked copy, ours or not, was made with it."""
    try:
        mask = Mask.parse(suffix, acquisition.id.sensor)
    except RequestError:
        return False
    right = mask.stored(acquisition.id, [suffix], lambda _: ours) is not None and bool(mask.inputs)
    has_radiometry = acquisition.details.has_radiometry or not mask.bands
    return right and has_radiometry and all(name in acquisition.bands for name in mask.inputs)
