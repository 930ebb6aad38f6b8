"""Copies of an archive as providers have them: their files, and their STAC items.

`ProviderFiles` writes the rasters of products as cloud-optimized GeoTIFFs or as JPEG 2000, with the offset of newer
baselines in the digital numbers or subtracted; `items` describes them as Earth Search, Planetary Computer or CDSE do::

    files = ProviderFiles(tmp_path)
    copies = files.copies(Form("cog", subtracted=True))
    found = items(copies, "earth-search", lambda path: str(path), says_subtracted=False)

This module knows the layouts from the documentation of the providers, not from the package under test.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
import shapely
from filelock import FileLock
from pyproj import Transformer

from sen2chain import demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sen2chain.products import ProductId

Layout = Literal["earth-search", "planetary-computer", "cdse"]
LAYOUTS: tuple[Layout, ...] = ("earth-search", "planetary-computer", "cdse")

OFFSET = 1000
QUALITY = ("SCL", "CLDPRB")
BLOCK = 128
"""Edge of a block of the GeoTIFFs and of a tile of the JPEG 2000 files, in pixels."""

TILES = ("31TGJ", "32TLP")
"""Two neighbours in two UTM zones."""


def overpass(day: str, baseline: int, **sky: Any) -> demo.Overpass:
    return demo.Overpass(dt.datetime.fromisoformat(f"{day}T10:30:21"), baseline=baseline, **sky)


SCENE = demo.Scene(
    tiles=TILES,
    size=360,
    parcels=14,
    bands=("B04", "B08", "B11", "SCL", "CLDPRB"),
    overpasses=(
        overpass("2021-11-20", 214),
        overpass("2021-12-30", 301, cloud=0.3, cirrus=0.1),
        overpass("2022-04-24", 400, cloud=0.1, cirrus=0.2),
        overpass("2022-05-19", 509, cloud=0.5, edge=0.6),
    ),
)
"""Four baselines, two of them with an offset; clear and cloudy skies, and the edge of a swath. Each valid digital
number of a baseline with an offset is above 1000."""

INDICES = ("NDVI", "NDWIGAO")
"""Indices of two bands of 10 m, and of one of 10 and one of 20 m."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a provider's files."""

    format: Literal["cog", "jp2", "jp2-tlm"]
    """Cloud-optimized GeoTIFFs, or JPEG 2000 without and with a list of the tile-parts' lengths in its header (TLM)."""
    subtracted: bool = False
    """Whether the offset has been subtracted where the baseline has one; what would be negative is 0 then."""

    @property
    def suffix(self) -> str:
        """Ending of its files' names."""
        return ".tif" if self.format == "cog" else ".jp2"

    def __str__(self) -> str:
        return f"{self.format}-{'subtracted' if self.subtracted else 'included'}"


@dataclass(frozen=True, slots=True)
class Copy:
    """The files of one product."""

    product: ProductId
    files: Mapping[str, Path]
    """Band -> file."""


def product_files(library: Path, product: ProductId) -> dict[str, Path]:
    """Return the rasters of a product of a demo archive, by band."""
    safe = library / "data" / "L2A" / product.tile / f"{product}.SAFE"
    files = {path.stem.split("_")[-2]: path for path in safe.rglob("IMG_DATA/*/*.jp2")}
    return files | {"CLDPRB": next(safe.rglob("MSK_CLDPRB_20m.jp2"))}


def has_offset(product: ProductId) -> bool:
    return product.baseline >= 400


