"""Tables of the benchmark: medians of measurements that are repeated in turn, written as Markdown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_VERSIONS = ("rasterio", "numba", "pyarrow", "exactextract", "rasterstats", "extractrs", "distributed")


@dataclass
class Table:
    """One table of the result."""

    title: str
    text: str
    rows: list[Mapping[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, cells: Mapping[str, str]) -> None:
        """Add a row; the first one names the columns."""
        self.rows.append(cells)

    def lines(self) -> list[str]:
        """Write it as Markdown."""
        found = ["", f"### {self.title}", "", self.text, ""]
        if self.rows:
            head = list(self.rows[0])
            found += [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
            found += [f"| {' | '.join(row[name] for name in head)} |" for row in self.rows]
        return [*found, "", *(f"- {note}" for note in self.notes)]


@dataclass
class Report:
    """All tables of a run."""

    repeats: int
    """Number of measurements for a median."""
    patience: float
    """Duration in seconds from which a contender is measured only once."""
    tables: list[Table] = field(default_factory=list)

    def table(self, title: str, text: str) -> Table:
        """Begin a table."""
        self.tables.append(Table(title, text))
        return self.tables[-1]

    def measure(self, what: str, contenders: Mapping[str, Callable[[], float]]) -> dict[str, float]:
        """Measure contenders in turn, after a round that does not count, and return the median of each."""
        seconds: dict[str, list[float]] = {}
        for _ in range(self.repeats + 1):
            for name, run in contenders.items():
                if seconds.get(name, [0.0])[0] < self.patience or name in {"sen2chain", "plain decoding"}:
                    seconds.setdefault(name, []).append(run())
        # The first round fills the disk's cache, compiles and saves plans.
        medians = {name: statistics.median(times[1:] or times) for name, times in seconds.items()}
        print(f"{what}: " + ", ".join(f"{n} {t:.3f} ({len(seconds[n])})" for n, t in medians.items()), flush=True)
        return medians

    def write(self, path: Path) -> None:
        """Write all tables to one Markdown file."""
        versions = []
        for name in _VERSIONS:
            try:
                versions.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                versions.append(f"{name} not installed")
        machine = f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})"
        lines = [
            f"Measured on {machine}, Python {platform.python_version()}, {', '.join(versions)}. "  # noqa: ISC004
            f"Each figure is the median of {self.repeats} rounds in turn; "
            f"a peer that takes longer than {self.patience:g} s for a product was measured once.",
        ]
        for table in self.tables:
            lines += table.lines()
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
