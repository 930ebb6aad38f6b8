"""Open rasters of one acquisition, their decoding in threads, the grid they share, and checks of what they hold."""

from __future__ import annotations

import math
import threading
from collections import Counter
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.errors import GridMismatchError, RasterError, UnreadableError
from sen2chain.indices import NODATA, SCALE
from sen2chain.parallel import Crew
from sen2chain.rasters import PixelFiles, begin_remote, open_raster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import ExitStack

    from sen2chain.acquisition.layers import LayerSources
    from sen2chain.grid import Grid
    from sen2chain.parallel import Piece, Pieces, Within
    from sen2chain.rasters import OpenRaster, RemotePart
    from sen2chain.sensor import Sensor

LEGACY_NODATA = 16383
"""No-data value of the original program's index rasters; it is declared in a side file that is often lost."""

_TOLERANCE = 0.5  # metres by which pixels may be larger or smaller than they are to be


class OpenRasters:
    """The open rasters of one acquisition. A raster that fails stays failed, with its first error.

    Parameters
    ----------
    stack
        Closes the rasters.
    verifier
        Compares a file with its checksum, see `sen2chain.products.Details.verifier`; None: files are not compared.
    crew
        Threads that help with decoding; None: there are none.
    within
        Makes the context in which they read this acquisition, see `sen2chain.rasters.environment`.
    advanced
        Called with the decoded fraction of what the acquisition needs, from any thread; None: nobody asks.
    """

    def __init__(
        self,
        stack: ExitStack,
        verifier: Callable[[str], None] | None = None,
        crew: Crew | None = None,
        within: Within = nullcontext,
        advanced: Callable[[float], None] | None = None,
    ) -> None:
        self._stack = stack
        self._verifier = verifier
        self.crew = crew or Crew()
        """The threads that help with decoding."""
        self.within = within
        """Makes the context that they enter."""
        self.decoded = DecodedFraction(advanced)
        """How much of what the acquisition needs is decoded."""
        self._open: dict[str, OpenRaster] = {}
        self._pixel_files = PixelFiles()
        self._broken: dict[str, RasterError] = {}
        self._begun: dict[str, RemotePart] = {}
        self._roles: dict[str, tuple[Sensor, str]] = {}
        stack.callback(self._drop)
        stack.callback(self._pixel_files.close)

    def expect(self, locations: Iterable[str]) -> None:
        """Begin to fetch the headers of remote rasters, all at once; call it in the context that reads them."""
        self._begun |= begin_remote(set(locations) - self._begun.keys() - self._open.keys() - self._broken.keys())

    def assign(self, sensor: Sensor, roles: Mapping[str, str]) -> None:
        """Say which rasters are which bands or quality raster, given as location -> name: `open` checks them."""
        for location, name in roles.items():
            self._roles[location] = sensor, name
            if location in self._open and location not in self._broken:
                try:
                    check_role(self._open[location], sensor, name)
                except RasterError as error:
                    self.fail(location, error)

    def _drop(self) -> None:
        """Drop remote files that were not opened."""
        for file in self._begun.values():
            file.close()

    def open(self, location: str) -> OpenRaster:
        """Return the open raster.

        Raises
        ------
        RasterError
            If it cannot be opened or has failed before.
        """
        if location in self._broken:
            raise self._broken[location]
        if location not in self._open:
            try:
                self.verify(location)
                raster = open_raster(location, self._begun.pop(location, None), self._pixel_files)
                self._open[location] = raster
                self._stack.callback(raster.close)
                if location in self._roles:
                    check_role(self._open[location], *self._roles[location])
            except RasterError as error:
                self._broken[location] = error
                raise
        return self._open[location]

    def of_grid(self, grid: Grid) -> str:
        """Return the location of the first open raster of a grid; empty where there is none."""
        whole = (where for where, raster in self._open.items() if where not in self._broken and raster.grid == grid)
        return next(whole, "")

    def verify(self, location: str) -> None:
        """Compare a file with its checksum, where there are checksums.

        Raises
        ------
        UnreadableError
            If the file differs.
        """
        if self._verifier is not None:
            self._verifier(location)

    def fail(self, location: str, error: RasterError) -> None:
        """Remember that a raster cannot be used any more."""
        self._broken.setdefault(location, error)

    @property
    def errors(self) -> list[RasterError]:
        """Why rasters cannot be used, one error for each of them."""
        return list(self._broken.values())

    def error(self, location: str) -> RasterError | None:
        """Return why a raster cannot be used; None while it can."""
        return self._broken.get(location)


class Decoding:
    """Decoding of several rasters at once: idle threads begin, this one joins in. A raster that fails costs no other.

    Call `finish` or `drop` in any case, before the rasters are closed.

    Parameters
    ----------
    rasters
        The open rasters of the acquisition.
    pieces
        Location -> what to decode of it, see `Raster.pieces`, and its pixels.
    """

    def __init__(self, rasters: OpenRasters, pieces: Mapping[str, tuple[Sequence[Piece], int]]) -> None:
        self._rasters = rasters
        self._failed: dict[str, tuple[int, RasterError]] = {}
        self._lock = threading.Lock()
        self._begun: Pieces | None = rasters.crew.begin(
            (
                partial(self._decode, location, number, piece, pixels / len(own))
                for location, (own, pixels) in pieces.items()
                for number, piece in enumerate(own)
            ),
            rasters.within,
        )

    def finish(self) -> None:
        """Decode what is left; rasters that cannot be decoded are marked with the error of their first such piece."""
        if (begun := self._taken()) is not None:
            begun.finish()
        for location, (_, error) in self._failed.items():
            self._rasters.fail(location, error)

    def drop(self) -> None:
        """Leave what nobody has begun to decode, and wait for the rest."""
        if (begun := self._taken()) is not None:
            begun.drop()

    def _taken(self) -> Pieces | None:
        """Return the pieces and let go of them; None if that is done.

        They refer to this object, so that their images would stay until Python collects cycles.
        """
        begun, self._begun = self._begun, None
        return begun

    def _decode(self, location: str, number: int, piece: Piece, pixels: float) -> None:
        first, _ = self._failed.get(location, (number, None))
        if number > first:  # pieces before that one are decoded all the same: its error must not depend on threads
            return
        try:
            piece()
        except RasterError as error:
            with self._lock:
                first, _ = self._failed.get(location, (number, None))
                if number <= first:
                    self._failed[location] = number, error
        self._rasters.decoded.add(pixels)


