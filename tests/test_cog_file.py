"""Files of the writer of Cloud-Optimized GeoTIFF, as other programs read them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from far_end import small_disk
from sen2chain.errors import OutputError
from sen2chain.grid import Grid
from sen2chain.parallel import apart
from sen2chain.produce import CogFile, write_cog
from sen2chain.produce.overviews import Halving, shapes_of
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

NODATA = 32767
TAGS = {"SEN2CHAIN_PRODUCT": "S2A_x", "SEN2CHAIN_DEFINITION": "(B08-B04)/(B08+B04) <&\"'>"}


def grid(rows: int, columns: int) -> Grid:
    return Grid("EPSG:32632", (10.0, 0.0, 600000.0, 0.0, -10.0, 5200020.0), (rows, columns))


def index_values(rows: int, columns: int, seed: int = 0) -> Any:
    """Draw values with a stretch of no data, single pixels without data, and the extremes."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(-9000, 9000, (rows, columns)).astype(np.int16)
    drawn[: rows // 3, : columns // 4] = NODATA
    drawn[rng.random(drawn.shape) < 0.2] = NODATA
    drawn[-1, -1], drawn[-1, 0] = -32768, 32766
    return drawn


def write(path: Path, strips: Iterable[Any] | Any, shape: tuple[int, int], **options: Any) -> Path:
    """Write a file in a thread of its own, as runs do."""

    def work() -> Path:
        with environment():
            dtype = options.pop("dtype", np.int16)
            return write_cog(path, grid(*shape), strips, dtype, options.pop("tags", TAGS), **options)

    return apart(work)


def write_index(path: Path, values: Any, height: int = 97) -> Path:
    strips = (values[row : row + height] for row in range(0, len(values), height))
    return write(path, strips, values.shape, nodata=NODATA, scale=1e-4)


def overview_by_numpy(values: Any) -> Any:
    """Average the valid ones of 2 x 2 pixels, half to even."""
    rows, columns = values.shape
    padded = np.full((rows + rows % 2, columns + columns % 2), NODATA, np.int16)
    padded[:rows, :columns] = values
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).astype(float)
    blocks[blocks == NODATA] = np.nan
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3))
    mean = np.rint(np.divide(total, count, out=np.zeros_like(total), where=count > 0))
    return np.where(count > 0, mean, NODATA).astype(np.int16)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    values = index_values(1301, 777)
    return write_index(tmp_path_factory.mktemp("cog") / "index.tif", values), values


def test_it_holds_the_values_and_nothing_is_left_beside_it(written: tuple[Path, Any]) -> None:
    path, values = written
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), values)
        assert dataset.tags() | TAGS == dataset.tags()
        assert (dataset.crs.to_epsg(), dataset.transform[:6]) == (32632, grid(1, 1).transform)
    assert list(path.parent.iterdir()) == [path]


def test_overviews_leave_no_data_out(written: tuple[Path, Any]) -> None:
    path, wanted = written
    with rasterio.open(path) as dataset:
        factors = dataset.overviews(1)
    assert factors == [2, 4]
    for level in range(len(factors)):
        wanted = overview_by_numpy(wanted)
        with rasterio.open(path, overview_level=level) as dataset:
            assert dataset.nodata == NODATA
            assert np.array_equal(dataset.read(1), wanted)


def test_it_is_a_valid_cog(written: tuple[Path, Any], tmp_path: Path) -> None:
    rio_cogeo = pytest.importorskip("rio_cogeo")
    mask = (written[1] > 0).astype(np.uint8)
    small = write_index(tmp_path / "small.tif", index_values(60, 40))
    clouds = write(tmp_path / "mask.tif", mask, mask.shape, dtype=np.uint8, overviews="mode")
    for path in (written[0], clouds, small):
        assert rio_cogeo.cog_validate(path, strict=True) == (True, [], [])


