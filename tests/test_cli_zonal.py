"""The command `sen2chain zonal`, as a new user runs it: exit codes, and what is left where it fails."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from sen2chain import rasters
from sen2chain.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two rasters on the same ground and a layer; it is the current folder."""
    at = rasterio.Affine(10, 0, 600_000, 0, -10, 5_000_000)
    profile = {"driver": "GTiff", "count": 2, "height": 30, "width": 30, "dtype": "uint8", "crs": "EPSG:32632"}
    for name in ("a", "b"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile, transform=at, nodata=0) as file:
            file.write(np.full((2, 30, 30), 7, np.uint8))
    box = shapely.box(600_050, 4_999_800, 600_150, 4_999_950)
    gpd.GeoDataFrame({"plot": ["p"]}, geometry=[box], crs="EPSG:32632").to_file(tmp_path / "parcels.gpkg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, ["zonal", *words], prog_name="sen2chain")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"a.tif", "b.tif", "parcels.gpkg"}


def test_all_is_well(home: Path) -> None:
    result = run("a.tif", "parcels.gpkg", "--stat", "median", "--out", "out/t.csv")
    assert result.exit_code == 0, result.output
    assert names(home / "out") == {"t.csv", "t.json"}
    header, row = (home / "out" / "t.csv").read_text().splitlines()
    assert "band_1_count,band_1_nodata,band_1_mean,band_1_std,band_1_min,band_1_max,band_1_median" in header
    assert ",150,0,7,0,7,7,7," in row


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("gone.tif", "parcels.gpkg", "--out", "t.csv"), 1, "gone.tif does not exist"),
        (("a.tif", "parcels.gpkg"), 2, "Missing option '--out'"),
        (("a.tif", "parcels.gpkg", "--out", "t.csv", "--combine", "both"), 2, "'both' is not one of"),
        (("a.tif", "parcels.gpkg", "--out", "t.xlsx"), 2, "t.xlsx does not end with .csv or .parquet, the formats"),
        (("a.tif", "parcels.gpkg", "--out", "t.xlsx", "--dry-run"), 2, "t.xlsx does not end with .csv or .parquet"),
        (("a.tif", "parcels.gpkg", "--out", "t.csv", "--report", "r.xlsx"), 1, "The report is a CSV file"),
        (("a.tif", "parcels.gpkg", "--out", "t"), 2, "name it t.csv, or t.parquet."),
        (("parcels.gpkg", "a.tif", "--out", "t.csv"), 2, "parcels.gpkg is a layer, and a.tif is a raster; name the"),
        (("a.tif", "parcels.gpkg", "b.tif", "--dry-run"), 2, "parcels.gpkg is a layer, and b.tif is a raster; name"),
        (("a.tif", "b.tif", "--out", "t.csv"), 2, "b.tif was given as the layer, and is a raster; name the rasters"),
        (("parcels.gpkg", "parcels.gpkg", "--out", "t.csv"), 2, "parcels.gpkg was given as a raster, and is a layer"),
        (("a.tif", "b.tif", "gone.tif", "parcels.gpkg", "--out", "t.csv"), 4, "A part could not be read."),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, sentence: str) -> None:
    result = run(*words)
    assert (result.exit_code, sentence in result.output) == (code, True), result.output


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("lacks", ["choice", "crs", "feature"])
def test_a_layer_that_lacks_something_is_told_where_it_is_given_as_a_raster(home: Path, lacks: str) -> None:
    layer = gpd.read_file("parcels.gpkg")
    if lacks == "choice":
        layer.to_file(home / "odd.gpkg", layer="other")
    elif lacks == "crs":
        layer = layer.set_crs(None, allow_override=True)
    else:
        layer = layer.iloc[:0]
    layer.to_file(home / "odd.gpkg", layer="odd")
    result = run("odd.gpkg", "parcels.gpkg", "--out", "t.csv")
    assert result.exit_code == 2, result.output
    assert "odd.gpkg was given as a raster, and is a layer; name the rasters first" in result.output


@pytest.mark.parametrize("more", [("--out", "t.csv"), ("--dry-run",)])
def test_no_polygon_has_a_value(home: Path, more: tuple[str, ...]) -> None:
    far = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 50, 50)], crs="EPSG:32632")
    far.to_file(home / "far.gpkg")
    result = run("a.tif", "far.gpkg", *more)
    assert result.exit_code == 3, result.output
    assert "The layer far lies outside of" in result.output
    assert "it spans x 0 to 50 and y 0 to 50, the raster x 600000 to 600300 and y 4999700 to 5000000." in result.output


