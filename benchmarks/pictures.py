"""``python -m benchmarks.pictures``: time of the pictures of real pixels, if they lie beside the checkout.

The 150 parcels and 12 dates of ``../shared/data/bolzano``: plots of all parcels, chips of 20 parcels from SAFE
products, and the page, each on its own after the extraction.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain import TimeSeries

if TYPE_CHECKING:
    from collections.abc import Callable

BOLZANO = Path(__file__).resolve().parents[2] / "shared" / "data" / "bolzano"


def main() -> int:
    """Measure, and print a line for each kind of picture."""
    if not BOLZANO.is_dir():
        print(f"There are no real pixels at {BOLZANO}.")
        return 1
    series = TimeSeries(
        BOLZANO / "vectors" / "parcels_utm32.gpkg", ["NDVI"], safe=BOLZANO, cm_version="CM004", iterations=1, quiet=True
    )
    series.run()
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], int]] = {
            "plots of all features": lambda: len([*series.plot_global(folder), *series.plot_details(folder)]),
            "chips of 20 features": lambda: len(series.extract_ql(folder)),
            "page": lambda: len([series.to_html(folder)]),
        }
        for name, draw in parts.items():
            begin = time.perf_counter()
            files = draw()
            print(f"{name}: {files} files in {time.perf_counter() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
