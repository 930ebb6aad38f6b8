"""The documented interface on archives of the generator: its truth, its accidents, its files."""

from __future__ import annotations

import errno
import inspect
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.csv
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner

from sen2chain import TimeSeries, TimeSeriesCompil, atomic, demo
from sen2chain.cli import main
from sen2chain.errors import (
    FormulaError,
    IncompleteLayerError,
    LayerError,
    LibraryError,
    OutputError,
    RequestError,
    Sen2ChainError,
    UnknownKeywordError,
    UnknownNameError,
)
from sen2chain.indices import Index
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.products import ProductId

REASONS = [r.value for r in Reason]
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
BASE = [
    "fid", "tile", "filename", "count", "nodata", "nbcld", "cldprb", "min", "max", "mean", "std", "median",
    "percentile_25", "percentile_75",
]  # fmt: skip
FIELDS = ["parcel", "crop", "area_ha", "attr_fid"]

TILES = ("31TGJ", "32TLP")
# Overpasses of the season: 0 clear, 2 cirrus and processed twice, 4 cut by the swath's edge in both tiles, 5 the first
# of baseline 04.00, 7 cut in the second tile, 8 a damaged band, 9 all cloud.
SEASON = demo.Scene(
    size=150,
    parcels=16,
    bands=("B03", "B04", "B08", "SCL", "CLDPRB"),
    reprocessed=((2, "31TGJ"),),
    damaged=((8, "32TLP", "B04"),),
)


@pytest.fixture(scope="session")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("season"), SEASON)


