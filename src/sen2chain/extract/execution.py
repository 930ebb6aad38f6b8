"""Execution of tasks: choice of an executor, results in the order of the tasks, one grid for each tile."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from sen2chain import settings
from sen2chain.acquisition import LayerSources, OpenRasters, finest_grid
from sen2chain.errors import (
    ExecutorError,
    GridMismatchError,
    RasterError,
    RequestError,
    Sen2ChainError,
    UnknownNameError,
    choice,
    quoted,
    shown,
    whole_number,
)
from sen2chain.extract.batches import RowRules, failed_batch
from sen2chain.extract.executors import Executor, Serial, Threads, as_text
from sen2chain.extract.pixel_keeper import KeptPixels
from sen2chain.parallel import MOST_WORKERS, apart, closed, workers
from sen2chain.rasters import environment
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from sen2chain.extract.coverages import Coverages
    from sen2chain.extract.extraction import TaskResult
    from sen2chain.grid import Grid
    from sen2chain.plan import Task

ExecutorName = Literal["serial", "threads", "dask"]

# Products that have to agree on the grid of their tile.
_AGREEING = 2
# Tasks that, when all of them fail in the same way, speak for the others.
_FIRST = 4
# Results that may wait for their tile's grid.
_PATIENCE = 16


def resolve_executor(
    executor: Any = None, multiproc: int = 0, scheduler: str | None = None, *, at_once: int | None = None
) -> Executor:
    """Choose the executor.

    Parameters
    ----------
    executor
        ``serial``, ``threads``, ``dask``, or a `distributed.Client`. None means threads, or Dask where a scheduler is
        given.
    multiproc
        Number of threads, or of worker processes that Dask starts on this machine; 0 uses all processors.
    scheduler
        Address of a Dask scheduler.
    at_once
        Number of threads that suits the source where `multiproc` is 0; None for all processors.

    Raises
    ------
    RequestError
        If the choice is unknown or contradicts itself, or a variable that tasks read has no meaning.
    """
    settings.uses_openjpeg()  # here, before a task fails of it
    asked = whole_number("multiproc", multiproc, 0, MOST_WORKERS, "0 for all processors, or numbers")
    count = workers(asked)
    threads = asked or at_once or count
    if scheduler is not None and not isinstance(scheduler, str):
        raise RequestError(f"scheduler is {shown(scheduler)}; pass an address, as tcp://10.0.0.1:8786.")
    if executor is None:
        executor = "dask" if scheduler else "threads"
    if isinstance(executor, str):
        choice("executor", executor, get_args(ExecutorName))
    elif not hasattr(executor, "scheduler_info"):
        raise UnknownNameError("executor", executor, (*get_args(ExecutorName), "a distributed.Client"))
    if scheduler and executor != "dask":
        raise RequestError(
            f"A scheduler is given ({scheduler}), but executor is {quoted(executor)}; only dask takes one."
        )
    if executor == "serial" or (executor == "threads" and threads == 1):
        return Serial()
    if executor == "threads":
        return Threads(threads)
    from sen2chain.extract.cluster import Cluster  # noqa: PLC0415  # needed for a cluster only

    if executor == "dask":
        return Cluster(scheduler=scheduler, count=count)
    return Cluster(client=executor)


def execute(
    tasks: Sequence[Task],
    coverages: Coverages,
    rules: RowRules,
    executor: Executor | None = None,
    seen: Mapping[str, Counter[Grid]] | None = None,
    sent: Callable[[Task], None] | None = None,
    advanced: Callable[[Task, float], None] | None = None,
) -> Generator[TaskResult]:
    """Run tasks and yield their results in order.

    Parameters
    ----------
    tasks
        The tasks.
    coverages, rules
        The layer's pixels, and which statistics become rows.
    executor
        Runs the tasks; by default one after the other. The rows do not depend on it.
    seen
        Tile -> grid -> number of its products that had it in earlier runs.
    sent
        Called with each task just before the executor starts it or hands it to a worker.
    advanced
        Called with a task and the decoded fraction of its acquisition, see `Executor.run`.

    Raises
    ------
    ExecutorError
        If the first tasks fail with the same error that is not an error of reading, or the machine cannot run them.
    """
    running = (executor or Serial()).run(tasks, coverages, rules, sent, advanced)
    results = _without_common_fault(running, min(_FIRST, len(tasks)))
    try:
        yield from _one_grid_per_tile(results, tasks, coverages, rules, seen or {})
    except Exception:
        with closed(running):  # what still runs would go on behind the error
            raise


def _without_common_fault(results: Iterator[TaskResult], first: int) -> Iterator[TaskResult]:
    """End a run whose first tasks all fail with the same error: its cause is not in the products.

    The first results are held until one of them differs. Errors of reading belong to products, however many fail.
    """
    held: list[TaskResult] = []
    for result in results:
        held.append(result)
        error = result.error
        if error is None or isinstance(error, OSError | RasterError) or type(error) is not type(held[0].error):
            break
        if len(held) == first > 1:
            if isinstance(error, Sen2ChainError):
                raise error
            raise ExecutorError(
                f"The first {first} acquisitions failed with the same error, {as_text(error)}, so it is not a fault of "
                "the products; run again with --debug (or look at the error's cause), and report what it shows."
            ) from error
    yield from held
    yield from results


def _one_grid_per_tile(
    results: Iterator[TaskResult],
    tasks: Sequence[Task],
    coverages: Coverages,
    rules: RowRules,
    seen: Mapping[str, Counter[Grid]],
) -> Iterator[TaskResult]:
    """Report products whose grid differs from the grid of their tile.

    The grid of a tile is the first one that two of its products share (else that of its first product), so one odd
    product cannot decide for the tile. Usually the next result decides, and no file is opened beforehand. Until then
    results wait, and the results behind them too, to keep the order; when too many wait, the grids of the tile's next
    products are read.
    """
    votes = {tile: Counter(grids) for tile, grids in seen.items()}
    known = {tile: grid for tile, grids in votes.items() for grid, n in grids.most_common(1) if n >= _AGREEING}
    coming: dict[str, deque[Task]] = {}
    for task in tasks:
        coming.setdefault(task.product.tile, deque()).append(task)
    waiting: deque[TaskResult] = deque()

    def vote(tile: str, grid: Grid | None) -> None:
        if grid is not None:
            votes.setdefault(tile, Counter())[grid] += 1
            if votes[tile][grid] == _AGREEING:
                known.setdefault(tile, grid)

    def settle(tile: str) -> None:
        for task in coming[tile]:
            if tile in known:
                return
            vote(tile, apart(partial(_grid, task)))
        coming[tile].clear()
        known.setdefault(tile, votes[tile].most_common(1)[0][0])

    for result in results:
        tile = result.task.product.tile
        if tile not in known:
            coming[tile].popleft()
            vote(tile, result.grid)
        waiting.append(result)
        while waiting:
            tile, grid = waiting[0].task.product.tile, waiting[0].grid
            if grid is not None and tile not in known:
                if coming[tile] and len(waiting) < _PATIENCE:
                    break
                settle(tile)
            first = waiting.popleft()
            yield first if grid is None or grid == known[tile] else _mismatched(first, known[tile], coverages, rules)


def _grid(task: Task) -> Grid | None:
    with environment(task.reading), ExitStack() as stack:
        return finest_grid(OpenRasters(stack), LayerSources.of_outputs(task.outputs, task.product.sensor))


def _mismatched(result: TaskResult, grid: Grid, coverages: Coverages, rules: RowRules) -> TaskResult:
    task = result.task
    error = GridMismatchError(f"{task.product} has another grid than its tile: {result.grid} instead of {grid}.")
    batches = tuple(
        batch
        if output.reason or batch.reasons.keys() & {Reason.UNREADABLE, Reason.GRID_MISMATCH, Reason.FAILED}
        else failed_batch(task.product, output, Reason.GRID_MISMATCH, str(error), coverages.layer, rules)
        for output, batch in zip(task.outputs, result.batches, strict=True)
    )
    kept = None if task.keep is None else KeptPixels(lacking=dict.fromkeys(task.keep.rasters, str(error)))
    return replace(result, batches=batches, kept=kept)
