"""Rows on disk.

`Spool` holds the rows of one run: small ones in memory, large ones in temporary files, so that memory does not grow
with the number of dates. Rows go in by date and come out by feature.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sen2chain.cache import release
from sen2chain.errors import OutputError
from sen2chain.records import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from sen2chain.records import Batch

# Rows of a run go to temporary files, this many bytes at a time.
_IN_MEMORY = 64 << 20
_CHUNK_ROWS = 1 << 16
_REASONS = np.array([*(reason.value for reason in Reason), ""], dtype=object)  # -1, the last, is a row with values


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
    columns
        Columns of statistics after ``cldprb``, in order.
    attributes
        Attributes of the layer by fid, which are joined when rows come out.
    with_mask, with_reason
        Whether rows carry the name of their mask, and the reason why they are empty.
    whole_counts
        Whether counts are whole numbers.
    """

    def __init__(
        self,
        columns: Sequence[str],
        attributes: pd.DataFrame,
        *,
        with_mask: bool = False,
        with_reason: bool = False,
        whole_counts: bool = True,
    ) -> None:
        self._columns = tuple(columns)
        self._attributes = pa.Table.from_pandas(attributes, preserve_index=False).replace_schema_metadata(None)
        self._with_mask, self._with_reason = with_mask, with_reason
        self._count_type = pa.int64() if whole_counts else pa.float64()
        self._pieces: dict[tuple[str, str], list[_Piece]] = {}
        self._in_memory: list[_Piece] = []
        self._bytes = 0
        self._files = 0
        self._folder: Path | None = None
        self._mapped: list[mmap.mmap] = []

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows as they come out."""
        head = [("date", pa.timestamp("s")), ("fid", pa.int64()), ("tile", pa.string()), ("filename", pa.string())]
        if self._with_mask:
            head.append(("mask", pa.string()))
        numbers = [(name, self._count_type) for name in ("count", "nodata", "nbcld")]
        numbers += [(name, pa.float64()) for name in ("cldprb", *self._columns)]
        if self._with_reason:
            numbers.append(("reason", pa.string()))
        return pa.schema([*head, *numbers, *self._attributes.schema])

    def add(self, batch: Batch) -> None:
        """Take the rows of a batch; batches of one index and mask come by date."""
        if not len(batch.columns["fid"]):
            return
        numbers = {}
        for name in ("count", "nodata", "nbcld", "cldprb", *self._columns):
            kind = self._count_type if name in {"count", "nodata", "nbcld"} else pa.float64()
            numbers[name] = pa.array(batch.columns[name], kind, from_pandas=True, safe=False)
        if self._with_reason:
            numbers["reason"] = pa.array(batch.columns["reason"], pa.int8())
        rows = pa.RecordBatch.from_pydict({"fid": pa.array(batch.columns["fid"], pa.int64()), **numbers})
        piece = _Piece(batch.product.sensing, batch.product.tile, batch.filename, rows)
        self._pieces.setdefault((batch.index, batch.mask), []).append(piece)
        self._in_memory.append(piece)
        self._bytes += rows.nbytes
        if self._bytes > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        """Move the rows that are in memory to one temporary file, and map them from there."""
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sen2chain-rows-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / f"{self._files}.arrow"
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self._in_memory[0].rows.schema) as writer:
                for piece in self._in_memory:
                    writer.write_batch(piece.rows)
            with path.open("rb") as stream:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            mapped = pa.ipc.open_file(pa.py_buffer(content))
            self._mapped.append(content)
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise OutputError(
                f"The rows of this run do not fit in {where} ({error.strerror}); set TMPDIR to a larger folder."
            ) from error
        for i, piece in enumerate(self._in_memory):
            piece.rows = mapped.get_batch(i)
        self._files += 1
        self._in_memory, self._bytes = [], 0

    def rows(self, index: str, mask: str) -> int:
        """Return the number of rows of an index under a mask, empty ones included."""
        return sum(piece.rows.num_rows for piece in self._pieces.get((index, mask), ()))

    def tables(self, index: str, mask: str) -> Iterator[pa.Table]:
        """Give the rows of an index under a mask by fid, then date, a piece of the layer at a time."""
        pieces = self._pieces.get((index, mask), [])
        if not pieces:
            return
        fids = [piece.rows.column("fid").to_numpy() for piece in pieces]
        last = max(int(f[-1]) for f in fids)
        per_fid = max(1, sum(map(len, fids)) // (last + 1))
        step = max(1, _CHUNK_ROWS // per_fid)
        for low in range(0, last + 1, step):
            cuts = [np.searchsorted(f, (low, low + step)) for f in fids]
            chosen = [
                self._finished(piece, piece.rows.slice(a, b - a), mask)
                for piece, (a, b) in zip(pieces, cuts, strict=True)
                if b > a
            ]
            if not chosen:
                continue
            table = pa.concat_tables(chosen)
            order = np.argsort(table.column("fid").to_numpy(), kind="stable")  # pieces come by date
            table = table.take(pa.array(order))
            fid = table.column("fid")
            for name in self._attributes.schema.names:
                table = table.append_column(
                    self._attributes.schema.field(name), self._attributes.column(name).take(fid)
                )
            yield table.cast(self.schema)
            for content in self._mapped:  # so that memory does not grow with what has been passed on
                release(content)

    def _finished(self, piece: _Piece, rows: pa.RecordBatch, mask: str) -> pa.Table:
        """Add to rows what is the same for all of a batch."""
        n = rows.num_rows

        def constant(value: object, kind: pa.DataType) -> pa.Array:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value], kind)).cast(kind)

        columns = {
            "date": pa.repeat(pa.scalar(piece.date, pa.timestamp("s")), n),
            "fid": rows.column("fid"),
            "tile": constant(piece.tile, pa.string()),
            "filename": constant(piece.filename, pa.string()),
        }
        if self._with_mask:
            columns["mask"] = constant(mask, pa.string())
        columns |= {name: rows.column(name) for name in ("count", "nodata", "nbcld", "cldprb", *self._columns)}
        if self._with_reason:
            columns["reason"] = pa.array(_REASONS[rows.column("reason").to_numpy()], pa.string())
        return pa.table(columns)