def extract(archive: demo.DemoArchive, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {
        "indices": ["NDVI"],
        "cm_version": "CM004",
        "iterations": 1,
        "multiproc": 1,
        "quiet": True,
    }
    if "safe" not in asked:
        options["library"] = archive.library
    options |= asked
    return TimeSeries(options.pop("vectors_file", archive.layer), **options)


@pytest.fixture(scope="session")
def series(season: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> TimeSeries:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return extract(season, indices=["NDVI", "BIGR"]).run()


def dates(archive: demo.DemoArchive) -> list[pd.Timestamp]:
    return [pd.Timestamp(day) for day in archive.truth.dates]


def assert_complete(series: TimeSeries) -> None:
    """Every line of a product sums up to the features; what became a row is in the data, once."""
    report = series.report
    lines = report[report["index"] != ""]
    assert (lines["rows"] + lines[REASONS].sum(axis=1) == len(series.layer.geometry)).all()
    for index, frame in series.data.items():
        assert lines.loc[lines["index"] == index, "rows"].sum() == len(frame)


def copy(archive: demo.DemoArchive, folder: Path) -> demo.DemoArchive:
    shutil.copytree(archive.library, folder / "sen2chain_data")
    return replace(archive, library=folder / "sen2chain_data")


def safe_of(archive: demo.DemoArchive, product: ProductId) -> Path:
    return archive.library / "data" / "L2A" / product.tile / f"{product}.SAFE"


def seconds(frame: pd.DataFrame | pd.Series[Any]) -> pd.DataFrame:
    """Bring dates to one unit: Parquet has no seconds, and older pandas and xarray keep none in an index."""
    table = frame if isinstance(frame, pd.DataFrame) else frame.to_frame()
    return table.reset_index(drop="date" in table).astype({"date": "datetime64[s]"})


def same(got: pd.DataFrame, want: pd.DataFrame) -> None:
    assert len(want)
    pd.testing.assert_frame_equal(got, want, check_exact=True)


# ---------------------------------------------------------------------------------------------------------- the season


def test_columns_and_order(series: TimeSeries) -> None:
    assert list(series.data) == ["NDVI", "BIGR"]
    for frame in series.data.values():
        assert list(frame.columns) == [*BASE, *FIELDS]
        assert frame.index.name == "date"
        table = frame.reset_index()
        assert table[["fid", "date"]].apply(tuple, axis=1).is_monotonic_increasing
        assert not table.duplicated(["date", "fid"]).any()
        assert (frame["count"] > 0).all()


def test_every_feature_of_every_acquisition_is_accounted_for(series: TimeSeries, season: demo.DemoArchive) -> None:
    assert_complete(series)
    report = series.report
    assert len(report) == 2 * len(season.products)
    assert set(report["acquisition"]) == {str(p) for p in season.products}


def test_two_utm_zones_give_one_row_per_date_and_feature(series: TimeSeries) -> None:
    frame = series.data["NDVI"]
    assert set(frame["tile"]) == set(TILES)
    clear = frame.loc[frame.index == frame.index.min()]
    assert clear["fid"].tolist() == list(range(16))
    assert set(clear["tile"]) == set(TILES)  # both tiles saw all; some rows of each are the better ones
    lines = series.report[(series.report["date"] == clear.index[0]) & (series.report["index"] == "NDVI")]
    assert lines["superseded"].sum() == 16


def test_the_change_of_baseline_makes_no_step(series: TimeSeries, season: demo.DemoArchive) -> None:
    assert deviations(series, season).abs().max() < 0.02
    days = deviations(series, season).index.get_level_values("date")
    assert days.min() < pd.Timestamp("2022-01-25") < days.max()


def deviations(series: TimeSeries, archive: demo.DemoArchive) -> Any:
    """Difference of the mean NDVI of clear parcels from the truth, which knows no offset and no noise.

    Parcels touch their neighbours on mixed pixels only, so a mean over the whole parcel has to be close.
    """
    frame = series.data["NDVI"].reset_index()
    frame = frame[(frame["nodata"] == 0) & (frame["count"] >= 20)]
    truth = archive.truth.index("NDVI")
    position = {day: k for k, day in enumerate(dates(archive))}
    want = np.array(
        [np.asarray(truth)[position[day], fid] for day, fid in zip(frame["date"], frame["fid"], strict=True)]
    )
    return pd.Series(frame["median"].to_numpy() / 10000 - want, index=pd.MultiIndex.from_frame(frame[["date", "fid"]]))


def test_an_ignored_offset_would_be_noticed(season: demo.DemoArchive, tmp_path: Path) -> None:
    """The test above can fail: with the offset edited to 0, later dates leave the truth."""
    edited = copy(season, tmp_path)
    changed = 0
    for metadata in edited.library.glob("data/L2A/*/*/MTD_MSIL2A.xml"):
        text, n = re.subn(r">-1000</BOA_ADD_OFFSET>", ">0</BOA_ADD_OFFSET>", metadata.read_text())
        metadata.write_text(text)
        changed += bool(n)
    assert changed >= 14
    off = deviations(extract(edited), season)
    early = off[off.index.get_level_values("date") < "2022-01-25"]
    late = off[off.index.get_level_values("date") >= "2022-01-25"]
    # The reprocessed product of an early date has an offset too: the sensing date says nothing.
    reprocessed = off[off.index.get_level_values("date") == dates(season)[2]]
    assert late.abs().max() > 0.1
    assert late.abs().median() > 0.05
    if len(reprocessed):
        assert reprocessed.abs().max() > 0.05
    assert early.drop(reprocessed.index).abs().max() < 0.02


def test_a_reprocessed_acquisition_supersedes_the_older_one(series: TimeSeries, season: demo.DemoArchive) -> None:
    day = dates(season)[2]
    rows = series.data["NDVI"].loc[lambda f: f.index == day]
    new = rows[rows["filename"].str.contains("_N0500_")]
    assert len(new) > 5
    # A row of the older baselines stays only where the new product has none.
    lines = series.report[(series.report["date"] == day) & (series.report["index"] == "NDVI")]
    older = lines[~lines["acquisition"].str.contains("_N0500_")]
    assert older["superseded"].sum() > 10
    (newest,) = lines.loc[lines["acquisition"].str.contains("_N0500_"), "rows"]
    assert newest == len(new)
    assert len(rows) == len(set(rows["fid"]))


def test_the_edge_of_the_swath(series: TimeSeries, season: demo.DemoArchive) -> None:
    """Cut in both tiles, features have no data; cut in one, the whole rows of the other tile are taken."""
    report = series.report[series.report["index"] == "NDVI"]
    both = report[report["date"] == dates(season)[4]]
    assert (both["no_data"] > 0).all()
    one = report[report["date"] == dates(season)[7]].set_index("tile")
    assert one["no_data"]["31TGJ"] == 0
    assert one["no_data"]["32TLP"] > 0
    single = extract(
        season, vectors_file=season.layer, date_min=str(dates(season)[7].date()), date_max=str(dates(season)[7].date())
    )
    rows = single.data["NDVI"]
    missing = (rows["nodata"] - rows["nbcld"]) / (rows["count"] + rows["nodata"])
    assert rows["fid"].tolist() == list(range(16))
    assert (missing < 0.1).all()


def test_completeness_goes_before_the_highest_baseline(season: demo.DemoArchive, tmp_path: Path) -> None:
    """A reprocessed product that ends at the swath's edge does not take the rows it has only in part."""
    archive = copy(season, tmp_path)
    day = dates(season)[7]
    (cut_one,) = (p for p in season.products if p.sensing == day and p.tile == "32TLP")
    newer = replace(cut_one, baseline=500, generation="20240101T000000")
    safe_of(archive, cut_one).rename(safe_of(archive, newer))
    metadata = safe_of(archive, newer) / "MTD_MSIL2A.xml"
    metadata.write_text(metadata.read_text("utf-8").replace(str(cut_one), str(newer)), "utf-8")
    asked = {"date_min": str(day.date()), "date_max": str(day.date())}
    rows = extract(archive, **asked).data["NDVI"]
    missing = (rows["nodata"] - rows["nbcld"]) / (rows["count"] + rows["nodata"])
    assert rows["fid"].tolist() == list(range(16))
    assert (missing < 0.1).all()
    of_new = rows["filename"].str.contains("_N0500_")
    assert of_new.any()
    assert not of_new.all()
    # What the cut product has in part comes from the other tile, what it has whole from itself.
    alone = extract(archive, **asked, safe=safe_of(archive, newer)).data["NDVI"]
    part = (alone["nodata"] - alone["nbcld"]) / (alone["count"] + alone["nodata"]) >= 0.1
    assert set(rows.loc[of_new, "fid"]) == set(alone.loc[~part, "fid"])


def test_a_damaged_file_is_reported_and_the_rest_complete(series: TimeSeries, season: demo.DemoArchive) -> None:
    (broken,) = season.damaged
    report = series.report
    bad = report[report["unreadable"] > 0]
    assert set(bad["acquisition"]) == {str(p) for p in season.products if str(p) in str(broken)}
    assert bad["unreadable"].tolist() == [16, 16]
    assert bad["error"].str.contains(broken.name, regex=False).all()
    assert (report.loc[report["unreadable"] == 0, "error"] == "").all()
    assert series.incomplete
    # The other tile gives the rows of that date.
    rows = series.data["NDVI"].loc[lambda f: f.index == dates(season)[8]]
    assert set(rows["tile"]) == {"31TGJ"}
    assert len(rows) > 3


def test_an_all_cloudy_date_has_no_rows_and_says_cloud(series: TimeSeries, season: demo.DemoArchive) -> None:
    day = dates(season)[9]
    assert not (series.data["NDVI"].index == day).any()
    assert (series.report.loc[series.report["date"] == day, "cloud"] == 16).all()


@pytest.mark.parametrize("threads", [2, 8, 0])
def test_rows_and_report_do_not_depend_on_threads(series: TimeSeries, season: demo.DemoArchive, threads: int) -> None:
    other = extract(season, indices=["NDVI", "BIGR"], multiproc=threads)
    for index in ("NDVI", "BIGR"):
        same(other.data[index], series.data[index])
    pd.testing.assert_frame_equal(other.report, series.report)


def test_dates_and_cover_are_limits(series: TimeSeries, season: demo.DemoArchive) -> None:
    first, last = (dates(season)[k] for k in (3, 5))
    part = extract(season, date_min=first.date(), date_max=str(last.date()))
    want = series.data["NDVI"].loc[lambda f: (f.index >= first) & (f.index <= last)]
    same(part.data["NDVI"], want)
    assert set(part.report["date"]) == set(dates(season)[3:6])
    clear = extract(season, cover_max=20)
    kept = set(clear.report["date"])
    assert dates(season)[9] not in kept
    assert dates(season)[0] in kept
    assert any("cloud cover" in note for note in clear.notes)


def test_zipped_products_equal_plain_ones(season: demo.DemoArchive, series: TimeSeries, tmp_path: Path) -> None:
    plain = extract(season, safe=season.library / "data" / "L2A")
    same(plain.data["NDVI"], series.data["NDVI"])
    zips = tmp_path / "zips"
    zips.mkdir()
    for product in season.products:
        safe = safe_of(season, product)
        with zipfile.ZipFile(zips / f"{product}.SAFE.zip", "w") as archive:
            for path in sorted(safe.rglob("*")):
                archive.write(path, f"{safe.name}/{path.relative_to(safe)}")
    zipped = extract(season, safe=zips)
    same(zipped.data["NDVI"], series.data["NDVI"])
    heads = ["acquisition", "rows", *REASONS]
    pd.testing.assert_frame_equal(zipped.report[heads], plain.report[heads])
    assert zipped.report["error"].str.contains("/vsizip/").sum() == 1


def test_a_tree_without_products_serves_stored_indices(tmp_path: Path) -> None:
    """Only INDICES and CLOUDMASKS are left of the archive, as when SAFE folders were deleted to save room."""
    scene = replace(
        SEASON, overpasses=SEASON.overpasses[:3], reprocessed=(), damaged=(), indices=("NDVI",), masks=(CM004,)
    )
    archive = demo.build(tmp_path, scene)
    want = extract(archive)
    shutil.rmtree(archive.library / "data" / "L2A")
    got = extract(archive)
    assert set(got.report["value_source"]) == {"index raster"}
    assert set(got.report["mask_source"]) == {"mask raster"}
    columns = [c for c in want.data["NDVI"].columns if c != "cldprb"]
    same(got.data["NDVI"][columns], want.data["NDVI"][columns])
    assert got.data["NDVI"]["cldprb"].isna().all()
    bands = extract(archive, indices=["BIGR"])
    assert (bands.report["index_inputs_missing"] == 16).all()
    assert bands.rows == 0


def test_legacy_indices_are_used_when_preferred(tmp_path: Path) -> None:
    scene = replace(SEASON, overpasses=SEASON.overpasses[:1], tiles=TILES[:1], reprocessed=(), damaged=(),
                    indices=("NDVI",), index_format="jp2")  # fmt: skip
    archive = demo.build(tmp_path, scene)
    bands, stored = extract(archive), extract(archive, prefer="stored")
    assert set(bands.report["value_source"]) == {"bands"}
    assert set(stored.report["value_source"]) == {"lossy index raster"}
    assert stored.data["NDVI"]["count"].tolist() == bands.data["NDVI"]["count"].tolist()
    apart = (stored.data["NDVI"]["mean"] - bands.data["NDVI"]["mean"]).abs()
    assert 0 < apart.max() < 400


# ------------------------------------------------------------------------------------------------------------- layers


def test_any_crs_and_a_geodataframe_give_the_same_rows(season: demo.DemoArchive, series: TimeSeries) -> None:
    frame = gpd.read_file(season.layer)
    same(extract(season, vectors_file=frame).data["NDVI"], series.data["NDVI"].drop(columns="attr_fid"))
    other = extract(season, vectors_file=frame.to_crs(3035)).data["NDVI"]
    same(other[["fid", "count", "mean"]], series.data["NDVI"][["fid", "count", "mean"]])


def test_nothing_is_written_beside_the_layer(season: demo.DemoArchive, tmp_path: Path) -> None:
    layer = tmp_path / "parcels.shp"
    gpd.read_file(season.layer).to_file(layer)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    extract(season, vectors_file=layer).run()
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_odd_features_are_told(season: demo.DemoArchive) -> None:
    frame = gpd.read_file(season.layer)[["parcel", "geometry"]].iloc[:5].copy()
    x, y = frame.geometry.iloc[0].centroid.coords[0]
    d = 0.002
    frame.loc[1, "geometry"] = None
    frame.loc[2, "geometry"] = shapely.Polygon()
    frame.loc[3, "geometry"] = shapely.Polygon([(x, y), (x + d, y + d), (x + d, y), (x, y + d)])  # a bow tie
    frame.loc[4, "geometry"] = shapely.Point(x, y)
    day = {"date_max": "2021-10-31"}
    got = extract(season, vectors_file=frame, **day)
    assert got.data["NDVI"]["fid"].tolist() == [0, 3, 4]
    assert got.data["NDVI"]["count"].iloc[2] == 1
    assert_complete(got)
    assert (got.report["null_geometry"] == 1).all()
    assert (got.report["empty_geometry"] == 1).all()
    text = " ".join(got.notes)
    for words in ("repaired (fid 3)", "without geometry (fid 1)", "empty (fid 2)"):
        assert words in text
    kept = extract(season, vectors_file=frame, keep_empty=True, **day).data["NDVI"]
    assert kept["fid"].tolist() == [0, 1, 2, 3, 4]
    assert kept["reason"].tolist() == ["", "null_geometry", "empty_geometry", "", ""]


def test_attributes_named_like_columns_are_renamed(season: demo.DemoArchive) -> None:
    frame = gpd.read_file(season.layer)[["geometry"]].iloc[:2].assign(mean=["a", "b"], fid=[7, 8], variance=[1, 2])
    got = extract(season, vectors_file=frame, date_max="2021-10-31", stats="variance").data["NDVI"]
    assert list(got.columns) == [*BASE, "variance", "attr_mean", "attr_fid", "attr_variance"]
    assert got["attr_mean"].tolist() == ["a", "b"]
    assert got["fid"].tolist() == [0, 1]


# -------------------------------------------------------------------------------------------------------- masks, stats


def test_several_masks_are_a_column_and_equal_separate_runs(season: demo.DemoArchive) -> None:
    masks = ["CM004", "SCL-3-8-9-10-11-ITER1", "CM001"]
    together = extract(season, masks=masks)
    frame = together.data["NDVI"]
    assert list(frame.columns[:4]) == ["fid", "tile", "filename", "mask"]
    assert_complete(together)
    for mask, alone in (
        (CM004, extract(season)),
        ("SCL-3-8-9-10-11-ITER1", extract(season, masks="SCL-3-8-9-10-11-ITER1")),
        ("CM001", extract(season, cm_version="CM001")),
    ):
        same(frame[frame["mask"] == mask].drop(columns="mask"), alone.data["NDVI"])
        assert alone.data["NDVI"]["filename"].str.endswith(f"_NDVI_{mask}.jp2").all()
    assert len(set(frame.groupby("mask")["count"].sum())) > 1


def test_own_index_units_and_min_valid_reach_the_rows(season: demo.DemoArchive, series: TimeSeries) -> None:
    own = Index("MINE", "(B08-B04)/(B08+B04)")
    got = extract(season, indices=[own], units="index", min_valid=0.8)
    want = series.data["NDVI"].loc[lambda f: f["count"] >= 0.8 * (f["count"] + f["nodata"])]
    frame = got.data["MINE"]
    # min_valid goes first: what it leaves out in one tile the other may still give.
    both = frame.reset_index().merge(want.reset_index(), on=["date", "fid", "tile"])
    assert len(both) > 0.9 * len(want)
    np.testing.assert_allclose(both["mean_x"], both["mean_y"] / 10000, rtol=1e-14)
    assert (frame["count"] >= 0.8 * (frame["count"] + frame["nodata"])).all()
    assert got.report["below_min_valid"].sum() > 0
    assert_complete(got)


# --------------------------------------------------------------------------------------------------------------- files


def read_csv(path: Path) -> pd.DataFrame:
    # Not pandas, whose older versions lose the last digit.
    frame: pd.DataFrame = pyarrow.csv.read_csv(path).to_pandas().set_index("date")
    return frame


def test_csv_parquet_and_data_agree(series: TimeSeries, tmp_path: Path) -> None:
    csv, parquet = series.to_csv(tmp_path), series.to_parquet(str(tmp_path))
    assert [p.name for p in csv] == ["parcels_NDVI_None_None.csv", "parcels_BIGR_None_None.csv"]
    assert [p.suffix for p in parquet] == [".parquet", ".parquet"]
    assert all(p.parent == tmp_path / "parcels" for p in csv + parquet)
    for index, text, table in zip(("NDVI", "BIGR"), csv, parquet, strict=True):
        want = series.data[index]
        got = pd.read_parquet(table)
        same(seconds(got), seconds(want))
        assert text.read_text().splitlines()[0] == ",".join(["date", *BASE, *FIELDS])
        back = read_csv(text)
        assert list(back.columns) == list(want.columns)
        for column in want.columns:
            if want[column].dtype.kind in "if":
                np.testing.assert_array_equal(
                    back[column].to_numpy(float), want[column].to_numpy(float), err_msg=column
                )
            else:
                assert back[column].tolist() == want[column].tolist()
        assert (back.index == want.index).all()
    assert sorted(p.suffix for p in (tmp_path / "parcels").iterdir()) == [".csv"] * 2 + [".json"] * 2 + [".parquet"] * 2


def test_xarray_agrees(series: TimeSeries) -> None:
    cube = series.to_xarray()
    frame = series.data["BIGR"].reset_index()
    assert cube["mean"].dims == ("index", "fid", "date")
    assert cube.sizes == {"index": 2, "fid": 16, "date": len(set(series.data["NDVI"].index) | set(frame["date"]))}
    part = cube.sel(index="BIGR")
    for column in ("count", "nbcld", "mean", "percentile_75", "cldprb"):
        got = part[column].to_series().dropna()
        want = frame.set_index(["fid", "date"])[column].sort_index()
        assert len(want)
        same(seconds(got.sort_index()), seconds(want.astype(float)))
    assert int(part["mean"].count()) == len(frame)
    assert cube["geometry"].attrs["crs"] == "EPSG:4326"
    assert shapely.from_wkt(cube["geometry"].to_numpy()[3]).equals(series.layer.geometry[3])
    assert cube["crop"].to_numpy().tolist() == series.layer.attributes["crop"].tolist()
    assert (cube["mean"].attrs["units"], cube["cldprb"].attrs["units"]) == ("1e-4", "percent")
    assert (cube["count"].attrs["units"], cube["std"].attrs["units"]) == ("1", "1e-4")
    assert "long_name" in cube["std"].attrs
    assert json.loads(cube.attrs["sen2chain"])["parameters"]["masks"] == [CM004]


def test_a_cube_that_does_not_fit_is_refused_and_the_rows_stay(
    series: TimeSeries, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sen2chain.export.cube.memory", lambda: 1000)
    with pytest.raises(RequestError, match=r"16 features x \d+ dates x 2 outputs x \d+ columns .* use to_parquet"):
        series.to_xarray()
    assert len(series.to_parquet(tmp_path)) == 2


def test_xarray_of_several_masks(season: demo.DemoArchive) -> None:
    got = extract(season, masks=[CM004, "CM001"], units="index", stats="variance", date_max="2021-12-31")
    cube = got.to_xarray()
    assert cube["mean"].dims == ("mask", "fid", "date")
    assert cube["variance"].attrs["units"] == "1"
    frame = got.data["NDVI"]
    want = frame[frame["mask"] == "CM001"].reset_index().set_index(["fid", "date"])["mean"].sort_index()
    same(seconds(cube["mean"].sel(mask="CM001").to_series().dropna().sort_index()), seconds(want))


def test_the_json_beside_says_how_rows_came_about(series: TimeSeries, season: demo.DemoArchive, tmp_path: Path) -> None:
    (path, _) = series.to_csv(tmp_path)
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["parameters"]["indices"] == {"NDVI": "(B08-B04)/(B08+B04)"}
    assert told["parameters"]["masks"] == [CM004]
    assert told["parameters"]["date_min"] is None
    assert told["versions"]["numpy"] == np.__version__
    assert told["layer"]["path"] == str(season.layer)
    assert told["layer"]["features"] == 16
    assert told["layer"]["sha256"] == series.layer.identity
    assert str(season.library) in told["archive"]
    assert told["rows"] == len(series.data["NDVI"])
    report = series.report[series.report["index"] == "NDVI"]
    assert told["left_out"] == {r: int(report[r].sum()) for r in REASONS if report[r].sum()}
    assert [p["acquisition"] for p in told["products"]] == report["acquisition"].tolist()
    assert [p["rows"] for p in told["products"]] == report["rows"].tolist()
    assert {p["value_source"] for p in told["products"]} == {"bands"}
    assert {p["mask_source"] for p in told["products"]} == {"computed from SCL"}
    assert sum("error" in p for p in told["products"]) == 1


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["parcels/parcels_NDVI_None_None.csv"]),
        ({"date_min": "2021-10-01"}, ["parcels/parcels_NDVI_2021-10-01_None.csv"]),
        ({"date_max": "2021-11-01"}, ["parcels/parcels_NDVI_None_2021-11-01.csv"]),
        (
            {"masks": [CM004, "CM001"], "date_min": "2021-10-01", "date_max": "2021-11-01"},
            [
                f"parcels/parcels_NDVI_2021-10-01_2021-11-01_{CM004}.csv",
                "parcels/parcels_NDVI_2021-10-01_2021-11-01_CM001.csv",
            ],
        ),
        ({"vectors_file": "frame"}, ["layer/layer_NDVI_None_None.csv"]),
        ({"vectors_file": "frame", "name": "fields"}, ["fields/fields_NDVI_None_None.csv"]),
        ({"vectors_file": "second layer", "layer": "b"}, ["two-b/two-b_NDVI_None_None.csv"]),
        ({"indices": ["NDVI", "NBR"]}, ["parcels/parcels_NDVI_None_None.csv", "parcels/parcels_NBR_None_None.csv"]),
    ],
)
def test_file_names(season: demo.DemoArchive, tmp_path: Path, asked: dict[str, Any], names: list[str]) -> None:
    frame = gpd.read_file(season.layer)
    if asked.get("vectors_file") == "frame":
        asked = {**asked, "vectors_file": frame}
    elif "layer" in asked:
        for name in ("a", "b"):
            frame.to_file(tmp_path / "two.gpkg", layer=name)
        asked = {**asked, "vectors_file": tmp_path / "two.gpkg"}
    got = extract(season, **{"cover_max": 1, **asked}).to_csv(tmp_path / "out")
    assert [str(p.relative_to(tmp_path / "out")) for p in got] == names
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {*names, *(name.replace(".csv", ".json") for name in names)}


