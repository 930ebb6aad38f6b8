"""Windows of an acquisition: rectangles of any layers, on the finest grid or at a reduced resolution.

A resolution is a whole multiple of the finest pixels (10 m for Sentinel-2). The values of a pixel are

==================  ===================================================================================================
digital numbers,    the mean of the measured pixels inside it, of the band's own resolution; where the pixel does not
reflectance         consist of whole pixels of the band, the band is first interpolated to the finest pixels (bilinear,
                    from centre to centre, as for zonal statistics). A digital number that is a mean or interpolated is
                    rounded half to even, and is the sensor's no-data value where nothing was measured
index values        the mean of the valid values on the finest grid, rounded half to even
masks, quality      the pixel that its centre lies in (nearest neighbour)
==================  ===================================================================================================

So a layer that is read at its own resolution comes as it is stored. Pixels at the right and lower edge of a raster that
is not a multiple of the resolution are means of fewer pixels.

Pictures
--------
With ``overview=True`` digital numbers and reflectance come from a smaller picture in the band's file, which takes a
hundredth of the time at 320 m. Where a pixel consists of n x n pixels of the band, the file's picture of the largest
power of two that divides n is taken, and the rest is averaged as above; where the file has none, all is averaged. A
JPEG 2000 file has one for each of its resolutions: the low-pass subband of its wavelet, whose values lie at the upper
left pixel of each square rather than in its middle, and next to missing data may be a mixture with them. A GeoTIFF has
its overviews, made in the way of the program that wrote it. So it is for looking at, not for statistics; indices,
masks and quality rasters are the same with and without.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sen2chain.acquisition.layers import DigitalNumbers, IndexValues, LayerSources, MaskLayer, Quality, Reflectance
from sen2chain.acquisition.layouts import Layouts
from sen2chain.acquisition.open_rasters import OpenRasters, check_type, finest_grid
from sen2chain.acquisition.reader import AT_ONCE, AcquisitionReader
from sen2chain.coverage import PixelPlan
from sen2chain.errors import RasterError, RequestError, shown, whole_number
from sen2chain.indices import NODATA
from sen2chain.parallel import apart
from sen2chain.plan import ValueKind
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition.layers import IndexKey, PixelLayer
    from sen2chain.acquisition.reader import Pixels
    from sen2chain.grid import Grid
    from sen2chain.plan import Preference
    from sen2chain.products import Acquisition

    Array = npt.NDArray[Any]
    Arrays = dict[PixelLayer, Array]
    Floats = npt.NDArray[np.float64]

_LARGEST = 1 << 16  # pixels along an edge


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels.

    Raises
    ------
    RequestError
        If a number is not whole, is negative, or the rectangle is empty.
    """

    row: int
    """First row."""
    column: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        for name in ("row", "column"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 0, _LARGEST))
        for name in ("height", "width"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1, _LARGEST))

    @classmethod
    def whole(cls, grid: Grid) -> Self:
        """Return the window of all pixels of a grid."""
        return cls(0, 0, *grid.shape)

    def rows(self, n: int) -> list[Window]:
        """Cut the window into windows of at most `n` rows, from top to bottom."""
        starts = range(0, self.height, n)
        return [Window(self.row + a, self.column, min(n, self.height - a), self.width) for a in starts]

    def __str__(self) -> str:
        return (
            f"rows {self.row} to {self.row + self.height - 1}, columns {self.column} to {self.column + self.width - 1}"
        )


def read(
    acquisition: Acquisition,
    layers: Iterable[PixelLayer],
    window: Window | None = None,
    resolution: float | None = None,
    *,
    overview: bool = False,
) -> Arrays:
    """Read a rectangle of an acquisition.

    Parameters
    ----------
    acquisition
        The acquisition.
    layers
        The layers to read.
    window
        Pixels of that resolution; None reads all.
    resolution
        Edge of a pixel in metres, a whole multiple of the finest pixels; None means the finest.
    overview
        Whether bands come from smaller pictures in their files, for looking at them; see the module.

    Returns
    -------
    dict
        Layer -> (rows, columns) of the window:

        - `DigitalNumbers`: the sensor's type, uint16 for Sentinel-2, 0 for no data;
        - `Reflectance`: float64, NaN for no data;
        - `IndexValues`: int16, the index times its scale (10000 for the twelve), 32767 for no data;
        - `MaskLayer`: bool, True where masked;
        - `Quality`: as stored.

    Raises
    ------
    RequestError
        If the acquisition lacks a layer, the window is not inside its rasters, or the resolution is not a multiple.
    RasterError
        If a raster cannot be used.
    """

    def work() -> Arrays:
        with environment(acquisition.reading), ExitStack() as stack:
            return OpenAcquisition(stack, acquisition, layers, resolution, overview=overview).read(window)

    return apart(work)


