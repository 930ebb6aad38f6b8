"""The update of a layer's folder: extract the images that are new, failed or changed, and write their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sen2chain.atomic import FileGroup
from sen2chain.errors import LibraryError
from sen2chain.jit import unsaved
from sen2chain.parallel import closed
from sen2chain.plan import notes_on
from sen2chain.products import ProductId
from sen2chain.progress import counted, sized
from sen2chain.reasons import Reason
from sen2chain.report import Report
from sen2chain.store import NEW, Entry, State, what_is_new, write_image
from sen2chain.store.inputs import with_unknown
from sen2chain.timeseries.pixel_update import PixelUpdate, expected_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.extract.extraction import TaskResult
    from sen2chain.plan import Request
    from sen2chain.store import ExtractionFolder, ImageLedger, Work
    from sen2chain.store.images import RawFormat
    from sen2chain.timeseries.engine import Engine

_ORIGINAL = "original program"


@dataclass(slots=True)
class Extracted:
    """The result of `TimeSeriesCompil.extract_data`."""

    images: int = 0
    """Images (an index under a mask of a product) that were extracted and gave rows."""
    rows: int = 0
    """Their rows."""
    empty: int = 0
    """Images that were looked at and have no row."""
    failed: int = 0
    """Images that could not be used; they are tried again by the next run."""
    changed: int = 0
    """Images whose files were changed while they were read; they are extracted again by the next run."""
    kept: int = 0
    """Images that were there already."""
    missing: int = 0
    """Images that cannot be made, because the archive lacks what it takes."""
    acquisitions: int = 0
    """Acquisitions that were read."""
    lost: int = 0
    """Images whose file of rows is gone, and whose product too."""
    asked: int = 0
    """Images that are to be extracted, where the run only looked."""
    pixels: int = 0
    """Acquisitions whose pixels were kept (where the run only looked: are to be kept), with all that was asked for."""
    pixels_kept: int = 0
    """Acquisitions whose pixels were kept already."""
    pixels_failed: int = 0
    """Acquisitions whose pixels could not be kept, or not all of them; their rows are there all the same."""
    pixel_bytes: int = 0
    """Bytes of the pixel files that were written."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the folder."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self._on_images(), self._on_pixels())))

    def _on_pixels(self) -> str:
        """Return a sentence on kept pixels; empty where none are asked for."""
        parts = []
        if self.pixels and not self.pixel_bytes:
            parts.append(f"those of {counted(self.pixels, 'acquisition')} to be kept")
        elif self.pixels:
            parts.append(f"those of {counted(self.pixels, 'acquisition')} kept ({sized(self.pixel_bytes)})")
        if self.pixels_failed:
            parts.append(f"those of {counted(self.pixels_failed, 'acquisition')} could not be kept")
        if self.pixels_kept:
            verb = "was" if self.pixels_kept == 1 else "were"
            parts.append(f"those of {counted(self.pixels_kept, 'acquisition')} {verb} there already")
        return f"Pixels: {', '.join(parts)}." if parts else ""

    def _on_images(self) -> str:
        lacking = f"{counted(self.missing, 'image')} lack{'s' * (self.missing == 1)} {_its(self.missing)} inputs"
        rest = f", {lacking}." if self.missing else "."
        there = f"{counted(self.kept, 'image')} {'is' if self.kept == 1 else 'are'} there already"
        if self.asked:
            text = f"{counted(self.asked, 'image')} of {counted(self.acquisitions, 'acquisition')} to be extracted"
            return f"{text}, {there}{rest}"
        if not (self.images or self.empty):
            return f"Nothing new: {', '.join([there, *(f'{n} {what}' for n, what in self._again() if n)])}{rest}"
        text = f"{counted(self.images, 'image')} extracted from {counted(self.acquisitions, 'acquisition')}"
        parts = [f"{text} ({counted(self.rows, 'row')})"]
        parts += [f"{n} {what}" for n, what in ((self.empty, "gave no rows"), *self._again()) if n]
        if self.kept:
            parts.append(f"{self.kept} {'was' if self.kept == 1 else 'were'} there already")
        return ", ".join(parts) + rest

    def _again(self) -> tuple[tuple[int, str], ...]:
        """Return the counts of images that the next run extracts again, with their description."""
        return (self.failed, "failed"), (self.changed, "changed while being read")


def _its(count: int) -> str:
    return "its" if count == 1 else "their"


