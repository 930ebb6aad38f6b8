"""One open raster of any format and number of bands: its grid, what it says of its bands, and windows of them."""

from __future__ import annotations

import contextlib
import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import rasterio
from rasterio._path import _UnparsedPath
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window

from sen2chain.errors import GridMismatchError, RequestError, UnreadableError, escaped, quoted
from sen2chain.grid import Grid
from sen2chain.rasters.decoded_blocks import count
from sen2chain.rasters.local_files import NETWORK_DRIVERS
from sen2chain.rasters.raster import crs_text
from sen2chain.rasters.raster_file import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_ERRORS = (RasterioIOError, RasterioError, ValueError)
_IDLE = 4  # datasets of one raster that are kept open while no thread reads them


@dataclass(frozen=True, slots=True)
class Band:
    """What a raster says of one of its bands."""

    number: int
    """Its number, from 1."""
    name: str
    """Its description, ``band_<number>`` where it has none; different from those of the other bands."""
    dtype: str
    """Type of its stored values, as numpy calls it."""
    nodata: float | int | None
    """Stored value that means no data; None where none is declared."""
    scale: float
    """Factor from stored to physical values."""
    offset: float
    """Summand from stored to physical values."""
    mask: bool
    """Whether the file has a mask for it besides `nodata`: a mask band, or an alpha band."""
    is_classes: bool
    """Whether it has a colour table, so that its values are numbers of classes."""

    @property
    def is_scaled(self) -> bool:
        """Whether physical values differ from stored ones."""
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What a raster says of itself; hashable, without anything open."""

    location: str
    """Where it is, as GDAL takes it."""
    driver: str
    """GDAL's name of its format."""
    grid: Grid
    """Its grid, north-up."""
    is_south_up: bool
    """Whether row 0 of the file is the southern edge, so that its rows run against those of the grid."""
    bands: tuple[Band, ...]
    """All bands but alpha."""
    block_shape: tuple[int, int]
    """(rows, columns) of a block."""
    one_mask: bool
    """Whether one mask holds for all bands."""
    alpha: int | None
    """Number of the band that is the mask, as its colour says; None where there is no such band."""


def read_type(bands: Sequence[Band]) -> np.dtype[Any]:
    """Type of the values of bands that are read together: their own, or one that holds all of their types."""
    # numba, and so our kernels, have no half floats.
    return np.result_type(*{"float32" if band.dtype == "float16" else band.dtype for band in bands})


