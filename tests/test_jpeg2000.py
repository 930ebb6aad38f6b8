"""Windows of JPEG 2000 files: every pixel is GDAL's, whatever the window and the form of the file."""

from __future__ import annotations

import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from sen2chain import jpeg2000
from sen2chain.coverage import PixelPlan, touched_blocks
from sen2chain.errors import UnreadableError
from sen2chain.grid import Grid
from sen2chain.jpeg2000.codestream import TileParts, read_header
from sen2chain.jpeg2000.tile_decoder import TileDecoder
from sen2chain.jpeg2000.window_order import order_windows
from sen2chain.rasters import Raster, counting, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Array = np.ndarray[Any, Any]

SHAPE = 300, 333
GRID = Grid("EPSG:32632", (10, 0, 600000, 0, -10, 5200020), SHAPE)
RANDOM = np.random.default_rng(5)
SMOOTH = np.add.outer(np.sin(np.arange(SHAPE[0]) / 9), np.cos(np.arange(SHAPE[1]) / 7)) * 2000
NUMBERS = (SMOOTH + RANDOM.normal(4500, 60, SHAPE)).astype(np.uint16)
CLASSES = (SMOOTH / 400).astype(np.int16).clip(0, 11).astype(np.uint8)
VALUES = (SMOOTH * 3 + RANDOM.normal(0, 90, SHAPE)).astype(np.int16)

# For tiles as small as these GDAL by itself writes one resolution, without wavelets.
LOSSLESS = {"QUALITY": "100", "REVERSIBLE": "YES", "RESOLUTIONS": "5"}
PRECINCTS = {"PRECINCTS": "{128,128},{128,128},{128,128}", "RESOLUTIONS": "3"}
ESA_20 = {"CODEBLOCK_WIDTH": "8", "CODEBLOCK_HEIGHT": "8", **PRECINCTS}
FORMS: dict[str, tuple[Array, dict[str, Any]]] = {
    "one tile": (NUMBERS, {**LOSSLESS, "blockxsize": 512, "blockysize": 512}),
    "tiles": (NUMBERS, {**LOSSLESS, "blockxsize": 128, "blockysize": 128}),
    "TLM and PLT": (NUMBERS, {**LOSSLESS, "blockxsize": 128, "blockysize": 128, "TLM": "YES", "PLT": "YES"}),
    "small code-blocks": (CLASSES, {**LOSSLESS, **ESA_20, "blockxsize": 192, "blockysize": 192, "PLT": "YES"}),
    "odd tiles": (NUMBERS, {**LOSSLESS, "blockxsize": 101, "blockysize": 90}),
    "tile-parts": (NUMBERS, {**LOSSLESS, "blockxsize": 128, "blockysize": 128, "TILEPARTS": "RESOLUTIONS"}),
    "signed": (VALUES, {**LOSSLESS, "blockxsize": 128, "blockysize": 128}),
    "15 bits": (VALUES, {**LOSSLESS, "blockxsize": 256, "blockysize": 256, "NBITS": "15"}),
    "by position": (NUMBERS, {**LOSSLESS, "blockxsize": 128, "blockysize": 128, "PROGRESSION": "RPCL"}),
    "lossy": (VALUES, {"QUALITY": "20", "NBITS": "15", "blockxsize": 128, "blockysize": 128, "RESOLUTIONS": "5"}),
    "one resolution": (NUMBERS, {**LOSSLESS, "blockxsize": 128, "blockysize": 128, "RESOLUTIONS": "1"}),
}
LOSSY = {"lossy"}


@pytest.fixture(autouse=True)
def _gdal() -> Iterator[None]:
    with environment():
        yield


def write(path: Path, data: Array, options: dict[str, Any]) -> Path:
    driver = {"driver": "JP2OpenJPEG", "dtype": data.dtype, "count": 1, "height": data.shape[0], "width": data.shape[1]}
    # Without `tiled`, rasterio does not pass on the width of blocks, and tiles are as wide as the raster.
    place = {"crs": "EPSG:32632", "transform": Affine(*GRID.transform), "tiled": True}
    with rasterio.open(path, "w", **driver, **place, **options) as file:
        file.write(data, 1)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forms")
    found = {}
    for name, (data, options) in FORMS.items():
        found[name] = write(folder / f"{name.replace(' ', '-')}.jp2", data, options)
    return found


