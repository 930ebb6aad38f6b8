"""Tables of rows written to CSV, Parquet, Excel, GeoPackage, GeoParquet, pandas and xarray, with their provenance.

Rows are passed ready: sorted, with columns in their final order. A file takes its name only when it is complete.
"""

from sen2chain.export.cube import check_cube, column_definitions, to_dataset
from sen2chain.export.delimited import DIALECTS, Dialect, csv_header, csv_lines, text_of, write_csv
from sen2chain.export.frames import to_frame
from sen2chain.export.geopackage import (
    GEOPACKAGE_KEY,
    check_not_open,
    estimated_geopackage_size,
    geopackage_columns,
    geopackage_has_rows,
    geopackage_provenance,
    write_geopackage,
)
from sen2chain.export.geoparquet import estimated_geoparquet_size, write_geoparquet
from sen2chain.export.parquet_files import write_parquet
from sen2chain.export.provenance_json import beside, to_json
from sen2chain.export.wide_table import by_date, by_period, daily, wide_table
from sen2chain.export.workbook import check_workbook, write_workbook

__all__ = [
    "DIALECTS",
    "GEOPACKAGE_KEY",
    "Dialect",
    "beside",
    "by_date",
    "by_period",
    "check_cube",
    "check_not_open",
    "check_workbook",
    "column_definitions",
    "csv_header",
    "csv_lines",
    "daily",
    "estimated_geopackage_size",
    "estimated_geoparquet_size",
    "geopackage_columns",
    "geopackage_has_rows",
    "geopackage_provenance",
    "text_of",
    "to_dataset",
    "to_frame",
    "to_json",
    "wide_table",
    "write_csv",
    "write_geopackage",
    "write_geoparquet",
    "write_parquet",
    "write_workbook",
]
