"""Names in an archive and in a layer's folder are text from outside: validated, shown escaped, unable to stop a run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from sen2chain import demo
from sen2chain.archive import LibrarySource, SafeFolder
from sen2chain.cli import main
from sen2chain.errors import LibraryError, RequestError, UnreadableError, escaped
from sen2chain.export import to_json
from sen2chain.products import ProductId, Skipped
from sen2chain.progress import printable
from sen2chain.rasters import Raster
from sen2chain.reasons import Reason
from sen2chain.settings import paths
from sen2chain.store import ImageLedger

if TYPE_CHECKING:
    from click.testing import Result

GOOD = "S2A_MSIL2A_20220612T100601_N0400_R022_T32TPS_20220612T160000"
YEAR_1 = "S2A_MSIL2A_00010101T100601_N0400_R022_T32TPS_20220612T160000"
FULLWIDTH = "2022".translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})
HOSTILE = [
    os.fsdecode(b"S2A_\xff.SAFE"), "S2A_\x1b[31m.SAFE", "S2A_\n.SAFE", "S2A_\u202e.SAFE", "S2A_[bold].SAFE",
    "S2A_[bold red].SAFE", f"{YEAR_1}.SAFE", f"{GOOD.replace('2022', FULLWIDTH)}.SAFE",
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("20220612T100601", "00010101T100601", "sensing date"),
        ("20220612T100601", "19990101T100601", "sensing date"),
        ("20220612T100601", "99991231T235959", "sensing date"),
        ("20220612T100601", "20220632T100601", "sensing date"),
        ("20220612T100601", "20220612T250601", "sensing date"),
        ("20220612T160000", "20221399T160000", "generation date"),
        ("20220612T160000", "00000000T000000", "generation date"),
        ("R022", "R000", "relative orbit"),
        ("R022", "R144", "relative orbit"),
        ("32TPS", "00TPS", "tile"),
        ("32TPS", "61TPS", "tile"),
        ("2022", FULLWIDTH, "not the name"),
        ("S2A_", "S2A_\n", "not the name"),
    ],
)
def test_parts_of_a_products_name_have_values_that_they_can_have(old: str, new: str, part: str) -> None:
    assert str(ProductId.parse(GOOD)) == GOOD
    with pytest.raises(RequestError, match=part) as caught:
        ProductId.parse(GOOD.replace(old, new))
    assert str(caught.value).isprintable()


def test_the_first_and_the_last_orbit_zone_and_year() -> None:
    for old, new in (("R022", "R001"), ("R022", "R143"), ("32TPS", "01CCV"), ("32TPS", "60XWP"), ("2022", "2015")):
        name = GOOD.replace(old, new)
        assert str(ProductId.parse(name)) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_names_something_from_outside_is_printable(name: str) -> None:
    for text in (escaped(name), str(LibraryError(f"{name} is odd")), Skipped(name, "", Reason.UNREADABLE, name).detail):
        assert text.isprintable()
        assert escaped(text) == text
        text.encode()
    assert printable(f"one\n{name}").count("\n") == 1 + name.count("\n")
    assert json.loads(to_json({"path": Path(name)})) == {"path": name}


def test_the_bytes_of_a_name_are_shown() -> None:
    assert escaped(os.fsdecode(b"S2A_\xff\x1b.SAFE")) == r"S2A_\xff\x1b.SAFE"
    with pytest.raises(RequestError, match=r"^'S2A_\\xff' is not the name of"):
        ProductId.parse(os.fsdecode(b"S2A_\xff"))
    assert escaped("été 北京") == "été 北京"


def test_a_raster_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"\\xff_B04_10m.jp2 cannot be opened"):
        Raster(str(tmp_path / os.fsdecode(b"\xff_B04_10m.jp2")))


# --- a whole run


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    scene = demo.Scene(
        size=60, parcels=3, tiles=("32TPS",), overpasses=demo.season(1), bands=("B04", "B08", "SCL", "CLDPRB")
    )
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


@pytest.fixture
def l2a(archive: demo.DemoArchive, tmp_path: Path) -> Path:
    """A copy of the archive in which every kind of odd name lies about."""
    shutil.copytree(archive.library, tmp_path / "sen2chain_data")
    data = tmp_path / "sen2chain_data" / "data"
    for name in HOSTILE:
        (data / "L2A" / "32TPS" / name).mkdir()
        stem = name.removesuffix(".SAFE")
        for folder in (data / "CLOUDMASKS" / "32TPS" / stem, data / "INDICES" / "NDVI" / "32TPS" / stem):
            folder.mkdir(parents=True)
    odd = os.fsdecode(b"\xff\x1b[31m")
    for folder in (data / "L2A" / odd, data / "INDICES" / odd / "32TPS"):
        folder.mkdir(parents=True)
    [safe] = [path for path in (data / "L2A" / "32TPS").iterdir() if (path / "GRANULE").is_dir()]
    (safe / "GRANULE" / odd).touch()
    for kind in ("CLOUDMASKS", "INDICES/NDVI"):
        beside = data / kind / "32TPS" / safe.stem
        beside.mkdir(parents=True, exist_ok=True)
        for end in ("", ".tif", ".jp2"):
            (beside / f"{safe.stem}_{odd}{end}").touch()
    return data / "L2A"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="sen2chain")


@pytest.mark.parametrize("kind", ["library", "safe"])
def test_odd_names_cost_nothing_but_a_line_of_the_report(
    archive: demo.DemoArchive, l2a: Path, tmp_path: Path, kind: str
) -> None:
    where = l2a.parents[1] if kind == "library" else l2a
    done = run(
        "extract", archive.layer, f"--{kind}", where, "--index", "NDVI", "--mask", "CM001",
        "--out", tmp_path / "out", "--report", tmp_path / "report.csv", "--verbose",
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert all(line.isprintable() for line in done.output.splitlines())
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        named = {line["acquisition"] for line in csv.DictReader(file)}
    assert {escaped(name) for name in HOSTILE} <= named
    for path in tmp_path.rglob("out/**/*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_an_archive_under_a_name_that_is_not_utf_8(archive: demo.DemoArchive, tmp_path: Path) -> None:
    where = tmp_path / os.fsdecode(b"caf\xe9 \x1b[31m")
    shutil.copytree(archive.library / "data" / "L2A", where)
    done = run("extract", archive.layer, "--safe", where, "--index", "NDVI", "--mask", "CM001", "--out", tmp_path / "o")
    assert done.exit_code == 3, (done.output, done.exception)
    assert "caf\\xe9" in done.output
    assert all(line.isprintable() for line in done.output.splitlines())


@pytest.fixture(scope="module")
def extraction(archive: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all layers, in which one image has rows."""
    folder = tmp_path_factory.mktemp("series")
    assert run("update", *words(archive, folder)).exit_code == 0
    return folder


