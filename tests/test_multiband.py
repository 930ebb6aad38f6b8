"""Statistics of bands against numpy on whole arrays, rasterstats and exactextract; what files say; what is refused."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import xarray
from affine import Affine
from exactextract import exact_extract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterstats import zonal_stats

import oracle
from sen2chain import ZonalStatistics, rasters, zonal_statistics
from sen2chain.errors import (
    EmptyResultError,
    GridMismatchError,
    LayerError,
    OutputError,
    RequestError,
    UnknownNameError,
    UnreadableError,
)
from sen2chain.multiband import band_walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.coverage import PixelRule

    Array = npt.NDArray[Any]

UTM = "EPSG:32632"
ORIGIN = (600_000.0, 5_000_000.0)
EVERY = (
    "mean", "std", "min", "max", "median", "percentile_25", "percentile_90", "sum", "variance", "range", "cv", "mad",
    "majority", "minority", "variety",
)  # fmt: skip
TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def transform(pixel: float = 10.0, left: float = ORIGIN[0], top: float = ORIGIN[1]) -> Affine:
    return Affine(pixel, 0, left, 0, -pixel, top)


def write(path: Path, values: Array, *, at: Affine | None = None, crs: str | None = UTM, **options: Any) -> Path:
    """Write a raster of (bands, rows, columns); `names`, `scales`, `offsets`, `valid` beside rasterio's options."""
    names, scales = options.pop("names", None), options.pop("scales", None)
    offsets, valid = options.pop("offsets", None), options.pop("valid", None)
    bands, rows, columns = values.shape
    if bands > 2:  # else GDAL makes the fourth band of bytes an alpha band
        options.setdefault("photometric", "minisblack")
    profile = {
        "driver": "GTiff", "count": bands, "height": rows, "width": columns, "dtype": values.dtype.name,
        "crs": crs, "transform": transform() if at is None else at, **options,
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if names:
            file.descriptions = names
        if scales:
            file.scales = scales
        if offsets:
            file.offsets = offsets
        if valid is not None:
            file.write_mask(valid)
    return path


def discs(
    count: int,
    rows: int,
    columns: int,
    seed: int = 0,
    sizes: tuple[float, float] = (6.0, 90.0),
    *,
    at: Affine | None = None,
) -> gpd.GeoDataFrame:
    """Overlapping polygons, some of them across the edge of a raster."""
    rng = np.random.default_rng(seed)
    at = transform() if at is None else at
    x = at.c + rng.uniform(-2, columns + 2, count) * at.a
    y = at.f + rng.uniform(-2, rows + 2, count) * at.e
    radius = rng.uniform(*sizes, count) * at.a / 10
    shapes = shapely.buffer(shapely.points(x, y), radius, quad_segs=4)
    return gpd.GeoDataFrame({"plot": [f"p{i}" for i in range(count)]}, geometry=shapes, crs=UTM)


def weighted_quantile(values: Array, weights: Array, q: float) -> float:
    """The documented definition, point by point."""
    x = np.unique(values)
    w = np.array([weights[values == v].sum() for v in x])
    m = len(x)
    s = np.arange(m) * w + (m - 1) * np.concatenate([[0.0], np.cumsum(w)[:-1]])
    return float(np.interp(q * s[-1], s, x)) if m > 1 else float(x[0])


def expected(values: Array, weights: Array, *, weighted: bool) -> dict[str, float]:
    """Every statistic of the valid pixels of one feature, by numpy."""
    if not len(values):
        return {"count": 0.0, **dict.fromkeys(EVERY, np.nan)}
    v = values.astype(np.float64)
    n, mean = weights.sum(), np.average(v, weights=weights)
    variance = np.average((v - mean) ** 2, weights=weights)

    def quantile(values: Array, weights: Array, q: float) -> float:
        return weighted_quantile(values, weights, q) if weighted else float(np.quantile(values, q))

    x = np.unique(v)
    w = np.array([weights[v == one].sum() for one in x])
    median = quantile(v, weights, 0.5)
    return {
        "count": n, "mean": mean, "std": np.sqrt(variance), "variance": variance, "min": v.min(), "max": v.max(),
        "median": median, "percentile_25": quantile(v, weights, 0.25), "percentile_90": quantile(v, weights, 0.9),
        "sum": n * mean, "range": v.max() - v.min(), "cv": np.sqrt(variance) / mean if mean else np.nan,
        "mad": quantile(np.abs(v - median), weights, 0.5), "majority": x[np.argmax(w)], "minority": x[np.argmin(w)],
        "variety": float(len(x)),
    }  # fmt: skip


def pixels_of(shape: Any, grid: tuple[int, int], at: Affine, rule: str) -> Array:
    """(rows, columns) weights of a feature's pixels, by GDAL or by intersections with pixel boxes."""
    if rule == "center":
        return oracle.burn(shape, grid, at).astype(np.float64)
    share = oracle.coverage(shape, grid, at)
    share[share <= 1e-8] = 0.0
    return share if rule == "weighted" else (share > 0).astype(np.float64)


def check(
    result: ZonalStatistics,
    values: Array,
    valid: Array,
    layer: gpd.GeoDataFrame,
    at: Affine,
    rule: str,
    stats: Sequence[str],
) -> None:
    """Compare a table with numpy on the whole arrays; `values` are physical ones."""
    frame = result.to_frame()
    for fid, shape in enumerate(layer.geometry):
        share = pixels_of(shape, values.shape[1:], at, rule)
        for b, table in enumerate(result.tables):
            own = (share > 0) & valid[b]
            want = expected(values[b][own], share[own], weighted=rule == "weighted")
            for name in ("count", *stats):
                got = frame[f"{table.name}_{name}"][fid]
                got = np.nan if pd.isna(got) else float(got)
                scale = max(abs(want["max"]), abs(want["min"]), 1.0) if want["count"] else 1.0
                power = {"variance": scale**2, "sum": scale * max(want["count"], 1.0), "count": 1.0}.get(name, scale)
                tie = (
                    name in {"majority", "minority"} and rule == "weighted"
                )  # weights that differ by their last digits
                near_zero = name == "cv" and abs(want["mean"]) < 1e-9 * scale  # it divides by what is left of rounding
                if not (tie or near_zero):
                    # cv is divided by the mean, which is compared to 2e-6 of the scale itself.
                    rel = 1e-6 + (2e-6 * scale / abs(want["mean"]) if name == "cv" and want["mean"] else 0.0)
                    assert got == pytest.approx(want[name], rel=rel, abs=2e-6 * power, nan_ok=True), (fid, name, rule)


# ------------------------------------------------------------------------------------------------ numbers


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_all_types_blocks_and_rules_equal_numpy(tmp_path: Path, data: st.DataObject) -> None:
    draw = data.draw
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    rule: Any = draw(st.sampled_from(["center", "all_touched", "weighted"]))
    bands, rows, columns = draw(st.integers(1, 4)), draw(st.integers(5, 40)), draw(st.integers(5, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    span = draw(st.sampled_from([3, 100, 100_000]))
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = max(-span, limits.min), min(span, limits.max)
    values = rng.uniform(low, high, (bands, rows, columns)).astype(dtype)
    nodata = draw(st.sampled_from([None, float(low if dtype.kind != "f" else -9999)]))
    if nodata is not None:
        values[rng.random(values.shape) < 0.2] = nodata
    valid = np.ones(values.shape, np.bool_) if nodata is None else values != nodata
    if dtype.kind == "f" and draw(st.booleans()):
        values[rng.random(values.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
        valid &= np.isfinite(values)
    blocks: dict[str, Any] = draw(
        st.sampled_from([{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 7}])
    )
    scale, offset = draw(st.sampled_from([(1.0, 0.0), (0.5, 3.0), (-2.0, 1.0)]))
    interleave = draw(st.sampled_from(["pixel", "band"]))
    path = write(
        tmp_path / "a.tif", values, nodata=nodata, interleave=interleave, scales=[scale] * bands,
        offsets=[offset] * bands, **blocks,
    )  # fmt: skip
    layer = discs(4, rows, columns, draw(st.integers(0, 1000)), (6.0, 250.0))
    stats = EVERY if draw(st.booleans()) else EVERY[:4]
    small = draw(st.sampled_from([1, 1 << 12, 32 << 20]))  # windows of one block, of some, of all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(band_walk, "_CHUNK_BYTES", small)
        result = zonal_statistics(path, layer, stats=stats, pixels=rule, multiproc=draw(st.sampled_from([1, 2])))
    with np.errstate(invalid="ignore"):
        physical = values.astype(np.float64) * scale + offset
    check(result, physical, valid, layer, transform(), rule, stats)


def test_center_and_all_touched_equal_rasterstats(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(100, 20, (3, 80, 90)).astype(np.float32)
    values[:, 10:30, 20:50] = -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999, tiled=True, blockxsize=32, blockysize=32)
    layer = discs(25, 80, 90, 3, (15.0, 120.0))
    names = ["count", "min", "max", "mean", "std", "median", "sum", "percentile_10"]
    result = zonal_statistics(path, layer, stats=names).to_frame()
    for band in (1, 2, 3):
        peer = pd.DataFrame(_rasterstats(layer, values[band - 1], names))
        for name in names:
            mine = result[f"band_{band}_{name}"].astype(float)
            np.testing.assert_allclose(mine, peer[name].astype(float), rtol=1e-6, err_msg=name)


def _rasterstats(layer: gpd.GeoDataFrame, values: Array, names: Sequence[str]) -> Any:
    import warnings  # noqa: PLC0415  # for this one

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rasterstats multiplies affines in a way that the affine package will drop
        return zonal_stats(layer.geometry, values, affine=transform(), nodata=-9999, stats=list(names))


def test_weighted_equals_exactextract(tmp_path: Path) -> None:
    values = np.random.default_rng(4).normal(0, 1, (2, 60, 70)).astype(np.float32)
    values[1][values[1] > 1] = np.nan
    path = write(tmp_path / "a.tif", values, nodata=np.nan)
    layer = discs(30, 56, 66, 5, (1.0, 60.0))
    mine = zonal_statistics(path, layer, stats=["mean", "std", "median", "percentile_10", "sum"], pixels="weighted")
    frame = mine.to_frame()
    ops = ["count", "mean", "stdev", "median", "quantile(q=0.1)", "sum"]
    peer = exact_extract(str(path), layer, ops, output="pandas")
    names = zip(("count", "mean", "std", "median", "percentile_10", "sum"),
                ("count", "mean", "stdev", "median", "quantile_10", "sum"), strict=True)  # fmt: skip
    inside = frame["reason"].isna().to_numpy()
    for own, other in names:
        for band in (1, 2):
            np.testing.assert_allclose(
                frame[f"band_{band}_{own}"].astype(float)[inside], peer[f"band_{band}_{other}"][inside],
                rtol=2e-4, atol=2e-5, err_msg=own,
            )  # fmt: skip  # it keeps shares in single precision


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [0.0, 1.0, 9.0, 60.0])
def test_quantiles_of_values_with_a_long_tail(tmp_path: Path, dtype: str, power: float) -> None:
    """Values are counted in equal buckets first; here almost all share one."""
    noise = np.random.default_rng(3).standard_cauchy((1, 90, 90))
    with np.errstate(over="ignore"):
        large = np.minimum(np.abs(noise) ** power, 1e38 if dtype == "float32" else 1e308)
    values = (np.sign(noise) * large).astype(dtype)
    path = write(tmp_path / "a.tif", values)
    shape = shapely.box(ORIGIN[0], ORIGIN[1] - 900, ORIGIN[0] + 900, ORIGIN[1])
    shares = {"percentile_0": 0.0, "percentile_3": 0.03, "median": 0.5, "percentile_99.9": 0.999, "percentile_100": 1.0}
    frame = zonal_statistics(path, gpd.GeoDataFrame(geometry=[shape], crs=UTM), stats=list(shares)).to_frame()
    for name, q in shares.items():
        assert frame[f"band_1_{name}"][0] == pytest.approx(np.quantile(values.astype(np.float64), q), rel=1e-9), name


def test_a_large_offset_loses_no_digits(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 1e-3, (1, 50, 50))
    path = write(tmp_path / "a.tif", noise + 1e9, tiled=True, blockxsize=16, blockysize=16)
    layer = gpd.GeoDataFrame(geometry=[shapely.box(600_000, 4_999_500, 600_500, 5_000_000)], crs=UTM)
    std = zonal_statistics(path, layer, stats="std").to_frame()["band_1_std"][0]
    assert std == pytest.approx((noise + 1e9).std(), rel=1e-6)


def test_64_bit_numbers_near_the_limits_and_a_note(tmp_path: Path) -> None:
    values = np.full((1, 20, 20), np.iinfo(np.int64).max, np.int64)
    values[0, :, :10] = 5
    path = write(tmp_path / "a.tif", values)
    result = zonal_statistics(path, discs(3, 20, 20, 1), stats=["min", "majority"])
    assert result.to_frame()["band_1_min"].min() == 5
    assert any("64-bit" in note for note in result.notes)


# ------------------------------------------------------------------------------------------------ blocks and memory


def test_each_block_is_decoded_once_and_only_those_with_features(tmp_path: Path) -> None:
    values = np.zeros((5, 160, 160), np.uint8)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=32, blockysize=32)
    layer = discs(8, 70, 70, 3, (60.0, 150.0))
    with pytest.MonkeyPatch.context() as patch, rasters.counting() as counts:
        patch.setattr(band_walk, "_CHUNK_BYTES", 5 << 10)
        zonal_statistics(path, layer, stats=["mean", "median"])
    assert set(counts.blocks.values()) == {1}
    assert len(counts.blocks) < 16


def test_values_that_do_not_fit_into_the_memory_are_read_in_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 200, (6, 90, 90)).astype(np.uint8)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=32, blockysize=32)
    layer = discs(5, 90, 90, 2, (200.0, 400.0))
    stats = ["mean", "median", "shares"]
    whole = zonal_statistics(path, layer, stats=stats)
    monkeypatch.setattr(band_walk, "_CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(band_walk, "memory", lambda: 6 * 3 * 32_000)
    parts = zonal_statistics(path, layer, stats=stats)
    assert any("times" in note for note in parts.notes)
    pd.testing.assert_frame_equal(whole.to_frame(), parts.to_frame(), rtol=1e-12)
    monkeypatch.setattr(band_walk, "memory", lambda: 6000)
    with pytest.raises(RequestError, match="Percentiles, frequencies and shares need"):
        zonal_statistics(path, layer, stats=stats)
    assert zonal_statistics(path, layer).rows == 5  # moments need no values


def test_results_do_not_depend_on_threads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 120, 120)).astype(np.float32)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    layer = discs(30, 120, 120, 2, (20.0, 300.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(band_walk, "_CHUNK_BYTES", 1 << 12)
        one, four = (zonal_statistics(path, layer, stats=EVERY, pixels="weighted", multiproc=n) for n in (1, 4))
    pd.testing.assert_frame_equal(one.to_frame(), four.to_frame(), check_exact=True)


def test_a_raster_of_a_million_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.tif"
    at = Affine(360 / 1_000_000, 0, -180, 0, -0.001, 50)
    profile = {"driver": "GTiff", "count": 1, "height": 32, "width": 1_000_000, "dtype": "uint8", "crs": "EPSG:4326",
               "transform": at, "tiled": True, "blockxsize": 256, "blockysize": 32, "sparse_ok": True}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.full((1, 32, 256), 7, np.uint8), window=((0, 32), (999_744, 1_000_000)))
    layer = gpd.GeoDataFrame(geometry=[shapely.box(179.95, 49.98, 180, 49.99)], crs="EPSG:4326")
    frame = zonal_statistics(path, layer).to_frame()
    assert frame["band_1_mean"][0] == 7
    assert frame["band_1_count"][0] > 100


# ------------------------------------------------------------------------------------------------ what files say


def test_names_scale_offset_and_nodata_of_each_band(tmp_path: Path) -> None:
    values = np.stack(
        [np.full((30, 30), 10, np.int16), np.full((30, 30), 20, np.int16), np.full((30, 30), -1, np.int16)]
    )
    path = write(tmp_path / "a.tif", values, nodata=-1, names=["A00", "A00", ""], scales=[0.5, 1, 1], offsets=[2, 0, 0])
    layer = discs(3, 20, 20, 1)
    result = zonal_statistics(path, layer)
    frame = result.to_frame()
    assert result.bands["band"].tolist() == ["A00", "A00_2", "band_3"]
    assert set(frame["A00_mean"]) == {7.0}
    assert set(frame["A00_2_mean"]) == {20.0}
    assert frame["band_3_mean"].isna().all()
    assert set(frame["band_3_count"]) == {0}
    assert frame["reason"].isna().all()  # other bands have values
    long = result.to_frame("long")
    assert set(long["reason"][long["band"] == "band_3"]) == {"no_data"}
    assert result.report["no_data"].tolist() == [0, 0, 3]
    said = " ".join(result.notes)
    assert "values = stored values x 0.5 + 2" in said
    assert "-1 means no data" in said
    assert "no value means" not in said
    plain = zonal_statistics(path, layer, scaled=False)
    assert set(plain.to_frame()["A00_mean"]) == {10.0}
    assert "without the scale 0.5" in " ".join(plain.notes)


@pytest.mark.parametrize("wanted", ["2,A07", [2, "A07"], ("A01", 3), "2-3", "3,2"])
def test_bands_are_chosen_by_number_or_name(tmp_path: Path, wanted: Any) -> None:
    path = write(tmp_path / "a.tif", np.zeros((3, 9, 9), np.uint8), names=["A00", "A01", "A07"])
    assert set(zonal_statistics(path, discs(1, 5, 5), bands=wanted).bands["band"]) == {"A01", "A07"}


@pytest.mark.parametrize("wanted", ["4", "0", "1-9", "B04", [], "-", [None], "3-"])
def test_an_unknown_band_is_named(tmp_path: Path, wanted: Any) -> None:
    path = write(tmp_path / "a.tif", np.zeros((3, 9, 9), np.uint8), names=["A00", "A01", "A07"])
    with pytest.raises(RequestError, match=r"band"):
        zonal_statistics(path, discs(1, 5, 5), bands=wanted)


def test_masks_and_alpha_remove_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 9, (2, 40, 40)).astype(np.uint8)
    valid = np.random.default_rng(1).random((40, 40)) > 0.3
    layer = discs(6, 40, 40, 2, (30.0, 150.0))
    masked = write(tmp_path / "mask.tif", values, valid=valid)
    alpha = np.concatenate([values, np.where(valid, 255, 0).astype(np.uint8)[None]])
    with_alpha = write(tmp_path / "alpha.tif", alpha)
    with rasterio.open(with_alpha, "r+") as file:
        file.colorinterp = [
            rasterio.enums.ColorInterp.gray,
            rasterio.enums.ColorInterp.undefined,
            rasterio.enums.ColorInterp.alpha,
        ]
    for path in (masked, with_alpha):
        result = zonal_statistics(path, layer, stats=("mean", "median"))
        assert len(result.tables) == 2
        check(result, values.astype(float), np.stack([valid, valid]), layer, transform(), "center", ("mean", "median"))
        assert "a mask of the file removes pixels" in " ".join(result.notes)
    assert "Band 3 is an alpha band" in " ".join(result.notes)


