"""Gaps in time: dates that an archive most likely lacks.

A satellite passes over a place on the same relative orbit at a fixed spacing of days, so the dates of one tile and one
orbit are compared with each other. A step from one date to the next is a gap where

- it is longer than 2.5 times the median step of this tile and orbit, and
- it is longer than the satellite's cycle (10 days for Sentinel-2), within which each satellite passes at least once, so
  that at least one overpass is missing.

The median is a measure of what is usual in *this* archive: in one that keeps clear dates alone, only longer steps count
as gaps. It needs three steps; with fewer dates nothing is called a gap.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

FACTOR = 2.5
"""A step that is longer than so many median steps is a gap."""
_FEWEST = 3  # steps that have a median worth the name


@dataclass(frozen=True, slots=True)
class DateGap:
    """A step in time that is longer than usual."""

    tile: str
    """The tile."""
    orbit: int
    """The relative orbit."""
    after: dt.date
    """The last date before the gap."""
    before: dt.date
    """The first date after the gap."""
    usual: float
    """Median step of the tile and orbit in days."""

    @property
    def days(self) -> int:
        """Days from the one date to the other."""
        return (self.before - self.after).days

    @property
    def missing(self) -> int:
        """Number of dates that would make the steps as long as usual."""
        return max(round(self.days / self.usual) - 1, 1)


def find_gaps(tile: str, dates: Mapping[int, Iterable[dt.date]], cycle: int) -> list[DateGap]:
    """Find the gaps of one tile, by orbit and date.

    Parameters
    ----------
    tile
        The tile.
    dates
        Relative orbit -> dates, in any order and more than once.
    cycle
        Days in which each satellite passes at least once; a gap is longer.
    """
    found = []
    for orbit, days in sorted(dates.items()):
        steps = list(itertools.pairwise(sorted(set(days))))
        if len(steps) < _FEWEST:
            continue
        usual = statistics.median((later - earlier).days for earlier, later in steps)
        found += [
            DateGap(tile, orbit, earlier, later, float(usual))
            for earlier, later in steps
            if (later - earlier).days > max(FACTOR * usual, cycle)
        ]
    return found
