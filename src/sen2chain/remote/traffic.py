"""Counts of requests and bytes."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Traffic:
    """What this process asked servers for, and what came, while a `counting` context lasts."""

    requests: int = 0
    """Requests that were sent, repeated ones included."""
    bytes: int = 0
    """Bytes of contents that arrived, without headers."""
    retries: int = 0
    """Requests that were sent because an earlier one had failed."""


_active: list[Traffic] = []
_lock = threading.Lock()


@contextlib.contextmanager
def counting() -> Iterator[Traffic]:
    """Count the requests of all threads of this process while the context lasts."""
    traffic = Traffic()
    with _lock:
        _active.append(traffic)
    try:
        yield traffic
    finally:
        with _lock:
            # By identity: two counts that are equal are still two.
            _active[:] = [other for other in _active if other is not traffic]


def count(*, requests: int = 0, arrived: int = 0, retries: int = 0) -> None:
    """Add to all counts."""
    with _lock:
        for traffic in _active:
            traffic.requests += requests
            traffic.bytes += arrived
            traffic.retries += retries


def _renew_lock() -> None:
    """Replace the lock in a forked process, where a thread that does not exist there may hold it."""
    global _lock  # noqa: PLW0603  # one lock per process
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
