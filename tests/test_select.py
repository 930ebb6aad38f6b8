from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.products import ProductId
from sen2chain.reasons import Reason
from sen2chain.rows import Batch
from sen2chain.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

CODES = {reason: k for k, reason in enumerate(Reason)}
GOOD: dict[str, Any] = {"count": 100, "nodata": 0, "nbcld": 0, "std": 10.0, "reason": None}


def batch(
    *rows: dict[str, Any],
    baseline: int = 400,
    tile: str = "31TGJ",
    generation: str = "20220403T160000",
    reasons: dict[Reason, int] | None = None,
) -> Batch:
    """Make a batch; a row without fid is that of feature 0."""
    product = ProductId.parse(f"S2A_MSIL2A_20220403T103021_N{baseline:04d}_R108_T{tile}_{generation}")
    full = [{"fid": 0, **GOOD, **row} for row in rows]
    codes = [-1 if row["reason"] is None else CODES[row["reason"]] for row in full]
    columns: dict[str, Any] = {
        "fid": np.array([r["fid"] for r in full], np.int64),
        **{name: np.array([r[name] for r in full], np.int64) for name in ("count", "nodata", "nbcld")},
        "std": np.array([r["std"] for r in full], np.float64),
        "mean": np.arange(len(full), dtype=np.float64),
        "reason": np.array(codes, np.int8),
    }
    return Batch("NDVI", "CM001", product, f"{product}_NDVI_CM001.jp2", columns, reasons or {})


def winner(*batches: Batch) -> int:
    """Give the position of the batch that keeps the row of feature 0, whatever the order they come in."""
    found = []
    for order in (range(len(batches)), reversed(range(len(batches)))):
        positions = list(order)
        kept = [len(b.columns["fid"]) for b in select([batches[i] for i in positions])]
        assert sum(kept) == 1
        found.append(positions[kept.index(1)])
    assert found[0] == found[1]
    return found[0]


# Each case: what the better row has, and what the other has although it wins every later tie-break.
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(
            batch({"count": 1, "nodata": 99, "std": 9.0}, baseline=301, tile="32TLP", generation="20220101T000000"),
            batch({"count": 0, "nodata": 100, "nbcld": 100, "std": np.nan, "reason": Reason.CLOUD}, baseline=500),
            id="values before none",
        ),
        pytest.param(
            batch({"count": 91, "nodata": 9, "std": 9.0}, baseline=301, tile="32TLP", generation="20220101T000000"),
            batch({"count": 900, "nodata": 100, "std": 1.0}, baseline=500),
            id="complete before incomplete, where 0.10 is incomplete",
        ),
        pytest.param(
            batch({"count": 10, "nodata": 90, "nbcld": 90, "std": 9.0}, baseline=301),
            batch({"count": 80, "nodata": 20, "nbcld": 0, "std": 1.0}, baseline=500),
            id="clouds do not make a row incomplete",
        ),
        pytest.param(
            batch({"count": 50, "nodata": 9, "nbcld": 9, "std": 9.0}, baseline=500, tile="32TLP"),
            batch({"count": 100, "std": 1.0}, baseline=400, generation="20230101T000000"),
            id="highest baseline",
        ),
        pytest.param(
            batch({"count": 50, "nodata": 9, "nbcld": 9, "std": 9.0}, baseline=204, tile="32TLP"),
            batch({"count": 100, "std": 1.0}, baseline=9999, generation="20230101T000000"),
            id="every baseline of ESA before one made at home",
        ),
        pytest.param(
            batch({"count": 50, "nodata": 9, "nbcld": 9, "std": 9.0}, baseline=204, tile="32TLP"),
            batch({"count": 100, "std": 1.0}, baseline=1, generation="20230101T000000"),
            id="every baseline of ESA before a provider's",
        ),
        pytest.param(
            batch({"count": 100, "std": 9.0}, baseline=1, tile="32TLP"),
            batch({"count": 50, "nodata": 9, "nbcld": 9, "std": 1.0}, baseline=9999),
            id="baselines that are not ESA's are equal",
        ),
        pytest.param(
            batch({"count": 101, "std": 9.0}, tile="32TLP", generation="20220101T000000"),
            batch({"count": 100, "std": 1.0}, generation="20230101T000000"),
            id="most valid pixels",
        ),
        pytest.param(
            batch({"std": 1.0}, tile="32TLP", generation="20220101T000000"),
            batch({"std": 1.5}, generation="20230101T000000"),
            id="lowest standard deviation",
        ),
        pytest.param(
            batch({}, tile="31TGJ", generation="20220101T000000"),
            batch({}, tile="32TLP", generation="20230101T000000"),
            id="tile name",
        ),
        pytest.param(
            batch({}, generation="20230101T000000"), batch({}, generation="20220101T000000"), id="latest generation"
        ),
        pytest.param(
            batch({"count": 100, "nodata": 11, "std": 1.0}, baseline=301),
            batch({"count": 80, "nodata": 20, "std": 1.0}, baseline=301),
            id="complete by a hair",
        ),
    ],
)
def test_each_tie_break(better: Batch, worse: Batch) -> None:
    assert winner(better, worse) == 0
    assert winner(worse, better) == 1


