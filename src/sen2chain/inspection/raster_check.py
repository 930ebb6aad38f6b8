"""Check of one raster: it is opened, decoded to its last block, and judged by what its place and name say it is."""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition.open_rasters import LEGACY_NODATA, check_role, check_scale
from sen2chain.coverage import TouchedBlocks
from sen2chain.errors import RasterError, RequestError, found_text
from sen2chain.grid import nominal_grid
from sen2chain.index_catalogue import catalogue
from sen2chain.indices import INDICES, NODATA, Index
from sen2chain.inspection.findings import DOWNLOAD, Severity
from sen2chain.raster_tags import RULES, RasterTags
from sen2chain.rasters import Raster, why_unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from sen2chain.grid import Grid
    from sen2chain.parallel import Crew, Within
    from sen2chain.products import ProductId

    Array = npt.NDArray[Any]

_STRIP = 1 << 22  # pixels that are decoded at a time, if the raster's blocks allow it
_HIGHEST_DN = 65534
_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_MOST_BEYOND = 0.02  # share of a lossy raster's values that may lie beyond the range: it rings beside missing data
MAKE_AGAIN = "let --fix move it aside, and make it again with sen2chain produce"
"""Advice for damage in a raster that can be made again."""


class Role(StrEnum):
    """Kind of a raster."""

    BAND = "band"
    QUALITY = "quality raster"
    INDEX = "index raster"
    MASKED = "masked index raster"
    MASK = "mask"


@dataclass(frozen=True, slots=True)
class RasterPlace:
    """A raster of an archive, and what its place and name say it is."""

    location: str
    """The file."""
    product: ProductId
    """Its product."""
    role: Role
    """Its kind."""
    name: str
    """Band, quality raster, index, or mask as it stands in file names."""
    mask: str = ""
    """Of a masked index: the mask."""
    is_delivered: bool = False
    """Whether it lies in a product as ESA delivers it."""

    def advice(self, severity: Severity) -> str:
        """Return what to do; only where it cannot be used is it moved aside."""
        if self.is_delivered:
            return DOWNLOAD
        if self.role in {Role.BAND, Role.QUALITY}:
            return "let --fix move it aside, and " + DOWNLOAD if severity is _ERROR else "look at the file"
        return MAKE_AGAIN if severity is _ERROR else "make it again with sen2chain produce --force"


@dataclass(slots=True)
class RasterReport:
    """What the check of a raster found."""

    place: RasterPlace
    """The raster."""
    faults: list[tuple[Severity, str, str]] = field(default_factory=list)
    """Severity, a clause whose subject is the raster, and what to do."""
    grid: Grid | None = None
    """Its grid; None where it cannot be opened."""
    values: Values | None = None
    """Its values, where all were read."""

    is_unread: bool = False
    """Whether its bytes could not be read at all, so that nothing is known of the raster itself."""

    def add(self, severity: Severity, clause: str, advice: str | None = None) -> None:
        """Add a fault; by default the advice is that for damage."""
        self.faults.append((severity, clause, self.place.advice(severity) if advice is None else advice))

    @property
    def is_damaged(self) -> bool:
        """Whether it has a fault that makes it unusable."""
        return any(severity is _ERROR for severity, _, _ in self.faults)


@dataclass(slots=True)
class Values:
    """Values of a raster, gathered while it is decoded."""

    nodata: int | None
    """The value of pixels without data; None where each has data."""
    pixels: int = 0
    """Pixels read."""
    valid: int = 0
    """Those with data."""
    lowest: int = np.iinfo(np.int32).max
    """Lowest value of these."""
    highest: int = np.iinfo(np.int32).min
    """Highest value of these."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The lowest and the highest value that there should be."""
    beyond: int = 0
    """Number of values beyond them."""
    checksum: int = 0
    """Checksum of all values in their order."""

    def add(self, strip: Array) -> None:
        """Add the values of a strip."""
        self.checksum = zlib.crc32(np.ascontiguousarray(strip).data, self.checksum)
        self.pixels += strip.size
        if self.nodata is not None and (strip == self.nodata).any():
            strip = strip[strip != self.nodata]
        self.valid += strip.size
        if strip.size:
            self.lowest = min(self.lowest, int(strip.min()))
            self.highest = max(self.highest, int(strip.max()))
            if self.lowest < self.bounds[0] or self.highest > self.bounds[1]:
                self.beyond += int(((strip < self.bounds[0]) | (strip > self.bounds[1])).sum())


