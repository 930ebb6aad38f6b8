"""Requests and bytes of a run over remote files: counted by a server, judged by numpy and GDAL's own tags."""

from __future__ import annotations

import math
import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.shutil import copy

from sen2chain import TimeSeries, TimeSeriesCompil, remote
from sen2chain.archive import MemorySource
from sen2chain.errors import UnreadableError
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry, Reading
from sen2chain.remote import Access
from sen2chain.sensor import SENTINEL2
from troubled_server import Trouble, TroubledServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stac_servers import FileServer

    Array = np.ndarray[Any, Any]

EDGE, BLOCK = 1536, 256
LEFT, TOP, EPSG = 600_000, 5_100_000, 32632
BANDS = {"B04": 10, "B08": 10, "B11": 20, "SCL": 20}
HEADER = 1 << 14
"""Bytes that are asked for at first of each file."""
PRODUCT = ProductId.parse("S2A_MSIL2A_20230501T102030_N0509_R022_T32TPS_20230501T120000")
CLOUDY = slice(0, 384)
"""Rows of SCL that are cloud: those of the upper half."""


@dataclass(frozen=True)
class Made:
    """Files of one acquisition in three forms, and parcels on them."""

    folder: Path
    parcels: gpd.GeoDataFrame

    def path(self, form: str, band: str) -> Path:
        return self.folder / f"{form}_{band}.{'tif' if form == 'cog' else 'jp2'}"

    def touched(self, band: str, parcels: gpd.GeoDataFrame | None = None) -> Array:
        """Return (block rows, block columns) of bool: where the centre of a pixel of 10 m lies in a parcel."""
        shapes = (self.parcels if parcels is None else parcels).geometry
        burnt = rasterize(shapes, (EDGE, EDGE), transform=Affine(10, 0, LEFT, 0, -10, TOP), default_value=1)
        size = BLOCK * BANDS[band] // 10
        return np.asarray(burnt.reshape(EDGE // size, size, EDGE // size, size).any(axis=(1, 3)))

    def block_bytes(self, band: str, touched: Array) -> int:
        """Return the bytes of blocks of a GeoTIFF, as GDAL tells them."""
        with rasterio.open(self.path("cog", band)) as dataset:
            return sum(
                int(dataset.get_tag_item(f"BLOCK_SIZE_{j}_{i}", "TIFF", bidx=1)) for i, j in np.argwhere(touched)
            )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(1)
    for band, size in BANDS.items():
        edge = EDGE * 10 // size
        pixels = generator.integers(1100, 5000, (edge, edge)).astype(np.uint16)
        if band == "SCL":
            pixels = np.full((edge, edge), 4, np.uint8)
            pixels[CLOUDY] = 9
        profile = {"count": 1, "height": edge, "width": edge, "dtype": pixels.dtype, "crs": f"EPSG:{EPSG}"}
        profile |= {"transform": Affine(size, 0, LEFT, 0, -size, TOP)}
        plain = folder / "plain.tif"
        with rasterio.open(plain, "w", driver="GTiff", **profile) as dataset:
            dataset.write(pixels, 1)
        copy(plain, folder / f"cog_{band}.tif", driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=BLOCK)
        jpeg = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "BLOCKXSIZE": BLOCK, "BLOCKYSIZE": BLOCK}
        copy(plain, folder / f"tlm_{band}.jp2", TLM="YES", **jpeg)
        copy(plain, folder / f"walk_{band}.jp2", **jpeg)
    x, y = generator.uniform(100, 10 * EDGE - 100, (2, 18))
    x[:4], y[:4] = 10 * EDGE + 500, 300  # east of the raster, on the same tile
    parcels = shapely.box(LEFT + x - 60, TOP - y - 60, LEFT + x + 60, TOP - y + 60)
    return Made(folder, gpd.GeoDataFrame({"n": range(len(x))}, geometry=parcels, crs=EPSG))


@pytest.fixture
def server(made: Made) -> Iterator[TroubledServer]:
    with TroubledServer(folder=made.folder) as found:
        yield found


def run(made: Made, form: str, root: str, **options: Any) -> TimeSeries:
    """Extract NDVI and NDWIGAO of one acquisition."""
    where = {band: f"{root}/{made.path(form, band).name}" for band in BANDS}
    radiometry = Radiometry(10_000.0, dict.fromkeys((band.name for band in SENTINEL2.bands), -1000.0))
    reading = Reading(access=Access(), at_once=4) if "://" in root else Reading()
    source = MemorySource([Acquisition(PRODUCT, KnownDetails(radiometry), where)], reading=reading)
    wanted: dict[str, Any] = {"masks": ["none"], "quiet": True, "name": "parcels"} | options
    return TimeSeries(made.parcels, ["NDVI", "NDWIGAO"], library=source, **wanted).run()


def rows(series: TimeSeries) -> str:
    return "\n".join(frame.to_csv() for _, frame in sorted(series.data.items()))


def asked(server: TroubledServer, made: Made, form: str, band: str) -> list[tuple[int, int]]:
    return server.ranges(f"/{made.path(form, band).name}")


def test_a_geotiff_is_asked_for_its_header_and_for_touched_blocks(made: Made, server: TroubledServer) -> None:
    found = run(made, "cog", server.url)
    assert rows(found) == rows(run(made, "cog", str(made.folder)))
    assert found.data["NDVI"]["fid"].nunique() == 14
    for band in ("B04", "B08"):
        ranges, touched = asked(server, made, "cog", band), made.touched(band)
        assert 0 < touched.sum() < 0.75 * touched.size
        assert len(ranges) <= touched.sum() + 2
        fetched = sum(min(length, made.path("cog", band).stat().st_size) for _, length in ranges)
        assert fetched <= 1.1 * made.block_bytes(band, touched) + HEADER
    # Bilinear interpolation of 20 m needs neighbours, which may lie in a further block.
    assert len(asked(server, made, "cog", "B11")) <= 9 + 2
    assert asked(server, made, "cog", "SCL") == []


@pytest.mark.parametrize("form", ["cog", "tlm"])
def test_the_estimate_is_what_is_asked_for(made: Made, server: TroubledServer, form: str) -> None:
    found = run(made, form, server.url)
    entries = [entry for entry in server.log if entry.first is not None]
    requests, fetched = len(entries), sum(entry.sent for entry in entries)
    estimate = found.estimate()
    assert 0.85 * requests <= estimate.requests <= 1.2 * requests
    assert 0.9 * fetched <= estimate.fetched <= 1.1 * fetched
    assert f"{estimate.requests} requests to servers for" in str(estimate)
    assert run(made, form, str(made.folder)).estimate().requests == 0


def test_what_only_masked_features_touch_is_not_asked_for(made: Made, server: TroubledServer) -> None:
    found = run(made, "cog", server.url, masks=["CM004"])
    assert rows(found) == rows(run(made, "cog", str(made.folder), masks=["CM004"]))
    clear = made.parcels[made.parcels.geometry.bounds["miny"] < TOP - 10 * EDGE / 2 + 100]
    for band in ("B04", "B08"):
        ranges, touched = asked(server, made, "cog", band), made.touched(band, clear)
        assert len(ranges) <= touched.sum() + 2 < made.touched(band).sum()
        fetched = sum(min(length, made.path("cog", band).stat().st_size) for _, length in ranges)
        assert fetched <= 1.1 * made.block_bytes(band, touched) + HEADER


def test_a_jpeg_2000_with_lengths_is_asked_for_touched_tiles(made: Made, server: TroubledServer) -> None:
    found = run(made, "tlm", server.url)
    assert rows(found) == rows(run(made, "tlm", str(made.folder))) == rows(run(made, "cog", str(made.folder)))
    for band in ("B04", "B08"):
        ranges, touched = asked(server, made, "tlm", band), made.touched(band)
        assert len(ranges) <= touched.sum() + 3
        of_tile = made.path("tlm", band).stat().st_size / touched.size
        assert sum(length for _, length in ranges) <= 1.1 * of_tile * touched.sum()


def test_a_jpeg_2000_without_lengths_is_walked_over_once(
    made: Made, server: TroubledServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path))
    expected = rows(run(made, "cog", str(made.folder)))
    tiles = (EDGE // BLOCK) ** 2
    assert rows(run(made, "walk", server.url)) == expected
    of_tile = made.path("walk", "B04").stat().st_size / tiles
    touched = int(made.touched("B04").sum())
    ranges = asked(server, made, "walk", "B04")
    walked = [length for _, length in ranges if length < 100]
    assert 0 < len(walked) <= tiles
    assert len(ranges) - len(walked) <= touched + 3
    assert sum(length for _, length in ranges) <= 1.1 * of_tile * touched
    server.log.clear()
    assert rows(run(made, "walk", server.url)) == expected
    again = asked(server, made, "walk", "B04")
    assert [length for _, length in again if length < 100] == []
    assert len(again) <= touched + 3


def test_all_assets_are_asked_for_at_the_same_time(made: Made) -> None:
    with TroubledServer(folder=made.folder, latency=0.05) as server:
        run(made, "cog", server.url, masks=["CM004"])
        assert server.most_at_once >= 4


@pytest.mark.parametrize("form", ["cog", "tlm"])
def test_a_raster_that_fails_for_good_is_a_reason_of_its_outputs_alone(
    made: Made, server: TroubledServer, form: str
) -> None:
    name = made.path(form, "B11").name
    server.answers[f"/{name}"] = lambda request: Trouble(404) if (request.first or 0) >= HEADER else None
    found = run(made, form, server.url)
    report = found.report
    broken = report[report["index"] == "NDWIGAO"]
    assert broken["rows"].sum() == 0
    assert broken["unreadable"].sum() > 0
    assert name in broken["error"].iloc[0]
    assert report[report["index"] == "NDVI"]["rows"].sum() == 14


def test_a_file_in_a_form_for_gdal_alone_is_fetched_as_a_whole(
    made: Made, server: TroubledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "off")
    assert rows(run(made, "tlm", server.url)) == rows(run(made, "cog", str(made.folder)))
    size = made.path("tlm", "B04").stat().st_size
    ranges = asked(server, made, "tlm", "B04")
    assert sum(min(length, size - first) for first, length in ranges) == size
    assert len(ranges) <= 1 + math.ceil(size / (8 << 20))


def test_what_was_decoded_is_not_held(made: Made, server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[remote.RemoteFile] = []
    begun = remote.RemoteFile.__init__

    def noted(self: remote.RemoteFile, *arguments: Any) -> None:
        begun(self, *arguments)
        files.append(self)

    monkeypatch.setattr(remote.RemoteFile, "__init__", noted)
    monkeypatch.setattr(remote.RemoteFile, "close", lambda _: None)
    for form in ("cog", "tlm"):
        files.clear()
        run(made, form, server.url, masks=["CM004"])
        held = sum(len(piece.data or b"") for file in files for piece in file._pieces)
        assert len(files) == 4
        # The beginnings of files are kept; this file of noise has more bytes in any block.
        assert held <= 4 * HEADER


@dataclass(frozen=True)
class UndecidedDetails(KnownDetails):
    """Details of a product whose offset cannot be told."""

    @property
    def has_radiometry(self) -> bool:
        return True

    def radiometry(self) -> Radiometry:
        raise UnreadableError("The offset of this product cannot be told.")


def test_offsets_are_not_asked_for_where_masks_remove_every_feature(made: Made) -> None:
    boxes = made.parcels.geometry.bounds
    north = made.parcels[(boxes["miny"] > TOP - 10 * EDGE / 2 + 100) & (boxes["maxx"] < LEFT + 10 * EDGE)]
    where = {band: str(made.path("cog", band)) for band in BANDS}
    source = MemorySource([Acquisition(PRODUCT, UndecidedDetails(), where)])
    clouded = TimeSeries(north, ["NDVI"], masks=["CM004"], library=source, quiet=True).run().report
    assert (clouded["cloud"].sum(), clouded["unreadable"].sum()) == (len(north), 0)
    some = TimeSeries(made.parcels, ["NDVI"], masks=["CM004"], library=source, quiet=True).run().report
    assert some["unreadable"].sum() == len(made.parcels)
    assert "cannot be told" in some["error"].iloc[0]
    for options in ({"masks": ["none"]}, {"masks": ["CM004"], "keep_empty": True}):
        report = TimeSeries(north, ["NDVI"], library=source, quiet=True, **options).run().report
        assert report["unreadable"].sum() == len(north)


def zipped(path: Path) -> dict[str, bytes]:
    """Return the members of a file of kept pixels or positions, without facts: these tell where the source lies."""
    with zipfile.ZipFile(path) as members:
        return {name: members.read(name) for name in members.namelist() if name != "facts.json"}


@pytest.mark.parametrize("form", ["cog", "tlm"])
def test_kept_pixels_come_with_the_requests_for_rows(made: Made, tmp_path: Path, form: str) -> None:
    radiometry = Radiometry(10_000.0, dict.fromkeys((band.name for band in SENTINEL2.bands), -1000.0))
    asked: dict[str, list[tuple[int, int]]] = {}
    files = {}
    for name, keep in (("without", False), ("with", True), ("disk", True)):
        with TroubledServer(folder=made.folder) as server:
            root = str(made.folder) if name == "disk" else server.url
            where = {band: f"{root}/{made.path(form, band).name}" for band in BANDS}
            reading = Reading() if name == "disk" else Reading(access=Access(), at_once=4)
            source = MemorySource([Acquisition(PRODUCT, KnownDetails(radiometry), where)], reading=reading)
            series = TimeSeriesCompil(
                made.parcels, ["NDVI"], masks=["CM004"], library=source, extraction=tmp_path / name, quiet=True,
                name="parcels", keep_pixels=keep, keep_margin=300 if keep else None,
            )  # fmt: skip
            done = series.extract_data()
            assert (done.images, done.pixels, done.pixels_failed) == (1, int(keep), 0)
            asked[name] = server.ranges(f"/{made.path(form, 'SCL').name}")
            places = (series.folder / "pixels").rglob("*")
            files[name] = [zipped(path) for path in sorted(places) if path.is_file()]
    assert len(files["disk"]) == 2
    assert files["with"] == files["disk"]
    assert len(asked["with"]) <= len(asked["without"]) + 4


@pytest.mark.parametrize("form", ["cog", "tlm", "walk"])
def test_nginx_logs_few_requests_for_fifty_scattered_parcels(made: Made, file_server: FileServer, form: str) -> None:
    generator = np.random.default_rng(5)
    x, y = generator.uniform(100, 10 * EDGE - 100, (2, 50))
    parcels = shapely.box(LEFT + x - 60, TOP - y - 60, LEFT + x + 60, TOP - y + 60)
    many = Made(made.folder, gpd.GeoDataFrame({"n": range(50)}, geometry=parcels, crs=EPSG))
    folder = file_server.place / "fifty"
    folder.mkdir(exist_ok=True)
    for band in BANDS:
        shutil.copy(many.path(form, band), folder)
    with file_server.watched() as requests:
        found = run(many, form, file_server.href("fifty"))
    assert found.data["NDVI"]["fid"].nunique() == 50
    for band in ("B04", "B08"):
        path, touched = many.path(form, band), many.touched(band)
        own = [request for request in requests if request.path == f"fifty/{path.name}"]
        walked = sum(request.length < 100 for request in own) if form == "walk" else 0
        assert walked <= touched.size
        assert len(own) - walked <= touched.sum() + (2 if form == "cog" else 3)
        of_blocks = many.block_bytes(band, touched)
        if form != "cog":
            of_blocks = path.stat().st_size / touched.size * touched.sum()
        assert sum(request.length for request in own) <= 1.1 * of_blocks + (HEADER if form == "cog" else 0)
