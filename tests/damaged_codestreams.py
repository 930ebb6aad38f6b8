"""Damaged JPEG 2000 files: what is done to them, and the command that reads twenty thousand of them.

``python tests/damaged_codestreams.py --runs 20000`` damages small files of all forms - headers, table of tile-parts,
packets, boxes, the zip file around them - and reads windows of each in processes of their own, which may not need long,
nor much memory, nor crash. Each window is refused with an `UnreadableError`, or is an array of the right shape; what no
damage touches has the pixels of the sound file, and what is not there is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import functools
import json
import os
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest.mock
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

from sen2chain import jpeg2000
from sen2chain.coverage import TouchedBlocks
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.jpeg2000 import Box, file_bytes
from sen2chain.rasters import Raster, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Pixels = npt.NDArray[np.generic]
    Window = tuple[int, int, int, int]  # first row, one past the last, first column, one past the last

SECONDS = 60.0
"""What a case may take; the machine may have other work."""
MEMORY = 1 << 30
"""Bytes of address space that a worker may take on top of what it has after its start."""
GROWTH = 350 << 20
"""Bytes of address space and of memory that reading the windows of one small file may take."""

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
    """

    name: str
    data: bytes
    pixels: Pixels
    tile: tuple[int, int]

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
                ">2I", *self.rng.choice([(width, height), (0xFFFFFFFF, 0xFFFFFFFF), (1, 1), (width, 1)])
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
            with rasterio.open(path) as dataset:
                tile = min(options["BLOCK"], shape[0]), min(options["BLOCK"], shape[1])
                both.append(Form(name, path.read_bytes(), dataset.read(1), tile))
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


