"""One real product with all its clouds: masks pixel for pixel, and cloud probability per polygon."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

import oracle
from sen2chain import TimeSeries
from sen2chain.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CRS = "EPSG:32629"
SWITCHES = list(itertools.product((0, 1), repeat=4))
COUNTS = ("count", "nodata", "nbcld")


@pytest.fixture(scope="module")
def product(shared_data: Path) -> oracle.Safe:
    (safe,) = oracle.safes(shared_data / "ireland" / "L2A" / "29UNU")
    return safe


@pytest.fixture(scope="module")
def scl(product: oracle.Safe) -> Any:
    return product.raster("SCL").values  # noqa: PD011 - no pandas here


@pytest.fixture(scope="module")
def cldprb(product: oracle.Safe) -> Any:
    return product.raster("CLDPRB").values  # noqa: PD011 - no pandas here


def assert_equal(got: Any, want: Any) -> None:
    assert got.dtype == np.bool_
    assert got.shape == want.shape == (5490, 5490)
    differing = np.count_nonzero(got != want)
    assert differing == 0, f"{differing} pixels differ"


# --------------------------------------------------------------------------------------------------------------- masks


def test_cm001(cldprb: Any) -> None:
    assert_equal(Mask.parse("CM001").compute({"CLDPRB": cldprb}), oracle.cm001(cldprb))


@pytest.mark.parametrize("iterations", [0, 1, 5])
@pytest.mark.parametrize("probability", [1, 40])
def test_cm003(cldprb: Any, probability: int, iterations: int) -> None:
    mask = Mask.parse(f"CM003-PRB{probability}-ITER{iterations}")
    assert_equal(mask.compute({"CLDPRB": cldprb}), oracle.cm003(cldprb, probability, iterations))


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda switches: "".join(map(str, switches)))
def test_cm004(scl: Any, switches: tuple[int, int, int, int]) -> None:
    csh, cmp, chp, tci = switches
    for iterations in (0, 1, 5):
        mask = Mask.parse(f"CM004-CSH{csh}-CMP{cmp}-CHP{chp}-TCI{tci}-ITER{iterations}")
        assert_equal(mask.compute({"SCL": scl}), oracle.cm004(scl, switches, iterations))


def test_scl_classes(scl: Any) -> None:
    mask = Mask.parse("SCL-3-8-9-10-11-ITER1")
    assert_equal(mask.compute({"SCL": scl}), oracle.classes(scl, (3, 8, 9, 10, 11), 1))


def test_cm002(product: oracle.Safe, cldprb: Any) -> None:
    """The product has B11 at 60 m only: each of its pixels serves as nine of 20 m."""
    (path,) = product.folder.glob("GRANULE/*/IMG_DATA/R60m/*_B11_60m.jp2")
    offsets, quantification = product.radiometry()
    coarse = oracle.read(path)
    dn = np.kron(coarse.values, np.ones((3, 3), dtype=np.uint16)).astype(np.float64)
    b11 = np.where(dn == 0, np.nan, (dn + offsets["B11"]) / quantification)
    got = Mask.parse("CM002-B11").compute({"CLDPRB": cldprb, "B11": b11})
    want = oracle.cm002(cldprb, b11)
    assert want.any()
    assert not want.all()
    assert_equal(got, want)


def test_masks_at_the_edges_of_the_scene() -> None:
    """Clouds in the corners and along the borders: outside counts as clear, for erosion as for dilation."""
    probability = np.zeros((60, 70), dtype=np.uint8)
    probability[:3, :4], probability[-1, :], probability[20:30, -2:], probability[40, 40] = 100, 60, 26, 100
    classes = np.where(probability > 50, 9, 4).astype(np.uint8)
    np.testing.assert_array_equal(Mask.parse("CM001").compute({"CLDPRB": probability}), oracle.cm001(probability))
    for iterations in (0, 1, 2, 5):
        np.testing.assert_array_equal(
            Mask.parse(f"CM003-PRB40-ITER{iterations}").compute({"CLDPRB": probability}),
            oracle.cm003(probability, 40, iterations),
        )
        np.testing.assert_array_equal(
            Mask.parse(f"CM004-CSH1-CMP1-CHP1-TCI1-ITER{iterations}").compute({"SCL": classes}),
            oracle.cm004(classes, (1, 1, 1, 1), iterations),
        )


# ------------------------------------------------------------------------------------------------------------ polygons


@dataclass(frozen=True)
class Case:
    """The archive with a stored index, the polygons in it, and what the rasters hold."""

    library: Path
    layer: gpd.GeoDataFrame
    index: Any
    """The stored index, 10 m."""
    transform: Any
    """Of the 10 m grid."""


def tilted(x: float, y: float, size: float) -> Any:
    """Make an irregular field of about `size` metres around a point."""
    corners = [(-0.5, -0.31), (0.13, -0.52), (0.47, 0.11), (0.21, 0.49), (-0.37, 0.33), (-0.22, 0.02)]
    return shapely.Polygon([(x + 1.003 * dx * size, y + 0.997 * dy * size) for dx, dy in corners])


def broken_clouds(cldprb: Any) -> list[tuple[int, int]]:
    """Give 20 m rows and columns of some places half of which has a cloud probability, all over the scene."""
    blocks = (cldprb.reshape(183, 30, 183, 30) >= 40).mean(axis=(1, 3))
    found = np.argwhere((blocks > 0.3) & (blocks < 0.7)) * 30 + 15
    return [(int(row), int(column)) for row, column in found[:: max(1, len(found) // 12)]]


def drawn(cldprb: Any, transform: Any) -> gpd.GeoDataFrame:
    """Draw polygons inside, half outside, smaller than 20 m and outside of the raster."""
    shapes: dict[str, Any] = {}
    places = broken_clouds(cldprb)
    for number, (row, column) in enumerate(places):
        x, y = oracle.ground(transform, column + 0.5, row + 0.5)
        shapes[f"inside_{number}"] = tilted(x + 3.1, y - 2.7, 431.0)
        # A 20 m pixel's centre is the corner of four 10 m pixels: 12 m around it hold one centre and four centres.
        shapes[f"small_{number}"] = shapely.box(x - 6.3, y - 6.2, x + 6.1, y + 6.4)
        # Between the 20 m centres, but with one of the 10 m centres.
        shapes[f"between_{number}"] = shapely.box(x + 5 - 3.3, y + 5 - 3.2, x + 5 + 3.1, y + 5 + 3.4)
    for side, column in (("west", 0), ("east", 5490)):
        along = cldprb[:, min(column, 5489)]
        for number, row in enumerate(np.flatnonzero(along > 0)[:: max(1, np.count_nonzero(along) // 3)][:3]):
            x, y = oracle.ground(transform, column, row + 0.5)
            shapes[f"half_{side}_{number}"] = tilted(x + 0.7, y + 0.3, 617.0)
    x, y = oracle.ground(transform, 5490, 5490)
    shapes["half_corner"] = tilted(x, y, 900.0)
    shapes["around_everything_outside"] = tilted(x + 5000.0, y, 900.0)
    return gpd.GeoDataFrame({"name": list(shapes)}, geometry=list(shapes.values()), crs=CRS)


@pytest.fixture(scope="module")
def case(product: oracle.Safe, cldprb: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    library = tmp_path_factory.mktemp("ireland")
    (library / "L2A").symlink_to(product.folder.parents[1])
    raster = product.raster("CLDPRB")
    transform = rasterio.Affine(10, 0, raster.transform.c, 0, -10, raster.transform.f)
    rows, columns = np.ogrid[:10980, :10980]
    values = ((rows * 3 + columns // 7) % 9000).astype(np.int16)
    # Holes without data, of which one cuts through the polygons of each second place.
    values[(rows // 40 % 25 == 0) & (columns // 1000 % 2 == 0)] = oracle.NODATA
    folder = library / "INDICES" / "NDVI" / product.tile / product.id
    folder.mkdir(parents=True)
    with rasterio.open(
        folder / f"{product.id}_NDVI.tif",
        "w",
        driver="GTiff",
        width=10980,
        height=10980,
        count=1,
        dtype="int16",
        crs=CRS,
        transform=transform,
        nodata=oracle.NODATA,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        num_threads=2,
    ) as dataset:
        dataset.write(values, 1)
    return Case(library, drawn(cldprb, raster.transform), values, transform)


def cloud_probability(shapes: Sequence[Any], cldprb: Any, transform: Any) -> list[float]:
    """Mean of CLDPRB over the 20 m pixels of the raster whose centre is inside; NaN where there is none."""
    means = []
    for shape in shapes:
        west, _, _, north = shape.bounds
        column, row = (int(np.floor(value)) for value in oracle.place(transform, west, north))
        top, left = max(row - 1, 0), max(column - 1, 0)
        part = cldprb[top : top + 120, left : left + 120]
        corner = oracle.ground(transform, left, top)
        moved = rasterio.Affine(transform.a, 0, corner[0], 0, transform.e, corner[1])
        within = oracle.inside(shape, part.shape, moved)
        means.append(float(part[within].astype(np.float64).mean()) if within.any() else float("nan"))
    return means


MASKS = ("CM003-PRB40-ITER1", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "CM001")


@pytest.mark.parametrize("name", MASKS)
def test_polygons_equal_numpy(case: Case, product: oracle.Safe, scl: Any, cldprb: Any, name: str) -> None:
    masks = {
        "CM003-PRB40-ITER1": lambda: oracle.cm003(cldprb, 40, 1),
        "CM004-CSH1-CMP1-CHP1-TCI1-ITER1": lambda: oracle.cm004(scl, (1, 1, 1, 1), 1),
        "CM001": lambda: oracle.cm001(cldprb),
    }
    shapes = list(case.layer.geometry)
    want = oracle.zonal(shapes, case.index, oracle.nearest(masks[name]()), case.transform)
    want["cldprb"] = cloud_probability(shapes, cldprb, product.raster("CLDPRB").transform)
    want = want[want["count"] > 0].reset_index(drop=True)
    series = TimeSeries(case.layer, indices=["NDVI"], masks=[name], library=case.library, multiproc=2, quiet=True)
    got = series.data["NDVI"].reset_index()

    names = case.layer["name"]
    here = set(names.iloc[want["fid"].to_numpy()].str.split("_").str[0])
    assert here >= ({"inside", "half", "small", "between"} if name == MASKS[0] else {"half"})
    assert got["fid"].tolist() == want["fid"].tolist()
    assert set(got["date"]) == {product.date}
    assert set(got["tile"]) == {"29UNU"}
    assert set(got["filename"]) == {f"{product.id}_NDVI_{name}.jp2"}
    for column in COUNTS:
        np.testing.assert_array_equal(got[column].astype(float), want[column], err_msg=column)
    for column in (*oracle.PLAIN, "cldprb"):
        np.testing.assert_allclose(
            got[column].astype(float), want[column], rtol=1e-9, atol=1e-9, equal_nan=True, err_msg=column
        )
    report = series.report
    assert len(report) == 1
    assert int(report["rows"].iloc[0]) == len(want)


def test_cloud_probability_is_empty_between_the_centres(case: Case, product: oracle.Safe, cldprb: Any) -> None:
    """With nothing masked, every polygon on the raster has its row, and the smallest have no 20 m centre."""
    series = TimeSeries(
        case.layer,
        indices=["NDVI"],
        masks=["CM004-CSH0-CMP0-CHP0-TCI0-ITER0"],
        library=case.library,
        multiproc=1,
        quiet=True,
    )
    got = series.data["NDVI"]
    kinds = case.layer["name"].iloc[got["fid"].to_numpy()].str.split("_").str[0].to_numpy()
    assert (got["nbcld"] == 0).all()
    assert got["cldprb"][kinds == "between"].isna().all()
    assert got["cldprb"][kinds != "between"].notna().all()
    # A small polygon's only 20 m centre gives that pixel's own value.
    places = broken_clouds(cldprb)
    small = got[kinds == "small"]
    numbers = case.layer["name"].iloc[small["fid"].to_numpy()].str.split("_").str[1].astype(int)
    assert len(numbers) > 3
    assert small["cldprb"].tolist() == [float(cldprb[places[number]]) for number in numbers]
    assert set(got["tile"]) == {product.tile}
    assert int(series.report["outside_tile"].iloc[0] + series.report["outside_raster"].iloc[0]) == 1
    half = got[kinds == "half"]
    assert (half["nodata"] > 0).all()


def test_whole_tile_as_one_polygon(case: Case, product: oracle.Safe, scl: Any, cldprb: Any) -> None:
    """A polygon that reaches over the whole raster: every pixel counts once."""
    west, north = case.transform.c, case.transform.f
    frame = shapely.box(west - 1000, north - 109800 - 1000, west + 109800 + 1000, north + 1000)
    layer = gpd.GeoDataFrame({"name": ["all"]}, geometry=[frame], crs=CRS)
    mask = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
    series = TimeSeries(layer, indices=["NDVI"], masks=[mask], library=case.library, multiproc=2, quiet=True)
    (row,) = series.data["NDVI"].to_dict("records")
    clouds = oracle.nearest(oracle.cm004(scl, (1, 1, 1, 1), 1))
    present = case.index != oracle.NODATA
    valid = case.index[present & ~clouds].astype(np.float64)
    total = (10980 + 200) ** 2
    assert row["count"] == valid.size
    assert row["nodata"] == total - valid.size
    assert row["nbcld"] == np.count_nonzero(present & clouds)
    want = [valid.min(), valid.max(), valid.mean(), valid.std(), *np.percentile(valid, [50, 25, 75])]
    np.testing.assert_allclose([row[name] for name in oracle.PLAIN], want, rtol=1e-9)
    np.testing.assert_allclose(row["cldprb"], cldprb.mean(dtype=np.float64), rtol=1e-9)
    assert pd.Timestamp(series.data["NDVI"].index[0]) == product.date
