"""Kept pixels as rasters: what is read from them equals what is read from the files, or they say that they lack it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.acquisition import (
    AcquisitionReader,
    DigitalNumbers,
    IndexValues,
    LayerSources,
    Layouts,
    MaskLayer,
    OpenRasters,
    Quality,
    finest_grid,
)
from sen2chain.coverage import PixelPlan, rasterize, touched_blocks
from sen2chain.errors import KeptPixelsError, PixelsNotKeptError, UnreadableError
from sen2chain.indices import INDICES
from sen2chain.masks import Mask
from sen2chain.parallel import Crew, apart
from sen2chain.pixel_store import (
    KeptValues,
    PixelFile,
    PixelPositions,
    TilePositions,
    kept_location,
    pixel_file,
    positions_path,
    split_kept,
    tile_positions,
)
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.rasters import KeptRaster, Raster, counting, environment, open_raster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

SIZE = 150
PRODUCT = "S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000"
QUALITY = ("SCL", "CLDPRB")
LEFT, TOP = 720_000.0, 4_880_000.0


class Written(NamedTuple):
    """A small product, and its whole arrays."""

    acquisition: Acquisition
    arrays: Mapping[str, Array]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    rng = np.random.default_rng(3)
    arrays: dict[str, Array] = {}
    for band in ("B04", "B08", "B11"):
        edge = SIZE // 2 if band == "B11" else SIZE
        arrays[band] = rng.integers(900, 9000, (edge, edge)).astype(np.uint16)
        arrays[band][rng.random((edge, edge)) < 0.05] = 0
    arrays["SCL"] = rng.choice(np.array([4, 4, 4, 5, 8, 9, 0], np.uint8), (SIZE // 2,) * 2)
    arrays["CLDPRB"] = rng.integers(0, 60, (SIZE // 2,) * 2).astype(np.uint8)
    locations = {}
    for name, array in arrays.items():
        pixel = 10 * SIZE // len(array)
        profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32631"}
        profile |= {"height": len(array), "width": len(array), "tiled": True, "blockxsize": 48, "blockysize": 48}
        locations[name] = str(folder / f"{name}.tif")
        with rasterio.open(locations[name], "w", **profile, transform=Affine(pixel, 0, LEFT, 0, -pixel, TOP)) as sink:
            sink.write(array, 1)
    details = KnownDetails(Radiometry(10000.0, dict.fromkeys(("B04", "B08", "B11"), -1000.0)))
    return Written(Acquisition(ProductId.parse(PRODUCT), details, locations), arrays)


def keep(
    folder: Path, written: Written, positions: TilePositions, present: Bools | None = None, name: str = PRODUCT
) -> Acquisition:
    """Write the pixel file of a product, and return the product with its kept pixels in the place of its files."""
    rasters = {}
    for band, location in written.acquisition.bands.items():
        role: Any = "quality" if band in QUALITY else "band"
        with environment(), Raster(location) as raster:
            where = positions.of_raster(role, raster.grid)
            values = written.arrays[band][where.coordinates()]
            flags = present if present is not None and role == "band" and where is positions.finest else None
            rasters[band] = KeptValues(values, flags, role, raster.grid, raster.nodata, raster.scale)
    positions_path(folder, positions.digest).write_bytes(positions.to_bytes())
    path = folder / f"{name}_0.pixels"
    path.write_bytes(pixel_file({"product": name}, rasters, positions))
    kept = {band: kept_location(path, band) for band in written.acquisition.bands}
    return replace(written.acquisition, bands=kept)


def plan_of(boxes: list[tuple[int, int, int, int]], written: Written) -> PixelPlan:
    """Return the pixels of some rectangles, given in pixels: left, top, width, height; features without any too."""
    with environment(), Raster(written.acquisition.bands["B04"]) as raster:
        grid = raster.grid
    polygons = [
        shapely.box(LEFT + 10 * a, TOP - 10 * b, LEFT + 10 * (a + wide), TOP - 10 * (b + high))
        for a, b, wide, high in boxes
    ]
    return rasterize(np.array(polygons, object), grid)


@st.composite
def some_boxes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Rectangles that may overlap, lie at the edge or partly outside, or hold a single pixel."""
    edge = st.integers(-3, SIZE - 1)
    size = st.integers(1, 40)
    return draw(st.lists(st.tuples(edge, edge, size, size), min_size=1, max_size=5))


