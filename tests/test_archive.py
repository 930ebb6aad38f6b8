from __future__ import annotations

import datetime as dt
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from sen2chain.archive import (
    LibrarySource,
    MemorySource,
    SafeFolder,
    file_contents,
    open_library,
    open_target,
    product_search,
)
from sen2chain.archive.product_details import ProductDetails
from sen2chain.archive.product_metadata import read_metadata
from sen2chain.archive.safe_product import scan_safe
from sen2chain.errors import LibraryError, RequestError, UnreadableError
from sen2chain.files import open_regular
from sen2chain.products import Acquisition, ProductId, Source
from sen2chain.reasons import Reason
from sen2chain.settings import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TILE = "32TPS"
FIRST = "S2A_MSIL2A_20220612T100601_N0400_R022_T32TPS_20220612T160000"
SECOND = "S2B_MSIL2A_20220617T100601_N0400_R022_T32TPS_20220617T160000"
OTHER_TILE = "S2B_MSIL2A_20220617T100601_N0400_R022_T31TGJ_20220617T160000"
OLD_NAME = "S2A_USER_PRD_MSIL2A_PDMC_20160612T100601_R022_V20160612T100601_20160612T100601.SAFE"
LEVEL_1C = "S2A_MSIL1C_20220612T100601_N0400_R022_T32TPS_20220612T160000.SAFE"

