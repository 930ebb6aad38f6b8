"""The rows of one run, added by date and returned by feature.

`Spool` keeps few rows in memory and many in temporary files, so that memory does not grow with the number of dates.
`RowFormat` has the columns of the rows, and their types.

The spool transposes a table that does not fit in memory. The numbers of a row lie side by side, so that the rows of
neighbouring features on one date are one short stretch of a file. These stretches are copied together for as many
features as fit in memory, so that each date is visited once for many rows, and sorted there.
"""

from __future__ import annotations

import itertools
import mmap
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.cache import release
from sen2chain.errors import OutputError
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd

    from sen2chain.products import ProductId
    from sen2chain.rows import Batch

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

# Rows of a run go to temporary files, this many bytes at a time.
_IN_MEMORY = 64 << 20
_CHUNK_ROWS = 1 << 16
_TEXT_BYTES = 1 << 28
_COUNTS = ("count", "nodata", "nbcld")
_REASONS = np.array([*(reason.value for reason in Reason), ""], dtype=object)  # -1, the last, is a row with values


@dataclass(frozen=True, slots=True, eq=False)
class RowFormat:
    """The columns of rows: their order, and their types."""

    columns: tuple[str, ...]
    """Columns of statistics after ``cldprb``, in order."""
    attributes: pa.Table
    """Attributes of the layer by fid, the last columns."""
    features: int = 0
    """Number of features of the layer; 0 where it does not matter."""
    with_mask: bool = False
    """Whether rows carry the name of their mask."""
    with_reason: bool = False
    """Whether rows carry the reason why they are empty."""
    whole_counts: bool = True
    """Whether counts are whole numbers."""
    with_completeness: bool = False
    """Whether the share of pixels that were seen, clouds included, follows the statistics."""
    id_field: str = ""
    """The attribute that stands right after ``fid``, since it is the user's own key; empty for none."""

    @property
    def numbers(self) -> dict[str, pa.DataType]:
        """Columns of numbers with their types."""
        counts = pa.int64() if self.whole_counts else pa.float64()
        return dict.fromkeys(_COUNTS, counts) | dict.fromkeys(("cldprb", *self.columns), pa.float64())

    @property
    def own(self) -> pa.Schema:
        """All columns but those of the layer's attributes."""
        taken = set(self.attributes.schema.names)
        return pa.schema([column for column in self.schema if column.name not in taken])

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        head = [("date", pa.timestamp("s")), ("fid", pa.int64()), ("tile", pa.string()), ("filename", pa.string())]
        if self.with_mask:
            head.append(("mask", pa.string()))
        tail = [("completeness", pa.float64())] if self.with_completeness else []
        if self.with_reason:
            tail.append(("reason", pa.string()))
        columns = pa.schema([*head, *self.numbers.items(), *tail, *self.attributes.schema])
        return pa.schema([columns.field(name) for name in id_after_fid(columns.names, self.id_field)])

    def numbers_of(self, batch: Batch) -> Floats:
        """Return the numbers of the rows of a batch, and the position of their reason where it is asked for.

        Returns
        -------
        numpy.ndarray
            (rows, columns) float64, NaN where there is no value; whole numbers are exact up to 2**53.
        """
        names = [*self.numbers, *(["reason"] if self.with_reason else [])]
        numbers = np.empty((len(batch.columns["fid"]), len(names)))
        for place, name in enumerate(names):
            numbers[:, place] = batch.columns[name]
        return numbers

    def rows_of(self, batch: Batch) -> pa.Table:
        """Return the rows of a batch."""
        fid = batch.columns["fid"].astype(np.int64, copy=False)
        return self.complete(fid, self.numbers_of(batch), Origins.of([batch]), np.zeros(len(fid), np.intp))

    def complete(self, fid: Ints, numbers: Floats, origins: Origins, which: npt.NDArray[np.intp]) -> pa.Table:
        """Add the columns that are the same for all rows of a batch, and the attributes.

        Parameters
        ----------
        fid
            (rows,) the feature of each row.
        numbers
            (rows, columns) the results of `numbers_of` for several batches, one below the other.
        origins
            Texts and dates of the batches.
        which
            (rows,) the batch of each row.
        """
        place = pa.array(which)
        by_name = dict(zip(self.numbers, np.ascontiguousarray(numbers.T), strict=False))
        columns = {
            "date": origins.date.take(place),
            "fid": pa.array(fid),
            "tile": origins.tile.take(place),
            "filename": origins.filename.take(place),
        }
        if self.with_mask:
            columns["mask"] = origins.mask.take(place)
        for name, kind in self.numbers.items():
            columns[name] = pa.array(by_name[name], kind, from_pandas=True, safe=False)
        if self.with_completeness:
            columns["completeness"] = pa.array(_completeness(by_name), from_pandas=True)
        if self.with_reason:
            columns["reason"] = pa.array(_REASONS[numbers[:, -1].astype(np.int8)], pa.string())
        schema = self.schema
        return with_attributes(pa.table(columns), self.attributes).select(schema.names).cast(schema)


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """The texts and dates that all rows of a batch share: (batches,) arrays."""

    date: pa.Array
    tile: pa.Array
    filename: pa.Array
    mask: pa.Array

    @classmethod
    def of(cls, batches: Sequence[Batch | _Piece]) -> Origins:
        """Gather the names of batches."""
        return cls(
            pa.array([batch.product.sensing for batch in batches], pa.timestamp("s")),
            pa.array([batch.product.tile for batch in batches], pa.string()),
            pa.array([batch.filename for batch in batches], pa.string()),
            pa.array([batch.mask for batch in batches], pa.string()),
        )


