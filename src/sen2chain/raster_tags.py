"""Tags of the rasters that sen2chain writes: what such a file holds and what it was made from.

They stand in the metadata of the file (GDAL's default domain), each as a text under a name that begins with
``SEN2CHAIN_``. A raster without them was written by another program.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "SEN2CHAIN_"
"""Beginning of the names of tags."""
RULES = 1
"""Version of the definitions of indices and masks. Raise it when a definition changes: stored rasters of an older
version are then not read any more, and are made again."""

FROM_PRODUCT = "product"
"""`RasterTags.source` of a raster that was made from the bands, SCL or CLDPRB of its product."""
FROM_LOSSY = "lossy index raster"
"""`RasterTags.source` of a raster that was converted from a lossy one of the original program."""
FROM_MODEL = "OmniCloudMask"
"""`RasterTags.source` of a cloud mask that a trained model made."""

_LONGEST = 100_000  # characters of a text


@dataclass(frozen=True, slots=True)
class RasterTags:
    """What a raster holds and what it was made from."""

    product: str
    """Name of the product."""
    name: str
    """Name of the index, or of the mask as it stands in file names."""
    definition: str = ""
    """Of an index: its formula, and the scale if it is not 10000, as `sen2chain.indices.Index.definition` gives it.
    Empty for a mask."""
    mask: str = ""
    """Of a masked index: the name of the mask whose pixels are no data in it."""
    source: str = FROM_PRODUCT
    """What it was made from: `FROM_PRODUCT`, `FROM_LOSSY` or `FROM_MODEL`."""
    precision: float = 0.0
    """Step that values were rounded to, in units of the index; 0 where they were not."""
    quantification: float = 0.0
    """DN per unit of reflectance, of the bands that were read; 0 where none were."""
    offsets: Mapping[str, float] = field(default_factory=dict)
    """Band -> offset in DN, of the bands that were read."""
    inputs: str = ""
    """Text that changes with the files that it was made from."""
    rules: int = RULES
    """Version of the definitions, see `RULES`."""
    version: str = ""
    """Version of sen2chain that wrote it."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further facts by name in small letters, as ``resolution`` and ``classes`` of a model."""

    @property
    def is_exact(self) -> bool:
        """Whether the values are those of the definition: made from bands, not rounded, by the rules of today."""
        return self.source == FROM_PRODUCT and not self.precision and self.rules == RULES

    def items(self) -> dict[str, str]:
        """Return the tags as texts, by their names in the file."""
        texts = {
            "PRODUCT": self.product,
            "NAME": self.name,
            "DEFINITION": self.definition,
            "MASK": self.mask,
            "SOURCE": self.source,
            "PRECISION": repr(self.precision) if self.precision else "",
            "QUANTIFICATION": repr(self.quantification) if self.quantification else "",
            "OFFSETS": json.dumps(dict(self.offsets), sort_keys=True) if self.offsets else "",
            "INPUTS": self.inputs,
            "RULES": str(self.rules),
            "VERSION": self.version,
            "MORE": json.dumps(dict(self.more), sort_keys=True) if self.more else "",
        }
        return {f"{PREFIX}{name}": text for name, text in texts.items() if text}

    @classmethod
    def read(cls, items: Mapping[str, str]) -> Self | None:
        """Read the tags of a file; None where it has none, or others than `items` gives.

        Parameters
        ----------
        items
            All texts in the metadata of a file, by name; others are left aside.
        """
        texts = {name.removeprefix(PREFIX): text for name, text in items.items() if name.startswith(PREFIX)}
        if any(len(text) > _LONGEST for text in texts.values()) or not texts.get("PRODUCT") or not texts.get("NAME"):
            return None
        try:
            return cls(
                texts["PRODUCT"],
                texts["NAME"],
                texts.get("DEFINITION", ""),
                texts.get("MASK", ""),
                texts.get("SOURCE", ""),
                float(texts.get("PRECISION", 0)),
                float(texts.get("QUANTIFICATION", 0)),
                {band: float(offset) for band, offset in _object(texts.get("OFFSETS")).items()},
                texts.get("INPUTS", ""),
                int(texts.get("RULES", 0)),
                texts.get("VERSION", ""),
                {name: str(text) for name, text in _object(texts.get("MORE")).items()},
            )
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):  # from float(10**400)
            return None


def _object(text: str | None) -> dict[str, Any]:
    """Read a JSON object; empty where there is no text."""
    if text is None:
        return {}
    found: dict[str, Any] = json.loads(text)
    return found
