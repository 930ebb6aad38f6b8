"""One chip: the pixels of one acquisition around one feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.indices import NODATA

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    import numpy.typing as npt

    from sen2chain.chips.places import Place
    from sen2chain.products import ProductId

    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """The pixels of one acquisition around one feature.

    All arrays have the rows and columns of `place`. Pixels outside of the raster have no data and are not masked.
    """

    fid: int
    """Position of the feature in the layer."""
    product: ProductId
    """The product."""
    place: Place
    """Window on the product's grid, outline of the feature, and share of each pixel inside it."""
    colour: npt.NDArray[np.float32] | None
    """(rows, columns, 3) surface reflectance of red, green and blue, NaN for no data; None where there are no bands."""
    values: Mapping[str, npt.NDArray[np.int16]] = field(default_factory=dict)
    """Name of an index -> stored values (the index times its scale, usually 10000), 32767 for no data."""
    masks: Mapping[str, Bools] = field(default_factory=dict)
    """Name of a cloud mask -> True where it masks."""

    @property
    def date(self) -> dt.datetime:
        """Sensing time, UTC, without a zone."""
        return self.product.sensing

    @property
    def tile(self) -> str:
        """The tile of the product."""
        return self.product.tile

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.place.shape

    def measured(self, index: str | None = None) -> Bools:
        """Return the pixels that have data, masked or not.

        Parameters
        ----------
        index
            Name of an index of `values`; None asks for the true colour, or any index where there is none.
        """
        known: Bools = np.zeros(self.shape, np.bool_)
        if index is None and self.colour is not None:
            np.logical_not(np.isnan(self.colour).any(axis=2), out=known)
            return known
        for name in self.values if index is None else (index,):
            np.logical_or(known, self.values[name] != NODATA, out=known)
        return known

    def valid_share(self, index: str | None = None, mask: str | None = None) -> float:
        """Return the share of the feature's pixels that have data and are not masked, 0 to 1.

        At the finest resolution that is ``count / (count + nodata)`` of the row. It is 0 for a feature without any
        pixel.

        Parameters
        ----------
        index
            As for `measured`.
        mask
            Name of a mask; one that the chip lacks masks nothing.
        """
        good = self.measured(index)  # a new array
        if mask is not None and mask in self.masks:
            np.logical_and(good, ~self.masks[mask], out=good)
        total = self.place.total
        return float(self.place.inside[good].sum(dtype=np.float64)) / total if total else 0.0
