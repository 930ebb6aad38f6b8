from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sen2chain import parallel as module

if TYPE_CHECKING:
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
