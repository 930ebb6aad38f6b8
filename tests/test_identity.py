"""A layer's identity is what it was when folders were named after it."""

from __future__ import annotations

import decimal
import hashlib
import re
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from sen2chain.vectors import layer as layer_room
from sen2chain.vectors.layer import LINE_BREAKS, Layer, canonical


def former_text(value: object) -> str:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    return re.sub(LINE_BREAKS, "", value if isinstance(value, str) else str(value))


def former_canonical(column: pd.Series[Any]) -> list[str]:
    """Value by value, as it was first written."""
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return list(map(str, column.tolist()))
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(dtype=float, na_value=np.nan).tolist()
        return ["" if np.isnan(n) else str(int(n)) if n.is_integer() else f"{n:.12g}" for n in numbers]
    return [former_text(value) for value in column.astype(object)]


def former_identity(layer: Layer) -> str:
    """As it was first written."""
    multi = np.isin(shapely.get_type_id(layer.geometry), (4, 5, 6, 7))
    single = multi & (shapely.get_num_geometries(layer.geometry) == 1)
    shapes = np.where(single, shapely.get_geometry(layer.geometry, 0), layer.geometry)
    shapes[shapely.is_empty(shapes)] = None
    decimals = 7 if pyproj.CRS(layer.crs).is_geographic else 3
    rounded = shapely.normalize(shapely.transform(shapes, lambda xy: np.round(xy, decimals) + 0.0))
    digest = hashlib.sha256(layer.crs.encode())
    digest.update(b"".join(b"-" if shape is None else shape for shape in shapely.to_wkb(rounded, byte_order=1)))
    for name in layer.attributes:
        digest.update("\x1f".join(former_canonical(layer.attributes[name])).encode() + b"\x1e")
    return digest.hexdigest()


COLUMNS: dict[str, pd.Series[Any]] = {
    "whole": pd.Series([0, -3, 2**63 - 1]),
    "unsigned": pd.Series(np.array([0, 1, 2**64 - 1], np.uint64)),
    "flags": pd.Series([True, False, True]),
    "numbers": pd.Series([0.1, -0.0, np.nan, 1e300, np.inf, -np.inf, 2.0**53, 2.0**63, -(2.0**63), 1 / 3, 5e-324]),
    "short numbers": pd.Series(np.array([0.1, 3.0, np.nan], np.float32)),
    "texts": pd.Series(["", "a", "b\tc", "d\r\ne", None, "Ä\x1f", np.nan], dtype=object),
    "new texts": pd.Series(["a", None, "b\nc", ""], dtype="string"),
    "one line": pd.Series(["a", "b", ""], dtype=object),
    "anything": pd.Series([1, 2.5, "x", None, pd.NA, pd.NaT, decimal.Decimal("NaN")], dtype=object),
    "other texts": pd.Series([b"y", [1], np.str_("z\t"), "w\n"], dtype=object),
    "times": pd.Series([pd.Timestamp("2022-01-02 03:04:05"), pd.NaT]),
    "kinds": pd.Series(["a", "b", None, "a"], dtype="category"),
    "nothing": pd.Series([None, None], dtype=object),
    "no rows": pd.Series([], dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_values_are_written_as_they_were(name: str) -> None:
    assert canonical(COLUMNS[name]) == former_canonical(COLUMNS[name])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632"])
def test_the_identity_of_content_is_what_it_was(monkeypatch: pytest.MonkeyPatch, crs: str) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.random((2, 50)) * 8
    boxes = shapely.box(x, y, x + 0.01, y + 0.02)
    shapes = np.array(boxes, dtype=object)
    shapes[:5] = shapely.buffer(shapely.points(x[:5], y[:5]), 0.3)
    shapes[5] = shapely.MultiPolygon([shapes[5]])
    shapes[6] = shapely.MultiPolygon([shapes[6], shapely.box(20, 20, 21, 21)])
    shapes[7], shapes[8], shapes[9] = None, shapely.Polygon(), shapely.MultiPolygon()
    shapes[10] = shapely.box(-1e-9, -1e-9, 1, 1)
    shapes[11] = shapely.Polygon(shapely.box(0, 0, 3, 3).exterior, [shapely.box(1, 1, 2, 2).exterior.coords])
    attributes = pd.DataFrame({"a": rng.random(50), "b": [f"é{i}\t" for i in range(50)], "c": range(50)})
    layer = Layer.of(shapes, crs, attributes=attributes)
    monkeypatch.setattr(layer_room, "_AT_ONCE", 7)
    assert layer.content_identity == former_identity(layer)
    wkb = b"".join(b"-" if shape is None else shape for shape in shapely.to_wkb(shapes, byte_order=1))
    assert layer.identity == hashlib.sha256(crs.encode() + wkb).hexdigest()
