"""Chips beside plain rasterio windows, and what becomes of faults, edges, several tiles and odd features."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.windows import Window

import oracle
from sen2chain import TimeSeries, demo
from sen2chain.archive import open_library
from sen2chain.chips import Chip, ChipFeatures, ChipNotes, ChipSize, places_on, read_chips
from sen2chain.grid import Grid
from sen2chain.indices import INDICES, NODATA
from sen2chain.masks import Mask
from sen2chain.parallel import closed
from sen2chain.rasters import counting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.products import Acquisition, ProductId

    Array = npt.NDArray[Any]

CM004 = Mask.parse("CM004")
TILES = ("31TGJ", "32TLP")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Two tiles in two UTM zones, with clouds, a swath edge and both kinds of offsets; a B04 is damaged."""
    season = demo.season()
    scene = demo.Scene(
        size=300,
        overpasses=tuple(season[k] for k in (0, 1, 4, 5, 8, 9)),
        bands=("B02", "B03", "B04", "B08", "B12", "SCL"),
        damaged=((4, "32TLP", "B04"),),
    )
    return demo.build(tmp_path_factory.mktemp("chips"), scene)


@pytest.fixture(scope="module")
def acquisitions(archive: demo.DemoArchive) -> list[Acquisition]:
    source = open_library(archive.library)
    return [a for tile in TILES for a in source.acquisitions(tile)]


@pytest.fixture(scope="module")
def layer(archive: demo.DemoArchive) -> gpd.GeoDataFrame:
    return gpd.read_file(archive.layer)


def features(layer: gpd.GeoDataFrame, fids: Sequence[int], **options: Any) -> ChipFeatures:
    shapes = np.array(layer.geometry, dtype=object)[list(fids)]
    return ChipFeatures(np.array(fids), shapes, layer.crs.to_string(), **options)


def chips_of(acquisitions: Sequence[Acquisition], wanted: ChipFeatures, **options: Any) -> list[Chip]:
    given = {"indices": [INDICES["NDVI"]], "masks": [CM004], "threads": 2, **options}
    with closed(read_chips(acquisitions, wanted, **given)) as chips:
        return list(chips)


def safe_of(archive: demo.DemoArchive, product: ProductId) -> Path:
    return archive.library / "data" / "L2A" / product.tile / f"{product}.SAFE"


def plain(archive: demo.DemoArchive, chip: Chip, band: str, fill: int) -> Array:
    """Read the window of a chip with rasterio alone."""
    (path,) = safe_of(archive, chip.product).glob(f"**/*_{band}_?0m.jp2")
    with rasterio.open(path) as dataset:
        whole = dataset.read(1)
        assert dataset.crs.to_string() == chip.place.grid.crs
        assert tuple(dataset.transform)[:6] == chip.place.grid.transform
    around = np.pad(whole, 100, constant_values=fill)
    row, column = chip.place.row + 100, chip.place.column + 100
    assert min(row, column) >= 0
    found: Array = around[row : row + chip.shape[0], column : column + chip.shape[1]]
    assert found.shape == chip.shape
    return found


def offset(archive: demo.DemoArchive, product: ProductId, band: int) -> float:
    text = (safe_of(archive, product) / "MTD_MSIL2A.xml").read_text()
    found = re.search(rf'<BOA_ADD_OFFSET band_id="{band}">(-?\d+)<', text)
    return float(found[1]) if found else 0.0


def reflectance(archive: demo.DemoArchive, chip: Chip, name: str, number: int) -> Array:
    dn = plain(archive, chip, name, 0)
    return np.where((dn == 0) | (dn == 65535), np.nan, (dn + offset(archive, chip.product, number)) / 10_000)


# -------------------------------------------------------------------------------- equal to plain reading