class DecodedFraction:
    """Fraction of an acquisition that is decoded, in pixels of blocks.

    Parameters
    ----------
    told
        Called with the fraction whenever it grows; None: it is not computed.
    """

    def __init__(self, told: Callable[[float], None] | None) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._done = self._whole = 0.0

    def expect(self, pixels: Callable[[], int]) -> None:
        """Say how many pixels are to be decoded from now on."""
        if self._told is not None:
            self._whole = self._done + pixels()

    def add(self, pixels: float) -> None:
        """Count decoded pixels."""
        if self._told is None:
            return
        with self._lock:
            self._done += pixels
            self._told(min(self._done / max(self._whole, 1), 1.0))


def finest_grid(rasters: OpenRasters, sources: LayerSources) -> Grid | None:
    """Find the grid of the finest pixels that most value rasters share; the others are marked as mismatched.

    Parameters
    ----------
    rasters, sources
        The open rasters, and the layers to read from them. Bands of a coarser resolution count with their grid refined
        to the sensor's finest pixels.

    Returns
    -------
    Grid or None
        None where no value raster can be opened.
    """
    rasters.assign(sources.sensor, sources.roles())
    rasters.expect(sources.locations())
    finest = float(sources.sensor.finest)
    grids: dict[str, Grid] = {}
    for location, value in sources.values().items():
        try:
            grid = rasters.open(location).grid
        except RasterError:
            continue
        is_coarse = value.may_be_coarse and grid.pixel_xy[0] > 1.5 * finest
        grids[location] = grid.refined(finest) if is_coarse else grid
    if not grids:
        return None
    # Rasters of the finest pixels know the grid best; a refined one counts only where there is no other.
    own = Counter(g for where, g in grids.items() if rasters.open(where).grid == g)
    common = (own or Counter(grids.values())).most_common(1)[0][0]
    for location, grid in grids.items():
        if rasters.open(location).grid == grid and grid != common:
            rasters.fail(location, GridMismatchError(f"{location} has another grid than the other rasters: {grid}."))
    return common


def check_role(raster: OpenRaster, sensor: Sensor, name: str) -> None:
    """Check that a raster may be a band or a quality raster of a product, as far as its header tells.

    In an archive the names of files tell it. A catalogue's asset may be another picture: of other pixels, of several
    bands, or with other numbers.

    Parameters
    ----------
    raster, sensor, name
        The raster, and what it is to be.

    Raises
    ------
    GridMismatchError
        If its pixels have another size.
    UnreadableError
        If it has several bands, or numbers that mean something else.
    """
    described = sensor.band(name) or sensor.quality_raster(name)
    if described is None:
        return
    wide, high = raster.grid.pixel_xy
    if abs(wide - described.resolution) > _TOLERANCE or abs(high - described.resolution) > _TOLERANCE:
        raise GridMismatchError(
            f"{raster.location} has pixels of {wide:g} x {high:g} m, and {name} has {described.resolution} m."
        )
    if raster.count != 1:
        raise UnreadableError(f"{raster.location} has {raster.count} bands, and a file of {name} alone is needed.")
    if sensor.band(name) is None:
        return
    if raster.nodata not in {None, sensor.nodata, sensor.saturated}:
        raise UnreadableError(
            f"{raster.location} marks pixels without data by {raster.nodata:g}, but {sensor.nodata} is expected."
        )
    factor, _ = raster.scale
    if factor != 1 and not math.isclose(factor, 1 / SCALE):
        raise UnreadableError(f"{raster.location} is scaled by {factor:g}, but {1 / SCALE:g} is expected.")


def check_scale(raster: OpenRaster, scale: int) -> None:
    """Raise `UnreadableError` if an index raster declares another scale than that of stored values of its index."""
    factor, summand = raster.scale
    if summand != 0 or not (factor == 1 or math.isclose(factor, 1 / scale)):
        raise UnreadableError(f"{raster.location} is scaled by {factor:g}, but it should hold values times {scale}.")


def check_type(raster: OpenRaster, dtype: type[np.generic] | None) -> None:
    """Raise `UnreadableError` if a raster holds another type than its role asks for."""
    if dtype is not None and raster.dtype != np.dtype(dtype):
        raise UnreadableError(f"{raster.location} holds {raster.dtype} values, but {np.dtype(dtype)} are expected.")


def nodata_of(raster: OpenRaster) -> int:
    """Return the no-data value of a stored index raster: the declared one, else that of its make."""
    if raster.nodata is not None:
        return int(raster.nodata)
    return NODATA if raster.location.endswith(".tif") else LEGACY_NODATA