def test_an_index_without_rows_has_a_file_with_its_header(season: demo.DemoArchive, tmp_path: Path) -> None:
    got = extract(season, indices="NBR")
    (path,) = got.to_csv(tmp_path)
    assert path.read_text() == ",".join(["date", *BASE, *FIELDS]) + "\n"
    assert list(got.data["NBR"].columns) == [*BASE, *FIELDS]
    assert json.loads(path.with_suffix(".json").read_text())["left_out"]["index_inputs_missing"] == 16 * 25


def test_weighted_counts_are_fractions(season: demo.DemoArchive) -> None:
    got = extract(season, pixels="weighted", date_max="2021-10-31").data["NDVI"]
    area = gpd.read_file(season.layer).to_crs(32631).area.to_numpy() / 100
    assert got["count"].dtype == np.float64
    np.testing.assert_allclose(got["count"] + got["nodata"], area[got["fid"]], rtol=2e-3)


def test_getstat_false_only_prepares(season: demo.DemoArchive) -> None:
    lazy = extract(season, getstat=False)
    assert "not run" in repr(lazy)
    assert len(lazy.plan.tasks) == 25
    for output in (lambda: lazy.data, lambda: lazy.report, lambda: lazy.rows):
        with pytest.raises(RequestError, match=r"getstat.*run\(\)"):
            output()
    lazy.run()
    assert lazy.rows == len(lazy.data["NDVI"]) > 50
    assert f"{lazy.rows} rows" in repr(lazy)


