"""Cloud cover of products, remembered from run to run, so that metadata are parsed once.

It is kept in small files, one for each tile, and holds for as long as the metadata keep their size and time of change.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import temporary
from sen2chain.errors import UnreadableError
from sen2chain.library.contents import file_of
from sen2chain.library.metadata import read_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.records import ProductId

# Some file systems keep times no finer than this, so younger metadata may change again under the same time.
_SECONDS = 2.0
_MOST = 20_000  # products that a tile's file holds, of whichever archives


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
                if time.time() - facts.st_mtime > _SECONDS:
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
                self._write(self._folder / f"{tile}.json", self._known[tile])
        self._new.clear()

    def _of_tile(self, tile: str) -> dict[str, list[Any]]:
        if tile not in self._known:
            self._known[tile] = self._read(tile)
        return self._known[tile]

    def _read(self, tile: str) -> dict[str, list[Any]]:
        if self._folder is None:
            return dict(self._known.get(tile, {}))
        try:
            found = json.loads((self._folder / f"{tile}.json").read_text(encoding="utf-8"))
            return {where: known for where, known in found.items() if _is_whole(known)}
        except (OSError, ValueError, AttributeError):
            return {}

    @staticmethod
    def _write(path: Path, content: dict[str, list[Any]]) -> None:
        part = temporary(path)
        with contextlib.suppress(OSError):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                part.write_text(json.dumps(content), encoding="utf-8")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


def _is_whole(known: object) -> bool:
    """Tell whether something is size, time and cover."""
    return (
        isinstance(known, list)
        and [type(value) for value in known[:2]] == [int, int]
        and len(known) == 3
        and (known[2] is None or isinstance(known[2], float))
    )
