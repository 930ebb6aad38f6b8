"""Indices by name: the table against the catalogue's own package, and what names people may write."""

from __future__ import annotations

import json
import pickle
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spyndex
from click.testing import CliRunner

from sen2chain.cli import main
from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.index_catalogue import CatalogueEntry, catalogue, matching, of_the_twelve
from sen2chain.indices import INDICES, SCALES, Index, is_name, resolve_indices
from sen2chain.sensor import SENTINEL2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import make_index_catalogue as tool  # a program, which lies in no package

BANDS = {  # written down here once more, so that a slip in the program shows
    "B02": "B", "B03": "G", "B04": "R", "B05": "RE1", "B06": "RE2", "B07": "RE3", "B08": "N", "B8A": "N2",
    "B11": "S1", "B12": "S2",
}  # fmt: skip


def of_spyndex(name: str, reflectances: dict[str, Any]) -> Any:
    params: dict[str, Any] = {theirs: reflectances[ours] for ours, theirs in BANDS.items()}
    params |= {key: constant.default for key, constant in spyndex.constants.items() if key not in params}
    with np.errstate(all="ignore"):
        return spyndex.computeIndex(name, params=params)


@pytest.fixture(scope="module")
def reflectances() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    return {band: rng.uniform(0.001, 1.0, 400) for band in BANDS}


def test_the_catalogue_has_222_indices_of_our_bands() -> None:
    assert len(catalogue()) == 222
    assert list(catalogue()) == sorted(catalogue(), key=lambda name: (name.casefold(), name))
    assert not INDICES.keys() & {name.upper() for name in catalogue()}


@pytest.mark.parametrize("name", catalogue())
def test_values_are_those_of_spyndex(name: str, reflectances: dict[str, Any]) -> None:
    index = Index.parse(name)
    assert index.name == name
    theirs = np.asarray(of_spyndex(name, reflectances), dtype=float)
    ours = index.evaluate(reflectances)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    np.testing.assert_allclose(ours, np.where(np.isfinite(theirs), theirs, np.nan), rtol=1e-9, atol=1e-12)
    assert set(index.bands) == {ours for ours, band in BANDS.items() if band in spyndex.indices[name].bands}


def test_nothing_that_bands_of_10_and_20_m_serve_is_left_out() -> None:
    defaults = {key for key, constant in spyndex.constants.items() if constant.default is not None}
    served = {name for name in spyndex.indices if set(spyndex.indices[name].bands) <= defaults | set(BANDS.values())}
    assert served - catalogue().keys() == {"NDVI", "MNDWI", "NBR", "NDBI", "IRECI", "EVI"} == served & INDICES.keys()
    assert catalogue().keys() <= served


def test_the_twelve_of_the_catalogue_are_ours(reflectances: dict[str, Any]) -> None:
    for name in ("NDVI", "MNDWI", "NBR", "NDBI", "IRECI", "EVI"):
        np.testing.assert_allclose(INDICES[name].evaluate(reflectances), of_spyndex(name, reflectances), rtol=1e-9)


def test_indices_that_are_one_of_the_twelve_say_so(reflectances: dict[str, Any]) -> None:
    same = {entry.name: entry.same_as for entry in catalogue().values() if entry.same_as}
    assert same.items() >= {("NDWI", "NDWIMCF"), ("NDMI", "NDWIGAO"), ("NDREI", "NDRE")}
    for name, twin in same.items():
        ours = INDICES[twin].evaluate(reflectances)
        np.testing.assert_allclose(Index.parse(name).evaluate(reflectances), ours, rtol=1e-9)
    others = {name: Index.parse(name) for name in catalogue() if name not in same}
    for name, index in others.items():
        for twelve in INDICES.values():
            values = twelve.evaluate(reflectances), index.evaluate(reflectances)
            assert not np.allclose(*values, equal_nan=True), (name, twelve.name)


def test_the_table_is_what_the_program_writes() -> None:
    data = files("spyndex") / "data"
    indices = json.loads((data / "spectral-indices-dict.json").read_text(encoding="utf-8"))["SpectralIndices"]
    constants = json.loads((data / "constants.json").read_text(encoding="utf-8"))
    some = {name: indices[name] for name in ("SR", "NDWI", "NDVI", "SAVI", "kNDVI", "VHVVR", "FAI")}
    text = files("sen2chain").joinpath("index_catalogue.json").read_text(encoding="utf-8")
    written = {row[0]: row for row in json.loads(text)["indices"]}
    assert tool.rows(some, constants) == [written[name] for name in ("NDWI", "SAVI", "SR")]
    assert {theirs: ours for ours, theirs in BANDS.items()} == tool.BANDS


def test_the_licence_stands_in_the_table() -> None:
    table = json.loads(files("sen2chain").joinpath("index_catalogue.json").read_text(encoding="utf-8"))
    assert "Copyright (c) 2021 David Montero Loaiza" in table["licence"]
    assert "THE SOFTWARE IS PROVIDED" in table["licence"]
    assert f"spyndex {spyndex.__version__}" in table["source"]


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.name)
def test_every_entry_is_complete(entry: CatalogueEntry) -> None:
    assert re.fullmatch("[A-Za-z][A-Za-z0-9]*", entry.name)
    assert entry.title
    assert entry.reference.startswith("http")
    assert entry.domain in {"vegetation", "water", "burn", "soil", "urban", "snow", "clouds"}
    assert entry.scale in SCALES
    assert entry.shows in {"leaf", "water", ""}
    assert (entry.low is None) == (entry.high is None)
    if entry.low is not None and entry.high is not None:
        assert -32768 / entry.scale <= entry.low < entry.high <= 32766 / entry.scale


