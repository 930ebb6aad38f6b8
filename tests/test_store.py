"""The folder of a layer: recognition, files of images, the book, the lock."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import logging
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

from sen2chain.atomic import replacing
from sen2chain.errors import DeliveryError, StoreError
from sen2chain.grid import Grid
from sen2chain.jobs.delivery import Folder
from sen2chain.jobs.delivery_registry import DeliveryRegistry
from sen2chain.products import ProductId
from sen2chain.reasons import Reason
from sen2chain.rows import Batch
from sen2chain.spool import RowFormat, attribute_table
from sen2chain.store import (
    CompiledFile,
    Entry,
    ExtractionFolder,
    ImageLedger,
    State,
    held_since,
    is_locked,
    list_images,
    locked,
    make_folder,
    read_image,
    recognise,
    sweep,
    write_image,
)
from sen2chain.store.extraction_folder import product_of
from sen2chain.vectors import read_layer, same_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sen2chain.store import Recognised

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
PRODUCT = ProductId.parse("S2A_MSIL2A_20220612T100601_N0400_R022_T32TPS_20220612T160000")
COLUMNS = ("min", "max", "mean")

# ---------------------------------------------------------------------------------------------------------- recognition


@pytest.fixture(scope="module")
def parcels() -> gpd.GeoDataFrame:
    """Fields of odd shapes in the hills, in degrees; one multipolygon of one part, one of two, one missing."""
    rng = np.random.default_rng(7)
    x, y = 11.3 + rng.random(40) * 0.05, 46.4 + rng.random(40) * 0.05
    shapes = [
        shapely.Point(a, b).buffer(0.0004 + 0.0003 * r, quad_segs=3)
        for a, b, r in zip(x, y, rng.random(40), strict=True)
    ]
    shapes[3] = shapely.MultiPolygon([shapes[3]])
    shapes[4] = shapely.MultiPolygon([shapes[4], shapely.box(11.36, 46.4, 11.361, 46.401)])
    shapes[5] = shapely.Polygon(shapes[5].exterior, [shapely.affinity.scale(shapes[5], 0.3, 0.3).exterior.coords])
    return gpd.GeoDataFrame(
        {
            "a_name_of_many_letters": [f"Ä {i}" for i in range(40)],
            "number": np.arange(40) * 3,
            "identifier": 840_123_456_700 + np.arange(40) * 7,
            "area": rng.random(40).round(6),
            "gaps": [None if i % 7 == 0 else "x" for i in range(40)],
        },
        geometry=shapes,
        crs=4326,
    )


def begin(extraction: Path, path: Path | gpd.GeoDataFrame, cache: Path, **options: Any) -> Recognised:
    """Begin a folder for a layer."""
    layer = read_layer(path, cache=cache, **options)
    found = recognise(extraction, layer, "", cache)
    make_folder(found, layer, cache)
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def save(frame: gpd.GeoDataFrame, path: Path, **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path, **options)
    return path


def renamed(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return frame.rename(columns={"a_name_of_many_letters": "a_name_of_"})


def turned(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Rings that begin elsewhere and go the other way round."""
    shapes = [g if g is None or g.geom_type != "Polygon" else _turned(g) for g in frame.geometry]
    return frame.set_geometry(shapes, crs=frame.crs)


def _turned(shape: shapely.Polygon) -> shapely.Polygon:
    ring = list(shape.exterior.coords)[:-1]
    return shapely.Polygon([*ring[3:], *ring[:3]][::-1], [list(r.coords)[::-1] for r in shape.interiors])


