"""Index series made of plain numbers, without an archive: for tests of files and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from sen2chain import INDICES
from sen2chain.index_series import IndexSeries, LayerFeatures
from sen2chain.spool import RowFormat, attribute_table, with_attributes
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sen2chain.indices import Index

STATISTICS = ("min", "max", "mean", "std", "median", "percentile_25", "percentile_75")


def squares(count: int) -> np.ndarray:
    """Return squares of 100 m in a row."""
    return np.array([shapely.box(600000 + 150 * x, 5100000, 600100 + 150 * x, 5100100) for x in range(count)])


def layer_features(
    geometry: np.ndarray,
    attributes: pd.DataFrame | None = None,
    *,
    crs: str = "EPSG:32632",
    name: str = "fields",
    id_field: str | None = None,
) -> LayerFeatures:
    """Return features with attributes, by default a number and a crop."""
    if attributes is None:
        attributes = pd.DataFrame({"parcel": np.arange(len(geometry)) + 100, "crop": ["maize"] * len(geometry)})
    layer = Layer.of(geometry, crs, name=name, attributes=attributes)
    return LayerFeatures(layer, attributes, id_field=id_field)


def index_series(
    features: LayerFeatures,
    dates: Sequence[str],
    *,
    indices: Sequence[str | Index] = ("NDVI",),
    masks: Sequence[str] = ("CM001",),
    scale: float = 10000.0,
) -> list[IndexSeries]:
    """Return series in which each feature has a row per date; the third date of feature 1 has no values.

    The mean is a number of its own in each row, the same in each run.
    """
    layout = RowFormat(
        STATISTICS, attribute_table(features.attributes), features=len(features), with_mask=len(masks) > 1
    )
    found = []
    for place, index in enumerate(indices):
        for at, mask in enumerate(masks):
            value = INDICES[index] if isinstance(index, str) else index
            seed = 100 * place + at

            def tables(value: Index = value, mask: str = mask, seed: int = seed) -> Iterator[pa.Table]:
                for fid in range(len(features)):
                    yield _rows(layout, fid, dates, value.name, mask, np.random.default_rng((seed, fid)), scale)

            rows = len(features) * len(dates)
            found.append(IndexSeries(value, mask, features, scale, layout.schema, tables, rows, {}))
    return found


def _rows(
    layout: RowFormat, fid: int, dates: Sequence[str], index: str, mask: str, random: np.random.Generator, scale: float
) -> pa.Table:
    count = len(dates)
    frame = pd.DataFrame({"date": np.array(dates, "datetime64[s]"), "fid": fid, "tile": "32TPS"})
    frame["filename"] = [f"S2A_MSIL2A_{date}_{index}_{mask}.jp2" for date in dates]
    if layout.with_mask:
        frame["mask"] = mask
    for column in ("count", "nodata", "nbcld"):
        frame[column] = random.integers(1, 100, count)
    frame["cldprb"] = random.random(count)
    for column in STATISTICS:
        frame[column] = random.random(count) * scale
    if fid == 1 and count > 2:
        frame.loc[2, "count"] = 0
        frame.loc[2, [*STATISTICS, "cldprb"]] = np.nan
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return with_attributes(table, layout.attributes).cast(layout.schema)
