"""Generator of synthetic Sentinel-2 archives with known true values, for the demo, the tests and the benchmark.

An archive is drawn from one seed, in three steps: the land (fields with a crop each, forest, water, stone), the sky of
each overpass, and the products of each tile. A point on the ground has the same reflectance in every tile that covers
it, and the true value of every pixel is known.

This package shares no code with the modules that extract, so that tests can compare the two.

>>> archive = build(Path("somewhere"))  # doctest: +SKIP
>>> archive.library, archive.layer  # doctest: +SKIP
>>> archive.truth.index("NDVI")  # one row per overpass, one column per parcel  # doctest: +SKIP
"""

from __future__ import annotations

from sen2chain.demo.build import DemoArchive, build
from sen2chain.demo.fields import parcels
from sen2chain.demo.index_formulas import FORMULAS
from sen2chain.demo.land import Truth
from sen2chain.demo.scene import ALL_BANDS, DEFAULT, Frame, Overpass, Scene, season

__all__ = [
    "ALL_BANDS",
    "DEFAULT",
    "FORMULAS",
    "DemoArchive",
    "Frame",
    "Overpass",
    "Scene",
    "Truth",
    "build",
    "parcels",
    "season",
]
