"""The report that people read: the sources and rows of each image, and the reasons why features have no row."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.progress import counted
from sen2chain.reasons import UNKEPT, Reason
from sen2chain.rows import Clipped, Overruled

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from sen2chain.products import ProductId, Skipped
    from sen2chain.rows import Batch

HEAD = ("index", "mask", "tile", "acquisition", "date", "value_source", "mask_source", "rows")
REPORT_COLUMNS = (*HEAD, *(reason.value for reason in Reason), "error")
"""Columns of the report."""

_NATURAL = (Reason.CLOUD, Reason.NO_DATA)
BROKEN = (Reason.UNREADABLE, Reason.GRID_MISMATCH, Reason.FAILED, Reason.CHANGED)
"""Reasons of products that the archive has, and that could not be used."""
LACKING = (Reason.INDEX_INPUTS_MISSING, Reason.MASK_INPUTS_MISSING, *UNKEPT)
"""Reasons of images that the archive, or kept pixels without one, lack the inputs of."""


_TEXTS = ("index", "mask", "tile", "acquisition", "value_source", "mask_source", "error")
_COUNTS = ("rows", *(reason.value for reason in Reason))


@dataclass(slots=True)
class Report:
    """The result of every requested image: one line for each index, mask, tile and acquisition, held as columns."""

    notes: list[str] = field(default_factory=list)
    """Sentences on the layer and the archive as a whole."""
    texts: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _TEXTS})
    """Column -> its texts, (lines,): all of `REPORT_COLUMNS` but the date and the counts."""
    dates: list[dt.datetime | None] = field(default_factory=list)
    """(lines,) sensing time; None in lines without an acquisition of a known name."""
    counts: dict[str, array[int]] = field(default_factory=lambda: {name: array("q") for name in _COUNTS})
    """Column -> its counts, (lines,) int64: rows, then features without a row by reason."""

    def __len__(self) -> int:
        return len(self.dates)

    def add(self, batch: Batch) -> None:
        """Add the line of a batch."""
        self.enter(
            batch.index, batch.mask, batch.product,
            value_source=batch.value_source, mask_source=batch.mask_source,
            rows=batch.rows, reasons=batch.reasons, error=batch.error,
        )  # fmt: skip

    def enter(
        self,
        index: str,
        mask: str,
        product: ProductId,
        *,
        value_source: str,
        mask_source: str,
        rows: int,
        reasons: Mapping[Reason, int],
        error: str,
    ) -> None:
        """Add the line of an index under a mask of a product."""
        texts = (index, mask, product.tile, str(product), value_source, mask_source, error)
        self._line(texts, product.sensing, rows, reasons)

    def add_skipped(self, skipped: Iterable[Skipped], features: int) -> None:
        """Add a line, without index and mask, for each product of the archive that cannot be used."""
        for item in skipped:
            self._line(("", "", item.tile, item.name, "", "", item.detail), None, 0, {item.reason: features})

    def add_far_tile(self, index: str, mask: str, tile: str, reasons: Mapping[Reason, int]) -> None:
        """Add one line for all products of a tile that does not touch the layer."""
        self._line((index, mask, tile, "", "", "", ""), None, 0, reasons)

    def _line(self, texts: tuple[str, ...], date: dt.datetime | None, rows: int, reasons: Mapping[Reason, int]) -> None:
        for name, text in zip(_TEXTS, texts, strict=True):
            self.texts[name].append(text)
        self.dates.append(date)
        self.counts["rows"].append(rows)
        for reason in Reason:
            self.counts[reason.value].append(reasons.get(reason, 0))

    def take(self, lines: Sequence[int]) -> Report:
        """Return a report of some lines, by position, without the notes."""
        return Report(
            [],
            {name: [column[i] for i in lines] for name, column in self.texts.items()},
            [self.dates[i] for i in lines],
            {name: array("q", [column[i] for i in lines]) for name, column in self.counts.items()},
        )

    def about(self, index: str | None, mask: str | None) -> Report:
        """Return the lines of an index and a mask, None for all, and those of products that cannot be used."""
        outputs = zip(self.texts["index"], self.texts["mask"], strict=True)
        return self.take(
            [
                i
                for i, (one, other) in enumerate(outputs)
                if (index is None or one in {index, ""}) and (mask is None or other in {mask, ""})
            ]
        )

    @property
    def rows(self) -> int:
        """Rows with values."""
        return sum(self.counts["rows"])

    @property
    def has_damage(self) -> bool:
        """Whether a product could not be used although the archive has it, or was not kept as far as is needed."""
        return any(any(self.counts[reason.value]) for reason in (*BROKEN, *UNKEPT)) or any(
            self._is_broken(line) for line, index in enumerate(self.texts["index"]) if not index
        )

    def is_incomplete(self, outputs: Iterable[tuple[str, str]]) -> bool:
        """Tell whether a product could not be used, or one of these pairs of index and mask has no row at all."""
        lines = zip(self.texts["index"], self.texts["mask"], self.counts["rows"], strict=True)
        given = {(index, mask) for index, mask, rows in lines if rows}
        return self.has_damage or not set(outputs) <= given

    def totals(self) -> Counter[Reason]:
        """How often each reason left a feature out of a product."""
        counts: Counter[Reason] = Counter()
        for reason in Reason:
            counts[reason] = sum(itertools.compress(self.counts[reason.value], self.texts["index"]))
        return +counts

    def frame(self) -> pd.DataFrame:
        """Return the report as a table of `REPORT_COLUMNS`."""
        import pandas as pd  # noqa: PLC0415  # half a second, for a table that few runs need

        if not len(self):
            return pd.DataFrame(columns=list(REPORT_COLUMNS))
        columns = {**self.texts, "date": self.dates, **{name: list(column) for name, column in self.counts.items()}}
        return pd.DataFrame({name: columns[name] for name in REPORT_COLUMNS})

    def _is_broken(self, line: int) -> bool:
        # A line without an index is of a product that gives nothing at all, as an item without the assets of bands.
        reasons = BROKEN if self.texts["index"][line] else (*BROKEN, *LACKING)
        return any(self.counts[reason.value][line] for reason in reasons)

    def skipped_cause(self) -> str:
        """Return the error of a product that cannot be used, damaged ones first; empty where all can be used."""
        errors = self.texts["error"]
        lines = [i for i, index in enumerate(self.texts["index"]) if errors[i] and not index]
        if not lines:
            return ""
        line = max(lines, key=self._is_broken)
        others = f" The report names {len(lines) - 1} more." if len(lines) > 1 else ""
        return f"{errors[line]}{others}"

    def main_cause(self, told: str = "") -> str:
        """Return the most frequent reason why there is no row, and how to mend it; empty where nothing was left out.

        Parameters
        ----------
        told
            What was said before; a cause that is in it is not told again.
        """
        totals = self.totals()
        located = Counter({r: n for r, n in totals.items() if r not in {Reason.OUTSIDE_TILE, Reason.SUPERSEDED}})
        if not totals:
            return ""
        # Of equally frequent reasons, one that the user can remove.
        reason = max(located, key=lambda r: (located[r], r not in _NATURAL), default=Reason.OUTSIDE_TILE)
        # Of other reasons a line's error is only a note, as that cldprb is empty.
        explained = reason in {*BROKEN, *LACKING}
        errors = itertools.compress(self.texts["error"], self.counts[reason.value]) if explained else iter(())
        example = next(filter(None, errors), "")
        if example and example.rstrip(".") in told:
            return ""
        sentence = f"Most often, {reason.sentence} ({totals[reason]} times)."
        skipped = "" if reason in BROKEN else self.skipped_cause()
        return " ".join(filter(None, (sentence, example or _MENDING.get(reason, ""), skipped)))

    def why_partly(self, outputs: Iterable[tuple[str, str]]) -> str:
        """Return sentences on products that could not be used and on outputs without rows; empty where all went well.

        Parameters
        ----------
        outputs
            Pairs of names, (index, mask), that were requested.
        """
        parts = []
        texts = self.texts
        broken = [i for i in range(len(self)) if self._is_broken(i)]
        if broken:
            products = len({texts["acquisition"][i] for i in broken})
            example = next((texts["error"][i] for i in broken if texts["error"][i]), "see the report")
            parts.append(f"{counted(products, 'product')} could not be used: {example.rstrip('.')}.")
        unkept = [i for i in range(len(self)) if any(self.counts[reason.value][i] for reason in UNKEPT)]
        if unkept:
            products = len({texts["acquisition"][i] for i in unkept})
            example = next((texts["error"][i] for i in unkept if texts["error"][i]), "see the report")
            parts.append(f"Not all that {counted(products, 'product')} needed was kept: {example.rstrip('.')}.")
        for output in outputs:
            named = zip(texts["index"], texts["mask"], strict=True)
            own = self.take([i for i, other in enumerate(named) if other == output])
            if not own.rows:
                parts.append(f"{output[0]} under {output[1]} gave no row. {own.main_cause(' '.join(parts))}".strip())
        return " ".join(parts[:_PARTS])


_PARTS = 3
"""Number of causes that are named in one message."""


def remarks(report: pd.DataFrame, told: str = "") -> list[str]:
    """Return the errors and remarks of a report, errors first, each sentence once with its product or their number.

    Parameters
    ----------
    report
        What `Report.frame` returns.
    told
        What is said elsewhere, with the number of products; what kept pixels lack is not told again.
    """
    said = [Clipped.taken_from(text) for text in report["error"]]
    decided = [Overruled.taken_from(text) for text, _ in said]
    report = report.assign(error=[text for text, _ in decided])
    troubled = report[report["error"] != ""]
    harmful = troubled[[reason.value for reason in (*BROKEN, *LACKING, Reason.UNSUPPORTED_NAME)]].any(axis="columns")
    found = []
    for lines, is_note in ((troubled[harmful], False), (troubled[~harmful], True)):
        for error, group in lines.groupby("error", sort=False):
            if str(error).rstrip(".") in told and group[[reason.value for reason in UNKEPT]].any(axis=None):
                continue
            names = group["acquisition"].unique()
            what, colon, why = str(error).partition(": ")
            if len(names) == 1:
                found.append(f"{names[0]}: {error}")
            elif is_note and colon:
                found.append(f"{what} for {len(names)} products: {why}")
            else:
                found.append(f"{len(names)} products, as {names[0]}: {error}")
    overruled = _overruled(report["acquisition"], [what for _, what in decided])
    return [*found, *overruled, *_clipped(report, [what for _, what in said])]


def _overruled(acquisitions: Iterable[str], found: Sequence[Overruled | None]) -> Iterator[str]:
    """Yield a sentence on each kind of contradiction about offsets, with the number of products and an example."""
    products: dict[Overruled, dict[str, None]] = {}
    for name, what in zip(acquisitions, found, strict=True):
        if what is not None:
            products.setdefault(what, {})[name] = None
    for what, names in products.items():
        example = next(iter(names))
        yield what.sentence(f" of {example}" if len(names) == 1 else f" of {len(names)} products, as {example}")


def _clipped(report: pd.DataFrame, found: Sequence[Clipped | None]) -> Iterator[str]:
    """Yield a sentence on each index under each mask of which values were clipped."""
    outputs: dict[tuple[str, str], list[Clipped]] = {}
    for index, mask, what in zip(report["index"], report["mask"], found, strict=True):
        if what is not None:
            outputs.setdefault((index, mask), []).append(what)
    for (index, mask), parts in outputs.items():
        pixels, rows = sum(part.pixels for part in parts), sum(part.features for part in parts)
        whole = Clipped(f"{index} under {mask}", pixels, rows, parts[0].low, parts[0].high)
        yield whole.sentence("row", f" in {counted(len(parts), 'product')}")


_MENDING = {
    Reason.OUTSIDE_TILE: "Check the layer's CRS and that the archive holds the tile the layer lies in.",
    Reason.OUTSIDE_RASTER: "The archive holds clipped products that do not reach the layer.",
    Reason.NO_PIXEL: "Use pixels='weighted' (--pixels weighted) for features smaller than a pixel.",
    Reason.CLOUD: "Try a longer period or another cloud mask.",
    Reason.NO_DATA: "The swath does not cover the layer on these dates; try a longer period.",
    Reason.MIN_VALID: "Lower min_valid (--min-valid).",
    Reason.EMPTY_GEOMETRY: "Check the layer's geometries.",
    Reason.NULL_GEOMETRY: "Check the layer's geometries.",
    Reason.MASK_REACH: "Name the archive, or keep a wider margin (keep_margin, --keep-margin).",
    Reason.NOT_KEPT: "Name the archive, or keep the pixels of all features: keep_pixels with the names of bands.",
    Reason.BUFFERED_AWAY: "Use a smaller negative buffer.",
}
