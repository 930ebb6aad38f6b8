"""Masks in windows: at every needed pixel as in the whole scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.acquisition import mask_windows
from sen2chain.acquisition.mask_windows import masked_windows
from sen2chain.indices import reflectance
from sen2chain.masks import Mask
from sen2chain.products import Radiometry

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]

SHAPE = (150, 131)
MASKS = ("CM001", "CM002", "CM003-PRB40-ITER0", "CM003-PRB60-ITER3", "SCL-8-9-ITER0", "SCL-0-8-ITER2", "SCL-3-ITER40")
RADIOMETRY = Radiometry(10_000.0, {"B11": -1000.0})


@pytest.fixture(scope="module")
def rasters() -> dict[str, Array]:
    rng = np.random.default_rng(6)
    scl = np.where(rng.random(SHAPE) < 0.02, 8, 4).astype(np.uint8)
    scl[:3], scl[:, -2:], scl[70:74, 60] = 0, 3, 9
    cldprb = np.kron(rng.integers(0, 90, (30, 27)), np.ones((5, 5))).astype(np.uint8)[: SHAPE[0], : SHAPE[1]]
    return {"SCL": scl, "CLDPRB": cldprb, "B11": rng.integers(0, 5000, SHAPE).astype(np.uint16)}


@st.composite
def some_boxes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    found = []
    for _ in range(draw(st.integers(1, 8))):
        top, left = draw(st.integers(0, SHAPE[0] - 1)), draw(st.integers(0, SHAPE[1] - 1))
        high, wide = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        found.append((top, min(top + high, SHAPE[0]), left, min(left + wide, SHAPE[1])))
    return found


@settings(max_examples=150)
@given(some_boxes(), st.sampled_from(MASKS), st.sampled_from([1, 3000, 1 << 17]))
def test_windows_are_parts_of_the_mask_of_the_scene(
    rasters: dict[str, Array], boxes: list[tuple[int, int, int, int]], name: str, at_once: int
) -> None:
    mask = Mask.parse(name)
    inputs = {band: rasters[band] for band in mask.inputs}
    scene = dict(inputs)
    if "B11" in scene:
        scene["B11"] = reflectance(scene["B11"], -1000.0, 10_000.0, mask.sensor)
    expected = mask.compute(scene)
    covered = np.zeros(SHAPE, np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_windows, "_AT_ONCE", at_once)
        for windows in masked_windows(mask, inputs, np.array(boxes), RADIOMETRY):
            for row, column, window in zip(*windows, strict=True):
                high, wide = window.shape
                part = slice(row, row + high), slice(column, column + wide)
                np.testing.assert_array_equal(window, expected[part])
                covered[part] = True
    for top, bottom, left, right in boxes:
        assert covered[top:bottom, left:right].all()


def test_no_boxes_give_no_windows(rasters: dict[str, Array]) -> None:
    assert not list(
        masked_windows(Mask.parse("SCL-8-ITER0"), {"SCL": rasters["SCL"]}, np.zeros((0, 4), np.int32), None)
    )


def test_many_small_windows_need_few_calls(rasters: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    compute = Mask.compute

    def counted(mask: Mask, inputs: Mapping[str, Array]) -> Array:
        calls.append(mask.name)
        return compute(mask, inputs)

    monkeypatch.setattr(Mask, "compute", counted)
    boxes = np.array(
        [(row, row + 2, column, column + 2) for row in range(10, 140, 40) for column in range(10, 120, 40)]
    )
    (windows,) = masked_windows(Mask.parse("SCL-8-ITER1"), {"SCL": rasters["SCL"]}, boxes, None)
    assert len(windows.masked) == len(boxes)
    assert len(calls) == 1
    # Where windows would overlap much, whole strips are computed.
    dense = np.array([(row, row + 2, column, column + 2) for row in range(0, 148, 4) for column in range(0, 128, 4)])
    strips = list(masked_windows(Mask.parse("SCL-8-ITER4"), {"SCL": rasters["SCL"]}, dense, None))
    assert len(strips) == 2
