from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen2chain import demo, jit
from sen2chain.jit import helper, kernel


@helper
def _double(x: float) -> float:
    return 2.0 * x


@kernel("float64(float64[::1])")
def total(values: Any) -> float:
    """Add up doubles."""
    s = 0.0
    for i in range(values.size):
        s += _double(values[i])
    return s


def test_a_kernel_is_compiled_once_when_first_called(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    machine_code = jit._machine_code

    def counted(function: Any, signatures: Any, **options: Any) -> Any:
        made.append(signatures)
        return machine_code(function, signatures, **options)

    monkeypatch.setattr(jit, "_machine_code", counted)
    assert total.__doc__ == "Add up doubles."
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(total, [np.arange(4.0)] * 20))
    assert found == [12.0] * 20
    assert made == [["float64(float64[::1])"]]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="No matching definition"):
        total(np.arange(4, dtype=np.float32))


def test_without_a_folder_for_the_cache_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    """A package that cannot be written, no home, and TMPDIR alone, as for a service user or in a container."""
    source = Path(jit.__file__).parent
    for file in source.rglob("*.py"):
        copy = tmp_path / "package" / "sen2chain" / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        (copy.parent / "__pycache__").touch()  # a file: no folder can be made in its place, not even by root
    scene = replace(demo.DEFAULT, size=60, parcels=4, overpasses=demo.season(2), damaged=(), reprocessed=())
    archive = demo.build(tmp_path / "archive", scene)
    work = tmp_path / "work"
    work.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH", "COVERAGE_RCFILE"}}
    process = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", RUN, str(archive.layer), str(archive.library)],
        env={**kept, "PYTHONPATH": str(tmp_path / "package"), "TMPDIR": str(work), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    notes, extracted, again = map(json.loads, process.stdout.splitlines())
    assert len(notes) == 1
    assert re.match(r"The kernels were compiled for this process alone \(\d+ in \d+ s\), because no folder", notes[0])
    assert extracted["failed"] == 0, extracted
    assert extracted["images"] == 4
    assert again == [], "it is said once"
    assert process.stderr.count("No folder for numba's cache can be written") == 1
    assert list(work.iterdir()) == [work / "out"], "no folder called ~"


RUN = """
import json, os, pwd, sys
def nobody(*_): raise KeyError
pwd.getpwuid = nobody  # the system does not know this user
from sen2chain import TimeSeries, TimeSeriesCompil
options = {"indices": ["NDVI"], "masks": ["CM001"], "library": sys.argv[2]}
ts = TimeSeries(sys.argv[1], **options)
assert ts.rows and not ts.incomplete, ts.report
print(json.dumps([note for note in ts.notes if "kernels" in note]))
compilation = TimeSeriesCompil(sys.argv[1], **options, extraction="out")
done = compilation.extract_data()
compilation.compile_data(alldata=True)
print(json.dumps({"failed": done.failed, "images": done.images}))
print(json.dumps([note for note in done.notes if "kernels" in note]))
"""


def test_a_disk_that_takes_no_machine_code_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_code = jit._machine_code

    def full(function: Any, signatures: Any, *, cache: bool) -> Any:
        if cache:
            raise OSError(28, "No space left on device")
        return machine_code(function, signatures, cache=cache)

    monkeypatch.setattr(jit, "_machine_code", full)
    jit.unsaved()
    assert kernel("float64(float64[::1])")(total._function)(np.arange(4.0)) == 6.0 * 2
    assert len(jit.unsaved()) == 1
    assert jit.unsaved() == []


ASK = """
from sen2chain.zonal import is_compiled, reduce
import numpy as np
before = is_compiled()
reduce.reduce_counted(np.zeros(1, np.int16), np.zeros(1, np.uint8), 1, np.array([0, 1]), np.array([0.5]))
print(before, is_compiled())
"""


def test_machine_code_is_kept_and_known_to_be(tmp_path: Path) -> None:
    def ask() -> str:
        where = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run(  # noqa: S603  # our own interpreter
            [sys.executable, "-c", ASK], env=where, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert ask() == "False True"
    assert ask() == "True True"
