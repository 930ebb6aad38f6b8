"""Production: the files of a plan are made in threads; each ends as made, kept, or with its reason."""

from __future__ import annotations

import enum
import errno
import logging
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from sen2chain.atomic import check_folder, sweep_temporary, writing
from sen2chain.errors import ExecutorError, ModelError, OutputError
from sen2chain.jit import CompilationError
from sen2chain.notebook import card
from sen2chain.parallel import Allowance, Crew, closed, memory, workers
from sen2chain.produce.order_work import OrderWork
from sen2chain.produce.ordered_files import OrderedFiles, is_of_model
from sen2chain.produce.product_file import (
    FileKind,
    ProductFile,
    ProductOrder,
    State,
    in_short,
    label_of,
    once_each,
    version_of,
)
from sen2chain.produce.product_lock import lock_folder, product_lock
from sen2chain.progress import Shares, counted, progress, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.produce.product_plan import ProductPlan

logger = logging.getLogger(__name__)

_FATAL = (MemoryError, ImportError, CompilationError)
"""Errors that are not the fault of a product and would meet the next one too."""
_LEAST_MEMORY = 1 << 30
_REASONS = 5  # sentences on files
_LOOKS = 3
"""Looks after which that is told; two products of this run may share a lock, too."""
_LOOK = 1.0
"""Seconds between two looks whether another run has ended its work on a product."""


class Outcome(enum.StrEnum):
    """What has become of a file."""

    MADE = "made"
    AGAIN = "made again"
    KEPT = "kept"
    ELSEWHERE = "made by another run"
    REFUSED = "refused"
    IMPOSSIBLE = "impossible"
    FAILED = "failed"
    LEFT = "not reached"


_THERE = frozenset({Outcome.MADE, Outcome.AGAIN, Outcome.KEPT, Outcome.ELSEWHERE})


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file of the plan, and what has become of it."""

    path: Path
    """The file."""
    product: str
    """Name of the product."""
    kind: FileKind
    """What it is."""
    name: str
    """Name of the index, mask or picture."""
    outcome: Outcome
    """What has become of it."""
    detail: str = ""
    """A sentence on why."""
    bytes: int = 0
    """Its size, where it was made."""
    seconds: float = 0.0
    """Time that its product took."""

    @property
    def label(self) -> str:
        """Return its name in tables."""
        return label_of(self.kind, self.name)


@dataclass(slots=True, repr=False)
class Production:
    """Result of a run."""

    made: list[MadeFile] = field(default_factory=list)
    """All files of the plan, in its order."""
    seconds: float = 0.0
    """Time that the run took."""
    ended_by: str = ""
    """A sentence on what ended the run before its time; empty where nothing did."""

    def counts(self) -> dict[Outcome, int]:
        """Return the number of files by outcome."""
        found = Counter(file.outcome for file in self.made)
        return {outcome: found[outcome] for outcome in Outcome if found[outcome]}

    @property
    def files(self) -> list[Path]:
        """Files that are there now."""
        return [file.path for file in self.made if file.outcome in _THERE]

    @property
    def failed(self) -> list[MadeFile]:
        """Files that were to be made and are not there."""
        return [file for file in self.made if file.outcome in {Outcome.FAILED, Outcome.LEFT}]

    @property
    def refused(self) -> list[MadeFile]:
        """Files that are there with something else in them, and were not replaced."""
        return [file for file in self.made if file.outcome is Outcome.REFUSED]

    @property
    def impossible(self) -> list[MadeFile]:
        """Files whose inputs are missing."""
        return [file for file in self.made if file.outcome is Outcome.IMPOSSIBLE]

    @property
    def bytes(self) -> int:
        """Bytes of the files that were made."""
        return sum(file.bytes for file in self.made)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each file."""
        columns = ("path", "product", "kind", "name", "outcome", "detail", "bytes", "seconds")
        rows = [
            (str(f.path), f.product, str(f.kind), f.name, str(f.outcome), f.detail, f.bytes, f.seconds)
            for f in self.made
        ]
        return pd.DataFrame(rows, columns=list(columns))

    def to_dict(self) -> dict[str, Any]:
        """Return counts and files as plain values, for JSON."""
        return {
            "counts": {str(outcome): count for outcome, count in self.counts().items()},
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "ended_by": self.ended_by,
            "files": self.to_frame().to_dict("records"),
        }

    def __str__(self) -> str:
        if not self.made:
            return "There was nothing to produce."
        parts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts().items())
        size = f", {sized(self.bytes)} written" if self.bytes else ""
        return f"{counted(len(self.made), 'file')}: {parts}{size} in {self.seconds:.0f} s."

    __repr__ = __str__

    def reasons(self) -> list[str]:
        """Say why files are not there or were made again: each sentence once, the most frequent first."""
        as_expected = {Outcome.MADE, Outcome.KEPT}
        told = ((file.product, file.detail) for file in self.made if file.outcome not in as_expected)
        return once_each(told, _REASONS)

    def _repr_html_(self) -> str:
        facts = [(str(outcome), count) for outcome, count in self.counts().items()]
        problems = [*self.failed, *self.refused, *self.impossible][:10]
        table = [("file", "outcome", "why"), *((f.path.name, str(f.outcome), f.detail) for f in problems)]
        size = [("written", sized(self.bytes))] if self.bytes else []
        return card("Production", [*facts, *size], "production.to_frame()", table if problems else ())


