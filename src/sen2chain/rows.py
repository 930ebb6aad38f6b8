"""The rows of one index under one mask of one acquisition: their columns, and what they hold."""

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
"""Names an attribute of the layer may not have in a result; it is written as ``attr_<name>``."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one output gave: the rows of one index under one mask of one acquisition, and what it did not give."""

    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""
    product: ProductId
    """The product."""
    filename: str
    """``<L2A id>_<INDEX>_<MASK>.jp2``, whatever the values were read from."""
    columns: Mapping[str, npt.NDArray[np.generic]]
    """Column -> (rows,) array: ``fid`` first, ascending; ``reason`` is a position in `Reason`, or -1 with values."""
    reasons: Mapping[Reason, int]
    """How many features have no row, by reason."""
    value_source: str = ""
    """What served the values."""
    mask_source: str = ""
    """What served the mask."""
    error: str = ""
    """One sentence on what went wrong or is missing."""

    @property
    def rows(self) -> int:
        """Number of rows with values."""
        return int((self.columns["reason"].astype("int8") < 0).sum())
