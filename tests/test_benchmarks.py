"""Every part of every benchmark runs, on a tile of a few hundred pixels; what it measures there means nothing."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio.features
import scipy.ndimage

from benchmarks import __main__ as whole
from benchmarks import archive, compiled, jp2_rows, kept_pixels, remote, smoothing
from benchmarks.report import Report

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))  # benchmarks set it, and it is set back


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # a peer's own
@pytest.mark.parametrize("part", whole.PARTS)
def test_parts_beside_peers(part: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / f"{part}.md"
    some = "safe-S,safe-district,legacy-S,zip-S,clouds,overcast,threads-M,update,memory-S,decode"
    whole.main([
        "--folder", str(folder), "--out", str(out), "--tile", "360", "--sizes", "S", "--repeats", "1", "--parts", part,
        "--rows", some, "--products", "1",
    ])  # fmt: skip
    text = out.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) >= 2
    assert not re.search(r"\bnan\b", text)
    if part == "peers" and not find_spec("extractrs"):
        assert "extractrs not installed" in text
        print("left out: extractrs, which is not installed")  # noqa: T201  # shown where the test fails, and with -s
    assert f"{out} written" in capsys.readouterr().out


def test_tables_keep_what_a_later_run_does_not_measure(tmp_path: Path) -> None:
    out = tmp_path / "table.md"

    def run(**tables: dict[str, str]) -> list[str]:
        report = Report(1, 60.0)
        for title, order in (("Peers", ()), ("Rows", ("a", "b", "c")), ("Others", ("x",))):
            table = report.table(title, "Seconds.", order) if order or title in tables else None
            for name, seconds in tables.get(title, {}).items():
                assert table is not None
                table.row({"run": name, "s": seconds})
        report.write(out)
        return [line for line in out.read_text(encoding="utf-8").splitlines() if line.startswith(("#", "| "))]

    run(Peers={"p": "1"}, Rows={"c": "2", "a": "3"})
    run(Rows={"b": "4", "c": "5"})
    assert run(Others={"x": "6"}) == [
        "### Peers", "| run | s |", "| p | 1 |",
        "### Rows", "| run | s |", "| a | 3 |", "| b | 4 |", "| c | 5 |",
        "### Others", "| run | s |", "| x | 6 |",
    ]  # fmt: skip
    assert run(Peers={"q": "7"})[:3] == ["### Peers", "| run | s |", "| q | 7 |"]


def test_unknown_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="there are safe-S"):
        jp2_rows.chosen("safe-S,decoding")
    assert jp2_rows.chosen("zip,update-S") == ["zip-S", "zip-M", "update-S"]


def test_clouds_cover_the_share_of_the_features(folder: Path) -> None:
    size = 720
    layer = archive.layer(folder, "XL", size)
    sky = archive.clouds_over(layer, size)
    cloud = sky(np.full((size // 2, size // 2), 8, np.uint8)) == 9
    frame = archive.scene(size).frames()[0]
    parcels = archive.read_in_utm(layer).geometry
    covered = 0
    for parcel in parcels:
        inside = rasterio.features.geometry_mask(
            [parcel], cloud.shape, frame.transform(20), all_touched=True, invert=True
        )
        covered += bool(cloud[inside].all())
    assert covered / len(parcels) == pytest.approx(archive.CLOUDED, abs=0.06)
    assert scipy.ndimage.label(cloud)[1] <= 12  # wide clouds, not specks


def test_a_district_is_as_dense_as_the_largest_layer(folder: Path) -> None:
    parcels = archive.read_in_utm(archive.layer(folder, "district", archive.FULL))
    assert len(parcels) == archive.DISTRICT
    west, south, east, north = parcels.total_bounds
    assert (east - west) * (north - south) == pytest.approx(
        archive.DISTRICT / archive.SIZES["XL"] * 109_800**2, rel=0.05
    )


@pytest.mark.parametrize("part", ["nothing", "compile", "dates"])
def test_parts_of_compiled_series(part: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compiled.main([
        "--folder", str(folder / "compiled"), "--parts", part, "--polygons", "30", "--acquisitions", "3",
        "--dates", "4", "--few", "20", "--many", "6", "--repeats", "1",
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert {"nothing": "Nothing new: 3 acquisitions", "compile": "| 120 |", "dates": "| 6 |"}[part] in said
    if part == "compile" and not find_spec("duckdb"):
        assert "| not installed |" in said
        print("left out: DuckDB, which is not installed")  # noqa: T201  # shown where the test fails, and with -s


def test_kept_pixels(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder / "kept.md"
    setting = kept_pixels.Setting(folder, 360, 4, 2, 1, 150.0)

    def here(setting: kept_pixels.Setting, *work: str) -> kept_pixels.Measured:
        kept_pixels.WORK[work[0]](setting, *work[1:])
        return kept_pixels.Measured(1.0 + len(work), 2.0, 3.0)

    options = ["--folder", str(folder), "--out", str(out), "--tile", "360", "--dates", "4", "--sample", "2"]
    archive.build(folder, 360)
    assert kept_pixels.child(setting, "ask", "M", "safe", "1").seconds > 0
    with pytest.raises(RuntimeError, match="ask M nowhere 1 ended with exit code 1"):
        kept_pixels.child(setting, "ask", "M", "nowhere", "1")
    monkeypatch.setattr(kept_pixels, "child", here)  # a process for each run would take a minute
    parts = ("keep-M", "fill-M", "safe-M", "cog-M", "ask-M", *(("size",) if kept_pixels.SHARED.exists() else ()))
    kept_pixels.main([*options, "--repeats", "1", "--parts", ",".join(parts)])
    said, text = capsys.readouterr().out, out.read_text(encoding="utf-8")
    assert "4 of 4 dates are kept" in said
    assert re.search(r"rows compared: [1-9]", said)
    assert text.count("| `--keep-pixels") == 4
    assert "| COG bands" in text
    assert not re.search(r"\bnan\b", text)


def test_smoothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "SPEED", ((20, 1),))
    monkeypatch.setattr(smoothing, "TURNS", 2)
    smoothing.main(["--features", "3"])
    said = capsys.readouterr().out
    assert len(re.findall(r"^\| (?:one|two) orbit", said, re.MULTILINE)) == len(smoothing.CASES) * len(smoothing.ways())
    assert "| 20 dates in 1 year |" in said


def test_a_tenth_of_the_remote_files(capsys: pytest.CaptureFixture[str]) -> None:
    found = remote.measure(acquisitions=10, parcels=50, latency=0.05)  # it compares the rows with those of local files
    assert 4 * 10 < found["requests"] < 4 * 10 * 51
    assert found["most at once"] <= remote.AT_ONCE
    assert "times faster" in capsys.readouterr().out
