from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from sen2chain.errors import GridMismatchError, RasterError, UnreadableError
from sen2chain.grid import Grid
from sen2chain.products import Reading
from sen2chain.rasters import Raster, counting, environment
from sen2chain.remote import Access
from troubled_server import TroubledServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ORIGIN = Affine(10, 0, 600000, 0, -10, 5200020)
DATA = np.random.default_rng(0).integers(1, 10000, (256, 260)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _gdal() -> Iterator[None]:
    with environment():
        yield


def write(path: Path, data: np.ndarray[Any, Any] = DATA, **options: Any) -> Path:
    profile: dict[str, Any] = {"crs": "EPSG:32632", "transform": ORIGIN, "dtype": data.dtype, "count": 1}
    if path.suffix == ".jp2":
        # Without `tiled`, rasterio does not pass on the width of blocks.
        profile |= {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "tiled": True}
    profile |= {"height": data.shape[0], "width": data.shape[1]} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{k: v for k, v in profile.items() if v is not None}) as dataset:
            dataset.write(data, 1)
    return path


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    return write(tmp_path / "blocks.jp2", BLOCKXSIZE=64, BLOCKYSIZE=64)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return write(tmp_path / "tiles.tif", tiled=True, blockxsize=64, blockysize=64)


@pytest.mark.jpeg2000
@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
def test_a_raster_knows_itself(tmp_path: Path, name: str) -> None:
    tiled: dict[str, Any] = (
        {"tiled": True, "blockxsize": 64, "blockysize": 128}
        if name == "a.tif"
        else {"BLOCKXSIZE": 64, "BLOCKYSIZE": 128}
    )
    path = write(tmp_path / name, DATA, nodata=7 if name == "a.tif" else None, **tiled)
    with Raster(str(path)) as raster:
        assert raster.location == str(path)
        assert raster.grid == Grid("EPSG:32632", (10, 0, 600000, 0, -10, 5200020), (256, 260))
        assert raster.dtype == np.uint16
        assert raster.block_shape == (128, 64)
        assert raster.strip_height == 128
        assert raster.nodata == (7 if name == "a.tif" else None)
        np.testing.assert_array_equal(raster.read((0, 256), (0, 260)), DATA)
        np.testing.assert_array_equal(raster.read((60, 70), (120, 250)), DATA[60:70, 120:250])
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_blocks_are_not_larger_than_the_raster(tmp_path: Path) -> None:
    with Raster(str(write(tmp_path / "a.tif", DATA[:5, :9], tiled=True, blockxsize=64, blockysize=32))) as raster:
        assert raster.block_shape == (5, 9)


def test_a_crs_without_code_is_kept_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", crs="+proj=laea +lat_0=46 +lon_0=11 +units=m")
    with Raster(str(path)) as raster:
        assert rasterio.CRS.from_wkt(raster.grid.crs).to_dict()["proj"] == "laea"


@pytest.mark.jpeg2000
def test_side_files_are_neither_read_nor_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jp2")
    side = tmp_path / "a.jp2.aux.xml"
    side.write_text('<PAMDataset><PAMRasterBand band="1"><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>')
    with Raster(str(path)) as raster:
        assert raster.nodata is None
        raster.read((0, 256), (0, 260))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jp2", "a.jp2.aux.xml"]


def test_counting(tiles: Path) -> None:
    where = str(tiles)
    with counting() as counts:
        with Raster(where) as raster:
            raster.read((0, 64), (0, 64))
            raster.read((63, 65), (64, 128))
        with Raster(where) as raster, counting() as inner:
            raster.read((128, 256), (192, 260))
    assert counts.opens == {where: 2}
    first = {(where, 0, 0): 1, (where, 0, 1): 1, (where, 1, 1): 1}
    last = {(where, i, j): 1 for i in (2, 3) for j in (3, 4)}
    assert counts.blocks == first | last
    assert inner.opens == {}
    assert inner.blocks == last
    with Raster(where) as raster:
        raster.read((0, 64), (0, 64))
    assert counts.opens == {where: 2}
    assert sum(counts.blocks.values()) == 7


@pytest.mark.jpeg2000
def test_blocks_read_twice_are_counted_twice_and_in_all_threads(blocks: Path) -> None:
    def work() -> None:
        with environment(), Raster(str(blocks)) as raster:
            raster.read((0, 1), (0, 1))
            raster.read((1, 2), (1, 2))

    with counting() as counts:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts.opens == {str(blocks): 4}
    assert counts.blocks == {(str(blocks), 0, 0): 8}


def test_what_fails_is_not_counted(tmp_path: Path) -> None:
    with counting() as counts, pytest.raises(UnreadableError, match=r"missing\.tif cannot be opened"):
        Raster(str(tmp_path / "missing.tif"))
    assert not counts.opens