def test_a_second_run_reads_nothing(series: TimeSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("extracted again")

    monkeypatch.setattr("sen2chain.timeseries.engine.execute", forbidden)
    before = series.rows
    assert series.run() is series
    assert series.rows == before


# ----------------------------------------------------------------------------------------------------------- bad input


def without_crs(folder: Path) -> Path:
    path = folder / "nocrs.shp"
    gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(6.6, 43.7, 6.7, 43.8)], crs=4326).to_file(path)
    path.with_suffix(".prj").unlink()
    return path


def unreadable(folder: Path) -> Path:
    path = folder / "broken.gpkg"
    path.write_bytes(b"SQLite format 3\0" + b"x" * 200)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.gpkg"
    gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(6.6, 43.7, 6.7, 43.8)], crs=4326).iloc[:0].to_file(path)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (without_crs, ["nocrs.shp", "coordinate reference system", "assign"]),
        (unreadable, ["broken.gpkg", "cannot be read", "check"]),
        (empty, ["empty.gpkg", "no features", "give"]),
        (lambda folder: folder / "missing.gpkg", ["missing.gpkg", "does not exist", "check"]),
    ],
)
def test_bad_layers(season: demo.DemoArchive, tmp_path: Path, make: Callable[[Path], Path], words: list[str]) -> None:
    path = make(tmp_path)
    with pytest.raises(LayerError) as caught:
        extract(season, vectors_file=path)
    assert type(caught.value) in {LayerError, IncompleteLayerError}
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_attribute_is_named_with_those_there_are(season: demo.DemoArchive) -> None:
    with pytest.raises(LayerError, match=r"parcels\.gpkg.*'owner'.*parcel, crop, area_ha"):
        extract(season, field_names="owner")


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"indices": ["NDVJ"]}, UnknownNameError, ["NDVJ", "NDVI", "BIBG"]),
        ({"indices": ["X=B01/B02"]}, FormulaError, ["B01", "B8A"]),
        ({"masks": ["CM9"]}, UnknownNameError, ["CM9", "CM001"]),
        ({"cm_version": "CM9"}, UnknownNameError, ["CM9", "CM001", "OCM"]),
        ({"iterations": -1}, RequestError, ["iterations", "-1", "0 to 1000"]),
        ({"date_min": "2022-05-01", "date_max": "2022-04-30"}, RequestError, ["2022-05-01", "2022-04-30"]),
        ({"date_min": "2022-13-01"}, RequestError, ["date_min", "2022-13-01", "YYYY-MM-DD"]),
        ({"date_max": "yesterday"}, RequestError, ["date_max", "yesterday", "YYYY-MM-DD"]),
        ({"pixels": "all"}, UnknownNameError, ["all", "all_touched"]),
        ({"stats": ["avg"]}, UnknownNameError, ["avg", "variety"]),
        ({"units": "real"}, UnknownNameError, ["real", "scaled"]),
        ({"prefer": "fast"}, UnknownNameError, ["fast", "stored", "masked"]),
        ({"multiproc": -1}, RequestError, ["multiproc", "-1", "0"]),
        ({"multiproc": 1.5}, RequestError, ["multiproc", "1.5"]),
        ({"cover_max": 120}, RequestError, ["cover_max", "120"]),
        ({"min_valid": 2}, RequestError, ["min_valid", "2"]),
    ],
)
def test_bad_parameters(
    season: demo.DemoArchive, asked: dict[str, Any], kind: type[Sen2ChainError], words: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        extract(season, **asked)
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)


