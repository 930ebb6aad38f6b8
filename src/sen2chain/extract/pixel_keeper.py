"""Pixels of one acquisition that are kept: taken from what an extraction decodes, and coded where it is decoded.

Nothing here may cost rows: what cannot be kept is left out, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import check_type
from sen2chain.coverage import PLANNED
from sen2chain.errors import KeptPixelsError, RasterError
from sen2chain.pixel_store import KeptValues, bilinear_runs, margin_pixels, pixel_file
from sen2chain.plan import MaskKind, ValueKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from sen2chain.acquisition import AcquisitionReader, OpenRasters
    from sen2chain.coverage import Coverage
    from sen2chain.extract.kept_coverage import KeptCoverage
    from sen2chain.extract.removed_features import RemovedFeatures
    from sen2chain.grid import Grid
    from sen2chain.pixel_store import PixelPositions, Role
    from sen2chain.plan import Keeping, Output, Task
    from sen2chain.products import Footprint, Radiometry

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KeptRasterFacts:
    """What is kept of one raster."""

    grid: Grid
    """Its grid."""
    masks: frozenset[str] | None
    """None where the pixels of all features are kept; otherwise the masks of the run: pixels of features that each of
    them removes entirely were not read."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptPixels:
    """Pixels of one acquisition to keep; it travels from the worker to the process that writes."""

    content: bytes = b""
    """Content of the pixel file; empty where nothing could be kept."""
    grid: Grid | None = None
    """The finest grid, which the positions are on."""
    margin: float = 0.0
    """Metres around the features in which quality rasters are kept."""
    digest: str = ""
    """Digest of the positions."""
    rasters: Mapping[str, KeptRasterFacts] = field(default_factory=dict)
    """Band or quality raster -> what is kept of it."""
    radiometry: Radiometry | None = None
    """Scale and offsets of the bands; None where no band is kept."""
    cover: float | None = None
    """Cloud cover of the product in percent."""
    footprint: Footprint | None = None
    """Outline of the product's data."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Raster that could not be kept -> a sentence that says why."""


@dataclass(slots=True, eq=False)
class _Taken:
    """The pixels of one raster as they are collected."""

    location: str
    role: Role
    grid: Grid
    nodata: float | None
    scale: tuple[float, float]
    where: PixelPositions
    values: Array
    left: Bools | None = None
    masks: frozenset[str] | None = None


