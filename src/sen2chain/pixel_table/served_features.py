"""Choice of the product that serves each feature at one sensing time: the one that its row comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sen2chain.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sen2chain.pixel_table.pixel_extraction import PixelTaskResult
    from sen2chain.rows import Batch

    Ints = npt.NDArray[np.int64]


def served_features(results: Sequence[PixelTaskResult], *, keep_empty: bool) -> tuple[list[Ints], list[Batch]]:
    """Choose the features whose pixels are written from each of the products of one sensing time.

    A feature is served by the product that its row comes from (see `sen2chain.select.select`), under the first index
    and mask that give it a row. Features without a row are left out, or with `keep_empty` served by the product whose
    row without values would be kept.

    Parameters
    ----------
    results
        Results of all products of one sensing time.
    keep_empty
        Whether features without a row are written too, where they have pixels on a raster.

    Returns
    -------
    fids : list
        (features,) ascending fids, for each result.
    batches : list
        The batches of rows that stay, for the report.
    """
    outputs = [select([result.batches[k] for result in results]) for k in range(len(results[0].task.outputs))]
    batches = [batch for selected in outputs for batch in selected]
    found: list[list[Ints]] = [[] for _ in results]
    taken: Ints = np.zeros(0, np.int64)
    for with_values in (True, False) if keep_empty else (True,):
        lacking: list[list[Ints]] = [[] for _ in results]
        for selected in outputs:
            new = [
                # Where another product may have the row of an earlier mask, its pixels are those of the archive.
                _unserved(result, batch, np.concatenate([taken, *_of_others(lacking, i)]), with_values=with_values)
                for i, (result, batch) in enumerate(zip(results, selected, strict=True))
            ]
            for own, fids in zip(found, new, strict=True):
                own.append(fids)
            taken = np.concatenate([taken, *new])
            for own, batch in zip(lacking, selected, strict=True):
                if with_values and batch.unknown is not None:
                    own.append(batch.unknown)
    return [np.sort(np.concatenate(own)) for own in found], batches


def _of_others(fids: Sequence[Sequence[Ints]], i: int) -> list[Ints]:
    """Return the fids of all products but one."""
    return [own for k, parts in enumerate(fids) if k != i for own in parts]


def _unserved(result: PixelTaskResult, batch: Batch, taken: Ints, *, with_values: bool) -> Ints:
    """Return the features of a batch that have pixels in a product, and are not served yet."""
    if result.pixels is None:
        return np.zeros(0, np.int64)
    has_values = batch.columns["reason"].astype(np.int8) < 0
    fids = batch.columns["fid"].astype(np.int64)[has_values == with_values]
    fids = fids[~np.isin(fids, taken)]
    stored = result.pixels.coverage.fid[result.pixels.stored]
    kept: Ints = fids[np.isin(fids, stored)]
    return kept
