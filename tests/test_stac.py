"""STAC catalogues: items of known and hostile kinds, files of items, static catalogues, and an API that misbehaves."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import http.server
import json
import math
import os
import pickle
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen2chain.archive.offset_check import Verdict
from sen2chain.archive.stac import (
    PROVIDERS,
    Items,
    Saved,
    StacCatalogue,
    api_pages,
    by_reason,
    save_items,
    static_walk,
)
from sen2chain.archive.stac.documents import public, resolve, without_secrets
from sen2chain.archive.stac.item_tables import ItemTable
from sen2chain.archive.stac.offsets import StacDetails
from sen2chain.archive.stac.providers import (
    CDSE,
    EARTH_SEARCH,
    EARTH_SEARCH_C1,
    GENERIC,
    PLANETARY_COMPUTER,
    Provider,
    provider_of,
)
from sen2chain.archive.stac.search_boxes import MOST_BOXES, meets, search_boxes
from sen2chain.archive.stac.stac_items import Found, ItemReader, best_of, box_of, time_of
from sen2chain.errors import LibraryError, MissingExtraError, OutputError, RequestError, UnknownNameError
from sen2chain.products import Area, ProductId, Skipped, Source
from sen2chain.reasons import Reason
from sen2chain.remote import Access, transfer
from troubled_server import TroubledServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EARTH_SEARCH_URL = "https://earth-search.aws.element84.com/v1"
PC_URL = "https://planetarycomputer.microsoft.com/api/stac/v1"
CDSE_URL = "https://stac.dataspace.copernicus.eu/v1"
COMMON = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2", "B07": "rededge3", "B08": "nir",
    "B8A": "nir08", "B11": "swir16", "B12": "swir22", "SCL": "scl",
}  # fmt: skip
BOLZANO = Area((11.2, 46.4, 11.4, 46.6), "EPSG:4326")


def name_of(day: int = 1, tile: str = "32TPS", baseline: int = 509, month: int = 7) -> str:
    date = f"2023{month:02d}{day:02d}"
    return f"S2A_MSIL2A_{date}T101031_N{baseline:04d}_R022_T{tile}_{date}T200058"


def item_of(product: str, assets: dict[str, Any], name: str = "", **properties: Any) -> dict[str, Any]:
    found = ProductId.parse(product)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name or product,
        "collection": "sentinel-2-l2a",
        "bbox": [11.0, 46.0, 12.4, 47.0],
        "geometry": {"type": "Polygon", "coordinates": [[[11, 46], [12.4, 46], [12.4, 47], [11, 47], [11, 46]]]},
        "links": [{"rel": "self", "href": "https://example.org/item"}],
        "properties": {"datetime": found.sensing.isoformat() + "Z", "eo:cloud_cover": 12.5, **properties},
        "assets": assets,
    }


def earth_search(product: str = "", **properties: Any) -> dict[str, Any]:
    product = product or name_of()
    assets: dict[str, Any] = {}
    own: dict[str, Any] = {"s2:product_uri": f"{product}.SAFE", "s2:processing_baseline": "05.09"}
    root = f"https://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs/{product}"
    for band, key in COMMON.items():
        listed: dict[str, Any] = {"scale": 0.0001, "offset": -0.1} if key != "scl" else {}
        assets[key] = {
            "href": f"{root}/{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "raster:bands": [{"nodata": 0, **listed}],
        }
        assets[f"{key}-jp2"] = {"href": f"s3://sentinel-s2-l2a/tiles/{product}/{band}.jp2", "type": "image/jp2"}
    assets["thumbnail"] = {"href": f"{root}/preview.jpg", "roles": ["thumbnail"]}
    own |= {"earthsearch:boa_offset_applied": True, "updated": "2023-07-02T01:49:17.191Z", **properties}
    return item_of(product, assets, "S2A_32TPS_20230701_0_L2A" if product == name_of() else product[:30], **own)


def planetary_computer(product: str = "", **properties: Any) -> dict[str, Any]:
    product = product or name_of()
    root = f"https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/{product}.SAFE"
    assets = {band: {"href": f"{root}/{band}_10m.tif", "type": "image/tiff"} for band in COMMON}
    parts = product.split("_")
    own = {"s2:product_uri": f"{product}.SAFE", "s2:processing_baseline": "05.09", **properties}
    return item_of(product, assets, "_".join([*parts[:3], *parts[4:]]), **own)


def cdse(product: str = "", **properties: Any) -> dict[str, Any]:
    product = product or name_of()
    root = f"s3://eodata/Sentinel-2/MSI/L2A/2023/07/01/{product}.SAFE"
    assets: dict[str, Any] = {}
    for band in COMMON:
        for metres in (10, 20, 60):
            if metres > 10 or band in {"B02", "B03", "B04", "B08"}:
                key = f"{band}_{metres}m"
                assets[key] = {"href": f"{root}/{key}.jp2", "type": "image/jp2", "gsd": metres, "file:size": 1000}
                assets[key] |= {"raster:scale": 0.0001, "raster:offset": -0.1, "file:checksum": f"d501{key}"}
    return item_of(product, assets, **{"processing:version": "05.09", **properties})


MAKERS = (earth_search, planetary_computer, cdse)
URLS = (EARTH_SEARCH_URL, PC_URL, CDSE_URL)


def read(item: object, catalogue: str = "", **options: Any) -> Found | Skipped:
    return ItemReader(catalogue, **options).read(item)


def found(item: object, catalogue: str = "", **options: Any) -> Found:
    one = read(item, catalogue, **options)
    assert isinstance(one, Found), one
    return one


def details_of(one: Found) -> StacDetails:
    assert isinstance(one.acquisition.details, StacDetails)
    return one.acquisition.details


def collection_file(path: Path, *items: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------------ providers


@pytest.mark.parametrize(
    ("maker", "url", "provider", "red", "signing"),
    [
        (earth_search, EARTH_SEARCH_URL, EARTH_SEARCH, "/B04.tif", ""),
        (planetary_computer, PC_URL, PLANETARY_COMPUTER, "/B04_10m.tif", "planetary-computer"),
        (cdse, CDSE_URL, CDSE, "/B04_10m.jp2", "s3"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_items_of_known_providers_become_acquisitions(
    maker: Callable[[], dict[str, Any]], url: str, provider: Provider, red: str, signing: str, *, known: bool
) -> None:
    one = found(maker(), url if known else "")
    got = one.acquisition
    assert one.provider is provider
    assert got.id == ProductId.parse(name_of())
    assert got.bands["B04"].endswith(red)
    assert set(got.bands) == set(COMMON)
    assert got.reading.access is not None
    assert got.reading.access.signing == signing
    assert got.reading.at_once == provider.access.at_once
    assert got.details.cloud_cover() == 12.5
    assert got.details.footprint() == ((11.0, 46.0), (12.4, 46.0), (12.4, 47.0), (11.0, 47.0), (11.0, 46.0))
    assert not got.remark
    assert got.details.has_radiometry
    assert pickle.loads(pickle.dumps(got)) == got  # noqa: S301  # our own


def test_what_an_item_says_of_its_offset() -> None:
    flag: dict[str, Any] = {"earthsearch:boa_offset_applied": False}
    told = details_of(found(earth_search(**flag), EARTH_SEARCH_URL)).told
    assert (told.rule, told.settled, told.baseline, told.flag) == (Verdict.SUBTRACTED, False, 5.09, False)
    assert not told.offsets  # -0.1 stands there whether it is subtracted or not
    told = details_of(found(cdse(), CDSE_URL)).told
    assert (told.rule, told.settled, told.baseline, told.flag) == (Verdict.INCLUDED, True, 5.09, None)
    assert set(told.offsets.values()) == {-1000.0}
    assert "SCL" not in told.offsets
    assert told.quantification == 10000.0


@pytest.mark.parametrize("name", ["raster:scale", "scale"])
def test_another_scale_of_one_band_is_told(name: str) -> None:
    item = cdse()
    asset = item["assets"]["B08_10m"]
    for key in ("raster:scale", "raster:bands", "bands"):
        asset.pop(key, None)
    asset |= {"raster:scale": 0.0002} if name == "raster:scale" else {"raster:bands": [{"scale": 0.0002}]}
    told = details_of(found(item, CDSE_URL)).told
    assert told.quantification == 5000.0


def test_the_provider_with_cloud_probability() -> None:
    item = earth_search()
    item["collection"] = "sentinel-2-c1-l2a"
    for asset in item["assets"].values():
        asset["href"] = asset["href"].replace("sentinel-cogs.", "e84-earth-search-sentinel-data.")
    item["assets"] = {key: asset for key, asset in item["assets"].items() if "jp2" not in key}
    item["assets"]["cloud"] = {"href": item["assets"]["red"]["href"].replace("B04", "CLD_20m")}
    one = found(item, EARTH_SEARCH_URL)
    assert one.provider is EARTH_SEARCH_C1
    assert one.acquisition.bands["CLDPRB"].endswith("/CLD_20m.tif")


def test_providers_name_bands_of_the_sensor_and_their_documentation() -> None:
    for provider in PROVIDERS[:-1]:
        assert set(COMMON) <= set(provider.assets)
        assert provider.documentation.startswith("https://")
        assert provider.files in {"COG", "JP2"}
        assert provider.offset
        assert provider_of(provider.catalogues[0], provider.collections[0]) is provider
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    assert provider_of("example.org", "sentinel-2-l2a") is GENERIC


def test_other_catalogues_work_by_usual_names_and_by_bands() -> None:
    root = "https://example.org/files"
    plain = {key: {"href": f"{root}/{key}.tif"} for key in COMMON.values()}
    assert set(found(item_of(name_of(), plain)).acquisition.bands) == set(COMMON)
    capitals = {band.lower(): {"href": f"{root}/{band}.tif"} for band in COMMON}
    assert set(found(item_of(name_of(), capitals)).acquisition.bands) == set(COMMON)
    described = {
        "first": {"href": f"{root}/a.jp2", "eo:bands": [{"name": "B04"}], "gsd": 10},
        "second": {"href": f"{root}/b.tif", "bands": [{"eo:common_name": "nir"}]},
        "picture": {"href": f"{root}/c.tif", "eo:bands": [{"name": "B04"}, {"name": "B03"}]},
        "thumb": {"href": f"{root}/d.tif", "eo:bands": [{"name": "B02"}], "roles": ["thumbnail"]},
        "third": {"href": f"{root}/e.tif", "eo:bands": [{"name": "B04"}], "raster:bands": [{"spatial_resolution": 20}]},
    }
    one = found(item_of(name_of(), described)).acquisition
    assert one.bands == {"B04": f"{root}/a.jp2", "B08": f"{root}/b.tif"}
    assert "B02, B03, B05" in one.remark


def test_of_several_resolutions_the_native_one_and_of_two_formats_geotiff() -> None:
    root = "https://example.org"
    assets = {
        "B05": {"href": f"{root}/60.tif", "gsd": 60},
        "B05_20m": {"href": f"{root}/20.jp2", "gsd": 20},
        "rededge1": {"href": f"{root}/20.tif", "gsd": 20},
    }
    assert found(item_of(name_of(), assets)).acquisition.bands == {"B05": f"{root}/20.tif"}


def test_a_mapping_of_the_users_comes_first() -> None:
    one = found(earth_search(), EARTH_SEARCH_URL, assets={"B04": "red-jp2"})
    assert one.acquisition.bands["B04"].startswith("s3://sentinel-s2-l2a/")
    assert one.acquisition.bands["B03"].startswith("https://sentinel-cogs.")
    odd = item_of(name_of(), {"r": {"href": "/data/r.tif"}})
    assert found(odd, assets={"B04": "r"}).acquisition.bands == {"B04": "/data/r.tif"}


def test_unknown_assets_are_named_with_the_option() -> None:
    one = read(item_of(name_of(), {"channel 4": {"href": "/x.tif"}, "a": {"href": "/y.tif"}}))
    assert isinstance(one, Skipped)
    assert one.reason is Reason.INDEX_INPUTS_MISSING
    assert "it has a, channel 4." in one.detail
    assert "--stac-asset B04=NAME" in one.detail  # not one of the assets, which may be another band


@pytest.mark.parametrize(
    ("properties", "name", "tells"),
    [
        ({"s2:product_uri": "S2A_MSIL1C_20230701T101031_N0509_R022_T32TPS_20230701T200058.SAFE"}, "x", "MSIL1C"),
        ({}, "S2A_32TPS_20230701_0_L2A", "S2A_32TPS_20230701_0_L2A"),
        ({"s2:product_uri": 7}, "", "no id"),
    ],
)
def test_an_item_without_a_product_says_so(properties: dict[str, Any], name: str, tells: str) -> None:
    item = earth_search()
    item["properties"] = properties
    item["id"] = name
    one = read(item)
    assert isinstance(one, Skipped)
    assert one.reason is Reason.UNSUPPORTED_NAME
    assert tells in one.detail


def test_the_name_of_the_product_where_catalogues_have_it() -> None:
    for properties in ({"_private": {"product_name": f"{name_of()}.SAFE"}}, {"title": name_of()}):
        item = item_of(name_of(), {"B04": {"href": "/x.tif"}}, "an id", **properties)
        assert found(item).acquisition.id == ProductId.parse(name_of())


def test_of_two_items_of_a_product_the_newer_one_is_used() -> None:
    old, new = earth_search(updated="2023-07-02T00:00:00Z"), earth_search(updated="2024-01-01T00:00:00Z")
    new["id"] = "another"
    for pair in ((old, new), (new, old)):
        (one,) = best_of([found(item, EARTH_SEARCH_URL) for item in pair])
        assert one.rank[2].endswith("another")


# ------------------------------------------------------------------------------------------------ addresses and secrets


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "https://evil.example.org/B04.tif",
        "http://127.0.0.1/B04.tif",
        "http://[::1]:9/B04.tif",
        "http://169.254.169.254/latest/meta-data",
        "s3://private/B04.tif",
        "/vsis3/private/B04.tif",
        "/vsicurl/http://127.0.0.1/x.tif",
        "/vsizip//data/x.zip/x.tif",
        "gs://bucket/x.tif",
        "data:image/tiff;base64,AAAA",
        "https:///x.tif",
        "//[x/y",
        "\x00",
    ],
)
def test_hrefs_that_leave_a_catalogue_on_a_server_are_refused(href: str) -> None:
    item = earth_search()
    item["assets"]["red"]["href"] = href
    one = read(item, EARTH_SEARCH_URL)
    if isinstance(one, Skipped):
        assert one.reason is Reason.UNREADABLE
        assert one.tile == "32TPS"
        assert "latest" not in one.detail or "not read" in one.detail
    else:  # it names no file, or one of the catalogue's own
        assert one.acquisition.bands.get("B04", EARTH_SEARCH_URL).startswith("https://earth-search.aws.element84.com/")


def test_a_path_in_a_catalogue_on_a_server_is_a_path_of_the_server() -> None:
    assert resolve("/etc/passwd", "https://example.org/v1") == ("https://example.org/etc/passwd", "")


@pytest.mark.parametrize("href", ["https://[::1", "s3://[b/x", "//[::1/x", "file://[x/y", "https://host:99999999/x"])
@pytest.mark.parametrize("catalogue", ["", EARTH_SEARCH_URL])
def test_an_address_that_is_not_one_costs_its_item_alone(href: str, catalogue: str, tmp_path: Path) -> None:
    odd = earth_search(name_of(2))
    odd["assets"] = {"red": {"href": href}}
    assert isinstance(read(odd, catalogue), Skipped) or href.startswith("//")
    source = StacCatalogue(collection_file(tmp_path / "items.json", odd, earth_search()))
    assert source.tiles() == ["32TPS"]
    items = source.search(None)
    items.record["catalogue"] = href
    save_items(items, tmp_path / "items.parquet")
    StacCatalogue(tmp_path / "items.parquet").tiles()


def test_an_allowed_host_is_read() -> None:
    item = earth_search()
    item["assets"]["red"]["href"] = "https://mirror.example.org/B04.tif"
    assert isinstance(read(item, EARTH_SEARCH_URL), Skipped)
    one = found(item, EARTH_SEARCH_URL, allow=("mirror.example.org",))
    assert one.acquisition.bands["B04"] == "https://mirror.example.org/B04.tif"


def test_an_unknown_catalogue_may_not_point_to_the_hosts_of_a_known_one() -> None:
    assert isinstance(read(planetary_computer(), "https://example.org/v1"), Skipped)
    one = found(planetary_computer(), "https://example.org/v1", allow=("sentinel2l2a01.blob.core.windows.net",))
    assert one.provider is PLANETARY_COMPUTER


def test_a_file_on_disk_may_point_anywhere_and_to_its_neighbours() -> None:
    item = item_of(name_of(), {"B04": {"href": "./a/../B04.tif"}, "B08": {"href": "file:///data/B%2008.tif"}})
    one = ItemReader("/data/items.json").read(item, "/data/set/items.json")
    assert isinstance(one, Found)
    assert one.acquisition.bands == {"B04": "/data/set/B04.tif", "B08": "/data/B 08.tif"}
    assert not one.tokens  # files on disk are looked at


@pytest.mark.parametrize(
    ("href", "base", "location"),
    [
        ("../B04.tif", "https://host/a/b/item.json", "https://host/a/B04.tif"),
        ("B04.tif", "s3://bucket/a/item.json", "s3://bucket/a/B04.tif"),
        ("../../../B04.tif", "s3://bucket/a/item.json", "s3://bucket/B04.tif"),
        ("/vsis3/bucket/key.tif", "", "s3://bucket/key.tif"),
        ("https://host/x.tif?versionId=3", "", "https://host/x.tif"),
        ("//other/x.tif", "https://host/a", "https://other/x.tif"),
    ],
)
def test_relative_addresses(href: str, base: str, location: str) -> None:
    assert resolve(href, base)[0] == location


SIGNED = "https://user:pw@sentinel2l2a01.blob.core.windows.net/a/B04.tif?sv=2024&sig=hunter2%3D&se=2026"


def test_a_signature_is_kept_for_this_run_alone() -> None:
    item = planetary_computer()
    item["assets"]["B04"]["href"] = SIGNED
    one = found(item, PC_URL)
    location = "https://sentinel2l2a01.blob.core.windows.net/a/B04.tif"
    assert one.acquisition.bands["B04"] == location
    access = one.acquisition.reading.access
    assert access is not None
    assert access.queries == {location: "sv=2024&sig=hunter2%3D&se=2026"}
    assert "hunter2" not in repr(one)
    assert "hunter2" not in repr(access)
    assert "hunter2" not in details_of(one).identity


def test_addresses_are_written_without_secrets() -> None:
    assert public(SIGNED) == "https://sentinel2l2a01.blob.core.windows.net/a/B04.tif"
    assert public("https://host/x?versionId=3") == "https://host/x?versionId=3"
    assert public("https://host/x?versionId=3&key=S") == "https://host/x"
    assert public("ftp://user:pw@host/x?key=S#f") == "ftp://host/x"
    value = {"a": [f"see {SIGNED} and s3://k:v@b/c?x=1"], "msft:token": "S", "auth:schemes": {"s3": {"type": "s3"}}}
    clean = without_secrets(value)
    assert clean["a"] == ["see https://sentinel2l2a01.blob.core.windows.net/a/B04.tif and s3://b/c"]
    assert "msft:token" not in clean
    assert clean["auth:schemes"] == value["auth:schemes"]


@pytest.mark.parametrize(
    "value",
    [
        {
            "links": [
                {"href": "./a.json?token=hunter2"},
                {"href": "//host/a?sv=1&sig=hunter2"},
                {"href": "/a?k=hunter2"},
            ]
        },
        {"links": [{"href": "https://host/a", "headers": {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"}}]},
        {"a": {"alternate": {"c": {"href": "AccountKey=hunter2;AccountName=x"}}}},
        {"a": {"href": "/vsicurl?url=https%3A%2F%2Fhost%2Fx%3Fsig%3Dhunter2"}},
        {"storage:options": {"account_key": "hunter2", "access_key": "hunter2", "password": ["hunter2"]}},
        {"title": "open HTTPS://host/x?sig=hunter2 with token=hunter2", "https://host/x?sig=hunter2": 1},
    ],
)
def test_secrets_are_left_out_wherever_they_stand(value: Any) -> None:
    assert "hunter2" not in json.dumps(without_secrets(value))
    paths = {"href": "tiles/B04 key=3.tif", "title": "the key to all: sig or token?", "keywords": ["key", "sig"]}
    assert without_secrets(paths) == paths


def test_long_texts_are_looked_through_in_no_time() -> None:
    text = "a" * 1_000_000 + "://" + "b" * 1_000_000 + "@c?sig=hunter2" + "a-" * 500_000 + "?" * 500_000
    begin = time.process_time()
    assert "hunter2" not in without_secrets(text)
    assert time.process_time() - begin < 5


def test_tokens_come_from_items_without_any_request(tmp_path: Path) -> None:
    def tokens(item: dict[str, Any]) -> dict[str, Any]:
        source = StacCatalogue(collection_file(tmp_path / "items.json", item))
        (one,) = source.acquisitions("32TPS")
        return source.identify(one.bands.values())

    first = tokens(earth_search())
    assert tokens(earth_search()) == first
    assert all(token.exists and token.is_whole for token in first.values())
    later = tokens(earth_search(updated="2024-01-01T00:00:00Z"))
    assert all(later[where] != token for where, token in first.items())
    sized = tokens(cdse())
    assert {token.size for token in sized.values()} == {1000}
    assert {token.content for token in sized.values()} >= {"item:d501B04_10m"}
    (content,) = {token.content for token in tokens(planetary_computer()).values()}
    assert content == "item:20230701T200058"


# -------------------------------------------------------------------------------------------------------- hostile items

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=12)
    | st.sampled_from(["https://h/x.tif", "file:///x", "..", "s3://", "http://[", "2023-13-01", SIGNED]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from places(inner, (*path, n))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Items of which a few parts are replaced by any JSON."""
    item: Any = copy.deepcopy(draw(st.sampled_from(MAKERS))())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(item))))
        if not path:
            item = draw(JSON)
            continue
        inner = item
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = draw(JSON)
    return item


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.sampled_from(["", *URLS]))
def test_a_mutated_item_is_skipped_or_an_acquisition(item: Any, catalogue: str) -> None:
    one = read(item, catalogue)
    if isinstance(one, Skipped):
        assert one.detail.endswith((".", "?"))
        assert "\n" not in one.detail
    else:
        details = one.acquisition.details
        cover, outline = details.cloud_cover(), details.footprint()
        assert cover is None or 0 <= cover <= 100
        assert outline is None or all(math.isfinite(edge) for corner in outline for edge in corner)
        pickle.dumps(one.acquisition)
    assert "hunter2" not in repr(one)
    if isinstance(item, dict):
        box_of(item)
        time_of(item)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"features": [' + '{"a":' * 5000, "[1, 2", "\xff", "", '{"a": 1' + "0" * 5000 + "}", "[]"]
)
def test_documents_that_are_not_json_or_nested_too_deeply(text: str, tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(
        LibraryError, match=r"The STAC catalogue .*items\.json (cannot be understood as JSON: it is |is not a doc)"
    ):
        StacCatalogue(path).tiles()


def test_items_nested_too_deeply_or_of_odd_types_do_not_stop_a_search(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    odd = earth_search(name_of(2))
    odd["bbox"] = [float("nan"), 1e999, "x", None]
    odd["properties"]["deep"] = deep
    path = collection_file(tmp_path / "items.json", odd, 7, None, [], {"id": 3}, earth_search())
    source = StacCatalogue(path)
    assert source.tiles(BOLZANO) == ["32TPS"]
    assert len(source.acquisitions("32TPS", area=BOLZANO)) == 2
    assert len(source.skipped()) == 4


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.archive.stac.documents.LARGEST_LOCAL", 1000)
    with pytest.raises(LibraryError, match="more than"):
        StacCatalogue(collection_file(tmp_path / "items.json", earth_search())).tiles()


# ----------------------------------------------------------------------------------------------------------- the source


def test_a_catalogue_is_a_source_that_opens_nothing_before_it_is_asked() -> None:
    source = StacCatalogue(f"{EARTH_SEARCH_URL}/?token=hunter2")
    assert isinstance(source, Source)
    assert source.describe() == f"STAC catalogue {EARTH_SEARCH_URL}/, collection sentinel-2-l2a"
    assert source.provider is EARTH_SEARCH
    assert source.reading.at_once == 32
    assert StacCatalogue(CDSE_URL).reading.at_once == 4
    again = source.again(cover=(0, 40))
    assert (again.describe(), again._cover, again._query) == (source.describe(), (0.0, 40.0), "token=hunter2")


@pytest.mark.parametrize(
    ("href", "options", "error"),
    [
        ("", {}, RequestError),
        (7, {}, RequestError),
        ("ftp://host/x", {}, RequestError),
        ("https://", {}, RequestError),
        ("x\x00.json", {}, RequestError),
        ("a.json", {"collection": ""}, RequestError),
        ("a.json", {"assets": {"B4": "red"}}, UnknownNameError),
        ("a.json", {"assets": {"B04": 4}}, RequestError),
        ("a.json", {"cover": (0, 101)}, RequestError),
        ("a.json", {"provider": "cdse"}, RequestError),
        ("a.json", {"allow": 7}, RequestError),
    ],
)
def test_parameters_that_cannot_be_used(href: Any, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        StacCatalogue(href, **options)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    for name in ("items.json", "items.parquet", "catalog.json"):
        with pytest.raises(LibraryError, match=f"{name} cannot be read"):
            StacCatalogue(tmp_path / name).tiles()


def test_products_are_found_by_tile_date_area_cover_and_collection(tmp_path: Path) -> None:
    other = earth_search(name_of(3, "33TUN"))
    other["collection"] = "sentinel-2-l1c"
    far = earth_search(name_of(4))
    far["bbox"] = [20, 46, 21, 47]
    items = [earth_search(name_of(1)), earth_search(name_of(2), **{"eo:cloud_cover": 80}), other, far]
    path = collection_file(tmp_path / "items.json", *items, items[0])
    source = StacCatalogue(path)
    assert source.tiles() == ["32TPS", "33TUN"]
    days = [dt.date(2023, 7, day) for day in (1, 2, 3, 4)]
    assert [one.id.sensing.date() for one in source.acquisitions("32TPS")] == [days[0], days[1], days[3]]
    assert [one.id.sensing.date() for one in source.acquisitions("32TPS", days[1], days[2])] == [days[1]]
    assert len(source.acquisitions("32TPS", area=BOLZANO)) == 2
    assert len(StacCatalogue(path, cover=(0, 50)).acquisitions("32TPS")) == 2
    assert StacCatalogue(path, "sentinel-2-l2a").tiles() == ["32TPS"]


def test_unknown_assets_of_all_items_are_an_error(tmp_path: Path) -> None:
    path = collection_file(tmp_path / "items.json", item_of(name_of(), {"r": {"href": "/x.tif"}}))
    with pytest.raises(LibraryError, match="--stac-asset B04=NAME"):
        StacCatalogue(path).tiles()
    assert StacCatalogue(path, assets={"B04": "r"}).tiles() == ["32TPS"]


# ---------------------------------------------------------------------------------------------------------------- boxes


def test_boxes_hold_what_they_are_asked_for() -> None:
    assert search_boxes(BOLZANO) == ((11.2, 46.4, 11.4, 46.6),)
    utm = search_boxes(Area((600000, 5100000, 700000, 5200000), "EPSG:32632", 1000))
    assert len(utm) == 1
    assert utm[0][0] < 10.3
    assert utm[0][2] > 11.5


def test_boxes_on_two_continents_stay_apart_and_near_ones_are_joined() -> None:
    parts = ((11.2, 46.4, 11.3, 46.5), (11.6, 46.4, 11.7, 46.5), (55.2, -21.3, 55.3, -21.2))
    boxes = search_boxes(Area((11.2, -21.3, 55.3, 46.5), "EPSG:4326", parts=parts))
    assert boxes == ((11.2, 46.4, 11.7, 46.5), (55.2, -21.3, 55.3, -21.2))


@pytest.mark.parametrize(
    ("bounds", "crs", "count"),
    [
        ((179.5, -17, 180.5, -16), "EPSG:4326", 2),
        ((-180.2, -17, -179.9, -16), "EPSG:4326", 2),
        ((190.0, -17, 191.0, -16), "EPSG:4326", 1),
        ((800000, 8100000, 900000, 8200000), "EPSG:32760", 2),
        ((-180, -90, 180, 90), "EPSG:4326", 1),
        ((0, 0, 359.9, 1), "EPSG:4326", 1),
    ],
)
def test_no_box_crosses_180_degrees(bounds: tuple[float, float, float, float], crs: str, count: int) -> None:
    boxes = search_boxes(Area(bounds, crs))
    assert len(boxes) == count
    assert all(-180 <= west <= east <= 180 and -90 <= south <= north <= 90 for west, south, east, north in boxes)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-185, 185), st.floats(-85, 84), st.floats(0, 3)), min_size=1, max_size=400))
def test_every_part_lies_in_a_box_and_there_are_few(corners: list[tuple[float, float, float]]) -> None:
    parts = tuple((x, y, x + size, y + min(size, 1)) for x, y, size in corners)
    boxes = search_boxes(Area((-185, -85, 188, 85), "EPSG:4326", parts=parts))
    assert len(boxes) <= MOST_BOXES
    for west, south, _, _ in parts:
        x = (west + 180) % 360 - 180
        assert any(w - 1e-6 <= x <= e + 1e-6 and s - 1e-6 <= south <= n + 1e-6 for w, s, e, n in boxes)


def test_an_area_without_a_place_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="longitude"):
        search_boxes(Area((1e12, 1e12, 2e12, 2e12), "EPSG:32632"))