def check_raster(
    place: RasterPlace,
    crew: Crew,
    within: Within,
    verify: Callable[[str], None] | None = None,
    *,
    read: bool = True,
) -> RasterReport:
    """Check one raster; whatever it holds, a report comes back.

    Parameters
    ----------
    place
        The raster.
    crew, within
        Threads that help with decoding, and the context that they enter; the caller is in it.
    verify
        Compares the file with its checksum; None: there is none.
    read
        Whether pixels are read; otherwise the header is judged alone.
    """
    report = RasterReport(place)
    try:
        if verify is not None and read:
            verify(place.location)
        with Raster(place.location) as raster:
            report.grid = raster.grid
            _judge_header(raster, report)
            index = _index_of(raster, report)
            if read and not report.is_damaged:
                values = Values(_nodata(raster, place), bounds=_bounds(index))
                for strip in _strips(raster, crew, within):
                    values.add(strip)
                _read_smaller(raster)
                report.values = values
                _judge_values(values, index, report)
    except RasterError as error:
        why = why_unread(place.location)
        report.is_unread = bool(why)
        if why:
            report.add(_ERROR, f"cannot be read: {why}", "see to that, and check again; the raster may be right")
        else:
            report.add(_ERROR, f"is damaged: {error}".rstrip("."))
    except MemoryError:
        report.is_unread = True
        report.add(_ERROR, "is too large to be read", "look at the file; no raster of a tile is so large")
    return report


