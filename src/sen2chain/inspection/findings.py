"""Findings of a check of an archive: what is wrong, how much it matters, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sen2chain.errors import escaped


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    ERROR = "error"
    """Rows are wrong or missing because of it."""
    WARNING = "warning"
    """It should be looked at; rows may be wrong or missing because of it."""
    NOTE = "note"
    """Good to know; nothing is wrong with the rows."""


class Part(StrEnum):
    """What a check looks for."""

    RASTERS = "rasters"
    """Rasters that cannot be read, or hold what they should not."""
    OFFSETS = "offsets"
    """Dates with a wrong offset, see `sen2chain.inspection.baseline_audit`."""
    DUPLICATES = "duplicates"
    """Acquisitions, products and rasters that are there twice."""
    LEFTOVERS = "leftovers"
    """Files of interrupted work, and files and folders that serve nothing."""


_ZIP = "/vsizip/"
DOWNLOAD = "download the product again"
"""Advice for damage in a product as ESA delivers it, which is never moved."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Severity
    """How much it matters."""
    part: Part
    """What was looked for."""
    item: str
    """File, product or tile, as people know it."""
    sentence: str
    """What is wrong with it, a clause whose subject is the item."""
    advice: str = ""
    """What to do, a clause."""
    tile: str = ""
    """The tile; empty where it is not known."""
    path: str = ""
    """The file that ``fix`` moves aside, or the empty folder that it removes; else empty."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "item", escaped(self.item))
        for name in ("sentence", "advice"):  # errors of GDAL have several lines, and name files by its own paths
            text = " ".join(getattr(self, name).replace(_ZIP, "").split())
            object.__setattr__(self, name, escaped(text))

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.severity}: {self.item} {self.sentence}{advice}."
