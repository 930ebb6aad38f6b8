"""GeoPackages: read back by pyogrio and ogrinfo, and checked against the standard with sqlite3."""

from __future__ import annotations

import datetime as dt
import json
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from click.testing import CliRunner

from index_series_double import STATISTICS, index_series, layer_features, squares
from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive.memory_source import MemorySource
from sen2chain.cli import main
from sen2chain.errors import EmptyResultError, OutputError
from sen2chain.export import estimated_geopackage_size, geopackage_provenance, write_geopackage
from sen2chain.export.qgis_styles import class_limits
from sen2chain.indices import Index
from sen2chain.legends import LEGENDS, Legend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sen2chain.index_series import IndexSeries

DATES = ("2021-01-07T10:21:31", "2021-01-12T10:22:31", "2021-01-17T10:23:31", "2021-02-01T10:20:00")
BANDS = ("B04", "B08", "SCL", "CLDPRB")
PROVENANCE = {"parameters": {"masks": ["CM001"]}, "products": [{"acquisition": "S2A"}], "rows": 12}
OGRINFO = shutil.which("ogrinfo")
# A CRS of somebody's own: no authority has a code for it.
OWN_CRS = (
    'PROJCRS["Fields",BASEGEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563,'
    'LENGTHUNIT["metre",1]]]],CONVERSION["own",METHOD["Transverse Mercator"],PARAMETER["Latitude of natural origin",0],'
    'PARAMETER["Longitude of natural origin",10.37],PARAMETER["Scale factor at natural origin",1],'
    'PARAMETER["False easting",500000],PARAMETER["False northing",0]],CS[Cartesian,2],AXIS["easting",east],'
    'AXIS["northing",north],LENGTHUNIT["metre",1]]'
)


def write(path: Path, series: Sequence[IndexSeries]) -> Path:
    assert write_geopackage(series, path, PROVENANCE) == sum(one.rows for one in series)
    assert {one.name for one in path.parent.iterdir() if one.is_file()} == {path.name, f"{path.stem}.json"}
    return path


