"""The rasters of one task: each is opened once, decoded where features lie, and forgotten with the task."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.acquisition.strips import spans
from sen2chain.errors import GridMismatchError, RasterError, UnreadableError
from sen2chain.indices import NODATA, SCALE, reflectance
from sen2chain.plan import ValueKind
from sen2chain.rasters import Raster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import ExitStack

    import numpy.typing as npt

    from sen2chain.acquisition.layouts import Layouts
    from sen2chain.coverage import PixelPlan
    from sen2chain.grid import Grid
    from sen2chain.masks import Mask
    from sen2chain.plan import MaskSource, Task
    from sen2chain.products import Radiometry

    Image = npt.NDArray[np.generic]
    Bools = npt.NDArray[np.bool_]
    Window = tuple[slice, slice, Bools]

LEGACY_NODATA = 16383
"""No-data value of the original program's index rasters; it is declared in a side file that is often lost."""


class Files:
    """The open rasters of one task. A raster that fails stays failed, with the error that told so.

    Parameters
    ----------
    stack
        Closes them.
    verifier
        Compares a file with its checksum, see `sen2chain.products.Details.verifier`; None compares nothing.
    """

    def __init__(self, stack: ExitStack, verifier: Callable[[str], None] | None = None) -> None:
        self._stack = stack
        self._verifier = verifier
        self._open: dict[str, Raster] = {}
        self._broken: dict[str, RasterError] = {}

    def open(self, location: str) -> Raster:
        """Return the open raster.

        Raises
        ------
        RasterError
            If it cannot be opened or has failed before.
        """
        if location in self._broken:
            raise self._broken[location]
        if location not in self._open:
            try:
                self.verify(location)
                self._open[location] = self._stack.enter_context(Raster(location))
            except RasterError as error:
                self._broken[location] = error
                raise
        return self._open[location]

    def verify(self, location: str) -> None:
        """Compare a file with its checksum, where that is asked for.

        Raises
        ------
        UnreadableError
            If it is another.
        """
        if self._verifier is not None:
            self._verifier(location)

    def fail(self, location: str, error: RasterError) -> None:
        """Remember that a raster cannot be used any more."""
        self._broken.setdefault(location, error)

    def error(self, location: str) -> RasterError | None:
        """Why a raster cannot be used, None while it can."""
        return self._broken.get(location)


def ten_metre_grid(task: Task, files: Files) -> Grid | None:
    """Find the 10 m grid that most value rasters of a product share; the others are marked as mismatched.

    None means that no value raster of the product can be opened.
    """
    grids: dict[str, Grid] = {}
    sensor = task.product.sensor
    finest = float(sensor.finest)
    for output in task.outputs:
        for role, location in (output.value.rasters if output.value else {}).items():
            try:
                grid = files.open(location).grid
            except RasterError:
                continue
            from_band = output.value is not None and output.value.kind is ValueKind.BANDS
            is_coarse = from_band and not sensor.is_finest(role) and grid.pixel_xy[0] > 1.5 * finest
            grids[location] = grid.refined(finest) if is_coarse else grid
    if not grids:
        return None
    # Rasters of 10 m know the grid best; a refined 20 m one counts only where there is no other.
    own = Counter(g for where, g in grids.items() if files.open(where).grid == g)
    common = (own or Counter(grids.values())).most_common(1)[0][0]
    for location, grid in grids.items():
        if files.open(location).grid == grid and grid != common:
            files.fail(location, GridMismatchError(f"{location} has another grid than the other rasters: {grid}."))
    return common


