"""One task: one acquisition, every index and mask asked of it, each raster opened and each block read once.

20 m rasters are decoded first and kept for the task; 10 m rasters stream by in strips. Of each, only the pixels of
features are collected, side by side per feature; formulas, masks and statistics then work on those alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition.mask_bits import MaskPlanes
from sen2chain.acquisition.open_rasters import Coarse, Files, ten_metre_grid
from sen2chain.acquisition.values import Buffer, ValueRasters, locations, value_key
from sen2chain.errors import GridMismatchError, RasterError, UnreadableError
from sen2chain.extract.batches import OutputStatistics, failed_batch, make_batch
from sen2chain.masks import SCL_CLASSES
from sen2chain.plan import MaskKind, ValueKind
from sen2chain.rasters import environment
from sen2chain.reasons import Reason
from sen2chain.zonal import Tally, gather
from sen2chain.zonal.statistics import scl_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.acquisition.strips import Group, Runs
    from sen2chain.coverage import Coverage
    from sen2chain.extract.batches import RowRules
    from sen2chain.extract.coverages import Coverages
    from sen2chain.grid import Grid
    from sen2chain.plan import Output, Task
    from sen2chain.products import Radiometry
    from sen2chain.rows import Batch

    Array = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]

# Pixels whose values are held at once; formulas and masks of more would take much memory for nothing.
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """What a task gave."""

    task: Task
    """The task."""
    grid: Grid | None
    """The product's 10 m grid; None when no raster could be opened."""
    batches: tuple[Batch, ...]
    """One for each output of the task, in that order."""
    error: BaseException | None = None
    """What made the whole task fail each time it was tried."""


def extract(task: Task, coverages: Coverages, rules: RowRules) -> TaskResult:
    """Run one task in this thread.

    Whatever is wrong with a file ends as a reason of the outputs that need it; the others are complete.
    """
    with environment(), ExitStack() as stack:
        files = Files(stack, task.details.verifier() if task.verify else None)
        return _Extraction(task, coverages, rules, files).run()


@dataclass(slots=True, eq=False)
class _Pixels:
    """What lies under collected pixels."""

    outputs: dict[int, tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], int]] = field(default_factory=dict)
    """Position of an output in the task -> values, bits of masks, and the bit of its mask."""
    classes: npt.NDArray[np.uint8] | None = None
    """SCL classes, where they are asked for."""


@dataclass(slots=True, eq=False)
class _Large:
    """What is known so far of a very large feature."""

    tallies: dict[int, Tally] = field(default_factory=dict)
    """Position of an output in the task -> its pixels by value."""
    inside: float = 0.0
    """Pixels (area) inside the raster."""
    classes: Floats = field(default_factory=lambda: np.zeros(len(SCL_CLASSES) + 1))
    """Pixels (area) by SCL class."""


