"""The provenance of results: the JSON beside every table, and the check that no table replaces a different one.

`provenance` gathers parameters, versions, the layer's identity and the products used. `check_results` compares the JSON
of an existing table with the parameters of this run, and refuses to replace a table that was made in another way.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sen2chain.errors import OutputError, RequestError
from sen2chain.export import geopackage_columns, geopackage_has_rows, geopackage_provenance, to_json
from sen2chain.export.marks import MARKED, mark_of, new_mark
from sen2chain.files import is_file, is_folder, read_limited
from sen2chain.indices import NODATA, SCALE
from sen2chain.reasons import Reason
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sen2chain.plan import Request
    from sen2chain.report import Report
    from sen2chain.vectors import Layer

_VERSIONS = ("sen2chain", "numpy", "rasterio", "shapely", "pyproj", "geopandas", "pyogrio", "numba", "pyarrow")


def provenance(
    request: Request,
    layer: Layer,
    archive: str,
    report: Report,
    *,
    index: str | None = None,
    mask: str | None = None,
) -> dict[str, Any]:
    """Gather parameters, versions, the layer's identity, and the products and sources used.

    Parameters
    ----------
    request, layer, archive
        The request, the polygons, and a sentence on the archive.
    report
        The lines about the images that the rows come from.
    index, mask
        Names, where the result is of one index and mask; None is all of the request.
    """
    left_out = {reason.value: sum(report.counts[reason.value]) for reason in Reason}
    columns = {**report.texts, **report.counts}
    names = ("index", "mask", "acquisition", "value_source", "mask_source", "rows", "error")
    lines = zip(*(columns[name] for name in names), strict=True)
    return {
        **made_now(),
        **conditions(request, layer, index=index, mask=mask),
        "archive": archive,
        "rows": report.rows,
        "left_out": {name: n for name, n in left_out.items() if n},
        "products": [{k: v for k, v in zip(names, line, strict=True) if v != ""} for line in lines],
    }


def conditions(
    request: Request, layer: Layer, *, index: str | None = None, mask: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the part of a provenance that is known before anything is extracted; parameters as for `provenance`."""
    return {
        "parameters": {
            "indices": {i.name: i.definition for i in request.indices if index in {None, i.name}},
            "masks": [m.name for m in request.masks if mask in {None, m.name}],
            "date_min": request.first, "date_max": request.last,
            "cover_min": request.cover_min, "cover_max": request.cover_max, "pixels": request.pixels,
            "buffer": request.buffer, "stats": list(request.statistics.extra), "min_valid": request.min_valid,
            "units": request.units, "keep_empty": request.keep_empty, "prefer": request.prefer,
            "scale": SCALE, "nodata": NODATA,
            **({} if request.sensor == SENTINEL2 else {"sensor": request.sensor.name}),
        },
        "layer": of_layer(layer),
    }  # fmt: skip


def made_now() -> dict[str, Any]:
    """Return the part of a provenance that tells when and with which versions a result is made."""
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": dict(_versions())}


def of_layer(layer: Layer) -> dict[str, Any]:
    """Return the part of a provenance that identifies a layer."""
    return {
        "path": str(layer.path.absolute()) if layer.path else None, "name": layer.name, "own_name": layer.own_name,
        "crs": layer.crs,
        "features": len(layer), "sha256": layer.identity, "boxes_sha256": _boxes(layer),
        "repaired": list(layer.repaired), "null": list(layer.null), "empty": list(layer.empty),
    }  # fmt: skip


def _boxes(layer: Layer) -> str:
    """Return the SHA-256 (hex) of CRS and boxes of all features, which survives a change of the layer's format."""
    # A millimetre, or a centimetre where they are degrees: what GeoJSON keeps.
    decimals = 7 if np.nanmax(np.abs(layer.bounds), initial=0) <= 360 else 3
    return hashlib.sha256(layer.crs.encode() + (np.round(layer.bounds, decimals) + 0.0).tobytes()).hexdigest()


@functools.cache  # a compilation writes hundreds of files, and finding a version reads one
def _versions() -> tuple[tuple[str, str], ...]:
    return ("python", platform.python_version()), *((name, importlib.metadata.version(name)) for name in _VERSIONS)


# ------------------------------------------------------------------------------------------------------ what is there

