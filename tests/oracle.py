"""An independent computation of everything the package computes, written from the definitions alone.

Full arrays, float64, and other people's libraries (scipy, rasterstats, exactextract): slow, plain, and sharing no
line with the package. Nothing here imports it.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET  # metadata that the tests wrote

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import scipy.ndimage as ndi
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from rasterio.features import rasterize
from rasterstats import zonal_stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    Bool = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Int16 = npt.NDArray[np.int16]
    Formula = Callable[..., Floats]

NODATA: Final = 32767
BAND_IDS: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
TEN_METRES: Final = frozenset({"B02", "B03", "B04", "B08"})

# ---------------------------------------------------------------------------------------------------------- products


@dataclass(frozen=True)
class Raster:
    """A whole band and where it lies."""

    values: npt.NDArray[Any]
    transform: Any
    crs: str


def read(path: Path) -> Raster:
    with rasterio.open(path) as dataset:
        return Raster(dataset.read(1), dataset.transform, dataset.crs.to_wkt())


@dataclass(frozen=True)
class Safe:
    """One SAFE folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name.removesuffix(".SAFE")

    @property
    def date(self) -> pd.Timestamp:
        return pd.Timestamp(self.id.split("_")[2])

    @property
    def tile(self) -> str:
        return self.id.split("_")[5].removeprefix("T")

    def raster(self, name: str) -> Raster:
        """Read a band, ``SCL`` or ``CLDPRB`` from its native resolution."""
        pattern = f"IMG_DATA/R{'10' if name in TEN_METRES else '20'}m/*_{name}_*m.jp2"
        if name == "CLDPRB":
            pattern = "QI_DATA/MSK_CLDPRB_20m.jp2"
        (found,) = self.folder.glob(f"GRANULE/*/{pattern}")
        return read(found)

    def radiometry(self) -> tuple[dict[str, float], float]:
        """Give the offset of each band and the quantification, from the product's metadata."""
        root: Any = ET.parse(self.folder / "MTD_MSIL2A.xml").getroot()  # noqa: S314  # as above
        offsets = dict.fromkeys(BAND_IDS, 0.0)
        for node in root.iter("BOA_ADD_OFFSET"):
            offsets[BAND_IDS[int(node.attrib["band_id"])]] = float(node.text)
        (quantification,) = (float(node.text) for node in root.iter("BOA_QUANTIFICATION_VALUE"))
        return offsets, quantification


def ground(transform: Any, column: float, row: float) -> tuple[float, float]:
    """Give the coordinates of a place in a north-up raster."""
    return transform.c + column * transform.a, transform.f + row * transform.e


def place(transform: Any, x: float, y: float) -> tuple[float, float]:
    """Give column and row (with fractions) of a coordinate in a north-up raster."""
    return (x - transform.c) / transform.a, (y - transform.f) / transform.e


def safes(folder: Path) -> list[Safe]:
    return sorted((Safe(path) for path in folder.glob("*.SAFE")), key=lambda safe: safe.date)


# ----------------------------------------------------------------------------------------------------------- indices

FORMULAS: Final[Mapping[str, tuple[tuple[str, ...], Formula]]] = {
    "NDVI": (("B08", "B04"), lambda n, r: (n - r) / (n + r)),
    "NDWIMCF": (("B03", "B08"), lambda g, n: (g - n) / (g + n)),
    "NDWIGAO": (("B08", "B11"), lambda n, s1: (n - s1) / (n + s1)),
    "MNDWI": (("B03", "B11"), lambda g, s1: (g - s1) / (g + s1)),
    "NDRE": (("B08", "B05"), lambda n, re1: (n - re1) / (n + re1)),
    "NBR": (("B08", "B12"), lambda n, s2: (n - s2) / (n + s2)),
    "NDBI": (("B11", "B08"), lambda s1, n: (s1 - n) / (s1 + n)),
    "IRECI": (("B07", "B04", "B05", "B06"), lambda re3, r, re1, re2: (re3 - r) / (re1 / re2)),
    "EVI": (("B08", "B04", "B02"), lambda n, r, b: 2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1)),
    "BIGR": (("B03", "B04"), lambda g, r: np.sqrt((g**2 + r**2) / 2)),
    "BIRNIR": (("B04", "B08"), lambda r, n: np.sqrt((r**2 + n**2) / 2)),
    "BIBG": (("B02", "B03"), lambda b, g: np.sqrt((b**2 + g**2) / 2)),
}


