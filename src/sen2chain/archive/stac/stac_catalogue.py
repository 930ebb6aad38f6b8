"""A STAC catalogue as a source of products: an API, a static catalogue, or a file of items."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from sen2chain.archive.file_identity import FileIdentity
from sen2chain.archive.product_search import in_order, sensed_within
from sen2chain.archive.stac.api_pages import ApiSearch, has_next_page, is_api
from sen2chain.archive.stac.documents import (
    location_of,
    place_of,
    public,
    read_json,
    resolve,
    without_secrets,
)
from sen2chain.archive.stac.providers import DEFAULT_COLLECTION, Provider, provider_named, provider_of
from sen2chain.archive.stac.saved_items import ask_from, numbers_in
from sen2chain.archive.stac.search_boxes import boxes_of, meets, search_boxes
from sen2chain.archive.stac.stac_items import (
    Found,
    ItemReader,
    best_of,
    box_of,
    cover_of,
    key_of,
    mapping_of,
    text_of,
    time_of,
    with_absolute_hrefs,
)
from sen2chain.archive.stac.static_walk import walk
from sen2chain.errors import (
    LibraryError,
    RequestError,
    UnknownNameError,
    UnreadableError,
    items_of,
    quoted,
    real_number,
    shown,
)
from sen2chain.files import absolute, is_file
from sen2chain.products import IdentityToken, Reading
from sen2chain.reasons import Reason
from sen2chain.remote import is_remote
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sen2chain.archive.stac.search_boxes import Box
    from sen2chain.archive.stac.stac_items import Item
    from sen2chain.products import Acquisition, Area, Skipped, Source

    Span = tuple[dt.datetime | None, dt.datetime | None]

_DAY = dt.timedelta(days=1)
_NEAR = 0.1  # degrees by which a feature may lie outside of what was searched


class Items(list["Item"]):
    """Items of a search, with what was searched for.

    Parameters
    ----------
    items
        The items.
    record
        What was searched for, as `save_items` keeps it in the file: catalogue, collection, boxes, cover, dates.
    """

    def __init__(self, items: Iterable[Item], record: Mapping[str, Any] | None = None) -> None:
        super().__init__(items)
        self.record: dict[str, Any] = dict(record or {})


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a search is for."""

    parts: Sequence[Box] | None
    cover: tuple[float, float]
    first: dt.date | None
    last: dt.date | None


@dataclass
class _Search:
    """Result of one search, by tile."""

    found: dict[str, list[Found]] = field(default_factory=dict)
    skipped: set[Skipped] = field(default_factory=set)