class FolderUpdate:
    """One call of `extract_data`, on a locked folder.

    Parameters
    ----------
    engine
        The request, the folder's layer and the archive.
    folder, ledger
        The layer's folder and its ledger.
    raw_format
        Of new files of rows.
    """

    def __init__(self, engine: Engine, folder: ExtractionFolder, ledger: ImageLedger, raw_format: RawFormat) -> None:
        self._engine, self._folder, self._ledger, self._raw_format = engine, folder, ledger, raw_format
        self._layout = engine.raw_format()
        self._done = Extracted()
        self._pixels = PixelUpdate(engine, folder, ledger)
        self._coverages = engine.coverages()

    def run(self, *, only_look: bool = False, force: bool = False, redo_old: bool = False) -> Extracted:
        """Extract what is new.

        Parameters
        ----------
        only_look
            Read no raster; the result then says what would be done.
        force
            Extract every image again.
        redo_old
            Extract again what the original program wrote.
        """
        engine, ledger, done = self._engine, self._ledger, self._done
        done.notes += ledger.notes
        work = what_is_new(
            engine.plan.tasks, engine.source, self._folder, ledger, engine.request,
            force=force, redo_old=redo_old, features=len(engine.layer), only_look=only_look, kept=self._pixels.usable,
        )  # fmt: skip
        gone = self._out_of_reach()
        lost = [entry for entry in gone if is_lost(entry, self._folder)]
        done.kept, done.lost = work.kept + len(gone) - len(lost), len(lost)
        if lost:
            done.notes.append(
                f"{counted(len(lost), 'image')} lost {_its(len(lost))} file of rows, as {lost[0].file}, and the "
                "archive has no product to make it from; bring back the one or the other."
            )
        done.missing = sum(map(len, work.missing.values()))
        done.notes += _on_missing(work.missing)
        done.notes += self._pixels.notes_on_plan(engine.plan.tasks, work.no_pixels, only_look=only_look)
        done.pixels_kept = work.pixels_kept
        if only_look:
            keys = work.keys
            done.asked, done.acquisitions = len(keys), len({product for *_, product in keys})
            done.pixels = sum(task.keep is not None for task in work.tasks)
            done.notes += [*_why(work.why), *notes_on(work.tasks), *expected_pixels(work.tasks, self._coverages)]
            return done
        self._pixels.sweep()
        if work.known:
            ledger.record(work.known)
        for path in work.leftover:
            path.unlink(missing_ok=True)
        done.notes += engine.unverified(work.tasks)
        if work.tasks:
            ledger.expect(work.keys)
            grids = ledger.grids(without={str(task.product) for task in work.tasks})
            results = engine.run(work.tasks, grids, inputs=work.inputs, coverages=self._coverages)
            with closed(results), FileGroup(self._folder.root) as files:
                for result in results:
                    self._store(result, work, files)
            done.notes += unsaved()
            self._pixels.sweep()
        engine.source.save()
        done.pixels, done.pixels_failed, done.pixel_bytes = self._pixels.kept, self._pixels.failed, self._pixels.size
        done.notes += self._pixels.notes(extracts=bool(work.tasks))
        self._tell_of_lossy_rows()
        return done

    def _out_of_reach(self) -> list[Entry]:
        """Return the requested images whose products are not in the archive any more."""
        planned = {(o.index.name, o.mask.name, str(t.product)) for t in self._engine.plan.tasks for o in t.outputs}
        return [
            entry
            for output in self._engine.outputs
            for entry in _asked_for(self._engine.request, self._ledger.entries(*output).values())
            if entry.key not in planned and entry.state in {State.DONE, State.EMPTY, State.ORIGINAL}
        ]

    def _store(self, result: TaskResult, work: Work, files: FileGroup) -> None:
        """Write the images of an acquisition, then record them; a run killed in between extracts them again."""
        entries, gone = [], []
        cover, done = result.task.details.cloud_cover(), self._done
        for output, batch in zip(result.task.outputs, result.batches, strict=True):
            if (batch.index, batch.mask, str(batch.product)) in work.only_read:
                continue
            inputs = with_unknown(work.inputs.identity(result.task, output), batch.unknown)
            entry = Entry.of(batch, inputs, result.grid, cover)
            if entry.state is State.DONE:
                image = write_image(batch, self._folder, self._layout, self._raw_format, files)
                entry = replace(entry, file=image.path.name, size=image.size)
                done.images, done.rows = done.images + 1, done.rows + entry.rows
            before = work.before.get(entry.key)
            if before is not None and entry.cover is None:
                entry = replace(entry, cover=before.cover)
            again = entry.state in {State.FAILED, State.PENDING} and not entry.mismatched
            if again and before is not None and before.file:
                # A product that broke after it was extracted keeps the rows it had.
                entry = replace(entry, file=before.file, size=before.size, rows=before.rows, inputs=before.inputs)
            done.empty += entry.state is State.EMPTY
            done.failed += entry.state is State.FAILED
            done.changed += entry.state is State.PENDING
            gone += [path for path in work.files.get(entry.key, []) if path.name != entry.file]
            entries.append(entry)
        # The rows have their room on the disk by now.
        pixels = self._pixels.write(result, work.inputs, self._coverages)
        files.finish()
        done.acquisitions += 1
        with self._ledger.transaction():
            self._ledger.record(entries)
            self._pixels.enter(pixels)
        self._pixels.tidy(pixels)
        for path in gone:
            path.unlink(missing_ok=True)

    def _tell_of_lossy_rows(self) -> None:
        """Add a note, once per folder, that it has rows of the original program beside our own."""
        counts = [self._ledger.count(*output) for output in self._engine.outputs]
        old, own = (sum(count[state] for count in counts) for state in (State.ORIGINAL, State.DONE))
        if old and own and self._ledger.fact("mixed") is None:
            self._ledger.set_fact("mixed", "said")
            self._done.notes.append(
                f"{old} images in {self._folder.root.name} were written by the original program from its lossy "
                f"products, {own} are ours; redo_old=True (--redo-old) extracts the old ones again."
            )


