"""Progress bars and messages: shown on a terminal, progress in notebooks too, silent everywhere else."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from sen2chain.errors import escaped
from sen2chain.notebook import NotebookLine, shell

if TYPE_CHECKING:
    from collections.abc import Iterator


_SECONDS = 0.1
"""Time between two calls that show fractions."""


class Step(Protocol):
    """The function that a task calls as it advances."""

    def __call__(self, done: float | None = None, total: int | None = None) -> None:
        """Set the number of steps done and their total; without arguments, count one more step."""
        ...


class Shares:
    """Progress of tasks that run at once, each of them a step that is made by fractions.

    Parameters
    ----------
    step
        The function that shows it.
    total
        Number of tasks.
    """

    def __init__(self, step: Step, total: int) -> None:
        self._step, self._total = step, total
        self._ended, self._shown = 0, 0.0
        self._shares: dict[object, float] = {}
        self._lock = threading.Lock()

    def advance(self, task: object, share: float) -> None:
        """Say how much of a task is done, from 0 to 1; a task that begins again stays where it is meanwhile."""
        with self._lock:
            self._shares[task] = max(share, self._shares.get(task, 0.0))
            now = time.monotonic()
            if now - self._shown > _SECONDS:  # rich takes the speed from the last 1000 calls
                self._shown = now
                self._show()

    def end(self, task: object) -> None:
        """Count a task as done."""
        with self._lock:
            self._shares.pop(task, None)
            self._ended += 1
            self._show()

    def _show(self) -> None:
        self._step(self._ended + sum(self._shares.values()), self._total)


@contextlib.contextmanager
def progress(title: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Step]:
    """Show a bar with percentage, rate and time left on standard error, or below the running cell of a notebook.

    Parameters
    ----------
    title
        The text before the bar.
    total
        Number of steps, where it is known.
    quiet
        Show nothing, on a terminal and in a notebook neither.

    Yields
    ------
    Step
        To be called after each step.
    """
    if not shows_progress(quiet=quiet):
        yield lambda done=None, total=None: None  # noqa: ARG005
        return
    if not sys.stderr.isatty():
        with NotebookLine(title, total) as line:
            yield line
        return
    from rich.console import Console  # noqa: PLC0415  # needed on a terminal only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escaped(title), total=total, rate="")

        def step(done: float | None = None, total: int | None = None) -> None:
            if done is None:
                bar.advance(task)
            else:
                bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, rate=_rate(speed) if speed else "")

        yield step


def _rate(speed: float) -> str:
    """Return steps per second in words."""
    return f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"


@contextlib.contextmanager
def activity(title: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a title on a terminal or in a notebook during work that has no steps to count."""
    if not shows_progress(quiet=quiet):
        yield
        return
    if not sys.stderr.isatty():
        with NotebookLine(title):
            yield
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # As it is: the name of a layer may look like markup.
    with Console(stderr=True).status(Text(escaped(title))):
        yield


empty_results = logging.getLogger("sen2chain.results")
"""Its warnings tell why a result is empty; commands say that themselves, so they turn it off while they run."""


def say(sentence: str, *, quiet: bool = False) -> None:
    """Print a sentence on a terminal; scripts and cron read the result instead."""
    if is_watched(quiet=quiet):
        sys.stderr.write(f"{printable(sentence)}\n")


def is_watched(*, quiet: bool) -> bool:
    """Tell whether messages are shown: standard error is a terminal, and not quiet."""
    return not quiet and sys.stderr.isatty()


def shows_progress(*, quiet: bool) -> bool:
    """Tell whether progress is shown: on a terminal or in a notebook, and not quiet."""
    return not quiet and (sys.stderr.isatty() or shell() is not None)


def counted(count: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def sized(count: float) -> str:
    """Return a number of bytes in words, as ``3.2 GB``."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:,.1f} {unit}"
    return f"{count:.0f} bytes"


_FEW, _SECONDS_UP_TO, _MINUTES_UP_TO = 10, 90, 5400  # seconds up to which a time is "a few seconds", seconds, minutes


def lasting(seconds: float) -> str:
    """Return an approximate time in words, as ``about 5 minutes``."""
    if seconds < _FEW:
        return "a few seconds"
    if seconds < _SECONDS_UP_TO:
        return f"about {seconds:.0f} seconds"
    if seconds < _MINUTES_UP_TO:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"


def printable(text: str) -> str:
    """Return a text with all characters escaped that do something to a terminal; its lines stay."""
    return "\n".join(map(escaped, text.split("\n")))
