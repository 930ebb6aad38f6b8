"""Reading of chips: acquisitions in threads, in each of them all features at once, and one chip per feature and time.

A fault of one acquisition costs its chips, or of them the layers that need the broken raster, and is counted in the
notes; the others go on.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import IndexValues, MaskLayer, OpenAcquisition, OpenRasters, Reflectance, Window
from sen2chain.chips.chip import Chip
from sen2chain.chips.places import ChipFeatures, ChipSize, Place, places_on
from sen2chain.errors import RasterError, RequestError
from sen2chain.indices import NODATA
from sen2chain.masks import NO_MASK, Mask
from sen2chain.parallel import Memo, in_threads, workers
from sen2chain.plan import resolve_mask, resolve_sources
from sen2chain.rasters import environment

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition import PixelLayer
    from sen2chain.grid import Grid
    from sen2chain.indices import Index
    from sen2chain.plan import Preference
    from sen2chain.products import Acquisition

    Array = npt.NDArray[Any]
    Arrays = dict[PixelLayer, Array]

# A chip whose data cover more of the feature than this ranks before one of a higher baseline, as rows do.
_COMPLETE = 0.9


@dataclass(slots=True)
class ChipNotes:
    """What could not be read, counted."""

    acquisitions: int = 0
    """Acquisitions that were looked at."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """What is missing because of it -> one sentence on each acquisition with a fault or without a raster."""
    without_data: int = 0
    """Chips without any data, which are left out."""

    def add(self, what: str, detail: str) -> None:
        """Count an acquisition that lacks something."""
        self.faults.setdefault(what, []).append(detail)

    def sentences(self) -> list[str]:
        """Return a sentence on each kind of fault, with its number and the first cause."""
        said = []
        for what, details in self.faults.items():
            verb, first = ("has", "") if len(details) == 1 else ("have", "the first: ")
            number = f"{len(details)} of {self.acquisitions} acquisitions {verb}"
            said.append(f"Quicklooks: {number} no {what} ({first}{details[0].rstrip('.')}).")
        if self.without_data:
            chips = "chip without any data is" if self.without_data == 1 else "chips without any data are"
            said.append(f"Quicklooks: {self.without_data} {chips} left out.")
        return said


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to read of each acquisition."""

    features: ChipFeatures
    indices: tuple[Index, ...]
    masks: tuple[Mask, ...]
    chosen: Mapping[tuple[int, dt.datetime], str]
    prefer: Preference | None
    verify: bool
    size: ChipSize
    colour: bool
    places: Memo = field(default_factory=Memo)


@dataclass(frozen=True, slots=True)
class _Read:
    """Chips of one acquisition, and what it lacks."""

    acquisition: Acquisition
    chips: list[Chip]
    lacking: list[tuple[str, str]]


def read_chips(
    acquisitions: Iterable[Acquisition],
    features: ChipFeatures,
    indices: Iterable[Index] = (),
    masks: Iterable[Mask] = (),
    *,
    chosen: Mapping[tuple[int, dt.datetime], str] | None = None,
    colour: bool = True,
    prefer: Preference | None = None,
    verify: bool = False,
    size: ChipSize | None = None,
    threads: int = 0,
    notes: ChipNotes | None = None,
    advanced: Callable[[], object] | None = None,
) -> Generator[Chip]:
    """Read the chips of features through time; close the generator, see `sen2chain.parallel.closed`.

    Parameters
    ----------
    acquisitions
        The acquisitions; several of one sensing time compete, as in rows.
    features
        The features.
    indices
        Indices whose values are read; what an acquisition lacks of them is missing in its chips.
    masks
        Cloud masks.
    chosen
        (fid, sensing time) -> name of the product that its row comes from; of other times the best product is taken.
    colour
        Whether to read the true colour.
    prefer
        Order of the sources of index values, see `sen2chain.plan.resolve_sources`.
    verify
        Whether files are compared with the checksums of their product before they are read.
    size
        Size of the chips.
    threads
        Acquisitions that are read at once; 0 for all processors.
    notes
        Counts faults and what is left out.
    advanced
        Called after each acquisition.

    Yields
    ------
    Chip
        By sensing time, then in the order of `features`; at most one per feature and time. Chips without any data are
        left out.
    """
    notes = ChipNotes() if notes is None else notes
    ordered = sorted(acquisitions, key=lambda a: (a.id.sensing, a.id.tile, str(a.id)))
    known = {str(acquisition.id) for acquisition in ordered}
    chosen = {key: product for key, product in (chosen or {}).items() if product in known}
    wanted = _Wanted(features, tuple(indices), tuple(masks), chosen, prefer, verify, size or ChipSize(), colour)
    notes.acquisitions += len(ordered)
    with closing(in_threads(partial(_read, wanted), ordered, workers(threads))) as results:
        for _, together in itertools.groupby(results, key=lambda read: read.acquisition.id.sensing):
            chips: list[Chip] = []
            for read in together:
                for what, detail in read.lacking:
                    notes.add(what, detail)
                chips += read.chips
                if advanced is not None:
                    advanced()
            yield from _best(chips, features, notes)


