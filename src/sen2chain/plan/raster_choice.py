"""Choice of the rasters for each index and each mask of an acquisition, and the task that holds them.

A task is one acquisition with all its outputs. It is frozen and small, and with the pixels of the layer it is all that
a worker needs.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sen2chain.errors import RequestError
from sen2chain.index_catalogue import catalogue
from sen2chain.masks import NO_MASK, Mask, short_names
from sen2chain.pixel_store import is_kept
from sen2chain.plan.tagged_rasters import Judgement, is_known, judge_index_raster, judge_mask
from sen2chain.products import LOCAL
from sen2chain.progress import counted
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.indices import Index
    from sen2chain.products import Acquisition, Details, ProductId, Reading
    from sen2chain.sensor import Sensor

Preference = Literal["stored", "masked"]


class ValueKind(enum.StrEnum):
    """Kind of the rasters that give the values of an index, as the report names it."""

    LOSSLESS = "index raster"
    BANDS = "bands"
    LEGACY = "lossy index raster"
    MASKED = "masked index raster"


KEPT = "kept pixels"
"""What the report names bands and quality rasters of which the pixels of the layer were kept."""


class MaskKind(enum.StrEnum):
    """Kind of the rasters that give a mask, as the report names it."""

    STORED = "mask raster"
    COMPUTED = "computed"
    IN_VALUE = "in the masked index"
    NONE = "no mask"


@dataclass(frozen=True, slots=True)
class ValueSource:
    """Rasters that give the values of an index."""

    kind: ValueKind
    """Their kind."""
    rasters: Mapping[str, str]
    """Role -> location: the bands; or ``value`` and, for a masked index, ``unmasked`` where the archive has it."""
    suffix: str = ""
    """Of a masked index: the mask as it stands in the file name."""
    same_as: Mapping[str, str] = field(default_factory=dict)
    """Role -> location of other files that give the same rows: the bands that an exact raster was made from. The
    location is empty where the archive lacks the file."""
    is_foreign: bool = False
    """Whether it is an index raster of another program, whose name alone tells what it holds."""

    @property
    def label(self) -> str:
        """The rasters as the report names them: their kind, or that their pixels were kept."""
        kept = [is_kept(location) for location in self.rasters.values()]
        if not any(kept):
            return self.kind.value
        return KEPT if all(kept) else f"{self.kind} and {KEPT}"


def kind_of_label(label: str) -> str:
    """Return the kind of the rasters that a label of the report stands for: kept pixels are those of bands."""
    return ValueKind.BANDS.value if label in {KEPT, f"{ValueKind.BANDS} and {KEPT}"} else label


@dataclass(frozen=True, slots=True)
class MaskSource:
    """Rasters that give a cloud mask."""

    kind: MaskKind
    """Stored, computed, already in the values, or none."""
    rasters: Mapping[str, str]
    """Role -> location: ``mask``, or the mask's inputs."""
    suffix: str
    """The mask as it stands in the row's ``filename``."""
    same_as: Mapping[str, str] = field(default_factory=dict)
    """Role -> location of other files that give the same mask, see `ValueSource.same_as`."""

    @property
    def label(self) -> str:
        """The rasters as the report names them: the kind, and for a computed mask what it is computed from."""
        if self.kind is not MaskKind.COMPUTED:
            return self.kind.value
        others = [name for name, where in self.rasters.items() if not is_kept(where)]
        kept = [KEPT] if len(others) < len(self.rasters) else []
        return f"{self.kind} from {' and '.join([*others, *kept])}"


