"""Pixels of one acquisition: each raster is opened once, and each block of it that is needed is decoded once.

`layers` are what can be read, and the rasters they come from. `reader` collects the pixels of a plan from them, with
the help of `open_rasters`, `coarse_rasters` and `mask_bits` (decoded first and kept) and `values` (read in strips);
`mask_windows` computes masks around the needed pixels.
`strips` is the reading order of a plan; `layouts` keeps it, and the blocks that a plan touches; `image_pool` lends
memory to one acquisition after the other. `needed_blocks` are the blocks of one acquisition, where some features need
no pixel of a raster. `windows` reads rectangles and whole rasters.
"""

from __future__ import annotations

from sen2chain.acquisition.layers import (
    DigitalNumbers,
    IndexValues,
    LayerSources,
    MaskLayer,
    PixelLayer,
    Quality,
    Reflectance,
    index_key,
)
from sen2chain.acquisition.layouts import Layouts
from sen2chain.acquisition.open_rasters import OpenRasters, check_scale, check_type, finest_grid, nodata_of
from sen2chain.acquisition.reader import AcquisitionReader, Pixels
from sen2chain.acquisition.windows import OpenAcquisition, Window, read

__all__ = [
    "AcquisitionReader",
    "DigitalNumbers",
    "IndexValues",
    "LayerSources",
    "Layouts",
    "MaskLayer",
    "OpenAcquisition",
    "OpenRasters",
    "PixelLayer",
    "Pixels",
    "Quality",
    "Reflectance",
    "Window",
    "check_scale",
    "check_type",
    "finest_grid",
    "index_key",
    "nodata_of",
    "read",
]
