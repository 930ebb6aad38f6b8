"""One pass over one acquisition makes all of its rasters: indices, masks, and indices under masks.

Each raster of the product is opened once and each block of it decoded once, however many files are made. Masks are
computed first, on the grid of their inputs. Indices follow in stretches of some rows; while this thread computes and
writes one, idle threads decode the next. At the end the files are compressed, each in a thread, and get their names.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import AcquisitionReader, LayerSources, Layouts, OpenRasters, finest_grid
from sen2chain.acquisition.reader import AT_ONCE
from sen2chain.coverage import PixelPlan
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.indices import HIGHEST, LOWEST, NODATA
from sen2chain.parallel import Crew
from sen2chain.plan import MaskKind, MaskSource, ValueKind, ValueSource
from sen2chain.produce.cog_file import CogFile, Driver
from sen2chain.produce.product_file import FileKind
from sen2chain.produce.raster_inputs import describe, difference, index_inputs, mask_inputs, masked_inputs
from sen2chain.raster_tags import RasterTags
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.archive import LibrarySource
    from sen2chain.grid import Grid
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.produce.product_file import ProductFile
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.produce.raster_inputs import Inputs
    from sen2chain.products import Acquisition, Radiometry
    from sen2chain.sensor import Sensor

    Array = npt.NDArray[Any]

_STRIP_HEIGHT = 1024
"""Rows of a strip where no raster of the finest grid gives one; see `acquisition_bytes`."""


@dataclass(slots=True, eq=False)
class RasterPass:
    """The pass over one acquisition.

    Parameters
    ----------
    acquisition
        The acquisition.
    files
        The rasters to make. Their folders exist.
    request
        What was asked for.
    source
        The library, which tells whether inputs change.
    crew
        Threads that help.
    advanced
        Called with the decoded fraction, from any thread.
    check_on
        Called between stretches; raises an error to end the pass.
    """

    acquisition: Acquisition
    files: Sequence[ProductFile]
    request: ProductRequest
    source: LibrarySource
    crew: Crew = field(default_factory=Crew)
    advanced: Callable[[float], None] | None = None
    check_on: Callable[[], None] = lambda: None
    errors: dict[Path, RasterError] = field(default_factory=dict)
    """File -> why it cannot be made."""
    tags: dict[Path, RasterTags] = field(default_factory=dict)
    """File -> its tags."""
    made: list[Path] = field(default_factory=list)
    """Files that have got their names."""
    _inputs: dict[Path, Inputs] = field(default_factory=dict)
    _open: dict[Path, CogFile] = field(default_factory=dict)

    def run(self) -> None:
        """Make the files, in a thread of our own; afterwards `made` has those that were, and `errors` the others.

        Raises
        ------
        OutputError
            If the disk is full or a folder cannot be written. Files that got their names before it are whole.
        """
        try:
            with environment(self.acquisition.reading), ExitStack() as stack:
                self._read(stack)
                self._check_inputs()
                self._finish()
        finally:
            for file in self._open.values():
                file.drop()

    def _read(self, stack: ExitStack) -> None:
        """Read the acquisition and fill the files."""
        radiometry = self._describe()
        sources = self._sources()
        verifier = self.acquisition.details.verifier() if self.request.verify else None
        within = partial(environment, self.acquisition.reading)
        rasters = OpenRasters(stack, verifier, self.crew, within, self.advanced)
        grid = finest_grid(rasters, sources)
        sources = sources.without(lambda location: rasters.error(location) is not None)
        grid = grid or self._grid_of_masks(rasters, sources)
        self._fail_broken(rasters)
        if grid is None:
            return
        plan = whole_rows(grid, _strip_height(rasters, sources, grid))
        reader = AcquisitionReader(rasters, grid, plan, Layouts(), sources, radiometry)
        reader.decode()
        masks = self._masks(reader)
        self._fail_broken(rasters)
        if self._left(FileKind.INDEX, FileKind.MASKED):
            self._indices(reader, masks)
        self._fail_broken(rasters)

    def _describe(self) -> Radiometry | None:
        """Find the inputs of each file, make its tags, and read the radiometry where a file needs it."""
        radiometry: Radiometry | None = None
        needs = any(file.index is not None or (file.mask is not None and file.mask.bands) for file in self.files)
        error: RasterError | None = None
        if needs:
            try:
                radiometry = self.acquisition.details.radiometry()
            except UnreadableError as found:
                error = found
        version = metadata.version("sen2chain")
        for file in self.files:
            inputs = _inputs(self.acquisition, file)
            bands = [role for role in inputs if self.acquisition.id.sensor.band(role)]
            if isinstance(inputs, str) or (bands and error is not None):
                self.errors[file.path] = error or UnreadableError(str(inputs))
                continue
            self._inputs[file.path] = inputs
            known = radiometry if bands else None
            self.tags[file.path] = RasterTags(
                product=str(self.acquisition.id),
                name=file.name,
                definition=file.index.definition if file.index else "",
                mask=file.mask_name if file.index else "",
                precision=self.request.precision if file.index else 0.0,
                quantification=known.quantification if known else 0.0,
                offsets={band: known.offsets[band] for band in bands} if known else {},
                inputs=describe(inputs, self.source),
                version=version,
            )
        return radiometry

    def _left(self, *kinds: FileKind) -> list[ProductFile]:
        """Return the files of some kinds that can still be made."""
        return [file for file in self.files if file.kind in kinds and file.path not in self.errors]

    def _sources(self) -> LayerSources:
        """Return the layers to read."""
        bands = self.acquisition.bands
        indices: dict[tuple[str, str], tuple[Index, ValueSource]] = {}
        masks: dict[str, tuple[Mask, MaskSource]] = {}
        for file in self._left(*FileKind):
            if (index := file.index) is not None:
                rasters = {band: bands[band] for band in index.bands}
                indices[index.name, ""] = index, ValueSource(ValueKind.BANDS, rasters)
            if (mask := file.mask) is not None:
                inputs = self._inputs[file.path]
                if "mask" in inputs:
                    source = MaskSource(MaskKind.STORED, {"mask": inputs["mask"]}, mask.name)
                else:
                    source = MaskSource(MaskKind.COMPUTED, {name: bands[name] for name in mask.inputs}, mask.name)
                masks[mask.name] = mask, source
        return LayerSources(self.acquisition.id.sensor, indices=indices, masks=masks)

    def _grid_of_masks(self, rasters: OpenRasters, sources: LayerSources) -> Grid | None:
        """Return the grid of the first raster of a mask, where no band can be opened."""
        for _, source in sources.masks.values():
            for location in source.rasters.values():
                try:
                    return rasters.open(location).grid
                except RasterError:
                    continue
        return None

    def _fail_broken(self, rasters: OpenRasters) -> None:
        """Give up the files of which a raster is broken."""
        for file in self._left(*FileKind):
            for role, location in self._inputs[file.path].items():
                error = rasters.error(location) if role != "metadata" else None
                if error is not None:
                    self._give_up(file, error)
                    break

    def _give_up(self, file: ProductFile, error: RasterError) -> None:
        self.errors[file.path] = error
        if (begun := self._open.pop(file.path, None)) is not None:
            begun.drop()

    def _masks(self, reader: AcquisitionReader) -> dict[str, tuple[Grid, Array]]:
        """Write the masks, and return those that indices need: name -> grid and (rows, columns) of bool."""
        needed = {file.mask.name for file in self._left(FileKind.MASKED) if file.mask}
        found: dict[str, tuple[Grid, Array]] = {}
        for name in reader.sources.masks:
            image = None if name in reader.mask_errors else reader.mask_bits.image(name)
            for file in self._left(FileKind.MASK, FileKind.MASKED):
                if file.mask is None or file.mask.name != name:
                    continue
                if image is None:
                    self._give_up(file, reader.mask_errors[name])
                elif file.kind is FileKind.MASK:
                    grid, bits, bit = image
                    driver: Driver = "JP2OpenJPEG" if file.path.suffix == ".jp2" else "COG"
                    tags = self.tags[file.path].items()
                    out = CogFile(file.path, grid, np.uint8, tags, overviews="mode", driver=driver)
                    self._open[file.path] = out
                    out.write(((bits & bit) > 0).view(np.uint8))
            if image is not None and name in needed:
                grid, bits, bit = image
                found[name] = grid, (bits & bit) > 0
        return found

    def _indices(self, reader: AcquisitionReader, masks: Mapping[str, tuple[Grid, Array]]) -> None:
        """Read the bands and write the indices."""
        columns = reader.grid.shape[1]
        looked_up = {
            name: (image, reader.grid.nearest_in(grid, 0), reader.grid.nearest_in(grid, 1))
            for name, (grid, image) in masks.items()
        }
        for file in self._left(FileKind.INDEX, FileKind.MASKED):
            if (index := file.index) is not None:
                tags = self.tags[file.path].items()
                self._open[file.path] = CogFile(file.path, reader.grid, np.int16, tags, NODATA, 1 / index.scale)
        row = 0
        for pixels in reader.pixels(in_pieces=False, nearest=False):
            self.check_on()
            self._fail_broken(reader.rasters)
            left = self._left(FileKind.INDEX, FileKind.MASKED)
            wanted = {file.index.name: file.index for file in left if file.index}
            values = pixels.index_values([(name, "") for name in wanted])
            rows = pixels.size // columns
            rounded = {
                name: _rounded(values[name, ""].stored, index, self.request.precision).reshape(rows, columns)
                for name, index in wanted.items()
            }
            for file in left:
                assert file.index is not None  # noqa: S101  # of these kinds
                part = rounded[file.index.name]
                if file.mask is not None:
                    image, rows_of, columns_of = looked_up[file.mask.name]
                    clouds = image[np.ix_(rows_of[row : row + rows], columns_of)]
                    part = np.where(clouds, np.int16(NODATA), part)
                self._open[file.path].write(part)
            row += rows

    def _check_inputs(self) -> None:
        """Give up files whose inputs have changed since they were described."""
        for file in self._left(*FileKind):
            if changed := difference(self.tags[file.path].inputs, self._inputs[file.path], self.source):
                error = UnreadableError(f"{self.acquisition.id}: {changed} while it was read; run again.")
                self._give_up(file, error)

    def _finish(self) -> None:
        """Compress files in threads and give them their names."""
        pieces = [partial(self._finish_one, file) for file in self._open.values()]
        self.crew.begin(pieces, partial(environment, self.acquisition.reading)).finish()

    def _finish_one(self, file: CogFile) -> None:
        self.made.append(file.finish())


def _inputs(acquisition: Acquisition, file: ProductFile) -> Inputs | str:
    """Return the inputs of a file, or a sentence on what is missing."""
    if file.index is None:
        return mask_inputs(acquisition, file.mask) if file.mask else "There is nothing to make."
    if file.mask is None:
        return index_inputs(acquisition, file.index)
    return masked_inputs(acquisition, file.index, file.mask, acquisition.masks.get(file.mask_name, ""))


def _rounded(stored: Array, index: Index, precision: float) -> Array:
    """Round stored values to steps, half to even; no data stays."""
    step = round(precision * index.scale)
    if step <= 1:
        return stored
    values = np.rint(stored / step) * step
    # Beyond the range lies the nearest whole step inside of it.
    values = np.clip(values, math.ceil(LOWEST / step) * step, HIGHEST // step * step)
    return np.where(stored == NODATA, NODATA, values).astype(np.int16)


def _strip_height(rasters: OpenRasters, sources: LayerSources, grid: Grid) -> int:
    """Return the rows of a strip that holds whole units of decoding of every raster on the finest grid."""
    usable = [rasters.open(location) for location in sources.values() if rasters.error(location) is None]
    heights = [raster.strip_height for raster in usable if raster.grid == grid]
    return min(math.lcm(*heights), grid.shape[0]) if heights else _STRIP_HEIGHT


def whole_rows(grid: Grid, height: int) -> PixelPlan:
    """Return all pixels of a grid as a plan, in which each feature is some rows of one strip of `height` rows."""
    rows, columns = grid.shape
    at_once = max(1, min(AT_ONCE // columns, height))
    tops = [row for strip in range(0, rows, height) for row in range(strip, min(strip + height, rows), at_once)]
    heights = np.diff([*tops, rows])
    feature = np.repeat(np.arange(len(tops), dtype=np.int32), heights)
    row = np.arange(rows, dtype=np.int32)
    total = (heights * columns).astype(np.float64)
    return PixelPlan(grid, feature, row, np.zeros(rows, np.int32), np.full(rows, columns, np.int32), total)


def acquisition_bytes(files: Iterable[ProductFile], sensor: Sensor) -> int:
    """Return about how many bytes of memory the pass of a full tile takes for some files."""
    fine, coarse = set[str](), set[str]()
    indices = 0
    for file in files:
        inputs = [*(file.index.bands if file.index else ()), *(file.mask.inputs if file.mask else ())]
        indices += file.index is not None
        for name in inputs:
            (fine if sensor.is_finest(name) else coarse).add(name)
    columns = round((sensor.tiling.edge if sensor.tiling else 0) / sensor.finest)
    strip = _STRIP_HEIGHT * columns
    # Two images and the collected pixels of each fine band, coarse rasters as a whole with their interpolated rows.
    return (
        3 * len(fine) * 2 * strip
        + len(coarse) * (2 * (columns // 2) ** 2 + 8 * AT_ONCE)
        + indices * 8 * AT_ONCE
        + (128 << 20)
    )
