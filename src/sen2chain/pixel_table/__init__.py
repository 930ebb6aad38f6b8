"""The pixels themselves as tables and cubes: one row per feature, pixel and date.

`pixel_columns` says what is collected and how it is written. `pixel_extraction` collects it from one decoding of an
acquisition into `pixel_records`, and `served_features` chooses the product that serves a feature. `pixel_writers` make
a table of it (`pixel_parquet`), and `chip_store` a store of chips (`zarr_files`); `dataset_folder` protects what is
there. `written_pixels` is the result.
"""

from __future__ import annotations

from sen2chain.pixel_table.chip_store import ChipStore
from sen2chain.pixel_table.pixel_columns import PixelColumns
from sen2chain.pixel_table.pixel_extraction import PixelExtraction, PixelTaskResult
from sen2chain.pixel_table.pixel_records import RecordRoom
from sen2chain.pixel_table.pixel_writers import ParquetWriter, PixelWriter
from sen2chain.pixel_table.served_features import served_features
from sen2chain.pixel_table.written_pixels import WrittenPixels, problems_of

__all__ = [
    "ChipStore",
    "ParquetWriter",
    "PixelColumns",
    "PixelExtraction",
    "PixelTaskResult",
    "PixelWriter",
    "RecordRoom",
    "WrittenPixels",
    "problems_of",
    "served_features",
]
