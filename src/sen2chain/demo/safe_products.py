"""SAFE products of one tile: digital numbers and scene classes of land and sky, written with their metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sen2chain.demo import esa_files
from sen2chain.demo.land import SPECTRAL_BANDS, WATER_ID
from sen2chain.demo.noise import Field, upsample
from sen2chain.demo.scene import BANDS_10M, OFFSET_BASELINE
from sen2chain.demo.sky import BARE, NO_DATA, OPACITY, SHADOW, SHADOW_LIGHT, VEGETATION, WATER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from sen2chain.demo.scene import Frame, Overpass, Scene
    from sen2chain.demo.sky import Bytes
    from sen2chain.products import ProductId

T = TypeVar("T", bound=np.generic)

NOISE_AT = 1000
"""DN, without offset, to which a scene's noise refers: reflectance 0.1."""
STRIP = 256
"""Rows of 20 m pixels computed at a time: bounds the memory whatever the tile's size."""

CLOUD_REFLECTANCE = dict(zip(SPECTRAL_BANDS, (0.62, 0.60, 0.60, 0.61, 0.62, 0.62, 0.62, 0.63, 0.45, 0.38), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A tile's window on one overpass: the inputs from which its DNs are computed."""

    frame: Frame
    classes: NDArray[np.int32]
    """Class of each 10 m pixel."""
    light: Field
    """Factor of the relief's light at the lattice nodes."""
    tables: Mapping[str, NDArray[np.float64]]
    """Band -> reflectance of each class on this date."""
    scl: Bytes
    """Scene class of each 20 m pixel."""
    cldprb: Bytes
    """Cloud probability of each 20 m pixel, percent."""
    seed: tuple[int, ...]
    """Seed of the sensor noise."""
    noise: float
    """Standard deviation of the sensor noise of a 10 m pixel of `NOISE_AT`, DN."""

    def numbers(self, band: str, baseline: int) -> Iterator[NDArray[np.uint16]]:
        """Yield the DNs of a band in strips from north to south, uint16.

        The noise does not depend on the baseline: a reprocessed product shows the same reflectances.
        """
        resolution = 10 if band in BANDS_10M else 20
        offset = esa_files.OFFSET if baseline >= OFFSET_BASELINE else 0
        table = np.asarray(self.tables[band], dtype=np.float32)
        rng = np.random.default_rng((*self.seed, SPECTRAL_BANDS.index(band)))
        # Photons are counted: noise grows with the root of the light, and a 20 m pixel gathers that of four.
        noise = np.float32(self.noise / math.sqrt(NOISE_AT) / (1 if resolution == 10 else 2))
        height = self.frame.size // 2
        for start in range(0, height, STRIP):
            rows = range(start, min(start + STRIP, height))
            dn = self._reflectance(band, table, rows, resolution)
            dn *= np.float32(esa_files.QUANTIFICATION)
            dn += rng.standard_normal(dn.shape, dtype=np.float32) * (noise * np.sqrt(dn))
            # 0 is no data; the offset comes last, so that no baseline cuts off noise that another shows.
            numbers = np.clip(np.rint(dn), 1, esa_files.MOST_DN - offset).astype(np.uint16) + np.uint16(offset)
            numbers[_enlarge(self.scl[rows.start : rows.stop] == NO_DATA, resolution)] = 0
            yield numbers

    def _reflectance(self, band: str, table: Field, rows: range, resolution: int) -> Field:
        """Reflectance of land under light and sky for some rows of 20 m pixels, at the band's resolution."""
        land = table[self.classes[2 * rows.start : 2 * rows.stop]]
        if resolution == 20:
            quarters = land[::2, ::2] + land[::2, 1::2] + land[1::2, ::2] + land[1::2, 1::2]
            land = quarters * np.float32(0.25)
        fine = range(2 * rows.start, 2 * rows.stop) if resolution == 10 else rows
        land *= upsample(self.light, fine, land.shape[1], resolution)
        scl, opacity = self.scl[rows.start : rows.stop], OPACITY[self.cldprb[rows.start : rows.stop]]
        through = np.where(scl == SHADOW, SHADOW_LIGHT, 1 - opacity)
        land *= _enlarge(through, resolution)
        land += _enlarge(opacity * np.float32(CLOUD_REFLECTANCE[band]), resolution)
        return land


def surface_classes(classes: NDArray[np.int32], tables: Mapping[str, NDArray[np.float64]]) -> Bytes:
    """Scene class of the ground at 20 m: that of the land in the north-west quarter of each pixel."""
    red, nir = tables["B04"], tables["B08"]
    kinds = np.where((nir - red) / (nir + red) > 0.4, VEGETATION, BARE).astype(np.uint8)
    kinds[WATER_ID] = WATER
    return np.asarray(kinds[classes[::2, ::2]])


def write_product(folder: Path, product: ProductId, view: View, scene: Scene) -> Mapping[str, Path]:
    """Write one SAFE folder and return its rasters, band -> path.

    Parameters
    ----------
    folder
        The tile's folder in the archive.
    product, view, scene
        The product's name, its pixels, and the scene that lists its bands.
    """
    safe = folder / f"{product}.SAFE"
    stamp = f"{product.sensing:%Y%m%dT%H%M%S}"
    granule = safe / "GRANULE" / f"L2A_T{product.tile}_A000000_{stamp}"
    paths = {}
    for band in scene.bands:
        resolution = 10 if band in BANDS_10M else 20
        path = granule / "IMG_DATA" / f"R{resolution}m" / f"T{product.tile}_{stamp}_{band}_{resolution}m.jp2"
        if band == "CLDPRB":
            path = granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2"
        if band in {"SCL", "CLDPRB"}:
            classes = view.scl if band == "SCL" else view.cldprb
            options = esa_files.esa_jp2(view.frame, 20, bits=8)
            esa_files.write_raster(path, view.frame, 20, [classes], options, dtype="uint8")
        else:
            options = esa_files.esa_jp2(view.frame, resolution, bits=15)
            esa_files.write_raster(path, view.frame, resolution, view.numbers(band, product.baseline), options)
        paths[band] = path
    text = esa_files.metadata(product, shares(view.scl))
    safe.mkdir(parents=True, exist_ok=True)
    described = safe / "MTD_MSIL2A.xml"
    described.write_text(text, encoding="utf-8", newline="\n")
    text = esa_files.manifest(safe, [described, *paths.values()], product.baseline)
    (safe / "manifest.safe").write_text(text, encoding="utf-8", newline="\n")
    return paths


def shares(scl: Bytes) -> dict[int, float]:
    """Share of each scene class, 0 to 1: of all pixels for class 0, of the pixels with data for the others."""
    counts = np.bincount(scl.ravel(), minlength=12)
    seen = max(int(counts[1:].sum()), 1)
    return {0: counts[0] / scl.size} | {code: counts[code] / seen for code in range(1, 12)}


def is_cut(overpass: Overpass, position: int) -> bool:
    """Tell whether the product of the tile at `position` ends at the swath's edge."""
    return overpass.edge is not None and (not overpass.cut or position in overpass.cut)


def _enlarge(values: NDArray[T], resolution: int) -> NDArray[T]:
    """Repeat 20 m values on the pixels of a band of 10 or 20 m."""
    return values.repeat(2, axis=0).repeat(2, axis=1) if resolution == 10 else values
