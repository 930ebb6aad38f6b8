"""Reading of an archive: what it holds (`sen2chain library info`).

`archive_contents` reads it; `availability` says of each product which indices and masks it has or can have, `date_gaps`
finds gaps in time, and `holdings` sums up. `archive_info` is the result, `info_text` its text; `text_tables` writes
tables of results as plain text.
"""

from __future__ import annotations

from sen2chain.inspection.archive_contents import read_contents
from sen2chain.inspection.archive_info import ArchiveInfo
from sen2chain.inspection.text_tables import TextTable, as_text

__all__ = ["ArchiveInfo", "TextTable", "as_text", "read_contents"]
