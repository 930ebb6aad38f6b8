"""Kept pixels as users have them: an update, then questions without the archive, from odd places and settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from far_end import lock, small_disk
from sen2chain import TimeSeries, TimeSeriesCompil
from sen2chain.cli import main
from sen2chain.pixel_store import PixelFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.demo import DemoArchive
    from sen2chain.pixel_table import WrittenPixels

QUESTION: dict[str, Any] = {
    "indices": ["SAVI=1.5*(B08-B04)/(B08+B04+0.5)"], "masks": ["SCL-3-8-9-10-11-ITER2"], "stats": ["percentile_90"],
}  # fmt: skip


def update(archive: DemoArchive, extraction: Path, **options: Any) -> TimeSeriesCompil:
    """Keep the pixels of the layer, and return the series."""
    asked: dict[str, Any] = {"indices": ["NDVI"], "cm_version": "CM004", "keep_pixels": True, "quiet": True, **options}
    series = TimeSeriesCompil(archive.layer, library=archive.library, extraction=extraction, **asked)
    series.extract_data()
    return series


@pytest.fixture(scope="module")
def kept(few_fields: DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer's folder with kept pixels; tests must not change it."""
    return update(few_fields, tmp_path_factory.mktemp("kept")).folder


@pytest.fixture(scope="module")
def answer(few_fields: DemoArchive) -> pd.DataFrame:
    """The rows of the question from the archive."""
    return TimeSeries(few_fields.layer, library=few_fields.library, quiet=True, **QUESTION).data["SAVI"]


def from_kept(layer: Any, folder: Path, **options: Any) -> TimeSeries:
    return TimeSeries(layer, pixels_from=folder, quiet=True, **{**QUESTION, **options})


def test_the_archive_is_not_needed(few_fields: DemoArchive, kept: Path, answer: pd.DataFrame) -> None:
    series = from_kept(few_fields.layer, kept)
    pd.testing.assert_frame_equal(series.data["SAVI"], answer, check_exact=True)
    report = series.report[series.report["rows"] > 0]
    assert set(report["value_source"]) == {"kept pixels"}
    assert set(report["mask_source"]) == {"computed from kept pixels"}


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without a home, in another time zone and language."""
    keep = {
        name: os.environ[name] for name in ("PATH", "SEN2CHAIN_CACHE", "COVERAGE_PROCESS_START") if name in os.environ
    }
    (tmp_path / "elsewhere").mkdir()
    return {**keep, "TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONUTF8": "0"}


def test_without_a_home_from_another_folder_on_a_read_only_disk(
    few_fields: DemoArchive, answer: pd.DataFrame, tmp_path: Path, bare: dict[str, str]
) -> None:
    with small_disk(tmp_path / "disk", "32m") as disk:
        update(few_fields, disk / "kept")
        lock(disk)
        shutil.copy(few_fields.layer, tmp_path / "layer.gpkg")
        command = [
            sys.executable, "-c", "from sen2chain.cli import main; main()", "extract", "../layer.gpkg", "--pixels-from",
            "../disk/kept", "--index", *QUESTION["indices"], "--mask", *QUESTION["masks"], "--stat", "percentile_90",
            "--out", "out", "--format", "parquet",
        ]  # fmt: skip
        where = tmp_path / "elsewhere"
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=bare, cwd=where)  # noqa: S603
        assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "elsewhere" / "out").rglob("*.parquet")
    rows = pd.read_parquet(table)
    assert len(rows) == len(answer)
    assert rows["percentile_90"].tolist() == answer["percentile_90"].tolist()


# -------------------------------------------------------------------------------------------------- what users are told

CLOUDED = "clouds hid them in the run that kept pixels"


@pytest.fixture
def ask(few_fields: DemoArchive, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return the call of a command on kept pixels, where there is no archive: exit code, and text in single spaces."""
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "nowhere"))

    def call(command: str, options: str, layer: Path = few_fields.layer) -> tuple[int, str]:
        asked = [command, str(layer), "--pixels-from", str(kept), "--out", str(tmp_path / "out"), *options.split()]
        done = CliRunner().invoke(main, asked)
        return done.exit_code, " ".join(done.output.split())

    return call


