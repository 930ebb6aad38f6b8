"""Opening of a raster at a location, whatever it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain.pixel_store import split_kept
from sen2chain.rasters.kept_raster import KeptRaster
from sen2chain.rasters.raster import Raster

if TYPE_CHECKING:
    from sen2chain.rasters.kept_raster import PixelFiles
    from sen2chain.rasters.raster_file import RemotePart

OpenRaster = Raster | KeptRaster
"""An open raster: a file, or kept pixels."""


def open_raster(location: str, begun: RemotePart | None = None, files: PixelFiles | None = None) -> OpenRaster:
    """Open a raster; parameters and errors as of `Raster` and `KeptRaster`."""
    return Raster(location, begun) if split_kept(location) is None else KeptRaster(location, files)
