"""Memory of images that the acquisitions of a run use one after the other.

The system hands out fresh memory page by page and clears each, which for images of a tile takes longer than to fill
them with pixels.
"""

from __future__ import annotations

import threading
from collections import deque
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Free = deque[Array]

_LEAST = 1 << 20
"""Bytes; smaller images come from the system."""
_MOST = 512 << 20
"""Bytes of images that wait while one is lent; the longest unused ones are given back to the system."""
_WAITING = 16
"""Images that wait for their next use at any time, likewise."""


class ImagePool:
    """Lends images, and gets each back when no array refers to its memory any more; used by many threads."""

    def __init__(self) -> None:
        self._free: Free = deque(maxlen=_WAITING)
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an image whose pixels hold anything, as `numpy.empty`."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < _LEAST:
            return np.empty(shape, dtype)
        memory = self._taken(size)
        loan = _Loan(np.empty(size, np.uint8) if memory is None else memory, self._free)
        return np.asarray(loan).view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an image of zeros, as `numpy.zeros`; all of its memory is written."""
        image = self.empty(shape, dtype)
        image.fill(0)
        return image

    def _taken(self, size: int) -> Array | None:
        """Take free memory of a size; forget the longest unused where much is free."""
        with self._lock:
            # Meanwhile other threads may give memory back, but only here is any taken away.
            waiting = [self._free.popleft() for _ in range(len(self._free))]
            place = next((k for k in reversed(range(len(waiting))) if waiting[k].size == size), None)
            found = None if place is None else waiting.pop(place)
            while sum(memory.size for memory in waiting) > _MOST:
                del waiting[0]
            self._free.extendleft(reversed(waiting))
        return found


class _Loan:
    """Owner of lent memory: arrays refer to it, and when it goes, the memory is free again."""

    def __init__(self, memory: Array, free: Free) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._memory, self._free = memory, free

    def __del__(self) -> None:
        self._free.append(self._memory)