def test_a_nodata_value_that_the_type_cannot_hold_removes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((1, 9, 9), 3, np.float32), nodata=-9999)
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><SRS>EPSG:32632</SRS><GeoTransform>600000,10,0,5000000,0,-10'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1"><NoDataValue>-9999</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    frame = zonal_statistics(vrt, discs(2, 9, 9)).to_frame()
    assert frame["band_1_mean"].dropna().eq(3).all()


def stacked(vrt: Path, **parts: Path) -> Path:
    """Write a VRT whose bands have the types and come from the files that are given."""
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource><SourceFilename relativeToVRT="1">{path.name}'
        "</SourceFilename></SimpleSource></VRTRasterBand>"
        for i, (kind, path) in enumerate(parts.items(), 1)
    )
    vrt.write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="30"><SRS>EPSG:32632</SRS><GeoTransform>600000,10,0,5000000,0,-10'
        f"</GeoTransform>{bands}</VRTDataset>"
    )
    return vrt


def test_bands_of_several_types_and_a_vrt(tmp_path: Path) -> None:
    a = write(tmp_path / "a.tif", np.full((1, 30, 30), 200, np.uint8))
    b = write(tmp_path / "b.tif", np.full((1, 30, 30), -0.25, np.float32))
    frame = zonal_statistics(stacked(tmp_path / "both.vrt", Byte=a, Float32=b), discs(2, 20, 20, 1)).to_frame()
    assert set(frame["band_1_mean"]) == {200}
    assert set(frame["band_2_min"]) == {-0.25}


