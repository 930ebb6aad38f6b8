"""Polygons and a grid become a pixel plan, once.

`scanline` holds the kernels, `pixels` turns geometries in the grid's CRS into a `PixelPlan`, `surroundings` cuts
features to what lies around a tile, `tangles` tells those that GEOS would work on for ever, `prepare` turns a layer
into a `Coverage`, in which every feature has its pixels or its reason, and keeps it on disk, and `blocks` tells which
blocks of a raster hold pixels.
"""

from __future__ import annotations

from sen2chain.coverage.blocks import touched_blocks
from sen2chain.coverage.pixels import PixelPlan, PixelRule, rasterize
from sen2chain.coverage.prepare import PLANNED, REASONS, Coverage, coverage_key, load, prepare, save
from sen2chain.coverage.surroundings import near
from sen2chain.coverage.tangles import is_tangled

__all__ = [
    "PLANNED",
    "REASONS",
    "Coverage",
    "PixelPlan",
    "PixelRule",
    "coverage_key",
    "is_tangled",
    "load",
    "near",
    "prepare",
    "rasterize",
    "save",
    "touched_blocks",
]
