"""Who runs tasks: one thread, or several. Each executor gives results in the order of the tasks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sen2chain.execute.rows import failed_batch
from sen2chain.execute.task import TaskResult, extract
from sen2chain.parallel import apart, in_threads
from sen2chain.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sen2chain.execute.coverages import Coverages
    from sen2chain.execute.rows import RowRules
    from sen2chain.plan import Task

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a task is tried before it is reported as failed."""


class Executor(Protocol):
    """Runs tasks somewhere."""

    def run(self, tasks: Sequence[Task], coverages: Coverages, rules: RowRules) -> Iterator[TaskResult]:
        """Run tasks and yield their results in order; a task that cannot be run ends as a result that says so."""
        ...


@dataclass(frozen=True, slots=True)
class Serial:
    """Runs one task after the other, each while the caller waits."""

    def run(self, tasks: Sequence[Task], coverages: Coverages, rules: RowRules) -> Iterator[TaskResult]:
        """Run tasks, see `Executor`."""
        for task in tasks:
            yield apart(partial(_attempt, task, coverages, rules))  # for GDAL's options, see `rasters.environment`


@dataclass(frozen=True, slots=True)
class Threads:
    """Runs tasks in threads, which share the layer's pixels."""

    count: int
    """Number of threads."""

    def run(self, tasks: Sequence[Task], coverages: Coverages, rules: RowRules) -> Iterator[TaskResult]:
        """Run tasks, see `Executor`."""
        yield from in_threads(lambda task: _attempt(task, coverages, rules), tasks, min(self.count, max(len(tasks), 1)))


def _attempt(task: Task, coverages: Coverages, rules: RowRules) -> TaskResult:
    """Run a task, again if something unforeseen happens; one odd product should not end a run over ten years."""
    for attempt in range(ATTEMPTS):
        try:
            return extract(task, coverages, rules)
        except Exception as error:  # what is foreseen ends as a reason within the task
            logger.warning("%s failed, attempt %d of %d", task.product, attempt + 1, ATTEMPTS, exc_info=True)
            last = error
    return failed_result(task, coverages, rules, last)


def failed_result(task: Task, coverages: Coverages, rules: RowRules, error: BaseException) -> TaskResult:
    """Report a task that failed each time it was tried."""
    detail = f"{task.product} failed {ATTEMPTS} times, the last time with {type(error).__name__}: {error}"
    batches = tuple(
        failed_batch(
            task.product, output, output.reason or Reason.FAILED, output.detail or detail, coverages.layer, rules
        )
        for output in task.outputs
    )
    return TaskResult(task, None, batches)
