"""Tables of rows written to CSV, Parquet, pandas and xarray, each with its provenance.

Rows are passed ready: sorted, with columns in their final order. A file takes its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sen2chain.atomic import replacing, writing
from sen2chain.errors import RequestError
from sen2chain.parallel import closed, in_threads, memory, workers
from sen2chain.vectors import to_pandas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import xarray as xr

    from sen2chain.zonal import Statistics

_ROWS_PER_TEXT = 1 << 15  # keeps the text of one piece far below Arrow's 2 GiB for one array of strings
_ROWS_PER_GROUP = 1 << 18  # row group of a Parquet file: large enough to compress, small enough to stay in memory
_BEYOND_FLOATS = 2**53  # from here on floats are not every whole number
_KEYS = ("index", "mask", "date", "fid")


def write_csv(
    batches: Iterable[pa.RecordBatch | pa.Table],
    path: Path,
    provenance: Mapping[str, Any],
    schema: pa.Schema | None = None,
) -> int:
    r"""Write rows as CSV, and the provenance as JSON beside it under the same stem.

    Comma, ``\n``, header unquoted, text quoted only where RFC 4180 needs it, nulls and NaN empty, floats in
    the shortest form that reads back exactly (``5888``, ``260.1666666666667``), times as ``2021-01-07 06:24:59``.

    Parameters
    ----------
    batches
        Pieces of the table in order; one is held at a time.
    path
        The file to write; replaced as a whole where it exists.
    provenance
        The JSON beside the file, see `sen2chain.provenance`; may hold paths, dates and numpy numbers.
    schema
        Columns and types; needed only where there may be no batch at all. Otherwise that of the first batch.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final names has changed then.
    """
    schema, tables = _tables(batches, schema, _ROWS_PER_TEXT)
    rows = 0
    with replacing(path, beside(path, provenance)) as file:
        with writing(path):
            file.write(csv_header(schema))
        # Numbers become texts in all threads while the next rows are gathered.
        pieces = (piece for table in tables for piece in table.combine_chunks().to_batches(_ROWS_PER_TEXT))
        texts = in_threads(lambda piece: (piece.num_rows, text_of(csv_lines(piece))), pieces, workers())
        with closed(texts):
            for count, lines in texts:
                with writing(path):
                    file.write(lines)
                rows += count
    return rows


def write_parquet(
    batches: Iterable[pa.RecordBatch | pa.Table],
    path: Path,
    provenance: Mapping[str, Any],
    schema: pa.Schema | None = None,
) -> int:
    """Write rows as Parquet (zstd), the provenance in its metadata under ``sen2chain`` and as JSON beside it.

    Parameters, result and errors are those of `write_csv`.
    """
    schema, tables = _tables(batches, schema, _ROWS_PER_GROUP)
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


def to_dataset(
    frames: Mapping[tuple[str, str], pd.DataFrame],
    *,
    geometry: np.ndarray,
    crs: str,
    attributes: pd.DataFrame,
    definitions: Mapping[str, Mapping[str, str]],
    provenance: Mapping[str, Any],
    along: str = "date",
) -> xr.Dataset:
    """Lay rows out as a cube: fid x date, led by index and mask where there are several.

    Parameters
    ----------
    frames
        (index name, mask name) -> rows, with one row per (date, fid); `date` is the index or a column.
    geometry
        Shapely geometries (n,), the position is the fid.
    crs
        CRS of `geometry`.
    attributes
        The layer's attributes (n rows); become coordinates along `fid`.
    definitions
        Column -> its ``long_name``, ``units``, ``description``: attributes of the variable.
    provenance
        Kept as JSON in the dataset's attribute ``sen2chain``.
    along
        The column that becomes the dimension beside `fid`: ``date``, or ``period`` for aggregates.

    Returns
    -------
    xarray.Dataset
        Numbers are NaN and texts empty where there is no row, or no value. A number takes 8 bytes, and so does a text,
        since equal texts are one object.
    """
    import xarray as xr  # noqa: PLC0415  # half a second that few runs need

    tables = {key: frame if along in frame else frame.reset_index() for key, frame in frames.items()}
    steps = pd.Index(sorted(set().union(*(table[along] for table in tables.values()))))
    steps = pd.DatetimeIndex(steps) if along == "date" else steps
    indices, masks = (pd.Index(dict.fromkeys(names)) for names in zip(*tables, strict=True))
    shape = (len(indices), len(masks), len(geometry), len(steps))
    left_out = {*_KEYS, along, *attributes.columns}
    cubes: dict[str, np.ndarray] = {}
    for (index, mask), table in tables.items():
        step = steps.get_indexer(pd.Index(table[along]))
        cell = (indices.get_loc(index), masks.get_loc(mask), table["fid"].to_numpy(), step)
        _fill(cubes, shape, cell, {name: table[name] for name in table.columns if name not in left_out})

    taken = {*_KEYS, along, *cubes, "geometry"}
    coordinates = {
        f"attr_{name}" if name in taken else name: ("fid", _values(column)) for name, column in attributes.items()
    }
    return xr.Dataset(
        {
            # With fastpath, since otherwise xarray may make a text of its own for each cell.
            name: xr.Variable(("index", "mask", "fid", along), cube, dict(definitions.get(name, {})), fastpath=True)
            for name, cube in cubes.items()
        },
        coords={
            "index": indices.to_numpy(object),
            "mask": masks.to_numpy(object),
            "fid": np.arange(len(geometry)),
            along: steps.to_numpy() if along == "date" else steps.to_numpy(object),
            "geometry": ("fid", geometry, {"crs": crs}),
            **coordinates,
        },
        attrs={"sen2chain": to_json(provenance)},
    ).squeeze([name for name, names in (("index", indices), ("mask", masks)) if len(names) == 1])


def _fill(
    cubes: dict[str, np.ndarray], shape: tuple[int, ...], cell: tuple[Any, ...], columns: Mapping[str, pd.Series[Any]]
) -> None:
    """Write columns of rows into their cubes, which are made where they are missing.

    Parameters
    ----------
    cubes
        Column -> cube.
    shape
        Shape of a cube.
    cell
        Position of each row in a cube, one number or array for each dimension.
    columns
        Column -> its values, one for each row.
    """
    for name, column in columns.items():
        number = pd.api.types.is_numeric_dtype(column)
        if name not in cubes:
            cubes[name] = np.full(shape, np.nan) if number else np.full(shape, "", dtype=object)
        cubes[name][cell] = column.to_numpy(float, na_value=np.nan) if number else _shared(column)


def to_frame(tables: Sequence[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """Join tables of rows into one frame, indexed by their column `date`.

    Parameters
    ----------
    tables
        Rows in their final order.
    schema
        The columns, for the case that there is no table.
    """
    frame: pd.DataFrame = to_pandas(pa.concat_tables(tables) if tables else schema.empty_table())
    return frame.set_index("date")


def column_definitions(statistics: Statistics, *, in_index_units: bool) -> dict[str, dict[str, str]]:
    """Return the long name and the unit of each column of numbers, as xarray's attributes.

    Parameters
    ----------
    statistics
        The columns of statistics.
    in_index_units
        Whether values are in index units (0.72), not times 10000.
    """
    definitions = {}
    for column in ("count", "nodata", "nbcld", "cldprb", *statistics.columns):
        power = statistics.power(column) if column != "cldprb" else 0
        units = "percent" if column == "cldprb" else "1" if in_index_units or not power else f"1e{-4 * power}"
        definitions[column] = {"long_name": statistics.define(column), "units": units}
    return definitions


def check_cube(*, features: int, steps: int, outputs: int, columns: int, instead: str) -> None:
    """Refuse a cube that needs more than half of the memory; the other half is for its rows and for work with it.

    Parameters
    ----------
    features, steps, outputs
        Its size: features, dates or periods, and indices times masks.
    columns
        Variables with a value for each cell, of 8 bytes each.
    instead
        The call that the message suggests instead.

    Raises
    ------
    RequestError
        If it is too large.
    """
    needed, available = features * steps * outputs * columns * 8, memory()
    if available is not None and needed > available / 2:
        raise RequestError(
            f"A cube of {features:,} features x {steps:,} dates x {outputs} outputs x {columns} columns takes "
            f"{needed / 2**30:,.1f} GiB, more than half of this machine's memory ({available / 2**30:,.1f} GiB); use "
            f"{instead}, or ask for fewer dates, indices or statistics."
        )


def _shared(column: pd.Series[Any]) -> np.ndarray:
    """Return texts as objects, "" where missing; equal texts share one object, so that a cell costs a pointer."""
    codes, texts = pd.factorize(column)
    return np.append(np.asarray(texts, dtype=object), "")[codes]  # the code of a missing one is -1, the last


def _values(column: pd.Series[Any]) -> np.ndarray:
    if pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column):
        # Beside a null: numbers where a float holds each of them, else texts, to the last digit of an identifier.
        numbers = column.to_numpy(float, na_value=np.nan)
        exact = not (np.abs(numbers) >= _BEYOND_FLOATS).any()
        return numbers if exact else np.array(["" if pd.isna(value) else str(value) for value in column], dtype=object)
    plain = pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_dtype(column)
    return column.to_numpy() if plain else column.to_numpy(object, na_value="")


def _tables(
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


def csv_header(schema: pa.Schema) -> bytes:
    """Return the first line of a CSV file of these columns."""
    return (",".join(_quoted(pa.array(schema.names, pa.string())).to_pylist()) + "\n").encode()


def csv_lines(batch: pa.RecordBatch) -> pa.StringArray:
    """Return each row as a line of a CSV file, with its line end.

    pyarrow's own CSV writer quotes every text or none; joining the columns as texts is as fast.
    """
    lines = pc.binary_join_element_wise(
        *map(_csv_text, batch.columns), ",", null_handling="replace", null_replacement=""
    )
    return pc.binary_join_element_wise(lines, "\n", "")


def text_of(lines: pa.StringArray) -> memoryview:
    """Return the bytes of consecutive lines, without a copy."""
    if not len(lines):
        return memoryview(b"")
    ends = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset :][: len(lines) + 1]
    return memoryview(lines.buffers()[2])[ends[0] : ends[-1]]


def _csv_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _csv_text(column.dictionary_decode())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), column.cast(pa.string()))
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    if pa.types.is_timestamp(kind):
        with contextlib.suppress(pa.ArrowInvalid):  # an attribute with fractions of a second keeps them
            column = column.cast(pa.timestamp("s", kind.tz))
        return column.cast(pa.string())
    if pa.types.is_integer(kind):
        return column.cast(pa.string())
    return _quoted(column.cast(pa.string()))


def _quoted(column: pa.Array) -> pa.Array:
    encoded = column.dictionary_encode()  # most texts repeat: each is looked at once
    texts = encoded.dictionary
    special = pc.match_substring_regex(texts, '[",\r\n]')
    if not pc.any(special).as_py():
        return column
    inside = pc.replace_substring(texts, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', inside, '"', ""), texts).take(encoded.indices)


def beside(path: Path, provenance: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the JSON that goes beside a result, for `sen2chain.atomic.replacing`."""
    return {path.with_suffix(".json"): to_json(provenance).encode()}


def to_json(provenance: Mapping[str, Any]) -> str:
    """Write a provenance as JSON."""
    text = json.dumps(provenance, indent=2, ensure_ascii=False, default=_plain) + "\n"
    # A path that is not UTF-8 has code points that only JSON's own escapes can hold.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: object) -> object:
    """Return the JSON form of a value of a type that `json` does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return str(value)  # paths, dates, versions
