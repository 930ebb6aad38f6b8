"""The file of a raster as GDAL opens it: on disk, in a zip file, or remote, where its ranges are fetched by us.

GDAL never uses the network, and seldom sees a remote file as a whole: of a remote GeoTIFF it gets the header, and small
files in memory of the blocks that it decodes (`sen2chain.tiff`); of a remote JPEG 2000 file it gets the beginning,
which tells the grid.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from sen2chain import remote
from sen2chain.errors import UnreadableError
from sen2chain.files import open_regular
from sen2chain.rasters.environment import file_systems, reading_here
from sen2chain.tiff import Directory, read_directories

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sen2chain.remote import RemoteFile

JPEG_2000, TIFF = "JP2OpenJPEG", "GTiff"
"""GDAL drivers that may open a raster. Others would follow references to other files or to the network (VRT)."""
_DRIVERS = {
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": JPEG_2000,
    b"\xff\x4f\xff\x51": JPEG_2000,  # its code stream alone
    b"II*\x00": TIFF, b"MM\x00*": TIFF, b"II+\x00": TIFF, b"MM\x00+": TIFF,  # of more than 4 GB
}  # fmt: skip
"""First bytes of a file -> driver."""
BEGINNING = 1 << 14
"""Bytes that are fetched of a remote file at first: headers seldom have more."""
_BEGINNINGS = (BEGINNING, 1 << 17, 1 << 20)
"""Bytes of a JPEG 2000 file that are tried in turn, until they hold its header."""


class OwnFile:
    """A file that GDAL reads itself: on disk, in a zip file, or in another of its file systems."""

    remote = None
    identity = ""

    def __init__(self, location: str) -> None:
        self.location = location

    def open(self, **options: int) -> rasterio.DatasetReader:
        """Open a dataset, with rasterio's options, which reads blocks in one thread at a time.

        Raises
        ------
        UnreadableError
            If it is of another format, cannot be opened, or is not a file.
        """
        first = None
        for driver in _drivers(self.location):
            # A warning filter would hold for all threads, so rasterio's remark on a file without georeference, which is
            # an error here anyway, is caught where users made it an exception, and else left to be printed.
            try:
                return rasterio.open(self.location, driver=driver, **options)
            except (RasterioError, NotGeoreferencedWarning) as error:
                first = first or error
            except UnicodeEncodeError as error:
                raise UnreadableError(f"{self.location} cannot be opened: its name is not UTF-8; rename it.") from error
        assert first is not None  # noqa: S101  # there is at least one driver
        raise UnreadableError(f"{self.location} cannot be opened: {first_line(first)}") from first

    def close(self) -> None:
        """Do nothing: only datasets are open."""


class RemotePart:
    """A remote file.

    Parameters
    ----------
    location
        Its address, without a query.
    bytes_of
        Its bytes, of which the beginning is on its way.
    """

    def __init__(self, location: str, bytes_of: RemoteFile) -> None:
        self.location, self._remote = location, bytes_of
        self._memory: list[MemoryFile] = []
        self.directories: list[Directory] = []
        """Directories of a GeoTIFF, once it has been opened."""
        self._lock = threading.Lock()

    @property
    def remote(self) -> RemoteFile:
        """Its bytes."""
        return self._remote

    @property
    def identity(self) -> str:
        """Text that changes with the file; empty where its server tells no version."""
        return f"{self.location}\n{self._remote.size}\n{self._remote.version}" if self._remote.version else ""

    def open(self, **options: int) -> rasterio.DatasetReader:
        """Open a dataset of what the header tells, which decodes nothing; see `OwnFile.open`."""
        start = self._remote.read(0, 16)
        driver = _driver_of(start)
        if driver is None:
            raise UnreadableError(f"{self.location} cannot be opened: it {_what(start)}.")
        if driver == JPEG_2000:
            return self._open_jpeg_2000(options)
        self.directories = read_directories(self._remote)
        return self._in_memory(self.directories[0].header(), driver, options)

    def _open_jpeg_2000(self, options: dict[str, int]) -> rasterio.DatasetReader:
        """Open the beginning of a JPEG 2000 file: more of it where other things, as metadata, come before the code."""
        for length in _BEGINNINGS:
            try:
                return self._in_memory(self._remote.read(0, length), JPEG_2000, options)
            except UnreadableError:
                if length == _BEGINNINGS[-1] or length >= self._remote.size:
                    raise
        raise AssertionError  # the last one returns or raises

    def open_whole(self) -> rasterio.DatasetReader:
        """Open a dataset of the whole file, which is fetched; needed where GDAL decodes JPEG 2000.

        Raises
        ------
        UnreadableError
            If it cannot be fetched or opened.
        """
        return self._in_memory(self._remote.read(0, self._remote.size), JPEG_2000, {})

    def _in_memory(self, data: bytes, driver: str, options: dict[str, int]) -> rasterio.DatasetReader:
        memory = MemoryFile(data)
        with self._lock:
            self._memory.append(memory)
        try:
            return memory.open(driver=driver, **options)
        except (RasterioError, NotGeoreferencedWarning) as error:
            raise UnreadableError(f"{self.location} cannot be opened: {first_line(error)}") from error

    def close(self) -> None:
        """Drop what was fetched."""
        for memory in self._memory:
            memory.close()
        self._remote.close()


def begin_remote(locations: Iterable[str]) -> dict[str, RemotePart]:
    """Begin to fetch the beginnings of remote files, at once; other locations are left out.

    The caller closes them.
    """
    access = reading_here().access
    if access is None:
        return {}
    found: dict[str, RemotePart] = {}
    for location in locations:
        if location not in found and remote.is_remote(location):
            with contextlib.suppress(UnreadableError):  # raised where the raster is opened
                found[location] = RemotePart(location, remote.open_remote(location, access, BEGINNING))
    return found


def raster_file(location: str) -> OwnFile | RemotePart:
    """Return the file at a location, which is remote where this thread may read remote files.

    Raises
    ------
    UnreadableError
        If a remote file may not be read.
    """
    access = reading_here().access
    if access is not None and remote.is_remote(location):
        return RemotePart(location, remote.open_remote(location, access, BEGINNING))
    return OwnFile(location)


def _drivers(location: str) -> Iterator[str]:
    """Yield the driver of a file on disk by its first bytes, not its name; elsewhere the drivers to try in turn."""
    if location.startswith(file_systems()):
        yield from (TIFF, JPEG_2000) if location.endswith(".tif") else (JPEG_2000, TIFF)
        return
    try:
        with open_regular(location) as file:
            beginning = file.read(16)
    except OSError as error:
        raise UnreadableError(f"{location} cannot be opened: {error.strerror or error}.") from error
    driver = _driver_of(beginning)
    if driver is None:
        raise UnreadableError(f"{location} cannot be opened: it {_what(beginning)}.")
    yield driver


def _driver_of(beginning: bytes) -> str | None:
    return next((driver for start, driver in _DRIVERS.items() if beginning.startswith(start)), None)


def _what(beginning: bytes) -> str:
    return "is neither a JPEG 2000 file nor a GeoTIFF" if beginning else "is empty"


def first_line(error: BaseException) -> str:
    """Return the first line of GDAL's message; rasterio often hides it behind a sentence that only refers to it."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
