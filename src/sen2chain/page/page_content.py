"""What a page holds: the features, the rows of each index under each mask, and the account of the run."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sen2chain.errors import RequestError
from sen2chain.legends import fixed_legend, legend_of
from sen2chain.page.encoding import packed, packed_json, quantised, size_of
from sen2chain.page.page_rows import FULL, SHORT, PageRows, estimated_size, seconds_of, statistics_of
from sen2chain.page.page_shapes import packed_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.index_series import IndexSeries, LayerFeatures

    Fids = npt.NDArray[np.int64]

LARGEST = 20_000_000
"""Bytes of a page that a browser still opens quickly, and that an e-mail takes."""

_COMFORTABLE = 10_000_000  # bytes up to which a page has all the usual statistics
_FRAME = 750_000  # bytes of scripts and styles
_LONGEST_TEXT = 300
_EXACT = 2**53  # from here on a browser's numbers are not every whole number


@dataclass(frozen=True)
class RunAccount:
    """What a page tells about the run besides its rows."""

    reasons: Sequence[Mapping[str, Any]] = ()
    """For each index and mask: ``index``, ``mask``, ``acquisitions``, ``rows``, ``why`` there are none, and ``counts``:
    (name, sentence, number) of features left out for each reason."""
    remarks: Sequence[str] = ()
    """Errors and remarks of the report."""
    notes: Sequence[str] = ()
    """Sentences on the layer and the archive."""
    facts: Sequence[tuple[str, str]] = ()
    """Names and values of parameters, versions and the layer's identity."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Smoothed curves of an index under a mask."""

    name: str
    """What they are, for people."""
    points: Mapping[int, tuple[npt.NDArray[np.datetime64], npt.NDArray[np.float64]]]
    """fid -> dates (k,), ascending, and values (k,) in index units."""


@dataclass(frozen=True)
class Chip:
    """A small image of a feature at one time."""

    date: int
    """Seconds since 1970."""
    index: str | None
    """The index that it shows; None for the true colour."""
    mask: str
    """The mask that is hatched."""
    share: float
    """Share of valid pixels, 0 to 1."""
    jpeg: bytes
    """Content of a JPEG file."""


@dataclass(frozen=True, eq=False)
class PageContent:
    """Everything that goes into a page, packed."""

    title: str
    """Title of the document."""
    head: dict[str, Any]
    """What the page needs at once."""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    """Rows of each index under each mask, unpacked when they are shown."""
    chips: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Position of a feature in the page -> its chips."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what was left out, also for the user."""


def content_of(
    series: Sequence[IndexSeries],
    account: RunAccount,
    *,
    features: Any = None,
    statistics: Any = None,
    sample: int | str | None = None,
    curves: Mapping[tuple[str, str], Curves] | None = None,
    chips: Mapping[int, Sequence[Chip]] | None = None,
) -> PageContent:
    """Gather the content of a page.

    Parameters
    ----------
    series
        The rows of each index under each mask, of one layer.
    account
        What the page tells about the run.
    features
        Features as `LayerFeatures.find` takes them; None is all.
    statistics
        Columns in index units; None takes those of `FULL`, or of `SHORT` where the page would be large.
    sample
        Number of features, taken evenly from the chosen ones; ``fit`` takes as many as the page holds.
    curves
        (index, mask) -> its smoothed curves.
    chips
        fid -> its images by date; these features are always shown.

    Returns
    -------
    PageContent
        The content; its notes name a sample, and statistics that were left out.

    Raises
    ------
    RequestError
        If a feature or a statistic is unknown, or the page would be larger than `LARGEST`.
    """
    layer = series[0].features
    chips = chips or {}
    names = SHORT if statistics is None else statistics_of(statistics, series[0].schema)
    fids, notes = _chosen(series, features, sample, len(names), list(chips))
    known = {"features": packed_json(_table(layer, fids)), "shapes": packed_shapes(layer.geometry[fids], layer.crs)}
    share = len(fids) / max(1, len(layer.names))
    rows = share * sum(one.rows for one in series)
    bare = _FRAME + size_of(known)
    if statistics is None and bare + estimated_size(rows, len(FULL)) <= _COMFORTABLE:
        names = tuple(name for name in FULL if name in series[0].schema.names)
    elif statistics is None:
        notes.append(f"The page has {' and '.join(SHORT)} alone, so that it stays small; statistics= chooses others.")
    expected = bare + estimated_size(rows, len(names))
    if expected > LARGEST and sample == "fit" and len(fids) > 1:
        # Attributes and outlines are larger than was thought before they were looked at.
        return content_of(
            series, account, features=features, statistics=statistics, sample=_fewer(len(fids), expected),
            curves=curves, chips=chips,
        )  # fmt: skip
    if expected > LARGEST:
        raise RequestError(_too_large(expected, len(fids)))
    blocks, outputs = [], []
    for one in series:
        output, block = _output(one, fids, names)
        outputs.append(output)
        smooth = (curves or {}).get((one.index.name, one.mask))
        blocks.append(block | _packed_curves(smooth, fids, float(one.index.scale)))
    head = {
        "layer": layer.name, "count": len(fids), "ofLayer": len(layer.names), "notes": [*notes, *account.notes],
        "remarks": list(account.remarks), "reasons": list(account.reasons), "facts": list(account.facts),
        "outputs": outputs, **known,
    }  # fmt: skip
    title = f"{layer.name} - {', '.join(dict.fromkeys(output['index'] for output in outputs))}"
    images = {int(np.searchsorted(fids, fid)): [_packed_chip(one) for one in chips[fid]] for fid in chips}
    head["chips"] = sorted(images)
    actual = _FRAME + size_of(known) + size_of(blocks) + size_of(list(images.values()))
    if actual > 1.1 * LARGEST and sample == "fit" and len(fids) > max(1, len(images)):
        # Numbers of 32 bits, curves and images are known only now.
        return content_of(
            series, account, features=features, statistics=statistics, sample=_fewer(len(fids), actual),
            curves=curves, chips=chips,
        )  # fmt: skip
    if actual > 1.1 * LARGEST:
        raise RequestError(_too_large(actual, len(fids)))
    return PageContent(title, head, blocks, images, notes)


