"""Extraction of one acquisition that keeps the pixels beside the statistics, from one decoding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.coverage import PLANNED
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.extract.extraction import Extraction, TaskResult
from sen2chain.extract.removed_features import mask_inputs
from sen2chain.indices import NODATA
from sen2chain.kept_source import KEPT_ALONE
from sen2chain.pixel_store import is_kept
from sen2chain.pixel_table.pixel_columns import UNKNOWN, WEIGHT
from sen2chain.pixel_table.pixel_records import PixelRecords
from sen2chain.plan import ValueKind
from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from sen2chain.acquisition import LayerSources, OpenRasters, Pixels
    from sen2chain.coverage import Coverage
    from sen2chain.extract import Coverages, RowRules
    from sen2chain.extract.extraction import Measured
    from sen2chain.masks import Mask
    from sen2chain.pixel_table.pixel_columns import PixelColumns
    from sen2chain.pixel_table.pixel_records import RecordRoom
    from sen2chain.plan import Output, Task
    from sen2chain.products import Radiometry

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class CollectedPixels:
    """Pixels of the features of one acquisition."""

    coverage: Coverage
    """The coverage whose plan they follow."""
    stored: Bools
    """(features of the coverage,) True for features with records."""
    records: PixelRecords
    """Their records, in the order of the plan."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Column that the product could not give -> why, a sentence."""
    partly: Mapping[str, str] = field(default_factory=dict)
    """Column that the product could not give for some of the features -> why, a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelTaskResult(TaskResult):
    """Result of one task with its pixels."""

    pixels: CollectedPixels | None = None
    """The pixels; None where no feature has any."""


class PixelExtraction(Extraction):
    """The state of one task whose pixels are kept.

    Parameters
    ----------
    task, coverages, rules, rasters
        As of `Extraction`. The task names the bands and the scene classification.
    columns
        What is collected.
    room
        Memory and folder for it.
    """

    def __init__(
        self,
        task: Task,
        coverages: Coverages,
        rules: RowRules,
        rasters: OpenRasters,
        *,
        columns: PixelColumns,
        room: RecordRoom,
    ) -> None:
        super().__init__(task, coverages, rules, rasters)
        self._columns, self._room = columns, room
        self._stored: Bools = np.zeros(0, np.bool_)
        self._records: PixelRecords | None = None
        self._filled: dict[int, int] = {}
        self._radiometry: Radiometry | None = None
        self._why_no_reflectance = ""
        self._unkept: dict[str, Bools] = {}  # band -> features whose pixels are not kept, though others' are

    def run(self) -> TaskResult:
        """Extract every output of the task, and collect the pixels."""
        self.rasters.assign(self.sensor, {where: band for band, where in self.task.bands.items()})
        self.rasters.expect(self.task.bands.values())
        done = super().run()
        pixels = None
        if self._records is not None:
            lacking = self._lacking()
            pixels = CollectedPixels(self.coverage, self._stored, self._records, lacking, self._partly(lacking))
        return PixelTaskResult(done.task, done.grid, done.batches, done.error, pixels=pixels)

    def _usable_bands(self) -> dict[str, str]:
        """Return band -> location of the bands that can be read."""
        usable = {}
        for band, where in self.task.bands.items():
            try:
                self.rasters.open(where)
            except RasterError:  # told by `_lacking`
                continue
            usable[band] = where
        return usable

    def _lacking(self) -> dict[str, str]:
        """Return the columns without values, and why."""
        found = {}
        for band in self._columns.bands:
            where = self.task.bands.get(band)
            error = None if where is None else self.rasters.error(where)
            if where is None:
                found[band] = self._no_raster(band, ",".join(self._columns.bands))
            elif error is not None or self._why_no_reflectance:
                found[band] = str(error or self._why_no_reflectance)
        for output, failure in ((o, self.failures.get(i)) for i, o in enumerate(self.task.outputs)):
            if output.mask in self._columns.masks and all(o.mask != output.mask for _, o in self._alive()):
                found.setdefault(self._columns.mask_column(output.mask), str(failure or output.detail))
        name = self._columns.classification
        if name and self.task.scl is None:
            found[name] = self._no_raster(name)
        elif name and (broken := self.reader.quality_errors.get(name)) is not None:
            found[name] = str(broken)
        return found

    def _partly(self, lacking: Mapping[str, str]) -> dict[str, str]:
        """Return the other columns that lack values of some features, and why."""
        unkept = {band: features for band, features in self._unkept.items() if band not in lacking}
        unkept |= {self._columns.mask_column(mask): unknown for mask, unknown in self._unknown_masks().items()}
        counts = {name: int(np.count_nonzero(features & self._stored)) for name, features in unkept.items()}
        return {
            name: f"needed pixels of {counted(count, 'feature')} are not kept; name an archive."
            for name, count in counts.items()
            if count
        }

    def _unknown_masks(self) -> dict[Mask, Bools]:
        """Return the masks that are not known of some features, of which their inputs were not kept."""
        found: dict[Mask, Bools] = {}
        unkept = {} if self.removed is None else self.removed.lacking
        for _, output in self._alive() if unkept else ():
            lacking = [unkept[where] for where in mask_inputs(output) if where in unkept]
            if lacking and output.mask in self._columns.masks:
                found[output.mask] = np.logical_or.reduce(lacking)
        return found

    def _no_raster(self, name: str, bands: str = "") -> str:
        """Return that there is no raster of a column, a sentence; `bands` are those to keep for all columns."""
        if self.task.reading != KEPT_ALONE:
            return f"the {self.task.reading.kind} lacks {name}."
        how = f", or keep them (sen2chain update --keep-pixels {bands})" if bands else ""
        return f"these pixels are not kept; name an archive{how}."

    def _needed(self) -> LayerSources:
        sources = super()._needed()
        return replace(sources, bands=self._usable_bands()) if self._wanted() else sources

    def _read_radiometry(self, outputs: list[tuple[int, Output]]) -> Radiometry | None:
        found = super()._read_radiometry(outputs)
        if found is None and self.task.bands and self._wanted():
            try:
                for location in self.task.details.inputs.values():
                    self.rasters.verify(location)
                found = self.task.details.radiometry()
            except UnreadableError as error:
                self._why_no_reflectance = str(error)
        self._radiometry = found
        return found

    def _restrict(self, cldprb_coverage: Coverage | None) -> None:
        super()._restrict(cldprb_coverage)
        features = self.coverage.state == PLANNED
        is_restricted = self.removed is not None and not self.removed.is_empty
        if self.removed is not None and is_restricted:
            features &= self.removed.needing(output for _, output in self._wanted())[0]
        for band, where in self._usable_bands().items():
            unkept = self._not_kept(where) & features
            if unkept.any() and not unkept[features].all():  # of all features: an error of the raster
                self._unkept[band] = unkept
                self.reader.need(where, features & ~unkept)
            elif is_restricted:
                self.reader.need(where, features)

    def _not_kept(self, location: str) -> Bools:
        """Return the features of which pixels of a band are not kept, where no archive has them."""
        if is_kept(location) and self.task.has_kept_pixels_alone:
            try:
                return self.reader.lacking(location)
            except RasterError as error:
                self.rasters.fail(location, error)
        return np.zeros(len(self.coverage.fid), np.bool_)

    def _measure(self, pixels: Pixels) -> dict[int, Measured]:
        found = super()._measure(pixels)
        self._collect(pixels, found)
        return found

    def _collect(self, pixels: Pixels, measured: dict[int, Measured]) -> None:
        """Store the pixels of the features that are not removed by every mask."""
        if self._records is None:
            self._records = self._begin()
        features = pixels.features
        kept = self._stored[features]
        if not kept.any():
            return
        records, lengths = np.zeros(pixels.size, self._columns.record_dtype), np.diff(pixels.offsets)
        self._fill(records, pixels, measured)
        for band, unkept in self._unkept.items():
            records[band][np.repeat(unkept[features], lengths)] = np.nan
        for mask, unknown in self._unknown_masks().items():
            records[self._columns.mask_column(mask)][np.repeat(unknown[features], lengths)] = UNKNOWN
        if not kept.all():
            records, lengths, features = records[np.repeat(kept, lengths)], lengths[kept], features[kept]
        places = self._records.starts[features]
        if pixels.is_piece:
            feature = int(features[0])
            places = places + self._filled.get(feature, 0)
            self._filled[feature] = self._filled.get(feature, 0) + pixels.size
        self._records.put(places, np.concatenate([[0], np.cumsum(lengths)]), records)

    def _begin(self) -> PixelRecords:
        """Begin the records of the features that are left of any output."""
        self._stored = self.coverage.state == PLANNED
        if self.removed is not None and self.removed.reasons:
            self._stored &= self.removed.needing(output for _, output in self._alive())[0]
        plan = self.coverage.plan
        count = np.bincount(plan.feature, weights=plan.length, minlength=len(self._stored)).astype(np.int64)
        return PixelRecords(np.where(self._stored, count, 0), self._columns.record_dtype, self._room)

    def _fill(self, records: Records, pixels: Pixels, measured: dict[int, Measured]) -> None:
        """Write the values of pixels into their records."""
        columns = self._columns
        readable = {} if self._radiometry is None else self.reader.sources.bands
        for band in columns.bands:
            where = readable.get(band)
            usable = where is not None and self.rasters.error(where) is None
            records[band] = pixels.reflectance(band) if usable else np.nan
        for index in columns.indices:
            records[index.name] = NODATA
        for i, (stored, cloud, bit, _) in measured.items():
            output = self.task.outputs[i]
            values = records[output.index.name]
            own = stored
            if output.value is not None and output.value.kind is ValueKind.MASKED:
                own = np.where((cloud & bit) > 0, np.int16(NODATA), stored)
            # Values differ between masks only where they come from masked rasters.
            records[output.index.name] = np.where(values == NODATA, own, values)
            if output.mask in columns.masks:
                records[columns.mask_column(output.mask)] |= ((cloud & bit) > 0).view(np.uint8)
        looked_up = {self.task.outputs[i].mask for i in measured}
        for _, output in self._alive():
            # It is not measured, as its mask removes every pixel of every feature.
            is_all = self.removed is not None and self.removed.is_all(output)
            if is_all and output.mask in columns.masks and output.mask not in looked_up:
                records[columns.mask_column(output.mask)] = 1
        name = columns.classification
        if name and self.task.scl is not None and name not in self.reader.quality_errors:
            records[name] = pixels.quality(name)
        if columns.weighted and pixels.weights is not None:
            records[WEIGHT] = pixels.weights
