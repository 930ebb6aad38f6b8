"""One acquisition or a few in, rows and reasons out: judged by the generator's truth, numpy and rasterstats."""

from __future__ import annotations

import itertools
import pickle
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

import oracle
from sen2chain import demo
from sen2chain.archive import open_library
from sen2chain.archive.memory_source import MemorySource
from sen2chain.archive.product_details import ProductDetails
from sen2chain.demo import esa_files
from sen2chain.extract import Coverages, RowRules, execute, extraction, resolve_executor
from sen2chain.extract.executors import Threads
from sen2chain.indices import INDICES, NODATA
from sen2chain.masks import Mask
from sen2chain.plan import Request, Task, make_plan, plan_task
from sen2chain.products import LOCAL, Acquisition, ProductId, Reading
from sen2chain.rasters import Counts, Raster, counting
from sen2chain.rasters.environment import file_systems
from sen2chain.reasons import Reason
from sen2chain.rows import Clipped
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.rows import Batch

    Array = npt.NDArray[Any]

TILE, EPSG = "31TGJ", 32631
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
CM004_BARE = "CM004-CSH1-CMP1-CHP1-TCI1-ITER0"
COUNTS = ("count", "nodata", "nbcld")

# ----------------------------------------------------------------------------------------------------------- archives


@dataclass(frozen=True)
class Archive:
    """Acquisitions and a layer in the tile's CRS."""

    acquisitions: tuple[Acquisition, ...]
    geometries: Any
    folder: Path

    def safe(self, position: int = 0) -> oracle.Safe:
        product = self.acquisitions[position].id
        return oracle.Safe(self.folder / "data" / "L2A" / product.tile / f"{product}.SAFE")


def drawn(folder: Path, scene: demo.Scene) -> Archive:
    archive = demo.build(folder, scene)
    found = open_library(archive.library).acquisitions(TILE)  # by platform first
    shapes = np.array(archive.parcels.geometry.to_crs(EPSG).array, dtype=object)
    return Archive(tuple(sorted(found, key=lambda a: a.id.sensing)), shapes, archive.library)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Three dates of a small window: clear, under clouds, at the edge of the swath."""
    scene = demo.Scene(
        tiles=(TILE,),
        size=150,
        overpasses=(demo.season()[0], demo.season()[1], demo.season()[4]),
        parcels=12,
        indices=("NDVI", "EVI", "BIGR"),
    )
    return drawn(tmp_path_factory.mktemp("small"), scene)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """One date with four blocks in every raster, at 10 m and at 20 m."""
    scene = demo.Scene(
        tiles=(TILE,),
        size=1400,
        overpasses=demo.season()[3:4],
        bands=("B04", "B08", "B11", "SCL", "CLDPRB"),
        parcels=30,
    )
    return drawn(tmp_path_factory.mktemp("blocks"), scene)


LEFT, TOP = 720_000.0, 4_880_000.0


def write(
    path: Path, values: Array, pixel: int = 10, *, left: float = LEFT, top: float = TOP, epsg: int = EPSG,
    nodata: int | None = None,
) -> str:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": f"EPSG:{epsg}"}
    profile |= {"height": values.shape[0], "width": values.shape[1], "nodata": nodata}
    with rasterio.open(path, "w", transform=Affine(pixel, 0, left, 0, -pixel, top), **profile) as sink:
        sink.write(values, 1)
    return str(path)


def made(folder: Path, day: str = "20220403", size: int = 60, baseline: int = 400, **place: Any) -> Acquisition:
    """Write a product of noise with holes in its data, the same for the same day."""
    product = ProductId.parse(f"S2A_MSIL2A_{day}T103021_N{baseline:04d}_R108_T{TILE}_{day}T160000")
    rng = np.random.default_rng(int(day))
    folder = folder / str(product)
    bands = {}
    for band in ("B02", "B03", "B04", "B08"):
        dn = rng.integers(1200, 6000, (size, size)).astype(np.uint16)
        dn[rng.random(dn.shape) < 0.02] = 0
        dn[rng.random(dn.shape) < 0.01] = 65535
        dn[:, : size // 10] = 0
        bands[band] = write(folder / f"{band}.tif", dn, **place)
    half = size // 2
    for band in ("B8A", "B11"):
        bands[band] = write(
            folder / f"{band}.tif", rng.integers(1200, 6000, (half, half)).astype(np.uint16), 20, **place
        )
    scl = rng.choice(np.array([4, 5, 6, 8, 9], np.uint8), (half, half), p=[0.5, 0.3, 0.1, 0.05, 0.05])
    bands["SCL"] = write(folder / "SCL.tif", scl, 20, **place)
    cldprb = rng.integers(0, 20, (half, half)).astype(np.uint8)
    cldprb[20:27, 3:10] = 90
    bands["CLDPRB"] = write(folder / "CLDPRB.tif", cldprb, 20, **place)
    metadata = folder / "MTD_MSIL2A.xml"
    metadata.write_text(esa_files.metadata(product, {9: 0.1}))
    return Acquisition(product, ProductDetails(product, str(metadata)), bands)


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """One product of noise over 600 m; its layer is regular squares, some beyond the raster's edge."""
    folder = tmp_path_factory.mktemp("noise")
    corners = [(LEFT + dx, TOP - dy) for dy in range(-40, 700, 130) for dx in range(-40, 700, 130)]
    shapes = np.array([shapely.box(x, y - 87, x + 93, y) for x, y in corners], dtype=object)
    return Archive((made(folder),), shapes, folder)


def values_of(location: str) -> Array:
    with rasterio.open(location) as source:
        return np.asarray(source.read(1))


# --------------------------------------------------------------------------------------------------------- extraction


@dataclass
class Run:
    batches: list[Batch] = field(default_factory=list)
    features: int = 0

    @property
    def table(self) -> pd.DataFrame:
        frames = [
            pd.DataFrame(
                {**b.columns, "index": b.index, "mask": b.mask, "filename": b.filename, "date": b.product.sensing}
            )
            for b in self.batches
        ]
        return pd.concat(frames, ignore_index=True)

    def rows(self, index: str = "NDVI", mask: str = CM004) -> pd.DataFrame:
        table = self.table
        return table[(table["index"] == index) & (table["mask"] == mask)].reset_index(drop=True)

    @property
    def report(self) -> list[tuple[Any, ...]]:
        return [
            (b.index, b.mask, str(b.product), b.rows, dict(b.reasons), b.value_source, b.mask_source, b.error)
            for b in self.batches
        ]

    def of(self, index: str = "NDVI", mask: str = CM004, day: str = "") -> Batch:
        (found,) = (b for b in self.batches if (b.index, b.mask) == (index, mask) and day in str(b.product))
        return found

    def assert_complete(self) -> None:
        """Every feature asked for is a row or a counted reason."""
        assert self.batches
        for b in self.batches:
            assert b.rows + sum(b.reasons.values()) == self.features, b.reasons
            assert all(n > 0 for n in b.reasons.values())


def run(
    acquisitions: Iterable[Acquisition], geometries: Any, crs: str = f"EPSG:{EPSG}", *, threads: int = 1, **asked: Any
) -> Run:
    options = {"indices": "NDVI", "masks": CM004, "keywords": {"cm_version": "CM001"}, **asked}
    request = Request.build(**options)
    layer = Layer.of(geometries, crs)
    plan = make_plan(request, MemorySource(acquisitions), layer)
    coverages = Coverages(layer, rule=request.pixels, buffer=request.buffer)
    rules = RowRules(
        request.statistics,
        min_valid=request.min_valid,
        in_index_units=request.units == "index",
        keep_empty=request.keep_empty,
    )
    results = execute(plan.tasks, coverages, rules, resolve_executor(multiproc=threads))
    result = Run([b for r in results for b in r.batches], len(geometries))
    result.assert_complete()
    return result


def same(got: pd.DataFrame, want: pd.DataFrame, columns: Sequence[str] | None = None) -> None:
    names = list(want.columns if columns is None else columns)
    assert len(want)
    pd.testing.assert_frame_equal(
        got[names].reset_index(drop=True), want[names].reset_index(drop=True), check_exact=True
    )


def numbers(batch: Batch) -> pd.DataFrame:
    return pd.DataFrame(dict(batch.columns))


def with_files(acquisition: Acquisition, **bands: str | None) -> Acquisition:
    """Give the acquisition with other places of bands; None takes one away."""
    changed = {**acquisition.bands, **bands}
    return replace(acquisition, bands={band: path for band, path in changed.items() if path is not None})


def cut(location: str, folder: Path, share: float) -> str:
    """Copy a file and cut it off."""
    path = folder / f"cut-{share}-{Path(location).name}"
    shutil.copyfile(location, path)
    esa_files.truncate(path, share)
    return str(path)


# ------------------------------------------------------------------------------------------------------------- values


