from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import warnings
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen2chain import cache
from sen2chain.errors import LayerError
from sen2chain.vectors import Layer, datum_note, keep, layer_reader, load, read_layer

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = ("parcels_laea.shp", "parcels_utm32.gpkg", "parcels_wgs84.geojson", "parcels_wgs84.parquet")
CODES = ("EPSG:3035", "EPSG:32632", "EPSG:4326", "EPSG:4326")
SQUARE = shapely.box(11.0, 46.0, 11.01, 46.01)
RING = shapely.Polygon(SQUARE.exterior, [shapely.box(11.002, 46.002, 11.004, 46.004).exterior])
BOW_TIE = shapely.Polygon([(11, 46), (11.01, 46.01), (11.01, 46), (11, 46.01)])


def frame(*shapes: Any, crs: str | None = "EPSG:4326", **columns: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


@pytest.fixture
def parcels() -> gpd.GeoDataFrame:
    return frame(
        SQUARE, RING, shapely.transform(SQUARE, lambda xy: xy + 0.1), crop=["maize", "", None], area=[1.5, 2, 3]
    )


def save(data: gpd.GeoDataFrame, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writer's remarks on formats are not under test
        if path.suffix == ".parquet":
            data.to_parquet(path)
        else:
            data.to_file(path, **options)
    return path


def zipped(path: Path, folder: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    entries = {entry.name: entry.stat() for entry in os.scandir(folder)}
    return {"": (folder.stat().st_mtime_ns, 0)} | {n: (s.st_mtime_ns, s.st_size) for n, s in entries.items()}


def test_four_formats_and_three_crs_are_the_same_parcels(bolzano: Path) -> None:
    layers = [read_layer(bolzano / "vectors" / file) for file in VECTORS]
    for layer, file, code in zip(layers, VECTORS, CODES, strict=True):
        assert layer.crs == code
        assert layer.name == file.rpartition(".")[0]
        assert layer.path == bolzano / "vectors" / file
        assert len(layer.geometry) == len(layer.attributes) == 150
        assert (layer.repaired, layer.null, layer.empty) == ((), (), ())
        pd.testing.assert_frame_equal(layer.attributes_proper, layers[0].attributes)
        there = pyproj.Transformer.from_crs(layer.crs, "EPSG:3035", always_xy=True)
        moved = shapely.transform(layer.geometry, there.transform, interleaved=False)
        assert shapely.area(shapely.symmetric_difference(moved, layers[0].geometry)).max() < 1


def test_each_edge_case_keeps_its_place(bolzano: Path) -> None:
    layer = read_layer(bolzano / "vectors" / "edge_cases_wgs84.geojson")
    names = layer.attributes["name"].tolist()
    assert len(names) == 16
    assert [names[fid] for fid in layer.repaired] == ["bow_tie_invalid"]
    assert [names[fid] for fid in layer.empty] == ["empty"]
    assert [names[fid] for fid in layer.null] == ["none"]
    assert shapely.is_valid(layer.geometry[list(set(range(16)) - set(layer.null))]).all()
    assert not shapely.has_z(layer.geometry).any()
    assert layer.attributes["remark"][0] == "accents: é à ü, tab and ; semicolon"
    assert layer.attributes["remark"][1] in {"", None}


def test_a_bow_tie_becomes_its_two_triangles_and_holes_stay() -> None:
    layer = read_layer(frame(BOW_TIE, RING))
    assert layer.repaired == (0,)
    assert layer.geometry[0].geom_type == "MultiPolygon"
    assert shapely.area(layer.geometry[0]) == pytest.approx(0.01 * 0.01 / 2)
    assert shapely.equals_exact(layer.geometry[1], RING)


def test_what_nothing_is_left_of_counts_as_empty() -> None:
    collapsed = shapely.Polygon([(0, 0), (1, 1), (0, 0)])
    layer = read_layer(frame(collapsed, None, shapely.Polygon(), shapely.Point(np.inf, 1), SQUARE))
    assert (layer.repaired, layer.null, layer.empty) == ((), (1,), (0, 2, 3))


def test_senseless_coordinates_cost_one_feature_each() -> None:
    with np.errstate(invalid="ignore"):  # shapely's, on NaN
        shapes = [
            shapely.Polygon([(0, 0), (1, 0), (-sys.float_info.max, -sys.float_info.max)]),
            SQUARE,
            shapely.Polygon([(0, 0), (1, 0), (np.nan, 1)]),
            shapely.Polygon([(0, 0), (1, 1), (1, 0), (np.inf, 1)]),
            shapely.LineString([(0, 0), (1e20, 1)]),
            shapely.MultiPoint([(0, 0), (1, np.nan)]),
            shapely.box(-1e12, -1e12, 1e12, 1e12),
            shapely.LineString([(0, 0, np.nan), (1, 1, np.inf)]),  # a height may be what it likes
        ]
        given = frame(*shapes, crs="EPSG:32632")
    layer = read_layer(given)
    assert layer.empty == (0, 2, 3, 4, 5)
    assert layer.notes == (
        "5 of 8 features have coordinates that are not finite or beyond 1e12 and are left out (fid 0, 2, 3, 4, 5).",
    )
    assert shapely.equals(layer.geometry[[1, 6]], [shapes[1], shapes[6]]).all()


def test_a_ring_that_cannot_be_repaired_in_reasonable_time_costs_one_feature() -> None:
    points = np.random.default_rng(1).uniform(0, 1000, (20_000, 2))
    begun = time.process_time()
    layer = read_layer(frame(BOW_TIE, shapely.Polygon(points), SQUARE, crs="EPSG:32632"))
    assert time.process_time() - begun < 30
    assert (layer.repaired, layer.empty) == ((0,), (1,))
    (note,) = layer.notes
    assert "1 of 3 features have rings that cross themselves too often" in note
    assert "(fid 1)" in note


def test_a_repair_that_fails_costs_one_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shapely.make_valid

    def fails(shape: Any, **options: Any) -> Any:
        if shapely.get_num_coordinates(shape) > 5:
            raise shapely.GEOSException("TopologyException")
        return real(shape, **options)

    monkeypatch.setattr(shapely, "make_valid", fails)
    worse = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1), (-1, 3)])
    layer = read_layer(frame(worse, BOW_TIE))
    assert (layer.repaired, layer.empty) == ((1,), (0,))
    assert layer.notes == ("1 of 2 features have rings that cannot be repaired and are left out (fid 0).",)


