"""Check of an archive (`sen2chain library check`): what is damaged, wrong, there twice, or left over."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Literal, get_args

from sen2chain.archive import LibrarySource, SafeFolder, archive_files
from sen2chain.errors import RequestError, choice
from sen2chain.inspection.audit_pictures import audit_tile
from sen2chain.inspection.baseline_audit import LEAST_PIXELS, Offset
from sen2chain.inspection.check_result import ArchiveCheck, CheckedDate
from sen2chain.inspection.duplicates import find_duplicates
from sen2chain.inspection.findings import DOWNLOAD, Finding, Part, Severity
from sen2chain.inspection.leftovers import find_leftovers
from sen2chain.inspection.lock_files import left_locks
from sen2chain.inspection.product_check import check_product
from sen2chain.inspection.set_aside import set_aside
from sen2chain.parallel import Crew, closed
from sen2chain.parallel import workers as number_of_threads
from sen2chain.progress import Shares, activity, progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sen2chain.inspection.baseline_audit import DateVerdict
    from sen2chain.inspection.product_check import ProductReport
    from sen2chain.products import Acquisition

PartName = Literal["rasters", "offsets", "duplicates", "leftovers"]
PARTS: tuple[PartName, ...] = get_args(PartName)
"""What a check looks for, in its order."""
_BESIDE = dt.timedelta(days=180)
"""Days before and after the dates that are checked whose products are compared with these."""


def check_archive(
    source: LibrarySource | SafeFolder,
    *,
    tiles: Sequence[str] | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
    parts: Sequence[str] = PARTS,
    quick: bool = False,
    fix: bool = False,
    verify: bool = True,
    workers: int = 0,
    quiet: bool = False,
) -> ArchiveCheck:
    """Read an archive and judge what it holds.

    Parameters
    ----------
    source
        A library, or a folder of SAFE products, as `sen2chain.archive.open_library` returns them.
    tiles
        The tiles to check; None checks all.
    first, last
        Dates of sensing to check, both included; None is no limit.
    parts
        What to look for, of `PARTS`.
    quick
        Judge headers, metadata and names alone: no pixel is read, and offsets are not compared.
    fix
        Move damaged and left-over files of a library into a dated folder of it, and remove product folders that are
        empty then. Products as ESA delivers them are never moved, and no file is deleted.
    verify
        Compare the files of products with the checksums that they list.
    workers
        Number of threads; 0 takes as many as there are processors.
    quiet
        Show no progress.

    Raises
    ------
    RequestError
        If `source` is another source, or a part is unknown.
    LibraryError
        If a folder of the archive cannot be listed.
    OutputError
        If files are to be moved, and their folder cannot be made.
    """
    if not isinstance(source, LibrarySource | SafeFolder):
        raise RequestError(
            f"Only a library or a folder of SAFE products can be checked, and this is {source.describe()}; pass "
            "library= or safe=."
        )
    if fix and not isinstance(source, LibrarySource):
        raise RequestError("Only files of a library are moved aside, and none was given; pass library= too.")
    for part in parts:
        choice("part of a check", part, PARTS)
    return _Check(source, tiles, first, last, number_of_threads(workers), quiet=quiet).run(
        frozenset(parts), quick=quick, fix=fix, verify=verify
    )


class _Check:
    """One check of an archive."""

    def __init__(
        self,
        source: LibrarySource | SafeFolder,
        tiles: Sequence[str] | None,
        first: dt.date | None,
        last: dt.date | None,
        threads: int,
        *,
        quiet: bool,
    ) -> None:
        self._source, self._first, self._last = source, first, last
        self._threads, self._quiet = threads, quiet
        self._tiles = None if tiles is None else frozenset(tiles)
        self._root = f"{source.paths.home if isinstance(source, LibrarySource) else source.path}/"
        self.result = ArchiveCheck(source.describe())

    def run(self, parts: frozenset[str], *, quick: bool, fix: bool, verify: bool) -> ArchiveCheck:
        """Check all parts that are asked for."""
        begun, result = time.monotonic(), self.result
        with activity("Listing the archive", quiet=self._quiet):
            names = [tile for tile in self._source.tiles() if self._tiles is None or tile in self._tiles]
            acquisitions = [a for tile in names for a in self._source.acquisitions(tile, self._first, self._last)]
        result.products, result.tiles = len(acquisitions), tuple(names)
        result.is_quick, result.parts = quick, tuple(part for part in PARTS if part in parts)
        if Part.RASTERS in parts:
            self._rasters(acquisitions, read=not quick, verify=verify)
        if Part.OFFSETS in parts and not quick:
            self._offsets(names)
        if {Part.DUPLICATES, Part.LEFTOVERS} & parts:
            self._files(acquisitions, names, parts)
        self._source.save()
        result.sort()
        if fix and isinstance(self._source, LibrarySource):
            why = {finding.path: finding.sentence for finding in reversed(result.findings) if finding.path}
            paths = self._source.paths
            result.moves = set_aside(paths.home, why, (paths.indices, paths.cloudmasks, paths.quicklooks))
            result.is_fix = True
        result.seconds = time.monotonic() - begun
        return result

    def _shown(self, location: str) -> str:
        """Return a location as people know it: relative to the archive where it lies in it."""
        return location.removeprefix("/vsizip/").removeprefix(self._root)

    def _rasters(self, acquisitions: Sequence[Acquisition], *, read: bool, verify: bool) -> None:
        crew = Crew(self._threads)
        title = "Reading rasters" if read else "Reading headers"
        with progress(title, len(acquisitions), quiet=self._quiet) as step:
            shares = Shares(step, len(acquisitions))

            def work(acquisition: Acquisition) -> ProductReport:
                def advance(share: float) -> None:
                    shares.advance(acquisition.id, share)

                return check_product(acquisition, self._source, crew, self._shown, advance, read=read, verify=verify)

            with closed(crew.results(work, acquisitions)) as reports:
                for acquisition, report in zip(acquisitions, reports, strict=True):
                    self.result.findings += report.findings
                    self.result.rasters += report.rasters
                    self.result.pixels += report.pixels
                    shares.end(acquisition.id)

    def _offsets(self, tiles: Iterable[str]) -> None:
        first = None if self._first is None else self._first - _BESIDE
        last = None if self._last is None else self._last + _BESIDE
        of_tile = {tile: self._source.acquisitions(tile, first, last) for tile in tiles}
        with progress("Comparing offsets", sum(map(len, of_tile.values())), quiet=self._quiet) as step:
            for tile, acquisitions in of_tile.items():
                verdicts = [
                    CheckedDate(acquisition.id, verdict)
                    for acquisition, verdict in audit_tile(acquisitions, self._threads, step)
                    if self._is_asked(acquisition)
                ]
                self.result.dates += verdicts
                self.result.findings += offset_findings(tile, verdicts)

    def _is_asked(self, acquisition: Acquisition) -> bool:
        date = acquisition.id.sensing.date()
        return (self._first is None or self._first <= date) and (self._last is None or date <= self._last)

    def _files(self, acquisitions: Sequence[Acquisition], tiles: Sequence[str], parts: frozenset[str]) -> None:
        with activity("Looking for duplicates and leftovers", quiet=self._quiet):
            whole = [a for tile in self._source.tiles() for a in self._source.acquisitions(tile)]
            files = archive_files(self._source, whole)
            if Part.DUPLICATES in parts:
                copies = {product: places for tile in tiles for product, places in self._source.copies(tile).items()}
                self.result.findings += find_duplicates(acquisitions, copies, files, self._shown, self._tiles)
            if Part.LEFTOVERS in parts:
                self.result.findings += find_leftovers(files, self._source.skipped(), self._shown, self._tiles)
                self.result.findings += self._locks()

    def _locks(self) -> list[Finding]:
        if not isinstance(self._source, LibrarySource):
            return []
        clause, advice = "is a lock that a killed run left", "remove it, or let --fix move it aside"
        return [
            Finding(Severity.WARNING, Part.LEFTOVERS, self._shown(str(path)), clause, advice, "", str(path))
            for path in left_locks(self._source.paths)
        ]


_CAUSES = {
    Offset.TOO_HIGH: "an offset is in the digital numbers, and the metadata do not list it, or it was added twice",
    Offset.TOO_LOW: "the metadata list an offset that is not in the digital numbers, or list it twice",
}


def offset_findings(tile: str, dates: Sequence[CheckedDate]) -> list[Finding]:
    """Return the findings on the offsets of a tile's dates: each wrong one, and how many are not judged."""
    found = []
    for date in dates:
        verdict = date.verdict
        if verdict.offset in _CAUSES:
            clause = f"has reflectance that is {abs(verdict.shift):.1f} {verdict.offset}: {verdict.reason}"
            cause = f"{_CAUSES[verdict.offset]}; {DOWNLOAD}"
            found.append(Finding(Severity.ERROR, Part.OFFSETS, str(date.product), clause, cause, tile))
        elif verdict.band and verdict.shift:
            way = "high" if verdict.shift > 0 else "low"
            clause = (
                f"has a band that contradicts the others: {verdict.band} is {abs(verdict.shift):.1f} too {way}, and "
                "all others agree with the dates around it"
            )
            found.append(Finding(Severity.WARNING, Part.OFFSETS, str(date.product), clause, DOWNLOAD, tile))
    differing = [date for date in dates if date.verdict.offset is Offset.CONTRADICTED]
    if differing:
        clause = (
            f"has {len(differing)} dates from {differing[0].date} to {differing[-1].date} that differ by 0.1 from each "
            "other in all bands, and pixels do not tell which are right"
        )
        advice = "look at the offsets in the metadata of these products"
        found.append(Finding(Severity.WARNING, Part.OFFSETS, tile, clause, advice, tile))
    silent = [date for date in dates if date.verdict.offset is Offset.UNDECIDED]
    if silent:
        reasons: dict[str, int] = {}
        for date in silent:
            reason = _kind_of_reason(date.verdict)
            reasons[reason] = reasons.get(reason, 0) + 1
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        clause = f"has {len(silent)} of {len(dates)} products whose offset cannot be judged: {told}"
        found.append(Finding(Severity.NOTE, Part.OFFSETS, tile, clause, "", tile))
    return found


def _kind_of_reason(verdict: DateVerdict) -> str:
    """Return the kind of a reason, to count products by it."""
    if verdict.band:
        return f"with bands that contradict each other ({verdict.band})"
    if verdict.pixels < LEAST_PIXELS:
        return "without enough clear ground, clear dates around, or bands"
    return "whose ground differs too much from that of the dates around"
