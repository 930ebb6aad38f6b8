"""Masks computed in windows around the needed pixels.

Masks of small features cost more calls than computation, so windows of about the same size are laid one below the other
and computed in one call. A mask at a pixel depends on its inputs within the mask's reach, so each window has so many
pixels around those that count, and its neighbours in the pile change only these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sen2chain.indices import reflectance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from sen2chain.masks import Mask
    from sen2chain.products import Radiometry

    Image = npt.NDArray[np.generic]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

_STEP = 16  # pixels; sizes of windows are rounded up to multiples, so that many are equal
_AT_ONCE = 1 << 17  # pixels computed in one call, so that the steps stay in the processor's cache
_STRIP = 128  # rows


class MaskedWindows(NamedTuple):
    """A mask in some windows of one size."""

    row: Ints
    """(windows,) First rows."""
    column: Ints
    """(windows,) First columns."""
    masked: Bools
    """(windows, rows, columns) True where masked."""

    @classmethod
    def one(cls, window: tuple[slice, slice], masked: Bools) -> Self:
        """Return a mask in one window."""
        row, column = (np.array([part.start]) for part in window)
        return cls(row, column, masked[None])


def masked_windows(
    mask: Mask, images: Mapping[str, Image], boxes: npt.NDArray[np.integer], radiometry: Radiometry | None
) -> Iterator[MaskedWindows]:
    """Compute a mask in all boxes.

    Parameters
    ----------
    mask
        The mask.
    images
        Whole rasters of one shape, for each of the mask's inputs.
    boxes
        (boxes, 4) first row and one past the last, first column and one past the last; inside the rasters.
    radiometry
        Scale and offsets of the mask's inputs that are bands.

    Yields
    ------
    MaskedWindows
        Windows, which may overlap, and hold more than the boxes.
    """
    height, width = next(iter(images.values())).shape
    around: Ints = boxes.astype(np.int64)
    size = _sizes(around, mask.reach)
    if size.prod(axis=1).sum() > height * width:
        around = _strips(around, mask.reach, width)
        size = _sizes(around, mask.reach)
    # Each window is moved up or left, so that it lies inside the rasters. At their edges this cannot be, since there
    # it matters where they end.
    corner = np.minimum(around[:, ::2] - mask.reach, np.array([height, width]) - size)
    beyond = (corner < 0) | (around[:, 1::2] > corner + size - mask.reach)
    alone = beyond.any(axis=1) | (size.prod(axis=1) > _AT_ONCE)
    for top, bottom, left, right in around[alone].tolist():
        rows, columns = slice(top, bottom), slice(left, right)
        yield MaskedWindows.one((rows, columns), _compute(mask, images, rows, columns, radiometry))
    for high, wide in np.unique(size[~alone], axis=0).tolist():
        corners = corner[~alone & (size == (high, wide)).all(axis=1)]
        at_once = max(_AT_ONCE // (high * wide), 1)
        for first in range(0, len(corners), at_once):
            yield _compute_pile(mask, images, corners[first : first + at_once], (high, wide), radiometry)


def _sizes(boxes: Ints, reach: int) -> Ints:
    """Return (boxes, 2) rows and columns of the windows around boxes."""
    sizes: Ints = -(-(boxes[:, 1::2] - boxes[:, ::2]) // _STEP) * _STEP + 2 * reach
    return sizes


def _strips(boxes: Ints, reach: int, width: int) -> Ints:
    """Return boxes of the full width of a raster that hold some boxes: windows around these would overlap much."""
    high = max(_STRIP, 4 * reach)
    parts = [np.arange(top // high, (bottom - 1) // high + 1) for top, bottom, *_ in boxes.tolist()]
    number = np.unique(np.concatenate(parts))
    last = boxes[:, 1].max()
    whole = np.zeros_like(number)
    return np.stack([number * high, np.minimum((number + 1) * high, last), whole, whole + width], axis=1)


def _compute_pile(
    mask: Mask, images: Mapping[str, Image], corners: Ints, size: tuple[int, int], radiometry: Radiometry | None
) -> MaskedWindows:
    """Compute a mask in windows of one size, whose upper left corners are given."""
    high, wide = size
    rows, columns = corners.T
    pile = {name: sliding_window_view(image, size)[rows, columns].reshape(-1, wide) for name, image in images.items()}
    reach = mask.reach
    masked = _mask_of(mask, pile, radiometry).reshape(-1, high, wide)[:, reach : high - reach, reach : wide - reach]
    return MaskedWindows(rows + reach, columns + reach, masked)


def _compute(
    mask: Mask, images: Mapping[str, Image], rows: slice, columns: slice, radiometry: Radiometry | None
) -> Bools:
    """Compute a mask in some rows and columns; its inputs count as far as the mask's reach."""
    top, left = max(rows.start - mask.reach, 0), max(columns.start - mask.reach, 0)
    outer = slice(top, rows.stop + mask.reach), slice(left, columns.stop + mask.reach)
    window = {name: image[outer] for name, image in images.items()}
    inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return _mask_of(mask, window, radiometry)[inner]


def _mask_of(mask: Mask, window: Mapping[str, Image], radiometry: Radiometry | None) -> Bools:
    """Compute a mask from windows of its inputs, as they are stored."""
    inputs: dict[str, npt.NDArray[Any]] = dict(window)
    if radiometry is not None:
        offsets, quantification = radiometry.offsets, radiometry.quantification
        inputs |= {b: reflectance(inputs[b], offsets[b], quantification, mask.sensor) for b in mask.bands}
    return mask.compute(inputs)
