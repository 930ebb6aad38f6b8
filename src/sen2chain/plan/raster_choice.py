"""Choice of the rasters for each index and each mask of an acquisition, and the task that holds them.

A task is one acquisition with all its outputs. It is frozen and small, and with the pixels of the layer it is all that
a worker needs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sen2chain.errors import RequestError
from sen2chain.index_catalogue import catalogue
from sen2chain.indices import INDICES
from sen2chain.masks import NO_MASK, Mask, short_names
from sen2chain.products import LOCAL
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


@dataclass(frozen=True, slots=True)
class MaskSource:
    """Rasters that give a cloud mask."""

    kind: MaskKind
    """Stored, computed, already in the values, or none."""
    rasters: Mapping[str, str]
    """Role -> location: ``mask``, or the mask's inputs."""
    suffix: str
    """The mask as it stands in the row's ``filename``."""


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
) -> Task:
    """Choose the rasters of each index under each mask of one acquisition."""
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
    )


def resolve_sources(acquisition: Acquisition, index: Index, mask: Mask, prefer: Preference | None = None) -> Output:
    """Choose the rasters of the values and of the mask of one output.

    Values come from a lossless index raster, else the bands, else a lossy index raster, else the stored masked
    index. ``prefer="stored"`` takes any stored index raster before the bands, ``prefer="masked"`` the stored masked
    index before all. A mask comes from a stored raster of exactly this mask, else it is computed.
    """
    sensor = acquisition.id.sensor
    if index.sensor != sensor:
        return Output(index, mask, None, None, Reason.INDEX_INPUTS_MISSING, _of_another(index, sensor))
    if mask.sensor != sensor and mask.family != NO_MASK:
        return Output(index, mask, None, None, Reason.MASK_INPUTS_MISSING, _of_another(mask, sensor))
    clouds = _mask_source(acquisition, mask)
    choices = _value_choices(acquisition, index, mask)
    for kind in value_order(prefer):
        if kind not in choices:
            continue
        if kind is ValueKind.MASKED:
            value, in_value = choices[kind], MaskSource(MaskKind.IN_VALUE, {}, choices[kind].suffix)
            # With the unmasked raster beside it, a masked index tells by itself what the mask removed.
            return Output(index, mask, value, in_value if "unmasked" in value.rasters else clouds or in_value)
        if clouds is not None:
            return Output(index, mask, choices[kind], clouds)
    if choices:
        return Output(index, mask, None, None, Reason.MASK_INPUTS_MISSING, _why_no_mask(acquisition, mask))
    return Output(index, mask, None, None, Reason.INDEX_INPUTS_MISSING, _why_no_value(acquisition, index))


def resolve_mask(acquisition: Acquisition, mask: Mask) -> MaskSource:
    """Choose what serves a mask of an acquisition: a stored raster of exactly this mask, else the inputs it needs.

    Raises
    ------
    RequestError
        If the acquisition has neither; the message names what is missing.
    """
    source = _mask_source(acquisition, mask)
    if source is None:
        raise RequestError(f"{acquisition.id}: {_why_no_mask(acquisition, mask)}")
    return source


def value_order(prefer: Preference | None = None) -> tuple[ValueKind, ...]:
    """Return the sources of values in the order in which they are taken."""
    return {
        None: (ValueKind.LOSSLESS, ValueKind.BANDS, ValueKind.LEGACY, ValueKind.MASKED),
        "stored": (ValueKind.LOSSLESS, ValueKind.LEGACY, ValueKind.BANDS, ValueKind.MASKED),
        "masked": (ValueKind.MASKED, ValueKind.LOSSLESS, ValueKind.BANDS, ValueKind.LEGACY),
    }[prefer]


