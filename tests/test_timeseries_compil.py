"""`TimeSeriesCompil`: a folder that grows with the archive, and what is compiled from it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

import oracle_compile as oracle
from sen2chain import Index, TimeSeries, TimeSeriesCompil, atomic, demo
from sen2chain.errors import (
    LibraryError,
    OutputError,
    RequestError,
    Sen2ChainError,
    StoreError,
)
from sen2chain.store import ImageLedger, State, locked
from sen2chain.timeseries import folder_update

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
KINDS = ("all_data", "yearly", "monthly", "weekly", "daily")
EVERYTHING = {"alldata": True, "yearly": True, "monthly": True, "weekly": True, "daily": True}
# Two tiles that overlap, an acquisition that was processed twice, one damaged band.
SEASON = demo.Scene(
    size=150,
    parcels=16,
    bands=("B03", "B04", "B08", "SCL", "CLDPRB"),
    reprocessed=((2, "31TGJ"),),
    damaged=((8, "32TLP", "B04"),),
)


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("season"), SEASON)


@pytest.fixture
def archive(season: demo.DemoArchive, tmp_path: Path) -> demo.DemoArchive:
    """An archive of its own, to be changed."""
    shutil.copytree(season.library, tmp_path / "sen2chain_data")
    return replace(season, library=tmp_path / "sen2chain_data")


def compil_of(archive: demo.DemoArchive, extraction: Path, **asked: Any) -> TimeSeriesCompil:
    options: dict[str, Any] = {"indices": ["NDVI"], "multiproc": 1, "quiet": True, "library": archive.library}
    options |= {"extraction": extraction} | asked
    return TimeSeriesCompil(options.pop("vectors_file", archive.layer), **options)


@pytest.fixture(scope="module")
def whole(season: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> TimeSeriesCompil:
    """Everything extracted and compiled; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        series = compil_of(season, tmp_path_factory.mktemp("whole"), indices=["NDVI", "BIGR"])
        series.extract_data()
        series.compile_data(**EVERYTHING)  # type: ignore[arg-type]  # only booleans
        return series


def content(folder: Path, *, also: str = "") -> dict[str, bytes]:
    """All files but those that tell times, locks and the book."""
    skip = ("ledger.sqlite", ".lock", ".lock-holder", "layer.json", *([also] if also else []))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(skip) and path.suffix != ".json"
    }


def raw_files(series: TimeSeriesCompil) -> list[str]:
    return sorted(path.name for path in (series.folder / "raw_data").rglob("*") if path.is_file())


def products(archive: demo.DemoArchive) -> list[Path]:
    return sorted((archive.library / "data" / "L2A").glob("*/*.SAFE"))


def hidden(product: Path) -> Path:
    """Take a product out of its folder of L2A/<TILE>/ and out of the archive."""
    elsewhere = product.parents[4] / "elsewhere" / product.parent.name
    elsewhere.mkdir(parents=True, exist_ok=True)
    return product.rename(elsewhere / product.name)


def shown(product: Path) -> Path:
    """Bring a hidden product back."""
    (l2a,) = product.parents[2].glob("*/data/L2A")
    return product.rename(l2a / product.parent.name / product.name)


# ------------------------------------------------------------------------------------------------ what the original did


@pytest.fixture(scope="module")
def old_library(bolzano: Path) -> Path:
    return bolzano / "legacy"


@pytest.fixture
def published(shared: Path, tmp_path: Path) -> Path:
    """The original's extraction folder, to be continued."""
    shutil.copytree(shared / "reference" / "samples" / "extraction", tmp_path / "extraction")
    return tmp_path / "extraction"


def original(shared: Path, library: Path, extraction: Path, **asked: Any) -> TimeSeriesCompil:
    options: dict[str, Any] = {
        "indices": ["NDVI", "BIGR"], "date_min": "2022-06-01", "date_max": "2022-06-30", "prefer": "masked",
    }  # fmt: skip
    options |= {"library": library, "extraction": extraction, "quiet": True} | asked
    layer = options.pop("vectors_file", shared / "reference" / "samples" / "layer" / "parcels.shp")
    return TimeSeriesCompil(layer, **options)


@pytest.mark.parametrize("raw_format", ["csv", "parquet"])
def test_tree_names_headers_and_rows_are_the_originals(
    shared: Path, old_library: Path, tmp_path: Path, raw_format: str
) -> None:
    series = original(shared, old_library, tmp_path, raw_format=raw_format)
    series.extract_data()
    series.compile_data(**EVERYTHING, datemin="2022-06-01", datemax="2022-06-30")  # type: ignore[arg-type]
    sample = shared / "reference" / "samples" / "extraction"
    # The list of empty images is the original's own; ours is the book.
    wanted = {p.relative_to(sample) for p in sample.rglob("*") if p.is_file() and "product_data" not in p.parts}
    if raw_format == "parquet":
        wanted = {p.with_suffix(".parquet") if "raw_data" in p.parts else p for p in wanted}
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert wanted <= made
    assert {p.name for p in made - wanted if p.suffix != ".json"} == {".lock", "ledger.sqlite"}
    compared = 0
    for path in wanted:
        if path.suffix == ".csv":
            want = oracle.without_helpers(oracle.read(sample / path))
            oracle.same(oracle.read(tmp_path / path), want, rtol=1e-9)
            got_header, want_header = ((root / path).read_text().split("\n", 1)[0] for root in (tmp_path, sample))
            assert want_header.startswith(got_header)  # the helpers stand last
            compared += 1
        elif path.suffix != ".parquet":
            assert (tmp_path / path).read_bytes() == (sample / path).read_bytes()
    assert compared == (36 if raw_format == "parquet" else 54)


def test_whole_numbers_and_quantiles_are_the_originals_to_the_digit(
    shared: Path, old_library: Path, tmp_path: Path
) -> None:
    series = original(shared, old_library, tmp_path)
    series.extract_data()
    series.compile_data(alldata=True)
    for index in ("NDVI", "BIGR"):
        name = Path("compiled_data", index, CM004, "all_data", f"parcels_CC100_{index}_all_data.csv")
        want = oracle.read(shared / "reference/samples/extraction/parcels_a66d83f18b63a667" / name)
        got = oracle.read(series.folder / name)
        exact = ["date", "fid", "tile", "filename", "count", "nodata", "nbcld", "min", "max", "mean", "median"]
        for column in [*exact, "percentile_25", "percentile_75", "completeness", "id", "cover", "area_ha"]:
            assert (got[column] == want[column]).all(), column
        assert np.allclose(got["std"], want["std"], rtol=1e-15, atol=0)  # the last digit of a sum of squares


def test_the_originals_folder_is_continued_and_nothing_is_extracted_twice(
    shared: Path, old_library: Path, published: Path
) -> None:
    (folder,) = published.iterdir()
    before = content(folder)
    series = original(shared, old_library, published)
    assert series.folder == folder
    done = series.extract_data()
    # Only the three images without rows are looked at, because the original's list of them cannot be trusted.
    assert (done.images, done.empty, done.failed, done.kept) == (0, 6, 0, 18)
    assert content(folder) == before
    again = series.extract_data()
    assert (again.acquisitions, again.kept) == (0, 24)
    assert str(again) == "Nothing new: 24 images are there already."
    assert series.rows == 2328
    assert set(series.report["value_source"]) == {"original program", "masked index raster"}
    assert not series.incomplete


