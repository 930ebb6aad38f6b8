"""Codestreams of JPEG 2000 files: the main header, the table of tile-parts, and one tile as a codestream of its own.

A codestream (ITU-T T.800, annex A) is a main header and tile-parts: parts of the code of a tile, each with a header
(SOT) that tells the tile and the length. A JP2 file (annex I) consists of boxes, one of which holds the codestream.
No length or offset of the file is used before it has been compared with the size of the file.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sen2chain.errors import UnreadableError
from sen2chain.jpeg2000 import kept_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sen2chain.jpeg2000.file_bytes import Bytes

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _COD, _QCD, _QCC, _RGN = 0xFF51, 0xFF52, 0xFF5C, 0xFF5D, 0xFF5E
_TLM, _PLM, _PLT, _CRG, _COM = 0xFF55, 0xFF57, 0xFF58, 0xFF63, 0xFF64
_KNOWN = {_SIZ, _COD, _RGN, _QCD, _QCC, _TLM, _PLM, _CRG, _COM}
_LEFT_OUT = {_TLM, _PLM}
"""Segments that tell lengths of the whole codestream, which are not those of one tile."""
_KNOWN_IN_TILES = {_RGN, _QCD, _QCC, _COM, _PLT}
"""A coding of its own is left to GDAL, too: one coding is checked, and tells what decoding costs."""

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_MOST_BOXES = 1_000
_MOST_TILES = 1 << 14  # a tile of Sentinel-2 has 121
_MOST_BLOCKS = 1 << 19
"""Code-blocks of a tile; ESA's have less than 9,000. OpenJPEG takes 600 bytes for each, even for small windows."""
_HEADER_LENGTHS = 1 << 12, 1 << 16, 1 << 20
"""Bytes of which the beginning of a codestream is read until they hold its header: seldom more than a few hundred."""
_LONGEST_TILE_HEADER = 1 << 16
_SOT_LENGTH = 12
_LEAST_PART = _SOT_LENGTH + 2
_PRECISION = 16
_MOST_LEVELS = 32


class UnknownFormError(Exception):
    """A form of JPEG 2000 that is left to GDAL."""


class _TooShortError(UnknownFormError):
    """A header that is longer than what was read of it."""


