"""Contact sheets: the chips of one feature through time on one image, with date and valid share under each."""

from __future__ import annotations

import functools
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.pictures.chip_images import BRIGHTEST, GREY, ChipPainter, ChipStyle, hatched, jpeg
from sen2chain.pictures.drawn_text import shortened

if TYPE_CHECKING:
    import datetime as dt

    from PIL import Image

    from sen2chain.chips import Chip
    from sen2chain.legends import Legend

    Font = Any

_INK, _SOFT, _PAPER = (32, 33, 36), (95, 99, 104), (255, 255, 255)
_MARGIN, _GAP, _CAPTION = 20, 10, 38
_COLUMNS, _WIDEST = 6, 1.5
_NARROWEST = 560
_TITLE, _TEXT, _SMALL = 20, 13, 12
_MOST_PIXELS, _SMALLEST = 40_000_000, 48  # of a sheet, and of the longer side of a chip on it


@dataclass(frozen=True, slots=True)
class SheetText:
    """Texts at the head of a contact sheet."""

    title: str
    """Name of the feature."""
    subtitle: str
    """What is shown, of which layer; the dates follow."""
    mask: str = ""
    """Name of the mask that is hatched; empty for none."""
    index: str = ""
    """Name of the index; empty for the true colour."""
    legend: Legend | None = None
    """Colours of the index."""


class ContactSheet:
    """A contact sheet while chips are added to it.

    Parameters
    ----------
    text
        Texts at its head.
    edge
        Pixels of the longer side of a chip's image.
    """

    def __init__(self, text: SheetText, edge: int) -> None:
        self.text, self.edge = text, edge
        self._cells: list[tuple[dt.datetime, float, bytes]] = []

    def __len__(self) -> int:
        return len(self._cells)

    def add(self, date: dt.datetime, share: float, image: Image.Image) -> None:
        """Add the image of a chip, of at most `edge` pixels, with its sensing time and its valid share (0 to 1)."""
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)  # a tenth of the memory, and nothing is lost
        self._cells.append((date, share, file.getvalue()))

    def draw(self) -> Image.Image:
        """Return the sheet, with the chips in the order in which they were added."""
        from PIL import Image, ImageDraw  # noqa: PLC0415  # optional library

        images: list[Image.Image] = [Image.open(io.BytesIO(content)) for _, _, content in self._cells]
        over = len(images) * (self.edge + _GAP) * (self.edge + _CAPTION + _GAP) / _MOST_PIXELS
        if over > 1:
            edge = max(round(self.edge / math.sqrt(over)), _SMALLEST)
            images = [image.reduce(math.ceil(self.edge / edge)) for image in images]
        wide = max((image.width for image in images), default=self.edge)
        high = max((image.height for image in images), default=self.edge)
        wide_cell, high_cell = max(wide, 84) + _GAP, high + _CAPTION + _GAP
        count = max(len(images), 1)
        columns = min(count, max(_COLUMNS, math.ceil(math.sqrt(count * _WIDEST * high_cell / wide_cell))))
        width = max(columns * wide_cell - _GAP, _NARROWEST) + 2 * _MARGIN
        top = self._head(None, width)
        height = top + math.ceil(count / columns) * high_cell + _MARGIN - _GAP
        sheet = Image.new("RGB", (width, height), _PAPER)
        draw = ImageDraw.Draw(sheet)
        self._head(sheet, width)
        for k, (image, (date, share, _)) in enumerate(zip(images, self._cells, strict=True)):
            left, above = _MARGIN + k % columns * wide_cell, top + k // columns * high_cell
            middle = left + (wide_cell - _GAP) // 2
            sheet.paste(image, (middle - image.width // 2, above + (high - image.height) // 2))
            draw.text((middle, above + high + 4), f"{date:%Y-%m-%d}", fill=_INK, font=font(_TEXT), anchor="ma")
            draw.text((middle, above + high + 20), percent(share), fill=_SOFT, font=font(_SMALL), anchor="ma")
        return sheet

    def _head(self, sheet: Image.Image | None, width: int) -> int:
        """Draw title, subtitle and key on a sheet, None only measures them; return the row at which chips begin."""
        from PIL import ImageDraw  # noqa: PLC0415  # optional library

        room = width - 2 * _MARGIN
        if sheet is not None:
            draw = ImageDraw.Draw(sheet)
            draw.text((_MARGIN, _MARGIN - 4), fitted(self.text.title, font(_TITLE), room), fill=_INK, font=font(_TITLE))
            below = _MARGIN + _TITLE + 4
            draw.text((_MARGIN, below), fitted(self._subtitle(), font(_TEXT), room), fill=_SOFT, font=font(_TEXT))
        left, top = _MARGIN, _MARGIN + _TITLE + _TEXT + 18
        for item in self._key():
            wide = item.width
            if left > _MARGIN and left + wide > width - _MARGIN:
                left, top = _MARGIN, top + 22
            if sheet is not None:
                item.draw(sheet, left, top)
            left += wide + 18
        return top + 34

    def _subtitle(self) -> str:
        if not self._cells:
            return self.text.subtitle
        dates = [f"{date:%Y-%m-%d}" for date, _, _ in self._cells]
        first, last = min(dates), max(dates)
        if first == last:
            return f"{self.text.subtitle}, {first}"
        return f"{self.text.subtitle}, {len(dates)} images from {first} to {last}"

    def _key(self) -> list[_KeyItem]:
        """Return the parts of the key: colours, the mask, no data."""
        if self.text.legend is None:
            colours = _KeyItem(f"true colour, reflectance 0 to {BRIGHTEST:.2f}", None)
        else:
            colours = _KeyItem(self.text.index, _ramp(self.text.legend), self.text.legend)
        items = [colours]
        if self.text.mask:
            paper = np.full((12, 20, 3), 160, np.uint8)
            items.append(_KeyItem(f"masked by {self.text.mask}", hatched(paper, np.ones((12, 20), np.bool_))))
        items.append(_KeyItem("no data", np.full((12, 20, 3), GREY, np.uint8)))
        return items


@dataclass(frozen=True, slots=True, eq=False)
class _KeyItem:
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
                draw.text((left, top + 6), text, fill=_INK, font=font(_SMALL), anchor="lm")
                left += math.ceil(font(_SMALL).getlength(text)) + 6
            else:
                sheet.paste(Image.fromarray(image), (left, top))
                left += image.shape[1] + 6


def thumbnail(chip: Chip, style: ChipStyle, edge: int = 96) -> bytes:
    """Return a small image of a chip as the bytes of a JPEG file, with the mask hatched and the outline drawn.

    Parameters
    ----------
    chip
        The chip; `style.fits` tells whether it has what is shown.
    style
        What is shown.
    edge
        Pixels of its longer side, at most.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    return jpeg(ChipPainter(style, edge).paint(chip), quality=80)


def percent(share: float) -> str:
    """Return a share as text: ``100 %`` and ``0 %`` only where it is exactly that."""
    if 0 < share < 0.01:
        return "<1 % valid"
    if 0.99 < share < 1:
        return ">99 % valid"
    return f"{share:.0%} valid".replace("%", " %")


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
