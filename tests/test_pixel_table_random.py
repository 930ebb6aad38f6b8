"""Pixel tables and chips of random layers hold what the rasters hold, and as many pixels as the rows count."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
from kept_folders import keep
from sen2chain import Index, TimeSeries, demo

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 60
BANDS = ("B03", "B04", "B08", "B11", "SCL")
INDICES: dict[str, tuple[Index | str, tuple[str, ...], oracle.Formula]] = {
    "NDVI": ("NDVI", *oracle.FORMULAS["NDVI"]),
    "MNDWI": ("MNDWI", *oracle.FORMULAS["MNDWI"]),
    "SAVI": (Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)"), ("B08", "B04"), lambda n, r: 1.5 * (n - r) / (n + r + 0.5)),
    "DARK": (Index("DARK", "B03*0.25-0.01"), ("B03",), lambda g: g * 0.25 - 0.01),
}
MASKS = {"none": ((), 0), "SCL-3-8-9-ITER2": ((3, 8, 9), 2), "CM004-CSH1-CMP1-CHP0-TCI1-ITER1": ((3, 8, 10), 1)}
RULES = ("center", "all_touched", "weighted")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive of a clouded date and of one whose swath ends in the tile, and kept pixels of most of the tile."""
    base = tmp_path_factory.mktemp("random")
    clouded, cut = demo.season(2)
    passes = (replace(clouded, cloud=0.4), replace(cut, cloud=0.1, edge=0.6))
    scene = demo.Scene(tiles=("31TGJ",), size=SIZE, parcels=2, overpasses=passes, bands=BANDS)
    library = demo.build(base, scene).library
    (frame,) = scene.frames()
    most = shapely.box(frame.left - 150, frame.top - 500, frame.left + 450, frame.top + 50)
    ts = TimeSeries(gpd.GeoDataFrame(geometry=[most], crs=f"EPSG:{frame.epsg}"), "NDVI", library=library, quiet=True)
    return library, keep(base / "kept", ts.source, ts._engine.layer).root


@st.composite
def layers(draw: st.DrawFn) -> list[shapely.Geometry]:
    """Draw features near a raster whose corner is 0, 0: overlapping, tiny, points, lines, partly or wholly outside."""
    # No edge meets the centre or the edge of a pixel, which would then belong to either side by rounding.
    at = st.integers(-90, 660).map(lambda n: n + 0.37)
    length = st.sampled_from([0.31, 3.21, 12.43, 47.19, 151.27])
    found: list[shapely.Geometry] = []
    for kind in draw(st.lists(st.sampled_from(["box", "box", "triangle", "point", "line"]), min_size=1, max_size=5)):
        x, y, wide, high = draw(at), draw(at), draw(length), draw(length)
        corners = [(x, -y), (x + wide, -y - high / 3), (x + wide / 2, -y - high)]
        found.append({
            "box": shapely.box(x, -y - high, x + wide, -y), "triangle": shapely.Polygon(corners),
            "point": shapely.Point(x, -y), "line": shapely.LineString(corners),
        }[kind])  # fmt: skip
    return found


def expected_pixels(shape: shapely.Geometry, transform: Any, rule: str) -> Any:
    """Give the share of each pixel of the raster that belongs to a feature: of points and lines all that they touch."""
    if rule == "weighted" and shape.area:
        share = oracle.coverage(shape, (SIZE, SIZE), transform)
        return np.where(share > 1e-8, share, 0)
    return oracle.burn(shape, (SIZE, SIZE), transform, all_touched=rule == "all_touched" or not shape.area).astype(
        float
    )


