"""Directories of TIFF files, and small files of their blocks: judged by GDAL, on files of many forms."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from sen2chain.errors import UnreadableError
from sen2chain.jpeg2000 import Box
from sen2chain.rasters.remote_tiff import RemoteTiff
from sen2chain.tiff import read_directories

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Affine(10, 0, 600_000, 0, -10, 5_100_000)


@dataclass
class Held:
    """A file in memory, which counts what is read of it."""

    data: bytes
    location: str = "https://host/a.tif"
    reads: list[tuple[int, int]] = field(default_factory=list)
    released: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int, ahead: int = 0) -> bytes:
        self.reads.append((offset, max(length, ahead)))
        return self.data[offset : offset + length]

    def fetch(self, ranges: Any) -> None: ...

    def release(self, ranges: Any) -> None:
        self.released += ranges


def made(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return a GeoTIFF of pixels, (rows, columns)."""
    options = {"nodata": 0, "crs": "EPSG:32632", "transform": PLACE, "tiled": True} | options
    count: int = options.pop("count", 1)  # type: ignore[assignment]  # one of options of several types
    with MemoryFile() as memory:
        shape = {"height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype, "count": count}
        with memory.open(driver="GTiff", **shape, **options) as dataset:
            for band in range(count):
                dataset.write(pixels + band, band + 1)
        return bytes(memory.read())


def decoded(file: Held, level: int = 1) -> np.ndarray[Any, Any]:
    """Decode all blocks of a raster."""
    tiff = RemoteTiff(file, read_directories(file))  # type: ignore[arg-type]  # it has the methods that are needed
    picture = tiff.picture(level)
    try:
        with MemoryFile(read_directories(file)[0].header()) as memory, memory.open() as dataset:
            out = np.full(picture.shape, 77, dataset.dtypes[0])
    except RasterioError as error:  # as `raster_file` does
        raise UnreadableError(str(error)) from error
    touched = np.ones(picture.blocks, np.bool_)
    for _, decode in tiff.pieces(touched, Box(0, out.shape[0], 0, out.shape[1]), out, level):
        decode()
    return out


def noise(height: int, width: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 250, (height, width)).astype(dtype)


FORMS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw"},
    "zstd": {"compress": "zstd", "predictor": 2},
    "plain": {},
    "lerc": {"compress": "lerc_deflate", "max_z_error": 0},
    "packbits": {"compress": "packbits"},
    "strips": {"tiled": False, "blockysize": 24},
    "strips, deflated": {"tiled": False, "blockysize": 7, "compress": "deflate", "predictor": 2},
    "one strip": {"tiled": False, "blockysize": 400},
    "big-endian": {"endianness": "big", "compress": "deflate", "predictor": 2},
    "bigtiff": {"BIGTIFF": "YES", "compress": "deflate"},
    "bigtiff, big-endian": {"BIGTIFF": "YES", "endianness": "big"},
    "three bands by pixel": {"count": 3, "interleave": "pixel", "compress": "deflate"},
    "three bands by plane": {"count": 3, "interleave": "band", "compress": "deflate", "predictor": 2},
}


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "float32"])
@pytest.mark.parametrize("form", FORMS)
def test_blocks_are_those_that_gdal_reads(form: str, dtype: str) -> None:
    options = dict(FORMS[form])
    if dtype == "float32" and options.get("predictor") == 2:
        options["predictor"] = 3
    if options.get("tiled", True):
        options |= {"blockxsize": 32, "blockysize": 48}
    pixels = noise(130, 150, dtype)
    file = Held(made(pixels, **options))
    np.testing.assert_array_equal(decoded(file), pixels)
    # What was read of blocks is released, and all of it.
    (directory, *_) = read_directories(file)
    assert sorted(file.released) == sorted(zip(directory.offsets.tolist(), directory.lengths.tolist(), strict=True))


