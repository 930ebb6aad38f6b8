"""Batches of rows: the rows of one index under one mask of one acquisition, and the names of their columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from sen2chain.products import ProductId
    from sen2chain.reasons import Reason

ROW_COLUMNS = (
    "date",
    "fid",
    "tile",
    "filename",
    "count",
    "nodata",
    "nbcld",
    "cldprb",
    "min",
    "max",
    "mean",
    "std",
    "median",
    "percentile_25",
    "percentile_75",
)
"""Columns of a row, in order, as users of the CSV files know them."""

RESERVED_COLUMNS = frozenset((*ROW_COLUMNS, "completeness", "mask", "reason"))
"""Names reserved for columns of results; an attribute of the layer with such a name is written as ``attr_<name>``."""


_CLIPPED = re.compile(
    r" ?(\w+): (\d+) pixels? of (\d+) features? lies? beyond (\S+) to (\S+) and counts? as the nearer of both\."
)


@dataclass(frozen=True, slots=True)
class Clipped:
    """Pixels of one index in one image whose values lie beyond the range that can be stored."""

    index: str
    """Name of the index."""
    pixels: int
    """Valid pixels of features that have a row."""
    features: int
    """Those features."""
    low: float
    """Low end of the range."""
    high: float
    """High end of the range."""

    def sentence(self, noun: str = "feature", among: str = "") -> str:
        """Return the sentence that stands among the remarks on an image.

        Parameters
        ----------
        noun
            What `features` counts.
        among
            Words that follow it.
        """
        pixels, features = counted(self.pixels, "pixel"), counted(self.features, noun)
        lie, count = ("lies", "counts") if self.pixels == 1 else ("lie", "count")
        return (
            f"{self.index}: {pixels} of {features}{among} {lie} beyond {self.low:g} to {self.high:g} "
            f"and {count} as the nearer of both."
        )

    @classmethod
    def taken_from(cls, remarks: str) -> tuple[str, Clipped | None]:
        """Return the remarks on an image without this sentence, and what it says; None where there is none."""
        match = _CLIPPED.search(remarks)
        if match is None:
            return remarks, None
        index, pixels, features, low, high = match.groups()
        rest = remarks[: match.start()] + remarks[match.end() :]
        return rest.strip(), cls(index, int(pixels), int(features), float(low), float(high))


_OVERRULED = re.compile(
    r" ?The catalogue says '(\w+)' of the offset of the digital numbers, the pixels show '(\w+)', and the pixels "
    r"count\."
)


@dataclass(frozen=True, slots=True)
class Overruled:
    """Contradiction of a catalogue and the pixels of a product on the offset of its digital numbers."""

    said: str
    """State that the catalogue says: ``subtracted`` or ``included``."""
    shown: str
    """State that the pixels show."""

    def sentence(self, whose: str = "") -> str:
        """Return the sentence that stands among the remarks on an image.

        Parameters
        ----------
        whose
            Words that follow "digital numbers".
        """
        return (
            f"The catalogue says '{self.said}' of the offset of the digital numbers{whose}, the pixels show "
            f"'{self.shown}', and the pixels count."
        )

    @classmethod
    def taken_from(cls, remarks: str) -> tuple[str, Overruled | None]:
        """Return the remarks on an image without this sentence, and what it says; None where there is none."""
        match = _OVERRULED.search(remarks)
        if match is None:
            return remarks, None
        return (remarks[: match.start()] + remarks[match.end() :]).strip(), cls(*match.groups())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one index under one mask of one acquisition, and counts by reason of the features without a row.

    Its arrays are as long as the rows, which are at most the features that meet the tile, unless every feature of the
    layer gets a row (``keep_empty``).
    """

    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""
    product: ProductId
    """The product."""
    filename: str
    """``<L2A id>_<INDEX>_<MASK>.jp2``, also where the values come from other files."""
    columns: Mapping[str, npt.NDArray[np.generic]]
    """Column -> (rows,) array: ``fid`` first, ascending; ``reason`` is a position in `Reason`, or -1 with values."""
    reasons: Mapping[Reason, int]
    """Number of features of the layer without values, by reason."""
    value_source: str = ""
    """Source of the values, as ``bands``."""
    mask_source: str = ""
    """Source of the mask, as ``computed from SCL``; empty where there is no mask."""
    error: str = ""
    """Sentences on what went wrong or is missing, or on clipped values."""
    unknown: npt.NDArray[np.int64] | None = None
    """fid of the features that the archive may give a row and kept pixels cannot, ascending; None: there are none."""

    @property
    def rows(self) -> int:
        """Number of rows with values."""
        return int((self.columns["reason"].astype("int8") < 0).sum())
