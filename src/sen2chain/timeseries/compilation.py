"""The compiled tables of a layer's folder: what is asked for, which files that makes, and writing those that differ.

`CompileRequest` checks the keywords of `compile_data`. `Targets` derives from it and from the files of raw rows which
compiled files there are to be, and compares them with the ledger. `Compilation` reads the raw rows of an index under a
mask once and writes every file that would differ from the one on disk. `Compiled` is the result.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pyarrow as pa

from sen2chain import periods
from sen2chain.atomic import FileGroup, check_folder
from sen2chain.errors import RequestError, SmoothingError, TooShortError, choice, items_of, truth
from sen2chain.export import beside, check_cube, csv_header, csv_lines, text_of, to_dataset, write_csv, write_parquet
from sen2chain.parallel import closed, in_threads, workers
from sen2chain.plan import parse_date
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, Replaced, check_results, conditions, provenance
from sen2chain.report import Report
from sen2chain.spool import with_attributes
from sen2chain.store import CompiledFile, Entry, State
from sen2chain.timeseries.folder_update import enter_image
from sen2chain.timeseries.smoothed_files import ORIGINAL, SmoothRequest, check_kind, stats_path, write_smoothed
from sen2chain.timeseries.stored_rows import StoredRows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import xarray as xr

    from sen2chain.spool import Spool
    from sen2chain.store import ExtractionFolder, ImageLedger, RawImage
    from sen2chain.timeseries.engine import Engine

FORMATS = ("csv", "parquet")
"""Formats of compiled files."""

# Raise it when the content of a compiled file changes its meaning.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """The compiled files that are wanted."""

    kinds: tuple[str, ...] = ()
    """Some of `sen2chain.periods.KINDS`."""
    custom: bool = False
    """Whether a file of a range of dates is wanted."""
    first: dt.date | None = None
    """First date of the range, inclusive; None is open."""
    last: dt.date | None = None
    """Last date of the range, inclusive; None is open."""
    week: periods.Week = "sunday"
    """How weeks are counted."""
    formats: tuple[str, ...] = ("csv",)
    """``csv``, ``parquet``."""
    aggregation: periods.Aggregation | None = None
    """The aggregates of each period, in files of their own; None for none."""
    smooth: SmoothRequest | None = None
    """How the series of all dates, or of the range, are smoothed; None for not at all."""

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Check the keywords of `TimeSeriesCompil.compile_data`; those that are missing have their defaults.

        Raises
        ------
        RequestError
            If no file is asked for, a value is not allowed, or two keywords do not go together.
        """
        first, last = (parse_date(name, keywords.get(name)) for name in ("datemin", "datemax"))
        flags = {kind: "alldata" if kind == periods.ALL else kind for kind in periods.KINDS}
        kinds = tuple(kind for kind, name in flags.items() if truth(name, keywords.get(name, False)))
        custom = first is not None or last is not None
        if not kinds and not custom:
            raise RequestError(
                "Nothing is to be compiled; "
                "ask for alldata, yearly, monthly, weekly or daily, or pass datemin or datemax."
            )
        if first and last and first > last:
            raise RequestError(f"datemin {first} is after datemax {last}; swap them.")
        week, formats = keywords.get("week", "sunday"), keywords.get("formats", "csv")
        choice("week", week, get_args(periods.Week))
        named = (
            [formats] if isinstance(formats, str) else items_of("formats", () if formats is None else formats, '"csv"')
        )
        for name in named:
            choice("format", name, FORMATS)
        chosen = tuple(dict.fromkeys(named))
        if not chosen:
            raise RequestError(f"No format is asked for; allowed: {', '.join(FORMATS)}.")
        method = SmoothRequest.of(keywords)
        if method is not None and periods.ALL not in kinds and not custom:
            raise RequestError("Whole series are smoothed; ask for alldata=True, datemin or datemax with smoothing.")
        aggregate = keywords.get("aggregate")
        aggregation = None if aggregate is None else periods.Aggregation.of(aggregate)
        return cls(kinds, custom, first, last, week, chosen, aggregation, method)

    @classmethod
    def of_kind(cls, kind: str, aggregate: str | Iterable[str] | None, week: periods.Week) -> Self:
        """Ask for the aggregates of one kind of period.

        Raises
        ------
        RequestError
            If one of them is unknown.
        """
        choice("kind", kind, periods.KINDS)
        if aggregate is None:
            raise RequestError(f"No aggregate is asked for; allowed: {', '.join(periods.AGGREGATES)}.")
        flag = "alldata" if kind == periods.ALL else kind
        return cls.of({flag: True, "week": week, "aggregate": aggregate})

    def is_within(self, day: dt.date) -> bool:
        """Tell whether a day is in the range."""
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