class OpenAcquisition:
    """Layers of one acquisition, opened to be read window by window.

    Use it inside of `sen2chain.rasters.environment` with the acquisition's `reading`, in one thread.

    Parameters
    ----------
    stack
        Closes the rasters.
    acquisition, layers, resolution, overview
        See `read`.
    prefer
        Order of the sources of index values, see `sen2chain.plan.resolve_sources`.
    rasters
        Rasters of the acquisition that are open already, to read it at several resolutions; None opens them.

    Raises
    ------
    RequestError
        If the acquisition lacks a layer, or the resolution is not a multiple.
    RasterError
        If a raster cannot be opened or lies on another grid than the others.
    """

    def __init__(
        self,
        stack: ExitStack,
        acquisition: Acquisition,
        layers: Iterable[PixelLayer],
        resolution: float | None = None,
        *,
        overview: bool = False,
        prefer: Preference | None = None,
        rasters: OpenRasters | None = None,
    ) -> None:
        self.layers = tuple(dict.fromkeys(layers))
        """The layers."""
        self._sources = sources = LayerSources.of_layers(acquisition, self.layers, prefer)
        self._rasters, self._layouts = rasters or OpenRasters(stack), Layouts()
        self._fine = self._finest_grid()
        self._factor = _factor(resolution, self._fine.pixel_xy[0])
        self.grid = self._fine.reduced(self._factor)
        """The grid of what is read, at the resolution."""
        self._radiometry = acquisition.details.radiometry() if _needs_radiometry(self.layers, sources) else None
        self._keys: dict[PixelLayer, IndexKey] = {IndexValues(i): key for key, (i, _) in sources.indices.items()}
        self._own = {band: m for band in sources.bands if (m := self._own_factor(band)) is not None}
        self._levels = self._overview_levels() if overview else {}

    def read(self, window: Window | None = None) -> Arrays:
        """Read one window; None reads all. See `sen2chain.acquisition.read`."""
        window = Window.whole(self.grid) if window is None else window
        out: Arrays = {}
        for part, arrays in self._parts(window, None):
            for layer, array in arrays.items():
                if layer not in out:
                    out[layer] = np.empty((window.height, window.width), array.dtype)
                out[layer][part.row - window.row :][: part.height] = array
        return out

    def strips(self, rows: int | None = None) -> Iterator[tuple[Window, Arrays]]:
        """Read whole rasters in strips of full width, from top to bottom; each block is decoded once.

        The memory needed does not grow with the number of strips: it is that of the coarser rasters, of one row of
        blocks of each raster on the finest grid, and of one strip; besides, GDAL keeps blocks in its cache, whose size
        is set by the environment variable ``GDAL_CACHEMAX``.

        Parameters
        ----------
        rows
            Rows of a strip; the last one may have fewer. None means about a million of the finest pixels.

        Yields
        ------
        tuple
            The window of a strip, and its arrays as `read` returns them.
        """
        yield from self._parts(Window.whole(self.grid), rows)

    def windows(self, windows: Sequence[Window]) -> Iterator[tuple[int, Arrays]]:
        """Read many windows, which may overlap; each block is decoded once for all of them.

        Parameters
        ----------
        windows
            Windows in pixels of `grid`. The arrays of all windows that end in one row of blocks are held at once.

        Yields
        ------
        tuple
            Position of a window in `windows`, and its arrays as `read` returns them. Windows come when they are
            complete: ordered by the row of blocks that their last row lies in, then by position.

        Raises
        ------
        RequestError
            If a window is not inside the rasters.
        RasterError
            If a raster cannot be used.
        """
        for window in windows:
            if window.row + window.height > self.grid.shape[0] or window.column + window.width > self.grid.shape[1]:
                size = f"{self.grid.shape[0]} rows and {self.grid.shape[1]} columns of {self.grid.pixel_xy[0]:g} m"
                raise RequestError(f"The window of {window} is not inside the raster, which has {size}.")
        plan = _plan(self._fine, windows, self._factor)
        decoded = {band: where for band, where in self._sources.bands.items() if band not in self._levels}
        sources = replace(self._sources, bands=decoded)
        reader = AcquisitionReader(self._rasters, self._fine, plan, self._layouts, sources, self._radiometry)
        reader.decode()
        pictures = {band: self._picture(band, windows) for band in self._levels}
        for error in (*reader.mask_errors.values(), *reader.quality_errors.values()):
            raise error
        for pixels in reader.pixels(in_pieces=False, nearest=False):
            self._raise_broken()
            collected = self._collected(pixels)
            for k, i in enumerate(pixels.features.tolist()):
                inside = slice(pixels.offsets[k], pixels.offsets[k + 1])
                rows, columns = _fine_ranges(windows[i], self._factor, self._fine.shape)
                shape = len(rows), len(columns)
                fine = {layer: values[inside].reshape(shape) for layer, values in collected.items()}
                yield i, {layer: self._array(layer, reader, windows[i], fine, pictures) for layer in self.layers}

    def _parts(self, window: Window, rows: int | None) -> Iterator[tuple[Window, Arrays]]:
        """Read a window in parts of some rows."""
        parts = window.rows(rows or max(1, AT_ONCE // (window.width * self._factor**2)))
        for i, arrays in self.windows(parts):
            yield parts[i], arrays

    def _finest_grid(self) -> Grid:
        """Return the finest grid; where only coarser layers are read, theirs, refined."""
        sources, finest = self._sources, float(self._sources.sensor.finest)
        grid = finest_grid(self._rasters, sources)
        self._raise_broken()
        if grid is not None:
            return grid
        others = [*sources.quality.values(), *(w for _, s in sources.masks.values() for w in s.rasters.values())]
        if not others:
            raise RequestError("No layer with a raster is asked for; pass at least one band, index, mask or quality.")
        grid = self._rasters.open(others[0]).grid
        return grid.refined(finest) if grid.pixel_xy[0] > 1.5 * finest else grid

    def _raise_broken(self) -> None:
        """Raise the error of a raster that cannot be used, if there is one."""
        for location in self._sources.values():
            if (error := self._rasters.error(location)) is not None:
                raise error

    def _own_factor(self, band: str) -> int | None:
        """Return how many pixels of a coarser band form the edge of a pixel of `grid`; None if they do not fit."""
        own = self._rasters.open(self._sources.bands[band]).grid
        factor = self.grid.pixel_xy[0] / own.pixel_xy[0]
        if own == self._fine or factor < 1 or factor != round(factor):
            return None
        same_corner = (own.transform[2], own.transform[5]) == (self.grid.transform[2], self.grid.transform[5])
        reaches = all(n > (m - 1) * factor for n, m in zip(own.shape, self.grid.shape, strict=True))
        return round(factor) if same_corner and reaches else None

    def _overview_levels(self) -> dict[str, int]:
        """Return the bands that are read from smaller pictures in their files -> how many times these are smaller."""
        levels = {}
        for band, location in self._sources.bands.items():
            raster = self._rasters.open(location)
            factor = self._own.get(band, self._factor if raster.grid == self._fine else 1)
            if (level := raster.overview_level(factor)) > 1:
                check_type(raster, np.dtype(self._sources.sensor.dtype).type)
                levels[band] = level
        return levels

    def _picture_factor(self, band: str) -> int:
        """Return how many pixels of a band's picture form the edge of a pixel of `grid`."""
        return self._own.get(band, self._factor) // self._levels[band]

    def _picture(self, band: str, windows: Sequence[Window]) -> Array:
        """Decode the smaller picture of a band where windows need it; elsewhere the array is 0."""
        location, factor = self._sources.bands[band], self._picture_factor(band)
        raster, level = self._rasters.open(location), self._levels[band]
        image = np.zeros(tuple(-(-n // level) for n in raster.grid.shape), raster.dtype)
        ranges = [_fine_ranges(window, factor, image.shape) for window in windows]
        boxes = np.array([(r.start, r.stop, c.start, c.stop) for r, c in ranges], np.int64)
        try:
            raster.read_overview(level, boxes.reshape(-1, 4), image)
        except RasterError as error:
            self._rasters.fail(location, error)
            raise
        return image

    def _collected(self, pixels: Pixels) -> Arrays:
        """Return the layers that are read on the finest grid, flat."""
        values = pixels.index_values(self._sources.indices)
        found: Arrays = {layer: values[key].stored for layer, key in self._keys.items()}
        for layer in self.layers:
            if isinstance(layer, DigitalNumbers | Reflectance) and layer.band not in {*self._own, *self._levels}:
                found[layer] = pixels.digital_numbers(layer.band)
        return found

    def _array(
        self,
        layer: PixelLayer,
        reader: AcquisitionReader,
        window: Window,
        fine: Arrays,
        pictures: Mapping[str, Array],
    ) -> Array:
        """Return a layer in a window."""
        match layer:
            case IndexValues():
                return _reduce(fine[layer], fine[layer] != NODATA, self._factor, NODATA)
            case Quality(name):
                grid, image = reader.quality_image(name)
                return self._nearest(grid, image, window)
            case MaskLayer(mask):
                found = reader.mask_bits.image(mask.name)
                if found is None:
                    return np.zeros((window.height, window.width), np.bool_)
                grid, image, bit = found
                return (self._nearest(grid, image, window) & bit) > 0
            case DigitalNumbers(band) | Reflectance(band):
                factor = self._factor
                if band in pictures or band in self._own:
                    if band in pictures:
                        factor, image = self._picture_factor(band), pictures[band]
                    else:
                        factor, image = self._own[band], reader.coarse.image(self._sources.bands[band], None)
                    rows, columns = _fine_ranges(window, factor, image.shape)
                    fine = {layer: image[rows.start : rows.stop, columns.start : columns.stop]}
                if isinstance(layer, Reflectance):
                    values = reader.value_rasters.reflectance(band, fine[layer])
                    return values if factor == 1 else _mean(values, ~np.isnan(values), factor)
                return self._whole_numbers(fine[layer], factor)
        raise AssertionError(layer)

    def _whole_numbers(self, dn: Array, factor: int) -> Array:
        """Return digital numbers as they are, or their means, as the sensor's type."""
        sensor = self._sources.sensor
        dtype = np.dtype(sensor.dtype)
        if factor == 1 and dn.dtype == dtype:
            return dn.copy()
        measured = ~np.isnan(dn) & (dn != sensor.nodata)
        if sensor.saturated is not None:
            measured &= dn != sensor.saturated
        return _reduce(dn, measured, factor, sensor.nodata).astype(dtype)

    def _nearest(self, grid: Grid, image: Array, window: Window) -> Array:
        """Look up the centres of a window's pixels in a raster."""
        rows = self.grid.nearest_in(grid, 0)[window.row :][: window.height]
        columns = self.grid.nearest_in(grid, 1)[window.column :][: window.width]
        found: Array = image[np.ix_(rows, columns)]
        return found


def _factor(resolution: float | None, finest: float) -> int:
    """Return a resolution in finest pixels."""
    if resolution is None:
        return 1
    is_number = isinstance(resolution, int | float) and not isinstance(resolution, bool)
    if not is_number or not finest <= resolution <= finest * _LARGEST or resolution % finest:
        raise RequestError(
            f"resolution is {shown(resolution)}; pass a whole multiple of the finest pixels, {finest:g} m."
        )
    return round(resolution / finest)


def _needs_radiometry(layers: Sequence[PixelLayer], sources: LayerSources) -> bool:
    """Whether anything is computed from the reflectance of bands."""
    return (
        any(isinstance(layer, Reflectance) for layer in layers)
        or any(source.kind is ValueKind.BANDS for _, source in sources.indices.values())
        or any(mask.bands and source.rasters.keys() & set(mask.bands) for mask, source in sources.masks.values())
    )


def _fine_ranges(window: Window, factor: int, shape: tuple[int, int]) -> tuple[range, range]:
    """Return rows and columns of the smaller pixels in a window of larger ones, as far as there are any."""
    rows = range(window.row * factor, min((window.row + window.height) * factor, shape[0]))
    return rows, range(window.column * factor, min((window.column + window.width) * factor, shape[1]))


def _plan(grid: Grid, windows: Sequence[Window], factor: int) -> PixelPlan:
    """Return the pixels of windows as a plan, in which each window is a feature."""
    ranges = [_fine_ranges(window, factor, grid.shape) for window in windows]
    heights = np.array([len(rows) for rows, _ in ranges], np.int64)
    row = np.concatenate([np.zeros(0, np.int32), *(np.arange(r.start, r.stop, dtype=np.int32) for r, _ in ranges)])
    column = np.repeat(np.array([c.start for _, c in ranges], np.int32), heights)
    length = np.repeat(np.array([len(c) for _, c in ranges], np.int32), heights)
    feature = np.repeat(np.arange(len(ranges), dtype=np.int32), heights)
    total = np.array([len(r) * len(c) for r, c in ranges], np.float64)
    return PixelPlan(grid, feature, row, column, length, total)


def _mean(values: Array, valid: npt.NDArray[np.bool_], factor: int) -> Floats:
    """Average the valid ones of each ``factor`` x ``factor`` pixels; NaN where none is valid."""
    starts = [np.arange(0, n, factor) for n in values.shape]

    def add_up(array: Array) -> Floats:
        total: Floats = np.add.reduceat(np.add.reduceat(array, starts[1], axis=1), starts[0], axis=0)
        return total

    total, count = add_up(np.where(valid, values, 0).astype(np.float64)), add_up(valid.astype(np.float64))
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _reduce(values: Array, valid: npt.NDArray[np.bool_], factor: int, nodata: int) -> Array:
    """Average whole numbers, see `_mean`, rounded half to even; of the type of the values, or float64."""
    if factor == 1 and values.dtype.kind != "f":
        return values.copy()
    mean = np.rint(_mean(values, valid, factor))
    return np.where(np.isnan(mean), nodata, mean).astype(values.dtype)
