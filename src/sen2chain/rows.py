"""Batches of rows: the rows of one index under one mask of one acquisition, and the names of their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """One sentence on what went wrong or is missing."""

    @property
    def rows(self) -> int:
        """Number of rows with values."""
        return int((self.columns["reason"].astype("int8") < 0).sum())
