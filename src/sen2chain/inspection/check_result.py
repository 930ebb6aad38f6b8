"""Result of a check of an archive: its findings as text, table and plain values."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.inspection.baseline_audit import Offset
from sen2chain.inspection.findings import DOWNLOAD, Severity
from sen2chain.inspection.leftovers import BEING_WRITTEN
from sen2chain.inspection.set_aside import Moves
from sen2chain.inspection.text_tables import WIDTH, TextTable, as_text
from sen2chain.notebook import card
from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from sen2chain.inspection.baseline_audit import DateVerdict
    from sen2chain.inspection.findings import Finding
    from sen2chain.products import ProductId

_MOST = 40
"""Findings that are shown where not all are asked for."""
_ORDER = tuple(Severity)
_PROBLEMS = (Severity.ERROR, Severity.WARNING)
COLUMNS = ("severity", "part", "tile", "item", "finding", "advice", "path", "moved_to")
"""Columns of the table of findings."""
DATE_COLUMNS = ("tile", "product", "date", "offset", "shift", "clear_pixels", "votes", "reason")
"""Columns of the table of dates."""


@dataclass(frozen=True, slots=True)
class CheckedDate:
    """A product, and the verdict on its offset."""

    product: ProductId
    """The product."""
    verdict: DateVerdict
    """The verdict."""

    @property
    def date(self) -> str:
        """Day of sensing, as ``2021-01-07``."""
        return self.product.sensing.date().isoformat()


def _told(findings: Sequence[Finding], width: int, *, verbose: bool) -> list[str]:
    """Return the lines on findings that say the same: the items, what is wrong, and what to do."""
    if verbose:
        lines = [f"  {found.item}" for found in findings]
    else:
        lines = [f"  {findings[0].item}" + (f" and {len(findings) - 1} more" if len(findings) > 1 else "")]
    advice = findings[0].advice
    for text in (f"{findings[0].sentence}.", f"{advice[:1].upper()}{advice[1:]}." if advice else ""):
        lines += _wrapped(text, width, "      ")
    return lines


def _number(findings: Sequence[Finding]) -> str:
    """Return the numbers of findings by severity, as they stand in a sentence."""
    found = Counter(finding.severity for finding in findings)
    return " and ".join(counted(found[severity], severity) for severity in _ORDER if found[severity])


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break a text into lines; names stay whole."""
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@dataclass(slots=True, repr=False)
class ArchiveCheck:
    """What the check of an archive found."""

    source: str
    """What was checked."""
    findings: list[Finding] = field(default_factory=list)
    """What is not as it should be, the worst first."""
    dates: list[CheckedDate] = field(default_factory=list)
    """The verdict on the offset of each product; empty where offsets were not compared."""
    moves: Moves = field(default_factory=Moves)
    """Files that were moved aside."""
    is_fix: bool = False
    """Whether files were to be moved aside."""
    parts: tuple[str, ...] = ()
    """What was looked for."""
    tiles: tuple[str, ...] = ()
    """The tiles that were checked."""
    is_quick: bool = False
    """Whether headers and metadata were judged alone."""
    products: int = 0
    """Number of products."""
    rasters: int = 0
    """Number of rasters that were opened."""
    pixels: int = 0
    """Number of pixels that were decoded."""
    seconds: float = 0.0
    """Duration of the check."""

    def sort(self) -> None:
        """Order the findings: the worst first, then by what was looked for, tile and item."""
        self.findings.sort(key=lambda f: (_ORDER.index(f.severity), f.part, f.tile, f.item, f.sentence))

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity.value: found[severity] for severity in _ORDER}

    @property
    def problems(self) -> int:
        """Number of errors and warnings."""
        return sum(finding.severity in _PROBLEMS for finding in self.findings)

    def problems_found(self) -> str:
        """Return a sentence with the numbers of errors and of warnings."""
        return f"{_number([f for f in self.findings if f.severity in _PROBLEMS]) or 'Nothing wrong'} found."

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0, or 4 where there are errors or warnings."""
        return 4 if self.problems else 0

    @property
    def set_aside(self) -> Path | None:
        """The dated folder that files were moved into; None where none was."""
        return self.moves.folder

    def summary(self) -> str:
        """Return a sentence on what was checked and found."""
        counts = [counted(count, severity) for severity, count in self.counts().items() if count]
        found = ", ".join(counts) if counts else "nothing is wrong"
        read = f"{counted(self.rasters, 'raster')} {'opened' if self.is_quick else 'read'}" if self.rasters else ""
        judged = sum(date.verdict.offset not in {Offset.UNDECIDED, Offset.CONTRADICTED} for date in self.dates)
        offsets = f"offsets of {judged} of {len(self.dates)} products judged" if self.dates else ""
        what = ", ".join(text for text in (counted(self.products, "product"), read, offsets) if text)
        return f"{self.source}: {what}; {found}."

    def text(self, *, verbose: bool = False, width: int = WIDTH) -> str:
        """Return it as the command prints it.

        Parameters
        ----------
        verbose
            Show all findings, and the offset of each product.
        width
            Columns of the text.
        """
        lines = _wrapped(self.summary(), width)
        groups = self._groups()
        shown = groups if verbose else groups[:_MOST]
        for severity in _ORDER:
            alike = [group for group in shown if group[0].severity is severity]
            if alike:
                lines += ["", f"{severity.capitalize()}s:"]
            for group in alike:
                lines += _told(group, width, verbose=verbose)
        if len(shown) < len(groups):
            left = counted(sum(map(len, groups[len(shown) :])), "more finding")
            lines += ["", f"{left} not shown; to_frame() and --json list all."]
        if verbose and self.dates:
            cells = [(d.date, str(d.product), d.verdict.offset.value, d.verdict.reason) for d in self.dates]
            lines += ["", as_text([TextTable("Offsets", ("date", "product", "offset", "reason"), cells)], width)]
        return "\n".join([*lines, *self._moved()])

    def _groups(self) -> list[list[Finding]]:
        """Gather findings that say the same of different items."""
        groups: dict[tuple[str, ...], list[Finding]] = {}
        for found in self.findings:
            groups.setdefault((found.severity, found.part, found.sentence, found.advice), []).append(found)
        return list(groups.values())

    def _moved(self) -> list[str]:
        """Return the lines on files that were moved aside, and on what was not and why."""
        if not self.is_fix:
            return []
        moves = self.moves
        lines = ["", "No file was moved aside."]
        if moves.moved:
            lines = ["", f"{counted(len(moves.moved), 'file')} moved to {moves.folder}; moves.json lists them."]
        if moves.folders:
            lines.append(f"{counted(len(moves.folders), 'folder')} that had become empty removed.")
        stay = [f for f in self.findings if not f.path and f.severity in _PROBLEMS]
        delivered = [f for f in stay if DOWNLOAD in f.advice]
        others = [f for f in stay if DOWNLOAD not in f.advice]
        if delivered:
            lines.append(f"Not moved: {_number(delivered)} in SAFE products; download these again.")
        if others:
            lines.append(f"Not moved: {_number(others)} that moving a file does not mend; see what is said on each.")
        young = sum(f.sentence == BEING_WRITTEN for f in self.findings)
        if young:
            lines.append(f"Not moved: {counted(young, 'incomplete file')} that a run may be writing now.")
        return lines + moves.failed

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        header = ("severity", "item", "finding", "what to do")
        rows = [(f.severity.value, f.item, f.sentence, f.advice) for f in self.findings[:_MOST]]
        facts = [
            ("products", self.products), ("rasters", self.rasters), *self.counts().items(),
            ("moved to", "" if self.moves.folder is None else str(self.moves.folder)),
        ]  # fmt: skip
        return card(f"Check of {self.source}", facts, "check.to_frame()", [header, *rows] if rows else ())

    def to_frame(self) -> pd.DataFrame:
        """Return the findings as a table, with `COLUMNS`."""
        import pandas as pd  # noqa: PLC0415  # needed here only

        return pd.DataFrame([list(row.values()) for row in self._rows()], columns=list(COLUMNS))

    def dates_frame(self) -> pd.DataFrame:
        """Return the offset of each product as a table, with `DATE_COLUMNS`."""
        import pandas as pd  # noqa: PLC0415  # needed here only

        return pd.DataFrame([list(row.values()) for row in self._dates()], columns=list(DATE_COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, as ``--json`` prints them."""
        return {
            "archive": self.source,
            "parts": list(self.parts),
            "quick": self.is_quick,
            "tiles": list(self.tiles),
            "products": self.products,
            "rasters": self.rasters,
            "pixels": self.pixels,
            "seconds": round(self.seconds, 3),
            "counts": self.counts(),
            "findings": self._rows(),
            "offsets": self._dates(),
            "set_aside": None if self.moves.folder is None else str(self.moves.folder),
            "removed_folders": [str(path) for path in self.moves.folders],
            "not_moved": list(self.moves.failed),
        }

    def _rows(self) -> list[dict[str, Any]]:
        moved = {str(move.source): str(move.target) for move in self.moves.moved}
        return [
            dict(
                zip(
                    COLUMNS,
                    (
                        f.severity.value,
                        f.part.value,
                        f.tile,
                        f.item,
                        f.sentence,
                        f.advice,
                        f.path,
                        moved.get(f.path, ""),
                    ),
                    strict=True,
                )
            )
            for f in self.findings
        ]

    def _dates(self) -> list[dict[str, Any]]:
        return [
            dict(
                zip(
                    DATE_COLUMNS,
                    (
                        d.product.tile, str(d.product), d.date, d.verdict.offset.value, round(d.verdict.shift, 3),
                        d.verdict.pixels, d.verdict.votes, d.verdict.reason,
                    ),
                    strict=True,
                )
            )
            for d in self.dates
        ]  # fmt: skip
