"""Goodness of fit: errors of smoothed values against observations, and the turns in which observations are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sen2chain.smoothing.observations import Floats, Ints, Observations

FOLDS = 5
"""Observations are left out in so many turns: the 1st, 6th, 11th, ... first, then the 2nd, 7th, 12th, ..."""
SMALLEST_OBSERVED = 0.01
"""Index value below which (without its sign) an observation plays no part in MAPE, whose error would be divided by
next to nothing."""


def folds(observations: Observations) -> Ints:
    """Return the turn, 0 to 4, in which each observation is left out: neighbours always stay."""
    return (np.arange(len(observations.day)) - observations.starts[observations.feature]) % FOLDS


def errors_of(
    observed: Floats, smoothed: Floats, feature: Ints, features: int, *, least: float = SMALLEST_OBSERVED
) -> dict[str, Floats]:
    """Compare smoothed values with observations, for each feature.

    Parameters
    ----------
    observed, smoothed
        (n,) in index units.
    feature
        (n,) position of the feature.
    features
        Number of features.
    least
        Smallest ``|observed|`` that counts for MAPE.

    Returns
    -------
    dict
        With e = smoothed - observed: ``MAE`` = mean of ``|e|``, ``RMSE`` = root of the mean of ``e**2``, both in index
        units, and ``MAPE`` = 100 * mean of ``|e / observed|``, percent; each (features,), NaN where there is nothing
        to take a mean of.
    """
    error = smoothed - observed

    def mean(values: Floats, kept: Ints) -> Floats:
        sums = np.bincount(kept, values, minlength=features)
        found: Floats = sums / np.bincount(kept, minlength=features)
        return found

    relative = np.abs(observed) >= least
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "MAE": mean(np.abs(error), feature),
            "RMSE": np.sqrt(mean(error**2, feature)),
            "MAPE": 100 * mean(np.abs(error[relative] / observed[relative]), feature[relative]),
        }