@pytest.mark.parametrize("form", ["deflate", "bigtiff", "big-endian", "strips"])
def test_the_header_tells_the_same_as_the_file(form: str) -> None:
    data = made(noise(130, 150, "int16"), **FORMS[form], nodata=-9)
    (directory,) = read_directories(Held(data))
    with MemoryFile(data) as a, a.open() as whole, MemoryFile(directory.header()) as b, b.open() as header:
        for name in ("crs", "transform", "shape", "dtypes", "nodata", "block_shapes", "scales", "offsets", "count"):
            assert getattr(header, name) == getattr(whole, name), name
    assert len(directory.header()) < 4000


def test_smaller_pictures_and_masks(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=500, width=700, count=1, dtype="uint16", nodata=0,
        crs="EPSG:32632", transform=PLACE,
    ) as dataset:  # fmt: skip
        dataset.write(noise(500, 700), 1)
    copy(tmp_path / "a.tif", tmp_path / "b.tif", driver="COG", blocksize=128, compress="deflate", overviews="AUTO")
    data = (tmp_path / "b.tif").read_bytes()
    tiff = RemoteTiff(Held(data), read_directories(Held(data)))  # type: ignore[arg-type]
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert tiff.levels == dataset.overviews(1) == [2, 4, 8]
        for k, level in enumerate(tiff.levels):
            with rasterio.open(tmp_path / "b.tif", overview_level=k) as smaller:
                np.testing.assert_array_equal(decoded(Held(data), level), smaller.read(1))
        with MemoryFile() as memory:
            profile = dataset.profile | {"driver": "GTiff", "nodata": None}
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), memory.open(**profile) as masked:
                masked.write(dataset.read(1), 1)
                masked.write_mask(np.arange(500 * 700).reshape(500, 700) % 2 == 0)
                masked.build_overviews([2])
            held = Held(bytes(memory.read()))
            assert sum(directory.is_mask for directory in read_directories(held)) == 2
            np.testing.assert_array_equal(decoded(held), dataset.read(1))
            assert RemoteTiff(held, read_directories(held)).levels == [2]  # type: ignore[arg-type]


def test_blocks_that_are_not_in_the_file_are_no_data() -> None:
    pixels = noise(128, 128)
    pixels[:64, :64] = 9
    file = Held(made(pixels, blockxsize=64, blockysize=64, SPARSE_OK=True, nodata=9, compress="deflate"))
    (directory,) = read_directories(file)
    assert directory.range_of(0, 0) is None
    np.testing.assert_array_equal(decoded(file), pixels)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), height=st.integers(16, 150), width=st.integers(16, 150), seed=st.integers(0, 9))
def test_any_area_of_any_blocks(data: st.DataObject, height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed=seed)
    if data.draw(st.booleans(), "tiled"):
        size = {
            "blockxsize": data.draw(st.sampled_from([16, 32, 64])),
            "blockysize": data.draw(st.sampled_from([16, 48])),
        }
    else:
        size = {"tiled": False, "blockysize": data.draw(st.integers(1, height))}
    file = Held(made(pixels, compress="deflate", **size))
    tiff = RemoteTiff(file, read_directories(file))  # type: ignore[arg-type]
    picture = tiff.picture()
    count = picture.blocks[0] * picture.blocks[1]
    drawn = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    touched = np.array(drawn).reshape(picture.blocks)
    top = data.draw(st.integers(0, height - 1))
    left = data.draw(st.integers(0, width - 1))
    area = Box(top, data.draw(st.integers(top + 1, height)), left, data.draw(st.integers(left + 1, width)))
    out = np.zeros((area.bottom - area.top, area.right - area.left), np.uint16)
    seen = []
    for span, decode in tiff.pieces(touched, area, out):
        seen.append(span)
        decode()
    high, wide = picture.block_shape
    rows, columns = np.arange(height) // high, np.arange(width) // wide
    wanted = np.where(touched[rows[:, None], columns[None, :]], pixels, 0)
    inside = wanted[area.top : area.bottom, area.left : area.right]
    np.testing.assert_array_equal(np.where(inside > 0, out, 0), inside)
    assert not out[inside == 0].any()


