"""The form of stored rasters, from their headers: what cannot serve is passed over, and made again."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from sen2chain import TimeSeries, demo
from sen2chain.archive import open_target, product_facts
from sen2chain.indices import INDICES
from sen2chain.masks import Mask
from sen2chain.parallel import apart
from sen2chain.plan import resolve_sources
from sen2chain.produce import Production, ProductRequest, plan_products, produce_files
from sen2chain.raster_form import RasterForm
from sen2chain.rasters import Header, counting, read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.archive import LibrarySource

NDVI, CM004 = INDICES["NDVI"], Mask.parse("CM004-CSH1-CMP1-CHP1-TCI1-ITER1")


def rewrite(path: Path, *, tagged: bool = True, **changed: Any) -> None:
    """Write a raster anew with another form."""

    def work() -> None:
        with rasterio.open(path) as file:
            profile, tags, values = {**file.profile, "driver": "GTiff", **changed}, file.tags(), file.read(1)
        path.unlink()
        with rasterio.open(path, "w", **profile) as file:
            for band in range(1, profile["count"] + 1):
                file.write(values.astype(profile["dtype"]), band)
            if tagged:
                file.update_tags(**tags)

    apart(work)
    os.utime(path, (time.time() - 60,) * 2)


def cut(path: Path) -> None:
    """Leave the header of a file and half of its pixels."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.75)])
    os.utime(path, (time.time() - 60,) * 2)


def empty(path: Path) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


DEGREES = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.01, 0, 3, 0, -0.01, 44)}
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (cut, "is cut off"),
    "empty": (empty, "is damaged (it is not a TIFF file)"),
    "type": (lambda path: rewrite(path, dtype="float32", nodata=None), "holds float32 values instead of int16"),
    "bands": (lambda path: rewrite(path, count=2), "has 2 bands instead of one"),
    "degrees": (lambda path: rewrite(path, **DEGREES), "is in EPSG:4326, and its tile in EPSG:32631"),
    "zone": (lambda path: rewrite(path, crs="EPSG:32632"), "is in EPSG:32632, and its tile in EPSG:32631"),
    "pixels": (
        lambda path: rewrite(path, transform=rasterio.Affine(20, 0, 7e5, 0, -20, 49e5)),
        "has pixels of 20 x 20 m instead of 10 m",
    ),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """One product with NDVI and CM004 beside it."""
    scene = demo.Scene(
        tiles=("31TGJ",), size=90, parcels=4, overpasses=demo.season(1), bands=("B02", "B03", "B04", "B08", "SCL")
    )
    archive = demo.build(tmp_path_factory.mktemp("drawn"), scene)
    for kind in ("INDICES", "CLOUDMASKS"):
        shutil.rmtree(archive.library / "data" / kind, ignore_errors=True)
    produce(open_target(archive.library, None))
    return archive


@pytest.fixture
def library(drawn: demo.DemoArchive, tmp_path: Path) -> Path:
    return shutil.copytree(drawn.library, tmp_path / "library")


def produce(source: LibrarySource) -> Production:
    return produce_files(plan_products(ProductRequest((NDVI,), (CM004,)), source), source, quiet=True)


def rows(drawn: demo.DemoArchive, library: Path) -> TimeSeries:
    return TimeSeries(drawn.layer, indices="NDVI", masks=CM004.name, library=library, quiet=True)


