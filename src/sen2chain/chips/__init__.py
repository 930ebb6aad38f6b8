"""Chips: small windows of acquisitions around features, for pictures of them through time.

`chip` is one of them: true colour, index values and masks as arrays. `places` are the windows of features on a grid.
`chip_reader` reads the chips of many acquisitions: each raster is opened once, and each needed block decoded once.
"""

from __future__ import annotations

from sen2chain.chips.chip import Chip
from sen2chain.chips.chip_reader import ChipNotes, read_chips
from sen2chain.chips.places import ChipFeatures, ChipSize, Place, places_on

__all__ = ["Chip", "ChipFeatures", "ChipNotes", "ChipSize", "Place", "places_on", "read_chips"]
