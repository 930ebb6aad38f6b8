"""Notebooks: progress below a cell while it runs, and small tables that show what an object is.

Nothing here imports IPython. A kernel that runs this process has imported it long before.
"""

from __future__ import annotations

import contextlib
import html
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from sen2chain.errors import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECONDS = 0.25
"""Time between two changes of the output; a notebook keeps up with no more."""
_BEFORE = 0.4
"""Time before the first line is shown, so that what is quick leaves no output."""
_PROCESS = os.getpid()


def shell() -> Any:
    """Return the IPython shell of the notebook's kernel that runs this process; None on a terminal and in scripts."""
    module = sys.modules.get("IPython")
    if module is None or os.getpid() != _PROCESS:  # a copy of the kernel's process does not own its output
        return None
    with contextlib.suppress(Exception):  # whatever a half-started or a foreign IPython does, work goes on
        found = module.get_ipython()
        if found is not None and getattr(found, "kernel", None) is not None:
            return found
    return None


class _Output:
    """The output of a cell that shows one line for each thing that is going on.

    Each cell has one such output, which is used again and is empty while nothing goes on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lines: dict[int, str] = {}
        self._cell: object = None
        self._handle: Any = None
        self._shown = 0.0
        self._is_empty = True

    def show(self, key: int, line: str) -> None:
        """Show the line of a thing; seldom enough for a notebook."""
        with self._lock:
            self._lines[key] = line
            if time.monotonic() - self._shown >= _SECONDS:
                self._draw()

    def remove(self, key: int) -> None:
        """Remove the line of a thing that is over."""
        with self._lock:
            self._lines.pop(key, None)
            if not self._lines and not self._is_empty:
                self._draw()

    def _draw(self) -> None:
        owner = shell()
        if owner is None:
            return
        self._shown, self._is_empty = time.monotonic(), not self._lines
        content = {"text/html": "".join(self._lines.values()), "text/plain": ""}
        with contextlib.suppress(Exception):  # an output that cannot be shown must not end the work
            cell = getattr(owner, "execution_count", None)
            if self._handle is None or cell != self._cell:
                display = sys.modules["IPython"].display.display
                self._handle, self._cell = display(content, raw=True, display_id=True), cell
            else:
                self._handle.update(content, raw=True)


_OUTPUT = _Output()


class NotebookLine:
    """A line of progress below the running cell. Use it as a context manager.

    Parameters
    ----------
    title
        What is going on.
    total
        Number of steps, where it is known; None shows the title alone.
    """

    def __init__(self, title: str, total: int | None = None) -> None:
        self._title, self._total, self._done = title, total, 0.0
        self._start, self._is_over = time.monotonic(), False
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        # Nobody calls during work without steps.
        self._timer = threading.Timer(_BEFORE, self._show)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._timer.cancel()
            self._is_over = True
        _OUTPUT.remove(id(self))

    def __call__(self, done: float | None = None, total: int | None = None) -> None:
        """Set the number of steps done and their total; without arguments, count one more step."""
        with self._lock:
            self._done = self._done + 1 if done is None else done
            self._total = self._total if total is None else total
        self._show()

    def _show(self) -> None:
        with self._lock:
            if not self._is_over and time.monotonic() - self._start >= _BEFORE:
                _OUTPUT.show(id(self), self._html())

    def _html(self) -> str:
        title = html.escape(escaped(self._title))
        if not self._total:
            return f'<div role="status">{title} &hellip;</div>'
        passed, share = time.monotonic() - self._start, min(self._done / self._total, 1.0)
        left = f", {_clock(passed / share - passed)} left" if share > 0 else ""
        return (
            f'<div role="status">{title} <progress value="{share:.4f}" max="1" aria-label="{title}"></progress> '
            f"{share:.0%} ({self._done:.0f} of {self._total}), {_clock(passed)}{left}</div>"
        )


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def card(
    title: str, facts: Iterable[tuple[str, object]], next_step: str = "", table: Sequence[Sequence[object]] = ()
) -> str:
    """Return a small piece of HTML that shows what an object is; all texts are data, whatever they contain.

    Parameters
    ----------
    title
        What it is.
    facts
        Names and values.
    next_step
        Code that people may write next.
    table
        Rows below the facts, the first one their header.
    """
    lines = [f"<div><strong>{_text(title)}</strong>", '<table style="text-align:left">']
    lines += [
        f'<tr><th style="text-align:left">{_text(name)}</th><td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in facts
        if value not in {None, ""}
    ]
    lines.append("</table>")
    if table:
        header, *rows = table
        lines.append(
            "<table><thead><tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in header) + "</tr></thead><tbody>"
        )
        lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        lines.append("</tbody></table>")
    if next_step:
        lines.append(f"<p>Next: <code>{_text(next_step)}</code></p>")
    return "\n".join([*lines, "</div>"])


def _text(value: object) -> str:
    """Return a value as text of HTML."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    # Dollar signs are formulas for the notebook's typesetting of mathematics.
    return html.escape(escaped(text)).replace("$", "&#36;<!-- -->")
