"""Rows from bands and rows from produced rasters are identical in every column but those that name the source."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen2chain import INDICES, Index, Mask, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import open_library, open_target
from sen2chain.parallel import apart
from sen2chain.produce import ProductRequest, plan_products, produce_files

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.produce import Production

SAVI = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
# Clipped at both ends of what can be stored, undefined where B04 is 0, and of another scale.
STEEP = Index("STEEP", "100*(B08-B04)")
RATIO = Index("RATIO", "B08/B04", scale=100)
COARSE = Index("COARSE", "(B8A-B11)/(B8A+B11)")
MIXED = (INDICES["NDVI"], INDICES["NDWIGAO"], INDICES["NDRE"], SAVI, STEEP, RATIO, COARSE)
CM004 = Mask.parse("CM004").name
MASKS = ("CM001", "CM002", "CM003-PRB1-ITER0", CM004, "SCL-4-8-9-ITER2")

SCENE = demo.Scene(
    size=150,
    parcels=9,
    # Clear, cloudy, at the edge of the swath; before and after the offset.
    overpasses=tuple(demo.season(12)[k] for k in (0, 4, 6)),
    bands=("B04", "B05", "B08", "B8A", "B11", "SCL", "CLDPRB"),
    noise=400.0,
)


def library_of(products: Path, folder: Path) -> Path:
    """Return a new library of some products, which it only links to."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "L2A").symlink_to(products)
    return folder


def produce(library: Path, **asked: Any) -> Production:
    source = open_target(library)
    made = produce_files(plan_products(ProductRequest(**asked), source), source, quiet=True)
    assert {str(outcome) for outcome in made.counts()} == {"made"}, made.to_frame()
    return made


def overwrite(path: Path, profile: Any, image: Any) -> None:
    """Write a band again, without loss."""
    kept = {name: profile[name] for name in ("width", "height", "count", "dtype", "crs", "transform")}
    options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    with rasterio.open(path, "w", **kept, **options) as file:
        file.write(image, 1)
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)


