from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sen2chain import INDICES
from sen2chain.errors import RequestError
from sen2chain.index_series import IndexSeries, LayerFeatures, days_of, fit_for_files
from sen2chain.products import ProductId
from sen2chain.reasons import Reason
from sen2chain.report import Report
from sen2chain.rows import Batch
from sen2chain.spool import RowFormat, Spool, attribute_table
from sen2chain.vectors import Layer

ATTRIBUTES = pd.DataFrame(
    {
        "parcel": [17, 12, 99, 4],
        "crop": ["maize", "wheat / winter", None, "Maize"],
        "area": [1.5, np.nan, 3.0, 2.0],
    }
)


def features(**options: Any) -> LayerFeatures:
    layer = Layer.of(
        np.array([shapely.box(x, 0, x + 1, 1) for x in range(4)]), "EPSG:32631", name="fields", attributes=ATTRIBUTES
    )
    return LayerFeatures(layer, layer.attributes, **options)


def test_names_come_from_attributes_and_say_the_fid_where_these_are_empty() -> None:
    assert features().names == ["fid 0", "fid 1", "fid 2", "fid 3"]
    assert features(id_field="parcel").names == ["17", "12", "99", "4"]
    assert features(id_field="parcel", name_fields=("crop", "area")).names == [
        "maize 1.5", "wheat / winter", "3", "Maize 2",
    ]  # fmt: skip
    assert features(name_fields=("crop",)).names[2] == "fid 2"
    twins = features(name_fields=("area",))
    twins.attributes["area"] = [2.0, 7.0, np.nan, 2.0]
    assert twins.names == ["2 (fid 0)", "7", "fid 2", "2 (fid 3)"]
    assert twins.find("2").tolist() == [0, 3]


def test_keys_are_unique_parts_of_file_names() -> None:
    assert features().keys == ["0", "1", "2", "3"]
    assert features(id_field="parcel", name_fields=("crop",)).keys == ["17", "12", "99", "4"]
    # maize and Maize are one file on many disks.
    assert features(name_fields=("crop",)).keys == ["maize_0", "wheat_winter", "fid_2", "Maize_3"]
    taken = LayerFeatures(
        Layer.of(np.array([None] * 3), "EPSG:4326", attributes=pd.DataFrame({"k": ["a", "a", "a_1"]})),
        pd.DataFrame({"k": ["a", "a", "a_1"]}),
        id_field="k",
    )
    assert len({key.casefold() for key in taken.keys}) == 3
    assert taken.repeated == ["a"]
    assert features(id_field="parcel").repeated == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b\\c:d*e", "a_b_c_d_e"), ("../../etc/passwd", "etc_passwd"), ("", "_"), ("...", "_"), ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Höhe 7", "Höhe_7"), ("x" * 100, "x" * 60), ("é" * 50, "é" * 30), ("-rf", "_-rf"),
        ("a\nb\x00c", "a_b_c"), ("\udcff", "_"),
    ],
)  # fmt: skip
def test_texts_become_names_that_all_systems_take(text: str, name: str) -> None:
    assert fit_for_files(text) == name


@given(st.text())
def test_any_text_becomes_a_short_name_of_its_own_kind(text: str) -> None:
    name = fit_for_files(text)
    assert 0 < len(name.encode()) <= 61
    assert not set(name) & set('/\\:*?"<>|\n\r\t\x00 ')
    assert name not in {".", ".."}


def test_features_are_found_by_key_fid_or_name_in_the_given_order() -> None:
    assert features().find(None).tolist() == [0, 1, 2, 3]
    assert features().find([3, 1, 3]).tolist() == [3, 1]
    assert features().find(np.int64(2)).tolist() == [2]
    assert features().find("2").tolist() == [2]
    assert features(name_fields=("crop",)).find(["maize", 1]).tolist() == [0, 1]
    own = features(id_field="parcel")
    assert own.find([4, 17]).tolist() == [3, 0]
    assert own.find("99").tolist() == [2]
    assert own.find(np.array([12])).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "wanted", "said"),
    [
        ({}, [7], r"fid \(0 to 3\) or name 7"), ({}, -1, "-1"), ({}, [True], "True"), ({}, 1.5, "1.5"),
        ({}, "maize", "'maize'"),
        ({"id_field": "parcel"}, [1, 17], "value of parcel 1"), ({"id_field": "parcel"}, [], None),
    ],
)  # fmt: skip
def test_unknown_features_are_named(options: dict[str, Any], wanted: Any, said: str | None) -> None:
    if said is None:
        assert features(**options).find(wanted).tolist() == []
        return
    with pytest.raises(RequestError, match=said):
        features(**options).find(wanted)


PRODUCTS = [
    ProductId.parse(f"S2A_MSIL2A_{day}T103021_N0400_R108_T{tile}_{day}T160000")
    for day, tile in (
        ("20220403", "31TGJ"), ("20220408", "31TGJ"), ("20220413", "32TLP"), ("20220418", "31TGJ"),
        ("20220423", "31TGJ"),
    )
]  # fmt: skip
ROWS = {0: [0, 1], 1: [0], 2: [2], 3: [1]}
"""Product -> features with rows; the last product is damaged."""


def series() -> IndexSeries:
    known = features()
    spool, report = Spool(RowFormat(("mean",), attribute_table(ATTRIBUTES))), Report()
    for place, product in enumerate(PRODUCTS):
        fid = np.array(ROWS.get(place, []), np.int64)
        columns: dict[str, Any] = {
            name: np.ones(len(fid)) for name in ("count", "nodata", "nbcld", "cldprb", "mean")
        } | {"fid": fid, "reason": np.full(len(fid), -1, np.int8)}
        reason = Reason.CLOUD if place in ROWS else Reason.UNREADABLE
        batch = Batch("NDVI", "CM001", product, f"{product}_NDVI_CM001.jp2", columns, {reason: 4 - len(fid)})
        report.add(batch)
        spool.add(batch)
    return IndexSeries(
        INDICES["NDVI"], "CM001", known, 10000.0, spool.schema, lambda: spool.tables("NDVI", "CM001"),
        spool.rows("NDVI", "CM001"), days_of(report, "NDVI", "CM001"),
    )  # fmt: skip


def test_rows_of_some_features_or_of_all() -> None:
    made = series()
    assert made.rows == len(made.frame()) == 5
    assert made.frame([1]).loc[:, ["fid", "crop"]].to_numpy().tolist() == [[1, "wheat / winter"]] * 2
    assert list(made.frame([3])) == list(made.frame()) == made.schema.names
    assert made.frame([0])["date"].tolist() == [pd.Timestamp(PRODUCTS[0].sensing), pd.Timestamp(PRODUCTS[1].sensing)]


def test_dates_without_values_are_those_of_the_features_own_tiles_that_could_be_read() -> None:
    made = series()

    def missing(fid: int) -> list[dt.date]:
        return [day.date() for day in made.dates_without_values(made.frame([fid])).tolist()]

    assert missing(0) == [dt.date(2022, 4, 18)]  # neither another tile's day nor that of the damaged product
    assert missing(1) == [dt.date(2022, 4, 8)]
    assert missing(2) == []
    assert missing(3) == [product.sensing.date() for product in PRODUCTS[:4]]  # its tile is not known


def test_a_row_without_a_value_is_a_date_without_a_value() -> None:
    made = series()
    rows = made.frame([0])
    rows.loc[0, "mean"] = np.nan
    assert [day.day for day in made.dates_without_values(rows).tolist()] == [3, 18]
