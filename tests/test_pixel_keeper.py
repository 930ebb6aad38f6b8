"""Pixels that are kept while an acquisition is extracted: judged by rasterio windows, numpy, and rows without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from sen2chain.acquisition import strips
from sen2chain.archive.memory_source import MemorySource
from sen2chain.extract import Coverages, RowRules, execute
from sen2chain.extract.extraction import TaskResult, extract
from sen2chain.pixel_store import PixelFile
from sen2chain.plan import KeepRequest, Request, Task, kept_bands, make_plan
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.rasters import counting
from sen2chain.reasons import Reason
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.coverage import PixelRule

    Array = npt.NDArray[Any]

EPSG, LEFT, TOP, SIZE = 32631, 720_000.0, 4_880_000.0, 160
ID = ProductId.parse("S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000")
RADIOMETRY = Radiometry(10000.0, dict.fromkeys(("B02", "B03", "B04", "B08", "B11", "B12"), -1000.0), "a note")
FOOTPRINT = ((5.0, 44.0), (6.0, 44.0), (6.0, 45.0), (5.0, 44.0))
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
CLOUDED, ALONE, SLIVER = 3, 6, 7
"""Features: wholly under cloud, alone in its rows and only touched by pixels, and between the centres of pixels."""


def write(path: Path, values: Array, pixel: int, block: int = 16) -> str:
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": f"EPSG:{EPSG}"}
    profile |= {"height": values.shape[0], "width": values.shape[1], "tiled": True}
    profile |= {"blockxsize": block, "blockysize": block, "transform": Affine(pixel, 0, LEFT, 0, -pixel, TOP)}
    with rasterio.open(path, "w", **profile) as sink:
        sink.write(values, 1)
    return str(path)


def metres(row: float, column: float, height: float, width: float) -> shapely.Polygon:
    return shapely.box(LEFT + 10 * column, TOP - 10 * (row + height), LEFT + 10 * (column + width), TOP - 10 * row)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Acquisition:
    """Noise in small blocks, with a cloud over one feature."""
    folder = tmp_path_factory.mktemp("kept-product")
    rng = np.random.default_rng(3)
    bands = {}
    for band in ("B02", "B03", "B04", "B08", "B11", "B12"):
        pixel = 20 if band in {"B11", "B12"} else 10
        dn = rng.integers(900, 9000, (SIZE * 10 // pixel,) * 2).astype(np.uint16)
        dn[rng.random(dn.shape) < 0.03] = 0
        bands[band] = write(folder / f"{band}.tif", dn, pixel, 32 if band in {"B03", "B12"} else 16)
    scl = np.full((SIZE // 2,) * 2, 4, np.uint8)
    scl[20:36, 20:36] = 9
    scl[44, 12:16] = 8
    bands["SCL"] = write(folder / "SCL.tif", scl, 20)
    bands["CLDPRB"] = write(folder / "CLDPRB.tif", rng.integers(0, 100, scl.shape).astype(np.uint8), 20)
    stored = write(folder / "NDVI.tif", rng.integers(-9000, 9000, (SIZE, SIZE)).astype(np.int16), 10)
    mask = write(folder / "CM001.tif", (scl > 8).astype(np.uint8), 20)
    details = KnownDetails(RADIOMETRY, 12.5, FOOTPRINT)
    return Acquisition(ID, details, bands, {"CM001": mask}, {"NDVI": (stored,)})


@pytest.fixture(scope="module")
def layer() -> Layer:
    shapes = [
        metres(4.2, 3.1, 9, 12), metres(10, 9, 8.7, 30.4), metres(20, 100, 40, 21.5),
        metres(44, 44, 20, 20), metres(86, 20, 10, 14), metres(30, 140, 12, 40),
        metres(120.1, 60.1, 0.3, 0.3), metres(140.6, 10, 0.2, 20),
        shapely.Point(LEFT + 1205, TOP - 1395),
    ]  # fmt: skip
    return Layer.of(np.array(shapes, dtype=object), f"EPSG:{EPSG}")


def task_of(
    product: Acquisition, layer: Layer, keep: KeepRequest | None, **asked: Any
) -> tuple[Task, Coverages, RowRules]:
    options = {"indices": ["NDVI"], "masks": [CM004], "keywords": {"cm_version": "CM001"}, **asked}
    request = Request.build(**options)
    (task,) = make_plan(request, MemorySource([product]), layer, keep=keep).tasks
    return task, Coverages(layer, rule=request.pixels, buffer=request.buffer), RowRules(request.statistics)


def bands_only(product: Acquisition) -> Acquisition:
    return replace(product, indices={}, masks={})


def read(location: str) -> Array:
    with rasterio.open(location) as source:
        return np.asarray(source.read(1))


def opened(result: TaskResult, coverages: Coverages) -> PixelFile:
    kept = result.kept
    assert kept is not None
    assert kept.grid is not None
    positions = coverages.kept(kept.grid, result.task.product.tile).positions(kept.margin)
    assert positions.digest == kept.digest
    return PixelFile.of_bytes(kept.content, positions)


def burnt(layer: Layer, *, touched: bool) -> Array:
    return np.asarray(
        rasterize(
            list(layer.geometry), (SIZE, SIZE), transform=Affine(10, 0, LEFT, 0, -10, TOP), all_touched=touched,
            dtype=np.uint8,
        )
    ).astype(bool)  # fmt: skip


def grown(image: Array, by: int) -> Array:
    """Grow to all sides by shifting, one pixel at a time."""
    for _ in range(by):
        padded = np.pad(image, 1)
        image = np.any([padded[i : i + len(image), j : j + len(image)] for i in range(3) for j in range(3)], axis=0)
    return image


def where(file: PixelFile, name: str) -> Array:
    """Draw the kept pixels of a raster."""
    positions = file.positions_of(name)
    image = np.zeros(positions.grid.shape, bool)
    image[positions.coordinates()] = True
    return image


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
def test_kept_pixels_are_those_of_rasterio(product: Acquisition, layer: Layer, rule: PixelRule) -> None:
    keep = KeepRequest(("B03", "B08", "B11"), 100)
    task, coverages, rules = task_of(bands_only(product), layer, keep, pixels=rule)
    result = extract(task, coverages, rules)
    assert result.kept is not None
    assert not result.kept.lacking
    with opened(result, coverages) as file:
        assert set(file.rasters) == {"B03", "B08", "B11", "SCL", "CLDPRB"}
        for name in file.rasters:
            values, present = file.read(name)
            assert present is None
            np.testing.assert_array_equal(values, read(product.bands[name])[file.positions_of(name).coordinates()])
            assert file.header(name).role == ("quality" if name in {"SCL", "CLDPRB"} else "band")
        fine, coarse, quality = where(file, "B08"), where(file, "B11"), where(file, "SCL")
        assert file.facts == {
            "product": str(ID), "radiometry": [10000.0, dict(RADIOMETRY.offsets), "a note"], "cover": 12.5,
            "footprint": [list(corner) for corner in FOOTPRINT],
        }  # fmt: skip
    # GDAL touches pixels of which nothing lies inside, too.
    assert (fine | burnt(layer, touched=True) == burnt(layer, touched=True)).all()
    assert (fine & burnt(layer, touched=False) == burnt(layer, touched=False)).all()
    inside: Array = fine.reshape(SIZE // 2, 2, SIZE // 2, 2).max(axis=(1, 3))
    np.testing.assert_array_equal(quality, grown(inside, 5))
    # A pixel of 10 m is interpolated from the pixel of 20 m that it lies in, and its neighbours on that side.
    rows, columns = np.nonzero(fine)
    neighbours = np.zeros_like(coarse)
    for r in (rows // 2, np.clip(rows // 2 + np.where(rows % 2, 1, -1), 0, SIZE // 2 - 1)):
        for c in (columns // 2, np.clip(columns // 2 + np.where(columns % 2, 1, -1), 0, SIZE // 2 - 1)):
            neighbours[r, c] = True
    np.testing.assert_array_equal(coarse & neighbours, coarse)
    assert neighbours.sum() - coarse.sum() <= 0


ASKED: tuple[dict[str, Any], ...] = (
    {},
    {"indices": ["NDVI", "NDWIGAO", "SAVI=1.5*(B08-B04)/(B08+B04+0.5)"], "masks": [CM004, "CM001", "none"]},
    {"masks": ["CM002-B11", "CM003-PRB60-ITER2"], "stats": ["percentile_90", "scl_fractions"]},
    {"indices": ["NDWIGAO"], "masks": ["SCL-8-9-ITER3"], "buffer": -10.0},
)


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("stored", [False, True], ids=["bands", "stored"])
def test_rows_do_not_depend_on_what_is_kept(
    product: Acquisition,
    layer: Layer,
    rule: PixelRule,
    asked: dict[str, Any],
    stored: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    source = product if stored else bands_only(product)
    for keep in (KeepRequest(), KeepRequest(("B02", "B08", "B12"), 0), KeepRequest(("B04",), 700)):
        task, coverages, rules = task_of(source, layer, keep, pixels=rule, **asked)
        want, got = extract(replace(task, keep=None), coverages, rules), extract(task, coverages, rules)
        assert want.kept is None
        assert got.kept is not None
        assert got.kept.content
        assert got.grid == want.grid
        assert sum(batch.rows for batch in want.batches)
        for one, other in zip(want.batches, got.batches, strict=True):
            assert (one.reasons, one.error, one.filename) == (other.reasons, other.error, other.filename)
            for name, values in one.columns.items():
                np.testing.assert_array_equal(values, other.columns[name], strict=True)


def test_each_block_is_decoded_once_and_strips_of_kept_pixels_alone_too(product: Acquisition, layer: Layer) -> None:
    task, coverages, rules = task_of(bands_only(product), layer, KeepRequest(("B02", "B03", "B04", "B08", "B11")))
    with counting() as without:
        extract(replace(task, keep=None), coverages, rules)
    with counting() as counts:
        result = extract(task, coverages, rules)
    assert max(counts.blocks.values()) == 1
    assert max(counts.opens.values()) == 1
    assert set(without.blocks) < set(counts.blocks)
    with opened(result, coverages) as file:
        fine = where(file, "B08")
    # The rule of the rows has no pixel of these two, which lie in rows of blocks of their own.
    assert not burnt(layer, touched=False)[112:128].any()
    assert fine[112:128].any()
    assert fine[140:144].any()


def test_pixels_of_features_that_masks_remove_are_absent(product: Acquisition, layer: Layer) -> None:
    task, coverages, rules = task_of(bands_only(product), layer, KeepRequest())
    with counting() as counts:
        result = extract(task, coverages, rules)
    assert result.batches[0].reasons[Reason.CLOUD] == 1
    assert result.kept is not None
    assert {name: facts.masks for name, facts in result.kept.rasters.items()} == {
        "B04": frozenset({CM004}), "B08": frozenset({CM004}), "SCL": None, "CLDPRB": None,
    }  # fmt: skip
    clouded = np.zeros((SIZE, SIZE), bool)
    clouded[44:64, 44:64] = True
    with opened(result, coverages) as file:
        for name in ("B04", "B08"):
            values, present = file.read(name)
            assert present is not None
            rows, columns = file.positions_of(name).coordinates()
            np.testing.assert_array_equal(present, ~clouded[rows, columns])
            np.testing.assert_array_equal(values[present], read(product.bands[name])[rows, columns][present])
        assert file.read("SCL")[1] is None
    assert (product.bands["B04"], 1, 6) in counts.blocks
    assert (product.bands["B04"], 3, 3) not in counts.blocks


def test_complete_pixels_are_read_where_no_row_needs_them(product: Acquisition, layer: Layer) -> None:
    hidden = Layer.of(np.array([layer.geometry[CLOUDED]], dtype=object), f"EPSG:{EPSG}")
    for keep, masks in ((KeepRequest(), frozenset({CM004})), (KeepRequest(("B04", "B08", "B11")), None)):
        task, coverages, rules = task_of(bands_only(product), hidden, keep)
        result = extract(task, coverages, rules)
        assert result.batches[0].reasons == {Reason.CLOUD: 1}
        assert result.kept is not None
        assert result.kept.radiometry == RADIOMETRY
        with opened(result, coverages) as file:
            for name in ("B04", "B08", *(("B11",) if keep.bands else ())):
                assert result.kept.rasters[name].masks == masks
                values, present = file.read(name)
                if masks is None:
                    assert present is None
                    at = file.positions_of(name).coordinates()
                    np.testing.assert_array_equal(values, read(product.bands[name])[at])
                else:
                    assert present is not None
                    assert not present.any()


def test_where_one_of_two_masks_leaves_a_feature_its_pixels_are_kept(product: Acquisition, layer: Layer) -> None:
    task, coverages, rules = task_of(bands_only(product), layer, KeepRequest(), masks=[CM004, "none"])
    result = extract(task, coverages, rules)
    assert result.kept is not None
    assert all(facts.masks is None for facts in result.kept.rasters.values())


def test_pieces_of_a_very_large_feature(product: Acquisition, layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGE", 100)
    task, coverages, rules = task_of(bands_only(product), layer, KeepRequest(("B08",)))
    want, got = extract(replace(task, keep=None), coverages, rules), extract(task, coverages, rules)
    np.testing.assert_array_equal(want.batches[0].columns["mean"], got.batches[0].columns["mean"])
    with opened(got, coverages) as file:
        np.testing.assert_array_equal(
            file.read("B08")[0], read(product.bands["B08"])[file.positions_of("B08").coordinates()]
        )


def broken(product: Acquisition, folder: Path, *names: str, cut: bool = False) -> Acquisition:
    """Give a product whose rasters of some names are cut off, or empty."""
    places = {}
    for name in names:
        content, path = Path(product.bands[name]).read_bytes(), folder / f"{name}.tif"
        path.write_bytes(content[: len(content) * 3 // 4] if cut else b"")
        places[name] = str(path)
    return replace(bands_only(product), bands={**product.bands, **places})


@pytest.mark.parametrize("cut", [False, True], ids=["empty", "cut"])
def test_a_broken_raster_that_is_only_kept_costs_no_row(
    product: Acquisition,
    layer: Layer,
    tmp_path: Path,
    cut: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    odd = broken(product, tmp_path, "B02", "B12", cut=cut)
    task, coverages, rules = task_of(odd, layer, KeepRequest(("B02", "B08", "B12")))
    want, got = extract(replace(task, keep=None), coverages, rules), extract(task, coverages, rules)
    assert want.batches[0].rows == got.batches[0].rows > 3
    assert got.batches[0].error == want.batches[0].error
    assert got.kept is not None
    assert set(got.kept.lacking) == {"B02", "B12"}
    assert all(name in why for name, why in got.kept.lacking.items())
    assert set(got.kept.rasters) == {"B08", "SCL", "CLDPRB"}


def test_a_broken_raster_of_the_rows_is_said_with_the_reason(
    product: Acquisition, layer: Layer, tmp_path: Path
) -> None:
    task, coverages, rules = task_of(broken(product, tmp_path, "B08"), layer, KeepRequest())
    result = extract(task, coverages, rules)
    assert result.batches[0].rows == 0
    assert result.kept is not None
    assert set(result.kept.lacking) == {"B04", "B08", "SCL", "CLDPRB"}
    assert not result.kept.content


def test_a_tile_without_any_pixel_of_the_rule_keeps_what_there_is(product: Acquisition, layer: Layer) -> None:
    few = Layer.of(np.array([layer.geometry[ALONE], layer.geometry[SLIVER]], dtype=object), f"EPSG:{EPSG}")
    task, coverages, rules = task_of(bands_only(product), few, KeepRequest())
    want, got = extract(replace(task, keep=None), coverages, rules), extract(task, coverages, rules)
    assert want.batches[0].reasons == got.batches[0].reasons
    with opened(got, coverages) as file:
        values, present = file.read("B08")
        assert present is None
        assert len(values) == 1 + 20


def test_a_product_with_another_grid_than_its_tile_keeps_nothing(
    product: Acquisition, layer: Layer, tmp_path: Path
) -> None:
    fit = [replace(bands_only(product), id=replace(ID, generation=f"2022040{n}T160000")) for n in (4, 5)]
    bands = {}
    for name in ("B04", "B08", "SCL", "CLDPRB"):
        values, pixel = read(product.bands[name]), 20 if name in {"SCL", "CLDPRB"} else 10
        bands[name] = write(tmp_path / f"{name}.tif", values[: 1200 // pixel], pixel)
    odd = replace(bands_only(product), bands=bands, id=replace(ID, generation="20220406T160000"))
    request = Request.build(indices=["NDVI"], masks=[CM004], keywords={})
    tasks = make_plan(request, MemorySource([*fit, odd]), layer, keep=KeepRequest()).tasks
    results = list(execute(tasks, Coverages(layer), RowRules()))
    kept = [result.kept for result in results]
    assert [bool(one and one.content) for one in kept] == [True, True, False]
    assert kept[2] is not None
    assert all("another grid" in why for why in kept[2].lacking.values())


def test_positions_follow_the_buffer(product: Acquisition, layer: Layer) -> None:
    sizes = []
    for buffer in (None, 20.0):
        task, coverages, rules = task_of(bands_only(product), layer, KeepRequest(("B08",)), buffer=buffer)
        with opened(extract(task, coverages, rules), coverages) as file:
            sizes.append(file.positions_of("B08").size)
    assert sizes[1] > 1.3 * sizes[0]


@pytest.mark.parametrize(
    ("value", "bands"),
    [(None, False), (False, False), (True, True), ("B04", ("B04",)), (["B8A", "B02", "B02"], ("B02", "B8A"))],
)
def test_bands_to_keep(value: Any, bands: Any) -> None:
    assert kept_bands(value) == bands


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("B4", "Did you mean B04"),
        (["B04", "SCL"], "Unknown band 'SCL'"),
        ([], "names of bands"),
        (3, "keep_pixels is 3"),
    ],
)
def test_bands_that_cannot_be_kept(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kept_bands(value)


def test_a_margin_has_limits() -> None:
    with pytest.raises(ValueError, match="keep_margin"):
        KeepRequest.of(keep_pixels=True, keep_margin=-1)
    with pytest.raises(ValueError, match="keep_margin"):
        KeepRequest.of(keep_pixels=True, keep_margin=1e6)
    with pytest.raises(ValueError, match="needs keep_pixels"):
        KeepRequest.of(keep_pixels=False, keep_margin=300)
    assert KeepRequest.of(keep_pixels=False, keep_margin=None) is None


def test_index_rasters_leave_quality_rasters_alone_to_keep(product: Acquisition, layer: Layer) -> None:
    task, coverages, rules = task_of(product, layer, KeepRequest(), indices=["NDVI"], prefer="stored")
    assert task.keep is not None
    result = extract(task, coverages, rules)
    assert result.kept is not None
    assert set(result.kept.rasters) == {"SCL", "CLDPRB"}
    assert result.kept.radiometry is None
