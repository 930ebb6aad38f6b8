"""Files are compared with the checksums that a product lists of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive.checksums import Manifest, read_manifest
from sen2chain.cli import main
from sen2chain.errors import UnknownNameError, UnreadableError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Two products: one with MD5, one with SHA3-256."""
    dates = demo.season(12)
    scene = demo.Scene(
        size=60, parcels=3, tiles=("32TPS",), overpasses=(dates[0], dates[-1]), bands=("B04", "B08", "SCL", "CLDPRB")
    )
    return demo.build(tmp_path_factory.mktemp("archive"), scene)


@pytest.fixture
def l2a(archive: demo.DemoArchive, tmp_path: Path) -> Path:
    return shutil.copytree(archive.library / "data" / "L2A", tmp_path / "L2A")


def extract(archive: demo.DemoArchive, l2a: Path, verify: str = "first", **options: Any) -> TimeSeries:
    keywords: dict[str, Any] = {"indices": ["NDVI"], "cm_version": "CM001", "safe": l2a, "verify": verify, **options}
    return TimeSeries(archive.layer, **keywords).run()


def earliest(l2a: Path, name: str = "B04_10m.jp2") -> Path:
    """Return a file of the product that was sensed first."""
    return min(l2a.rglob(f"*{name}"), key=lambda path: path.relative_to(l2a).parts[1].split("_")[2])


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_demo_lists_every_file_under_both_kinds_of_checksum(archive: demo.DemoArchive) -> None:
    kinds = set()
    for manifest in archive.library.rglob("manifest.safe"):
        listed = read_manifest(str(manifest))
        files = {path.relative_to(manifest.parent).as_posix() for path in manifest.parent.rglob("*") if path.is_file()}
        assert listed.keys() == files - {"manifest.safe"}
        kinds |= {entry.algorithm for entry in listed.values()}
        for name in listed:
            Manifest(str(manifest)).check(str(manifest.parent / name))
    assert kinds == {"MD5", "SHA3-256"}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["B04_10m.jp2", "MSK_CLDPRB_20m.jp2", "MTD_MSIL2A.xml"])
def test_one_flipped_bit_makes_the_product_unreadable(
    archive: demo.DemoArchive, l2a: Path, name: str, *, zipped: bool
) -> None:
    whole = extract(archive, l2a)
    assert not whole.incomplete
    assert whole.notes == []
    damaged = earliest(l2a, name)
    flip(damaged)
    if zipped:
        for safe in l2a.glob("*/*.SAFE"):
            shutil.make_archive(str(safe), "zip", safe.parent, safe.name)
            shutil.rmtree(safe)
    series = extract(archive, l2a)
    report = series.report
    assert series.incomplete
    assert report["rows"].gt(0).tolist() == [False, True]
    assert report["unreadable"].gt(0).tolist() == [True, False]
    assert damaged.name in report["error"][0]
    assert "checksum" in report["error"][0]


def test_a_file_of_another_size_and_one_that_is_not_read(archive: demo.DemoArchive, l2a: Path) -> None:
    flip(earliest(l2a, "SCL_20m.jp2"))
    assert not extract(archive, l2a).incomplete  # CM001 does not read SCL
    with earliest(l2a).open("ab") as file:
        file.write(b"\0")
    assert "bytes and not the" in extract(archive, l2a).report["error"][0]


def test_a_band_that_no_row_needs_is_compared_too(archive: demo.DemoArchive, l2a: Path) -> None:
    """Under a mask that removes every pixel no band is decoded, so only its checksum tells the damage."""
    every = f"SCL-{'-'.join(map(str, range(12)))}-ITER0"
    flip(earliest(l2a))
    report = extract(archive, l2a, cm_version=every).report
    assert report["unreadable"].gt(0).tolist() == [True, False]
    assert "checksum" in report["error"][0]
    assert not extract(archive, l2a, "never", cm_version=every).report["unreadable"].any()


def test_without_a_manifest_there_is_one_note(archive: demo.DemoArchive, l2a: Path, tmp_path: Path) -> None:
    for manifest in l2a.rglob("manifest.safe"):
        manifest.unlink()
    series = extract(archive, l2a)
    assert not series.incomplete
    assert series.notes == ["2 products have no manifest.safe, so checksums could not be compared."]
    assert extract(archive, l2a, "never").notes == []
    compiled = TimeSeriesCompil(
        archive.layer, ["NDVI"], cm_version="CM001", safe=l2a, extraction=tmp_path / "series", verify="first"
    )
    assert "2 products have no manifest.safe" in " ".join(compiled.extract_data().notes)
    assert compiled.extract_data().notes == []  # nothing is read any more


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cannot be read"),
        ("<a/>", "lists no file"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "cannot be read"),
        ("sum of another kind", "unknown kind"),
    ],
)
def test_a_manifest_that_cannot_be_used(archive: demo.DemoArchive, l2a: Path, text: str, part: str) -> None:
    manifest = earliest(l2a, "manifest.safe")
    kind = manifest.read_text(encoding="utf-8").replace('"MD5"', '"CRC-99"')
    manifest.write_text(kind if part == "unknown kind" else text, encoding="utf-8")
    report = extract(archive, l2a).report
    assert part in report["error"][0]
    assert report["rows"].gt(0).tolist() == [False, True]
    assert extract(archive, l2a, "never").report["rows"].gt(0).all()