LAYERS = (
    DigitalNumbers("B04"),
    DigitalNumbers("B11"),
    IndexValues(INDICES["NDVI"]),
    IndexValues(INDICES["NDWIGAO"]),
    Quality("SCL"),
    MaskLayer(Mask.parse("SCL-8-9-ITER2")),
    MaskLayer(Mask.parse("CM003-PRB40-ITER1")),
)


def read(acquisition: Acquisition, plan: PixelPlan, features: Bools | None = None) -> dict[object, Array]:
    """Read all layers at the pixels of a plan; of features that are not needed the pixels are left out."""
    if not len(plan.row):
        return {}

    def inside() -> dict[object, Array]:
        with environment(), ExitStack() as stack:
            rasters = OpenRasters(stack, crew=Crew())
            sources = LayerSources.of_layers(acquisition, LAYERS)
            grid = finest_grid(rasters, sources)
            for location in sources.locations():
                if (broken := rasters.error(location)) is not None:
                    raise broken
            assert grid == plan.grid
            reader = AcquisitionReader(rasters, grid, plan, Layouts(), sources, acquisition.details.radiometry())
            reader.decode_masks()
            if features is not None:
                for location in sources.values():
                    reader.need(location, features)
            reader.decode_values()
            for error in (*reader.mask_errors.values(), *reader.quality_errors.values()):
                raise error
            found: dict[object, list[tuple[int, Array]]] = {}
            for pixels in reader.pixels():
                for location in sources.values():
                    if (broken := rasters.error(location)) is not None:
                        raise broken
                own: dict[object, Array] = {band: pixels.digital_numbers(band) for band in ("B04", "B11")}
                own |= {key: values.stored for key, values in pixels.index_values(sources.indices).items()}
                own["SCL"] = pixels.quality("SCL")
                for name in sources.masks:
                    bits, bit = pixels.mask(name)
                    own[name] = (bits & bit) > 0
                for key, values in own.items():
                    for i, feature in enumerate(pixels.features.tolist()):
                        if features is None or features[feature] or key == "SCL" or key in sources.masks:
                            found.setdefault(key, []).append(
                                (feature, values[pixels.offsets[i] : pixels.offsets[i + 1]])
                            )
            # The strips of files and of kept pixels differ in height, and features come by strip.
            return {
                key: np.concatenate([values for _, values in sorted(parts, key=lambda part: part[0])])
                for key, parts in found.items()
            }

    return apart(inside)


def assert_equal(got: dict[object, Array], expected: dict[object, Array]) -> None:
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(got[key], values, err_msg=str(key))


@settings(max_examples=40)
@given(some_boxes())
def test_kept_pixels_give_what_the_files_give(
    tmp_path_factory: pytest.TempPathFactory, written: Written, boxes: list[tuple[int, int, int, int]]
) -> None:
    plan = plan_of(boxes, written)
    positions = TilePositions.of([plan], 120.0)
    kept = keep(tmp_path_factory.mktemp("kept"), written, positions)
    assert_equal(read(kept, plan), read(written.acquisition, plan))


@settings(max_examples=60)
@given(some_boxes(), some_boxes(), st.integers(0, 9), st.data())
def test_other_features_are_read_if_all_their_pixels_are_kept(
    tmp_path_factory: pytest.TempPathFactory,
    written: Written,
    boxes: list[tuple[int, int, int, int]],
    others: list[tuple[int, int, int, int]],
    margin: int,
    data: st.DataObject,
) -> None:
    """Fewer features, others, less margin, absent pixels: equal values, or an error where a needed pixel lacks."""
    positions = TilePositions.of([plan_of(boxes, written)], 20.0 * margin)
    present = np.ones(positions.finest.size, np.bool_)
    for gap in data.draw(st.lists(st.integers(0, max(positions.finest.size - 1, 0)), max_size=2)):
        present[gap : gap + 30] = False
    kept = keep(tmp_path_factory.mktemp("kept"), written, positions, present)
    asked = plan_of(data.draw(st.sampled_from([boxes, boxes[:1], others])), written)
    features = np.array(data.draw(st.lists(st.booleans(), min_size=len(asked.total), max_size=len(asked.total))))
    lacks = lacking(kept, asked, positions, present, features)
    if lacks and len(asked.row):
        with pytest.raises(
            PixelsNotKeptError, match=r"Needed pixels of [A-Z0-9]+ are not kept for \d+ of \d+ features"
        ):
            read(kept, asked, features)
    else:
        assert_equal(read(kept, asked, features), read(written.acquisition, asked, features))


