"""Kept pixels as a raster: their values stand where they belong in what is decoded, the rest of it is left as it is.

So everything that reads rasters reads kept pixels too, and with the same code computes the same numbers.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from sen2chain.errors import PixelsNotKeptError, UnreadableError
from sen2chain.parallel import Memo
from sen2chain.pixel_store import CHUNK_ROWS, PixelFile, bilinear_runs, chosen_pixels, nearest_runs, shrunk, split_kept
from sen2chain.rasters.decoded_blocks import count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan, TouchedBlocks
    from sen2chain.pixel_store import PixelPositions
    from sen2chain.rasters.decoded_blocks import Counts

    Bools = npt.NDArray[np.bool_]

Use = Literal["nearest", "bilinear"]
"""Which pixels of a raster are read for a pixel of the finest grid: the one that its centre lies in, which on the
finest grid is the pixel itself, or the up to four between whose centres it lies."""

_BLOCK = 64  # pixels along the edge of a block: masks are computed and images touched by blocks


class PixelFiles:
    """The pixel files of one acquisition, each opened once; used in one thread."""

    def __init__(self) -> None:
        self._open: dict[Path, PixelFile] = {}
        self.lacking = Memo()
        """Features that lack pixels, by all that they depend on: rasters of a file often lack the same."""

    def get(self, path: Path) -> PixelFile:
        """Return the open file; errors as of `PixelFile.open`."""
        if path not in self._open:
            self._open[path] = PixelFile.open(path)
        return self._open[path]

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class KeptRaster:
    """One raster of a pixel file, to be used as `sen2chain.rasters.Raster`, whose attributes it has.

    Where no pixel is kept, or a kept one is not present, what is decoded says nothing; `lacking` and `check_kept` tell.

    Parameters
    ----------
    location
        What `sen2chain.pixel_store.kept_location` has made.
    files
        The open pixel files of the acquisition; None: the file is opened for this raster, and closed with it.

    Raises
    ------
    KeptPixelsError
        If the file or its positions are missing, damaged, or of another version of the format, or lack the raster.
    """

    is_remote = False
    is_jpeg2000 = False
    count = 1

    def __init__(self, location: str, files: PixelFiles | None = None) -> None:
        place = split_kept(location)
        if place is None:
            raise UnreadableError(f"{location} is not a location of kept pixels.")
        path, self._name = place
        self.location = location
        self._files = files or PixelFiles()
        self._is_own = files is None
        try:
            self._file = self._files.get(path)
            header = self._file.header(self._name)
            self._positions = self._file.positions_of(self._name)
        except Exception:
            self.close()
            raise
        count(lambda counts: counts.opens.update((location,)))
        self.grid, self.dtype, self.nodata, self.scale = header.grid, header.dtype, header.nodata, header.scale
        rows, columns = self.grid.shape
        self.block_shape: tuple[int, int] = min(_BLOCK, rows), min(_BLOCK, columns)
        """(rows, columns) of a block: what is decoded is told by the block."""
        self.strip_height = min(CHUNK_ROWS, rows)
        """Rows whose values are coded together."""
        self.tags: dict[str, str] = {}
        """Texts in the metadata of the file: there are none."""

    @property
    def kept_pixels(self) -> int:
        """Number of pixels that are kept: at most so many are decoded."""
        return self._positions.size

    def read(
        self, rows: tuple[int, int], columns: tuple[int, int], out: npt.NDArray[np.generic] | None = None
    ) -> npt.NDArray[np.generic]:
        """Read a window; 0 where no pixel is kept. See `Raster.read`."""
        (top, bottom), (left, right) = rows, columns
        if not (0 <= top < bottom <= self.grid.shape[0] and 0 <= left < right <= self.grid.shape[1]):
            raise UnreadableError(f"{self.location} cannot be read: rows {rows}, columns {columns} are not inside it.")
        image = np.zeros((bottom - top, self.grid.shape[1]), self.dtype)
        self._put(top, bottom, image, top)
        if out is None:
            return image[:, left:right]
        out[...] = image[:, left:right]
        return out

    def pieces(
        self, touched: TouchedBlocks, rows: tuple[int, int], out: npt.NDArray[np.generic]
    ) -> list[Callable[[], None]]:
        """Return functions that decode the kept pixels of some rows, see `Raster.pieces`."""
        found: list[Callable[[], None]] = []
        high = self.block_shape[0]
        for first in range(rows[0] // CHUNK_ROWS * CHUNK_ROWS, rows[1], CHUNK_ROWS):
            top, bottom = max(first, rows[0]), min(first + CHUNK_ROWS, rows[1])
            boxes = touched.boxes[top // high : -(-bottom // high)]
            if (boxes[..., 0] < boxes[..., 1]).any():
                found.append(partial(self._decode, boxes, top, bottom, out, rows[0]))
        return found

    def read_blocks(self, touched: TouchedBlocks, rows: tuple[int, int], out: npt.NDArray[np.generic]) -> None:
        """Decode the kept pixels of some rows; errors as of `pieces`."""
        for piece in self.pieces(touched, rows, out):
            piece()

    def _decode(
        self, boxes: npt.NDArray[np.integer], top: int, bottom: int, out: npt.NDArray[np.generic], row0: int
    ) -> None:
        self._put(top, bottom, out, row0)

        def add(counts: Counts) -> None:
            for i, j in np.argwhere(boxes[..., 0] < boxes[..., 1]).tolist():
                counts.blocks[self.location, top // self.block_shape[0] + i, j] += 1

        count(add)

    def _put(self, top: int, bottom: int, out: npt.NDArray[np.generic], row0: int) -> None:
        """Put the kept pixels of some rows into an image whose first row is row0."""
        values, _ = self._file.read_rows(self._name, top, bottom)
        self._positions.put(values, out[top - row0 : bottom - row0], top)

    def ranges(self, touched: TouchedBlocks, rows: tuple[int, int]) -> list[tuple[int, int]]:  # noqa: ARG002  # as Raster
        """Return nothing: kept pixels are not remote."""
        return []

    def fetch(self, touched: TouchedBlocks, rows: tuple[int, int]) -> int:  # noqa: ARG002  # as Raster
        """Do nothing: kept pixels are not remote."""
        return 0

    def overview_level(self, factor: int) -> int:  # noqa: ARG002  # as Raster
        """Return 1: there are no smaller pictures."""
        return 1

    def read_overview(
        self,
        level: int,
        boxes: npt.NDArray[np.integer],  # noqa: ARG002  # as Raster
        out: npt.NDArray[np.generic],  # noqa: ARG002  # as Raster
    ) -> None:
        """Raise `UnreadableError`: there are no smaller pictures."""
        raise UnreadableError(f"{self.location} has no picture that is {level} times smaller.")

    def lacking(self, plan: PixelPlan, features: Bools | None, use: Use = "nearest", margin: int = 0) -> Bools:
        """Return the features of a plan for which a pixel is not kept, or not present.

        Parameters
        ----------
        plan
            The plan, on a grid of the same ground.
        features
            (features of the plan,) The features in question; None means all.
        use
            Which pixels of this raster are read for a pixel of the plan.
        margin
            Pixels of this raster around these, to all sides, that are read too.

        Returns
        -------
        numpy.ndarray
            (features of the plan,) of bool; False for those that are not in question.

        Raises
        ------
        KeptPixelsError
            If the file is damaged.
        """
        present, positions = self._file.read_present(self._name), self._positions
        if present is None:
            lacking = _lacking_of(plan, positions, use, margin)
        else:
            lacking = self._files.lacking.once(
                (self._file, self._file.header(self._name).flags, positions, plan, use, margin),
                lambda: _lacking(plan, chosen_pixels(positions, present), use, margin),
            )
        return lacking if features is None else lacking & features

    def check_kept(self, plan: PixelPlan, features: Bools | None, use: Use = "nearest", margin: int = 0) -> None:
        """Make sure that all needed pixels are kept and present; parameters as of `lacking`.

        Raises
        ------
        PixelsNotKeptError
            If one is not.
        KeptPixelsError
            If the file is damaged.
        """
        lacking = int(np.count_nonzero(self.lacking(plan, features, use, margin)))
        if lacking:
            raise PixelsNotKeptError(
                f"Needed pixels of {self._name} are not kept for {lacking:,} of {len(plan.total):,} features: they "
                f"were under clouds, or the layer was another; name the archive, or keep {self._name} by its name."
            )

    def close(self) -> None:
        """Close the file, if it was opened for this raster."""
        if self._is_own:
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_of_plan: weakref.WeakKeyDictionary[PixelPlan, Memo] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _lacking_of(plan: PixelPlan, positions: PixelPositions, use: Use, margin: int) -> Bools:
    """Return what `_lacking` returns; it is computed once for all acquisitions whose pixels are all present."""
    with _lock:
        memo = _of_plan.setdefault(plan, Memo())
    return memo.once((positions, use, margin), lambda: _lacking(plan, positions, use, margin))


def _lacking(plan: PixelPlan, positions: PixelPositions, use: Use, margin: int) -> Bools:
    """Return the features of a plan of which a needed pixel of a raster is not among some positions."""
    runs_of = nearest_runs if use == "nearest" else bilinear_runs
    row, column, length = runs_of(plan.grid, positions.grid, plan.row, plan.column, plan.length)
    outside = (length > 0) & ~shrunk(positions, margin).holds(row, column, length)
    lacking = np.zeros(len(plan.total), np.bool_)
    lacking[np.tile(plan.feature, len(row) // max(len(plan.row), 1))[outside]] = True
    return lacking
