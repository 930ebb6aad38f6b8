"""Sources without folders: all that a run needs is given in memory, and rasters lie where only GDAL finds them."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine

from sen2chain import TimeSeries, TimeSeriesCompil
from sen2chain.archive import MemorySource, open_library, reads_at_once
from sen2chain.archive.product_details import ProductDetails
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.errors import RequestError, UnreadableError
from sen2chain.extract import resolve_executor
from sen2chain.extract.executors import Serial, Threads
from sen2chain.parallel import apart
from sen2chain.plan import make_plan
from sen2chain.plan.extraction_plan import area_of
from sen2chain.products import Acquisition, Area, KnownDetails, ProductId, Radiometry, Reading, Source
from sen2chain.rasters import Raster, environment
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

TILE, EPSG, LEFT, TOP = "31TGJ", 32631, 720_000.0, 4_880_000.0
IN_MEMORY = Reading({"GDAL_HTTP_MAX_RETRY": 7}, 3, ("/vsimem/",))
RADIOMETRY = Radiometry(10000.0, {"B04": -1000.0, "B08": -900.0})


def write(location: str, values: npt.NDArray[Any], pixel: int) -> str:
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": f"EPSG:{EPSG}"}
    profile |= {"height": values.shape[0], "width": values.shape[1]}
    with rasterio.open(location, "w", transform=Affine(pixel, 0, LEFT, 0, -pixel, TOP), **profile) as sink:
        sink.write(values, 1)
    return location


def product(day: int) -> ProductId:
    date = f"202204{day:02d}"
    return ProductId.parse(f"S2A_MSIL2A_{date}T103021_N0400_R108_T{TILE}_{date}T160000")


def acquisition(folder: str, day: int, **known: Any) -> Acquisition:
    """Write the rasters of a product below `folder`; nothing else of it is in a file."""
    rng = np.random.default_rng(day)
    bands = {b: rng.integers(1200, 6000, (40, 40)).astype(np.uint16) for b in ("B04", "B08")}
    quality = {"SCL": rng.choice([4, 5, 9], (20, 20)), "CLDPRB": rng.integers(0, 100, (20, 20))}
    at = {name: write(f"{folder}/{day}_{name}.tif", values, 10) for name, values in bands.items()}
    at |= {name: write(f"{folder}/{day}_{name}.tif", values.astype(np.uint8), 20) for name, values in quality.items()}
    details = KnownDetails(RADIOMETRY, **{"known_cloud_cover": 10.0 * day, **known})
    return Acquisition(product(day), details, at)


@pytest.fixture(scope="module")
def polygons() -> Any:
    import geopandas as gpd  # noqa: PLC0415  # loads slowly

    boxes = [shapely.box(LEFT + x, TOP - x - 90, LEFT + x + 90, TOP - x) for x in (0, 110, 220, 310)]
    return gpd.GeoDataFrame({"n": range(4)}, geometry=boxes, crs=f"EPSG:{EPSG}")


@pytest.fixture(scope="module")
def in_memory() -> MemorySource:
    return MemorySource([acquisition("/vsimem/sen2chain", day) for day in (1, 2, 3)], reading=IN_MEMORY)


def series(polygons: Any, source: Source, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {"masks": "SCL-9-ITER0", "name": "boxes", "quiet": True, **asked}
    return TimeSeries(polygons, ["NDVI"], library=source, **options)


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_rasters_that_only_gdal_finds_give_the_rows_of_those_on_disk(
    polygons: Any, in_memory: MemorySource, tmp_path: Path, executor: str
) -> None:
    got = series(polygons, in_memory, executor=executor)
    want = series(polygons, MemorySource([acquisition(str(tmp_path), day) for day in (1, 2, 3)]))
    pd.testing.assert_frame_equal(got.data["NDVI"], want.data["NDVI"])
    assert len(got.data["NDVI"]) == 12
    assert got.data["NDVI"]["cldprb"].notna().all()
    assert not got.incomplete


def test_scale_and_offsets_are_those_that_were_given(polygons: Any, tmp_path: Path) -> None:
    given = acquisition(str(tmp_path), 1)
    dn = {}
    for band in ("B04", "B08"):
        with rasterio.open(given.bands[band]) as opened:
            dn[band] = opened.read(1)[:10, :10].astype(float)
    with rasterio.open(given.bands["SCL"]) as opened:
        clear = opened.read(1).repeat(2, 0).repeat(2, 1)[:10, :10] != 9
    red, nir = (dn["B04"] - 1000) / 10000, (dn["B08"] - 900) / 10000
    want = ((nir - red) / (nir + red))[:9, :9][clear[:9, :9]].mean() * 10000
    rows = series(polygons, MemorySource([given])).data["NDVI"]
    assert abs(rows.query("fid == 0")["mean"].item() - want) < 1


def test_cloud_cover_is_the_one_that_was_given(polygons: Any, in_memory: MemorySource) -> None:
    limited = series(polygons, in_memory, cover_min=15, cover_max=25)
    assert [task.product for task in limited.plan.tasks] == [product(2)]
    assert limited.plan.outside_cover == 2


def test_a_product_without_scale_says_so(polygons: Any, tmp_path: Path) -> None:
    unknown = replace(acquisition(str(tmp_path), 1), details=KnownDetails())
    (error,) = series(polygons, MemorySource([unknown])).report["error"]
    assert "offsets" in error
    with pytest.raises(UnreadableError, match="not known"):
        unknown.details.radiometry()


def test_other_file_systems_are_opened_only_for_a_source_that_names_them(in_memory: MemorySource) -> None:
    location = in_memory.acquisitions(TILE)[0].bands["B04"]

    def shape(reading: Reading) -> tuple[int, int]:
        with environment(reading), Raster(location) as raster:
            return raster.grid.shape

    assert apart(lambda: shape(IN_MEMORY)) == (40, 40)
    with pytest.raises(UnreadableError, match="No such file"):
        apart(lambda: shape(Reading()))


def test_options_of_a_source_hold_while_its_rasters_are_read(
    polygons: Any, in_memory: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = Raster._counted

    def counted(self: Raster, *rest: Any) -> None:
        seen.append(rasterio.env.getenv())
        original(self, *rest)

    monkeypatch.setattr(Raster, "_counted", counted)
    assert series(polygons, in_memory).rows == 12
    assert {options.get("GDAL_HTTP_MAX_RETRY") for options in seen} == {7}
    assert {options.get("GDAL_PAM_ENABLED") for options in seen} == {False}


def test_a_source_says_how_many_products_are_read_at_once(in_memory: MemorySource) -> None:
    assert (reads_at_once(in_memory), reads_at_once("somewhere"), reads_at_once(None)) == (3, None, None)
    assert resolve_executor(at_once=3) == Threads(3)
    assert resolve_executor(multiproc=2, at_once=3) == Threads(2)
    assert resolve_executor("serial", at_once=3) == Serial()
    assert resolve_executor(multiproc=1, at_once=3) == Serial()
    assert resolve_executor(at_once=1) == Serial()


def test_a_source_and_a_folder_of_products_contradict_each_other(in_memory: MemorySource, tmp_path: Path) -> None:
    assert open_library(in_memory) is in_memory
    with pytest.raises(RequestError, match="pass one of them"):
        open_library(in_memory, tmp_path)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"library": "archive", "stac": "items.json"}, "a library and a STAC catalogue were given; pass one of them"),
        ({"safe": "products", "stac": "items.json"}, "a folder of SAFE products and a STAC catalogue were given"),
        ({"library": "a", "safe": "b", "stac": "c"}, "a library, a folder of SAFE products and a STAC catalogue were"),
        (
            {"collection": "sentinel-2-l2a"},
            "'sentinel-2-l2a' is one of a STAC catalogue, but none was given; pass stac=",
        ),
        ({"stac": MemorySource(())}, "stac is a MemorySource; pass an address, a file or a StacCatalogue"),
    ],
)
def test_products_come_from_one_place(asked: dict[str, Any], part: str, polygons: Any) -> None:
    with pytest.raises(RequestError, match=part):
        open_library(**asked)
    for kind in (TimeSeries, TimeSeriesCompil):
        with pytest.raises(RequestError, match=part):
            kind(polygons, ["NDVI"], **asked)


# ------------------------------------------------------------------------------------------------------------ identity


def compiled(polygons: Any, source: Source, folder: Path) -> TimeSeriesCompil:
    return TimeSeriesCompil(
        polygons, ["NDVI"], masks="SCL-9-ITER0", library=source, extraction=folder, name="boxes", quiet=True
    )


def test_versions_tell_what_is_to_be_extracted_again(polygons: Any, in_memory: MemorySource, tmp_path: Path) -> None:
    found = in_memory.acquisitions(TILE)
    versions = {location: "1" for each in found for location in each.bands.values()}

    def run(**changed: str) -> tuple[str, list[str]]:
        source = MemorySource(found, reading=IN_MEMORY, versions=versions | changed)
        looked = compiled(polygons, source, tmp_path).extract_data(getstat=False)
        return str(compiled(polygons, source, tmp_path).extract_data()), looked.notes

    assert run()[0] == "3 images extracted from 3 acquisitions (12 rows)."
    assert run() == ("Nothing new: 3 images are there already.", [])
    red = found[1].bands["B04"]
    done, why = run(**{red: "2"})
    assert done == "1 image extracted from 1 acquisition (4 rows), 2 were there already."
    assert why == ["1 image to be extracted: files have changed (B04)."]
    assert run(**{red: "2"}) == ("Nothing new: 3 images are there already.", [])


def test_locations_without_a_version_that_are_not_files_count_as_unchanged(
    polygons: Any, in_memory: MemorySource, tmp_path: Path
) -> None:
    assert compiled(polygons, in_memory, tmp_path).extract_data().rows == 12
    assert compiled(polygons, in_memory, tmp_path).extract_data().kept == 3


def test_tokens_of_files_and_versions(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(b"x")
    source = MemorySource((), versions={"s3://b/c.tif": "etag"})
    found = source.identify([str(file), "s3://b/c.tif", "/nowhere/d.tif"], ())
    assert sorted((token.name, token.exists, token.is_whole) for token in found.values()) == [
        ("a.tif", True, False), ("c.tif", True, True), ("d.tif", False, False)
    ]  # fmt: skip
    (with_content,) = source.identify([str(file)], [str(file)]).values()
    assert with_content.content == hashlib.sha256(b"x").hexdigest()
    assert source.digest(str(file)).startswith("parts:")
    assert source.digest("s3://b/c.tif") == ""


# ---------------------------------------------------------------------------------------------- areas and footprints


class Asked(MemorySource):
    """Remembers what it was asked for."""

    areas: list[Area | None]
    dates: tuple[dt.date | None, dt.date | None]

    def tiles(
        self, area: Area | None = None, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[str]:
        self.areas, self.dates = [area], (first, last)
        return super().tiles(area, first, last)

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None, area: Area | None = None
    ) -> Sequence[Acquisition]:
        self.areas.append(area)
        return super().acquisitions(tile, first, last, area)


def test_a_source_is_told_where_the_layer_lies(polygons: Any, tmp_path: Path) -> None:
    source = Asked([acquisition(str(tmp_path), 1)])
    found = series(polygons, source, buffer=20, date_max="2022-12-31")
    assert str(source.dates[1]) == "2022-12-31"
    want = Area((LEFT, TOP - 400, LEFT + 400, TOP), f"EPSG:{EPSG}", 20.0)
    assert source.areas == [want, want]
    assert found.rows == 4
    nowhere = Layer.of(np.array([None, shapely.Polygon()], dtype=object), f"EPSG:{EPSG}")
    assert area_of(nowhere) is None
    assert make_plan(found.request, source, nowhere).tasks == ()


def test_a_layer_that_is_spread_out_is_told_in_parts() -> None:
    boxes = [shapely.box(x, y, x + 0.1, y + 0.1) for x, y in ((5, 44), (5.2, 44.1), (9, 44), (30, -20))]
    area = area_of(Layer.of(np.array(boxes, dtype=object), "EPSG:4326"))
    assert area is not None
    np.testing.assert_allclose(area.bounds, (5, -20, 30.1, 44.2))
    wanted = [(5, 44, 5.3, 44.2), (9, 44, 9.1, 44.1), (30, -20, 30.1, -19.9)]
    np.testing.assert_allclose(sorted(area.parts), wanted)
    together = area_of(Layer.of(np.array(boxes[:2], dtype=object), "EPSG:4326"))
    assert together is not None
    assert together.parts == ()


def around(longitude: float, latitude: float, half: float = 0.01) -> tuple[tuple[float, float], ...]:
    box = shapely.box(longitude - half, latitude - half, longitude + half, latitude + half)
    return tuple((x, y) for x, y in box.exterior.coords)


@pytest.mark.parametrize(
    ("footprint", "margin", "meets"),
    [
        (None, 0, True),
        (around(5.75, 44.04), 0, True),
        (around(5.81, 44.04), 0, False),
        (around(5.81, 44.04), 5000, True),
        (around(5.75, 44.11), 0, False),
        (around(5.75, 44.11), 7500, True),
        (((-179.9, 44), (179.9, 44), (179.9, 45), (-179.9, 45), (-179.9, 44)), 0, True),
    ],
)
def test_products_whose_footprint_is_elsewhere_are_left_out(footprint: Any, margin: float, *, meets: bool) -> None:
    here = Acquisition(product(1), KnownDetails(known_footprint=footprint))
    area = Area((LEFT, TOP - 500, LEFT + 500, TOP), f"EPSG:{EPSG}", margin)
    found = MemorySource([here]).acquisitions(TILE, area=area)
    assert [each.id for each in found] == [product(1)] * meets
    crossing = Area((170.0, 40.0, -170.0, 45.0), "EPSG:4326")
    assert len(MemorySource([here]).acquisitions(TILE, area=crossing)) == 1


def test_the_footprint_of_a_real_product(shared_data: Path) -> None:
    (metadata,) = (shared_data / "safe_metadata").glob("*T32TQM*/MTD_MSIL2A.xml")
    outline = read_metadata(str(metadata)).footprint
    assert outline is not None
    assert outline[0] == outline[-1]
    shape = shapely.Polygon(outline)
    assert shape.is_valid
    assert shape.intersects(shapely.box(11.3, 41.4, 12.8, 42.5))


def test_details_travel_to_workers_without_what_was_kept(tmp_path: Path) -> None:
    known = KnownDetails(RADIOMETRY, 5.0, around(5, 44))
    read = ProductDetails(product(1), "MTD_MSIL2A.xml", "manifest.safe", ProductFacts(tmp_path))
    for details in (known, read):
        assert pickle.loads(pickle.dumps(details)) == details  # noqa: S301  # our own
    assert str(tmp_path).encode() not in pickle.dumps(read)
