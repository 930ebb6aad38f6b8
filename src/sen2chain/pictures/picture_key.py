"""Key of an image: what its colours, its hatching and its grey mean; and the font of texts on images."""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.pictures.chip_images import BRIGHTEST, GREY, hatched
from sen2chain.pictures.drawn_text import shortened

if TYPE_CHECKING:
    from PIL import Image

    from sen2chain.legends import Legend

    Font = Any

INK, SOFT, PAPER = (32, 33, 36), (95, 99, 104), (255, 255, 255)
"""Colours of texts, of less important texts, and of the ground below them."""
_SMALL = 12  # pixels, of texts


def key_items(index: str, legend: Legend | None, mask: str) -> list[KeyItem]:
    """Return the parts of the key of an image.

    Parameters
    ----------
    index
        Name of the index; of no importance for the true colour.
    legend
        Colours of the index; None for the true colour.
    mask
        Name of the mask that is hatched; empty for none.
    """
    if legend is None:
        colours = KeyItem(f"true colour, reflectance 0 to {BRIGHTEST:.2f}", None)
    else:
        colours = KeyItem(index, _ramp(legend), legend)
    items = [colours]
    if mask:
        paper = np.full((12, 20, 3), 160, np.uint8)
        items.append(KeyItem(f"masked by {mask}", hatched(paper, np.ones((12, 20), np.bool_))))
    items.append(KeyItem("no data", np.full((12, 20, 3), GREY, np.uint8)))
    return items


@dataclass(frozen=True, slots=True, eq=False)
class KeyItem:
    """A part of a sheet's key: a swatch and a text, or colours between two values."""

    text: str
    swatch: Any
    legend: Legend | None = None

    @property
    def _parts(self) -> list[tuple[str, Any]]:
        """Texts and swatches from left to right."""
        if self.legend is not None:
            low, high = (f"{value:.4g}".replace("-", "\N{MINUS SIGN}") for value in (self.legend.low, self.legend.high))
            return [(f"{self.text}  {low}", None), ("", self.swatch), (high, None)]
        return [("", self.swatch), (self.text, None)] if self.swatch is not None else [(self.text, None)]

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        wide = 6 * (len(self._parts) - 1)
        for text, image in self._parts:
            wide += math.ceil(font(_SMALL).getlength(text)) if image is None else int(image.shape[1])
        return wide

    def draw(self, sheet: Image.Image, left: int, top: int) -> None:
        """Draw it, with its text centred 6 pixels below `top`."""
        from PIL import Image, ImageDraw  # noqa: PLC0415  # optional library

        draw = ImageDraw.Draw(sheet)
        for text, image in self._parts:
            if image is None:
                draw.text((left, top + 6), text, fill=INK, font=font(_SMALL), anchor="lm")
                left += math.ceil(font(_SMALL).getlength(text)) + 6
            else:
                sheet.paste(Image.fromarray(image), (left, top))
                left += image.shape[1] + 6


def fitted(text: str, face: Font, room: float) -> str:
    """Return a text on one line, cut so that it is not wider than some pixels."""
    text = shortened(text, 400)
    if face.getlength(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if face.getlength(f"{text[:middle]}…") <= room else (low, middle - 1)
    return f"{text[:low].rstrip()}…"


@functools.cache
def font(size: int) -> Font:
    """Return a font of a size in pixels: the one that matplotlib brings along, which has more letters than Pillow's."""
    from PIL import ImageFont  # noqa: PLC0415  # optional library

    found = importlib.util.find_spec("matplotlib")  # it is not imported, which would take longer than all chips
    for folder in found.submodule_search_locations or () if found else ():
        file = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)


def _ramp(legend: Legend) -> Any:
    """Return colours of a legend from left to right, (rows, columns, 3)."""
    values = np.linspace(legend.low, legend.high, 140)
    return np.broadcast_to(legend.rgb(values), (12, 140, 3)).copy()