def test_windows_of_several_types_stand_in_the_memory_that_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = write(tmp_path / "a.tif", np.full((1, 30, 30), -5, np.int16))
    b = write(tmp_path / "b.tif", np.full((1, 30, 30), 65_000, np.uint16))
    read, reused = rasters.BandStack.read, []

    def watched(self: Any, rows: Any, columns: Any, bands: Any, room: Any) -> Any:
        values, valid = read(self, rows, columns, bands, room)
        reused.append(np.shares_memory(values, room))
        return values, valid

    monkeypatch.setattr(rasters.BandStack, "read", watched)
    frame = zonal_statistics(stacked(tmp_path / "both.vrt", Int16=a, UInt16=b), discs(2, 20, 20, 1)).to_frame()
    assert (set(frame["band_1_min"]), set(frame["band_2_max"])) == ({-5}, {65_000})
    assert set(reused) == {True}


def test_shares_of_classes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice(np.array([10, 20, 60], np.uint8), (1, 50, 50))
    values[0, :, :20] = 255
    path = write(tmp_path / "cover.tif", values, nodata=255, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {10: (0, 90, 0), 20: (200, 90, 0), 60: (0, 0, 90)})
    layer = discs(12, 50, 50, 7, (20.0, 250.0))
    for rule in ("center", "weighted"):
        result = zonal_statistics(path, layer, stats=["shares"], pixels=rule)
        frame = result.to_frame()
        assert [c for c in frame if "share" in str(c)] == ["band_1_share_10", "band_1_share_20", "band_1_share_60"]
        for fid, shape in enumerate(layer.geometry):
            share = pixels_of(shape, (50, 50), transform(), rule) * (values[0] != 255)
            for value in (10, 20, 60):
                got = frame[f"band_1_share_{value}"][fid]
                if not share.sum():
                    assert np.isnan(got)
                    continue
                assert got == pytest.approx(share[values[0] == value].sum() / share.sum(), abs=1e-6)
        assert any("colour table" in note for note in result.notes)


