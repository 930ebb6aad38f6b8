"""Rows on disk.

`Spool` holds the rows of one run: small ones in memory, large ones in temporary files, so that memory does not grow
with the number of dates. Rows go in by date and come out by feature.
"""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sen2chain.cache import release
from sen2chain.errors import OutputError
from sen2chain.records import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator

    import pandas as pd

    from sen2chain.records import Batch

# Rows of a run go to temporary files, this many bytes at a time.
_IN_MEMORY = 64 << 20
_CHUNK_ROWS = 1 << 16
_COUNTS = ("count", "nodata", "nbcld")
_REASONS = np.array([*(reason.value for reason in Reason), ""], dtype=object)  # -1, the last, is a row with values


@dataclass(frozen=True, slots=True, eq=False)
class RowFormat:
    """Which columns rows have, in which order, as which types."""

    columns: tuple[str, ...]
    """Columns of statistics after ``cldprb``, in order."""
    attributes: pa.Table
    """Attributes of the layer by fid, the last columns."""
    with_mask: bool = False
    """Whether rows carry the name of their mask."""
    with_reason: bool = False
    """Whether rows carry the reason why they are empty."""
    whole_counts: bool = True
    """Whether counts are whole numbers."""
    with_completeness: bool = False
    """Whether the share of pixels that were seen, clouds included, follows the statistics."""

    @property
    def numbers(self) -> dict[str, pa.DataType]:
        """Columns of numbers with their types."""
        counts = pa.int64() if self.whole_counts else pa.float64()
        return dict.fromkeys(_COUNTS, counts) | dict.fromkeys(("cldprb", *self.columns), pa.float64())

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        head = [("date", pa.timestamp("s")), ("fid", pa.int64()), ("tile", pa.string()), ("filename", pa.string())]
        if self.with_mask:
            head.append(("mask", pa.string()))
        tail = [("completeness", pa.float64())] if self.with_completeness else []
        if self.with_reason:
            tail.append(("reason", pa.string()))
        return pa.schema([*head, *self.numbers.items(), *tail, *self.attributes.schema])

    def numbers_of(self, batch: Batch) -> pa.RecordBatch:
        """Return what differs between the rows of a batch."""
        arrays = {"fid": pa.array(batch.columns["fid"], pa.int64())}
        for name, kind in self.numbers.items():
            arrays[name] = pa.array(batch.columns[name], kind, from_pandas=True, safe=False)
        if self.with_reason:
            arrays["reason"] = pa.array(batch.columns["reason"], pa.int8())
        return pa.RecordBatch.from_pydict(arrays)

    def rows_of(self, batch: Batch) -> pa.Table:
        """Return the rows of a batch."""
        numbers = self.numbers_of(batch)
        table = self.complete(numbers, batch.product.sensing, batch.product.tile, batch.filename, batch.mask)
        return self.with_attributes(table)

    def complete(
        self, numbers: pa.RecordBatch, date: dt.datetime, tile: str, filename: str, mask: str = ""
    ) -> pa.Table:
        """Add what is the same for all rows of a batch; attributes are still missing."""
        n = numbers.num_rows

        def constant(value: object, kind: pa.DataType) -> pa.Array:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value], kind)).cast(kind)

        columns = {
            "date": pa.repeat(pa.scalar(date, pa.timestamp("s")), n),
            "fid": numbers.column("fid"),
            "tile": constant(tile, pa.string()),
            "filename": constant(filename, pa.string()),
        }
        if self.with_mask:
            columns["mask"] = constant(mask, pa.string())
        columns |= {name: numbers.column(name) for name in self.numbers}
        if self.with_completeness:
            columns["completeness"] = pa.array(_completeness(numbers), from_pandas=True)
        if self.with_reason:
            columns["reason"] = pa.array(_REASONS[numbers.column("reason").to_numpy()], pa.string())
        return pa.table(columns)

    def with_attributes(self, table: pa.Table) -> pa.Table:
        """Add the attributes of each row's feature, and bring the columns into their types."""
        fid = table.column("fid")
        for name in self.attributes.schema.names:
            table = table.append_column(self.attributes.schema.field(name), self.attributes.column(name).take(fid))
        return table.cast(self.schema)


