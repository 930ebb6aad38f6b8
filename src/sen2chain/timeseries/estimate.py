"""The estimate of an extraction: what a run would read, what serves it, and its approximate time and size."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from sen2chain.export import csv_lines
from sen2chain.extract import workload_of
from sen2chain.parallel import workers
from sen2chain.plan import KEPT, notes_on
from sen2chain.progress import counted, lasting, sized

if TYPE_CHECKING:
    from sen2chain.plan import Output
    from sen2chain.timeseries.engine import Engine

_ROW_BYTES = 190  # of the documented columns in a CSV: names of product, index and mask are over half of it
_NUMBER_BYTES = 17  # of each further statistic
_SAMPLE = 1000  # features whose attributes are measured


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


@dataclass(slots=True, repr=False)
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
    """Time that decoding takes, with all threads of the run; or fetching, where that takes longer."""
    threads: int = 1
    """Threads of the run."""
    requests: int = 0
    """Requests to servers."""
    fetched: int = 0
    """Bytes that come from servers."""
    transfer: str = ""
    """A sentence on requests, bytes and their time; empty where all files are on disk."""
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
            f"{lasting(self.seconds)} with {counted(self.threads, 'thread')} ({self.pixels / 1e6:,.1f} million pixels "
            f"to decode), at most {self.rows:,} rows, {sized(self.csv_bytes)} as CSV. {self.transfer}"
        ).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show the sentence and the notes in a notebook."""
        return "".join(f"<p>{html.escape(text)}</p>" for text in (str(self), *self.notes))


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
    notes = [*engine.first_report().notes, *notes_on(plan.tasks)]
    made = Estimate(len(engine.layer), threads=threads, notes=notes)
    for task in plan.tasks:
        for output in task.outputs:
            served = made.served.setdefault((output.index.name, output.mask.name), Served())
            if output.reason is not None or output.value is None:
                served.missing, served.detail = served.missing + 1, served.detail or output.detail
                continue
            served.acquisitions += 1
            served.sources[_sources(output)] += 1
    work = workload_of(plan.tasks, coverages, quiet=engine.quiet)
    made.pixels, made.rows, made.requests, made.fetched = work.pixels, work.features, work.requests, work.fetched
    made.seconds = work.seconds / max(min(threads, workers()), 1)
    made.transfer = work.transfer(engine.requests_at_once)
    made.seconds = max(made.seconds, work.transfer_seconds(engine.requests_at_once))
    if plan.tasks:
        days = [task.product.sensing.date() for task in plan.tasks]
        made.first, made.last = str(min(days)), str(max(days))
    made.acquisitions, made.tiles = len(plan.tasks), tuple(sorted({task.product.tile for task in plan.tasks}))
    made.csv_bytes = made.rows * _bytes_per_row(engine)
    if not made.rows:
        made.why_nothing = _why_nothing(engine, made, work.trouble)
    elif work.trouble:
        made.notes.append(f"The estimate leaves out what cannot be read. {work.trouble}")
    return made


def _sources(output: Output) -> str:
    """Return the sources of values and mask in words; what a mask is computed from only where pixels were kept."""
    value, clouds = output.value.label if output.value else "", output.clouds
    if clouds is None:
        return value
    return f"{value}, {clouds.label if KEPT in clouds.label else clouds.kind}"


def _why_nothing(engine: Engine, made: Estimate, trouble: str) -> str:
    """Return why there would be no row; `trouble` is the error of a raster, or empty."""
    report = engine.first_report()
    if not engine.plan.tasks:
        return engine.why_nothing(report)
    lacking = next((served.detail for served in made.served.values() if served.detail), "")
    nowhere = f"No feature has a pixel on the tiles of the {engine.source.reading.kind}."
    return " ".join(filter(None, [trouble or lacking or nowhere, report.skipped_cause()]))


def _bytes_per_row(engine: Engine) -> int:
    layout = engine.row_format()
    sample = layout.attributes.slice(0, _SAMPLE)
    attributes = 0.0
    if sample.num_rows and sample.num_columns:
        lines = csv_lines(pa.Table.from_batches(sample.combine_chunks().to_batches()).to_batches()[0])
        attributes = sum(len(line) for line in lines.to_pylist()) / sample.num_rows
    return int(_ROW_BYTES + _NUMBER_BYTES * len(engine.request.statistics.extra) + attributes)