def test_the_first_line_says_that_pixels_of_features_lack(
    ask: Callable[..., Any], few_fields: DemoArchive, tmp_path: Path
) -> None:
    assert "serve 8 of 8 acquisitions. No archive" in ask("extract", "-i NDVI -m CM004")[1]
    code, output = ask("extract", "-i NDVI -m none --overwrite")
    hidden = output.split("Not all that ")[1].split()[0]
    assert code == 4
    assert f"serve 8 of 8 acquisitions, {hidden} of them in part. No archive" in output
    assert output.count(CLOUDED) == 1
    layer = gpd.read_file(few_fields.layer)
    layer.loc[0, "geometry"] = layer.geometry[0].buffer(30)
    layer.to_file(tmp_path / "grown.gpkg")
    assert "8 of them in part" in ask("extract", "-i NDVI -m CM004 --dry-run", tmp_path / "grown.gpkg")[1]


def test_one_cause_is_told_once(ask: Callable[..., Any]) -> None:
    code, output = ask("extract", "-i NDVI -i MNDWI -m CM004")
    assert code == 4
    assert output.count("of which no pixels were kept") == 1
    assert "MNDWI under CM004-CSH1-CMP1-CHP1-TCI1-ITER1 gave no row." in output
    assert "parcels_MNDWI_None_None.csv has no rows." in output
    assert "parcels_NDVI_None_None.csv has no rows." not in output
    assert "former versions" not in output


def test_a_band_that_is_not_kept_is_told_with_advice(ask: Callable[..., Any]) -> None:
    code, output = ask("pixels", "-i NDVI -m CM004 --bands B04,B11")
    assert code == 4
    assert output.count("B11 is empty for") == 1
    assert (
        "these pixels are not kept; name an archive, or keep them (sen2chain update --keep-pixels B04,B11)." in output
    )
    assert "of them in part. No archive" in output
    code, output = ask("pixels", "-i MNDWI -m CM004 --overwrite")
    assert code == 3
    assert "serve 0 of 8 acquisitions." in output
    assert "or keep them (--keep-pixels B03,B11)." in output
    assert "0 files" not in output
    code, output = ask("pixels", "-i NDVI -m CM004 --bands B02,B11,B12 --overwrite")
    assert "B02, B11, B12 are empty for 8 products, as S2" in output


def test_drop_says_how_it_finds_the_folder(few_fields: DemoArchive, kept: Path) -> None:
    layer = str(few_fields.layer)
    done = CliRunner().invoke(main, ["pixels", layer, "--drop", "--pixels-from", str(kept)])
    assert done.exit_code == 2
    assert "write --extraction in the place of --pixels-from" in " ".join(done.output.split())
    other = ["--extraction", str(kept.parent), "--buffer", "5"]
    done = CliRunner().invoke(main, ["pixels", layer, "--drop", "--dry-run", *other])
    assert done.exit_code == 1
    assert f"with another pixel rule, buffer, statistics or min_valid ({kept.name}); pass those of its" in done.output


def test_an_update_from_kept_pixels_says_what_is_missing(
    few_fields: DemoArchive, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "nowhere"))
    series = TimeSeriesCompil(
        few_fields.layer, ["NDVI", "MNDWI"], masks=["none"], extraction=tmp_path, pixels_from=kept, quiet=True
    )
    looked = " ".join(series.extract_data(getstat=False).notes)
    assert "8 images of MNDWI under none cannot be made: MNDWI needs B03, B11, of which no pixels were kept" in looked
    done = CliRunner().invoke(
        main, ["update", str(few_fields.layer), "--extraction", str(tmp_path), "--pixels-from", str(kept), "-m", "none",
               "-i", "NDVI"],
    )  # fmt: skip
    assert done.exit_code == 4, done.output
    assert " ".join(done.output.split()).count(CLOUDED) == 1


