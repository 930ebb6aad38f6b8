"""The command: what it writes, what it says, and how it leaves."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from click.testing import CliRunner

from sen2chain import demo
from sen2chain.cli import main, show
from sen2chain.errors import LayerError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CLEAR, CLOUDED, DAMAGED = "2021-10-15", "2022-05-28", "2022-05-03"
"""Days of the demo's season: without cloud, all cloud, and with one file that is cut off."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=120, parcels=6, damaged=((8, "32TLP", "B04"),), reprocessed=((2, "31TGJ"),))
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


@pytest.fixture
def command(archive: demo.DemoArchive, tmp_path: Path) -> list[str]:
    """An extraction of one index on a clear day; tests add to it."""
    return [
        "extract", str(archive.layer), "--library", str(archive.library), "--index", "NDVI", "--mask", "CM004",
        "--iterations", "1", "--workers", "1", "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="sen2chain")


def on(day: str) -> tuple[str, ...]:
    return ("--from", day, "--to", day)


def sentence(result: Result) -> str:
    """Give the last line of what a failed command printed, and make sure that nothing blew up."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.output.strip().splitlines()[-1]


# --- all is well


def test_extract_writes_a_table_and_its_json_and_prints_a_summary(command: list[str], tmp_path: Path) -> None:
    result = run(*command, *on(CLEAR))
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out" / "parcels"
    names = {f"parcels_NDVI_{CLEAR}_{CLEAR}{suffix}" for suffix in (".csv", ".json")}
    assert {path.name for path in folder.iterdir()} == names
    table = pd.read_csv(folder / f"parcels_NDVI_{CLEAR}_{CLEAR}.csv")
    assert table["fid"].is_unique
    assert len(table) == 6
    for text in ("Summary", "NDVI", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "superseded 6", f"NDVI_{CLEAR}_{CLEAR}.csv"):
        assert text in result.output, text


def test_quiet_prints_nothing(command: list[str]) -> None:
    result = run(*command, *on(CLEAR), "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_verbose_lists_every_acquisition(command: list[str]) -> None:
    brief, full = run(*command, *on(CLEAR)), run(*command, *on(CLEAR), "--verbose")
    assert full.exit_code == 0
    for text in (
        "S2B_MSIL2A_20211015T103021_N0301_R108_T31TGJ_20211015T133021", "bands", "computed from SCL",
    ):  # fmt: skip
        assert text in full.output, text
        assert text not in brief.output, text
    acquisitions = [line for line in full.output.splitlines() if "S2B_MSIL2A_20211015" in line]
    assert sum(int(line.rsplit("superseded ")[1]) for line in acquisitions if "superseded" in line) == 6, "by reason"


def test_report_writes_every_line_to_a_file(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.csv"
    assert run(*command, "--report", str(file)).exit_code == 4  # one file is damaged
    report = pd.read_csv(file)
    assert len(report) == 25
    assert report["rows"].sum() > 0
    assert report["error"].notna().sum() == 1


def test_formats(command: list[str], tmp_path: Path) -> None:
    result = run(*command, *on(CLEAR), "--format", "parquet", "--format", "csv")
    assert result.exit_code == 0, result.output
    stem = tmp_path / "out" / "parcels" / f"parcels_NDVI_{CLEAR}_{CLEAR}"
    rows = pd.read_parquet(f"{stem}.parquet")
    assert rows["mean"].tolist() == pd.read_csv(f"{stem}.csv")["mean"].tolist()


@pytest.mark.parametrize("words", [("--executor", "serial"), ("--executor", "threads"), ("--executor", "dask")])
def test_whoever_does_the_work_the_table_is_the_same(
    command: list[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "out" / "parcels" / f"parcels_NDVI_{CLEAR}_{CLEAR}.csv"
    assert run(*command, *on(CLEAR)).exit_code == 0
    want = file.read_bytes()
    file.unlink()
    result = run(*command, *on(CLEAR), *words)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == want


def test_a_scheduler_that_does_not_answer_is_an_error(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.extract.cluster._CONNECT_SECONDS", 0.5)
    result = run(*command, "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in sentence(result)
    result = run(*command, "--scheduler", "tcp://127.0.0.1:1", "--executor", "serial")
    assert result.exit_code == 2
    assert "only dask takes one" in sentence(result)


def test_options_reach_the_extraction(command: list[str], tmp_path: Path) -> None:
    words = (
        "--index", "SAVI=1.5*(B08-B04)/(B08+B04+0.5)", "--mask", "SCL-3-8-9-ITER0", "--pixels", "weighted",
        "--stat", "percentile_10", "--units", "index", "--buffer", "-10", "--no-thin-cir", "--keep-empty",
        "--cover-max", "90", "--prefer", "stored", "--min-valid", "0.5",
    )  # fmt: skip
    result = run(*command, *on(CLEAR), *words)
    assert result.exit_code == 0, result.output
    masks = ("CM004-CSH1-CMP1-CHP1-TCI0-ITER1", "SCL-3-8-9-ITER0")
    for index in ("NDVI", "SAVI"):
        for mask in masks:
            table = pd.read_csv(tmp_path / "out" / "parcels" / f"parcels_{index}_{CLEAR}_{CLEAR}_{mask}.csv")
            assert set(table["mask"]) == {mask}
            assert table["mean"].between(0, 1).all()
            assert (table["percentile_10"] <= table["median"]).all()
            assert "reason" in table.columns
            assert (table["count"] % 1 != 0).any()


def test_a_folder_of_products_instead_of_a_library(archive: demo.DemoArchive, tmp_path: Path) -> None:
    folder = archive.library / "data" / "L2A" / "32TLP"
    result = run(
        "extract", str(archive.layer), "--safe", str(folder), "-i", "NDVI", "-m", "CM001", *on(CLEAR), "-o",
        str(tmp_path), "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(tmp_path / "parcels" / f"parcels_NDVI_{CLEAR}_{CLEAR}.csv")) == 6


def test_demo_and_the_command_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("demo", "d", "--size", "60", "--parcels", "4", "--seed", "3")
    assert result.exit_code == 0, result.output  # although one file is damaged
    assert (tmp_path / "d" / "parcels.gpkg").is_file()
    assert (tmp_path / "d" / "out" / "parcels" / "parcels_NDVI_None_None.csv").is_file()
    for text in ("Wrote 25 products", "Mean NDVI", "Summary", "cannot be read"):
        assert text in result.output, text
    [line] = [line for line in result.output.splitlines() if line.startswith("sen2chain extract")]
    assert run(*line.split()[1:]).exit_code == 4  # here the damaged file counts


@pytest.mark.parametrize(
    ("words", "mask", "told"),
    [
        ((), "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "former versions took CM001 where none was named"),
        (("cm004",), "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "former versions of this command it was with ITER5"),
        (("CM004", "--no-thin-cir"), "CM004-CSH1-CMP1-CHP1-TCI0-ITER1", "cm004 is"),
        (("CM003",), "CM003-PRB1-ITER5", ""),
        (("CM003", "--iterations", "1", "--probability", "40"), "CM003-PRB40-ITER1", ""),
        (("CM004", "--iterations", "5"), "CM004-CSH1-CMP1-CHP1-TCI1-ITER5", ""),
        (("CM002",), "CM002-B11", ""),
        (("none",), "none", ""),
    ],
)
def test_a_short_name_of_a_mask_means_what_parse_says(
    archive: demo.DemoArchive, tmp_path: Path, words: tuple[str, ...], mask: str, told: str
) -> None:
    given = ["--mask", *words] if words else []
    command = [
        "extract", str(archive.layer), "--library", str(archive.library), "-i", "NDVI", "--workers", "1", *on(CLEAR),
        "--out", str(tmp_path), *given,
    ]  # fmt: skip
    result = run(*command)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "parcels" / f"parcels_NDVI_{CLEAR}_{CLEAR}.csv")
    assert table["filename"].str.endswith(f"_NDVI_{mask}.jp2").all()
    assert told.lower() in result.output.lower()
    assert ("former versions" in result.output) is bool(told)
    if words == ("cm004",):
        assert "former versions" not in run(*command).output  # the results of this mask are there already
        assert told in run(*command, "-i", "NDWIGAO").output  # one of the two results is not
        (tmp_path / "parcels" / f"parcels_NDVI_{CLEAR}_{CLEAR}.json").unlink()  # as a former version left it
        assert told in run(*command).output
    if mask == "none":
        assert (table["nbcld"] == 0).all()


def test_ctrl_c_promises_no_continuation(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sen2chain.timeseries.series.select", interrupted)
    result = run(*command, *on(CLEAR))
    assert result.exit_code == 130
    assert "A next run begins anew; sen2chain update goes on" in sentence(result)


def test_names_that_look_like_markup_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show.table("A table", ["[/x]", "[red]crop"], [["[bold]maize", "1"]], numeric=(1,))
    printed = capsys.readouterr().out
    for name in ("[/x]", "[red]crop", "[bold]maize"):
        assert name in printed


# --- exit codes


def test_exit_1_for_what_cannot_be_used(command: list[str], archive: demo.DemoArchive, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    cases = [
        (["extract", nowhere + ".gpkg", *command[2:]], "does not exist"),
        (["extract", str(archive.layer), "--library", nowhere, "--out", str(tmp_path)], "is not a folder"),
        (["extract", str(archive.layer), "--safe", nowhere, "--out", str(tmp_path)], "neither a folder nor a zip"),
        ([*command[:-1], str(tmp_path / "res.csv")], "looks like the name of a file"),
        ([*command[:-1], str(tmp_path / "res.PARQUET"), "-q"], "name the folder, as res."),
        ([*command, "--report", str(tmp_path / "res.json")], "name it res.csv"),
        ([*command, "--layer", "fields"], "fields"),
    ]
    for words, part in cases:
        assert_one_sentence(words, part, 1)


def test_exit_2_for_parameters_that_cannot_be_used(command: list[str]) -> None:
    cases = [
        ([*command, "--index", "NDWX"], "Unknown index 'NDWX'; allowed: NDVI, "),
        ([*command, "--index", "X=B08/B99"], "B99"),
        ([*command, "--mask", "CM005"], "Unknown cloud mask 'CM005'; allowed: CM001, "),
        ([*command, "--mask", "CM04"], "Did you mean CM004?"),
        ([*command, "--iterations", "-1"], "allowed: whole numbers from 0 to 1000"),
        ([*command, "--from", "2022-13-01"], "--from is '2022-13-01'; allowed: a date as YYYY-MM-DD"),
        (
            [*command, "--from", "2022-02-01", "--to", "2022-01-01"],
            "--from 2022-02-01 is after --to 2022-01-01",
        ),
        ([*command, "--stat", "mode"], "Unknown statistic 'mode'; allowed: sum, "),
        ([*command, "--min-valid", "80"], "allowed: shares from 0 to 1"),
        ([*command, "--cover-min", "60", "--cover-max", "40"], "--cover-min 60 is above --cover-max 40; swap them."),
        ([*command, "--workers", "-2"], "--workers is -2; allowed"),
        ([*command, "--stac", "somewhere"], "pass one of them"),
    ]
    for words, part in cases:
        assert_one_sentence(words, part, 2)


def test_exit_2_for_a_variable_that_cannot_be_used(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "no")
    assert_one_sentence(command, "SEN2CHAIN_OPENJPEG is 'no'; set it to off", 2)


_LONG = "9" * 5000
_WHOLE = ("-1", "1.5", "nan", "inf", "1e400", _LONG, f"-{_LONG}")
_REAL = ("nan", "inf", "-inf", "1e400", _LONG, "1e10")


@pytest.mark.parametrize(
    ("words", "option", "values", "named"),
    [
        ("extract", "--iterations", _WHOLE, "0 to 1000"),
        ("extract", "--probability", (*_WHOLE, "101"), "0 to 100"),
        ("extract", "--workers", (*_WHOLE, "4097"), "0 to 4096"),
        ("extract", "--buffer", _REAL, "100,000"),
        ("extract", "--min-valid", _REAL, "0 to 1"),
        ("extract", "--cover-min", _REAL, "0 to 100"),
        ("extract", "--cover-max", _REAL, "0 to 100"),
        ("update", "--wait", ("nan", "inf", "1e400", _LONG, "1e10"), "0 to 1000000000"),
        ("compile", "--window-length", (*_WHOLE, "4", "10001"), "odd numbers from 1 to 9999"),
        ("compile", "--polyorder", (*_WHOLE, "11"), "0 to 10"),
        ("compile", "--covermax", ("nan", "inf", "0", "-1", "1e10"), "numbers above 0"),
        ("demo", "--size", (*_WHOLE, "3", "10982"), "even numbers of 10 m pixels from 2 to 10980"),
        ("demo", "--parcels", (*_WHOLE, "0", "1000001"), "1 to 1000000"),
        ("demo", "--seed", _WHOLE, "0 to 9223372036854775807"),
    ],
)  # fmt: skip
def test_exit_2_for_numbers_beyond_any_sense(
    command: list[str], tmp_path: Path, words: str, option: str, values: tuple[str, ...], named: str
) -> None:
    beginning = {
        "extract": command, "update": ["update", *command[1:4], "--extraction", str(tmp_path / "e")],
        "compile": ["compile", *command[1:4], "--extraction", str(tmp_path / "e"), "--all", "--smooth"],
        "demo": ["demo", str(tmp_path / "demo")],
    }[words]  # fmt: skip
    for value in values:
        assert_one_sentence([*beginning, f"{option}={value}"], named, 2)
        last = sentence(run(*beginning, f"{option}={value}"))
        assert option in last
        assert len(last) < 250
    text = run(*beginning, f"{option}=many")
    assert (text.exit_code, option in text.output, "Traceback" in text.output) == (2, True, False)
    assert list(tmp_path.iterdir()) == []


def assert_one_sentence(words: list[str], part: str, code: int) -> None:
    result = run(*words)
    last = sentence(result)
    assert result.exit_code == code, words
    assert last.startswith("sen2chain: "), last
    assert part in last, last
    assert len(result.output.strip().splitlines()) == 1, "one sentence, nothing else"


def test_exit_1_for_an_output_that_cannot_be_written(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = run(*command[:-1], str(file / "out"))
    assert result.exit_code == 1
    assert "Cannot write" in sentence(result)
    result = run(*command, "--report", str(file / "report.csv"))
    assert result.exit_code == 1
    assert "Cannot write" in sentence(result)
    assert not (tmp_path / "out" / "parcels").exists(), "said before work starts"


def test_exit_2_for_a_wrong_command_line(command: list[str]) -> None:
    for words in (
        ["extract"], [*command, "--color"], [*command, "--field", "crop"],
        [*command, "--iterations", "one"], [*command, "--pixels", "centre"],
        [*command, "--format", "ods"], ["demo"], ["extrakt"], command[:-2],
    ):  # fmt: skip
        result = run(*words)
        assert result.exit_code == 2, words
        assert "Error: " in sentence(result) or "Try " in result.output


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--date-min", "--from"),
        ("--end_date", "--to"),
        ("--masks", "--mask"),
        ("--output", "--out"),
        ("--unit", "--units"),
    ],
)
def test_an_option_that_is_called_otherwise_gets_a_suggestion(command: list[str], option: str, meant: str) -> None:
    result = run(*command, option, "1")
    assert result.exit_code == 2
    assert f"Did you mean {meant}" in result.output.replace("'", "")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (on(CLOUDED), "the cloud mask removed every valid pixel"),
        (on("2030-01-01"), "no product of"),
        ((*on(CLEAR), "--cover-min", "99"), "outside the cloud cover"),
        ((*on(CLEAR), "--buffer", "-5000"), "nothing is left of the feature"),
        ((*on(CLEAR), "--mask", "OCM"), "OCM"),
    ],
)
def test_exit_3_when_nothing_came_out_with_the_likely_cause(
    command: list[str], words: tuple[str, ...], cause: str
) -> None:
    if "--mask" in words:
        at = command.index("--mask")
        command = command[:at] + command[at + 2 :]
    result = run(*command, *words)
    assert result.exit_code == 3
    assert sentence(result).startswith("sen2chain: Nothing was extracted. ")
    assert cause in sentence(result)
    quiet = run(*command, *words, "--quiet")
    assert quiet.exit_code == 3
    assert quiet.output.strip() == sentence(result), "the cause is an error, which is not silenced"


def test_exit_3_for_a_layer_elsewhere(command: list[str], tmp_path: Path) -> None:
    layer = tmp_path / "far.geojson"
    ring = "[[[0,0],[0.1,0],[0.1,0.1],[0,0.1],[0,0]]]"
    layer.write_text(
        '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},'
        f'"geometry":{{"type":"Polygon","coordinates":{ring}}}}}]}}'
    )
    result = run("extract", str(layer), *command[2:])
    assert result.exit_code == 3
    assert "lies outside of every tile" in sentence(result)


def test_exit_4_when_a_file_is_damaged(command: list[str], tmp_path: Path) -> None:
    result = run(*command, *on(DAMAGED))
    assert result.exit_code == 4
    assert "T32TLP_20220503T103021_B04_10m.jp2 cannot be read" in result.output
    assert_one_sentence([*command, *on(DAMAGED), "-q"], "B04_10m.jp2 cannot be read", 4)
    assert len(pd.read_csv(tmp_path / "out" / "parcels" / f"parcels_NDVI_{DAMAGED}_{DAMAGED}.csv")) > 0


def test_exit_4_when_one_mask_gave_nothing(command: list[str]) -> None:
    result = run(*command, *on(CLEAR), "--mask", "OCM")
    assert result.exit_code == 4
    assert "No OCM raster is stored" in result.output
    quiet = run(*command, *on(CLEAR), "--mask", "OCM", "-q")
    assert sentence(quiet).startswith("sen2chain: A part could not be extracted. NDVI under OCM gave no row.")


# --- help, errors


def test_debug_shows_the_traceback(command: list[str], tmp_path: Path) -> None:
    missing = [command[0], str(tmp_path / "nowhere.gpkg"), *command[2:]]
    assert isinstance(run(*missing, "--debug").exception, LayerError)
    process = program(*missing, "--debug")
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert "LayerError" in process.stderr


def program(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", "from sen2chain.cli import main; main()", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_results_and_errors_go_to_their_own_streams(command: list[str]) -> None:
    good = program(*command, *on(CLEAR))
    assert (good.returncode, good.stderr) == (0, ""), "no progress where nobody watches"
    assert "Summary" in good.stdout
    bad = program(*command, "--index", "NDWX")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("sen2chain: Unknown index 'NDWX'")


@pytest.mark.parametrize("words", [(), ("extract",), ("demo",)])
def test_help_is_quick_loads_nothing_heavy_and_shows_examples(words: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom sen2chain.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([m for m in ('numpy', 'pandas', 'rasterio', 'numba', 'shapely', 'pyarrow', 'xarray',"
        " 'geopandas', 'rich') if m in sys.modules])"
    )
    began = time.monotonic()
    process = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - began < 5, "a tenth of a second on a machine that has nothing else to do"
    assert process.stdout.endswith("[]\n")
    for part in {"extract": ("Examples:", "Exit codes:"), "demo": ("DIR",)}.get(words[0] if words else "", ("demo",)):
        assert part in process.stdout


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("sen2chain, version ")


@pytest.mark.parametrize(("words", "shown"), [((), True), (("--quiet",), False)])
def test_progress_is_shown_on_a_terminal(command: list[str], words: tuple[str, ...], shown: bool) -> None:  # noqa: FBT001  # a parameter of the test
    reader, terminal = os.openpty()
    try:
        subprocess.run(  # noqa: S603  # our own interpreter
            [sys.executable, "-c", "from sen2chain.cli import main; main()", *command, *on(CLEAR), *words],
            stdout=subprocess.DEVNULL, stderr=terminal, check=True, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            assert ("extracting" in os.read(reader, 1 << 16).decode()) is shown
            return
        assert not shown
    finally:
        os.close(reader)
        os.close(terminal)


@pytest.mark.parametrize("module", ["sen2chain.cli.group", "sen2chain.cli.options", "sen2chain.timeseries"])
def test_an_interruption_while_the_program_starts_is_one_line(command: list[str], module: str) -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from sen2chain.cli import run\n"
        "sys.exit(run())"
    )
    process = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    assert process.returncode == 130
    assert process.stderr.startswith("sen2chain: Interrupted.")
    assert process.stderr.count("\n") == 1


def test_an_interruption_after_everything_leaves_the_exit_code() -> None:
    code = (
        "import os, signal, sys\n"
        "from sen2chain.cli import run\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT): kill(me, number)\n"
        "last = Last()\n"
        "sys.exit(run())"
    )
    words = [sys.executable, "-c", code, "--version"]
    process = subprocess.run(words, capture_output=True, check=False)  # noqa: S603  # our own interpreter
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_streams_works(command: list[str], tmp_path: Path, closed: str) -> None:
    out = tmp_path / "out"
    code = "import sys; from sen2chain.cli import run; sys.exit(run())"
    line = shlex.join([sys.executable, "-c", code, *command[:-1], str(out), *on(CLEAR)])
    process = subprocess.run(f"{line} {closed}", shell=True, capture_output=True, check=False)  # noqa: S602  # a shell closes them
    assert (process.returncode, process.stderr) == (0, b"")
    assert len(list(out.rglob("*.csv"))) == 1


def test_too_little_memory_is_one_sentence(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("sen2chain.timeseries.series.select", full)
    result = run(*command, *on(CLEAR))
    assert result.exit_code == 1
    assert "memory does not suffice" in sentence(result)
