"""Blocks that have to be decoded of each raster of one acquisition: for all features of a plan, or for some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain import coverage
from sen2chain.parallel import Memo
from sen2chain.rasters import KeptRaster

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sen2chain.acquisition.layouts import Layouts
    from sen2chain.coverage import PixelPlan, TouchedBlocks
    from sen2chain.rasters import OpenRaster, Use

    Bools = npt.NDArray[np.bool_]


class NeededBlocks:
    """Blocks to decode, by raster.

    Parameters
    ----------
    layouts
        Touched blocks of all features of a plan, shared by all acquisitions.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._layouts = layouts
        self._features: dict[tuple[PixelPlan, str], Bools] = {}
        self._memo = Memo()

    def restrict(self, plan: PixelPlan, location: str, features: Bools) -> None:
        """Decode a raster only for some features from now on; pixels of the others may hold anything.

        Parameters
        ----------
        plan
            The plan of the features.
        location
            The raster.
        features
            (features of the plan,) True for the features that it is needed for.
        """
        if features.all():
            self._features.pop((plan, location), None)
        else:
            self._features[plan, location] = features

    def touched(self, plan: PixelPlan, raster: OpenRaster, margin: int = 0) -> TouchedBlocks:
        """Return the blocks of a raster to decode for a plan, see `sen2chain.coverage.touched_blocks`."""
        grid, block_shape = raster.grid, raster.block_shape
        features = self._features.get((plan, raster.location))
        if features is None:
            return self._layouts.touched(plan, grid, block_shape, margin)
        # Most rasters of an acquisition are needed for the same features.
        return self._memo.once(
            (plan, grid, block_shape, margin, features.tobytes()),
            lambda: coverage.touched_blocks(plan, grid, block_shape, margin, features),
        )

    def check_kept(self, plan: PixelPlan, raster: OpenRaster, use: Use = "nearest", margin: int = 0) -> None:
        """Make sure that a raster has the pixels that are read for a plan, which only one of kept pixels may lack.

        Parameters
        ----------
        plan, raster
            The plan and the raster.
        use, margin
            Which pixels are read, see `sen2chain.rasters.KeptRaster.lacking`.

        Raises
        ------
        PixelsNotKeptError
            If one is not kept.
        KeptPixelsError
            If kept pixels are damaged.
        """
        if isinstance(raster, KeptRaster):
            raster.check_kept(plan, self._features.get((plan, raster.location)), use, margin)