@pytest.fixture(scope="module")
def whole(files: dict[str, Path]) -> dict[str, Array]:
    """Pixels as GDAL decodes them."""
    found = {}
    for name, path in files.items():
        with rasterio.open(path) as file:
            found[name] = file.read(1)
    return found


forms = pytest.mark.parametrize("form", FORMS)


WINDOWS = st.tuples(
    st.integers(0, SHAPE[0] - 1), st.integers(1, SHAPE[0]), st.integers(0, SHAPE[1] - 1), st.integers(1, SHAPE[1])
).map(lambda w: (w[0], min(w[0] + w[1], SHAPE[0]), w[2], min(w[2] + w[3], SHAPE[1])))
SMALL = st.tuples(
    st.integers(0, SHAPE[0] - 1), st.integers(1, 20), st.integers(0, SHAPE[1] - 1), st.integers(1, 20)
).map(lambda w: (w[0], min(w[0] + w[1], SHAPE[0]), w[2], min(w[2] + w[3], SHAPE[1])))


@forms
def test_the_forms_are_read_here_and_not_by_gdal(files: dict[str, Path], form: str) -> None:
    with Raster(str(files[form])) as raster:
        assert raster._windows is not None
        assert raster.strip_height % raster.block_shape[0] == 0 or raster.strip_height >= SHAPE[0]


def test_tiles_have_the_size_that_is_asked_for(files: dict[str, Path]) -> None:
    for form, (_, options) in FORMS.items():
        with rasterio.open(files[form]) as file:
            assert file.block_shapes == [(min(options["blockysize"], SHAPE[0]), min(options["blockxsize"], SHAPE[1]))]


@forms
def test_every_pixel_is_gdals(files: dict[str, Path], whole: dict[str, Array], form: str) -> None:
    with Raster(str(files[form])) as raster:

        @settings(max_examples=25, deadline=None)
        @given(st.one_of(WINDOWS, SMALL))
        def same(window: tuple[int, int, int, int]) -> None:
            top, bottom, left, right = window
            found, expected = raster.read((top, bottom), (left, right)), whole[form][top:bottom, left:right]
            if form in LOSSY:
                differences = found.astype(int) - expected
                assert np.abs(differences).max() <= 1
                assert np.count_nonzero(differences) <= max(1, differences.size / 10_000)
            else:
                np.testing.assert_array_equal(found, expected)

        same()


@forms
def test_scattered_boxes_are_gdals(files: dict[str, Path], whole: dict[str, Array], form: str) -> None:
    rng = np.random.default_rng(len(form))
    with Raster(str(files[form])) as raster:
        for n in (1, 4, 30, 400):
            plan = plan_of(rng.integers(0, SHAPE[0], n), rng.integers(0, SHAPE[1] - 9, n), rng.integers(1, 9, n))
            touched = touched_blocks(plan, GRID, raster.block_shape, 1)
            out = np.zeros(SHAPE, raster.dtype)
            raster.read_blocks(touched, (0, SHAPE[0]), out)
            needed = needed_pixels(plan, 1)
            np.testing.assert_allclose(out[needed], whole[form][needed], atol=form in LOSSY, rtol=0)


@forms
def test_reduced_resolutions_are_gdals(form: str, tmp_path: Path) -> None:
    data, options = FORMS[form]
    path = str(write(tmp_path / "a.jp2", data, {**options, "RESOLUTIONS": "3"}))
    with rasterio.open(path) as file:
        levels = file.overviews(1)
    assert levels == ([] if form in {"odd tiles", "one tile"} else [2, 4]), "GDAL has none where a tile's edge is odd"
    rng = np.random.default_rng(len(form))
    for i, level in enumerate(levels):
        with rasterio.open(path, overview_level=i) as file:
            expected = file.read(1)
        check_reduced(path, level, expected, rng, atol=form in LOSSY)


def check_reduced(path: str, level: int, expected: Array, rng: np.random.Generator, *, atol: float = 0) -> None:
    """Compare the reduced image as a whole, at its corners, and at random boxes, of which several lie in a tile."""
    height, width = expected.shape
    ends = [(0, 0, 1, 1), (height - 1, width - 3, 1, 3), (0, 0, height, width)]
    random = [(*rng.integers(0, (height - 9, width - 9)).tolist(), *rng.integers(1, 9, 2).tolist()) for _ in range(12)]
    with Raster(path) as raster, counting() as counts:
        assert raster._windows is not None
        assert raster.overview_level(3 * level) == level
        for group in (*([end] for end in ends), random):
            boxes = np.array([(top, top + high, left, left + wide) for top, left, high, wide in group])
            out = np.zeros(expected.shape, raster.dtype)
            raster.read_overview(level, boxes, out)
            for top, bottom, left, right in boxes.tolist():
                inside = np.s_[top:bottom, left:right]
                np.testing.assert_allclose(out[inside], expected[inside], atol=atol, rtol=0)
    assert not counts.blocks, "nothing is decoded at full resolution"


