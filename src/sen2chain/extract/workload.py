"""The work that a task will be: its pixels to decode and its features, found without decoding any."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sen2chain.acquisition import AcquisitionReader, LayerSources, OpenRasters, finest_grid
from sen2chain.errors import RasterError
from sen2chain.parallel import apart
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from sen2chain.extract.coverages import Coverages
    from sen2chain.plan import Task

_NANOSECONDS = {True: 130.0, False: 15.0}
"""Time of one processor for one pixel, from the benchmark: of JPEG 2000, of other formats."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of a task: at most, for features under clouds need less."""

    features: int = 0
    """Features that have a pixel on the tile."""
    pixels: int = 0
    """Pixels of all rasters to decode."""
    seconds: float = 0.0
    """Time of one processor that decoding takes."""


def workload(task: Task, coverages: Coverages) -> Workload:
    """Return the work of a task; it opens the rasters, and computes the pixels of features if they are not saved.

    Parameters
    ----------
    task
        The task. Where no raster of it can be opened, it is no work.
    coverages
        The layer's pixels.
    """
    return apart(partial(_workload, task, coverages))


def _workload(task: Task, coverages: Coverages) -> Workload:
    outputs = [output for output in task.outputs if output.reason is None]
    sensor = task.product.sensor
    quality = {sensor.classification or "": task.scl} if task.scl else {}
    sources = LayerSources.of_outputs(outputs, sensor, quality)
    with environment(task.reading), ExitStack() as stack:
        rasters = OpenRasters(stack)
        grid = finest_grid(rasters, sources)
        if grid is None:
            return Workload()
        coverage = coverages.get(grid, task.product.tile)
        reader = AcquisitionReader(rasters, grid, coverage.plan, coverages.layouts, sources, None)
        if task.cldprb is not None:
            reader.coarse.want(task.cldprb, 0)
        values = sources.values()
        pixels, seconds = 0, 0.0
        for location in dict.fromkeys([*reader.coarse.announced, *values]):
            try:
                is_jpeg2000 = rasters.open(location).is_jpeg2000
            except RasterError:
                continue
            coarse = location in reader.coarse.announced
            own = reader.coarse.pixels([location]) if coarse else reader.value_rasters.pixels([location])
            pixels += own
            seconds += own * _NANOSECONDS[is_jpeg2000] / 1e9
        return Workload(int((coverage.plan.total > 0).sum()), pixels, seconds)
