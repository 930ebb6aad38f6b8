"""Small archives made by hand, whose truth is known: empty rasters under real names, with metadata of one screen."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Iterable

TILE = "32TPS"
ALL = (*(band.name for band in SENTINEL2.served), "SCL", "CLDPRB")
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
_FINE = {"B02", "B03", "B04", "B08"}


def name(day: str, baseline: str = "0400", platform: str = "S2A", orbit: str = "022", tile: str = TILE) -> str:
    """Name of a product sensed on a day, as ``20220605``."""
    return f"{platform}_MSIL2A_{day}T101559_N{baseline}_R{orbit}_T{tile}_{day}T160000"


def metadata(product: str, cover: float | None = 12.5) -> str:
    """Text of a product's metadata."""
    baseline = product.split("_")[3][1:]
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{band}">-1000</BOA_ADD_OFFSET>' for band in range(13))
    said = "" if cover is None else f"<Cloud_Coverage_Assessment>{cover}</Cloud_Coverage_Assessment>"
    return (
        f"<product><PRODUCT_URI>{product}.SAFE</PRODUCT_URI>"
        f"<PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}</PROCESSING_BASELINE>"
        f"<BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>"
        f"{offsets if baseline >= '0400' else ''}{said}</product>"
    )


def put(path: Path, content: bytes | str = b"", age: float = 600) -> Path:
    """Write a file that was last changed `age` seconds ago, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def safe(folder: Path, product: str, bands: Iterable[str] = ALL, cover: float | None = 12.5, text: str = "") -> Path:
    """Write a SAFE folder; every raster has 100 bytes."""
    made = folder / f"{product}.SAFE"
    _, _, sensing, _, _, tile, _ = product.split("_")
    granule = made / "GRANULE" / f"L2A_{tile}_A040188_{sensing}"
    granule.mkdir(parents=True)
    for band in bands:
        metres = 10 if band in _FINE else 20
        images = granule / "IMG_DATA" / f"R{metres}m" / f"{tile}_{sensing}_{band}_{metres}m.jp2"
        put(granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2" if band == "CLDPRB" else images, b"x" * 100)
    put(made / "MTD_MSIL2A.xml", text or metadata(product, cover))
    return made


def index(
    library: Path, product: str, of: str = "NDVI", mask: str = "", suffix: str = ".jp2", content: bytes = b"i" * 1000
) -> Path:
    """Write an index raster."""
    tile = product.split("_")[5][1:]
    masked = f"_{mask}" if mask else ""
    return put(library / "INDICES" / of / tile / product / f"{product}_{of}{masked}{suffix}", content)


def mask(library: Path, product: str, of: str = CM004, suffix: str = ".jp2") -> Path:
    """Write a mask of ten bytes."""
    tile = product.split("_")[5][1:]
    return put(library / "CLOUDMASKS" / tile / product / f"{product}_{of}{suffix}", b"m" * 10)


def tree_size(*folders: Path) -> int:
    """Bytes of all files below folders, by `os.walk`."""
    return sum(
        Path(root, file).stat().st_size
        for folder in folders
        for root, _, files in os.walk(folder, followlinks=True)
        for file in files
    )
