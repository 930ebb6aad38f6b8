"""Pixels of a layer's features on a grid, computed once and saved.

`scanline` holds the kernels and `pixel_plan` makes a `PixelPlan` of geometries in the grid's CRS. `surroundings`
selects the features near a tile and cuts those that reach far beyond it, `tangles` finds those that cross themselves
too often for GEOS. `layer_coverage` makes and saves the `Coverage` of a layer, in which every feature has its pixels or
the reason why it has none. `plan_blocks` finds the blocks of a raster that hold pixels of a plan.
"""

from __future__ import annotations

from sen2chain.coverage.layer_coverage import (
    PLANNED,
    REASONS,
    Coverage,
    compute_coverage,
    coverage_key,
    load,
    outlines,
    save,
)
from sen2chain.coverage.pixel_plan import PixelPlan, PixelRule, rasterize
from sen2chain.coverage.plan_blocks import TouchedBlocks, touched_blocks
from sen2chain.coverage.surroundings import near, near_tile
from sen2chain.coverage.tangles import is_tangled

__all__ = [
    "PLANNED",
    "REASONS",
    "Coverage",
    "PixelPlan",
    "PixelRule",
    "TouchedBlocks",
    "compute_coverage",
    "coverage_key",
    "is_tangled",
    "load",
    "near",
    "near_tile",
    "outlines",
    "rasterize",
    "save",
    "touched_blocks",
]
