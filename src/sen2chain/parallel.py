"""Threads with results in order, the processors and memory of this process, and settings that stay inside a thread."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    Piece = Callable[[], None]
    Within = Callable[[], AbstractContextManager[Any]]

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound="Generator[Any, None, None]")

_NAME = "sen2chain"
_own = threading.local()  # `closes`: whether this thread is closing a generator that it may wait for
_filters = threading.RLock()
# Version 2 of control groups, and version 1, which has a tree for each controller.
_LIMITS = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}
_CGROUPS = Path("/sys", "fs", "cgroup")
_OWN = Path("/proc", "self", "cgroup")


MOST_WORKERS = 4096
"""Largest number of threads or processes that may be asked for."""


def workers(wanted: int = 0) -> int:
    """Return a number of threads; for 0, the number of processors that this process may use."""
    if wanted > 0:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Return the memory in bytes that this process may use; None where it is not known.

    That is the machine's memory, or less where the process or a group above it has a limit, as in containers and batch
    jobs.
    """
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has these
        return None
    return min([whole, *_limits()])


def _limits() -> list[int]:
    """Return the limits of the control groups that this process is in."""
    found = []
    try:
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(_LIMITS):
            tree, name = _LIMITS[controller]
            own = Path(group.lstrip("/"))
            for place in (own, *own.parents):  # ends with the root, which is all that a container sees
                try:
                    text = (_CGROUPS / tree / place / name).read_text(encoding="ascii").strip()
                except OSError:
                    continue
                if text.isdecimal():  # otherwise "max"
                    found.append(int(text))
    return found


class Memo:
    """Values by key, each computed once; other threads that need it meanwhile wait for it.

    Parameters
    ----------
    values
        Where they are kept; change it while holding `lock` only.
    """

    def __init__(self, values: dict[Any, Any] | None = None) -> None:
        self._values = {} if values is None else values
        self._locks: dict[object, threading.Lock] = {}
        self.lock = threading.Lock()

    def once(self, key: object, make: Callable[[], R]) -> R:
        """Return the value of a key; the first call computes it with `make`."""
        with self.lock:
            if key in self._values:
                return cast("R", self._values[key])
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self.lock:
                if key in self._values:
                    return cast("R", self._values[key])
            made = make()
            with self.lock:
                self._values[key] = made
                self._locks.pop(key, None)
            return made