def test_bad_libraries(season: demo.DemoArchive, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=str(tmp_path / "none")):
        extract(season, library=tmp_path / "none")
    with pytest.raises(LibraryError, match=str(tmp_path / "none")):
        extract(season, safe=tmp_path / "none")
    with pytest.raises(RequestError, match="one of them"):
        TimeSeries(season.layer, library=season.library, stac=tmp_path)


def nothing(series: TimeSeries, *words: str) -> None:
    """Nothing came out, and the one sentence says why."""
    assert series.rows == 0
    assert all(frame.empty for frame in series.data.values())
    for word in words:
        assert word in series.why_nothing()


def test_an_archive_without_products_says_so(season: demo.DemoArchive, tmp_path: Path) -> None:
    (tmp_path / "L2A").mkdir()
    nothing(extract(season, library=tmp_path), "no usable product", str(tmp_path), "--library")
    old = (
        tmp_path
        / "L2A"
        / "31TGJ"
        / "S2A_USER_PRD_MSIL2A_PDMC_20160612T100601_R022_V20160612T100601_20160612T100601.SAFE"
    )
    old.mkdir(parents=True)
    series = extract(season, library=tmp_path)
    nothing(series, "no usable product", old.name)
    assert series.report["acquisition"].tolist() == [old.name]
    assert series.incomplete