@pytest.mark.parametrize("content", [b"", b"no raster", b"\x00" * 3000, b"II*\x00"])
@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
def test_garbage(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"{name} cannot be opened") as caught:
        Raster(str(tmp_path / name))
    assert "\n" not in str(caught.value)


LAYOUTS: dict[str, dict[str, Any]] = {
    "blocks": {"BLOCKXSIZE": 64, "BLOCKYSIZE": 64},
    "one block": {"BLOCKXSIZE": 512, "BLOCKYSIZE": 512},
    "esa": {"BLOCKXSIZE": 128, "BLOCKYSIZE": 128, "PROGRESSION": "LRCP", "TLM": "YES", "PLT": "YES"},
}


@pytest.mark.jpeg2000
@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_jp2_raises_and_never_gives_zeros(tmp_path: Path, layout: str) -> None:
    whole = write(tmp_path / "whole.jp2", **LAYOUTS[layout]).read_bytes()
    cut = tmp_path / "cut.jp2"
    for size in sorted({round(f * len(whole)) for f in np.linspace(0.001, 0.999, 30)} | {len(whole) - 2}):
        cut.write_bytes(whole[:size])
        with pytest.raises(UnreadableError, match=r"cut\.jp2 cannot be (opened|read)"), Raster(str(cut)) as raster:
            raster.read((0, 256), (0, 260))


@pytest.mark.parametrize("threads", ["0", "3"])
def test_a_truncated_jp2_raises_whatever_the_threads_of_openjpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "off")
    monkeypatch.setenv("OPJ_NUM_THREADS", threads)
    whole = write(tmp_path / "whole.jp2", **LAYOUTS["esa"]).read_bytes()
    with Raster(str(tmp_path / "whole.jp2")) as raster:
        np.testing.assert_array_equal(raster.read((0, 256), (0, 260)), DATA)
    cut = tmp_path / "cut.jp2"
    for share in (0.3, 0.5, 0.8, 0.95, 0.999):
        cut.write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(UnreadableError), Raster(str(cut)) as raster:
            raster.read((0, 256), (0, 260))
        with pytest.raises(UnreadableError), Raster(str(cut)) as raster:
            raster.read((128, 256), (256, 260))  # the last block


@pytest.mark.jpeg2000
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_blocks_of_a_truncated_jp2_are_right_or_raise(blocks: Path, share: float) -> None:
    whole = blocks.read_bytes()
    size = round(share * len(whole))
    blocks.write_bytes(whole[:size])
    raised = right = 0
    with Raster(str(blocks)) as raster:
        for i in range(0, 256, 64):
            for j in range(0, 260, 64):
                rows, columns = (i, i + 64), (j, min(j + 64, 260))
                try:
                    found = raster.read(rows, columns)
                except UnreadableError:
                    raised += 1
                    continue
                np.testing.assert_array_equal(found, DATA[slice(*rows), slice(*columns)])
                right += 1
    assert raised > 0
    assert right > 0


def test_truncated_tiff(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableError, match=r"a\.tif cannot be (opened|read)"), Raster(str(path)) as raster:
        raster.read((0, 256), (0, 260))


@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
def test_no_crs(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError, match=rf"{name} has no CRS"):
        Raster(str(write(tmp_path / name, crs=None)))


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("crs", [None, "EPSG:32632"])
def test_no_georeference_is_unreadable_whatever_becomes_of_warnings(
    tmp_path: Path, action: Any, crs: str | None
) -> None:
    path = write(tmp_path / "a.tif", crs=crs, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(UnreadableError, match=r"a\.tif"):
            Raster(str(path))


@pytest.mark.parametrize(
    "transform",
    [
        Affine(9.8, 1.7, 600000, 1.7, -9.8, 5200020),
        Affine(10, 0, 600000, 0, 10, 5200020),
        Affine(-10, 0, 6e5, 0, -10, 5.2e6),
    ],
)
def test_rotated_or_flipped_is_named(tmp_path: Path, transform: Affine) -> None:
    with pytest.raises(GridMismatchError, match=r"a\.tif: The raster is rotated or not north-up"):
        Raster(str(write(tmp_path / "a.tif", transform=transform)))
    assert issubclass(GridMismatchError, RasterError)


VRT = """<VRTDataset rasterXSize="4" rasterYSize="4">
<SRS>EPSG:32632</SRS><GeoTransform>6e5, 10, 0, 5e6, 0, -10</GeoTransform>
<VRTRasterBand dataType="UInt16" band="1">
<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource>
</VRTRasterBand>
</VRTDataset>"""


@pytest.mark.parametrize("suffix", [".jp2", ".tif", ".vrt"])
@pytest.mark.parametrize("kind", ["vrt", "vsicurl", "wms", "png", "empty"])
def test_a_raster_never_leads_to_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str
) -> None:
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")  # so that a fault fails and does not hang
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{server.getsockname()[1]}/x.tif"
        text = {
            "vrt": VRT.format(f"/vsicurl/{there}"), "vsicurl": f"/vsicurl/{there}", "empty": "",
            "wms": f'<GDAL_WMS><Service name="TMS"><ServerUrl>{there}</ServerUrl></Service></GDAL_WMS>',
            "png": "\x89PNG\r\n\x1a\n",
        }[kind]  # fmt: skip
        path = tmp_path / f"T32TPS_20220612T100601_B04_10m{suffix}"
        path.write_text(text, encoding="latin-1")
        (tmp_path / f"{path.name}.aux.xml").write_text(VRT.format(f"/vsicurl/{there}"), encoding="utf-8")
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
            opened.write(path, path.name)
        for location in (str(path), f"/vsizip/{tmp_path}/x.zip/{path.name}"):
            with pytest.raises(UnreadableError, match="cannot be opened"):
                Raster(location)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_folders_and_devices_are_no_rasters(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe_B04_10m.jp2")
    (tmp_path / "folder_B04_10m.jp2").mkdir()
    (tmp_path / "device_B04_10m.jp2").symlink_to("/dev/zero")
    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableError, match="cannot be opened: it is a"):
            Raster(str(path))