def stored(library: Path, kind: str) -> Path:
    (path,) = (library / "data" / kind).rglob("*.tif")
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_an_index_raster_that_cannot_serve_costs_no_row_and_is_made_again(
    fault: str, drawn: demo.DemoArchive, library: Path
) -> None:
    spoil, why = FAULTS[fault]
    good = rows(drawn, library)
    assert set(good.report["value_source"]) == {"index raster"}
    path = stored(library, "INDICES")
    spoil(path)
    series = rows(drawn, library)
    assert set(series.report["value_source"]) == {"bands"}
    assert (
        series.report["error"].str.contains(f"NDVI is computed from bands: the stored raster {why}.", regex=False).all()
    )
    assert series.data["NDVI"].drop(columns=["filename"]).equals(good.data["NDVI"].drop(columns=["filename"]))
    again = {file.name: (str(file.outcome), file.detail) for file in produce(open_target(library, None)).made}
    assert again["NDVI"] == ("made again", f"{path.name} is made again: it {why}.")
    assert again[CM004.name][0] == "kept"
    assert set(rows(drawn, library).report["value_source"]) == {"index raster"}


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in {"type", "pixels"}])
def test_a_mask_that_cannot_serve_is_computed(fault: str, drawn: demo.DemoArchive, library: Path) -> None:
    spoil, why = FAULTS[fault]
    good = rows(drawn, library).data["NDVI"]
    spoil(stored(library, "CLOUDMASKS"))
    series = rows(drawn, library)
    assert set(series.report["mask_source"]) == {"computed from SCL"}
    assert series.report["error"].str.contains(f"{CM004.name} is computed: the stored raster {why}.", regex=False).all()
    assert series.data["NDVI"]["mean"].equals(good["mean"])
    again = {file.name: file.detail for file in produce(open_target(library, None)).made}
    assert again[CM004.name].endswith(f"is made again: it {why}.")


def test_without_bands_the_reason_names_the_stored_raster(drawn: demo.DemoArchive, library: Path) -> None:
    cut(stored(library, "INDICES"))
    shutil.rmtree(library / "data" / "L2A")
    report = rows(drawn, library).report
    assert report["error"].str.contains("and the stored raster is cut off").all()


def test_complete_files_of_other_programs_are_not_replaced(library: Path) -> None:
    path = stored(library, "INDICES")
    rewrite(path, tagged=False, dtype="float32", nodata=None)
    before = path.read_bytes()
    made = {file.name: (str(file.outcome), file.detail) for file in produce(open_target(library, None)).made}
    why = f"{path.name} is kept, since another program wrote it, and it holds float32 values instead of int16; --force"
    assert made["NDVI"][0] == "refused"
    assert made["NDVI"][1].startswith(why)
    assert path.read_bytes() == before


def test_reasons_name_the_raster_that_is_wrong(drawn: demo.DemoArchive, library: Path) -> None:
    path = stored(library, "INDICES")
    with rasterio.open(path) as file:
        transform = file.transform
    rewrite(path, transform=transform @ rasterio.Affine.translation(30, 0))
    report = rows(drawn, library).report
    assert report["error"].str.contains(path.name, regex=False).any()
    shutil.copy(stored(drawn.library, "INDICES"), path)
    content = bytearray(path.read_bytes())
    begin = len(content) // 2
    content[begin : begin + 2000] = bytes(2000)  # inside of the only block
    path.write_bytes(content)
    report = rows(drawn, library).report
    assert report["error"].str.contains(f"{path} cannot be", regex=False).any()


def test_index_rasters_of_other_programs_are_counted_once(drawn: demo.DemoArchive, library: Path) -> None:
    rewrite(stored(library, "INDICES"), tagged=False)
    notes = rows(drawn, library).estimate().notes
    said = "1 index raster without tags of sen2chain will be read: another program wrote it, and only the name says"
    assert [note.startswith(said) for note in notes] == [True]
    planned = plan_products(ProductRequest((NDVI,), (CM004,)), open_target(library, None))
    assert "1 of the files that are kept was written by another program, and has no tags." in planned.sentences()


def test_a_raster_of_another_product_is_made_again(library: Path) -> None:
    path = stored(library, "INDICES")

    def retag() -> None:
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.update_tags(SEN2CHAIN_PRODUCT="S2A_another")

    apart(retag)
    made = {file.name: (str(file.outcome), file.detail) for file in produce(open_target(library, None)).made}
    why = f"{path.name} is made again: it was made from another product, S2A_another."
    assert made["NDVI"] == ("made again", why)