def to_ten_metres(values: Floats) -> Floats:
    """Bring 20 m to 10 m bilinearly; a NaN neighbour makes a NaN, beyond the edge the edge pixel repeats.

    A 10 m centre lies a quarter of a 20 m pixel from the nearest 20 m centre: weights 3/4 and 1/4 per axis.
    """
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        here, before, after = (np.take(padded, np.arange(values.shape[axis]) + shift, axis=axis) for shift in (1, 0, 2))
        both = np.stack([0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after], axis=axis + 1)
        shape = list(values.shape)
        shape[axis] *= 2
        values = both.reshape(shape)
    return values


def reflectance(dn: npt.NDArray[Any], offset: float, quantification: float, *, twenty: bool = False) -> Floats:
    """Give the surface reflectance on the 10 m grid; NaN where there is no data or saturation, never below 0."""
    counts = np.where((dn == 0) | (dn == 65535), np.nan, dn.astype(np.float64))
    if twenty:
        counts = to_ten_metres(counts)
    return np.maximum((counts + offset) / quantification, 0.0)


def scale(real: Floats) -> tuple[Int16, Bool]:
    """Scale to int16; also tell where the value sits on a rounding tie, so that one unit either way is right."""
    scaled = real * 10000.0
    good = np.isfinite(scaled)
    safe = np.where(good, scaled, 0.0)
    values = np.where(good, np.clip(np.rint(safe), -32768, 32766), NODATA).astype(np.int16)
    ties = good & (np.abs(np.abs(safe - np.floor(safe)) - 0.5) < 1e-6)
    return values, ties


