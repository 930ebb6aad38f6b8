from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import FormulaError, RequestError, UnknownNameError
from sen2chain.indices import INDICES, Index, reflectance, resolve_indices
from sen2chain.sensor import SENTINEL2

NODATA = 32767


def value(formula: str | Index, **bands: float) -> int:
    index = formula if isinstance(formula, Index) else Index("X", formula)
    found = index.compute({band: np.array([v]) for band, v in bands.items()})
    assert found.dtype == np.int16
    assert found.shape == (1,)
    return int(found[0])


# B02 0.04, B03 0.06, B04 0.05, B05 0.1, B06 0.2, B07 0.25, B08 0.3, B11 0.2, B12 0.1
SURFACE = {
    "B02": 0.04,
    "B03": 0.06,
    "B04": 0.05,
    "B05": 0.1,
    "B06": 0.2,
    "B07": 0.25,
    "B08": 0.3,
    "B11": 0.2,
    "B12": 0.1,
}
BY_HAND = [
    ("NDVI", ("B04", "B08"), 7143),  # 0.25 / 0.35
    ("NDWIMCF", ("B03", "B08"), -6667),  # -0.24 / 0.36
    ("NDWIGAO", ("B08", "B11"), 2000),  # 0.1 / 0.5
    ("MNDWI", ("B03", "B11"), -5385),  # -0.14 / 0.26
    ("NDRE", ("B05", "B08"), 5000),  # 0.2 / 0.4
    ("NBR", ("B08", "B12"), 5000),  # 0.2 / 0.4
    ("NDBI", ("B08", "B11"), -2000),  # -0.1 / 0.5
    ("IRECI", ("B04", "B05", "B06", "B07"), 4000),  # 0.2 / (0.1 / 0.2)
    ("EVI", ("B02", "B04", "B08"), 4808),  # 2.5 * 0.25 / (0.3 + 0.3 - 0.3 + 1)
    ("BIGR", ("B03", "B04"), 552),  # sqrt((0.0036 + 0.0025) / 2)
    ("BIRNIR", ("B04", "B08"), 2151),  # sqrt((0.0025 + 0.09) / 2)
    ("BIBG", ("B02", "B03"), 510),  # sqrt((0.0016 + 0.0036) / 2)
]


@pytest.mark.parametrize(("name", "bands", "expected"), BY_HAND)
def test_the_twelve_by_hand(name: str, bands: tuple[str, ...], expected: int) -> None:
    index = INDICES[name]
    assert index.name == name
    assert index.bands == bands
    assert value(index, **{band: SURFACE[band] for band in bands}) == expected


def test_there_are_twelve() -> None:
    assert list(INDICES) == [name for name, _, _ in BY_HAND]


@pytest.mark.parametrize(
    ("thirty_seconds", "stored"),
    [(1, 312), (3, 938), (5, 1562), (7, 2188), (-1, -312), (-3, -938), (-5, -1562), (-7, -2188)],
)
def test_halves_go_to_even(thirty_seconds: int, stored: int) -> None:
    # n / 32 is exact in binary, and so is n * 312.5.
    assert value("B04", B04=thirty_seconds / 32) == stored
    assert value("B04", B04=math.nextafter(thirty_seconds / 32, 9)) == math.ceil(thirty_seconds * 312.5)
    assert value("B04", B04=math.nextafter(thirty_seconds / 32, -9)) == math.floor(thirty_seconds * 312.5)


@pytest.mark.parametrize(
    ("x", "stored"),
    [
        (3.2766, 32766), (3.2767, 32766), (3.27664, 32766), (9.0, 32766), (1e300, 32766),
        (-3.2767, -32767), (-3.2768, -32768), (-3.2769, -32768), (-1e300, -32768),
        (math.inf, NODATA), (-math.inf, NODATA), (math.nan, NODATA),
    ],
)  # fmt: skip
def test_saturation_never_becomes_nodata(x: float, stored: int) -> None:
    assert value("B04", B04=x) == stored


