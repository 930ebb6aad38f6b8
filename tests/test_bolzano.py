"""Real pixels of Bolzano: what comes out equals an independent computation, and nothing is silently empty."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

import oracle
from sen2chain import TimeSeries
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CRS = "EPSG:32632"
MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
COUNTS = ("count", "nodata", "nbcld")
LAYERS = ("parcels_wgs84.geojson", "parcels_wgs84.parquet", "parcels_utm32.gpkg", "parcels_laea.shp")
COLUMNS = [
    "fid",
    "tile",
    "filename",
    *COUNTS,
    "cldprb",
    *("min", "max", "mean", "std", "median", "percentile_25", "percentile_75"),
    *("id", "cover", "area_ha", "attr_fid"),
]

# ------------------------------------------------------------------------------------------------------------- helpers


def extract(layer: Path, library: Path, indices: Sequence[str] = ("NDVI", "BIGR"), **options: Any) -> TimeSeries:
    settings: dict[str, Any] = {"cm_version": "CM004", "iterations": 1, "multiproc": 2, "quiet": True, **options}
    return TimeSeries(
        layer, indices=list(indices), date_min="2022-06-01", date_max="2022-06-30", library=library, **settings
    )


def table(series: TimeSeries, index: str) -> pd.DataFrame:
    """Give the rows of an index with `date` as a column."""
    frame: pd.DataFrame = series.data[index].reset_index()
    return frame


def keyed(frame: pd.DataFrame) -> Any:
    """Give rows by (date, fid); untyped, for the stubs take every `loc` for a scalar."""
    return frame.set_index(["date", "fid"])


def read_layer(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)


@functools.cache
def polygons(layer: Path) -> Any:
    return oracle.project(read_layer(layer), CRS)


@functools.cache
def scene(safe: oracle.Safe, index: str) -> tuple[Any, Any, Any, Any]:
    """Give the index, its rounding ties, the cloud mask and the transform, all on the full 10 m grid."""
    values, ties = oracle.index(safe, index)
    clouds = oracle.nearest(oracle.cm004(safe.raster("SCL").values, (1, 1, 1, 1), 1))
    return values, ties, clouds, safe.raster("B04").transform


def products(bolzano: Path) -> list[oracle.Safe]:
    return oracle.safes(bolzano / "L2A" / "32TPS")


def named(frame: pd.DataFrame, safe: oracle.Safe, index: str) -> pd.DataFrame:
    return frame.assign(date=safe.date, tile=safe.tile, filename=f"{safe.id}_{index}_{MASK}.jp2")


def stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the dates together: rows by fid, then date, none without a valid pixel."""
    frame = pd.concat(frames)
    return frame[frame["count"] > 0].sort_values(["fid", "date"]).reset_index(drop=True)


@functools.cache
def expected(layer: Path, bolzano: Path, index: str) -> pd.DataFrame:
    """Give the rows by rasterstats; ``ties`` counts the valid pixels of a row whose value sits on a rounding tie."""
    frames = []
    for safe in products(bolzano):
        values, ties, clouds, transform = scene(safe, index)
        frame = oracle.zonal(polygons(layer), values, clouds, transform)
        frame["ties"] = oracle.count(polygons(layer), ties & ~clouds, transform)
        frames.append(named(frame, safe, index))
    return stacked(frames)


def assert_same_keys(got: pd.DataFrame, want: pd.DataFrame) -> None:
    for column in ("date", "fid", "tile", "filename"):
        assert got[column].astype(str).tolist() == want[column].astype(str).tolist(), column


def assert_close(got: Any, want: Any, *, relative: float, absolute: float = 0.0, what: str = "") -> None:
    np.testing.assert_allclose(
        np.asarray(got, dtype=np.float64),
        np.asarray(want, dtype=np.float64),
        rtol=relative,
        atol=absolute,
        err_msg=what,
    )


def reasons(report: pd.DataFrame) -> pd.DataFrame:
    return report[[str(reason.value) for reason in Reason]]