@pytest.mark.parametrize("crs", ["ESRI:54030", "ESRI:54009"])  # Robinson, Mollweide
def test_what_crosses_180_degrees_uncut_is_cut_where_meridians_are_not_parallel(crs: str) -> None:
    hole = [(179.95, 50.5), (-179.95, 50.5), (-179.95, 50.6), (179.95, 50.6)]
    shapes = [
        shapely.Polygon([(-179.9, 50), (179.9, 50), (179.9, 51), (-179.9, 51)], [hole]),
        shapely.MultiPolygon([shapely.box(179.9, 5, 179.99, 5.1), shapely.box(-179.99, 5, -179.9, 5.1)]),
        shapely.box(-60, 5, 60, 6),
    ]
    given = gpd.GeoSeries(shapes, crs="EPSG:4326").to_crs(crs)
    layer = read_layer(gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=given))
    assert layer.notes == (
        (
            "1 of 3 features have an edge longer than half way around the earth, "
            "taken for one across the 180th meridian (fid 0)."
        ),
    )
    sides = shapely.MultiPolygon([shapely.box(179.9, 50, 180, 51), shapely.box(-180, 50, -179.9, 51)])
    sides -= shapely.MultiPolygon([shapely.box(179.95, 50.5, 180, 50.6), shapely.box(-180, 50.5, -179.95, 50.6)])
    wanted = gpd.GeoSeries([sides], crs="EPSG:4326").to_crs(crs)[0]
    assert shapely.area(layer.geometry[0] ^ wanted) < 0.01 * wanted.area
    assert shapely.equals_exact(layer.geometry[1:], np.asarray(given[1:])).all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:6933"])
