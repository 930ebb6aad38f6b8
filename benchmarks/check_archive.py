"""Time of a full check of SAFE products, compared with plain decoding of the same files by GDAL.

    python -m benchmarks.check_archive FOLDER

FOLDER holds SAFE products, as the demo writes them with full tiles, or ESA.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import rasterio

from sen2chain.archive import SafeFolder
from sen2chain.inspection import check_archive


def main(folder: Path) -> None:
    """Print seconds and ratios."""
    source = SafeFolder(folder)
    files = [where for tile in source.tiles() for a in source.acquisitions(tile) for where in a.bands.values()]
    begun = time.monotonic()
    pixels = 0
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        for file in files:
            with rasterio.open(file) as opened:
                pixels += opened.read(1).size
    plain = time.monotonic() - begun
    print(f"plain decoding: {plain:.1f} s, {len(files)} files, {pixels / 1e6:.0f} million pixels")  # its output
    for name, options in {
        "rasters, without checksums": {"parts": ("rasters",), "verify": False},
        "rasters": {"parts": ("rasters",)},
        "offsets": {"parts": ("offsets",)},
        "all": {},
        "quick": {"quick": True},
    }.items():
        begun = time.monotonic()
        result = check_archive(SafeFolder(folder), quiet=True, **options)  # type: ignore[arg-type]
        spent = time.monotonic() - begun
        print(f"{name}: {spent:.1f} s, {spent / plain:.2f} x plain decoding, {result.counts()}")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