def with_attributes(table: pa.Table, attributes: pa.Table, id_field: str = "") -> pa.Table:
    """Add the attributes of each row's feature; those named like a column of the table get a prefix.

    Parameters
    ----------
    table
        Rows with a column ``fid``.
    attributes
        Attributes of the layer by fid.
    id_field
        The attribute that goes right after ``fid``; empty for none.
    """
    fid, moved = table.column("fid"), ""
    for own, name in zip(attributes.schema.names, attributes_beside(table.schema.names, attributes), strict=True):
        table = table.append_column(name, attributes.column(own).take(fid))
        moved = name if own == id_field else moved
    return table.select(id_after_fid(table.schema.names, moved)) if moved else table


def id_after_fid(names: Sequence[str], moved: str) -> list[str]:
    """Return names of columns, the user's own key right after ``fid``.

    Parameters
    ----------
    names
        Names, ``fid`` among them.
    moved
        The column that is moved; empty for none.
    """
    if not moved:
        return list(names)
    others = [name for name in names if name != moved]
    place = others.index("fid") + 1
    return [*others[:place], moved, *others[place:]]


def attributes_beside(columns: Sequence[str], attributes: pa.Table) -> list[str]:
    """Return the names of attributes beside these columns, each used once: ``attr_`` is added where a name is taken."""
    taken, names = set(columns), []
    for attribute in attributes.schema.names:
        name = attribute
        while name in taken:
            name = f"attr_{name}"
        taken.add(name)
        names.append(name)
    return names


