"""Kept pixels in the folder of a layer: what updates write, join, replace and remove, and what never costs rows."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from sen2chain import TimeSeries, TimeSeriesCompil, atomic, demo
from sen2chain.archive import MemorySource
from sen2chain.cli import main
from sen2chain.errors import KeptPixelsError, RequestError, StoreError
from sen2chain.pixel_store import PixelFile, content_digest, load_positions, pixel_file
from sen2chain.pixel_store.stored_members import write_members
from sen2chain.store import ExtractionFolder, ImageLedger, KeptCatalogue, KeptEntry, contents_of, locked, pixel_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE = "31TGJ"
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
QUALITY = {"SCL", "CLDPRB"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Four dates of a small window, one of them processed twice; the second is half clouded."""
    scene = demo.Scene(
        tiles=(TILE,), size=90, parcels=6, overpasses=demo.season(4),
        bands=("B03", "B04", "B08", "B11", "SCL", "CLDPRB"), reprocessed=((2, TILE),),
    )  # fmt: skip
    made = demo.build(tmp_path_factory.mktemp("kept"), scene)
    old = time.time() - 60
    for path in made.library.rglob("*"):
        os.utime(path, (old, old))
    return made


@dataclass
class Kept:
    """A folder of a layer, and the archive it is made from."""

    library: Path
    layer: Path
    extraction: Path

    def series(self, **options: Any) -> TimeSeriesCompil:
        asked = {"indices": ["NDVI"], "masks": [CM004], "quiet": True, "multiproc": 1, **options}
        return TimeSeriesCompil(self.layer, library=self.library, extraction=self.extraction, **asked)

    @property
    def folder(self) -> ExtractionFolder:
        (found,) = ExtractionFolder.all_in(self.extraction)
        return found

    @property
    def entries(self) -> dict[str, KeptEntry]:
        with ImageLedger(self.folder.ledger, read_only=True) as ledger:
            return KeptCatalogue(ledger).entries()

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.all_pixel_files()}

    def rows(self) -> dict[str, tuple[bytes, int]]:
        raw = self.folder.root / "raw_data"
        return {str(p.relative_to(raw)): (p.read_bytes(), p.stat().st_mtime_ns) for p in raw.rglob("*.parquet")}

    def check(self) -> None:
        """Compare everything that is kept with the rasters, and the files with the catalogue."""
        entries = self.entries
        named = {entry.file for entry in entries.values()}
        assert self.files == named | {f"{entry.positions}.positions" for entry in entries.values()}
        for entry in entries.values():
            assert entry.is_there(self.folder)
            with PixelFile.open(entry.path(self.folder)) as file:
                assert set(file.rasters) == set(entry.rasters)
                assert file.facts["product"] == entry.product
                for name, held in entry.rasters.items():
                    values, present = file.read(name)
                    assert (present is None) == (held.masks is None)
                    at = file.positions_of(name).coordinates()
                    here = np.ones(len(values), bool) if present is None else present
                    np.testing.assert_array_equal(values[here], self.raster(entry.product, name)[at][here])

    def raster(self, product: str, name: str) -> Any:
        with rasterio.open(self.path_of(product, name)) as source:
            return source.read(1)

    def path_of(self, product: str, name: str) -> Path:
        pattern = {"CLDPRB": "MSK_CLDPRB_20m.jp2"}.get(name, f"*_{name}_*0m.jp2")
        return min((self.library / "data" / "L2A" / TILE / f"{product}.SAFE").rglob(pattern))


@pytest.fixture
def kept(archive: demo.DemoArchive, tmp_path: Path) -> Kept:
    """Give an archive that a test may change (its files are links to those of all tests), and no folder yet."""
    library = tmp_path / "library"
    shutil.copytree(archive.library, library, copy_function=os.link)
    return Kept(library, archive.layer, tmp_path / "extraction")