def test_a_raster_of_an_impossible_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    profile: dict[str, Any] = {"width": 70_000, "height": 70_000, "count": 1, "dtype": "uint8", "sparse_ok": True}
    transform = Affine(10, 0, 600000, 0, -10, 5100000)
    with rasterio.open(path, "w", "GTiff", crs="EPSG:32632", transform=transform, tiled=True, **profile):
        pass
    with pytest.raises(UnreadableError, match="70000 x 70000 pixels"):
        Raster(str(path))


@pytest.mark.jpeg2000
def test_texts_in_files_that_are_not_utf_8_print_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    sound = write(tmp_path / "sound.jp2", np.ones((64, 64), np.uint16)).read_bytes()
    generator = random.Random(1)

    def attempt(name: str) -> None:
        with environment(), contextlib.suppress(RasterError), Raster(name) as raster:
            raster.read((0, 1), (0, 1))

    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(generator.randint(1, 6)):
            damaged[generator.randrange(1000)] = generator.choice([0xE9, 0xFF, 0x80, 0xC3])
        file = tmp_path / "damaged.jp2"
        file.write_bytes(damaged)
        attempt(str(file))
    assert printed == []


def test_a_remote_raster_may_be_closed_in_another_thread(tiles: Path) -> None:
    with TroubledServer({"/a.tif": tiles.read_bytes()}) as server, ThreadPoolExecutor(3) as pool:
        reading = Reading(access=Access())

        def in_environment(work: Callable[[], Any]) -> Any:
            with environment(reading):
                return work()

        for _ in range(3):
            raster = pool.submit(in_environment, lambda: Raster(f"{server.url}/a.tif")).result()
            whole = (0, raster.grid.shape[0]), (0, raster.grid.shape[1])
            for read in [pool.submit(in_environment, partial(raster.read, *whole)) for _ in range(2)]:
                np.testing.assert_array_equal(read.result(), DATA)
            in_environment(raster.close)


def test_a_remote_jpeg_2000_may_begin_with_much_else(tmp_path: Path) -> None:
    profile = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "height": 64, "width": 64, "count": 1}
    with rasterio.open(tmp_path / "a.jp2", "w", dtype="uint16", crs="EPSG:32632", transform=ORIGIN, **profile) as file:
        file.write(DATA[:64, :64].astype(np.uint16), 1)
    data = (tmp_path / "a.jp2").read_bytes()
    at = data.index(b"jp2c") - 4
    for size in (50_000, 300_000):
        box = struct.pack(">I4s", size + 8, b"xml ") + b"<a>".ljust(size - 4) + b"</a>"
        with TroubledServer({"/a.jp2": data[:at] + box + data[at:]}) as server, ThreadPoolExecutor(1) as pool:

            def read(url: str) -> Any:
                with environment(Reading(access=Access())), Raster(url) as raster:
                    return raster.read((0, 64), (0, 64))

            np.testing.assert_array_equal(pool.submit(read, f"{server.url}/a.jp2").result(), DATA[:64, :64])
    with (
        TroubledServer({"/a.jp2": data[: at + 20]}) as server,
        ThreadPoolExecutor(1) as pool,
        pytest.raises(UnreadableError, match=r"a\.jp2 cannot be opened"),
    ):
        pool.submit(read, f"{server.url}/a.jp2").result()
