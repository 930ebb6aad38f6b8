"""TIFF files that are read by ranges: where their blocks lie, and small TIFF files of some blocks, which GDAL decodes.

A directory (IFD) lists the tags of one picture: its size, its coding, and the places of its blocks (tiles or strips).
A GeoTIFF has one for the raster, and one for each smaller picture (overview) of it. Here directories are read and
written, and nothing is decoded. Form: TIFF 6.0 (Adobe, 1992), and BigTIFF (https://www.awaresystems.be/imaging/tiff/
bigtiff.html). No count or offset of the file is used before it has been compared with the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from sen2chain.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_SUBFILE, _WIDTH, _HEIGHT, _SAMPLES = 254, 256, 257, 277
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_LENGTHS = 273, 278, 279
_PLANES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_LENGTHS = 284, 322, 323, 324, 325
_OF_CODING = {258, 259, 262, 266, _SAMPLES, _PLANES, 317, 338, 339, 347, 42113, 50674}
"""Tags that decoding needs: bits, compression, photometric interpretation, fill order, samples, planes, predictor,
extra samples, sample format, JPEG tables, GDAL's no-data value (of blocks that are not in the file), parameters of
LERC."""
_PER_SAMPLE = {258, 339}
_EXTRA_SAMPLES = 338
_METADATA = 42112
_PIXEL_SIZE, _PLACE = 33550, 33922
_ELSEWHERE = {330, 34665, 34853}
"""Tags that point to further directories."""
_REDUCED, _MASK = 1, 4
"""Bits of the kind of a directory: a smaller picture, a mask of transparency."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8, 18: 8}
"""Type of a tag -> bytes of one value."""
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_LONG, _DOUBLE = 4, 12
_IN_SMALL = 12
"""Largest type that a TIFF file of less than 4 GB may have."""
_MOST_DIRECTORIES = 64
_MOST_TAGS = 512
_MOST_BLOCKS = 1 << 20  # of a raster; a tile in blocks of 256 x 256 pixels has 1849
_LARGEST_VALUE = 1 << 24  # bytes of one tag
_LARGEST_HEADER = 1 << 26  # bytes of all tags of all directories
_LARGEST_BLOCK = 1 << 28  # pixels; a tile in one strip has 10980 x 10980
_AHEAD = 1 << 15
"""Bytes that are read at once where a header goes on."""


class Ranges(Protocol):
    """The bytes of a file; `sen2chain.remote.RemoteFile` has them."""

    @property
    def location(self) -> str:
        """The file, for messages."""
        ...

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def read(self, offset: int, length: int, ahead: int = 0) -> bytes:
        """Read some bytes; where they have to be fetched, `ahead` are fetched at once."""
        ...


