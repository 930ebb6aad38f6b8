"""Quicklooks of products: which value is where, in which colour and hatching, and what the file says of itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from sen2chain import demo
from sen2chain.acquisition import Reflectance, read
from sen2chain.archive import open_library, open_target
from sen2chain.errors import GridMismatchError, MissingExtraError, OutputError, RequestError, UnreadableError
from sen2chain.grid import Grid
from sen2chain.indices import INDICES, NODATA, Index
from sen2chain.legends import LEGENDS
from sen2chain.masks import Mask
from sen2chain.parallel import apart
from sen2chain.pictures.chip_images import GREY, true_colour
from sen2chain.pictures.image_files import write_image
from sen2chain.produce import quicklooks, write_cog
from sen2chain.produce.quicklooks import Quicklook, read_quicklook, write_quicklook
from sen2chain.products import Acquisition, ProductId
from sen2chain.raster_tags import RasterTags
from sen2chain.rasters import counting, environment, read_header_texts

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

NDVI = INDICES["NDVI"]
MASK = Mask.parse("CM004")
PRODUCT = ProductId.parse("S2A_MSIL2A_20220602T100601_N0400_R022_T32TPS_20220602T160000")
SHAPE = (1100, 900)
GRID = Grid("EPSG:32632", (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_200_000.0), SHAPE)
COARSE = Grid("EPSG:32632", (20.0, 0.0, 600_000.0, 0.0, -20.0, 5_200_000.0), (550, 450))
TAGS = RasterTags(str(PRODUCT), "NDVI", NDVI.definition, MASK.name, inputs='{"B04": ["é", 1]}', version="2.0")


def stored_values() -> Array:
    """Make values that differ from place to place, with no data in one corner."""
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    values: Array = (8000 * rows / SHAPE[0] - 3000 * (columns / SHAPE[1]) ** 2).astype(np.int16)
    values[-203:, :101] = NODATA
    return values


def clouds() -> Array:
    hidden = np.zeros(COARSE.shape, np.uint8)
    hidden[100:200, 250:430] = 1
    return hidden


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an index raster with overviews, one without, and a mask."""
    folder = tmp_path_factory.mktemp("rasters")

    def work() -> None:
        with environment():
            values = stored_values()
            write_cog(folder / "ndvi.tif", GRID, values, np.int16, TAGS.items(), nodata=NODATA, scale=1e-4)
            write_cog(folder / "mask.tif", COARSE, clouds(), np.uint8, {}, overviews="mode")
            profile = {"driver": "GTiff", "count": 1, "dtype": "int16", "crs": GRID.crs, "nodata": NODATA}
            transform = rasterio.Affine(*GRID.transform)
            size = {"height": SHAPE[0], "width": SHAPE[1], "transform": transform}
            with rasterio.open(folder / "plain.tif", "w", **profile, **size) as sink:
                sink.write(values, 1)

    apart(work)
    return folder


