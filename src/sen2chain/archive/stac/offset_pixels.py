"""Pixels that show whether an item's offset was subtracted: smaller pictures of few bands, or a few of their blocks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.archive.offset_check import CLASSES, INFRARED, RED, Verdict, look
from sen2chain.errors import RasterError, UnreadableError
from sen2chain.rasters import Raster

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]

_ENOUGH = 600_000  # pixels of a picture; that of a tile that is sixteen times smaller has 687 x 687
_MOST = 2_000_000  # pixels of a picture; of larger ones, and of files without pictures, a few blocks are read
_ALONG = 3  # blocks along each edge that are read
_EDGES = 128, 1024  # pixels along a block's edge, at least and at most
_MOST_IN_BLOCKS = 4_000_000  # pixels in all blocks together; of larger blocks fewer are read


def show(rasters: Mapping[str, str]) -> Verdict:
    """Read pixels of an item and return what they show, see `sen2chain.archive.offset_check.look`.

    Usually one picture of one band is read. Where it does not decide, those of near infrared and of the scene classes
    are read too. Call it inside of `sen2chain.rasters.environment`.

    Parameters
    ----------
    rasters
        Band -> location.

    Raises
    ------
    UnreadableError
        If a raster cannot be read.
    """
    name = next((name for name in RED if name in rasters), None)
    if name is None:
        return Verdict.UNDECIDED
    try:
        with ExitStack() as stack:
            red = stack.enter_context(Raster(rasters[name]))
            level = _level(red)
            bands = {name: _read(red, level) if level else _read_blocks(red, red)}
            found = look(bands)
            infrared = next((other for other in INFRARED if other in rasters), None)
            if not found.more_may_decide or infrared is None or CLASSES not in rasters:
                return found.verdict
            others = {other: stack.enter_context(Raster(rasters[other])) for other in (infrared, CLASSES)}
            times = {other: _times(raster, red) for other, raster in others.items()}
            if not all(times.values()):
                return found.verdict
            if level > 1 and not all(_has(raster, level // times[other]) for other, raster in others.items()):
                level, bands[name] = 0, _read_blocks(red, red)
            for other, raster in others.items():
                if level == 0:
                    bands[other] = _read_blocks(raster, red, times[other])
                elif level == 1:
                    bands[other] = _enlarged(_read(raster, 1), times[other])
                else:
                    bands[other] = _read(raster, level // times[other])
            return look(bands).verdict
    except UnreadableError:
        raise
    except RasterError as error:
        raise UnreadableError(str(error)) from error


def _level(raster: Raster) -> int:
    """Return how many times smaller the picture is that is read; 0 where the file has none that is small enough."""
    rows, columns = raster.grid.shape
    if raster.is_jpeg2000 and rows * columns > _ENOUGH:
        # Smaller pictures of JPEG 2000 are spread over the whole file, so all of it would be fetched. In them dark
        # pixels beside clouds are too dark, and classes beside others are mixed.
        return 0
    wanted = 1
    while rows * columns > _ENOUGH * wanted**2:
        wanted *= 2
    level = raster.overview_level(wanted) if wanted > 1 else 1
    return level if rows * columns <= _MOST * level**2 else 0


def _times(raster: Raster, red: Raster) -> int:
    """Return how many times larger a raster's pixels are than those of the red one; 0 where it lies otherwise."""
    own = raster.grid
    for times in (1, 2):
        if own.crs == red.grid.crs and tuple(times * n for n in own.shape) == red.grid.shape:
            return times
    return 0


def _has(raster: Raster, level: int) -> bool:
    """Whether a raster has a picture that is so many times smaller."""
    return level == 1 or (level > 1 and raster.overview_level(level) == level)


def _read(raster: Raster, level: int) -> Array:
    """Read a whole picture."""
    rows, columns = (-(-n // level) for n in raster.grid.shape)
    if level == 1:
        return raster.read((0, rows), (0, columns))
    out = np.zeros((rows, columns), raster.dtype)
    raster.read_overview(level, np.array([[0, rows, 0, columns]]), out)
    return out


def _enlarged(values: Array, times: int) -> Array:
    """Repeat pixels along both axes."""
    return values if times == 1 else values.repeat(times, 0).repeat(times, 1)


def _read_blocks(raster: Raster, red: Raster, times: int = 1) -> Array:
    """Read a raster at a few blocks of the red one, (blocks x rows, columns), on the red one's pixels."""
    shape = red.grid.shape
    blocks = (red.strip_height,) * 2 if red.is_jpeg2000 else red.block_shape  # tiles of JPEG 2000 are square
    least, most = _EDGES
    high, wide = (min(max(edge, least), most, whole) // 2 * 2 for edge, whole in zip(blocks, shape, strict=True))
    along = _ALONG if high * wide * _ALONG**2 <= _MOST_IN_BLOCKS else 2
    rows, columns = (
        # Of blocks that are larger than what is read of them, more would be fetched than there is in a picture.
        _starts(whole, edge, along if block <= most else 1)
        for whole, edge, block in zip(shape, (high, wide), blocks, strict=True)
    )
    parts = [
        raster.read((top // times, (top + high) // times), (left // times, (left + wide) // times))
        for top in rows
        for left in columns
    ]
    return _enlarged(np.concatenate(parts), times)


def _starts(whole: int, edge: int, count: int) -> list[int]:
    """Return where spans of `edge` pixels begin that are spread evenly over an axis, each once."""
    return list(dict.fromkeys(min(int((k + 0.5) * whole / count) // edge * edge, whole - edge) for k in range(count)))
