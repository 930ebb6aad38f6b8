"""What the documented classes hand out can be changed without changing anything inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from sen2chain import INDICES, TimeSeries, TimeSeriesCompil, demo
from sen2chain.vectors import layer as layer_module

if TYPE_CHECKING:
    from pathlib import Path

SCENE = demo.Scene(size=90, parcels=6, overpasses=demo.season(3), bands=("B04", "B08", "SCL", "CLDPRB"))


@pytest.fixture(scope="module", params=[TimeSeries, TimeSeriesCompil])
def series(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("handed")
    archive = demo.build(folder, SCENE)
    options: dict[str, Any] = {"indices": ["NDVI"], "library": archive.library, "quiet": True, "multiproc": 1}
    if request.param is TimeSeries:
        return TimeSeries(archive.layer, **options).run()
    made = TimeSeriesCompil(archive.layer, extraction=folder / "extraction", **options)
    made.extract_data()
    return made


def spoil(frame: pd.DataFrame) -> None:
    """Change whatever can be changed in place."""
    text = next(name for name in frame if not pd.api.types.is_numeric_dtype(frame[name]))
    frame.loc[frame.index[0], text] = "spoilt"
    number = next(name for name in frame if pd.api.types.is_numeric_dtype(frame[name]))
    values = frame[number].to_numpy()
    if values.flags.writeable:
        values[:] = -1
    frame[number] = 0.0
    frame["more"] = 1
    frame.index.name, frame.columns.name = "changed", "changed"
    frame.attrs["changed"] = True
    del frame["more"]


@pytest.mark.parametrize("on_write", [True, False])
def test_changing_a_frame_changes_no_other(series: Any, monkeypatch: pytest.MonkeyPatch, *, on_write: bool) -> None:
    """With and without a pandas that copies on write; without it the frames are copied at once."""
    monkeypatch.setattr(layer_module, "_COPIES_ON_WRITE", on_write and layer_module._COPIES_ON_WRITE)
    want = series.data["NDVI"].copy()
    first = series.data
    spoil(first["NDVI"])
    first["NDVI"] = first["more"] = None
    pd.testing.assert_frame_equal(series.data["NDVI"], want)
    assert series.data["NDVI"].attrs == {}
    assert list(series.data) == ["NDVI"]


def test_reports_notes_and_provenance_are_ones_own(series: Any) -> None:
    report, notes = series.report.copy(), series.notes
    spoil(series.report)
    series.notes.append("spoilt")
    pd.testing.assert_frame_equal(series.report, report)
    assert series.notes == notes
    if isinstance(series, TimeSeries):
        series.provenance()["products"].clear()
        series.provenance()["parameters"]["masks"].append("spoilt")
        assert series.provenance()["products"]
        assert "spoilt" not in series.provenance()["parameters"]["masks"]


def test_the_layer_is_ones_own(series: Any, tmp_path: Path) -> None:
    rows, layer = series.data["NDVI"], series.layer
    attributes = layer.attributes.copy()
    spoil(layer.attributes)
    for array in (layer.bounds, layer.geometry):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = None
    pd.testing.assert_frame_equal(series.layer.attributes, attributes)
    assert series.layer.identity == layer.identity
    series._frames = None
    pd.testing.assert_frame_equal(series.data["NDVI"], rows)
    if isinstance(series, TimeSeries):
        (path,) = series.to_csv(tmp_path)
        assert "spoilt" not in path.read_text()
    cube = series.to_xarray()
    cube["mean"][:] = np.nan
    assert np.isfinite(series.to_xarray()["mean"]).any()


def test_the_table_of_indices_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        INDICES["NDVI"] = INDICES["NBR"]  # type: ignore[index]