def test_a_second_planning_opens_no_file(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(stored(library, "INDICES"), count=2)
    cut(stored(library, "CLOUDMASKS"))
    seen = []

    def read(path: str) -> Header:
        seen.append(path)
        return read_header(path)

    monkeypatch.setattr(product_facts, "read_header", read)

    def look() -> list[str]:
        source = open_target(library, None)
        planned = plan_products(ProductRequest((NDVI,), (CM004,)), source)
        (acquisition,) = source.acquisitions("31TGJ")
        resolve_sources(acquisition, NDVI, CM004)
        return [file.detail for file in planned.files]

    first = look()
    assert len(seen) == 2
    with counting() as counts:
        assert look() == first
    assert len(seen) == 2
    assert not counts.opens


def test_pictures_and_masks_of_jpeg_2000_that_are_cut_off_are_made_again(
    drawn: demo.DemoArchive, tmp_path: Path
) -> None:
    request = ProductRequest((NDVI,), (CM004,), mask_format="jp2", quicklooks=True)

    def made() -> dict[str, str]:
        source = open_target(tmp_path, drawn.library / "data" / "L2A")
        return {file.path.name: f"{file.outcome} {file.detail}" for file in
                produce_files(plan_products(request, source), source, quiet=True).made}  # fmt: skip

    made()
    assert {text.strip() for text in made().values()} == {"kept"}
    mask = next(tmp_path.rglob("*.jp2"))
    picture = next(path for path in tmp_path.rglob("*NDVI*") if path.suffix in {".jpg", ".png"})
    for path in (mask, picture):
        cut(path)
    again = made()
    for path in (mask, picture):
        assert again[path.name] == f"made again {path.name} is made again: it is cut off."


# ---------------------------------------------------------------------------------------------------------- the header


@pytest.mark.parametrize("driver", ["GTiff", "COG"])
@pytest.mark.parametrize(
    ("dtype", "crs", "options"),
    [
        ("uint8", "EPSG:32740", {}),
        ("int16", "EPSG:32740", {"BIGTIFF": "YES"}),
        ("uint16", "EPSG:4326", {}),
        ("float32", "EPSG:3857", {}),
        ("float64", None, {}),
        ("int32", "ESRI:102001", {}),
        ("uint8", "EPSG:32601", {"NBITS": "1"}),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_the_form_is_what_gdal_reads(
    driver: str, dtype: str, crs: str | None, options: dict[str, str], count: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.tif"
    profile = {"width": 70, "height": 50, "count": count, "dtype": dtype, "crs": crs, "driver": driver, **options}

    def work() -> tuple[str, int, tuple[float, float], int]:
        with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 300_000, 0, -20, 5e6)) as file:
            file.write(np.ones((count, 50, 70), dtype))
        with rasterio.open(path) as file:
            code = file.crs.to_epsg() if file.crs else None
            return file.dtypes[0], file.count, file.res, code or 0

    known = apart(work)
    form = read_header(str(path)).form
    assert (form.dtype, form.bands, form.pixel, form.epsg) == known
    assert form.damage == ""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if driver == "GTiff" else whole[: len(whole) // 2])
    assert read_header(str(path)).form.damage == "is cut off"


@given(
    st.builds(
        RasterForm, st.text(max_size=20), st.text(max_size=9), st.integers(0, 9),
        st.none() | st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)), st.integers(0, 40_000),
    )
)  # fmt: skip
def test_a_form_is_read_as_it_was_kept(form: RasterForm) -> None:
    assert RasterForm.read(form.items()) == form


def test_forms_that_are_not_known_count_as_right() -> None:
    assert RasterForm().why_not("31TGJ", "int16", 10) == ""
    assert RasterForm(epsg=4326).why_not("", "int16", 10) == ""
    assert RasterForm(pixel=(20.0, 20.0)).why_not("31TGJ", "uint8", 10, coarse=True) == ""
    assert RasterForm(pixel=(15.0, 15.0)).why_not("31TGJ", "uint8", 10, coarse=True) != ""
    for bad in ({"bands": "x"}, {"pixel": "1"}, {"pixel": "nan 1"}, {"epsg": "-1"}, {"damage": "x" * 2000}):
        assert RasterForm.read(bad) is None
