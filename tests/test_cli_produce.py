"""The commands `sen2chain produce` and `sen2chain library`, run as a new user would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image

import omnicloudmask_double as double
from sen2chain import demo, settings
from sen2chain.cli import main
from sen2chain.produce.product_lock import product_lock
from sen2chain.products import ProductId

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from click.testing import Result

TILES = ("31TGJ", "32TLP")
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(
        size=60, parcels=4, overpasses=demo.season(3), bands=("B02", "B03", "B04", "B08", "SCL", "CLDPRB")
    )
    return demo.build(tmp_path_factory.mktemp("built"), scene)


@pytest.fixture
def home(built: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user with a library, a layer and a folder of downloads; it is the current folder."""
    shutil.copytree(built.library, tmp_path / "sen2chain_data")
    shutil.copytree(built.library / "data" / "L2A", tmp_path / "downloads")
    shutil.copy(built.layer, tmp_path / "parcels.gpkg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="sen2chain")


def sentence(result: Result) -> str:
    """Give the last line of what a failed command printed, and make sure that nothing blew up."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.output.strip().splitlines()[-1]


def rasters(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.tif"))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder with its size and time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size if path.is_file() else 0, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


# --- all is well


def test_rasters_are_made_where_they_are_documented_and_kept_the_second_time(home: Path) -> None:
    first = run("produce", "--index", "NDVI", "--mask", "CM004", "--tile", "31TGJ")
    assert first.exit_code == 0, first.output
    data = home / "sen2chain_data" / "data"
    products = [path.name.removesuffix(".SAFE") for path in (data / "L2A" / "31TGJ").iterdir()]
    for product in products:
        assert (data / "INDICES" / "NDVI" / "31TGJ" / product / f"{product}_NDVI.tif").is_file()
        assert (data / "CLOUDMASKS" / "31TGJ" / product / f"{product}_{CM004}.tif").is_file()
    assert len(rasters(data)) == 2 * len(products) == 6
    for word in ("NDVI", CM004, "made"):
        assert word in first.output
    before = snapshot(data)
    second = run("produce", "--index", "NDVI", "--mask", "CM004", "--tile", "31TGJ")
    assert second.exit_code == 0
    assert snapshot(data) == before
    assert second.output == "There is nothing to do: all 6 files are there and up to date.\n"


def test_the_forecast_comes_first_and_a_dry_run_writes_nothing(home: Path) -> None:
    before = snapshot(home)
    result = run("produce", "--index", "NDVI", "--mask", "CM004", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "12 files" in result.output
    assert "free" in result.output
    assert snapshot(home) == before
    verbose = run("produce", "--index", "NDVI", "--dry-run", "--verbose")
    assert verbose.output.count("31TGJ_2") >= 3


def test_values_are_those_of_the_formula(home: Path) -> None:
    """Against numpy, from the digital numbers of the product."""
    assert run("produce", "--index", "NDVI", "--tile", "31TGJ", "--to", "2021-10-15").exit_code == 0
    (safe,) = (home / "sen2chain_data" / "data" / "L2A" / "31TGJ").glob("*20211015*")
    dn = {}
    for band in ("B04", "B08"):
        with rasterio.open(next(safe.rglob(f"*_{band}_10m.jp2"))) as source:
            dn[band] = source.read(1).astype(float)
    (made,) = (home / "sen2chain_data" / "data" / "INDICES").rglob("*.tif")
    with rasterio.open(made) as source:
        values, scale, nodata = source.read(1), source.scales[0], source.nodata
        tags = source.tags()
    red, nir = dn["B04"], dn["B08"]
    known = (red > 0) & (nir > 0)
    expected = np.where(known, np.rint(10000 * (nir - red) / np.where(known, nir + red, 1)), 32767)
    np.testing.assert_array_equal(values, expected)
    assert (scale, nodata) == (1e-4, 32767)
    assert tags["SEN2CHAIN_DEFINITION"] == "(B08-B04)/(B08+B04)"


@pytest.mark.parametrize("options", [["--from", "2021-11-01"], ["--to", "2021-11-01"], ["--cover-max", "1"]])
def test_dates_and_cloud_cover_choose_products(home: Path, options: list[str]) -> None:
    assert run("produce", "--mask", "CM004", "--tile", "31TGJ", *options).exit_code == 0
    assert 0 < len(rasters(home)) < 3


def test_several_tiles_and_small_letters(home: Path) -> None:
    assert run("produce", "--mask", "cm004", "--tile", "31tgj", "--tile", "T32TLP").exit_code == 0
    assert {name.split("_")[5] for name in rasters(home)} == {"T31TGJ", "T32TLP"}
    assert all(name.endswith(f"_{CM004}.tif") for name in rasters(home))


def test_masked_rasters_pictures_formulas_and_formats(home: Path) -> None:
    result = run(
        "produce", "--index", "SAVI=1.5*(B08-B04)/(B08+B04+0.5)", "--mask", "CM004", "--masked", "--format", "jp2",
        "--tile", "31TGJ", "--to", "2021-10-15", "--precision", "0.001",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    data = home / "sen2chain_data" / "data"
    assert [name.partition("_SAVI")[2] for name in rasters(data)] == [".tif", f"_{CM004}.tif"]
    assert [path.suffix for path in (data / "CLOUDMASKS").rglob("*_CM004*")] == [".jp2"]
    with rasterio.open(next((data / "INDICES").rglob("*_SAVI.tif"))) as source:
        values = source.read(1)
    assert not (values[values != 32767] % 10).any(), "steps of 0.001"


def test_quiet_prints_nothing(home: Path) -> None:
    result = run("produce", "--index", "NDVI", "--tile", "31TGJ", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert len(rasters(home)) == 3


def test_what_is_produced_is_read_and_the_rows_are_those_of_the_bands(home: Path) -> None:
    extract = ["extract", "parcels.gpkg", "--index", "NDVI", "--mask", "CM004", "--report"]
    assert run(*extract, "bands.csv", "--out", "bands").exit_code == 0
    assert run("produce", "--index", "NDVI", "--mask", "CM004").exit_code == 0
    assert run(*extract, "stored.csv", "--out", "stored").exit_code == 0
    assert set(pd.read_csv("bands.csv")["value_source"].dropna()) == {"bands"}
    assert set(pd.read_csv("stored.csv")["value_source"].dropna()) == {"index raster"}
    assert set(pd.read_csv("stored.csv")["mask_source"].dropna()) == {"mask raster"}
    bands, stored = (pd.read_csv(next((home / name).rglob("*NDVI*.csv"))) for name in ("bands", "stored"))
    pd.testing.assert_frame_equal(bands, stored)


# --- where it goes


def test_downloads_make_a_new_library_which_later_commands_know(home: Path) -> None:
    downloads = snapshot(home / "downloads")
    words = ["produce", "--safe", "downloads", "--library", "archive", "--index", "NDVI", "--tile", "31TGJ"]
    assert run(*words, "--dry-run").exit_code == 0
    assert not (home / "archive").exists()
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert f"{home / 'archive'} becomes a library" in result.output
    assert len(rasters(home / "archive" / "INDICES" / "NDVI")) == 3
    assert snapshot(home / "downloads") == downloads, "nothing is written into downloads"
    again = run(*words)
    assert again.exit_code == 0
    assert "becomes a library" not in again.output
    assert run("library", "info", "--library", "archive", "--safe", "downloads").exit_code == 0


@pytest.mark.usefixtures("home")
def test_a_new_library_of_masks_alone_is_one_too() -> None:
    words = ["produce", "--safe", "downloads", "--library", "archive", "--mask", "CM004"]
    assert run(*words).exit_code == 0
    assert run(*words, "--index", "NDVI", "--quiet").exit_code == 0


def test_quiet_begins_no_new_library(home: Path) -> None:
    words = ["produce", "--safe", "downloads", "--library", "archive", "--mask", "CM004", "--quiet"]
    result = run(*words)
    assert result.exit_code == 1
    assert "is not there, and --quiet does not begin one" in sentence(result)
    assert not (home / "archive").exists()


def test_without_a_library_downloads_go_home_and_the_command_says_so(home: Path) -> None:
    result = run("produce", "--safe", "downloads", "--index", "NDVI", "--tile", "31TGJ")
    assert result.exit_code == 0
    assert f"Files go into your library {home / 'sen2chain_data'}" in result.output
    assert len(rasters(home / "sen2chain_data" / "data" / "INDICES")) == 3


def test_a_folder_of_something_else_is_not_made_a_library(home: Path) -> None:
    (home / "photos").mkdir()
    (home / "photos" / "one.jpg").touch()
    result = run("produce", "--safe", "downloads", "--library", "photos", "--index", "NDVI")
    assert result.exit_code == 1
    assert "photos is not a library" in sentence(result)
    assert run("produce", "--library", "absent", "--index", "NDVI").exit_code == 1


# --- bad input


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "Nothing is asked for"),
        (["--index", "NDVU"], 2, "Did you mean NDVI?"),
        (["--index", "X=B04+B99"], 2, "B99"),
        (["--index", "NDVI=B04"], 2, "already stands for"),
        (["--mask", "CM005"], 2, "Unknown cloud mask 'CM005'"),
        (["--mask", "none"], 2, "none masks nothing"),
        (["--index", "NDVI", "--tile", "31TGK"], 2, "there are: 31TGJ, 32TLP"),
        (["--index", "NDVI", "--masked"], 2, "at least one index and one mask"),
        (["--mask", "CM004", "--masked"], 2, "at least one index and one mask"),
        (["--index", "NDVI", "--format", "jp2"], 2, "jp2 is for masks"),
        (["--index", "NDVI", "--format", "png"], 2, "png"),
        (["--index", "NDVI", "--resolution", "20"], 2, "belongs to the mask OCM"),
        (["--mask", "CM004", "--resolution", "15"], 2, "--resolution is 15; allowed"),
        (["--index", "NDVI", "--precision", "0.00003"], 2, "steps of 0.0001"),
        (["--index", "NDVI", "--precision", "many"], 2, "--precision"),
        (["--index", "NDVI", "--from", "2021-13-01"], 2, "--from is '2021-13-01'; allowed: a date"),
        (["--index", "NDVI", "--from", "2022-01-02", "--to", "2022-01-01"], 2, "--from 2022-01-02 is after --to 2022"),
        (["--index", "NDVI", "--cover-max", "101"], 2, "--cover-max"),
        (["--index", "NDVI", "--cover-min", "50", "--cover-max", "40"], 2, "--cover-min 50 is above --cover-max 40"),
        (["--index", "NDVI", "--workers", "-1"], 2, "--workers is -1"),
        (["--index", "NDVI", "--from", "2030-01-01"], 3, "There is nothing to make."),
        (["--index", "NBR"], 3, "B12"),
        (["--index", "NDVI", "--library", "nowhere"], 1, "is not a folder"),
        (["--index", "NDVI", "--library", "https://example.org"], 2, "--stac"),
        (["--index", "NDVI", "--safe", "nowhere"], 1, "neither a folder nor a zip file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_writes_nothing(home: Path, options: list[str], code: int, said: str) -> None:
    before = snapshot(home)
    for more in ([], ["--dry-run"], ["--quiet"]):
        result = run("produce", *options, *more)
        assert result.exit_code == code, result.output
        printed = result.output if said == "B12" else sentence(result)
        assert said in " ".join(printed.split()), result.output
    assert snapshot(home) == before


def test_a_missing_band_is_one_products_reason(home: Path) -> None:
    (safe,) = (home / "sen2chain_data" / "data" / "L2A" / "31TGJ").glob("*20211109*")
    next(safe.rglob("*_B04_10m.jp2")).unlink()
    result = run("produce", "--index", "NDVI", "--mask", "CM004", "--tile", "31TGJ")
    assert result.exit_code == 4
    assert len(rasters(home)) == 5
    assert sentence(result) == "sen2chain: A part is missing. 6 files: 1 impossible."
    assert result.output.count("NDVI needs B04") == 1
    quiet = run("produce", "--index", "NDVI", "--mask", "CM004", "--tile", "31TGJ", "--quiet")
    assert quiet.exit_code == 4
    assert len(quiet.output.strip().splitlines()) == 1
    assert "NDVI needs B04" in quiet.output


def test_a_damaged_band_is_one_products_reason(home: Path) -> None:
    (safe,) = (home / "sen2chain_data" / "data" / "L2A" / "31TGJ").glob("*20211109*")
    band = next(safe.rglob("*_B04_10m.jp2"))
    band.write_bytes(band.read_bytes()[: band.stat().st_size // 2])
    result = run("produce", "--index", "NDVI", "--tile", "31TGJ")
    assert result.exit_code == 4
    assert len(rasters(home)) == 2
    assert "1 failed" in sentence(result)
    told = [line for line in result.output.splitlines() if band.name in line]
    assert len(told) == 1
    assert str(band.relative_to(home / "sen2chain_data")) in told[0]
    assert str(home) not in told[0]


def test_a_damaged_band_in_a_zip_file_is_named_as_people_read_it(home: Path) -> None:
    (safe,) = (home / "downloads" / "31TGJ").glob("*20211109*")
    band = next(safe.rglob("*_B04_10m.jp2"))
    band.write_bytes(band.read_bytes()[: band.stat().st_size // 2])
    (home / "zipped").mkdir()
    shutil.make_archive(str(home / "zipped" / safe.stem), "zip", safe.parent, safe.name)
    result = run("produce", "--safe", "zipped", "--index", "NDVI", "--mask", "CM004")
    assert result.exit_code == 4, result.output
    assert "/vsizip/" not in result.output
    assert f"{safe.stem}.zip, inside {safe.name}/GRANULE/" in result.output


def test_quicklooks_have_lines_of_their_own(home: Path) -> None:
    result = run("produce", "--index", "NDVI", "--quicklooks", "--masked", "--mask", "CM004")
    lines = [line.strip().split("  ")[0] for line in result.output.splitlines()]
    assert {"NDVI", "NDVI, masked", "quicklook", "quicklook NDVI"} <= set(lines)
    assert home.is_dir()


def test_another_formula_is_refused_until_force(home: Path) -> None:
    words = ["produce", "--tile", "31TGJ", "--to", "2021-10-15", "--index"]
    assert run(*words, "SAVI=1.5*(B08-B04)/(B08+B04+0.5)").exit_code == 0
    refused = run(*words, "SAVI=2*(B08-B04)/(B08+B04+1)")
    assert refused.exit_code == 4
    assert sentence(refused) == "sen2chain: A part is missing. 1 file: 1 refused."
    assert refused.output.count("another formula") == 1
    assert "--force" in refused.output
    assert run(*words, "SAVI=2*(B08-B04)/(B08+B04+1)", "--force").exit_code == 0
    with rasterio.open(next(home.rglob("*_SAVI.tif"))) as source:
        assert source.tags()["SEN2CHAIN_DEFINITION"] == "2*(B08-B04)/(B08+B04+1)"


def test_a_dry_run_ends_with_the_code_of_the_run(home: Path) -> None:
    """Where all files are refused 4, where none can be made 3, and where a part is missing 4."""
    assert run("produce", "--index", "X=B04", "--tile", "31TGJ").exit_code == 0
    (safe,) = (home / "sen2chain_data" / "data" / "L2A" / "32TLP").glob("*20211109*")
    next(safe.rglob("*_B04_10m.jp2")).unlink()
    for words, code in (
        (["--index", "X=B08", "--tile", "31TGJ"], 4),
        (["--index", "NBR"], 3),
        (["--index", "NDVI", "--tile", "32TLP"], 4),
        (["--index", "X=B04", "--tile", "31TGJ"], 0),
    ):
        dry, wet = run("produce", *words, "--dry-run"), run("produce", *words)
        assert (dry.exit_code, wet.exit_code) == (code, code), dry.output + wet.output


def test_a_sentence_on_several_products_is_printed_once(home: Path) -> None:
    words = ["produce", "--tile", "31TGJ", "--index"]
    assert run(*words, "X=B04").exit_code == 0
    for more in ([], ["--dry-run"]):
        refused = run(*words, "X=B08", *more)
        assert refused.output.count("it holds another formula, B04") == 1
        assert "replaces it. (3 files like this)" in refused.output
    for safe in (home / "sen2chain_data" / "data" / "L2A" / "31TGJ").iterdir():
        band = next(safe.rglob("*_B08_10m.jp2"))
        band.write_bytes(band.read_bytes()[:200])
    failed = run(*words, "NDVI")
    assert "3 failed" in sentence(failed)
    assert failed.output.count("B08_10m.jp2") <= 3


@pytest.mark.usefixtures("home")
def test_a_quiet_dry_run_says_nothing_and_is_refused() -> None:
    for words in (["produce", "--index", "NDVI"], ["library", "convert"]):
        result = run(*words, "--dry-run", "--quiet")
        assert result.exit_code == 2
        assert "leave one of them out" in sentence(result)


def test_options_of_other_tools_are_answered_with_ours() -> None:
    assert "Did you mean '--tile'?" in run("produce", "--tiles", "31TGJ").output
    assert "Did you mean '--index'?" in run("produce", "--indices", "NDVI").output
    assert "Did you mean '--workers'?" in run("produce", "--threads", "2").output


def test_a_file_in_the_place_of_a_folder_is_told_before_the_work(home: Path) -> None:
    (home / "sen2chain_data" / "data" / "INDICES").touch()
    result = run("produce", "--index", "NDVI", "--mask", "CM004")
    assert result.exit_code == 1
    assert "INDICES" in sentence(result)
    assert not rasters(home)


# --- from cron


def test_a_disk_that_is_not_mounted_is_an_error(home: Path) -> None:
    """What is left of a disk that is not mounted is an empty folder."""
    for name in ("library", "archive/L2A", "downloads2"):
        (home / name).mkdir(parents=True)
    for where in (["--library", "library"], ["--library", "archive"], ["--safe", "downloads2"]):
        result = run("produce", *where, "--index", "NDVI", "--quiet")
        assert result.exit_code == 1, result.output
        assert "is not a library" in sentence(result) or "is its disk mounted?" in sentence(result)
    assert not rasters(home)


def test_a_line_of_a_crontab_needs_no_home_and_no_terminal(home: Path) -> None:
    """As cron starts it: hardly any environment, another folder, no input."""
    command = [sys.executable, "-m", "sen2chain.cli", "produce", "--library", str(home / "sen2chain_data"), "--quiet"]
    for _ in range(2):
        done = subprocess.run(  # noqa: S603  # our own interpreter
            [*command, "--index", "NDVI", "--tile", "31TGJ", "--to", "2021-10-15"], cwd="/",
            env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(rasters(home)) == 1


def test_two_runs_at_once_share_the_work(home: Path) -> None:
    command = [sys.executable, "-m", "sen2chain.cli", "produce", "--library", str(home / "sen2chain_data")]
    runs = [
        subprocess.Popen(  # noqa: S603  # our own interpreter
            [*command, "--index", "NDVI", "--mask", "CM004"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ended = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ended
    made = [int(number) for out, _ in ended for number in re.findall(r"(\d+) made,", out)]
    assert sum(made) == 12, "nothing is made twice"
    assert len(rasters(home)) == 12


def test_a_product_that_another_run_holds_is_waited_for(home: Path) -> None:
    """What another run is working on comes last, and is looked at again."""
    paths = settings.paths(home / "sen2chain_data")
    held = ProductId.parse(next((paths.l2a / "31TGJ").glob("*20211109*")).name.removesuffix(".SAFE"))
    with product_lock(paths, held) as is_held:
        assert is_held
        other = subprocess.Popen(  # noqa: S603  # our own interpreter
            [sys.executable, "-m", "sen2chain.cli", "produce", "--library", str(home), "--mask", "CM004"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while len(rasters(home)) < 5 and time.monotonic() < end:
            time.sleep(0.1)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1.5)
        assert len(rasters(home)) == 5
    assert other.communicate(timeout=60)[0].strip().endswith("s.")
    assert other.returncode == 0
    assert len(rasters(home)) == 6


@pytest.mark.parametrize("option", ["--index", "--mask"])
def test_a_library_whose_name_is_not_utf_8_is_refused_before_the_work(home: Path, option: str) -> None:
    name = os.fsdecode(b"lib\xff")
    result = run("produce", "--safe", "downloads", "--library", name, option, {"--index": "NDVI"}.get(option, "CM004"))
    assert result.exit_code == 1
    assert "since its name is not UTF-8" in sentence(result)
    assert not (home / name).exists()


# --- quicklooks and OmniCloudMask


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(
        size=240,
        tiles=TILES[:1],
        parcels=2,
        overpasses=demo.season(1),
        bands=("B03", "B04", "B08", "B8A"),
    )
    return demo.build(tmp_path_factory.mktemp("modelled"), scene)


@pytest.fixture
def with_weights(modelled: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library whose configuration names the folder of the model's weights; the model is a stand-in."""
    library = tmp_path / "library"
    shutil.copytree(modelled.library, library)
    double.install(tmp_path / "site", monkeypatch)
    double.write_weights(tmp_path / "weights")
    (library / "config").mkdir(exist_ok=True)
    (library / "config" / "config.cfg").write_text(
        f"[DATA PATHS]\nocm_models = {tmp_path / 'weights'}\n", encoding="utf-8"
    )
    return library


def test_quicklooks_show_true_colour_and_each_index(home: Path) -> None:
    words = ["produce", "--index", "NDVI", "--mask", "CM004", "--quicklooks", "--tile", "31TGJ", "--to", "2021-10-15"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    shown = sorted((home / "sen2chain_data" / "data" / "QUICKLOOKS").rglob("*.jpg"))
    assert [path.name.partition("_20211015T133021")[2] for path in shown] == ["_NDVI_QL.jpg", "_QL.jpg"]
    with Image.open(shown[0]) as picture:
        assert b"SEN2CHAIN_MASK" in picture.info["comment"]
        assert CM004.encode() in picture.info["comment"]
    assert run(*words).output == "There is nothing to do: all 4 files are there and up to date.\n"
    # The pictures of a run show its mask.
    without = run(*[word for word in words if word not in {"--mask", "CM004"}])
    assert "it shows another mask" in without.output


def test_quicklooks_without_their_library_say_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("produce", "--index", "NDVI", "--quicklooks")
    assert result.exit_code == 1
    assert "sen2chain[plot]" in sentence(result)
    assert not rasters(home)


def test_the_model_makes_its_mask_and_another_resolution_is_refused(with_weights: Path) -> None:
    words = ["produce", "--library", str(with_weights), "--mask", "OCM"]
    dry = run(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert re.search(r"OmniCloudMask: 1 mask at 10 m, one at a time, .* (seconds?|minutes?|h|min|s) each", dry.output)
    assert not rasters(with_weights)
    made = run(*words, "--index", "NDVI", "--masked")
    assert made.exit_code == 0, made.output
    names = [name.partition("_20211015T133021")[2] for name in rasters(with_weights)]
    assert names == ["_NDVI.tif", "_NDVI_OCM_v1_8_1.tif", "_OCM_v1_8_1.tif"]
    (mask,) = with_weights.rglob("*T133021_OCM_v1_8_1.tif")
    before = mask.read_bytes()
    dn = {}
    for band in ("B03", "B04", "B8A"):
        with rasterio.open(next(with_weights.rglob(f"*_{band}_?0m.jp2"))) as source:
            dn[band] = source.read(1)
    assert run(*words).output == "There is nothing to do: the one file is there and up to date.\n"
    for more in ([], ["--dry-run"]):
        refused = run(*words, "--resolution", "20", *more)
        assert refused.exit_code == 4
        assert "it was made at 10 m, and 20 m are asked for; --force" in refused.output
    assert mask.read_bytes() == before
    assert run(*words, "--resolution", "20", "--force").exit_code == 0
    with rasterio.open(mask) as source:
        assert source.res == (20, 20)
        classes = double.classes(_halved(dn["B04"]), _halved(dn["B03"]), dn["B8A"])
        np.testing.assert_array_equal(source.read(1) > 0, classes > 0)


def _halved(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Average 2 x 2 pixels, to whole numbers."""
    rows, columns = image.shape
    halved: npt.NDArray[Any] = np.rint(image.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3)))
    return halved


def test_without_weights_the_folder_of_the_configuration_is_named(with_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "weights" / double.WEIGHTS[1]).unlink()
    result = run("produce", "--library", str(with_weights), "--mask", "OCM", "--index", "NDVI")
    assert result.exit_code == 1
    assert str(tmp_path / "weights") in sentence(result)
    assert double.WEIGHTS[1] in sentence(result)
    assert not rasters(with_weights), "nothing is made before"


def test_the_model_without_its_library_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    result = run("produce", "--mask", "OCM", "--index", "NDVI")
    assert result.exit_code == 1
    assert "sen2chain[ocm]" in sentence(result)
    assert not rasters(home)


# --- library info, check, convert


@pytest.mark.usefixtures("home")
def test_info_is_a_table_or_one_json_document() -> None:
    table = run("library", "info")
    assert table.exit_code == 0, table.output
    for word in ("31TGJ", "32TLP", "2021-10-15", "NDVI"):
        assert word in table.output
    assert "31TGJ" in json.dumps(json.loads(run("library", "info", "--json").stdout))
    assert run("library", "info", "--quiet").output == ""


def test_info_of_downloads_needs_no_library(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(home / "sen2chain_data")
    assert run("library", "info", "--safe", "downloads").exit_code == 0
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("HOME")
    assert run("library", "info", "--safe", "downloads").exit_code == 0


def test_info_of_nothing(home: Path) -> None:
    (home / "empty" / "L2A").mkdir(parents=True)
    result = run("library", "info", "--library", "empty")
    assert result.exit_code == 3
    assert "no product" in sentence(result)
    (home / "none").mkdir()
    assert run("library", "info", "--safe", "none").exit_code == 3
    assert run("library", "info", "--library", "none").exit_code == 1


def test_check_finds_nothing_wrong_in_what_was_made_and_then_the_damaged_file(home: Path) -> None:
    assert run("produce", "--index", "NDVI", "--mask", "CM004", "--tile", "31TGJ").exit_code == 0
    good = run("library", "check", "--json")
    assert good.exit_code == 0, good.output
    json.loads(good.stdout)
    damaged = next(home.rglob("*_NDVI.tif"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    bad = run("library", "check", "--only", "rasters", "--tile", "31TGJ")
    assert bad.exit_code == 4
    assert damaged.name in bad.output
    quiet = run("library", "check", "--quiet")
    assert quiet.exit_code == 4
    assert len(quiet.output.strip().splitlines()) == 1
    fixed = run("library", "check", "--fix")
    assert "Traceback" not in fixed.output
    assert not damaged.exists()
    assert run("library", "check").exit_code == 0


def test_files_are_put_back_into_a_library_that_is_not_named_and_has_moved(home: Path) -> None:
    assert run("produce", "--index", "NDVI", "--tile", "31TGJ").exit_code == 0
    damaged = next(home.rglob("*_NDVI.tif"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert run("library", "check", "--fix", "--only", "rasters").exit_code == 4
    (folder,) = (home / "sen2chain_data" / "set_aside").iterdir()
    (home / "sen2chain_data").rename(home / "elsewhere")
    moved = home / "elsewhere" / folder.relative_to(home / "sen2chain_data")
    done = run("library", "check", "--put-back", str(moved))
    assert (done.exit_code, done.output.strip()) == (0, "1 file moved back.")
    assert (home / "elsewhere" / damaged.relative_to(home / "sen2chain_data")).exists()
    assert not (home / "sen2chain_data").exists()
    assert run("library", "check", "--put-back", str(home / "none")).exit_code == 1


@pytest.mark.usefixtures("home")
def test_convert_keeps_the_old_file(tmp_path: Path) -> None:
    scene = demo.Scene(
        size=60, tiles=("31TGJ",), parcels=2, overpasses=demo.season(1), bands=("B04", "B08", "SCL"), indices=("NDVI",),
        index_format="jp2",
    )  # fmt: skip
    old = demo.build(tmp_path / "old", scene).library
    assert run("library", "convert", "--library", str(old), "--dry-run").exit_code == 0
    assert not rasters(old)
    result = run("library", "convert", "--library", str(old), "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert len(rasters(old)) == 1
    assert len(list(old.rglob("*_NDVI.jp2"))) == 1
    moved = run("library", "convert", "--library", str(old), "--move-old", str(tmp_path / "aside"))
    assert moved.exit_code == 0, moved.output
    assert not list(old.rglob("*_NDVI.jp2"))
    assert len(list((tmp_path / "aside").rglob("*_NDVI.jp2"))) == 1
    assert f"1 JP2 moved into {tmp_path / 'aside'}" in moved.output
    after = run("library", "convert", "--library", str(old))
    assert (after.exit_code, after.output.count("There is no lossy index raster")) == (0, 1)
    never = run("library", "convert")
    assert (never.exit_code, never.output.count("There is no lossy index raster")) == (3, 1)
    shutil.rmtree(old / "data" / "INDICES")
    assert run("library", "convert", "--library", str(old)).exit_code == 3
    (old / "data" / "INDICES").mkdir()
    shutil.copytree(tmp_path / "aside" / "INDICES", old / "data" / "INDICES", dirs_exist_ok=True)
    again = run("library", "convert", "--library", str(old))
    assert f"written into {old / 'data' / 'INDICES'}" in again.output


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", ["info", "check", "convert"])
@pytest.mark.parametrize(
    ("options", "code"),
    [(["--library", "nowhere"], 1), (["--safe", "nowhere"], 1), (["--library", "https://example.org"], 2)],
)
def test_bad_places_are_one_sentence_and_no_json(command: str, options: list[str], code: int) -> None:
    result = run("library", command, *options, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert sentence(result)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", ["check", "convert"])
@pytest.mark.parametrize("options", [["--tile", "31TGK"], ["--from", "x"], ["--workers", "-1"]])
def test_bad_options_of_check_and_convert(command: str, options: list[str]) -> None:
    result = run("library", command, *options)
    assert result.exit_code == 2, result.output
    assert sentence(result)
