"""A source that lists what it was given: for tests, and the smallest example of the Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from sen2chain.products import Acquisition, Skipped, Source


class MemorySource:
    """Acquisitions held in memory.

    Parameters
    ----------
    acquisitions
        What the source has, in any order.
    skipped
        What it says it could not use.
    """

    def __init__(self, acquisitions: Iterable[Acquisition], skipped: Iterable[Skipped] = ()) -> None:
        self._acquisitions = tuple(sorted(acquisitions, key=lambda acquisition: acquisition.id))
        self._skipped = tuple(skipped)

    def describe(self) -> str:
        """Say how many products there are."""
        return f"{len(self._acquisitions)} products in memory"

    def tiles(self) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted."""
        return sorted({acquisition.id.tile for acquisition in self._acquisitions})

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id."""
        return [
            acquisition
            for acquisition in self._acquisitions
            if acquisition.id.tile == tile
            and (first is None or first <= acquisition.id.sensing.date())
            and (last is None or acquisition.id.sensing.date() <= last)
        ]

    def skipped(self) -> Sequence[Skipped]:
        """List what the source was told it could not use."""
        return self._skipped

    def save(self) -> None:
        """Do nothing: there is nothing to keep."""


if TYPE_CHECKING:
    _confirmed: Source = MemorySource(())
