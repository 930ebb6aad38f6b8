"""Kept pixels in the place of an archive: the rows are the same, and what they do not hold is read or refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kept_folders
from sen2chain import Library, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import MemorySource, open_library
from sen2chain.cli import main
from sen2chain.errors import LibraryError, RequestError
from sen2chain.extract import Coverages, RowRules
from sen2chain.extract.extraction import extract
from sen2chain.indices import NODATA, Index
from sen2chain.pixel_store import is_kept
from sen2chain.products import KnownDetails
from sen2chain.rasters import counting
from sen2chain.reasons import Reason
from sen2chain.store import ExtractionFolder, ImageLedger
from sen2chain.vectors import read_layer

if TYPE_CHECKING:
    import numpy.typing as npt

    from sen2chain.pixel_store import PixelPositions

TILE = "31TGJ"
SIZE = 200
MARGIN = 200.0
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
NAMES = ("B04", "B08", "B11", "SCL", "CLDPRB")
SAVI = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
INDICES: dict[str, str | Index] = {
    "NDVI": "NDVI",
    "NDMI": Index("NDMI", "(B08-B11)/(B08+B11)"),
    "SWIR": Index("SWIR", "B11"),
    "SAVI": SAVI,
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
    series = TimeSeriesCompil(
        layer, ["NDVI"], masks=[CM004], name="fields", library=library, extraction=base / "EXTRACTION", quiet=True,
        keep_pixels=["B04", "B08", "B11"], keep_margin=MARGIN,
    )  # fmt: skip
    series.extract_data()
    folder = ExtractionFolder(series.folder)
    return Kept(library, layer, folder)


def extracted(layer: gpd.GeoDataFrame, **options: Any) -> TimeSeries:
    return TimeSeries(layer, name="fields", quiet=True, **{"executor": "serial", **options}).run()


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
        # The end of a line that is cut may touch a pixel that the whole line does not.
        is_line = layer.geom_type == "LineString"
        layer = layer.set_geometry(layer.geometry.where(is_line, layer.intersection(window)))
    alone = extracted(layer, pixels_from=kept.folder.root, **asked)
    archive = extracted(layer, library=kept.library, **asked)
    same_rows(alone, archive)
    assert set(alone.report["value_source"]) <= {"kept pixels"}


@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_a_feature_without_kept_pixels_costs_the_others_no_row(kept: Kept, rule: str) -> None:
    layer = kept.layer.iloc[:6].copy()
    layer.loc[2, "geometry"] = shapely.affinity.translate(layer.geometry[2], 700, -500)
    asked: dict[str, Any] = {
        "indices": ["NDVI", INDICES["NDMI"]], "masks": ["none", CM004, "CM003-PRB20-ITER3"], "pixels": rule,
        "stats": ["scl_fractions"],
    }  # fmt: skip
    alone = extracted(layer, pixels_from=kept.folder.root, **asked)
    archive = extracted(layer, library=kept.library, **asked)
    for name, rows in archive.data.items():
        others = rows[rows["fid"] != 2]
        assert len(others) < len(rows)
        pd.testing.assert_frame_equal(alone.data[name], others, check_exact=True)
    open_sky = alone.report[alone.report["mask"] == "none"]  # of the masks it may be known that they hide the feature
    assert (open_sky[Reason.NOT_KEPT.value] == 1).all()
    assert open_sky["error"].str.contains("not kept").all()
    assert (alone.report[Reason.NOT_KEPT.value] <= 1).all()
    assert (alone.report[[reason.value for reason in Reason]].sum(axis=1) + alone.report["rows"] == len(layer)).all()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    masks=st.lists(st.sampled_from(NEAR + FAR), min_size=1, max_size=4, unique=True), buffer=st.sampled_from([None, 6])
)
def test_what_is_not_kept_comes_from_the_archive_or_has_its_reason(
    kept: Kept, masks: list[str], buffer: float | None
) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": masks, "buffer": buffer}
    archive = extracted(kept.layer, library=kept.library, **asked)
    same_rows(extracted(kept.layer, library=kept.library, pixels_from=kept.folder.root, **asked), archive)
    alone = extracted(kept.layer, pixels_from=kept.folder.root, **asked)
    for mask in masks:
        report = alone.report[alone.report["mask"] == mask]
        assert not any("stored rasters" in note for note in alone.notes)
        if mask in FAR:
            assert (report[Reason.MASK_REACH.value] == len(kept.layer)).all()
            assert not report["rows"].any()
            assert report["error"].str.contains("name the archive").all()
        elif buffer:  # few features have only pixels that are kept under others
            assert (report[Reason.NOT_KEPT.value] > 0).all()
            assert report["error"].str.contains("not kept").all()
        else:
            assert not report[Reason.MASK_REACH.value].any()
            theirs = archive.report[archive.report["mask"] == mask]
            assert report["rows"].tolist() == theirs["rows"].tolist()
    keys = ["date", "fid", "mask"] if len(masks) > 1 else ["date", "fid"]
    known = archive.data["NDVI"].reset_index().set_index(keys)
    own = alone.data["NDVI"].reset_index().set_index(keys)
    pd.testing.assert_frame_equal(own, known.loc[own.index], check_exact=True, check_index_type=False)


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
    asked: dict[str, Any] = {
        "indices": ["NDVI", INDICES["NDMI"]],
        "masks": [CM004, "CM001"],
        "stats": ["scl_fractions"],
    }
    library = copied(kept.library, tmp_path / "copy")  # so that nothing is known of it
    for path in library.rglob("*"):
        if path.is_file():
            facts = path.stat()
            path.write_bytes(b"?" * facts.st_size)
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with counting() as counts:
        series = extracted(kept.layer, library=library, pixels_from=kept.folder.root, **asked)
    assert {not is_kept(location) for location in counts.opens} <= {False}
    same_rows(series, extracted(kept.layer, library=kept.library, **asked))
    assert set(series.report["value_source"]) == {"kept pixels"}
    assert set(series.report["mask_source"]) == {"computed from kept pixels"}
    assert any("serve 3 of 3 acquisitions." in note for note in series.notes)
    assert str(kept.folder.root) in json.loads(json.dumps(series.provenance(), default=str))["archive"]


def test_kept_pixels_alone_say_that_there_is_no_archive(kept: Kept, tmp_path: Path) -> None:
    series = extracted(kept.layer, pixels_from=kept.folder.root, indices=["NDVI"])
    assert series.rows
    (note,) = [note for note in series.notes if "No archive" in note]
    assert note.endswith("No archive is at hand, so kept pixels alone serve.")
    with pytest.raises(LibraryError, match="what is around the features"):
        series.extract_ql(tmp_path / "out")


@pytest.mark.parametrize("place", ["library", "safe"])
def test_an_archive_that_is_named_must_be_there(kept: Kept, tmp_path: Path, place: str) -> None:
    missing = tmp_path / "typo"
    asked: dict[str, Any] = {"pixels_from": kept.folder.root, place: missing}
    said = rf"{missing}.*Leave {place} \(--{place}\) out to use kept pixels alone\."
    with pytest.raises(LibraryError, match=said):
        extracted(kept.layer, indices=["NDVI"], **asked)
    with pytest.raises(LibraryError, match=said):
        folder_series(kept, tmp_path, **asked).extract_data()
    kept.layer.to_file(layer := tmp_path / "fields.gpkg")
    options = ["--pixels-from", str(kept.folder.root), "--index", "NDVI", f"--{place}", str(missing), "-q"]
    for command in (
        ["extract", str(layer), "--out", str(tmp_path)],
        ["update", str(layer), "--extraction", str(tmp_path)],
    ):
        run = CliRunner().invoke(main, [*command, *options])
        assert run.exit_code == 1, run.output
        assert "to use kept pixels alone" in " ".join(run.output.split())
    assert not [*tmp_path.rglob("*.csv")]


def test_dates_and_bands_that_are_not_kept_come_from_the_archive(kept: Kept, tmp_path: Path) -> None:
    source = open_library(kept.library)
    first = source.acquisitions(TILE)[0].id
    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", source, read_layer(kept.layer, name="fields"),
        names=("B08", "SCL"), products=lambda acquisition: acquisition.id != first,
    )  # fmt: skip
    asked: dict[str, Any] = {"indices": ["NDVI", INDICES["SWIR"]], "masks": [CM004]}
    series = extracted(kept.layer, library=kept.library, pixels_from=folder.root, **asked)
    same_rows(series, extracted(kept.layer, library=kept.library, **asked))
    sources = series.report.groupby("acquisition")["value_source"].agg(set)
    assert sources.pop(str(first)) == {"bands"}
    assert all(kinds == {"bands and kept pixels", "bands"} for kinds in sources)
    (note,) = [note for note in series.notes if note.startswith("Kept pixels")]
    assert "serve 2 of 3 acquisitions, 2 of them together with rasters of the archive" in note
    assert "1 without kept pixels" in note
    alone = extracted(kept.layer, pixels_from=folder.root, **asked)
    assert not alone.rows
    assert set(alone.report["acquisition"]) == {str(a.id) for a in source.acquisitions(TILE)} - {str(first)}
    assert (alone.report[Reason.NOT_KEPT.value] == len(kept.layer)).all()


# ------------------------------------------------------------------------------------------------ several tiles see it


@dataclass(frozen=True, repr=False)
class Overlap:
    """An archive of two tiles that see the same parcels, and pixels that are kept of what clouds left in each."""

    library: Path
    layer: Path
    folder: ExtractionFolder


@pytest.fixture(scope="module")
def overlap(tmp_path_factory: pytest.TempPathFactory) -> Overlap:
    base = tmp_path_factory.mktemp("overlap")
    overpasses = tuple(replace(demo.season()[k], cloud=cloud) for k, cloud in ((0, 0.3), (1, 0.5), (7, 0.3)))
    made = demo.build(base, demo.Scene(size=180, overpasses=overpasses, bands=NAMES, parcels=40))
    aged(made.library)
    series = TimeSeriesCompil(
        made.layer, ["NDVI"], masks=["CM004"], library=made.library, extraction=base / "EXTRACTION", quiet=True,
        keep_pixels=True,
    )  # fmt: skip
    series.extract_data()
    return Overlap(made.library, made.layer, ExtractionFolder(series.folder))


OPEN = ("none", "CM001", "SCL-8-ITER0", CM004)


def known_rows(alone: pd.DataFrame, archive: pd.DataFrame) -> int:
    """Make sure that rows are among those of the archive, in every column, and return how many are lacking."""
    keys = ["date", "fid", *(["mask"] if "mask" in archive else [])]
    theirs, own = (rows.reset_index().set_index(keys) for rows in (archive, alone))
    assert own.index.is_unique
    pd.testing.assert_frame_equal(own[theirs.columns], theirs.loc[own.index], check_exact=True, check_index_type=False)
    return len(theirs) - len(own)


@pytest.mark.parametrize("mask", OPEN)
def test_a_product_with_pixels_that_were_not_kept_is_not_replaced_by_another(overlap: Overlap, mask: str) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [mask], "quiet": True}
    archive = TimeSeries(overlap.layer, library=overlap.library, **asked).run()
    alone = TimeSeries(overlap.layer, pixels_from=overlap.folder.root, **asked).run()
    lacking = known_rows(alone.data["NDVI"], archive.data["NDVI"])
    assert bool(lacking) == (mask != CM004) == alone.incomplete
    counts = alone.report[[reason.value for reason in Reason]].sum(axis=1) + alone.report["rows"]
    assert (counts == len(alone.layer)).all()
    empty = TimeSeries(overlap.layer, pixels_from=overlap.folder.root, keep_empty=True, **asked).run().data["NDVI"]
    values = empty[empty["reason"] == ""].drop(columns="reason")
    pd.testing.assert_frame_equal(values, alone.data["NDVI"], check_exact=True, check_dtype=False)
    assert not empty.reset_index().duplicated(["date", "fid"]).any()


@pytest.mark.parametrize("tile", ["31TGJ", "32TLP"])
def test_stored_rows_of_one_product_do_not_replace_those_that_another_lacks(
    overlap: Overlap, tmp_path: Path, tile: str
) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["none"], "quiet": True}
    archive = TimeSeries(overlap.layer, library=overlap.library, **asked).run().data["NDVI"]
    direct = TimeSeries(overlap.layer, pixels_from=overlap.folder.root, **asked).run().data["NDVI"]
    folder = ExtractionFolder(shutil.copytree(overlap.folder.root, tmp_path / "EXTRACTION" / overlap.folder.root.name))
    stored = TimeSeriesCompil(
        overlap.layer, **asked, extraction=tmp_path / "EXTRACTION", pixels_from=overlap.folder.root
    )
    stored.extract_data()
    with ImageLedger(folder.ledger) as ledger:  # a run that was killed before it came to one of the tiles
        ledger.expect(entry.key for entry in ledger.entries("NDVI", "none").values() if tile in entry.product)
    assert stored.extract_data().images > 0
    rows = stored.data["NDVI"]
    assert known_rows(rows, archive) > 0
    pd.testing.assert_frame_equal(rows[direct.columns], direct, check_exact=True)
    before = stored.compile_data(datemin="2021-10-01").files
    assert before
    # With the archive back, everything is there.
    options: dict[str, Any] = {"extraction": tmp_path / "EXTRACTION", "pixels_from": overlap.folder.root}
    back = TimeSeriesCompil(overlap.layer, **asked, library=overlap.library, **options)
    assert back.extract_data().images > 0
    pd.testing.assert_frame_equal(back.data["NDVI"][archive.columns], archive, check_exact=True)
    assert set(back.compile_data(datemin="2021-10-01").files) == set(before)


def test_a_file_of_kept_pixels_that_is_gone_is_not_replaced_by_another_product(
    overlap: Overlap, tmp_path: Path
) -> None:
    folder = ExtractionFolder(shutil.copytree(overlap.folder.root, tmp_path / overlap.folder.root.name))
    next(folder.pixels("31TGJ").glob("*.pixels")).unlink()
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004], "quiet": True}
    archive = TimeSeries(overlap.layer, library=overlap.library, **asked).run()
    alone = TimeSeries(overlap.layer, pixels_from=folder.root, **asked).run()
    assert known_rows(alone.data["NDVI"], archive.data["NDVI"]) > 0
    there = alone.report[alone.report[Reason.NOT_KEPT.value] > 0]
    assert there["error"].str.contains("another product").all()
    assert len(there)
    compil = TimeSeriesCompil(overlap.layer, **asked, extraction=tmp_path / "EXTRACTION", pixels_from=folder.root)
    compil.extract_data()
    pd.testing.assert_frame_equal(compil.data["NDVI"][alone.data["NDVI"].columns], alone.data["NDVI"], check_exact=True)


def test_pixels_come_from_the_product_of_the_row(overlap: Overlap, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["none", CM004], "quiet": True}
    found: list[set[tuple[str, int]]] = []
    places: list[dict[str, Any]] = [{"library": overlap.library}, {"pixels_from": overlap.folder.root}]
    for options in places:
        series = TimeSeries(overlap.layer, getstat=False, **options, **asked)
        series.to_pixels(out := tmp_path / str(len(found)))
        table = pd.concat(map(pd.read_parquet, sorted(out.rglob("*.parquet"))))
        found.append({(str(p), int(f)) for p, f in table[["product", "fid"]].drop_duplicates().itertuples(index=False)})
    archive, alone = found
    assert alone < archive


def test_a_range_of_dates_beyond_the_kept_ones_is_told(overlap: Overlap) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004], "quiet": True, "getstat": False}
    said = "Kept pixels reach from 2021-10-15 to 2022-04-08; of other dates nothing is known."
    places: list[dict[str, Any]] = [{}, {"library": overlap.library}]
    for first, last, is_beyond in (
        (None, None, False), ("2021-10-15", "2022-04-08", False), ("2021-10-14", None, True), (None, "2022-07-30", True)
    ):  # fmt: skip
        for options in places:
            series = TimeSeries(
                overlap.layer, pixels_from=overlap.folder.root, date_min=first, date_max=last, **options, **asked
            ).run()
            assert any(said in note for note in series.notes) == (is_beyond and not options)


# ------------------------------------------------------------------------------- absent, damaged, changed, superseded


def test_features_that_clouds_hid_come_from_the_archive_or_are_counted(kept: Kept, tmp_path: Path) -> None:
    def west(where: PixelPositions) -> npt.NDArray[np.bool_]:
        """Whether pixels lie in the western part, as if clouds had hidden it."""
        return where.coordinates()[1] * where.grid.pixel_xy[0] < 600

    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", open_library(kept.library), read_layer(kept.layer, name="fields"),
        absent=west,
    )  # fmt: skip
    asked: dict[str, Any] = {"indices": ["NDVI", INDICES["NDMI"]], "masks": ["none", "SCL-4-5-6-7-8-9-10-11-ITER2"]}
    archive = extracted(kept.layer, library=kept.library, **asked)
    both = extracted(kept.layer, library=kept.library, pixels_from=folder.root, **asked)
    same_rows(both, archive)
    assert any("from the archive after all: 3 acquisitions, whose kept pixels lack some" in note for note in both.notes)
    assert "bands" in set(both.report["value_source"])
    for keep_empty in (False, True):
        alone = extracted(kept.layer, pixels_from=folder.root, keep_empty=keep_empty, **asked)
        lacking = alone.report[Reason.NOT_KEPT.value]
        assert alone.incomplete
        assert "clouds hid them" in alone.why_partly()
        assert "name the archive" in alone.why_partly()
        assert (lacking[alone.report["mask"] == "none"] > 3).all()
        assert (lacking < len(kept.layer) - 3).all()
        for name, rows in alone.data.items():
            theirs = archive.data[name]
            own = rows[rows["count"] > 0].drop(columns=["reason"], errors="ignore")
            keys = ["fid", "mask"]
            there = theirs.reset_index().merge(own.reset_index()[["date", *keys]], on=["date", *keys])
            pd.testing.assert_frame_equal(there.set_index("date"), own, check_exact=True)
            assert len(own) < len(theirs)
    quick = extracted(kept.layer, pixels_from=folder.root, indices=["NDVI"], masks=["none"], executor="threads")
    pd.testing.assert_series_equal(
        quick.report[Reason.NOT_KEPT.value], lacking_of(alone, "NDVI", "none"), check_index=False
    )


def test_notes_on_kept_pixels_are_of_one_run(kept: Kept, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["none"], "quiet": True}
    alone = TimeSeries(kept.layer, pixels_from=kept.folder.root, getstat=False, **asked)
    pixels = alone.to_pixels(tmp_path, bands=["B04", "B08", "B02"])
    assert "serve 3 of 3 acquisitions, 3 of them in part." in " ".join(pixels.notes)
    assert "serve 3 of 3 acquisitions. No archive" in " ".join(alone.run().notes)
    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", open_library(kept.library), read_layer(kept.layer, name="fields"),
        absent=lambda where: where.coordinates()[1] >= 0,
    )  # fmt: skip
    both = TimeSeries(kept.layer, library=kept.library, pixels_from=folder.root, getstat=False, **asked)
    for notes in (both.to_pixels(tmp_path, overwrite=True).notes, both.run().notes):
        assert "serve 0 of 3 acquisitions. Read from the archive after all: 3 acquisitions, whose" in " ".join(notes)


def lacking_of(series: TimeSeries, index: str, mask: str) -> pd.Series[int]:
    report = series.report
    return report[(report["index"] == index) & (report["mask"] == mask)][Reason.NOT_KEPT.value]


def own_folder(kept: Kept, place: Path) -> ExtractionFolder:
    return ExtractionFolder(shutil.copytree(kept.folder.root, place / kept.folder.root.name))


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "gone", "swapped", "positions gone", "positions swapped", "version"]
)
def test_damage_is_read_from_the_archive_or_is_unreadable(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder = own_folder(kept, tmp_path)
    files = sorted(folder.pixels(TILE).glob("*.pixels"))
    (positions,) = folder.pixels(TILE).glob("*.positions")
    content = files[0].read_bytes()
    match damage:
        case "cut":
            files[0].write_bytes(content[:-50])
        case "flipped":
            middle = len(content) // 3
            files[0].write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
        case "gone":
            files[0].unlink()
        case "swapped":
            other = files[1].read_bytes()
            files[0].write_bytes(other[: len(content)].ljust(len(content), b"\0"))
        case "positions gone":
            positions.unlink()
        case "positions swapped":
            positions.write_bytes(files[0].read_bytes())
        case "version":
            monkeypatch.setattr(sys.modules["sen2chain.pixel_store.pixel_file"], "FORMAT", 2)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004]}
    both = extracted(kept.layer, library=kept.library, pixels_from=folder.root, **asked)
    same_rows(both, extracted(kept.layer, library=kept.library, **asked))
    said = " ".join(both.notes)
    assert str(folder.pixels(TILE)) in said  # one file is named, and how it is mended
    assert "keep" in said.partition(str(folder.pixels(TILE)))[2] or damage == "version"
    assert "clouds" not in said
    alone = extracted(kept.layer, pixels_from=folder.root, **asked)
    broken = alone.report[alone.report[Reason.UNREADABLE.value] > 0]
    every = damage in {"positions gone", "positions swapped", "version"}
    assert len(broken) == (3 if every else 1)
    assert (broken[Reason.UNREADABLE.value] == len(kept.layer)).all()
    assert broken["error"].str.contains("Kept pixels").all()
    assert alone.incomplete


def test_products_whose_files_have_changed_are_read_from_the_archive(kept: Kept, tmp_path: Path) -> None:
    library = copied(kept.library, tmp_path / "copy")
    acquisitions = open_library(library).acquisitions(TILE)
    red = Path(acquisitions[0].bands["B04"])
    red.write_bytes(Path(acquisitions[0].bands["B08"]).read_bytes())
    metadata = Path(acquisitions[1].details.inputs["metadata"])
    metadata.write_text(metadata.read_text().replace("<BOA_QUANTIFICATION_VALUE", " <BOA_QUANTIFICATION_VALUE"))
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004]}
    series = extracted(kept.layer, library=library, pixels_from=kept.folder.root, **asked)
    same_rows(series, extracted(kept.layer, library=library, **asked))
    assert sorted(series.report["value_source"]) == ["bands", "bands", "kept pixels"]
    assert any("2 changed since the pixels were kept" in note for note in series.notes)


def test_a_product_of_a_newer_baseline_takes_the_place_of_a_kept_one(kept: Kept) -> None:
    source = open_library(kept.library)
    old = source.acquisitions(TILE)[0]
    same = old.id.baseline  # perhaps the other part of the pass
    for baseline, generation in ((500, "20250101T000000"), (200, "20200101T000000"), (same, "20250101T000000")):
        other = replace(old, id=replace(old.id, baseline=baseline, generation=generation))
        archive = MemorySource([other, *source.acquisitions(TILE)[1:]])
        series = extracted(kept.layer, library=archive, pixels_from=kept.folder.root, indices=["NDVI"], masks=[CM004])
        products = set(series.report["acquisition"])
        assert str(other.id) in products
        assert (str(old.id) in products) == (baseline != 500)
        gave_way = any("1 product with kept pixels gave way to newer ones" in note for note in series.notes)
        assert gave_way == (baseline == 500)


# --------------------------------------------------------------------------------------------- stored rasters, folders


def test_stored_rasters_keep_their_place_unless_they_were_made_of_what_is_kept(kept: Kept, tmp_path: Path) -> None:
    library = copied(kept.library, tmp_path / "copy")
    first = min(open_library(library).acquisitions(TILE), key=lambda acquisition: acquisition.id.sensing)
    day = first.id.sensing.date()
    mask = "SCL-3-8-9-10-11-ITER1"
    Library(library).produce(indices=["NDVI"], masks=[mask], date_min=day, date_max=day, quiet=True)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [mask]}
    own = extracted(kept.layer, library=library, **asked)
    assert own.report["value_source"].tolist() == ["index raster", "bands", "bands"]
    assert own.report["mask_source"].tolist() == ["mask raster", "computed from SCL", "computed from SCL"]
    series = extracted(kept.layer, library=library, pixels_from=kept.folder.root, **asked)
    same_rows(series, own)
    assert set(series.report["value_source"]) == {"kept pixels"}
    assert set(series.report["mask_source"]) == {"computed from kept pixels"}
    # A raster of another program, whose name alone tells what it holds, stays what the archive gives.
    raster = next(library.rglob(f"{first.id}_NDVI.tif"))
    with rasterio.open(raster) as dataset:
        values, profile = dataset.read(), dataset.profile
    values[values != NODATA] //= 2
    profile.pop("tags", None)
    raster.unlink()
    with rasterio.open(raster, "w", **profile) as dataset:
        dataset.write(values)
    foreign = extracted(kept.layer, library=library, **asked)
    series = extracted(kept.layer, library=library, pixels_from=kept.folder.root, **asked)
    same_rows(series, foreign)
    assert series.report["value_source"].tolist() == ["index raster", "kept pixels", "kept pixels"]
    assert not series.data["NDVI"].equals(own.data["NDVI"])


def test_a_catalogue_has_the_rest(kept: Kept, tmp_path: Path) -> None:
    acquisitions = open_library(kept.library).acquisitions(TILE)
    known = [
        replace(a, details=KnownDetails(a.details.radiometry(), a.details.cloud_cover(), a.details.footprint()))
        for a in acquisitions
    ]
    versions = {where: "v1" for a in known for where in a.bands.values()}
    rest = MemorySource(known, versions=versions)  # as a catalogue: versions instead of files
    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", rest, read_layer(kept.layer, name="fields"),
        products=lambda acquisition: acquisition.id != known[0].id,
    )  # fmt: skip
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004]}
    with counting() as counts:
        series = extracted(kept.layer, library=rest, pixels_from=folder.root, **asked)
    opened = {location for location in counts.opens if not is_kept(location)}
    assert opened == {known[0].bands[name] for name in ("B04", "B08", "SCL", "CLDPRB")}
    same_rows(series, extracted(kept.layer, library=rest, **asked))
    newer = MemorySource(known, versions={**versions, known[1].bands["B08"]: "v2"})
    series = extracted(kept.layer, library=newer, pixels_from=folder.root, **asked)
    assert any("1 changed since the pixels were kept" in note for note in series.notes)
    offsets = [replace(a, details=KnownDetails(replace(a.details.radiometry(), quantification=8000.0))) for a in known]
    other = MemorySource(offsets, versions=versions)
    series = extracted(kept.layer, library=other, pixels_from=folder.root, **asked)
    same_rows(series, extracted(kept.layer, library=other, **asked))
    assert set(series.report["value_source"]) == {"bands"}


def folder_series(kept: Kept, place: Path, **options: Any) -> TimeSeriesCompil:
    asked: dict[str, Any] = {"masks": [CM004], "name": "fields", "extraction": place / "EXTRACTION", "quiet": True}
    return TimeSeriesCompil(kept.layer, ["NDVI"], **{**asked, **options})


@pytest.mark.parametrize("kept_first", [True, False])
def test_rows_of_a_folder_are_made_once_whatever_they_come_from(kept: Kept, tmp_path: Path, kept_first: bool) -> None:  # noqa: FBT001
    either = [{"library": kept.library, "pixels_from": kept.folder.root}, {"library": kept.library}]
    first, second = either if kept_first else either[::-1]
    done = folder_series(kept, tmp_path, **first).extract_data()
    assert (done.images, done.failed) == (3, 0)
    again = folder_series(kept, tmp_path, **second).extract_data()
    assert (again.images, again.empty, again.kept) == (0, 0, 3)
    alone = folder_series(kept, tmp_path, pixels_from=kept.folder.root).extract_data()
    assert (alone.images, alone.kept) == (0, 3)
    report = folder_series(kept, tmp_path, **second).report
    assert set(report["value_source"]) == {"kept pixels" if kept_first else "bands"}


def test_a_folder_asks_its_own_pixels(kept: Kept, tmp_path: Path) -> None:
    whole = folder_series(kept, tmp_path, library=kept.library, keep_pixels=True)
    done = whole.extract_data()
    gone: dict[str, Any] = {"pixels_from": whole.folder}
    asked: dict[str, Any] = {"masks": [CM004, "SCL-3-8-9-10-11-ITER5"]}
    other = TimeSeriesCompil(
        kept.layer, SAVI, name="fields", extraction=tmp_path / "EXTRACTION", quiet=True, **gone, **asked
    )
    assert other.folder == whole.folder
    with counting() as counts:
        again = other.extract_data()
    assert counts.opens
    assert all(map(is_kept, counts.opens))
    assert (again.images, again.failed) == (2 * done.images, 0)
    rows, archive = other.data["SAVI"], extracted(kept.layer, library=kept.library, indices=SAVI, **asked)
    pd.testing.assert_frame_equal(rows[archive.data["SAVI"].columns], archive.data["SAVI"], check_exact=True)
    # To keep a further band, the archive is read; what is kept already is not lost.
    more = folder_series(kept, tmp_path, library=kept.library, pixels_from=whole.folder, keep_pixels=["B11"])
    more.extract_data()
    alone = extracted(kept.layer, indices=["NDVI", INDICES["NDMI"]], masks=[CM004], pixels_from=whole.folder)
    same_rows(alone, extracted(kept.layer, indices=["NDVI", INDICES["NDMI"]], masks=[CM004], library=kept.library))


def test_rows_that_kept_pixels_lacked_are_made_when_the_archive_is_back(kept: Kept, tmp_path: Path) -> None:
    folder = kept_folders.keep(
        tmp_path / "fields_0123456789abcdef", open_library(kept.library), read_layer(kept.layer, name="fields"),
        absent=lambda where: where.coordinates()[1] * where.grid.pixel_xy[0] < 600,
    )  # fmt: skip
    done = folder_series(kept, tmp_path, pixels_from=folder.root).extract_data()
    assert done.images == 3
    again = folder_series(kept, tmp_path, pixels_from=folder.root).extract_data()
    assert (again.images, again.kept) == (0, 3)
    for options in ({"pixels_from": folder.root}, {}):
        back = folder_series(kept, tmp_path, library=kept.library, **options).extract_data()
        assert (back.images, back.kept) == ((3, 0) if options else (0, 3))
    rows = folder_series(kept, tmp_path).data["NDVI"]
    archive = extracted(kept.layer, library=kept.library, indices=["NDVI"], masks=[CM004]).data["NDVI"]
    pd.testing.assert_frame_equal(rows[archive.columns], archive, check_exact=True)


def test_a_mask_that_reaches_too_far_is_made_when_the_archive_is_back(kept: Kept, tmp_path: Path) -> None:
    far = {"masks": ["SCL-8-9-ITER20"]}
    series = folder_series(kept, tmp_path, pixels_from=kept.folder.root, **far)
    assert series.extract_data().missing == 3
    assert set(series.report[Reason.MASK_REACH.value]) == {len(kept.layer)}
    done = folder_series(kept, tmp_path, library=kept.library, **far).extract_data()
    assert (done.acquisitions, done.images, done.empty, done.missing) == (3, 2, 1, 0)


def test_every_executor_reads_kept_pixels(kept: Kept) -> None:
    asked: dict[str, Any] = {"indices": ["NDVI", INDICES["NDMI"]], "masks": [CM004]}
    archive = extracted(kept.layer, library=kept.library, **asked)
    series = extracted(kept.layer, pixels_from=kept.folder.root, executor="threads", multiproc=2, **asked)
    same_rows(series, archive)
    assert set(series.report["value_source"]) == {"kept pixels"}
    # A worker of Dask gets the task, with the archive's in it, pickled.
    series = extracted(kept.layer, library=kept.library, pixels_from=kept.folder.root, **asked)
    layer = read_layer(kept.layer, name="fields")
    for task in series.plan.tasks:
        sent = pickle.loads(pickle.dumps(task))  # noqa: S301  # our own
        assert sent.otherwise is not None
        one, other = (extract(each, Coverages(layer), RowRules()) for each in (sent, sent.otherwise))
        assert (one.task, other.task) == (sent, sent.otherwise)
        for batch, theirs in zip(one.batches, other.batches, strict=True):
            assert batch.reasons == theirs.reasons
            for name, values in batch.columns.items():
                np.testing.assert_array_equal(values, theirs.columns[name])


# ------------------------------------------------------------------------------------------- folders that cannot serve


def test_a_margin_without_pixels_to_keep_is_refused(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"keep_margin \(--keep-margin\) needs keep_pixels"):
        folder_series(kept, tmp_path, library=kept.library, keep_margin=100)
    kept.layer.to_file(layer := tmp_path / "fields.gpkg")
    run = CliRunner().invoke(main, ["update", str(layer), "--library", str(kept.library), "--keep-margin", "100"])
    assert run.exit_code == 2, run.output
    assert "needs keep_pixels" in run.output


def test_what_kept_pixels_alone_cannot_give_ends_with_its_own_exit_code(kept: Kept, tmp_path: Path) -> None:
    kept.layer.to_file(layer := tmp_path / "fields.gpkg")
    options = ["--pixels-from", str(kept.folder.root), "--index", "NDVI", "--out", str(tmp_path)]
    masks = ["--mask", CM004, "--mask", FAR[0]]
    run = CliRunner().invoke(main, ["extract", str(layer), *options, *masks])
    assert run.exit_code == 4, run.output
    said = " ".join(run.output.split())
    assert "serve 3 of 3 acquisitions, 3 of them in part. No archive" in said
    assert said.count("name the archive, or keep a wider margin") == 1
    run = CliRunner().invoke(main, ["extract", str(layer), *options, "--mask", FAR[0], "--overwrite"])
    assert run.exit_code == 3, run.output
    said = " ".join(run.output.split())
    assert "serve 0 of 3 acquisitions. No archive" in said
    assert said.count(f"{FAR[0]} reaches ") == 1


def test_what_is_not_a_folder_of_kept_pixels_is_refused_in_a_sentence(kept: Kept, tmp_path: Path) -> None:
    def refused(place: Any) -> str:
        with pytest.raises(RequestError) as error:
            TimeSeries(kept.layer, ["NDVI"], pixels_from=place, library=kept.library)
        return str(error.value)

    assert "is not a folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is not a layer's folder" in refused(tmp_path / "empty")
    assert "is not the path" in refused(5)
    for part in (kept.folder.root / "pixels", kept.folder.root / "pixels" / TILE):
        assert refused(part) == f"{part} is a part of a layer's folder; pass {kept.folder.root}."
    folder_series(kept, tmp_path, library=kept.library).extract_data()
    extraction = tmp_path / "EXTRACTION"
    assert "None of the layers' folders" in refused(extraction)
    assert "has no kept pixels" in refused(next(extraction.glob("fields_*")))
    shutil.copytree(kept.folder.root, extraction / "parcels_0123456789abcdef")
    assert TimeSeries(kept.layer, ["NDVI"], pixels_from=extraction, library=kept.library).run().rows
    shutil.copytree(kept.folder.root, extraction / "other_fedcba9876543210")
    said = refused(extraction)
    assert "2 folders" in said
    assert "other_fedcba9876543210" in said


def test_of_several_folders_that_of_the_layer_with_its_buffer_is_taken(kept: Kept, tmp_path: Path) -> None:
    names = [f"{kept.folder.root.name}{tag}" for tag in ("", "_weighted_buffer50")]
    for name in names:
        shutil.copytree(kept.folder.root, tmp_path / name)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["none"], "pixels_from": tmp_path, "quiet": True}
    notes = TimeSeries(kept.layer, **asked).notes
    assert f"Kept pixels of {names[0]} serve" in " ".join(notes)
    wide = TimeSeries(kept.layer, buffer=50, **asked)
    assert f"Kept pixels of {names[1]} serve" in " ".join(wide.notes)
    assert "with this layer and the same --buffer" in wide.why_partly()
    parcels = TimeSeries(kept.layer[:3], buffer=50, **asked | {"pixels_from": tmp_path / names[1]})
    assert "keep them with this buffer (keep_pixels and buffer=50, --keep-pixels --buffer 50)" in parcels.why_nothing()
    with pytest.raises(RequestError, match=r"2 folders in .* have kept pixels"):
        TimeSeries(kept.layer, buffer=6, **asked)
    with pytest.raises(LibraryError, match=r"name the archive .* or leave them out \(--quicklooks, --chips\)"):
        TimeSeries(kept.layer, **asked).extract_ql(tmp_path / "out")


def test_pixels_of_another_region_serve_nothing(kept: Kept) -> None:
    layer = kept.layer.copy()
    layer["geometry"] = layer.geometry.translate(700, 300)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004]}
    series = extracted(layer, library=kept.library, pixels_from=kept.folder.root, **asked)
    same_rows(series, extracted(layer, library=kept.library, **asked))
    assert any("serve 0 of 3 acquisitions" in note and "without the pixels of" in note for note in series.notes)
    alone = extracted(layer, pixels_from=kept.folder.root, **asked)
    assert not alone.rows
    assert "not kept" in alone.why_nothing()


def test_the_command_reads_kept_pixels(kept: Kept, tmp_path: Path) -> None:
    layer = tmp_path / "fields.gpkg"
    kept.layer.to_file(layer)
    options = [
        "--index",
        "EVI2=2.5*(B08-B04)/(B08+2.4*B04+1)",
        "--mask",
        "SCL-3-8-9-10-11-ITER2",
        "--out",
        str(tmp_path),
    ]
    run = CliRunner().invoke(main, ["extract", str(layer), "--pixels-from", str(kept.folder.root), *options])
    assert run.exit_code == 0, run.output
    assert "serve 3 of 3 acquisitions. No archive is at hand, so kept pixels alone serve." in " ".join(
        run.output.split()
    )
    (note,) = tmp_path.rglob("*EVI2*.json")
    found = json.loads(note.read_text())
    assert found["archive"] == f"pixels kept in {kept.folder.root}"
    assert {product["value_source"] for product in found["products"]} == {"kept pixels"}
    run = CliRunner().invoke(
        main, ["extract", str(layer), "--pixels-from", str(kept.folder.root), *options, "--dry-run"]
    )
    assert run.exit_code == 0, run.output
    assert "kept pixels, computed from kept pixels 3" in run.output
    later = ["--from", "2025-01-01"]
    run = CliRunner().invoke(main, ["extract", str(layer), "--pixels-from", str(kept.folder.root), *options, *later])
    assert run.exit_code == 3, run.output
    said = " ".join(run.output.split())
    assert f"No pixels kept in {kept.folder.root} are of this layer from 2025-01-01 to today; check the dates" in said
    run = CliRunner().invoke(main, ["extract", str(layer), "--pixels-from", str(tmp_path / "nowhere"), *options])
    assert run.exit_code == 2
    assert "is not a folder" in run.output