def lacking(kept: Acquisition, plan: PixelPlan, positions: TilePositions, present: Bools, features: Bools) -> bool:
    """Whether any needed pixel lacks, found pixel by pixel; and whether each raster says so, feature by feature."""
    grids = {}
    for band, location in kept.bands.items():
        with open_raster(location) as raster:
            assert isinstance(raster, KeptRaster)
            grids[band] = raster.grid
            for use, margin in (("nearest", 0), ("bilinear", 0), ("nearest", 4)):
                if (use, band in QUALITY) == ("bilinear", True) or (band == "B11" and use == "nearest"):
                    continue
                there = image_of(positions.of_raster("quality" if band in QUALITY else "band", raster.grid), present)
                expected = [
                    bool(chosen) and not there[needed(plan, raster.grid, feature, use, margin)].all()
                    for feature, chosen in enumerate(features)
                ]
                found = raster.lacking(plan, features, use, margin)  # type: ignore[arg-type]
                assert found.tolist() == expected, (band, use, margin)

    def lacks(band: str, use: str, margin: int, among: Bools) -> bool:
        there = image_of(positions.of_raster("quality" if band in QUALITY else "band", grids[band]), present)
        return any(not there[needed(plan, grids[band], f, use, margin)].all() for f in np.flatnonzero(among).tolist())

    every = np.ones(len(features), np.bool_)
    return (
        any(lacks(band, "nearest", 0, features) for band in ("B04", "B08"))
        or lacks("B11", "bilinear", 0, features)
        or lacks("SCL", "nearest", Mask.parse("SCL-8-9-ITER2").reach, every)
        or lacks("CLDPRB", "nearest", Mask.parse("CM003-PRB40-ITER1").reach, every)
    )


def image_of(where: PixelPositions, present: Bools) -> Bools:
    image = np.zeros(where.grid.shape, np.bool_)
    is_fine = where.grid.shape == (SIZE, SIZE)
    image[where.coordinates()] = present if is_fine else True
    return image


def needed(plan: PixelPlan, grid: Any, feature: int, use: str, margin: int) -> Bools:
    image = np.zeros(grid.shape, np.bool_)
    rows, columns, _ = plan.pixels(feature)
    if use == "nearest":
        for r, c in zip(plan.grid.nearest_in(grid, 0)[rows], plan.grid.nearest_in(grid, 1)[columns], strict=True):
            image[max(r - margin, 0) : r + margin + 1, max(c - margin, 0) : c + margin + 1] = True
        return image
    down, across = plan.grid.bilinear_in(grid, 0), plan.grid.bilinear_in(grid, 1)
    for r, c in zip(rows, columns, strict=True):
        high, wide = 1 + (down.share[r] > 0), 1 + (across.share[c] > 0)
        image[down.first[r] :, across.first[c] :][:high, :wide] = True
    return image


# -------------------------------------------------------------------------------------------- one raster, other files


@pytest.fixture(scope="module")
def some(written: Written, tmp_path_factory: pytest.TempPathFactory) -> tuple[PixelPlan, TilePositions, Acquisition]:
    plan = plan_of([(3, 5, 30, 20), (20, 10, 30, 30), (90, 100, 50, 40), (149, 149, 1, 1)], written)
    positions = TilePositions.of([plan], 120.0)
    return plan, positions, keep(tmp_path_factory.mktemp("some"), written, positions)


Some = tuple[PixelPlan, TilePositions, Acquisition]