def test_what_crosses_180_degrees_uncut_is_one_piece_again(crs: str) -> None:
    hole = [(179.95, 50.5), (-179.95, 50.5), (-179.95, 50.6), (179.95, 50.6)]
    east_hole = [(-179.94, 50.2), (-179.92, 50.2), (-179.92, 50.3)]
    shapes = [
        shapely.box(-179.9, -17, 179.9, -16.9),
        shapely.Polygon([(-179.9, 50), (179.9, 50), (179.9, 51), (-179.9, 51)], [hole, east_hole]),
        shapely.MultiPolygon([shapely.box(-179.9, 5, 179.9, 5.1), shapely.box(3, 5, 3.1, 5.1)]),
        shapely.LineString([(179.9, 0), (-179.9, 1)]),
        shapely.Polygon([(-170, 80), (-60, 80), (60, 80), (170, 80)]),  # around the pole
        # As they are: in two parts, a part of the world, frames of the world, and what is not wide.
        shapely.MultiPolygon([shapely.box(179.9, 5, 180, 5.1), shapely.box(-180, 5, -179.9, 5.1)]),
        shapely.box(-80, -60, 98, 60),
        shapely.box(-180, -10, 180, 10),
        shapely.box(-179, -80, 179, 80),
        SQUARE,
        shapely.MultiPoint([(-179, 0), (179, 0)]),
    ]
    given = gpd.GeoSeries(shapes, crs="EPSG:4326").to_crs(crs)
    layer = read_layer(gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=given))
    assert layer.notes == (
        (
            "4 of 11 features have an edge longer than half way around the earth, "
            "taken for one across the 180th meridian (fid 0, 1, 2, 3)."
        ),
        "1 of 11 features lie around a pole and are left out; cut them at the 180th meridian (fid 4).",
    )
    assert layer.empty == (4,)
    assert layer.repaired == ()
    assert shapely.equals_exact(layer.geometry[5:], np.asarray(given[5:])).all()
    degree = shapely.bounds(given)[9, 2] - shapely.bounds(given)[9, 0]
    degree /= SQUARE.bounds[2] - SQUARE.bounds[0]
    widths = layer.bounds[:4, 2] - layer.bounds[:4, 0]
    np.testing.assert_allclose(widths / degree, [0.2, 0.2, 176.9 + 0.2, 0.2], rtol=1e-6)
    assert shapely.is_valid(layer.geometry[1])
    shell = shapely.Polygon(layer.geometry[1].exterior)
    assert [shapely.contains(shell, shapely.Polygon(ring)) for ring in layer.geometry[1].interiors] == [True, True]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.tuples(*2 * [st.integers(0, 5)]), min_size=3, max_size=9), min_size=1, max_size=3))
