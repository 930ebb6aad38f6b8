"""Wide tables, CSV for Excel and workbooks of both classes, and of the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import openpyxl
import pandas as pd
import pytest
from click.testing import CliRunner

from sen2chain import TimeSeries, TimeSeriesCompil
from sen2chain.cli import main
from sen2chain.errors import EmptyResultError, OutputError, RequestError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain import demo

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


@pytest.fixture(scope="module", params=[TimeSeries, TimeSeriesCompil])
def series(
    request: pytest.FixtureRequest, few_fields: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Two masks, and a feature far away that has no row."""
    layer = gpd.read_file(few_fields.layer)
    layer.loc[5, "geometry"] = layer.geometry[5].buffer(0).centroid.buffer(1e-6)
    options: dict[str, Any] = {
        "indices": ["NDVI", "BIGR"], "masks": [CM004, "CM001"], "library": few_fields.library, "quiet": True,
        "multiproc": 1, "id_field": "parcel", "name": "=fields",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        if request.param is TimeSeries:
            return TimeSeries(layer, **options).run()
        made = TimeSeriesCompil(layer, extraction=tmp_path_factory.mktemp("extraction"), **options)
        made.extract_data()
        return made


def pivoted(series: Any, stat: str) -> Any:
    rows = series.data["NDVI"].reset_index()
    rows = rows[rows["mask"] == "CM001"].assign(day=lambda t: t["date"].dt.strftime("%Y-%m-%d"))
    best = rows.sort_values(["count", "date"], ascending=[False, True]).drop_duplicates(["fid", "day"])
    return best.pivot_table(index="fid", columns="day", values=stat).reindex(range(6))


@pytest.mark.parametrize("stat", ["mean", "count", "cldprb"])
def test_wide_has_a_row_for_each_feature_and_a_column_for_each_date(series: Any, stat: str) -> None:
    got, want = series.wide(stat, index="NDVI", mask="CM001"), pivoted(series, stat)
    assert list(got.columns) == ["fid", "parcel", "crop", "area_ha", *want.columns]
    np.testing.assert_array_equal(got[list(want.columns)], want)
    assert {str(got[day].dtype) for day in want.columns} == {"float64"}
    assert got["fid"].tolist() == list(range(6))
    assert got.loc[5, list(want.columns)].isna().all()
    got.loc[:, want.columns[0]] = -1
    np.testing.assert_array_equal(series.wide(stat, index="NDVI", mask="CM001")[list(want.columns)], want)


def test_wide_by_period(series: Any) -> None:
    got = series.wide(index="NDVI", mask="CM001", period="monthly", aggregate="max")
    days = pivoted(series, "mean")
    for month in sorted({day[:7] for day in days}):
        want = days[[day for day in days if day.startswith(month)]].max(axis=1)
        np.testing.assert_array_equal(got[month], want)
    assert set(series.wide(index="NDVI", mask="CM001", complete=True)) >= set(days)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"There are several: NDVI, BIGR; name one, as index='NDVI'"),
        ({"index": "NDVI"}, "There are several: CM004.*name one, as mask="),
        ({"index": "EVI", "mask": "CM001"}, "EVI"),
        ({"index": "NDVI", "mask": "CM001", "stat": "tile"}, "statistic"),
        ({"index": "NDVI", "mask": "CM001", "period": "daily"}, "period"),
        ({"index": "NDVI", "mask": "CM001", "period": "monthly", "aggregate": "sum"}, "aggregate"),
    ],
)
def test_what_cannot_be_used_is_told(series: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestError, UnknownNameError), match=message):
        series.wide(**options)


