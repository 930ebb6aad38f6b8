"""Recognition of layers: find the folder of a layer under any name and in any format, or begin a new one.

A folder belongs to a layer when the layer's file has not changed since the last run (by size and time), when the bytes
of its shapefile have the checksum in the folder's name, or when its features are those in the folder's ``shp_files``.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pyarrow.parquet as pq

from sen2chain.atomic import replacing, writing
from sen2chain.errors import LayerError, RequestError
from sen2chain.files import read_limited
from sen2chain.store.extraction_folder import ExtractionFolder
from sen2chain.vectors import OUTSIDE, Summary, read_layer, same_features, same_shapes, stamp_of, summarize

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.vectors import Layer

_NOTE = "layer.json"
# The original's checksum is over these files, in this order.
_SHAPEFILE = (".shp", ".cpg", ".dbf", ".prj", ".shx")
_CHECKSUM_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Recognised:
    """The folder of a layer."""

    folder: ExtractionFolder
    """The folder."""
    exists: bool
    """Whether it was there."""
    hint: str = ""
    """For a new folder, a sentence on the one that held the layer before its features changed."""


def recognise(extraction: Path, layer: Layer, tag: str, cache: Path) -> Recognised:
    """Find the folder of a layer; nothing is written.

    Parameters
    ----------
    extraction
        The folder of all layers' folders.
    layer
        The layer.
    tag
        Options that give other rows, as they follow the checksum in the folder's name.
    cache
        Where layers are kept that were read before.
    """
    folders = [folder for folder in ExtractionFolder.all_in(extraction) if folder.tag == tag]
    notes = {folder: read_note(folder) for folder in folders}
    known = _token(layer)
    for folder in folders:
        if known and known in notes[folder].get("files", ()):
            return Recognised(folder, exists=True)
    checksum = _checksum(layer)
    for folder in folders:
        if folder.checksum == checksum:
            return Recognised(folder, exists=True)
    own = summarize(layer) if folders else None
    for folder in folders:
        summary = _summary(folder, notes[folder], cache, layer)
        if summary is not None and own is not None and summary.may_be(own):
            stored = stored_layer(folder, cache, layer)
            if stored is not None and same_features(layer, stored):
                return Recognised(folder, exists=True)
    new = ExtractionFolder(extraction / f"{layer.name}_{checksum}{tag}")
    return Recognised(new, exists=False, hint=_hint(layer, new, notes, cache))


def make_folder(found: Recognised, layer: Layer, cache: Path) -> Layer:
    """Make the folder where it does not exist, complete it where a run was killed, and return the layer in it.

    All images of a folder are extracted with the same copy of the layer, so that their rows do not depend on which
    copy of the layer a run is given.

    Parameters
    ----------
    found
        What `recognise` returned.
    layer
        The layer.
    cache
        Where layers are kept that were read before.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    folder = found.folder
    with writing(folder.root):
        folder.layer_files.mkdir(parents=True, exist_ok=True)
    stored = stored_layer(folder, cache, layer)
    if stored is None or len(stored) != len(layer):
        _copy(layer, folder)
        stored = stored_layer(folder, cache, layer)
    if stored is None:
        raise LayerError(f"The layer in {folder.layer_files} cannot be read; remove that folder, it is made anew.")
    stored = replace(stored, name=folder.stem, repaired=layer.repaired, notes=layer.notes)
    _write_note(folder, layer, stored)
    return stored


def stored_layer(folder: ExtractionFolder, cache: Path, asked: Layer) -> Layer | None:
    """Read the layer that a folder was made with; None where it is missing or cannot be read.

    Parameters
    ----------
    folder
        The layer's folder.
    cache
        Where layers are kept that were read before.
    asked
        The layer of this run: a shapefile in the folder is read with its encoding and CRS.
    """
    for pattern in ("*.shp", "*.parquet"):
        for path in sorted(folder.layer_files.glob(pattern)):
            for crs in dict.fromkeys([asked.given_crs, None]):  # a copy in GeoParquet has its own
                try:
                    return read_layer(path, cache=cache, encoding=asked.encoding, crs=crs)
                except (LayerError, RequestError):
                    continue
    return None


