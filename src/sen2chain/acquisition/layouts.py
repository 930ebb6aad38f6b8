"""What acquisitions of a run share: touched blocks and reading order of pixel plans, and memory of images."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from sen2chain import coverage
from sen2chain.acquisition.image_pool import ImagePool
from sen2chain.acquisition.strips import Strips
from sen2chain.parallel import Memo

if TYPE_CHECKING:
    from sen2chain.coverage import PixelPlan, TouchedBlocks
    from sen2chain.grid import Grid


class Layouts:
    """Reading orders and touched blocks by pixel plan, computed once and kept as long as the plan; for all threads."""

    def __init__(self) -> None:
        self.images = ImagePool()
        """Memory of images."""
        self._of_plan: weakref.WeakKeyDictionary[PixelPlan, Memo] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def strips(self, plan: PixelPlan, height: int, *, in_pieces: bool = True) -> Strips:
        """Return the reading order of a plan for strips of `height` rows, see `Strips.of`."""
        return self._memo(plan).once(
            ("strips", height, in_pieces), lambda: Strips.of(plan, height, in_pieces=in_pieces)
        )

    def touched(self, plan: PixelPlan, raster: Grid, block_shape: tuple[int, int], margin: int = 0) -> TouchedBlocks:
        """Return the blocks of a raster that a plan touches, see `sen2chain.coverage.touched_blocks`."""
        return self._memo(plan).once(
            (raster, block_shape, margin), lambda: coverage.touched_blocks(plan, raster, block_shape, margin)
        )

    def _memo(self, plan: PixelPlan) -> Memo:
        with self._lock:
            return self._of_plan.setdefault(plan, Memo())
