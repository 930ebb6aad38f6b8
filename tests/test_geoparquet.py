"""GeoParquet files: read back by geopandas, and checked against the specification's text with pyarrow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely

from index_series_double import index_series, layer_features, squares
from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive.memory_source import MemorySource
from sen2chain.errors import EmptyResultError, OutputError
from sen2chain.export import estimated_geoparquet_size, geoparquet, write_geoparquet

if TYPE_CHECKING:
    from pathlib import Path

DATES = ("2021-01-07T10:21:31", "2021-01-12T10:22:31", "2021-01-17T10:23:31")
BANDS = ("B04", "B08", "SCL", "CLDPRB")
PROVENANCE = {"parameters": {"masks": ["CM001"]}}


def geo(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"geo"])
    return found


def same(got: pd.DataFrame, want: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(got.reset_index(drop=True), want.reset_index(drop=True), check_dtype=False)


def test_rows_come_back_with_their_geometry(tmp_path: Path) -> None:
    features = layer_features(squares(3))
    (series,) = index_series(features, DATES)
    path = tmp_path / "a_geo.parquet"
    assert write_geoparquet(series, path, PROVENANCE) == 9
    got = gpd.read_parquet(path)
    same(pd.DataFrame(got.drop(columns="geometry")), series.frame())
    assert shapely.equals_exact(got.geometry.to_numpy(), features.geometry[got["fid"]]).all()
    assert got.crs == pyproj.CRS("EPSG:32632")
    assert json.loads(path.with_suffix(".json").read_text()) == PROVENANCE
    assert json.loads(pq.read_schema(path).metadata[b"sen2chain"]) == PROVENANCE


def test_metadata_are_those_of_version_1_1(tmp_path: Path) -> None:
    (series,) = index_series(layer_features(squares(3)), DATES)
    write_geoparquet(series, tmp_path / "a.parquet", {})
    found = geo(tmp_path / "a.parquet")
    assert (found["version"], found["primary_column"]) == ("1.1.0", "geometry")
    column = found["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["bbox"] == [600000, 5100000, 600400, 5100100]
    assert pyproj.CRS.from_json_dict(column["crs"]) == pyproj.CRS("EPSG:32632")
    assert column["covering"] == {"bbox": {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}}
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert str(file.schema_arrow.field("geometry").type) == "binary"
    assert file.read(["bbox"]).column("bbox")[4].as_py() == {
        "xmin": 600150, "ymin": 5100000, "xmax": 600250, "ymax": 5100100,
    }  # fmt: skip
    # The boxes are of use to readers because Parquet knows their range in each group of rows.
    statistics = {part.path_in_schema: part.is_stats_set for part in map(file.metadata.row_group(0).column, range(22))}
    assert statistics["bbox.xmin"]
    assert statistics["date"]
    assert not statistics["geometry"]


def test_a_window_reads_the_groups_of_rows_that_meet_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoparquet, "_ROWS_PER_GROUP", 6)
    monkeypatch.setattr(geoparquet, "_BYTES_PER_GROUP", 800)  # four squares
    (series,) = index_series(layer_features(squares(8)), DATES)
    path = tmp_path / "a.parquet"
    assert write_geoparquet(series, path, {}) == 24
    assert pq.ParquetFile(path).num_row_groups > 4
    same(pd.DataFrame(gpd.read_parquet(path).drop(columns="geometry")), series.frame())
    found = gpd.read_parquet(path, bbox=(600160, 5100010, 600170, 5100020))
    assert found["fid"].tolist() == [1, 1, 1]


def test_any_geometry_and_attributes_with_the_names_of_our_columns(tmp_path: Path) -> None:
    shapes = np.array(
        [squares(1)[0], None, shapely.Polygon(), shapely.MultiPolygon(squares(2).tolist()), shapely.Point(6e5, 5e6)],
        dtype=object,
    )
    attributes = pd.DataFrame(
        {
            "geometry": list("abcde"), "bbox": [1, 2, 3, 4, 5], "attr_geometry": [None] * 5,
            "organic": pd.array([True, None, False, True, None], dtype="boolean"),
            "large": pd.array([2**63 + 5, None, 3, 4, 5], dtype="UInt64"),
        }
    )  # fmt: skip
    (series,) = index_series(layer_features(shapes, attributes, crs="EPSG:4326"), DATES)
    write_geoparquet(series, tmp_path / "a.parquet", {})
    got = gpd.read_parquet(tmp_path / "a.parquet")
    assert list(got.columns[-6:]) == [
        "attr_attr_geometry",
        "attr_bbox",
        "attr_geometry",
        "organic",
        "large",
        "geometry",
    ]
    for shape, fid in zip(got.geometry, got["fid"], strict=True):
        assert shape is None if shapes[fid] is None else shape.equals(shapes[fid]) or shape.is_empty
    assert got["attr_bbox"].tolist() == (got["fid"] + 1).tolist()
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("large").to_pylist()[0] == 2**63 + 5
    assert [box is None for box in table.column("bbox").to_pylist()[::3]] == [False, True, True, False, False]
    assert geo(tmp_path / "a.parquet")["columns"]["geometry"]["geometry_types"] == ["MultiPolygon", "Point", "Polygon"]


def test_no_rows_give_a_file_that_reads(tmp_path: Path) -> None:
    (series,) = index_series(layer_features(squares(2)), [])
    assert write_geoparquet(series, tmp_path / "a.parquet", {}) == 0
    got = gpd.read_parquet(tmp_path / "a.parquet")
    assert len(got) == 0
    assert {"date", "mean", "crop", "geometry"} <= set(got)


def test_the_size_is_estimated(tmp_path: Path) -> None:
    (series,) = index_series(layer_features(squares(60)), [f"2021-01-01T10:{minute:02d}:00" for minute in range(60)])
    write_geoparquet(series, tmp_path / "a.parquet", {})
    assert 0.5 < (tmp_path / "a.parquet").stat().st_size / estimated_geoparquet_size(series) < 2


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=60, parcels=5, tiles=("31TGJ",), overpasses=demo.season()[:4], bands=BANDS)
    return demo.build(tmp_path_factory.mktemp("gis"), scene)


def extract(archive: demo.DemoArchive, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {"indices": ["NDVI"], "masks": ["CM001", "none"], "library": archive.library}
    return TimeSeries(archive.layer, quiet=True, **(options | asked))


def test_the_classes_write_one_file_per_index_and_mask(archive: demo.DemoArchive, tmp_path: Path) -> None:
    series = extract(archive)
    files = series.to_geoparquet(tmp_path)
    assert [path.name for path in files] == [
        "parcels_NDVI_None_None_CM001_geo.parquet", "parcels_NDVI_None_None_none_geo.parquet",
    ]  # fmt: skip
    plain = series.to_parquet(tmp_path)
    for path, other in zip(files, plain, strict=True):
        same(pd.DataFrame(gpd.read_parquet(path).drop(columns="geometry")), pd.read_parquet(other))
    assert extract(archive).to_geoparquet(tmp_path) == files
    with pytest.raises(OutputError, match="unit scaled in the file, index now"):
        extract(archive, units="index").to_geoparquet(tmp_path)
    with pytest.raises(EmptyResultError, match="has rows and is kept") as caught:
        extract(archive, library=MemorySource([])).to_geoparquet(tmp_path)
    assert caught.value.files == []

    compiled = TimeSeriesCompil(
        archive.layer, indices=["NDVI"], masks="none", library=archive.library, extraction=tmp_path / "kept", quiet=True
    )
    compiled.extract_data()
    (path,) = compiled.to_geoparquet()
    assert path.parent == compiled.folder / "compiled_data" / "NDVI" / "none" / "all_data"
    same(pd.DataFrame(gpd.read_parquet(path).drop(columns="geometry")), compiled.data["NDVI"].reset_index())
    (csv,) = compiled.compile_data(alldata=True).files
    assert csv.parent == path.parent
