"""Smooth random fields on the ground, and their values on the pixels of a tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

if TYPE_CHECKING:
    from sen2chain.demo.scene import Frame

Floats = NDArray[np.float64]
Field = NDArray[np.float32]

NODE_SPACING = 160.0
"""Metres between the nodes at which fields are evaluated: fields are smooth over several times that."""

_PERIOD = 64


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """A smooth random function of the ground, without bounds, of about zero mean and unit variance."""

    octaves: tuple[tuple[float, float, Floats], ...]
    """(metres between random values, amplitude, periodic grid of random values) from coarse to fine."""

    @classmethod
    def draw(cls, seed: tuple[int, ...], coarse: float, octaves: int) -> Self:
        """Draw a field whose largest features are about twice `coarse` metres wide, each octave half of that."""
        rng = np.random.default_rng(seed)
        amplitudes = 0.6 ** np.arange(octaves)
        # A cubic spline through white noise of unit variance keeps about half of the variance in each direction.
        amplitudes /= math.sqrt(float((amplitudes**2).sum()) * 0.5)
        grids = (rng.standard_normal((_PERIOD, _PERIOD)) for _ in range(octaves))
        return cls(tuple((coarse / 2**k, float(a), g) for k, (a, g) in enumerate(zip(amplitudes, grids, strict=True))))

    def at(self, x: Floats, y: Floats) -> Field:
        """Values of the field at ground positions in metres of the land's CRS; float32, of the shape of `x`."""
        total = np.zeros(x.shape)
        for spacing, amplitude, grid in self.octaves:
            total += amplitude * ndimage.map_coordinates(grid, [y / spacing, x / spacing], order=3, mode="grid-wrap")
        return total.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Nodes over a tile's window, with their positions on the ground.

    Positions and fields are exact at the nodes and bilinear between them, which is accurate to
    centimetres and saves 120 million reprojections on a full tile.
    """

    x: Floats
    """Easting of the nodes in the land's CRS, metres, (rows, columns)."""
    y: Floats
    """Northing of the nodes in the land's CRS, metres."""

    @classmethod
    def over(cls, frame: Frame, land_epsg: int) -> Self:
        """Lay nodes over `frame`, with one more row and column than are needed to surround every pixel."""
        steps = np.arange(math.ceil(frame.size * 10 / NODE_SPACING) + 2) * NODE_SPACING
        x, y = np.meshgrid(frame.left + steps, frame.top - steps)
        if frame.epsg != land_epsg:
            x, y = Transformer.from_crs(frame.epsg, land_epsg, always_xy=True).transform(x, y)
        return cls(x, y)


def upsample(nodes: Field, rows: range, width: int, resolution: int) -> Field:
    """Interpolate values at lattice nodes to pixel centres, bilinearly.

    Parameters
    ----------
    nodes
        Values at the nodes of a `Lattice`.
    rows
        Consecutive pixel rows of the window wanted.
    width
        Pixels in a row.
    resolution
        Size of a pixel in metres, 10 or 20.

    Returns
    -------
    Array of float32, (len(rows), width).
    """
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) * (resolution / NODE_SPACING)
    right = (np.arange(width, dtype=np.float32) + 0.5) * (resolution / NODE_SPACING)
    i, j = down.astype(np.intp), right.astype(np.intp)
    f, g = (down - i)[:, None].astype(np.float32), (right - j).astype(np.float32)
    lines = nodes[i] * (1 - f) + nodes[i + 1] * f
    return np.asarray(lines[:, j] * (1 - g) + lines[:, j + 1] * g, dtype=np.float32)
