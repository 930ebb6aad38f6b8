"""Rows from catalogues that real servers on this machine serve: see `stac_servers` and `provider_layouts`.

Each row from a catalogue is compared with the row of the same product in an archive.
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import itertools
import json
import logging
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio.features

from provider_layouts import INDICES, LAYOUTS, Copy, Form, copy_in, has_offset, items, product_files, write_copy
from sen2chain import JobExtraction, TimeSeries, TimeSeriesCompil
from sen2chain.archive.stac import PROVIDERS, Provider, StacCatalogue, api_pages, save_items
from sen2chain.errors import LibraryError, RequestError
from sen2chain.jobs.job_file import COLUMNS
from sen2chain.pixel_store import PixelFile
from sen2chain.products import Area
from sen2chain.remote import Access, transfer
from sen2chain.store import ExtractionFolder, ImageLedger, KeptCatalogue
from stac_servers import S3_KEY, S3_SECRET, TokenServer, get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from provider_layouts import Layout, ProviderFiles
    from stac_servers import Api, FileServer, ObjectStore, Request

MASKS = ("none", "CM004", "SCL-3-8-9-10-11-ITER1")

Table = dict[str, list[list[str]]]


class Site:
    """The catalogue of a provider: items in the API, files on the file server."""

    def __init__(self, files: ProviderFiles, server: FileServer, api: Api) -> None:
        self.files, self.server, self.api = files, server, api
        self._names = itertools.count()

    def copies(self, form: Form, *, without: Sequence[str] = ("CLDPRB",)) -> list[Copy]:
        """Return copies of the archive's products that are on the server; they must not be changed."""
        copies = self.files.copies(form, without=without)
        link = self.server.place / str(form)
        if not link.is_symlink():
            link.symlink_to(self.files.folder / str(form))
        return copies

    def own_copies(self, form: Form, *, without: Sequence[str] = ("CLDPRB",)) -> list[Copy]:
        """Return copies on the server whose files may be removed and replaced, but not written into."""
        self.files.copies(form)
        folder = self.server.place / f"own-{next(self._names)}"
        shutil.copytree(self.files.folder / str(form), folder, copy_function=os.link)
        return [copy_in(folder, product, without) for product in self.files.products]

    def href(self, path: Path, place: str = "open") -> str:
        """Return the address of a file of a copy."""
        for root in (self.server.place, self.files.folder):
            if path.is_relative_to(root):
                return self.server.href(path.relative_to(root).as_posix(), place)
        raise AssertionError(path)

    def publish(self, copies: Iterable[Copy], layout: Layout, **asked: Any) -> str:
        """Add the items of copies to the API and return the name of their new collection."""
        name = f"collection-{next(self._names)}"
        self.api.load(name, items(copies, layout, asked.pop("href", self.href), **{"says_subtracted": False} | asked))
        return name

    def catalogue(self, copies: Iterable[Copy], layout: Layout, provider: Provider, **asked: Any) -> StacCatalogue:
        """Publish copies and return their catalogue."""
        return StacCatalogue(self.api.href, self.publish(copies, layout, **asked), provider=provider)


@pytest.fixture(scope="module")
def site(provider_files: ProviderFiles, file_server: FileServer, stac_api: Api) -> Site:
    return Site(provider_files, file_server, stac_api)


def known(name: str, **other: Any) -> Provider:
    """Return a known provider whose files are fetched without signatures."""
    provider = next(provider for provider in PROVIDERS if provider.name == name)
    return replace(provider, **{"access": Access()} | other)


def provider_of(layout: Layout, form: Form) -> Provider:
    """Return the provider of a layout; one that subtracts the offset, unlike the real one, has no settled rule."""
    return known(layout, settled=False) if form.subtracted else known(layout)


def tables(series: TimeSeries, folder: Path, *, without: Sequence[str] = ("cldprb",)) -> Table:
    """Return the texts of the tables that a series writes, by index, without some columns."""
    found = {}
    for path in series.to_csv(folder, overwrite=True):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        kept = [position for position, name in enumerate(rows[0]) if name not in without]
        found[path.name] = [[row[position] for position in kept] for row in rows]
    assert found
    return found


def differences(found: Table, expected: Table) -> list[tuple[list[str] | None, list[str] | None]]:
    """Return the rows that differ, as (found, expected), five at most of each table."""
    assert found.keys() == expected.keys()
    return [
        pair
        for name, rows in found.items()
        for pair in list(
            itertools.islice(
                (both for both in itertools.zip_longest(rows, expected[name]) if both[0] != both[1]),
                5,
            )
        )
    ]


def reasons(series: TimeSeries) -> list[dict[Any, Any]]:
    """Return the report, without its remarks."""
    rows = series.report.drop(columns=["error"]).astype(str)
    return sorted(map(dict, rows.to_dict("records")), key=lambda row: sorted(row.items()))


def series_of(files: ProviderFiles, library: Any, **asked: Any) -> TimeSeries:
    own = {"vectors_file": files.layer, "indices": list(INDICES), "library": library, "quiet": True}
    return TimeSeries(**own | asked)


def around(files: ProviderFiles) -> Area:
    """Return the area of the layer."""
    west, south, east, north = map(float, gpd.read_file(files.layer).total_bounds)
    return Area((west, south, east, north), "EPSG:4326")


