"""Features that masks remove entirely: nothing is decoded for them, and rows and reasons are those of whole arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from sen2chain import TimeSeries
from sen2chain.acquisition import strips
from sen2chain.archive.memory_source import MemorySource
from sen2chain.archive.product_details import ProductDetails
from sen2chain.coverage import PLANNED, touched_blocks
from sen2chain.demo import esa_files
from sen2chain.extract import Coverages, RowRules, execute, resolve_executor
from sen2chain.extract.removed_features import RemovedFeatures
from sen2chain.grid import Grid
from sen2chain.masks import Mask
from sen2chain.plan import Request, make_plan
from sen2chain.products import Acquisition, ProductId
from sen2chain.rasters import Counts, counting
from sen2chain.reasons import Reason
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.rows import Batch

    Array = npt.NDArray[Any]

R = TypeVar("R")

EPSG, LEFT, TOP = 32631, 720_000.0, 4_880_000.0
SIZE = 384
"""Edge of the rasters in pixels of 10 m."""
BLOCK = {10: 32, 20: 16}
"""Edge of a block in pixels, by resolution: the same ground at 10 m and at 20 m."""
FINE, COARSE = ("B03", "B04", "B08"), ("B11", "SCL", "CLDPRB")
CM004, SNOW = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "SCL-0-8-11-ITER2"
STATS = ["sum", "scl_fractions"]

# -------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Scene:
    """One product in tiled GeoTIFFs, its arrays, and a layer."""

    acquisition: Acquisition
    arrays: Mapping[str, Array]
    shapes: Array

    def index(self, name: str) -> Array:
        """Values of an index on the whole 10 m grid, by numpy alone."""
        bands, formula = oracle.FORMULAS[name]
        read = [oracle.reflectance(self.arrays[b], 0.0, 10000.0, twenty=b in COARSE) for b in bands]
        with np.errstate(divide="ignore", invalid="ignore"):
            return oracle.scale(formula(*read))[0]

    def mask(self, name: str) -> Array:
        """One mask on the whole 10 m grid, by numpy alone."""
        mask = Mask.parse(name)
        if mask.family == "CM003":
            return oracle.nearest(oracle.cm003(self.arrays["CLDPRB"], mask.probability or 0, mask.iterations))
        return oracle.nearest(oracle.classes(self.arrays["SCL"], mask.classes, mask.iterations))

    def pixels(self, k: int, rule: str = "center") -> Array:
        """Tell which pixels of 10 m belong to a feature, by shapely or GDAL."""
        transform = Affine(10, 0, LEFT, 0, -10, TOP)
        if rule == "center":
            return oracle.burn(self.shapes[k], (SIZE, SIZE), transform)
        return oracle.coverage(self.shapes[k], (SIZE, SIZE), transform) > 1e-8


def write(path: Path, values: Array, left: float = LEFT) -> str:
    pixel = 10 * SIZE // values.shape[1]
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": f"EPSG:{EPSG}"}
    profile |= {"height": values.shape[0], "width": values.shape[1], "tiled": True, "compress": "deflate"}
    profile |= {"blockxsize": BLOCK[pixel], "blockysize": BLOCK[pixel]}
    with rasterio.open(path, "w", transform=Affine(pixel, 0, left, 0, -pixel, TOP), **profile) as sink:
        sink.write(values, 1)
    return str(path)


def draw(
    folder: Path,
    clouds: Sequence[tuple[int, int, int, int]],
    *,
    seed: int = 0,
    features: int = 60,
    edge: int = SIZE // 16,
) -> Scene:
    """Write a product and draw a layer.

    Parameters
    ----------
    clouds
        Rectangles, (row, column, rows, columns) in pixels of 20 m.
    edge
        Columns of 20 m beyond the edge of the swath, on the left.
    """
    rng = np.random.default_rng(seed)
    product = ProductId.parse(f"S2A_MSIL2A_20210403T103021_N0214_R108_T31TGJ_20210403T16{seed % 60:02d}00")
    arrays: dict[str, Array] = {
        **{band: rng.integers(1, 6000, (SIZE, SIZE)).astype(np.uint16) for band in FINE},
        "B11": rng.integers(1, 6000, (SIZE // 2, SIZE // 2)).astype(np.uint16),
        "SCL": rng.choice(np.array([4, 5, 6], np.uint8), (SIZE // 2, SIZE // 2)),
        "CLDPRB": rng.integers(0, 20, (SIZE // 2, SIZE // 2)).astype(np.uint8),
    }
    for row, column, rows, columns in clouds:
        inside = np.s_[row : row + rows, column : column + columns]
        arrays["SCL"][inside] = rng.choice(np.array([8, 9, 10], np.uint8), arrays["SCL"][inside].shape)
        arrays["CLDPRB"][inside] = 90
    arrays["SCL"][:, :edge] = 0
    for band, array in arrays.items():
        if band.startswith("B"):
            array[:, : edge * array.shape[1] * 2 // SIZE] = 0
    details = ProductDetails(product, str(folder / "MTD_MSIL2A.xml"))
    (folder / "MTD_MSIL2A.xml").write_text(esa_files.metadata(product, {9: 0.1}))
    bands = {band: write(folder / f"{band}.tif", array) for band, array in arrays.items()}
    x, y = rng.uniform(-50, SIZE * 10 - 50, (2, features))
    shapes = shapely.buffer(shapely.points(LEFT + x, TOP - y), rng.uniform(2, 150, features), quad_segs=3)
    return Scene(Acquisition(product, details, bands), arrays, np.asarray(shapes, dtype=object))


@pytest.fixture(scope="module")
def cloudy(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene under two clouds, over a little more than half of the ground."""
    return draw(tmp_path_factory.mktemp("cloudy"), [(0, 0, 60, 150), (100, 60, 92, 132)])