FILES_10M = ("B02", "B03", "B04", "B08", "AOT", "TCI")
FILES_20M = ("B02", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL", "WVP")
BANDS = {"B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL", "CLDPRB"}


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    return file


def safe_files(product: str, prefix: str = "") -> list[str]:
    """Paths inside a SAFE, as ESA lays them out."""
    _, _, sensing, _, _, tile, _ = product.split("_")
    granule = f"GRANULE/L2A_{tile}_A000000_{sensing}"
    images = [f"R10m/{prefix}{tile}_{sensing}_{band}_10m" for band in FILES_10M]
    images += [f"R20m/{prefix}{tile}_{sensing}_{band}_20m" for band in FILES_20M]
    images += [f"R60m/{prefix}{tile}_{sensing}_{band}_60m" for band in ("B01", "SCL")]
    quality = [f"QI_DATA/MSK_CLDPRB_{metres}m.jp2" for metres in (20, 60)]
    return [
        "MTD_MSIL2A.xml",
        f"{granule}/MTD_TL.xml",
        *(f"{granule}/IMG_DATA/{image}.jp2" for image in images),
        *(f"{granule}/{file}" for file in quality),
    ]


def make_safe(folder: Path, product: str, prefix: str = "") -> Path:
    safe = folder / f"{product}.SAFE"
    for file in safe_files(product, prefix):
        touch(safe / file)
    return safe


def make_zip(folder: Path, product: str, *, suffix: str = ".SAFE.zip", around: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{product}{suffix}"
    around = f"{product}.SAFE/" if around is None else around
    with zipfile.ZipFile(archive, "w") as opened:
        for file in safe_files(product):
            opened.writestr(around + file, b"")
            opened.writestr(f"__MACOSX/{around}{Path(file).parent}/._{Path(file).name}", b"")
    return archive


def tree(folder: Path) -> LibrarySource:
    for name in ("L2A", "INDICES", "CLOUDMASKS"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return LibrarySource(paths(folder))


def names(acquisitions: Any) -> list[str]:
    return [str(acquisition.id) for acquisition in acquisitions]


# One SAFE product


def test_scan_safe_finds_each_band_at_its_resolution(tmp_path: Path) -> None:
    parts = scan_safe(make_safe(tmp_path, FIRST))
    assert parts.metadata == str(tmp_path / f"{FIRST}.SAFE" / "MTD_MSIL2A.xml")
    assert set(parts.bands) == BANDS
    assert "/R10m/" in parts.bands["B02"]
    assert "/R20m/" in parts.bands["SCL"]
    assert parts.bands["CLDPRB"].endswith("/QI_DATA/MSK_CLDPRB_20m.jp2")
    assert all(Path(place).is_file() for place in parts.bands.values())


def test_scan_safe_older_file_names(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, FIRST, prefix="L2A_")
    quality = next(safe.glob("GRANULE/*")) / "QI_DATA"
    (quality / "MSK_CLDPRB_20m.jp2").unlink()
    touch(quality / "L2A_T32TPS_20220612T100601_CLD_20m.jp2")
    parts = scan_safe(safe)
    assert set(parts.bands) == BANDS
    assert parts.bands["B04"].endswith("L2A_T32TPS_20220612T100601_B04_10m.jp2")
    assert parts.bands["CLDPRB"].endswith("L2A_T32TPS_20220612T100601_CLD_20m.jp2")


def test_scan_safe_prefers_the_documented_cloud_probability(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, FIRST)
    quality = next(safe.glob("GRANULE/*")) / "QI_DATA"
    for name in ("A_CLD_20m.jp2", "Z_CLD_20m.jp2"):
        touch(quality / name)
    assert scan_safe(safe).bands["CLDPRB"].endswith("MSK_CLDPRB_20m.jp2")


def test_scan_safe_ignores_leavings(tmp_path: Path) -> None:
    safe = tmp_path / f"{FIRST}.SAFE"
    images = safe / "GRANULE" / "L2A_x" / "IMG_DATA" / "R10m"
    for name in ("._T32TPS_x_B02_10m.jp2", "T32TPS_x_B02_10m.jp2.aux.xml", "T32TPS_x_B03_10m.jp2.part", "B04.jp2"):
        touch(images / name)
    touch(safe / "GRANULE" / "notes.txt")
    parts = scan_safe(safe)
    assert parts.bands == {}
    assert parts.metadata is None


@pytest.mark.parametrize(("suffix", "around"), [(".SAFE.zip", None), (".zip", None), (".zip", "")])
def test_scan_safe_in_a_zip(tmp_path: Path, suffix: str, around: str | None) -> None:
    archive = make_zip(tmp_path, FIRST, suffix=suffix, around=around)
    parts = scan_safe(archive)
    assert set(parts.bands) == BANDS
    inner = f"{FIRST}.SAFE/" if around is None else around
    assert parts.metadata == f"/vsizip/{archive}/{inner}MTD_MSIL2A.xml"
    assert not any("__MACOSX" in place for place in parts.bands.values())


def test_locations_in_a_zip_open(tmp_path: Path) -> None:
    raster = tmp_path / "band.jp2"
    values = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64)
    transform = Affine(10, 0, 600000, 0, -10, 5100000)
    options: dict[str, Any] = {"QUALITY": 100, "REVERSIBLE": "YES"}
    with rasterio.open(
        raster, "w", "JP2OpenJPEG", 64, 64, 1, "EPSG:32632", transform, dtype="uint16", **options
    ) as opened:
        opened.write(values)
    # A folder called like a zip file must not be taken for the archive.
    folder = tmp_path / "disk.zip"
    folder.mkdir()
    inside = "GRANULE/L2A_x/IMG_DATA/R10m/T32TPS_20220612T100601_B04_10m.jp2"
    with zipfile.ZipFile(folder / f"{FIRST}.SAFE.zip", "w") as archive:
        archive.write(raster, f"{FIRST}.SAFE/{inside}")
        archive.writestr(f"{FIRST}.SAFE/MTD_MSIL2A.xml", metadata_xml("02.14"))
    parts = scan_safe(folder / f"{FIRST}.SAFE.zip")
    with rasterio.open(parts.bands["B04"]) as opened:
        assert (opened.read() == values).all()
    assert parts.metadata is not None
    assert read_metadata(parts.metadata).quantification == 10000


def test_scan_safe_of_something_else(tmp_path: Path) -> None:
    corrupt = tmp_path / f"{FIRST}.zip"
    corrupt.write_bytes(make_zip(tmp_path / "good", FIRST).read_bytes()[:-200])
    for path in (corrupt, tmp_path / "absent.SAFE", touch(tmp_path / "file.SAFE")):
        with pytest.raises(UnreadableError, match=path.name):
            scan_safe(path)


def test_a_renamed_zip_is_not_taken_for_another_date(tmp_path: Path) -> None:
    archive = make_zip(tmp_path, FIRST).rename(tmp_path / f"{SECOND}.SAFE.zip")
    with pytest.raises(UnreadableError, match=f"contains {FIRST}"):
        scan_safe(archive)


def test_a_zip_of_something_else_or_of_two_products(tmp_path: Path) -> None:
    archive = make_zip(tmp_path, FIRST)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(f"{SECOND}.SAFE/MTD_MSIL2A.xml", "")
    assert set(scan_safe(archive).bands) == BANDS  # its own product is the one of its name
    renamed = archive.rename(tmp_path / "both.zip")
    with pytest.raises(UnreadableError, match="several products"):
        scan_safe(renamed)


def granule(safe: Path, name: str, bands: Sequence[str]) -> None:
    for band in bands:
        metres = 10 if band in FILES_10M else 20
        touch(safe / "GRANULE" / name / "IMG_DATA" / f"R{metres}m" / f"T32TPS_20220612T100601_{band}_{metres}m.jp2")


@pytest.mark.parametrize("zipped", [False, True])
def test_two_granule_folders_are_never_mixed(tmp_path: Path, *, zipped: bool) -> None:
    for name, less in (("part", ("B04",)), ("same", ("B04", "B08")), ("other", ("B04", "SCL"))):
        safe = tmp_path / name / f"{FIRST}.SAFE"
        granule(safe, "L2A_T32TPS_A000001_20220612T100601", less)
        granule(safe, "L2A_T32TPS_A000002_20220612T100701", ("B04", "B08"))
        if zipped:
            files = [path for path in safe.rglob("*") if path.is_file()]
            with zipfile.ZipFile(safe.parent / f"{FIRST}.zip", "w") as opened:
                for path in files:
                    opened.write(path, path.relative_to(safe.parent))
            shutil.rmtree(safe)
    part = SafeFolder(tmp_path / "part")
    (only,) = part.acquisitions(TILE)
    assert set(only.bands) == {"B04", "B08"}
    assert all("A000002" in place for place in only.bands.values())
    assert [("A000001" in item.detail, item.reason) for item in part.skipped()] == [(True, Reason.SUPERSEDED)]
    for name in ("same", "other"):
        source = SafeFolder(tmp_path / name)
        assert source.acquisitions(TILE) == []
        (item,) = source.skipped()
        assert "A000001" in item.detail
        assert "A000002" in item.detail


def test_two_files_of_one_band(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, FIRST)
    band = next(safe.glob("GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2"))
    copy = touch(band.with_name("A_copy_B04_10m.jp2"))
    assert scan_safe(safe).bands["B04"] == str(band)
    band.rename(band.with_name("Z_B04_10m.jp2"))
    with pytest.raises(UnreadableError, match=r"two files of B04, A_copy_B04_10m.jp2 and Z_B04_10m.jp2"):
        scan_safe(safe)
    copy.unlink()
    assert scan_safe(safe).bands["B04"].endswith("Z_B04_10m.jp2")


@pytest.mark.parametrize("name", ["T32TPS_20220612T100602", "T32TPT_20220612T100601", "L2A_t32tpt_20220612t100601"])
def test_a_band_of_another_product_is_not_read(tmp_path: Path, name: str) -> None:
    safe = make_safe(tmp_path / f"{FIRST}.SAFE", FIRST)
    band = next(safe.glob("GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2"))
    band = band.rename(band.with_name(f"{name}_B04_10m.jp2"))
    with pytest.raises(UnreadableError, match=rf"{name}_B04_10m.jp2.*, which are of two products"):
        scan_safe(safe)
    band.rename(band.with_name("renamed_B04_10m.jp2"))
    assert set(scan_safe(safe).bands) == BANDS


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda safe: safe.mkdir(), "is empty"),
        (lambda safe: touch(safe / "MTD_MSIL2A.xml"), "no folder GRANULE"),
        (lambda safe: touch(safe / "GRANULE/L2A_x/MTD_TL.xml"), "no rasters in IMG_DATA"),
        (lambda safe: touch(safe / "GRANULE/L2A_x/IMG_DATA/R10m/T_B04_10m.tif"), ".tif files"),
        (lambda safe: touch(safe / "GRANULE/L2A_x/IMG_DATA/R10m/T_B04_10m.jp2.part"), "T_B04_10m.jp2.part in"),
        (lambda safe: touch(safe / "GRANULE/L2A_x/IMG_DATA/R10m/T_B04_10m (1).jp2"), "which ends in _B04_10m.jp2"),
    ],
)
def test_why_a_product_has_no_bands(tmp_path: Path, make: Callable[[Path], None], part: str) -> None:
    make(tmp_path / f"{FIRST}.SAFE")
    (only,) = SafeFolder(tmp_path).acquisitions(TILE)
    assert part in only.remark
    assert not only.bands


