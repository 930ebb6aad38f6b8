"""Why a feature has no row for an acquisition."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """Why a feature has no row for an acquisition. The value is the column name in the report."""

    NULL_GEOMETRY = "null_geometry"
    EMPTY_GEOMETRY = "empty_geometry"
    BUFFERED_AWAY = "buffered_away"
    OUTSIDE_TILE = "outside_tile"
    OUTSIDE_RASTER = "outside_raster"
    NO_PIXEL = "no_pixel_centre_inside"
    NO_DATA = "no_data"
    CLOUD = "cloud"
    MIN_VALID = "below_min_valid"
    SUPERSEDED = "superseded"
    INDEX_INPUTS_MISSING = "index_inputs_missing"
    MASK_INPUTS_MISSING = "mask_inputs_missing"
    MASK_REACH = "mask_reach"
    NOT_KEPT = "pixels_not_kept"
    GRID_MISMATCH = "grid_mismatch"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    UNSUPPORTED_NAME = "unsupported_name"
    CHANGED = "changed_while_read"

    @property
    def sentence(self) -> str:
        """The reason as people read it."""
        return _SENTENCES[self]


UNKEPT = (Reason.MASK_REACH, Reason.NOT_KEPT)
"""Reasons of what kept pixels do not hold, where no archive has it."""

_SENTENCES = {
    Reason.NULL_GEOMETRY: "the feature has no geometry",
    Reason.EMPTY_GEOMETRY: "the feature's geometry is empty, has no area, or cannot be used",
    Reason.BUFFERED_AWAY: "nothing is left of the feature after the negative buffer",
    Reason.OUTSIDE_TILE: "the feature lies outside the tile",
    Reason.OUTSIDE_RASTER: "the feature lies in the tile but outside the raster",
    Reason.NO_PIXEL: "no pixel centre lies inside the feature (pixels='weighted' or 'all_touched' gives it a value)",
    Reason.NO_DATA: "the product has no data on the feature",
    Reason.CLOUD: "the cloud mask removed every valid pixel of the feature",
    Reason.MIN_VALID: "the share of valid pixels is below min_valid",
    Reason.SUPERSEDED: "another tile, baseline or part of the same acquisition gave the better row",
    Reason.INDEX_INPUTS_MISSING: "there is neither the index nor the bands to compute it",
    Reason.MASK_INPUTS_MISSING: "there is neither the mask nor the rasters to compute it",
    Reason.MASK_REACH: "the cloud mask reaches farther than the margin of the kept pixels, and no archive has the rest",
    Reason.NOT_KEPT: "the pixels asked for are not kept, and no archive has them",
    Reason.GRID_MISMATCH: "the product has another grid or CRS than its tile",
    Reason.UNREADABLE: "a file of the product cannot be read",
    Reason.FAILED: "the product failed each of the three times it was tried",
    Reason.UNSUPPORTED_NAME: "the product's name is not of the form used since December 2016",
    Reason.CHANGED: "a file of the product was changed while it was read",
}