@dataclass(frozen=True, slots=True)
class Output:
    """One index under one mask of one acquisition: its rasters, or the reason why there are none."""

    index: Index
    mask: Mask
    value: ValueSource | None
    clouds: MaskSource | None
    reason: Reason | None = None
    """Why there is nothing to extract."""
    detail: str = ""
    """One sentence on it that names what is missing."""
    note: str = ""
    """One sentence on stored rasters that are not used; usually empty."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """The pixels of an acquisition that are kept in the folder of its layer beside the rows."""

    rasters: Mapping[str, str]
    """Band or quality raster -> location."""
    margin: float
    """Metres around the features in which quality rasters are kept."""
    complete: bool = False
    """Whether pixels of features that cloud masks remove entirely are read and kept too."""


@dataclass(frozen=True, slots=True)
class Task:
    """One acquisition with all its outputs."""

    product: ProductId
    outputs: tuple[Output, ...]
    details: Details
    """Scale and offsets of the digital numbers, cloud cover, checksums."""
    cldprb: str | None = None
    """Location of the cloud probability, for the column of that name."""
    scl: str | None = None
    """Location of the scene classification, where its class shares are asked for."""
    verify: bool = False
    """Whether the product's files are compared with its checksums."""
    reading: Reading = LOCAL
    """How the rasters are read."""
    keep: Keeping | None = None
    """The pixels to keep; None keeps none."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """Band -> location of the bands whose pixels are asked for beside the outputs; those that are missing are left
    out."""
    otherwise: Task | None = None
    """Of a task on kept pixels: the same acquisition in the archive, which is read where kept pixels turn out to be
    damaged or not to hold what is needed. None where the archive lacks it."""

    @property
    def is_on_kept_pixels(self) -> bool:
        """Whether it reads kept pixels, of some raster at least."""
        sources = (source for output in self.outputs for source in (output.value, output.clouds) if source is not None)
        places = [*self.bands.values(), *(where for source in sources for where in source.rasters.values())]
        return any(is_kept(where) for where in places)

    @property
    def has_kept_pixels_alone(self) -> bool:
        """Whether it reads kept pixels, and no archive has what they lack."""
        return self.otherwise is None and self.is_on_kept_pixels

    @property
    def cannot_be_verified(self) -> bool:
        """Whether the files of the product are to be compared with checksums, and it lists none."""
        return self.verify and self.details.has_radiometry and not self.details.has_checksums


def plan_task(
    acquisition: Acquisition,
    indices: Sequence[Index],
    masks: Sequence[Mask],
    *,
    prefer: Preference | None = None,
    needs_scl: bool = False,
    verify: bool = False,
    bands: Iterable[str] = (),
) -> Task:
    """Choose the rasters of each index under each mask of one acquisition, and those of some bands beside them."""
    sensor = acquisition.id.sensor
    outputs = tuple(resolve_sources(acquisition, index, mask, prefer) for mask in masks for index in indices)
    return Task(
        acquisition.id,
        outputs,
        acquisition.details,
        acquisition.bands.get(sensor.cloud_probability or ""),
        acquisition.bands.get(sensor.classification or "") if needs_scl else None,
        verify,
        acquisition.reading,
        bands={band: acquisition.bands[band] for band in bands if band in acquisition.bands},
    )


def resolve_sources(acquisition: Acquisition, index: Index, mask: Mask, prefer: Preference | None = None) -> Output:
    """Choose the rasters of the values and of the mask of one output.

    Values come from an exact index raster, else the bands, else a lossy index raster, else the stored masked index.
    ``prefer="stored"`` takes any stored index raster before the bands, ``prefer="masked"`` the stored masked index
    before all. A mask comes from a stored raster of exactly this mask, else it is computed. `tagged_rasters` judges
    what a stored raster holds.
    """
    sensor = acquisition.id.sensor
    if index.sensor != sensor:
        return Output(index, mask, None, None, Reason.INDEX_INPUTS_MISSING, _of_another(index, sensor))
    if mask.sensor != sensor and mask.family != NO_MASK:
        return Output(index, mask, None, None, Reason.MASK_INPUTS_MISSING, _of_another(mask, sensor))
    (clouds, unfit), found = _mask_choice(acquisition, mask), _Choices.of(acquisition, index, mask)
    for kind in value_order(prefer):
        value = found.usable.get(kind)
        if value is None:
            continue
        note = found.note(index, kind, prefer)
        if kind is ValueKind.MASKED:
            in_value = MaskSource(MaskKind.IN_VALUE, {}, value.suffix)
            # With the unmasked raster beside it, a masked index tells by itself what the mask removed.
            own = in_value if "unmasked" in value.rasters else clouds or in_value
            return Output(index, mask, value, own, note=note)
        if clouds is not None:
            computed = f"{mask.name} is computed: the stored raster {unfit}." if unfit else ""
            return Output(index, mask, value, clouds, note=" ".join(filter(None, (note, computed))))
    if found.usable:
        return Output(index, mask, None, None, Reason.MASK_INPUTS_MISSING, _why_no_mask(acquisition, mask, unfit))
    why = _why_no_value(acquisition, index, found.refused.get(ValueKind.LOSSLESS, ""))
    return Output(index, mask, None, None, Reason.INDEX_INPUTS_MISSING, why)


def resolve_mask(acquisition: Acquisition, mask: Mask) -> MaskSource:
    """Choose what serves a mask of an acquisition: a stored raster of exactly this mask, else the inputs it needs.

    Raises
    ------
    RequestError
        If the acquisition has neither; the message names what is missing.
    """
    source, unfit = _mask_choice(acquisition, mask)
    if source is None:
        raise RequestError(f"{acquisition.id}: {_why_no_mask(acquisition, mask, unfit)}")
    return source


def value_order(prefer: Preference | None = None) -> tuple[ValueKind, ...]:
    """Return the sources of values in the order in which they are taken."""
    return {
        None: (ValueKind.LOSSLESS, ValueKind.BANDS, ValueKind.LEGACY, ValueKind.MASKED),
        "stored": (ValueKind.LOSSLESS, ValueKind.LEGACY, ValueKind.BANDS, ValueKind.MASKED),
        "masked": (ValueKind.MASKED, ValueKind.LOSSLESS, ValueKind.BANDS, ValueKind.LEGACY),
    }[prefer]


@dataclass(slots=True)
class _Choices:
    """Sources of the values of an index under a mask."""

    usable: dict[ValueKind, ValueSource] = field(default_factory=dict)
    """Those that the archive has."""
    refused: dict[ValueKind, str] = field(default_factory=dict)
    """Why a stored raster is not of this kind, or why it is lossy although it is not the original program's."""

    @classmethod
    def of(cls, acquisition: Acquisition, index: Index, mask: Mask) -> _Choices:
        found = cls()
        if all(band in acquisition.bands for band in index.bands) and acquisition.details.has_radiometry:
            bands = {band: acquisition.bands[band] for band in index.bands}
            found.usable[ValueKind.BANDS] = ValueSource(ValueKind.BANDS, bands)
        stored = []
        for location in acquisition.indices.get(index.name, ()):
            judged = judge_index_raster(acquisition, index, location)
            if judged.why_not:
                found.refused.setdefault(ValueKind.LEGACY if judged.usable else ValueKind.LOSSLESS, judged.why_not)
            if judged.usable:
                kind = ValueKind.LOSSLESS if judged.exact else ValueKind.LEGACY
                found.usable.setdefault(kind, _stored_value(kind, location, judged))
                stored.append(location)
        found._add_masked(acquisition, index, mask, stored)
        return found

    def _add_masked(self, acquisition: Acquisition, index: Index, mask: Mask, stored: Sequence[str]) -> None:
        """Add the masked raster; `stored` are the unmasked ones."""
        places = {suffix: where for (name, suffix), where in acquisition.masked.items() if name == index.name}

        def is_ours(suffix: str) -> bool:
            return acquisition.details.tags(places[suffix]) is not None

        suffix = mask.stored(acquisition.id, places, is_ours)
        if suffix is None:
            return
        judged = judge_index_raster(acquisition, index, places[suffix])
        if not judged.usable:
            self.refused[ValueKind.MASKED] = judged.why_not
            return
        rasters = {"value": places[suffix]}
        same_make = [s for s in stored if s.rpartition(".")[2] == rasters["value"].rpartition(".")[2]]
        if same_make:
            rasters["unmasked"] = same_make[0]
        self.usable[ValueKind.MASKED] = ValueSource(ValueKind.MASKED, rasters, suffix)

    def note(self, index: Index, chosen: ValueKind, prefer: Preference | None) -> str:
        """Return a sentence on why stored rasters are passed over for the chosen source; empty where none is."""
        order = value_order(prefer)
        passed_over = {*order[: order.index(chosen)]}
        if chosen is ValueKind.BANDS:
            passed_over.add(ValueKind.LEGACY)  # those that are rounded
        why = [self.refused[kind] for kind in order if kind in passed_over and kind in self.refused]
        if not why:
            return ""
        source = "is computed from bands" if chosen is ValueKind.BANDS else f"comes from the {chosen}"
        return f"{index.name} {source}: the stored raster {' and '.join(dict.fromkeys(why))}."


