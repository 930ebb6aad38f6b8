"""The result of a conversion of lossy index rasters: what became of each of them."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.notebook import card
from sen2chain.produce.product_file import once_each
from sen2chain.progress import counted, sized

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_SHOWN = 5  # sentences on single files


class ConversionOutcome(enum.StrEnum):
    """What became of a lossy raster."""

    CONVERTED = "converted"
    KEPT = "kept"
    PLANNED = "to convert"
    REFUSED = "refused"
    FAILED = "failed"
    LEFT = "not reached"


class ConversionSource(enum.StrEnum):
    """What the values of the new raster come from."""

    BANDS = "bands"
    LOSSY = "lossy raster"


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """What became of one lossy raster."""

    old: Path
    """The lossy raster, a JPEG 2000 file, where it was before."""
    path: Path
    """The Cloud-Optimized GeoTIFF."""
    product: str
    """Name of the product."""
    tile: str
    """Its tile."""
    index: str
    """Name of the index."""
    outcome: ConversionOutcome
    """What became of it."""
    source: ConversionSource
    """What the values come from."""
    detail: str = ""
    """A sentence on why; empty for what went as expected."""
    bytes: int = 0
    """Size of the new file; of one that is to be converted, about what it will take."""
    moved_to: Path | None = None
    """Where the lossy raster lies now, if it was moved."""
    left: str = ""
    """A sentence on why the lossy raster was not moved, where that was asked for."""


@dataclass(slots=True, repr=False)
class Conversion:
    """What a conversion of lossy index rasters did, or would do."""

    files: list[ConvertedFile] = field(default_factory=list)
    """One for each lossy raster, by tile, product and index."""
    is_dry_run: bool = False
    """Whether it was only looked what would be done."""
    masked_copies: int = 0
    """Lossy rasters of indices under a mask, which are not converted: they are copies of the others."""
    free_bytes: int | None = None
    """Bytes that were free on the disk of the indices before the run; None where that is not known."""
    others: int = 0
    """Index rasters of these indices, tiles and dates that are no lossy ones of the original program."""
    folder: Path | None = None
    """Folder of the indices, which new rasters are written into."""
    moved_into: Path | None = None
    """Folder that lossy rasters were to be moved into."""
    seconds: float = 0.0
    """Time of the run."""

    def counts(self) -> dict[str, int]:
        """Return outcome -> number of files."""
        found = Counter(file.outcome for file in self.files)
        return {str(outcome): found[outcome] for outcome in ConversionOutcome if found[outcome]}

    @property
    def nothing(self) -> bool:
        """Whether there is no index raster at all: none to convert, and none that was converted before."""
        return not self.files and not self.others

    @property
    def failed(self) -> int:
        """Number of lossy rasters of which there is no new raster of the index."""
        wanting = (ConversionOutcome.FAILED, ConversionOutcome.REFUSED, ConversionOutcome.LEFT)
        return sum(file.outcome in wanting for file in self.files)

    @property
    def left(self) -> int:
        """Number of lossy rasters that were to be moved, and could not be."""
        return sum(bool(file.left) for file in self.files)

    @property
    def expected_bytes(self) -> int:
        """Bytes that will be written, about; 0 after a run."""
        return sum(file.bytes for file in self.files if file.outcome is ConversionOutcome.PLANNED)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what will be written, as far as that is known."""
        return self.free_bytes is None or self.expected_bytes <= self.free_bytes

    def __str__(self) -> str:
        return " ".join(self.sentences())

    __repr__ = __str__

    def sentences(self) -> list[str]:
        """Say what became of the files, and name the first of those that were not converted or moved."""
        said = [self._done()]
        if self.masked_copies:
            rasters = counted(self.masked_copies, "lossy raster")
            said.append(f"{rasters} of masked indices left as they are: these are copies, which the masks give again.")
        troubled = ((file.product, text) for file in self.files for text in (_trouble(file), file.left))
        return [*said, *once_each(troubled, _SHOWN)]

    def _done(self) -> str:
        if not self.files:
            none = "There is no lossy index raster (.jp2) of these indices, tiles and dates"
            return f"{none}, and nothing to do: {counted(self.others, 'raster')} (.tif)." if self.others else f"{none}."
        now = (ConversionOutcome.CONVERTED, ConversionOutcome.PLANNED)
        sources = Counter(file.source for file in self.files if file.outcome in now)
        words = {ConversionSource.BANDS: "the bands", ConversionSource.LOSSY: "the JP2"}
        how = ", ".join(f"{number} from {words[source]}" for source, number in sources.items())
        counts = ", ".join(f"{number} {outcome}" for outcome, number in self.counts().items())
        text = f"{counted(len(self.files), 'lossy index raster')}: {counts}{f' ({how})' if how else ''}"
        if self.is_dry_run:
            return f"{text}; about {sized(self.expected_bytes)} will be written{self._room()}."
        moved = sum(file.moved_to is not None for file in self.files)
        size = sum(file.bytes for file in self.files if file.outcome is ConversionOutcome.CONVERTED)
        parts = [text]
        if size:
            parts.append(f"{sized(size)} written into {self.folder}, into the folders of the products")
        if moved:
            parts.append(f"{moved} JP2 moved into {self.moved_into}, under their paths in the library")
        return f"{'; '.join(parts)}."

    def _room(self) -> str:
        if self.free_bytes is None:
            return ""
        enough = "" if self.fits else ", which is not enough"
        return f", and {sized(self.free_bytes)} are free{enough}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as JSON holds them."""
        return {
            "dry_run": self.is_dry_run,
            "counts": self.counts(),
            "masked_copies": self.masked_copies,
            "others": self.others,
            "folder": None if self.folder is None else str(self.folder),
            "moved_into": None if self.moved_into is None else str(self.moved_into),
            "expected_bytes": self.expected_bytes,
            "free_bytes": self.free_bytes,
            "seconds": round(self.seconds, 3),
            "files": [_line(file) for file in self.files],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one line per lossy raster."""
        import pandas as pd  # noqa: PLC0415  # half a second, for a table that few runs need

        return pd.DataFrame([_line(file) for file in self.files], columns=list(_COLUMNS))

    def _repr_html_(self) -> str:
        """Show counts and sentences in a notebook."""
        facts = [("", sentence) for sentence in self.sentences()]
        table = [("outcome", "files"), *self.counts().items()] if self.files else []
        return card("Conversion of lossy index rasters", facts, table=table)


_COLUMNS = (
    "tile", "product", "index", "outcome", "source", "bytes", "detail", "old", "path", "moved_to", "left",
)  # fmt: skip


def _line(file: ConvertedFile) -> dict[str, Any]:
    values = {name: getattr(file, name) for name in _COLUMNS}
    return {name: value if value is None or isinstance(value, int) else str(value) for name, value in values.items()}


def _trouble(file: ConvertedFile) -> str:
    """Return the sentence on a file that was not converted; empty where all went well."""
    fine = (ConversionOutcome.CONVERTED, ConversionOutcome.PLANNED)
    return "" if file.outcome in fine else file.detail