@pytest.fixture(scope="module")
def overcast(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene under clouds altogether."""
    return draw(tmp_path_factory.mktemp("overcast"), [(0, 0, SIZE, SIZE)], features=20, edge=0)


# --------------------------------------------------------------------------------------------------------------- runs


def run(scene: Scene, acquisition: Acquisition | None = None, **asked: Any) -> list[Batch]:
    options = {"indices": "NDVI", "masks": CM004, "keywords": {"cm_version": "CM001"}, **asked}
    request = Request.build(**options)
    layer = Layer.of(scene.shapes, f"EPSG:{EPSG}")
    plan = make_plan(request, MemorySource([acquisition or scene.acquisition]), layer)
    rules = RowRules(request.statistics, min_valid=request.min_valid, keep_empty=request.keep_empty)
    results = execute(plan.tasks, Coverages(layer, rule=request.pixels), rules, resolve_executor(multiproc=1))
    batches = [b for result in results for b in result.batches]
    assert all(b.rows + sum(b.reasons.values()) == len(scene.shapes) for b in batches)
    return batches


def rows(batches: list[Batch]) -> pd.DataFrame:
    frames = [pd.DataFrame({"index": b.index, "mask": b.mask, **b.columns}) for b in batches]
    return pd.concat(frames, ignore_index=True)


def without_leaving_out(monkeypatch: pytest.MonkeyPatch, function: Callable[..., R], *args: Any, **asked: Any) -> R:
    """Run a function with everything decoded, as if no mask removed a feature."""
    with monkeypatch.context() as patch:
        patch.setattr(RemovedFeatures, "find", lambda _reader, coverage, *_: RemovedFeatures(coverage, {}))
        return function(*args, **asked)


def decoded(counts: Counts, acquisition: Acquisition, band: str) -> set[tuple[int, int]]:
    return {(i, j) for where, i, j in counts.blocks if where == acquisition.bands[band]}


# -------------------------------------------------------------------------------------------- beside whole numpy arrays


def expected(scene: Scene, index: str, mask: str) -> tuple[dict[int, tuple[int, float]], dict[Reason, int], set[Any]]:
    """Give count and mean of each row, the reasons, and the 10 m blocks that features with an unmasked pixel meet."""
    values, clouds = scene.index(index), scene.mask(mask)
    classes = oracle.nearest(scene.arrays["SCL"])
    found: dict[int, tuple[int, float]] = {}
    reasons: dict[Reason, int] = {}
    blocks: set[Any] = set()
    for k in range(len(scene.shapes)):
        inside = scene.pixels(k)
        if not inside.any():
            continue
        if not clouds[inside].all():
            blocks |= {(i // BLOCK[10], j // BLOCK[10]) for i, j in np.argwhere(inside).tolist()}
        valid = inside & ~clouds & (values != oracle.NODATA)
        if valid.any():
            found[k] = int(valid.sum()), float(values[valid].mean())
            continue
        removed = clouds[inside].all()
        is_cloud = (classes[inside] != 0).any() if removed else (values[inside & clouds] != oracle.NODATA).any()
        reason = Reason.CLOUD if is_cloud else Reason.NO_DATA
        reasons[reason] = reasons.get(reason, 0) + 1
    return found, reasons, blocks


@settings(max_examples=6, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 150), st.integers(20, 150), st.integers(20, 150)), max_size=3
    ),
    st.integers(0, 1 << 30),
)
def test_rows_reasons_and_blocks_are_those_of_whole_arrays(
    tmp_path_factory: pytest.TempPathFactory, clouds: list[tuple[int, int, int, int]], seed: int
) -> None:
    scene = draw(tmp_path_factory.mktemp("scene"), clouds, seed=seed, features=40)
    for mask in (CM004, SNOW):
        with counting() as counts:
            (batch,) = run(scene, masks=mask)
        found, reasons, blocks = expected(scene, "NDVI", mask)
        table = pd.DataFrame(dict(batch.columns))
        assert dict(zip(table["fid"], table["count"], strict=True)) == {k: n for k, (n, _) in found.items()}
        np.testing.assert_allclose(table["mean"], [mean for _, mean in found.values()], rtol=1e-12)
        assert {r: n for r, n in batch.reasons.items() if r in {Reason.CLOUD, Reason.NO_DATA}} == reasons
        assert decoded(counts, scene.acquisition, "B04") == decoded(counts, scene.acquisition, "B08") == blocks


# -------------------------------------------------------------------------------------------------- with and without


@pytest.mark.parametrize("pixels", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("large", [False, True])
def test_rows_do_not_depend_on_what_is_left_out(
    cloudy: Scene, monkeypatch: pytest.MonkeyPatch, pixels: str, *, large: bool
) -> None:
    """Masks from SCL, from CLDPRB and none, bands of 10 m and 20 m; with `large`, most features come in pieces."""
    if large:
        monkeypatch.setattr(strips, "LARGE", 40)
    asked: dict[str, Any] = {"pixels": pixels, "stats": STATS, "min_valid": 0.3}
    for masks in ([CM004, SNOW], [CM004, "CM003-PRB50-ITER1", "none"])[: 1 if large else None]:
        asked |= {"masks": masks, "indices": ["NDVI", "NDWIGAO"]}
        with counting() as less:
            got = run(cloudy, **asked)
        with counting() as counts:
            want = without_leaving_out(monkeypatch, run, cloudy, **asked)
        pd.testing.assert_frame_equal(rows(got), rows(want), check_exact=True)
        assert [b.reasons for b in got] == [b.reasons for b in want]
        assert len(rows(got)) > 20
        assert less.opens == counts.opens
        assert set(less.blocks.values()) == {1}
        assert less.blocks.keys() <= counts.blocks.keys()
        for band in ("B04", "B08", "B11", "CLDPRB"):
            sizes = [len(decoded(c, cloudy.acquisition, band)) for c in (less, counts)]
            assert (sizes[0] < sizes[1]) == (len(masks) < 3), (band, sizes)


def test_a_raster_is_decoded_for_the_outputs_that_need_it(cloudy: Scene, tmp_path: Path) -> None:
    """Without a mask NDVI, here a stored raster, is needed everywhere; the bands of MNDWI are not."""
    stored = write(tmp_path / "ndvi.tif", cloudy.index("NDVI"))
    acquisition = replace(cloudy.acquisition, indices={"NDVI": (stored,)})
    with counting() as alone:
        run(cloudy, acquisition, indices="MNDWI")
    with counting() as counts:
        batches = run(cloudy, acquisition, indices=["NDVI", "MNDWI"], masks=[CM004])
        assert [b.value_source for b in batches] == ["index raster", "bands"]
    for band in ("B03", "B11"):
        assert decoded(counts, acquisition, band) == decoded(alone, acquisition, band)


# ------------------------------------------------------------------------------------------------------ all clouded


def test_an_overcast_acquisition_reads_the_scene_classification_alone(overcast: Scene) -> None:
    acquisition = overcast.acquisition
    asked: dict[str, Any] = {"indices": ["NDVI", "NDWIGAO"], "masks": [CM004, "SCL-0-8-9-10-ITER0"]}
    with counting() as counts:
        batches = run(overcast, **asked)
    assert {where for where, _, _ in counts.blocks} == {acquisition.bands["SCL"]}
    assert set(counts.opens) == {acquisition.bands[b] for b in ("B04", "B08", "B11", "SCL", "CLDPRB")}
    assert not any(b.rows for b in batches)
    assert all(b.reasons[Reason.CLOUD] > 10 for b in batches)


@pytest.mark.parametrize("asked", [{"masks": [CM004, "none"]}, {"keep_empty": True}, {"masks": "CM003-PRB50-ITER0"}])
def test_other_requests_read_all(overcast: Scene, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    with counting() as counts:
        got = run(overcast, **asked)
    with counting() as every:
        want = without_leaving_out(monkeypatch, run, overcast, **asked)
    pd.testing.assert_frame_equal(rows(got), rows(want), check_exact=True)
    assert counts == every
    assert decoded(counts, overcast.acquisition, "B04")
    assert decoded(counts, overcast.acquisition, "CLDPRB")


def test_a_stored_mask_reads_all(overcast: Scene, tmp_path: Path) -> None:
    """Its pixels need not be those of SCL, which may be missing."""
    mask = write(tmp_path / "mask.tif", np.full((SIZE // 2, SIZE // 2), 3, np.uint8))
    acquisition = replace(overcast.acquisition, masks={CM004: mask})
    with counting() as counts:
        (batch,) = run(overcast, acquisition)
    assert (batch.rows, batch.mask_source) == (0, "mask raster")
    assert decoded(counts, acquisition, "B04")


def test_a_masked_index_keeps_what_its_own_mask_left(overcast: Scene, tmp_path: Path) -> None:
    """A masked raster without the unmasked one has values under the computed mask; they are read."""
    masked = write(tmp_path / "masked.tif", np.full((SIZE, SIZE), 5, np.int16))
    acquisition = replace(overcast.acquisition, masked={("NDVI", CM004): masked})
    (batch,) = run(overcast, acquisition, prefer="masked")
    assert batch.value_source == "masked index raster"
    assert batch.rows > 10
    assert (batch.columns["mean"] == 5).all()


def test_no_data_is_told_by_the_scene_classification(tmp_path: Path) -> None:
    """A feature under the mask is without data where SCL is 0 at all its pixels, whatever the bands hold."""
    scene = draw(tmp_path, [(0, 0, SIZE, SIZE)], features=2)
    edge = SIZE // 16 * 20
    box = [shapely.box(LEFT + x, TOP - 900, LEFT + x + 100, TOP - 800) for x in (100, edge - 50, edge + 100)]
    scene = replace(scene, shapes=np.array(box, dtype=object))
    (batch,) = run(scene, masks="SCL-0-8-9-10-ITER0")
    assert batch.reasons == {Reason.NO_DATA: 1, Reason.CLOUD: 2}


# ----------------------------------------------------------------------------------------------------- damaged files


def damaged(scene: Scene, folder: Path, band: str, change: Callable[[Path], object]) -> Acquisition:
    path = folder / f"damaged-{band}.tif"
    write(path, scene.arrays[band])
    change(path)
    return replace(scene.acquisition, bands={**scene.acquisition.bands, band: str(path)})


def bottom(path: Path) -> None:
    """Destroy the last row of blocks of a raster."""
    with rasterio.open(path) as dataset:
        last = SIZE // BLOCK[10] - 1
        names = [f"BLOCK_OFFSET_{column}_{last}" for column in range(last + 1)]
        places = [int(dataset.get_tag_item(name, "TIFF", bidx=1)) for name in names]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(b"\xff" * 20)


@pytest.mark.parametrize("band", ["B04", "B11", "CLDPRB"])
def test_damage_where_no_row_needs_the_band_costs_nothing(tmp_path: Path, band: str) -> None:
    """Clouds lie over the lower half and beyond, and so does the damage."""
    scene = draw(tmp_path, [(60, 0, SIZE, SIZE)], features=50)
    acquisition = damaged(scene, tmp_path, band, bottom)
    indices = ["NDVI", "NDWIGAO"]
    pd.testing.assert_frame_equal(rows(run(scene, acquisition, indices=indices)), rows(run(scene, indices=indices)))
    # It does show where all features are needed.
    whole = run(scene, acquisition, indices=indices, masks="none")
    if band == "CLDPRB":
        assert all("cldprb is empty" in b.error for b in whole)
    else:
        assert any(Reason.UNREADABLE in b.reasons for b in whole)


def test_damage_that_a_header_shows_is_found_under_clouds(overcast: Scene, tmp_path: Path) -> None:
    cases: dict[str, tuple[Callable[[Path], object], str, Reason]] = {
        "B04": (lambda path: path.write_bytes(b"II*\0 broken"), "NDVI", Reason.UNREADABLE),
        "B08": (lambda path: path.unlink(), "NDVI", Reason.UNREADABLE),
        "B11": (lambda path: write(path, overcast.arrays["SCL"]), "NDWIGAO", Reason.UNREADABLE),  # of another type
        "B03": (lambda path: write(path, overcast.arrays["B03"], LEFT + 10), "BIGR", Reason.GRID_MISMATCH),
    }
    for band, (change, index, reason) in cases.items():
        acquisition = damaged(overcast, tmp_path, band, change)
        assert reason in run(overcast, acquisition, indices=[index, "NDVI"])[0].reasons, band
    elsewhere = damaged(overcast, tmp_path, "B11", lambda path: write(path, overcast.arrays["B11"], LEFT + 900))
    (batch,) = run(overcast, elsewhere, indices="NDWIGAO")
    assert Reason.GRID_MISMATCH in batch.reasons


# --------------------------------------------------------------------------------------------------------- real pixels


def test_rows_of_bolzano_are_the_same_bytes(bolzano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of its twelve dates are clouded altogether: of them no band and no CLDPRB is decoded."""

    def files(folder: Path) -> dict[str, bytes]:
        series = TimeSeries(
            bolzano / "vectors" / "parcels_utm32.gpkg",
            indices=["NDVI", "BIGR"],
            cm_version="CM004",
            iterations=1,
            safe=bolzano / "L2A",
            multiproc=2,
            quiet=True,
        )
        series.to_csv(folder)
        return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.csv"))}

    with counting() as less:
        got = files(tmp_path / "less")
    with counting() as counts:
        want = without_leaving_out(monkeypatch, files, tmp_path / "all")
    assert got == want
    assert any(len(content) > 1000 for content in got.values())
    safes = {where.partition(".SAFE")[0] for where, _, _ in counts.blocks}
    of_bands = {where.partition(".SAFE")[0] for where, _, _ in less.blocks if not where.endswith("SCL_20m.jp2")}
    assert (len(safes), len(of_bands)) == (12, 9)
    assert less.opens == counts.opens


# -------------------------------------------------------------------------------------------------------------- kernels


def test_touched_blocks_of_some_features(cloudy: Scene) -> None:
    layer = Layer.of(cloudy.shapes, f"EPSG:{EPSG}")
    grid = Grid(f"EPSG:{EPSG}", (10.0, 0.0, LEFT, 0.0, -10.0, TOP), (SIZE, SIZE))
    coverage = Coverages(layer).get(grid, "31TGJ")
    wanted = np.random.default_rng(1).random(len(coverage.fid)) < 0.2
    got = touched_blocks(coverage.plan, grid, (32, 32), 0, wanted).blocks
    want = np.zeros((SIZE // 32, SIZE // 32), bool)
    for k in np.flatnonzero(wanted & (coverage.state == PLANNED)):
        inside = cloudy.pixels(int(coverage.fid[k]))
        want |= inside.reshape(SIZE // 32, 32, SIZE // 32, 32).any(axis=(1, 3))
    np.testing.assert_array_equal(got, want)
    assert got.sum() < touched_blocks(coverage.plan, grid, (32, 32), 0).blocks.sum()