class Box(NamedTuple):
    """Rows and columns of pixels: first and one past the last of each."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Coding:
    """Coding of the tiles, which tells what decoding costs."""

    levels: int
    """Number of wavelet decompositions; resolutions are one more."""
    is_reversible: bool
    """Whether the wavelet is the lossless one (5-3), not 9-7."""
    block_exponents: tuple[tuple[int, int], ...]
    """Per decomposition, from the finest (1) to the coarsest, and at last for the coarsest image: the powers of two
    that are (height, width) of its code-blocks."""


@dataclass(frozen=True, slots=True)
class Header:
    """Main header of a codestream."""

    segments: bytes
    """The header without the segment SIZ and without tables of lengths, from behind SIZ to the first tile-part."""
    components: bytes
    """End of the segment SIZ, from the number of components on."""
    capabilities: int
    """Field Rsiz."""
    shape: tuple[int, int]
    """(rows, columns) of the image."""
    tile_shape: tuple[int, int]
    """(rows, columns) of a tile; those at the right and lower edge may be smaller."""
    precision: int
    """Bits of a sample."""
    is_signed: bool
    """Whether samples may be negative."""
    coding: Coding
    """Coding of the tiles."""
    lengths: tuple[tuple[int, int], ...]
    """(tile, bytes) of all tile-parts in their order, where the file tells them (TLM); else empty."""
    start: int
    """Position of the first tile-part in the file."""
    end: int
    """End of the codestream in the file."""

    @property
    def tiles(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return -(-self.shape[0] // self.tile_shape[0]), -(-self.shape[1] // self.tile_shape[1])

    def box(self, tile: int) -> Box:
        """Return the pixels of a tile."""
        i, j = divmod(tile, self.tiles[1])
        high, wide = self.tile_shape
        return Box(i * high, min((i + 1) * high, self.shape[0]), j * wide, min((j + 1) * wide, self.shape[1]))

    def of_tile(self, tile: int) -> bytes:
        """Return a main header for a codestream that consists of one tile."""
        box = self.box(tile)
        high, wide = self.tile_shape
        sizes = struct.pack(">8I", box.right, box.bottom, box.left, box.top, wide, high, box.left, box.top)
        siz = struct.pack(">H", self.capabilities) + sizes + self.components
        return struct.pack(">3H", _SOC, _SIZ, len(siz) + 2) + siz + self.segments


def read_header(file: Bytes) -> Header:
    """Read the main header of a file.

    Raises
    ------
    UnknownFormError
        If the file is left to GDAL: it has several components, packet headers or progressions of a special order, an
        image that does not begin at the origin, a palette, or a header that is not understood.
    UnreadableError
        If a tile has so many code-blocks that OpenJPEG would need gigabytes.
    """
    start, end = _find_codestream(file)
    for length in _HEADER_LENGTHS:
        data = file.read(start, min(length, end - start))
        try:
            header = _read_segments(data, start, end)
        except _TooShortError:
            continue
        if (count := _count_blocks(header)) > _MOST_BLOCKS:
            what = f"a tile of {count} code-blocks, far more than any tile of Sentinel-2 has"
            raise UnreadableError(f"{file.location} cannot be read: its header tells of {what}.")
        return header
    raise UnknownFormError


def _count_blocks(header: Header) -> int:
    """Return the code-blocks of a whole tile, in all subbands."""
    (height, width), coding = header.tile_shape, header.coding
    count = 0
    for k, (high, wide) in enumerate(coding.block_exponents):
        is_image = k == coding.levels  # the last one, of the same level as the one before
        level = k + 1 - is_image
        count += (1 if is_image else 3) * -(-height >> level + high) * -(-width >> level + wide)
    return count


def _read_segments(data: bytes, start: int, end: int) -> Header:
    """Read a header from the first bytes of a codestream, which lies at `start` to `end` of its file."""
    if len(data) < 4 or struct.unpack_from(">2H", data) != (_SOC, _SIZ):  # two markers
        raise UnknownFormError
    segments, siz, cod, tlm = bytearray(), b"", b"", []
    at = 2
    for marker, begin, stop in _segments(data, at, _SOT):
        if marker not in _KNOWN:
            raise UnknownFormError
        if marker == _SIZ:
            siz = data[begin + 4 : stop]
        elif marker not in _LEFT_OUT:
            segments += data[begin:stop]
        if marker == _COD:
            cod = data[begin + 4 : stop]
        elif marker == _TLM:
            tlm.append(data[begin + 4 : stop])
        at = stop
    return _header(siz, cod, tlm, bytes(segments), start + at, end)


def _header(siz: bytes, cod: bytes, tlm: list[bytes], segments: bytes, start: int, end: int) -> Header:
    """Make a header of the contents of its segments."""
    try:
        capabilities, width, height, left, top, wide, high, tile_left, tile_top, components = struct.unpack_from(
            ">H8IH", siz
        )
        precision, *subsampling = struct.unpack_from(">3B", siz, 36)
    except struct.error:
        raise UnknownFormError from None
    is_simple = components == 1 and subsampling == [1, 1] and not (left or top or tile_left or tile_top)
    is_signed, precision = precision >= 128, precision % 128 + 1  # the sign is the highest bit
    # Bit 14 of the capabilities says that there is code of another part of the standard.
    if not is_simple or precision > _PRECISION or capabilities & 0x4000 or 0 in {width, height, wide, high}:
        raise UnknownFormError
    high, wide = min(high, height), min(wide, width)
    if -(-height // high) * -(-width // wide) > _MOST_TILES:
        raise UnknownFormError
    return Header(
        segments, siz[34:], capabilities, (height, width), (high, wide), precision, is_signed, _coding(cod),
        _lengths(tlm, -(-height // high) * -(-width // wide), end - start), start, end,
    )  # fmt: skip


def _coding(cod: bytes) -> Coding:
    """Read the segment COD."""
    if len(cod) < 10:  # its length without precincts
        raise UnknownFormError
    has_precincts, levels, wide, high, transformation = cod[0] & 1, cod[5], cod[6] + 2, cod[7] + 2, cod[9]
    if (
        levels > _MOST_LEVELS or wide > 10 or high > 10 or wide + high > 12 or transformation > 1
    ):  # limits of the standard
        raise UnknownFormError
    if has_precincts and len(cod) < 11 + levels:
        raise UnknownFormError
    # From the coarsest resolution to the finest; a precinct spans twice the samples in the image as in its bands.
    precincts = [(b >> 4, b & 15) for b in cod[10 : 11 + levels]] if has_precincts else [(15, 15)] * (levels + 1)
    exponents = [(min(high, max(p - 1, 0)), min(wide, max(q - 1, 0))) for p, q in reversed(precincts[1:])]
    return Coding(levels, transformation == 1, (*exponents, (min(high, precincts[0][0]), min(wide, precincts[0][1]))))


def _lengths(tlm: list[bytes], tiles: int, whole: int) -> tuple[tuple[int, int], ...]:
    """Read the table of lengths (TLM); empty where there is none, or where it does not fit the file."""
    found: list[tuple[int, int]] = []
    for k, content in enumerate(tlm):
        if len(content) < 2 or content[0] != k:  # two bytes before the table
            return ()
        tile_bytes, length_bytes = content[1] >> 4 & 3, 4 if content[1] & 0x40 else 2
        step = tile_bytes + length_bytes
        if tile_bytes > 2 or (len(content) - 2) % step:  # one or two bytes, or none where tiles are in order
            return ()
        for at in range(2, len(content), step):
            number = int.from_bytes(content[at : at + tile_bytes], "big") if tile_bytes else len(found)
            length = int.from_bytes(content[at + tile_bytes : at + step], "big")
            if number >= tiles or length < _LEAST_PART:
                return ()
            found.append((number, length))
    fits = sum(length for _, length in found) + 2 == whole  # two bytes end the codestream
    return tuple(found) if fits else ()


def _find_codestream(file: Bytes) -> tuple[int, int]:
    """Return begin and end of the codestream in a file."""
    beginning = file.read(0, len(_SIGNATURE))
    if beginning[:2] == struct.pack(">H", _SOC):
        return 0, file.size
    if beginning != _SIGNATURE:
        raise UnknownFormError
    at = 0
    for _ in range(_MOST_BOXES):
        kind, begin, end = _read_box(file, at, file.size)
        if kind == b"jp2c":
            return begin, min(end, file.size)
        if kind == b"jp2h" and _has_palette(file, begin, end):
            break
        at = end
    raise UnknownFormError


def _read_box(file: Bytes, at: int, limit: int) -> tuple[bytes, int, int]:
    """Return kind, begin and end of the content of the box at a position."""
    head = file.read(at, 16)
    if len(head) < 8:  # length and kind
        raise UnknownFormError
    length, kind = struct.unpack_from(">I4s", head)
    begin = at + 8
    if length == 1 and len(head) == 16:  # and the length again, in 64 bits
        length, begin = struct.unpack_from(">Q", head, 8)[0], at + 16
    elif length == 0:
        length = limit - at
    # The box of the codestream is too long in a truncated file.
    if length < begin - at or (at + length > limit and kind != b"jp2c"):
        raise UnknownFormError
    return kind, begin, at + length


def _has_palette(file: Bytes, begin: int, end: int) -> bool:
    """Whether a header box says that samples are not values of pixels."""
    for _ in range(_MOST_BOXES):
        if begin >= end:
            return False
        kind, _, begin = _read_box(file, begin, end)
        if kind in {b"pclr", b"cmap"}:
            return True
    raise UnknownFormError


def _segments(data: bytes, at: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, begin, end) of the segments of a header up to the marker that ends it."""
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">2H", data, at)
        if marker == last:
            return
        if marker < 0xFF4F or length < 2:  # a marker; the length counts itself
            raise UnknownFormError
        if at + 2 + length > len(data):
            break
        yield marker, at, at + 2 + length
        at += 2 + length
    raise _TooShortError


