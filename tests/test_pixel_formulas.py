"""The kernels of indices give bit by bit what the plain functions of numpy give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain.acquisition.pixel_formulas import to_reflectance, to_stored
from sen2chain.indices import INDICES, Index, reflectance


@given(
    offset=st.sampled_from((0.0, -1000.0, 13.5)),
    quantification=st.sampled_from((10000.0, 9999.0, 3.0)),
    dtype=st.sampled_from((np.uint16, np.float64)),
)
def test_reflectance_of_every_number(offset: float, quantification: float, dtype: Any) -> None:
    numbers = np.arange(1 << 16).astype(dtype)
    if dtype is np.float64:
        numbers[::7] += 0.25
        numbers[::1000] = np.nan
    found = np.empty(len(numbers))
    to_reflectance(numbers, offset, quantification, 0.0, 65535.0, found)
    wanted = reflectance(numbers, offset, quantification)
    assert np.array_equal(found.view(np.uint64)[~np.isnan(wanted)], wanted.view(np.uint64)[~np.isnan(wanted)])
    assert np.array_equal(np.isnan(found), np.isnan(wanted))


@pytest.mark.parametrize(
    "index",
    [*INDICES.values(), Index("A", "B04/B08", scale=100), Index("B", "exp(20*B08)/B04"), Index("C", "log(B04)-B08")],
    ids=lambda index: index.name,
)
def test_stored_values(index: Index) -> None:
    rng = np.random.default_rng(0)
    bands = {band: rng.choice([0.0, 1e-4, 0.05, 0.3, 1.7, np.nan], 20_000) for band in index.bands}
    bands = {band: np.where(rng.random(20_000) < 0.5, rng.integers(0, 20_000, 20_000) / 1e4, drawn)
             for band, drawn in bands.items()}  # fmt: skip
    found = np.empty(20_000, np.int16)
    to_stored(*index.raw_values(bands), index.scale, found)
    assert np.array_equal(found, index.compute(bands))
