"""Zonal statistics of one acquisition: its collected pixels become rows and reasons of every index under every mask."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from sen2chain.acquisition import AcquisitionReader, LayerSources, OpenRasters, finest_grid, index_key
from sen2chain.coverage import PLANNED
from sen2chain.errors import GridMismatchError, KeptPixelsError, PixelsNotKeptError, RasterError, UnreadableError
from sen2chain.extract.batches import COUNTED, OutputStatistics, failed_batch, make_batch, unknown_features
from sen2chain.extract.pixel_keeper import KeptPixels, PixelKeeper
from sen2chain.extract.removed_features import RemovedFeatures, mask_inputs
from sen2chain.indices import NODATA
from sen2chain.plan import MaskKind, ValueKind
from sen2chain.rasters import environment
from sen2chain.reasons import Reason
from sen2chain.zonal import Tally, gather

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sen2chain.acquisition import Pixels
    from sen2chain.coverage import Coverage
    from sen2chain.extract.batches import RowRules
    from sen2chain.extract.coverages import Coverages
    from sen2chain.grid import Grid
    from sen2chain.parallel import Crew
    from sen2chain.plan import Output, Task, ValueSource
    from sen2chain.products import Radiometry
    from sen2chain.rows import Batch

    Result = TypeVar("Result", bound="TaskResult")
    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float64]
    Begin = Callable[[Task, Coverages, RowRules, OpenRasters], "Extraction"]


_REASONS = (
    (GridMismatchError, Reason.GRID_MISMATCH),
    (PixelsNotKeptError, Reason.NOT_KEPT),
    (RasterError, Reason.UNREADABLE),
)
"""Kind of error -> the reason that it is; the first that fits."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """Result of one task."""

    task: Task
    """The task."""
    grid: Grid | None
    """The product's finest grid; None when no raster could be opened."""
    batches: tuple[Batch, ...]
    """One for each output of the task, in that order."""
    error: BaseException | None = None
    """The error with which the whole task failed each time it was tried; None where it ran."""
    kept: KeptPixels | None = None
    """The pixels to keep; None where the task has none."""
    given_up: KeptPixelsError | None = None
    """Why the archive was read in the place of kept pixels; None where it was not."""


def extract(
    task: Task,
    coverages: Coverages,
    rules: RowRules,
    crew: Crew | None = None,
    advanced: Callable[[float], None] | None = None,
    *,
    begin: Begin | None = None,
) -> TaskResult:
    """Run one task in this thread.

    An error of a raster becomes the reason of the outputs that need it; the other outputs are complete. Where kept
    pixels are damaged or lack what is needed, the archive is read instead, see `Task.otherwise`.

    Parameters
    ----------
    task
        The task.
    coverages, rules
        The layer's pixels, and which statistics become rows.
    crew
        Threads that help with decoding; None: there are none.
    advanced
        Called with the decoded fraction of the acquisition, from any thread; None: nobody asks.
    begin
        Makes the `Extraction` that runs; None is the class itself.

    Returns
    -------
    TaskResult
        Its task is the one that the rows come from: the given one, or its `Task.otherwise`.
    """

    def once(task: Task) -> tuple[TaskResult, KeptPixelsError | None]:
        reading = partial(environment, task.reading)
        with reading(), ExitStack() as stack:
            verifier = task.details.verifier() if task.verify else None
            rasters = OpenRasters(stack, verifier, crew, reading, advanced)
            extraction = (begin or Extraction)(task, coverages, rules, rasters)
            return extraction.run(), extraction.lacks_kept_pixels

    return on_kept_or_archive(task, once)


def on_kept_or_archive(task: Task, run: Callable[[Task], tuple[Result, KeptPixelsError | None]]) -> Result:
    """Run a task, and `Task.otherwise` in its place where kept pixels lack what it needs.

    Parameters
    ----------
    task
        The task.
    run
        Runs a task; returns its result, and how kept pixels were damaged or lacked something, None where they served.
    """
    result, lack = run(task)
    return result if task.otherwise is None or lack is None else replace(run(task.otherwise)[0], given_up=lack)