class BandStack:
    """A raster of any format, read by windows in any threads; each dataset is used by one thread at a time.

    Use it, and all that it returns, inside of `environment` with `ANY_FORMAT_OPTIONS`.

    Parameters
    ----------
    location
        What `local_location` returns.
    crs
        CRS of a raster that has none.

    Raises
    ------
    UnreadableError
        If it cannot be opened, has no band, no CRS or no georeference, or has values that are not real numbers.
    GridMismatchError
        If it is rotated or mirrored.
    """

    def __init__(self, location: str, crs: str | None = None) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._idle: list[rasterio.DatasetReader] = []
        with self._dataset() as dataset:
            count(lambda counts: counts.opens.update((location,)))
            self.facts = _facts_of(location, dataset, crs)

    @contextlib.contextmanager
    def _dataset(self) -> Iterator[rasterio.DatasetReader]:
        """Lend a dataset to the thread that enters."""
        with self._lock:
            dataset = self._idle.pop() if self._idle else None
        dataset = dataset or _open(self.location)
        try:
            yield dataset
        finally:
            with self._lock:
                kept = len(self._idle) < _IDLE
                if kept:
                    self._idle.append(dataset)
            if not kept:
                dataset.close()

    def read(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int],
        bands: Sequence[Band],
        room: npt.NDArray[np.uint8] | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Read a window of some bands, each block of it once.

        Parameters
        ----------
        rows, columns
            First and one past the last, in the rows of the file.
        bands
            The bands, of `StackFacts.bands`.
        room
            Bytes that `values` may stand in, if they are enough: new memory takes time.

        Returns
        -------
        values
            (bands, rows, columns) stored values, of the type `read_type` tells.
        valid
            (n, rows, columns) of uint8, 0 where a mask of the file removes a pixel: n is 1 for all bands, their number
            for masks of their own, or 0 where the file has no mask. What `Band.nodata` says is not in it.

        Raises
        ------
        UnreadableError
            If it cannot be decoded.
        """
        window = Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
        shape = rows[1] - rows[0], columns[1] - columns[0]
        numbers = [band.number for band in bands]
        dtype = read_type(bands)
        size = len(bands) * shape[0] * shape[1]
        if room is None or len(room) < size * dtype.itemsize:
            values = np.empty((len(bands), *shape), dtype)
        else:
            values = room[: size * dtype.itemsize].view(dtype).reshape(len(bands), *shape)
        masked = [band.number for band in bands if band.mask]
        try:
            with self._dataset() as dataset:
                if len({band.dtype for band in bands}) == 1:
                    dataset.read(numbers, window=window, out=values)
                else:
                    for number, out in zip(numbers, values, strict=True):
                        out[...] = dataset.read(number, window=window)
                if not masked:
                    valid = np.empty((0, *shape), np.uint8)
                elif self.facts.alpha is not None:
                    # Where other than one or three bands precede it, GDAL takes it for no mask.
                    valid = (dataset.read([self.facts.alpha], window=window) != 0).astype(np.uint8)
                elif self.facts.one_mask:
                    valid = dataset.read_masks(masked[0], window=window)[np.newaxis]
                else:
                    valid = np.stack([
                        dataset.read_masks(band.number, window=window) if band.mask else np.full(shape, 255, np.uint8)
                        for band in bands
                    ])  # fmt: skip
        except _ERRORS as error:
            raise UnreadableError(f"{self.location} cannot be read: {first_line(error)}") from error
        self._count(rows, columns)
        return values, np.ascontiguousarray(valid)

    def _count(self, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        high, wide = self.facts.block_shape
        blocks = [
            (self.location, i, j)
            for i in range(rows[0] // high, (rows[1] - 1) // high + 1)
            for j in range(columns[0] // wide, (columns[1] - 1) // wide + 1)
        ]
        count(lambda counts: counts.blocks.update(blocks))

    def close(self) -> None:
        """Close the datasets that are not being used."""
        with self._lock:
            datasets, self._idle = self._idle, []
        for dataset in datasets:
            dataset.close()


@functools.cache
def _drivers() -> tuple[str, ...]:
    """Names of GDAL's drivers that open what is on this machine."""
    with rasterio.Env() as env:
        return tuple(sorted(set(env.drivers()) - NETWORK_DRIVERS))


def _open(location: str) -> rasterio.DatasetReader:
    try:
        # A warning filter would hold for all threads; a raster without georeference is an error of ours later on.
        # `rasterio.open` takes one driver, and understands addresses of servers, which are none of ours.
        return rasterio.DatasetReader(_UnparsedPath(location), driver=list(_drivers()))
    except NotGeoreferencedWarning as error:
        raise UnreadableError(f"{location} has no georeference.") from error
    except _ERRORS as error:
        if isinstance(error, UnicodeEncodeError):
            raise UnreadableError(f"{location} cannot be opened: its name is not UTF-8; rename it.") from error
        raise UnreadableError(f"{location} cannot be opened: {first_line(error)}") from error


