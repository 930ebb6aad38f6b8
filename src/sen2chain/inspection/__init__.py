"""Reading of an archive: what it holds (`sen2chain library info`).

`text_tables` writes tables of results as plain text.
"""

from __future__ import annotations

from sen2chain.inspection.text_tables import TextTable, as_text

__all__ = ["TextTable", "as_text"]