def _completeness(numbers: Mapping[str, Floats]) -> Floats:
    count, nodata, clouds = (numbers[name] for name in _COUNTS)
    whole = count + nodata
    unseen: Floats = np.divide(nodata - clouds, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return 1 - unseen


def attribute_table(attributes: pd.DataFrame) -> pa.Table:
    """Return the attributes of a layer as columns of rows."""
    return pa.Table.from_pandas(attributes, preserve_index=False).replace_schema_metadata(None)


@dataclass(slots=True, eq=False)
class _Piece:
    """Rows of one batch, ascending by fid."""

    product: ProductId
    filename: str
    mask: str
    fid: Ints
    numbers: Floats


class Spool:
    """Rows of one run.

    Parameters
    ----------
    layout
        The columns of the rows as they come out.
    """

    def __init__(self, layout: RowFormat) -> None:
        self.layout = layout
        self._pieces: dict[tuple[str, str], dict[dt.date, list[_Piece]]] = {}
        self._in_memory: list[_Piece] = []
        self._bytes = 0
        self._mapped: list[mmap.mmap] = []

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows as they come out."""
        return self.layout.schema

    def add(self, batch: Batch) -> None:
        """Add the rows of a batch; batches of one index and mask are added in order of their dates."""
        if not len(batch.columns["fid"]):
            return
        fid = batch.columns["fid"].astype(np.int64)
        piece = _Piece(batch.product, batch.filename, batch.mask, fid, self.layout.numbers_of(batch))
        days = self._pieces.setdefault((batch.index, batch.mask), {})
        days.setdefault(batch.product.sensing.date(), []).append(piece)
        self._in_memory.append(piece)
        self._bytes += piece.fid.nbytes + piece.numbers.nbytes
        if self._bytes > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        """Move the rows that are in memory to one temporary file, and map them from there."""
        try:
            # The file has no name (where the system can do that), so that not even a killed run leaves one behind.
            with tempfile.TemporaryFile(prefix="sen2chain-rows-") as file:
                for piece in self._in_memory:
                    file.write(piece.fid.data)
                    file.write(piece.numbers.data)
                file.flush()
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._mapped.append(content)
        except OSError as error:
            raise OutputError(
                f"The rows of this run do not fit in {tempfile.gettempdir()} ({error.strerror}); "
                "set TMPDIR to a larger folder."
            ) from error
        start = 0
        for piece in self._in_memory:
            shape = piece.numbers.shape
            piece.fid = np.frombuffer(content, np.int64, shape[0], start)
            start += piece.fid.nbytes
            piece.numbers = np.frombuffer(content, np.float64, shape[0] * shape[1], start).reshape(shape)
            start += piece.numbers.nbytes
        self._in_memory, self._bytes = [], 0

    def rows(self, index: str, mask: str) -> int:
        """Return the number of rows of an index under a mask, empty ones included."""
        return sum(len(piece.fid) for day in self._pieces.get((index, mask), {}).values() for piece in day)

    def dates(self, index: str, mask: str) -> set[dt.datetime]:
        """Return the dates of the rows of an index under a mask."""
        return {piece.product.sensing for day in self._pieces.get((index, mask), {}).values() for piece in day}

    def values(self, index: str, mask: str, columns: Sequence[str]) -> Iterator[tuple[dt.datetime, Ints, Floats]]:
        """Yield some columns of numbers of an index under a mask, date by date; a date may come several times.

        Parameters
        ----------
        index, mask
            Names.
        columns
            Names of columns of numbers.

        Yields
        ------
        tuple
            The date, (rows,) features in ascending order, and (rows, columns) values, NaN where there is none.
        """
        places = [list(self.layout.numbers).index(name) for name in columns]
        for pieces in self._pieces.get((index, mask), {}).values():
            for piece in pieces:
                yield piece.product.sensing, piece.fid, piece.numbers[:, places]
        for content in self._mapped:
            release(content)

    def tables(self, index: str, mask: str, days: Collection[dt.date] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of an index under a mask by fid, then date, a piece of the layer at a time.

        Parameters
        ----------
        index, mask
            Names.
        days
            The days wanted; None is all.
        """
        by_day = self._pieces.get((index, mask), {})
        chosen = by_day if days is None else [day for day in sorted(days) if day in by_day]
        pieces = [piece for day in chosen for piece in by_day[day]]
        if not pieces:
            return
        origins = Origins.of(pieces)
        last = max(int(piece.fid[-1]) for piece in pieces)
        per_fid = max(1, sum(len(piece.fid) for piece in pieces) // (last + 1))
        step = max(1, self._rows_at_once() // per_fid)
        for edges in _parts(pieces, np.arange(0, last + 1 + step, step)):
            fid, numbers, which = _rows_between(pieces, edges[0], edges[-1])
            for content in self._mapped:  # so that memory does not grow with what has been read
                release(content)
            # Pieces come by date, and a stable sort keeps that; of 16 bits it takes one pass, whatever their number.
            near = fid - edges[0]
            order = np.argsort(near.astype(np.uint16) if edges[-1] - edges[0] <= 1 << 16 else near, kind="stable")
            for start, end in itertools.pairwise(np.searchsorted(fid, edges, sorter=order).tolist()):
                if end > start:
                    rows = order[start:end]
                    yield self.layout.complete(fid[rows], numbers[rows], origins, which[rows])

    def _rows_at_once(self) -> int:
        """Return a number of rows whose attribute texts stay far below 2 GiB, the limit of an Arrow array of texts."""
        attributes = self.layout.attributes
        if not attributes.num_rows:
            return _CHUNK_ROWS
        longest = sum(
            pc.max(pc.binary_length(column)).as_py() or 0
            for column in attributes.columns
            if pa.types.is_string(column.type)
        )
        return min(_CHUNK_ROWS, max(1, _TEXT_BYTES // max(1, longest)))


def _parts(pieces: Sequence[_Piece], edges: Ints) -> Iterator[Ints]:
    """Cut the layer in parts whose rows fit in memory.

    Parameters
    ----------
    pieces
        All rows.
    edges
        Ascending fids at which the layer may be cut, its beginning and its end included.

    Yields
    ------
    numpy.ndarray
        The edges within a part that has rows, its beginning and its end included.
    """
    at_once = max(1, _IN_MEMORY // (pieces[0].fid.itemsize + pieces[0].numbers.strides[0]))
    before = np.zeros(len(edges), np.int64)  # rows before each edge
    for piece in pieces:
        before += np.searchsorted(piece.fid, edges)
    begin = 0
    while before[begin] < before[-1]:
        end = max(begin + 1, int(np.searchsorted(before, before[begin] + at_once, side="right")) - 1)
        if before[end] > before[begin]:
            yield edges[begin : end + 1]
        begin = end


def _rows_between(pieces: Sequence[_Piece], first: int, end: int) -> tuple[Ints, Floats, npt.NDArray[np.intp]]:
    """Copy the rows of the features from `first` to below `end` together; return fids, numbers, and their pieces."""
    cuts = np.array([np.searchsorted(piece.fid, (first, end)) for piece in pieces])
    lengths = cuts[:, 1] - cuts[:, 0]
    slices = [(piece, slice(*cut)) for piece, cut in zip(pieces, cuts.tolist(), strict=True)]
    fid = np.concatenate([piece.fid[rows] for piece, rows in slices])
    numbers = np.concatenate([piece.numbers[rows] for piece, rows in slices])
    return fid, numbers, np.repeat(np.arange(len(pieces)), lengths)
