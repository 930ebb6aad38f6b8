"""Smooth series from compiled rows: three methods of our own, and the original program's.

`observations` chooses the rows that count; `savgol`, `whittaker` and `harmonic` fit curves to them; `outliers` finds
odd observations, and `goodness` measures the fit; `smoother` combines all of these. `original` is independent of them
but for `observations` and the errors of `goodness`.
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