class Coarse:
    """The rasters of a task on other grids than the 10 m one, decoded where a plan needs them.

    Parameters
    ----------
    files, grid
        The task's rasters and its 10 m grid.
    plan
        The pixel plan on that grid.
    layouts
        Remembers which blocks are touched.
    """

    def __init__(self, files: Files, grid: Grid, plan: PixelPlan, layouts: Layouts) -> None:
        self._files, self._grid, self._plan, self._layouts = files, grid, plan, layouts
        self._margin: dict[str, int] = {}
        self._extra: dict[str, PixelPlan] = {}
        self._images: dict[str, Image] = {}

    def want(self, location: str, margin: int, plan: PixelPlan | None = None) -> None:
        """Announce a raster, so that it is decoded once with the largest margin, and for a second plan's pixels."""
        self._margin[location] = max(margin, self._margin.get(location, 0))
        if plan is not None:
            self._extra[location] = plan

    def raster(self, location: str) -> Raster:
        """Return the open raster, if it covers the ground of the 10 m grid.

        Raises
        ------
        RasterError
            If it cannot be opened or lies elsewhere.
        """
        raster = self._files.open(location)
        if not raster.grid.covers(self._grid):
            error = GridMismatchError(f"{location} does not cover the 10 m rasters ({self._grid}): {raster.grid}.")
            self._files.fail(location, error)
            raise error
        return raster

    def image(self, location: str, dtype: type[np.generic] | None) -> Image:
        """Decode a raster where it is needed; elsewhere the array is 0.

        Parameters
        ----------
        location
            A raster that has been announced by `want`.
        dtype
            The type it must have; None takes any.

        Returns
        -------
        numpy.ndarray
            (rows, columns) of the whole raster. Untouched parts cost no memory: they are pages nobody wrote.
        """
        if location not in self._images:
            raster = self.raster(location)
            check_type(raster, dtype)
            touched = self._layouts.touched(self._plan, raster.grid, raster.block_shape, self._margin[location])
            if location in self._extra:
                touched = touched | self._layouts.touched(self._extra[location], raster.grid, raster.block_shape)
            image = np.zeros(raster.grid.shape, raster.dtype)
            try:
                for r, a, b in spans(touched, 0, touched.shape[0]):
                    read_blocks(raster, r, a, b, image, 0)
            except UnreadableError as error:
                self._files.fail(location, error)
                raise
            self._images[location] = image
        return self._images[location]

    def forget_but(self, locations: Iterable[str]) -> None:
        """Give back the memory of all decoded rasters but some."""
        kept = set(locations)
        self._images = {where: image for where, image in self._images.items() if where in kept}

    def stored(self, source: MaskSource) -> tuple[Grid, npt.NDArray[np.uint8]] | None:
        """Return a stored mask as it is, not 0 where masked, if it holds bytes; None where it is another mask."""
        location = source.rasters.get("mask")
        image = None if location is None else self.image(location, None)
        if location is None or image is None or image.dtype != np.uint8:
            return None
        return self.raster(location).grid, image.view(np.uint8)

    def mask(self, mask: Mask, source: MaskSource, radiometry: Radiometry | None) -> tuple[Grid, Iterator[Window]]:
        """Return the grid of a mask, and the mask in windows: True where masked, wherever the plan has pixels."""
        if "mask" in source.rasters:
            location = source.rasters["mask"]
            raster, image = self.raster(location), self.image(location, None)
            return raster.grid, ((*w, image[w] > 0) for w in self._touched_windows(raster))  # type: ignore[operator]
        images: dict[str, Image] = {}
        for name, location in source.rasters.items():
            images[name] = self.image(location, np.dtype(mask.sensor.dtype_of(name)).type)
        first = self.raster(source.rasters[mask.inputs[0]])
        if any(image.shape != first.grid.shape for image in images.values()):
            where = ", ".join(source.rasters.values())
            raise GridMismatchError(f"The rasters of the mask {mask.name} differ in shape: {where}.")
        return first.grid, (
            (rows, columns, _compute(mask, images, rows, columns, radiometry))
            for rows, columns in self._touched_windows(first)
        )

    def _touched_windows(self, raster: Raster) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the stretches of blocks where the plan has pixels."""
        high, wide = raster.block_shape
        touched = self._layouts.touched(self._plan, raster.grid, raster.block_shape)
        rows, columns = raster.grid.shape
        for r, a, b in spans(touched, 0, touched.shape[0]):
            yield slice(r * high, min((r + 1) * high, rows)), slice(a * wide, min(b * wide, columns))


def _compute(
    mask: Mask, images: Mapping[str, Image], rows: slice, columns: slice, radiometry: Radiometry | None
) -> Bools:
    """Compute a mask in a window from its inputs within reach."""
    top, left = max(rows.start - mask.reach, 0), max(columns.start - mask.reach, 0)
    outer = slice(top, rows.stop + mask.reach), slice(left, columns.stop + mask.reach)
    window: dict[str, Image] = {name: image[outer] for name, image in images.items()}
    if radiometry is not None:
        offsets, quantification = radiometry.offsets, radiometry.quantification
        window |= {b: reflectance(window[b], offsets[b], quantification, mask.sensor) for b in mask.bands}
    inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return mask.compute(window)[inner]


def read_blocks(raster: Raster, row: int, first: int, last: int, image: Image, row0: int) -> None:
    """Read the blocks first..last (exclusive) of a block row into an image whose first row is the raster's `row0`."""
    high, wide = raster.block_shape
    rows = (row * high, min((row + 1) * high, raster.grid.shape[0]))
    columns = (first * wide, min(last * wide, raster.grid.shape[1]))
    raster.read(rows, columns, image[rows[0] - row0 : rows[1] - row0, columns[0] : columns[1]])


def check_scale(raster: Raster) -> None:
    """Raise `UnreadableError` if an index raster declares another scale than that of stored values."""
    factor, summand = raster.scale
    if summand != 0 or not (factor == 1 or math.isclose(factor, 1 / SCALE)):
        raise UnreadableError(
            f"{raster.location} is scaled by {factor:g}, but index rasters hold values times {SCALE}."
        )


def check_type(raster: Raster, dtype: type[np.generic] | None) -> None:
    """Raise `UnreadableError` if a raster holds another type than its role asks for."""
    if dtype is not None and raster.dtype != np.dtype(dtype):
        raise UnreadableError(f"{raster.location} holds {raster.dtype} values, but {np.dtype(dtype)} are expected.")


def nodata_of(raster: Raster) -> int:
    """Return the no-data value of a stored index raster: the declared one, else that of its make."""
    if raster.nodata is not None:
        return int(raster.nodata)
    return NODATA if raster.location.endswith(".tif") else LEGACY_NODATA