@pytest.fixture(scope="module")
def extracted(archive: demo.DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extract the archive once, keeping the pixels of B04 and B08."""
    made = Kept(archive.library, archive.layer, tmp_path_factory.mktemp("kept-extracted") / "extraction")
    made.series(keep_pixels=True).extract_data()
    return made.extraction


@pytest.fixture
def full(kept: Kept, extracted: Path) -> Kept:
    """Give a folder that keeps the pixels of B04 and B08, and an archive; a test may change both."""
    shutil.copytree(extracted, kept.extraction)
    return kept


def test_pixels_are_kept_beside_the_same_rows(kept: Kept, tmp_path: Path) -> None:
    other = Kept(kept.library, kept.layer, tmp_path / "without")
    other.series().extract_data()
    done = kept.series(keep_pixels=True).extract_data()
    assert (done.pixels, done.pixels_kept, done.pixels_failed) == (5, 0, 0)
    assert done.pixel_bytes == sum(entry.size for entry in kept.entries.values())
    assert f"Pixels: those of 5 acquisitions kept ({done.pixel_bytes / 1000:.1f} kB)." in str(done)
    assert {name: data for name, (data, _) in kept.rows().items()} == {
        name: data for name, (data, _) in other.rows().items()
    }
    assert all(set(entry.rasters) == {"B04", "B08"} | QUALITY for entry in kept.entries.values())
    assert {entry.radiometry is None for entry in kept.entries.values()} == {False}
    kept.check()
    again = kept.series(keep_pixels=True).extract_data()
    assert (again.acquisitions, again.pixels, again.pixels_kept) == (0, 0, 5)
    assert str(again) == "Nothing new: 5 images are there already. Pixels: those of 5 acquisitions were there already."


def test_pixels_of_images_that_are_there_are_kept_and_their_rows_stay(kept: Kept) -> None:
    kept.series().extract_data()
    before = kept.rows()
    seen = kept.series(keep_pixels=["B03", "B11"]).extract_data(getstat=False)
    assert (seen.asked, seen.acquisitions, seen.pixels, seen.kept) == (0, 0, 5, 5)
    assert any(note.startswith("Pixels of 5 acquisitions are to be kept, about ") for note in seen.notes)
    done = kept.series(keep_pixels=["B03", "B11"]).extract_data()
    assert (done.images, done.rows, done.pixels, done.kept) == (0, 0, 5, 5)
    assert kept.rows() == before
    kept.check()
    assert all(set(entry.rasters) == {"B03", "B11"} | QUALITY for entry in kept.entries.values())
    assert all(entry.is_whole for entry in kept.entries.values())


def test_new_bands_and_masks_join_what_is_kept(full: Kept) -> None:
    first = full.entries
    assert {held.masks for entry in first.values() for held in entry.rasters.values()} == {None, frozenset({CM004})}
    full.series(keep_pixels=["B11"]).extract_data()
    full.check()
    assert all(set(entry.rasters) == {"B04", "B08", "B11"} | QUALITY for entry in full.entries.values())
    assert all(entry.file != first[product].file for product, entry in full.entries.items())
    masks = [CM004, "CM001"]
    done = full.series(keep_pixels=True, masks=masks).extract_data()
    full.check()
    assert done.pixels + done.pixels_kept == 5
    assert {held.masks for entry in full.entries.values() for held in entry.rasters.values()} <= {
        None, frozenset({CM004, "CM001"}),
    }  # fmt: skip
    done = full.series(keep_pixels=["B04", "B08"]).extract_data()
    full.check()
    assert done.images == 0
    assert all(entry.is_whole for entry in full.entries.values())
    # Nothing more is asked for than is there.
    for options in ({"keep_pixels": True}, {"keep_pixels": True, "masks": masks}, {"keep_pixels": ["B08"]}):
        assert full.series(**options).extract_data().pixels_kept == 5


def test_a_wider_margin_replaces_a_smaller_one_and_loses_no_band(kept: Kept) -> None:
    kept.series(keep_pixels=["B03"], keep_margin=40).extract_data()
    kept.series(keep_pixels=["B08"], keep_margin=120).extract_data()
    kept.check()
    assert {entry.margin for entry in kept.entries.values()} == {120.0}
    assert all(set(entry.rasters) == {"B03", "B08"} | QUALITY for entry in kept.entries.values())
    done = kept.series(keep_pixels=["B03"], keep_margin=40).extract_data()
    assert (done.pixels, done.pixels_kept) == (0, 5)
    kept.series(keep_pixels=["B11"], keep_margin=40).extract_data()
    assert {entry.margin for entry in kept.entries.values()} == {120.0}
    kept.check()


def change(path: Path) -> None:
    """Give a file other content of the same pixels."""
    content = path.read_bytes()
    path.unlink()  # it is a link to the file of other tests
    path.write_bytes(content + b"\0")


def test_a_changed_source_replaces_its_pixels(kept: Kept) -> None:
    kept.series(keep_pixels=["B03", "B04", "B08"]).extract_data()
    product = min(kept.entries)
    before = kept.entries
    change(kept.path_of(product, "B04"))
    done = kept.series(keep_pixels=True).extract_data()
    assert (done.images, done.pixels, done.pixels_kept) == (1, 1, 4)
    after = kept.entries
    # B03 may have changed as well: it is of the product as it was.
    assert set(after[product].rasters) == {"B04", "B08"} | QUALITY
    assert all(after[name] == before[name] for name in before if name != product)
    kept.check()


def test_pixels_of_an_older_product_go_when_those_of_a_newer_one_are_there(kept: Kept) -> None:
    newer = next(path for path in kept.library.rglob("*.SAFE") if "_N0500_" in path.name)
    aside = kept.library.parent / newer.name
    shutil.move(newer, aside)
    kept.series(keep_pixels=True).extract_data()
    (old,) = (p for p in kept.entries if p.split("_")[2] == newer.name.split("_")[2])
    shutil.copytree(aside, newer, copy_function=os.link)
    kept.series(keep_pixels=True).extract_data()
    assert {old, newer.stem} < set(kept.entries)
    kept.check()
    kept.series().drop_pixels(kept.entries[old].id.sensing.date(), kept.entries[old].id.sensing.date())
    shutil.move(newer, aside.with_name("away"))
    kept.series(keep_pixels=True).extract_data()
    shutil.rmtree(newer.with_name(f"{old}.SAFE"))
    shutil.copytree(aside, newer, copy_function=os.link)
    assert old in kept.entries
    done = kept.series(keep_pixels=True).extract_data()
    assert old not in kept.entries
    assert newer.stem in kept.entries
    assert any(note.startswith("Pixels of 1 older product were removed") for note in done.notes)
    kept.check()


@pytest.mark.parametrize("other", ["older", "part"])
def test_pixels_stay_where_the_archive_has_an_older_product_or_another_part(kept: Kept, other: str) -> None:
    newer = next(path for path in kept.library.rglob("*.SAFE") if "_N0500_" in path.name)
    (older,) = (p for p in newer.parent.iterdir() if p.name.split("_")[2] == newer.name.split("_")[2] and p != newer)
    shutil.move(older, kept.library.parent / older.name)
    kept.series(keep_pixels=True).extract_data()
    shutil.move(newer, kept.library.parent / newer.name)
    if other == "older":
        shutil.move(kept.library.parent / older.name, older)
        come = older.stem
    else:
        come = newer.stem.rpartition("_")[0] + "_20991231T000000"
        shutil.copytree(kept.library.parent / newer.name, newer.with_name(f"{come}.SAFE"), copy_function=os.link)
    done = kept.series(keep_pixels=True).extract_data()
    assert {come, newer.stem} < set(kept.entries)
    assert not any("were removed" in note for note in done.notes)
    kept.series(keep_pixels=True).extract_data()
    assert newer.stem in kept.entries


def test_a_product_that_is_gone_keeps_its_pixels(full: Kept) -> None:
    product = min(full.entries)
    shutil.rmtree(full.path_of(product, "B04").parents[4])
    full.series(keep_pixels=True).extract_data()
    assert product in full.entries
    assert full.entries[product].is_there(full.folder)


def test_what_is_missing_or_cut_off_is_read_again(full: Kept) -> None:
    before = full.entries
    gone, short, *_ = sorted(before)
    before[gone].path(full.folder).unlink()
    path = before[short].path(full.folder)
    path.write_bytes(path.read_bytes()[:-1])
    done = full.series(keep_pixels=True).extract_data()
    assert (done.images, done.pixels, done.pixels_kept) == (0, 2, 3)
    assert full.entries == before
    full.check()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06 and so on"])
def test_damaged_positions_are_written_again(full: Kept, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (digest,) = {entry.positions for entry in full.entries.values()}
    full.folder.positions_file(TILE, digest).write_bytes(content)
    from sen2chain.pixel_store import tile_positions  # noqa: PLC0415  # what a new process begins with

    monkeypatch.setattr(tile_positions, "_loaded", tile_positions._Loaded())
    done = full.series(keep_pixels=True).extract_data()
    assert (done.images, done.pixels) == (0, 5)
    full.check()


def test_damaged_pixels_do_not_hinder_those_that_are_to_join_them(full: Kept) -> None:
    product = min(full.entries)
    path = full.entries[product].path(full.folder)
    flip(path)
    full.series(keep_pixels=["B11"]).extract_data()
    done = full.series(keep_pixels=["B04", "B08", "B11"]).extract_data()
    assert done.pixels_failed == 0
    full.check()
    assert all(set(entry.rasters) == {"B04", "B08", "B11"} | QUALITY for entry in full.entries.values())


def test_force_keeps_all_again(full: Kept) -> None:
    done = full.series(keep_pixels=True).extract_data(force=True)
    assert (done.images, done.pixels, done.pixels_kept) == (5, 5, 0)
    full.check()


def test_an_update_that_keeps_none_says_so_where_others_are_kept(kept: Kept) -> None:
    kept.series(keep_pixels=True, date_max="2021-11-30").extract_data()
    count = len(kept.entries)
    done = kept.series().extract_data()
    assert len(kept.entries) == count < 5
    assert any(f"keeps the pixels of {count} acquisitions; this run keeps none" in note for note in done.notes)
    assert kept.series().extract_data().notes == []


def test_what_killed_runs_left_is_swept_by_the_next_one_that_keeps(full: Kept) -> None:
    entry = min(full.entries.values(), key=lambda entry: entry.product)
    orphan = full.folder.pixel_file(entry.id, "0" * 16)
    orphan.write_bytes(b"half")
    full.folder.positions_file(TILE, "f" * 16).write_bytes(b"")
    own = full.folder.pixels(TILE) / "notes.txt"
    own.write_text("mine")
    full.series(keep_pixels=True).extract_data()
    full.check()
    assert own.read_text() == "mine"


def flip(path: Path) -> None:
    """Damage a file without changing its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_pixel_files_are_entered_again_where_the_ledger_was_lost(full: Kept) -> None:
    before = full.entries
    product = full.path_of(min(before), "B04").parents[4]
    aside = full.library.parent / product.name
    shutil.move(product, aside)
    full.folder.ledger.unlink()
    with pytest.raises(RequestError, match=r"that its ledger does not list; enter them with .*sen2chain update"):
        full.series(pixels_from=full.folder.root)
    seen = full.series(keep_pixels=True).extract_data(getstat=False)
    assert (seen.pixels, seen.pixels_kept) == (0, 4)
    assert any(note.startswith("Pixels of 5 acquisitions are to be entered again: ") for note in seen.notes)
    done = full.series(keep_pixels=True).extract_data()
    assert (done.pixels, done.pixels_kept) == (0, 4)
    assert any(note.startswith("Pixels of 5 acquisitions were entered again: ") for note in done.notes)
    assert full.entries == before
    shutil.move(aside, product)
    full.check()
    assert not any("entered again" in note for note in full.series(keep_pixels=True).extract_data().notes)


def test_an_update_that_keeps_none_enters_lost_pixels_too(full: Kept) -> None:
    before = full.entries
    full.folder.ledger.unlink()
    full.series().extract_data()
    assert full.entries == before


def test_a_ledger_from_a_backup_gets_what_was_kept_since(full: Kept) -> None:
    backup = full.folder.ledger.read_bytes()
    full.series(keep_pixels=["B11"]).extract_data()
    after = full.entries
    full.folder.ledger.write_bytes(backup)
    done = full.series(keep_pixels=["B11"]).extract_data()
    assert (done.pixels, done.pixels_kept) == (0, 5)
    assert full.entries == after
    full.check()


def test_a_file_that_was_written_and_not_entered_takes_the_place_of_the_listed_one(full: Kept) -> None:
    listed, backup = full.entries, full.extraction.parent / "backup"
    shutil.copytree(full.folder.root / "pixels", backup)
    ledger = full.folder.ledger.read_bytes()
    full.series(keep_pixels=["B11"]).extract_data()
    after = full.entries
    full.folder.ledger.write_bytes(ledger)
    shutil.copytree(backup, full.folder.root / "pixels", dirs_exist_ok=True)
    assert full.entries == listed
    full.series(keep_pixels=True).extract_data()
    assert full.entries == after
    full.check()


def test_files_that_are_not_listed_are_swept_where_they_are_of_no_use(full: Kept) -> None:
    first = {product: entry.path(full.folder) for product, entry in full.entries.items()}
    saved = {product: shutil.copy2(path, full.extraction.parent) for product, path in first.items()}
    full.series(keep_pixels=["B11"]).extract_data()
    listed = full.entries
    older, fewer, damaged, half, other = sorted(first)
    for product in (older, fewer, damaged, half):
        shutil.copy2(saved[product], first[product])
    for product in (damaged, half):
        listed[product].path(full.folder).unlink()
    flip(first[damaged])
    first[half].write_bytes(first[half].read_bytes()[:-1])
    renamed = first[older].with_name(first[older].name.replace(older, other))
    shutil.copyfile(saved[older], renamed)
    content = pixel_file({"product": other}, {}, load_positions(full.folder.pixels(TILE), listed[other].positions))
    bare = full.folder.pixel_file(listed[other].id, content_digest(content))
    bare.write_bytes(content)
    for path in (first[fewer], first[damaged], renamed, bare):
        os.utime(path)
    done = full.series(keep_pixels=True).extract_data()
    assert done.pixels == 2  # B04 and B08 of the damaged and of the half one are read again
    assert not any("entered again" in note for note in done.notes)
    assert not any(path.exists() for path in (first[older], first[fewer], renamed, bare))
    full.check()


def test_files_of_another_version_of_the_format_stay(full: Kept) -> None:
    files = {path: path.read_bytes().replace(b'"format":1,', b'"format":2,') for path in full.folder.all_pixel_files()}
    for path, content in files.items():
        path.write_bytes(with_checksums(content))
    full.folder.ledger.unlink()
    changed = {path: path.read_bytes() for path in files}
    full.series(keep_pixels=["B03"], keep_margin=40).extract_data()
    assert {path: path.read_bytes() for path in files} == changed
    full.series().drop_pixels("2021-01-01")
    assert full.files == {path.name for path in files}
    full.series().drop_pixels()
    assert full.files == set()


def with_checksums(content: bytes) -> bytes:
    """Write the members of a file again, with checksums that fit them."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {}
        for info in file.infolist():
            begin = info.header_offset + 30 + len(info.filename)
            members[info.filename] = content[begin : begin + info.file_size]
    return write_members(members)


def test_pixels_of_some_dates_can_be_dropped_where_the_ledger_was_lost(full: Kept) -> None:
    before = full.entries
    full.folder.ledger.unlink()
    seen = full.series().drop_pixels("2021-11-01", "2021-11-30", dry_run=True)
    assert (seen.acquisitions, seen.files, seen.left) == (1, 1, 4)
    assert not full.folder.ledger.exists()
    done = full.series().drop_pixels("2021-11-01", "2021-11-30")
    assert (done.acquisitions, done.files, done.left) == (1, 1, 4)
    assert full.entries.items() < before.items()
    full.check()


def test_dropping_from_a_folder_that_cannot_be_used_is_one_sentence(
    full: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["pixels", str(full.layer), "--library", str(full.library), "--extraction", str(full.extraction)]
    command += ["--drop"]
    before = full.files
    wrong = CliRunner().invoke(main, [*command, "--extraction", str(full.folder.root)])
    assert (wrong.exit_code, wrong.output.count("\n")) == (1, 1)
    assert f"is the folder of one layer; pass the folder that it lies in, {full.extraction}" in wrong.output
    with locked(full.folder.root):
        ended = CliRunner().invoke(main, [*command, "--wait", "0"])
        assert (ended.exit_code, ended.output.count("\n")) == (1, 1)
        assert f"is held by process {os.getpid()} on " in ended.output
        ended = CliRunner().invoke(main, [*command, "--dry-run"])
        assert (ended.exit_code, ended.output.count("\n")) == (0, 1)
        assert "would be dropped" in ended.output

    def only_to_read(_: ImageLedger) -> Any:
        raise StoreError("ledger.sqlite cannot be used (attempt to write a readonly database).")

    monkeypatch.setattr(ImageLedger, "transaction", only_to_read)
    ended = CliRunner().invoke(main, command)
    assert (ended.exit_code, ended.output.count("\n")) == (1, 1)
    assert "attempt to write a readonly database" in ended.output
    assert full.files == before
    monkeypatch.undo()
    full.folder.ledger.write_bytes(b"no ledger at all, and long enough to be looked at by SQLite" * 20)
    ended = CliRunner().invoke(main, command)
    assert (ended.exit_code, ended.output.count("\n")) == (1, 1)
    assert "those in CSV files and kept pixels stay" in ended.output
    assert full.files == before
    full.folder.ledger.unlink()
    ended = CliRunner().invoke(main, command)
    assert (ended.exit_code, ended.output.count("\n")) == (0, 1)
    assert "Pixels of 5 acquisitions" in ended.output


def test_damage_is_mended_as_the_sentence_about_it_says(full: Kept) -> None:
    product = min(full.entries)
    path = full.entries[product].path(full.folder)
    flip(path)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": [CM004], "quiet": True, "pixels_from": full.folder.root}
    (error,) = (text for text in TimeSeries(full.layer, library=MemorySource([]), **asked).report["error"] if text)
    assert str(path) in error
    beside = TimeSeries(full.layer, library=full.library, **asked)
    assert not any(beside.report["error"])
    (note,) = (text for text in beside.notes if "are damaged" in text)
    for sentence in (error, note):
        assert "sen2chain update LAYER --keep-pixels --verify" in sentence
    assert full.series(keep_pixels=True).extract_data().pixels == 0  # its size is as it was
    done = full.series(keep_pixels=True, verify="first").extract_data()
    assert (done.images, done.pixels, done.pixels_kept, done.pixels_failed) == (0, 1, 4, 0)
    full.check()
    assert full.series(keep_pixels=True, verify="first").extract_data().pixels == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--keep-pixels", "PARCELS.gpkg"],
         "'PARCELS.gpkg' is not a band. Write --keep-pixels behind LAYER, or --keep-pixels=BANDS."),
        (["--keep-pixels", "no/parcels", "--index", "NDVI"], "'no/parcels' is not a band. Write --keep-pixels behind"),
        (["--keep-pixels=parcels.gpkg"], "'parcels.gpkg' is not a band.\n"),
        (["--verify", "parcels.gpkg"], "Write --verify behind LAYER, or --verify=first."),
        (["--keep-pixels", "--index", "NDVI"], "Missing argument 'LAYER'."),
        (["--keep-pixels", "B02", "--index", "NDVI"], "Missing argument 'LAYER'."),
    ],
)  # fmt: skip
def test_an_option_that_takes_the_layer_as_its_value_says_where_to_write_it(given: list[str], sentence: str) -> None:
    ended = CliRunner().invoke(main, ["update", *given])
    assert ended.exit_code == 2
    assert sentence in ended.output


def test_dropping_says_what_it_removes_and_leaves_all_rows(full: Kept) -> None:
    rows, before = full.rows(), full.entries
    seen = full.series().drop_pixels("2021-11-01", "2021-11-30", dry_run=True)
    assert (seen.acquisitions, seen.files, seen.left, seen.is_forecast) == (1, 1, 4, True)
    assert (str(seen.first), str(seen.last)) == ("2021-11-09", "2021-11-09")
    assert "would be dropped (1 file, " in str(seen)
    assert full.entries == before
    done = full.series().drop_pixels("2021-11-01", "2021-11-30")
    assert (done.acquisitions, done.files, done.size) == (seen.acquisitions, seen.files, seen.size)
    assert str(done).startswith("Pixels of 1 acquisition from 2021-11-09 to 2021-11-09 were dropped (1 file, ")
    full.check()
    assert len(full.entries) == 4
    rest = full.series().drop_pixels()
    assert (rest.acquisitions, rest.files, rest.left) == (4, 5, 0)
    assert full.files == set()
    assert full.rows() == rows
    assert str(full.series().drop_pixels()) == "No kept pixels to drop."
    assert full.series(keep_pixels=True).extract_data().pixels == 5


def test_what_cannot_be_dropped(kept: Kept) -> None:
    with pytest.raises(StoreError, match=r"Nothing of the layer.*\(extraction, --extraction\)"):
        kept.series().drop_pixels()
    with pytest.raises(RequestError, match="first 2022-01-01 is after last 2021-01-01"):
        kept.series().drop_pixels("2022-01-01", "2021-01-01")
    with pytest.raises(RequestError, match="first is 'soon'; allowed: a date"):
        kept.series().drop_pixels("soon")


def test_dropping_removes_what_another_version_of_the_format_has_left(full: Kept) -> None:
    with ImageLedger(full.folder.ledger) as ledger:
        ledger.set_fact("pixel_format", "2")
    before, rows = full.entries, full.rows()
    seen = full.series(keep_pixels=["B03"]).extract_data(getstat=False)
    assert any("format 2 of another version" in note for note in seen.notes)
    done = full.series(keep_pixels=True, indices=["NDVI", "NDWIGAO"]).extract_data()
    assert done.images == 5
    assert (done.pixels, done.pixels_failed) == (0, 5)
    (note,) = (note for note in done.notes if "format 2 of another version" in note)
    assert note.startswith("Pixels of 5 acquisitions could not be kept, or not all: Pixels cannot be kept in ")
    assert full.entries == before
    assert rows.items() <= full.rows().items()
    full.series().drop_pixels()
    assert full.series(keep_pixels=True).extract_data().pixels == 5


@pytest.mark.parametrize("place", ["positions", "pixels"])
def test_a_full_disk_costs_pixels_and_no_rows(kept: Kept, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    real = atomic.sync

    def full(file: Any) -> None:
        is_positions = file.tell() < 1500
        if "/pixels/" in str(file.name) and is_positions == (place == "positions"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(atomic, "sync", full)
    done = kept.series(keep_pixels=True).extract_data()
    assert done.images == 5
    assert (done.pixels, done.pixels_failed, done.pixel_bytes) == (0, 5, 0)
    assert any("No room is left on the disk for" in note for note in done.notes)
    assert not kept.entries
    monkeypatch.setattr(atomic, "sync", real)
    assert not list(kept.extraction.rglob("*.tmp"))
    again = kept.series(keep_pixels=True).extract_data()
    assert (again.images, again.pixels) == (0, 5)
    kept.check()


def test_room_is_left_for_rows(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_folder, "free_bytes", lambda _: 1 << 20)
    done = kept.series(keep_pixels=True).extract_data()
    assert (done.images, done.pixels_failed) == (5, 5)
    assert any("No room is left on the disk for kept pixels" in note for note in done.notes)
    assert kept.files == set()


def test_a_folder_that_cannot_be_made_costs_pixels_and_no_rows_and_the_command_says_so(kept: Kept) -> None:
    kept.series(keep_pixels=True, date_max="2021-10-31").extract_data()
    shutil.rmtree(kept.folder.root / "pixels")
    (kept.folder.root / "pixels").write_text("in the way")
    command = [
        "update", str(kept.layer), "--library", str(kept.library), "--extraction", str(kept.extraction),
        "--index", "NDVI", "--mask", "CM004", "--keep-pixels",
    ]  # fmt: skip
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 4, ended.output
    assert "A part of the pixels could not be kept; all rows are there. Pixels of 5 acquisitions" in ended.output
    assert len(kept.rows()) == 5
    (kept.folder.root / "pixels").unlink()
    ended = CliRunner().invoke(main, [*command, "B03,B04"])
    assert ended.exit_code == 0, ended.output
    assert "Pixels: those of 5 acquisitions kept" in ended.output
    kept.check()
    shown = CliRunner().invoke(main, ["show", str(kept.folder.root)], env={"COLUMNS": "200"})
    assert "Kept pixels" in shown.output
    assert "B03, B04, SCL, CLDPRB" in shown.output
    (stored,) = contents_of(kept.folder).pixels
    assert (stored.acquisitions, stored.partly, stored.lost, stored.margin) == (5, 0, 0, 300.0)
    assert stored.size == sum(entry.size for entry in kept.entries.values())


@contextlib.contextmanager
def no_file_of_pixels_can_be_removed() -> Iterator[None]:
    """Refuse to remove them, as in a folder where users may add files and remove their own alone."""
    unlink = Path.unlink

    def refused(path: Path, **options: Any) -> None:
        if path.suffix in {".pixels", ".positions"}:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        yield


def test_files_that_cannot_be_removed_stay_for_the_next_run_and_cost_nothing(full: Kept) -> None:
    before, rows = full.files, full.rows()
    with no_file_of_pixels_can_be_removed():
        done = full.series(keep_pixels=["B03"]).extract_data()
        assert (done.pixels, done.pixels_failed) == (5, 0)
        assert before < full.files
        assert full.rows().keys() == rows.keys()
    full.series(keep_pixels=["B03"]).extract_data()
    full.check()


def test_files_that_cannot_be_dropped_are_told_in_one_sentence(full: Kept) -> None:
    command = ["pixels", str(full.layer), "--library", str(full.library), "--extraction", str(full.extraction)]
    with no_file_of_pixels_can_be_removed():
        ended = CliRunner().invoke(main, [*command, "--drop"])
    assert (ended.exit_code, ended.output.count("\n")) == (1, 1)
    assert "6 files of kept pixels cannot be removed, as " in ended.output
    assert ": Operation not permitted; make it possible to remove files there, and drop them again." in ended.output
    ended = CliRunner().invoke(main, [*command, "--drop"])
    assert ended.exit_code == 0
    assert "Pixels of 5 acquisitions" in ended.output
    assert full.files == set()


def test_options_that_cannot_be_used(kept: Kept) -> None:
    command = ["update", str(kept.layer), "--library", str(kept.library), "--extraction", str(kept.extraction)]
    ended = CliRunner().invoke(main, [*command, "--keep-pixels", "B4"])
    assert ended.exit_code == 2
    assert "Unknown band 'B4'" in ended.output
    ended = CliRunner().invoke(main, [*command, "--keep-pixels", "B04", "--keep-margin", "-3"])
    assert ended.exit_code == 2
    assert "--keep-margin is -3" in ended.output
    assert not kept.extraction.exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    series = kept.series(keep_pixels=["B11", "B04"])
    product = str(series.plan.tasks[0].product)
    from sen2chain.extract import extraction  # noqa: PLC0415  # as the executor finds it

    real = extraction.Extraction.run

    def run(self: extraction.Extraction) -> Any:
        result = real(self)
        if str(self.task.product) == product and self.task.keep is not None:
            change(kept.path_of(product, "B11"))
        return result

    monkeypatch.setattr(extraction.Extraction, "run", run)
    done = series.extract_data()
    assert (done.images, done.changed, done.pixels, done.pixels_failed) == (5, 0, 4, 1)
    assert any("changed while being read" in note for note in done.notes)
    assert product not in kept.entries
    monkeypatch.undo()
    assert kept.series(keep_pixels=["B11", "B04"]).extract_data().pixels == 1


def test_bands_that_the_archive_lacks_are_said(kept: Kept) -> None:
    kept.path_of(min(path.stem for path in kept.library.rglob("*.SAFE")), "B11").unlink()
    done = kept.series(keep_pixels=["B11", "B12"]).extract_data()
    assert "5 acquisitions lack B12, or scale and offsets, so it is not kept of them." in done.notes
    assert "1 acquisition lacks B11, or scale and offsets, so it is not kept of them." in done.notes
    assert done.pixels_failed == 0
    kept.check()


def test_a_broken_band_costs_its_own_pixels_alone(kept: Kept) -> None:
    product = min(path.stem for path in kept.library.rglob("*.SAFE"))
    path = kept.path_of(product, "B11")
    path.unlink()
    path.write_bytes(b"no raster")
    done = kept.series(keep_pixels=["B08", "B11"]).extract_data()
    assert (done.images, done.pixels, done.pixels_failed) == (5, 4, 1)
    assert set(kept.entries[product].rasters) == {"B08"} | QUALITY
    again = kept.series(keep_pixels=["B08", "B11"]).extract_data()
    assert (again.images, again.pixels, again.pixels_failed, again.pixels_kept) == (0, 0, 1, 4)


def test_index_rasters_alone_decode_no_band_and_a_note_says_so(tmp_path: Path) -> None:
    scene = demo.Scene(
        tiles=(TILE,), size=60, parcels=4, overpasses=demo.season(1), bands=("B04", "B08", "SCL", "CLDPRB"),
        indices=("NDVI",),
    )  # fmt: skip
    made = demo.build(tmp_path / "archive", scene)
    kept = Kept(made.library, made.layer, tmp_path / "extraction")
    done = kept.series(keep_pixels=True).extract_data()
    assert any(note.startswith("No band is decoded, since NDVI comes from rasters of the index") for note in done.notes)
    assert [set(entry.rasters) for entry in kept.entries.values()] == [QUALITY]
    kept.check()


def test_other_folders_of_the_layer_have_pixels_of_their_own(kept: Kept) -> None:
    kept.series(keep_pixels=True, date_max="2021-10-31").extract_data()
    kept.series(keep_pixels=True, date_max="2021-10-31", buffer=20).extract_data()
    found = ExtractionFolder.all_in(kept.extraction)
    assert len(found) == 2
    sizes = []
    for folder in found:
        with ImageLedger(folder.ledger, read_only=True) as ledger:
            (entry,) = KeptCatalogue(ledger).entries().values()
        with PixelFile.open(entry.path(folder)) as file:
            sizes.append(file.positions_of("B08").size)
    assert sizes[0] != sizes[1]


def test_pixels_of_another_product_under_a_name_are_refused(full: Kept) -> None:
    one, other, *_ = sorted(full.entries.values(), key=lambda entry: entry.product)
    shutil.copyfile(other.path(full.folder), one.path(full.folder))
    with pytest.raises(KeptPixelsError, match="it holds the pixels of"):
        PixelFile.open(one.path(full.folder))


def test_bands_of_products_that_are_gone_are_said(kept: Kept) -> None:
    kept.series(keep_pixels=["B04", "B08"]).extract_data()
    gone = min(kept.library.rglob("*.SAFE"), key=lambda path: path.name)
    shutil.rmtree(gone)
    here = {"pixels_from": kept.folder.root}
    done = kept.series(keep_pixels=["B04", "B08"], **here).extract_data()
    assert not any("are not kept" in note for note in done.notes)
    done = kept.series(keep_pixels=["B03", "B04"], **here).extract_data()
    what = "Pixels of 1 acquisition are not kept, or not of all bands, since the archive does not have them"
    assert f"{what}: {gone.stem}." in done.notes