def test_decoding_starts_no_threads(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    threads, real = Path("/proc/self/task"), TileDecoder.read
    if not threads.exists():
        pytest.skip("this system does not list the threads of a process")
    seen: list[int] = []

    def read(self: TileDecoder, *args: Any) -> None:
        seen.append(len(list(threads.iterdir())))
        real(self, *args)

    monkeypatch.setattr(TileDecoder, "read", read)
    with Raster(str(files["tiles"])) as raster:
        for number in ("0", "3"):
            monkeypatch.setenv("OPJ_NUM_THREADS", number)
            raster.read((0, SHAPE[0]), (0, SHAPE[1]))
    assert len(seen) == 2 * 9, "tiles"
    assert len(set(seen)) == 1


def plan_of(row: Array, column: Array, length: Array) -> PixelPlan:
    """Return a plan in which each run is a feature."""
    feature = np.arange(len(row), dtype=np.int32)
    runs = row.astype(np.int32), column.astype(np.int32), length.astype(np.int32)
    return PixelPlan(GRID, feature, *runs, total=length.astype(np.float64))


def needed_pixels(plan: PixelPlan, margin: int) -> Array:
    needed = np.zeros(SHAPE, np.bool_)
    for row, column, length in zip(plan.row, plan.column, plan.length, strict=True):
        rows = slice(max(row - margin, 0), row + margin + 1)
        needed[rows, max(column - margin, 0) : column + length + margin] = True
    return needed


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(0, 3),
    st.sampled_from([(32, 32), (64, 100), (300, 333), (7, 50)]),
    st.integers(0, 99),
)
def test_boxes_are_the_bounds_of_needed_pixels_in_each_block(
    n: int, margin: int, block: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plan = plan_of(rng.integers(0, 300, n), rng.integers(0, 320, n), rng.integers(1, 14, n))
    touched, needed = touched_blocks(plan, GRID, block, margin), needed_pixels(plan, margin)
    for i, j in np.ndindex(touched.blocks.shape):
        rows, columns = np.nonzero(needed[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]])
        assert touched.blocks[i, j] == bool(len(rows))
        if len(rows):
            top, left = i * block[0], j * block[1]
            bounds = [rows.min() + top, rows.max() + top + 1, columns.min() + left, columns.max() + left + 1]
            assert touched.boxes[i, j].tolist() == bounds


def test_boxes_of_two_needs_are_joined() -> None:
    def touched(row: int, column: int) -> Any:
        plan = plan_of(np.array([row]), np.array([column]), np.array([3]))
        return touched_blocks(plan, GRID, (100, 100), 0)

    joined = touched(5, 10) | touched(9, 40) | touched(150, 210)
    assert joined.boxes[0, 0].tolist() == [5, 10, 10, 43]
    assert joined.boxes[1, 2].tolist() == [150, 151, 210, 213]
    assert joined.blocks.sum() == 2


