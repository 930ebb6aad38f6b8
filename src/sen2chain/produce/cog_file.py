"""Cloud-Optimized GeoTIFF of one raster that comes in strips, written by GDAL's COG driver.

The driver needs the whole raster as a source, so the strips first go to a file beside the result: an uncompressed TIFF
with the overviews, which are made on the way while the pixels are at hand. The driver then only orders and compresses.
That costs disk space for a while, a third more than the pixels take, and no memory.

A file is ZSTD with PREDICTOR=STANDARD, in blocks of 512 x 512. Level 1 of ZSTD is used: index values in steps of 1e-4
are mostly noise to a compressor, and level 9 takes five times as long and saves nothing on clear dates (up to 12 % on
clouds). Decision 19 and the page *Speed* have the figures.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._env import catch_errors
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from sen2chain.atomic import sync, sync_folder, temporary, writing
from sen2chain.errors import OutputError, UnreadableError
from sen2chain.files import is_folder
from sen2chain.produce.overviews import Halving, Overviews
from sen2chain.rasters import read_pictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.grid import Grid

    Array = npt.NDArray[Any]

Driver = Literal["COG", "JP2OpenJPEG"]

COMPRESSION: Mapping[Driver, dict[str, str | int]] = {
    "COG": {
        "COMPRESS": "ZSTD",
        "LEVEL": 1,
        "PREDICTOR": "STANDARD",
        "BLOCKSIZE": 512,
        "OVERVIEWS": "FORCE_USE_EXISTING",
        "BIGTIFF": "IF_SAFER",
        "STATISTICS": "NO",
        "NUM_THREADS": 2,
    },
    # Lossless, with the tags in a box of the file.
    "JP2OpenJPEG": {"CODEC": "JP2", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO", "WRITE_METADATA": "YES"},
}
"""Creation options by driver."""
if hasattr(os, "register_at_fork"):
    # A forked process waits for ever for GDAL's threads, which it does not have.
    os.register_at_fork(after_in_child=lambda: COMPRESSION["COG"].update(NUM_THREADS=1))

_OPTIONS = {
    "GDAL_PAM_ENABLED": False,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The source is read once from top to bottom: kept in GDAL's cache it would only take memory.
    "GTIFF_DIRECT_IO": True,
}
_ROWS = 256
"""Rows of a strip of the source."""
_FORMATS = {"u": 1, "i": 2, "f": 3}
"""Kind of numbers -> TIFF's number of it."""
_SHORT, _DOUBLE, _LONG8 = 3, 12, 16


@dataclass(slots=True, eq=False)
class CogFile:
    """One raster that is written strip by strip and takes its name when it is complete.

    `finish` needs a thread of our own, see `sen2chain.rasters.environment`. Call `finish` or `drop` in any case.

    Parameters
    ----------
    path
        The file. Its folder exists. A file of that name is replaced as a whole.
    grid
        Grid of the raster.
    dtype
        Type of its values: int16, or uint8 for masks.
    tags
        Texts for the metadata of the file, see `sen2chain.raster_tags.RasterTags.items`.
    nodata
        Value of pixels without data; None where each has some.
    scale
        Factor from stored to physical values.
    overviews
        How overviews are made.
    driver
        GDAL's driver: ``COG``, or ``JP2OpenJPEG`` for a mask without overviews.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written. Nothing under the final name has changed then.
    """

    path: Path
    grid: Grid
    dtype: npt.DTypeLike
    tags: Mapping[str, str]
    nodata: int | None = None
    scale: float = 1.0
    overviews: Overviews = "average"
    driver: Driver = "COG"
    _source: Path = field(init=False)
    _file: BinaryIO = field(init=False)
    _halving: Halving = field(init=False)
    _begins: list[int] = field(init=False)

    def __post_init__(self) -> None:
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise OutputError(f"{self.path} cannot be written: its name is not UTF-8; rename the folder.") from None
        self._source = temporary(self.path)
        self._halving = Halving(self.grid.shape, self.overviews, self.nodata or 0)
        shapes = self._halving.shapes if self.driver == "COG" else [self.grid.shape]
        header, self._begins = _header(shapes, np.dtype(self.dtype))
        with writing(self.path):
            if is_folder(self.path):
                raise IsADirectoryError(f"{self.path.name} is a folder")
            self._file = self._source.open("xb")
            self._file.write(header)

    def write(self, rows: Array) -> None:
        """Add the next rows, (rows, columns) of the file's type, from top to bottom."""
        rows = np.ascontiguousarray(rows, self.dtype)
        for level, first, part in self._halving.add(rows):
            if level == len(self._begins):
                return
            with writing(self.path):
                self._file.seek(self._begins[level] + first * part[0].nbytes)
                self._file.write(np.ascontiguousarray(part).data)

    def finish(self) -> Path:
        """Write the file from all rows, and give it its name."""
        part = temporary(self.path)
        try:
            with writing(self.path):
                self._file.close()
            try:
                self._compress(part)
                _check(part, len(self._begins) if self.driver == "COG" else 0)
            except (RasterioError, CPLE_BaseError, OSError) as error:
                raise _failure(self.path, error) from error
            with writing(self.path):
                with part.open("rb+") as file:
                    sync(file)
                part.replace(self.path)
                sync_folder(self.path.parent)
        finally:
            part.unlink(missing_ok=True)
            self.drop()
        return self.path

    def drop(self) -> None:
        """Leave nothing behind of a file that is not finished."""
        with suppress(OSError):  # the first error is the one to tell
            self._file.close()
        self._source.unlink(missing_ok=True)

    def _compress(self, part: Path) -> None:
        """Have GDAL write the file from the source."""
        # GDAL's threads print what they cannot write, so a disk that is too full is told apart before.
        if shutil.disk_usage(part.parent).free < self._source.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with rasterio.Env(**_OPTIONS), catch_errors():
            with rasterio.open(self._source, "r+", driver="GTiff") as source:
                source.crs, source.transform = self.grid.crs, rasterio.Affine(*self.grid.transform)
                source.nodata = self.nodata
                if self.scale != 1:
                    source.scales = (self.scale,)
                source.update_tags(**self.tags)
            rasterio.shutil.copy(self._source, part, driver=self.driver, **COMPRESSION[self.driver])


