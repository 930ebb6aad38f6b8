"""The commands `update` and `compile`: what they write, what they say, and how they leave."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sen2chain import demo
from sen2chain.cli import main
from sen2chain.errors import LayerError
from sen2chain.periods import AGGREGATES, Week
from sen2chain.smoothing import METHODS
from sen2chain.store import locked
from sen2chain.store.images import RawFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
GOOD = ("--to", "2022-01-31")
"""The first five dates, on two tiles; of the sixth one file is cut off."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(
        size=60, parcels=4, overpasses=demo.season(6), bands=("B04", "B08", "SCL", "CLDPRB"),
        damaged=((5, "32TLP", "B04"),),
    )  # fmt: skip
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


def options(archive: demo.DemoArchive, extraction: Path) -> list[str]:
    return [
        str(archive.layer), "--library", str(archive.library), "--extraction", str(extraction), "--index", "NDVI",
    ]  # fmt: skip


@pytest.fixture
def update(archive: demo.DemoArchive, tmp_path: Path) -> list[str]:
    """An update of one index in a new folder; tests add to it."""
    return ["update", *options(archive, tmp_path / "series"), "--workers", "1"]


@pytest.fixture(scope="module")
def extracted(archive: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted")
    assert run("update", *options(archive, folder), *GOOD, "--quiet").exit_code == 0
    return folder


@pytest.fixture
def compilation(archive: demo.DemoArchive, extracted: Path, tmp_path: Path) -> list[str]:
    """A compilation of a folder that holds ten images; tests add to it."""
    shutil.copytree(extracted, tmp_path / "series")
    return ["compile", *options(archive, tmp_path / "series")]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="sen2chain")


def folder_in(tmp_path: Path) -> Path:
    """Give the layer's folder."""
    [folder] = (tmp_path / "series").glob("parcels_*")
    return folder


def raw(tmp_path: Path) -> dict[str, int]:
    """Give the files of rows with their times of change."""
    return {path.name: path.stat().st_mtime_ns for path in (folder_in(tmp_path) / "raw_data").rglob("*_NDVI*")}


def compiled(tmp_path: Path, kind: str) -> list[str]:
    found = (folder_in(tmp_path) / "compiled_data" / "NDVI" / MASK / kind).iterdir()
    return sorted(path.name for path in found if path.suffix != ".json")


def lines(result: Result) -> list[str]:
    return [line for line in result.output.splitlines() if line.strip()]