@dataclass(slots=True)
class Compiled:
    """The result of a compilation."""

    files: list[Path] = field(default_factory=list)
    """Files that were written."""
    unchanged: list[Path] = field(default_factory=list)
    """Files that are as they would be written."""
    removed: list[Path] = field(default_factory=list)
    """Files of periods that have no rows any more."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files that were requested and could not be made."""
    remarks: list[str] = field(default_factory=list)
    """Sentences on files that were written."""

    def __str__(self) -> str:
        text = f"{len(self.files)} file{'s' * (len(self.files) != 1)} written, {len(self.unchanged)} unchanged"
        return f"{text}, {len(self.removed)} removed." if self.removed else f"{text}."


@dataclass(frozen=True, slots=True)
class Target:
    """One compiled file that is wanted."""

    path: Path
    """The file."""
    kind: str
    """Kind of period: one of `sen2chain.periods.KINDS`, or `sen2chain.periods.CUSTOM` for a range of dates."""
    key: str
    """The period; empty where all periods of the kind are in one file."""
    images: tuple[RawImage, ...]
    """The files of rows it is made from, by sensing time."""
    content: Literal["rows", "aggregates", "smoothed"] = "rows"
    """Its content."""

    @property
    def days(self) -> set[dt.date]:
        """The days of its rows."""
        return {image.product.sensing.date() for image in self.images}


