"""Values of a plan: one file that a request asks for, and the files of one acquisition."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition
    from sen2chain.settings import Paths

_IN_ZIP = re.compile(r"/vsizip/(.+?\.zip)/", re.IGNORECASE)


class FileKind(enum.StrEnum):
    """What a produced file is."""

    INDEX = "index"
    MASKED = "masked index"
    MASK = "mask"
    QUICKLOOK = "quicklook"


COLOUR = "L2A"
"""Name of the true colour picture, as it stands in file names."""


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
    is_foreign: bool = False
    """Whether another program wrote the file that is kept."""
    mask_name: str = ""
    """The mask as it stands in file names; empty without a mask."""

    @property
    def label(self) -> str:
        """Return its name in tables."""
        return label_of(self.kind, self.name)


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


def label_of(kind: FileKind, name: str) -> str:
    """Return the name of files in tables, which says their kind where that is not a plain index or mask."""
    if kind is FileKind.QUICKLOOK:
        return "quicklook" if name == COLOUR else f"quicklook {name}"
    return f"{name}, masked" if kind is FileKind.MASKED else name


def version_of(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file; None where there is none."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def in_short(sentence: str, paths: Paths) -> str:
    """Return a sentence on a product with its paths as people read them.

    A path that lies in the library begins there, and that of a file in a zip file names both.
    """
    return _IN_ZIP.sub(r"\1, inside ", sentence).replace(f"{paths.home}/", "")


def once_each(sentences: Iterable[tuple[str, str]], most: int) -> list[str]:
    """Return sentences on files, each with their number where it holds for several but for the product's name.

    Parameters
    ----------
    sentences
        Name of the product, and the sentence; empty ones are left out.
    most
        How many are returned, the most frequent first; one that says how many more there are comes last.
    """
    told: dict[str, list[str]] = {}
    for product, sentence in sentences:
        if sentence:
            told.setdefault(sentence.replace(product, ""), []).append(sentence)
    groups: Sequence[list[str]] = sorted(told.values(), key=len, reverse=True)
    said = [group[0] if len(group) == 1 else f"{group[0]} ({len(group)} files like this)" for group in groups[:most]]
    more = f"... and {len(groups) - most} more reasons; --verbose (to_frame()) shows all."
    return [*said, more] if len(groups) > most else said
