"""Groups and arrays of Zarr's format 2, written as files.

A store of chips has a dozen small arrays for each of thousands of features. The library needs a tenth of a second for
such a group, and plain files a few milliseconds; the format is a JSON per array and a compressed file per chunk.
See https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sen2chain.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

_LEVEL = 1
_DIMENSIONS = "_ARRAY_DIMENSIONS"  # where xarray looks for the names of dimensions


class ZarrGroup:
    """A group with its arrays.

    Parameters
    ----------
    folder
        Its folder, which is made.
    attributes
        Its attributes.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; methods raise it too.
    """

    def __init__(self, folder: Path, attributes: Mapping[str, Any]) -> None:
        self.size = 0
        """Bytes of all files."""
        self._folder, self._metadata = folder, {".zgroup": {"zarr_format": 2}, ".zattrs": dict(attributes)}
        self._shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._codec = pa.Codec("zstd", compression_level=_LEVEL)
        with writing(folder):
            folder.mkdir(parents=True)
        for name, content in self._metadata.items():
            self._write(name, _json(content))

    def create(
        self,
        name: str,
        dtype: npt.DTypeLike,
        dimensions: Mapping[str, int],
        chunks: Sequence[int] | None = None,
        *,
        fill: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin an array.

        Parameters
        ----------
        name, dtype
            Its name and type.
        dimensions
            Name of a dimension -> its length.
        chunks
            Shape of a chunk; None is the whole array.
        fill
            Value without data, which xarray shows as NaN; None for none.
        attributes
            Its attributes.
        """
        kind, shape = np.dtype(dtype), tuple(dimensions.values())
        own = tuple(max(n, 1) for n in (chunks or shape))
        shuffled = kind.kind in "fi" and kind.itemsize > 1
        array = {
            "zarr_format": 2, "shape": list(shape), "chunks": list(own), "dtype": kind.str, "order": "C",
            "fill_value": "NaN" if fill is not None and np.isnan(fill) else fill,
            "compressor": {"id": "zstd", "level": _LEVEL},
            "filters": [{"id": "shuffle", "elementsize": kind.itemsize}] if shuffled else None,
        }  # fmt: skip
        self._shapes[name] = shape, own
        with writing(self._folder):
            (self._folder / name).mkdir()
        for part, content in ((".zarray", array), (".zattrs", {_DIMENSIONS: list(dimensions), **(attributes or {})})):
            self._metadata[f"{name}/{part}"] = content
            self._write(f"{name}/{part}", _json(content))

    def write(self, name: str, values: Array, corner: Sequence[int] = ()) -> None:
        """Write a part of an array that consists of whole chunks.

        Parameters
        ----------
        name
            The array.
        values
            The values.
        corner
            Position of the first value; by default that of the array.
        """
        shape, chunks = self._shapes[name]
        if not shape:
            self._write(f"{name}/0", self._encoded(values))
            return
        at = tuple(corner) or (0,) * len(shape)
        for place in _places(values.shape, chunks):
            part = values[tuple(slice(k * n, (k + 1) * n) for k, n in zip(place, chunks, strict=True))]
            if part.shape != chunks:  # at the end of a dimension; what lies beyond the array is not read
                part = np.pad(part, [(0, n - m) for n, m in zip(chunks, part.shape, strict=True)])
            key = ".".join(str(a // n + k) for a, n, k in zip(at, chunks, place, strict=True))
            self._write(f"{name}/{key}", self._encoded(part))

    def include(self, other: ZarrGroup, name: str) -> None:
        """Count the metadata of a group below this one as its own."""
        self._metadata |= {f"{name}/{key}": content for key, content in other._metadata.items()}

    def finish(self) -> None:
        """Write the metadata of all arrays once more as one file, so that the group opens quickly."""
        self._write(".zmetadata", _json({"zarr_consolidated_format": 1, "metadata": self._metadata}))

    def _encoded(self, values: Array) -> bytes:
        data = np.ascontiguousarray(values)
        if data.dtype.kind in "fi" and data.dtype.itemsize > 1:
            data = np.ascontiguousarray(data.reshape(-1).view(np.uint8).reshape(-1, data.dtype.itemsize).T)
        encoded: bytes = self._codec.compress(data.tobytes(), asbytes=True)
        return encoded

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        with writing(path):
            path.write_bytes(content)
        self.size += len(content)


def _places(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the positions of the chunks that an array of some shape is cut into."""
    yield from np.ndindex(*(-(-m // n) for m, n in zip(shape, chunks, strict=True)))


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode("utf-8", "backslashreplace")
