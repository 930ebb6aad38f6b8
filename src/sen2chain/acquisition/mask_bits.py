"""Cloud masks of one acquisition as bits: each mask is computed once and looked up under every collected pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import kernel
from sen2chain.zonal import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.coarse_rasters import CoarseRasters
    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid
    from sen2chain.masks import Mask
    from sen2chain.plan import MaskSource
    from sen2chain.products import Radiometry

    Bools = npt.NDArray[np.bool_]
    Bytes = npt.NDArray[np.uint8]
    Ints = npt.NDArray[np.int64]
    Nearest = tuple[Bytes, npt.NDArray[np.int32], npt.NDArray[np.int32]]

_BITS = 8


@kernel("void(uint8[:,::1], int64[::1], int64[::1], boolean[:,:,:], uint8)")
def _set_bits(bits: Bytes, row: Ints, column: Ints, masked: Bools, bit: int) -> None:
    """Set a bit wherever windows of a mask, whose first rows and columns are given, are True."""
    for k in range(row.size):
        for i in range(masked.shape[1]):
            line, window = bits[row[k] + i], masked[k, i]
            for j in range(masked.shape[2]):
                if window[j]:
                    line[column[k] + j] |= bit


@dataclass(slots=True, eq=False)
class _Plane:
    """Up to eight masks of one grid, a bit each."""

    grid: Grid
    bits: Bytes
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    used: int = 0


class MaskBits:
    """Masks of an acquisition, up to eight in one raster of bytes (a plane).

    Parameters
    ----------
    grid
        The grid on which masks are looked up, by nearest neighbour.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._planes: list[_Plane] = []
        self._place: dict[str, tuple[int, int]] = {}

    def make(self, mask: Mask, source: MaskSource, coarse: CoarseRasters, radiometry: Radiometry | None) -> None:
        """Read or compute a mask.

        Raises
        ------
        RasterError
            If one of its rasters cannot be used.
        """
        if not self._planes and (stored := coarse.stored(source)) is not None:
            # The only mask of most runs: nothing has to be copied.
            self._place[mask.name] = (self._add(*stored, used=_BITS), 0xFF)
            return
        location, windows = coarse.mask(mask, source, radiometry)
        grid = coarse.raster(location).grid
        p = next((k for k, plane in enumerate(self._planes) if plane.grid == grid and plane.used < _BITS), None)
        if p is None:
            p = self._add(grid, coarse.zeros(location, np.uint8).view(np.uint8))
        plane = self._planes[p]
        bit = 1 << plane.used
        for row, column, masked in windows:
            _set_bits(plane.bits, row, column, masked, bit)
        self._place[mask.name] = (p, bit)
        plane.used += 1

    def _add(self, grid: Grid, bits: Bytes, used: int = 0) -> int:
        rows, columns = self._grid.nearest_in(grid, 0), self._grid.nearest_in(grid, 1)
        self._planes.append(_Plane(grid, bits, rows, columns, used))
        return len(self._planes) - 1

    def look_up(self) -> list[Nearest]:
        """Return each plane with the rows and columns of it in which the pixels of the grid lie."""
        return [(plane.bits, plane.rows, plane.columns) for plane in self._planes]

    def cloud(self, name: str, collected: Sequence[Bytes], size: int) -> tuple[Bytes, int]:
        """Return collected bits and the bit of a mask in them; no bit is set for a mask that was not made."""
        if name not in self._place:
            return np.zeros(size, np.uint8), 1
        p, bit = self._place[name]
        return collected[p], bit

    def removed(self, names: Iterable[str], plan: PixelPlan, among: Bools) -> dict[str, Bools]:
        """Find the features of which masks remove every pixel.

        Parameters
        ----------
        names
            Masks that were computed.
        plan
            The pixels, on the grid on which masks are looked up.
        among
            (features of the plan,) True for the features in question; each has a pixel.

        Returns
        -------
        dict
            Mask name -> (features of the plan,) of bool.
        """
        places = {name: self._place[name] for name in names}
        common: dict[int, Bytes] = {}
        for p in {p for p, _ in places.values()}:
            plane = self._planes[p]
            asked = np.bitwise_or.reduce([bit for other, bit in places.values() if other == p])
            common[p] = np.where(among, np.uint8(asked), np.uint8(0))
            runs = plan.feature, plan.row, plan.column, plan.length
            gather.common_bits(plane.bits, plane.rows, plane.columns, *runs, 0xFF, common[p])
        return {name: (common[p] & np.uint8(bit)) > 0 for name, (p, bit) in places.items()}

    def image(self, name: str) -> tuple[Grid, Bytes, int] | None:
        """Return the grid of a mask, its bits, and the bit of the mask in them; None for a mask that was not made."""
        if name not in self._place:
            return None
        p, bit = self._place[name]
        return self._planes[p].grid, self._planes[p].bits, bit