@pytest.mark.parametrize(
    ("telling", "other"),
    [
        (Reason.CLOUD, Reason.NO_DATA),
        (Reason.MIN_VALID, Reason.CLOUD),
        (Reason.NO_DATA, Reason.OUTSIDE_RASTER),
        (Reason.NO_DATA, Reason.UNREADABLE),
        (Reason.UNREADABLE, Reason.OUTSIDE_TILE),
        (Reason.OUTSIDE_RASTER, Reason.OUTSIDE_TILE),
    ],
)
def test_of_empty_rows_the_one_stays_whose_reason_says_most(telling: Reason, other: Reason) -> None:
    a = batch({"count": 0, "std": np.nan, "reason": telling}, baseline=301, tile="32TLP")
    b = batch({"count": 0, "std": np.nan, "reason": other}, baseline=500)
    assert winner(a, b) == 0


def test_rows_that_go_are_counted_as_superseded_and_columns_go_with_them() -> None:
    one = batch({"fid": 0}, {"fid": 1, "count": 10}, {"fid": 3}, reasons={Reason.CLOUD: 1})
    two = batch({"fid": 0, "count": 10}, {"fid": 1}, {"fid": 2}, tile="32TLP", reasons={Reason.NO_DATA: 1})
    a, b = select([one, two])
    assert (a.columns["fid"].tolist(), a.columns["mean"].tolist()) == ([0, 3], [0.0, 2.0])
    assert (b.columns["fid"].tolist(), b.columns["mean"].tolist()) == ([1, 2], [1.0, 2.0])
    assert (a.reasons, b.reasons) == (
        {Reason.CLOUD: 1, Reason.SUPERSEDED: 1},
        {Reason.NO_DATA: 1, Reason.SUPERSEDED: 1},
    )
    assert one.reasons == {Reason.CLOUD: 1}  # the batches given stay as they are


def test_an_empty_row_that_goes_is_not_superseded() -> None:
    """It never had values: its reason is counted already."""
    full = batch({})
    empty = batch({"count": 0, "std": np.nan, "reason": Reason.CLOUD}, baseline=500, reasons={Reason.CLOUD: 1})
    a, b = select([full, empty])
    assert (a.rows, a.reasons, len(b.columns["fid"]), b.reasons) == (1, {}, 0, {Reason.CLOUD: 1})


def test_one_batch_and_none_stay_as_they_are() -> None:
    alone = batch({}, {"fid": 4})
    assert select([alone]) == [alone]
    assert select([]) == []
    nothing = batch()
    assert [len(b.columns["fid"]) for b in select([nothing, alone])] == [0, 2]


def better(a: tuple[Batch, int], b: tuple[Batch, int]) -> bool:
    """Compare two rows with values by the documented rule, step by step."""
    for first, second in zip(_steps(*a), _steps(*b), strict=True):
        if first != second:
            return bool(first > second)
    return False