def test_shares_of_what_are_no_classes(tmp_path: Path) -> None:
    dem = write(tmp_path / "dem.tif", np.zeros((1, 9, 9), np.float32))
    with pytest.raises(RequestError, match=r"dem\.tif: band_1 is of float32, so its values are not classes"):
        zonal_statistics(dem, discs(2, 9, 9), stats="shares")
    many = write(tmp_path / "many.tif", np.arange(900, dtype=np.int16).reshape(1, 30, 30))
    with pytest.raises(RequestError, match=r"many\.tif: band_1 has more than 256 different values"):
        zonal_statistics(many, discs(2, 30, 30, 1, (200, 300)), stats="shares")


# ------------------------------------------------------------------------------------------------ grids


@pytest.mark.parametrize("left", [-180.0, 0.0])
def test_a_climate_grid_in_degrees(tmp_path: Path, left: float) -> None:
    """One degree is far more than a polygon; longitudes begin at -180 or at 0."""
    longitude = left + 0.5 + np.arange(360)
    values = np.broadcast_to(np.where(longitude > 180, longitude - 360, longitude), (1, 180, 360)).astype(np.float32)
    path = write(tmp_path / "t2m.tif", values, at=Affine(1, 0, left, 0, -1, 90), crs="EPSG:4326")
    x = np.array([-70.3, -0.5, 11.3, 179.2, -179.7])
    layer = gpd.GeoDataFrame(geometry=shapely.buffer(shapely.points(x, 10.2), 0.05), crs="EPSG:4326")
    layer.loc[5, "geometry"] = shapely.box(-2, 10, 2, 12)  # across Greenwich, the seam of 0 to 360
    frame = zonal_statistics(path, layer, pixels="weighted").to_frame()
    np.testing.assert_allclose(frame["band_1_mean"][:5], np.floor(x) + 0.5, rtol=1e-6)
    assert frame["band_1_count"][5] == pytest.approx(8)
    assert frame["band_1_mean"][5] == pytest.approx(0, abs=1e-6)
    utm = layer.iloc[[2]].to_crs(UTM)
    assert zonal_statistics(path, utm, pixels="weighted").to_frame()["band_1_mean"][0] == 11.5
    with pytest.raises(RequestError, match=r"buffer is in metres, and pixels of .*t2m\.tif are in the unit degree"):
        zonal_statistics(path, layer, buffer=10)


def test_longitudes_that_do_not_close_are_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif", np.zeros((1, 10, 500), np.uint8), at=Affine(0.7, 0, 0, 0, -0.7, 7), crs="EPSG:4326"
    )
    with pytest.raises(RequestError, match=r"0\.7 degrees do not go into a turn of 360"):
        zonal_statistics(path, discs(1, 5, 5))