def test_items_across_180_degrees_meet_both_sides() -> None:
    item = {"bbox": [179.0, -17.0, -179.0, -16.0]}
    assert meets(box_of(item), [(179.5, -16.5, 179.6, -16.4)])
    assert meets(box_of(item), [(-179.5, -16.5, -179.4, -16.4)])
    assert not meets(box_of(item), [(0.0, -16.5, 1.0, -16.4)])


# ----------------------------------------------------------------------------------------------- what users get wrong


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_named_asset_that_no_item_has_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"items.{suffix}"
    items = collection_file(tmp_path / "items.json", earth_search(), earth_search(name_of(2)))
    save_items(StacCatalogue(items).search(None), tmp_path / "items.parquet")
    for asset in ("nirr", "thumbnail"):
        source = StacCatalogue(path, assets={"B08": asset})
        with pytest.raises(RequestError, match=f"No item has the asset {asset}.* for B08; they have blue.*B08=NAME"):
            source.tiles()
        with pytest.raises(RequestError, match=f"No item has the asset {asset}"):
            source.search(None)
    assert StacCatalogue(path, assets={"B08": "NIR"}).tiles() == ["32TPS"]
    none = dt.date(2020, 1, 1)
    assert StacCatalogue(path, assets={"B08": "nirr"}).tiles(None, none, none) == []  # no item to tell from


