"""GDAL's options for reading, and what a thread may read: virtual file systems and remote files."""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING

import rasterio
from rasterio._env import catch_errors

from sen2chain.products import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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

ANY_FORMAT_OPTIONS: dict[str, str | int | bool] = {
    # Formats beyond those of products keep facts in side files: world files, headers, band names and no-data values.
    "GDAL_DISABLE_READDIR_ON_OPEN": False,
    "GDAL_PAM_ENABLED": True,
    "GDAL_NUM_THREADS": 1,
    # A file may refer to others: none of them is fetched from a server, and none brings code along.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{files on servers are not read}",
    "GDAL_VRT_ENABLE_PYTHON": False,
}
"""GDAL's options for a raster of the user's of any format, in the place of `GDAL_OPTIONS`."""


_reading: contextvars.ContextVar[Reading] = contextvars.ContextVar("reading", default=LOCAL)


def reading_here() -> Reading:
    """Return how rasters are read in this thread, see `environment`."""
    return _reading.get()


def file_systems() -> tuple[str, ...]:
    """Return GDAL's virtual file systems that locations may begin with in this thread."""
    return ("/vsizip/", *reading_here().file_systems)


@contextlib.contextmanager
def environment(reading: Reading = LOCAL, options: Mapping[str, str | int | bool] | None = None) -> Iterator[None]:
    """Set GDAL's options for reading, and the virtual file systems that may be read, for the thread that enters.

    Enter it in a thread of our own, see `sen2chain.parallel.apart`: in the main thread rasterio sets options for the
    whole process, and loses some of the caller's options when they end.

    Parameters
    ----------
    reading
        Options and file systems of the source of the rasters; options of `GDAL_OPTIONS` cannot be changed.
    options
        Options in the place of `GDAL_OPTIONS`.
    """
    # GDAL's messages quote text of files. rasterio's handler, which logs them, fails where that text is not UTF-8, and
    # Python prints "Exception ignored" and a traceback. `catch_errors`, which has no public name in rasterio, takes the
    # place of the handler. Errors that make a file unusable are raised all the same.
    token = _reading.set(reading)
    try:
        with rasterio.Env(**{**reading.options, **(GDAL_OPTIONS if options is None else options)}), catch_errors():
            yield
    finally:
        _reading.reset(token)
