"""Input files of the benchmark: a full tile drawn by the demo generator, in several formats, and layers of parcels.

Two dates are drawn. Further dates are links to them under other names: read like other files, without
taking space. Dates with other clouds have scene classes of their own beside the same bands.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.windows import Window

from sen2chain import demo
from sen2chain.demo import esa_files, noise
from sen2chain.demo.scene import full_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.products import ProductId

TILE = "31TGJ"
FULL = 10980
"""Edge of a whole tile in pixels."""
INDEX = "NDVI"
MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
NODATA, LEGACY_NODATA = 32767, 16383
SIZES = {"S": 50, "M": 1_000, "L": 20_000, "XL": 100_000}
"""Layers by name: number of polygons, spread over a whole tile; a smaller one has as many on its area, but 20."""
DISTRICT = 200
"""Polygons of the layer ``district``: neighbours, as dense as those of XL."""
CLOUDED = 0.6
"""Share of the features of a layer that `with_clouds` covers entirely."""
_METADATA = "MTD_MSIL2A.xml"
FORMATS = ("cog", "jp2", "safe", "zip")
"""Index as cloud-optimised GeoTIFF (ZSTD), index as lossy JPEG 2000 of old archives, bands of SAFE products, these in
zip files."""
_SKIES = ((0.1, 0.05), (0.3, 0.05))  # cloud and cirrus of the dates that are drawn


@dataclass(frozen=True)
class Product:
    """The files of one date."""

    name: str
    rasters: tuple[Path, ...]
    """Rasters that the index values come from: the index, or its bands."""
    mask: Path
    """The stored cloud mask (cog and jp2), or SCL, from which it is computed (safe)."""
    cldprb: Path
    masked: Path
    """The masked index, which peers need; written only for cog."""


@dataclass(frozen=True)
class Archive:
    """The archive in one format."""

    library: Path
    products: tuple[Product, ...]


def scene(size: int) -> demo.Scene:
    """Scene of the dates that are drawn."""
    first = dt.datetime(2022, 5, 1, 10, 30, 21)  # noqa: DTZ001  # dates of the archive are UTC
    passes = tuple(
        demo.Overpass(first + dt.timedelta(days=10 * k), cloud=cloud, cirrus=cirrus)
        for k, (cloud, cirrus) in enumerate(_SKIES)
    )
    return demo.Scene(
        tiles=(TILE,),
        size=size,
        overpasses=passes,
        bands=("B03", "B04", "B05", "B08", "B11", "B12", "SCL", "CLDPRB"),
        parcels=SIZES["XL"] * size**2 // 10980**2,
        indices=(INDEX, "BIGR"),
        masks=(MASK,),
        mask_format="tif",
    )


def build(folder: Path, size: int) -> None:
    """Draw the archive, unless it exists."""
    done = folder / f"built-{size}"
    if done.exists():
        return
    drawn = demo.build(folder / "drawn", scene(size), progress=lambda n, of: print(f"  {n} of {of} dates", flush=True))
    for product in drawn.products:
        cog = _index(folder, product, "tif")
        mask = folder / "drawn/sen2chain_data/data/CLOUDMASKS" / TILE / str(product) / f"{product}_{MASK}.tif"
        legacy = {"dtype": "int16", "nodata": LEGACY_NODATA}
        _write(folder / "jp2" / f"{product}_{INDEX}.jp2", _clamped(cog), size, esa_files.legacy(), legacy)
        masked = {"dtype": "int16", "nodata": NODATA}
        options = esa_files.cog()
        _write(folder / "masked" / f"{product}_{INDEX}.tif", _masked(cog, mask), size, options, masked)
    done.touch()


def _index(folder: Path, product: ProductId, suffix: str, index: str = INDEX) -> Path:
    where = folder / "drawn/sen2chain_data/data/INDICES" / index / TILE / str(product)
    return where / f"{product}_{index}.{suffix}"


def _strips(path: Path) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    with rasterio.open(path) as file:
        for row in range(0, file.height, 1024):
            yield row, file.read(1, window=Window(0, row, file.width, min(1024, file.height - row)))


def _clamped(cog: Path) -> Iterator[npt.NDArray[np.generic]]:
    """Index values as old archives hold them, in 15 bits."""
    for _, values in _strips(cog):
        yield np.clip(values, -LEGACY_NODATA - 1, LEGACY_NODATA)


def _masked(cog: Path, mask: Path) -> Iterator[npt.NDArray[np.generic]]:
    with rasterio.open(mask) as file:
        clouds = file.read(1)
    for row, values in _strips(cog):
        part = clouds[row // 2 : (row + len(values)) // 2].repeat(2, axis=0).repeat(2, axis=1)
        yield np.where(part > 0, np.int16(NODATA), values)


def _write(
    path: Path,
    strips: Iterator[npt.NDArray[np.generic]],
    size: int,
    options: esa_files.Options,
    kind: esa_files.Options,
) -> None:
    whole = full_tile(TILE)
    frame = replace(whole, size=size)
    if size != whole.size:
        frame = demo.Scene(tiles=(TILE,), size=size).frames()[0]
    esa_files.write_raster(path, frame, 10, strips, options, **kind)


def polygons(name: str, size: int) -> int:
    """Return the number of polygons of a layer on a tile."""
    if name == "district":
        return max(20, round(SIZES["XL"] * (_district(size) / full_tile(TILE).size) ** 2))
    return max(20, SIZES[name] * size**2 // full_tile(TILE).size ** 2)


def _district(size: int) -> int:
    """Return the edge of the district in pixels: 4.9 km, or half of a small tile."""
    return min(round(full_tile(TILE).size * math.sqrt(DISTRICT / SIZES["XL"])), size // 2)


def layer(folder: Path, name: str, size: int) -> Path:
    """Write a layer of parcels in geographic and in the tile's coordinates, unless it exists; return the former.

    Parameters
    ----------
    folder
        The benchmark's folder.
    name
        One of `SIZES`, spread over the tile, or ``district``: neighbours on a few square kilometres.
    size
        Edge of the tile in pixels.
    """
    path = folder / "layers" / f"{name}-{size}.gpkg"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        frame = scene(size).frames()[0]
        bounds = frame.bounds
        if name == "district":
            edge, left, top = _district(size) * 10, frame.left + size * 3.7, frame.top - size * 3.0
            bounds = (left, top - edge, left + edge, top)
        parcels = demo.parcels(polygons(name, size), bounds, f"EPSG:{frame.epsg}", seed=3)
        in_utm(path).parent.mkdir(exist_ok=True)
        parcels.to_parquet(in_utm(path))
        parcels.to_crs("EPSG:4326").to_file(path)
    return path


def in_utm(path: Path) -> Path:
    """Path of a layer in the tile's coordinates, which peers need."""
    return path.parent / "utm" / f"{path.stem}.parquet"


