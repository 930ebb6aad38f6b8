"""What belongs to the caller's process stays as it was: settings of libraries, warnings, signals, environment."""

from __future__ import annotations

import copy
import locale
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyogrio
import pytest
import rasterio
from click.testing import CliRunner
from pandas._config import config as pandas_config
from rasterio._env import del_gdal_config, get_gdal_config, set_gdal_config

from sen2chain import INDICES, Index, Mask, TimeSeries, TimeSeriesCompil, demo, rasters
from sen2chain.archive import open_target
from sen2chain.cli import main
from sen2chain.extract.extraction import extract
from sen2chain.parallel import apart, in_threads, recorded_warnings
from sen2chain.produce import ProductRequest, convert_rasters, plan_products, produce_files
from sen2chain.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
GDAL = (
    *rasters.GDAL_OPTIONS, "GDAL_CACHEMAX", "GDAL_DATA", "GTIFF_IMPLICIT_JPEG_OVR", "OGR_CURRENT_DATE", "CPL_DEBUG",
    "SHAPE_ENCODING",
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=60, parcels=4, overpasses=demo.season(4), damaged=((3, "32TLP", "B04"),))
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


def state() -> dict[str, Any]:
    """Everything of this process that a call might leave changed."""
    umask = os.umask(0)
    os.umask(umask)
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return {
        "rasterio's GDAL": {name: get_gdal_config(name, normalize=False) for name in GDAL},
        "pyogrio's GDAL": {name: pyogrio.get_gdal_config_option(name) for name in GDAL},
        "numpy": (np.geterr(), np.geterrcall(), np.get_printoptions(), np.random.get_state()[1].tolist()),  # type: ignore[index]  # noqa: NPY002  # the global state
        "pandas": copy.deepcopy(pandas_config._global_config),  # type: ignore[attr-defined]
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask of signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109  # as the system has it
        "umask": umask,
        "locale": locale.setlocale(locale.LC_ALL),
        "streams": [(id(stream), stream.errors, stream.encoding) for stream in streams],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "limits": (sys.getswitchinterval(), sys.getrecursionlimit(), threading.stack_size(), tempfile.tempdir),
        "loggers": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "threads": {thread.name for thread in threading.enumerate()},
    }


@contextmanager
def unchanged() -> Iterator[None]:
    before = state()
    try:
        yield
    finally:
        after = state()
        assert {name: value for name, value in after.items() if before[name] != value} == {}
        assert before.keys() == after.keys()


@pytest.fixture(autouse=True)
def _settings_of_the_caller() -> Iterator[None]:
    """Values that are not the defaults, in both copies of GDAL, so that resetting is no restoring."""
    cache = get_gdal_config("GDAL_CACHEMAX")
    mine = {"GDAL_NUM_THREADS": "3", "GDAL_PAM_ENABLED": "YES", "OGR_CURRENT_DATE": "2020-01-01T00:00:00.000Z"}
    with np.errstate(over="raise"):
        for name, value in mine.items():
            set_gdal_config(name, value)
        pyogrio.set_gdal_config_options(mine)
        set_gdal_config("GDAL_CACHEMAX", 50_000_000)
        try:
            yield
        finally:
            set_gdal_config("GDAL_CACHEMAX", cache)
            for name in mine:
                del_gdal_config(name)
            pyogrio.set_gdal_config_options(dict.fromkeys(mine))


def series(archive: demo.DemoArchive, **options: Any) -> TimeSeries:
    asked = {"indices": ["NDVI"], "masks": MASK, "library": archive.library, **options}
    return TimeSeries(archive.layer, **asked)


