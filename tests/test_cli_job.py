"""The command `sen2chain job`: what it says, what it does, and how it leaves."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from crontab_double import Machine
from sen2chain import JobExtraction, demo
from sen2chain.cli import main
from sen2chain.store import locked

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=60, parcels=4, overpasses=demo.season(3), bands=("B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("season"), scene)


@pytest.fixture
def home(season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(season.library, tmp_path / "sen2chain_data")
    shutil.copy(season.layer, tmp_path / "parcels.gpkg")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "sen2chain_data"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "programs", monkeypatch)


def job(*words: str) -> Result:
    return CliRunner().invoke(main, ["job", *words], prog_name="sen2chain")


def fill_in(name: str, **cells: str) -> None:
    """Fill in the example of the template."""
    found = JobExtraction(name)
    cells = {"shapefile": "../parcels.gpkg", "date_min": "", "indices": "NDVI", **cells}
    found.task_edit(0, **cells)
    found.save()


@pytest.mark.usefixtures("machine")
def test_from_a_new_job_to_its_second_run(home: Path) -> None:
    done = job("list")
    assert (done.exit_code, done.output) == (0, "There is no job; begin one with sen2chain job new NAME.\n")
    done = job("new", "lakes")
    path = home / "config" / "jobs_extr" / "job_lakes.cfg"
    assert done.output.splitlines()[0] == str(path)
    done = job("check", "lakes")
    assert done.exit_code == 3
    assert "No line would be run; write one, or take the ! away from one." in done.output
    fill_in("lakes")
    done = job("check", "lakes")
    assert done.exit_code == 0
    assert "../parcels.gpkg (4 features): NDVI under CM004-" in done.output
    done = job("run", "lakes")
    assert done.exit_code == 0
    assert done.output.splitlines()[-1].startswith("Job lakes: all done; 1 line, ")
    done = job("run", "lakes", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    done = job("list")
    assert [word for word in ("lakes", "absent", "0 0 * * *", "all done") if word not in done.output] == []
    done = job("show", "lakes")
    assert "last run: 20" in done.output
    line = next(
        i for i, text in enumerate(path.read_text("utf-8").splitlines(), 1) if text.startswith("../parcels.gpkg;")
    )
    assert f"  0 (line {line}): ../parcels.gpkg\n" in done.output
    done = job("logs", "lakes")
    assert "Nothing new" in done.output
    assert len(job("logs", "lakes", "--all").output.splitlines()) == 2


@pytest.mark.usefixtures("home", "machine")
def test_a_job_that_is_there_is_not_begun_again() -> None:
    job("new", "lakes")
    fill_in("lakes")
    done = job("new", "lakes")
    assert (done.exit_code, "is there already" in done.output) == (2, True)
    assert JobExtraction("lakes").tasks[0]["shapefile"] == "../parcels.gpkg"


@pytest.mark.usefixtures("home", "machine")
@pytest.mark.parametrize("command", ["edit", "show", "check", "run", "enable"])
def test_a_job_that_is_not_there(command: str) -> None:
    job("new", "lakes")
    done = job(command, "laks")
    assert done.exit_code == 2
    assert "There is no job laks" in done.output
    assert "Jobs: lakes." in done.output


@pytest.mark.usefixtures("home")
def test_the_editor_is_opened_and_the_file_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job("new", "lakes")
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\n"
        "p.write_text(p.read_text(encoding='utf-8').replace('!/path', '/path'), encoding='utf-8')\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    done = job("edit", "lakes")
    assert done.exit_code == 2
    assert "shapefile (character 1): /path/to/parcels.shp does not exist" in done.output


@pytest.mark.usefixtures("machine")
def test_exit_codes(home: Path) -> None:
    job("new", "lakes")
    fill_in("lakes", indices="NDVI/NBR")
    done = job("run", "lakes", "--quiet")
    assert done.exit_code == 4
    assert done.output.startswith("sen2chain: Job lakes: a part could not be done;")
    assert "images lack their inputs" in done.output
    fill_in("lakes", shapefile="nowhere.shp")
    done = job("run", "lakes", "--quiet")
    assert (done.exit_code, "does not exist" in done.output) == (1, True)
    with locked(home / "logs" / "job_lakes"):
        done = job("run", "lakes")
    assert (done.exit_code, "is being run already" in done.output) == (5, True)
    path = home / "config" / "jobs_extr" / "job_lakes.cfg"
    path.write_text(path.read_text(encoding="utf-8").replace("nb_proc = 8", "nb_prok = 8"), encoding="utf-8")
    for command in ("run", "check"):
        done = job(command, "lakes")
        assert (done.exit_code, "Did you mean nb_proc?" in done.output) == (2, True)
    path.write_bytes(b"\xff\xfe")
    for command in ("run", "check", "show", "enable"):
        done = job(command, "lakes")
        assert (done.exit_code, "is not UTF-8 text" in done.output) == (2, True)
    assert "is not UTF-8 text" in job("list").output
    assert job("new", "a b").exit_code == 1


def test_a_schedule_from_enabling_to_removing(home: Path, machine: Machine) -> None:
    machine.table = b"0 1 * * * others # sen2chain_job_lakes2\n"
    job("new", "lakes")
    done = job("enable", "lakes")
    assert done.exit_code == 0, done.output
    assert "by cron at '0 0 * * *'" in done.output
    assert "00:00" in done.output.splitlines()[-1]
    assert machine.table is not None
    line = machine.table.splitlines()[1].decode()
    assert line.startswith("0 0 * * * ")
    assert line.endswith("# sen2chain_job_lakes")
    assert f"SEN2CHAIN_HOMEPATH={home.parent}" in line
    assert "enabled (cron)" in job("list").output
    found = JobExtraction("lakes")
    found.timing = "30 5 * * 1"
    found.save()
    said = "The schedule still has '0 0 * * *', the file '30 5 * * 1'; enable the job again."
    assert said in job("check", "lakes").output
    job("enable", "lakes")
    assert said not in job("check", "lakes").output
    done = job("disable", "lakes")
    assert (done.exit_code, job("list").output.count("disabled (cron)")) == (0, 1)
    job("enable", "lakes", "--systemd")
    assert machine.table == b"0 1 * * * others # sen2chain_job_lakes2\n"
    assert "enabled (systemd)" in job("list").output
    done = job("enable", "lakes")
    assert "The timer of job lakes is removed" in done.output
    done = job("remove", "lakes")
    assert "Its file stays" in done.output
    assert machine.table == b"0 1 * * * others # sen2chain_job_lakes2\n"
    assert "absent" in job("list").output
    assert job("remove", "lakes").exit_code == 0


def test_enabling_tells_what_is_wrong(home: Path, machine: Machine) -> None:
    job("new", "lakes")
    (machine.folder / "crontab").unlink()
    done = job("enable", "lakes")
    assert (done.exit_code, "This machine has no crontab command" in done.output) == (1, True)
    assert "--systemd" in done.output
    path = home / "config" / "jobs_extr" / "job_lakes.cfg"
    path.write_text(path.read_text(encoding="utf-8").replace("= 0 0 * * *", "= 0 24 * * *"), encoding="utf-8")
    done = job("enable", "lakes", "--systemd")
    assert (done.exit_code, "line 19, timing: " in done.output) == (1, True)


@pytest.mark.usefixtures("home")
def test_who_may_not_use_cron_can_do_everything_else(machine: Machine) -> None:
    machine.switch("unreadable", "You (me) are not allowed to use this program (crontab)\n")
    job("new", "lakes")
    fill_in("lakes")
    for command in ("check", "run", "show", "logs"):
        assert job(command, "lakes").exit_code == 0, command
    done = job("list")
    assert (done.exit_code, "unknown" in done.output) == (0, True)
    done = job("enable", "lakes")
    assert (done.exit_code, "You (me) are not allowed" in done.output) == (1, True)
    done = job("enable", "lakes", "--systemd")
    assert (done.exit_code, "is started by systemd" in done.output) == (0, True)


def test_another_library_is_named_in_the_schedule(
    home: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEN2CHAIN_HOMEPATH")
    monkeypatch.chdir(home.parent)
    job("new", "lakes", "--library", "sen2chain_data")
    job("enable", "lakes", "--library", "sen2chain_data")
    assert machine.table is not None
    assert f"--library {home}" in machine.table.decode()


@pytest.mark.usefixtures("machine")
def test_the_log_of_a_run_that_has_none_is_its_record(home: Path) -> None:
    job("new", "lakes")
    fill_in("lakes")
    done = job("logs", "lakes")
    assert (done.exit_code, "has not been run yet" in done.output) == (1, True)
    assert job("logs", "nosuch").exit_code == 2
    found = JobExtraction("lakes")
    found.logs = False
    found.save()
    assert job("run", "lakes").exit_code == 0
    done = job("logs", "lakes")
    assert json.loads(done.output.partition("\n")[2])["status"] == "done"
    record = home / "logs" / "job_lakes" / "job_lakes_last_run.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"done"', '"running"'), encoding="utf-8")
    assert "stopped before its end" in job("list").output
    record.write_text("{", encoding="utf-8")
    assert job("list").exit_code == job("logs", "lakes").exit_code == 0


def test_every_command_has_help() -> None:
    for name in ("new", "edit", "show", "check", "list", "run", "enable", "disable", "remove", "logs"):
        done = job(name, "--help")
        assert done.exit_code == 0


def test_a_job_of_another_home_keeps_its_line(
    home: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job("new", "lakes")
    job("enable", "lakes")
    before = machine.table
    for name in ("b c%'d", "e"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / name))
        job("new", "lakes")
        done = job("enable", "lakes")
        assert (done.exit_code, "A job lakes of another home or library is scheduled" in done.output) == (1, True)
        for command in (("disable",), ("remove",), ("enable", "--systemd")):
            assert job(*command[:1], "lakes", *command[1:]).exit_code == 1
        assert machine.table == before
        assert JobExtraction("lakes").get_cron_status() == "absent"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(home.parent))
    job("enable", "lakes", "--systemd")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "e"))
    assert job("enable", "lakes").exit_code == job("remove", "lakes").exit_code == 1
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(home.parent))
    assert JobExtraction("lakes").get_cron_status() == "enabled"
    job("remove", "lakes")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "b c%'d"))
    for _ in range(2):
        assert job("enable", "lakes").exit_code == 0
    done = job("enable", "lakes", "--library", str(home))
    assert (done.exit_code, "of another home or library" in done.output) == (1, True)


@pytest.mark.usefixtures("home")
def test_a_bare_cm003_stays_what_it_was_in_job_files() -> None:
    JobExtraction("lakes").save()
    fill_in("lakes", cloudmasks="CM003/CM004/CM003-PRB1-ITER5")
    done = job("check", "lakes")
    assert done.exit_code == 0, done.output
    assert "NDVI under CM003-PRB1-ITER1/CM004-CSH1-CMP1-CHP1-TCI1-ITER1/CM003-PRB1-ITER5, from" in done.output
    assert done.output.count("in job files") == 1
    assert "CM003 is CM003-PRB1-ITER1 in job files, and CM003-PRB1-ITER5 on the command line" in done.output
    fill_in("lakes", cloudmasks="none")
    assert "NDVI under none, from" in job("check", "lakes").output


def test_a_scheduled_job_whose_file_is_gone_is_listed(home: Path, machine: Machine, tmp_path: Path) -> None:
    for name in ("lakes", "Réunion"):
        job("new", name)
        job("enable", name, *(["--systemd"] if name != "lakes" else []))
        (home / "config" / "jobs_extr" / f"job_{name}.cfg").unlink()
    assert machine.table is not None
    other = machine.table.replace(os.fsencode(home.parent), os.fsencode(tmp_path / "other"))
    machine.table += other.replace(b"lakes", b"theirs") + b"# prose # sen2chain_job_prose\n"
    done = job("list")
    assert done.exit_code == 0
    assert done.output.count("its file is gone") == 2
    assert "sen2chain job remove lakes takes it out of the schedule" in done.output
    assert not [name for name in ("theirs", "prose", "There is no job;") if name in done.output]
    for name in ("lakes", "Réunion"):
        assert job("remove", name).exit_code == 0
    assert "There is no job; begin one" in job("list").output


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.usefixtures("home")
def test_the_crontab_is_asked_once_for_all_jobs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    names = ["lakes", "fields", "woods"]
    for name in names:
        job("new", name)
        job("enable", name)
    JobExtraction("woods").path.unlink()
    JobExtraction("fields").path.write_bytes(b"\xff")
    machine.asked()
    if hangs:
        machine.switch("hanging")
        monkeypatch.setattr("sen2chain.jobs.schedule.crontab._ANSWER", 0.2)
    done = job("list")
    assert machine.asked() == ["-l"]
    assert done.exit_code == 0
    assert done.output.count("unknown" if hangs else "enabled (cron)") == (2 if hangs else 3)