SAVED: dict[str, Callable[[gpd.GeoDataFrame, Path], Path | gpd.GeoDataFrame]] = {
    "GeoPackage": lambda frame, to: save(frame, to / "fields.gpkg"),
    "GeoJSON": lambda frame, to: save(frame, to / "fields.geojson"),
    "GeoJSON of seven digits": lambda frame, to: save(frame, to / "f.geojson", RFC7946="YES"),
    "FlatGeobuf": lambda frame, to: save(frame, to / "fields.fgb", SPATIAL_INDEX="NO"),
    "shapefile": lambda frame, to: save(renamed(frame), to / "fields.shp", encoding="utf-8"),
    "GeoParquet": lambda frame, to: save(frame, to / "fields.parquet"),
    "UTM": lambda frame, to: save(frame.to_crs(32632), to / "utm.gpkg"),
    "ETRS89 LAEA shapefile": lambda frame, to: save(renamed(frame).to_crs(3035), to / "laea.shp", encoding="utf-8"),
    "Web Mercator": lambda frame, to: save(frame.to_crs(3857), to / "web.geojson"),
    "GeoDataFrame": lambda frame, to: frame,  # noqa: ARG005
    "projected there and back": lambda frame, to: save(frame.to_crs(25832).to_crs(4326), to / "back.gpkg"),
    "rings turned": lambda frame, to: save(turned(frame), to / "turned.gpkg"),
}


@pytest.mark.parametrize("first", ["GeoPackage", "shapefile", "ETRS89 LAEA shapefile", "GeoDataFrame"])
@pytest.mark.parametrize("second", SAVED)
def test_a_layer_is_the_same_however_it_was_saved(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path, first: str, second: str
) -> None:
    found = begin(tmp_path / "e", SAVED[first](parcels, tmp_path / "one"), cache)
    assert not found.exists
    assert found.hint == ""
    layer = read_layer(SAVED[second](parcels, tmp_path / "two"), name="another name", cache=cache)
    again = recognise(tmp_path / "e", layer, "", cache)
    assert again.exists, second
    assert again.folder == found.folder
    stored = make_folder(again, layer, cache)
    assert stored.name == found.folder.stem
    assert same_features(stored, layer)


def changed(frame: gpd.GeoDataFrame, what: str) -> gpd.GeoDataFrame:
    other = frame.copy()
    if what == "an outline moved by a metre":
        other.loc[9, "geometry"] = shapely.affinity.translate(other.geometry[9], 1e-5, 0)
    elif what == "a hole filled":
        other.loc[5, "geometry"] = shapely.Polygon(other.geometry[5].exterior)
    elif what == "the last digit of an identifier":
        other.loc[9, "identifier"] += 1
    elif what == "an attribute":
        other.loc[9, "number"] = 5
    elif what == "the order":
        other = other.iloc[::-1].reset_index(drop=True)
    elif what == "a feature less":
        other = other.iloc[:-1]
    elif what == "a geometry lost":
        other.loc[9, "geometry"] = None
    return other


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("an outline moved by a metre", "1 of 40 outlines differ"),
        ("a hole filled", "1 of 40 outlines differ"),
        ("an attribute", "attributes differ"),
        ("the last digit of an identifier", "attributes differ"),
        ("the order", "40 of 40 outlines differ"),
        ("a feature less", "39 features instead of 40"),
        ("a geometry lost", "1 of 40 outlines differ"),
    ],
)
@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_changed_features_are_a_new_layer_and_the_old_folder_is_named(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path, what: str, said: str, suffix: str
) -> None:
    frame = renamed(parcels)
    path = save(frame, tmp_path / f"fields{suffix}", encoding="utf-8")
    old = begin(tmp_path / "e", path, cache)
    for file in tmp_path.glob("fields.*"):
        file.unlink()
    save(changed(frame, what), path, encoding="utf-8")
    new = begin(tmp_path / "e", path, cache)
    assert not new.exists
    assert new.folder != old.folder
    assert f"is not the one that {old.folder.root.name} holds ({said})" in new.hint
    assert new.hint.endswith(f"{old.folder.root.name} stays as it is.")
    assert new.folder.root.is_dir()
    assert begin(tmp_path / "e", path, cache).exists


