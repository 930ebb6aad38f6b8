"""Set-up time, memory, growth with the number of dates, and start of the program; each measured in its own process."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import archive

if TYPE_CHECKING:
    from benchmarks.report import Report

_SETUP = """
import json, sys, time
from sen2chain import TimeSeries
from sen2chain.grid import nominal_grid
library, layer, warm = sys.argv[1:]
def prepare(layer):
    series = TimeSeries(layer, ["NDVI"], masks="CM004", iterations=1, library=library, quiet=True)
    coverages = series._engine.coverages()
    (tile,) = series.plan.tiles
    coverages.layouts.strips(coverages.get(nominal_grid(tile), tile).plan, 512)
    coverages.get(nominal_grid(tile).refined(20.0), tile, "center")
prepare(warm)  # imports and kernels
begin = time.perf_counter()
prepare(layer)
print(json.dumps(time.perf_counter() - begin))
"""

_RUN = """
import json, pathlib, re, sys, time
from sen2chain import TimeSeries
library, layer, out = sys.argv[1:]
begin = time.perf_counter()
series = TimeSeries(layer, ["NDVI"], masks="CM004", iterations=1, library=library, quiet=True)
series.to_csv(out, overwrite=True)
seconds = time.perf_counter() - begin
peak = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 2**20
print(json.dumps([seconds, peak]))
"""


def _python(code: str, *arguments: object, **environment: str) -> Any:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})  # noqa: S603
    return json.loads(run.stdout)


def _seconds(*command: str, **environment: str) -> float:
    code = "import json, subprocess, sys, time; b = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
    code += "stdout=subprocess.DEVNULL); print(json.dumps(time.perf_counter() - b))"
    return float(_python(code, *command, **environment))


def peak_memory(library: Path, layer: Path, out: Path) -> float:
    """Extract NDVI in a process of its own, and return the most memory that it had, GiB."""
    return float(_python(_RUN, library, layer, out)[1])


def measure(report: Report, folder: Path, tile: int) -> None:
    """Fill the table."""
    layer, small = archive.layer(folder, "XL", tile), archive.layer(folder, "S", tile)
    table = report.table("Set-up, memory, growth, start", "XL layer, COG, unless said otherwise.")
    few, many = (archive.archive(folder, "cog", n) for n in (4, 16))

    def row(what: str, value: str) -> None:
        table.row({"what": what, "measured": value})
        print(f"{what}: {value}", flush=True)

    first, saved = [], []
    for _ in range(report.repeats):
        cache = tempfile.mkdtemp(dir=folder)
        first.append(_python(_SETUP, few.library, layer, small, SEN2CHAIN_CACHE=cache))
        saved.append(_python(_SETUP, few.library, layer, small, SEN2CHAIN_CACHE=cache))
        shutil.rmtree(cache)
    row("set-up the first time (read, identify, reproject, plan)", f"{statistics.median(first):.2f} s")
    row("set-up from the saved plan", f"{statistics.median(saved):.2f} s")
    found = {n: _python(_RUN, a.library, layer, folder / "out") for n, a in ((4, few), (16, many))}
    row("peak memory, 4 dates", f"{found[4][1]:.2f} GiB")
    row("peak memory, 16 dates", f"{found[16][1]:.2f} GiB")
    row("time of 16 dates / time of 4 dates (whole runs)", f"{found[16][0] / found[4][0]:.2f}")
    starts = {name: [_seconds(*command) for _ in range(2 * report.repeats - 1)] for name, command in {
        "`import sen2chain`": (sys.executable, "-c", "import sen2chain"),
        "python alone": (sys.executable, "-c", ""),
        "`sen2chain --help`": (str(Path(sys.executable).with_name("sen2chain")), "--help"),
    }.items()}  # fmt: skip
    for name, times in starts.items():
        row(f"{name}, whole process", f"{statistics.median(times):.2f} s")
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        # numba's own variable moves its cache, so that everything is compiled anew; plans are made anew both times.
        times = [
            _python(_RUN, few.library, small, folder / "out", NUMBA_CACHE_DIR=empty, SEN2CHAIN_CACHE=f"{empty}/{k}")[0]
            for k in range(2)
        ]
    row("compilation on a fresh machine (first run less second run, S)", f"{times[0] - times[1]:.1f} s")
