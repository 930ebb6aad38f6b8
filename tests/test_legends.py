from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain import INDICES, Index
from sen2chain.index_catalogue import catalogue
from sen2chain.legends import LEGENDS, NO_VALUE, USUAL, Legend, fixed_legend, legend_of


def test_every_one_of_the_twelve_has_a_fixed_range_and_readable_colours() -> None:
    assert sorted(LEGENDS) == sorted(INDICES)
    for legend in (*LEGENDS.values(), USUAL):
        assert legend.low < legend.high
        assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in legend.colours)


def test_colours_lie_between_those_of_the_ramp_and_ends_take_what_is_beyond() -> None:
    legend = Legend(0.0, 2.0, ("#000000", "#ff0000", "#ffff00"))
    colours = legend.rgb([[-5.0, 0.0, 0.5], [1.0, 1.5, 9.0]])
    assert colours.dtype == np.uint8
    assert colours.tolist() == [[[0, 0, 0], [0, 0, 0], [128, 0, 0]], [[255, 0, 0], [255, 128, 0], [255, 255, 0]]]


def test_no_value_has_a_colour_of_its_own() -> None:
    assert "#{:02x}{:02x}{:02x}".format(*legend_of(INDICES["NDVI"]).rgb(np.nan).tolist()) == NO_VALUE


def test_a_users_index_takes_its_range_from_its_values() -> None:
    own = Index("OWN", "B08/B04")
    assert legend_of(own) == USUAL
    legend = legend_of(own, [1.0, *np.linspace(2.0, 7.93, 200), np.nan])
    assert (legend.low, legend.high) == (2.0, 7.9)
    assert legend_of(INDICES["NDVI"], [5.0]) == LEGENDS["NDVI"]


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [0.3, 0.3], [-7.0], [1e30, -1e30], [np.inf]])
def test_any_values_give_a_range(values: list[float]) -> None:
    legend = USUAL.fitted(values)
    assert np.isfinite([legend.low, legend.high]).all()
    assert legend.low < legend.high


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_a_fitted_range_holds_the_middle_of_the_values(values: list[float]) -> None:
    legend = USUAL.fitted(values)
    low, high = np.percentile(values, (2, 98))
    assert legend.low <= low or np.isclose(legend.low, low)
    assert legend.high >= high or np.isclose(legend.high, high)


def test_indices_of_the_catalogue_have_a_range_of_their_own() -> None:
    for entry in catalogue().values():
        index = Index.parse(entry.name)
        legend = fixed_legend(index)
        assert (legend is None) == (entry.low is None and not entry.same_as)
        shown = legend_of(index, [5.0, 7.0])
        assert shown.low < shown.high
        assert legend in {None, shown}
    savi = legend_of(Index.parse("SAVI"))
    assert (savi.low, savi.colours) == (-0.2, LEGENDS["NDVI"].colours)
    assert legend_of(Index.parse("NDWI")) == LEGENDS["NDWIMCF"]
    assert legend_of(Index.parse("SR")).high > 10
    red_edge = legend_of(Index.parse("S2REP"), np.linspace(712.0, 738.0, 9))
    assert (red_edge.low, red_edge.high) == (710.0, 740.0), "few values far from the others make no range"
    assert fixed_legend(Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")) is None, "another index under its name"
    assert fixed_legend(Index("SR", "B08/B04")) is None, "its values end at 3.2766"