def test_two_bands_of_one_file_are_refused(tmp_path: Path) -> None:
    path = collection_file(tmp_path / "items.json", earth_search())
    source = StacCatalogue(path, assets={"B04": "nir"})
    with pytest.raises(RequestError, match=r"B04 and B08 .* are the same file .*another asset than nir for B04"):
        source.tiles()
    odd = earth_search()
    odd["assets"]["nir"]["href"] = odd["assets"]["red"]["href"]
    one = read(odd)
    assert isinstance(one, Skipped)
    assert "The bands B04 and B08" in one.detail


@pytest.mark.parametrize(
    ("assets", "tells"),
    [
        ({"B04": "nir", "B08": "nir"}, "B04 and B08 are both the asset nir"),
        ({"B04": "red,B08=nir"}, "repeat the option for each band"),
        ({"red": "B04_10m"}, "the band comes first, as B04=red"),
        ({"RED": "b04"}, "the band comes first, as B04=red"),
    ],
)
def test_names_of_assets_that_cannot_be_meant(assets: dict[str, str], tells: str) -> None:
    with pytest.raises(RequestError, match=tells):
        StacCatalogue("items.json", assets=assets)


@pytest.mark.parametrize(
    ("name", "address", "collection"),
    [
        ("earth-search", EARTH_SEARCH_URL, "sentinel-2-l2a"),
        ("Earth-Search-C1", EARTH_SEARCH_URL, "sentinel-2-c1-l2a"),
        ("planetary-computer", PC_URL, "sentinel-2-l2a"),
        ("cdse", CDSE_URL, "sentinel-2-l2a"),
    ],
)
def test_the_name_of_a_provider_stands_for_its_address(name: str, address: str, collection: str) -> None:
    source = StacCatalogue(name)
    assert source.describe() == f"STAC catalogue {address}, collection {collection}"
    assert source.provider.name == name.lower()
    assert source.again().describe() == source.describe()
    assert StacCatalogue(name, "other").describe() == f"STAC catalogue {address}, collection other"
    assert repr(source) == f"StacCatalogue({address!r}, collection={collection!r})"


