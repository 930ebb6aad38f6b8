"""Archive of a scene: draw the land and the skies, and write products, stored rasters and the layer."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyogrio

from sen2chain.demo import esa_files, safe_products, stored_rasters
from sen2chain.demo.fields import parcels
from sen2chain.demo.land import FIRST_PARCEL, Land, Truth
from sen2chain.demo.noise import Lattice
from sen2chain.demo.scene import DEFAULT, Frame, Scene
from sen2chain.demo.sky import Sky
from sen2chain.errors import RequestError, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    import geopandas as gpd

    from sen2chain.products import ProductId


_CLOCK = "OGR_CURRENT_DATE"


@dataclass(frozen=True, slots=True, eq=False)
class DemoArchive:
    """Locations of the files that `build` wrote, and the true values of the parcels."""

    library: Path
    """The archive's home, with ``data/L2A``; pass it as ``library=``. Its parent serves as `SEN2CHAIN_HOMEPATH`."""
    layer: Path
    """The parcels, a GeoPackage."""
    parcels: gpd.GeoDataFrame
    """The parcels as written; position = fid."""
    truth: Truth
    """Reflectance of the parcels, without noise, clouds and shadows."""
    products: tuple[ProductId, ...]
    """All products, sorted by tile, then date."""
    damaged: tuple[Path, ...]
    """The truncated files."""


def build(
    folder: str | Path, scene: Scene = DEFAULT, progress: Callable[[int, int], None] | None = None
) -> DemoArchive:
    """Write an archive and its layer of parcels into a folder.

    The default takes a few seconds; a full tile with all bands two minutes per date on two cores, most of it
    JPEG 2000 encoding, and 1.6 GB. Files of the same names are overwritten. The content of the files does not
    depend on the clock or on the folder.

    Parameters
    ----------
    folder
        Target folder, created if absent; receives ``sen2chain_data/`` and ``parcels.gpkg``.
    scene
        Parameters of the archive.
    progress
        Called with (products written, products in all) before the first and after each.

    Raises
    ------
    RequestError
        If the scene's tiles do not overlap or are not MGRS tiles, or if `folder` is not a path.
    UnknownNameError
        If the scene names a mask that the generator cannot compute.
    """
    try:
        folder = Path(os.fsdecode(folder))
    except TypeError:
        raise RequestError(f"folder is {quoted(folder)}; pass the path of a folder.") from None
    if not isinstance(scene, Scene):
        raise RequestError(f"scene is {quoted(scene)}; pass a sen2chain.demo.Scene.")
    stored_rasters.check_masks(scene.masks)
    frames = scene.frames()
    lattices = [Lattice.over(frame, frames[0].epsg) for frame in frames]
    layer = parcels(scene.parcels, _inset(frames), f"EPSG:{frames[0].epsg}", scene.seed).to_crs(scene.layer_crs)
    land = Land(layer, scene.seed, lattices[0], frames[0].epsg)
    tables = land.reflectance([overpass.sensing for overpass in scene.overpasses])
    library = folder / "sen2chain_data"
    written: list[ProductId] = []
    damaged: list[Path] = []
    total = sum(len(scene.products(tile)) for tile in scene.tiles)
    if progress:
        progress(0, total)
    for position, (frame, lattice) in enumerate(zip(frames, lattices, strict=True)):
        classes = land.classes(frame, lattice)
        light = land.light(lattice)
        for k, product in scene.products(frame.tile):
            overpass = scene.overpasses[k]
            today = {band: table[k] for band, table in tables.items()}
            sky = Sky.draw(overpass, scene.seed, lattices[0])
            surface = safe_products.surface_classes(classes, today)
            scl, cldprb = sky.over(frame, lattice, surface, cut=safe_products.is_cut(overpass, position))
            seed = (scene.seed, overpass.sensing.toordinal(), 31 + position)
            view = safe_products.View(frame, classes, light, today, scl, cldprb, seed, scene.noise)
            # In a thread of its own, since rasterio sets GDAL's options for the whole process in the main one.
            with ThreadPoolExecutor(1) as pool:
                damaged += pool.submit(_write, library / "data", product, view, scene, k).result()
            written.append(product)
            if progress:
                progress(len(written), total)
    path = folder / "parcels.gpkg"
    _write_layer(path, layer)
    truth = Truth(
        dates=tuple(overpass.sensing for overpass in scene.overpasses),
        crops=tuple(layer["crop"]),
        reflectance={band: table[:, FIRST_PARCEL:] for band, table in tables.items()},
    )
    return DemoArchive(library, path, layer, truth, tuple(written), tuple(damaged))


def _write(data: Path, product: ProductId, view: safe_products.View, scene: Scene, overpass: int) -> list[Path]:
    """Write a product with its stored masks and indices; return its truncated files (such a product gets no index)."""
    paths = safe_products.write_product(data / "L2A" / product.tile, product, view, scene)
    stored_rasters.write_masks(data / "CLOUDMASKS", product, view.frame, (view.scl, view.cldprb), scene)
    broken = [paths[band] for k, tile, band in scene.damaged if (k, tile) == (overpass, product.tile)]
    if not broken:
        stored_rasters.write_indices(data / "INDICES", product, view.frame, paths, scene)
    for path in broken:
        esa_files.truncate(path)
    return broken


def _inset(frames: tuple[Frame, ...]) -> tuple[float, float, float, float]:
    """Area covered by all windows: the first window, less a margin where the others are turned (other UTM zones)."""
    west, south, east, north = frames[0].bounds
    turned = any(frame.epsg != frames[0].epsg for frame in frames)
    # Between neighbouring zones north differs by up to 6 degrees times the sine of the latitude.
    margin = math.tan(math.radians(4.3)) / 2 * (east - west) + 40 if turned else 0.0
    margin = min(margin, (east - west) / 4)
    return west + margin, south + margin, east - margin, north - margin


def _write_layer(path: Path, layer: gpd.GeoDataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A GeoPackage notes when it was changed; fixed, so that the same scene gives the same file.
    before = pyogrio.get_gdal_config_option(_CLOCK)
    pyogrio.set_gdal_config_options({_CLOCK: "2022-08-01T00:00:00.000Z"})
    try:
        layer.to_file(path, layer=path.stem, driver="GPKG", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({_CLOCK: before})
