"""A full tile with as many polygons as a layer can hold."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.windows import Window

from sen2chain import demo
from sen2chain.grid import nominal_grid

if TYPE_CHECKING:
    from pathlib import Path

TILE, SIZE, POLYGONS, LIMIT = "31TGJ", 10980, 100_000, 2 << 30
PRODUCTS = tuple(f"S2A_MSIL2A_202206{day}T103021_N0400_R108_T{TILE}_202206{day}T133021" for day in ("02", "12", "22"))

RUN = """
import json, pathlib, re, sys
from sen2chain import TimeSeries, coverage
from sen2chain.extract import coverages
prepared, prepare = [], coverage.compute_coverage
def counted(geometries, crs, grid, **options):
    prepared.append([grid.shape[0], options["rule"]])
    return prepare(geometries, crs, grid, **options)
coverage.compute_coverage = counted
series = TimeSeries(sys.argv[2], ["NDVI"], masks="CM004", iterations=1, library=sys.argv[1], multiproc=2).run()
files = series.to_csv(sys.argv[3])
frame = series.data["NDVI"]
# Not getrusage: its figure is inherited from the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({
    "prepared": prepared, "rows": series.rows, "bytes": peak,
    "lines": sum(1 for _ in open(files[0])), "unique": int(frame.reset_index()[["date", "fid"]].duplicated().sum()),
    "error": float((frame["mean"] - frame["median"]).abs().max()),
}))
"""


def write_raster(path: Path, pixel: int, dtype: str) -> None:
    """Write a full tile: a plane that rises by one every 10 rows, or an empty mask."""
    grid = nominal_grid(TILE).refined(pixel)
    n = grid.shape[0]
    profile = {
        "driver": "GTiff", "width": n, "height": n, "count": 1, "dtype": dtype, "crs": grid.crs,
        "transform": rasterio.Affine(*grid.transform), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "zstd", "nodata": 32767 if dtype == "int16" else None,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as file:
        for r in range(0, n, 512):
            rows = min(512, n - r)
            values = (np.arange(r, r + rows) // 10)[:, None] if dtype == "int16" else np.zeros((rows, 1))
            block = np.broadcast_to(values, (rows, n)).astype(dtype)
            file.write(block, 1, window=Window(0, r, n, rows))


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tile")
    for product in PRODUCTS:
        write_raster(folder / "INDICES" / "NDVI" / TILE / product / f"{product}_NDVI.tif", 10, "int16")
        mask = f"{product}_CM004-CSH1-CMP1-CHP1-TCI1-ITER1.tif"
        write_raster(folder / "CLOUDMASKS" / TILE / product / mask, 20, "uint8")
    grid = nominal_grid(TILE)
    demo.parcels(POLYGONS, grid.bounds, grid.crs).to_parquet(folder / "parcels.parquet")
    return folder


def run(tile: Path, layer: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", RUN, str(tile), str(layer), str(out)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  # ourselves
    found: dict[str, Any] = json.loads(printed)
    return found


def test_one_polygon_as_large_as_the_tile_stays_below_2_gib(tile: Path, tmp_path: Path) -> None:
    grid = nominal_grid(TILE)
    layer = gpd.GeoDataFrame({"name": ["tile"]}, geometry=[shapely.box(*grid.bounds)], crs=grid.crs)
    layer.to_parquet(tmp_path / "tile.parquet")
    found = run(tile, tmp_path / "tile.parquet", tmp_path)
    assert found["bytes"] < LIMIT
    assert found["rows"] == len(PRODUCTS)
    assert found["error"] == 0  # the plane's mean is its median


def test_a_full_tile_with_100_000_polygons_stays_below_2_gib(tile: Path, tmp_path: Path) -> None:
    found = run(tile, tile / "parcels.parquet", tmp_path)
    assert found["bytes"] < LIMIT
    # Geometry becomes pixels once, and serves every date.
    assert found["prepared"] == [[SIZE, "center"]]
    assert found["rows"] == POLYGONS * len(PRODUCTS)
    assert found["lines"] == found["rows"] + 1
    assert found["unique"] == 0
    # On a plane the mean and the median of a compact polygon are close to each other.
    assert found["error"] < 5
