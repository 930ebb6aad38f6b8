"""Run a plan: tasks in, batches of rows and reasons out. Says nothing about where they go.

`run` drives tasks with one of the `executors` (`cluster` is that of Dask), `task` extracts one acquisition, `inputs`
holds its rasters, `strips` orders the pixel plan for reading, `coverages` shares pixel plans between threads, `rows`
makes rows and reasons.
"""

from __future__ import annotations

from sen2chain.extract.coverages import Coverages
from sen2chain.extract.executors import Executor
from sen2chain.extract.rows import RowRules, failed_batch
from sen2chain.extract.run import execute, resolve_executor

__all__ = ["Coverages", "Executor", "RowRules", "execute", "failed_batch", "resolve_executor"]