def test_repaired_polygons_stay_polygons_and_are_valid(rings: list[list[tuple[int, int]]]) -> None:
    layer = read_layer(frame(shapely.MultiPolygon([(ring, []) for ring in rings])))
    assert layer.geometry[0].geom_type in {"Polygon", "MultiPolygon"}
    assert shapely.is_valid(layer.geometry[0])
    assert bool(layer.empty) == bool(layer.geometry[0].area == 0)


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson", ".fgb", ".kml", ".gml", ".parquet"])
def test_every_format_is_the_same_layer_and_its_folder_stays_as_it_is(
    tmp_path: Path, parcels: gpd.GeoDataFrame, suffix: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    # FlatGeobuf orders features along a curve when it builds its index.
    options = {".fgb": {"SPATIAL_INDEX": "NO"}, ".kml": {"driver": "KML"}}.get(suffix, {})
    file = save(parcels, folder / f"parcels{suffix}", **options)
    for side in folder.glob("*.gfs"):
        side.unlink()
    before = snapshot(folder)
    layer = read_layer(str(file))
    assert snapshot(folder) == before
    assert layer.name == "parcels"
    assert layer.crs == "EPSG:4326"
    assert [shape.geom_type for shape in layer.geometry] in (["Polygon"] * 3, ["MultiPolygon"] * 3)
    if suffix == ".kml" and "LIBKML" not in pyogrio.list_drivers():
        return  # GDAL's older KML reader gives geometries and no attributes
    assert layer.attributes["area"].astype(float).tolist() == [1.5, 2, 3]
    if suffix not in {".kml", ".gml"}:  # they add attributes of their own
        assert list(layer.attributes_proper) == ["crop", "area"]
        assert layer.content_identity == read_layer(parcels).content_identity


def test_zipped_layers(tmp_path: Path, parcels: gpd.GeoDataFrame) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(parcels, folder / "fields.shp")
    for path, inside in (("flat.zip", ""), ("nested.shp.zip", "deep/down/")):
        layer = read_layer(zipped(tmp_path / path, folder, inside))
        assert layer.name == path.partition(".")[0]
        assert len(layer.geometry) == 3
    save(parcels, folder / "others.shp")
    archive = zipped(tmp_path / "both.zip", folder)
    with pytest.raises(LayerError, match="fields, others"):
        read_layer(archive)
    assert read_layer(archive, layer="others").name == "both-others"


def test_a_geopackage_open_elsewhere_is_read_as_it_is_now_and_left_alone(
    tmp_path: Path, parcels: gpd.GeoDataFrame
) -> None:
    file = save(parcels, tmp_path / "parcels.gpkg")
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # The triggers of its spatial index call functions that only GDAL brings.
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("UPDATE parcels SET crop = 'wheat' WHERE fid = 1")
        connection.commit()
        before = snapshot(tmp_path)
        assert "parcels.gpkg-wal" in before
        assert read_layer(file).attributes["crop"][0] == "wheat"
        assert snapshot(tmp_path) == before
    finally:
        connection.close()


def test_one_of_several_layers_must_be_named(tmp_path: Path, parcels: gpd.GeoDataFrame) -> None:
    file = save(parcels, tmp_path / "farm.gpkg", layer="fields")
    assert read_layer(file).name == "farm"
    assert read_layer(file, layer="fields").name == "farm"
    save(parcels[:1], file, layer="plots")
    with pytest.raises(LayerError, match=r"farm\.gpkg has several layers \(fields, plots\); name one"):
        read_layer(file)
    with pytest.raises(LayerError, match="no layer 'forest'; it has fields, plots"):
        read_layer(file, layer="forest")
    assert read_layer(file, layer="plots").name == "farm-plots"
    assert read_layer(file, layer="plots", name="mine").name == "mine"


def wkt_layer(folder: Path, kind: str, wkt: str) -> Path:
    """Give a layer of types that geopandas cannot write."""
    (folder / "wkt.csv").write_text(f'id,WKT\n1,"{wkt}"\n')
    (folder / "wkt.vrt").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="wkt"><SrcDataSource relativeToVRT="1">wkt.csv</SrcDataSource>'
        f"<GeometryType>{kind}</GeometryType><LayerSRS>EPSG:32632</LayerSRS>"
        '<GeometryField encoding="WKT" field="WKT"/></OGRVRTLayer></OGRVRTDataSource>'
    )
    return folder / "wkt.vrt"


def test_curves_become_lines(tmp_path: Path) -> None:
    disk = wkt_layer(tmp_path, "wkbUnknown", "CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0))")
    assert shapely.area(read_layer(disk).geometry[0]) == pytest.approx(np.pi, rel=1e-2)