@dataclass(frozen=True, slots=True)
class Targets:
    """The files of one index under one mask."""

    folder: ExtractionFolder
    """The layer's folder."""
    request: CompileRequest
    """The files that are wanted."""
    cover: tuple[float, float]
    """Smallest and largest cloud cover of products in percent, as they stand in names."""
    columns: str
    """Columns of the rows; with other columns it is another file."""
    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""
    unknown: Mapping[dt.datetime, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Those of `StoredRows.unknown`."""

    def of(self, images: Sequence[RawImage]) -> list[Target]:
        """Return the files to be made from images, which are ordered by sensing time."""
        request = self.request
        targets = []
        for kind in request.kinds:
            groups: dict[str, list[RawImage]] = {}
            for image in images:
                groups.setdefault(periods.key_of(image.product.sensing.date(), kind, request.week), []).append(image)
            targets += [target for key, group in groups.items() for target in self._files(kind, key, group)]
            if request.aggregation and images:
                targets += self._aggregates(kind, "", images)
        within = [image for image in images if request.is_within(image.product.sensing.date())]
        if request.custom and within:
            first, last = within[0].product.sensing.date(), within[-1].product.sensing.date()
            targets += self._files(periods.CUSTOM, f"{first}_{last}", within)
            if request.aggregation:
                targets += self._aggregates(periods.CUSTOM, f"{first}_{last}", within)
        return targets

    def _files(self, kind: str, key: str, images: Sequence[RawImage]) -> list[Target]:
        """Return the files of a period, one for each format, and the smoothed one."""
        request, stem, folder = self.request, self._stem(kind, key), self._folder(kind)
        targets = [Target(folder / f"{stem}.{end}", kind, key, tuple(images)) for end in request.formats]
        if request.smooth and kind in {periods.ALL, periods.CUSTOM}:
            path = folder / f"{stem}{request.smooth.suffix}.csv"
            targets.append(Target(path, kind, key, tuple(images), "smoothed"))
        return targets

    def _aggregates(self, kind: str, key: str, images: Sequence[RawImage]) -> list[Target]:
        """Return the files of aggregates, each with all periods of a kind."""
        names = self.request.aggregation.names if self.request.aggregation else ()
        week = "_iso" if kind == "weekly" and self.request.week == "iso" else ""
        stem, folder = f"{self._stem(kind, key)}{week}_{'-'.join(names)}", self._folder(kind)
        paths = [folder / f"{stem}.{end}" for end in self.request.formats]
        return [Target(path, kind, key, tuple(images), "aggregates") for path in paths]

    def _stem(self, kind: str, key: str) -> str:
        return periods.compiled_stem(self.folder.stem, self.cover, self.index, kind, key)

    def _folder(self, kind: str) -> Path:
        return self.folder.compiled(self.index, self.mask, kind)

    def is_fresh(self, target: Target, known: Mapping[str, CompiledFile]) -> bool:
        """Tell whether a file exists unchanged, and was made from the same rows."""
        record = known.get(self._name(target.path))
        if record is None or record.made_from != self._made_from(target):
            return False
        if target.content == "smoothed" and self.request.smooth and self.request.smooth.reset_smoothing:
            return False
        beside = [target.path.with_suffix(".json")]
        if target.content == "smoothed":
            beside.append(stats_path(target.path))
        if not all(path.exists() for path in beside):
            return False
        try:
            facts = target.path.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (record.size, record.changed)

    def without_rows(self, targets: Sequence[Target], known: Mapping[str, CompiledFile]) -> list[str]:
        """Return the files, as paths in the folder, of periods that have no rows any more.

        Their images were extracted again, and gave none. Files of ranges stay, whatever they hold.
        """
        # A file of a format that is not asked for this time stays as long as its period has rows.
        stay = {self._name(target.path.with_suffix("")) for target in targets}
        families = {
            self._family(kind, content, end)
            for kind in self.request.kinds
            for end in FORMATS
            # Without any row there is nothing to smooth and to aggregate either.
            for content in (("rows",) if targets else ("rows", "aggregates", "smoothed"))
        }
        return [
            name for name, record in known.items() if record.family in families and name.rpartition(".")[0] not in stay
        ]

    def record(self, target: Target) -> CompiledFile:
        """Return the ledger's record of a file that was written."""
        facts = target.path.stat()
        family = self._family(target.kind, target.content, target.path.suffix[1:])
        return CompiledFile(self._name(target.path), family, self._made_from(target), facts.st_size, facts.st_mtime_ns)

    def _family(self, kind: str, content: str, end: str) -> str:
        week = self.request.week if kind == "weekly" else ""
        return f"{self.index} {self.mask} {kind} {week} {self.cover} {content} {end}"

    def _made_from(self, target: Target) -> str:
        """Return the identity of everything a file depends on."""
        smooth = self.request.smooth.note() if self.request.smooth and target.content == "smoothed" else ""
        week = self.request.week if target.kind == "weekly" else ""
        digest = hashlib.sha256(f"{_VERSION} {self.columns} {target.kind} {week} {smooth}".encode())
        for image in target.images:
            digest.update(f"{image.path.name} {image.size} {image.changed}\n".encode())
        for sensing in dict.fromkeys(image.product.sensing for image in target.images):
            if sensing in self.unknown:
                digest.update(f"without {sensing} {self.unknown[sensing].tolist()}\n".encode())
        return digest.hexdigest()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.root).as_posix()


