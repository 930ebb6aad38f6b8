"""Kept pixels in the place of an archive: the rows are the same, and what they do not hold is read or refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kept_folders
from sen2chain import TimeSeries, demo
from sen2chain.archive import open_library
from sen2chain.errors import LibraryError
from sen2chain.indices import Index
from sen2chain.pixel_store import split_kept
from sen2chain.rasters import counting
from sen2chain.reasons import Reason
from sen2chain.vectors import read_layer

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.store import ExtractionFolder

TILE = "31TGJ"
SIZE = 200
MARGIN = 200.0
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
NAMES = ("B04", "B08", "B11", "SCL", "CLDPRB")
INDICES = {
    "NDVI": "NDVI",
    "NDMI": Index("NDMI", "(B08-B11)/(B08+B11)"),
    "SWIR": Index("SWIR", "B11"),
    "SAVI": Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)"),
}
NEAR = ("none", CM004, "CM001", "CM003-PRB20-ITER3", "SCL-3-8-9-10-11-ITER5", "SCL-4-ITER0")
FAR = ("SCL-3-8-9-10-11-ITER6", "SCL-8-9-ITER20", "CM003-PRB1-ITER6")


@dataclass(frozen=True, repr=False)
class Kept:
    """An archive of one tile, features on it, and their kept pixels."""

    library: Path
    layer: gpd.GeoDataFrame
    folder: ExtractionFolder


def shapes_on(left: float, top: float) -> list[shapely.Geometry]:
    """Draw features of all kinds: parcels, overlaps, slivers, points, lines, at the raster's edge and outside."""
    rng = np.random.default_rng(5)
    right, bottom = left + 10 * SIZE, top - 10 * SIZE
    found: list[shapely.Geometry] = []
    for x, y in rng.uniform((left + 300, bottom + 700), (left + 1200, top - 300), (14, 2)):
        wide, high = rng.uniform(15, 160, 2)
        found.append(shapely.affinity.rotate(shapely.box(x, y, x + wide, y + high), rng.uniform(0, 90)))
    middle = (left + 600, bottom + 900)
    found += [
        shapely.Point(middle),
        shapely.MultiPoint([(left + 500, bottom + 950), (left + 503, bottom + 951), (left + 700, bottom + 800)]),
        shapely.LineString([middle, (left + 900, bottom + 1100), (left + 905, bottom + 700)]),
        shapely.box(left + 400, bottom + 800, left + 900, bottom + 803),  # a sliver
        shapely.box(left + 640, bottom + 850, left + 643, bottom + 1300),
        shapely.box(left - 55, bottom + 900, left + 75, bottom + 985),  # over the western edge
        shapely.box(left + 20, top - 35, left + 90, top + 60),
        shapely.Point(right - 1, top - 1),
        shapely.box(right + 500, bottom, right + 600, bottom + 100),  # in the tile, outside of the raster
        shapely.box(left + 800, bottom + 800, left + 1050, bottom + 1100).difference(
            shapely.box(left + 850, bottom + 850, left + 950, bottom + 1000)
        ),
        shapely.box(left + 805, bottom + 805, left + 1055, bottom + 1105),  # over the one before
    ]
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Three dates: clear, under clouds, at the edge of the swath; all bands of all features are kept."""
    base = tmp_path_factory.mktemp("kept")
    overpasses = tuple(replace(demo.season()[k], cloud=cloud) for k, cloud in ((0, 0.05), (1, 0.4), (4, 0.1)))
    scene = demo.Scene(tiles=(TILE,), size=SIZE, overpasses=overpasses, bands=NAMES, parcels=2)
    library = demo.build(base, scene).library
    aged(library)
    (frame,) = scene.frames()
    shapes = shapes_on(frame.left, frame.top)
    layer = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=f"EPSG:{frame.epsg}")
    folder = kept_folders.keep(
        base / "fields_0123456789abcdef", open_library(library), read_layer(layer, name="fields"), margin=MARGIN
    )
    return Kept(library, layer, folder)


def extracted(layer: gpd.GeoDataFrame, **options: Any) -> TimeSeries:
    return TimeSeries(layer, name="fields", quiet=True, executor="serial", **options).run()


def same_rows(one: TimeSeries, other: TimeSeries) -> None:
    """Compare the rows of two series in every column, to the last bit, and the reasons of all others."""
    assert one.data.keys() == other.data.keys()
    for name, rows in one.data.items():
        pd.testing.assert_frame_equal(rows, other.data[name], check_exact=True)
    columns = ["index", "mask", "tile", "acquisition", "date", "rows", *(reason.value for reason in Reason)]
    pd.testing.assert_frame_equal(one.report[columns], other.report[columns])


@pytest.fixture(autouse=True)
def _no_archive_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


# ------------------------------------------------------------------------------------------------------ the same rows


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what is asked of the pixels that are kept."""
    names = draw(st.lists(st.sampled_from([*INDICES]), min_size=1, max_size=3, unique=True))
    return {
        "indices": [INDICES[name] for name in names],
        "masks": draw(st.lists(st.sampled_from(NEAR), min_size=1, max_size=3, unique=True)),
        "pixels": draw(st.sampled_from(["center", "all_touched", "weighted"])),
        "buffer": draw(st.sampled_from([None, None, -3.0, -25.0])),
        "stats": draw(st.sampled_from([None, ["scl_fractions"], ["percentile_90", "mad", "majority"]])),
        "min_valid": draw(st.sampled_from([0.0, 0.5])),
        "keep_empty": draw(st.booleans()),
        "units": draw(st.sampled_from(["scaled", "index"])),
    }


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_are_those_of_the_archive(kept: Kept, data: st.DataObject) -> None:
    asked = data.draw(requests())
    chosen = data.draw(st.lists(st.integers(0, len(kept.layer) - 1), min_size=1, max_size=12, unique=True))
    layer = kept.layer.iloc[chosen].reset_index(drop=True)
    share = data.draw(st.sampled_from([0.3, 0.6, 1.0, 1.0]))
    window = shapely.affinity.scale(shapely.box(*layer.total_bounds), share, share)
    if share < 1 and layer.intersects(window).any():  # another layer inside of the one that was kept
        layer = layer.set_geometry(layer.intersection(window))
    alone = extracted(layer, pixels_from=kept.folder.root, **asked)
    archive = extracted(layer, library=kept.library, **asked)
    same_rows(alone, archive)
    assert set(alone.report["value_source"]) <= {"kept pixels"}


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    masks=st.lists(st.sampled_from(NEAR + FAR), min_size=1, max_size=4, unique=True), buffer=st.sampled_from([None, 6])
)
def test_what_is_not_kept_comes_from_the_archive_or_has_its_reason(
    kept: Kept, masks: list[str], buffer: float | None
) -> None:
    asked = {"indices": ["NDVI"], "masks": masks, "buffer": buffer}
    archive = extracted(kept.layer, library=kept.library, **asked)
    same_rows(extracted(kept.layer, library=kept.library, pixels_from=kept.folder.root, **asked), archive)
    alone = extracted(kept.layer, pixels_from=kept.folder.root, **asked)
    for mask in masks:
        report = alone.report[alone.report["mask"] == mask]
        reason = Reason.NOT_KEPT if buffer else Reason.MASK_REACH
        if buffer or mask in FAR:
            assert (report[reason.value] == len(kept.layer)).all()
            assert not report["rows"].any()
            assert report["error"].str.contains("name the archive").all()
        else:
            assert not report[reason.value].any()
            theirs = archive.report[archive.report["mask"] == mask]
            assert report["rows"].tolist() == theirs["rows"].tolist()


