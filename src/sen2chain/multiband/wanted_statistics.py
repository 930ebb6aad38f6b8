"""The statistics of bands by name, defined as those of indices are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.errors import RequestError, UnknownNameError, items_of, shown
from sen2chain.zonal.statistics import FREQUENCIES, MOMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

COUNTS = ("count", "nodata")
"""Columns that every band has."""
DEFAULT = ("mean", "std", "min", "max")
"""Statistics that every band has, too."""
SHARES = "shares"
"""Statistic that gives a column for each class."""
ALLOWED = ("min", "max", "mean", "std", "median", *MOMENTS, "percentile_<p>", *FREQUENCIES, SHARES)
"""Names for messages."""

_OF_MOMENTS = frozenset({"min", "max", "mean", "std", *MOMENTS})
_PERCENTILE = re.compile(r"percentile_([0-9]{1,3}(?:\.[0-9]{1,20})?)")


@dataclass(frozen=True, slots=True)
class WantedStatistics:
    """The statistics of each band, in the order of their columns."""

    names: tuple[str, ...] = DEFAULT
    """Their names, each once: those of `DEFAULT`, then what is asked for; ``count`` and ``nodata`` come besides."""

    def __post_init__(self) -> None:
        for name in self.names:
            if match := _PERCENTILE.fullmatch(name):
                if float(match[1]) > 100:
                    raise RequestError(f"{name} is not a percentile; allowed: percentile_0 to percentile_100.")
            elif name not in ALLOWED or "<" in name:
                raise UnknownNameError("statistic", name, (*COUNTS, *ALLOWED))

    @classmethod
    def of(cls, names: Iterable[str] | str | None) -> Self:
        """Build from the names of statistics besides the documented ones, or one name; None means no other.

        Raises
        ------
        UnknownNameError
            If a name is not that of a statistic.
        """
        if names is None:
            return cls()
        given = [names] if isinstance(names, str) else items_of("stats", names, '"mean"')
        texts = [name if isinstance(name, str) else shown(name) for name in given]
        return cls(tuple(dict.fromkeys((*DEFAULT, *(name for name in texts if name not in COUNTS)))))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a band, the shares of classes left out."""
        return (*COUNTS, *(name for name in self.names if name != SHARES))

    @property
    def quantiles(self) -> dict[str, float]:
        """Quantile columns and their shares, from 0 to 1."""
        named = {"median": 0.5} if "median" in self.names else {}
        return named | {n: float(m[1]) / 100.0 for n in self.names if (m := _PERCENTILE.fullmatch(n))}

    @property
    def frequencies(self) -> bool:
        """Whether single values are counted."""
        return any(name in FREQUENCIES for name in self.names)

    @property
    def shares(self) -> bool:
        """Whether the shares of classes are wanted."""
        return SHARES in self.names

    @property
    def needs_values(self) -> bool:
        """Whether all values of a feature are needed at once."""
        return any(name not in _OF_MOMENTS for name in self.names)

    def evaluate(
        self, name: str, moments: Floats, ordered: Floats | None, scale: float, offset: float
    ) -> npt.NDArray[np.float64]:
        """Compute a column of one band in physical values.

        Parameters
        ----------
        name
            The statistic.
        moments
            (features, 5) count, sum, squared deviations, smallest and largest stored value.
        ordered
            (features, quantiles + 4) what follows from sorted stored values: quantiles in the order of `quantiles`,
            then median absolute deviation, majority, minority and variety; None where nothing of that is wanted.
        scale, offset
            From stored to physical values; the factor is positive.

        Returns
        -------
        numpy.ndarray
            (features,) of float64, NaN where no pixel is valid.
        """
        count, total, squares, low, high = moments.T
        some = count > 0
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=some)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite ends of features without pixels
            if name in {"min", "max"}:
                found = (low if name == "min" else high) * scale + offset
            elif name == "range":
                found = (high - low) * scale
            elif name in {"mean", "sum", "cv"}:
                found = total * scale + offset * count if name == "sum" else mean * scale + offset
                if name == "cv":
                    std = self.evaluate("std", moments, ordered, scale, offset)
                    found = np.divide(std, found, out=np.full_like(std, np.nan), where=found != 0)
            elif name in {"std", "variance"}:
                variance = np.divide(squares, count, out=np.full_like(squares, np.nan), where=some)
                found = np.sqrt(variance) * scale if name == "std" else variance * scale**2
            else:
                found = self._of_order(name, ordered, scale, offset)
        return np.where(some, found, np.nan)

    def _of_order(self, name: str, ordered: Floats | None, scale: float, offset: float) -> Floats:
        assert ordered is not None  # noqa: S101  # `needs_values` says so
        quantiles = list(self.quantiles)
        if name in quantiles:
            found: Floats = ordered[:, quantiles.index(name)] * scale + offset
            return found
        stored: Floats = ordered[:, len(quantiles) + FREQUENCIES.index(name)]
        if name == "mad":
            return stored * scale
        return stored if name == "variety" else stored * scale + offset