class PixelKeeper:
    """Collects the pixels to keep while an acquisition is extracted.

    Call `announce` before masks are decoded, `restrict` when it is known which features they remove, `take_coarse` when
    the coarser rasters are decoded, and `finish` at the end. `AcquisitionReader.pixels` hands over the strips.

    Parameters
    ----------
    task
        The task.
    keeping
        Its pixels to keep.
    rasters
        The open rasters.
    coverage
        The pixels of the features that are kept.

    Raises
    ------
    KeptPixelsError
        If there are more pixels than can be kept.
    """

    def __init__(self, task: Task, keeping: Keeping, rasters: OpenRasters, coverage: KeptCoverage) -> None:
        self._task, self._keeping, self._rasters, self._coverage = task, keeping, rasters, coverage
        self._positions = coverage.positions(keeping.margin)
        self._taken: dict[str, _Taken] = {}
        self._lacking: dict[str, str] = {}
        self._flags: dict[tuple[bytes, Grid], Bools] = {}

    def announce(self, reader: AcquisitionReader) -> None:
        """Have the rasters decoded for the kept pixels too; those that cannot be used are left out."""
        sensor, margins = self._task.product.sensor, {}
        for name, location in self._keeping.rasters.items():
            role: Role = "band" if sensor.band(name) else "quality"
            try:
                raster = self._rasters.open(location)
                if raster.grid != reader.grid:
                    reader.coarse.raster(location)
                check_type(raster, np.dtype(sensor.dtype_of(name)).type)
            except RasterError as error:
                self._lacking[name] = str(error)
                continue
            where = self._positions.of_raster(role, raster.grid)
            values = np.zeros(where.size, raster.dtype)
            self._taken[name] = _Taken(location, role, raster.grid, raster.nodata, raster.scale, where, values)
            if role == "quality":
                margins[location] = margin_pixels(self._keeping.margin, raster.grid)
            else:
                margins[location] = 0 if raster.grid == reader.grid else 1
        reader.keep(self._coverage.plan, margins, self.take_strip)

    def restrict(
        self,
        reader: AcquisitionReader,
        coverage: Coverage,
        outputs: Iterable[Output],
        removed: RemovedFeatures | None,
    ) -> None:
        """Leave bands of features undecoded that the masks of all outputs remove, unless they are to be complete.

        Parameters
        ----------
        reader
            The reader, whose masks are decoded.
        coverage
            The pixels of the rows.
        outputs
            The outputs that can be made.
        removed
            The features that masks remove entirely; None where none was looked for.
        """
        if self._keeping.complete:
            return
        outputs = list(outputs)
        for name, taken in list(self._taken.items()):
            if taken.role == "quality":
                continue
            if not any(
                _is_read(output, taken.location) or _is_mask_input(output, taken.location) for output in outputs
            ):
                self._lacking[name] = "Nothing that is computed from it could be extracted."
                del self._taken[name]
                reader.need(taken.location, np.zeros(len(self._coverage.fid), np.bool_), self._coverage.plan)
                continue
            left, masks = np.zeros(len(coverage.fid), np.bool_), set()
            for output in outputs:
                if _is_mask_input(output, taken.location):
                    left[:] = True
                elif not (_is_read(output, taken.location)):
                    continue
                masks.add(output.mask.name)
                codes = None if removed is None else removed.of(output)
                left |= True if codes is None else codes == PLANNED
            kept = ~np.isin(self._coverage.fid, coverage.fid[~left])
            if kept.all():
                continue
            taken.left, taken.masks = kept, frozenset(masks)
            reader.need(taken.location, left)
            reader.need(taken.location, kept, self._coverage.plan)

    def take_coarse(self, reader: AcquisitionReader) -> None:
        """Take the pixels of the rasters that were decoded as a whole."""
        for name, taken in list(self._taken.items()):
            if not reader.coarse.keeps(taken.location):
                continue
            try:
                image = reader.coarse.image(taken.location, taken.values.dtype.type)
            except RasterError as error:
                self._leave_out(name, error)
                continue
            taken.where.take(image, 0, taken.values)

    def take_strip(self, images: Mapping[str, Array], row0: int) -> None:
        """Take the pixels of the rasters on the finest grid that lie in a strip.

        Parameters
        ----------
        images
            Location -> (rows, columns) of the strip.
        row0
            Its first row.
        """
        for taken in self._taken.values():
            image = images.get(taken.location)
            if image is not None and taken.grid == self._positions.finest.grid:
                part = taken.where.values_of_rows(row0, row0 + len(image))
                taken.where.take(image, row0, taken.values[part])

    def finish(self, radiometry: Callable[[], Radiometry]) -> KeptPixels:
        """Return the pixels as the content of a file.

        Parameters
        ----------
        radiometry
            Returns scale and offsets of the bands, or raises `UnreadableError`.
        """
        for name, taken in list(self._taken.items()):
            if (error := self._rasters.error(taken.location)) is not None:
                self._leave_out(name, error)
        known = None
        bands = [name for name, taken in self._taken.items() if taken.role == "band"]
        try:
            known = radiometry() if bands else None
        except RasterError as error:
            for name in bands:
                self._leave_out(name, error)
        if not self._taken:
            return KeptPixels(lacking=self._lacking)
        details = self._task.details
        cover, footprint = details.cloud_cover(), details.footprint()
        facts = {
            "product": str(self._task.product),
            "radiometry": None if known is None else (known.quantification, dict(known.offsets), known.note),
            "cover": cover,
            "footprint": footprint,
        }
        try:
            content = pixel_file(
                facts, {name: self._values(taken) for name, taken in self._taken.items()}, self._positions
            )
        except KeptPixelsError as error:
            return KeptPixels(lacking=dict.fromkeys(self._keeping.rasters, str(error)))
        kept = {name: KeptRasterFacts(taken.grid, taken.masks) for name, taken in self._taken.items()}
        positions = self._positions
        return KeptPixels(
            content, positions.finest.grid, positions.margin, positions.digest, kept, known, cover, footprint,
            self._lacking,
        )  # fmt: skip

    def _leave_out(self, name: str, error: RasterError) -> None:
        self._lacking[name] = str(error)
        del self._taken[name]

    def _values(self, taken: _Taken) -> KeptValues:
        """Return the values of a raster; those of pixels that were not decoded are 0."""
        present = None
        if taken.left is not None:
            present = self._present(taken.left, taken.grid)
            taken.values[~present] = 0
        return KeptValues(taken.values, present, taken.role, taken.grid, taken.nodata, taken.scale)

    def _present(self, left: Bools, grid: Grid) -> Bools:
        """Return which pixels of a band were decoded, (pixels,)."""
        key = left.tobytes(), grid
        if key not in self._flags:
            plan = self._coverage.plan
            own = left[plan.feature]
            runs = plan.row[own], plan.column[own], plan.length[own]
            if grid != plan.grid:
                runs = bilinear_runs(plan.grid, grid, *runs)
                full = runs[2] > 0
                runs = runs[0][full], runs[1][full], runs[2][full]
            where = self._positions.of_band(grid)
            start, change = where.find(*runs), np.zeros(where.size + 1, np.int32)
            np.add.at(change, start, 1)
            np.add.at(change, start + runs[2], -1)
            self._flags[key] = np.cumsum(change[:-1]) > 0
        return self._flags[key]


def _is_read(output: Output, location: str) -> bool:
    """Whether the values of an output are computed from a band."""
    value = output.value
    return value is not None and value.kind is ValueKind.BANDS and location in value.rasters.values()


def _is_mask_input(output: Output, location: str) -> bool:
    """Whether the mask of an output is computed from a band, which is then decoded for all features."""
    clouds = output.clouds
    return clouds is not None and clouds.kind is MaskKind.COMPUTED and location in clouds.rasters.values()