def test_a_safe_inside_a_folder_of_its_own_name(tmp_path: Path) -> None:
    make_safe(tmp_path / f"{FIRST}.SAFE", FIRST)
    touch(tmp_path / f"{FIRST}.SAFE/__MACOSX/x")
    make_safe(tmp_path / SECOND, SECOND)
    source = SafeFolder(tmp_path)
    assert [set(acquisition.bands) for acquisition in source.acquisitions(TILE)] == [BANDS] * 2
    assert source.skipped() == []


# Whatever products are called, and wherever they lie


def odd_product(folder: Path, product: str = FIRST, *, says: str | None = None) -> Path:
    """Make a product under any name whose metadata say which it is."""
    made = make_safe(folder.parent / "new", product).rename(folder)
    (folder.parent / "new").rmdir()
    uri = f"{says or product}.SAFE"
    (made / "MTD_MSIL2A.xml").write_text(f"<a><PRODUCT_URI>{uri}</PRODUCT_URI></a>", encoding="utf-8")
    return made


@pytest.mark.parametrize(
    "name",
    [
        FIRST, f"{FIRST}.safe", f"{FIRST}.SAFE (1)", f"{FIRST} (1).SAFE", f"{FIRST}(1)", f"{FIRST} - Copy.SAFE", "june",
        "S2A_june.SAFE", "0f8fad5b-d9cb-469f-a165-70867728950e",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tree_of", ["tile", "flat", "deep", "none"])
def test_a_product_folder_under_another_name_is_read(tmp_path: Path, name: str, tree_of: str) -> None:
    place = {"tile": "L2A/32TPS", "flat": "L2A", "deep": "L2A/32TPS/2022/june", "none": "downloads/one/two/three"}
    folder = tmp_path / place[tree_of]
    folder.mkdir(parents=True)
    odd_product(folder / name)
    source = SafeFolder(tmp_path / "downloads") if tree_of == "none" else tree(tmp_path)
    assert source.tiles() == [TILE]
    (only,) = source.acquisitions(TILE)
    assert (str(only.id), set(only.bands)) == (FIRST, BANDS)
    assert source.skipped() == []


@pytest.mark.parametrize(
    ("name", "around"),
    [
        (f"{FIRST}.ZIP", None),
        (f"{FIRST}.safe.zip", None),
        (f"{FIRST} (1).zip", None),
        (f"{FIRST}.SAFE (1).zip", None),
        ("0f8fad5b-d9cb-469f-a165-70867728950e.zip", None),
        ("june.zip", f"{FIRST}/"),
        (f"{FIRST}.zip", f"x/{FIRST}.SAFE/"),
    ],
)
def test_a_zip_under_another_name_is_read(tmp_path: Path, name: str, around: str | None) -> None:
    make_zip(tmp_path, FIRST, around=around).rename(tmp_path / name)
    source = SafeFolder(tmp_path)
    (only,) = source.acquisitions(TILE)
    assert (str(only.id), set(only.bands)) == (FIRST, BANDS)
    assert source.skipped() == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"{FIRST}.SAFE.part", "unfinished"),
        (f"{FIRST}.incomplete", "unfinished"),
        (f"{FIRST}.SAFE.TMP", "unfinished"),
        (f"{FIRST}.SAFE.zip.crdownload", "unfinished"),
        (FIRST, "neither MTD_MSIL2A.xml nor a folder GRANULE"),
        (f"{FIRST} (1).SAFE", "not the name of an L2A product"),
        (LEVEL_1C.removesuffix(".SAFE"), "Level-1C"),
        ("SENTINEL2A_20220612-101234-456_L2A_T32TPS_D", "not the name of an L2A product"),
    ],
)
def test_a_folder_like_a_product_is_listed_with_the_reason(tmp_path: Path, name: str, part: str) -> None:
    for where in (TILE, f"{TILE}/deeper", "flat"):
        (tmp_path / "L2A" / where / name).mkdir(parents=True)
    for source in (tree(tmp_path), SafeFolder(tmp_path / "L2A")):
        assert [*source.tiles(), *source.acquisitions(TILE)] == []
        assert source.skipped()
        assert all(item.name == name and part in item.detail for item in source.skipped())


@pytest.mark.parametrize("name", [f"{FIRST}.SAFE", FIRST, f"{FIRST}.tar.gz", f"{FIRST}.SAFE.7z", f"{FIRST}.zip.part"])
def test_a_file_like_a_product_is_listed_with_the_reason(tmp_path: Path, name: str) -> None:
    file = touch(tmp_path / name)
    source = SafeFolder(tmp_path)
    assert source.tiles() == []
    assert [item.name for item in source.skipped()] == [name]
    if name in {FIRST, f"{FIRST}.SAFE"}:
        file.write_bytes(make_zip(tmp_path / "side", FIRST).read_bytes())
        shutil.rmtree(tmp_path / "side")
        source = SafeFolder(tmp_path)
        assert source.tiles() == []
        assert f"rename it to {name}.zip" in source.skipped()[0].detail
        with pytest.raises(LibraryError, match=f"rename it to {name}.zip"):
            SafeFolder(file)


