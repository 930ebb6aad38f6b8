"""Whatever is passed to a public call, it ends well or in one of our errors, in one sentence."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from sen2chain import Index, JobExtraction, Mask, TimeSeries, TimeSeriesCompil
from sen2chain.demo.build import build
from sen2chain.errors import OutputError, RequestError, Sen2ChainError
from sen2chain.smoothing import Smoother, smooth_original
from sen2chain.timeseries.asked import CompileRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ODD: tuple[Any, ...] = (
    None,
    "",
    "\0",
    "\ud800",
    "x" * 300,
    b"\xff",
    float("nan"),
    -1,
    1e300,
    True,
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


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        (Mask.parse, {}), (Mask.from_keywords, {"cm_version": "CM004"}), (Index, {"name": "X", "formula": "B04"}),
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
