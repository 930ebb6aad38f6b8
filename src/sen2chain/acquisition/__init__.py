"""Read the pixels of an acquisition: each raster is opened once, and each block of it that is needed is decoded once.

`open_rasters` opens the rasters of one acquisition and decodes those on coarser grids, `values` reads the rasters on
the 10 m grid in strips and computes index values, `mask_bits` holds cloud masks as bits, `strips` orders a pixel plan
for reading, and `layouts` keeps what follows from a plan.
"""

from __future__ import annotations

from sen2chain.acquisition.layouts import Layouts

__all__ = ["Layouts"]