@pytest.mark.parametrize("height", [1024, 64, 37, 1])
@pytest.mark.parametrize("band", ["B04", "B11", "SCL"])
def test_strips_of_any_height_are_decoded_by_any_threads(written: Written, some: Some, band: str, height: int) -> None:
    plan, positions, kept = some
    with KeptRaster(kept.bands[band]) as raster:
        assert (raster.grid, raster.dtype, raster.count, raster.tags) == (
            positions_grid(written, band), written.arrays[band].dtype, 1, {},
        )  # fmt: skip
        touched = touched_blocks(plan, raster.grid, raster.block_shape, 3)
        image = np.full(raster.grid.shape, 77, raster.dtype)
        pieces = []
        for top in range(0, raster.grid.shape[0], height):
            rows = top, min(top + height, raster.grid.shape[0])
            assert raster.fetch(touched, rows) == 0
            assert raster.ranges(touched, rows) == []
            pieces += raster.pieces(touched, rows, image[rows[0] : rows[1]])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda piece: piece(), pieces))
        where = positions.of_raster("quality" if band == "SCL" else "band", raster.grid)
        expected = np.full(raster.grid.shape, 77, raster.dtype)
        expected[where.coordinates()] = written.arrays[band][where.coordinates()]
        np.testing.assert_array_equal(image, expected)
        window = raster.read((5, 60), (7, 50))
        np.testing.assert_array_equal(window, np.where(expected == 77, 0, expected)[5:60, 7:50])
        for rows, columns in (((0, 151), (0, 1)), ((-1, 2), (0, 1)), ((3, 3), (0, 1))):
            with pytest.raises(UnreadableError, match="not inside"):
                raster.read(rows, columns)
        assert raster.overview_level(4) == 1


def positions_grid(written: Written, band: str) -> Any:
    with environment(), Raster(written.acquisition.bands[band]) as raster:
        return raster.grid


def test_the_file_is_opened_once_and_each_block_counts_once(
    written: Written, some: Some, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _, kept = some
    opened: list[Path] = []
    whole = PixelFile.open

    def noted(path: Path, positions: TilePositions | None = None) -> PixelFile:
        opened.append(path)
        return whole(path, positions)

    monkeypatch.setattr(PixelFile, "open", noted)
    with counting() as counts:
        read(kept, plan)
    assert len(opened) == 1
    assert set(counts.opens.values()) == set(counts.blocks.values()) == {1}
    assert set(counts.opens) == set(kept.bands.values()) >= {location for location, *_ in counts.blocks}
    assert written.acquisition.bands["B04"] not in counts.opens


def damaged(
    acquisition: Acquisition, folder: Path, change: Callable[[Path], object], what: str = "pixels"
) -> Acquisition:
    """Return a product whose pixel file, or the file of its positions, is a changed copy of that of another."""
    place = split_kept(acquisition.bands["B04"])
    assert place is not None
    for path in place[0].parent.iterdir():
        shutil.copy(path, folder)
    (changed,) = folder.glob(f"*.{what}")
    change(changed)
    return replace(acquisition, bands={b: kept_location(folder / place[0].name, b) for b in acquisition.bands})


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "another kind of file": lambda path: path.write_bytes(b"GIF89a" * 100),
    "a pipe": fifo,
    "a link to nothing": link_to_nothing,
    "a folder": folder_instead,
}


@pytest.mark.parametrize("what", ["pixels", "positions"])
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_file_that_cannot_be_used_says_so(
    some: Some, tmp_path: Path, change: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_positions, "_loaded", tile_positions._Loaded())  # as in another process
    plan, _, kept = some
    with pytest.raises(KeptPixelsError, match=r"Kept pixels .* (cannot be read|are damaged).*update the layer"):
        read(damaged(kept, tmp_path, CHANGES[change], what), plan)


def test_pixels_of_another_product_are_refused(some: Some, tmp_path: Path) -> None:
    plan, _, kept = some
    other = damaged(kept, tmp_path, lambda path: path.rename(path.with_name(f"S2B_{path.name[4:]}")))
    renamed = {b: where.replace("/S2A_", "/S2B_") for b, where in other.bands.items()}
    with pytest.raises(KeptPixelsError, match="it holds the pixels of 'S2A_"):
        read(replace(other, bands=renamed), plan)


def test_positions_of_another_layer_are_refused(written: Written, some: Some, tmp_path: Path) -> None:
    plan, _, kept = some
    others = TilePositions.of([plan_of([(0, 0, 9, 9)], written)], 60.0)
    with pytest.raises(KeptPixelsError, match="hold other positions than their name says"):
        read(damaged(kept, tmp_path, lambda path: path.write_bytes(others.to_bytes()), "positions"), plan)


def test_a_raster_that_was_not_kept_is_named(some: Some) -> None:
    path, _ = split_kept(some[2].bands["B04"]) or (Path(), "")
    with pytest.raises(PixelsNotKeptError, match=r"do not hold B12; they hold B04, B08, B11, SCL, CLDPRB\."):
        open_raster(kept_location(path, "B12"))
    with pytest.raises(UnreadableError, match="not a location of kept pixels"):
        KeptRaster(str(path))
