"""Blocks of a remote GeoTIFF: the ranges that they lie in, and their decoding by GDAL, some blocks at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import MemoryFile

from sen2chain.errors import UnreadableError
from sen2chain.jpeg2000 import Box
from sen2chain.rasters.raster_file import TIFF, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from sen2chain.remote import RemoteFile
    from sen2chain.tiff import Directory

    Array = npt.NDArray[np.generic]
    Bools = npt.NDArray[np.bool_]

_PIECE = 1 << 18  # pixels that are decoded in one call, where they are not one block


class RemoteTiff:
    """An open GeoTIFF; safe in threads.

    Parameters
    ----------
    remote
        Its bytes.
    directories
        Its directories, see `sen2chain.tiff.read_directories`.
    """

    def __init__(self, remote: RemoteFile, directories: Sequence[Directory]) -> None:
        self._remote = remote
        self._whole = directories[0]
        height, width = self._whole.shape
        self._smaller = {
            round(height / other.shape[0]): other
            for other in directories[1:]
            if other.is_reduced and not other.is_mask and width >= other.shape[1]
        }

    @property
    def levels(self) -> list[int]:
        """How many times smaller the pictures in the file are."""
        return sorted(self._smaller)

    def picture(self, level: int = 1) -> Directory:
        """Return the raster, or a smaller picture of it."""
        return self._whole if level == 1 else self._smaller[level]

    def ranges(self, touched: Bools, level: int = 1) -> list[tuple[int, int]]:
        """Return (offset, length) in the file of blocks; those that are not in the file are left out.

        Parameters
        ----------
        touched
            (block rows, block columns), True for the blocks.
        level
            1, or one of `levels`.
        """
        picture = self.picture(level)
        found = (picture.range_of(i, j) for i, j in np.argwhere(touched).tolist())
        return [place for place in found if place is not None]

    def pieces(self, touched: Bools, area: Box, out: Array, level: int = 1) -> Iterator[tuple[Box, Callable[[], None]]]:
        """Yield functions that decode blocks, which may be called in any threads.

        Parameters
        ----------
        touched, level
            As of `ranges`.
        area
            Pixels to decode, of the picture; of blocks that it cuts, only what lies in it is written.
        out
            (rows, columns) of the area, to decode into.

        Yields
        ------
        tuple
            Pixels of the picture that some blocks of one row span, and a function that decodes these blocks; it raises
            `UnreadableError`.
        """
        high, wide = self.picture(level).block_shape
        at_once = max(_PIECE // (high * wide), 1)
        for i in range(area.top // high, -(-area.bottom // high)):
            columns = [
                j for j in np.flatnonzero(touched[i]).tolist() if j * wide < area.right and (j + 1) * wide > area.left
            ]
            for first in range(0, len(columns), at_once):
                own = columns[first : first + at_once]
                top, bottom = max(i * high, area.top), min((i + 1) * high, area.bottom)
                span = Box(top, bottom, max(own[0] * wide, area.left), min((own[-1] + 1) * wide, area.right))
                yield span, partial(self._decode, level, i, own, area, out)

    def _decode(self, level: int, row: int, columns: Sequence[int], area: Box, out: Array) -> None:
        """Decode blocks of one row of blocks."""
        picture, location = self.picture(level), self._remote.location
        places = [picture.range_of(row, column) for column in columns]
        blocks = [b"" if place is None else self._remote.read(*place) for place in places]
        if any(place is not None and len(block) < place[1] for place, block in zip(places, blocks, strict=True)):
            raise UnreadableError(f"{location} cannot be read: it ends before its blocks do; the file is damaged.")
        try:
            with (
                MemoryFile(picture.column([row] * len(columns), blocks)) as memory,
                memory.open(driver=TIFF) as dataset,
            ):
                pixels = dataset.read(1)
        except (RasterioIOError, RasterioError, ValueError) as error:
            raise UnreadableError(f"{location} cannot be read: {first_line(error)}") from error
        self._remote.release(place for place in places if place is not None)
        high, wide = picture.rows_of(row), picture.block_shape[1]
        top, bottom = max(picture.top(row), area.top), min(picture.top(row) + high, area.bottom)
        for k, column in enumerate(columns):
            left, right = max(column * wide, area.left), min((column + 1) * wide, area.right)
            rows = slice(k * high + top - picture.top(row), k * high + bottom - picture.top(row))
            inside = pixels[rows, left - column * wide : right - column * wide]
            out[top - area.top : bottom - area.top, left - area.left : right - area.left] = inside
