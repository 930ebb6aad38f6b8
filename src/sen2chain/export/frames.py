"""Tables of rows as a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from sen2chain.vectors import to_pandas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def to_frame(tables: Sequence[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """Join tables of rows into one frame, indexed by their column `date`.

    Parameters
    ----------
    tables
        Rows in their final order.
    schema
        The columns, for the case that there is no table.
    """
    frame: pd.DataFrame = to_pandas(pa.concat_tables(tables) if tables else schema.empty_table())
    return frame.set_index("date")