def _steps(batch_: Batch, row: int) -> Sequence[Any]:
    count, nodata, nbcld = (int(batch_.columns[n][row]) for n in ("count", "nodata", "nbcld"))
    complete = 10 * (nodata - nbcld) < count + nodata
    tile = tuple(-ord(letter) for letter in batch_.product.tile)
    std = -float(batch_.columns["std"][row])
    return (complete, batch_.product.baseline, count, std, tile, batch_.product.generation)


row = st.fixed_dictionaries(
    {
        "count": st.sampled_from([1, 50, 90, 91, 100]),
        "nodata": st.sampled_from([0, 9, 10, 100]),
        "nbcld": st.sampled_from([0, 5]),
        "std": st.sampled_from([0.0, 1.0, 2.5]),
    }
)
batches = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 5), row),
        st.sampled_from([214, 301, 400, 500]),
        st.sampled_from(["31TGJ", "31TGK", "32TLP"]),
        st.sampled_from(["20220403T160000", "20230403T160000"]),
    ),
    max_size=5,
    unique_by=lambda b: b[1:],
)


@given(batches)
@settings(max_examples=150, deadline=None)
def test_every_feature_keeps_exactly_its_best_row(drawn: list[tuple[dict[int, Any], int, str, str]]) -> None:
    made = [
        batch(*({**r, "fid": fid, "nbcld": min(r["nbcld"], r["nodata"])} for fid, r in sorted(rows.items())),
              baseline=baseline, tile=tile, generation=generation)
        for rows, baseline, tile, generation in drawn
    ]  # fmt: skip
    candidates = defaultdict(list)
    for b in made:
        for k, fid in enumerate(b.columns["fid"].tolist()):
            candidates[fid].append((b, k))
    selected = select(made)
    kept = [(fid, str(b.product)) for b in selected for fid in b.columns["fid"].tolist()]
    want = []
    for fid, rows in candidates.items():
        best = rows[0]
        for other in rows[1:]:
            best = other if better(other, best) else best
        want.append((fid, str(best[0].product)))
    assert sorted(kept) == sorted(want)
    for before, after in zip(made, selected, strict=True):
        assert before.rows == after.rows + after.reasons.get(Reason.SUPERSEDED, 0)
        assert np.all(np.diff(after.columns["fid"].astype(int)) > 0)


def lacking(*fids: int, reason: Reason = Reason.NOT_KEPT, rows: Sequence[dict[str, Any]] = ()) -> Batch:
    """Make a batch of a product that kept pixels lack some features of."""
    made = batch(*rows, tile="32TLP", reasons={reason: len(fids)})
    return replace(made, unknown=np.array(fids, np.int64))


@pytest.mark.parametrize("reason", [Reason.NOT_KEPT, Reason.MASK_REACH])
def test_a_feature_that_kept_pixels_lack_in_one_product_has_no_row_of_another(reason: Reason) -> None:
    full = batch({"fid": 1}, {"fid": 2}, {"fid": 5})
    for order in ([0, 1], [1, 0]):
        both = [full, lacking(2, 4, reason=reason)]
        selected = select([both[i] for i in order])
        first, second = selected[order.index(0)], selected[order.index(1)]
        assert first.columns["fid"].tolist() == [1, 5]
        assert dict(first.reasons) == {reason: 1}
        assert "another product" in first.error
        assert dict(second.reasons) == {reason: 2}
    assert select([full]) == [full]


def test_a_row_without_values_says_what_is_not_kept() -> None:
    full = batch({"fid": 2}, {"fid": 3, "count": 0, "reason": Reason.CLOUD})
    rows = [{"fid": fid, "count": 0, "nodata": 100, "reason": Reason.NOT_KEPT} for fid in (2, 3, 4)]
    first, second = select([full, lacking(2, 3, rows=rows)])
    assert first.rows == 0
    assert first.columns["fid"].tolist() == []
    assert second.columns["fid"].tolist() == [2, 3, 4]
