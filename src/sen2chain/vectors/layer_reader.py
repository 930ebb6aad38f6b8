"""Reader of layers: a file or a frame in, a checked `Layer` out; errors of the libraries become one sentence."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import re
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from sen2chain.errors import IncompleteLayerError, LayerError, RequestError, Sen2ChainError, escaped, items_of, quoted
from sen2chain.parallel import recorded_warnings
from sen2chain.vectors import layer_cache
from sen2chain.vectors.attributes import NULLABLE, clean, to_pandas
from sen2chain.vectors.layer import Layer, of_features
from sen2chain.vectors.layer_files import IN_ZIP, VectorFile, opened
from sen2chain.vectors.long_numbers import has_rounded_numbers, with_readable_numbers
from sen2chain.vectors.ogr import ARROW_KINDS, Read, choose_layer, geometries, read_ogr
from sen2chain.vectors.repair import repair
from sen2chain.vectors.text_encoding import check_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

OUTSIDE = b"sen2chain_outside"
"""Metadata of a GeoParquet file: which attributes take no part in the layer's identity."""

_FRAME = "The GeoDataFrame"
_EXACT = {"types_mapper": NULLABLE.get}


def read_layer(
    source: str | os.PathLike[str] | gpd.GeoDataFrame | gpd.GeoSeries,
    layer: str | None = None,
    name: str | None = None,
    field_names: str | Sequence[str] | None = None,
    cache: Path | None = None,
    *,
    encoding: str | None = None,
    crs: Any = None,
) -> Layer:
    """Read a layer from a file that pyogrio reads, a zipped one, a GeoParquet file or a GeoDataFrame.

    Parameters
    ----------
    source
        Path (``~`` is understood), GeoDataFrame, or GeoSeries.
    layer
        Name of the layer; needed where a file has several with geometry.
    name
        Stem of result files, instead of the file's own stem (``layer`` for a GeoDataFrame).
    field_names
        Attributes that must exist, as the layer calls them.
    cache
        Folder where a file's layer is kept until the file changes; None keeps none.
    encoding
        Encoding of the file's texts; None uses the one that the file declares, or else one that fits.
    crs
        CRS of a layer that has none, or only a local one; anything that pyproj understands.

    Raises
    ------
    LayerError
        If the file is missing or unreadable, has no CRS, no geometry or no feature, if the layer's name is
        missing or unknown, or if an attribute of `field_names` does not exist.
    RequestError
        If another parameter cannot be used.
    """
    if layer is not None and not isinstance(layer, str):
        raise RequestError(f"layer is {quoted(layer)}; pass the name of a layer of the file.")
    stem = check_name(name)
    codec, given = check_encoding(encoding), _check_crs(crs)
    if isinstance(source, gpd.GeoDataFrame | gpd.GeoSeries):
        label = _FRAME if isinstance(source, gpd.GeoDataFrame) else "The GeoSeries"
        with _reader_errors(label):
            found = _checked("layer", _of_frame(source), label, None, given)
    else:
        path = _path_of(source)
        label = f"The layer {path}"
        with _reader_errors(label):
            found = _from_file(path, label, layer, cache, codec, given)
    known, fields = found
    _check_fields(field_names, fields, label)
    named = replace(known, name=stem or file_stem(known.name), own_name=known.name)
    return replace(named, encoding=codec, given_crs=_crs_text(given))


