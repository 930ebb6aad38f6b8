"""Rasters that are not what a catalogue takes them for: other pixels, several bands, other numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from sen2chain import TimeSeries
from sen2chain.archive import MemorySource
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from pathlib import Path

EDGE, LEFT, TOP = 1920, 600_000, 5_100_000  # metres
PIXELS = {"B04": 10, "B08": 10, "B11": 20, "SCL": 20, "CLDPRB": 20}
DAYS = (1, 11)


def write(path: Path, band: str, metres: int, **options: Any) -> str:
    """Write a raster of a band on the same ground with pixels of any size."""
    factor = options.pop("scale", 1.0)
    profile = {"count": 1, "dtype": "uint16" if band.startswith("B") else "uint8", "nodata": 0, **options}
    value = {"B04": 2000, "B08": 4000, "B11": 3000, "SCL": 4, "CLDPRB": 5}[band]
    size = EDGE // metres
    place = {"crs": "EPSG:32632", "transform": Affine(metres, 0, LEFT, 0, -metres, TOP)}
    with rasterio.open(path, "w", driver="GTiff", height=size, width=size, **profile, **place) as dataset:
        for number in range(profile["count"]):
            dataset.write(np.full((size, size), value + number, profile["dtype"]), number + 1)
        dataset.scales = [factor] * profile["count"]
    return str(path)


def extracted(folder: Path, odd: dict[str, dict[str, Any]]) -> TimeSeries:
    """Extract two dates, of which the first one has odd rasters."""
    found = []
    for day in DAYS:
        rasters = {}
        for band, metres in PIXELS.items():
            options = {"metres": metres, **(odd.get(band, {}) if day == DAYS[0] else {})}
            rasters[band] = write(folder / f"{day}_{band}.tif", band, **options)
        product = ProductId.parse(f"S2A_MSIL2A_202305{day:02d}T102030_N0509_R022_T32TPS_202305{day:02d}T120000")
        radiometry = Radiometry(10_000.0, dict.fromkeys((band.name for band in SENTINEL2.bands), -1000.0))
        found.append(Acquisition(product, KnownDetails(radiometry), rasters))
    parcel = shapely.box(LEFT + 500, TOP - 900, LEFT + 900, TOP - 500)
    layer = gpd.GeoDataFrame({"n": [1]}, geometry=[parcel], crs="EPSG:32632")
    asked: dict[str, Any] = {"masks": ["SCL-9-ITER0"], "quiet": True, "name": "parcels"}
    return TimeSeries(layer, ["NDVI", "NDWIGAO"], library=MemorySource(found), **asked).run()


@pytest.mark.parametrize(
    ("odd", "lost", "said"),
    [
        ({"B04": {"metres": 20}}, {"NDVI"}, "1_B04.tif has pixels of 20 x 20 m, and B04 has 10 m."),
        ({"B04": {"metres": 20}, "B08": {"metres": 20}}, {"NDVI", "NDWIGAO"}, "has pixels of 20 x 20 m"),
        ({"B11": {"metres": 10}}, {"NDWIGAO"}, "1_B11.tif has pixels of 10 x 10 m, and B11 has 20 m."),
        ({"B11": {"metres": 60}}, {"NDWIGAO"}, "1_B11.tif has pixels of 60 x 60 m, and B11 has 20 m."),
        ({"SCL": {"metres": 60}}, {"NDVI", "NDWIGAO"}, "1_SCL.tif has pixels of 60 x 60 m, and SCL has 20 m."),
        ({"B08": {"count": 3}}, {"NDVI", "NDWIGAO"}, "1_B08.tif has 3 bands, and a file of B08 alone is needed."),
        ({"B11": {"nodata": 7}}, {"NDWIGAO"}, "1_B11.tif marks pixels without data by 7, but 0 is expected."),
        ({"B11": {"scale": 0.01}}, {"NDWIGAO"}, "1_B11.tif is scaled by 0.01, but 0.0001 is expected."),
    ],
)
def test_a_raster_of_another_kind_is_a_reason(
    odd: dict[str, dict[str, Any]], lost: set[str], said: str, tmp_path: Path
) -> None:
    series = extracted(tmp_path, odd)
    for key, frame in series.data.items():
        days = [1, 11] if key not in lost else [11]
        assert [date.day for date in frame.index] == days, key
    assert said in series.report.to_csv().replace("\n", " ")


def test_a_cloud_probability_of_other_pixels_leaves_its_column_empty(tmp_path: Path) -> None:
    series = extracted(tmp_path, {"CLDPRB": {"metres": 60}})
    for frame in series.data.values():
        np.testing.assert_array_equal(frame["cldprb"], [np.nan, 5])


@pytest.mark.parametrize("odd", [{}, {"nodata": None}, {"nodata": 65535}, {"scale": 0.0001}])
def test_rasters_as_providers_have_them(odd: dict[str, Any], tmp_path: Path) -> None:
    series = extracted(tmp_path, {"B04": odd, "B11": odd})
    assert all(len(frame) == 2 for frame in series.data.values())
