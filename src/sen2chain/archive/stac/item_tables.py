"""Tables of items in GeoParquet (the stac-geoparquet specification 1.x): read in part, and written.

Reading opens only the row groups whose statistics meet the boxes and times asked for, looks at place and time there,
and decodes the other columns of a batch only where it has a row to give. Writing needs pyarrow alone, too.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from sen2chain import atomic
from sen2chain.archive.stac.search_boxes import meets
from sen2chain.archive.stac.stac_items import box_of, mapping_of, text_of, time_from, time_of
from sen2chain.errors import OutputError, UnreadableError
from sen2chain.remote import is_remote, open_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from sen2chain.archive.stac.search_boxes import Box
    from sen2chain.archive.stac.stac_items import Item
    from sen2chain.remote import Access, RemoteFile

    Span = tuple[dt.datetime | None, dt.datetime | None]

_TOP = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "links", "assets")
_BATCH = 1000  # items decoded at once
_DEEPEST = 20  # levels of a column; deeper values are written as JSON
_KEY = b"sen2chain"  # of the file's metadata: what was searched for
_TIMES = frozenset({"datetime", "start_datetime", "end_datetime", "created", "updated", "published", "expires"})


class ItemTable:
    """A stac-geoparquet file that is open; use it as a context manager.

    Parameters
    ----------
    location
        Path or address.
    access
        How addresses are fetched.

    Raises
    ------
    UnreadableError
        If it is missing or not a Parquet file of items.
    """

    def __init__(self, location: str, access: Access) -> None:
        self._location = location
        try:
            self._opened: Any = _AsFile(open_remote(location, access)) if is_remote(location) else open(location, "rb")  # noqa: SIM115, PTH123  # closed by `close`
        except OSError as error:
            raise UnreadableError(f"{location} cannot be read ({error.strerror or error}).") from None
        try:
            self._file = pq.ParquetFile(self._opened)
        except (pa.ArrowException, OSError, ValueError) as error:
            self._opened.close()
            raise self._unreadable(error) from None
        except BaseException:
            self._opened.close()
            raise
        self._schema: pa.Schema = self._file.schema_arrow
        lacking = [name for name in ("id", "assets") if name not in self._schema.names]
        if lacking:
            self.close()
            raise UnreadableError(
                f"{location} is not a table of STAC items (stac-geoparquet): it has no column {' or '.join(lacking)}."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._opened.close()

    @property
    def record(self) -> dict[str, Any]:
        """What was searched for when the file was written; empty where another program wrote it."""
        kept = (self._schema.metadata or {}).get(_KEY)
        try:
            found = json.loads(kept) if kept else {}
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def items(
        self, boxes: Sequence[Box] | None = None, span: Span = (None, None), collection: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the items that meet the boxes and times, in the order of the file.

        Items without a place or a time count as meeting.

        Raises
        ------
        UnreadableError
            If the file is damaged.
        """
        try:
            for group in range(self._file.num_row_groups):
                if not self._may_have(group, boxes, span):
                    continue
                wanted = self._wanted(group, boxes, span, collection)
                yield from self._rows(group, wanted)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self._unreadable(error) from None

    def collections(self) -> set[str]:
        """Return the ids of the collections of all items.

        Raises
        ------
        UnreadableError
            If the file is damaged.
        """
        if "collection" not in self._schema.names:
            return set()
        try:
            column = self._file.read(columns=["collection"])["collection"].cast(pa.string())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from None
        return {text_of(name) for name in pc.unique(column).to_pylist()} - {""}

    # ---------------------------------------------------------------------------------------------------------- inside

    def _may_have(self, group: int, boxes: Sequence[Box] | None, span: Span) -> bool:
        """Tell from the statistics of a row group whether it may have an item that meets."""
        facts = self._file.metadata.row_group(group)
        limits: dict[str, tuple[Any, Any]] = {}
        for column in range(facts.num_columns):
            chunk = facts.column(column)
            path = chunk.path_in_schema
            if path.startswith("bbox.") or path == "datetime":
                statistics = chunk.statistics
                if statistics is not None and statistics.has_min_max and not statistics.null_count:
                    limits[path] = statistics.min, statistics.max
        first, last = span
        low, high = limits.get("datetime", (None, None))
        if isinstance(low, dt.datetime) and isinstance(high, dt.datetime):
            if first is not None and _utc(high) < first:
                return False
            if last is not None and _utc(low) > last:
                return False
        edges = [limits.get(f"bbox.{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        if boxes is None or None in edges:
            return True
        (west, farthest_west), (south, _), (nearest_east, east), (_, north) = (edge for edge in edges if edge)
        if farthest_west > nearest_east:  # some item may cross 180 degrees
            west, east = -180.0, 180.0
        return meets((west, south, east, north), boxes)

    def _wanted(
        self, group: int, boxes: Sequence[Box] | None, span: Span, collection: str | None
    ) -> npt.NDArray[np.bool_]:
        """Return which rows of a row group meet, from the small columns alone."""
        names = [name for name in ("bbox", "datetime", "collection") if name in self._schema.names]
        count = self._file.metadata.row_group(group).num_rows
        if not names:
            return np.ones(count, dtype=np.bool_)
        table = self._file.read_row_group(group, columns=names)
        wanted = np.ones(count, dtype=np.bool_)
        if collection is not None and "collection" in names:
            wanted &= _equal(table["collection"], collection)
        if "datetime" in names and pa.types.is_timestamp(table["datetime"].type) and span != (None, None):
            wanted &= _within(table["datetime"], span)
        if boxes is not None and "bbox" in names and pa.types.is_struct(table["bbox"].type):
            wanted &= _meeting(table["bbox"], boxes)
        return wanted

    def _rows(self, group: int, wanted: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
        if not wanted.any():
            return
        start = 0
        for batch in self._file.iter_batches(_BATCH, row_groups=[group]):
            chosen = np.flatnonzero(wanted[start : start + batch.num_rows])
            start += batch.num_rows
            if len(chosen):
                for row in batch.take(pa.array(chosen)).to_pylist():
                    yield _item(row)

    def _unreadable(self, error: Exception) -> UnreadableError:
        if isinstance(error, UnreadableError):
            return error
        return UnreadableError(
            f"{self._location} cannot be read as a Parquet file of STAC items: it is damaged or of another kind."
        )


class _AsFile(io.RawIOBase):
    """A remote file as pyarrow reads one."""

    def __init__(self, remote: RemoteFile) -> None:
        self._remote, self._position = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self._remote.size if base is None else base)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(self._remote.size - self._position, 0)
        content = self._remote.read(self._position, size)
        self._position += len(content)
        return content

    def close(self) -> None:
        if not self.closed:
            self._remote.close()
        super().close()


# ------------------------------------------------------------------------------------------------------------- reading


def _utc(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _equal(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(column.cast(pa.string()), text), fill_value=True).to_numpy()
    return found


def _within(column: pa.ChunkedArray, span: Span) -> npt.NDArray[np.bool_]:
    wanted = np.ones(len(column), dtype=np.bool_)
    kind = column.type
    for limit, compare in zip(span, (pc.greater_equal, pc.less_equal), strict=True):
        if limit is not None:
            edge = pa.scalar(limit if kind.tz else limit.replace(tzinfo=None), pa.timestamp("us", kind.tz)).cast(kind)
            wanted &= pc.fill_null(compare(column, edge), fill_value=True).to_numpy()
    return wanted


def _meeting(column: pa.ChunkedArray, boxes: Sequence[Box]) -> npt.NDArray[np.bool_]:
    names = [column.type.field(n).name for n in range(column.type.num_fields)]
    if not {"xmin", "ymin", "xmax", "ymax"} <= set(names):
        return np.ones(len(column), dtype=np.bool_)
    flat = column.combine_chunks()
    west, south, east, north = (
        pc.struct_field(flat, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name in ("xmin", "ymin", "xmax", "ymax")
    )
    wanted: npt.NDArray[np.bool_] = np.any(~np.isfinite([west, south, east, north]), axis=0)  # of no known place
    crosses = west > east
    for left, bottom, right, top in boxes:
        across = np.where(crosses, (west <= right) | (east >= left), (west <= right) & (east >= left))
        wanted |= across & (south <= top) & (north >= bottom)
    return wanted


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as an item in the form of JSON."""
    properties: dict[str, Any] = {}
    item: dict[str, Any] = {"type": "Feature", "properties": properties}
    for name, value in row.items():
        if value is None:
            continue
        if name == "geometry":
            item["geometry"] = _geometry(value)
        elif name == "bbox":
            item["bbox"] = _box(value)
        elif name in {"assets", "links", "stac_extensions"}:
            item[name] = _plain(_parsed(value))
        elif name in _TOP:
            item[name] = value
        elif name == "properties" and (isinstance(value, dict) or isinstance(_parsed(value), dict)):
            properties.update(_plain(_parsed(value)))
        else:
            properties[name] = _plain(_parsed(value))
    return item


def _parsed(value: Any) -> Any:
    """Return the JSON value of a text that holds an object or a list; other values as they are."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it, without members that are null."""
    if isinstance(value, dict):
        return {key: plain for key, inner in value.items() if (plain := _plain(inner)) is not None}
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):  # a map
            return {str(key): plain for key, inner in value if (plain := _plain(inner)) is not None}
        return [_plain(inner) for inner in value]
    if isinstance(value, dt.datetime):
        return _utc(value).astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes | dt.date | dt.time | dt.timedelta):
        return str(value)
    return value


def _box(value: Any) -> list[Any]:
    if isinstance(value, dict):
        names = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
        return [value[name] for name in names if value.get(name) is not None]
    return value if isinstance(value, list) else []


def _geometry(value: Any) -> Any:
    """Return a geometry in WKB as GeoJSON; None where it is not one."""
    if isinstance(value, str):
        return _parsed(value)
    if not isinstance(value, bytes):
        return value if isinstance(value, dict) else None
    with np.errstate(all="ignore"):
        shape = shapely.from_wkb(value, on_invalid="ignore")
        if shape is None or shape.is_empty:
            return None
        found: dict[str, Any] = json.loads(shapely.to_geojson(shape))
    return found


# ------------------------------------------------------------------------------------------------------------- writing


def write_items(items: Sequence[Item], path: Path, record: Mapping[str, Any]) -> None:
    """Write items as stac-geoparquet, as a whole or not at all.

    Parameters
    ----------
    items
        The items; they are written in the order of time, then of id.
    path
        The file, which is replaced.
    record
        What was searched for; it is kept in the metadata of the file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    ordered = sorted(items, key=lambda item: (time_of(item) or dt.datetime.min.replace(tzinfo=dt.UTC), str(item["id"])))
    try:
        table = _table(ordered)
    except (pa.ArrowException, RecursionError, OverflowError, UnicodeError) as error:
        raise OutputError(f"The items cannot be written to {path}: {str(error).splitlines()[0]}.") from None
    metadata = {**_metadata(ordered), _KEY: json.dumps(record).encode()}
    with atomic.replacing(path) as file:
        pq.write_table(
            table.replace_schema_metadata(metadata), file, compression="zstd", row_group_size=10_000, version="2.6"
        )


def _metadata(items: Sequence[Item]) -> dict[bytes, bytes]:
    kinds = sorted({text_of(mapping_of(item.get("geometry")).get("type")) for item in items} - {""})
    column = {
        "encoding": "WKB",
        "geometry_types": kinds,
        "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return {b"geo": json.dumps(geo).encode(), b"stac-geoparquet": json.dumps({"version": "1.0.0"}).encode()}


def _table(items: Sequence[Item]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "type": pa.array(["Feature"] * len(items), pa.string()),
        "stac_version": pa.array([text_of(item.get("stac_version")) or "1.0.0" for item in items], pa.string()),
        "stac_extensions": pa.array([_texts(item.get("stac_extensions")) for item in items], pa.list_(pa.string())),
        "id": pa.array([str(item["id"]) for item in items], pa.string()),
        "collection": pa.array([text_of(item.get("collection")) or None for item in items], pa.string()),
        "geometry": pa.array([_wkb(item) for item in items], pa.binary()),
        "bbox": _boxes(items),
        "links": _values([item.get("links") for item in items]),
        "assets": _values([item.get("assets") for item in items]),
    }
    properties = [mapping_of(item.get("properties")) for item in items]
    for name in sorted({name for one in properties for name in one} - set(_TOP)):
        values = [one.get(name) for one in properties]
        columns[name] = _times(values) if name in _TIMES else _values(values)
    if pa.types.is_null(columns["assets"].type):
        columns["assets"] = columns["assets"].cast(pa.string())
    return pa.table({name: column for name, column in columns.items() if not pa.types.is_null(column.type)})


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _times(values: Sequence[Any]) -> pa.Array:
    """Return times as timestamps; as texts where one of them is not a time."""
    times = [None if value is None else time_from(text_of(value)) for value in values]
    if any(time is None and value is not None for time, value in zip(times, values, strict=True)):
        return _values(values)
    return pa.array(times, pa.timestamp("us", "UTC"))


def _values(values: Sequence[Any]) -> pa.Array:
    """Return JSON values as a column: by their type, or as texts of JSON where they are of several types."""
    bare = [_without_empty(value) for value in values]
    try:
        if all(_depth(value) <= _DEEPEST for value in bare):
            return pa.array(bare)
    except (pa.ArrowException, OverflowError, TypeError):
        pass
    return pa.array([None if value is None else json.dumps(value) for value in bare], pa.string())


def _depth(value: Any) -> int:
    """Return how many objects and lists lie in each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _without_empty(value: Any) -> Any:
    """Return a JSON value without empty objects, which Parquet cannot hold, and without nulls in objects."""
    if isinstance(value, dict):
        return {key: inner for key, one in value.items() if (inner := _without_empty(one)) is not None} or None
    if isinstance(value, list):
        return [_without_empty(one) for one in value]
    return value


def _wkb(item: Item) -> bytes | None:
    geometry = item.get("geometry")
    if not isinstance(geometry, dict):
        return None
    try:
        with np.errstate(all="ignore"):  # numbers that are too large
            shape = shapely.from_geojson(json.dumps(geometry), on_invalid="ignore")
    except (ValueError, RecursionError, TypeError):
        return None
    found: bytes | None = None if shape is None else shapely.to_wkb(shape)
    return found


def _boxes(items: Sequence[Item]) -> pa.Array:
    names = ("xmin", "ymin", "xmax", "ymax")
    rows = [None if (box := box_of(item)) is None else dict(zip(names, box, strict=True)) for item in items]
    return pa.array(rows, pa.struct([(name, pa.float64()) for name in names]))
