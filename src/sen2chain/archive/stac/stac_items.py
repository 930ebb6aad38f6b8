"""Items of a catalogue become acquisitions, or say why they cannot be used.

Items come from anywhere, so nothing in them is trusted: neither types nor sizes nor addresses.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sen2chain.archive.offset_check import QUANTIFICATION
from sen2chain.archive.stac.documents import place_of, public, resolve, scheme_of, without_secrets
from sen2chain.archive.stac.offsets import StacDetails, Told
from sen2chain.archive.stac.providers import COMMON_BANDS, GENERIC, Provider, provider_of
from sen2chain.errors import RequestError, shown
from sen2chain.products import Acquisition, IdentityToken, ProductId, Reading, Skipped
from sen2chain.reasons import Reason
from sen2chain.remote import check_href, is_remote
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sen2chain.archive.stac.search_boxes import Box
    from sen2chain.products import Footprint
    from sen2chain.remote import Access

    Item = Mapping[str, Any]
    """An item as it stands in JSON."""

_MOST_CORNERS = 10_000  # of a footprint that is kept
_MOST_NAMES = 40  # asset names that a sentence lists
_NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata"})


@dataclass(frozen=True, slots=True)
class Found:
    """An acquisition of an item, with what only the source needs to know of it."""

    acquisition: Acquisition
    """The acquisition."""
    tokens: Mapping[str, IdentityToken]
    """Location -> identity token, of its rasters on servers."""
    rank: tuple[str, int, str]
    """The larger one of two items of one product is used: when updated, how many rasters, name."""
    provider: Provider
    """Its provider."""


@dataclass
class ItemReader:
    """Reads the items of one catalogue."""

    catalogue: str
    """Location of the catalogue, whose host says who may be trusted: of the server that the items came from."""
    provider: Provider | None = None
    """The provider of all items; None for what each item looks like."""
    assets: Mapping[str, str] = field(default_factory=dict)
    """Band or quality raster -> name of its asset, before those of the provider."""
    allow: tuple[str, ...] = ()
    """Hosts and buckets that files may lie on besides."""
    _checked: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _fitting: set[str] = field(default_factory=set)  # bands of `assets` that some item has
    _keys: set[str] = field(default_factory=set)  # names of assets of the items that were looked at
    _looked_at: int = 0

    def read(self, item: object, base: str = "") -> Found | Skipped:
        """Return the acquisition of an item, or why it cannot be used.

        Parameters
        ----------
        item
            The item, any JSON value.
        base
            Location of the document it stands in, for relative addresses; by default the catalogue.

        Raises
        ------
        RequestError
            If the user names an asset for a band that holds another band of the item.
        """
        if not isinstance(item, dict):
            text = shown(without_secrets(item))
            return Skipped(text, "", Reason.UNSUPPORTED_NAME, f"{text} is not an item of a catalogue.")
        name = _public_text(item.get("id")) or "an item without id"
        properties, assets = mapping_of(item.get("properties")), mapping_of(item.get("assets"))
        provider = self.provider_of(item)
        product = _product(item, properties, provider)
        if not isinstance(product, ProductId):
            return Skipped(name, "", Reason.UNSUPPORTED_NAME, without_secrets(product))
        chosen = self._choose(assets, provider)
        if not chosen:
            return Skipped(name, product.tile, Reason.INDEX_INPUTS_MISSING, _no_assets(name, assets))
        try:
            places = {band: resolve(str(asset["href"]), base or self.catalogue) for band, asset in chosen.items()}
            access = self.access_of(provider)
            for location, _ in places.values():
                self._check(location, provider, access)
        except RequestError as error:
            return Skipped(name, product.tile, Reason.UNREADABLE, str(error))
        if twice := _twice(places):
            sentence = f"The bands {' and '.join(twice)} of the item {name} are the same file {places[twice[0]][0]}"
            if given := [band for band in twice if band in self.assets]:
                raise RequestError(
                    f"{sentence}; name another asset than {shown(self.assets[given[0]])} for {given[0]} (assets=, "
                    "--stac-asset)."
                )
            return Skipped(name, product.tile, Reason.UNREADABLE, f"{sentence}, so that one of them is wrong.")
        queries = {location: query for location, query in places.values() if query}
        if queries:
            access = replace(access, queries=queries)
        bands = {band: location for band, (location, _) in places.items()}
        version, time = _version(properties, product), time_from(text_of(properties.get("updated")))
        updated = "" if time is None else time.isoformat(timespec="microseconds")
        collection = _public_text(item.get("collection"))
        details = StacDetails(
            product,
            item=name,
            identity="|".join((place_of(self.catalogue) or "file", collection, name, version)),
            told=_told(properties, chosen, provider),
            pixels=bands,
            known_cloud_cover=cover_of(properties),
            known_footprint=_footprint(item.get("geometry")),
        )
        missing = [band.name for band in SENTINEL2.served if band.name not in bands]
        remark = f"the item {name} has no asset of {', '.join(missing)}" if missing else ""
        acquisition = Acquisition(
            product,
            details,
            bands,
            remark=remark,
            reading=Reading(at_once=access.at_once, access=access, kind="catalogue"),
        )
        tokens = {
            location: _token(location, chosen[band], version) for band, location in bands.items() if is_remote(location)
        }
        return Found(acquisition, tokens, (updated, len(bands), f"{collection} {name}"), provider)

    def provider_of(self, item: Item) -> Provider:
        """Return the provider of an item."""
        if self.provider is not None:
            return self.provider
        files = ""
        for asset in mapping_of(item.get("assets")).values():
            href = text_of(mapping_of(asset).get("href"))
            if scheme_of(href) in {"http", "https", "s3"} and (files := place_of(public(href))):
                provider = provider_of("", "", files)
                if provider is not GENERIC:
                    break
        return provider_of(place_of(self.catalogue), text_of(item.get("collection")), files)

    def look_at(self, item: Item) -> None:
        """Take note of the names of assets of an item, for `check_assets`."""
        if not self.assets:
            return
        keys = {key for key, asset in mapping_of(item.get("assets")).items() if _is_raster(mapping_of(asset))}
        folded = {key.casefold() for key in keys}
        self._fitting |= {band for band, key in self.assets.items() if key.casefold() in folded}
        self._looked_at += 1
        if len(self._keys) < 1000:
            self._keys |= keys

    def check_assets(self) -> None:
        """Check, after a search, that each asset that the user names is in one of its items at least.

        Raises
        ------
        RequestError
            If one is not.
        """
        for band, key in self.assets.items():
            if self._looked_at and band not in self._fitting:
                raise RequestError(
                    f"No item has the asset {shown(key)} that is named for {band}; they have {_listed(self._keys)}. "
                    f"Name one of these, as assets={{{band!r}: 'NAME'}} (--stac-asset {band}=NAME)."
                )

    def product_of(self, item: Item) -> ProductId | None:
        """Return the product of an item; None where it does not name one."""
        product = _product(item, mapping_of(item.get("properties")), self.provider_of(item))
        return product if isinstance(product, ProductId) else None

    def _choose(self, assets: Mapping[str, Any], provider: Provider) -> dict[str, dict[str, Any]]:
        """Return the asset of each band that an item has."""
        usable = {key: asset for key, asset in assets.items() if isinstance(asset, dict) and _is_raster(asset)}
        folded: dict[str, str] = {}
        for key in usable:
            folded.setdefault(key.casefold(), key)
        chosen = {}
        for band in (*(band.name for band in SENTINEL2.served), *(raster.name for raster in SENTINEL2.quality)):
            if band in self.assets:
                keys: tuple[str, ...] = (self.assets[band],)
            else:
                keys = provider.assets.get(band, ())
            exact = [wanted if wanted in usable else folded.get(wanted.casefold(), "") for wanted in keys]
            named = [key for key in exact if key]
            if not named and provider is GENERIC and band not in self.assets:
                named = [key for key, asset in usable.items() if _says(asset) == band]
            if named:
                chosen[band] = usable[min(named, key=lambda key: _preference(usable[key], band))]
        return chosen

    def access_of(self, provider: Provider) -> Access:
        """Return how the files of a provider are fetched."""
        # Of an unknown catalogue only its own host and what the user allows count, whatever its items look like.
        known = self.provider is not None or place_of(self.catalogue) in provider.catalogues
        allowed = (*(provider.access.allowed if known else ()), *self.allow)
        return replace(provider.access, catalogue=self.catalogue, allowed=allowed)

    def _check(self, location: str, provider: Provider, access: Access) -> None:
        """Check that a file may be read, once for each host or bucket.

        Raises
        ------
        RequestError
            If it may not.
        """
        key = (scheme_of(location), place_of(location), provider.name)
        if key not in self._checked:
            try:
                check_href(location, access)
            except RequestError as error:
                self._checked[key] = str(error)
            else:
                self._checked[key] = ""
        if self._checked[key]:
            raise RequestError(self._checked[key])


# ------------------------------------------------------------------------------------------------- values of any type


def text_of(value: object) -> str:
    """Return a text from JSON; empty for any other value."""
    return value.strip() if isinstance(value, str) else ""


def _public_text(value: object) -> str:
    """Return a text from JSON for sentences and records, without secrets in addresses; empty for any other value."""
    found: str = without_secrets(text_of(value))
    return found


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return an object from JSON; empty for any other value."""
    return value if isinstance(value, dict) else {}


