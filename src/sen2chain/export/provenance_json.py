"""The provenance of a result as JSON: in a text, and as the file beside the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def beside(path: Path, provenance: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the JSON that goes beside a result, for `sen2chain.atomic.replacing`."""
    return {path.with_suffix(".json"): to_json(provenance).encode()}


def to_json(provenance: Mapping[str, Any]) -> str:
    """Write a provenance as JSON."""
    text = json.dumps(provenance, indent=2, ensure_ascii=False, default=_plain) + "\n"
    # A path that is not UTF-8 has code points that only JSON's own escapes can hold.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: object) -> object:
    """Return the JSON form of a value of a type that `json` does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return str(value)  # paths, dates, versions