class _Part(NamedTuple):
    """A tile-part."""

    at: int
    """Its position in the file."""
    length: int
    """Its bytes."""
    of_tile: int
    """Number of tile-parts of the tile; 0 where this one does not tell it."""


class TileParts:
    """Table of the tile-parts of a codestream, read as far as tiles are asked for; safe in threads.

    Parameters
    ----------
    file, header
        The file and its main header.
    identity
        Text that changes with the file, by which the table is kept between runs; empty: it is not kept.
    """

    def __init__(self, file: Bytes, header: Header, identity: str = "") -> None:
        self._file, self._header = file, header
        self._identity = "" if header.lengths else identity
        self._parts: dict[int, list[_Part]] = {}
        self._at = header.start
        self._count = header.tiles[0] * header.tiles[1]
        self._lock = threading.Lock()
        at = header.start
        for tile, length in header.lengths:
            self._parts.setdefault(tile, []).append(_Part(at, length, 0))
            at += length
        self._is_told = bool(header.lengths)
        if self._is_told:
            self._at = header.end
        elif self._identity and (known := kept_parts.load(self._identity)) is not None:
            self._at, parts = known
            for tile, *part in parts:
                self._parts.setdefault(tile, []).append(_Part(*part))
            self._is_told = True
        self._kept_to = self._at

    def read(self, tile: int, location: str) -> bytearray:
        """Read a tile as a codestream of its own.

        Parameters
        ----------
        tile
            Number of the tile, row by row.
        location
            The file, for messages.

        Raises
        ------
        UnreadableError
            If a tile-part is missing, too short or contradicts the others.
        UnknownFormError
            If the tile is left to GDAL.
        """
        was_told = self._is_told
        try:
            return self._read(tile, location)
        except UnreadableError:
            if not was_told:
                raise
        with self._lock:
            if self._is_told:  # another thread may have found out too
                # The table of the main header, or the kept one, is wrong: find the tile-parts by their own headers.
                self._is_told, self._parts, self._at, self._kept_to = False, {}, self._header.start, 0
        return self._read(tile, location)

    def ranges(self, tiles: Iterable[int]) -> list[tuple[int, int]]:
        """Return (offset, length) in the file of what `read` reads of tiles; tile-parts that are missing are left out.

        Raises
        ------
        UnreadableError
            If the headers of tile-parts cannot be read.
        """
        found = []
        for tile in tiles:
            for part in self._of(tile):
                end = part.at + part.length + 2
                if end <= self._header.end:
                    found.append((part.at, end - part.at))
        if self._identity:
            self._keep()
        return found

    def _keep(self) -> None:
        """Keep the table for later runs, if it has grown."""
        with self._lock:
            if self._at > self._kept_to:
                self._kept_to = self._at
                parts = [(tile, *part) for tile, of_tile in self._parts.items() for part in of_tile]
                kept_parts.save(self._identity, self._at, parts)

    def _read(self, tile: int, location: str) -> bytearray:
        """Read a tile as the table has it."""
        parts = self._of(tile)
        of_all = f"tile {tile + 1} of {self._count}"
        if not parts:
            raise UnreadableError(f"{location} cannot be read: {of_all} is missing; the file is truncated or damaged.")
        found = bytearray(self._header.of_tile(tile))
        for k, part in enumerate(parts):
            end = part.at + part.length + 2  # the next tile-part begins here, or the codestream ends
            data = bytearray(self._file.read(part.at, end - part.at) if end <= self._header.end else b"")
            behind = bytes(data[part.length :])
            if len(behind) < 2:
                raise UnreadableError(f"{location} cannot be read: it is truncated in {of_all}.")
            number, length, index, count = struct.unpack_from(">HIBB", data, 4)
            is_sound = data[:4] == struct.pack(">2H", _SOT, 10) and (number, index) == (tile, k)
            is_whole = count in {0, len(parts)} and length in {0, part.length}
            is_whole &= behind in {struct.pack(">H", _SOT), struct.pack(">H", _EOC)}
            if not is_sound or not is_whole:
                raise UnreadableError(f"{location} cannot be read: the parts of {of_all} contradict each other.")
            del data[part.length :]
            self._check_header(data)
            struct.pack_into(">HI", data, 4, 0, part.length)
            found += data
        return found + struct.pack(">H", _EOC)

    def _check_header(self, data: bytearray) -> None:
        """Raise `UnknownFormError` if the header of a tile-part has a segment that is left to GDAL."""
        head = bytes(data[:_LONGEST_TILE_HEADER])
        if any(marker not in _KNOWN_IN_TILES for marker, *_ in _segments(head, _SOT_LENGTH, _SOD)):
            raise UnknownFormError

    def _of(self, tile: int) -> list[_Part]:
        with self._lock:
            while not self._is_complete(tile) and self._at + _SOT_LENGTH <= self._header.end:
                self._read_next()
            return self._parts.get(tile, [])

    def _is_complete(self, tile: int) -> bool:
        parts = self._parts.get(tile, [])
        return any(part.of_tile == len(parts) for part in parts)

    def _read_next(self) -> None:
        """Read the header of the next tile-part; the table ends where there is none."""
        head = self._file.read(self._at, _SOT_LENGTH)
        begin, self._at = self._at, self._header.end
        if len(head) < _SOT_LENGTH or head[:4] != struct.pack(">2H", _SOT, 10):
            return
        tile, length, _, count = struct.unpack(">HIBB", head[4:])
        if length == 0:  # the last one
            length = self._header.end - 2 - begin
        if length >= _LEAST_PART and tile < self._count:
            self._parts.setdefault(tile, []).append(_Part(begin, length, count))
            self._at = begin + length
