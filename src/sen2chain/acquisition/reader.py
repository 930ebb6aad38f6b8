"""Reader of one acquisition: decodes what a pixel plan needs, and yields the collected pixels group by group.

Coarser rasters are decoded first and kept; rasters on the finest grid are read in strips. Of each, only the pixels of
the plan are collected, side by side per feature. Values, reflectance and masks are computed from these.
"""

from __future__ import annotations

import functools
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition.coarse_rasters import CoarseRasters
from sen2chain.acquisition.mask_bits import MaskBits
from sen2chain.acquisition.needed_blocks import NeededBlocks
from sen2chain.acquisition.values import Buffer, IndexPixels, StripReading, ValueRasters
from sen2chain.errors import RasterError
from sen2chain.parallel import Allowance, memory
from sen2chain.rasters import KeptRaster
from sen2chain.zonal import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.layers import IndexKey, LayerSources
    from sen2chain.acquisition.layouts import Layouts
    from sen2chain.acquisition.open_rasters import OpenRasters
    from sen2chain.acquisition.strips import Group, Runs
    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid
    from sen2chain.products import Radiometry

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]
    Bytes = npt.NDArray[np.uint8]
    Taken = Callable[[Mapping[str, Array], int], None]
    Nearest = tuple[Array, npt.NDArray[np.int32], npt.NDArray[np.int32]]

AT_ONCE = 1 << 20
"""Pixels whose values are held at once, unless one feature has more."""

_LEAST, _MOST = 512 << 20, 4 << 30
"""Bytes that strips of remote rasters may take together: a quarter of the memory, within these limits."""
FETCHED_AHEAD = 32 << 20
"""Bytes of remote rasters that an acquisition may hold before they are decoded, unless one strip needs more."""


@dataclass(slots=True, eq=False)
class Pixels:
    """Collected pixels of some features, or of a piece of a very large one."""

    features: npt.NDArray[np.int64]
    """Positions of the features in the plan."""
    offsets: npt.NDArray[np.int64]
    """``offsets[i]:offsets[i + 1]`` are the pixels of ``features[i]``."""
    is_piece: bool
    """Whether they are a part of one feature only, whose other pixels come before or after."""
    _reader: AcquisitionReader
    _runs: list[tuple[Array, Array, Array, Array]]
    _buffer: Buffer

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(self.offsets[-1])

    @property
    def weights(self) -> npt.NDArray[np.float32] | None:
        """Share of each pixel's area inside its feature; None where each counts 1."""
        return self._buffer.weights

    def digital_numbers(self, band: str) -> Array:
        """Return the digital numbers of a band, see `ValueRasters.digital_numbers`."""
        location = self._reader.sources.bands[band]
        return self._reader.value_rasters.digital_numbers(location, self._runs, self.size, self._buffer)

    def reflectance(self, band: str) -> npt.NDArray[np.float64]:
        """Return the surface reflectance of a band, NaN for no data."""
        return self._reader.value_rasters.reflectance(band, self.digital_numbers(band))

    def index_values(self, keys: Iterable[IndexKey]) -> dict[IndexKey, IndexPixels]:
        """Return the stored values of indices, 32767 for no data, and which of them are clipped."""
        indices = {key: self._reader.sources.indices[key] for key in keys}
        return self._reader.value_rasters.index_values(indices, self._runs, self.size, self._buffer)

    def stored_values(self, location: str) -> tuple[npt.NDArray[np.int16], int]:
        """Return the values of a stored index raster as they are, and its no-data value."""
        return self._buffer.fine[location], self._reader.value_rasters.nodata(location)

    def mask(self, name: str) -> tuple[Bytes, int]:
        """Return bits of masks, and the bit that is set where the named mask masks."""
        return self._reader.mask_bits.cloud(name, self._buffer.nearest, self.size)

    def quality(self, name: str) -> Bytes:
        """Return the values of a quality raster."""
        return self._buffer.nearest[self._reader.nearest_position(name)]


