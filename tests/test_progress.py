"""Progress bars: fractions of tasks, and what a terminal shows of them."""

from __future__ import annotations

import io
import itertools
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import rich.progress

from sen2chain import progress as module
from sen2chain.progress import Shares, progress


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, int | None]]:
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    return []


def test_fractions_add_up_to_tasks(shown: list[tuple[float | None, int | None]]) -> None:
    shares = Shares(lambda done=None, total=None: shown.append((done, total)), 3)
    shares.advance("a", 0.25)
    shares.advance("b", 0.5)
    shares.advance("a", 0.125)  # it begins again
    shares.advance("a", 0.5)
    shares.end("a")
    shares.end("c")  # of which nothing was told
    shares.end("b")
    assert shown == [(0.25, 3), (0.75, 3), (0.75, 3), (1.0, 3), (1.5, 3), (2.5, 3), (3, 3)]


def test_many_threads_may_tell_at_once(shown: list[tuple[float | None, int | None]]) -> None:
    shares = Shares(lambda done=None, total=None: shown.append((done, total)), 8)

    def work(task: int) -> None:
        for k in range(1, 65):
            shares.advance(task, k / 64)
        shares.end(task)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert shown == sorted(shown)
    assert shown[-1] == (8, 8)


def test_fractions_are_not_shown_more_often_than_anybody_can_see() -> None:
    calls: list[float | None] = []
    shares = Shares(lambda done=None, total=None: calls.append(done), 1)  # noqa: ARG005  # a step
    for k in range(10_000):
        shares.advance("a", k / 10_000)
    assert len(calls) < 100
    shares.end("a")
    assert calls[-1] == 1


def test_a_terminal_shows_percentage_rate_and_time_left_within_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock = itertools.count(0.0)
    monkeypatch.setattr(rich.progress, "Progress", partial(rich.progress.Progress, get_time=lambda: next(clock)))
    with progress("extracting", 1) as step:
        for k in range(1, 4):
            step(k / 10, 1)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "30%" in text
    assert "/min" in text
    assert re.search(r"left\s+0:\d\d:\d\d", text)


def test_nothing_is_shown_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("extracting", 1) as step:
        step(0.5, 1)
    assert capsys.readouterr() == ("", "")
