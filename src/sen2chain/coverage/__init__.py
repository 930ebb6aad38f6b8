"""Polygons and a grid become a pixel plan, once.

`scanline` and `slivers` hold the kernels, `pixels` turns geometries in the grid's CRS into a `PixelPlan`, `prepare`
turns a layer into a `Coverage`, in which every feature has its pixels or its reason, and keeps it on disk, and `blocks`
tells which blocks of a raster hold pixels.
"""

from __future__ import annotations

from sen2chain.coverage.blocks import touched_blocks
from sen2chain.coverage.pixels import PixelPlan, PixelRule, rasterize
from sen2chain.coverage.prepare import PLANNED, REASONS, Coverage, coverage_key, load, near, prepare, save

__all__ = [
    "PLANNED",
    "REASONS",
    "Coverage",
    "PixelPlan",
    "PixelRule",
    "coverage_key",
    "load",
    "near",
    "prepare",
    "rasterize",
    "save",
    "touched_blocks",
]
