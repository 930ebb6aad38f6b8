"""Drive tasks: serially or in threads, always giving results in the order of the tasks."""

from __future__ import annotations

import os
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from sen2chain.errors import GridMismatchError
from sen2chain.execute.inputs import Files, ten_metre_grid
from sen2chain.execute.rows import RowRules, failed_batch
from sen2chain.execute.task import TaskResult, extract
from sen2chain.rasters import environment
from sen2chain.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sen2chain.execute.coverages import Coverages
    from sen2chain.grid import Grid
    from sen2chain.plan import Task

# Results that may wait for their tile's grid.
_PATIENCE = 16


def workers(multiproc: int) -> int:
    """Return the number of threads for a setting: 0 is as many as this process may use, 1 is serial."""
    if multiproc > 0:
        return multiproc
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(tasks: Sequence[Task], coverages: Coverages, rules: RowRules, multiproc: int = 0) -> Iterator[TaskResult]:
    """Run tasks and yield their results in order.

    Parameters
    ----------
    tasks
        What to do.
    coverages, rules
        The layer's pixels, and what becomes a row.
    multiproc
        Threads; see `workers`. The rows do not depend on it.
    """
    results = _results(tasks, coverages, rules, workers(multiproc))
    yield from _one_grid_per_tile(results, tasks, coverages, rules)


def _results(tasks: Sequence[Task], coverages: Coverages, rules: RowRules, threads: int) -> Iterator[TaskResult]:
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            yield extract(task, coverages, rules)
        return
    pool = ThreadPoolExecutor(min(threads, max(len(tasks), 1)), thread_name_prefix="sen2chain")
    waiting: deque[Future[TaskResult]] = deque()
    left = iter(tasks)
    try:
        # Only as many results wait as there are threads, so that memory does not grow with the number of dates.
        for task in left:
            waiting.append(pool.submit(extract, task, coverages, rules))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_grid_per_tile(
    results: Iterator[TaskResult], tasks: Sequence[Task], coverages: Coverages, rules: RowRules
) -> Iterator[TaskResult]:
    """Report products whose grid is not that of their tile.

    A tile's grid is the first that two of its products agree on (else that of its first product): so one odd product
    can never speak for the tile. Usually the next result settles it, and no file is opened beforehand to find out.
    Until then results wait, and those behind them, to keep the order; when too many wait, the tile's next products
    are asked for their grid.
    """
    votes: dict[str, Counter[Grid]] = {}
    known: dict[str, Grid] = {}
    coming: dict[str, deque[Task]] = {}
    for task in tasks:
        coming.setdefault(task.product.tile, deque()).append(task)
    waiting: deque[TaskResult] = deque()

    def vote(tile: str, grid: Grid | None) -> None:
        if grid is not None:
            votes.setdefault(tile, Counter())[grid] += 1
            if votes[tile][grid] == 2:
                known.setdefault(tile, grid)

    def settle(tile: str) -> None:
        for task in coming[tile]:
            if tile in known:
                return
            with environment(), ExitStack() as stack:
                vote(tile, ten_metre_grid(task, Files(stack)))
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


def _mismatched(result: TaskResult, grid: Grid, coverages: Coverages, rules: RowRules) -> TaskResult:
    task = result.task
    error = GridMismatchError(f"{task.product} has another grid than its tile: {result.grid} instead of {grid}.")
    batches = tuple(
        batch
        if output.reason or batch.reasons.keys() & {Reason.UNREADABLE, Reason.GRID_MISMATCH}
        else failed_batch(task.product, output, Reason.GRID_MISMATCH, str(error), coverages.layer, rules)
        for output, batch in zip(task.outputs, result.batches, strict=True)
    )
    return replace(result, batches=batches)