class Case:
    """Reading the windows of one damaged file, in a worker.

    Parameters
    ----------
    folder
        The sound files; damaged ones are written there.
    seed
        What is damaged, and how it is read.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.damaged, self.seed = damage(folder, seed), seed
        self.rng = random.Random(-seed)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.path = path = folder / f"damaged{os.getpid()}.jp2"
        self.location = str(path)
        form = self.rng.choices([None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], [8, 1, 1])[0]
        path.write_bytes(self.damaged.data)
        if form is not None:
            archive = path.with_suffix(".zip")
            with zipfile.ZipFile(archive, "w", form) as opened:
                opened.write(path, "a.jp2")
            self.location = f"/vsizip/{archive}/a.jp2"

    def fault(self, what: str) -> None:
        """Note what should not be."""
        self.faults.append(what)

    def run(self) -> dict[str, Any]:
        """Read the file, with the module and now and then without, and tell what became of it."""
        begin = time.perf_counter()
        with self._watched_bytes():
            found = self._read()
            if self.rng.random() < 0.3:
                self._read_alone()
        if found and self.rng.random() < 0.15:
            with unittest.mock.patch.dict(os.environ, {"SEN2CHAIN_OPENJPEG": "off"}):
                self._compare(found, self._read(found))
        return {
            "seed": self.seed, "how": self.damaged.name, "form": self.damaged.form.name,
            "faults": self.faults, "counts": self.counts, "seconds": time.perf_counter() - begin,
        }  # fmt: skip

    def _read(self, windows: dict[Window, Pixels | None] | None = None) -> dict[Window, Pixels | None]:
        """Read some windows of the file: window -> its pixels, None where it is refused."""
        named = windows is not None
        self.counts["opened" if not named else "opened without"] += 1
        found: dict[Window, Pixels | None] = {}
        try:
            with environment(), Raster(self.location) as raster:
                shape = raster.grid.shape
                before = memory()
                for window in list(windows or self._windows(raster)):
                    if window[1] <= shape[0] and window[3] <= shape[1]:
                        found[window] = self._window(raster, window)
                    if not named:
                        self._check(raster, window, found.get(window))
                if not named and self.rng.random() < 0.3:
                    self._threads(raster)
                if not named:
                    self._check_memory(before)
        except RasterError as error:
            self._sentence(error)
            self.counts["refused at opening" if not named else "refused at opening without"] += 1
        return found

    def _read_alone(self) -> None:
        """Read the file with the module alone: GDAL, which opens rasters, refuses many files before it sees them."""
        location = self.location
        if self.rng.random() < 0.5 and self.damaged.how != ["box"]:  # the codestream alone
            path = self.path.with_suffix(".j2k")
            path.write_bytes(self.damaged.data[self.damaged.form.stream :])
            location = str(path)
        library, file = jpeg2000.library(), jpeg2000.open_bytes(location)
        assert library is not None
        assert file is not None

        def otherwise(*_: object) -> None:
            raise UnreadableError("GDAL would read it")

        before = memory()
        try:
            with file:
                windows = jpeg2000.Jpeg2000Windows(library, file)
                height, width = windows.shape
                if height * width > 1 << 22:
                    self.counts["alone: too large"] += 1
                    return
                out = np.zeros((height, width), np.int32)
                boxes = boxes_of((0, height, 0, width), windows.cell_shape, windows.shape)
                for _, decode in windows.pieces(boxes, Box(0, height, 0, width), out, otherwise):
                    try:
                        decode()
                        self.counts["alone: read"] += 1
                    except UnreadableError:
                        self.counts["alone: refused"] += 1
        except jpeg2000.UnknownFormError:
            self.counts["alone: left to GDAL"] += 1
        except UnreadableError:
            self.counts["alone: refused at opening"] += 1
        self._check_memory(before)

    def _sentence(self, error: RasterError) -> None:
        """Check the sentence of an error."""
        if self.location not in str(error) or "\n" in str(error):
            self.counts["odd sentence"] += 1

    def _windows(self, raster: Raster) -> Iterator[Window]:
        """Choose windows: inside cells, over their edges, whole cells, and the whole raster."""
        high, wide = raster.block_shape
        height, width = raster.grid.shape
        if height * width > 1 << 20:  # the damage made it large
            height, width = min(height, 1024), min(width, 1024)
        for _ in range(4):
            i, j = self.rng.randrange(-(-height // high)), self.rng.randrange(-(-width // wide))
            bottom, right = min((i + 1) * high, height), min((j + 1) * wide, width)
            if self.rng.random() < 0.2:
                yield i * high, bottom, j * wide, right
                continue
            first, left = self.rng.randrange(i * high, bottom), self.rng.randrange(j * wide, right)
            yield first, self.rng.randint(first + 1, bottom), left, self.rng.randint(left + 1, right)
        if self.rng.random() < 0.3:
            yield 0, height, 0, width

    def _window(self, raster: Raster, window: Window) -> Pixels | None:
        """Read a window, by `read` or by `read_blocks`; None where it is refused."""
        first, last, left, right = window
        high = raster.block_shape[0]
        rows = first // high * high, min(-(-last // high) * high, raster.grid.shape[0])
        guard = 2
        whole = np.full((rows[1] - rows[0] + 2 * guard, raster.grid.shape[1]), 77, raster.dtype)
        out = whole[guard:-guard]
        try:
            if self.rng.random() < 0.2:
                data: Pixels = raster.read((first, last), (left, right))
            else:
                raster.read_blocks(touched(raster, window), rows, out)
                data = out[first - rows[0] : last - rows[0], left:right].copy()
        except UnreadableError as error:
            self._sentence(error)
            self.counts["refused"] += 1
            return None
        finally:
            if (whole[:guard] != 77).any() or (whole[-guard:] != 77).any():
                self.fault("written outside of the array")
        self.counts["read"] += 1
        if data.shape != (last - first, right - left) or data.dtype != raster.dtype:
            self.fault(f"an array of {data.shape} {data.dtype} for {window} of {raster.dtype}")
        return data

    def _check(self, raster: Raster, window: Window, data: Pixels | None) -> None:
        """Compare a window with the sound file."""
        form, damaged = self.damaged.form, self.damaged
        if data is None:
            return
        tiles = form.tiles_of(window)
        if tiles & damaged.lost:
            self.fault(f"{window} was read, and tiles {sorted(tiles & damaged.lost)} are not there")
        if damaged.all_hurt or tiles & damaged.hurt:
            self.counts["read with damage"] += 1
            return
        if raster.dtype != form.pixels.dtype or not self.same(
            form.pixels[window[0] : window[1], window[2] : window[3]], data
        ):
            self.fault(f"{window} has other pixels than the sound file")

    def same(self, first: Pixels, second: Pixels) -> bool:
        """Whether two windows have the same pixels, of lossy files but for rounding."""
        most = int(self.damaged.form.name == "lossy")
        return first.shape == second.shape and bool(
            (np.abs(first.astype(np.int64) - second.astype(np.int64)) <= most).all()
        )

    def _compare(self, ours: dict[Window, Pixels | None], theirs: dict[Window, Pixels | None]) -> None:
        """Compare with what GDAL reads of the damaged file."""
        for window, data in ours.items():
            other = theirs.get(window)
            if data is None or other is None:
                if data is not None:
                    self.counts["GDAL refuses it"] += 1
                elif other is not None:
                    self.counts["GDAL reads it"] += 1
                continue
            same = self.same(data, other)
            hurt = self.damaged.all_hurt or bool(self.damaged.form.tiles_of(window) & self.damaged.hurt)
            self.counts[f"GDAL: {'same' if same else 'other'} pixels{' of damaged tiles' if hurt else ''}"] += 1
            if not same and not hurt:
                self.fault(f"{window} has other pixels than those of GDAL")

    def _threads(self, raster: Raster) -> None:
        """Decode everything in several threads at once."""
        height, width = raster.grid.shape
        if height * width > 1 << 20:
            return
        out = np.zeros((height, width), raster.dtype)

        def run(piece: Callable[[], None]) -> bool:
            with environment():
                try:
                    piece()
                except UnreadableError:
                    return False
                return True

        with ThreadPoolExecutor(3) as pool:
            done = list(pool.map(run, raster.pieces(touched(raster, (0, height, 0, width)), (0, height), out)))
        if all(done):
            self._check(raster, (0, height, 0, width), out)
        self.counts["pieces in threads"] += len(done)

    @contextlib.contextmanager
    def _watched_bytes(self) -> Iterator[None]:
        """Check each read of the file."""
        reads = file_bytes.FileBytes.read

        def read(this: file_bytes.FileBytes, offset: int, length: int) -> bytes:
            if not 0 <= offset <= this.size or length < 0 or length > max(this.size, 1 << 20):
                self.fault(f"{length} bytes asked for at {offset} of {this.size}")
            return reads(this, offset, length)

        with unittest.mock.patch.object(file_bytes.FileBytes, "read", read):
            yield

    def _check_memory(self, before: dict[str, int]) -> None:
        after = memory()
        for what, bytes_before in before.items():
            if after[what] - bytes_before > GROWTH:
                self.fault(f"{what} grew by {after[what] - bytes_before >> 20} MB")


def touched(raster: Raster, window: Window) -> TouchedBlocks:
    """The blocks of a raster that a window touches."""
    return TouchedBlocks(boxes_of(window, raster.block_shape, raster.grid.shape))


def boxes_of(window: Window, block_shape: tuple[int, int], shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """The parts of a window in each block of a raster, as `TouchedBlocks.boxes`."""
    (high, wide), (height, width) = block_shape, shape
    boxes = np.zeros((-(-height // high), -(-width // wide), 4), np.int32)
    boxes[...] = height, 0, width, 0
    for i in range(window[0] // high, (window[1] - 1) // high + 1):
        for j in range(window[2] // wide, (window[3] - 1) // wide + 1):
            boxes[i, j] = (
                max(window[0], i * high), min(window[1], (i + 1) * high),
                max(window[2], j * wide), min(window[3], (j + 1) * wide),
            )  # fmt: skip
    return boxes


def memory() -> dict[str, int]:
    """Largest address space and memory of this process in bytes; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    facts = dict(line.split(":", 1) for line in lines)
    return {name: int(facts[key].split()[0]) << 10 for name, key in (("address space", "VmPeak"), ("memory", "VmHWM"))}