@pytest.fixture(scope="module")
def archived(provider_files: ProviderFiles, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Tables and reports of the archive, each made once."""
    made: dict[str, tuple[Table, list[dict[Any, Any]]]] = {}

    def of(without: Sequence[str] = ("cldprb",), **asked: Any) -> tuple[Table, list[dict[Any, Any]]]:
        key = f"{without} {sorted(asked.items())}"
        if key not in made:
            series = series_of(provider_files, provider_files.library, **asked)
            made[key] = tables(series, tmp_path_factory.mktemp("archived"), without=without), reasons(series)
            assert all(len(rows) > 20 for rows in made[key][0].values())
        return made[key]

    return of


# The servers and the copies themselves


def test_the_file_server_logs_ranges_and_checks_signatures(file_server: FileServer) -> None:
    (file_server.place / "digits").write_bytes(b"0123456789")
    with file_server.watched() as requests:
        assert get(file_server.href("digits")).data == b"0123456789"
        assert get(file_server.href("digits", "signed")).status == 403
        assert get(f"{file_server.href('digits', 'signed')}?{file_server.sign(-2)}").status == 403
        assert get(f"{file_server.href('digits', 'signed')}?{file_server.sign(30)}").status == 200
    assert [(request.path, request.status, request.range) for request in requests] == [
        ("digits", 200, ""),
        ("digits", 403, ""),
        ("digits", 403, ""),
        ("digits", 200, ""),
    ]
    with file_server.troubled("location /open/digits { return 503; }"):
        assert get(file_server.href("digits")).status == 503
    assert get(file_server.href("digits")).status == 200


def test_a_search_of_the_api_is_paged_filtered_and_complete(stac_api: Api) -> None:
    first, loaded = dt.datetime.fromisoformat("2021-01-01T10:20:21"), []
    for n in range(230):
        time = first + dt.timedelta(days=n)
        name = f"S2A_MSIL2A_{time:%Y%m%dT%H%M%S}_N0509_R022_T32TPS_{time:%Y%m%dT%H%M%S}"
        west = 11.2 if n % 2 else 55.2
        outline = [[west, 46], [west + 1, 46], [west + 1, 47], [west, 47], [west, 46]]
        item = {
            "id": name,
            "type": "Feature",
            "stac_version": "1.0.0",
            "geometry": {"type": "Polygon", "coordinates": [outline]},
            "bbox": [west, 46, west + 1, 47],
            "properties": {"datetime": f"{time.isoformat()}Z", "eo:cloud_cover": n % 100},
            "links": [],
            "assets": {"red": {"href": f"{stac_api.href}/{name}/B04.tif"}},
        }
        loaded.append(item)
    stac_api.load("paged", loaded)
    both = ((11.3, 46.1, 11.4, 46.2), (55.3, 46.1, 55.4, 46.2))
    area = Area((11.3, 46.1, 55.4, 46.2), "EPSG:4326", parts=both)
    source = StacCatalogue(stac_api.href, "paged")
    before = len(stac_api.requests())
    assert source.tiles(area) == ["32TPS"]
    assert len(source.acquisitions("32TPS", area=area)) == 230
    asked = stac_api.requests()[before:]
    assert [one.partition("?")[0] for one in asked] == ["GET /", *["POST /search"] * 4]  # two pages on each side
    days = first.date() + dt.timedelta(days=10), first.date() + dt.timedelta(days=19)
    assert len(source.acquisitions("32TPS", *days, area)) == 10
    assert len(StacCatalogue(f"{stac_api.href}/collections/paged").acquisitions("32TPS", *days, area)) == 10
    few = source.again(cover=(0, 9)).search(area)
    assert len(few) == 30
    with pytest.raises(LibraryError, match=r"has no collection pages; it has .*paged"):
        StacCatalogue(stac_api.href, "pages").tiles(area)


def test_the_object_store_asks_for_signatures(object_store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "digits").write_bytes(b"0123456789")
    object_store.upload("numbers", tmp_path, below="of/")
    assert get(f"{object_store.href}/numbers/of/digits").status == 403
    signed = object_store.client().generate_presigned_url("get_object", {"Bucket": "numbers", "Key": "of/digits"})
    assert get(signed).data == b"0123456789"
    assert "GET /numbers/of/digits" in object_store.requests()


def test_copies_have_the_pixels_of_the_archive_without_the_offset(provider_files: ProviderFiles) -> None:
    for copy in provider_files.copies(Form("cog", subtracted=True))[::3]:
        for band, path in product_files(provider_files.library, copy.product).items():
            if band == "CLDPRB":
                assert band not in copy.files
                continue
            with rasterio.open(path) as original, rasterio.open(copy.files[band]) as copied:
                pixels, others = original.read(1).astype(int), copied.read(1)
            offset = 1000 if band.startswith("B") and has_offset(copy.product) else 0
            np.testing.assert_array_equal(np.where(pixels > 0, pixels - offset, 0), others)
            assert (others[pixels > 0] > 0).all()


def test_layouts_say_of_the_offset_what_they_are_told(provider_files: ProviderFiles) -> None:
    copies = provider_files.copies(Form("cog"))
    for layout in LAYOUTS:
        one, other = (items(copies, layout, str, says_subtracted=says) for says in (True, False))
        assert len({item["id"] for item in one}) == len(copies)
        differ = [left != right for left, right in zip(one, other, strict=True)]
        assert differ == [has_offset(copy.product) for copy in copies]


# The same rows as from an archive


def cases() -> Iterator[Any]:
    """Yield every layout with every truth and every saying, in turn with forms, masks and rules of pixels."""
    forms: Mapping[Layout, Sequence[Any]] = {
        "earth-search": ("cog", "cog", "jp2-tlm"),
        "planetary-computer": ("cog",),
        "cdse": ("jp2", "jp2-tlm", "cog"),
    }
    turns = {layout: itertools.cycle(forms[layout]) for layout in LAYOUTS}
    ways = itertools.cycle(itertools.product(MASKS, ("center", "weighted")))
    for layout, subtracted, says in itertools.product(LAYOUTS, (False, True), (False, True)):
        for _ in range(min(len(forms[layout]), 2)):
            form, (mask, pixels) = Form(next(turns[layout]), subtracted=subtracted), next(ways)
            name = f"{layout}-{form}-says-{'subtracted' if says else 'included'}-{mask[:5]}-{pixels}"
            yield pytest.param(layout, form, says, mask, pixels, id=name)


@pytest.mark.parametrize(("layout", "form", "says", "mask", "pixels"), list(cases()))
def test_rows_are_those_of_the_archive(
    site: Site,
    archived: Callable[..., Any],
    tmp_path: Path,
    layout: Layout,
    form: Form,
    says: bool,  # noqa: FBT001  # a parameter of the test
    mask: str,
    pixels: str,
) -> None:
    catalogue = site.catalogue(site.copies(form), layout, provider_of(layout, form), says_subtracted=says)
    series = series_of(site.files, catalogue, masks=mask, pixels=pixels)
    expected, told = archived(masks=mask, pixels=pixels)
    assert differences(tables(series, tmp_path), expected) == []
    assert reasons(series) == told


@pytest.mark.parametrize("mask", ["CM001", "CM002", "CM003-PRB40-ITER2"])
@pytest.mark.parametrize("form", [Form("cog"), Form("cog", subtracted=True), Form("jp2")], ids=str)
def test_masks_of_the_cloud_probability(
    site: Site, archived: Callable[..., Any], tmp_path: Path, mask: str, form: Form
) -> None:
    copies = site.copies(form, without=())
    layout: Layout = "earth-search" if form.format == "cog" else "cdse"
    provider = known("earth-search-c1", settled=not form.subtracted) if form.format == "cog" else known("cdse")
    series = series_of(
        site.files, site.catalogue(copies, layout, provider, says_subtracted=form.subtracted), masks=mask
    )
    expected, told = archived(without=(), masks=mask)
    assert tables(series, tmp_path, without=()) == expected  # with the column cldprb
    assert reasons(series) == told


def test_a_mask_without_its_inputs_is_refused_before_any_raster_is_read(site: Site) -> None:
    catalogue = site.catalogue(site.copies(Form("cog")), "earth-search", known("earth-search"))
    with site.server.watched() as requests, pytest.raises(RequestError, match=r"CM001.*CLDPRB.*CM004"):
        series_of(site.files, catalogue, masks="CM001").run()
    assert requests == []


def in_thread(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a thread, since rasterio sets GDAL's options for the whole process in the main one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, *arguments).result()


def test_what_lay_below_zero_is_lost_where_the_offset_was_subtracted(site: Site, tmp_path: Path) -> None:
    product = next(product for product in site.files.products if product.baseline == 400)
    safe = site.files.library / "data" / "L2A" / product.tile / f"{product}.SAFE"
    library = tmp_path / "sen2chain_data"
    shutil.copytree(safe, library / "data" / "L2A" / product.tile / safe.name)
    band = product_files(library, product)["B04"]
    with rasterio.open(band) as raster:
        pixels, profile = raster.read(1), raster.profile
    low = (pixels > 0) & (np.arange(pixels.shape[1]) % 7 == 0) & (pixels < np.quantile(pixels, 0.7))
    pixels[low] = 985
    in_thread(write_copy, band, pixels, profile, "jp2")
    series = {"archive": series_of(site.files, library, masks="CM004", indices=["NDVI"])}
    for subtracted in (False, True):
        form = Form("cog", subtracted=subtracted)
        copies = [copy for copy in site.own_copies(form) if copy.product == product]
        copies[0].files["B04"].unlink()
        numbers = np.maximum(pixels, 1000) - 1000 if subtracted else pixels
        in_thread(write_copy, copies[0].files["B04"], numbers.astype(np.uint16), profile, "cog")
        catalogue = site.catalogue(copies, "earth-search", known("earth-search"), says_subtracted=subtracted)
        series[str(subtracted)] = series_of(site.files, catalogue, masks="CM004", indices=["NDVI"])
    expected = tables(series["archive"], tmp_path / "archive")
    assert differences(tables(series["False"], tmp_path / "included"), expected) == []
    kept, lost = (one.data["NDVI"].set_index("fid") for one in (series["archive"], series["True"]))
    # Pixels of negative reflectance count as 0 in an archive; here they are the value of pixels without data.
    assert (lost["count"] < kept["count"]).any()
    assert (lost["nodata"] - kept["nodata"] == kept["count"] - lost["count"]).all()
    assert (lost["nbcld"] <= kept["nbcld"]).all()  # of the pixels that have a value
    assert (kept["max"] == 10000).any()
    assert (lost["max"] < 10000).all()
    assert (lost["min"] == kept["min"]).all()


def test_an_offset_that_cannot_be_told_is_a_reason(site: Site) -> None:
    form = Form("cog", subtracted=True)
    copies = [copy for copy in site.own_copies(form) if copy.product.baseline == 400]
    for copy in copies:  # clouds as far as one sees
        for band in ("B04", "B08", "B11"):
            with rasterio.open(copy.files[band]) as raster:
                pixels, profile = raster.read(1), raster.profile
            copy.files[band].unlink()
            in_thread(write_copy, copy.files[band], np.maximum(pixels, 4000), profile, "cog")
    contradicted = site.catalogue(copies, "earth-search", known("earth-search"), says_subtracted=False)
    report = series_of(site.files, contradicted, masks="none").report
    assert set(report["rows"]) == {0}
    assert (report["unreadable"] > 0).all()
    assert report["error"].str.contains("offset").all()
    agreed = site.catalogue(copies, "earth-search", known("earth-search"), says_subtracted=True)
    assert (series_of(site.files, agreed, masks="none").report["rows"] > 0).any()


# What is read


def blocks_of(copy: Copy, band: str, layer: Path, fids: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of the file's blocks that chosen features touch: (first byte, byte behind the last)."""
    features = gpd.read_file(layer).iloc[list(fids)]
    with rasterio.open(copy.files[band]) as raster:
        shapes = features.to_crs(raster.crs).geometry
        touched = rasterio.features.rasterize(
            shapes, out_shape=raster.shape, transform=raster.transform, all_touched=True
        )
        ranges = []
        for (row, column), window in raster.block_windows(1):
            if touched[window.toslices()].any():
                begin, length = (
                    int(raster.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1))
                    for what in ("OFFSET", "SIZE")
                )
                ranges.append((begin, begin + length))
    return ranges