def test_a_file_of_the_original_that_was_cut_is_extracted_again(
    shared: Path, old_library: Path, published: Path
) -> None:
    (folder,) = published.iterdir()
    series = original(shared, old_library, published)
    series.extract_data()
    one, two, *_ = sorted(folder.glob("raw_data/NDVI/*/*.csv"))
    text = one.read_text()
    one.write_text(text[:-20])
    two.write_text("\n".join(two.read_text().split("\n")[:3]) + "\n")  # whole lines: somebody has edited it
    done = original(shared, old_library, published).extract_data()
    assert (done.images, done.kept) == (1, 23)
    assert not one.exists()  # replaced by ours
    assert len(two.read_text().splitlines()) == 3


def test_cloud_cover_of_images_of_the_original_is_found_out(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", raw_format="csv")
    series.extract_data()
    (series.folder / "ledger.sqlite").unlink()
    few = compil_of(archive, tmp_path / "extraction")
    assert few.extract_data().images == 0
    assert {entry.state for entry in entries_of(few)} >= {State.ORIGINAL}
    want = compil_of(archive, tmp_path / "other", cover_max=20)
    want.extract_data()
    got = compil_of(archive, tmp_path / "extraction", cover_max=20)
    pd.testing.assert_frame_equal(got.data["NDVI"], want.data["NDVI"])
    # Metadata that break later do not make the figure forgotten.
    (metadata,) = products(archive)[0].rglob("MTD_MSIL2A.xml")
    metadata.write_text("broken")
    got.extract_data(force=True)
    pd.testing.assert_frame_equal(got.data["NDVI"], want.data["NDVI"])


def entries_of(series: TimeSeriesCompil) -> list[Any]:
    with ImageLedger(series.folder / "ledger.sqlite", read_only=True) as ledger:
        return list(ledger.entries("NDVI", CM004).values())


def test_compiling_the_originals_folder_gives_the_originals_files(
    shared: Path, old_library: Path, published: Path
) -> None:
    (folder,) = published.iterdir()
    want = {
        p.relative_to(folder): oracle.without_helpers(oracle.read(p)) for p in folder.glob("compiled_data/**/*.csv")
    }
    shutil.rmtree(folder / "compiled_data")
    series = original(shared, old_library, published)
    series.compile_data(**EVERYTHING, datemin="2022-06-02")  # type: ignore[arg-type]
    made = {p.relative_to(folder): oracle.read(p) for p in folder.glob("compiled_data/**/*.csv")}
    assert made.keys() == want.keys()
    assert len(made) == 36
    for path, table in made.items():
        oracle.same(table, want[path], rtol=0)


def test_lossy_rows_beside_rows_from_bands_are_said_once_and_replaced_when_asked(
    shared: Path, bolzano: Path, published: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "L2A").symlink_to(bolzano / "L2A")
    layer = shared / "reference" / "samples" / "layer" / "parcels.shp"
    (folder,) = published.iterdir()
    for path in folder.glob("raw_data/NDVI/*/*20220630*.csv"):
        path.unlink()  # as if the original had not come to it
    options: dict[str, Any] = {"vectors_file": layer, "indices": ["NDVI"], "prefer": None}
    done = original(shared, library, published, **options).extract_data()
    assert done.images == 1
    assert "8 images" in done.notes[0]
    assert "redo_old=True" in done.notes[0]
    assert (
        (folder / "raw_data" / "NDVI" / CM004)
        .joinpath(f"parcels_S2B_MSIL2A_20220630T101559_N0400_R065_T32TPS_20220630T160000_NDVI_{CM004}.parquet")
        .is_file()
    )
    again = original(shared, library, published, **options).extract_data()
    assert again.notes == []
    assert not again.acquisitions
    redone = original(shared, library, published, **options)
    assert redone.extract_data(redo_old=True).images == 8
    assert {p.suffix for p in folder.glob("raw_data/NDVI/*/*") if p.is_file()} == {".parquet"}
    fresh = TimeSeries(layer, ["NDVI"], "2022-06-01", "2022-06-30", cm_version="CM004", iterations=1, library=library)
    pd.testing.assert_frame_equal(redone.data["NDVI"].drop(columns="completeness"), fresh.data["NDVI"])


# ---------------------------------------------------------------------------------------------------------- extraction


def test_rows_are_those_of_the_other_class(whole: TimeSeriesCompil, season: demo.DemoArchive) -> None:
    other = TimeSeries(
        season.layer, ["NDVI", "BIGR"], cm_version="CM004", iterations=1, library=season.library, quiet=True
    )
    for index in ("NDVI", "BIGR"):
        got, want = whole.data[index], other.data[index]
        assert len(want) > 100
        pd.testing.assert_frame_equal(got.drop(columns="completeness"), want)
        share = 1 - (want["nodata"] - want["nbcld"]) / (want["count"] + want["nodata"])
        assert (got["completeness"] == share).all()


def test_a_second_run_does_nothing(whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    series = compil_of(season, tmp_path, indices=["NDVI", "BIGR"])
    assert series.folder == tmp_path / whole.folder.name
    before = {path: path.stat().st_mtime_ns for path in series.folder.rglob("*.*") if "data" in str(path)}
    done = series.extract_data()
    # What failed is tried again, and nothing else.
    assert (done.acquisitions, done.images, done.failed) == (1, 0, 2)
    assert {path: path.stat().st_mtime_ns for path in before if path.exists()} == before


def test_only_what_is_new_is_extracted(archive: demo.DemoArchive, tmp_path: Path) -> None:
    late = hidden(products(archive)[3])
    series = compil_of(archive, tmp_path / "extraction")
    first = series.extract_data()
    names = raw_files(series)
    shown(late)
    series = compil_of(archive, tmp_path / "extraction")
    second = series.extract_data()
    assert second.acquisitions == 2  # the new one, and the damaged one once more
    assert second.images == 1
    assert second.kept == first.images + first.empty
    (added,) = set(raw_files(series)) - set(names)
    assert late.name.removesuffix(".SAFE") in added


def test_the_order_of_arrival_does_not_matter(
    archive: demo.DemoArchive, whole: TimeSeriesCompil, tmp_path: Path
) -> None:
    late = [hidden(product) for product in products(archive)[::2]]
    series = compil_of(archive, tmp_path / "extraction", indices=["BIGR"])
    series.extract_data()
    for product in late:
        shown(product)
        series = compil_of(archive, tmp_path / "extraction", indices=["NDVI", "BIGR"])
        series.extract_data()
    series.compile_data(**EVERYTHING)  # type: ignore[arg-type]
    assert content(series.folder) == content(whole.folder)


def touch(path: Path, seconds: float) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + int(seconds * 1e9)))


