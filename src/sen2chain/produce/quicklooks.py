"""Quicklooks of products: the true colour, or the colours of an index, with a cloud mask hatched.

A picture is at most 1400 pixels wide and high (a tile: 1373, each of 80 m), and small rasters are enlarged to that. The
text below it says what it shows, of which product, and what its colours mean. Reflectance has one stretch, and an index
its legend, so that dates can be compared by eye. No data is grey.

It is made from small pictures in files: those of the bands for the true colour, and the overviews of its raster for an
index. No band is decoded as a whole for it. The file says what it was made from, as rasters do, in a comment.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.acquisition import IndexValues, MaskLayer, OpenAcquisition, OpenRasters, Reflectance
from sen2chain.errors import GridMismatchError, RequestError
from sen2chain.indices import NODATA
from sen2chain.legends import legend_of
from sen2chain.masks import NO_MASK
from sen2chain.pictures.chip_images import need_pillow, resized, true_colour
from sen2chain.pictures.image_files import write_image
from sen2chain.pictures.picture_key import INK, PAPER, SOFT, fitted, font, key_items
from sen2chain.rasters import Raster, environment

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image

    from sen2chain.grid import Grid
    from sen2chain.indices import Index
    from sen2chain.legends import Legend
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition, ProductId
    from sen2chain.raster_tags import RasterTags

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]

EXPECTED_BYTES = 900_000
"""About how large a quicklook of a tile is."""

_LARGEST = 1400  # pixels of a picture's longer side
_NARROWEST, _MARGIN, _BELOW = 640, 12, 78  # pixels: least width, and height of the text below
_TITLE, _TEXT = 18, 12


@dataclass(frozen=True, slots=True, eq=False)
class Quicklook:
    """What a quicklook shows, as arrays of one shape."""

    product: ProductId
    """The product."""
    colours: npt.NDArray[np.uint8]
    """(rows, columns, 3) of red, green and blue."""
    masked: Bools | None = None
    """(rows, columns), True where the mask is hatched; None without a mask."""
    mask: str = ""
    """Name of that mask."""
    index: str = ""
    """Name of the index; empty for the true colour."""
    legend: Legend | None = None
    """Colours of the index."""

    def draw(self) -> Image.Image:
        """Return the picture: the pixels, and below them the text.

        Raises
        ------
        MissingExtraError
            If Pillow is not installed.
        """
        need_pillow()
        from PIL import Image, ImageDraw  # noqa: PLC0415  # optional library

        rows, columns = self.colours.shape[:2]
        times = max(1, _LARGEST // max(rows, columns))
        pixels = resized(self.colours, self.masked, columns * times, rows * times)
        width = max(pixels.width, _NARROWEST)
        image = Image.new("RGB", (width, pixels.height + _BELOW), PAPER)
        image.paste(pixels, (0, 0))
        draw, top, room = ImageDraw.Draw(image), pixels.height + _MARGIN, width - 2 * _MARGIN
        title = f"{self.index or 'True colour'} · {self.product.tile} · {self.product.sensing:%Y-%m-%d %H:%M} UTC"
        draw.text((_MARGIN, top - 4), fitted(title, font(_TITLE), room), fill=INK, font=font(_TITLE))
        draw.text((_MARGIN, top + 20), fitted(str(self.product), font(_TEXT), room), fill=SOFT, font=font(_TEXT))
        left = _MARGIN
        for item in key_items(self.index, self.legend, self.mask):
            item.draw(image, left, top + 42)
            left += item.width + 18
        return image


def read_quicklook(
    acquisition: Acquisition,
    index: Index | None = None,
    raster: Path | None = None,
    mask: Mask | None = None,
    *,
    verify: bool = False,
) -> Quicklook:
    """Read what a quicklook shows, in a thread of our own, see `sen2chain.rasters.environment`.

    Parameters
    ----------
    acquisition
        The acquisition, with the rasters of masks that have been written before.
    index
        An index; None for the true colour.
    raster
        The raster of the index; an index needs it.
    mask
        The mask that is hatched; None for none.
    verify
        Whether files of the product are compared with its checksums.

    Raises
    ------
    RequestError
        If the acquisition lacks a band, its metadata, or what the mask is made from.
    RasterError
        If a raster cannot be used.
    """
    with environment(acquisition.reading), ExitStack() as stack:
        rasters = OpenRasters(stack, acquisition.details.verifier() if verify else None)
        opened = partial(OpenAcquisition, stack, rasters=rasters)
        legend: Legend | None = None
        if index is None:
            bands = [Reflectance(band) for band in acquisition.id.sensor.true_colour]
            finest = opened(acquisition, bands).grid
            found = opened(acquisition, bands, _resolution(finest), overview=True)
            arrays, grid = found.read(), found.grid
            colours = true_colour(np.stack([arrays[band] for band in bands], axis=-1).astype(np.float32))
        elif raster is None:
            raise RequestError(f"{acquisition.id} has no raster of {index.name} to be shown; produce it first.")
        else:
            values, grid = _index_values(acquisition, index, raster)
            legend = legend_of(index, values)
            colours = legend.rgb(values)
        hidden = None
        if mask is not None and mask.family != NO_MASK:
            hidden = _looked_up(opened, acquisition, mask, grid)
    named = mask.name if mask is not None and hidden is not None else ""
    return Quicklook(acquisition.id, colours, hidden, named, index.name if index else "", legend)


def write_quicklook(quicklook: Quicklook, path: Path, tags: RasterTags) -> None:
    """Write a quicklook, as JPEG or PNG by its suffix, with its tags in a comment; its folder is created.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    OutputError
        If the file cannot be written.
    """
    write_image(quicklook.draw(), path, tags.items())


def _factor(shape: tuple[int, int]) -> int:
    """Return the power of two by which a raster is made smaller: files have smaller pictures for these."""
    factor = 1
    while max(shape) > _LARGEST * factor:
        factor *= 2
    return factor


def _resolution(grid: Grid) -> float:
    return grid.pixel_xy[0] * _factor(grid.shape)


def _index_values(acquisition: Acquisition, index: Index, path: Path) -> tuple[Floats, Grid]:
    """Return the values of an index raster in index units, NaN for no data, and the grid of the picture."""
    with Raster(str(path)) as raster:
        factor = _factor(raster.grid.shape)
        grid = raster.grid.reduced(factor)
        if factor == 1 or raster.overview_level(factor) == factor:
            stored = np.zeros(grid.shape, raster.dtype)
            rows, columns = grid.shape
            if factor == 1:
                raster.read((0, rows), (0, columns), stored)
            else:
                raster.read_overview(factor, np.array([[0, rows, 0, columns]]), stored)
            nodata = NODATA if raster.nodata is None else raster.nodata
            return np.where(stored == nodata, np.nan, stored / index.scale), grid
    # A raster of another program without such an overview: all of it is read.
    known = replace(acquisition, indices={index.name: (str(path),)})
    with ExitStack() as stack:
        opened = OpenAcquisition(stack, known, [IndexValues(index)], _resolution(raster.grid), prefer="stored")
        stored = opened.read()[IndexValues(index)]
        return np.where(stored == NODATA, np.nan, stored / index.scale), opened.grid


def _looked_up(opened: Any, acquisition: Acquisition, mask: Mask, grid: Grid) -> Bools:
    """Return a mask on the grid of a picture: the pixel that each centre lies in."""
    layer = MaskLayer(mask)
    found = opened(acquisition, [layer], grid.pixel_xy[0])
    if not found.grid.covers(grid):
        raise GridMismatchError(f"The mask {mask.name} does not cover the picture ({grid}): {found.grid}.")
    image: Bools = found.read()[layer]
    return image[np.ix_(grid.nearest_in(found.grid, 0), grid.nearest_in(found.grid, 1))]
