"""Rasters on coarser grids than the finest one of their acquisition, and the masks computed from them."""

from __future__ import annotations

import contextlib
import functools
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition.mask_windows import MaskedWindows, masked_windows
from sen2chain.acquisition.open_rasters import Decoding, check_type
from sen2chain.errors import GridMismatchError, RasterError
from sen2chain.rasters import KeptRaster, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from sen2chain.acquisition.image_pool import ImagePool
    from sen2chain.acquisition.needed_blocks import NeededBlocks
    from sen2chain.acquisition.open_rasters import OpenRasters
    from sen2chain.coverage import PixelPlan, TouchedBlocks
    from sen2chain.grid import Grid
    from sen2chain.masks import Mask
    from sen2chain.parallel import Piece
    from sen2chain.plan import MaskSource
    from sen2chain.products import Radiometry
    from sen2chain.rasters import OpenRaster, Use

    Image = npt.NDArray[np.generic]
    Bools = npt.NDArray[np.bool_]

_MANY = 0.25
"""Share of rows of blocks that are touched, from which an image is in memory that was used before."""


class CoarseRasters:
    """Rasters on other grids than the finest one, each decoded as a whole where a pixel plan needs it.

    Parameters
    ----------
    rasters, grid
        The open rasters of the acquisition, and its finest grid.
    plan
        The pixel plan on that grid.
    blocks
        The blocks of each raster to decode.
    memory
        Memory of images.
    """

    def __init__(
        self, rasters: OpenRasters, grid: Grid, plan: PixelPlan, blocks: NeededBlocks, memory: ImagePool
    ) -> None:
        self._rasters, self._grid, self._plan, self._blocks, self._memory = rasters, grid, plan, blocks, memory
        self._margin: dict[str, int] = {}
        self._uses: dict[str, set[tuple[Use, int]]] = {}
        self._extra: dict[str, PixelPlan] = {}
        self._kept: dict[str, tuple[PixelPlan, int]] = {}
        self._images: dict[str, Image] = {}

    def want(self, location: str, margin: int, plan: PixelPlan | None = None, use: Use = "nearest") -> None:
        """Announce the use of a raster, so that one decoding serves all its uses.

        Parameters
        ----------
        location
            The raster.
        margin
            Pixels of the raster around those of the plan that are needed too; the largest of all uses counts.
        plan
            A second plan, whose pixels are needed as well.
        use
            Which pixels of the raster are read for those of the plan; where it is interpolated, `margin` is 1 so that
            all neighbours are decoded.
        """
        self._uses.setdefault(location, set()).add((use, margin if use == "nearest" else 0))
        self._margin[location] = max(margin, self._margin.get(location, 0))
        if plan is not None:
            self._extra[location] = plan

    def keep(self, location: str, margin: int, plan: PixelPlan) -> None:
        """Announce a raster whose pixels are kept: those of a plan of their own, with so many pixels around them."""
        self._kept[location] = plan, margin

    def keeps(self, location: str) -> bool:
        """Whether the pixels of a raster are kept."""
        return location in self._kept

    def raster(self, location: str) -> OpenRaster:
        """Return the open raster, if it covers the ground of the finest grid.

        Raises
        ------
        RasterError
            If it cannot be opened or lies elsewhere.
        """
        raster = self._rasters.open(location)
        if not raster.grid.covers(self._grid):
            # Of the two either may be the wrong one.
            fine = self._rasters.of_grid(self._grid) or "the 10 m rasters"
            error = GridMismatchError(f"{location} does not cover {fine} ({self._grid}): {raster.grid}.")
            self._rasters.fail(location, error)
            raise error
        return raster

    @property
    def announced(self) -> list[str]:
        """Locations of the rasters that have been announced."""
        return list(dict.fromkeys([*self._margin, *self._kept]))

    def pixels(self, locations: Iterable[str]) -> int:
        """Return the number of pixels of announced rasters that are still to be decoded."""
        left = 0
        for location in set(locations) - self._images.keys():
            with contextlib.suppress(RasterError):
                raster = self.raster(location)
                left += self._touched(raster).pixels()
        return left

    def ranges(self, location: str) -> list[tuple[int, int]]:
        """Return (offset, length) of what decoding an announced raster fetches; empty for a file on disk."""
        raster = self.raster(location)
        return raster.ranges(self._touched(raster), (0, raster.grid.shape[0]))

    def decode(self, locations: Iterable[str]) -> None:
        """Decode announced rasters at once, where they are needed; those that cannot be decoded are marked."""
        pieces: dict[str, tuple[list[Piece], int]] = {}
        images: dict[str, Image] = {}
        for location in dict.fromkeys(locations):
            with contextlib.suppress(RasterError):  # raised where the raster is used
                raster = self.raster(location)
                if location not in self._images:
                    touched = self._touched(raster)
                    self._check_kept(raster)
                    images[location] = self._zeros(raster, raster.dtype, touched)
                    try:
                        own = raster.pieces(touched, (0, raster.grid.shape[0]), images[location])
                    except RasterError as error:  # of a remote raster, before any piece is decoded
                        self._rasters.fail(location, error)
                        raise
                    pieces[location] = own, touched.pixels()
        Decoding(self._rasters, pieces).finish()
        self._images |= {where: image for where, image in images.items() if self._rasters.error(where) is None}

    def zeros(self, location: str, dtype: type[np.generic]) -> Image:
        """Return an image of zeros of the shape of an announced raster, to be written where the plan has pixels."""
        raster = self.raster(location)
        return self._zeros(raster, dtype, self._blocks.touched(self._plan, raster))

    def _zeros(self, raster: OpenRaster, dtype: npt.DTypeLike, touched: TouchedBlocks) -> Image:
        # Where few rows are touched, pages that nobody writes cost less than to clear memory that was used before.
        many = touched.blocks.any(axis=1).mean() > _MANY
        return (self._memory.zeros if many else np.zeros)(raster.grid.shape, dtype)

    def lacking(self, location: str) -> Bools:
        """Return the features that an announced raster of kept pixels lacks pixels of; errors as of `raster`."""
        raster = self.raster(location)
        found = np.zeros(len(self._plan.total), np.bool_)
        if isinstance(raster, KeptRaster):
            for use, margin in self._uses.get(location, ()):
                found |= raster.lacking(self._plan, None, use, margin)
        return found

    def _check_kept(self, raster: OpenRaster) -> None:
        """Make sure that a raster of kept pixels has all that is read; else it is marked as failed."""
        location = raster.location
        try:
            for use, margin in self._uses.get(location, ()):
                self._blocks.check_kept(self._plan, raster, use, margin)
            if location in self._extra:
                self._blocks.check_kept(self._extra[location], raster)
        except RasterError as error:
            self._rasters.fail(location, error)
            raise

    def _touched(self, raster: OpenRaster) -> TouchedBlocks:
        """Return the blocks of an announced raster that are needed."""
        location, needs = raster.location, []
        if location in self._margin:
            needs.append((self._plan, self._margin[location]))
        if location in self._extra:
            needs.append((self._extra[location], 0))
        if location in self._kept:
            needs.append(self._kept[location])
        return functools.reduce(or_, (self._blocks.touched(plan, raster, margin) for plan, margin in needs))

    def check(self, location: str, dtype: type[np.generic]) -> None:
        """Make sure that a raster can be used, as far as its header tells; else it is marked as failed."""
        try:
            check_type(self.raster(location), dtype)
        except RasterError as error:
            self._rasters.fail(location, error)

    def image(self, location: str, dtype: type[np.generic] | None) -> Image:
        """Return a raster, decoded where it is needed; elsewhere the array is 0.

        Parameters
        ----------
        location
            A raster that has been announced by `want`.
        dtype
            The type it must have; None takes any.

        Returns
        -------
        numpy.ndarray
            (rows, columns) of the whole raster.
        """
        if location not in self._images:
            self.decode([location])
        check_type(self.raster(location), dtype)
        return self._images[location]

    def forget_but(self, locations: Iterable[str]) -> None:
        """Free the memory of all decoded rasters except some."""
        kept = set(locations)
        self._images = {where: image for where, image in self._images.items() if where in kept}

    def stored(self, source: MaskSource) -> tuple[Grid, npt.NDArray[np.uint8]] | None:
        """Return grid and values of a stored mask of bytes, not 0 where masked; None for any other mask."""
        location = source.rasters.get("mask")
        image = None if location is None else self.image(location, None)
        if location is None or image is None or image.dtype != np.uint8:
            return None
        return self.raster(location).grid, image.view(np.uint8)

    def mask(
        self, mask: Mask, source: MaskSource, radiometry: Radiometry | None
    ) -> tuple[str, Iterator[MaskedWindows]]:
        """Return a mask in windows, wherever the plan has pixels, and the location of a raster on its grid."""
        if "mask" in source.rasters:
            location = source.rasters["mask"]
            image: Any = self.image(location, None)
            return location, (
                MaskedWindows.one(w, image[w] > 0) for w in self._touched_stretches(self.raster(location))
            )
        images: dict[str, Image] = {}
        for name, location in source.rasters.items():
            images[name] = self.image(location, np.dtype(mask.sensor.dtype_of(name)).type)
        first = self.raster(source.rasters[mask.inputs[0]])
        if any(image.shape != first.grid.shape for image in images.values()):
            where = ", ".join(source.rasters.values())
            raise GridMismatchError(f"The rasters of the mask {mask.name} differ in shape: {where}.")
        boxes = self._blocks.touched(self._plan, first).boxes
        return first.location, masked_windows(mask, images, boxes[boxes[..., 0] < boxes[..., 1]], radiometry)

    def _touched_stretches(self, raster: OpenRaster) -> Iterator[tuple[slice, slice]]:
        """Yield rows and columns of the stretches of blocks where the plan has pixels."""
        high, wide = raster.block_shape
        touched = self._blocks.touched(self._plan, raster).blocks
        rows, columns = raster.grid.shape
        for r, a, b in spans(touched, 0, touched.shape[0]):
            yield slice(r * high, min((r + 1) * high, rows)), slice(a * wide, min(b * wide, columns))
