"""Cache of checked layers for later runs and other processes: one Arrow file each.

A saved layer is found by the size and time of change of the user's file, so that a nightly run does not read, check and
repair the same 100,000 polygons again. Loading maps the attributes; geometries are read when they are first needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import shapely

from sen2chain import cache
from sen2chain.files import is_young
from sen2chain.vectors.attributes import to_pandas
from sen2chain.vectors.file_kinds import side_files
from sen2chain.vectors.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Raise it when the meaning of a saved layer changes.
_FORMAT = 3
# Part of the names by which folders of layers know a file; never changed, so that they go on knowing it.
_STAMP = 1
_NOTE = b"sen2chain"
_OWN = ("geometry", "left", "bottom", "right", "top")  # columns before the attributes


def version_key(path: Path, layer: str | None, options: Mapping[str, str | None] | None = None) -> str | None:
    """Return a digest of all that reading a layer depends on; None for a folder, or a file changed just now.

    Parameters
    ----------
    path
        The user's file.
    layer
        The layer asked for.
    options
        How the user asks for it to be read.
    """
    if not path.is_file():
        return None  # a folder such as a file geodatabase
    files = []
    # A shapefile is several files of one stem, a GeoPackage may have a side file of changes.
    for file in side_files(path):
        with contextlib.suppress(OSError):
            facts = file.stat()
            if is_young(facts):
                return None
            files.append([file.name, facts.st_size, facts.st_mtime_ns])
    versions = [_STAMP, shapely.geos_version_string, shapely.__version__, pyogrio.__gdal_version_string__]
    versions += [pyogrio.__version__, gpd.__version__, pd.__version__]
    chosen = {name: value for name, value in (options or {}).items() if value}
    parts = [str(path.absolute()), layer, files, versions, *([chosen] if chosen else [])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def place(folder: Path, key: str) -> Path:
    """Return the path of a saved layer in a folder, by its `stamp`."""
    return folder / f"{key}-{_FORMAT}.arrow"


def stamp_of(saved: Path) -> str:
    """Return the `stamp` of a saved layer, from its path."""
    return saved.stem.partition("-")[0]


def save(layer: Layer, fields: list[str], path: Path) -> Path | None:
    """Save a layer.

    Parameters
    ----------
    layer, fields
        The layer, and its attributes as the user's file names them.
    path
        The saved file.

    Returns
    -------
    Path or None
        The saved file; None where the folder cannot be written, or where the attributes would not come back as they
        are.
    """
    note = {
        "name": layer.name, "crs": layer.crs, "identity": layer.identity, "fields": fields,
        "repaired": layer.repaired, "null": layer.null, "empty": layer.empty, "outside": layer.outside,
        "notes": layer.notes,
    }  # fmt: skip
    attributes = pa.Table.from_pandas(layer.attributes, preserve_index=False)
    if not _frame(attributes, len(layer)).equals(layer.attributes):
        return None
    shapes = pa.array(shapely.to_wkb(layer.geometry), pa.large_binary())
    columns = [shapes, *(pa.array(side) for side in layer.bounds.T), *attributes.columns]
    table = pa.table(columns, names=[*_OWN, *attributes.schema.names])
    table = table.replace_schema_metadata({**(attributes.schema.metadata or {}), _NOTE: json.dumps(note).encode()})
    return path if cache.save(path, table) else None


def keep(layer: Layer, folder: Path) -> Path | None:
    """Save the geometries of a layer without a file, for other processes; None where that fails.

    Parameters
    ----------
    layer
        The layer.
    folder
        Where saved layers are.
    """
    path = place(folder, f"{layer.identity[:32]}-shapes")
    bare = replace(
        layer, attributes=pd.DataFrame(index=pd.RangeIndex(len(layer))), outside=(), known_identity=layer.identity
    )
    return path if path.exists() and load(path) is not None else save(bare, [], path)


def load(saved: Path) -> Layer | None:
    """Read a saved layer; None where there is no complete file."""
    found = load_with_fields(saved)
    return found[0] if found else None


def load_with_fields(saved: Path, path: Path | None = None) -> tuple[Layer, list[str]] | None:
    """Read a saved layer and its attributes' original names; None where there is no complete file.

    Parameters
    ----------
    saved
        The saved file.
    path
        The user's file.
    """
    table = cache.load(saved)
    if table is None:
        return None
    note = json.loads(table.schema.metadata[_NOTE])
    attributes = _frame(table.select(range(len(_OWN), table.num_columns)), table.num_rows)
    bounds = np.stack([table.column(i).to_numpy() for i in range(1, len(_OWN))], axis=1)
    shapes = table.column(0)

    def read_shapes() -> np.ndarray:
        geometry: np.ndarray = shapely.from_wkb(shapes.to_numpy())
        geometry.flags.writeable = False
        return geometry

    return Layer(
        name=note["name"],
        path=path,
        crs=note["crs"],
        load=read_shapes,
        bounds=bounds,
        attributes=attributes,
        repaired=tuple(note["repaired"]),
        null=tuple(note["null"]),
        empty=tuple(note["empty"]),
        saved=saved,
        known_identity=note["identity"],
        outside=tuple(note["outside"]),
        notes=tuple(note["notes"]),
    ), note["fields"]


def _frame(table: pa.Table, rows: int) -> pd.DataFrame:
    """Convert attributes to the types that `read_layer` gives: texts as objects, None for a null text."""
    if not table.num_columns:
        return pd.DataFrame(index=pd.RangeIndex(rows))
    frame = to_pandas(table)
    texts = [i for i, field in enumerate(table.schema) if pa.types.is_string(field.type)]
    columns: dict[str, Any] = {}
    for i, name in enumerate(frame.columns):
        column = frame.iloc[:, i]
        columns[name] = column.astype(object).where(column.notna(), None) if i in texts else column
    return pd.DataFrame(columns, index=pd.RangeIndex(rows))