def test_a_repaired_product_is_extracted_again_and_replaces_its_rows(
    archive: demo.DemoArchive, season: demo.DemoArchive, tmp_path: Path
) -> None:
    product = next(p for p in products(archive) if "20220405" not in p.name and "31TGJ" in p.name)
    (band,) = product.rglob("*_B04_10m.jp2")
    good = band.read_bytes()
    band.write_bytes(good[: len(good) // 2])
    series = compil_of(archive, tmp_path / "extraction")
    assert series.extract_data().failed == 2  # this one, and the season's own
    line = series.report.query("acquisition == @product.stem").iloc[0]
    assert line["unreadable"] == len(series.layer)
    assert "B04" in line["error"]
    band.write_bytes(good)
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    assert (done.acquisitions, done.images, done.failed) == (2, 1, 1)
    fresh = compil_of(season, tmp_path / "fresh")
    fresh.extract_data()
    pd.testing.assert_frame_equal(series.data["NDVI"], fresh.data["NDVI"])


def test_a_product_that_breaks_later_keeps_its_rows(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    before = series.data["NDVI"]
    product = products(archive)[0]
    (band,) = product.rglob("*_B04_10m.jp2")
    band.write_bytes(band.read_bytes()[:100])
    series = compil_of(archive, tmp_path / "extraction")
    assert series.extract_data().failed == 2
    pd.testing.assert_frame_equal(series.data["NDVI"], before)
    assert series.incomplete


def test_archives_that_are_thinned_out_keep_their_rows(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    before = series.data["NDVI"]
    one, two, three = products(archive)[:3]
    shutil.rmtree(one)  # the product is gone
    for path in two.rglob("*_B04_10m.jp2"):
        path.unlink()  # its bands are gone
    for path in three.rglob("MSK_CLDPRB_20m.jp2"):
        path.unlink()  # something that rows used is gone, and they would be poorer without
    series = compil_of(archive, tmp_path / "extraction")
    again = series.extract_data()
    assert again.images == 0
    assert again.kept == done.images + done.empty
    assert series.rows == done.rows  # also of products that the archive does not have any more
    pd.testing.assert_frame_equal(series.data["NDVI"], before)


def test_a_changed_file_is_noticed_by_its_time_and_content_and_a_copied_one_is_not(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    for path in archive.library.rglob("*.*"):
        touch(path, -3600)
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    moved = tmp_path / "elsewhere"
    shutil.copytree(archive.library, moved)  # times are kept
    again = compil_of(replace(archive, library=moved), tmp_path / "extraction")
    assert again.extract_data().images == 0
    (mask,) = products(replace(archive, library=moved))[0].rglob("*_SCL_20m.jp2")
    mask.write_bytes(mask.read_bytes().replace(b"OpenJPEG version", b"OpenJPEG Version"))  # in a comment
    touch(mask, -3500)
    assert compil_of(replace(archive, library=moved), tmp_path / "extraction").extract_data().images == 1


def test_a_young_file_is_known_by_its_content(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes within the grain of its time of change is noticed all the same."""
    monkeypatch.setattr("sen2chain.files._COARSEST_TIME", 600.0)  # a busy machine may take seconds to come to a file
    for path in archive.library.rglob("*.*"):
        os.utime(path)
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    (band,) = products(archive)[0].rglob("*_B04_10m.jp2")
    facts, (other,) = band.stat(), products(archive)[1].rglob("*_B04_10m.jp2")
    data = other.read_bytes()[: facts.st_size].ljust(facts.st_size, b"\0")  # the same size, and below the same time
    band.write_bytes(data)
    os.utime(band, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert compil_of(archive, tmp_path / "extraction").extract_data().acquisitions == 2


def test_force_does_all_again_and_other_formulas_are_other_rows(archive: demo.DemoArchive, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"indices": ["MINE=(B08-B03)/(B08+B03)"]}
    series = compil_of(archive, tmp_path / "extraction", **asked)
    first = series.extract_data()
    assert compil_of(archive, tmp_path / "extraction", **asked).extract_data().images == 0
    assert compil_of(archive, tmp_path / "extraction", **asked).extract_data(force=True).images == first.images
    before = series.data["MINE"]["mean"]
    other = compil_of(archive, tmp_path / "extraction", indices=["MINE=(B03-B08)/(B08+B03)"])
    assert other.extract_data().images == first.images
    assert np.allclose(other.data["MINE"]["mean"], -before)


def test_rows_that_cannot_be_made_again_are_missed(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    done = series.extract_data()
    product = products(archive)[0]
    (lost,) = (p for p in (series.folder / "raw_data").rglob("*.parquet") if product.stem in p.name)
    hidden(product)
    lost.unlink()
    series = compil_of(archive, tmp_path / "extraction")
    again = series.extract_data()
    assert (again.lost, again.kept) == (1, done.images + done.empty - 1)
    (note,) = again.notes
    assert note.startswith(f"1 image lost its file of rows, as {lost.name}, and the archive has no product")
    assert series.incomplete
    assert series.rows == len(pd.concat(pd.read_parquet(p) for p in lost.parent.glob("*.parquet")))
    assert f"1 images of NDVI under {CM004} lost their file of rows" in series.compile_data(alldata=True).notes[0]


def test_an_extraction_that_was_stopped_is_told(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sen2chain.timeseries.folder_update.write_image", stopped)
    series = compil_of(archive, tmp_path / "extraction")
    with pytest.raises(KeyboardInterrupt):
        series.extract_data()
    (note,) = series.compile_data(alldata=True).notes
    assert re.search(r"an extraction was stopped before \d+ of 25 images; extract again", note)


def test_a_lost_or_cut_file_of_rows_is_extracted_again(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    before = content(series.folder)
    one, two, *_ = sorted((series.folder / "raw_data").rglob("*.parquet"))
    one.unlink()
    two.write_bytes(two.read_bytes()[:100])
    with pytest.raises(StoreError, match=rf"{two.name} cannot be read.*remove it and extract again"):
        series.compile_data(alldata=True)
    assert compil_of(archive, tmp_path / "extraction").extract_data().images == 2
    assert content(series.folder) == before


def test_a_stored_mask_that_has_gone_changes_nothing(archive: demo.DemoArchive, tmp_path: Path) -> None:
    """What is computed instead of it is the same mask."""
    masks = archive.library / "data" / "CLOUDMASKS"
    for product in products(archive):
        folder = masks / product.parent.name / product.stem
        folder.mkdir(parents=True, exist_ok=True)
        (scl,) = product.rglob("*_SCL_20m.jp2")
        with rasterio.open(scl) as source:
            clouds, profile = np.isin(source.read(1), (3, 8, 9, 10)).astype("uint8"), source.profile
        path = folder / f"{product.stem}_{CM004.replace('ITER1', 'ITER0')}.tif"
        with rasterio.open(path, "w", **profile | {"driver": "GTiff"}) as target:
            target.write(clouds, 1)
    series = compil_of(archive, tmp_path / "extraction", iterations=0)
    done = series.extract_data()
    assert set(series.report.query("rows > 0")["mask_source"]) == {"mask raster"}
    shutil.rmtree(masks)
    assert compil_of(archive, tmp_path / "extraction", iterations=0).extract_data().kept == done.images + done.empty


def test_a_kill_before_a_file_is_removed_leaves_no_row_behind(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    rows = len(series.data["NDVI"])
    product = products(archive)[0]
    (band,) = product.rglob("*_B04_10m.jp2")
    with rasterio.open(band) as source:
        profile, data = source.profile, source.read()
    with rasterio.open(band, "w", **profile | {"QUALITY": "100", "REVERSIBLE": "YES"}) as target:
        target.write(data * 0)  # the product has come anew, and has no data
    unlink = Path.unlink

    def killed(path: Path, **options: Any) -> None:
        if product.stem in path.name:
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        series.extract_data()
    monkeypatch.setattr(Path, "unlink", unlink)
    assert product.stem in " ".join(raw_files(series))
    for _ in range(2):  # before and after the next run
        series = compil_of(archive, tmp_path / "extraction")
        assert product.stem not in set(series.data["NDVI"]["filename"].str.split("_NDVI").str[0])
        assert len(series.data["NDVI"]) <= rows
        series.extract_data()
    assert product.stem not in " ".join(raw_files(series))


@pytest.mark.parametrize(
    "name", ["S2A_MSIL2A_20220607T103021_N0400_R108_T31TGJ_20220607T133021", ".parcels", "..", "a b_é", "x_NDVI_CM004"]
)
def test_odd_names_of_layers(season: demo.DemoArchive, whole: TimeSeriesCompil, tmp_path: Path, name: str) -> None:
    series = compil_of(season, tmp_path, name=name)
    series.extract_data()
    assert compil_of(season, tmp_path, name=name).extract_data().images == 0
    pd.testing.assert_frame_equal(series.data["NDVI"], whole.data["NDVI"])
    assert all(path.is_relative_to(tmp_path) for path in series.compile_data(alldata=True).files)


def test_a_name_that_is_too_long_is_refused_at_once(season: demo.DemoArchive, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"name xxx.*too long for names of files; pass name= with up to \d+ letters"):
        compil_of(season, tmp_path / "extraction", name="x" * 190)
    assert not (tmp_path / "extraction").exists()
    longest = compil_of(season, tmp_path / "extraction", name="x" * 100)
    longest.extract_data()
    longest.compile_data(alldata=True, daily=True, smoothing="whittaker", window_length=3, polyorder=1)


def test_attributes_that_are_called_like_columns_get_a_prefix(season: demo.DemoArchive, tmp_path: Path) -> None:
    names = ("period", "dates", "weighted_mean", "smoothed", "valid", "weight", "completeness")
    frame = gpd.read_file(season.layer).assign(**{name: range(SEASON.parcels) for name in names})
    series = compil_of(season, tmp_path, vectors_file=frame)
    series.extract_data()
    options: dict[str, Any] = {"alldata": True, "window_length": 5, "polyorder": 2}
    for how in ("whittaker", "original"):
        series.compile_data(**options, aggregate=["weighted_mean"], smoothing=how)
    for path in series.folder.rglob("*all_data*.csv"):
        header = path.read_text().split("\n", 1)[0].split(",")
        assert len(set(header)) == len(header), path
    (path,) = series.folder.rglob("*all_data_weighted_mean.csv")
    assert {"period", "attr_period", "attr_dates"} <= set(pd.read_csv(path).columns)
    cube = series.to_xarray("monthly")
    assert cube.sizes["period"] > 5
    assert cube["attr_period"].dims == ("fid",)


def test_rows_of_another_formula_are_left_out_and_told(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", indices=["MINE=B08/(B04+B03)"])
    done = series.extract_data()
    made = compil_of(archive, tmp_path / "extraction", indices=["MINE=B04/(B08+B03)"]).compile_data(alldata=True)
    assert made.files == []
    assert f"{done.images} images of MINE under {CM004} were extracted with another formula" in made.notes[0]


def test_another_scale_is_another_definition_and_clipped_pixels_are_kept_in_the_ledger(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    folder = tmp_path / "extraction"
    narrow, wide = (compil_of(archive, folder, indices=[Index("RATIO", "B08/B04", scale=s)]) for s in (10000, 100))
    images = narrow.extract_data().images
    told = [text for text in narrow.report["error"] if "RATIO: " in text]
    assert told
    assert all("beyond -3.2768 to 3.2766 and count" in text for text in told)
    again = compil_of(archive, folder, indices=["RATIO=B08/B04"])
    assert again.extract_data().images == 0
    assert [text for text in again.report["error"] if "RATIO: " in text] == told
    assert narrow.data["RATIO"]["max"].max() == 32766
    assert wide.extract_data().images == images
    assert not [text for text in wide.report["error"] if "RATIO: " in text]
    frame = wide.data["RATIO"]
    assert frame["max"].max() > 40000
    assert (frame["max"] % 100 == 0).all()
    made = wide.compile_data(alldata=True)
    note = json.loads(made.files[0].with_suffix(".json").read_text())
    assert note["parameters"]["indices"] == {"RATIO": "B08/B04 scale=100"}
    assert note["parameters"]["scale"] == 10000, "of the rows"
    with pytest.raises(OutputError, match="formula of RATIO B08/B04 scale=100 in the file, B08/B04 now"):
        again.compile_data(alldata=True)
    left_out = again.compile_data(yearly=True)
    assert left_out.files == []
    assert f"{images} images of RATIO under {CM004} were extracted with another formula" in left_out.notes[0]


def test_what_would_be_done_can_be_asked(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    looked = series.extract_data(getstat=False)
    assert looked.asked == looked.acquisitions == len(products(archive))
    assert str(looked).endswith(" acquisitions to be extracted, 0 images are there already.")
    assert not series.folder.exists()
    assert series.extract_data().acquisitions == looked.asked


def test_open_ranges_and_cloud_cover(archive: demo.DemoArchive, tmp_path: Path) -> None:
    middle = sorted(archive.truth.dates)[5]
    day = pd.Timestamp(middle).strftime("%Y-%m-%d")
    series = compil_of(archive, tmp_path / "a", date_min=day)
    series.extract_data()
    assert series.data["NDVI"].index.min() >= pd.Timestamp(day)
    until = compil_of(archive, tmp_path / "a", date_max=day)
    until.extract_data()
    # All dates of the folder are compiled, whatever range was asked for last.
    assert until.data["NDVI"].index.min() < pd.Timestamp(day) < until.data["NDVI"].index.max()
    few = compil_of(archive, tmp_path / "a", cover_max=20)
    few.compile_data(alldata=True)
    assert len(few.data["NDVI"]) < len(until.data["NDVI"])
    (file,) = few.folder.glob("compiled_data/NDVI/*/all_data/*.csv")
    assert file.name == f"{few.layer.name}_CC20_NDVI_all_data.csv"


def test_limits_of_cloud_cover_have_files_of_their_own(
    whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    before = content(tmp_path)
    series = compil_of(season, tmp_path, cover_min=5, cover_max=60)
    made = series.compile_data(alldata=True, monthly=True, formats=["csv", "parquet"])
    assert made.files
    assert all("_CC5-60_" in path.name for path in made.files)
    none = compil_of(season, tmp_path, cover_min=99.5).compile_data(alldata=True, monthly=True)
    assert none.files == none.removed == []
    (note,) = none.notes
    assert re.search(r"the products of all \d+ images are outside the cloud cover 99\.5 to 100 %", note)
    assert before.items() <= content(tmp_path).items()


def test_a_range_without_rows_is_told(whole: TimeSeriesCompil) -> None:
    made = whole.compile_data(datemin="2040-01-01")
    assert made.files == []
    assert [note.split(" under ")[0] for note in made.notes] == [f"There are no rows of {i}" for i in ("NDVI", "BIGR")]
    assert "from 2040-01-01 to today; check datemin and datemax" in made.notes[0]


def test_a_range_is_aggregated_to_one_period(whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    rows = whole.data["NDVI"]
    first, last = rows.index.min().date(), rows.index.sort_values()[len(rows) // 2].date()
    made = compil_of(season, tmp_path).compile_data(datemin=first, datemax=last, aggregate="max")
    (path,) = (path for path in made.files if path.stem.endswith("_max"))
    got = pd.read_csv(path)
    assert set(got["period"]) == {f"{first}_{last}"}
    within = rows[rows.index < pd.Timestamp(last) + pd.Timedelta(days=1)]
    want = within.groupby("fid")["mean"].agg(["count", "max"])
    assert got["dates"].tolist() == want["count"].tolist()
    assert np.allclose(got["max"], want["max"], rtol=1e-12)


def test_all_indices_of_the_folder_are_compiled_where_none_is_named(
    whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    made = compil_of(season, tmp_path, indices=None).compile_data(yearly=True, week="iso")
    assert made.notes == []
    assert {path.parts[-4] for path in made.unchanged} == {"NDVI", "BIGR"}
    empty = compil_of(season, tmp_path, indices=None, masks="CM001").compile_data(yearly=True)
    assert empty.notes == ["Nothing has been extracted yet; extract first."]


def test_several_masks_have_their_folders(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", masks=["CM001", "CM004"])
    series.extract_data()
    series.compile_data(alldata=True)
    assert {path.name for path in (series.folder / "compiled_data" / "NDVI").iterdir()} == {"CM001", CM004}
    assert set(series.data["NDVI"]["mask"]) == {"CM001", CM004}
    other = TimeSeries(archive.layer, ["NDVI"], masks=["CM001", "CM004"], library=archive.library, iterations=1)
    pd.testing.assert_frame_equal(
        series.data["NDVI"].drop(columns="completeness").reset_index(), other.data["NDVI"].reset_index()
    )


def test_other_pixels_have_a_folder_of_their_own(archive: demo.DemoArchive, tmp_path: Path) -> None:
    plain = compil_of(archive, tmp_path / "extraction")
    weighted = compil_of(archive, tmp_path / "extraction", pixels="weighted", buffer=10, stats=["percentile_10"])
    assert re.fullmatch(rf"{plain.folder.name}_weighted_buffer10_stats-[0-9a-f]{{8}}", weighted.folder.name)
    weighted.extract_data()
    frame = weighted.data["NDVI"]
    assert list(frame.columns).index("completeness") == list(frame.columns).index("percentile_10") + 1
    assert (frame["count"] % 1).any()
    again = compil_of(archive, tmp_path / "extraction", pixels="weighted", buffer=10, stats=["percentile_10"])
    assert again.extract_data().images == 0


def test_an_odd_grid_is_told_however_the_products_arrive(archive: demo.DemoArchive, tmp_path: Path) -> None:
    """A product of another grid than its tile's is refused although it comes alone."""
    tile = [p for p in products(archive) if "31TGJ" in p.name]
    odd = tile[4]
    for path in odd.rglob("*.jp2"):
        with rasterio.open(path) as source:
            profile, data = source.profile, source.read()
            pixel, _, left, *others = source.transform[:6]
            profile["transform"] = Affine(pixel, 0, left + 40, *others)  # metres, so that it agrees with itself
        profile |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
        with rasterio.open(path, "w", **profile) as target:
            target.write(data)
    for order in ("all", "odd last", "odd first"):
        extraction = tmp_path / order
        rest = [p for p in tile if p != odd]
        away: list[Path] = []
        if order == "odd last":
            away = [hidden(odd)]
        elif order == "odd first":
            away = [hidden(p) for p in rest]
        compil_of(archive, extraction).extract_data()
        for path in away:
            shown(path)
        if away:
            compil_of(archive, extraction).extract_data()
            compil_of(archive, extraction).extract_data()
            compil_of(archive, extraction).extract_data(force=True)
        series = compil_of(archive, extraction)
        line = series.report.query("acquisition == @odd.stem").iloc[0]
        assert line["grid_mismatch"] == len(series.layer), (order, line.to_dict())
        assert (series.report.query("tile == '31TGJ' and acquisition != @odd.stem")["grid_mismatch"] == 0).all(), order
        assert odd.stem not in " ".join(raw_files(series)), order


# ------------------------------------------------------------------------------------------------------------- locking


def test_two_runs_at_once_do_the_work_once(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, results = threading.Event(), []
    run = folder_update.FolderUpdate.run

    def slowly(self: Any, **options: Any) -> Any:
        started.set()
        time.sleep(0.5)
        return run(self, **options)

    monkeypatch.setattr(folder_update.FolderUpdate, "run", slowly)
    one, two = (compil_of(archive, tmp_path / "extraction") for _ in range(2))
    thread = threading.Thread(target=lambda: results.append(one.extract_data()))
    thread.start()
    assert started.wait(10)
    results.append(two.extract_data())
    thread.join()
    assert results[0].images > 10
    assert (results[1].images, results[1].kept) == (0, results[0].images + results[0].empty)


def test_who_holds_the_folder_is_told(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", wait=0)
    series.extract_data()
    with (
        locked(series.folder),
        pytest.raises(StoreError, match=rf"held by process {os.getpid()} on .*since.*wait until it is done"),
    ):
        series.extract_data()
    assert series.extract_data().kept > 10


# ---------------------------------------------------------------------------------------------------------- compilation


@pytest.mark.parametrize("index", ["NDVI", "BIGR"])
def test_compiled_files_are_those_of_the_oracle(whole: TimeSeriesCompil, index: str) -> None:
    rows = oracle.one_row(oracle.raw_rows(whole.folder, index, CM004))
    attributes = whole.layer.attributes.reset_index(names="fid")
    for kind in KINDS:
        folder = whole.folder / "compiled_data" / index / CM004 / kind
        wanted = {
            oracle.file_name(whole.layer.name, 100, index, kind, key): table
            for key, table in oracle.periods(rows, kind).items()
        }
        assert {path.name for path in folder.glob("*.csv")} == wanted.keys()
        for name, table in wanted.items():
            got = pd.read_csv(folder / name, parse_dates=["date"])
            oracle.same(got[list(table.columns)], table)
            expected = got[["fid"]].merge(attributes, on="fid")
            pd.testing.assert_frame_equal(got[list(attributes.columns)], expected, check_dtype=False)
            note = json.loads((folder / name).with_suffix(".json").read_text())
            assert note["compiled"]["kind"] == kind
            assert note["layer"]["features"] == len(whole.layer)


def test_iso_weeks_and_ranges(whole: TimeSeriesCompil, tmp_path: Path, season: demo.DemoArchive) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    series = compil_of(season, tmp_path)
    made = series.compile_data(weekly=True, week="iso", datemin=whole.data["NDVI"].index[3].date())
    rows = oracle.one_row(oracle.raw_rows(series.folder, "NDVI", CM004))
    wanted = oracle.periods(rows, "weekly", "iso")
    names = {f"{series.layer.name}_CC100_NDVI_weekly_{key}.csv" for key in wanted}
    assert all(re.search(r"\d{4}-W\d\d\.csv$", name) for name in names)
    (custom,) = {path.name for path in made.files} - names
    days = sorted(d for d in set(rows["date"].dt.strftime("%Y-%m-%d")) if d >= str(whole.data["NDVI"].index[3].date()))
    assert custom == f"{series.layer.name}_CC100_NDVI_{days[0]}_{days[-1]}.csv"
    both = [series.compile_data(weekly=True, week=w, aggregate="max") for w in ("sunday", "iso")]
    aggregated = [path for made in both for path in made.files if path.stem.endswith("_max")]
    assert [path.name.removeprefix(f"{series.layer.name}_CC100_NDVI_") for path in aggregated] == [
        "weekly_max.csv", "weekly_iso_max.csv",
    ]  # fmt: skip
    for path, way in zip(aggregated, ("sunday", "iso"), strict=True):
        assert set(pd.read_csv(path)["period"]) == set(oracle.periods(rows, "weekly", way))
    # Weeks of the other kind stay.
    assert any(re.search(r"weekly_\d{4}-\d\d\.csv$", p.name) for p in series.folder.rglob("*.csv"))


def test_only_periods_with_new_rows_are_rewritten(archive: demo.DemoArchive, tmp_path: Path) -> None:
    late = hidden(products(archive)[0])
    day = pd.Timestamp(late.name[11:19])
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    series.compile_data(**EVERYTHING)  # type: ignore[arg-type]
    assert series.compile_data(**EVERYTHING).files == []  # type: ignore[arg-type]
    shown(late)
    series.extract_data()  # the same object looks at the archive again
    made = series.compile_data(**EVERYTHING)  # type: ignore[arg-type]
    stem = f"{series.layer.name}_CC100_NDVI_"
    assert sorted(path.stem.removeprefix(stem) for path in made.files) == sorted([
        "all_data", day.strftime("yearly_%Y"), day.strftime("monthly_%Y-%m"), day.strftime("weekly_%Y-%U"),
        day.strftime("daily_%Y-%m-%d"),
    ])  # fmt: skip
    # A file that somebody changed or removed is written again.
    made.files[0].write_text("mine")
    made.files[1].unlink()
    made.files[2].with_suffix(".json").unlink()
    assert set(series.compile_data(**EVERYTHING).files) == set(made.files[:3])  # type: ignore[arg-type]


def test_files_of_periods_without_rows_go(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    series.compile_data(daily=True, formats=("csv", "parquet"))
    image = min((series.folder / "raw_data").rglob("*.parquet"))
    day = pd.Timestamp(re.search(r"MSIL2A_(\d{8})", image.name)[1])  # type: ignore[index]
    for other in image.parent.glob(f"*MSIL2A_{day:%Y%m%d}*"):
        other.unlink()
    days = len(list(series.folder.rglob("*daily*.parquet")))
    made = compil_of(archive, tmp_path / "extraction", cover_max=100.0).compile_data(daily=True)
    stem = f"{series.layer.name}_CC100_NDVI_daily_{day:%Y-%m-%d}"
    assert sorted(path.name for path in made.removed) == [f"{stem}.csv", f"{stem}.parquet"]
    assert "2 removed" in str(made)
    assert not list(series.folder.rglob(f"{stem}*"))
    assert len(list(series.folder.rglob("*daily*.parquet"))) == days - 1  # those of other days stay


def test_parquet_and_csv_say_the_same(whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    series = compil_of(season, tmp_path)
    made = series.compile_data(alldata=True, monthly=True, formats=["parquet", "csv"])
    for path in made.files:
        assert path.suffix == ".parquet"
        one, other = pd.read_parquet(path), pd.read_csv(path.with_suffix(".csv"), parse_dates=["date"])
        one["date"], other["date"] = (t["date"].astype("datetime64[ns]") for t in (one, other))
        pd.testing.assert_frame_equal(one, other, check_dtype=False)


@pytest.mark.parametrize("kind", KINDS)
def test_aggregates_are_those_of_the_oracle(
    whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path, kind: str
) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    series = compil_of(season, tmp_path)
    names = ["mean", "median", "max", "count", "weighted_mean"]
    flag = "alldata" if kind == "all_data" else kind
    made = series.compile_data(**{flag: True}, aggregate=names, formats=("csv", "parquet"))  # type: ignore[arg-type]
    (csv,) = (p for p in made.files if p.suffix == ".csv")
    middle = "" if kind == "all_data" else f"{kind}_"
    what = "all_data_" if kind == "all_data" else middle
    assert csv.name == f"{series.layer.name}_CC100_NDVI_{what}mean-median-max-count-weighted_mean.csv"
    rows = oracle.one_row(oracle.raw_rows(series.folder, "NDVI", CM004))
    want = oracle.aggregate(rows, kind).sort_values(["fid", "period"]).rename(columns={"weighted": "weighted_mean"})
    got = pd.read_csv(csv, dtype={"period": str})
    assert list(got.columns) == [
        "period", "fid", "dates", "mean", "median", "max", "weighted_mean", *series.layer.attributes,
    ]  # fmt: skip
    oracle.same(got[list(want.columns)], want.reset_index(drop=True), rtol=1e-12)
    parquet = pd.read_parquet(csv.with_suffix(".parquet"))
    pd.testing.assert_frame_equal(parquet, got, check_dtype=False)


def test_aggregates_as_a_cube(whole: TimeSeriesCompil, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = whole.to_xarray("monthly", aggregate=["mean", "count"])
    rows = oracle.one_row(oracle.raw_rows(whole.folder, "NDVI", CM004))
    want = oracle.aggregate(rows, "monthly").set_index(["fid", "period"])
    assert cube["mean"].dims == ("index", "fid", "period")
    for key, line in want.iterrows():
        fid, period = cast("tuple[int, str]", key)
        assert float(cube["mean"].sel(index="NDVI", fid=fid, period=period)) == pytest.approx(line["mean"], rel=1e-12)
        assert int(cube["dates"].sel(index="NDVI", fid=fid, period=period)) == line["dates"]
    assert cube["mean"].attrs["units"] == "1e-4"
    dates = whole.to_xarray()
    assert dates["mean"].dims == ("index", "fid", "date")
    assert set(cube["geometry"].dims) == {"fid"}
    assert set(dates.data_vars) == set(whole.data["NDVI"]) - {"fid", *whole.layer.attributes.columns}
    monkeypatch.setattr("sen2chain.export.cube.memory", lambda: 1000)
    for kind in (None, "monthly"):
        with pytest.raises(RequestError, match=r"features x \d+ dates .* use compile_data"):
            whole.to_xarray(kind)


def test_an_index_without_rows_is_told_and_the_others_are_compiled(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", indices=["NDVI", "NDWIGAO"])
    done = series.extract_data()
    assert done.missing == len(products(archive))
    assert "25 images lack their inputs" in str(done)
    (said,) = done.notes
    assert said == (
        f"25 images of NDWIGAO under {CM004} cannot be made: "
        "NDWIGAO needs band B11, which the archive lacks and no NDWIGAO raster is stored."
    )
    made = series.compile_data(alldata=True)
    assert [path.name for path in made.files] == [f"{series.layer.name}_CC100_NDVI_all_data.csv"]
    (note,) = made.notes
    assert "no rows of NDWIGAO" in note
    assert "needs band B11" in note
    assert series.incomplete
    assert series.data["NDWIGAO"].empty
    # It is not looked at again before its bands come.
    assert str(compil_of(archive, tmp_path / "extraction", indices=["NDWIGAO"]).extract_data()) == (
        "Nothing new: 0 images are there already, 25 images lack their inputs."
    )


# ------------------------------------------------------------------------------------------------------------ smoothing


def test_smoothed_files(whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    series = compil_of(season, tmp_path)
    options: dict[str, Any] = {"alldata": True, "window_length": 5, "polyorder": 2}
    made = series.compile_data(**options, smoothing=True)
    path, stats_file = made.files
    stem = f"{series.layer.name}_CC100_NDVI_all_data"
    assert stats_file.name == f"{stem}_smooth_stats.csv"
    assert made.remarks == []
    assert path.name == f"{stem}_smooth.csv"
    smooth = pd.read_csv(path, parse_dates=["date"])
    stats = pd.read_csv(path.with_name(f"{stem}_smooth_stats.csv"))
    assert set(stats["fid"]) == set(series.data["NDVI"]["fid"])
    assert smooth.loc[smooth["grid"] == 1, "smoothed"].notna().any()
    assert list(smooth.columns[-4:]) == list(series.layer.attributes)
    observed = smooth.dropna(subset=["observed"])
    assert len(observed) == len(series.data["NDVI"].query("nodata < 0.75 * (count + nodata)"))
    note = json.loads(path.with_suffix(".json").read_text())
    assert note["smoothing"]["method"] == "savgol"
    assert series.compile_data(**options, smoothing=True).files == []
    other = series.compile_data(**options, smoothing="whittaker")
    assert [p.name for p in other.files] == [f"{stem}_whittaker_smooth.csv", f"{stem}_whittaker_smooth_stats.csv"]
    (remark,) = series.compile_data(alldata=True, smoothing="whittaker", window_length=9, polyorder=2).remarks
    short = pd.read_csv(other.files[1])["note"].notna().sum()
    assert remark == f"{short} of 16 features have too few dates to be smoothed; {other.files[1].name} says which."
    with pytest.raises(RequestError, match=r"_smooth\.csv was smoothed our way.*reset_smoothing=True"):
        series.compile_data(**options, smoothing="original")
    assert series.compile_data(**options, smoothing="original", reset_smoothing=True).files == [path, stats_file]
    assert path.read_text().startswith(",date,fid")
    with pytest.raises(RequestError, match=r"smoothed the original's way; go on with smoothing='original'"):
        series.compile_data(**options, smoothing=True)


def test_a_series_shorter_than_the_window_is_an_error_and_the_rest_is_written(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    series = compil_of(archive, tmp_path / "extraction", indices=["NDVI", "BIGR"])
    series.extract_data()
    with pytest.raises(RequestError, match="window_length"):
        series.compile_data(alldata=True, smoothing=True, window_length=51)
    assert len(list(series.folder.rglob("*all_data.csv"))) == 2
    assert not list(series.folder.rglob("*smooth*"))


def test_the_published_series_is_continued_as_the_original_would(
    shared: Path, tmp_path: Path, season: demo.DemoArchive
) -> None:
    """The sample's rows as raw files: smoothed as far as 2021, then all of them."""
    samples = shared / "reference" / "samples" / "smoothing"
    rows = pd.read_csv(samples / "all_data.csv", parse_dates=["date"])
    layer = gpd.read_file(season.layer).iloc[:4, -1:].to_crs(32740)
    layer.geometry = layer.geometry.translate(0, 0)
    series = TimeSeriesCompil(
        layer, ["NDVI"], "2030-01-01", library=season.library, extraction=tmp_path, quiet=True, name="parcels"
    )
    series.extract_data()  # nothing, but there is a folder then
    raw = series.folder / "raw_data" / "NDVI" / CM004
    raw.mkdir(parents=True)

    def put(chosen: pd.DataFrame) -> None:
        for date, group in chosen.groupby("date"):
            product = f"S2A_MSIL2A_{date:%Y%m%dT%H%M%S}_N0400_R091_T40KCB_{date:%Y%m%d}T160000"
            table = group.drop(columns="completeness").assign(filename="x")
            table.to_csv(raw / f"parcels_{product}_NDVI_{CM004}.csv", index=False, date_format="%Y-%m-%d %H:%M:%S")

    options: dict[str, Any] = {"alldata": True, "smoothing": "original"}
    put(rows[rows["date"] < "2022-01-01"])
    done = series.compile_data(**options)
    (smooth,) = (p for p in done.files if p.stem.endswith("_smooth"))
    assert not [remark for remark in done.remarks if smooth.name in remark], "it is continued, not replaced"
    assert_same_smooth(smooth, samples / "smooth_until_2021.csv")
    shutil.copy(samples / "smooth_until_2021.csv", smooth)  # as the original wrote it, to the last digit
    put(rows)
    series.compile_data(**options)
    assert_same_smooth(smooth, samples / "smooth_continued.csv")
    assert series.compile_data(**options, covermax=75.0).files == []
    series.compile_data(**options, reset_smoothing=True)
    assert_same_smooth(smooth, samples / "smooth_w11_p3.csv")
    stats = smooth.with_name(smooth.name.replace("_smooth", "_smooth_stats"))
    pd.testing.assert_frame_equal(pd.read_csv(stats), pd.read_csv(samples / "stats_w11_p3.csv"))


def assert_same_smooth(got: Path, want: Path) -> None:
    one, other = pd.read_csv(got), pd.read_csv(want)
    assert list(one.columns) == list(other.columns)
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=0, atol=1e-9)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"raw_format": "xls"}, "Unknown raw format 'xls'; allowed: parquet, csv"),
        ({"indices": ["NVDI"]}, "Did you mean NDVI"),
        ({"cover_min": 50, "cover_max": 20}, "cover_min 50"),
        ({"date_min": "2022-13-01"}, "date_min is '2022-13-01'"),
        ({"multiproc": -1}, "multiproc is -1"),
        ({"library": "nowhere"}, "nowhere is not a folder"),
        ({"wait": -1}, "wait is -1"),
        ({"wait": "x"}, "wait is 'x'"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(
    season: demo.DemoArchive, tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(Sen2ChainError, match=message) as caught:
        compil_of(season, tmp_path / "extraction", **asked).extract_data()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "extraction").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Nothing is to be compiled"),
        ({"alldata": True, "week": "monday"}, "Unknown week 'monday'"),
        ({"alldata": True, "formats": "xls"}, "Unknown format 'xls'"),
        ({"alldata": True, "formats": []}, "No format"),
        ({"alldata": True, "formats": None}, "No format"),
        ({"alldata": True, "smoothing": True, "covermax": "75"}, "covermax is '75'"),
        ({"alldata": True, "smoothing": True, "window_length": None}, "window_length is None"),
        ({"alldata": True, "aggregate": "average"}, "Unknown aggregate 'average'"),
        ({"alldata": True, "aggregate": []}, "No aggregate"),
        ({"alldata": True, "smoothing": "spline"}, "Unknown smoothing 'spline'; allowed: savgol"),
        ({"alldata": True, "smoothing": True, "window_length": 4}, "window_length"),
        ({"alldata": True, "smoothing": True, "polyorder": 11}, "polyorder"),
        ({"alldata": True, "smoothing": True, "season_mean": True}, "season_mean belongs to smoothing='original'"),
        ({"monthly": True, "smoothing": True}, "Whole series are smoothed"),
        ({"datemin": "2022-06-02", "datemax": "2022-06-01"}, "datemin 2022-06-02 is after datemax"),
        ({"datemin": "June"}, "datemin is 'June'"),
    ],
)
def test_bad_compilations_are_refused(whole: TimeSeriesCompil, asked: dict[str, Any], message: str) -> None:
    before = content(whole.folder)
    with pytest.raises(RequestError, match=message) as caught:
        whole.compile_data(**asked)
    assert "\n" not in str(caught.value)
    assert content(whole.folder) == before


def test_an_archive_without_products_in_the_range_is_told(season: demo.DemoArchive, tmp_path: Path) -> None:
    done = compil_of(season, tmp_path, date_max="2016-01-01").extract_data()
    assert str(done) == "Nothing new: 0 images are there already."
    (note,) = done.notes
    assert note.startswith("The archive has no product of ")
    assert note.endswith(" from the beginning to 2016-01-01; check date_min and date_max.")


def test_compiling_before_extracting_is_told(season: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(season, tmp_path)
    assert series.rows == 0
    for ask in (lambda: series.compile_data(alldata=True), lambda: series.data, series.to_xarray):
        with pytest.raises(StoreError, match=r"Nothing of the layer .* call extract_data\(\)"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_compiling_needs_no_archive(whole: TimeSeriesCompil, season: demo.DemoArchive, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / "e" / whole.folder.name)
    series = TimeSeriesCompil(season.layer, ["NDVI"], extraction=tmp_path / "e", quiet=True)
    assert series.compile_data(datemax="2030-01-01").files
    with pytest.raises(LibraryError, match="There is no archive"):
        series.extract_data()


def test_a_damaged_book_is_told_and_can_be_removed(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction", raw_format="csv")
    series.extract_data()
    before = series.data["NDVI"]
    book = series.folder / "ledger.sqlite"
    book.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"ledger\.sqlite is damaged .*remove it"):
        series.extract_data()
    book.unlink()
    again = compil_of(archive, tmp_path / "extraction")
    done = again.extract_data()
    assert done.images == 0  # files of rows in the documented form count as done
    pd.testing.assert_frame_equal(again.data["NDVI"], before)


def test_a_newer_book_is_refused(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    base = sqlite3.connect(series.folder / "ledger.sqlite")
    base.execute("UPDATE facts SET value = '99' WHERE name = 'version'")
    base.commit()
    base.close()
    with pytest.raises(StoreError, match="newer version of sen2chain; update"):
        series.extract_data()


def test_a_full_disk_loses_nothing(
    archive: demo.DemoArchive, season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = compil_of(season, tmp_path / "want")
    want.extract_data()
    want.compile_data(alldata=True, daily=True)
    sync, left = atomic.sync, [9]

    def full(file: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(atomic, "sync", full)
    monkeypatch.setattr(atomic, "_syncfs", lambda: None)  # so that each file is synced on its own
    series = compil_of(archive, tmp_path / "extraction")
    with pytest.raises(OutputError, match="No room is left"):
        series.extract_data()
    assert 0 < len(raw_files(series)) < 9
    left[0] = 10**9
    series.extract_data()
    left[0] = 4
    with pytest.raises(OutputError, match="No room is left"):
        series.compile_data(alldata=True, daily=True)
    assert not list(series.folder.rglob(".*.tmp"))
    left[0] = 10**9
    series.compile_data(alldata=True, daily=True)
    assert content(series.folder) == content(want.folder)


def test_what_a_killed_run_left_half_written_is_swept(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = compil_of(archive, tmp_path / "extraction")
    series.extract_data()
    leftover = atomic.temporary(series.folder / "raw_data" / "NDVI" / CM004 / "x.parquet")
    leftover.write_bytes(b"half")
    mine = leftover.with_name("mine.tmp")
    mine.write_bytes(b"mine")
    series.extract_data()
    assert not leftover.exists()
    assert mine.exists()


def test_a_second_file_of_an_image_counts_once(archive: demo.DemoArchive, tmp_path: Path) -> None:
    """A killed run may leave the former file of an image beside the new one."""
    series = compil_of(archive, tmp_path / "extraction", raw_format="csv")
    series.extract_data()
    before = series.data["NDVI"]
    image = min((series.folder / "raw_data").rglob("*.csv"))
    copy = image.with_name(image.name.replace("NDVI_CM004", "NDVI_CM004-OLD"))
    shutil.copy(image, copy)
    again = compil_of(archive, tmp_path / "extraction")
    pd.testing.assert_frame_equal(again.data["NDVI"], before)
    again.extract_data(force=True)
    assert not copy.exists()
    assert not image.exists()
    pd.testing.assert_frame_equal(again.data["NDVI"], before)


def test_the_book_tells_of_every_image(whole: TimeSeriesCompil) -> None:
    with ImageLedger(whole.folder / "ledger.sqlite") as ledger:
        entries = ledger.entries("NDVI", CM004)
    assert len(entries) == len(whole.plan.tasks)
    states = {entry.state for entry in entries.values()}
    assert states == {State.DONE, State.EMPTY, State.FAILED}
    for entry in entries.values():
        if entry.state is State.DONE:
            assert entry.rows > 0
            assert entry.value_source == "bands"
            assert entry.cover is not None
            assert (whole.folder / "raw_data" / "NDVI" / CM004 / entry.file).stat().st_size == entry.size
            assert {"value B04", "value B08", "mask SCL"} <= json.loads(entry.inputs)["files"].keys()
        else:
            assert sum(entry.reasons.values()) == len(whole.layer)
        assert np.isfinite(entry.rows)


def test_the_own_key_stands_right_after_fid_in_compiled_tables_but_not_in_raw_ones(
    season: demo.DemoArchive, tmp_path: Path
) -> None:
    made = compil_of(season, tmp_path, id_field="crop", raw_format="csv")
    made.extract_data()
    raw = next((made.folder / "raw_data").rglob("*.csv"))
    assert list(pd.read_csv(raw))[:3] == ["date", "fid", "tile"]
    assert "crop" in pd.read_csv(raw)
    done = made.compile_data(alldata=True, aggregate="mean", smoothing="whittaker", window_length=5, polyorder=2)
    tables = {file.stem.rpartition("all_data")[2]: list(pd.read_csv(file)) for file in done.files}
    assert tables.pop("_whittaker_smooth_stats")[:2] == ["indice", "fid"]
    assert {name: columns[columns.index("fid") + 1] for name, columns in tables.items()} == dict.fromkeys(
        ("", "_mean", "_whittaker_smooth"), "crop"
    )
    assert all(columns.count("crop") == 1 for columns in tables.values())
    assert list(made.data["NDVI"])[:2] == ["fid", "crop"]
    # Without the key it is the same table with another order of columns, and another time it is that again.
    plain = compil_of(season, tmp_path)
    assert list(plain.data["NDVI"])[:2] == ["fid", "tile"]
    assert plain.compile_data(alldata=True).files
    assert "crop is not unique" in " ".join(made.notes)


def test_the_own_key_is_found_in_a_shapefile_that_cuts_its_name(season: demo.DemoArchive, tmp_path: Path) -> None:
    numbered = season.parcels.assign(parcel_number=range(7, 7 + len(season.parcels)))
    numbered.to_file(tmp_path / "parcels.gpkg")
    (tmp_path / "cut").mkdir()
    numbered.rename(columns={"parcel_number": "parcel_num"}).to_file(tmp_path / "cut" / "parcels.shp")
    first = compil_of(season, tmp_path, vectors_file=tmp_path / "cut" / "parcels.shp", id_field="parcel_num")
    first.extract_data()
    again = compil_of(season, tmp_path, vectors_file=tmp_path / "parcels.gpkg", id_field="parcel_number")
    assert again.folder == first.folder
    frame = again.data["NDVI"]
    assert (frame.iloc[:, 1] == frame["fid"] + 7).all()
