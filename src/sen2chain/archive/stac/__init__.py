"""Products in STAC catalogues: APIs, static catalogues and files of items, as a source (`StacCatalogue`).

`providers` holds what is known of the public catalogues. `documents` reads JSON, `search_boxes` cuts an area into
boxes, `api_pages`, `static_walk` and `item_tables` list items, `stac_items` makes acquisitions of them, whose offsets
`offsets` decides, `saved_items` keeps what a search found, and `stac_catalogue` is the source.
"""

from __future__ import annotations

from sen2chain.archive.stac.providers import PROVIDERS, Provider, provider_named
from sen2chain.archive.stac.saved_items import Saved, save_items
from sen2chain.archive.stac.stac_catalogue import Items, SkippedItems, StacCatalogue, by_reason

__all__ = [
    "PROVIDERS",
    "Items",
    "Provider",
    "Saved",
    "SkippedItems",
    "StacCatalogue",
    "by_reason",
    "provider_named",
    "save_items",
]
