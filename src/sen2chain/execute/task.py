"""One task: one acquisition, every index and mask asked of it, each raster opened and each block read once.

20 m rasters are decoded first and kept for the task; 10 m rasters stream by in strips. Of each, only the pixels of
features are collected, side by side per feature; formulas, masks and statistics then work on those alone.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.errors import GridMismatchError, RasterError, UnreadableError
from sen2chain.execute.inputs import Coarse, Files, check_type, nodata_of, read_blocks, ten_metre_grid
from sen2chain.execute.rows import Extracted, failed_batch, make_batch
from sen2chain.execute.strips import spans
from sen2chain.indices import NODATA, reflectance
from sen2chain.library import read_metadata
from sen2chain.masks import SCL_CLASSES
from sen2chain.plan import MaskKind, ValueKind
from sen2chain.rasters import environment
from sen2chain.records import Reason
from sen2chain.zonal import gather
from sen2chain.zonal.statistics import scl_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage import Coverage
    from sen2chain.execute.coverages import Coverages
    from sen2chain.execute.rows import RowRules
    from sen2chain.execute.strips import Group, Runs, Strips
    from sen2chain.grid import Grid
    from sen2chain.library import ProductMetadata
    from sen2chain.plan import Output, Task
    from sen2chain.records import Batch

    Array = npt.NDArray[Any]

# Formulas work on stretches of this many pixels, so that their steps stay in the processor's cache.
_STRETCH = 1 << 15
_MASKS_PER_PLANE = 8


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """What a task gave."""

    task: Task
    """The task."""
    grid: Grid | None
    """The product's 10 m grid; None when no raster could be opened."""
    batches: tuple[Batch, ...]
    """One for each output of the task, in that order."""


def extract(task: Task, coverages: Coverages, rules: RowRules) -> TaskResult:
    """Run one task in this thread.

    Whatever is wrong with a file ends as a reason of the outputs that need it; the others are complete.
    """
    with environment(), ExitStack() as stack:
        return _Extraction(task, coverages, rules, Files(stack)).run()


@dataclass(slots=True, eq=False)
class _Plane:
    """Up to eight masks of one grid as bits of one byte."""

    grid: Grid
    bits: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class _Buffers:
    """Collected pixels of one group."""

    fine: dict[str, Array] = field(default_factory=dict)
    """Location of a 10 m raster -> its values."""
    weights: npt.NDArray[np.float32] | None = None
    """Weights of the pixels."""


