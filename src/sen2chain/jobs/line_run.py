"""The run of one line of a job's table: extract, compile, write the page, deliver. A step that fails is recorded."""

from __future__ import annotations

import contextlib
import hashlib
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sen2chain.errors import (
    DeliveryError,
    LayerError,
    LibraryError,
    OutputError,
    RequestError,
    Sen2ChainError,
    SmoothingError,
    StoreError,
)
from sen2chain.files import is_file
from sen2chain.jobs.delivery import PAUSES, GoneError, Remote, deliver, same_place
from sen2chain.jobs.job_file import OPTIONAL
from sen2chain.report import BROKEN, LACKING
from sen2chain.store import COMPILED, ExtractionFolder
from sen2chain.timeseries import TimeSeriesCompil

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sen2chain.jobs.delivery import Destination
    from sen2chain.jobs.delivery_registry import DeliveryRegistry
    from sen2chain.jobs.job_location import JobLocation
    from sen2chain.jobs.job_settings import JobTask, Settings
    from sen2chain.jobs.run_record import LineRecord, RunLog
    from sen2chain.timeseries import Compiled, Extracted

_COUNTS = ("images", "rows", "empty", "failed", "changed", "kept", "missing", "lost", "acquisitions")
_EXAMPLES = 20
_LONGEST_END = 120  # letters of the name of a page after that of the layer
_BESIDE = (".json", "_stats.csv", "_stats.json")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all lines of a run share."""

    settings: Settings
    """The settings of the job's file."""
    location: JobLocation
    """The job's home, library and logs."""
    today: dt.date
    """The day that ``today`` means in every line, UTC."""
    log: RunLog
    """The log of the run."""
    registry: DeliveryRegistry
    """Which layer's files are at which destination."""
    quiet: bool = False
    """Whether to show no progress."""
    pauses: Sequence[float] = PAUSES
    """Seconds before each further try of a delivery."""
    out_of_reach: set[str] = field(default_factory=set)
    """Servers and other destinations that could not be reached during this run."""


def series_of(task: JobTask, context: RunContext) -> TimeSeriesCompil:
    """Return the compiled time series of a line."""
    first, last = task.dates(context.today)
    location = context.location
    safe, stac = context.settings.folder_of_products(location.home), context.settings.catalogue(location.home)
    return TimeSeriesCompil(
        task.shapefile.path,
        indices=task.indices,
        date_min=first,
        date_max=last,
        cover_max=task.max_clouds,
        masks=task.cloudmasks,
        multiproc=context.settings.nb_proc,
        library=None if safe or stac else location.library,
        extraction=location.paths.extraction,
        layer=task.shapefile.layer,
        quiet=context.quiet,
        safe=safe,
        stac=stac,
        verify=context.settings.verify,
        pixels=task.pixels,
        buffer=task.buffer,
        stats=task.stats,
        min_valid=task.min_valid,
        id_field=task.id_field,
        encoding=task.encoding,
        crs=task.crs,
        keep_pixels=task.keep_pixels,
        keep_margin=task.keep_margin,
    )


