"""The coverages of a layer, one per grid: computed once, kept in memory and on disk, shared by all threads."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from sen2chain import coverage
from sen2chain.extract.strips import Strips

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from sen2chain.coverage import Coverage, PixelPlan, PixelRule
    from sen2chain.grid import Grid
    from sen2chain.vectors import Layer

# Coverages above this are dropped from memory, if they are on disk: a run over a thousand tiles needs few at a time.
_BYTES = 512 << 20
_PROJECTED = 32


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
        self, layer: Layer, *, rule: PixelRule = "center", buffer: float | None = None, folder: Path | None = None
    ) -> None:
        self.layer, self.buffer, self.folder = layer, buffer, folder
        self.rule: PixelRule = rule
        self._kept: OrderedDict[object, Coverage] = OrderedDict()
        # What follows from a plan lives as long as the plan.
        self._derived: weakref.WeakKeyDictionary[PixelPlan, dict[object, Any]] = weakref.WeakKeyDictionary()
        self._locks: dict[object, threading.Lock] = {}
        # The 10 m and the 20 m grid of a tile follow each other.
        self._projected: dict[object, npt.NDArray[np.object_]] = {}
        self._lock = threading.Lock()

    def get(self, grid: Grid, tile: str, rule: PixelRule | None = None) -> Coverage:
        """Return the coverage of a grid, from memory, disk, or computed and then saved."""
        rule = rule or self.rule
        key = (grid, tile, rule)

        def make() -> Coverage:
            options: dict[str, object] = {"tile": tile, "rule": rule, "buffer": self.buffer}
            name = coverage.coverage_key(self.layer.identity, grid, **options)  # type: ignore[arg-type]  # as prepare's
            found = coverage.load(name, grid, self.folder) if self.folder else None
            if found is None:
                if len(self._projected) > _PROJECTED:
                    self._projected.clear()  # of tiles whose second grid never came
                options["projected"] = self._projected
                found = coverage.prepare(self.layer.geometry, self.layer.crs, grid, **options)  # type: ignore[arg-type]
                if self.folder:
                    coverage.save(found, name, self.folder)
            return found

        found: Coverage = self._once(self._kept, key, make)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            if self.folder:
                while len(self._kept) > 2 and sum(c.nbytes for c in self._kept.values()) > _BYTES:
                    self._kept.popitem(last=False)
        return found

    def strips(self, plan: PixelPlan, height: int) -> Strips:
        """Return a plan in strips of a height."""
        result: Strips = self._once(self._of(plan), ("strips", height), lambda: Strips.of(plan, height))
        return result

    def touched(
        self, plan: PixelPlan, raster: Grid, block_shape: tuple[int, int], margin: int = 0
    ) -> npt.NDArray[np.bool_]:
        """Return the blocks of a raster that a plan touches, see `sen2chain.coverage.touched_blocks`."""
        result: npt.NDArray[np.bool_] = self._once(
            self._of(plan),
            (raster, block_shape, margin),
            lambda: coverage.touched_blocks(plan, raster, block_shape, margin),
        )
        return result

    def _of(self, plan: PixelPlan) -> dict[object, Any]:
        with self._lock:
            return self._derived.setdefault(plan, {})

    def _once(self, kept: Any, key: object, make: Callable[[], object]) -> Any:
        """Make a value the first time it is asked for; other threads that want it wait for it."""
        with self._lock:
            if key in kept:
                return kept[key]
            lock = self._locks.setdefault((id(kept), key), threading.Lock())
        with lock:
            with self._lock:
                if key in kept:
                    return kept[key]
            made = make()
            with self._lock:
                kept[key] = made
                self._locks.pop((id(kept), key), None)
            return made
