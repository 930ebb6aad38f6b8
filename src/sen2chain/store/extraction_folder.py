"""Paths and file names in the folder of a layer: the only module that builds and parses them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sen2chain.atomic import is_temporary, sweep_temporary
from sen2chain.errors import RequestError
from sen2chain.files import is_folder
from sen2chain.pixel_store import positions_path
from sen2chain.products import ProductId
from sen2chain.sensor import SENTINEL2

_FOLDER = re.compile(r"(?P<stem>.+)_(?P<checksum>[0-9a-f]{16})(?P<tag>(?:_[a-z][0-9a-z.+-]*)*)")
_BUFFER = re.compile(r"_buffer(-?[0-9.]+(?:e[+-][0-9]+)?)(?=_|$)")
_RAW_SUFFIXES = (".parquet", ".csv")

RAW = "raw_data"
"""The folder of raw rows in that of a layer."""
COMPILED = "compiled_data"
"""The folder of compiled files in that of a layer."""
PIXELS = "pixels"
"""The folder of kept pixels in that of a layer."""
_PIXEL_SUFFIX, POSITIONS_SUFFIX = ".pixels", ".positions"


@dataclass(frozen=True, slots=True)
class ExtractionFolder:
    """The folder of one layer: ``<extraction>/<stem>_<checksum16>``."""

    root: Path
    """The folder."""

    @property
    def stem(self) -> str:
        """The beginning of the names of all files: the layer's name when the folder was made."""
        return self._part("stem") or self.root.name

    @property
    def checksum(self) -> str:
        """16 hex digits of the layer's checksum, or an empty text."""
        return self._part("checksum")

    @property
    def tag(self) -> str:
        """The options after the checksum that give other rows, as in ``_weighted``."""
        return self._part("tag")

    @property
    def buffer(self) -> float | None:
        """Metres of the buffer in the tag; None where the tag has none."""
        found = _BUFFER.search(self.tag)
        return float(found[1]) if found else None

    def _part(self, name: str) -> str:
        match = _FOLDER.fullmatch(self.root.name)
        return match[name] if match else ""

    @property
    def layer_files(self) -> Path:
        """The folder of the layer as it was used."""
        return self.root / "shp_files"

    @property
    def ledger(self) -> Path:
        """The ledger of all images."""
        return self.root / "ledger.sqlite"

    def raw(self, index: str, mask: str) -> Path:
        """Return the folder of the rows of an index under a mask, one file per image."""
        return self.root / RAW / index / mask

    def indices(self) -> list[str]:
        """Return the names of the indices that have a folder of rows."""
        folder = self.root / RAW
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def pixels(self, tile: str) -> Path:
        """Return the folder of the kept pixels of a tile."""
        return self.root / PIXELS / tile

    def pixel_file(self, product: ProductId, token: str) -> Path:
        """Return the file of the kept pixels of a product; `token` keeps it apart from a former one of the same."""
        return self.pixels(product.tile) / f"{product}_{token}{_PIXEL_SUFFIX}"

    def positions_file(self, tile: str, digest: str) -> Path:
        """Return the file of the positions of kept pixels with a digest."""
        return positions_path(self.pixels(tile), digest)

    def all_pixel_files(self) -> list[Path]:
        """Return all files of kept pixels and of their positions, whether the catalogue names them or not.

        Links and folders that lead elsewhere are left out, and files of other programs.
        """
        found = []
        for place, folders, names in os.walk(self.root / PIXELS):
            folders.sort()
            paths = (Path(place, name) for name in sorted(names) if name.endswith((_PIXEL_SUFFIX, POSITIONS_SUFFIX)))
            found += [path for path in paths if path.is_file() and not path.is_symlink()]
        return found

    def compiled(self, index: str, mask: str, kind: str) -> Path:
        """Return the folder of one kind of compilation."""
        return self.root / COMPILED / index / mask / kind

    def raw_file(self, filename: str, suffix: str, index: str, mask: str) -> Path:
        """Return the file of one image, from the ``filename`` of its rows."""
        return self.raw(index, mask) / f"{self.stem}_{filename.removesuffix('.jp2')}{suffix}"

    @classmethod
    def all_in(cls, extraction: Path) -> list[Self]:
        """Return the folders of all layers, by name."""
        if not is_folder(extraction):
            return []
        return [cls(path) for path in sorted(extraction.iterdir()) if _FOLDER.fullmatch(path.name) and path.is_dir()]


def sweep(root: Path) -> None:
    """Remove what killed runs left half-written in the folder of a layer; only the holder of its lock may call this.

    The layer's own files are written before the folder can be locked: there, what a run that lives is writing stays.
    """
    layer_files = ExtractionFolder(root).layer_files
    for folder, _, names in os.walk(root):
        if Path(folder) == layer_files:
            sweep_temporary(layer_files)
            continue
        for name in names:
            if is_temporary(name):
                Path(folder, name).unlink(missing_ok=True)


def product_of(file_name: str) -> ProductId | None:
    """Return the product in the name of a raw file, or None where the name is not that of a raw file."""
    if not file_name.endswith(_RAW_SUFFIXES) or file_name.startswith("._") or is_temporary(file_name):
        return None
    found = SENTINEL2.naming.find(file_name)  # the last one: a stem may hold a product's name too
    try:
        return ProductId.parse(found) if found else None
    except RequestError:
        return None
