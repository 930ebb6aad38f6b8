"""The catalogue of kept pixels in the ledger of a layer's folder."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from sen2chain.grid import Grid
from sen2chain.products import Radiometry
from sen2chain.store import ExtractionFolder, HeldRaster, ImageLedger, KeptCatalogue, KeptEntry

if TYPE_CHECKING:
    from pathlib import Path

PRODUCT = "S2A_MSIL2A_20220115T103021_N0400_R108_T31TGJ_20220115T140000"
GRID = Grid("EPSG:32631", (10.0, 0.0, 600000.0, 0.0, -10.0, 5000000.0), (90, 90))
NEWER = "S2A_MSIL2A_20220115T103021_N0500_R108_T31TGJ_20230115T140000"


def entry(product: str = PRODUCT, **changes: object) -> KeptEntry:
    values: dict[str, object] = {
        "product": product,
        "file": f"{product}_0123456789abcdef.pixels",
        "size": 1234,
        "positions": "fedcba9876543210",
        "margin": 300.0,
        "rasters": {
            "B04": HeldRaster(("B04.jp2", 5, 6, "parts:7"), GRID, frozenset({"CM001", "CM004"})),
            "SCL": HeldRaster(("SCL.jp2", 8, 9), GRID.reduced(2)),
        },
        "inputs": {"metadata": ("MTD_MSIL2A.xml", 1, 2)},
        "radiometry": Radiometry(10000.0, {"B04": -1000.0}, "a note"),
        "cover": 12.5,
        "footprint": ((6.0, 45.0), (7.0, 45.0), (7.0, 46.0), (6.0, 45.0)),
    }
    return KeptEntry(**(values | changes))  # type: ignore[arg-type]


def test_what_is_entered_is_read_again_by_another_process(tmp_path: Path) -> None:
    bare = entry(NEWER, rasters={}, inputs={}, radiometry=None, cover=None, footprint=None)
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        KeptCatalogue(ledger).record([entry(), bare])
    with ImageLedger(tmp_path / "ledger.sqlite", read_only=True) as ledger:
        found = KeptCatalogue(ledger).entries()
    assert found == {PRODUCT: entry(), NEWER: bare}
    assert found[PRODUCT].radiometry is not None
    assert found[PRODUCT].radiometry.note == "a note"  # type: ignore[union-attr]  # of which equality says nothing
    assert found[PRODUCT].changed


def test_an_entry_replaces_a_former_one_and_goes_when_it_is_removed(tmp_path: Path) -> None:
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        catalogue = KeptCatalogue(ledger)
        catalogue.record([entry(), entry(NEWER)])
        catalogue.record([entry(margin=600.0)])
        assert catalogue.entries()[PRODUCT].margin == 600
        catalogue.remove([PRODUCT])
        assert list(catalogue.entries()) == [NEWER]


def test_rows_and_pixels_are_entered_together_or_not_at_all(tmp_path: Path) -> None:
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        with contextlib.suppress(KeyError), ledger.transaction():
            ledger.set_fact("mixed", "said")
            KeptCatalogue(ledger).record([entry()])
            raise KeyError
        assert ledger.fact("mixed") is None
        assert not KeptCatalogue(ledger).entries()
        with ledger.transaction():
            ledger.set_fact("mixed", "said")
            KeptCatalogue(ledger).record([entry()])
    with ImageLedger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.fact("mixed") == "said"
        assert list(KeptCatalogue(ledger).entries()) == [PRODUCT]


def test_a_ledger_of_a_former_version_has_no_kept_pixels(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with ImageLedger(path):
        pass
    with sqlite3.connect(path) as base:
        base.execute("DROP TABLE pixels")
    with ImageLedger(path, read_only=True) as ledger:
        assert not KeptCatalogue(ledger).entries()
    with ImageLedger(tmp_path / "none", read_only=True) as ledger:
        assert not KeptCatalogue(ledger).entries()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("product", "S2A_MSIL2A"), ("size", "many"), ("margin", "wide"), ("rasters", "[1]"), ("rasters", '{"B04": 3}'),
        ("rasters", '{"B04": [[], ["EPSG:1", [1, 1, 0, 0, -1, 0], [9, 9]], null]}'),
        ("inputs", "{"), ("facts", "[]"), ("facts", '{"footprint": [1]}'), ("facts", '{"radiometry": [1, 2, 3, 4]}'),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_left_out(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "ledger.sqlite"
    with ImageLedger(path) as ledger:
        KeptCatalogue(ledger).record([entry(), entry(NEWER)])
    with sqlite3.connect(path) as base:
        base.execute(f"UPDATE pixels SET {column} = ? WHERE product = ?", (value, PRODUCT))  # noqa: S608  # fixed names
    with ImageLedger(path) as ledger:
        assert list(KeptCatalogue(ledger).entries()) == [NEWER]


def test_what_suffices() -> None:
    whole, some = HeldRaster((), GRID), HeldRaster((), GRID, frozenset({"CM001", "CM004"}))
    assert whole.suffices(None)
    assert whole.suffices({"CM002"})
    assert some.suffices({"CM004"})
    assert not some.suffices({"CM004", "none"})
    assert not some.suffices(None)


def test_a_pixel_file_is_there_with_the_size_of_its_entry(tmp_path: Path) -> None:
    folder = ExtractionFolder(tmp_path / "parcels_0123456789abcdef")
    path = entry().path(folder)
    assert path == folder.pixel_file(entry().id, "0123456789abcdef")
    assert not entry().is_there(folder)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(1234))
    assert entry().is_there(folder)
    path.write_bytes(bytes(1233))
    assert not entry().is_there(folder)


def test_only_pixel_files_of_the_folder_itself_are_listed(tmp_path: Path) -> None:
    folder = ExtractionFolder(tmp_path / "parcels_0123456789abcdef")
    assert folder.all_pixel_files() == []
    own = [folder.pixel_file(entry().id, "a"), folder.positions_file("31TGJ", "b")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (folder.pixels("31TGJ") / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.pixels").write_bytes(b"")
    (folder.pixels("31TGJ") / "d.pixels").symlink_to(elsewhere / "c.pixels")
    folder.pixels("31TGK").symlink_to(elsewhere)
    assert sorted(folder.all_pixel_files()) == sorted(own)