def check_name(name: object) -> str | None:
    """Return the stem of result files that a user asks for; it becomes the name of a folder too.

    Raises
    ------
    RequestError
        If it is not text, or names no file.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip():
        raise RequestError(f"name is {quoted(name)}; pass a text that can be the name of a file.")
    return file_stem(name)


def file_stem(name: str) -> str:
    """Replace characters that cannot or should not be in the name of a file."""
    shown = "".join("_" if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in name)
    shown = re.sub(r"[/\\:]", "_", shown)
    return shown if shown.strip(" .") else "_" * len(shown) or "_"


def _path_of(source: object) -> Path:
    """Return the path that a user gave.

    Raises
    ------
    LayerError
        If it is not one of a file that is there.
    """
    if isinstance(source, bytes):
        source = os.fsdecode(source)
    if not isinstance(source, str | os.PathLike):
        raise LayerError(
            f"The layer is a {type(source).__name__}; pass the path of a vector file, or a GeoDataFrame, which can be "
            "made of geometries: geopandas.GeoDataFrame(geometry=[...], crs=...)."
        )
    text = os.fspath(source)
    if re.match(r"/vsi\w+/|[A-Za-z][A-Za-z0-9+.-]+:/*[^/\\]", text) and not os.path.exists(text):  # noqa: PTH110 - a text, not yet a path
        raise LayerError(f"The layer {_shown(text)} is an address, not a file on this machine; download it first.")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        path = Path(text)  # "~name" without such a user
    try:
        there = bool(text) and path.exists()
    except (OSError, ValueError) as error:
        raise LayerError(f"The layer {_shown(text)} cannot be looked at ({error}); check the path.") from error
    if not there:
        raise LayerError(f"The layer {_shown(text) or repr('')} does not exist; check the path.")
    return path


def _shown(text: str) -> str:
    """Shorten a path for a message, and remove user names and passwords of addresses."""
    plain = escaped(re.sub(r"//[^/@]*@", "//", text))
    return plain if len(plain) < 300 else f"{plain[:297]}..."


def _from_file(
    path: Path, label: str, layer: str | None, cache: Path | None, encoding: str | None, crs: pyproj.CRS | None
) -> tuple[Layer, list[str]]:
    """Read a file's layer and its attributes' original names, from the cache where the file has not changed."""
    options = {"encoding": encoding, "crs": _crs_text(crs)}
    key = layer_cache.version_key(path, layer, options) if cache else None
    if cache is None or key is None:
        return _read_and_check(path, label, layer, encoding, crs)
    place = layer_cache.place(cache, key)
    found = layer_cache.load_with_fields(place, path)
    if found is None:
        found = _read_and_check(path, label, layer, encoding, crs)
        if layer_cache.version_key(path, layer, options) == key:  # it was not changed meanwhile
            found = replace(found[0], saved=layer_cache.save(*found, place)), found[1]
    return found


def _read_and_check(
    path: Path, label: str, layer: str | None, encoding: str | None, crs: pyproj.CRS | None
) -> tuple[Layer, list[str]]:
    stem, read = _read_file(path, layer, encoding)
    return _checked(stem, read, label, path, crs)


def _checked(stem: str, read: Read, label: str, path: Path | None, given: pyproj.CRS | None) -> tuple[Layer, list[str]]:
    """Check geometries, CRS and attributes; return the layer and its attributes' original names."""
    if read.shapes is None:
        raise LayerError(f"{label} has no geometry column; give a layer of polygons, lines or points.")
    crs = _crs_of(read.crs, given, label)
    if not len(read.shapes):
        raise IncompleteLayerError(f"{label} has no features; give one with at least one polygon.")
    mended = repair(read.shapes, crs)
    attributes, outside = clean(read.attributes, read.outside)
    notes = [*read.notes, *mended.notes]
    if read.unreadable:
        what = "has an outline" if len(read.unreadable) == 1 else "have outlines"
        notes.append(of_features(read.unreadable, len(read.shapes), f"{what} that cannot be read"))
    layer = Layer.of(
        mended.geometry, crs, name=stem, path=path, attributes=attributes, outside=outside, notes=tuple(notes),
        repaired=tuple(sorted({*mended.repaired, *read.closed})),
    )  # fmt: skip
    return layer, [str(column) for column in read.attributes.columns]


def _of_frame(frame: gpd.GeoDataFrame | gpd.GeoSeries | pd.DataFrame) -> Read:
    """Split a frame into geometry and attributes; named levels of its index are attributes too."""
    if isinstance(frame, gpd.GeoSeries):
        frame = gpd.GeoDataFrame(geometry=frame)
    if not isinstance(frame, gpd.GeoDataFrame) or frame.active_geometry_name is None:
        return Read(None, None, pd.DataFrame(frame))
    table = pd.DataFrame(frame.drop(columns=frame.active_geometry_name))
    own = len(table.columns)
    for level in range(frame.index.nlevels):
        if frame.index.names[level] is not None:
            values = frame.index.get_level_values(level).array  # whose whole numbers stay so beside a null
            table.insert(len(table.columns), frame.index.names[level], values, allow_duplicates=True)
    outside = frozenset(range(own, len(table.columns)))
    return Read(np.array(frame.geometry.array, dtype=object), frame.crs, table, outside)


