"""Cloud cover of products, remembered from run to run, so that metadata are parsed once.

It is kept in small files, one for each tile, and holds for as long as the metadata keep their size and time of change.
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

_MOST = 20_000  # products that a tile's file holds, of whichever archives
_LARGEST = 64 << 20  # bytes of such a file


class Covers:
    """Cloud cover of products.

    Parameters
    ----------
    folder
        Where it is kept; None remembers for as long as this lives.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, list[Any]]] = {}
        self._new: dict[str, dict[str, list[Any]]] = {}
        self._here: dict[tuple[str, int, int], float | None] = {}

    def of(self, metadata: str | None, product: ProductId) -> float | None:
        """Return the cloud cover of a product in percent; None where its metadata do not tell.

        Parameters
        ----------
        metadata
            Location of the metadata; None where there are none.
        product
            The product, whose metadata they must be.
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
            except UnreadableError:  # the task tells what is wrong with it, and it may be mended under the same time
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
        """Write down what was found out. A folder that cannot be written only costs the next run its time."""
        for tile, found in self._new.items():
            # Another run may have found out about other products since.
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
    """Tell whether something is size, time and cover."""
    return (
        isinstance(known, list)
        and [type(value) for value in known[:2]] == [int, int]
        and len(known) == 3
        and (known[2] is None or isinstance(known[2], float))
    )
