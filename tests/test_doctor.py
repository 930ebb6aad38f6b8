"""`sen2chain doctor`: what it finds on a sound machine, and that it answers on broken ones."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
from click.testing import CliRunner

from sen2chain.cli import diagnosis, library_probes, main
from sen2chain.cli.library_probes import probe

SOUND: dict[str, dict[str, Any]] = {
    "numpy": {"version": "2.0"},
    "pyproj": {"version": "3.7", "proj": "9.5", "data": "there", "grids": 2, "network": False},
    "OpenJPEG": {"version": "2.5.3", "path": "there", "origin": "rasterio", "passed_over": []},
}


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Findings that a test may change, in the place of those of real probes; a home of its own; no variables."""
    found = {name: dict(facts) for name, facts in SOUND.items()}
    monkeypatch.setattr(diagnosis, "_requirements", lambda: [name for name in found if name != "OpenJPEG"])
    monkeypatch.setattr(diagnosis, "probe", lambda names: {name: found[name] for name in names})
    for name in list(diagnosis.environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "home").mkdir()
    return found


def run(*words: str) -> tuple[int, str, str]:
    apart: dict[str, Any] = (
        {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    )  # before click 8.2
    result = CliRunner(**apart).invoke(main, ["doctor", *words], prog_name="sen2chain")
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.stdout, result.stderr


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- the real thing


def test_a_bare_user_gets_a_report_with_the_versions_that_are_loaded_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", "from sen2chain.cli import run; raise SystemExit(run())", "doctor", "--json"],
        cwd=tmp_path, env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    facts = json.loads(process.stdout)
    libraries = facts["libraries"]
    assert libraries["numpy"]["version"] == np.__version__
    assert libraries["rasterio"]["gdal"] == rasterio.__gdal_version__
    assert libraries["pyogrio"]["gdal"] == pyogrio.__gdal_version_string__
    assert libraries["pyproj"]["proj"] == pyproj.proj_version_str
    assert Path(libraries["pyproj"]["data"], "proj.db").exists()
    needed = {line.partition(">")[0] for line in importlib.metadata.requires("sen2chain") or [] if "extra" not in line}
    assert libraries.keys() == needed
    assert not any("error" in found for found in libraries.values())
    assert "version" in facts["openjpeg"] or facts["openjpeg"]["unused"]
    assert facts["machine"]["processors"] >= 1
    home = facts["folders"]["home"]
    assert home == {"path": str(tmp_path / "home" / "sen2chain_data"), "exists": False, "writable": True}
    assert facts["folders"]["temporary"] == {"path": str(tmp_path), "exists": True, "writable": True}
    assert facts["environment"] == {"OPJ_NUM_THREADS": "0", "TMPDIR": str(tmp_path)}, "the first is the program's own"
    assert facts["unusable"] == []
    assert everything(tmp_path) == ["home"]


def library(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / f"{name}-1.5.dist-info").mkdir()
    (folder / f"{name}-1.5.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.5\n", encoding="utf-8")


def test_each_broken_library_is_reported_and_the_others_are_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, "incomplete", "raise ImportError('libfoo.so.3: cannot open shared object file\\n\\x1b[2J')")
    library(tmp_path, "crashing", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    library(tmp_path, "leaving", "import sys\nprint('loud')\nsys.exit('no licence')")
    library(tmp_path, "sound", "print('loud')")
    monkeypatch.syspath_prepend(tmp_path)
    assert probe(["incomplete", "crashing", "leaving", "absent", "sound"]) == {
        "incomplete": {
            "version": "1.5",
            "error": r"ImportError: libfoo.so.3: cannot open shared object file\n\x1b[2J",
        },
        "crashing": {"error": "importing it kills the process (SIGSEGV)"},
        "leaving": {"error": "importing it ends the process (no licence)"},
        "absent": {"error": "it is not installed"},
        "sound": {"version": "1.5", "folder": str(tmp_path)},
    }


def test_a_library_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(tmp_path, "hanging", "import time\ntime.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(library_probes, "_PATIENCE", 0.5)
    assert probe(["hanging"]) == {"hanging": {"error": "it does not answer within 0.5 s"}}


def test_a_program_that_cannot_start_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import absent_library", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sen2chain.cli import run; raise SystemExit(run())"
    command = [sys.executable, "-c", code, "doctor"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own interpreter
    assert (process.returncode, process.stdout) == (6, "")
    said = "It cannot start (No module named 'absent_library'); install sen2chain and its libraries again."
    assert process.stderr == f"sen2chain: {said}\n"


def test_without_an_interpreter_to_start_every_library_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    found = probe(["numpy", "rasterio"])
    assert all("no process can be started" in facts["error"] for facts in found.values())


def test_a_foreign_proj_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJ_DATA", str(tmp_path))
    found = probe(["rasterio"])
    assert "proj.db" in found["rasterio"]["error"]
    (sentence,) = diagnosis._broken(found)
    assert sentence.endswith("unset PROJ_DATA, which leads it to another PROJ.")


# --- what the report says


@pytest.mark.usefixtures("no_probes")
def test_the_table_has_a_line_for_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    code, out, err = run()
    assert (code, err) == (0, "")
    for line in (
        "  numpy     2.0",
        "  pyproj    3.7, PROJ 9.5, 2 grids, network off, data in there",
        "  OpenJPEG  2.5.3, from rasterio: there",
        f"  home         {tmp_path}/home/sen2chain_data (does not exist, can be created)",
        f"  cache        {tmp_path}/cache (does not exist, can be created)",
        f"  temporary    {tmp_path} (can be written)",
        f"  SEN2CHAIN_CACHE  {tmp_path}/cache",
    ):
        assert line in out.splitlines(), line
    assert everything(tmp_path) == ["home"]


def test_what_is_broken_gives_exit_code_6_and_a_sentence(no_probes: dict[str, dict[str, Any]]) -> None:
    no_probes["numpy"] = {"error": "it is not installed"}
    code, out, err = run()
    assert code == 6
    assert "  numpy     -  CANNOT BE USED: it is not installed" in out.splitlines()
    assert err == "sen2chain: numpy cannot be used (it is not installed); install it anew.\n"
    code, out, err = run("--json")
    assert code == 6
    assert json.loads(out)["unusable"] == ["numpy cannot be used (it is not installed); install it anew."]


def test_without_openjpeg_the_reason_is_a_remark(no_probes: dict[str, dict[str, Any]]) -> None:
    no_probes["OpenJPEG"] = {"unused": "SEN2CHAIN_OPENJPEG is off.", "passed_over": []}
    code, out, _ = run()
    assert code == 0
    assert "  OpenJPEG  not used: SEN2CHAIN_OPENJPEG is off." in out.splitlines()
    assert "! SEN2CHAIN_OPENJPEG is off. GDAL decodes JPEG 2000 files, which takes longer." in out.splitlines()
    no_probes["OpenJPEG"] = SOUND["OpenJPEG"] | {"passed_over": ["old.so (pillow) is version 2.4.0"]}
    assert "there; passed over: old.so (pillow) is version 2.4.0" in run()[1]


def test_extras_are_told_with_what_is_missing(
    no_probes: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["numpy>=2", 'click>=8; extra == "shown"', "pystac-nonsense>=1; extra == 'stac'", "click; extra == 'stac'"]
    monkeypatch.setattr(diagnosis, "_requirement_lines", lambda: lines)
    assert no_probes
    code, out, _ = run()
    assert code == 0
    found = importlib.metadata.version("click")
    assert f"  shown  click {found}" in out.splitlines()
    assert '  stac   not complete, pystac-nonsense missing: pip install "sen2chain[stac]"' in out.splitlines()
    assert json.loads(run("--json")[1])["extras"]["stac"] == {"pystac-nonsense": "", "click": found}


def test_missing_grids_are_a_remark(no_probes: dict[str, dict[str, Any]]) -> None:
    no_probes["pyproj"]["grids"] = 0
    assert "! PROJ has no grids" in run()[1]
    no_probes["pyproj"]["network"] = True
    assert "! PROJ has no grids" not in run()[1]


@pytest.mark.usefixtures("no_probes")
def test_variables_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "no")
    monkeypatch.setenv("SEN2CHAIN_WORKERS_TIMEOUT", "long")
    code, _, err = run()
    assert code == 6
    assert "SEN2CHAIN_OPENJPEG is 'no'; set it to off" in err
    assert "SEN2CHAIN_WORKERS_TIMEOUT is 'long'" in err


@pytest.mark.usefixtures("no_probes")
def test_no_password_and_no_token_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "GDAL_HTTP_USERPWD": "me:hush",
        "GDAL_HTTP_HEADERS": "Authorization: hush",
        "GDAL_HTTP_PROXY": "http://me:hush@proxy",
        "PROJ_NETWORK_ENDPOINT": "https://me:hush@cdn.proj.org",
        "SEN2CHAIN_ELSEWHERE": "https://host/path?signature=hush",
        "GDAL_OTHER": "x;Bearer hush",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "HUSH": "hush",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GDAL_CACHEMAX", "200\x1b[2J")
    for words in ([], ["--json"]):
        code, out, _ = run(*words)
        assert code == 0
        assert "hush" not in out
        assert "GDAL_HTTP_USERPWD" in out
        assert "HUSH" not in out
        assert "\x1b" not in out
    assert diagnosis.environment()["GDAL_CACHEMAX"] == r"200\x1b[2J"
    assert diagnosis.environment()["GDAL_OTHER"] == diagnosis.HIDDEN
    assert diagnosis.environment()["AWS_SECRET_ACCESS_KEY"] == diagnosis.HIDDEN


# --- folders


@pytest.mark.usefixtures("no_probes")
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "! This user has no home folder; set HOME or SEN2CHAIN_HOMEPATH" in out
    assert "! The cache cannot be written, so nothing is kept between runs; set SEN2CHAIN_CACHE" in out


@pytest.mark.usefixtures("no_probes")
def test_folders_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = tempfile.TemporaryFile

    def locked(dir: Path) -> Any:  # noqa: A002  # as the real one calls it
        if dir.is_relative_to(Path(diagnosis.__file__).parents[1]):
            raise OSError(30, "Read-only file system")
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", locked)
    code, out, _ = run()
    assert code == 0
    assert f"numba cache  {tmp_path}/home/.cache/numba (does not exist, can be created)" in out
    (tmp_path / "a file").touch()
    for name in ("SEN2CHAIN_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "a file" / "x"))
    code, out, _ = run()
    assert code == 0
    assert f"cache        {tmp_path}/a file/x (does not exist, cannot be created (Not a directory))" in out
    assert "! The cache cannot be written" in out
    assert "! No folder for numba's cache can be written, so each run compiles anew; set NUMBA_CACHE_DIR" in out
    assert everything(tmp_path) == ["a file", "home"]


@pytest.mark.usefixtures("no_probes")
def test_without_a_temporary_folder_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    code, out, err = run()
    assert code == 6
    assert "  temporary    - (No usable temporary directory found in ['/tmp'])" in out.splitlines()
    assert err == "sen2chain: No temporary folder can be written; set TMPDIR to one that can.\n"


@pytest.mark.usefixtures("no_probes")
def test_an_archive_that_is_none_and_a_broken_configuration(tmp_path: Path) -> None:
    code, _, err = run("--library", str(tmp_path / "home"))
    assert code == 6
    assert "home is not a library" in err
    config = tmp_path / "home" / "sen2chain_data" / "config" / "config.cfg"
    config.parent.mkdir(parents=True)
    config.write_text("no section", encoding="utf-8")
    code, out, err = run()
    assert code == 6
    assert "config.cfg cannot be read" in err
    assert "  home         - (The configuration" in out
