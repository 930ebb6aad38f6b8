"""Which indices and masks of a product are stored, can be made, or neither, and why.

Whether a stored raster is used is decided by `sen2chain.plan`, as for an extraction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sen2chain.errors import RequestError
from sen2chain.indices import INDICES, Index
from sen2chain.masks import NO_MASK, Mask, short_names
from sen2chain.plan import MaskKind, resolve_mask
from sen2chain.plan.tagged_rasters import judge_index_raster, judge_mask
from sen2chain.produce.cloud_model import BANDS as MODEL_BANDS
from sen2chain.products import KnownDetails, Radiometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.products import Acquisition
    from sen2chain.raster_form import RasterForm
    from sen2chain.raster_tags import RasterTags
    from sen2chain.sensor import Sensor

    Tags = Mapping[str, RasterTags]
    """Location -> tags, of the rasters that have some."""
    Forms = Mapping[str, RasterForm]
    """Location -> form, of the rasters that can be opened."""

MODEL = "OCM"
"""The family of masks that OmniCloudMask makes, an optional library."""
LOSSY_SUFFIX = ".jp2"
"""Ending of the index rasters of the original program, which are lossy."""

_SOME_RADIOMETRY = Radiometry(1.0, {})


@dataclass(frozen=True, slots=True)
class Availability:
    """How one index or mask of one product can be had."""

    stored: bool = False
    """Whether a raster of exactly it is stored."""
    lossy: bool = False
    """Of an index: whether a lossy or rounded raster is stored."""
    masked: bool = False
    """Of an index: whether a masked copy is stored."""
    distrusted: str = ""
    """Why no stored raster is used although there is one, a clause whose subject is the raster; else empty."""
    makeable: bool = False
    """Whether its inputs are there."""
    lacking: str = ""
    """Why it cannot be made, a clause; empty where it can."""
    missing: tuple[str, ...] = ()
    """The bands and quality rasters that are missing for it."""

    @property
    def reason(self) -> str:
        """The clause with the names of what is missing; empty where it can be made."""
        return self.lacking.format(joined(self.missing), "is" if len(self.missing) == 1 else "are")

    @property
    def first(self) -> str:
        """The best way to have it: ``stored``, ``makeable``, ``only_lossy``, ``only_masked`` or ``impossible``."""
        ways = (self.stored, self.makeable, self.lossy, self.masked, True)
        return ("stored", "makeable", "only_lossy", "only_masked", "impossible")[ways.index(True)]


@dataclass(frozen=True, slots=True)
class _TaggedDetails(KnownDetails):
    """Details of a product the headers of whose rasters have been read.

    Whether scale and offsets are still those that a raster was made with is left to the check of an archive.
    """

    known_tags: Tags = field(default_factory=dict)
    """Location -> tags."""
    known_forms: Forms = field(default_factory=dict)
    """Location -> form."""

    def remembered_radiometry(self) -> None:
        """Return None: tags are not compared with the metadata."""
        return

    def tags(self, location: str) -> RasterTags | None:  # type: ignore[override]  # the base knows none
        """Return the tags of a raster."""
        return self.known_tags.get(location)

    def form(self, location: str) -> RasterForm | None:  # type: ignore[override]  # the base knows none
        """Return the form of a raster."""
        return self.known_forms.get(location)


class AvailabilityTable:
    """How the indices and masks of products can be had, looked at once for all products with the same files.

    Parameters
    ----------
    acquisitions
        All products: what one of them has stored is looked for in all.
    tags, forms
        Tags and forms of their rasters.
    """

    def __init__(self, acquisitions: Iterable[Acquisition], tags: Tags, forms: Forms) -> None:
        self._tags, self._forms = tags, forms
        every = list(acquisitions)
        self._indices = _indices(every, tags)
        self._masks = {
            sensor.name: _masks(every, sensor) for sensor in {a.id.sensor.name: a.id.sensor for a in every}.values()
        }
        self._known: dict[object, tuple[dict[str, Availability], dict[str, Availability]]] = {}

    def of(
        self, acquisition: Acquisition, *, has_safe: bool, metadata_fault: str
    ) -> tuple[Mapping[str, Availability], Mapping[str, Availability]]:
        """Return the indices and the masks of a product by name.

        Parameters
        ----------
        acquisition
            The product.
        has_safe
            Whether its own folder is there.
        metadata_fault
            Why its metadata cannot be used, a clause; empty where they can.
        """
        key = self._signature(acquisition, has_safe=has_safe, metadata_fault=metadata_fault)
        if key not in self._known:
            tags = {place: self._tags[place] for place in _rasters(acquisition) if place in self._tags}
            forms = {place: self._forms[place] for place in _rasters(acquisition) if place in self._forms}
            radiometry = None if metadata_fault else _SOME_RADIOMETRY
            details = _TaggedDetails(radiometry, known_tags=tags, known_forms=forms)
            product = _Product(replace(acquisition, details=details), has_safe, metadata_fault)
            self._known[key] = (
                {name: product.index(name, index) for name, index in self._indices.items()},
                {name: product.mask(mask) for name, mask in self._masks[acquisition.id.sensor.name].items()},
            )
        return self._known[key]

    def _signature(self, acquisition: Acquisition, *, has_safe: bool, metadata_fault: str) -> object:
        """Return all that the answer depends on."""
        tags = self._tags

        own = str(acquisition.id)

        def told(location: str) -> object:
            found = tags.get(location)
            kind = location.rpartition(".")[2], self._forms.get(location)
            if found is None:
                return kind
            is_own = found.product == own
            return kind, is_own, found.name, found.definition, found.mask, found.source, found.precision, found.rules

        return (
            acquisition.id.baseline,
            has_safe,
            metadata_fault,
            bool(acquisition.remark),
            frozenset(acquisition.bands),
            tuple((name, tuple(map(told, places))) for name, places in acquisition.indices.items()),
            tuple((name, told(place)) for name, place in acquisition.masks.items()),
            tuple(acquisition.masked),
        )


@dataclass(frozen=True, slots=True)
class _Product:
    acquisition: Acquisition
    has_safe: bool
    metadata_fault: str

    def index(self, name: str, index: Index | None) -> Availability:
        """Look at one index; None for one whose formula is not known."""
        places = self.acquisition.indices.get(name, ())
        masked = any(of == name for of, _ in self.acquisition.masked)
        if index is None:
            lossless = any(not place.endswith(LOSSY_SUFFIX) for place in places)
            return Availability(lossless, bool(places) and not lossless, masked, lacking="its formula is not known")
        judged = [judge_index_raster(self.acquisition, index, place) for place in places]
        stored = any(raster.usable and raster.exact for raster in judged)
        lossy = any(raster.usable and not raster.exact for raster in judged)
        distrusted = next((raster.why_not for raster in judged), "") if not stored and not lossy else ""
        lacking, missing = self._lacking(index.bands, needs_metadata=True)
        return Availability(stored, lossy, masked, distrusted, not lacking, lacking, missing)

    def mask(self, mask: Mask) -> Availability:
        """Look at one mask."""
        try:
            kind = resolve_mask(self.acquisition, mask).kind
        except RequestError:
            kind = MaskKind.NONE
        stored = kind is MaskKind.STORED
        lacking: str = "no raster of it is stored"
        missing: tuple[str, ...] = ()
        if inputs := inputs_of(mask):
            lacking, missing = self._lacking(inputs, needs_metadata=bool(mask.bands))
        distrusted = ""
        if not stored and mask.name in self.acquisition.masks:
            judged = judge_mask(self.acquisition, mask, mask.name)
            distrusted = "was made wrongly by the original program" if judged is None else judged.why_not
        return Availability(stored, distrusted=distrusted, makeable=not lacking, lacking=lacking, missing=missing)

    def _lacking(self, names: Iterable[str], *, needs_metadata: bool) -> tuple[str, tuple[str, ...]]:
        """Say why bands cannot be had, a clause, and which are missing; both empty where they can.

        The clause has ``{0}`` for the names of what is missing, and ``{1}`` for the verb after them.
        """
        missing = tuple(name for name in names if name not in self.acquisition.bands)
        if not missing:
            return (self.metadata_fault if needs_metadata else ""), ()
        if not self.has_safe:
            return "the SAFE folder is not there", missing
        if self.acquisition.remark:
            return "the SAFE folder gives no {0}", missing
        return "{0} {1} missing", missing


def inputs_of(mask: Mask) -> tuple[str, ...]:
    """Return the bands and quality rasters that a mask is made from, by a rule or by the model of OmniCloudMask."""
    return MODEL_BANDS if mask.family == MODEL else mask.inputs


def joined(names: Sequence[str], last: str = "and") -> str:
    """Return names as they stand in a sentence."""
    return "".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _rasters(acquisition: Acquisition) -> Iterable[str]:
    for places in acquisition.indices.values():
        yield from places
    yield from acquisition.masks.values()


def _indices(acquisitions: Iterable[Acquisition], tags: Tags) -> dict[str, Index | None]:
    """Return the indices to look at by name, the twelve and all that are stored; None for an unknown formula."""
    found: dict[str, Index | None] = dict(INDICES)
    for acquisition in acquisitions:
        for name in (*acquisition.indices, *(name for name, _ in acquisition.masked)):
            if found.get(name) is not None:
                continue
            places = acquisition.indices.get(name, ())
            told = [tags[place].definition for place in places if place in tags and tags[place].definition]
            found[name] = _parsed(name, told[0] if told else "", acquisition.id.sensor)
    return found


def _parsed(name: str, definition: str, sensor: Sensor) -> Index | None:
    try:
        return Index.parse(f"{name}={definition}" if definition else name, sensor)
    except RequestError:
        return None


def _masks(acquisitions: Iterable[Acquisition], sensor: Sensor) -> dict[str, Mask]:
    """Return the masks to look at by name: those with short names, and all that are stored."""
    found: dict[str, Mask] = {}
    stored = {name for acquisition in acquisitions if acquisition.id.sensor == sensor for name in acquisition.masks}
    for name in (*short_names(sensor), *sorted(stored)):
        try:
            mask = Mask.parse(name, sensor)
        except RequestError:
            continue  # a file that cannot be used as a mask
        if mask.family != NO_MASK:
            found[mask.name] = mask
    return found