def test_a_wide_table_beyond_half_of_the_memory_is_refused(series: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.export.cube.memory", lambda: 100)
    with pytest.raises(RequestError, match=r"A table of 6 features x \d dates"):
        series.wide(index="NDVI", mask="CM001")


def test_wide_files(series: Any, tmp_path: Path) -> None:
    files = series.to_wide_csv(tmp_path)
    assert [path.name for path in files] == [
        f"=fields_{index}_None_None_{mask}_wide.csv" for index in ("NDVI", "BIGR") for mask in (CM004, "CM001")
    ]
    assert {path.parent for path in files} == {tmp_path / "=fields"}
    want = series.wide(index="NDVI", mask="CM001")
    pd.testing.assert_frame_equal(pd.read_csv(files[1]), want, check_dtype=False, rtol=1e-15)
    note = json.loads(files[1].with_suffix(".json").read_text())
    assert note["table"] == {"kind": "wide", "statistic": "mean"}
    assert note["parameters"]["masks"] == ["CM001"]
    series.to_wide_csv(tmp_path)  # the same result made again
    (other, *_) = series.to_wide_csv(tmp_path, "std", "weekly", aggregate="median", week="iso", dialect="excel")
    assert other.name == f"=fields_NDVI_None_None_{CM004}_wide_std_weekly_median_iso_excel.csv"
    assert other.read_bytes().startswith(b"\xef\xbb\xbffid,parcel,")


def test_a_workbook_has_all_indices_and_masks(series: Any, tmp_path: Path) -> None:
    (path,) = series.to_excel(tmp_path)
    assert path == tmp_path / "=fields" / "=fields_None_None.xlsx"
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == [
        "NDVI CM004-CSH1-CMP1-CHP1-TCI1-", "NDVI CM001", "BIGR CM004-CSH1-CMP1-CHP1-TCI1-", "BIGR CM001",
        "about", "report",
    ]  # fmt: skip
    header, *rows = book["NDVI CM001"].iter_rows(values_only=True)
    want = series.data["NDVI"].reset_index()
    want = want[want["mask"] == "CM001"]
    assert list(header) == list(want.columns)
    assert len(rows) == len(want) > 5
    got = pd.DataFrame(rows, columns=header)
    np.testing.assert_array_equal(got["date"].astype("datetime64[s]"), want["date"].astype("datetime64[s]"))
    for column in ("fid", "count", "mean", "percentile_75", "area_ha"):
        np.testing.assert_allclose(got[column].astype(float), want[column].astype(float), rtol=1e-15)  # 16 digits
    assert got["parcel"].tolist() == want["parcel"].tolist()
    about = dict(book["about"].iter_rows(values_only=True))
    assert about["masks"] == f"{CM004}, CM001"
    assert about["column mean"] == "arithmetic mean of the valid values; unit 1e-4"
    assert len(list(book["report"].iter_rows())) == len(series.report) + 1
    assert json.loads(path.with_suffix(".json").read_text())["rows"] == series.rows
    assert series.to_excel(tmp_path) == [path]


def test_too_many_rows_for_a_sheet_are_refused_before_anything_is_written(
    series: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen2chain.export.workbook.MOST_ROWS", 3)
    with pytest.raises(OutputError, match=r"NDVI CM004.* has \d+ rows, and a sheet .* takes 3; write CSV or"):
        series.to_excel(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_run_keeps_what_is_there(few_fields: demo.DemoArchive, tmp_path: Path) -> None:
    options: dict[str, Any] = {"indices": "NDVI", "library": few_fields.library, "quiet": True, "multiproc": 1}
    full, empty = (TimeSeries(few_fields.layer, min_valid=share, **options) for share in (0, 1))
    (tmp_path / "empty" / "data" / "L2A").mkdir(parents=True)
    none = TimeSeries(few_fields.layer, **{**options, "library": tmp_path / "empty"})
    full.to_wide_csv(tmp_path)
    full.to_excel(tmp_path)
    with pytest.raises(OutputError, match="min_valid"):
        empty.to_excel(tmp_path)
    for write in (none.to_wide_csv, none.to_excel):
        with pytest.raises(EmptyResultError, match="has rows and is kept"):
            write(tmp_path)
    (path,) = none.to_wide_csv(tmp_path, overwrite=True)
    assert path.read_text().splitlines()[0] == "fid,parcel,crop,area_ha,attr_fid"
    none.to_wide_csv(tmp_path)
    (book,) = none.to_excel(tmp_path, overwrite=True)
    assert openpyxl.load_workbook(book)["NDVI"].max_row == 1


def test_files_for_excel_beside_the_documented_ones(few_fields: demo.DemoArchive, tmp_path: Path) -> None:
    arguments = [
        "extract", str(few_fields.layer), "--library", str(few_fields.library), "--index", "NDVI", "--mask", "CM004",
        "--out", str(tmp_path), "--format", "csv", "--format", "xlsx", "--wide", "--quiet",
    ]  # fmt: skip
    run = CliRunner().invoke(main, [*arguments, "--excel-semicolon"])
    assert run.exit_code == 0, run.output
    stem = "parcels_NDVI_None_None"
    assert {path.name for path in (tmp_path / "parcels").iterdir() if path.suffix != ".json"} == {
        f"{stem}.csv", f"{stem}_wide.csv", f"{stem}_excel.csv", f"{stem}_wide_excel.csv", "parcels_None_None.xlsx",
    }  # fmt: skip
    plain = pd.read_csv(tmp_path / "parcels" / f"{stem}.csv")
    excel = pd.read_csv(tmp_path / "parcels" / f"{stem}_excel.csv", sep=";", decimal=",", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(excel, plain)
    both = CliRunner().invoke(main, [*arguments, "--excel", "--excel-semicolon"])
    assert both.exit_code == 2
    assert "choose one of them" in both.output
    again = CliRunner().invoke(main, [*arguments, "--excel-semicolon"])
    assert again.exit_code == 0, again.output


def test_rows_that_do_not_fit_a_sheet_are_not_lost(
    few_fields: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen2chain.export.workbook.MOST_ROWS", 3)
    arguments = ["--library", str(few_fields.library), "--index", "NDVI", "--out", str(tmp_path), "--format", "xlsx"]
    run = CliRunner().invoke(main, ["extract", str(few_fields.layer), *arguments])
    assert run.exit_code == 4
    assert "a sheet of Excel takes 3; write CSV or Parquet" in run.output.replace("\n", " ")
    assert "The rows are in CSV files instead." in run.output.replace("\n", " ")
    assert sorted(path.suffix for path in (tmp_path / "parcels").iterdir()) == [".csv", ".json"]


@pytest.mark.filterwarnings("ignore:numpy.ndarray size changed")
def test_a_path_that_is_not_utf_8_is_no_obstacle(few_fields: demo.DemoArchive, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    try:
        folder.mkdir()
    except (OSError, UnicodeError):  # some systems have no such names
        return
    layer = folder / "b\udce9.gpkg"
    layer.write_bytes(few_fields.layer.read_bytes())
    series = TimeSeries(layer, "NDVI", library=few_fields.library, quiet=True, multiproc=1)
    (path,) = series.to_excel(folder)
    about = dict(openpyxl.load_workbook(path)["about"].iter_rows(values_only=True))
    assert about["layer"].endswith("b\\xe9.gpkg")
    assert len(series.to_wide_csv(folder)) == 1
    series.to_xarray().to_netcdf(tmp_path / "a.nc")
    assert "b\\xe9" in series._repr_html_()