@pytest.mark.filterwarnings("ignore:numpy.ndarray size changed")  # netCDF4 built with an older numpy
def test_netcdf_of_several_variables_names_them(tmp_path: Path) -> None:
    lat, lon = np.arange(50.5, 40, -1), np.arange(0.5, 20)
    data = {name: (("time", "lat", "lon"), np.full((3, 11, 20), i + 1.0)) for i, name in enumerate(("t2m", "tp"))}
    cube = xarray.Dataset(data, {"time": [0, 1, 2], "lat": lat, "lon": lon})
    cube["lat"].attrs, cube["lon"].attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    cube.to_netcdf(tmp_path / "c.nc")
    layer = gpd.GeoDataFrame(geometry=[shapely.box(3.2, 44.2, 3.3, 44.3)], crs="EPSG:4326")
    with pytest.raises(UnreadableError, match=r"has no band. It holds several; name one of them, as (?i:netcdf)"):
        zonal_statistics(tmp_path / "c.nc", layer)
    result = zonal_statistics(f"NETCDF:{tmp_path}/c.nc:tp", layer, pixels="weighted", raster_crs="EPSG:4326")
    assert result.to_frame()["band_3_mean"][0] == 2
    assert len(result.tables) == 3


def test_a_south_up_raster_is_read_as_it_lies(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (2, 40, 30)).astype(np.int16)
    up = Affine(10, 0, ORIGIN[0], 0, 10, ORIGIN[1] - 400)
    north = write(tmp_path / "n.tif", values, tiled=True, blockxsize=16, blockysize=16)
    south = write(tmp_path / "s.tif", values[:, ::-1].copy(), at=up, tiled=True, blockxsize=16, blockysize=16)
    layer = discs(9, 40, 30, 3, (20, 100))
    one, other = (zonal_statistics(path, layer, stats=("mean", "median")).to_frame() for path in (north, south))
    pd.testing.assert_frame_equal(one, other, rtol=1e-12)


def test_what_a_raster_may_not_be(tmp_path: Path) -> None:
    layer, zeros = discs(2, 9, 9), np.zeros((1, 9, 9), np.uint8)
    rotated = write(tmp_path / "r.tif", zeros, at=Affine(10, 1, ORIGIN[0], 1, -10, ORIGIN[1]))
    with pytest.raises(GridMismatchError, match=r"r\.tif is rotated or mirrored; straighten it with gdalwarp"):
        zonal_statistics(rotated, layer)
    nowhere = write(tmp_path / "n.tif", zeros, crs=None)
    with pytest.raises(UnreadableError, match=r"n\.tif has no CRS; name it with raster_crs"):
        zonal_statistics(nowhere, layer)
    assert zonal_statistics(nowhere, layer, raster_crs=32632).rows
    with pytest.raises(RequestError, match="raster_crs"):
        zonal_statistics(nowhere, layer, raster_crs="nonsense")
    other = write(tmp_path / "o.tif", zeros)
    with pytest.raises(RequestError, match="has the CRS EPSG:32632 and not EPSG:4326"):
        zonal_statistics(other, layer, raster_crs="EPSG:4326")
    complex_ = write(tmp_path / "c.tif", zeros.astype(np.complex64))
    with pytest.raises(UnreadableError, match=r"c\.tif: band 1 has complex numbers"):
        zonal_statistics(complex_, layer)
    flat = write(tmp_path / "f.tif", zeros, scales=[0.0])
    with pytest.raises(UnreadableError, match="declares the scale 0"):
        zonal_statistics(flat, layer)
    with pytest.raises(UnreadableError, match="does not exist"):
        zonal_statistics(tmp_path / "gone.tif", layer)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(UnreadableError, match=r"text\.tif cannot be opened"):
        zonal_statistics(tmp_path / "text.tif", layer)
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(UnreadableError, match="is not a file"):
        zonal_statistics(tmp_path / "pipe.tif", layer)
    with pytest.raises(LayerError):
        zonal_statistics(other, tmp_path / "gone.gpkg")


@pytest.mark.parametrize(
    "name", ["https://example.org/a.tif", "s3://bucket/a.tif", "/vsicurl/https://example.org/a.tif"]
)
def test_servers_are_not_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is on a server"):
        zonal_statistics(name, discs(1, 5, 5))
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{name}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    outer = tmp_path / "outer.vrt"
    outer.write_text(vrt.read_text().replace(f"<SourceFilename>{name}", '<SourceFilename relativeToVRT="1">a.vrt'))
    for path in (vrt, outer):
        with pytest.raises(UnreadableError, match=r"a\.vrt refers to .*, which is on a server"):
            zonal_statistics(path, discs(1, 5, 5))
    wms = tmp_path / "w.xml"
    wms.write_text("<GDAL_WMS><Service name='TMS'><ServerUrl>https://example.org</ServerUrl></Service></GDAL_WMS>")
    with pytest.raises(UnreadableError, match="describes a server"):
        zonal_statistics(wms, discs(1, 5, 5))


# ------------------------------------------------------------------------------------------------ several files


def halves(folder: Path, values: Array, overlap: int = 0, **options: Any) -> list[Path]:
    """Write the western and the eastern half of a raster."""
    middle = values.shape[2] // 2
    west = write(folder / "west.tif", values[..., : middle + overlap], **options)
    at = transform(left=ORIGIN[0] + 10 * middle)
    return [west, write(folder / "east.tif", values[..., middle:], at=at, **options)]


