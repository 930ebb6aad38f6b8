"""From rasters and a layer to statistics: files are opened and arranged, features become pixels, bands are walked."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyproj

from sen2chain import settings
from sen2chain.coverage import PLANNED, PixelRule
from sen2chain.errors import (
    LayerError,
    RasterError,
    RequestError,
    UnreadableError,
    choice,
    quoted,
    real_number,
    truth,
    whole_number,
)
from sen2chain.extract import Coverages
from sen2chain.grid import Grid, turn
from sen2chain.multiband.argument_order import mixed_up
from sen2chain.multiband.band_layout import COMBINATIONS, arrange
from sen2chain.multiband.band_walk import BandWalk
from sen2chain.multiband.piece_runs import PieceRuns
from sen2chain.multiband.wanted_statistics import SHARES, WantedStatistics
from sen2chain.multiband.zonal_files import planned_report, planned_table
from sen2chain.multiband.zonal_table import (
    REASONS,
    BandTable,
    LostRaster,
    ZonalStatistics,
    bands_frame,
    share_columns,
)
from sen2chain.parallel import MOST_WORKERS, apart, closed, in_threads, recorded_warnings, workers
from sen2chain.plan import extent_in_words
from sen2chain.plan.extraction_request import MOST_BUFFER
from sen2chain.progress import activity, counted, progress
from sen2chain.provenance import check_results
from sen2chain.rasters import (
    ANY_FORMAT_OPTIONS,
    BandStack,
    as_text,
    environment,
    given_rasters,
    local_location,
    stamp_of,
)
from sen2chain.reasons import Reason
from sen2chain.vectors import datum_note, named_fields, of_features, read_layer

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import geopandas as gpd
    import numpy.typing as npt
    import pandas as pd

    from sen2chain.coverage import Coverage
    from sen2chain.multiband.band_layout import RasterGroup
    from sen2chain.multiband.band_walk import BandValues
    from sen2chain.progress import Step
    from sen2chain.rasters import Band, StackFacts
    from sen2chain.vectors import Layer

    Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_WHOLE_TURN = 0.01  # share of a pixel by which a turn around the earth may differ from a whole number of pixels
_EXACT = 1 << 53


def zonal_statistics(
    rasters: Paths,
    vectors_file: str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries,
    *,
    bands: str | Sequence[int | str] | None = None,
    stats: Iterable[str] | str | None = None,
    pixels: PixelRule = "center",
    buffer: float | None = None,
    combine: str | None = None,
    scaled: bool = True,
    raster_crs: Any = None,
    layer: str | None = None,
    id_field: str | None = None,
    encoding: str | None = None,
    crs: Any = None,
    multiproc: int = 0,
    quiet: bool = False,
) -> ZonalStatistics:
    """Compute statistics of every band of rasters under the features of a layer.

    Pixel rules and statistics are those of `TimeSeries`, see the page "Statistics". Scale, offset, no-data values and
    masks are taken from the files, and told in the notes of the result.

    Parameters
    ----------
    rasters
        Path of a raster in any format that GDAL reads, or several. A part of a file is named as GDAL does,
        ``NETCDF:"climate.nc":t2m``.
    vectors_file
        The layer: a file, a GeoDataFrame or a GeoSeries.
    bands
        Bands by number from 1 or by name, as ``[1, "B04"]`` or ``"1-3,A07"``; None means all.
    stats
        Statistics of each band besides ``count``, ``nodata``, ``mean``, ``std``, ``min`` and ``max``: ``median``,
        ``percentile_<p>``, ``sum``, ``variance``, ``range``, ``cv``, ``mad``, ``majority``, ``minority``, ``variety``,
        and ``shares``: a column for each class of a raster of whole numbers.
    pixels
        Which pixels belong to a polygon: ``center``, ``all_touched`` or ``weighted``.
    buffer
        Metres by which features grow, or shrink if it is negative.
    combine
        What several rasters are: ``mosaic``, parts of one raster, or ``side-by-side``, with columns of their own. None
        decides by their grids and bands: files with the same bands that lie apart are a mosaic, files on the same
        ground or with different grids or bands lie side by side, and anything between is an error that asks.
    scaled
        Whether values are stored ones times the scale of the file plus its offset.
    raster_crs
        CRS of rasters that have none.
    layer
        Name of the layer in a file that has several.
    id_field
        Attribute that is your own key of features; it stands right after fid.
    encoding
        Encoding of the layer's texts.
    crs
        CRS of a layer that has none.
    multiproc
        Number of threads; 0 uses all processors.
    quiet
        Show no progress.

    Returns
    -------
    ZonalStatistics
        A table for each shape, files, a report and notes.

    Raises
    ------
    RequestError
        If a parameter cannot be used, or rasters contradict each other; the sentence names both.
    LayerError
        If the layer cannot be used.
    RasterError
        If a raster, or all of several, cannot be used.

    Examples
    --------
    >>> zonal_statistics("embeddings_2024.tif", "parcels.gpkg", stats=["median"]).to_frame()  # doctest: +SKIP
    """
    return plan_zonal(
        rasters, vectors_file, bands=bands, stats=stats, pixels=pixels, buffer=buffer, combine=combine, scaled=scaled,
        raster_crs=raster_crs, layer=layer, id_field=id_field, encoding=encoding, crs=crs, multiproc=multiproc,
        quiet=quiet,
    ).run()  # fmt: skip


def plan_zonal(
    rasters: Paths,
    vectors_file: str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries,
    *,
    bands: str | Sequence[int | str] | None,
    stats: Iterable[str] | str | None,
    pixels: PixelRule,
    buffer: float | None,
    combine: str | None,
    scaled: bool,
    raster_crs: Any,
    layer: str | None,
    id_field: str | None,
    encoding: str | None,
    crs: Any,
    multiproc: int,
    quiet: bool,
) -> ZonalPlan:
    """Check the parameters of `zonal_statistics`, open the rasters and arrange them; no pixel is read."""
    statistics = WantedStatistics.of(stats)
    choice("pixel rule", pixels, get_args(PixelRule))
    if combine is not None:
        choice("combination of rasters", combine, COMBINATIONS)
    if buffer is not None:
        more = f" (at most {MOST_BUFFER:,.0f}, negative to shrink)"
        buffer = real_number("buffer", buffer, -MOST_BUFFER, MOST_BUFFER, "metres", more) or None
    threads = whole_number("multiproc", multiproc, 0, MOST_WORKERS)
    quiet, scaled = truth("quiet", quiet), truth("scaled", scaled)
    named = given_rasters(rasters)
    given = list(dict.fromkeys(named))
    repeated = tuple(as_text(raster) for raster in given if named.count(raster) > 1)
    own_crs = _crs_text(raster_crs)
    with activity("reading the layer", quiet=quiet):
        try:
            cache = settings.cache_dir() / "layers"
            found = read_layer(vectors_file, layer=layer, encoding=encoding, crs=crs, cache=cache)
        except LayerError as error:
            if why := mixed_up(given, vectors_file, own_crs):
                raise RequestError(why) from error
            raise
    keys = named_fields(found, "id_field", id_field or None)
    files, errors = apart(lambda: _opened(given, own_crs))
    if errors and (why := mixed_up([raster for raster in given if as_text(raster) in errors], None)):
        raise RequestError(why)
    lost = [LostRaster(label, str(error)) for label, error in errors.items()]
    if lost and len(lost) == len(given):
        raise next(iter(errors.values()))
    groups = arrange(files, bands, combine, several=len(given) > 1)
    if lost and (combine == "mosaic" or (combine is None and len(groups[0].parts) > 1)):
        raise UnreadableError(f"{lost[0].error.rstrip('.')}; without this part of the mosaic, leave it out.")
    plan = ZonalPlan(
        found, keys[0] if keys else None, statistics, groups, lost, pixels, buffer, combine, scaled=scaled,
        threads=threads, quiet=quiet, repeated=repeated,
    )  # fmt: skip
    plan.check()
    return plan


@dataclass(frozen=True, slots=True)
class Reading:
    """What a run reads of a raster, or of the parts of a mosaic."""

    label: str
    """The files, in words."""
    grid: Grid
    """Their grid."""
    windows: int
    """Windows of it."""
    decoded: float
    """Bytes of their values."""


@dataclass(frozen=True, slots=True)
class ZonalEstimate:
    """What a run would read."""

    windows: int
    """Windows of rasters."""
    decoded: float
    """Bytes of their values."""
    pixels: int
    """Pixels of features; one that several features have counts for each."""
    features: int
    """Features with pixels."""


@dataclass(frozen=True, eq=False)
class ZonalPlan:
    """Rasters and a layer, checked and ready to run."""

    layer: Layer
    """The features."""
    id_field: str | None
    """The user's own key."""
    statistics: WantedStatistics
    """The statistics of each band."""
    groups: Sequence[RasterGroup]
    """The rasters."""
    lost: Sequence[LostRaster]
    """Rasters that could not be opened."""
    pixels: PixelRule
    """Rule that decides which pixels belong to a polygon."""
    buffer: float | None
    """Metres by which features grow or shrink."""
    combine: str | None
    """What the user says that several rasters are."""
    scaled: bool = True
    """Whether scale and offset are applied."""
    threads: int = 0
    """Number of threads; 0 uses all processors."""
    quiet: bool = False
    """Whether to show no progress."""
    repeated: Sequence[str] = ()
    """Rasters that were named more than once."""
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Location -> size and time of the file when it was looked at."""

    def check(self) -> None:
        """Make sure that the statistics can be computed of these bands, before anything is read.

        Raises
        ------
        RequestError
            If not.
        """
        for group in self.groups:
            if self.statistics.shares:
                for band in group.bands:
                    if np.dtype(band.dtype).kind == "f":
                        raise RequestError(
                            f"{group.label}: {band.name} is of {band.dtype}, so its values are not classes; leave "
                            f"{SHARES} out, or choose other bands."
                        )
            unit = pyproj.CRS(group.grid.crs).axis_info[0].unit_name
            if self.buffer and unit not in {"metre", "meter"}:
                raise RequestError(
                    f"buffer is in metres, and pixels of {group.label} are in the unit {unit}; leave it out, "
                    "buffer the layer itself, or warp the raster to a CRS in metres (gdalwarp -t_srs)."
                )
            for part in group.parts:
                self.stamps[part.facts.location] = stamp_of(part.facts.location)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, for the JSON beside results."""
        return {
            "rasters": [part.facts.location for group in self.groups for part in group.parts]
            + [lost.label for lost in self.lost],
            "combine": self.combine, "bands": [band.name for band in self.groups[0].bands],
            "stats": [*self.statistics.columns, *([SHARES] if self.statistics.shares else [])],
            "pixels": self.pixels, "buffer": self.buffer, "scaled": self.scaled,
        }  # fmt: skip

    @cached_property
    def _coverages(self) -> Coverages:
        folder = settings.cache_dir() / "coverage"
        return Coverages(self.layer, rule=self.pixels, buffer=self.buffer, folder=folder)

    @cached_property
    def walks(self) -> list[tuple[Coverage, PieceRuns, BandWalk]]:
        """Per group: the coverage of its grid, the runs on it, and the walk."""
        found = []
        with activity("finding the pixels of the features", quiet=self.quiet):
            for group in self.groups:
                coverage, runs = self._runs_of(group)
                walk = BandWalk(group, coverage.plan, runs, self.statistics, scaled=self.scaled)
                found.append((coverage, runs, walk))
        return found

    def _runs_of(self, group: RasterGroup) -> tuple[Coverage, PieceRuns]:
        """Return the pixels of the features on the grid of a group; longitudes may begin at 0 or at -180."""
        grid = group.grid
        around = turn(grid.crs) if pyproj.CRS(grid.crs).is_geographic else None
        if around is None or not self._needs_turn(grid, around):
            coverage = self._coverages.get(grid, "")
            return coverage, PieceRuns.of(coverage.plan)
        wide, _, left, _, high, top = grid.transform
        columns = round(around / wide)
        if abs(columns * wide - around) > _WHOLE_TURN * wide:
            raise RequestError(
                f"{group.label} has longitudes from {grid.bounds.left:g} to {grid.bounds.right:g}, and {wide:g} "
                "degrees do not go into a turn of 360, so places west of it cannot be found; write it anew from -180 "
                "to 180 (gdalwarp -te -180 -90 180 90)."
            )
        # Three turns, so that a place is found whichever of them its longitude belongs to.
        every = Grid(grid.crs, (wide, 0.0, left - columns * wide, 0.0, high, top), (grid.shape[0], 3 * columns))
        coverage = self._coverages.get(every, "")
        return coverage, PieceRuns.of(coverage.plan).turned(columns, columns, min(grid.shape[1], columns))

    def _needs_turn(self, grid: Grid, around: float) -> bool:
        half = around / 2 + grid.pixel_xy[0] / 2  # pixels of some grids are centred on the 180th meridian
        beyond = grid.bounds.right > half or grid.bounds.left < -half
        bounds = self.layer.bounds
        if pyproj.CRS(self.layer.crs).is_geographic and len(bounds):
            beyond |= np.nanmax(bounds[:, 2], initial=0.0) > half or np.nanmin(bounds[:, 0], initial=0.0) < -half
        return bool(beyond)

    @property
    def bands(self) -> pd.DataFrame:
        """One line per band, see `ZonalStatistics.bands`."""
        return bands_frame((group.label, group.name, band) for group in self.groups for band in group.bands)

    def readings(self) -> list[Reading]:
        """Return what a run reads of each raster."""
        found = []
        for group, (_, _, walk) in zip(self.groups, self.walks, strict=True):
            size = sum(np.dtype(band.dtype).itemsize for band in group.bands)
            areas = ((c.rows[1] - c.rows[0]) * (c.columns[1] - c.columns[0]) for c in walk.chunks)
            found.append(Reading(group.label, group.grid, len(walk.chunks), float(sum(areas) * size)))
        return found

    def estimate(self) -> ZonalEstimate:
        """Return what a run would read."""
        readings, pixels = self.readings(), 0
        features: set[int] = set()
        for coverage, runs, _ in self.walks:
            pixels += int(runs.length.sum())
            features |= set(coverage.fid[np.unique(runs.feature)].tolist())
        windows, decoded = sum(item.windows for item in readings), sum(item.decoded for item in readings)
        return ZonalEstimate(windows, decoded, pixels, len(features))

    @cached_property
    def outside(self) -> list[int]:
        """The features that lie outside of all rasters."""
        states = [self._states(coverage, runs) for coverage, runs, _ in self.walks]
        outside = np.all([state == _CODE[Reason.OUTSIDE_RASTER] for state in states], axis=0)
        return [int(fid) for fid in np.flatnonzero(outside)]

    @property
    def why_outside(self) -> str:
        """Where the layer and the first raster lie, a sentence; empty unless all features with a place are outside."""
        layer, group = self.layer, self.groups[0]
        placed = layer.bounds[np.isfinite(layer.bounds).all(axis=1)]
        if not self.outside or len(self.outside) < len(layer) - len(layer.null) - len(layer.empty) or not len(placed):
            return ""
        degrees = pyproj.CRS(layer.crs).is_geographic
        (left, bottom), (right, top) = placed[:, :2].min(axis=0), placed[:, 2:].max(axis=0)
        sentence = f"The layer {layer.name} lies outside of {group.label}"
        sentence += f": it spans {extent_in_words((left, bottom, right, top), degrees=degrees)}"
        to_layer = pyproj.Transformer.from_crs(group.grid.crs, layer.crs, always_xy=True)
        box = to_layer.transform_bounds(*group.grid.bounds)
        if np.isfinite(box).all():
            sentence += f", the raster {extent_in_words(box, degrees=degrees)}"
        return f"{sentence}. Check the CRS of both."

    def check_results(self, path: Path, shape: str, report: Path | None = None) -> None:
        """Make sure, before any pixel is read, that the table and the report replace no other result.

        Raises
        ------
        OutputError
            If a file is there that was made in another way.
        """
        planned = [planned_table(path, path.suffix.lower(), self.parameters, self.layer, shape)]
        if report is not None:
            planned.append(planned_report(report, self.parameters, self.layer))
        check_results(planned)

    def run(self) -> ZonalStatistics:
        """Read the rasters, and compute the statistics."""
        total = sum(len(walk.chunks) * len(walk.passes) for _, _, walk in self.walks)
        with progress("reading", total, quiet=self.quiet) as step:
            tables = apart(lambda: self._tables(step))
        if not any(table.has_values for table in tables) and self._changed(self.groups):
            raise UnreadableError(self._changed(self.groups))
        return ZonalStatistics(
            self.layer, self.id_field, self.statistics, tables, self.lost, self.parameters,
            self.pixels != "weighted", [*self.notes()], self.quiet, self.why_outside,
        )  # fmt: skip

    def _tables(self, step: Step) -> list[BandTable]:
        found: list[BandTable] = []
        with environment(options=ANY_FORMAT_OPTIONS):
            for group, (coverage, runs, walk) in zip(self.groups, self.walks, strict=True):
                values = walk.run(step, self.threads)
                if error := self._changed([group]):  # what was read belongs to no state of the file
                    values.unread[:] = True
                    values.errors = {error: None}
                state = self._states(coverage, runs, values.unread)

                def table(
                    i: int,
                    group: RasterGroup = group,
                    coverage: Coverage = coverage,
                    values: BandValues = values,
                    walk: BandWalk = walk,
                    state: npt.NDArray[np.int8] = state,
                ) -> BandTable:
                    return self._band_table(group, group.bands[i], coverage, values, i, walk.scaling[i], state)

                with closed(in_threads(table, range(len(group.bands)), workers(self.threads))) as tables:
                    found += tables
        return found

    def _changed(self, groups: Sequence[RasterGroup]) -> str:
        """Return which file of some groups was changed since it was looked at, in a sentence; empty where none was."""
        for part in (part for group in groups for part in group.parts):
            location = part.facts.location
            if stamp_of(location) != self.stamps[location]:
                return f"{location} was changed while it was read; run again when it is complete."
        return ""

    def _states(
        self, coverage: Coverage, runs: PieceRuns, unread: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int8]:
        """(features of the layer,) Position of the reason why a feature has no pixel that could be read, or -1.

        `unread`, (features of the coverage,), tells those with a pixel that could not be read; None where none is.
        """
        state = np.full(len(self.layer), _CODE[Reason.OUTSIDE_RASTER], np.int8)
        state[list(self.layer.null)] = _CODE[Reason.NULL_GEOMETRY]
        state[list(self.layer.empty)] = _CODE[Reason.EMPTY_GEOMETRY]
        own = coverage.state.copy()
        own[own == _CODE[Reason.OUTSIDE_TILE]] = _CODE[Reason.OUTSIDE_RASTER]
        has_pixels = np.zeros(len(own), np.bool_)
        has_pixels[runs.feature] = True
        own[(own == PLANNED) & ~has_pixels] = _CODE[Reason.OUTSIDE_RASTER]
        if unread is not None:
            own[unread] = _CODE[Reason.UNREADABLE]
        state[coverage.fid] = own
        return state

    def _band_table(
        self,
        group: RasterGroup,
        band: Band,
        coverage: Coverage,
        values: BandValues,
        i: int,
        scaling: tuple[float, float],
        state: npt.NDArray[np.int8],
    ) -> BandTable:
        """Compute the columns of one band, in the order of the layer."""
        moments = values.moments[:, i].copy()
        moments[values.unread] = 0.0
        ordered = None if values.ordered is None else values.ordered[:, i]
        count = moments[:, 0]
        total = np.where(values.unread, np.nan, coverage.plan.total)
        # Sums of weights in two orders may differ in their last digits.
        columns = {"count": count, "nodata": np.maximum(total - count, 0.0)}
        for name in self.statistics.names:
            if name == SHARES:
                # Features that were lost later on, as in other bands, may have entered classes.
                known = {key: own for key, own in values.classes[i].items() if own[~values.unread].any()}
                columns |= share_columns(known, count, *scaling)
            else:
                columns[name] = self.statistics.evaluate(name, moments, ordered, *scaling)
        reason = state.copy()
        own = reason[coverage.fid]
        own[(own == PLANNED) & (count == 0)] = _CODE[Reason.NO_DATA]
        reason[coverage.fid] = own
        full = {}
        for name, found in columns.items():
            full[name] = np.full(len(self.layer), 0.0 if name == "count" else np.nan)
            full[name][coverage.fid] = found
        return BandTable(group.name, group.label, band, full, reason, tuple(values.errors))

    # ------------------------------------------------------------------------------------------ notes

    def notes(self) -> Iterator[str]:
        """Yield sentences on the layer and the rasters."""
        layer = self.layer
        yield from layer.notes
        for what, fids in (("repaired", layer.repaired), ("without geometry", layer.null), ("empty", layer.empty)):
            if fids:
                yield of_features(fids, len(layer), f"are {what}")
        yield from filter(None, [datum_note(layer)])
        if self.outside and not self.why_outside:
            what = "lies" if len(self.outside) == 1 else "lie"
            yield of_features(self.outside, len(layer), f"{what} outside of the raster{'s' * (len(self.groups) > 1)}")
        for group in self.groups:
            if len(group.parts) > 1:
                yield f"{len(group.parts)} files are parts of one mosaic of {group.grid}."
            yield from _notes_on_bands(group, scaled=self.scaled)
        for group, (coverage, _, _) in zip(self.groups, self.walks, strict=True):
            small = coverage.fid[coverage.state == _CODE[Reason.NO_PIXEL]].tolist()
            if small:
                what = f"{'holds' if len(small) == 1 else 'hold'} no pixel centre of {group.label}"
                yield f"{of_features(small, len(layer), what)} {_WEIGHTED}"
        yield from (f"{raster} was named more than once, and is read once." for raster in self.repeated)
        for lost in self.lost:
            yield lost.error
        for group, (_, _, walk) in zip(self.groups, self.walks, strict=True):
            if len(walk.passes) > 1:
                yield (
                    f"{group.label} is read {len(walk.passes)} times, some bands each time, since the values of very "
                    "large features do not fit into the memory at once."
                )


