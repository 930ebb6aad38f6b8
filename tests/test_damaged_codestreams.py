"""Damaged JPEG 2000 files are refused or read, and nothing else happens.

``python tests/damaged_codestreams.py`` does the same with twenty thousand files.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from damaged_codestreams import run
from damaged_files import FORMS, KINDS, damage, forms, write_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("damaged")
    write_all(made)
    return made


# Blocks, so that workers that run tests in parallel share the work.
@pytest.mark.parametrize("block", range(2))
def test_damaged_files_are_refused_or_read_and_nothing_else(folder: Path, block: int) -> None:
    results = list(run(folder, range(250 * block, 250 * (block + 1)), workers=1))
    assert [result for result in results if result["faults"]] == []
    counts = sum((Counter(result["counts"]) for result in results), Counter[str]())
    # Files that are all refused, or of which no tile is damaged, would prove nothing.
    for what, least in (
        ("read", 500),
        ("refused", 150),
        ("read with damage", 100),
        ("GDAL: same pixels", 40),
        ("overview read", 20),
    ):
        assert counts[what] > least, counts


def test_all_forms_are_damaged_in_all_ways(folder: Path) -> None:
    seen = [damage(folder, seed) for seed in range(500)]
    assert {damaged.form.name for damaged in seen} == FORMS.keys()
    assert len({damaged.how[0] for damaged in seen if damaged.how}) > 2 * len(KINDS)
    assert sum(damaged.data == damaged.form.data for damaged in seen) < 25


def test_the_forms_are_what_they_are_meant_to_be(folder: Path) -> None:
    parts = {form.name: len(form.parts) for form, _ in forms(folder)}
    assert parts["parts"] == 4 * 6
    assert parts["layers"] == 3 * 6
    assert parts["single"] == 1
    markers = {form.name: {marker for marker, _, _ in form.segments} for form, _ in forms(folder)}
    assert 0xFF55 in markers["table"] & markers["parts_table"]
    assert all(form.pixels.any() and form.tiles_of((0, 1, 0, 1)) == {0} for form, _ in forms(folder))
