"""What an archive holds, on small trees whose truth is known."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import statistics
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_trees import ALL, CM004, TILE, index, mask, name, put, safe, tree_size
from sen2chain import INDICES
from sen2chain.archive import LibrarySource, MemorySource, open_library, product_facts
from sen2chain.archive.archive_files import FileKind, archive_files
from sen2chain.errors import RequestError
from sen2chain.inspection import ArchiveInfo, read_contents
from sen2chain.inspection.date_gaps import find_gaps
from sen2chain.masks import Mask
from sen2chain.produce import ProductRequest, plan_products, produce_files
from sen2chain.raster_tags import FROM_LOSSY, RasterTags

if TYPE_CHECKING:
    from sen2chain.inspection.holdings import AvailabilityCount, Holdings

TWELVE = set(INDICES)
SHORT = {"CM001", "CM002-B11", "CM003-PRB1-ITER5", CM004, "OCM"}


def look(library: Path | None = None, safe: Path | None = None) -> ArchiveInfo:
    source = open_library(library, safe)
    assert not isinstance(source, MemorySource)
    return read_contents(source, quiet=True)  # type: ignore[arg-type]  # the two sources of files


def of(found: Holdings, what: str) -> AvailabilityCount:
    (one,) = [count for count in (*found.indices, *found.masks) if count.name == what]
    return one


def tagged(product: str, of: str = "NDVI", mask: str = "", **more: Any) -> bytes:
    """Bytes of a small GeoTIFF with tags as sen2chain writes them."""
    definition = more.pop("definition", INDICES[of].definition if of in INDICES else "")
    tags = RasterTags(product, of, definition, mask, **more)
    with rasterio.MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "int16"}
        with memory.open(transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5e6), **profile) as raster:
            raster.update_tags(**tags.items())
            raster.write(np.zeros((1, 16, 16), np.int16))
        return bytes(memory.getbuffer())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven products: whole; without SWIR; reprocessed; without SAFE; with broken metadata; without metadata; empty."""
    root = tmp_path_factory.mktemp("contents")
    l2a = root / "L2A" / TILE
    safe(l2a, name("20220605"), cover=10)
    safe(l2a, name("20220615"), [band for band in ALL if band not in {"B11", "B12"}], cover=20)
    safe(l2a, name("20220625", "0300"), cover=40)
    safe(l2a, name("20220625", "0509"), cover=None)
    safe(l2a, name("20220705"), text="<broken")
    (safe(l2a, name("20220715")) / "MTD_MSIL2A.xml").unlink()
    (l2a / f"{name('20220725')}.SAFE").mkdir()
    for product in (name("20220605"), name("20220615"), name("20210605")):  # the last has no SAFE folder
        index(root, product)
        index(root, product, mask=CM004)
        index(root, product, mask="CM003-PRB1-ITER0")
        mask(root, product)
    mask(root, name("20220615"), "CM003-PRB1-ITER0")
    put(root / "CLOUDMASKS" / TILE / name("20210605") / "MSK_CLDPRB_20m.jp2", b"q" * 7)
    put(root / "CLOUDMASKS" / TILE / name("20210605") / f"{name('20210605')}_QL.jpg", b"l" * 5)
    put(root / "INDICES" / "NDVI" / TILE / name("20220605") / ".0123456789abcdef-01234567-1.tmp", b"t" * 3)
    put(root / "L2A" / "readme.txt", b"r" * 11)
    put(root / "L2A" / TILE / "S2A_MSIL2A_20220101T101559_N0400_R022_T32TPS_20220101T160000.SAFE.tar", b"z" * 13)
    return root


