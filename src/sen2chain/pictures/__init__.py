"""Pictures of series and of chips."""

from __future__ import annotations