def _stored_value(kind: ValueKind, location: str, judged: Judgement) -> ValueSource:
    return ValueSource(kind, {"value": location}, same_as=judged.same_as, is_foreign=judged.is_foreign)


def _mask_choice(acquisition: Acquisition, mask: Mask) -> tuple[MaskSource | None, str]:
    """Return what serves a mask, and a clause on why a stored raster of it does not; empty where one does."""
    if mask.family == NO_MASK:
        return MaskSource(MaskKind.NONE, {}, mask.name), ""
    places, unfit = dict(acquisition.masks), ""

    def is_ours(suffix: str) -> bool:
        return acquisition.details.tags(places[suffix]) is not None

    while (suffix := mask.stored(acquisition.id, places, is_ours)) is not None:
        judged = judge_mask(acquisition, mask, suffix)
        if judged is None or judged.usable:
            same_as = {} if judged is None else judged.same_as
            return MaskSource(MaskKind.STORED, {"mask": places[suffix]}, suffix, same_as), ""
        unfit = unfit or judged.why_not
        del places[suffix]
    inputs = mask.inputs
    if not inputs or any(name not in acquisition.bands for name in inputs):
        return None, unfit
    if mask.bands and not acquisition.details.has_radiometry:
        return None, unfit
    return MaskSource(MaskKind.COMPUTED, {name: acquisition.bands[name] for name in inputs}, mask.name), unfit


