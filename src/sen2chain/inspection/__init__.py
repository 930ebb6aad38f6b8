"""Reading of an archive: what it holds (`sen2chain library info`), and what is wrong with it (`library check`).

`archive_contents` reads it; `availability` says of each product which indices and masks it has or can have, `date_gaps`
finds gaps in time, and `holdings` sums up. `archive_info` is the result, `info_text` its text; `text_tables` writes
tables of results as plain text.

`archive_check` checks it. `raster_check` reads and judges one raster, `product_check` those of a product;
`value_comparison` compares rasters of other programs with their bands, and `stale_rasters` finds those whose bands
changed; `baseline_audit` finds dates with a wrong offset in small pictures, which `audit_pictures` reads;
`duplicates` and `leftovers` find what is there twice or serves nothing. `findings` says how, `check_result` is the
result, and `set_aside` moves files into a dated folder and back.
"""

from __future__ import annotations

from sen2chain.inspection.archive_check import PARTS, check_archive
from sen2chain.inspection.archive_contents import read_contents
from sen2chain.inspection.archive_info import ArchiveInfo
from sen2chain.inspection.check_result import ArchiveCheck
from sen2chain.inspection.set_aside import Moves, put_back
from sen2chain.inspection.text_tables import TextTable, as_text

__all__ = [
    "PARTS",
    "ArchiveCheck",
    "ArchiveInfo",
    "Moves",
    "TextTable",
    "as_text",
    "check_archive",
    "put_back",
    "read_contents",
]
