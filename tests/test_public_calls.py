"""Whatever is passed to a public call, it ends well or in one of our errors, in one sentence."""

from __future__ import annotations

import decimal
import fractions
import inspect
import math
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from sen2chain import Index, JobExtraction, Library, Mask, TimeSeries, TimeSeriesCompil, settings
from sen2chain.demo import Scene, season
from sen2chain.demo.build import build
from sen2chain.errors import OutputError, RequestError, Sen2ChainError
from sen2chain.extract import resolve_executor
from sen2chain.plan import Request
from sen2chain.smoothing import Smoother, smooth_original
from sen2chain.timeseries.compilation import CompileRequest
from sen2chain.timeseries.smoothed_files import SmoothRequest
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sen2chain.demo import DemoArchive

ODD: tuple[Any, ...] = (
    None,
    "",
    "\0",
    "\ud800",
    "x" * 300,
    b"\xff",
    float("nan"),
    float("inf"),
    -1,
    10**5000,  # int() and str() refuse more than 4300 digits
    "9" * 5000,
    1e300,
    True,
    np.True_,
    np.float64("nan"),
    np.array([1, 2]),
    decimal.Decimal("NaN"),
    fractions.Fraction(10**400),
    1j,
    [None],
    {},
    object(),
    pd.NaT,
)
LAYER = gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(11, 46, 11.01, 46.01)], crs=4326)
SOON = {"quiet": True, "indices": ["NDVI"], "vectors_file": LAYER}


def ends_in_a_sentence(call: Callable[..., object], **options: Any) -> None:
    try:
        call(**options)
    except Sen2ChainError as error:
        assert "\n" not in str(error), options  # noqa: PT017  # either end is right


def parameters(call: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(call).parameters if name not in {"self", "multiproc"}]


@pytest.mark.parametrize("name", sorted({*parameters(TimeSeries), *parameters(TimeSeriesCompil)}))
def test_time_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for cls, more in ((TimeSeries, {}), (TimeSeriesCompil, {"extraction": tmp_path / "e"})):
        if name in parameters(cls):
            for odd in ODD:
                ends_in_a_sentence(cls, **{**SOON, "safe": tmp_path, **more, name: odd})


@pytest.mark.parametrize("method", ["produce", "info", "check", "convert"])
def test_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archive" / "L2A").mkdir(parents=True)
    call = getattr(Library(tmp_path / "archive"), method)
    needed = {"indices": "NDVI", "dry_run": True} if method == "produce" else {}
    for name in parameters(call):
        for odd in ODD:
            ends_in_a_sentence(call, **{**needed, name: odd})


def test_places_of_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for odd in ODD:
        for given in ({"library": odd}, {"safe": odd}, {"library": odd, "safe": tmp_path}):
            ends_in_a_sentence(Library, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        (Mask.parse, {"text": "CM004"}), (Mask, {"family": "OCM"}), (Mask.from_keywords, {"cm_version": "CM004"}),
        (Index, {"name": "X", "formula": "B04"}),
        (Smoother, {}), (JobExtraction, {"name": "x"}),
        (smooth_original, {"rows": pd.DataFrame({"date": ["2020-01-01"]}), "index": "NDVI"}),
        (CompileRequest.of_kind, {"kind": "monthly", "aggregate": "mean", "week": "iso"}),
    ],
)  # fmt: skip
def test_other_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., object], needed: dict[str, Any]
) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    for name in parameters(call):
        for odd in ODD:
            ends_in_a_sentence(call, **{**needed, name: odd})


BEYOND: tuple[Any, ...] = (
    -1, 10**400, -(10**5000), 10**5000, math.nan, math.inf, -math.inf, True, np.True_, "5", "9" * 5000, b"5", 1j,
    fractions.Fraction(10**400), decimal.Decimal(5), np.float32("nan"), np.int64(-1), np.array([5]), None,
)  # fmt: skip
"""Nothing that any option takes for a number, but for those that may be negative or None."""


@pytest.mark.parametrize(
    ("call", "name", "named", "good"),
    [
        (Request.build, "cover_min", "0 to 100", (0, np.int64(5), np.float32(0.5))),
        (Request.build, "cover_max", "0 to 100", (100, np.uint8(5))),
        (Request.build, "min_valid", "0 to 1", (0, 1, np.float64(0.5), fractions.Fraction(1, 2))),
        (Request.build, "buffer", "100,000", (None, -1, np.int64(-1), np.float64(10))),
        (Mask.from_keywords, "probability", "0 to 100", (0, np.int16(100))),
        (Mask.from_keywords, "iterations", "0 to 1000", (0, np.int64(1000))),
        (resolve_executor, "multiproc", "0 for all processors, or numbers from 0 to 4096", (0, np.int64(2))),
        (Smoother, "window_length", "odd numbers", (np.int64(5),)),
        (Smoother, "polyorder", "whole numbers", (0, np.int8(2))),
        (Smoother, "covermax", "above 0", (150, np.float32(5))),
        (Smoother, "scale", "above 0", (1, 1e4)),
        (SmoothRequest, "window_length", "odd numbers", (5,)),
        (settings.check_seconds, "value", "0 to 1000000000", (0, 1e9, np.int64(3))),
        (Scene, "size", "2 to 10980", (np.int64(2),)),
        (Scene, "parcels", "1 to 1000000", (1,)),
        (Scene, "seed", "0 to 9223372036854775807", (0, 2**40)),
        (season, "count", "0 to 10000", (0,)),
    ],
)  # fmt: skip
def test_numbers_beyond_any_sense_are_refused_with_their_range(
    call: Callable[..., object], name: str, named: str, good: tuple[Any, ...]
) -> None:
    needed: dict[Any, dict[str, Any]] = {
        Request.build: {"indices": "NDVI", "masks": "none", "keywords": {}}, SmoothRequest: {"method": "savgol"},
        settings.check_seconds: {"parameter": "value"},
    }  # fmt: skip
    options = needed.get(call, {})
    for odd in BEYOND:
        if name == "buffer" and (odd is None or (isinstance(odd, int | np.int64) and odd == -1)):
            continue
        with pytest.raises(RequestError) as caught:
            call(**options, **{name: odd})
        said = str(caught.value)
        assert said.startswith(f"{name} is "), said
        assert named in said
        assert len(said) < 250
    for one in good:
        made = call(**options, **{name: one})
        kept = getattr(made, name, None)
        assert not isinstance(kept, np.generic), "a report could not be written as JSON"