def test_other_files_are_no_matter(tmp_path: Path) -> None:
    for name in (f"{FIRST}-ql.jpg", f"{FIRST}.json", "manifest.safe", "photos.zip", "notes.txt"):
        touch(tmp_path / name)
    source = SafeFolder(tmp_path)
    assert source.tiles() == []
    assert source.skipped() == []


def test_metadata_that_do_not_tell_the_product(tmp_path: Path) -> None:
    odd_product(tmp_path / "first", says="june")
    odd_product(tmp_path / "second", SECOND)
    (tmp_path / "second" / "MTD_MSIL2A.xml").write_text("<a>", encoding="utf-8")
    source = SafeFolder(tmp_path)
    assert source.tiles() == []
    assert ["PRODUCT_URI" in item.detail for item in source.skipped()] == [True, False]


def test_links_in_a_circle_and_folders_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_safe(tmp_path / "a" / "b", FIRST)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "b")
    source = SafeFolder(tmp_path)
    assert names(source.acquisitions(TILE)) == [FIRST]
    assert source.skipped() == []
    make_safe(tmp_path / "x" / "/".join("0123456789ab"), SECOND)
    source = SafeFolder(tmp_path / "x")
    assert source.tiles() == []
    assert ["folders deep" in item.detail for item in source.skipped()] == [True]
    monkeypatch.setattr("sen2chain.archive.product_search.MOST", 3)
    for number in range(4):
        touch(tmp_path / "many" / f"{number}.txt")
    source = SafeFolder(tmp_path / "many")
    assert source.tiles() == []
    assert ["not all were looked at" in item.detail for item in source.skipped()] == [True]


def test_well_named_products_are_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for product in (FIRST, SECOND):
        make_safe(tmp_path / "L2A" / TILE, product)
    seen: list[str] = []
    scandir = os.scandir

    def noted(path: str | Path) -> Any:
        seen.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    monkeypatch.setattr("sen2chain.archive.product_search.read_product_id", None)
    assert tree(tmp_path).tiles() == [TILE]
    assert SafeFolder(tmp_path).tiles() == [TILE]
    assert TILE in seen
    assert not [name for name in seen if name.endswith(".SAFE")]


def test_the_copy_with_most_rasters_is_read(tmp_path: Path) -> None:
    whole = make_safe(tmp_path / "z", FIRST)
    less = make_safe(tmp_path / "a", FIRST)
    for file in less.glob("GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2"):
        file.unlink()
    (only,) = SafeFolder(tmp_path).acquisitions(TILE)
    assert only.bands["B04"].startswith(str(whole))
    assert only.bands["B08"].startswith(str(whole))


# The tree


def test_an_acquisition_is_the_union_of_the_parts(tmp_path: Path) -> None:
    make_safe(tmp_path / "L2A" / TILE, FIRST)
    for product in (FIRST, SECOND):
        masks = tmp_path / "CLOUDMASKS" / TILE / product
        for mask in ("CM001", "CM002-B11", "CM003-PRB1-ITER5", "OCM_v1_8_1", "CLOUD_MASK", "QL"):
            touch(masks / f"{product}_{mask}.jp2")
        touch(masks / f"{product}_CM001.tif")
        touch(masks / f"{product}_CM001.jp2.aux.xml")
        touch(masks / "MSK_CLDPRB_20m.jp2")
        touch(masks / "T32TPS_20220617T100601_SCL_20m.jp2")
        for index in ("NDVI", "MY_INDEX"):
            folder = tmp_path / "INDICES" / index / TILE / product
            for end in (
                ".jp2",
                ".tif",
                ".jp2.aux.xml",
                "_CM001.jp2",
                "_CM001.jp2.aux.xml",
                "_OCM_v1_8_1.jp2",
                "_QL.tif",
            ):
                touch(folder / f"{product}_{index}{end}")
            touch(folder / f"{product}_{index}2.tif")
    source = tree(tmp_path)
    first, second = source.acquisitions(TILE)

    assert set(first.bands) == BANDS
    assert ".SAFE/" in first.bands["SCL"]
    assert ".SAFE/" in first.bands["CLDPRB"]
    assert first.details.has_radiometry

    assert not second.details.has_radiometry
    assert set(second.bands) == {"SCL", "CLDPRB"}
    assert set(second.masks) == {"CM001", "CM002-B11", "CM003-PRB1-ITER5", "OCM_v1_8_1"}
    assert second.masks["CM001"].endswith("_CM001.tif")
    assert set(second.indices) == {"NDVI", "MY_INDEX"}
    assert [Path(place).name for place in second.indices["MY_INDEX"]] == [
        f"{SECOND}_MY_INDEX.tif",
        f"{SECOND}_MY_INDEX.jp2",
    ]
    assert set(second.masked) == {(i, m) for i in ("NDVI", "MY_INDEX") for m in ("CM001", "OCM_v1_8_1")}
    assert second.masked["NDVI", "CM001"].endswith(f"{SECOND}_NDVI_CM001.jp2")
    assert source.skipped() == []


def test_tiles_come_from_every_part_and_only_from_tile_folders(tmp_path: Path) -> None:
    make_safe(tmp_path / "L2A" / TILE, FIRST)
    make_safe(tmp_path / "L2A" / "backup", FIRST)
    (tmp_path / "L2A" / "33TUM").mkdir()
    touch(tmp_path / "L2A" / "32TQS")
    other = ProductId.parse(OTHER_TILE)
    (tmp_path / "CLOUDMASKS" / "31TGJ" / str(other)).mkdir(parents=True)
    (tmp_path / "INDICES" / "NDVI" / "30TYK" / OTHER_TILE.replace("31TGJ", "30TYK")).mkdir(parents=True)
    source = tree(tmp_path)
    assert source.tiles() == ["30TYK", "31TGJ", "32TPS"]
    assert source.acquisitions("31TGJ") == []  # its folder is there, but nothing in it
    assert source.acquisitions("33TUM") == []
    assert source.acquisitions("01CCC") == []