def _best(chips: Sequence[Chip], features: ChipFeatures, notes: ChipNotes) -> Iterator[Chip]:
    """Yield the best chip of each feature of one sensing time."""
    by_fid: dict[int, list[Chip]] = {}
    for chip in chips:
        by_fid.setdefault(chip.fid, []).append(chip)
    for fid in features.fids.tolist():
        competing = by_fid.get(fid, [])
        seen = [chip for chip in competing if chip.measured().any()]
        if seen:
            yield min(sorted(seen, key=lambda chip: chip.product.generation, reverse=True), key=_rank)
        elif competing:
            notes.without_data += 1


def _rank(chip: Chip) -> tuple[int, bool, int, float, str]:
    """Return the rank of a chip among those of its feature and time, lowest first.

    Chips that lack something that others have, because of a fault, come last; the rest is as in `sen2chain.select`.
    """
    share, layers = chip.valid_share(), len(chip.values) + (chip.colour is not None)
    return -layers, share <= _COMPLETE, -chip.product.baseline_rank, -share, chip.tile


def _read(wanted: _Wanted, acquisition: Acquisition) -> _Read:
    """Read all chips of one acquisition, in this thread."""
    lacking: list[tuple[str, str]] = []
    layers, source = _layers(wanted, acquisition, lacking)
    if not any(isinstance(layer, Reflectance | IndexValues) for layer in layers):
        return _Read(acquisition, [], lacking)
    try:
        found = _arrays(wanted, source, layers)
    except (RasterError, RequestError):
        # One of the rasters: read again what does not need it.
        found = {}
        for what, group in _groups(layers):
            try:
                for place, arrays in _arrays(wanted, source, group).items():
                    found.setdefault(place, {}).update(arrays)
            except (RasterError, RequestError) as error:
                lacking.append((what, f"{acquisition.id}: {error}"))
    chips = [_chip(wanted, acquisition, place, arrays) for place, arrays in found.items()]
    return _Read(acquisition, [chip for chip in chips if chip.colour is not None or chip.values], lacking)


def _layers(
    wanted: _Wanted, acquisition: Acquisition, lacking: list[tuple[str, str]]
) -> tuple[list[PixelLayer], Acquisition]:
    """Return the layers that an acquisition has, and the acquisition with the index rasters to read."""
    sensor = acquisition.id.sensor
    layers: list[PixelLayer] = []
    missing = [band for band in sensor.true_colour if band not in acquisition.bands]
    if wanted.colour and sensor.true_colour:
        if missing or not acquisition.details.has_radiometry:
            what = f"bands {', '.join(missing)}" if missing else f"the metadata {sensor.metadata}"
            lacking.append(("true colour", f"{acquisition.id}: the {acquisition.reading.kind} lacks {what}"))
        else:
            layers += [Reflectance(band) for band in sensor.true_colour]
    source = acquisition
    for index in wanted.indices:
        plain = resolve_sources(acquisition, index, Mask(NO_MASK), wanted.prefer)
        if plain.value is None:
            outputs = (resolve_sources(acquisition, index, mask, "masked") for mask in wanted.masks)
            stored = next((o.value.rasters["value"] for o in outputs if o.value and "value" in o.value.rasters), None)
            if stored is None:
                lacking.append((index.name, f"{acquisition.id}: {plain.detail}"))
                continue
            source = replace(source, indices={**source.indices, index.name: (stored,)})
        layers.append(IndexValues(index))
    for mask in wanted.masks:
        if mask.family == NO_MASK:
            continue
        try:
            resolve_mask(acquisition, mask)
        except RequestError as error:
            lacking.append((f"mask {mask.name}", str(error)))
            continue
        layers.append(MaskLayer(mask))
    return layers, source


