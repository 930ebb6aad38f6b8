"""The same tasks serially, in threads, and on a real Dask scheduler with worker processes: the same rows."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import distributed
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numba.core.errors import NumbaError, TypingError

from sen2chain import Mask, TimeSeries, TimeSeriesCompil, demo
from sen2chain.cli import main
from sen2chain.errors import ExecutorError, LayerError, RequestError, UnknownNameError, UnreadableError
from sen2chain.extract import Coverages, RowRules, cluster, execute, executors, extraction, resolve_executor
from sen2chain.extract.cluster import Cluster, WorkerSetup
from sen2chain.extract.executors import Serial, Threads
from sen2chain.extract.extraction import TaskResult
from sen2chain.parallel import ahead, closed, in_threads
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.extract import Executor
    from sen2chain.plan import Task

MASKS = ["CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "SCL-3-8-9-10-11-ITER1"]


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Two tiles, one acquisition reprocessed, one file cut off."""
    scene = replace(demo.DEFAULT, size=120, parcels=16)
    return demo.build(tmp_path_factory.mktemp("season"), scene)


class Processes:
    """A scheduler and workers, as they run on a cluster."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1")
        self.workers: list[subprocess.Popen[bytes]] = []
        while not (self.file.exists() and self.file.read_text()):
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.address = str(json.loads(self.file.read_text())["address"])

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--scheduler-file", str(self.file)]
        return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603

    def add_worker(self) -> None:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(self._start("worker", *options))

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def running(folder: Path, workers: int = 2) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        for _ in range(workers):
            processes.add_worker()
        if workers:
            with distributed.Client(processes.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
        yield processes
    finally:
        processes.stop()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def series(season: demo.DemoArchive, **options: Any) -> TimeSeries:
    asked = {"indices": ["NDVI", "NBR"], "masks": MASKS, "library": season.library, **options}
    layer = asked.pop("vectors_file", season.layer)
    return TimeSeries(layer, **asked)


@pytest.fixture(scope="module")
def serial(season: demo.DemoArchive) -> TimeSeries:
    return series(season, executor="serial").run()


def assert_same(one: TimeSeries, two: TimeSeries) -> None:
    assert one.rows == two.rows > 0
    pd.testing.assert_frame_equal(one.report, two.report)
    for index, frame in two.data.items():
        pd.testing.assert_frame_equal(one.data[index], frame, check_exact=True)


def prepared(season: demo.DemoArchive, folder: Path | None) -> tuple[tuple[Task, ...], Coverages]:
    found = series(season)
    return found.plan.tasks, Coverages(found.layer, folder=folder)


def assert_same_results(one: list[TaskResult], two: list[TaskResult]) -> None:
    assert [r.task for r in one] == [r.task for r in two]
    for a, b in zip(one, two, strict=True):
        for mine, theirs in zip(a.batches, b.batches, strict=True):
            assert (mine.reasons, mine.error, mine.filename) == (theirs.reasons, theirs.error, theirs.filename)
            assert mine.columns.keys() == theirs.columns.keys()
            for name, values in mine.columns.items():
                np.testing.assert_array_equal(values, theirs.columns[name])


# --------------------------------------------------------------------------------------------------------------- same


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_give_the_rows_of_a_serial_run(season: demo.DemoArchive, serial: TimeSeries, threads: int) -> None:
    assert_same(series(season, executor="threads", multiproc=threads).run(), serial)


@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_a_scheduler_with_two_workers_gives_the_rows_of_a_serial_run(
    season: demo.DemoArchive, processes: Processes, pixels: str
) -> None:
    options: dict[str, Any] = {"pixels": pixels, "buffer": -5.0, "keep_empty": True, "stats": ["mad", "histogram"]}
    want = series(season, executor="serial", **options).run()
    assert_same(series(season, scheduler=processes.address, **options).run(), want)


def test_a_client_of_the_caller_is_used_and_stays_open(
    season: demo.DemoArchive, serial: TimeSeries, processes: Processes
) -> None:
    with distributed.Client(processes.address, set_as_default=False) as client:
        assert_same(series(season, executor=client).run(), serial)
        assert client.submit(len, "open").result() == 4


def test_pixels_to_keep_travel_from_the_workers(season: demo.DemoArchive, processes: Processes, tmp_path: Path) -> None:
    found = []
    for name, executor, scheduler in (("serial", "serial", None), ("dask", "dask", processes.address)):
        folder = TimeSeriesCompil(
            season.layer, indices=["NDVI"], masks=MASKS[:1], library=season.library, extraction=tmp_path / name,
            keep_pixels=True, quiet=True, executor=executor, scheduler=scheduler,
        )  # fmt: skip
        done = folder.extract_data()
        assert (done.pixels, done.pixels_failed) == (done.acquisitions - 1, 1)  # one file is cut off
        places = (folder.folder / "pixels").rglob("*")
        found.append({path.name: path.read_bytes() for path in places if path.is_file()})
    assert found[0] == found[1]


def test_dask_without_a_scheduler_starts_workers_here(season: demo.DemoArchive, serial: TimeSeries) -> None:
    assert_same(series(season, executor="dask", multiproc=2).run(), serial)


def test_a_layer_that_comes_from_no_file_is_handed_on(
    season: demo.DemoArchive, serial: TimeSeries, processes: Processes
) -> None:
    frame = gpd.read_file(season.layer, fid_as_index=True).rename_axis(
        "attr_fid"
    )  # as a GeoPackage's own ids are named
    assert_same(series(season, vectors_file=frame, scheduler=processes.address).run(), serial)


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_worker_killed_in_the_middle_loses_nothing(season: demo.DemoArchive, tmp_path: Path) -> None:
    tasks, coverages = prepared(season, tmp_path / "cache" / "coverage")
    want = list(execute(tasks, coverages, RowRules(), Serial()))
    with running(tmp_path) as own:
        results = execute(tasks, coverages, RowRules(), Cluster(scheduler=own.address))
        got = list(itertools.islice(results, 3))
        os.kill(own.workers[0].pid, signal.SIGKILL)
        got += results
        assert own.workers[0].wait() == -signal.SIGKILL
    assert_same_results(got, want)


def test_workers_may_come_later(season: demo.DemoArchive, tmp_path: Path) -> None:
    tasks, coverages = prepared(season, tmp_path / "cache" / "coverage")
    want = list(execute(tasks[:4], coverages, RowRules(), Serial()))
    with running(tmp_path, workers=0) as own, ThreadPoolExecutor(1) as pool:
        results = Cluster(scheduler=own.address).run(tasks[:4], coverages, RowRules())
        future = pool.submit(list, results)
        time.sleep(1.0)
        assert not future.done()
        own.add_worker()
        assert_same_results(future.result(timeout=60), want)


def odd(task: Task) -> Task:
    """Give a task that fails in a way nobody foresees."""
    return replace(task, details=5)  # type: ignore[arg-type]


def assert_one_failed(results: list[TaskResult], want: list[TaskResult], position: int) -> None:
    failed = results[position]
    for output, batch in zip(failed.task.outputs, failed.batches, strict=True):
        assert batch.rows == 0
        assert batch.reasons == {Reason.FAILED: 16}, output
        assert str(failed.task.product) in batch.error
        assert "failed 3 times" in batch.error
        assert "AttributeError" in batch.error
    others = [r for i, r in enumerate(results) if i != position]
    assert_same_results(others, [r for i, r in enumerate(want) if i != position])


def test_a_task_that_fails_thrice_is_reported_like_any_other_reason(
    season: demo.DemoArchive, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, coverages = prepared(season, tmp_path / "coverage")
    want = list(Serial().run(tasks, coverages, RowRules()))
    broken = (*tasks[:2], odd(tasks[2]), *tasks[3:])
    tried = []
    extract = extraction.extract

    def counted(task: Task, *others: Any) -> TaskResult:
        tried.append(task.product)
        return extract(task, *others)

    monkeypatch.setattr(executors, "extract", counted)
    for executor in (Serial(), Threads(2)):
        tried.clear()
        assert_one_failed(list(executor.run(broken, coverages, RowRules())), want, 2)
        assert tried.count(tasks[2].product) == 3
        assert len(tried) == len(tasks) + 2
    assert_one_failed(list(Cluster(scheduler=processes.address).run(broken, coverages, RowRules())), want, 2)


def test_tasks_are_announced_in_order_before_they_start(
    season: demo.DemoArchive, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, coverages = prepared(season, tmp_path / "coverage")
    extract = extraction.extract
    sent: list[Task] = []

    def checked(task: Task, *others: Any) -> TaskResult:
        assert task in sent
        return extract(task, *others)

    monkeypatch.setattr(executors, "extract", checked)
    for executor in (Serial(), Threads(2), Cluster(scheduler=processes.address)):
        sent.clear()
        results = executor.run(tasks, coverages, RowRules(), sent.append)
        with closed(results):
            next(results)
            assert sent == list(tasks[: len(sent)])
            assert len(sent) == 1 or not isinstance(executor, Serial)
            assert [result.error for result in results] == [None] * (len(tasks) - 1)
        assert sent == list(tasks)


def test_a_product_that_once_failed_is_tried_again(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, coverages = prepared(season, tmp_path)
    want = list(Serial().run(tasks[:3], coverages, RowRules()))
    extract, failures = extraction.extract, iter([True, True, False])

    def flaky(task: Task, *others: Any) -> TaskResult:
        if task is tasks[1] and next(failures):
            raise OSError("the network is down")
        return extract(task, *others)

    monkeypatch.setattr(executors, "extract", flaky)
    assert_same_results(list(Serial().run(tasks[:3], coverages, RowRules())), want)


def test_a_failure_shows_in_report_and_exit_state(season: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: Task, *_: Any) -> TaskResult:
        # Two classes: one and the same for all would be no fault of the products.
        raise (ZeroDivisionError if task is tasks[0] else KeyError)("odd")

    monkeypatch.setattr(executors, "extract", fail)
    found = series(season, executor="serial")
    tasks = found.plan.tasks
    found.run()
    assert found.rows == 0
    assert found.incomplete
    assert (found.report["failed"] == 16).all()
    assert "failed each of the three times" in found.why_nothing()
    assert "ZeroDivisionError: odd" in found.why_nothing()


@pytest.mark.parametrize("executor", [Serial(), Threads(2)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_the_same_error_in_all_first_tasks_ends_the_run(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: Executor, count: int
) -> None:
    tasks, coverages = prepared(season, tmp_path)

    def run(*errors: type[Exception] | None) -> list[TaskResult]:
        """Fail at the first tasks, and at all after them with the last of these errors."""
        raised = dict(zip_longest(map(id, tasks[:count]), errors[:count], fillvalue=errors[-1]))

        def fail(task: Task, *_: Any) -> TaskResult:
            error = raised[id(task)]
            if error is None:
                return TaskResult(task, None, ())
            raise error("odd")

        monkeypatch.setattr(executors, "extract", fail)
        return list(execute(tasks[:count], coverages, RowRules(), executor))

    if count == 1:
        assert [type(result.error) for result in run(KeyError)] == [KeyError]
    else:
        with pytest.raises(ExecutorError, match=rf"The first {min(count, 4)} .*, KeyError: 'odd', so") as ended:
            run(KeyError)
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sen2chain")]
        assert isinstance(ended.value.__cause__, KeyError)
        with pytest.raises(LayerError, match="odd"):
            run(LayerError)
    for errors in ((OSError,), (UnreadableError,), (TimeoutError,), (ValueError, KeyError), (None, KeyError)):
        if count > 1 or len(errors) == 1:
            assert len(run(*errors)) == count
    late = (KeyError, KeyError, KeyError, ValueError, KeyError)
    if count > 3:
        assert [type(result.error) for result in run(*late)][:4] == [*late[:4]]


@pytest.mark.parametrize("error", [MemoryError, ImportError, ModuleNotFoundError, NumbaError, TypingError])
def test_what_no_product_is_to_blame_for_ends_the_run_at_once(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    tasks, coverages = prepared(season, tmp_path)
    tried = []

    def fail(task: Task, *_: Any) -> TaskResult:
        tried.append(task)
        if len(tried) == 3:
            raise error("as it is")
        return TaskResult(task, None, ())

    monkeypatch.setattr(executors, "extract", fail)
    with pytest.raises(ExecutorError, match=rf"The run ended at {tasks[2].product} with {error.__name__}: as it is; "):
        list(execute(tasks, coverages, RowRules(), Serial()))
    assert len(tried) == 3


def test_nothing_is_entered_as_failed_when_all_fail(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "extract", lambda *_: 1 / 0)
    compilation = TimeSeriesCompil(
        season.layer, indices=["NDVI"], masks=MASKS[:1], library=season.library, extraction=tmp_path
    )
    with pytest.raises(ExecutorError, match="The first 4 acquisitions failed with the same error, ZeroDivision"):
        compilation.extract_data()
    assert not compilation.report["failed"].any()
    command = ["update", str(season.layer), "--library", str(season.library), "--extraction", str(tmp_path)]
    ended = CliRunner().invoke(main, [*command, "--index", "NDVI"])
    assert ended.exit_code == 1
    assert "ZeroDivisionError: division by zero, so it is not a fault" in ended.output
    ended = CliRunner().invoke(main, [*command, "--index", "NDVI", "--debug"])
    assert isinstance(ended.exception, ExecutorError)
    assert isinstance(ended.exception.__cause__, ZeroDivisionError)


def test_workers_return_what_ends_a_run_so_that_dask_does_not_try_it_again(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, coverages = prepared(season, tmp_path / "coverage")

    class Future:
        status = "finished"

        def result(self) -> object:
            return cluster.extract_on_worker(tasks[0], WorkerSetup("", "", "center", None, RowRules()))

    def fail(*_: Any) -> TaskResult:
        raise MemoryError

    monkeypatch.setattr(cluster, "_coverages", lambda _: coverages)
    monkeypatch.setattr(cluster, "extract", fail)
    with pytest.raises(ExecutorError, match=f"The run ended at {tasks[0].product} with MemoryError; use fewer"):
        cluster._result(Future(), tasks[0], coverages, RowRules())


class Silent:
    """A future and its client, on a cluster whose workers come and go."""

    scheduler = SimpleNamespace(address="tcp://10.0.0.1:8786")

    def __init__(self, *workers: int) -> None:
        self.looks = iter(workers)

    def done(self) -> bool:
        return False

    def result(self, timeout: float) -> None:  # noqa: ARG002  # as Dask's
        raise TimeoutError

    def nthreads(self) -> dict[str, int]:
        return {"worker": next(self.looks)}


def test_a_cluster_whose_workers_are_gone_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(cluster.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]
    silent = Silent(0, 0, 4, *([0] * 100))
    with pytest.raises(ExecutorError, match=r"tcp://10.0.0.1:8786 has had no workers for 600 s; start some .*_TIMEOUT"):
        cluster._awaited(silent, silent)
    assert [record.getMessage() for record in caplog.records] == [
        "The scheduler at tcp://10.0.0.1:8786 has had no workers for 30 s; waiting for them."
    ]
    monkeypatch.setenv("SEN2CHAIN_WORKERS_TIMEOUT", "50")
    silent = Silent(*([0] * 100))
    with pytest.raises(ExecutorError, match="for 50 s"):
        cluster._awaited(silent, silent)
    monkeypatch.setenv("SEN2CHAIN_WORKERS_TIMEOUT", "long")
    with pytest.raises(RequestError, match="SEN2CHAIN_WORKERS_TIMEOUT is 'long'; give seconds from 0"):
        cluster._awaited(silent, silent)


@pytest.mark.parametrize("wanted", [-1, 1.5, True, 5000, 10**20])
def test_numbers_of_workers_beyond_any_sense_are_refused(wanted: Any) -> None:
    with pytest.raises(RequestError, match="multiproc"):
        resolve_executor(None, wanted)


@pytest.mark.parametrize("wanted", [-1, 1001, 10**20])
def test_numbers_of_dilations_beyond_any_sense_are_refused(wanted: int) -> None:
    with pytest.raises(RequestError, match="whole numbers from 0 to 1000"):
        Mask.from_keywords("CM004", iterations=wanted)


def test_a_worker_that_cannot_read_the_layer_says_what_to_do(
    season: demo.DemoArchive, processes: Processes, tmp_path: Path
) -> None:
    tasks, _ = prepared(season, tmp_path / "coverage")
    setup = WorkerSetup(str(tmp_path / "gone.arrow"), str(tmp_path), "center", None, RowRules())
    with distributed.Client(processes.address, set_as_default=False) as client:
        future = client.submit(cluster.extract_on_worker, tasks[0], setup)
        with pytest.raises(Exception, match=r"cannot read .*gone.arrow; set SEN2CHAIN_CACHE to a folder"):
            future.result()


def test_a_scheduler_lost_in_the_middle_ends_the_run_with_one_sentence(
    season: demo.DemoArchive, tmp_path: Path
) -> None:
    tasks, coverages = prepared(season, tmp_path / "cache" / "coverage")
    with running(tmp_path) as own:
        results = Cluster(scheduler=own.address).run(tasks, coverages, RowRules())
        next(results)
        own.stop()
        with pytest.raises(ExecutorError, match="scheduler was lost in the middle of the run"):
            list(results)


def test_an_address_that_is_not_one_is_refused_before_a_client_is_made(
    season: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("a client that hangs when it ends"))
    with pytest.raises(ExecutorError, match=r"No Dask scheduler answers at foo \(missing port number"):
        series(season, scheduler="foo").run()


def test_a_scheduler_that_does_not_answer_is_named(season: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(ExecutorError, match=r"No Dask scheduler answers at tcp://127.0.0.1:1 .*check the address"):
        series(season, scheduler="tcp://127.0.0.1:1").run()


def test_a_cache_that_cannot_be_written_is_told_before_work_starts(
    season: demo.DemoArchive, tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(ExecutorError, match="cannot be handed on to workers; set SEN2CHAIN_CACHE"):
        series(season, scheduler=processes.address).run()


def test_without_dask_its_extra_is_named(season: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"sen2chain\[dask\]"):
        series(season, executor="dask").run()


# -------------------------------------------------------------------------------------------------------------- choice


def test_tasks_are_self_contained_and_small(season: demo.DemoArchive) -> None:
    for task in series(season).plan.tasks:
        packed = pickle.dumps(task)
        assert len(packed) < 8192
        assert pickle.loads(packed) == task  # noqa: S301  # our own


def test_executors_by_name() -> None:
    assert resolve_executor("serial", 4) == Serial()
    assert resolve_executor(None, 1) == Serial()
    assert resolve_executor(None, 3) == resolve_executor("threads", 3) == Threads(3)
    assert resolve_executor("dask", 3) == Cluster(count=3)
    there = resolve_executor(None, 2, "tcp://a:1")
    assert there == resolve_executor("dask", 2, "tcp://a:1") == Cluster("tcp://a:1", 2)


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"executor": "spark"}, UnknownNameError, "allowed: serial, threads, dask"),
        ({"executor": 5}, UnknownNameError, "a distributed.Client"),
        ({"executor": "serial", "scheduler": "tcp://a:1"}, RequestError, "only dask takes one"),
        ({"multiproc": -1}, RequestError, "multiproc is -1"),
        ({"multiproc": True}, RequestError, "multiproc is True"),
    ],
)
def test_executors_that_cannot_be_are_refused(asked: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        resolve_executor(**asked)


def test_no_more_is_submitted_than_may_wait() -> None:
    begun: list[int] = []
    stream = ahead((begun.append(k) or k for k in range(10)), lambda: 2)  # type: ignore[func-returns-value]
    for k, item in enumerate(stream):
        assert item == k
        assert len(begun) == min(k + 3, 10)


@pytest.mark.parametrize("how", ["forgotten", "closed"])
def test_only_who_closes_results_waits_for_their_threads(how: str) -> None:
    """A forgotten generator may be collected by a thread that its own threads wait for, as while kernels compile."""
    gate, done = threading.Event(), []

    def work(k: int) -> int:
        if k:
            gate.wait(2)
            done.append(k)
        return k

    if how == "closed":
        with closed(in_threads(work, range(9), 2)) as results:
            assert next(results) == 0
        assert done
    else:
        forgotten = in_threads(work, range(9), 2)
        assert next(forgotten) == 0
        del forgotten
        assert not done
    gate.set()


# -------------------------------------------------------------------------------------------------------------- memory


def test_coverages_beyond_the_limit_are_dropped_and_found_again(
    season: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, coverages = prepared(season, tmp_path)
    want = list(Serial().run(tasks, coverages, RowRules()))
    from sen2chain.extract import coverages as module  # noqa: PLC0415  # whose limit is changed

    monkeypatch.setattr(module, "_BYTES", 0)
    small = Coverages(coverages.layer, folder=tmp_path)
    got = []
    for result in execute(tasks, small, RowRules(), Threads(3)):
        got.append(result)
        assert len(small._kept) <= 3
    assert_same_results(got, want)


def test_a_compiled_series_does_not_depend_on_who_extracts_it(
    season: demo.DemoArchive, processes: Processes, tmp_path: Path
) -> None:
    frames = []
    ways: dict[str, dict[str, Any]] = {"serial": {"executor": "serial"}, "dask": {"scheduler": processes.address}}
    for name, options in ways.items():
        one = TimeSeriesCompil(
            season.layer, ["NDVI", "NBR"], library=season.library, extraction=tmp_path / name, quiet=True, **options
        )
        one.extract_data()
        assert one.extract_data().images == 0
        frames.append((one.data["NDVI"], one.data["NBR"], one.report))
    for serial, dask in zip(*frames, strict=True):
        pd.testing.assert_frame_equal(serial, dask)
