"""Vector files through GDAL: the choice of a layer, and its features as Arrow, which keeps the types of values."""

from __future__ import annotations

import inspect
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import pyogrio.raw
import pyproj
import shapely

from sen2chain.errors import IncompleteLayerError, LayerError
from sen2chain.vectors.attributes import from_json, to_pandas
from sen2chain.vectors.text_encoding import (
    LOSSLESS,
    candidates,
    decode,
    how_it_was_read,
    is_utf8,
    says_other_than_utf8,
    transcode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sen2chain.vectors.layer_files import VectorFile

# pyogrio 0.12 and later give times with their own offsets as texts; earlier ones as Arrow has them.
_AS_TEXT: dict[str, Any] = (
    {"datetime_as_string": True} if "datetime_as_string" in inspect.signature(pyogrio.raw.read_arrow).parameters else {}
)
_NO_FID = "OGC_FID"  # GDAL's name of ids that are not a column of the file
_LISTED = 30  # layers that a message names
ARROW_KINDS = ("parquet", "arrow")
"""Kinds of files that GDAL does not read, of one layer each."""
_SUFFIXES_OF_TEXT = {".csv", ".tsv", ".txt"}


@dataclass(slots=True)
class Read:
    """A layer as a reader gives it."""

    shapes: np.ndarray | None
    """Geometries (n,), as they are in the file; None where it has none."""
    crs: pyproj.CRS | None
    """Their CRS."""
    attributes: pd.DataFrame
    """Attributes under their own names."""
    outside: frozenset[int] = frozenset()
    """Positions of columns that the format keeps beside the attributes proper."""
    unreadable: tuple[int, ...] = ()
    """Positions of features whose geometry no reader understands; it is empty in `shapes`."""
    closed: tuple[int, ...] = ()
    """Positions of features whose rings were not closed, and are."""
    notes: tuple[str, ...] = ()
    """Sentences on how it was read."""


def read_ogr(file: VectorFile, layer: str, encoding: str | None, label: str) -> Read:
    """Read one layer of a file.

    Parameters
    ----------
    file, layer
        A file that readers may open, and the layer in it, see `choose_layer`.
    encoding
        Python's name of the encoding of texts; None finds out.
    label
        The layer, for messages.
    """
    meta, table, note = _read_table(file, layer, encoding, label)
    read = _read_of(file, meta, table, layer)
    read.notes = (note,) if note else ()
    return read


def choose_layer(path: Path, files: Sequence[VectorFile], layer: str | None) -> tuple[VectorFile, str, str]:
    """Choose a layer.

    Parameters
    ----------
    path
        The user's file, for messages.
    files
        The files that readers may open, see `sen2chain.vectors.layer_files`.
    layer
        Name of the layer; needed where there are several with geometry.

    Returns
    -------
    tuple
        The file, its layer to read, and the layer's name where there are several with geometry, else an empty text.

    Raises
    ------
    LayerError
        If the layer is not there, or there are several.
    """
    found: list[tuple[str, Any, VectorFile, str]] = []
    faults: list[Exception] = []
    for file in files:
        try:
            layers: Any = [(file.path.stem, "any")]
            if file.kind not in ARROW_KINDS:  # GDAL may lack the drivers of those
                layers = pyogrio.list_layers(file.path)
        except (RuntimeError, ValueError) as error:  # of several files in an archive some may be no layers
            faults.append(error)
            continue
        found += [(str(name), kind, file, str(name)) for name, kind in layers]
    if not found:
        raise faults[0] if faults else RuntimeError("it has no layer")  # as GDAL sees some truncated files
    names = [name for name, *_ in found]
    if len(set(names)) < len(names):  # files of one name in different folders of an archive
        found = [(f"{file.name}/{name}", kind, file, name) for name, kind, file, _ in found]
    with_geometry = [item for item in found if item[1] is not None] or found
    listing = ", ".join(name for name, *_ in with_geometry[:_LISTED])
    if len(with_geometry) > _LISTED:
        listing += f" and {len(with_geometry) - _LISTED} more"
    if layer is None:
        if len(with_geometry) > 1:
            are_layers = any(kind is not None for _, kind, _, _ in found)
            raise (IncompleteLayerError if are_layers else LayerError)(
                f"{path} has several layers ({listing}); name one of them with layer= (--layer on the command line)."
            )
        chosen = with_geometry[0]
    else:
        # A link stands for a file whose name GDAL's readers do not understand.
        named = [item for item in found if item[0] == layer]
        named = named or [item for item in found if len(found) == 1 and layer in {path.stem, Path(path.stem).stem}]
        if not named:
            raise LayerError(f"{path} has no layer {layer!r}; it has {listing}.")
        chosen = named[0]
    name, _, file, own = chosen
    return file, own, name if len(with_geometry) > 1 else ""


def _read_table(file: VectorFile, layer: str, encoding: str | None, label: str) -> tuple[dict[str, Any], pa.Table, str]:
    """Read a layer as Arrow with texts in UTF-8; the note names the encoding where it was guessed."""
    is_shapefile = _is_shapefile(file)
    is_text = file.kind == "json" or (file.kind == "other" and file.path.suffix.lower() in _SUFFIXES_OF_TEXT)
    try:
        # Where a shapefile says another encoding than UTF-8, GDAL silently drops characters that are not in it.
        own_word = is_shapefile and says_other_than_utf8(_shapefile_of(file, layer))
        if not own_word and (encoding is None or not (is_shapefile or is_text)):
            meta, table = _arrow(file.path, layer)
            # GDAL decodes XML and MapInfo itself, so an encoding is for what is left over.
            if is_utf8(table):
                return meta, table, ""
    except UnicodeDecodeError:  # the name of a column
        if not (is_shapefile or is_text):
            raise
    shapefile = _shapefile_of(file, layer) if is_shapefile else None
    encodings = candidates(shapefile, encoding)
    if is_text:
        with tempfile.TemporaryDirectory(prefix="sen2chain-") as folder:
            copy = Path(folder, file.path.name)
            used, shown = transcode(file.path, copy, encodings, label)
            meta, table = _arrow(copy, layer)
    elif is_shapefile:
        meta, table = _arrow(file.path, layer, ENCODING=LOSSLESS.upper())
        table, used, shown = decode(table, encodings, label, from_lossless=True)
    else:
        table, used, shown = decode(table, encodings, label, from_lossless=False)
    if encoding or (used == encodings[0] and shapefile):
        return meta, table, ""
    return meta, table, how_it_was_read(used, shown)


def _is_shapefile(file: VectorFile) -> bool:
    return file.kind == "shapefile" or (file.kind is None and file.path.suffix.lower() != ".gdb")


def _shapefile_of(file: VectorFile, layer: str) -> Path:
    return file.path / f"{layer}.shp" if file.kind is None else file.path


def _arrow(path: Path, layer: str, **options: str) -> tuple[dict[str, Any], pa.Table]:
    meta, table = pyogrio.raw.read_arrow(path, layer=layer, return_fids=True, **_AS_TEXT, **options)
    return dict(meta), table


def _read_of(file: VectorFile, meta: dict[str, Any], table: pa.Table, layer: str) -> Read:
    """Split a table into geometry, ids of the file and attributes."""
    names = list(table.schema.names)
    fid_at = 0 if names and names[0] == meta["fid_column"] else None
    geometry = meta["geometry_name"] or "wkb_geometry"
    # An attribute may be called so too; geometry comes last.
    at = [i for i, name in enumerate(names) if name == geometry][-1:] if meta["geometry_type"] else []
    shapes_at = at[0] if at else None
    found: tuple[np.ndarray | None, tuple[int, ...], tuple[int, ...]] = (None, (), ())
    if shapes_at is not None:
        found = geometries(table.column(shapes_at), lambda: _straight(file.path, layer))
    kept = [i for i in range(len(names)) if i not in {fid_at, shapes_at}]
    attributes = _attributes(table, kept, meta)
    outside = {position for position, i in enumerate(kept) if names[i] == "geometry"}
    if fid_at is not None:
        fids = table.column(fid_at).to_numpy()
        if _are_own(fids, meta["fid_column"], file):
            outside.add(len(kept))
            attributes.insert(len(kept), "fid", fids, allow_duplicates=True)
    crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    return Read(found[0], crs, attributes, frozenset(outside), *found[1:])


def _are_own(fids: np.ndarray, column: str, file: VectorFile) -> bool:
    """Whether the ids of features are in the file, and not counted by GDAL."""
    if file.kind == "json":  # whose features have ids where somebody wrote them; an attribute `id` is one already
        return column == _NO_FID and not np.array_equal(fids, np.arange(len(fids)))
    return column != _NO_FID or file.kind == "sqlite"


def _attributes(table: pa.Table, kept: Sequence[int], meta: dict[str, Any]) -> pd.DataFrame:
    """Convert attributes to a frame; JSON and times are parsed."""
    # Those pyogrio versions that give times as texts say which columns they are.
    dtypes = dict(zip(map(str, meta["fields"]), map(str, meta["dtypes"]), strict=True)) if _AS_TEXT else {}
    names = [table.schema.names[i] for i in kept]
    columns = [table.column(i) for i in kept]
    is_json = [_is_json(table.schema.field(i)) for i in kept]
    plain = [column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column
             for column in columns]  # fmt: skip
    frame = to_pandas(pa.table(plain, names=names)) if plain else pd.DataFrame(index=pd.RangeIndex(len(table)))
    for position, (name, column) in enumerate(zip(names, plain, strict=True)):
        if is_json[position]:
            frame.isetitem(position, from_json(column.to_pylist()))
        elif dtypes.get(name, "").startswith("datetime") and pa.types.is_string(column.type):
            frame.isetitem(position, _times(frame.iloc[:, position]).array)
    return frame


def _is_json(field: pa.Field) -> bool:
    metadata = field.metadata or {}
    name = getattr(field.type, "extension_name", "") or metadata.get(b"ARROW:extension:name", b"").decode()
    return bool(name == "arrow.json" or metadata.get(b"GDAL:OGR:subtype") == b"JSON")


def _times(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Parse times; those of several time zones become UTC, and other texts stay as they are."""
    for utc in (False, True):
        try:
            times: pd.Series[Any] = pd.to_datetime(texts, format="ISO8601", utc=utc)
        except (ValueError, OverflowError):
            continue
        if pd.api.types.is_datetime64_any_dtype(times):
            milliseconds: pd.Series[Any] = times.dt.as_unit("ms")
            return milliseconds
    return texts


def geometries(column: pa.ChunkedArray, straighten: Any) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Read geometries one by one where they cannot be read all at once.

    Parameters
    ----------
    column
        Well-known binary.
    straighten
        Gives the same geometries with curves as lines.

    Returns
    -------
    tuple
        Geometries (n,); positions of those that cannot be read, which are empty, and of those whose rings were closed.
    """
    raw = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    try:
        return shapely.from_wkb(raw), (), ()
    except (shapely.errors.GEOSException, NotImplementedError):
        pass
    shapes, unreadable, closed = np.full(len(raw), None, dtype=object), [], []
    curved: np.ndarray | None = None
    for i, wkb in enumerate(raw):
        try:
            shapes[i] = shapely.from_wkb(wkb)
        except (shapely.errors.GEOSException, NotImplementedError):
            shapes[i] = _fixed(wkb)
            if shapes[i] is not None:
                closed.append(i)
                continue
            if curved is None:
                curved = straighten()
            shapes[i] = _fixed(curved[i]) if i < len(curved) else None
            if shapes[i] is None:
                unreadable.append(i)
                shapes[i] = shapely.Polygon()
    return shapes, tuple(unreadable), tuple(closed)


def _fixed(wkb: bytes | None) -> Any:
    """Read a geometry whose rings may not be closed; None where it cannot be read."""
    try:
        return None if wkb is None else shapely.from_wkb(wkb, on_invalid="fix")
    except (shapely.errors.GEOSException, NotImplementedError):
        return None


def _straight(path: Path, layer: str) -> np.ndarray:
    """Read geometries with curves as lines, which is slower."""
    try:
        # With all columns, since a geometry may be made of one; their encoding does not matter here.
        shapes: np.ndarray = pyogrio.raw.read(path, layer=layer, encoding=LOSSLESS)[2]
    except (RuntimeError, ValueError):
        return np.array([], dtype=object)
    return shapes