class ProviderFiles:
    """An archive of `SCENE`, and copies of its products, each written when it is asked for first.

    Parameters
    ----------
    folder
        Where they are; several processes may share it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def library(self) -> Path:
        """The archive, with `layer` beside it."""
        with self._made_once("archive") as new:
            if new:
                demo.build(self.folder / "archive", SCENE)
        return self.folder / "archive" / "sen2chain_data"

    @property
    def layer(self) -> Path:
        """The parcels."""
        return self.library.parent / "parcels.gpkg"

    @property
    def products(self) -> list[ProductId]:
        """The products, sorted by tile, then date."""
        return [product for tile in SCENE.tiles for _, product in SCENE.products(tile)]

    def copies(self, form: Form, *, without: Sequence[str] = ("CLDPRB",)) -> list[Copy]:
        """Return copies of all products, in ``<folder>/<form>/<product>/<band>``.

        Parameters
        ----------
        form
            The form of the files.
        without
            Rasters that the provider does not have.
        """
        library = self.library
        with self._made_once(str(form)) as new:
            if new:
                copy_files(library, self.products, self.folder / str(form), form)
        return [copy_in(self.folder / str(form), product, without) for product in self.products]

    @contextlib.contextmanager
    def _made_once(self, name: str) -> Iterator[bool]:
        """Lock a part of the folder; the value tells whether it has to be made."""
        done = self.folder / f"{name}.done"
        with FileLock(self.folder / f"{name}.lock"):
            new = not done.exists()
            yield new
            done.touch()


def copy_in(folder: Path, product: ProductId, without: Sequence[str] = ()) -> Copy:
    """Return the files of a product in a folder that `copy_files` wrote."""
    files = {path.stem: path for path in sorted((folder / str(product)).glob("B*.*")) if path.suffix in _TYPES}
    files |= {path.stem: path for path in (folder / str(product)).glob("[SC]*.*") if path.suffix in _TYPES}
    return Copy(product, {band: path for band, path in files.items() if band not in without})


def copy_files(library: Path, products: Iterable[ProductId], folder: Path, form: Form) -> None:
    """Write all rasters of an archive's products in another form.

    Parameters
    ----------
    library
        The archive.
    products
        Products of it.
    folder
        Receives ``<product>/<band>.tif`` or ``.jp2``.
    form
        The form of the copies.
    """
    # In a thread of its own, since rasterio sets GDAL's options for the whole process in the main one.
    with ThreadPoolExecutor(1) as pool:
        for _ in pool.map(lambda product: _copy(library, product, folder, form), products):
            pass


def _copy(library: Path, product: ProductId, folder: Path, form: Form) -> None:
    for band, source in product_files(library, product).items():
        with rasterio.open(source) as raster:
            pixels, profile = raster.read(1), raster.profile
        if band not in QUALITY and form.subtracted and has_offset(product):
            pixels = np.maximum(pixels, OFFSET) - np.uint16(OFFSET)
        write_copy(folder / str(product) / f"{band}{form.suffix}", pixels, profile, form.format)


def write_copy(path: Path, pixels: np.ndarray[Any, Any], profile: Mapping[str, Any], form: str) -> None:
    """Write one raster in blocks of `BLOCK` pixels, lossless."""
    place = {name: profile[name] for name in ("width", "height", "count", "dtype", "crs", "transform")}
    if form == "cog":
        options = {
            "driver": "COG",
            "compress": "DEFLATE",
            "predictor": "YES",
            "blocksize": BLOCK,
            "overview_resampling": "nearest",
            "nodata": 0,
        }
    else:
        options = {
            "driver": "JP2OpenJPEG",
            "quality": "100",
            "reversible": "YES",
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "resolutions": 3,
            "tlm": "YES" if form == "jp2-tlm" else "NO",
        }
        if pixels.dtype == np.uint16:
            options["nbits"] = 15
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **place, **options) as raster:
        raster.write(pixels, 1)


COMMON_NAMES = {
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B11": "swir16",
    "B12": "swir22",
    "SCL": "scl",
    "CLDPRB": "cloud",
}


def items(
    copies: Iterable[Copy],
    layout: Layout,
    href: Callable[[Path], str],
    *,
    says_subtracted: bool,
    updated: str = "2024-05-01T12:00:00Z",
) -> list[dict[str, Any]]:
    """Describe products in the layout of a provider.

    Parameters
    ----------
    copies
        The files of the products.
    layout
        The provider whose keys and properties the items have.
    href
        Location of a file.
    says_subtracted
        What the items say of the offset of products whose baseline has one; it need not be true.
    updated
        The time of the items' last change.
    """
    return [_LAYOUTS[layout](copy, href, says_subtracted=says_subtracted, updated=updated) for copy in copies]


def _item(name: str, copy: Copy, properties: Mapping[str, Any], assets: Mapping[str, Any]) -> dict[str, Any]:
    with rasterio.open(copy.files["SCL"]) as raster:
        bounds, epsg, classes = raster.bounds, raster.crs.to_epsg(), raster.read(1)
    cover = float(100 * np.isin(classes, (8, 9, 10)).sum() / max((classes > 0).sum(), 1))
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    outline = shapely.transform(shapely.box(*bounds), to_degrees.transform, interleaved=False)
    day = copy.product.sensing
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {
            "datetime": f"{day + dt.timedelta(seconds=9):%Y-%m-%dT%H:%M:%S}.461000Z",
            "platform": f"sentinel-{copy.product.platform[1:].lower()}",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "eo:cloud_cover": round(cover, 6),
            "proj:code": f"EPSG:{epsg}",
            **properties,
        },
        "links": [],
        "assets": dict(assets),
    }


def _baseline(product: ProductId) -> str:
    return f"{product.baseline // 100:02d}.{product.baseline % 100:02d}"


def _earth_search(copy: Copy, href: Callable[[Path], str], *, says_subtracted: bool, updated: str) -> dict[str, Any]:
    product = copy.product
    assets = {}
    for band, path in copy.files.items():
        name = COMMON_NAMES[band]
        kind = "tif" if path.suffix == ".tif" else "jp2"
        asset: dict[str, Any] = {"href": href(path), "type": _TYPES[path.suffix], "title": f"{name} - {kind}"}
        if band not in QUALITY:
            asset["eo:bands"] = [{"name": name, "common_name": name}]
            # The real items list this offset whether it has been subtracted or not.
            offset = -0.1 if has_offset(product) else 0
            asset["raster:bands"] = [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": offset}]
        assets[name] = asset
    assets["thumbnail"] = {"href": "https://127.0.0.1:1/preview.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    properties = {
        "grid:code": f"MGRS-{product.tile}",
        "s2:processing_baseline": _baseline(product),
        "s2:product_uri": f"{product}.SAFE",
        "s2:sequence": "0",
        "earthsearch:boa_offset_applied": says_subtracted and has_offset(product),
        "updated": updated,
    }
    name = f"{product.platform}_{product.tile}_{product.sensing:%Y%m%d}_0_L2A"
    return _item(name, copy, properties, assets)


def _planetary_computer(
    copy: Copy, href: Callable[[Path], str], *, says_subtracted: bool, updated: str
) -> dict[str, Any]:
    product = copy.product
    assets = {}
    for band, path in copy.files.items():
        asset: dict[str, Any] = {"href": href(path), "type": _TYPES[path.suffix], "roles": ["data"]}
        if band not in QUALITY:
            asset["eo:bands"] = [{"name": band, "common_name": COMMON_NAMES[band]}]
            if says_subtracted and has_offset(product):  # the real items say nothing
                asset["raster:bands"] = [{"scale": 0.0001, "offset": 0.0}]
        assets[band] = asset
    properties = {
        "s2:mgrs_tile": product.tile,
        "s2:processing_baseline": _baseline(product),
        "s2:product_uri": f"{product}.SAFE",
        "sat:relative_orbit": product.orbit,
        "updated": updated,
    }
    parts = str(product).split("_")
    return _item("_".join((*parts[:3], *parts[4:])), copy, properties, assets)


def _cdse(copy: Copy, href: Callable[[Path], str], *, says_subtracted: bool, updated: str) -> dict[str, Any]:
    product = copy.product
    assets = {}
    for band, path in copy.files.items():
        resolution = 10 if band in {"B02", "B03", "B04", "B08"} else 20
        name = "CLD_20m" if band == "CLDPRB" else f"{band}_{resolution}m"
        asset: dict[str, Any] = {
            "href": href(path),
            "type": _TYPES[path.suffix],
            "roles": ["data"],
            "file:size": path.stat().st_size,
        }
        if band not in QUALITY:
            offset = -0.1 if has_offset(product) and not says_subtracted else 0
            asset |= {"data_type": "uint16", "nodata": 0, "raster:scale": 0.0001, "raster:offset": offset}
        assets[name] = asset
    properties = {
        "grid:code": f"MGRS-{product.tile}",
        "processing:version": _baseline(product),
        "processing:level": "L2",
        "product:type": "S2MSI2A",
        "sat:relative_orbit": product.orbit,
        "updated": updated,
    }
    return _item(str(product), copy, properties, assets)


_TYPES = {".tif": "image/tiff; application=geotiff; profile=cloud-optimized", ".jp2": "image/jp2"}
_LAYOUTS = {"earth-search": _earth_search, "planetary-computer": _planetary_computer, "cdse": _cdse}


def reprocessed(library: Path, product: ProductId, baseline: int = 511) -> ProductId:
    """Add a product under a newer baseline to an archive, a copy of another one, and return its name."""
    newer = replace(product, baseline=baseline, generation="20240601T000000")
    old = library / "data" / "L2A" / product.tile / f"{product}.SAFE"
    new = old.with_name(f"{newer}.SAFE")
    shutil.copytree(old, new)
    return newer