def _copy(layer: Layer, folder: ExtractionFolder) -> None:
    """Copy the layer into the folder: a shapefile as it is, other formats as GeoParquet, which loses nothing."""
    for suffix, source in _shapefile_parts(layer).items():
        with replacing(folder.layer_files / f"{folder.stem}{suffix}") as file:
            file.write(source.read_bytes())
    if not _shapefile_parts(layer):
        taken = set(layer.attributes.columns)
        geometry = next(name for name in ("geometry", "geometry_", "geometry__") if name not in taken)
        frame = gpd.GeoDataFrame(
            layer.attributes.assign(**{geometry: layer.geometry}), geometry=geometry, crs=layer.crs
        )
        content = io.BytesIO()
        frame.to_parquet(content)
        if layer.outside:
            table = pq.read_table(io.BytesIO(content.getbuffer()))
            note = {**table.schema.metadata, OUTSIDE: json.dumps(layer.outside).encode()}
            content = io.BytesIO()
            pq.write_table(table.replace_schema_metadata(note), content)
        with replacing(folder.layer_files / f"{folder.stem}.parquet") as file:
            file.write(content.getbuffer())


def _shapefile_parts(layer: Layer) -> dict[str, Path]:
    """Suffix -> file of a shapefile, in the order of the checksum; nothing for another format."""
    if layer.path is None or layer.path.suffix.lower() != ".shp" or not layer.path.is_file():
        return {}
    found: dict[str, Path] = {}
    for suffix in _SHAPEFILE:
        for spelled in (suffix, suffix.upper()):
            path = layer.path.with_suffix(spelled)
            if path.is_file():
                found.setdefault(suffix, path)
    return found


def _checksum(layer: Layer) -> str:
    """Return the 16 hex digits of a new folder's name: of a shapefile's bytes, else of the layer's content."""
    parts = _shapefile_parts(layer)
    if not parts:
        return layer.content_identity[:_CHECKSUM_DIGITS]
    digest = hashlib.sha256()
    for path in parts.values():
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:_CHECKSUM_DIGITS]


def _token(layer: Layer) -> str | None:
    """Return the identity of a layer's file by size and time; None for a layer that is not from a file."""
    return stamp_of(layer.saved) if layer.saved is not None and layer.path is not None else None


def read_note(folder: ExtractionFolder) -> dict[str, Any]:
    """Return what a folder notes of its layer: source, features, CRS; empty where there is no note."""
    try:
        note = json.loads(read_limited(folder.layer_files / _NOTE))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(folder: ExtractionFolder, layer: Layer, stored: Layer) -> None:
    """Write the note by which the layer is found again without reading geometries."""
    note = read_note(folder)
    token = _token(layer)
    if note and (token is None or token in note.get("files", ())):
        return
    if not note:
        summary = summarize(stored)
        note = {
            "features": summary.features,
            "bounds": summary.bounds,
            "attributes": summary.attributes,
            "columns": list(stored.attributes.columns),
            "crs": stored.crs,
            "files": [],
        }
    note["source"] = str(layer.path.absolute()) if layer.path else None
    note["files"] = [*note["files"][-99:], *([token] if token else [])]
    with replacing(folder.layer_files / _NOTE) as file:
        file.write((json.dumps(note, indent=2) + "\n").encode())


def _summary(folder: ExtractionFolder, note: dict[str, Any], cache: Path, asked: Layer) -> Summary | None:
    if {"features", "bounds", "attributes"} <= note.keys():
        bounds = tuple(note["bounds"]) if note["bounds"] else None
        return Summary(note["features"], bounds, note["attributes"])
    stored = stored_layer(folder, cache, asked)
    return summarize(stored) if stored is not None else None


def _hint(layer: Layer, new: ExtractionFolder, notes: dict[ExtractionFolder, dict[str, Any]], cache: Path) -> str:
    """Return a sentence on the folder that held the layer before its features changed; empty where there is none."""
    path = str(layer.path.absolute()) if layer.path else None
    if path is None and layer.name == "layer":
        return ""  # the name that every layer in memory has
    former = [f for f, note in notes.items() if f.stem == new.stem or (path and note.get("source") == path)]
    if not former:
        return ""
    # The last one that was worked on.
    old = max(former, key=lambda f: f.ledger.stat().st_mtime if f.ledger.exists() else f.root.stat().st_mtime)
    stored = stored_layer(old, cache, layer)
    if stored is None:
        what = "its layer cannot be read"
    elif len(stored) != len(layer):
        what = f"{len(layer)} features instead of {len(stored)}"
    else:
        differ = int((~same_shapes(layer, stored)).sum())
        what = f"{differ} of {len(layer)} outlines differ" if differ else "attributes differ"
    return (
        f"The layer {layer.name} is not the one that {old.root.name} holds ({what}); {new.root.name} is begun for it, "
        f"and {old.root.name} stays as it is."
    )