def test_gdal_says_how_it_is_coded_and_scaled(written: tuple[Path, Any]) -> None:
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed")
    found = subprocess.run([program, "-json", written[0]], check=True, capture_output=True)  # noqa: S603
    said = json.loads(found.stdout)
    band = said["bands"][0]
    assert (band["type"], band["block"], band["noDataValue"], band["scale"]) == ("Int16", [512, 512], NODATA, 1e-4)
    assert band.get("offset", 0.0) == 0.0
    coding = said["metadata"]["IMAGE_STRUCTURE"]
    assert (coding["COMPRESSION"], coding["LAYOUT"], coding["PREDICTOR"]) == ("ZSTD", "COG", "2")
    assert [picture["size"] for picture in band["overviews"]] == [[389, 651], [195, 326]]
    assert said["metadata"][""] | TAGS == said["metadata"][""]


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # between libraries that it uses
def test_readers_that_scale_see_index_values(written: tuple[Path, Any]) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    path, values = written
    with rioxarray.open_rasterio(path, mask_and_scale=True) as opened:
        seen = opened.squeeze().to_numpy()
    assert np.array_equal(np.isnan(seen), values == NODATA)
    valid = values != NODATA
    assert np.allclose(seen[valid], values[valid] * 1e-4, rtol=0, atol=1e-6)


def test_masks_in_both_formats(tmp_path: Path) -> None:
    mask = (index_values(1100, 600) > 3000).astype(np.uint8)
    options: dict[str, Any] = {"dtype": np.uint8, "overviews": "mode"}
    cog = write(tmp_path / "mask.tif", mask, mask.shape, **options)
    jp2 = write(tmp_path / "mask.jp2", mask, mask.shape, driver="JP2OpenJPEG", **options)
    for path in (cog, jp2):
        with rasterio.open(path) as dataset:
            assert np.array_equal(dataset.read(1), mask)
            assert (dataset.dtypes, dataset.nodata, dataset.crs.to_epsg()) == (("uint8",), None, 32632)
            assert dataset.tags()["SEN2CHAIN_PRODUCT"] == "S2A_x"
    with rasterio.open(cog, overview_level=0) as dataset:
        half = mask.reshape(550, 2, 300, 2).sum(axis=(1, 3)) >= 2
        assert np.array_equal(dataset.read(1), half)
    assert sorted(tmp_path.iterdir()) == [jp2, cog]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 1100),
    columns=st.sampled_from((1, 2, 3, 513)),
    heights=st.lists(st.integers(1, 300), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_overviews_do_not_depend_on_strips(rows: int, columns: int, heights: list[int], seed: int) -> None:
    values = index_values(rows, columns, seed)
    halving = Halving(values.shape, "average", NODATA)
    found: list[npt.NDArray[np.int16]] = [np.zeros(shape, np.int16) for shape in shapes_of(values.shape)]
    seen = [0] * len(found)
    row, turn = 0, 0
    while row < rows:
        strip = values[row : row + heights[turn % len(heights)]]
        row, turn = row + len(strip), turn + 1
        for level, first, part in halving.add(strip):
            assert first == seen[level]
            found[level][first : first + len(part)] = part
            seen[level] += len(part)
    assert seen == [shape[0] for shape in shapes_of(values.shape)]
    for wider, smaller in itertools.pairwise(found):
        assert np.array_equal(overview_by_numpy(wider), smaller)


def test_a_file_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    file = CogFile(tmp_path / "index.tif", grid(50, 50), np.int16, TAGS, NODATA)
    file.write(np.zeros((20, 50), np.int16))
    assert len(list(tmp_path.iterdir())) == 1
    file.drop()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "index.tif"
    write_index(path, index_values(50, 40))

    def broken() -> Iterable[Any]:
        yield np.zeros((10, 40), np.int16)
        raise OSError("the pipe broke")

    with pytest.raises(OSError, match="pipe broke"):
        write(path, broken(), (50, 40), nodata=NODATA)
    assert np.array_equal(rasterio.open(path).read(1), index_values(50, 40))
    write_index(path, index_values(50, 40, seed=1))
    assert np.array_equal(rasterio.open(path).read(1), index_values(50, 40, seed=1))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", ["300k", "1m"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, size: str) -> None:
    """The disk is full while rows are kept, or when GDAL writes the file."""
    noise = np.random.default_rng(0).integers(-30000, 30000, (600, 600)).astype(np.int16)
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(OutputError, match=r"No room is left on the disk for .*index\.tif"):
            write(disk / "index.tif", noise, noise.shape, nodata=NODATA)
        assert list(disk.iterdir()) == []


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.tif").mkdir()
    with pytest.raises(OutputError, match=r"index\.tif"):
        write_index(tmp_path / "index.tif", index_values(20, 20))
    assert [path.name for path in tmp_path.iterdir()] == ["index.tif"]


def test_a_folder_whose_name_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"caf\\xe9.*is not UTF-8; rename"):
        write_index(folder / "index.tif", index_values(20, 20))
    assert list(folder.iterdir()) == []
