"""Tables of the benchmark: medians of measurements that are repeated in turn, written as Markdown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_VERSIONS = ("rasterio", "numba", "pyarrow", "exactextract", "rasterstats", "extractrs", "distributed")


@dataclass
class Table:
    """One table of the result."""

    title: str
    text: str
    rows: list[Mapping[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    order: Sequence[str] = ()
    """First cells of all rows, in order, where a run may measure some of them: the others are kept as they are."""

    def row(self, cells: Mapping[str, str]) -> None:
        """Add a row; the first one names the columns."""
        self.rows.append(cells)

    def keep(self, lines: Sequence[str]) -> None:
        """Take over the rows of an earlier run that were not measured again, from the lines of its table."""
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        head = list(self.rows[0]) if self.rows else cells[0] if cells else []
        if self.order and cells and cells[0] == head:
            ours = {row[head[0]] for row in self.rows}
            earlier = [dict(zip(head, found, strict=True)) for found in cells[1:] if found[0] not in ours]
            known = [row for row in (*self.rows, *earlier) if row[head[0]] in self.order]
            self.rows = sorted(known, key=lambda row: self.order.index(row[head[0]]))

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

    def table(self, title: str, text: str, order: Sequence[str] = ()) -> Table:
        """Begin a table."""
        self.tables.append(Table(title, text, order=order))
        return self.tables[-1]

    def measure(
        self, what: str, contenders: Mapping[str, Callable[[], float]], warm_up: Callable[[], object] | None = None
    ) -> dict[str, float]:
        """Measure contenders in turn, after a round that does not count or a `warm_up`; return the median of each."""
        seconds: dict[str, list[float]] = {}
        if warm_up:
            warm_up()
        for _ in range(self.repeats + (warm_up is None)):
            for name, run in contenders.items():
                if seconds.get(name, [0.0])[0] < self.patience or name in {"sen2chain", "plain decoding"}:
                    seconds.setdefault(name, []).append(run())
        # The first round fills the disk's cache, compiles and saves plans.
        first = 0 if warm_up else 1
        medians = {name: statistics.median(times[first:] or times) for name, times in seconds.items()}
        print(f"{what}: " + ", ".join(f"{n} {t:.3f} ({len(seconds[n])})" for n, t in medians.items()), flush=True)
        return medians

    def write(self, path: Path) -> None:
        """Write all tables to one Markdown file; tables of other parts, from earlier runs, stay in it."""
        versions = []
        for name in _VERSIONS:
            try:
                versions.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                versions.append(f"{name} not installed")
        machine = f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})"
        head = (
            f"Measured on {machine}, Python {platform.python_version()}, {', '.join(versions)}. "
            f"Each figure is the median of {self.repeats} rounds in turn; "
            f"a peer that takes longer than {self.patience:g} s for a product was measured once."
        )
        sections = _sections(path)
        for table in self.tables:
            table.keep(sections.get(table.title, []))
            if table.rows:
                sections[table.title] = table.lines()
        lines = [head, *(line for section in sections.values() for line in section)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sections(path: Path) -> dict[str, list[str]]:
    """Split the file of an earlier run into its tables: title -> lines; empty where there is no such file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {}
    for part in text.split("\n### ")[1:]:
        title, *lines = part.splitlines()
        while lines and not lines[-1]:
            lines.pop()
        found[title] = ["", f"### {title}", *lines]
    return found