def test_products_dates_bands_and_cloud_cover(library: Path) -> None:
    total = look(library).total
    days = [20210605, 20220605, 20220615, 20220625, 20220625, 20220705, 20220715]
    # An empty SAFE folder is a product without anything; the source decides that, and so does the count.
    assert [int(f"{entry.id.sensing:%Y%m%d}") for entry in total.products][: len(days)] == days
    assert len(total.dates) == len(set(days)) + 1
    assert total.platforms == {"S2A": 8}
    assert total.orbits == {22: 8}
    assert total.baselines == {"03.00": 1, "04.00": 6, "05.09": 1}
    assert total.with_safe == 7
    assert total.bands == {**dict.fromkeys(ALL, 6), "B11": 5, "B12": 5, "CLDPRB": 7}
    cover = total.cloud_cover
    assert cover == {"min": 10, "quartile_1": 15, "median": 20, "quartile_3": 30, "max": 40, "unknown": 5}


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(0, 3))
def test_quartiles_are_numpys(covers: list[float], unknown: int) -> None:
    from sen2chain.inspection.holdings import ProductEntry, holdings_of  # noqa: PLC0415
    from sen2chain.products import ProductId  # noqa: PLC0415

    product = ProductId.parse(name("20220605"))
    entries = [ProductEntry(product, True, cover, (), {}, {}) for cover in [*covers, *[None] * unknown]]  # noqa: FBT003
    found = holdings_of("", entries, ()).cloud_cover
    assert found.pop("unknown") == unknown
    figures = list(found.values())
    if covers:
        assert figures == pytest.approx(list(np.percentile(covers, [0, 25, 50, 75, 100])))
    else:
        assert figures == [None] * 5


def test_what_is_stored_can_be_made_or_is_not_possible(library: Path) -> None:
    total = look(library).total
    assert {count.name for count in total.indices} == TWELVE
    assert {count.name for count in total.masks} == SHORT | {"CM003-PRB1-ITER0"}
    ndvi = of(total, "NDVI")
    # Bands and metadata: 0605, 0615, both 0625. Lossy alone: the one without a SAFE folder.
    assert (ndvi.stored, ndvi.makeable, ndvi.only_lossy, ndvi.only_masked, ndvi.impossible) == (0, 4, 1, 0, 3)
    assert ndvi.lossy == 3
    assert ndvi.reasons == {
        "the SAFE folder is not there": 1,
        "the metadata cannot be used": 1,
        "the metadata MTD_MSIL2A.xml are missing": 1,
        "the SAFE folder gives no B04 and B08": 1,
    }
    nbr = of(total, "NBR")
    assert (nbr.makeable, nbr.only_lossy, nbr.impossible) == (3, 0, 5)
    assert nbr.reasons["B12 is missing"] == 1
    assert nbr.unstored == ()  # stored for none of them
    assert set(ndvi.unstored) == {str(e.id) for e in total.products if not e.stored_indices}
    assert ndvi.unstored_makeable == 2
    cm004 = of(total, CM004)
    assert (cm004.stored, cm004.makeable, cm004.impossible) == (3, 4, 1)  # SCL needs no metadata
    assert (of(total, "CM001").makeable, of(total, "CM002-B11").makeable) == (7, 3)
    endless = of(total, "CM003-PRB1-ITER0")
    assert endless.stored == 0
    assert endless.distrusted == {"was made wrongly by the original program": 1}


def test_bytes_are_those_of_all_files_by_kind(library: Path) -> None:
    info = look(library)
    total = info.total
    assert total.size == tree_size(library)
    kinds = total.bytes
    assert kinds["L2A products"][1] == tree_size(*(library / "L2A" / TILE).glob("*.SAFE"))
    assert {kind: found for kind, found in kinds.items() if kind != "L2A products"} == {
        "index rasters, lossy": (3, 3000),
        "masked copies": (6, 6000),
        "masks": (4, 40),
        "quality rasters of deleted products": (1, 7),
        "quicklooks": (1, 5),
        "products that are not read": (1, 13),
        "incomplete files": (1, 3),
        "other files": (1, 11),
    }
    assert info.tiles[TILE].size == total.size - 11  # one file lies outside of all tiles
    assert sum(count for count, _ in kinds.values()) == sum(len(files) for _, _, files in os.walk(library))


def test_masked_copies_are_redundant_where_raster_and_mask_are_there(library: Path) -> None:
    redundant = look(library).total.redundant
    assert {Path(file.path).name for file in redundant} == {
        # The wrong mask is stored for one product alone; elsewhere it could not be made again.
        *(f"{name(day)}_NDVI_{CM004}.jp2" for day in ("20220605", "20220615", "20210605")),
        f"{name('20220615')}_NDVI_CM003-PRB1-ITER0.jp2",
    }
    assert sum(file.size for file in redundant) == 4000


