"""The file of a raster as GDAL opens it: on disk, in a zip file, or remote, where its ranges are fetched by us.

GDAL never uses the network. Of a remote GeoTIFF it reads the bytes that a `sen2chain.remote.RemoteFile` holds or
fetches; of a remote JPEG 2000 file it sees the beginning only, which tells the grid, unless it has to decode it.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import itertools
import threading
from typing import TYPE_CHECKING, Protocol

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from sen2chain import remote
from sen2chain.errors import UnreadableError
from sen2chain.files import open_regular
from sen2chain.rasters.environment import file_systems, reading_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

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
AHEAD = 1 << 15
"""Bytes that are fetched where GDAL goes on to read the header beyond those."""
_names = itertools.count()


class RasterFile(Protocol):
    """The file of one raster."""

    location: str

    @property
    def remote(self) -> RemoteFile | None:
        """The bytes of a remote file; None for a file that GDAL reads itself."""
        ...

    @property
    def identity(self) -> str:
        """Text that changes with a remote file; empty for other files, and where its server tells no version."""
        ...

    def open(self, **options: int) -> rasterio.DatasetReader:
        """Open a dataset, with rasterio's options, which reads blocks in one thread at a time.

        Raises
        ------
        UnreadableError
            If it is of another format, cannot be opened, or is not a file.
        """
        ...

    def why(self, error: BaseException) -> str:
        """Say why GDAL failed to read: what made a remote file fail, else the first line of its message."""
        ...

    def check(self) -> None:
        """Make sure that GDAL had all bytes that it asked for: it takes some that are missing for empty blocks.

        Raises
        ------
        UnreadableError
            If it had not.
        """
        ...

    def close_dataset(self, dataset: rasterio.DatasetReader) -> None:
        """Close a dataset that `open` returned, in any thread."""
        ...

    def close(self) -> None:
        """Close the file; its datasets have been closed."""
        ...


class OwnFile:
    """A file that GDAL reads itself: on disk, in a zip file, or in another of its file systems."""

    remote = None
    identity = ""

    def __init__(self, location: str) -> None:
        self.location = location

    def open(self, **options: int) -> rasterio.DatasetReader:
        """Open a dataset, see `RasterFile.open`."""
        first = None
        for driver in _drivers(self.location):
            try:
                return _open(self.location, driver, **options)
            except (RasterioError, NotGeoreferencedWarning) as error:
                first = first or error
            except UnicodeEncodeError as error:
                raise UnreadableError(f"{self.location} cannot be opened: its name is not UTF-8; rename it.") from error
        assert first is not None  # noqa: S101  # there is at least one driver
        raise UnreadableError(f"{self.location} cannot be opened: {first_line(first)}") from first

    def why(self, error: BaseException) -> str:
        """Return the first line of GDAL's message."""
        return first_line(error)

    def check(self) -> None:
        """Do nothing: GDAL reports what it cannot read."""

    def close_dataset(self, dataset: rasterio.DatasetReader) -> None:
        """Close a dataset."""
        dataset.close()

    def close(self) -> None:
        """Do nothing: only datasets are open."""