def _groups(layers: Sequence[PixelLayer]) -> list[tuple[str, list[PixelLayer]]]:
    """Return what a picture can do without, each with its layers."""
    groups: dict[str, list[PixelLayer]] = {}
    for layer in layers:
        match layer:
            case IndexValues(index):
                what = index.name
            case MaskLayer(mask):
                what = f"mask {mask.name}"
            case _:
                what = "true colour"
        groups.setdefault(what, []).append(layer)
    return list(groups.items())


def _arrays(wanted: _Wanted, acquisition: Acquisition, layers: Sequence[PixelLayer]) -> dict[Place, Arrays]:
    """Read layers of an acquisition at all places; each raster is opened once.

    Raises
    ------
    RasterError
        If a raster cannot be used.
    RequestError
        If the acquisition lacks a layer.
    """
    found: dict[Place, Arrays] = {}
    with environment(acquisition.reading), ExitStack() as stack:
        rasters = OpenRasters(stack, acquisition.details.verifier() if wanted.verify else None)
        fine = OpenAcquisition(stack, acquisition, layers, prefer=wanted.prefer, rasters=rasters)
        for factor, places in _places(wanted, acquisition, fine.grid).items():
            if factor == 1:
                windows = [Window(*place.in_raster) for place in places]
                for i, arrays in fine.windows(windows):
                    found[places[i]] = _padded(arrays, places[i])
                continue
            pixel = factor * fine.grid.pixel_xy[0]
            coarse = OpenAcquisition(
                stack, acquisition, layers, pixel, overview=True, prefer=wanted.prefer, rasters=rasters
            )
            for place in places:  # each for itself: `read` takes a large window strip by strip
                arrays = coarse.read(Window(*place.in_raster))
                found[place] = _padded(arrays, place)
    return found


def _places(wanted: _Wanted, acquisition: Acquisition, grid: Grid) -> dict[int, list[Place]]:
    """Return the places to read of an acquisition: those whose rows come from it, or that have no row."""
    product, tile = acquisition.id, acquisition.id.tile
    every: dict[int, list[Place]] = wanted.places.once(
        (grid, tile), lambda: places_on(wanted.features, grid, tile, wanted.size)
    )
    name, found = str(product), {}
    for factor, places in every.items():
        keys = ((place, (int(wanted.features.fids[place.position]), product.sensing)) for place in places)
        own = [place for place, key in keys if wanted.chosen.get(key, name) == name]
        if own:
            found[factor] = own
    return found


def _padded(arrays: Arrays, place: Place) -> Arrays:
    """Return arrays of the whole window of a place, without data outside of the raster."""
    part = place.in_raster
    rows = slice(part.row - place.row, part.row - place.row + part.height)
    columns = slice(part.column - place.column, part.column - place.column + part.width)
    found: Arrays = {}
    for layer, array in arrays.items():
        empty: Any = NODATA if isinstance(layer, IndexValues) else np.nan if isinstance(layer, Reflectance) else False
        dtype = np.float32 if isinstance(layer, Reflectance) else array.dtype
        found[layer] = np.full(place.shape, empty, dtype)
        found[layer][rows, columns] = array
    return found


def _chip(wanted: _Wanted, acquisition: Acquisition, place: Place, arrays: Arrays) -> Chip:
    """Return the chip of a place."""
    bands = [arrays[layer] for band in acquisition.id.sensor.true_colour if (layer := Reflectance(band)) in arrays]
    return Chip(
        int(wanted.features.fids[place.position]),
        acquisition.id,
        place,
        np.stack(bands, axis=2) if bands else None,
        {layer.index.name: array for layer, array in arrays.items() if isinstance(layer, IndexValues)},
        {layer.mask.name: array for layer, array in arrays.items() if isinstance(layer, MaskLayer)},
    )
