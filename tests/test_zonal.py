from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.grid import Grid
from sen2chain.zonal import Statistics, Tally, gather, reduce
from sen2chain.zonal.statistics import BASE, DEFINITIONS, FREQUENCIES, allowed

Array = np.ndarray[Any, Any]
NODATA = 32767
NONE = np.zeros(0, np.float32)
SEEDS = st.integers(0, 2**32 - 1)

# ------------------------------------------------------------------------------------------ statistics, by hand

# A 3 x 3 raster; the last row is no data, and cloud, and both.
VALUES = np.array([[1000, 2000, 2000], [4000, 5000, -2000], [NODATA, 8000, NODATA]], np.int16)
CLOUD = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 1]], np.uint8)
WEIGHTS = np.array([[1, 0.5, 0.5], [1, 1, 1], [0.25, 0.5, 1]], np.float32)
# valid: -2000 1000 2000 2000 4000 5000, mean 2000; with weights -2000 1000 2000 4000 5000, each 1
BY_HAND = [
    ("count", 6, 5),
    ("nbcld", 1, 0.5),
    ("invalid", 3, 1.75),
    ("min", -2000, -2000),
    ("max", 5000, 5000),
    ("mean", 2000, 2000),
    ("std", 5e6**0.5, 6e6**0.5),  # squares of -4 -1 0 0 2 3: 30 / 6, or 30 / 5
    ("median", 2000, 2000),
    ("percentile_25", 1250, 1000),
    ("percentile_75", 3500, 4000),
    ("sum", 12000, 10000),
    ("variance", 5e6, 6e6),
    ("range", 7000, 7000),
    ("cv", 5e6**0.5 / 2000, 6e6**0.5 / 2000),
    ("percentile_0", -2000, -2000),
    ("percentile_100", 5000, 5000),
    ("percentile_90", 4500, 4600),
    ("percentile_2.5", -1625, -1700),
    ("mad", 1500, 2000),  # of 4 1 0 0 2 3: 1.5; weighted of 0 1 2 3 4: 2
    ("majority", 2000, -2000),  # of equals the smallest
    ("minority", -2000, -2000),
    ("variety", 5, 5),
]
ON_REQUEST = [name for name, _, _ in BY_HAND if name not in BASE and name not in {"count", "nbcld", "invalid"}]


def flat(*images: Array) -> list[Array]:
    return [np.ascontiguousarray(image.ravel()) for image in images]


@pytest.mark.parametrize(("name", "plain", "weighted"), BY_HAND)
def test_each_statistic(name: str, plain: float, weighted: float) -> None:
    statistics = Statistics.of(ON_REQUEST)
    values, cloud, weights = flat(VALUES, CLOUD, WEIGHTS)
    offsets = np.array([0, 9])
    assert statistics.reduce(values, cloud, 1, offsets, None)[name] == pytest.approx([plain], rel=1e-12)
    assert statistics.reduce(values, cloud, 1, offsets, weights)[name] == pytest.approx([weighted], rel=1e-12)


def test_histogram_by_hand() -> None:
    statistics = Statistics.of("histogram:0:0.4:4")
    values, cloud, weights = flat(VALUES, CLOUD, WEIGHTS)
    columns = ("hist_below", "hist_0", "hist_0.1", "hist_0.2", "hist_0.3", "hist_above")
    assert statistics.columns == (*BASE, *columns)
    for own, expected in ((None, [1, 0, 1, 2, 1, 1]), (weights, [1, 0, 1, 1, 1, 1])):
        found = statistics.reduce(values, cloud, 1, np.array([0, 9]), own)
        assert [found[c].tolist() for c in columns] == [[e] for e in expected]


def test_only_the_bit_of_the_mask_counts() -> None:
    values = np.array([1, 2, 3, 4], np.int16)
    cloud = np.array([0b001, 0b010, 0b100, 0b110], np.uint8)
    counts = [Statistics().reduce(values, cloud, bit, np.array([0, 4]), None) for bit in (1, 2, 4, 8)]
    assert [c["sum"].tolist() for c in counts] == [[9], [4], [3], [10]]
    assert [c["nbcld"].tolist() for c in counts] == [[1], [2], [2], [0]]
    high = Statistics().reduce(values, np.full(4, 0x80, np.uint8), 0x80, np.array([0, 4]), None)
    assert high["count"].tolist() == [0]