class RemotePart:
    """A remote file.

    Parameters
    ----------
    location
        Its address, without a query.
    beginning
        Its bytes, of which the beginning is on its way.
    """

    def __init__(self, location: str, beginning: RemoteFile) -> None:
        self.location, self._bytes = location, beginning
        self._failed = ""
        self._memory: list[MemoryFile] = []
        # rasterio keeps the open views in a context variable, and closes them only where it finds them there: each
        # dataset has a context of its own, since it may be closed in another thread than opened.
        self._contexts: dict[rasterio.DatasetReader, contextvars.Context] = {}
        self._lock = threading.Lock()
        self._whole = False

    @property
    def remote(self) -> RemoteFile:
        """Its bytes."""
        return self._bytes

    @property
    def identity(self) -> str:
        """Text that changes with the file; empty where its server tells no version."""
        return f"{self.location}\n{self._bytes.size}\n{self._bytes.version}" if self._bytes.version else ""

    def open(self, **options: int) -> rasterio.DatasetReader:
        """Open a dataset, see `RasterFile.open`."""
        start = self._bytes.read(0, 16)
        driver = _driver_of(start)
        if driver is None:
            raise UnreadableError(f"{self.location} cannot be opened: it {_what(start)}.")
        try:
            if driver == JPEG_2000:
                return self._open_in_memory(options)
            # rasterio keeps an opener by the name of its file.
            name = f"remote/{next(_names)}.tif"
            context = contextvars.copy_context()
            dataset = context.run(_open, name, driver, opener=lambda *_, **__: _View(self), **options)
        except (RasterioError, NotGeoreferencedWarning) as error:
            raise UnreadableError(f"{self.location} cannot be opened: {self.why(error)}") from error
        with self._lock:
            self._contexts[dataset] = context
        try:
            self.check()
        except UnreadableError:
            self.close_dataset(dataset)
            raise
        return dataset

    def close_dataset(self, dataset: rasterio.DatasetReader) -> None:
        """Close a dataset that `open` returned."""
        with self._lock:
            context = self._contexts.pop(dataset, None)
        if context is None:
            dataset.close()
        else:
            context.run(dataset.close)

    def open_whole(self) -> rasterio.DatasetReader:
        """Open a dataset of the whole file, which is fetched; needed where GDAL decodes JPEG 2000.

        Raises
        ------
        UnreadableError
            If it cannot be fetched or opened.
        """
        self._whole = True
        return self.open()

    def _open_in_memory(self, options: dict[str, int]) -> rasterio.DatasetReader:
        data = self._bytes.read(0, self._bytes.size if self._whole else BEGINNING)
        memory = MemoryFile(data)
        with self._lock:
            self._memory.append(memory)
        return memory.open(driver=JPEG_2000, **options)

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes for GDAL, which is told of nothing but missing bytes; `why` tells what went wrong."""
        try:
            return self._bytes.read(offset, length, ahead=AHEAD)
        except Exception as error:  # noqa: BLE001  # `check` raises it
            text = str(error) if isinstance(error, UnreadableError) else f"{self.location} cannot be read: {error!r}."
            with self._lock:
                self._failed = self._failed or text
            return b""

    def why(self, error: BaseException) -> str:
        """Say why GDAL failed to read."""
        with self._lock:
            return self._failed or first_line(error)

    def check(self) -> None:
        """Make sure that GDAL had all bytes that it asked for, see `RasterFile.check`."""
        with self._lock:
            if self._failed:
                raise UnreadableError(self._failed)

    def close(self) -> None:
        """Drop what was fetched."""
        for memory in self._memory:
            memory.close()
        self._bytes.close()


class _View(io.RawIOBase):
    """A remote file at a position, as GDAL reads it. Its errors are kept: in a callback of GDAL none can be raised."""

    mode = "rb"

    def __init__(self, file: RemotePart) -> None:
        super().__init__()
        self._file, self._at = file, 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes from the position on."""
        if size < 0:
            size = self._size() - self._at
        data = self._file.read(self._at, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        self._at = offset + (0, self._at, self._size() if whence == io.SEEK_END else 0)[whence]
        return self._at

    def _size(self) -> int:
        try:
            return self._file.remote.size
        except UnreadableError:
            return 0

    def tell(self) -> int:
        """Return the position."""
        return self._at


def begin_remote(locations: Iterable[str]) -> dict[str, RemotePart]:
    """Begin to fetch the beginnings of remote files, at once; other locations are left out.

    Whoever asks for them closes them.
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


def _open(name: str, driver: str, **options: Any) -> rasterio.DatasetReader:
    # A warning filter would hold for all threads, so rasterio's remark on a file without georeference, which is an
    # error here anyway, is caught where users made it an exception, and else left to be printed.
    return rasterio.open(name, driver=driver, **options)


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
