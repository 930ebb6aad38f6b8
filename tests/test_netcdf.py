"""Cubes as files: they follow the CF conventions, and NetCDF and Zarr give back what was written."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from sen2chain import TimeSeries, TimeSeriesCompil
from sen2chain.export import to_dataset
from sen2chain.export.cf_conventions import variable_name

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain import demo

# Its wheels are built for a newer numpy than the oldest supported one; numpy itself ignores the difference.
pytestmark = pytest.mark.filterwarnings("ignore:numpy.ndarray size changed")

CHECK = """
import sys
from compliance_checker.runner import CheckSuite, ComplianceChecker
CheckSuite.load_all_available_checkers()
ComplianceChecker.run_checker(sys.argv[1:], ["cf:1.11"], 0, "strict")
"""


@pytest.fixture(scope="module")
def layer(few_fields: demo.DemoArchive) -> gpd.GeoDataFrame:
    """Parcels with a null, an empty and a many-part geometry, and with names and values that NetCDF does not have."""
    frame = gpd.read_file(few_fields.layer).to_crs("EPSG:32631")
    shapes = frame.geometry.to_numpy().copy()
    parts = shapely.union(shapes[1], shapely.transform(shapes[1], lambda xy: xy + np.array([0, 5000])))
    frame["geometry"] = gpd.GeoSeries([*shapes[:1], parts, None, shapely.Polygon(), *shapes[4:]], crs=frame.crs)
    count = range(len(frame))
    return frame.assign(**{
        "Größe (ha)": np.linspace(0.5, 3, len(frame)),
        "a/b c": [f"é\x00{k}" if k else None for k in count],
        "COUNT": [*count],
        "lat": "north",
        "owned": [k % 2 == 0 for k in count],
        "sown": pd.to_datetime(["", *["2021-03-04 05:06:07"] * (len(frame) - 1)]),
        "seen": pd.to_datetime(["2021-03-04 05:06:07+02:00"] * len(frame)),
        "number": pd.array([2**53 + 1, None, *range(len(frame) - 2)], dtype="Int64"),
    })  # fmt: skip


@pytest.fixture(scope="module")
def cubes(few_fields: demo.DemoArchive, layer: gpd.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Cubes of both classes: one and several indices and masks, with and without all dates, and of periods."""
    options: dict[str, Any] = {"library": few_fields.library, "quiet": True, "multiproc": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        one = TimeSeries(layer, indices="NDVI", min_valid=0.9, **options)
        many = TimeSeries(
            few_fields.layer, indices=["NDVI", "BIGR"], masks=["CM001", "CM004"],
            stats=["variance", "percentile_10"], keep_empty=True, **options,
        )  # fmt: skip
        stored = TimeSeriesCompil(
            layer, indices="NDVI", min_valid=0.9, extraction=tmp_path_factory.mktemp("extraction"), **options
        )
        stored.extract_data()
        return {
            "one": one.to_xarray(),
            "complete": one.to_xarray(complete=True),
            "many": many.to_xarray(),
            "stored": stored.to_xarray(complete=True),
            **{kind: stored.to_xarray(kind) for kind in ("all_data", "yearly", "monthly", "weekly", "daily")},
            "none": TimeSeries(layer, indices="NDVI", date_min="2030-01-01", **options).to_xarray(),
        }


@pytest.fixture(scope="module")
def files(cubes: dict[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    for name, cube in cubes.items():
        cube.to_netcdf(folder / f"{name}.nc")
    return {name: folder / f"{name}.nc" for name in cubes}


def test_files_follow_the_conventions(files: dict[str, Path]) -> None:
    pytest.importorskip("compliance_checker", reason="the oldest-versions run has no programs that check files")
    chosen = [files[name] for name in ("one", "many", "stored", "monthly", "none")]
    offline = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    run = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", CHECK, *map(str, chosen)],
        capture_output=True,
        text=True,
        env=offline,
        check=False,
    )
    assert run.stdout.count("All tests passed!") == len(chosen), run.stdout + run.stderr


def test_netcdf_gives_back_what_was_written(cubes: dict[str, xr.Dataset], files: dict[str, Path]) -> None:
    for name, cube in cubes.items():
        with xr.open_dataset(files[name], decode_coords="all") as back:
            xr.testing.assert_equal(back.load(), cube)
            assert back.attrs == cube.attrs
            assert back["date" if "date" in cube.dims else "time"].dtype.kind == "M"


def test_zarr_gives_back_what_was_written(cubes: dict[str, xr.Dataset], tmp_path: Path) -> None:
    for name in ("complete", "many", "monthly"):
        cubes[name].to_zarr(tmp_path / name, consolidated=False)
        with xr.open_zarr(tmp_path / name, decode_coords="all", consolidated=False) as back:
            xr.testing.assert_equal(back.load(), cubes[name])


def test_a_place_is_inside_its_outline(cubes: dict[str, xr.Dataset], layer: gpd.GeoDataFrame) -> None:
    cube = cubes["one"]
    outlines = gpd.GeoSeries.from_wkt(
        cube["geometry"].to_series().replace("", None), crs=cube["geometry"].attrs["crs"]
    ).to_crs("EPSG:4326")
    points = gpd.GeoSeries(gpd.points_from_xy(cube["lon"], cube["lat"]), crs="EPSG:4326")
    assert outlines.covers(points).tolist() == [True, True, False, False, *[True] * (len(layer) - 4)]
    shapes = shapely.from_wkt([text or None for text in cube["geometry"].to_numpy()])
    assert shapely.equals_exact(shapes[4:], layer.geometry.to_numpy()[4:]).all()  # to the last bit
    assert shapes[2] is None
    assert shapes[3].is_empty


def test_attributes_keep_their_values_under_names_that_the_conventions_allow(cubes: dict[str, xr.Dataset]) -> None:
    cube = cubes["one"]
    names = {str(v.attrs["long_name"]): str(k) for k, v in cube.coords.items() if v.dims == ("fid",)}
    assert names["Größe (ha)"] == "Grosse_ha"
    assert names["a/b c"] == "a_b_c"
    assert names["COUNT"] == "attr_COUNT"
    assert names["lat"] == "attr_lat"
    assert cube["a_b_c"].to_numpy().tolist()[:2] == ["", "é1"]
    assert cube["number"].to_numpy().tolist()[:3] == [str(2**53 + 1), "", "0"]
    assert cube["seen"].to_numpy()[0] == np.datetime64("2021-03-04T03:06:07")
    assert np.isnat(cube["sown"].to_numpy()[0])
    assert cube["owned"].to_numpy().tolist()[:2] == [True, False]


@pytest.mark.parametrize(
    ("text", "taken", "name"),
    [
        ("crop", (), "crop"), ("_x_", (), "attr__x"), ("2021", (), "attr_2021"), ("名", (), "attr"),
        ("mean", ("mean",), "attr_mean"), ("Mean", ("mean", "attr_mean"), "attr_Mean_2"), ("a b", ("a_b",), "attr_a_b"),
        ("", (), "attr"),
    ],
)  # fmt: skip
def test_names_of_variables(text: str, taken: tuple[str, ...], name: str) -> None:
    assert variable_name(text, set(taken)) == name


def test_all_acquisitions_are_there_on_request(cubes: dict[str, xr.Dataset], few_fields: demo.DemoArchive) -> None:
    every = sorted({np.datetime64(day) for day in few_fields.truth.dates})
    for name in ("complete", "stored"):
        np.testing.assert_array_equal(cubes[name]["date"].to_numpy().astype("M8[us]"), np.array(every, "M8[us]"))
    assert cubes["one"].sizes["date"] < len(every)
    xr.testing.assert_equal(cubes["complete"].sel(date=cubes["one"]["date"]), cubes["one"])
    lacking = cubes["complete"].drop_sel(date=cubes["one"]["date"])
    assert lacking["mean"].isnull().all()  # noqa: PD003  # xarray
    assert (lacking["tile"] == "").all()


@pytest.mark.parametrize(
    ("kind", "days"), [("yearly", {365}), ("monthly", {28, 30, 31}), ("weekly", {6, 7}), ("daily", {1})]
)
def test_periods_say_when_they_begin_and_end(cubes: dict[str, xr.Dataset], kind: str, days: set[int]) -> None:
    cube = cubes[kind]
    begin, end = cube["time_bounds"].to_numpy().T
    assert set(((end - begin) // np.timedelta64(1, "D")).tolist()) <= days
    assert (cube["time"].to_numpy() == begin).all()
    text = {"yearly": "%Y", "monthly": "%Y-%m", "weekly": "%Y-%U", "daily": "%Y-%m-%d"}[kind]
    for moment in (begin, end - np.timedelta64(1, "s")):
        assert pd.DatetimeIndex(moment).strftime(text).tolist() == cube["period"].to_numpy().tolist()


def test_units_are_index_units_and_methods_are_named(cubes: dict[str, xr.Dataset]) -> None:
    mean = cubes["one"]["mean"]
    assert (mean.attrs["units"], mean.attrs["cell_methods"]) == ("1e-4", "area: mean")
    assert mean.attrs["standard_name"] == "normalized_difference_vegetation_index"
    assert "standard_name" not in cubes["many"]["mean"].attrs
    assert "cell_methods" not in cubes["monthly"]["mean"].attrs
    assert {name for name, v in cubes["many"].variables.items() if "long_name" not in v.attrs} == set()


def test_a_cube_is_a_copy_and_long_notes_are_kept(tmp_path: Path) -> None:
    attributes = pd.DataFrame({"size": [1.0, 2.0], "crop": ["rye", "oats"]})
    rows = pd.DataFrame({"date": pd.to_datetime(["2021-01-01"]), "fid": [0], "mean": [1.0]})
    cube = to_dataset(
        {("NDVI", "CM001"): rows}, geometry=np.array([shapely.Point(0, 0), None]), crs="EPSG:4326",
        attributes=attributes, definitions={}, provenance={"products": ["x" * 100_000]},
    )  # fmt: skip
    cube["size"][:] = 7
    cube["crop"][:] = "spoilt"
    assert attributes["size"].tolist() == [1.0, 2.0]
    assert attributes["crop"].tolist() == ["rye", "oats"]
    cube.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        assert back.attrs["sen2chain"] == cube.attrs["sen2chain"]