@pytest.mark.parametrize(
    ("unmasked", "masked", "stored", "bands", "redundant"),
    [
        (".jp2", ".jp2", CM004, (), True),
        (".jp2", ".jp2", "", ("SCL",), True),
        (".jp2", ".jp2", "", (), False),
        (".jp2", ".tif", CM004, ALL, False),
        (".tif", ".tif", CM004, (), True),
        ("", ".jp2", CM004, ALL, False),
    ],
)
def test_a_redundant_copy_has_its_raster_in_the_same_format(
    tmp_path: Path, unmasked: str, masked: str, stored: str, bands: tuple[str, ...], *, redundant: bool
) -> None:
    product = name("20220605")
    safe(tmp_path / "L2A" / TILE, product, bands)
    copy = index(tmp_path, product, mask=CM004, suffix=masked)
    put(copy.with_name(f"{copy.name}.aux.xml"), b"a" * 6)
    if unmasked:
        index(tmp_path, product, suffix=unmasked)
    if stored:
        mask(tmp_path, product, stored)
    total = look(tmp_path).total
    assert [file.path for file in total.redundant] == [str(copy)] * redundant
    assert total.redundant_bytes == 1006 * redundant
    assert total.bytes["masked copies"] == (2, 1006)


@pytest.mark.parametrize(
    ("more", "redundant"),
    [({}, True), ({"precision": 0.001}, False), ({"definition": "(B08-B04)/(B08+B04+1)"}, False)],
)
def test_a_redundant_copy_was_made_as_its_raster(tmp_path: Path, more: dict[str, Any], *, redundant: bool) -> None:
    product = name("20220605")
    safe(tmp_path / "L2A" / TILE, product)
    index(tmp_path, product, suffix=".tif", content=tagged(product))
    index(tmp_path, product, mask=CM004, suffix=".tif", content=tagged(product, mask=CM004, **more))
    assert len(look(tmp_path).total.redundant) == redundant