@pytest.mark.jpeg2000
def test_chips_equal_plain_windows(
    archive: demo.DemoArchive, acquisitions: list[Acquisition], layer: gpd.GeoDataFrame
) -> None:
    wanted = features(layer, [0, 7, 30])
    chips = [chip for tile in TILES for chip in chips_of([a for a in acquisitions if a.id.tile == tile], wanted)]
    assert {chip.place.grid.crs for chip in chips} == {"EPSG:32631", "EPSG:32632"}
    assert len({offset(archive, chip.product, 3) for chip in chips}) == 2, "and products with and without offsets"
    for chip in chips[::3]:
        assert chip.colour is not None
        for place, (name, number) in enumerate((("B04", 3), ("B03", 2), ("B02", 1))):
            want = reflectance(archive, chip, name, number)
            # Reflectance below zero counts as zero.
            np.testing.assert_allclose(chip.colour[..., place], np.maximum(want, 0), rtol=1e-6, err_msg=name)
        red, near_infrared = reflectance(archive, chip, "B04", 3), reflectance(archive, chip, "B08", 7)
        red, near_infrared = np.maximum(red, 0), np.maximum(near_infrared, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            index = (near_infrared - red) / (near_infrared + red)
        stored = chip.values["NDVI"]
        assert (np.isnan(index) == (stored == NODATA)).all()
        np.testing.assert_allclose(stored[stored != NODATA], 10_000 * index[stored != NODATA], rtol=0, atol=0.5001)


def test_masks_equal_plain_windows(
    archive: demo.DemoArchive, acquisitions: list[Acquisition], layer: gpd.GeoDataFrame
) -> None:
    checked = 0
    for chip in chips_of(acquisitions, features(layer, [0, 7]))[::2]:
        (path,) = safe_of(archive, chip.product).glob("**/*_SCL_20m.jp2")
        with rasterio.open(path) as dataset:
            clouds = oracle.nearest(oracle.cm004(dataset.read(1), (1, 1, 1, 1), 1))
        rows, columns = chip.shape
        row, column = chip.place.row, chip.place.column
        assert row >= 0
        assert column >= 0
        assert (chip.masks[CM004.name] == clouds[row : row + rows, column : column + columns]).all()
        checked += len(np.unique(chip.masks[CM004.name])) == 2
    assert checked, "a mask that is in part True and in part False is compared"


@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_counts_of_chips_are_those_of_rows(archive: demo.DemoArchive, rule: str) -> None:
    series = TimeSeries(
        archive.layer, ["NDVI"], library=archive.library, masks=[CM004], pixels=rule, keep_empty=True, quiet=True
    )
    fids = np.array([0, 7, 30, 41])
    rows: Any = series.data["NDVI"].reset_index().set_index(["fid", "date"])
    with closed(series._read_chips(fids)) as found:  # what quicklooks and pages are made of
        chips = list(found)
    assert len(chips) > 12
    for chip in chips:
        row = rows.loc[(chip.fid, chip.date)]
        if np.isnan(row["mean"]):
            continue
        assert row["filename"].startswith(str(chip.product)), "the product that the row comes from"
        inside, measured, masked = chip.place.inside, chip.values["NDVI"] != NODATA, chip.masks[CM004.name]
        assert inside[measured & masked].sum() == pytest.approx(row["nbcld"], abs=1e-3)
        assert inside[measured & ~masked].sum() == pytest.approx(row["count"], abs=1e-3)
        share = row["count"] / (row["count"] + row["nodata"])
        assert chip.valid_share("NDVI", CM004.name) == pytest.approx(share, abs=1e-6)


@pytest.mark.jpeg2000
def test_each_raster_is_opened_once_and_each_block_decoded_once(
    acquisitions: list[Acquisition], layer: gpd.GeoDataFrame
) -> None:
    intact = [a for a in acquisitions if "20220503T103021" not in str(a.id)]
    assert len(intact) == 10
    with counting() as counts:
        chips_of(intact, features(layer, range(len(layer))))
    assert set(counts.opens.values()) == {1}
    assert set(counts.blocks.values()) == {1}
    assert sum(counts.opens.values()) == 5 * len(intact), "B02, B03, B04, B08 and SCL alone"


def test_times_have_one_chip_per_feature(acquisitions: list[Acquisition], layer: gpd.GeoDataFrame) -> None:
    chips = chips_of(acquisitions, features(layer, [3, 0, 20]))
    keys = [(chip.date, chip.fid) for chip in chips]
    assert len(set(keys)) == len(keys)
    dates = [date for date, _ in keys]
    assert dates == sorted(dates)
    assert [fid for date, fid in keys if date == dates[0]] == [3, 0, 20], "in the order that was asked for"
    cloudy = [chip for chip in chips if chip.valid_share("NDVI", CM004.name) == 0]
    assert cloudy, "dates that clouds cover are shown too"


# -------------------------------------------------------------------------------- what is missing


def test_a_damaged_band_costs_its_own_pictures_alone(
    archive: demo.DemoArchive, acquisitions: list[Acquisition], layer: gpd.GeoDataFrame
) -> None:
    (damaged,) = [a for a in acquisitions if f"{a.id}.SAFE" in {part for p in archive.damaged for part in p.parts}]
    notes = ChipNotes()
    wanted = features(layer, range(0, len(layer), 3))
    both = [INDICES["NDVI"], INDICES["NBR"]]
    served = [c for c in chips_of(acquisitions, wanted, indices=both) if c.date == damaged.id.sensing]
    assert any(chip.tile == "31TGJ" and chip.colour is not None for chip in served), "the other tile, where it can"
    acquisitions = [a for a in acquisitions if a.id.tile == "32TLP"]
    chips = chips_of(acquisitions, wanted, notes=notes, indices=both)
    own = [chip for chip in chips if chip.product == damaged.id]
    assert own
    assert all(chip.colour is None and "NDVI" not in chip.values for chip in own), "both need B04"
    assert all((chip.values["NBR"] != NODATA).any() and CM004.name in chip.masks for chip in own)
    said = notes.sentences()
    for what in ("true colour", "NDVI"):
        (sentence,) = [text for text in said if f"acquisitions has no {what} " in text]
        assert f"1 of {len(acquisitions)} acquisitions has" in sentence
        assert "_B04_10m.jp2 cannot be read" in sentence
    assert len({chip.product for chip in chips}) == len(acquisitions), "the others go on"


def test_an_archive_without_bands_has_chips_of_indices(tmp_path: Path) -> None:
    scene = demo.Scene(
        tiles=("31TGJ",), size=96, overpasses=demo.season()[3:5], bands=("B03", "B04", "B08", "SCL"), parcels=4,
        indices=("NDVI",), masks=("CM004-CSH1-CMP1-CHP1-TCI1-ITER1",),
    )  # fmt: skip
    archive = demo.build(tmp_path, scene)
    shutil.rmtree(archive.library / "data" / "L2A")
    source = open_library(archive.library)
    notes = ChipNotes()
    chips = chips_of(source.acquisitions("31TGJ"), features(gpd.read_file(archive.layer), [0, 1]), notes=notes)
    assert chips
    assert all(chip.colour is None and set(chip.values) == {"NDVI"} for chip in chips)
    assert any(chip.masks for chip in chips), "the stored mask is there"
    files = sorted((archive.library / "data" / "INDICES").rglob("*_NDVI.tif"))
    assert files
    for path in files:
        path.rename(path.with_name(f"{path.stem}_{CM004.name}.tif"))
    masked = chips_of(
        open_library(archive.library).acquisitions("31TGJ"), features(gpd.read_file(archive.layer), [0, 1])
    )
    assert [(chip.fid, chip.product) for chip in masked] == [(chip.fid, chip.product) for chip in chips]
    assert all((one.values["NDVI"] == two.values["NDVI"]).all() for one, two in zip(masked, chips, strict=True))
    assert any(
        "has no true colour" in text or ("have no true colour" in text and "lacks bands B04, B03, B02" in text)
        for text in notes.sentences()
    )


# -------------------------------------------------------------------------------- places of features

GRID = Grid("EPSG:32631", (10.0, 0.0, 700_000.0, 0.0, -10.0, 4_900_000.0), (300, 400))


def square(column: float, row: float, edge: float) -> shapely.Geometry:
    left, top = 700_000 + 10 * column, 4_900_000 - 10 * row
    return shapely.box(left, top - 10 * edge, left + 10 * edge, top)


def placed(*shapes: Any, size: ChipSize | None = None) -> dict[int, list[Any]]:
    geometry = np.array(shapes, dtype=object)
    return places_on(ChipFeatures(np.arange(len(shapes)), geometry, GRID.crs), GRID, "31TGJ", size)


def test_small_features_have_context_and_large_ones_a_reduced_resolution() -> None:
    places = placed(square(100, 100, 1), square(10, 10, 280), size=ChipSize(largest=100))
    (small,) = places[1]
    assert small.shape == (24, 24)
    assert small.inside.sum() == small.total == 1
    row, column = np.argwhere(small.inside == 1)[0]
    assert (small.row + row, small.column + column) == (100, 100)
    np.testing.assert_allclose(small.outline[0].min(axis=0), [100 - small.column, 100 - small.row])
    ((factor, (large,)),) = [(f, p) for f, p in places.items() if f > 1]
    assert max(large.shape) <= 100 < 2 * max(large.shape)
    assert large.total == pytest.approx(280**2 / factor**2, rel=0.03)
    assert large.grid.pixel_xy == (10.0 * factor, 10.0 * factor)


def test_features_at_the_edge_keep_their_window_and_its_outside_has_no_data(
    archive: demo.DemoArchive, acquisitions: list[Acquisition]
) -> None:
    clear = [a for a in acquisitions if "20211015T103021" in str(a.id) and a.id.tile == "31TGJ"][:1]
    with rasterio.open(clear[0].bands["B04"]) as dataset:
        left, _, _, top = dataset.bounds
        crs = dataset.crs.to_string()
    shape = shapely.box(left - 60, top - 90, left + 100, top + 70)
    wanted = ChipFeatures(np.array([5]), np.array([shape], dtype=object), crs)
    (chip,) = chips_of(clear, wanted)
    assert chip.place.row < 0 > chip.place.column
    assert chip.colour is not None
    assert np.isnan(chip.colour[: -chip.place.row]).all()
    assert (chip.values["NDVI"][:, : -chip.place.column] == NODATA).all()
    assert not chip.masks[CM004.name][: -chip.place.row].any()
    want = np.maximum(reflectance(archive, chip, "B03", 2), 0)
    np.testing.assert_allclose(chip.colour[..., 1], want, rtol=1e-6)
    assert chip.place.total == 16 * 16
    assert chip.valid_share() == pytest.approx(90 / 256, abs=0.1), "pixels outside of the raster are not valid"


def test_features_without_a_place_have_no_window() -> None:
    far = square(5000, 5000, 5)
    places = placed(None, shapely.Polygon(), far, square(5, 5, 3), shapely.Point(700_500, 4_899_500))
    assert [place.position for place in places[1]] == [3, 4]
    point = places[1][1]
    assert [path.shape for path in point.outline] == [(1, 2)]
    assert point.inside.sum() == 1


def test_large_features_are_read_at_a_reduced_resolution(
    archive: demo.DemoArchive, acquisitions: list[Acquisition]
) -> None:
    clear = [a for a in acquisitions if "20211015T103021" in str(a.id) and a.id.tile == "31TGJ"][:1]
    with rasterio.open(clear[0].bands["B04"]) as dataset:
        shape, crs = shapely.box(*dataset.bounds).buffer(-400, join_style="mitre"), dataset.crs.to_string()
    wanted = ChipFeatures(np.array([0]), np.array([shape], dtype=object), crs)
    with counting() as counts:
        (chip,) = chips_of(clear, wanted, size=ChipSize(largest=128))
    assert set(counts.opens.values()) == {1}
    factor = chip.place.factor
    assert factor > 1
    assert max(chip.shape) <= 128
    stored, place = chip.values["NDVI"], chip.place
    part = place.in_raster
    inner = stored[part.row - place.row :, part.column - place.column :][: part.height - 1, : part.width - 1]
    bands = []
    for name, number in (("B04", 3), ("B08", 7)):
        with rasterio.open(clear[0].bands[name]) as dataset:
            bands.append(np.maximum((dataset.read(1) + offset(archive, chip.product, number)) / 10_000, 0))
    fine = np.rint(10_000 * (bands[1] - bands[0]) / (bands[1] + bands[0]))
    fine = fine[part.row * factor :, part.column * factor :]
    fine = fine[: inner.shape[0] * factor, : inner.shape[1] * factor]
    mean = fine.reshape(inner.shape[0], factor, inner.shape[1], factor).mean(axis=(1, 3))
    np.testing.assert_allclose(inner, mean, rtol=0, atol=1)  # half a unit, and ties of the fine values


def test_chips_of_real_pixels_equal_plain_windows(bolzano: Path) -> None:
    parcels = gpd.read_file(bolzano / "vectors" / "parcels_wgs84.geojson")
    acquisitions = open_library(safe=bolzano / "L2A").acquisitions("32TPS")[3:5]
    chips = chips_of(acquisitions, features(parcels, [2, 30, 77]))
    assert len(chips) == 6
    for chip in chips:
        assert chip.colour is not None
        (folder,) = (bolzano / "L2A" / "32TPS").glob(f"{chip.product}.SAFE")
        text = (folder / "MTD_MSIL2A.xml").read_text()
        part = chip.place.in_raster
        window = Window(part.column, part.row, part.width, part.height)
        rows = slice(part.row - chip.place.row, part.row - chip.place.row + part.height)
        columns = slice(part.column - chip.place.column, part.column - chip.place.column + part.width)
        for layer, (name, number) in enumerate((("B04", 3), ("B03", 2), ("B02", 1))):
            (path,) = folder.glob(f"GRANULE/*/IMG_DATA/R10m/*_{name}_10m.jp2")
            with rasterio.open(path) as dataset:
                dn = dataset.read(1, window=window).astype(float)
            found = re.search(rf'<BOA_ADD_OFFSET band_id="{number}">(-?\d+)<', text)
            want = np.where(dn == 0, np.nan, np.maximum((dn + float(found[1] if found else 0)) / 10_000, 0))
            np.testing.assert_allclose(chip.colour[rows, columns, layer], want, rtol=1e-6)
