"""One line of a job: extract, compile, deliver. A step that fails is noted, and what is there goes on to the next."""

from __future__ import annotations

import contextlib
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sen2chain import settings
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
from sen2chain.jobs.delivery import GoneError, Remote, deliver, same_place
from sen2chain.jobs.file import OPTIONAL
from sen2chain.report import BROKEN, LACKING
from sen2chain.store import COMPILED
from sen2chain.timeseries import TimeSeriesCompil

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sen2chain.jobs.delivery import Destination
    from sen2chain.jobs.delivery_registry import DeliveryRegistry
    from sen2chain.jobs.record import LineRecord, RunLog
    from sen2chain.jobs.task import Task
    from sen2chain.plan.request import Verify
    from sen2chain.timeseries import Compiled, Extracted

_COUNTS = ("images", "rows", "empty", "failed", "changed", "kept", "missing", "lost", "acquisitions")
_EXAMPLES = 20
_BESIDE = (".json", "_stats.csv", "_stats.json")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all lines of a run share."""

    today: dt.date
    """The day that ``today`` means from the first line to the last, UTC."""
    library: Path | None
    """The Sen2Chain library; None for that of the user's home."""
    processors: int
    """Number of threads; 0 uses all processors."""
    time_limit: float
    """Seconds that a delivery may take."""
    pauses: Sequence[float]
    """Seconds before a broken delivery is tried again."""
    quiet: bool
    """Whether to show no progress."""
    safe: Path | None
    """Folder of SAFE products in the place of the library's archive."""
    verify: Verify
    """Whether products' files are compared with their checksums before they are first extracted."""
    log: RunLog
    """Where steps are told."""
    owners: DeliveryRegistry
    """Whose files lie where, so that no layer overwrites another's."""
    out_of_reach: set[str] = field(default_factory=set)
    """Servers and other places that could not be reached during this run."""


def series_of(task: Task, setting: Setting) -> TimeSeriesCompil:
    """Return the compiled time series that a line is about."""
    first, last = task.dates(setting.today)
    return TimeSeriesCompil(
        task.path,
        indices=task.indices,
        date_min=first,
        date_max=last,
        cover_max=task.max_clouds,
        masks=task.masks,
        multiproc=setting.processors,
        library=None if setting.safe else setting.library,
        extraction=settings.paths(setting.library).extraction,
        layer=task.layer,
        quiet=setting.quiet,
        safe=setting.safe,
        verify=setting.verify,
        pixels=task.pixels,
        buffer=task.buffer,
        stats=task.stats,
        min_valid=task.min_valid,
        encoding=task.encoding,
        crs=task.crs,
    )