def _completeness(numbers: pa.RecordBatch) -> np.ndarray:
    count, nodata, clouds = (numbers.column(name).to_numpy().astype(np.float64) for name in _COUNTS)
    whole = count + nodata
    unseen: np.ndarray = np.divide(nodata - clouds, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return 1 - unseen


def attribute_table(attributes: pd.DataFrame) -> pa.Table:
    """Return the attributes of a layer as columns of rows."""
    return pa.Table.from_pandas(attributes, preserve_index=False).replace_schema_metadata(None)


@dataclass(slots=True, eq=False)
class _Piece:
    """Rows of one batch, ascending by fid."""

    date: dt.datetime
    tile: str
    filename: str
    rows: pa.RecordBatch


class Spool:
    """Rows of one run.

    Parameters
    ----------
    layout
        The columns of the rows as they come out.
    """

    def __init__(self, layout: RowFormat) -> None:
        self._format = layout
        self._pieces: dict[tuple[str, str], list[_Piece]] = {}
        self._in_memory: list[_Piece] = []
        self._bytes = 0
        self._mapped: list[mmap.mmap] = []

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows as they come out."""
        return self._format.schema

    def add(self, batch: Batch) -> None:
        """Take the rows of a batch; batches of one index and mask come by date."""
        if not len(batch.columns["fid"]):
            return
        rows = self._format.numbers_of(batch)
        piece = _Piece(batch.product.sensing, batch.product.tile, batch.filename, rows)
        self._pieces.setdefault((batch.index, batch.mask), []).append(piece)
        self._in_memory.append(piece)
        self._bytes += rows.nbytes
        if self._bytes > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        """Move the rows that are in memory to one temporary file, and map them from there."""
        try:
            # The file has no name (where the system can do that), so that not even a killed run leaves one behind.
            with tempfile.TemporaryFile(prefix="sen2chain-rows-") as file:
                with pa.ipc.new_file(file, self._in_memory[0].rows.schema) as writer:
                    for piece in self._in_memory:
                        writer.write_batch(piece.rows)
                file.flush()
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped = pa.ipc.open_file(pa.py_buffer(content))
            self._mapped.append(content)
        except OSError as error:
            raise OutputError(
                f"The rows of this run do not fit in {tempfile.gettempdir()} ({error.strerror}); "
                "set TMPDIR to a larger folder."
            ) from error
        for i, piece in enumerate(self._in_memory):
            piece.rows = mapped.get_batch(i)
        self._in_memory, self._bytes = [], 0

    def rows(self, index: str, mask: str) -> int:
        """Return the number of rows of an index under a mask, empty ones included."""
        return sum(piece.rows.num_rows for piece in self._pieces.get((index, mask), ()))

    def tables(self, index: str, mask: str, days: Collection[dt.date] | None = None) -> Iterator[pa.Table]:
        """Give the rows of an index under a mask by fid, then date, a piece of the layer at a time.

        Parameters
        ----------
        index, mask
            Names.
        days
            The days wanted; None is all.
        """
        pieces = [p for p in self._pieces.get((index, mask), []) if days is None or p.date.date() in days]
        if not pieces:
            return
        fids = [piece.rows.column("fid").to_numpy() for piece in pieces]
        last = max(int(f[-1]) for f in fids)
        per_fid = max(1, sum(map(len, fids)) // (last + 1))
        step = max(1, _CHUNK_ROWS // per_fid)
        for low in range(0, last + 1, step):
            cuts = [np.searchsorted(f, (low, low + step)) for f in fids]
            chosen = [
                self._format.complete(piece.rows.slice(a, b - a), piece.date, piece.tile, piece.filename, mask)
                for piece, (a, b) in zip(pieces, cuts, strict=True)
                if b > a
            ]
            if not chosen:
                continue
            table = pa.concat_tables(chosen)
            order = np.argsort(table.column("fid").to_numpy(), kind="stable")  # pieces come by date
            table = table.take(pa.array(order))
            yield self._format.with_attributes(table)
            for content in self._mapped:  # so that memory does not grow with what has been passed on
                release(content)