def _of_another(item: Index | Mask, sensor: Sensor) -> str:
    return f"{item.name} is made for {item.sensor.name}, and the product is one of {sensor.name}."


def _metadata(acquisition: Acquisition) -> str:
    return f"the metadata {acquisition.id.sensor.metadata}".rstrip()


def _why_no_value(acquisition: Acquisition, index: Index, refused: str) -> str:
    """Return what the values of an index would take; `refused` says why a stored raster is not used, or is empty."""
    missing = [band for band in index.bands if band not in acquisition.bands]
    if missing:
        what = f"band{'s' * (len(missing) > 1)} {', '.join(missing)}"
    else:
        what = f"{_metadata(acquisition)} with the bands' offsets"
    stored = f" and no {index.name} raster is stored" if is_known(index) else ""
    stored = f", and the stored raster {refused}" if refused else stored
    because = f": {acquisition.remark}" if acquisition.remark else ""
    entry = catalogue().get(index.name)
    twin = entry.same_as if entry is not None and entry.formula == index.formula else ""
    instead = f" {twin} is the same index, and rasters of it are stored." if twin in acquisition.indices else ""
    return f"{index.name} needs {what}, which the {acquisition.reading.kind} lacks{stored}{because}.{instead}"


def _why_no_mask(acquisition: Acquisition, mask: Mask, unfit: str) -> str:
    """Return what a mask would take; `unfit` says why a stored raster of it is not used, or is empty."""
    missing = [name for name in mask.inputs if name not in acquisition.bands]
    would = f"Masks that would work: {', '.join(masks_that_work([acquisition]))}."
    if not mask.inputs:
        stored = f"The stored {mask.name} raster {unfit}" if unfit else f"No {mask.name} raster is stored"
        return f"{stored}, and it cannot be computed here. {would}"
    what = " and ".join(missing) or _metadata(acquisition)
    because = f": {acquisition.remark}" if acquisition.remark else ""
    source = f"the {acquisition.reading.kind}"
    stored = f"the stored raster {unfit}" if unfit else "no raster of it is stored"
    return f"{mask.name} needs {what}, which {source} lacks, and {stored}{because}. {would}"


def masks_that_work(acquisitions: Iterable[Acquisition]) -> list[str]:
    """Return the names of masks that any of some acquisitions has, the one that masks nothing last."""
    found: dict[Mask, str] = {}
    for acquisition in acquisitions:
        sensor = acquisition.id.sensor
        for name in (*short_names(sensor), *acquisition.masks):
            try:
                mask = Mask.parse(name, sensor)
            except RequestError:
                continue  # a file that cannot be used as a mask
            if mask.family != NO_MASK and mask not in found and _mask_choice(acquisition, mask)[0]:
                found[mask] = name
    return [*found.values(), NO_MASK]


def notes_on(tasks: Iterable[Task]) -> list[str]:
    """Return the sentences on stored rasters that are not used, each once with its number of products.

    A last one counts the index rasters of other programs that are used.
    """
    tasks = list(tasks)
    notes = Counter(note for task in tasks for note in dict.fromkeys(output.note for output in task.outputs) if note)
    values = (output.value for task in tasks for output in task.outputs)
    foreign = {value.rasters["value"] for value in values if value is not None and value.is_foreign}
    said = [f"{counted(number, 'product')}: {note}" for note, number in notes.items()]
    if foreign:
        them = "it" if len(foreign) == 1 else "them"
        said.append(
            f"{counted(len(foreign), 'index raster')} without tags of sen2chain will be read: another program wrote "
            f"{them}, and only the name says which index that is."
        )
    return said