def _facts_of(location: str, dataset: rasterio.DatasetReader, crs: str | None) -> StackFacts:
    if not dataset.count:
        inner = list(dataset.subdatasets)
        hint = f" It holds several; name one of them, as {inner[0]}" if inner else ""
        raise UnreadableError(f"{location} has no band.{hint}")
    alpha = [i for i, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind == ColorInterp.alpha]
    kept = [i for i in dataset.indexes if i not in alpha] or list(dataset.indexes)
    is_masked = bool(alpha) and kept != alpha
    for i in kept:
        if dataset.dtypes[i - 1].startswith("complex"):
            raise UnreadableError(
                f"{location}: band {i} has complex numbers, which have no order; write their real parts or amplitudes."
            )
    flags = [set(dataset.mask_flag_enums[i - 1]) for i in kept]
    masks = [is_masked or not own & {MaskFlags.all_valid, MaskFlags.nodata} for own in flags]
    grid, is_south_up = _grid_of(location, dataset, crs)
    high, wide = dataset.block_shapes[kept[0] - 1]
    bands = tuple(
        Band(
            i,
            name,
            dataset.dtypes[i - 1],
            dataset.nodatavals[i - 1],
            *_scaling(location, dataset, i),
            mask=mask,
            is_classes=dataset.colorinterp[i - 1] == ColorInterp.palette,
        )
        for i, name, mask in zip(kept, _names(dataset, kept), masks, strict=True)
    )
    shared = all(MaskFlags.per_dataset in own for own, mask in zip(flags, masks, strict=True) if mask)
    shape = min(high, grid.shape[0]), min(wide, grid.shape[1])
    return StackFacts(
        location, str(dataset.driver), grid, is_south_up, bands, shape, one_mask=is_masked or (shared and all(masks)),
        alpha=alpha[0] if is_masked else None,
    )  # fmt: skip


def _names(dataset: rasterio.DatasetReader, numbers: Sequence[int]) -> list[str]:
    """Descriptions of bands, on one line and each once."""
    found: list[str] = []
    for i in numbers:
        name = escaped(" ".join((dataset.descriptions[i - 1] or "").split())) or f"band_{i}"
        found.append(f"{name}_{i}" if name in found else name)
    return found


def _scaling(location: str, dataset: rasterio.DatasetReader, number: int) -> tuple[float, float]:
    scale, offset = float(dataset.scales[number - 1]), float(dataset.offsets[number - 1])
    if not (np.isfinite(scale) and np.isfinite(offset) and scale):
        raise UnreadableError(
            f"{location}: band {number} declares the scale {scale:g} and the offset {offset:g}, which give no values; "
            "mend the file (gdal_edit.py -scale -offset)."
        )
    return scale, offset


def _grid_of(location: str, dataset: rasterio.DatasetReader, given: str | None) -> tuple[Grid, bool]:
    """Return the grid of a raster as if it were north-up, and whether it is south-up."""
    try:
        real = dataset.crs is not None and (dataset.crs.is_projected or dataset.crs.is_geographic)
        crs = crs_text(dataset.crs.to_wkt()) if real else ""
    except CRSError as error:
        raise UnreadableError(f"{location} has a CRS that cannot be read: {first_line(error)}") from error
    if given is not None and crs and pyproj.CRS(given) != pyproj.CRS(crs):
        raise RequestError(f"{location} has the CRS {_short(crs)} and not {_short(given)}; leave raster_crs out.")
    crs = crs or given or ""
    if not crs:
        raise UnreadableError(f"{location} has no CRS; name it with raster_crs (--raster-crs), as EPSG:4326.")
    a, b, left, d, e, top = dataset.transform[:6]
    shape = (dataset.height, dataset.width)
    if dataset.transform.is_identity:
        raise UnreadableError(f"{location} has no georeference.")
    if b or d or a <= 0 or not e:
        raise GridMismatchError(f"{location} is rotated or mirrored; straighten it with gdalwarp.")
    if e > 0:
        return Grid(crs, (a, 0.0, left, 0.0, -e, top + e * shape[0]), shape), True
    return Grid(crs, (a, 0.0, left, 0.0, e, top), shape), False


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else quoted(pyproj.CRS(crs).name)
