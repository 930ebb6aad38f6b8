"""Kept pixels as a source of products, before an archive that has the rest."""

from __future__ import annotations
