"""Selection of one row per (date, fid): the best of the tiles, baselines and parts that saw a feature at one time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.reasons import UNKEPT, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sen2chain.rows import Batch

    Ints = npt.NDArray[np.int64]

_NONE = np.zeros(0, np.int64)

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


_UNKNOWN = (
    "Features that another product saw at the same time have no row where its pixels are not kept, since the archive "
    "may give that one; name the archive."
)


def select(batches: Sequence[Batch]) -> list[Batch]:
    """Keep the best row of every feature.

    The order is: rows with values before those without; complete rows first, where (nodata - nbcld) / (count +
    nodata) < 0.10; then the highest baseline of ESA, before all others, the most valid pixels, the lowest standard
    deviation, the tile's name, and the latest generation. A feature that kept pixels lack in one of the products has no
    row with values, see `without_unknown`.

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
    unknown = [_NONE if b.unknown is None else b.unknown for b in batches]
    batches = without_unknown(batches, np.concatenate(unknown))
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
            ~np.concatenate([np.isin(b.columns["fid"], own) for b, own in zip(batches, unknown, strict=True)]),
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


def without_unknown(batches: Sequence[Batch], unknown: Ints) -> list[Batch]:
    """Leave out the rows of features of which kept pixels alone cannot tell the product that the archive would choose.

    Parameters
    ----------
    batches
        All batches of one index, one mask and one sensing time.
    unknown
        (features,) fid of the features that a product lacks, see `Batch.unknown`.

    Returns
    -------
    list
        The same batches without rows with values of these features, which are counted with the reason of what is
        lacking, or with `Reason.NOT_KEPT`.
    """
    if not len(unknown):
        return list(batches)
    said = [reason for reason in UNKEPT if any(b.unknown is not None and reason in b.reasons for b in batches)]
    why, found = said[0] if said else Reason.NOT_KEPT, []
    for batch in batches:
        stays = (batch.columns["reason"].astype(np.int8) >= 0) | ~np.isin(batch.columns["fid"], unknown)
        lost = int((~stays).sum())
        if not lost:
            found.append(batch)
            continue
        columns = {name: values[stays] for name, values in batch.columns.items()}
        reasons = {**batch.reasons, why: batch.reasons.get(why, 0) + lost}
        # What its own features lack is told already.
        error = f"{batch.error} {_UNKNOWN}".strip() if batch.unknown is None or not len(batch.unknown) else batch.error
        found.append(replace(batch, columns=columns, reasons=reasons, error=error))
    return found


def _rank(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Position of each name in alphabetical order; equal names share one."""
    return np.unique(np.array(names), return_inverse=True)[1]
