"""Memory of images: lent to one user at a time, and free when no array refers to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.acquisition import image_pool
from sen2chain.acquisition.image_pool import ImagePool

if TYPE_CHECKING:
    import pytest

SHAPE = (1100, 1000)


def address(image: np.ndarray) -> int:
    found: int = image.__array_interface__["data"][0]
    return found


def test_memory_is_lent_again_when_the_last_view_is_gone() -> None:
    pool = ImagePool()
    image = pool.empty(SHAPE, np.uint16)
    place, part = address(image), image[3:5, 7:].view(np.int16)
    del image
    assert address(pool.empty(SHAPE, np.uint16)) != place
    part[...] = -1
    del part
    again = pool.empty(SHAPE, np.int16)
    assert address(again) == place
    assert again.shape == SHAPE
    assert again.dtype == np.int16


def test_zeros_are_zero_in_memory_that_was_used() -> None:
    pool = ImagePool()
    used = pool.zeros(SHAPE, np.uint16)
    place = address(used)
    used[...] = 7
    del used
    zeros = pool.zeros(SHAPE, np.uint16)
    assert address(zeros) == place
    assert not zeros.any()


def test_free_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pool, "_MOST", 5 << 20)
    pool = ImagePool()
    images = [pool.empty((n << 20,), np.uint8) for n in (3, 2, 4)]
    places = [address(image) for image in images]
    while images:
        images.pop(0)
    # All wait until memory is taken again; then the longest unused one is given back to the system.
    assert address(pool.empty((2 << 20,), np.uint8)) == places[1]
    assert [memory.size >> 20 for memory in pool._free] == [4, 2]


def test_no_memory_is_lent_twice_at_once() -> None:
    pool = ImagePool()

    def work(number: int) -> bool:
        whole = True
        for _ in range(200):
            image = pool.empty((1 << 20,), np.uint8)
            image[:64] = number
            other = pool.zeros((1 << 20,), np.uint8)
            whole &= bool((image[:64] == number).all() and not other.any())
        return whole

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(1, 9)))
    assert len(pool._free) == 16  # the others were given back to the system


def test_memory_outlives_the_pool() -> None:
    image = ImagePool().zeros(SHAPE, np.uint8)
    image[...] = 5
    assert int(image.sum()) == 5 * image.size
