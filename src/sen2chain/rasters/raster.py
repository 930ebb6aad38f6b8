"""One open raster: its grid, and its blocks, which are decoded where they are needed."""

from __future__ import annotations

import functools
import threading
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
import rasterio
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.windows import Window

from sen2chain import jpeg2000
from sen2chain.errors import GridMismatchError, UnreadableError
from sen2chain.grid import Grid
from sen2chain.jpeg2000 import Box, Jpeg2000Windows
from sen2chain.rasters.decoded_blocks import count
from sen2chain.rasters.raster_file import JPEG_2000, OwnFile, RemotePart, first_line, raster_file
from sen2chain.rasters.remote_tiff import RemoteTiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import numpy.typing as npt

    from sen2chain.coverage import TouchedBlocks
    from sen2chain.jpeg2000.file_bytes import FileBytes
    from sen2chain.rasters.decoded_blocks import Counts

_PIECE = 1 << 18  # pixels that one thread has GDAL decode in one call, where they are not one block
_LARGEST = 1 << 16  # pixels along an edge; a tile has 10980


@functools.lru_cache(maxsize=64)
def crs_text(wkt: str) -> str:
    """``EPSG:32632`` where an authority code matches the CRS, else its WKT."""
    authority = rasterio.CRS.from_wkt(wkt).to_authority()
    return ":".join(authority) if authority else wkt


