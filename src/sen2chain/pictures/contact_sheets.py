"""Contact sheets: the chips of one feature through time on one image, with date and valid share under each."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sen2chain.pictures.chip_images import ChipPainter, ChipStyle, jpeg
from sen2chain.pictures.picture_key import INK, PAPER, SOFT, fitted, font, key_items

if TYPE_CHECKING:
    import datetime as dt

    from PIL import Image

    from sen2chain.chips import Chip
    from sen2chain.legends import Legend

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
        sheet = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(sheet)
        self._head(sheet, width)
        for k, (image, (date, share, _)) in enumerate(zip(images, self._cells, strict=True)):
            left, above = _MARGIN + k % columns * wide_cell, top + k // columns * high_cell
            middle = left + (wide_cell - _GAP) // 2
            sheet.paste(image, (middle - image.width // 2, above + (high - image.height) // 2))
            draw.text((middle, above + high + 4), f"{date:%Y-%m-%d}", fill=INK, font=font(_TEXT), anchor="ma")
            draw.text((middle, above + high + 20), percent(share), fill=SOFT, font=font(_SMALL), anchor="ma")
        return sheet

    def _head(self, sheet: Image.Image | None, width: int) -> int:
        """Draw title, subtitle and key on a sheet, None only measures them; return the row at which chips begin."""
        from PIL import ImageDraw  # noqa: PLC0415  # optional library

        room = width - 2 * _MARGIN
        if sheet is not None:
            draw = ImageDraw.Draw(sheet)
            draw.text((_MARGIN, _MARGIN - 4), fitted(self.text.title, font(_TITLE), room), fill=INK, font=font(_TITLE))
            below = _MARGIN + _TITLE + 4
            draw.text((_MARGIN, below), fitted(self._subtitle(), font(_TEXT), room), fill=SOFT, font=font(_TEXT))
        left, top = _MARGIN, _MARGIN + _TITLE + _TEXT + 18
        for item in key_items(self.text.index, self.text.legend, self.text.mask):
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