def _strips(raster: Raster, crew: Crew, within: Within) -> Iterator[Array]:
    """Decode a raster to its last block, from top to bottom."""
    rows, columns = raster.grid.shape
    high = raster.strip_height * max(1, _STRIP // (raster.strip_height * columns))
    touched = TouchedBlocks(_whole_blocks(raster))
    for top in range(0, rows, high):
        bottom = min(top + high, rows)
        out = np.empty((bottom - top, columns), raster.dtype)
        crew.begin(raster.pieces(touched, (top, bottom), out), within).finish()
        yield out


def _whole_blocks(raster: Raster) -> npt.NDArray[np.int32]:
    """Return the box of each block of a raster, see `TouchedBlocks`."""
    (rows, columns), (high, wide) = raster.grid.shape, raster.block_shape
    top, left = np.arange(0, rows, high), np.arange(0, columns, wide)
    boxes = np.empty((len(top), len(left), 4), np.int32)
    boxes[..., 0], boxes[..., 1] = top[:, None], np.minimum(top + high, rows)[:, None]
    boxes[..., 2], boxes[..., 3] = left, np.minimum(left + wide, columns)
    return boxes


def _read_smaller(raster: Raster) -> None:
    """Decode the smaller pictures in a GeoTIFF; those of JPEG 2000 are parts of what was decoded."""
    level = 2
    while not raster.is_jpeg2000 and raster.overview_level(level) == level:
        shape = tuple(-(-n // level) for n in raster.grid.shape)
        boxes = np.array([[0, shape[0], 0, shape[1]]])
        raster.read_overview(level, boxes, np.empty(shape, raster.dtype))
        level *= 2


# -------------------------------------------------------------------------------------------------------------- header


def _judge_header(raster: Raster, report: RasterReport) -> None:
    """Judge type, extent and declared values of a raster."""
    place, sensor = report.place, report.place.product.sensor
    if raster.count != 1:
        report.add(_ERROR, f"has {raster.count} bands, and one is expected")
    expected = _type_of(place)
    if raster.dtype != np.dtype(expected):
        report.add(_ERROR, f"holds {raster.dtype} values, and {expected} are expected")
    if place.role in {Role.BAND, Role.QUALITY}:
        try:
            check_role(raster, sensor, place.name)
        except RasterError as error:
            report.add(_ERROR, f"is not the {place.role} that its name says: {error}".rstrip("."))
    elif place.role is not Role.MASK:
        declared = NODATA if place.location.endswith(".tif") else LEGACY_NODATA
        if raster.nodata is None and place.location.endswith(".tif"):
            report.add(_WARNING, f"declares no value for pixels without data ({declared} is expected)")
        elif raster.nodata not in {None, declared}:
            report.add(_ERROR, f"marks pixels without data by {raster.nodata:g}, and {declared} is expected")
    _judge_grid(raster.grid, report)


def _type_of(place: RasterPlace) -> str:
    """Return the type that the values of a raster should have."""
    if place.role in {Role.BAND, Role.QUALITY}:
        return place.product.sensor.dtype_of(place.name)
    return "uint8" if place.role is Role.MASK else "int16"


def _judge_grid(grid: Grid, report: RasterReport) -> None:
    """Compare a grid with that of the tile; rasters of an archive may be clipped to a part of it."""
    product = report.place.product
    try:
        tile = nominal_grid(product.tile, product.sensor)
    except RequestError:
        return
    if grid.crs != tile.crs:
        report.add(_ERROR, f"lies in {_short(grid.crs)}, and the tile {product.tile} in {_short(tile.crs)}")
        return
    pixel, inner, outer = grid.pixel_xy[0], grid.bounds, tile.bounds
    slack = pixel / 2
    if (
        inner.left < outer.left - slack
        or inner.right > outer.right + slack
        or inner.bottom < outer.bottom - slack
        or inner.top > outer.top + slack
    ):
        report.add(_ERROR, f"lies outside of the tile {product.tile}: {grid}")
    elif any(
        not math.isclose(steps, round(steps), abs_tol=1e-3)
        for steps in ((inner.left - outer.left) / pixel, (outer.top - inner.top) / pixel)
    ):
        report.add(_WARNING, f"has pixels that do not lie on those of the tile {product.tile}: {grid}")


def _short(crs: str) -> str:
    return crs if crs.startswith("EPSG") else "another CRS"


# ---------------------------------------------------------------------------------------------------------------- tags


def _index_of(raster: Raster, report: RasterReport) -> Index | None:
    """Return the index whose values a raster holds, and judge its tags; None for other rasters."""
    place = report.place
    if place.role in {Role.BAND, Role.QUALITY}:
        return None
    tags = RasterTags.read(raster.tags)
    known = None if place.role is Role.MASK else _known_index(place.name)
    if tags is not None:
        _judge_tags(tags, known, report)
        if place.role is not Role.MASK and known is None:
            try:
                known = Index.parse(f"{place.name}={tags.definition}")
            except RequestError:
                report.add(_ERROR, f"says that its formula is {found_text(tags.definition)}, which cannot be read")
    if known is not None:
        try:
            check_scale(raster, known.scale)
        except RasterError as error:
            report.add(_ERROR, f"has another scale than its index: {error}".rstrip("."))
    return known


def _known_index(name: str) -> Index | None:
    if name in INDICES:
        return INDICES[name]
    return Index.parse(name) if name in catalogue() else None


def _judge_tags(tags: RasterTags, known: Index | None, report: RasterReport) -> None:
    """Compare what a raster says of itself with its place and name."""
    place = report.place
    if tags.product != str(place.product):
        report.add(_ERROR, f"says that it is of {found_text(tags.product)}, and lies in the folder of {place.product}")
    if tags.name != place.name:
        report.add(_ERROR, f"says that it holds {found_text(tags.name)}, and is called {place.name}")
    elif known is not None and not known.is_defined_by(tags.definition):
        report.add(
            _WARNING,
            f"was made by the formula {found_text(tags.definition)}, and {place.name} is {known.definition}",
            "rename your formula, or make the raster again with sen2chain produce --force",
        )
    if place.role is Role.MASKED and tags.mask != place.mask:
        report.add(
            _ERROR, f"says that it is masked by {found_text(tags.mask or 'nothing')}, and is called {place.mask}"
        )
    if tags.rules != RULES:
        report.add(
            _WARNING,
            f"was made by version {tags.rules} of the definitions, and they are at version {RULES}, so it is not read",
            "make it again with sen2chain produce",
        )


# -------------------------------------------------------------------------------------------------------------- values


def _nodata(raster: Raster, place: RasterPlace) -> int | None:
    """Return the value of pixels without data."""
    sensor = place.product.sensor
    match place.role:
        case Role.BAND:
            return sensor.nodata
        case Role.QUALITY:
            described = sensor.quality_raster(place.name)
            return None if described is None else described.nodata
        case Role.MASK:
            return None
    if raster.nodata is not None:
        return int(raster.nodata)
    return NODATA if place.location.endswith(".tif") else LEGACY_NODATA


def _judge_values(values: Values, index: Index | None, report: RasterReport) -> None:
    """Judge the values of a raster by themselves; `judge_together` compares them with those of others."""
    place = report.place
    if not values.valid:
        return
    if place.role is Role.MASK:
        if values.highest > 1:
            report.add(_ERROR, f"has values up to {values.highest}, and a mask has 0 and 1")
    elif place.role is Role.QUALITY:
        most = _highest_quality(place)
        if most is not None and values.highest > most:
            report.add(_ERROR, f"has values up to {values.highest}, and {place.name} has none above {most}")
    elif place.role is Role.BAND:
        if values.lowest == values.highest and values.valid > 1:
            report.add(_WARNING, f"has the value {values.lowest} in all pixels", "look at the file")
    elif index is not None:
        low, high = value_range(index)
        is_lossless = place.location.endswith(".tif")
        if values.beyond > (0 if is_lossless else _MOST_BEYOND * values.valid):
            report.add(
                _ERROR,
                f"has values from {values.lowest / index.scale:g} to {values.highest / index.scale:g}, and "
                f"{index.name} lies from {low / index.scale:.4g} to {high / index.scale:.4g}",
            )


def _bounds(index: Index | None) -> tuple[float, float]:
    """Return the values that an index raster may have, with some room for the rounding of the range."""
    if index is None:
        return -math.inf, math.inf
    low, high = value_range(index)
    return low - index.scale / 100, high + index.scale / 100


def _highest_quality(place: RasterPlace) -> int | None:
    """Return the highest value of a quality raster; None where all are possible."""
    described = place.product.sensor.quality_raster(place.name)
    if described is None or described.kind == "bits":
        return None
    return 100 if described.kind == "percent" else len(described.labels) - 1


@functools.cache
def value_range(index: Index) -> tuple[int, int]:
    """Return the lowest and the highest stored value that a formula gives for any reflectance from 0 to 6.55.

    It is found by evaluation over a grid of reflectances that is dense near 0, where ratios are extreme.
    """
    count = {1: 4000, 2: 120, 3: 40}.get(len(index.bands), 12)
    steps = np.concatenate([[0.0], np.geomspace(1e-4, _HIGHEST_DN / 10_000, count - 1)])
    reflectance = np.array(list(itertools.product(steps, repeat=min(len(index.bands), 4)))).T
    bands = {band: reflectance[k % len(reflectance)] for k, band in enumerate(index.bands)}
    stored = index.compute(bands)
    stored = stored[stored != NODATA]
    if len(index.bands) > 4 or not len(stored):
        return np.iinfo(np.int16).min, NODATA
    return int(stored.min()), int(stored.max())


def judge_together(reports: list[RasterReport]) -> None:
    """Compare the rasters of one product with each other, and add what does not fit together."""
    _judge_extents(reports)
    read = [report for report in reports if report.values is not None]
    bands = [report for report in read if report.place.role is Role.BAND]
    sensor = reports[0].place.product.sensor if reports else None
    has_data = any(report.values is not None and report.values.valid for report in bands) or any(
        report.place.name == getattr(sensor, "classification", None) and report.values and report.values.valid
        for report in read
    )
    for report in read:
        if report.place.role is Role.MASKED:  # its mask may have removed all
            continue
        if has_data and report.values is not None and not report.values.valid:
            report.add(_ERROR, "has no data in any pixel, and other rasters of its product have data")
    seen: dict[tuple[int, int, tuple[int, int]], str] = {}
    for report in bands:
        values, grid = report.values, report.grid
        if values is None or grid is None or values.lowest == values.highest or not values.valid:
            continue
        twin = seen.setdefault((values.checksum, values.pixels, grid.shape), report.place.name)
        if twin != report.place.name:
            report.add(_ERROR, f"has the same pixels as {twin}, so one of them is a copy of the other")


def _judge_extents(reports: list[RasterReport]) -> None:
    """Find rasters that cover other ground than those of their product that have most in common."""
    opened = [(report, report.grid) for report in reports if report.grid is not None]
    if len(opened) < 2:
        return

    def alike(one: Grid, other: Grid) -> bool:
        return one.covers(other) and other.covers(one)

    def of_most(grids: list[Grid]) -> Grid:
        return max(grids, key=lambda grid: sum(alike(grid, other) for _, other in opened))

    # A raster of 20 m is like two of 10 m that lie a pixel of theirs apart, so each is compared with its own kind too.
    most = of_most([grid for _, grid in opened])
    own = {pixel: of_most([g for _, g in opened if g.pixel_xy == pixel]) for pixel in {g.pixel_xy for _, g in opened}}
    for report, grid in opened:
        if grid.crs == most.crs and not (alike(grid, most) and alike(grid, own[grid.pixel_xy])):
            report.add(_ERROR, f"covers other ground ({grid}) than the other rasters of its product ({most})")