@pytest.mark.parametrize("form", ["tiles", "small code-blocks", "one tile"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_zipped_files(files: dict[str, Path], whole: dict[str, Array], form: str, method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.write(files[form], "a b/c.jp2")
    with Raster(f"/vsizip/{tmp_path}/a.zip/a b/c.jp2") as raster:
        assert raster._windows is not None
        np.testing.assert_array_equal(raster.read((250, 300), (7, 222)), whole[form][250:300, 7:222])
        np.testing.assert_array_equal(raster.read((3, 9), (300, 333)), whole[form][3:9, 300:333])


def test_pieces_in_threads(files: dict[str, Path], whole: dict[str, Array]) -> None:
    with Raster(str(files["tiles"])) as raster:
        plan = plan_of(np.arange(300), np.zeros(300), np.full(300, 333))
        out = np.zeros(SHAPE, raster.dtype)
        pieces = raster.pieces(touched_blocks(plan, GRID, raster.block_shape, 0), (0, 300), out)
        assert len(pieces) == 9
        names = set()

        def run(piece: Callable[[], None]) -> None:
            names.add(threading.get_ident())
            piece()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, pieces * 5))
        assert len(names) > 1
        np.testing.assert_array_equal(out, whole["tiles"])


def test_only_cells_with_needed_pixels_are_counted(files: dict[str, Path]) -> None:
    where = str(files["tiles"])
    with counting() as counts, Raster(where) as raster:
        assert raster.block_shape == (128, 128)
        raster.read((120, 140), (130, 140))
    assert counts.blocks == {(where, 0, 1): 1, (where, 1, 1): 1}


# ------------------------------------------------------------------------------------------------------ real files


def test_esas_files(shared_data: Path) -> None:
    paths = sorted((shared_data / "ireland").rglob("*.jp2"))
    assert len(paths) >= 5
    rng = np.random.default_rng(3)
    for path in paths:
        with Raster(str(path)) as raster, rasterio.open(path) as file:
            assert raster._windows is not None
            height, width = raster.grid.shape
            tile = raster.strip_height
            corners = [(0, 0), (height - 30, width - 30), (tile - 9, tile - 5), (tile, 2 * tile - 1)]
            for top, left in [*corners, *rng.integers(0, height - 40, (6, 2)).tolist()]:
                rows, columns = (top, min(top + 25, height)), (left, min(left + 30, width))
                window = Window(left, top, columns[1] - left, rows[1] - top)
                np.testing.assert_array_equal(raster.read(rows, columns), file.read(1, window=window))


def test_reduced_resolutions_of_esas_files(shared_data: Path) -> None:
    paths = [p for p in (shared_data / "ireland").rglob("*.jp2") if p.name.endswith(("B04_60m.jp2", "SCL_20m.jp2"))]
    assert len(paths) == 2
    for path in paths:
        with rasterio.open(path) as file:
            levels = file.overviews(1)
        assert levels == [2, 4, 8, 16]
        for i in range(4) if "60m" in path.name else (2,):
            with rasterio.open(path, overview_level=i) as file:
                check_reduced(str(path), levels[i], file.read(1), np.random.default_rng(i))


# ---------------------------------------------------------------------------------------------------- the cost rule


EXPONENTS = np.full((5, 2), 6)
TILE = np.array([1024, 2048, 2048, 3072])


def ordered(boxes: Any, density: float = 1.2) -> Array:
    return order_windows(np.array(boxes, np.int64), TILE, EXPONENTS, 2, density)


def test_one_polygon_is_one_window() -> None:
    assert ordered([[1100, 1121, 2200, 2221]]).tolist() == [[1100, 1121, 2200, 2221]]


def test_far_polygons_are_windows_of_their_own_and_near_ones_share_one() -> None:
    far = [[1100, 1121, 2100, 2121], [1900, 1921, 2900, 2921]]
    assert sorted(ordered(far).tolist()) == far
    near = [[1100, 1121, 2170, 2176], [1100, 1121, 2176, 2191]]
    assert ordered(near).tolist() == [[1100, 1121, 2170, 2191]]


def test_many_polygons_are_the_whole_tile() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 1000, (200, 2))
    boxes = [[1024 + r, 1024 + r + 21, 2048 + c, 2048 + c + 21] for r, c in corners]
    assert ordered(boxes).tolist() == [TILE.tolist()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1010), st.integers(0, 1010), st.integers(1, 13)), min_size=1, max_size=40),
       st.sampled_from([0.02, 0.3, 1.2]))  # fmt: skip
def test_windows_hold_all_boxes_and_lie_in_the_tile(corners: list[tuple[int, int, int]], density: float) -> None:
    boxes = np.array([[1024 + r, 1024 + r + n, 2048 + c, 2048 + c + n] for r, c, n in corners])
    windows = ordered(boxes, density)
    assert len(windows) <= len(boxes)
    low, high = [0, 2], [1, 3]
    for box in boxes:
        assert ((windows[:, low] <= box[low]) & (windows[:, high] >= box[high])).all(axis=1).any()
    assert (windows[:, low] >= TILE[low]).all()
    assert (windows[:, high] <= TILE[high]).all()


# ------------------------------------------------------------------------------------------- forms left to GDAL, damage


def header_of(path: Path) -> Any:
    file = jpeg2000.open_bytes(str(path))
    assert file is not None
    with file:
        return read_header(file)