class Tag(NamedTuple):
    """The value of a tag, as it stands in the file."""

    kind: int
    """Its type."""
    length: int
    """Number of values."""
    data: bytes
    """The values, in the byte order of the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """One picture of a file."""

    order: str
    """Byte order, ``<`` or ``>``."""
    tags: Mapping[int, Tag]
    """Number -> value of each tag."""
    shape: tuple[int, int]
    """(rows, columns) of the picture."""
    block_shape: tuple[int, int]
    """(rows, columns) of a block; blocks at the right and lower edge reach beyond the picture, but for strips."""
    is_tiled: bool
    """Whether blocks are tiles, not strips."""
    is_reduced: bool
    """Whether it is a smaller picture of another one."""
    is_mask: bool
    """Whether it is a mask of transparency."""
    offsets: Ints
    """(blocks,) place of each block in the file, row by row; 0 where it is not in the file."""
    lengths: Ints
    """(blocks,) bytes of each block; 0 where it is not in the file."""

    @property
    def blocks(self) -> tuple[int, int]:
        """(rows, columns) of blocks."""
        return -(-self.shape[0] // self.block_shape[0]), -(-self.shape[1] // self.block_shape[1])

    def range_of(self, row: int, column: int) -> tuple[int, int] | None:
        """Return (offset, length) of a block; None where it is not in the file: all its pixels are no data."""
        number = row * self.blocks[1] + column
        offset, length = int(self.offsets[number]), int(self.lengths[number])
        return (offset, length) if offset and length else None

    def rows_of(self, row: int) -> int:
        """Return the rows of pixels of a block in a row of blocks."""
        return self.block_shape[0] if self.is_tiled else min(self.block_shape[0], self.shape[0] - self.top(row))

    def top(self, row: int) -> int:
        """Return the first row of pixels of a row of blocks."""
        return row * self.block_shape[0]

    def header(self) -> bytes:
        """Return a TIFF file with all tags of this picture, and without any block: GDAL reads its grid from it."""
        tags = {number: tag for number, tag in self.tags.items() if number not in _ELSEWHERE and tag.kind <= _IN_SMALL}
        absent = self._longs(np.zeros(len(self.offsets), np.int64))
        places = (_TILE_OFFSETS, _TILE_LENGTHS) if self.is_tiled else (_STRIP_OFFSETS, _STRIP_LENGTHS)
        return _written(self.order, tags | dict.fromkeys(places, absent), ())[0]

    def column(self, rows: Sequence[int], blocks: Sequence[bytes]) -> bytes:
        """Return a TIFF file of some blocks below each other.

        Parameters
        ----------
        rows
            Row of blocks of each: of strips, only the last one may be lower than the others.
        blocks
            Bytes of each as they are in the file; empty for one that is not in the file.
        """
        tags = {number: self.tags[number] for number in _OF_CODING & self.tags.keys()}
        if self._has_planes():
            # Blocks of the first band alone.
            tags = {name: self._first(tag) if name in _PER_SAMPLE else tag for name, tag in tags.items()}
            tags.pop(_EXTRA_SAMPLES, None)
            tags[_SAMPLES] = self._short(1)
        height = sum(map(self.rows_of, rows))
        tags |= {_WIDTH: self._long(self.block_shape[1]), _HEIGHT: self._long(height), _PLANES: self._short(1)}
        if self.is_tiled:
            tags |= {_TILE_HEIGHT: self._long(self.block_shape[0]), _TILE_WIDTH: self._long(self.block_shape[1])}
        else:
            tags[_ROWS_PER_STRIP] = self._long(self.block_shape[0])
        # GDAL remarks on a file that does not say where it lies.
        tags |= {_PIXEL_SIZE: self._doubles(1.0, 1.0, 0.0), _PLACE: self._doubles(0.0, 0.0, 0.0, 1.0, 1.0, 0.0)}
        where, sizes = (_TILE_OFFSETS, _TILE_LENGTHS) if self.is_tiled else (_STRIP_OFFSETS, _STRIP_LENGTHS)
        lengths = np.array([len(block) for block in blocks], np.int64)
        # Blocks follow the tags; how many bytes those take does not depend on what they say.
        tags |= dict.fromkeys((where, sizes), self._longs(lengths))
        _, begin = _written(self.order, tags, ())
        offsets = np.where(lengths > 0, begin + np.cumsum(lengths) - lengths, 0)
        return _written(self.order, tags | {where: self._longs(offsets)}, blocks)[0]

    def _has_planes(self) -> bool:
        """Whether bands are stored one after the other, and not pixel by pixel."""
        planes = self.tags.get(_PLANES)
        return planes is not None and planes.data == struct.pack(f"{self.order}H", 2)

    @staticmethod
    def _first(tag: Tag) -> Tag:
        return Tag(tag.kind, 1, tag.data[: _SIZES[tag.kind]])

    def _long(self, value: int) -> Tag:
        return self._longs(np.array([value]))

    def _longs(self, values: Ints) -> Tag:
        return Tag(_LONG, len(values), values.astype(f"{self.order}u4").tobytes())

    def _doubles(self, *values: float) -> Tag:
        return Tag(_DOUBLE, len(values), struct.pack(f"{self.order}{len(values)}d", *values))

    def _short(self, value: int) -> Tag:
        return Tag(3, 1, struct.pack(f"{self.order}H", value))


def read_directories(file: Ranges) -> list[Directory]:
    """Read the directories of a file: first that of the raster, then those of smaller pictures and masks.

    Raises
    ------
    UnreadableError
        If the file cannot be read, is not a TIFF file, or is damaged.
    """
    order, at, is_big = _begin(file)
    found: list[Directory] = []
    seen: set[int] = set()
    left = _LARGEST_HEADER
    while at:
        if at in seen or len(seen) == _MOST_DIRECTORIES:
            raise _damaged(file, "its directories do not end")
        seen.add(at)
        tags, at = _read_tags(file, at, order, left, is_big=is_big)
        left -= sum(len(tag.data) for tag in tags.values())
        found.append(_directory(file, tags, order))
    if not found:
        raise _damaged(file, "it has no directory")
    return found


def read_metadata_tag(file: Ranges, largest: int) -> bytes:
    """Return GDAL's metadata of a file, an XML document; empty where there are none or they are larger than `largest`.

    Raises
    ------
    UnreadableError
        If the file cannot be read, is not a TIFF file, or is damaged.
    """
    order, at, is_big = _begin(file)
    tags, _ = _read_tags(file, at, order, _LARGEST_HEADER, is_big=is_big)
    tag = tags.get(_METADATA)
    return b"" if tag is None or len(tag.data) > largest else tag.data


def _begin(file: Ranges) -> tuple[str, int, bool]:
    """Return the byte order of a file, the offset of its first directory, and whether it is a BigTIFF file."""
    start = file.read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 16:
        raise _damaged(file, "it is not a TIFF file")
    (version,) = struct.unpack_from(f"{order}H", start, 2)
    is_big = version == 43
    if version not in {42, 43} or (is_big and start[4:8] != struct.pack(f"{order}HH", 8, 0)):
        raise _damaged(file, "its header is not that of a TIFF file")
    at: int = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", start, 8 if is_big else 4)[0]
    return order, at, is_big


def _read_tags(file: Ranges, at: int, order: str, most: int, *, is_big: bool) -> tuple[dict[int, Tag], int]:
    """Read the tags of the directory at an offset; return them and the offset of the next one, 0 where it is the last.

    Together they may have at most `most` bytes: several may be the same bytes of a small file. Values in other places
    are read when all entries are known, in the order of the file.
    """
    entry = struct.Struct(f"{order}HHQ8s" if is_big else f"{order}HHI4s")
    number, link = (
        struct.Struct(f"{order}Q" if is_big else f"{order}H"),
        struct.Struct(f"{order}Q" if is_big else f"{order}I"),
    )
    (count,) = number.unpack(_exactly(file, at, number.size))
    if not 0 < count <= _MOST_TAGS:
        raise _damaged(file, f"a directory has {count} tags")
    body = _exactly(file, at + number.size, count * entry.size + link.size)
    tags: dict[int, Tag] = {}
    elsewhere: list[tuple[int, int, int, int]] = []
    for k in range(count):
        name, kind, values, data = entry.unpack_from(body, k * entry.size)
        if kind not in _SIZES:
            continue  # a type that is not known is to be skipped, as the standard says
        length = values * _SIZES[kind]
        if length <= link.size:
            tags[name] = Tag(kind, values, data[:length])
        elif length > _LARGEST_VALUE:
            raise _damaged(file, f"its tag {name} has {length} bytes")
        else:
            elsewhere.append((link.unpack(data)[0], length, name, kind))
            tags[name] = Tag(kind, values, b"")
    if sum(length for _, length, _, _ in elsewhere) > most:
        raise _damaged(file, f"its header has more than {_LARGEST_HEADER:,} bytes")
    for where, length, name, kind in sorted(elsewhere):
        tags[name] = Tag(kind, tags[name].length, _exactly(file, where, length))
    return tags, link.unpack_from(body, count * entry.size)[0]


def _directory(file: Ranges, tags: Mapping[int, Tag], order: str) -> Directory:
    """Make a directory of its tags."""

    def values(number: int, default: int | None = None) -> Ints:
        tag = tags.get(number)
        if tag is None and default is not None:
            return np.array([default])
        if tag is None or tag.kind not in _UNSIGNED or not tag.length:
            raise _damaged(file, f"its tag {number} is missing or damaged")
        return np.frombuffer(tag.data, f"{order}{_UNSIGNED[tag.kind]}").astype(np.int64)

    height, width = int(values(_HEIGHT)[0]), int(values(_WIDTH)[0])
    kind = int(values(_SUBFILE, 0)[0])
    is_tiled = _TILE_OFFSETS in tags
    if is_tiled:
        high, wide = int(values(_TILE_HEIGHT)[0]), int(values(_TILE_WIDTH)[0])
    else:
        high, wide = min(int(values(_ROWS_PER_STRIP, height)[0]), height), width
    if not (0 < height < 1 << 31 and 0 < width < 1 << 31 and 0 < high < 1 << 31 and 0 < wide < 1 << 31):
        raise _damaged(file, "the size of a picture or of its blocks is wrong")
    if high * wide > _LARGEST_BLOCK:
        raise _damaged(file, f"its blocks have {wide} x {high} pixels")
    count = -(-height // high) * -(-width // wide)
    if count > _MOST_BLOCKS:
        raise _damaged(file, f"a picture has {count} blocks")
    offsets = values(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS)
    lengths = values(_TILE_LENGTHS if is_tiled else _STRIP_LENGTHS)
    if len(offsets) < count or len(lengths) < count:
        raise _damaged(file, "it tells too few places of blocks")
    # Bands that are stored one after the other have more blocks; the first band is the one that is read.
    offsets, lengths = offsets[:count], lengths[:count]
    if (offsets < 0).any() or (lengths < 0).any() or (offsets > file.size).any() or (lengths > file.size).any():
        raise _damaged(file, "it ends before its blocks do")
    if (offsets + lengths > file.size).any():
        raise _damaged(file, "it ends before its blocks do")
    shapes = (height, width), (high, wide)
    return Directory(order, tags, *shapes, is_tiled, bool(kind & _REDUCED), bool(kind & _MASK), offsets, lengths)


def _exactly(file: Ranges, offset: int, length: int) -> bytes:
    data = file.read(offset, length, ahead=_AHEAD) if offset < file.size else b""
    if len(data) < length:
        raise _damaged(file, "it ends within its header")
    return data


def _written(order: str, tags: Mapping[int, Tag], blocks: Iterable[bytes]) -> tuple[bytes, int]:
    """Return a TIFF file of tags and blocks, and the offset of the first block."""
    names = sorted(tags)
    at = 8 + 2 + 12 * len(names) + 4
    entries, values = bytearray(struct.pack(f"{order}H", len(names))), bytearray()
    for name in names:
        kind, count, data = tags[name]
        entries += struct.pack(f"{order}HHI", name, kind, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", at + len(values))
            values += data + b"\0" * (len(data) % 2)  # values begin at even offsets
    entries += bytes(4)  # no further directory
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return b"".join((start, entries, values, *blocks)), at + len(values)


def _damaged(file: Ranges, what: str) -> UnreadableError:
    return UnreadableError(f"{file.location} cannot be read: {what}; the file is damaged.")
