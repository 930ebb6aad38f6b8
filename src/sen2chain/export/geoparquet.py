"""GeoParquet 1.1: rows of one index under one mask, each with the geometry of its feature.

Geometries are WKB, stored once for each group of rows by Parquet's dictionaries. The column ``bbox`` has the box of
each geometry, so that programs read only the groups of rows that meet a map's window.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from sen2chain.atomic import replacing, writing
from sen2chain.export.gathered_tables import gathered_tables
from sen2chain.export.provenance_json import beside, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sen2chain.index_series import IndexSeries, LayerFeatures

_GEOMETRY, _BOX = "geometry", "bbox"
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_BOX_TYPE = pa.struct([(edge, pa.float64()) for edge in _EDGES])
_ROWS_PER_GROUP = 1 << 16
_BYTES_PER_GROUP = 1 << 28  # of geometries in memory, where each row has its own; Arrow's limit is 2 GiB


def write_geoparquet(series: IndexSeries, path: Path, provenance: Mapping[str, Any]) -> int:
    """Write the rows of a series as GeoParquet, with the provenance in its metadata and as JSON beside it.

    Parameters
    ----------
    series
        The rows. Attributes called ``geometry`` or ``bbox`` get ``attr_`` before their name.
    path
        The file; replaced as a whole where it exists.
    provenance
        See `sen2chain.provenance`.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; nothing under the final name has changed then.
    """
    features, names = series.features, geoparquet_columns(series.schema.names)
    fields = [field.with_name(name) for field, name in zip(series.schema, names, strict=False)]
    schema = pa.schema(
        [*fields, (_GEOMETRY, pa.binary()), (_BOX, _BOX_TYPE)],
        {b"geo": json.dumps(_geo(features)).encode(), b"sen2chain": to_json(provenance).encode()},
    )
    _, tables = gathered_tables(series.tables(), series.schema, _ROWS_PER_GROUP)
    with replacing(path, beside(path, provenance)) as file:
        with writing(path):
            writer = pq.ParquetWriter(
                file, schema, compression="zstd",
                # So that a geometry is stored once for all dates of a group, however long it is.
                dictionary_pagesize_limit=2 * _BYTES_PER_GROUP,
                # The smallest and the largest WKB say nothing, and may be long.
                write_statistics=[*names[: len(fields)], *(f"{_BOX}.{edge}" for edge in _EDGES)],
            )  # fmt: skip
        rows = 0
        try:
            for table in tables:
                for piece in _with_geometry(table.rename_columns(names[: len(fields)]), features):
                    with writing(path):
                        writer.write_table(piece.replace_schema_metadata(schema.metadata), row_group_size=len(piece))
                    rows += int(piece.num_rows)
            with writing(path):
                writer.close()
        finally:
            # After a failed write the footer cannot be written either.
            with contextlib.suppress(OSError):
                writer.close()
    return rows


def geoparquet_columns(columns: list[str]) -> list[str]:
    """Return the columns of a file for rows of these columns: ``geometry`` and ``bbox`` are the last."""
    taken = {_GEOMETRY, _BOX, *(name for name in columns if name not in {_GEOMETRY, _BOX})}
    names = []
    for column in columns:
        name = column
        if column in {_GEOMETRY, _BOX}:
            while name in taken:
                name = f"attr_{name}"
            taken.add(name)
        names.append(name)
    return [*names, _GEOMETRY, _BOX]


def estimated_geoparquet_size(series: IndexSeries) -> int:
    """Return the approximate size in bytes of the GeoParquet file of a series."""
    shapes = series.features.geometry
    geometry = 16 * int(shapely.get_num_coordinates(shapes).sum()) + 100 * len(shapes)
    numbers = sum(pa.types.is_floating(field.type) for field in series.schema)
    size: int = geometry + series.rows * (8 * numbers + 4)
    return size


def _geo(features: LayerFeatures) -> dict[str, Any]:
    """Return GeoParquet's own metadata."""
    shapes = features.geometry
    # A ring is written as a line.
    kinds = {"LineString" if kind == "LinearRing" else kind for kind in {s.geom_type for s in shapes if s is not None}}
    bounds = shapely.total_bounds(shapes).tolist()
    return {
        "version": "1.1.0",
        "primary_column": _GEOMETRY,
        "columns": {
            _GEOMETRY: {
                "encoding": "WKB",
                "geometry_types": sorted(kinds),
                "crs": pyproj.CRS(features.crs).to_json_dict(),
                **({"bbox": bounds} if np.isfinite(bounds).all() else {}),
                "covering": {"bbox": {edge: [_BOX, edge] for edge in _EDGES}},
            }
        },
    }


def _with_geometry(table: pa.Table, features: LayerFeatures) -> Iterator[pa.Table]:
    """Yield rows by feature with their geometry and its box, in pieces whose geometries take little memory."""
    if not table.num_rows:
        return
    known, place = np.unique(table.column("fid").to_numpy(), return_inverse=True)
    shapes = features.geometry[known]
    size = 16 * shapely.get_num_coordinates(shapes) + 100
    group = np.cumsum(size[place]) // _BYTES_PER_GROUP
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(place)]
    box = shapely.bounds(shapes)
    for start, end in itertools.pairwise(cuts):
        own, at = np.unique(place[start:end], return_inverse=True)
        wkb = pa.array(shapely.to_wkb(shapes[own], byte_order=1), pa.binary()).take(pa.array(at))
        rows = box[place[start:end]]
        edges = [pa.array(np.ascontiguousarray(column)) for column in rows.T]
        boxes = pa.StructArray.from_arrays(edges, fields=list(_BOX_TYPE), mask=pa.array(np.isnan(rows[:, 0])))
        piece = table.slice(start, end - start).append_column(_GEOMETRY, wkb)
        yield piece.append_column(pa.field(_BOX, _BOX_TYPE), boxes)
