"""A night as it is: cron starts a job on real pixels, which delivers over ssh to a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from far_end import FarEnd, program
from sen2chain import JobExtraction
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
