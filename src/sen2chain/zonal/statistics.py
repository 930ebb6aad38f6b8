"""Statistics by name: the names that users may pass, their columns, and the kernels that compute them.

The documentation's page "Statistics" defines each of them; tests compare each with numpy, rasterstats and exactextract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.errors import RequestError, UnknownNameError, quoted, shown
from sen2chain.indices import SCALE
from sen2chain.sensor import SENTINEL2, Sensor
from sen2chain.zonal import reduce, tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

BASE = ("min", "max", "mean", "std", "median", "percentile_25", "percentile_75")
"""Columns that every result has, in the documented order."""
MOMENTS = ("sum", "variance", "range", "cv")
FREQUENCIES = ("mad", "majority", "minority", "variety")
_FORMS = ("percentile_<p>", "histogram", "histogram:<low>:<high>:<bins>")

# Powers of the index's scale that a column carries; a column that is absent here has no unit.
_POWER = {
    "min": 1, "max": 1, "mean": 1, "std": 1, "median": 1, "sum": 1, "range": 1, "variance": 2, "mad": 1,
    "majority": 1, "minority": 1,
}  # fmt: skip
_PERCENTILE = re.compile(r"percentile_([0-9]{1,3}(?:\.[0-9]{1,20})?)")
_MAX_BINS = 1000
_FARTHEST = 1e6
_NO_WEIGHTS = np.zeros(0, np.float32)

DEFINITIONS: Mapping[str, str] = {
    "count": "valid pixels of the polygon",
    "nodata": "pixels of the polygon that are masked, without data, or outside the raster",
    "nbcld": "the part of nodata that the cloud mask alone removed",
    "cldprb": "mean cloud probability over the 20 m pixels whose centre is inside, percent",
    "min": "smallest valid value",
    "max": "largest valid value",
    "mean": "arithmetic mean of the valid values",
    "std": "population standard deviation of the valid values",
    "median": "median of the valid values",
    "sum": "sum of the valid values",
    "variance": "population variance of the valid values",
    "range": "max - min",
    "cv": "coefficient of variation, std / mean",
    "mad": "median absolute deviation from the median",
    "majority": "most frequent value, the smallest of equals",
    "minority": "least frequent value, the smallest of equals",
    "variety": "number of different values",
}
"""One line for each column; percentiles, histogram bins and class shares are described by `Statistics.define`."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Equal bins over a range of the index."""

    low: float = -1.0
    high: float = 1.0
    bins: int = 20

    def stored_range(self, scale: int = SCALE) -> tuple[float, float]:
        """Return the range in stored values of a scale; 0.57 is 5700 there, not 5699.999..."""
        return round(self.low * scale, 6), round(self.high * scale, 6)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names: below, one per bin by its lower edge, above."""
        edges = self.low + (self.high - self.low) / self.bins * np.arange(self.bins)
        return ("hist_below", *(f"hist_{edge:.10g}" for edge in np.round(edges, 12) + 0.0), "hist_above")


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of one run: the documented columns, and further ones on request."""

    extra: tuple[str, ...] = ()
    """Statistics beyond `BASE`, as the user named them."""
    sensor: Sensor = field(default=SENTINEL2, compare=False, repr=False)
    """The sensor, whose scene classification has the classes of ``scl_fractions``."""

    def __post_init__(self) -> None:
        for name in self.extra:
            if name in MOMENTS or name in FREQUENCIES or name == self._fractions or name in BASE:
                continue
            if match := _PERCENTILE.fullmatch(name):
                if float(match[1]) > 100:
                    raise RequestError(f"{name} is not a percentile; allowed: percentile_0 to percentile_100.")
            elif name.partition(":")[0] == "histogram":
                _histogram(name)
            else:
                raise UnknownNameError("statistic", name, allowed(self.sensor))
        if sum(name.startswith("histogram") for name in self.extra) > 1:
            raise RequestError("Several histograms are asked for; a run takes one.")

    @classmethod
    def of(cls, names: Iterable[str] | str | None, sensor: Sensor = SENTINEL2) -> Statistics:
        """Build from a list of names, or one; None means the documented columns only.

        Raises
        ------
        UnknownNameError
            If a name is not that of a statistic.
        """
        if names is None:
            return cls(sensor=sensor)
        try:
            given = [names] if isinstance(names, str) else list(names)
        except TypeError:
            raise UnknownNameError("statistic", names, allowed(sensor)) from None
        return cls(tuple(dict.fromkeys(n for n in map(_name, given) if n not in BASE)), sensor)

    @property
    def quantiles(self) -> dict[str, float]:
        """Quantile columns and their shares."""
        named = {"median": 0.5, "percentile_25": 0.25, "percentile_75": 0.75}
        return named | {n: float(m[1]) / 100.0 for n in self.extra if (m := _PERCENTILE.fullmatch(n))}

    @property
    def histogram(self) -> Histogram | None:
        """The histogram asked for, if any."""
        return next((_histogram(n) for n in self.extra if n.startswith("histogram")), None)

    @property
    def needs_scl(self) -> bool:
        """Whether the scene classification is read even where the mask does not need it."""
        return self._fractions in self.extra

    @property
    def _fractions(self) -> str | None:
        """Name of the statistic of class shares, as ``scl_fractions``; None where the sensor has no classes."""
        return _fractions(self.sensor)

    @property
    def class_columns(self) -> tuple[str, ...]:
        """Columns of the shares of the classes of the scene classification, as ``scl_0``, by class."""
        raster = (self.sensor.classification or "").lower()
        return tuple(f"{raster}_{c}" for c in range(len(self.sensor.classes)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns after ``cldprb``, in order."""
        columns: list[str] = list(BASE)
        for name in self.extra:
            if name == self._fractions:
                columns += self.class_columns
            elif name.startswith("histogram"):
                columns += _histogram(name).columns
            else:
                columns.append(name)
        return tuple(columns)

    def define(self, column: str) -> str:
        """Return the definition of a column in one line."""
        if match := _PERCENTILE.fullmatch(column):
            return f"{match[1]}th percentile of the valid values, linear interpolation"
        if column.startswith("hist_"):
            return "valid pixels in the bin that begins at this index value (or below, above all bins)"
        if column in self.class_columns:
            number = self.class_columns.index(column)
            raster = self.sensor.classification
            return f"share of the polygon's pixels in {raster} class {number}: {self.sensor.classes[number]}"
        return DEFINITIONS[column]

    def power(self, column: str) -> int:
        """Return the power of the index's scale in a column: 1 for a mean, 2 for a variance, 0 for a count."""
        return 1 if _PERCENTILE.fullmatch(column) else _POWER.get(column, 0)

    def reduce(
        self,
        values: npt.NDArray[np.int16],
        cloud: npt.NDArray[np.uint8],
        bit: int,
        offsets: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float32] | None,
        scale: int = SCALE,
    ) -> dict[str, Floats]:
        """Reduce the collected pixels of features.

        Parameters
        ----------
        values
            (pixels,) stored index values, 32767 for no data.
        cloud, bit
            (pixels,) bits of the masks, and the bit of the mask to apply.
        offsets
            (features + 1,) ``offsets[f]:offsets[f + 1]`` are the pixels of feature f.
        weights
            (pixels,) shares of the pixels' area, or None where each counts 1.
        scale
            Stored values per unit of the index.

        Returns
        -------
        dict
            Column -> (features,) float64, values times 10000 whatever the scale: ``count``, ``nbcld``, ``invalid``
            (pixels inside the raster that are not valid) and the statistics, NaN where no pixel is valid; the shares of
            classes excepted.
        """
        shares = np.array(list(self.quantiles.values()))
        if weights is None:
            table = reduce.reduce_counted(values, cloud, bit, offsets, shares)
        else:
            table = reduce.reduce_weighted(values, cloud, bit, offsets, weights, shares)
        own = _NO_WEIGHTS if weights is None else weights
        frequencies = histogram = None
        if self._needs_frequencies:
            frequencies = reduce.reduce_frequencies(values, cloud, bit, offsets, own)
        if (bins := self.histogram) is not None:
            histogram = reduce.reduce_histogram(values, cloud, bit, offsets, own, *bins.stored_range(scale), bins.bins)
        return self._columns(table, frequencies, histogram, scale)

    @property
    def _needs_frequencies(self) -> bool:
        return any(name in FREQUENCIES for name in self.extra)

    def _columns(
        self, table: Floats, frequencies: Floats | None, histogram: Floats | None, scale: int
    ) -> dict[str, Floats]:
        """Name the kernels' columns, and derive those that follow from others."""
        std = np.sqrt(table[:, reduce.VARIANCE])
        found = {
            "count": table[:, reduce.COUNT], "nbcld": table[:, reduce.CLOUD], "invalid": table[:, reduce.INVALID],
            "min": table[:, reduce.MIN], "max": table[:, reduce.MAX], "mean": table[:, reduce.MEAN], "std": std,
            "sum": table[:, reduce.SUM], "variance": table[:, reduce.VARIANCE],
        }  # fmt: skip
        found |= {name: table[:, reduce.N_MOMENTS + i] for i, name in enumerate(self.quantiles)}
        if "range" in self.extra:
            found["range"] = found["max"] - found["min"]
        if "cv" in self.extra:
            mean = found["mean"]
            found["cv"] = np.divide(std, mean, out=np.full_like(std, np.nan), where=mean != 0)
        if frequencies is not None:
            found |= {name: frequencies[:, i] for i, name in enumerate(FREQUENCIES)}
        if histogram is not None and self.histogram is not None:
            found |= {name: histogram[:, i] for i, name in enumerate(self.histogram.columns)}
        if scale == SCALE:
            return found
        factor = SCALE // scale  # whole, so that a smallest value stays a whole number
        return {name: values * float(factor ** self.power(name)) for name, values in found.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The pixels of one very large feature counted by value, so that they need not be kept."""

    weighted: bool
    """Whether pixels count with their weight."""
    counts: Floats = field(default_factory=lambda: np.zeros(65536))
    """Sums by value + 32768."""
    left_out: Floats = field(default_factory=lambda: np.zeros(2))
    """Cloud pixels, and all that are not valid."""

    def add(
        self,
        values: npt.NDArray[np.int16],
        cloud: npt.NDArray[np.uint8],
        bit: int,
        weights: npt.NDArray[np.float32] | None,
    ) -> None:
        """Count more pixels."""
        own = _NO_WEIGHTS if weights is None else weights
        tally.add_to_tally(values, cloud, bit, own, self.counts, self.left_out)

    def reduce(self, statistics: Statistics, scale: int = SCALE) -> dict[str, Floats]:
        """Compute the columns of `Statistics.reduce` for the pixels that were added, as arrays of one feature."""
        shares = np.array(list(statistics.quantiles.values()))
        table = tally.reduce_tally(self.counts, self.left_out, self.weighted, shares)
        frequencies = histogram = None
        if statistics._needs_frequencies:  # noqa: SLF001  # a value of the same package
            frequencies = tally.tally_frequencies(self.counts, self.weighted)
        if (bins := statistics.histogram) is not None:
            histogram = tally.tally_histogram(self.counts, *bins.stored_range(scale), bins.bins)
        return statistics._columns(table, frequencies, histogram, scale)  # noqa: SLF001


def _name(given: object) -> str:
    return given if isinstance(given, str) else shown(given)


def _fractions(sensor: Sensor) -> str | None:
    return f"{sensor.classification.lower()}_fractions" if sensor.classification else None


def allowed(sensor: Sensor = SENTINEL2) -> tuple[str, ...]:
    """Names of the statistics that a request may add for a sensor, for messages."""
    fractions = _fractions(sensor)
    return (*MOMENTS, *FREQUENCIES, *_FORMS, *((fractions,) if fractions else ()))


def _histogram(name: str) -> Histogram:
    """Read ``histogram`` or ``histogram:<low>:<high>:<bins>``."""
    parts = name.split(":")[1:]
    if not parts:
        return Histogram()
    try:
        low, high, bins = float(parts[0]), float(parts[1]), int(parts[2])
        good = len(parts) == 3 and -_FARTHEST <= low < high <= _FARTHEST and 1 <= bins <= _MAX_BINS
        # Bins that are too narrow for their names would share one.
        good = good and len(set(Histogram(low, high, bins).columns)) == bins + 2
    except (ValueError, IndexError):
        good = False
    if not good:
        raise RequestError(
            f"{quoted(name)} is not a histogram; use histogram:<low>:<high>:<bins> in index units from "
            f"{-_FARTHEST:.0f} to {_FARTHEST:.0f}, with 1 to {_MAX_BINS} bins, as in histogram:-1:1:20."
        )
    return Histogram(low, high, bins)