class _Extraction:
    """The state of one task while it runs."""

    def __init__(self, task: Task, coverages: Coverages, rules: RowRules, files: Files) -> None:
        self.task, self.coverages, self.rules, self.files = task, coverages, rules, files
        self.failures: dict[int, RasterError] = {}
        self.results: dict[int, Extracted] = {}
        self.metadata: ProductMetadata | None = None

    def run(self) -> TaskResult:
        task = self.task
        self._check_metadata()
        grid = ten_metre_grid(task, self.files)
        if grid is None:
            self._fail_broken()
            return TaskResult(task, None, tuple(self._failed(i) for i in range(len(task.outputs))))
        coverage = self.coverages.get(grid, task.product.tile)
        if len(coverage.plan.row):
            self._prepare(grid, coverage)
            self._stream()
        self._fail_broken()
        batches = tuple(
            self._failed(i)
            if output.reason or i in self.failures
            else make_batch(task.product, output, coverage, self.results.get(i), self.rules, self.note)
            for i, output in enumerate(task.outputs)
        )
        return TaskResult(task, grid, batches)

    note = ""
    """What could not be had although rows are complete."""

    def _failed(self, i: int) -> Batch:
        output = self.task.outputs[i]
        error = self.failures.get(i)
        reason, detail = output.reason, output.detail
        if reason is None:
            reason = Reason.GRID_MISMATCH if isinstance(error, GridMismatchError) else Reason.UNREADABLE
            detail = str(error)
        # Features that have no geometry, or lie elsewhere, have none of their pixels in this product anyway.
        return failed_batch(self.task.product, output, reason, detail, self.coverages.geometries, self.rules)

    def _check_metadata(self) -> None:
        """Read offsets if anything is computed from bands."""
        needing = [
            i
            for i, o in enumerate(self.task.outputs)
            if (o.value is not None and o.value.kind is ValueKind.BANDS)
            or (o.clouds is not None and "B11" in o.clouds.rasters)
        ]
        if not needing:
            return
        try:
            self.metadata = read_metadata(self.task.metadata or "")
        except UnreadableError as error:
            self.failures |= dict.fromkeys(needing, error)

    def _fail_broken(self) -> None:
        """Fail the outputs that need a raster that cannot be used."""
        for i, output in enumerate(self.task.outputs):
            for location in self._needs(output):
                if (error := self.files.error(location)) is not None:
                    self.failures.setdefault(i, error)

    @staticmethod
    def _needs(output: Output) -> list[str]:
        """Locations without which an output cannot be made."""
        value = list(output.value.rasters.values()) if output.value else []
        return value + (list(output.clouds.rasters.values()) if output.clouds else [])

    def _alive(self) -> list[tuple[int, Output]]:
        self._fail_broken()
        return [(i, o) for i, o in enumerate(self.task.outputs) if o.reason is None and i not in self.failures]

    def _prepare(self, grid: Grid, coverage: Coverage) -> None:
        """Sort the rasters into 10 m and coarser ones, decode the coarser ones, compute the masks."""
        self.grid, self.coverage, self.plan = grid, coverage, coverage.plan
        self.coarse = Coarse(self.files, grid, self.plan, self.coverages)
        self.fine: list[str] = []
        for _, output in self._alive():
            assert output.value is not None  # noqa: S101  # an output without a reason has a value
            for location in output.value.rasters.values():
                if self.files.open(location).grid == grid:
                    if location not in self.fine:
                        self.fine.append(location)
                else:
                    self.coarse.want(location, 1)
            for location in output.clouds.rasters.values() if output.clouds else ():
                self.coarse.want(location, output.mask.reach)
        self._read_cldprb_plan()
        if self.task.scl:
            self.coarse.want(self.task.scl, 0)
        self._check_fine()
        self._decode_coarse_bands()
        self._make_masks()
        self._sum_cldprb()
        self._read_scl()

    def _check_fine(self) -> None:
        for _, output in self._alive():
            value = output.value
            for location in value.rasters.values() if value else ():
                if location in self.fine and value:
                    try:
                        check_type(self.files.open(location), np.uint16 if value.kind is ValueKind.BANDS else np.int16)
                    except RasterError as error:
                        self.files.fail(location, error)

    def _decode_coarse_bands(self) -> None:
        """Decode 20 m bands; how they interpolate is the same for all of a grid."""
        self.bilinear: dict[str, tuple[Array, Array, Array, Array]] = {}
        for _, output in self._alive():
            for location in output.value.rasters.values() if output.value else ():
                if location in self.fine or location in self.bilinear:
                    continue
                try:
                    self.coarse.image(location, np.uint16)
                except RasterError as error:
                    self.files.fail(location, error)
                    continue
                raster = self.coarse.raster(location).grid
                rows, columns = self.grid.bilinear_in(raster, 0), self.grid.bilinear_in(raster, 1)
                self.bilinear[location] = (rows.first, rows.share, columns.first, columns.share)

    def _make_masks(self) -> None:
        """Compute or read each mask once and put it on a plane."""
        self.planes: list[_Plane] = []
        self.place: dict[int, tuple[int, int]] = {}
        made: dict[str, tuple[int, int]] = {}
        filled: list[int] = []
        for i, output in self._alive():
            if output.clouds is None or output.clouds.kind is MaskKind.IN_VALUE:
                continue
            name = output.mask.name
            if name not in made:
                try:
                    image, grid = self.coarse.mask(output.mask, output.clouds, self.metadata)
                except RasterError as error:
                    self.failures[i] = error
                    continue
                p = next((k for k, plane in enumerate(self.planes) if plane.grid == grid and filled[k] < 8), None)
                if p is None:
                    p = len(self.planes)
                    rows, columns = self.grid.nearest_in(grid, 0), self.grid.nearest_in(grid, 1)
                    self.planes.append(_Plane(grid, np.zeros(grid.shape, np.uint8), rows, columns))
                    filled.append(0)
                self.planes[p].bits |= image.astype(np.uint8) << np.uint8(filled[p])
                made[name] = (p, 1 << filled[p])
                filled[p] += 1
            self.place[i] = made[name]

    def _read_cldprb_plan(self) -> None:
        """Announce the cloud probability with the plan of its own 20 m pixels."""
        self.cldprb_coverage: Coverage | None = None
        if self.task.cldprb is None:
            return
        try:
            raster = self.coarse.raster(self.task.cldprb)
        except RasterError as error:
            self.note = f"cldprb is empty: {error}"
            return
        self.cldprb_coverage = self.coverages.get(raster.grid, self.task.product.tile, "center")
        self.coarse.want(self.task.cldprb, 0, self.cldprb_coverage.plan)

    def _sum_cldprb(self) -> None:
        """Average the cloud probability of every feature over its 20 m pixels."""
        self.cldprb = np.full(len(self.coverages.geometries), np.nan)
        if self.cldprb_coverage is None or self.task.cldprb is None:
            return
        try:
            image = self.coarse.image(self.task.cldprb, np.uint8)
        except RasterError as error:
            self.note = f"cldprb is empty: {error}"
            return
        plan = self.cldprb_coverage.plan
        n = len(self.cldprb_coverage.fid)
        total, count = gather.sums(image, plan.feature, plan.row, plan.column, plan.length, n)  # type: ignore[arg-type]
        mean = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
        self.cldprb[self.cldprb_coverage.fid] = mean

    def _read_scl(self) -> None:
        """Decode the scene classification where its class shares are asked for."""
        self.scl: tuple[Array, Array, Array] | None = None
        if self.task.scl is None:
            return
        try:
            image = self.coarse.image(self.task.scl, np.uint8)
        except RasterError as error:
            self.note = f"SCL shares are empty: {error}"
            return
        grid = self.coarse.raster(self.task.scl).grid
        self.scl = (image, self.grid.nearest_in(grid, 0), self.grid.nearest_in(grid, 1))

    def _stream(self) -> None:
        """Read the 10 m rasters strip by strip, and reduce each group of features when it is complete."""
        heights = [self.files.open(where).block_shape[0] for where in self.fine if not self.files.error(where)]
        height = min(math.lcm(*heights), self.grid.shape[0]) if heights else 1024
        strips = self.coverages.strips(self.plan, height)
        buffers: dict[int, _Buffers] = {}
        strip, images = -1, {}
        for i, part in enumerate(strips.parts):
            if part.strip != strip:
                strip, images = part.strip, self._read_strip(part.strip, height)
            group = strips.groups[part.group]
            buffer = buffers.setdefault(part.group, _Buffers())
            self._collect(part, group, images, strip * height, buffer)
            is_last_of_strip = i + 1 == len(strips.parts) or strips.parts[i + 1].strip != strip
            if is_last_of_strip and strip in buffers:
                self._reduce(strips, strip, buffers.pop(strip))

    def _read_strip(self, strip: int, height: int) -> dict[str, Array]:
        """Decode the touched blocks of every 10 m raster in a strip."""
        images: dict[str, Array] = {}
        alive = {location for _, output in self._alive() for location in self._needs(output)}
        for location in self.fine:
            if location not in alive:
                continue
            raster = self.files.open(location)
            high = raster.block_shape[0]
            touched = self.coverages.touched(self.plan, raster.grid, raster.block_shape)
            rows = min(height, self.grid.shape[0] - strip * height)
            image = np.zeros((rows, self.grid.shape[1]), raster.dtype)
            try:
                for r, a, b in spans(touched, strip * height // high, -(-(strip * height + rows) // high)):
                    read_blocks(raster, r, a, b, image, strip * height)
            except UnreadableError as error:
                self.files.fail(location, error)
                continue
            images[location] = image
        return images

    def _collect(self, part: Runs, group: Group, images: dict[str, Array], row0: int, buffer: _Buffers) -> None:
        """Copy the pixels of runs from a strip into their group's buffer."""
        for location, image in images.items():
            if location not in buffer.fine:
                buffer.fine[location] = np.empty(group.size, image.dtype)
            gather.take(image, row0, 0, part.row, part.column, part.length, part.start, buffer.fine[location])
        if part.head is not None and part.tail is not None and part.own is not None:
            if buffer.weights is None:
                buffer.weights = np.empty(group.size, np.float32)
            weights = self.plan.weights
            assert weights is not None  # noqa: S101  # heads and tails come with weights
            gather.take_weights(part.head, part.tail, part.own, weights, part.length, part.start, buffer.weights)

    def _reduce(self, strips: Strips, g: int, buffer: _Buffers) -> None:
        """Turn the collected pixels of a group into statistics of every output."""
        group = strips.groups[g]
        runs = [part for part in strips.parts if part.group == g]
        alive = self._alive()
        values = self._values(alive, runs, group, buffer)
        clouds = []
        for plane in self.planes:
            cloud = np.zeros(group.size, np.uint8)
            for r in runs:
                gather.take_nearest(plane.bits, plane.rows, plane.columns, r.row, r.column, r.length, r.start, cloud)
            clouds.append(cloud)
        clear = np.zeros(group.size, np.uint8)
        shares = self._class_shares(runs, group, buffer)
        fid = self.coverage.fid[group.features]
        for i, output in alive:
            value = values[output.index.name, self._value_of(output)]
            p, bit = self.place.get(i, (-1, 1))
            cloud = clouds[p] if p >= 0 else clear
            if output.value is not None and output.value.kind is ValueKind.MASKED:
                value, cloud, bit = self._unmasked(output, value, cloud, bit, buffer)
            found = self.rules.statistics.reduce(value, cloud, bit, group.offsets, buffer.weights)
            found |= shares
            found["outside"] = self._outside(group, buffer)
            found["cldprb"] = self.cldprb[fid]
            self.results.setdefault(i, Extracted()).add(fid, found)

    def _outside(self, group: Group, buffer: _Buffers) -> npt.NDArray[np.float64]:
        """Pixels (area) of each feature that lie outside the raster."""
        total = self.plan.total[group.features]
        if buffer.weights is None:
            return total - np.diff(group.offsets)
        outside = total - np.add.reduceat(buffer.weights.astype(np.float64), group.offsets[:-1])
        outside[outside < 1e-9 * total] = 0.0  # rounding of sums in another order
        return outside

    @staticmethod
    def _value_of(output: Output) -> str:
        """Tell apart two sources of one index in a task: a masked one is another for each mask."""
        return output.value.rasters.get("value", "") if output.value else ""

    def _values(
        self, alive: list[tuple[int, Output]], runs: list[Runs], group: Group, buffer: _Buffers
    ) -> dict[tuple[str, str], npt.NDArray[np.int16]]:
        """Make the stored values of every index at the collected pixels."""
        values: dict[tuple[str, str], npt.NDArray[np.int16]] = {}
        bands: dict[str, str] = {}
        computed = []
        for _, output in alive:
            key = (output.index.name, self._value_of(output))
            if key in values or output.value is None:
                continue
            if output.value.kind is ValueKind.BANDS:
                bands |= output.value.rasters
                computed.append(output.index)
                values[key] = np.empty(group.size, np.int16)
            else:
                raw = buffer.fine[key[1]]
                nodata = nodata_of(self.files.open(key[1]))
                values[key] = raw if nodata == NODATA else np.where(raw == nodata, np.int16(NODATA), raw)
        if not computed:
            return values
        dns = {band: self._digital_numbers(where, runs, group, buffer) for band, where in bands.items()}
        metadata = self.metadata
        assert metadata is not None  # noqa: S101  # else the outputs from bands have failed
        for a in range(0, group.size, _STRETCH):
            b = min(a + _STRETCH, group.size)
            refl = {
                band: reflectance(dn[a:b], metadata.offsets[band], metadata.quantification) for band, dn in dns.items()
            }
            for index in computed:
                values[index.name, ""][a:b] = index.compute(refl)
        return values

    def _digital_numbers(self, location: str, runs: list[Runs], group: Group, buffer: _Buffers) -> Array:
        """Return the collected digital numbers of a band; those of a 20 m band are interpolated and float."""
        if location not in self.bilinear:
            return buffer.fine[location]
        out = np.empty(group.size)
        image: Array = self.coarse.image(location, np.uint16)
        maps = self.bilinear[location]
        for p in runs:
            gather.take_bilinear(image, *maps, p.row, p.column, p.length, p.start, out)
        return out

    def _unmasked(
        self, output: Output, value: npt.NDArray[np.int16], cloud: Array, bit: int, buffer: _Buffers
    ) -> tuple[npt.NDArray[np.int16], Array, int]:
        """Tell what the mask removed from a masked index: where the unmasked raster, or else the mask, says so."""
        gone = value == NODATA
        location = output.value.rasters.get("unmasked") if output.value else None
        if location is None:
            removed = gone & ((cloud & bit) > 0)
        else:
            removed = gone & (buffer.fine[location] != nodata_of(self.files.open(location)))
        # The kernel takes a pixel for cloud when it has a value, whatever that is, and its bit.
        return np.where(removed, np.int16(0), value), removed.astype(np.uint8), 1

    def _class_shares(self, runs: list[Runs], group: Group, buffer: _Buffers) -> dict[str, npt.NDArray[np.float64]]:
        """Shares of the SCL classes, where they are asked for."""
        if not self.rules.statistics.needs_scl:
            return {}
        names = scl_columns()
        if self.scl is None:
            return {name: np.full(len(group.features), np.nan) for name in names}
        classes = np.zeros(group.size, np.uint8)
        image, rows, columns = self.scl
        for p in runs:
            gather.take_nearest(image, rows, columns, p.row, p.column, p.length, p.start, classes)
        weights = np.zeros(0, np.float32) if buffer.weights is None else buffer.weights
        shares = gather.class_shares(classes, group.offsets, weights, len(SCL_CLASSES))
        return {name: shares[:, c] for c, name in enumerate(names)}
