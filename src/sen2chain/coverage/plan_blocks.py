"""Blocks of a raster that hold pixels of a plan, and where in them these lie, so that only those are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.jit import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage.pixel_plan import PixelPlan
    from sen2chain.grid import Grid

    Ints = npt.NDArray[np.int32]
    Boxes = npt.NDArray[np.int32]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TouchedBlocks:
    """Blocks of a raster that hold needed pixels."""

    boxes: Boxes
    """(block rows, block columns, 4): first row and one past the last, first column and one past the last, of the
    needed pixels inside each block, in pixels of the raster. A block without needed pixels has an empty box: its first
    row is the raster's height or more, and one past its last row is 0."""

    @property
    def blocks(self) -> Bools:
        """(block rows, block columns) of bool: which blocks hold needed pixels."""
        touched: Bools = self.boxes[..., 0] < self.boxes[..., 1]
        return touched

    def pixels(self, rows: slice = slice(None)) -> int:
        """Return the number of pixels inside the boxes of some rows of blocks."""
        top, bottom, left, right = np.moveaxis(self.boxes[rows].astype(np.int64), -1, 0)
        return int((np.maximum(bottom - top, 0) * np.maximum(right - left, 0)).sum())

    def __or__(self, other: Self) -> Self:
        """Join two needs of blocks of the same shape."""
        low, high = np.minimum(self.boxes, other.boxes), np.maximum(self.boxes, other.boxes)
        return type(self)(np.where([True, False, True, False], low, high))


_INTS = ", ".join(["int32[::1]"] * 6)
_NUMBERS = ", ".join(["int64"] * 5)


@kernel(f"void(boolean[::1], {_INTS}, {_NUMBERS}, int32[:,:,::1])")
def _mark(
    wanted: Bools,
    feature: Ints,
    row: Ints,
    column: Ints,
    length: Ints,
    rows: Ints,
    columns: Ints,
    high: int,
    wide: int,
    height: int,
    width: int,
    margin: int,
    boxes: Boxes,
) -> None:
    """Stretch the boxes of the blocks of `high` x `wide` pixels over all pixels within `margin` of the runs.

    `wanted` tells whose runs count; it may be empty, for all.
    """
    for k in range(row.size):
        if wanted.size and not wanted[feature[k]]:
            continue
        r = rows[row[k]]
        top, bottom = max(r - margin, 0), min(r + margin + 1, height)
        left = max(columns[column[k]] - margin, 0)
        right = min(columns[column[k] + length[k] - 1] + margin + 1, width)
        for i in range(top // high, (bottom - 1) // high + 1):
            for j in range(left // wide, (right - 1) // wide + 1):
                box = boxes[i, j]
                box[0] = min(box[0], max(top, i * high))
                box[1] = max(box[1], min(bottom, (i + 1) * high))
                box[2] = min(box[2], max(left, j * wide))
                box[3] = max(box[3], min(right, (j + 1) * wide))


def touched_blocks(
    plan: PixelPlan, raster: Grid, block_shape: tuple[int, int], margin: int, wanted: Bools | None = None
) -> TouchedBlocks:
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
    wanted
        (features of the plan,) Features whose pixels count; None means all.
    """
    high, wide = block_shape
    height, width = raster.shape
    boxes = np.zeros((-(-height // high), -(-width // wide), 4), np.int32)
    boxes[...] = height, 0, width, 0
    rows, columns = plan.grid.nearest_in(raster, 0), plan.grid.nearest_in(raster, 1)
    some = np.zeros(0, np.bool_) if wanted is None else wanted
    runs = plan.feature, plan.row, plan.column, plan.length
    _mark(some, *runs, rows, columns, high, wide, height, width, margin, boxes)
    return TouchedBlocks(boxes)