def read_in_utm(path: Path) -> gpd.GeoDataFrame:
    """Read a layer in the tile's coordinates, its position as the column ``fid``."""
    frame = gpd.read_parquet(in_utm(path))
    return frame.assign(fid=np.arange(len(frame)))


def archive(folder: Path, kind: str, dates: int, *, more_indices: bool = False) -> Archive:
    """Archive in one format with a number of dates, made of links to the files that were drawn.

    With `more_indices` it has a second index.
    """
    home = folder / f"{kind}-{dates}{'-more' if more_indices else ''}"
    drawn = folder / "drawn/sen2chain_data/data"
    sources = sorted((drawn / "L2A" / TILE).glob("*.SAFE"))
    products = []
    for k in range(dates):
        source = sources[k % len(sources)]
        old = source.name.removesuffix(".SAFE")
        day = dt.date(2022, 5, 1) + dt.timedelta(days=10 * k)
        new = old.replace(old[11:19], f"{day:%Y%m%d}")
        granule = next((source / "GRANULE").iterdir())
        cldprb = granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2"
        if kind in {"safe", "zip"}:
            found = _safe(source)
            if kind == "zip":
                inside = _zip(source, [*found[0], *found[1:]], home / "data/L2A" / TILE / f"{new}.zip")
                found = tuple(inside[:-2]), inside[-2], inside[-1]
            else:
                safe = home / "data/L2A" / TILE / f"{new}.SAFE"
                _write_metadata(source, safe)
                _link(source / "GRANULE", safe / "GRANULE")
        else:
            suffix = "tif" if kind == "cog" else "jp2"
            values = home / "data/INDICES" / INDEX / TILE / new / f"{new}_{INDEX}.{suffix}"
            _link(drawn / "INDICES" / INDEX / TILE / old / f"{old}_{INDEX}.tif" if kind == "cog"
                  else folder / "jp2" / f"{old}_{INDEX}.jp2", values)  # fmt: skip
            if more_indices:
                second = home / "data/INDICES/BIGR" / TILE / new / f"{new}_BIGR.tif"
                _link(drawn / "INDICES/BIGR" / TILE / old / f"{old}_BIGR.tif", second)
            masks = home / "data/CLOUDMASKS" / TILE / new
            _link(drawn / "CLOUDMASKS" / TILE / old / f"{old}_{MASK}.tif", masks / f"{new}_{MASK}.tif")
            _link(cldprb, masks / cldprb.name)
            if more_indices:
                scl = next((granule / "IMG_DATA/R20m").glob("*_SCL_20m.jp2"))
                _link(scl, masks / f"T{TILE}_{new[11:26]}_SCL_20m.jp2")
            found = ((values,), masks / f"{new}_{MASK}.tif", masks / cldprb.name)
        products.append(Product(new, *found, folder / "masked" / f"{old}_{INDEX}.tif"))
    return Archive(home, tuple(products))