def _read_file(path: Path, layer: str | None, encoding: str | None) -> tuple[str, Read]:
    """Read one layer of a file; return the stem of result files and the content."""
    with recorded_warnings() as remarks, opened(path) as files, tempfile.TemporaryDirectory(prefix="sen2chain-") as own:
        found: tuple[str, Read] | Exception
        try:
            found = _read_files(path, files, layer, encoding)
        except (RuntimeError, ValueError) as error:
            found = error
        is_json = any(file.kind == "json" for file in files)  # numbers of other formats cannot be mended
        if isinstance(found, Exception) or (is_json and has_rounded_numbers(found[1].attributes)):
            mended = with_readable_numbers(files, Path(own))
            if mended:
                found = _read_files(path, mended, layer, encoding)
            elif isinstance(found, Exception):
                raise found
    for remark in remarks:
        # GDAL's remarks on odd files; what matters for results (rings, CRS) is looked at here.
        logger.info("%s: %s", path, remark.message)
    return found


def _read_files(path: Path, files: Sequence[VectorFile], layer: str | None, encoding: str | None) -> tuple[str, Read]:
    """Read one layer of files that readers may open; return the stem of result files and the content."""
    file, own, several = choose_layer(path, files, layer)
    if file.kind == "shapefile":
        _check_complete(file.path)
    if file.kind in ARROW_KINDS:
        read = _read_arrow_file(file.path, file.kind)
    else:
        read = read_ogr(file, own, encoding, f"The layer {path}")
    return f"{_stem(path)}-{several}" if several else _stem(path), read


def _read_arrow_file(path: Path, kind: str) -> Read:
    """Read GeoParquet, or the Arrow file that geopandas calls Feather."""
    reader = gpd.read_parquet if kind == "parquet" else gpd.read_feather
    schema = pq.read_schema(path) if kind == "parquet" else pa.ipc.open_file(path).schema
    metadata = schema.metadata or {}
    closed: tuple[int, ...] = ()
    unreadable: tuple[int, ...] = ()
    try:
        if b"geo" not in metadata and any(b"geoarrow." in str(f.metadata).encode() for f in schema):
            frame = gpd.GeoDataFrame.from_arrow(pq.read_table(path), to_pandas_kwargs=_EXACT)
        else:
            frame = reader(path, to_pandas_kwargs=_EXACT)
            _mend_index(frame, path, kind, schema)
    except shapely.errors.GEOSException:
        content, unreadable, closed = _with_readable_geometry(path, kind)
        frame = reader(content, to_pandas_kwargs=_EXACT)
    read = _of_frame(frame)
    outside = json.loads(metadata.get(OUTSIDE, b"[]"))
    names = list(read.attributes.columns)
    read.outside |= {names.index(name) for name in outside if name in names}
    read.unreadable, read.closed = unreadable, closed
    return read


def _mend_index(frame: gpd.GeoDataFrame, path: Path, kind: str, schema: pa.Schema) -> None:
    """Restore whole numbers of an index with nulls, which pandas made floats."""
    fields = [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    if not any(schema.field(name).type in NULLABLE for name in fields):
        return
    table = pq.read_table(path, columns=fields) if kind == "parquet" else pa.ipc.open_file(path).read_all()
    levels = [to_pandas(table.select([name]).replace_schema_metadata()).iloc[:, 0] for name in fields]
    if any(table.column(name).null_count for name in fields):
        frame.index = pd.MultiIndex.from_arrays(levels, names=frame.index.names)


def _with_readable_geometry(path: Path, kind: str) -> tuple[io.BytesIO, tuple[int, ...], tuple[int, ...]]:
    """Return the file with geometries that can be read all at once: rings closed, unreadable ones empty."""
    table = pq.read_table(path) if kind == "parquet" else pa.ipc.open_file(path).read_all()
    column = json.loads(table.schema.metadata[b"geo"])["primary_column"]
    at = table.schema.get_field_index(column)
    shapes, unreadable, closed = geometries(table.column(at), lambda: np.array([], dtype=object))
    raw = pa.array(shapely.to_wkb(shapes), pa.binary())
    table = table.set_column(at, table.schema.field(at).with_type(pa.binary()), raw)
    content = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, content)
    else:
        with pa.ipc.new_file(content, table.schema) as writer:
            writer.write_table(table)
    content.seek(0)
    return content, unreadable, closed


def _check_complete(path: Path) -> None:
    """Refuse a truncated shapefile; GDAL would silently return null geometries for its missing shapes."""
    with path.open("rb") as file:
        words = int.from_bytes(file.read(28)[24:], "big")  # the header tells the length in 16-bit words
    if path.stat().st_size < 2 * words:
        raise ValueError("the file is truncated")


