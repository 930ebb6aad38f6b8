"""Lossy index rasters of a library: the JPEG 2000 files of the original program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sen2chain.archive import index_file
from sen2chain.produce.raster_inputs import index_inputs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.indices import Index
    from sen2chain.products import Acquisition

_SUFFIX = ".jp2"


@dataclass(frozen=True, slots=True)
class LossyRaster:
    """A lossy raster of an index."""

    acquisition: Acquisition
    """The product."""
    index: Index
    """The index, one of the twelve."""
    old: str
    """Path of the lossy raster."""
    path: Path
    """Where a lossless raster of the index belongs."""

    @property
    def has_bands(self) -> bool:
        """Whether the index can be made from bands."""
        return not isinstance(index_inputs(self.acquisition, self.index), str)


def find_lossy_rasters(
    source: LibrarySource,
    indices: Sequence[Index],
    tiles: Sequence[str] | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
) -> tuple[list[LossyRaster], int, int]:
    """Return the lossy rasters of some indices, tiles (None: all) and dates.

    Returns
    -------
    tuple
        The rasters, the number of lossy ones under a mask, and the number of index rasters without a lossy one.

    Raises
    ------
    LibraryError
        If a folder of the library cannot be listed.
    """
    found, masked, others = [], 0, 0
    by_name = {index.name: index for index in indices}
    for tile in source.tiles(None, first, last) if tiles is None else tiles:
        for acquisition in source.acquisitions(tile, first, last):
            lossy = (name for (name, _), where in acquisition.masked.items() if where.endswith(_SUFFIX))
            masked += sum(name in by_name for name in lossy)
            for name, places in sorted(acquisition.indices.items()):
                old = next((where for where in places if where.endswith(_SUFFIX)), None)
                others += old is None and name in by_name
                if old is not None and name in by_name:
                    path = index_file(source.paths, acquisition.id, name)
                    found.append(LossyRaster(acquisition, by_name[name], old, path))
    return found, masked, others