class StacCatalogue(FileIdentity):
    """Products of a STAC catalogue.

    Nothing is opened and nothing is asked before the first search. Each area with its dates is searched once.

    Parameters
    ----------
    href
        Address of a STAC API (``https://host/v1``), of a static catalogue or collection, or of a file of items:
        ``.parquet`` (stac-geoparquet) or ``.json``. Also the path of a file, ``file://`` or ``s3://``, or the name of
        one of `PROVIDERS` (``earth-search``) for the address of its catalogue and its collection.
    collection
        Id of the collection. By default ``sentinel-2-l2a`` of an API, and all collections of a file.
    provider
        Names of assets and other facts, see `Provider`; by default what is known of the catalogue, or of each item.
    assets
        Band or quality raster -> name of its asset, as ``{"B04": "red"}``; it comes before what is known.
    allow
        Hosts and buckets (``s3://name``) that a catalogue on a server may point to besides its own, and ``file``.
    cover
        Smallest and largest cloud cover in percent; items without a figure are kept where the server does not filter.

    Raises
    ------
    RequestError
        If a parameter cannot be used.
    """

    def __init__(
        self,
        href: str | Path,
        collection: str | None = None,
        *,
        provider: Provider | None = None,
        assets: Mapping[str, str] | None = None,
        allow: Iterable[str] = (),
        cover: tuple[float, float] = (0.0, 100.0),
    ) -> None:
        named = provider_named(href) if isinstance(href, str) and not is_file(href) else None
        if named is not None and provider is None:
            href, collection = named.address, named.collections[0] if collection is None else collection
        elif named is not None:
            href = named.address
        self._location, self._query = location_of(href)
        if collection is not None and (not isinstance(collection, str) or not collection):
            raise RequestError(f"collection is {quoted(collection)}; pass the id of a collection, as sentinel-2-l2a.")
        if provider is not None and not isinstance(provider, Provider):
            raise RequestError(f"provider is {shown(provider)}; pass a value of sen2chain.archive.stac.PROVIDERS.")
        low = real_number("cover_min", cover[0], 0, 100, "percentages")
        high = real_number("cover_max", cover[1], 0, 100, "percentages")
        self._collection, self._provider, self._cover = collection, provider, (low, high)
        self._assets = _checked_assets(assets)
        hosts = (allow,) if isinstance(allow, str) else items_of("allow", allow, '"data.example.org"')
        self._allow = tuple(map(str, hosts))
        self._searches: dict[tuple[Area | None, dt.date | None, dt.date | None], _Search] = {}
        self._tokens: dict[str, IdentityToken] = {}
        self._seen_provider: Provider | None = None
        self._home = ""  # location of the catalogue that a table of items was saved from

    def again(self, cover: tuple[float, float] | None = None) -> Self:
        """Return the same catalogue without anything kept of earlier searches, with other limits of cloud cover."""
        return type(self)(
            f"{self._location}?{self._query}" if self._query else self._location,
            self._collection,
            provider=self._provider,
            assets=self._assets,
            allow=self._allow,
            cover=self._cover if cover is None else cover,
        )

    def __repr__(self) -> str:
        collection = f", collection={self._collection!r}" if self._collection else ""
        return f"{type(self).__name__}({self._location!r}{collection})"

    # ------------------------------------------------------------------------------------------------------- a source

    def describe(self) -> str:
        """Return the address or path of the catalogue, without query string and login, and the collection."""
        collection = self._collection or (DEFAULT_COLLECTION if self._may_be_api else "")
        return f"STAC catalogue {self._location}" + (f", collection {collection}" if collection else "")

    @property
    def provider(self) -> Provider:
        """The provider: the given one, else that of the items found so far, else what the address tells."""
        if self._provider is not None:
            return self._provider
        return self._seen_provider or provider_of(place_of(self._location), self._collection or "")

    @property
    def reading(self) -> Reading:
        """How its rasters are read."""
        access = self._reader().access_of(self.provider)
        return Reading(at_once=access.at_once, access=access, kind="catalogue")

    def tiles(
        self, area: Area | None = None, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[str]:
        """MGRS names of the tiles with products in an area from `first` to `last`, sorted.

        Raises
        ------
        LibraryError
            If the catalogue cannot be read as a whole, or the assets of all its items have unknown names.
        RequestError
            If no item has an asset that the user names.
        MissingExtraError
            If it is an API and pystac-client is not installed.
        """
        return sorted(self._found(area, first, last).found)

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None, area: Area | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id.

        Raises
        ------
        LibraryError, MissingExtraError
            As `tiles`.
        """
        return [one.acquisition for one in self._found(area, first, last).found.get(tile, ())]

    def skipped(self) -> Sequence[Skipped]:
        """List the items that the searches so far could not use."""
        return in_order({one for search in self._searches.values() for one in search.skipped})

    def identify(self, locations: Iterable[str], contents: Collection[str] | None = None) -> dict[str, IdentityToken]:
        """Return what the items tell of files on servers, without any request, and look at files on disk."""
        where = list(locations)
        found = super().identify([location for location in where if not is_remote(location)], contents)
        for location in where:
            if is_remote(location):
                unknown = IdentityToken(location.rpartition("/")[2], 0)
                found[location] = self._tokens.get(location, unknown)
        return found

    def digest(self, location: str) -> str:
        """Return the digest of a file on disk; empty for files on servers, which their items identify."""
        return "" if is_remote(location) else super().digest(location)

    def save(self) -> None:
        """Do nothing: what is kept of items is kept where it is decided."""

    # -------------------------------------------------------------------------------------------------------- searching

    def search(
        self,
        area: Area | None,
        first: dt.date | None = None,
        last: dt.date | None = None,
        *,
        known: str | Path | None = None,
    ) -> Items:
        """Return the items of an area from `first` to `last` (inclusive), for `save_items`.

        Parameters
        ----------
        area
            The area; None for all items of a file.
        first, last
            Dates; None is open.
        known
            A file that `save_items` wrote: only items from a month before its newest one are asked for. It may be
            missing.

        Raises
        ------
        RequestError
            If the first date is after the last one, or no item has an asset that the user names.
        OutputError
            If the file is that of another search.
        LibraryError, MissingExtraError
            As `tiles`.
        """
        if first is not None and last is not None and first > last:
            raise RequestError(f"The first date {first} is after the last date {last}; swap them.")
        record = self._record(None if area is None else search_boxes(area), first, last)
        begin = first
        if known is not None and is_file(absolute(known)):
            begin = ask_from(absolute(known), record)
            record["from"] = begin and begin.isoformat()
        items: list[Item] = []
        reader: ItemReader | None = None
        for base, item in self._items(area, begin, last):
            reader = reader or self._reader()
            if isinstance(item, dict):
                reader.look_at(item)
                product = reader.product_of(item)
                if product is None or sensed_within(product, begin, last):
                    items.append(without_secrets(with_absolute_hrefs(item, base)))
        if reader is not None:
            reader.check_assets()
        return Items(items, record)

    def acquisitions_of(self, items: Iterable[Item]) -> list[Acquisition]:
        """Return the acquisitions of items, each product once, sorted by id; `skipped_of` lists the others."""
        return [one.acquisition for one in best_of(one for one in self._read_all(items) if isinstance(one, Found))]

    def skipped_of(self, items: Iterable[Item]) -> list[Skipped]:
        """Return the items that cannot be used, and why."""
        return [one for one in self._read_all(items) if not isinstance(one, Found)]

    def _read_all(self, items: Iterable[Item]) -> Iterator[Found | Skipped]:
        reader = self._reader()
        return (reader.read(item, self._location) for item in items)

    def provider_of(self, items: Iterable[Item]) -> Provider:
        """Return the provider of most of the items; what the address tells where there are none."""
        reader = self._reader()
        counts: dict[str, tuple[int, Provider]] = {}
        for item in items:
            provider = reader.provider_of(item)
            counts[provider.name] = counts.get(provider.name, (0, provider))[0] + 1, provider
        return max(counts.values(), key=lambda count: count[0])[1] if counts else self.provider

    # ---------------------------------------------------------------------------------------------------------- inside

    @property
    def _may_be_api(self) -> bool:
        return is_remote(self._location) and not self._location.lower().endswith((".json", ".geojson", ".parquet"))

    def _reader(self) -> ItemReader:
        # The hosts that items may point to are those of the server that they came from.
        return ItemReader(self._home or self._location, self._provider, self._assets, self._allow)

    def _record(self, boxes: Sequence[Box] | None, first: dt.date | None, last: dt.date | None) -> dict[str, Any]:
        return {
            "catalogue": self._location,
            "collection": self._collection or (DEFAULT_COLLECTION if self._may_be_api else ""),
            "boxes": None if boxes is None else [list(box) for box in boxes],
            "cover": list(self._cover),
            "first": first and first.isoformat(),
            "last": last and last.isoformat(),
            "reached": min(last or _today(), _today()).isoformat(),
        }

    def _found(self, area: Area | None, first: dt.date | None, last: dt.date | None) -> _Search:
        """Return the acquisitions of a search, which is made once."""
        key = (area, first, last)
        if key not in self._searches:
            self._searches[key] = self._read(area, first, last)
        return self._searches[key]

    def _read(self, area: Area | None, first: dt.date | None, last: dt.date | None) -> _Search:
        search = _Search()
        found: list[Found] = []
        reader: ItemReader | None = None
        for base, item in self._items(area, first, last, search.skipped):
            reader = reader or self._reader()  # once the home of a table is known
            if isinstance(item, dict):
                reader.look_at(item)
            one = reader.read(item, base)
            if not isinstance(one, Found):
                search.skipped.add(one)
            elif sensed_within(one.acquisition.id, first, last):
                found.append(one)
        if reader is not None:
            reader.check_assets()
        unusable = [one for one in search.skipped if one.reason is Reason.INDEX_INPUTS_MISSING]
        if unusable and not found:
            raise LibraryError(in_order(unusable)[0].detail)
        for one in best_of(found):
            search.found.setdefault(one.acquisition.id.tile, []).append(one)
            self._tokens.update(one.tokens)
            self._seen_provider = self._seen_provider or one.provider
        return search

    def _items(
        self, area: Area | None, first: dt.date | None, last: dt.date | None, skipped: set[Skipped] | None = None
    ) -> Iterator[tuple[str, object]]:
        """Yield items that may meet an area and dates, each with the location of its document.

        Raises
        ------
        LibraryError
            If the catalogue cannot be read as a whole.
        """
        boxes, span = None if area is None else search_boxes(area), _span(first, last)
        asked = _Asked(None if area is None else boxes_of(area), self._cover, first, last)
        try:
            for base, item in self._all(boxes, span, skipped if skipped is not None else set(), asked):
                if not isinstance(item, dict) or self._meets(item, boxes, span):
                    yield base, item
        except UnreadableError as error:
            raise LibraryError(f"The STAC catalogue {error}") from None

    def _meets(self, item: Item, boxes: Sequence[Box] | None, span: Span) -> bool:
        """Tell whether an item may meet what is asked for; what it does not say counts as meeting."""
        collection = key_of(item)[0]
        if self._collection is not None and collection and collection != self._collection:
            return False
        time, cover = time_of(item), cover_of(mapping_of(item.get("properties")))
        if time is not None and ((span[0] and time < span[0]) or (span[1] and time > span[1])):
            return False
        return (cover is None or self._cover[0] <= cover <= self._cover[1]) and meets(box_of(item), boxes)

    def _all(
        self, boxes: Sequence[Box] | None, span: Span, skipped: set[Skipped], asked: _Asked
    ) -> Iterator[tuple[str, object]]:
        """Yield the items of the catalogue, of whatever kind it is."""
        where = self._location
        access = replace(self._reader().access_of(self.provider), catalogue=where)
        if self._query:
            access = replace(access, queries={where: self._query})
        if where.lower().endswith((".parquet", ".geoparquet")):
            from sen2chain.archive.stac.item_tables import ItemTable  # noqa: PLC0415  # pyarrow is heavy

            with ItemTable(where, access) as table:
                self._home = _home_of(table.record, where)
                _check_covers(table.record, asked, where)
                if self._collection is not None:
                    _check_collection(self._collection, table.collections(), where)
                for item in table.items(boxes, span, self._collection):
                    yield where, item
            return
        document = read_json(where, access)
        kind = text_of(document.get("type"))
        if isinstance(document.get("features"), list):
            if has_next_page(document):
                raise LibraryError(
                    f"{where} is one page of a search, and others follow it; pass the address of the API, or a file "
                    "with all items."
                )
            self._check_items(document["features"], where)
            for item in document["features"]:
                yield where, item
        elif kind == "Feature":
            self._check_items([document], where)
            yield where, document
        elif is_remote(where) and is_api(document):
            yield from self._of_api(where, document, self._collection or DEFAULT_COLLECTION, boxes, span)
        elif is_remote(where) and kind == "Collection" and (root := _root_of(document, where)):
            yield from self._of_api(root, read_json(root, access), text_of(document.get("id")), boxes, span)
        elif kind in {"Catalog", "Collection"}:
            found = walk(where, document, access, boxes=boxes, span=span, collection=self._collection)
            for one in found:
                if isinstance(one, tuple):
                    yield one
                else:
                    skipped.add(one)
        else:
            raise LibraryError(
                f"{where} is not a STAC catalogue: it is neither an API, a catalogue, a collection nor items."
            )

    def _check_items(self, items: Sequence[object], where: str) -> None:
        """Check that the items of a file are of the collection that is asked for, see `_check_collection`."""
        if self._collection is not None and items:
            _check_collection(self._collection, {key_of(item)[0] for item in items if isinstance(item, dict)}, where)

    def _of_api(
        self, where: str, landing: Mapping[str, Any], collection: str, boxes: Sequence[Box] | None, span: Span
    ) -> Iterator[tuple[str, object]]:
        if boxes is None:
            raise RequestError(f"The STAC API {where} is asked for an area; pass a layer whose features have a place.")
        search, some = ApiSearch(where, landing, collection, self._cover), False
        for item in search.items(boxes, span):
            if isinstance(item, dict) and key_of(item)[0] not in {"", collection}:
                continue  # of an API that does not look at the collection it is asked for
            some = True
            yield where, item
        if not some:
            search.check_collection()


def _checked_assets(assets: Mapping[str, str] | None) -> dict[str, str]:
    """Check a user's names of assets.

    Raises
    ------
    RequestError
        If a band is unknown, or a name is not a text.
    """
    known = [band.name for band in SENTINEL2.served] + [raster.name for raster in SENTINEL2.quality]
    found: dict[str, str] = {}
    for band, key in dict(assets or {}).items():
        holds = next((one for one in known if isinstance(key, str) and re.split(r"[_-]", key)[0].upper() == one), "")
        if band not in known and holds:
            raise RequestError(
                f"{shown(band)} is not a band, and {shown(key)} looks like one: the band comes first, as "
                f"{holds}={shown(band).lower()} (--stac-asset BAND=ASSET)."
            )
        if band not in known:
            raise UnknownNameError("band", band, known)
        if not isinstance(key, str) or not key:
            raise RequestError(f"The asset of {band} is {quoted(key)}; pass the name of an asset, as red.")
        if "," in key:
            raise RequestError(
                f"The asset of {band} is {quoted(key)}, with a comma; repeat the option for each band, as "
                "--stac-asset B04=red --stac-asset B08=nir."
            )
        if key in found.values():
            other = next(one for one, name in found.items() if name == key)
            raise RequestError(f"{other} and {band} are both the asset {shown(key)}; name another one for one of them.")
        found[band] = key
    return found


def _check_collection(collection: str, found: set[str], where: str) -> None:
    """Check that a file has items of a collection.

    Raises
    ------
    LibraryError
        If it has not.
    """
    names = sorted(found - {""})
    if collection in names:
        return
    if names:
        listed = ", ".join(map(shown, names[:8])) + (", ..." if len(names) > 8 else "")
        raise LibraryError(f"{where} has no items of the collection {shown(collection)}; it has {listed}.")
    raise LibraryError(
        f"The items of {where} name no collection, so that none can be chosen; leave out collection= (--collection)."
    )


def _span(first: dt.date | None, last: dt.date | None) -> Span:
    """Return the times to ask for: a day more on each side, since an item's time may be minutes off its name's."""
    try:
        low = None if first is None else dt.datetime.combine(first, dt.time(), dt.UTC) - _DAY
        high = None if last is None else dt.datetime.combine(last, dt.time(), dt.UTC) + 2 * _DAY
    except OverflowError:
        return None, None
    return low, high


def _root_of(document: Mapping[str, Any], where: str) -> str:
    """Return the landing page of the API that a collection belongs to; empty for one of a static catalogue."""
    links = document.get("links")
    targets = {
        text_of(link.get("rel")): text_of(link.get("href"))
        for one in (links if isinstance(links, list) else [])
        if (link := mapping_of(one))
    }
    if "items" not in targets or not targets.get("root"):
        return ""
    try:
        root, _ = resolve(targets["root"], where)
    except RequestError:
        return ""
    return root if place_of(root) == place_of(where) and root != where else ""


def _home_of(record: Mapping[str, Any], where: str) -> str:
    """Return the catalogue that a table was saved from, whose rules on hosts stay in force; else the table itself."""
    catalogue = text_of(record.get("catalogue"))
    return public(catalogue) if is_remote(catalogue) and not is_remote(where) else ""


def _check_covers(record: Mapping[str, Any], asked: _Asked, where: str) -> None:
    """Check that the search whose items a file holds covers what is asked for; else items would be missing unnoticed.

    Raises
    ------
    LibraryError
        If it does not.
    """
    missing = []
    searched = [edges for edges in numbers_in(record.get("boxes")) if len(edges) == 4]
    if searched and asked.parts is not None:
        grown = [(west - _NEAR, south - _NEAR, east + _NEAR, north + _NEAR) for west, south, east, north in searched]
        corners = {(x, y) for west, south, east, north in asked.parts for x in (west, east) for y in (south, north)}
        if any(not meets((x, y, x, y), grown) for x, y in corners):
            missing.append("another area")
    first, last = text_of(record.get("first")), text_of(record.get("last"))
    early = bool(first and asked.first and asked.first.isoformat() < first)
    if early or (last and asked.last and asked.last.isoformat() > last):
        missing.append(f"the dates {first or 'of the beginning'} to {last or 'today'}")
    (cover,) = numbers_in([record.get("cover")]) or [[]]
    limited = asked.cover != (0.0, 100.0)  # else the file decides, as where no dates are asked for
    if len(cover) == 2 and limited and not (cover[0] <= asked.cover[0] and asked.cover[1] <= cover[1]):
        missing.append(f"a cloud cover of {cover[0]:g} to {cover[1]:g} percent")
    if missing:
        raise LibraryError(
            f"The items in {where} are those of a search for {' and '.join(missing)}, so some that are asked for now "
            "may be missing; search again and save them under another name."
        )


@dataclass(frozen=True, slots=True)
class SkippedItems:
    """Items that cannot be used for one reason."""

    count: int
    """How many there are."""
    example: Skipped
    """One of them."""

    @property
    def sentence(self) -> str:
        """The reason with a count and an example, as ``24 items, as LC08_L2SP_1: ...``."""
        if self.count == 1:
            return self.example.detail
        return f"{self.count} items, as {self.example.name}: {self.example.detail}"


def by_reason(skipped: Iterable[Skipped]) -> list[SkippedItems]:
    """Return the items that cannot be used once for each reason, the most frequent one first.

    Sentences that differ only in names and numbers (words with a digit) are one reason.
    """
    groups: dict[tuple[Reason, str], list[Skipped]] = {}
    for one in in_order(skipped):
        reason = re.sub(r"\S*\d\S*", "#", one.detail.replace(one.name, "#"))
        groups.setdefault((one.reason, reason), []).append(one)
    found = [SkippedItems(len(group), group[0]) for group in groups.values()]
    return sorted(found, key=lambda one: -one.count)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


if TYPE_CHECKING:
    _confirmed: Source = StacCatalogue("")
