"""Results are not replaced by others without being told to: by Python, the command, compilations and jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pytest
from click.testing import CliRunner

from sen2chain import JobExtraction, TimeSeries, TimeSeriesCompil, demo
from sen2chain.cli import main
from sen2chain.errors import EmptyResultError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = replace(
        demo.DEFAULT, size=60, parcels=4, tiles=("32TLP",), overpasses=demo.DEFAULT.overpasses[:2],
        bands=("B03", "B04", "B08", "SCL", "CLDPRB"), reprocessed=(), damaged=(),
    )  # fmt: skip
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


@pytest.fixture
def series(archive: demo.DemoArchive) -> Callable[..., TimeSeries]:
    """Make a time series of NDVI under CM001; keywords change it."""

    def make(vectors: Any = None, **changed: Any) -> TimeSeries:
        options: dict[str, Any] = {
            "indices": ["NDVI"],
            "library": archive.library,
            "multiproc": 1,
            "quiet": True,
            **changed,
        }
        return TimeSeries(archive.layer if vectors is None else vectors, **options)

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cm_version": "CM004"}, ["mask CM001 in the file, CM004-CSH1-CMP1-CHP1-TCI1-ITER5 now"]),
        ({"units": "index"}, ["unit scaled in the file, index now"]),
        ({"pixels": "weighted"}, ["pixel rule center in the file, weighted now"]),
        ({"buffer": -5}, ["buffer none in the file, -5 now"]),
        ({"stats": ["cv", "sum"]}, ["statistics none in the file, cv/sum now"]),
        ({"cover_max": 80, "cover_min": 1}, ["cover_max 100 in the file, 80 now", "cover_min 0 in the file, 1 now"]),
        ({"min_valid": 0.5}, ["min_valid 0.0 in the file, 0.5 now"]),
        ({"prefer": "stored"}, ["prefer none in the file, stored now"]),
        ({"keep_empty": True}, ["keep_empty False in the file, True now"]),
    ],
)  # fmt: skip
def test_a_result_made_otherwise_is_refused_before_any_work(
    series: Callable[..., TimeSeries], tmp_path: Path, changed: dict[str, Any], words: list[str]
) -> None:
    first = series(indices=["NDVI", "BIGR"])
    first.to_csv(tmp_path)
    first.to_parquet(tmp_path)
    before = contents(tmp_path)
    other = series(indices=["BIRNIR", "NDVI"], **changed)
    for write in (other.to_csv, other.to_parquet):
        with pytest.raises(OutputError, match=r"overwrite=True \(--overwrite\)") as caught:
            write(tmp_path)
        assert "parcels_NDVI_None_None." in str(caught.value)
        for word in words:
            assert word in str(caught.value)
    assert contents(tmp_path) == before, "not even the file that is not in the way is written"
    assert "not run" in repr(other), "said before any work"
    other.to_csv(tmp_path, overwrite=True)
    assert contents(tmp_path) != before


def test_a_formula_a_mask_among_several_and_a_report(series: Callable[..., TimeSeries], tmp_path: Path) -> None:
    series(indices=["MINE=B08-B04"]).to_csv(tmp_path)
    with pytest.raises(OutputError, match=r"formula of MINE .* in the file, B08\+B04 now"):
        series(indices=["MINE=B08+B04"]).to_csv(tmp_path)
    report = tmp_path / "report.csv"
    series(masks=["CM001", "CM004"]).report_to_csv(report)
    for other in (series(), series(indices=["NDVI", "BIGR"], masks=["CM001", "CM004"])):
        with pytest.raises(OutputError, match="is another result"):
            other.report_to_csv(report)
        other.report_to_csv(report, overwrite=True)
    with pytest.raises(OutputError, match=r"mask CM001/CM004-.*-ITER5 in the file, CM001/CM004-.*-ITER1 now"):
        series(indices=["NDVI", "BIGR"], masks=["CM001", CM004]).report_to_csv(report)


def test_the_same_again_and_other_dates_of_a_report_replace_it_with_a_line(
    series: Callable[..., TimeSeries], tmp_path: Path
) -> None:
    series().to_csv(tmp_path)
    again = series(indices=["NDVI", "BIGR"])
    again.to_csv(tmp_path)
    assert [note for note in again.notes if "replaced" in note] == [
        f"{tmp_path / 'parcels' / 'parcels_NDVI_None_None.csv'} of an earlier run is replaced."
    ]
    series(indices=["NDVI", "BIGR"], date_max="2021-10-20").report_to_csv(tmp_path / "report.csv")
    again.report_to_csv(tmp_path / "report.csv")


def test_a_layer_is_the_same_by_its_place_or_its_content(
    series: Callable[..., TimeSeries], archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = gpd.read_file(archive.layer)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    place, out = tmp_path / "a" / "fields.gpkg", tmp_path / "out"
    frame.to_file(place)
    series(place).to_csv(out)
    frame.iloc[:3].to_file(place)  # newer content at the same place
    series(place).to_csv(out)
    frame.iloc[:3].to_file(tmp_path / "b" / "fields.shp")  # the same content elsewhere, in another format
    series(tmp_path / "b" / "fields.shp").to_csv(out)
    frame.iloc[1:].to_file(tmp_path / "b" / "fields.shp")
    series(tmp_path / "b" / "fields.shp").to_csv(out)
    with pytest.raises(OutputError, match=r"layer .*fields.shp \(fields\) in the file, .*fields.gpkg \(fields\) now"):
        series(place).to_csv(out)
    # A relative path is another one in another folder.
    monkeypatch.chdir(tmp_path / "b")
    series("fields.shp").to_csv(out)
    monkeypatch.chdir(tmp_path / "a")
    frame.iloc[2:].to_file("fields.shp")
    with pytest.raises(OutputError, match="is another result: layer"):
        series("fields.shp").to_csv(out)


def test_layers_of_one_file_are_told_apart_whatever_they_are_called(
    series: Callable[..., TimeSeries], archive: demo.DemoArchive, tmp_path: Path
) -> None:
    frame, place = gpd.read_file(archive.layer), tmp_path / "two.gpkg"
    frame.to_file(place, layer="north")
    frame.iloc[:2].to_file(place, layer="south")
    series(place, layer="north", name="mine").to_csv(tmp_path)
    series(place, layer="north", name="mine").to_csv(tmp_path)
    with pytest.raises(OutputError, match=r"two\.gpkg \(two-north\) in the file, .*two\.gpkg \(two-south\) now"):
        series(place, layer="south", name="mine").to_csv(tmp_path)


def test_frames_without_a_name_are_the_same_by_their_content(
    series: Callable[..., TimeSeries], archive: demo.DemoArchive, tmp_path: Path
) -> None:
    frame = gpd.read_file(archive.layer)
    series(frame).to_csv(tmp_path)
    series(frame.copy()).to_csv(tmp_path)
    with pytest.raises(OutputError, match=r"layer a GeoDataFrame of 4 features in the file, .* of 2 features now"):
        series(frame.iloc[:2]).to_csv(tmp_path)
    series(frame, name="fields").to_csv(tmp_path)
    series(frame.iloc[:2], name="fields").to_csv(tmp_path)  # who gives a name says which layer it is


def test_jsons_of_the_former_version_are_compared_as_far_as_they_go(
    series: Callable[..., TimeSeries], archive: demo.DemoArchive, tmp_path: Path
) -> None:
    (path,) = series().to_csv(tmp_path)
    note = json.loads(path.with_suffix(".json").read_text())
    note["layer"] = {"path": f"../{archive.layer.parent.name}/parcels.gpkg", "sha256": "0" * 64}
    del note["parameters"]["units"], note["parameters"]["buffer"]
    path.with_suffix(".json").write_text(json.dumps(note))
    series(units="index", buffer=1).check_results(tmp_path)
    with pytest.raises(OutputError, match="mask CM001 in the file"):
        series(cm_version="OCM").check_results(tmp_path)
    note["layer"]["path"] = "fields/parcels.gpkg"
    path.with_suffix(".json").write_text(json.dumps(note))
    with pytest.raises(OutputError, match=r"layer fields/parcels\.gpkg in the file"):
        series().check_results(tmp_path)


@pytest.mark.parametrize("damaged", [None, "", "{", "{}"])
def test_without_a_json_equal_columns_are_replaced_and_others_refused(
    series: Callable[..., TimeSeries], tmp_path: Path, damaged: str | None
) -> None:
    (path,) = series().to_csv(tmp_path)
    if damaged is None:
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text(damaged)
    again = series()
    again.to_csv(tmp_path)
    assert f"{path} has no JSON that says how it was made, and is replaced." in again.notes
    path.with_suffix(".json").unlink()
    path.write_text("date,fid\n2021-01-01,1\n")
    with pytest.raises(OutputError, match="has other columns, and no JSON says how it was made"):
        series().to_csv(tmp_path)
    assert path.read_text() == "date,fid\n2021-01-01,1\n"


def test_a_report_and_a_result_do_not_replace_each_other(series: Callable[..., TimeSeries], tmp_path: Path) -> None:
    first = series()
    with pytest.raises(OutputError, match="is where a result goes"):
        first.check_results(tmp_path, report=tmp_path / "parcels" / "parcels_NDVI_None_None.txt")
    (file,) = first.to_csv(tmp_path)
    before = file.read_bytes()
    with pytest.raises(OutputError, match="of another kind, with the first column 'date' in the place of 'index'"):
        first.report_to_csv(file)
    assert file.read_bytes() == before
    first.report_to_csv(file, overwrite=True)
    with pytest.raises(OutputError, match="of another kind"):
        first.to_csv(tmp_path)
    other = tmp_path / "report.csv"
    first.report_to_csv(other)
    other.write_text("mine,own\n1,2\n")
    with pytest.raises(OutputError, match="with the first column 'mine'"):
        first.report_to_csv(other)


def test_a_parquet_file_says_itself_how_it_was_made(series: Callable[..., TimeSeries], tmp_path: Path) -> None:
    (path,) = series().to_parquet(tmp_path)
    path.with_suffix(".json").unlink()
    series().to_parquet(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(OutputError, match="unit scaled in the file"):
        series(units="index").to_parquet(tmp_path)
    with pytest.raises(OutputError, match=r"would share its JSON with parcels_NDVI_None_None.parquet, which is"):
        series(units="index").to_csv(tmp_path)


def test_a_json_that_is_something_else_is_not_replaced(series: Callable[..., TimeSeries], tmp_path: Path) -> None:
    mine = tmp_path / "fields.json"
    mine.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(OutputError, match=r"its JSON in fields.json, which is there and is not one of sen2chain"):
        series().report_to_csv(tmp_path / "fields.csv")
    assert mine.read_text().startswith('{"type"')
    assert not (tmp_path / "fields.csv").exists()


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """Make an archive without products."""
    folder = tmp_path / "nothing"
    (folder / "L2A" / "32TLP").mkdir(parents=True)
    return folder


def test_rows_are_not_replaced_by_a_header(series: Callable[..., TimeSeries], nothing: Path, tmp_path: Path) -> None:
    (kept,) = series().to_csv(tmp_path / "out")
    series().report_to_csv(tmp_path / "report.csv")
    before = contents(tmp_path)
    empty = series(indices=["NDVI", "BIGR"], library=nothing)
    with pytest.raises(EmptyResultError, match="has rows and is kept, since this run gave none") as caught:
        empty.to_csv(tmp_path / "out")
    assert [path.name for path in caught.value.files] == ["parcels_BIGR_None_None.csv"], "the rest is written"
    with pytest.raises(EmptyResultError, match="report has none"):
        series(library=nothing).report_to_csv(tmp_path / "report.csv")
    assert {name: content for name, content in contents(tmp_path).items() if name in before} == before
    empty.to_csv(tmp_path / "out", overwrite=True)
    assert len(kept.read_text().splitlines()) == 1
    empty.to_csv(tmp_path / "out")  # a header replaces a header


# --- the command


@pytest.fixture
def extract(archive: demo.DemoArchive, tmp_path: Path) -> Callable[..., Result]:
    def run(*words: str, library: Path | None = None) -> Result:
        given = ["extract", str(archive.layer), "--library", str(library or archive.library), "--index", "NDVI"]
        return CliRunner().invoke(main, [*given, "--workers", "1", "--out", str(tmp_path / "out"), *words])

    return run


def test_the_command_refuses_and_overwrites(extract: Callable[..., Result], tmp_path: Path) -> None:
    report = str(tmp_path / "report.csv")
    assert extract("--mask", "CM001", "--report", report).exit_code == 0
    before = contents(tmp_path)
    for words in (["--mask", "OCM"], ["--mask", "CM001", "--units", "index", "--format", "parquet"]):
        done = extract(*words, "-q")
        assert done.exit_code == 1
        assert done.output.startswith("sen2chain: ")
        assert "--overwrite" in done.output
    assert extract("--mask", "CM001", "--index", "BIGR", "--report", report).exit_code == 1, "the report is of NDVI"
    assert contents(tmp_path) == before
    again = extract("--mask", "CM001")
    assert again.exit_code == 0
    assert again.output.count("of an earlier run is replaced.") == 1
    assert extract("--mask", "CM001", "--units", "index", "--overwrite", "-q").exit_code == 0
    assert contents(tmp_path) != before


def test_the_command_keeps_rows_and_says_why_there_are_none(
    extract: Callable[..., Result], nothing: Path, tmp_path: Path
) -> None:
    extract("--mask", "CM001")
    before = contents(tmp_path / "out")
    done = extract("--mask", "CM001", "-q", library=nothing)
    assert done.exit_code == 3
    assert "holds no usable product" in done.output
    assert "has rows and is kept" in done.output
    assert contents(tmp_path / "out") == before


# --- compilations and jobs


def test_a_compiled_file_of_another_formula_is_neither_replaced_nor_removed(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    def compil(formula: str) -> TimeSeriesCompil:
        return TimeSeriesCompil(
            archive.layer, [f"MINE={formula}"], library=archive.library, extraction=tmp_path, quiet=True, multiproc=1
        )

    first = compil("B08-B04")
    first.extract_data()
    first.compile_data(alldata=True, monthly=True, aggregate="mean")
    compiled = first.folder / "compiled_data"
    before = contents(compiled)
    other = compil("B08+B04")
    with pytest.raises(OutputError, match=r"formula of MINE B08-B04 in the file, B08\+B04 now"):
        other.compile_data(alldata=True, monthly=True, aggregate="mean")  # no row of it: files would be removed
    other.extract_data()
    with pytest.raises(OutputError, match=r"formula of MINE B08-B04 in the file, B08\+B04 now"):
        other.compile_data(alldata=True)
    assert contents(compiled) == before
    assert other.compile_data(alldata=True, overwrite=True).files


def test_a_compiled_file_without_a_json_is_replaced_with_a_remark_and_new_rows_without(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"library": archive.library, "extraction": tmp_path, "quiet": True, "multiproc": 1}
    series = TimeSeriesCompil(archive.layer, ["NDVI"], date_max="2021-10-20", **asked)
    series.extract_data()
    (path,) = series.compile_data(alldata=True).files
    more = TimeSeriesCompil(archive.layer, ["NDVI"], **asked)
    more.extract_data()
    done = more.compile_data(alldata=True)
    assert (len(done.files), done.remarks) == (1, [])
    path.with_suffix(".json").unlink()
    done = more.compile_data(alldata=True)
    assert done.remarks == [f"{path} has no JSON that says how it was made, and is replaced."]


def test_a_job_says_what_is_in_the_way(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(archive.library.parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    job = JobExtraction("fields")
    job.task_add(shapefile=archive.layer, indices="MINE=B08-B04", cloudmasks=CM004, compiled_data="all_data")
    job.task_remove(0)
    job.save()
    job = JobExtraction("fields")
    assert job.run(quiet=True).status == "done"
    job.task_edit(0, indices="MINE=B08+B04")
    job.save()
    record = job.run(quiet=True)
    assert record.status == "partly"
    assert "formula of MINE" in record.lines[0].errors[0]["message"]
    (table,) = archive.library.rglob("*_MINE_all_data.csv")
    assert "B08-B04" in table.with_suffix(".json").read_text()


# ------------------------------------------------------------------- workbooks, pages and GeoPackages share one JSON

WHOLE: dict[str, Callable[..., object]] = {
    "xlsx": lambda made, folder, **options: made.to_excel(folder, **options),
    "html": lambda made, folder, **options: made.to_html(folder, **options),
    "gpkg": lambda made, folder, **options: made.to_geopackage(folder, **options),
}


@pytest.mark.parametrize("there", WHOLE)
@pytest.mark.parametrize("now", WHOLE)
def test_a_file_protects_itself_and_those_that_share_its_json(
    series: Callable[..., TimeSeries], tmp_path: Path, there: str, now: str
) -> None:
    WHOLE[there](series(), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="mask CM001 in the file"):
        WHOLE[now](series(cm_version="CM004"), tmp_path)
    assert contents(tmp_path) == before
    WHOLE[now](series(), tmp_path)
    again = series()
    WHOLE[there](again, tmp_path)
    assert any("of an earlier run is replaced" in note for note in again.notes)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_of_the_user_is_not_replaced_whatever_a_json_says(
    series: Callable[..., TimeSeries], tmp_path: Path, kind: str
) -> None:
    other = "html" if kind != "html" else "xlsx"
    WHOLE[other](series(), tmp_path)
    own = tmp_path / "parcels" / f"parcels_None_None.{kind}"
    own.write_text("MY OWN FILE", encoding="utf-8")
    with pytest.raises(OutputError, match=r"not one of sen2chain|of another kind|has other columns"):
        WHOLE[kind](series(), tmp_path)
    assert own.read_text(encoding="utf-8") == "MY OWN FILE"
    WHOLE[kind](series(), tmp_path, overwrite=True)
    assert own.read_bytes() != b"MY OWN FILE"


@pytest.mark.parametrize("text", ["[]", "3", "my notes", ""])
def test_a_json_of_the_user_is_not_replaced(series: Callable[..., TimeSeries], tmp_path: Path, text: str) -> None:
    (tmp_path / "parcels").mkdir()
    own = tmp_path / "parcels" / "parcels_None_None.json"
    own.write_text(text, encoding="utf-8")
    for write in WHOLE.values():
        with pytest.raises(OutputError, match=r"would have its JSON in parcels_None_None\.json"):
            write(series(), tmp_path)
    assert own.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("dialect", ["plain", "excel", "excel-semicolon"])
def test_a_wide_table_does_not_replace_a_table_of_another_kind(
    series: Callable[..., TimeSeries], tmp_path: Path, dialect: str
) -> None:
    (file,) = series().to_wide_csv(tmp_path, dialect=dialect)
    assert series().to_wide_csv(tmp_path, dialect=dialect) == [file]
    file.with_suffix(".json").unlink()
    file.write_text("my,own\n1,2\n", encoding="utf-8")
    with pytest.raises(OutputError, match="of another kind, with the first column 'my'"):
        series().to_wide_csv(tmp_path, dialect=dialect)


def test_a_folder_in_the_place_of_a_result_changes_no_json(series: Callable[..., TimeSeries], tmp_path: Path) -> None:
    (tmp_path / "parcels" / "parcels_None_None.html").mkdir(parents=True)
    with pytest.raises(OutputError, match="Is a directory"):
        series().to_html(tmp_path)
    assert contents(tmp_path) == {}
