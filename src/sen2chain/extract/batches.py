"""Batches of rows from statistics: every feature of the layer ends as a row or as a counted reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.coverage import REASONS, near_tile
from sen2chain.indices import SCALE
from sen2chain.reasons import UNKEPT, Reason
from sen2chain.rows import Batch, Clipped
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from sen2chain.coverage import Coverage
    from sen2chain.extract.coverages import Coverages
    from sen2chain.plan import Output, Task
    from sen2chain.products import ProductId
    from sen2chain.vectors import Layer

    Floats = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.int8]

HAS_VALUES = -1
"""Reason of a row that has values."""
COUNTED = ("count", "invalid", "outside", "clipped")
"""Counts of a feature's pixels that `make_batch` needs besides the columns of rows; the last is no weighted one."""
_UNKEPT = (
    "Pixels of features are not kept: clouds hid them in the run that kept pixels, or its layer and buffer did not "
    "reach them; name the archive, or keep bands by their names, which keeps all features (--keep-pixels B04,B08, with "
    "this layer and the same --buffer)."
)
_OF_KEPT_PIXELS = (*UNKEPT, Reason.UNREADABLE)
"""Reasons of outputs that only kept pixels have before anything is read."""
_CODE = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class RowRules:
    """What becomes a row."""

    statistics: Statistics = field(default_factory=Statistics)
    """The columns."""
    min_valid: float = 0.0
    """Rows with a smaller share of valid pixels are left out."""
    in_index_units: bool = False
    """Whether values are written as 0.72 instead of 7200."""
    keep_empty: bool = False
    """Whether features without a valid pixel have a row too, with the reason."""


