from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sen2chain import compiled
from sen2chain.compiled import helper, kernel

if TYPE_CHECKING:
    from pathlib import Path


@helper
def _double(x: float) -> float:
    return 2.0 * x


@kernel("float64(float64[::1])")
def total(values: Any) -> float:
    """Add up doubles."""
    s = 0.0
    for i in range(values.size):
        s += _double(values[i])
    return s


def test_a_kernel_is_compiled_once_when_first_called(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    machine_code = compiled._machine_code

    def counted(function: Any, signatures: Any) -> Any:
        made.append(signatures)
        return machine_code(function, signatures)

    monkeypatch.setattr(compiled, "_machine_code", counted)
    assert total.__doc__ == "Add up doubles."
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(total, [np.arange(4.0)] * 20))
    assert found == [12.0] * 20
    assert made == [["float64(float64[::1])"]]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="No matching definition"):
        total(np.arange(4, dtype=np.float32))


ASK = """
from sen2chain.zonal import is_compiled, reduce
import numpy as np
before = is_compiled()
reduce.reduce_counted(np.zeros(1, np.int16), np.zeros(1, np.uint8), 1, np.array([0, 1]), np.array([0.5]))
print(before, is_compiled())
"""


def test_machine_code_is_kept_and_known_to_be(tmp_path: Path) -> None:
    def ask() -> str:
        where = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run(  # noqa: S603  # our own interpreter
            [sys.executable, "-c", ASK], env=where, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert ask() == "False True"
    assert ask() == "True True"
