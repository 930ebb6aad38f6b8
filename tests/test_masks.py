from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.masks import DISK11, DISK13, SHORT, SQUARE5, Mask, dilate, families
from sen2chain.products import ProductId

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

OLD = ProductId.parse("S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533")
LAST_OLD = ProductId.parse("S2A_MSIL2A_20220120T062459_N0301_R091_T40KCB_20220120T084533")
NEW = ProductId.parse("S2A_MSIL2A_20220207T062459_N0400_R091_T40KCB_20220207T084533")
REPROCESSED = ProductId.parse("S2A_MSIL2A_20210107T062459_N0500_R091_T40KCB_20230107T084533")

SWITCHES = list(itertools.product((0, 1), repeat=4))
NAMES = [
    "CM001",
    "CM002-B11",
    *(f"CM003-PRB{p}-ITER{i}" for p in (0, 1, 40, 100) for i in (0, 1, 5, 12)),
    *(f"CM004-CSH{a}-CMP{b}-CHP{c}-TCI{d}-ITER{i}" for a, b, c, d in SWITCHES for i in (0, 5)),
    "OCM",
    "SCL-3-8-9-10-11-ITER1",
    "SCL-0-ITER0",
    "SCL-0-1-2-3-4-5-6-7-8-9-10-11-ITER3",
    "none",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_round_trips(name: str) -> None:
    mask = Mask.parse(name)
    assert mask.name == str(mask) == name
    assert Mask.parse(mask.name) == mask
    assert len({mask, Mask.parse(name)}) == 1


def test_names_are_the_parameters() -> None:
    assert Mask.parse("CM003-PRB40-ITER2") == Mask("CM003", probability=40, iterations=2)
    assert Mask.parse("CM004-CSH1-CMP0-CHP1-TCI0-ITER3") == Mask("CM004", classes=(3, 9), iterations=3)
    assert Mask.parse("CM004-CSH0-CMP1-CHP0-TCI1-ITER0") == Mask("CM004", classes=(8, 10))
    assert Mask.parse("SCL-2-11-ITER4") == Mask("SCL", classes=(2, 11), iterations=4)
    assert Mask.parse("CM002") == Mask.parse("CM002-B11") == Mask("CM002")
    assert Mask.parse("OCM_v1_8_1") == Mask.parse("OCM_v2") == Mask("OCM")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "CM",
        "CM005",
        "no",
        "CM003-PRB1-\u0131TER5",
        "CM001 ",
        "CM001\n",
        "CM001-ITER1",
        "CM002-B12",
        "CM003-PRB1",
        "CM003-ITER5",
        "CM003-PRB1-ITER-1",
        "CM003-PRB-ITER1",
        "CM003-PRB1.5-ITER1",
        "CM003-PRB1-ITER1x",
        "CM004-CSH2-CMP1-CHP1-TCI1-ITER1",
        "CM004-CMP1-CSH1-CHP1-TCI1-ITER1",
        "CM004-CSH1-CMP1-CHP1-TCI1",
        "OCM_1",
        "OCM_v",
        "OCM_v1.8",
        "SCL",
        "SCL-ITER1",
        "SCL-3",
        "SCL-3-ITER",
        "SCL--3-ITER1",
        "SCL-3,8-ITER1",
    ],
)
def test_no_name(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Unknown cloud mask") as caught:
        Mask.parse(name)
    for form in ("CM001", "CM002-B11", "CM003-PRB1-ITER5", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "SCL-3-8-9-10-11-ITER1"):
        assert form in str(caught.value)


def test_a_short_name_has_one_meaning_in_whatever_case() -> None:
    meanings = {
        "CM001": "CM001", "CM002": "CM002-B11", "CM003": "CM003-PRB1-ITER5", "CM004": "CM004-CSH1-CMP1-CHP1-TCI1-ITER1",
        "OCM": "OCM", "none": "none",
    }  # fmt: skip
    assert meanings == SHORT
    for short, full in meanings.items():
        for name in (short, short.lower(), short.upper(), full, full.lower(), full.title()):
            assert Mask.parse(name).name == full
    assert Mask.parse("scl-3-8-iter1").name == "SCL-3-8-ITER1"
    assert Mask.parse("ocm_V1_8_1").name == "OCM"
    # The keywords complete these two, with their documented defaults.
    assert Mask.from_keywords("cm004").name == "CM004-CSH1-CMP1-CHP1-TCI1-ITER5"
    assert Mask.from_keywords("None", iterations=3).name == "none"


@pytest.mark.parametrize(
    ("typed", "meant"), [("CM04", "CM004"), ("CM4", "CM004"), ("cm03", "CM003"), ("nonee", "none")]
)
def test_a_mistyped_short_name_gets_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"Did you mean {meant}\?$"):
        Mask.parse(typed)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("CM003-PRB101-ITER1", "0 to 100"),
        ("SCL-12-ITER1", "0 to 11"),
        ("SCL-8-3-ITER1", "ascending"),
        ("SCL-3-3-ITER1", "different"),
    ],
)
def test_names_with_values_that_do_not_exist(name: str, allowed: str) -> None:
    with pytest.raises(RequestError, match=allowed):
        Mask.parse(name)