def test_parts_may_be_missing(tmp_path: Path) -> None:
    make_safe(tmp_path / "L2A" / TILE, FIRST)
    source = open_library(tmp_path)
    assert source.tiles() == [TILE]
    assert names(source.acquisitions(TILE)) == [FIRST]
    assert str(tmp_path) in source.describe()


def test_dates_are_inclusive_and_others_are_not_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for product in (FIRST, SECOND):
        make_safe(tmp_path / "L2A" / TILE, product)
    source = tree(tmp_path)
    june12, june17 = dt.date(2022, 6, 12), dt.date(2022, 6, 17)
    assert names(source.acquisitions(TILE, june12, june17)) == [FIRST, SECOND]
    assert names(source.acquisitions(TILE, last=june12)) == [FIRST]
    assert names(source.acquisitions(TILE, june17)) == [SECOND]
    assert names(source.acquisitions(TILE, dt.date(2022, 6, 13), dt.date(2022, 6, 16))) == []

    seen: list[str] = []
    scandir = os.scandir

    def noted(path: str | Path) -> Any:
        seen.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    source.acquisitions(TILE, june17)
    assert any(SECOND in path for path in seen)
    assert not any(FIRST in path for path in seen)


def test_what_is_no_usable_product_is_listed_once(tmp_path: Path) -> None:
    folder = tmp_path / "L2A" / TILE
    make_safe(folder, FIRST)
    make_safe(folder, OTHER_TILE)
    for name in (OLD_NAME, LEVEL_1C, "holiday.SAFE", ".hidden.SAFE"):
        (folder / name).mkdir()
    touch(folder / f"{SECOND}.SAFE.zip")
    touch(folder / "photos.zip")
    (tmp_path / "CLOUDMASKS" / TILE / OTHER_TILE).mkdir(parents=True)
    (tmp_path / "CLOUDMASKS" / TILE / "notes").mkdir(parents=True)
    source = tree(tmp_path)
    assert source.tiles() == [TILE]
    for _ in range(2):
        assert names(source.acquisitions(TILE)) == [FIRST]
        listed = {item.name: item for item in source.skipped()}
        assert len(listed) == len(source.skipped())
        assert set(listed) == {
            OLD_NAME,
            LEVEL_1C,
            "holiday.SAFE",
            f"{OTHER_TILE}.SAFE",
            OTHER_TILE,
            f"{SECOND}.SAFE.zip",
        }
        assert listed[f"{SECOND}.SAFE.zip"].reason is Reason.UNREADABLE
        assert {item.reason for name, item in listed.items() if SECOND not in name} == {Reason.UNSUPPORTED_NAME}
        assert all(item.tile == TILE for item in listed.values())
        assert "Level-1C" in listed[LEVEL_1C].detail
        assert "31TGJ" in listed[OTHER_TILE].detail


def test_a_tile_of_unusable_products_is_no_tile_but_is_reported(tmp_path: Path) -> None:
    (tmp_path / "L2A" / TILE / OLD_NAME).mkdir(parents=True)
    source = tree(tmp_path)
    assert source.tiles() == []
    assert [item.name for item in source.skipped()] == [OLD_NAME]


def test_folder_goes_before_zip_and_zip_helps_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "L2A" / TILE
    make_safe(folder, FIRST)
    make_zip(folder, FIRST)
    (folder / f"{SECOND}.SAFE").mkdir()
    make_zip(folder, SECOND)
    first, second = tree(tmp_path).acquisitions(TILE)
    assert not first.bands["B02"].startswith("/vsizip/")
    assert second.bands["B02"].startswith("/vsizip/")


def test_an_empty_safe_is_an_acquisition_without_parts(tmp_path: Path) -> None:
    (tmp_path / "L2A" / TILE / f"{FIRST}.SAFE").mkdir(parents=True)
    (only,) = tree(tmp_path).acquisitions(TILE)
    assert only == Acquisition(ProductId.parse(FIRST), ProductDetails(ProductId.parse(FIRST)))


def test_links_are_followed_and_broken_ones_reported(tmp_path: Path) -> None:
    real = make_safe(tmp_path / "disk" / TILE, FIRST)
    archive = tmp_path / "archive"
    (archive / "L2A").mkdir(parents=True)
    (archive / "L2A" / TILE).symlink_to(real.parent)
    assert names(tree(archive).acquisitions(TILE)) == [FIRST]
    (real.parent / f"{SECOND}.SAFE").symlink_to(tmp_path / "gone")
    loop = real.parent / f"{SECOND}.zip"
    loop.symlink_to(loop)
    source = tree(archive)
    assert source.tiles() == [TILE]
    assert names(source.acquisitions(TILE)) == [FIRST]
    assert [item.reason for item in source.skipped()] == [Reason.UNREADABLE] * 2


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for product in (SECOND, FIRST):
        make_safe(tmp_path / "L2A" / TILE, product)
    expected = tree(tmp_path).acquisitions(TILE)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert tree(tmp_path).acquisitions(TILE) == expected
    assert names(expected) == [FIRST, SECOND]


def test_locked_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for product in (FIRST, SECOND):
        make_safe(tmp_path / "L2A" / TILE, product)
        touch(tmp_path / "CLOUDMASKS" / TILE / product / f"{product}_CM001.jp2")
    source = tree(tmp_path)
    scandir = os.scandir
    locked = {f"{FIRST}.SAFE", SECOND}

    def guarded(path: str | Path) -> Any:
        if Path(path).name in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    # A product's own folder costs that part of that product, a folder of the archive costs the run.
    first, second = source.acquisitions(TILE)
    assert (set(first.bands), set(first.masks)) == (set(), {"CM001"})
    assert (set(second.bands), set(second.masks)) == (BANDS, set())
    assert {item.name for item in source.skipped()} == locked
    locked.add(TILE)
    with pytest.raises(LibraryError, match=rf"L2A/{TILE} cannot be read"):
        source.acquisitions(TILE)
    locked.add("L2A")
    with pytest.raises(LibraryError, match="L2A cannot be read"):
        source.tiles()


