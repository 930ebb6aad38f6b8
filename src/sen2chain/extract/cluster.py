"""Tasks on a Dask cluster: the same frozen tasks, run by workers that load the layer and its pixels from files.

Nothing large travels to a worker: a task names its rasters, and `WorkerSetup` names the files of the layer and of its
pixels, which a worker loads once and keeps. So the archive and the cache folder must be visible to all workers.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sen2chain import settings
from sen2chain.errors import ExecutorError, LayerError
from sen2chain.extract.coverages import Coverages
from sen2chain.extract.executors import ATTEMPTS, FATAL, announced, failed_result, fatal
from sen2chain.extract.extraction import extract
from sen2chain.parallel import ahead
from sen2chain.vectors import keep, load

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sen2chain.coverage import PixelRule
    from sen2chain.extract.batches import RowRules
    from sen2chain.extract.executors import Advanced, Sent
    from sen2chain.extract.extraction import TaskResult
    from sen2chain.plan import Task

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 20.0
# How often a run looks whether there are workers, and how long it waits for some without a word.
_LOOK_SECONDS, _SILENT_SECONDS = 5.0, 30.0
_SHARED = "set SEN2CHAIN_CACHE to a folder that can be written and that all workers see under the same path"
_LOST = "The Dask scheduler was lost in the middle of the run; start it and run again."
# A worker keeps the pixels of so many runs.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Facts that all tasks of a run share; it travels to the workers with each task."""

    layer: str
    """File of the layer, see `sen2chain.vectors.keep`."""
    coverages: str
    """Folder of saved coverages."""
    rule: PixelRule
    """Pixel rule."""
    buffer: float | None
    """Metres by which features grow or shrink."""
    rules: RowRules
    """Which statistics become rows."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Runs tasks on a Dask cluster."""

    scheduler: str | None = None
    """Address of a scheduler; None starts workers on this machine."""
    count: int = 0
    """Number of worker processes that are started where there is no scheduler."""
    client: Any = None
    """A `distributed.Client` to use instead; it is left open."""

    def run(
        self,
        tasks: Sequence[Task],
        coverages: Coverages,
        rules: RowRules,
        sent: Sent | None = None,
        advanced: Advanced | None = None,  # noqa: ARG002  # workers tell no fractions
    ) -> Generator[TaskResult, None, None]:
        """Run tasks, see `Executor`.

        Raises
        ------
        ExecutorError
            If Dask is not installed, the scheduler cannot be reached or is lost, or the layer cannot be handed on.
        """
        setup = _setup(coverages, rules)
        with contextlib.ExitStack() as stack:
            client = self.client or self._connect(stack)
            if not _threads(client):
                logger.warning("The scheduler at %s has no workers yet; waiting for them.", client.scheduler.address)
            submitted = (
                (task, client.submit(extract_on_worker, task, setup, retries=ATTEMPTS - 1, pure=False))
                for task in announced(tasks, sent)
            )
            # Two tasks wait at each thread of a worker, so that none is idle while results travel.
            for task, future in ahead(submitted, lambda: 2 * max(_threads(client), 4)):
                yield _result(_awaited(future, client), task, coverages, rules)

    def _connect(self, stack: contextlib.ExitStack) -> Any:
        try:
            import distributed  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ExecutorError("Dask is not installed; install sen2chain with its extra, sen2chain[dask].") from error
        if self.scheduler is None:
            try:
                address = stack.enter_context(
                    distributed.LocalCluster(n_workers=self.count, threads_per_worker=1, dashboard_address=":0")
                )
            except RuntimeError as error:  # a worker imports a script anew, and would run it again
                raise ExecutorError(
                    f"Dask's workers do not start ({error}); in a script, put what runs below "
                    'if __name__ == "__main__":.'
                ) from error
        else:
            address = self.scheduler
        try:
            if self.scheduler is not None:
                # A client of an address that is none hangs when it ends.
                distributed.comm.addressing.resolve_address(self.scheduler)
            client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ExecutorError(
                f"No Dask scheduler answers at {address} ({error}); check the address, as in tcp://10.0.0.1:8786."
            ) from error
        return stack.enter_context(client)


def _setup(coverages: Coverages, rules: RowRules) -> WorkerSetup:
    """Write the layer to a file that workers can read, and return what tasks share."""
    folder = coverages.folder
    layer = coverages.layer.saved or (folder and keep(coverages.layer, folder.parent / "layers"))
    if folder is None or layer is None:
        raise ExecutorError(f"The layer cannot be handed on to workers; {_SHARED}.")
    return WorkerSetup(str(layer), str(folder), coverages.rule, coverages.buffer, rules)


def _threads(client: Any) -> int:
    """Return the number of tasks that the cluster can run at once; it may change at any time."""
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise ExecutorError(_LOST) from error


def _awaited(future: Any, client: Any) -> Any:
    """Wait for a task while there are workers, and for a limited time while there are none; the time is a setting."""
    began, told = time.monotonic(), False
    while not future.done():
        with contextlib.suppress(Exception):  # the caller asks for the result, and meets its error, again
            future.result(timeout=_LOOK_SECONDS)
        if future.done() or _threads(client):
            began, told = time.monotonic(), False
            continue
        alone = time.monotonic() - began
        if alone >= settings.patience():
            raise ExecutorError(
                f"The scheduler at {client.scheduler.address} has had no workers for {alone:.0f} s; start some and run "
                f"again, or wait longer with {settings.PATIENCE_VARIABLE}."
            )
        if alone >= _SILENT_SECONDS and not told:
            logger.warning(
                "The scheduler at %s has had no workers for %.0f s; waiting for them.", client.scheduler.address, alone
            )
            told = True
    return future


def _result(future: Any, task: Task, coverages: Coverages, rules: RowRules) -> TaskResult:
    """Wait for the result of a task; a task that fails each time is reported as failed."""
    try:
        result: TaskResult | BaseException = future.result()
    except Exception as error:
        if future.status != "error":  # it is not the task that failed
            raise ExecutorError(_LOST) from error
        logger.warning("%s failed on the workers", task.product, exc_info=True)
        return failed_result(task, coverages, rules, error)
    if isinstance(result, BaseException):
        raise fatal(task, result) from result
    return result


# --------------------------------------------------------------------------------------------------------- on a worker

_kept: OrderedDict[tuple[str, str, str, float | None], Coverages] = OrderedDict()
_lock = threading.Lock()


def extract_on_worker(task: Task, setup: WorkerSetup) -> TaskResult | BaseException:
    """Run a task on a worker; errors that end the run are returned, since Dask would repeat a task that raises."""
    try:
        return extract(task, _coverages(setup), setup.rules)
    except FATAL as error:
        return error


def _coverages(setup: WorkerSetup) -> Coverages:
    """Return the coverages of the layer, which this process keeps between tasks."""
    key = (setup.layer, setup.coverages, setup.rule, setup.buffer)
    with _lock:
        if key not in _kept:
            layer = load(Path(setup.layer))
            if layer is None:
                raise LayerError(f"The worker on {socket.gethostname()} cannot read {setup.layer}; {_SHARED}.")
            _kept[key] = Coverages(layer, rule=setup.rule, buffer=setup.buffer, folder=Path(setup.coverages))
        _kept.move_to_end(key)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
        return _kept[key]
