"""Just-in-time compilation of kernels with numba.

A `kernel` is called from Python. It has explicit signatures and is compiled on its first call, so that a run compiles
only the kernels it uses. The machine code is kept on disk: beside the package, or in numba's cache folder where the
package cannot be written. Where neither can be written, as for a service user without a home, each process compiles for
itself, and `unsaved` reports the time. A `helper` is called by kernels and compiled as a part of them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import numba

from sen2chain import settings

if TYPE_CHECKING:
    from collections.abc import Callable

CompilationError = numba.core.errors.NumbaError
"""Base of numba's errors in compilation."""

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_costs: list[float] = []  # seconds of each compilation whose result could not be kept


class Kernel(Generic[P, R]):
    """A function of arrays, compiled to machine code on its first call.

    The code runs without the interpreter's lock. Division by zero gives inf or nan as in numpy, and sums keep their
    order (no fast-math), so that results depend neither on the machine's vector width nor on the number of threads.
    """

    def __init__(self, function: Callable[P, R], signatures: tuple[str, ...]) -> None:
        update_wrapper(self, function)
        self._function, self._signatures = function, signatures
        self._compiled: Callable[P, R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the machine code, compiling it first if necessary."""
        if self._compiled is None:
            with _lock:
                self._compiled = self._compiled or _compiled(self._function, list(self._signatures))
        result: R = self._compiled(*args, **kwargs)
        return result

    @property
    def is_saved(self) -> bool:
        """Whether the machine code is on disk, so that the first call does not compile."""
        if not _may_be_saved(self._function):
            return False
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


def unsaved() -> list[str]:
    """Sentences on the time spent on machine code that could not be kept; each is returned once."""
    with _lock:
        count, seconds = len(_costs), sum(_costs)
        _costs.clear()
    if not count:
        return []
    cost = f"({count} in {seconds:.0f} s)"
    cause = "no folder for numba's cache can be written; set NUMBA_CACHE_DIR to one that can"
    return [f"The kernels were compiled for this process alone {cost}, because {cause}."]


def can_save() -> bool:
    """Whether machine code can be kept on disk."""
    return _may_be_saved(can_save)


def _compiled(function: Any, signatures: list[str]) -> Any:
    """Load machine code from the disk, or compile it."""
    if _may_be_saved(function):
        try:
            return _machine_code(function, signatures, cache=True)
        except OSError:  # the disk may be full
            logger.info("The machine code of %s cannot be kept", function.__qualname__, exc_info=True)
    elif not _costs:
        logger.warning("No folder for numba's cache can be written: kernels are compiled for this process alone")
    began = time.perf_counter()
    code = _machine_code(function, signatures, cache=False)
    _costs.append(time.perf_counter() - began)
    return code


def _may_be_saved(function: Any) -> bool:
    """Whether numba finds a folder for the machine code of a function."""
    beside = Path(function.__code__.co_filename).parent / "__pycache__"
    folder = beside if beside.exists() else beside.parent
    if not (
        os.environ.get("NUMBA_CACHE_DIR") or settings.has_home() or (folder.is_dir() and os.access(folder, os.W_OK))
    ):
        return False  # numba would begin a folder called ~ here
    try:
        numba.njit(cache=True)(function)
    except RuntimeError:  # its word for: nowhere
        return False
    return True


def _machine_code(function: Any, signatures: list[str] | None, *, cache: bool = False) -> Any:
    return numba.njit(signatures, cache=cache, nogil=True, error_model="numpy")(function)
