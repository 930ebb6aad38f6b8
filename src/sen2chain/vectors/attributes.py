"""Attributes of a layer: unique names, and values of the types that all readers and result files share."""

from __future__ import annotations

import contextlib
import json
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.rows import RESERVED_COLUMNS
from sen2chain.vectors.layer import LINE_BREAKS, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Characters that would end a line, or that nobody sees: a header is one line.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Whole numbers and truth values beside a null, which numpy can only hold as floats or objects.
NULLABLE: dict[pa.DataType, Any] = {
    pa.int8(): pd.Int64Dtype(), pa.int16(): pd.Int64Dtype(), pa.int32(): pd.Int64Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.Int64Dtype(), pa.uint16(): pd.Int64Dtype(), pa.uint32(): pd.Int64Dtype(),
    pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype(),
}  # fmt: skip
"""pandas' types of columns that keep a null beside whole numbers and truth values."""

_GEOMETRY = "geometry"  # the column of outlines in the frame of any reader


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert a table to a frame; whole numbers and truth values keep their type in columns with nulls.

    pandas alone makes such whole numbers floats, in which neighbouring 64-bit identifiers are the same number.
    """
    frame: pd.DataFrame = table.to_pandas()
    for position, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        if column.null_count and field.type in NULLABLE:
            frame.isetitem(position, pd.array(column.to_pylist(), dtype=NULLABLE[field.type]))
    return frame


def clean(table: pd.DataFrame, outside: Collection[int] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Clean the values, and give each column a unique name that is not that of a result's column.

    Parameters
    ----------
    table
        Attributes as they were read, any index.
    outside
        Positions of columns that take no part in the layer's identity.

    Returns
    -------
    tuple
        The attributes with a RangeIndex, and the names of the columns of `outside`.
    """
    labels = [_name(label) for label in table.columns]
    originals = {label for position, label in enumerate(labels) if position not in outside}
    columns: dict[str, pd.Series[Any]] = {}
    left_out = []
    # Attributes proper choose first, so that what was carried beside them changes none of their names.
    for position in sorted(range(len(labels)), key=lambda position: position in outside):
        name = labels[position]
        while (name in RESERVED_COLUMNS or name in columns or (name != labels[position] and name in originals)) or (
            position in outside and name == _GEOMETRY
        ):
            name = f"attr_{name}"
        columns[name] = _clean(table.iloc[:, position].reset_index(drop=True))
        if position in outside:
            left_out.append(name)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table))), tuple(left_out)


def _name(label: object) -> str:
    """Name of an attribute on one line; ``attr`` where it is empty."""
    text = _UNSEEN.sub("", str(label)).encode("utf-8", "replace").decode()
    return text if text.strip() else "attr"


def _clean(column: pd.Series[Any]) -> pd.Series[Any]:
    """Keep numbers, truth values and times; dates without a time and other values become text on one line."""
    if isinstance(column.dtype, pd.ArrowDtype):
        column = to_pandas(pa.table({"": pa.array(column)})).iloc[:, 0]
    if isinstance(column.dtype, pd.SparseDtype):
        column = pd.Series(np.asarray(column.array))
    if pd.api.types.is_datetime64_any_dtype(column):
        times = column.dropna()
        if times.dt.tz is not None or not times.eq(times.dt.normalize()).all() or times.empty:
            return column
        column = column.dt.strftime("%Y-%m-%d")
    elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):  # bool included
        return _numbers(column)
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean":
        return _numbers(column.astype("boolean"))
    if kind == "string":  # as `one_line`, all at once
        with contextlib.suppress(UnicodeError):
            texts = pc.replace_substring_regex(pa.array(column, pa.string(), from_pandas=True), LINE_BREAKS, "")
            return pd.Series(texts.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Series([_text(value) for value in column], dtype=object)


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers in numpy's types, or in pandas' nullable ones where numpy's cannot hold a null."""
    if not pd.api.types.is_extension_array_dtype(column.dtype):
        return column.astype(float) if column.dtype == np.longdouble else column  # no file holds those
    if pd.api.types.is_float_dtype(column):
        return pd.Series(column.to_numpy(float, na_value=np.nan))
    if column.isna().any():
        if str(column.dtype) in {"boolean", "UInt64"}:
            return column
        whole: pd.Series[Any] = column.astype("Int64")
        return whole
    return pd.Series(column.to_numpy(column.dtype.numpy_dtype))  # type: ignore[union-attr]  # of numbers they have it


def _text(value: object) -> str | None:
    """Write a value as text on one line: lists and mappings as JSON, decimals with all their digits."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, (list, tuple, set, frozenset, dict, np.ndarray)):
        value = json.dumps(_plain(value), ensure_ascii=False, default=str)
    text = one_line(value)
    # A text may hold half a character (a lone surrogate), which no file can.
    return None if text is None else text.encode("utf-8", "replace").decode()


def _plain(value: object) -> object:
    """Convert a nested value to types that JSON writes in one way, so that all readers give the same text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = list(value)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    return value


def from_json(texts: Sequence[str | None]) -> list[Any]:
    """Parse texts of nested values as JSON; other texts stay as they are."""
    values: list[Any] = []
    for text in texts:
        value: Any = text
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            value = json.loads(text)  # type: ignore[arg-type]  # None is a TypeError
        values.append(value)
    return values
