"""The report that people read: for each image its sources and rows, and why features have none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.progress import counted
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from sen2chain.products import ProductId, Skipped
    from sen2chain.rows import Batch

HEAD = ("index", "mask", "tile", "acquisition", "date", "value_source", "mask_source", "rows")
COLUMNS = (*HEAD, *(reason.value for reason in Reason), "error")
"""Columns of the report."""

_NATURAL = (Reason.CLOUD, Reason.NO_DATA)
BROKEN = (Reason.UNREADABLE, Reason.GRID_MISMATCH, Reason.FAILED, Reason.CHANGED)
"""Reasons of products that the archive has, and that could not be used."""
LACKING = (Reason.INDEX_INPUTS_MISSING, Reason.MASK_INPUTS_MISSING)
"""Reasons of images that the archive lacks the inputs of."""


@dataclass(slots=True)
class Report:
    """What became of everything that was asked for."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    """One for each (index, mask, tile, acquisition); keys are `COLUMNS`."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the layer and the archive as a whole."""

    def add(self, batch: Batch) -> None:
        """Enter what an output gave."""
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
        """Enter what is known of an index under a mask of a product."""
        self._line(
            index, mask, product.tile, str(product), product.sensing, value_source, mask_source, rows, reasons, error
        )

    def add_skipped(self, skipped: Iterable[Skipped], features: int) -> None:
        """Enter what the archive holds and nobody can use; it is no product of any index."""
        for item in skipped:
            self._line("", "", item.tile, item.name, None, "", "", 0, {item.reason: features}, item.detail)

    def add_far_tile(self, index: str, mask: str, tile: str, reasons: Mapping[Reason, int]) -> None:
        """Enter a tile that lies nowhere near the layer, once for all of its products."""
        self._line(index, mask, tile, "", None, "", "", 0, reasons, "")

    def _line(self, *values: Any) -> None:
        *head, reasons, error = values
        line = dict(zip(HEAD, head, strict=True))
        line |= {reason.value: reasons.get(reason, 0) for reason in Reason}
        self.lines.append({**line, "error": error})

    @property
    def rows(self) -> int:
        """Rows with values."""
        return sum(line["rows"] for line in self.lines)

    @property
    def has_damage(self) -> bool:
        """Whether a product could not be used although the archive has it."""
        return any(line[reason.value] for line in self.lines for reason in BROKEN)

    def totals(self) -> Counter[Reason]:
        """How often each reason left a feature out of a product."""
        counts: Counter[Reason] = Counter()
        for line in self.lines:
            for reason in Reason if line["index"] else ():
                counts[reason] += line[reason.value]
        return +counts

    def frame(self) -> pd.DataFrame:
        """Return the report as a table."""
        import pandas as pd  # noqa: PLC0415  # half a second, for a table that few runs need

        return pd.DataFrame(self.lines, columns=list(COLUMNS))

    def skipped_cause(self) -> str:
        """Say what keeps a product of the archive from being used, where there is such a one; damage comes first."""
        lines = [line for line in self.lines if not line["index"] and line["error"]]
        if not lines:
            return ""
        line = max(lines, key=lambda line: any(line[reason.value] for reason in BROKEN))
        others = f" The report names {len(lines) - 1} more." if len(lines) > 1 else ""
        return f"{line['error']}{others}"

    def main_cause(self) -> str:
        """Say why nothing at all came out, and how to mend it; the most likely cause comes first."""
        totals = self.totals()
        located = Counter({r: n for r, n in totals.items() if r not in {Reason.OUTSIDE_TILE, Reason.SUPERSEDED}})
        if not totals:
            return ""
        # Of equals the one is named that somebody can mend.
        reason = max(located, key=lambda r: (located[r], r not in _NATURAL), default=Reason.OUTSIDE_TILE)
        # Of other reasons a line's error is only a note, as that cldprb is empty.
        explained = reason in {*BROKEN, *LACKING}
        example = next((x["error"] for x in self.lines if explained and x[reason.value] and x["error"]), "")
        sentence = f"Most often, {reason.sentence} ({totals[reason]} times)."
        skipped = "" if reason in BROKEN else self.skipped_cause()
        return " ".join(filter(None, (sentence, example or _MENDING.get(reason, ""), skipped)))

    def why_partly(self, outputs: Iterable[tuple[str, str]]) -> str:
        """Say what keeps a run that gave rows from being complete, with an example; empty where nothing does.

        Parameters
        ----------
        outputs
            Names of each index and each mask it was asked for.
        """
        parts = []
        broken = [line for line in self.lines if any(line[reason.value] for reason in BROKEN)]
        if broken:
            products = len({line["acquisition"] for line in broken})
            example = next((line["error"] for line in broken if line["error"]), "see the report")
            parts.append(f"{counted(products, 'product')} could not be used: {example.rstrip('.')}.")
        for index, mask in outputs:
            lines = [line for line in self.lines if (line["index"], line["mask"]) == (index, mask)]
            if not any(line["rows"] for line in lines):
                parts.append(f"{index} under {mask} gave no row. {Report(lines).main_cause()}".strip())
        return " ".join(parts[:_PARTS])


_PARTS = 3
"""Number of causes that are named in one message."""


def remarks(report: pd.DataFrame) -> list[str]:
    """Return what a report says of products, what could not be used first, each sentence once with its products.

    Parameters
    ----------
    report
        What `Report.frame` returns.
    """
    told = report[report["error"] != ""]
    harmful = told[[reason.value for reason in (*BROKEN, *LACKING, Reason.UNSUPPORTED_NAME)]].any(axis="columns")
    found = []
    for lines, is_note in ((told[harmful], False), (told[~harmful], True)):
        for error, group in lines.groupby("error", sort=False):
            names = group["acquisition"].unique()
            what, colon, why = str(error).partition(": ")
            if len(names) == 1:
                found.append(f"{names[0]}: {error}")
            elif is_note and colon:
                found.append(f"{what} for {len(names)} products: {why}")
            else:
                found.append(f"{len(names)} products, as {names[0]}: {error}")
    return found


_MENDING = {
    Reason.OUTSIDE_TILE: "Check the layer's CRS and that the archive holds the tile the layer lies in.",
    Reason.OUTSIDE_RASTER: "The archive holds clipped products that do not reach the layer.",
    Reason.NO_PIXEL: "Use pixels='weighted' (--pixels weighted) for features smaller than a pixel.",
    Reason.CLOUD: "Try a longer period or another cloud mask.",
    Reason.NO_DATA: "The swath does not cover the layer on these dates; try a longer period.",
    Reason.MIN_VALID: "Lower min_valid (--min-valid).",
    Reason.EMPTY_GEOMETRY: "Check the layer's geometries.",
    Reason.NULL_GEOMETRY: "Check the layer's geometries.",
    Reason.BUFFERED_AWAY: "Use a smaller negative buffer.",
}
