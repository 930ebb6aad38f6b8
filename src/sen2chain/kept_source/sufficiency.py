"""Sufficiency of kept pixels: which uses of a request they hold all pixels for, once per tile and not per date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sen2chain.pixel_store import finest_positions, margin_pixels, nearest_positions
from sen2chain.progress import counted
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from sen2chain.coverage import PixelPlan
    from sen2chain.extract import Coverages
    from sen2chain.grid import Grid
    from sen2chain.masks import Mask
    from sen2chain.pixel_store import PixelPositions, Role, TilePositions

ENOUGH = None
"""What `Sufficiency` returns where nothing is lacking."""


class KeptRole(NamedTuple):
    """What decides which pixels of a raster are kept."""

    role: Role
    """Whether it is a band or a quality raster."""
    grid: Grid
    """Its grid."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What kept pixels lack for a use."""

    reason: Reason
    """`Reason.MASK_REACH` or `Reason.NOT_KEPT`."""
    clause: str
    """What is wrong with acquisitions, after their number: ``without kept pixels``."""
    sentence: str = ""
    """What is lacking, and what to do where there is no archive."""
    is_partial: bool = False
    """Whether some features lack nothing, so that kept pixels give their rows; each of the others has its reason."""


_BESIDE = Lack(
    Reason.NOT_KEPT,
    "without pixels around the features",
    "Pixels around the features are not kept; name the archive, or keep a wider margin (keep_margin, --keep-margin).",
)


class Sufficiency:
    """The uses that the kept pixels of products with the same positions suffice for.

    Parameters
    ----------
    positions
        The positions of the kept pixels.
    coverages
        The pixels of the layer that is asked for, with its pixel rule and buffer.
    tile
        The tile.
    """

    def __init__(self, positions: TilePositions, coverages: Coverages, tile: str) -> None:
        self._positions, self._coverages, self._tile = positions, coverages, tile
        self._known: dict[object, Lack | None] = {}
        self._plan: PixelPositions | None = None

    def values(self) -> Lack | None:
        """Return what is lacking for the values of bands; None where nothing is.

        A coarser band is kept wherever interpolation reads it for kept pixels, so that the pixels themselves decide.
        """
        if "values" not in self._known:
            self._known["values"] = self._of_values()
        return self._known["values"]

    def _of_values(self) -> Lack | None:
        plan = self._finest_plan
        held = self._positions.finest.holds(plan.row, plan.column, plan.length)
        return ENOUGH if held.all() else self._outside(plan, held)

    @property
    def _finest_plan(self) -> PixelPlan:
        return self._coverages.get(self._positions.finest.grid, self._tile).plan

    def mask(self, mask: Mask, name: str, raster: KeptRole) -> Lack | None:
        """Return what is lacking for a mask that is computed from a raster; None where nothing is.

        Parameters
        ----------
        mask
            The mask; its reach counts.
        name, raster
            The raster that it is computed from.
        """
        near, lack = self.around(raster, 0), self.around(raster, mask.reach)
        if lack is ENOUGH:
            return ENOUGH
        if self._is_within_margin(raster, mask.reach):
            return near or lack
        if near is not ENOUGH and not near.is_partial:
            return near
        reach = mask.reach * max(raster.grid.pixel_xy)
        margin = self._positions.margin if raster.role == "quality" else 0
        return Lack(
            Reason.MASK_REACH,
            f"with {name} kept {margin:,.0f} m around the features ({mask.name} reaches {reach:,.0f} m)",
            f"{mask.name} reaches {reach:,.0f} m, and {name} is kept {margin:,.0f} m around the features; name the "
            "archive, or keep a wider margin (keep_margin, --keep-margin).",
        )

    def around(self, raster: KeptRole, reach: int) -> Lack | None:
        """Return what is lacking of the pixels of a raster under and around the features; None where nothing is.

        Parameters
        ----------
        raster
            The raster.
        reach
            Pixels of the raster around the features.
        """
        key = raster, reach
        if key not in self._known:
            self._known[key] = self._of_surroundings(raster, reach)
        return self._known[key]

    def _of_surroundings(self, raster: KeptRole, reach: int) -> Lack | None:
        lack = self.values()
        if lack is ENOUGH and self._is_within_margin(raster, reach):
            return ENOUGH
        if self._plan is None:
            self._plan = finest_positions([self._finest_plan])
        needed = nearest_positions(self._plan, raster.grid, reach)
        have = self._positions.of_raster(*raster)
        held = have.holds(needed.row, needed.column, needed.length)
        return ENOUGH if held.all() else lack or _BESIDE

    def _is_within_margin(self, raster: KeptRole, reach: int) -> bool:
        """Whether a raster is kept so far around all kept features."""
        return raster.role == "quality" and reach <= margin_pixels(self._positions.margin, raster.grid)

    def own_pixels(self, raster: KeptRole) -> Lack | None:
        """Return what is lacking of the pixels that features have on a raster's own grid; None where nothing is."""
        key = "own", raster
        if key not in self._known:
            self._known[key] = self.around(raster, 0) or self._of_own_pixels(raster)
        return self._known[key]

    def _of_own_pixels(self, raster: KeptRole) -> Lack | None:
        plan = self._coverages.get(raster.grid, self._tile, "center").plan
        held = self._positions.of_raster(*raster).holds(plan.row, plan.column, plan.length)
        return ENOUGH if held.all() else self._outside(plan, held)

    def _outside(self, plan: PixelPlan, held: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Lack:
        """Return how many features have pixels that are not kept, and how to keep them."""
        lacking, of = len(np.unique(plan.feature[~held])), int((plan.total > 0).sum())
        number, buffer = f"{lacking:,} of {counted(of, 'feature')}", self._coverages.buffer
        what, how = "the layer", "those of this layer (keep_pixels, --keep-pixels)"
        if buffer:
            option = f"buffer={buffer:g}, --keep-pixels --buffer {buffer:g}"
            what, how = "the layer with its buffer", f"them with this buffer (keep_pixels and {option})"
        return Lack(
            Reason.NOT_KEPT,
            f"without the pixels of {number}",
            f"Pixels of {number} are not kept: {what} reaches beyond what is; name the archive, or keep {how}.",
            is_partial=lacking < of,
        )