@pytest.fixture
def acquisition(rasters: Path) -> Acquisition:
    return Acquisition(PRODUCT, masks={MASK.name: str(rasters / "mask.tif")})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Build a tile with clouds and the edge of a swath."""
    scene = demo.Scene(
        tiles=("31TGJ",), size=300, parcels=6, overpasses=(demo.season()[4],), bands=("B02", "B03", "B04", "SCL")
    )
    return demo.build(tmp_path_factory.mktemp("quicklooks-of-products"), scene)


@pytest.fixture
def pictured(archive: demo.DemoArchive) -> Acquisition:
    (found,) = open_library(archive.library).acquisitions("31TGJ")
    return found


def look(acquisition: Acquisition, index: Index | None = None, raster: Path | None = None, **options: Any) -> Quicklook:
    return apart(lambda: read_quicklook(acquisition, index, raster, **options))


def averages(values: Array, factor: int) -> Array:
    """Average the values with data of each square."""
    high, wide = (-(-n // factor) * factor for n in values.shape)
    full = np.full((high, wide), np.nan)
    full[: values.shape[0], : values.shape[1]] = np.where(values == NODATA, np.nan, values)
    squares = full.reshape(high // factor, factor, wide // factor, factor)
    count = (~np.isnan(squares)).sum(axis=(1, 3))
    mean: Array = np.divide(np.nansum(squares, axis=(1, 3)), count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


# ------------------------------------------------------------------------------------------------------------- colours


def test_each_pixel_has_the_colour_of_its_value(acquisition: Acquisition, rasters: Path) -> None:
    shown = look(acquisition, NDVI, rasters / "ndvi.tif")
    assert shown.colours.shape == (*SHAPE, 3)
    values = stored_values()
    for row, column in ((0, 0), (0, 899), (700, 30), (896, 500), (1099, 899)):
        assert shown.colours[row, column].tolist() == LEGENDS["NDVI"].rgb(values[row, column] / 10_000).tolist()
    assert (shown.colours[-203:, :101] == GREY).all()
    assert not (shown.colours[:-203] == GREY).all(axis=-1).any()


@pytest.mark.parametrize("name", ["ndvi.tif", "plain.tif"])
def test_large_rasters_are_averaged_without_their_missing_pixels(
    acquisition: Acquisition, rasters: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(quicklooks, "_LARGEST", 300)
    shown = look(acquisition, NDVI, rasters / name)
    want = averages(stored_values(), 4)
    assert shown.colours.shape == (275, 225, 3)
    assert ((shown.colours == GREY).all(axis=-1) == np.isnan(want)).all()
    # Overviews are averages of averages, so their last digit may differ.
    off = shown.colours.astype(int) - LEGENDS["NDVI"].rgb(want / 10_000)
    assert np.abs(off).max() <= 1


def test_only_the_overview_is_decoded(acquisition: Acquisition, rasters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quicklooks, "_LARGEST", 300)
    with counting() as counts:
        look(acquisition, NDVI, rasters / "ndvi.tif")
    assert not counts.blocks


def test_an_index_with_another_scale_is_shown_in_its_units(acquisition: Acquisition, tmp_path: Path) -> None:
    ratio = Index("RATIO", "B08/B04", scale=100)

    def work() -> None:
        with environment():
            write_cog(tmp_path / "ratio.tif", GRID, np.full(SHAPE, 250, np.int16), np.int16, {}, nodata=NODATA)

    apart(work)
    shown = look(acquisition, ratio, tmp_path / "ratio.tif")
    assert shown.legend is not None
    assert shown.legend.low <= 2.5 <= shown.legend.high
    assert shown.colours[5, 5].tolist() == shown.legend.rgb(2.5).tolist()


def test_true_colour_is_that_of_the_reflectance(pictured: Acquisition) -> None:
    shown = look(pictured)
    bands = [Reflectance(band) for band in ("B04", "B03", "B02")]
    arrays = read(pictured, bands)
    want = true_colour(np.stack([arrays[band] for band in bands], axis=-1).astype(np.float32))
    np.testing.assert_array_equal(shown.colours, want)
    assert (shown.colours == GREY).all(axis=-1).any(), "there is the edge of a swath"
    assert (shown.index, shown.legend, shown.mask) == ("", None, "")


def test_true_colour_of_a_large_tile_comes_from_small_pictures(
    pictured: Acquisition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quicklooks, "_LARGEST", 100)
    shown = look(pictured)
    bands = [Reflectance(band) for band in ("B04", "B03", "B02")]
    arrays = read(pictured, bands, resolution=40)
    want = true_colour(np.stack([arrays[band] for band in bands], axis=-1).astype(np.float32))
    assert shown.colours.shape == want.shape == (75, 75, 3)
    known = ~(want == GREY).all(axis=-1) & ~(shown.colours == GREY).all(axis=-1)
    off = np.abs(shown.colours.astype(int) - want)[known]
    turned = np.abs(shown.colours[::-1].astype(int) - want)[known & known[::-1]]
    assert np.median(off) <= 4
    assert off.mean() < turned.mean() / 3, "it is upright"


# ------------------------------------------------------------------------------------------------------------ hatching


@pytest.mark.parametrize("largest", [1400, 300])
def test_the_mask_is_hatched_and_nothing_else(
    acquisition: Acquisition, rasters: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(quicklooks, "_LARGEST", largest)
    shown = look(acquisition, NDVI, rasters / "ndvi.tif", mask=MASK)
    rows, columns = shown.colours.shape[:2]
    assert shown.masked is not None
    times = 2 if largest == 1400 else 0.5
    assert shown.masked.shape == (rows, columns)
    found = np.argwhere(shown.masked)
    assert found.min(axis=0).tolist() == [100 * times, 250 * times]
    assert (found.max(axis=0) + 1).tolist() == [200 * times, 430 * times]
    pixels = np.asarray(shown.draw())[:rows, :columns]
    bare = np.asarray(replace(shown, masked=None).draw())[:rows, :columns]
    differs = (pixels != bare).any(axis=-1)
    assert not differs[~shown.masked].any()
    assert 0.1 < differs[shown.masked].mean() < 0.4
    np.testing.assert_array_equal(bare, shown.colours)


def test_a_mask_that_is_computed_is_hatched_where_it_masks(pictured: Acquisition) -> None:
    shown = look(pictured, mask=MASK)
    with rasterio.open(pictured.bands["SCL"]) as dataset:
        scl = dataset.read(1)
    clear = ~np.isin(scl, (3, 8, 9, 10)).repeat(2, axis=0).repeat(2, axis=1)
    assert shown.masked is not None
    assert shown.masked[~clear].all(), "it is dilated"
    assert not shown.masked.all()
    assert shown.mask == MASK.name
    assert look(pictured, mask=Mask.parse("none")).masked is None


def test_a_mask_of_another_place_is_refused(acquisition: Acquisition, rasters: Path, tmp_path: Path) -> None:
    away = replace(COARSE, transform=(20.0, 0.0, 700_000.0, 0.0, -20.0, 5_200_000.0))

    def work() -> None:
        with environment():
            write_cog(tmp_path / "away.tif", away, clouds(), np.uint8, {}, overviews="mode")

    apart(work)
    elsewhere = replace(acquisition, masks={MASK.name: str(tmp_path / "away.tif")})
    with pytest.raises(GridMismatchError, match=f"The mask {MASK.name} does not cover the picture"):
        look(elsewhere, NDVI, rasters / "ndvi.tif", mask=MASK)


# ------------------------------------------------------------------------------------------------------------- picture


def test_small_rasters_are_enlarged_to_squares() -> None:
    colours = np.zeros((30, 20, 3), np.uint8)
    colours[3, 5] = (255, 0, 0)
    image = np.asarray(Quicklook(PRODUCT, colours).draw())
    times = 1400 // 30
    red = np.argwhere((image[: 30 * times] == (255, 0, 0)).all(axis=-1))
    assert red.min(axis=0).tolist() == [3 * times, 5 * times]
    assert (red.max(axis=0) + 1).tolist() == [4 * times, 6 * times]
    assert image.shape[1] == 20 * times


def test_the_text_below_says_what_is_shown(acquisition: Acquisition, rasters: Path) -> None:
    shown = look(acquisition, NDVI, rasters / "ndvi.tif", mask=MASK)
    image = np.asarray(shown.draw())
    rows, columns = SHAPE
    below = image[rows:]
    assert image.shape == (rows + 78, columns, 3)
    assert (below == (32, 33, 36)).all(axis=-1).any(), "there is text"
    for value in (LEGENDS["NDVI"].low, LEGENDS["NDVI"].high):
        assert (below == LEGENDS["NDVI"].rgb(value)).all(axis=-1).any(), "the key has both ends of the colours"
    assert (below == GREY).all(axis=-1).sum() >= 200
    others = [
        replace(shown, index=""),
        replace(shown, mask="CM001"),
        replace(shown, product=replace(PRODUCT, tile="32TPT")),
        replace(shown, product=replace(PRODUCT, sensing=PRODUCT.sensing.replace(day=3))),
    ]
    drawn = {other.draw().tobytes() for other in (shown, *others)}
    assert len(drawn) == len(others) + 1, "each of them is in the text"


def test_narrow_pictures_have_room_for_the_text() -> None:
    image = Quicklook(PRODUCT, np.zeros((1400, 100, 3), np.uint8)).draw()
    assert image.size == (640, 1478)
    assert image.getpixel((50, 50)) == (0, 0, 0)
    assert image.getpixel((300, 50)) == (255, 255, 255)


# ------------------------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG")])
def test_the_file_says_what_it_was_made_from(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / "new" / f"quicklook{suffix}"
    shown = Quicklook(PRODUCT, np.full((40, 40, 3), 90, np.uint8))
    write_quicklook(shown, path, TAGS)
    assert RasterTags.read(read_header_texts(str(path))) == TAGS
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == kind
        pixels = np.asarray(image).astype(int)
    assert np.abs(pixels[:1400, :1400] - 90).max() <= (2 if kind == "JPEG" else 0)
    content = path.read_bytes()
    write_quicklook(shown, path, TAGS)
    assert path.read_bytes() == content, "two runs write the same"


def test_what_a_library_remembers_of_a_quicklook_is_in_the_file(archive: demo.DemoArchive, tmp_path: Path) -> None:
    path = tmp_path / "quicklook.jpg"
    write_quicklook(Quicklook(PRODUCT, np.zeros((40, 40, 3), np.uint8)), path, TAGS)
    assert open_target(archive.library).facts.tags(str(path), PRODUCT.tile) == TAGS


def test_texts_that_no_comment_takes_are_left_out(tmp_path: Path) -> None:
    write_image(Image.new("RGB", (8, 8)), tmp_path / "a.jpg", {"SEN2CHAIN_INPUTS": "x" * 70_000})
    assert read_header_texts(str(tmp_path / "a.jpg")) == {}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_of_others_and_cut_ones_say_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    assert read_header_texts(str(path)) == {}
    write_image(Image.new("RGB", (8, 8)), path, TAGS.items())
    content = path.read_bytes()
    for end in range(3, len(content), 7):
        path.write_bytes(content[:end])
        try:
            found = read_header_texts(str(path))
        except UnreadableError:
            continue
        assert found in ({}, TAGS.items())
    for at in range(0, min(len(content), 400), 3):
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        try:
            RasterTags.read(read_header_texts(str(path)))
        except UnreadableError:
            continue


def test_a_picture_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    shown = Quicklook(PRODUCT, np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(OutputError, match=r"Cannot write .*quicklook\.jpg"):
        write_quicklook(shown, tmp_path / "file" / "quicklook.jpg", TAGS)
    (tmp_path / "quicklook.jpg").mkdir()
    with pytest.raises(OutputError, match=r"quicklook\.jpg"):
        write_quicklook(shown, tmp_path / "quicklook.jpg", TAGS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "quicklook.jpg"]


def test_without_pillow_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"Quicklooks need pillow.*sen2chain\[plot\]"):
        Quicklook(PRODUCT, np.zeros((40, 40, 3), np.uint8)).draw()


def test_a_missing_band_is_named(pictured: Acquisition) -> None:
    rest = {band: where for band, where in pictured.bands.items() if band != "B02"}
    with pytest.raises(RequestError, match="has no band B02"):
        look(replace(pictured, bands=rest))


def test_an_index_without_a_raster_is_not_shown_as_something_else(pictured: Acquisition) -> None:
    with pytest.raises(RequestError, match="has no raster of NDVI to be shown"):
        look(pictured, NDVI)
