"""The index values of one task: 10 m rasters are read in strips, and formulas work on the pixels of features alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition.open_rasters import check_scale, check_type, nodata_of, read_blocks
from sen2chain.acquisition.strips import spans
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.indices import NODATA, reflectance
from sen2chain.plan import ValueKind
from sen2chain.zonal import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.layouts import Layouts
    from sen2chain.acquisition.open_rasters import Coarse, Files
    from sen2chain.acquisition.strips import Runs
    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid
    from sen2chain.plan import Output
    from sen2chain.products import Radiometry

    Array = npt.NDArray[Any]
    Values = npt.NDArray[np.int16]
    Stretch = tuple[Array, Array, Array, Array]

# Formulas work on stretches of this many pixels, so that their steps stay in the processor's cache.
_STRETCH = 1 << 15
# Strips where no 10 m raster gives a height.
_HEIGHT = 1024


@dataclass(slots=True, eq=False)
class Buffer:
    """Collected pixels of one group of features."""

    fine: dict[str, Array] = field(default_factory=dict)
    """Location of a 10 m raster -> its values."""
    nearest: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    """Bits of the masks, plane by plane, and after them SCL classes where they are asked for."""
    weights: npt.NDArray[np.float32] | None = None
    """Weights of the pixels, where they have some."""

    def between(self, first: int, last: int) -> Buffer:
        """Return a stretch of the pixels; nothing is copied."""
        return Buffer(
            {where: values[first:last] for where, values in self.fine.items()},
            [values[first:last] for values in self.nearest],
            None if self.weights is None else self.weights[first:last],
        )


class ValueRasters:
    """The rasters that index values come from.

    Parameters
    ----------
    files, grid
        The task's rasters and its 10 m grid.
    coarse
        Decodes those on other grids.
    plan, layouts
        The pixels of the features, and which blocks they touch.
    radiometry
        Scale and offsets, where anything is computed from bands.
    """

    def __init__(
        self,
        files: Files,
        grid: Grid,
        coarse: Coarse,
        plan: PixelPlan,
        layouts: Layouts,
        radiometry: Radiometry | None,
    ) -> None:
        self._files, self._grid, self._coarse = files, grid, coarse
        self._plan, self._layouts, self._radiometry = plan, layouts, radiometry
        self._fine: list[str] = []
        self._bilinear: dict[str, tuple[Array, Array, Array, Array]] = {}
        self._strips: dict[str, Array] = {}

    def announce(self, outputs: Iterable[Output]) -> None:
        """Sort the rasters of outputs into those on the 10 m grid and coarser ones."""
        for output in outputs:
            for location in locations(output):
                if location in self._fine:
                    continue
                raster = self._files.open(location)
                if raster.grid != self._grid:
                    self._coarse.want(location, 1)
                    continue
                self._fine.append(location)
                from_bands = output.value is not None and output.value.kind is ValueKind.BANDS
                try:
                    check_type(raster, np.uint16 if from_bands else np.int16)
                    if not from_bands:
                        check_scale(raster)
                except UnreadableError as error:
                    self._files.fail(location, error)

    def decode_coarse(self, outputs: Iterable[Output]) -> None:
        """Decode the coarser bands; rasters that fail are marked."""
        for output in outputs:
            for location in locations(output):
                if location in self._fine or location in self._bilinear:
                    continue
                try:
                    self._coarse.image(location, np.uint16)
                    grid = self._coarse.raster(location).grid
                except RasterError as error:
                    self._files.fail(location, error)
                    continue
                rows, columns = self._grid.bilinear_in(grid, 0), self._grid.bilinear_in(grid, 1)
                self._bilinear[location] = (rows.first, rows.share, columns.first, columns.share)

    @property
    def coarse_locations(self) -> list[str]:
        """The coarser bands, which are needed until the end."""
        return list(self._bilinear)

    def strip_height(self) -> int:
        """Rows of a strip that holds whole blocks of every 10 m raster."""
        heights = [self._files.open(where).block_shape[0] for where in self._fine if not self._files.error(where)]
        return min(math.lcm(*heights), self._grid.shape[0]) if heights else _HEIGHT

    def read_strip(self, row0: int, height: int, wanted: set[str]) -> dict[str, Array]:
        """Decode the touched blocks of the wanted 10 m rasters from a row on; rasters that fail are marked."""
        images: dict[str, Array] = {}
        rows = min(height, self._grid.shape[0] - row0)
        for location in self._fine:
            if location not in wanted:
                continue
            raster = self._files.open(location)
            high = raster.block_shape[0]
            touched = self._layouts.touched(self._plan, raster.grid, raster.block_shape)
            # One array serves all strips, since only pixels of touched blocks are taken from it.
            if location not in self._strips:
                self._strips[location] = np.empty((height, self._grid.shape[1]), raster.dtype)
            image = self._strips[location][:rows]
            try:
                for r, a, b in spans(touched, row0 // high, -(-(row0 + rows) // high)):
                    read_blocks(raster, r, a, b, image, row0)
            except UnreadableError as error:
                self._files.fail(location, error)
                continue
            images[location] = image
        return images

    def collect(self, part: Runs, size: int, images: dict[str, Array], row0: int, buffer: Buffer) -> None:
        """Copy the pixels of runs from a strip into their group's buffer."""
        for location, image in images.items():
            if location not in buffer.fine:
                buffer.fine[location] = np.empty(size, image.dtype)
            # Values of either sign are copied as the 16 bits they are.
            image, out = image.view(np.uint16), buffer.fine[location].view(np.uint16)  # noqa: PLW2901
            gather.take(image, row0, part.row, part.column, part.length, part.start, out)
        if part.head is None or part.tail is None or part.own is None or self._plan.weights is None:
            return
        if buffer.weights is None:
            buffer.weights = np.empty(size, np.float32)
        gather.take_weights(part.head, part.tail, part.own, self._plan.weights, part.length, part.start, buffer.weights)

    def values(
        self, outputs: Iterable[Output], runs: Sequence[Stretch], size: int, buffer: Buffer
    ) -> dict[tuple[str, str], Values]:
        """Make the stored values of every output at the collected pixels.

        Returns
        -------
        dict
            `value_key` of an output -> (pixels,) int16, 32767 for no data.
        """
        values: dict[tuple[str, str], Values] = {}
        bands: dict[str, str] = {}
        computed = []
        for output in outputs:
            key = value_key(output)
            if key in values or output.value is None:
                continue
            if output.value.kind is ValueKind.BANDS:
                bands |= output.value.rasters
                computed.append(output.index)
                values[key] = np.empty(size, np.int16)
            else:
                raw = buffer.fine[key[1]]
                nodata = nodata_of(self._files.open(key[1]))
                values[key] = raw if nodata == NODATA else np.where(raw == nodata, np.int16(NODATA), raw)
        if not computed or self._radiometry is None:
            return values
        dns = {band: self._digital_numbers(where, runs, size, buffer) for band, where in bands.items()}
        offsets, quantification = self._radiometry.offsets, self._radiometry.quantification
        for a in range(0, size, _STRETCH):
            b = min(a + _STRETCH, size)
            surface = {band: reflectance(dn[a:b], offsets[band], quantification) for band, dn in dns.items()}
            for index in computed:
                values[index.name, ""][a:b] = index.compute(surface)
        return values

    def _digital_numbers(self, location: str, runs: Sequence[Stretch], size: int, buffer: Buffer) -> Array:
        """Return the collected digital numbers of a band; those of a 20 m band are interpolated and float."""
        if location not in self._bilinear:
            return buffer.fine[location]
        out = np.empty(size)
        image: Array = self._coarse.image(location, np.uint16)
        maps = self._bilinear[location]
        for r in runs:
            gather.take_bilinear(image, *maps, *r, out)
        return out

    def removed_by_mask(
        self, output: Output, values: Values, cloud: Array, bit: int, buffer: Buffer
    ) -> tuple[Values, Array]:
        """Tell what the mask removed from a masked index: where the unmasked raster, or else the mask, says so.

        Returns
        -------
        values, cloud
            As the kernels take them: a removed pixel has some value, and bit 1 set.
        """
        gone = values == NODATA
        location = output.value.rasters.get("unmasked") if output.value else None
        if location is None:
            removed = gone & ((cloud & bit) > 0)
        else:
            removed = gone & (buffer.fine[location] != nodata_of(self._files.open(location)))
        return np.where(removed, np.int16(0), values), removed.astype(np.uint8)


def locations(output: Output) -> list[str]:
    """Return the rasters that the values of an output need."""
    return list(output.value.rasters.values()) if output.value else []


def value_key(output: Output) -> tuple[str, str]:
    """Tell apart two sources of one index in a task: a masked raster is another one for each mask."""
    return output.index.name, output.value.rasters.get("value", "") if output.value else ""
