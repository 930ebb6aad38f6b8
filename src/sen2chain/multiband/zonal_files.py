"""The files of a result: their names, and what their JSON says before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sen2chain.errors import OutputError, RequestError, choice
from sen2chain.files import absolute
from sen2chain.provenance import PlannedTable, check_outside_tables, of_layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sen2chain.vectors import Layer

SHAPES = ("wide", "long")
"""Shapes of a table."""
SUFFIXES = (".csv", ".parquet")
"""Suffixes of its file."""

_SHAPED = {"wide": "one row per feature", "long": "one row per feature and band"}


def table_file(path: str | Path) -> Path:
    """Return the file of a table as an absolute path.

    Raises
    ------
    RequestError
        If its suffix is not that of a format.
    """
    file = absolute(path)
    if file.suffix.lower() not in SUFFIXES:
        raise RequestError(
            f"{file} does not end with {' or '.join(SUFFIXES)}, the formats of the table; name it {file.stem}.csv, or "
            f"{file.stem}.parquet."
        )
    return file


def conditions_of(parameters: Mapping[str, Any], layer: Layer, shape: str) -> dict[str, dict[str, Any]]:
    """Return the part of a provenance that is known before anything is read."""
    return {"parameters": {**parameters, "table": _SHAPED[shape]}, "layer": of_layer(layer)}


def planned_table(
    path: str | Path, suffix: str, parameters: Mapping[str, Any], layer: Layer, shape: str
) -> PlannedTable:
    """Return the file of a table, for `check_results`.

    Raises
    ------
    OutputError
        If its name has another suffix, or is that of a folder.
    """
    choice("shape", shape, SHAPES)
    file = absolute(path)
    if file.suffix.lower() != suffix:
        raise OutputError(f"{file} does not end with {suffix}; rename it, or choose the format of its suffix.")
    if file.is_dir():
        raise OutputError(f"{file} is a folder; pass the name of a file.")
    check_outside_tables(file.parent)
    return PlannedTable(file, conditions_of(parameters, layer, shape), first_column="fid")


def planned_report(path: str | Path, parameters: Mapping[str, Any], layer: Layer) -> PlannedTable:
    """Return the file of a report, for `check_results`."""
    file = absolute(path)
    check_outside_tables(file.parent)
    return PlannedTable(file, conditions_of(parameters, layer, "wide"), first_column="raster")