def broken(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("environment", [False, True])
@pytest.mark.parametrize("multiproc", [1, 3])
def test_a_run_leaves_the_process_as_it_was(
    archive: demo.DemoArchive, tmp_path: Path, multiproc: int, environment: bool  # noqa: FBT001  # a parameter of the test
) -> None:  # fmt: skip
    with ExitStack() as stack:
        if environment:  # inside of it, rasterio's own environments lose what was set outside of it
            stack.enter_context(rasterio.Env(GDAL_HTTP_TIMEOUT=7))
        stack.enter_context(unchanged())
        ts = series(archive, multiproc=multiproc)
        assert ts.rows
        assert ts.incomplete, "a damaged file"
        ts.to_csv(tmp_path)
        ts.to_parquet(tmp_path)


def test_while_a_run_goes_on_too(archive: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(*args: Any) -> Any:
        with rasters.environment():
            seen.append(apart(lambda: state()["rasterio's GDAL"]))  # as another thread sees them
        return extract(*args)

    monkeypatch.setattr("sen2chain.extract.executors.extract", look)
    before = state()["rasterio's GDAL"]
    for multiproc in (1, 3):
        assert series(archive, multiproc=multiproc).rows
    assert seen
    assert all(values == before for values in seen)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("multiproc", [1, 3])
@pytest.mark.parametrize("place", ["task", "caller"])
def test_a_run_that_ends_early_leaves_nothing_behind(
    archive: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch, place: str, multiproc: int, error: BaseException
) -> None:
    ts = series(archive, multiproc=multiproc)
    if place == "task":
        monkeypatch.setattr("sen2chain.extract.executors.extract", broken(error))
    else:
        monkeypatch.setattr(Spool, "add", broken(error))
    # The error is kept, with all its frames: nothing may wait for their end.
    with unchanged(), pytest.raises(type(error)) as kept:
        ts.run()
    assert kept.value is error


def test_compilations_leave_the_process_as_it_was(archive: demo.DemoArchive, tmp_path: Path) -> None:
    with unchanged():
        compilation = TimeSeriesCompil(
            archive.layer, indices=["NDVI"], masks=[MASK], library=archive.library, extraction=tmp_path, multiproc=2
        )
        compilation.extract_data()
        compilation.compile_data(alldata=True, monthly=True)


@pytest.mark.parametrize("multiproc", [1, 3])
def test_kept_pixels_leave_the_process_as_it_was(
    archive: demo.DemoArchive, tmp_path: Path, multiproc: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))  # without an archive
    monkeypatch.delenv("SEN2CHAIN_HOMEPATH", raising=False)
    options: dict[str, Any] = {"indices": ["NDVI"], "masks": [MASK], "multiproc": multiproc}
    with unchanged():
        keeping = TimeSeriesCompil(
            archive.layer, library=archive.library, extraction=tmp_path, keep_pixels=["B03", "B04", "B08"], **options
        )
        assert keeping.extract_data().images
        (pixels,) = {path.parent for path in keeping.folder.glob("pixels/31TGJ/*.pixels")}
        min(pixels.glob("*.pixels")).write_bytes(b"damaged")
        asked = TimeSeries(archive.layer, pixels_from=keeping.folder, **options)
        assert asked.rows
        assert asked.incomplete, "a damaged file"
        asked.to_pixels(tmp_path / "out")
        keeping.drop_pixels()


def test_commands_leave_the_process_as_it_was(archive: demo.DemoArchive, tmp_path: Path) -> None:
    words = ["--index", "NDVI", "--mask", MASK, "--library", str(archive.library), "--workers", "1"]
    home = tmp_path / "home" / "sen2chain_data"
    (home / "data").mkdir(parents=True)
    for command, code in (
        (["extract", str(archive.layer), *words, "--out", str(tmp_path)], 4),
        (["extract", str(archive.layer), *words, "--out", str(tmp_path), "--iterations", "many"], 2),
        (["extract", str(tmp_path / "absent.gpkg"), *words, "--out", str(tmp_path)], 1),
        (["update", str(archive.layer), *words, "--extraction", str(tmp_path), "--keep-pixels"], 4),
        (["extract", str(archive.layer), *words, "--pixels-from", str(tmp_path), "--out", str(tmp_path / "kept")], 4),
        (["pixels", str(archive.layer), *words, "--pixels-from", str(tmp_path), "--out", str(tmp_path / "pixels")], 4),
        (["pixels", str(archive.layer), "--extraction", str(tmp_path), "--drop"], 0),
        (["job", "new", "lakes", "--library", str(home)], 0),
        (["job", "run", "lakes", "--library", str(home)], 3),
    ):
        with unchanged():
            result = CliRunner().invoke(main, command)
        assert result.exit_code == code, result.output


def test_a_job_that_runs_in_a_thread_of_the_caller(tmp_path: Path) -> None:
    home = tmp_path / "home" / "sen2chain_data"
    (home / "data").mkdir(parents=True)
    assert main(["job", "new", "lakes", "--library", str(home)], standalone_mode=False) is None
    with unchanged(), ThreadPoolExecutor(1) as pool, pytest.raises(SystemExit) as ended:
        pool.submit(main, ["job", "run", "lakes", "--library", str(home)], standalone_mode=False).result()
    assert ended.value.code == 3, "no line is to be run"


def test_production_leaves_the_process_as_it_was(archive: demo.DemoArchive, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "L2A").symlink_to(archive.library / "data" / "L2A")
    legacy = tmp_path / "data/INDICES/BIGR/31TGJ" / str(archive.products[0])
    legacy.mkdir(parents=True)
    (legacy / f"{archive.products[0]}_BIGR.jp2").write_bytes(b"damaged")
    request = ProductRequest(indices=(INDICES["NDVI"],), masks=(Mask.parse("CM004"), Mask.parse("CM001")), workers=3)
    with unchanged():
        source = open_target(tmp_path)
        done = produce_files(plan_products(request, source), source)
        assert done.failed, "a damaged file"
        assert len(done.files) == len(done.made) - 1
        produce_files(plan_products(replace(request, mask_format="jp2", force=True), source), source)
        assert convert_rasters(source).counts() == {"converted": 1}
        (tmp_path / "data" / "L2A").unlink()
        assert convert_rasters(open_target(tmp_path), force=True).counts() == {"failed": 1}


def test_a_demo_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    with unchanged():
        demo.build(tmp_path, demo.Scene(size=60, parcels=4, overpasses=demo.season(1)))


def test_warnings_recorded_in_many_threads_leave_the_filters() -> None:
    def work(number: int) -> int:
        with recorded_warnings() as found:
            warnings.warn(f"remark {number}", RuntimeWarning, stacklevel=1)
        assert [str(one.message) for one in found] == [f"remark {number}"]
        return len(Index(f"A{number}", f"B08-{number}").bands)

    with unchanged(), ThreadPoolExecutor(8, thread_name_prefix="test") as pool:
        assert list(pool.map(work, range(200))) == [1] * 200


def test_threads_of_a_run_that_undo_each_other_s_filters_leave_the_callers() -> None:
    both, left = threading.Barrier(2, timeout=10), threading.Event()

    def work(number: int) -> None:
        with warnings.catch_warnings():  # as pandas does
            warnings.simplefilter("ignore")
            both.wait()
            if number:
                left.wait(10)
        left.set()

    with unchanged():
        list(in_threads(work, range(2), 2))
