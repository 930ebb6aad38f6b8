"""Nights as they are: cron starts a job on real pixels, which delivers to a real server; and servers that fail."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from far_end import FarEnd, lock, make_key, program, small_disk
from sen2chain import JobExtraction, demo
from sen2chain.jobs.schedule import crontab

if TYPE_CHECKING:
    from collections.abc import Iterator

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarEnd]:
    with FarEnd(tmp_path) as end:
        yield end


@pytest.fixture
def own_crontab() -> Iterator[bytes]:
    """The crontab of whoever runs the tests, put back byte for byte whatever happens."""
    if not crontab.has_crontab() or not crontab.daemon_runs():
        pytest.skip("cron is not installed or its daemon does not run")
    found = subprocess.run([program("crontab"), "-l"], capture_output=True, check=False)  # noqa: S603
    if found.returncode and b"no crontab for" not in found.stderr:
        pytest.skip("this user may not use cron")
    yield found.stdout
    if found.returncode:
        subprocess.run([program("crontab"), "-r"], capture_output=True, check=False)  # noqa: S603
    else:
        subprocess.run([program("crontab"), "-"], input=found.stdout, check=True)  # noqa: S603


def test_cron_runs_a_job_that_delivers_over_ssh(
    bolzano: Path, far: FarEnd, own_crontab: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a b%c'd!$(touch x)\\;"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(home))
    monkeypatch.setenv("RSYNC_RSH", far.shell())
    (home / "sen2chain_data" / "config").mkdir(parents=True)
    (home / "sen2chain_data" / "config" / "config.cfg").write_text(f"[DATA PATHS]\nl2a_path = {bolzano / 'L2A'}\n")
    shutil.copy(bolzano / "vectors" / "parcels_utm32.gpkg", tmp_path / "my parcels.gpkg")

    job = JobExtraction("night")
    job.task_edit(
        0, shapefile=tmp_path / "my parcels.gpkg", date_min="2022-06-01", indices="NDVI", compiled_data="all/monthly",
        copy_server=far.at("to there/$(x)"),
    )  # fmt: skip
    job.timing = "* * * * *"
    job.save()
    try:
        assert "by cron at '* * * * *'" in job.cron_enable()
        assert (job.get_cron_status(), str(job.schedule)) == ("enabled", "enabled (cron)")
        until = time.monotonic() + 150
        while time.monotonic() < until:
            last = job.last_run()
            if last and last["ended"]:
                break
            time.sleep(0.5)
    finally:
        job.cron_remove()
    assert subprocess.run([program("crontab"), "-l"], capture_output=True, check=False).stdout == own_crontab  # noqa: S603
    said = (job.logs_folder / "job_night_schedule.log").read_text(encoding="utf-8")
    records = job.runs()
    assert records, said
    first = json.loads(records[0].read_text(encoding="utf-8"))
    assert (first["status"], first["exit_code"], said) == ("done", 0, ""), json.dumps(first["lines"][0]["errors"])
    assert Path(first["log"]).read_text(encoding="utf-8").count("\n") >= 5
    [line] = first["lines"]
    assert (line["extracted"]["images"], line["extracted"]["rows"]) == (9, first["rows"])
    place = far.place / "to there" / "$(x)" / "NDVI" / CM004
    assert sorted(path.parent.name for path in place.rglob("*.csv")) == ["custom", "monthly"]
    for name in line["delivered"]["sent"]:
        assert (far.place / "to there" / "$(x)" / name).read_bytes() == (
            Path(line["folder"]) / "compiled_data" / name
        ).read_bytes()
    again = job.run(quiet=True)
    assert (again.status, again.rows, again.delivered, again.lines[0].compiled["written"]) == ("done", 0, 0, [])
    assert not (Path.home() / "x").exists()


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=60, parcels=4, overpasses=demo.season(3), bands=("B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("season"), scene)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("server down", "Connection refused"),
        ("key changed", "Host key"),
        ("disk full", "rsync ended with code "),
        ("no permission", "Read-only file system"),
        ("unknown login", "Permission denied ("),
    ],
)
def test_what_a_server_did_not_take_is_noted_and_sent_by_the_next_run(
    trouble: str, said: str, season: demo.DemoArchive, far: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(season.library, tmp_path / "sen2chain_data")
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    monkeypatch.setenv("RSYNC_RSH", far.shell())
    with contextlib.ExitStack() as stack:
        disk = far.place / "disk"
        if trouble in {"disk full", "no permission"}:
            stack.enter_context(small_disk(disk))
            (disk / "ballast").write_bytes(bytes(1_000_000 if trouble == "disk full" else 1))
            if trouble == "disk full":
                with contextlib.suppress(OSError), (disk / "more").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
        job = JobExtraction("night")
        job.task_edit(
            0, shapefile=season.layer, date_min="", indices="NDVI", compiled_data="all_data/monthly",
            copy_server=far.at("disk"),
        )  # fmt: skip
        job.save()
        if trouble == "server down":
            far.stop()
        elif trouble == "key changed":
            far.trust(make_key(tmp_path / "another"))
        elif trouble == "no permission":
            lock(disk)
        elif trouble == "unknown login":
            monkeypatch.setenv("RSYNC_RSH", far.shell(key=make_key(tmp_path / "wrong")))
        paused: list[str] = []
        record = job.run(quiet=True, pauses=(0.1, 0.2), echo=paused.append)
        [line] = record.lines
        assert (record.status, record.exit_code) == ("partly", 4)
        assert [error["step"] for error in line.errors] == ["deliver"]
        assert said in line.errors[0]["message"]
        assert (record.rows > 0, line.delivered["sent"]) == (True, [])
        assert sum("The next try is in" in sentence for sentence in paused) == (
            2 if trouble in {"server down", "key changed", "unknown login"} else 0
        )

        if trouble == "server down":
            far.start()
        elif trouble == "key changed":
            far.trust(far.host_key)
        elif trouble == "disk full":
            (disk / "ballast").unlink()
            (disk / "more").unlink()
        elif trouble == "no permission":
            subprocess.run([program("mount"), "-o", "remount,rw", str(disk)], check=True)  # noqa: S603
        else:
            monkeypatch.setenv("RSYNC_RSH", far.shell())
        again = job.run(quiet=True, pauses=())
        assert (again.status, again.rows, again.lines[0].compiled["written"]) == ("done", 0, [])
        folder = Path(line.folder) / "compiled_data"
        wanted = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        assert set(again.lines[0].delivered["sent"]) <= set(wanted)
        assert {name: (disk / name).read_bytes() for name in wanted} == wanted
        third = job.run(quiet=True, pauses=())
        assert (third.status, third.delivered) == ("done", 0)