def test_pieces_hold_several_small_blocks_of_one_row() -> None:
    file = Held(made(noise(512, 4096), blockxsize=256, blockysize=256))
    tiff = RemoteTiff(file, read_directories(file))  # type: ignore[arg-type]
    touched = np.ones((2, 16), np.bool_)
    touched[0, 3] = False
    spans = [span for span, _ in tiff.pieces(touched, Box(0, 512, 0, 4096), np.zeros((512, 4096), np.uint16))]
    assert [span.right - span.left for span in spans] == [1280, 1024, 1024, 768, 1024, 1024, 1024, 1024]
    assert all(a.right <= b.left or a.top != b.top for a, b in itertools.pairwise(spans))


# --------------------------------------------------------------------------------------------------- damaged files


def test_damaged_headers_are_told_by_name() -> None:
    data = made(noise(64, 64), blockxsize=32, blockysize=32)
    at = struct.unpack_from("<I", data, 4)[0]
    cases = {
        "it is not a TIFF file": b"XX" + data[2:],
        "its header is not that": data[:2] + b"\x07\x00" + data[4:],
        "it has no directory": data[:4] + bytes(4) + data[8:],
        "it ends within its header": data[:200],
        "it ends before its blocks do": data[:-100] if at < len(data) - 200 else data,
        "a directory has 60000 tags": data[:at] + struct.pack("<H", 60_000) + data[at + 2 :],
    }
    for text, damaged in cases.items():
        with pytest.raises(UnreadableError, match=r"https://host/a\.tif cannot be read") as error:
            decoded(Held(damaged))
        assert text in str(error.value)


def test_a_header_is_not_larger_in_memory_than_it_may_be() -> None:
    """Many tags may name the same bytes of a small file."""
    size = 1 << 22
    entries = [struct.pack("<HHII", 40000 + k, 7, size, 8) for k in range(20)]
    data = (
        struct.pack("<2sHI", b"II", 42, 8 + size) + bytes(size) + struct.pack("<H", 20) + b"".join(entries) + bytes(4)
    )
    file = Held(data)
    with pytest.raises(UnreadableError, match="its header has more than 67,108,864 bytes"):
        read_directories(file)
    assert sum(length for _, length in file.reads) < 1 << 20


@pytest.mark.parametrize("edge", [1 << 15, 1 << 20, 1 << 30])
def test_blocks_of_an_impossible_size_are_not_decoded(edge: int) -> None:
    data = bytearray(made(noise(16, 16), blockxsize=16, blockysize=16, compress="deflate"))
    (at,) = struct.unpack_from("<I", data, 4)
    for place in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        if (name := struct.unpack_from("<H", data, place)[0]) in {322, 323}:
            struct.pack_into("<HHII", data, place, name, 4, 1, edge)
    with pytest.raises(UnreadableError, match=f"its blocks have {edge} x {edge} pixels"):
        decoded(Held(bytes(data)))


def test_directories_that_point_to_each_other_end() -> None:
    data = bytearray(made(noise(64, 64), blockxsize=32, blockysize=32))
    at = struct.unpack_from("<I", data, 4)[0]
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    with pytest.raises(UnreadableError, match="directories do not end"):
        read_directories(Held(bytes(data)))


DAMAGE = """
import random, sys
import numpy as np
from sen2chain.errors import UnreadableError
from test_tiff import Held, decoded, made, noise
generator = random.Random(int(sys.argv[1]))
files = [made(noise(100, 100), blockxsize=32, blockysize=32, compress="deflate", predictor=2),
         made(noise(100, 100), tiled=False, blockysize=9, BIGTIFF="YES")]
read = 0
for number in range(int(sys.argv[2])):
    data = bytearray(generator.choice(files))
    for _ in range(generator.choice([1, 2, 8])):
        where = generator.randrange(1200 if generator.random() < 0.8 else len(data))
        data[where] = generator.choice([0, 255, generator.randrange(256)])
    if generator.random() < 0.2:
        del data[generator.randrange(len(data)):]
    try:
        decoded(Held(bytes(data)))
        read += 1
    except (UnreadableError, MemoryError):
        pass
print("read", read)
"""


def test_random_damage_is_an_error_or_pixels() -> None:
    program = [sys.executable, "-W", "ignore", "-c", DAMAGE, "1", "300"]
    run = subprocess.run(  # noqa: S603  # our own interpreter
        program, capture_output=True, text=True, cwd=__file__.rpartition("/")[0], check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) < 300
