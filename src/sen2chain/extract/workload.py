"""The work that tasks will be: pixels to decode, features, requests to servers; found without decoding any pixel."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self

from sen2chain.acquisition import AcquisitionReader, LayerSources, OpenRasters, finest_grid
from sen2chain.errors import RasterError
from sen2chain.parallel import apart
from sen2chain.progress import lasting, progress, sized
from sen2chain.rasters import KeptRaster, environment
from sen2chain.rasters.raster_file import BEGINNING
from sen2chain.remote import requests_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sen2chain.extract.coverages import Coverages
    from sen2chain.pixel_store import Role
    from sen2chain.plan import Task

_NANOSECONDS = {True: 130.0, False: 15.0}
"""Time of one processor for one pixel, from the benchmark: of JPEG 2000, of other formats."""
_BANDWIDTH = 10e6
"""Bytes per second that times of transfers are told for; connections differ, and the sentence says so."""
_LATENCY = 0.1
"""Seconds from a request to its answer."""

_KEPT_BYTES: dict[Role, float] = {"band": 1.1, "quality": 0.1}
"""Bytes of a kept pixel, from the benchmark."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of tasks: at most, for features under clouds need less."""

    features: int = 0
    """Features that have a pixel on the tile, for each output of each task."""
    pixels: int = 0
    """Pixels of all rasters to decode."""
    seconds: float = 0.0
    """Time of one processor that decoding takes."""
    requests: int = 0
    """Requests to servers."""
    fetched: int = 0
    """Bytes that come from servers."""
    trouble: str = field(default="", kw_only=True)
    """The error of the first raster that could not be opened, with its product; empty where all could."""

    def __add__(self, other: Workload) -> Workload:
        sums = (getattr(self, name) + getattr(other, name) for name in _NUMBERS)
        return Workload(*sums, trouble=self.trouble or other.trouble)

    def times(self, count: int) -> Self:
        """Return the work of so many tasks that are each like this one."""
        return type(self)(*(getattr(self, name) * count for name in _NUMBERS), trouble=self.trouble)

    def transfer_seconds(self, at_once: int) -> float:
        """Return the time that fetching takes at 10 MB per second, with so many requests in flight."""
        return self.requests * _LATENCY / max(at_once, 1) + self.fetched / _BANDWIDTH

    def transfer(self, at_once: int) -> str:
        """Return a sentence on requests, bytes and time; empty where nothing is fetched."""
        if not self.requests:
            return ""
        seconds = self.transfer_seconds(at_once)
        return (
            f"{self.requests:,} requests to servers for {sized(self.fetched)}, {lasting(seconds)} at "
            f"{sized(_BANDWIDTH)} per second."
        )


_NUMBERS = ("features", "pixels", "seconds", "requests", "fetched")


def workload_of(tasks: Iterable[Task], coverages: Coverages, *, quiet: bool = False) -> Workload:
    """Return the work of tasks; the rasters of one task of each tile and kind of sources are opened.

    Parameters
    ----------
    tasks
        The tasks.
    coverages
        The layer's pixels.
    quiet
        Whether to show no progress.
    """
    kinds: dict[object, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(_kind(task), []).append(task)
    whole = Workload()
    with progress("looking at rasters", len(kinds), quiet=quiet) as step:
        for alike in kinds.values():
            # A newer product is more likely to be like those that come.
            work = workload(alike[-1], coverages)
            if work.trouble and not work.features and len(alike) > 1:
                # One product that cannot be read says nothing of the others.
                work = replace(workload(alike[0], coverages), trouble=work.trouble)
            whole += work.times(len(alike))
            step()
    return whole


def _kind(task: Task) -> object:
    """Return what tasks have in common whose work is the same: the tile and the kinds of their sources."""
    sources = tuple((o.value and o.value.label, o.clouds and o.clouds.label, o.reason) for o in task.outputs)
    return task.product.tile, sources, task.cldprb is None


def workload(task: Task, coverages: Coverages) -> Workload:
    """Return the work of a task; it opens the rasters, and computes the pixels of features if they are not saved.

    Parameters
    ----------
    task
        The task. Outputs whose rasters cannot be opened are no work, and `Workload.trouble` says why.
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
        broken = {} if grid is not None else _errors(rasters, sources.values())
        if grid is None:
            return Workload(trouble=_trouble(task, broken))
        coverage = coverages.get(grid, task.product.tile)
        reader = AcquisitionReader(rasters, grid, coverage.plan, coverages.layouts, sources, None)
        if task.cldprb is not None:
            reader.coarse.want(task.cldprb, 0)
        whole = Workload()
        for location in dict.fromkeys([*reader.coarse.announced, *sources.values()]):
            try:
                whole += _of_raster(reader, rasters, location)
            except RasterError as error:
                broken[location] = error
        usable = [o for o in outputs if not broken.keys() & LayerSources.of_outputs([o], sensor).locations()]
        features = int((coverage.plan.total > 0).sum()) * len(usable)
        return replace(whole, features=features, trouble=_trouble(task, broken))


def kept_bytes(task: Task, coverages: Coverages) -> int:
    """Return about how many bytes the pixels of a task take that are to be kept; 0 where its rasters cannot be opened.

    Parameters
    ----------
    task
        The task; headers of its rasters are read.
    coverages
        The layer's pixels.
    """
    return apart(partial(_kept_bytes, task, coverages))


def _kept_bytes(task: Task, coverages: Coverages) -> int:
    found, keep = 0.0, task.keep
    with environment(task.reading), ExitStack() as stack:
        rasters = OpenRasters(stack)
        grid = finest_grid(rasters, LayerSources.of_outputs(task.outputs, task.product.sensor))
        if grid is None or keep is None:
            return 0
        positions = coverages.kept(grid, task.product.tile).positions(keep.margin)
        for name, location in keep.rasters.items():
            role: Role = "band" if task.product.sensor.band(name) else "quality"
            with suppress(RasterError):
                found += positions.of_raster(role, rasters.open(location).grid).size * _KEPT_BYTES[role]
    return int(found)


def _errors(rasters: OpenRasters, locations: Iterable[str]) -> dict[str, RasterError]:
    """Return the errors of the rasters that cannot be opened."""
    found = {}
    for location in locations:
        try:
            rasters.open(location)
        except RasterError as error:
            found[location] = error
    return found


def _trouble(task: Task, broken: Mapping[str, RasterError]) -> str:
    """Return the first error as a sentence; empty where there is none."""
    error = next(iter(broken.values()), None)
    return "" if error is None else f"{task.product} cannot be read: {error}"


def _of_raster(reader: AcquisitionReader, rasters: OpenRasters, location: str) -> Workload:
    raster = rasters.open(location)
    part = reader.coarse if location in reader.coarse.announced else reader.value_rasters
    pixels = part.pixels([location])
    if isinstance(raster, KeptRaster):  # whole blocks are needed of other rasters
        pixels = min(pixels, raster.kept_pixels)
    seconds = pixels * _NANOSECONDS[raster.is_jpeg2000] / 1e9
    if not raster.is_remote:
        return Workload(0, pixels, seconds)
    requests = requests_for(part.ranges(location))
    return Workload(0, pixels, seconds, 1 + len(requests), BEGINNING + sum(stop - start for start, stop in requests))
