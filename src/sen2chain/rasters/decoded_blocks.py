"""Counts of opened rasters and decoded blocks, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True)
class Counts:
    """Opened rasters and decoded blocks while `counting`."""

    opens: Counter[str] = field(default_factory=Counter)
    """Location -> how often it was opened."""
    blocks: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    """(location, block row, block column) -> how often that block was read."""


_lock = threading.Lock()
_listeners: list[Counts] = []


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count what this process opens and reads, in all threads, while the context lasts."""
    counts = Counts()
    with _lock:
        _listeners.append(counts)
    try:
        yield counts
    finally:
        with _lock:
            _listeners.remove(counts)


def count(add: Callable[[Counts], None]) -> None:
    """Call a function with the counts of each `counting` that lasts."""
    if not _listeners:
        return
    with _lock:
        for counts in _listeners:
            add(counts)
