"""`TimeSeriesCompil`: a folder for each layer that grows with the archive, and compilations of what is in it."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from sen2chain import periods, settings
from sen2chain.atomic import check_folder
from sen2chain.errors import StoreError, UnknownNameError, UnreadableError
from sen2chain.execute import resolve_executor
from sen2chain.library import read_metadata
from sen2chain.plan import Request, parse_date
from sen2chain.progress import say, status
from sen2chain.records import ProductId, Reason
from sen2chain.store import (
    Entry,
    ImageLedger,
    State,
    locked,
    make_folder,
    recognise,
    sweep,
    what_is_new,
    write_image,
)
from sen2chain.store.images import RawFormat
from sen2chain.timeseries.asked import Compiled, CompileRequest
from sen2chain.timeseries.compilation import Compilation
from sen2chain.timeseries.engine import prepare, to_frame

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import geopandas as gpd
    import pandas as pd

    from sen2chain.execute.task import TaskResult
    from sen2chain.indices import Index
    from sen2chain.ledger import Ledger
    from sen2chain.masks import Mask
    from sen2chain.plan import Task
    from sen2chain.store import ExtractionFolder, Work
    from sen2chain.timeseries.engine import Engine

ORIGINAL_SOURCE = "original program"


@dataclass(slots=True)
class Extracted:
    """What a run of `extract_data` did."""

    images: int = 0
    """Images (an index under a mask of a product) that were extracted and gave rows."""
    rows: int = 0
    """Their rows."""
    empty: int = 0
    """Images that were looked at and have no row."""
    failed: int = 0
    """Images that could not be used; they are tried again by the next run."""
    kept: int = 0
    """Images that were there already."""
    acquisitions: int = 0
    """Acquisitions that were read."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the folder."""

    def __str__(self) -> str:
        if not (self.images or self.empty or self.failed):
            return f"Nothing new: {self.kept} images are there already."
        text = f"{self.images} images extracted from {self.acquisitions} acquisitions ({self.rows} rows)"
        parts = [(self.empty, "gave no rows"), (self.failed, "failed"), (self.kept, "were there already")]
        return ", ".join([text, *(f"{n} {what}" for n, what in parts if n)]) + "."