def number_of(value: object) -> float | None:
    """Return a finite number from JSON; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def box_of(item: Item) -> Box | None:
    """Return the box (west, south, east, north) of an item in degrees; None where it has none that can be used."""
    box = item.get("bbox")
    if isinstance(box, list) and len(box) in {4, 6}:
        numbers = [number_of(edge) for edge in (*box[:2], *box[len(box) // 2 :][:2])]
        if None not in numbers:
            west, south, east, north = (float(edge) for edge in numbers if edge is not None)
            return (west, south, east, north) if south <= north else None
    outline = _footprint(item.get("geometry"))
    if outline is None:
        return None
    longitudes, latitudes = zip(*outline, strict=True)
    if max(longitudes) - min(longitudes) > 180:
        return None
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def time_of(item: Item) -> dt.datetime | None:
    """Return the time of an item (UTC); None where it has none."""
    properties = mapping_of(item.get("properties"))
    times = (time_from(text_of(properties.get(name))) for name in ("datetime", "start_datetime"))
    return next((time for time in times if time is not None), None)


def time_from(text: str) -> dt.datetime | None:
    """Read a time (UTC where it has no zone); None where it is not one."""
    try:
        time = dt.datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def cover_of(properties: Mapping[str, Any]) -> float | None:
    """Return the cloud cover of an item in percent; None where it has none."""
    cover = number_of(properties.get("eo:cloud_cover"))
    return cover if cover is not None and 0 <= cover <= 100 else None


def with_absolute_hrefs(item: Item, base: str) -> dict[str, Any]:
    """Return an item whose assets have addresses and paths that do not depend on the document it stands in."""
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return dict(item)
    made: dict[str, Any] = {}
    for key, asset in assets.items():
        href = text_of(mapping_of(asset).get("href"))
        made[key] = asset
        if href and not scheme_of(href):
            with contextlib.suppress(RequestError):  # reading it says why
                made[key] = {**asset, "href": resolve(href, base)[0]}
    return {**item, "assets": made}


def key_of(item: Item) -> tuple[str, str]:
    """Return what identifies an item in a catalogue: collection and id."""
    return text_of(item.get("collection")), text_of(item.get("id"))


# ------------------------------------------------------------------------------------------------------ parts of items


def _names(item: Item, properties: Mapping[str, Any], provider: Provider) -> Iterator[str]:
    """Yield what may be the name of the product, the best first."""
    for name in provider.names:
        outer, dot, inner = name.partition(".")
        value = mapping_of(properties.get(outer)).get(inner) if dot else properties.get(name)
        yield text_of(value)
    yield text_of(properties.get("title"))
    yield text_of(item.get("id"))


def _product(item: Item, properties: Mapping[str, Any], provider: Provider) -> ProductId | str:
    """Return the product of an item, or a sentence why there is none."""
    why = ""
    for name in filter(None, _names(item, properties, provider)):
        try:
            return ProductId.parse(name)
        except RequestError as error:
            # What a property says is a product is; an id may be anything, so its error is told last.
            why = why or str(error)
    hint = ", ".join(provider.names[:1])
    return f"{why or 'The item has no id.'} An item names its product in {hint}, or by its id."


def _says(asset: Mapping[str, Any]) -> str:
    """Return the band that an asset says it holds; empty where it says none, or several."""
    for member in ("bands", "eo:bands"):
        bands = asset.get(member)
        if isinstance(bands, list) and len(bands) == 1:
            band = mapping_of(bands[0])
            name = text_of(band.get("name"))
            if SENTINEL2.band(name) is not None or SENTINEL2.quality_raster(name) is not None:
                return name
            common = text_of(band.get("eo:common_name")) or text_of(band.get("common_name"))
            return COMMON_BANDS.get(common, "")
    return ""


def _is_raster(asset: Mapping[str, Any]) -> bool:
    """Whether an asset may be a raster of one band."""
    roles = asset.get("roles")
    if isinstance(roles, list) and not _NOT_DATA.isdisjoint(role for role in roles if isinstance(role, str)):
        return False
    return bool(text_of(asset.get("href")))


def _preference(asset: Mapping[str, Any], band: str) -> tuple[bool, bool]:
    """Order of the assets of one band: those of the band's own resolution first, then GeoTIFFs."""
    described = SENTINEL2.band(band) or SENTINEL2.quality_raster(band)
    metres = _resolution(asset)
    other = described is not None and metres is not None and abs(metres - described.resolution) > 0.5
    return other, "jp2" in text_of(asset.get("type")) or text_of(asset.get("href")).lower().endswith(".jp2")