@pytest.mark.parametrize("text", ["CM003-PRB1-ITER" + "9" * 5000, "SCL-" + "9" * 5000 + "-ITER1"])
def test_numbers_without_end_are_an_error_of_ours(text: str) -> None:
    with pytest.raises(RequestError):
        Mask.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "CM009"}, "Unknown cloud mask 'CM009'"),
        ({"family": "CM004", "iterations": -1}, "from 0 to 1000"),
        ({"family": "CM004", "iterations": True}, "from 0 to 1000"),
        ({"family": "CM004", "iterations": 1.5}, "from 0 to 1000"),
        ({"family": "CM004", "iterations": "1"}, "from 0 to 1000"),
        ({"family": "CM003"}, "probability belongs to CM003"),
        ({"family": "CM001", "probability": 1}, "probability belongs to CM003"),
        ({"family": "CM003", "probability": -1}, "0 to 100"),
        ({"family": "CM003", "probability": 101}, "0 to 100"),
        ({"family": "CM003", "probability": 1.5}, "whole percentages"),
        ({"family": "CM003", "probability": True}, "whole percentages"),
        ({"family": "CM003", "probability": "50"}, "whole percentages"),
        ({"family": "CM001", "iterations": 1}, "no iterations"),
        ({"family": "OCM", "classes": (3,)}, "no classes"),
        ({"family": "CM004", "classes": (3, 11)}, "use SCL"),
        ({"family": "none", "iterations": 1}, "no iterations"),
        ({"family": "SCL"}, "at least one class"),
        ({"family": "SCL", "classes": (12,)}, "0 to 11"),
        ({"family": "SCL", "classes": (-1,)}, "0 to 11"),
        ({"family": "SCL", "classes": (9, 8)}, "ascending"),
    ],
)
def test_fields_check_themselves(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Mask(**fields)


def test_keywords() -> None:
    assert Mask.from_keywords().name == "CM001"
    assert Mask.from_keywords("CM002").name == "CM002-B11"
    assert Mask.from_keywords("CM003").name == "CM003-PRB1-ITER5"
    assert Mask.from_keywords("CM003", probability=40, iterations=0).name == "CM003-PRB40-ITER0"
    assert Mask.from_keywords("CM004").name == "CM004-CSH1-CMP1-CHP1-TCI1-ITER5"
    assert Mask.from_keywords("OCM").name == "OCM"
    assert Mask.from_keywords("SCL-3-8-ITER1", iterations=9).name == "SCL-3-8-ITER1"
    assert Mask.from_keywords("CM001", probability=7, iterations=3, thin_cir=False).name == "CM001"
    for csh, cmp, chp, tci in SWITCHES:
        mask = Mask.from_keywords(
            "CM004", iterations=2, cld_shad=bool(csh), cld_med_prob=bool(cmp), cld_hi_prob=bool(chp), thin_cir=bool(tci)
        )
        assert mask.name == f"CM004-CSH{csh}-CMP{cmp}-CHP{chp}-TCI{tci}-ITER2"
    for bad in ("CM5", "", "CM004-x", "OCM1", "SCL"):
        with pytest.raises(UnknownNameError):
            Mask.from_keywords(bad)
    with pytest.raises(RequestError, match="iterations is -1"):
        Mask.from_keywords("CM003", iterations=-1)


def test_inputs_and_reach() -> None:
    found = {name: (Mask.parse(name).inputs, Mask.parse(name).reach) for name in NAMES}
    assert found["CM001"] == (("CLDPRB",), 6)
    assert found["CM002-B11"] == (("CLDPRB", "B11"), 12)
    assert found["CM003-PRB40-ITER5"] == (("CLDPRB",), 10)
    assert found["CM004-CSH1-CMP1-CHP1-TCI1-ITER0"] == (("SCL",), 0)
    assert found["SCL-3-8-9-10-11-ITER1"] == (("SCL",), 2)
    assert found["OCM"] == ((), 0)
    assert {Mask.parse(name).family for name in NAMES} == set(families())


def test_a_stored_mask_must_have_exactly_these_parameters() -> None:
    suffixes = ["CM001", "CM002-B11", "CM003-PRB1-ITER5", "CM003-PRB1-ITER0", "CM004-CSH1-CMP1-CHP1-TCI1-ITER0"]
    expected = {
        "CM001": "CM001",
        "CM003-PRB1-ITER5": "CM003-PRB1-ITER5",
        "CM003-PRB2-ITER5": None,
        "CM003-PRB1-ITER0": None,  # the original dilated it without end
        "CM004-CSH1-CMP1-CHP1-TCI1-ITER0": "CM004-CSH1-CMP1-CHP1-TCI1-ITER0",
        "CM004-CSH1-CMP1-CHP1-TCI1-ITER1": None,
        "SCL-3-8-9-10-ITER0": None,
        "OCM": None,
    }
    for product in (OLD, NEW):
        assert {name: Mask.parse(name).stored(product, iter(suffixes)) for name in expected} == expected


@pytest.mark.parametrize(("product", "trusted"), [(OLD, True), (LAST_OLD, True), (NEW, False), (REPROCESSED, False)])
def test_stored_cm002_is_wrong_from_baseline_4_on(product: ProductId, trusted: bool) -> None:  # noqa: FBT001  # a table
    assert Mask("CM002").stored(product, ["CM002-B11"]) == ("CM002-B11" if trusted else None)


def test_newest_ocm() -> None:
    ocm = Mask("OCM")
    assert ocm.stored(NEW, ["OCM_v1_8_1"]) == "OCM_v1_8_1"
    assert ocm.stored(NEW, ["CM001", "OCM_v1_9", "OCM_v1_10_0", "OCM_v1_8_1"]) == "OCM_v1_10_0"
    assert ocm.stored(NEW, ["OCM_v2_0", "OCM_v10_0"]) == "OCM_v10_0"
    assert ocm.stored(NEW, ["OCM_v1_8_1", "OCM_v1_8"]) == "OCM_v1_8_1"
    assert ocm.stored(NEW, ["CM001", "OCM_x"]) is None
    with pytest.raises(RequestError, match="only read"):
        ocm.compute({})


def structure(kernel: tuple[int, ...]) -> Array:
    columns = np.arange(len(kernel)) - len(kernel) // 2
    return np.array([np.abs(columns) <= width // 2 for width in kernel])


def test_kernels_are_the_documented_ones() -> None:
    assert structure(SQUARE5).sum() == 3 + 5 + 5 + 5 + 3
    assert structure(DISK11).sum() == 3 + 7 + 9 + 9 + 11 + 11 + 11 + 9 + 9 + 7 + 3
    assert structure(DISK13).sum() == 3 + 7 + 9 + 11 + 11 + 13 + 13 + 13 + 11 + 11 + 9 + 7 + 3
    point = np.zeros((15, 15), dtype=bool)
    point[7, 7] = True
    for kernel in (SQUARE5, DISK11, DISK13):
        grown = dilate(point, kernel)
        rows = grown.sum(axis=1)
        assert tuple(rows[rows > 0]) == kernel
        assert (grown == grown[::-1]).all()
        assert (grown == grown[:, ::-1]).all()


SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.sampled_from([SQUARE5, DISK11, DISK13]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_dilation_is_scipys(shape: tuple[int, int], kernel: tuple[int, ...], density: float, seed: int) -> None:
    image = np.random.default_rng(seed).random(shape) < density**3
    before = image.copy()
    np.testing.assert_array_equal(dilate(image, kernel), ndi.binary_dilation(image, structure(kernel)))
    np.testing.assert_array_equal(image, before)


def blobs(shape: tuple[int, int], seed: int) -> Array:
    """Noise from -1 to 1 with patches of a few pixels, as clouds have."""
    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.standard_normal(shape), rng.uniform(0, 3))
    result: Array = noise / max(np.abs(noise).max(), 1e-9)
    return result


def scene(shape: tuple[int, int], seed: int) -> dict[str, Array]:
    """CLDPRB, SCL and B11 of a scene in which every rule finds something."""
    rng = np.random.default_rng(seed)
    noise = np.clip(blobs(shape, seed) * 60 + rng.uniform(0, 50), 0, 100)
    cldprb = np.where(rng.random(shape) < 0.02, rng.choice([0, 1, 25, 26, 40, 100], shape), noise).astype(np.uint8)
    b11 = np.where(rng.random(shape) < 0.05, np.nan, 0.5 + 0.6 * blobs(shape, seed + 1))
    b11[rng.random(shape) < 0.02] = 0.15
    scl = np.where(rng.random(shape) < 0.9, 4, rng.integers(0, 12, shape)).astype(np.uint8)
    return {"CLDPRB": cldprb, "SCL": scl, "B11": b11}


def grown(image: Array, kernel: tuple[int, ...], times: int = 1) -> Array:
    for _ in range(times):
        image = ndi.binary_dilation(image, structure(kernel))
    return image


def cm001(s: dict[str, Array]) -> Array:
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    return grown(ndi.binary_erosion(s["CLDPRB"] > 25, cross, border_value=0), DISK11)


RULES: dict[str, Callable[[dict[str, Array]], Array]] = {
    "CM001": cm001,
    "CM002-B11": lambda s: grown(cm001(s) & ~grown(s["B11"] < 0.15, DISK11), DISK13),
    "CM003-PRB1-ITER0": lambda s: s["CLDPRB"] >= 1,
    "CM003-PRB40-ITER1": lambda s: grown(s["CLDPRB"] >= 40, SQUARE5),
    "CM003-PRB0-ITER0": lambda s: np.ones_like(s["CLDPRB"], dtype=bool),
    "CM003-PRB100-ITER4": lambda s: grown(s["CLDPRB"] == 100, SQUARE5, 4),
    "CM004-CSH1-CMP1-CHP1-TCI1-ITER1": lambda s: grown(np.isin(s["SCL"], [3, 8, 9, 10]), SQUARE5),
    "CM004-CSH1-CMP0-CHP0-TCI0-ITER2": lambda s: grown(s["SCL"] == 3, SQUARE5, 2),
    "CM004-CSH0-CMP1-CHP0-TCI0-ITER0": lambda s: s["SCL"] == 8,
    "CM004-CSH0-CMP0-CHP1-TCI0-ITER0": lambda s: s["SCL"] == 9,
    "CM004-CSH0-CMP0-CHP0-TCI1-ITER0": lambda s: s["SCL"] == 10,
    "CM004-CSH0-CMP0-CHP0-TCI0-ITER3": lambda s: np.zeros_like(s["SCL"], dtype=bool),
    "SCL-0-11-ITER3": lambda s: grown(np.isin(s["SCL"], [0, 11]), SQUARE5, 3),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(RULES)), SHAPES, st.integers(0, 2**32 - 2))
def test_each_rule_is_scipys(name: str, shape: tuple[int, int], seed: int) -> None:
    rasters = scene(shape, seed)
    mask = Mask.parse(name)
    found = mask.compute({n: rasters[n] for n in mask.inputs})
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, RULES[name](rasters))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(RULES)),
    st.tuples(st.integers(20, 70), st.integers(20, 70)),
    st.tuples(*(st.floats(0, 1) for _ in range(4))),
    st.integers(0, 2**32 - 2),
)
def test_a_window_with_its_margin_equals_the_scene(
    name: str, shape: tuple[int, int], cut: tuple[float, ...], seed: int
) -> None:
    mask, rasters = Mask.parse(name), scene(shape, seed)
    whole = mask.compute(rasters)
    (a, b), (c, d) = (sorted(round(f * n) for f in cut[2 * i : 2 * i + 2]) for i, n in enumerate(shape))
    b, d = max(b, a + 1), max(d, c + 1)
    top, left = max(a - mask.reach, 0), max(c - mask.reach, 0)
    window = {n: r[top : b + mask.reach, left : d + mask.reach] for n, r in rasters.items()}
    part = mask.compute(window)[a - top : b - top, c - left : d - left]
    np.testing.assert_array_equal(part, whole[a:b, c:d])