def insert(path: Path, to: Path, segment: bytes, *, behind: bytes) -> Path:
    """Insert a marker segment behind another one, of which the marker is given."""
    data = path.read_bytes()
    begin = data.index(behind, data.index(b"\xff\x4f\xff\x51"))
    end = begin + 2 + struct.unpack(">H", data[begin + 2 : begin + 4])[0]
    box = data.rindex(b"jp2c", 0, begin) - 4
    length = struct.unpack(">I", data[box : box + 4])[0]
    changed = data[:box] + struct.pack(">I", length + len(segment) if length else 0) + data[box + 4 : end]
    to.write_bytes(changed + segment + data[end:])
    return to


@pytest.mark.parametrize("marker", [0x60, 0x5F, 0x53, 0x50, 0x30], ids=["PPM", "POC", "COC", "CAP", "unknown"])
def test_forms_that_are_left_to_gdal(files: dict[str, Path], marker: int, tmp_path: Path) -> None:
    path = insert(files["tiles"], tmp_path / "a.jp2", struct.pack(">BBHB", 0xFF, marker, 3, 0), behind=b"\xff\x52")
    with pytest.raises(jpeg2000.UnknownFormError):
        header_of(path)


def test_a_coding_of_its_own_leaves_a_tile_to_gdal(files: dict[str, Path], tmp_path: Path) -> None:
    """Else the header's coding, which is checked, would not be the one that OpenJPEG decodes."""
    data = files["tiles"].read_bytes()
    cod = data[data.index(b"\xff\x52") :][:14]
    at, length = parts_of(data)[0]
    part = data[at : at + 6] + struct.pack(">I", length + 14) + data[at + 10 : at + 12] + cod + data[at + 12 :]
    (tmp_path / "a.j2k").write_bytes(data[data.index(b"\xff\x4f\xff\x51") : at] + part)
    header, file = header_of(tmp_path / "a.j2k"), jpeg2000.open_bytes(str(tmp_path / "a.j2k"))
    assert file is not None
    with file, pytest.raises(jpeg2000.UnknownFormError):
        TileParts(file, header).read(0, "a.j2k")