def strays(requests: Iterable[Request], wanted: Iterable[tuple[int, int]]) -> list[Request]:
    """Return the requests for bytes that lie neither in the beginning of the file nor in wanted blocks.

    Short gaps between two blocks are read with them, and each block has eight bytes around it.
    """
    near = [(begin - 1024 - 8, end + 1024 + 8) for begin, end in (*wanted, (0, 1 << 15))]

    def covered(request: Request) -> bool:
        at, end = request.bounds
        while at < end:
            reach = max((stop for start, stop in near if start <= at), default=at)
            if reach <= at:
                return False
            at = reach
        return True

    return [request for request in requests if not covered(request)]


def test_only_blocks_with_features_are_read(site: Site, tmp_path: Path) -> None:
    copies = site.own_copies(Form("cog"))
    layer = tmp_path / "few.gpkg"
    every = gpd.read_file(site.files.layer)
    every.iloc[[2, 9]].to_file(layer, engine="pyogrio")
    catalogue = site.catalogue(copies, "planetary-computer", known("planetary-computer"))
    with site.server.watched() as requests:
        series = series_of(site.files, catalogue, vectors_file=layer, masks="none", indices=["NDVI"])
        assert set(series.data["NDVI"]["fid"]) == {0, 1}
    for copy in copies:
        for band, path in copy.files.items():
            mine = [request for request in requests if site.server.place / request.path == path]
            if band in {"B04", "B08"}:
                wanted = blocks_of(copy, band, layer, (0, 1))
                assert mine
                assert len(wanted) < 9
                assert strays(mine, wanted) == []
            else:
                assert mine == []
    elsewhere = tmp_path / "elsewhere.gpkg"
    every.set_geometry(every.translate(3, 0)).to_file(elsewhere, engine="pyogrio")
    with site.server.watched() as requests:
        assert len(series_of(site.files, catalogue, vectors_file=elsewhere, masks="none").data["NDVI"]) == 0
    assert requests == []


