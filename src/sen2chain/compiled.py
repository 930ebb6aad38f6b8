"""The one place that says how kernels are compiled.

Signatures are explicit, so that compiling happens once at import and nothing is compiled in the middle of a run; the
result is kept on disk beside the package (or in numba's cache folder where that cannot be written).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def kernel(*signatures: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function of arrays to machine code that runs without the interpreter's lock.

    Division by zero gives inf or nan as in numpy, and sums keep their order (no fast-math), so that results depend
    neither on the machine's vector width nor on the number of threads.
    """
    compile_one = numba.njit(list(signatures), cache=True, nogil=True, error_model="numpy")
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", compile_one)