def index(safe: Safe, name: str) -> tuple[Int16, Bool]:
    """Compute an index of a product on its full 10 m grid: values, and where these are rounding ties."""
    offsets, quantification = safe.radiometry()
    bands, formula = FORMULAS[name]
    read_in = [
        reflectance(safe.raster(band).values, offsets[band], quantification, twenty=band not in TEN_METRES)
        for band in bands
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        return scale(formula(*read_in))


# ------------------------------------------------------------------------------------------------------------- masks


def kernel(*lengths: int) -> Bool:
    """Build a kernel from the number of set pixels per row, centred."""
    size = len(lengths)
    columns = np.arange(size)
    return np.stack([np.abs(columns - size // 2) <= length // 2 for length in lengths])


SQUARE5: Final = kernel(3, 5, 5, 5, 3)
DISK11: Final = kernel(3, 7, 9, 9, 11, 11, 11, 9, 9, 7, 3)
DISK13: Final = kernel(3, 7, 9, 11, 11, 13, 13, 13, 11, 11, 9, 7, 3)
CROSS: Final = kernel(1, 3, 1)


def dilate(mask: npt.NDArray[np.bool_], structure: npt.NDArray[np.bool_], iterations: int = 1) -> Bool:
    """Dilate; 0 iterations leave the mask as it is (scipy would go on until nothing changes)."""
    if iterations == 0:
        return mask.copy()
    return ndi.binary_dilation(mask, structure=structure, iterations=iterations)


def cm001(cldprb: npt.NDArray[Any]) -> Bool:
    return dilate(ndi.binary_erosion(cldprb > 25, structure=CROSS, border_value=0), DISK11)


def cm002(cldprb: npt.NDArray[Any], b11: Floats) -> Bool:
    """`b11` is the 20 m reflectance, NaN where there is none."""
    return dilate(cm001(cldprb) & ~dilate(b11 < 0.15, DISK11), DISK13)


def cm003(cldprb: npt.NDArray[Any], probability: int, iterations: int) -> Bool:
    return dilate(cldprb >= probability, SQUARE5, iterations)


def classes(scl: npt.NDArray[Any], wanted: Iterable[int], iterations: int) -> Bool:
    return dilate(np.isin(scl, list(wanted)), SQUARE5, iterations)


def cm004(scl: npt.NDArray[Any], switches: tuple[int, int, int, int], iterations: int) -> Bool:
    """`switches` are CSH, CMP, CHP, TCI."""
    wanted = [number for number, on in zip((3, 8, 9, 10), switches, strict=True) if on]
    return classes(scl, wanted, iterations)


def nearest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring a 20 m array to the 10 m grid that shares its corner."""
    return np.kron(values, np.ones((2, 2), dtype=values.dtype))


# ---------------------------------------------------------------------------------------------------------- polygons


def project(layer: gpd.GeoDataFrame, crs: str) -> npt.NDArray[np.object_]:
    """Drop heights; repair in the layer's own CRS; reproject. Empty stays empty, null stays None."""
    shapes = shapely.force_2d(layer.geometry.to_numpy())
    broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken], method="structure", keep_collapsed=False)
    flat = gpd.GeoSeries(shapes, crs=layer.crs)
    result: npt.NDArray[np.object_] = flat.to_crs(crs).to_numpy()
    return result


def inside(geometry: Any, shape: tuple[int, int], transform: Any) -> Bool:
    """Tell which pixels have their centre strictly inside, one point-in-polygon question per pixel."""
    west, south, east, north = geometry.bounds
    result = np.zeros(shape, dtype=bool)
    left, right = (int(np.floor((x - transform.c) / transform.a)) for x in (west, east))
    top, bottom = (int(np.floor((y - transform.f) / transform.e)) for y in (north, south))
    for row in range(max(top, 0), min(bottom + 1, shape[0])):
        for column in range(max(left, 0), min(right + 1, shape[1])):
            x, y = transform.c + (column + 0.5) * transform.a, transform.f + (row + 0.5) * transform.e
            result[row, column] = bool(shapely.contains_xy(geometry, x, y))
    return result


def burn(geometry: Any, shape: tuple[int, int], transform: Any, *, all_touched: bool = False) -> Bool:
    """Rasterise on the full grid with GDAL."""
    burnt = rasterize([geometry], out_shape=shape, transform=transform, all_touched=all_touched, dtype="uint8")
    result: Bool = burnt.astype(bool)
    return result


def coverage(geometry: Any, shape: tuple[int, int], transform: Any) -> Floats:
    """Area fraction of every pixel, from intersections of the polygon with pixel boxes."""
    west, south, east, north = geometry.bounds
    result = np.zeros(shape)
    left, right = (int(np.floor((x - transform.c) / transform.a)) for x in (west, east))
    top, bottom = (int(np.floor((y - transform.f) / transform.e)) for y in (north, south))
    rows, columns = np.meshgrid(
        np.arange(max(top, 0), min(bottom + 1, shape[0])),
        np.arange(max(left, 0), min(right + 1, shape[1])),
        indexing="ij",
    )
    x0, y1 = transform.c + columns * transform.a, transform.f + rows * transform.e
    boxes = shapely.box(x0, y1 + transform.e, x0 + transform.a, y1)
    result[rows, columns] = shapely.area(shapely.intersection(boxes, geometry)) / abs(transform.a * transform.e)
    return result


# -------------------------------------------------------------------------------------------------------- statistics

PLAIN: Final = ("min", "max", "mean", "std", "median", "percentile_25", "percentile_75")


def _rasterstats(geometries: Sequence[Any], values: npt.NDArray[Any], transform: Any, **how: Any) -> pd.DataFrame:
    with warnings.catch_warnings():
        # rasterstats multiplies affines in a way that the affine package is going to drop.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        # It sums an empty masked array where a polygon has no pixel: that is no nodata pixel.
        warnings.filterwarnings("ignore", "Warning: converting a masked element to nan", UserWarning)
        return pd.DataFrame(zonal_stats(geometries, values, affine=transform, **how))


@functools.lru_cache(maxsize=8)
def _taken(
    geometries: tuple[bytes, ...], shape: tuple[int, int], transform: Any, *, all_touched: bool
) -> list[npt.NDArray[np.int64]]:
    """Give the flat positions of the pixels that rasterstats takes for every polygon, where there is a raster."""
    ones = np.ones(shape, np.uint8)
    how: dict[str, Any] = {"nodata": 0, "stats": ["count"], "all_touched": all_touched, "raster_out": True}
    table = _rasterstats(shapely.from_wkb(list(geometries)), ones, transform, **how)
    found = []
    for part, where in zip(table["mini_raster_array"], table["mini_raster_affine"], strict=True):
        rows, columns = np.nonzero(~np.ma.getmaskarray(part))
        left, top = place(transform, where.c, where.f)
        found.append((rows + round(top)) * shape[1] + columns + round(left))
    return found


def count(geometries: Sequence[Any], flags: Bool, transform: Any, *, all_touched: bool = False) -> Floats:
    """Count the pixels of every polygon that have a flag; they are those that rasterstats takes."""
    shapes = tuple(shapely.to_wkb(np.asarray(geometries, dtype=object)))
    taken = _taken(shapes, flags.shape, transform, all_touched=all_touched)
    return np.array([flags.ravel()[pixels].sum() for pixels in taken], dtype=np.float64)


def zonal(
    geometries: Sequence[Any], values: Int16, clouds: Bool, transform: Any, *, all_touched: bool = False
) -> pd.DataFrame:
    """Compute the statistics of every polygon with rasterstats; NaN where none."""
    masked = np.where(clouds, np.int16(NODATA), values)
    names = ["count", "nodata", *PLAIN]
    frame = _rasterstats(geometries, masked, transform, nodata=NODATA, stats=names, all_touched=all_touched)
    frame["nodata"] = frame["nodata"].astype(np.float64).fillna(0.0)
    frame = frame.astype(np.float64)
    frame.insert(2, "nbcld", count(geometries, clouds & (values != NODATA), transform, all_touched=all_touched))
    frame.insert(0, "fid", np.arange(len(frame)))
    return frame


QUANTILES: Final = ("median", "percentile_25", "percentile_75")


def weighted(geometries: Sequence[Any], values: Int16, clouds: Bool, transform: Any, crs: str) -> pd.DataFrame:
    """Compute the area-weighted statistics of every polygon with exactextract; pixels beyond the raster are nodata.

    A pixel belongs to a polygon that covers more than 1e-8 of it.
    """
    layer = gpd.GeoDataFrame({"fid": np.arange(len(geometries))}, geometry=list(geometries), crs=crs)
    west, south, east, north = layer.total_bounds
    height, width = values.shape
    size = transform.a
    right, bottom = transform.c + width * size, transform.f - height * size
    pad = 1 + int(max(0, transform.c - west, east - right, north - transform.f, bottom - south) / size)

    def source(array: Floats) -> NumPyRasterSource:
        wide = np.pad(array, pad, constant_values=np.nan)
        edge = pad * size
        bounds = (transform.c - edge, bottom - edge, right + edge, transform.f + edge)
        return NumPyRasterSource(wide, *bounds, nodata=np.nan, srs_wkt=layer.crs.to_wkt())

    def extract(array: Floats, names: Sequence[str]) -> pd.DataFrame:
        result: pd.DataFrame = exact_extract(source(array), layer, list(names), include_cols=["fid"], output="pandas")
        return result

    unmasked = np.where(values == NODATA, np.nan, values.astype(np.float64))
    masked = np.where(clouds, np.nan, unmasked)
    least = "min_coverage_frac=1e-8"
    plain = [f"{name}({least})" for name in ("count", "mean", "stdev", "variance", "median", "min", "max")]
    names = [*plain[:5], f"quantile(q=0.25,{least})", f"quantile(q=0.75,{least})", *plain[5:]]
    frame = extract(masked, names)
    frame = frame.astype(np.float64).astype({"fid": np.int64})
    frame.columns = pd.Index(
        ["fid", "count", "mean", "std", "variance", "median", "percentile_25", "percentile_75", "min", "max"]
    )
    present = extract(unmasked, ["count"])["count"]
    area = shapely.area(layer.geometry.to_numpy()) / size**2
    frame["nodata"] = area - frame["count"]
    frame["nbcld"] = present - frame["count"]
    return frame


def extras(values: npt.NDArray[Any]) -> dict[str, float]:
    """Compute the statistics that come on request, from the valid values of one polygon."""
    real = values.astype(np.float64)
    distinct, counts = np.unique(values, return_counts=True)
    return {
        "sum": float(real.sum()),
        "variance": float(real.var()),
        "range": float(real.max() - real.min()),
        "cv": float(real.std() / real.mean()) if real.mean() else float("nan"),
        "mad": float(np.median(np.abs(real - np.median(real)))),
        "percentile_10": float(np.percentile(real, 10)),
        "majority": float(distinct[np.argmax(counts)]),
        "minority": float(distinct[np.argmin(counts)]),
        "variety": float(len(distinct)),
    }
