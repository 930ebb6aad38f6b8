"""Tables of rows written as Parquet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from sen2chain.atomic import replacing, writing
from sen2chain.export.gathered_tables import gathered_tables
from sen2chain.export.provenance_json import beside, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pyarrow as pa

_ROWS_PER_GROUP = 1 << 18  # row group of a Parquet file: large enough to compress, small enough to stay in memory


def write_parquet(
    batches: Iterable[pa.RecordBatch | pa.Table],
    path: Path,
    provenance: Mapping[str, Any],
    schema: pa.Schema | None = None,
) -> int:
    """Write rows as Parquet (zstd), the provenance in its metadata under ``sen2chain`` and as JSON beside it.

    Parameters, result and errors are those of `write_csv`.
    """
    schema, tables = gathered_tables(batches, schema, _ROWS_PER_GROUP)
    schema = schema.with_metadata({**(schema.metadata or {}), b"sen2chain": to_json(provenance).encode()})
    rows = 0
    with replacing(path, beside(path, provenance)) as file:
        with writing(path):
            writer = pq.ParquetWriter(file, schema, compression="zstd")
        try:
            for table in tables:
                with writing(path):
                    writer.write_table(table.cast(schema), row_group_size=_ROWS_PER_GROUP)
                rows += table.num_rows
            with writing(path):
                writer.close()
        finally:
            # After a failed write the footer cannot be written either.
            with contextlib.suppress(OSError):
                writer.close()
    return rows