_TABLES = (".csv", ".parquet", ".gpkg", *MARKED)
_COMPARED = (
    "masks", "units", "pixels", "buffer", "stats", "cover_min", "cover_max", "min_valid", "keep_empty", "prefer",
    "rasters", "bands", "scaled", "table",
)  # fmt: skip
"""Parameters that make it another result; other dates and other products make it a newer or an older one."""
_NAMES = {"masks": "mask", "units": "unit", "pixels": "pixel rule", "stats": "statistics"}
_UNNAMED = "layer"  # the name of every GeoDataFrame without one


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """A table that is about to be written."""

    path: Path
    """The file."""
    note: Mapping[str, Any]
    """What `conditions` returns."""
    columns: Callable[[], Sequence[str]] | None = None
    """Gives its columns; None where a table is replaced whatever its columns are."""
    first_column: str = ""
    """Its first column, where the others are known only after the run; empty where it is not compared."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Tables that will be replaced."""

    known: list[Path]
    """Those whose JSON says that they were made in the same way."""
    unknown: list[Path]
    """Those without a JSON."""

    def sentences(self) -> list[str]:
        """Return a sentence on each of the two, where there are any."""
        found = []
        if self.known:
            found.append(f"{_listed(self.known)} of an earlier run {_are(self.known)} replaced.")
        if self.unknown:
            what = (
                "has no JSON that says how it was" if len(self.unknown) == 1 else "have no JSON that says how they were"
            )
            found.append(f"{_listed(self.unknown)} {what} made, and {_are(self.unknown)} replaced.")
        return found


def check_results(planned: Iterable[PlannedTable]) -> Replaced:
    """Make sure that no existing table is replaced by one that was made in another way; nothing is written.

    Parameters
    ----------
    planned
        All tables that are to be written.

    Raises
    ------
    OutputError
        If a table that is there has another mask, unit, pixel rule, buffer, formula, layer or other parameters, or has
        other columns and no JSON, or if a JSON that is not ours is in the way.
    """
    refused: list[str] = []
    replaced = Replaced([], [])
    notes: dict[int, dict[str, Any]] = {}  # many files of a compilation are made in one way
    for table in planned:
        now = notes.setdefault(id(table.note), {}) or json.loads(to_json(table.note))
        notes[id(table.note)] = now
        beside = _read(table.path.with_suffix(".json"))
        trouble = _trouble(table, now, beside)
        if trouble:
            refused.append(f"{table.path} {trouble}")
        elif is_file(table.path):
            (replaced.known if _made_from(table.path, beside) else replaced.unknown).append(table.path)
    if refused:
        more = f" So {'is' if len(refused) == 2 else 'are'} {len(refused) - 1} more." if len(refused) > 1 else ""
        raise OutputError(
            f"{refused[0]}; choose another folder or name, or replace it with overwrite=True (--overwrite).{more}"
        )
    return replaced


def check_outside_tables(folder: Path) -> None:
    """Make sure that a folder for results is not, and does not lie in, a folder that programs read as one table.

    Raises
    ------
    RequestError
        If it is a table of pixels, a store of chips or another Zarr store, or lies in one.
    """
    for place in (real := Path(os.path.realpath(folder)), *real.parents):
        if _is_table(place):
            where = "is" if place == real else f"lies in {place},"
            raise RequestError(
                f"{folder} {where} a table or store of one result, and other files in it would break it; choose "
                "another folder."
            )


def _is_table(place: Path) -> bool:
    """Whether a folder is a table of pixels of ours, whole or begun, or a Zarr store."""
    if place.suffix == ".parquet":
        return is_folder(place) and is_file(place.with_suffix(".json"))
    return place.suffix == ".zarr" and any(is_file(place / name) for name in (".zgroup", ".zarray", "zarr.json"))


def has_rows(path: Path) -> bool:
    """Tell whether a table is there and has rows."""
    try:
        with path.open("rb") as file:  # opened here, since Arrow takes no path with letters beyond Unicode
            if path.suffix == ".parquet":
                return bool(pq.read_metadata(file).num_rows)
            if path.suffix == ".gpkg":
                return geopackage_has_rows(path)
            if path.suffix in MARKED:
                return bool(_entry_of(path, _read(path.with_suffix(".json"))).get("rows", True))
            return bool(file.readline()) and bool(file.readline().strip())
    except (OSError, pa.ArrowException):
        return False