def test_what_only_masked_features_touch_is_not_read(site: Site) -> None:
    copy = site.own_copies(Form("cog"))[0]
    with rasterio.open(copy.files["SCL"]) as raster:
        classes, profile = raster.read(1), raster.profile
    classes[:, : classes.shape[1] * 3 // 5] = 9  # clouds over the west
    copy.files["SCL"].unlink()
    in_thread(write_copy, copy.files["SCL"], classes, profile, "cog")
    catalogue = site.catalogue([copy], "planetary-computer", known("planetary-computer"))
    with site.server.watched() as requests:
        rows = series_of(site.files, catalogue, masks="CM004", indices=["NDVI"]).data["NDVI"]
    wanted = blocks_of(copy, "B08", site.files.layer, rows["fid"])
    assert 0 < len(wanted) < len(blocks_of(copy, "B08", site.files.layer, range(14)))
    asked = [request for request in requests if site.server.place / request.path == copy.files["B08"]]
    assert asked
    assert strays(asked, wanted) == []


# Updates


def compil_of(site: Site, catalogue: StacCatalogue, folder: Path) -> TimeSeriesCompil:
    asked: dict[str, Any] = {"cm_version": "CM004", "iterations": 1, "library": catalogue, "extraction": folder}
    return TimeSeriesCompil(site.files.layer, list(INDICES), quiet=True, **asked)


def update(site: Site, catalogue: StacCatalogue, folder: Path) -> tuple[Any, list[Request]]:
    """Extract what is new into a folder, and return what was done and the requests for files."""
    with site.server.watched() as requests:
        done = compil_of(site, catalogue, folder).extract_data()
    return done, requests


@pytest.mark.parametrize(("layout", "form"), [("earth-search", Form("cog")), ("cdse", Form("jp2-tlm"))], ids=str)
def test_pixels_of_files_on_servers_are_kept(site: Site, tmp_path: Path, layout: Layout, form: Form) -> None:
    copies = {str(copy.product): copy for copy in site.copies(form)}
    catalogue = site.catalogue(copies.values(), layout, provider_of(layout, form))

    def ask(name: str, **options: Any) -> tuple[Any, list[Request]]:
        asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["CM004"], "extraction": tmp_path / name, **options}
        with site.server.watched() as requests:
            done = TimeSeriesCompil(site.files.layer, library=catalogue, quiet=True, **asked).extract_data()
        return done, requests

    plain, without = ask("plain")
    done, requests = ask("kept", keep_pixels=True)
    assert (done.rows, done.images, done.pixels) == (plain.rows, plain.images, done.acquisitions)
    # The margin of SCL comes with what masks need.
    assert len(requests) <= 1.2 * len(without)
    assert ask("kept", keep_pixels=True)[1] == []
    (folder,) = ExtractionFolder.all_in(tmp_path / "kept")
    with ImageLedger(folder.ledger, read_only=True) as ledger:
        entries = KeptCatalogue(ledger).entries()
    assert entries.keys() == copies.keys()
    for product, entry in entries.items():
        assert set(entry.rasters) == {"B04", "B08", "SCL"}
        with PixelFile.open(entry.path(folder)) as file:
            for band in entry.rasters:
                values, present = file.read(band)
                here = np.ones(len(values), np.bool_) if present is None else present
                with rasterio.open(copies[product].files[band]) as source:
                    want = source.read(1)[file.positions_of(band).coordinates()]
                np.testing.assert_array_equal(values[here], want[here])


