"""Rasters: the only package that opens and closes them, decodes their blocks, and counts both for tests.

GDAL opens all of them, and decodes all but JPEG 2000 of known forms, which `sen2chain.jpeg2000` decodes by code-blocks.
`environment` sets what a thread may read, and how; `raster_file` is the file of a raster, on disk or remote; `raster`
decodes it. `kept_raster` puts kept pixels where they belong, and `open_raster` opens either. `band_stack` opens rasters
of any format and number of bands that users name (`local_files`), and reads windows of them. `decoded_blocks` counts.
`header_texts` reads what a file says of itself without opening it as a raster.
"""

from __future__ import annotations

from sen2chain.rasters.band_stack import Band, BandStack, StackFacts, read_type
from sen2chain.rasters.decoded_blocks import Counts, counting
from sen2chain.rasters.environment import ANY_FORMAT_OPTIONS, GDAL_OPTIONS, environment
from sen2chain.rasters.header_texts import Header, read_header, read_header_texts, read_pictures, why_unread
from sen2chain.rasters.kept_raster import KeptRaster, PixelFiles, Use
from sen2chain.rasters.local_files import as_text, given_rasters, local_location, stamp_of, stem_of
from sen2chain.rasters.open_raster import OpenRaster, open_raster
from sen2chain.rasters.raster import Raster, spans
from sen2chain.rasters.raster_file import RemotePart, begin_remote

__all__ = [
    "ANY_FORMAT_OPTIONS",
    "GDAL_OPTIONS",
    "Band",
    "BandStack",
    "Counts",
    "Header",
    "KeptRaster",
    "OpenRaster",
    "PixelFiles",
    "Raster",
    "RemotePart",
    "StackFacts",
    "Use",
    "as_text",
    "begin_remote",
    "counting",
    "environment",
    "given_rasters",
    "local_location",
    "open_raster",
    "read_header",
    "read_header_texts",
    "read_pictures",
    "read_type",
    "spans",
    "stamp_of",
    "stem_of",
    "why_unread",
]