def test_ranges_of_known_indices_are_sensible() -> None:
    assert (catalogue()["SR"].scale, catalogue()["SAVI"].scale, catalogue()["CIG"].scale) == (100, 10000, 1000)
    assert {name for name in ("MTCI", "S2REP", "BAI", "IBI") if catalogue()[name].low is None} == {
        "MTCI",
        "S2REP",
        "BAI",
        "IBI",
    }
    known = {name: (catalogue()[name].low, catalogue()[name].high) for name in ("NDWI", "SAVI", "GNDVI")}
    assert all(-1 <= low < high <= 1 for low, high in known.values() if low is not None and high is not None)
    assert None not in {end for ends in known.values() for end in ends}
    assert sum(entry.low is not None for entry in catalogue().values()) > 180


# --------------------------------------------------------------------------------------------------------------- names


def test_names_in_lower_case() -> None:
    assert Index.parse("savi") == Index.parse(" SAVI ") == Index("SAVI", catalogue()["SAVI"].formula)
    assert Index.parse("ndvi") == INDICES["NDVI"]
    assert Index.parse("NDWI").title == "Normalized Difference Water Index"
    assert Index.parse("sr").scale == 100


def test_names_that_differ_in_case_alone() -> None:
    assert Index.parse("BAI").formula != Index.parse("BaI").formula
    with pytest.raises(RequestError, match=r"may be BAI \(Burned Area Index\) or BaI \(Bareness Index\)"):
        Index.parse("bai")
    assert [entry.name for entry in matching("bai")] == ["BAI", "BaI"]
    assert is_name("bai")
    with pytest.raises(RequestError, match="BAI already stands for"):
        resolve_indices(["BAI", "BaI"])


def test_an_unknown_name_gets_a_suggestion_and_the_way_to_all() -> None:
    with pytest.raises(
        UnknownNameError, match=r"222 more, which sen2chain indices lists.*Did you mean SAVI\?"
    ) as raised:
        Index.parse("SAVY")
    assert "AFRI1600" not in str(raised.value), "a list of 222 names is no help"
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301  # our own


def test_a_formula_of_ones_own_may_have_a_name_of_the_catalogue() -> None:
    (own,) = resolve_indices("SAVI=1.5*(B08-B04)/(B08+B04+0.5)")
    assert own.formula == "1.5*(B08-B04)/(B08+B04+0.5)"
    with pytest.raises(RequestError, match="SAVI already stands for"):
        resolve_indices(["SAVI", "SAVI=1.5*(B08-B04)/(B08+B04+0.5)"])


def test_all_and_none_stay_the_twelve() -> None:
    assert resolve_indices(None) == resolve_indices("All") == tuple(INDICES.values())


def test_another_sensor_has_no_catalogue() -> None:
    assert Index.parse("SAVI").sensor == SENTINEL2


# ------------------------------------------------------------------------------------------------------------- command


def listed(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["indices", *words])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_lists_all_the_twelve_first() -> None:
    lines = listed().splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line.strip()][1:]
    assert names == [*INDICES, *catalogue()]
    assert lines[-1] == "234 indices; --long shows formula, range and reference of each."
    assert "SAVI " in listed()


def test_the_command_shows_what_is_known_of_few() -> None:
    assert listed("SR705").splitlines()[:5] == [
        "SR705: Simple Ratio (705 and 750 nm) (vegetation)",
        "    B06/B05",
        "    bands B05 B06; stored from -32.768 to 32.766",
        f"    {catalogue()['SR705'].reference}",
        "",
    ]
    ndwi = listed("ndwi").split("\n\n")
    assert ndwi[0].startswith("NDWI: Normalized Difference Water Index (water)")
    assert "the same as NDWIMCF of the twelve, which is also read from stored rasters" in ndwi[0]
    assert ndwi[1].startswith("NDWIMCF: normalised difference water index (McFeeters) (water; one of the twelve)")
    assert listed("ndwi", "--long") == listed("NDWI")


def test_the_command_shows_an_index_of_that_name_in_full_above_the_others() -> None:
    lines = listed("sr").splitlines()
    assert lines[0] == "SR: Simple Ratio (vegetation)"
    assert lines[2] == "    bands B04 B08; stored from -327.68 to 327.66"
    assert lines[5].startswith("Indices")
    assert not any(line.startswith("  SR ") for line in lines)
    assert any(line.startswith("  SR705 ") for line in lines)


def test_the_command_finds_words_anywhere() -> None:
    assert {index["name"] for index in json.loads(listed("red", "EDGE", "--json"))} >= {"NDRE", "NDREI", "CIRE"}
    of_b8a = json.loads(listed("b8a", "--json"))
    assert {index["name"] for index in of_b8a} == {n for n in catalogue() if "B8A" in Index.parse(n).bands}
    assert all(index["bands"] for index in of_b8a)
    assert [index["name"] for index in json.loads(listed("soil-adjusted savi2", "--json"))] == ["SAVI2"]
    (ndvi,) = [index for index in json.loads(listed("--json")) if index["name"] == "NDVI"]
    assert ndvi["by_default"]
    assert ndvi["reference"] == "https://ntrs.nasa.gov/citations/19740022614"


def test_the_command_says_that_there_is_none() -> None:
    assert (
        listed("nonsense", code=3)
        == "sen2chain: No index has 'nonsense' in its name, title, formula, field or reference.\n"
    )
    assert listed("nonsense", "--json", code=3).startswith("[]")


def test_the_twelve_have_a_domain_and_mostly_a_reference() -> None:
    told = {name: of_the_twelve(name) for name in INDICES}
    assert {name for name, (domain, _) in told.items() if not domain} == set()
    assert {name for name, (_, reference) in told.items() if not reference.startswith("http")} == {"BIRNIR", "BIBG"}
