"""Kept pixels of a layer as a source of products, before an archive that has the rest.

`kept_search` finds the folder that is meant; `kept_archive` is the source, and `kept_details` are the facts of its
products. `sufficiency` tells which uses the kept pixels of a tile suffice for, and `served_tasks` has the tasks of a
plan read kept pixels wherever their rows are those of the archive.
"""

from __future__ import annotations

from sen2chain.kept_source.kept_archive import KEPT_ALONE, KeptSource
from sen2chain.kept_source.kept_search import find_kept
from sen2chain.kept_source.served_tasks import Served, served

__all__ = ["KEPT_ALONE", "KeptSource", "Served", "find_kept", "served"]
