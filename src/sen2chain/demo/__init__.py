"""The generator of truthful archives, for the demo, the tests and the benchmark.

An archive is drawn from one seed: first the land (fields with a crop each, forest, water, stone), then the
sky of every overpass, then what each tile's products show of them. So the same point on the ground has the
same reflectance in every tile that sees it, and the truth behind every pixel is known.

This package shares no code with those that extract: what it writes can prove them wrong.

>>> archive = build(Path("somewhere"))  # doctest: +SKIP
>>> archive.library, archive.layer  # doctest: +SKIP
>>> archive.truth.index("NDVI")  # one row per overpass, one column per parcel  # doctest: +SKIP
"""

from __future__ import annotations

from sen2chain.demo.build import DemoArchive, build
from sen2chain.demo.fields import parcels
from sen2chain.demo.formulas import FORMULAS
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
