"""The check of an archive: each kind of damage is named, right archives raise nothing, and fixing loses nothing."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen2chain import demo
from sen2chain.archive import LibrarySource, SafeFolder, open_library
from sen2chain.errors import LibraryError, RequestError
from sen2chain.indices import INDICES, Index
from sen2chain.inspection import ArchiveCheck, check_archive, put_back
from sen2chain.inspection.findings import Finding, Part, Severity
from sen2chain.inspection.raster_check import value_range
from sen2chain.inspection.set_aside import set_aside
from sen2chain.inspection.value_comparison import spread_windows
from sen2chain.masks import Mask
from sen2chain.produce.raster_inputs import describe, index_inputs, mask_inputs
from sen2chain.raster_tags import FROM_LOSSY, RasterTags
from sen2chain.rasters.decoded_blocks import counting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt


MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
BANDS = ("B02", "B03", "B04", "B08", "SCL", "CLDPRB")
SCENE = demo.Scene(
    tiles=("31TGJ",), size=120, parcels=4, overpasses=demo.season(3, dt.date(2022, 3, 1)), bands=BANDS,
    indices=("NDVI",), masks=(MASK,), mask_format="tif",
)  # fmt: skip


BEGUN = dt.datetime.fromisoformat("2022-06-01T10:30:21")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("checked"), SCENE)


@pytest.fixture
def library(made: demo.DemoArchive, tmp_path: Path) -> Path:
    shutil.copytree(made.library, tmp_path / "sen2chain_data")
    return tmp_path / "sen2chain_data"


def check(library: Path, *parts: str, **given: Any) -> ArchiveCheck:
    options: dict[str, Any] = {
        "parts": parts or ("rasters", "duplicates", "leftovers"),
        "workers": 2,
        "quiet": True,
    } | given
    source = open_library(library)
    assert isinstance(source, LibrarySource)
    return check_archive(source, **options)


def only(result: ArchiveCheck) -> Finding:
    assert len(result.findings) == 1, result.text(verbose=True, width=300)
    return result.findings[0]


def first(library: Path, pattern: str) -> Path:
    return min(library.rglob(pattern))


def rewrite(path: Path, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = lambda v: v, **profile: Any) -> None:
    """Write a raster again, as a GeoTIFF or, lossless, as JPEG 2000; None takes a setting away."""
    with rasterio.open(path) as source:
        kept = {name: source.profile[name] for name in ("crs", "transform", "nodata")}
        values, tags = change(source.read(1)), source.tags()
    is_tif = path.suffix == ".tif"
    more = {"driver": "GTiff", "compress": "deflate"} if is_tif else {
        "driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "YCBCR420": "NO",
    }  # fmt: skip
    new = kept | {"count": 1, "dtype": values.dtype, "height": values.shape[0], "width": values.shape[1]}
    new = {name: value for name, value in (new | more | profile).items() if value is not None}
    path.unlink()
    with rasterio.open(path, "w", **new) as sink:
        sink.write(values, 1)
        if is_tif:
            sink.update_tags(**{**tags, **profile.get("tags", {})})
    path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)


def without_manifest(library: Path) -> None:
    for path in library.rglob("manifest.safe"):
        path.unlink()


def scaled(transform: Affine, times: int) -> Affine:
    """Return a transform with larger pixels."""
    return Affine(transform.a * times, 0, transform.c, 0, transform.e * times, transform.f)


def put(values: Any, at: tuple[Any, ...] = (5, 5)) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    def change(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array[at] = values
        return array

    return change


# ------------------------------------------------------------------------------------------------------ right archives


def test_a_right_archive_raises_nothing_and_each_block_is_decoded_once(library: Path) -> None:
    with counting() as counts:
        result = check(library)
    assert result.findings == []
    assert set(counts.blocks.values()) == {1, 2}  # rasters of other programs are compared with their bands
    for path in [*library.rglob(NDVI), *library.rglob(A_MASK)]:
        definition = INDICES["NDVI"].definition if path.match(NDVI) else ""
        name = "NDVI" if definition else MASK
        rewrite(path, tags=RasterTags(path.parent.name, name, definition).items())
    with counting() as counts:
        result = check(library)
    assert result.findings == []
    assert (result.problems, result.exit_code, result.products, result.rasters) == (0, 0, 3, 24)
    assert result.pixels == 3 * (5 * 120**2 + 3 * 60**2)
    read = {location for location, _, _ in counts.blocks}
    assert read == {str(path) for pattern in ("*.jp2", "*.tif") for path in library.rglob(pattern)}
    assert set(counts.blocks.values()) == {1}
    assert "nothing is wrong" in str(result)


def test_real_products_and_legacy_rasters_are_right(bolzano: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "L2A").symlink_to(bolzano / "L2A")
    for name in ("INDICES", "CLOUDMASKS"):
        if (bolzano / "legacy" / name).is_dir():
            shutil.copytree(bolzano / "legacy" / name, tmp_path / "data" / name, copy_function=shutil.copyfile)
    result = check(tmp_path, "rasters", "offsets")
    assert [f for f in result.findings if f.severity == "error"] == []
    assert result.rasters > 60
    assert len(result.dates) == 12


def test_a_real_product_without_ten_metre_bands(shared_data: Path) -> None:
    result = check_archive(SafeFolder(shared_data / "ireland" / "L2A"), parts=("rasters",), quiet=True)
    assert result.pixels >= 2 * 5490**2
    # Files were taken out of it, and the two that are left are as ESA delivered them.
    assert not [f for f in result.findings if "damaged" in f.sentence]


# --------------------------------------------------------------------------------------------------------------- damage


def test_a_truncated_band_is_named_and_stays(library: Path) -> None:
    path = first(library, "*_B04_10m.jp2")
    path.write_bytes(path.read_bytes()[:-400])
    found = only(check(library, fix=True))
    assert (found.severity, found.part, found.tile, found.path) == ("error", "rasters", "31TGJ", "")
    assert found.item == str(path.relative_to(library))
    assert "manifest.safe lists" in found.sentence
    assert found.advice == "download the product again"
    assert path.exists()
    assert not (library / "set_aside").exists()
    # Decoding finds it, too.
    without_manifest(library)
    assert "truncated" in only(check(library)).sentence


def test_a_flipped_byte_is_found_by_the_checksum(library: Path) -> None:
    path = first(library, "*_B08_10m.jp2")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert "checksum" in only(check(library)).sentence
    assert "MD5" not in str(check(library, verify=False))


@pytest.mark.parametrize("cut", [0, 60, 0.5, 0.97])
def test_a_truncated_index_raster_is_moved_aside(library: Path, cut: float) -> None:
    path = first(library, "*_NDVI.tif")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut if cut > 1 else len(whole) * cut)])
    found = only(check(library))
    assert found.severity == "error"
    assert found.path == str(path)
    result = check(library, fix=True)
    assert not path.exists()
    assert result.set_aside is not None
    assert (result.set_aside / path.relative_to(library)).is_file()
    # The folder is empty then, and goes; put_back makes it again.
    assert not path.parent.exists()
    assert path.parents[1].exists()
    assert "1 folder that had become empty removed" in result.text()
    assert check(library).findings == []
    assert put_back(result.set_aside).failed == []
    assert path.stat().st_size == len(whole[: int(cut if cut > 1 else len(whole) * cut)])


def test_damage_in_a_smaller_picture_is_found(library: Path) -> None:
    path = first(library, "*_NDVI.tif")
    rewrite(path, lambda v: np.tile(v, (1, 1)), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as opened:
        before = path.stat().st_size
        opened.build_overviews([2], rasterio.enums.Resampling.average)
    data = bytearray(path.read_bytes())
    data[before + 600 : before + 700] = bytes(100)
    path.write_bytes(data)
    with rasterio.open(path) as opened:
        opened.read(1)  # the raster itself is whole
    assert "damaged" in only(check(library)).sentence


NDVI, A_MASK, SCL, CLOUD = "*_NDVI.tif", f"*_{MASK}.tif", "*_SCL_20m.jp2", "MSK_CLDPRB_20m.jp2"


@pytest.mark.parametrize(
    ("pattern", "change", "profile", "sentence"),
    [
        (NDVI, put(15000), {}, "from -?[0-9.]+ to 1.5, and NDVI lies from -1 to 1"),
        (NDVI, put(-10200), {}, "NDVI lies from -1 to 1"),
        (NDVI, lambda v: np.full_like(v, 32767), {}, "has no data in any pixel"),
        (NDVI, lambda v: v.astype(np.int32), {}, "holds int32 values, and int16 are expected"),
        (NDVI, lambda v: v, {"nodata": -9999}, "by -9999, and 32767 is expected"),
        (NDVI, lambda v: v, {"crs": "EPSG:32632"}, "lies in EPSG:32632, and the tile 31TGJ in EPSG:32631"),
        (NDVI, lambda v: v, {"transform": Affine(10, 0, 100_000, 0, -10, 5_000_000)}, "outside of the tile 31TGJ"),
        (NDVI, lambda v: v[:60], {}, "covers other ground"),
        (A_MASK, put(7), {}, "has values up to 7, and a mask has 0 and 1"),
        (A_MASK, lambda v: v.astype(np.int16), {}, "holds int16 values, and uint8 are expected"),
        (SCL, put(13), {}, "values up to 13, and SCL has none above 11"),
        (SCL, lambda v: v.astype(np.uint16), {}, "holds uint16 values"),
        (CLOUD, put(120), {}, "values up to 120, and CLDPRB has none above 100"),
        ("*_B03_10m.jp2", np.zeros_like, {}, "has no data in any pixel"),
        ("*_B03_10m.jp2", lambda v: v[::2, ::2].copy(), {"transform": None}, "B03"),
        ("*_B02_10m.jp2", lambda v: np.full_like(v, 1234), {}, "has the value 1234 in all pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_values_and_headers_that_do_not_fit(
    library: Path, pattern: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    profile: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    without_manifest(library)
    path = first(library, pattern)
    if profile.get("transform", 0) is None:  # pixels of another size
        with rasterio.open(path) as opened:
            profile = {"transform": scaled(opened.transform, 2)}
    rewrite(path, change, **profile)
    result = check(library)
    assert {found.item for found in result.findings} == {str(path.relative_to(library))}
    assert re.search(sentence, " ".join(found.sentence for found in result.findings))
    assert result.exit_code == 4
    # What decides is told by the header alone, where no pixel has to be read.
    quick = check(library, quick=True)
    told_by_header = any(word in sentence for word in ("holds", "expected", "lies in", "outside", "ground", "B03"))
    assert bool(quick.findings) is (told_by_header and "NDVI lies" not in sentence)
    assert quick.pixels == 0


def test_pixels_beside_those_of_the_tile_are_a_warning(library: Path) -> None:
    without_manifest(library)
    for path in library.rglob("*31TGJ*_B0*_10m.jp2"):
        with rasterio.open(path) as opened:
            moved = opened.transform.c + 3
            transform = Affine(10, 0, moved, 0, -10, opened.transform.f)
        rewrite(path, transform=transform)
    found = check(library).findings
    assert {f.severity for f in found} == {"warning"}
    assert all("do not lie on those of the tile" in f.sentence for f in found)


def test_a_band_that_is_a_copy_of_another_is_named(library: Path) -> None:
    without_manifest(library)
    red = first(library, "*_B04_10m.jp2")
    shutil.copyfile(red, red.with_name(red.name.replace("B04", "B03")))
    assert "has the same pixels as B03" in only(check(library)).sentence


def test_broken_and_missing_metadata(library: Path) -> None:
    path = first(library, "MTD_MSIL2A.xml")
    path.write_text("<broken", encoding="utf-8")
    found = only(check(library))
    assert found.severity == "error"
    assert "cannot be used" in found.sentence
    path.unlink()
    assert "has no MTD_MSIL2A.xml" in only(check(library)).sentence


def test_one_product_that_cannot_be_read_ends_nothing(library: Path) -> None:
    for path in (library / "data" / "L2A").rglob("*.jp2"):
        path.write_bytes(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + os.urandom(2000))
    result = check(library, verify=False)
    assert len([f for f in result.findings if f.severity == "error"]) == 18
    assert result.rasters == 24


# ----------------------------------------------------------------------------------------------------------------- tags


def tagged(path: Path, **changes: Any) -> None:
    product = path.parent.name
    values: dict[str, Any] = {"product": product, "name": "NDVI", "definition": INDICES["NDVI"].definition}
    rewrite(path, tags=RasterTags(**(values | changes)).items())


@pytest.mark.parametrize(
    ("changes", "severity", "sentence"),
    [
        ({}, "", ""),
        ({"definition": "(B08 - B04) / (B08 + B04)"}, "", ""),
        (
            {"product": "S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533"},
            "error",
            "says that it is of S2A_",
        ),
        ({"name": "NBR"}, "error", "says that it holds NBR, and is called NDVI"),
        ({"definition": "(B08-B03)/(B08+B03)"}, "warning", "made by the formula"),
        ({"definition": "not a formula ("}, "warning", "made by the formula"),
        ({"rules": 0}, "warning", "version 0 of the definitions"),
    ],
)
def test_tags_that_say_something_else(library: Path, changes: dict[str, Any], severity: str, sentence: str) -> None:
    tagged(first(library, NDVI), **changes)
    result = check(library, quick=True)
    if severity:
        found = only(result)
        assert found.severity == severity
        assert sentence in found.sentence
        assert bool(found.path) is (severity == "error")
    else:
        assert result.findings == []


def test_a_users_index_is_judged_by_its_own_formula(library: Path) -> None:
    source = first(library, NDVI)
    folder = library / "data" / "INDICES" / "SAVI9" / "31TGJ" / source.parent.name
    folder.mkdir(parents=True)
    path = folder / source.name.replace("NDVI", "SAVI9")
    shutil.copyfile(source, path)
    tagged(path, name="SAVI9", definition="1.5*(B08-B04)/(B08+B04+0.5)")
    assert check(library).findings == []
    tagged(path, name="SAVI9", definition="abs(B08-B08)")
    assert "SAVI9 lies from 0 to 0" in only(check(library)).sentence


def test_the_range_of_a_formula() -> None:
    assert value_range(INDICES["NDVI"]) == (-10000, 10000)
    low, high = value_range(INDICES["BIGR"])
    assert low == 0
    assert high == 32766  # reflectance goes to 6.55
    assert value_range(INDICES["EVI"])[1] == 32766
    assert value_range(Index("R", "B04", scale=1000)) == (0, 6553)
    low, high = value_range(Index("MANY", "B02+B03+B04+B08+B05"))
    assert (low, high) == (-32768, 32767)


@pytest.mark.parametrize(("name", "why"), [("CM003-PRB1-ITER0", "without end"), ("CM002-B11", "with the offset in")])
def test_masks_that_are_known_to_be_wrong(library: Path, name: str, why: str) -> None:
    source = first(library, A_MASK)
    path = source.with_name(source.name.replace(MASK, name))
    shutil.copyfile(source, path)
    found = only(check(library, quick=True))
    assert found.severity == "warning"
    assert "known to be wrong" in found.sentence
    assert why in found.sentence
    assert found.path == str(path)
    # Ours are right.
    rewrite(path, tags=RasterTags(path.parent.name, name).items())
    assert check(library, quick=True).findings == []


# ------------------------------------------------------------------------------------------------ duplicates, leftovers


def test_what_is_there_twice(library: Path) -> None:
    safe = first(library, "*.SAFE")
    shutil.make_archive(str(safe), "zip", safe.parent, safe.name)
    found = only(check(library, "duplicates"))
    assert (found.severity, found.item) == ("warning", safe.name.removesuffix(".SAFE"))
    assert found.sentence == f"is there 2 times: data/L2A/31TGJ/{safe.name}, data/L2A/31TGJ/{safe.name}.zip"
    (safe.parent / f"{safe.name}.zip").unlink()
    tif = first(library, NDVI)
    shutil.copyfile(tif, tif.with_suffix(".jp2"))
    assert "is there as .tif, too" in only(check(library, "duplicates")).sentence


def test_two_generations_of_one_acquisition(library: Path) -> None:
    safe = first(library, "*.SAFE")
    later = re.sub(r"_\d{8}T\d{6}\.SAFE", "_20230101T000000.SAFE", safe.name)
    shutil.copytree(safe, safe.with_name(later))
    text = safe.with_name(later) / "MTD_MSIL2A.xml"
    text.write_text(text.read_text("utf-8").replace(safe.name, later), encoding="utf-8")
    found = only(check(library, "duplicates"))
    assert (found.severity, found.item) == ("warning", safe.name.removesuffix(".SAFE"))
    assert later.removesuffix(".SAFE") in found.sentence
    assert "generation of the same baseline" in found.sentence


def test_leftovers_of_interrupted_work(library: Path) -> None:
    tif = first(library, NDVI)
    dead = tif.with_name(f".{'0' * 16}.tmp")
    dead.write_bytes(b"half")
    os.utime(dead, (time.time() - 90_000,) * 2)
    side = tif.with_name("gone.jp2.aux.xml")
    side.write_bytes(b"<x/>")
    young = tif.with_name(f".{'1' * 16}.tmp")
    young.write_bytes(b"half")
    empty = tif.parents[1] / re.sub("_R[0-9]{3}_", "_R077_", tif.parent.name)
    empty.mkdir()
    part = first(library, "*.SAFE").with_name("S2A_MSIL2A_20230101T103021_N0400_R108_T31TGJ_20230101T133021.zip.part")
    part.write_bytes(b"half")
    lock = library / "data" / "TEMP" / "locks" / "0a.lock-soft"
    lock.parent.mkdir(parents=True)
    lock.write_bytes(b"")
    os.utime(lock, (time.time() - 90_000,) * 2)
    (lock.parent / "0b.lock").write_bytes(b"")
    result = check(library, "leftovers", fix=True)
    told = {Path(f.item).name: (f.severity.value, bool(f.path)) for f in result.findings}
    assert told == {
        dead.name: ("warning", True),
        young.name: ("note", False),
        side.name: ("note", True),
        empty.name: ("note", True),
        part.name: ("warning", False),
        lock.name: ("warning", True),
    }
    assert {move.source for move in result.moves.moved} == {dead, side, lock}
    assert result.moves.folders == [empty]
    assert not empty.exists()
    assert young.exists()
    assert part.exists()
    text = result.text(width=200)
    assert "3 files moved to" in text
    assert "Not moved: 1 incomplete file that a run may be writing now." in text
    assert "Not moved: 1 warning" in text
    assert result.moves.folder is not None
    assert put_back(result.moves.folder).failed == []
    assert empty.is_dir()
    assert dead.exists()


def test_what_other_programs_left_beside_rasters(library: Path) -> None:
    tif = first(library, NDVI)
    stem = tif.name.removesuffix(".tif")
    old, young, strange = (tif.with_name(f"{stem}{end}") for end in (".tif.part", ".tif.tmp", "_old.tif"))
    for path in (old, young, strange):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    empty = tif.with_name(tif.name.replace("NDVI", "NBR"))
    empty.write_bytes(b"")
    for k in range(4):
        first(library, A_MASK).with_name(f"notes{k}.txt").write_text("x", encoding="utf-8")
    (library / "data" / "INDICES" / "readme.txt").write_text("not beside rasters", encoding="utf-8")
    result = check(library, "leftovers", fix=True)
    told = {Path(f.item).name: (f.severity.value, bool(f.path)) for f in result.findings}
    assert told == {
        old.name: ("warning", True),
        young.name: ("note", False),
        empty.name: ("error", True),
        "31TGJ": ("note", False),
    }
    (note,) = [f for f in result.findings if f.item == "31TGJ"]
    assert note.sentence.startswith(
        "has 5 files in folders of products whose names are not those of an index or a mask"
    )
    assert note.sentence.endswith("and 2 more")
    assert {move.source for move in result.moves.moved} == {old, empty}
    damaged = tif.parents[3] / "NBR" / "31TGJ" / tif.parent.name / empty.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"")
    assert only(check(library, "rasters")).path == str(damaged)


def test_what_fix_does_not_move_is_told(library: Path) -> None:
    path = first(library, "*_B04_10m.jp2")
    path.write_bytes(path.read_bytes()[:-400])
    ours = first(library, NDVI)
    rewrite(ours, nodata=None)
    result = check(library, fix=True)
    assert {(f.severity.value, "--fix" in f.advice, f.path) for f in result.findings} == {
        ("error", False, ""), ("warning", False, ""),
    }  # fmt: skip
    text = result.text(width=200)
    assert "No file was moved aside." in text
    assert "Not moved: 1 error in SAFE products; download these again." in text
    assert "Not moved: 1 warning that moving a file does not mend" in text
    assert result.problems_found() == "1 error and 1 warning found."
    assert "Not moved" not in check(library).text()


def test_every_finding_with_the_advice_to_move_is_moved(library: Path) -> None:
    without_manifest(library)
    for pattern in (NDVI, A_MASK, "*_B03_10m.jp2", "*_SCL_20m.jp2"):
        first(library, pattern).write_bytes(b"")
    first(library, NDVI).with_name("gone.jp2.aux.xml").write_bytes(b"<x/>")
    for found in check(library).findings:
        assert ("--fix" in found.advice) is bool(found.path), str(found)


def test_lines_of_the_text_keep_names_whole(library: Path) -> None:
    for path in (*library.rglob(NDVI), first(library, "*_B03_10m.jp2")):
        path.write_bytes(path.read_bytes()[:-300])
    result = check(library)
    lines = result.text(width=100).splitlines()
    for found in result.findings[:1]:
        assert any(line.startswith(f"  {found.item}") for line in lines)
    assert "Errors:" in lines
    assert all(len(line) <= 100 or line.strip().split(" ")[0] in result.text(width=999) for line in lines)
    assert [line for line in lines if "is damaged" in line]
    assert "  Let --fix move it aside, and make it again with sen2chain produce." in "\n".join(lines)
    verbose = result.text(verbose=True)
    assert all(f"\n  {found.item}\n" in verbose for found in result.findings)
    assert repr(result) == f"<ArchiveCheck: {result.summary()}>"


def test_a_sentence_is_one_line_and_names_files_as_people_do() -> None:
    found = Finding(Severity.ERROR, Part.RASTERS, "a\nb", "is damaged: /vsizip//x/y.zip/z:\n  no\tdata", "look\nat it")
    assert found.item == "a\\nb"
    assert found.sentence == "is damaged: /x/y.zip/z: no data"
    assert found.advice == "look at it"


# --------------------------------------------------------------------------------------------------------- the offsets


def test_offsets_are_judged_end_to_end(tmp_path: Path) -> None:
    scene = demo.Scene(
        tiles=("31TGJ",), size=240, parcels=12, bands=("B02", "B03", "B04", "B8A", "B11", "B12", "SCL"),
        overpasses=tuple(
            demo.Overpass(BEGUN + dt.timedelta(days=5 * k), ("S2A", "S2B")[k % 2],
                          400, cloud=0.1 * (k % 3)) for k in range(7)
        ),
    )  # fmt: skip
    library = demo.build(tmp_path, scene).library
    right = check(library, "offsets")
    assert [date.verdict.offset for date in right.dates] == ["right"] * 7
    assert right.findings == []
    path = sorted(library.rglob("MTD_MSIL2A.xml"), key=lambda p: p.parent.name[11:])[3]
    path.write_text(path.read_text("utf-8").replace(">-1000<", ">0<"), encoding="utf-8")
    result = check(library, "offsets")
    found = only(result)
    assert (found.severity, found.item) == ("error", path.parent.name.removesuffix(".SAFE"))
    assert found.sentence.startswith("has reflectance that is 0.1 too high: ")
    assert "the metadata do not list it" in found.advice
    assert result.dates_frame()["offset"].tolist().count("too high") == 1
    # Neighbours outside of the dates that are asked for count, and are not told of.
    day = dt.datetime.strptime(path.parent.name[11:19], "%Y%m%d").replace(tzinfo=dt.UTC).date()
    assert only(check(library, "offsets", first=day, last=day)).item == found.item
    assert check(library, "offsets", first=day + dt.timedelta(days=1)).findings == []
    assert check(library, "offsets", tiles=["32TLP"]).dates == []


# -------------------------------------------------------------------------------------------------------------- results


def test_the_result_as_text_table_and_plain_values(library: Path) -> None:
    for path in library.rglob(NDVI):
        path.write_bytes(b"")
    result = check(library)
    assert result.counts() == {"error": 3, "warning": 0, "note": 0}
    text = result.text(width=200)
    assert text.startswith(f"Sen2Chain library {library}: 3 products, 24 rasters read; 3 errors.")
    assert "and 2 more" in text
    assert text.count("damaged") == 1
    frame = result.to_frame()
    assert frame["severity"].tolist() == ["error"] * 3
    assert frame["path"].tolist() == sorted(str(path) for path in library.rglob(NDVI))
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["counts"]["error"] == len(plain["findings"]) == 3
    assert plain["offsets"] == []
    assert "<table" in result._repr_html_()
    assert str(result.findings[0]).startswith("error: ")


def test_a_folder_of_products_alone(made: demo.DemoArchive) -> None:
    folder = made.library / "data" / "L2A"
    result = check_archive(SafeFolder(folder), quiet=True)
    assert (result.products, result.rasters) == (3, 18)
    assert result.problems == 0
    with pytest.raises(RequestError, match="Only files of a library"):
        check_archive(SafeFolder(folder), fix=True, quiet=True)
    with pytest.raises(RequestError, match="part of a check"):
        check_archive(SafeFolder(folder), parts=("colours",), quiet=True)


def test_tiles_and_dates_choose(library: Path) -> None:
    days = sorted({path.name[11:19] for path in library.rglob("*.SAFE")})
    day = dt.datetime.strptime(days[1], "%Y%m%d").replace(tzinfo=dt.UTC).date()
    assert check(library, first=day, last=day).rasters == 8
    assert check(library, tiles=["31TGJ"]).rasters == 24
    assert check(library, tiles=[]).rasters == 0


# --------------------------------------------------------------------------------------------------------------- fixing


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


NAMES = st.text(st.sampled_from("ab.é \n"), min_size=1, max_size=4).filter(lambda name: name.strip(". \n") != "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=9), max_size=8),
    chosen=st.data(),
)
def test_nothing_is_lost_or_replaced_by_moving(
    tmp_path_factory: pytest.TempPathFactory, files: Mapping[tuple[str, ...], bytes], chosen: st.DataObject
) -> None:
    home = tmp_path_factory.mktemp("home")
    for parts, content in files.items():
        path = home.joinpath(*parts)
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    before = tree(home)
    some = chosen.draw(st.lists(st.sampled_from(sorted(before)), unique=True)) if before else []
    moves = set_aside(home, {str(home / name): "it is wrong" for name in some})
    assert moves.failed == []
    if moves.folder is None:
        assert not some
        return
    after = tree(home)
    inside = moves.folder.relative_to(home)
    assert {name: content for name, content in after.items() if not name.startswith("set_aside/")} == {
        name: content for name, content in before.items() if name not in some
    }
    for name in some:
        assert after[str(inside / name)] == before[name]
    # A file that has come back since is not replaced.
    taken = chosen.draw(st.sampled_from([*some, ""]))
    if taken:
        (home / taken).parent.mkdir(parents=True, exist_ok=True)
        (home / taken).write_bytes(b"a new file here")
    back = put_back(moves.folder)
    assert len(back.failed) == bool(taken)
    expected = before | ({taken: b"a new file here"} if taken else {})
    assert {n: c for n, c in tree(home).items() if not n.startswith("set_aside/")} == expected
    if taken:
        assert tree(home)[str(inside / taken)] == before[taken]


def test_two_moves_in_one_second_have_two_folders(tmp_path: Path) -> None:
    folders = []
    for k in range(3):
        path = tmp_path / "a.tif"
        path.write_bytes(bytes([k]))
        folders.append(set_aside(tmp_path, {str(path): "x"}).folder)
    assert len(set(folders)) == 3


def test_side_files_go_along_and_files_outside_keep_their_path(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "elsewhere" / "b.jp2"
    for path in (home / "a.jp2", home / "a.jp2.aux.xml", outside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    moves = set_aside(home, {str(home / "a.jp2"): "x", str(outside): "y", str(home / "missing"): "z"})
    assert moves.folder is not None
    assert sorted(str(p.relative_to(moves.folder)) for p in moves.folder.rglob("*") if p.is_file()) == sorted(
        ["a.jp2", "a.jp2.aux.xml", str(outside.relative_to("/")), "moves.json"]
    )
    assert put_back(moves.folder).failed == []
    assert outside.read_bytes() == b"b.jp2"
    assert not moves.folder.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2, "moves": []}', '{"version": 1, "moves": [{"from": "a", "to": "b", "why": ""}]}',
             '{"version": 1, "moves": [{"from": "/x", "to": "../../b", "why": ""}]}'],
)  # fmt: skip
def test_a_list_from_elsewhere_moves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "moves.json").write_text(text, encoding="utf-8")
    with pytest.raises(LibraryError, match=r"moves\.json"):
        put_back(tmp_path)
    with pytest.raises(LibraryError, match="is not a folder"):
        put_back(tmp_path / "none")


def test_a_library_that_cannot_be_written_is_one_sentence(library: Path) -> None:
    from sen2chain.errors import OutputError  # noqa: PLC0415  # what is raised

    first(library, NDVI).write_bytes(b"")
    (library / "set_aside").write_bytes(b"a file where the folder should be")
    with pytest.raises(OutputError, match="set_aside"):
        check(library, fix=True)
    assert first(library, NDVI).exists()


# ---------------------------------------------------------------------------- stored rasters compared with their bands


def test_a_foreign_raster_is_compared_with_its_bands(library: Path) -> None:
    path = first(library, NDVI)
    rewrite(path, lambda v: np.full_like(v, 5))
    found = only(check(library))
    assert (found.severity, found.path) == ("error", str(path))
    told = r"does not hold the NDVI of its bands: [0-9,]+ pixels .* median is 0\.0005, and 0\.[0-9]+ from the bands"
    assert re.search(told, found.sentence)
    assert check(library, quick=True).findings == []


@pytest.mark.parametrize("change", [lambda v: v + 1, put(0, (slice(0, 9), slice(0, 20))), put(32767, (slice(0, 70),))])
def test_a_foreign_raster_that_differs_a_little_is_right(
    library: Path, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> None:
    rewrite(first(library, NDVI), lambda v: np.where(v == 32767, v, change(v.copy())).astype(np.int16))
    assert check(library).findings == []


def test_a_foreign_raster_of_another_date_or_index_is_an_error(library: Path) -> None:
    path = first(library, NDVI)
    rewrite(path, lambda v: np.where(v == 32767, v, -v).astype(np.int16))
    assert "does not hold the NDVI of its bands" in only(check(library)).sentence


def test_a_foreign_mask_is_compared_with_its_classes(library: Path) -> None:
    path = first(library, A_MASK)
    rewrite(path, lambda v: 1 - v)
    found = only(check(library))
    assert (found.severity, found.path) == ("error", str(path))
    assert found.sentence.startswith(f"is another mask than {MASK} of its product: ")
    # One that sen2chain wrote is told by its inputs.
    rewrite(path, tags=RasterTags(path.parent.name, MASK).items())
    assert check(library).findings == []


def test_one_value_everywhere_is_no_index_where_the_bands_are_not_there(library: Path) -> None:
    shutil.rmtree(library / "data" / "L2A")
    path = first(library, NDVI)
    rewrite(path, lambda v: np.full_like(v, 5))
    found = only(check(library))
    assert (found.severity, found.path) == ("error", str(path))
    assert found.sentence == "has the value 0.0005 in all 14,400 pixels with data, and no ground has one NDVI"
    rewrite(path, put(32767, (slice(None), slice(1, None))))  # a few pixels may have one value
    assert check(library).findings == []


def test_a_lossy_raster_of_the_original_program_is_compared(bolzano: Path, tmp_path: Path) -> None:
    product = min((bolzano / "legacy" / "INDICES" / "NDVI" / "32TPS").iterdir())
    folder = tmp_path / "data" / "INDICES" / "NDVI" / "32TPS" / product.name
    shutil.copytree(product, folder, copy_function=shutil.copyfile)
    (tmp_path / "data" / "L2A" / "32TPS").mkdir(parents=True)
    safe = f"{product.name}.SAFE"
    (tmp_path / "data" / "L2A" / "32TPS" / safe).symlink_to(bolzano / "L2A" / "32TPS" / safe)
    assert check(tmp_path, "rasters", verify=False).counts()["error"] == 0
    path = folder / f"{product.name}_NDVI.jp2"
    rewrite(path, lambda v: np.where(v == 16383, v, v // 2).astype(np.int16))
    (found,) = [f for f in check(tmp_path, "rasters", verify=False).findings if f.severity == "error"]
    assert (found.path, "does not hold the NDVI" in found.sentence) == (str(path), True)


@given(shape=st.tuples(st.integers(1, 12000), st.integers(1, 12000)))
def test_compared_squares_lie_inside_and_do_not_overlap(shape: tuple[int, int]) -> None:
    windows = spread_windows(shape)
    assert 1 <= len(windows) <= 9
    for window in windows:
        assert window.row + window.height <= shape[0]
        assert window.column + window.width <= shape[1]
    rows = sorted({(w.row, w.row + w.height) for w in windows})
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(rows))


def test_a_raster_whose_bands_have_changed_is_stale(library: Path) -> None:
    source = open_library(library)
    acquisition = source.acquisitions("31TGJ")[0]
    path, mask = Path(acquisition.indices["NDVI"][0]), Path(acquisition.masks[MASK])
    inputs = describe(index_inputs(acquisition, INDICES["NDVI"]), source)  # type: ignore[arg-type]
    tagged(path, inputs=inputs)
    clouds = describe(mask_inputs(acquisition, Mask.parse(MASK)), source)  # type: ignore[arg-type]
    rewrite(mask, tags=RasterTags(path.parent.name, MASK, inputs=clouds).items())
    assert check(library, quick=True).findings == []
    without_manifest(library)
    band = Path(acquisition.bands["B04"])
    rewrite(band, put(1500))
    os.utime(band, (1.6e9,) * 2)
    found = only(check(library))
    assert (found.severity, found.path, found.item) == ("warning", "", str(path.relative_to(library)))
    assert found.sentence == "was made from files that are not those of today: B04 of the product changed"
    assert found.advice == "make it again with sen2chain produce"
    # A raster from a lossy one, and one whose bands are gone, are not judged.
    tagged(path, inputs=inputs, source=FROM_LOSSY)
    assert check(library, quick=True).findings == []
