"""Every part of every benchmark runs, on a tile of a few hundred pixels; what it measures there means nothing."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as whole
from benchmarks import compiled, smoothing

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
    whole.main([
        "--folder", str(folder), "--out", str(out), "--tile", "360", "--sizes", "S", "--repeats", "1", "--parts", part
    ])  # fmt: skip
    text = out.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) >= 2
    assert not re.search(r"\bnan\b", text)
    if part == "peers" and not find_spec("extractrs"):
        assert "extractrs not installed" in text
        print("left out: extractrs, which is not installed")  # noqa: T201  # shown where the test fails, and with -s
    assert f"{out} written" in capsys.readouterr().out


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


def test_smoothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "SPEED", ((20, 1),))
    smoothing.main(["--features", "3"])
    said = capsys.readouterr().out
    assert len(re.findall(r"^\| (?:one|two) orbit", said, re.MULTILINE)) == len(smoothing.CASES) * len(smoothing.ways())
    assert "| 20 dates in 1 year |" in said
