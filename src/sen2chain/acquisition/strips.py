"""Reading order of a pixel plan: strip by strip, so that each block of a raster is decoded once.

A strip is a range of rows that holds whole blocks of every raster that is read. The pixels of a feature are collected
in the buffer of its group. A group is all features whose last row lies in the same strip: they are complete, and their
buffer is freed, after that strip. A very large feature would need a large buffer for many strips; therefore each strip
of it is a group of its own, a piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan

    Ints = npt.NDArray[np.int32]
    Starts = npt.NDArray[np.int64]


LARGE = 1 << 22
"""Features of more pixels than this are cut into pieces."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of one strip that belong to one group."""

    strip: int
    """Number of the strip, from 0 at the top."""
    group: int
    """Number of the group."""
    row: Ints
    """Per run: row of the grid."""
    column: Ints
    """Per run: its first column."""
    length: Ints
    """Per run: its pixels."""
    start: Starts
    """Per run: position of its first pixel in the buffer of the group; ascending."""
    head: Ints | None
    """Per run: leading pixels with a weight."""
    tail: Ints | None
    """Per run: trailing pixels with a weight."""
    own: Starts | None
    """Per run: position of its first weight in the weights of the plan."""

    def between(self, first: int, last: int) -> tuple[Ints, Ints, Ints, Starts]:
        """Return the runs that fill pixels `first` to `last` of the buffer.

        Returns
        -------
        tuple
            Rows, columns, lengths, and positions of the first pixels, counted from `first`.
        """
        cut = slice(*np.searchsorted(self.start, (first, last)))
        return self.row[cut], self.column[cut], self.length[cut], self.start[cut] - first


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Features that are complete after the same strip, or a piece of one."""

    strip: int
    """Number of the strip after which it is complete."""
    is_piece: bool
    """Whether it is only a part of a very large feature."""
    features: Starts
    """Positions in the plan, ascending."""
    offsets: Starts
    """``offsets[i]:offsets[i + 1]`` are the pixels of feature i in the group's buffer."""

    @property
    def size(self) -> int:
        """Number of pixels in the buffer."""
        return int(self.offsets[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """Reading order of a pixel plan."""

    height: int
    """Rows of a strip."""
    parts: tuple[Runs, ...]
    """Ordered by strip, then group."""
    groups: dict[int, Group]
    """Groups by their number in the runs."""

    @classmethod
    def of(cls, plan: PixelPlan, height: int, *, in_pieces: bool = True) -> Self:
        """Order a plan for strips of `height` rows; `in_pieces` cuts features of more than `LARGE` pixels."""
        if not len(plan.row):
            return cls(height, (), {})
        strip = (plan.row // height).astype(np.int64)
        unit, feature_of = _units(plan, strip, LARGE if in_pieces else None)
        # Runs come ordered by feature and row, so those of a unit stand together.
        begins = np.flatnonzero(np.diff(unit, prepend=-1))
        present = unit[begins]
        before = np.cumsum(plan.length, dtype=np.int64) - plan.length
        pixels, last = np.zeros((2, len(feature_of)), np.int64)
        pixels[present] = np.diff(before[begins], append=plan.length.sum(dtype=np.int64))
        last[present] = strip[np.append(begins[1:], len(unit)) - 1]
        n_strips, n_features = int(strip.max(initial=0)) + 1, len(plan.total)
        group = np.where(np.arange(len(feature_of)) < n_features, last, n_strips + np.arange(len(feature_of)))
        groups = {}
        shift = np.zeros(
            len(feature_of), np.int64
        )  # from the place of a unit's pixels in the plan to that in its group
        shift[present] = -before[begins]
        held = np.sort(present)
        held = held[_stable_order(group[held])]
        for units in np.split(held, np.flatnonzero(np.diff(group[held])) + 1) if len(held) else ():
            offsets = np.concatenate([[0], np.cumsum(pixels[units])])
            shift[units] += offsets[:-1]
            g = int(group[units[0]])
            groups[g] = Group(int(last[units[0]]), g >= n_strips, feature_of[units], offsets)
        return cls(height, _parts(plan, strip, group[unit], before + shift[unit]), groups)


def _units(plan: PixelPlan, strip: Starts, large: int | None) -> tuple[Starts, Starts]:
    """Find the units of collecting: a feature, or each piece of one with more than `large` pixels.

    Returns the unit of each run, and the feature of each unit: first all features, then the pieces.
    """
    unit = plan.feature.astype(np.int64)
    n_strips, n_features = int(strip.max(initial=0)) + 1, len(plan.total)
    feature_of = np.arange(n_features)
    is_large = np.bincount(plan.feature, weights=plan.length, minlength=n_features) > (large or np.inf)
    if is_large.any():
        in_pieces = is_large[plan.feature]
        pieces, number = np.unique(unit[in_pieces] * n_strips + strip[in_pieces], return_inverse=True)
        unit[in_pieces] = n_features + number
        feature_of = np.concatenate([feature_of, pieces // n_strips])
    return unit, feature_of


def _parts(plan: PixelPlan, strip: Starts, group: Starts, start: Starts) -> tuple[Runs, ...]:
    """Cut the runs by strip, then group."""
    order = _stable_order(group)
    order = order[_stable_order(strip[order])]
    is_new = (np.diff(strip[order], prepend=-1) != 0) | (np.diff(group[order], prepend=-1) != 0)
    edges = np.flatnonzero(is_new)
    own = None
    if plan.head is not None and plan.tail is not None:
        weighted = (plan.head + plan.tail).astype(np.int64)
        own = np.cumsum(weighted) - weighted
    return tuple(
        Runs(
            int(strip[k[0]]),
            int(group[k[0]]),
            plan.row[k],
            plan.column[k],
            plan.length[k],
            start[k],
            None if plan.head is None else plan.head[k],
            None if plan.tail is None else plan.tail[k],
            None if own is None else own[k],
        )
        for k in (np.split(order, edges[1:]) if len(order) else ())
    )


def _stable_order(numbers: Starts) -> npt.NDArray[np.intp]:
    """Sort whole numbers from 0 on, equal ones in their order; numpy is much faster where they fit in 16 bits."""
    small = numbers.max(initial=0) < 1 << 16
    return np.argsort(numbers.astype(np.uint16) if small else numbers, kind="stable")