def test_a_remark_of_the_reader_is_logged_and_no_warning_leaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = wkt_layer(tmp_path, "wkbPointZM", "POINT ZM (1 2 3 4)")
    with caplog.at_level("INFO", logger="sen2chain"):
        assert read_layer(file).geometry[0].wkt == "POINT (1 2)"
    assert "Measured" in caplog.text


def test_a_geodataframe_whatever_its_index(parcels: gpd.GeoDataFrame) -> None:
    layer = read_layer(parcels.set_index(pd.Index([7, 3, 3])), field_names=["crop", "area"])
    assert (layer.name, layer.path) == ("layer", None)
    assert layer.attributes.index.tolist() == [0, 1, 2]
    assert layer.attributes["crop"].tolist() == ["maize", "", None]
    assert read_layer(parcels, name="a/b").name == "a_b"


def test_attributes_never_clash_with_columns_of_the_result() -> None:
    layer = read_layer(frame(SQUARE, date=["x"], attr_date=["y"], mean=[1], mask=[2], Mean=[3]), field_names="date")
    assert list(layer.attributes) == ["attr_attr_date", "attr_date", "attr_mean", "attr_mask", "Mean"]
    assert layer.attributes["attr_date"].tolist() == ["y"]
    assert layer.attributes["attr_attr_date"].tolist() == ["x"]


def test_attribute_values_fit_on_one_line() -> None:
    layer = read_layer(
        frame(
            SQUARE,
            RING,
            text=["a\tb\r\nc", None],
            day=pd.to_datetime(["2021-03-05", "NaT"]),
            time=pd.to_datetime(["2021-03-05 06:07", "NaT"]),
            listed=[[1, 2], None],
            kind=pd.Categorical(["k", None]),
            flag=[True, False],
            more=gpd.GeoSeries([SQUARE, None]),
        )
    )
    row = layer.attributes.iloc[0]
    assert row[["text", "day", "listed", "kind"]].tolist() == ["abc", "2021-03-05", "[1, 2]", "k"]
    assert row["more"].startswith("POLYGON ((")
    assert row["time"] == pd.Timestamp("2021-03-05 06:07")
    assert layer.attributes["flag"].dtype == bool
    assert layer.attributes.iloc[1].isna().drop("flag").all()


def test_identity_follows_geometry_and_crs_only(parcels: gpd.GeoDataFrame) -> None:
    layer = read_layer(parcels)
    assert layer.identity == read_layer(parcels.assign(crop="other")).identity
    assert layer.identity == read_layer(parcels.set_crs("OGC:CRS84", allow_override=True)).identity
    assert layer.identity != read_layer(parcels.set_crs("EPSG:4258", allow_override=True)).identity
    assert layer.identity != read_layer(parcels[::-1]).identity
    nudged = parcels.set_geometry(shapely.transform(parcels.geometry.array, lambda xy: xy + 1e-13))
    assert layer.identity != read_layer(nudged).identity
    assert layer.content_identity == read_layer(nudged).content_identity
    assert layer.content_identity != read_layer(parcels.assign(crop="other")).content_identity
    turned = parcels.set_geometry([shapely.MultiPolygon([shape]).reverse() for shape in parcels.geometry])
    assert layer.content_identity == read_layer(turned).content_identity
    shortened = parcels.assign(area=[1.5, 2.0, 3.0], crop=["maize", None, None]).rename(columns={"crop": "c"})
    assert layer.content_identity == read_layer(shortened).content_identity