# A folder of SAFE products


def test_safe_folder_and_zips(tmp_path: Path) -> None:
    make_safe(tmp_path, FIRST)
    make_zip(tmp_path / "downloads", SECOND)
    make_zip(tmp_path / "downloads", OTHER_TILE, suffix=".zip")
    (tmp_path / LEVEL_1C).mkdir()
    touch(tmp_path / "photos.zip")
    source = SafeFolder(str(tmp_path))
    assert source.tiles() == ["31TGJ", "32TPS"]
    first, second = source.acquisitions(TILE)
    assert names([first, second]) == [FIRST, SECOND]
    assert second.bands["B02"].startswith(f"/vsizip/{tmp_path}/downloads/")
    assert names(source.acquisitions(TILE, dt.date(2022, 6, 13))) == [SECOND]
    assert [(item.name, item.tile) for item in source.skipped()] == [(LEVEL_1C, "")]
    assert str(tmp_path) in source.describe()


def test_safe_folder_may_be_one_product(tmp_path: Path) -> None:
    assert names(SafeFolder(make_safe(tmp_path, FIRST)).acquisitions(TILE)) == [FIRST]
    assert names(SafeFolder(make_zip(tmp_path, SECOND)).acquisitions(TILE)) == [SECOND]


def test_safe_folder_reports_corrupt_zips_and_uses_a_second_copy(tmp_path: Path) -> None:
    touch(tmp_path / f"{FIRST}.zip")
    make_zip(tmp_path / "again", FIRST)
    source = open_library(safe=tmp_path)
    (only,) = source.acquisitions(TILE)
    assert set(only.bands) == BANDS
    (tmp_path / "again" / f"{FIRST}.SAFE.zip").unlink()
    source = open_library(safe=tmp_path)
    assert source.acquisitions(TILE) == []
    assert [item.reason for item in source.skipped()] == [Reason.UNREADABLE]


def test_safe_folder_must_exist(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", touch(tmp_path / "file.txt")):
        with pytest.raises(LibraryError, match=path.name):
            SafeFolder(path)


# Opening, and the fake


def test_open_library_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    with pytest.raises(LibraryError, match="SEN2CHAIN_HOMEPATH"):
        open_library()
    make_safe(tmp_path / "sen2chain_data" / "data" / "L2A" / TILE, FIRST)
    assert open_library().tiles() == [TILE]
    with pytest.raises(RequestError, match="one of them"):
        open_library(tmp_path, stac=tmp_path)


@pytest.mark.parametrize("form", ["folder", "by tile", "product"])
def test_products_of_a_folder_go_with_indices_and_masks_of_a_library(tmp_path: Path, form: str) -> None:
    home, downloads = tmp_path / "sen2chain_data" / "data", tmp_path / "downloads"
    make_safe(home / "L2A" / TILE, SECOND)
    folder = downloads / TILE if form == "by tile" else downloads
    make_safe(folder, FIRST)
    own = home / "INDICES" / "NDVI" / TILE / str(FIRST)
    own.mkdir(parents=True)
    own.joinpath(f"{FIRST}_NDVI.tif").touch()
    source = open_library(tmp_path, safe=downloads / f"{FIRST}.SAFE" if form == "product" else downloads)
    (found,) = source.acquisitions(TILE)
    assert source.tiles() == [TILE]
    assert (str(found.id), "B04" in found.bands, list(found.indices)) == (FIRST, True, ["NDVI"])
    assert "downloads" in source.describe()


def test_a_library_to_write_into_may_be_new_where_products_come_from_elsewhere(tmp_path: Path) -> None:
    make_safe(tmp_path / "downloads", FIRST)
    source = open_target(tmp_path / "new", safe=tmp_path / "downloads")
    assert [str(found.id) for found in source.acquisitions(TILE)] == [FIRST]
    assert source.paths.indices == tmp_path / "new" / "INDICES"
    assert not (tmp_path / "new").exists()
    with pytest.raises(LibraryError, match="new is not a folder"):
        open_target(tmp_path / "new")
    with pytest.raises(RequestError, match=r"A MemorySource takes no rasters; pass the folder of a library"):
        open_target(MemorySource([]))  # type: ignore[arg-type]


def test_memory_source_behaves_like_the_others(tmp_path: Path) -> None:
    for product in (SECOND, FIRST):
        make_safe(tmp_path / TILE, product)
    real: Source = SafeFolder(tmp_path)
    fake: Source = MemorySource(reversed(real.acquisitions(TILE)))
    assert fake.tiles() == real.tiles()
    for first, last in ((None, None), (dt.date(2022, 6, 17), None), (None, dt.date(2022, 6, 12))):
        assert fake.acquisitions(TILE, first, last) == real.acquisitions(TILE, first, last)
    assert fake.acquisitions("31TGJ") == []
    assert list(fake.skipped()) == list(real.skipped()) == []
    assert "2 products" in fake.describe()


# Metadata


def metadata_xml(baseline: str | None, offsets: dict[str, str] | None = None, quantification: str = "10000") -> str:
    items = "".join(
        f'<BOA_ADD_OFFSET band_id="{band}">{text}</BOA_ADD_OFFSET>' for band, text in (offsets or {}).items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">'
        + (f"<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>" if baseline else "")
        + f"<BOA_QUANTIFICATION_VALUE unit='none'>{quantification}</BOA_QUANTIFICATION_VALUE>"
        f"<BOA_ADD_OFFSET_VALUES_LIST>{items}</BOA_ADD_OFFSET_VALUES_LIST>"
        "</n1:Level-2A_User_Product>"
    )


def all_offsets(value: str) -> dict[str, str]:
    return {str(band): value for band in range(13)}


TWICE = metadata_xml("04.00", all_offsets("-1000")).replace("</n1", "{}</n1")
"""Where a second value of something may stand."""


def write_xml(tmp_path: Path, text: str) -> str:
    file = tmp_path / "MTD_MSIL2A.xml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("product", "offset", "cloud_cover"),
    [
        ("S2A_MSIL2A_20150826T185436_N0212_R070_T11SLT_20210412T023147", 0, 3.113053),
        ("S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500", 0, 0.447807),
        ("S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126", -1000, 98.944211),
        ("S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825", -1000, 59.050727),
        ("S2B_MSIL2A_20241115T100159_N0511_R122_T32TQM_20241115T125542", -1000, 0.324627),
    ],
)
def test_metadata_of_real_products(
    shared_data: Path, tmp_path: Path, product: str, offset: int, cloud_cover: float
) -> None:
    file = shared_data / "safe_metadata" / f"{product}.SAFE" / "MTD_MSIL2A.xml"
    read = read_metadata(str(file))
    assert read.quantification == 10000
    assert len(read.offsets) == 13
    assert set(read.offsets.values()) == {offset}
    assert read.cloud_cover == cloud_cover

    text = file.read_text(encoding="utf-8")
    edited = read_metadata(write_xml(tmp_path, text.replace(">-1000</BOA_ADD_OFFSET>", ">-7000</BOA_ADD_OFFSET>")))
    assert set(edited.offsets.values()) == {-7000 if offset else 0}