def test_updates_read_what_is_new_and_what_was_reprocessed(site: Site, tmp_path: Path) -> None:
    copies = site.own_copies(Form("cog"))
    collection = site.publish(copies[:-1], "earth-search")
    catalogue = StacCatalogue(site.api.href, collection, provider=known("earth-search"))
    series = compil_of(site, catalogue, tmp_path / "extraction")

    def ask() -> tuple[Any, set[str]]:
        with site.server.watched() as requests:
            done = series.extract_data()
        return done, {request.path.split("/")[1] for request in requests}

    done, read = ask()
    assert done.acquisitions == 7
    assert read == {str(copy.product) for copy in copies[:-1]}
    done, read = ask()
    assert (done.images, done.empty, read) == (0, 0, set())
    # A new item.
    site.api.load(collection, items(copies[-1:], "earth-search", site.href, says_subtracted=False))
    done, read = ask()
    assert done.acquisitions == 1
    assert read == {str(copies[-1].product)}
    # An item that changed: its file has other pixels.
    path = copies[0].files["B08"]
    path.unlink()
    shutil.copy(copies[1].files["B08"], path)
    again = items(copies[:1], "earth-search", site.href, says_subtracted=False, updated="2024-07-01T00:00:00Z")
    site.api.load(collection, again)
    done, read = ask()
    assert done.acquisitions == 1
    assert read == {str(copies[0].product)}
    # The same product in a newer baseline: both are there, and the newer one counts.
    newer = replace(copies[2].product, baseline=511, generation="20240601T000000")
    folder = path.parent.parent / str(newer)
    shutil.copytree(copies[2].files["B04"].parent, folder, copy_function=os.link)
    [item] = items([copy_in(folder.parent, newer, ("CLDPRB",))], "earth-search", site.href, says_subtracted=False)
    site.api.load(collection, [item | {"id": item["id"].replace("_0_L2A", "_1_L2A")}])
    done, read = ask()
    assert done.acquisitions == 1
    assert read == {str(newer)}
    done, read = ask()
    assert (done.images, done.empty, read) == (0, 0, set())
    # A folder that is extracted at once has the same rows.
    other = compil_of(site, catalogue.again(), tmp_path / "other")
    other.extract_data()
    texts = [
        {path.name: path.read_bytes() for path in one.compile_data(alldata=True).files if path.suffix == ".csv"}
        for one in (series, other)
    ]
    assert len(texts[0]) == len(INDICES)
    assert texts[0] == texts[1]
    assert str(newer).encode() in b"".join(texts[0].values())


