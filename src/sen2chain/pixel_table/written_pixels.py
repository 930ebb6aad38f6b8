"""What became of a pixel table: its files, rows and bytes, and what is missing in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.notebook import card
from sen2chain.progress import counted, sized

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from sen2chain.report import Report


@dataclass(frozen=True, slots=True, eq=False)
class WrittenPixels:
    """Result of `TimeSeries.to_pixels`: its text says files, rows and bytes."""

    path: Path
    """The folder that programs open: a Parquet table of many files, or a Zarr store."""
    files: int
    """Files of a table, one for each product; groups of a store, one for each feature and tile."""
    rows: int
    """Pixels, each of them once for each feature and date."""
    bytes: int
    """Size of all files."""
    notes: tuple[str, ...] = ()
    """Sentences on the layer, the archive, and files that were replaced or removed."""
    problems: tuple[str, ...] = ()
    """Sentences on columns that products could not give."""
    _report: Report | None = field(default=None, repr=False)
    _outputs: Sequence[tuple[str, str]] = field(default=(), repr=False)
    _why_nothing: str = field(default="", repr=False)

    @property
    def report(self) -> pd.DataFrame:
        """One line per index, mask, tile and acquisition, as `TimeSeries.report` has."""
        assert self._report is not None  # noqa: S101  # only tests make one without
        return self._report.frame()

    @property
    def incomplete(self) -> bool:
        """Whether a product could not be used, a column is missing, or an index gave nothing at all."""
        return bool(self.problems) or (self._report is not None and self._report.is_incomplete(self._outputs))

    def why_nothing(self) -> str:
        """Return the most likely cause why there is no pixel, and how to mend it; empty where there are pixels."""
        return "" if self.rows else self._why_nothing

    def why_partly(self) -> str:
        """Return what could not be used, and which index or mask gave nothing and why; empty where all went well."""
        said = [] if self._report is None else [self._report.why_partly(self._outputs)]
        return " ".join(filter(None, (*said, *self.problems[:3])))

    def __str__(self) -> str:
        what = "group" if self.path.suffix == ".zarr" else "file"
        size = f"{self.rows:,} row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{counted(self.files, what)}, {size} of pixels, {sized(self.bytes)} in {self.path}"

    def _repr_html_(self) -> str:
        """Show in a notebook what was written."""
        facts = [("Folder", self.path), ("Files", self.files), ("Rows", self.rows), ("Size", sized(self.bytes))]
        store = self.path.suffix == ".zarr"
        next_step = (
            f'xarray.open_zarr("{self.path}", group="TILE/FID")' if store else f'pandas.read_parquet("{self.path}")'
        )
        table = [("Problem",), *((sentence,) for sentence in self.problems)]
        return card("WrittenPixels", facts, next_step, table if self.problems else ())


def problems_of(lacking: Sequence[tuple[str, str, str]], of_what: str = "") -> tuple[str, ...]:
    """Return a sentence on columns that products could not give, one for those with the same reason.

    Parameters
    ----------
    lacking
        (product, column, why) for each.
    of_what
        What they could not give it for, as ``some features of``; empty for all.
    """
    counts = Counter(column for _, column, _ in lacking)
    first: dict[str, tuple[str, str]] = {}
    for product, column, why in lacking:
        first.setdefault(column, (product, why))
    alike: dict[tuple[int, str, str], list[str]] = {}
    for column, count in counts.items():
        alike.setdefault((count, *first[column]), []).append(column)
    return tuple(
        f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'} empty for "
        f"{' '.join(filter(None, (of_what, counted(count, 'product'))))}, as {product}: {why}"
        for (count, product, why), columns in alike.items()
    )