def _safe(source: Path, bands: tuple[str, ...] = ("B04", "B08")) -> tuple[tuple[Path, ...], Path, Path]:
    """Return the rasters of some bands, SCL and CLDPRB of a SAFE product."""
    (granule,) = (source / "GRANULE").iterdir()
    images = [next((granule / "IMG_DATA").glob(f"R?0m/*_{band}_?0m.jp2")) for band in (*bands, "SCL")]
    return tuple(images[:-1]), images[-1], granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2"


def _zip(source: Path, rasters: list[Path], path: Path) -> list[Path]:
    """Write the metadata and some rasters of a product to a zip file, not compressed, since they already are.

    Returns
    -------
    Paths of the rasters, with the zip file as if it were a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = f"{path.stem}.SAFE"
    if not path.exists():
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{inside}/{_METADATA}", _metadata(source, path.stem))
            for part in (source / "manifest.safe", *rasters):
                file.write(part, f"{inside}/{part.relative_to(source)}")
    return [path / inside / raster.relative_to(source) for raster in rasters]


def rasters_of(product: Product, bands: tuple[str, ...]) -> list[Path]:
    """Return the rasters of some bands of a SAFE product, and its SCL and CLDPRB."""
    found, scl, cldprb = _safe(product.cldprb.parents[3], bands)
    return [*found, scl, cldprb]


# --------------------------------------------------------------------------------------------------------------- clouds


def clear(scl: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scene classes without clouds and shadows."""
    return np.where(np.isin(scl, (3, 8, 9, 10)), np.uint8(4), scl)


def overcast(scl: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scene classes of a tile that is cloud throughout."""
    return np.full_like(scl, 9)


def clouds_over(layer: Path, size: int) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]:
    """Return a function that lays wide clouds over clear scene classes, which cover a share of a layer's features.

    Parameters
    ----------
    layer
        A layer of `layer`.
    size
        Edge of the tile in pixels.
    """
    frame = scene(size).frames()[0]
    lattice = noise.Lattice.over(frame, frame.epsg)
    nodes = noise.Noise.draw((5,), size * 10 / 8, 2).at(lattice.x, lattice.y)
    field = noise.upsample(nodes, range(size // 2), size // 2, 20)
    west, south, east, north = read_in_utm(layer).bounds.to_numpy().T
    rows = np.clip(np.stack([frame.top - north, frame.top - south + 20]) // 20, 0, size // 2).astype(int)
    columns = np.clip(np.stack([west - frame.left, east - frame.left + 20]) // 20, 0, size // 2).astype(int)
    boxes = zip(*rows, *columns, strict=True)
    least = [field[r0 : max(r1, r0 + 1), c0 : max(c1, c0 + 1)].min() for r0, r1, c0, c1 in boxes]
    cloud = field >= np.quantile(least, 1 - CLOUDED)
    return lambda scl: np.where(cloud, np.uint8(9), clear(scl))


def with_clouds(
    folder: Path, name: str, dates: int, sky: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
) -> Archive:
    """Archive of SAFE products with other clouds: links to the bands that were drawn, and scene classes of its own.

    Parameters
    ----------
    folder
        The benchmark's folder.
    name
        Name of the clouds, of which the files are called.
    dates
        Number of dates.
    sky
        Scene classes as drawn -> scene classes.
    """
    as_drawn = archive(folder, "safe", dates)
    home = folder / f"safe-{name}-{dates}"
    products = []
    for product in as_drawn.products:
        source = product.mask.parents[4]
        safe = home / "data/L2A" / TILE / f"{product.name}.SAFE"
        _write_metadata(source, safe)
        for path in source.rglob("*.jp2"):
            if path != product.mask:
                _link(path, safe / path.relative_to(source))
        scl = folder / f"scl-{name}" / f"{source.name}.jp2"
        if not scl.exists():
            with rasterio.open(product.mask) as file:
                classes = sky(file.read(1))
            frame = scene(2 * classes.shape[0]).frames()[0]
            esa_files.write_raster(scl, frame, 20, [classes], esa_files.esa_jp2(frame, 20, bits=8), dtype="uint8")
        own = safe / product.mask.relative_to(source)
        _link(scl, own)
        products.append(replace(product, mask=own))
    return Archive(home, tuple(products))


def _metadata(source: Path, name: str) -> str:
    """Return the metadata of a drawn product under another name."""
    text = (source / _METADATA).read_text(encoding="utf-8")
    return text.replace(source.name.removesuffix(".SAFE"), name)


def _write_metadata(source: Path, safe: Path) -> None:
    """Write the metadata of a product that has rasters of a drawn one, but a name of its own."""
    safe.mkdir(parents=True, exist_ok=True)
    metadata = safe / _METADATA
    if not metadata.exists():  # another process may be reading it
        metadata.write_text(_metadata(source, safe.stem), encoding="utf-8")
    _link(source / "manifest.safe", safe / "manifest.safe")


def _link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.symlink(source.absolute(), path)  # noqa: PTH211  # reads as what it does
