"""Expected sizes of produced files, from the sizes of the files that they are made from.

Real values of an index in steps of 1e-4 are mostly noise to a compressor. Clear dates of a scene with fields and
mountains take 1.69 bytes per pixel, clouds and snow down to 1.25 (without overviews, which add a third); that is 0.68
to 0.76 times the JPEG 2000 files of two bands together. So a full tile takes 0.2 to 0.27 GB.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sen2chain.archive import size_of
from sen2chain.indices import SCALE

if TYPE_CHECKING:
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition

_PER_BAND = 1.4
"""Bytes of an index raster without overviews, per byte of the file of one band on the finest grid."""
_OVERVIEWS = 4 / 3
_FULL = 271_000_000
"""Bytes of an index raster of a full tile, where the sizes of its bands are not known."""
UNCOMPRESSED = 1.4
"""Bytes of an uncompressed index raster with its overviews, per byte of the compressed one (1.2 on clear dates, 1.6 on
clouded ones)."""
_PER_MASK = 0.5
"""Bytes of a mask per byte of the file of its classes."""
_FULL_MASK = 1_000_000
_PER_TENFOLD = 0.1
"""Share of the bytes that is saved by steps ten times as large (measured: 0.07 on clear dates, 0.33 on clouds)."""


def index_bytes(acquisition: Acquisition, index: Index, precision: float = 0.0) -> int:
    """Return about how many bytes a raster of an index will take."""
    sensor = acquisition.id.sensor
    sizes = []
    for name in index.bands:
        size, band = size_of(acquisition.bands.get(name, "")), sensor.band(name)
        if size is not None and band is not None:
            sizes.append(size * (band.resolution / sensor.finest) ** 2)
    whole = _PER_BAND * _OVERVIEWS * sum(sizes) / len(sizes) if sizes else _FULL
    steps = precision * index.scale if precision else 1
    return round(whole * (1 - _PER_TENFOLD * math.log10(max(steps * SCALE / index.scale, 1))))


def mask_bytes(acquisition: Acquisition, mask: Mask) -> int:
    """Return about how many bytes a mask will take."""
    size = next((size for name in mask.inputs if (size := size_of(acquisition.bands.get(name, "")))), None)
    return _FULL_MASK if size is None else round(_PER_MASK * size)
