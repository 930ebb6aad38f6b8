"""Runs that are killed: what is done to them, and the command that kills a thousand of them.

``python tests/faults.py --runs 1000`` kills so many runs at random moments, each on a folder of its own, lets the next
run complete the work, and compares every file of rows and every compiled file with those of a run that nobody
disturbed; runs that write Parquet keep pixels too, whose files are compared likewise. Some runs are killed twice; some
continue a folder into which a product has come since; some race another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fork_server import ForkServer, serve
from sen2chain import TimeSeriesCompil, demo

# Two tiles that overlap on three days, one of them processed twice: 7 products, of each of which two images are made.
SCENE = demo.Scene(
    size=90,
    parcels=8,
    overpasses=demo.season(3),
    bands=("B04", "B08", "SCL", "CLDPRB"),
    reprocessed=((2, "31TGJ"),),
)
ASKED: dict[str, Any] = {"indices": ["NDVI"], "multiproc": 1, "quiet": True, "masks": ["CM001", "CM004"]}


def work(library: str, layer: str, extraction: str, raw_format: Any) -> None:
    """Extract and compile, in a process that may be killed any moment."""
    options = {"raw_format": raw_format, "keep_pixels": raw_format == "parquet", **ASKED}
    series = TimeSeriesCompil(layer, library=library, extraction=extraction, **options)
    series.extract_data()
    series.compile_data(alldata=True, monthly=True, smoothing=True, window_length=3, polyorder=1, aggregate="mean")


@dataclass
class Faults:
    """An archive, the result of an undisturbed run on it, and a server that forks runs.

    Parameters
    ----------
    folder
        Where everything lies.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    """What an undisturbed run takes, by the form of its files of rows."""
    want: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """What it makes."""

    def __post_init__(self) -> None:
        made = demo.build(self.folder / "archive", SCENE)
        self.library, self.layer = made.library, made.layer
        old = time.time() - 60
        for path in (self.folder / "archive").rglob("*"):
            os.utime(path, (old, old))
        self._server = ForkServer(__file__)
        for raw_format in ("csv", "parquet"):
            for _ in range(2):  # the first one pays for the pixel plans and the kernels
                shutil.rmtree(self.folder / f"want-{raw_format}", ignore_errors=True)
                begin = time.perf_counter()
                self.run(self.folder / f"want-{raw_format}", raw_format)
                self.seconds[raw_format] = time.perf_counter() - begin
            self.want[raw_format] = content(self.folder / f"want-{raw_format}")

    def close(self) -> None:
        """Stop the server."""
        self._server.close()

    def start(self, extraction: Path, raw_format: str, library: Path | None = None) -> int:
        """Start a run and return its process."""
        library = library or self.library
        return self._server.start(
            "work", library=library, layer=self.layer, extraction=extraction, raw_format=raw_format
        )

    def wait(self, process: int) -> int:
        """Wait for a process and return its exit code."""
        return self._server.wait(process)

    def run(self, extraction: Path, raw_format: str, library: Path | None = None) -> None:
        """Run to the end."""
        assert self.wait(self.start(extraction, raw_format, library)) == 0, f"a run on {extraction} failed"

    def kill_once(self, seed: int) -> str:
        """Kill a run at a random moment, once or twice, and let the next one complete it.

        Returns
        -------
        str
            What was disturbed; an empty text if the run was over before.

        Raises
        ------
        AssertionError
            If the result is another than that of an undisturbed run.
        """
        rng = random.Random(seed)
        raw_format = rng.choice(("csv", "parquet"))
        extraction = self.folder / f"run{seed}"
        how = []
        if rng.random() < 0.3:
            self._without_a_product(extraction, raw_format, rng)
            how.append("continued")
        for _ in range(rng.choice((1, 1, 2))):
            process = self.start(extraction, raw_format)
            other = self.start(extraction, raw_format) if rng.random() < 0.2 else None
            time.sleep(rng.random() * self.seconds[raw_format] * (1 if other is None else 2))
            os.kill(process, signal.SIGKILL)  # until it is waited for, a process that is over can be killed too
            code = self.wait(process)
            assert code in {0, -signal.SIGKILL}, f"run {seed} failed"
            if code:
                how.append("killed")
            if other is not None:
                assert self.wait(other) == 0, f"the run that raced run {seed} failed"
                how.append("raced")
        self.run(extraction, raw_format)
        made, want = content(extraction), self.want[raw_format]
        assert made.keys() == want.keys(), f"run {seed}: other files"
        differ = [name for name, data in made.items() if data != want[name]]
        assert not differ, f"run {seed}: other content of {differ}"
        leftover = list(extraction.rglob(".*.tmp"))
        assert not leftover, f"run {seed}: left {leftover}"
        shutil.rmtree(extraction)
        return " ".join(how)

    def race(self, seed: int) -> None:
        """Let two runs work on the same folder at once.

        Raises
        ------
        AssertionError
            If the result is another than that of one run, or one of them failed.
        """
        extraction = self.folder / f"race{seed}"
        both = [self.start(extraction, "parquet") for _ in range(2)]
        assert [self.wait(process) for process in both] == [0, 0]
        assert content(extraction) == self.want["parquet"]

    def _without_a_product(self, extraction: Path, raw_format: str, rng: random.Random) -> None:
        """Let a run pass on an archive that lacks a product."""
        library = self.folder / f"{extraction.name}-archive"
        shutil.copytree(self.library, library, copy_function=os.link)
        shutil.rmtree(rng.choice(sorted((library / "data" / "L2A").glob("*/*.SAFE"))))
        self.run(extraction, raw_format, library)
        shutil.rmtree(library)


def content(extraction: Path) -> dict[str, bytes]:
    """All rows, compiled rows and kept pixels, and what the book says of these; neither times nor the rest of it."""
    found = {
        str(path.relative_to(extraction)): path.read_bytes()
        for path in sorted(extraction.rglob("*"))
        if path.is_file() and path.suffix in {".csv", ".parquet", ".shp", ".gpkg", ".pixels", ".positions"}
    }
    for ledger in extraction.glob("*/ledger.sqlite"):
        with contextlib.closing(sqlite3.connect(ledger)) as base:
            rows = base.execute("SELECT product, file, size, positions, margin, facts FROM pixels ORDER BY product")
            found["kept pixels"] = json.dumps(rows.fetchall()).encode()
    return found


def main() -> None:
    """Kill as many runs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first run (default: 0)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve({"work": work})
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEN2CHAIN_CACHE"] = f"{folder}/cache"
        faults, seen = Faults(Path(folder)), Counter[str]()
        print(f"undisturbed: {faults.seconds} s, {len(faults.want['csv'])} files")  # noqa: T201
        for n in range(options.runs):
            seen[faults.kill_once(options.seed + n) or "over before the kill"] += 1
            if (n + 1) % 50 == 0:
                print(f"{n + 1} runs equal to the undisturbed one: {dict(seen)}", flush=True)  # noqa: T201
        faults.close()


if __name__ == "__main__":
    main()
