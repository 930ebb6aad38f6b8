"""Index and cloud-mask rasters stored in the archive, computed by their definitions with plain numpy and scipy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from sen2chain.demo import esa_files, index_formulas
from sen2chain.demo.scene import OFFSET_BASELINE
from sen2chain.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sen2chain.demo.scene import Frame, Scene
    from sen2chain.demo.sky import Bytes
    from sen2chain.products import ProductId

Mask = NDArray[np.bool_]

LEGACY_NODATA = 16383

_KNOWN_MASKS = (
    "CM001",
    "CM003-PRB<n>-ITER<n>",
    "CM004-CSH<0|1>-CMP<0|1>-CHP<0|1>-TCI<0|1>-ITER<n>",
    "SCL-<class>-...-ITER<n>",
)


def write_indices(folder: Path, product: ProductId, frame: Frame, paths: Mapping[str, Path], scene: Scene) -> None:
    """Write the scene's indices of one product, from the DNs of its files.

    Parameters
    ----------
    folder
        The archive's ``INDICES``.
    product, frame
        Product and window of the indices.
    paths
        Band -> raster of the product.
    scene
        Scene that lists the indices and their file format.
    """
    for name in scene.indices:
        path = folder / name / product.tile / str(product) / f"{product}_{name}.{scene.index_format}"
        blocks = _index(name, product, frame, paths)
        if scene.index_format == "tif":
            options = esa_files.cog()
            esa_files.write_raster(path, frame, 10, blocks, options, dtype="int16", nodata=index_formulas.NODATA)
        else:
            bounded = (np.clip(b, -LEGACY_NODATA - 1, LEGACY_NODATA).astype(np.int16) for b in blocks)
            esa_files.write_raster(path, frame, 10, bounded, esa_files.legacy(), dtype="int16", nodata=LEGACY_NODATA)


def _index(name: str, product: ProductId, frame: Frame, paths: Mapping[str, Path]) -> Iterator[NDArray[np.int16]]:
    """Yield the encoded index in strips as high as the blocks of the bands."""
    bands = index_formulas.FORMULAS[name][1]
    offset = esa_files.OFFSET if product.baseline >= OFFSET_BASELINE else 0
    with esa_files.reading({band: paths[band] for band in bands}) as sources:
        for row in range(0, frame.size, 1024):
            window = Window(0, row, frame.size, min(1024, frame.size - row))
            numbers = {band: source.read(1, window=window) for band, source in sources.items()}
            missing = np.logical_or.reduce([dn == 0 for dn in numbers.values()])
            reflectance = {b: (dn.astype(np.float64) - offset) / esa_files.QUANTIFICATION for b, dn in numbers.items()}
            values = index_formulas.evaluate(name, reflectance)
            values[missing] = np.nan
            yield index_formulas.encode(values)


def write_masks(folder: Path, product: ProductId, frame: Frame, sky: tuple[Bytes, Bytes], scene: Scene) -> None:
    """Write the scene's cloud masks of one product.

    Parameters
    ----------
    folder
        The archive's ``CLOUDMASKS``.
    product, frame
        Product and window of the masks.
    sky
        SCL and CLDPRB at 20 m.
    scene
        Scene that lists the masks and their file format.
    """
    for name in scene.masks:
        path = folder / product.tile / str(product) / f"{product}_{name}.{scene.mask_format}"
        block = cloud_mask(name, *sky).astype(np.uint8)
        options = esa_files.cog() if scene.mask_format == "tif" else esa_files.plain_jp2()
        esa_files.write_raster(path, frame, 20, [block], options, dtype="uint8")


def cloud_mask(name: str, scl: Bytes, cldprb: Bytes) -> Mask:
    """Compute a cloud mask by its file suffix.

    Returns
    -------
    Array of bool of the shape of `scl`, true where masked.

    Raises
    ------
    UnknownNameError
        If the suffix is not that of a mask computed from SCL or CLDPRB alone.
    """
    if name == "CM001":
        cores = ndimage.binary_erosion(cldprb > 25, _kernel(1, 3, 1))
        return np.asarray(ndimage.binary_dilation(cores, _kernel(3, 7, 9, 9, 11, 11, 11, 9, 9, 7, 3)))
    if match := re.fullmatch(r"CM003-PRB(\d+)-ITER(\d+)", name):
        return _grown(cldprb >= int(match[1]), int(match[2]))
    if match := re.fullmatch(r"CM004-CSH([01])-CMP([01])-CHP([01])-TCI([01])-ITER(\d+)", name):
        classes = [code for code, on in zip((3, 8, 9, 10), match.groups()[:4], strict=True) if on == "1"]
        return _grown(np.isin(scl, classes), int(match[5]))
    if match := re.fullmatch(r"SCL((?:-\d+)+)-ITER(\d+)", name):
        return _grown(np.isin(scl, [int(code) for code in match[1][1:].split("-")]), int(match[2]))
    raise UnknownNameError("cloud mask of a demo archive", name, _KNOWN_MASKS)


def check_masks(names: tuple[str, ...]) -> None:
    """Raise `UnknownNameError` for a mask that `cloud_mask` does not know."""
    clear = np.zeros((1, 1), dtype=np.uint8)
    for name in names:
        cloud_mask(name, clear, clear)


def _kernel(*widths: int) -> Mask:
    """Build a centred structuring element from the set pixels per row."""
    kernel = np.zeros((len(widths), max(widths)), dtype=bool)
    for row, width in zip(kernel, widths, strict=True):
        start = (len(row) - width) // 2
        row[start : start + width] = True
    return kernel


def _grown(mask: Mask, times: int) -> Mask:
    """Dilate with the 5 x 5 square without corners; 0 times leaves the mask (scipy would go on until stable)."""
    return np.asarray(ndimage.binary_dilation(mask, _kernel(3, 5, 5, 5, 3), iterations=times)) if times else mask