def serve(folder: Path) -> None:
    """Read the damaged file of each seed that comes in, and print what became of it."""
    faulthandler.enable()
    for form, _ in forms(folder)[:2]:  # so that kernels and libraries are loaded
        with environment(), Raster(str(folder / f"{form.name}1.jp2")) as raster:
            raster.read((0, raster.grid.shape[0]), (0, raster.grid.shape[1]))
    taken = memory().get("address space")
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")  # of files that are not closed, which are told to this hook
    ignored: list[str] = []
    sys.unraisablehook = lambda error: ignored.append(f"ignored: {error.exc_value} in {error.object}")
    for line in sys.stdin:
        seed = int(line)
        try:
            result = Case(folder, seed).run()
        except Exception:  # noqa: BLE001  # any is a fault
            result = {
                "seed": seed,
                "how": "?",
                "form": "?",
                "faults": [traceback.format_exc()],
                "counts": {},
                "seconds": 0,
            }
        result["faults"] += ignored
        ignored.clear()
        print(json.dumps(result), flush=True)  # noqa: T201


class Worker:
    """A process that reads damaged files; another takes its place where it crashes or hangs.

    Parameters
    ----------
    folder
        The sound files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def case(self, seed: int) -> dict[str, Any]:
        """Let the process read the damaged file of a seed.

        Returns
        -------
        dict
            What `Case.run` returns.
        """
        if self._process is None:
            with (self._folder / f"errors{threading.get_ident()}").open("wb") as errors:
                self._process = subprocess.Popen(  # noqa: S603  # our own interpreter
                    [sys.executable, __file__, "--serve", str(self._folder)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
                    # Each of several arenas of the system's memory would take address space of its own.
                    env=os.environ | {"MALLOC_ARENA_MAX": "1"},
                )  # fmt: skip
        to, back = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        to.write(b"%d\n" % seed)
        answer, end = b"", time.monotonic() + SECONDS
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([back], [], [], max(0.0, end - time.monotonic()))
            part = os.read(back.fileno(), 1 << 16) if ready else b""
            if not part:
                code = self.close()
                errors_text = (self._folder / f"errors{threading.get_ident()}").read_text(errors="replace")[-3000:]
                what = f"ended with {code}: {errors_text}" if ready else f"took more than {SECONDS} s"
                how = damage(self._folder, seed)
                return {
                    "seed": seed,
                    "how": how.name,
                    "form": how.form.name,
                    "faults": [what],
                    "counts": {},
                    "seconds": 0,
                }
            answer += part
        result: dict[str, Any] = json.loads(answer)
        return result

    def close(self) -> int:
        """Stop the process and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            cast("IO[bytes]", process.stdin).close()
            process.wait(1)
        process.kill()
        code = process.wait()
        cast("IO[bytes]", process.stdout).close()
        return code


