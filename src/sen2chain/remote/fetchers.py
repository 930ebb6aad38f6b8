"""Threads that fetch: a limited number per process, started when they are needed, ended when they have been idle."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], None]

_IDLE_SECONDS = 10.0


class Fetchers:
    """Threads that run jobs in order; they do not keep the interpreter from ending.

    Parameters
    ----------
    most
        Largest number of threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._change = threading.Condition(threading.Lock())
        self._waiting: deque[Job] = deque()
        self._threads = self._idle = 0

    def submit(self, job: Job, *, urgent: bool = False) -> None:
        """Have a thread run a job, which raises nothing; an urgent one comes before all others."""
        with self._change:
            if urgent:
                self._waiting.appendleft(job)
            else:
                self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._change.notify()
                return
            if self._threads == self._most:
                return
            self._threads += 1
        try:
            # A daemon: a server that does not answer must not keep the interpreter from ending.
            threading.Thread(target=self._run, name="sen2chain-fetch", daemon=True).start()
        except BaseException:
            with self._change:
                self._threads -= 1
            raise

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    self._idle += 1
                    called = self._change.wait(_IDLE_SECONDS)
                    self._idle -= 1
                    if not called and not self._waiting:
                        self._threads -= 1
                        return
                job = self._waiting.popleft()
            job()
            del job  # it holds a file, which may be large


_all: dict[int, Fetchers] = {}
_lock = threading.Lock()


def fetchers(most: int) -> Fetchers:
    """Return the threads of this process for a number of requests at once."""
    with _lock:
        return _all.setdefault(most, Fetchers(most))


def _forget() -> None:
    """Begin anew in a forked process, which has none of its parent's threads."""
    global _lock  # noqa: PLW0603  # one lock per process
    _lock = threading.Lock()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
