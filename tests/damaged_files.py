"""Small JPEG 2000 files of all forms, and what damages them.

`damage` damages one in a way that a seed chooses, and knows which tiles' pixels may have changed, and which are not
there any more. `tests/damaged_codestreams.py` reads them.
"""

from __future__ import annotations

import functools
import random
import struct
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Pixels = npt.NDArray[np.generic]
    Window = tuple[int, int, int, int]  # first row, one past the last, first column, one past the last

SIZ, COD, QCD, TLM, PLT, SOT, SOD, EOC = 0xFF51, 0xFF52, 0xFF5C, 0xFF55, 0xFF58, 0xFF90, 0xFF93, 0xFFD9
OTHERS = {0xFF53: "COC", 0xFF5D: "QCC", 0xFF5E: "RGN", 0xFF5F: "POC", 0xFF60: "PPM", 0xFF61: "PPT", 0xFF63: "CRG",
          0xFF64: "COM", 0xFF57: "PLM", 0xFF50: "CAP", 0xFF30: "reserved", 0xFF91: "SOP", 0xFF4F: "SOC"}  # fmt: skip

ESA: dict[str, Any] = {"PLT": "YES", "NBITS": 15, "RESOLUTIONS": 5}
TABLE = {"TLM": "YES"}
FORMS: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {
    "ten_metres": ((300, 330), "uint16", ESA | {"BLOCK": 128, "PRECINCTS": "{256,256},{256,256},{256,256}"}),
    "twenty_metres": ((260, 200), "uint16", ESA | {"BLOCK": 128, "CODEBLOCK": 8, "PRECINCTS": "{128,128},{128,128}"}),
    "sixty_metres": ((130, 140), "uint8", {"PLT": "YES", "BLOCK": 64, "CODEBLOCK": 4, "PRECINCTS": "{64,64},{64,64}"}),
    "cells": ((390, 520), "uint16", {"BLOCK": 256, "PLT": "YES"} | TABLE),
    "plain": ((200, 260), "uint16", {"BLOCK": 128}),
    "table": ((150, 170), "uint16", {"BLOCK": 64} | TABLE),
    "parts": ((200, 260), "uint16", {"BLOCK": 128, "TILEPARTS": "RESOLUTIONS", "PROGRESSION": "RLCP"}),
    "parts_table": ((200, 200), "uint16", {"BLOCK": 128, "TILEPARTS": "RESOLUTIONS", "PROGRESSION": "RPCL"} | TABLE),
    "layers": ((200, 260), "uint16", {"BLOCK": 128, "QUALITY": "10,40,100", "TILEPARTS": "LAYERS", "PLT": "YES"}),
    "single": ((270, 290), "uint16", {"BLOCK": 512}),
    "lossy": ((260, 200), "int16", {"BLOCK": 128, "REVERSIBLE": "NO", "QUALITY": "25", "CODEBLOCK": 32}),
    "signed": ((131, 67), "int16", {"BLOCK": 64, "CODEBLOCK": 16}),
    "bytes": ((199, 201), "uint8", {"BLOCK": 128, "RESOLUTIONS": 3}),
    "markers": ((150, 150), "uint16", {"BLOCK": 128, "PROGRESSION": "PCRL", "SOP": "YES", "EPH": "YES"}),
    "style": ((150, 150), "uint16", {"BLOCK": 128, "CODEBLOCK_STYLE": "BYPASS,RESET,TERMALL,VSC,PREDTERM,SEGSYM"}),
    "whole": ((64, 70), "uint16", {"BLOCK": 1024, "RESOLUTIONS": 1}),
}  # fmt: skip
"""Name -> shape, type and options of GDAL. BLOCK and CODEBLOCK are edges of squares."""


class Part(NamedTuple):
    """A tile-part in a file."""

    tile: int
    start: int
    body: int
    """Offset of its SOD marker."""
    end: int