def test_parts_with_another_no_data_value_are_read_with_it_and_told(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(1, 9, (2, 30, 40)).astype(np.uint8)
    west, east = halves(tmp_path, values, nodata=3)
    with rasterio.open(east, "r+") as file:
        file.nodata = 5
    whole = np.where(np.arange(40) < 20, values == 3, values == 5)
    x, y = ORIGIN
    result = zonal_statistics([west, east], gpd.GeoDataFrame(geometry=[shapely.box(x, y - 300, x + 400, y)], crs=UTM))
    assert result.to_frame()["band_2_nodata"].tolist() == [whole[1].sum()]
    assert any(f"1 file of the mosaic differs from the first one, as {east}: band_1, 5" in n for n in result.notes)


@pytest.mark.parametrize("overlap", [0, 2])
def test_parts_of_a_mosaic_give_what_the_whole_gives(tmp_path: Path, overlap: int) -> None:
    values = np.random.default_rng(1).integers(1, 99, (3, 50, 80)).astype(np.uint8)
    values[:, :, 38:45][np.random.default_rng(2).random((3, 50, 7)) < 0.3] = 0
    parts = halves(tmp_path, values, overlap, nodata=0, tiled=True, blockxsize=16, blockysize=16)
    if overlap:  # where the first has no data, the second one counts
        with rasterio.open(parts[0], "r+") as file:
            block = file.read()
            block[:, :, 41] = 0
            file.write(block)
    whole = write(tmp_path / "whole.tif", values, nodata=0)
    layer = discs(20, 50, 80, 3, (30.0, 300.0))
    for rule in ("center", "weighted"):
        want = zonal_statistics(whole, layer, stats=("mean", "std", "median", "variety"), pixels=rule)
        got = zonal_statistics(parts, layer, stats=("mean", "std", "median", "variety"), pixels=rule)
        pd.testing.assert_frame_equal(got.to_frame(), want.to_frame(), rtol=1e-9)
        assert any("2 files are parts of one mosaic" in note for note in got.notes)


def test_files_on_the_same_ground_lie_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    a = write(tmp_path / "y2023.tif", np.full((2, 30, 30), 1, np.uint8))
    b = write(tmp_path / "y2024.tif", np.full((2, 30, 30), 2, np.uint8))
    coarse = write(tmp_path / "dem.tif", np.full((1, 10, 10), 9, np.float32), at=transform(30.0))
    layer = discs(3, 20, 20, 1)
    frame = zonal_statistics([a, b, coarse], layer, stats="mean").to_frame()
    assert set(frame["y2023_band_1_mean"]) == {1}
    assert set(frame["y2024_band_2_mean"]) == {2}
    assert set(frame["dem_band_1_mean"]) == {9}
    long = zonal_statistics([a, b, coarse], layer, stats="mean").to_frame("long")
    assert long.columns.tolist() == [
        "fid", "plot", "raster", "band", "count", "nodata", "mean", "std", "min", "max", "reason",
    ]  # fmt: skip
    assert len(long) == 5 * 3
    again = write(tmp_path / "x" / "y2023.tif", np.zeros((2, 30, 30), np.uint8))
    assert "x_y2023_band_1_mean" in zonal_statistics([a, again], layer).to_frame()


def test_contradictions_name_both_files(tmp_path: Path) -> None:
    layer, zeros = discs(2, 9, 9), np.zeros((1, 30, 30), np.uint8)
    a = write(tmp_path / "a.tif", zeros)
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "crs": ({"crs": "EPSG:32633"}, "their CRS are"),
        "pixel": ({"at": transform(20.0)}, "their pixels are 10 x 10 and 20 x 20"),
        "shift": ({"at": transform(left=ORIGIN[0] + 304)}, "shifted against each other by 0.4 of a pixel"),
        "names": (
            {"at": transform(left=ORIGIN[0] + 300), "names": ["other"]},
            "the name of band 1 is band_1 and other",
        ),
        "scale": ({"at": transform(left=ORIGIN[0] + 300), "scales": [3.0]}, "the scale of band 1 is 1.0 and 3.0"),
    }
    for name, (options, sentence) in cases.items():
        b = write(tmp_path / f"{name}.tif", zeros, **options)
        with pytest.raises(RequestError, match=rf"a\.tif and .*{name}\.tif are not parts of one mosaic: .*{sentence}"):
            zonal_statistics([a, b], layer, combine="mosaic")
        assert zonal_statistics([a, b], layer).rows
    half = write(tmp_path / "half.tif", zeros, at=transform(left=ORIGIN[0] + 150))
    with pytest.raises(RequestError, match=r"a\.tif and .*half\.tif overlap and have the same bands.*--combine"):
        zonal_statistics([a, half], layer)
    assert len(zonal_statistics([a, half], layer, combine="side-by-side").tables) == 2
    assert len(zonal_statistics([a, half], layer, combine="mosaic").tables) == 1


def test_many_parts_keep_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(band_walk, "_OPEN", 2)
    paths = [
        write(tmp_path / f"{i}.tif", np.full((1, 10, 10), i, np.uint8), at=transform(left=ORIGIN[0] + 100 * i))
        for i in range(12)
    ]
    layer = gpd.GeoDataFrame(geometry=[shapely.box(600_000, 4_999_900, 601_200, 5_000_000)], crs=UTM)
    frame = zonal_statistics(paths, layer, stats=("mean", "median")).to_frame()
    assert frame["band_1_mean"][0] == 5.5
    assert frame["band_1_count"][0] == 1200


# ------------------------------------------------------------------------------------------------ reasons and faults


def test_every_feature_has_a_value_or_a_reason(tmp_path: Path) -> None:
    values = np.ones((1, 40, 40), np.uint8)
    values[0, :, 30:] = 0
    path = write(tmp_path / "a.tif", values, nodata=0)
    x, y = ORIGIN
    shapes = [
        shapely.box(x + 50, y - 100, x + 100, y - 50), None, shapely.Polygon(),
        shapely.box(x + 330, y - 90, x + 390, y - 50),
        shapely.box(x + 9_000, y, x + 9_100, y + 100), shapely.box(x + 11, y - 19, x + 14, y - 16),
        shapely.box(x + 1e6, y, x + 1e6 + 50, y + 50),
    ]  # fmt: skip
    layer = gpd.GeoDataFrame({"mean": range(7)}, geometry=shapes, crs=UTM)
    result = zonal_statistics(path, layer)
    frame = result.to_frame()
    assert frame["reason"].fillna("").tolist() == [
        "", "null_geometry", "empty_geometry", "no_data", "outside_raster", "no_pixel_centre_inside", "outside_raster",
    ]  # fmt: skip
    assert frame["band_1_nodata"].fillna(-1).tolist() == [0, -1, -1, 24, -1, 0, -1]
    assert result.rows == 1
    assert not result.incomplete
    line = result.report.iloc[0]
    assert line["rows"] + sum(line[r] for r in line.index[3:-1]) == 7
    assert zonal_statistics(path, layer, buffer=-60).left_out()
    html, text = result._repr_html_(), repr(result)
    assert "the feature lies outside the raster" in html
    assert "7 features, 1 band (band_1)" in text


def damage(path: Path, column: int, row: int, band: int = 1) -> None:
    """Overwrite the beginning of a block of a TIFF file."""
    with rasterio.open(path) as file:
        names = (f"BLOCK_{what}_{column}_{row}" for what in ("OFFSET", "SIZE"))
        offset, size = (int(file.get_tag_item(name, "TIFF", bidx=band)) for name in names)
    content = bytearray(path.read_bytes())
    content[offset : offset + min(size, 60)] = bytes(min(size, 60))
    path.write_bytes(content)


