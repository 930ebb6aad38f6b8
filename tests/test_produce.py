"""Produced files: what they hold equals independent computations, and each file ends with its true outcome."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import threading
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

import omnicloudmask_double
import oracle
from far_end import small_disk
from sen2chain import demo
from sen2chain.archive import LibrarySource, open_library, open_target
from sen2chain.errors import OutputError, RequestError, Sen2ChainError, UnknownNameError
from sen2chain.indices import INDICES, NODATA, Index
from sen2chain.masks import Mask
from sen2chain.produce import (
    CogFile,
    FileKind,
    Outcome,
    Production,
    ProductPlan,
    ProductRequest,
    State,
    plan_products,
    produce_files,
    product_lock,
)
from sen2chain.produce.acquisition_rasters import RasterPass, acquisition_bytes
from sen2chain.raster_tags import RasterTags
from sen2chain.rasters import counting
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from pathlib import Path

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
FIVE = ("NDVI", "NDWIGAO", "MNDWI", "NDRE", "NBR")


def request(*names: str, **options: Any) -> ProductRequest:
    """Ask for indices and masks by name."""
    indices = [name for name in names if name in INDICES or "=" in name]
    masks = tuple(Mask.parse(name) for name in names if name not in indices)
    return ProductRequest(tuple(Index.parse(name) for name in indices), masks, **options)


def plan(source: LibrarySource, *names: str, **options: Any) -> ProductPlan:
    return plan_products(request(*names, **options), source)


def produce(source: LibrarySource, *names: str, **options: Any) -> Production:
    return produce_files(plan(source, *names, **options), source, quiet=True)


def outcomes(production: Production) -> dict[str, int]:
    return {str(outcome): count for outcome, count in production.counts().items()}


def values(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def tags(path: Path) -> RasterTags:
    with rasterio.open(path) as dataset:
        found = RasterTags.read(dataset.tags())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAFE products of two dates of one small tile, with all bands that five indices and two masks need."""
    scene = demo.Scene(
        tiles=("31TGJ",), size=90, parcels=4, overpasses=demo.season(2),
        bands=("B02", "B03", "B04", "B05", "B08", "B8A", "B11", "B12", "SCL", "CLDPRB"),
    )  # fmt: skip
    return demo.build(tmp_path_factory.mktemp("drawn"), scene).library / "data" / "L2A"


@pytest.fixture
def safe(drawn: Path, tmp_path: Path) -> Path:
    """A copy of these products that a test may change."""
    return shutil.copytree(drawn, tmp_path / "safe")


@pytest.fixture
def source(safe: Path, tmp_path: Path) -> LibrarySource:
    return opened(tmp_path, safe)


def opened(folder: Path, safe: Path) -> LibrarySource:
    """Open the library again, as the next run does."""
    library = folder / "library"
    library.mkdir(exist_ok=True)
    return open_target(library, safe)


# ---------------------------------------------------------------------------------------------------------- real pixels


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Production:
    """All that Bolzano's ten metre bands give, on three of its dates."""
    source = open_target(tmp_path_factory.mktemp("bolzano"), shared_data / "bolzano" / "L2A")
    names = [name for name, index in INDICES.items() if set(index.bands) <= oracle.TEN_METRES]
    days = {"first": dt.date(2022, 6, 1), "last": dt.date(2022, 6, 8)}
    return produce(source, *names, CM004, masked=True, **days)


def test_indices_equal_numpy_on_real_pixels(real: Production, bolzano: Path) -> None:
    checked = 0
    for safe in oracle.safes(bolzano / "L2A" / "32TPS"):
        clouds = None
        for file in real.made:
            if file.product != safe.id or file.kind is FileKind.MASK:
                continue
            wanted, ties = oracle.index(safe, file.name)
            if file.kind is FileKind.MASKED:
                clouds = oracle.cm004(safe.raster("SCL").values, (1, 1, 1, 1), 1)  # no pandas here
                wanted = np.where(oracle.nearest(clouds), NODATA, wanted)
            found = values(file.path)
            differ = found != wanted
            assert not (differ & ~ties).any()
            assert np.abs(found[differ].astype(int) - wanted[differ]).max(initial=0) <= 1
            checked += 1
    assert checked == 3 * 2 * 6
    assert outcomes(real) == {"made": 3 * (2 * 6 + 1)}


