"""Probes of the libraries: each is imported, asked for versions, and tried on the one thing that most often fails.

`probe` runs them in a process of their own, because a library that is damaged, or built for another processor, kills
the process that imports it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sen2chain.errors import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ERROR = "error"
"""Key of a finding that says why a library cannot be used."""
OPENJPEG = "OpenJPEG"
"""Name of the one library that is not a package of Python."""

_MARK = "sen2chain-probe "
_PATIENCE = 120.0  # seconds for a process; a slow network file system takes many
_EPSG = 32632  # any CRS that PROJ looks up in its database

# The search path of the process that asks, whatever the environment would make of it.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from sen2chain.cli.library_probes import answer
answer(sys.argv[2:])
"""


def probe(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Probe libraries in another process, and go on with the next where that process dies.

    Parameters
    ----------
    names
        Names of distributions, or `OPENJPEG`.

    Returns
    -------
    dict
        Name -> what was found; ``"error"`` is one of its keys where the library cannot be used.
    """
    left, found = list(names), dict[str, dict[str, Any]]()
    while left:
        answers, cause = _ask(left)
        found |= answers
        left = left[len(answers) :]
        if left:
            found[left.pop(0)] = {ERROR: cause}
    return found


def _ask(names: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """Run a process that probes, and return its answers and why it ended before the last one."""
    command = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), *names]
    cause = ""
    try:
        run = subprocess.run(  # noqa: S603  # our own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
        written, said, code = run.stdout, run.stderr, run.returncode
    except subprocess.TimeoutExpired as error:
        written, said, code = error.stdout or b"", b"", 0
        cause = f"it does not answer within {_PATIENCE:g} s"
    except (OSError, ValueError) as error:
        return {}, escaped(f"no process can be started ({error})")
    answers = {}
    for line in written.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            name, answer = json.loads(line.removeprefix(_MARK))
            answers[name] = answer
    return answers, cause or _death(code, said)


def _death(code: int, said: bytes) -> str:
    """Return what ended a process: a signal, or the last line that it wrote."""
    if code < 0:
        try:
            return f"importing it kills the process ({signal.Signals(-code).name})"
        except ValueError:
            return f"importing it kills the process (signal {-code})"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return escaped(f"importing it ends the process ({lines[-1] if lines else f'exit code {code}'})")


# ------------------------------------------------------------------------------------------- in the process that probes


def answer(names: list[str]) -> None:
    """Probe libraries and write a line for each to standard output."""
    for name in names:
        sys.stdout.write(f"{_MARK}{json.dumps([name, _probed(name)])}\n")
        sys.stdout.flush()


def _probed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        if name != OPENJPEG:
            found["version"] = importlib.metadata.version(name)
            module = importlib.import_module(name)
            found["folder"] = str(Path(module.__file__ or "").parent)
        if more := _DETAILS.get(name):
            more(found)
    except importlib.metadata.PackageNotFoundError:
        found[ERROR] = "it is not installed"
    except Exception as error:  # noqa: BLE001  # whatever a broken library raises is what is asked for
        found[ERROR] = escaped(f"{type(error).__name__}: {str(error).strip() or 'no message'}")
    return found


def _numba(found: dict[str, Any]) -> None:
    import numba

    found["llvmlite"] = importlib.import_module("llvmlite").__version__
    numba.njit("int64(int64)")(_next)(1)  # compiled for this processor


def _next(number: int) -> int:
    return number + 1


def _rasterio(found: dict[str, Any]) -> None:
    import rasterio

    found["gdal"] = rasterio.__gdal_version__
    if proj := getattr(rasterio, "__proj_version__", ""):  # not in older versions
        found["proj"] = proj
    with rasterio.Env() as environment:
        missing = {"JP2OpenJPEG", "GTiff"} - set(environment.drivers())
    if missing:
        hint = "; with conda, install libgdal-jp2openjpeg" if "JP2OpenJPEG" in missing else ""
        raise ImportError(f"its GDAL has no driver {' and '.join(sorted(missing))}{hint}")
    rasterio.CRS.from_epsg(_EPSG).to_wkt()  # fails where PROJ_DATA or PROJ_LIB is the folder of another PROJ


def _pyogrio(found: dict[str, Any]) -> None:
    import pyogrio

    found["gdal"] = pyogrio.__gdal_version_string__
    if not pyogrio.list_drivers().get("GPKG"):
        raise ImportError("its GDAL has no driver GPKG")


def _pyproj(found: dict[str, Any]) -> None:
    import pyproj

    datadir: Any = importlib.import_module("pyproj.datadir")  # its annotations lack a documented function
    found["proj"] = pyproj.proj_version_str
    folders = [datadir.get_data_dir(), datadir.get_user_data_dir()]
    found["data"] = folders[0]
    # The first may be a list of folders, as PATH is.
    places = {Path(place) for folder in folders for place in folder.split(";" if sys.platform == "win32" else ":")}
    found["grids"] = sum(1 for place in places if place.is_dir() for _ in place.glob("*.tif"))
    found["network"] = bool(importlib.import_module("pyproj.network").is_network_enabled())
    pyproj.CRS.from_epsg(_EPSG)


def _openjpeg(found: dict[str, Any]) -> None:
    from sen2chain.jpeg2000 import openjpeg

    library = openjpeg.library()
    if library:
        found |= {"version": library.version, "path": library.path, "origin": library.origin}
    else:
        found["unused"] = openjpeg.unavailable()
    found["passed_over"] = list(openjpeg.passed_over())


_DETAILS: dict[str, Callable[[dict[str, Any]], None]] = {
    "numba": _numba,
    "rasterio": _rasterio,
    "pyogrio": _pyogrio,
    "pyproj": _pyproj,
    OPENJPEG: _openjpeg,
}
"""Library -> what adds more facts, and raises an error where it does not work."""
