"""Whether digital numbers still contain the offset of 1000: told from pixels, without any file or catalogue.

Since baseline 04.00 ESA adds 1000 to each digital number (DN), so that negative reflectance can be stored. Some
providers subtract it again, and what they say of it is not always true.
"""

from __future__ import annotations

from enum import StrEnum

OFFSET = -1000.0
"""Offset of all bands in DN, in all products with offsets so far."""
QUANTIFICATION = 10000.0
"""DN per unit of reflectance."""


class Verdict(StrEnum):
    """State of the offset in digital numbers."""

    SUBTRACTED = "subtracted"
    """The provider has subtracted it: DN / 10000 is the reflectance, and what was negative is lost."""
    INCLUDED = "included"
    """It is still in, as ESA delivers them."""
    UNDECIDED = "undecided"
    """It cannot be told."""