def test_expected_sizes_are_near_the_real_ones(real: Production, shared_data: Path, tmp_path: Path) -> None:
    source = open_target(tmp_path, shared_data / "bolzano" / "L2A")
    planned = plan(source, "NDVI", first=dt.date(2022, 6, 1), last=dt.date(2022, 6, 8))
    made = sum(file.bytes for file in real.made if file.kind is FileKind.INDEX and file.name == "NDVI")
    without_overviews = planned.expected_bytes * 3 / 4  # these rasters are too small to have some
    assert 0.8 * made < without_overviews < 1.25 * made


def test_the_sizes_of_zipped_products_are_those_in_their_directory(
    source: LibrarySource, safe: Path, tmp_path: Path
) -> None:
    (tmp_path / "zipped").mkdir()
    for product in safe.rglob("*.SAFE"):
        shutil.make_archive(str(tmp_path / "zipped" / product.name), "zip", product.parent, product.name)
    planned = plan(opened(tmp_path, tmp_path / "zipped"), "NDVI", CM004)
    assert len(planned.to_make) == 4
    assert planned.expected_bytes == plan(source, "NDVI", CM004).expected_bytes < 1_000_000


def test_the_room_is_that_of_the_library(source: LibrarySource, tmp_path: Path) -> None:
    produce(source, "NDVI")
    assert [room.folder for room in plan(source, "NDVI", CM004, force=True).rooms] == [tmp_path / "library"]


def test_folders_of_products_that_fail_do_not_stay(safe: Path, tmp_path: Path) -> None:
    for band in safe.rglob("*_B04_10m.jp2"):
        band.write_bytes(b"damaged")
    assert outcomes(produce(opened(tmp_path, safe), "NDVI", CM004)) == {"made": 2, "failed": 2}
    folders = [path for path in (tmp_path / "library").rglob("*_MSIL2A_*") if path.is_dir()]
    assert {path.relative_to(tmp_path / "library").parts[0] for path in folders} == {"CLOUDMASKS"}


@pytest.mark.parametrize("form", ["tif", "jp2"])
def test_masks_equal_scipy_on_a_real_tile(shared_data: Path, tmp_path: Path, form: Any) -> None:
    source = open_target(tmp_path, shared_data / "ireland" / "L2A")
    (safe,) = oracle.safes(shared_data / "ireland" / "L2A" / "29UNU")
    scl, cldprb = (safe.raster(name).values for name in ("SCL", "CLDPRB"))  # no pandas here
    wanted = {
        "tif": {
            "CM001": lambda: oracle.cm001(cldprb),
            "CM004-CSH0-CMP1-CHP1-TCI0-ITER3": lambda: oracle.cm004(scl, (0, 1, 1, 0), 3),
        },
        "jp2": {
            "CM003-PRB40-ITER0": lambda: oracle.cm003(cldprb, 40, 0),
            "SCL-3-8-9-10-11-ITER1": lambda: oracle.classes(scl, (3, 8, 9, 10, 11), 1),
        },
    }[form]
    production = produce(source, *wanted, mask_format=form)
    assert {file.path.suffix for file in production.made} == {f".{form}"}
    assert outcomes(production) == {"made": 2}
    for file in production.made:
        found = values(file.path)
        assert (found.dtype, found.shape) == (np.uint8, (5490, 5490))
        assert np.array_equal(found, wanted[file.name]().astype(np.uint8)), file.name
    assert outcomes(produce(source, *wanted, mask_format=form)) == {"kept": 2}


# ------------------------------------------------------------------------------------------------------------- one pass


