"""What the values of a window give: moments of pieces, and quantiles, frequencies and shares of complete features.

Where each pixel counts 1, kernels work on the window itself; only whole numbers of 16 bits and more, and real ones, are
collected and sorted where single values are counted. Pixels with weights are always collected.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.multiband.byte_kernels import byte_pieces
from sen2chain.multiband.piece_gather import copy_pieces
from sen2chain.multiband.piece_kernels import TYPES, class_weights, sorted_statistics
from sen2chain.multiband.real_kernels import real_pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.multiband.piece_runs import Chunk
    from sen2chain.multiband.wanted_statistics import WantedStatistics

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.float32]
    Runs = tuple[Ints, Ints, Ints, Ints]

_NO_BYTE = -1000  # a no-data value that no byte has
_NO_INTS, _NO_FLOATS = np.zeros((0, 0), np.int64), np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Values of some bands, and where they are none."""

    values: Array
    """(bands, rows, columns)."""
    valid: Bytes
    """(0, 1 or bands, rows, columns): 0 removes a pixel."""
    nodata: Array
    """(bands,) The values that mean no data, in the type of the values."""
    has_nodata: Bools
    """(bands,) Whether there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """What the values of complete features gave."""

    table: Floats
    """(features, bands, quantiles + 4), see `WantedStatistics.evaluate`."""
    found: Ints
    """(bands, features) Numbers of classes; empty where no shares are wanted."""
    classes: Floats
    """The classes, one band and feature after the other."""
    sums: Floats
    """Their weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Values of a feature in one window, kept until the others are read."""

    values: Array
    """(bands, pixels)."""
    shares: Weights | None = None
    """(bands, pixels) weights of valid pixels, else 0."""
    valid: Bytes | None = None
    """(0, 1 or bands, pixels): 0 removes a pixel; None where `shares` or the order of the values say it."""


def held_type(dtype: np.dtype[Any], *, is_weighted: bool) -> np.dtype[Any]:
    """Return the type that values of a type are turned into after reading; it holds all of them below 2**53."""
    if dtype.name in TYPES or (dtype.itemsize == 1 and not is_weighted):
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def is_direct(dtype: np.dtype[Any], statistics: WantedStatistics) -> bool:
    """Tell whether kernels work on a window of a type itself, where each pixel counts 1."""
    return dtype.itemsize == 1 or not (statistics.frequencies or statistics.shares)


def direct_statistics(
    window: Window, runs: Runs, whole: Bools, statistics: WantedStatistics
) -> tuple[Floats, Finished]:
    """Compute what pieces of a window give, where each pixel counts 1.

    Parameters
    ----------
    window
        Its values.
    runs
        ``first``, ``row``, ``column`` and ``length``, as of `byte_pieces`.
    whole
        (pieces,) Which pieces are complete features of which more than moments is wanted.
    statistics
        What is wanted.

    Returns
    -------
    moments
        (pieces, bands, 5).
    finished
        Of all pieces; only those of complete features have values.
    """
    values, bands = window.values, len(window.values)
    pieces = len(whole)
    quantiles = np.array(list(statistics.quantiles.values()), np.float64)
    moments = np.empty((pieces, bands, 5))
    table = np.full((pieces if statistics.needs_values else 0, bands, len(quantiles) + 4), np.nan)
    if values.dtype.itemsize > 1:
        arrays = (values, window.valid, window.nodata, window.has_nodata, *runs)
        real_pieces(*arrays, whole, quantiles, moments, table)
        return moments, Finished(table, _NO_INTS, _NO_FLOATS, _NO_FLOATS)
    found, classes, sums = _NO_INTS, _NO_FLOATS, _NO_FLOATS
    if statistics.shares:
        before = np.concatenate([[0], np.cumsum(runs[3])])
        room = int(np.minimum(np.diff(before[runs[0]])[whole], 256).sum()) * bands
        found, classes, sums = np.zeros((bands, pieces), np.int64), np.empty(room), np.empty(room)
    nodata = np.where(window.has_nodata, window.nodata.astype(np.int64), _NO_BYTE)
    flip = 128 if values.dtype.kind == "i" else 0
    byte_pieces(
        values.view(np.uint8), flip, window.valid, nodata, *runs, whole, quantiles, statistics.frequencies, moments,
        table, found, classes, sums,
    )  # fmt: skip
    n = int(found.sum())
    return moments, Finished(table, found, classes[:n].copy(), sums[:n].copy())


def pieces_of(window: Window, chunk: Chunk, wanted: Bools) -> dict[int, Piece]:
    """Copy the values of some pieces out of a window: feature -> values, and which of them are valid but for NaN."""
    runs = chunk.runs.take(np.repeat(wanted, np.diff(chunk.first)))
    pixels = chunk.pixels[wanted]
    first = np.concatenate([[0], np.cumsum(np.diff(chunk.first)[wanted])])
    values, valid = (np.empty((len(part), int(pixels.sum())), part.dtype) for part in (window.values, window.valid))
    for part, out in ((window.values, values), (window.valid, valid)):
        # Of bytes of both signs the bits are copied.
        bits = (part.view(np.uint8), out.view(np.uint8)) if part.dtype.itemsize == 1 else (part, out)
        copy_pieces(bits[0], first, runs.row, runs.column, runs.length, bits[1])
    if window.has_nodata.any():  # other parts of a mosaic may have another one
        there = ~((values == window.nodata[:, np.newaxis]) & window.has_nodata[:, np.newaxis])
        valid = there.astype(np.uint8) if not len(valid) else np.where(there, valid, np.uint8(0))
    ends = [0, *np.cumsum(pixels).tolist()]
    return {
        feature: Piece(values[:, a:b].copy(), valid=valid[:, a:b].copy())
        for feature, (a, b) in zip(chunk.features[wanted].tolist(), itertools.pairwise(ends), strict=True)
    }


def finish_pieces(pieces: list[list[Piece]], statistics: WantedStatistics) -> Finished:
    """Compute what complete features give whose pieces `pieces_of` copied."""
    every = [piece for own in pieces for piece in own]
    values = np.concatenate([piece.values for piece in every], axis=1)[:, np.newaxis]
    masks = [np.zeros((0, piece.values.shape[1]), np.uint8) if piece.valid is None else piece.valid for piece in every]
    count = max(len(mask) for mask in masks)  # parts of a mosaic may have masks of other kinds
    filled = [mask if len(mask) == count else _filled(mask, count) for mask in masks]
    valid = np.concatenate(filled, axis=1)[:, np.newaxis]
    length = np.array([sum(piece.values.shape[1] for piece in own) for own in pieces], np.int64)
    first, row = np.arange(len(pieces) + 1), np.zeros(len(pieces), np.int64)
    runs = first, row, np.cumsum(length) - length, length
    nodata = np.zeros(len(values), values.dtype), np.zeros(len(values), np.bool_)
    window = Window(values, np.ascontiguousarray(valid), *nodata)
    return direct_statistics(window, runs, np.ones(len(pieces), np.bool_), statistics)[1]


def _filled(mask: Bytes, count: int) -> Bytes:
    if not len(mask):
        return np.full((count, mask.shape[1]), 255, np.uint8)
    return np.broadcast_to(mask, (count, mask.shape[1]))


def sort_pieces(values: Array, shares: Weights, place: Ints, counts: Floats, statistics: WantedStatistics) -> Finished:
    """Sort collected values of complete features, in place, and compute what follows from that.

    Parameters
    ----------
    values, shares
        What `piece_values` gives.
    place
        (features + 1,) Positions where features begin.
    counts
        (features, bands) Weights of valid pixels, or their number.
    statistics
        What is wanted.
    """
    bands = counts.shape[1]
    for a, b in itertools.pairwise(place.tolist()):
        piece = values[a:b].reshape(bands, -1)
        if not shares.size:
            piece.sort(axis=1)
            continue
        order = np.argsort(piece, axis=1, kind="stable")
        own = shares[a:b].reshape(bands, -1)
        piece[...], own[...] = np.take_along_axis(piece, order, 1), np.take_along_axis(own, order, 1)
    # With weights the number of valid pixels does not matter, but that there are any.
    pixels = np.ascontiguousarray((counts > 0) if shares.size else counts, np.int64)
    quantiles = np.array(list(statistics.quantiles.values()), np.float64)
    table = np.full((len(place) - 1, bands, len(quantiles) + 4), np.nan)
    values = values.astype(np.float64, copy=False)
    sorted_statistics(values, shares, place, pixels, quantiles, statistics.frequencies, table)
    if not statistics.shares:
        return Finished(table, _NO_INTS, _NO_FLOATS, _NO_FLOATS)
    found = np.zeros((bands, len(place) - 1), np.int64)
    classes, sums = np.empty((2, len(values)))
    class_weights(values, shares, place, pixels, found, classes, sums)
    n = int(found.sum())
    return Finished(table, found, classes[:n].copy(), sums[:n].copy())
