"""Windows of a JPEG 2000 raster: its tiles are decoded where pixels are needed, by code-blocks or as a whole."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.jpeg2000.codestream import Box, TileParts, UnknownFormError, read_header
from sen2chain.jpeg2000.tile_decoder import TileDecoder
from sen2chain.jpeg2000.window_order import order_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from sen2chain.jpeg2000.file_bytes import Bytes
    from sen2chain.jpeg2000.openjpeg import OpenJpeg

    Array = npt.NDArray[np.generic]
    Boxes = npt.NDArray[np.integer]

_CELL = 128
"""Pixels along the edge of a cell: as many as a code-block of 64 x 64 of the finest subbands gives."""
_SMALLEST_CELL = 32
_MARGINS = {True: 2, False: 3}
"""Whether the wavelet is reversible -> samples around a window that OpenJPEG needs of a subband."""


class Jpeg2000Windows:
    """An open JPEG 2000 raster of one component; safe in threads.

    Parameters
    ----------
    library
        OpenJPEG.
    file
        The bytes of the file.
    identity
        Text that changes with the file, where it is remote; see `TileParts`.

    Raises
    ------
    UnknownFormError
        If the file has a form that is left to GDAL.
    UnreadableError
        If it cannot be read.
    """

    def __init__(self, library: OpenJpeg, file: Bytes, identity: str = "") -> None:
        self._library, self._file, self._location = library, file, file.location
        self._header = read_header(file)
        self._parts = TileParts(file, self._header, identity)
        self.shape = self._header.shape
        """(rows, columns) of the raster."""
        self.tile_shape = self._header.tile_shape
        """(rows, columns) of a tile."""
        high, wide = (_cell(n, whole) for n, whole in zip(self.tile_shape, self.shape, strict=True))
        self.cell_shape = high, wide
        """(rows, columns) of a cell, for which the needed pixels are told; a tile consists of whole cells."""
        self.halvings = self._header.coding.levels
        """How often the resolution can be halved."""

    def holds(self, dtype: np.dtype[np.generic]) -> bool:
        """Whether samples fit a type of whole numbers."""
        is_signed = dtype.kind == "i"
        fits = dtype.itemsize * 8 - (is_signed and not self._header.is_signed) >= self._header.precision
        return dtype.kind in "iu" and fits and (is_signed or not self._header.is_signed)

    def pieces(
        self, boxes: Boxes, area: Box, out: Array, otherwise: Callable[[Box, Array], None]
    ) -> Iterator[tuple[Box, Callable[[], None]]]:
        """Yield the tiles to decode, which may be decoded in any threads.

        Parameters
        ----------
        boxes
            (rows, columns of cells, 4) first row, one past the last, first column and one past the last of the needed
            pixels in each cell of the raster; where no pixel is needed, the first row is not before the last.
        area
            Pixels to decode; it consists of whole tiles, or holds all needed pixels of those that it cuts.
        out
            (rows, columns) of `area`, into which pixels are decoded; those outside the boxes may change or not.
        otherwise
            Decodes pixels of a tile that is left to GDAL into a part of `out`.

        Yields
        ------
        tuple
            The tile's pixels, and a function that decodes; it raises `UnreadableError`.
        """
        for tile, needed in self._needed(boxes, area):
            yield self._header.box(tile), partial(self._decode, tile, needed, area, out, otherwise)

    def ranges(self, boxes: Boxes, area: Box) -> list[tuple[int, int]]:
        """Return (offset, length) in the file of the code of the tiles that `pieces` will decode.

        Parameters
        ----------
        boxes, area
            As of `pieces`.

        Raises
        ------
        UnreadableError
            If the table of tile-parts cannot be read.
        """
        return self._parts.ranges([tile for tile, _ in self._needed(boxes, area)])

    def _needed(self, boxes: Boxes, area: Box) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Yield the tiles with needed pixels, and these as (boxes, 4); parameters as of `pieces`."""
        high, wide = self.tile_shape
        cells_high, cells_wide = -(-high // self.cell_shape[0]), -(-wide // self.cell_shape[1])
        for i in range(area.top // high, -(-area.bottom // high)):
            for j in range(area.left // wide, -(-area.right // wide)):
                inside = boxes[i * cells_high : (i + 1) * cells_high, j * cells_wide : (j + 1) * cells_wide]
                needed = _clipped(inside[inside[..., 0] < inside[..., 1]].astype(np.int64), area)
                if len(needed):
                    yield i * self._header.tiles[1] + j, needed

    def _decode(
        self,
        tile: int,
        needed: npt.NDArray[np.int64],
        area: Box,
        out: Array,
        otherwise: Callable[[Box, Array], None],
    ) -> None:
        """Decode the needed pixels of a tile."""
        whole = self._header.box(tile)
        asked = Box(*_clipped(np.array([whole], np.int64), area)[0].tolist())
        try:
            code = self._parts.read(tile, self._location)
        except UnknownFormError:
            otherwise(asked, _part(out, asked, area))
            return
        finally:
            self._file.release(self._parts.ranges([tile]))
        coding = self._header.coding
        density = len(code) / ((whole.bottom - whole.top) * (whole.right - whole.left))
        exponents = np.array(coding.block_exponents, np.int64)
        windows = order_windows(needed, np.array(whole, np.int64), exponents, _MARGINS[coding.is_reversible], density)
        with TileDecoder(self._library, code, self._location) as decoder:
            for window in windows.tolist():
                box = Box(*window)
                if box != whole or asked == whole:
                    decoder.read(box, _part(out, box, area))
                else:
                    image = np.empty((box.bottom - box.top, box.right - box.left), out.dtype)
                    decoder.read(box, image)
                    _part(out, asked, area)[...] = _part(image, asked, box)

    def read_overview(self, halvings: int, boxes: Boxes, out: Array, otherwise: Callable[[Box, Array], None]) -> None:
        """Decode parts of the raster at a reduced resolution: of each tile the smallest window that holds its parts.

        Parameters
        ----------
        halvings
            How often the resolution is halved, at most `self.halvings` times.
        boxes
            (boxes, 4) first row, one past the last, first column and one past the last of the needed pixels of the
            reduced image.
        out
            (rows, columns) of the whole reduced image, into which pixels are decoded; others are not changed.
        otherwise
            Decodes pixels of a tile that is left to GDAL into a part of `out`.

        Raises
        ------
        UnreadableError
            If a tile cannot be decoded.
        """
        # A sample lies at the first pixel of its square, so a tile has those of the squares that begin in it.
        size = 1 << halvings
        everything = Box(0, out.shape[0], 0, out.shape[1])
        for tile in range(self._header.tiles[0] * self._header.tiles[1]):
            whole = self._header.box(tile)
            reduced = Box(*(-(-n // size) for n in whole))
            needed = _clipped(boxes.astype(np.int64), reduced)
            if not len(needed):
                continue
            top, left = needed[:, ::2].min(axis=0).tolist()
            bottom, right = needed[:, 1::2].max(axis=0).tolist()
            part = _part(out, Box(top, bottom, left, right), everything)
            try:
                code = self._parts.read(tile, self._location)
            except UnknownFormError:
                otherwise(Box(top, bottom, left, right), part)
                continue
            # At full resolution, up to the last pixel that the tile has.
            area = Box(top * size, min(bottom * size, whole.bottom), left * size, min(right * size, whole.right))
            with TileDecoder(self._library, code, self._location, halvings) as decoder:
                decoder.read(area, part)


def _cell(tile: int, whole: int) -> int:
    """Return the edge of a cell: about `_CELL` pixels, and a divisor of the tile where there are several tiles."""
    if tile >= whole:
        return min(_CELL, whole)
    fitting = [n for n in range(_SMALLEST_CELL, 2 * _CELL + 1) if tile % n == 0]
    return min(fitting, key=lambda n: abs(n - _CELL), default=tile)


def _clipped(boxes: npt.NDArray[np.int64], area: Box) -> npt.NDArray[np.int64]:
    """Return boxes as far as they lie in an area, without those that lie outside."""
    low = np.maximum(boxes[:, ::2], [area.top, area.left])
    high = np.minimum(boxes[:, 1::2], [area.bottom, area.right])
    return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)[(low < high).all(axis=1)]


def _part(array: Array, box: Box, of: Box) -> Array:
    """Return a part of an array that covers an area."""
    return array[box.top - of.top : box.bottom - of.top, box.left - of.left : box.right - of.left]
