"""Rasters: the only module that opens and closes them, decodes their blocks, and counts both for tests.

GDAL opens all of them, and decodes all but JPEG 2000 of known forms, which `sen2chain.jpeg2000` decodes by code-blocks.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
import rasterio
from rasterio._env import catch_errors
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window

from sen2chain import jpeg2000
from sen2chain.errors import GridMismatchError, UnreadableError
from sen2chain.files import open_regular
from sen2chain.grid import Grid
from sen2chain.jpeg2000 import Box, Jpeg2000Windows
from sen2chain.products import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import numpy.typing as npt

    from sen2chain.coverage import TouchedBlocks
    from sen2chain.products import Reading

GDAL_OPTIONS: dict[str, str | int | bool] = {
    # Neither list the folder nor read side files: all we need of them, the no-data value of legacy indices, is a
    # fixed number that also holds when the side file is lost.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Never write a side file either.
    "GDAL_PAM_ENABLED": False,
    # With more threads GDAL decodes the tiles of a truncated JPEG 2000 file without reporting those that are lost; our
    # own threads keep the processors busy anyway.
    "GDAL_NUM_THREADS": 1,
    # Options that GDAL keeps for the whole process, as GDAL_CACHEMAX, have no place here.
}


_JPEG_2000, _TIFF = "JP2OpenJPEG", "GTiff"
"""GDAL drivers that may open a raster. Others would follow references to other files or to the network (VRT)."""
_DRIVERS = {
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": _JPEG_2000,
    b"\xff\x4f\xff\x51": _JPEG_2000,  # its code stream alone
    b"II*\x00": _TIFF, b"MM\x00*": _TIFF, b"II+\x00": _TIFF, b"MM\x00+": _TIFF,  # of more than 4 GB
}  # fmt: skip
"""First bytes of a file -> driver."""
_PIECE = 1 << 18  # pixels that one thread has GDAL decode in one call, where they are not one block
_LARGEST = 1 << 16  # pixels along an edge; a tile has 10980


@dataclass(slots=True)
class Counts:
    """Opened rasters and decoded blocks while `counting`."""

    opens: Counter[str] = field(default_factory=Counter)
    """Location -> how often it was opened."""
    blocks: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    """(location, block row, block column) -> how often that block was read."""


_file_systems: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("file_systems", default=("/vsizip/",))
"""GDAL's virtual file systems that locations may begin with."""
_lock = threading.Lock()
_listeners: list[Counts] = []


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count what this process opens and reads, in all threads, while the context lasts."""
    counts = Counts()
    with _lock:
        _listeners.append(counts)
    try:
        yield counts
    finally:
        with _lock:
            _listeners.remove(counts)


@contextlib.contextmanager
def environment(reading: Reading = LOCAL) -> Iterator[None]:
    """Set GDAL's options for reading, and the virtual file systems that may be read, for the thread that enters.

    Enter it in a thread of our own, see `sen2chain.parallel.apart`: in the main thread rasterio sets options for the
    whole process, and loses some of the caller's options when they end.

    Parameters
    ----------
    reading
        Options and file systems of the source of the rasters; options of `GDAL_OPTIONS` cannot be changed.
    """
    # GDAL's messages quote text of files. rasterio's handler, which logs them, fails where that text is not UTF-8, and
    # Python prints "Exception ignored" and a traceback. `catch_errors`, which has no public name in rasterio, takes the
    # place of the handler. Errors that make a file unusable are raised all the same.
    token = _file_systems.set(("/vsizip/", *reading.file_systems))
    try:
        with rasterio.Env(**{**reading.options, **GDAL_OPTIONS}), catch_errors():
            yield
    finally:
        _file_systems.reset(token)


@functools.lru_cache(maxsize=64)
def _crs_text(wkt: str) -> str:
    """``EPSG:32632`` where an authority code matches the CRS, else its WKT."""
    authority = rasterio.CRS.from_wkt(wkt).to_authority()
    return ":".join(authority) if authority else wkt


class Raster:
    """One open single-band raster; use it as a context, in one thread, but for the functions that `pieces` returns.

    Parameters
    ----------
    location
        Path of a file, or another text that GDAL opens.

    Raises
    ------
    UnreadableError
        If it is missing, truncated, corrupt, or has no georeference.
    GridMismatchError
        If it is not north-up.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._dataset = _open(location)
        self._datasets, self._idle = [self._dataset], [self._dataset]
        self._overviews: dict[int, rasterio.DatasetReader] = {}
        with _lock:
            for counts in _listeners:
                counts.opens[location] += 1
        self._windows: Jpeg2000Windows | None = None
        try:
            self.grid = self._read_grid()
            self.dtype = np.dtype(self._dataset.dtypes[0])
            """Type of its values."""
            self._windows = self._open_windows()
        except Exception:
            self.close()
            raise
        rows, columns = self._dataset.block_shapes[0]
        block = min(rows, self.grid.shape[0]), min(columns, self.grid.shape[1])
        self.block_shape: tuple[int, int] = block if self._windows is None else self._windows.cell_shape
        """(rows, columns) of a block: what is decoded is told by the block. A block of GDAL, or a part of a tile of
        JPEG 2000."""
        self.strip_height = block[0] if self._windows is None else self._windows.tile_shape[0]
        """Rows that are best decoded together: strips of so many rows, or of a multiple, decode nothing twice."""
        self.nodata: float | None = self._dataset.nodata
        self.scale: tuple[float, float] = (self._dataset.scales[0], self._dataset.offsets[0])
        """Declared factor and summand from stored to physical values; (1, 0) where none are declared."""

    @property
    def is_jpeg2000(self) -> bool:
        """Whether the raster is coded as JPEG 2000."""
        return str(self._dataset.driver) == _JPEG_2000

    def _open_windows(self) -> Jpeg2000Windows | None:
        """Open a JPEG 2000 raster to be decoded by code-blocks; None where GDAL decodes it."""
        if self._dataset.driver != _JPEG_2000 or self._dataset.count != 1 or (library := jpeg2000.library()) is None:
            return None
        file = jpeg2000.open_bytes(self.location)
        if file is None:
            return None
        try:
            windows = Jpeg2000Windows(library, file)
        except jpeg2000.UnknownFormError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        if windows.shape == self.grid.shape and windows.holds(self.dtype):
            return windows
        windows.close()
        return None

    def _read_grid(self) -> Grid:
        dataset = self._dataset
        if max(dataset.shape) > _LARGEST:
            size = f"{dataset.width} x {dataset.height}"
            raise UnreadableError(f"{self.location} has {size} pixels, and no raster of a tile has so many.")
        try:
            # GDAL makes up a local CRS for some files that have none.
            real = dataset.crs is not None and (dataset.crs.is_projected or dataset.crs.is_geographic)
            crs = _crs_text(dataset.crs.to_wkt()) if real else ""
        except CRSError as error:
            raise UnreadableError(f"{self.location} has a CRS that cannot be read: {_first_line(error)}") from error
        if not crs:
            raise UnreadableError(f"{self.location} has no CRS.")
        a, b, c, d, e, f = dataset.transform[:6]
        if dataset.transform.is_identity:
            raise UnreadableError(f"{self.location} has no georeference.")
        try:
            return Grid(crs, (a, b, c, d, e, f), (dataset.height, dataset.width))
        except GridMismatchError as error:
            raise GridMismatchError(f"{self.location}: {error}") from None

    def read(
        self, rows: tuple[int, int], columns: tuple[int, int], out: npt.NDArray[np.generic] | None = None
    ) -> npt.NDArray[np.generic]:
        """Read a window.

        Parameters
        ----------
        rows, columns
            First and one past the last, inside the raster.
        out
            (rows, columns) of `dtype` to read into, which may be a part of a larger array; by default a new one.

        Returns
        -------
        numpy.ndarray
            (rows, columns) of `dtype`: `out` where it is given.

        Raises
        ------
        UnreadableError
            If it cannot be decoded, or is not inside the raster.
        """
        area = Box(*rows, *columns)
        if not (
            0 <= area.top < area.bottom <= self.grid.shape[0] and 0 <= area.left < area.right <= self.grid.shape[1]
        ):
            raise UnreadableError(f"{self.location} cannot be read: rows {rows}, columns {columns} are not inside it.")
        if out is None:
            out = np.empty((area.bottom - area.top, area.right - area.left), self.dtype)
        for piece in self._pieces(self._boxes(area), area, out):
            piece()
        return out

    def pieces(
        self, touched: TouchedBlocks, rows: tuple[int, int], out: npt.NDArray[np.generic]
    ) -> list[Callable[[], None]]:
        """Return functions that decode the needed pixels of some rows.

        They may be called in any threads at once, each inside of `environment` with the options of the raster's
        source. Each decodes other pixels, and raises `UnreadableError` if it cannot.

        Parameters
        ----------
        touched
            The blocks of the raster to decode, and the needed pixels in them.
        rows
            First and one past the last; multiples of `strip_height`, or the raster's end.
        out
            (rows, columns of the raster) of `dtype` to decode into. Pixels outside the boxes of `touched` stay as they
            are or are decoded too.
        """
        return list(self._pieces(touched.boxes, Box(*rows, 0, self.grid.shape[1]), out))

    def read_blocks(self, touched: TouchedBlocks, rows: tuple[int, int], out: npt.NDArray[np.generic]) -> None:
        """Decode the needed pixels of some rows, see `pieces`.

        Raises
        ------
        UnreadableError
            If a block cannot be decoded.
        """
        for piece in self.pieces(touched, rows, out):
            piece()

    def _pieces(
        self, boxes: npt.NDArray[np.integer], area: Box, out: npt.NDArray[np.generic]
    ) -> Iterator[Callable[[], None]]:
        """Yield functions that decode the boxes of blocks in an area."""
        if self._windows is not None:
            for tile, decode in self._windows.pieces(boxes, area, out, self._read_by_gdal):
                yield partial(self._counted, boxes, tile, decode)
            return
        high, wide = self.block_shape
        at_once = max(_PIECE // (high * wide), 1)
        for i, first, last in spans(boxes[..., 0] < boxes[..., 1], area.top // high, -(-area.bottom // high)):
            for a in range(first, last, at_once):
                top, bottom = max(i * high, area.top), min((i + 1) * high, area.bottom)
                left, right = max(a * wide, area.left), min(min(a + at_once, last) * wide, area.right)
                inner = out[top - area.top : bottom - area.top, left - area.left : right - area.left]
                part = Box(top, bottom, left, right)
                yield partial(self._counted, boxes, part, partial(self._read_by_gdal, part, inner))

    def _read_by_gdal(self, area: Box, out: npt.NDArray[np.generic]) -> None:
        """Read a window with GDAL; a dataset is used by one thread at a time."""
        window = Window(area.left, area.top, area.right - area.left, area.bottom - area.top)
        with _lock:
            dataset = self._idle.pop() if self._idle else None
        if dataset is None:
            dataset = _open(self.location)
            with _lock:
                self._datasets.append(dataset)
        try:
            dataset.read(1, window=window, out=out)
        except (RasterioIOError, RasterioError, ValueError) as error:
            raise UnreadableError(f"{self.location} cannot be read: {_first_line(error)}") from error
        finally:
            with _lock:
                self._idle.append(dataset)

    def _counted(self, boxes: npt.NDArray[np.integer], area: Box, decode: Callable[[], None]) -> None:
        """Decode, and count the blocks of an area whose pixels are needed."""
        decode()
        if not _listeners:
            return
        high, wide = self.block_shape
        with _lock:
            for counts in _listeners:
                for i in range(area.top // high, (area.bottom - 1) // high + 1):
                    for j in range(area.left // wide, (area.right - 1) // wide + 1):
                        if boxes[i, j, 0] < boxes[i, j, 1]:
                            counts.blocks[self.location, i, j] += 1

    def _boxes(self, area: Box) -> npt.NDArray[np.integer]:
        """Return the parts of an area that lie in each block, as `TouchedBlocks.boxes`."""
        high, wide = self.block_shape
        height, width = self.grid.shape
        top, left = np.arange(0, height, high), np.arange(0, width, wide)
        boxes = np.empty((len(top), len(left), 4), np.int64)
        boxes[..., 0], boxes[..., 1] = np.maximum(top, area.top)[:, None], np.minimum(top + high, area.bottom)[:, None]
        boxes[..., 2], boxes[..., 3] = np.maximum(left, area.left), np.minimum(left + wide, area.right)
        boxes[(boxes[..., 0] >= boxes[..., 1]) | (boxes[..., 2] >= boxes[..., 3])] = height, 0, width, 0
        return boxes

    def overview_level(self, factor: int) -> int:
        """Return how many times smaller a picture in the file is that serves a reduced resolution.

        Parameters
        ----------
        factor
            Pixels of the raster along the edge of a pixel of that resolution.

        Returns
        -------
        int
            The largest power of two that divides `factor` and for which the file has a picture; 1 where it has none.

        Raises
        ------
        UnreadableError
            If a picture cannot be opened.
        """
        for level in sorted(self._dataset.overviews(1), reverse=True):
            if factor % level == 0 and level.bit_count() == 1:
                # Some programs round the size down, so that pixels are a little larger and do not fit a grid.
                shape = tuple(-(-n // level) for n in self.grid.shape)
                if self._overview(level).shape == shape:
                    return int(level)
        return 1

    def read_overview(self, level: int, boxes: npt.NDArray[np.integer], out: npt.NDArray[np.generic]) -> None:
        """Decode parts of a smaller picture in the file.

        Parameters
        ----------
        level
            What `overview_level` has returned.
        boxes
            (boxes, 4) first row, one past the last, first column and one past the last of the needed pixels, in those
            of the picture.
        out
            (rows, columns) of the whole picture, of `dtype`, to decode into; pixels outside the boxes stay as they are
            or are decoded too.

        Raises
        ------
        UnreadableError
            If a part cannot be decoded.
        """
        if self._windows is not None and level <= 1 << self._windows.halvings:
            self._windows.read_overview(level.bit_length() - 1, boxes, out, partial(self._read_overview, level))
            return
        high, wide = self._overview(level).block_shapes[0]
        touched = np.zeros((-(-out.shape[0] // high), -(-out.shape[1] // wide)), np.bool_)
        for top, bottom, left, right in boxes.tolist():
            touched[top // high : -(-bottom // high), left // wide : -(-right // wide)] = True
        for i, a, b in spans(touched, 0, len(touched)):
            area = Box(i * high, min((i + 1) * high, out.shape[0]), a * wide, min(b * wide, out.shape[1]))
            self._read_overview(level, area, out[area.top : area.bottom, area.left : area.right])

    def _read_overview(self, level: int, area: Box, out: npt.NDArray[np.generic]) -> None:
        """Read a window of a smaller picture with GDAL."""
        window = Window(area.left, area.top, area.right - area.left, area.bottom - area.top)
        try:
            self._overview(level).read(1, window=window, out=out)
        except (RasterioIOError, RasterioError, ValueError) as error:
            raise UnreadableError(f"{self.location} cannot be read: {_first_line(error)}") from error

    def _overview(self, level: int) -> rasterio.DatasetReader:
        """Return the dataset of a smaller picture."""
        if level not in self._overviews:
            self._overviews[level] = _open(self.location, overview_level=self._dataset.overviews(1).index(level))
        return self._overviews[level]

    def close(self) -> None:
        """Close the datasets."""
        for dataset in (*self._datasets, *self._overviews.values()):
            dataset.close()
        if self._windows is not None:
            self._windows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spans(touched: npt.NDArray[np.bool_], first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield the stretches of neighbouring touched blocks, row by row.

    Parameters
    ----------
    touched
        (block rows, block columns), True for touched blocks.
    first, last
        First block row and one past the last.

    Yields
    ------
    tuple
        (block row, first block column, one past the last).
    """
    for r in range(first, last):
        edges = np.diff(touched[r].astype(np.int8), prepend=0, append=0)
        yield from (
            (r, int(a), int(b)) for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
        )


def _open(location: str, **options: int) -> rasterio.DatasetReader:
    """Open a GeoTIFF or a JPEG 2000 file, with rasterio's options.

    Raises
    ------
    UnreadableError
        If it is of another format, cannot be opened, or is not a file.
    """
    first = None
    for driver in _drivers(location):
        # A warning filter would hold for all threads, so rasterio's remark on a file without georeference, which is
        # an error here anyway, is caught where users made it an exception, and else left to be printed.
        try:
            return rasterio.open(location, driver=driver, **options)
        except (RasterioError, NotGeoreferencedWarning) as error:
            first = first or error
        except UnicodeEncodeError as error:
            raise UnreadableError(f"{location} cannot be opened: its name is not UTF-8; rename it.") from error
    assert first is not None  # noqa: S101  # there is at least one driver
    raise UnreadableError(f"{location} cannot be opened: {_first_line(first)}") from first


def _drivers(location: str) -> tuple[str, ...]:
    """Return the driver of a file on disk by its first bytes, not its name; elsewhere the drivers to try in turn."""
    if location.startswith(_file_systems.get()):
        return (_TIFF, _JPEG_2000) if location.endswith(".tif") else (_JPEG_2000, _TIFF)
    try:
        with open_regular(location) as file:
            beginning = file.read(16)
    except OSError as error:
        raise UnreadableError(f"{location} cannot be opened: {error.strerror or error}.") from error
    for start, driver in _DRIVERS.items():
        if beginning.startswith(start):
            return (driver,)
    what = "is neither a JPEG 2000 file nor a GeoTIFF" if beginning else "is empty"
    raise UnreadableError(f"{location} cannot be opened: it {what}.")


def _first_line(error: BaseException) -> str:
    """Return the first line of GDAL's message; rasterio often hides it behind a sentence that only refers to it."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