def rows(layer: Any, library: Any, **asked: Any) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Return the rows by index, the reasons of the report, and the whole report."""
    series = TimeSeries(layer, **{"library": library, "quiet": True, "multiproc": 1, **asked})
    report = series.report.copy()
    # Of a feature that a mask removes as a whole, values or SCL tell whether it is cloud or no data; they may differ.
    report["removed"] = report["cloud"] + report["no_data"]
    names = {"value_source", "mask_source", "error", "cloud", "no_data"}
    return series.data, report[[name for name in report.columns if name not in names]], series.report


def assert_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    assert first[0].keys() == second[0].keys()
    assert any(map(len, first[0].values()))
    for index, frame in first[0].items():
        pd.testing.assert_frame_equal(frame, second[0][index], check_exact=True, obj=index)
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True, obj="reasons")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    made = demo.build(tmp_path_factory.mktemp("parity"), SCENE)
    # Holes, saturated pixels and dark ones, also at an edge of the tile.
    for path in (made.library / "data/L2A").rglob("*_B04_10m.jp2"):

        def holes(path: Path = path) -> None:
            with rasterio.open(path) as file:
                profile, image = file.profile, file.read(1)
            image[:7, :60], image[20:24, 30:90], image[40:44, 30:90] = 0, 65535, 1000
            overwrite(path, profile, image)

        apart(holes)
    old = time.time() - 60
    for path in made.library.rglob("*"):
        os.utime(path, (old, old))
    return made


@pytest.fixture(scope="module")
def produced(archive: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = library_of(archive.library / "data/L2A", tmp_path_factory.mktemp("produced") / "library")
    produce(library, indices=MIXED, masks=tuple(map(Mask.parse, MASKS)), masked=False)
    return library


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pixels": "all_touched"},
        {"pixels": "weighted"},
        {"stats": ["percentile_10", "percentile_90"], "min_valid": 0.3},
        {"keep_empty": True},
        {"multiproc": 2},
    ],
    ids=lambda options: "-".join(options) or "center",
)
def test_rows_from_rasters_are_those_from_bands(
    archive: demo.DemoArchive, produced: Path, options: dict[str, Any]
) -> None:
    asked = {"indices": MIXED, "masks": ["none", *MASKS], **options}
    from_bands = rows(archive.layer, archive.library, **asked)
    from_rasters = rows(archive.layer, produced, **asked)
    assert_same(from_bands, from_rasters)
    report = from_rasters[2]
    assert set(report["value_source"]) == {"index raster"}
    assert set(report["mask_source"]) == {"mask raster", "no mask"}
    # How many values were clipped is not known of a raster, and nothing wrong is said about it.
    assert not report["error"].str.contains("beyond").any()
    assert from_bands[2]["error"].str.contains("STEEP: .* beyond").any()
    assert {name: list(frame.columns) for name, frame in from_bands[0].items()} == {
        index.name: list(from_bands[0]["NDVI"].columns) for index in MIXED
    }


def test_rows_stay_when_the_products_are_gone(archive: demo.DemoArchive, produced: Path, tmp_path: Path) -> None:
    """Without the products, their CLDPRB and SCL are gone too, so that two things alone are not known any more."""
    alone = tmp_path / "alone"
    shutil.copytree(produced / "data", alone / "data", ignore=shutil.ignore_patterns("L2A"), symlinks=True)
    asked: dict[str, Any] = {"indices": MIXED, "masks": ["none", *MASKS]}
    before, after = rows(archive.layer, archive.library, **asked), rows(archive.layer, alone, **asked)
    for index, frame in before[0].items():
        assert after[0][index]["cldprb"].isna().all()
        pd.testing.assert_frame_equal(frame.drop(columns="cldprb"), after[0][index].drop(columns="cldprb"))
    assert after[2]["error"].str.contains("cldprb is empty").all()


def test_the_file_of_rows_says_the_same_and_nothing_is_extracted_again(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    library = library_of(archive.library / "data/L2A", tmp_path / "library")
    options: dict[str, Any] = {"indices": ["NDVI", SAVI], "masks": CM004, "quiet": True, "library": library}

    def update(folder: str) -> Any:
        series = TimeSeriesCompil(archive.layer, extraction=tmp_path / folder, raw_format="csv", **options)
        return series.extract_data()

    assert update("one").images > 0
    produce(library, indices=(INDICES["NDVI"], SAVI), masks=(Mask.parse("CM004"),))
    again = update("one")
    assert (again.images, again.empty, again.failed) == (0, 0, 0)
    assert update("two").images > 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).rglob("*.csv")} for folder in ("one", "two")
    )
    assert first == second
    shutil.rmtree(library / "data" / "INDICES")
    shutil.rmtree(library / "data" / "CLOUDMASKS")
    assert (update("one").images, update("two").images) == (0, 0)


def test_masks_in_jpeg_2000_and_masks_of_10_m_are_read(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_of(archive.library / "data/L2A", tmp_path / "library")
    produce(library, masks=tuple(map(Mask.parse, MASKS)), mask_format="jp2")
    asked: dict[str, Any] = {"indices": "NDVI", "masks": list(MASKS)}
    from_rasters = rows(archive.layer, library, **asked)
    assert_same(rows(archive.layer, archive.library, **asked), from_rasters)
    assert set(from_rasters[2]["mask_source"]) == {"mask raster"}
    # A mask of 10 m in a GeoTIFF: those of CM004, each pixel four times.
    for path in sorted((library / "data/CLOUDMASKS").rglob("*CM004*.jp2")):
        target = path.with_name(path.name.replace(CM004, "OCM_v1_8_1")).with_suffix(".tif")

        def finer(path: Path = path, target: Path = target) -> None:
            with rasterio.open(path) as file:
                profile, image = file.profile, file.read(1)
            left, top = profile["transform"].c, profile["transform"].f
            transform = rasterio.Affine(10, 0, left, 0, -10, top)
            profile = {**profile, "driver": "GTiff", "transform": transform, "compress": "deflate"}
            profile |= {"width": 2 * image.shape[1], "height": 2 * image.shape[0]}
            with rasterio.open(target, "w", **profile) as file:
                file.write(np.kron(image, np.ones((2, 2), np.uint8)), 1)

        apart(finer)
    ocm, cm004 = (rows(archive.layer, library, indices="NDVI", masks=mask)[0]["NDVI"] for mask in ("OCM", CM004))
    assert (ocm["filename"] != cm004["filename"]).all()
    different = ["filename", "mask"] if "mask" in ocm else ["filename"]
    pd.testing.assert_frame_equal(ocm.drop(columns=different), cm004.drop(columns=different))


def test_masked_rasters_give_the_rows_of_the_mask(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_of(archive.library / "data/L2A", tmp_path / "library")
    produce(library, indices=(INDICES["NDVI"], SAVI), masks=(Mask.parse("CM004"),), masked=True)
    asked: dict[str, Any] = {"indices": ["NDVI", SAVI], "masks": CM004}
    masked = rows(archive.layer, library, prefer="masked", **asked)
    assert_same((rows(archive.layer, archive.library, **asked)[0], masked[1]), masked)
    assert set(masked[2]["value_source"]) == {"masked index raster"}


def test_rounded_rasters_are_read_where_they_are_preferred(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = library_of(archive.library / "data/L2A", tmp_path / "library")
    produce(library, indices=(INDICES["NDVI"],), precision=0.01)
    asked: dict[str, Any] = {"indices": "NDVI", "masks": "none"}
    exact = rows(archive.layer, archive.library, **asked)
    again = rows(archive.layer, library, **asked)
    assert_same(exact, again)
    rounded = rows(archive.layer, library, prefer="stored", **asked)[0]["NDVI"]
    assert (rounded["min"] % 100 == 0).all()
    assert 0 < (rounded["mean"] - exact[0]["NDVI"]["mean"]).abs().max() <= 50
    assert (rounded["count"] == exact[0]["NDVI"]["count"]).all()
    assert again[2]["error"].str.contains("NDVI is computed from bands: the stored raster is rounded to 0.01").all()


_number = st.sampled_from([0, 1, 999, 1000, 1001, 2500, 9000, 20000, 65535])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    formula=st.sampled_from(["(B08-B04)/(B08+B04)", "B08/B04 scale=100", "50*(B08-B11)", "log(B04)", "B11**0.5"]),
    mask=st.sampled_from(["none", "CM001", "CM003-PRB30-ITER0", "SCL-3-8-ITER1"]),
    rule=st.sampled_from(["center", "all_touched", "weighted"]),
)
def test_small_scenes_of_odd_numbers_give_the_same_rows(
    odd: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory, data: Any, formula: str, mask: str, rule: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    products = folder / "products"
    shutil.copytree(odd.library / "data/L2A", products)
    seed, values = data.draw(st.integers(0, 2**31)), data.draw(st.lists(_number, min_size=1, max_size=5))
    rng = np.random.default_rng(seed)
    for path in sorted(products.rglob("*_B*_?0m.jp2")):

        def scatter(path: Path = path) -> None:
            with rasterio.open(path) as file:
                profile, image = file.profile, file.read(1)
            image = np.where(rng.random(image.shape) < 0.5, rng.choice(values, image.shape), image).astype(np.uint16)
            overwrite(path, profile, image)

        apart(scatter)
    index = Index.parse(f"ODD={formula}")
    asked: dict[str, Any] = {"indices": index, "masks": mask, "pixels": rule, "keep_empty": True}
    from_bands = rows(odd.layer, library_of(products, folder / "bands"), **asked)
    masks = () if mask == "none" else (Mask.parse(mask),)
    produce(library_of(products, folder / "made"), indices=(index,), masks=masks)
    from_rasters = rows(odd.layer, folder / "made", **asked)
    assert_same(from_bands, from_rasters)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    overpasses = (replace(demo.season(1)[0], cloud=0.3),)
    scene = demo.Scene(
        size=60, parcels=4, overpasses=overpasses, bands=("B04", "B08", "B11", "SCL", "CLDPRB"), tiles=("31TGJ",)
    )
    return demo.build(tmp_path_factory.mktemp("odd-scene"), scene)


def test_the_real_dates_give_the_same_rows(bolzano: Path, tmp_path: Path) -> None:
    library = library_of(bolzano / "L2A", tmp_path / "library")
    layer = next((bolzano / "vectors").glob("*150*.gpkg"), None) or next((bolzano / "vectors").glob("*.gpkg"))
    indices = (INDICES["NDVI"], INDICES["EVI"], INDICES["BIBG"])
    asked: dict[str, Any] = {"indices": indices, "masks": CM004, "date_max": "2022-06-12"}
    before = rows(layer, library, **asked)
    produce(library, indices=indices, masks=(Mask.parse("CM004"),), last=dt.date(2022, 6, 12))
    assert_same(before, rows(layer, library, **asked))
    assert open_library(library).tiles() == ["32TPS"]