def expected_values(safe: oracle.Safe, names: list[str], masks: list[str]) -> dict[str, Any]:
    """Give what a table has in its columns, as images of 10 m; NaN without data."""
    offsets, quantification = safe.radiometry()
    found: dict[str, Any] = {
        band: oracle.reflectance(safe.raster(band).values, offsets[band], quantification, twenty=band == "B11")
        for band in BANDS
        if band != "SCL"
    }
    for name in names:
        _, bands, formula = INDICES[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            values, ties = oracle.scale(formula(*(found[band] for band in bands)))
        found[name] = np.where(values == oracle.NODATA, np.nan, values)
        found[f"{name} ties"] = ties
    scl = np.asarray(safe.raster("SCL").values)
    found["SCL"] = oracle.nearest(scl)
    for mask in masks:
        found[f"masked_{mask.split('-')[0]}"] = oracle.nearest(oracle.classes(scl, *MASKS[mask]))
    return found


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pixels_are_those_of_the_rasters_and_of_the_rows(
    places: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    library, kept = places
    safes = [oracle.Safe(path) for path in sorted(library.glob("**/*.SAFE"))]
    red = safes[0].raster("B04")
    left, top = red.transform.c, red.transform.f
    drawn = data.draw(layers())
    shapes = [shapely.affinity.translate(shape, left, top) for shape in drawn]
    names = data.draw(st.lists(st.sampled_from([*INDICES]), min_size=1, max_size=2, unique=True))
    masks = data.draw(st.lists(st.sampled_from([*MASKS]), min_size=1, max_size=2, unique=True))
    rule = data.draw(st.sampled_from(RULES))
    ts = TimeSeries(
        gpd.GeoDataFrame(geometry=shapes, crs=red.crs), [INDICES[name][0] for name in names], masks=masks, pixels=rule,
        keep_empty=data.draw(st.booleans()), library=library, pixels_from=data.draw(st.sampled_from([None, kept])),
        executor="serial", quiet=True, name="random",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("out")
    written = ts.to_pixels(folder, bands=["B04", "B11"])
    chips = ts.to_pixels(folder, "zarr", bands=["B04", "B11"])
    frame: Any = pd.read_parquet(written.path) if written.files else pd.DataFrame({"fid": [], "date": []})
    values = {safe.id: expected_values(safe, names, masks) for safe in safes}
    rows: Any = pd.concat([table.reset_index() for table in ts.data.values()]).drop_duplicates(["fid", "date"])
    rows = rows[rows["nodata"] + rows["count"] > 0].set_index(["fid", "date"])
    assert len(frame) == written.rows == chips.rows
    compared = 0
    for fid, safe in itertools.product(range(len(shapes)), safes):
        share = expected_pixels(shapes[fid], red.transform, rule)
        own = frame[(frame["fid"] == fid) & (frame["date"] == safe.date)]
        if (fid, safe.date) not in rows.index or not share.any():
            assert own.empty
            continue
        compared += len(own)
        row, column = np.nonzero(share)
        x, y = left + 10 * (column + 0.5), top - 10 * (row + 0.5)
        np.testing.assert_array_equal(own["x"], x)
        np.testing.assert_array_equal(own["y"], y)
        total = rows.loc[(fid, safe.date), "count"] + rows.loc[(fid, safe.date), "nodata"]
        inside = shapely.box(0, -10 * SIZE, 10 * SIZE, 0).buffer(-10, join_style="mitre")
        if inside.contains(drawn[fid]):
            assert total == pytest.approx(own["weight"].sum() if rule == "weighted" else len(own), rel=1e-5)
        else:
            assert total >= share.sum() * (1 - 1e-5)
        if rule == "weighted":
            np.testing.assert_allclose(own["weight"], share[row, column], rtol=1e-5, atol=1e-7)
        for name, image in values[safe.id].items():
            if name not in own:
                continue
            good = ~values[safe.id][f"{name} ties"][row, column] if name in INDICES else np.ones(len(own), bool)
            got = own[name].astype(float).to_numpy()
            np.testing.assert_allclose(got[good], image[row, column][good], rtol=1e-6, atol=1e-8, err_msg=name)
    assert compared == len(frame)
    for fid, own in frame.groupby("fid"):
        with xr.open_zarr(chips.path, group=f"31TGJ/{fid}", chunks=None) as chip:
            assert_same_pixels(chip, own, names)
    assert chips.files == frame["fid"].nunique()


def assert_same_pixels(chip: xr.Dataset, frame: Any, names: list[str]) -> None:
    """Compare the group of a feature with its rows in the table."""
    assert chip.indexes["date"].tolist() == sorted(frame["date"].unique().tolist())
    place = {
        axis: xr.DataArray(chip.indexes[axis].get_indexer(frame[axis]), dims="pixel") for axis in ("date", "x", "y")
    }
    pixels = chip.isel(place)
    weights = chip["weight"] if "weight" in chip else chip["inside"]
    assert np.count_nonzero(weights) * chip.sizes["date"] == len(frame)
    for name in (*names, "SCL", *(["weight"] if "weight" in chip else [])):
        own = pixels[name] if name != "weight" else weights.isel({axis: place[axis] for axis in ("x", "y")})
        np.testing.assert_array_equal(own, frame[name].astype(float), err_msg=name)
    for band in ("B04", "B11"):
        np.testing.assert_array_equal(pixels["reflectance"].sel(band=band), frame[band].astype(float), err_msg=band)
    for k, column in enumerate(frame.columns[frame.columns.str.startswith("masked")]):
        np.testing.assert_array_equal(pixels["masked"].isel(mask=k), frame[column], err_msg=column)
    outside = weights.to_numpy() == 0
    assert not chip["masked"].to_numpy()[..., outside].any() if "masked" in chip else True
    assert np.isnan(chip["reflectance"].to_numpy()[..., outside]).all()