class LineRun:
    """One row of the table during a run.

    Parameters
    ----------
    task
        The row.
    context
        What all lines of the run share.
    record
        The record of the line.
    """

    def __init__(self, task: JobTask, context: RunContext, record: LineRecord) -> None:
        self.task, self.record, self._context = task, record, context
        self._files: list[Path] = []
        self._folder = Path()
        self._broken: set[str] = set()
        self._lost = False  # without its layer no step can do anything
        record.asked = task.request(context.today)

    def run(self, step: Callable[[LineRun], None]) -> None:
        """Do a step; an error ends the step and is recorded."""
        if self._lost:
            return
        began = time.monotonic()
        try:
            step(self)
        except Exception as error:  # noqa: BLE001  # an unexpected error stops no other line
            self._broken.add(step.__name__)
            self._lost = self._lost or isinstance(error, LayerError)
            self._fail(step.__name__, as_sentence(error))
        finally:
            self.record.seconds = round(self.record.seconds + time.monotonic() - began, 3)

    def end(self) -> None:
        """Set the status of the line after its last step."""
        if self.record.status == "running":
            self.record.status = "done"
        elif "extract" in self._broken and not self.record.compiled:
            self.record.status = "failed"

    def extract(self) -> None:
        """Extract what is new."""
        task, record = self.task, self.record
        self._say(f"{record.layer}: {in_words(record.asked)}.")
        series = series_of(task, self._context)
        done = series.extract_data(force=task.force_extraction)
        record.folder = str(series.folder)
        record.extracted = {name: getattr(done, name) for name in _COUNTS}
        self._say(str(done), told=True)
        if why := nothing_there(series, done):
            raise LibraryError(why)
        for note in (*series.notes, *done.notes):
            self._note(note, told=note in done.notes)
        self._count_what_is_missing(done, series)

    def _count_what_is_missing(self, done: Extracted, series: TimeSeriesCompil) -> None:
        """Record images that could not be extracted as errors, with examples of the reasons."""
        if not (done.failed or done.changed or done.missing or done.lost):
            return
        report = series.report
        marks = report[[reason.value for reason in (*BROKEN, *LACKING)]].any(axis="columns")
        self.record.troubled = sorted(set(report.loc[marks, "acquisition"]))
        counts = (
            (done.failed, "could not be used"), (done.changed, "changed while being read"),
            (done.missing, "lack their inputs"), (done.lost, "lost their rows"),
        )  # fmt: skip
        for count, what in counts:
            if count:
                self._fail("extract", f"{count} image{'s' * (count > 1)} {what}.")
        # The notes of the extraction give the reasons for the others.
        broken = report[report[[reason.value for reason in BROKEN]].any(axis="columns") & (report["error"] != "")]
        examples = broken.drop_duplicates("error").head(_EXAMPLES)
        for acquisition, error in zip(examples["acquisition"], examples["error"], strict=True):
            self._note(f"{acquisition}: {error}")

    def compile(self) -> None:
        """Write the requested tables that have changed."""
        if not self.task.compiled_data:
            return
        series = series_of(self.task, self._context)
        if "extract" in self._broken and not series.folder.is_dir():
            return  # no folder of the layer, because nothing was ever extracted
        self._folder = series.folder / COMPILED
        asked = self.task.compilation(self._context.today)
        try:
            part = series.compile_data(**asked)
        except SmoothingError as error:
            part = cast("Compiled", error.compiled)
            if error.too_short:
                self._note(f"Not all could be smoothed yet. {str(error).partition(';')[0]}.")
            else:
                self._fail("compile", str(error))
        except RequestError as error:
            if not self.task.smooth_data:
                raise
            # A series that cannot be smoothed keeps nothing else from being compiled.
            advice = " In a job, smooth_data says which way: original continues a series of the original program."
            self._fail("compile", str(error) + (advice if "reset_smoothing" in str(error) else ""))
            part = series.compile_data(**{**asked, "smoothing": False})
        for note in (*part.notes, *part.remarks):
            self._note(note, told=True)
        if part.removed:
            self._note(
                f"{len(part.removed)} compiled files have no rows any more and are removed here, not where sent."
            )
        self.record.compiled = {"written": [str(path) for path in part.files], "unchanged": len(part.unchanged)}
        self._files = [*part.files, *part.unchanged]
        self._say(str(part), told=True)

    def page(self) -> None:
        """Write the page of the line's series, where the job's file asks for pages."""
        if not self._context.settings.page:
            return
        series = series_of(self.task, self._context)
        if not series.folder.is_dir():
            return  # nothing was ever extracted, which the first step has said
        self._folder = series.folder / COMPILED
        path = self._folder / f"{series.layer.name}{self._page_end}.html"
        is_fresh = _is_newer(path, ExtractionFolder(series.folder).ledger)
        if not (is_fresh and series.page_is_current(path)):
            before = len(series.notes)
            series.write_page(path, sample="fit")  # a page that is too large shows a part, and says so
            for note in series.notes[before:]:
                self._note(note)
            self._say(f"Page written: {path}")
        self._files.append(path)

    @property
    def _page_end(self) -> str:
        """The end of the page's name, which stays the same from run to run: cloud cover, indices and masks."""
        task = self.task
        cover = f"_CC{task.max_clouds:g}" if task.max_clouds < 100 else ""
        indices = "-".join(index.name for index in task.indices or ()) or "All"
        masks = "-".join(mask.name for mask in task.cloudmasks)
        end = f"{cover}_{indices}_{masks}"
        return end if len(end) <= _LONGEST_END else f"{cover}_{hashlib.sha256(end.encode()).hexdigest()[:16]}"

    def deliver(self) -> None:
        """Send the compiled files and the page that the destination lacks."""
        destination = self.task.copy_server
        if destination is None:
            return
        if not self.task.compiled_data and not self._context.settings.page:
            self._note("copy_server sends compiled files, and compiled_data names none.")
            return
        if not self._folder.parts:
            self._note("Nothing was sent, because nothing could be compiled.")
            return
        context, folder = self._context, self._folder.parent
        is_new = context.registry.is_new(destination)
        late, marks = context.registry.claim(destination, folder)
        found = [path.relative_to(self._folder).as_posix() for path in with_companions(self._files)]
        # What has arrived may have been lost since, and is compared with what is there.
        again = filter(self._is_asked, marks)
        # Another job may have compiled this layer anew in the meantime.
        names = [name for name in dict.fromkeys([*found, *late, *again]) if is_file(self._folder / name)]
        if not names:
            return
        context.registry.expect(destination, folder, names)
        self.record.delivered = {"to": str(destination), "sent": [], "unchanged": 0}
        if gone := context.registry.gone(destination):
            raise DeliveryError(gone)
        host = destination.login if isinstance(destination, Remote) else same_place(destination)
        try:
            done = deliver(
                self._folder, names, destination, is_new=is_new, marks=marks,
                time_limit=context.settings.delivery_timeout,
                # What was out of reach for a line is not waited for again by each of the next.
                pauses=() if host in context.out_of_reach else context.pauses,
                on_retry=lambda sentence: self._wait(host, sentence),
            )  # fmt: skip
        except GoneError:
            raise DeliveryError(context.registry.absent(destination)) from None
        except DeliveryError as error:
            sent = list(getattr(error, "sent", ()))
            self.record.delivered["sent"] = sent
            self._note_arrival(destination, {name: marks.get(name, "") for name in sent})
            raise
        context.out_of_reach.discard(host)
        self.record.delivered |= {"sent": done.sent, "unchanged": done.unchanged}
        self._say(str(done))
        self._note_arrival(destination, {name: marks.get(name, "") for name in names}, {*late, *marks} - {*names})

    def _is_asked(self, name: str) -> bool:
        """Tell whether a file belongs to the indices, masks and compilations of this line."""
        if "/" not in name:
            return self._context.settings.page and name.rpartition(".")[0].endswith(self._page_end)
        asked, (index, mask, kind, *_) = self.record.asked, (*name.split("/"), "", "", "")
        kinds = {*asked["compiled_data"], *(["custom"] if "all" in asked["compiled_data"] else [])}
        return kind in kinds and mask in asked["masks"] and (asked["indices"] == "All" or index in asked["indices"])

    def _note_arrival(self, destination: Destination, marks: Mapping[str, str], others: Iterable[str] = ()) -> None:
        """Record the files that have arrived, and forget `others` that do not exist any more."""
        gone = [name for name in others if not is_file(self._folder / name)]
        with contextlib.suppress(OutputError, DeliveryError, StoreError):  # then they are compared once more
            self._context.registry.arrived(destination, self._folder.parent, marks, gone)

    def _wait(self, host: str, sentence: str) -> None:
        self._context.out_of_reach.add(host)
        self._say(sentence)

    def _fail(self, step: str, sentence: str) -> None:
        self.record.fail(step, sentence)
        self._say(f"{step}: {sentence}")

    def _note(self, sentence: str, *, told: bool = False) -> None:
        if sentence not in self.record.notes:
            self.record.notes.append(sentence)
            self._say(sentence, told=told)

    def _say(self, sentence: str, *, told: bool = False) -> None:
        self._context.log.say(f"line {self.task.line}: {sentence}", told=told)


