"""The command that reads twenty thousand damaged JPEG 2000 files.

``python tests/damaged_codestreams.py --runs 20000`` damages small files of all forms - headers, table of tile-parts,
packets, boxes, the zip file around them - and reads windows of each in processes of their own, which may not need long,
nor much memory, nor crash. Each window is refused with an `UnreadableError`, or is an array of the right shape; what no
damage touches has the pixels of the sound file, and what is not there is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest.mock
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from damaged_files import damage, forms, write_all
from sen2chain import jpeg2000
from sen2chain.coverage import TouchedBlocks
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.jpeg2000 import Box, file_bytes
from sen2chain.rasters import Raster, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from damaged_files import Pixels, Window

SECONDS = 60.0
"""What a case may take; the machine may have other work."""
MEMORY = 1 << 30
"""Bytes of address space that a worker may take on top of what it has after its start."""
GROWTH = 350 << 20
"""Bytes of address space and of memory that reading the windows of one small file may take."""


class Case:
    """Reading the windows of one damaged file, in a worker.

    Parameters
    ----------
    folder
        The sound files; damaged ones are written there.
    seed
        What is damaged, and how it is read.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.damaged, self.seed = damage(folder, seed), seed
        self.rng = random.Random(-seed)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.path = path = folder / f"damaged{os.getpid()}.jp2"
        self.location = str(path)
        form = self.rng.choices([None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], [8, 1, 1])[0]
        path.write_bytes(self.damaged.data)
        if form is not None:
            archive = path.with_suffix(".zip")
            with zipfile.ZipFile(archive, "w", form) as opened:
                opened.write(path, "a.jp2")
            self.location = f"/vsizip/{archive}/a.jp2"

    def fault(self, what: str) -> None:
        """Note what should not be."""
        self.faults.append(what)

    def run(self) -> dict[str, Any]:
        """Read the file, with the module and now and then without, and tell what became of it."""
        begin = time.perf_counter()
        with self._watched_bytes():
            found = self._read()
            if self.rng.random() < 0.3:
                self._read_alone()
        if found and self.rng.random() < 0.15:
            with unittest.mock.patch.dict(os.environ, {"SEN2CHAIN_OPENJPEG": "off"}):
                self._compare(found, self._read(found))
        return {
            "seed": self.seed, "how": self.damaged.name, "form": self.damaged.form.name,
            "faults": self.faults, "counts": self.counts, "seconds": time.perf_counter() - begin,
        }  # fmt: skip

    def _read(self, windows: dict[Window, Pixels | None] | None = None) -> dict[Window, Pixels | None]:
        """Read some windows of the file: window -> its pixels, None where it is refused."""
        named = windows is not None
        self.counts["opened" if not named else "opened without"] += 1
        found: dict[Window, Pixels | None] = {}
        try:
            with environment(), Raster(self.location) as raster:
                shape = raster.grid.shape
                before = memory()
                for window in list(windows or self._windows(raster)):
                    if window[1] <= shape[0] and window[3] <= shape[1]:
                        found[window] = self._window(raster, window)
                    if not named:
                        self._check(raster, window, found.get(window))
                if not named and self.rng.random() < 0.3:
                    self._threads(raster)
                if not named and self.rng.random() < 0.3:
                    self._overview(raster)
                if not named:
                    self._check_memory(before)
        except RasterError as error:
            self._sentence(error)
            self.counts["refused at opening" if not named else "refused at opening without"] += 1
        return found

    def _read_alone(self) -> None:
        """Read the file with the module alone: GDAL, which opens rasters, refuses many files before it sees them."""
        location = self.location
        if self.rng.random() < 0.5 and self.damaged.how != ["box"]:  # the codestream alone
            path = self.path.with_suffix(".j2k")
            path.write_bytes(self.damaged.data[self.damaged.form.stream :])
            location = str(path)
        library, file = jpeg2000.library(), jpeg2000.open_bytes(location)
        assert library is not None
        assert file is not None

        def otherwise(*_: object) -> None:
            raise UnreadableError("GDAL would read it")

        before = memory()
        try:
            with file:
                windows = jpeg2000.Jpeg2000Windows(library, file)
                height, width = windows.shape
                if height * width > 1 << 22:
                    self.counts["alone: too large"] += 1
                    return
                out = np.zeros((height, width), np.int32)
                boxes = boxes_of((0, height, 0, width), windows.cell_shape, windows.shape)
                for _, decode in windows.pieces(boxes, Box(0, height, 0, width), out, otherwise):
                    try:
                        decode()
                        self.counts["alone: read"] += 1
                    except UnreadableError:
                        self.counts["alone: refused"] += 1
        except jpeg2000.UnknownFormError:
            self.counts["alone: left to GDAL"] += 1
        except UnreadableError:
            self.counts["alone: refused at opening"] += 1
        self._check_memory(before)

    def _sentence(self, error: RasterError) -> None:
        """Check the sentence of an error."""
        if self.location not in str(error) or "\n" in str(error):
            self.counts["odd sentence"] += 1

    def _windows(self, raster: Raster) -> Iterator[Window]:
        """Choose windows: inside cells, over their edges, whole cells, and the whole raster."""
        high, wide = raster.block_shape
        height, width = raster.grid.shape
        if height * width > 1 << 20:  # the damage made it large
            height, width = min(height, 1024), min(width, 1024)
        # What is left to GDAL may take long, and is not what is tested here.
        for _ in range(1 if raster._windows is None else 4):
            i, j = self.rng.randrange(-(-height // high)), self.rng.randrange(-(-width // wide))
            bottom, right = min((i + 1) * high, height), min((j + 1) * wide, width)
            if self.rng.random() < 0.2:
                yield i * high, bottom, j * wide, right
                continue
            first, left = self.rng.randrange(i * high, bottom), self.rng.randrange(j * wide, right)
            yield first, self.rng.randint(first + 1, bottom), left, self.rng.randint(left + 1, right)
        if self.rng.random() < 0.3:
            yield 0, height, 0, width

    def _window(self, raster: Raster, window: Window) -> Pixels | None:
        """Read a window, by `read` or by `read_blocks`; None where it is refused."""
        first, last, left, right = window
        high = raster.block_shape[0]
        rows = first // high * high, min(-(-last // high) * high, raster.grid.shape[0])
        guard = 2
        whole = np.full((rows[1] - rows[0] + 2 * guard, raster.grid.shape[1]), 77, raster.dtype)
        out = whole[guard:-guard]
        try:
            if self.rng.random() < 0.2:
                data: Pixels = raster.read((first, last), (left, right))
            else:
                raster.read_blocks(touched(raster, window), rows, out)
                data = out[first - rows[0] : last - rows[0], left:right].copy()
        except UnreadableError as error:
            self._sentence(error)
            self.counts["refused"] += 1
            return None
        finally:
            if (whole[:guard] != 77).any() or (whole[-guard:] != 77).any():
                self.fault("written outside of the array")
        self.counts["read"] += 1
        if data.shape != (last - first, right - left) or data.dtype != raster.dtype:
            self.fault(f"an array of {data.shape} {data.dtype} for {window} of {raster.dtype}")
        return data

    def _check(self, raster: Raster, window: Window, data: Pixels | None) -> None:
        """Compare a window with the sound file."""
        form, damaged = self.damaged.form, self.damaged
        if data is None:
            return
        tiles = form.tiles_of(window)
        if tiles & damaged.lost:
            self.fault(f"{window} was read, and tiles {sorted(tiles & damaged.lost)} are not there")
        if damaged.all_hurt or tiles & damaged.hurt:
            self.counts["read with damage"] += 1
            return
        if raster.dtype != form.pixels.dtype or not self.same(
            form.pixels[window[0] : window[1], window[2] : window[3]], data
        ):
            self.fault(f"{window} has other pixels than the sound file")

    def same(self, first: Pixels, second: Pixels) -> bool:
        """Whether two windows have the same pixels, of lossy files but for rounding."""
        most = int(self.damaged.form.name == "lossy")
        return first.shape == second.shape and bool(
            (np.abs(first.astype(np.int64) - second.astype(np.int64)) <= most).all()
        )

    def _compare(self, ours: dict[Window, Pixels | None], theirs: dict[Window, Pixels | None]) -> None:
        """Compare with what GDAL reads of the damaged file."""
        for window, data in ours.items():
            other = theirs.get(window)
            if data is None or other is None:
                if data is not None:
                    self.counts["GDAL refuses it"] += 1
                elif other is not None:
                    self.counts["GDAL reads it"] += 1
                continue
            same = self.same(data, other)
            hurt = self.damaged.all_hurt or bool(self.damaged.form.tiles_of(window) & self.damaged.hurt)
            self.counts[f"GDAL: {'same' if same else 'other'} pixels{' of damaged tiles' if hurt else ''}"] += 1
            if not same and not hurt:
                self.fault(f"{window} has other pixels than those of GDAL")

    def _threads(self, raster: Raster) -> None:
        """Decode everything in several threads at once."""
        height, width = raster.grid.shape
        if height * width > 1 << 20:
            return
        out = np.zeros((height, width), raster.dtype)

        def run(piece: Callable[[], None]) -> bool:
            with environment():
                try:
                    piece()
                except UnreadableError:
                    return False
                return True

        with ThreadPoolExecutor(3) as pool:
            done = list(pool.map(run, raster.pieces(touched(raster, (0, height, 0, width)), (0, height), out)))
        if all(done):
            self._check(raster, (0, height, 0, width), out)
        self.counts["pieces in threads"] += len(done)

    def _overview(self, raster: Raster) -> None:
        """Read a part of the picture at a reduced resolution, and compare it with that of the sound file."""
        level = raster.overview_level(self.rng.choice([2, 4]))
        height, width = (-(-n // level) for n in raster.grid.shape)
        if level == 1 or height * width > 1 << 20:
            return
        first, left = self.rng.randrange(height), self.rng.randrange(width)
        part = first, self.rng.randint(first + 1, height), left, self.rng.randint(left + 1, width)
        out = np.zeros((height, width), raster.dtype)
        try:
            raster.read_overview(level, np.array([part], np.int64), out)
        except UnreadableError as error:
            self._sentence(error)
            self.counts["overview refused"] += 1
            return
        self.counts["overview read"] += 1
        form, (high, wide) = self.damaged.form, raster.grid.shape
        window = part[0] * level, min(part[1] * level, high), part[2] * level, min(part[3] * level, wide)
        tiles = form.tiles_of(window)
        if tiles & self.damaged.lost:
            self.fault(
                f"overview {level}: {part} was read, and tiles {sorted(tiles & self.damaged.lost)} are not there"
            )
        if self.damaged.all_hurt or tiles & self.damaged.hurt:
            return
        sound = form.overviews[level][part[0] : part[1], part[2] : part[3]]
        if not self.same(sound, out[part[0] : part[1], part[2] : part[3]]):
            self.fault(f"overview {level}: {part} has other pixels than the sound file")

    @contextlib.contextmanager
    def _watched_bytes(self) -> Iterator[None]:
        """Check each read of the file."""
        reads = file_bytes.FileBytes.read

        def read(this: file_bytes.FileBytes, offset: int, length: int) -> bytes:
            if not 0 <= offset <= this.size or length < 0 or length > max(this.size, 1 << 20):
                self.fault(f"{length} bytes asked for at {offset} of {this.size}")
            return reads(this, offset, length)

        with unittest.mock.patch.object(file_bytes.FileBytes, "read", read):
            yield

    def _check_memory(self, before: dict[str, int]) -> None:
        after = memory()
        for what, bytes_before in before.items():
            if after[what] - bytes_before > GROWTH:
                self.fault(f"{what} grew by {after[what] - bytes_before >> 20} MB")


def touched(raster: Raster, window: Window) -> TouchedBlocks:
    """The blocks of a raster that a window touches."""
    return TouchedBlocks(boxes_of(window, raster.block_shape, raster.grid.shape))


def boxes_of(window: Window, block_shape: tuple[int, int], shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """The parts of a window in each block of a raster, as `TouchedBlocks.boxes`."""
    (high, wide), (height, width) = block_shape, shape
    boxes = np.zeros((-(-height // high), -(-width // wide), 4), np.int32)
    boxes[...] = height, 0, width, 0
    for i in range(window[0] // high, (window[1] - 1) // high + 1):
        for j in range(window[2] // wide, (window[3] - 1) // wide + 1):
            boxes[i, j] = (
                max(window[0], i * high), min(window[1], (i + 1) * high),
                max(window[2], j * wide), min(window[3], (j + 1) * wide),
            )  # fmt: skip
    return boxes


def memory() -> dict[str, int]:
    """Largest address space and memory of this process in bytes; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    facts = dict(line.split(":", 1) for line in lines)
    return {name: int(facts[key].split()[0]) << 10 for name, key in (("address space", "VmPeak"), ("memory", "VmHWM"))}


def serve(folder: Path) -> None:
    """Read the damaged file of each seed that comes in, and print what became of it."""
    faulthandler.enable()
    for form, _ in forms(folder)[:2]:  # so that kernels and libraries are loaded
        with environment(), Raster(str(folder / f"{form.name}1.jp2")) as raster:
            raster.read((0, raster.grid.shape[0]), (0, raster.grid.shape[1]))
    taken = memory().get("address space")
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")  # of files that are not closed, which are told to this hook
    ignored: list[str] = []
    sys.unraisablehook = lambda error: ignored.append(f"ignored: {error.exc_value} in {error.object}")
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        seed = int(line)
        try:
            result = Case(folder, seed).run()
        except Exception:  # noqa: BLE001  # any is a fault
            result = {
                "seed": seed,
                "how": "?",
                "form": "?",
                "faults": [traceback.format_exc()],
                "counts": {},
                "seconds": 0,
            }
        result["faults"] += ignored
        ignored.clear()
        print(json.dumps(result), flush=True)  # noqa: T201


class Worker:
    """A process that reads damaged files; another takes its place where it crashes or hangs.

    Parameters
    ----------
    folder
        The sound files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._errors = folder / f"errors{threading.get_ident()}"
        self._process: subprocess.Popen[bytes] | None = None

    def case(self, seed: int) -> dict[str, Any]:
        """Let the process read the damaged file of a seed.

        Returns
        -------
        dict
            What `Case.run` returns.
        """
        if self._process is None:
            self._start()
        process = cast("subprocess.Popen[bytes]", self._process)
        cast("IO[bytes]", process.stdin).write(b"%d\n" % seed)
        answer = self._line(SECONDS)
        if isinstance(answer, str):
            damaged = damage(self._folder, seed)
            facts = {"seed": seed, "how": damaged.name, "form": damaged.form.name, "counts": {}, "seconds": 0}
            return facts | {"faults": [answer]}
        result: dict[str, Any] = json.loads(answer)
        return result

    def _start(self) -> None:
        """Start the process, and wait until it is ready."""
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter
                [sys.executable, __file__, "--serve", str(self._folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
                # Each of several arenas of the system's memory would take address space of its own.
                env=os.environ | {"MALLOC_ARENA_MAX": "1"},
            )  # fmt: skip
        if (answer := self._line(10 * SECONDS)) != b"ready\n":
            raise RuntimeError(f"a worker did not start: {answer!r}")

    def _line(self, seconds: float) -> bytes | str:
        """Return the line that the process prints; where it does not in so many seconds, stop it and say why."""
        back = cast("IO[bytes]", cast("subprocess.Popen[bytes]", self._process).stdout)
        answer, end = b"", time.monotonic() + seconds
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([back], [], [], max(0.0, end - time.monotonic()))
            part = os.read(back.fileno(), 1 << 16) if ready else b""
            if not part:
                code = self.close()
                said = self._errors.read_text(errors="replace")[-3000:]
                return f"ended with {code}: {said}" if ready else f"took more than {seconds} s"
            answer += part
        return answer

    def close(self) -> int:
        """Stop the process and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            cast("IO[bytes]", process.stdin).close()
            process.wait(1)
        process.kill()
        code = process.wait()
        cast("IO[bytes]", process.stdout).close()
        return code


def run(folder: Path, seeds: range, workers: int) -> Iterator[dict[str, Any]]:
    """Read the damaged files of all seeds in processes, and yield what became of each, in order."""
    own = threading.local()
    all_workers: list[Worker] = []

    def case(seed: int) -> dict[str, Any]:
        if not hasattr(own, "worker"):
            own.worker = Worker(folder)
            all_workers.append(own.worker)
        return cast("Worker", own.worker).case(seed)

    if not list(folder.glob("*.jp2")):
        write_all(folder)
    forms(folder)
    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(case, seeds)
    finally:
        for worker in all_workers:
            worker.close()


def main() -> None:
    """Read as many damaged files as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file (default: 0)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--keep", type=Path, help="folder for the files that showed a fault")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    counts, kinds, slowest, faults = Counter[str](), Counter[str](), (0.0, 0), 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n, result in enumerate(run(folder, range(options.seed, options.seed + options.runs), options.workers)):
            counts.update(result["counts"])
            kinds[result["how"]] += 1
            slowest = max(slowest, (result["seconds"], result["seed"]))
            faults += bool(result["faults"])
            for fault in result["faults"]:
                print(f"seed {result['seed']}, {result['form']}, {result['how']}: {fault}", flush=True)  # noqa: T201
            if result["faults"] and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{result['seed']}.jp2").write_bytes(damage(folder, result["seed"]).data)
            if (n + 1) % 500 == 0:
                seconds = time.perf_counter() - begin
                print(f"{n + 1} files in {seconds:.0f} s, {faults} with faults: {dict(counts)}", flush=True)  # noqa: T201
    print(f"{dict(counts)}\n{dict(kinds)}\nslowest: {slowest[0]:.2f} s, seed {slowest[1]}")  # noqa: T201
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
