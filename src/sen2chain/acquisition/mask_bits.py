"""The masks of one task as bits: each mask is made once and looked up under every pixel of every feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.errors import RasterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.open_rasters import Coarse
    from sen2chain.grid import Grid
    from sen2chain.masks import Mask
    from sen2chain.plan import MaskSource
    from sen2chain.products import Radiometry

    Bytes = npt.NDArray[np.uint8]
    Nearest = tuple[Bytes, npt.NDArray[np.int32], npt.NDArray[np.int32]]

_BITS = 8


@dataclass(slots=True, eq=False)
class _Plane:
    """Up to eight masks of one grid, a bit each."""

    grid: Grid
    bits: Bytes
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    used: int = 0


class MaskPlanes:
    """The masks of a task.

    Parameters
    ----------
    grid
        The 10 m grid on which they are looked up, by nearest neighbour.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._planes: list[_Plane] = []
        self._place: dict[str, tuple[int, int]] = {}
        self._failed: dict[str, RasterError] = {}

    def make(self, mask: Mask, source: MaskSource, coarse: Coarse, radiometry: Radiometry | None) -> None:
        """Read or compute a mask, unless that has been done.

        Raises
        ------
        RasterError
            If one of its rasters cannot be used, also when asked again.
        """
        if mask.name in self._failed:
            raise self._failed[mask.name]
        if mask.name in self._place:
            return
        try:
            if not self._planes and (stored := coarse.stored(source)) is not None:
                # The only mask of most runs: nothing has to be copied.
                self._place[mask.name] = (self._add(*stored, used=_BITS), 0xFF)
                return
            grid, windows = coarse.mask(mask, source, radiometry)
        except RasterError as error:
            self._failed[mask.name] = error
            raise
        p = next((k for k, plane in enumerate(self._planes) if plane.grid == grid and plane.used < _BITS), None)
        if p is None:
            # Where no feature is, nothing is written, and untouched pages cost no memory.
            p = self._add(grid, np.zeros(grid.shape, np.uint8))
        plane = self._planes[p]
        for r, c, masked in windows:
            plane.bits[r, c] |= masked.view(np.uint8) << np.uint8(plane.used)
        self._place[mask.name] = (p, 1 << plane.used)
        plane.used += 1

    def _add(self, grid: Grid, bits: Bytes, used: int = 0) -> int:
        rows, columns = self._grid.nearest_in(grid, 0), self._grid.nearest_in(grid, 1)
        self._planes.append(_Plane(grid, bits, rows, columns, used))
        return len(self._planes) - 1

    def look_up(self) -> list[Nearest]:
        """Return the planes with the rows and columns in which the grid's pixels lie."""
        return [(plane.bits, plane.rows, plane.columns) for plane in self._planes]

    def cloud(self, mask: Mask, collected: Sequence[Bytes], size: int) -> tuple[Bytes, int]:
        """Return the collected bits that hold a mask, and its bit; no bit is set for a mask that was not made."""
        if mask.name not in self._place:
            return np.zeros(size, np.uint8), 1
        p, bit = self._place[mask.name]
        return collected[p], bit