@pytest.mark.jpeg2000
def test_computed_values_equal_those_read_back_from_a_lossless_file(small: Archive) -> None:
    """The files were written by the generator's own formulas."""
    extra: dict[str, Any] = {
        "indices": ["NDVI", "EVI", "BIGR"],
        "stats": ["sum", "variety", "majority", "percentile_3"],
    }
    stored = run(small.acquisitions, small.geometries, **extra)
    bands = run([replace(a, indices={}) for a in small.acquisitions], small.geometries, **extra)
    assert {b.value_source for b in stored.batches} == {"index raster"}
    assert {b.value_source for b in bands.batches} == {"bands"}
    same(bands.table, stored.table)


@pytest.mark.jpeg2000
@pytest.mark.parametrize("index", ["NDRE", "IRECI", "NDWIGAO"])
def test_values_of_twenty_metre_bands_equal_those_of_a_lossless_file(
    small: Archive, tmp_path: Path, index: str
) -> None:
    acquisition, safe = small.acquisitions[2], small.safe(2)
    encoded, ties = oracle.index(safe, index)
    grid = safe.raster("B04").transform
    path = write(tmp_path / f"{index}.tif", encoded, left=grid.c, top=grid.f, nodata=NODATA)
    stored = run([replace(acquisition, indices={index: (path,)})], small.geometries, indices=index)
    bands = run([acquisition], small.geometries, indices=index)
    assert (stored.of(index).value_source, bands.of(index).value_source) == ("index raster", "bands")
    assert (encoded == NODATA).any()  # the edge of the swath, which must not blend into its neighbours
    same(bands.rows(index), stored.rows(index), ["fid", *COUNTS])
    for name in ("min", "max", "mean", "std"):
        got, want = (r.rows(index)[name].to_numpy(float) for r in (bands, stored))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=float(ties.any()))


@pytest.mark.jpeg2000
def test_a_lossy_raster_has_its_own_no_data_value(small: Archive, tmp_path: Path) -> None:
    """16383 is no data in old rasters, also when the file that declares it is lost."""
    acquisition, safe = small.acquisitions[0], small.safe(0)
    encoded = oracle.index(safe, "NDVI")[0].copy()
    encoded[:, :70] = 16383
    grid = safe.raster("B04").transform
    profile = {"driver": "JP2OpenJPEG", "quality": "100", "reversible": "YES", "count": 1, "dtype": "int16"}
    path = tmp_path / "ndvi.jp2"
    with rasterio.open(path, "w", height=150, width=150, crs=f"EPSG:{EPSG}", transform=grid, **profile) as sink:
        sink.write(encoded, 1)
    assert not path.with_suffix(".jp2.aux.xml").exists()
    legacy = replace(acquisition, indices={"NDVI": (str(path),)})
    got = run([legacy], small.geometries, prefer="stored").of()
    assert got.value_source == "lossy index raster"
    values = np.where(encoded == 16383, np.int16(NODATA), encoded)
    clouds = oracle.nearest(oracle.cm004(safe.raster("SCL").values, (1, 1, 1, 1), 1))
    check_rows(numbers(got), oracle.zonal(small.geometries, values, clouds, grid))


def check_rows(got: pd.DataFrame, want: pd.DataFrame, slack: float = 0.0) -> None:
    want = want[want["count"] > 0]
    assert got["fid"].tolist() == want["fid"].tolist()
    assert len(got) > 3
    for name in (*COUNTS, "min", "max", "mean", "std", "median", "percentile_25", "percentile_75"):
        exact = name in COUNTS or (name in {"min", "max"} and not slack)
        np.testing.assert_allclose(
            got[name].to_numpy(float),
            want[name].to_numpy(float),
            rtol=0 if exact else 1e-9,
            atol=0 if name in COUNTS else slack,
            err_msg=name,
        )


@pytest.mark.jpeg2000
@pytest.mark.parametrize("position", [0, 1, 2])
def test_rows_equal_rasterstats(small: Archive, position: int) -> None:
    safe, acquisition = small.safe(position), small.acquisitions[position]
    values = values_of(acquisition.indices["NDVI"][0])
    clouds = oracle.nearest(oracle.cm004(safe.raster("SCL").values, (1, 1, 1, 1), 1))
    got = run([replace(acquisition, indices={})], small.geometries).of()
    assert got.value_source == "bands"
    check_rows(numbers(got), oracle.zonal(small.geometries, values, clouds, safe.raster("B04").transform))


@pytest.mark.jpeg2000
def test_rows_across_blocks_equal_rasterstats(blocks: Archive) -> None:
    safe = blocks.safe()
    grid = safe.raster("B04").transform
    seams = grid.c + 10240, grid.f - 10240
    shapes: Any = np.append(
        blocks.geometries, [shapely.box(seams[0] - 700, seams[1] - 400, seams[0] + 300, seams[1] + 900)]
    )
    clouds = oracle.nearest(oracle.cm004(safe.raster("SCL").values, (1, 1, 1, 1), 1))
    got = run(blocks.acquisitions, shapes, indices=["NDVI", "NDWIGAO"])
    for index in ("NDVI", "NDWIGAO"):
        values, ties = oracle.index(safe, index)
        want = oracle.zonal(shapes, values, clouds, grid)
        # One unit either way is right on a tie; of two bands of 10 m the steps are the same, and so are the values.
        check_rows(numbers(got.of(index)), want, slack=float(index != "NDVI" and ties.any()))


@pytest.mark.jpeg2000
def test_cldprb_is_the_mean_of_its_own_pixels(small: Archive) -> None:
    got = run(small.acquisitions[1:2], small.geometries).rows()
    raster = small.safe(1).raster("CLDPRB")
    image = raster.values  # noqa: PD011  # no pandas
    for _, row in got.iterrows():
        own = oracle.burn(small.geometries[int(row["fid"])], image.shape, raster.transform)
        assert row["cldprb"] == pytest.approx(image[own].mean(), rel=1e-12)
    assert got["cldprb"].max() > 0


# ------------------------------------------------------------------------------------------------------ opens and reads


def check_reads(counts: Counts, locations: Iterable[str]) -> None:
    assert set(counts.opens) == set(locations)
    assert set(counts.opens.values()) == {1}, counts.opens
    assert set(counts.blocks.values()) == {1}, [k for k, n in counts.blocks.items() if n > 1]


@pytest.mark.jpeg2000
def test_each_file_is_opened_once_and_each_block_read_once(blocks: Archive) -> None:
    (acquisition,) = blocks.acquisitions
    masks = [CM004, "CM001", "SCL-3-8-9-10-11-ITER2"]
    with counting() as counts:
        run([acquisition], blocks.geometries, indices=["NDVI", "NDWIGAO"], masks=masks, stats="scl_fractions")
    check_reads(counts, acquisition.bands.values())
    assert {n for n, _, _ in counts.blocks} == set(acquisition.bands.values())
    # Two indices and three masks cost no block more than one of each.
    with counting() as less:
        run([acquisition], blocks.geometries)
    check_reads(less, [acquisition.bands[b] for b in ("B04", "B08", "SCL", "CLDPRB")])
    assert all(counts.blocks[key] == 1 for key in less.blocks)


