"""OmniCloudMask: cloud masks of a trained model, made by the library of that name, see `model_library`.

A mask is made from the bands B04, B03 and B8A of an acquisition and holds 1 where the model sees thick cloud, thin
cloud or cloud shadow (its classes 1, 2 and 3), else 0. A pixel that has no data in all three bands is 0: it is not a
cloud, and has no data in an index anyway.

What the model gets
-------------------
Digital numbers as they are stored, as uint16, without offset and scale. The library subtracts the mean of each band of
a patch (1000 x 1000 pixels) and divides by its standard deviation, so an offset or a factor changes nothing; but it
takes 0 for no data, as Sentinel-2 does, and dark pixels of a product with an offset would become 0 or negative if the
offset were added. It is also what the library's own reader of SAFE products passes on, in the smallest type there is.

Time and memory
---------------
Patches overlap by 300 pixels, so a tile has 256 of them at 10 m and 64 at 20 m. A processor needs about 10 seconds for
one. PyTorch uses all processors by itself, so one model runs at a time, however many products are worked on. The
scores of the four classes are kept for the whole tile: with the input that is 52 bytes per pixel, 6.2 GB for a tile at
10 m and 1.6 GB at 20 m, besides 1.2 GB for the library.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.acquisition import DigitalNumbers, OpenAcquisition, OpenRasters
from sen2chain.errors import ModelError
from sen2chain.parallel import memory, workers
from sen2chain.produce.cog_file import write_cog
from sen2chain.produce.model_library import CLASSES, PATCH, TURN, ModelLibrary, patches
from sen2chain.progress import counted, lasting, sized
from sen2chain.raster_tags import FROM_MODEL
from sen2chain.rasters import environment
from sen2chain.sensor import MGRS_TILES, SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.grid import Grid
    from sen2chain.products import Acquisition
    from sen2chain.raster_tags import RasterTags
    from sen2chain.settings import Paths

    Bytes = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.uint16]
    Advance = Callable[[float], object]

BANDS = (*SENTINEL2.true_colour[:2], SENTINEL2.near_infrared[1])
"""Bands that the model sees: red, green, and the narrow band of the near infrared."""

_SECONDS = 9.8  # processor time of a patch, measured with both models
_BYTES, _FIXED = 52, 1_200_000_000  # memory per pixel, and of the library with its models; measured
_AT_ONCE = 1 << 22  # pixels that are counted at once


@dataclass(frozen=True, slots=True)
class CloudModel:
    """OmniCloudMask at a resolution; build it with `find`."""

    library: ModelLibrary
    """The library with its weights."""
    resolution: int = 10
    """Edge of a pixel of the mask, in metres: 10 or 20."""

    @classmethod
    def find(cls, paths: Paths, resolution: int = 10) -> Self:
        """Find the library and its weights; nothing is imported or loaded.

        Parameters
        ----------
        paths
            Folders of the archive, whose configuration may name the folder of the weights.
        resolution
            Edge of a pixel of the mask: 10 or 20 m.

        Raises
        ------
        MissingExtraError
            If the library is not installed.
        ModelError
            If the configuration names a folder that lacks a file of weights.
        """
        return cls(ModelLibrary.find(paths), resolution)

    @property
    def name(self) -> str:
        """The mask as it stands in file names, as ``OCM_v1_8_1``."""
        return self.library.name

    @property
    def facts(self) -> dict[str, str]:
        """What the tags of a mask say besides the numbers of pixels: ``library``, ``model`` and ``resolution``."""
        known = self.library
        return {"library": f"omnicloudmask {known.version}", "model": known.model, "resolution": str(self.resolution)}

    def load(self, *, quiet: bool = False) -> None:
        """Load the library and its weights before the work begins, see `ModelLibrary.load`."""
        self.library.load(quiet=quiet)

    def expected_seconds(self, shape: tuple[int, int] | None = None) -> float:
        """Return about how long a mask takes with the processors of this machine.

        Parameters
        ----------
        shape
            Rows and columns of the mask; None for those of a tile.
        """
        shape = shape or self._tile
        patch, _ = patches(shape)
        return (
            self.library.calls(shape) / max(1, len(self.library.weights)) * _SECONDS * (patch / PATCH) ** 2 / workers()
        )

    def expected_memory(self, shape: tuple[int, int] | None = None) -> int:
        """Return about how many bytes of memory a mask needs; the parameter is that of `expected_seconds`."""
        rows, columns = shape or self._tile
        return _BYTES * rows * columns + _FIXED

    @property
    def _tile(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        edge = round(MGRS_TILES.edge / self.resolution)
        return edge, edge

    def sentence(self, count: int) -> str:
        """Say what masks of some products will take."""
        each = lasting(self.expected_seconds())
        whole = "" if count == 1 else f", {lasting(count * self.expected_seconds())} in all"
        return (
            f"OmniCloudMask: {counted(count, 'mask')} at {self.resolution} m, one at a time, {each} each{whole} "
            f"({counted(workers(), 'processor')}; a graphics card is faster), with {sized(self.expected_memory())} of "
            "memory."
        )

    def make(
        self,
        acquisition: Acquisition,
        path: Path,
        tags: RasterTags,
        *,
        verify: bool = False,
        advance: Advance | None = None,
    ) -> RasterTags:
        """Make the mask of an acquisition and write it; calls from several threads take turns.

        Use it in a thread of our own, see `sen2chain.rasters.environment`, which is not entered yet.

        Parameters
        ----------
        acquisition
            The acquisition; it has `BANDS`.
        path
            The file; its folder exists.
        tags
            What the file says of itself; name, source and `RasterTags.more` are filled in here.
        verify
            Whether the bands are compared with the checksums of their product.
        advance
            Called with the share that is done, 0 to 1. An error that it raises ends the work.

        Returns
        -------
        RasterTags
            The tags of the file.

        Raises
        ------
        RequestError
            If the acquisition lacks a band.
        RasterError
            If a band cannot be read.
        ModelError
            If the model cannot be run, or the memory is too small.
        OutputError
            If the file cannot be written.
        """
        with TURN:
            advance = advance or (lambda _: None)
            advance(0.0)
            grid, numbers = self._read(acquisition, verify=verify)
            advance(0.0)
            classes = self.library.classes(numbers, advance)
            more = {**self.facts, **_counts(classes, numbers)}
        tags = replace(tags, name=self.name, source=FROM_MODEL, more={**tags.more, **more})
        np.minimum(classes, 1, out=classes)
        with environment():
            write_cog(path, grid, classes, np.uint8, tags.items(), overviews="mode")
        return tags

    def _read(self, acquisition: Acquisition, *, verify: bool) -> tuple[Grid, Numbers]:
        """Return the grid, and (bands, rows, columns) of digital numbers."""
        layers = [DigitalNumbers(band) for band in BANDS]
        with environment(acquisition.reading), ExitStack() as stack:
            rasters = OpenRasters(stack, acquisition.details.verifier() if verify else None)
            opened = OpenAcquisition(stack, acquisition, layers, self.resolution, rasters=rasters)
            shape = opened.grid.shape
            need, have = self.expected_memory(shape), memory()
            if have is not None and need > have:
                advice = "use a resolution of 20 m (--resolution 20)" if self.resolution == 10 else "use a larger one"
                raise ModelError(
                    f"OmniCloudMask needs about {sized(need)} of memory for {shape[0]} x {shape[1]} pixels, and this "
                    f"machine has {sized(have)}; {advice}."
                )
            numbers = np.empty((len(BANDS), *shape), np.uint16)
            for window, arrays in opened.strips():
                for k, layer in enumerate(layers):
                    numbers[k, window.row : window.row + window.height] = arrays[layer]
        return opened.grid, numbers


def _counts(classes: Bytes, numbers: Numbers) -> dict[str, str]:
    """Return the number of pixels of each class, and of those without data, which are of none."""
    found = dict.fromkeys((*CLASSES, "no_data"), 0)
    step = max(1, _AT_ONCE // classes.shape[1])
    for top in range(0, len(classes), step):
        rows = classes[top : top + step]
        missing = ~numbers[:, top : top + step].any(axis=0)
        found["no_data"] += int(np.count_nonzero(missing))
        for number, name in enumerate(CLASSES):
            found[name] += int(np.count_nonzero((rows == number) & ~missing))
    return {name: str(count) for name, count in found.items()}
