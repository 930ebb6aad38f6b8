from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sen2chain import cache

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TABLE = pa.table({"fid": np.arange(1000), "name": [f"P{k}" for k in range(1000)]})


def damaged(whole: bytes, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    cut = [whole[:n] for n in range(0, len(whole), 211)]
    zeros = [whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2), bytes(len(whole)), b"text", b""]
    flipped = []
    for _ in range(500):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        flipped.append(bytes(changed))
    return cut + zeros + flipped


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "table.arrow"
    assert cache.load(path) is None
    assert cache.save(path, TABLE)
    found = cache.load(path)
    assert found is not None
    assert found.equals(TABLE)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_with_any_damage_is_none(tmp_path: Path) -> None:
    path = tmp_path / "table.arrow"
    cache.save(path, TABLE)
    for content in damaged(path.read_bytes(), 5):
        path.write_bytes(content)
        assert cache.load(path) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not cache.save(tmp_path / "file" / "table.arrow", TABLE)


def test_a_file_that_is_replaced_or_dropped_stays_readable_where_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "table.arrow"
    cache.save(path, TABLE)
    found = cache.load(path)
    assert found is not None
    cache.save(path, TABLE.slice(0, 1))
    path.unlink()
    assert found.equals(TABLE)


def test_those_not_used_for_longest_are_dropped_but_none_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = time.time() - 86400 * np.arange(10, 0, -1)
    for when, key in zip(days, "abcd", strict=False):
        cache.save(tmp_path / key, TABLE)
        os.utime(tmp_path / key, (when, when))
    (tmp_path / "left-over.tmp").write_text("")
    os.utime(tmp_path / "left-over.tmp", (days[0], days[0]))
    (tmp_path / "young.tmp").write_text("")
    assert cache.load(tmp_path / "a") is not None  # used: no longer the oldest
    monkeypatch.setattr(cache, "LIMIT", 3 * (tmp_path / "a").stat().st_size)
    cache.save(tmp_path / "e", TABLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "d", "e", "young.tmp"]
    monkeypatch.setattr(cache, "LIMIT", 0)
    cache.save(tmp_path / "f", TABLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "e", "f", "young.tmp"]