@dataclass(frozen=True)
class Form:
    """A sound file.

    Parameters
    ----------
    name
        Key of `FORMS`.
    data
        The file.
    pixels
        What GDAL reads of it.
    tile
        (rows, columns) of its tiles.
    overviews
        Factor -> what GDAL reads at that reduced resolution.
    """

    name: str
    data: bytes
    pixels: Pixels
    tile: tuple[int, int]
    overviews: dict[int, Pixels]

    @functools.cached_property
    def stream(self) -> int:
        """Offset of the codestream."""
        return self.data.index(b"\xff\x4f\xff\x51")

    @functools.cached_property
    def segments(self) -> list[tuple[int, int, int]]:
        """Marker, offset and one past the end of each segment of the main header."""
        found, at = [], self.stream + 2
        while (marker := _number(self.data, at)) != SOT:
            end = at + 2 + _number(self.data, at + 2)
            found.append((marker, at, end))
            at = end
        return found

    @functools.cached_property
    def parts(self) -> list[Part]:
        """Its tile-parts, in order."""
        found, at = [], self.segments[-1][2]
        while _number(self.data, at) == SOT:
            tile, length = struct.unpack_from(">HI", self.data, at + 4)
            body = at + 12
            while _number(self.data, body) != SOD:
                body += 2 + _number(self.data, body + 2)
            found.append(Part(tile, at, body, at + length))
            at += length
        assert self.data[at:] == b"\xff\xd9"
        return found

    @functools.cached_property
    def boxes(self) -> list[int]:
        """Offsets of its boxes, also of those in others."""
        names = (
            b"jP  ",
            b"ftyp",
            b"jp2h",
            b"ihdr",
            b"bpcc",
            b"colr",
            b"res ",
            b"asoc",
            b"lbl ",
            b"xml ",
            b"uuid",
            b"jp2c",
        )
        head = self.data[: self.stream]
        return sorted({head.index(name) - 4 for name in names if name in head})

    def tiles_of(self, window: Window) -> set[int]:
        """Tiles that a window touches."""
        high, wide = self.tile
        across = -(-self.pixels.shape[1] // wide)
        first, last, left, right = window
        return {
            i * across + j
            for i in range(first // high, (last - 1) // high + 1)
            for j in range(left // wide, (right - 1) // wide + 1)
        }


def _number(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


@dataclass
class Damaged:
    """A file that is being damaged.

    Parameters
    ----------
    form
        The sound file.
    other
        The tile-parts of a file of the same form with other pixels.
    rng
        What chooses.
    """

    form: Form
    other: Form
    rng: random.Random
    data: bytearray = field(init=False)
    hurt: set[int] = field(default_factory=set)
    """Tiles whose pixels may be others than those of the sound file."""
    all_hurt: bool = False
    """Whether any tile's pixels, and the size of the image, may be others."""
    lost: set[int] = field(default_factory=set)
    """Tiles that must be refused."""
    how: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = bytearray(self.form.data)

    @property
    def name(self) -> str:
        """What was done."""
        return self.how[-1] if self.how else "nothing"

    def value(self, size: int, old: int) -> int:
        """Choose a number of some bytes that parsers like least."""
        most = (1 << 8 * size) - 1
        near = [40_000, 65_535, old - 1, old + 1, old * 2, old // 2, -old, old ^ 1 << self.rng.randrange(8 * size)]
        return (
            self.rng.choice([0, 1, 2, 3, 11, 12, 13, 14, most, most - 1, most >> 1, (most >> 1) + 1, *near * 2]) & most
        )

    def put(self, at: int, size: int) -> None:
        """Overwrite a number."""
        old = int.from_bytes(self.data[at : at + size], "big")
        self.data[at : at + size] = self.value(size, old).to_bytes(size, "big")

    # The damages: each leaves offsets before the damaged place as they are, and is done once to a sound file, or in a
    # row with others, where all tiles count as hurt and none as lost.

    def main_header(self) -> None:
        """A number or some bytes of a segment of the main header."""
        marker, at, end = self.rng.choice(self.form.segments)
        self.how.append(f"main header {marker:X}")
        kind = self.rng.randrange(5)
        if kind == 0:  # its length
            self.put(at + 2, 2)
        elif kind == 1:  # its marker
            self.data[at : at + 2] = struct.pack(">H", self.rng.choice([SIZ, COD, QCD, TLM, SOT, SOD, EOC, *OTHERS]))
        elif kind == 2:
            self.flip(at + 4, end)
        else:
            size = self.rng.choice([1, 2, 4])
            self.put(self.rng.randrange(at + 4, max(end - size, at + 4) + 1), size)
        self.all_hurt = True

    def sizes(self) -> None:
        """A size or an offset in SIZ, or what describes a component."""
        at = self.form.segments[0][1]
        self.how.append("SIZ")
        place = self.rng.randrange(12)
        if place < 8:
            self.put(at + 6 + 4 * place, 4)
        elif place == 8:
            self.put(at + 38, 2)
        else:
            self.put(at + 40 + place - 9, 1)
        self.all_hurt = True

    def enlarged(self) -> None:
        """A header that promises an image, or tiles, far larger than the code, perhaps in the smallest code-blocks."""
        at = self.form.segments[0][1]
        width, height = (self.rng.choice([1100, 4000, 20_000, 65_535]) for _ in range(2))
        self.data[at + 6 : at + 14] = struct.pack(">2I", width, height)
        if self.rng.random() < 0.8:
            edges = struct.pack(
                ">2I", *self.rng.choice([(width, height), (0xFFFFFFFF, 0xFFFFFFFF), (1, 1), (1100, 1100)])
            )
            self.data[at + 22 : at + 30] = edges
        coding = next(at for marker, at, _ in self.form.segments if marker == COD)
        if self.rng.random() < 0.5:
            self.data[coding + 10 : coding + 12] = b"\0\0"
        self.all_hurt = True
        self.how.append("enlarged")

    def coding(self) -> None:
        """A byte of the coding style."""
        at, end = next((at, end) for marker, at, end in self.form.segments if marker == COD)
        self.how.append("COD")
        self.put(self.rng.randrange(at + 4, end), 1)
        self.all_hurt = True

    def segment_inserted(self) -> None:
        """A segment that is not expected, in the main header or in that of a tile-part."""
        marker = self.rng.choice([COD, QCD, TLM, PLT, SOT, SIZ, EOC, SOD, *OTHERS])
        length = self.rng.choice([0, 1, 2, 3, 4, 9, 12, 0xFFFF])
        segment = struct.pack(">HH", marker, length) + self.rng.randbytes(self.rng.choice([max(0, length - 2), 5]))
        if self.rng.random() < 0.5:
            at = self.rng.choice(self.form.segments)[2]
            self.all_hurt = True
        else:
            part = self.rng.choice(self.form.parts)
            at = part.start + 12
            if self.rng.random() < 0.7:
                self.data[part.start + 6 : part.start + 10] = struct.pack(">I", part.end - part.start + len(segment))
            self.hurt.add(part.tile)
        self.data[at:at] = segment
        self.how.append(f"inserted {marker:X}")

    def tile_part(self) -> None:
        """A number of a tile-part's SOT segment."""
        part = self.rng.choice(self.form.parts)
        offset, size, name = self.rng.choice([
            (0, 2, "SOT"), (2, 2, "Lsot"), (4, 2, "Isot"), (6, 4, "Psot"), (6, 4, "Psot"), (10, 1, "TPsot"),
            (11, 1, "TNsot"),
        ])  # fmt: skip
        old = bytes(self.data)
        if name == "Isot" and self.rng.random() < 0.7:
            self.data[part.start + 4 : part.start + 6] = struct.pack(">H", self.rng.choice(self.form.parts).tile)
        else:
            self.put(part.start + offset, size)
        self.how.append(name)
        if bytes(self.data) == old:
            return
        self.hurt.add(part.tile)
        if name == "Isot":
            self.hurt.add(_number(self.data, part.start + 4))
            self.lost |= {part.tile}
        elif name in {"SOT", "Lsot"}:
            self.lost |= {part.tile}

    def part_header(self) -> None:
        """A byte of a tile-part's header behind its SOT segment, or its end."""
        part = self.rng.choice(self.form.parts)
        self.put(self.rng.randrange(part.start + 12, part.body + 2), self.rng.choice([1, 2]))
        self.hurt.add(part.tile)
        self.how.append("tile-part header")

    def table(self) -> None:
        """The table of tile-parts in the main header, which only repeats what their own headers say."""
        tables = [(at, end) for marker, at, end in self.form.segments if marker == TLM]
        if not tables:
            self.tile_part()
            return
        at, end = self.rng.choice(tables)
        size = self.rng.choice([1, 2, 4])
        self.put(self.rng.randrange(at + 4, end - size + 1), size)
        self.how.append("TLM")

    def body(self) -> None:
        """Some bytes of packets."""
        part = self.rng.choice(self.form.parts)
        start = part.body + 2
        if start >= part.end:
            return
        kind = self.rng.randrange(4)
        if kind == 0:  # the first packet headers
            self.flip(start, min(start + 60, part.end))
        elif kind == 1:
            self.flip(start, part.end)
        else:
            at = self.rng.randrange(start, part.end)
            many = min(self.rng.choice([2, 16, 400]), part.end - at)
            self.data[at : at + many] = self.rng.choice([bytes(many), b"\xff" * many, self.rng.randbytes(many)])
        self.hurt.add(part.tile)
        self.how.append("packets")

    def flip(self, start: int, end: int) -> None:
        """Change some bytes of a range."""
        for _ in range(self.rng.choice([1, 1, 2, 8])):
            if start < end:
                self.data[self.rng.randrange(start, end)] ^= self.rng.randrange(1, 256)

    def truncated(self) -> None:
        """The end is missing, from any kind of place on."""
        part = self.rng.choice(self.form.parts)
        at = self.rng.choice([
            self.rng.randrange(self.form.stream + 2), self.rng.randrange(self.form.stream, part.start + 1),
            part.start, part.start + self.rng.randrange(13), part.body, part.body + 2, part.end - 1, part.end,
            self.rng.randrange(part.start, part.end), self.rng.randrange(len(self.data)), len(self.data) - 1,
        ])  # fmt: skip
        del self.data[at:]
        gone = {part.tile for part in self.form.parts if part.end > at}
        self.hurt |= gone
        self.lost |= gone
        self.how.append("truncated")

    def shifted(self) -> None:
        """Bytes inserted or removed anywhere behind the main header."""
        part = self.rng.choice(self.form.parts)
        at = self.rng.choice(
            [part.start, part.start + 5, part.body, part.body + 2, self.rng.randrange(part.start, part.end)]
        )
        many = self.rng.choice([1, 2, 3, 50])
        if self.rng.random() < 0.5:
            self.data[at:at] = self.rng.choice([bytes(many), self.rng.randbytes(many), self.form.data[at : at + many]])
            self.how.append("bytes inserted")
        else:
            del self.data[at : at + many]
            self.how.append("bytes removed")
            self.hurt |= {other.tile for other in self.form.parts if other.start < at + many and other.end > at}
        self.hurt.add(part.tile)

    def parts_swapped(self) -> None:
        """Two tile-parts in each other's place, which of different tiles is allowed."""
        parts = self.form.parts
        first, second = sorted(self.rng.sample(range(len(parts)), 2)) if len(parts) > 1 else (0, 0)
        order = list(range(len(parts)))
        order[first], order[second] = second, first
        self.lay(order)
        if parts[first].tile == parts[second].tile:
            self.hurt.add(parts[first].tile)
        elif self.form.name.startswith(("parts", "layers")):
            self.hurt |= {parts[first].tile, parts[second].tile}
        self.how.append("tile-parts swapped")

    def part_doubled(self) -> None:
        """A tile-part twice."""
        at = self.rng.randrange(len(self.form.parts))
        order = list(range(len(self.form.parts)))
        order.insert(self.rng.choice([at, len(order)]), at)
        self.lay(order)
        self.hurt.add(self.form.parts[at].tile)
        self.how.append("tile-part doubled")

    def part_missing(self) -> None:
        """A tile-part less."""
        order = list(range(len(self.form.parts)))
        part = self.form.parts[order.pop(self.rng.randrange(len(order)))]
        self.lay(order)
        self.hurt.add(part.tile)
        self.lost.add(part.tile)
        self.how.append("tile-part missing")

    def lay(self, order: list[int]) -> None:
        """Write tile-parts in an order."""
        parts = self.form.parts
        content = b"".join(self.form.data[parts[k].start : parts[k].end] for k in order)
        self.data[parts[0].start :] = content + b"\xff\xd9"

    def foreign_part(self) -> None:
        """A tile-part of another image."""
        at = self.rng.randrange(min(len(self.form.parts), len(self.other.parts)))
        part, other = self.form.parts[at], self.other.parts[at]
        self.data[part.start : part.end] = self.other.data[other.start : other.end]
        self.hurt.add(part.tile)
        self.how.append("tile-part of another image")

    def foreign_header(self) -> None:
        """The main header of another image, of any form."""
        start, end = self.form.stream, self.form.parts[0].start
        self.data[start:end] = self.rng.choice(HEADERS) if HEADERS else self.data[start:end]
        self.all_hurt = True
        self.how.append("main header of another form")

    def box(self) -> None:
        """The length, the type or some bytes of a box."""
        at = self.rng.choice(self.form.boxes)
        kind = self.rng.randrange(4)
        if kind == 0:
            self.put(at, 4)
        elif kind == 1:
            self.data[at + 4 : at + 8] = self.rng.choice([b"jp2c", b"uuid", b"jp2h", b"free", self.rng.randbytes(4)])
        elif kind == 2:  # a length of 64 bits
            self.data[at : at + 8] = struct.pack(">I", 1) + self.data[at + 4 : at + 8]
            self.data[at + 8 : at + 8] = struct.pack(">Q", self.rng.choice([0, 1, 15, 16, 17, 1 << 63, (1 << 64) - 1]))
        else:
            self.flip(at, min(at + 60, self.form.stream))
        self.how.append("box")

    def anything(self) -> None:
        """Several damages, one upon the other."""
        for _ in range(self.rng.choice([2, 3, 8])):
            at = self.rng.randrange(len(self.data))
            self.flip(at, min(at + 30, len(self.data)))
        for _ in range(2):
            _, at, _ = self.rng.choice(self.form.segments)
            self.put(min(at + self.rng.randrange(12), len(self.data) - 2), 2)
        if self.rng.random() < 0.3:
            del self.data[self.rng.randrange(len(self.data)) :]
        self.all_hurt = True
        self.how.append("several")


KINDS: list[tuple[Callable[[Damaged], None], int]] = [
    (Damaged.main_header, 12), (Damaged.sizes, 8), (Damaged.enlarged, 3), (Damaged.coding, 6),
    (Damaged.segment_inserted, 8),
    (Damaged.tile_part, 12), (Damaged.part_header, 6), (Damaged.table, 6), (Damaged.body, 14), (Damaged.truncated, 12),
    (Damaged.shifted, 10), (Damaged.parts_swapped, 4), (Damaged.part_doubled, 4), (Damaged.part_missing, 4),
    (Damaged.foreign_part, 3), (Damaged.foreign_header, 4), (Damaged.box, 8), (Damaged.anything, 8),
]  # fmt: skip
"""Damages, and how often each is done."""
HEADERS: list[bytes] = []
"""Main headers of the sound files of all forms."""


def image(shape: tuple[int, int], dtype: str, seed: int) -> Pixels:
    """Pixels with edges and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    values = 60 + 40 * np.sin(rows / 23 + seed) + (rows // 37 + columns // 29) % 3 * 30 + rng.integers(0, 12, shape)
    factor = 1 if dtype == "uint8" else 25
    return np.asarray(values * factor - (2000 if dtype == "int16" else 0), np.dtype(dtype))


def write(path: Path, name: str, seed: int) -> None:
    """Write a sound file."""
    shape, dtype, options = FORMS[name]
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "RESOLUTIONS": 4} | options
    edge = options.pop("BLOCK")
    options |= {"BLOCKXSIZE": edge, "BLOCKYSIZE": edge}
    if block := options.pop("CODEBLOCK", None):
        options |= {"CODEBLOCK_WIDTH": block, "CODEBLOCK_HEIGHT": block}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 600000, 0, -10, 5200020)}
    with MemoryFile() as file:
        with file.open(driver="GTiff", width=shape[1], height=shape[0], count=1, dtype=dtype, **place) as dataset:
            dataset.write(image(shape, dtype, seed), 1)
        # rasterio does not hand the sizes of tiles to GDAL where it writes itself.
        rasterio.shutil.copy(file.name, path, "JP2OpenJPEG", **options)


def write_all(folder: Path) -> None:
    """Write two sound files of each form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in FORMS:
            for seed in (1, 2):
                write(folder / f"{name}{seed}.jp2", name, seed)


@functools.cache
def forms(folder: Path) -> list[tuple[Form, Form]]:
    """Read the sound files of all forms."""
    found = []
    for name, (shape, _, options) in FORMS.items():
        both = []
        for seed in (1, 2):
            path = folder / f"{name}{seed}.jp2"
            overviews = {}
            with rasterio.open(path) as dataset:
                for number, factor in enumerate(dataset.overviews(1)):
                    with rasterio.open(path, overview_level=number) as overview:
                        overviews[factor] = overview.read(1)
                tile = min(options["BLOCK"], shape[0]), min(options["BLOCK"], shape[1])
                both.append(Form(name, path.read_bytes(), dataset.read(1), tile, overviews))
        found.append((both[0], both[1]))
        HEADERS.append(both[0].data[both[0].stream : both[0].parts[0].start])
    return found


def damage(folder: Path, seed: int) -> Damaged:
    """Damage a file, always in the same way for the same seed."""
    rng = random.Random(seed)
    form, other = rng.choice(forms(folder))
    damaged = Damaged(form, other, rng)
    (kind,) = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])
    kind(damaged)
    return damaged
