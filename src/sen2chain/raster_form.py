"""Form of a stored raster as its header tells it: whether the file is complete, its type, bands, pixels and CRS.

`rasters.header_texts` reads it without GDAL. What a header does not tell is unknown, and counts as right.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = ("damage", "dtype", "bands", "pixel", "epsg")
_TILE = re.compile(r"(\d\d)([C-X])[A-Z]{2}")
_NORTHERN = "N"
"""First of the letters of latitude bands that lie north of the equator."""
_TOLERANCE = 0.01  # of a pixel
_LONGEST = 1000  # characters of a text


@dataclass(frozen=True, slots=True)
class RasterForm:
    """Form of a raster."""

    damage: str = ""
    """A clause on what is wrong with the file, as ``is cut off``; empty where nothing is seen."""
    dtype: str = ""
    """Type of the values, as numpy names it; empty where it is not known."""
    bands: int = 0
    """Number of bands; 0 where it is not known."""
    pixel: tuple[float, float] | None = None
    """(width, height) of a pixel, in units of the CRS; None where it is not known."""
    epsg: int = 0
    """EPSG code of the CRS; 0 where it is not known."""

    def why_not(self, tile: str, dtype: str, finest: int, *, coarse: bool = False) -> str:
        """Return a clause, whose subject is the raster, on why it cannot serve; empty where nothing is seen.

        Parameters
        ----------
        tile
            The tile that it belongs to.
        dtype
            Type that the values need to have.
        finest
            Size that pixels need to have, in metres.
        coarse
            Whether pixels may have a whole multiple of it.
        """
        if self.damage:
            return self.damage
        if self.bands > 1:
            return f"has {self.bands} bands instead of one"
        if self.dtype and self.dtype != dtype:
            return f"holds {self.dtype} values instead of {dtype}"
        expected = _epsg_of(tile)
        if self.epsg and expected and self.epsg != expected:
            return f"is in EPSG:{self.epsg}, and its tile in EPSG:{expected}"
        if self.pixel is not None and not all(_fits(length / finest, coarse=coarse) for length in self.pixel):
            return f"has pixels of {self.pixel[0]:g} x {self.pixel[1]:g} m instead of {finest} m"
        return ""

    def items(self) -> dict[str, str]:
        """Return what is known as texts."""
        texts = {
            "damage": self.damage,
            "dtype": self.dtype,
            "bands": str(self.bands or ""),
            "pixel": " ".join(map(repr, self.pixel or ())),
            "epsg": str(self.epsg or ""),
        }
        return {name: text for name, text in texts.items() if text}

    @classmethod
    def read(cls, items: Mapping[str, str]) -> Self | None:
        """Read what `items` gives; None where it is something else. Other names are left aside."""
        texts = {name: items.get(name, "") for name in _NAMES}
        if any(len(text) > _LONGEST for text in texts.values()):
            return None
        try:
            pixel = tuple(map(float, texts["pixel"].split()))
            bands, epsg = int(texts["bands"] or 0), int(texts["epsg"] or 0)
        except ValueError:
            return None
        if len(pixel) not in {0, 2} or not all(map(math.isfinite, pixel)) or bands < 0 or epsg < 0:
            return None
        return cls(texts["damage"], texts["dtype"], bands, (pixel[0], pixel[1]) if pixel else None, epsg)


NAMES = frozenset(_NAMES)
"""Names of the texts that `RasterForm.items` returns."""


def _epsg_of(tile: str) -> int:
    """Return the EPSG code of the UTM zone of a Sentinel-2 tile; 0 for another tile."""
    found = _TILE.fullmatch(tile)
    return 0 if found is None else (32600 if found[2] >= _NORTHERN else 32700) + int(found[1])


def _fits(ratio: float, *, coarse: bool) -> bool:
    """Whether a pixel is as large as the finest one, or a whole multiple."""
    whole = max(round(ratio), 1) if coarse else 1
    return abs(ratio - whole) <= _TOLERANCE * whole