def _chosen(
    series: Sequence[IndexSeries], features: Any, sample: int | str | None, statistics: int, always: Sequence[int]
) -> tuple[Fids, list[str]]:
    """Return the features of the page, ascending, and a note where they are a sample."""
    every = np.sort(series[0].features.find(features))
    if not len(every):
        raise RequestError("features is empty; name some, or leave it out for all.")
    fids = _sampled(every, sample, _bytes_per_feature(series, statistics))
    if len(fids) == len(every):
        return np.union1d(fids, np.array(always, dtype=np.int64)), []
    fids = np.union1d(fids, np.array(always, dtype=np.int64))
    note = f"The page shows a sample: {len(fids):,} of {len(every):,} features, taken evenly from the layer."
    return fids, [note]


def _packed_curves(curves: Curves | None, fids: Fids, scale: float) -> dict[str, Any]:
    """Return the smoothed curves of the features, as packed arrays; nothing where there is none."""
    points = [] if curves is None else [curves.points.get(fid) for fid in fids.tolist()]
    found = [one for one in points if one is not None]
    if curves is None or not found:
        return {}
    days = np.concatenate([date for date, _ in found]).astype("datetime64[D]").astype(np.int32)
    values = quantised(np.concatenate([value for _, value in found]), scale)
    counts = np.array([0 if one is None else len(one[0]) for one in points], dtype=np.uint32)
    smooth = {"perUnit": values.per_unit, **packed(values.numbers)}
    return {"smooth": {"name": curves.name, "counts": packed(counts), "days": packed(days), "values": smooth}}


def _packed_chip(chip: Chip) -> dict[str, Any]:
    data = base64.b64encode(chip.jpeg).decode("ascii")
    return {
        "date": chip.date, "index": chip.index, "mask": chip.mask, "share": round(100 * chip.share), "data": data,
    }  # fmt: skip


def _bytes_per_feature(series: Sequence[IndexSeries], statistics: int) -> float:
    """Estimate what a feature takes: its rows, and its name, attributes and outline."""
    layer = series[0].features
    rows = sum(one.rows for one in series) / max(1, len(layer.names))
    points = 12 * len(layer.attributes.columns) + 60
    return estimated_size(rows, statistics) + points


def _sampled(fids: Fids, sample: int | str | None, each: float) -> Fids:
    """Return an even sample of features where one is asked for."""
    if sample is None:
        return fids
    if sample == "fit":
        count = int(0.9 * (LARGEST - _FRAME) / max(each, 1.0))
    elif isinstance(sample, int) and not isinstance(sample, bool) and sample > 0:
        count = sample
    else:
        raise RequestError(f"sample is {sample!r}; pass a number of features above 0.")
    count = max(1, count)
    return fids if count >= len(fids) else fids[np.linspace(0, len(fids) - 1, count).round().astype(np.int64)]


def _fewer(features: int, size: float) -> int:
    """Return how many features fit a page, where some make one that is too large."""
    return max(1, int(0.85 * features * (LARGEST - _FRAME) / (size - _FRAME)))


def _too_large(size: float, features: int) -> str:
    fitting = max(1, int(0.9 * features * (LARGEST - _FRAME) / (size - _FRAME)))
    return (
        f"The page of {features:,} features would be about {size / 1e6:,.0f} MB, more than {LARGEST / 1e6:.0f} MB; "
        f"choose some with features=, take a sample, as sample={fitting}, or ask for fewer indices, masks or dates."
    )


def _output(one: IndexSeries, fids: Fids, statistics: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the page tells of an index under a mask, and its rows."""
    rows = PageRows.read(one, fids, statistics)
    every = {name: one.days.get(name, np.array([], "datetime64[s]")) for name in rows.tile_names}
    legend = legend_of(one.index, rows.numbers["mean"])
    period = [int(rows.times.min()), int(rows.times.max())] if len(rows.times) else []
    head = {
        "index": one.index.name, "mask": one.mask, "statistics": list(statistics), "rows": len(rows.times),
        "period": period, "low": legend.low, "high": legend.high, "colours": list(legend.colours),
        "isFitted": fixed_legend(one.index) is None,
    }  # fmt: skip
    return head, {**rows.packed(len(fids), seconds_of(iter(every.values()))), "tileNames": list(rows.tile_names)}


def _table(layer: LayerFeatures, fids: Fids) -> dict[str, Any]:
    """Return names and attributes of features, column by column."""
    attributes = layer.attributes.iloc[fids]
    return {
        "fid": fids.tolist(),
        "name": [layer.names[fid][:_LONGEST_TEXT] for fid in fids],
        "columns": [
            {"name": str(name), **_column(attributes.iloc[:, place])} for place, name in enumerate(attributes.columns)
        ],
    }


def _column(column: pd.Series[Any]) -> dict[str, Any]:
    """Return the values of an attribute: numbers where a browser can hold each, else texts; None where null."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
        if not (np.abs(numbers) >= _EXACT).any():  # infinite ones too
            whole = pd.api.types.is_integer_dtype(column)
            values = [None if value != value else int(value) if whole else value for value in numbers.tolist()]  # noqa: PLR0124  # NaN
            return {"kind": "number", "values": values}
    return {"kind": "text", "values": [_text(value) for value in column.tolist()]}


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