def empty_tables(paths: Sequence[Path]) -> list[str]:
    """Return a sentence on tables that were written and have no rows; an empty list where there are none."""
    return [f"{_listed(paths)} {'has' if len(paths) == 1 else 'have'} no rows."] if paths else []


def _are(paths: Sequence[Path]) -> str:
    return "is" if len(paths) == 1 else "are"


def _listed(paths: Sequence[Path]) -> str:
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{others}"


def _trouble(table: PlannedTable, now: Mapping[str, Any], beside: object) -> str:
    """Return why a table must not be written, or an empty text; `beside` is the parsed JSON of the existing one."""
    # A CSV and a Parquet file share their JSON, so that either protects the other.
    tables = [table.path, *(table.path.with_suffix(end) for end in _TABLES if end != table.path.suffix)]
    note = table.path.with_suffix(".json")
    # As a layer in GeoJSON; beside a table it may be ours and damaged.
    if not _is_provenance(beside) and (beside or (is_file(note) and not any(map(is_file, tables)))):
        return f"would have its JSON in {note.name}, which is there and is not one of sen2chain"
    for path in filter(is_file, tables):
        former = _made_from(path, beside)
        differ = list(_differences(former, now)) if former else []
        if differ:
            which = "is" if path == table.path else f"would share its JSON with {path.name}, which is"
            return f"{which} another result: {'; '.join(differ)}"
        if path == table.path and (trouble := _of_another_kind(table, is_known=bool(former))):
            return trouble
    return ""


def _of_another_kind(table: PlannedTable, *, is_known: bool) -> str:
    """Return why an existing file is not a result of the planned kind; `is_known` where its JSON tells of it."""
    if table.path.suffix in MARKED:
        return "" if mark_of(table.path) else "is there and is not one of sen2chain"
    there = _columns(table.path)
    if table.first_column:
        first = next(iter(there), "").partition(";")[0]  # some tables for Excel have semicolons
        if first != table.first_column:
            return f"is a table of another kind, with the first column {first!r} in the place of {table.first_column!r}"
    if table.columns:
        wanted = [*table.columns()]
        if there and there[0] != wanted[0]:  # whatever a JSON of the same name says
            return f"is a table of another kind, with the first column {there[0]!r} in the place of {wanted[0]!r}"
        if not is_known and there != wanted:
            return "has other columns, and no JSON says how it was made"
    return ""


def _differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parameters that differ between two provenances; those missing from the former are not compared."""
    before, after = former["parameters"], now["parameters"]
    formulas, wanted = before.get("indices"), after.get("indices", {})
    if isinstance(formulas, dict) and formulas != wanted:
        for name in dict.fromkeys([*formulas, *wanted]):
            if formulas.get(name) != wanted.get(name):
                yield _versus(f"formula of {name}", formulas.get(name, "not there"), wanted.get(name, "not there"))
    for key in _COMPARED:
        if key in before and (before[key] or None) != (after.get(key) or None):
            yield _versus(_NAMES.get(key, key), before[key], after.get(key))
    was, layer = former.get("layer"), now["layer"]
    if isinstance(was, dict) and _is_other_layer(was, layer):
        yield _versus("layer", _called(was), _called(layer))


def _versus(what: str, before: object, after: object) -> str:
    return f"{what} {_text(before)} in the file, {_text(after)} now"


def _text(value: object) -> str:
    if isinstance(value, list):
        between = ", " if any("/" in str(item) for item in value) else "/"  # paths, or names
        return between.join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _called(layer: Mapping[str, Any]) -> str:
    if not layer.get("path"):
        return f"a GeoDataFrame of {layer.get('features', 'some')} features"
    return f"{layer['path']} ({layer.get('own_name') or layer.get('name', '')})".removesuffix(" ()")


def _is_other_layer(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether two layers differ in both path and content."""
    if was.get("sha256") in {None, now["sha256"]} or was.get("boxes_sha256") == now["boxes_sha256"]:
        return False
    if was.get("path") and now["path"] and was.get("own_name", now["own_name"]) == now["own_name"]:
        before, after = PurePath(was["path"]), PurePath(now["path"])
        # Former versions wrote paths as they were given: relative ones are compared as far as they go.
        parts = tuple(part for part in before.parts if part != "..")
        return before != after if before.is_absolute() else after.parts[-len(parts) :] != parts
    unnamed = now["name"] == _UNNAMED
    return unnamed or bool(was.get("path") or now["path"])