def test_each_band_has_its_own_offset(tmp_path: Path) -> None:
    read = read_metadata(write_xml(tmp_path, metadata_xml("05.00", {str(band): str(-band) for band in range(13)})))
    expected = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
    assert read.offsets == {band: -i for i, band in enumerate(expected)}
    assert read.cloud_cover is None


def test_metadata_of_the_first_baselines(tmp_path: Path) -> None:
    text = metadata_xml("02.06").replace("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")
    assert read_metadata(write_xml(tmp_path, text)).quantification == 10000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (metadata_xml("04.00"), "baseline 04.00 and no BOA_ADD_OFFSET"),
        (metadata_xml("05.10"), "baseline 05.10 and no BOA_ADD_OFFSET"),
        (metadata_xml(None), "no PROCESSING_BASELINE"),
        (metadata_xml("04.00", {"3": "-1000"}), "no BOA_ADD_OFFSET for B02, B03"),
        (metadata_xml("04.00", all_offsets("none")), "BOA_ADD_OFFSET 'none'"),
        (metadata_xml("04.00", all_offsets("nan")), "BOA_ADD_OFFSET 'nan'"),
        (metadata_xml("04.00", all_offsets("-1000") | {"13": "0"}), "band_id '13'"),
        (metadata_xml("02.14", quantification="0"), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("02.14", quantification="0.5"), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("02.14", quantification="1000001"), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("02.14", quantification="1e300"), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("02.14", quantification="10_000"), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("04.00", all_offsets("10001")), "BOA_ADD_OFFSET '10001'"),
        (metadata_xml("04.00", all_offsets("-1e300")), "BOA_ADD_OFFSET '-1e300'"),
        (TWICE.format("<BOA_QUANTIFICATION_VALUE>5000</BOA_QUANTIFICATION_VALUE>"), "'10000' and '5000'"),
        (TWICE.format("<L2A_BOA_QUANTIFICATION_VALUE>5000</L2A_BOA_QUANTIFICATION_VALUE>"), "'10000' and '5000'"),
        (TWICE.format("<BOA_ADD_OFFSET band_id='3'>0</BOA_ADD_OFFSET>"), "for B04, -1000 and 0"),
        (TWICE.format("<PROCESSING_BASELINE>02.14</PROCESSING_BASELINE>"), "'04.00' and '02.14'"),
        (TWICE.format(f"<PRODUCT_URI>{FIRST}</PRODUCT_URI><PRODUCT_URI>{SECOND}</PRODUCT_URI>"), "PRODUCT_URI"),
        (
            metadata_xml("02.14").replace("<BOA_ADD", f"<PRODUCT_URI>{FIRST}</PRODUCT_URI><BOA_ADD"),
            "unclear whether the DNs have offsets",
        ),
        (metadata_xml("02.14", quantification=""), "BOA_QUANTIFICATION_VALUE"),
        (metadata_xml("02.14")[:-9], "cannot be read"),
        ("", "it is empty"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_trusted(tmp_path: Path, text: str, message: str) -> None:
    location = write_xml(tmp_path, text)
    with pytest.raises(UnreadableError, match=message) as error:
        read_metadata(location)
    assert location in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "doctype", ["<!DOCTYPE a>", '<!DOCTYPE a SYSTEM "file:///etc/passwd">', '<!DOCTYPE a [<!ENTITY b "c">]>']
)
def test_metadata_with_a_document_type_are_refused_in_every_encoding(
    tmp_path: Path, doctype: str, encoding: str
) -> None:
    declared = "utf-16" if encoding.startswith("utf-16") else encoding
    head, text = f'<?xml version="1.0" encoding="{declared}"?>', metadata_xml("02.14").partition("?>")[2]
    file = tmp_path / "MTD_MSIL2A.xml"
    file.write_bytes((head + text).encode(encoding))
    assert read_metadata(str(file)).quantification == 10000
    file.write_bytes((head + doctype + text).encode(encoding))
    with pytest.raises(UnreadableError, match="DOCTYPE"):
        read_metadata(str(file))


def test_a_baseline_against_the_name_decides_on_no_offsets(tmp_path: Path) -> None:
    said, named = "02.14", ProductId.parse(FIRST)
    for text, product in ((metadata_xml(said), named), (metadata_xml("99.99"), named)):
        with pytest.raises(
            UnreadableError, match=r"unclear whether the DNs have offsets: .* the product is called S2A_"
        ):
            read_metadata(write_xml(tmp_path, text), product)
    with_offsets = write_xml(tmp_path, metadata_xml(said, all_offsets("-1000")))
    assert read_metadata(with_offsets, named).offsets["B04"] == -1000


def test_metadata_may_say_the_same_twice(tmp_path: Path) -> None:
    again = (
        "<BOA_QUANTIFICATION_VALUE>1e4</BOA_QUANTIFICATION_VALUE><BOA_ADD_OFFSET band_id='3'>-1000.0</BOA_ADD_OFFSET>"
    )
    assert read_metadata(write_xml(tmp_path, TWICE.format(again))).quantification == 10000