def test_no_product_in_the_dates_says_so(season: demo.DemoArchive) -> None:
    series = extract(season, date_min="2019-01-01", date_max="2019-12-31")
    nothing(series, "31TGJ", "2019-01-01", "2019-12-31", "date_min")
    nothing(extract(season, cover_min=99.99, date_max="2021-10-31"), "cloud cover", "cover_min", "99.99")


def test_an_empty_result_is_warned_of_once(
    season: demo.DemoArchive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    series = extract(season, date_min="2019-01-01", date_max="2019-12-31")
    assert not caplog.records, "nothing was asked for yet"
    assert series.data["NDVI"].empty
    assert series.run().rows == 0
    (told,) = caplog.records
    assert (told.name, told.levelname) == ("sen2chain.results", "WARNING")
    assert told.getMessage() == f"Nothing was extracted. {series.why_nothing()}"
    caplog.clear()
    day = str(dates(season)[9].date())  # under clouds
    extract(season, date_min=day, date_max=day).run()
    assert "cloud mask" in caplog.text
    caplog.clear()
    assert extract(season, date_max=str(dates(season)[0].date())).rows
    assert not caplog.records
    folder = TimeSeriesCompil(
        season.layer, "NDVI", "2019-01-01", "2019-12-31", masks="none", library=season.library,
        extraction=tmp_path / "folder", quiet=True,
    )  # fmt: skip
    folder.extract_data()
    (told,) = caplog.records
    assert "The archive has no product of 31TGJ" in told.getMessage()


def test_python_shows_why_a_result_is_empty_and_the_command_says_it_once(
    season: demo.DemoArchive, tmp_path: Path
) -> None:
    code = (
        "import sys; from sen2chain import TimeSeries; "
        "TimeSeries(sys.argv[1], 'NDVI', '2019-01-01', '2019-12-31', masks='none', library=sys.argv[2]).run()"
    )
    place = [str(season.layer), str(season.library)]
    shown = subprocess.run(  # noqa: S603  # this very Python
        [sys.executable, "-W", "error", "-c", code, *place], capture_output=True, text=True, check=True
    )
    assert shown.stdout == ""
    assert shown.stderr.startswith("Nothing was extracted. The archive has no product of 31TGJ")
    words = ["--index", "NDVI", "--mask", "none", "--to", "2019-12-31", "--out", str(tmp_path), "--library"]
    said = subprocess.run(  # noqa: S603  # this very Python
        [sys.executable, "-W", "error", "-m", "sen2chain.cli", "extract", place[0], *words, place[1]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 3
    assert said.stderr.count("Nothing was extracted") == 1
    assert (said.stdout + said.stderr).count("The archive has no product of 31TGJ") == 1


def test_a_layer_outside_every_tile_says_so(season: demo.DemoArchive) -> None:
    far = gpd.GeoDataFrame(geometry=[shapely.box(-60, -3, -59.9, -2.9)], crs=4326)
    series = extract(season, vectors_file=far)
    nothing(series, "outside of every tile", "31TGJ", "32TLP", "CRS")
    assert series.report["outside_tile"].tolist() == [1, 1]
    assert series.report["tile"].tolist() == list(TILES)


def test_features_near_no_tile_are_noted(season: demo.DemoArchive, tmp_path: Path) -> None:
    parcels = gpd.read_file(season.layer).to_crs(4326).head(4)[["geometry"]]
    far = parcels.set_geometry(parcels.translate(30, -20))
    layer = gpd.GeoDataFrame(pd.concat([parcels, far], ignore_index=True))
    asked: dict[str, Any] = {"date_max": "2021-10-31"}
    note = "4 of 8 features lie near no tile of the archive (fid 4, 5, 6, 7)."
    series = extract(season, vectors_file=layer, **asked)
    assert series.estimate().notes.count(note) == 1
    assert series.rows
    assert series.notes.count(note) == 1
    assert not any("near no tile" in text for text in extract(season, vectors_file=parcels, **asked).notes)
    alone = gpd.GeoDataFrame(pd.concat([parcels.head(1), far.head(1)], ignore_index=True))
    assert (
        "1 of 2 features lies near no tile of the archive (fid 1)."
        in extract(season, vectors_file=alone, **asked).notes
    )
    layer.to_file(tmp_path / "half.gpkg")
    words = [str(tmp_path / "half.gpkg"), "--library", str(season.library), "-i", "NDVI", "-m", CM004]
    words += ["--to", "2021-10-31", "--extraction", str(tmp_path / "series")]
    for more in (["--dry-run"], []):
        said = CliRunner().invoke(main, ["update", *words, *more])
        assert said.exit_code == 0, said.output
        assert said.output.count(note) == 1


@pytest.mark.parametrize(
    ("shapes", "null", "empty"),
    [
        ([None, None], 2, 0),
        ([shapely.Polygon(), shapely.Point()], 0, 2),
        ([shapely.box(5, 45, 5, 46), None, shapely.Polygon([(5, 45), (6, 46), (5, 45)])], 1, 2),
    ],
)
def test_a_layer_without_any_place_is_called_so(
    season: demo.DemoArchive, shapes: list[Any], null: int, empty: int
) -> None:
    layer = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs="EPSG:4326")
    found = extract(season, vectors_file=layer)
    assert len(found.report) == len(TILES)
    assert set(found.report["null_geometry"]) == {null}
    assert set(found.report["empty_geometry"]) == {empty}
    assert not found.report["outside_tile"].any()
    assert found.why_nothing() == (
        f"The layer layer has no feature with a place: of {len(shapes)}, {null} are without geometry and {empty} are "
        "empty or without area. Check its geometries."
    )


def test_notes_tell_of_a_poor_datum_shift_once(season: demo.DemoArchive) -> None:
    layer = gpd.read_file(season.layer).head(2).to_crs("EPSG:4326")
    own = layer.set_crs("+proj=longlat +ellps=bessel +no_defs", allow_override=True)
    told = [note for note in extract(season, vectors_file=own).notes if "shift" in note]
    assert len(told) == 1
    assert "many metres off" in told[0]
    plain = extract(season, vectors_file=gpd.read_file(season.layer).head(2))
    assert not any("shift" in note for note in plain.notes)


def test_why_nothing_names_clouds_and_missing_bands(season: demo.DemoArchive, series: TimeSeries) -> None:
    day = str(dates(season)[9].date())
    nothing(extract(season, date_min=day, date_max=day), "cloud mask", "another cloud mask")
    nothing(extract(season, indices="NBR"), "B12")
    assert series.why_nothing() == ""


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--index", "NDVI", "--to", "2021-12-31"], 0, ["rows"]),
        (["--index", "NDVI"], 4, ["cannot be read", "B04_10m.jp2"]),
        (["--index", "NDVI", "--index", "NBR", "--to", "2021-12-31"], 4, ["B12"]),
        (["--index", "NDVI", "--to", "2019-01-01"], 3, ["Nothing was extracted", "31TGJ"]),
        (["--index", "NBR"], 3, ["B12"]),
        (["--index", "NDVJ"], 2, ["NDVJ", "NDVI"]),
        (["--pixels", "all"], 2, ["center"]),
    ],
)
def test_the_exit_code_says_how_it_went(
    season: demo.DemoArchive, tmp_path: Path, options: list[str], code: int, words: list[str]
) -> None:
    arguments = [
        "extract",
        str(season.layer),
        "--library",
        str(season.library),
        "--mask",
        CM004,
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, [*arguments, *options])
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output
    assert "Traceback" not in result.output