def _resolution(asset: Mapping[str, Any]) -> float | None:
    """Return the edge of a pixel in metres as an asset says it."""
    for member in ("raster:spatial_resolution", "spatial_resolution"):
        for part in _raster_parts(asset):
            if (metres := number_of(part.get(member))) is not None:
                return metres
    transform = asset.get("proj:transform")
    if isinstance(transform, list) and transform and (metres := number_of(transform[0])):
        return abs(metres)
    return number_of(asset.get("gsd"))


def _raster_parts(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the parts of an asset that may describe its only band: itself, and the first of its bands."""
    parts = [asset]
    for member in ("bands", "raster:bands"):
        bands = asset.get(member)
        if isinstance(bands, list) and bands:
            parts.append(mapping_of(bands[0]))
    return parts


def _scale_and_offset(asset: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return how many digital numbers a unit of reflectance has, and their offset; None for what is not listed."""
    scale = offset = None
    for part in _raster_parts(asset):
        for prefix in ("raster:", ""):
            scale = number_of(part.get(f"{prefix}scale")) if scale is None else scale
            offset = number_of(part.get(f"{prefix}offset")) if offset is None else offset
    if not scale or not math.isfinite(1 / scale):
        return None, None
    found = None if offset is None else round(offset / scale, 3)
    return round(1 / scale, 3), found if found is not None and math.isfinite(found) else None


def _told(properties: Mapping[str, Any], chosen: Mapping[str, Mapping[str, Any]], provider: Provider) -> Told:
    """Return what an item says of the offset of its digital numbers."""
    baseline = flag = None
    for name in provider.baselines:
        try:
            found = float(text_of(properties.get(name)) or "nan")
        except ValueError:
            continue
        if math.isfinite(found):
            baseline = found
            break
    for name in provider.flags:
        value = properties.get(name)
        if isinstance(value, bool):
            flag = value
            break
    offsets, quantification = {}, QUANTIFICATION
    for band, asset in chosen.items():
        if not provider.lists_offsets or SENTINEL2.band(band) is None:
            continue
        units, offset = _scale_and_offset(asset)
        if offset is not None:
            offsets[band] = offset
        if units not in {None, QUANTIFICATION}:
            quantification = units or QUANTIFICATION
    return Told(provider.rule, provider.settled, baseline, flag, offsets, quantification)


def _footprint(geometry: object) -> Footprint | None:
    """Return the outline of a polygon; None for other geometries and for what is not one."""
    shape = mapping_of(geometry)
    rings = shape.get("coordinates")
    if shape.get("type") == "MultiPolygon" and isinstance(rings, list) and len(rings) == 1:
        rings = rings[0]
    elif shape.get("type") != "Polygon":
        return None
    if not isinstance(rings, list) or not rings or not isinstance(rings[0], list):
        return None
    if not 4 <= len(rings[0]) <= _MOST_CORNERS:
        return None
    corners = []
    for corner in rings[0]:
        if not isinstance(corner, list) or len(corner) < 2:
            return None
        longitude, latitude = number_of(corner[0]), number_of(corner[1])
        if longitude is None or latitude is None or abs(longitude) > 540 or abs(latitude) > 90:
            return None
        corners.append((longitude, latitude))
    return tuple(corners)


def _version(properties: Mapping[str, Any], product: ProductId) -> str:
    """Return a text that changes with the item: when it was updated or made, its product's generation at the least."""
    for name in ("updated", "version", "processing:datetime", "s2:generation_time", "created"):
        if found := text_of(properties.get(name)):
            time = time_from(found)  # as a table of items has it, where the catalogue writes fewer digits
            return shown(without_secrets(found)) if time is None else time.isoformat(timespec="microseconds")
    return product.generation


def _token(location: str, asset: Mapping[str, Any], version: str) -> IdentityToken:
    """Return the identity token of a file on a server, as the item tells it."""
    size = number_of(asset.get("file:size"))
    content = _public_text(asset.get("file:checksum")) or _public_text(asset.get("updated")) or version
    name = location.rpartition("/")[2]
    return IdentityToken(name, int(size) if size and 0 < size < 1 << 62 else 0, content=f"item:{content[:120]}")


def _no_assets(name: str, assets: Mapping[str, Any]) -> str:
    """Say which assets an item has where none of them is a known band."""
    if not assets:
        return f"The item {name} has no assets."
    red = SENTINEL2.true_colour[0]
    return (
        f"The item {name} has no asset whose name is known; it has {_listed(assets)}. Say which is which, "
        f"as StacCatalogue(..., assets={{{red!r}: 'NAME'}}) (--stac-asset {red}=NAME)."
    )


def _listed(keys: Iterable[str]) -> str:
    """Return names of assets for a sentence."""
    names = sorted(shown(without_secrets(key)) for key in keys)
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "") or "none"


def _twice(places: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the first bands that have the same file."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for band, place in places.items():
        by_place.setdefault(place, []).append(band)
    return next((bands for bands in by_place.values() if len(bands) > 1), [])


def best_of(found: Iterable[Found]) -> list[Found]:
    """Return one item for each product, sorted by product: of several the one that was updated last."""
    best: dict[ProductId, Found] = {}
    for one in found:
        product = one.acquisition.id
        if product not in best or best[product].rank < one.rank:
            best[product] = one
    return [best[product] for product in sorted(best)]
