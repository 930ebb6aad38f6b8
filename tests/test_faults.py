"""Runs that are killed at random moments, and runs that race: the result is always that of an undisturbed one.

``python tests/faults.py`` does the same a thousand times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faults import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        made = Faults(tmp_path_factory.mktemp("faults"))
        yield made
        made.close()


# Blocks, so that workers that run tests in parallel build few archives.
@pytest.mark.parametrize("block", range(2))
def test_a_killed_run_is_completed_by_the_next_one_to_the_same_rows(faults: Faults, block: int) -> None:
    seen = [faults.kill_once(seed) for seed in range(25 * block, 25 * (block + 1))]
    # A test whose processes are all over before they are killed would prove nothing.
    assert sum("killed" in how for how in seen) > 12


def test_two_runs_that_race_make_what_one_makes(faults: Faults) -> None:
    for seed in range(4):
        faults.race(seed)