def assert_complete(report: pd.DataFrame, features: int) -> None:
    """Every feature asked for ends as a row or as a counted reason, on every line of the report."""
    assert (report["rows"] + reasons(report).sum(axis=1) == features).all()
    assert (reasons(report) >= 0).all(axis=None)


@pytest.fixture(scope="module")
def parcels(bolzano: Path) -> Path:
    return bolzano / "vectors" / "parcels_utm32.gpkg"


@pytest.fixture(scope="module")
def series(parcels: Path, bolzano: Path) -> TimeSeries:
    return extract(parcels, bolzano)


# ---------------------------------------------------------------------------------------------------------- centre rule


@pytest.mark.parametrize("index", ["NDVI", "BIGR"])
def test_every_statistic_equals_rasterstats(series: TimeSeries, parcels: Path, bolzano: Path, index: str) -> None:
    got, want = table(series, index), expected(parcels, bolzano, index)
    assert series.data[index].index.name == "date"
    assert list(series.data[index].columns) == COLUMNS
    assert len(want) > 1000
    assert_same_keys(got, want)
    for name in COUNTS:
        assert_close(got[name], want[name], relative=0, what=name)
    assert got["cldprb"].isna().all()
    # A value computed on a rounding tie may come out one unit lower or higher; all others are settled.
    settled = (want["ties"] == 0).to_numpy()
    assert settled.sum() > 800
    for name in oracle.PLAIN:
        assert_close(got[name][settled], want[name][settled], relative=1e-9, absolute=1e-9, what=name)
        assert_close(got[name], want[name], relative=1e-9, absolute=1.0, what=name)
    shift = (got["mean"] - want["mean"]).abs() * want["count"]
    assert (shift <= want["ties"] + 1e-6).all()


def test_attributes_follow_their_feature(series: TimeSeries, parcels: Path) -> None:
    got, layer = table(series, "NDVI"), read_layer(parcels)
    for name in ("id", "cover", "area_ha"):
        assert got[name].tolist() == layer[name].iloc[got["fid"].to_numpy()].tolist()


def test_report_has_a_line_per_index_and_product(series: TimeSeries, bolzano: Path) -> None:
    report = series.report
    ids = sorted(safe.id for safe in products(bolzano))
    for index in ("NDVI", "BIGR"):
        lines = report[report["index"] == index]
        assert sorted(lines["acquisition"].astype(str)) == ids
        assert set(lines["tile"]) == {"32TPS"}
        assert int(lines["rows"].sum()) == len(series.data[index])
    assert_complete(report, 150)


@pytest.mark.parametrize("index", ["NDWIMCF", "EVI", "BIRNIR", "BIBG"])
def test_other_ten_metre_indices_equal_the_oracle(parcels: Path, bolzano: Path, index: str) -> None:
    got, want = table(extract(parcels, bolzano, [index]), index), expected(parcels, bolzano, index)
    assert_same_keys(got, want)
    settled = (want["ties"] == 0).to_numpy()
    for name in (*COUNTS, *oracle.PLAIN):
        assert_close(got[name][settled], want[name][settled], relative=1e-9, absolute=1e-9, what=name)


@pytest.mark.parametrize("index", ["NDWIGAO", "MNDWI", "NDRE", "NBR", "NDBI", "IRECI"])
def test_twenty_metre_bands_equal_the_oracle(twenty_metre_library: Path, parcels: Path, index: str) -> None:
    safe = oracle.Safe(next((twenty_metre_library / "L2A" / "32TPS").iterdir()))
    values, ties, clouds, transform = scene(safe, index)
    shapes = polygons(parcels)
    want = oracle.zonal(shapes, values, clouds, transform)
    want["ties"] = oracle.count(shapes, ties, transform)
    want = stacked([named(want, safe, index)])
    assert (want["nodata"] > want["nbcld"]).any()
    got = table(extract(parcels, twenty_metre_library, [index]), index)
    assert_same_keys(got, want)
    settled = (want["ties"] == 0).to_numpy()
    assert settled.sum() > 100
    for name in COUNTS:
        assert_close(got[name], want[name], relative=0, what=name)
    for name in oracle.PLAIN:
        assert_close(got[name][settled], want[name][settled], relative=1e-9, absolute=1e-9, what=name)