def test_names() -> None:
    assert Statistics.of(None).columns == BASE
    assert Statistics.of("sum").columns == (*BASE, "sum")
    assert Statistics.of(["mean", "sum", "sum", "percentile_25"]).columns == (*BASE, "sum")
    scl = Statistics.of("scl_fractions")
    assert scl.needs_scl
    assert not Statistics.of("sum").needs_scl
    assert scl.columns[len(BASE) :] == tuple(f"scl_{i}" for i in range(12))
    assert Statistics.of("histogram").columns[len(BASE) :][:3] == ("hist_below", "hist_-1", "hist_-0.9")
    assert "hist_0" in Statistics.of("histogram").columns
    assert Statistics.of("percentile_5").quantiles["percentile_5"] == 0.05
    powers = {"mean": 1, "percentile_5": 1, "variance": 2, "sum": 1, "count": 0, "cv": 0, "variety": 0, "mad": 1}
    assert {name: Statistics().power(name) for name in powers} == powers


@pytest.mark.parametrize(
    "name", ["", "Mean", "total", "percentile", "percentile_", "percentile_-1", "p50", "histogramm"]
)
def test_no_statistic(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Unknown statistic") as caught:
        Statistics.of([name])
    assert all(a in str(caught.value) for a in allowed())


@pytest.mark.parametrize("name", ["percentile_101", "percentile_100.1", "percentile_999"])
def test_no_percentile(name: str) -> None:
    with pytest.raises(RequestError, match="percentile_0 to percentile_100"):
        Statistics.of(name)


@pytest.mark.parametrize(
    "tail", ["", "0", "0:1", "0:1:0", "1:0:5", "0:0:5", "a:1:5", "0:1:5:6", "nan:1:5", "0:inf:5", "0:1:1001"]
)
def test_no_histogram(tail: str) -> None:
    with pytest.raises(RequestError, match="is not a histogram"):
        Statistics.of(f"histogram:{tail}")


@pytest.mark.parametrize(
    "names", [["histogram"], ["histogram:-1:0:2", "cv"], ["scl_fractions", "sum", "mad", "percentile_1"]]
)
def test_every_column_is_defined_and_made(names: list[str]) -> None:
    statistics = Statistics.of(names)
    found = statistics.reduce(*flat(VALUES, CLOUD), 1, np.array([0, 9]), None)  # type: ignore[call-arg, arg-type]  # two arrays
    for column in statistics.columns:
        assert statistics.define(column)
        assert column in found or column.startswith("scl_")
    assert {name for name in BASE if "percentile" not in name} <= set(DEFINITIONS)


def test_a_run_takes_one_histogram() -> None:
    with pytest.raises(RequestError, match="takes one"):
        Statistics.of(["histogram", "histogram:-1:0:2"])


# --------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_tally_in_pieces_gives_the_same_as_all_pixels_at_once(seed: int, weighted: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    n = 5000
    values = rng.normal(4000, [10, 3000][seed % 2], n).clip(-32768, 32767).astype(np.int16)
    values[rng.random(n) < 0.1] = NODATA
    cloud = rng.integers(0, 4, n).astype(np.uint8)
    weights = rng.random(n).astype(np.float32) if weighted else None
    statistics = Statistics.of(["sum", "variance", "range", "cv", *FREQUENCIES, "percentile_3", "histogram:-0.3:0.9:7"])
    whole = statistics.reduce(values, cloud, 2, np.array([0, n]), weights)
    tally = Tally(weighted=weighted)
    for a, b in zip((0, 7, 7, 3000), (7, 7, 3000, n), strict=True):
        tally.add(values[a:b], cloud[a:b], 2, None if weights is None else weights[a:b])
    pieces = tally.reduce(statistics)
    assert pieces.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(pieces[name], value, rtol=1e-12 if weighted else 1e-15, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1000, 100, 10, 1])
