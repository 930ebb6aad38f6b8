"""The engine of both classes: a checked request, a layer and an archive, and the rows of each acquisition in order."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sen2chain import settings
from sen2chain.archive import is_catalogue, open_library
from sen2chain.errors import LibraryError, RequestError
from sen2chain.export import column_definitions
from sen2chain.extract import Coverages, KeptPixels, RowRules, execute, failed_batch, workload_of
from sen2chain.index_series import LayerFeatures
from sen2chain.kept_source import KeptSource, Served, served
from sen2chain.plan import area_of, make_plan, masks_that_work, why_outside
from sen2chain.progress import (
    Shares,
    activity,
    counted,
    empty_results,
    is_watched,
    printable,
    progress,
    say,
    shows_progress,
)
from sen2chain.reasons import UNKEPT, Reason
from sen2chain.report import Report
from sen2chain.rows import Clipped
from sen2chain.spool import RowFormat, attribute_table
from sen2chain.store.inputs import Inputs, lost_while_read, pixels_lost_while_read
from sen2chain.vectors import datum_note, of_features

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from sen2chain.extract import Executor
    from sen2chain.extract.extraction import TaskResult
    from sen2chain.grid import Grid
    from sen2chain.plan import ExtractionPlan, KeepRequest, Request, Task
    from sen2chain.products import IdentityToken, ProductId, Source
    from sen2chain.rows import Batch
    from sen2chain.store import ExtractionFolder
    from sen2chain.vectors import Layer

_OPENED = ("source", "_planned")
_MANY_BYTES, _LONG = 1e9, 60.0
"""Bytes and seconds of transfer from servers beyond which a run says so before it begins."""


@dataclass(frozen=True, eq=False)
class Engine:
    """A request on a layer and an archive, ready to run.

    The archive is opened when it is first needed, so that compiling needs none.
    """

    request: Request
    """Indices, masks, dates and row rules."""
    layer: Layer
    """The polygons."""
    executor: Executor
    """How tasks are run: one by one, in threads or on a Dask cluster."""
    library: str | Path | Source | None = None
    """A Sen2Chain library or a source, None for the library of the user's home."""
    safe: str | Path | None = None
    """A folder of SAFE products instead."""
    quiet: bool = False
    """Whether to show no progress."""
    id_field: str | None = None
    """The attribute, by its name in the layer, that is the user's own key of features; None for none."""
    name_fields: tuple[str, ...] = ()
    """The attributes, by their names in the layer, that name features in pictures."""
    pixels_from: ExtractionFolder | None = None
    """The layer's folder whose kept pixels are read where they suffice; None reads the archive alone."""

    bands: tuple[str, ...] | None = None
    """Bands whose pixels are asked for beside the outputs, with the scene classification; None: neither is."""

    keep: KeepRequest | None = None
    """The pixels to keep; None keeps none."""

    @cached_property
    def source(self) -> Source:
        """The source of products: the archive, behind kept pixels where these are to be read.

        A catalogue is asked anew, for the cloud cover of the request alone. Kept pixels need no archive: where none is
        named, and there is none in the home, they serve alone.

        Raises
        ------
        LibraryError
            If there is no archive at the place that is named, or none in the home and no kept pixels.
        """
        if self.pixels_from is None:
            return self._open_archive()
        try:
            archive = self._open_archive()
        except LibraryError as error:
            if how := self._how_alone:
                raise LibraryError(f"{error} {how}") from error
            return KeptSource(self.pixels_from, None, "No archive is at hand, so kept pixels alone serve.")
        return KeptSource(self.pixels_from, archive)

    @property
    def _how_alone(self) -> str:
        """How to use kept pixels alone, a sentence; empty where no archive is named."""
        own = "stac (--stac)" if is_catalogue(self.library) else "library (--library)"
        places = {own: self.library, "safe (--safe)": self.safe}
        named = " and ".join(name for name, place in places.items() if place is not None)
        return f"Leave {named} out to use kept pixels alone." if named else ""

    def _open_archive(self) -> Source:
        return open_library(self.library, self.safe, cover=(self.request.cover_min, self.request.cover_max))

    @property
    def archive_alone(self) -> Source:
        """The archive without kept pixels.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        source = self.source
        if not isinstance(source, KeptSource):
            return source
        if source.archive is None:
            raise LibraryError(
                f"{source.why_alone} Pictures show what is around the features, too: name the archive (library, "
                "--library), or leave them out (--quicklooks, --chips)."
            )
        return source.archive

    @property
    def has_catalogue(self) -> bool:
        """Whether the archive is a STAC catalogue."""
        source = self.source
        return is_catalogue(source.archive if isinstance(source, KeptSource) else source)

    @property
    def archive(self) -> str:
        """The source of products in words."""
        try:
            return self.source.describe()
        except LibraryError:
            return "no archive at hand"

    @property
    def plan(self) -> ExtractionPlan:
        """All requested acquisitions as tasks."""
        return self._planned[0]

    @cached_property
    def _planned(self) -> tuple[ExtractionPlan, Served]:
        """The plan, and what kept pixels serve of it."""
        source, counts = self.source, Served()
        with activity("looking for products", quiet=self.quiet):
            try:
                found = make_plan(self.request, source, self.layer, self.bands, self.keep)
            except LibraryError as error:  # a catalogue that cannot be reached
                if isinstance(source, KeptSource) and self._how_alone:
                    raise LibraryError(f"{error} {self._how_alone}") from error
                raise
            if isinstance(source, KeptSource):
                found, counts = served(found, source, self.coverages(), self.request)
        source.save()
        if self.has_catalogue:
            self._check_masks(source, found)
        return found, counts

    @property
    def notes_on_kept_pixels(self) -> list[str]:
        """Sentences on what kept pixels serve, and, after a run, on those that turned out not to."""
        source = self.source
        return self._planned[1].sentences(source) if isinstance(source, KeptSource) else []

    def renew_notes(self, report: Report, before: Sequence[str]) -> None:
        """Put the sentences on kept pixels in the place of those from before a run, which has found out more.

        Parameters
        ----------
        report
            The report of the run.
        before
            What `notes_on_kept_pixels` was then.
        """
        place = report.notes.index(before[0]) if before else len(report.notes)
        rest = [note for note in report.notes if note not in before]
        report.notes[:] = [*rest[:place], *self.notes_on_kept_pixels, *rest[place:]]

    def _check_masks(self, source: Source, plan: ExtractionPlan) -> None:
        """Make sure that each mask can be had of some product of a catalogue, before any pixel is asked for.

        An archive may get the missing rasters later; a provider that has no cloud probability never does.

        Raises
        ------
        RequestError
            If not; the message names masks that work.
        """
        request = self.request
        for mask in request.masks:
            reasons = {o.reason for task in plan.tasks for o in task.outputs if o.mask == mask}
            if None in reasons or Reason.MASK_INPUTS_MISSING not in reasons:
                continue
            area = area_of(self.layer, request.buffer)
            products = [p for tile in plan.tiles for p in source.acquisitions(tile, request.first, request.last, area)]
            lacking = [name for name in mask.inputs if not any(name in product.bands for product in products)]
            needs = " and ".join(lacking or mask.inputs) or "a stored raster"
            error = RequestError(
                f"{mask.name} needs {needs}, which no product of the {source.describe()} has; masks that work: "
                f"{', '.join(masks_that_work(products))}."
            )
            error.parameter = "masks"
            raise error

    def forget_archive(self) -> None:
        """Open the archive again when it is next needed."""
        for name in _OPENED:
            self.__dict__.pop(name, None)

    def on(self, layer: Layer) -> Engine:
        """Return an engine of the same request on another copy of the layer."""
        # A shapefile cuts names of attributes, but keeps their order.
        proper, names = (map(str, known.attributes_proper) for known in (self.layer, layer))
        place = dict(zip(proper, names, strict=False))
        found = [name if name in layer.attributes else place.get(name, name) for name in self._fields]
        id_field = found.pop() if self.id_field else None
        other = replace(self, layer=layer, id_field=id_field, name_fields=tuple(found))
        other.__dict__.update({name: self.__dict__[name] for name in _OPENED if name in self.__dict__})
        return other

    def for_pixels(self, bands: tuple[str, ...], executor: Executor) -> Engine:
        """Return an engine of the same request whose tasks name some bands and the scene classification too."""
        other = replace(self, bands=bands, executor=executor, keep=None)
        other.__dict__.update({"source": self.__dict__["source"]} if "source" in self.__dict__ else {})
        return other

    @property
    def _fields(self) -> tuple[str, ...]:
        """Attributes that name features, and last the user's own key where there is one."""
        return (*self.name_fields, *([self.id_field] if self.id_field else []))

    @cached_property
    def features(self) -> LayerFeatures:
        """The features, with their names."""
        named = dict(zip(map(str, self.layer.attributes), map(str, self.attributes), strict=True))
        id_field = named[self.id_field] if self.id_field else None
        return LayerFeatures(self.layer, self.attributes, id_field, tuple(named[name] for name in self.name_fields))

    def run(
        self,
        tasks: Sequence[Task],
        seen: Mapping[str, Counter[Grid]] | None = None,
        title: str = "extracting",
        inputs: Inputs | None = None,
        coverages: Coverages | None = None,
    ) -> Generator[TaskResult]:
        """Run tasks and yield their results in order; close it, so that nothing goes on after an error.

        Files are looked at before a task is handed on, and again when its rows are in: rows of files that were changed
        in between may be of either, so they are dropped, with that as their reason.

        Parameters
        ----------
        tasks
            All of the plan's, or a part of them.
        seen
            How many products of each tile had which grid in earlier runs.
        title
            What the progress bar says.
        inputs
            Keeps the identities of the files that rows come from; None where they are not needed later.
        coverages
            The layer's pixels; None computes them where they are not saved.
        """
        self._tell_transfer(tasks)
        files = inputs or Inputs(self.source)
        with progress(title, len(tasks), quiet=self.quiet) as step:
            shares = Shares(step, len(tasks))

            def advanced(task: Task, share: float) -> None:
                shares.advance(task.product, share)

            told = advanced if shows_progress(quiet=self.quiet) else None
            results = execute(tasks, coverages or self.coverages(), self.rules, self.executor, seen, files.note, told)
            with closing(results):
                for result in results:
                    self._note_what_is_lacking(result)
                    changed = files.changed(result.task, digest=inputs is not None)
                    yield self._without_mixed_rows(result, changed) if changed else result
                    shares.end(result.task.product)

    def _note_what_is_lacking(self, result: TaskResult) -> None:
        """Note that kept pixels did not suffice for an acquisition, as the run has found out."""
        if result.error is not None:
            return
        if result.given_up is not None:
            self._planned[1].given_up[str(result.task.product)] = result.given_up
        elif any(batch.reasons.get(reason) for batch in result.batches for reason in UNKEPT):
            self.note_lack(result.task.product)

    def note_lack(self, product: ProductId) -> None:
        """Note that something which is asked for of an acquisition is not kept, where kept pixels alone serve."""
        self._planned[1].note_lack(str(product))

    def note_rows_left_out(self, batch: Batch) -> None:
        """Note that rows of an acquisition were left out, since kept pixels lack those of another one."""
        if any(batch.reasons.get(reason) for reason in UNKEPT):
            self.note_lack(batch.product)

    @property
    def requests_at_once(self) -> int:
        """Requests to servers that are in flight at once."""
        access = self.source.reading.access
        return access.at_once if access is not None else 1

    def _tell_transfer(self, tasks: Sequence[Task]) -> None:
        """Say on a terminal, before a long run begins, how much comes from servers; headers of a few files are read."""
        if self.source.reading.access is None or not is_watched(quiet=self.quiet):
            return
        work = workload_of(tasks, self.coverages(), quiet=self.quiet)
        if work.fetched > _MANY_BYTES or work.transfer_seconds(self.requests_at_once) > _LONG:
            say(work.transfer(self.requests_at_once), quiet=self.quiet)

    def _without_mixed_rows(self, result: TaskResult, changed: Mapping[str, IdentityToken]) -> TaskResult:
        """Drop the rows of outputs that were read from files while those changed."""
        batches = []
        for output, batch in zip(result.task.outputs, result.batches, strict=True):
            lost = (
                []
                if output.reason
                else lost_while_read(result.task, output, changed, Clipped.taken_from(batch.error)[0])
            )
            if not lost:
                batches.append(batch)
                continue
            detail = f"{', '.join(lost)} of {result.task.product} changed while being read; run again."
            batches.append(failed_batch(result.task.product, output, Reason.CHANGED, detail, self.layer, self.rules))
        kept, lost = result.kept, pixels_lost_while_read(result.task, changed)
        if kept is not None and lost:
            detail = f"{', '.join(lost)} of {result.task.product} changed while being read; run again."
            kept = KeptPixels(lacking=dict.fromkeys(result.task.keep.rasters if result.task.keep else (), detail))
        return replace(result, batches=tuple(batches), kept=kept)

    def coverages(self) -> Coverages:
        """Return the layer's pixels, to be computed where they are not saved."""
        request = self.request
        folder = settings.cache_dir() / "coverage"
        return Coverages(self.layer, rule=request.pixels, buffer=request.buffer, folder=folder)

    @property
    def rules(self) -> RowRules:
        """Which features become rows, with which columns."""
        request = self.request
        return RowRules(
            request.statistics,
            min_valid=request.min_valid,
            in_index_units=request.units == "index",
            keep_empty=request.keep_empty,
        )

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """Names of each index and each mask it is extracted under."""
        return [(index.name, mask.name) for index in self.request.indices for mask in self.request.masks]

    @property
    def attributes(self) -> pd.DataFrame:
        """Attributes of the layer, those named like a statistic of this run with a prefix."""
        return self.layer.attributes.rename(columns={c: f"attr_{c}" for c in self.request.statistics.columns})

    @property
    def definitions(self) -> dict[str, dict[str, str]]:
        """Long name and unit of each column of numbers."""
        return column_definitions(self.request.statistics, in_index_units=self.request.units == "index")

    def known_report(self) -> Report:
        """Return `first_report`, but of a catalogue that was not asked yet only what is known without asking it.

        So what was extracted is shown and compiled without a network.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        is_asked = "_planned" in self.__dict__ or not self.has_catalogue
        return self.first_report() if is_asked else self._report_on_layer()

    def _report_on_layer(self) -> Report:
        """Return a report with notes on the layer alone."""
        report, layer = Report(), self.layer
        report.notes += layer.notes
        for what, fids in (("repaired", layer.repaired), ("without geometry", layer.null), ("empty", layer.empty)):
            if fids:
                report.notes.append(of_features(fids, len(layer), f"are {what}"))
        report.notes += filter(None, [datum_note(layer), self._note_on_keys()])
        return report

    def first_report(self) -> Report:
        """Return the report before any raster is read: notes on the layer, unusable products and far tiles."""
        layer, plan = self.layer, self.plan
        report = self._report_on_layer()
        if plan.outside_cover:
            report.notes.append(f"{plan.outside_cover} products are left out because of their cloud cover.")
        report.notes += self.notes_on_far_features()
        report.notes += self.notes_on_kept_pixels
        report.add_skipped(self.source.skipped(), len(layer))
        nowhere = {Reason.NULL_GEOMETRY: len(layer.null), Reason.EMPTY_GEOMETRY: len(layer.empty)}
        elsewhere = {Reason.OUTSIDE_TILE: len(layer) - sum(nowhere.values())}
        for tile in plan.far_tiles:
            for index, mask in self.outputs:
                report.add_far_tile(index, mask, tile, nowhere | elsewhere)
        return report

    def notes_on_far_features(self) -> list[str]:
        """Return a sentence on features that lie near none of the tiles; an empty list where there are none."""
        far = self.plan.far_features
        what = f"{'lies' if len(far) == 1 else 'lie'} near no tile of the {self.source.reading.kind}"
        return [of_features(far, len(self.layer), what)] if far else []

    def _note_on_keys(self) -> str:
        """Return a sentence on values of the user's own key that several features have; empty where there are none."""
        repeated = self.features.repeated if self.id_field else []
        if not repeated:
            return ""
        values = ", ".join(value or "(empty)" for value in repeated[:5]) + (", ..." if len(repeated) > 5 else "")
        verb = "belongs" if len(repeated) == 1 else "belong"
        belong = f"{counted(len(repeated), 'value')} {verb} to several features"
        return f"{self.id_field} is not unique: {belong} ({values}); a join on it would mix them up."

    def unverified(self, tasks: Iterable[Task]) -> list[str]:
        """Return a sentence on the products that have no checksums to compare; an empty list where all have."""
        count = sum(task.cannot_be_verified for task in tasks)
        what = "product has" if count == 1 else "products have"
        return [f"{count} {what} no manifest.safe, so checksums could not be compared."] if count else []

    def raw_format(self) -> RowFormat:
        """Return the columns of files of raw rows, which stay the documented ones, whatever the user's own key is."""
        return replace(self.row_format(), id_field="")

    def row_format(self, **options: bool) -> RowFormat:
        """Return the columns of this request's rows.

        Parameters
        ----------
        **options
            Those of `RowFormat`.
        """
        return RowFormat(
            self.request.statistics.columns,
            attribute_table(self.attributes),
            features=len(self.layer),
            whole_counts=self.request.pixels != "weighted",
            id_field=self.features.id_field or "",
            **options,
        )

    def why_nothing(self, report: Report) -> str:
        """Return the most likely cause why there is no row, and how to mend it; empty where there are rows."""
        if report.rows:
            return ""
        plan = self.plan
        if not plan.tiles and not plan.far_tiles:
            return self._why_no_tile(report)
        if not plan.tiles:
            return why_outside(self.layer, plan.far_tiles, self.request.sensor, self.source.reading.kind)
        return report.main_cause() if plan.tasks else self._why_no_task(report)

    def warn_of_nothing(self, report: Report) -> None:
        """Log why there is no row, where there is none; Python shows that where logging is not configured."""
        if not report.rows and empty_results.isEnabledFor(logging.WARNING):
            empty_results.warning("%s", printable(f"Nothing was extracted. {self.why_nothing(report)}".strip()))

    def _why_no_tile(self, report: Report) -> str:
        """Return why the source has no product at all."""
        found, where = report.skipped_cause(), self.source.describe()
        if self.has_catalogue:
            return f"The {where} has no item for this layer, these dates and this cloud cover. {found}".rstrip()
        if isinstance(self.source, KeptSource) and self.source.archive is None:
            first, last = self.request.first or "the beginning", self.request.last or "today"
            sentence = f"No {where} are of this layer from {first} to {last}; check the dates, or name the archive."
            return f"{sentence} {found}".rstrip()
        return f"The archive ({where}) holds no usable product. {found or 'Check --library, --safe or --stac.'}"

    def _why_no_task(self, report: Report) -> str:
        """Return why no product of the tiles is within the limits of the request."""
        request, plan = self.request, self.plan
        first, last = request.first or "the beginning", request.last or "today"
        tiles = ", ".join(plan.tiles[:8]) + (", ..." if len(plan.tiles) > 8 else "")
        if plan.outside_cover:
            return (
                f"All {plan.outside_cover} products of {tiles} are outside the cloud cover "
                f"{request.cover_min} to {request.cover_max} %; widen cover_min and cover_max."
            )
        sentence = f"The {self.source.reading.kind} has no product of {tiles} from {first} to {last}"
        skipped = report.skipped_cause()
        return f"{sentence} that can be used. {skipped}" if skipped else f"{sentence}; check date_min and date_max."