def words(archive: demo.DemoArchive, extraction: Path) -> list[object]:
    options = ("--library", archive.library, "--extraction", extraction, "--index", "NDVI", "--mask", "CM001")
    return [archive.layer, *options]


def change(extraction: Path, column: str, value: object) -> Path:
    """Overwrite a value of all entries of the catalogue."""
    [catalogue] = extraction.rglob("ledger.sqlite")
    with closing(sqlite3.connect(catalogue)) as base, base:
        base.execute(f"UPDATE images SET {column} = ?", (value,))  # noqa: S608  # names of this file
    return catalogue


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("product", YEAR_1.replace("00010101", "10101")),
        ("product", GOOD.replace("R022", "R000")),
        ("product", "x"),
        ("product", b"\xff"),
        ("state", "moved"),
        ("reasons", "{"),
        ("reasons", '{"rain": 1}'),
        ("reasons", "[]"),
        ("grid", "[1]"),
        ("grid", '["EPSG:32632", [-10, 0, 0, 0, 10, 0], [1, 1]]'),
        ("rows", "many"),
        ("size", "large"),
        ("cover", "cloudy"),
        ("changed", "yesterday"),
        ("inputs", "{"),
    ],
)
def test_an_entry_that_cannot_be_read_is_dropped(extraction: Path, tmp_path: Path, column: str, value: object) -> None:
    catalogue = change(shutil.copytree(extraction, tmp_path / "series"), column, value)
    before = catalogue.read_bytes()
    with ImageLedger(catalogue, read_only=True) as ledger:
        assert not ledger.entries("NDVI", "CM001")
        assert not ledger.count("NDVI", "CM001")
        assert not ledger.grids()
        assert len(ledger.notes) == 1
    assert catalogue.read_bytes() == before
    with ImageLedger(catalogue) as ledger:
        assert len(ledger.notes) == 1
    with ImageLedger(catalogue) as ledger:
        assert not ledger.notes


def test_a_product_of_the_year_1_in_the_catalogue_stops_no_run(
    archive: demo.DemoArchive, extraction: Path, tmp_path: Path
) -> None:
    change(shutil.copytree(extraction, tmp_path / "series"), "product", YEAR_1.replace("00010101", "10101"))
    again = run("update", *words(archive, tmp_path / "series"))
    assert again.exit_code == 0, (again.output, again.exception)
    assert "held 1 entry that cannot be read" in again.output
    assert "1 image extracted" in again.output


def test_odd_files_among_the_rows_are_no_matter(archive: demo.DemoArchive, extraction: Path, tmp_path: Path) -> None:
    shutil.copytree(extraction, tmp_path / "series")
    [rows] = tmp_path.rglob("*_CM001.parquet")
    for name in (f"x_{YEAR_1}_NDVI_CM001.csv", os.fsdecode(b"x_\xff.csv"), f"\x1b_{YEAR_1}_NDVI_CM001.parquet"):
        (rows.parent / name).touch()
    for command, more in (("update", ()), ("compile", ("--all",))):
        done = run(command, *words(archive, tmp_path / "series"), *more)
        assert done.exit_code == 0, (done.output, done.exception)


def test_folders_that_claim_to_be_products_of_an_impossible_date_are_listed(tmp_path: Path) -> None:
    for name in HOSTILE:
        (tmp_path / "L2A" / "32TPS" / name).mkdir(parents=True)
    for source in (SafeFolder(tmp_path / "L2A" / "32TPS"), LibrarySource(paths(tmp_path))):
        assert source.tiles() == []
        assert [item.name for item in source.skipped()] == sorted(map(escaped, HOSTILE))


def test_the_cause_is_told_and_not_the_effect(archive: demo.DemoArchive, tmp_path: Path) -> None:
    [product] = archive.products
    safe = archive.library / "data" / "L2A" / product.tile / f"{product}.SAFE"
    words = ["extract", archive.layer, "--index", "NDVI", "--mask", "CM001", "--out", tmp_path / "out", "--safe"]
    zipped = shutil.make_archive(str(tmp_path / "x"), "zip", safe.parent)
    for name, part in (("zip", "rename it to"), ("empty", "is empty"), ("tif", ".tif files")):
        place = tmp_path / name / safe.name
        place.parent.mkdir()
        if name == "zip":
            shutil.copyfile(zipped, place)
        elif name == "empty":
            place.mkdir()
        else:
            shutil.copytree(safe, place)
            for file in place.rglob("*.jp2"):
                file.rename(file.with_suffix(".tif"))
        done = run(*words, place.parent)
        assert done.exit_code == 3, (done.output, done.exception)
        assert part in done.output.splitlines()[-1]
