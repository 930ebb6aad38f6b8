"""Runs of `produce` that are killed: what is done to them, and the command that kills two hundred of them.

``python tests/product_faults.py --runs 200`` kills so many runs at random moments, each in a library of its own. After
each, whatever is there under a final name must be whole, an extraction must give the rows that it gives from bands, and
the description of the library must count whole files alone. The next run must complete the work, to the files of a run
that nothing disturbed, and leave nothing behind. Some runs are killed twice, and some race another.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from fork_server import ForkServer, serve
from sen2chain import Index, Mask, TimeSeries, demo
from sen2chain.archive import open_target
from sen2chain.atomic import is_temporary
from sen2chain.inspection import read_contents
from sen2chain.produce import ProductRequest, plan_products, produce_files

# One tile on two days.
SCENE = demo.Scene(
    size=60, parcels=4, overpasses=demo.season(2), bands=("B04", "B08", "SCL", "CLDPRB"), tiles=("31TGJ",)
)
SAVI = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
REQUEST = ProductRequest(
    indices=(Index.parse("NDVI"), SAVI), masks=(Mask.parse("CM001"), Mask.parse("CM004")), masked=True, workers=2
)
ASKED: dict[str, Any] = {"indices": ["NDVI", SAVI], "masks": [m.name for m in REQUEST.masks], "quiet": True}


def produce(library: str, result: str, *, force: bool = False) -> None:
    """Produce, in a process that may be killed any moment, and write what became of the files."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell ignores
    source = open_target(library)
    done = produce_files(plan_products(replace(REQUEST, force=force), source), source, quiet=True)
    Path(result).write_text(json.dumps({str(what): count for what, count in done.counts().items()}), encoding="utf-8")


def look(library: str, layer: str, result: str) -> None:
    """Extract from a library and describe it, and write the rows, and the number of stored rasters."""
    series = TimeSeries(layer, library=library, multiproc=1, **ASKED)
    rows = {index: frame.to_csv(index=False) for index, frame in series.data.items()}
    read_contents(open_target(library), quiet=True)
    Path(result).write_text(json.dumps(rows), encoding="utf-8")


