"""Executors of tasks on this machine: one task after the other, or in threads. Results come in the order of tasks."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sen2chain.errors import ExecutorError, OutputError
from sen2chain.extract.batches import failed_batch, unknown_features
from sen2chain.extract.extraction import TaskResult, extract
from sen2chain.extract.pixel_keeper import KeptPixels
from sen2chain.jit import CompilationError
from sen2chain.parallel import Crew, apart
from sen2chain.reasons import Reason
from sen2chain.remote import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from sen2chain.extract.batches import RowRules
    from sen2chain.extract.coverages import Coverages
    from sen2chain.plan import Task

    Sent = Callable[[Task], None]
    Advanced = Callable[[Task, float], None]
    Work = Callable[[Task, Coverages, RowRules, Crew | None, Callable[[float], None] | None], TaskResult]
    """A function that runs a task, as `extract`."""

logger = logging.getLogger(__name__)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # numba writes its messages for a terminal

ATTEMPTS = 3
"""How often a task is tried before it is reported as failed."""

FATAL = (MemoryError, ImportError, CompilationError)
"""Errors that are not the fault of a product and would meet the next one too; they end the run at once."""


class Executor(Protocol):
    """Runs tasks."""

    def run(
        self,
        tasks: Sequence[Task],
        coverages: Coverages,
        rules: RowRules,
        sent: Sent | None = None,
        advanced: Advanced | None = None,
    ) -> Generator[TaskResult, None, None]:
        """Run tasks and yield their results in order; the result of a task that cannot be run holds the error.

        Parameters
        ----------
        tasks
            The tasks.
        coverages, rules
            The layer's pixels, and which statistics become rows.
        sent
            Called with each task just before it is started or handed to a worker.
        advanced
            Called with a task and the decoded fraction of its acquisition, from any thread; not on a cluster.
        """
        ...


def announced(tasks: Iterable[Task], sent: Sent | None) -> Iterator[Task]:
    """Yield tasks, and call `sent` with each just before."""
    for task in tasks:
        if sent is not None:
            sent(task)
        yield task


@dataclass(frozen=True, slots=True)
class Serial:
    """Runs one task after the other, each while the caller waits."""

    work: Work | None = None
    """Runs a task; None is `extract`."""

    def run(
        self,
        tasks: Sequence[Task],
        coverages: Coverages,
        rules: RowRules,
        sent: Sent | None = None,
        advanced: Advanced | None = None,
    ) -> Generator[TaskResult, None, None]:
        """Run tasks, see `Executor`."""
        for task in announced(tasks, sent):
            stop = Stop()
            # In a thread of its own for GDAL's options, see `rasters.environment`.
            yield apart(partial(_attempt, self.work or extract, task, coverages, rules, None, advanced, stop), stop.end)


@dataclass(frozen=True, slots=True)
class Threads:
    """Runs tasks in threads, which share the layer's pixels; threads without a task help the others to decode."""

    count: int
    """Number of threads."""
    work: Work | None = None
    """Runs a task; None is `extract`."""

    def run(
        self,
        tasks: Sequence[Task],
        coverages: Coverages,
        rules: RowRules,
        sent: Sent | None = None,
        advanced: Advanced | None = None,
    ) -> Generator[TaskResult, None, None]:
        """Run tasks, see `Executor`."""
        crew, stop, work = Crew(self.count), Stop(), self.work or extract
        yield from crew.results(
            lambda task: _attempt(work, task, coverages, rules, crew, advanced, stop), announced(tasks, sent), stop.end
        )


def _attempt(
    work: Work,
    task: Task,
    coverages: Coverages,
    rules: RowRules,
    crew: Crew | None,
    advanced: Advanced | None,
    stop: Stop,
) -> TaskResult:
    """Run a task, and again after an unforeseen error; one odd product should not end a run over ten years."""
    ended_by = _ended_by(task, stop)
    for attempt in range(ATTEMPTS):
        try:
            result = work(ended_by, coverages, rules, crew, None if advanced is None else partial(advanced, task))
            read = task.otherwise if result.task is ended_by.otherwise else task
            return replace(result, task=read or task)
        except FATAL as error:
            raise fatal(task, error) from error
        except OutputError:  # of temporary files, for which the disk has no room
            raise
        except Exception as error:  # foreseen errors become reasons within the task
            logger.warning("%s failed, attempt %d of %d", task.product, attempt + 1, ATTEMPTS, exc_info=True)
            last = error
    return failed_result(task, coverages, rules, last)


def _ended_by(task: Task, stop: Stop) -> Task:
    """Return a task whose remote files are closed when its run ends."""
    otherwise = None if task.otherwise is None else _ended_by(task.otherwise, stop)
    if task.reading.access is None:
        return task if otherwise is task.otherwise else replace(task, otherwise=otherwise)
    reading = replace(task.reading, access=replace(task.reading.access, stop=stop))
    return replace(task, reading=reading, otherwise=otherwise)


def failed_result(task: Task, coverages: Coverages, rules: RowRules, error: BaseException) -> TaskResult:
    """Report a task that failed each time it was tried."""
    detail = f"{task.product} failed {ATTEMPTS} times, the last time with {as_text(error)}."
    batches = tuple(
        failed_batch(
            task.product,
            output,
            output.reason or Reason.FAILED,
            output.detail or detail,
            coverages.layer,
            rules,
            unknown_features(task, output, coverages),
        )
        for output in task.outputs
    )
    kept = None if task.keep is None else KeptPixels(lacking=dict.fromkeys(task.keep.rasters, detail))
    return TaskResult(task, None, batches, error, kept)


def fatal(task: Task, error: BaseException) -> ExecutorError:
    """Say why a run ends although products are left."""
    advice = {
        MemoryError: "use fewer workers (multiproc, --workers), fewer features or fewer indices at a time",
        ImportError: "install sen2chain and its libraries again",
        CompilationError: "install numba and llvmlite again, in versions that go together",
    }
    mend = next(text for kind, text in advice.items() if isinstance(error, kind))
    return ExecutorError(f"The run ended at {task.product} with {as_text(error)}; {mend}.")


def as_text(error: BaseException) -> str:
    """Return an error's class and the first line of what it says."""
    said = _COLOURS.sub("", str(error)).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