def test_a_tile_of_more_code_blocks_than_memory_can_hold(files: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(files["one tile"].read_bytes())
    siz, cod = data.index(b"\xff\x51"), data.index(b"\xff\x52")
    struct.pack_into(">2I", data, siz + 6, 20_000, 60_000)  # the image
    struct.pack_into(">2I", data, siz + 22, 20_000, 60_000)  # a tile
    data[cod + 10 : cod + 12] = b"\0\0"  # code-blocks of 4 x 4
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(
        UnreadableError, match=r"a\.jp2 cannot be read: its header tells of a tile of 75\d{6} code-blocks"
    ):
        Raster(str(tmp_path / "a.jp2"))


def test_a_comment_changes_nothing(files: dict[str, Path], whole: dict[str, Array], tmp_path: Path) -> None:
    comment = struct.pack(">BBHH", 0xFF, 0x64, 4 + 9000, 1) + b"x" * 9000
    path = insert(files["tiles"], tmp_path / "a.jp2", comment, behind=b"\xff\x52")
    with Raster(str(path)) as raster:
        assert raster._windows is not None
        np.testing.assert_array_equal(raster.read((100, 200), (100, 200)), whole["tiles"][100:200, 100:200])


def test_a_codestream_alone(files: dict[str, Path], whole: dict[str, Array], tmp_path: Path) -> None:
    data = files["tiles"].read_bytes()
    (tmp_path / "a.j2k").write_bytes(data[data.index(b"\xff\x4f\xff\x51") :])
    file, library = jpeg2000.open_bytes(str(tmp_path / "a.j2k")), jpeg2000.library()
    assert file is not None
    assert library is not None
    windows = jpeg2000.Jpeg2000Windows(library, file)
    boxes = np.full((3, 3, 4), (300, 0, 333, 0))
    boxes[1, 1] = 130, 140, 150, 170
    out = np.zeros((10, 20), np.uint16)
    for _, decode in windows.pieces(boxes, jpeg2000.Box(130, 140, 150, 170), out, lambda *_: None):
        decode()
    file.close()
    np.testing.assert_array_equal(out, whole["tiles"][130:140, 150:170])


def test_a_tile_with_packed_headers_is_left_to_gdal(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, whole: dict[str, Array]
) -> None:
    monkeypatch.setattr(TileParts, "_check_header", lambda *_: (_ for _ in ()).throw(jpeg2000.UnknownFormError()))
    with Raster(str(files["tiles"])) as raster:
        np.testing.assert_array_equal(raster.read((100, 200), (100, 200)), whole["tiles"][100:200, 100:200])


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_switched_off(
    files: dict[str, Path], whole: dict[str, Array], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", value)
    with Raster(str(files["tiles"])) as raster:
        assert raster._windows is None
        np.testing.assert_array_equal(raster.read((100, 200), (100, 200)), whole["tiles"][100:200, 100:200])


def test_several_components_are_left_to_gdal(tmp_path: Path) -> None:
    size: dict[str, Any] = {"dtype": "uint8", "count": 3, "height": 64, "width": 64, "crs": "EPSG:32632"}
    place = {"transform": Affine(*GRID.transform)}
    with rasterio.open(tmp_path / "a.jp2", "w", driver="JP2OpenJPEG", **size, **place, **LOSSLESS) as file:
        file.write(np.stack([CLASSES[:64, :64]] * 3))
    with Raster(str(tmp_path / "a.jp2")) as raster:
        assert raster._windows is None


def parts_of(data: bytes) -> list[tuple[int, int]]:
    """Positions and lengths of tile-parts."""
    at = data.index(b"\xff\x90\x00\x0a")
    found = []
    while data[at : at + 2] == b"\xff\x90":
        length = struct.unpack(">I", data[at + 6 : at + 10])[0]
        found.append((at, length))
        at += length
    return found


def test_a_missing_tile_is_an_error_and_the_others_are_right(
    files: dict[str, Path], whole: dict[str, Array], tmp_path: Path
) -> None:
    data = files["tiles"].read_bytes()
    at, length = parts_of(data)[4]
    (tmp_path / "a.jp2").write_bytes(data[:at] + data[at + length :])
    with Raster(str(tmp_path / "a.jp2")) as raster:
        np.testing.assert_array_equal(raster.read((0, 60), (0, 90)), whole["tiles"][:60, :90])
        with pytest.raises(UnreadableError, match=r"a\.jp2 cannot be read: tile 5 of 9 is missing"):
            raster.read((130, 140), (130, 140))


@pytest.mark.parametrize("form", ["tiles", "TLM and PLT"])
@pytest.mark.parametrize(
    ("offset", "value"), [(4, b"\x00\x05"), (6, b"\x00\x00\x00\x20"), (10, b"\x01"), (11, b"\x02")]
)
def test_a_tile_part_that_contradicts_the_others(
    files: dict[str, Path], form: str, offset: int, value: bytes, tmp_path: Path
) -> None:
    data = bytearray(files[form].read_bytes())
    at, _ = parts_of(bytes(data))[4]
    data[at + offset : at + offset + len(value)] = value
    (tmp_path / "a.jp2").write_bytes(data)
    with (
        Raster(str(tmp_path / "a.jp2")) as raster,
        pytest.raises(UnreadableError, match=r"a\.jp2 cannot be read: .*tile"),
    ):
        raster.read((130, 140), (130, 140))


def test_a_wrong_table_of_lengths_is_not_used(files: dict[str, Path], whole: dict[str, Array], tmp_path: Path) -> None:
    data = bytearray(files["TLM and PLT"].read_bytes())
    at = data.index(b"\xff\x55") + 6
    data[at + 1 : at + 5] = b"\x00\x00\x00\x10"
    (tmp_path / "a.jp2").write_bytes(data)
    lengths = header_of(files["TLM and PLT"]).lengths
    assert lengths
    assert not header_of(tmp_path / "a.jp2").lengths
    with Raster(str(tmp_path / "a.jp2")) as raster:
        np.testing.assert_array_equal(raster.read((0, 300), (0, 333)), whole["TLM and PLT"])


def test_a_table_of_lengths_that_is_wrong_but_fits_the_file(
    files: dict[str, Path], whole: dict[str, Array], tmp_path: Path
) -> None:
    data = bytearray(files["TLM and PLT"].read_bytes())
    (_, first), (_, second), *_ = header_of(files["TLM and PLT"]).lengths
    at = data.index(b"\xff\x55") + 6  # behind the marker, its length and two numbers
    step = (struct.unpack(">H", data[at - 4 : at - 2])[0] - 4) // 9
    for k, length in enumerate((first + 8, second - 8)):
        data[at + k * step + step - 4 : at + (k + 1) * step] = struct.pack(">I", length)
    (tmp_path / "a.jp2").write_bytes(data)
    assert [length for _, length in header_of(tmp_path / "a.jp2").lengths[:2]] == [first + 8, second - 8]
    with Raster(str(tmp_path / "a.jp2")) as raster:
        np.testing.assert_array_equal(raster.read((0, 300), (0, 333)), whole["TLM and PLT"])