class Allowance:
    """Bytes that threads may hold together; a thread that wants more waits until others have given back theirs.

    Parameters
    ----------
    whole
        Number of bytes. A thread may hold more if it is the only one.
    """

    def __init__(self, whole: int) -> None:
        self._whole, self._held = whole, 0
        self._change = threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Hold some bytes while the context lasts."""
        with self._change:
            self._change.wait_for(lambda: not amount or not self._held or self._held + amount <= self._whole)
            self._held += amount
        try:
            yield
        finally:
            with self._change:
                self._held -= amount
                self._change.notify_all()


def ahead(submitted: Iterable[T], count: Callable[[], int]) -> Iterator[T]:
    """Yield futures in submission order, keeping at most `count` of them in flight beside the one that is yielded.

    Parameters
    ----------
    submitted
        Futures; taking the next one submits its task.
    count
        Returns the number of tasks to keep in flight; called after each submission.
    """
    waiting: deque[T] = deque()
    for future in submitted:
        waiting.append(future)
        if len(waiting) > count():
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """Apply a function to many items in threads, and yield the results in order, see `Crew.results`."""
    return Crew(threads).results(work, items)


class Crew:
    """Threads that run tasks; while there are fewer tasks than threads, the others help with pieces of these tasks.

    Parameters
    ----------
    threads
        Number of threads; 0: the thread that begins pieces runs all of them.
    """

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix=_NAME)  # starts a thread when one is needed
        self._busy = 0  # threads that have work, and tasks that wait for one
        self._lock = threading.Lock()

    def results(
        self, work: Callable[[T], R], items: Iterable[T], ending: Callable[[], None] | None = None
    ) -> Generator[R, None, None]:
        """Apply a function to many items, each as a task, and yield the results in order; a crew does so once.

        Only as many results wait as there are threads, so that memory does not grow with the number of items. When not
        all results are taken, `closed` ends the threads and waits for them.

        Parameters
        ----------
        work
            The function.
        items
            The items.
        ending
            Called before the threads are waited for, so that those that wait for something else can be told to end.
        """
        wait = True
        # pandas changes the filters of warnings for the whole process, and threads undo each other's setting back.
        with warnings.catch_warnings():
            try:
                for future in ahead((self._submit(work, item) for item in items), lambda: self._threads):
                    yield future.result()
            except GeneratorExit:
                # A generator that nobody closes is collected at any time, in any thread: in one of its own, or in one
                # that holds a lock which they wait for. To wait for them there would be for ever.
                wait = getattr(_own, "closes", False)
                raise
            finally:
                self._pool.shutdown(wait=False, cancel_futures=True)
                if ending is not None:
                    ending()
                self._pool.shutdown(wait=wait, cancel_futures=True)

    def begin(self, pieces: Iterable[Piece], within: Within) -> Pieces:
        """Have idle threads begin with pieces of a task. Call `Pieces.finish` or `Pieces.drop` in any case.

        Parameters
        ----------
        pieces
            Functions that may run in any threads at once, and never wait for each other.
        within
            Makes the context that a helping thread enters; the caller is in it.
        """
        begun = Pieces(self, tuple(pieces), within)
        begun.find_helper()
        return begun

    @property
    def has_idle(self) -> bool:
        """Whether a thread has nothing to do."""
        return self._busy < self._threads

    def help(self, work: Piece) -> None:
        """Have an idle thread run a function, if there is one."""
        with self._lock:
            if not self.has_idle:
                return
            self._busy += 1
        # Once the results are closed there are no helpers any more: a task that still runs goes on alone.
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._counted, work)

    def _submit(self, work: Callable[[T], R], item: T) -> Future[R]:
        with self._lock:
            self._busy += 1
        return self._pool.submit(self._counted, work, item)

    def _counted(self, work: Callable[..., R], *items: Any) -> R:
        try:
            return work(*items)
        finally:
            with self._lock:
                self._busy -= 1


class Pieces:
    """Pieces of one task, which its own thread and helpers take in order; see `Crew.begin`."""

    def __init__(self, crew: Crew, pieces: Sequence[Piece], within: Within) -> None:
        self._crew, self._pieces, self._within = crew, pieces, within
        self._next = self._helpers = 0
        self._errors: dict[int, BaseException] = {}
        self._change = threading.Condition()

    def finish(self) -> None:
        """Work on the pieces until all have ended.

        Raises
        ------
        BaseException
            The error of the first piece that failed, which does not depend on the number of threads: all pieces before
            it have run. None is begun any more when one has failed.
        """
        try:
            self._work()
        finally:
            self.drop()  # an interruption leaves pieces, and nothing may go on behind it
        try:
            if self._errors:
                raise self._errors[min(self._errors)]
        finally:
            self._errors.clear()  # an error refers to what was at work, and so to itself

    def drop(self) -> None:
        """Leave the pieces that nobody has begun, and wait for the others, whatever becomes of them."""
        with self._change:
            self._next = len(self._pieces)
            self._change.wait_for(lambda: not self._helpers)

    def find_helper(self) -> None:
        """Have an idle thread help, if there is one and pieces are left; it finds the next helper."""
        if self._next < len(self._pieces):
            self._crew.help(self._help)

    def _help(self) -> None:
        with self._change:
            if self._next == len(self._pieces):  # nobody waits for helpers that come too late
                return
            self._helpers += 1
        try:
            with self._within():
                self._work()
        finally:
            with self._change:
                self._helpers -= 1
                self._change.notify_all()

    def _work(self) -> None:
        """Run pieces until none is left."""
        while True:
            with self._change:
                number = self._next
                if number == len(self._pieces):
                    return
                self._next += 1
            try:
                self.find_helper()  # a thread may have become idle since
                self._pieces[number]()
            except BaseException as error:  # noqa: BLE001  # raised by `finish`
                with self._change:
                    self._errors[number] = error
                    self._next = len(self._pieces)


@contextlib.contextmanager
def closed(results: G) -> Iterator[G]:
    """Close a generator of results of threads at the end, however that comes, and wait for its threads.

    A generator that passes on what another one gives closes that with `contextlib.closing`: whether anybody may wait
    is told where the outermost one is used, outside of any generator.
    """
    try:
        yield results
    finally:
        before, _own.closes = getattr(_own, "closes", False), True
        try:
            results.close()
        finally:
            _own.closes = before


def apart(work: Callable[[], R], ending: Callable[[], None] | None = None) -> R:
    """Run a function in a new thread and wait for it, so that thread settings it changes do not reach the caller.

    Parameters
    ----------
    work
        The function.
    ending
        Called when the caller is interrupted, before the thread is waited for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix=_NAME) as pool:
        try:
            return pool.submit(work).result()
        finally:
            if ending is not None:
                ending()


def detached(work: Callable[[], R]) -> Future[R]:
    """Begin a function in a thread of its own that nothing waits for, not even the end of the interpreter.

    It is for requests to servers: looking up a name, say, does not end when the user interrupts the program. Waiting
    for the result does.
    """
    future: Future[R] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised where the result is waited for
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=f"{_NAME}-detached", daemon=True).start()
    return future


@contextlib.contextmanager
def recorded_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect warnings, which are neither shown nor raised, whatever the caller's filters say.

    Python keeps filters for the whole process, and two threads that change them at once may leave them changed, so
    one thread at a time does.
    """
    with _filters, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found
