"""Kept pixels of a layer on disk: their positions on a grid, the file of one acquisition, and its compression.

`pixel_positions` are pixels of one raster grid as row runs, with the kernels in `run_kernels`; `tile_positions` derives
those of every raster of a tile from the pixels of the layer's features, and keeps them in a file. `pixel_file` holds
the values of one acquisition, coded by `pixel_codec`. `stored_members` is the form of both files.
"""

from __future__ import annotations

from sen2chain.pixel_store.pixel_file import (
    CHUNK_ROWS,
    KeptHeader,
    KeptValues,
    PixelFile,
    content_digest,
    is_as_named,
    is_kept,
    kept_location,
    pixel_file,
    split_kept,
    with_facts,
)
from sen2chain.pixel_store.pixel_positions import (
    PixelPositions,
    bilinear_positions,
    bilinear_runs,
    chosen_pixels,
    finest_positions,
    grown,
    nearest_positions,
    nearest_runs,
    shrunk,
)
from sen2chain.pixel_store.tile_positions import (
    FORMAT,
    Role,
    TilePositions,
    load_positions,
    margin_pixels,
    positions_path,
)

__all__ = [
    "CHUNK_ROWS",
    "FORMAT",
    "KeptHeader",
    "KeptValues",
    "PixelFile",
    "PixelPositions",
    "Role",
    "TilePositions",
    "bilinear_positions",
    "bilinear_runs",
    "chosen_pixels",
    "content_digest",
    "finest_positions",
    "grown",
    "is_as_named",
    "is_kept",
    "kept_location",
    "load_positions",
    "margin_pixels",
    "nearest_positions",
    "nearest_runs",
    "pixel_file",
    "positions_path",
    "shrunk",
    "split_kept",
    "with_facts",
]