class Measured(NamedTuple):
    """Collected pixels of one output."""

    stored: npt.NDArray[np.int16]
    """(pixels,) stored index values, 32767 for no data."""
    cloud: Bytes
    """(pixels,) bits of masks."""
    bit: int
    """The bit of the output's mask."""
    clipped: npt.NDArray[np.int64]
    """Positions of valid pixels whose value lies beyond the stored range."""


@dataclass(slots=True, eq=False)
class _Large:
    """Counts of a very large feature, piece by piece."""

    classes: Floats
    """(classes + 1,) pixels (area) by class of the scene classification; the last are those of no class."""
    tallies: dict[int, Tally] = field(default_factory=dict)
    """Position of an output in the task -> its pixels by value."""
    clipped: Counter[int] = field(default_factory=Counter)
    """Position of an output in the task -> its pixels with clipped values."""
    inside: float = 0.0
    """Pixels (area) inside the raster."""


class Extraction:
    """The state of one task while it runs.

    Parameters
    ----------
    task, coverages, rules
        As for `extract`.
    rasters
        The open rasters of the acquisition.
    """

    def __init__(self, task: Task, coverages: Coverages, rules: RowRules, rasters: OpenRasters) -> None:
        self.task, self.coverages, self.rules, self.rasters = task, coverages, rules, rasters
        self.failures: dict[int, RasterError] = {}
        self.results: dict[int, OutputStatistics] = {}
        self.notes: list[str] = []
        self.large: dict[int, _Large] = {}
        self.removed: RemovedFeatures | None = None
        self.hidden: RemovedFeatures | None = None
        """With rows without values: what masks remove, so that it has no row with values whatever kept pixels lack."""
        self.keeper: PixelKeeper | None = None
        self.not_kept = "Nothing could be extracted from the product."
        self.radiometry: Radiometry | None = None
        self.sensor = task.product.sensor

    def run(self) -> TaskResult:
        """Extract every output of the task."""
        task = self.task
        quality = {task.cldprb: self.sensor.cloud_probability, task.scl: self.sensor.classification}
        self.rasters.assign(self.sensor, {where: name for where, name in quality.items() if where and name})
        if task.cldprb is not None:
            self.rasters.expect((task.cldprb,))
        if task.keep is not None:
            self.rasters.assign(self.sensor, {where: name for name, where in task.keep.rasters.items()})
            self.rasters.expect(task.keep.rasters.values())
        self.rasters.expect(LayerSources.of_outputs(task.outputs, task.product.sensor).locations())
        grid = finest_grid(self.rasters, LayerSources.of_outputs(task.outputs, task.product.sensor))
        coverage = None
        if grid is not None:
            coverage = self.coverages.get(grid, task.product.tile)
            if (len(coverage.plan.row) or task.keep is not None) and self._alive():
                self._extract(grid, coverage)
        self._alive()  # rasters may have failed in the last strip
        batches = tuple(
            self._failed(i) if coverage is None or output.reason or i in self.failures else self._batch(i, coverage)
            for i, output in enumerate(task.outputs)
        )
        return TaskResult(task, grid, batches, kept=self._kept())

    @property
    def lacks_kept_pixels(self) -> KeptPixelsError | None:
        """How kept pixels were damaged or did not hold what is needed, for rows or for one of their columns.

        None where they served. Damage is told before pixels that are not kept.
        """
        errors = (*self.rasters.errors, *self.failures.values())
        found = [error for error in errors if isinstance(error, KeptPixelsError)]
        return min(found, key=lambda error: isinstance(error, PixelsNotKeptError), default=None)

    def _read_radiometry(self, outputs: list[tuple[int, Output]]) -> Radiometry | None:
        """Read scale and offsets if anything of some outputs is computed from bands."""
        needing = [
            i
            for i, output in outputs
            if (output.value is not None and output.value.kind is ValueKind.BANDS) or _masks_by_bands(output)
        ]
        if not needing:
            return None
        try:
            for location in self.task.details.inputs.values():
                self.rasters.verify(location)
            radiometry = self.task.details.radiometry()
        except UnreadableError as error:
            self.failures |= dict.fromkeys(needing, error)
            return None
        if radiometry.note:
            self.notes.append(radiometry.note)
        self.radiometry = radiometry
        return radiometry

    def _kept(self) -> KeptPixels | None:
        """Return the pixels to keep."""
        if self.task.keep is None:
            return None
        if self.keeper is None:
            return KeptPixels(lacking=dict.fromkeys(self.task.keep.rasters, self.not_kept))
        return self.keeper.finish(self._any_radiometry)

    def _any_radiometry(self) -> Radiometry:
        """Return scale and offsets of the bands, whether rows need them or not."""
        if self.radiometry is not None:
            return self.radiometry
        for location in self.task.details.inputs.values():
            self.rasters.verify(location)
        return self.task.details.radiometry()

    def _begin_to_keep(self, grid: Grid) -> None:
        """Announce the pixels to keep, where the task has some."""
        if self.task.keep is None:
            return
        coverage = self.coverages.kept(grid, self.task.product.tile)
        try:
            self.keeper = PixelKeeper(self.task, self.task.keep, self.rasters, coverage)
        except KeptPixelsError as error:
            self.not_kept = str(error)
            return
        self.keeper.announce(self.reader)

    def _alive(self) -> list[tuple[int, Output]]:
        """Return the outputs that can still be made; those that need a broken raster fail here."""
        alive = []
        for i, output in enumerate(self.task.outputs):
            needs = [where for s in (output.value, output.clouds) if s is not None for where in s.rasters.values()]
            error = next((e for where in needs if (e := self.rasters.error(where)) is not None), None)
            if error is not None:
                self.failures.setdefault(i, error)
            if output.reason is None and i not in self.failures:
                alive.append((i, output))
        return alive

    def _batch(self, i: int, coverage: Coverage) -> Batch:
        output, layer, note = self.task.outputs[i], self.coverages.layer, " ".join(self.notes)
        removed = None if self.removed is None else self.removed.of(output)
        found = self.results.pop(i, None)
        batch = make_batch(self.task.product, output, coverage, found, layer, self.rules, note, removed)
        if self.hidden is None or batch.unknown is None:
            return batch
        hidden = coverage.fid[self.hidden.hides(output)]
        return replace(batch, unknown=np.setdiff1d(batch.unknown, hidden, assume_unique=True))

    def _failed(self, i: int) -> Batch:
        output = self.task.outputs[i]
        reason, detail = output.reason, output.detail
        if reason is None:
            error = self.failures[i]
            reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
            detail = str(error)
        unknown = unknown_features(self.task, output, self.coverages)
        return failed_batch(self.task.product, output, reason, detail, self.coverages.layer, self.rules, unknown)

    def _extract(self, grid: Grid, coverage: Coverage) -> None:
        self.coverage = coverage
        layouts = self.coverages.layouts
        # Where masks remove every feature, the offsets are not needed, and of a catalogue they may cost a request.
        early = any(_masks_by_bands(output) for _, output in self._alive())
        radiometry = self._read_radiometry(self._alive()) if early else None
        self.reader = AcquisitionReader(self.rasters, grid, coverage.plan, layouts, self._needed(), radiometry)
        cldprb_coverage = self._announce_cldprb()
        self._begin_to_keep(grid)
        unmasked = self._restrict_masks()
        self.reader.decode_masks()
        for i, output in self._alive():
            needs_mask = output.clouds is not None and output.clouds.kind in {MaskKind.STORED, MaskKind.COMPUTED}
            if needs_mask and (error := self.reader.mask_errors.get(output.mask.name)) is not None:
                self.failures[i] = error
        if not self.rules.keep_empty:  # rows without values tell the number of clouded pixels with a value
            outputs = [output for _, output in self._alive()]
            self.removed = RemovedFeatures.find(self.reader, coverage, outputs, self.sensor)
        if self.task.has_kept_pixels_alone:
            outputs = [output for _, output in self._alive()]
            if self.rules.keep_empty:
                hidden = RemovedFeatures.find(self.reader, coverage, outputs, self.sensor)
                self.hidden = replace(hidden, lacking=unmasked)
            removed = replace(self.removed or RemovedFeatures(coverage, {}), lacking=unmasked)
            self.removed = removed.with_lacking(self.reader, outputs)
        self._restrict(cldprb_coverage)
        if self.keeper is not None:
            self.keeper.restrict(self.reader, coverage, (output for _, output in self._alive()), self.removed)
        if not early:
            self.reader.set_radiometry(self._read_radiometry(self._wanted()))
        self.reader.sources = self._needed()
        self.reader.decode_values()
        if self.keeper is not None:
            self.keeper.take_coarse(self.reader)
        self.cldprb = self._average_cldprb(cldprb_coverage)
        self.has_classes = self._has_classes()
        if not self._wanted() and not self.reader.value_rasters.keeps_any:
            return
        with closing(self.reader.pixels()) as read:
            for pixels in read:
                if not self._wanted():
                    continue  # the strips are read for the pixels that are kept
                if pixels.is_piece:
                    self._tally(pixels)
                else:
                    self._reduce(pixels)
                self.reader.sources = self._needed()
        self._finish_tallies()

    def _wanted(self) -> list[tuple[int, Output]]:
        """Return the outputs that can still be made, without those of which masks remove all features."""
        return [(i, o) for i, o in self._alive() if self.removed is None or not self.removed.is_all(o)]

    def _restrict_masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Have masks computed without the features whose inputs were not kept, where no archive has the rest.

        Returns
        -------
        dict
            Location of an input -> (features of the coverage,) True for those that it lacks pixels of. Inputs that lack
            none, or all, are left out.
        """
        if not self.task.has_kept_pixels_alone:
            return {}
        found, planned = {}, self.coverage.state == PLANNED
        for location in dict.fromkeys(where for _, output in self._alive() for where in mask_inputs(output)):
            try:
                lacking = self.reader.lacking_for_masks(location)
            except RasterError as error:
                self.rasters.fail(location, error)
                continue
            if lacking.any() and not lacking[planned].all():
                self.reader.need(location, ~lacking)
                found[location] = lacking
        return found

    def _restrict(self, cldprb_coverage: Coverage | None) -> None:
        """Have nothing decoded for features that masks remove entirely."""
        if self.removed is None or self.removed.is_empty:
            return
        features, by_raster = self.removed.needing(output for _, output in self._wanted())
        for location, own in by_raster.items():
            self.reader.need(location, own)
        if self.task.cldprb is not None and cldprb_coverage is not None:
            self.reader.need(self.task.cldprb, features)
            fid = self.coverage.fid[features]
            self.reader.need(self.task.cldprb, np.isin(cldprb_coverage.fid, fid), cldprb_coverage.plan)

    def _needed(self) -> LayerSources:
        """Return the rasters of the outputs that are still wanted."""
        quality = {self.sensor.classification or "": self.task.scl} if self.task.scl else {}
        return LayerSources.of_outputs((o for _, o in self._wanted()), self.task.product.sensor, quality)

    def _announce_cldprb(self) -> Coverage | None:
        """Announce the cloud probability with the plan of its own pixels."""
        if self.task.cldprb is None:
            raster = self.sensor.quality_raster(self.sensor.cloud_probability)
            why = (
                f"the {self.task.reading.kind} lacks {raster.title or raster.name}"
                if raster
                else f"{self.sensor.name} has none"
            )
            self.notes.append(f"cldprb is empty: {why}.")
            return None
        try:
            grid = self.reader.coarse.raster(self.task.cldprb).grid
        except RasterError as error:
            self.notes.append(f"cldprb is empty: {error}")
            return None
        coverage = self.coverages.get(grid, self.task.product.tile, "center")
        self.reader.coarse.want(self.task.cldprb, 0, coverage.plan)
        return coverage

    def _average_cldprb(self, coverage: Coverage | None) -> Floats:
        """Average the cloud probability of the features of the coverage over the pixels of its raster; NaN without."""
        mean = np.full(len(self.coverage.fid), np.nan)
        if coverage is None or self.task.cldprb is None or not self._wanted():
            return mean
        try:
            image: Array = self.reader.coarse.image(self.task.cldprb, np.uint8)
        except RasterError as error:
            self.notes.append(f"cldprb is empty: {error}")
            return mean
        plan, n = coverage.plan, len(coverage.fid)
        total, count = np.zeros((2, n), np.int64)
        gather.add_up(image, plan.feature, plan.row, plan.column, plan.length, total, count)
        _, own, other = np.intersect1d(self.coverage.fid, coverage.fid, assume_unique=True, return_indices=True)
        mean[own] = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)[other]
        return mean

    def _has_classes(self) -> bool:
        """Whether the scene classification is there, where its class shares are asked for."""
        if not self.rules.statistics.needs_scl:
            return False
        name = self.sensor.classification or ""
        if self.task.scl is None:
            self.notes.append(f"{name} shares are empty: the {self.task.reading.kind} lacks {name}.")
            return False
        if (error := self.reader.quality_errors.get(name)) is not None:
            self.notes.append(f"{name} shares are empty: {error}")
            return False
        return True

    def _reduce(self, pixels: Pixels) -> None:
        """Turn the collected pixels of features into statistics of every output."""
        shared = {"outside": self._outside(pixels), "cldprb": self.cldprb[pixels.features]}
        shared |= self._class_shares(pixels)
        statistics = self.rules.statistics
        for i, (stored, cloud, bit, clipped) in self._measure(pixels).items():
            scale = self.task.outputs[i].index.scale
            found = statistics.reduce(stored, cloud, bit, pixels.offsets, pixels.weights, scale)
            found["clipped"] = _per_feature(clipped, pixels.offsets)
            self._keep(i, pixels.features, found | shared)

    def _keep(self, i: int, features: Array, found: dict[str, Floats]) -> None:
        """Keep the statistics of an output that become columns of its rows."""
        columns = (*COUNTED, "nbcld", "cldprb", *self.rules.statistics.columns)
        self.results.setdefault(i, OutputStatistics()).add(features, {name: found[name] for name in columns})

    def _tally(self, pixels: Pixels) -> None:
        """Count the collected pixels of a piece of a very large feature by value."""
        (feature,) = pixels.features.tolist()
        if feature not in self.large:
            self.large[feature] = _Large(np.zeros(len(self.rules.statistics.class_columns) + 1))
        whole = self.large[feature]
        weights = pixels.weights
        whole.inside += pixels.size if weights is None else float(weights.sum(dtype=np.float64))
        if self.has_classes:
            whole.classes += self._count_classes(pixels)[0]
        for i, (stored, cloud, bit, clipped) in self._measure(pixels).items():
            tally = whole.tallies.setdefault(i, Tally(weighted=weights is not None))
            tally.add(stored, cloud, bit, weights)
            whole.clipped[i] += len(clipped)

    def _finish_tallies(self) -> None:
        """Turn the tallies of very large features into statistics."""
        for feature, whole in self.large.items():
            features = np.array([feature])
            total = self.coverage.plan.total[features]
            shared = {"outside": _without_rounding(total - whole.inside, total), "cldprb": self.cldprb[features]}
            if self.rules.statistics.needs_scl:
                shared |= self._as_shares(whole.classes[None, :] if self.has_classes else None, 1)
            for i, tally in whole.tallies.items():
                found = tally.reduce(self.rules.statistics, self.task.outputs[i].index.scale)
                found["clipped"] = np.array([float(whole.clipped[i])])
                self._keep(i, features, found | shared)

    def _measure(self, pixels: Pixels) -> dict[int, Measured]:
        """Return the stored values and the mask of every output at collected pixels."""
        wanted = self._wanted()
        values = pixels.index_values(dict.fromkeys(index_key(output) for _, output in wanted))
        found: dict[int, Measured] = {}
        for i, output in wanted:
            (stored, clipped), (cloud, bit) = values[index_key(output)], pixels.mask(output.mask.name)
            if output.value is not None and output.value.kind is ValueKind.MASKED:
                stored, cloud = _removed_by_mask(output.value, pixels, stored, cloud, bit)
                bit = 1
            found[i] = Measured(stored, cloud, bit, clipped[(cloud[clipped] & bit) == 0])
        return found

    def _outside(self, pixels: Pixels) -> Floats:
        """Pixels (area) of each feature that lie outside the raster."""
        total: Floats = self.coverage.plan.total[pixels.features]
        offsets, weights = pixels.offsets, pixels.weights
        if weights is None:
            return total - np.diff(offsets)
        return _without_rounding(total - np.add.reduceat(weights.astype(np.float64), offsets[:-1]), total)

    def _class_shares(self, pixels: Pixels) -> dict[str, Floats]:
        """Shares of the classes of the scene classification, where they are asked for."""
        if not self.rules.statistics.needs_scl:
            return {}
        return self._as_shares(self._count_classes(pixels) if self.has_classes else None, len(pixels.offsets) - 1)

    def _count_classes(self, pixels: Pixels) -> Floats:
        own = np.zeros(0, np.float32) if pixels.weights is None else pixels.weights
        n_classes = len(self.rules.statistics.class_columns)
        return gather.class_sums(pixels.quality(self.sensor.classification or ""), pixels.offsets, own, n_classes)

    def _as_shares(self, counts: Floats | None, n_features: int) -> dict[str, Floats]:
        """Divide the counts of classes by all pixels; NaN where there are no counts."""
        names = self.rules.statistics.class_columns
        if counts is None:
            return {name: np.full(n_features, np.nan) for name in names}
        whole = counts.sum(axis=1)
        return {name: counts[:, c] / whole for c, name in enumerate(names)}


def _masks_by_bands(output: Output) -> bool:
    """Tell whether the mask of an output is computed from reflectance."""
    return output.clouds is not None and output.clouds.kind is MaskKind.COMPUTED and bool(output.mask.bands)


def _per_feature(positions: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> Floats:
    """Count pixels by feature: (features,) for ascending `offsets`, which have one more."""
    if len(positions) == 0:
        return np.zeros(len(offsets) - 1)
    feature = np.searchsorted(offsets, positions, side="right") - 1
    return np.bincount(feature, minlength=len(offsets) - 1).astype(np.float64)


def _removed_by_mask(
    source: ValueSource, pixels: Pixels, values: npt.NDArray[np.int16], cloud: Bytes, bit: int
) -> tuple[npt.NDArray[np.int16], Bytes]:
    """Find the pixels that the mask removed from a masked index: those with a value in the unmasked raster.

    Where there is no unmasked raster, they are those under the mask.

    Returns
    -------
    values, cloud
        As the kernels take them: a removed pixel has some value, and bit 1 set.
    """
    gone = values == NODATA
    location = source.rasters.get("unmasked")
    if location is None:
        removed = gone & ((cloud & bit) > 0)
    else:
        unmasked, nodata = pixels.stored_values(location)
        removed = gone & (unmasked != nodata)
    return np.where(removed, np.int16(0), values), removed.astype(np.uint8)


def _without_rounding(outside: Floats, total: Floats) -> Floats:
    """Replace differences by 0 that come from rounding sums in another order."""
    return np.where(outside < 1e-9 * total, 0.0, outside)