def test_five_indices_and_masks_decode_each_block_once(source: LibrarySource) -> None:
    planned = plan(source, *FIVE, "CM004", "CM002", masked=True)
    with counting() as counts:
        production = produce_files(planned, source, quiet=True)
    assert outcomes(production) == {"made": 2 * (5 + 2 + 10)}
    bands = {band for name in FIVE for band in INDICES[name].bands} | {"SCL", "CLDPRB"}
    assert len(counts.opens) == 2 * len(bands)
    assert set(counts.opens.values()) == set(counts.blocks.values()) == {1}


def test_indices_and_masks_of_all_kinds_equal_the_oracle(source: LibrarySource, safe: Path) -> None:
    masks = ("CM001", "CM002-B11", "CM003-PRB20-ITER2", CM004, "SCL-8-9-ITER0")
    production = produce(source, *FIVE, "BIGR", *masks)
    for product in oracle.safes(safe / "31TGJ"):
        scl, cldprb = (product.raster(name).values for name in ("SCL", "CLDPRB"))  # no pandas here
        offsets, quantification = product.radiometry()
        b11 = product.raster("B11").values.astype(float)
        real = np.where((b11 == 0) | (b11 == 65535), np.nan, np.maximum((b11 + offsets["B11"]) / quantification, 0))
        wanted = {
            "CM001": oracle.cm001(cldprb),
            "CM002-B11": oracle.cm002(cldprb, real),
            "CM003-PRB20-ITER2": oracle.cm003(cldprb, 20, 2),
            CM004: oracle.cm004(scl, (1, 1, 1, 1), 1),
            "SCL-8-9-ITER0": oracle.classes(scl, (8, 9), 0),
        }
        for file in production.made:
            if file.product != product.id:
                continue
            found = values(file.path)
            if file.kind is FileKind.MASK:
                assert np.array_equal(found, wanted[file.name].astype(np.uint8)), file.name
                continue
            numbers, ties = oracle.index(product, file.name)
            assert not ((found != numbers) & ~ties).any(), file.name


def test_tags_say_what_it_is_and_what_it_was_made_from(source: LibrarySource) -> None:
    production = produce(source, "NDVI", "SR=B08/B04 scale=100", "CM004", masked=True, precision=0.01)
    said = {(file.kind, file.name): tags(file.path) for file in production.made[:6]}
    ratio = said[FileKind.MASKED, "SR"]
    assert (ratio.name, ratio.definition, ratio.mask) == ("SR", "B08/B04 scale=100", CM004)
    assert (ratio.precision, ratio.quantification, set(ratio.offsets)) == (0.01, 10000.0, {"B04", "B08"})
    assert said[FileKind.INDEX, "NDVI"].precision == 0.01
    assert said[FileKind.MASK, CM004].definition == ""
    path = next(file.path for file in production.made if (file.kind, file.name) == (FileKind.INDEX, "SR"))
    with rasterio.open(path) as dataset:
        assert (dataset.scales, dataset.nodata) == ((0.01,), NODATA)
    library = open_library(source.paths.home)
    assert isinstance(library, LibrarySource)
    acquisition = library.acquisitions("31TGJ")[0]
    assert acquisition.details.tags(str(path)) == said[FileKind.INDEX, "SR"]


def test_precision_rounds_and_keeps_no_data(source: LibrarySource, safe: Path) -> None:
    production = produce(source, "NDVI", precision=0.005)
    for product in oracle.safes(safe / "31TGJ"):
        wanted, _ = oracle.index(product, "NDVI")
        (path,) = (file.path for file in production.made if file.product == product.id)
        found = values(path)
        assert np.array_equal(found == NODATA, wanted == NODATA)
        valid = wanted != NODATA
        assert not (found[valid] % 50).any()
        assert np.abs(found[valid].astype(int) - wanted[valid]).max() <= 26


# ------------------------------------------------------------------------------- kept, made again, refused, impossible


def test_what_exists_is_kept_without_opening_a_raster(source: LibrarySource, safe: Path, tmp_path: Path) -> None:
    assert outcomes(produce(source, "NDVI", "CM004")) == {"made": 4}
    with counting() as counts:
        planned = plan(opened(tmp_path, safe), "NDVI", "CM004")
    assert not counts.opens
    assert planned.why_nothing == "There is nothing to do: all 4 files are there and up to date."
    assert outcomes(produce_files(planned, source)) == {"kept": 4}


