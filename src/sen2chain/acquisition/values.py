"""Values of an acquisition on its finest grid: read in strips; formulas work on collected pixels alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from operator import or_
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sen2chain.acquisition.open_rasters import Decoding, check_scale, check_type, nodata_of
from sen2chain.acquisition.pixel_formulas import to_reflectance, to_stored
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.indices import NODATA, reflectance
from sen2chain.plan import ValueKind
from sen2chain.zonal import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.coarse_rasters import CoarseRasters
    from sen2chain.acquisition.image_pool import ImagePool
    from sen2chain.acquisition.layers import IndexKey, LayerSources
    from sen2chain.acquisition.needed_blocks import NeededBlocks
    from sen2chain.acquisition.open_rasters import OpenRasters
    from sen2chain.acquisition.strips import Runs
    from sen2chain.coverage import PixelPlan, TouchedBlocks
    from sen2chain.grid import Grid
    from sen2chain.indices import Index
    from sen2chain.parallel import Piece
    from sen2chain.plan import ValueSource
    from sen2chain.products import Radiometry
    from sen2chain.rasters import OpenRaster
    from sen2chain.sensor import Sensor

    Values = npt.NDArray[np.int16]
    Array = npt.NDArray[Any]
    Stretch = tuple[Array, Array, Array, Array]

# Formulas work on stretches of this many pixels, so that their steps stay in the processor's cache.
_STRETCH = 1 << 15
# Strips where no raster of the finest grid gives a height.
_HEIGHT = 1024
_NONE = np.zeros(0, np.int64)
_QUICK = (np.uint16, np.float64)
"""Types of digital numbers that the kernel takes."""


class IndexPixels(NamedTuple):
    """Stored values of an index at collected pixels."""

    stored: Values
    """(pixels,) int16, 32767 for no data."""
    clipped: npt.NDArray[np.int64]
    """Positions of the pixels whose value lies beyond the stored range. Of stored rasters none are known."""


@dataclass(slots=True, eq=False)
class Buffer:
    """Collected pixels of one group of features, or of a stretch of it."""

    fine: dict[str, Array] = field(default_factory=dict)
    """Location of a raster on the finest grid -> its values."""
    nearest: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    """Bits of the masks, plane by plane, and after them the values of each quality raster."""
    weights: npt.NDArray[np.float32] | None = None
    """Weights of the pixels; None where each counts 1."""

    def between(self, first: int, last: int) -> Buffer:
        """Return a stretch of the pixels; nothing is copied."""
        return Buffer(
            {where: values[first:last] for where, values in self.fine.items()},
            [values[first:last] for values in self.nearest],
            None if self.weights is None else self.weights[first:last],
        )


class StripReading:
    """A strip of the rasters on the finest grid while it is decoded; see `ValueRasters.begin_strip`."""

    def __init__(self, rasters: OpenRasters, images: dict[str, Array], decoding: Decoding) -> None:
        self._rasters, self._images, self._decoding = rasters, images, decoding

    def finish(self) -> dict[str, Array]:
        """Decode what is left; rasters that cannot be decoded are marked.

        Returns
        -------
        dict
            Location -> (rows, columns) of the strip. Untouched blocks hold arbitrary values.
        """
        self._decoding.finish()
        return {where: image for where, image in self._images.items() if self._rasters.error(where) is None}

    def drop(self) -> None:
        """Leave what nobody has begun to decode, and wait for the rest."""
        self._decoding.drop()


class ValueRasters:
    """Rasters of the bands and indices of an acquisition.

    Parameters
    ----------
    rasters, grid
        The open rasters, and the finest grid.
    coarse
        Decodes the rasters on other grids.
    plan, blocks
        The pixels to collect, and the blocks of each raster to decode.
    sensor
        The sensor of the acquisition.
    radiometry
        Scale and offsets, needed where reflectance or an index is computed from bands.
    memory
        Memory of the images of strips.
    """

    def __init__(
        self,
        rasters: OpenRasters,
        grid: Grid,
        coarse: CoarseRasters,
        plan: PixelPlan,
        blocks: NeededBlocks,
        sensor: Sensor,
        radiometry: Radiometry | None,
        memory: ImagePool,
    ) -> None:
        self._rasters, self._grid, self._coarse = rasters, grid, coarse
        self._plan, self._blocks, self._memory = plan, blocks, memory
        self._sensor, self._radiometry = sensor, radiometry
        self._fine: list[str] = []
        self._kept: dict[str, PixelPlan] = {}
        self._bilinear: dict[str, tuple[Array, Array, Array, Array]] = {}
        self._strips: dict[tuple[str, int], Array] = {}

    def set_radiometry(self, radiometry: Radiometry | None) -> None:
        """Set scale and offsets."""
        self._radiometry = radiometry

    def announce(self, sources: LayerSources) -> None:
        """Sort rasters into those on the finest grid and coarser ones; rasters that cannot be used are marked."""
        for location, value in sources.values().items():
            raster = self._rasters.open(location)
            if raster.grid != self._grid:
                self._coarse.want(location, 1, use="bilinear")
                # Even where no pixel of it is read in the end.
                self._coarse.check(location, np.uint16)
                continue
            self._fine.append(location)
            try:
                check_type(raster, np.dtype(self._sensor.dtype).type if value.is_band else np.int16)
                if not value.is_band:
                    check_scale(raster, value.scale)
            except UnreadableError as error:
                self._rasters.fail(location, error)

    def keep(self, location: str, plan: PixelPlan) -> None:
        """Announce a raster on the finest grid whose pixels are kept: those of a plan of their own."""
        self._kept[location] = plan

    @property
    def keeps_any(self) -> bool:
        """Whether pixels of a raster on the finest grid are kept."""
        return bool(self._kept)

    @property
    def _strip_rasters(self) -> list[str]:
        """Locations of the rasters on the finest grid that can be used."""
        every = dict.fromkeys([*self._fine, *self._kept])
        return [location for location in every if self._rasters.error(location) is None]

    def decode_coarse(self, sources: LayerSources) -> None:
        """Decode the coarser bands; rasters that cannot be decoded are marked."""
        coarser = [where for where in sources.values() if where not in self._fine and where not in self._bilinear]
        self._coarse.decode(coarser)
        for location in coarser:
            try:
                self._coarse.image(location, np.uint16)
                grid = self._coarse.raster(location).grid
            except RasterError as error:
                self._rasters.fail(location, error)
                continue
            rows, columns = self._grid.bilinear_in(grid, 0), self._grid.bilinear_in(grid, 1)
            self._bilinear[location] = (rows.first, rows.share, columns.first, columns.share)

    def check_kept(self, sources: LayerSources) -> None:
        """Mark rasters of kept pixels on the finest grid that lack a needed pixel."""
        values = sources.values()
        for location in self._fine:
            if location in values and self._rasters.error(location) is None:
                try:
                    self._blocks.check_kept(self._plan, self._rasters.open(location))
                except RasterError as error:
                    self._rasters.fail(location, error)

    @property
    def coarse_locations(self) -> list[str]:
        """Locations of the coarser bands, which are needed until the last pixel is collected."""
        return list(self._bilinear)

    def strip_height(self) -> int:
        """Return the rows of a strip that holds whole units of decoding of every raster on the finest grid."""
        heights = [self._rasters.open(where).strip_height for where in self._strip_rasters]
        return min(math.lcm(*heights), self._grid.shape[0]) if heights else _HEIGHT

    def begin_strip(self, row0: int, height: int, wanted: Iterable[str], buffer: int) -> StripReading:
        """Have idle threads begin to decode the touched blocks of a strip.

        Parameters
        ----------
        row0, height
            First row of the strip, and its rows.
        wanted
            Locations; those of coarser rasters are left out.
        buffer
            0 or 1, where to decode to. What is there from an earlier strip is lost.
        """
        images: dict[str, Array] = {}
        pieces: dict[str, tuple[list[Piece], int]] = {}
        rows = min(height, self._grid.shape[0] - row0)
        wanted = set(wanted)
        for location in dict.fromkeys([*self._fine, *self._kept]):
            if location not in wanted:
                continue
            raster, touched = self._touched(location)
            # One array serves many strips, since only pixels of touched blocks are taken from it.
            if (location, buffer) not in self._strips:
                self._strips[location, buffer] = self._memory.empty((height, self._grid.shape[1]), raster.dtype)
            image = images[location] = self._strips[location, buffer][:rows]
            high = raster.block_shape[0]
            pixels = touched.pixels(slice(row0 // high, -(-(row0 + rows) // high)))
            try:
                pieces[location] = raster.pieces(touched, (row0, row0 + rows), image), pixels
            except RasterError as error:  # of a remote raster, before any piece is decoded
                self._rasters.fail(location, error)
        return StripReading(self._rasters, images, Decoding(self._rasters, pieces))

    @property
    def are_remote(self) -> bool:
        """Whether any raster on the finest grid is remote."""
        return any(self._rasters.open(where).is_remote for where in self._strip_rasters)

    def bytes_of_strip(self, tops: Iterable[int], height: int) -> int:
        """Return about how many bytes the largest strip takes: two images of it, and what is fetched for the next one.

        Parameters
        ----------
        tops, height
            First rows of the strips, and the rows of a strip.
        """
        largest = 0
        touched = [(raster, own.blocks) for raster, own in map(self._touched, self._strip_rasters)]
        for top in tops:
            found = 0
            for raster, blocks in touched:
                high, wide = raster.block_shape
                count = int(blocks[top // high : -(-(top + height) // high)].sum())
                found += count * high * wide * raster.dtype.itemsize
            largest = max(largest, found)
        return 3 * largest

    def fetch_strip(self, row0: int, height: int, wanted: Iterable[str]) -> int:
        """Begin to fetch what a strip needs of remote rasters.

        Parameters
        ----------
        row0, height, wanted
            As of `begin_strip`.

        Returns
        -------
        int
            Bytes; 0 where no raster is remote.
        """
        rows = row0, min(row0 + height, self._grid.shape[0])
        wanted = set(wanted)
        usable = [where for where in self._strip_rasters if where in wanted]
        fetched = 0
        for raster, touched in map(self._touched, usable):
            try:
                fetched += raster.fetch(touched, rows)
            except RasterError as error:
                self._rasters.fail(raster.location, error)
        return fetched

    def pixels(self, wanted: Iterable[str]) -> int:
        """Return the number of pixels of all strips of some rasters that will be decoded."""
        wanted = set(wanted)
        usable = [where for where in self._strip_rasters if where in wanted]
        return sum(touched.pixels() for _, touched in map(self._touched, usable))

    def ranges(self, location: str) -> list[tuple[int, int]]:
        """Return (offset, length) of what decoding a raster on the finest grid fetches; empty for a file on disk."""
        raster, touched = self._touched(location)
        return raster.ranges(touched, (0, raster.grid.shape[0]))

    def _touched(self, location: str) -> tuple[OpenRaster, TouchedBlocks]:
        """Return a raster on the finest grid, and its blocks that are needed."""
        raster = self._rasters.open(location)
        plans = [self._plan] if location in self._fine else []
        plans += [self._kept[location]] if location in self._kept else []
        return raster, functools.reduce(or_, (self._blocks.touched(plan, raster) for plan in plans))

    def collect(self, part: Runs, size: int, images: dict[str, Array], row0: int, buffer: Buffer) -> None:
        """Copy the pixels of runs from a strip into the buffer of their group.

        Parameters
        ----------
        part
            The runs.
        size
            Pixels of the group.
        images, row0
            The strip, as `StripReading.finish` returns it, and its first row.
        buffer
            The buffer of the group.
        """
        for location, image in images.items():
            if location not in self._fine:
                continue  # it is only kept
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

    def index_values(
        self,
        indices: Mapping[IndexKey, tuple[Index, ValueSource]],
        runs: Sequence[Stretch],
        size: int,
        buffer: Buffer,
    ) -> dict[IndexKey, IndexPixels]:
        """Compute the stored values of indices at the collected pixels."""
        values: dict[IndexKey, IndexPixels] = {}
        bands: dict[str, str] = {}
        computed = []
        for key, (index, source) in indices.items():
            if source.kind is ValueKind.BANDS:
                bands |= source.rasters
                computed.append(index)
                values[key] = IndexPixels(np.empty(size, np.int16), _NONE)
            else:
                raw = buffer.fine[key[1]]
                nodata = self.nodata(key[1])
                stored = raw if nodata == NODATA else np.where(raw == nodata, np.int16(NODATA), raw)
                values[key] = IndexPixels(stored, _NONE)
        if not computed or self._radiometry is None:
            return values
        dns = {band: self.digital_numbers(where, runs, size, buffer) for band, where in bands.items()}
        for a in range(0, size, _STRETCH):
            b = min(a + _STRETCH, size)
            surface = {band: self.reflectance(band, dn[a:b]) for band, dn in dns.items()}
            for index in computed:
                stored, clipped = values[index.name, ""]
                to_stored(*index.raw_values(surface), index.scale, stored[a:b])
                beyond = index.clipped(stored[a:b], surface)
                if len(beyond):
                    values[index.name, ""] = IndexPixels(stored, np.concatenate([clipped, beyond + a]))
        return values

    def digital_numbers(self, location: str, runs: Sequence[Stretch], size: int, buffer: Buffer) -> Array:
        """Return the collected digital numbers of a band.

        Returns
        -------
        numpy.ndarray
            (pixels,) as stored. Those of a coarser band are float64, interpolated (bilinear, from centre to centre),
            NaN where a number that contributes is not a measurement.
        """
        if location not in self._bilinear:
            return buffer.fine[location]
        out = np.empty(size)
        image: Array = self._coarse.image(location, np.uint16)
        maps = self._bilinear[location]
        nodata = self._sensor.nodata
        saturated = nodata if self._sensor.saturated is None else self._sensor.saturated
        for r in runs:
            gather.take_bilinear(image, *maps, *r, out, nodata, saturated)
        return out

    def reflectance(self, band: str, dn: Array) -> npt.NDArray[np.float64]:
        """Turn digital numbers of a band into surface reflectance, see `sen2chain.indices.reflectance`."""
        assert self._radiometry is not None  # noqa: S101  # given where reflectance is read
        offset, quantification = self._radiometry.offsets[band], self._radiometry.quantification
        if dn.dtype not in _QUICK or not dn.flags.c_contiguous:
            return reflectance(dn, offset, quantification, self._sensor)
        saturated = self._sensor.nodata if self._sensor.saturated is None else self._sensor.saturated
        out = np.empty(dn.shape)
        to_reflectance(dn.ravel(), offset, quantification, self._sensor.nodata, saturated, out.ravel())
        return out

    def nodata(self, location: str) -> int:
        """Return the no-data value of a raster of index values."""
        return nodata_of(self._rasters.open(location))
