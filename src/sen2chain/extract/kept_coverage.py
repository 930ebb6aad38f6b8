"""The pixels of a layer's features that are kept on one grid: those that any pixel rule reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.coverage import PixelPlan
from sen2chain.parallel import Memo
from sen2chain.pixel_store import TilePositions, finest_positions

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage import Coverage

    Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class KeptCoverage:
    """Pixels of the features under each pixel rule; weighted pixels are those of ``all_touched``."""

    plan: PixelPlan
    """The pixels by feature; those that two rules give may be there twice."""
    fid: npt.NDArray[np.int64]
    """(features,) Positions in the layer, ascending."""
    _memo: Memo = field(default_factory=Memo, repr=False)

    @classmethod
    def of(cls, center: Coverage, touched: Coverage) -> Self:
        """Join the coverages of the rules ``center`` and ``all_touched``."""
        fid = np.union1d(center.fid, touched.fid)
        # Few pixels, of slivers, have their centre inside of a polygon that hardly touches them.
        plan = center.plan
        few = ~finest_positions([touched.plan]).holds(plan.row, plan.column, plan.length)
        every = np.ones(len(touched.plan.row), np.bool_)
        parts = [_runs(coverage, own, fid) for coverage, own in ((touched, every), (center, few))]
        feature, row, column, length = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(feature, kind="stable")
        runs = PixelPlan(plan.grid, feature[order], row[order], column[order], length[order], np.zeros(len(fid)))
        return cls(runs, fid)

    def positions(self, margin: float) -> TilePositions:
        """Return the positions of the pixels, with quality rasters kept in so many metres around them."""
        positions: TilePositions = self._memo.once(margin, lambda: TilePositions.of([self.plan], margin))
        return positions


def _runs(coverage: Coverage, chosen: npt.NDArray[np.bool_], fid: npt.NDArray[np.int64]) -> tuple[Ints, ...]:
    """Return feature, row, column and length of some runs, with features counted in `fid`."""
    plan = coverage.plan
    feature = np.searchsorted(fid, coverage.fid)[plan.feature[chosen]].astype(np.int32)
    return feature, plan.row[chosen], plan.column[chosen], plan.length[chosen]
