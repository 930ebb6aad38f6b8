"""Threads: work side by side, results in order, and work that must not be seen by the caller's threads."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_NAME = "sen2chain"
_filters = threading.RLock()


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
    pool = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)
    try:
        for future in ahead((pool.submit(work, item) for item in items), lambda: threads):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def apart(work: Callable[[], R]) -> R:
    """Do work in a thread of its own and wait for it, so that settings of a thread do not become the caller's."""
    with ThreadPoolExecutor(1, thread_name_prefix=_NAME) as pool:
        return pool.submit(work).result()


@contextlib.contextmanager
def recorded_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings, which are neither shown nor raised, whatever the caller's filters say.

    Python keeps filters for the whole process, and two threads that change them at once may leave them changed, so
    one thread at a time does.
    """
    with _filters, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found
