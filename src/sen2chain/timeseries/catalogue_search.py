"""The search of a STAC catalogue for the products of a layer, without an extraction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain import settings
from sen2chain.archive import StacCatalogue, by_reason, chosen_source, open_library, save_items
from sen2chain.errors import LayerError, RequestError, real_number
from sen2chain.files import absolute, is_file
from sen2chain.plan import area_of, masks_that_work, parse_date
from sen2chain.progress import activity
from sen2chain.vectors import read_layer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable
    from pathlib import Path

    from sen2chain.archive import Saved
    from sen2chain.products import Acquisition

_SUFFIX = ".parquet"


@dataclass(slots=True)
class FoundTile:
    """The products of one tile."""

    tile: str
    """The tile."""
    first: dt.datetime
    """First sensing time, UTC."""
    last: dt.datetime
    """Last sensing time, UTC."""
    products: int = 0
    """Number of products."""


@dataclass(slots=True)
class FoundProducts:
    """What a catalogue has for a layer."""

    catalogue: str
    """The catalogue in words."""
    provider: str
    """Name of the provider whose rules are used."""
    items: int = 0
    """Number of items that can be used, of the area, the dates and the cloud cover asked for."""
    tiles: list[FoundTile] = field(default_factory=list)
    """Their tiles, by name."""
    masks: list[str] = field(default_factory=list)
    """Short names of cloud masks whose inputs the items have."""
    unusable: int = 0
    """Number of items that cannot be used."""
    notes: list[str] = field(default_factory=list)
    """Sentences on items that cannot be used, one for each reason."""
    file: Path | None = None
    """The file that has the items."""
    saved: Saved | None = None
    """What was done to that file; None where it was left as it was, since nothing was found."""
    file_tiles: list[FoundTile] = field(default_factory=list)
    """Tiles of all items in the file that can be used, by name."""


def search_catalogue(
    vectors_file: str | Path,
    stac: str | Path | StacCatalogue,
    collection: str | None = None,
    *,
    date_min: dt.date | str | None = None,
    date_max: dt.date | str | None = None,
    cover: tuple[float, float] = (0, 100),
    buffer: float | None = None,
    save: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **of_layer: Any,
) -> FoundProducts:
    """Search a catalogue for the products of a layer.

    Parameters
    ----------
    vectors_file
        The layer.
    stac, collection
        As for `TimeSeries`.
    date_min, date_max
        First and last sensing date, inclusive; None is open.
    cover
        Limits of the cloud cover in percent.
    buffer
        Metres by which the features grow.
    save
        The file (``.parquet``) that the items are written to. Where it exists, only items from a month before its
        newest one on are asked for, and added.
    overwrite
        Whether a file that holds the items of another search is replaced.
    quiet
        Whether to show no progress.
    **of_layer
        ``layer``, ``encoding`` and ``crs`` as for `TimeSeries`.

    Raises
    ------
    RequestError
        If a parameter cannot be used.
    LayerError
        If the layer cannot be used.
    LibraryError
        If the catalogue cannot be read.
    OutputError
        If the file cannot be written, or holds the items of another search.
    """
    catalogue: Any = open_library(chosen_source(None, None, stac, collection), cover=_limits(cover))
    first, last = parse_date("date_min", date_min), parse_date("date_max", date_max)
    path = None if save is None else absolute(save)
    if path is not None and path.suffix.lower() != _SUFFIX:
        raise RequestError(f"Items are saved as stac-geoparquet; name the file {path.stem}{_SUFFIX}.")
    with activity("reading the layer", quiet=quiet):
        layer = read_layer(vectors_file, cache=settings.cache_dir() / "layers", **of_layer)
    area = area_of(layer, buffer)
    if area is None:
        raise LayerError(f"The layer {layer.name} has no feature with a place, so nothing can be searched for.")
    with activity("searching the catalogue", quiet=quiet):
        items = catalogue.search(area, first, last, known=None if overwrite else path)
    done, in_file = None, []
    # A search that found nothing leaves no new file, and replaces none.
    if path is not None and (catalogue.acquisitions_of(items) or (is_file(path) and not overwrite)):
        done = save_items(items, path, replacing=overwrite)
        # Those that were there before belong to the answer too.
        items = StacCatalogue(path, cover=_limits(cover)).search(area, first, last)
        in_file = _by_tile(catalogue.acquisitions_of(StacCatalogue(path).search(None)))
    acquisitions, skipped = catalogue.acquisitions_of(items), catalogue.skipped_of(items)
    return FoundProducts(
        catalogue.describe(),
        catalogue.provider_of(items).name,
        len(items) - len(skipped),
        _by_tile(acquisitions),
        masks_that_work(acquisitions),
        len(skipped),
        [reason.sentence for reason in by_reason(skipped)],
        path,
        done,
        in_file,
    )


def _by_tile(acquisitions: Iterable[Acquisition]) -> list[FoundTile]:
    """Count acquisitions by tile."""
    tiles: dict[str, FoundTile] = {}
    for acquisition in acquisitions:
        time, tile = acquisition.id.sensing, acquisition.id.tile
        one = tiles.setdefault(tile, FoundTile(tile, time, time))
        one.first, one.last, one.products = min(one.first, time), max(one.last, time), one.products + 1
    return [tiles[name] for name in sorted(tiles)]


def _limits(cover: tuple[float, float]) -> tuple[float, float]:
    low, high = (
        real_number(name, value, 0, 100, "percentages")
        for name, value in zip(("cover_min", "cover_max"), cover, strict=True)
    )
    if low > high:
        raise RequestError(f"cover_min {low:g} is above cover_max {high:g}; swap them.")
    return low, high