def test_our_rasters_are_judged_by_their_tags(tmp_path: Path) -> None:
    days = ["20220605", "20220615", "20220625", "20220705", "20220715"]
    exact, converted, rounded, other, foreign = map(name, days)
    for product in map(name, days):
        safe(tmp_path / "L2A" / TILE, product)
    index(tmp_path, exact, suffix=".tif", content=tagged(exact))
    index(tmp_path, converted, suffix=".tif", content=tagged(converted, source=FROM_LOSSY))
    index(tmp_path, rounded, suffix=".tif", content=tagged(rounded, precision=0.005))
    index(tmp_path, other, suffix=".tif", content=tagged(other, definition="(B08-B04)/(B08+B04+0.5)"))
    index(tmp_path, foreign, suffix=".tif")
    info = look(tmp_path)
    ndvi = of(info.total, "NDVI")
    assert (ndvi.stored, ndvi.lossy, ndvi.makeable, ndvi.impossible) == (2, 2, 3, 0)
    assert sum(ndvi.distrusted.values()) == 1
    assert info.total.bytes["index rasters, lossy"][0] == 2
    assert "another formula" in " ".join(str(info).split())
    # A user's index is known by the formula in its tags; without tags it is unknown what it takes to make it.
    index(tmp_path, exact, "OWN", suffix=".tif", content=tagged(exact, "OWN", definition="B12/B11"))
    index(tmp_path, other, "ODD", suffix=".tif")
    total = look(tmp_path).total
    assert (of(total, "OWN").stored, of(total, "OWN").makeable) == (1, 4)
    assert (of(total, "ODD").stored, of(total, "ODD").makeable) == (1, 0)
    assert of(total, "ODD").reasons == {"its formula is not known": 4}


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_availability_follows_from_bands_and_metadata(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The oracle reads the bands from the formulas as text."""
    root = tmp_path_factory.mktemp("drawn")
    truth: dict[str, Counter[str]] = {which: Counter() for which in TWELVE | SHORT}
    inputs = {which: {band for band in ALL if band in INDICES[which].formula} for which in TWELVE}
    inputs |= {"CM001": {"CLDPRB"}, "CM002-B11": {"CLDPRB", "B11"}, "CM003-PRB1-ITER5": {"CLDPRB"}, CM004: {"SCL"}}
    inputs["OCM"] = {"B03", "B04", "B8A"}
    for day in range(data.draw(st.integers(1, 4))):
        product = name(f"202206{5 + day:02d}")
        bands = data.draw(st.sets(st.sampled_from(ALL), min_size=1))
        has_metadata = data.draw(st.booleans())
        stored = data.draw(st.sets(st.sampled_from(["NDVI", "NBR", CM004])))
        made = safe(root / "L2A" / TILE, product, bands)
        if not has_metadata:
            (made / "MTD_MSIL2A.xml").unlink()
        for which in stored:
            index(root, product, which, suffix=".tif") if which in TWELVE else mask(root, product)
        for which, needed in inputs.items():
            needs_metadata = which in TWELVE or which == "CM002-B11"
            possible = needed <= bands and (has_metadata or not needs_metadata)
            truth[which]["stored" if which in stored else "makeable" if possible else "impossible"] += 1
    total = look(root).total
    found = {c.name: Counter({"stored": c.stored, "makeable": c.makeable, "impossible": c.impossible})
             for c in (*total.indices, *total.masks)}  # fmt: skip
    assert found == truth


def test_several_baselines_and_what_has_no_safe_folder(library: Path) -> None:
    total = look(library).total
    (found,) = total.reprocessed
    assert [str(product) for product in found.products] == [name("20220625", "0509"), name("20220625", "0300")]
    assert list(map(str, total.indices_without_safe)) == [name("20210605")]
    assert list(map(str, total.masks_without_safe)) == [name("20210605")]


# ----------------------------------------------------------------------------------------------------------------- gaps


def days_of(*steps: int) -> list[dt.date]:
    dates = [dt.date(2021, 1, 1)]
    for step in steps:
        dates.append(dates[-1] + dt.timedelta(days=step))
    return dates


@pytest.mark.parametrize(
    ("steps", "gaps"),
    [
        ((5, 5, 5, 5), []),
        ((5, 5, 10, 5), []),  # one overpass is lacking, as often where one satellite flies
        ((5, 5, 15, 5), [15]),
        ((10, 10, 20, 10), []),  # twice the usual step
        ((10, 10, 30, 10), [30]),
        ((5, 90), []),  # too few dates to say what is usual
        ((2, 3, 2, 3, 10, 2), []),  # three satellites: each passes within ten days
        ((2, 3, 2, 3, 12, 2), [12]),
        ((5, 5, 5, 40, 5, 60, 5), [40, 60]),
    ],
)
def test_gaps(steps: tuple[int, ...], gaps: list[int]) -> None:
    found = find_gaps(TILE, {22: days_of(*steps)}, 10)
    assert [gap.days for gap in found] == gaps
    assert all(gap.missing >= 1 for gap in found)


@given(st.dictionaries(st.integers(1, 3), st.lists(st.integers(0, 400), max_size=25), max_size=3), st.integers(1, 20))
def test_gaps_are_those_of_a_plain_search(offsets: dict[int, list[int]], cycle: int) -> None:
    start = dt.date(2021, 1, 1)
    dates = {orbit: [start + dt.timedelta(days=d) for d in days] for orbit, days in offsets.items()}
    truth = set()
    for orbit, days in offsets.items():
        once = sorted(set(days))
        steps = [once[i + 1] - once[i] for i in range(len(once) - 1)]
        if len(steps) >= 3:
            usual = statistics.median(steps)
            truth |= {(orbit, once[i]) for i, s in enumerate(steps) if s > cycle and s > 2.5 * usual}
    assert {(gap.orbit, (gap.after - start).days) for gap in find_gaps(TILE, dates, cycle)} == truth


def test_gaps_of_an_archive_are_per_tile_and_orbit(tmp_path: Path) -> None:
    for tile, orbit, steps in ((TILE, "022", (5, 5, 5, 50)), (TILE, "065", (5, 5, 5)), ("32TPT", "022", (5, 5, 30, 5))):
        for date in days_of(*steps):
            safe(tmp_path / "L2A" / tile, name(f"{date:%Y%m%d}", orbit=orbit, tile=tile), ("B04",))
    info = look(tmp_path)
    assert [(gap.tile, gap.orbit, gap.days) for gap in info.total.gaps] == [(TILE, 22, 50), ("32TPT", 22, 30)]
    assert [len(found.gaps) for found in info.tiles.values()] == [1, 1]
    assert "32TPS, orbit 22" in " ".join(str(info).split())


# ---------------------------------------------------------------------------------------------------- kinds of archives


@pytest.mark.parametrize("form", ["library", "safe", "both", "one", "zip"])
def test_a_library_a_folder_of_downloads_or_both(tmp_path: Path, form: str) -> None:
    library, downloads = tmp_path / "library", tmp_path / "downloads"
    place = library / "L2A" / TILE if form == "library" else downloads
    made = safe(place, name("20220605"))
    index(library, name("20220605"))
    put(downloads / "holiday.jpg", b"h" * 1000)
    inside = sum(len(files) for _, _, files in os.walk(made))
    size = tree_size(made)
    if form == "zip":
        with zipfile.ZipFile(downloads / f"{made.name}.zip", "w") as archive:
            for root, _, files in os.walk(made):
                for file in files:
                    archive.write(Path(root) / file, Path(root, file).relative_to(downloads))
                    (Path(root) / file).unlink()
        inside, size = 1, (downloads / f"{made.name}.zip").stat().st_size
    info = look(
        library if form in {"library", "both"} else None,
        {"library": None, "one": made}.get(form, downloads),
    )
    total = info.total
    assert [str(entry.id) for entry in total.products] == [name("20220605")]
    assert of(total, "NBR").makeable == 1
    assert total.cloud_cover["median"] == 12.5
    expected = {"L2A products": (inside, size)}
    if form in {"library", "both"}:
        expected["index rasters, lossy"] = (1, 1000)
    assert total.bytes == expected  # other files in a folder of downloads are not the archive's
    assert json.loads(json.dumps(info.to_dict()))["products"] == 1


def test_the_bytes_of_odd_trees_are_those_of_a_plain_walk(tmp_path: Path) -> None:
    l2a = tmp_path / "L2A"
    safe(l2a, name("20220605"))  # outside of the folder of its tile
    safe(l2a / TILE / f"{name('20220615')}.SAFE", name("20220615"))  # unpacked into itself
    renamed = safe(l2a / "odd", name("20220625"))
    renamed.rename(l2a / "odd" / "download (1)")
    safe(l2a / TILE, name("20220705"))
    safe(l2a / "copies", name("20220705"), ("B04",))  # a second copy with fewer rasters
    put(l2a / TILE / "S2A_MSIL1C_20220705T101559_N0400_R022_T32TPS_20220705T160000.SAFE" / "MTD_MSIL1C.xml", b"x" * 9)
    put(l2a / TILE / ".hidden" / "file", b"x" * 4)
    put(tmp_path / "INDICES" / "stray.txt", b"x" * 3)
    put(tmp_path / "INDICES" / "NDVI" / TILE / "a folder" / os.fsdecode(b"caf\xe9.tif"), b"x" * 2)
    put(tmp_path / "QUICKLOOKS" / TILE / name("20220705") / f"{name('20220705')}_QL.jpg", b"x")
    info = look(tmp_path)
    assert {f"{entry.id.sensing:%Y%m%d}" for entry in info.total.products} == {
        "20220605", "20220615", "20220625", "20220705",
    }  # fmt: skip
    assert info.total.size == tree_size(tmp_path)
    assert info.total.bytes["quicklooks"] == (1, 1)
    assert info.total.bytes["products that are not read"][1] == 9 + tree_size(l2a / "copies")
    json.dumps(info.to_dict())
    str(info).encode()


def test_links_are_followed_once(tmp_path: Path) -> None:
    disk, library = tmp_path / "disk", tmp_path / "library"
    safe(disk / TILE, name("20220605"))
    (library / "L2A").mkdir(parents=True)
    (library / "L2A" / TILE).symlink_to(disk / TILE)
    (disk / TILE / "again").symlink_to(disk / TILE)
    (library / "L2A" / "round").symlink_to(library)
    safe(library / "L2A" / "32TPT", name("20220605", tile="32TPT"))
    (library / "L2A" / "nowhere").symlink_to(tmp_path / "nowhere")
    info = look(library)
    assert len(info.total.products) == 2
    assert info.total.size == sum(tree_size(*place.rglob("*.SAFE")) for place in (disk, library / "L2A" / "32TPT"))
    assert [text.partition(" ")[0] for text in info.unread] == [str(library / "L2A" / "nowhere")]
    assert "could not be looked at" in str(info)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = safe(tmp_path / "L2A" / TILE, name("20220605"))
    put(made / "AUX_DATA" / "file", b"x" * 1000)
    size, scandir = tree_size(made), os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("AUX_DATA"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    info = look(tmp_path)
    assert info.unread == (f"{made / 'AUX_DATA'} (Permission denied)",)
    assert info.total.size == size - 1000
    assert f"1 folder or file could not be looked at, so sizes leave it out: {made / 'AUX_DATA'}" in " ".join(
        info.text(width=1000).split()
    )


def test_an_archive_without_products(tmp_path: Path) -> None:
    (tmp_path / "L2A").mkdir()
    info = look(tmp_path)
    assert " ".join(str(info).split()) == f"Sen2Chain library {tmp_path}: no product was found."
    assert info.to_dict()["first"] is None
    assert info.to_frame().empty
    assert info.to_frame("product").empty
    assert "none" in info._repr_html_()
    put(tmp_path / "L2A" / "notes.txt", b"12345")
    assert "other files      1  5 bytes" in str(look(tmp_path))


def test_a_thousand_unusable_folders_are_one_sentence(tmp_path: Path) -> None:
    for count in range(1000):
        (tmp_path / "L2A" / TILE / f"S2A_USER_PRD_MSIL2A_{count:04d}.SAFE").mkdir(parents=True)
    info = look(tmp_path)
    assert len(info.skipped) == 1000
    lines = str(info).split("\n")
    assert len(lines) < 15
    said = " ".join(str(info).split())
    assert "no product was found" in said
    assert "! 1,000 files or folders are not read (the product's name is not of the form used since December" in said
    assert said.endswith("... and 998 more.")
    assert len(info.text(verbose=True).split("\n")) > 1000


def test_other_sources_are_refused() -> None:
    with pytest.raises(RequestError, match="Only a library or a folder of SAFE products can be described"):
        read_contents(MemorySource([]))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- the text


def test_the_short_form_is_the_first_sentence(library: Path) -> None:
    info = look(library)
    assert repr(info).startswith("<ArchiveInfo: Sen2Chain library ")
    assert len(repr(info)) < 400
    assert repr(info)[14:-1] == " ".join(info.text(width=999).splitlines()[0].split())


@pytest.mark.parametrize("tiles", [1, 60])
def test_the_text_fits_into_a_hundred_columns(tmp_path: Path, tiles: int) -> None:
    for count in range(tiles):
        tile = f"32T{'CDEFGHJKLM'[count % 10]}{'PQRSTU'[count // 10]}"
        for number, day in enumerate(days_of(5, 5, 60, 5)):
            product = name(f"{day:%Y%m%d}", "0509", ("S2A", "S2B", "S2C")[number % 3], "108", tile)
            safe(tmp_path / "L2A" / tile, product, ("B04", "B08", "SCL"))
    info = look(tmp_path)
    short, long = info.text(), info.text(verbose=True)
    assert max(map(len, [*short.split("\n"), *long.split("\n")])) <= 100
    assert short.startswith("Sen2Chain library")
    for text in short, long:
        assert f"{5 * tiles:,} products on 5 dates from 2021-01-01 to 2021-03-17" in " ".join(text.split())
    assert len(short.split("\n")) <= 65
    shown = [sum(f"\n {tile} " in text for tile in info.tiles) for text in (short, long)]
    assert shown == [min(tiles, 20), tiles]
    assert ("the first 20 of 60; --verbose shows all" in short) == (tiles == 60)
    assert "the first" not in long


def test_one_product_is_told_in_the_singular(tmp_path: Path) -> None:
    safe(tmp_path, name("20220605"), ("B04", "B08"), cover=0)
    text = " ".join(look(safe=tmp_path).text(width=1000).split())
    assert "1 product on 2022-06-05 in tile 32TPS" in text
    assert "Bands: B04 B08 in the product." in text
    assert "Cloud cover: 0 %." in text
    assert "of 1 product " in text
    assert "are missing in the product, so" in text
    assert "1 products" not in text


def test_sentences_say_what_to_look_at(library: Path) -> None:
    text = " ".join(look(library).text(width=10000).split())
    for sentence in (
        "! The metadata of 1 product cannot be used, so no index can be made from its bands: The metadata",
        "! 1 SAFE folder gives no bands, or not all:",
        "! NDVI: stored for some products, not for 5 others, for 2 of which sen2chain produce can make it.",
        "! There are index rasters of 1 product and masks of 1 product whose SAFE folder is not there.",
        "! 1 stored raster of CM003-PRB1-ITER0 is not used: it was made wrongly by the original program.",
        "! 1 acquisition is there in several baselines, of which an extraction prefers the newest: 05.09 and 03.00",
        "! 4 masked copies (4.0 kB) are redundant:",
        "! 1 incomplete file (3 bytes) of a run that is going on or was interrupted;",
        (
            f"B11 and B12 are missing in 1 of 8 products ({name('20220615')}), "
            "so NDWIGAO, MNDWI, NBR, NDBI and CM002-B11 cannot be made."
        ),
    ):
        assert sentence in text


def test_rasters_without_any_product_are_one_sentence(tmp_path: Path) -> None:
    for day in ("20220605", "20220615", "20220625", "20220705"):
        index(tmp_path, name(day))
        mask(tmp_path, name(day))
    text = " ".join(look(tmp_path).text(width=10000).split())
    assert text.count("SAFE") == 1
    assert (
        "! There are index rasters of 4 products and masks of 4 products, and none of their SAFE folders, so nothing "
        "can be made from bands. Where the products lie in another folder, name it, too: --safe DIR."
    ) in text
    assert "Bands: none" not in text
    assert "cannot be made" not in text


def test_products_of_one_cause_are_named_on_request(tmp_path: Path) -> None:
    for day in range(1, 6):
        safe(tmp_path, name(f"2022060{day}"), ("B04", "B08"), cover=0)
    safe(tmp_path, name("20220615"), cover=0)
    text = " ".join(look(safe=tmp_path).text(width=10000).split())
    assert "missing in 5 of 6 products, so" in text
    text = " ".join(look(safe=tmp_path).text(width=10000, verbose=True).split())
    assert f"missing in 5 of 6 products ({', '.join(name(f'2022060{d}') for d in (1, 2, 3))} and 2 more), so" in text


def test_plain_values_and_frames_agree_with_the_result(library: Path) -> None:
    info = look(library)
    told = json.loads(json.dumps(info.to_dict()))
    assert told["products"] == len(info.total.products) == 8
    (tile,) = told["tiles"]
    assert tile["tile"] == TILE
    assert tile["indices"] == told["indices"]
    assert sum(kind["bytes"] for kind in told["bytes"].values()) == info.total.size
    assert told["redundant_masked_copies"]["bytes"] == 4000
    assert set(told["redundant_masked_copies"]["paths"]) == {file.path for file in info.total.redundant}
    lacking = next(item for item in told["not_possible"] if item["reason"] == "B11 and B12 are missing in")
    assert (lacking["products"], lacking["first_products"]) == (1, [name("20220615")])
    assert told["metadata_faults"].keys() == {name("20220705")}
    assert [found["products"] for found in told["several_baselines"]] == [
        [name("20220625", b) for b in ("0509", "0300")]
    ]
    assert {item["reason"] for item in told["skipped"]} == {"unreadable"}
    frame = info.to_frame()
    assert frame[["tile", "products", "dates", "redundant_bytes"]].to_numpy().tolist() == [[TILE, 8, 7, 4000]]
    products = info.to_frame("product").set_index("product")
    assert products.loc[name("20220605"), "indices"] == "NDVI"
    assert products.loc[name("20220605"), "masks"] == CM004
    assert products.loc[name("20220615"), "bands"] == " ".join(band for band in ALL if band not in {"B11", "B12"})
    assert products["has_safe"].sum() == info.total.with_safe
    with pytest.raises(RequestError):
        info.to_frame("day")  # type: ignore[arg-type]
    html = info._repr_html_()
    assert TILE in html
    assert "NDVI" in html


# -------------------------------------------------------------------------------------------------------- what it costs


def test_the_second_time_nothing_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    library = tmp_path / "library"
    for day in ("20220605", "20220615"):
        safe(library / "L2A" / TILE, name(day))
        index(library, name(day), suffix=".tif", content=tagged(name(day)))
        mask(library, name(day))
    first = look(library)
    before = {path: path.stat() for path in library.rglob("*")}

    def fail(*_: object) -> None:
        raise AssertionError("a file is read again")

    monkeypatch.setattr(product_facts, "read_metadata", fail)
    put(library / "CLOUDMASKS" / TILE / name("20220605") / "new.txt")
    again = look(library)
    assert again.total.products == first.total.products
    assert of(again.total, "NDVI").stored == 2
    (library / "CLOUDMASKS" / TILE / name("20220605") / "new.txt").unlink()
    assert {path: (s.st_size, s.st_mtime_ns) for path, s in before.items() if path.is_file()} == {
        path: (path.stat().st_size, path.stat().st_mtime_ns) for path in library.rglob("*") if path.is_file()
    }  # nothing was written into the archive


def test_no_raster_is_opened_by_gdal(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a raster is opened")

    monkeypatch.setattr(rasterio, "open", fail)
    assert look(library).total.size > 0


def test_a_cache_that_cannot_be_written_changes_nothing(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = str(look(library))
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(put(tmp_path / "file")))
    assert str(look(library)) == truth
    monkeypatch.delenv("SEN2CHAIN_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "new"))
    assert str(look(library)) == truth


# -------------------------------------------------------------------------------------------------------- real archives


def test_the_real_legacy_archive(bolzano: Path, tmp_path: Path) -> None:
    (tmp_path / "L2A").symlink_to(bolzano / "L2A")
    for part in ("INDICES", "CLOUDMASKS"):
        (tmp_path / part).symlink_to(bolzano / "legacy" / part)
    info = look(tmp_path)
    total = info.total
    assert total.size == tree_size(bolzano / "L2A", bolzano / "legacy")
    assert (
        total.bytes["masked copies"][1]
        == total.redundant_bytes
        == sum(path.stat().st_size for path in (bolzano / "legacy").rglob("*_CM004-*jp2*") if "INDICES" in path.parts)
    )
    assert (of(total, "NDVI").lossy, of(total, "BIGR").lossy, of(total, "EVI").lossy) == (12, 12, 0)
    assert {count.name for count in total.indices if count.makeable == 12} == {
        "NDVI", "NDWIMCF", "EVI", "BIGR", "BIRNIR", "BIBG",
    }  # fmt: skip
    assert of(total, CM004).stored == 12
    assert list(total.bands.values()) == [12] * 5
    assert total.cloud_cover["unknown"] == 0
    assert info.skipped == []


def test_the_demo_archive(few_fields: Any) -> None:
    total = look(few_fields.library).total
    truth = {path.name.removesuffix(".SAFE") for path in few_fields.library.rglob("*.SAFE")}
    assert {str(entry.id) for entry in total.products} >= truth
    assert of(total, "NDVI").makeable + of(total, "NDVI").stored == len(truth)
    assert total.size == tree_size(*(few_fields.library / "data" / part for part in ("L2A", "INDICES", "CLOUDMASKS")))


def test_kinds_of_files_follow_from_what_the_source_found(library: Path) -> None:
    source = open_library(library)
    assert isinstance(source, LibrarySource)
    every = [found for tile in source.tiles() for found in source.acquisitions(tile)]
    found = archive_files(source, every)
    places = {place for a in every for places in a.indices.values() for place in places}
    assert {file.location for file in found.files if file.kind is FileKind.INDEX} == places
    assert {file.location for file in found.files if file.kind is FileKind.MASK} == {
        place for a in every for place in a.masks.values()
    }


def test_what_was_produced_is_stored(few_fields: Any, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(few_fields.library / "data" / "L2A", library / "L2A")
    source = open_library(library)
    assert isinstance(source, LibrarySource)
    request = ProductRequest(indices=(INDICES["NDVI"],), masks=(Mask.parse("CM004"),), masked=True)
    produce_files(plan_products(request, source), source, quiet=True)
    info = look(library)
    total, every = info.total, len(info.total.products)
    assert (of(total, "NDVI").stored, of(total, CM004).stored) == (every, every)
    assert (of(total, "NDVI").lossy, of(total, "BIGR").makeable) == (0, every)
    assert total.bytes["index rasters, lossless"][0] == total.bytes["masks"][0] == every
    assert len(total.redundant) == total.bytes["masked copies"][0] == every
    assert total.size == tree_size(*(library / part for part in ("L2A", "INDICES", "CLOUDMASKS")))
    assert "incomplete files" not in total.bytes
    # A raster that is cut off serves no extraction, so it does not count as stored.
    cut = next((library / "INDICES").rglob("*_NDVI.tif"))
    cut.write_bytes(cut.read_bytes()[:-1000])
    again = of(look(library).total, "NDVI")
    assert (again.stored, again.makeable) == (every - 1, 1)
