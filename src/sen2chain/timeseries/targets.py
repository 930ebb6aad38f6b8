"""The files of a compilation: which there are to be, and which of them are there already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sen2chain import periods
from sen2chain.store import CompiledFile
from sen2chain.timeseries.asked import FORMATS
from sen2chain.timeseries.smoothed_files import stats_path

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sen2chain.store import ExtractionFolder, RawImage
    from sen2chain.timeseries.asked import CompileRequest

# Raise it when the content of a compiled file changes its meaning.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Target:
    """One file to be."""

    path: Path
    """The file."""
    kind: str
    """What it compiles: one of `sen2chain.periods.KINDS`, or a range of dates."""
    key: str
    """The period; empty where all periods of the kind are in one file."""
    images: tuple[RawImage, ...]
    """The files of rows it is made from, by sensing time."""
    content: Literal["rows", "aggregates", "smoothed"] = "rows"
    """What is in it."""

    @property
    def days(self) -> set[dt.date]:
        """The days of its rows."""
        return {image.product.sensing.date() for image in self.images}


@dataclass(frozen=True, slots=True)
class Targets:
    """The files of one index under one mask."""

    folder: ExtractionFolder
    """The layer's folder."""
    asked: CompileRequest
    """What is asked for."""
    cover: tuple[float, float]
    """Smallest and largest cloud cover of products in percent, as they stand in names."""
    columns: str
    """Columns of the rows; with other columns it is another file."""
    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""

    def of(self, images: Sequence[RawImage]) -> list[Target]:
        """Return the files that all these images become, those by sensing time."""
        asked = self.asked
        targets = []
        for kind in asked.kinds:
            groups: dict[str, list[RawImage]] = {}
            for image in images:
                groups.setdefault(periods.key_of(image.product.sensing.date(), kind, asked.week), []).append(image)
            targets += [target for key, group in groups.items() for target in self._files(kind, key, group)]
            if asked.aggregation and images:
                targets += self._aggregates(kind, "", images)
        within = [image for image in images if asked.is_within(image.product.sensing.date())]
        if asked.custom and within:
            first, last = within[0].product.sensing.date(), within[-1].product.sensing.date()
            targets += self._files(periods.CUSTOM, f"{first}_{last}", within)
            if asked.aggregation:
                targets += self._aggregates(periods.CUSTOM, f"{first}_{last}", within)
        return targets

    def _files(self, kind: str, key: str, images: Sequence[RawImage]) -> list[Target]:
        """Return the files of a period, one for each format, and the smoothed one."""
        asked, stem, folder = self.asked, self._stem(kind, key), self._folder(kind)
        targets = [Target(folder / f"{stem}.{end}", kind, key, tuple(images)) for end in asked.formats]
        if asked.smooth and kind in {periods.ALL, periods.CUSTOM}:
            path = folder / f"{stem}{asked.smooth.suffix}.csv"
            targets.append(Target(path, kind, key, tuple(images), "smoothed"))
        return targets

    def _aggregates(self, kind: str, key: str, images: Sequence[RawImage]) -> list[Target]:
        """Return the files of aggregates, each with all periods of a kind."""
        names = self.asked.aggregation.names if self.asked.aggregation else ()
        week = "_iso" if kind == "weekly" and self.asked.week == "iso" else ""
        stem, folder = f"{self._stem(kind, key)}{week}_{'-'.join(names)}", self._folder(kind)
        return [Target(folder / f"{stem}.{end}", kind, key, tuple(images), "aggregates") for end in self.asked.formats]

    def _stem(self, kind: str, key: str) -> str:
        return periods.file_stem(self.folder.stem, self.cover, self.index, kind, key)

    def _folder(self, kind: str) -> Path:
        return self.folder.compiled(self.index, self.mask, kind)

    def is_fresh(self, target: Target, known: Mapping[str, CompiledFile]) -> bool:
        """Tell whether a file is there as it was written, from the same rows."""
        record = known.get(self._name(target.path))
        if record is None or record.made_from != self._made_from(target):
            return False
        if target.content == "smoothed" and self.asked.smooth and self.asked.smooth.reset:
            return False
        beside = [target.path.with_suffix(".json")]
        if target.content == "smoothed":
            beside.append(stats_path(target.path))
        if not all(path.exists() for path in beside):
            return False
        try:
            facts = target.path.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (record.size, record.changed)

    def without_rows(self, targets: Sequence[Target], known: Mapping[str, CompiledFile]) -> list[str]:
        """Return the files, by their place in the folder, of periods that have no rows any more.

        Their images were extracted again, and gave none. Files of ranges stay, whatever they hold.
        """
        # A file of a format that is not asked for this time stays as long as its period has rows.
        stay = {self._name(target.path.with_suffix("")) for target in targets}
        families = {
            self._family(kind, content, end)
            for kind in self.asked.kinds
            for end in FORMATS
            # Without any row there is nothing to smooth and to aggregate either.
            for content in (("rows",) if targets else ("rows", "aggregates", "smoothed"))
        }
        return [
            name for name, record in known.items() if record.family in families and name.rpartition(".")[0] not in stay
        ]

    def record(self, target: Target) -> CompiledFile:
        """Return what the ledger keeps of a file that was written."""
        facts = target.path.stat()
        family = self._family(target.kind, target.content, target.path.suffix[1:])
        return CompiledFile(self._name(target.path), family, self._made_from(target), facts.st_size, facts.st_mtime_ns)

    def _family(self, kind: str, content: str, end: str) -> str:
        week = self.asked.week if kind == "weekly" else ""
        return f"{self.index} {self.mask} {kind} {week} {self.cover} {content} {end}"

    def _made_from(self, target: Target) -> str:
        """Return the identity of everything a file depends on."""
        smooth = self.asked.smooth.note() if self.asked.smooth and target.content == "smoothed" else ""
        week = self.asked.week if target.kind == "weekly" else ""
        digest = hashlib.sha256(f"{_VERSION} {self.columns} {target.kind} {week} {smooth}".encode())
        for image in target.images:
            digest.update(f"{image.path.name} {image.size} {image.changed}\n".encode())
        return digest.hexdigest()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.root).as_posix()
