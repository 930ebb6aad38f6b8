"""A source of acquisitions that are held in memory: for tests, and for callers with a list of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyproj

from sen2chain.archive.file_identity import FileIdentity
from sen2chain.products import LOCAL, IdentityToken

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sen2chain.products import Acquisition, Area, Footprint, Reading, Skipped, Source

    Box = tuple[float, float, float, float]

_METRES_OF_A_DEGREE = 110_000.0  # of latitude, rounded down, so that margins are rather too wide


class MemorySource(FileIdentity):
    """Acquisitions held in memory.

    Parameters
    ----------
    acquisitions
        The acquisitions, in any order. With `sen2chain.products.KnownDetails` no file besides rasters is read.
    skipped
        Files or products that could not be used, for the report.
    reading
        How the rasters are read; with other file systems of GDAL they need not lie on disk.
    versions
        Location -> text that changes with the content, as an entity tag. Other locations are looked at as files; one
        that is not a file counts as unchanged.
    """

    def __init__(
        self,
        acquisitions: Iterable[Acquisition],
        skipped: Iterable[Skipped] = (),
        reading: Reading = LOCAL,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self._reading, self._versions = reading, dict(versions or {})
        ordered = sorted(acquisitions, key=lambda acquisition: acquisition.id)
        self._acquisitions = tuple(replace(acquisition, reading=reading) for acquisition in ordered)
        self._skipped = tuple(skipped)

    @property
    def reading(self) -> Reading:
        """How the rasters are read."""
        return self._reading

    def describe(self) -> str:
        """Return the number of products."""
        return f"{len(self._acquisitions)} products in memory"

    def tiles(
        self,
        area: Area | None = None,  # noqa: ARG002  # names are known anyway
        first: dt.date | None = None,  # noqa: ARG002
        last: dt.date | None = None,  # noqa: ARG002
    ) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted."""
        return sorted({acquisition.id.tile for acquisition in self._acquisitions})

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None, area: Area | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id.

        Products whose footprint is known and does not meet `area` are left out.
        """
        box = None if area is None else _in_degrees(area)
        return [
            acquisition
            for acquisition in self._acquisitions
            if acquisition.id.tile == tile
            and (first is None or first <= acquisition.id.sensing.date())
            and (last is None or acquisition.id.sensing.date() <= last)
            and (box is None or _meets(acquisition.details.footprint(), box))
        ]

    def skipped(self) -> Sequence[Skipped]:
        """List what was given as `skipped`."""
        return self._skipped

    def identify(self, locations: Iterable[str], contents: Collection[str] | None = None) -> dict[str, IdentityToken]:
        """Return the given version of each location, or look at the file."""
        where = list(locations)
        found = super().identify([location for location in where if location not in self._versions], contents)
        for location in where:
            if location in self._versions:
                name, version = location.rpartition("/")[2], self._versions[location]
                found[location] = IdentityToken(name, 0, content=f"version:{version}")
        return found

    def save(self) -> None:
        """Do nothing: there is nothing to keep."""


def _in_degrees(area: Area) -> Box | None:
    """Return the box of longitude and latitude around an area; None where it crosses 180 degrees or has none."""
    to_degrees = pyproj.Transformer.from_crs(area.crs, "EPSG:4326", always_xy=True)
    left, bottom, right, top = to_degrees.transform_bounds(*area.bounds)
    if not np.isfinite([left, bottom, right, top]).all() or left > right:
        return None
    up = area.margin / _METRES_OF_A_DEGREE
    aside = up / max(math.cos(math.radians(min(max(abs(bottom), abs(top)) + up, 89.0))), 1e-3)
    return left - aside, bottom - up, right + aside, top + up


def _meets(footprint: Footprint | None, box: Box) -> bool:
    """Tell whether a footprint may meet a box; yes where it is not known or crosses 180 degrees."""
    if footprint is None:
        return True
    longitude, latitude = np.array(footprint).T
    left, bottom, right, top = box
    if np.ptp(longitude) > 180:
        return True
    return bool(
        longitude.min() <= right and longitude.max() >= left and latitude.min() <= top and latitude.max() >= bottom
    )


if TYPE_CHECKING:
    _confirmed: Source = MemorySource(())
