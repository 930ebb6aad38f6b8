"""How a pixel plan is walked through: strip by strip, each block of a raster once.

A strip is a band of rows high enough to hold whole blocks of every raster that is read. The pixels of a feature are
collected in the buffer of its group; a group is all features whose last row lies in the same strip, so that it can be
reduced, and its buffer given back, when that strip is done. A very large feature would hold a large buffer for long:
each strip of it is a group of its own, a piece, whose values are only tallied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


LARGE = 1 << 22
"""Features of more pixels than this are taken in pieces."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of one strip that belong to one group."""

    strip: int
    """Which strip."""
    group: int
    """Which group."""
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

    def between(self, first: int, last: int) -> Runs:
        """Return the runs that fill a stretch of the buffer, as runs of a buffer of that stretch alone."""
        cut = slice(*np.searchsorted(self.start, (first, last)))
        return replace(
            self,
            row=self.row[cut],
            column=self.column[cut],
            length=self.length[cut],
            start=self.start[cut] - first,
            head=None if self.head is None else self.head[cut],
            tail=None if self.tail is None else self.tail[cut],
            own=None if self.own is None else self.own[cut],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Features that are complete after the same strip, or a piece of one."""

    strip: int
    """The strip after which it is complete."""
    is_piece: bool
    """Whether it is only a part of a very large feature."""
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
    """Groups by their number in the runs."""

    @classmethod
    def of(cls, plan: PixelPlan, height: int) -> Self:
        """Order a plan for strips of `height` rows."""
        strip = (plan.row // height).astype(np.int64)
        n_strips, n_features = int(strip.max(initial=0)) + 1, len(plan.total)
        unit = plan.feature.astype(np.int64)  # what is collected together: a feature, or a piece of a large one
        feature_of = np.arange(n_features)
        is_large = np.bincount(plan.feature, weights=plan.length, minlength=n_features) > LARGE
        in_pieces = is_large[plan.feature]
        if in_pieces.any():
            pieces, number = np.unique(unit[in_pieces] * n_strips + strip[in_pieces], return_inverse=True)
            unit[in_pieces] = n_features + number
            feature_of = np.concatenate([feature_of, pieces // n_strips])
        last = np.full(len(feature_of), -1, np.int64)
        np.maximum.at(last, unit, strip)
        pixels = np.bincount(unit, weights=plan.length, minlength=len(feature_of)).astype(np.int64)
        group = np.where(np.arange(len(feature_of)) < n_features, last, n_strips + np.arange(len(feature_of)))
        first_pixel = np.zeros(len(feature_of), np.int64)
        groups = {}
        for g in np.unique(group[last >= 0]):
            units = np.flatnonzero((group == g) & (last >= 0))
            offsets = np.concatenate([[0], np.cumsum(pixels[units])])
            first_pixel[units] = offsets[:-1]
            groups[int(g)] = Group(int(last[units[0]]), bool(g >= n_strips), feature_of[units], offsets)
        # Runs come ordered by feature and row, so those of a unit stand together.
        before = np.cumsum(plan.length, dtype=np.int64) - plan.length
        first_run = np.zeros(len(feature_of), np.int64)
        begins = np.flatnonzero(np.diff(unit, prepend=-1))
        first_run[unit[begins]] = begins
        start = first_pixel[unit] + before - before[first_run[unit]]
        group_of_run = group[unit]
        key = strip * (int(group.max(initial=0)) + 1) + group_of_run
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
                    int(group_of_run[k[0]]),
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