def test_what_is_not_a_catalogue_says_what_is(tmp_path: Path) -> None:
    names = "earth-search, earth-search-c1, planetary-computer, cdse"
    with pytest.raises(RequestError, match=f"'earthsearch' .*{names}.*https://host/v1"):
        StacCatalogue("earthsearch")
    with pytest.raises(RequestError, match=r"write an address as https://earth-search.aws.element84.com/v1\."):
        StacCatalogue("earth-search.aws.element84.com/v1")
    for ending in ("gpkg", "csv", "py", "ndjson", "odd"):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(b"x")
        for href in (path, str(path), path.as_uri()):
            with pytest.raises(RequestError, match=rf"x.{ending} is not a catalogue; pass a file .json.*address"):
                StacCatalogue(href)
    with pytest.raises(RequestError, match="pass the address of an API"):
        StacCatalogue("https://host/items.csv?token=hunter2")
    with pytest.raises(RequestError, match="is a folder"):
        StacCatalogue(tmp_path)


def test_dates_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    path = collection_file(tmp_path / "items.json", earth_search())
    with pytest.raises(RequestError, match="2023-07-02 is after the last date 2023-07-01; swap them"):
        StacCatalogue(path).search(None, dt.date(2023, 7, 2), dt.date(2023, 7, 1))


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_collection_that_a_file_has_not_is_refused(suffix: str, tmp_path: Path) -> None:
    items, path = tmp_path / "items.json", tmp_path / f"items.{suffix}"
    save_items(StacCatalogue(collection_file(items, earth_search())).search(None), tmp_path / "items.parquet")
    with pytest.raises(LibraryError, match="no items of the collection sentinel-2; it has sentinel-2-l2a"):
        StacCatalogue(path, "sentinel-2").tiles()
    bare = earth_search()
    del bare["collection"]
    everything = StacCatalogue(collection_file(items, bare)).search(None)
    save_items(everything, tmp_path / "items.parquet", replacing=True)
    with pytest.raises(LibraryError, match="name no collection"):
        StacCatalogue(path, "sentinel-2-l2a").tiles()
    assert StacCatalogue(path).tiles() == ["32TPS"]


def test_items_that_cannot_be_used_are_told_once_for_each_reason() -> None:
    items: list[Any] = [earth_search() for _ in range(24)]
    for number, item in enumerate(items):
        item["id"], item["properties"] = f"LC08_L2SP_{number}", {}
    items.append(7)
    source = StacCatalogue("items.json")
    first, second = by_reason(source.skipped_of(items))
    assert (first.count, second.count) == (24, 1)
    assert first.sentence.startswith("24 items, as LC08_L2SP_0: ")
    assert second.sentence == "7 is not an item of a catalogue."


def test_spellings_of_an_address_are_one_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    for href in (EARTH_SEARCH_URL, f"{EARTH_SEARCH_URL}/", "https://Earth-Search.AWS.element84.com:443/v1"):
        source = StacCatalogue(href)
        assert source.provider is EARTH_SEARCH
        record = source._record([(11.0, 46.0, 12.0, 47.0)], None, None)
        assert save_items(Items([earth_search()], record), path).total == 1
        assert isinstance(read(earth_search(), source._location), Found)
    other = StacCatalogue(CDSE_URL)._record(None, None, None)
    told = "in https://earth-search.*the beginning to today, 11 to 12 degrees east.*--overwrite"
    with pytest.raises(OutputError, match=told):
        save_items(Items([earth_search()], other), path)