_WEIGHTED = "Use pixels='weighted' (--pixels weighted) for features smaller than a pixel."
_CODE = {reason: code for code, reason in enumerate(REASONS)}


def _no_data(band: Band) -> str:
    """Return how pixels without data of a band are told."""
    nodata = "without a no-data value" if band.nodata is None else f"{band.nodata:g} means no data"
    return nodata + (", and a mask of the file removes pixels" if band.mask else "")


def _notes_on_bands(group: RasterGroup, *, scaled: bool) -> Iterator[str]:
    """Yield a sentence on each stretch of bands with the same facts, and others on what is special."""
    facts = group.parts[0].facts
    stretches: list[list[Band]] = []
    for band in group.bands:
        key = (band.dtype, str(band.nodata), band.scale, band.offset, band.mask)
        if stretches:
            last = stretches[-1][-1]
            if key == (last.dtype, str(last.nodata), last.scale, last.offset, last.mask):
                stretches[-1].append(band)
                continue
        stretches.append([band])
    for own in stretches:
        first = own[0]
        names = first.name if len(own) == 1 else f"{len(own)} bands, {first.name} to {own[-1].name}"
        scale = (
            f"values = stored values x {first.scale:.10g} + {first.offset:.10g}" if first.is_scaled and scaled else ""
        )
        scale = scale or "values as stored"
        if first.is_scaled and not scaled:
            scale += f", without the scale {first.scale:.10g} and the offset {first.offset:.10g} of the file"
        yield f"{group.label}: {names}, {first.dtype}; {scale}; {_no_data(first)}."
    others = [
        (band, part.facts.location)
        for number, part in enumerate(group.parts)
        for band, first in zip(group.bands_of(number), group.bands, strict=True)
        if _no_data(band) != _no_data(first)
    ]
    if others:
        band, location = others[0]
        count = len({place for _, place in others})
        what = f"{counted(count, 'file')} of the mosaic {'differs' if count == 1 else 'differ'} from the first one"
        yield f"{what}, as {location}: {band.name}, {_no_data(band)}."
    if any(band.is_classes for band in group.bands):
        yield f"{group.label} has a colour table, so its values are classes; --stat shares gives the share of each."
    wide = [band for band in group.bands if band.dtype in {"int64", "uint64"}]
    if wide:
        what = f"{counted(len(wide), 'band')} of 64-bit whole numbers"
        yield f"{group.label}: {what}; beyond {_EXACT:,} they are rounded."
    if facts.alpha is not None:
        yield (
            f"{group.label}: Band {facts.alpha} is an alpha band, so it has no columns, and where it is 0 the others "
            "have no data; if it is none, mend the file (gdal_edit.py -colorinterp_<number> undefined)."
        )
    if len(group.bands) < len(facts.bands):
        yield f"{group.label}: {len(group.bands)} of {len(facts.bands)} bands are read."


def _crs_text(given: Any) -> str | None:
    if given is None:
        return None
    try:
        crs = pyproj.CRS.from_user_input(given)
    except (pyproj.exceptions.CRSError, TypeError) as error:
        raise RequestError(f"raster_crs is {quoted(given)}, which is not a CRS; pass one as EPSG:4326.") from error
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


def _opened(
    given: Sequence[str | os.PathLike[str]], crs: str | None
) -> tuple[list[StackFacts], dict[str, RasterError]]:
    """Open rasters and close them again; return what they say of themselves, and the errors of the others."""
    files: list[StackFacts] = []
    errors: dict[str, RasterError] = {}
    # rasterio warns of files without georeference, also of those that only hold others.
    with environment(options=ANY_FORMAT_OPTIONS), recorded_warnings():
        for raster in given:
            try:
                stack = BandStack(local_location(raster), crs)
            except RasterError as error:
                errors[as_text(raster)] = error
                continue
            files.append(stack.facts)
            stack.close()
    return files, errors