def is_lost(entry: Entry, folder: ExtractionFolder) -> bool:
    """Tell whether the file of rows of an image is gone."""
    return bool(entry.file) and not (folder.raw(entry.index, entry.mask) / entry.file).is_file()


def look(engine: Engine) -> Extracted:
    """Return what a first run would do; nothing is read or written."""
    tasks = engine.plan.tasks
    outputs = [output for task in tasks for output in task.outputs]
    lacking: dict[tuple[str, str], list[str]] = {}
    for output in outputs:
        if output.reason is not None:
            lacking.setdefault((output.index.name, output.mask.name), []).append(output.detail)
    missing = sum(map(len, lacking.values()))
    return Extracted(
        asked=len(outputs) - missing,
        missing=missing,
        acquisitions=len(tasks),
        pixels=sum(task.keep is not None for task in tasks),
        notes=[*_on_missing(lacking), *notes_on(tasks), *expected_pixels(tasks, engine.coverages())],
    )


def _on_missing(lacking: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """Return a sentence on the images of each index and mask that cannot be made; `lacking` has why, for each image."""
    return [
        f"{counted(len(details), 'image')} of {index} under {mask} cannot be made: {details[-1]}"
        for (index, mask), details in lacking.items()
    ]


def _why(counts: Mapping[str, int]) -> list[str]:
    """Return sentences on why images are to be extracted; empty where all of them are new."""
    again = counts.keys() - {NEW}
    return [f"{counted(count, 'image')} to be extracted: {why}." for why, count in counts.items() if again]


def folder_report(engine: Engine, folder: ExtractionFolder, ledger: ImageLedger) -> Report:
    """Return the report of every requested image, whether the last run extracted it or an earlier one.

    Images whose products are not in the archive any more are included.
    """
    try:
        report = engine.known_report()
    except LibraryError:
        report = Report()
    report.notes += ledger.notes
    for output in engine.outputs:
        for entry in _asked_for(engine.request, ledger.entries(*output).values()):
            if is_lost(entry, folder):
                error = f"The file of its rows {entry.file} is gone; extract again while the archive has the product."
                entry = replace(entry, rows=0, reasons={Reason.UNREADABLE: len(engine.layer)}, error=error)  # noqa: PLW2901
            if entry.state is State.ORIGINAL:
                entry = replace(entry, value_source=_ORIGINAL)  # noqa: PLW2901
            enter_image(report, entry, ProductId.parse(entry.product))
    return report


def _asked_for(request: Request, entries: Iterable[Entry]) -> list[Entry]:
    """Choose the images of a range of dates and of cloud cover, in the order of their products."""
    found = []
    for entry in entries:
        product = ProductId.parse(entry.product)
        day, cover = product.sensing.date(), entry.cover
        within = (request.first is None or day >= request.first) and (request.last is None or day <= request.last)
        if within and (cover is None or request.cover_min <= cover <= request.cover_max):
            found.append((product.sensing, product.tile, entry.product, entry))
    return [entry for *_, entry in sorted(found, key=lambda item: item[:3])]


def enter_image(report: Report, entry: Entry, product: ProductId) -> None:
    """Add the line of an image of the ledger to a report."""
    report.enter(
        entry.index,
        entry.mask,
        product,
        value_source=entry.value_source,
        mask_source=entry.mask_source,
        rows=entry.rows,
        reasons={Reason(reason): count for reason, count in entry.reasons.items()},
        error=entry.error,
    )