@pytest.fixture(scope="module")
def twenty_metre_library(bolzano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clear date with made-up 20 m bands that have holes, saturation and dark pixels."""
    library = tmp_path_factory.mktemp("twenty")
    (original,) = (bolzano / "L2A" / "32TPS").glob("*_20220627T*.SAFE")
    copy = library / "L2A" / "32TPS" / original.name
    (granule,) = original.glob("GRANULE/*")
    images = copy / "GRANULE" / granule.name / "IMG_DATA"
    images.mkdir(parents=True)
    (copy / "MTD_MSIL2A.xml").symlink_to(original / "MTD_MSIL2A.xml")
    (images / "R10m").symlink_to(granule / "IMG_DATA" / "R10m")
    (images / "R20m").mkdir()
    (scl,) = granule.glob("IMG_DATA/R20m/*_SCL_20m.jp2")
    (images / "R20m" / scl.name).symlink_to(scl)
    with rasterio.open(scl) as dataset:
        profile = {**dataset.profile, "dtype": "uint16"}
    random = np.random.default_rng(20220627)
    for band in ("B05", "B06", "B07", "B11", "B12"):
        dn = random.integers(900, 5000, (240, 240), dtype=np.uint16)
        dn[random.random(dn.shape) < 0.01] = 0
        dn[random.random(dn.shape) < 0.005] = 65535
        options = {**profile, "driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
        path = images / "R20m" / scl.name.replace("SCL", band)
        with rasterio.open(path, "w", **options) as dataset:
            dataset.write(dn, 1)
        np.testing.assert_array_equal(oracle.read(path).values, dn)
    return library


# ------------------------------------------------------------------------------------------- formats, CRSs, and threads


@pytest.mark.parametrize("rule", ["center", "all_touched"])
@pytest.mark.parametrize("layer", LAYERS)
def test_rows_do_not_depend_on_format_or_crs(bolzano: Path, layer: str, rule: str) -> None:
    first = reference_rows(bolzano, rule)
    other = extract(bolzano / "vectors" / layer, bolzano, pixels=rule)
    for index, want in first.items():
        # Only a GeoPackage has ids of its own.
        rows = other.data[index].drop(columns="attr_fid", errors="ignore")
        pd.testing.assert_frame_equal(rows, want.drop(columns="attr_fid"), check_exact=True)


@functools.cache
def reference_rows(bolzano: Path, rule: str) -> dict[str, pd.DataFrame]:
    return dict(extract(bolzano / "vectors" / "parcels_utm32.gpkg", bolzano, pixels=rule).data)


@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_rows_do_not_depend_on_threads(parcels: Path, bolzano: Path, rule: str) -> None:
    serial = extract(parcels, bolzano, pixels=rule, multiproc=1)
    for threads in (2, 8):
        parallel = extract(parcels, bolzano, pixels=rule, multiproc=threads)
        for index in ("NDVI", "BIGR"):
            pd.testing.assert_frame_equal(parallel.data[index], serial.data[index], check_exact=True)
        pd.testing.assert_frame_equal(parallel.report, serial.report, check_exact=True)


# ---------------------------------------------------------------------------------------------------------- all touched


@functools.cache
def touched_sets(layer: Path) -> list[tuple[Any, Any]]:
    """Give, per parcel, the pixels that it surely touches and those that GDAL burns or that it may touch.

    Edges through pixel corners make "touched" a question of the last bit of a coordinate, and GDAL's answer differs
    between the CRSs of one and the same parcel. Pixels that share more than a thousandth are beyond doubt, and so
    are pixels that the parcel grown by 1 cm does not reach.
    """
    _, _, _, transform = scene_grid()
    pairs = []
    for shape in polygons(layer):
        sure = oracle.coverage(shape, (480, 480), transform) > 1e-3
        near = oracle.coverage(shapely.buffer(shape, 0.01), (480, 480), transform) > 0
        burnt = oracle.burn(shape, (480, 480), transform, all_touched=True)
        pairs.append((sure, burnt | near))
    return pairs


def scene_grid() -> tuple[str, int, int, Any]:
    return CRS, 480, 480, rasterio.Affine(10, 0, 675000, 0, -10, 5153460)


@pytest.mark.parametrize("index", ["NDVI", "BIGR"])
def test_all_touched_equals_numpy_where_touching_is_beyond_doubt(bolzano: Path, parcels: Path, index: str) -> None:
    got = keyed(table(extract(parcels, bolzano, [index], pixels="all_touched"), index))
    checked = 0
    for safe in products(bolzano):
        values, ties, clouds, _ = scene(safe, index)
        valid = (values != oracle.NODATA) & ~clouds
        for fid, (least, most) in enumerate(touched_sets(parcels)):
            if not (most & valid).any():
                assert (safe.date, fid) not in got.index
                continue
            if not (least & valid).any():
                continue
            row = got.loc[(safe.date, fid)]
            assert (least & valid).sum() <= row["count"] <= (most & valid).sum()
            assert least.sum() <= row["count"] + row["nodata"] <= most.sum()
            if np.array_equal(least, most) and not (least & ties).any():
                pixels = values[least & valid].astype(np.float64)
                assert row["count"] == pixels.size
                assert row["nbcld"] == (least & clouds & (values != oracle.NODATA)).sum()
                want = [pixels.min(), pixels.max(), pixels.mean(), pixels.std(), np.median(pixels)]
                want += list(np.percentile(pixels, [25, 75]))
                assert_close(row[list(oracle.PLAIN)], want, relative=1e-9, absolute=1e-9)
                checked += 1
    assert checked > 10


# ------------------------------------------------------------------------------------------------------------- weighted


def close(got: Any, want: Any) -> Any:
    """Tell where numbers are equal to 1e-6, relative or absolute."""
    return np.isclose(got, want, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("layer", ["parcels_utm32.gpkg", "parcels_wgs84.geojson"])
@pytest.mark.parametrize("index", ["NDVI", "BIGR"])
def test_weighted_equals_exactextract(bolzano: Path, layer: str, index: str) -> None:
    path = bolzano / "vectors" / layer
    frames = []
    for safe in products(bolzano):
        values, ties, clouds, transform = scene(safe, index)
        frame = oracle.weighted(polygons(path), values, clouds, transform, CRS)
        frame["ties"] = oracle.count(polygons(path), ties & ~clouds, transform, all_touched=True)
        frames.append(named(frame, safe, index))
    want = stacked(frames)
    got = table(extract(path, bolzano, [index], pixels="weighted", stats=["variance"]), index)
    # exactextract keeps fractions in single precision: a parcel that shares 1e-8 of a valid pixel is a row or none.
    real = want["count"] > 1e-6
    got, want = got[got["count"] > 1e-6].reset_index(drop=True), want[real].reset_index(drop=True)
    assert len(want) > 1000
    assert_same_keys(got, want)
    for name in COUNTS:
        assert_close(got[name], want[name], relative=1e-6, absolute=1e-6, what=name)
    settled = (want["ties"] == 0).to_numpy()
    assert settled.sum() > 500
    for name in ("mean", "std", "variance"):
        assert_close(got[name][settled], want[name][settled], relative=1e-6, absolute=1e-6, what=name)
    for name in ("min", "max", *oracle.QUANTILES):
        good = close(got[name], want[name])
        assert good[settled].all(), (name, got[settled & ~good].to_dict("records"))


# --------------------------------------------------------------------------------------------------------------- legacy


@pytest.fixture(scope="module")
def old_archive(bolzano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a complete old archive: the products and, beside them, what the original program had produced."""
    library = tmp_path_factory.mktemp("archive")
    (library / "L2A").symlink_to(bolzano / "L2A")
    for name in ("INDICES", "CLOUDMASKS"):
        (library / name).symlink_to(bolzano / "legacy" / name)
    return library


@pytest.mark.parametrize("index", ["NDVI", "BIGR"])
def test_published_series_is_reproduced(shared: Path, old_archive: Path, tmp_path: Path, index: str) -> None:
    samples = shared / "reference" / "samples"
    series = extract(samples / "layer" / "parcels.shp", old_archive, [index], prefer="masked")
    name = f"parcels_{index}_2022-06-01_2022-06-30.csv"
    want = pd.read_csv(samples / "timeseries" / name, parse_dates=["date"])
    series.to_csv(out_path=tmp_path)
    from_file = tmp_path / "parcels" / name
    assert from_file.read_text(encoding="utf-8").split("\n", 1)[0] == ",".join(want.columns)
    assert (from_file.with_suffix(".json")).is_file()
    for got in (table(series, index), pd.read_csv(from_file, parse_dates=["date"])):
        assert_same_keys(got, want)
        for column in (*COUNTS, "min", "max", "median", "percentile_25", "percentile_75"):
            assert_close(got[column], want[column], relative=0, what=column)
        for column in ("mean", "std"):
            assert_close(got[column], want[column], relative=1e-9, absolute=1e-9, what=column)
        assert got["cldprb"].isna().all()
        for column in ("id", "cover", "area_ha"):
            assert got[column].tolist() == want[column].tolist()
    assert_complete(series.report, 150)


def test_legacy_archive_gives_lossless_values_unless_asked(
    old_archive: Path, bolzano: Path, parcels: Path, series: TimeSeries
) -> None:
    default = extract(parcels, old_archive)
    for index in ("NDVI", "BIGR"):
        pd.testing.assert_frame_equal(default.data[index], series.data[index], check_exact=True)
    stored = table(extract(parcels, old_archive, ["NDVI"], prefer="stored"), "NDVI")
    frames = []
    for safe in products(bolzano):
        _, _, clouds, transform = scene(safe, "NDVI")
        lossy = oracle.read(old_archive / "INDICES" / "NDVI" / "32TPS" / safe.id / f"{safe.id}_NDVI.jp2")
        values = np.where(lossy.values == 16383, np.int16(oracle.NODATA), lossy.values)  # noqa: PD011 - no pandas here
        frames.append(named(oracle.zonal(polygons(parcels), values, clouds, transform), safe, "NDVI"))
    want = stacked(frames)
    assert_same_keys(stored, want)
    for name in (*COUNTS, *oracle.PLAIN):
        assert_close(stored[name], want[name], relative=1e-9, absolute=1e-9, what=name)


# ----------------------------------------------------------------------------------------------------------- edge cases

ALWAYS = {
    "sub_pixel": Reason.NO_PIXEL,
    "sliver_missing_all_centres": Reason.NO_PIXEL,
    "outside_raster_inside_tile": Reason.OUTSIDE_RASTER,
    "outside_tile": Reason.OUTSIDE_TILE,
    "empty": Reason.EMPTY_GEOMETRY,
    "none": Reason.NULL_GEOMETRY,
}
AREAS = (
    "plain",
    "duplicate_of_plain",
    "overlaps_plain",
    "hole",
    "multipart",
    "straddles_raster_edge",
    "bow_tie_invalid",
    "three_d",
)


@pytest.fixture(scope="module")
def edge_layer(bolzano: Path) -> Path:
    return bolzano / "vectors" / "edge_cases_wgs84.geojson"


@pytest.fixture(scope="module")
def edges(edge_layer: Path, bolzano: Path) -> TimeSeries:
    return extract(edge_layer, bolzano, ["NDVI"])


def edge_outcomes(layer: Path, safe: oracle.Safe) -> dict[str, tuple[Reason | None, pd.Series[float] | None]]:
    """Give the expected reason (None: a row) of the features with area or none at all, and the row's statistics."""
    values, _, clouds, transform = scene(safe, "NDVI")
    names = read_layer(layer)["name"].tolist()
    result: dict[str, tuple[Reason | None, pd.Series[float] | None]] = {
        name: (reason, None) for name, reason in ALWAYS.items()
    }
    chosen = [names.index(name) for name in AREAS]
    rows = oracle.zonal([polygons(layer)[fid] for fid in chosen], values, clouds, transform)
    for place, name in enumerate(AREAS):
        row = rows.iloc[place]
        if row["count"] > 0:
            result[name] = (None, row)
        else:
            result[name] = (Reason.CLOUD if row["nbcld"] > 0 else Reason.NO_DATA, None)
    return result


def test_each_edge_case_is_a_row_or_a_reason(edges: TimeSeries, edge_layer: Path, bolzano: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    got = table(edges, "NDVI")
    assert_complete(edges.report, len(names))
    seen = set()
    for safe in products(bolzano):
        on_date = got[got["date"] == safe.date].set_index("fid")
        line = edges.report[edges.report["acquisition"].astype(str) == safe.id].iloc[0]
        want = edge_outcomes(edge_layer, safe)
        for name, (reason, row) in want.items():
            fid = names.index(name)
            assert (fid in on_date.index) == (reason is None), name
            if row is not None:
                seen.add(name)
                columns = [*COUNTS, *oracle.PLAIN]
                assert_close(on_date.loc[fid, columns], row[columns], relative=1e-9, absolute=1.0, what=name)
        for reason in set(ALWAYS.values()):
            assert line[str(reason.value)] == list(ALWAYS.values()).count(reason), reason
        for reason in (Reason.CLOUD, Reason.NO_DATA):
            known = sum(outcome is reason for outcome, _ in want.values())
            # The point and the line may be cloudy or without data too.
            assert known <= line[str(reason.value)] <= known + 2
        assert line["rows"] == len(on_date)
    assert seen == set(AREAS)


def test_edge_cases_one_by_one(edges: TimeSeries, edge_layer: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    rows = {
        name: part.drop(columns="fid")
        for name, part in table(edges, "NDVI")
        .assign(name=lambda frame: frame["fid"].map(dict(enumerate(names))))
        .groupby("name")
    }
    plain, twin = rows["plain"].reset_index(drop=True), rows["duplicate_of_plain"].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain.drop(columns="name"), twin.drop(columns="name").assign(remark=plain["remark"]))
    assert set(plain["count"] + plain["nodata"]) == {200}
    assert "\t" not in plain["remark"].iloc[0]
    assert "é à ü" in plain["remark"].iloc[0]
    assert set(rows["hole"]["count"] + rows["hole"]["nodata"]) == {704}
    assert set(rows["multipart"]["count"] + rows["multipart"]["nodata"]) == {72}
    assert set(rows["bow_tie_invalid"]["count"] + rows["bow_tie_invalid"]["nodata"]) == {200}
    straddling = rows["straddles_raster_edge"]
    assert set(straddling["count"] + straddling["nodata"]) == {450}
    assert (straddling["nodata"] - straddling["nbcld"] >= 225).all()
    assert set(rows["point"]["count"]) == {1}
    assert set(rows["point"]["nodata"]) == {0}


def test_point_takes_its_pixel_and_line_all_it_touches(edges: TimeSeries, edge_layer: Path, bolzano: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    got = keyed(table(edges, "NDVI"))
    clear = 0
    for safe in products(bolzano):
        values, ties, clouds, transform = scene(safe, "NDVI")
        valid = (values != oracle.NODATA) & ~clouds
        column, row = oracle.place(transform, 677000.0, 5151460.0)
        # The point lies on a corner: which of the four pixels is its own hangs on the last bit of the reprojection.
        window = np.s_[round(row) - 1 : round(row) + 1, round(column) - 1 : round(column) + 1]
        key = (safe.date, names.index("point"))
        if valid[window].all():
            clear += 1
            assert np.abs(values[window] - got.loc[key, "mean"]).min() <= ties[window].any()
        elif not valid[window].any():
            assert key not in got.index
        key = (safe.date, names.index("line"))
        # The line runs along a diagonal of pixels: these are touched, and their neighbours at most in a corner.
        diagonal = np.zeros_like(valid)
        steps = np.arange(30)
        diagonal[round(row) - 1 - steps, round(column) + steps] = True
        around = oracle.dilate(diagonal, np.ones((3, 3), dtype=bool))
        if (diagonal & valid).any():
            assert 30 <= got.loc[key, "count"] + got.loc[key, "nodata"] <= around.sum()
            assert (diagonal & valid).sum() <= got.loc[key, "count"] <= (around & valid).sum()
    assert clear > 0


def test_all_touched_gives_small_features_a_row(edge_layer: Path, bolzano: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    touched = extract(edge_layer, bolzano, ["NDVI"], pixels="all_touched")
    assert_complete(touched.report, len(names))
    assert (touched.report[str(Reason.NO_PIXEL.value)] == 0).all()
    got = table(touched, "NDVI")
    assert {names.index("sub_pixel"), names.index("sliver_missing_all_centres")} <= set(got["fid"])


def test_weighted_gives_small_features_their_value(edge_layer: Path, bolzano: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    shared_area = extract(edge_layer, bolzano, ["NDVI"], pixels="weighted")
    assert_complete(shared_area.report, len(names))
    assert (shared_area.report[str(Reason.NO_PIXEL.value)] == 0).all()
    got = keyed(table(shared_area, "NDVI"))
    areas = (*AREAS, "sub_pixel", "sliver_missing_all_centres")
    chosen = [names.index(name) for name in areas]
    shapes = [polygons(edge_layer)[fid] for fid in chosen]
    compared = 0
    for safe in products(bolzano):
        values, ties, clouds, transform = scene(safe, "NDVI")
        want = oracle.weighted(shapes, values, clouds, transform, CRS)
        for (_, row), fid, shape in zip(want.iterrows(), chosen, shapes, strict=True):
            if row["count"] < 1e-6:
                continue
            mine = got.loc[(safe.date, fid)]
            assert_close(mine[list(COUNTS)], row[list(COUNTS)], relative=1e-6, absolute=1e-6)
            # Where edges lie on pixel lines, what GDAL calls touched may miss a pixel; half a metre more cannot.
            if not (oracle.burn(shape.buffer(0.5), values.shape, transform, all_touched=True) & ties).any():
                compared += 1
                for name in ("mean", "std"):
                    assert_close(mine[name], row[name], relative=1e-6, absolute=1e-6, what=f"{names[fid]} {name}")
                for name in ("min", "max", *oracle.QUANTILES):
                    assert close(mine[name], row[name]).all(), name
    assert compared > 20


def test_keep_empty_writes_each_reason(edge_layer: Path, bolzano: Path) -> None:
    names = read_layer(edge_layer)["name"].tolist()
    got = table(extract(edge_layer, bolzano, ["NDVI"], keep_empty=True), "NDVI")
    assert len(got) == 16 * 12
    assert (got.groupby("fid").size() == 12).all()
    cells = keyed(got)
    for safe in products(bolzano):
        for name, (reason, _) in edge_outcomes(edge_layer, safe).items():
            cell = cells.loc[(safe.date, names.index(name))]
            if reason is None:
                assert pd.isna(cell["reason"]) or cell["reason"] == ""
                assert cell["count"] > 0
            else:
                assert str(cell["reason"]) == str(reason.value), name
                assert pd.isna(cell["mean"])


# ----------------------------------------------------------------------------------------------- nothing silently empty


def test_index_without_bands_is_explained(parcels: Path, bolzano: Path, series: TimeSeries) -> None:
    mixed = extract(parcels, bolzano, ["NDVI", "NBR", "BIGR"])
    assert set(mixed.data) == {"NDVI", "NBR", "BIGR"}
    assert mixed.data["NBR"].empty
    assert list(mixed.data["NBR"].columns) == COLUMNS
    lines = mixed.report[mixed.report["index"] == "NBR"]
    assert len(lines) == 12
    assert (lines["rows"] == 0).all()
    assert (lines[str(Reason.INDEX_INPUTS_MISSING.value)] == 150).all()
    assert_complete(mixed.report, 150)
    for index in ("NDVI", "BIGR"):
        pd.testing.assert_frame_equal(mixed.data[index], series.data[index], check_exact=True)


def test_mask_without_inputs_is_explained(parcels: Path, bolzano: Path) -> None:
    blind = extract(parcels, bolzano, ["NDVI"], cm_version="CM003", probability=1, iterations=5)
    assert blind.data["NDVI"].empty
    assert (blind.report[str(Reason.MASK_INPUTS_MISSING.value)] == 150).all()
    assert_complete(blind.report, 150)


def test_several_masks_stand_beside_each_other(parcels: Path, bolzano: Path, series: TimeSeries) -> None:
    other = "SCL-3-8-9-10-11-ITER1"
    both = extract(parcels, bolzano, ["NDVI"], masks=[MASK, other])
    frame = both.data["NDVI"]
    assert set(frame["mask"]) == {MASK, other}
    alone = frame[frame["mask"] == MASK].drop(columns="mask")
    pd.testing.assert_frame_equal(alone, series.data["NDVI"], check_exact=True)
    assert_complete(both.report, 150)
    got = frame[frame["mask"] == other].reset_index()
    safe = products(bolzano)[-1]
    values, _, _, transform = scene(safe, "NDVI")
    clouds = oracle.nearest(oracle.classes(safe.raster("SCL").values, (3, 8, 9, 10, 11), 1))
    want = oracle.zonal(polygons(parcels), values, clouds, transform)
    want = want[want["count"] > 0]
    part = got[got["date"] == safe.date]
    assert part["fid"].tolist() == want["fid"].tolist()
    for name in COUNTS:
        assert_close(part[name], want[name], relative=0, what=name)


# ----------------------------------------------------------------------------------------------------------- on request

EXTRAS = ["sum", "variance", "range", "cv", "mad", "percentile_10", "majority", "minority", "variety"]


def test_statistics_on_request_equal_numpy(parcels: Path, bolzano: Path) -> None:
    series = extract(parcels, bolzano, ["NDVI"], stats=[*EXTRAS, "scl_fractions"])
    columns = list(series.data["NDVI"].columns)
    start = columns.index("percentile_75") + 1
    assert columns[start : start + len(EXTRAS)] == EXTRAS
    scl_columns = {int(name.rsplit("_", 1)[1]): name for name in columns if name.startswith("scl_")}
    assert set(scl_columns) == set(range(12))
    got = keyed(table(series, "NDVI"))
    for safe in products(bolzano)[::3]:
        values, ties, clouds, transform = scene(safe, "NDVI")
        valid = (values != oracle.NODATA) & ~clouds
        scl = oracle.nearest(safe.raster("SCL").values)
        for fid, shape in enumerate(polygons(parcels)):
            within = oracle.burn(shape, values.shape, transform)
            if not (within & valid).any():
                assert (safe.date, fid) not in got.index
                continue
            row = got.loc[(safe.date, fid)]
            # Fractions tell what the polygon is covered with, so the cloud mask is not applied to them.
            fractions = np.bincount(scl[within], minlength=12) / within.sum()
            assert_close([row[scl_columns[c]] for c in range(12)], fractions, relative=1e-9, absolute=1e-12)
            if not (within & ties).any():
                want = oracle.extras(values[within & valid])
                for name in EXTRAS:
                    assert_close(row[name], want[name], relative=1e-9, absolute=1e-9, what=f"{name} of {fid}")


def test_min_valid_leaves_out_and_counts(parcels: Path, bolzano: Path, series: TimeSeries) -> None:
    strict = extract(parcels, bolzano, ["NDVI"], min_valid=0.8)
    full = series.data["NDVI"]
    share = full["count"] / (full["count"] + full["nodata"])
    pd.testing.assert_frame_equal(strict.data["NDVI"], full[share >= 0.8], check_exact=True)
    assert int(strict.report[str(Reason.MIN_VALID.value)].sum()) == int((share < 0.8).sum()) > 0
    assert_complete(strict.report, 150)


def test_index_units_divide_by_the_scale(parcels: Path, bolzano: Path, series: TimeSeries) -> None:
    real, scaled = extract(parcels, bolzano, ["NDVI"], units="index").data["NDVI"], series.data["NDVI"]
    for name in COUNTS:
        assert_close(real[name], scaled[name], relative=0, what=name)
    for name in oracle.PLAIN:
        assert_close(real[name], scaled[name] / 10000, relative=1e-9, absolute=1e-12, what=name)
