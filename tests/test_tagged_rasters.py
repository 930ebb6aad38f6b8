"""Which stored rasters are used for an index or a mask, by what their tags say, and what the report says of it."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from sen2chain import Library, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import product_facts
from sen2chain.archive.product_facts import ProductFacts
from sen2chain.errors import UnreadableError
from sen2chain.indices import INDICES, Index
from sen2chain.masks import Mask
from sen2chain.parallel import apart
from sen2chain.plan import MaskKind, ValueKind, resolve_sources
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.raster_tags import FROM_LOSSY, FROM_MODEL, FROM_PRODUCT, RULES, RasterTags
from sen2chain.rasters import Header, read_header, read_header_texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PRODUCT = ProductId.parse("S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000")
NDVI = INDICES["NDVI"]
SAVI = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
RATIO = Index("RATIO", "B08/B04", scale=100)
CM004 = Mask.parse("CM004")
BANDS = {
    "B03": "b03.jp2",
    "B04": "b04.jp2",
    "B08": "b08.jp2",
    "SCL": "scl.jp2",
    "CLDPRB": "cldprb.jp2",
    "B11": "b11.jp2",
}
OFFSETS = dict.fromkeys(BANDS, -1000.0)


@dataclass(frozen=True, slots=True)
class Tagged(KnownDetails):
    """Details that know the tags of rasters."""

    by_location: Mapping[str, RasterTags] = field(default_factory=dict)

    def tags(self, location: str) -> Any:
        return self.by_location.get(location)


def tags_of(index: Index | str, **changed: Any) -> RasterTags:
    name, definition = (index, "") if isinstance(index, str) else (index.name, index.definition)
    return RasterTags(**{"product": str(PRODUCT), "name": name, "definition": definition, **changed})


def acquisition(tags: Mapping[str, RasterTags], *, bands: bool = True, **parts: Any) -> Acquisition:
    details = Tagged(Radiometry(10000.0, OFFSETS) if bands else None, by_location=tags)
    return Acquisition(PRODUCT, details, BANDS if bands else {"SCL": "scl.jp2"}, **parts)


def chosen(index: Index, tags: RasterTags | None, prefer: Any = None, *, bands: bool = True) -> Any:
    name = index.name
    found = acquisition({} if tags is None else {"x.tif": tags}, bands=bands, indices={name: ("x.tif",)})
    return resolve_sources(found, index, CM004, prefer)


# ------------------------------------------------------------------------------------------------------------- indices


@pytest.mark.parametrize("index", [NDVI, SAVI, RATIO, Index.parse("GNDVI")], ids=lambda index: index.name)
def test_a_raster_of_the_definition_asked_for_is_read_before_the_bands(index: Index) -> None:
    output = chosen(index, tags_of(index))
    assert (output.value.kind, output.value.rasters, output.note) == (ValueKind.LOSSLESS, {"value": "x.tif"}, "")
    assert output.value.same_as == {band: BANDS.get(band, "") for band in index.bands}
    assert chosen(index, tags_of(index), bands=False).value.kind is ValueKind.LOSSLESS


@pytest.mark.parametrize(
    "definition",
    ["1.5 * (B08 - B04) / (B08 + B04 + 0.5)", "1.50*((B08-B04))/(B08+B04+.5)", "1.5*(B08-\n B04)/(B08+B04+5e-1)"],
)
def test_spaces_parentheses_and_the_spelling_of_numbers_make_no_other_formula(definition: str) -> None:
    assert chosen(SAVI, tags_of(SAVI, definition=definition)).value.kind is ValueKind.LOSSLESS


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ("1.5*(B08-B04)/(B08+B04+0.6)", "another formula, 1.5*(B08-B04)/(B08+B04+0.6)"),
        ("1.5*(B08-B04)/(0.5+B08+B04)", "another formula"),  # other steps may round to other values
        ("1.5*(B08-B04)/(B08+B04+0.5) scale=1000", "another formula"),
        ("", "another formula"),
        ("__import__('os')", "another formula"),
        ("(" * 90_000, "another formula"),
        ("B08\x1b[2J", "another formula, B08\\x1b"),
    ],
)
def test_another_formula_is_computed_and_the_note_says_why(definition: str, says: str) -> None:
    output = chosen(SAVI, tags_of(SAVI, definition=definition))
    assert (output.value.kind, output.reason) == (ValueKind.BANDS, None)
    assert output.note.startswith("SAVI is computed from bands: the stored raster was made by ")
    assert says in output.note
    assert output.note.isprintable()
    assert len(output.note) < 200
    without = chosen(SAVI, tags_of(SAVI, definition=definition), bands=False)
    assert without.value is None
    assert says in without.detail


@pytest.mark.parametrize("prefer", [None, "stored", "masked"])
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rules": RULES - 1}, "was made by rules of another version"),
        ({"rules": RULES + 1}, "was made by rules of another version"),
        ({"name": "NDVIX"}, "says that it holds NDVIX of"),
        ({"product": str(PRODUCT).replace("N0400", "N0500")}, "N0500"),
        ({"mask": CM004.name}, f"says that it is masked by {CM004.name}"),
        ({"source": "a crystal ball"}, "in a way that this version does not know (a crystal ball)"),
        ({"source": FROM_MODEL}, "in a way that this version does not know"),
    ],
)
def test_a_raster_that_is_something_else_is_not_used(changed: dict[str, Any], says: str, prefer: Any) -> None:
    output = chosen(NDVI, tags_of(NDVI, **changed), prefer)
    assert output.value.kind is ValueKind.BANDS
    assert says in output.note


@pytest.mark.parametrize(
    "changed", [{"offsets": {"B04": -1000.0, "B08": 0.0}}, {"quantification": 1000.0}, {"offsets": {"B04": -500.0}}]
)
def test_a_raster_of_other_offsets_than_the_metadata_list_is_not_used(changed: dict[str, Any]) -> None:
    made = {"offsets": {"B04": -1000.0, "B08": -1000.0}, "quantification": 10000.0}
    assert chosen(NDVI, tags_of(NDVI, **made)).value.kind == ValueKind.LOSSLESS
    output = chosen(NDVI, tags_of(NDVI, **{**made, **changed}))
    assert output.value.kind == ValueKind.BANDS
    assert "other offsets" in output.note
    cm002 = Mask.parse("CM002")
    for extra, kind in (({}, MaskKind.STORED), (changed, MaskKind.COMPUTED)):
        tags = tags_of(cm002.name, **{**made, "offsets": {"B11": -1000.0}, **extra})
        found = acquisition({"m.tif": tags}, masks={cm002.name: "m.tif"})
        clouds = resolve_sources(found, NDVI, cm002).clouds
        assert clouds is not None
        assert clouds.kind == (kind if "B11" in tags.offsets else MaskKind.COMPUTED)


def test_metadata_that_were_mended_after_production_are_noticed_by_extraction(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    library = shutil.copytree(archive.library, tmp_path / "sen2chain_data")

    def rows() -> Any:
        series = TimeSeries(archive.layer, ["BIRNIR"], library=library, cm_version="none", quiet=True, multiproc=1)
        return series.data["BIRNIR"], str(series.report)

    Library(library).produce(indices=["BIRNIR"], quiet=True)
    produced, _ = rows()
    for path in library.rglob("MTD_MSIL2A.xml"):
        path.write_text(re.sub(r"(<BOA_QUANTIFICATION_VALUE[^>]*>)10000", r"\g<1>5000", path.read_text()))
    mended, _ = rows()
    shutil.rmtree(library / "data" / "INDICES")
    bands, _ = rows()
    assert not produced.equals(bands)
    assert mended.equals(bands)


def test_without_tags_the_twelve_are_trusted_and_no_other_index() -> None:
    assert chosen(NDVI, None).value.kind is ValueKind.LOSSLESS
    for index in (SAVI, RATIO, Index.parse("GNDVI")):
        output = chosen(index, None)
        assert output.value.kind is ValueKind.BANDS
        assert "does not say by which formula it was made" in output.note


@pytest.mark.parametrize("changed", [{"source": FROM_LOSSY}, {"precision": 0.001}])
def test_lossy_and_rounded_rasters_come_after_the_bands(changed: dict[str, Any]) -> None:
    tags = tags_of(NDVI, **changed)
    assert chosen(NDVI, tags).value.kind is ValueKind.BANDS
    assert ("rounded to 0.001" in chosen(NDVI, tags).note) == ("precision" in changed)
    assert chosen(NDVI, tags, bands=False).value.kind is ValueKind.LEGACY
    stored = chosen(NDVI, tags, "stored")
    assert (stored.value.kind, stored.value.rasters, stored.note) == (ValueKind.LEGACY, {"value": "x.tif"}, "")
    # Before a masked copy, too, and before the lossy raster that it may have been made from.
    found = acquisition(
        {"x.tif": tags},
        bands=False,
        indices={"NDVI": ("x.tif", "x.jp2")},
        masked={("NDVI", CM004.name): "m.jp2"},
    )
    value = resolve_sources(found, NDVI, CM004).value
    assert value is not None
    assert value.rasters == {"value": "x.tif"}
    assert value.same_as == ({"value": "x.jp2"} if "source" in changed else {})


def test_masked_rasters_are_judged_by_their_tags_too() -> None:
    masked = {("SAVI", CM004.name): "m.tif"}
    good = tags_of(SAVI, mask=CM004.name)
    for tags, kind in (
        (good, ValueKind.MASKED),
        (replace(good, mask="CM001"), ValueKind.BANDS),
        (None, ValueKind.BANDS),
    ):
        found = acquisition({} if tags is None else {"m.tif": tags}, masked=masked)
        output = resolve_sources(found, SAVI, CM004, "masked")
        assert output.value is not None
        assert output.value.kind is kind
        assert bool(output.note) == (kind is ValueKind.BANDS)
        assert not resolve_sources(found, SAVI, CM004).note  # it was not to come first
    both = acquisition(
        {"m.tif": good, "x.tif": tags_of(SAVI, definition="B08")}, masked=masked, indices={"SAVI": ("x.tif",)}
    )
    value = resolve_sources(both, SAVI, CM004, "masked").value
    assert value is not None
    assert value.rasters == {"value": "m.tif"}  # another formula tells nothing of what the mask removed


# --------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("name", ["CM003-PRB1-ITER0", "CM002", "CM001", "CM004", "SCL-3-8-ITER2"])
def test_masks_that_we_wrote_are_trusted_whatever_their_family(name: str) -> None:
    mask = Mask.parse(name)

    def source(tags: RasterTags | None) -> Any:
        found = acquisition({} if tags is None else {"m.tif": tags}, masks={mask.name: "m.tif"})
        return resolve_sources(found, NDVI, mask).clouds

    ours = source(tags_of(mask.name))
    assert (ours.kind, ours.suffix) == (MaskKind.STORED, mask.name)
    assert ours.same_as.keys() == {*mask.inputs, "mask"}
    wrong_by_others = name in {"CM003-PRB1-ITER0", "CM002"}
    assert source(None).kind is (MaskKind.COMPUTED if wrong_by_others else MaskKind.STORED)
    assert source(None).same_as == {}
    for changed in ({"rules": RULES + 1}, {"name": "CM001X"}, {"product": "another"}):
        assert source(replace(tags_of(mask.name), **changed)).kind is MaskKind.COMPUTED


def test_a_mask_of_the_model_is_read_under_its_version() -> None:
    found = acquisition(
        {"m.tif": tags_of("OCM_v1_8_1", source=FROM_MODEL, rules=0)}, masks={"OCM_v1_8_1": "m.tif", "OCM_v1_2": "o.tif"}
    )
    clouds = resolve_sources(found, NDVI, Mask.parse("OCM")).clouds
    assert clouds is not None
    assert (clouds.rasters, clouds.suffix) == ({"mask": "m.tif"}, "OCM_v1_8_1")


# ------------------------------------------------------------------------------------------- tags in the files' headers


TAGS = RasterTags(
    str(PRODUCT), "NDVI", "(B08-B04)/(B08+B04)", offsets={"B04": -1000.0}, inputs="é <&> \" '", more={"a": "b\nc"}
)


def written(path: Path, tags: Mapping[str, str], driver: str, **options: Any) -> None:
    """Write a raster with tags as any program would."""

    def write() -> None:
        image = np.arange(600 * 600, dtype=np.uint8).reshape(1, 600, 600)
        profile = {"width": 600, "height": 600, "count": 1, "dtype": "uint8", "crs": "EPSG:32631"}
        profile["transform"] = rasterio.Affine(10, 0, 600_000, 0, -10, 4_900_020)
        with rasterio.open(path.with_suffix(".part"), "w", driver="GTiff", **profile) as file:
            file.write(image)
            file.update_tags(**tags)
            file.update_tags(ns="OTHER", SEN2CHAIN_NAME="not this")
            file.update_tags(1, SEN2CHAIN_NAME="nor this")
        copy(path.with_suffix(".part"), path, driver=driver, **options)

    apart(write)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("COG", {"compress": "ZSTD"}),
        ("COG", {"bigtiff": "YES"}),
        ("GTiff", {"ENDIANNESS": "BIG"}),
        ("JP2OpenJPEG", {"WRITE_METADATA": "YES"}),
    ],
)
def test_tags_are_read_from_the_header_as_gdal_reads_them(tmp_path: Path, driver: str, options: Any) -> None:
    path = tmp_path / ("x.jp2" if "JP2" in driver else "x.tif")
    written(path, TAGS.items(), driver, **options)
    (tmp_path / "x.jp2.aux.xml").unlink(missing_ok=True)
    found = read_header_texts(str(path))
    assert {name: text for name, text in found.items() if name.startswith("SEN2CHAIN_")} == TAGS.items()
    assert RasterTags.read(found) == TAGS

    def by_gdal() -> dict[str, str]:
        with rasterio.open(path) as file:
            return dict(file.tags())

    assert {k: v for k, v in apart(by_gdal).items() if k.startswith("SEN2CHAIN_")} == TAGS.items()


def test_damaged_headers_have_no_tags_and_raise_one_error(tmp_path: Path) -> None:
    for name, driver in (("x.tif", "COG"), ("x.jp2", "JP2OpenJPEG")):
        path = tmp_path / name
        written(path, TAGS.items(), driver, **({"WRITE_METADATA": "YES"} if name == "x.jp2" else {}))
        whole = path.read_bytes()
        rng = np.random.default_rng(1)
        for _ in range(300):
            bad = bytearray(whole[: int(rng.integers(0, 4000))])
            for at in rng.integers(0, max(len(bad), 1), 3):
                bad[at : at + 1] = rng.bytes(1)
            path.write_bytes(bad)
            try:
                found = read_header_texts(str(path))
            except UnreadableError as error:
                assert str(path) in str(error)  # noqa: PT017  # some of them only
            else:
                assert all(isinstance(text, str) for text in found.values())
        bomb = b'<!DOCTYPE a [<!ENTITY b "cc">]><GDALMetadata><Item name="SEN2CHAIN_NAME">&b;</Item></GDALMetadata>'
        begin = whole.index(b"<GDALM")
        path.write_bytes(whole[:begin] + bomb + whole[begin + len(bomb) :])
        assert read_header_texts(str(path)) == {}
    for odd in (tmp_path, tmp_path / "absent.tif", tmp_path / "nul\0.tif"):
        with pytest.raises(UnreadableError):
            read_header_texts(str(odd))


def test_the_tags_of_a_raster_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tif"
    written(path, TAGS.items(), "COG")
    os.utime(path, (time.time() - 60,) * 2)
    seen = []

    def read(location: str) -> Header:
        seen.append(location)
        return read_header(location)

    monkeypatch.setattr(product_facts, "read_header", read)
    for _ in range(3):
        facts = ProductFacts(tmp_path / "cache")
        assert [facts.tags(str(path), "31TGJ") for _ in range(2)] == [TAGS] * 2
        facts.save()
    assert seen == [str(path)]


# ------------------------------------------------------------------------------------------------------------ in a run


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(size=90, parcels=4, overpasses=demo.season(3), bands=("B04", "B08", "SCL"), tiles=("31TGJ",))
    return demo.build(tmp_path_factory.mktemp("tagged"), scene)


def store(archive: demo.DemoArchive, index: Index, formula: str) -> list[Path]:
    """Put a raster of some values and tags for each product of an archive."""
    paths = []
    for product in archive.products:
        path = archive.library / "data/INDICES" / index.name / product.tile / str(product)
        path.mkdir(parents=True, exist_ok=True)
        path /= f"{product}_{index.name}.tif"
        tags = RasterTags(str(product), index.name, formula)

        def write(path: Path = path, tags: RasterTags = tags, product: ProductId = product) -> None:
            band = next((archive.library / "data/L2A").rglob(f"{product}.SAFE/**/*_B04_10m.jp2"))
            with rasterio.open(band) as file:
                profile = {**file.profile, "driver": "GTiff", "dtype": "int16", "nodata": 32767}
            with rasterio.open(path, "w", **profile) as file:
                file.write(np.full((1, *file.shape), 1234, np.int16))
                file.scales = (1 / index.scale,)
                file.update_tags(**tags.items())

        apart(write)
        paths.append(path)
    return paths


def test_the_report_the_update_and_the_dry_run_say_why_a_raster_is_not_used(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    paths = store(archive, SAVI, "B08")
    why = "SAVI is computed from bands: the stored raster was made by another formula, B08."
    options: dict[str, Any] = {"indices": SAVI, "library": archive.library, "quiet": True, "masks": "CM004"}
    series = TimeSeries(archive.layer, **options)
    frame = series.report
    assert set(frame["value_source"]) == {"bands"}
    assert frame["error"].str.contains(why, regex=False).all()
    assert f"3 products: {why}" in TimeSeries(archive.layer, **options).estimate().notes
    update = TimeSeriesCompil(archive.layer, extraction=tmp_path, **options)
    assert f"3 products: {why}" in update.extract_data(getstat=False).notes
    update.extract_data()
    assert update.report["error"].str.contains(why, regex=False).all()
    for path in paths:
        path.unlink()


def test_an_index_of_another_scale_is_read_with_its_scale(archive: demo.DemoArchive) -> None:
    index = Index("MYRATIO", "B08/B04", scale=100)
    paths = store(archive, index, "B08 / B04 scale=100")
    frame = TimeSeries(archive.layer, indices=index, library=archive.library, quiet=True, masks="none").data["MYRATIO"]
    assert len(frame)
    assert set(frame["mean"]) == {123400.0}
    with rasterio.open(paths[0], "r+") as file:
        file.scales = (1e-4,)
    report = TimeSeries(archive.layer, indices=index, library=archive.library, quiet=True, masks="none").report
    assert report["error"].str.contains("it should hold values times 100").sum() == 1
    for path in paths:
        path.unlink()


# ---------------------------------------------------------------------------------------------------- from run to run


def store_exact(archive: demo.DemoArchive) -> list[Path]:
    """Put rasters of NDVI with the tags of exact ones; their values do not matter here."""
    return store(archive, NDVI, NDVI.definition)


def store_masks(archive: demo.DemoArchive) -> list[Path]:
    """Put a tagged raster of CM004 for each product, all clear."""
    paths = []
    for product in archive.products:
        path = archive.library / "data/CLOUDMASKS" / product.tile / str(product) / f"{product}_{CM004.name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(path: Path = path, product: ProductId = product) -> None:
            scl = next((archive.library / "data/L2A").rglob(f"{product}.SAFE/**/*_SCL_20m.jp2"))
            with rasterio.open(scl) as file:
                profile = {**file.profile, "driver": "GTiff", "dtype": "uint8", "nodata": None}
            with rasterio.open(path, "w", **profile) as file:
                file.write(np.zeros((1, *file.shape), np.uint8))
                file.update_tags(**RasterTags(str(product), CM004.name).items())

        apart(write)
        paths.append(path)
    return paths


@pytest.fixture
def update(archive: demo.DemoArchive, tmp_path: Path) -> Any:
    """Return what a run would extract, and extract it."""

    def run(**options: Any) -> tuple[int, list[str]]:
        def series() -> TimeSeriesCompil:
            asked = {"indices": "NDVI", "masks": "CM004", "library": archive.library, "quiet": True, **options}
            return TimeSeriesCompil(archive.layer, extraction=tmp_path / "extraction", **asked)

        looked = series().extract_data(getstat=False)
        series().extract_data()
        return looked.asked, looked.notes

    return run


def old(paths: list[Path], seconds: float = 60) -> None:
    for path in paths:
        os.utime(path, (time.time() - seconds,) * 2)


def test_produced_rasters_make_no_rows_old_and_a_changed_band_still_does(
    archive: demo.DemoArchive, update: Any
) -> None:
    assert update()[0] == 3
    old(made := [*store_exact(archive), *store_masks(archive)])
    assert update() == (0, [])
    band = next((archive.library / "data/L2A").rglob("*_B04_10m.jp2"))
    content = band.read_bytes()
    band.write_bytes(content + b"\0")
    asked, notes = update()
    assert asked == 1
    assert "files have changed (B04)" in notes[0]
    band.write_bytes(content)
    update()
    for path in made:
        path.unlink()


def test_rows_from_a_produced_raster_stay_when_it_is_removed_and_are_made_again_when_it_changes(
    archive: demo.DemoArchive, update: Any
) -> None:
    old(made := [*store_exact(archive), *store_masks(archive)])
    assert update()[0] == 3
    kept = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    assert update() == (0, [])
    for path, content in zip(made, kept, strict=True):
        path.write_bytes(content)
    old(made, 50)
    assert update() == (0, [])
    with rasterio.open(made[0], "r+") as file:
        file.write(np.full((1, *file.shape), 4321, np.int16))
    old(made[:1], 40)
    asked, notes = update()
    assert asked == 1
    assert "files have changed (index raster)" in notes[0]
    for path in made:
        path.unlink()


def test_a_lossy_raster_that_was_converted_is_the_same_and_an_exact_one_is_better(
    archive: demo.DemoArchive, update: Any
) -> None:
    made = store_exact(archive)
    legacy = [path.with_suffix(".jp2") for path in made]
    for path, lossy in zip(made, legacy, strict=True):

        def write(path: Path = path, lossy: Path = lossy) -> None:
            copy(path, lossy, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")

        apart(write)
        path.rename(path.with_suffix(".away"))
    old(legacy)
    assert update(prefer="stored")[0] == 3  # from the lossy JP2
    for path in made:
        path.with_suffix(".away").rename(path)
        with rasterio.open(path, "r+") as file:
            file.update_tags(SEN2CHAIN_SOURCE=FROM_LOSSY)
    old(made)
    assert update(prefer="stored") == (0, [])
    legacy[0].unlink()  # as after --move-old
    assert update(prefer="stored") == (0, [])
    for path in made:
        with rasterio.open(path, "r+") as file:
            file.update_tags(SEN2CHAIN_SOURCE=FROM_PRODUCT)
    old(made, 50)
    assert update(prefer="stored")[0] == 3
    for path in (*made, *legacy):
        path.unlink(missing_ok=True)


def test_a_space_in_the_formula_makes_no_rows_old(update: Any) -> None:
    assert update(indices="MYDIFF=B08-B04")[0] == 3
    assert update(indices="MYDIFF=B08 - B04") == (0, [])
    assert update(indices="MYDIFF=B08 - 2*B04")[0] == 3