def _value_choices(acquisition: Acquisition, index: Index, mask: Mask) -> dict[ValueKind, ValueSource]:
    choices: dict[ValueKind, ValueSource] = {}
    if all(band in acquisition.bands for band in index.bands) and acquisition.details.has_radiometry:
        choices[ValueKind.BANDS] = ValueSource(ValueKind.BANDS, {b: acquisition.bands[b] for b in index.bands})
    if not _is_known(index):
        return choices  # a stored raster of a user's index may have been made with another formula
    stored = acquisition.indices.get(index.name, ())
    for location in stored:
        kind = ValueKind.LOSSLESS if location.endswith(".tif") else ValueKind.LEGACY
        choices.setdefault(kind, ValueSource(kind, {"value": location}))
    suffixes = [suffix for name, suffix in acquisition.masked if name == index.name]
    suffix = mask.stored(acquisition.id, suffixes)
    if suffix is not None:
        rasters = {"value": acquisition.masked[index.name, suffix]}
        same_make = [s for s in stored if s.rpartition(".")[2] == rasters["value"].rpartition(".")[2]]
        if same_make:
            rasters["unmasked"] = same_make[0]
        choices[ValueKind.MASKED] = ValueSource(ValueKind.MASKED, rasters, suffix)
    return choices


def _mask_source(acquisition: Acquisition, mask: Mask) -> MaskSource | None:
    if mask.family == NO_MASK:
        return MaskSource(MaskKind.NONE, {}, mask.name)
    suffix = mask.stored(acquisition.id, acquisition.masks)
    if suffix is not None:
        return MaskSource(MaskKind.STORED, {"mask": acquisition.masks[suffix]}, suffix)
    inputs = mask.inputs
    if not inputs or any(name not in acquisition.bands for name in inputs):
        return None
    if mask.bands and not acquisition.details.has_radiometry:
        return None
    return MaskSource(MaskKind.COMPUTED, {name: acquisition.bands[name] for name in inputs}, mask.name)


def _is_known(index: Index) -> bool:
    """Whether an index is one of the twelve, of which archives have rasters."""
    return index.name in INDICES and index.sensor == INDICES[index.name].sensor


def _of_another(item: Index | Mask, sensor: Sensor) -> str:
    return f"{item.name} is made for {item.sensor.name}, and the product is one of {sensor.name}."


def _metadata(acquisition: Acquisition) -> str:
    return f"the metadata {acquisition.id.sensor.metadata}".rstrip()


def _why_no_value(acquisition: Acquisition, index: Index) -> str:
    missing = [band for band in index.bands if band not in acquisition.bands]
    if missing:
        what = f"band{'s' * (len(missing) > 1)} {', '.join(missing)}"
    else:
        what = f"{_metadata(acquisition)} with the bands' offsets"
    stored = f" and no {index.name} raster is stored" if _is_known(index) else ""
    because = f": {acquisition.remark}" if acquisition.remark else ""
    entry = catalogue().get(index.name)
    twin = entry.same_as if entry is not None and entry.formula == index.formula else ""
    instead = f" {twin} is the same index, and rasters of it are stored." if twin in acquisition.indices else ""
    return f"{index.name} needs {what}, which the {acquisition.reading.kind} lacks{stored}{because}.{instead}"


def _why_no_mask(acquisition: Acquisition, mask: Mask) -> str:
    missing = [name for name in mask.inputs if name not in acquisition.bands]
    would = f"Masks that would work: {', '.join(masks_that_work([acquisition]))}."
    if not mask.inputs:
        return f"No {mask.name} raster is stored, and it cannot be computed here. {would}"
    what = " and ".join(missing) or _metadata(acquisition)
    because = f": {acquisition.remark}" if acquisition.remark else ""
    source = f"the {acquisition.reading.kind}"
    return f"{mask.name} needs {what}, which {source} lacks, and no raster of it is stored{because}. {would}"


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
            if mask.family != NO_MASK and mask not in found and _mask_source(acquisition, mask):
                found[mask] = name
    return [*found.values(), NO_MASK]
