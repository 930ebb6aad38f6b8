"""Sensors: the one that ships, and a made-up one that runs through the whole extraction on files written here."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from scipy import ndimage

from sen2chain import INDICES, Index, Mask, TimeSeries, TimeSeriesCompil
from sen2chain.archive import MemorySource
from sen2chain.errors import FormulaError, RequestError, UnknownNameError
from sen2chain.grid import nominal_grid
from sen2chain.indices import reflectance
from sen2chain.masks import SQUARE5
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.sensor import MGRS_TILES, SENTINEL2, Band, NameParts, QualityRaster, Sensor
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.sensor import Named

    Array = npt.NDArray[Any]

# ------------------------------------------------------------------------------------------------------ Sentinel-2

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
NAME = "S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533"


def test_bands_of_sentinel_2_are_in_the_order_of_the_metadata() -> None:
    assert tuple(band.name for band in SENTINEL2.bands) == BAND_IDS
    assert {b.name for b in SENTINEL2.served if b.resolution == 10} == {"B02", "B03", "B04", "B08"}
    assert {b.name for b in SENTINEL2.served if b.resolution == 20} == {"B05", "B06", "B07", "B8A", "B11", "B12"}
    assert SENTINEL2.finest == 10
    assert [SENTINEL2.is_finest(name) for name in ("B08", "B11", "B01", "SCL")] == [True, False, False, False]


@pytest.mark.parametrize(
    ("baseline", "has"), [(2.14, False), (3.99, False), (4.0, True), (5.11, True), (98.99, True), (99.99, False)]
)
def test_offsets_belong_to_baselines(baseline: float, has: bool) -> None:  # noqa: FBT001  # a row of the table
    assert SENTINEL2.has_offsets(baseline) is has


def test_a_name_is_written_as_it_was_read() -> None:
    product = ProductId.parse(f"{NAME}.SAFE")
    assert (str(product), product.sensor) == (NAME, SENTINEL2)
    assert SENTINEL2.naming.find(f"fields_{NAME}_NDVI_CM001.csv") == NAME
    assert SENTINEL2.naming.find("fields_NDVI_CM001.csv") is None


# ------------------------------------------------------------------------------------------------- a made-up sensor

_NAME = re.compile(r"(TL[0-9])\.([0-9]{2}[A-Z]{3})\.([0-9]{4}-[0-9]{2}-[0-9]{2})\.v([0-9]+)")


@dataclass(frozen=True)
class Dotted:
    """Names as ``TL1.32TPS.2021-07-05.v2``."""

    def read(self, text: str) -> NameParts:
        match = _NAME.fullmatch(text)
        if match is None:
            raise RequestError(f"'{text}' is not the name of a product, like TL1.32TPS.2021-07-05.v2.")
        return NameParts(match[1], dt.datetime.fromisoformat(match[3]), int(match[4]), 0, match[2], "")

    def write(self, product: Named) -> str:
        return f"{product.platform}.{product.tile}.{product.sensing:%Y-%m-%d}.v{product.baseline}"

    def find(self, text: str) -> str | None:
        found = [part for part in text.split("_") if _NAME.fullmatch(part)]
        return found[-1] if found else None


NODATA = -9999
TERRALOOK = Sensor(
    name="Terralook",
    bands=(Band("GRN", 30), Band("RED", 30), Band("NIR", 30), Band("THERMAL", 90, served=False)),
    quality=(
        QualityRaster(
            "QA", 30, "bits", ("fill", "cloud", "shadow", "snow", "haze", "", "", "", "", "dust"), dtype="uint16"
        ),
        QualityRaster("KIND", 30, "classes", ("unknown", "land", "water")),
    ),
    naming=Dotted(),
    tiling=MGRS_TILES,
    classification="KIND",
    dtype="int16",
    nodata=NODATA,
    official_baselines=range(1, 10),
)
TILE = "32TPS"
FULL = nominal_grid(TILE, TERRALOOK)
SHAPE = (40, 50)
RADIOMETRY = Radiometry(20000.0, {"GRN": 500.0, "RED": 500.0, "NIR": -250.0})
VEG = Index("VEG", "(NIR-RED)/(NIR+RED)", sensor=TERRALOOK)
CLOUDS = Mask.parse("qa-1-9-iter0", TERRALOOK)


def product(text: str) -> ProductId:
    return ProductId.parse(text, TERRALOOK)


class Scene:
    """One product of the made-up sensor: its arrays, and the files that hold them."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.arrays: dict[str, Array] = {
            band: rng.integers(-400, 18000, SHAPE).astype(np.int16) for band in ("GRN", "RED", "NIR")
        }
        # No data on the left, cloud (bit 1) at the top right, dust (bit 9) here and there, haze where nobody cares.
        for band in ("RED", "NIR"):
            self.arrays[band][:, :10] = NODATA
        qa = np.zeros(SHAPE, np.uint16)
        qa[:12, 30:] |= 1 << 1
        qa[rng.random(SHAPE) < 0.02] |= 1 << 9
        qa[rng.random(SHAPE) < 0.5] |= 1 << 4
        self.arrays["QA"] = qa
        self.arrays["KIND"] = rng.integers(0, 3, SHAPE).astype(np.uint8)
        self.id, self.files = product(name), {}
        for band, array in self.arrays.items():
            path = folder / f"{name}.{band}.tif"
            with rasterio.open(
                path, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype=array.dtype,
                crs=FULL.crs, transform=rasterio.Affine(*FULL.transform), tiled=True, blockxsize=16, blockysize=16,
            ) as file:  # fmt: skip
                file.write(array, 1)
            self.files[band] = str(path)

    @property
    def acquisition(self) -> Acquisition:
        return Acquisition(self.id, KnownDetails(RADIOMETRY), self.files)

    def veg(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Stored values of VEG, and where they are valid, by plain numpy."""
        red, nir = self.arrays["RED"].astype(float), self.arrays["NIR"].astype(float)
        known = (red != NODATA) & (nir != NODATA)
        red, nir = np.maximum((red + 500) / 20000, 0), np.maximum((nir - 250) / 20000, 0)
        with np.errstate(all="ignore"):
            value = np.rint((nir - red) / (nir + red) * 10000)
        return value, known & np.isfinite(value)

    def clouds(self, iterations: int = 0) -> npt.NDArray[np.bool_]:
        clouds = (self.arrays["QA"] & (1 << 1 | 1 << 9)) > 0
        kernel = np.array([[abs(i - 2) <= width // 2 for i in range(5)] for width in SQUARE5]).T
        for _ in range(iterations):
            clouds = ndimage.binary_dilation(clouds, kernel)
        found: npt.NDArray[np.bool_] = clouds
        return found


# Rows and columns of the features: (first row, first column, rows, columns).
BOXES = ((20, 15, 9, 12), (25, 5, 10, 11), (2, 2, 8, 7), (1, 34, 9, 14), (8, 26, 10, 10))
MIXED, HALF_EMPTY, EMPTY, CLOUDY, EDGE = range(5)


def fields() -> gpd.GeoDataFrame:
    """Rectangles whose edges lie 10 m inside of those of `BOXES`, so that the same pixel centres are inside."""
    pixel, _, left, _, _, top = FULL.transform
    boxes = [
        shapely.box(
            left + c * pixel + 10, top - (r + h) * pixel + 10, left + (c + w) * pixel - 10, top - r * pixel - 10
        )
        for r, c, h, w in BOXES
    ]
    return gpd.GeoDataFrame({"name": list("abcde")}, geometry=boxes, crs=FULL.crs)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    return [Scene(tmp_path, f"TL1.{TILE}.2021-07-{day:02d}.v2", day) for day in (5, 21)]


def series(scenes: list[Scene], **options: object) -> TimeSeries:
    source = MemorySource(scene.acquisition for scene in scenes)
    given: dict[str, object] = {"indices": [VEG], "masks": [CLOUDS], "executor": "serial"} | options
    return TimeSeries(fields(), library=source, quiet=True, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_rows_of_another_sensor_are_those_of_numpy(scenes: list[Scene], iterations: int) -> None:
    mask = replace(CLOUDS, iterations=iterations)
    rows = series(scenes, masks=[mask], stats=["kind_fractions"]).data["VEG"].reset_index()
    expected = 0
    for scene in scenes:
        value, known = scene.veg()
        clouds = scene.clouds(iterations)
        for fid, (r, c, h, w) in enumerate(BOXES):
            window = slice(r, r + h), slice(c, c + w)
            valid = known[window] & ~clouds[window]
            found = rows[(rows["fid"] == fid) & (rows["date"] == scene.id.sensing)]
            assert len(found) == bool(valid.any())
            if not len(found):
                continue
            expected += 1
            row, values = found.iloc[0], value[window][valid]
            counts = (valid.sum(), (~valid).sum(), (known[window] & clouds[window]).sum())
            assert (row["count"], row["nodata"], row["nbcld"]) == counts
            assert np.isnan(row["cldprb"])  # the sensor has no such raster
            statistics = (values.min(), values.max(), values.mean(), values.std(), np.median(values))
            np.testing.assert_allclose(row[["min", "max", "mean", "std", "median"]].astype(float), statistics)
            shares = np.bincount(scene.arrays["KIND"][window].ravel(), minlength=3) / (h * w)
            np.testing.assert_allclose(row[["kind_0", "kind_1", "kind_2"]].astype(float), shares)
            assert row["tile"] == TILE
            assert row["filename"] == f"{scene.id}_VEG_QA-1-9-ITER{iterations}.jp2"
    assert len(rows) == expected > 3


def test_its_reasons_are_counted(scenes: list[Scene]) -> None:
    ts = series(scenes)
    for line in ts.report.to_dict("records"):
        assert (line["rows"], line["no_data"], line["cloud"]) == (3, 1, 1)
        assert (line["value_source"], line["mask_source"]) == ("bands", "computed from QA")
        assert line["error"] == "cldprb is empty: Terralook has none."
    kept = series(scenes, keep_empty=True).data["VEG"]
    assert list(kept[kept["fid"] == EMPTY]["reason"]) == ["no_data"] * 2
    assert list(kept[kept["fid"] == CLOUDY]["reason"]) == ["cloud"] * 2


def test_its_json_names_it(scenes: list[Scene], tmp_path: Path) -> None:
    (table,) = series(scenes, name="fields").to_csv(tmp_path / "out")
    note = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    assert note["parameters"]["sensor"] == "Terralook"
    assert note["parameters"]["indices"] == {"VEG": "(NIR-RED)/(NIR+RED)"}
    assert note["parameters"]["masks"] == ["QA-1-9-ITER0"]
    assert [item["acquisition"] for item in note["products"]] == [str(scene.id) for scene in scenes]


def test_two_baselines_of_one_scene_compete(scenes: list[Scene], tmp_path: Path) -> None:
    newer = Scene(tmp_path, f"TL1.{TILE}.2021-07-05.v3", 99)
    local = Scene(tmp_path, f"TL1.{TILE}.2021-07-05.v12", 98)  # not of the agency, so it ranks last
    rows = series([scenes[0], newer, local]).data["VEG"]
    assert set(rows["filename"]) == {f"{newer.id}_VEG_QA-1-9-ITER0.jp2"}


def test_what_is_missing_is_said_in_its_own_names(scenes: list[Scene]) -> None:
    files = {band: path for band, path in scenes[0].files.items() if band not in {"NIR", "QA"}}
    source = MemorySource([Acquisition(scenes[0].id, KnownDetails(RADIOMETRY), files)])
    green = Index("GREENNESS", "GRN-RED", sensor=TERRALOOK)
    ts = TimeSeries(fields(), indices=[VEG, green], masks=[CLOUDS], library=source, quiet=True, executor="serial")
    veg, greenness = ts.report["error"]
    assert veg == "VEG needs band NIR, which the archive lacks."
    assert greenness == (
        "QA-1-9-ITER0 needs QA, which the archive lacks, and no raster of it is stored. "
        "Masks that would work: KIND-0-ITER0, none."
    )


def test_an_index_of_sentinel_2_is_not_computed_from_another_sensor(scenes: list[Scene]) -> None:
    ts = series(scenes, indices=["NDVI"], masks=["none"])
    assert not ts.rows
    assert set(ts.report["index_inputs_missing"]) == {len(BOXES)}
    assert set(ts.report["error"]) == {"NDVI is made for Sentinel-2, and the product is one of Terralook."}


def test_indices_and_masks_of_two_sensors_are_refused() -> None:
    with pytest.raises(RequestError, match="VEG is made for Terralook and CM001 for Sentinel-2; extract them in two"):
        TimeSeries(fields(), indices=[VEG], masks=[Mask.parse("CM001")], library=MemorySource([]), quiet=True)
    with pytest.raises(RequestError, match="VEG is made for Terralook and NDVI for Sentinel-2"):
        TimeSeries(fields(), indices=[VEG, "NDVI"], masks=["none"], library=MemorySource([]), quiet=True)


def test_folders_of_layers_keep_rows_of_sentinel_2_alone(scenes: list[Scene], tmp_path: Path) -> None:
    source = MemorySource(scene.acquisition for scene in scenes)
    with pytest.raises(RequestError, match="keep rows of Sentinel-2 alone, not of Terralook; use TimeSeries"):
        TimeSeriesCompil(
            fields(), indices=[VEG], masks=[CLOUDS], library=source, extraction=tmp_path / "rows", quiet=True, name="f"
        )
    assert not (tmp_path / "rows").exists()


def test_names_are_read_by_the_sensor() -> None:
    assert product(f"TL1.{TILE}.2021-07-05.v2").tile == TILE
    with pytest.raises(RequestError, match="not the name of a product, like TL1"):
        product(NAME)
    assert [product(f"TL1.{TILE}.2021-07-05.v{v}").baseline_rank for v in (3, 12)] == [3, 0]


def test_a_tile_has_its_pixels() -> None:
    assert (FULL.shape, FULL.pixel_xy) == ((3660, 3660), (30.0, 30.0))
    assert FULL.bounds == nominal_grid(TILE).bounds
    with pytest.raises(RequestError):
        nominal_grid(TILE, replace(TERRALOOK, name="Elsewhere", tiling=None))


def test_a_formula_holds_its_bands_alone() -> None:
    assert Index("X", "NIR*GRN", sensor=TERRALOOK).bands == ("GRN", "NIR")
    with pytest.raises(FormulaError, match="uses B04, which is not a band on the 30 m grid; allowed: GRN, RED, NIR"):
        Index("X", "B04", sensor=TERRALOOK)
    with pytest.raises(FormulaError, match="THERMAL"):
        Index("X", "THERMAL", sensor=TERRALOOK)
    assert Index("NDVI", "(NIR-RED)/(NIR+RED)", sensor=TERRALOOK) != INDICES["NDVI"]


def test_its_masks() -> None:
    assert (CLOUDS.name, CLOUDS.inputs, CLOUDS.bands, CLOUDS.reach) == ("QA-1-9-ITER0", ("QA",), (), 0)
    assert Mask.parse("KIND-2-ITER1", TERRALOOK).name == "KIND-2-ITER1"
    for text in ("CM001", "SCL-3-ITER1", "OCM", "THERMAL-1-ITER0"):
        with pytest.raises(UnknownNameError, match="QA-0-ITER0"):
            Mask.parse(text, TERRALOOK)
    with pytest.raises(RequestError, match=r"QA bits are .* from 0 to 9, ascending"):
        Mask.parse("QA-10-ITER0", TERRALOOK)
    with pytest.raises(RequestError, match="needs at least one class, as in KIND-0-ITER0"):
        Mask("KIND", sensor=TERRALOOK)
    bits = np.array([[0, 2, 512, 514, 16, 65535]], np.uint16)
    assert CLOUDS.compute({"QA": bits}).tolist() == [[False, True, True, True, False, True]]


def test_its_statistics() -> None:
    assert Statistics.of(["kind_fractions"], TERRALOOK).columns[-3:] == ("kind_0", "kind_1", "kind_2")
    assert (
        Statistics.of("kind_fractions", TERRALOOK).define("kind_2")
        == "share of the polygon's pixels in KIND class 2: water"
    )
    with pytest.raises(UnknownNameError, match="kind_fractions"):
        Statistics.of(["scl_fractions"], TERRALOOK)
    with pytest.raises(UnknownNameError):
        Statistics.of(["_fractions"], replace(TERRALOOK, name="Plain", classification=None))


def test_its_numbers_without_a_measurement() -> None:
    dn = np.array([NODATA, 0, 65535 - 65536, 20000], np.int16)
    nan = np.nan
    np.testing.assert_array_equal(reflectance(dn, 0.0, 20000.0, TERRALOOK), [nan, 0.0, 0.0, 1.0])
    saturating = replace(TERRALOOK, name="Saturating", saturated=20000)
    np.testing.assert_array_equal(reflectance(dn, 0.0, 20000.0, saturating), [nan, 0.0, 0.0, nan])


def test_sensors_are_small_in_a_pickle_and_stay_the_same() -> None:
    assert pickle.loads(pickle.dumps(SENTINEL2)) is SENTINEL2  # noqa: S301  # our own bytes
    assert pickle.loads(pickle.dumps(ProductId.parse(NAME))).sensor is SENTINEL2  # noqa: S301
    assert len(pickle.dumps(SENTINEL2)) < 60
    assert pickle.loads(pickle.dumps(CLOUDS)).sensor == TERRALOOK  # noqa: S301
    assert SENTINEL2 != TERRALOOK
    assert "Sentinel-2" in repr(SENTINEL2)
