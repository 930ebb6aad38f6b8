"""Walk over the windows of a group of rasters: each is decoded once, in threads, and features grow piece by piece.

Moments of pieces are joined as they come. What needs all values of a feature at once (percentiles, frequencies,
shares) is computed in the thread that reads a window where the feature lies in that window alone; the values of other
features wait for their last window. Results are joined in the order of the windows, so they do not depend on threads.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.multiband.piece_kernels import COUNT, HIGH, LOW, SQUARES, TOTAL, piece_values, weighted_moments
from sen2chain.multiband.piece_runs import PieceRuns, chunks_of
from sen2chain.multiband.window_statistics import (
    Finished,
    Piece,
    Window,
    direct_statistics,
    finish_pieces,
    held_type,
    is_direct,
    pieces_of,
    sort_pieces,
)
from sen2chain.parallel import closed, in_threads, memory, workers
from sen2chain.progress import sized
from sen2chain.rasters import ANY_FORMAT_OPTIONS, BandStack, environment, read_type

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
    """(features, bands, 5) count, sum, squared deviations, smallest and largest value; 0 without pixels."""
    ordered: Floats | None
    """(features, bands, quantiles + 4), see `WantedStatistics.evaluate`; None where nothing of it is wanted. It means
    nothing where the count is 0."""
    classes: list[dict[float, Floats]]
    """Per band: class -> (features,) weight; empty where no shares are wanted."""
    unread: Bools
    """(features,) Whether a block with pixels of the feature could not be decoded."""
    errors: dict[str, None] = field(default_factory=dict)
    """What went wrong with such blocks, each sentence once, in order."""


@dataclass(slots=True, eq=False)
class _Damage:
    """What the pieces of a window lose because blocks cannot be decoded."""

    unread: Bools
    """(pieces,) those that have a pixel in such a block."""
    errors: dict[str, None] = field(default_factory=dict)
    """What went wrong with these blocks, each sentence once, in order."""

    def add(self, error: UnreadableError, touched: Bools) -> None:
        """Enter a block that cannot be decoded, and which pieces have a pixel in it; it is no loss if none has."""
        if touched.any():
            self.unread |= touched
            self.errors[str(error)] = None


@dataclass(slots=True, eq=False)
class _ChunkResult:
    """What a window gave."""

    chunk: Chunk
    damage: _Damage
    moments: Floats = field(default_factory=lambda: np.zeros((0, 0, 5)))
    whole: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    ordered: Finished | None = None
    waiting: dict[int, Piece] = field(default_factory=dict)


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


def cut_plan(group: RasterGroup, runs: PieceRuns, bands: int, itemsize: int) -> list[Chunk]:
    """Return the windows of all files of a group that hold pixels of a plan.

    Parameters
    ----------
    group
        The files.
    runs
        All runs, on the group's grid.
    bands
        Bands that are read at once.
    itemsize
        Bytes of a value in memory.
    """
    found = []
    for number, part in enumerate(group.parts):
        facts = part.facts
        rows, columns = facts.grid.shape
        own = runs.inside(part.top, part.left, rows, columns)
        if facts.is_south_up:
            own = own.upside_down(rows)
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
        held = held_type(read_type(group.bands), is_weighted=plan.weights is not None)
        self._itemsize = 8 if self._reversed else held.itemsize
        """Bytes of a value in memory."""
        self.chunks = cut_plan(group, runs, len(group.bands), self._itemsize)
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
        own = self._itemsize + (4 if self._plan.weights is not None else 0)
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
        moments = np.zeros((features, bands, 5))  # the system clears such memory when it is first used
        ordered = None
        if self._statistics.needs_values:
            ordered = np.zeros((features, bands, len(self._statistics.quantiles) + 4))
        found = BandValues(moments, ordered, [{} for _ in range(bands)], np.zeros(features, np.bool_))
        for chosen in self.passes:
            _Pass(self._group, self._plan, self._statistics, chosen, found, reverse=self._reversed).run(
                self.chunks if len(chosen) == bands else cut_plan(self._group, self._runs, len(chosen), self._itemsize),
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
        self._bands = slice(chosen[0], chosen[-1] + 1)
        self._reverse = reverse
        self._weights = _NO_WEIGHTS if plan.weights is None else plan.weights
        self._of_plan: tuple[Ints, ...] | None = None
        if plan.head is not None and plan.tail is not None:
            head, tail = plan.head.astype(np.int64), plan.tail.astype(np.int64)
            self._of_plan = head, tail, plan.length.astype(np.int64), np.cumsum(head + tail) - head - tail
        self._open: dict[int, BandStack] = {}
        self._rooms: list[Bytes] = []
        """Memory for the values of a window that no thread works on."""
        self._room = 0
        """Its size."""
        self._pieces = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.bool_)

    def run(self, chunks: Sequence[Chunk], step: Step, threads: int) -> None:
        """Read the windows in order, and join what they give."""
        self._pieces = np.zeros(len(self._found.unread), np.int64)
        largest = max(((c.rows[1] - c.rows[0]) * (c.columns[1] - c.columns[0]) for c in chunks), default=0)
        bands = [self._group.bands[i] for i in self._chosen]
        self._room = largest * len(bands) * read_type(bands).itemsize
        for chunk in chunks:
            self._pieces[chunk.features] += 1
        left = self._pieces.copy()
        self._seen = np.zeros(len(left), np.bool_)
        waiting: dict[int, list[Piece]] = {}
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
        """Read one window, into memory that windows before it have left, and compute what it gives."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = np.empty(self._room, np.uint8)
        try:
            with environment(options=ANY_FORMAT_OPTIONS):
                window, damage = self._read(chunk, room)
        except UnreadableError as error:
            return _ChunkResult(chunk, _Damage(np.ones(len(chunk.features), np.bool_), {str(error): None}))
        else:
            return self._computed(chunk, window, damage)
        finally:
            self._rooms.append(room)

    def _computed(self, chunk: Chunk, window: Window, damage: _Damage) -> _ChunkResult:
        """Compute what a window gives; nothing of the result refers to it."""
        # Values of features that lose pixels are not wanted: a class that only these have gets no column.
        is_whole, is_read = self._pieces[chunk.features] == 1, ~damage.unread
        whole, waits = is_whole & is_read, ~is_whole & is_read
        needs_values = self._statistics.needs_values
        if not self._is_direct(window.values.dtype):
            return self._collected(chunk, window, whole, waits, damage)
        runs = chunk.first, chunk.runs.row, chunk.runs.column, chunk.runs.length
        moments, finished = direct_statistics(window, runs, whole & needs_values, self._statistics)
        result = _ChunkResult(chunk, damage, moments)
        if needs_values:
            result.whole = np.flatnonzero(whole)
            found = finished.found[:, whole] if finished.found.size else finished.found
            result.ordered = replace(finished, table=finished.table[whole], found=found)
            if waits.any():
                result.waiting = pieces_of(window, chunk, waits)
        return result

    def _is_direct(self, dtype: np.dtype[Any]) -> bool:
        return self._of_plan is None and is_direct(dtype, self._statistics)

    def _collected(self, chunk: Chunk, window: Window, whole: Bools, waits: Bools, damage: _Damage) -> _ChunkResult:
        """Collect the values of the pieces of a window, and finish those of complete features."""
        runs, dtype = chunk.runs, window.values.dtype
        place = np.concatenate([[0], np.cumsum(chunk.pixels * len(self._chosen))])
        arrays: tuple[Any, ...] = (window.values, window.valid, window.nodata, window.has_nodata)
        arrays += (chunk.first, runs.row, runs.column, runs.length)
        moments = np.empty((len(chunk.first) - 1, len(self._chosen), 5))
        if self._of_plan is None:
            moments, _ = direct_statistics(window, arrays[4:], np.zeros_like(whole), self._statistics)
            arrays += (_NO_INTS,) * 5
        else:
            arrays += (runs.skip, *(array[runs.origin] for array in self._of_plan))
            weighted_moments(*arrays, self._weights, moments)
        result = _ChunkResult(chunk, damage, moments)
        if not self._statistics.needs_values:
            return result
        out = np.empty(int(place[-1]), dtype)
        shares = np.empty(0 if self._of_plan is None else len(out), np.float32)
        piece_values(*arrays, self._weights, dtype.type(np.nan), place[:-1], out, shares)
        shape = (len(self._chosen), -1)
        for i in np.flatnonzero(waits).tolist():
            part = slice(int(place[i]), int(place[i + 1]))
            own = shares[part].reshape(shape).copy() if shares.size else None
            result.waiting[int(chunk.features[i])] = Piece(out[part].reshape(shape).copy(), own)
        result.whole = np.flatnonzero(whole)
        if not whole.all():
            kept = np.repeat(whole, np.diff(place))
            out, shares = out[kept], shares[kept] if shares.size else shares
            place = np.concatenate([[0], np.cumsum(np.diff(place)[whole])])
        result.ordered = sort_pieces(out, shares, place, moments[whole, :, COUNT], self._statistics)
        return result

    def _read(self, chunk: Chunk, room: Bytes) -> tuple[Window, _Damage]:
        """Read a window, in a type that kernels take, if possible into `room`."""
        bands = self._bands_of(chunk.part)
        damage = _Damage(np.zeros(len(chunk.features), np.bool_))
        try:
            values, valid = self._stack(chunk.part).read(chunk.rows, chunk.columns, bands, room)
        except UnreadableError:
            values, valid = self._read_blocks(chunk, bands, damage)
        nodata, has_nodata = typed_nodata(bands, values.dtype)
        for place, there in self._earlier(chunk):
            if isinstance(there, UnreadableError):
                damage.add(there, chunk.touched(*place))
                continue
            if valid.shape != values.shape:
                valid = (
                    np.broadcast_to(valid, values.shape).copy() if len(valid) else np.full(values.shape, 255, np.uint8)
                )
            valid[:, *place][there] = 0
        window = Window(values, valid, nodata, has_nodata)
        return self._physical(window, bands) if self._reverse else self._held(window), damage

    def _read_blocks(self, chunk: Chunk, bands: Sequence[Band], damage: _Damage) -> tuple[Array, Array]:
        """Read a window that cannot be read at once block by block, so that a damaged one costs only what lies in it.

        Parameters
        ----------
        chunk, bands
            The window, and the bands.
        damage
            Receives the blocks that cannot be decoded.

        Returns
        -------
        values, valid
            As of `BandStack.read`; no pixel is valid in blocks that are not needed or cannot be decoded.
        """
        stack, shape = self._stack(chunk.part), (chunk.rows[1] - chunk.rows[0], chunk.columns[1] - chunk.columns[0])
        found = np.zeros((len(bands), *shape), read_type(bands))
        found_valid = np.zeros(found.shape, np.uint8)
        high, wide = self._group.parts[chunk.part].facts.block_shape
        for rows, columns in itertools.product(_blocks(chunk.rows, high), _blocks(chunk.columns, wide)):
            place = tuple(slice(a - o[0], b - o[0]) for (a, b), o in ((rows, chunk.rows), (columns, chunk.columns)))
            touched = chunk.touched(*place)
            if not touched.any():
                continue
            try:
                values, valid = stack.read(rows, columns, bands)
            except UnreadableError as error:
                damage.add(error, touched)
                continue
            found[:, *place] = values
            found_valid[:, *place] = valid if len(valid) else 255
        return found, found_valid

    def _held(self, window: Window) -> Window:
        """Turn values into those of a type that kernels take."""
        values = window.values
        held = held_type(values.dtype, is_weighted=self._of_plan is not None)
        if held == values.dtype:
            return window
        if values.dtype.itemsize < held.itemsize:  # so no two values become one
            return replace(window, values=values.astype(held), nodata=window.nodata.astype(held))
        return _without_nodata(window)

    @staticmethod
    def _physical(window: Window, bands: Sequence[Band]) -> Window:
        """Apply scale and offset."""
        window = _without_nodata(window)
        scale, offset = (np.array([getattr(b, name) for b in bands]) for name in ("scale", "offset"))
        return replace(window, values=window.values * scale[:, None, None] + offset[:, None, None])

    def _earlier(self, chunk: Chunk) -> Iterator[tuple[tuple[slice, slice], Bools | UnreadableError]]:
        """Yield where earlier parts of a mosaic have values in a window.

        Yields
        ------
        tuple
            Rows and columns of the window, and which pixels of them have values, or why they cannot be read.
        """
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
            window = _north(other.facts, (a - other.top, b - other.top)), (c - other.left, d - other.left)
            for own_rows, own_columns, there in self._there(number, window):
                if other.facts.is_south_up != mine.facts.is_south_up and not isinstance(there, UnreadableError):
                    there = there[:, ::-1]  # noqa: PLW2901  # the same pixels from the other side
                a, b = (other.top + row for row in _north(other.facts, own_rows))
                c, d = (other.left + column for column in own_columns)
                rows_here = slice(box[1] - b, box[1] - a) if mine.facts.is_south_up else slice(a - box[0], b - box[0])
                yield (rows_here, slice(c - box[2], d - box[2])), there

    def _there(
        self, part: int, window: tuple[tuple[int, int], tuple[int, int]]
    ) -> Iterator[tuple[tuple[int, int], tuple[int, int], Bools | UnreadableError]]:
        """Yield rows and columns of a part of a mosaic, and which pixels of them have values, or why that is unknown.

        They are the window, or each block of a window that cannot be read at once.
        """
        whole = self._with_values(part, *window)
        if not isinstance(whole, UnreadableError):
            yield *window, whole
            return
        edges = self._group.parts[part].facts.block_shape
        for rows, columns in itertools.product(*map(_blocks, window, edges)):
            yield rows, columns, self._with_values(part, rows, columns)

    def _with_values(self, part: int, rows: tuple[int, int], columns: tuple[int, int]) -> Bools | UnreadableError:
        """Return which pixels of a part of a mosaic have values, or why they cannot be read."""
        bands = self._bands_of(part)
        try:
            values, valid = self._stack(part).read(rows, columns, bands)
        except UnreadableError as error:
            return error
        nodata, has_nodata = typed_nodata(bands, values.dtype)
        there: Bools = np.isfinite(values) & ~((values == nodata[:, None, None]) & has_nodata[:, None, None])
        return there & (valid != 0) if len(valid) else there

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

    def _join(self, result: _ChunkResult, left: Ints, waiting: dict[int, list[Piece]]) -> None:
        """Join what a window gave with what the windows before it gave."""
        found, features = self._found, result.chunk.features
        found.unread[features[result.damage.unread]] = True
        found.errors |= result.damage.errors
        if len(result.moments):
            again, bands = self._seen[features], self._bands
            found.moments[features[~again], bands] = result.moments[~again]
            if again.any():
                more = features[again]
                found.moments[more, bands] = joined(found.moments[more, bands], result.moments[again])
            self._seen[features] = True
        if result.ordered is not None:
            self._enter(features[result.whole], result.ordered)
        left[features] -= 1
        for feature, piece in result.waiting.items():
            waiting.setdefault(feature, []).append(piece)
        done = [f for f in features[left[features] == 0].tolist() if f in waiting]
        pieces = [waiting.pop(f) for f in done]
        complete = [(f, own) for f, own in zip(done, pieces, strict=True) if not found.unread[f]]
        if complete:
            self._finish([f for f, _ in complete], [own for _, own in complete])

    def _finish(self, features: list[int], pieces: list[list[Piece]]) -> None:
        """Enter what features gave whose last window was read."""
        if self._is_direct(pieces[0][0].values.dtype):
            self._enter(np.array(features), finish_pieces(pieces, self._statistics))
            return
        for feature, own in zip(features, pieces, strict=True):
            values = np.concatenate([piece.values for piece in own], axis=1).ravel()
            weights = [piece.shares for piece in own if piece.shares is not None]
            shares = np.concatenate(weights, axis=1).ravel() if weights else _NO_WEIGHTS
            counts = self._found.moments[feature, self._bands, COUNT][np.newaxis]
            place = np.array([0, len(values)], np.int64)
            self._enter(np.array([feature]), sort_pieces(values, shares, place, counts, self._statistics))

    def _enter(self, features: Ints, ordered: Finished) -> None:
        """Enter what complete features gave."""
        found = self._found
        assert found.ordered is not None  # noqa: S101  # values are collected for it
        found.ordered[features, self._bands] = ordered.table
        if not self._statistics.shares:
            return
        feature = np.repeat(np.tile(features, len(self._chosen)), ordered.found.ravel())
        band_of = np.repeat(np.repeat(self._chosen, len(features)), ordered.found.ravel())
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


