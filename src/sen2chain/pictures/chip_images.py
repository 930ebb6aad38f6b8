"""Images of chips: true colour or the colours of an index, the mask hatched, no data grey, the outline drawn.

Reflectance is shown with one fixed stretch, and an index with the fixed colours of its legend, so that images of
different dates can be compared by eye.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.errors import MissingExtraError
from sen2chain.indices import NODATA
from sen2chain.legends import NO_VALUE

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    from sen2chain.chips import Chip, Place
    from sen2chain.indices import Index
    from sen2chain.legends import Legend

    Bytes = npt.NDArray[np.uint8]
    Bools = npt.NDArray[np.bool_]
    Outlines = dict[Place, tuple[Image.Image, Image.Image]]

BRIGHTEST = 0.30
"""Reflectance that is shown as white."""
_GAMMA = 1.8  # most of a landscape is darker than 0.1
_SMOOTH = 3  # outlines are drawn so many times larger, then made smaller
# Widths in pixels of the image.
_LINE, _HALO, _POINT = 1.4, 3.4, 4.0
_LARGE = 300  # pixels of an image whose hatching is wider
_COVERED = np.uint8(180)  # of 255, how much a line of the hatching hides
_DARK, _LIGHT = (25, 25, 25), (255, 255, 255)
GREY = (int(NO_VALUE[1:3], 16), int(NO_VALUE[3:5], 16), int(NO_VALUE[5:7], 16))
"""Colour of pixels without data."""


@dataclass(frozen=True, slots=True)
class ChipStyle:
    """What an image shows of a chip."""

    index: Index | None = None
    """An index; None for the true colour."""
    legend: Legend | None = None
    """Colours of the index."""
    mask: str | None = None
    """Name of the mask that is hatched; None for none."""

    @property
    def name(self) -> str | None:
        """Name of the index; None for the true colour."""
        return None if self.index is None else self.index.name

    def fits(self, chip: Chip) -> bool:
        """Whether a chip has what is shown."""
        return chip.colour is not None if self.index is None else self.index.name in chip.values


class ChipPainter:
    """Paints chips; the outline of a feature is drawn once for all dates.

    Parameters
    ----------
    style
        What is shown.
    edge
        Pixels of the longer side of an image.
    outlines
        Keeps drawn outlines; painters of one edge may share it.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """

    def __init__(self, style: ChipStyle, edge: int, outlines: Outlines | None = None) -> None:
        self.style, self.edge = style, edge
        self._outlines: Outlines = {} if outlines is None else outlines
        need_pillow()

    def paint(self, chip: Chip) -> Image.Image:
        """Return the image of a chip, RGB."""
        masked = chip.masks.get(self.style.mask or "")
        image = resized(self._colours(chip), masked, *self._size(chip))
        lines, covered = self._outline(chip.place, image.width, image.height)
        image.paste(lines, mask=covered)
        return image

    def _size(self, chip: Chip) -> tuple[int, int]:
        rows, columns = chip.shape
        share = self.edge / max(rows, columns)
        return max(1, round(columns * share)), max(1, round(rows * share))

    def _colours(self, chip: Chip) -> Bytes:
        """Return a colour for each pixel of a chip."""
        style = self.style
        if style.index is None:
            assert chip.colour is not None  # noqa: S101  # see ChipStyle.fits
            return true_colour(chip.colour)
        assert style.legend is not None  # noqa: S101  # every index has one
        stored = chip.values[style.index.name]
        return style.legend.rgb(np.where(stored == NODATA, np.nan, stored / style.index.scale))

    def _outline(self, place: Place, width: int, height: int) -> tuple[Image.Image, Image.Image]:
        """Return the outline of a place, see `_drawn`."""
        if place not in self._outlines:
            self._outlines[place] = _drawn(place, width, height)
        return self._outlines[place]


def need_pillow() -> None:
    """Make sure that Pillow is installed.

    Raises
    ------
    MissingExtraError
        If it is not.
    """
    try:
        import PIL  # noqa: F401, PLC0415  # optional library
    except ImportError:
        raise MissingExtraError("Quicklooks", "pillow", "plot") from None


def true_colour(reflectance: npt.NDArray[np.float32]) -> Bytes:
    """Return colours of surface reflectance: black for 0 and white for 0.30, with a gamma of 1.8; NaN is grey.

    Parameters
    ----------
    reflectance
        (..., 3) of red, green and blue.

    Returns
    -------
    numpy.ndarray
        uint8 of that shape.
    """
    missing = np.isnan(reflectance).any(axis=-1, keepdims=True)
    share = np.clip(np.nan_to_num(reflectance) / BRIGHTEST, 0.0, 1.0) ** (1 / _GAMMA)
    return np.where(missing, GREY, np.rint(255 * share)).astype(np.uint8)


def resized(colours: Bytes, hidden: Bools | None, width: int, height: int) -> Image.Image:
    """Return an image of another size, with the mask hatched on it.

    Parameters
    ----------
    colours
        (rows, columns, 3).
    hidden
        (rows, columns), True where the image is hatched; None for nowhere.
    width, height
        Size of the image in pixels.
    """
    from PIL import Image  # noqa: PLC0415  # optional library

    image = Image.fromarray(colours)
    # Enlarged pixels stay squares, so that nobody takes an interpolation for a measurement.
    is_larger = width > image.width
    image = image.resize((width, height), Image.Resampling.NEAREST if is_larger else Image.Resampling.BOX)
    if hidden is not None and hidden.any():
        shown = Image.fromarray(hidden).resize((width, height), Image.Resampling.NEAREST)
        _hatch(image, np.asarray(shown, dtype=np.bool_))
    return image


def hatched(image: Bytes, hidden: Bools) -> Bytes:
    """Return an image with diagonal lines where it is masked: dark ones beside light ones, to be seen on any ground.

    Parameters
    ----------
    image
        (rows, columns, 3) of uint8.
    hidden
        (rows, columns), True where lines are drawn.
    """
    from PIL import Image  # noqa: PLC0415  # optional library

    drawn = Image.fromarray(image)
    _hatch(drawn, hidden)
    return np.array(drawn)


def _hatch(image: Image.Image, hidden: Bools) -> None:
    """Draw diagonal lines on an image, where it is hidden."""
    from PIL import Image  # noqa: PLC0415  # optional library

    period = 8 if max(hidden.shape) < _LARGE else 12
    for at, colour in ((0, _DARK), (1, _LIGHT)):
        covered = (hidden & _diagonals(hidden.shape, period, at)) * _COVERED
        image.paste(colour, mask=Image.fromarray(covered))


@functools.lru_cache(maxsize=32)
def _diagonals(shape: tuple[int, int], period: int, at: int) -> Bools:
    """Return every pixel of diagonal lines."""
    lines: Bools = (np.arange(shape[0])[:, None] + np.arange(shape[1])[None, :]) % period == at
    return lines


def jpeg(image: Image.Image, quality: int = 88) -> bytes:
    """Return an image as the bytes of a JPEG file; below a quality of 85, colours have half the resolution."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 85 else 2)
    return file.getvalue()


def _drawn(place: Place, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Return the outline of a place, a light line with a dark halo, and how much of each pixel they cover."""
    from PIL import Image, ImageDraw  # noqa: PLC0415  # optional library

    rows, columns = place.shape
    scale = np.array([width / columns, height / rows]) * _SMOOTH
    covered = []
    for thick in (_HALO, _LINE):
        image = Image.new("L", (width * _SMOOTH, height * _SMOOTH))
        draw = ImageDraw.Draw(image)
        for path in place.outline:
            points = [tuple(point) for point in (path * scale).tolist()]
            if len(points) == 1:
                (x, y), radius = points[0], (_POINT + thick / 2) * _SMOOTH
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
                radius -= thick * _SMOOTH
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
            else:
                draw.line(points, fill=255, width=round(thick * _SMOOTH), joint="curve")
        covered.append(image.reduce(_SMOOTH))
    halo, line = covered
    colours = Image.composite(Image.new("RGB", halo.size, _LIGHT), Image.new("RGB", halo.size, _DARK), line)
    return colours, halo