@dataclass(slots=True, eq=False)
class OutputStatistics:
    """Statistics of one output as groups of features become complete."""

    features: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Positions in the coverage, group by group."""
    found: list[Mapping[str, Floats]] = field(default_factory=list)
    """Column -> values, group by group."""

    def add(self, features: npt.NDArray[np.int64], found: Mapping[str, Floats]) -> None:
        """Take the statistics of a group."""
        self.features.append(features)
        self.found.append(found)

    def joined(self) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
        """Return all groups as one table: positions in the coverage, ascending, and column -> values."""
        features = np.concatenate(self.features)
        order = np.argsort(features)
        return features[order], {name: np.concatenate([f[name] for f in self.found])[order] for name in self.found[0]}


def filename(product: ProductId, output: Output) -> str:
    """``<L2A id>_<INDEX>_<MASK>.jp2``."""
    suffix = output.clouds.suffix if output.clouds else output.mask.name
    return f"{product}_{output.index.name}_{suffix}.jp2"


def make_batch(
    product: ProductId,
    output: Output,
    coverage: Coverage,
    statistics: OutputStatistics | None,
    layer: Layer,
    rules: RowRules,
    note: str,
    removed: Codes | None = None,
) -> Batch:
    """Turn the statistics of an output into rows, and count the features that have none.

    Parameters
    ----------
    product, output
        The acquisition's product, and the index and mask of the rows.
    coverage
        The layer's pixels on the product's grid.
    statistics
        Statistics of the features whose pixels were read; None where there are none.
    layer
        The layer; it is only used where every feature gets a row.
    rules
        Which features get a row, with which columns.
    note
        Sentences on missing rasters, for the report.
    removed
        Reasons of the features whose values were not read, see `RemovedFeatures.reasons`; they get no row.
    """
    state = coverage.state.copy()
    names = ("nbcld", "cldprb", *rules.statistics.columns)
    if statistics is None or not statistics.features:
        features, found = np.zeros(0, np.int64), {n: np.zeros(0) for n in (*COUNTED, *names)}
    else:
        features, found = statistics.joined()
    count, nbcld = found["count"], found["nbcld"]
    nodata = found["invalid"] + found["outside"]
    whole = count + nodata
    code = np.full(len(features), HAS_VALUES, np.int8)
    # 55 of 100 pixels are a share of 0.55 in spite of rounding.
    code[(count > 0) & (count < rules.min_valid * whole * (1 - 1e-12))] = _CODE[Reason.MIN_VALID]
    code[count == 0] = np.where(nbcld > 0, _CODE[Reason.CLOUD], _CODE[Reason.NO_DATA])[count == 0]
    state[features] = code
    if removed is not None:
        state = np.where(removed == HAS_VALUES, state, removed)
        code = state[features]
    columns: dict[str, npt.NDArray[np.generic]] = {"fid": coverage.fid[features], "count": count, "nodata": nodata}
    columns |= {name: _scaled(name, found[name], rules) for name in names}
    columns["reason"] = code
    kept = code == HAS_VALUES
    clipped = found["clipped"][kept]
    if clipped.any():
        index = output.index
        what = Clipped(index.name, int(clipped.sum()), int((clipped > 0).sum()), index.lowest, index.highest)
        note = f"{note} {what.sentence()}".strip()
    unknown = None if removed is None else coverage.fid[removed == _CODE[Reason.NOT_KEPT]]
    if unknown is not None and len(unknown):
        note = f"{_UNKEPT} {note}".strip()
    if rules.keep_empty:
        if removed is not None:  # of these, what was read says nothing
            columns = {name: values[removed[features] == HAS_VALUES] for name, values in columns.items()}
        columns = _with_empty(columns, coverage, state, layer)
    else:
        columns = {name: values[kept] for name, values in columns.items()}
    if coverage.plan.weights is None:
        for name in ("count", "nodata", "nbcld"):
            columns[name] = columns[name].astype(np.int64)
    sources = _sources(output)
    return Batch(
        output.index.name, output.mask.name, product, filename(product, output), columns,
        coverage.reasons(state), *sources, " ".join(filter(None, (output.note, note))), unknown,
    )  # fmt: skip


def _with_empty(
    columns: dict[str, npt.NDArray[np.generic]], coverage: Coverage, state: Codes, layer: Layer
) -> dict[str, npt.NDArray[np.generic]]:
    """Add a row for each feature of the layer that has none; its statistics are empty, its pixels all without data."""
    n = len(layer)
    codes = _every_code(layer, Reason.OUTSIDE_TILE)
    codes[coverage.fid] = state
    every: dict[str, npt.NDArray[np.generic]] = {"fid": np.arange(n)}
    fid = columns["fid"].astype(np.int64)
    for name, values in columns.items():
        if name in {"fid", "reason"}:
            continue
        full = np.full(n, 0.0 if name in {"count", "nodata", "nbcld"} else np.nan)
        if name == "nodata":
            full[coverage.fid] = coverage.plan.total
        full[fid] = values
        every[name] = full
    # Statistics below min_valid are not published.
    below = codes == _CODE[Reason.MIN_VALID]
    for name, values in every.items():
        if name not in {"fid", "count", "nodata", "nbcld", "cldprb"}:
            values[below] = np.nan
    every["reason"] = codes
    return every


def _every_code(layer: Layer, reason: Reason) -> Codes:
    """Code of every feature of a layer, (features,): that of its geometry where this is the cause, else `reason`."""
    codes = np.full(len(layer), _CODE[reason], np.int8)
    codes[list(layer.null)] = _CODE[Reason.NULL_GEOMETRY]
    codes[list(layer.empty)] = _CODE[Reason.EMPTY_GEOMETRY]
    return codes


def failed_batch(
    product: ProductId,
    output: Output,
    reason: Reason,
    detail: str,
    layer: Layer,
    rules: RowRules,
    unknown: npt.NDArray[np.int64] | None = None,
) -> Batch:
    """Report an output without results: every feature has the reason, except those without a geometry.

    Where only kept pixels are at hand, `unknown` are the features of `Batch.unknown`.
    """
    n = len(layer) if rules.keep_empty else 0
    columns: dict[str, npt.NDArray[np.generic]] = {"fid": np.arange(n)}
    columns |= {name: np.zeros(n, np.int64) for name in ("count", "nodata", "nbcld")}
    columns |= {name: np.full(n, np.nan) for name in ("cldprb", *rules.statistics.columns)}
    columns["reason"] = _every_code(layer, reason) if rules.keep_empty else np.zeros(0, np.int8)
    counts = {Reason.NULL_GEOMETRY: len(layer.null), Reason.EMPTY_GEOMETRY: len(layer.empty)}
    counts[reason] = len(layer) - sum(counts.values())
    return Batch(
        output.index.name, output.mask.name, product, filename(product, output), columns,
        {reason: n for reason, n in counts.items() if n}, *_sources(output), detail, unknown,
    )  # fmt: skip


def unknown_features(task: Task, output: Output, coverages: Coverages) -> npt.NDArray[np.int64] | None:
    """Return the features of `Batch.unknown` of an output without results; None where it is of an archive.

    Parameters
    ----------
    task, output
        The acquisition, and the index and mask.
    coverages
        The layer's pixels.
    """
    if not task.has_kept_pixels_alone and output.reason not in _OF_KEPT_PIXELS:
        return None
    layer = coverages.layer
    return near_tile(layer.bounds, layer.crs, task.product.tile, coverages.buffer)


def _sources(output: Output) -> tuple[str, str]:
    return output.value.label if output.value else "", output.clouds.label if output.clouds else ""


def _scaled(name: str, values: Floats, rules: RowRules) -> Floats:
    """Bring a column into the units asked for."""
    power = rules.statistics.power(name) if rules.in_index_units and name not in {"nbcld", "cldprb"} else 0
    return values / SCALE**power if power else values