def _blocks(stretch: tuple[int, int], edge: int) -> list[tuple[int, int]]:
    """Return the parts of a stretch of rows or columns that lie in one block each."""
    cuts = [stretch[0], *range(stretch[0] // edge * edge + edge, stretch[1], edge), stretch[1]]
    return list(itertools.pairwise(cuts))


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


def _without_nodata(window: Window) -> Window:
    """Turn values into float64, with NaN for no data."""
    away = (window.values == window.nodata[:, None, None]) & window.has_nodata[:, None, None]
    values = window.values.astype(np.float64)
    values[away] = np.nan
    return Window(values, window.valid, window.nodata.astype(np.float64), np.zeros_like(window.has_nodata))


def joined(before: Floats, more: Floats) -> Floats:
    """Join the moments of disjoint pieces of the same features; (..., 5) each."""
    out = np.empty_like(before)
    a, b = before[..., COUNT], more[..., COUNT]
    n = a + b
    both = (a > 0) & (b > 0)
    none = np.zeros_like(n)
    mean, other = (np.divide(part[..., TOTAL], m, out=none.copy(), where=both) for part, m in ((before, a), (more, b)))
    out[..., COUNT] = n
    out[..., TOTAL] = before[..., TOTAL] + more[..., TOTAL]
    out[..., SQUARES] = before[..., SQUARES] + more[..., SQUARES]
    out[..., SQUARES] += np.divide((other - mean) ** 2 * a * b, n, out=none, where=both)
    out[..., LOW] = np.minimum(before[..., LOW], more[..., LOW])
    out[..., HIGH] = np.maximum(before[..., HIGH], more[..., HIGH])
    return out
