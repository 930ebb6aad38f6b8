"""Legends of indices: the range and the colours that every picture, page and map style shows an index with.

Ranges are fixed, so that two dates, two layers or two runs can be compared by eye. They are in index units (0.72) and
hold the values that land usually has; a value beyond them takes the colour of the nearer end. People who cannot tell
red from green can read the colours: they are ramps of ColorBrewer, and one that follows matplotlib's cividis. (This
product includes color specifications and designs developed by Cynthia Brewer, https://colorbrewer2.org, Apache-2.0.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sen2chain import index_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from sen2chain.index_catalogue import CatalogueEntry
    from sen2chain.indices import Index

NO_VALUE = "#9aa0a6"
"""Colour of pixels and features without a value."""

_SOIL_TO_LEAF = ("#8c510a", "#bf812d", "#dfc27d", "#f6e8c3", "#c7eae5", "#80cdc1", "#35978f", "#01665e", "#003c30")
_LAND_TO_WATER = ("#7f3b08", "#b35806", "#e08214", "#fdb863", "#f7f7f7", "#92c5de", "#4393c3", "#2166ac", "#053061")
_BURNT_TO_GREEN = ("#7f3b08", "#b35806", "#e08214", "#fee0b6", "#f7f7f7", "#c7eae5", "#80cdc1", "#35978f", "#01665e")
_GREEN_TO_BUILT = tuple(reversed(_BURNT_TO_GREEN))
_DARK_TO_BRIGHT = ("#00224e", "#1d3d6f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#e0c957", "#fee838")


@dataclass(frozen=True, slots=True)
class Legend:
    """The range and the colours of an index.

    Examples
    --------
    >>> Legend(0.0, 1.0, ("#000000", "#ffffff")).rgb(np.array([0.0, 0.5, 2.0])).tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """

    low: float
    """Value of the first colour, in index units."""
    high: float
    """Value of the last colour, in index units."""
    colours: tuple[str, ...] = _DARK_TO_BRIGHT
    """Colours as ``#rrggbb``, at equal steps from `low` to `high`."""

    def rgb(self, values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the colours of values, interpolated between those of the ramp.

        Parameters
        ----------
        values
            Index units, any shape; NaN takes the colour of `NO_VALUE`.

        Returns
        -------
        numpy.ndarray
            uint8 of that shape and a last axis of red, green, blue.
        """
        known = np.asarray(values, dtype=np.float64)
        ramp = np.array([_parts(colour) for colour in self.colours], dtype=np.float64)
        steps = np.linspace(self.low, self.high, len(ramp))
        channels = [np.interp(known, steps, ramp[:, channel]) for channel in range(3)]
        colours = np.rint(np.stack(channels, axis=-1))
        return np.where(np.isnan(known)[..., None], _parts(NO_VALUE), colours).astype(np.uint8)

    def fitted(self, values: npt.ArrayLike) -> Legend:
        """Return a legend with the range of values: their 2nd to 98th percentile, rounded outwards to two digits."""
        known = np.asarray(values, dtype=np.float64)
        known = known[np.isfinite(known)]
        if not known.size:
            return self
        low, high = np.percentile(known, (2, 98)).tolist()
        step = 10.0 ** np.floor(np.log10(max(high - low, abs(high), 1e-4)) - 1)
        low, high = float(np.floor(low / step) * step), float(np.ceil(high / step) * step)
        return replace(self, low=low, high=high if high > low else low + float(step))


def _parts(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


LEGENDS: Mapping[str, Legend] = {
    "NDVI": Legend(-0.2, 1.0, _SOIL_TO_LEAF),
    "NDRE": Legend(-0.2, 0.8, _SOIL_TO_LEAF),
    "EVI": Legend(-0.2, 1.0, _SOIL_TO_LEAF),
    "IRECI": Legend(-0.2, 2.0, _SOIL_TO_LEAF),
    "NDWIMCF": Legend(-0.8, 0.8, _LAND_TO_WATER),
    "MNDWI": Legend(-0.8, 0.8, _LAND_TO_WATER),
    "NDWIGAO": Legend(-0.6, 0.8, _LAND_TO_WATER),
    "NBR": Legend(-0.6, 0.8, _BURNT_TO_GREEN),
    "NDBI": Legend(-0.8, 0.6, _GREEN_TO_BUILT),
    "BIGR": Legend(0.0, 0.4, _DARK_TO_BRIGHT),
    "BIRNIR": Legend(0.0, 0.6, _DARK_TO_BRIGHT),
    "BIBG": Legend(0.0, 0.4, _DARK_TO_BRIGHT),
}
"""Legends of the twelve indices."""

USUAL = Legend(-1.0, 1.0, _SOIL_TO_LEAF)
"""Legend of an index whose range is not known and that has no values."""


def legend_of(index: Index, values: npt.ArrayLike | None = None) -> Legend:
    """Return the legend of an index.

    Parameters
    ----------
    index
        The index. A user's formula under one of the twelve names has the same formula, so it has the same legend.
    values
        Values in index units; the range of an index that has no fixed one is taken from them.
    """
    known = fixed_legend(index)
    if known is not None:
        return known
    entry = _entry(index)
    usual = USUAL if entry is None else replace(USUAL, colours=_COLOURS[entry.shows])
    return usual if values is None else usual.fitted(values)


_COLOURS = {"leaf": _SOIL_TO_LEAF, "water": _LAND_TO_WATER, "": _DARK_TO_BRIGHT}


def fixed_legend(index: Index) -> Legend | None:
    """Return the legend of one of the twelve or of an index of the catalogue; None where its range is not known."""
    if index.name in LEGENDS:
        return LEGENDS[index.name]
    entry = _entry(index)
    if entry is None:
        return None
    if entry.same_as:
        return LEGENDS[entry.same_as]
    if entry.low is None or entry.high is None:
        return None
    return Legend(entry.low, entry.high, _COLOURS[entry.shows])


def _entry(index: Index) -> CatalogueEntry | None:
    """Return the index of the catalogue; None for another formula or scale under its name, whose range is another."""
    entry = index_catalogue.catalogue().get(index.name)
    return entry if entry is not None and (entry.formula, entry.scale) == (index.formula, index.scale) else None
