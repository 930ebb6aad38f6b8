"""The coverages of a layer, one per grid: computed once, kept in memory and on disk, shared by all threads."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sen2chain import coverage
from sen2chain.acquisition import Layouts
from sen2chain.extract.kept_coverage import KeptCoverage
from sen2chain.parallel import Memo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from sen2chain.coverage import Coverage, PixelRule
    from sen2chain.grid import Grid
    from sen2chain.vectors import Layer

# Coverages above this are dropped from memory, if they are on disk: a run over a thousand tiles needs few at a time.
_BYTES = 512 << 20
_PROJECTED = 32


class Coverages:
    """Coverages of a layer by grid.

    Parameters
    ----------
    layer
        The layer; its geometries are only needed where a coverage has not been saved.
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
        self.layouts = Layouts()
        """Touched blocks and reading order of the plans of the coverages."""
        self._kept: OrderedDict[object, Coverage] = OrderedDict()
        self._memo = Memo(self._kept)
        # The 10 m and the 20 m grid of a tile follow each other.
        self._projected: dict[object, npt.NDArray[np.object_]] = {}
        self._of_pixels: OrderedDict[object, KeptCoverage] = OrderedDict()
        self._pixels_memo = Memo(self._of_pixels)

    def get(self, grid: Grid, tile: str, rule: PixelRule | None = None) -> Coverage:
        """Return the coverage of a grid, from memory, disk, or computed and then saved."""
        rule = rule or self.rule
        key = (grid, tile, rule)

        def make() -> Coverage:
            options: dict[str, object] = {"tile": tile, "rule": rule, "buffer": self.buffer}
            name = coverage.coverage_key(self.layer.identity, grid, **options)  # type: ignore[arg-type]  # as those of compute_coverage
            found = coverage.load(name, grid, self.folder) if self.folder else None
            if found is None:
                if len(self._projected) > _PROJECTED:
                    self._projected.clear()  # of tiles whose second grid never came
                options["projected"] = self._projected
                found = coverage.compute_coverage(self.layer.geometry, self.layer.crs, grid, **options)  # type: ignore[arg-type]
                if self.folder:
                    coverage.save(found, name, self.folder)
            return found

        found = self._memo.once(key, make)
        with self._memo.lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            if self.folder:
                while len(self._kept) > 2 and sum(c.nbytes for c in self._kept.values()) > _BYTES:
                    self._kept.popitem(last=False)
        return found

    def kept(self, grid: Grid, tile: str) -> KeptCoverage:
        """Return the pixels that are kept on a grid: those of all pixel rules."""
        key = grid, tile

        def make() -> KeptCoverage:
            return KeptCoverage.of(self.get(grid, tile, "center"), self.get(grid, tile, "all_touched"))

        found = self._pixels_memo.once(key, make)
        with self._pixels_memo.lock:
            self._of_pixels[key] = found
            self._of_pixels.move_to_end(key)
            while len(self._of_pixels) > 2 and sum(c.plan.nbytes for c in self._of_pixels.values()) > _BYTES // 4:
                self._of_pixels.popitem(last=False)
        return found