def test_a_product_on_another_grid_is_reported_and_the_rest_complete(
    season: demo.DemoArchive, series: TimeSeries, tmp_path: Path
) -> None:
    archive = copy(season, tmp_path)
    odd = next(p for p in season.products if p.sensing == season.truth.dates[0] and p.tile == "31TGJ")
    for path in safe_of(archive, odd).rglob("*_B0?_10m.jp2"):
        with rasterio.open(path) as source:
            values, grid, crs = source.read(1), source.transform, source.crs
        path.unlink()
        profile: dict[str, Any] = {"driver": "JP2OpenJPEG", "quality": "100", "reversible": "YES", "dtype": "uint16"}
        moved = Affine(10, 0, grid.c + 40, 0, -10, grid.f)
        with rasterio.open(path, "w", height=150, width=150, count=1, crs=crs, transform=moved, **profile) as sink:
            sink.write(values, 1)
    got = extract(archive, indices=["NDVI", "BIGR"])
    line = got.report.set_index(["index", "acquisition"])["grid_mismatch"]
    assert line[("NDVI", str(odd))] == 16
    assert line.sum() == 32
    assert_complete(got)
    assert got.incomplete
    want = series.data["NDVI"].loc[lambda f: f.index > dates(season)[0]]
    same(got.data["NDVI"].loc[lambda f: f.index > dates(season)[0]], want)
    assert set(got.data["NDVI"].loc[lambda f: f.index == dates(season)[0], "tile"]) == {"32TLP"}