def test_a_table_of_another_program_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    save_items([earth_search()], path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    items = StacCatalogue(collection_file(tmp_path / "items.json", earth_search())).search(None)
    with pytest.raises(OutputError, match="not known what was searched"):
        save_items(items, path)


def test_a_search_that_found_nothing_writes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    assert save_items(Items([], {}), path) == Saved(0, 0, 0)
    assert not path.exists()


# ------------------------------------------------------------------------------------------------------ tables of items


def test_a_saved_search_gives_the_same_acquisitions(tmp_path: Path) -> None:
    items = [maker(name_of(day)) for maker, day in zip(MAKERS, (1, 2, 3), strict=True)]
    source = StacCatalogue(collection_file(tmp_path / "items.json", *items))
    path = tmp_path / "items.parquet"
    assert save_items(source.search(None), path) == Saved(3, 0, 3)
    table = StacCatalogue(path)
    assert table.acquisitions("32TPS") == source.acquisitions("32TPS")
    wheres = [where for one in source.acquisitions("32TPS") for where in one.bands.values()]
    assert table.identify(wheres) == source.identify(wheres)
    assert table.tiles(BOLZANO, dt.date(2023, 7, 1), dt.date(2023, 7, 1)) == ["32TPS"]
    assert table.tiles(BOLZANO, dt.date(2024, 7, 1)) == []
    assert table.tiles(Area((20, 46, 21, 47), "EPSG:4326")) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_other_programs_read_the_table(tmp_path: Path) -> None:
    arrow = pytest.importorskip("stac_geoparquet.arrow")
    path = tmp_path / "items.parquet"
    item = planetary_computer()
    item["properties"] |= {"empty": {}, "none": None, "mixed": 1, "updated": "2023-07-02T01:49:17Z"}
    other = cdse(name_of(2))
    other["properties"] |= {"mixed": "text", "statistics": {"water": 1.5}}
    save_items([item, other], path)
    read_back = list(arrow.stac_table_to_items(pq.read_table(path)))
    assert [one["id"] for one in read_back] == [item["id"], other["id"]]
    assert read_back[0]["bbox"] == item["bbox"]
    assert read_back[0]["geometry"]["type"] == "Polygon"
    assert read_back[0]["assets"]["B04"]["href"] == item["assets"]["B04"]["href"]
    assert geopandas.read_parquet(path).crs == "OGC:CRS84"
    assert pq.read_schema(path).field("updated").type == pa.timestamp("us", "UTC")
    with ItemTable(str(path), Access()) as table:
        (one, two) = table.items()
    assert (one["properties"]["mixed"], two["properties"]["mixed"]) == ("1", '"text"')
    assert two["properties"]["statistics"] == {"water": 1.5}


@pytest.mark.parametrize("json_assets", [False, True])
def test_tables_of_other_programs_are_read(tmp_path: Path, *, json_assets: bool) -> None:
    arrow = pytest.importorskip("stac_geoparquet.arrow")
    items = [earth_search(name_of(day)) for day in (1, 2)]
    path = tmp_path / "other.parquet"
    arrow.to_parquet(arrow.parse_stac_items_to_arrow(copy.deepcopy(items)), path)
    if json_assets:
        table = pq.read_table(path)
        texts = pa.array([json.dumps(item["assets"]) for item in items])
        table = table.set_column(table.schema.get_field_index("assets"), "assets", texts)
        pq.write_table(table, path)
    source = StacCatalogue(path)
    assert source.tiles(BOLZANO, dt.date(2023, 7, 1), dt.date(2023, 7, 2)) == ["32TPS"]
    (first, _) = source.acquisitions("32TPS")
    assert first == found(items[0]).acquisition


def test_only_row_groups_that_meet_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for n in range(12):
        item = earth_search(name_of(n + 1, month=1 + n // 6))
        item["bbox"] = [10.0 + n, 46.0, 10.5 + n, 47.0]
        items.append(item)
    path = tmp_path / "items.parquet"
    save_items(items, path)
    pq.write_table(pq.read_table(path), path, row_group_size=2)
    groups: list[int] = []
    original = pq.ParquetFile.iter_batches

    def counted(self: Any, *args: Any, row_groups: list[int], **options: Any) -> Any:
        groups.extend(row_groups)
        return original(self, *args, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    assert StacCatalogue(path).acquisitions("32TPS", area=Area((14.1, 46.1, 14.2, 46.2), "EPSG:4326"))
    assert groups == [2]
    groups.clear()
    assert StacCatalogue(path).acquisitions("32TPS", dt.date(2023, 2, 11))
    assert groups == [4, 5]  # a day more on each side is looked at


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_not_a_table_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    path.write_bytes(content)
    with pytest.raises(LibraryError, match=r"items\.parquet cannot be read as a Parquet file"):
        StacCatalogue(path).tiles()
    with pytest.raises(OutputError, match="not replaced"):
        save_items([earth_search()], path)
    assert path.read_bytes() == content


def test_a_table_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"fid": [1, 2]}), path)
    with pytest.raises(LibraryError, match="no column id or assets"):
        StacCatalogue(path).tiles()


def test_a_cut_off_table_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    save_items([earth_search(name_of(day)) for day in range(1, 29)], path)
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(LibraryError, match=r"items\.parquet"):
        StacCatalogue(path).tiles()


def test_a_nightly_search_asks_only_for_what_is_new(tmp_path: Path) -> None:
    path, items = tmp_path / "items.parquet", tmp_path / "items.json"
    days = [dt.date(2023, month, 1) for month in (1, 3, 5, 7)]
    collection_file(items, *(earth_search(name_of(1, month=day.month)) for day in days))
    source = StacCatalogue(items)
    first = source.search(BOLZANO, days[0], days[2], known=path)
    assert save_items(first, path) == Saved(3, 0, 3)
    newer = earth_search(name_of(1, month=5), updated="2024-01-01T00:00:00Z")
    collection_file(items, earth_search(name_of(1, month=3)), newer, earth_search(name_of(1, month=7)))
    later = source.search(BOLZANO, days[0], known=path)
    assert [item["properties"]["s2:product_uri"][15:17] for item in later] == ["05", "07"]
    assert save_items(later, path) == Saved(1, 1, 4)
    (updated,) = (one for one in StacCatalogue(path).search(None) if one["id"] == newer["id"])
    assert updated["properties"]["updated"].startswith("2024")
    older = earth_search(name_of(1, month=5))
    assert save_items(Items([older], later.record), path) == Saved(0, 0, 4)  # an older version replaces nothing
    # One that begins earlier than the file has to ask for all of it.
    assert len(source.search(BOLZANO, dt.date(2022, 1, 1), known=path)) == 3


def test_no_days_are_left_out_between_two_searches(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    items = collection_file(tmp_path / "items.json", *(earth_search(name_of(1, month=month)) for month in range(1, 13)))
    source = StacCatalogue(items)
    save_items(source.search(BOLZANO, dt.date(2023, 3, 1), dt.date(2023, 4, 30)), path)
    for first, last in (("2023-07-01", "2023-08-30"), ("2023-01-01", "2023-01-31")):
        days = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
        with pytest.raises(OutputError, match="would lack the days from"):
            save_items(source.search(BOLZANO, *days), path)
    later = source.search(BOLZANO, dt.date(2023, 7, 1), dt.date(2023, 8, 30), known=path)
    assert save_items(later, path) == Saved(4, 0, 6)  # from May on
    assert len(source.search(BOLZANO, dt.date(2023, 3, 1), dt.date(2023, 5, 30), known=path)) == 1
    assert len(StacCatalogue(path).acquisitions("32TPS", dt.date(2023, 3, 1), dt.date(2023, 8, 30), BOLZANO)) == 6


def test_the_file_of_another_search_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    items = collection_file(tmp_path / "items.json", earth_search())
    source = StacCatalogue(items)
    save_items(source.search(BOLZANO), path)
    before = path.read_bytes()
    elsewhere = source.search(Area((11, 46, 11.1, 46.1), "EPSG:4326"))
    with pytest.raises(OutputError, match=r"another search .another area.*choose another name"):
        save_items(elsewhere, path)
    with pytest.raises(OutputError, match="another cloud cover"):
        source.again(cover=(0, 20)).search(BOLZANO, known=path)
    collected = collection_file(tmp_path / "more.json", earth_search())
    with pytest.raises(OutputError, match="another catalogue, another area"):
        save_items(StacCatalogue(collected).search(None), path)
    assert path.read_bytes() == before
    assert save_items(elsewhere, path, replacing=True) == Saved(1, 0, 1)


def test_a_saved_search_is_not_taken_for_more_than_it_is(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    items = collection_file(tmp_path / "items.json", earth_search())
    first, last = dt.date(2023, 6, 1), dt.date(2023, 7, 31)
    save_items(StacCatalogue(items, cover=(0, 60)).search(BOLZANO, first, last), path)
    saved = StacCatalogue(path, cover=(0, 40))
    inside = Area((11.25, 46.45, 11.3, 46.5), "EPSG:4326")
    assert saved.tiles(inside, first, last) == saved.tiles(BOLZANO) == ["32TPS"]
    with pytest.raises(LibraryError, match="a search for another area, so some"):
        saved.tiles(Area((11.2, 46.4, 12.9, 46.6), "EPSG:4326"))
    with pytest.raises(LibraryError, match="the dates 2023-06-01 to 2023-07-31, so some"):
        saved.tiles(BOLZANO, dt.date(2023, 5, 31))
    with pytest.raises(LibraryError, match="a cloud cover of 0 to 60 percent, so some"):
        StacCatalogue(path, cover=(0, 80)).tiles(BOLZANO)
    assert StacCatalogue(path).tiles(BOLZANO) == ["32TPS"]


@pytest.mark.parametrize("record", ["[1]", "{", '{"boxes": [[1], 7, "x"], "cover": "x", "first": 3}', "\xff"])
def test_a_record_that_was_tampered_with_does_no_harm(record: str, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    save_items([earth_search()], path)
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"sen2chain": record.encode("latin-1")}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert StacCatalogue(path).tiles(BOLZANO, dt.date(2023, 1, 1)) == ["32TPS"]


def test_a_page_of_a_search_is_not_taken_for_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    page = {"type": "FeatureCollection", "features": [earth_search()]}
    path.write_text(json.dumps({**page, "links": [{"rel": "next", "href": "https://host/search?page=2"}]}), "utf-8")
    with pytest.raises(LibraryError, match="one page of a search"):
        StacCatalogue(path).tiles()
    path.write_text(json.dumps({**page, "links": [{"rel": "self", "href": "https://host/search"}]}), "utf-8")
    assert StacCatalogue(path).tiles() == ["32TPS"]


def test_no_signature_is_written(tmp_path: Path) -> None:
    item = planetary_computer()
    item["assets"]["B04"]["href"] = SIGNED
    item["assets"]["B04"]["alternate"] = {"other": {"href": SIGNED}}
    item["links"] = [{"rel": "preview", "href": SIGNED}]
    item["properties"]["note"] = f"see {SIGNED}"
    source = StacCatalogue(collection_file(tmp_path / "items.json", item))
    items = source.search(None)
    path = tmp_path / "items.parquet"
    save_items(items, path)
    save_items([item], tmp_path / "direct.parquet")
    for place in (path, tmp_path / "direct.parquet"):
        assert "hunter2" not in str(pq.read_table(place).to_pylist())
    assert "hunter2" not in str(items)
    assert "hunter2" not in str(source.acquisitions("32TPS"))


def test_relative_addresses_are_saved_as_absolute_ones(tmp_path: Path) -> None:
    item = earth_search()
    item["assets"] = {"red": {"href": "files/B04.tif"}, "nir": {"href": "https://example.org/B08.tif"}}
    source = StacCatalogue(static_catalogue(tmp_path / "c", [item]))
    (tmp_path / "out").mkdir()
    save_items(source.search(BOLZANO), tmp_path / "out" / "items.parquet")
    (one,) = StacCatalogue(tmp_path / "out" / "items.parquet").acquisitions("32TPS")
    assert one.bands == source.acquisitions("32TPS", area=BOLZANO)[0].bands


def test_items_can_be_looked_at_before_they_are_saved(tmp_path: Path) -> None:
    unnamed = earth_search()
    unnamed["properties"] = {}
    source = StacCatalogue(collection_file(tmp_path / "items.json", unnamed, cdse(name_of(2)), cdse(name_of(3))))
    items = source.search(None)
    assert [one.id.sensing.day for one in source.acquisitions_of(items)] == [2, 3]
    assert [one.name for one in source.skipped_of(items)] == [unnamed["id"]]
    assert source.provider_of(items) is CDSE
    assert source.provider_of([]) is GENERIC


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(mutated().filter(lambda item: isinstance(item, dict)), min_size=1, max_size=2))
def test_mutated_items_are_written_and_read_back_as_far_as_they_can_be(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("mutated") / "items.parquet"
    saved = save_items(items, path)
    assert path.exists() == (saved.total > 0)
    if not saved.total:
        return
    again = StacCatalogue(path).search(None)
    assert len(again) == saved.total <= len(items)
    before = {(item["id"].strip(), str(read(item).__class__)) for item in items if isinstance(item.get("id"), str)}
    after = {(item["id"].strip(), str(read(item).__class__)) for item in again}
    # An id that looks like an address is kept without what may be a secret in it.
    assert {pair for pair in after if "Found" in pair[1] and "://" not in pair[0]} <= before
    assert "hunter2" not in str(pq.read_table(path).to_pylist())


def test_a_saved_search_keeps_the_rule_of_its_catalogue(tmp_path: Path) -> None:
    item = earth_search()
    item["assets"]["red"]["href"] = "file:///etc/hosts"
    path = tmp_path / "items.parquet"
    save_items(Items([item], {"catalogue": EARTH_SEARCH_URL}), path)
    source = StacCatalogue(path)
    assert source.tiles() == []
    (one,) = source.skipped()
    assert "points to a local file" in one.detail


# ---------------------------------------------------------------------------------------------------- static catalogues


def static_catalogue(root: Path, items: list[dict[str, Any]], **links: Any) -> Path:
    root.mkdir(exist_ok=True)
    listed = []
    for n, item in enumerate(items):
        (root / f"{n}.json").write_text(json.dumps(item), encoding="utf-8")
        listed.append({"rel": "item", "href": f"./{n}.json"})
    collection = {
        "type": "Collection",
        "id": "sentinel-2-l2a",
        "extent": {
            "spatial": {"bbox": [[11, 46, 13, 47]]},
            "temporal": {"interval": [["2023-01-01T00:00:00Z", "2023-12-31T00:00:00Z"]]},
        },
        "links": [*listed, {"rel": "root", "href": "catalog.json"}],
    }
    (root / "collection.json").write_text(json.dumps(collection), encoding="utf-8")
    more = [{"rel": "child", "href": href} for href in links.get("children", ())]
    catalog = {"type": "Catalog", "id": "c", "links": [{"rel": "child", "href": "collection.json"}, *more]}
    (root / "catalog.json").write_text(json.dumps(catalog), encoding="utf-8")
    return root / "catalog.json"


def test_a_static_catalogue_is_walked(tmp_path: Path) -> None:
    item = earth_search(name_of(2))
    item["assets"] = {"red": {"href": "files/B04.tif"}}
    path = static_catalogue(tmp_path / "c", [earth_search(), item])
    for href in (path, f"file://{path}", path.with_name("collection.json")):
        source = StacCatalogue(href)
        assert source.tiles(BOLZANO) == ["32TPS"]
        _, relative = source.acquisitions("32TPS", area=BOLZANO)
        assert relative.bands == {"B04": str(tmp_path / "c" / "files" / "B04.tif")}
    assert StacCatalogue(path, "another").tiles() == []


def test_a_collection_that_does_not_meet_is_not_opened(tmp_path: Path) -> None:
    path = static_catalogue(tmp_path / "c", [earth_search()])
    (tmp_path / "c" / "0.json").unlink()
    source = StacCatalogue(path)
    assert source.tiles(Area((20, 46, 21, 47), "EPSG:4326")) == []
    assert source.tiles(BOLZANO, dt.date(2025, 1, 1)) == []
    assert not source.skipped()
    assert source.tiles(BOLZANO) == []
    assert [one.reason for one in source.skipped()] == [Reason.UNREADABLE]


def test_links_that_turn_in_circles_or_leave_the_catalogue(tmp_path: Path) -> None:
    path = static_catalogue(
        tmp_path / "c", [earth_search()], children=["catalog.json", "https://example.org/x/catalog.json", "gs://b/x"]
    )
    source = StacCatalogue(path)
    assert source.tiles() == ["32TPS"]
    details = [one.detail for one in source.skipped()]
    assert any("leaves the catalogue's host" in detail for detail in details)
    assert any("gs://" in detail for detail in details)


def test_a_missing_part_of_a_catalogue_is_an_error(tmp_path: Path) -> None:
    path = static_catalogue(tmp_path / "c", [earth_search()], children=["gone/catalog.json"])
    with pytest.raises(LibraryError, match=r"A part of the catalogue .* is missing"):
        StacCatalogue(path).tiles()


def test_a_catalogue_that_is_too_deep_or_too_large_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(25):
        link = {"rel": "child", "href": f"{n + 1}.json"}
        (tmp_path / f"{n}.json").write_text(json.dumps({"type": "Catalog", "links": [link]}), encoding="utf-8")
    with pytest.raises(LibraryError, match="more than 20 links deep"):
        StacCatalogue(tmp_path / "0.json").tiles()
    monkeypatch.setattr(static_walk, "MOST_DOCUMENTS", 10)
    with pytest.raises(LibraryError, match="more than 10 documents"):
        StacCatalogue(tmp_path / "0.json").tiles()


# ---------------------------------------------------------------------------------------------------- files on a server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("sen2chain.archive.stac.api_pages.sleep", taken.append)
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.001,) * 4, longest=0.05))
    return taken