# Trouble


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for the pauses between repetitions."""
    monkeypatch.setattr(transfer, "patience", transfer.Patience((0.01, 0.02, 0.04), longest=0.5))
    monkeypatch.setattr(api_pages, "_PAUSES", (0.01,) * len(api_pages._PAUSES))


def failed(series: TimeSeries) -> dict[str, str]:
    """Return the products that could not be read, with the sentence that says why."""
    report = series.report
    bad = report[report["unreadable"] > 0]
    return dict(zip(bad["acquisition"], bad["error"], strict=True))


def without(rows: Table, products: Iterable[str]) -> Table:
    """Return tables without the rows of some products."""
    gone = tuple(products)
    position = {name: table[0].index("filename") for name, table in rows.items()}
    return {name: [row for row in table if not row[position[name]].startswith(gone)] for name, table in rows.items()}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", ["removed", "503", "403"])
def test_a_file_that_cannot_be_read_is_a_reason_and_is_tried_again(site: Site, tmp_path: Path, trouble: str) -> None:
    copies = [copy for copy in site.own_copies(Form("cog")) if copy.product.tile == "31TGJ"]
    catalogue = site.catalogue(copies, "earth-search", known("earth-search"))
    bad = copies[1].files["B08"]
    place = bad.relative_to(site.server.place)
    ask: dict[str, Any] = {"masks": "CM004"}
    whole = tables(series_of(site.files, catalogue, **ask), tmp_path / "whole")
    aside = tmp_path / "aside"
    with contextlib.ExitStack() as stack:
        if trouble == "removed":
            bad.rename(aside)
        else:
            stack.enter_context(site.server.troubled(f"location = /open/{place} {{ return {trouble}; }}"))
        series = series_of(site.files, catalogue, **ask)
        assert tables(series, tmp_path / "some") == without(whole, [str(copies[1].product)])
        [(name, sentence)] = failed(series).items()
        done, _ = update(site, catalogue, tmp_path / "extraction")
    assert name == str(copies[1].product)
    assert site.href(bad) in sentence
    assert {"removed": "404", "503": "503 four times", "403": "403"}[trouble] in sentence
    assert (done.acquisitions, done.failed) == (len(copies), len(INDICES))
    if trouble == "removed":
        aside.rename(bad)
    again, requests = update(site, catalogue, tmp_path / "extraction")
    assert (again.acquisitions, again.failed) == (1, 0)
    assert {request.path.split("/")[1] for request in requests} == {str(copies[1].product)}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", ["removed", "replaced"])
def test_a_file_that_goes_or_changes_while_it_is_read_is_a_reason(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    copies = [copy for copy in site.own_copies(Form("cog")) if copy.product.baseline < 400]
    bad, other = copies[0].files["B08"], copies[1].files["B08"]
    provider = known("planetary-computer")
    others = site.catalogue(copies[1:], "planetary-computer", provider)
    expected = tables(series_of(site.files, others, masks="none"), tmp_path / "others")
    catalogue = site.catalogue(copies, "planetary-computer", provider)
    part = transfer.FileRequests.part

    def then(requests: Any, start: int, *more: Any) -> Any:
        found = part(requests, start, *more)
        if requests._location == site.href(bad) and start == 0:
            bad.unlink()
            if trouble == "replaced":
                shutil.copy(other, bad)
        return found

    monkeypatch.setattr(transfer.FileRequests, "part", then)
    series = series_of(site.files, catalogue, masks="none")
    assert differences(tables(series, tmp_path / "some"), expected) == []
    [(name, sentence)] = failed(series).items()
    assert name == str(copies[0].product)
    assert site.href(bad) in sentence
    assert ("404" if trouble == "removed" else "changed") in sentence


def test_a_server_that_limits_requests_is_waited_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "patience", transfer.Patience((0.05,) * 30, longest=1.0))
    copies = [copy for copy in site.own_copies(Form("cog")) if copy.product.tile == "31TGJ"]
    catalogue = site.catalogue(copies, "earth-search", known("earth-search"))
    whole = tables(series_of(site.files, catalogue, masks="CM004"), tmp_path / "whole")
    place = copies[0].files["SCL"].relative_to(site.server.place).parts[0]
    limit = f"""location /open/{place}/ {{
        limit_req zone=slow burst=2 nodelay; limit_req_status 429; add_header Retry-After 0 always;
        alias {site.server.place / place}/;
    }}"""
    with site.server.troubled(limit), site.server.watched() as requests:
        assert tables(series_of(site.files, catalogue, masks="CM004"), tmp_path / "limited") == whole
    assert {request.status for request in requests} == {206, 429}


@pytest.mark.parametrize("executor", ["threads", "serial"])
def test_an_interrupted_run_does_not_wait_for_a_slow_server(
    site: Site, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    copies = site.own_copies(Form("cog"))[:3]
    catalogue = site.catalogue(copies, "cdse", known("cdse"))
    own = copies[0].files["SCL"].relative_to(site.server.place).parts[0]
    part, begun = transfer.FileRequests.part, list[float]()

    def then(requests: Any, start: int, *more: Any) -> Any:
        if start > 0 and not begun:
            begun.append(time.monotonic())
            threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        return part(requests, start, *more)

    monkeypatch.setattr(transfer.FileRequests, "part", then)
    slow = f"location /open/{own}/ {{ limit_rate_after 16k; limit_rate 2k; alias {site.server.place / own}/; }}"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what they start with & ignore it
    try:
        with site.server.troubled(slow):
            with pytest.raises(KeyboardInterrupt):
                series_of(site.files, catalogue, masks="none", executor=executor).run()
            assert time.monotonic() - begun[0] < 4
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("impatient")
def test_an_api_that_is_gone_between_two_pages_gives_no_rows(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_pages, "PAGE", 3)
    catalogue = site.catalogue(site.copies(Form("cog")), "earth-search", known("earth-search"))
    whole, _ = update(site, catalogue, tmp_path / "extraction")
    assert whole.acquisitions == 8
    send, sent = api_pages.ApiSearch._send, []

    def then(search: Any, *asked: Any) -> Any:
        answer = send(search, *asked)
        sent.append(asked)
        if len(sent) == 2:
            site.api.stop()
        return answer

    monkeypatch.setattr(api_pages.ApiSearch, "_send", then)
    try:
        with pytest.raises(LibraryError, match=f"{site.api.href} cannot be read"), site.server.watched() as requests:
            series_of(site.files, catalogue.again()).run()
        assert requests == []
        with pytest.raises(LibraryError):
            update(site, catalogue.again(), tmp_path / "extraction")
    finally:
        monkeypatch.undo()
        if site.api._process is None:
            site.api.start()
    done, _ = update(site, catalogue.again(), tmp_path / "extraction")
    assert (done.images, done.empty, done.lost) == (0, 0, 0)


def test_other_hosts_are_read_where_they_are_allowed(site: Site, archived: Callable[..., Any], tmp_path: Path) -> None:
    def elsewhere(path: Path) -> str:
        return site.href(path).replace("127.0.0.1", "localhost")

    collection = site.publish(site.copies(Form("cog")), "planetary-computer", href=elsewhere)
    where = site.api.href, collection
    with site.server.watched() as requests:
        refused = series_of(site.files, StacCatalogue(*where, provider=known("planetary-computer")), masks="CM004")
        text = " ".join((*refused.notes, *refused.report["error"]))
    assert requests == []
    assert "allow it with --stac-allow localhost" in text
    allowed = StacCatalogue(*where, provider=known("planetary-computer"), allow=["localhost"])
    expected, _ = archived(masks="CM004", pixels="center")
    assert tables(series_of(site.files, allowed, masks="CM004", pixels="center"), tmp_path) == expected


# Signatures


def no_secrets(folders: Iterable[Path], texts: Iterable[str], secrets: Iterable[str]) -> None:
    """Check that no file and no text holds a secret."""
    words = [secret for secret in secrets if secret]
    assert words
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                if path.suffix == ".parquet":
                    data += str(pq.read_table(path).to_pylist()).encode() + str(pq.read_schema(path).metadata).encode()
                found = [word for word in words if word.encode() in data]
                assert not found, path
    for text in texts:
        assert not any(word in text for word in words), text


def written(series: TimeSeries, folder: Path) -> Table:
    """Write all results of a series into a folder and return its tables."""
    found = tables(series, folder)
    series.to_geoparquet(folder)
    series.report_to_csv(folder / "report.csv")
    (folder / "more.txt").write_text(f"{series.notes} {series!r} {series.report.to_dict('records')}", encoding="utf-8")
    return found


@pytest.mark.parametrize("told", [None, 3600], ids=["told", "not-told"])
def test_tokens_that_end_during_the_run_are_renewed_and_never_shown(
    site: Site,
    archived: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: float | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    copies = site.own_copies(Form("cog"))
    provider = known("planetary-computer", access=Access(signing="planetary-computer"))
    catalogue = site.catalogue(copies, "planetary-computer", provider, href=lambda path: site.href(path, "signed"))
    own = copies[0].files["B04"].relative_to(site.server.place).parts[0]
    slow = f"""location /signed/{own}/ {{
      {site.server.signed_location()}
      limit_rate 50k;
      alias {site.server.place / own}/;
    }}"""
    with TokenServer(site.server, 1, told) as tokens, site.server.troubled(slow), site.server.watched() as requests:
        monkeypatch.setenv("PC_SDK_SAS_URL", tokens.href)
        found = written(series_of(site.files, catalogue, masks="CM004", multiproc=2), tmp_path / "out")
    assert differences(found, archived(masks="CM004")[0]) == []
    assert set(tokens.asked) == {f"/api/sas/v1/token/signed/{own}"}
    assert len(set(tokens.given)) > 1
    assert {request.status for request in requests} == ({206} if told is None else {206, 403})
    no_secrets(
        [tmp_path, Path(os.environ["SEN2CHAIN_CACHE"])],
        [caplog.text],
        [parse_qs(token)["sig"][0] for token in tokens.given],
    )


def test_signatures_that_came_with_hrefs_are_used_and_never_shown(
    site: Site, archived: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = site.server.sign(60)

    def signed(path: Path) -> str:
        return f"{site.href(path, 'signed')}?{token}"

    copies = site.copies(Form("jp2-tlm"))
    catalogue = site.catalogue(copies, "cdse", known("cdse"), href=signed)
    found = written(series_of(site.files, catalogue, masks="CM004"), tmp_path / "out")
    assert differences(found, archived(masks="CM004")[0]) == []
    ended = site.catalogue(copies, "cdse", known("cdse"), href=lambda path: signed(path) + "x")
    refused = series_of(site.files, ended, masks="CM004")
    assert len(failed(refused)) == len(copies)
    assert len(refused.to_csv(tmp_path / "refused")) == len(INDICES)
    refused.report_to_csv(tmp_path / "refused" / "report.csv")
    done, _ = update(site, ended, tmp_path / "extraction")
    assert done.failed == len(copies) * len(INDICES)
    save_items(catalogue.search(around(site.files), None, None), tmp_path / "items.parquet")
    cache = Path(os.environ["SEN2CHAIN_CACHE"])
    no_secrets([tmp_path, cache], [caplog.text, str(failed(refused))], [parse_qs(token)["sig"][0]])


def test_files_in_an_object_store_are_read_with_the_keys_of_the_environment(
    site: Site,
    object_store: ObjectStore,
    archived: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    form = Form("jp2")
    copies = site.copies(form)
    root = site.files.folder / str(form)
    object_store.upload("eodata", root, below="Sentinel-2/")
    caplog.set_level(logging.DEBUG)
    collection = site.publish(
        copies, "cdse", href=lambda path: f"s3://eodata/Sentinel-2/{path.relative_to(root).as_posix()}"
    )

    def catalogue(region: str) -> StacCatalogue:
        access = Access(signing="s3", endpoint=object_store.href, region=region, allowed=("s3://eodata",))
        return StacCatalogue(site.api.href, collection, provider=known("cdse", access=access))

    # Keys are looked up once for each service and region.
    refused = series_of(site.files, catalogue("eu-west-1"), masks="CM004")
    assert len(failed(refused)) == len(copies)
    assert all("403" in sentence for sentence in failed(refused).values())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    found = written(series_of(site.files, catalogue("us-east-1"), masks="CM004"), tmp_path / "out")
    assert differences(found, archived(masks="CM004")[0]) == []
    no_secrets([tmp_path, Path(os.environ["SEN2CHAIN_CACHE"])], [caplog.text], [S3_KEY, S3_SECRET])
    asked = [request for request in object_store.requests() if request.startswith("GET /eodata/")]
    assert len(asked) > len(copies)
    assert not any("?" in request for request in asked)  # keys and signatures are in headers


# Other forms of a catalogue


def test_catalogues_in_an_object_store(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store.href)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = "S2A_MSIL2A_20230701T101031_N0509_R022_T32TPS_20230701T200058"
    item = {
        "type": "Feature",
        "id": name,
        "properties": {"datetime": "2023-07-01T10:10:31Z"},
        "assets": {"red": {"href": "files/B04.tif"}, "nir": {"href": "s3://other/B08.tif"}},
    }
    collection = {"type": "FeatureCollection", "features": [item]}
    catalog = {"type": "Catalog", "links": [{"rel": "item", "href": "item.json"}]}
    for file, document in (("items", collection), ("item", item), ("catalog", catalog)):
        (tmp_path / f"{file}.json").write_text(json.dumps(document), encoding="utf-8")
    save_items([item], tmp_path / "items.parquet")
    object_store.upload("listed", tmp_path)
    for file in ("items.json", "items.parquet", "catalog.json", "item.json"):
        closed = StacCatalogue(f"s3://listed/{file}")
        assert closed.tiles() == []
        assert "points to another bucket" in closed.skipped()[0].detail
        (one,) = StacCatalogue(f"s3://listed/{file}", allow="s3://other").acquisitions("32TPS")
        assert one.bands == {"B04": "s3://listed/files/B04.tif", "B08": "s3://other/B08.tif"}


def test_saved_items_give_the_same_rows_without_a_search(
    site: Site, archived: Callable[..., Any], tmp_path: Path
) -> None:
    copies = site.copies(Form("cog"))
    catalogue = site.catalogue(copies, "planetary-computer", known("planetary-computer"))
    saved = save_items(catalogue.search(around(site.files), None, None), tmp_path / "items.parquet")
    assert (saved.new, saved.total) == (len(copies), len(copies))
    before = site.api.requests()
    places = [tmp_path / "items.parquet"]
    described = items(copies, "planetary-computer", site.href, says_subtracted=False)
    collection = {"type": "FeatureCollection", "features": described}
    places.append(tmp_path / "items.json")
    places[-1].write_text(json.dumps(collection), encoding="utf-8")
    expected, _ = archived(masks="CM004")
    for number, place in enumerate(places):
        series = series_of(site.files, StacCatalogue(place, provider=known("planetary-computer")), masks="CM004")
        assert differences(tables(series, tmp_path / str(number)), expected) == []
    assert site.api.requests() == before


def test_a_static_catalogue_on_the_file_server(site: Site, archived: Callable[..., Any], tmp_path: Path) -> None:
    copies = site.own_copies(Form("cog"))
    folder = copies[0].files["SCL"].parent.parent
    described = items(
        copies, "planetary-computer", lambda path: f"../{path.parent.name}/{path.name}", says_subtracted=False
    )
    (folder / "items").mkdir()
    for item in described:
        (folder / "items" / f"{item['id']}.json").write_text(json.dumps(item), encoding="utf-8")
    catalogue = {
        "type": "Catalog",
        "id": "static",
        "stac_version": "1.0.0",
        "description": "Items of a test.",
        "links": [{"rel": "item", "href": f"./items/{item['id']}.json"} for item in described],
    }
    (folder / "catalog.json").write_text(json.dumps(catalogue), encoding="utf-8")
    source = StacCatalogue(site.href(folder / "catalog.json"), provider=known("planetary-computer"))
    expected, _ = archived(masks="CM004")
    assert differences(tables(series_of(site.files, source, masks="CM004"), tmp_path), expected) == []


def test_a_job_on_a_catalogue_reads_what_is_new(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = site.own_copies(Form("cog"))
    name = site.publish(copies[:-1], "cdse")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "home"))
    job = JobExtraction("parcels")
    job.path.parent.mkdir(parents=True)
    head = f"library = stac:{site.api.href}\ncollection = {name}\n"
    cells = {
        "shapefile": str(site.files.layer),
        "date_max": "2022-12-31",
        "cloudmasks": "CM004",
        "indices": "NDVI",
        "compiled_data": "all",
    }
    row = ";".join(cells.get(column, "") for column in COLUMNS)
    job.path.write_text(f"{head}{';'.join(COLUMNS)}\n{row}\n", encoding="utf-8")

    def run() -> tuple[Any, set[str]]:
        with site.server.watched() as requests:
            done = JobExtraction("parcels").run(quiet=True, pauses=())
        assert done.status == "done", done
        return done, {request.path.split("/")[1] for request in requests}

    done, read = run()
    assert done.rows > 20
    assert read == {str(copy.product) for copy in copies[:-1]}
    done, read = run()
    assert (done.rows, read) == (0, set())
    site.api.load(name, items(copies[-1:], "cdse", site.href, says_subtracted=False))
    done, read = run()
    assert read == {str(copies[-1].product)}