@pytest.mark.parametrize("scale", [10000, 1000, 100, 10, 1])
def test_a_smaller_scale_reaches_farther(scale: int) -> None:
    index = Index("SR", "B08/B04", scale=scale)
    assert (index.lowest, index.highest) == (-32768 / scale, 32766 / scale)
    bands = {"B08": np.array([1.0, 0.7, 3.2766, 0.5, 1e4, np.nan]), "B04": np.array([1.0, 0.01, 1.0, 0.0, 1e-9, 1.0])}
    stored = index.compute(bands)
    highest = 32766
    assert stored.tolist() == [
        scale, min(70 * scale, highest), min(round(3.2766 * scale), highest), NODATA, highest, NODATA,
    ]  # fmt: skip
    # 3.2766 is the highest value itself where the scale is 10000, and no clipped one.
    assert index.clipped(stored, bands).tolist() == ([1, 4] if scale > 100 else [4])
    assert index.evaluate(bands)[1] == pytest.approx(70)


def test_clipped_low_values_and_the_lowest_value_itself() -> None:
    index = Index("X", "B04")
    bands = {"B04": np.array([-3.2768, -3.27684, -3.27686, -9.0, 3.27664, 3.27666])}
    stored = index.compute(bands)
    assert stored.tolist() == [-32768, -32768, -32768, -32768, 32766, 32766]
    assert index.clipped(stored, bands).tolist() == [2, 3, 5]


@pytest.mark.parametrize("scale", [0, -1, 7, 20000, 100.0, "100", True, None])
def test_no_scale(scale: Any) -> None:
    with pytest.raises(RequestError, match=r"The scale of SR is .*; allowed: 10000, 1000, 100, 10, 1\."):
        Index("SR", "B08/B04", scale=scale)


def test_the_scale_belongs_to_the_index() -> None:
    index = Index("SR", "B08/B04", scale=100)
    assert index != Index("SR", "B08/B04")
    assert index.definition == "B08/B04 scale=100"
    assert Index("SR", "B08/B04").definition == "B08/B04"
    assert Index.parse(f"SR={index.definition}") == index == Index.parse("SR = B08/B04  scale = 100 ")
    with pytest.raises(RequestError, match="The scale of SR is 50"):
        Index.parse("SR=B08/B04 scale=50")
    with pytest.raises(RequestError, match="SR already stands for B08/B04 scale=100"):
        resolve_indices([index, "SR=B08/B04"])
    with pytest.raises(RequestError, match="NDVI already stands for"):
        resolve_indices([Index("NDVI", INDICES["NDVI"].formula, scale=100)])


@pytest.mark.parametrize(
    ("formula", "defined"),
    [
        ("B08/B04", 10000), ("0*B08/B04", 0), ("B04/B04", 10000), ("B08/(B08/B04)", 5000), ("1/(B08/(B04+0))", 10000),
        ("B08-B08/(B08/B04)", 0), ("min(B08/B04, 0.1)", 1000), ("max(0.1, B08/B04)", 10000), ("log(B04)", -6931),
        ("sqrt(B04-B08)", 0), ("(B04-B08)**0.5", 0), ("B04**-1", 20000), ("log(B04-0.25)", -13863),
    ],
)  # fmt: skip
def test_undefined_is_nodata(formula: str, defined: int) -> None:
    assert value(formula, B08=0.5, B04=0.0) == NODATA
    assert value(formula, B08=0.5, B04=0.5) == defined


@pytest.mark.parametrize(
    "formula",
    ["(B08/B04)**0", "1**(B08/B04)", "sqrt(B04-B08)**0", "B08/(B04**-1)", "B08/log(B04)", "exp(log(B04))"],
)
def test_undefined_stays_undefined_whatever_follows(formula: str) -> None:
    assert value(formula, B08=0.5, B04=0.0) == NODATA


@pytest.mark.parametrize("index", [i for i in INDICES.values() if "/" in i.formula], ids=lambda i: i.name)
def test_zero_over_zero_is_nodata(index: Index) -> None:
    stored = value(index, **dict.fromkeys(index.bands, 0.0))
    assert stored == (0 if index.name.startswith(("BI", "EVI")) else NODATA)


@pytest.mark.parametrize(
    "formula",
    ["B04**0+B08", "min(B04,B08)", "max(B04,B08)", "min(B08,B04)", "1**B04*B08", "0*B04+B08", "B08/(1/B04)"],
)
def test_no_data_cannot_be_hidden(formula: str) -> None:
    assert value(formula, B04=math.nan, B08=0.25) == NODATA
    assert value(formula, B04=0.25, B08=math.nan) == NODATA
    assert value(formula, B04=0.25, B08=0.5) != NODATA


