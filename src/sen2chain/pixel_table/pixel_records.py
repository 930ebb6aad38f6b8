"""Collected pixels of one acquisition in the order of its plan: in memory, or in a temporary file where they are many.

Features become complete in the order of their last rows, and tables are ordered by feature. Every pixel has its place
beforehand, so nothing is sorted.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sen2chain.atomic import writing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Records = npt.NDArray[np.void]

IN_MEMORY = 128 << 20
"""Bytes of records that are held in memory at once."""


class RecordRoom:
    """The memory and the folder for the records of all acquisitions of a run.

    Parameters
    ----------
    folder
        Where temporary files go; they have no name, so nothing is left of a killed run.
    whole
        Bytes held in memory at once.
    """

    def __init__(self, folder: Path, whole: int = IN_MEMORY) -> None:
        self.folder = folder
        self._free = whole
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        """Take some bytes of the memory, if so many are left."""
        with self._lock:
            if amount > self._free:
                return False
            self._free -= amount
            return True

    def give(self, amount: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._free += amount


class PixelRecords:
    """Records of pixels, feature after feature.

    Parameters
    ----------
    lengths
        (features,) number of pixels of each feature.
    dtype
        Type of a record.
    room
        Memory and folder.

    Raises
    ------
    OutputError
        If the disk has no room for a temporary file.
    """

    def __init__(self, lengths: Ints, dtype: np.dtype[np.void], room: RecordRoom) -> None:
        self.starts: Ints = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        """(features + 1,) place of the first pixel of each feature."""
        self._dtype, self._folder = dtype, room.folder
        size = int(self.starts[-1]) * dtype.itemsize
        self._array: Records | None = None
        self._file: BinaryIO | None = None
        if room.take(size):
            weakref.finalize(self, room.give, size)
            self._array = np.empty(int(self.starts[-1]), dtype)
        else:
            with writing(room.folder):
                self._file = tempfile.TemporaryFile(dir=room.folder, buffering=0)  # noqa: SIM115  # closed with the records
            weakref.finalize(self, self._file.close)

    def put(self, places: Ints, offsets: Ints, records: Records) -> None:
        """Store records of some features.

        Parameters
        ----------
        places
            (stretches,) where each stretch of pixels begins among all records.
        offsets
            (stretches + 1,) ``offsets[i]:offsets[i + 1]`` are the records of stretch i.
        records
            The records.

        Raises
        ------
        OutputError
            If the disk is full.
        """
        lengths = np.diff(offsets)
        if self._array is not None:
            self._array[positions(places, lengths)] = records
            return
        assert self._file is not None  # noqa: S101  # one of both
        with writing(self._folder):
            for place, a, b in _joined(places, lengths):
                self._file.seek(place * self._dtype.itemsize)
                left = records[a:b].view(np.uint8).data
                while left:
                    left = left[self._file.write(left) :]

    def take(self, places: Ints, lengths: Ints) -> Records:
        """Return the records of some stretches, one after the other; parameters as of `put`."""
        if self._array is not None:
            return self._array[positions(places, lengths)]
        assert self._file is not None  # noqa: S101  # one of both
        found = np.empty(int(lengths.sum()), self._dtype)
        for place, a, b in _joined(places, lengths):
            self._file.seek(place * self._dtype.itemsize)
            left = found[a:b].view(np.uint8).data
            while left:
                count = self._file.readinto(left)  # type: ignore[attr-defined]  # unbuffered
                if not count:
                    raise EOFError("A temporary file has lost its end.")
                left = left[count:]
        return found


def positions(places: Ints, lengths: Ints) -> Ints:
    """Return the position of every element of stretches that begin at `places`."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(places - before, lengths) + np.arange(int(lengths.sum()))


def _joined(places: Ints, lengths: Ints) -> list[tuple[int, int, int]]:
    """Return (place, first, last) of stretches, those that follow each other as one."""
    if not len(places):
        return []
    ends = np.cumsum(lengths)
    breaks = np.flatnonzero(places[1:] != places[:-1] + lengths[:-1]) + 1
    first = np.concatenate([[0], breaks])
    starts, stops = (ends - lengths)[first], ends[np.append(breaks - 1, len(places) - 1)]
    return list(zip(places[first].tolist(), starts.tolist(), stops.tolist(), strict=True))
