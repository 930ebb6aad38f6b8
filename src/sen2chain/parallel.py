"""Work side by side, results in order: how many threads there are, and how far ahead of the reader they may be."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")


def workers(wanted: int = 0) -> int:
    """Return a number of threads: 0 is as many as this process may use."""
    if wanted > 0:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(submitted: Iterable[T], count: Callable[[], int]) -> Iterator[T]:
    """Yield what is submitted in its order, but let `count` more be submitted before one is waited for."""
    waiting: deque[T] = deque()
    for future in submitted:
        waiting.append(future)
        if len(waiting) > count():
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Do the same to many items in threads, and yield the results in order.

    Only as many results wait as there are threads, so that memory does not grow with the number of items.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sen2chain")
    try:
        for future in ahead((pool.submit(work, item) for item in items), lambda: threads):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