def test_shapes_are_kept_and_inputs_untouched() -> None:
    bands = {"B04": np.array([[0.1, np.nan], [0.0, 0.3]]), "B08": np.array([[0.3, 0.2], [0.0, 0.1]])}
    before = {k: v.copy() for k, v in bands.items()}
    assert INDICES["NDVI"].compute(bands).tolist() == [[5000, NODATA], [NODATA, -5000]]
    for name, array in before.items():
        np.testing.assert_array_equal(bands[name], array)
    assert Index("X", "B04*0+0.5").compute({"B04": np.zeros((0, 3))}).shape == (0, 3)


def test_reflectance() -> None:
    dn = np.array([0, 1, 999, 1000, 1001, 11000, 65534, 65535], np.uint16)
    nan = math.nan
    np.testing.assert_array_equal(reflectance(dn, -1000.0, 10000.0), [nan, 0.0, 0.0, 0.0, 0.0001, 1.0, 6.4534, nan])
    np.testing.assert_array_equal(reflectance(dn, 0.0, 10000.0), [nan, 0.0001, 0.0999, 0.1, 0.1001, 1.1, 6.5534, nan])
    np.testing.assert_array_equal(reflectance(np.array([nan, 0.5, 1500.25]), -1000.0, 1000.0), [nan, 0.0, 0.50025])
    assert reflectance(dn, 0.0, 10000.0).dtype == np.float64
    assert dn[0] == 0


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(INDICES)), st.integers(0, 2**32 - 1))
def test_whole_arrays_are_the_formula_read_by_python(name: str, seed: int) -> None:
    index = INDICES[name]
    rng = np.random.default_rng(seed)
    dn = {band: rng.integers(1, 12000, 50).astype(np.float64) for band in index.bands}
    bands = {band: reflectance(v, -1000.0, 10000.0) for band, v in dn.items()}
    found = index.compute(bands)
    for i in range(50):
        numbers = {band: float(v[i]) for band, v in bands.items()} | {"sqrt": math.sqrt}
        try:
            real = eval(index.formula, {"__builtins__": {}}, numbers) * 10000  # noqa: S307  # our own twelve formulas
        except ZeroDivisionError:
            assert found[i] == NODATA
            continue
        assert abs(found[i] - max(min(real, 32766), -32768)) <= 0.5 + 1e-9


def test_operators_bind_as_written() -> None:
    assert value("B04-B08-B11", B04=0.9, B08=0.3, B11=0.2) == 4000
    assert value("B04/B08/B11", B04=0.8, B08=4.0, B11=2.0) == 1000
    assert value("2**B04**B08", B04=3.0, B08=-1.0) == round(2 ** (1 / 3) * 10000)
    assert value("-B04**2", B04=0.5) == -2500
    assert value("+B04", B04=0.5) == 5000
    assert value("(B04+B08)*2", B04=0.1, B08=0.2) == 6000
    assert value("exp(B04)", B04=1.0) == 27183
    assert value("log(B04)", B04=0.5) == -6931
    assert value("abs(B04-B08)", B04=0.1, B08=0.3) == 2000
    assert value("min(B04,B08)", B04=0.1, B08=0.3) == 1000
    assert value("max(B04, 0.2)", B04=0.1) == 2000
    assert value("1.5*(B08-B04)/(B08+B04+0.5)", B08=0.5, B04=0.25) == 3000


def test_bands_in_the_order_of_their_wavelength() -> None:
    formula = "+".join(band.name for band in reversed(SENTINEL2.served))
    assert Index("X", formula).bands == ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    assert Index("X", "B8A*B8A").bands == ("B8A",)


