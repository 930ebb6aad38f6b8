"""The page: one self-contained HTML file with a map, series and a table of a run's features.

`page_content` gathers what a page holds, with `page_rows` (rows), `page_shapes` (outlines) and `encoding` (arrays as
short texts); `page_file` assembles the file from it, from `assets` (our own scripts and styles) and from
`browser_libraries` (uPlot, Leaflet and Tabulator, as their packages ship them, with their licences).
"""

from __future__ import annotations

from sen2chain.page.page_content import LARGEST, Chip, Curves, PageContent, RunAccount, content_of
from sen2chain.page.page_file import page_html

__all__ = ["LARGEST", "Chip", "Curves", "PageContent", "RunAccount", "content_of", "page_html"]