@pytest.mark.parametrize("name", ["nb_proc", "process_by_line", "delivery_timeout", "keep_runs"])
def test_numbers_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    job = JobExtraction("x")
    for odd in (*BEYOND, "", "x", " "):
        if odd != "5":
            with pytest.raises(RequestError, match=rf"^{name} is .*; allowed: whole numbers from [01] to "):
                setattr(job, name, odd)
    setattr(job, name, np.int64(5))
    assert getattr(job, name) == 5
    job.task_add(shapefile="x", max_clouds=5)
    for odd in (10**5000, -1, np.float64("nan")):
        ends_in_a_sentence(job.task_edit, i=odd)
        ends_in_a_sentence(job.task_edit, i=0, max_clouds=odd)


def test_numbers_in_names() -> None:
    for name in (
        "percentile_101", "percentile_1e400", f"percentile_{'9' * 5000}", f"percentile_5.{'0' * 5000}",
        "percentile_nan", "histogram:-1e308:1e308:5", f"histogram:0:1:{'9' * 5000}", "histogram:0:1:1001",
        "histogram:0:1e-300:9",
        "histogram:nan:1:5", "histogram:0:inf:5", "histogram:0:1:-5",
    ):  # fmt: skip
        with pytest.raises(RequestError) as caught:
            Statistics.of([name])
        assert len(str(caught.value)) < 400
    for text in (
        f"CM003-PRB{'9' * 5000}-ITER1", f"CM004-CSH1-CMP1-CHP1-TCI1-ITER{'9' * 5000}", f"SCL-{'9' * 5000}-ITER1",
        f"SCL-3-ITER{'9' * 5000}", f"OCM_v{'9' * 5000}", "CM003-PRB101-ITER1", "CM003-PRB1-ITER1001", "SCL-12-ITER1",
    ):  # fmt: skip
        with pytest.raises(RequestError) as caught:
            Mask.parse(text)
        assert len(str(caught.value)) < 400
    for formula in ("9" * 499 + "*B04", "0x" + "f" * 480 + "*B04", "1e400*B04", "B04*True", "1j*B04"):
        with pytest.raises(RequestError):
            Index("X", formula)
    with pytest.raises(RequestError, match="SCL classes"):
        Mask("SCL", classes=(10**5000,))


@pytest.mark.parametrize("odd", [None, 5, float("nan"), [1], object()])
def test_demo_archives(odd: Any) -> None:
    with pytest.raises(RequestError, match="folder is"):
        build(odd)
    with pytest.raises(RequestError, match="scene is"):
        build("x", odd)


def test_places_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safe" / "S2A_MSIL2A_20210107T062459_N0214_R091_T32TPS_20210107T084533.SAFE").mkdir(parents=True)
    series = TimeSeries(safe=tmp_path / "safe", **SOON)
    for odd in ODD:
        for write in (series.to_csv, series.to_parquet, series.report_to_csv):
            ends_in_a_sentence(lambda odd=odd, write=write: write(odd))


def test_names_too_long_for_a_file_are_refused_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "safe").mkdir()
    monkeypatch.setattr(TimeSeries, "run", lambda _: pytest.fail("work has started"))
    for name in ("x" * 240, "é" * 120):
        series = TimeSeries(safe=tmp_path / "safe", name=name, **SOON)
        for write in (series.to_csv, series.to_parquet):
            with pytest.raises(RequestError, match=r"are too long for a file by \d+ bytes; pass a shorter name="):
                write(tmp_path)
        with pytest.raises(RequestError, match="is too long for names of files"):
            TimeSeriesCompil(extraction=tmp_path, name=name, **SOON)
    assert list(tmp_path.iterdir()) == [tmp_path / "safe"]
    with pytest.raises(OutputError):
        TimeSeries(safe=tmp_path / "safe", **SOON).check_folder("y" * 300)


@pytest.fixture(scope="module")
def tables(few_fields: DemoArchive, tmp_path_factory: pytest.TempPathFactory) -> TimeSeries:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return TimeSeries(few_fields.layer, "NDVI", library=few_fields.library, quiet=True, multiproc=1).run()


@pytest.mark.parametrize("method", ["wide", "to_csv", "to_wide_csv", "to_excel", "to_xarray"])
def test_tables(tables: TimeSeries, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = getattr(tables, method)
    folder = {"out_path": tmp_path} if "out_path" in parameters(call) else {}
    for name in parameters(call):
        for odd in ODD if name != "overwrite" else ():
            ends_in_a_sentence(call, **{**folder, name: odd})