@pytest.mark.parametrize("more", [("--out", "t.csv"), ("--dry-run",)])
def test_features_outside_of_the_raster_are_told(home: Path, more: tuple[str, ...]) -> None:
    layer = gpd.read_file("parcels.gpkg")
    shapes = [*layer.geometry, layer.geometry[0], layer.translate(9_000)[0], layer.translate(-9_000)[0]]
    gpd.GeoDataFrame(geometry=shapes, crs=layer.crs).to_file(home / "most.gpkg")
    result = run("a.tif", "b.tif", "most.gpkg", *more)
    assert result.exit_code == 0, result.output
    assert "2 of 4 features lie outside of the rasters (fid 2, 3)." in result.output
    assert "outside of" not in run("a.tif", "parcels.gpkg", "--dry-run").output


def test_verbose_tells_grid_windows_threads_and_time(home: Path) -> None:
    result = run("a.tif", "parcels.gpkg", "--out", "t.csv", "-v", "--workers", "3", "--report", "r.csv")
    assert "30 x 30 pixels of 10 m from (600000, 5000000) in EPSG:32632" in result.output
    assert re.search(r"Read and computed in \d+\.\d s with 3 threads\.", result.output)
    assert "Rasters" in run("a.tif", "parcels.gpkg", "--dry-run", "-v").output
    assert "Rasters" not in run("a.tif", "parcels.gpkg", "--dry-run").output
    assert (
        "a.tif was named more than once, and is read once." in run("a.tif", "a.tif", "parcels.gpkg", "--dry-run").output
    )
    assert (home / "r.csv").read_text().splitlines()[0] == (
        "raster,band,rows,null_geometry,empty_geometry,buffered_away,outside_raster,no_pixel_centre_inside,no_data,"
        "unreadable,error"
    )


def test_a_full_disk_is_one_sentence_and_nothing_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run("a.tif", "parcels.gpkg", "--out", "t.csv")
    assert result.exit_code == 1
    assert "No room is left on the disk" in result.output
    assert names(home) == set()


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a folder in which even root makes no file")
def test_a_read_only_folder_is_told_before_a_pixel_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters.BandStack, "read", lambda *_: pytest.fail("a pixel was read"))
    result = run("a.tif", "parcels.gpkg", "--out", "/proc/t.csv")
    assert result.exit_code == 1
    assert "/proc" in result.output.splitlines()[-1]


def test_another_result_is_kept_and_told_before_a_pixel_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "t.csv").write_text("tile,date\n32TLP,2021-01-01\n")
    monkeypatch.setattr(rasters.BandStack, "read", lambda *_: pytest.fail("a pixel was read"))
    result = run("a.tif", "parcels.gpkg", "--out", "t.csv")
    assert result.exit_code == 1
    assert "t.csv is a table of another kind" in result.output
    assert (home / "t.csv").read_text().startswith("tile,date")


@pytest.mark.parametrize("moment", ["read", "write"])
def test_an_interrupted_run_leaves_nothing_half(home: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run("a.tif", "parcels.gpkg", "--out", "t.csv")
    before = {name: (home / name).read_bytes() for name in names(home)}
    if moment == "read":
        monkeypatch.setattr(rasters.BandStack, "read", interrupted)
    else:
        monkeypatch.setattr("sen2chain.export.write_csv", interrupted)
    result = run("a.tif", "parcels.gpkg", "--out", "t.csv")
    assert result.exit_code == 130, result.output
    assert "Nothing was written." in result.output
    assert {name: (home / name).read_bytes() for name in names(home)} == before


def test_polygons_smaller_than_pixels_are_told_with_what_to_do() -> None:
    """One pixel of 300 m, whose centre lies 20 m east of the polygon."""
    at = rasterio.Affine(300, 0, 600_020, 0, -300, 5_000_000)
    form = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open("coarse.tif", "w", **form, transform=at) as file:
        file.write(np.ones((1, 1, 1), np.uint8))
    said = run("coarse.tif", "parcels.gpkg", "--out", "coarse.csv").output
    assert re.search(r"^1 of 1 features? holds no pixel centre of .*coarse\.tif \(fid 0\)\. Use", said, re.MULTILINE)
    assert "--pixels weighted" in said
    assert "no pixel centre" not in run("coarse.tif", "parcels.gpkg", "--out", "w.csv", "--pixels", "weighted").output