def write_cog(
    path: Path,
    grid: Grid,
    strips: Iterable[Array] | Array,
    dtype: npt.DTypeLike,
    tags: Mapping[str, str],
    **options: Any,
) -> Path:
    """Write a raster from its strips, (rows, columns) from top to bottom; see `CogFile`, also for the options."""
    file = CogFile(path, grid, dtype, tags, **options)
    try:
        for rows in [strips] if isinstance(strips, np.ndarray) else strips:
            file.write(rows)
        return file.finish()
    finally:
        file.drop()


def _header(shapes: Iterable[tuple[int, int]], dtype: np.dtype[Any]) -> tuple[bytes, list[int]]:
    """Return the beginning of an uncompressed BigTIFF of a raster and its overviews, and where each has its pixels."""
    shapes = list(shapes)
    strips = [-(-rows // _ROWS) for rows, _ in shapes]
    directory, georeference = 8 + 13 * 20 + 8, 72
    directories = 16 + np.cumsum([0, *(directory + georeference + 16 * n for n in strips)])
    begins = np.cumsum([int(directories[-1]), *(rows * columns * dtype.itemsize for rows, columns in shapes)])
    out = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
    for k, (rows, columns) in enumerate(shapes):
        row = columns * dtype.itemsize
        offsets = begins[k] + np.arange(strips[k], dtype=np.int64) * _ROWS * row
        lengths = np.minimum(_ROWS, rows - np.arange(strips[k], dtype=np.int64) * _ROWS) * row
        place = int(directories[k]) + directory
        values = place + georeference
        is_one = strips[k] == 1  # a single number stands in the tag itself
        tags = (
            (254, _LONG8, 1, int(k > 0)),  # a smaller picture of the first
            (256, _LONG8, 1, columns),
            (257, _LONG8, 1, rows),
            (258, _SHORT, 1, 8 * dtype.itemsize),
            (259, _SHORT, 1, 1),  # not compressed
            (262, _SHORT, 1, 1),  # larger numbers are brighter
            (273, _LONG8, strips[k], int(offsets[0]) if is_one else values),
            (277, _SHORT, 1, 1),
            (278, _LONG8, 1, _ROWS),
            (279, _LONG8, strips[k], int(lengths[0]) if is_one else values + 8 * strips[k]),
            (339, _SHORT, 1, _FORMATS[dtype.kind]),
            # GDAL remarks on a file that does not say where it lies, before it is told.
            (33550, _DOUBLE, 3, place),
            (33922, _DOUBLE, 6, place + 24),
        )
        out += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        out += struct.pack("<Q", int(directories[k + 1]) if k + 1 < len(shapes) else 0)
        out += struct.pack("<9d", 2, 2, 0, 0, 0, 0, 2, 2, 0)
        out += offsets.astype("<u8").tobytes() + lengths.astype("<u8").tobytes()
    return bytes(out), [int(begin) for begin in begins[:-1]]


def _check(part: Path, pictures: int) -> None:
    """Make sure that a file is whole: GDAL only logs some errors of writing, as those at its very end.

    Raises
    ------
    OSError
        If a block is not in the file.
    """
    if not pictures:
        if not part.stat().st_size:
            raise OSError("the file is empty")
        return
    try:
        found = read_pictures(str(part))
    except UnreadableError as error:
        raise OSError(str(error)) from error
    if len(found) != pictures or not all((picture.lengths > 0).all() for picture in found):
        raise OSError("parts of the file are missing")


def _failure(path: Path, error: Exception) -> OutputError:
    """Say why GDAL could not write a file: whether the disk is full is found out by writing some bytes ourselves."""
    try:
        with writing(path):
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise error
            _probe(path.parent)
    except OutputError as full:
        return full
    said = str(error.__cause__ or error).strip().partition("\n")[0].rstrip(".")
    return OutputError(f"{path} cannot be written: {said}.")


def _probe(folder: Path) -> None:
    """Raise `OSError` where no megabyte can be written to a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1 << 20))
        sync(file)
