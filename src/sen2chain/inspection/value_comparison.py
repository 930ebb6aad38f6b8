"""Comparison of stored indices and masks of other programs with the values that the bands of their products give.

A raster that sen2chain wrote says what it was made from. Of another program's nothing is known but its name, so some
pixels are computed: those of nine squares spread over the raster. Bands are decoded there alone. Where the bands are
not there, one value in all pixels still tells that a raster does not show the ground.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import IndexValues, MaskLayer, OpenAcquisition, Window
from sen2chain.errors import RequestError, Sen2ChainError
from sen2chain.indices import INDICES, NODATA
from sen2chain.inspection.raster_check import RasterPlace, RasterReport, Role
from sen2chain.masks import Mask
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition import PixelLayer
    from sen2chain.products import Acquisition

    Array = npt.NDArray[Any]
    Layers = Mapping[RasterPlace, IndexValues | MaskLayer]

SQUARES = 3
"""Squares along an edge of a raster whose pixels are compared, and"""
SIDE = 64
"""pixels along an edge of such a square."""
LEAST_PIXELS = 100
"""Pixels with data in both without which nothing is compared."""
MOST_APART = 0.02
"""Median difference of the values of an index up to which other programs' rounding and resampling explain it."""
MOST_APART_LOSSY = 0.03
"""The same for the lossy rasters of the original program."""
MOST_OTHER = 0.2
"""Share of the pixels of a mask that may differ."""
LEAST_CONSTANT = 1000
"""Pixels with data that do not all have one value in an index raster of real ground."""
_LOSSY = ".jp2"
_LOSSY_RANGE = -16384, 16382  # stored values that a lossy raster can hold, the value for no data left out


def compare_values(acquisition: Acquisition, reports: Sequence[RasterReport]) -> list[tuple[RasterReport, str]]:
    """Compare the rasters of a product that do not say how they were made with its bands.

    Parameters
    ----------
    acquisition
        The product.
    reports
        What was found of each of its rasters; the damaged ones are left out, and what needs them.

    Returns
    -------
    list of tuple
        Raster, and a clause with numbers, of those that are something else.
    """
    damaged = {report.place.location for report in reports if report.is_damaged}
    whole = {name: where for name, where in acquisition.bands.items() if where not in damaged}
    product = replace(acquisition, bands=whole, indices={}, masks={}, masked={})
    foreign = {
        report.place: report
        for report in reports
        if report.place.role not in {Role.BAND, Role.QUALITY}
        and not report.is_damaged
        and report.values is not None
        and report.values.valid
        and acquisition.details.tags(report.place.location) is None
    }
    layers = {place: layer for place in foreign if (layer := _layer(place, product)) is not None}
    told: dict[RasterPlace, str] = {}
    for kind in (IndexValues, MaskLayer):
        told.update(_compared(product, {place: layer for place, layer in layers.items() if isinstance(layer, kind)}))
    clauses = [(report, told.get(place, _one_value(report))) for place, report in foreign.items()]
    return [(report, clause) for report, clause in clauses if clause]


def _one_value(report: RasterReport) -> str:
    """Return a clause on an index raster that has one value everywhere; empty where it has more."""
    place, values = report.place, report.values
    if place.role is Role.MASK or place.name not in INDICES or values is None or values.lowest != values.highest:
        return ""
    if values.valid < LEAST_CONSTANT:
        return ""
    value = values.lowest / INDICES[place.name].scale
    return f"has the value {value:g} in all {values.valid:,} pixels with data, and no ground has one {place.name}"


def _layer(place: RasterPlace, product: Acquisition) -> IndexValues | MaskLayer | None:
    """Return what a raster should hold; None where that cannot be computed."""
    if place.role is Role.MASK:
        try:
            mask = Mask.parse(place.name, product.id.sensor)
        except RequestError:
            return None
        if mask.stored(product.id, [place.name]) is None:  # it is known to be wrong, and told so
            return None
        needed, needs_metadata = mask.inputs, bool(mask.bands)
        layer: IndexValues | MaskLayer = MaskLayer(mask)
    elif place.role in {Role.INDEX, Role.MASKED} and place.name in INDICES:
        index = INDICES[place.name]
        if index.sensor != product.id.sensor:
            return None
        needed, needs_metadata, layer = index.bands, True, IndexValues(index)
    else:
        return None
    is_there = bool(needed) and all(name in product.bands for name in needed)
    return layer if is_there and (product.details.has_radiometry or not needs_metadata) else None


