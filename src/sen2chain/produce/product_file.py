"""Values of a plan: one file that a request asks for, and the files of one acquisition."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition


class FileKind(enum.StrEnum):
    """What a produced file is."""

    INDEX = "index"
    MASKED = "masked index"
    MASK = "mask"
    QUICKLOOK = "quicklook"


class State(enum.StrEnum):
    """What becomes of a file."""

    MAKE = "to make"
    KEPT = "kept"
    REFUSED = "refused"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class ProductFile:
    """One file that a request asks for."""

    path: Path
    """Where it belongs."""
    kind: FileKind
    """What it is."""
    name: str
    """Name of the index, of the mask as it stands in file names, or of the picture."""
    index: Index | None
    """The index of an index raster or a picture."""
    mask: Mask | None
    """The mask of a mask raster or a masked index, or the one that is hatched in a quicklook."""
    state: State
    """What becomes of it."""
    detail: str = ""
    """A sentence: why it is made again, kept, refused, or impossible; empty for a file that is not there yet."""
    expected_bytes: int = 0
    """About how large it will be, where it is to be made."""
    exists: bool = False
    """Whether there is a file of that name now."""
    version: tuple[int, int] | None = None
    """Size and time of change of that file; None where there is none."""
    mask_name: str = ""
    """The mask as it stands in file names; empty without a mask."""


@dataclass(frozen=True, slots=True)
class ProductOrder:
    """The files of one acquisition."""

    acquisition: Acquisition
    """The acquisition."""
    files: tuple[ProductFile, ...]
    """The files."""

    @property
    def to_make(self) -> tuple[ProductFile, ...]:
        """Return the files that are to be made."""
        return tuple(file for file in self.files if file.state is State.MAKE)


def version_of(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file; None where there is none."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns
