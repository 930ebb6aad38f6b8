"""Selection of one row per (date, fid): the best of the tiles, baselines and parts that saw a feature at one time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sen2chain.rows import Batch

COMPLETE_BELOW = 0.10
"""A row counts as complete when less than this share of its pixels has no data for other reasons than clouds."""

# Among rows without values the reason is kept that says most about the feature.
_TELLING = (
    Reason.MIN_VALID,
    Reason.CLOUD,
    Reason.NO_DATA,
    Reason.NO_PIXEL,
    Reason.GRID_MISMATCH,
    Reason.UNREADABLE,
    Reason.FAILED,
    Reason.MASK_INPUTS_MISSING,
    Reason.INDEX_INPUTS_MISSING,
    Reason.MASK_REACH,
    Reason.NOT_KEPT,
    Reason.OUTSIDE_RASTER,
    Reason.OUTSIDE_TILE,
)


def select(batches: Sequence[Batch]) -> list[Batch]:
    """Keep the best row of every feature.

    The order is: rows with values before those without; complete rows first, where (nodata - nbcld) / (count +
    nodata) < 0.10; then the highest baseline of ESA, before all others, the most valid pixels, the lowest standard
    deviation, the tile's name, and the latest generation.

    Parameters
    ----------
    batches
        All batches of one index, one mask and one sensing time.

    Returns
    -------
    list
        The same batches with the rows that stay; rows with values that had to go are counted as superseded.
    """
    if len(batches) < 2:
        return list(batches)
    owner = np.concatenate([np.full(len(b.columns["fid"]), i) for i, b in enumerate(batches)])
    table = {
        name: np.concatenate([b.columns[name].astype(np.float64) for b in batches])
        for name in ("fid", "count", "nodata", "nbcld", "std", "reason")
    }
    whole = table["count"] + table["nodata"]
    missing = np.divide(table["nodata"] - table["nbcld"], whole, out=np.ones_like(whole), where=whole > 0)
    empty = table["reason"] >= 0
    telling = np.full(len(Reason) + 1, len(_TELLING))
    telling[[list(Reason).index(reason) for reason in _TELLING]] = range(len(_TELLING))
    order = np.lexsort(
        (
            -_rank([b.product.generation for b in batches])[owner],
            _rank([b.product.tile for b in batches])[owner],
            np.nan_to_num(table["std"], nan=np.inf),
            -table["count"],
            -np.array([b.product.baseline_rank for b in batches])[owner],
            missing >= COMPLETE_BELOW,
            np.where(empty, telling[table["reason"].astype(np.intp)], 0),
            empty,
            table["fid"],
        )
    )
    fid = table["fid"][order]
    best = np.zeros(len(order), dtype=bool)
    best[order] = np.diff(fid, prepend=-1.0) != 0
    selected = []
    for i, batch in enumerate(batches):
        kept = best[owner == i]
        lost = int((~kept & (table["reason"][owner == i] < 0)).sum())
        reasons = dict(batch.reasons)
        if lost:
            reasons[Reason.SUPERSEDED] = reasons.get(Reason.SUPERSEDED, 0) + lost
        columns = {name: values[kept] for name, values in batch.columns.items()}
        selected.append(replace(batch, columns=columns, reasons=reasons))
    return selected


def _rank(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Position of each name in alphabetical order; equal names share one."""
    return np.unique(np.array(names), return_inverse=True)[1]
