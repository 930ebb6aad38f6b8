"""Small layers and rows for pages, and what the page's own scripts do with the data, written again."""

from __future__ import annotations

import base64
import html.parser
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from sen2chain import INDICES, Index
from sen2chain.index_series import IndexSeries, LayerFeatures
from sen2chain.page import page_html
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from sen2chain.page.page_content import PageContent

NASTY = [
    "<script>alert(1)</script>",
    "</script><b>&amp;",
    "=1+1",
    '"quoted", with comma',
    "\u202egnp",
    "O'Brien \ud83d",
]


# ------------------------------------------------------- what the page's own scripts do, written again for the tests


def unpacked(item: dict[str, Any]) -> Any:
    content = zlib.decompress(base64.b64decode(item["data"]))
    if item["type"] == "json":
        return json.loads(content)
    kind = np.dtype(item["type"])
    bytes_apart = np.frombuffer(content, np.uint8).reshape(kind.itemsize, item["length"])
    steps = sum(bytes_apart[i].astype(np.int64) << (8 * i) for i in range(kind.itemsize))
    return np.cumsum(steps, dtype=np.int64).astype(kind) if item["length"] else np.zeros(0, kind)


class Parts(html.parser.HTMLParser):
    """Elements of a page with their texts, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # the texts after it are of no element that is asked for
        self.found.append(("", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def data(self, name: str) -> Any:
        return json.loads(next(text for tag, attributes, text in self.found if attributes.get("id") == name))

    def scripts(self) -> list[str]:
        return [text for tag, attributes, text in self.found if tag == "script" and "type" not in attributes]


# --------------------------------------------------------------------------------------------------- data to show


def squares(count: int, crs: str = "EPSG:32631", **columns: Any) -> Layer:
    # Texts as objects, as a layer has them: half of a surrogate pair is none for pandas' own texts.
    texts = {name: pd.Series(values, dtype=object) for name, values in columns.items() if str(values[0]) in NASTY}
    frame = pd.DataFrame(columns | texts, index=pd.RangeIndex(count))
    shapes = np.array([shapely.box(500_000 + 40 * i, 5_000_000, 500_030 + 40 * i, 5_000_030) for i in range(count)])
    return Layer.of(shapes, crs, name="fields", attributes=frame)


def rows_of(fid: list[int], day: list[int], mean: list[float | None], **columns: Any) -> pa.Table:
    times = np.array("2022-01-01T10:00:00", "datetime64[s]") + np.array(day, "timedelta64[D]")
    count = len(fid)
    given = {
        "count": [30] * count,
        "nodata": [10] * count,
        "std": [100.0] * count,
        "tile": ["31TEH"] * count,
        **columns,
    }
    return pa.table({
        "date": pa.array(times, pa.timestamp("s")), "fid": pa.array(fid, pa.int64()),
        "mean": pa.array(mean, pa.float64()), **{name: pa.array(values) for name, values in given.items()},
    })  # fmt: skip


def series_of(table: pa.Table, layer: Layer, index: str = "NDVI", **options: Any) -> IndexSeries:
    features = LayerFeatures(layer, layer.attributes, options.pop("id_field", None))
    keywords: dict[str, Any] = {"scale": 10_000.0, "days": {}, "rows": len(table), **options}
    tables = keywords.pop("tables", lambda: iter([table]))
    found = next((one for one in INDICES.values() if one.name == index), None) or Index.parse(index)
    return IndexSeries(found, "CM001", features, schema=table.schema, tables=tables, **keywords)


def shown(content: PageContent) -> Parts:
    return Parts(page_html(content).decode())
