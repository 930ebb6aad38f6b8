"""The estimate of an extraction: what a run would read, what serves it, and its approximate time and size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from sen2chain.export import csv_lines
from sen2chain.extract import workload
from sen2chain.progress import counted, progress, sized

if TYPE_CHECKING:
    from sen2chain.plan import Task
    from sen2chain.timeseries.engine import Engine

_ROW_BYTES = 190  # of the documented columns in a CSV: names of product, index and mask are over half of it
_NUMBER_BYTES = 17  # of each further statistic
_SAMPLE = 1000  # features whose attributes are measured
_FIRST, _SECOND, _MINUTE = 10, 90, 5400  # seconds up to which a time is told as "a few seconds", seconds, minutes


@dataclass(slots=True)
class Served:
    """What serves one index under one mask."""

    acquisitions: int = 0
    """Acquisitions that can be used."""
    sources: Counter[str] = field(default_factory=Counter)
    """Sources of values and mask, as ``bands, computed``, and their number of acquisitions."""
    missing: int = 0
    """Acquisitions that lack an input."""
    detail: str = ""
    """A sentence on one of them."""


@dataclass(slots=True)
class Estimate:
    """What a run would be. Times and sizes are estimates; clouds make both smaller."""

    features: int
    """Features of the layer."""
    acquisitions: int = 0
    """Acquisitions to read."""
    tiles: tuple[str, ...] = ()
    """Their tiles."""
    first: str = ""
    """First sensing date."""
    last: str = ""
    """Last sensing date."""
    served: dict[tuple[str, str], Served] = field(default_factory=dict)
    """(index, mask) -> what serves it."""
    pixels: int = 0
    """Pixels to decode."""
    seconds: float = 0.0
    """Time that decoding takes, with all threads of the run."""
    threads: int = 1
    """Threads of the run."""
    rows: int = 0
    """Most rows that there can be."""
    csv_bytes: int = 0
    """Their size as CSV."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the layer and the archive."""
    why_nothing: str = ""
    """Why there is nothing to extract; empty where there is something."""

    def __str__(self) -> str:
        if self.why_nothing:
            return f"There is nothing to extract. {self.why_nothing}"
        dates = self.first if self.first == self.last else f"{self.first} to {self.last}"
        tiles = ", ".join(self.tiles[:8]) + (", ..." if len(self.tiles) > 8 else "")
        what = (
            f"{counted(self.acquisitions, 'acquisition')} of {tiles}, {dates}, and {counted(self.features, 'feature')}"
        )
        return (
            f"{what}: "
            f"{_time(self.seconds)} with {counted(self.threads, 'thread')} ({self.pixels / 1e6:,.1f} million pixels to "
            f"decode), at most {self.rows:,} rows, {sized(self.csv_bytes)} as CSV."
        )


def estimate(engine: Engine, threads: int) -> Estimate:
    """Estimate what a run would be.

    Headers of rasters are read, one acquisition of each tile and kind of sources; no pixel is decoded, and nothing is
    written but the pixels of features, which a run needs too.

    Parameters
    ----------
    engine
        The request, the layer and the archive.
    threads
        Threads that decode at once.
    """
    plan, coverages = engine.plan, engine.coverages()
    made = Estimate(len(engine.layer), threads=threads, notes=engine.first_report().notes)
    kinds: dict[object, list[Task]] = {}
    for task in plan.tasks:
        for output in task.outputs:
            served = made.served.setdefault((output.index.name, output.mask.name), Served())
            if output.reason is not None or output.value is None:
                served.missing, served.detail = served.missing + 1, served.detail or output.detail
                continue
            served.acquisitions += 1
            kind = f"{output.value.kind}, {output.clouds.kind}" if output.clouds else str(output.value.kind)
            served.sources[kind] += 1
        kinds.setdefault(_kind(task), []).append(task)
    with progress("looking at rasters", len(kinds), quiet=engine.quiet) as step:
        for tasks in kinds.values():
            # A newer product is more likely to be like those that come.
            work = workload(tasks[-1], coverages)
            outputs = sum(output.reason is None for output in tasks[-1].outputs)
            made.pixels += work.pixels * len(tasks)
            made.seconds += work.seconds * len(tasks) / max(threads, 1)
            made.rows += work.features * len(tasks) * outputs
            step()
    if plan.tasks:
        days = [task.product.sensing.date() for task in plan.tasks]
        made.first, made.last = str(min(days)), str(max(days))
    made.acquisitions, made.tiles = len(plan.tasks), tuple(sorted({task.product.tile for task in plan.tasks}))
    made.csv_bytes = made.rows * _bytes_per_row(engine)
    if not made.rows:
        lacking = next((served.detail for served in made.served.values() if served.detail), "")
        nowhere = "No feature has a pixel on the tiles of the archive."
        made.why_nothing = engine.why_nothing(engine.first_report()) or lacking or nowhere
    return made


def _kind(task: Task) -> object:
    """Return what tasks have in common whose work is the same: the tile and the kinds of their sources."""
    sources = tuple((o.value and o.value.kind, o.clouds and o.clouds.kind, o.reason) for o in task.outputs)
    return task.product.tile, sources, task.cldprb is None


def _bytes_per_row(engine: Engine) -> int:
    layout = engine.row_format()
    sample = layout.attributes.slice(0, _SAMPLE)
    attributes = 0.0
    if sample.num_rows and sample.num_columns:
        lines = csv_lines(pa.Table.from_batches(sample.combine_chunks().to_batches()).to_batches()[0])
        attributes = sum(len(line) for line in lines.to_pylist()) / sample.num_rows
    return int(_ROW_BYTES + _NUMBER_BYTES * len(engine.request.statistics.extra) + attributes)


def _time(seconds: float) -> str:
    if seconds < _FIRST:
        return "a few seconds"
    if seconds < _SECOND:
        return f"about {seconds:.0f} seconds"
    if seconds < _MINUTE:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
