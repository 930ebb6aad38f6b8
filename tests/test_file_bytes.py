"""Bytes of files on disk and in zip files: against zipfile, in any order, in threads, and of damaged zip files."""

from __future__ import annotations

import random
import re
import struct
import sys
import threading
import tracemalloc
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import UnreadableError
from sen2chain.jpeg2000 import file_bytes
from sen2chain.jpeg2000.file_bytes import FileBytes, open_bytes

FORMS = ("file", "stored", "deflated")
SIZE = 60_000


def content(kind: str, size: int = SIZE) -> bytes:
    """Bytes that deflate hardly, well, or extremely well."""
    generator = random.Random(size)
    if kind == "noise":
        return generator.randbytes(size)
    if kind == "text":
        return bytes(generator.choices(b"abcd" * 5 + b"e", k=size))
    return bytes(size)


def write(folder: Path, form: str, data: bytes, name: str = "A.SAFE/b.jp2") -> str:
    """Write a file in one form, and return its location."""
    if form == "file":
        (folder / "b.jp2").write_bytes(data)
        return str(folder / "b.jp2")
    archive = folder / f"{form}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED if form == "stored" else zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("A.SAFE/manifest.safe", b"before")
        opened.writestr(name, data)
        opened.writestr("A.SAFE/z.xml", b"behind" * 100)
    return f"/vsizip/{archive}/{name}"


