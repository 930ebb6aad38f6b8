from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from click.testing import CliRunner

from sen2chain import TimeSeriesCompil, demo
from sen2chain.cli import main
from sen2chain.store import ExtractionFolder, State, contents_of, is_layer_folder

if TYPE_CHECKING:
    from pathlib import Path

SMALL = demo.Scene(size=180, parcels=12, overpasses=demo.DEFAULT.overpasses[:4], bands=("B03", "B04", "B08", "SCL"))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> TimeSeriesCompil:
    archive = demo.build(tmp_path_factory.mktemp("small"), SMALL)
    made = TimeSeriesCompil(
        archive.layer, ["NDVI", "BIGR"], masks=["CM004", "none"], library=archive.library, quiet=True,
        extraction=tmp_path_factory.mktemp("extraction"),
    )  # fmt: skip
    made.extract_data()
    made.compile_data(alldata=True, monthly=True, formats=["csv", "parquet"])
    return made


def show(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["show", *map(str, words)])
    return result.exit_code, result.output


def test_series_are_those_of_the_rows(series: TimeSeriesCompil) -> None:
    found = contents_of(ExtractionFolder(series.folder))
    assert (found.source, found.features, found.crs) == (str(series.layer.path), len(series.layer), "EPSG:4326")
    assert [(s.index, s.mask) for s in found.series] == sorted(
        (index, mask.name) for index in ("BIGR", "NDVI") for mask in series.request.masks
    )
    report = series.report
    for made in found.series:
        own = report[(report["index"] == made.index) & (report["mask"] == made.mask)]
        assert made.rows == own["rows"].sum() > 0
        assert made.images == (own["rows"] > 0).sum() == made.states[State.DONE]
        assert made.states[State.EMPTY] == (own["rows"] == 0).sum()
        with_rows = own.loc[own["rows"] > 0, "date"]
        assert (made.first, made.last) == (with_rows.min(), with_rows.max())
    raw = sum(path.stat().st_size for path in (series.folder / "raw_data").rglob("*.parquet"))
    assert sum(made.size for made in found.series) == raw


def test_results_are_the_files_without_the_json_beside_them(series: TimeSeriesCompil) -> None:
    found = {files.place: files for files in contents_of(ExtractionFolder(series.folder)).results}
    for place, files in found.items():
        there = [path for path in (series.folder / place).iterdir() if path.suffix != ".json"]
        assert dict(files.kinds) == {kind: sum(path.suffix == f".{kind}" for path in there) for kind in files.kinds}
        assert files.size == sum(path.stat().st_size for path in there)
    assert len(found) == 2 * 2 * 2
    assert {kind for files in found.values() for kind in files.kinds} == {"csv", "parquet"}


def test_a_folder_of_the_original_program_has_its_rows_counted(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "reference" / "samples" / "extraction", tmp_path / "old")
    (root,) = [path for path in (tmp_path / "old").iterdir() if is_layer_folder(path)]
    found = contents_of(ExtractionFolder(root))
    for made in found.series:
        files = list((root / "raw_data" / made.index / made.mask).glob("*.csv"))
        assert made.rows == sum(len(pd.read_csv(path)) for path in files) > 0
    assert found.features is None


def test_a_damaged_ledger_and_a_lost_layer_hide_no_rows(series: TimeSeriesCompil, tmp_path: Path) -> None:
    root = tmp_path / series.folder.name
    shutil.copytree(series.folder, root)
    whole = contents_of(ExtractionFolder(root))
    (root / "ledger.sqlite").write_bytes(b"nothing of the kind" * 100)
    shutil.rmtree(root / "shp_files")
    found = contents_of(ExtractionFolder(root))
    assert [(s.index, s.mask, s.rows) for s in found.series] == [(s.index, s.mask, s.rows) for s in whole.series]
    assert any("ledger.sqlite" in note for note in found.notes)
    assert found.features is None
    code, said = show(root)
    assert code == 0
    assert "an unknown number of features" in said


def test_looking_changes_nothing(series: TimeSeriesCompil) -> None:
    before = {path: path.stat().st_mtime_ns for path in series.folder.rglob("*")}
    show(series.folder)
    assert {path: path.stat().st_mtime_ns for path in series.folder.rglob("*")} == before


def test_the_command_shows_all_layers_or_one(series: TimeSeriesCompil, tmp_path: Path) -> None:
    code, said = show(series.folder.parent)
    assert code == 0
    for part in (series.folder.name, "BIGR, NDVI", "none", "2021-10-15", str(len(series.layer))):
        assert part in said
    code, said = show(series.folder)
    assert code == 0
    for part in (
        "Rows",
        "Results",
        "compiled_data/NDVI/none/all_data",
        "1 csv, 1 parquet",
        "done",
        str(series.layer.path),
    ):
        assert part in said
    code, said = show(tmp_path)
    assert (code, "holds no folder of a layer" in said) == (3, True)
    code, said = show(tmp_path / "nowhere")
    assert (code, "is not a folder" in said) == (1, True)
    code, said = show("--library", tmp_path / "nowhere")
    assert code == 1
