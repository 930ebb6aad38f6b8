"""Offsets of items: decided from collection, baseline, flag, and pixels where needed."""

from __future__ import annotations

import pickle

import pytest

from sen2chain.archive.offset_check import Verdict
from sen2chain.archive.stac.offsets import StacDetails, Told
from sen2chain.products import ProductId

NEW = ProductId.parse("S2B_MSIL2A_20250302T095029_N0511_R079_T33UXP_20250302T104753")
OLD = ProductId.parse("S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533")
KEPT = Told(Verdict.INCLUDED, settled=True)


def details(product: ProductId = NEW, told: Told = KEPT) -> StacDetails:
    return StacDetails(product, "S2B_33UXP_20250302_0_L2A", "catalogue/collection/item/1", told)


def test_settled_collection_needs_no_pixels() -> None:
    radiometry = details().radiometry()
    assert radiometry.quantification == 10000.0
    assert set(radiometry.offsets) == {band.name for band in NEW.sensor.bands}
    assert set(radiometry.offsets.values()) == {-1000.0}


def test_old_baselines_have_no_offset() -> None:
    assert set(details(OLD).radiometry().offsets.values()) == {0.0}


def test_reprocessed_items_have_the_offset_of_their_own_baseline() -> None:
    told = Told(Verdict.INCLUDED, settled=True, baseline=5.0)
    assert set(details(OLD, told).radiometry().offsets.values()) == {-1000.0}


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (Told(flag=True), Verdict.SUBTRACTED),
        (Told(flag=False, offsets={"B04": 0.0}), Verdict.INCLUDED),
        (Told(offsets={"B04": -1000.0}), Verdict.INCLUDED),
        (Told(offsets={"B04": 0.0}), Verdict.SUBTRACTED),
        (Told(offsets={"B04": 0.0, "B03": -1000.0}), Verdict.UNDECIDED),
        (Told(), Verdict.UNDECIDED),
    ],
)
def test_item_says_its_state(told: Told, state: Verdict) -> None:
    assert told.item is state


def test_details_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(details())) == details()  # noqa: S301  # made here