def test_the_estimate_counts_kept_pixels_alone(
    few_fields: DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "nowhere"))
    folder = update(few_fields, tmp_path, keep_margin=0).folder
    series = TimeSeries(few_fields.layer, ["NDVI"], masks=["none"], pixels_from=folder, quiet=True)
    kept = 0
    for path in folder.rglob("*.pixels"):
        with PixelFile.open(path) as file:
            kept += sum(file.positions_of(name).size for name in ("B04", "B08", "CLDPRB"))
    assert 0.95 * kept <= series.estimate().pixels <= kept


def test_a_catalogue_that_cannot_be_reached_is_told_with_the_way_without_it(ask: Callable[..., Any]) -> None:
    code, output = ask("extract", "-i NDVI --stac http://127.0.0.1:9/")
    assert code == 1
    assert "cannot be read" in output
    assert "Leave stac (--stac) out to use kept pixels alone." in output


PIXEL = ["product", "fid", "x", "y"]


def joined(few_fields: DemoArchive, folder: Path, out: Path, **asked: Any) -> tuple[pd.DataFrame, WrittenPixels]:
    """Return pixels from kept ones alone with those of the archive beside them, and what was written."""
    bands = asked.pop("bands", None)
    written = TimeSeries(few_fields.layer, pixels_from=folder, quiet=True, **asked).to_pixels(out / "kept", bands=bands)
    whole = TimeSeries(few_fields.layer, library=few_fields.library, quiet=True, **asked)
    theirs = pd.read_parquet(whole.to_pixels(out / "archive", bands=bands).path)
    ours = pd.read_parquet(written.path)
    both = ours.merge(theirs, on=PIXEL, suffixes=("", "_archive"), validate="1:1")
    assert 0 < len(both) == len(ours) <= len(theirs)
    return both, written


def test_masks_of_pixels_are_known_of_all_features_whose_pixels_are_kept(
    few_fields: DemoArchive, kept: Path, tmp_path: Path
) -> None:
    masks = ["SCL-3-ITER0", "SCL-3-8-ITER1"]  # they remove less than the mask of the update
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": masks}
    both, _ = joined(few_fields, kept, tmp_path, **asked)
    columns = ["masked_SCL_3_ITER0", "masked_SCL_3_8_ITER1"]
    for name in (*columns, "NDVI", "B04"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_archive"], check_names=False)
    assert 0 < both[columns[1]].sum() < len(both)
    series = TimeSeries(few_fields.layer, pixels_from=kept, quiet=True, **asked)
    store = series.to_pixels(tmp_path / "chips", "zarr").path
    masked = 0
    for group in store.glob("*/*/masked"):
        chip = xr.open_zarr(group.parent, consolidated=False)
        masked += int((chip["masked"].sel(mask=masks[1]) & chip["inside"]).sum())
    assert masked == both[columns[1]].sum()


def test_a_band_that_was_kept_of_some_features_alone_is_empty_for_the_others(
    few_fields: DemoArchive, tmp_path: Path
) -> None:
    folder = update(few_fields, tmp_path / "kept", keep_pixels=["B04", "B08"]).folder
    update(few_fields, tmp_path / "kept", indices=["GREEN=B03*1"])
    both, written = joined(few_fields, folder, tmp_path, indices=["NDVI"], masks=["none"], bands=["B03", "B04"])
    pd.testing.assert_series_equal(both["B04"], both["B04_archive"], check_names=False)
    known = both["B03"].notna()
    assert 0 < known.sum() < both["B03_archive"].notna().sum()
    pd.testing.assert_series_equal(both["B03"][known], both["B03_archive"][known], check_names=False)
    assert any(said.startswith("B03 is empty for some features of ") for said in written.problems)