class _Extraction:
    """The state of one task while it runs."""

    def __init__(self, task: Task, coverages: Coverages, rules: RowRules, files: Files) -> None:
        self.task, self.coverages, self.rules, self.files = task, coverages, rules, files
        self.failures: dict[int, RasterError] = {}
        self.results: dict[int, OutputStatistics] = {}
        self.notes: list[str] = []
        self.large: dict[int, _Large] = {}

    def run(self) -> TaskResult:
        task = self.task
        radiometry = self._read_radiometry()
        grid = ten_metre_grid(task, self.files)
        coverage = None
        if grid is not None:
            coverage = self.coverages.get(grid, task.product.tile)
            if len(coverage.plan.row) and self._alive():
                self._extract(grid, coverage, radiometry)
        self._alive()  # whatever failed last
        batches = tuple(
            self._failed(i)
            if coverage is None or output.reason or i in self.failures
            else make_batch(
                task.product,
                output,
                coverage,
                self.results.pop(i, None),
                self.coverages.layer,
                self.rules,
                " ".join(self.notes),
            )
            for i, output in enumerate(task.outputs)
        )
        return TaskResult(task, grid, batches)

    def _read_radiometry(self) -> Radiometry | None:
        """Read scale and offsets if anything is computed from bands."""
        needing = [
            i
            for i, o in enumerate(self.task.outputs)
            if (o.value is not None and o.value.kind is ValueKind.BANDS)
            or (o.clouds is not None and "B11" in o.clouds.rasters)
        ]
        if not needing:
            return None
        try:
            for location in self.task.details.inputs.values():
                self.files.verify(location)
            return self.task.details.radiometry()
        except UnreadableError as error:
            self.failures |= dict.fromkeys(needing, error)
            return None

    def _alive(self) -> list[tuple[int, Output]]:
        """Return the outputs that can still be made; those that need a broken raster fail here."""
        alive = []
        for i, output in enumerate(self.task.outputs):
            needs = locations(output) + (list(output.clouds.rasters.values()) if output.clouds else [])
            error = next((e for where in needs if (e := self.files.error(where)) is not None), None)
            if error is not None:
                self.failures.setdefault(i, error)
            if output.reason is None and i not in self.failures:
                alive.append((i, output))
        return alive

    def _failed(self, i: int) -> Batch:
        output = self.task.outputs[i]
        reason, detail = output.reason, output.detail
        if reason is None:
            error = self.failures[i]
            reason = Reason.GRID_MISMATCH if isinstance(error, GridMismatchError) else Reason.UNREADABLE
            detail = str(error)
        return failed_batch(self.task.product, output, reason, detail, self.coverages.layer, self.rules)

    def _extract(self, grid: Grid, coverage: Coverage, radiometry: Radiometry | None) -> None:
        self.coverage, layouts = coverage, self.coverages.layouts
        coarse = Coarse(self.files, grid, coverage.plan, layouts)
        self.values = ValueRasters(self.files, grid, coarse, coverage.plan, layouts, radiometry)
        self.planes = MaskPlanes(grid)
        # First every raster is announced, so that each is decoded once for all its uses.
        self.values.announce(output for _, output in self._alive())
        for _, output in self._alive():
            for location in output.clouds.rasters.values() if output.clouds else ():
                coarse.want(location, output.mask.reach)
        cldprb_coverage = self._announce_cldprb(coarse)
        if self.task.scl:
            coarse.want(self.task.scl, 0)
        self.values.decode_coarse(output for _, output in self._alive())
        for i, output in self._alive():
            if output.clouds is not None and output.clouds.kind in {MaskKind.STORED, MaskKind.COMPUTED}:
                try:
                    self.planes.make(output.mask, output.clouds, coarse, radiometry)
                except RasterError as error:
                    self.failures[i] = error
        self.cldprb = self._average_cldprb(coarse, cldprb_coverage)
        self.scl = self._read_scl(coarse, grid)
        self.nearest = self.planes.look_up() + ([self.scl] if self.scl else [])
        coarse.forget_but(self.values.coarse_locations)
        self._stream()

    def _announce_cldprb(self, coarse: Coarse) -> Coverage | None:
        """Announce the cloud probability with the plan of its own 20 m pixels."""
        if self.task.cldprb is None:
            self.notes.append("cldprb is empty: the archive lacks MSK_CLDPRB_20m.")
            return None
        try:
            raster = coarse.raster(self.task.cldprb)
        except RasterError as error:
            self.notes.append(f"cldprb is empty: {error}")
            return None
        coverage = self.coverages.get(raster.grid, self.task.product.tile, "center")
        coarse.want(self.task.cldprb, 0, coverage.plan)
        return coverage

    def _average_cldprb(self, coarse: Coarse, coverage: Coverage | None) -> Floats:
        """Average the cloud probability of the features of the 10 m coverage over their 20 m pixels; NaN without."""
        mean = np.full(len(self.coverage.fid), np.nan)
        if coverage is None or self.task.cldprb is None:
            return mean
        try:
            image: Array = coarse.image(self.task.cldprb, np.uint8)
        except RasterError as error:
            self.notes.append(f"cldprb is empty: {error}")
            return mean
        plan, n = coverage.plan, len(coverage.fid)
        total, count = np.zeros((2, n), np.int64)
        gather.add_up(image, plan.feature, plan.row, plan.column, plan.length, total, count)
        _, own, other = np.intersect1d(self.coverage.fid, coverage.fid, assume_unique=True, return_indices=True)
        mean[own] = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)[other]
        return mean

    def _read_scl(self, coarse: Coarse, grid: Grid) -> tuple[Array, Array, Array] | None:
        """Decode the scene classification where its class shares are asked for."""
        if not self.rules.statistics.needs_scl:
            return None
        if self.task.scl is None:
            self.notes.append("SCL shares are empty: the archive lacks SCL.")
            return None
        try:
            image = coarse.image(self.task.scl, np.uint8)
        except RasterError as error:
            self.notes.append(f"SCL shares are empty: {error}")
            return None
        scl = coarse.raster(self.task.scl).grid
        return image, grid.nearest_in(scl, 0), grid.nearest_in(scl, 1)

    def _stream(self) -> None:
        """Read the 10 m rasters strip by strip, and reduce each group of features when it is complete."""
        height = self.values.strip_height()
        strips = self.coverages.layouts.strips(self.coverage.plan, height)
        runs_of: dict[int, list[Runs]] = {}
        for part in strips.parts:
            runs_of.setdefault(part.group, []).append(part)
        buffers: dict[int, Buffer] = {}
        strip = -1
        images: dict[str, Array] = {}
        for i, part in enumerate(strips.parts):
            if part.strip != strip:
                strip = part.strip
                wanted = {where for _, output in self._alive() for where in locations(output)}
                images = self.values.read_strip(strip * height, height, wanted)
            group = strips.groups[part.group]
            buffer = buffers.setdefault(part.group, Buffer())
            self.values.collect(part, group.size, images, strip * height, buffer)
            self._collect_nearest(part, group.size, buffer)
            if group.is_piece:
                self._tally(group, [part], buffers.pop(part.group))
            elif group.strip == strip and (i + 1 == len(strips.parts) or strips.parts[i + 1].group != part.group):
                self._reduce(group, runs_of[part.group], buffers.pop(part.group))
        self._finish_tallies()

    def _collect_nearest(self, part: Runs, size: int, buffer: Buffer) -> None:
        """Look up masks and classes under the pixels of runs."""
        if not buffer.nearest:
            buffer.nearest = [np.empty(size, np.uint8) for _ in self.nearest]
        for (image, rows, columns), out in zip(self.nearest, buffer.nearest, strict=True):
            gather.take_nearest(image, rows, columns, part.row, part.column, part.length, part.start, out)

    def _reduce(self, group: Group, runs: list[Runs], buffer: Buffer) -> None:
        """Turn the collected pixels of a group into statistics of every output, some features at a time."""
        first = 0
        while first < len(group.features):
            begin = group.offsets[first]
            last = max(int(np.searchsorted(group.offsets, begin + _AT_ONCE, side="right")) - 1, first + 1)
            end = group.offsets[last]
            stretch = buffer.between(begin, end)
            offsets = group.offsets[first : last + 1] - begin
            features = group.features[first:last]
            pixels = self._measure([r.between(begin, end) for r in runs], int(end - begin), stretch)
            shared = {"outside": self._outside(features, offsets, stretch.weights), "cldprb": self.cldprb[features]}
            shared |= self._class_shares(pixels, offsets, stretch.weights)
            for i, (value, cloud, bit) in pixels.outputs.items():
                found = self.rules.statistics.reduce(value, cloud, bit, offsets, stretch.weights)
                self._keep(i, features, found | shared)
            first = last

    def _keep(self, i: int, features: Array, found: dict[str, Floats]) -> None:
        """Keep what becomes a column of an output's rows."""
        columns = ("count", "invalid", "outside", "nbcld", "cldprb", *self.rules.statistics.columns)
        self.results.setdefault(i, OutputStatistics()).add(features, {name: found[name] for name in columns})

    def _tally(self, group: Group, runs: list[Runs], buffer: Buffer) -> None:
        """Count the collected pixels of a piece of a very large feature by value."""
        (feature,) = group.features.tolist()
        starts = runs[0].start
        first = 0
        while first < len(starts):
            last = max(int(np.searchsorted(starts, starts[first] + _AT_ONCE)), first + 1)
            begin, end = int(starts[first]), int(starts[last]) if last < len(starts) else group.size
            stretch = buffer.between(begin, end)
            pixels = self._measure([r.between(begin, end) for r in runs], end - begin, stretch)
            whole = self.large.setdefault(feature, _Large())
            whole.inside += end - begin if stretch.weights is None else float(stretch.weights.sum(dtype=np.float64))
            if pixels.classes is not None:
                whole.classes += _count_classes(pixels.classes, np.array([0, end - begin]), stretch.weights)[0]
            for i, (value, cloud, bit) in pixels.outputs.items():
                tally = whole.tallies.setdefault(i, Tally(weighted=stretch.weights is not None))
                tally.add(value, cloud, bit, stretch.weights)
            first = last

    def _finish_tallies(self) -> None:
        """Turn the tallies of very large features into statistics."""
        for feature, whole in self.large.items():
            features = np.array([feature])
            total = self.coverage.plan.total[features]
            shared = {"outside": _without_rounding(total - whole.inside, total), "cldprb": self.cldprb[features]}
            if self.rules.statistics.needs_scl:
                shared |= _as_shares(whole.classes[None, :] if self.scl else None, 1)
            for i, tally in whole.tallies.items():
                self._keep(i, features, tally.reduce(self.rules.statistics) | shared)

    def _measure(self, runs: list[tuple[Array, Array, Array, Array]], size: int, buffer: Buffer) -> _Pixels:
        """Give values, clouds and classes of every output at collected pixels."""
        alive = self._alive()
        values = self.values.values((output for _, output in alive), runs, size, buffer)
        pixels = _Pixels(classes=buffer.nearest[-1] if self.scl else None)
        for i, output in alive:
            value = values[value_key(output)]
            cloud, bit = self.planes.cloud(output.mask, buffer.nearest, size)
            if output.value is not None and output.value.kind is ValueKind.MASKED:
                value, cloud = self.values.removed_by_mask(output, value, cloud, bit, buffer)
                bit = 1
            pixels.outputs[i] = (value, cloud, bit)
        return pixels

    def _outside(self, features: Array, offsets: Array, weights: npt.NDArray[np.float32] | None) -> Floats:
        """Pixels (area) of each feature that lie outside the raster."""
        total: Floats = self.coverage.plan.total[features]
        if weights is None:
            return total - np.diff(offsets)
        return _without_rounding(total - np.add.reduceat(weights.astype(np.float64), offsets[:-1]), total)

    def _class_shares(
        self, pixels: _Pixels, offsets: Array, weights: npt.NDArray[np.float32] | None
    ) -> dict[str, Floats]:
        """Shares of the SCL classes, where they are asked for."""
        if not self.rules.statistics.needs_scl:
            return {}
        counts = None if pixels.classes is None else _count_classes(pixels.classes, offsets, weights)
        return _as_shares(counts, len(offsets) - 1)


def _count_classes(classes: Array, offsets: Array, weights: npt.NDArray[np.float32] | None) -> Floats:
    own = np.zeros(0, np.float32) if weights is None else weights
    return gather.class_sums(classes, offsets, own, len(SCL_CLASSES))


def _as_shares(counts: Floats | None, n_features: int) -> dict[str, Floats]:
    """Divide the counts of SCL classes by all pixels; NaN where there are no counts."""
    names = scl_columns()
    if counts is None:
        return {name: np.full(n_features, np.nan) for name in names}
    whole = counts.sum(axis=1)
    return {name: counts[:, c] / whole for c, name in enumerate(names)}


def _without_rounding(outside: Floats, total: Floats) -> Floats:
    """Take for 0 what is only the rounding of sums in another order."""
    return np.where(outside < 1e-9 * total, 0.0, outside)