class Raster:
    """One open single-band raster; use it as a context, in one thread, but for the functions that `pieces` returns.

    Parameters
    ----------
    location
        Path of a file, another text that GDAL opens, or the address of a remote file, see `environment`.
    begun
        The remote file, if its beginning is on its way; it is closed together with the raster.

    Raises
    ------
    UnreadableError
        If it is missing, truncated, corrupt, or has no georeference.
    GridMismatchError
        If it is not north-up.
    """

    def __init__(self, location: str, begun: RemotePart | None = None) -> None:
        self.location = location
        self._file: OwnFile | RemotePart = begun or raster_file(location)
        self._datasets: list[rasterio.DatasetReader] = []
        self._overviews: dict[int, rasterio.DatasetReader] = {}
        self._lock = threading.Lock()
        self._windows: Jpeg2000Windows | None = None
        self._tiff: RemoteTiff | None = None
        self._own_bytes: FileBytes | None = None
        try:
            self._dataset = self._file.open()
            self._datasets.append(self._dataset)
            count(lambda counts: counts.opens.update((location,)))
            self.grid = self._read_grid()
            self.dtype = np.dtype(self._dataset.dtypes[0])
            """Type of its values."""
            self._windows = self._open_windows()
        except Exception:
            self.close()
            raise
        if isinstance(self._file, RemotePart) and self._file.directories:
            self._tiff = RemoteTiff(self._file.remote, self._file.directories)
        # The dataset of a remote file has its header alone.
        self._idle = [] if self.is_remote else [self._dataset]
        rows, columns = self._dataset.block_shapes[0]
        block = min(rows, self.grid.shape[0]), min(columns, self.grid.shape[1])
        self.block_shape: tuple[int, int] = block if self._windows is None else self._windows.cell_shape
        """(rows, columns) of a block: what is decoded is told by the block. A block of GDAL, or a part of a tile of
        JPEG 2000."""
        self.strip_height = block[0] if self._windows is None else self._windows.tile_shape[0]
        """Rows that are best decoded together: strips of so many rows, or of a multiple, decode nothing twice."""
        self.count = int(self._dataset.count)
        """Number of its bands, of which the first is read."""
        self.nodata: float | None = self._dataset.nodata
        self.scale: tuple[float, float] = (self._dataset.scales[0], self._dataset.offsets[0])
        """Declared factor and summand from stored to physical values; (1, 0) where none are declared."""

    @property
    def is_remote(self) -> bool:
        """Whether the file is remote, so that `fetch` has something to do."""
        return self._file.remote is not None

    @property
    def is_jpeg2000(self) -> bool:
        """Whether the raster is coded as JPEG 2000."""
        return str(self._dataset.driver) == JPEG_2000

    @property
    def tags(self) -> dict[str, str]:
        """Texts in the metadata of the file, by name (GDAL's default domain)."""
        return dict(self._dataset.tags())

    def _open_windows(self) -> Jpeg2000Windows | None:
        """Open a JPEG 2000 raster to be decoded by code-blocks; None where GDAL decodes it."""
        if self._dataset.driver != JPEG_2000 or self._dataset.count != 1 or (library := jpeg2000.library()) is None:
            return None
        own = None if self._file.remote is not None else jpeg2000.open_bytes(self.location)
        file = self._file.remote or own
        if file is None:
            return None
        windows = None
        try:
            found = Jpeg2000Windows(library, file, self._file.identity)
            if found.shape == self.grid.shape and found.holds(self.dtype):
                windows = found
                self._own_bytes = own
        except jpeg2000.UnknownFormError:
            return None
        finally:
            if windows is None and own is not None:
                own.close()
        return windows

    def _read_grid(self) -> Grid:
        dataset = self._dataset
        if max(dataset.shape) > _LARGEST:
            size = f"{dataset.width} x {dataset.height}"
            raise UnreadableError(f"{self.location} has {size} pixels, and no raster of a tile has so many.")
        try:
            # GDAL makes up a local CRS for some files that have none.
            real = dataset.crs is not None and (dataset.crs.is_projected or dataset.crs.is_geographic)
            crs = crs_text(dataset.crs.to_wkt()) if real else ""
        except CRSError as error:
            raise UnreadableError(f"{self.location} has a CRS that cannot be read: {first_line(error)}") from error
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
        boxes = self._boxes(area)
        self._fetch(boxes, area)
        for piece in self._pieces(boxes, area, out):
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
        self.fetch(touched, rows)
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
        if self._tiff is not None:
            for span, decode in self._tiff.pieces(boxes[..., 0] < boxes[..., 1], area, out):
                yield partial(self._counted, boxes, span, decode)
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

    def ranges(self, touched: TouchedBlocks, rows: tuple[int, int]) -> list[tuple[int, int]]:
        """Return (offset, length) in a remote file of what `pieces` will decode; none for other files.

        Parameters
        ----------
        touched, rows
            As of `pieces`.

        Raises
        ------
        UnreadableError
            If the table of blocks cannot be read.
        """
        return self._ranges_of(touched.boxes, Box(*rows, 0, self.grid.shape[1]))

    def fetch(self, touched: TouchedBlocks, rows: tuple[int, int]) -> int:
        """Begin to fetch what `pieces` will decode, where the file is remote, and return its bytes, see `ranges`."""
        return self._fetch(touched.boxes, Box(*rows, 0, self.grid.shape[1]))

    def _fetch(self, boxes: npt.NDArray[np.integer], area: Box) -> int:
        if self._file.remote is None:
            return 0
        ranges = self._ranges_of(boxes, area)
        self._file.remote.fetch(ranges)
        return sum(length for _, length in ranges)

    def _ranges_of(self, boxes: npt.NDArray[np.integer], area: Box) -> list[tuple[int, int]]:
        if self._file.remote is None:
            return []
        if self._windows is not None:
            return self._windows.ranges(boxes, area)
        if self._tiff is None:
            return [(0, self._file.remote.size)]  # GDAL decodes it, and needs all of it
        high, _ = self.block_shape
        touched = boxes[..., 0] < boxes[..., 1]
        touched[: area.top // high] = touched[-(-area.bottom // high) :] = False
        return self._tiff.ranges(touched)

    def _read_by_gdal(self, area: Box, out: npt.NDArray[np.generic]) -> None:
        """Read a window with GDAL; a dataset is used by one thread at a time."""
        window = Window(area.left, area.top, area.right - area.left, area.bottom - area.top)
        with self._lock:
            dataset = self._idle.pop() if self._idle else None
        if dataset is None:
            dataset = self._file.open_whole() if isinstance(self._file, RemotePart) else self._file.open()
            with self._lock:
                self._datasets.append(dataset)
        try:
            dataset.read(1, window=window, out=out)
        except (RasterioIOError, RasterioError, ValueError) as error:
            raise UnreadableError(f"{self.location} cannot be read: {first_line(error)}") from error
        finally:
            with self._lock:
                self._idle.append(dataset)

    def _counted(self, boxes: npt.NDArray[np.integer], area: Box, decode: Callable[[], None]) -> None:
        """Decode, and count the blocks of an area whose pixels are needed."""
        decode()
        high, wide = self.block_shape

        def add(counts: Counts) -> None:
            for i in range(area.top // high, (area.bottom - 1) // high + 1):
                for j in range(area.left // wide, (area.right - 1) // wide + 1):
                    if boxes[i, j, 0] < boxes[i, j, 1]:
                        counts.blocks[self.location, i, j] += 1

        count(add)

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
        levels = self._dataset.overviews(1) if self._tiff is None else self._tiff.levels
        for level in sorted(levels, reverse=True):
            if factor % level == 0 and level.bit_count() == 1:
                # Some programs round the size down, so that pixels are a little larger and do not fit a grid.
                shape = tuple(-(-n // level) for n in self.grid.shape)
                smaller = self._overview(level) if self._tiff is None else self._tiff.picture(level)
                if tuple(smaller.shape) == shape:
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
        high, wide = (
            self._overview(level).block_shapes[0] if self._tiff is None else self._tiff.picture(level).block_shape
        )
        touched = np.zeros((-(-out.shape[0] // high), -(-out.shape[1] // wide)), np.bool_)
        for top, bottom, left, right in boxes.tolist():
            touched[top // high : -(-bottom // high), left // wide : -(-right // wide)] = True
        if self._tiff is not None and self._file.remote is not None:
            self._file.remote.fetch(self._tiff.ranges(touched, level))
            for _, decode in self._tiff.pieces(touched, Box(0, out.shape[0], 0, out.shape[1]), out, level):
                decode()
            return
        for i, a, b in spans(touched, 0, len(touched)):
            area = Box(i * high, min((i + 1) * high, out.shape[0]), a * wide, min(b * wide, out.shape[1]))
            self._read_overview(level, area, out[area.top : area.bottom, area.left : area.right])

    def _read_overview(self, level: int, area: Box, out: npt.NDArray[np.generic]) -> None:
        """Read a window of a smaller picture with GDAL."""
        window = Window(area.left, area.top, area.right - area.left, area.bottom - area.top)
        try:
            self._overview(level).read(1, window=window, out=out)
        except (RasterioIOError, RasterioError, ValueError) as error:
            raise UnreadableError(f"{self.location} cannot be read: {first_line(error)}") from error

    def _overview(self, level: int) -> rasterio.DatasetReader:
        """Return the dataset of a smaller picture."""
        if level not in self._overviews:
            self._overviews[level] = self._file.open(overview_level=self._dataset.overviews(1).index(level))
        return self._overviews[level]

    def close(self) -> None:
        """Close the datasets."""
        for dataset in (*self._datasets, *self._overviews.values()):
            dataset.close()
        if self._own_bytes is not None:
            self._own_bytes.close()
        self._file.close()

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
