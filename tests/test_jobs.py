"""`JobExtraction`: what a job's file means, and what a run of it does, notes and leaves behind."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from far_end import small_disk
from sen2chain import JobExtraction, TimeSeries, TimeSeriesCompil, demo
from sen2chain.errors import JobError, RequestError, ScheduleError, UnknownNameError
from sen2chain.jobs import BusyError, DryRun, Outlook, RunRecord, line_run, list_jobs
from sen2chain.jobs.delivery import parse_destination, same_place
from sen2chain.jobs.job_file import COLUMNS
from sen2chain.store import locked

HEADER = ";".join(COLUMNS)
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
CM003 = "CM003-PRB40-ITER2"


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Twenty dates on two tiles, from the middle of October 2021 on."""
    scene = demo.Scene(size=60, parcels=4, overpasses=demo.season(20), bands=("B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("season"), scene)


@pytest.fixture
def home(season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the archive; layers lie beside it."""
    shutil.copytree(season.library, tmp_path / "home" / "sen2chain_data")
    shutil.copy(season.layer, tmp_path / "parcels.gpkg")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "home"))
    return tmp_path / "home" / "sen2chain_data"


def write(name: str, *rows: str, head: str = "logs = True\n") -> JobExtraction:
    """Write a job's file as a user's editor would."""
    job = JobExtraction(name)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    job.path.write_text(f"{head}{HEADER}\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return JobExtraction(name)


def row(layer: Path | str, **cells: str) -> str:
    given = {
        "shapefile": str(layer), "date_max": "2021-12-31", "cloudmasks": CM004, "indices": "NDVI",
        "compiled_data": "monthly", **cells,
    }  # fmt: skip
    return ";".join(given.get(column, "") for column in COLUMNS)


def run(job: JobExtraction, **options: Any) -> RunRecord:
    return job.run(quiet=True, pauses=(), **options)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------------------------------- the whole of it


def test_the_snippet_of_the_documentation(home: Path, tmp_path: Path) -> None:
    jb = JobExtraction("JobName")
    jb.save()
    path = home / "config" / "jobs_extr" / "job_JobName.cfg"
    assert jb.path == path
    # Somebody edits the file while `jb` is there.
    text = path.read_text(encoding="utf-8")
    text = text.replace("!/path/to/parcels.shp;today-30;today;", f"{tmp_path / 'parcels.gpkg'};2021-01-01;today;")
    path.write_text(text.replace("NDVI/NDWIGAO", "NDVI"), encoding="utf-8")
    look = jb.check()
    assert isinstance(look, DryRun)
    assert Outlook is DryRun  # its former name
    assert look.is_good
    assert not (home / "data" / "EXTRACTION").exists()
    [asked] = look.lines
    assert (asked.features, asked.asked["date_max"]) == (4, str(dt.datetime.now(dt.UTC).date()))
    done = jb.run()
    assert (done.status, done.exit_code) == ("done", 0)
    assert asked.images == done.lines[0].extracted["images"] + done.lines[0].extracted["empty"]
    again = jb.run()
    assert (again.status, again.rows, again.lines[0].compiled["written"]) == ("done", 0, [])
    assert [json.loads(p.read_text("utf-8"))["rows"] for p in jb.runs()] == [done.rows, 0]
    assert text.replace("NDVI/NDWIGAO", "NDVI") == path.read_text(encoding="utf-8")


@pytest.mark.usefixtures("home")
def test_a_line_does_what_it_says_for_every_index_and_mask(tmp_path: Path) -> None:
    far = tmp_path / "far"
    job = write("all", row(
        "../../parcels.gpkg", date_min="2021-10-20", date_max="2022-12-05", max_clouds="60", indices="NDVI/BIRNIR",
        cloudmasks=f"{CM004}/{CM003}", compiled_data="all/monthly/all_data", smooth_data="whittaker",
        copy_server=str(far),
    ))  # fmt: skip
    record = run(job)
    assert record.status == "done", record.lines[0].errors
    [done] = record.lines

    own = TimeSeriesCompil(
        tmp_path / "parcels.gpkg", ["NDVI", "BIRNIR"], "2021-10-20", "2022-12-05", cover_max=60,
        masks=[CM004, CM003], extraction=tmp_path / "own", quiet=True,
    )  # fmt: skip
    own.extract_data()
    own.compile_data(
        alldata=True, monthly=True, datemin="2021-10-20", datemax="2022-12-05", smoothing="whittaker",
    )  # fmt: skip
    assert done.extracted["rows"] == own.rows > 0
    sent, wanted = files(far), files(own.folder / "compiled_data")
    assert sent == wanted == set(done.delivered["sent"])
    assert {name.rpartition("/")[0] for name in sent} == {
        f"{index}/{mask}/{kind}" for index in ("NDVI", "BIRNIR") for mask in (CM004, CM003)
        for kind in ("custom", "monthly", "all_data")
    }  # fmt: skip
    for name in sent:
        if name.endswith(".csv"):
            assert (far / name).read_bytes() == (own.folder / "compiled_data" / name).read_bytes(), name
    assert {name.rpartition("_smooth")[2] for name in sent if "_smooth" in name} == {
        ".csv", ".json", "_stats.csv",
    }  # fmt: skip


@pytest.mark.usefixtures("home")
def test_a_series_that_is_too_short_to_be_smoothed_is_compiled_and_sent_unsmoothed(tmp_path: Path) -> None:
    asked = {"compiled_data": "all_data/yearly", "smooth_data": "True", "copy_server": str(tmp_path / "far")}
    record = run(write("short", row(tmp_path / "parcels.gpkg", **asked)))
    assert record.status == "done"  # time mends it
    assert any(note.startswith("Not all could be smoothed yet. Every feature has") for note in record.lines[0].notes)
    assert {name.split("/")[2] for name in files(tmp_path / "far")} == {"all_data", "yearly"}
    assert len(record.lines[0].compiled["written"]) == 2


@pytest.mark.usefixtures("home")
def test_force_extracts_everything_again(tmp_path: Path) -> None:
    job = write("again", row(tmp_path / "parcels.gpkg", force_extraction="True"))
    first, second = run(job), run(job)
    assert first.rows == second.rows > 0
    assert second.lines[0].extracted["kept"] == 0


@pytest.mark.usefixtures("home")
def test_today_is_one_day_from_the_first_line_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    class Clock(dt.datetime):
        """Passes midnight each time somebody looks."""

        looks = 0

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            cls.looks += 1
            return dt.datetime(2021, 11, 30, 23, 59, 59, tzinfo=tz) + dt.timedelta(days=cls.looks - 1)

    monkeypatch.setattr("sen2chain.jobs.job_run.dt", SimpleNamespace(datetime=Clock, UTC=dt.UTC))
    layer = tmp_path / "parcels.gpkg"
    rows = (row(layer, date_min="today-30", date_max="today"), row(layer, date_max="today", indices="BIRNIR"))
    job = write("late", *rows)
    record = run(job)
    assert [done.asked["date_max"] for done in record.lines] == ["2021-11-30", "2021-11-30"]
    assert record.lines[0].asked["date_min"] == "2021-10-31"
    assert record.ended is not None
    assert record.ended.date() > dt.date(2021, 11, 30)


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.usefixtures("home")
def test_a_line_that_is_wrong_stops_no_other(tmp_path: Path) -> None:
    layer = tmp_path / "parcels.gpkg"
    job = write(
        "mixed",
        row("nowhere.shp"),
        row(layer),
        row(layer, indices="NDVY", cloudmasks="CM005", date_min="2021-02-30", copy_server="-x:y"),
        f"!{row('nowhere.shp')}",
        row(layer, date_min="2022-01-01"),
        row(layer, smooth_data="True"),
    )
    record = run(job)
    assert (record.status, record.exit_code, record.skipped) == ("partly", 4, [6])
    assert [done.status for done in record.lines] == ["failed", "done", "failed", "failed", "failed"]
    errors = [[error["message"] for error in done.errors] for done in record.lines]
    assert "line 3, shapefile (character 1): " in errors[0][0]
    assert "does not exist" in errors[0][0]
    assert [message.split(":")[0].split(" (")[0] for message in errors[2]] == [
        "line 5, date_min", "line 5, cloudmasks", "line 5, indices", "line 5, copy_server",
    ]  # fmt: skip
    assert "2022-01-01 is after date_max, 2021-12-31" in errors[3][0]
    assert "add all (the dates of this line) or all_data" in errors[4][0]
    look = job.check()
    assert not look.is_good
    assert [problem for line in look.lines for problem in line.problems] == [m for e in errors for m in e]


def test_when_every_line_fails_the_job_has_failed(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "data" / "L2A")
    record = run(write("gone", row(tmp_path / "parcels.gpkg")))
    assert (record.status, record.exit_code) == ("failed", 1)
    assert record.lines[0].errors[0]["step"] == "extract"


@pytest.mark.usefixtures("home")
def test_a_quiet_month_is_no_failure(tmp_path: Path) -> None:
    record = run(write("quiet", row(tmp_path / "parcels.gpkg", date_min="2020-06-01", date_max="2020-06-30")))
    assert (record.status, record.rows) == ("done", 0)
    assert any("no product" in note for note in record.lines[0].notes)


@pytest.mark.usefixtures("home")
def test_missing_inputs_are_counted(tmp_path: Path) -> None:
    record = run(write("swir", row(tmp_path / "parcels.gpkg", indices="NDVI/NBR")))
    assert record.status == "partly"
    [done] = record.lines
    assert done.extracted["missing"] == done.extracted["images"] + done.extracted["empty"]
    assert f"{done.extracted['missing']} images lack their inputs" in done.errors[0]["message"]
    assert done.compiled["written"]


@pytest.mark.usefixtures("home")
def test_an_error_that_nobody_thought_of_stops_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = line_run.series_of

    def odd(task: Any, context: Any) -> TimeSeriesCompil:
        if task.line == 3:
            raise ZeroDivisionError("odd")
        return made(task, context)

    monkeypatch.setattr(line_run, "series_of", odd)
    record = run(write("odd", row(tmp_path / "parcels.gpkg"), row(tmp_path / "parcels.gpkg")))
    assert [done.status for done in record.lines] == ["failed", "done"]
    assert record.lines[0].errors[0]["message"].startswith("ZeroDivisionError odd (test_jobs.py, line ")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("lgos = True\n", "line 1, lgos: Unknown setting 'lgos'"),
        ("timing = 0 25 * * *\n", "line 1, timing"),
        ("logs = perhaps\n", "line 1, logs: 'perhaps' is neither True nor False."),
        ("nb_proc = many\n", "line 1, nb_proc"),
        ("on_failure = 'mail\n", "line 1, on_failure"),
        ("delivery_timeout = 0\n", "line 1, delivery_timeout"),
        ("nonsense\n", "line 1: 'nonsense' is neither a setting"),
    ],
)
def test_a_file_that_cannot_be_understood_stops_before_anything_is_touched(
    home: Path, tmp_path: Path, head: str, said: str
) -> None:
    job = write("wrong", row(tmp_path / "parcels.gpkg"), head=head)
    with pytest.raises(JobError) as caught:
        run(job)
    assert said in str(caught.value)
    assert not (home / "data" / "EXTRACTION").exists()
    last = job.last_run()
    assert last is not None
    assert (last["status"], last["lines"]) == ("failed", [])
    assert said in last["errors"][0]
    assert said in str(job.check())


@pytest.mark.usefixtures("home")
def test_two_layers_of_one_name_do_not_overwrite_each_other_at_their_destination(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    import geopandas as gpd  # noqa: PLC0415

    gpd.read_file(tmp_path / "parcels.gpkg").iloc[:2].to_file(tmp_path / "other" / "parcels.gpkg")
    far = str(tmp_path / "far")
    job = write(
        "same",
        row(tmp_path / "parcels.gpkg", copy_server=far),
        row(tmp_path / "other" / "parcels.gpkg", copy_server=far),
        row(tmp_path / "parcels.gpkg", copy_server=far),
    )
    record = run(job)
    assert [done.status for done in record.lines] == ["done", "partly", "done"]
    assert "has files of another layer parcels" in str(job.check())
    (tmp_path / "home" / "sen2chain_data" / "logs" / "destinations.json").unlink()
    assert "an earlier line sends another layer of this name there" in str(job.check())
    assert "has files of another layer parcels" in record.lines[1].errors[0]["message"]
    assert record.lines[1].extracted["rows"] > 0
    assert max(pd.read_csv(next((tmp_path / "far").rglob("*.csv")))["fid"]) == 3


@pytest.mark.usefixtures("home")
def test_a_failed_delivery_keeps_the_extraction_and_the_next_run_sends_the_rest(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.write_text("a file, not a folder", encoding="utf-8")
    job = write("far", row(tmp_path / "parcels.gpkg", copy_server=str(far)))
    record = run(job)
    assert record.status == "partly"
    [error] = record.lines[0].errors
    assert error["step"] == "deliver"
    assert record.lines[0].extracted["rows"] > 0
    far.unlink()
    again = run(job)
    assert (again.status, again.rows) == ("done", 0)
    assert set(again.lines[0].delivered["sent"]) == files(far) != set()
    third = run(job)
    assert (third.delivered, third.lines[0].delivered["unchanged"]) == (0, len(files(far)))


# --------------------------------------------------------------------------------------------------- logs and commands


def test_logs_and_records(home: Path, tmp_path: Path) -> None:
    job = write("noted", row(tmp_path / "parcels.gpkg"))
    said: list[str] = []
    record = run(job, echo=said.append)
    folder = home / "logs" / "job_noted"
    [log], [path] = folder.glob("*.log"), job.runs()
    assert path.with_suffix(".log") == log == Path(record.log)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [text.partition(" ")[2] for text in lines] == said
    assert said[-1] == str(record) == f"Job noted: all done; 1 line, {record.rows} new rows, 3 files written, 0 sent."
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(record.as_dict()))
    assert (kept["status"], kept["lines"][0]["line"]) == ("done", 3)
    run(job)
    assert len(job.runs()) == len(list(folder.glob("*.log"))) == 2


def test_without_logs_the_record_of_the_last_run_stays(home: Path, tmp_path: Path) -> None:
    job = write("brief", row(tmp_path / "parcels.gpkg"), head="logs = False\n")
    first = run(job)
    assert files(home / "logs" / "job_brief") - {".lock"} == {"job_brief_last_run.json"}
    second = run(job)
    last = job.last_run()
    assert last is not None
    assert (first.rows > 0, second.rows, last["rows"]) == (True, 0, 0)


@pytest.mark.usefixtures("home")
def test_a_command_is_called_for_the_way_a_run_ended(tmp_path: Path) -> None:
    script = tmp_path / "note it.py"
    script.write_text(
        "import json, os, sys\n"
        "text = json.load(open(sys.argv[-1], encoding='utf-8'))['status'] + os.environ['SEN2CHAIN_STATUS']\n"
        "open(sys.argv[1] + text, 'w').write(repr(sys.argv[2:-1]))\n",
        encoding="utf-8",
    )
    call = f"{sys.executable} '{script}' {tmp_path}/"
    head = f"on_success = {call}good- '$(touch {tmp_path}/pwned)' ; *\non_failure = {call}bad- | x\n"
    run(write("hook", row(tmp_path / "parcels.gpkg"), head=head))
    assert (tmp_path / "good-donedone").read_text("utf-8") == repr([f"$(touch {tmp_path}/pwned)", ";", "*"])
    run(write("hook", row("nowhere.shp"), head=head))
    assert (tmp_path / "bad-failedfailed").read_text("utf-8") == repr(["|", "x"])
    (tmp_path / "bad-failedfailed").unlink()
    with pytest.raises(JobError):
        run(write("hook", row("nowhere.shp"), head=head + "timing = never\n"))
    assert (tmp_path / "bad-failedfailed").exists()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.usefixtures("home")
def test_a_command_that_fails_changes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    job = write("hook", row(tmp_path / "parcels.gpkg"), head="on_success = no-such-program-here\n")
    assert run(job, echo=said.append).status == "done"
    assert any("no-such-program-here could not be run" in sentence for sentence in said)
    said.clear()
    head = f"on_success = {sys.executable} -c 'import sys; sys.exit(3)'\n"
    job = write("hook", row(tmp_path / "parcels.gpkg"), head=head)
    assert run(job, echo=said.append).status == "done"
    assert any("ended with 3" in sentence for sentence in said)


# ------------------------------------------------------------------------------------------------------- one at a time


def test_one_run_at_a_time(home: Path, tmp_path: Path) -> None:
    job = write("twice", row(tmp_path / "parcels.gpkg"))
    run(job)
    with locked(home / "logs" / "job_twice"):
        assert job.is_running
        with pytest.raises(BusyError, match=f"is being run already: .*process {os.getpid()}"):
            run(job)
    assert len(job.runs()) == 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, "interrupted"), (signal.SIGHUP, "interrupted"), (signal.SIGKILL, "running")]
)
@pytest.mark.usefixtures("home")
def test_a_run_that_is_stopped_says_so(tmp_path: Path, number: int, status: str) -> None:
    job = write("stopped", row(tmp_path / "parcels.gpkg"))
    # It waits for the folder of the layer, which this test holds.
    first = TimeSeriesCompil(tmp_path / "parcels.gpkg", indices=["NDVI"], quiet=True)
    first.extract_data()
    with locked(first.folder):
        process = subprocess.Popen([sys.executable, "-m", "sen2chain.cli", "job", "run", "stopped", "--quiet"])
        until = time.monotonic() + 60
        while time.monotonic() < until and not (job.is_running and job.last_run()):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        code = process.wait(60)
    last = job.last_run()
    assert last is not None
    assert (last["status"], job.is_running) == (status, False)
    assert code in {130, -number}
    assert run(job).status == "done"


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_table_is_changed_from_python(home: Path, tmp_path: Path) -> None:
    job = JobExtraction("mine")
    with pytest.raises(JobError, match=r"save\(\) writes it"):
        job.run()
    job.task_remove(0)
    job.task_add({"shapefile": tmp_path / "parcels.gpkg", "indices": ["NDVI", "BIRNIR"], "cloudmasks": CM004})
    job.task_add()
    job.logs, job.timing, job.nb_proc, job.process_by_line = True, "30  5 * * 1", 1, 1
    job.on_failure = "mail me"
    with pytest.raises(JobError, match="call save"):
        job.check()
    path = job.save()
    assert path == home / "config" / "jobs_extr" / "job_mine.cfg"
    again = JobExtraction("mine")
    assert (again.logs, again.timing, again.nb_proc, again.process_by_line) == (True, "30 5 * * 1", 1, 1)
    assert (again.on_failure, again.on_success) == ("mail me", "")
    assert [task["indices"] for task in again.tasks] == ["NDVI/BIRNIR", "NDVI/NDWIGAO"]
    again.task_edit(0, indices="NDVI", compiled_data="yearly", date_min=None)
    assert again.tasks[0]["indices"] == "NDVI"
    again.save()
    assert "# minute (0-59)" in path.read_text(encoding="utf-8")
    assert list_jobs() == ["mine"]
    text = repr(again)
    assert "timing = 30 5 * * 1" in text
    assert f"0 (line {again._refresh().rows[0].line}): {tmp_path / 'parcels.gpkg'}" in text
    assert "): !" in text


@pytest.mark.usefixtures("home")
def test_wrong_calls_are_refused() -> None:
    job = JobExtraction("mine")
    with pytest.raises(RequestError, match="There is no line"):
        job.task_edit(1, indices="NDVI")
    with pytest.raises(RequestError, match="There is no line"):
        job.task_remove(-1)
    with pytest.raises(UnknownNameError, match="Did you mean indices"):
        job.task_add({"indcies": "NDVI"})
    with pytest.raises(UnknownNameError, match="Unknown column"):
        job.task_edit(0, mask="CM004")
    with pytest.raises(ScheduleError, match="timing"):
        job.timing = "0 25 * * *"


@pytest.mark.usefixtures("home")
def test_a_file_that_was_edited_in_the_meantime_is_not_overwritten() -> None:
    job = JobExtraction("mine")
    path = job.save()
    edited = path.read_text(encoding="utf-8").replace("nb_proc = 8", "nb_proc = 2")
    path.write_text(edited, encoding="utf-8")
    assert job.nb_proc == 2
    job.timing = "1 1 * * *"
    path.write_text(edited.replace("nb_proc = 2", "nb_proc = 3"), encoding="utf-8")
    with pytest.raises(JobError, match="was edited while this job was changed here"):
        job.save()
    assert "nb_proc = 3" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "..", ".", "-rf", "a\nb", "a;b", "$(x)", "a'b", "a%b", "x" * 101, "_/..", "é" * 60]
)
@pytest.mark.usefixtures("home")
def test_names_that_could_do_harm_are_refused(name: str) -> None:
    with pytest.raises(JobError, match="cannot be the name of a job"):
        JobExtraction(name)


def test_names_that_people_use_are_taken(home: Path) -> None:
    names = ["lakes", "Lakes-2021", "a.b", "Réunion", "7", "x_y"]
    for name in names:
        JobExtraction(name).save()
    (home / "config" / "jobs_extr" / "job_-rf.cfg").touch()
    assert list_jobs() == sorted(names)


@pytest.mark.usefixtures("home")
def test_batches_are_extracted_before_they_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, int]] = []

    def noted(step: str) -> Any:
        return lambda self: steps.append((step, self.task.line))

    for step in ("extract", "compile", "deliver"):
        monkeypatch.setattr(line_run.LineRun, step, noted(step))
    layer = tmp_path / "parcels.gpkg"
    for size, order in (
        (0, "e3 e4 e5 c3 c4 c5 d3 d4 d5"),
        (1, "e3 c3 d3 e4 c4 d4 e5 c5 d5"),
        (2, "e3 e4 c3 c4 d3 d4 e5 c5 d5"),
    ):
        steps.clear()
        run(write("batch", *(row(layer) for _ in range(3)), head=f"process_by_line = {size}\n"))
        assert " ".join(f"{step[0]}{number}" for step, number in steps) == order


@pytest.mark.usefixtures("home")
def test_a_layer_of_several_is_named_as_in_qgis(tmp_path: Path) -> None:
    import geopandas as gpd  # noqa: PLC0415

    parcels = gpd.read_file(tmp_path / "parcels.gpkg")
    for name, part in (("west", parcels.iloc[:1]), ("east", parcels.iloc[1:])):
        part.to_file(tmp_path / "two.gpkg", layer=name)
    look = write("two", row(f"{tmp_path}/two.gpkg|layername=east"), row(f"{tmp_path}/two.gpkg|layername=")).check()
    assert look.lines[0].features == 3
    assert "names no layer after" in look.lines[1].problems[0]


@pytest.mark.usefixtures("home")
def test_what_would_be_read_without_end_is_no_layer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.shp")
    look = write("pipes", row(tmp_path / "pipe.shp"), row(os.devnull), row("")).check()
    assert ["is not a file" in line.problems[0] for line in look.lines[:2]] == [True, True]
    assert "it is empty" in look.lines[2].problems[0]


# -------------------------------------------------------------------------------------------------- the nights after


def _alarm(tmp_path: Path) -> tuple[str, Path]:
    """Return a head whose on_failure writes a letter into a file, and that file."""
    script = tmp_path / "note.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write('x')", encoding="utf-8")
    (tmp_path / "calls").touch()
    return f"logs = True\non_failure = {sys.executable} {script} {tmp_path}/calls\n", tmp_path / "calls"


@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.usefixtures("home")
def test_on_failure_is_called_when_the_outcome_differs_from_the_last_runs(tmp_path: Path, *, logs: bool) -> None:
    head, calls = _alarm(tmp_path)
    head = head.replace("True", str(logs))
    layer, bad = tmp_path / "parcels.gpkg", row("nowhere.shp")
    nights: list[tuple[tuple[str, ...], str, str]] = [
        ((row(layer, indices="NDVI/NBR"),), "partly", "x"),
        ((row(layer, indices="NDVI/NBR"),), "partly", "x"),
        ((row(layer, indices="NDVI/NBR"), row(layer)), "partly", "xx"),  # one more line, which is all right
        ((row(layer, copy_server="/proc/nowhere"), row(layer)), "partly", "xxx"),
        ((row(layer, copy_server="/proc/nowhere"), row(layer)), "partly", "xxx"),
        ((bad,), "failed", "xxxx"),
        ((bad,), "failed", "xxxx"),
        ((row(layer),), "done", "xxxx"),
        ((bad,), "failed", "xxxxx"),
        (("!" + bad,), "nothing", "xxxxx"),
        ((bad,), "failed", "xxxxxx"),
    ]
    for rows, status, told in nights:
        said: list[str] = []
        record = run(write("stays", *rows, head=head), echo=said.append)
        assert (record.status, calls.read_text("utf-8")) == (status, told)
        assert record.reported == (status not in {"done", "nothing"})
        last = JobExtraction("stays").last_run()
        assert last is not None
        assert last["reported"] == record.reported
    for _ in range(2):  # a file that cannot be used
        with pytest.raises(JobError):
            run(write("stays", bad, head=head + "nb_prok = 8\n"))
        assert calls.read_text("utf-8") == "x" * 7


@pytest.mark.usefixtures("home")
def test_what_on_failure_could_not_tell_is_told_by_the_next_run(tmp_path: Path) -> None:
    head, calls = _alarm(tmp_path)
    for broken in ("no-such-program", "", "false"):
        record = run(write("later", row("nowhere.shp"), head=f"on_failure = {broken}\n"))
        assert not record.reported
    for _ in range(2):
        assert run(write("later", row("nowhere.shp"), head=head.replace("True", "False"))).reported
    assert calls.read_text("utf-8") == "x"


@pytest.mark.usefixtures("home")
def test_the_record_of_an_earlier_version_is_the_last_run(tmp_path: Path) -> None:
    head, calls = _alarm(tmp_path)
    job = write("older", row(tmp_path / "parcels.gpkg", indices="NDVI/NBR"), head=head)
    run(job)
    [path] = job.runs()
    kept = json.loads(path.read_text("utf-8"))
    del kept["reported"]
    for error in kept["lines"][0]["errors"]:
        error["new"] = True
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert run(job).status == "partly"
    assert calls.read_text("utf-8") == "x"
    for wrong in ({"lines": [1]}, {"lines": [{"layer": "x"}]}, {"errors": 1}):
        job.runs()[-1].write_text(json.dumps(kept | wrong), encoding="utf-8")
        before = len(calls.read_text("utf-8"))
        run(job)
        assert len(calls.read_text("utf-8")) == before + 1


@pytest.mark.usefixtures("home")
def test_a_command_that_cannot_be_run_is_seen_before_and_after(tmp_path: Path) -> None:
    layer = tmp_path / "parcels.gpkg"
    job = write("alarm", row(layer), head="on_failure = no-such-program x\non_success = sh -c true | mail me\n")
    problems = job.check().problems
    assert "on_failure: cron finds no program no-such-program" in problems[0]
    assert "on_success: no shell is asked" in problems[1]
    job = write("alarm", row("nowhere.shp"), head="on_failure = no-such-program x\n")
    record = run(job)
    assert "no-such-program could not be run" in record.notes[0]
    last = job.last_run()
    assert last is not None
    assert last["notes"] == record.notes


def test_when_the_archive_is_away_what_was_not_sent_is_sent(home: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.write_text("in the way", encoding="utf-8")
    job = write("away", row(tmp_path / "parcels.gpkg", copy_server=str(far)))
    assert run(job).status == "partly"
    far.unlink()
    (home / "data" / "L2A").rename(home / "data" / "unmounted")
    record = run(job)
    assert (record.status, [error["step"] for error in record.lines[0].errors]) == ("partly", ["extract"])
    assert record.delivered == len(files(far)) > 0
    assert not job.check().is_good


def test_a_range_that_did_not_arrive_is_sent_with_the_next_one(home: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.write_text("in the way", encoding="utf-8")
    cells = {"compiled_data": "all", "copy_server": str(far)}
    run(write("range", row(tmp_path / "parcels.gpkg", date_max="2021-11-30", **cells)))
    far.unlink()
    job = write("range", row(tmp_path / "parcels.gpkg", date_max="2022-01-31", **cells))
    assert run(job).status == "done"
    assert len([name for name in files(far) if name.endswith(".csv")]) == 2
    place = home / "logs" / "destinations.json"
    good = json.loads(place.read_text("utf-8"))
    for content in ("[", "{} x", "[]"):
        place.write_text(content, encoding="utf-8")
        assert run(job).status == ("done" if content == "[]" else "partly")
    [key] = good
    for entry in ({}, {"missing": None}, {"missing": ["../x", "/x", 1, ""]}, {"folder": None}):
        place.write_text(json.dumps({key: entry}), encoding="utf-8")
        assert run(job).status == ("partly" if "folder" in entry else "done")
    place.unlink()


def test_what_was_being_sent_when_a_run_was_stopped_is_sent_by_the_next(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tmp_path / "far"
    cells = {"compiled_data": "all", "copy_server": str(far)}
    job = write("stopped", row(tmp_path / "parcels.gpkg", date_max="2021-11-30", **cells))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(line_run, "deliver", stop)
        with pytest.raises(KeyboardInterrupt):
            run(job)
    # The next night there is no row in its range, and so no file of its own.
    job = write("stopped", row(tmp_path / "parcels.gpkg", date_min="2020-01-01", date_max="2020-01-31", **cells))
    assert run(job).status == "done"
    assert len(files(far)) == 2
    assert json.loads((home / "logs" / "destinations.json").read_text("utf-8")).popitem()[1]["missing"] == []


def test_no_secret_is_kept_with_the_places() -> None:
    place = same_place(parse_destination("sftp://me:S3CRET@host/path?sig=TOKEN"))
    assert place == same_place(parse_destination("SFTP://me:other@host/path/?sig=new"))
    assert "S3CRET" not in place
    assert "TOKEN" not in place


@pytest.mark.usefixtures("home")
def test_a_setting_may_be_set_to_what_it_is() -> None:
    job = JobExtraction("same")
    job.save()
    job.nb_proc = 8
    job.save()
    assert job.check().lines[0].skipped
    job.path.write_text("", encoding="utf-8")
    with pytest.raises(RequestError, match="has no table"):
        job.task_add(shapefile="x.gpkg")


def test_new_trouble_of_another_acquisition_is_told(home: Path, tmp_path: Path) -> None:
    head, calls = _alarm(tmp_path)
    job = write("trouble", row(tmp_path / "parcels.gpkg"), head=head)
    bands = sorted((home / "data" / "L2A").rglob("*_2021*_B04_10m.jp2"))[:3]
    whole = [band.read_bytes() for band in bands]

    def damaged(*numbers: int) -> int:
        for number, (band, content) in enumerate(zip(bands, whole, strict=True)):
            band.write_bytes(content[:200] if number in numbers else content)
        run(job)
        return len(calls.read_text("utf-8"))

    assert damaged(0, 1) == 1
    assert damaged(0, 1) == 1
    assert damaged(1) == 2  # one is mended
    assert damaged(2) == 3  # as many, but another
    assert damaged(2) == 3
    assert damaged() == 3


def test_an_edited_layer_does_not_replace_what_the_one_before_sent(home: Path, tmp_path: Path) -> None:
    import geopandas as gpd  # noqa: PLC0415

    far, layer = tmp_path / "far", tmp_path / "parcels.gpkg"
    job = write("edited", row(layer, copy_server=str(far)))
    run(job)
    before = {name: (far / name).read_bytes() for name in files(far)}
    parcels = gpd.read_file(layer)
    layer.unlink()
    parcels.iloc[1:].to_file(layer)
    assert "has files of another layer parcels or of an earlier state of it" in job.check().problems[0]
    for _ in range(2):
        record = run(job)
        assert [error["step"] for error in record.lines[0].errors] == ["deliver"]
        assert {name: (far / name).read_bytes() for name in files(far)} == before
    owners = home / "logs" / "destinations.json"
    entry = record.lines[0].errors[0]["message"].partition('remove the entry "')[2].partition('"')[0]
    owners.write_text(
        json.dumps({k: v for k, v in json.loads(owners.read_text("utf-8")).items() if k != entry}), "utf-8"
    )
    assert run(job).status == "done"
    assert {name: (far / name).read_bytes() for name in files(far)} != before


@pytest.mark.usefixtures("home")
def test_the_owner_of_a_place_keeps_it_on_nights_without_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    import geopandas as gpd  # noqa: PLC0415

    gpd.read_file(tmp_path / "parcels.gpkg").iloc[:2].to_file(tmp_path / "other" / "parcels.gpkg")
    far = str(tmp_path / "far")
    rows = [row(folder / "parcels.gpkg", copy_server=far) for folder in (tmp_path, tmp_path / "other")]
    job = write("same", *rows)
    run(job)
    (tmp_path / "parcels.gpkg").rename(tmp_path / "gone.gpkg")
    record = run(job)
    assert [done.status for done in record.lines] == ["failed", "partly"]
    assert max(pd.read_csv(next((tmp_path / "far").rglob("*.csv")))["fid"]) == 3


@pytest.mark.usefixtures("home")
def test_a_place_that_is_out_of_reach_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSYNC_RSH", f"{sys.executable} -c 'import sys; sys.exit(255)'")
    said: list[str] = []
    lines = [row(tmp_path / "parcels.gpkg", copy_server="far:x") for _ in range(3)]
    record = write("down", *lines).run(quiet=True, pauses=(0.01, 0.02), echo=said.append)
    assert [done.status for done in record.lines] == ["partly"] * 3
    assert sum("The next try is in" in sentence for sentence in said) == 2


@pytest.mark.usefixtures("home")
def test_a_run_that_is_killed_leaves_what_was_done(tmp_path: Path) -> None:
    layer, other = tmp_path / "parcels.gpkg", tmp_path / "other.gpkg"
    import geopandas as gpd  # noqa: PLC0415

    gpd.read_file(layer).iloc[1:].to_file(other)
    held = TimeSeriesCompil(other, indices=["NDVI"], quiet=True)
    held.extract_data()
    job = write("killed", row(layer), row(other), head="process_by_line = 1\nlogs = True\n")
    with locked(held.folder):
        process = subprocess.Popen([sys.executable, "-m", "sen2chain.cli", "job", "run", "killed", "--quiet"])
        until = time.monotonic() + 60
        while time.monotonic() < until and len((job.last_run() or {"lines": []})["lines"]) < 2:
            time.sleep(0.05)
        time.sleep(1.5)
        process.kill()
        process.wait(60)
    last = job.last_run()
    assert last is not None
    assert last["rows"] > 0


@pytest.mark.usefixtures("home")
def test_no_line_to_run_is_not_all_done() -> None:
    job = JobExtraction("empty")
    job.save()
    record = run(job)
    assert (record.status, record.exit_code) == ("nothing", 3)


@pytest.mark.usefixtures("home")
def test_files_with_fewer_columns_get_those_that_are_set(tmp_path: Path) -> None:
    job = JobExtraction("older")
    job.path.parent.mkdir(parents=True, exist_ok=True)
    job.path.write_text(f"shapefile;cloudmask;indices\n{tmp_path / 'parcels.gpkg'};{CM004};NDVI\n", encoding="utf-8")
    job.task_edit(0, copy_server=str(tmp_path / "far"), compiled_data="yearly", date_max=dt.datetime(2021, 12, 31, 12))  # noqa: DTZ001
    job.task_add(shapefile="x.shp", cloudmask=CM004, max_clouds=20)
    job.save()
    header, first, second = job.path.read_text("utf-8").splitlines()
    assert header == "shapefile;cloudmask;indices;date_max;compiled_data;copy_server;max_clouds"
    assert second == f"x.shp;{CM004};;;;;20"
    record = run(JobExtraction("older"))
    assert record.lines[0].status == "done"
    assert files(tmp_path / "far")
    assert first


@pytest.mark.usefixtures("home")
def test_formulas_may_hold_the_mark_between_names(tmp_path: Path) -> None:
    job = write("own", row(tmp_path / "parcels.gpkg", indices="R=(B08-B04)/(B08+B04)/NDVI"))
    look = job.check()
    assert look.lines[0].asked["indices"] == ["R", "NDVI"]
    record = run(job)
    assert (record.status, record.lines[0].extracted["missing"]) == ("done", 0)


# --------------------------------------------------------------------------------------- destinations that come and go


def _nightly(name: str, layer: Path, far: Path, night: int) -> RunRecord:
    """Run a job whose file has another name each night."""
    last = dt.date(2021, 11, 1) + dt.timedelta(days=30 * night)
    return run(write(name, row(layer, date_max=str(last), compiled_data="all", copy_server=str(far))))


@pytest.mark.parametrize("kind", ["below a disk", "the disk"])
@pytest.mark.usefixtures("home")
def test_a_destination_that_is_not_mounted_for_a_night_gets_that_nights_file_later(tmp_path: Path, kind: str) -> None:
    mounted = kind == "the disk"
    disk, layer = tmp_path / "disk", tmp_path / "parcels.gpkg"
    far = disk if mounted else disk / "p" / "far"
    held = small_disk(disk) if mounted else contextlib.nullcontext(disk)
    with held:
        assert _nightly("away", layer, far, 0).status == "done"
        first = files(far)
        if mounted:
            subprocess.run(["mount", "--move", str(disk), str(_folder(tmp_path / "elsewhere"))], check=True)  # noqa: S603, S607
        else:
            disk.rename(tmp_path / "elsewhere")
        record = _nightly("away", layer, far, 1)
        assert (record.status, record.delivered) == ("partly", 0)
        assert "mount it, or, if it is to be made anew" in record.lines[0].errors[0]["message"]
        assert "mount it" in JobExtraction("away").check().problems[0]
        assert not files(disk)
        if mounted:
            subprocess.run(["mount", "--move", str(tmp_path / "elsewhere"), str(disk)], check=True)  # noqa: S603, S607
        else:
            (tmp_path / "elsewhere").rename(disk)
        assert _nightly("away", layer, far, 2).status == "done"
        assert len(files(far)) == 3 * len(first) == 6


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_what_was_lost_at_its_destination_is_sent_again(home: Path, tmp_path: Path) -> None:
    far, layer = tmp_path / "far", tmp_path / "parcels.gpkg"
    _nightly("lost", layer, far, 0)
    sent = files(far)
    for name in sent:
        (far / name).unlink()
    record = _nightly("lost", layer, far, 1)  # a file of another name is compiled
    assert sent < files(far)
    assert record.delivered == len(files(far)) == 4
    # What is not here any more is forgotten.
    for name in sent:
        (Path(record.lines[0].folder) / "compiled_data" / name).unlink()
        (far / name).unlink()
    assert _nightly("lost", layer, far, 1).status == "done"
    assert len(files(far)) == 2
    [entry] = json.loads((home / "logs" / "destinations.json").read_text("utf-8")).values()
    assert set(entry["sent"]) == files(far)


def test_a_registry_without_checksums_is_continued(home: Path, tmp_path: Path) -> None:
    import geopandas as gpd  # noqa: PLC0415

    far, layer = tmp_path / "far", tmp_path / "parcels.gpkg"
    assert _nightly("old", layer, far, 0).status == "done"
    path = home / "logs" / "destinations.json"
    [(key, entry)] = json.loads(path.read_text("utf-8")).items()
    assert entry["folder"] == f"parcels_{entry['checksum']}"
    checksum = entry.pop("checksum")
    path.write_text(json.dumps({key: entry}), encoding="utf-8")
    assert _nightly("old", layer, far, 1).status == "done"
    assert json.loads(path.read_text("utf-8"))[key]["checksum"] == checksum
    path.write_text(json.dumps({key: entry}), encoding="utf-8")
    (tmp_path / "other").mkdir()
    gpd.read_file(layer).iloc[:2].to_file(tmp_path / "other" / "parcels.gpkg")
    before = files(far)
    record = _nightly("old", tmp_path / "other" / "parcels.gpkg", far, 2)
    assert "has files of another layer parcels" in record.lines[0].errors[0]["message"]
    assert files(far) == before


def test_a_registry_of_an_earlier_version_is_continued_without_its_secrets(home: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    _nightly("old", tmp_path / "parcels.gpkg", far, 0)
    path = home / "logs" / "destinations.json"
    [(key, entry)] = json.loads(path.read_text("utf-8")).items()
    folder = {"folder": entry["folder"]}
    path.write_text(json.dumps({
        key: {**folder, "missing": []}, "https://S3CRET@host lakes": folder, "sftp://me:***@host/x lakes": folder,
        "user:./pa/S3CRET@host:path lakes": folder, "s3://bucket/x me@lakes": folder,
    }), "utf-8")  # fmt: skip
    shutil.rmtree(far)
    record = _nightly("old", tmp_path / "parcels.gpkg", far, 0)
    assert "is not there, but files were sent to it before" in record.lines[0].errors[0]["message"]
    kept = json.loads(path.read_text("utf-8"))
    assert "S3CRET" not in path.read_text("utf-8")
    mine = f"{same_place(parse_destination('sftp://me:other@host/x'))} lakes"
    assert {mine, "s3://bucket/x me@lakes"} < set(kept)


def test_the_registry_is_not_waited_for_without_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen2chain.jobs.delivery_registry._PATIENCE", 0.1)
    _folder(home / "logs")
    with locked(home / "logs"):
        record = _nightly("held", tmp_path / "parcels.gpkg", tmp_path / "far", 0)
    assert f"logs is held by process {os.getpid()}" in record.lines[0].errors[0]["message"]


# ------------------------------------------------------------------------------------------------- many runs, and none


def test_old_logs_and_records_are_removed(home: Path, tmp_path: Path) -> None:
    folder = home / "logs" / "job_many"
    folder.mkdir(parents=True)
    for day in range(1, 6):
        for end in ("json", "log"):
            (folder / f"job_many_run_2021010{day}T000000Z.{end}").write_text("{}", encoding="utf-8")
    (folder / "job_many_run_20210101T000000Z-2.log").touch()
    (folder / "notes.txt").touch()
    (folder / "job_many_schedule.log").write_text("x" * 999_990 + "\nthe last line\n", encoding="utf-8")
    record = run(write("many", row(tmp_path / "parcels.gpkg"), head="logs = True\nkeep_runs = 3\n"))
    own = Path(record.log).stem
    assert files(folder) == {
        *(f"{stem}.{end}" for stem in (own, *(f"job_many_run_2021010{day}T000000Z" for day in (4, 5)))
          for end in ("json", "log")), "notes.txt", "job_many_schedule.log", ".lock",
    }  # fmt: skip
    assert (folder / "job_many_schedule.log").read_text("utf-8") == "the last line\n"
    for value in ("keep_runs = 0\n", ""):
        run(write("many", row("nowhere.shp"), head=value))
        assert len(JobExtraction("many").runs()) == 4


def test_records_are_found_by_their_names(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "logs" / "job_many"
    folder.mkdir(parents=True)
    stamps = ["20211231T235959Z-2", "20220101T000000Z", "20211231T235959Z", "20211231T235959Z-10"]
    for stamp in stamps:
        (folder / f"job_many_run_{stamp}.json").write_text("{}", encoding="utf-8")
    looked: list[str] = []
    for name in ("stat", "lstat"):
        monkeypatch.setattr(Path, name, lambda path, **_: looked.append(path.name))
    found = JobExtraction("many").runs()
    monkeypatch.undo()
    assert [path.stem.rpartition("_")[2] for path in found] == [stamps[i] for i in (2, 0, 3, 1)]
    assert not [name for name in looked if "_run_" in name]


@pytest.mark.parametrize(("hours", "counts"), [(30, True), (5, False)])
@pytest.mark.parametrize("logs", [True, False])
def test_a_run_that_hangs_is_told_by_the_next(home: Path, tmp_path: Path, hours: int, counts: bool, logs: bool) -> None:  # noqa: FBT001
    script = tmp_path / "note.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write(sys.argv[2])", encoding="utf-8")
    hook = f"{sys.executable} {script} {tmp_path}/calls"
    head = f"logs = {logs}\non_failure = {hook}\non_success = {hook}\ntiming = 0 0 * * *\n"
    job = write("hangs", row(tmp_path / "parcels.gpkg"), head=head)
    folder = home / "logs" / "job_hangs"
    folder.mkdir(parents=True)
    with locked(folder):
        since = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
        holder = json.loads((folder / ".lock-holder").read_text("utf-8")) | {"since": since.isoformat()}
        (folder / ".lock-holder").write_text(json.dumps(holder), encoding="utf-8")
        with pytest.raises(BusyError, match="is being run already"):
            run(job)
        last = job.last_run()
    if not counts:
        assert (last, (tmp_path / "calls").exists()) == (None, False)
        return
    assert last is not None
    assert (last["status"], last["lines"]) == ("failed", [])
    assert "It has gone on for 1 day, 6:00:0" in last["errors"][0]
    assert (tmp_path / "calls").read_text("utf-8").endswith(".json")


def test_optional_columns_and_settings(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "data" / "L2A", tmp_path / "products")
    shutil.rmtree(home / "data" / "L2A")
    layer = tmp_path / "parcels.gpkg"
    job = write("more", row(layer, copy_server=str(tmp_path / "far")), row(layer))
    before = job.path.read_text("utf-8")
    job.safe, job.verify = "../../products", "first"
    job.task_edit(1, pixels="weighted", buffer="-5", stats=["sum", "percentile_90"], min_valid="0.5", aggregate="mean")
    job.save()
    text = job.path.read_text("utf-8")
    assert text.startswith(before.splitlines()[0])
    assert before.splitlines()[2] in text  # the line without them stays as it is
    assert job.tasks[0]["pixels"] == ""
    look = job.check()
    assert look.is_good, look
    assert "(pixels weighted, buffer -5.0, stats sum/percentile_90, min_valid 0.5, aggregate mean)" in str(look)
    record = run(job)
    assert record.status == "done", record.lines
    plain, other = (Path(done.folder) for done in record.lines)
    assert plain.parent == other.parent == home / "data" / "EXTRACTION"
    assert other.name.startswith(f"{plain.name}_weighted_buffer-5_stats-")
    own = TimeSeriesCompil(
        layer, ["NDVI"], "2015-01-01", "2021-12-31", safe=tmp_path / "products", extraction=tmp_path / "own",
        pixels="weighted", buffer=-5, stats=["sum", "percentile_90"], min_valid=0.5, masks=[CM004], quiet=True,
    )  # fmt: skip
    own.extract_data()
    own.compile_data(monthly=True, aggregate="mean")
    names = {name for name in files(own.folder / "compiled_data") if name.endswith(".csv")}
    assert any("aggregate" in name or "mean" in name for name in names), names
    for name in names:
        assert (other / "compiled_data" / name).read_bytes() == (own.folder / "compiled_data" / name).read_bytes()
    # The two make files of the same names, of which one would replace the other.
    job.task_edit(1, copy_server=str(tmp_path / "far"))
    job.save()
    assert "with another pixel rule, buffer, statistics or share" in str(job.check())


def test_a_line_keeps_pixels(home: Path, tmp_path: Path) -> None:
    layer = tmp_path / "parcels.gpkg"
    job = write("keeps", row(layer, indices="NDVI", date_max="2021-11-30", keep_pixels=""))
    job.task_edit(0, keep_pixels=["B04", "B08"], keep_margin=100)
    job.save()
    assert job.tasks[0]["keep_pixels"] == "B04/B08"
    look = job.check()
    assert look.is_good, look
    assert "(keep_pixels B04/B08, keep_margin 100.0)" in str(look)
    record = run(job)
    assert record.status == "done", record.lines
    shutil.rmtree(home / "data" / "L2A")
    options: dict[str, Any] = {"masks": ["CM004-CSH1-CMP1-CHP1-TCI1-ITER2"], "quiet": True}
    asked = TimeSeries(layer, ["NDVI"], "2015-01-01", "2021-11-30", pixels_from=record.lines[0].folder, **options)
    assert len(asked.data["NDVI"])
    assert set(asked.report["value_source"]) == {"kept pixels"}
    assert run(job).status == "partly"  # the archive is gone, which kept pixels do not hide


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"pixels": "centre"}, "Unknown pixel rule 'centre'"), ({"buffer": "far"}, "is not a number of metres"),
        ({"stats": "meen"}, "Unknown statistic 'meen'"), ({"min_valid": "80"}, "is not a share from 0 to 1"),
        ({"aggregate": "sum"}, "Unknown aggregate 'sum'"),
        ({"aggregate": "mean", "compiled_data": ""}, "name some in compiled_data"),
        ({"keep_pixels": "B04/B99"}, "Unknown band 'B99'"), ({"keep_pixels": "B04,B08"}, "write / between names"),
        ({"keep_margin": "-1"}, "is not a number of metres"), ({"keep_margin": "9" * 6}, "is not a number of metres"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("home")
def test_optional_columns_that_cannot_be_used(tmp_path: Path, cells: dict[str, str], said: str) -> None:
    job = write("wrong", row(tmp_path / "parcels.gpkg"))
    job.task_edit(0, **cells)
    job.save()
    [problem] = job.check().problems
    assert said in problem
    assert f"line 3, {next(iter(cells))}" in problem


@pytest.mark.usefixtures("home")
def test_a_margin_without_pixels_to_keep_is_told(tmp_path: Path) -> None:
    job = write("margin", row(tmp_path / "parcels.gpkg", indices="NDVI"))
    job.task_edit(0, keep_margin=100)
    job.save()
    assert "keep_margin (--keep-margin) needs keep_pixels" in str(job.check())
    record = run(job)
    assert record.status != "done"
    assert "needs keep_pixels" in str(record.lines[0])


@pytest.mark.usefixtures("home")
def test_a_file_with_a_login_that_others_may_read_is_told(tmp_path: Path) -> None:
    job = write("open", row(tmp_path / "parcels.gpkg", copy_server="ftp://me:S3CRET@127.0.0.1:1/x"))
    for mode, told in ((0o640, True), (0o600, False)):
        job.path.chmod(mode)
        assert ("call chmod 600 on it" in str(job.check())) == told


@pytest.mark.usefixtures("home")
def test_what_a_layer_does_not_tell_stands_in_its_line(tmp_path: Path) -> None:
    import geopandas as gpd  # noqa: PLC0415

    parcels = gpd.read_file(tmp_path / "parcels.gpkg")
    parcels["name"] = "Zürich"
    parcels.to_file(tmp_path / "bare.shp", encoding="cp1252")
    for end in ("prj", "cpg"):
        (tmp_path / "bare.shp").with_suffix(f".{end}").unlink()
    assert parcels.crs is not None
    job = write("bare", row(tmp_path / "bare.shp"))
    assert "crs" in str(job.check()).lower()
    job.task_edit(0, crs=f"EPSG:{parcels.crs.to_epsg()}", encoding="cp1252")
    job.save()
    assert job.check().is_good
    record = run(job)
    assert (record.status, record.rows > 0) == ("done", True)
    assert "Zürich" in Path(record.lines[0].compiled["written"][0]).read_text("utf-8")


# ------------------------------------------------------------------------------------------------------------ the page


@pytest.mark.usefixtures("home")
def test_a_page_is_written_and_sent_and_again_only_when_there_is_something_new(tmp_path: Path) -> None:
    far = tmp_path / "far"

    def job(until: str) -> JobExtraction:
        cells = {"copy_server": str(far), "date_max": until, "compiled_data": ""}
        return write("page", row(tmp_path / "parcels.gpkg", **cells), head="logs = True\npage = True\n")

    record = run(job("2021-11-30"))
    assert record.status == "done", record.lines[0].errors
    [done] = record.lines
    page = Path(done.folder) / "compiled_data" / f"parcels_NDVI_{CM004}.html"
    assert set(done.delivered["sent"]) == files(far) == {f"parcels_NDVI_{CM004}.html", f"parcels_NDVI_{CM004}.json"}
    assert (far / page.name).read_bytes() == page.read_bytes()
    before = page.stat().st_mtime_ns
    again = run(job("2021-11-30"))
    assert (again.status, again.delivered, page.stat().st_mtime_ns) == ("done", 0, before)
    later = run(job("2021-12-31"))
    assert later.rows > 0
    assert set(later.lines[0].delivered["sent"]) == {f"parcels_NDVI_{CM004}.html", f"parcels_NDVI_{CM004}.json"}
    assert (far / page.name).read_bytes() == page.read_bytes()
    assert page.stat().st_mtime_ns > before


@pytest.mark.usefixtures("home")
def test_a_page_follows_the_line_and_another_file_is_neither_replaced_nor_sent(tmp_path: Path) -> None:
    layer = tmp_path / "parcels.gpkg"
    first = run(write("page", row(layer, compiled_data=""), head="page = True\n"))
    page = Path(first.lines[0].folder) / "compiled_data" / f"parcels_NDVI_{CM004}.html"
    before = page.read_bytes()
    later = {"compiled_data": "", "date_min": "2021-11-20"}
    assert run(write("page", row(layer, **later), head="page = True\n")).status == "done"
    note = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert note["parameters"]["date_min"] == "2021-11-20"
    assert page.read_bytes() != before
    page.write_text("my own page", encoding="utf-8")
    far = tmp_path / "far"
    record = run(write("page", row(layer, copy_server=str(far), **later), head="page = True\n"))
    assert record.status == "partly"
    assert "is not one of sen2chain" in record.lines[0].errors[0]["message"]
    assert page.read_text(encoding="utf-8") == "my own page"
    assert page.name not in files(far)


@pytest.mark.usefixtures("home")
def test_pages_of_lines_with_other_indices_lie_side_by_side(tmp_path: Path) -> None:
    layer = tmp_path / "parcels.gpkg"
    many = "/".join(f"OWN{number}=B08/B04+{number}" for number in range(30))
    record = run(
        write("pages", row(layer), row(layer, indices="BIRNIR/NDVI"), row(layer, indices=many), head="page = True\n")
    )
    assert record.status == "done", record.lines
    folder = Path(record.lines[0].folder) / "compiled_data"
    *named, hashed = sorted((path.name for path in folder.glob("*.html")), key=len, reverse=True)
    assert re.fullmatch(r"parcels_[0-9a-f]{16}\.html", hashed)
    assert set(named) == {
        f"parcels_NDVI_{CM004}.html", f"parcels_BIRNIR-NDVI_{CM004}.html",
    }  # fmt: skip


@pytest.mark.usefixtures("home")
def test_without_the_setting_there_is_no_page(tmp_path: Path) -> None:
    record = run(write("plain", row(tmp_path / "parcels.gpkg")))
    assert not list(Path(record.lines[0].folder).rglob("*.html"))
    job = write("wrong", row(tmp_path / "parcels.gpkg"), head="page = perhaps\n")
    assert "line 1, page" in str(job.check())


@pytest.mark.usefixtures("home")
def test_the_own_key_of_a_line_stands_after_fid(tmp_path: Path) -> None:
    job = JobExtraction("keyed")
    job.path.parent.mkdir(parents=True, exist_ok=True)
    layer = tmp_path / "parcels.gpkg"
    job.path.write_text(f"{HEADER};id_field\n{row(layer)};parcel\n{row(layer)};nowhere\n", encoding="utf-8")
    record = run(JobExtraction("keyed"))
    assert [line.status for line in record.lines] == ["done", "failed"]
    table = pd.read_csv(record.lines[0].compiled["written"][0])
    assert list(table)[:3] == ["date", "fid", "parcel"]
    assert "has no attribute 'nowhere'" in record.lines[1].errors[0]["message"]