@pytest.mark.parametrize("window", [1 << 10, 32 << 20])
@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_a_damaged_block_costs_only_the_features_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, rule: str
) -> None:
    values = np.random.default_rng(0).integers(0, 99, (2, 64, 64)).astype(np.uint8)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    x, y = ORIGIN
    shapes = [shapely.box(x + 20, y - 200, x + 200, y - 20), shapely.box(x + 400, y - 600, x + 600, y - 400),
              shapely.box(x + 200, y - 400, x + 400, y - 200)]  # fmt: skip
    layer = gpd.GeoDataFrame(geometry=shapes, crs=UTM)
    asked: dict[str, Any] = {"stats": ("mean", "median", "shares"), "pixels": rule}
    whole = zonal_statistics(path, layer, **asked).to_frame()
    damage(path, 1, 1)
    monkeypatch.setattr(band_walk, "_CHUNK_BYTES", window)
    result = zonal_statistics(path, layer, **asked)
    found = result.to_frame()
    assert found["reason"].fillna("").tolist() == ["", "unreadable", "unreadable"]
    assert found["band_1_mean"].isna().tolist() == [False, True, True]
    known = [name for name in found if name in whole and found[name].notna().iloc[0]]
    assert {"band_1_count", "band_2_median"} < set(known)
    pd.testing.assert_frame_equal(found[known].head(1), whole[known].head(1), check_dtype=False)
    assert result.incomplete
    assert "a.tif cannot be read" in result.why_partly()


@pytest.mark.parametrize("south_up", [False, True])
def test_a_damaged_block_of_a_mosaic_costs_only_the_features_in_it(tmp_path: Path, *, south_up: bool) -> None:
    values = np.random.default_rng(0).integers(0, 99, (2, 96, 96)).astype(np.uint8)
    x, y = ORIGIN
    options: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    west, east = values[..., :64], values[..., 32:]
    at = rasterio.Affine(10, 0, x, 0, 10, y - 960) if south_up else transform()
    paths = [write(tmp_path / "west.tif", west[:, ::-1] if south_up else west, at=at, **options),
             write(tmp_path / "east.tif", east, at=transform(left=x + 320), **options)]  # fmt: skip
    shapes = [shapely.box(x + column, y - row - 60, x + column + 60, y - row)
              for column, row in ((490, 5), (490, 320), (340, 20), (700, 20), (100, 20))]  # fmt: skip
    layer = gpd.GeoDataFrame(geometry=shapes, crs=UTM)
    asked: dict[str, Any] = {"stats": "median", "combine": "mosaic"}
    whole = zonal_statistics(paths, layer, **asked).to_frame()
    damage(paths[0], 3, 5 if south_up else 0)  # columns 48 to 63 at the northern edge
    found = zonal_statistics(paths, layer, **asked).to_frame()
    assert found["reason"].fillna("").tolist() == ["unreadable", "", "", "", ""]
    columns = [name for name in found if name != "reason"]
    pd.testing.assert_frame_equal(found[columns][1:], whole[columns][1:], check_dtype=False)


BLOCKS: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}


def boxes(*columns_and_rows: tuple[int, int, int, int]) -> gpd.GeoDataFrame:
    """Rectangles of whole pixels: first column and one past the last, first row and one past the last."""
    x, y = ORIGIN
    shapes = [shapely.box(x + 10 * a, y - 10 * d, x + 10 * b, y - 10 * c) for a, b, c, d in columns_and_rows]
    return gpd.GeoDataFrame(geometry=shapes, crs=UTM)


def test_a_damaged_block_that_no_feature_touches_is_no_loss(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (1, 48, 96)).astype(np.uint8)
    west = write(tmp_path / "west.tif", values[..., :64], **BLOCKS)
    east = write(tmp_path / "east.tif", values[..., 32:], at=transform(left=ORIGIN[0] + 320), **BLOCKS)
    layer = boxes((2, 9, 2, 9), (50, 60, 20, 30), (70, 90, 2, 9), (36, 40, 40, 46))
    whole = zonal_statistics([west, east], layer, combine="mosaic").to_frame()
    damage(west, 2, 0)  # in the overlap
    damage(east, 3, 2)
    result = zonal_statistics([west, east], layer, combine="mosaic")
    assert (result.incomplete, result.why_partly()) == (False, "")
    pd.testing.assert_frame_equal(result.to_frame(), whole)


def test_the_damaged_blocks_of_all_parts_of_a_mosaic_are_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (1, 16, 96)).astype(np.uint8)
    west = write(tmp_path / "west.tif", values[..., :64], **BLOCKS)
    east = write(tmp_path / "east.tif", values[..., 32:], at=transform(left=ORIGIN[0] + 320), **BLOCKS)
    damage(west, 3, 0)
    damage(east, 3, 0)
    result = zonal_statistics([west, east], boxes((82, 90, 2, 9), (50, 60, 2, 9), (2, 9, 2, 9)), combine="mosaic")
    assert result.to_frame()["reason"].fillna("").tolist() == ["unreadable", "unreadable", ""]
    for text in (result.why_partly(), result.report["error"][0]):
        assert "west.tif cannot be read: " in text
        assert "east.tif cannot be read: " in text


@pytest.mark.parametrize(("window", "rule", "passes"), [
    (1 << 8, "center", 1), (32 << 20, "center", 1), (32 << 20, "weighted", 1), (1 << 8, "center", 2),
])  # fmt: skip
def test_a_class_that_only_a_lost_feature_has_gets_no_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, rule: PixelRule, passes: int
) -> None:
    values = np.full((2, 16, 48), 7, np.uint8)
    values[:, :, 16:32] = 20
    path = write(tmp_path / "a.tif", values, interleave="band", **BLOCKS)
    damage(path, 2, 0, 2 if passes == 2 else 1)
    monkeypatch.setattr(band_walk, "_CHUNK_BYTES", window)
    if passes == 2:
        monkeypatch.setattr(band_walk.BandWalk, "_band_passes", lambda _: [[0], [1]])
    result = zonal_statistics(path, boxes((2, 9, 2, 9), (18, 40, 2, 9)), stats="shares", pixels=rule)
    frame = result.to_frame()
    assert frame["reason"].fillna("").tolist() == ["", "unreadable"]
    assert [name for name in frame if "share" in str(name)] == ["band_1_share_7", "band_2_share_7"]
    assert result.incomplete


