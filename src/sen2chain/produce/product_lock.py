"""Locks on products, so that two runs share the work on one library and make nothing twice.

The lock files lie in one folder of the library. There is a fixed number of them, which products share by their names:
so there are few, and none has to be removed. A lock is the operating system's and ends with its process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

from sen2chain.atomic import writing
from sen2chain.errors import OutputError
from sen2chain.store import file_lock, if_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.products import ProductId
    from sen2chain.settings import Paths

_FILES = 256
LONGEST_HOLD = 86400.0
"""Age in seconds from which no run holds a lock file that stands in for the system's lock: a product takes minutes."""


def lock_folder(paths: Paths) -> Path:
    """Return the folder of the lock files of a library."""
    return paths.temp / "locks"


@contextlib.contextmanager
def product_lock(paths: Paths, product: ProductId, wait: float = 0.0) -> Iterator[bool]:
    """Hold a product for this thread while the context lasts.

    Parameters
    ----------
    paths
        The folders of the library.
    product
        The product.
    wait
        Seconds to wait for another run, or another thread, to be done with it; -1 waits without limit.

    Yields
    ------
    bool
        Whether it is held; not if another run holds it for longer.

    Raises
    ------
    OutputError
        If the lock file cannot be written, or is one that a killed run left on a file system without locks.
    """
    number = int.from_bytes(hashlib.sha256(str(product).encode()).digest()[:2], "big") % _FILES
    path = lock_folder(paths) / f"{number:02x}.lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock, is_held = file_lock(path), True
        try:
            lock.acquire(timeout=wait)
        except TimeoutError:
            is_held = False
        if not is_held and (advice := if_left(lock)) and _age(lock.lock_file) > LONGEST_HOLD:
            raise OutputError(f"{product} is locked for more than a day; wait for the run that does so{advice}.")
    try:
        yield is_held
    finally:
        if is_held:
            lock.release()


def _age(path: str) -> float:
    """Return the seconds since a file was made; 0 where it is gone."""
    try:
        return time.time() - os.stat(path).st_mtime  # noqa: PTH116  # filelock's texts
    except OSError:
        return 0.0
