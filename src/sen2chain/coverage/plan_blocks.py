"""Blocks of a raster that hold pixels of a plan, so that only those are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage.pixel_plan import PixelPlan
    from sen2chain.grid import Grid

    Ints = npt.NDArray[np.int32]
    Bools = npt.NDArray[np.bool_]


@kernel("void(int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64, int64, int64, boolean[:,::1])")
def _mark(
    row: Ints, column: Ints, length: Ints, rows: Ints, columns: Ints, high: int, wide: int, margin: int, touched: Bools
) -> None:
    """Mark the blocks of `high` x `wide` pixels within `margin` pixels of the runs."""
    for k in range(row.size):
        r = rows[row[k]]
        first, last = columns[column[k]], columns[column[k] + length[k] - 1]
        for i in range(max(r - margin, 0) // high, min((r + margin) // high, touched.shape[0] - 1) + 1):
            for j in range(max(first - margin, 0) // wide, min((last + margin) // wide, touched.shape[1] - 1) + 1):
                touched[i, j] = True


def touched_blocks(plan: PixelPlan, raster: Grid, block_shape: tuple[int, int], margin: int) -> Bools:
    """Which blocks of a raster hold pixels of a plan, or pixels within `margin` of them.

    Parameters
    ----------
    plan
        A plan on a grid that covers the same ground as the raster.
    raster
        Grid of the raster.
    block_shape
        (rows, columns) of its blocks.
    margin
        Pixels of the raster.

    Returns
    -------
    numpy.ndarray
        (block rows, block columns) of bool.
    """
    high, wide = block_shape
    touched = np.zeros((-(-raster.shape[0] // high), -(-raster.shape[1] // wide)), np.bool_)
    rows, columns = plan.grid.nearest_in(raster, 0), plan.grid.nearest_in(raster, 1)
    _mark(plan.row, plan.column, plan.length, rows, columns, high, wide, margin, touched)
    return touched
