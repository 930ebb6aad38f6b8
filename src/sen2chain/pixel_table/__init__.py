"""The pixels themselves as tables and cubes: one row per feature, pixel and date."""

from __future__ import annotations
