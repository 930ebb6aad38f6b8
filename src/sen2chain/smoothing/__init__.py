"""Smooth series of compiled rows: three methods of our own, and the original program's way.

`observations` tells which rows count; `savgol`, `whittaker` and `harmonic` fit curves to them, `outliers` and
`goodness` judge, `smoother` puts these together; `original` stands alone.
"""

from __future__ import annotations

from sen2chain.smoothing.original import OriginalSmooth, read_published, smooth_original, to_csv_text
from sen2chain.smoothing.smoother import METHODS, Smoothed, Smoother, check_any_smoothed

__all__ = [
    "METHODS",
    "OriginalSmooth",
    "Smoothed",
    "Smoother",
    "check_any_smoothed",
    "read_published",
    "smooth_original",
    "to_csv_text",
]
