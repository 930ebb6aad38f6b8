"""Kept pixels as users have them: an update, then questions without the archive, from odd places and settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from far_end import lock, small_disk
from sen2chain import TimeSeries, TimeSeriesCompil

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.demo import DemoArchive

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