@pytest.mark.parametrize(
    ("old", "new", "agrees"),
    [
        ("20220612T160000", "20230101T000000", True),
        ("R022", "R023", False),
        ("S2A", "S2B", False),
        ("20220612T100601", "20220612T100602", False),
        ("N0400", "N0500", False),
        ("32TPS", "32TPT", False),
    ],
)
def test_metadata_of_another_product(tmp_path: Path, old: str, new: str, *, agrees: bool) -> None:
    said = f"<PRODUCT_URI>{FIRST.replace(old, new)}.SAFE</PRODUCT_URI>"
    location = write_xml(tmp_path, TWICE.format(said))
    if agrees:
        assert read_metadata(location, ProductId.parse(FIRST)).quantification == 10000
        return
    with pytest.raises(UnreadableError, match="another product") as error:
        read_metadata(location, ProductId.parse(FIRST))
    assert FIRST in str(error.value)
    assert FIRST.replace(old, new) in str(error.value)


def test_real_metadata_are_those_of_their_folders(shared_data: Path) -> None:
    files = list(shared_data.rglob("MTD_MSIL2A.xml"))
    assert len(files) == 18
    for file in files:
        read_metadata(str(file), ProductId.parse(file.parent.name))


def test_metadata_that_are_too_large(tmp_path: Path) -> None:
    text = metadata_xml("02.14")
    long = tmp_path / "long.xml"
    with long.open("wb") as file:
        file.write(text.encode())
        file.truncate(65 << 20)
    with pytest.raises(UnreadableError, match="more than 64 MB"):
        read_metadata(str(long))
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened, opened.open("MTD_MSIL2A.xml", "w") as inside:
        for _ in range(65):
            inside.write(bytes(1 << 20))
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(UnreadableError, match="more than 64 MB"):
        read_metadata(f"/vsizip/{archive}/MTD_MSIL2A.xml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_devices_keep_nobody_waiting(tmp_path: Path) -> None:
    safe = make_safe(tmp_path / "a", FIRST)
    places = [
        safe / "MTD_MSIL2A.xml",
        tmp_path / "b" / "MTD_MSIL2A.xml",
        tmp_path / "b.zip",
        tmp_path / f"{SECOND}.zip",
    ]
    places += [tmp_path / f"{FIRST}.zip", tmp_path / f"{OTHER_TILE}.SAFE", tmp_path / "c.SAFE.part"]
    (tmp_path / "b").mkdir()
    for place in places:
        place.unlink(missing_ok=True)
        os.mkfifo(place)
    source = SafeFolder(tmp_path)
    (only,) = source.acquisitions(TILE)
    assert set(only.bands) == BANDS
    assert len(source.skipped()) == 4
    with pytest.raises(UnreadableError, match="a pipe, a socket or a device"):
        only.details.radiometry()
    with pytest.raises(UnreadableError, match="a pipe, a socket or a device"):
        read_metadata("/dev/zero")
    config = tmp_path / "library" / "config"
    config.mkdir(parents=True)
    os.mkfifo(config / "config.cfg")
    (tmp_path / "library" / "L2A").mkdir()
    assert paths(tmp_path / "library").l2a == tmp_path / "library" / "L2A"  # a pipe is not a configuration


def test_a_configuration_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "config" / "config.cfg"
    touch(file).write_text("# \n" * (1 << 19), encoding="utf-8")
    with pytest.raises(LibraryError, match="more than 1 MB"):
        paths(tmp_path)


def test_metadata_that_is_not_there(tmp_path: Path) -> None:
    archive = make_zip(tmp_path, FIRST)
    for location in (
        str(tmp_path / "absent.xml"),
        str(tmp_path),
        f"/vsizip/{archive}/absent.xml",
        f"/vsizip/{tmp_path}/absent.zip/MTD_MSIL2A.xml",
    ):
        with pytest.raises(UnreadableError, match="cannot be read"):
            read_metadata(location)


# Real archives


def test_real_archives(bolzano: Path) -> None:
    source = open_library(bolzano)
    assert source.tiles() == [TILE]
    plain = source.acquisitions(TILE)
    assert len(plain) == 12
    assert all(set(acquisition.bands) == {"B02", "B03", "B04", "B08", "SCL"} for acquisition in plain)
    legacy = open_library(bolzano / "legacy").acquisitions(TILE)
    assert names(legacy) == names(plain)
    assert all(set(acquisition.indices) == {"NDVI", "BIGR"} for acquisition in legacy)
    mask = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
    assert all(set(acquisition.masked) == {("NDVI", mask), ("BIGR", mask)} for acquisition in legacy)
    assert all(set(acquisition.masks) == {mask} for acquisition in legacy)
    assert source.skipped() == []


def test_products_made_with_sen2cor_at_home_have_offsets_only_where_they_say_so(tmp_path: Path) -> None:
    assert set(read_metadata(write_xml(tmp_path, metadata_xml("99.99"))).offsets.values()) == {0.0}
    with_list = read_metadata(write_xml(tmp_path, metadata_xml("99.99", all_offsets("-1000"))))
    assert set(with_list.offsets.values()) == {-1000.0}


def test_a_zip_file_under_another_name_is_opened_once_to_find_its_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f"<a><PRODUCT_URI>{FIRST}.SAFE</PRODUCT_URI></a>"
    with zipfile.ZipFile(tmp_path / "download-17.zip", "w") as zipped:
        for root in ("a", "b"):
            zipped.writestr(f"{root}/MTD_MSIL2A.xml", content)
    opened: list[str] = []

    def noted(path: str) -> Any:
        opened.append(path)
        return open_regular(path)

    for module in (product_search, file_contents):
        monkeypatch.setattr(module, "open_regular", noted)
    ((found, _),) = product_search.find_products(tmp_path / "download-17.zip")
    assert str(found) == FIRST
    assert opened == [str(tmp_path / "download-17.zip")]