def touched_by(acquisition: Acquisition, shape: Any) -> set[tuple[str, int, int]]:
    """Blocks of each raster that a rectangle lies in, as far as the centres of pixels of 10 m inside of it."""
    found = set()
    for location in acquisition.bands.values():
        with Raster(location) as raster:
            high, wide = raster.block_shape
            step, left, top = raster.grid.transform[0], raster.grid.transform[2], raster.grid.transform[5]
        west, south, east, north = shape.bounds
        rows, columns = np.arange(top - north + 5, top - south, 10), np.arange(west - left + 5, east - left, 10)
        # Bands of 20 m are interpolated: pixels beside those of the feature are needed too.
        reach = 1 if "_20m" in location and "_B" in location else 0
        for row, column in itertools.product(rows // step, columns // step):
            for i, j in itertools.product((row - reach, row + reach), (column - reach, column + reach)):
                found.add((location, int(max(i, 0) // high), int(max(j, 0) // wide)))
    return found


@pytest.mark.jpeg2000
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_blocks_without_polygons_are_not_read(blocks: Archive, corner: tuple[int, int]) -> None:
    (acquisition,) = blocks.acquisitions
    grid = blocks.safe().raster("B04").transform
    x = grid.c + (200 if corner[1] == 0 else 13400)
    y = grid.f - (200 if corner[0] == 0 else 13400)
    shapes = np.array([shapely.box(x, y - 100, x + 100, y)], dtype=object)
    with counting() as counts:
        # Some of the corners lie under clouds.
        run([acquisition], shapes, indices=["NDVI", "NDWIGAO"], keep_empty=True)
    check_reads(counts, acquisition.bands.values())
    expected = touched_by(acquisition, shapes[0])
    assert set(counts.blocks) == expected
    assert {where for where, _, _ in expected} == set(acquisition.bands.values())
    assert len(expected) < 12


@pytest.mark.jpeg2000
def test_touched_blocks_are_those_with_pixels(blocks: Archive) -> None:
    (acquisition,) = blocks.acquisitions
    grid = blocks.safe().raster("B04").transform
    seam = grid.c + 10240
    shapes = np.array([shapely.box(seam - 200, grid.f - 900, seam + 200, grid.f - 100)], dtype=object)
    with counting() as counts:
        run([acquisition], shapes, masks="none")
    found = {key for key in counts.blocks if "B04" in key[0]}
    assert found == {key for key in touched_by(acquisition, shapes[0]) if "B04" in key[0]}
    assert len(found) > 1


@pytest.mark.jpeg2000
def test_a_layer_elsewhere_reads_no_pixel(blocks: Archive) -> None:
    (acquisition,) = blocks.acquisitions
    with counting() as counts:
        away = run([acquisition], np.array([shapely.box(710_000, 4_880_000, 710_100, 4_880_100)], dtype=object))
    assert away.of().reasons == {Reason.OUTSIDE_RASTER: 1}
    assert counts.blocks == Counter()
    assert all(n == 1 for n in counts.opens.values())


@pytest.mark.jpeg2000
def test_stored_rasters_are_opened_once_too(small: Archive, tmp_path: Path) -> None:
    acquisition = small.acquisitions[0]
    grid = small.safe().raster("SCL").transform
    mask = write(tmp_path / "cm001.tif", np.zeros((75, 75), np.uint8), 20, left=grid.c, top=grid.f)
    stored = replace(acquisition, masks={"CM001": mask})
    with counting() as counts:
        run([stored], small.geometries, indices=["NDVI", "BIGR"], masks=["CM001", CM004])
    wanted = [mask, acquisition.indices["NDVI"][0], acquisition.indices["BIGR"][0]]
    check_reads(counts, [*wanted, acquisition.bands["SCL"], acquisition.bands["CLDPRB"]])


# ------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.jpeg2000
@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_threads_give_the_same_rows_and_report(tmp_path: Path, small: Archive, threads: int, pixels: str) -> None:
    first = small.acquisitions[0]
    broken = with_files(first, B08=cut(first.bands["B08"], tmp_path, 0.4))
    several = [replace(broken, indices={}), *small.acquisitions[1:]]
    # Many products of different dates, so that threads overtake each other.
    for k in range(9):
        day = f"2022060{k + 1}"
        id_ = ProductId.parse(f"S2B_MSIL2A_{day}T103021_N0301_R108_T{TILE}_{day}T160000")
        several.append(replace(small.acquisitions[k % 3], id=id_))
    extra: dict[str, Any] = {"indices": ["NDVI", "BIGR", "NDWIGAO"], "masks": [CM004, "CM001"], "pixels": pixels}
    serial = run(several, small.geometries, **extra)
    threaded = run(several, small.geometries, threads=threads, **extra)
    same(threaded.table, serial.table)
    assert threaded.report == serial.report
    assert any("unreadable" in reasons for _, _, _, _, reasons, *_ in serial.report)
    assert [b.product.sensing for b in serial.batches] == sorted(b.product.sensing for b in serial.batches)


# ----------------------------------------------------------------------------- one acquisition, decoded by all threads


@pytest.fixture(scope="session", params=["tif", "jp2"])
def cut_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """One product of noise in many small blocks; its layer has features across blocks, a large one among them."""
    folder = tmp_path_factory.mktemp("cut_up")
    (acquisition,) = (made(folder, size=640),)
    bands = {}
    for band, location in acquisition.bands.items():
        path = folder / f"{band}.{request.param}"
        kind: dict[str, Any] = {"driver": "GTiff", "tiled": True, "compress": "deflate"}
        if request.param == "jp2":
            kind = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
        with rasterio.open(location) as source:
            profile = {**{k: source.profile[k] for k in ("count", "dtype", "crs", "transform", "height", "width")}}
            values = source.read()
            if band == "SCL":
                values[:, :100, :120] = 9  # whole features and whole blocks under a cloud
            with rasterio.open(path, "w", **profile, **kind, blockxsize=128, blockysize=128) as sink:
                sink.write(values)
        bands[band] = str(path)
    corners = [(LEFT + dx, TOP - dy) for dy in range(-40, 6400, 430) for dx in range(-40, 6400, 430)]
    shapes = [shapely.box(x, y - 287, x + 393, y) for x, y in corners]
    shapes.append(shapely.box(LEFT + 995, TOP - 6105, LEFT + 5995, TOP - 105))
    return Archive((replace(acquisition, bands=bands),), np.array(shapes, dtype=object), folder)


def planned(archive: Archive, reading: Reading = LOCAL) -> tuple[tuple[Task, ...], Coverages]:
    layer = Layer.of(archive.geometries, f"EPSG:{EPSG}")
    request = Request.build(indices=["NDVI", "NDWIGAO"], masks=CM004, keywords={})
    return make_plan(request, MemorySource(archive.acquisitions, reading=reading), layer).tasks, Coverages(layer)


@dataclass
class Watch:
    """What threads do while they decode: who they are, and how the first two meet."""

    threads: set[int] = field(default_factory=set)
    options: list[tuple[Any, Any]] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)

    def decode(self, decode: Callable[[], None]) -> None:
        self.threads.add(threading.get_ident())
        self.options.append((rasterio.env.getenv().get("GDAL_HTTP_MAX_RETRY"), file_systems()))
        if len(self.threads) > 1:
            self.second.set()
        assert self.second.wait(20), "one thread decodes alone"
        decode()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    counted = Raster._counted

    def watched(self: Raster, boxes: Any, area: Any, decode: Callable[[], None]) -> None:
        found.decode(lambda: counted(self, boxes, area, decode))

    monkeypatch.setattr(Raster, "_counted", watched)
    return found


@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_one_acquisition_gives_the_same_rows_whatever_the_threads(
    cut_up: Archive, pixels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen2chain.acquisition.strips.LARGE", 10_000)
    monkeypatch.setattr("sen2chain.acquisition.reader.AT_ONCE", 5_000)
    masks = [CM004, "SCL-9-ITER0"]
    asked: dict[str, Any] = {"indices": ["NDVI", "NDWIGAO"], "masks": masks, "pixels": pixels}
    with counting() as alone:
        want = run(cut_up.acquisitions, cut_up.geometries, stats=["mad", "scl_fractions"], **asked)
    assert want.of().rows > 150
    assert want.of().reasons[Reason.CLOUD] > 15
    for threads in (2, 3, 8) if pixels == "center" else (3,):
        with counting() as counts:
            got = run(cut_up.acquisitions, cut_up.geometries, threads=threads, stats=["mad", "scl_fractions"], **asked)
        same(got.table, want.table)
        assert got.report == want.report
        assert counts == alone


def test_idle_threads_decode_with_the_options_of_the_archive(cut_up: Archive, watch: Watch) -> None:
    reading = Reading({"GDAL_HTTP_MAX_RETRY": 7}, 3, ("/vsimem/",))
    tasks, coverages = planned(cut_up, reading)
    list(execute(tasks, coverages, RowRules(), Threads(3)))
    assert len(watch.threads) in {2, 3}
    assert set(watch.options) == {(7, ("/vsizip/", "/vsimem/"))}


def test_the_error_of_a_damaged_file_does_not_depend_on_threads(cut_up: Archive, tmp_path: Path) -> None:
    (acquisition,) = cut_up.acquisitions
    broken = {}
    for band in ("B04", "B11", "SCL", "CLDPRB"):
        source = Path(acquisition.bands[band])
        content = bytearray(source.read_bytes())
        for share in (0.4, 0.6, 0.8):  # three blocks or more
            k = int(share * len(content))
            content[k : k + 300] = bytes(300)
        if source.suffix == ".jp2":  # where bits are wrong, other pixels are decoded
            del content[int(0.4 * len(content)) :]
        broken[band] = str(tmp_path / source.name)
        Path(broken[band]).write_bytes(content)
    for damaged in (["B04"], list(broken)):
        bad = [with_files(acquisition, **{band: broken[band] for band in damaged})]
        asked: dict[str, Any] = {"indices": ["NDVI", "NDWIGAO", "BIGR"], "masks": [CM004, "none"]}
        want = run(bad, cut_up.geometries, **asked)
        assert any("unreadable" in reasons for _, _, _, _, reasons, *_ in want.report)
        for threads in (2, 8):
            got = run(bad, cut_up.geometries, threads=threads, **asked)
            assert got.report == want.report
            pd.testing.assert_frame_equal(got.table, want.table, check_exact=True)


def test_nothing_is_decoded_behind_an_error(cut_up: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rasters are closed when a task ends; a thread that still decoded the next strip would read a closed one."""
    closed, late, calls = set[Raster](), [], []
    close, counted, reduce = Raster.close, Raster._counted, extraction.Extraction._reduce

    def closing(self: Raster) -> None:
        closed.add(self)
        close(self)

    def slow(self: Raster, *arguments: Any) -> None:
        time.sleep(0.002)
        if self in closed:
            late.append(self)
        counted(self, *arguments)

    def fail(self: Any, pixels: Any) -> None:
        calls.append(pixels)
        if len(calls) % 2 == 0:
            raise ZeroDivisionError("in the middle")
        reduce(self, pixels)

    monkeypatch.setattr(Raster, "close", closing)
    monkeypatch.setattr(Raster, "_counted", slow)
    monkeypatch.setattr(extraction.Extraction, "_reduce", fail)
    got = run(cut_up.acquisitions, cut_up.geometries, threads=3)
    assert got.of().reasons == {Reason.FAILED: got.features}
    assert len(calls) == 6
    assert closed
    assert not late


@pytest.mark.parametrize("threads", [1, 3])
def test_the_decoded_fraction_grows_to_one_within_an_acquisition(cut_up: Archive, threads: int) -> None:
    tasks, coverages = planned(cut_up)
    told: list[float] = []

    def advanced(task: Task, share: float) -> None:
        assert task is tasks[0]
        told.append(share)

    results = execute(tasks, coverages, RowRules(), resolve_executor(multiproc=threads), advanced=advanced)
    assert len(list(results)) == 1
    assert told == sorted(told)
    assert len(told) > 15
    assert 0 < told[0] < 0.2
    assert told[-1] == pytest.approx(1)
    assert max(np.diff(told)) < 0.2


# ---------------------------------------------------------------------------------------------- every feature accounted

near = st.integers(-30, 90).map(lambda k: k * 10.0)
# No edge lies on pixel centres, nor any step of 7 m from here: what belongs to whom there has a test of its own.
offset = st.sampled_from([0.1, 0.13, 5.21, 7.3])


@st.composite
def coordinates(draw: st.DrawFn) -> tuple[float, float]:
    return LEFT + draw(near) + draw(offset), TOP - draw(near) - draw(offset)


@st.composite
def features(draw: st.DrawFn) -> Any:
    kind = draw(
        st.sampled_from(["point", "line", "box", "triangle", "hole", "multi", "tiny", "far", "none", "empty", "huge"])
    )
    if kind == "none":
        return None
    if kind == "empty":
        return shapely.Polygon()
    if kind == "far":
        return shapely.box(300_000, 4_000_000, 300_100, 4_000_100)
    if kind == "huge":
        return shapely.box(LEFT - 5000, TOP - 5000, LEFT + 5000, TOP + 5000)
    x, y = draw(coordinates())
    width, height = (draw(st.integers(1, 30)) * 7.0 for _ in range(2))
    box = shapely.box(x, y - height, x + width, y)
    return {
        "point": shapely.Point(x, y),
        "line": shapely.LineString([(x, y), (x + width, y - height)]),
        "box": box,
        # Not through pixel centres: what a sloping edge does there is a matter of rounding.
        "triangle": shapely.Polygon([(x + 0.137, y + 0.211), (x + width, y), (x, y - height)]),
        "hole": box.difference(shapely.box(x + width / 4, y - height / 2, x + width / 2, y - height / 4)),
        "multi": shapely.MultiPolygon([box, shapely.box(x + width + 20, y, x + width + 50, y + 45)]),
        "tiny": shapely.box(x, y, x + 1, y + 1),
    }[kind]


@given(
    layer=st.lists(features(), min_size=1, max_size=12),
    pixels=st.sampled_from(["center", "all_touched", "weighted"]),
    buffer=st.sampled_from([None, -10.0, 20.0]),
    min_valid=st.sampled_from([0.0, 0.5, 0.99]),
)
@settings(max_examples=80, deadline=None)
def test_every_feature_is_a_row_or_a_counted_reason(
    noise: Archive, layer: list[Any], pixels: str, buffer: float | None, min_valid: float
) -> None:
    anchor = shapely.box(LEFT + 100, TOP - 200, LEFT + 200, TOP - 100)  # so that the tile is looked at
    shapes = np.array([*layer, anchor], dtype=object)
    extra: dict[str, Any] = {"pixels": pixels, "buffer": buffer, "min_valid": min_valid, "masks": [CM004, "CM001"]}
    extra["indices"] = ["NDVI", "EVI", "NBR"]
    plain = run(noise.acquisitions, shapes, **extra)  # asserts completeness of each line
    full = run(noise.acquisitions, shapes, keep_empty=True, **extra)
    assert plain.of("NDVI", "CM001").reasons == full.of("NDVI", "CM001").reasons
    # Under a mask from SCL the values that would tell cloud from no data are only read where rows are kept.
    left, right = (Counter(r.of("NDVI").reasons) for r in (plain, full))
    for told in (left, right):
        told[Reason.CLOUD] += told.pop(Reason.NO_DATA, 0)
    assert left == right
    for batch in full.batches:
        table = numbers(batch)
        assert table["fid"].tolist() == list(range(len(shapes)))
        told = Counter(list(Reason)[code] for code in table["reason"] if code >= 0)
        assert told == Counter(batch.reasons)
    kept = full.rows()
    same_rows = kept[kept["reason"] < 0].reset_index(drop=True)
    if len(same_rows):
        same(plain.rows()[same_rows.columns].astype(same_rows.dtypes.to_dict()), same_rows)
    for k, shape in enumerate(shapes):
        reason = kept["reason"][k]
        if shape is None:
            assert list(Reason)[reason] is Reason.NULL_GEOMETRY
        elif shape.is_empty:
            assert list(Reason)[reason] is Reason.EMPTY_GEOMETRY
        elif shape.bounds[0] < 400_000:
            assert list(Reason)[reason] is Reason.OUTSIDE_TILE
        elif buffer is None and pixels == "center" and shape.geom_type.endswith("Polygon"):
            assert kept["count"][k] + kept["nodata"][k] == unbounded(shape)
    assert plain.of("NBR").reasons[Reason.INDEX_INPUTS_MISSING] == sum(s is not None and not s.is_empty for s in shapes)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("left", [0, 20, 301])
def test_edges_on_pixel_centres_belong_as_gdal_says(noise: Archive, turn: bool, left: int) -> None:  # noqa: FBT001
    box = shapely.box(LEFT + left, TOP - 75, LEFT + left + 27, TOP - 5)
    shapes = np.array([shapely.reverse(box) if turn else box], dtype=object)
    kept = run(noise.acquisitions, shapes, keep_empty=True).rows()
    assert kept["count"][0] + kept["nodata"][0] == unbounded(shapes[0])


def unbounded(shape: Any) -> int:
    """Count the pixels of a polygon whether the raster has them or not."""
    margin = 600
    grid = Affine(10, 0, LEFT - margin * 10, 0, -10, TOP + margin * 10)
    size = (2 * margin + 60,) * 2
    return int(rasterize([shape], out_shape=size, transform=grid, dtype="uint8").sum())


def test_features_of_one_layer_have_their_own_reason(noise: Archive, tmp_path: Path) -> None:
    cloud = write(tmp_path / "cm001.tif", np.ones((30, 30), np.uint8), 20)
    acquisition = replace(noise.acquisitions[0], masks={"CM001": cloud})
    inside = shapely.box(LEFT + 200, TOP - 300, LEFT + 300, TOP - 200)
    layer = np.array(
        [
            None,
            shapely.Polygon(),
            shapely.box(300_000, 4_000_000, 300_100, 4_000_100),
            shapely.box(LEFT + 5000, TOP - 300, LEFT + 5100, TOP - 200),
            shapely.box(LEFT + 201, TOP - 202, LEFT + 203, TOP - 201),
            shapely.box(LEFT, TOP - 300, LEFT + 50, TOP - 200),
            inside,
        ],
        dtype=object,
    )
    expected = [
        Reason.NULL_GEOMETRY, Reason.EMPTY_GEOMETRY, Reason.OUTSIDE_TILE, Reason.OUTSIDE_RASTER, Reason.NO_PIXEL,
        Reason.NO_DATA,
    ]  # fmt: skip
    for mask, last in ((CM004, None), ("CM001", Reason.CLOUD)):
        codes = run([acquisition], layer, masks=mask, keep_empty=True).rows(mask=mask)["reason"]
        found = [None if code < 0 else list(Reason)[code] for code in codes]
        assert found == [*expected, last]
    assert run([acquisition], layer, pixels="weighted").of().reasons.get(Reason.NO_PIXEL) is None


# ------------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.jpeg2000
def test_a_damaged_file_costs_only_what_needs_it(small: Archive, tmp_path: Path) -> None:
    bare = [replace(a, indices={}) for a in small.acquisitions]
    whole = run(bare, small.geometries, indices=["NDVI", "BIGR"])
    broken = with_files(bare[1], B08=cut(bare[1].bands["B08"], tmp_path, 0.4))
    got = run([bare[0], broken, bare[2]], small.geometries, indices=["NDVI", "BIGR"])
    for want, batch in zip(whole.batches, got.batches, strict=True):
        if batch.index == "NDVI" and batch.product == bare[1].id:
            assert batch.reasons == {Reason.UNREADABLE: len(small.geometries)}
            assert broken.bands["B08"] in batch.error
            assert "cannot be read" in batch.error
            assert batch.rows == 0
        else:
            pd.testing.assert_frame_equal(numbers(batch), numbers(want), check_exact=True)
            assert (batch.reasons, batch.error) == (want.reasons, "")


@pytest.mark.parametrize(
    ("role", "index", "location"),
    [
        ("B04", "NDVI", "missing.jp2"),
        ("B11", "NDWIGAO", "missing.jp2"),
        ("SCL", "NDVI", "missing.jp2"),
        ("B04", "NDVI", "text.jp2"),
        ("SCL", "NDVI", "text.jp2"),
    ],
)
def test_missing_and_foreign_files_are_unreadable(
    noise: Archive, tmp_path: Path, role: str, index: str, location: str
) -> None:
    path = tmp_path / location
    (tmp_path / "text.jp2").write_text("no raster")
    got = run([with_files(noise.acquisitions[0], **{role: str(path)})], noise.geometries, indices=[index, "BIBG"])
    assert got.of(index).reasons == {Reason.UNREADABLE: got.features}
    assert str(path) in got.of(index).error
    if role != "SCL":
        assert got.of("BIBG").rows > 10


@pytest.mark.jpeg2000
@pytest.mark.parametrize("band", ["B04", "B11", "SCL"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97, 0.999])
def test_a_truncated_raster_of_several_blocks_is_never_silently_zeros(
    blocks: Archive, tmp_path: Path, band: str, share: float
) -> None:
    (acquisition,) = blocks.acquisitions
    index = "NDWIGAO" if band == "B11" else "NDVI"
    broken = with_files(acquisition, **{band: cut(acquisition.bands[band], tmp_path, share)})
    grid = blocks.safe().raster("B04").transform
    shapes = np.append(blocks.geometries, [shapely.box(grid.c, grid.f - 14000, grid.c + 14000, grid.f)])
    batch = run([broken], shapes, indices=index).of(index)
    if share > 0.9 and not batch.reasons.get(Reason.UNREADABLE):
        # The last bytes may hold nothing that is needed; then all is as if they were there.
        want = run([acquisition], shapes, indices=index).of(index)
        pd.testing.assert_frame_equal(numbers(batch), numbers(want), check_exact=True)
        assert np.array_equal(values_of(broken.bands[band]), values_of(acquisition.bands[band]))
        return
    assert batch.reasons == {Reason.UNREADABLE: len(shapes)}
    assert broken.bands[band] in batch.error


@pytest.mark.jpeg2000
def test_a_truncated_raster_serves_the_blocks_it_has(blocks: Archive, tmp_path: Path) -> None:
    """What was lost is not needed by a layer in the first block, and must not be read."""
    (acquisition,) = blocks.acquisitions
    grid = blocks.safe().raster("B04").transform
    shapes = np.array([shapely.box(grid.c + 200, grid.f - 600, grid.c + 700, grid.f - 100)], dtype=object)
    broken = with_files(acquisition, B04=cut(acquisition.bands["B04"], tmp_path, 0.97))
    with counting() as counts:
        got = run([broken], shapes, masks="SCL-1-ITER0")
    assert {(i, j) for _, i, j in counts.blocks} == {(0, 0)}
    same(got.table, run([acquisition], shapes, masks="SCL-1-ITER0").table)


def test_metadata_that_cannot_be_read_fails_what_is_computed(noise: Archive, tmp_path: Path) -> None:
    acquisition = noise.acquisitions[0]
    stored = write(tmp_path / "ndvi.tif", np.full((60, 60), 5000, np.int16), nodata=NODATA)
    broken = tmp_path / "MTD_MSIL2A.xml"
    broken.write_text("<cut")
    details = ProductDetails(acquisition.id, str(broken))
    changed = replace(acquisition, details=details, indices={"NDVI": (stored,)})
    got = run([changed], noise.geometries, indices=["NDVI", "BIBG"])
    assert got.of("NDVI").rows > 10
    assert (got.rows("NDVI")["mean"] == 5000).all()
    assert got.of("BIBG").reasons == {Reason.UNREADABLE: got.features}
    assert str(broken) in got.of("BIBG").error


@pytest.mark.parametrize(("role", "dtype"), [("B04", np.float32), ("SCL", np.uint16), ("B11", np.uint8)])
def test_a_raster_of_another_type_is_reported(noise: Archive, tmp_path: Path, role: str, dtype: Any) -> None:
    acquisition = noise.acquisitions[0]
    odd = write(tmp_path / "odd.tif", values_of(acquisition.bands[role]).astype(dtype), 10 if role == "B04" else 20)
    index = "NDWIGAO" if role == "B11" else "NDVI"
    batch = run([with_files(acquisition, **{role: odd})], noise.geometries, indices=index).of(index)
    assert batch.reasons == {Reason.UNREADABLE: len(noise.geometries)}
    assert odd in batch.error
    assert np.dtype(dtype).name in batch.error


# --------------------------------------------------------------------------------------------------------------- grids

DAYS = ("20220401", "20220406", "20220411", "20220416", "20220421")
ODD: Mapping[str, dict[str, Any]] = {
    "shifted": {"left": LEFT + 10},
    "half a pixel": {"top": TOP + 5},
    "other CRS": {"epsg": 32632},
    "other size": {"size": 58},
}


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Acquisition]:
    return [made(tmp_path_factory.mktemp("good"), day) for day in DAYS]


@pytest.mark.parametrize("kind", list(ODD))
@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_product_on_another_grid_than_its_tile_is_reported(
    noise: Archive, good: list[Acquisition], tmp_path: Path, kind: str, position: int, threads: int
) -> None:
    acquisitions = list(good)
    acquisitions[position] = made(tmp_path, DAYS[position], **ODD[kind])
    got = run(acquisitions, noise.geometries, indices=["NDVI", "NBR"], threads=threads)
    rest = [a for k, a in enumerate(good) if k != position]
    want = run(rest, noise.geometries, indices=["NDVI", "NBR"])
    odd = str(acquisitions[position].id)
    assert [line for line in got.report if line[2] != odd] == want.report
    same(got.table, want.table)
    batch = got.of("NDVI", day=DAYS[position])
    assert batch.reasons == {Reason.GRID_MISMATCH: got.features}
    assert odd in batch.error
    assert batch.rows == 0
    assert got.of("NBR", day=DAYS[position]).rows == 0


def test_the_only_product_speaks_for_its_tile(noise: Archive, tmp_path: Path) -> None:
    alone = run([made(tmp_path, left=LEFT + 10)], noise.geometries)
    assert alone.of().rows > 10
    two = run([made(tmp_path, "20220401"), made(tmp_path, "20220406", left=LEFT + 10)], noise.geometries)
    assert two.of(day="20220401T103021").rows > 10
    assert two.of(day="20220406T103021").reasons == {Reason.GRID_MISMATCH: two.features}


@pytest.mark.parametrize(
    ("role", "pixel", "index", "place"),
    [
        ("B08", 10, "NDVI", {"left": LEFT + 10}),
        ("B08", 10, "NDVI", {"epsg": 32632}),
        ("B11", 20, "NDWIGAO", {"left": LEFT + 100}),
        ("B11", 20, "NDWIGAO", {"epsg": 32632}),
        ("SCL", 20, "NDVI", {"left": LEFT + 100}),
        ("SCL", 20, "NDVI", {"epsg": 32632}),
    ],
)
def test_one_band_on_another_grid_is_reported(
    noise: Archive, tmp_path: Path, role: str, pixel: int, index: str, place: dict[str, Any]
) -> None:
    acquisition = noise.acquisitions[0]
    odd = write(tmp_path / f"{role}.tif", values_of(acquisition.bands[role]), pixel, **place)
    changed = with_files(acquisition, **{role: odd})
    asked = [index, "BIBG", "BIGR"]
    got = run([changed], noise.geometries, indices=asked, masks=[CM004, "CM001"])
    want = run([acquisition], noise.geometries, indices=asked, masks=[CM004, "CM001"])
    batch = got.of(index)
    assert batch.reasons == {Reason.GRID_MISMATCH: got.features}
    assert odd in batch.error
    intact = "CM001" if role == "SCL" else CM004
    for other in ("BIBG", "BIGR"):
        same(got.rows(other, intact), want.rows(other, intact))


@pytest.mark.jpeg2000
def test_clipped_products_give_the_rows_of_whole_ones(small: Archive, tmp_path: Path) -> None:
    """The clip has an odd number of pixels, so that 20 m rasters reach beyond the 10 m ones."""
    acquisition, safe = replace(small.acquisitions[1], indices={}), small.safe(1)
    grid = safe.raster("B04").transform
    clipped = {}
    for name in acquisition.bands:
        pixel = 10 if name in demo.scene.BANDS_10M else 20
        start, size = (10, 131) if pixel == 10 else (5, 66)
        image = safe.raster(name).values  # noqa: PD011  # no pandas
        window = image[start : start + size, start : start + size]
        clipped[name] = write(tmp_path / f"{name}.tif", window, pixel, left=grid.c + 100, top=grid.f - 100)
    asked: dict[str, Any] = {"indices": ["NDVI", "NDWIGAO"], "masks": CM004_BARE}
    whole = run([acquisition], small.geometries, **asked)
    part = run([replace(acquisition, bands=clipped)], small.geometries, **asked)
    inside = shapely.box(grid.c + 140, grid.f - 1370, grid.c + 1370, grid.f - 140)
    within = np.flatnonzero(shapely.within(small.geometries, inside))
    assert len(within) >= 2
    for index in ("NDVI", "NDWIGAO"):
        want = whole.rows(index, CM004_BARE)
        got = part.rows(index, CM004_BARE)
        same(got[got["fid"].isin(within)], want[want["fid"].isin(within)])
        # Pixels beyond the clip count as without data, on the unbounded grid, and not as cloud.
        both = got.merge(want, on="fid")
        assert (both["count_x"] + both["nodata_x"] == both["count_y"] + both["nodata_y"]).all()
        assert (both["nbcld_x"] <= both["nbcld_y"]).all()
        assert (both["count_x"] < both["count_y"]).any()


# ------------------------------------------------------------------------------------------------------ what is lacking


@pytest.mark.parametrize("how", ["not there", "missing", "elsewhere", "of another type"])
def test_without_cldprb_the_column_is_empty_and_a_note_says_so(noise: Archive, tmp_path: Path, how: str) -> None:
    acquisition = noise.acquisitions[0]
    want = run([acquisition], noise.geometries)
    zeros = np.zeros((30, 30), np.uint8)
    location = {
        "not there": None,
        "missing": str(tmp_path / "missing.jp2"),
        "elsewhere": write(tmp_path / "far.tif", zeros, 20, left=LEFT + 5000),
        "of another type": write(tmp_path / "type.tif", zeros.astype(np.float32), 20),
    }[how]
    got = run([with_files(acquisition, CLDPRB=location)], noise.geometries)
    assert want.rows()["cldprb"].notna().all()
    assert got.rows()["cldprb"].isna().all()
    same(got.rows(), want.rows(), [c for c in want.rows().columns if c != "cldprb"])
    assert got.of().reasons == want.of().reasons
    assert "cldprb" in got.of().error.lower()


@pytest.mark.jpeg2000
def test_a_truncated_cldprb_costs_its_column_only(blocks: Archive, tmp_path: Path) -> None:
    (acquisition,) = blocks.acquisitions
    want = run([acquisition], blocks.geometries)
    got = run([with_files(acquisition, CLDPRB=cut(acquisition.bands["CLDPRB"], tmp_path, 0.8))], blocks.geometries)
    assert got.rows()["cldprb"].isna().all()
    assert want.rows()["cldprb"].notna().all()
    assert "cldprb" in got.of().error
    same(got.rows(), want.rows(), [*COUNTS, "mean", "percentile_75"])


@pytest.mark.parametrize(
    ("mask", "lacking"),
    [(CM004, "SCL"), ("SCL-3-ITER0", "SCL"), ("CM001", "CLDPRB"), ("CM003-PRB1-ITER1", "CLDPRB"), ("CM002", "B11")],
)
def test_missing_inputs_of_a_mask_are_named_and_other_masks_are_complete(
    noise: Archive, mask: str, lacking: str
) -> None:
    acquisition = with_files(noise.acquisitions[0], **{lacking: None})
    other = CM004 if lacking != "SCL" else "CM001"
    got = run([acquisition], noise.geometries, masks=[mask, other])
    batch = next(b for b in got.batches if b.mask != other)
    assert batch.reasons == {Reason.MASK_INPUTS_MISSING: got.features}
    assert lacking in batch.error
    assert got.of(mask=other).rows > 10


def test_missing_bands_are_named(noise: Archive) -> None:
    got = run(noise.acquisitions, noise.geometries, indices=["NBR", "NDVI"])
    assert got.of("NBR").reasons == {Reason.INDEX_INPUTS_MISSING: got.features}
    assert "B12" in got.of("NBR").error
    assert got.of("NDVI").rows > 10


# --------------------------------------------------------------------------------------------------------------- masks


@pytest.fixture(scope="session")
def masked(noise: Archive, tmp_path_factory: pytest.TempPathFactory) -> Acquisition:
    """The noise with stored masks: OCM at 10 m in two versions, one at 20 m, one at 60 m."""
    folder, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(3)
    places = {}
    for suffix, pixel in (("OCM_v1_10_0", 10), ("CM001", 20), ("CM003-PRB7-ITER1", 60)):
        values = rng.integers(0, 4, (600 // pixel, 600 // pixel)).astype(np.uint8)
        places[suffix] = write(folder / f"{suffix}.tif", np.where(values > 1, values, 0).astype(np.uint8), pixel)
    places["OCM_v1_8_1"] = write(folder / "old.tif", np.ones((60, 60), np.uint8))
    return replace(noise.acquisitions[0], masks=places)


@pytest.mark.parametrize(
    ("mask", "suffix", "times"),
    [("OCM", "OCM_v1_10_0", 1), ("CM001", "CM001", 2), ("CM003-PRB7-ITER1", "CM003-PRB7-ITER1", 6)],
)
def test_stored_masks_of_any_resolution_come_by_nearest_neighbour(
    noise: Archive, masked: Acquisition, mask: str, suffix: str, times: int
) -> None:
    got = run([masked], noise.geometries, masks=mask)
    assert got.of(mask=mask).mask_source == "mask raster"
    assert got.of(mask=mask).filename == f"{masked.id}_NDVI_{suffix}.jp2"
    clouds = np.kron(values_of(masked.masks[suffix]) > 0, np.ones((times, times), bool))
    dn = {band: values_of(masked.bands[band]) for band in ("B04", "B08")}
    red, nir = (oracle.reflectance(dn[band], -1000, 10000) for band in ("B04", "B08"))
    values = oracle.scale((nir - red) / (nir + red))[0]
    want = oracle.zonal(noise.geometries, values, clouds, Affine(10, 0, LEFT, 0, -10, TOP))
    check_rows(numbers(got.of(mask=mask)), want)


MANY = [
    CM004, CM004_BARE, "CM004-CSH0-CMP0-CHP1-TCI0-ITER2", "CM003-PRB1-ITER0", "CM003-PRB40-ITER1", "CM003-PRB90-ITER0",
    "CM003-PRB7-ITER1", "CM001", "CM002", "OCM", "SCL-8-ITER0", "SCL-4-5-ITER0", "SCL-9-ITER3",
]  # fmt: skip


@pytest.mark.parametrize("count", [3, 8, 9, len(MANY)])
def test_several_masks_in_one_run_equal_separate_runs(noise: Archive, masked: Acquisition, count: int) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI", "NDWIGAO"]}
    chosen = MANY[-count:]
    together = run([masked], noise.geometries, masks=chosen, **asked)
    assert len({b.mask for b in together.batches}) == count
    seen = set()
    for mask in chosen:
        alone = run([masked], noise.geometries, masks=mask, **asked)
        for want in alone.batches:
            got = together.of(want.index, want.mask)
            pd.testing.assert_frame_equal(numbers(got), numbers(want), check_exact=True)
            assert (got.reasons, got.filename, got.mask_source) == (want.reasons, want.filename, want.mask_source)
            seen.add((want.index, tuple(want.columns["nbcld"].tolist())))
    assert len(seen) > count  # the masks are not all the same


@pytest.mark.parametrize(("row", "column"), [(15, 15), (15, 20), (20, 15), (13, 17)])
def test_a_cloud_beyond_the_seam_of_blocks_reaches_over(noise: Archive, tmp_path: Path, row: int, column: int) -> None:
    scl = np.full((30, 30), 4, np.uint8)
    scl[row, column] = 9
    path = tmp_path / "scl.tif"
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": f"EPSG:{EPSG}", "tiled": True}
    profile |= {"height": 30, "width": 30, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", transform=Affine(20, 0, LEFT, 0, -20, TOP), **profile) as sink:
        sink.write(scl, 1)
    # Only the last of the four blocks has pixels of the layer.
    shapes = np.array([shapely.box(LEFT + 320, TOP - 600, LEFT + 600, TOP - 320)], dtype=object)
    mask = "SCL-9-ITER3"
    got = run([with_files(noise.acquisitions[0], SCL=str(path))], shapes, masks=mask).of(mask=mask)
    clouds = oracle.nearest(oracle.classes(scl, [9], 3))
    dn = {band: values_of(noise.acquisitions[0].bands[band]) for band in ("B04", "B08")}
    measured = np.logical_and.reduce([(v != 0) & (v != 65535) for v in dn.values()])
    inside = np.s_[32:60, 32:60]
    assert got.columns["nbcld"].tolist() == [int((clouds & measured)[inside].sum())] != [0]


def test_values_from_masked_rasters_keep_what_the_mask_removed(noise: Archive, tmp_path: Path) -> None:
    """`prefer="masked"`: clouds are where the masked raster has nothing and the unmasked one beside it has a value."""
    rng = np.random.default_rng(5)
    unmasked = rng.integers(-2000, 9000, (60, 60)).astype(np.int16)
    unmasked[rng.random(unmasked.shape) < 0.1] = NODATA
    clouds = rng.random(unmasked.shape) < 0.3
    removed = np.where(clouds, np.int16(NODATA), unmasked)
    acquisition = replace(
        noise.acquisitions[0],
        indices={"NDVI": (write(tmp_path / "ndvi.tif", unmasked, nodata=NODATA),)},
        masked={("NDVI", CM004): write(tmp_path / "ndvi_cm.tif", removed, nodata=NODATA)},
    )
    got = run([acquisition], noise.geometries, prefer="masked").of()
    assert (got.value_source, got.mask_source) == ("masked index raster", "in the masked index")
    check_rows(numbers(got), oracle.zonal(noise.geometries, unmasked, clouds, Affine(10, 0, LEFT, 0, -10, TOP)))


# ------------------------------------------------------------------------------------------------------------- options


def test_a_users_index_of_twenty_metre_bands_alone(noise: Archive) -> None:
    acquisition = noise.acquisitions[0]
    coarse = replace(
        acquisition, bands={b: p for b, p in acquisition.bands.items() if b in {"B8A", "B11", "SCL", "CLDPRB"}}
    )
    own = "MOIST=(B8A-B11)/(B8A+B11)"
    alone = run([coarse], noise.geometries, indices=own)
    beside = run([acquisition], noise.geometries, indices=[own, "NDVI"])
    same(alone.rows("MOIST"), beside.rows("MOIST"))
    dn = {band: values_of(acquisition.bands[band]) for band in ("B8A", "B11")}
    nir, swir = (oracle.reflectance(dn[b], -1000, 10000, twenty=True) for b in ("B8A", "B11"))
    values, ties = oracle.scale((nir - swir) / (nir + swir))
    clouds = oracle.nearest(oracle.cm004(values_of(acquisition.bands["SCL"]), (1, 1, 1, 1), 1))
    want = oracle.zonal(noise.geometries, values, clouds, Affine(10, 0, LEFT, 0, -10, TOP))
    got = alone.rows("MOIST")
    want = want[want["count"] > 0].reset_index(drop=True)
    assert got["count"].tolist() == want["count"].tolist()
    for name in ("mean", "min"):
        atol = float(ties.any())
        np.testing.assert_allclose(got[name].to_numpy(float), want[name].to_numpy(float), rtol=1e-9, atol=atol)


@pytest.mark.parametrize("buffer", [-10.0, 20.0, 7.5])
@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326"])
def test_buffer_is_in_metres_of_the_tile(small: Archive, buffer: float, crs: str) -> None:
    sliver = shapely.box(
        *shapely.centroid(small.geometries[0]).coords[0], *shapely.centroid(small.geometries[0]).coords[0]
    )
    sliver = sliver.buffer(6)
    shapes = np.append(small.geometries, [sliver])
    moved = np.array(gpd.GeoSeries(shapes, crs=EPSG).to_crs(crs).array, dtype=object)
    got = run(small.acquisitions, moved, crs, buffer=buffer)
    back = np.array(gpd.GeoSeries(moved, crs=crs).to_crs(EPSG).array, dtype=object)
    grown = shapely.buffer(back, buffer)
    want = run(small.acquisitions, grown)
    same(got.table, want.table)
    plain = run(small.acquisitions, shapes).rows().groupby("fid")["count"].max()
    now = got.rows().groupby("fid")["count"].max()
    common = plain.index.intersection(now.index)
    assert ((now[common] > plain[common]) == (buffer > 0)).all()
    assert [b.reasons.get(Reason.BUFFERED_AWAY, 0) for b in got.batches] == [int(buffer < 0)] * 3


def test_min_valid_leaves_out_and_counts(noise: Archive) -> None:
    every = run(noise.acquisitions, noise.geometries).rows()
    share = every["count"] / (every["count"] + every["nodata"])
    limit = float(share.sort_values().iloc[len(share) // 2])  # a row at the limit stays
    got = run(noise.acquisitions, noise.geometries, min_valid=limit)
    same(got.rows(), every[share >= limit])
    assert got.of().reasons[Reason.MIN_VALID] == int((share < limit).sum()) > 0
    told = run(noise.acquisitions, noise.geometries, min_valid=limit, keep_empty=True).rows()
    below = told[told["reason"] == list(Reason).index(Reason.MIN_VALID)]
    assert below["fid"].tolist() == every["fid"][share < limit].tolist()
    assert below[["mean", "min", "std"]].isna().all(axis=None)
    assert below["count"].tolist() == every["count"][share < limit].tolist()


def test_index_units_divide_values_and_nothing_else(noise: Archive) -> None:
    stats = ["sum", "variance", "range", "cv", "mad", "percentile_10", "majority", "minority", "variety", "histogram"]
    scaled = run(noise.acquisitions, noise.geometries, stats=stats).rows()
    units = run(noise.acquisitions, noise.geometries, stats=stats, units="index").rows()
    values = ("min", "max", "mean", "std", "median", "percentile_25", "percentile_75", "sum", "range", "mad",
              "percentile_10", "majority", "minority")  # fmt: skip
    for name in scaled.columns:
        if scaled[name].dtype.kind not in "if":
            continue
        power = 1e4 if name in values else 1e8 if name == "variance" else 1.0
        np.testing.assert_allclose(units[name], scaled[name] / power, rtol=1e-14, err_msg=name)
    assert units["max"].max() <= 1.0


def test_keep_empty_has_a_row_for_every_feature(noise: Archive) -> None:
    layer = np.append(noise.geometries, [None, shapely.Polygon()])
    full = run(noise.acquisitions, layer, indices=["NDVI", "NBR"], keep_empty=True)
    plain = run(noise.acquisitions, layer, indices=["NDVI", "NBR"])
    rows = full.rows()
    assert rows["fid"].tolist() == list(range(len(layer)))
    empty = rows[rows["reason"] >= 0]
    assert (empty["count"] == 0).all()
    assert empty["mean"].isna().all()
    same(rows[rows["reason"] < 0], plain.rows())
    outside = rows[rows["reason"] == list(Reason).index(Reason.OUTSIDE_RASTER)]
    assert outside["nodata"].tolist() == [unbounded(layer[k]) for k in outside["fid"]]
    assert len(outside) > 0
    lacking = full.rows("NBR")
    assert len(lacking) == len(layer)
    told = [list(Reason)[code] for code in lacking["reason"]]
    assert told == [*[Reason.INDEX_INPUTS_MISSING] * (len(layer) - 2), Reason.NULL_GEOMETRY, Reason.EMPTY_GEOMETRY]


@pytest.mark.parametrize("keep_empty", [False, True])
@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_features_elsewhere_change_nothing_but_their_own_rows(noise: Archive, pixels: str, *, keep_empty: bool) -> None:
    far = shapely.box(LEFT - 60_000, TOP - 100, LEFT - 59_000, TOP)
    elsewhere = np.array([far, None, shapely.Polygon()] * 500, dtype=object)
    why = [Reason.OUTSIDE_TILE, Reason.NULL_GEOMETRY, Reason.EMPTY_GEOMETRY] * 500
    options: dict[str, Any] = {
        "indices": ["NDVI", "NBR"], "pixels": pixels, "keep_empty": keep_empty, "buffer": -12.0, "min_valid": 0.9,
        "stats": ["scl_fractions"],
    }  # fmt: skip
    few = run(noise.acquisitions, noise.geometries, **options)
    many = run(noise.acquisitions, np.concatenate([elsewhere, noise.geometries]), **options)
    assert few.of().reasons.keys() & {Reason.BUFFERED_AWAY, Reason.MIN_VALID}
    for one, other in zip(few.batches, many.batches, strict=True):
        rows, more = numbers(one), numbers(other)
        own = more[more["fid"] >= len(elsewhere)]
        same(own.assign(fid=own["fid"] - len(elsewhere)), rows) if len(rows) else None
        others = more[more["fid"] < len(elsewhere)]
        assert len(others) == len(elsewhere) * keep_empty
        assert len(more) == len(rows) + len(others)
        if not keep_empty:  # what a Dask worker sends back; the reasons of features elsewhere are a few bytes more
            assert len(pickle.dumps(other)) < len(pickle.dumps(one)) + 200
        failed = {Reason.INDEX_INPUTS_MISSING} & one.reasons.keys()
        added = [next(iter(failed), reason) if reason is Reason.OUTSIDE_TILE else reason for reason in why]
        assert other.reasons == Counter(one.reasons) + Counter(added)
        if keep_empty:
            assert [list(Reason)[code] for code in others["reason"]] == added
            assert (others[["count", "nodata", "nbcld"]] == 0).all(axis=None)
            assert others[["cldprb", "mean", "std"]].isna().all(axis=None)


@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_histogram_adds_up_to_count_and_class_shares_to_one(noise: Archive, pixels: str) -> None:
    got = run(
        noise.acquisitions, noise.geometries, stats=["histogram:-0.2:0.3:10", "scl_fractions"], pixels=pixels
    ).rows()
    bins = [name for name in map(str, got.columns) if name.startswith("hist_")]
    assert len(bins) == 12
    np.testing.assert_allclose(got[bins].sum(axis=1), got["count"], rtol=1e-6)
    assert (got[["hist_below", "hist_above", "hist_0"]].sum() > 0).all()
    classes = [f"scl_{c}" for c in range(12)]
    np.testing.assert_allclose(got[classes].sum(axis=1), 1.0, rtol=1e-6)
    assert got[["scl_0", "scl_1", "scl_11"]].eq(0).all(axis=None)
    scl = oracle.nearest(values_of(noise.acquisitions[0].bands["SCL"]))
    if pixels == "center":
        for _, row in got.iterrows():
            own = oracle.burn(noise.geometries[int(row["fid"])], (60, 60), Affine(10, 0, LEFT, 0, -10, TOP))
            assert row["scl_4"] == pytest.approx((scl[own] == 4).mean())


def test_without_scl_its_shares_are_empty_and_told(noise: Archive) -> None:
    got = run([with_files(noise.acquisitions[0], SCL=None)], noise.geometries, masks="CM001", stats="scl_fractions")
    rows = got.rows(mask="CM001")
    assert rows[[f"scl_{c}" for c in range(12)]].isna().all(axis=None)
    assert rows["mean"].notna().all()
    assert "SCL" in got.of(mask="CM001").error


# ---------------------------------------------------------------------------------------- beyond what can be stored


@pytest.mark.parametrize("pixels", ["center", "weighted"])
def test_a_scale_gives_values_beyond_three_and_clipped_pixels_are_counted(noise: Archive, pixels: Any) -> None:
    acquisition = noise.acquisitions[0]
    ratio = "20*(B08-B04)/(B04-0.2)"  # noise from 0.02 to 0.5, so that the denominator comes near 0
    own = [f"AT10000={ratio}", f"AT100={ratio} scale=100", f"AT1={ratio} scale=1"]
    got = run([acquisition], noise.geometries, indices=own, pixels=pixels, stats=["sum", "variance", "histogram:0:9:3"])
    dn = {band: values_of(acquisition.bands[band]) for band in ("B04", "B08")}
    nir, red = (oracle.reflectance(dn[band], -1000, 10000) for band in ("B08", "B04"))
    with np.errstate(all="ignore"):
        real = 20 * (nir - red) / (red - 0.2)
    clouds = oracle.nearest(oracle.cm004(values_of(acquisition.bands["SCL"]), (1, 1, 1, 1), 1))
    valid = np.isfinite(real) & ~clouds
    place = Affine(10, 0, LEFT, 0, -10, TOP)
    for name, scale in (("AT10000", 10000), ("AT100", 100), ("AT1", 1)):
        rows, batch = got.rows(name), got.of(name)
        stored = np.rint(real * scale)
        beyond = valid & ((stored > 32766) | (stored < -32768))
        kept = np.clip(stored, -32768, 32766) * (10000 // scale)
        said, counts = Clipped.taken_from(batch.error)[1], []
        for fid, row in zip(rows["fid"], rows.to_dict("records"), strict=True):
            touched = pixels == "weighted"
            inside = rasterize([noise.geometries[int(fid)]], (60, 60), transform=place, all_touched=touched) > 0
            counts.append(int((inside & beyond).sum()))
            if not touched:
                values = kept[inside & valid]
                assert row["count"] == values.size
                assert (row["min"], row["max"]) == (values.min(), values.max())
                want = [values.mean(), values.std(), np.median(values), values.sum(), values.var()]
                assert [row[c] for c in ("mean", "std", "median", "sum", "variance")] == pytest.approx(want, rel=1e-9)
                edges = np.array([-np.inf, 0, 3, 6, 9.0000001, np.inf]) * 10000
                assert [row[f"hist_{e}"] for e in ("below", "0", "3", "6", "above")] == pytest.approx(
                    np.histogram(values, edges)[0]
                )
        assert bool(sum(counts)) == (scale > 1)
        if scale > 1:
            assert said is not None
            assert (said.index, said.low, said.high) == (name, -32768 / scale, 32766 / scale)
            if not touched:
                assert (said.pixels, said.features) == (sum(counts), sum(map(bool, counts)))
        else:
            assert said is None
    assert got.of("AT1").error == ""


def test_clipped_pixels_of_features_in_pieces_are_counted_too(noise: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"indices": "SR=B08/B04", "stats": ["variance", "mad"]}
    shapes = np.array(
        [shapely.box(LEFT, TOP - 590, LEFT + 590, TOP), shapely.box(LEFT, TOP - 590, LEFT + 300, TOP)], dtype=object
    )
    whole = run(noise.acquisitions, shapes, **asked)
    monkeypatch.setattr("sen2chain.acquisition.strips.LARGE", 300)
    monkeypatch.setattr("sen2chain.acquisition.reader.AT_ONCE", 100)
    pieces = run(noise.acquisitions, shapes, **asked)
    assert "of 2 features lie beyond -3.2768 to 3.2766" in whole.of("SR").error
    assert whole.of("SR").error == pieces.of("SR").error
    np.testing.assert_allclose(whole.rows("SR")["mean"], pieces.rows("SR")["mean"])


def test_only_pixels_of_rows_are_counted_as_clipped(noise: Archive) -> None:
    every = run(noise.acquisitions, noise.geometries, indices="SR=B08/B04").of("SR")
    some = run(noise.acquisitions, noise.geometries, indices="SR=B08/B04", min_valid=0.5).of("SR")
    one, other = Clipped.taken_from(every.error)[1], Clipped.taken_from(some.error)[1]
    assert one is not None
    assert other is not None
    assert 0 < other.features <= some.rows < every.rows
    assert other.pixels < one.pixels


# ------------------------------------------------------------------------------------------- very large features


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("size", [1, 500, 40_000])
def test_features_taken_in_pieces_give_the_same_rows(
    blocks: Archive, monkeypatch: pytest.MonkeyPatch, rule: Any, size: int
) -> None:
    extent = shapely.box(*shapely.total_bounds(blocks.geometries))
    shapes = np.array([extent.buffer(500), extent.centroid.buffer(4000), extent.centroid.buffer(30)], dtype=object)
    stats = ["sum", "variance", "mad", "majority", "variety", "percentile_5", "histogram", "scl_fractions"]

    def rows() -> list[dict[str, Any]]:
        request = Request.build(
            indices=["NDVI", "NDWIGAO"], masks=["CM001", "SCL-3-8-9-10-ITER1"], keywords={}, stats=stats, pixels=rule
        )
        layer = Layer.of(shapes, f"EPSG:{EPSG}")
        plan = make_plan(request, MemorySource(blocks.acquisitions), layer)
        coverages = Coverages(layer, rule=rule)
        results = execute(plan.tasks, coverages, RowRules(request.statistics))
        return [dict(batch.columns) for result in results for batch in result.batches]

    whole = rows()
    monkeypatch.setattr("sen2chain.acquisition.strips.LARGE", size)
    monkeypatch.setattr("sen2chain.acquisition.reader.AT_ONCE", max(size // 3, 1))
    pieces = rows()
    assert sum(len(one["fid"]) for one in whole) > 3
    for one, other in zip(whole, pieces, strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


# ------------------------------------------------------------------------------------------- waiting for a grid


def test_a_tile_with_one_product_does_not_hold_back_the_others(noise: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    first = noise.acquisitions[0]
    later = [
        replace(
            first, id=replace(first.id, tile="32TLP", sensing=first.id.sensing.replace(year=2023, month=1, day=day))
        )
        for day in range(1, 29)
    ]
    mask = Mask.parse(CM004_BARE)
    last = replace(first, id=replace(first.id, sensing=first.id.sensing.replace(year=2024)))
    tasks = [plan_task(a, [INDICES["NDVI"]], [mask]) for a in (first, *later, last)]
    made: list[Task] = []

    def counted(task: Task, *rest: Any) -> Any:
        made.append(task)
        return extraction.extract(task, *rest)

    monkeypatch.setattr("sen2chain.extract.execution._PATIENCE", 3)
    monkeypatch.setattr("sen2chain.extract.executors.extract", counted)
    results = execute(tasks, Coverages(Layer.of(noise.geometries, f"EPSG:{EPSG}")), RowRules())
    assert next(results).task == tasks[0]
    assert len(made) <= 4
    assert [result.task for result in results] == tasks[1:]
