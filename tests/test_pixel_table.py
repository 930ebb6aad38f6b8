"""Pixel tables: values equal windows of the rasters, counts equal those of rows, and nothing is replaced silently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import xarray as xr
from click.testing import CliRunner

import oracle
from kept_folders import keep
from sen2chain import Index, TimeSeries, TimeSeriesCompil, demo
from sen2chain.acquisition import strips
from sen2chain.cli import main
from sen2chain.errors import EmptyResultError, OutputError, RequestError, UnknownNameError
from sen2chain.pixel_table import chip_store, pixel_parquet, pixel_records, zarr_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.demo import DemoArchive
    from sen2chain.pixel_table import WrittenPixels

MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
BANDS = ("B03", "B04", "B08", "B11", "SCL")
KEYS = ["fid", "date"]

# ------------------------------------------------------------------------------------------------------------- helpers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> DemoArchive:
    """Two overlapping tiles: a clear date, one with clouds, one whose swath ends in the layer; one is reprocessed."""
    first, second, third = demo.season(3)
    passes = (
        first,
        demo.Overpass(second.sensing, cloud=0.5, edge=0.6),
        demo.Overpass(third.sensing, "S2B", cloud=0.1, edge=0.5, cut=(1,)),
    )
    scene = demo.Scene(size=96, parcels=12, overpasses=passes, bands=BANDS, reprocessed=((0, "31TGJ"),))
    return demo.build(tmp_path_factory.mktemp("pixels"), scene)


def series(archive: DemoArchive, **options: Any) -> TimeSeries:
    settings: dict[str, Any] = {
        "indices": "NDVI",
        "masks": MASK,
        "library": archive.library,
        "quiet": True,
        **options,
    }
    return TimeSeries(settings.pop("layer", archive.layer), **settings)


def read(written: WrittenPixels) -> Any:
    """Read a table; untyped, for the stubs take every item for a scalar."""
    frame = pd.read_parquet(written.path)
    assert len(frame) == written.rows
    return frame


def whole(rows: Any) -> Any:
    """Give count + nodata by feature and date."""
    return rows.reset_index().set_index(KEYS).eval("count + nodata").sort_index()


def per_feature(frame: Any) -> Any:
    grouped = frame.groupby(KEYS, observed=True)
    return (grouped["weight"].sum() if "weight" in frame else grouped.size()).sort_index()


# --------------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("options", [{}, {"buffer": -15.0}, {"min_valid": 0.6}])
def test_pixels_of_a_feature_and_date_are_those_of_its_row(
    archive: DemoArchive, tmp_path: Path, rule: str, options: dict[str, Any]
) -> None:
    ts = series(archive, pixels=rule, **options)
    rows, frame = ts.data["NDVI"], read(ts.to_pixels(tmp_path))
    want, got = whole(rows), per_feature(frame)
    assert rows["tile"].nunique() == 2 or rule == "weighted"
    assert len(want) > 15
    assert list(got.index) == list(want.index)
    np.testing.assert_allclose(got, want, rtol=1e-5 if rule == "weighted" else 0)
    # A row and its pixels come from one product.
    served = frame.groupby(KEYS, observed=True)["product"].agg(lambda names: "|".join(sorted(set(names))))
    named = rows.reset_index().set_index(KEYS)["filename"].str.split("_NDVI_").str[0]
    assert served.sort_index().tolist() == named.sort_index().tolist()


def test_statistics_of_the_pixels_are_the_row(archive: DemoArchive, tmp_path: Path) -> None:
    ts = series(archive, indices=["NDVI", "BIGR"], masks=[MASK, "none"])
    frame, rows = read(ts.to_pixels(tmp_path)), ts.data["NDVI"].reset_index()
    frame["NDVI"] = frame["NDVI"].astype(float)
    valid = frame[~frame["masked_CM004"] & frame["NDVI"].notna()].groupby(KEYS, observed=True)["NDVI"]
    want = rows[rows["mask"].str.startswith("CM004")].set_index(KEYS).sort_index()
    np.testing.assert_array_equal(valid.count(), want["count"])
    np.testing.assert_allclose(valid.mean(), want["mean"], rtol=1e-12)
    np.testing.assert_allclose(valid.median(), want["median"], rtol=1e-12)
    # Features whose every pixel CM004 masks have a row under the other mask alone, and their pixels are there.
    assert len(frame.groupby(KEYS, observed=True)) == (rows["mask"] == "none").sum() > len(want)


def test_keep_empty_writes_features_without_a_row_too(archive: DemoArchive, tmp_path: Path) -> None:
    ts = series(archive, keep_empty=True)
    rows, got = ts.data["NDVI"], per_feature(read(ts.to_pixels(tmp_path)))
    want = whole(rows)
    assert (rows["reason"] != "").any()
    assert list(got.index) == list(want.index)
    np.testing.assert_array_equal(got, want)


def test_features_across_the_edge_of_the_raster_have_the_pixels_inside(archive: DemoArchive, tmp_path: Path) -> None:
    raster = oracle.read(next(archive.library.glob("data/L2A/31TGJ/*/GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2")))
    left, top = raster.transform.c, raster.transform.f
    layer = gpd.GeoDataFrame(geometry=gpd.GeoSeries.from_xy([left], [top - 400], crs=raster.crs).buffer(95))
    ts = series(archive, layer=layer, library=archive.library, name="edge")
    got, rows = per_feature(read(ts.to_pixels(tmp_path))), ts.data["NDVI"].reset_index().set_index(KEYS).sort_index()
    clear = rows[rows["tile"] == "31TGJ"]
    assert len(clear)
    inside = oracle.burn(layer.geometry[0], (96, 96), raster.transform).sum()
    assert (got[clear.index] == inside).all()
    assert (clear["count"] + clear["nodata"] > inside).all()


# --------------------------------------------------------------------------------------------------------------- values


def expected(safe: oracle.Safe, frame: Any) -> dict[str, Any]:
    """Give what the rasters hold at the pixels of a table."""
    red = safe.raster("B04")
    places = oracle.place(red.transform, frame["x"].to_numpy(), frame["y"].to_numpy())
    columns, rows = (np.rint(np.asarray(v, float) - 0.5).astype(int) for v in places)
    left, top, edge = red.transform.c, red.transform.f, red.transform.a
    np.testing.assert_array_equal(left + (columns + 0.5) * edge, frame["x"])
    np.testing.assert_array_equal(top - (rows + 0.5) * edge, frame["y"])
    offsets, quantification = safe.radiometry()
    found: dict[str, Any] = {}
    for band in frame.columns.intersection(["B03", "B04", "B08", "B11"]):
        whole = oracle.reflectance(safe.raster(band).values, offsets[band], quantification, twenty=band == "B11")
        found[band] = whole[rows, columns].astype(np.float32)
    scl = np.asarray(safe.raster("SCL").values)
    found["SCL"] = oracle.nearest(scl)[rows, columns]
    found["masked_CM004"] = oracle.nearest(oracle.cm004(scl, (1, 1, 1, 1), 1))[rows, columns]
    found["masked_SCL"] = oracle.nearest(oracle.classes(scl, (3, 8, 9), 2))[rows, columns]
    index, ties = oracle.index(safe, "NDVI")
    found["NDVI"] = np.where(ties, np.nan, np.where(index == oracle.NODATA, np.nan, index))[rows, columns]
    found["ties"] = ties[rows, columns]
    return found


def assert_equals_the_rasters(frame: Any, folder: Path) -> None:
    for product, own in frame.groupby("product", observed=True):
        (safe,) = (oracle.Safe(path) for path in folder.glob(f"**/{product}.SAFE"))
        want = expected(safe, own)
        for name in ("SCL", "masked_CM004", "masked_SCL"):
            np.testing.assert_array_equal(own[name], want[name], err_msg=name)
        for name in own.columns.intersection(["B03", "B04", "B08", "B11"]):
            np.testing.assert_allclose(own[name], want[name], rtol=1e-6, atol=1e-8, err_msg=name)
        got = own["NDVI"].astype(float).where(~pd.Series(want["ties"], own.index))
        np.testing.assert_array_equal(got, want["NDVI"])
        assert own["date"].eq(safe.date).all()


def test_values_are_those_of_the_rasters(archive: DemoArchive, tmp_path: Path) -> None:
    ts = series(archive, masks=[MASK, "SCL-3-8-9-ITER2"], keep_empty=True)
    frame = read(ts.to_pixels(tmp_path, bands=["B03", "B04", "B08", "B11"]))
    assert frame["NDVI"].isna().any()
    assert frame["B11"].notna().any()
    assert set(frame["epsg"]) == {32631, 32632}
    assert_equals_the_rasters(frame, archive.library)


def test_pixels_of_real_products_are_those_of_the_rasters(bolzano: Path, tmp_path: Path) -> None:
    ts = TimeSeries(
        bolzano / "vectors" / "parcels_utm32.gpkg",
        "NDVI",
        "2022-06-01",
        "2022-06-30",
        masks=[MASK, "SCL-3-8-9-ITER2"],
        library=bolzano,
        id_field="id",
        quiet=True,
    )
    frame = read(ts.to_pixels(tmp_path, bands="B03,B04,B08"))
    assert list(frame.columns[:3]) == ["fid", "id", "product"]
    rows: Any = ts.data["NDVI"].reset_index()
    counts = rows[rows["mask"] == "SCL-3-8-9-ITER2"].set_index(KEYS).eval("count + nodata")
    got = per_feature(frame)
    assert (got[counts.index] == counts).all()
    assert_equals_the_rasters(frame, bolzano)


def test_units_and_scales_are_those_of_rows(archive: DemoArchive, tmp_path: Path) -> None:
    wide = Index("SR", "B08/B04", scale=100)
    ts = series(archive, indices=["NDVI", wide], units="index")
    frame = read(ts.to_pixels(tmp_path / "a"))
    scaled = read(series(archive, indices=["NDVI", wide]).to_pixels(tmp_path / "b"))
    assert (frame["NDVI"].dtype, scaled["NDVI"].dtype) == (
        np.float32,
        np.int16 if scaled["NDVI"].notna().all() else float,
    )
    np.testing.assert_allclose(frame["NDVI"], scaled["NDVI"] / 1e4, rtol=1e-6)
    np.testing.assert_allclose(frame["SR"], scaled["SR"] / 1e4, rtol=1e-6)
    valid = frame[~frame["masked_CM004"]].groupby(KEYS, observed=True)["SR"].mean()
    rows = ts.data["SR"].reset_index().set_index(KEYS).sort_index()
    np.testing.assert_allclose(valid, rows["mean"], rtol=1e-5)


def test_stored_masked_rasters_give_null_where_they_are_masked(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    scene = demo.Scene(
        tiles=("31TGJ",), size=60, parcels=6, overpasses=(demo.season(4)[1],), bands=("B04", "B08", "SCL"),
        indices=("NDVI",),
    )  # fmt: skip
    made = demo.build(tmp_path_factory.mktemp("stored"), scene)
    ts = series(made, prefer="stored")
    assert ts.plan.tasks[0].outputs[0].value is not None
    frame = read(ts.to_pixels(tmp_path))
    assert set(ts.report["value_source"]) == {"index raster"}
    rows = ts.data["NDVI"].reset_index().set_index(KEYS).sort_index()
    valid = frame[~frame["masked_CM004"]].groupby(KEYS, observed=True)["NDVI"]
    np.testing.assert_array_equal(valid.count(), rows["count"])
    assert frame["B04"].notna().all()


# ----------------------------------------------------------------------------------------------------------- the files


def test_files_open_as_one_table(archive: DemoArchive, tmp_path: Path) -> None:
    written = series(archive, id_field="crop", pixels="weighted").to_pixels(tmp_path)
    files = sorted(written.path.rglob("*.parquet"))
    assert len(files) == written.files
    assert sum(file.stat().st_size for file in files) == written.bytes
    assert (
        str(written)
        == f"{len(files)} files, {written.rows:,} rows of pixels, {written.bytes / 1e3:.1f} kB in {written.path}"
    )
    assert "pandas.read_parquet" in written._repr_html_()
    table = ds.dataset(written.path, partitioning="hive")
    found = table.to_table(filter=(ds.field("tile") == "31TGJ") & (ds.field("fid") == 0)).to_pandas()
    assert len(found)
    assert {*found["product"].str.split("_").str[5]} == {"T31TGJ"}
    for file in files:
        assert file.parts[-3:-1] == (f"tile={file.name[39:44]}", f"month={file.name[11:15]}-{file.name[15:17]}")
        schema = pq.read_schema(file)
        assert schema.names[:3] == ["fid", "crop", "product"]
        assert schema.field("B04").metadata == {b"long_name": b"surface reflectance of B04", b"units": b"1"}
        note = json.loads(schema.metadata[b"sen2chain"])
        assert note["product"] == file.stem
        assert note["parameters"]["pixels"] == "weighted"
        fids = pq.read_table(file, partitioning=None)["fid"].to_numpy()
        assert (np.diff(fids) >= 0).all()
    note = json.loads(written.path.with_suffix(".json").read_text())
    assert note["complete"]
    assert (note["pixels"], note["files"]) == (written.rows, written.files)
    assert note["parameters"]["bands"] == ["B04", "B08"]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut features into pieces, keep records in temporary files, and write short row groups."""
    monkeypatch.setattr(strips, "LARGE", 150)
    monkeypatch.setattr("sen2chain.acquisition.values._HEIGHT", 16)
    monkeypatch.setattr(pixel_records.RecordRoom.__init__, "__defaults__", (0,))
    monkeypatch.setattr(pixel_parquet, "ROWS_PER_GROUP", 97)


