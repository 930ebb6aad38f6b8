"""How a pixel plan is walked through: strip by strip, each block of a raster once.

A strip is a band of rows high enough to hold whole blocks of every raster that is read. The pixels of a feature are
collected in the buffer of its group; a group is all features whose last row lies in the same strip, so that it can be
reduced, and its buffer given back, when that strip is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid

    Ints = npt.NDArray[np.int32]
    Starts = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of one strip that belong to one group."""

    strip: int
    """Which strip."""
    group: int
    """Which group: the strip after which its features are complete."""
    row: Ints
    """Rows of the grid."""
    column: Ints
    """First columns."""
    length: Ints
    """Numbers of pixels."""
    start: Starts
    """Where in the group's buffer each run's pixels go."""
    head: Ints | None
    """Leading pixels with a weight."""
    tail: Ints | None
    """Trailing pixels with a weight."""
    own: Starts | None
    """Where each run's weights begin in the plan's."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Features that are complete after the same strip."""

    features: Starts
    """Positions in the plan, ascending."""
    offsets: Starts
    """``offsets[i]:offsets[i + 1]`` are the pixels of feature i in the group's buffer."""

    @property
    def size(self) -> int:
        """Pixels of the buffer."""
        return int(self.offsets[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """A pixel plan in the order of reading."""

    height: int
    """Rows of a strip."""
    parts: tuple[Runs, ...]
    """Ordered by strip, then group."""
    groups: dict[int, Group]
    """Strip after which it is complete -> group."""

    @classmethod
    def of(cls, plan: PixelPlan, height: int) -> Self:
        """Order a plan for strips of `height` rows."""
        strip = plan.row // height
        last = np.full(len(plan.total), -1, np.int64)
        np.maximum.at(last, plan.feature, strip)
        pixels = np.bincount(plan.feature, weights=plan.length, minlength=len(plan.total)).astype(np.int64)
        first_pixel = np.zeros(len(plan.total), np.int64)
        groups = {}
        for g in np.unique(last[last >= 0]):
            features = np.flatnonzero(last == g)
            offsets = np.concatenate([[0], np.cumsum(pixels[features])])
            first_pixel[features] = offsets[:-1]
            groups[int(g)] = Group(features, offsets)
        # Runs come ordered by feature, so the pixels before a run are those of earlier runs of its feature.
        before = np.cumsum(plan.length, dtype=np.int64) - plan.length
        of_feature = np.cumsum(pixels) - pixels
        start = first_pixel[plan.feature] + before - of_feature[plan.feature]
        key = strip.astype(np.int64) * (int(strip.max(initial=0)) + 1) + last[plan.feature]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order], prepend=-1))
        own = None
        if plan.head is not None and plan.tail is not None:
            weighted = (plan.head + plan.tail).astype(np.int64)
            own = np.cumsum(weighted) - weighted
        parts = []
        for i, j in zip(edges, [*edges[1:], len(order)], strict=True):
            k = order[i:j]
            parts.append(
                Runs(
                    int(strip[k[0]]),
                    int(last[plan.feature[k[0]]]),
                    plan.row[k],
                    plan.column[k],
                    plan.length[k],
                    start[k],
                    None if plan.head is None else plan.head[k],
                    None if plan.tail is None else plan.tail[k],
                    None if own is None else own[k],
                )
            )
        return cls(height, tuple(parts), groups)


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
    n = (-(-raster.shape[0] // high), -(-raster.shape[1] // wide))
    rows = plan.grid.nearest_in(raster, 0)[plan.row]
    columns = plan.grid.nearest_in(raster, 1)
    first = columns[plan.column]
    last = columns[plan.column + plan.length - 1]
    top = np.maximum(rows - margin, 0) // high
    bottom = np.minimum(rows + margin, raster.shape[0] - 1) // high
    left = np.maximum(first - margin, 0) // wide
    right = np.minimum(last + margin, raster.shape[1] - 1) // wide
    # Each run adds 1 over a rectangle of blocks: put +1 and -1 on its corners and sum up.
    width = n[1] + 1
    corners = np.zeros((n[0] + 1) * width, np.int64)
    for r, c, sign in ((top, left, 1), (top, right + 1, -1), (bottom + 1, left, -1), (bottom + 1, right + 1, 1)):
        corners += sign * np.bincount(r.astype(np.int64) * width + c, minlength=corners.size)
    sums = corners.reshape(n[0] + 1, width).cumsum(axis=0).cumsum(axis=1)
    touched: Bools = sums[: n[0], : n[1]] > 0
    return touched


def spans(touched: Bools, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """(block row, first block column, one past the last) of each stretch of touched blocks in rows first..last."""
    for r in range(first, last):
        edges = np.diff(touched[r].astype(np.int8), prepend=0, append=0)
        yield from (
            (r, int(a), int(b)) for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
        )