def test_an_update_verifies_what_it_extracts(archive: demo.DemoArchive, l2a: Path, tmp_path: Path) -> None:
    words = [
        "update", str(archive.layer), "--safe", str(l2a), "--extraction", str(tmp_path / "series"), "--index", "NDVI",
        "--mask", "CM001", "--verify",
    ]  # fmt: skip
    flip(earliest(l2a))
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 4, first.output
    assert "checksum" in first.output
    flip(earliest(l2a))
    os.utime(earliest(l2a), (1, 1))
    again = CliRunner().invoke(main, [*words[:-1], "--verify", "first"])
    assert again.exit_code == 0, again.output


def test_metadata_of_another_product_serve_none(archive: demo.DemoArchive, l2a: Path) -> None:
    first, second = sorted(l2a.rglob("MTD_MSIL2A.xml"))
    first.write_bytes(second.read_bytes())
    report = extract(archive, l2a, "never").report.sort_values("acquisition")
    assert report["unreadable"].gt(0).tolist() == [True, False]
    assert all(name in report["error"].iloc[0] for name in (first.parent.stem, second.parent.stem))


def test_other_words_are_refused(archive: demo.DemoArchive, l2a: Path) -> None:
    with pytest.raises(UnknownNameError, match="never, first"):
        extract(archive, l2a, "sometimes")


def test_a_real_manifest(shared_data: Path, tmp_path: Path) -> None:
    [manifest] = (shared_data / "ireland").rglob("manifest.safe")
    listed = read_manifest(str(manifest))
    assert len(listed) == 86
    there = [manifest.parent / name for name in listed if (manifest.parent / name).is_file()]
    assert len(there) == 11
    small = min(there, key=lambda path: path.stat().st_size)
    for path in there:
        Manifest(str(manifest)).check(str(path))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        for path in (manifest, small):
            opened.write(path, f"x.SAFE/{path.relative_to(manifest.parent)}")
        opened.writestr("x.SAFE/INSPIRE.xml", "other")
    zipped = Manifest(f"/vsizip/{tmp_path}/x.zip/x.SAFE/manifest.safe")
    zipped.check(f"/vsizip/{tmp_path}/x.zip/x.SAFE/{small.relative_to(manifest.parent)}")
    zipped.check("/elsewhere/x.jp2")
    with pytest.raises(UnreadableError, match=r"INSPIRE.xml has 5 bytes"):
        zipped.check(f"/vsizip/{tmp_path}/x.zip/x.SAFE/INSPIRE.xml")


@pytest.mark.parametrize(
    ("name", "digest", "part"),
    [
        ("MD5", "\u00e9" * 32, "another MD5 checksum"),
        ("SHAKE-128", "00", "unknown kind"),
        ("SHAKE-256", "", "unknown kind"),
    ],
)
def test_an_odd_checksum_is_a_sentence(tmp_path: Path, name: str, digest: str, part: str) -> None:
    stream = f'<fileLocation href="./x"/><checksum checksumName="{name}">{digest}</checksum>'
    (tmp_path / "manifest.safe").write_text(f"<a><byteStream>{stream}</byteStream></a>", encoding="utf-8")
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(UnreadableError, match=part):
        Manifest(str(tmp_path / "manifest.safe")).check(str(tmp_path / "x"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_a_zip_file_of_any_method_is_a_sentence(tmp_path: Path, method: int) -> None:
    text = "<a>" + "".join(f"<b>{n}</b>" for n in range(200)) + "</a>"
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as opened:
        opened.writestr("manifest.safe", text)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    start = content.index(b"manifest.safe") + 40
    content[start : start + 60] = bytes(byte ^ 0xFF for byte in content[start : start + 60])
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_manifest(f"/vsizip/{tmp_path}/x.zip/manifest.safe")


@pytest.mark.parametrize("name", ["MD5", "SHA3-256", "SHA-256", "SHA256", "sha-1", "SHA3-512", "SHA-512"])
def test_names_of_checksums(tmp_path: Path, name: str) -> None:
    algorithm = name.lower().replace("sha-", "sha").replace("-", "_")
    digest = hashlib.new(algorithm, b"x").hexdigest().upper()
    stream = f'<fileLocation href="./x"/><checksum checksumName="{name}">{digest}</checksum>'
    (tmp_path / "manifest.safe").write_text(f"<a><byteStream>{stream}</byteStream></a>", encoding="utf-8")
    (tmp_path / "x").write_bytes(b"x")
    Manifest(str(tmp_path / "manifest.safe")).check(str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"y")
    with pytest.raises(UnreadableError, match=f"another {name} checksum"):
        Manifest(str(tmp_path / "manifest.safe")).check(str(tmp_path / "x"))