# --------------------------------------------------------------------------------------------- what is opened and said


def copied(library: Path, place: Path) -> Path:
    """Copy an archive with the times of its files."""
    shutil.copytree(library, place)  # by copy2, which keeps times
    return place


def aged(root: Path) -> None:
    """Make files an hour old: the identity of young ones is their whole content."""
    for path in root.rglob("*"):
        if path.is_file():
            before = path.stat().st_mtime - 3600
            os.utime(path, (before, before))


def test_nothing_of_the_archive_is_opened(kept: Kept, tmp_path: Path) -> None:
    asked = {"indices": ["NDVI", INDICES["NDMI"]], "masks": [CM004, "CM001"], "stats": ["scl_fractions"]}
    library = copied(kept.library, tmp_path / "copy")  # so that nothing is known of it
    for path in library.rglob("*"):
        if path.is_file():
            facts = path.stat()
            path.write_bytes(b"?" * facts.st_size)
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with counting() as counts:
        series = extracted(kept.layer, library=library, pixels_from=kept.folder.root, **asked)
    assert {split_kept(location) is None for location in counts.opens} <= {False}
    same_rows(series, extracted(kept.layer, library=kept.library, **asked))
    assert set(series.report["value_source"]) == {"kept pixels"}
    assert set(series.report["mask_source"]) == {"computed from kept pixels"}
    assert any("serve 3 of 3 acquisitions." in note for note in series.notes)
    assert str(kept.folder.root) in json.loads(json.dumps(series.provenance(), default=str))["archive"]


def test_kept_pixels_alone_say_that_there_is_no_archive(kept: Kept, tmp_path: Path) -> None:
    series = extracted(kept.layer, pixels_from=kept.folder.root, indices=["NDVI"], library=tmp_path / "not-mounted")
    assert series.rows
    (note,) = [note for note in series.notes if "No archive is used." in note]
    assert str(tmp_path / "not-mounted") in note
    with pytest.raises(LibraryError, match="under the features alone"):
        series.extract_ql(tmp_path / "out")


def test_dates_and_bands_that_are_not_kept_come_from_the_archive(kept: Kept, tmp_path: Path) -> None:
    source = open_library(kept.library)
    first = source.acquisitions(TILE)[0].id
    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", source, read_layer(kept.layer, name="fields"),
        names=("B08", "SCL"), products=lambda acquisition: acquisition.id != first,
    )  # fmt: skip
    asked = {"indices": ["NDVI", INDICES["SWIR"]], "masks": [CM004]}
    series = extracted(kept.layer, library=kept.library, pixels_from=folder.root, **asked)
    same_rows(series, extracted(kept.layer, library=kept.library, **asked))
    sources = series.report.groupby("acquisition")["value_source"].agg(set)
    assert sources.pop(str(first)) == {"bands"}
    assert all(kinds == {"bands and kept pixels", "bands"} for kinds in sources)
    (note,) = [note for note in series.notes if note.startswith("Kept pixels")]
    assert "serve 2 of 3 acquisitions, 2 of them together with rasters of the archive" in note
    assert "1 have no kept pixels" in note
    alone = extracted(kept.layer, pixels_from=folder.root, **asked)
    assert not alone.rows
    assert set(alone.report["acquisition"]) == {str(a.id) for a in source.acquisitions(TILE)} - {str(first)}
    assert (alone.report[Reason.NOT_KEPT.value] == len(kept.layer)).all()