@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_pieces_and_temporary_files_change_nothing(
    archive: DemoArchive, tmp_path: Path, request: pytest.FixtureRequest, rule: str
) -> None:
    want = read(series(archive, pixels=rule).to_pixels(tmp_path / "whole"))
    request.getfixturevalue("small_pieces")
    written = series(archive, pixels=rule, multiproc=3).to_pixels(tmp_path / "pieces")
    pd.testing.assert_frame_equal(read(written), want)
    group = pq.read_metadata(next(written.path.rglob("*.parquet"))).row_group(0)
    assert group.num_rows == 97
    assert [path.name for path in (tmp_path / "pieces").rglob(".*")] == []


def test_both_classes_write_the_same(archive: DemoArchive, tmp_path: Path) -> None:
    kept = TimeSeriesCompil(
        archive.layer, "NDVI", masks=MASK, library=archive.library, extraction=tmp_path / "extraction", quiet=True
    )
    pd.testing.assert_frame_equal(
        read(kept.to_pixels(tmp_path / "a")), read(series(archive).to_pixels(tmp_path / "b")), check_exact=True
    )
    assert not kept.folder.exists()


# ------------------------------------------------------------------------------------------- one result over another


def test_the_same_result_may_be_made_again(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive).to_pixels(tmp_path)
    frame = read(first)
    again = series(archive).to_pixels(tmp_path)
    assert any("replaced" in note for note in again.notes)
    pd.testing.assert_frame_equal(read(again), frame)