def test_a_copied_archive_is_recognised_and_a_changed_band_is_not(
    source: LibrarySource, safe: Path, tmp_path: Path
) -> None:
    produce(source, "NDVI", "CM004")
    for path in safe.rglob("*"):
        os.utime(path, (1, 1))
    assert outcomes(produce(opened(tmp_path, safe), "NDVI", "CM004")) == {"kept": 4}
    red = min(safe.rglob("*_B04_10m.jp2"))
    shutil.copy(min(safe.rglob("*_B03_10m.jp2")), red)
    production = produce(opened(tmp_path, safe), "NDVI", "CM004")
    assert outcomes(production) == {"made again": 1, "kept": 3}
    (again,) = (file for file in production.made if file.outcome is Outcome.AGAIN)
    assert again.detail.endswith("_NDVI.tif is made again: B04 of the product changed.")


def test_rules_of_another_version_and_damage_are_made_again(
    source: LibrarySource, safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (file.path for file in produce(source, "NDVI").made)
    first.write_bytes(first.read_bytes()[:100])
    planned = plan(opened(tmp_path, safe), "NDVI")
    assert [file.state for file in planned.files] == [State.MAKE, State.KEPT]
    assert planned.files[0].detail.endswith("_NDVI.tif is made again: it is cut off.")
    monkeypatch.setattr("sen2chain.produce.stored_file.RULES", 99)
    (other,) = (file for file in plan(opened(tmp_path, safe), "NDVI").files if file.path == second)
    assert (other.state, "rules" in other.detail) == (State.MAKE, True)


def test_another_formula_or_precision_is_not_replaced_but_by_force(source: LibrarySource) -> None:
    produce(source, "MINE=B08/B04 scale=100")
    spelled = produce(source, "MINE=( B08 / B04 ) scale=100")
    assert outcomes(spelled) == {"kept": 2}
    other = produce(source, "MINE=B08/B03 scale=100")
    assert outcomes(other) == {"refused": 2}
    assert "it holds another formula, B08/B04 scale=100; --force (force=True) replaces it" in other.refused[0].detail
    assert outcomes(produce(source, "MINE=B08/B04 scale=100", precision=0.1)) == {"refused": 2}
    assert outcomes(produce(source, "MINE=B08/B03 scale=100", force=True)) == {"made again": 2}
    assert tags(other.made[0].path).definition == "B08/B03 scale=100"


def test_rasters_of_other_programs_are_kept(source: LibrarySource, tmp_path: Path, safe: Path) -> None:
    made = produce(source, "NDVI", "MINE=B08-B04", "CM003-PRB10-ITER0").made
    for file in made:  # the same pixels without our tags
        with rasterio.open(file.path) as dataset:
            profile, pixels = dataset.profile, dataset.read(1)
        with rasterio.open(file.path, "w", **profile) as dataset:
            dataset.write(pixels, 1)
    again = produce(opened(tmp_path, safe), "NDVI", "MINE=B08-B04", "CM003-PRB10-ITER0")
    states = {file.name: (file.outcome, file.detail) for file in again.made}
    assert states["NDVI"][0] is Outcome.KEPT
    assert "another program" in states["NDVI"][1]
    assert states["MINE"][0] is Outcome.REFUSED
    assert states["CM003-PRB10-ITER0"][0] is Outcome.AGAIN  # the original program dilated it without end


def test_a_legacy_index_beside_it_does_not_count(source: LibrarySource) -> None:
    (first, _) = plan(source, "NDVI").files
    first.path.parent.mkdir(parents=True)
    first.path.with_suffix(".jp2").write_bytes(b"legacy")
    assert outcomes(produce(source, "NDVI")) == {"made": 2}
    assert first.path.with_suffix(".jp2").read_bytes() == b"legacy"


def test_missing_inputs_are_named(source: LibrarySource, safe: Path) -> None:
    for path in safe.rglob("*_B11_20m.jp2"):
        path.unlink()
    for path in list(safe.rglob("*_SCL_20m.jp2"))[:1]:
        path.unlink()
    production = produce(source, "NDVI", "NDWIGAO", "CM004", "CM002")
    assert outcomes(production) == {"made": 3, "impossible": 5}
    why = {file.detail.partition(": ")[2] for file in production.impossible}
    assert why == {
        "NDWIGAO needs B11, which the archive lacks.",
        "CM002-B11 needs B11, which the archive lacks.",
        f"{CM004} needs SCL, which the archive lacks.",
    }


def test_a_broken_band_costs_only_the_files_that_need_it(source: LibrarySource, safe: Path) -> None:
    path = min(safe.rglob("*_B12_20m.jp2"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    red = max(safe.rglob("*_B04_10m.jp2"))
    red.write_bytes(b"")
    production = produce(source, "NDVI", "NBR", "MNDWI", "CM004", masked=True)
    lost = {(file.kind, file.name) for file in production.failed}
    assert lost == {(kind, name) for kind in (FileKind.INDEX, FileKind.MASKED) for name in ("NBR", "NDVI")}
    assert outcomes(production) == {"made": 10, "failed": 4}
    assert all(str(path) in file.detail or str(red) in file.detail for file in production.failed)
    assert not list(source.paths.home.rglob("*.tmp"))


def test_checksums_are_compared_on_request(source: LibrarySource, safe: Path) -> None:
    red = min(safe.rglob("*_B04_10m.jp2"))
    shutil.copy(min(safe.rglob("*_B03_10m.jp2")), red)
    production = produce(source, "NDVI", "CM004", verify=True)
    assert outcomes(production) == {"made": 3, "failed": 1}
    assert red.name in production.failed[0].detail


def test_a_band_that_changes_while_it_is_read_is_told(
    source: LibrarySource, safe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RasterPass._read

    def slowly(self: RasterPass, stack: Any) -> None:
        read(self, stack)
        for path in safe.rglob("*_B04_10m.jp2"):
            path.write_bytes(path.read_bytes() + b"\0")

    monkeypatch.setattr(RasterPass, "_read", slowly)
    production = produce(source, "NDVI", "CM004", workers=1)
    assert {file.name for file in production.failed} == {"NDVI"}
    assert "B04 of the product changed while it was read" in production.failed[0].detail


# ------------------------------------------------------------------------------------------------------- runs and disks


def test_two_runs_share_the_work(source: LibrarySource, safe: Path, tmp_path: Path) -> None:
    sources = [source, opened(tmp_path, safe)]
    plans = [plan(each, *FIVE, "CM004", force=True) for each in sources]
    results: list[Production] = []
    with counting() as counts:
        threads = [
            threading.Thread(target=lambda p=p, s=s: results.append(produce_files(p, s, quiet=True)))
            for p, s in zip(plans, sources, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [file.outcome for result in results for file in result.made]
    assert sorted(found) == sorted([Outcome.MADE] * 12 + [Outcome.ELSEWHERE] * 12)
    assert set(counts.opens.values()) == {1}


def test_a_product_that_is_held_is_waited_for(source: LibrarySource) -> None:
    planned = plan(source, "CM004")
    product = planned.orders[0].acquisition.id
    results: list[Production] = []
    with product_lock(source.paths, product) as held:
        assert held
        run = threading.Thread(target=lambda: results.append(produce_files(planned, source, quiet=True)))
        run.start()
        run.join(1.5)
        assert run.is_alive()
        assert planned.files[1].path.exists()
    run.join()
    assert outcomes(results[0]) == {"made": 2}


def test_a_full_disk_ends_the_run_with_one_sentence(safe: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "120k") as disk:
        source = open_target(disk, safe)
        production = produce(source, *FIVE, workers=1)
        assert production.ended_by.startswith("No room is left on the disk for ")
        assert production.ended_by.count(".") == 2  # of the file's suffix, and of the sentence
        assert {file.outcome for file in production.made} <= {Outcome.MADE, Outcome.LEFT}
        assert {file.detail for file in production.failed} == {production.ended_by}
        assert not list(disk.rglob("*.tmp"))
        for file in production.made:
            assert file.path.exists() == (file.outcome is Outcome.MADE)


def test_room_is_told_before(source: LibrarySource) -> None:
    planned = plan(source, "NDVI", "CM004")
    first, second, *_ = planned.sentences()
    assert first.startswith("4 files of 2 products will be written, about ")
    assert " are free in " in second
    assert planned.fits
    assert planned.free_bytes is not None
    assert 0 < planned.expected_bytes < 1e6


def test_what_lies_beside_a_raster_in_the_making_needs_room_too(
    source: LibrarySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = plan(source, "NDVI").expected_bytes
    for free, fits in ((int(2.5 * needed), True), (int(1.2 * needed), False), (needed - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        planned = plan(source, "NDVI")
        assert (planned.fits, planned.free_bytes) == (fits, free)
        assert (" is more than the " in planned.sentences()[1]) is not fits


def test_a_library_that_cannot_be_written_is_one_sentence(source: LibrarySource) -> None:
    source.paths.indices.parent.mkdir(parents=True, exist_ok=True)
    source.paths.indices.write_text("a file in the place of a folder")
    with pytest.raises(OutputError, match="INDICES"):
        produce(source, "NDVI", "CM004")
    assert not source.paths.cloudmasks.exists() or not list(source.paths.cloudmasks.rglob("*.tif"))


def test_leftovers_of_killed_runs_are_swept(source: LibrarySource) -> None:
    (file, _) = plan(source, "NDVI").files
    file.path.parent.mkdir(parents=True)
    dead = file.path.parent / ".0123456789abcdef.tmp"
    dead.write_bytes(b"part")
    os.utime(dead, (1, 1))
    produce(source, "NDVI")
    assert list(file.path.parent.iterdir()) == [file.path]


def test_an_error_in_one_product_does_not_end_the_run(source: LibrarySource, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, calls = CogFile.finish, []

    def once(self: CogFile) -> Path:
        calls.append(self)
        if len(calls) == 1:
            raise ValueError("odd")
        return finish(self)

    monkeypatch.setattr(CogFile, "finish", once)
    production = produce(source, "NDVI", workers=1)
    assert outcomes(production) == {"made": 1, "failed": 1}
    assert production.failed[0].detail.endswith("failed with ValueError: odd.")


def test_settings_of_gdal_stay_as_they_are(source: LibrarySource) -> None:
    with rasterio.Env(GDAL_NUM_THREADS=3, GTIFF_DIRECT_IO=False), warnings.catch_warnings():
        before = rasterio.env.getenv()
        produce(source, "NDVI", "CM004")
        assert rasterio.env.getenv() == before


# ------------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Nothing is asked for"),
        ({"masks": (Mask("none"),)}, "The mask none masks nothing"),
        ({"indices": (INDICES["NDVI"],), "masked": True}, "need at least one index and one mask"),
        ({"indices": (INDICES["NDVI"],), "precision": 0.00015}, "a whole multiple of that step"),
        ({"indices": (INDICES["NDVI"],), "precision": -1}, "precision"),
        ({"indices": (INDICES["NDVI"],), "cover": (50, 10)}, "swap them"),
        ({"indices": (INDICES["NDVI"],), "cover": (0, 101)}, "cloud cover"),
        ({"indices": (INDICES["NDVI"],), "mask_format": "png"}, "format of masks"),
        ({"indices": (INDICES["NDVI"],), "workers": -1}, "workers"),
        ({"indices": (INDICES["NDVI"],), "first": "May"}, "YYYY-MM-DD"),
        ({"indices": (INDICES["NDVI"],), "model_resolution": 30}, "10 or 20"),
    ],
)
def test_requests_that_cannot_be_used(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        ProductRequest(**options)


def test_an_unknown_tile_is_named(source: LibrarySource) -> None:
    with pytest.raises(UnknownNameError, match="Unknown tile '40KCB'; allowed: 31TGJ"):
        plan(source, "NDVI", tiles=("40KCB",))


def test_dates_tiles_and_cover_choose_products(source: LibrarySource) -> None:
    every = plan(source, "NDVI", tiles=("31TGJ",))
    dates = [order.acquisition.id.sensing.date() for order in every.orders]
    assert len(plan(source, "NDVI", first=dates[1]).orders) == 1
    assert len(plan(source, "NDVI", last=dates[0]).orders) == 1
    nothing = plan(source, "NDVI", cover=(99.9, 100))
    assert (nothing.orders, nothing.outside_cover) == ((), 2)
    assert nothing.why_nothing == "There is no product of these tiles and dates; 2 products left out for cloud cover."


def test_memory_of_a_pass_grows_with_its_bands(source: LibrarySource) -> None:
    few, many = (acquisition_bytes(plan(source, *names).orders[0].files, SENTINEL2) for names in (["NDVI"], FIVE))
    assert 200e6 < few < many < 1.5e9


def test_results_are_plain_values(source: LibrarySource) -> None:
    production = produce(source, "NDVI")
    frame = production.to_frame()
    assert list(frame["outcome"]) == ["made", "made"]
    assert production.to_dict()["counts"] == {"made": 2}
    assert str(production).startswith("2 files: 2 made, ")
    assert "<table" in production._repr_html_()
    assert [path.exists() for path in production.files] == [True, True]
    assert isinstance(production, Production)
    assert issubclass(OutputError, Sen2ChainError)


# ------------------------------------------------------------------------------------------ pictures and the model


def test_quicklooks_are_drawn_after_the_pass_and_kept(source: LibrarySource, safe: Path, tmp_path: Path) -> None:
    asked: tuple[str, ...] = ("NDVI", "CM004")
    production = produce(source, *asked, quicklooks=True)
    assert outcomes(production) == {"made": 2 * 4}
    names = {(file.kind, file.name) for file in production.made}
    assert {(FileKind.QUICKLOOK, "L2A"), (FileKind.QUICKLOOK, "NDVI")} < names
    assert all(path.stat().st_size > 1000 for path in production.files)
    with counting() as counts:
        again = produce(opened(tmp_path, safe), *asked, quicklooks=True)
    assert outcomes(again) == {"kept": 2 * 4}
    assert not counts.opens
    other = produce(opened(tmp_path, safe), "NDVI", "CM001", quicklooks=True)
    assert outcomes(other) == {"made": 2, "made again": 4, "kept": 2}


def test_masks_of_the_model_serve_masked_indices_of_the_same_run(
    source: LibrarySource, safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "double"
    folder.mkdir()
    omnicloudmask_double.install(folder, monkeypatch)
    weights = tmp_path / "weights"
    weights.mkdir()
    omnicloudmask_double.write_weights(weights)
    config = source.paths.config / "config.cfg"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"[DATA PATHS]\nocm_models = {weights}\n")
    asked: dict[str, Any] = {"masked": True, "model_resolution": 20}
    planned = plan(opened(tmp_path, safe), "NDVI", "OCM", **asked)
    assert any(sentence.startswith("OmniCloudMask: 2 masks at 20 m") for sentence in planned.sentences())
    production = produce_files(planned, opened(tmp_path, safe), quiet=True)
    assert outcomes(production) == {"made": 2 * 3}
    clouds, _, masked = (file.path for file in production.made[:3])
    assert clouds.name.endswith("_OCM_v1_8_1.tif")
    assert masked.name.endswith("_NDVI_OCM_v1_8_1.tif")
    assert tags(masked).mask == "OCM_v1_8_1"
    hidden = np.kron(values(clouds), np.ones((2, 2), np.uint8)) > 0
    assert np.array_equal(values(masked) == NODATA, hidden | (values(production.made[1].path) == NODATA))
    assert outcomes(produce(opened(tmp_path, safe), "NDVI", "OCM", **asked)) == {"kept": 2 * 3}
    finer = produce(opened(tmp_path, safe), "NDVI", "OCM", masked=True, model_resolution=10)
    assert outcomes(finer) == {"refused": 2, "kept": 4}
