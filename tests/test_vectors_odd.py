"""Layers as people have them: odd encodings, values, archives and files that lead elsewhere."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
import warnings
import zipfile
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from sen2chain.errors import LayerError, RequestError
from sen2chain.vectors import layer_files, read_layer

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = shapely.box(11.0, 46.0, 11.01, 46.01)
BIG = 2**53 + 1


def frame(crs: str | None = "EPSG:4326", **columns: Any) -> gpd.GeoDataFrame:
    count = len(next(iter(columns.values()))) if columns else 2
    shapes = [shapely.transform(SQUARE, lambda xy, i=i: xy + i / 10) for i in range(count)]
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)


def geojson(path: Path, *properties: dict[str, Any], **more: Any) -> Path:
    shapes = frame(a=list(properties)).geometry
    features = [
        {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(shape)}
        for values, shape in zip(properties, shapes, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return path


def shapefile(path: Path, texts: list[bytes], *, cpg: str | None = None, page: int = 0, field: bytes = b"T") -> Path:
    """Write a shapefile whose .dbf holds these bytes."""
    frame(t=["x"] * len(texts)).to_file(path)
    path.with_suffix(".cpg").unlink()
    if cpg is not None:
        path.with_suffix(".cpg").write_text(cpg)
    head = struct.pack("<BBBBIHH16xBBxx", 3, 124, 1, 1, len(texts), 65, 21, 0, page)
    head += field.ljust(11, b"\0") + b"C\0\0\0\0" + bytes([20, 0]) + b"\0" * 14 + b"\r"
    path.with_suffix(".dbf").write_bytes(head + b"".join(b" " + text.ljust(20) for text in texts) + b"\x1a")
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def parts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# ---------------------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    ("text", "encoding", "cpg", "page", "told"),
    [
        ("Pré brûlé", "cp1252", None, 0, 1),
        ("Pré brûlé", "cp1252", "UTF-8", 0, 1),
        ("Pré brûlé", "cp1252", "nonsense", 0, 1),
        ("Pré brûlé", "cp1252", "ANSI 1252", 0, 0),
        ("Pré brûlé", "cp1252", None, 0x03, 0),
        ("Pré brûlé", "utf-8", None, 0, 0),
        ("Привет", "cp1251", "ANSI 1251", 0, 0),
        ("Привет", "koi8-r", "KOI8-R", 0, 0),
        ("北京", "gbk", "GBK", 0, 0),
        ("北京", "gbk", None, 0x4D, 0),
        ("“€”", "cp1252", None, 0x57, 0),
        ("brûlé", "cp1252", "Big5", 0, 1),
        ("brûlé", "cp1252", "US-ASCII", 0, 1),
        ("brûlé", "cp1252", "UTF-16", 0, 1),
        ("brûlé", "cp1252", "\ufeffUTF-8", 0, 1),
        ("brûlé", "cp1252", None, 0x4F, 1),
    ],
)
def test_texts_of_a_shapefile_in_the_order_of_what_says_their_encoding(
    tmp_path: Path, text: str, encoding: str, cpg: str | None, page: int, told: int
) -> None:
    layer = read_layer(shapefile(tmp_path / "l.shp", [text.encode(encoding), b"b"], cpg=cpg, page=page))
    assert layer.attributes["T"].tolist() == [text, "b"]
    assert [text in note for note in layer.notes] == [True] * told


def test_the_given_encoding_decides_and_the_cache_knows_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = shapefile(tmp_path / "in" / "l.shp", ["北京".encode("gbk"), b"b"], field="Région".encode("cp1252"))
    for file in path.parent.iterdir():
        os.utime(file, (1e9, 1e9))
    for _ in range(2):
        guessed = read_layer(path, cache=tmp_path / "cache")
        assert list(guessed.attributes) == ["Région"]
        assert len(guessed.notes) == 1
        right = read_layer(
            shapefile(tmp_path / "r.shp", ["北京".encode("gbk")]), encoding="GBK", cache=tmp_path / "cache"
        )
        assert right.attributes["T"].tolist() == ["北京"]
        assert right.notes == ()
        assert read_layer(path, encoding="936", cache=tmp_path / "cache").attributes.iloc[0, 0] == "北京"
    with pytest.raises(LayerError, match=r"l\.shp has texts that are not in the encoding utf-8; pass the right one"):
        read_layer(path, encoding="UTF-8")
    odd: Any
    for odd in ("nonsense", "hex", 5, "", "\0"):
        with pytest.raises(RequestError, match=r"encoding is .*; pass the name of one"):
            read_layer(path, encoding=odd)


def test_texts_of_other_formats_that_are_not_utf_8(tmp_path: Path) -> None:
    path = geojson(tmp_path / "l.geojson", {"Annee": "Pre", "b": ["Pre"]}, {"Annee": "x", "b": None})
    path.write_bytes(path.read_bytes().replace(b"Annee", b"Ann\xe9e").replace(b"Pre", b"Pr\xe9"))
    layer = read_layer(path)
    assert layer.attributes["Année"].tolist() == ["Pré", "x"]
    assert layer.attributes["b"].tolist() == ['["Pré"]', None]
    assert "as in 'Année'" in layer.notes[0]
    assert read_layer(path, encoding="cp1251").attributes.columns[0] == "Annйe"
    frame(t=["Prx", "b"]).to_file(tmp_path / "l.gpkg")
    content = (tmp_path / "l.gpkg").read_bytes()
    assert content.count(b"Prx") == 1
    (tmp_path / "l.gpkg").write_bytes(content.replace(b"Prx", b"Pr\xe9"))
    assert read_layer(tmp_path / "l.gpkg").attributes["t"].tolist() == ["Pré", "b"]


def test_a_projection_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "l.shp"
    frame(a=[1]).to_file(path)
    projection = path.with_suffix(".prj").read_bytes()
    path.with_suffix(".prj").write_bytes(projection.replace(b"GCS_WGS_1984", "Système".encode("cp1252")))
    assert len(read_layer(path)) == 1
    path.with_suffix(".prj").write_bytes(b"\xff\xfe\xfa" * 20)
    with pytest.raises(LayerError, match=r"l\.shp "):
        read_layer(path)


# ---------------------------------------------------------------------------------------------------------------- CRS

LOCAL = 'LOCAL_CS["yard",UNIT["metre",1]]'


def test_a_crs_completes_a_layer_and_contradicts_none(tmp_path: Path) -> None:
    bare = frame(crs=None, a=[1])
    assert read_layer(bare, crs="EPSG:4326").crs == "EPSG:4326"
    assert read_layer(bare, crs=32632).crs == "EPSG:32632"
    assert read_layer(frame(crs=LOCAL, a=[1]), crs="EPSG:32632").crs == "EPSG:32632"
    assert read_layer(frame(a=[1]), crs="OGC:CRS84").crs == "EPSG:4326"
    with warnings.catch_warnings(action="ignore"):
        bare.to_file(tmp_path / "l.shp")
    assert read_layer(tmp_path / "l.shp", crs="EPSG:32632", cache=tmp_path / "c").crs == "EPSG:32632"
    with pytest.raises(RequestError, match="GeoDataFrame is in EPSG:4326, and crs is EPSG:32632; leave crs out"):
        read_layer(frame(a=[1]), crs="EPSG:32632")
    with pytest.raises(LayerError, match=r"no coordinate reference system; assign .* or pass it as crs= \(--crs\)"):
        read_layer(bare)
    odd: Any
    for odd in ("EPSG:1", "nonsense", 1.5, [], LOCAL, "EPSG:4978"):
        with pytest.raises(RequestError, match="crs is "):
            read_layer(bare, crs=odd)


@pytest.mark.parametrize(
    ("crs", "kind"),
    [(LOCAL, "local"), ("EPSG:4978", "geocentric"), ("EPSG:5703", "neither"), ("IAU_2015:30100", "which PROJ cannot")],
)
def test_a_crs_of_the_wrong_kind(crs: str, kind: str) -> None:
    with pytest.raises(LayerError, match=rf"coordinate reference system of the wrong kind \(.*: {kind}"):
        read_layer(frame(crs=crs, a=[1]))
    if kind == "geocentric":
        with pytest.raises(LayerError, match="transform it to another one"):
            read_layer(frame(crs=crs, a=[1]), crs="EPSG:4326")


# ------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb", ""])
def test_values_beside_a_null_stay_what_they_are(tmp_path: Path, suffix: str) -> None:
    table = frame(n=pd.array([BIG, BIG - 1, None], dtype="Int64"), flag=pd.array([True, None, False], dtype="boolean"))
    if suffix == ".parquet":
        table.to_parquet(tmp_path / "l.parquet")
    elif suffix:
        table.to_file(tmp_path / f"l{suffix}", **({"SPATIAL_INDEX": "NO"} if suffix == ".fgb" else {}))
    layer = read_layer(tmp_path / f"l{suffix}" if suffix else table)
    assert layer.attributes["n"].tolist() == [BIG, BIG - 1, pd.NA]
    assert layer.attributes["flag"].tolist() == [True, pd.NA, False]
    assert layer.content_identity == read_layer(table).content_identity


def test_numbers_of_every_size(tmp_path: Path) -> None:
    table = frame(
        u=pd.array([2**64 - 1, None], dtype="UInt64"), o=[2**70, None], d=[Decimal("12345678901234567890.10"), None],
        a=pd.Series([BIG, None], dtype=pd.ArrowDtype(pa.int64())), f=pd.array([1.5, None], dtype="Float64"),
    )  # fmt: skip
    table.drop(columns="o").to_parquet(tmp_path / "l.parquet")
    for layer in (read_layer(table), read_layer(tmp_path / "l.parquet")):
        row = layer.attributes.iloc[0]
        assert (row["u"], row["d"], row["a"]) == (2**64 - 1, "12345678901234567890.10", BIG)
        assert layer.attributes["f"].dtype == float
        assert layer.attributes.iloc[1].isna().all()


def test_numbers_that_no_reader_of_geojson_takes(tmp_path: Path) -> None:
    values: list[Any] = [2**63, -(2**62) - 1, 10**25, '"7": 9223372036854775808,', 1]
    path = geojson(tmp_path / "l.geojson", *({"n": value} for value in values))
    path.write_text(path.read_text().replace("11.4", "1e400", 1))
    layer = read_layer(path)
    assert layer.attributes["n"].tolist() == [str(value) for value in values]
    assert layer.empty == (4,)
    path = geojson(tmp_path / "f.geojson", {"n": 1e300, "m": -1}, {"n": 2.5, "m": 2**63 - 1})
    assert read_layer(path).attributes["n"].tolist() == [1e300, 2.5]
    assert read_layer(path).attributes["m"].tolist() == [-1, 2**63 - 1]


def test_numbers_of_odd_types() -> None:
    table = frame(long=np.array([1.5, 2], dtype=np.longdouble), sparse=pd.arrays.SparseArray([0, 1]))
    assert [str(kind) for kind in read_layer(table).attributes.dtypes] == ["float64", "int64"]


def test_nested_values_have_one_spelling(tmp_path: Path) -> None:
    values: dict[str, list[Any]] = {
        "q": [[1, 2], [3]],
        "s": [["é", 'a"b'], []],
        "d": [{"k": [1, None], "l": {"m": 2.5}}, {"k": [], "l": None}],
    }
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    frame("EPSG:4326", **values).to_parquet(tmp_path / "l.parquet")
    sources = (frame("EPSG:4326", **values), tmp_path / "l.parquet", geojson(tmp_path / "l.geojson", *rows))
    for layer in map(read_layer, sources):
        assert layer.attributes["q"].tolist() == ["[1, 2]", "[3]"]
        assert json.loads(layer.attributes["s"][0]) == values["s"][0]
        assert layer.attributes["d"][0] == '{"k": [1, null], "l": {"m": 2.5}}'
    long = read_layer(frame(q=[np.arange(3000.0)])).attributes["q"][0]
    assert json.loads(long) == list(range(3000))


def test_names_of_attributes_are_one_line_each_and_different() -> None:
    table = frame(x=[1], y=[2], z=[3], v=[4])
    table.columns = ["a\nb", "a\tb", "", "\u2028", "geometry"]
    layer = read_layer(table)
    assert list(layer.attributes) == ["ab", "attr_ab", "attr", "attr_attr"]
    assert layer.attributes.iloc[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["", "  ", 5, float("nan")])
def test_a_name_that_names_no_file(name: Any) -> None:
    with pytest.raises(RequestError, match=r"name is .*; pass a text that can be the name of a file"):
        read_layer(frame(a=[1]), name=name)


def test_a_name_becomes_one_of_a_file() -> None:
    assert read_layer(frame(a=[1]), name="a/../b\n\x1bc\\d:").name == "a_.._b__c_d_"
    assert read_layer(frame(a=[1]), name="été 2021").name == "été 2021"
    assert read_layer(frame(a=[1]), name="..").name == "__"  # else results would lie beside the folder asked for


# ---------------------------------------------------------------------------------- beside the attributes proper


def test_what_formats_keep_beside_the_attributes(tmp_path: Path) -> None:
    frame(fid=[7, 12], a=["x", "y"]).to_file(tmp_path / "l.gpkg")
    package = read_layer(tmp_path / "l.gpkg", field_names="fid")
    assert list(package.attributes) == ["a", "attr_fid"]
    assert package.attributes["attr_fid"].tolist() == [7, 12]
    plain = geojson(tmp_path / "l.geojson", {"a": "x"}, {"a": "y"})
    assert package.content_identity == read_layer(plain).content_identity
    assert list(read_layer(plain).attributes) == ["a"]
    assert list(read_layer(geojson(tmp_path / "id.geojson", {"id": 7}, {"id": 9})).attributes) == ["id"]
    text = plain.read_text().replace('"type": "Feature",', '"type": "Feature", "id": 7,', 1)
    (tmp_path / "ids.geojson").write_text(text)
    assert read_layer(tmp_path / "ids.geojson").attributes["attr_fid"][0] == 7
    indexed = frame(a=["x", "y"]).set_index(pd.Index(["p", "q"], name="parcel"))
    indexed.to_parquet(tmp_path / "l.parquet")
    for source in (indexed, tmp_path / "l.parquet"):
        layer = read_layer(source, field_names="parcel")
        assert layer.attributes["parcel"].tolist() == ["p", "q"]
        assert layer.content_identity == package.content_identity
    numbered = frame(a=["x", "y"]).set_index(pd.Index(pd.array([BIG, None], dtype="Int64"), name="parcel"))
    numbered.to_parquet(tmp_path / "n.parquet")
    numbered.to_feather(tmp_path / "n.feather")
    for source in (numbered, tmp_path / "n.parquet", tmp_path / "n.feather"):
        assert read_layer(source).attributes["parcel"].tolist() == [BIG, pd.NA]
    named = geojson(tmp_path / "n.geojson", {"a": "x", "geometry": "hand"}, {"a": "y", "geometry": None})
    layer = read_layer(named)
    assert layer.attributes["attr_geometry"].tolist() == ["hand", None]
    assert layer.content_identity == package.content_identity
    clash = frame(parcel=[1, 2]).set_index(pd.MultiIndex.from_arrays([[3, 4], [5, 6]], names=["parcel", "date"]))
    assert list(read_layer(clash).attributes) == ["parcel", "attr_parcel", "attr_date"]


# ----------------------------------------------------------------------------------------------------- archives, bytes


def test_archives_as_people_make_them(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    frame(a=[1, 2]).to_file(tmp_path / "s" / "fields.shp")
    members = parts(tmp_path / "s")
    one = {f"deep/{name}": content for name, content in members.items()}
    junk = {
        "__MACOSX/deep/._fields.shp": b"x",
        "deep/.DS_Store": b"x",
        "deep/x.qmd": b"<x/>",
        "readme.txt": b"x",
    }
    assert len(read_layer(zipped(tmp_path / "mac.zip", one | junk | {"deep/info.json": b"{}", "m.xml": b"<x/>"}))) == 2
    two = one | {f"deep/{name.replace('fields', 'lakes')}": content for name, content in members.items()}
    both = zipped(tmp_path / "both.zip", two | junk)
    with pytest.raises(LayerError, match=r"\(fields, lakes\); name one of them with layer= \(--layer"):
        read_layer(both)
    assert read_layer(both, layer="lakes").name == "both-lakes"
    twins = {f"{folder}/{name}": content for folder in "xy" for name, content in members.items()}
    with pytest.raises(LayerError, match=r"x/fields\.shp/fields, y/fields\.shp/fields"):
        read_layer(zipped(tmp_path / "twins.zip", twins))
    frame(a=[1]).to_parquet(tmp_path / "p.bin")
    assert len(read_layer(zipped(tmp_path / "p.zip", {"p.parquet": (tmp_path / "p.bin").read_bytes()}))) == 1
    frame(a=["x"]).to_file(tmp_path / "g.gdb", driver="OpenFileGDB")
    base = {f"x/g.gdb/{name}": content for name, content in parts(tmp_path / "g.gdb").items()}
    assert len(read_layer(zipped(tmp_path / "g.gdb.zip", base))) == 1
    with pytest.raises(LayerError, match=r"the archive has no layer in it, but x\.qmd, readme\.txt;"):
        read_layer(zipped(tmp_path / "none.zip", junk))


def test_archives_of_other_formats_and_in_capitals(tmp_path: Path) -> None:
    table = frame(a=[1, 2])
    for name in ("p.parquet", "q.feather", "s.shp"):
        (table.to_parquet if "p" in name[0] else table.to_feather if "q" in name[0] else table.to_file)(tmp_path / name)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    several = zipped(tmp_path / "several.zip", kept | {"r.pq": kept["p.parquet"]})
    with pytest.raises(LayerError, match=r"has several layers \(.*\); name one of them"):
        read_layer(several)
    for name in "pqrs":
        assert read_layer(several, layer=name).attributes["a"].tolist() == [1, 2]
    capitals = {name.replace("s.dbf", "S.DBF"): content for name, content in kept.items() if name.startswith("s.")}
    assert read_layer(zipped(tmp_path / "capitals.zip", capitals)).attributes["a"].tolist() == [1, 2]
    frame(a=["x", "y"]).to_file(tmp_path / "g.gdb", driver="OpenFileGDB")
    assert len(read_layer(zipped(tmp_path / "bare.gdb.zip", parts(tmp_path / "g.gdb")))) == 2


@pytest.mark.parametrize("suffix", [".zip", ".csv", ".kml", ""])
@pytest.mark.parametrize(
    ("driver", "own"),
    [("GPKG", "gpkg"), ("SQLite", "db"), ("GeoJSON", "json"), ("FlatGeobuf", "fgb"), ("KML", "kml"), ("GML", "gml")],
)
def test_a_name_of_another_format(tmp_path: Path, driver: str, own: str, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    frame(a=[1, 2]).to_file(tmp_path / f"layer.{own}", driver=driver)
    (tmp_path / f"layer.{own}").rename(tmp_path / "in" / f"l{suffix}")
    layer = read_layer(tmp_path / "in" / f"l{suffix}")
    assert (len(layer), layer.name) == (2, "l")
    assert list(parts(tmp_path / "in")) == [f"l{suffix}"]


def test_a_file_is_what_its_bytes_say(tmp_path: Path) -> None:
    table = frame(a=[1])
    table.to_parquet(tmp_path / "l.pq")
    table.to_feather(tmp_path / "l.feather")
    pq.write_table(pa.table(table.to_arrow()), tmp_path / "geoarrow.parquet")
    for name in ("l.pq", "l.feather", "geoarrow.parquet"):
        assert read_layer(tmp_path / name).content_identity == read_layer(table).content_identity


# ------------------------------------------------------------------------------------------------------- one's fault


def test_one_outline_that_cannot_be_read_is_one_features_fault(tmp_path: Path) -> None:
    table = frame(a=[1, 2, 3])
    table.to_parquet(tmp_path / "l.parquet")
    read = pq.read_table(tmp_path / "l.parquet")
    outlines = read.column("geometry").to_pylist()
    start = struct.unpack_from("<dd", outlines[1], 13)
    outlines[1] = outlines[1][:-16] + struct.pack("<dd", start[0] + 0.001, start[1])
    outlines[2] = b"\x01\x03\x00\x00\x00\x01"
    at = read.schema.get_field_index("geometry")
    pq.write_table(read.set_column(at, read.schema.field(at), pa.array(outlines)), tmp_path / "l.parquet")
    layer = read_layer(tmp_path / "l.parquet")
    assert (layer.repaired, layer.empty) == ((1,), (2,))
    assert layer.notes == ("1 of 3 features has an outline that cannot be read (fid 2).",)
    assert shapely.equals(layer.geometry[0], table.geometry[0])


@pytest.mark.parametrize(
    "source",
    [None, 5, float("nan"), [SQUARE], SQUARE, {"type": "Feature"}, pd.DataFrame({"a": [1]}), "", b"", object()],
)
def test_what_is_not_a_layer(source: Any) -> None:
    with pytest.raises(LayerError, match=r"^The layer .*; (pass the path of a vector file|check the path)"):
        read_layer(source)


def test_what_may_be_a_layer_too(tmp_path: Path) -> None:
    assert len(read_layer(frame(a=[1, 2]).geometry)) == 2
    with pytest.raises(LayerError, match="The GeoSeries has no coordinate reference system"):
        read_layer(gpd.GeoSeries([SQUARE]))
    frame(a=[1]).to_file(tmp_path / "l.gpkg")
    assert len(read_layer(os.fsencode(tmp_path / "l.gpkg"))) == 1
    (tmp_path / "folder").mkdir()
    with pytest.raises(LayerError, match="a folder without a layer in it"):
        read_layer(tmp_path / "folder")
    for address in (
        "http://user:secret@127.0.0.1/l.gpkg",
        "/vsicurl/http://127.0.0.1/l.gpkg",
        "PG:dbname=x",
        "s3://b/l.shp",
    ):
        with pytest.raises(LayerError, match="is an address, not a file on this machine") as caught:
            read_layer(address)
        assert "secret" not in str(caught.value)
    for odd in ("x" * 5000, "a\0b", "~nobody-of-that-name/l.gpkg"):
        with pytest.raises(LayerError, match="The layer "):
            read_layer(odd)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["l.shp", "l.dbf", "l.prj", "pipe"])
def test_pipes_and_devices_are_refused(tmp_path: Path, name: str) -> None:
    frame(a=[1]).to_file(tmp_path / "l.shp")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LayerError, match=rf"\({name} is not a regular file but a pipe"):
        read_layer(tmp_path / ("pipe" if name == "pipe" else "l.shp"))


def test_a_side_file_without_an_end_is_refused(tmp_path: Path) -> None:
    frame(a=[1]).to_file(tmp_path / "l.shp")
    with (tmp_path / "l.prj").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(LayerError, match=r"l\.prj has 2048 MB, which no such file has"):
        read_layer(tmp_path / "l.shp")


VRT = '<OGRVRTDataSource><OGRVRTLayer name="f"><SrcDataSource>{}</SrcDataSource>{}</OGRVRTLayer></OGRVRTDataSource>'


@pytest.mark.parametrize(("limit", "said"), [("_SURELY_FINE", "inflates to 5 MB"), ("_MOST_FILES", "has 5 files")])
def test_an_archive_that_is_too_much_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
) -> None:
    monkeypatch.setattr(layer_files, limit, {"_SURELY_FINE": 1 << 20, "_MOST_FILES": 4}[limit])
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(5):
            archive.writestr(f"{n}.geojson", bytes(1 << 20))
    with pytest.raises(LayerError, match=said):
        read_layer(tmp_path / "x.zip")


ODD_TABLE = {"name": b"\xff", "tbl_name": b"\xff", "sql": b'CREATE TABLE "\xff" (a)'}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.gpkg", VRT.format("/vsicurl/{url}/l.geojson", "")),
        ("l.vrt", VRT.format("/vsicurl/{url}/l.geojson", "")),
        ("l.vrt", VRT.format("{url}/l.geojson", "")),
        ("l.vrt", VRT.format("WFS:{url}", "")),
        (
            "l.vrt",
            VRT.format("own.gpkg", "<SrcSQL>SELECT * FROM f JOIN '/vsicurl/{url}/l.geojson'.x ON f.a = x.a</SrcSQL>"),
        ),
        ("l.vrt", VRT.format("own.gpkg", "<LayerSRS>{url}/crs</LayerSRS>")),
        ("l.gml", "<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>"),
        ("l.geojson", '{"type":"gdal_streamed_alg","command_line":"gdal vector read {url}/l.geojson"}'),
        ("l.geojson", {"crs": {"type": "link", "properties": {"href": "{url}/crs"}}}),
        ("l.geojson", {"\\u0063rs": {"type": "URL", "properties": {"url": "{url}/crs"}}}),
        ("l.sqlite", "CREATE VIRTUAL TABLE v USING VirtualOGR('/vsicurl/{url}/l.geojson')"),
    ],
)
def test_a_layer_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame(a=[1]).to_file(tmp_path / "own.gpkg")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if isinstance(content, dict):
            geojson(tmp_path / name, {"a": 1}, **content)
            content = (tmp_path / name).read_text().replace("\\\\u", "\\u")
        if name.endswith(".sqlite"):
            base = sqlite3.connect(tmp_path / name)
            base.execute("CREATE TABLE w (a)")
            base.execute("PRAGMA writable_schema=ON")
            # A table before it whose name is not UTF-8 hides it from nobody.
            odd = ", ".join(f"{column} = CAST(x'{text.hex()}' AS TEXT)" for column, text in ODD_TABLE.items())
            base.execute(f"UPDATE sqlite_master SET {odd}")  # noqa: S608  # fixed texts
            base.execute("INSERT INTO sqlite_master VALUES('table', 'v', 'v', 0, ?)", (content.replace("{url}", url),))
            base.commit()
            base.close()
        else:
            (tmp_path / name).write_text(content.replace("{url}", url))
        with pytest.raises(LayerError, match=r"cannot be read \("):
            read_layer(tmp_path / name)
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody called


def test_a_virtual_layer_of_files_on_this_machine(tmp_path: Path) -> None:
    frame(a=[1]).to_file(tmp_path / "own.gpkg")
    source = VRT.format("own.gpkg", "").replace("<SrcDataSource>", '<SrcDataSource relativeToVRT="1">')
    (tmp_path / "l.vrt").write_text(source.replace('name="f"', 'name="own"'))
    assert len(read_layer(tmp_path / "l.vrt")) == 1


def test_flipped_bytes_give_a_layer_or_one_sentence(tmp_path: Path) -> None:
    table = frame(a=["maize", "é"], n=[1, 2])
    rng = np.random.default_rng(12)
    for suffix in (".shp", ".gpkg", ".geojson", ".fgb", ".parquet", ".gml", ".kml"):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        path = folder / f"l{suffix}"
        table.to_parquet(path) if suffix == ".parquet" else table.to_file(
            path, driver="KML" if suffix == ".kml" else None
        )
        files = [file for file in folder.iterdir() if file.suffix in {suffix, ".dbf", ".prj"}]
        for file in files:
            whole = file.read_bytes()
            for _ in range(4):
                content = bytearray(whole)
                for at in rng.integers(0, len(content), 4):
                    content[at] = rng.integers(0, 256)
                file.write_bytes(content)
                try:
                    read_layer(path)
                except LayerError as error:
                    assert "\n" not in str(error)  # noqa: PT017  # either outcome is right
            file.write_bytes(whole)