def test_another_result_is_not_replaced_without_a_word(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive).to_pixels(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for other, bands, what in (
        (series(archive, masks="CM001"), None, "mask"),
        (series(archive), ["B03"], "bands"),
        (series(archive, pixels="weighted"), None, "pixel rule"),
        (series(archive, units="index"), None, "unit"),
    ):
        with pytest.raises(OutputError, match=f"another result: {what}.*overwrite=True"):
            other.to_pixels(tmp_path, bands=bands)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    again = series(archive, units="index").to_pixels(tmp_path, overwrite=True)
    assert again.path == first.path
    assert read(again)["NDVI"].dtype == np.float32


def test_files_of_an_earlier_larger_run_are_removed(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive, name="a").to_pixels(tmp_path)
    left = series(archive, name="a", cover_max=100)
    lost = first.path / "tile=31TGJ" / "month=2019-01" / "S2A_MSIL2A_x.parquet"
    lost.parent.mkdir()
    lost.write_bytes(next(first.path.rglob("*.parquet")).read_bytes())
    again = left.to_pixels(tmp_path)
    assert not lost.parent.exists()
    assert any("1 file of an earlier run" in note for note in again.notes)
    assert read(again).equals(read(first))


def test_files_of_others_are_neither_mixed_in_nor_removed(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive).to_pixels(tmp_path)
    strange = first.path / "mine.parquet"
    strange.write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"mine\.parquet is not a file of this table"):
            series(archive).to_pixels(tmp_path, overwrite=overwrite)
    assert strange.read_bytes() == b"mine"