def test_a_crs_without_code_is_kept_as_text() -> None:
    layer = read_layer(frame(SQUARE, crs="+proj=laea +lat_0=46 +lon_0=11 +units=m"))
    assert pyproj.CRS(layer.crs).is_projected
    assert layer.content_identity == read_layer(frame(SQUARE, crs=layer.crs)).content_identity
    assert read_layer(frame(SQUARE, crs="EPSG:4326+5773")).crs == "EPSG:4326"


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".fgb", ".parquet"])
def test_no_crs(tmp_path: Path, parcels: gpd.GeoDataFrame, suffix: str) -> None:
    file = save(parcels.set_crs(None, allow_override=True), tmp_path / f"parcels{suffix}")
    with pytest.raises(LayerError, match=rf"parcels\{suffix} has no coordinate reference system; assign"):
        read_layer(file)


def test_no_crs_of_the_shared_file(bolzano: Path) -> None:
    with pytest.raises(LayerError, match=r"no_crs\.shp has no coordinate reference system"):
        read_layer(bolzano / "vectors" / "no_crs.shp")


def test_unusable_layers_are_named(tmp_path: Path, parcels: gpd.GeoDataFrame) -> None:
    with pytest.raises(LayerError, match=r"missing\.shp does not exist"):
        read_layer(tmp_path / "missing.shp")
    for name in ("text.gpkg", "text.shp", "text.parquet", "text.zip", "text.geojson", "text.doc"):
        (tmp_path / name).write_text("no layer at all")
        with pytest.raises(LayerError, match=rf"{name} cannot be read \(.*\); check") as caught:
            read_layer(tmp_path / name)
        assert "\n" not in str(caught.value)
    for suffix in (".fgb", ".gpkg", ".geojson", ".shp", ".parquet"):
        file = save(parcels, tmp_path / f"cut{suffix}")
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
        with pytest.raises(LayerError, match=rf"cut\{suffix} cannot be read"):
            read_layer(file)
    with pytest.raises(LayerError, match="The GeoDataFrame has no features"):
        read_layer(parcels[:0])
    with pytest.raises(LayerError, match=r"empty\.gpkg has no features"):
        read_layer(save(parcels[:0], tmp_path / "empty.gpkg"))
    with pytest.raises(LayerError, match="The GeoDataFrame has no geometry"):
        read_layer(gpd.GeoDataFrame({"a": [1]}))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LayerError, match=r"table\.csv has no geometry"):
        read_layer(tmp_path / "table.csv")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(LayerError, match=r"table\.parquet cannot be read"):
        read_layer(tmp_path / "table.parquet")
    with pytest.raises(LayerError, match="has no layer 'x'; it has one"):
        read_layer(save(parcels, tmp_path / "one.parquet"), layer="x")
    with pytest.raises(LayerError, match="has no attribute 'Crop'; its attributes are: crop, area"):
        read_layer(parcels, field_names=["area", "Crop"])


