"""Zonal statistics: tasks in, batches of rows and reasons out; what becomes of the rows is decided elsewhere.

`execution` runs tasks with one of the `executors` (`cluster` is that of Dask), `extraction` extracts one acquisition,
`removed_features` finds the features that need no pixel of it, `coverages` shares pixel plans between threads,
`pixel_keeper` takes the pixels to keep (`kept_coverage`) from what is decoded, `batches` makes rows and reasons,
`workload` tells the work of tasks beforehand.
"""

from __future__ import annotations

from sen2chain.extract.batches import RowRules, failed_batch
from sen2chain.extract.coverages import Coverages
from sen2chain.extract.execution import execute, resolve_executor
from sen2chain.extract.executors import Executor
from sen2chain.extract.pixel_keeper import KeptPixels
from sen2chain.extract.workload import kept_bytes, workload_of

__all__ = [
    "Coverages",
    "Executor",
    "KeptPixels",
    "RowRules",
    "Workload",
    "execute",
    "failed_batch",
    "kept_bytes",
    "resolve_executor",
    "workload_of",
]