def test_an_unchanged_file_is_recognised_without_reading_a_geometry(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(parcels, tmp_path / "fields.gpkg")
    os.utime(path, (time.time() - 60,) * 2)  # else it is too young to be known by its time
    found = begin(tmp_path / "e", path, cache)
    for i in range(5):
        begin(tmp_path / "e", parcels.iloc[i:], cache, name=f"other{i}")
    layer = read_layer(path, cache=cache)
    monkeypatch.setattr("sen2chain.store.recognition.summarize", lambda _: pytest.fail("geometries were compared"))
    assert recognise(tmp_path / "e", layer, "", cache) == replace(found, exists=True, hint="")


def test_a_run_that_comes_while_another_copies_the_layer_leaves_its_file_alone(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer is copied before the folder can be locked, so the other run holds the folder meanwhile."""
    swept = []

    @contextlib.contextmanager
    def slowly(path: Path) -> Iterator[BinaryIO]:
        with replacing(path) as file:
            yield file
            with locked(path.parent.parent):
                left = path.with_name(f".{'0' * 16}-{'0' * 8}-1.tmp")
                left.touch()  # as a run on another machine left it days ago
                os.utime(left, (1e9, 1e9))
                sweep(path.parent.parent)
            swept.append(not left.exists())

    monkeypatch.setattr("sen2chain.store.recognition.replacing", slowly)
    found = begin(tmp_path / "e", save(parcels, tmp_path / "fields.gpkg"), cache)
    assert swept == [True, True]  # the layer and the note beside it
    assert sorted(path.name for path in found.folder.layer_files.iterdir()) == ["fields.parquet", "layer.json"]


def test_a_shapefile_has_the_checksum_that_the_original_gives_it(shared: Path, tmp_path: Path, cache: Path) -> None:
    layer = shared / "reference" / "samples" / "layer" / "parcels.shp"
    found = begin(tmp_path, layer, cache)
    assert found.folder.root.name == "parcels_a66d83f18b63a667"
    for path in layer.parent.iterdir():
        assert (found.folder.layer_files / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["wgs84.geojson", "utm32.gpkg", "wgs84.parquet", "laea.shp"])
def test_real_copies_of_a_layer_find_the_originals_folder(
    shared: Path, bolzano: Path, tmp_path: Path, cache: Path, name: str
) -> None:
    shutil.copytree(shared / "reference" / "samples" / "extraction", tmp_path / "e")
    layer = read_layer(bolzano / "vectors" / f"parcels_{name}", cache=cache)
    found = recognise(tmp_path / "e", layer, "", cache)
    assert found.exists
    assert found.folder.root.name == "parcels_a66d83f18b63a667"


def test_the_originals_folder_of_a_projected_layer_is_found(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path
) -> None:
    """The original wrote such a layer to another file in degrees, and called the folder after that."""
    utm = save(renamed(parcels).to_crs(32632), tmp_path / "fields.shp", encoding="utf-8")
    degrees = save(gpd.read_file(utm).to_crs(4326), tmp_path / "fields_wgs84.shp", encoding="utf-8")
    old = begin(tmp_path / "e", degrees, cache)
    (old.folder.layer_files / "layer.json").unlink()  # that is ours
    found = recognise(tmp_path / "e", read_layer(utm, cache=cache), "", cache)
    assert found.exists
    assert found.folder.stem == "fields_wgs84"


def test_a_layer_without_attributes_survives_a_shapefile(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path
) -> None:
    bare = parcels[["geometry"]]
    begin(tmp_path / "e", save(bare, tmp_path / "bare.gpkg"), cache)
    layer = read_layer(save(bare, tmp_path / "bare.shp"), cache=cache)
    assert list(layer.attributes) == ["FID"]  # GDAL adds one
    assert recognise(tmp_path / "e", layer, "", cache).exists


# What the version before wrote for `beside_attributes`: ids of the GeoPackage were lost, numbers beside a null floats.
FORMER_NAME = "fields_c40eba697e1cfd35"
FORMER_ATTRIBUTES = "22eca30293af2108c193ad757796a5e9dac6001e76c3186776bca95d13ae10c3"


def beside_attributes() -> gpd.GeoDataFrame:
    columns = {
        "crop": ["maize", None, "é"], "n": pd.array([1, None, 3], dtype="Int64"),
        "flag": pd.array([True, None, False], dtype="boolean"), "ha": [1.5, 2, 3],
    }  # fmt: skip
    boxes = [shapely.box(11.0 + i / 10, 46.0, 11.01 + i / 10, 46.01) for i in range(3)]
    return gpd.GeoDataFrame(columns, geometry=boxes, crs=4326)


@pytest.mark.parametrize("with_note", [True, False])
def test_a_folder_of_the_version_before_is_continued(tmp_path: Path, cache: Path, *, with_note: bool) -> None:
    former = tmp_path / "e" / FORMER_NAME / "shp_files"
    former.mkdir(parents=True)
    frame = beside_attributes()
    frame.assign(n=[1.0, np.nan, 3.0], flag=["True", None, "False"]).to_parquet(former / "fields.parquet")
    if with_note:
        bounds = [11.0, 46.0, 11.209999999999999, 46.01]
        note = {"features": 3, "bounds": bounds, "attributes": FORMER_ATTRIBUTES, "crs": "EPSG:4326", "files": []}
        (former / "layer.json").write_text(json.dumps({**note, "columns": ["crop", "n", "flag", "ha"]}))
    indexed = frame.set_index("crop", drop=False).rename_axis("key")
    for source, outside in ((save(frame, tmp_path / "fields.gpkg"), "attr_fid"), (indexed, "key")):
        layer = read_layer(source, name="fields", cache=cache)
        assert layer.outside == (outside,)
        found = recognise(tmp_path / "e", layer, "", cache)
        assert (found.folder.root.name, found.exists) == (FORMER_NAME, True)
        assert layer.content_identity.startswith(FORMER_NAME[-16:])
        assert list(make_folder(found, layer, cache).attributes) == ["crop", "n", "flag", "ha"]


def test_a_new_folder_keeps_what_lies_beside_the_attributes(tmp_path: Path, cache: Path) -> None:
    frame = beside_attributes()
    layer = read_layer(save(frame, tmp_path / "fields.gpkg"), cache=cache)
    stored = make_folder(recognise(tmp_path / "e", layer, "", cache), layer, cache)
    assert stored.attributes["attr_fid"].tolist() == [1, 2, 3]
    assert stored.outside == ("attr_fid",)
    (tmp_path / "fields.geojson").write_text(frame.to_json(drop_id=True))
    for source in (tmp_path / "fields.gpkg", tmp_path / "fields.geojson", frame):
        assert recognise(tmp_path / "e", read_layer(source, name="other", cache=cache), "", cache).exists
    for note in (tmp_path / "e").glob("*/shp_files/layer.json"):
        note.unlink()
    assert recognise(tmp_path / "e", read_layer(frame), "", cache).exists


def test_a_layer_that_needs_an_encoding_and_a_crs_is_stored_and_found(tmp_path: Path, cache: Path) -> None:
    path = save(beside_attributes()[["crop", "geometry"]], tmp_path / "fields.shp", encoding="cp1252")
    for suffix in (".prj", ".cpg"):
        path.with_suffix(suffix).unlink()
    asked = {"crs": "EPSG:4326", "encoding": "cp1252"}
    text = path.with_suffix(".dbf").read_bytes()
    path.with_suffix(".dbf").write_bytes(text[:29] + b"\0" + text[30:].replace(b"maize", "mähze".encode("cp1252")))
    layer = read_layer(path, cache=cache, **asked)
    stored = make_folder(recognise(tmp_path / "e", layer, "", cache), layer, cache)
    assert (stored.crs, stored.attributes["crop"][0]) == ("EPSG:4326", "mähze")
    assert recognise(tmp_path / "e", read_layer(path, cache=cache, **asked), "", cache).exists


def test_a_folder_that_a_killed_run_began_is_completed(parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path) -> None:
    path = save(renamed(parcels), tmp_path / "fields.shp", encoding="utf-8")
    found = begin(tmp_path / "e", path, cache)
    want = {p.name: p.read_bytes() for p in found.folder.layer_files.iterdir() if p.suffix != ".json"}
    for lost in (("layer.json", "fields.shx"), ("layer.json", "fields.shp"), tuple(want)):
        for name in lost:
            (found.folder.layer_files / name).unlink(missing_ok=True)
        again = begin(tmp_path / "e", path, cache)
        assert again.exists
        assert want.items() <= {p.name: p.read_bytes() for p in found.folder.layer_files.iterdir()}.items()


def test_options_that_give_other_rows_have_other_folders(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path
) -> None:
    layer = read_layer(parcels)
    plain, weighted = (recognise(tmp_path, layer, tag, cache).folder for tag in ("", "_weighted"))
    make_folder(recognise(tmp_path, layer, "_weighted", cache), layer, cache)
    assert recognise(tmp_path, layer, "_weighted", cache).exists
    assert not recognise(tmp_path, layer, "", cache).exists
    assert weighted.root.name == f"{plain.root.name}_weighted"
    assert (weighted.stem, weighted.checksum, weighted.tag) == ("layer", plain.checksum, "_weighted")


def test_what_lies_beside_folders_of_layers_is_no_matter(
    parcels: gpd.GeoDataFrame, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "readme.txt").write_text("x")
    (tmp_path / "e" / "fields_0123456789abcdef").mkdir()  # nothing in it
    (tmp_path / "e" / "broken_0123456789abcdee" / "shp_files").mkdir(parents=True)
    (tmp_path / "e" / "broken_0123456789abcdee" / "shp_files" / "broken.shp").write_bytes(b"no shapefile")
    (tmp_path / "e" / "notes_0123456789abcded" / "shp_files").mkdir(parents=True)
    (tmp_path / "e" / "notes_0123456789abcded" / "shp_files" / "layer.json").write_text("[]")
    found = begin(tmp_path / "e", save(parcels, tmp_path / "fields.gpkg"), cache)
    assert not found.exists
    assert "its layer cannot be read" in found.hint


# ------------------------------------------------------------------------------------------------------ files of images


def batch(fids: Sequence[int] = (0, 2, 3), day: int = 12, **columns: Any) -> Batch:
    fid = np.array(fids, np.int64)
    product = replace(PRODUCT, sensing=PRODUCT.sensing.replace(day=day))
    values: dict[str, Any] = {"fid": fid, "count": fid + 10, "nodata": fid, "nbcld": fid * 0}
    values |= {"cldprb": np.where(fid == 2, np.nan, 1.5), **dict.fromkeys(COLUMNS, fid / 3 + 7000)}
    values |= {"reason": np.full(len(fid), -1, np.int8), **columns}
    return Batch("NDVI", CM004, product, f"{product}_NDVI_{CM004}.jp2", values, {Reason.CLOUD: 2}, "bands", "computed")


LAYOUT = RowFormat(COLUMNS, features=4, attributes=attribute_table(pd.DataFrame({"name": ["a", 'b "q"', "c,d", "é"]})))


@pytest.mark.parametrize("raw_format", ["csv", "parquet"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_image_comes_back_as_it_was(tmp_path: Path, raw_format: Any, *, whole: bool) -> None:
    folder = ExtractionFolder(tmp_path / "fields_0123456789abcdef")
    layout = replace(LAYOUT, whole_counts=whole)
    one = batch() if whole else batch(count=np.array([0.5, 1 / 3, 2.0]))
    image = write_image(one, folder, layout, raw_format)
    assert image.path.name == f"fields_{PRODUCT}_NDVI_{CM004}.{raw_format}"
    (found,) = list_images(folder, "NDVI", CM004)
    assert found == image
    back = read_image(found, "NDVI", CM004, layout)
    for name, values in one.columns.items():
        np.testing.assert_array_equal(back.columns[name], values)
    assert (back.filename, back.product, back.rows) == (one.filename, one.product, 3)
    if raw_format == "csv":
        lines = image.path.read_text(encoding="utf-8").split("\n")
        assert lines[0] == f"date,fid,tile,filename,count,nodata,nbcld,cldprb,{','.join(COLUMNS)},name"
        assert lines[2].startswith(f"2022-06-12 10:06:01,2,32TPS,{PRODUCT}_NDVI_{CM004}.jp2,")
        assert lines[2].endswith('"c,d"')
    else:
        assert pq.read_schema(image.path).names == lines_of(layout)


def lines_of(layout: RowFormat) -> list[str]:
    return [name for name in layout.schema.names if name != "name"]


def test_statistics_that_a_file_lacks_are_missing(tmp_path: Path) -> None:
    folder = ExtractionFolder(tmp_path / "fields_0123456789abcdef")
    for raw_format in ("csv", "parquet"):
        image = write_image(batch(), folder, LAYOUT, raw_format)
        more = read_image(image, "NDVI", CM004, replace(LAYOUT, columns=(*COLUMNS, "percentile_10")))
        assert np.isnan(more.columns["percentile_10"].astype(float)).all()
        assert more.columns["mean"].tolist() == batch().columns["mean"].tolist()


def test_rows_of_others_are_sorted_by_feature(tmp_path: Path) -> None:
    folder = ExtractionFolder(tmp_path / "fields_0123456789abcdef")
    image = write_image(batch(), folder, LAYOUT, "csv")
    header, *rows = image.path.read_text(encoding="utf-8").splitlines()
    image.path.write_text("\n".join([header, *rows[::-1]]) + "\n", encoding="utf-8")
    assert read_image(image, "NDVI", CM004, LAYOUT).columns["fid"].tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".csv", b"date,fid,filename,count,nodata,nbcld\nd,9,f,1,1,1\n"),
        (".csv", b"date,fid,filename,count,nodata,nbcld\nd,,f,1,1,1\n"),
        (".csv", b"date,fid,filename,count,nodata\nd,1,f,1,1\n"),
        (".csv", b""),
        (".csv", b"a,b\n1,2\n"),
        (".csv", b"date,fid,count,filename\nx,y,z,u\n"),
        (".parquet", b"PAR1"),
    ],
)
def test_files_that_hold_no_rows_are_told(tmp_path: Path, suffix: str, text: bytes) -> None:
    folder = ExtractionFolder(tmp_path / "fields_0123456789abcdef")
    path = folder.raw_file(f"{PRODUCT}_NDVI_{CM004}.jp2", suffix, "NDVI", CM004)
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    (image,) = list_images(folder, "NDVI", CM004)
    with pytest.raises(StoreError, match=f"{path.name} cannot be read") as caught:
        read_image(image, "NDVI", CM004, LAYOUT)
    assert "\n" not in str(caught.value)


def test_names_of_raw_files() -> None:
    assert product_of(f"fields_{PRODUCT}_NDVI_{CM004}.csv") == PRODUCT
    assert product_of(f"a_{replace(PRODUCT, orbit=1)}_b_{PRODUCT}_NDVI_{CM004}.parquet") == PRODUCT
    assert product_of(f"{replace(PRODUCT, orbit=1)}_{PRODUCT}_NDVI_{CM004}.parquet") == PRODUCT
    assert product_of(f".fields_{PRODUCT}_NDVI_{CM004}.csv") == PRODUCT
    for name in ("products_no_data.csv", f"fields_{PRODUCT}_NDVI.txt", f"._fields_{PRODUCT}_NDVI_x.csv", "x.parquet",
                 f"fields_{str(PRODUCT).replace('0612T', '0699T')}_NDVI_CM001.csv"):  # fmt: skip
        assert product_of(name) is None, name


# ------------------------------------------------------------------------------------------------------------- the book

GRID = Grid("EPSG:32632", (10.0, 0.0, 600000.0, 0.0, -10.0, 5200020.0), (480, 480))


def test_entries_come_back(tmp_path: Path) -> None:
    done = replace(Entry.of(batch(), '{"files": {}}', GRID, 12.5), file="x.parquet", size=7)
    other = Entry("NDVI", CM004, str(replace(PRODUCT, orbit=1)), State.EMPTY, error="It's empty.")
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record([done, other])
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.entries("NDVI", CM004) == {done.product: done, other.product: other}
        assert ledger.entries("NDVI", "CM001") == {}
        assert ledger.grids() == {"32TPS": Counter({GRID: 1})}
        assert ledger.count("NDVI", CM004) == {State.DONE: 1, State.EMPTY: 1}
        ledger.expect([done.key, ("NDVI", "CM001", done.product)])
        # What is known of an image stays while it waits.
        assert ledger.entries("NDVI", CM004)[done.product] == replace(done, state=State.PENDING)
        assert ledger.entries("NDVI", "CM001")[done.product].state is State.PENDING
        ledger.record([other])
        ledger.set_fact("said", "yes")
        assert (ledger.fact("said"), ledger.fact("unsaid")) == ("yes", None)
        file = CompiledFile("a/b.csv", "family", "sha", 3, 4)
        ledger.set_compiled([file])
        ledger.set_compiled([replace(file, path="c.csv")], gone=["a/b.csv"])
        assert ledger.compiled() == {"c.csv": replace(file, path="c.csv")}


def test_a_step_is_entered_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    entries = [Entry("NDVI", CM004, str(replace(PRODUCT, orbit=n)), State.DONE) for n in range(1, 4)]
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        broken = replace(entries[2], rows=object())  # type: ignore[arg-type]
        with pytest.raises((StoreError, sqlite3.Error)):
            ledger.record([*entries[:2], broken])
        assert ledger.entries("NDVI", CM004) == {}


@pytest.mark.parametrize(
    ("reasons", "rows", "state"),
    [
        ({Reason.CLOUD: 3}, 0, State.EMPTY),
        ({Reason.CLOUD: 1}, 2, State.DONE),
        ({Reason.UNREADABLE: 3}, 0, State.FAILED),
        ({Reason.GRID_MISMATCH: 2, Reason.NULL_GEOMETRY: 1}, 0, State.FAILED),
        ({Reason.FAILED: 3}, 0, State.FAILED),
        ({Reason.MASK_INPUTS_MISSING: 3}, 0, State.EMPTY),
    ],
)
def test_what_became_of_an_image(reasons: dict[Reason, int], rows: int, state: State) -> None:
    entry = Entry.of(replace(batch(range(rows)), reasons=reasons), "", GRID, None)
    assert entry.state is state
    assert entry.rows == rows
    assert entry.reasons == {reason.value: n for reason, n in reasons.items()}
    # A broken product does not vote for the grid of its tile.
    assert (entry.grid is None) == (state is State.FAILED)
    assert entry.mismatched == (Reason.GRID_MISMATCH in reasons)


# ------------------------------------------------------------------------------------------------------------- the lock


def hold(folder: Path, held: Any, go: Any) -> None:
    with locked(folder):
        held.set()
        go.wait(30)


def test_a_second_process_waits_or_says_who_holds_it_and_a_dead_one_locks_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("spawn")
    held, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, go))
    other.start()
    assert held.wait(30)
    with pytest.raises(StoreError, match=f"held by process {other.pid} on "), locked(tmp_path, wait=0.1):
        pass
    with caplog.at_level(logging.WARNING, "sen2chain"):
        go.set()
        begin = time.monotonic()
        with locked(tmp_path, wait=30):
            assert time.monotonic() - begin < 30
    other.join()
    held.clear()
    go.clear()
    killed = context.Process(target=hold, args=(tmp_path, held, go))
    killed.start()
    assert held.wait(30)
    killed.kill()
    killed.join()
    assert json.loads((tmp_path / ".lock-holder").read_text())["process"] == killed.pid  # what it left behind
    with locked(tmp_path, wait=0):
        assert json.loads((tmp_path / ".lock-holder").read_text())["process"] == os.getpid()
    assert not (tmp_path / ".lock-holder").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are the system's there")
@pytest.mark.parametrize("system", ["without flock", "without fcntl"])
def test_where_files_have_no_locks_a_file_takes_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, system: str
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    if system == "without flock":
        monkeypatch.setattr("fcntl.flock", missing)
    else:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr("sen2chain.store.lock._LOOK", 0.01)
    monkeypatch.setattr("sen2chain.store.lock._SOFT_PATIENCE", 0.2)
    soft = tmp_path / ".lock-soft"
    with locked(tmp_path):
        assert soft.exists()
        assert is_locked(tmp_path)
        advice = r"is held by process .* if it is not running any more, remove .*-soft\."
        for wait in (0, None):
            with pytest.raises(StoreError, match=advice), locked(tmp_path, wait=wait):
                pass
    assert not soft.exists()
    assert not is_locked(tmp_path)
    told = [record.getMessage() for record in caplog.records if "no file locks" in record.getMessage()]
    assert len(told) == 1, "once, and no warning of filelock"
    assert ("Function not implemented" if system == "without flock" else "this system knows none") in told[0]
    # Left by a run that was killed: it is waited for no longer than it takes to see that.
    soft.write_text("", encoding="ascii")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    holder = {"process": gone.pid, "host": socket.gethostname(), "since": "2022-01-01"}
    (tmp_path / ".lock-holder").write_text(json.dumps(holder), encoding="ascii")
    monkeypatch.setattr("sen2chain.store.lock._SOFT_PATIENCE", 60)
    with pytest.raises(StoreError, match=f"held by process {gone.pid} .* remove "), locked(tmp_path):
        pass
    soft.unlink()
    with locked(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_lies_in_the_place_of_small_files_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock-holder")
    assert held_since(tmp_path) is None
    os.mkfifo(tmp_path / "destinations.json")
    with pytest.raises(DeliveryError, match="a pipe"):
        DeliveryRegistry(tmp_path).is_new(Folder(tmp_path))
    for text in ("[]", "{}", '{"since": 1}', "[" * 100_000):
        (tmp_path / ".lock-holder").unlink()
        (tmp_path / ".lock-holder").write_text(text)
        assert held_since(tmp_path) is None


def test_a_folder_without_rights_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match="cannot be listed"):
        list_images(ExtractionFolder(tmp_path / "fields_0123456789abcdef"), "NDVI", CM004)


def test_dates_of_products_order_the_files(tmp_path: Path) -> None:
    folder = ExtractionFolder(tmp_path / "fields_0123456789abcdef")
    for day in (20, 3, 11):
        write_image(batch(day=day), folder, LAYOUT, "parquet")
    days = [image.product.sensing.date() for image in list_images(folder, "NDVI", CM004)]
    assert days == [dt.date(2022, 6, 3), dt.date(2022, 6, 11), dt.date(2022, 6, 20)]


def test_a_file_system_without_locks_is_named(tmp_path: Path) -> None:
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        for said, cause in (
            ("database is locked", "its file system does not support locks"),
            ("disk I/O error", "check the disk"),
        ):
            with pytest.raises(StoreError, match=f"{said}.*; {cause}"), ledger._sentences():
                raise sqlite3.OperationalError(said)
