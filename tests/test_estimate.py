from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from click.testing import CliRunner

from sen2chain import TimeSeries, demo
from sen2chain.cli import main
from sen2chain.progress import lasting, sized
from sen2chain.rasters import Raster, counting, environment

if TYPE_CHECKING:
    from pathlib import Path

SMALL = demo.Scene(size=180, parcels=12, overpasses=demo.DEFAULT.overpasses[:3], bands=("B04", "B08", "SCL", "CLDPRB"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("small"), SMALL)


def series(archive: demo.DemoArchive, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {"indices": ["NDVI"], "masks": "none", "library": archive.library, "quiet": True}
    return TimeSeries(archive.layer, **options | asked)


def test_pixels_are_those_that_a_run_decodes(small: demo.DemoArchive) -> None:
    made = series(small)
    with counting() as looked:
        estimate = made.estimate()
    assert not looked.blocks
    with counting() as counts:
        made.run()
    decoded = 0
    for (location, row, column), times in counts.blocks.items():
        with environment(), Raster(location) as raster:
            (height, width), (rows, columns) = raster.grid.shape, raster.block_shape
            decoded += times * min(rows, height - row * rows) * min(columns, width - column * columns)
    # A feature at the border of a block may need a few pixels of it only, of a block of 64 x 64.
    assert decoded * 0.5 <= estimate.pixels <= decoded * 1.05
    assert 0 < estimate.seconds < 60


def test_rows_acquisitions_and_sources_are_those_of_the_run(small: demo.DemoArchive) -> None:
    made = series(small, indices=["NDVI", "NBR"], masks=["none", "CM004"])
    estimate = made.estimate()
    assert estimate.acquisitions == len(made.plan.tasks)
    assert estimate.tiles == ("31TGJ", "32TLP")
    assert {key: (s.acquisitions, s.missing) for key, s in estimate.served.items()} == {
        (index, mask.name): (len(made.plan.tasks), 0) if index == "NDVI" else (0, len(made.plan.tasks))
        for mask in made.request.masks
        for index in ("NDVI", "NBR")
    }
    served = estimate.served["NDVI", made.request.masks[1].name]
    assert dict(served.sources) == {"bands, computed": len(made.plan.tasks)}
    assert "B12" in estimate.served["NBR", "none"].detail
    superseded = made.report["superseded"].sum()
    assert made.rows <= made.rows + superseded <= estimate.rows
    assert estimate.rows <= len(made.plan.tasks) * len(made.layer) * 2


def test_the_size_is_about_that_of_the_csv(small: demo.DemoArchive, tmp_path: Path) -> None:
    made = series(small)
    estimate = made.estimate()
    (file,) = made.to_csv(tmp_path)
    per_row = file.stat().st_size / len(pd.read_csv(file))
    assert estimate.csv_bytes / estimate.rows == pytest.approx(per_row, rel=0.25)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"date_min": "2099-01-01"}, "check date_min"), ({"indices": ["NBR"]}, "B12"),
        ({"cover_min": 99.9}, "cloud cover"),
    ],
)  # fmt: skip
def test_why_there_is_nothing(small: demo.DemoArchive, asked: dict[str, Any], why: str) -> None:
    estimate = series(small, **asked).estimate()
    assert estimate.rows == 0
    assert why in estimate.why_nothing
    assert why in str(estimate)
    assert repr(estimate) == str(estimate)
    assert why in estimate._repr_html_()


@pytest.mark.parametrize("masks", ["none", ["CM004"]])
def test_rasters_that_cannot_be_opened_are_why_there_is_nothing(
    small: demo.DemoArchive, tmp_path: Path, masks: Any
) -> None:
    library = tmp_path / "library"
    shutil.copytree(small.library, library)
    bands = sorted(library.rglob("*_B0[48]_*.jp2"))
    assert bands
    for path in bands:
        path.write_bytes(b"")
    estimate = series(small, library=library, masks=masks).estimate()
    assert "cannot be read: " in estimate.why_nothing
    assert any(path.name in estimate.why_nothing for path in bands)
    code, said = run(str(small.layer), "--library", str(library), "--index", "NDVI", "--mask", "none", "--dry-run")
    assert code == 3
    assert "cannot be read" in said
    assert "No feature has a pixel" not in said


def test_one_broken_product_leaves_the_estimate_of_the_others(small: demo.DemoArchive, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(small.library, library)
    last = series(small).plan.tasks[-1].product
    for path in library.rglob("*_B0[48]_*.jp2"):
        if str(last) in str(path):
            path.write_bytes(b"")
    whole, estimate = series(small).estimate(), series(small, library=library).estimate()
    assert not estimate.why_nothing
    assert estimate.rows == whole.rows
    assert any(f"{last} cannot be read" in note for note in estimate.notes)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["extract", *words])
    return result.exit_code, result.output


def test_the_command_tells_and_writes_nothing(small: demo.DemoArchive, tmp_path: Path) -> None:
    asked = [str(small.layer), "--library", str(small.library), "--index", "NDVI", "--dry-run"]
    asked += ["--out", str(tmp_path / "out")]
    code, said = run(*asked, "--id", "crop")
    assert code == 0
    for part in ("bands, computed", "12 features", "31TGJ, 32TLP", "million pixels", "as CSV", "crop is not unique"):
        assert part in said
    assert not (tmp_path / "out").exists()
    assert run(*asked, "--quiet") == (0, "")
    code, said = run(*asked, "--from", "2099-01-01")
    assert code == 3
    assert "Nothing would be extracted. The archive has no product" in said


def test_times_and_sizes_are_told_in_words() -> None:
    assert [lasting(s) for s in (0, 9, 42, 300, 7300)] == [
        "a few seconds", "a few seconds", "about 42 seconds", "about 5 minutes", "about 2.0 hours",
    ]  # fmt: skip
    assert [sized(n) for n in (0, 999, 1_500, 2_000_000, 3_210_000_000)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.0 MB", "3.2 GB",
    ]  # fmt: skip
