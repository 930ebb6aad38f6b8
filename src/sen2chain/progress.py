"""Progress bars and messages: shown on a terminal, silent everywhere else."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

from sen2chain.errors import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator


class Step(Protocol):
    """The function that a task calls as it advances."""

    def __call__(self, done: int | None = None, total: int | None = None) -> None:
        """Set the number of steps done and their total; without arguments, count one more step."""
        ...


@contextlib.contextmanager
def progress(title: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Step]:
    """Show a bar with rate and time left on standard error.

    Parameters
    ----------
    title
        The text before the bar.
    total
        Number of steps, where it is known.
    quiet
        Show nothing, on a terminal neither.

    Yields
    ------
    Step
        To be called after each step.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done=None, total=None: None  # noqa: ARG005
        return
    from rich.console import Console  # noqa: PLC0415  # needed on a terminal only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escaped(title), total=total, rate="")

        def step(done: int | None = None, total: int | None = None) -> None:
            if done is None:
                bar.advance(task)
            else:
                bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield step


@contextlib.contextmanager
def activity(title: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a title on a terminal during work that has no steps to count."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # As it is: the name of a layer may look like markup.
    with Console(stderr=True).status(Text(escaped(title))):
        yield


def say(sentence: str, *, quiet: bool = False) -> None:
    """Print a sentence on a terminal; scripts and cron read the result instead."""
    if is_watched(quiet=quiet):
        sys.stderr.write(f"{printable(sentence)}\n")


def is_watched(*, quiet: bool) -> bool:
    """Tell whether messages are shown: standard error is a terminal, and not quiet."""
    return not quiet and sys.stderr.isatty()


def counted(count: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def printable(text: str) -> str:
    """Return a text with all characters escaped that do something to a terminal; its lines stay."""
    return "\n".join(map(escaped, text.split("\n")))