def test_home_is_understood(tmp_path: Path, parcels: gpd.GeoDataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    save(parcels, tmp_path / "parcels.gpkg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read_layer("~/parcels.gpkg").path == tmp_path / "parcels.gpkg"


# ---------------------------------------------------------------------------------------------------------------- saved


def aged(path: Path, seconds: float = 10.0) -> Path:
    """Make the files of a layer older than file systems' clocks are coarse."""
    for file in path.parent.iterdir():
        status = file.stat()
        os.utime(file, (status.st_atime, status.st_mtime - seconds))
    return path


def assert_same_layer(one: Layer, two: Layer) -> None:
    for name in ("name", "path", "crs", "repaired", "null", "empty", "identity", "content_identity"):
        assert getattr(one, name) == getattr(two, name), name
    np.testing.assert_array_equal(one.bounds, two.bounds)
    assert len(one) == len(two)
    assert all(a is b is None or shapely.equals_exact(a, b) for a, b in zip(one.geometry, two.geometry, strict=True))
    pd.testing.assert_frame_equal(one.attributes, two.attributes)


def test_a_layer_that_a_former_version_kept_for_workers_is_kept_anew(tmp_path: Path) -> None:
    layer = read_layer(frame(SQUARE, a=[1]))
    kept = keep(layer, tmp_path)
    assert kept is not None
    table = cache.load(kept)
    assert table is not None
    note = json.loads(table.schema.metadata[b"sen2chain"])
    former = json.dumps({name: value for name, value in note.items() if name not in {"outside", "notes"}}).encode()
    kept.unlink()
    cache.save(tmp_path / f"{layer.identity[:32]}-shapes.arrow", table.replace_schema_metadata({b"sen2chain": former}))
    kept = keep(layer, tmp_path)
    assert kept is not None
    found = load(kept)
    assert found is not None
    assert found.identity == layer.identity


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson", ".parquet"])
def test_a_saved_layer_is_the_layer_that_was_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame(
        SQUARE, RING, None, shapely.Polygon(), BOW_TIE,
        crop=["maize", "", None, 'é, "x"', "b"], area=[1.5, 2, None, 3, 4], n=[1, 2, 3, 4, 5],
        flag=[True, False, True, True, False], fid=[5, 4, 3, 2, 1],
    )  # fmt: skip
    folder = tmp_path / "in"
    folder.mkdir()
    path = aged(save(data, folder / f"parcels{suffix}"))
    fresh = read_layer(path, cache=tmp_path / "cache")
    assert fresh.saved is not None
    assert fresh.saved.parent == tmp_path / "cache"
    monkeypatch.setattr(layer_reader, "_read_file", lambda *_: pytest.fail("the file was read again"))
    found = read_layer(path, cache=tmp_path / "cache", field_names="crop")
    assert_same_layer(found, fresh)
    monkeypatch.undo()
    assert_same_layer(found, replace(read_layer(path), saved=found.saved))
    named = read_layer(path, name="other", cache=tmp_path / "cache")
    assert named.name == "other"
    with pytest.raises(LayerError, match="no attribute 'nothing'"):
        read_layer(path, field_names="nothing", cache=tmp_path / "cache")


@pytest.mark.parametrize("change", ["bytes", "time", "side file", "layer"])
def test_a_layer_that_may_have_changed_is_read_again(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = aged(save(frame(SQUARE, crop=["a"]), folder / "parcels.shp"))
    read_layer(path, cache=tmp_path / "cache")
    if change == "bytes":
        save(frame(SQUARE, RING, crop=["a", "b"]), path)
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "side file":
        os.utime(path.with_suffix(".dbf"), (1, 1))
    found = read_layer(path, "parcels" if change == "layer" else None, cache=tmp_path / "cache")
    assert len(found) == (2 if change == "bytes" else 1)
    # A file that was changed just now may change again without another time, so it is not kept.
    assert len(list((tmp_path / "cache").iterdir())) == (1 if change == "bytes" else 2)


def test_without_a_cache_that_works_a_layer_is_read_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = aged(save(frame(SQUARE), folder / "parcels.gpkg"))
    (tmp_path / "file").write_text("")
    layer = read_layer(path, cache=tmp_path / "file")
    assert (len(layer), layer.saved) == (1, None)
    layer = read_layer(path, cache=tmp_path / "cache")
    assert layer.saved is not None
    layer.saved.write_bytes(layer.saved.read_bytes()[:-1])
    assert len(read_layer(path, cache=tmp_path / "cache")) == 1
    assert list(layer.attributes_proper) == []


@pytest.mark.parametrize("name", ["a!b", "a;b", "a?b", "a\nb", "a.zip_b", "100 %"])
def test_a_path_that_readers_take_for_something_else(tmp_path: Path, parcels: gpd.GeoDataFrame, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    save(parcels, tmp_path / "plain.shp")
    for file in tmp_path.glob("plain.*"):
        file.rename(folder / f"{name}{file.suffix}")
    before = snapshot(folder)
    layer = read_layer(folder / f"{name}.shp", layer=name)
    assert (len(layer), layer.name) == (3, name.replace("\n", "_"))
    assert snapshot(folder) == before


def placed(crs: str, longitude: float, latitude: float) -> Layer:
    """Make a layer of one square in a CRS."""
    square = gpd.GeoSeries([shapely.box(longitude, latitude, longitude + 0.01, latitude + 0.01)], crs="EPSG:4326")
    return read_layer(gpd.GeoDataFrame({"n": [0]}, geometry=square.to_crs(crs)))


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude", "words"),
    [
        ("EPSG:31468", 11.5, 48.5, ["DHDN", "3 m", "1 m", "pyproj sync --file de_adv_BETA2007.tif", "PROJ_NETWORK"]),
        ("EPSG:27700", -1.5, 52.5, ["OSGB36", "2 m", "uk_os_OSTN15_NTv2_OSGBtoETRS.tif"]),
        ("EPSG:26711", -116.5, 35.5, ["NAD27", "7 m", "us_noaa_conus.tif"]),
        ("EPSG:2029", -79.5, 44.5, ["NAD27(76)", "no shift", "ca_nrc_MAY76V20.tif"]),
        ("EPSG:4301", 139.5, 35.5, ["Tokyo", "9 m", "no better one"]),
        ("EPSG:31700", 25.5, 45.5, ["Dealul Piscului", "no shift"]),
    ],
)
def test_a_poor_datum_shift_is_told(crs: str, longitude: float, latitude: float, words: list[str]) -> None:
    if pyproj.network.is_network_enabled():  # type: ignore[attr-defined]  # its annotations leave it out
        pytest.skip("PROJ has all grids from the network")
    layer = placed(crs, longitude, latitude)
    before = list(warnings.filters)
    note = datum_note(layer)
    assert warnings.filters == before
    for word in words:
        assert word in note
    assert "\n" not in note


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude"),
    [
        ("EPSG:4326", 9.5, 46.5), ("EPSG:3857", 9.5, 46.5), ("EPSG:32632", 9.5, 46.5), ("EPSG:32719", -70.5, -33.5),
        ("EPSG:4258", 9.5, 46.5), ("EPSG:4258", -8.5, 38.5), ("EPSG:4258", 28.5, 40.5), ("EPSG:25832", 9.5, 46.5),
        ("EPSG:25835", 25.5, 60.5), ("EPSG:2154", 2.5, 46.5), ("EPSG:28992", 5.5, 52.5), ("EPSG:3035", 24.5, 60.5),
        ("EPSG:2056", 7.5, 46.5), ("EPSG:2193", 174.5, -41.5), ("EPSG:28355", 147.5, -36.5),
        ("EPSG:4674", -46.5, -14.5),
        ("EPSG:4490", 110.5, 30.5), ("EPSG:6668", 139.5, 35.5), ("EPSG:9000", 9.5, 46.5), ("EPSG:2975", 55.5, -21.1),
    ],
)  # fmt: skip
def test_a_good_datum_shift_is_not_worth_a_word(crs: str, longitude: float, latitude: float) -> None:
    assert datum_note(placed(crs, longitude, latitude)) == ""


def test_no_place_and_a_datum_of_its_own_are_no_trouble_for_the_datum_note() -> None:
    assert datum_note(Layer.of(np.array([None, shapely.Polygon()]), "EPSG:31468"))
    far = Layer.of(np.array([shapely.box(-1e12, -1e12, 1e12, 1e12)]), "EPSG:31468")
    assert "DHDN" in datum_note(far)
    own = "+proj=utm +zone=32 +ellps=bessel +no_defs"
    assert "no shift" in datum_note(Layer.of(np.array([shapely.box(6e5, 5e6, 6.1e5, 5.1e6)]), own))
    modern = "+proj=utm +zone=32 +ellps=GRS80 +no_defs"
    assert datum_note(Layer.of(np.array([shapely.box(6e5, 5e6, 6.1e5, 5.1e6)]), modern)) == ""