def test_a_folder_that_cannot_be_written_is_told_before_work_starts(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("work has started")

    monkeypatch.setattr("sen2chain.timeseries.engine.execute", forbidden)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for method in ("to_csv", "to_parquet"):
        with pytest.raises(OutputError, match="file") as caught:
            getattr(extract(season), method)(blocked)
        assert type(caught.value) is OutputError
        with pytest.raises(OutputError, match="folder for the results is empty"):
            getattr(extract(season), method)("")
    assert blocked.read_text() == "no folder"


def test_a_full_disk_leaves_no_half_written_file(
    series: TimeSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series.to_csv(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(before) == 4

    sync, calls = atomic.sync, []

    def full(file: Any) -> None:
        calls.append(file)
        if len(calls) > 1:  # the first is the proof that the folder can be written
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(OutputError, match=r"No room.*parcels_NDVI_None_None\.csv"):
        series.to_csv(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("mask", "masks"), ("index", "indices"), ("date_start", "date_min"), ("end_date", "date_max"),
        ("cm_versoin", "cm_version"), ("unit", "units"), ("Buffer", "buffer"), ("max_clouds", "cover_max"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [TimeSeries, TimeSeriesCompil])
def test_a_mistyped_keyword_gets_a_suggestion(kind: Any, keyword: str, meant: str) -> None:
    if (kind, keyword) == (TimeSeriesCompil, "unit"):
        meant = ""
    for error in (TypeError, RequestError):
        with pytest.raises(error, match=rf"^{kind.__name__}\(\) has no keyword '{keyword}'; ") as caught:
            kind("parcels.gpkg", **{keyword: 1})
        assert not meant or str(caught.value).endswith(f"did you mean {meant}?")


def test_other_calls_suggest_too_and_signatures_are_those_of_the_functions(series: TimeSeries, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="did you mean overwrite"):
        series.to_csv(tmp_path, overwritte=True)  # type: ignore[call-arg]
    for keyword, meant in {
        "all_data": "alldata",
        "smooth": "smoothing",
        "start": "datemin",
        "month": "monthly",
    }.items():
        with pytest.raises(TypeError, match=f"did you mean {meant}"):
            TimeSeriesCompil.compile_data(None, **{keyword: True})  # type: ignore[arg-type]
    names = list(inspect.signature(TimeSeries).parameters)
    assert names[:4] == ["vectors_file", "indices", "date_min", "date_max"]
    assert names[-1] == "quiet"
    assert "overwrite" in inspect.signature(TimeSeriesCompil.compile_data).parameters
    again = pickle.loads(pickle.dumps(UnknownKeywordError("f", "a", ("b",), "b")))  # noqa: S301  # our own
    assert str(again) == "f() has no keyword 'a'; did you mean b?"


def test_a_file_is_not_taken_for_a_folder_of_results(series: TimeSeries, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"looks like the name of a file.*; name the folder, as res\."):
        series.to_csv(tmp_path / "res.csv")
    (tmp_path / "res.csv").mkdir()
    assert series.to_csv(tmp_path / "res.csv")
    assert series.to_csv(tmp_path / "v1.2")


# ------------------------------------------------------------------------------------------------- the user's own key


def test_the_own_key_stands_right_after_fid_in_every_result(
    season: demo.DemoArchive, series: TimeSeries, tmp_path: Path
) -> None:
    keyed = extract(season, id_field="crop", masks=["CM004", "none"])
    moved = [*BASE, *FIELDS]
    moved.remove("crop")
    moved.insert(1, "crop")  # `date` is the index, and `fid` the first column
    moved.insert(4, "mask")
    frame = keyed.data["NDVI"]
    assert list(frame) == moved
    plain = frame[frame["mask"].str.startswith("CM004")].drop(columns="mask")
    same(plain[series.data["NDVI"].columns], series.data["NDVI"])
    for file in (*keyed.to_csv(tmp_path), *keyed.to_parquet(tmp_path)):
        table = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
        assert list(table) == ["date", *moved]
    assert any("crop is not unique: " in note and "rapeseed" in note for note in keyed.notes)


def test_a_key_may_have_the_name_of_a_column(season: demo.DemoArchive) -> None:
    parcels = season.parcels.assign(tile=range(100, 100 + len(season.parcels)))
    keyed = extract(season, vectors_file=parcels, id_field="tile", name="parcels")
    frame = keyed.data["NDVI"]
    assert list(frame)[:3] == ["fid", "attr_tile", "tile"]
    assert (frame["attr_tile"] == frame["fid"] + 100).all()
    assert not any("unique" in note for note in keyed.notes)


@pytest.mark.parametrize("keyword", ["id_field", "field_names"])
def test_an_unknown_key_is_refused_with_the_attributes_there_are(season: demo.DemoArchive, keyword: str) -> None:
    with pytest.raises(LayerError, match=r"no attribute 'lot'; its attributes are: .*crop"):
        extract(season, **{keyword: "lot"})