def assert_fails(result: Result, part: str, code: int, *, alone: bool = True) -> None:
    """Make sure that a command left with one sentence."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    [last] = [line for line in lines(result) if line.startswith("sen2chain: ")]
    assert part in last, last
    assert not alone or len(lines(result)) == 1, "one sentence, nothing else"


# --- update


def test_the_first_run_extracts_and_the_second_finds_nothing_new(update: list[str], tmp_path: Path) -> None:
    first = run(*update, *GOOD)
    assert first.exit_code == 0, first.output
    made = raw(tmp_path)
    assert len(made) == 10
    assert {name.rpartition(".")[2] for name in made} == {"parquet"}
    for text in ("10 images extracted from 10 acquisitions", "Summary", "NDVI", MASK):
        assert text in first.output, text
    assert lines(first)[-1] == str(folder_in(tmp_path))
    second = run(*update, *GOOD)
    assert second.exit_code == 0, second.output
    assert lines(second) == ["Nothing new: 10 images are there already.", str(folder_in(tmp_path))]
    assert raw(tmp_path) == made
    assert "Summary" in run(*update, *GOOD, "--verbose").output


def test_only_the_product_that_has_come_is_extracted(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(archive.library, library)
    late = next(library.rglob("*_20211204T*_T31TGJ_*.SAFE"))
    aside = shutil.move(late, tmp_path / "aside")
    words = ["update", *options(archive, tmp_path / "series"), *GOOD, "--library", str(library)]
    assert run(*words).exit_code == 0
    before = raw(tmp_path)
    assert len(before) == 9
    shutil.move(aside, late)
    look = run(*words, "--dry-run")
    assert look.exit_code == 0, look.output
    assert "1 image of 1 acquisition to be extracted" in look.output
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "1 image extracted from 1 acquisition" in result.output
    after = raw(tmp_path)
    [new] = after.keys() - before.keys()
    assert "20211204" in new
    assert {name: after[name] for name in before} == before, "what was there has not been touched"


def test_a_dry_run_extracts_nothing(update: list[str], tmp_path: Path) -> None:
    result = run(*update, *GOOD, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "10 images of 10 acquisitions to be extracted" in result.output
    assert "Summary" not in result.output
    assert not (tmp_path / "series").exists()
    assert run(*update, *GOOD, "--dry-run", "--quiet").output == ""
    nothing = run(*update, "--from", "2030-01-01", "--dry-run")
    assert_fails(nothing, "no product of", 3, alone=False)


def test_force_extracts_everything_again(update: list[str], tmp_path: Path) -> None:
    assert run(*update, *GOOD, "--to", "2021-11-30").exit_code == 0
    made = raw(tmp_path)
    result = run(*update, *GOOD, "--to", "2021-11-30", "--force")
    assert result.exit_code == 0, result.output
    assert "4 images extracted" in result.output
    assert all(made[name] < changed for name, changed in raw(tmp_path).items())


def test_rows_of_the_original_program_are_kept_unless_they_are_to_be_redone(update: list[str], tmp_path: Path) -> None:
    assert run(*update, *GOOD, "--raw-format", "csv").exit_code == 0
    made = raw(tmp_path)
    assert {name.rpartition(".")[2] for name in made} == {"csv"}
    (folder_in(tmp_path) / "ledger.sqlite").unlink()  # the original program keeps no book
    kept = run(*update, *GOOD)
    assert kept.exit_code == 0, kept.output
    assert "Nothing new: 10 images" in kept.output
    redone = run(*update, *GOOD, "--redo-old")
    assert "10 images extracted" in redone.output
    assert len(raw(tmp_path)) == 10


def test_options_reach_the_update(update: list[str], tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.csv"
    result = run(
        *update, *GOOD, "--mask", "CM001", "--mask", "CM004", "--no-thin-cir", "--iterations", "2", "--pixels",
        "weighted", "--stat", "percentile_10", "--buffer", "-10", "--cover-max", "90", "--prefer",
        "stored", "--executor", "serial", "--report", str(report), "--wait", "5", "--index", "S=B08-B04",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    folder = folder_in(tmp_path)
    assert re.fullmatch(r"parcels_[0-9a-f]{16}_weighted_buffer-10_stats-[0-9a-f]{8}", folder.name)
    assert {path.name for path in (folder / "raw_data").iterdir()} == {"NDVI", "S"}
    assert {path.name for path in (folder / "raw_data" / "S").iterdir()} == {"CM001", "CM004-CSH1-CMP1-CHP1-TCI0-ITER2"}
    table = pd.read_csv(report)
    assert len(table) == 40
    assert table["rows"].sum() > 0
    origin = json.loads(report.with_suffix(".json").read_text())
    assert (origin["parameters"]["pixels"], origin["parameters"]["cover_max"]) == ("weighted", 90)
    assert "sen2chain_data" in origin["archive"]
    # The same options find the folder again.
    tables = run(
        "compile", *update[1:-2], "--mask", "CM001", "--pixels", "weighted", "--stat", "percentile_10", "--buffer",
        "-10", "--yearly",
    )  # fmt: skip
    assert tables.exit_code == 0, tables.output
    assert {"percentile_10"} <= set(pd.read_csv(lines(tables)[-1]).columns)


def test_exit_3_when_there_is_no_row_at_all(update: list[str], tmp_path: Path) -> None:
    assert_fails(
        run(*update, "--from", "2030-01-01", "--quiet"),
        "There are no rows of the products asked for. The archive has no product of",
        3,
    )
    result = run(*update, *GOOD, "--mask", "OCM")
    assert_fails(result, "No OCM raster is stored", 3, alone=False)
    assert lines(result)[-2 if lines(result)[-1].startswith("sen2chain") else -1] == str(folder_in(tmp_path))


def test_exit_4_when_a_file_is_damaged_as_long_as_it_is(update: list[str], tmp_path: Path) -> None:
    for sentence in ("11 images extracted", "Nothing new: 11 images are there already, 1 failed."):
        result = run(*update)
        assert result.exit_code == 4
        assert sentence in result.output
        assert "T32TLP_20220217T103021_B04_10m.jp2 cannot be read" in result.output
    assert len(raw(tmp_path)) == 11
    quiet = run(*update, "--quiet")
    assert_fails(quiet, "A part could not be extracted. ", 4)  # the mail of cron says why
    assert "B04_10m.jp2 cannot be read" in quiet.output


def test_a_quiet_month_is_no_failure_and_an_archive_without_products_is(update: list[str], tmp_path: Path) -> None:
    assert run(*update, *GOOD).exit_code == 0
    later = run(*update, "--from", "2030-01-01")
    assert later.exit_code == 0, later.output
    assert "The archive has no product of" in later.output
    (tmp_path / "unmounted" / "L2A").mkdir(parents=True)
    assert_fails(run(*update, "--library", str(tmp_path / "unmounted")), "holds no usable product", 3, alone=False)


def test_ctrl_c_is_one_sentence(update: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sen2chain.timeseries.folder_update.write_image", interrupted)
    assert_fails(run(*update, *GOOD), "Interrupted. Files that are there are complete", 130)


def test_exit_4_when_one_mask_gave_nothing_says_why_each_time(update: list[str]) -> None:
    for _ in range(2):
        result = run(*update, *GOOD, "--mask", "CM004", "--mask", "OCM")
        assert result.exit_code == 4
        assert "No OCM raster is stored" in result.output


def test_a_bare_cm003_stays_what_the_folder_has(update: list[str], tmp_path: Path) -> None:
    new, former = "CM003-PRB1-ITER5", "CM003-PRB1-ITER1"
    one = (*update, "--to", "2021-10-31")
    first = run(*one, "--mask", "CM003")
    assert f"CM003 is {new}; in former versions of this command it was {former} (--iterations 1)." in lines(first)
    assert "former versions" not in run(*one, "--mask", "CM003", "--iterations", "5").output
    assert {path.name for path in (folder_in(tmp_path) / "raw_data" / "NDVI").iterdir()} == {new}
    shutil.rmtree(tmp_path / "series")
    assert run(*one, "--mask", former, "-q").exit_code == 0
    again = run(*one, "--mask", "cm003")
    stays = f"cm003 is {former} here, since the folder has rows of it; write {new} for that mask."
    assert stays in lines(again)
    assert {path.name for path in (folder_in(tmp_path) / "raw_data" / "NDVI").iterdir()} == {former}
    assert stays in run("compile", *one[1:-4], "--mask", "cm003", "--all").output
    assert compiled_under(tmp_path, former)


def compiled_under(tmp_path: Path, mask: str) -> list[Path]:
    return list((folder_in(tmp_path) / "compiled_data" / "NDVI" / mask).rglob("*.csv"))


def test_a_quiet_run_names_the_cause_and_not_a_note(archive: demo.DemoArchive, tmp_path: Path) -> None:
    """Without the cloud probability each product has a note, which comes before the damaged file."""
    library = tmp_path / "library"
    shutil.copytree(archive.library, library)
    for raster in library.rglob("MSK_CLDPRB_20m.jp2"):
        raster.unlink()
    update = ["update", str(archive.layer), "--library", str(library), "--index", "NDVI", "--workers", "1"]
    extract = ["extract", *update[1:], "--mask", "CM004", "--out", str(tmp_path / "out")]
    for words in (update, extract):
        quiet = run(*words, "-q")
        assert_fails(quiet, "A part could not be extracted. 1 product could not be used: ", 4)
        assert "B04_10m.jp2 cannot be read" in quiet.output
        assert "cldprb" not in quiet.output
        full = run(*words)
        assert [line for line in lines(full) if "cldprb" in line] == [
            "! cldprb is empty for 11 products: the archive lacks MSK_CLDPRB_20m."
        ]


# --- compile


def test_compile_writes_files_and_only_those_that_would_differ(compilation: list[str], tmp_path: Path) -> None:
    words = [*compilation, "--all", "--yearly", "--monthly", "--from", "2021-11-01", "--to", "2021-12-31"]
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert lines(first)[0] == "8 files written, 0 unchanged."
    assert [path.rpartition("/")[2] for path in lines(first)[1:]] == [
        "parcels_CC100_NDVI_all_data.csv",
        *(f"parcels_CC100_NDVI_yearly_{year}.csv" for year in (2021, 2022)),
        *(f"parcels_CC100_NDVI_monthly_{month}.csv" for month in ("2021-10", "2021-11", "2021-12", "2022-01")),
        "parcels_CC100_NDVI_2021-11-09_2021-12-29.csv",
    ]
    assert compiled(tmp_path, "custom") == ["parcels_CC100_NDVI_2021-11-09_2021-12-29.csv"]
    second = run(*words)
    assert (second.exit_code, lines(second)) == (0, ["0 files written, 8 unchanged."])


def test_compile_writes_maps_of_all_rows(compilation: list[str], tmp_path: Path) -> None:
    words = [*compilation, "--all", "--format", "gpkg", "--format", "geoparquet"]
    every = [word for word in words if word not in {"--index", "NDVI"}]
    for asked in (words, every):  # the indices that were not extracted get neither a layer nor a file
        done = run(*asked)
        assert done.exit_code == 0, done.output
        package, parquet = map(Path, lines(done)[1:])
        assert package == folder_in(tmp_path) / "parcels_None_None.gpkg"
        assert parquet.name == "parcels_NDVI_None_None_geo.parquet"
        assert compiled(tmp_path, "all_data") == [parquet.name]
        assert [path.name for path in (folder_in(tmp_path) / "compiled_data").iterdir()] == ["NDVI"]
        with contextlib.closing(sqlite3.connect(package)) as base:
            rows = base.execute("SELECT count(*) FROM NDVI").fetchone()[0]
            layers = base.execute("SELECT count(*) FROM gpkg_geometry_columns").fetchone()[0]
        assert (rows, layers) == (pq.read_metadata(parquet).num_rows, 3)
        package.unlink()
        parquet.unlink()
    assert "parcels_CC100_NDVI_all_data.csv" in run(*words, "--format", "csv").output
    for more, sentence in (
        (["--monthly"], "has the rows of all dates; add --all"),
        (["--all", "--monthly"], "add --format csv for the other files"),
    ):
        refused = run(*compilation, *more, "--format", "gpkg")
        assert refused.exit_code == 2
        assert sentence in refused.output


def test_compile_needs_no_archive(compilation: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "none"))
    at = compilation.index("--library")
    result = run(*compilation[:at], *compilation[at + 2 :], "--all")
    assert result.exit_code == 0, result.output
    assert compiled(tmp_path, "all_data") == ["parcels_CC100_NDVI_all_data.csv"]


def test_many_files_are_listed_only_when_asked_for(
    compilation: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen2chain.cli.compile._MANY", 4)
    brief = run(*compilation, "--daily", "--week", "iso", "--weekly")
    assert lines(brief)[1:] == [str(folder_in(tmp_path) / "compiled_data")]
    shutil.rmtree(folder_in(tmp_path) / "compiled_data")
    assert len(lines(run(*compilation, "--daily", "--week", "iso", "--weekly", "--verbose"))) == 11
    assert compiled(tmp_path, "weekly")[0] == "parcels_CC100_NDVI_weekly_2021-W41.csv"


def test_options_reach_the_compilation(compilation: list[str], tmp_path: Path) -> None:
    result = run(
        *compilation, "--all", "--monthly", "--aggregate", "median", "--aggregate", "count", "--format", "csv",
        "--format", "parquet", "--cover-max", "50", "--smooth", "whittaker", "--covermax", "100", "--window-length",
        "3", "--polyorder", "1", "--wait", "5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    stem = "parcels_CC50_NDVI_all_data"
    assert {f"{stem}.csv", f"{stem}.parquet", f"{stem}_whittaker_smooth.csv"} <= set(compiled(tmp_path, "all_data"))
    folder = folder_in(tmp_path) / "compiled_data" / "NDVI" / MASK
    table = pd.read_csv(folder / "monthly" / "parcels_CC50_NDVI_monthly_median-count.csv")
    assert list(table.columns)[:4] == ["period", "fid", "dates", "median"]
    assert "2021-12" in set(table["period"])
    rows = pd.read_parquet(folder / "all_data" / f"{stem}.parquet")
    assert pd.Timestamp("2021-12-29").date() not in set(rows["date"].dt.date), "60 % cloud"
    smooth = json.loads((folder / "all_data" / f"{stem}_whittaker_smooth.json").read_text())["smoothing"]
    assert (smooth["covermax"], smooth["window_length"], smooth["polyorder"]) == (100, 3, 1)


def test_smoothing_without_a_method_and_the_originals_way(compilation: list[str], tmp_path: Path) -> None:
    words = [*compilation, "--all", "--window-length", "3", "--polyorder", "1", "--covermax", "100"]
    result = run(*words, "--smooth")
    assert result.exit_code == 0, result.output
    file = folder_in(tmp_path) / "compiled_data" / "NDVI" / MASK / "all_data" / "parcels_CC100_NDVI_all_data_smooth.csv"
    ours = file.read_bytes()
    assert_fails(run(*words, "--smooth", "original"), "was smoothed our way", 2)
    assert file.read_bytes() == ours
    assert run(*words, "--smooth=original", "--season-mean", "--reset-smoothing").exit_code == 0
    assert file.read_bytes().startswith(b",")
    assert_fails(run(*compilation, "--all", "--smooth", "--reset-smoothing"), "fewer observations than", 2)


def test_exit_3_when_there_are_no_rows_to_compile(compilation: list[str], update: list[str], tmp_path: Path) -> None:
    assert_fails(
        run(*compilation, "--all", "--mask", "CM001", "--quiet"),
        "Nothing was compiled. There are no rows of NDVI under CM001", 3,
    )  # fmt: skip
    assert_fails(run(*compilation, "--from", "2030-01-01", "--quiet"), "check datemin and datemax", 3)
    assert_fails(run(*compilation, "--all", "--pixels", "weighted"), "run sen2chain update first", 3)
    shutil.rmtree(tmp_path / "series")
    assert_fails(run("compile", *update[1:-2], "--all"), "run sen2chain update first", 3)
    assert not (tmp_path / "series").exists(), "looking leaves nothing behind"


def test_exit_4_when_an_index_or_a_mask_has_no_rows(compilation: list[str]) -> None:
    for words in (["--index", "NBR"], ["--mask", "CM001", "--mask", "CM004"]):
        result = run(*compilation, "--all", *words)
        assert result.exit_code == 4
        assert "There are no rows of" in lines(result)[0]
    quiet = run(*compilation, "--all", *words, "-q")
    assert_fails(quiet, "A part could not be compiled. There are no rows of NDVI under CM001", 4)


# --- both


def test_quiet_prints_nothing(update: list[str], tmp_path: Path) -> None:
    for words in ([*update, *GOOD], ["compile", *update[1:-2], "--all"]):
        result = run(*words, "--quiet")
        assert (result.exit_code, result.output) == (0, ""), result.output
    assert compiled(tmp_path, "all_data") == ["parcels_CC100_NDVI_all_data.csv"]


def test_a_folder_that_another_run_holds(compilation: list[str], archive: demo.DemoArchive, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    with locked(folder):
        for words in ([*compilation, "--all"], ["update", *options(archive, folder.parent)]):
            result = run(*words, "--wait", "0")
            assert_fails(result, f"{folder} is held by process {os.getpid()} on ", 1)
    assert run(*compilation, "--all", "--wait", "0").exit_code == 0


def test_exit_1_for_what_cannot_be_used(update: list[str], compilation: list[str], tmp_path: Path) -> None:
    nowhere, file = str(tmp_path / "nowhere"), tmp_path / "file"
    file.write_text("")
    for command in (update, [*compilation, "--all"]):
        layer = [command[0], nowhere + ".gpkg", *command[2:]]
        assert_fails(run(*layer), "does not exist", 1)
        assert isinstance(run(*layer, "--debug").exception, LayerError)
        assert_fails(run(*command, "--layer", "fields"), "fields", 1)
    assert_fails(run(*update, "--library", nowhere), "is not a folder", 1)
    assert_fails(run("update", update[1], "--safe", nowhere), "neither a folder nor a zip", 1)
    assert_fails(run("compile", update[1], "--library", nowhere, "--all"), "is not a folder", 1)
    assert_fails(run(*update, "--extraction", str(file / "series")), "Cannot write", 1)
    assert_fails(run(*update, "--report", str(file / "report.csv")), "Cannot write", 1)
    assert_fails(run(*update, "--report", str(tmp_path)), "is a folder", 1)


def test_exit_2_for_options_that_cannot_be_used(update: list[str], compilation: list[str]) -> None:
    cases = [
        ([*update, "--index", "NDXX"], "Unknown index 'NDXX'; allowed: NDVI, "),
        ([*update, "--mask", "CM005"], "Unknown cloud mask 'CM005'"),
        ([*update, "--from", "2022-02-30"], "allowed: a date as YYYY-MM-DD"),
        ([*update, "--workers", "-2"], "--workers is -2"),
        (compilation, "Nothing is to be compiled; add --all, "),
        ([*compilation, "--monthly", "--smooth"], "add --all, --from or --to"),
        ([*compilation, "--all", "--covermax", "50"], "--covermax belongs to --smooth"),
        ([*compilation, "--all", "--covermax", "50"], "--cover-max is the cloud cover of products"),
        ([*compilation, "--all", "--reset-smoothing"], "--reset-smoothing belongs to --smooth"),
        ([*compilation, "--all", "--week", "iso"], "--week belongs to --weekly"),
        ([*compilation, "--all", "--smooth", "--season-mean"], "season_mean belongs to"),
        ([*compilation, "--all", "--smooth", "--window-length", "4"], "--window-length is 4"),
        ([*compilation, "--all", "--aggregate", "mode"], "Unknown aggregate 'mode'; allowed: mean, "),
        ([*compilation, "--from", "2022-02-01", "--to", "2022-01-01"], "is after"),
        ([*compilation, "--from", "yesterday"], "allowed: a date as YYYY-MM-DD"),
        ([*compilation, "--all", "--index", "NDXX"], "Unknown index 'NDXX'"),
    ]
    for words, part in cases:
        assert_fails(run(*words), part, 2)


def test_exit_2_for_a_wrong_command_line(update: list[str], compilation: list[str]) -> None:
    for words in (
        ["update"], ["compile"], [*update, "--all"], [*update, "--wait", "-1"], [*update, "--raw-format", "xlsx"],
        [*compilation, "--all", "--smooth", "spline"], [*compilation, "--week", "monday"], [*compilation, "--force"],
        ["compile", "--smooth", "parcels.gpkg", "--all"],
    ):  # fmt: skip
        result = run(*words)
        assert result.exit_code == 2, words
        assert "Error: " in result.output


def test_nothing_is_said_twice_on_a_terminal(update: list[str]) -> None:
    reader, terminal = os.openpty()
    try:
        subprocess.run(  # noqa: S603  # our own interpreter
            [sys.executable, "-c", "from sen2chain.cli import main; main()", *update, *GOOD],
            stdout=terminal, stderr=terminal, check=True, env={**os.environ, "TERM": "dumb"},
        )  # fmt: skip
        shown = os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)
        os.close(terminal)
    assert shown.count("10 images extracted from") == 1
    assert "Summary" in shown


@pytest.mark.parametrize("name", ["update", "compile"])
def test_help_is_quick_loads_nothing_heavy_and_shows_examples(name: str) -> None:
    code = (
        "import sys\nfrom sen2chain.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([m for m in ('numpy', 'pandas', 'pyarrow', 'scipy', 'rich') if m in sys.modules])"
    )
    process = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code, name, "--help"], capture_output=True, text=True, check=True
    )
    assert process.stdout.endswith("[]\n")
    for part in ("Examples:\n", f"\n    sen2chain {name} parcels.gpkg", "Exit codes: 0 done"):
        assert part in process.stdout, part


def choices(command: str, option: str) -> tuple[str, ...]:
    assert isinstance(main, click.Group)
    [found] = [parameter for parameter in main.commands[command].params if option in parameter.opts]
    assert isinstance(found, click.Option)
    kind = found.type
    return tuple(kind.choices) if isinstance(kind, click.Choice) else tuple(re.findall(r"\w+", found.help or ""))


def test_choices_are_those_of_the_package() -> None:
    assert choices("compile", "--smooth") == (*METHODS, "original")
    assert choices("compile", "--week") == get_args(Week)
    assert set(choices("update", "--raw-format")) == set(get_args(RawFormat))
    assert set(AGGREGATES) <= set(choices("compile", "--aggregate"))


def every_example() -> Iterator[list[str]]:
    assert isinstance(main, click.Group)
    for name in ("update", "compile"):
        for line in (main.commands[name].epilog or "").splitlines():
            if line.strip().startswith("sen2chain"):
                yield line.strip().partition("      ")[0].split()[1:]  # without the remark behind it


@pytest.mark.parametrize("words", list(every_example()), ids=" ".join)
def test_examples_are_understood(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    assert_fails(run(*words), f"{words[1]} does not exist", 1)