def opened(location: str) -> FileBytes:
    found = open_bytes(location)
    assert found is not None
    return found


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let states be kept so often that small files have several."""
    monkeypatch.setattr(file_bytes, "_SHORTEST_INTERVAL", 3000)
    monkeypatch.setattr(file_bytes, "_LARGEST_STEP", 500)
    monkeypatch.setattr(file_bytes, "_CHUNK", 200)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("kind", ["noise", "text", "zeros"])
@pytest.mark.parametrize("form", FORMS)
def test_any_range_in_any_order_is_what_lies_there(tmp_path: Path, form: str, kind: str) -> None:
    data = content(kind)
    location = write(tmp_path, form, data)
    offsets = st.integers(0, SIZE + 10) | st.sampled_from([0, 2999, 3000, 3001, 3500, SIZE - 1, SIZE])
    lengths = st.integers(0, 20) | st.integers(0, SIZE) | st.just(1 << 70)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.tuples(offsets, lengths), min_size=1, max_size=12))
    def check(ranges: list[tuple[int, int]]) -> None:
        with opened(location) as found:
            assert found.size == SIZE
            for offset, length in ranges:
                assert found.read(offset, length) == data[offset : offset + length]

    check()


@pytest.mark.parametrize("form", FORMS)
def test_bytes_before_the_beginning_and_behind_the_end_are_none(tmp_path: Path, form: str) -> None:
    with opened(write(tmp_path, form, b"abc")) as found:
        assert [found.read(*where) for where in ((-1, 2), (3, 1), (1 << 70, 1), (1, -1), (1, 9))] == [
            b"", b"", b"", b"", b"bc",
        ]  # fmt: skip
    with opened(write(tmp_path, form, b"")) as found:
        assert found.size == 0
        assert found.read(0, 5) == b""


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("pread", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_threads_read_one_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, *, pread: bool
) -> None:
    if not pread:  # as on Windows
        monkeypatch.delattr("os.pread", raising=False)
    data = content("text")
    generator = random.Random(1)
    places = [(generator.randrange(SIZE), generator.randrange(3000)) for _ in range(200)]
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with opened(write(tmp_path, form, data)) as found, ThreadPoolExecutor(8) as pool:
            parts = list(pool.map(lambda place: found.read(*place), places))
    finally:
        sys.setswitchinterval(switching)
    assert parts == [data[offset : offset + length] for offset, length in places]


@pytest.mark.usefixtures("_short")
def test_what_was_inflated_once_is_not_inflated_again_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content("noise")
    read = 0
    whole = FileBytes._read_range

    def counted(self: FileBytes, position: int, length: int) -> bytes:
        nonlocal read
        read += length
        return whole(self, position, length)

    monkeypatch.setattr(FileBytes, "_read_range", counted)
    with opened(write(tmp_path, "deflated", data)) as found:
        for offset in range(0, SIZE, 700):  # in order: each byte once
            assert found.read(offset, 700) == data[offset : offset + 700]
        assert read <= 1.02 * SIZE
        read = 0
        for offset in random.Random(2).sample(range(SIZE), 50):  # at random: half an interval before each
            assert found.read(offset, 1) == data[offset : offset + 1]
        assert read < 50 * 3700


def test_the_memory_for_states_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    size, packer = 160 << 20, zlib.compressobj(wbits=-15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    location = in_archive(tmp_path / "x.zip", 8, b"", packed, size)
    tracemalloc.start()
    try:
        with opened(location) as found:
            assert found.read(size - 3, 9) == bytes(3)
            assert len(found._kept) <= 64  # type: ignore[attr-defined]
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_locations_that_only_gdal_can_read(tmp_path: Path) -> None:
    for location in ("/vsimem/a.jp2", "/vsis3/bucket/a.jp2", "/vsizip//vsis3/bucket/a.zip/a.jp2", "/vsizip/{a.zip}/b"):
        assert open_bytes(location) is None
    location = write(tmp_path, "stored", b"abc")
    assert open_bytes(f"{location}.absent") is None
    assert open_bytes(f"/vsizip/{tmp_path}/stored.zip") is None


def test_files_packed_in_another_way_encrypted_or_twice_are_left_to_gdal(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("b.jp2", b"abc" * 100)
        assert open_bytes(f"/vsizip/{path}/b.jp2") is None
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("b.jp2", b"one")
        archive.writestr("b.jp2", b"two")
    assert open_bytes(f"/vsizip/{path}/b.jp2") is None
    location = write(tmp_path, "stored", b"abc")
    path = tmp_path / "stored.zip"
    written = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := written.find(signature, at + 1)) >= 0:
            written[at + flags] |= 1
    path.write_bytes(written)
    assert open_bytes(location) is None


def test_zip_files_of_more_than_4_gb_and_with_something_before_them(tmp_path: Path) -> None:
    data = content("noise", 1000)
    path = tmp_path / "x.zip"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with path.open("wb") as file:
            file.write(b"#!/bin/sh\n")
            with zipfile.ZipFile(file, "a", method) as archive, archive.open("b.jp2", "w", force_zip64=True) as member:
                member.write(data)
        with opened(f"/vsizip/{path}/b.jp2") as found:
            assert found.read(0, 2000) == data
    with path.open("wb") as file:
        file.seek(5 << 30)  # a hole, which takes no space
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("b.jp2", data)
    with opened(f"/vsizip/{path}/b.jp2") as found:
        assert found.read(3, 10) == data[3:13]


def test_a_file_that_is_missing_or_shrinks(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"absent\.jp2 cannot be opened: No such file"):
        open_bytes(str(tmp_path / "absent.jp2"))
    with pytest.raises(UnreadableError, match="cannot be opened: it is a folder"):
        open_bytes(str(tmp_path))
    location = write(tmp_path, "file", bytes(1000))
    with opened(location) as found:
        Path(location).write_bytes(bytes(10))
        with pytest.raises(UnreadableError, match=r"b\.jp2 cannot be read: it has become shorter"):
            found.read(0, 1000)


def in_archive(archive: Path, method: int, data: bytes, packed: bytes, size: int) -> str:
    """Write a zip file that states any sizes; its one file is `packed`."""
    crc, name = zlib.crc32(data), b"b.jp2"
    facts = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, crc, len(packed), size, len(name), 0)
    local = b"PK\3\4" + facts + name + packed
    central = b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    archive.write_bytes(local + central + end)
    return f"/vsizip/{archive}/b.jp2"


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def test_sizes_that_contradict_each_other(tmp_path: Path) -> None:
    data, path = content("text", 5000), tmp_path / "x.zip"
    with opened(in_archive(path, 8, data, deflate(data), 5000)) as found:
        assert found.read(0, 6000) == data
    with pytest.raises(UnreadableError, match=r"x\.zip/b\.jp2 cannot be opened: the zip file is damaged \(5000 bytes"):
        open_bytes(in_archive(path, 0, data, data, 6000))
    with pytest.raises(UnreadableError, match=r"bytes in it cannot be 4294967294 bytes of this file"):
        open_bytes(in_archive(path, 8, data, deflate(data), 0xFFFFFFFE))
    with opened(in_archive(path, 8, data, deflate(data), 6000)) as found:
        assert found.read(4000, 1000) == data[4000:]
        with pytest.raises(UnreadableError, match=r"deflated data are damaged \(they end after 5000 of 6000 bytes"):
            found.read(5000, 10)
    with opened(in_archive(path, 8, data, deflate(data)[:-500], 5000)) as found:
        assert found.read(0, 100) == data[:100]
        with pytest.raises(UnreadableError, match="they end after"):
            found.read(0, 5000)
    with (
        opened(in_archive(path, 8, data, b"\xff" * 500, 5000)) as found,
        pytest.raises(UnreadableError, match="invalid"),
    ):
        found.read(4000, 10)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("form", ["stored", "deflated"])
def test_a_damaged_zip_file_is_refused_or_read_and_nothing_else(tmp_path: Path, form: str) -> None:
    location = write(tmp_path, form, content("text", 3000))
    path = tmp_path / f"{form}.zip"
    sound = path.read_bytes()
    kinds: dict[Any, int] = {}
    threads = threading.active_count()
    generator = random.Random(3)
    headers = [at for at in range(len(sound)) if sound[at : at + 2] == b"PK"]
    for _ in range(600):
        damaged = bytearray(sound)
        for _ in range(generator.randint(1, 3)):
            at = min(generator.choice(headers) + generator.randrange(60), len(sound) - 1)
            damaged[at] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)])
        if generator.random() < 0.2:
            del damaged[generator.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            found = open_bytes(location)
            if found is not None:
                with found:
                    assert len(found.read(100, 1 << 40)) == found.size - 100
            kind = str(found is None)
        except UnreadableError as error:
            kind, sentence = "refused", str(error)
            assert re.fullmatch(rf"{re.escape(location)} cannot be .*\.", sentence), sentence
        kinds[kind] = kinds.get(kind, 0) + 1
    assert min(kinds.values()) > 10, kinds
    assert len(kinds) == 3, kinds
    assert threading.active_count() <= threads