@pytest.fixture
def server() -> Iterator[TroubledServer]:
    with TroubledServer() as started:
        yield started


def at_home(server: TroubledServer, days: int = 3) -> list[dict[str, Any]]:
    """Items whose files lie beside them."""
    items = [earth_search(name_of(1 + day % 28, month=1 + day // 28)) for day in range(days)]
    for item in items:
        for key, asset in item["assets"].items():
            asset["href"] = f"{server.url}/{item['id']}/{key}.tif"
    return items


def test_files_of_items_on_a_server(server: TroubledServer, tmp_path: Path) -> None:
    items = at_home(server)
    server.files["/items.json"] = collection_file(tmp_path / "items.json", *items).read_bytes()
    save_items(items, tmp_path / "items.parquet")
    server.files["/items.parquet"] = (tmp_path / "items.parquet").read_bytes()
    wheres = [StacCatalogue(f"{server.url}/{name}").acquisitions("32TPS") for name in ("items.json", "items.parquet")]
    local = StacCatalogue(tmp_path / "items.json").acquisitions("32TPS")
    assert [one.bands for one in wheres[0]] == [one.bands for one in wheres[1]] == [one.bands for one in local]
    access = wheres[1][0].reading.access
    assert access is not None
    assert access.catalogue == f"{server.url}/items.parquet"


def test_of_a_large_table_on_a_server_only_a_part_is_fetched(server: TroubledServer, tmp_path: Path) -> None:
    items = at_home(server, 300)
    for n, item in enumerate(items):
        item["properties"]["note"] = hashlib.sha512(str(n).encode()).hexdigest() * 40
    save_items(items, tmp_path / "items.parquet")
    pq.write_table(pq.read_table(tmp_path / "items.parquet"), tmp_path / "items.parquet", row_group_size=20)
    server.files["/items.parquet"] = content = (tmp_path / "items.parquet").read_bytes()
    assert len(StacCatalogue(f"{server.url}/items.parquet").acquisitions("32TPS", dt.date(2023, 3, 1))) > 20
    server.log.clear()
    day = dt.date(2023, 3, 10)
    assert len(StacCatalogue(f"{server.url}/items.parquet").acquisitions("32TPS", day, day)) == 1
    assert sum(length for _, length in server.ranges("/items.parquet")) < len(content) / 2


def test_a_static_catalogue_on_a_server(server: TroubledServer, tmp_path: Path) -> None:
    items = at_home(server)
    items[1]["assets"] = {"red": {"href": "files/B04.tif"}}
    items[2]["assets"]["red"]["href"] = "/etc/passwd"
    root = static_catalogue(tmp_path / "c", items, children=["https://example.org/x.json", "file:///etc/x.json"]).parent
    for path in root.iterdir():
        server.files[f"/c/{path.name}"] = path.read_bytes()
    source = StacCatalogue(f"{server.url}/c/catalog.json")
    assert source.tiles(BOLZANO) == ["32TPS"]
    bands = [one.bands["B04"] for one in source.acquisitions("32TPS", area=BOLZANO)]
    assert bands[1:] == [f"{server.url}/c/files/B04.tif", f"{server.url}/etc/passwd"]
    assert len(source.skipped()) == 2
    del server.files["/c/1.json"]
    source = StacCatalogue(f"{server.url}/c/catalog.json")
    assert len(source.acquisitions("32TPS", area=BOLZANO)) == 2
    assert any("1.json" in one.detail and one.reason is Reason.UNREADABLE for one in source.skipped())
    del server.files["/c/collection.json"]
    with pytest.raises(LibraryError, match=r"collection\.json"):
        StacCatalogue(f"{server.url}/c/catalog.json").tiles(BOLZANO)


@pytest.mark.parametrize("name", ["v1", "items.parquet", "catalog.json"])
def test_a_server_that_is_not_there_is_one_sentence(name: str, pauses: list[float]) -> None:
    with pytest.raises(LibraryError, match=f"The STAC catalogue http://127.0.0.1:9/{name} .*refused") as error:
        StacCatalogue(f"http://127.0.0.1:9/{name}?sig=hunter2").tiles(BOLZANO)
    assert "hunter2" not in str(error.value)
    assert not pauses


# ----------------------------------------------------------------------------------------------- an API that misbehaves


class Api(http.server.ThreadingHTTPServer):
    """A STAC API whose answers a test decides."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.items: list[dict[str, Any]] = []
        self.size = 2
        self.matched = False
        self.classes = ["https://api.stacspec.org/v1.0.0/item-search"]
        self.asked: list[Any] = []
        self.fault: Callable[[int, dict[str, Any]], Any] = lambda _, page: page
        """Turns the page of a request, by its number, into the answer: a page, bytes, (status, headers) or None."""
        self.collections = ["sentinel-2-l2a", "sentinel-2-l1c"]

    def page(self, body: dict[str, Any]) -> dict[str, Any]:
        west, south, east, north = body["bbox"]
        start = int(body.get("token", 0))
        wanted = [item for item in self.items if meets(box_of(item), [(west, south, east, north)])]
        page: dict[str, Any] = {"type": "FeatureCollection", "features": wanted[start : start + self.size], "links": []}
        if start + self.size < len(wanted):
            link = {"rel": "next", "method": "POST", "href": f"{self.url}/search", "merge": True}
            page["links"] = [{**link, "body": {"token": str(start + self.size)}}]
        if self.matched:
            page["numberMatched"] = len(wanted)
        return page


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: else each answer waits 40 ms
    server: Api

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        root = self.server.url
        if self.path.startswith("/collections"):
            self.answer({"collections": [{"id": name} for name in self.server.collections], "links": []})
            return
        links = [
            {"rel": "search", "href": f"{root}/search", "method": "GET"},
            {"rel": "search", "href": f"{root}/search", "method": "POST"},
        ]
        self.answer({"type": "Catalog", "id": "api", "conformsTo": self.server.classes, "links": links})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.answer(self.server.fault(len(self.server.asked), self.server.page(body)))

    def answer(self, found: Any) -> None:
        status, headers = 200, {}
        if found is None:
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(found, tuple):
            (status, headers), found = found, {"description": "see https://h/x?sig=hunter2"}
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def api(pauses: list[float]) -> Iterator[Api]:
    pytest.importorskip("pystac_client")
    assert pauses == []
    server = Api()
    server.items = [earth_search(name_of(day)) for day in range(1, 8)]
    for item in server.items:
        for asset in item["assets"].values():
            asset["href"] = f"{server.url}/{asset['href'].rpartition('/')[2]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def days_of(source: StacCatalogue, area: Area = BOLZANO) -> list[int]:
    assert source.tiles(area) in ([], ["32TPS"])
    return [one.id.sensing.day for one in source.acquisitions("32TPS", area=area)]


def test_an_api_is_searched_page_by_page_and_once(api: Api) -> None:
    source = StacCatalogue(f"{api.url}/?key=hunter2", "sentinel-2-l2a")
    assert days_of(source) == [1, 2, 3, 4, 5, 6, 7]
    assert [body.get("token") for body in api.asked] == [None, "2", "4", "6"]
    assert {tuple(body["bbox"]) for body in api.asked} == {(11.2, 46.4, 11.4, 46.6)}
    assert api.asked[0]["limit"] == api_pages.PAGE
    assert "datetime" not in api.asked[0]
    assert "hunter2" not in source.describe() + repr(source.reading) + str(source.search(BOLZANO).record)
    source.tiles(BOLZANO, dt.date(2023, 7, 2), dt.date(2023, 7, 3))
    assert api.asked[-1]["datetime"] == "2023-07-01T00:00:00Z/2023-07-05T00:00:00Z"
    assert len(source.acquisitions("32TPS", dt.date(2023, 7, 2), dt.date(2023, 7, 3), BOLZANO)) == 2


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("https://api.stacspec.org/v1.0.0/item-search#query", "query"),
        ("http://www.opengis.net/spec/cql2/1.0/conf/cql2-json", "filter"),
        ("https://api.stacspec.org/v1.0.0/item-search", ""),
    ],
)
def test_cloud_cover_is_asked_for_as_the_api_can(api: Api, name: str, part: str) -> None:
    api.classes = [name]
    api.items[0]["properties"]["eo:cloud_cover"] = 90
    assert days_of(StacCatalogue(api.url, cover=(0, 50))) == [2, 3, 4, 5, 6, 7]
    body = api.asked[0]
    assert {key for key in ("query", "filter") if key in body} == ({part} if part else set())
    assert not part or "50" in json.dumps(body[part])


def test_items_on_two_sides_are_asked_for_apart_and_counted_once(api: Api) -> None:
    parts = ((11.2, 46.4, 11.3, 46.5), (55.2, -21.3, 55.3, -21.2))
    area = Area((11.2, -21.3, 55.3, 46.5), "EPSG:4326", parts=parts)
    api.items[0]["bbox"] = [-180, -90, 180, 90]
    assert days_of(StacCatalogue(api.url), area) == [1, 2, 3, 4, 5, 6, 7]
    assert len({tuple(body["bbox"]) for body in api.asked}) == 2


def test_trouble_in_one_of_many_boxes_is_an_error(api: Api) -> None:
    parts = tuple((float(x), 46.4, x + 0.1, 46.5) for x in range(-100, 100, 10))
    area = Area((-100, 46.4, 90.1, 46.5), "EPSG:4326", parts=parts)
    for item in api.items:
        item["bbox"] = [-180, -90, 180, 90]
    assert days_of(StacCatalogue(api.url), area) == [1, 2, 3, 4, 5, 6, 7]
    assert len({tuple(body["bbox"]) for body in api.asked}) == 20
    api.fault = lambda _, page: (400, {}) if api.asked[-1]["bbox"][0] > 50 else page
    with pytest.raises(LibraryError, match="it answered 400"):
        StacCatalogue(api.url).tiles(area)


def test_a_page_that_comes_twice_is_counted_once(api: Api) -> None:
    pages: list[dict[str, Any]] = []

    def twice(number: int, page: dict[str, Any]) -> dict[str, Any]:
        pages.append(copy.deepcopy(page))
        if number == 2:  # the first page again, and then on
            return {**pages[0], "links": pages[1]["links"]}
        return page

    api.fault = twice
    assert days_of(StacCatalogue(api.url)) == [1, 2, 5, 6, 7]  # the API never sends the others, nor says how many
    api.matched = True
    api.asked.clear()
    pages.clear()
    with pytest.raises(LibraryError, match="sent a page twice, and only 5 of 7 items"):
        StacCatalogue(api.url).tiles(BOLZANO)


def test_a_repeated_page_that_loses_nothing_is_fine(api: Api) -> None:
    api.matched = True

    def again(_: int, page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "features": page["features"] * 2}

    api.fault = again
    assert days_of(StacCatalogue(api.url)) == [1, 2, 3, 4, 5, 6, 7]


def test_of_an_item_that_is_updated_between_pages_the_new_version_is_used(api: Api) -> None:
    newer = json.loads(json.dumps(api.items[0]))
    newer["properties"]["updated"] = "2023-09-01T00:00:00Z"
    newer["assets"]["red"]["href"] = f"{api.url}/new.tif"
    api.items.append(newer)
    source = StacCatalogue(api.url, "sentinel-2-l2a")
    assert days_of(source) == [1, 2, 3, 4, 5, 6, 7]
    assert source.acquisitions("32TPS", area=BOLZANO)[0].bands["B04"].endswith("/new.tif")


@pytest.mark.parametrize("size", [2, 7])
def test_a_last_page_that_is_not_the_last_one_is_an_error(api: Api, size: int) -> None:
    api.matched, api.size = True, size
    api.fault = lambda _, page: {**page, "links": [], "numberMatched": 8}
    with pytest.raises(LibraryError, match=rf"sent {size} of 8 items and no address of a next page; [^.]*\.$"):
        days_of(StacCatalogue(api.url, "sentinel-2-l2a"))


def test_the_number_of_items_may_be_an_estimate(api: Api) -> None:
    api.fault = lambda _, page: {**page, "numberMatched": 1000}
    assert days_of(StacCatalogue(api.url, "sentinel-2-l2a")) == [1, 2, 3, 4, 5, 6, 7]


def test_items_of_collections_that_were_not_asked_for_are_left_out(api: Api) -> None:
    api.items.append({**earth_search(name_of(8)), "collection": "sentinel-2-l1c"})
    assert days_of(StacCatalogue(api.url)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("tokens", ["same", "new"])
def test_pages_that_never_end_are_an_error(api: Api, tokens: str) -> None:
    def endless(number: int, page: dict[str, Any]) -> dict[str, Any]:
        token = "0" if tokens == "same" else str(-(1000 + number))
        link = {"rel": "next", "method": "POST", "href": f"{api.url}/search", "merge": True, "body": {"token": token}}
        return {**page, "features": api.items[:2], "links": [link]}

    api.fault = endless
    with pytest.raises(LibraryError, match="again and again"):
        StacCatalogue(api.url).tiles(BOLZANO)
    assert len(api.asked) <= 5
    api.asked.clear()
    monkey = api.fault
    api.fault = lambda number, page: {**monkey(number, page), "numberMatched": 2}
    assert days_of(StacCatalogue(api.url)) == [1, 2]  # it says itself that these are all


def test_the_number_of_pages_is_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_pages, "MOST_PAGES", 3)
    with pytest.raises(LibraryError, match="did not come to an end within 3 pages"):
        StacCatalogue(api.url).tiles(BOLZANO)


def test_an_empty_page_in_the_middle_is_not_the_end(api: Api) -> None:
    def empty(number: int, page: dict[str, Any]) -> dict[str, Any]:
        if number != 1:
            return page
        link = {"rel": "next", "method": "POST", "href": "search", "merge": True, "body": {"token": "0"}}
        return {"type": "FeatureCollection", "features": [], "links": [link]}

    api.fault = empty
    assert days_of(StacCatalogue(api.url)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "href", ["http://evil.example.org/search", "file:///etc/passwd", "http://127.0.0.1:1/search", "http://[/"]
)
def test_a_next_link_to_another_host_is_not_followed(api: Api, href: str) -> None:
    api.fault = lambda _, page: {**page, "links": [{"rel": "next", "href": f"{href}?token=hunter2"}]}
    with pytest.raises(LibraryError, match="leads to another host") as error:
        StacCatalogue(api.url).tiles(BOLZANO)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("trouble", [(503, {}), (429, {"retry-after": "7"}), None, b"{", (500, {})])
def test_passing_trouble_is_overcome(api: Api, pauses: list[float], trouble: Any) -> None:
    api.fault = lambda number, page: trouble if number in {2, 3} else page
    assert days_of(StacCatalogue(api.url)) == [1, 2, 3, 4, 5, 6, 7]
    assert pauses == ([7.0, 7.0] if trouble == (429, {"retry-after": "7"}) else [0.5, 1.0])


@pytest.mark.parametrize(
    ("trouble", "tells"),
    [
        ((503, {}), "it answered 503, 5 times"),
        (None, "the connection is broken, 5 times"),
        (b"<html>", "cannot be understood as JSON"),
        ((400, {}), "refuses the search .it answered 400: see https://h/x"),
        ((404, {}), "it answered 404"),
        ((302, {"location": "/elsewhere"}), "it moved to"),
        ((307, {"location": "http://evil.example.org/"}), "leads to another host"),
        ({"type": "FeatureCollection"}, "something else than a page"),
        ({"code": "Bad", "description": "no\nsuch thing"}, "no\\\\nsuch thing"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_an_api_that_is_gone_in_the_middle_is_an_error_and_never_a_short_list(
    api: Api, trouble: Any, tells: str
) -> None:
    api.fault = lambda number, page: trouble if number > 1 else page
    source = StacCatalogue(api.url)
    with pytest.raises(LibraryError, match=tells) as error:
        source.tiles(BOLZANO)
    assert "hunter2" not in str(error.value)
    with pytest.raises(LibraryError):
        source.acquisitions("32TPS", area=BOLZANO)


def test_pages_of_any_size_are_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_pages, "LARGEST_REMOTE", 1000)
    with pytest.raises(LibraryError, match="a page of more than"):
        StacCatalogue(api.url).tiles(BOLZANO)


def test_a_collection_that_is_not_there_is_named(api: Api) -> None:
    api.items = []
    with pytest.raises(LibraryError, match="no collection sentinel-2; it has sentinel-2-l2a, sentinel-2-l1c"):
        StacCatalogue(api.url, "sentinel-2").tiles(BOLZANO)
    assert StacCatalogue(api.url).tiles(BOLZANO) == []


def test_an_api_is_not_asked_for_the_whole_world(api: Api) -> None:
    with pytest.raises(RequestError, match="asked for an area"):
        StacCatalogue(api.url).tiles()
    assert not api.asked


def test_without_a_network_or_the_extra_there_is_one_sentence(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac_client.item_search", None)
    with pytest.raises(MissingExtraError, match=r"STAC APIs need pystac-client.*sen2chain\[stac\]"):
        StacCatalogue(api.url).tiles(BOLZANO)


# ---------------------------------------------------------------------------------------------------------- interrupted


class Interrupted:
    """Lookups of names that hang and are not interrupted, as the system's; the caller is, once they hang."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lookups: int, host: str = "hangs.invalid") -> None:
        self._host, self._left, self._found = host, lookups, socket.getaddrinfo
        self._lock = threading.Lock()
        self.released = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self._lookup)

    def _lookup(self, host: Any, *args: Any, **options: Any) -> Any:
        if host != self._host:
            return self._found(host, *args, **options)
        with self._lock:
            self._left -= 1
            last = self._left == 0
        end, interrupted = time.monotonic() + 8, False
        while time.monotonic() < end and not self.released.is_set():
            try:
                if last:
                    last = False
                    os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)
            except KeyboardInterrupt:  # as the system's: it is noticed afterwards
                interrupted = True
        if interrupted:
            raise KeyboardInterrupt
        raise socket.gaierror(socket.EAI_AGAIN, "released")


@pytest.fixture
def own_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("own_interrupts", "pauses")
@pytest.mark.parametrize(("kind", "lookups"), [("landing", 1), ("box", 1), ("boxes", 4), ("items", 16)])
def test_an_interrupt_does_not_wait_for_servers(kind: str, lookups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pystac_client")
    monkeypatch.setenv("NO_PROXY", "*")
    hang = Interrupted(monkeypatch, lookups)
    area = Area((11.2, 46.4, 11.4, 46.6), "EPSG:4326")
    boxes = [(float(west), 46.0, west + 1.0, 47.0) for west in range(0, 50, 10)]
    href = "http://hangs.invalid/v1"
    search = api_pages.ApiSearch(href, {}, "sentinel-2-l2a")
    run: dict[str, Callable[[], object]] = {
        "landing": lambda: StacCatalogue(href).tiles(area),
        "box": lambda: list(search.items(boxes[:1], (None, None))),
        "boxes": lambda: list(search.items(boxes, (None, None))),
        "items": lambda: list(
            static_walk._items([f"http://hangs.invalid/{n}.json" for n in range(20)], Access(catalogue=href))
        ),
    }
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run[kind]()
        assert time.monotonic() - began < 2
        assert all(thread.daemon for thread in threading.enumerate() if "detached" in thread.name)
    finally:
        hang.released.set()
        for thread in threading.enumerate():
            if "detached" in thread.name:
                thread.join(5)
