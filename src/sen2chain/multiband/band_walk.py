"""Walk over the windows of a group of rasters: each is decoded once, in threads, and features grow piece by piece.

Moments of pieces are joined as they come. What needs all values of a feature at once (percentiles, frequencies,
shares) is computed in the thread that reads a window where the feature lies in that window alone; the values of other
features wait for their last window. Results are joined in the order of the windows, so they do not depend on threads.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.multiband.piece_kernels import (
    COUNT,
    HIGH,
    LOW,
    SMALL,
    SQUARES,
    TOTAL,
    TYPES,
    class_weights,
    piece_moments,
    piece_values,
    small_moments,
    sort_bytes,
    sorted_statistics,
)
from sen2chain.multiband.piece_runs import PieceRuns, chunks_of
from sen2chain.parallel import closed, in_threads, memory, workers
from sen2chain.progress import sized
from sen2chain.rasters import ANY_FORMAT_OPTIONS, BandStack, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sen2chain.coverage import PixelPlan
    from sen2chain.multiband.band_layout import RasterGroup
    from sen2chain.multiband.piece_runs import Chunk
    from sen2chain.multiband.wanted_statistics import WantedStatistics
    from sen2chain.progress import Step
    from sen2chain.rasters import Band, StackFacts

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.float32]

MOST_CLASSES = 256
"""Classes of one band whose shares become columns."""

_CHUNK_BYTES = 32 << 20  # values of a window; a block that is larger is read as a whole, up to some times as much
_LARGEST_BLOCK = 8
_WAITING = 6  # share of the memory, as its divisor, that values of incomplete features may take
_UNKNOWN_MEMORY = 8 << 30
_OPEN = 16  # parts of a mosaic whose files are kept open
_NO_INTS, _NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0, np.float32)


@dataclass(slots=True, eq=False)
class BandValues:
    """What a walk found out of the features of a plan, in stored values."""

    moments: Floats
    """(bands, features, 5) count, sum, squared deviations, smallest and largest value."""
    ordered: Floats | None
    """(bands, features, quantiles + 4), see `WantedStatistics.evaluate`; None where nothing of it is wanted."""
    classes: list[dict[float, Floats]]
    """Per band: class -> (features,) weight; empty where no shares are wanted."""
    unread: Bools
    """(features,) Whether a block with pixels of the feature could not be decoded."""
    errors: list[str] = field(default_factory=list)
    """What went wrong with such blocks, each sentence once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Values of one feature in one window."""

    values: Array  # (bands, pixels)
    shares: Weights | None  # (bands, pixels)


@dataclass(slots=True, eq=False)
class _ChunkResult:
    """What a window gave."""

    chunk: Chunk
    error: str = ""
    moments: Floats = field(default_factory=lambda: np.zeros((0, 0, 5)))
    whole: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    ordered: _Ordered | None = None
    waiting: dict[int, _Piece] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Ordered:
    """What sorted values of complete features gave."""

    table: Floats  # (features, bands, quantiles + 4)
    counts: Ints  # (features, bands) numbers of classes
    classes: Floats
    sums: Floats


def chunk_shape(facts: StackFacts, bands: int, itemsize: int) -> tuple[int, int]:
    """Return the rows and columns of the windows of a file: whole blocks, and few enough pixels for the memory."""
    high, wide = facts.block_shape
    rows, columns = facts.grid.shape
    pixels = max(_CHUNK_BYTES // (bands * itemsize), 1)
    if high * wide > _LARGEST_BLOCK * pixels:
        width = min(wide, max(pixels // min(high, math.isqrt(pixels)), 1))
        return max(pixels // width, 1), width
    width = min(wide * max(round(math.isqrt(pixels) / wide), 1), columns)
    return min(high * max(pixels // width // high, 1), rows), max(width, 1)


def cut_plan(group: RasterGroup, runs: PieceRuns, bands: int) -> list[Chunk]:
    """Return the windows of all files of a group that hold pixels of a plan.

    Parameters
    ----------
    group
        The files.
    runs
        All runs, on the group's grid.
    bands
        Bands that are read at once.
    """
    found = []
    for number, part in enumerate(group.parts):
        facts = part.facts
        rows, columns = facts.grid.shape
        own = runs.inside(part.top, part.left, rows, columns)
        if facts.is_south_up:
            own = own.upside_down(rows)
        itemsize = max(np.dtype(band.dtype).itemsize for band in group.bands)
        height, width = chunk_shape(facts, bands, itemsize)
        found += chunks_of(own, number, height, width, columns)
    return found


class BandWalk:
    """The walk over a group of rasters with the pixels of a plan.

    Parameters
    ----------
    group
        The rasters.
    plan
        The pixels of features; its grid need not be the group's.
    runs
        Its runs, on the group's grid.
    statistics
        What is wanted.
    scaled
        Whether scale and offset of bands are applied.
    """

    def __init__(
        self, group: RasterGroup, plan: PixelPlan, runs: PieceRuns, statistics: WantedStatistics, *, scaled: bool
    ) -> None:
        self._group, self._plan, self._runs, self._statistics = group, plan, runs, statistics
        self._reversed = scaled and any(band.scale < 0 for band in group.bands)
        """Whether values are turned into physical ones before anything else, since their order is the other one."""
        self.scaling = [
            (1.0, 0.0) if self._reversed or not scaled else (band.scale, band.offset) for band in group.bands
        ]
        """Per band: factor and summand from the values of `BandValues` to physical ones."""
        self.chunks = cut_plan(group, runs, len(group.bands))
        """Windows, where all bands are read at once."""
        self.passes = self._band_passes()
        """Bands, by position, that are read at once; several only where very large features need it."""

    def _band_passes(self) -> list[list[int]]:
        """Share out the bands so that the values of incomplete features fit into the memory."""
        bands = len(self._group.bands)
        if not self._statistics.needs_values or not self.chunks:
            return [list(range(bands))]
        index = np.repeat(np.arange(len(self.chunks)), [len(chunk.first) - 1 for chunk in self.chunks])
        feature = np.concatenate([chunk.features for chunk in self.chunks])
        pixels = np.concatenate([chunk.pixels for chunk in self.chunks])
        features = len(self._plan.total)
        total = np.bincount(feature, weights=pixels, minlength=features)
        first, last = np.full(features, len(self.chunks)), np.full(features, -1)
        np.minimum.at(first, feature, index)
        np.maximum.at(last, feature, index)
        several = last > first
        held = np.zeros(len(self.chunks) + 1)
        np.add.at(held, first[several], total[several])
        np.add.at(held, last[several] + 1, -total[several])
        own = 8 if self._reversed else max(np.dtype(band.dtype).itemsize for band in self._group.bands)
        own += 4 if self._plan.weights is not None else 0
        room = (memory() or _UNKNOWN_MEMORY) // _WAITING
        # Values are sorted as they are, and those of one feature looked at as float64.
        need = float(np.cumsum(held).max()) * own + float(total.max(initial=0.0)) * 8
        if need > room:
            raise RequestError(
                f"Percentiles, frequencies and shares need {sized(need)} of memory for the values of one band, as of a "
                f"feature of {total.max():.0f} pixels; leave them out, or cut such features."
            )
        at_once = max(min(int(room // max(need, 1.0)), bands), 1)
        return [list(range(i, min(i + at_once, bands))) for i in range(0, bands, at_once)]

    def run(self, step: Step, threads: int = 0) -> BandValues:
        """Read everything; call it inside of `environment`.

        Parameters
        ----------
        step
            Called after each window.
        threads
            Number of threads; 0 uses all processors.
        """
        features, bands = len(self._plan.total), len(self._group.bands)
        moments = np.zeros((bands, features, 5))
        moments[..., LOW], moments[..., HIGH] = np.inf, -np.inf
        ordered = None
        if self._statistics.needs_values:
            ordered = np.full((bands, features, len(self._statistics.quantiles) + 4), np.nan)
        found = BandValues(moments, ordered, [{} for _ in range(bands)], np.zeros(features, np.bool_))
        for chosen in self.passes:
            _Pass(self._group, self._plan, self._statistics, chosen, found, reverse=self._reversed).run(
                self.chunks if len(chosen) == bands else cut_plan(self._group, self._runs, len(chosen)),
                step,
                workers(threads),
            )
        return found


class _Pass:
    """One pass over all windows for some bands."""

    def __init__(
        self,
        group: RasterGroup,
        plan: PixelPlan,
        statistics: WantedStatistics,
        chosen: Sequence[int],
        found: BandValues,
        *,
        reverse: bool,
    ) -> None:
        self._group, self._statistics, self._chosen, self._found = group, statistics, list(chosen), found
        self._reverse = reverse
        self._weights = _NO_WEIGHTS if plan.weights is None else plan.weights
        self._of_plan: tuple[Ints, ...] | None = None
        if plan.head is not None and plan.tail is not None:
            head, tail = plan.head.astype(np.int64), plan.tail.astype(np.int64)
            self._of_plan = head, tail, plan.length.astype(np.int64), np.cumsum(head + tail) - head - tail
        self._quantiles = np.array(list(statistics.quantiles.values()), np.float64)
        self._open: dict[int, BandStack] = {}
        self._pieces = np.zeros(0, np.int64)

    def run(self, chunks: Sequence[Chunk], step: Step, threads: int) -> None:
        """Read the windows in order, and join what they give."""
        self._pieces = np.zeros(len(self._found.unread), np.int64)
        for chunk in chunks:
            self._pieces[chunk.features] += 1
        left = self._pieces.copy()
        waiting: dict[int, list[_Piece]] = {}
        try:
            with closed(in_threads(self._work, chunks, threads)) as results:
                for result in results:
                    self._join(result, left, waiting)
                    step()
        finally:
            for stack in self._open.values():
                stack.close()

    # ------------------------------------------------------------------------------------------ in threads

    def _work(self, chunk: Chunk) -> _ChunkResult:
        """Read one window."""
        with environment(options=ANY_FORMAT_OPTIONS):
            try:
                values, valid, nodata, has_nodata = self._read(chunk)
            except UnreadableError as error:
                return _ChunkResult(chunk, error=str(error))
        runs = chunk.runs
        arrays: tuple[Any, ...] = (values, valid, nodata, has_nodata, chunk.first, runs.row, runs.column, runs.length)
        if self._of_plan is None:
            arrays += (_NO_INTS,) * 5
        else:
            arrays += (runs.skip, *(array[runs.origin] for array in self._of_plan))
        arrays += (self._weights,)
        moments = np.empty((len(chunk.first) - 1, len(self._chosen), 5))
        if self._of_plan is None and not len(valid) and values.dtype.name in SMALL:
            small_moments(values, nodata, has_nodata, chunk.first, runs.row, runs.column, runs.length, moments)
        else:
            piece_moments(*arrays, moments)
        result = _ChunkResult(chunk, moments=moments)
        if self._statistics.needs_values:
            self._collect(result, arrays)
        return result

    def _collect(self, result: _ChunkResult, arrays: tuple[Any, ...]) -> None:
        """Collect the values of the pieces of a window, and finish those of complete features."""
        chunk, values = result.chunk, arrays[0]
        pixels = chunk.pixels * len(self._chosen)
        place = np.concatenate([[0], np.cumsum(pixels)])
        last = values.dtype.type(np.nan) if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        out = np.empty(int(place[-1]), values.dtype)
        shares = np.empty(0 if self._of_plan is None else len(out), np.float32)
        piece_values(*arrays, last, place[:-1], out, shares)
        is_whole = self._pieces[chunk.features] == 1
        shape = (len(self._chosen), -1)
        for i in np.flatnonzero(~is_whole).tolist():
            part = slice(int(place[i]), int(place[i + 1]))
            own = shares[part].reshape(shape).copy() if shares.size else None
            result.waiting[int(chunk.features[i])] = _Piece(out[part].reshape(shape).copy(), own)
        result.whole = np.flatnonzero(is_whole)
        if not len(result.whole):
            return
        if not is_whole.all():
            kept = np.repeat(is_whole, pixels)
            out, shares = out[kept], shares[kept] if shares.size else shares
            place = np.concatenate([[0], np.cumsum(pixels[is_whole])])
        result.ordered = self._order(out, shares, place, result.moments[is_whole, :, COUNT])

    def _order(self, values: Array, shares: Weights, place: Ints, counts: Floats) -> _Ordered:
        """Sort the values of complete features, in place, and compute what follows from that."""
        bands = len(self._chosen)
        if values.dtype.itemsize == 1 and not shares.size:
            sort_bytes(values, place, bands)
        ends = place.tolist() if values.dtype.itemsize > 1 or shares.size else []
        for a, b in itertools.pairwise(ends):
            piece = values[a:b].reshape(bands, -1)
            if not shares.size:
                piece.sort(axis=1)
                continue
            order = np.argsort(piece, axis=1, kind="stable")
            own = shares[a:b].reshape(bands, -1)
            piece[...], own[...] = np.take_along_axis(piece, order, 1), np.take_along_axis(own, order, 1)
        # With weights the number of valid pixels does not matter, but that there are any.
        pixels = np.ascontiguousarray((counts > 0) if shares.size else counts, np.int64)
        table = np.full((len(place) - 1, bands, len(self._quantiles) + 4), np.nan)
        values = values.astype(np.float64, copy=False)
        sorted_statistics(values, shares, place, pixels, self._quantiles, self._statistics.frequencies, table)
        found, classes, sums = np.zeros((len(place) - 1, bands), np.int64), np.zeros(0), np.zeros(0)
        if self._statistics.shares:
            classes, sums = np.empty((2, len(values)))
            class_weights(values, shares, place, pixels, found, classes, sums)
        n = int(found.sum())
        return _Ordered(table, found, classes[:n].copy(), sums[:n].copy())

    def _read(self, chunk: Chunk) -> tuple[Array, Bytes, Array, Bools]:
        """Return the values of a window, what masks say, and the no-data values in the type of the values."""
        bands = self._bands_of(chunk.part)
        values, valid = self._stack(chunk.part).read(chunk.rows, chunk.columns, bands)
        nodata, has_nodata = typed_nodata(bands, values.dtype)
        earlier = list(self._earlier(chunk))
        if earlier:
            valid = np.broadcast_to(valid, values.shape).copy() if len(valid) else np.full(values.shape, 255, np.uint8)
            for (rows, columns), there in earlier:
                valid[:, rows, columns][there] = 0
        if self._reverse or values.dtype.name not in TYPES:
            away = (values == nodata[:, None, None]) & has_nodata[:, None, None]
            values = values.astype(np.float64)
            if self._reverse:
                scale, offset = (np.array([getattr(b, name) for b in bands]) for name in ("scale", "offset"))
                values = values * scale[:, None, None] + offset[:, None, None]
            values[away] = np.nan
            nodata, has_nodata = nodata.astype(np.float64), np.zeros_like(has_nodata)
        return values, valid, nodata, has_nodata

    def _earlier(self, chunk: Chunk) -> Iterator[tuple[tuple[slice, slice], Bools]]:
        """Yield where earlier parts of a mosaic have values in a window: its rows and columns, and which pixels."""
        parts = self._group.parts
        mine = parts[chunk.part]
        top, bottom = _north(mine.facts, chunk.rows)
        box = (mine.top + top, mine.top + bottom, mine.left + chunk.columns[0], mine.left + chunk.columns[1])
        for number, other in enumerate(parts[: chunk.part]):
            rows, columns = other.facts.grid.shape
            a, b = max(box[0], other.top), min(box[1], other.top + rows)
            c, d = max(box[2], other.left), min(box[3], other.left + columns)
            if a >= b or c >= d:
                continue
            bands = self._bands_of(number)
            window = _north(other.facts, (a - other.top, b - other.top)), (c - other.left, d - other.left)
            values, valid = self._stack(number).read(*window, bands)
            nodata, has_nodata = typed_nodata(bands, values.dtype)
            there = np.isfinite(values) & ~((values == nodata[:, None, None]) & has_nodata[:, None, None])
            if len(valid):
                there &= valid != 0
            if other.facts.is_south_up != mine.facts.is_south_up:
                there = there[:, ::-1]
            rows_here = slice(a - box[0], b - box[0])
            if mine.facts.is_south_up:
                rows_here = slice(box[1] - b, box[1] - a)
            yield (rows_here, slice(c - box[2], d - box[2])), there

    def _bands_of(self, part: int) -> list[Band]:
        every = self._group.bands_of(part)
        return [every[i] for i in self._chosen]

    def _stack(self, part: int) -> BandStack:
        found = self._open.get(part)
        if found is None:  # two threads may both open it; one of them is used from then on
            facts = self._group.parts[part].facts
            found = self._open.setdefault(part, BandStack(facts.location, facts.grid.crs))
            for other in sorted(self._open)[:-_OPEN]:  # they open again where an overlap needs them
                self._open[other].close()
        return found

    # ------------------------------------------------------------------------------------------ in the calling thread

    def _join(self, result: _ChunkResult, left: Ints, waiting: dict[int, list[_Piece]]) -> None:
        """Join what a window gave with what the windows before it gave."""
        found, features = self._found, result.chunk.features
        if result.error:
            found.unread[features] = True
            if result.error not in found.errors:
                found.errors.append(result.error)
        else:
            for i, band in enumerate(self._chosen):
                found.moments[band, features] = joined(found.moments[band, features], result.moments[:, i])
        if result.ordered is not None:
            self._enter(features[result.whole], result.ordered)
        left[features] -= 1
        for feature, piece in result.waiting.items():
            waiting.setdefault(feature, []).append(piece)
        done = [int(f) for f in features[left[features] == 0] if int(f) in waiting]
        for feature in done:
            pieces = waiting.pop(feature)
            if found.unread[feature]:
                continue
            values = np.concatenate([piece.values for piece in pieces], axis=1).ravel()
            own = [piece.shares for piece in pieces if piece.shares is not None]
            shares = np.concatenate(own, axis=1).ravel() if own else _NO_WEIGHTS
            counts = found.moments[self._chosen, feature, COUNT][np.newaxis]
            place = np.array([0, len(values)], np.int64)
            self._enter(np.array([feature]), self._order(values, shares, place, counts))

    def _enter(self, features: Ints, ordered: _Ordered) -> None:
        """Enter what complete features gave."""
        found = self._found
        assert found.ordered is not None  # noqa: S101  # values are collected for it
        for i, band in enumerate(self._chosen):
            found.ordered[band, features] = ordered.table[:, i]
        if not self._statistics.shares:
            return
        feature = np.repeat(np.repeat(features, len(self._chosen)), ordered.counts.ravel())
        band_of = np.repeat(np.tile(self._chosen, len(features)), ordered.counts.ravel())
        for band in self._chosen:
            mine = band_of == band
            known = found.classes[band]
            values = np.unique(ordered.classes[mine])
            if len(known.keys() | set(values.tolist())) > MOST_CLASSES:
                name, label = self._group.bands[band].name, self._group.label
                raise RequestError(
                    f"{label}: {name} has more than {MOST_CLASSES} different values, so they are not classes; "
                    "leave shares out, or choose other bands."
                )
            for value in values.tolist():
                own = known.setdefault(value, np.zeros(len(found.unread)))
                chosen = mine & (ordered.classes == value)
                own[feature[chosen]] = ordered.sums[chosen]


def _north(facts: StackFacts, rows: tuple[int, int]) -> tuple[int, int]:
    """Rows of a file counted from its northern edge, or those back in the file."""
    height = facts.grid.shape[0]
    return (height - rows[1], height - rows[0]) if facts.is_south_up else rows


def typed_nodata(bands: Sequence[Band], dtype: np.dtype[Any]) -> tuple[Array, Bools]:
    """Return the no-data values of bands in a type, and for which bands some pixel can have it.

    NaN needs no value: what is not finite is never valid.
    """
    values, known = np.zeros(len(bands), dtype), np.zeros(len(bands), np.bool_)
    for i, band in enumerate(bands):
        if band.nodata is None or not math.isfinite(band.nodata):
            continue
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                values[i] = np.dtype(band.dtype).type(band.nodata) if band.dtype == "float32" else band.nodata
            known[i] = np.isfinite(values[i])
        elif band.nodata == int(band.nodata) and np.iinfo(dtype).min <= band.nodata <= np.iinfo(dtype).max:
            values[i], known[i] = int(band.nodata), True
    return values, known


def joined(before: Floats, more: Floats) -> Floats:
    """Join the moments of disjoint pieces of the same features; (features, 5) each."""
    out = np.empty_like(before)
    a, b = before[:, COUNT], more[:, COUNT]
    n = a + b
    both = (a > 0) & (b > 0)
    none = np.zeros_like(n)
    mean, other = (np.divide(part[:, TOTAL], m, out=none.copy(), where=both) for part, m in ((before, a), (more, b)))
    out[:, COUNT] = n
    out[:, TOTAL] = before[:, TOTAL] + more[:, TOTAL]
    out[:, SQUARES] = before[:, SQUARES] + more[:, SQUARES]
    out[:, SQUARES] += np.divide((other - mean) ** 2 * a * b, n, out=none, where=both)
    out[:, LOW] = np.minimum(before[:, LOW], more[:, LOW])
    out[:, HIGH] = np.maximum(before[:, HIGH], more[:, HIGH])
    return out