class _EndedError(Exception):
    """The run is over for a reason that is told elsewhere."""


def produce_files(plan: ProductPlan, source: LibrarySource, *, quiet: bool = False) -> Production:
    """Make the files of a plan.

    Parameters
    ----------
    plan
        What `plan_products` returned; its orders may be fewer.
    source
        The library.
    quiet
        Show no progress.

    Returns
    -------
    Production
        What has become of each file. A full disk ends the run, and `Production.ended_by` says so.

    Raises
    ------
    OutputError
        If a folder of the library cannot be written; nothing is made then.
    ExecutorError
        If the machine cannot run the work.
    """
    began = time.monotonic()
    run = _Run(plan, source, quiet=quiet)
    # Files of killed runs also lie beside files that are complete.
    for folder in {file.path.parent for order in plan.orders for file in order.files}:
        sweep_temporary(folder)
    if plan.to_make:
        run.check_folders()
        run.work()
    run.result.made = [run.outcome_of(order, file) for order in plan.orders for file in order.files]
    run.result.seconds = time.monotonic() - began
    source.save()
    return run.result


class _Run:
    """A run of a plan."""

    def __init__(self, plan: ProductPlan, source: LibrarySource, *, quiet: bool) -> None:
        self._plan, self._source, self._quiet = plan, source, quiet
        self.result = Production()
        self._found: dict[Path, MadeFile] = {}
        self._end, self._round_end = threading.Event(), threading.Event()
        self._ordered = OrderedFiles.of_request(plan.request, source)
        self._memory = Allowance(max((memory() or 0) // 2, _LEAST_MEMORY))

    def check_folders(self) -> None:
        """Make sure that the folders of the library can be written."""
        paths = self._source.paths
        kinds = {file.kind for file in self._plan.to_make}
        roots = {
            paths.indices: {FileKind.INDEX, FileKind.MASKED} & kinds,
            paths.cloudmasks: {FileKind.MASK} & kinds,
            paths.quicklooks: {FileKind.QUICKLOOK} & kinds,
            lock_folder(paths): kinds,
        }
        for root, wanted in roots.items():
            if wanted:
                check_folder(root)

    def work(self) -> None:
        """Make the files of all orders; products that another run works on come last."""
        if self._ordered.model is not None and any(map(is_of_model, self._plan.to_make)):
            self._ordered.model.load(quiet=self._quiet)
        pending, wait, looks = [order for order in self._plan.orders if order.to_make], 0.0, 0
        total = len(pending)
        count = sum(len(order.to_make) for order in pending)
        with progress(f"producing ({counted(count, 'file')})", total, quiet=self._quiet) as step:
            shares = Shares(step, total)
            while pending:
                crew, self._round_end = Crew(workers(self._plan.request.workers)), threading.Event()
                # Set at the end of each round, however it comes; products that are held are tried in another one.
                results = crew.results(partial(self._attempt, crew, shares, wait), pending, self._round_end.set)
                with closed(results):
                    held = [order for order in results if order is not None]
                if self.result.ended_by:
                    return
                self._end.clear()  # a round sets it at its end, too
                looks += 1
                if held and looks == _LOOKS:
                    what, folder = counted(len(held), "product"), lock_folder(self._source.paths)
                    logger.warning("Waiting for another run that works on %s; its locks are in %s.", what, folder)
                pending, wait = held, _LOOK

    def outcome_of(self, order: ProductOrder, file: ProductFile) -> MadeFile:
        """Return what has become of a file of the plan."""
        if file.path in self._found:
            return self._found[file.path]
        outcome = {
            State.KEPT: Outcome.KEPT,
            State.REFUSED: Outcome.REFUSED,
            State.IMPOSSIBLE: Outcome.IMPOSSIBLE,
            State.MAKE: Outcome.LEFT,
        }[file.state]
        detail = self.result.ended_by if outcome is Outcome.LEFT else file.detail
        return MadeFile(file.path, str(order.acquisition.id), file.kind, file.name, outcome, detail)

    def _attempt(self, crew: Crew, shares: Shares, wait: float, order: ProductOrder) -> ProductOrder | None:
        """Make the files of an order, unless the run is over; return it if another run holds its product."""
        if self._is_over:
            return None
        product = order.acquisition.id
        try:
            with product_lock(self._source.paths, product, wait) as is_held:
                if not is_held:
                    return order
                self._make(order, crew, partial(shares.advance, product))
        except _EndedError:
            return None
        except _FATAL as error:
            self._end.set()
            said = str(error).partition("\n")[0]
            raise ExecutorError(f"The run ended at {product} with {type(error).__name__}: {said}.") from error
        except OutputError as error:
            if _is_full(error):
                self._end.set()
                self.result.ended_by = str(error)
            else:
                self._fail(order, str(error))
        except ModelError as error:  # of the machine
            self._end.set()
            self.result.ended_by = str(error)
        except Exception as error:  # one odd product does not end a run over ten years
            logger.warning("%s failed", product, exc_info=True)
            self._fail(order, f"{product} failed with {type(error).__name__}: {str(error).partition(chr(10))[0]}.")
        shares.end(product)
        return None

    def _fail(self, order: ProductOrder, detail: str) -> None:
        for file in order.to_make:
            if file.path not in self._found:
                self._record(order, file, Outcome.FAILED, detail)

    def _record(
        self, order: ProductOrder, file: ProductFile, outcome: Outcome, detail: str = "", seconds: float = 0.0
    ) -> None:
        size = file.path.stat().st_size if outcome in {Outcome.MADE, Outcome.AGAIN} else 0
        product, detail = str(order.acquisition.id), in_short(detail, self._source.paths)
        self._found[file.path] = MadeFile(file.path, product, file.kind, file.name, outcome, detail, size, seconds)

    def _make(self, order: ProductOrder, crew: Crew, advanced: Callable[[float], None]) -> None:
        """Make the files of an order whose product is held."""
        began = time.monotonic()
        files = list(self._still_to_make(order))
        folders = {file.path.parent for file in files}
        new = [folder for folder in folders if not os.path.lexists(folder)]
        for folder in folders:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        if not files:
            return
        acquisition, request = order.acquisition, self._plan.request
        work = OrderWork(
            acquisition,
            files,
            request,
            self._source,
            self._ordered.model,
            crew,
            self._memory.hold,
            advanced,
            self._go_on,
        )
        try:
            work.run()
        finally:
            for folder in new:
                with suppress(OSError):  # it has files
                    folder.rmdir()
            seconds = time.monotonic() - began
            for file in files:
                if file.path in work.made:
                    self._source.facts.remember_tags(str(file.path), acquisition.id.tile, work.made[file.path])
                    outcome = Outcome.AGAIN if file.exists else Outcome.MADE
                    self._record(order, file, outcome, file.detail, seconds)
                elif file.path in work.errors:
                    self._record(order, file, Outcome.FAILED, str(work.errors[file.path]), seconds)

    def _still_to_make(self, order: ProductOrder) -> Iterator[ProductFile]:
        """Yield the files that no other run has made since the plan."""
        for file in order.to_make:
            if version_of(file.path) == file.version:
                yield file
                continue
            judged = self._ordered.again(file, order.acquisition)
            if judged.state is State.MAKE:
                yield judged
            else:
                outcome = Outcome.ELSEWHERE if judged.state is State.KEPT else Outcome[judged.state.name]
                self._record(order, judged, outcome, judged.detail)

    @property
    def _is_over(self) -> bool:
        """Whether the run has ended: by a full disk, or by the caller."""
        return self._end.is_set() or self._round_end.is_set()

    def _go_on(self) -> None:
        if self._is_over:
            raise _EndedError


def _is_full(error: OutputError) -> bool:
    """Whether the cause of an error is a full disk, which would meet the next product too."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
