"""Tasks on kept pixels: the tasks of a plan, with kept pixels wherever they give the rows that the archive gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sen2chain.archive import size_of
from sen2chain.errors import KeptPixelsError, PixelsNotKeptError
from sen2chain.kept_source.kept_details import KeptDetails
from sen2chain.kept_source.sufficiency import KeptRole, Lack, Sufficiency
from sen2chain.pixel_store import is_kept, kept_location, load_positions
from sen2chain.plan import MaskKind, MaskSource, Output, ValueKind, ValueSource, resolve_sources
from sen2chain.progress import counted
from sen2chain.reasons import UNKEPT, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.extract import Coverages
    from sen2chain.kept_source.kept_archive import KeptSource
    from sen2chain.plan import ExtractionPlan, Request, Task
    from sen2chain.store import KeptEntry


@dataclass(slots=True)
class Served:
    """What kept pixels serve of one plan: known when it is made, and completed by its run."""

    wholly: set[str] = field(default_factory=set)
    """Products of which nothing else is read."""
    partly: set[str] = field(default_factory=set)
    """Products of which rasters of the archive are read too."""
    lacking: dict[str, bool] = field(default_factory=dict)
    """Product that kept pixels alone serve -> whether something that is asked for is known to be lacking."""
    given_up: dict[str, KeptPixelsError] = field(default_factory=dict)
    """Product that a run read from the archive in the place of kept pixels -> why."""
    others: Counter[str] = field(default_factory=Counter)
    """Why kept pixels do not serve, as ``without kept pixels`` -> acquisitions."""
    damage: str = ""
    """A sentence on the first file of kept pixels that is damaged; empty where none is."""
    reach: str = ""
    """A sentence on the dates that pixels are kept of, see `KeptSource.reach`."""

    def note_lack(self, product: str) -> None:
        """Note that a run has found something which is asked for of a product, and no archive has, not to be kept."""
        if product in self.lacking:
            self.lacking[product] = True

    def sentences(self, source: KeptSource) -> list[str]:
        """Return what people are told of it: after a run, also what the run has found out.

        Where no archive has the rest, the reasons of rows that are not there tell what is lacking.
        """
        return [*self._on_plan(source), *self._on_given_up(source)]

    def _on_plan(self, source: KeptSource) -> list[str]:
        """Return a sentence on what serves the acquisitions of the plan; an empty list where it has none."""
        chosen = self.wholly | self.partly
        whole = len(chosen) + sum(self.others.values())
        if not whole:
            return []
        used = len(chosen - self.given_up.keys())
        said = [f"Kept pixels of {source.folder.root.name} serve {used:,} of {counted(whole, 'acquisition')}"]
        if partly := len(self.partly - self.given_up.keys()):
            said.append(f"{partly:,} of them together with rasters of the {source.reading.kind}")
        if in_part := sum(self.lacking.values()):
            said.append(f"{in_part:,} of them in part")
        parts = [", ".join(said) + "."]
        if self.others and source.archive is not None:
            why = "; ".join(f"{number:,} {cause}" for cause, number in self.others.most_common())
            parts.append(f"The others are read from the {source.reading.kind}: {why}.")
            parts += [self.damage] if self.damage else []
        if source.why_alone:
            parts.append(source.why_alone)
        parts += [self.reach] if self.reach else []
        if source.superseded:
            parts.append(f"{counted(len(source.superseded), 'product')} with kept pixels gave way to newer ones.")
        return [" ".join(parts)]

    def _on_given_up(self, source: KeptSource) -> list[str]:
        """Return sentences on acquisitions that were read from the archive after all."""
        errors = self.given_up.values()
        hidden = sum(isinstance(error, PixelsNotKeptError) for error in errors)
        damaged = [str(error) for error in errors if not isinstance(error, PixelsNotKeptError)]
        after_all, said = f"Read from the {source.reading.kind} after all", []
        if damaged:
            number = counted(len(damaged), "acquisition")
            said.append(f"{after_all}: {number}, whose kept pixels are damaged. {damaged[0]}")
        if hidden:
            number = counted(hidden, "acquisition")
            said.append(f"{after_all}: {number}, whose kept pixels lack some that clouds hid when they were kept.")
        return said


def served(
    plan: ExtractionPlan, source: KeptSource, coverages: Coverages, request: Request
) -> tuple[ExtractionPlan, Served]:
    """Have the tasks of a plan read kept pixels wherever these suffice; no pixel file is opened.

    Values that the archive would give from bands, or from an exact index raster of ours that was made of these very
    bands, come from kept pixels, and so do masks that are computed, or stored by us and made of these very rasters.
    Other stored rasters keep their place, so that rows are those of the archive.

    Parameters
    ----------
    plan
        The plan of `source`.
    source
        Kept pixels before an archive.
    coverages
        The layer's pixels.
    request
        What is asked for.
    """
    server = _Server(source, coverages, request)
    tasks = server.serve(plan.tasks)
    return replace(plan, tasks=tuple(tasks)), server.counts


class _Server:
    """The choice between kept pixels and the archive for the tasks of one plan."""

    def __init__(self, source: KeptSource, coverages: Coverages, request: Request) -> None:
        self._source, self._coverages, self._request = source, coverages, request
        self._sufficiency: dict[tuple[str, str], Sufficiency | Lack] = {}
        self.quality = frozenset(raster.name for raster in request.sensor.quality)
        self.counts = Served(reach=source.reach(request.first, request.last))

    def serve(self, tasks: Sequence[Task]) -> list[Task]:
        entries = [self._source.entries.get(str(task.product)) for task in tasks]
        self._compare(task for task, entry in zip(tasks, entries, strict=True) if entry is not None)
        return [self._task(task, entry) for task, entry in zip(tasks, entries, strict=True)]

    def _compare(self, tasks: Iterable[Task]) -> None:
        """Find the products whose rasters have changed since their pixels were kept, all at once."""
        found = []
        for task in tasks:
            rasters = self._source.entries[str(task.product)].rasters
            places = {n: where for n, where in _places(task).items() if n in rasters and not is_kept(where)}
            found.append((str(task.product), {name: rasters[name].token for name in places}, places))
        self._source.compare(found)

    def _task(self, task: Task, entry: KeptEntry | None) -> Task:
        """Return the task that serves in the place of another."""
        details = task.details
        is_alone = isinstance(details, KeptDetails) and details.archive is None
        archive = task
        if isinstance(details, KeptDetails) and details.archive is not None:
            archive = replace(task, details=details.archive)
        lack = self._why_not(task, entry)
        if entry is None or lack is not None:
            self.counts.others[lack.clause if lack else ""] += 1
            if lack is not None and lack.reason is Reason.UNREADABLE:
                self.counts.damage = self.counts.damage or lack.sentence
            if entry is None or not is_alone or lack is None:
                return archive
            nothing = tuple(self._without(output, lack) for output in task.outputs)
            return replace(task, outputs=nothing, cldprb=None, scl=None, bands={})
        choice = _Choice(self, task, entry, is_alone=is_alone)
        made = choice.finish(tuple(choice.output(output) for output in task.outputs))
        self._count(made, choice.lack)
        usable = [output for output in made.outputs if output.reason is None]
        if is_alone and usable and made.is_on_kept_pixels:
            unkept = any(output.reason in UNKEPT for output in made.outputs)
            self.counts.lacking[str(task.product)] = unkept or choice.is_partial
        if is_alone:
            return made
        return replace(made, otherwise=archive) if made.is_on_kept_pixels else archive

    def _why_not(self, task: Task, entry: KeptEntry | None) -> Lack | None:
        """Return why no kept pixel of a product is used; None where some may be."""
        if entry is None:
            return Lack(Reason.NOT_KEPT, "without kept pixels")
        if str(task.product) in self._source.stale:
            return Lack(Reason.NOT_KEPT, "changed since the pixels were kept, or were kept of other files")
        path = self._source.paths[entry.product]
        if size_of(path) != entry.size:
            again = "update the layer with keep_pixels (--keep-pixels) to read these pixels from the archive again"
            sentence = f"Kept pixels {path} are gone or were cut off; {again}."
            return Lack(Reason.UNREADABLE, "with a file of kept pixels that is gone or was cut off", sentence)
        found = self.sufficiency(task.product.tile, entry)
        return found if isinstance(found, Lack) else None

    def sufficiency(self, tile: str, entry: KeptEntry) -> Sufficiency | Lack:
        key = tile, entry.positions
        if key not in self._sufficiency:
            try:
                positions = load_positions(self._source.folder.pixels(tile), entry.positions)
                self._sufficiency[key] = Sufficiency(positions, self._coverages, tile)
            except KeptPixelsError as error:
                self._sufficiency[key] = Lack(Reason.UNREADABLE, "with damaged kept pixels", str(error))
        return self._sufficiency[key]

    def _count(self, task: Task, lack: Lack | None) -> None:
        """Count an acquisition by what serves it; `lack` is what was first found to be lacking."""
        places = [*task.bands.values(), *(where for output in task.outputs for where in _locations(output))]
        kept = [where for where in places if is_kept(where)]
        if not kept or all(output.reason is not None for output in task.outputs):
            self.counts.others[lack.clause if lack else "served by other stored rasters"] += 1
        elif len(kept) == len(places):
            self.counts.wholly.add(str(task.product))
        else:
            self.counts.partly.add(str(task.product))

    @staticmethod
    def _without(output: Output, lack: Lack) -> Output:
        """Return an output that nothing serves."""
        if output.reason is not None:
            return output
        return Output(output.index, output.mask, None, None, lack.reason, lack.sentence)


class _Choice:
    """The choice of rasters for one task."""

    def __init__(self, server: _Server, task: Task, entry: KeptEntry, *, is_alone: bool) -> None:
        self._server, self._task, self._entry, self._is_alone = server, task, entry, is_alone
        found = server.sufficiency(task.product.tile, entry)
        assert isinstance(found, Sufficiency)  # noqa: S101  # the caller has looked
        self._enough = found
        self._path = server._source.paths[entry.product]  # noqa: SLF001  # the two are one
        self.lack: Lack | None = None
        self.is_partial = False
        """Whether kept pixels serve some features and lack those of others, which no archive has."""

    def _location(self, name: str) -> str:
        return kept_location(self._path, name)

    def _band(self, name: str) -> bool:
        """Whether kept pixels of a band serve its values."""
        if name not in self._entry.rasters:
            self._note(Lack(Reason.NOT_KEPT, f"without kept pixels of {name}"))
            return False
        return self._note(self._decisive(self._enough.values()))

    def _mask_input(self, output: Output, name: str) -> bool:
        """Whether kept pixels of a raster serve to compute a mask."""
        raster = self._raster(name)
        if raster is None:
            self._note(Lack(Reason.NOT_KEPT, f"without kept pixels of {name}"))
            return False
        return self._note(self._enough.mask(output.mask, name, raster))

    def _raster(self, name: str) -> KeptRole | None:
        """Return what decides which pixels of a raster are kept; None where none are."""
        held = self._entry.rasters.get(name)
        if held is None:
            return None
        return KeptRole("quality" if name in self._server.quality else "band", held.grid)

    def _decisive(self, lack: Lack | None) -> Lack | None:
        """Return what is lacking where that decides for the whole acquisition; None where kept pixels are used.

        Where no archive has the rest, the features that lack nothing have their rows, and the others their reason.
        """
        if lack is None or not (lack.is_partial and self._is_alone):
            return lack
        self.is_partial = True
        return None

    def _note(self, lack: Lack | None) -> bool:
        self.lack = self.lack or lack
        return lack is None

    def output(self, output: Output) -> Output:
        """Return the output with kept pixels where they serve."""
        if output.reason is not None:
            return self._in_place_of(output)
        if self._is_alone:
            return self._alone(output)
        return replace(output, value=self._value(output), clouds=self._clouds(output))

    def _value(self, output: Output) -> ValueSource | None:
        value = output.value
        if value is None:
            return None
        if value.kind is ValueKind.BANDS:
            rasters = {
                band: self._location(band) if self._band(band) else where for band, where in value.rasters.items()
            }
            return value if rasters == value.rasters else replace(value, rasters=rasters)
        bands = value.same_as
        if value.kind is ValueKind.LOSSLESS and bands and all(bands.values()) and all(map(self._band, bands)):
            return ValueSource(ValueKind.BANDS, {band: self._location(band) for band in bands})
        return value

    def _clouds(self, output: Output) -> MaskSource | None:
        clouds, mask = output.clouds, output.mask
        if clouds is None:
            return None
        if clouds.kind is MaskKind.COMPUTED:
            rasters = {
                name: self._location(name) if self._mask_input(output, name) else where
                for name, where in clouds.rasters.items()
            }
            return clouds if rasters == clouds.rasters else replace(clouds, rasters=rasters)
        proven = clouds.kind is MaskKind.STORED and mask.inputs and all(clouds.same_as.get(n) for n in mask.inputs)
        if proven and all(self._mask_input(output, name) for name in mask.inputs):
            rasters = {name: self._location(name) for name in mask.inputs}
            return MaskSource(MaskKind.COMPUTED, rasters, clouds.suffix)
        return clouds

    def _in_place_of(self, output: Output) -> Output:
        """Return an output from kept pixels alone in the place of one that the archive has nothing for."""
        source = self._server._source  # noqa: SLF001  # the two are one
        prefer = self._server._request.prefer  # noqa: SLF001
        found = resolve_sources(source.alone(self._entry), output.index, output.mask, prefer)
        if found.reason is None:
            return self._alone(found) if self._is_alone or self._alone(found).reason is None else output
        inputs = output.index.bands if found.reason is Reason.INDEX_INPUTS_MISSING else output.mask.inputs
        missing = [name for name in inputs if name not in self._entry.rasters]
        if not self._is_alone or not missing:
            return output
        what, which = (
            ", ".join(missing),
            output.index.name if found.reason is Reason.INDEX_INPUTS_MISSING else output.mask,
        )
        self._note(Lack(Reason.NOT_KEPT, f"without kept pixels of {what}"))
        bands = ",".join(name for name in missing if name not in self._server.quality)
        how = f"--keep-pixels {bands}".rstrip()
        detail = f"{which} needs {what}, of which no pixels were kept; name the archive, or keep them ({how})."
        return replace(output, reason=Reason.NOT_KEPT, detail=detail)

    def _alone(self, output: Output) -> Output:
        """Return an output of which only kept pixels are left, or the reason why they do not suffice."""
        bands = () if output.value is None else output.value.rasters
        inputs = () if output.clouds is None else output.clouds.rasters
        for _ in bands:
            if (lack := self._decisive(self._enough.values())) is not None:
                self._note(lack)
                return self._server._without(output, lack)  # noqa: SLF001  # the two are one
        for name in inputs:
            raster = self._raster(name)
            lack = None if raster is None else self._decisive(self._enough.mask(output.mask, name, raster))
            if lack is not None:
                self._note(lack)
                return self._server._without(output, lack)  # noqa: SLF001
        return output

    def finish(self, outputs: tuple[Output, ...]) -> Task:
        """Return the task with these outputs, and with kept quality rasters for columns of its rows."""
        task, sensor = self._task, self._task.product.sensor
        cldprb, scl = task.cldprb, task.scl
        name = sensor.cloud_probability or ""
        held = self._raster(name)
        if held is not None and self._decisive(self._enough.own_pixels(held)) is None:
            cldprb = self._location(name)
        elif self._is_alone:
            cldprb = None
        name = sensor.classification or ""
        held = self._raster(name)
        if scl is not None and held is not None and self._decisive(self._enough.around(held, 0)) is None:
            scl = self._location(name)
        elif self._is_alone:
            scl = None
        bands = {b: self._location(b) if self._band(b) else where for b, where in task.bands.items()}
        if self._is_alone:
            bands = {band: where for band, where in bands.items() if self._band(band)}
        return replace(task, outputs=outputs, cldprb=cldprb, scl=scl, bands=bands)


def _places(task: Task) -> dict[str, str]:
    """Band or quality raster -> location, of those that a task reads or could read in the place of stored rasters."""
    sensor = task.product.sensor
    found: dict[str, str] = {}
    for output in task.outputs:
        for source, kind in ((output.value, ValueKind.BANDS), (output.clouds, MaskKind.COMPUTED)):
            if source is not None:
                found |= source.rasters if source.kind is kind else source.same_as
    found |= task.bands
    found |= {sensor.cloud_probability or "": task.cldprb or "", sensor.classification or "": task.scl or ""}
    return {name: where for name, where in found.items() if where}


def _locations(output: Output) -> list[str]:
    sources: Iterable[ValueSource | MaskSource | None] = (output.value, output.clouds)
    rasters: Iterable[Mapping[str, str]] = (source.rasters for source in sources if source is not None)
    return [where for places in rasters for where in places.values()]
