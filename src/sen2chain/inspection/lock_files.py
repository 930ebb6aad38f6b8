"""Lock files that take the place of the system's locks, where a file system has none, and outlive a killed run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sen2chain.produce.product_lock import LONGEST_HOLD, lock_folder

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.settings import Paths

_SOFT = "*-soft"


def left_locks(paths: Paths) -> list[Path]:
    """Return the lock files of a library that no run holds any more.

    The other lock files are the system's, which end with their process; they stay and lock nothing.
    """
    found = []
    for path in sorted(lock_folder(paths).glob(_SOFT)):
        try:
            if time.time() - path.stat().st_mtime > LONGEST_HOLD:
                found.append(path)
        except OSError:  # it has just been released
            continue
    return found
