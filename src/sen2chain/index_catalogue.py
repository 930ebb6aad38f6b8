"""Indices by name: a table made from the catalogue Awesome Spectral Indices (MIT licence), see its file.

``tools/make_index_catalogue.py`` writes the table. It has every index of the catalogue that bands of 10 m and 20 m
serve, but for those that the twelve of `sen2chain.indices` have under the same name. It is read when it is first asked
for.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One index of the catalogue."""

    name: str
    """Its name there, as it stands in file names."""
    formula: str
    """Formula of bands; constants have the catalogue's default values."""
    title: str
    """Full name."""
    domain: str
    """Field of use: vegetation, water, burn, soil, urban, snow or clouds."""
    reference: str
    """Address of its publication."""
    scale: int
    """Stored values per unit, such that three times the range of plausible surfaces fits into 16 bits."""
    low: float | None
    """Low end of the range of plausible surfaces, for pictures; None where few values lie very far from the others."""
    high: float | None
    """High end of that range."""
    same_as: str
    """The one of the twelve that is the same index under another name; empty where none is."""
    shows: str
    """What it is high on: ``leaf``, ``water``, or an empty text."""


@functools.cache
def _file() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("sen2chain").joinpath("index_catalogue.json").read_text(encoding="utf-8"))
    return found


@functools.cache
def _table() -> dict[str, CatalogueEntry]:
    return {row[0]: CatalogueEntry(*row) for row in _file()["indices"]}


def catalogue() -> Mapping[str, CatalogueEntry]:
    """Return the indices of the catalogue by name, in alphabetical order."""
    return MappingProxyType(_table())


def of_the_twelve(name: str) -> tuple[str, str]:
    """Return domain and reference of one of the twelve; the reference is empty where the catalogue has none."""
    domain, reference = _file()["twelve"][name]
    return domain, reference


@functools.cache
def _by_lower_case() -> dict[str, tuple[CatalogueEntry, ...]]:
    found: dict[str, tuple[CatalogueEntry, ...]] = {}
    for name, entry in _table().items():
        found[name.lower()] = (*found.get(name.lower(), ()), entry)
    return found


def matching(name: str) -> tuple[CatalogueEntry, ...]:
    """Return the index of a name; where none has exactly this name, all that have it but for upper and lower case."""
    exact = _table().get(name)
    return (exact,) if exact is not None else _by_lower_case().get(name.lower(), ())
