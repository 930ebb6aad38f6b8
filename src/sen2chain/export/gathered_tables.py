"""Batches of rows, gathered to tables that are large enough to be written at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def gathered_tables(
    batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema | None, rows: int
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return the schema, and the batches joined to tables of at least `rows` rows."""
    stream = iter(batches)
    if schema is None:
        first = next(stream, None)
        if first is None:
            raise ValueError("Without any batch the schema must be given.")
        schema, stream = first.schema, itertools.chain([first], stream)
    return schema, _gathered(stream, schema, rows)


def _gathered(batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    kept: list[pa.Table] = []
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        kept.append(table.select(schema.names).cast(schema))
        if sum(map(len, kept)) >= rows:
            yield pa.concat_tables(kept)
            kept = []
    if kept:
        yield pa.concat_tables(kept)