class CompiledRows:
    """The selected rows of one index under one mask, and the compiled files that are written from them.

    Parameters
    ----------
    stored
        The raw rows.
    images
        The images whose rows are read, by sensing time.
    folder
        The layer's folder.
    wanted
        The files to compile.

    Attributes
    ----------
    errors
        Errors of files that could not be smoothed.
    remarks
        Sentences on files that were written.
    """

    def __init__(
        self, stored: StoredRows, images: Sequence[RawImage], folder: ExtractionFolder, wanted: CompileRequest
    ) -> None:
        self._stored, self._folder, self._wanted = stored, folder, wanted
        self._layout = stored.engine.row_format(with_completeness=True)
        self._spool, self._superseded = stored.read(self._layout, images)
        self.errors: list[RequestError] = []
        self.remarks: list[str] = []

    def tables(self, days: set[dt.date] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of some days, None for all, by fid, then date, a piece of the layer at a time."""
        return self._spool.tables(self._stored.index, self._stored.mask, days)

    def aggregates(self, kind: str, days: set[dt.date] | None = None, period: str = "") -> Iterator[pa.Table]:
        """Yield one row per feature and period, a piece of the layer at a time."""
        aggregation = self._wanted.aggregation
        assert aggregation is not None  # noqa: S101
        attributes, id_field = self._layout.attributes, self._layout.id_field
        schema = aggregation.schema(attributes, id_field)
        for table in self.tables(days):
            made = pa.Table.from_pandas(aggregation.apply(table, kind, self._wanted.week, period), preserve_index=False)
            yield with_attributes(made, attributes, id_field).cast(schema)

    def write(self, targets: Sequence[Target]) -> list[Target]:
        """Write files into existing folders; return those that were written, and collect errors of smoothing."""
        notes = {target: self._provenance(target) for target in targets}
        plain = [target for target in targets if target.content == "rows"]
        self._write_csv({target: notes[target] for target in plain if target.path.suffix == ".csv"})
        for target in plain:
            if target.path.suffix == ".parquet":
                write_parquet(self.tables(target.days), target.path, notes[target], self._spool.schema)
        for target in targets:
            if target.content == "aggregates":
                self._write_aggregates(target, notes[target])
        written = [target for target in targets if target.content != "smoothed"]
        for target in targets:
            if target.content == "smoothed":
                try:
                    self._write_smoothed(target, notes[target])
                except RequestError as error:
                    self.errors.append(error)
                else:
                    written.append(target)
        return written

    def _write_csv(self, notes: Mapping[Target, Mapping[str, Any]]) -> None:
        """Write rows to the files of all their periods at once; each row becomes text once."""
        routes = [_Route([t for t in notes if t.kind == kind]) for kind in dict.fromkeys(t.kind for t in notes)]
        if not routes:
            return
        days = set().union(*(target.days for target in notes))

        def as_text(table: pa.Table) -> tuple[np.ndarray, pa.StringArray]:
            (piece,) = table.combine_chunks().to_batches()
            return piece.column("date").cast(pa.int64()).to_numpy() // 86400, csv_lines(piece)

        with FileGroup(self._folder.root) as files:
            for target in notes:
                files.append(target.path, csv_header(self._spool.schema))
            tables = self.tables(days)
            with closed(in_threads(as_text, tables, workers())) as texts:
                for day, lines in texts:
                    for route in routes:
                        for path, text in route.split(day, lines):
                            files.append(path, text)
            for target, note in notes.items():
                for path, content in beside(target.path, note).items():
                    files.append(path, content)
            files.finish()

    def _write_aggregates(self, target: Target, note: Mapping[str, Any]) -> None:
        aggregation = self._wanted.aggregation
        assert aggregation is not None  # noqa: S101  # there are such targets only where it is
        tables = self.aggregates(target.kind, target.days, target.key)
        write = write_csv if target.path.suffix == ".csv" else write_parquet
        columns = {"columns": aggregation.definitions}
        schema = aggregation.schema(self._layout.attributes, self._layout.id_field)
        write(tables, target.path, {**note, **columns}, schema)

    def _write_smoothed(self, target: Target, note: Mapping[str, Any]) -> None:
        smooth, index = self._wanted.smooth, self._stored.index
        assert smooth is not None  # noqa: S101  # there are such targets only where it is
        with activity(f"smoothing {index}", quiet=self._stored.engine.quiet):
            short, features = write_smoothed(self.tables(target.days), target.path, index, smooth, self._layout, note)
        if short:
            self.remarks.append(
                f"{short} of {features} features have too few dates to be smoothed; "
                f"{stats_path(target.path).name} says which."
            )

    def _provenance(self, target: Target) -> dict[str, Any]:
        engine, wanted, index, mask = self._stored.engine, self._wanted, self._stored.index, self._stored.mask
        report = Report()
        for image in target.images:
            entry = self._stored.entries.get(str(image.product))
            enter_image(report, entry or Entry(index, mask, str(image.product), State.DONE), image.product)
        request = replace(engine.request, first=None, last=None)  # all dates in the folder are compiled
        note = provenance(request, engine.layer, engine.archive, report, index=index, mask=mask)
        note["compiled"] = {
            "kind": target.kind, "period": target.key, "week": wanted.week, "images": len(target.images),
            "superseded_rows_of_this_run": self._superseded, "datemin": wanted.first, "datemax": wanted.last,
        }  # fmt: skip
        return note


class Compilation:
    """One call of `compile_data`, on a locked folder.

    Parameters
    ----------
    engine
        The request and the layer.
    folder, ledger
        The layer's folder and its ledger.
    wanted
        The files to compile.
    only_known
        Whether to skip, without a note, an index under a mask that the ledger has no image of.
    """

    def __init__(
        self,
        engine: Engine,
        folder: ExtractionFolder,
        ledger: ImageLedger,
        wanted: CompileRequest,
        *,
        only_known: bool = False,
    ) -> None:
        self._only_known = only_known
        self._engine, self._folder, self._ledger, self._wanted = engine, folder, ledger, wanted
        self._layout = engine.row_format(with_completeness=True)

    def run(self, *, overwrite: bool = False) -> Compiled:
        """Write the wanted files that are missing or would differ.

        Parameters
        ----------
        overwrite
            Replace files that were made in another way too.

        Raises
        ------
        OutputError
            If a file that was made in another way is there; nothing is written then.
        SmoothingError
            If a series cannot be smoothed; everything else is written.
        RequestError
            If a file of series that were smoothed another way is in the way.
        """
        result = Compiled()
        steps = self._steps(result)
        if not steps:
            result.notes.append("Nothing has been extracted yet; extract first.")
        for target in (target for step in steps for target in step.stale):
            if target.content == "smoothed" and self._wanted.smooth:
                check_kind(target.path, self._wanted.smooth)
        if not overwrite:
            result.remarks += self._check(steps)
        errors: list[RequestError] = []
        for step in steps:
            result.unchanged += step.fresh
            self._remove(step.gone, result)
            if step.stale:
                errors += self._write(step, result)
        if errors:
            too_short = all(isinstance(error, TooShortError) for error in errors)
            raise SmoothingError(f"{errors[0]} Everything else was written.", result, too_short=too_short)
        return result

    def _write(self, step: _Step, result: Compiled) -> list[RequestError]:
        """Write the stale files of a step, add them to the result, and return errors of smoothing."""
        for folder in {target.path.parent for target in step.stale}:
            check_folder(folder)
        needed = {image for target in step.stale for image in target.images}
        images = sorted(needed, key=lambda image: (image.product.sensing, str(image.product)))
        rows = CompiledRows(step.stored, images, self._folder, self._wanted)
        written = rows.write(step.stale)
        self._ledger.set_compiled(step.targets.record(target) for target in written)
        for target in written:
            result.files += [target.path, *([stats_path(target.path)] if target.content == "smoothed" else [])]
        result.remarks += rows.remarks
        return rows.errors

    def _steps(self, result: Compiled) -> list[_Step]:
        """Return the files to write and to remove for each index under each mask; notes are added to the result."""
        request, columns, known = self._engine.request, self._layout.schema.to_string(), self._ledger.compiled()
        cover = (float(request.cover_min), float(request.cover_max))
        steps = []
        for index, mask in self._engine.outputs:
            stored = self._stored(index, mask)
            if self._only_known and not stored.images and not stored.entries:
                continue
            lost = stored.lost
            if lost:
                result.notes.append(
                    f"{len(lost)} images of {index} under {mask} lost their file of rows, as {lost[0].file}; extract "
                    "again, while the archive has their products."
                )
            targets = Targets(self._folder, self._wanted, cover, columns, index, mask, stored.unknown)
            files = targets.of(stored.images)
            if stored.of_other_formulas:
                result.notes.append(
                    f"{stored.of_other_formulas} images of {index} under {mask} were extracted with another formula "
                    "and are left out; extract again, or compile with that formula."
                )
            if not stored.images:
                result.notes.append(stored.why_none())
            elif self._wanted.custom and not any(target.kind == periods.CUSTOM for target in files):
                dates = f"from {self._wanted.first or 'the beginning'} to {self._wanted.last or 'today'}"
                result.notes.append(f"There are no rows of {index} under {mask} {dates}; check datemin and datemax.")
            step = _Step(stored, targets, gone=targets.without_rows(files, known))
            for target in files:
                if targets.is_fresh(target, known):
                    step.fresh.append(target.path)
                else:
                    step.stale.append(target)
            steps.append(step)
        return steps

    def _check(self, steps: Sequence[_Step]) -> list[str]:
        """Make sure that no file is replaced or removed that was made in another way; return remarks on replaced files.

        Raises
        ------
        OutputError
            If there is one.
        """
        request = replace(self._engine.request, first=None, last=None)  # all dates in the folder are compiled
        stale, gone = [], []
        for step in steps:
            note = conditions(request, self._engine.layer, index=step.targets.index, mask=step.targets.mask)
            stale += [PlannedTable(target.path, note) for target in step.stale]
            gone += [PlannedTable(self._folder.root / name, note) for name in step.gone]
        check_results(gone)
        # A file without a JSON is the original program's; its place says what it is.
        replaced, smooth = check_results(stale).unknown, self._wanted.smooth
        continued = {
            target.path
            for step in steps
            for target in step.stale
            if target.content == "smoothed" and smooth and smooth.method == ORIGINAL and not smooth.reset_smoothing
        }
        return Replaced([], [path for path in replaced if path not in continued]).sentences()

    def _remove(self, gone: Sequence[str], result: Compiled) -> None:
        for name in gone:
            path = self._folder.root / name
            for file in (path, stats_path(path)):
                file.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            result.removed.append(path)
        self._ledger.set_compiled(gone=gone)

    def _stored(self, index: str, mask: str) -> StoredRows:
        return StoredRows(self._engine, self._folder, self._ledger, index, mask)

    def spool(self, index: str, mask: str) -> Spool:
        """Return all rows of an index under a mask, which stay readable when the folder is released."""
        layout = replace(self._layout, with_mask=len(self._engine.request.masks) > 1)
        return self._stored(index, mask).read(layout)[0]

    def dataset(self, kind: str | None, *, complete: bool = False) -> xr.Dataset:
        """Return all rows as a cube, or one row per feature and period of a kind.

        Parameters
        ----------
        kind
            One of `sen2chain.periods.KINDS`; None gives the rows.
        complete
            Whether dates or periods without any row are there too.
        """
        engine, aggregation, week = self._engine, self._wanted.aggregation, self._wanted.week
        found = [self._stored(*output) for output in engine.outputs]
        sensings = {image.product.sensing for stored in found for image in stored.images}
        if complete:
            sensings = sensings.union(*(stored.sensings() for stored in found))
        steps = {periods.key_of(s.date(), kind, week) for s in sensings} if kind else sensings
        check_cube(
            features=len(engine.layer),
            steps=len(steps),
            outputs=len(found),
            columns=len(aggregation.columns if aggregation else self._layout.own.names[2:]),
            instead='compile_data(..., formats="parquet")',
        )
        frames = {}
        for stored in found:
            output, rows = (stored.index, stored.mask), CompiledRows(stored, stored.images, self._folder, self._wanted)
            if kind is None or aggregation is None:
                tables = [table.select(self._layout.own.names) for table in rows.tables()]
                frames[output] = pa.concat_tables([self._layout.own.empty_table(), *tables]).to_pandas()
                continue
            parts = [aggregation.schema(self._layout.attributes, self._layout.id_field).empty_table()]
            frames[output] = (
                pa.concat_tables([*parts, *rows.aggregates(kind)])
                .select(["period", "fid", *aggregation.columns])
                .to_pandas()
            )
        definitions = aggregation.definitions if aggregation else engine.definitions
        definitions.setdefault("completeness", {"long_name": "share of pixels seen, clouds included", "units": "1"})
        note = provenance(replace(engine.request, first=None, last=None), engine.layer, engine.archive, Report())
        return to_dataset(
            frames, geometry=engine.layer.geometry, crs=engine.layer.crs, attributes=engine.attributes,
            definitions=definitions, provenance=note, along="date" if kind is None else "period",
            steps=steps if complete else (), bounds=_spans(kind, week, sensings),
        )  # fmt: skip


def _spans(
    kind: str | None, week: periods.Week, sensings: Collection[dt.datetime]
) -> Callable[[str], tuple[dt.date, dt.date]]:
    """Return the function that gives the first day of a period and the day after its last one."""

    def span(key: str) -> tuple[dt.date, dt.date]:
        if kind is None or kind == periods.ALL:
            return min(sensings).date(), max(sensings).date() + dt.timedelta(days=1)
        return periods.span_of(key, kind, week)

    return span


@dataclass(frozen=True, slots=True)
class _Step:
    """The files of one index under one mask, by what is to be done with them."""

    stored: StoredRows
    """Their raw rows."""
    targets: Targets
    """All wanted files."""
    gone: list[str]
    """Files without rows, to be removed."""
    fresh: list[Path] = field(default_factory=list)
    """Files that are there as they would be written."""
    stale: list[Target] = field(default_factory=list)
    """Files to be written."""


class _Route:
    """The file of each day, for one kind of period."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._paths = [target.path for target in targets]
        codes = {_day(image): code for code, target in enumerate(targets) for image in target.images}
        self._days = np.array(sorted(codes), np.int64)
        self._codes = np.array([codes[day] for day in self._days.tolist()], np.int64)

    def split(self, day: np.ndarray, lines: pa.StringArray) -> Iterator[tuple[Path, memoryview]]:
        """Yield each file with its lines."""
        place = np.minimum(np.searchsorted(self._days, day), len(self._days) - 1)
        code = np.where(self._days[place] == day, self._codes[place], -1)
        if len(code) and (code == code[0]).all():
            if code[0] >= 0:
                yield self._paths[code[0]], text_of(lines)
            return
        order = np.argsort(code, kind="stable")
        ordered, found = lines.take(pa.array(order)), code[order]
        starts = np.flatnonzero(np.diff(found, prepend=-2))
        for start, end in itertools.pairwise([*starts.tolist(), len(found)]):
            if found[start] >= 0:
                yield self._paths[found[start]], text_of(ordered.slice(start, end - start))


def _day(image: RawImage) -> int:
    """Return the day of an image, counted from 1970."""
    return image.product.sensing.date().toordinal() - 719163