def _compared(product: Acquisition, layers: Layers) -> Iterator[tuple[RasterPlace, str]]:
    """Yield a clause, or an empty text, on each raster that can be compared; bands are decoded once for all."""
    if not layers:
        return
    try:
        with environment(product.reading), ExitStack() as stack:
            opened = OpenAcquisition(stack, product, dict.fromkeys(layers.values()))
            windows = spread_windows(opened.grid.shape)
            computed = _read(opened, windows, layers.values())
            grid = opened.grid
    except Sen2ChainError:  # damage, which is told of the raster that has it
        return
    for place, layer in layers.items():
        stored = _as_stored(product, place)
        try:
            with environment(product.reading), ExitStack() as stack:
                opened = OpenAcquisition(stack, stored, [layer])
                if opened.grid != grid:
                    continue
                values = _read(opened, windows, [layer])[layer]
        except Sen2ChainError:
            continue
        if (clause := _difference(place, layer, values, computed[layer])) is not None:
            yield place, clause


def _as_stored(product: Acquisition, place: RasterPlace) -> Acquisition:
    """Return a product that has one stored raster alone."""
    if place.role is Role.MASK:
        return replace(product, bands={}, masks={place.name: place.location})
    return replace(product, bands={}, indices={place.name: (place.location,)})


def _read(opened: OpenAcquisition, windows: Sequence[Window], layers: Iterable[PixelLayer]) -> dict[PixelLayer, Array]:
    """Return the pixels of all windows of each layer, flat."""
    parts = [arrays for _, arrays in sorted(opened.windows(windows), key=lambda part: part[0])]
    return {layer: np.concatenate([arrays[layer].ravel() for arrays in parts]) for layer in layers}


def spread_windows(shape: tuple[int, int]) -> list[Window]:
    """Return squares spread evenly over a raster; they do not overlap."""
    edges = []
    for length in shape:
        side = min(SIDE, max(length // SQUARES, 1))
        starts = {(2 * k + 1) * length // (2 * SQUARES) - side // 2 for k in range(SQUARES)}
        edges.append([(max(start, 0), min(side, length)) for start in sorted(starts)])
    return [Window(row, column, high, wide) for row, high in edges[0] for column, wide in edges[1]]


def _difference(place: RasterPlace, layer: PixelLayer, stored: Array, computed: Array) -> str | None:
    """Return a clause on how a raster differs from what was computed; empty where it does not, None for few pixels."""
    if isinstance(layer, MaskLayer):
        share = float((stored != computed).mean()) if stored.size >= LEAST_PIXELS else 0.0
        if share <= MOST_OTHER:
            return ""
        return (
            f"is another mask than {place.name} of its product: {share:.0%} of {stored.size:,} pixels that were "
            f"compared differ ({stored.mean():.0%} masked, and {computed.mean():.0%} computed)"
        )
    assert isinstance(layer, IndexValues)  # noqa: S101  # the other kind is done
    both = (stored != NODATA) & (computed != NODATA)
    is_lossy = place.location.endswith(_LOSSY)
    if is_lossy:
        both &= (computed >= _LOSSY_RANGE[0]) & (computed <= _LOSSY_RANGE[1])
    if both.sum() < LEAST_PIXELS:
        return None
    seen, expected = (values[both].astype(np.int32) / layer.index.scale for values in (stored, computed))
    apart = float(np.median(np.abs(seen - expected)))
    if apart <= (MOST_APART_LOSSY if is_lossy else MOST_APART):
        return ""
    return (
        f"does not hold the {place.name} of its bands: {int(both.sum()):,} pixels that were compared differ by "
        f"{apart:.4f} (median); their median is {np.median(seen):.4f}, and {np.median(expected):.4f} from the bands"
    )