def _is_newer(path: Path, other: Path) -> bool:
    """Tell whether a file was written after another one was last changed."""
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:  # one of them is not there
        return False


def nothing_there(series: TimeSeriesCompil, done: Extracted) -> str:
    """Return a sentence where the archive has no product of any date, as without its disk; else an empty text.

    An archive with products, but none in the dates of the line, is not an error.
    """
    if series.has_products:
        return ""
    return done.notes[-1] if done.notes else "The archive has no product; check the library."


def as_sentence(error: Exception) -> str:
    """Return the message of an error, and for an unexpected one its place in the code."""
    if isinstance(error, Sen2ChainError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {error} ({Path(where.filename).name}, line {where.lineno})."


def with_companions(files: Sequence[Path]) -> list[Path]:
    """Return files, each followed by its provenance (JSON) and its statistics of smoothing, where they exist."""
    found: dict[Path, None] = {}
    for path in files:
        found[path] = None
        for end in _BESIDE:
            other = path.with_name(f"{path.stem}{end}")
            if other.is_file():
                found[other] = None
    return list(found)


def in_words(asked: Mapping[str, Any]) -> str:
    """Return the result of `JobTask.request` as a phrase."""
    until = f"to {asked['date_max']}" if asked["date_max"] else "on"
    indices = asked["indices"] if isinstance(asked["indices"], str) else "/".join(asked["indices"])
    text = f"{indices} under {'/'.join(asked['masks'])}, from {asked['date_min']} {until}"
    extras = [f"{name} {_joined(asked[name])}" for name in OPTIONAL if name in asked]
    return f"{text} ({', '.join(extras)})" if extras else text


def _joined(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
