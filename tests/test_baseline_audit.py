"""Dates with a wrong offset, found in simulated archives of 200 dates and among real pixels; no alarm on right ones."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import dark_scenes
from audit_scenes import HAZE_SEEN, Archive, simulate
from sen2chain.archive import SafeFolder
from sen2chain.inspection.audit_pictures import audit_bands, audit_tile, witness_of
from sen2chain.inspection.baseline_audit import Offset, Pictures, audit
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sen2chain.inspection.baseline_audit import DateVerdict

RIGHT, HIGH, LOW = Offset.RIGHT, Offset.TOO_HIGH, Offset.TOO_LOW
CONTRADICTED, UNDECIDED = Offset.CONTRADICTED, Offset.UNDECIDED
VEGETATED = ("farmland", "mountains", "savanna")
WRONG = {HIGH, LOW, CONTRADICTED}


def offsets(
    archive: Archive, errors: Mapping[int, float] | None = None, told: Sequence[int | None] | None = None
) -> list[Offset]:
    return [verdict.offset for verdict in audit(archive.pictures(dict(errors or {})), told)]


def wanted(error: float) -> Offset:
    return HIGH if error > 0 else LOW


@pytest.fixture(scope="module")
def farmland() -> Archive:
    return simulate("farmland", 0, size=40)


@pytest.mark.parametrize(
    ("place", "seed"), [("farmland", 11), ("coast", 11), ("mountains", 12), ("desert", 11), ("savanna", 12)]
)
def test_wrong_dates_of_200_are_found_and_right_ones_raise_no_alarm(place: str, seed: int) -> None:
    archive = simulate(place, seed, size=40)
    right = offsets(archive)
    assert not WRONG & set(right)
    judgeable = [date for date in range(200) if archive.judgeable(date)]
    judged = [date for date in judgeable if right[date] is RIGHT]
    assert len(judged) > 0.8 * len(judgeable)  # so that silence is not the reason
    rng = np.random.default_rng((seed, 5))
    # One in a hundred: the offset is missing, or subtracted twice.
    for error in (0.1, -0.1):
        wrong = rng.choice(judgeable, 2, replace=False).tolist()
        found = offsets(archive, dict.fromkeys(wrong, error))
        assert not WRONG & {found[date] for date in range(200) if date not in wrong}
        for date in wrong:
            # On the coast and in the desert there may be nothing on a date that tells; it never passes for right.
            allowed = {wanted(error)} if place in VEGETATED else {wanted(error), UNDECIDED}
            assert found[date] in allowed, (date, error)


def test_dates_without_clear_ground_are_undecided(farmland: Archive) -> None:
    verdicts = audit(farmland.pictures())
    covered = [date for date in range(200) if farmland.clear[date].mean() < 0.01 and farmland.has_classes[date]]
    assert len(covered) > 10
    assert sum(verdicts[date].offset is UNDECIDED for date in covered) > 0.8 * len(covered)
    assert all(verdict.reason for verdict in verdicts)


@pytest.mark.parametrize(
    "errors",
    [
        dict.fromkeys(range(50, 60), 0.1),
        dict.fromkeys(range(140, 200), -0.1),
        {date: (0.1, -0.1)[date % 2] for date in range(3, 200, 9)},
        dict.fromkeys(range(60, 90), 0.1) | dict.fromkeys(range(120, 150), -0.1),
    ],
    ids=["ten", "the last sixty", "one in nine", "two stretches"],
)
def test_stretches_of_wrong_dates_are_found_as_long_as_they_are_few(
    farmland: Archive, errors: dict[int, float]
) -> None:
    found = offsets(farmland, errors)
    assert {found[date] for date in range(200) if date not in errors} <= {RIGHT, UNDECIDED}
    judgeable = [date for date in errors if farmland.judgeable(date)]
    assert {(found[date], wanted(errors[date])) for date in judgeable if found[date] is not UNDECIDED} <= {
        (HIGH, HIGH),
        (LOW, LOW),
    }
    assert sum(found[date] is not UNDECIDED for date in judgeable) >= 0.6 * len(judgeable)


def test_where_half_of_the_dates_differ_single_products_tell_which_are_wrong(farmland: Archive) -> None:
    errors = dict.fromkeys(range(100, 200), -0.1)
    silent = offsets(farmland, errors)
    assert not {RIGHT, HIGH, LOW} & set(silent)
    assert silent.count(CONTRADICTED) > 100
    told = [(-1 if date in errors else 0) if date % 7 == 0 else None for date in range(200)]
    found = offsets(farmland, errors, told)
    assert not {HIGH, LOW, CONTRADICTED} & set(found[:100])
    assert set(found[100:]) == {LOW, UNDECIDED}
    assert found[100:].count(LOW) > 60


def test_an_archive_that_is_wrong_as_a_whole_is_found_by_its_dark_pixels(farmland: Archive) -> None:
    told = [1 if date % 9 == 0 else None for date in range(200)]
    found = offsets(farmland, dict.fromkeys(range(200), 0.1), told)
    assert set(found) == {HIGH, UNDECIDED}
    # Two products alone do not outweigh 150 others.
    few = [1 if date in {20, 60} else None for date in range(200)]
    assert not WRONG & set(offsets(farmland, {}, few))


@pytest.mark.parametrize("dates", [1, 2, 3])
def test_few_dates_are_undecided_with_the_reason(farmland: Archive, dates: int) -> None:
    whole = farmland.pictures({1: 0.1})
    clear = [date for date in range(200) if farmland.clear[date].mean() > 0.8][: dates - 1]
    chosen = [1, *clear]
    verdicts = audit(Pictures(whole.reflectance[chosen], whole.clear[chosen], whole.haze))
    assert {verdict.offset for verdict in verdicts} == {UNDECIDED}
    assert f"only {dates - 1} other dates are clear, and 3 are needed" in verdicts[0].reason or dates > 1
    # What its own pixels show still counts.
    alone = audit(Pictures(whole.reflectance[:1], whole.clear[:1], whole.haze), [1])
    assert [(verdict.offset, verdict.shift) for verdict in alone] == [(HIGH, 0.1)]


def test_of_five_clear_dates_the_wrong_one_is_found(farmland: Archive) -> None:
    clear = [date for date in range(200) if farmland.clear[date].mean() > 0.8]
    chosen = next(clear[k : k + 5] for k in range(len(clear)) if clear[k + 4] - clear[k] < 20)
    for error in (0.1, -0.1):
        pictures = farmland.pictures({chosen[2]: error})
        verdicts = audit(Pictures(pictures.reflectance[chosen], pictures.clear[chosen], pictures.haze))
        assert verdicts[2].offset is wanted(error)
        assert verdicts[2].shift == pytest.approx(error)
        assert {verdict.offset for k, verdict in enumerate(verdicts) if k != 2} <= {RIGHT, UNDECIDED}


def test_without_infrared_a_shift_is_not_told_from_haze(farmland: Archive) -> None:
    whole = farmland.pictures({30: 0.1})
    verdicts = audit(Pictures(whole.reflectance[..., :3], whole.clear, HAZE_SEEN[:3]))
    assert {verdict.offset for verdict in verdicts} == {UNDECIDED}
    assert "infrared" in verdicts[0].reason


def test_glint_on_a_sea_is_no_wrong_offset_and_reflectance_below_zero_is_one() -> None:
    rng = np.random.default_rng(3)
    sea = np.array([0.040, 0.042, 0.030, 0.010, 0.005, 0.004])
    values = np.empty((40, 30, 30, 6), np.float32)
    for date in range(40):
        values[date] = sea + rng.uniform(0, 0.01) + 0.004 * rng.standard_normal((30, 30, 6))
    values[10] += 0.1  # a very even glint
    values[20] -= 0.1
    found = [v.offset for v in audit(Pictures(values, np.ones(values.shape[:3], np.bool_), HAZE_SEEN))]
    assert found[20] is LOW
    assert found[10] is UNDECIDED
    assert not WRONG & {offset for date, offset in enumerate(found) if date != 20}


def test_one_band_that_contradicts_the_others_is_named(farmland: Archive) -> None:
    archive = farmland
    verdicts = audit(archive.pictures({}))
    assert not [verdict for verdict in verdicts if verdict.shift]
    right = [verdict.offset for verdict in verdicts]
    dates = [
        date
        for date in range(200)
        if archive.judgeable(date) and right[date] is RIGHT and verdicts[date].votes > 0.7 * verdicts[date].pixels
    ][-4:]
    pictures = archive.pictures({})
    changed = pictures.reflectance.copy()
    changed[dates[0], ..., 3] += 0.1
    changed[dates[1], ..., 2] -= 0.1
    changed[dates[2], ..., 2] = 0.45 - changed[dates[2], ..., 2]  # another product's
    named = Pictures(changed, pictures.clear, pictures.haze, ("B02", "B03", "B04", "B8A", "B11", "B12"))
    found = audit(named, [-1 if date == dates[2] else None for date in range(200)])
    assert [found[date].offset for date in dates[:3]] == [UNDECIDED] * 3
    assert [found[date].band for date in dates[:3]] == ["B8A", "B04", "B04"]
    assert [round(found[date].shift, 3) for date in dates[:3]] == [0.1, -0.1, 0]
    assert found[dates[2]].reason.startswith("its bands contradict each other: all but B04 agree")
    assert not WRONG & {verdict.offset for verdict in found}
    assert sum(bool(verdict.shift) for verdict in found) == 2


def test_one_band_of_another_product_is_no_witness() -> None:
    scene = dark_scenes.simulate("crops")
    kept, lost = (dark_scenes.stored(scene, included=included) for included in (True, False))
    for numbers, said in ((kept, 0), (lost, -1)):
        bands = {band: numbers[band] for band in ("B04", "B08")} | {"B03": numbers["B04"]}
        assert witness_of(bands, numbers["SCL"], SENTINEL2, {-1000.0}) == said
    for red, green in ((lost, kept), (kept, lost)):
        bands = {"B04": red["B04"], "B03": green["B04"], "B08": kept["B08"]}
        assert witness_of(bands, kept["SCL"], SENTINEL2, {-1000.0}) is None


def test_odd_pictures_do_not_fail() -> None:
    nothing = np.full((3, 5, 4, 6), np.nan, np.float32)
    verdicts = audit(Pictures(nothing, np.zeros((3, 5, 4), np.bool_), HAZE_SEEN))
    assert {verdict.offset for verdict in verdicts} == {UNDECIDED}
    assert audit(Pictures(nothing[:0], np.zeros((0, 5, 4), np.bool_), HAZE_SEEN)) == []


# -------------------------------------------------------------------------------------------------------- real pixels

CLOUDED = {"20220605", "20220607", "20220622"}


def by_day(folder: Path) -> dict[str, DateVerdict]:
    products = SafeFolder(folder).acquisitions("32TPS")
    assert audit_bands(products) == ("B04", "B03", "B02", "B08")
    return {str(product.id)[11:19]: verdict for product, verdict in audit_tile(products, 2)}


def test_real_dates_are_right_as_they_are(bolzano: Path) -> None:
    found = by_day(bolzano / "L2A")
    assert len(found) == 12
    assert {day for day, verdict in found.items() if verdict.offset is UNDECIDED} == CLOUDED
    assert {verdict.offset for day, verdict in found.items() if day not in CLOUDED} == {RIGHT}


@pytest.mark.parametrize(
    "altered",
    [
        {"20220602": 0, "20220617": -2000, "20220630": 0},
        {"20220610": 0},
        {"20220627": -2000, "20220605": 0},
        dict.fromkeys(("20220620", "20220622", "20220625", "20220627", "20220630"), 0),
    ],
    ids=["three", "missing", "doubled", "half"],
)
def test_real_dates_with_altered_metadata_are_found(bolzano: Path, tmp_path: Path, altered: dict[str, int]) -> None:
    copy = tmp_path / "L2A"
    shutil.copytree(bolzano / "L2A", copy, copy_function=shutil.copyfile)
    for day, offset in altered.items():
        (path,) = copy.glob(f"*/*_{day}T*/MTD_MSIL2A.xml")
        path.parent.chmod(0o755)
        text = path.read_text(encoding="utf-8")
        changed = re.sub(r"(<BOA_ADD_OFFSET[^>]*>)-1000<", rf"\g<1>{offset}<", text)
        assert changed != text
        path.write_text(changed, encoding="utf-8")
    found = by_day(copy)
    for day, verdict in found.items():
        expected = UNDECIDED if day in CLOUDED else RIGHT
        if day in altered and day not in CLOUDED:
            expected = HIGH if altered[day] == 0 else LOW
        assert verdict.offset is expected, (day, verdict)
