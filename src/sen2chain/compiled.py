"""The one place that says how kernels are compiled.

A `kernel` is called from Python. Its signatures are explicit, so that it is compiled for these types and no others;
that happens the first time it is called, so that a run pays only for what it uses, and the result is kept on disk
beside the package (or in numba's cache folder where that cannot be written). A `helper` is called from kernels and
compiled as a part of them.
"""

from __future__ import annotations

import threading
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

CompilationError = numba.core.errors.NumbaError
"""What numba raises where it cannot compile."""

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()


class Kernel(Generic[P, R]):
    """A function of arrays that becomes machine code when it is first called.

    The code runs without the interpreter's lock. Division by zero gives inf or nan as in numpy, and sums keep their
    order (no fast-math), so that results depend neither on the machine's vector width nor on the number of threads.
    """

    def __init__(self, function: Callable[P, R], signatures: tuple[str, ...]) -> None:
        update_wrapper(self, function)
        self._function, self._signatures = function, signatures
        self._compiled: Callable[P, R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run, compiled."""
        if self._compiled is None:
            with _lock:
                self._compiled = self._compiled or _machine_code(self._function, list(self._signatures))
        result: R = self._compiled(*args, **kwargs)
        return result

    @property
    def is_saved(self) -> bool:
        """Whether its machine code lies on disk, so that the first call will not have to compile."""
        folder = numba.njit(cache=True)(self._function).stats.cache_path
        module = self._function.__module__.rpartition(".")[2]
        return any(Path(folder or "").glob(f"{module}.{self._function.__qualname__}-*.nbi"))


def kernel(*signatures: str) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Compile a function of arrays for numba's `signatures` when it is first called."""
    return lambda function: Kernel(function, signatures)


def helper(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function as a part of the kernels that call it."""
    compiled: Callable[P, R] = _machine_code(function, None)
    return compiled


def _machine_code(function: Any, signatures: list[str] | None) -> Any:
    return numba.njit(signatures, cache=signatures is not None, nogil=True, error_model="numpy")(function)