def test_one_of_several_rasters_that_is_lost_is_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a.tif", np.ones((1, 30, 30), np.uint8))
    result = zonal_statistics([a, tmp_path / "gone.tif"], discs(3, 20, 20, 1))
    assert result.incomplete
    assert "a_band_1_mean" in result.to_frame()
    assert result.report["unreadable"].tolist() == [0, 3]
    with pytest.raises(UnreadableError, match="without this part"):
        zonal_statistics(
            [*halves(tmp_path, np.ones((1, 30, 40), np.uint8)), tmp_path / "gone.tif"], discs(3, 20, 20, 1)
        )


def test_a_raster_that_changes_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 30, 30), np.uint8))
    read = rasters.BandStack.read

    def touched(self: Any, *arguments: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return read(self, *arguments)

    monkeypatch.setattr(rasters.BandStack, "read", touched)
    with pytest.raises(UnreadableError, match="was changed while it was read"):
        zonal_statistics(path, discs(3, 20, 20, 1))


def test_a_raster_of_several_that_changes_meanwhile_costs_only_its_own_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / f"{name}.tif", np.ones((1, 30, 30), np.uint8)) for name in "ab"]
    read = rasters.BandStack.read

    def touched(self: Any, *arguments: Any) -> Any:
        os.utime(paths[0], ns=(1, 1))
        return read(self, *arguments)

    monkeypatch.setattr(rasters.BandStack, "read", touched)
    result = zonal_statistics(paths, discs(3, 20, 20, 1))
    assert result.report["unreadable"].tolist() == [3, 0]
    assert result.report["rows"].tolist() == [0, 3]
    assert "a.tif was changed while it was read" in result.why_partly()
    assert result.to_frame()["a_band_1_mean"].isna().all()


def test_statistics_come_besides_the_documented_ones(small: tuple[Path, gpd.GeoDataFrame]) -> None:
    columns = zonal_statistics(*small, stats="median", bands=[1]).to_frame().columns
    names = [str(name).removeprefix("band_1_") for name in columns if str(name).startswith("band_1")]
    assert names == ["count", "nodata", "mean", "std", "min", "max", "median"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stats": "avg"}, UnknownNameError), ({"stats": ["percentile_101"]}, RequestError),
        ({"stats": 5}, RequestError),
        ({"stats": "percentile_<p>"}, UnknownNameError), ({"pixels": "centre"}, UnknownNameError),
        ({"buffer": "wide"}, RequestError), ({"combine": "stack"}, UnknownNameError), ({"multiproc": -1}, RequestError),
        ({"quiet": "no"}, RequestError), ({"id_field": "nope"}, LayerError), ({"rasters": []}, RequestError),
        ({"rasters": 5}, RequestError), ({"rasters": [7]}, RequestError), ({"rasters": ""}, RequestError),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_used(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    path = options.pop("rasters", write(tmp_path / "a.tif", np.ones((1, 9, 9), np.uint8)))
    with pytest.raises(error):
        zonal_statistics(path, discs(1, 5, 5), **options)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.tif")
    write(tmp_path / "a.tif", np.ones((1, 9, 9), np.uint8)).rename(tmp_path / name)
    with pytest.raises(UnreadableError, match="its name is not UTF-8"):
        zonal_statistics(tmp_path / name, discs(1, 5, 5))


# ------------------------------------------------------------------------------------------------ files and process


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, gpd.GeoDataFrame]:
    return write(tmp_path / "a.tif", np.ones((2, 30, 30), np.float32)), discs(3, 20, 20, 1)


def test_files_have_a_json_and_replace_no_other_result(tmp_path: Path, small: tuple[Path, gpd.GeoDataFrame]) -> None:
    path, layer = small
    result = zonal_statistics(path, layer, id_field="plot")
    csv, parquet = result.to_csv(tmp_path / "out" / "w.csv"), result.to_parquet(tmp_path / "out" / "l.parquet", "long")
    note = json.loads(csv.with_suffix(".json").read_text())
    assert note["parameters"]["rasters"] == [str(path)]
    assert [band["band"] for band in note["bands"]] == ["band_1", "band_2"]
    assert note["rows"] == 3
    read = pd.read_csv(csv)
    pd.testing.assert_frame_equal(
        read.drop(columns="reason"), result.to_frame().drop(columns="reason"), check_dtype=False
    )
    assert pq.read_table(parquet).column_names[:3] == ["fid", "plot", "band"]
    assert result.to_csv(csv) == csv  # the same made again
    with pytest.raises(OutputError, match="is another result: table one row per feature in the file"):
        result.to_csv(csv, "long")
    with pytest.raises(OutputError, match="pixel rule center in the file, weighted now"):
        zonal_statistics(path, layer, pixels="weighted").to_csv(csv)
    far = gpd.GeoDataFrame({"plot": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=UTM)
    with pytest.raises(OutputError, match="layer"):
        zonal_statistics(path, far).to_csv(csv)
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match="is a table of another kind"):
        result.to_csv(tmp_path / "mine.csv")
    with pytest.raises(OutputError, match=r"does not end with \.parquet"):
        result.to_parquet(tmp_path / "w.csv")
    with pytest.raises(UnknownNameError):
        result.to_frame("tall")  # type: ignore[arg-type]  # as users may write it


def test_a_table_with_rows_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 30, 30), np.uint8), nodata=0)
    layer, out = discs(3, 20, 20, 1), tmp_path / "t.csv"
    zonal_statistics(path, layer).to_csv(out)
    write(path, np.zeros((1, 30, 30), np.uint8), nodata=0)
    with pytest.raises(EmptyResultError, match="has rows and is kept"):
        zonal_statistics(path, layer).to_csv(out)
    zonal_statistics(path, layer).to_csv(out, overwrite=True)


def test_attributes_named_like_columns_are_renamed(small: tuple[Path, gpd.GeoDataFrame]) -> None:
    path, layer = small
    frame = zonal_statistics(path, layer.rename(columns={"plot": "band_1_mean"})).to_frame()
    assert frame.columns[:2].tolist() == ["fid", "attr_band_1_mean"]


def test_settings_of_the_process_stay_and_nothing_is_written_beside_the_raster(
    tmp_path: Path, small: tuple[Path, gpd.GeoDataFrame]
) -> None:
    path, layer = small
    before = sorted(tmp_path.iterdir())
    with rasterio.Env(GDAL_NUM_THREADS=3, CPL_VSIL_CURL_ALLOWED_EXTENSIONS=".tif"):
        kept = rasterio.env.getenv()
        zonal_statistics(path, layer, stats="median")
        with contextlib.suppress(UnreadableError):
            zonal_statistics(tmp_path / "gone.tif", layer)
        assert rasterio.env.getenv() == kept
    assert sorted(tmp_path.iterdir()) == before