def _made_from(path: Path, beside: object) -> dict[str, Any]:
    """Return the provenance of a table, from its own metadata or the JSON beside it; empty where neither has one."""
    text: bytes | None = None
    if path.suffix == ".gpkg":  # whose own note counts alone, since users make files of that kind themselves
        text = geopackage_provenance(path) or b"{}"
    if path.suffix in MARKED and not _entry_of(path, beside):
        return {}
    try:
        if path.suffix == ".parquet":
            with path.open("rb") as file:
                text = (pq.read_schema(file).metadata or {}).get(b"sen2chain")
    except (OSError, pa.ArrowException):
        text = None
    found = _parsed(text) if text else beside
    return found if _is_provenance(found) else {}


def _entry_of(path: Path, beside: object) -> dict[str, Any]:
    """Return what a JSON says of a marked file; empty where it does not tell of this one."""
    files = beside.get("files") if isinstance(beside, dict) else None
    entry = files.get(path.name) if isinstance(files, dict) else None
    mark = mark_of(path)
    return entry if mark and isinstance(entry, dict) and entry.get("mark") == mark else {}


def shared_note(path: Path, note: Mapping[str, Any], rows: int | None = None) -> tuple[dict[str, Any], str]:
    """Return the content of a JSON that several kinds of files share, and the mark for the file that is written.

    Parameters
    ----------
    path
        The file that is about to be written.
    note
        Its provenance.
    rows
        Its rows; None for a file that holds its own provenance.
    """
    before, mark = _read(path.with_suffix(".json")), new_mark()
    files: dict[str, Any] = {}
    known = before.get("files") if _is_provenance(before) else None
    if _is_provenance(before) and isinstance(known, dict) and not [*_differences(before, json.loads(to_json(note)))]:
        files = {name: entry for name, entry in known.items() if is_file(path.parent / name)}
    if rows is not None:
        files[path.name] = {"mark": mark, "rows": rows}
    return {**note, **({"files": files} if files else {})}, mark


def differences(path: Path, note: Mapping[str, Any]) -> list[str] | None:
    """Return how a result differs from the one that a JSON tells of.

    Parameters
    ----------
    path
        The JSON.
    note
        What `conditions` returns for the result that is planned.

    Returns
    -------
    list or None
        Clauses with the parameters that differ; None where the file is missing, damaged, or no provenance.
    """
    former, now = _read(path), json.loads(to_json(note))
    if not _is_provenance(former):
        return None
    before, after = former["parameters"], now["parameters"]
    # Parameters that only some results have.
    own = [key for key in ("bands", "id_field") if before.get(key) != after.get(key)]
    found = [*_differences(former, now), *(_versus(key, before.get(key), after.get(key)) for key in own)]
    return [*dict.fromkeys(found)]  # some of its own are compared for every result


def is_current(path: Path, note: Mapping[str, Any]) -> bool:
    """Tell whether a marked file is there that was made by this version with exactly these parameters and this layer.

    Parameters
    ----------
    path
        The file.
    note
        What `conditions` returns, and other parts of the JSON that have to be the same.
    """
    beside = _read(path.with_suffix(".json"))
    if not is_file(path) or not _is_provenance(beside) or not _entry_of(path, beside):
        return False
    now = json.loads(to_json({**note, "versions": dict(_versions())}))
    return all(beside.get(key) == value for key, value in now.items())


def _is_provenance(found: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(found, dict) and isinstance(found.get("parameters"), dict)


_LARGEST_NOTE = 1 << 30  # bytes; the longest list all images of a large archive


def _read(path: Path) -> object:
    """Return the content of a JSON file; None where it is missing or damaged."""
    try:
        return _parsed(read_limited(path, _LARGEST_NOTE))
    except OSError:
        return None


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # damaged, so it says nothing
        return None


def _columns(path: Path) -> list[str]:
    """Return the names of a table's columns; an empty list where it cannot be read."""
    try:
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix == ".gpkg":
            return geopackage_columns(path)[:1]
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error, pa.ArrowException):
        return []
