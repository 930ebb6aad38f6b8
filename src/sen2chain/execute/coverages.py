"""The coverages of a layer, one per grid: computed once, kept in memory and on disk, shared by all threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sen2chain import coverage
from sen2chain.execute.strips import Strips

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from sen2chain.coverage import Coverage, PixelPlan, PixelRule
    from sen2chain.grid import Grid
    from sen2chain.vectors import Layer


class Coverages:
    """What the pixels of a layer are on any grid.

    Parameters
    ----------
    layer
        The layer; its geometries are only asked for when a coverage has not been saved.
    rule
        Pixel rule of the statistics.
    buffer
        Metres by which features grow or shrink.
    folder
        Where coverages are kept between runs; None keeps none.
    """

    def __init__(
        self,
        layer: Layer,
        *,
        rule: PixelRule = "center",
        buffer: float | None = None,
        folder: Path | None = None,
    ) -> None:
        self.layer = layer
        self.rule: PixelRule = rule
        self._buffer, self._folder = buffer, folder
        self._kept: dict[object, Any] = {}
        self._locks: dict[object, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, grid: Grid, tile: str, rule: PixelRule | None = None) -> Coverage:
        """Return the coverage of a grid, from memory, disk, or computed and then saved."""
        rule = rule or self.rule

        def make() -> Coverage:
            options = {"tile": tile, "rule": rule, "buffer": self._buffer}
            key = coverage.coverage_key(self.layer.identity, grid, **options)  # type: ignore[arg-type]  # as prepare's
            found = coverage.load(key, grid, self._folder) if self._folder else None
            if found is None:
                found = coverage.prepare(self.layer.geometry, self.layer.crs, grid, **options)  # type: ignore[arg-type]
                if self._folder:
                    coverage.save(found, key, self._folder)
            return found

        result: Coverage = self._once((grid, tile, rule), make)
        return result

    def strips(self, plan: PixelPlan, height: int) -> Strips:
        """Return a plan in strips of a height."""
        result: Strips = self._once((id(plan), height), lambda: Strips.of(plan, height))
        return result

    def touched(
        self, plan: PixelPlan, raster: Grid, block_shape: tuple[int, int], margin: int = 0
    ) -> npt.NDArray[np.bool_]:
        """Return the blocks of a raster that a plan touches, see `touched_blocks`."""
        key = (id(plan), raster, block_shape, margin)
        result: npt.NDArray[np.bool_] = self._once(key, lambda: coverage.touched_blocks(plan, raster, block_shape, margin))
        return result

    def _once(self, key: object, make: Callable[[], object]) -> Any:
        """Make a value the first time it is asked for; other threads that want it wait for it."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]
