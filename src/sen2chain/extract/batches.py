"""From statistics to rows: every feature ends as a row or as a counted reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.coverage import PLANNED, REASONS
from sen2chain.indices import SCALE
from sen2chain.plan import MaskKind
from sen2chain.reasons import Reason
from sen2chain.rows import Batch
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from sen2chain.coverage import Coverage
    from sen2chain.plan import Output
    from sen2chain.products import ProductId
    from sen2chain.vectors import Layer

    Floats = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.int8]

HAS_VALUES = -1
"""Reason of a row that has values."""
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
class Extracted:
    """Statistics of one output as groups of features become complete."""

    fids: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Positions in the layer, group by group."""
    found: list[Mapping[str, Floats]] = field(default_factory=list)
    """Column -> values, group by group."""

    def add(self, fid: npt.NDArray[np.int64], found: Mapping[str, Floats]) -> None:
        """Take the statistics of a group."""
        self.fids.append(fid)
        self.found.append(found)

    def joined(self) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
        """Return all groups as one table, by fid."""
        fid = np.concatenate(self.fids)
        order = np.argsort(fid)
        return fid[order], {name: np.concatenate([f[name] for f in self.found])[order] for name in self.found[0]}


def filename(product: ProductId, output: Output) -> str:
    """``<L2A id>_<INDEX>_<MASK>.jp2``."""
    suffix = output.clouds.suffix if output.clouds else output.mask.name
    return f"{product}_{output.index.name}_{suffix}.jp2"


def make_batch(
    product: ProductId, output: Output, coverage: Coverage, extracted: Extracted | None, rules: RowRules, note: str
) -> Batch:
    """Turn the statistics of an output into rows, and count the features that have none."""
    state = coverage.state.copy()
    names = ("nbcld", "cldprb", *rules.statistics.columns)
    if extracted is None or not extracted.fids:
        fid, found = np.zeros(0, np.int64), {name: np.zeros(0) for name in ("count", "invalid", "outside", *names)}
    else:
        fid, found = extracted.joined()
    count, nbcld = found["count"], found["nbcld"]
    nodata = found["invalid"] + found["outside"]
    whole = count + nodata
    code = np.full(len(fid), HAS_VALUES, np.int8)
    # 55 of 100 pixels are a share of 0.55, whatever the last digit of the product is.
    code[(count > 0) & (count < rules.min_valid * whole * (1 - 1e-12))] = _CODE[Reason.MIN_VALID]
    code[count == 0] = np.where(nbcld > 0, _CODE[Reason.CLOUD], _CODE[Reason.NO_DATA])[count == 0]
    state[fid] = code
    columns: dict[str, npt.NDArray[np.generic]] = {"fid": fid, "count": count, "nodata": nodata}
    columns |= {name: _scaled(name, found[name], rules) for name in names}
    columns["reason"] = code
    if rules.keep_empty:
        columns = _with_empty(columns, coverage, state)
    else:
        kept = code == HAS_VALUES
        columns = {name: values[kept] for name, values in columns.items()}
    if coverage.plan.weights is None:
        for name in ("count", "nodata", "nbcld"):
            columns[name] = columns[name].astype(np.int64)
    sources = _sources(output)
    return Batch(
        output.index.name, output.mask.name, product, filename(product, output), columns,
        _counted(state), *sources, note,
    )  # fmt: skip


def _with_empty(
    columns: dict[str, npt.NDArray[np.generic]], coverage: Coverage, state: Codes
) -> dict[str, npt.NDArray[np.generic]]:
    """Add a row for each feature that has none; its statistics are empty, its pixels all without data."""
    every: dict[str, npt.NDArray[np.generic]] = {"fid": np.arange(len(state))}
    fid = columns["fid"].astype(np.int64)
    for name, values in columns.items():
        if name in {"fid", "reason"}:
            continue
        full = np.full(len(state), np.nan)
        if name in {"count", "nbcld"}:
            full[:] = 0.0
        elif name == "nodata":
            full[:] = coverage.touched
        full[fid] = values
        every[name] = full
    # Statistics below min_valid are not published.
    below = state == _CODE[Reason.MIN_VALID]
    for name, values in every.items():
        if name not in {"fid", "count", "nodata", "nbcld", "cldprb"}:
            values[below] = np.nan
    every["reason"] = state
    return every


def failed_batch(
    product: ProductId,
    output: Output,
    reason: Reason,
    detail: str,
    layer: Layer,
    rules: RowRules,
) -> Batch:
    """Report an output that gave nothing: every feature has the reason, but for those without a geometry."""
    state = np.full(len(layer), _CODE[reason], np.int8)
    state[list(layer.null)] = _CODE[Reason.NULL_GEOMETRY]
    state[list(layer.empty)] = _CODE[Reason.EMPTY_GEOMETRY]
    n = len(layer) if rules.keep_empty else 0
    columns: dict[str, npt.NDArray[np.generic]] = {"fid": np.arange(n)}
    columns |= {name: np.zeros(n, np.int64) for name in ("count", "nodata", "nbcld")}
    columns |= {name: np.full(n, np.nan) for name in ("cldprb", *rules.statistics.columns)}
    columns["reason"] = state[:n]
    name = filename(product, output)
    return Batch(
        output.index.name, output.mask.name, product, name, columns, _counted(state), *_sources(output), detail
    )


def _counted(state: Codes) -> dict[Reason, int]:
    codes, counts = np.unique(state[state != PLANNED], return_counts=True)
    return {REASONS[c]: int(n) for c, n in zip(codes, counts, strict=True)}


def _sources(output: Output) -> tuple[str, str]:
    value = str(output.value.kind) if output.value else ""
    if output.clouds is None:
        return value, ""
    if output.clouds.kind is MaskKind.COMPUTED:
        return value, f"computed from {' and '.join(output.clouds.rasters)}"
    return value, str(output.clouds.kind)


def _scaled(name: str, values: Floats, rules: RowRules) -> Floats:
    """Bring a column into the units asked for."""
    power = rules.statistics.power(name) if rules.in_index_units and name not in {"nbcld", "cldprb"} else 0
    return values / SCALE**power if power else values