def run(folder: Path, seeds: range, workers: int) -> Iterator[dict[str, Any]]:
    """Read the damaged files of all seeds in processes, and yield what became of each, in order."""
    own = threading.local()
    all_workers: list[Worker] = []

    def case(seed: int) -> dict[str, Any]:
        if not hasattr(own, "worker"):
            own.worker = Worker(folder)
            all_workers.append(own.worker)
        return cast("Worker", own.worker).case(seed)

    if not list(folder.glob("*.jp2")):
        write_all(folder)
    forms(folder)
    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(case, seeds)
    finally:
        for worker in all_workers:
            worker.close()


def main() -> None:
    """Read as many damaged files as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file (default: 0)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--keep", type=Path, help="folder for the files that showed a fault")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    counts, kinds, slowest, faults = Counter[str](), Counter[str](), (0.0, 0), 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n, result in enumerate(run(folder, range(options.seed, options.seed + options.runs), options.workers)):
            counts.update(result["counts"])
            kinds[result["how"]] += 1
            slowest = max(slowest, (result["seconds"], result["seed"]))
            faults += bool(result["faults"])
            for fault in result["faults"]:
                print(f"seed {result['seed']}, {result['form']}, {result['how']}: {fault}", flush=True)  # noqa: T201
            if result["faults"] and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{result['seed']}.jp2").write_bytes(damage(folder, result["seed"]).data)
            if (n + 1) % 500 == 0:
                seconds = time.perf_counter() - begin
                print(f"{n + 1} files in {seconds:.0f} s, {faults} with faults: {dict(counts)}", flush=True)  # noqa: T201
    print(f"{dict(counts)}\n{dict(kinds)}\nslowest: {slowest[0]:.2f} s, seed {slowest[1]}")  # noqa: T201
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