def ask(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as base:
        return base.execute(query, values).fetchall()


def read(path: Path, layer: str) -> Any:
    frame = pyogrio.read_dataframe(path, layer=layer, fid_as_index=True)
    if "row_id" in frame:  # of a view, in GDAL with an SQLite that does not tell where columns come from
        frame = frame.set_index("row_id")
    if "date" in frame and len(frame):
        frame["date"] = frame["date"].dt.tz_convert(None)  # the standard's times are UTC
    return frame


def same(got: pd.DataFrame, want: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(got.reset_index(drop=True), want.reset_index(drop=True), check_dtype=False)


@pytest.fixture(scope="module")
def several() -> list[IndexSeries]:
    features = layer_features(squares(3), id_field="crop")
    return index_series(features, DATES, indices=["NDVI", "NBR"], masks=["CM001", "SCL-3-8-9-10-11-ITER1"])


@pytest.fixture(scope="module")
def path(several: list[IndexSeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gpkg") / "fields_None_None.gpkg", several)


# -------------------------------------------------------------------------------------------------------- read it back


def test_features_and_rows_are_there_once_and_equal(path: Path, several: list[IndexSeries]) -> None:
    features = read(path, "features")
    assert features.index.tolist() == [1, 2, 3]
    assert features.index.name == "fid"  # pyogrio's name of the key
    assert pyogrio.read_info(path, layer="features")["fid_column"] == "row_id"
    same(
        features.drop(columns="geometry"),
        several[0].features.attributes.assign(feature=range(3))[["feature", "parcel", "crop"]],
    )
    assert shapely.equals_exact(features.geometry.to_numpy(), several[0].features.geometry).all()
    assert features.crs.to_epsg() == 32632

    want = pd.concat([one.frame().assign(index=one.index.name, mask=one.mask) for one in several], ignore_index=True)
    last = want[want["count"] > 0].groupby(["index", "mask", "fid"])["date"].transform("max")
    want = want.assign(latest=want["date"] == last.reindex(want.index)).rename(columns={"fid": "feature"})
    rows = read(path, "rows")
    assert len(rows) == 2 * 2 * 3 * 4
    same(
        rows,
        want[
            [
                "feature",
                "index",
                "mask",
                "date",
                "tile",
                "filename",
                "count",
                "nodata",
                "nbcld",
                "cldprb",
                *STATISTICS,
                "latest",
            ]
        ],
    )
    assert rows["latest"].sum() == 2 * 2 * 3


def test_a_view_has_the_rows_of_one_index_and_mask_with_geometry(path: Path, several: list[IndexSeries]) -> None:
    for one in several:
        view = read(path, f"{one.index.name}_{one.mask}")
        assert view.index.is_unique
        want = one.frame().rename(columns={"fid": "feature"}).drop(columns="mask")
        order = ["feature", "crop", *[name for name in want if name not in {"feature", "crop"}]]
        same(view.drop(columns="geometry").sort_values(["feature", "date"]), want[order])
        outlines = one.features.geometry[view["feature"]]
        assert shapely.equals_exact(view.geometry.to_numpy(), outlines).all()

        latest = read(path, f"{one.index.name}_{one.mask}_latest").sort_values("feature")
        known = want[want["count"] > 0].groupby("feature").tail(1)
        same(latest.drop(columns="geometry"), known[order])


@pytest.mark.skipif(OGRINFO is None, reason="there is no ogrinfo (package gdal-bin)")
def test_ogrinfo_reads_it(path: Path) -> None:
    text = subprocess.run([str(OGRINFO), "-al", "-so", path], capture_output=True, text=True, check=True)  # noqa: S603
    assert "warning" not in text.stderr.lower()
    assert "error" not in text.stderr.lower()
    layers = {part.partition("\n")[0]: part for part in text.stdout.split("Layer name: ")[1:]}
    assert list(layers) == [
        "features",
        *(
            f"{i}_{m}{end}"
            for i in ("NDVI", "NBR")
            for m in ("CM001", "SCL-3-8-9-10-11-ITER1")
            for end in ("", "_latest")
        ),
        "layer_styles",
        "rows",
    ]
    for name, count in (("features", 3), ("rows", 48), ("NDVI_CM001", 12), ("NBR_CM001_latest", 3)):
        assert f"Feature Count: {count}\n" in layers[name]
        assert "FID Column = row_id" in layers[name]
        assert ("Geometry: Polygon" in layers[name]) == (name != "rows")
        assert ("date: DateTime" in layers[name]) == (name != "features")
    assert 'ID["EPSG",32632]' in layers["NDVI_CM001"]
    assert "Extent: (600000.000000, 5100000.000000) - (600400.000000, 5100100.000000)" in layers["NDVI_CM001"]


def test_the_file_follows_the_standard(path: Path) -> None:
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "PRAGMA foreign_key_check") == []
    assert ask(path, "PRAGMA application_id") == [(int.from_bytes(b"GPKG"),)]
    assert ask(path, "PRAGMA journal_mode") == [("delete",)]
    there = {name for (name,) in ask(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    told = ask(path, "SELECT table_name, data_type, srs_id FROM gpkg_contents")
    assert {name for name, *_ in told} <= there
    spatial = {name for name, kind, _ in told if kind == "features"}
    columns = ask(path, "SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns")
    assert {(name, crs) for name, _, crs in columns} == {(name, crs) for name, kind, crs in told if kind == "features"}
    for name in spatial:
        declared = {column: kind for _, column, kind, *_ in ask(path, f'PRAGMA table_info("{name}")')}
        assert declared["geom"] == "POLYGON"
        assert next(iter(declared)) == "row_id"
    # A time as the standard writes it, in a column that says so.
    assert ask(path, "SELECT DISTINCT date FROM rows ORDER BY 1")[0] == ("2021-01-07T10:21:31.000Z",)
    assert ("date", "DATETIME") in [row[1:3] for row in ask(path, "PRAGMA table_info(rows)")]


def test_dates_and_features_are_found_by_an_index(path: Path) -> None:
    def plan(query: str) -> str:
        return " / ".join(row[3] for row in ask(path, f"EXPLAIN QUERY PLAN {query}"))

    view = '"NDVI_CM001"'
    assert "SEARCH r USING INDEX rows_by_date (index=? AND mask=? AND date>? AND date<?)" in plan(
        f"SELECT geom, mean FROM {view} WHERE date >= '2021-01-12' AND date < '2021-01-13'"  # noqa: S608
    )
    assert "USING COVERING INDEX" in plan(f"SELECT count(*), min(date) FROM {view}")  # noqa: S608
    assert "rows_of_feature" in plan("SELECT date, mean FROM rows WHERE feature = 2")


def test_the_provenance_is_in_the_file_and_beside_it(path: Path) -> None:
    assert json.loads(path.with_suffix(".json").read_text()) == PROVENANCE
    assert json.loads(geopackage_provenance(path) or b"") == {k: v for k, v in PROVENANCE.items() if k != "products"}


# --------------------------------------------------------------------------------------------------------------- style


def style_of(path: Path, layer: str) -> ET.Element:
    ((style, default),) = ask(path, "SELECT styleQML, useAsDefault FROM layer_styles WHERE f_table_name = ?", layer)
    assert default
    return ET.fromstring(style)  # noqa: S314  # our own


def test_qgis_gets_colours_in_row_units_and_the_date(path: Path) -> None:
    root = style_of(path, "NDVI_CM001")
    ranges = root.findall("renderer-v2/ranges/range")
    limits = [float(one.get("upper", "")) for one in ranges[:-1]]
    assert limits == pytest.approx(np.arange(-1000, 9001, 1000), abs=1e-6)
    assert float(ranges[0].get("lower", "")) < -1e9 < 1e9 < float(ranges[-1].get("upper", ""))
    assert [one.get("label") for one in ranges[:3]] == ["below -0.1", "-0.1 to 0", "0 to 0.1"]
    colours = [
        option.get("value") for option in root.findall("renderer-v2/symbols/symbol/layer/Option/Option[@name='color']")
    ]
    red, green, blue = LEGENDS["NDVI"].rgb(-0.15).tolist()
    assert colours[0] == f"{red},{green},{blue},255"
    assert len(set(colours)) == len(ranges) == 12

    temporal = root.find("temporal")
    assert temporal is not None
    assert (temporal.get("enabled"), temporal.get("startField")) == ("1", "date")
    assert (temporal.get("fixedDuration"), temporal.get("durationUnit")) == ("5", "d")
    assert root.findtext("previewExpression") == '"crop"'
    assert style_of(path, "NDVI_CM001_latest").find("temporal") is None
    assert style_of(path, "features").find("renderer-v2[@type='singleSymbol']") is not None


def test_an_index_of_a_user_is_coloured_by_its_values(tmp_path: Path) -> None:
    series = index_series(layer_features(squares(2)), DATES, indices=[Index("OWN", "B08-B04")], scale=1.0)
    root = style_of(write(tmp_path / "a.gpkg", series), "OWN")
    limits = [float(one.get("upper", "")) for one in root.findall("renderer-v2/ranges/range")[:-1]]
    means = series[0].frame()["mean"].dropna()
    assert means.min() - 0.1 < limits[0] < limits[-1] < means.max() + 0.1


@pytest.mark.parametrize("legend", [*LEGENDS.values(), Legend(0.00012, 0.00034), Legend(-3e5, 7e5)])
def test_classes_cover_the_legend(legend: Legend) -> None:
    limits = class_limits(legend)
    assert 8 <= len(limits) - 1 <= 16
    assert (limits[0], limits[-1]) == pytest.approx((legend.low, legend.high))
    assert np.diff(limits) == pytest.approx((legend.high - legend.low) / (len(limits) - 1))
    assert max(len(f"{limit:g}") for limit in limits) <= 9


# --------------------------------------------------------------------------------------------------------- hard layers


def test_attributes_may_have_any_name_and_type(tmp_path: Path) -> None:
    attributes = pd.DataFrame(
        {
            "attr_fid": [7, 8, 9],
            "FID": [1, 1, 1],
            "Fid": [2, 2, 2],
            "row_id": ["x", "y", None],
            "geom": ["a", "b", "c"],
            "OGC_FID": [5, 6, 7],
            "rowid": [3, 4, 5],
            "Feature": [30, 31, 32],
            "MEAN": [0.5, np.nan, 1.5],
            "index": ["i", "j", "k"],
            'say "it\'s"': ["'; DROP TABLE rows; --", '"', "\N{SNOWMAN}"],
            "select": [None, None, None],
            "organic": pd.array([True, None, False], dtype="boolean"),
            "whole": pd.array([2**62 + 1, None, 3], dtype="Int64"),
            "large": pd.array([2**63 + 5, None, 3], dtype="UInt64"),
            "small": np.arange(3, dtype="uint8"),
            "seen": np.array(["2021-03-04T05:06:07", "NaT", "2022-01-01T00:00:01"], "datetime64[ms]"),
            "zoned": pd.to_datetime(["2021-03-04T05:06:07+02:00"] * 3, utc=True),
            "crops": ['["maize", "wheat"]', None, "[]"],
        }
    )
    path = write(tmp_path / "a.gpkg", index_series(layer_features(squares(3), attributes), DATES))
    names = [
        "attr_fid", "FID", "attr_attr_Fid", "attr_row_id", "attr_geom", "attr_OGC_FID", "attr_rowid", "attr_Feature",
        "attr_MEAN", "attr_index", 'say "it\'s"', "select", "organic", "whole", "large", "small", "seen",
        "zoned", "crops",
    ]  # fmt: skip
    got = read(path, "features").drop(columns=["geometry", "feature"])
    assert list(got) == names
    got = got.set_axis(attributes.columns, axis=1)
    for name in attributes:
        values = [None if pd.isna(value) else value for value in got[name].tolist()]
        if name == "whole":  # which pyogrio gives as floats
            values = [value for (value,) in ask(path, "SELECT whole FROM features")]
        want = [None if pd.isna(value) else value for value in attributes[name].tolist()]
        if name == "large":
            want = [None if value is None else str(value) for value in want]
        if name == "seen":
            values = [None if value is None else value.replace(tzinfo=None) for value in values]
        assert values == want, name
    view = read(path, "NDVI")
    assert list(view)[-20:-1] == names
    assert view["attr_Feature"].tolist() == (view["feature"] + 30).tolist()
    assert len(read(path, "rows").columns) == 18


POINT, LINE, AREA = shapely.Point(600000, 5100000), shapely.LineString([(6e5, 5e6), (6e5, 5.1e6)]), squares(1)[0]
MULTI = shapely.MultiPolygon(squares(2).tolist())


@pytest.mark.parametrize(
    ("shapes", "geometry_type", "kind"),
    [
        ([AREA, None, shapely.Polygon()], "Polygon", "fill"),
        ([AREA, MULTI, None], "MultiPolygon", "fill"),
        ([POINT, POINT, None], "Point", "marker"),
        ([LINE, shapely.MultiLineString([LINE])], "MultiLineString", "line"),
        ([AREA, POINT, MULTI, LINE, shapely.GeometryCollection([POINT])], "Unknown", "fill"),
        ([None, None], "Unknown", "fill"),
    ],
)
def test_any_geometry(tmp_path: Path, shapes: list[Any], geometry_type: str, kind: str) -> None:
    features = layer_features(np.array(shapes, dtype=object))
    path = write(tmp_path / "a.gpkg", index_series(features, DATES))
    for layer in ("features", "NDVI", "NDVI_latest"):
        assert pyogrio.read_info(path, layer=layer)["geometry_type"] == geometry_type
        got = read(path, layer)
        assert len(got) == (4 if layer == "NDVI" else 1) * len(shapes)
        for shape, fid in zip(got.geometry, got["feature"], strict=True):
            want = shapes[fid]
            if want is None or want.is_empty:
                assert shape is None or shape.is_empty
            else:
                assert shape.equals(want)
    assert style_of(path, "NDVI").find(f"renderer-v2/symbols/symbol[@type='{kind}']") is not None


def test_names_of_indices_and_masks_give_layers_of_their_own(tmp_path: Path) -> None:
    indices = [Index(name, "B08-B04") for name in ("select", "rows", "Features", "ndvi")]
    masks = ["none", "CM001", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"]
    features = layer_features(squares(2), name="group by " * 9)
    path = write(tmp_path / "a.gpkg", index_series(features, DATES[:1], indices=["NDVI", *indices], masks=masks))
    layers = [name for name, _ in pyogrio.list_layers(path)]
    assert len(layers) == 3 + 2 * 5 * 3
    assert {"NDVI_none", "ndvi_none_2", "select_CM001", "rows_CM001_latest"} <= set(layers)
    (tmp_path / "more").mkdir()
    single = tmp_path / "more" / "b.gpkg"
    write(single, index_series(features, DATES[:1], indices=indices))
    assert {"select", "rows_2", "Features_2", "ndvi"} <= {name for name, _ in pyogrio.list_layers(single)}
    assert len(read(single, "rows_2")) == 2


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2056", OWN_CRS])
def test_any_crs(tmp_path: Path, crs: str) -> None:
    path = write(tmp_path / "a.gpkg", index_series(layer_features(squares(2), crs=crs), DATES))
    for layer in ("features", "NDVI"):
        found = read(path, layer).crs
        assert found == gpd.GeoSeries([], crs=crs).crs or found.to_proj4() == gpd.GeoSeries([], crs=crs).crs.to_proj4()


def test_many_attributes_are_written_and_too_many_refused(tmp_path: Path) -> None:
    attributes = pd.DataFrame(np.arange(400).reshape(2, 200), columns=[f"band {at}" for at in range(200)])
    path = write(tmp_path / "a.gpkg", index_series(layer_features(squares(2), attributes), DATES[:1]))
    same(read(path, "features")[attributes.columns], attributes)
    attributes = pd.DataFrame(np.zeros((2, 2500)), columns=[f"a{at}" for at in range(2500)])
    with pytest.raises(OutputError, match="2,515 columns"):
        write_geopackage(index_series(layer_features(squares(2), attributes), []), path, PROVENANCE)


def test_a_layer_without_attributes_and_series_without_rows(tmp_path: Path) -> None:
    features = layer_features(squares(2), pd.DataFrame(index=range(2)))
    path = write(tmp_path / "a.gpkg", index_series(features, []))
    assert len(read(path, "features")) == 2
    for layer in ("rows", "NDVI", "NDVI_latest"):
        assert len(read(path, layer)) == 0
        assert "mean" in pyogrio.read_info(path, layer=layer)["fields"]
    assert ask(path, "SELECT count(*) FROM layer_styles") == [(3,)]


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond 256 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_former_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = write(tmp_path / "a.gpkg", index_series(layer_features(squares(2)), DATES))
    before = path.read_bytes()
    request.getfixturevalue("small_disk")
    many = index_series(
        layer_features(squares(40)), [f"2021-01-01T10:{at // 60:02d}:{at % 60:02d}" for at in range(80)]
    )
    with pytest.raises(OutputError, match=r"a\.gpkg"):
        write_geopackage(many, path, PROVENANCE)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, path.with_suffix(".json")]


def test_a_folder_of_temporary_files_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    series = index_series(layer_features(squares(2)), DATES)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"cannot be written to the folder of temporary files, .*missing .*TMPDIR"):
        write_geopackage(series, tmp_path / "a.gpkg", PROVENANCE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request.getfixturevalue("small_disk")
    large = layer_features(squares(2), pd.DataFrame({"text": ["x" * 400_000] * 2}))
    with pytest.raises(OutputError, match="folder of temporary files"):
        write_geopackage(index_series(large, DATES), tmp_path / "a.gpkg", PROVENANCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "100%?#&", "\udcff\udce4"])
def test_any_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = write(tmp_path / name / "it's.gpkg", index_series(layer_features(squares(2)), DATES))
    assert json.loads(geopackage_provenance(path) or b"")["rows"] == 12
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_file_that_is_open_elsewhere_is_not_replaced(tmp_path: Path) -> None:
    series = index_series(layer_features(squares(2)), DATES)
    path = write(tmp_path / "a.gpkg", series)
    with closing(sqlite3.connect(path)) as editor:
        editor.execute("PRAGMA journal_mode=WAL")  # as QGIS opens it
        editor.execute("UPDATE layer_styles SET owner = 'me'")
        editor.commit()
        with pytest.raises(OutputError, match="open in another program"):
            write_geopackage(series, path, PROVENANCE)
    write_geopackage(series, path, PROVENANCE)
    assert ask(path, "SELECT DISTINCT owner FROM layer_styles") == [("",)]


# --------------------------------------------------------------------------------------------------------- end to end


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=60, parcels=5, tiles=("31TGJ",), overpasses=demo.season()[:4], bands=BANDS)
    return demo.build(tmp_path_factory.mktemp("gis"), scene)


def extract(archive: demo.DemoArchive, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {
        "indices": ["NDVI"],
        "masks": "CM001",
        "library": archive.library,
        "multiproc": 1,
        "quiet": True,
    }
    return TimeSeries(options.pop("vectors_file", archive.layer), **(options | asked))


def test_the_classes_write_what_data_has(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = extract(archive, id_field="parcel")
    path = series.to_geopackage(tmp_path)
    assert path == tmp_path / "parcels" / "parcels_None_None.gpkg"
    compiled = TimeSeriesCompil(
        archive.layer, indices=["NDVI"], masks="CM001", library=archive.library, extraction=tmp_path / "kept",
        id_field="parcel", quiet=True,
    )  # fmt: skip
    compiled.extract_data()
    files = {path: series, compiled.to_geopackage(): compiled, compiled.to_geopackage(tmp_path / "other"): compiled}
    assert [file.parent for file in files][1:] == [compiled.folder, tmp_path / "other" / "parcels"]
    for file, one in files.items():
        want = one.data["NDVI"].reset_index().rename(columns={"fid": "feature"})
        view = read(file, "NDVI").sort_values(["feature", "date"]).drop(columns="geometry")
        assert len(view) > 10
        same(view, want[list(view)])
        assert list(view)[1] == "parcel"
        assert json.loads(file.with_suffix(".json").read_text())["parameters"]["masks"]
    # The compiled files are not disturbed by it.
    assert compiled.compile_data(alldata=True).files


def test_results_made_in_another_way_and_files_of_users_stay(archive: demo.DemoArchive, tmp_path: Path) -> None:
    path = extract(archive).to_geopackage(tmp_path)
    again = extract(archive)
    assert again.to_geopackage(tmp_path) == path
    assert again.notes[-1] == f"{path} of an earlier run is replaced."
    with pytest.raises(OutputError, match="another result: mask CM001 in the file, none now"):
        extract(archive, masks="none").to_geopackage(tmp_path)
    with pytest.raises(EmptyResultError, match="has rows and is kept"):
        extract(archive, library=MemorySource([])).to_geopackage(tmp_path)
    path.with_suffix(".json").unlink()  # the file itself says how it was made
    with pytest.raises(OutputError, match="another result: mask"):
        extract(archive, masks="none").to_geopackage(tmp_path)
    assert extract(archive, masks="none").to_geopackage(tmp_path, overwrite=True) == path

    shutil.copy(archive.layer, path)
    with pytest.raises(OutputError, match=r"parcels_None_None\.gpkg"):
        extract(archive, masks="none").to_geopackage(tmp_path)
    assert path.read_bytes() == Path(archive.layer).read_bytes()


def test_a_disk_without_enough_room_is_told_before_anything_is_written(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = extract(archive).run()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300_000))
    with pytest.raises(OutputError, match=r"takes about \d\.\d kB and leaves 1\.0 MB free, .* room for 300\.0 kB"):
        series.to_geopackage(tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_the_size_is_estimated(tmp_path: Path) -> None:
    dates = [str(dt.datetime(2021, 1, 1) + dt.timedelta(days=5 * step)) for step in range(150)]  # noqa: DTZ001
    series = index_series(layer_features(squares(50)), dates)
    path = write(tmp_path / "a.gpkg", series)
    assert 0.7 < path.stat().st_size / estimated_geopackage_size(series) < 1.3


def test_the_command_writes_it(archive: demo.DemoArchive, tmp_path: Path) -> None:
    words = ["extract", str(archive.layer), "--library", str(archive.library), "--index", "NDVI", "--mask", "CM001"]
    words += ["--out", str(tmp_path), "--id", "parcel", "--format", "gpkg"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    path = tmp_path / "parcels" / "parcels_None_None.gpkg"
    assert str(path) in done.output
    assert style_of(path, "NDVI").findtext("previewExpression") == '"parcel"'
    done = CliRunner().invoke(main, [*words, "--units", "index"])
    assert done.exit_code == 1
    assert "unit scaled in the file, index now" in done.output
