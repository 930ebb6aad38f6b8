"""Marks in workbooks and pages: a random text in the file, by which the JSON beside it knows the file.

A workbook, a page and a GeoPackage of one run share a JSON, and users make such files themselves. A CSV or Parquet file
has a JSON of its own, and a GeoPackage holds its whole provenance.
"""

from __future__ import annotations

import re
import secrets
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MARKED = (".xlsx", ".html")
"""Suffixes of files that have a mark."""

PROPERTY = "sen2chain"
"""Name of the mark: a property of the workbook, a ``meta`` element of the page."""

_BEGINNING = 1 << 16  # bytes of a page that hold its head; the policy names the sums of all scripts
_IN_PAGE = re.compile(rb'<meta name="sen2chain" content="([0-9a-f]{16})">')
_IN_WORKBOOK = re.compile(rb'name="sen2chain".{0,200}?<vt:lpwstr>([0-9a-f]{16})</vt:lpwstr>', re.DOTALL)
_LARGEST_PROPERTIES = 1 << 20  # bytes


def new_mark() -> str:
    """Return a new mark: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def mark_of(path: Path) -> str:
    """Return the mark in a file; empty where it has none, so that it is not one of ours."""
    try:
        if path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as book, book.open("docProps/custom.xml") as part:
                found = _IN_WORKBOOK.search(part.read(_LARGEST_PROPERTIES))
        else:
            with path.open("rb") as file:
                found = _IN_PAGE.search(file.read(_BEGINNING))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return ""  # another file of that name
    return found[1].decode() if found else ""