class LineRun:
    """A line while it is run.

    Parameters
    ----------
    task
        What the line asks for.
    setting
        What all lines share.
    record
        Where it is noted.
    """

    def __init__(self, task: Task, setting: Setting, record: LineRecord) -> None:
        self.task, self.record, self._setting = task, record, setting
        self._files: list[Path] = []
        self._folder = Path()
        self._broken: set[str] = set()
        self._lost = False  # without its layer no step can do anything
        record.asked = describe(task, setting.today)

    def run(self, step: Callable[[LineRun], None]) -> None:
        """Do a step; an error ends the step and is noted."""
        if self._lost:
            return
        began = time.monotonic()
        try:
            step(self)
        except Exception as error:  # noqa: BLE001  # a line that goes wrong in a way nobody thought of stops no other
            self._broken.add(step.__name__)
            self._lost = self._lost or isinstance(error, LayerError)
            self._fail(step.__name__, as_sentence(error))
        finally:
            self.record.seconds = round(self.record.seconds + time.monotonic() - began, 3)

    def end(self) -> None:
        """Note how the line ended, after its last step."""
        if self.record.status == "running":
            self.record.status = "done"
        elif "extract" in self._broken and not self.record.compiled:
            self.record.status = "failed"

    def extract(self) -> None:
        """Extract what is new."""
        task, record = self.task, self.record
        self._say(f"{record.layer}: {in_words(record.asked)}.")
        series = series_of(task, self._setting)
        done = series.extract_data(force=task.force)
        record.folder = str(series.folder)
        record.extracted = {name: getattr(done, name) for name in _COUNTS}
        self._say(str(done), told=True)
        if why := nothing_there(series, done):
            raise LibraryError(why)
        for note in (*series.notes, *done.notes):
            self._note(note, told=note in done.notes)
        self._count_what_is_missing(done, series)

    def _count_what_is_missing(self, done: Extracted, series: TimeSeriesCompil) -> None:
        """Note as errors what was asked for and could not be extracted, with examples why."""
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
                self._fail("extract", f"{count} image{'s' * (count > 1)} {what}.", lasting=True)
        # Why others are missing, the notes of the extraction say.
        broken = report[report[[reason.value for reason in BROKEN]].any(axis="columns") & (report["error"] != "")]
        examples = broken.drop_duplicates("error").head(_EXAMPLES)
        for acquisition, error in zip(examples["acquisition"], examples["error"], strict=True):
            self._note(f"{acquisition}: {error}")

    def compile(self) -> None:
        """Write the tables that are asked for and have changed."""
        if not self.task.compiles:
            return
        series = series_of(self.task, self._setting)
        if "extract" in self._broken and not series.folder.is_dir():
            return  # nothing was ever extracted
        self._folder = series.folder / COMPILED
        asked = self.task.compilation(self._setting.today)
        try:
            part = series.compile_data(**asked)
        except SmoothingError as error:
            part = cast("Compiled", error.compiled)
            if error.too_short:
                self._note(f"Not all could be smoothed yet. {str(error).partition(';')[0]}.")
            else:
                self._fail("compile", str(error))
        except RequestError as error:
            if not self.task.smoothing:
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

    def deliver(self) -> None:
        """Send the compiled files that the destination lacks."""
        destination = self.task.destination
        if destination is None:
            return
        if not self.task.compiles:
            self._note("copy_server sends compiled files, and compiled_data names none.")
            return
        if not self._folder.parts:
            self._note("Nothing was sent, because nothing could be compiled.")
            return
        setting, folder = self._setting, self._folder.parent
        is_new = setting.owners.is_new(destination)
        late, marks = setting.owners.claim(destination, folder)
        found = [path.relative_to(self._folder).as_posix() for path in with_companions(self._files)]
        # What has arrived may have been lost since, and is compared with what is there.
        again = filter(self._is_asked, marks)
        # Another job may have compiled this layer anew in the meantime.
        names = [name for name in dict.fromkeys([*found, *late, *again]) if is_file(self._folder / name)]
        if not names:
            return
        setting.owners.expect(destination, folder, names)
        self.record.delivered = {"to": str(destination), "sent": [], "unchanged": 0}
        if gone := setting.owners.gone(destination):
            raise DeliveryError(gone)
        host = destination.login if isinstance(destination, Remote) else same_place(destination)
        try:
            done = deliver(
                self._folder, names, destination, is_new=is_new, marks=marks, time_limit=setting.time_limit,
                # What was out of reach for a line is not waited for again by each of the next.
                pauses=() if host in setting.out_of_reach else setting.pauses,
                on_retry=lambda sentence: self._wait(host, sentence),
            )  # fmt: skip
        except GoneError:
            raise DeliveryError(setting.owners.absent(destination)) from None
        except DeliveryError as error:
            sent = list(getattr(error, "sent", ()))
            self.record.delivered["sent"] = sent
            self._note_arrival(destination, {name: marks.get(name, "") for name in sent})
            raise
        setting.out_of_reach.discard(host)
        self.record.delivered |= {"sent": done.sent, "unchanged": done.unchanged}
        self._say(str(done))
        self._note_arrival(destination, {name: marks.get(name, "") for name in names}, {*late, *marks} - {*names})

    def _is_asked(self, name: str) -> bool:
        """Tell whether a file is of the indices, masks and periods that this line is about."""
        asked, (index, mask, kind, *_) = self.record.asked, (*name.split("/"), "", "", "")
        kinds = {*asked["compiled_data"], *(["custom"] if "all" in asked["compiled_data"] else [])}
        return kind in kinds and mask in asked["masks"] and (asked["indices"] == "All" or index in asked["indices"])

    def _note_arrival(self, destination: Destination, marks: Mapping[str, str], others: Iterable[str] = ()) -> None:
        """Note which files have arrived, and forget those of others that are here no more."""
        gone = [name for name in others if not is_file(self._folder / name)]
        with contextlib.suppress(OutputError, DeliveryError, StoreError):  # then they are compared once more
            self._setting.owners.arrived(destination, self._folder.parent, marks, gone)

    def _wait(self, host: str, sentence: str) -> None:
        self._setting.out_of_reach.add(host)
        self._say(sentence)

    def _fail(self, step: str, sentence: str, *, lasting: bool = False) -> None:
        self.record.fail(step, sentence, lasting=lasting)
        self._say(f"{step}: {sentence}")

    def _note(self, sentence: str, *, told: bool = False) -> None:
        if sentence not in self.record.notes:
            self.record.notes.append(sentence)
            self._say(sentence, told=told)

    def _say(self, sentence: str, *, told: bool = False) -> None:
        self._setting.log.say(f"line {self.task.line}: {sentence}", told=told)


def nothing_there(series: TimeSeriesCompil, done: Extracted) -> str:
    """Say why an archive has no product at all; empty where it has some.

    A quiet month is no failure, but an archive without any product is: its disk may not be mounted.
    """
    if series.plan.tiles:
        return ""
    return done.notes[-1] if done.notes else "The archive has no product; check the library."


def as_sentence(error: Exception) -> str:
    """Say what went wrong; of an error that nobody thought of, where too."""
    if isinstance(error, Sen2ChainError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {error} ({Path(where.filename).name}, line {where.lineno})."


def with_companions(files: Sequence[Path]) -> list[Path]:
    """Return files with those that explain them: how they were made, how well they were smoothed."""
    found: dict[Path, None] = {}
    for path in files:
        found[path] = None
        for end in _BESIDE:
            other = path.with_name(f"{path.stem}{end}")
            if other.is_file():
                found[other] = None
    return list(found)


def in_words(asked: Mapping[str, Any]) -> str:
    """Say which images are asked for, of what `describe` returns."""
    until = f"to {asked['date_max']}" if asked["date_max"] else "on"
    indices = asked["indices"] if isinstance(asked["indices"], str) else "/".join(asked["indices"])
    text = f"{indices} under {'/'.join(asked['masks'])}, from {asked['date_min']} {until}"
    extras = [f"{name} {_joined(asked[name])}" for name in OPTIONAL if name in asked]
    return f"{text} ({', '.join(extras)})" if extras else text


def _joined(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def describe(task: Task, today: dt.date) -> dict[str, Any]:
    """Say what a line asks for on a day."""
    first, last = task.dates(today)
    return {
        "indices": [index.name for index in task.indices] if task.indices else "All",
        "masks": [mask.name for mask in task.masks],
        "date_min": str(first),
        "date_max": str(last) if last else None,
        "max_clouds": task.max_clouds,
        "force_extraction": task.force,
        "compiled_data": [*task.kinds, *(["all"] if task.in_range else [])],
        "smooth_data": task.smoothing,
        "copy_server": str(task.destination) if task.destination else None,
        **task.extras,
    }