@contextlib.contextmanager
def _reader_errors(label: str) -> Iterator[None]:
    """Convert any exception of the reading libraries to a `LayerError` of one sentence."""
    try:
        yield
    except (Sen2ChainError, MemoryError):
        raise
    except Exception as error:  # of five libraries, some of them bare TypeErrors and UnboundLocalErrors
        detail = escaped(" ".join(str(error).split("\n")[0].split("; It might help")[0].split())[:300]).rstrip(".")
        message = f"{label} cannot be read ({detail or type(error).__name__}); check that it is a complete vector file."
        raise LayerError(message) from error


def _stem(path: Path) -> str:
    """Stem of a file: ``parcels`` of ``parcels.gpkg``, ``parcels.zip`` and ``parcels.shp.zip``."""
    inner = Path(path.stem)
    packed = path.suffix.lower() == ".zip" and inner.suffix.lower() in {*IN_ZIP, ".json", ".gdb"}
    return inner.stem if packed else path.stem


def _check_crs(crs: Any) -> pyproj.CRS | None:
    """Return the CRS that a user gave.

    Raises
    ------
    RequestError
        If it is not geographic or projected, or PROJ cannot use it.
    """
    if crs is None:
        return None
    try:
        given = pyproj.CRS.from_user_input(crs)
    except Exception as error:  # of any type, since the user passes any object
        raise RequestError(f"crs is {quoted(crs)}, which is not a CRS; pass one as EPSG:32632.") from error
    if not _is_of_maps(given):
        raise RequestError(f"crs is {given.name!r}, {_wrong_kind(given)}; pass one as EPSG:32632.")
    return given


def _crs_of(own: pyproj.CRS | None, given: pyproj.CRS | None, label: str) -> str:
    """Return the CRS of a layer: its own, or the one given where it has none that can be used."""
    own = None if own is None else pyproj.CRS.from_user_input(own)
    # GeoPackage spells "unknown" as CRS records named "Undefined ...".
    if own is None or own.name.startswith("Undefined"):
        text, lacks = None, "has no coordinate reference system"
    elif not _is_of_maps(own):
        text, lacks = None, f"has a coordinate reference system of the wrong kind ({own.name}: {_wrong_kind(own)})"
        if own.is_geocentric and given is not None:
            raise LayerError(f"{label} {lacks}; transform it to another one, crs= does not change coordinates.")
    else:
        text, lacks = _crs_text(own), ""
    if given is None:
        if text is None:
            raise IncompleteLayerError(
                f"{label} {lacks}; assign the right one (a .prj file, in QGIS), or pass it as crs= (--crs)."
            )
        return text
    wanted = str(_crs_text(given))
    if text not in {None, wanted}:
        raise RequestError(f"{label} is in {_short(own)}, and crs is {_short(given)}; leave crs out, or mend the file.")
    return wanted


@functools.lru_cache(maxsize=64)  # PROJ takes milliseconds, and an update reads its layer several times
def _is_of_maps(crs: pyproj.CRS) -> bool:
    """Whether a CRS is geographic or projected, and PROJ can transform it to WGS 84."""
    if not (crs.is_geographic or crs.is_projected):
        return False
    try:
        pyproj.Transformer.from_crs(crs, "EPSG:4326")
    except pyproj.exceptions.ProjError:
        return False
    return True


def _wrong_kind(crs: pyproj.CRS) -> str:
    if crs.is_geographic or crs.is_projected:
        return "which PROJ cannot bring to WGS 84, as one of another celestial body"
    if crs.is_geocentric:
        return "geocentric, its coordinates are not those of a map"
    if crs.is_engineering:
        return "local (engineering), tied to no place on earth"
    return "neither geographic nor projected"


def _short(crs: pyproj.CRS | None) -> str:
    text = _crs_text(crs) or ""
    return text if len(text) < 60 or crs is None else crs.name


def _crs_text(crs: pyproj.CRS | None) -> str | None:
    """Text of a CRS that is the same for all formats: an authority's code, else WKT."""
    if crs is None:
        return None
    flat = crs.to_2d()
    authority = flat.to_authority(min_confidence=100)
    if authority is None:
        return str(flat.to_wkt())
    # They differ in axis order only, and coordinates in layers are always x, y.
    return "EPSG:4326" if authority == ("OGC", "CRS84") else ":".join(authority)


def _check_fields(wanted: str | Sequence[str] | None, known: Sequence[str], label: str) -> None:
    if wanted is None:
        return
    wanted = [wanted] if isinstance(wanted, str) else items_of("field_names", wanted, "the name of an attribute")
    for field in wanted:
        if field not in known:
            listing = ", ".join(known) or "none"
            raise LayerError(f"{label} has no attribute {quoted(field)}; its attributes are: {listing}.")