def test_columns_are_times_10000_whatever_the_scale(scale: int, weighted: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(scale)
    n = 400
    at_10000 = rng.integers(-3, 4, n) * (10000 // scale)  # values that all scales can hold
    cloud = rng.integers(0, 2, n).astype(np.uint8)
    weights = rng.random(n).astype(np.float32) if weighted else None
    asked = ["sum", "variance", "range", "cv", *FREQUENCIES, "percentile_3", f"histogram:{-2 / scale}:{2 / scale}:4"]
    statistics, offsets = Statistics.of(asked), np.array([0, 150, n])
    want = statistics.reduce(at_10000.astype(np.int16), cloud, 1, offsets, weights)
    stored = (at_10000 * scale // 10000).astype(np.int16)
    got = statistics.reduce(stored, cloud, 1, offsets, weights, scale)
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, err_msg=name)
    tally = Tally(weighted=weighted)
    tally.add(stored[:150], cloud[:150], 1, None if weights is None else weights[:150])
    for name, value in tally.reduce(statistics, scale).items():
        np.testing.assert_allclose(value[0], want[name][0], rtol=1e-12, err_msg=name)


def test_a_tally_without_a_valid_pixel() -> None:
    tally = Tally(weighted=False)
    tally.add(np.array([NODATA, 5], np.int16), np.array([0, 1], np.uint8), 1, None)
    found = tally.reduce(Statistics.of("mad"))
    assert [found[name].item() for name in ("count", "nbcld", "invalid")] == [0, 1, 2]
    assert all(np.isnan(found[name]).all() for name in ("mean", "median", "mad"))


def pixels(seed: int) -> tuple[Array, Array, Array, Array]:
    """Values, cloud bits, offsets and weights of some features: narrow, wide, extreme, empty, single."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 1, 2, 3, 10, 200], 6)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n = int(offsets[-1])
    kind = rng.integers(5)
    if kind == 0:
        values = rng.integers(-32768, 32767, n)
    elif kind == 1:
        values = rng.choice([-32768, 32766, 0], n)
    elif kind == 2:
        values = rng.integers(7000, 7005, n)
    else:
        values = np.rint(rng.normal(3000, 3000, n)).clip(-32768, 32766)
    values = np.where(rng.random(n) < rng.choice([0, 0.2, 1], p=[0.5, 0.4, 0.1]), NODATA, values).astype(np.int16)
    cloud = rng.choice([0, 1, 2, 3], n, p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    weights = np.where(rng.random(n) < 0.5, 1.0, rng.random(n) + 1e-6).astype(np.float32)
    return values, cloud, offsets, weights


QUANTILES = np.array([0.0, 0.05, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0])


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_counted_is_numpy(seed: int) -> None:
    values, cloud, offsets, _ = pixels(seed)
    table = reduce.reduce_counted(values, cloud, 2, offsets, QUANTILES)
    for f in range(len(offsets) - 1):
        v, c = values[offsets[f] : offsets[f + 1]], cloud[offsets[f] : offsets[f + 1]]
        valid = v[(v != NODATA) & (c & 2 == 0)].astype(np.float64)
        clouded = ((v != NODATA) & (c & 2 != 0)).sum()
        assert table[f, :3].tolist() == [valid.size, clouded, v.size - valid.size]
        if not valid.size:
            assert np.isnan(table[f, 3:]).all()
            continue
        assert table[f, 3:6].tolist() == [valid.min(), valid.max(), valid.sum()]
        assert table[f, reduce.MEAN] == valid.mean()
        np.testing.assert_allclose(table[f, reduce.VARIANCE], valid.var(), rtol=1e-12, atol=1e-9)
        np.testing.assert_array_equal(table[f, reduce.N_MOMENTS :], np.quantile(valid, QUANTILES))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_weighted_is_numpy(seed: int) -> None:
    values, cloud, offsets, weights = pixels(seed)
    table = reduce.reduce_weighted(values, cloud, 1, offsets, weights, QUANTILES)
    for f in range(len(offsets) - 1):
        part = slice(offsets[f], offsets[f + 1])
        v, c, w = values[part], cloud[part] & 1 != 0, weights[part].astype(np.float64)
        ok = (v != NODATA) & ~c
        sums = [w[ok].sum(), w[(v != NODATA) & c].sum(), w[~ok].sum()]
        np.testing.assert_allclose(table[f, :3], sums, rtol=1e-12)
        if not ok.any():
            assert np.isnan(table[f, 3:]).all()
            continue
        x, w = v[ok].astype(np.float64), w[ok]
        mean = np.average(x, weights=w)
        assert table[f, 3:5].tolist() == [x.min(), x.max()]
        np.testing.assert_allclose(table[f, reduce.SUM], (w * x).sum(), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(table[f, reduce.MEAN], mean, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(
            table[f, reduce.VARIANCE], np.average((x - mean) ** 2, weights=w), rtol=1e-9, atol=1e-6
        )
        quantiles = table[f, reduce.N_MOMENTS :]
        assert (np.diff(quantiles) >= 0).all()
        assert quantiles[0] == x.min()
        np.testing.assert_allclose(quantiles[-1], x.max(), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.6, 3.0), st.floats(0.6, 3.0))
def test_weighted_is_exactextract(seed: int, width: float, height: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([100, 200, 300, 5000, -700, NODATA], (4, 4)).astype(np.int16)
    x = np.clip(np.minimum(np.arange(1, 5), 0.3 + width) - np.maximum(np.arange(4), 0.3), 0, None)
    y = np.clip(np.minimum(np.arange(1, 5), 0.4 + height) - np.maximum(np.arange(4), 0.4), 0, None)
    weights = np.outer(y, x)[::-1].astype(np.float32)
    covered = weights > 0
    ring = [[0.3, 0.4], [0.3 + width, 0.4], [0.3 + width, 0.4 + height], [0.3, 0.4 + height], [0.3, 0.4]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    source = NumPyRasterSource(np.where(values == NODATA, np.nan, values.astype(float)), 0, 0, 4, 4, nodata=np.nan)
    names = ["count", "mean", "variance", "median", "quantile(q=0.1)", "quantile(q=0.75)", "min", "max", "variety"]
    (found,) = exact_extract(source, feature, names)
    order = ("count", "mean", "variance", "median", "quantile_10", "quantile_75", "min", "max", "variety")
    theirs = [np.nan if found["properties"][n] is None else float(found["properties"][n]) for n in order]
    flat_values, flat_weights = np.ascontiguousarray(values[covered]), np.ascontiguousarray(weights[covered])
    cloud, offsets = np.zeros(flat_values.size, np.uint8), np.array([0, flat_values.size])
    ours = Statistics.of(["variance", "percentile_10", "variety"]).reduce(flat_values, cloud, 1, offsets, flat_weights)
    columns = ("count", "mean", "variance", "median", "percentile_10", "percentile_75", "min", "max", "variety")
    mine = [float(ours[c][0]) for c in columns]
    if ours["count"][0] == 0:
        theirs[-1] = mine[-1]  # no value: they say 0 different ones, we say nothing
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.booleans())
def test_frequencies_are_numpy(seed: int, weighted: bool) -> None:  # noqa: FBT001  # drawn
    values, cloud, offsets, weights = pixels(seed)
    table = reduce.reduce_frequencies(values, cloud, 1, offsets, weights if weighted else NONE)
    for f in range(len(offsets) - 1):
        part = slice(offsets[f], offsets[f + 1])
        ok = (values[part] != NODATA) & (cloud[part] & 1 == 0)
        x = values[part][ok].astype(np.float64)
        if not x.size:
            assert np.isnan(table[f]).all()
            continue
        distinct, which = np.unique(x, return_inverse=True)
        share = np.bincount(which, weights[part][ok].astype(np.float64) if weighted else None)
        assert table[f, reduce.MAJORITY] == distinct[np.argmax(share)]
        assert table[f, reduce.MINORITY] == distinct[np.argmin(share)]
        assert table[f, reduce.VARIETY] == distinct.size
        if not weighted:
            assert table[f, reduce.MAD] == np.median(np.abs(x - np.median(x)))
            continue
        middle = reduce.weighted_quantile(distinct, share.astype(np.float64), 0.5)
        away, which = np.unique(np.abs(distinct - middle), return_inverse=True)
        mad = reduce.weighted_quantile(away, np.bincount(which, share).astype(np.float64), 0.5)
        np.testing.assert_allclose(table[f, reduce.MAD], mad, rtol=1e-9, atol=1e-9)


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.booleans(), st.integers(-200, 100), st.integers(1, 300), st.integers(1, 40))
def test_histogram_is_numpy(seed: int, weighted: bool, low: int, width: int, bins: int) -> None:  # noqa: FBT001  # drawn
    values, cloud, offsets, weights = pixels(seed)
    values = np.where(values == NODATA, NODATA, values // 100 * 100).astype(np.int16)
    lower, upper = low * 100.0, (low + width) * 100.0
    table = reduce.reduce_histogram(values, cloud, 1, offsets, weights if weighted else NONE, lower, upper, bins)
    # Edges as fractions of the width, multiplied out: no rounding.
    for f in range(len(offsets) - 1):
        part = slice(offsets[f], offsets[f + 1])
        ok = (values[part] != NODATA) & (cloud[part] & 1 == 0)
        x = values[part][ok].astype(np.int64)
        w = weights[part][ok].astype(np.float64) if weighted else np.ones(x.size)
        steps = (x - low * 100) * bins
        inside = (x >= lower) & (x <= upper)
        counts, _ = np.histogram(steps[inside], np.arange(bins + 1) * width * 100, weights=w[inside])
        expected = [w[x < lower].sum(), *counts, w[x > upper].sum()]
        np.testing.assert_allclose(table[f], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("edge", [0.57, 0.29, 0.07, 0.1, -0.3, 0.7, 1.1, 1.13])
def test_values_on_the_outer_edges_of_a_histogram_are_inside(edge: float) -> None:
    values = np.array([round(edge * 10000)], np.int16)
    for name in (f"histogram:{edge - 2:.2f}:{edge}:3", f"histogram:{edge}:{edge + 2:.2f}:3"):
        found = Statistics.of(name).reduce(values, np.zeros(1, np.uint8), 1, np.array([0, 1]), None)
        assert found["hist_below"].tolist() == found["hist_above"].tolist() == [0], name


def test_extremes_of_int16() -> None:
    values = np.array([-32768, 32766] * 50, np.int16)
    names = ["variance", "range", "mad", "sum", "majority", "variety"]
    for weights in (None, np.ones(100, np.float32)):
        found = Statistics.of(names).reduce(values, np.zeros(100, np.uint8), 1, np.array([0, 100]), weights)
        numbers = {name: float(column[0]) for name, column in found.items()}
        assert numbers["min"] == -32768
        assert numbers["max"] == 32766
        assert numbers["range"] == 65534
        assert numbers["mean"] == numbers["median"] == -1
        assert numbers["sum"] == -100
        assert numbers["variance"] == 32767.0**2
        assert numbers["std"] == numbers["mad"] == 32767
        assert numbers["majority"] == -32768
        assert numbers["variety"] == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_huge_counts_neither_overflow_nor_cancel(weighted: bool) -> None:  # noqa: FBT001  # a table
    n = 5_000_000  # squares around 0 would sum to 5e15, around the mean to n / 4
    values = np.full(n, 32766, np.int16)
    values[::2] = 32765
    weights = np.ones(n, np.float32) if weighted else None
    found = Statistics.of(["variance", "sum"]).reduce(values, np.zeros(n, np.uint8), 1, np.array([0, n]), weights)
    assert found["count"].tolist() == [n]
    assert found["sum"].tolist() == [n // 2 * (32766 + 32765)]
    assert found["mean"].tolist() == [32765.5]
    assert found["variance"].tolist() == [0.25]


@pytest.mark.parametrize("weight", [None, 1.0, 0.25, 1e-9, 1e-30])
def test_a_single_pixel(weight: float | None) -> None:
    weights = None if weight is None else np.array([weight], np.float32)
    statistics = Statistics.of(["variance", "range", "mad", "majority", "minority", "percentile_1", "percentile_99"])
    found = statistics.reduce(np.array([-1234], np.int16), np.zeros(1, np.uint8), 1, np.array([0, 1]), weights)
    for name in (*BASE, *statistics.extra):
        spread = name in {"std", "variance", "range", "mad"}
        assert found[name].tolist() == pytest.approx([0 if spread else -1234], abs=1e-9), name


@pytest.mark.parametrize("weights", [None, np.full(3, 0.5, np.float32)])
@pytest.mark.parametrize(("values", "cloud"), [([NODATA] * 3, [0] * 3), ([5] * 3, [1] * 3), ([NODATA] * 3, [1] * 3)])
def test_nothing_valid(values: list[int], cloud: list[int], weights: Array | None) -> None:
    statistics = Statistics.of([*ON_REQUEST, "histogram:0:1:2"])
    found = statistics.reduce(np.array(values, np.int16), np.array(cloud, np.uint8), 1, np.array([0, 0, 3]), weights)
    area = 3 if weights is None else 1.5
    assert found["count"].tolist() == [0, 0]
    assert found["invalid"].tolist() == [0, area]
    assert found["nbcld"].tolist() == [0, area if values[0] == 5 else 0]
    for name in (*BASE, *ON_REQUEST):
        assert np.isnan(found[name]).all(), name
    assert found["hist_0"].tolist() == [0, 0]


def test_mean_zero_has_no_variation() -> None:
    found = Statistics.of("cv").reduce(np.array([-5, 5], np.int16), np.zeros(2, np.uint8), 1, np.array([0, 2]), None)
    assert np.isnan(found["cv"]).all()


# ------------------------------------------------------------------------------------------------------- gather


def runs(rng: np.random.Generator, rows: int, columns: int, n: int = 12) -> tuple[Array, Array, Array, Array, int]:
    """Row, first column, length and place in the buffer of some runs, in any order."""
    row = rng.integers(0, rows, n).astype(np.int32)
    column = rng.integers(0, columns, n).astype(np.int32)
    length = np.array([rng.integers(0, columns - c + 1) for c in column], np.int32)
    order = rng.permutation(n)
    start = np.zeros(n, np.int64)
    start[order] = np.concatenate([[0], np.cumsum(length[order])[:-1]])
    return row, column, length, start, int(length.sum())


def collect(image: Array, row: Array, column: Array, length: Array, start: Array) -> Array:
    out = np.zeros(int(length.sum()), image.dtype)
    for r, c, n, s in zip(row, column, length, start, strict=True):
        out[s : s + n] = image[r, c : c + n]
    return out


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([np.uint16, np.int16]))
def test_take(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60000, (9, 13)).astype(dtype)
    row, column, length, start, n = runs(rng, 9, 13)
    out = np.zeros(n, dtype)
    window = image[row.min() :].view(np.uint16)
    gather.take(window, int(row.min()), row, column, length, start, out.view(np.uint16))
    np.testing.assert_array_equal(out, collect(image, row, column, length, start))


TEN = Grid("EPSG:32632", (10.0, 0.0, 0.0, 0.0, -10.0, 80.0), (8, 12))
COARSE = [
    Grid("EPSG:32632", (20.0, 0.0, 0.0, 0.0, -20.0, 80.0), (4, 6)),
    Grid("EPSG:32632", (20.0, 0.0, -10.0, 0.0, -20.0, 90.0), (5, 7)),
    Grid("EPSG:32632", (60.0, 0.0, 0.0, 0.0, -60.0, 80.0), (2, 2)),
    Grid("EPSG:32632", (120.0, 0.0, 0.0, 0.0, -80.0, 80.0), (1, 1)),
    Grid("EPSG:32632", (10.0, 0.0, 0.0, 0.0, -10.0, 80.0), (8, 12)),
]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(COARSE))
def test_take_nearest(seed: int, other: Grid) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, other.shape).astype(np.uint8)
    row, column, length, start, n = runs(rng, *TEN.shape)
    out = rng.integers(0, 256, n).astype(np.uint8)
    rows, columns = TEN.nearest_in(other, 0), TEN.nearest_in(other, 1)
    gather.take_nearest(image, rows, columns, row, column, length, start, out)
    np.testing.assert_array_equal(out, collect(image[np.ix_(rows, columns)], row, column, length, start))


def bilinear(image: Array, other: Grid) -> Array:
    """Interpolate at the ten-metre centres in plain numpy; NaN where a DN with weight > 0 is none."""

    def shares(axis: int) -> Array:
        step, size = other.pixel_xy[1 - axis], other.shape[axis]
        begin = other.transform[5] - 80 if axis == 0 else -other.transform[2]
        here = np.clip(((np.arange(TEN.shape[axis]) + 0.5) * 10 + begin) / step - 0.5, 0, size - 1)
        found: Array = np.maximum(1 - np.abs(here[:, None] - np.arange(size)), 0)
        return found

    rows, columns = shares(0), shares(1)
    bad = ((image == 0) | (image == 65535)).astype(float)
    value = rows @ np.where(bad, 0.0, image) @ columns.T
    found: Array = np.where((rows > 0).astype(float) @ bad @ (columns > 0).T.astype(float) > 0, np.nan, value)
    return found


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from(COARSE), st.sampled_from([0.0, 0.1, 0.5]))
def test_take_bilinear(seed: int, other: Grid, bad: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 65535, other.shape).astype(np.uint16)
    image[rng.random(other.shape) < bad] = 0
    image[rng.random(other.shape) < bad / 2] = 65535
    row, column, length, start, n = runs(rng, *TEN.shape)
    out = np.zeros(n)
    down, across = TEN.bilinear_in(other, 0), TEN.bilinear_in(other, 1)
    gather.take_bilinear(image, *down, *across, row, column, length, start, out, 0, 65535)
    np.testing.assert_allclose(out, collect(bilinear(image, other), row, column, length, start), rtol=1e-12)


def test_bilinear_asks_for_the_limits() -> None:
    image = np.array([[0, 200], [77, 65535]], np.uint16)
    one, out = np.zeros(1, np.int32), np.zeros(1)
    for v, u, nodata, saturated, expected in (
        (0.0, 0.5, 77, 78, 100.0),
        (0.5, 0.0, 77, 78, np.nan),
        (0.5, 0.0, 78, 77, np.nan),
        (0.5, 1.0, 77, 77, 32867.5),
    ):
        args = (one, np.array([v]), one, np.array([u]), one, one, one + 1, np.zeros(1, np.int64), out)
        gather.take_bilinear(image, *args, nodata, saturated)
        np.testing.assert_array_equal(out, expected)


def test_bilinear_by_hand() -> None:
    image = np.array([[100, 200], [300, 65535]], np.uint16)
    one = np.zeros(1, np.int32)

    def at(v: float, u: float) -> float:
        out = np.zeros(1)
        args = (one, np.array([v]), one, np.array([u]))
        gather.take_bilinear(image, *args, one, one, one + 1, np.zeros(1, np.int64), out, 0, 65535)
        return float(out[0])

    assert at(0.0, 0.0) == 100
    assert at(0.0, 0.25) == 125
    assert at(0.75, 0.0) == 250
    assert at(0.0, 1.0) == 200
    assert at(1.0, 0.0) == 300
    for v, u in ((0.25, 0.25), (1e-12, 1e-12), (1.0, 1.0), (1.0, 0.1), (0.1, 1.0)):
        assert np.isnan(at(v, u))
    image[1, 1], image[0, 0] = 7, 0
    assert at(1.0, 1.0) == 7
    assert at(1.0, 0.5) == 153.5
    assert at(0.5, 1.0) == 103.5
    assert np.isnan(at(0.999, 1 - 1e-12))


def test_take_weights() -> None:
    head, tail, length = (np.array(a, np.int32) for a in ([2, 0, 1, 0], [1, 0, 0, 2], [5, 3, 1, 2]))
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    own, start = np.array([0, 3, 3, 4]), np.array([6, 3, 0, 1])
    out = np.zeros(11, np.float32)
    gather.take_weights(head, tail, own, weights, length, start, out)
    expected = np.array([0.4, 0.5, 0.6, 1, 1, 1, 0.1, 0.2, 1, 1, 0.3], np.float32)
    np.testing.assert_array_equal(out, expected)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (7, 9)).astype(np.uint8)
    row, column, length, _, _ = runs(rng, 7, 9)
    feature = rng.integers(0, 4, row.size).astype(np.int32)
    total, count = np.zeros((2, 5), np.int64)
    gather.add_up(image, feature, row, column, length, total, count)
    for f in range(5):
        mine = feature == f
        values = collect(image, row[mine], column[mine], length[mine], np.cumsum(length[mine]) - length[mine])
        assert (total[f], count[f]) == (values.astype(int).sum(), values.size)


def test_class_sums() -> None:
    classes = np.array([3, 3, 8, 0, 250], np.uint8)
    offsets = np.array([0, 3, 3, 5])
    found = gather.class_sums(classes, offsets, NONE, 12)
    assert found[0].tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert not found[1].any()
    assert found[2].tolist() == [1] + [0] * 11 + [1]  # 250 is no class, but a pixel
    weights = np.array([0.5, 0.25, 0.25, 1, 3], np.float32)
    found = gather.class_sums(classes, offsets, weights, 12)
    assert found[0, [3, 8]].tolist() == [0.75, 0.25]
    assert found[2, [0, 12]].tolist() == [1, 3]