class AcquisitionReader:
    """Reads the layers of one acquisition at the pixels of a plan.

    Call `decode` (or `decode_masks`, then `decode_values`), then iterate over `pixels` once. Errors of rasters are
    kept, so that a broken raster costs only the layers that need it: `rasters.error`, `mask_errors` and
    `quality_errors` tell them.

    Parameters
    ----------
    rasters
        The open rasters; those with an error are not read.
    grid
        The finest grid of the acquisition.
    plan
        The pixels to collect, on that grid.
    layouts
        Touched blocks and reading order of plans, and memory of images.
    sources
        The layers to read.
    radiometry
        Scale and offsets, needed where reflectance, an index or a mask is computed from bands.
    """

    def __init__(
        self,
        rasters: OpenRasters,
        grid: Grid,
        plan: PixelPlan,
        layouts: Layouts,
        sources: LayerSources,
        radiometry: Radiometry | None,
    ) -> None:
        self.rasters, self.grid = rasters, grid
        self.sources = sources
        """The layers to read; those with a broken raster are dropped."""
        self.mask_errors: dict[str, RasterError] = {}
        """Mask name -> why it cannot be read or computed."""
        self.quality_errors: dict[str, RasterError] = {}
        """Quality raster -> why it cannot be read."""
        self._plan, self._layouts, self._radiometry = plan, layouts, radiometry
        self._blocks = blocks = NeededBlocks(layouts)
        self.coarse = CoarseRasters(rasters, grid, plan, blocks, layouts.images)
        self.value_rasters = ValueRasters(
            rasters, grid, self.coarse, plan, blocks, sources.sensor, radiometry, layouts.images
        )
        self.mask_bits = MaskBits(grid)
        self._quality: dict[str, Nearest] = {}
        self._values = sources.values().keys()
        self._kept: list[str] = []
        self._keep_plan: PixelPlan | None = None
        self._taken: Taken | None = None
        self.value_rasters.announce(sources)
        for mask, source in sources.masks.values():
            for location in source.rasters.values():
                self.coarse.want(location, mask.reach)
        for location in sources.quality.values():
            self.coarse.want(location, 0)

    def keep(self, plan: PixelPlan, margins: Mapping[str, int], taken: Taken) -> None:
        """Decode rasters for the pixels of a plan of their own too, before `decode_masks`.

        Those on the finest grid are handed over in strips. The others can be taken from `coarse.image` after
        `decode_values`, and before `pixels`.

        Parameters
        ----------
        plan
            The pixels, on the finest grid.
        margins
            Location of a raster that can be opened -> pixels of it around those of the plan that are kept too.
        taken
            Called with the images of each strip by location, and the strip's first row.
        """
        self._keep_plan, self._taken = plan, taken
        for location, margin in margins.items():
            self._kept.append(location)
            is_whole = location in self.coarse.announced and location not in self._values
            if margin or is_whole or self.rasters.open(location).grid != self.grid:
                self.coarse.keep(location, margin, plan)
            else:
                self.value_rasters.keep(location, plan)

    def _wanted(self) -> list[str]:
        """Return the locations of rasters of values that are decoded: those of `sources`, and those that are kept."""
        return list(dict.fromkeys([*self.sources.values(), *self._kept]))

    def set_radiometry(self, radiometry: Radiometry | None) -> None:
        """Set scale and offsets, where they are known only after the masks; before `decode_values`."""
        self._radiometry = radiometry
        self.value_rasters.set_radiometry(radiometry)

    def decode(self) -> None:
        """Decode the coarser rasters and compute the masks."""
        self.decode_masks()
        self.decode_values()

    def decode_values(self) -> None:
        """Decode the coarser bands of `sources`, for all features or those that `need` names."""
        wanted = self._wanted()
        coarser = [where for where in self.coarse.announced if where in wanted or where not in self._values]
        self.rasters.decoded.expect(lambda: self.coarse.pixels(coarser) + self.value_rasters.pixels(wanted))
        self.value_rasters.check_kept(self.sources)
        self.coarse.decode(coarser)
        self.value_rasters.decode_coarse(self.sources)

    def decode_masks(self) -> None:
        """Decode the quality rasters and the inputs of masks, and compute the masks."""
        sources, announced, wanted = self.sources, self.coarse.announced, self._wanted()
        self.rasters.decoded.expect(lambda: self.coarse.pixels(announced) + self.value_rasters.pixels(wanted))
        inputs = [where for _, source in sources.masks.values() for where in source.rasters.values()]
        self.coarse.decode([*inputs, *sources.quality.values()])
        for name, (mask, source) in self.sources.masks.items():
            try:
                self.mask_bits.make(mask, source, self.coarse, self._radiometry)
            except RasterError as error:
                self.mask_errors[name] = error
        for name, location in self.sources.quality.items():
            try:
                image = self.coarse.image(location, np.dtype(self.sources.sensor.dtype_of(name)).type)
                grid = self.coarse.raster(location).grid
            except RasterError as error:
                self.quality_errors[name] = error
                continue
            self._quality[name] = (image, self.grid.nearest_in(grid, 0), self.grid.nearest_in(grid, 1))

    def removed(self, masks: Iterable[str], among: Bools) -> dict[str, Bools]:
        """Find the features of which computed masks remove every pixel, see `MaskBits.removed`."""
        return self.mask_bits.removed(masks, self._plan, among)

    def consist_of(self, number: int, location: str, among: Bools) -> Bools:
        """Return the features whose pixels all have one number in a raster of classes.

        Parameters
        ----------
        number
            The class.
        location
            The raster, which a computed mask or `sources.quality` names; call this before `pixels`.
        among
            (features of the plan,) True for the features in question; each has a pixel.

        Returns
        -------
        numpy.ndarray
            (features of the plan,) of bool.
        """
        grid, image = self.coarse.raster(location).grid, self.coarse.image(location, np.uint8).view(np.uint8)
        rows, columns = self.grid.nearest_in(grid, 0), self.grid.nearest_in(grid, 1)
        plan = self._plan
        runs = plan.feature, plan.row, plan.column, plan.length
        # The first pixel rules most features out.
        features = np.flatnonzero(among)
        first = np.searchsorted(plan.feature, features)
        features = features[image[rows[plan.row[first]], columns[plan.column[first]]] == number]
        bits = np.zeros(len(among), np.uint8)
        bits[features] = 0xFF
        gather.common_bits(image, rows, columns, *runs, number, bits)
        found: Bools = bits == 0xFF
        return found

    def lacking(self, location: str) -> Bools:
        """Return the features that a raster of kept pixels lacks needed pixels of.

        Parameters
        ----------
        location
            The raster, one of values.

        Returns
        -------
        numpy.ndarray
            (features of the plan,) of bool; all False for a raster that is not one of kept pixels.

        Raises
        ------
        RasterError
            If it cannot be used.
        """
        raster = self.rasters.open(location)
        if not isinstance(raster, KeptRaster):
            return np.zeros(len(self._plan.total), np.bool_)
        return raster.lacking(self._plan, None, "nearest" if raster.grid == self.grid else "bilinear")

    def lacking_for_masks(self, location: str) -> Bools:
        """Return the features that an input of masks lacks needed pixels of, see `lacking`."""
        return self.coarse.lacking(location)

    def need(self, location: str, features: Bools, plan: PixelPlan | None = None) -> None:
        """Decode a raster only where some features need it; of the others, its pixels hold anything.

        Parameters
        ----------
        location
            A raster that has not been decoded; for one that has been, this has no effect.
        features
            (features of the plan,) True for the features that need it.
        plan
            The plan of the features; None means the reader's.
        """
        self._blocks.restrict(self._plan if plan is None else plan, location, features)

    def pixels(self, *, in_pieces: bool = True, nearest: bool = True) -> Generator[Pixels]:
        """Read the rasters strip by strip, and yield features when they are complete.

        While it runs, `sources` may be replaced by fewer layers. Close it before the rasters: idle threads may read
        ahead of it.

        Parameters
        ----------
        in_pieces
            Whether very large features come in pieces, so that they need no more memory than others.
        nearest
            Whether masks and quality rasters are collected too.

        Yields
        ------
        Pixels
            Features, each once (or in pieces), ordered by the strip of their last row.
        """
        self.coarse.forget_but(self.value_rasters.coarse_locations)
        looked_up = [*self.mask_bits.look_up(), *self._quality.values()] if nearest else []
        height = self.value_rasters.strip_height()
        strips = self._layouts.strips(self._plan, height, in_pieces=in_pieces)
        runs_of: dict[int, list[Runs]] = {}
        parts_of: dict[int, list[Runs]] = {strip: [] for strip in self._strips_to_keep(height)}
        for part in strips.parts:
            runs_of.setdefault(part.group, []).append(part)
            parts_of.setdefault(part.strip, []).append(part)
        buffers: dict[int, Buffer] = {}
        with closing(self._decoded(order := sorted(parts_of), height)) as decoded:
            for strip, images in zip(order, decoded, strict=True):
                if self._taken is not None:
                    self._taken(images, strip * height)
                for part in parts_of[strip]:
                    group = strips.groups[part.group]
                    buffer = buffers.setdefault(part.group, Buffer())
                    self.value_rasters.collect(part, group.size, images, strip * height, buffer)
                    _collect_nearest(looked_up, part, group.size, buffer)
                    if group.is_piece:
                        yield from self._piece(group, part, buffers.pop(part.group))
                    elif group.strip == strip and part is runs_of[part.group][-1]:
                        yield from self._whole(group, runs_of[part.group], buffers.pop(part.group))

    def _strips_to_keep(self, height: int) -> list[int]:
        """Return the strips of `height` rows in which pixels are kept, those without any other pixel too."""
        if self._keep_plan is None or not self.value_rasters.keeps_any:
            return []
        found: list[int] = np.unique(self._keep_plan.row // height).tolist()
        return found

    def _decoded(self, strips: Sequence[int], height: int) -> Generator[dict[str, Array]]:
        """Yield the images of strips of `height` rows. While one is used, idle threads decode the next."""
        tops = [strip * height for strip in strips] if self.value_rasters.are_remote else []
        ahead = _FetchAhead(self.value_rasters, tops, height)
        # Many more acquisitions are read at once of remote files than there are processors.
        with _remote_strips().hold(self.value_rasters.bytes_of_strip(tops, height)):
            yield from self._decoded_strips(strips, height, ahead)

    def _decoded_strips(self, strips: Sequence[int], height: int, ahead: _FetchAhead) -> Generator[dict[str, Array]]:
        """Yield the images of strips, and have what comes next fetched and decoded meanwhile."""
        coming, buffer = None, 0
        try:
            for k, strip in enumerate(strips):
                ahead.reach(k, self._wanted())
                images = (coming or self._begin(strip, height, buffer)).finish()
                coming = None
                if k + 1 < len(strips) and self.rasters.crew.has_idle:
                    buffer = 1 - buffer
                    coming = self._begin(strips[k + 1], height, buffer)
                yield images
        finally:
            if coming is not None:
                coming.drop()

    def _begin(self, strip: int, height: int, buffer: int) -> StripReading:
        """Begin to decode a strip, without the layers of which a raster is broken."""
        self.sources = self.sources.without(lambda location: self.rasters.error(location) is not None)
        wanted = [where for where in self._wanted() if self.rasters.error(where) is None]
        return self.value_rasters.begin_strip(strip * height, height, wanted, buffer)

    def _whole(self, group: Group, runs: list[Runs], buffer: Buffer) -> Iterator[Pixels]:
        """Yield the features of a complete group, some at a time."""
        first = 0
        while first < len(group.features):
            begin = group.offsets[first]
            last = max(int(np.searchsorted(group.offsets, begin + AT_ONCE, side="right")) - 1, first + 1)
            end = group.offsets[last]
            offsets = group.offsets[first : last + 1] - begin
            stretches = [r.between(begin, end) for r in runs]
            yield Pixels(group.features[first:last], offsets, False, self, stretches, buffer.between(begin, end))  # noqa: FBT003
            first = last

    def _piece(self, group: Group, part: Runs, buffer: Buffer) -> Iterator[Pixels]:
        """Yield a piece of a very large feature, some runs at a time."""
        starts = part.start
        first = 0
        while first < len(starts):
            last = max(int(np.searchsorted(starts, starts[first] + AT_ONCE)), first + 1)
            begin, end = int(starts[first]), int(starts[last]) if last < len(starts) else group.size
            offsets, stretch = np.array([0, end - begin]), part.between(begin, end)
            yield Pixels(group.features, offsets, True, self, [stretch], buffer.between(begin, end))  # noqa: FBT003
            first = last

    def nearest_position(self, name: str) -> int:
        """Return where the values of a quality raster stand among the collected planes."""
        return len(self.mask_bits.look_up()) + list(self._quality).index(name)

    def quality_image(self, name: str) -> tuple[Grid, Array]:
        """Return grid and values of a decoded quality raster; values far from the plan's pixels are 0."""
        return self.coarse.raster(self.sources.quality[name]).grid, self._quality[name][0]


@functools.cache
def _remote_strips() -> Allowance:
    """Return the memory that strips of remote rasters may take in this process."""
    return Allowance(min(max((memory() or 0) // 4, _LEAST), _MOST))


class _FetchAhead:
    """Fetches of remote rasters that go ahead of decoding, as far as the memory for them reaches.

    Parameters
    ----------
    value_rasters
        The rasters.
    tops, height
        First rows of the strips in their order, and the rows of a strip. No strips where no raster is remote.
    """

    def __init__(self, value_rasters: ValueRasters, tops: Sequence[int], height: int) -> None:
        self._rasters, self._tops, self._height = value_rasters, tops, height
        self._sizes: list[int] = []

    def reach(self, position: int, wanted: Iterable[str]) -> None:
        """Fetch the strip at a position, and those after it while they are small."""
        wanted = list(wanted)
        while len(self._sizes) < len(self._tops) and (
            len(self._sizes) <= position or sum(self._sizes[position:]) < FETCHED_AHEAD
        ):
            self._sizes.append(self._rasters.fetch_strip(self._tops[len(self._sizes)], self._height, wanted))


def _collect_nearest(looked_up: list[Nearest], part: Runs, size: int, buffer: Buffer) -> None:
    """Look up masks and quality rasters under the pixels of runs."""
    if not buffer.nearest:
        buffer.nearest = [np.empty(size, np.uint8) for _ in looked_up]
    for (image, rows, columns), out in zip(looked_up, buffer.nearest, strict=True):
        gather.take_nearest(image, rows, columns, part.row, part.column, part.length, part.start, out)