class TimeSeriesCompil:
    """Statistics per polygon and date that are extracted once, continued when the archive grows, and compiled as asked.

    Parameters
    ----------
    vectors_file
        Polygon layer: anything pyogrio reads, GeoParquet, or a GeoDataFrame; in any CRS.
    indices
        Names of the twelve indices, or `Index` values; None means the twelve.
    date_min, date_max
        First and last sensing date to extract, inclusive, as ``YYYY-MM-DD`` or dates; None is open.
    cover_min, cover_max
        Limits of the products' cloud cover in percent, when extracting and when compiling; products without a figure
        are kept.
    field_names
        An attribute of the layer that names features in plots.
    multiproc
        Number of threads, or of worker processes with ``executor="dask"``: 0 uses all processors. Results do not depend
        on it.
    cm_version, probability, iterations, cld_shad, cld_med_prob, cld_hi_prob, thin_cir
        The cloud mask, see `sen2chain.Mask.from_keywords`.
    masks, library, safe, layer, name, buffer, pixels, stats, prefer, executor, scheduler, quiet
        As for `TimeSeries`. Other `buffer`, `pixels` and `stats` have a folder of their own, whose name says so.
    extraction
        Folder of all layers' folders; by default that of the library, or of the user's home.
    raw_format
        Of new files of rows: ``parquet``, or ``csv`` for the documented one. Both are read.
    wait
        Seconds to wait for another run on the same folder; None is as long as it takes.

    Raises
    ------
    RequestError
        If a parameter cannot be used; the message lists what is allowed.
    LayerError
        If the layer cannot be used.
    LibraryError
        If there is no archive.

    Examples
    --------
    >>> ts = TimeSeriesCompil("parcels.shp", indices=["NDVI"], cm_version="CM004")  # doctest: +SKIP
    >>> ts.extract_data()  # doctest: +SKIP
    >>> ts.compile_data(alldata=True, monthly=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        vectors_file: str | Path | gpd.GeoDataFrame,
        indices: Sequence[str | Index] | str | Index | None = None,
        date_min: dt.date | str | None = None,
        date_max: dt.date | str | None = None,
        cover_min: float = 0,
        cover_max: float = 100,
        field_names: str | Sequence[str] | None = None,
        multiproc: int = 0,
        cm_version: str = "CM004",
        probability: int = 1,
        iterations: int = 1,
        cld_shad: bool = True,  # noqa: FBT001, FBT002  # the documented interface
        cld_med_prob: bool = True,  # noqa: FBT001, FBT002
        cld_hi_prob: bool = True,  # noqa: FBT001, FBT002
        thin_cir: bool = True,  # noqa: FBT001, FBT002
        *,
        masks: Iterable[str | Mask] | str | Mask | None = None,
        library: str | Path | None = None,
        safe: str | Path | None = None,
        extraction: str | Path | None = None,
        layer: str | None = None,
        name: str | None = None,
        buffer: float | None = None,
        pixels: str = "center",
        stats: Iterable[str] | str | None = None,
        prefer: str | None = None,
        raw_format: RawFormat = "parquet",
        executor: Any = None,
        scheduler: str | None = None,
        wait: float | None = None,
        quiet: bool = False,
    ) -> None:
        self.request = Request.build(
            indices=indices,
            masks=masks,
            keywords={
                "cm_version": cm_version, "probability": probability, "iterations": iterations, "cld_shad": cld_shad,
                "cld_med_prob": cld_med_prob, "cld_hi_prob": cld_hi_prob, "thin_cir": thin_cir,
            },
            date_min=date_min,
            date_max=date_max,
            stats=stats,
            cover_min=cover_min,
            cover_max=cover_max,
            pixels=pixels,
            buffer=buffer,
            prefer=prefer,
        )  # fmt: skip
        if raw_format not in get_args(RawFormat):
            raise UnknownNameError("raw format", raw_format, get_args(RawFormat))
        self.field_names = field_names
        self._engine = prepare(
            self.request,
            resolve_executor(executor, multiproc, scheduler),
            vectors_file,
            layer=layer,
            name=name,
            field_names=field_names,
            library=library,
            safe=safe,
            quiet=quiet,
        )
        self.layer = self._engine.layer
        self.plan = self._engine.plan
        self._raw_format, self._wait, self._quiet = raw_format, wait, quiet
        self._extraction = settings.absolute(extraction) if extraction else settings.paths(library).extraction
        with status("looking for the layer's folder", quiet=quiet):
            self._found = recognise(self._extraction, self.layer, _tag(self.request), self._cache)
        self._ledger: Ledger | None = None
        self._frames: dict[str, pd.DataFrame] | None = None

    @property
    def _cache(self) -> Path:
        return settings.cache_dir() / "layers"

    @property
    def folder(self) -> Path:
        """The layer's folder; the first extraction makes it."""
        return self._found.folder.root

    # ---------------------------------------------------------------------------------------------------- extraction

    def extract_data(self, getstat: bool = True, force: bool = False, *, redo_old: bool = False) -> Extracted:  # noqa: FBT001, FBT002  # the documented interface
        """Extract what is new: images that the folder does not have, failed ones, and those whose files have changed.

        Parameters
        ----------
        getstat
            False reads no raster; the result then says what would be done.
        force
            Extract every image again.
        redo_old
            Extract again what the original program wrote.

        Returns
        -------
        Extracted
            What was done, as numbers and as a sentence.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        StoreError
            If another run holds the folder for longer than `wait`, or its book is damaged.
        ExecutorError
            If the cluster cannot be used.
        """
        result = Extracted()
        with self._held() as (folder, ledger, engine):
            work = what_is_new(
                self.plan.tasks, folder, ledger, self.request,
                force=force, redo_old=redo_old, cover=_cover_of, features=len(self.layer),
            )  # fmt: skip
            result.kept = len(work.kept)
            if getstat:
                ledger.record(work.known)
                ledger.expect(work.keys)
                for made in engine.run(work.tasks, ledger.grids()):
                    self._store(made, folder, ledger, engine, work, result)
            else:
                result.images, result.acquisitions = len(work.keys), len(work.tasks)
            self._note(result, ledger)
        self._ledger = self._frames = None
        for sentence in (*result.notes, str(result) if getstat else f"To be extracted: {result.images} images."):
            say(sentence, quiet=self._quiet)
        return result

    def _store(
        self, made: TaskResult, folder: ExtractionFolder, ledger: ImageLedger, engine: Engine, work: Work, to: Extracted
    ) -> None:
        """Write the images of an acquisition, then enter them; a run that is killed between does them again."""
        layout, entries, gone = engine.row_format(), [], []
        cover = _cover_of(made.task)
        for output, batch in zip(made.task.outputs, made.batches, strict=True):
            entry = Entry.of(batch, work.inputs.identity(made.task, output), made.grid, cover)
            if entry.state is State.DONE:
                image = write_image(batch, folder, layout, self._raw_format)
                entry = replace(entry, file=image.path.name, size=image.size)
            before = work.before.get(entry.key)
            if entry.state is State.FAILED and before is not None and before.file and not entry.mismatched:
                # A product that broke after it was extracted has the rows it had.
                entry = replace(entry, file=before.file, size=before.size, rows=before.rows)
            gone += [path for path in work.files.get(entry.key, []) if path.name != entry.file]
            entries.append(entry)
            to.images += entry.state is State.DONE
            to.rows += entry.rows if entry.state is State.DONE else 0
            to.empty += entry.state is State.EMPTY
            to.failed += entry.state is State.FAILED
        to.acquisitions += 1
        ledger.record(entries)
        for path in gone:
            path.unlink(missing_ok=True)

    def _note(self, result: Extracted, ledger: ImageLedger) -> None:
        """Say once what whoever uses the rows should know."""
        if self._found.hint:
            result.notes.append(self._found.hint)
        counts = [ledger.count(*output) for output in self._engine.outputs]
        old, own = (sum(count[state] for count in counts) for state in (State.ORIGINAL, State.DONE))
        if old and own and ledger.fact("mixed") is None:
            ledger.set_fact("mixed", "said")
            result.notes.append(
                f"{old} images in {self.folder.name} were written by the original program from its lossy products, "
                f"{own} are ours; redo_old=True (--redo-old) extracts the old ones again."
            )

    def _report(self, ledger: ImageLedger, engine: Engine) -> Ledger:
        """Return what became of every image that is asked for, in this run or an earlier one."""
        report = engine.ledger()
        if self._found.hint:
            report.notes.append(self._found.hint)
        known = {output: ledger.entries(*output) for output in engine.outputs}
        for task in self.plan.tasks:
            for output in task.outputs:
                entry = known[output.index.name, output.mask.name].get(str(task.product))
                if entry is not None:
                    _enter(report, entry)
        return report

    # --------------------------------------------------------------------------------------------------- compilation

    def compile_data(
        self,
        alldata: bool = False,  # noqa: FBT001, FBT002  # the documented interface
        daily: bool = False,  # noqa: FBT001, FBT002
        weekly: bool = False,  # noqa: FBT001, FBT002
        monthly: bool = False,  # noqa: FBT001, FBT002
        yearly: bool = False,  # noqa: FBT001, FBT002
        datemin: dt.date | str | None = None,
        datemax: dt.date | str | None = None,
        covermax: float = 75,
        smoothing: bool | str = False,  # noqa: FBT001, FBT002
        reset_smoothing: bool = False,  # noqa: FBT001, FBT002
        window_length: int = 11,
        polyorder: int = 3,
        season_mean: bool = False,  # noqa: FBT001, FBT002
        *,
        aggregate: str | Iterable[str] | None = None,
        week: periods.Week = "sunday",
        formats: str | Sequence[str] = "csv",
    ) -> Compiled:
        """Compile the rows of all dates in the folder; only files that would differ are written.

        Parameters
        ----------
        alldata, daily, weekly, monthly, yearly
            Which files: one of all dates, or one for each day, week, month or year.
        datemin, datemax
            A range of dates, inclusive, for one more file; either may be None for an open range.
        covermax
            For smoothing: a date counts where fewer than this percentage of a feature's pixels are missing.
        smoothing
            True or ``savgol``, ``whittaker``, ``harmonic``; or ``original`` to continue a series that the original
            program began. Smoothed files stand beside those of `alldata` and of the range.
        reset_smoothing
            With ``original``: begin anew.
        window_length, polyorder
            Of the Savitzky-Golay filter, in steps of five days.
        season_mean
            With ``original``: fill long gaps with the mean of other years.
        aggregate
            One row per feature and period too: ``mean``, ``median``, ``max``, ``count``, ``weighted_mean``; several may
            be given.
        week
            ``sunday``: weeks as ``%U`` counts them; ``iso``: ISO 8601.
        formats
            ``csv``, ``parquet``, or both.

        Returns
        -------
        Compiled
            The files.

        Raises
        ------
        RequestError
            If nothing is asked for, or a parameter cannot be used.
        OutputError
            If a file cannot be written.
        StoreError
            If nothing was extracted, or a file of rows cannot be read.
        """
        asked = CompileRequest.of(
            flags={"all_data": alldata, "yearly": yearly, "monthly": monthly, "weekly": weekly, "daily": daily},
            first=parse_date("datemin", datemin),
            last=parse_date("datemax", datemax),
            week=week,
            formats=formats,
            aggregate=aggregate,
            smoothing=smoothing,
            smooth={
                "window_length": window_length, "polyorder": polyorder, "covermax": covermax,
                "season_mean": season_mean, "reset": reset_smoothing,
            },
        )  # fmt: skip
        self._check_extracted()
        with self._held() as (folder, ledger, engine):
            result = Compilation(engine, folder, ledger, asked).run()
        for sentence in (*result.notes, str(result)):
            say(sentence, quiet=self._quiet)
        return result

    def _check_extracted(self) -> None:
        if not self.folder.is_dir():
            raise StoreError(
                f"Nothing of the layer {self.layer.name} is in {self._extraction}; call extract_data() first."
            )

    # --------------------------------------------------------------------------------------------------------- rows

    @property
    def data(self) -> dict[str, pd.DataFrame]:
        """Index -> compiled rows of all dates by feature, then date, indexed by date; numbers are numbers."""
        if self._frames is None:
            self._check_extracted()
            with self._held() as (folder, ledger, engine):
                compilation = Compilation(engine, folder, ledger, CompileRequest())
                self._frames = {}
                for index in self.request.indices:
                    parts = [compilation.table(index.name, mask.name) for mask in self.request.masks]
                    self._frames[index.name] = to_frame(parts, parts[0].schema)
        return self._frames

    @property
    def report(self) -> pd.DataFrame:
        """One line per index, mask, tile and acquisition: sources, rows, and features left out by reason."""
        return self._reported().frame()

    @property
    def notes(self) -> list[str]:
        """Sentences on the layer, the archive and the folder as a whole."""
        return list(self._reported().notes)

    @property
    def rows(self) -> int:
        """Number of rows of the images asked for."""
        return self._reported().rows

    @property
    def incomplete(self) -> bool:
        """Whether an image could not be used, or an index gave nothing at all."""
        report = self._reported()
        given = {(line["index"], line["mask"]) for line in report.lines if line["rows"]}
        return report.has_damage or not set(self._engine.outputs) <= given

    def why_nothing(self) -> str:
        """Say the one most likely cause why there is no row, and how to mend it; empty where there are rows."""
        return self._engine.why_nothing(self._reported())

    def _reported(self) -> Ledger:
        if self._ledger is None:
            self._check_extracted()
            with self._held() as (_, ledger, engine):
                self._ledger = self._report(ledger, engine)
        return self._ledger

    def __repr__(self) -> str:
        what = ", ".join(index.name for index in self.request.indices)
        masks = ", ".join(mask.name for mask in self.request.masks)
        return (
            f"TimeSeriesCompil({self.layer.name}: {len(self.layer)} features; {what}; {masks}; "
            f"{len(self.plan.tasks)} acquisitions; {self.folder})"
        )

    # ------------------------------------------------------------------------------------------------------- folder

    @contextlib.contextmanager
    def _held(self) -> Iterator[tuple[ExtractionFolder, ImageLedger, Engine]]:
        """Hold the layer's folder, which is made where it does not exist, and open its book."""
        with contextlib.ExitStack() as stack:
            if not self._found.exists:
                # Of two first runs at once the second finds the folder of the first.
                check_folder(self._extraction)
                with locked(self._extraction, wait=self._wait, quiet=self._quiet):
                    again = recognise(self._extraction, self.layer, _tag(self.request), self._cache)
                    self._found = replace(again, hint=self._found.hint)
                    make_folder(self._found, self.layer, self._cache)
                    self._found = replace(self._found, exists=True)
            folder = self._found.folder
            check_folder(folder.root)
            stack.enter_context(locked(folder.root, wait=self._wait, quiet=self._quiet))
            sweep(folder.root)
            engine = replace(self._engine, layer=make_folder(self._found, self.layer, self._cache))
            yield folder, stack.enter_context(ImageLedger(folder.ledger)), engine


def _tag(request: Request) -> str:
    """Name the options that give other rows, as the folder's name has them; nothing for the documented rows."""
    parts = []
    if request.pixels != "center":
        parts.append(request.pixels.replace("_", "-"))
    if request.buffer:
        parts.append(f"buffer{request.buffer:g}")
    if request.statistics.extra:
        digest = hashlib.sha256(",".join(request.statistics.columns).encode()).hexdigest()
        parts.append(f"stats-{digest[:8]}")
    return "".join(f"_{part}" for part in parts)


def _cover_of(task: Task) -> float | None:
    """Return the cloud cover of a product, where its metadata tell."""
    if task.metadata is None:
        return None
    try:
        return read_metadata(task.metadata).cloud_cover
    except UnreadableError:  # the image itself tells what is wrong with its product
        return None


def _enter(report: Ledger, entry: Entry) -> None:
    original = entry.state is State.ORIGINAL
    report.enter(
        entry.index,
        entry.mask,
        ProductId.parse(entry.product),
        value_source=ORIGINAL_SOURCE if original else entry.value_source,
        mask_source=entry.mask_source,
        rows=entry.rows,
        reasons={Reason(reason): count for reason, count in entry.reasons.items()},
        error=entry.error,
    )
