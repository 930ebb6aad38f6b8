"""Form of a raster from the directory of its TIFF file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sen2chain.raster_form import RasterForm

if TYPE_CHECKING:
    from sen2chain.tiff import Directory

_BITS, _SAMPLES, _SAMPLE_FORMAT = 258, 277, 339
_PIXEL_SIZE, _GEO_KEYS = 33550, 34735
_GEOGRAPHIC, _PROJECTED = 2048, 3072
"""Keys of GeoTIFF for the EPSG codes of a CRS in degrees, and of one in metres."""
_OWN = 32767  # a CRS that has no code
_NUMBERS = {1: "uint", 2: "int", 3: "float", 5: "complex"}  # by the format of samples
_WIDTHS = (8, 16, 32, 64, 128)


def form_of(directory: Directory) -> RasterForm:
    """Return the form of the raster of a directory."""
    bits, kind = _shorts(directory, _BITS), _shorts(directory, _SAMPLE_FORMAT)
    return RasterForm(
        dtype=_dtype(bits[0] if bits else 1, kind[0] if kind else 1),
        bands=next(iter(_shorts(directory, _SAMPLES)), 1),
        pixel=_pixel(directory),
        epsg=_epsg(directory),
    )


def _dtype(bits: int, kind: int) -> str:
    """Return the type that GDAL reads samples as; empty where that is not known."""
    # Of integers of other sizes, as masks of 1 bit, GDAL takes the next one.
    width = next((width for width in _WIDTHS if bits <= width), 0)
    return f"{_NUMBERS[kind]}{width}" if kind in _NUMBERS and width else ""


def _pixel(directory: Directory) -> tuple[float, float] | None:
    tag = directory.tags.get(_PIXEL_SIZE)
    if tag is None or len(tag.data) < 16:
        return None
    width, height = struct.unpack_from(f"{directory.order}2d", tag.data)
    return (width, height) if width > 0 and height > 0 else None


def _epsg(directory: Directory) -> int:
    """Return the EPSG code of the CRS; 0 where there is none."""
    keys = _shorts(directory, _GEO_KEYS)
    found = {keys[at]: keys[at + 3] for at in range(4, len(keys) - 3, 4) if keys[at + 1] == 0}
    code = found.get(_PROJECTED, 0 if _PROJECTED in keys[4::4] else found.get(_GEOGRAPHIC, 0))
    return 0 if code == _OWN else code


def _shorts(directory: Directory, number: int) -> tuple[int, ...]:
    """Return the values of a tag of 16 bits each; empty where it is missing or of another type."""
    tag = directory.tags.get(number)
    if tag is None or tag.kind != 3:
        return ()
    return struct.unpack(f"{directory.order}{len(tag.data) // 2}H", tag.data[: len(tag.data) // 2 * 2])
