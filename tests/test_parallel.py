from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sen2chain import parallel as module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_it_is_the_machines(groups: Path) -> None:
    assert module.memory() == 4096000
    write(groups / "own", "0::/\n")
    write(groups / "memory.max", "max\n")
    assert module.memory() == 4096000


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/user/job\n", "user/job/memory.max"),
        ("0::/user/job\n", "user/memory.max"),
        ("0::/seen/from/outside\n", "memory.max"),
        ("0::/\n4:memory:/job\n1:cpu:/\n", "memory/job/memory.limit_in_bytes"),
    ],
)
def test_a_limit_of_any_group_above_counts(own: str, file: str, groups: Path) -> None:
    write(groups / "own", own)
    write(groups / file, "1000000\n")
    assert module.memory() == 1000000


def test_unlimited_groups_of_the_first_version_hold_a_large_number(groups: Path) -> None:
    write(groups / "own", "4:memory:/\n")
    write(groups / "memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert module.memory() == 4096000


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert module.memory() is None


# ---------------------------------------------------------------------------------------------------------------- crew


def alone() -> AbstractContextManager[None]:
    return nullcontext()


@pytest.mark.parametrize(("threads", "tasks"), [(0, 1), (1, 1), (1, 3), (2, 1), (3, 2), (3, 9), (8, 3)])
def test_every_piece_runs_once_in_no_more_threads_than_there_are(threads: int, tasks: int) -> None:
    crew = module.Crew(threads)
    lock, running, most = threading.Lock(), set[str](), 0

    def task(number: int) -> list[tuple[int, int]]:
        nonlocal most
        done: list[tuple[int, int]] = []

        def piece(k: int) -> None:
            nonlocal most
            with lock:
                running.add(threading.current_thread().name)
                most = max(most, len(running))
            time.sleep(0.0005)
            with lock:
                running.discard(threading.current_thread().name)
            done.append((number, k))

        for _ in range(2):
            crew.begin([partial(piece, k) for k in range(12)], alone).finish()
            ahead = crew.begin([partial(piece, k) for k in range(12, 20)], alone)
            ahead.finish()
        return sorted(done)

    want = [sorted(2 * [(number, k) for k in range(20)]) for number in range(tasks)]
    got = list(crew.results(task, range(tasks))) if threads else [task(number) for number in range(tasks)]
    assert got == want
    assert most <= max(threads, 1)


def test_idle_threads_help_within_the_context_of_the_task() -> None:
    crew = module.Crew(3)
    entered, left = [], []
    all_three = threading.Barrier(3, timeout=10)

    @contextmanager
    def within() -> Iterator[None]:
        entered.append(threading.get_ident())
        yield
        left.append(threading.get_ident())

    def task(_: int) -> int:
        crew.begin([all_three.wait] * 3, within).finish()  # type: ignore[list-item]  # what it returns does not matter
        assert sorted(entered) == sorted(left), "nobody is inside any more"
        return threading.get_ident()

    (own,) = crew.results(task, range(1))
    assert len(set(entered)) == 2
    assert own not in entered, "its own thread is in the context already"


def test_a_thread_that_becomes_idle_helps_with_what_is_under_way() -> None:
    crew = module.Crew(2)
    under_way, together = threading.Event(), threading.Barrier(2, timeout=10)

    def task(number: int) -> int:
        if number == 0:
            under_way.wait(10)
            return number
        first = [under_way.set, lambda: time.sleep(0.05)]
        crew.begin([*first, together.wait, together.wait], alone).finish()  # type: ignore[list-item]  # as above
        return number

    assert list(crew.results(task, range(2))) == [0, 1]


def test_with_as_many_tasks_as_threads_each_runs_its_own_pieces() -> None:
    crew = module.Crew(2)
    both = threading.Barrier(2, timeout=10)

    def task(_: int) -> set[int]:
        seen: set[int] = set()
        both.wait()
        crew.begin([lambda: seen.add(threading.get_ident())] * 50, alone).finish()
        assert not crew.has_idle
        both.wait()
        return seen - {threading.get_ident()}

    assert list(crew.results(task, range(2))) == [set(), set()]


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_the_error_of_the_first_piece_in_order_is_raised_when_all_have_ended(threads: int) -> None:
    crew = module.Crew(threads)
    ended: list[int] = []

    def piece(k: int) -> None:
        time.sleep(0.02 if k == 3 else 0.001)  # the second one that fails is often earlier
        ended.append(k)
        if k in {3, 4, 5, 9}:
            raise (KeyError if k == 3 else ValueError)(k)

    def task(_: int) -> list[int]:
        with pytest.raises(KeyError, match="3"):
            crew.begin([partial(piece, k) for k in range(40)], alone).finish()
        return list(ended)

    (at_once,) = crew.results(task, range(1)) if threads else [task(0)]
    assert ended == at_once, "nothing goes on"
    assert set(range(4)) <= set(ended)
    assert len(ended) < 4 + 5 * max(threads, 1)


@pytest.mark.parametrize("threads", [0, 2])
def test_pieces_that_are_dropped_are_not_begun_and_those_that_run_are_waited_for(threads: int) -> None:
    crew = module.Crew(threads)
    begun, gate = threading.Event(), threading.Event()
    ended: list[int] = []

    def piece(k: int) -> None:
        begun.set()
        gate.wait(10)
        ended.append(k)
        raise ValueError(k)

    def task(_: int) -> list[int]:
        pieces = crew.begin([partial(piece, k) for k in range(5)], alone)
        if threads:
            begun.wait(10)
            threading.Timer(0.02, gate.set).start()
        pieces.drop()
        pieces.drop()
        return list(ended)

    (at_once,) = crew.results(task, range(1)) if threads else [task(0)]
    assert at_once == ended == ([0] if threads else [])


def test_a_task_goes_on_alone_when_the_results_are_forgotten() -> None:
    crew = module.Crew(2)
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()
    done: list[int] = []

    def task(number: int) -> int:
        if number:
            begun.set()
            gate.wait(10)
            crew.begin([partial(done.append, k) for k in range(50)], alone).finish()
            ended.set()
        return number

    results = crew.results(task, range(2))
    assert next(results) == 0
    begun.wait(10)
    del results  # collected here, which nobody waits for
    gate.set()
    assert ended.wait(10)
    assert done == list(range(50))


def test_a_helper_that_cannot_enter_the_context_leaves_the_pieces_to_the_others() -> None:
    crew = module.Crew(2)
    tried = threading.Event()

    def within() -> AbstractContextManager[None]:
        tried.set()
        raise OSError("no more options")

    def task(_: int) -> list[int]:
        done: list[int] = []
        crew.begin([lambda: tried.wait(10), *(partial(done.append, k) for k in range(9))], within).finish()  # type: ignore[list-item]
        return done

    assert list(crew.results(task, range(1))) == [list(range(9))]


def test_an_allowance_is_never_exceeded_but_by_one_alone() -> None:
    allowance = module.Allowance(100)
    held, most, lock = [0], [0], threading.Lock()

    def work(amount: int) -> None:
        with allowance.hold(amount):
            with lock:
                held[0] += amount
                most[0] = max(most[0], held[0])
                assert held[0] <= 100 or held[0] == amount or not amount  # nothing may be held beside anything
            time.sleep(0.001)
            with lock:
                held[0] -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 40, 50, 60, 0, 250, 10, 90] * 5))
    assert most[0] == 250
