"""Cloud cover of products, cached from run to run, so that metadata are parsed once.

The cache is one small file per tile. An entry holds as long as the metadata file keeps its size and time of change.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sen2chain import cache
from sen2chain.archive.file_contents import file_of
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.errors import UnreadableError
from sen2chain.files import is_young, read_limited

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.products import ProductId

_MOST = 20_000  # products in a tile's file, of all archives together
_LARGEST = 64 << 20  # bytes of such a file


class Covers:
    """Cache of the cloud cover of products.

    Parameters
    ----------
    folder
        Folder of the cache; None keeps nothing beyond this object.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, list[Any]]] = {}
        self._new: dict[str, dict[str, list[Any]]] = {}
        self._here: dict[tuple[str, int, int], float | None] = {}

    def of(self, metadata: str | None, product: ProductId) -> float | None:
        """Return the cloud cover of a product in percent; None where its metadata do not say it.

        Parameters
        ----------
        metadata
            Location of the metadata; None where there are none.
        product
            The product that the metadata must belong to.
        """
        if metadata is None:
            return None
        try:
            facts = os.stat(file_of(metadata))  # noqa: PTH116  # thousands of texts
        except (OSError, ValueError):
            return None
        known = self._of_tile(product.tile).get(metadata)
        if known is not None and known[:2] == [facts.st_size, facts.st_mtime_ns]:
            return known[2]  # type: ignore[no-any-return]
        key = metadata, facts.st_size, facts.st_mtime_ns
        if key not in self._here:
            try:
                self._here[key] = read_metadata(metadata, product).cloud_cover
            except (
                UnreadableError
            ):  # not cached: the task reports the error, and the file may be mended under the same time
                self._here[key] = None
            else:
                if not is_young(facts):
                    self._new.setdefault(product.tile, {})[metadata] = [
                        facts.st_size,
                        facts.st_mtime_ns,
                        self._here[key],
                    ]
        return self._here[key]

    def save(self) -> None:
        """Write new entries to the folder. Where that fails, the next run parses the metadata again."""
        for tile, found in self._new.items():
            # Another run may have added other products since.
            every = self._read(tile)
            for metadata, cover in found.items():
                every.pop(metadata, None)
                every[metadata] = cover
            self._known[tile] = dict(list(every.items())[-_MOST:])
            if self._folder is not None:
                cache.save_bytes(self._folder / f"{tile}.json", json.dumps(self._known[tile]).encode())
        self._new.clear()

    def _of_tile(self, tile: str) -> dict[str, list[Any]]:
        if tile not in self._known:
            self._known[tile] = self._read(tile)
        return self._known[tile]

    def _read(self, tile: str) -> dict[str, list[Any]]:
        if self._folder is None:
            return dict(self._known.get(tile, {}))
        try:
            found = json.loads(read_limited(self._folder / f"{tile}.json", _LARGEST))
            return {where: known for where, known in found.items() if _is_whole(known)}
        except (OSError, ValueError, AttributeError):
            return {}


def _is_whole(known: object) -> bool:
    """Tell whether an entry is a list of size, time and cover."""
    return (
        isinstance(known, list)
        and [type(value) for value in known[:2]] == [int, int]
        and len(known) == 3
        and (known[2] is None or isinstance(known[2], float))
    )