@pytest.mark.parametrize("name", ["CM001", "CM002-B11", "CM003-PRB1-ITER3", "SCL-3-ITER2"])
def test_reach_is_no_larger_than_needed(name: str) -> None:
    mask = Mask.parse(name)
    n = 2 * mask.reach + 7
    clear = {"CLDPRB": np.zeros((n, n), np.uint8), "SCL": np.zeros((n, n), np.uint8), "B11": np.full((n, n), 0.5)}
    centre = n // 2
    cloudy = {k: v.copy() for k, v in clear.items()}
    cloudy["CLDPRB"][centre - 1 : centre + 2, centre - 1 : centre + 2] = 100
    cloudy["SCL"][centre, centre] = 3
    rows = np.flatnonzero(mask.compute(cloudy).any(axis=1))
    outermost = centre + (1 if "CLDPRB" in mask.inputs else 0)
    assert not mask.compute(clear).any()
    assert rows.max() == outermost + mask.reach - (2 if name in {"CM001", "CM002-B11"} else 0)


def test_b11_without_data_is_not_dark() -> None:
    cloud = np.full((9, 9), 90, np.uint8)
    for b11, masked in ((np.nan, True), (0.149, False), (0.15, True)):
        found = Mask("CM002").compute({"CLDPRB": cloud, "B11": np.full((9, 9), b11)})
        assert found.all() == found.any() == masked


def test_cm002_keeps_clouds_where_b11_has_no_data() -> None:
    probability = np.zeros((60, 60), np.uint8)
    probability[20:40, 20:40] = 90
    cloud = Mask.parse("CM001").compute({"CLDPRB": probability})
    found = Mask.parse("CM002-B11").compute({"CLDPRB": probability, "B11": np.full((60, 60), np.nan)})
    assert (found == dilate(cloud, DISK13)).all()
    assert not Mask.parse("CM002-B11").compute({"CLDPRB": probability, "B11": np.full((60, 60), 0.1)}).any()
