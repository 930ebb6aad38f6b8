"""Small pictures of the products of a tile for the baseline audit, read from reduced resolutions in their files."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import DigitalNumbers, OpenAcquisition, OpenRasters, Quality
from sen2chain.archive import Verdict, away_from_gaps, look
from sen2chain.errors import Sen2ChainError
from sen2chain.inspection.baseline_audit import DateVerdict, Offset, Pictures, audit, by_witness
from sen2chain.parallel import closed, in_threads
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.grid import Grid
    from sen2chain.products import Acquisition
    from sen2chain.sensor import Sensor

    Array = npt.NDArray[Any]

COARSEST = 32
"""Largest number of the finest pixels along the edge of a pixel of a picture: 320 m for Sentinel-2."""
LEAST_SIZE = 3600
"""Pixels that a picture of a small raster has at least, if it has as many."""
MOST_BYTES = 256 << 20
"""Memory for the pictures of a tile; pixels are left out where they would need more."""
MOST_KEPT = 8000
"""Pixels of a picture that are kept."""
_HAZE = (0.6, 0.8, 1.0)  # in red, green and blue, the order of `Sensor.true_colour`
_HAZE_INFRARED, _HAZE_BEYOND = 0.3, 0.05
_LEAST_DARK, _MOST_DARK = 0.02, 0.2
# Shares of the valid pixels with a DN below 1000 in red and green, which dark ground has where the offset was
# subtracted, and water a little below zero may have where it was not.
_COVERED = (
    "no data", "saturated or defective", "cloud shadow", "cloud, medium probability", "cloud, high probability",
    "thin cirrus", "snow or ice",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """The picture of one product."""

    grid: Grid
    reflectance: Array
    """(rows, columns, bands) float32, NaN for no data."""
    clear: Array
    """(rows, columns) bool."""
    witness: int | None
    """What its pixels alone show, see `audit`."""


def audit_tile(
    acquisitions: Sequence[Acquisition], threads: int, advance: Callable[[], object] = lambda: None
) -> list[tuple[Acquisition, DateVerdict]]:
    """Judge the offsets of the products of one tile.

    Parameters
    ----------
    acquisitions
        The products; those without bands are left out.
    threads
        Number of threads that read.
    advance
        Called after each product.

    Returns
    -------
    list of tuple
        Product and verdict, in order of time.
    """
    products = sorted((a for a in acquisitions if _has_bands(a)), key=lambda a: (a.id.sensing, a.id))
    if not products:
        return []
    bands = audit_bands(products)
    found: dict[str, _Picture] = {}
    verdicts: dict[str, DateVerdict] = {}
    stride = _stride(len(products), len(bands))

    def picture(acquisition: Acquisition) -> _Picture | str:
        missing = [band for band in bands if band not in acquisition.bands]
        if missing:
            return f"it lacks {', '.join(missing)}, which the other products of its tile have"
        try:
            return _read(acquisition, bands, stride)
        except Sen2ChainError as error:
            return f"it cannot be read: {error}"

    with closed(in_threads(picture, products, threads)) as pictures:
        for acquisition, result in zip(products, pictures, strict=True):
            if isinstance(result, str):
                verdicts[str(acquisition.id)] = DateVerdict(Offset.UNDECIDED, result)
            else:
                found[str(acquisition.id)] = result
            advance()
    verdicts |= _judge(found, bands, products[0].id.sensor)
    return [(acquisition, verdicts[str(acquisition.id)]) for acquisition in products]


def _has_bands(acquisition: Acquisition) -> bool:
    sensor = acquisition.id.sensor
    return acquisition.details.has_radiometry and any(band in acquisition.bands for band in sensor.true_colour)


def audit_bands(products: Sequence[Acquisition]) -> tuple[str, ...]:
    """Choose the bands that are compared: red, green, blue, one of near infrared, and those beyond it.

    Bands that fewer than four of five products have are left out.
    """
    sensor = products[0].id.sensor
    has = Counter(band for product in products for band in product.bands)
    # Of near infrared the coarser one takes less time.
    infrared = sorted(sensor.near_infrared, key=lambda band: (-has[band], sensor.is_finest(band)))[:1]
    served = [band.name for band in sensor.served]
    beyond = served[max((served.index(band) for band in sensor.near_infrared), default=len(served)) + 1 :]
    wanted = (*sensor.true_colour, *infrared, *beyond)
    return tuple(band for band in wanted if has[band] >= 0.8 * len(products))


def _haze(bands: Sequence[str], sensor: Sensor) -> tuple[float, ...]:
    """Return the brightness of haze in bands, relative to blue."""
    known = dict(zip(sensor.true_colour, _HAZE, strict=False)) | dict.fromkeys(sensor.near_infrared, _HAZE_INFRARED)
    return tuple(known.get(band, _HAZE_BEYOND) for band in bands)


def _stride(products: int, bands: int) -> int:
    """Return the most pixels that are kept of a picture."""
    return max(min(MOST_KEPT, MOST_BYTES // max(4 * products * bands, 1)), 1)


def _read(acquisition: Acquisition, bands: Sequence[str], most: int) -> _Picture:
    """Read the picture of a product."""
    sensor = acquisition.id.sensor
    classes = sensor.classification if sensor.classification in acquisition.bands else None
    layers: list[DigitalNumbers | Quality] = [DigitalNumbers(band) for band in bands]
    layers += [Quality(classes)] if classes else []
    with environment(acquisition.reading), ExitStack() as stack:
        rasters = OpenRasters(stack)
        whole = OpenAcquisition(stack, acquisition, layers, rasters=rasters).grid
        resolution = whole.pixel_xy[0] * _factor(whole)
        opened = OpenAcquisition(stack, acquisition, layers, resolution, overview=True, rasters=rasters)
        arrays = opened.read()
    numbers = {band: arrays[DigitalNumbers(band)] for band in bands}
    scene = arrays[Quality(classes)] if classes else None
    radiometry = acquisition.details.radiometry()
    valid = np.ones(opened.grid.shape, np.bool_)
    for values in numbers.values():
        valid &= (values != sensor.nodata) & (values != sensor.saturated)
    valid = away_from_gaps(valid)
    clear = valid if scene is None else valid & ~np.isin(scene, _covered(sensor))
    reflectance = np.stack(
        [(numbers[b] + np.float32(radiometry.offsets[b])) / np.float32(radiometry.quantification) for b in bands],
        axis=-1,
        dtype=np.float32,
    )
    reflectance[~valid] = np.nan
    step = max(int(np.ceil(np.sqrt(clear.size / most))), 1)
    declared = {radiometry.offsets[band] for band in bands}
    return _Picture(
        opened.grid,
        reflectance[step // 2 :: step, step // 2 :: step].copy(),
        clear[step // 2 :: step, step // 2 :: step].copy(),
        witness_of(numbers, scene, sensor, declared),
    )


def _factor(grid: Grid) -> int:
    """Return how many times larger the pixels of a picture are, a power of two."""
    factor = COARSEST
    while factor > 1 and (grid.shape[0] // factor) * (grid.shape[1] // factor) < LEAST_SIZE:
        factor //= 2
    return factor


def _covered(sensor: Sensor) -> list[int]:
    """Return the scene classes whose pixels do not show ground."""
    return [number for number, label in enumerate(sensor.classes) if label in _COVERED]


def witness_of(numbers: Mapping[str, Array], scene: Array | None, sensor: Sensor, declared: set[float]) -> int | None:
    """Return what the pixels of a product alone show, in units of 0.1; None where they do not tell."""
    pictures = dict(numbers) if scene is None else {**numbers, str(sensor.classification): scene}
    evidence = look(pictures, sensor.nodata, sensor.saturated)
    verdict = evidence.verdict
    if verdict is Verdict.UNDECIDED or len(declared) != 1:
        return None
    # One band decides. Where it is another product's, the dark ground in the one beside it says something else.
    shares = evidence.dark_share.values()
    if verdict is Verdict.SUBTRACTED and min(shares) < _LEAST_DARK:
        return None
    if verdict is Verdict.INCLUDED and max(shares) > _MOST_DARK:
        return None
    (offset,) = declared
    contained = 1000 if verdict is Verdict.INCLUDED else 0
    error = (offset + contained) / 1000
    return round(error) if error == round(error) else None


def _judge(found: Mapping[str, _Picture], bands: Sequence[str], sensor: Sensor) -> dict[str, DateVerdict]:
    """Judge pictures, in order of time, of which those on the grid of most are compared."""
    if not found:
        return {}
    grid, _ = Counter(picture.grid for picture in found.values()).most_common(1)[0]
    alike = {name: picture for name, picture in found.items() if picture.grid == grid}
    pictures = Pictures(
        np.stack([picture.reflectance for picture in alike.values()]),
        np.stack([picture.clear for picture in alike.values()]),
        _haze(bands, sensor),
        tuple(bands),
    )
    verdicts = dict(zip(alike, audit(pictures, [p.witness for p in alike.values()]), strict=True))
    for name, picture in found.items():
        if name not in verdicts:
            reason = "it has another extent than most products of its tile"
            verdicts[name] = by_witness(picture.witness, DateVerdict(Offset.UNDECIDED, reason))
    return verdicts