def test_a_table_without_its_json_is_not_replaced(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive).to_pixels(tmp_path)
    first.path.with_suffix(".json").unlink()
    with pytest.raises(OutputError, match="no JSON says how it was made"):
        series(archive).to_pixels(tmp_path)
    assert series(archive).to_pixels(tmp_path, overwrite=True).rows == first.rows


def test_rows_are_not_replaced_by_none(archive: DemoArchive, tmp_path: Path) -> None:
    first = series(archive).to_pixels(tmp_path)
    with pytest.raises(EmptyResultError, match="has rows and is kept"):
        series(archive, safe=_empty(tmp_path / "safe"), library=None).to_pixels(tmp_path)
    assert len(list(first.path.rglob("*.parquet"))) == first.files
    assert json.loads(first.path.with_suffix(".json").read_text())["pixels"] == first.rows


def test_two_results_are_never_mixed(archive: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = series(archive).to_pixels(tmp_path)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        series(archive, units="index").to_pixels(tmp_path, overwrite=True)
    assert not list(first.path.rglob("*.parquet"))


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_an_interrupted_run_leaves_complete_files(
    archive: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Callable[..., Any] = pq.ParquetWriter.write_table
    count = 0

    def interrupted(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return write(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            series(archive).to_pixels(tmp_path)
    (note,) = tmp_path.rglob("*.json")
    assert json.loads(note.read_text())["complete"] is False
    assert len(pd.read_parquet(note.with_suffix(".parquet")))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1 + 2  # the folder, and two files
    assert not list(tmp_path.rglob(".*"))
    again = series(archive).to_pixels(tmp_path)
    assert read(again).equals(read(series(archive).to_pixels(tmp_path / "other")))


# --------------------------------------------------------------------------------------------------- faults of products


@pytest.fixture
def damaged(tmp_path_factory: pytest.TempPathFactory) -> DemoArchive:
    scene = demo.Scene(
        tiles=("31TGJ",), size=60, parcels=4, overpasses=demo.season(3), bands=("B04", "B08", "B11", "SCL"),
        damaged=((0, "31TGJ", "B08"), (2, "31TGJ", "B11")),
    )  # fmt: skip
    return demo.build(tmp_path_factory.mktemp("damaged"), scene)


def test_a_damaged_raster_costs_only_what_needs_it(damaged: DemoArchive, tmp_path: Path) -> None:
    written = series(damaged, masks="none").to_pixels(tmp_path, bands=["B04", "B11"])
    frame = read(written)
    assert frame["date"].nunique() == 2
    last = frame["date"] == frame["date"].max()
    assert frame["B11"].isna().eq(last).all()
    assert frame["NDVI"].notna().all()
    assert written.incomplete
    (problem,) = written.problems
    assert problem.startswith("B11 is empty for 1 product, as S2")
    assert "1 product could not be used" in written.why_partly()
    assert written.report["rows"].tolist() == [0, 4, 4]


def test_bands_that_the_archive_lacks_are_told(archive: DemoArchive, tmp_path: Path) -> None:
    written = series(archive).to_pixels(tmp_path, bands=["B02"])
    assert read(written)["B02"].isna().all()
    assert written.problems[0].startswith(f"B02 is empty for {written.files} products")
    assert written.incomplete


# ----------------------------------------------------------------------------------------------------------- parameters


def test_parameters_that_cannot_be_used(archive: DemoArchive, tmp_path: Path) -> None:
    ts = series(archive)
    with pytest.raises(UnknownNameError, match=r"Unknown band 'B99'; allowed: B02, B03"):
        ts.to_pixels(tmp_path, bands=["B99"])
    with pytest.raises(UnknownNameError, match="Unknown format 'csv'; allowed: parquet, zarr"):
        ts.to_pixels(tmp_path, "csv")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="bands has 4; pass names of bands"):
        ts.to_pixels(tmp_path, bands=[4])  # type: ignore[list-item]
    with pytest.raises(RequestError, match="Two columns of the pixel table would be called X"):
        series(archive, indices=Index("X", "B04")).to_pixels(tmp_path)
    for index in (Index("SCL", "B08*2"), Index("scl", "B08*2"), Index("B08", "B08*2"), Index("b04", "B04*2")):
        with pytest.raises(RequestError, match=f"would be called ({index.name}|SCL); give the index another name"):
            series(archive, indices=index).to_pixels(tmp_path)
    for name in ("inside", "Mask", "reflectance"):
        with pytest.raises(RequestError, match=f"Two arrays of the chips would be called {name}"):
            series(archive, indices=Index(name, "B08*2")).to_pixels(tmp_path, "zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_key_called_as_an_attribute_of_chips_leaves_that(archive: DemoArchive, tmp_path: Path) -> None:
    layer = gpd.read_file(archive.layer).rename(columns={"crop": "coordinates"})
    written = series(archive, layer=layer, id_field="coordinates", name="a").to_pixels(tmp_path, "zarr")
    folder = next((written.path / "31TGJ").glob("[0-9]*"))
    with xr.open_zarr(folder, chunks=None) as chip:
        assert {"product", "spatial_ref"} < set(chip.coords)
        assert chip.attrs["attr_coordinates"] == layer["coordinates"].iloc[int(folder.name)]


def test_no_bands_and_two_masks_of_a_kind(archive: DemoArchive, tmp_path: Path) -> None:
    frame = read(series(archive, masks=["SCL-3-ITER0", "SCL-9-ITER1", "none"]).to_pixels(tmp_path, bands=[]))
    assert [name for name in frame if name.startswith(("B", "masked"))] == ["masked_SCL_3_ITER0", "masked_SCL_9_ITER1"]


# ---------------------------------------------------------------------------------------------------------------- chips


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_store, "_EDGE", 7)
    monkeypatch.setattr(chip_store, "_CHUNK", 100)
    monkeypatch.setattr(chip_store, "ROWS_PER_GROUP", 50)
    monkeypatch.setattr(chip_store, "_IN_MEMORY", 1)


def assert_same_pixels(chip: xr.Dataset, rows: Any) -> None:
    """Compare a group with the rows of the table of its feature and tile."""
    by_date = dict(list(rows.groupby("date")))
    assert [*by_date] == [pd.Timestamp(date) for date in chip["date"].to_numpy()]
    for k, own in enumerate(by_date.values()):
        assert set(own["product"]) == {str(chip["product"].to_numpy()[k])}
        y, x = chip.indexes["y"].get_indexer(own["y"]), chip.indexes["x"].get_indexer(own["x"])
        inside = np.zeros((chip.sizes["y"], chip.sizes["x"]), np.float32)
        inside[y, x] = own.get("weight", 1)
        np.testing.assert_array_equal(chip["weight" if "weight" in chip else "inside"], inside)
        for name in ("NDVI", "SCL"):
            full = np.full(inside.shape, np.nan if name == "NDVI" else 0)
            full[y, x] = own[name].astype(float)
            np.testing.assert_array_equal(chip[name].to_numpy()[k], full, err_msg=name)
        for axis, names, variable in (("band", ["B04", "B08"], "reflectance"), ("mask", ["masked_CM004"], "masked")):
            assert chip.sizes[axis] == len(names)
            for j, name in enumerate(names):
                full = np.full(inside.shape, np.nan if axis == "band" else 0)
                full[y, x] = own[name].astype(float)
                np.testing.assert_array_equal(chip[variable].to_numpy()[k, j], full, err_msg=name)


@pytest.mark.parametrize(
    ("fixture", "options"), [(None, {}), ("small_chunks", {"units": "index", "pixels": "weighted"})]
)
def test_chips_have_the_pixels_of_the_table(
    archive: DemoArchive, tmp_path: Path, request: pytest.FixtureRequest, fixture: str | None, options: dict[str, Any]
) -> None:
    if fixture:
        request.getfixturevalue(fixture)
    ts = series(archive, keep_empty=True, id_field="crop", **options)
    frame = read(ts.to_pixels(tmp_path))
    written = ts.to_pixels(tmp_path, "zarr")
    groups = list(frame.groupby(["tile", "fid"], observed=True))
    assert (written.files, written.rows) == (len(groups), len(frame))
    assert str(written).startswith(f"{len(groups)} groups")
    assert written.bytes == sum(path.stat().st_size for path in written.path.rglob("*") if path.is_file())
    for (tile, fid), rows in groups:
        opened = xr.open_zarr(written.path, group=f"{tile}/{fid}", chunks=None)
        xr.testing.assert_identical(opened, xr.open_zarr(written.path / f"{tile}" / f"{fid}", chunks=None))
        with opened as chip:
            assert chip.attrs["crop"] == rows["crop"].iloc[0]
            assert chip["spatial_ref"].attrs["crs_wkt"].startswith("PROJCRS")
            assert chip["band"].to_numpy().tolist() == ["B04", "B08"]
            assert chip["mask"].to_numpy().tolist() == [MASK]
            assert chip["NDVI"].dtype == (np.float32 if "units" in options else chip["NDVI"].dtype)
            assert_same_pixels(chip, rows)


def test_a_store_is_replaced_as_a_whole(archive: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = series(archive).to_pixels(tmp_path, "zarr")
    with pytest.raises(OutputError, match="another result: mask"):
        series(archive, masks="CM001").to_pixels(tmp_path, "zarr")
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(zarr_files.ZarrGroup, "finish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            series(archive).to_pixels(tmp_path, "zarr")
    assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before
    assert {path.name for path in first.path.parent.iterdir()} == {
        first.path.name,
        first.path.with_suffix(".json").name,
    }
    again = series(archive, masks="none").to_pixels(tmp_path, "zarr", overwrite=True)
    fid = next((again.path / "31TGJ").glob("[0-9]*")).name
    with xr.open_zarr(again.path, group=f"31TGJ/{fid}", chunks=None) as chip:
        assert "mask" not in chip.sizes
    (tmp_path / "b" / "parcels" / first.path.name).mkdir(parents=True)
    (tmp_path / "b" / "parcels" / first.path.name / "mine").touch()
    with pytest.raises(OutputError, match="not a Zarr store"):
        series(archive).to_pixels(tmp_path / "b", "zarr", overwrite=True)


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_chips_of_no_dates(archive: DemoArchive, tmp_path: Path) -> None:
    written = series(archive, date_min="2030-01-01").to_pixels(tmp_path, "zarr")
    assert (written.files, written.rows) == (0, 0)
    assert written.path.is_dir()


# ---------------------------------------------------------------------------------------------------------- kept pixels


@pytest.mark.parametrize("alone", [False, True])
def test_kept_pixels_give_the_same_table(
    archive: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    want = series(archive, masks=[MASK, "SCL-3-8-9-ITER2"])
    ts = series(archive, masks=[MASK, "SCL-3-8-9-ITER2"])
    folder = keep(tmp_path / "kept", ts.source, ts._engine.layer)
    settings: dict[str, Any] = {"pixels_from": folder.root}
    if alone:
        settings["library"] = None
        monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "nowhere"))
    kept = series(archive, masks=[MASK, "SCL-3-8-9-ITER2"], **settings)
    written = kept.to_pixels(tmp_path / "a", bands=["B03", "B11"])
    pd.testing.assert_frame_equal(
        read(written), read(want.to_pixels(tmp_path / "b", bands=["B03", "B11"])), check_exact=True
    )
    assert set(written.report["value_source"]) == {"kept pixels"}
    assert any(note.startswith("Kept pixels of kept serve") for note in written.notes)


@pytest.mark.parametrize(
    ("dates", "name"),
    [
        ({}, "parcels_pixels.parquet"),
        ({"date_min": "2030-01-01"}, "parcels_pixels_from_2030-01-01.parquet"),
        ({"date_max": "2010-01-01"}, "parcels_pixels_to_2010-01-01.parquet"),
        ({"date_min": "2030-01-01", "date_max": "2030-02-01"}, "parcels_pixels_2030-01-01_2030-02-01.parquet"),
    ],
)
def test_the_name_has_only_dates_that_were_asked_for(
    archive: DemoArchive, tmp_path: Path, dates: dict[str, str], name: str
) -> None:
    assert series(archive, **dates).to_pixels(tmp_path).path == tmp_path / "parcels" / name


# ---------------------------------------------------------------------------------------------------------- the command


def run(archive: DemoArchive, *arguments: object) -> Any:
    command = ["pixels", str(archive.layer), "--library", str(archive.library), "-i", "NDVI", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def test_the_command_writes_a_table(archive: DemoArchive, tmp_path: Path) -> None:
    done = run(archive, "-o", tmp_path, "--bands", "B03,B08", "--pixels", "weighted", "--id", "crop")
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("parcels/*.parquet")
    frame = pd.read_parquet(path)
    assert f"{len(frame):,} rows of pixels" in done.output
    assert list(frame)[:2] == ["fid", "crop"]
    assert {"B03", "B08", "weight", "masked_CM004"} <= set(frame)
    assert run(archive, "-o", tmp_path, "-q", "--bands", "B03,B08", "--pixels", "weighted", "--id", "crop").output == ""
    other = run(archive, "-o", tmp_path, "--bands", "B03")
    assert other.exit_code == 1
    assert "is another result: pixel rule weighted in the file, center now" in other.output
    assert run(archive, "-o", tmp_path, "--bands", "B03", "--overwrite").exit_code == 0
    assert run(archive, "-o", tmp_path, "--format", "zarr").exit_code == 0


def test_no_result_goes_into_a_table_or_a_store(archive: DemoArchive, tmp_path: Path) -> None:
    table = run(archive, "-o", tmp_path).exit_code, run(archive, "-o", tmp_path, "--format", "zarr").exit_code
    assert table == (0, 0)
    files = sorted(tmp_path.rglob("*"))
    (parquet,), (store,) = tmp_path.glob("parcels/*.parquet"), tmp_path.glob("parcels/*.zarr")
    (tmp_path / "link").symlink_to(parquet)
    for place in (parquet, store, parquet / "new" / "one", tmp_path / "link"):
        for more in ((), ("--overwrite",)):
            done = run(archive, "-o", place, *more)
            assert done.exit_code == 2, done.output
            assert "other files in it would break it; choose another folder" in " ".join(done.output.split())
    command = ["extract", str(archive.layer), "--library", str(archive.library), "-i", "NDVI", "-o"]
    for options in ([str(store)], [str(tmp_path / "out"), "--report", str(parquet / "report.csv")]):
        assert CliRunner().invoke(main, [*command, *options]).exit_code == 2
    raster = next(archive.library.rglob("*_B04_10m.jp2"))
    zonal = ["zonal", str(raster), str(archive.layer), "-o", str(parquet / "zonal.csv"), "--overwrite"]
    assert "choose another folder" in CliRunner().invoke(main, zonal).output
    compiled = TimeSeriesCompil(archive.layer, "NDVI", library=archive.library, extraction=tmp_path / "x", quiet=True)
    with pytest.raises(RequestError, match="choose another folder"):
        compiled.to_pixels(parquet)
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == files


def test_exit_codes_of_the_command(archive: DemoArchive, damaged: DemoArchive, tmp_path: Path) -> None:
    assert run(archive).exit_code == 2
    assert run(archive, "-o", tmp_path, "--bands", "B99").exit_code == 2
    nothing = run(archive, "-o", tmp_path / "a", "--from", "2030-01-01")
    assert nothing.exit_code == 3
    assert "There are no pixels. The archive has no product" in nothing.output
    partly = run(damaged, "-o", tmp_path / "b", "-m", "none")
    assert partly.exit_code == 4
    assert "A part could not be read. 1 product could not be used" in partly.output
    lacking = run(archive, "-o", tmp_path / "c", "--bands", "B02")
    assert lacking.exit_code == 4
    assert lacking.output.count("B02 is empty for") == 1


def test_the_command_deletes_kept_pixels(archive: DemoArchive, tmp_path: Path) -> None:
    kept = TimeSeriesCompil(
        archive.layer, "NDVI", masks=MASK, library=archive.library, extraction=tmp_path, quiet=True, keep_pixels=True
    )
    kept.extract_data()
    files = set(kept.folder.rglob("*.pixels"))
    rows = kept.rows
    assert len(files) == 7
    look = run(archive, "--drop", "--extraction", tmp_path, "--dry-run")
    assert look.exit_code == 0, look.output
    assert set(kept.folder.rglob("*.pixels")) == files
    first = run(archive, "--drop", "--extraction", tmp_path, "--to", "2021-10-31")
    assert first.exit_code == 0, first.output
    assert {path.name[11:19] for path in kept.folder.rglob("*.pixels")} == {"20211109", "20211204"}
    assert run(archive, "--drop", "--extraction", tmp_path, "-q").output == ""
    assert not list(kept.folder.rglob("*.pixels"))
    again = TimeSeriesCompil(
        archive.layer, "NDVI", masks=MASK, library=archive.library, extraction=tmp_path, quiet=True
    )
    assert again.rows == rows
    assert run(archive, "--drop", "-o", tmp_path).exit_code == 2
    assert run(archive, "--dry-run", "-o", tmp_path).exit_code == 2