HOSTILE = [
    "",
    " ",
    "()",
    "1+1",
    "B01",
    "B10",
    "B09",
    "b04",
    "NDVI",
    "B04.real",
    "B04.__class__",
    "B04[0]",
    "(B04,)",
    "[B04]",
    "{B04}",
    "{B04: 1}",
    "[B04 for x in B04]",
    "(B04 for _ in B04)",
    "{x: B04 for x in B04}",
    "lambda: B04",
    "(lambda: B04)()",
    "__import__('os')",
    "print(B04)",
    "eval('B04')",
    "sqrt.__call__(B04)",
    "B04(B04)",
    "sqrt(B04)(1)",
    "sqrt(x=B04)",
    "sqrt(*B04)",
    "sqrt(**B04)",
    "sqrt()",
    "sqrt(B04, B08)",
    "min(B04)",
    "max(B04, B08, B11)",
    "sqrt",
    "sqrt(sqrt)",
    "B04 if B04 else B08",
    "B04 < B08",
    "B04 and B08",
    "not B04",
    "~B04",
    "B04 // B08",
    "B04 % 2",
    "B04 @ B08",
    "B04 | 1",
    "B04 << 1",
    "(x := B04)",
    "f'{B04}'",
    "'B04'",
    "b'B04'",
    "1j*B04",
    "True*B04",
    "None",
    "...",
    "1e400*B04",
    "B04 + " + "9" * 400,
    "await B04",
    "yield B04",
    "*B04",
    "B04; B08",
    "B04\nB08",
    "B04 = 1",
    "import os",
    "B04 B08",
    "B04 +",
    "(B04",
    "B04)",
    "B04\x00",
    "\ud800",
    "B04 + \u0660x",
    "\u0412\u041004",
    "B04\u200b",
    "B04 \u00d7 B08",
    "1if B04 else 2",
    "B04 +" * 100 + "B04 + B08",
    "(" * 240 + "B04" + ")" * 240,
    "[" + "-" * 480 + "B04]",
]


@pytest.mark.parametrize("formula", HOSTILE, ids=lambda f: ascii(f)[:40])
def test_hostile_formulas_are_refused(formula: str) -> None:
    with pytest.raises(FormulaError, match="X") as caught:
        Index("X", formula)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("formula", [None, 1, b"B04", ["B04"]])
def test_a_formula_is_a_text(formula: Any) -> None:
    with pytest.raises(FormulaError, match="must be a text"):
        Index("X", formula)


@pytest.mark.filterwarnings("always")
def test_a_refused_formula_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(FormulaError):
        Index("X", "1if B04 else 2")
    assert not recwarn.list


def test_huge_powers_cost_nothing_and_are_nodata() -> None:
    assert value("9**9**9**9**9**9*B04", B04=1.0) == NODATA
    assert value("B04" + "**9" * 150, B04=0.5) == NODATA  # a step of it is infinite
    assert value("-" * 400 + "B04", B04=0.5) == 5000


@pytest.mark.parametrize("name", ["", "MY_INDEX", "A-B", "1A", "A B", "A/..", "\u00c9VI", "A\n", None, 5])
def test_names_are_letters_and_digits(name: Any) -> None:
    with pytest.raises(RequestError, match="cannot name an index"):
        Index(name, "B04")


def test_parse() -> None:
    assert Index.parse("NDVI") is not None
    assert Index.parse(" ndvi ") == INDICES["NDVI"]
    assert Index.parse("SAVI = 1.5*(B08-B04)/(B08+B04+0.5)") == Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
    with pytest.raises(UnknownNameError, match="Did you mean NDVI") as caught:
        Index.parse("NDVJ")
    assert all(name in str(caught.value) for name in INDICES)
    for bad in ("=B04", "A==B04", "A=B04=B08", "A="):
        with pytest.raises(RequestError):
            Index.parse(bad)


def test_resolve_indices() -> None:
    twelve = tuple(INDICES.values())
    savi = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
    assert resolve_indices(None) == resolve_indices("All") == resolve_indices("ALL") == twelve
    assert resolve_indices("ndvi") == (INDICES["NDVI"],)
    assert resolve_indices(savi) == (savi,)
    assert resolve_indices(["NBR", savi, "NDVI"]) == (INDICES["NBR"], savi, INDICES["NDVI"])
    assert resolve_indices(["NDVI", "ndvi", INDICES["NDVI"]]) == (INDICES["NDVI"],)
    assert resolve_indices(["A=B04", Index("A", "B04", "title")]) == (Index("A", "B04"),)
    nothing: Any
    for nothing in ([], (), ""):
        with pytest.raises(RequestError, match="NDVI"):
            resolve_indices(nothing)
    with pytest.raises(UnknownNameError, match="NDWIMCF"):
        resolve_indices(["NDVI", "NOPE"])
    with pytest.raises(UnknownNameError, match="NDWIMCF"):
        resolve_indices([3])  # type: ignore[list-item]  # what a user may pass


@pytest.mark.parametrize(
    "twice", [["A=B04", "A=B08"], ["NDVI=B04"], ["ndvi=(B08-B04)/(B08+B04)"], ["NDVI", "NDVI=B04"]]
)
def test_one_name_has_one_formula(twice: list[str]) -> None:
    with pytest.raises(RequestError, match="already stands for"):
        resolve_indices(twice)