@dataclass
class ProductFaults:
    """An archive of products, what an undisturbed run makes of it, and a server that forks runs.

    Parameters
    ----------
    folder
        Where everything lies.
    """

    folder: Path
    seconds: float = 0.0
    """What an undisturbed run takes."""
    want: dict[str, bytes] = field(default_factory=dict)
    """What it makes, by path in the library."""

    def __post_init__(self) -> None:
        made = demo.build(self.folder / "archive", SCENE)
        self.l2a, self.layer = made.library / "data" / "L2A", made.layer
        old = time.time() - 60
        for path in (self.folder / "archive").rglob("*"):
            os.utime(path, (old, old))
        self._server = ForkServer(__file__)
        empty = self.library("empty")
        self.rows = self.look(empty)
        for _ in range(2):  # the first one pays for the kernels
            want = self.library("want")
            begin = time.perf_counter()
            counts = self.run(want)
            self.seconds = time.perf_counter() - begin
        self.want = content(want)
        assert counts == {"made": len(self.want)}
        assert self.look(want) == self.rows, "rows from bands and from rasters differ"

    def close(self) -> None:
        """Stop the server."""
        self._server.close()

    def library(self, name: str) -> Path:
        """Return a new library of the products alone."""
        library = self.folder / name
        shutil.rmtree(library, ignore_errors=True)
        (library / "data").mkdir(parents=True)
        (library / "data" / "L2A").symlink_to(self.l2a)
        return library

    def start(self, library: Path, result: Path, *, force: bool = False) -> int:
        """Start a run and return its process."""
        return self._server.start("produce", library=library, result=result, force=force)

    def wait(self, process: int) -> int:
        """Wait for a process and return its exit code."""
        return self._server.wait(process)

    def run(self, library: Path) -> dict[str, int]:
        """Run to the end, and return what became of how many files."""
        result = self.folder / "result.json"
        assert self.wait(self.start(library, result)) == 0, f"a run on {library} failed"
        found: dict[str, int] = json.loads(result.read_text())
        return found

    def look(self, library: Path) -> dict[str, str]:
        """Extract from a library, describe it, and return the rows."""
        result = self.folder / "rows.json"
        process = self._server.start("look", library=library, layer=self.layer, result=result)
        assert self.wait(process) == 0, f"{library} could not be read"
        rows: dict[str, str] = json.loads(result.read_text())
        return rows

    def kill_once(self, seed: int) -> str:
        """Kill a run at a random moment, once or twice, look at what it left, and let the next one complete it.

        Returns
        -------
        str
            What was disturbed; an empty text if the run was over before.

        Raises
        ------
        AssertionError
            If something half-written was taken for a product, or the result is not that of an undisturbed run.
        """
        rng = random.Random(seed)
        library, result = self.library(f"run{seed}"), self.folder / f"run{seed}.json"
        how, force = [], rng.random() < 0.2
        if force:  # files that are there are made again
            self.run(library)
            how.append("again")
        for _ in range(rng.choice((1, 1, 2))):
            process = self.start(library, result, force=force)
            other = self.start(library, result.with_suffix(".other")) if rng.random() < 0.2 else None
            time.sleep(rng.random() * self.seconds * (1 if other is None else 2))
            os.kill(process, signal.SIGKILL)  # until it is waited for, a process that is over can be killed too
            code = self.wait(process)
            assert code in {0, -signal.SIGKILL}, f"run {seed} failed"
            if code:
                how.append("killed")
            if other is not None:
                assert self.wait(other) == 0, f"the run that raced run {seed} failed"
                how.append("raced")
        self._check(library, seed)
        if rng.random() < 0.25:
            assert self.look(library) == self.rows, f"run {seed}: other rows after it was killed"
        there = len(content(library))
        assert not force or there == len(self.want), f"run {seed}: only {there} files are left"
        counts = self.run(library)
        self._check(library, seed)
        assert counts.get("made", 0) + there == len(self.want), f"run {seed}: {counts} with {there} there"
        assert content(library).keys() == self.want.keys(), f"run {seed}: other files"
        left = [path for path in library.rglob("*") if is_temporary(path.name)]
        assert not left, f"run {seed}: left {left}"
        shutil.rmtree(library)
        result.unlink(missing_ok=True)
        result.with_suffix(".other").unlink(missing_ok=True)
        return " ".join(how)

    def _check(self, library: Path, seed: int) -> None:
        """Make sure that each file under a final name is that of an undisturbed run."""
        differ = [name for name, data in content(library).items() if data != self.want.get(name)]
        assert not differ, f"run {seed}: other content of {differ}"

    def race(self, seed: int, runs: int = 2) -> None:
        """Let runs work on the same library at once: together they make each file once.

        Raises
        ------
        AssertionError
            If a file was made twice, or a run failed.
        """
        library = self.library(f"race{seed}")
        results = [self.folder / f"race{seed}-{n}.json" for n in range(runs)]
        processes = [self.start(library, result) for result in results]
        assert [self.wait(process) for process in processes] == [0] * runs
        counts = Counter[str]()
        for result in results:
            found = json.loads(result.read_text())
            assert sum(found.values()) == len(self.want), found
            counts.update(found)
        assert counts["made"] == len(self.want), counts
        assert counts.keys() <= {"made", "kept", "made by another run"}, counts
        self._check(library, seed)
        shutil.rmtree(library)


def content(library: Path) -> dict[str, bytes]:
    """Pixels and tags of each raster of a library that has its final name, by its path."""
    found = {}
    for path in sorted(library.rglob("data/*/**/*.*")):
        if path.suffix in {".tif", ".jp2"} and "L2A" not in path.parts and not is_temporary(path.name):
            with rasterio.open(path) as file:
                pixels: Any = file.read()
                text = json.dumps([file.tags(), file.profile["dtype"], file.nodata, file.scales, file.overviews(1)])
            found[str(path.relative_to(library))] = np.ascontiguousarray(pixels).tobytes() + text.encode()
    return found


def main() -> None:
    """Kill as many runs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run (default: 0)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve({"produce": produce, "look": look})
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEN2CHAIN_CACHE"] = f"{folder}/cache"
        faults, seen = ProductFaults(Path(folder)), Counter[str]()
        print(f"undisturbed: {faults.seconds:.2f} s, {len(faults.want)} files")  # noqa: T201
        for n in range(options.runs):
            seen[faults.kill_once(options.seed + n) or "over before the kill"] += 1
            if (n + 1) % 25 == 0:
                print(f"{n + 1} runs completed to the undisturbed result: {dict(seen)}", flush=True)  # noqa: T201
        faults.close()


if __name__ == "__main__":
    main()
