"""How rows came about, as the JSON beside every result says it."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sen2chain.indices import NODATA, SCALE
from sen2chain.records import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sen2chain.plan import Request
    from sen2chain.vectors import Layer

_VERSIONS = ("sen2chain", "numpy", "rasterio", "shapely", "pyproj", "geopandas", "pyogrio", "numba", "pyarrow")


def provenance(
    request: Request,
    layer: Layer,
    archive: str,
    lines: Sequence[Mapping[str, Any]],
    *,
    index: str | None = None,
    mask: str | None = None,
) -> dict[str, Any]:
    """Gather parameters, versions, the layer's identity, and the products and sources used.

    Parameters
    ----------
    request, layer, archive
        What was asked for, of which polygons and from where.
    lines
        Lines of the report that the rows come from.
    index, mask
        The index and the mask that the result is about; None is all of the request.
    """
    reasons = {reason.value: sum(line[reason.value] for line in lines) for reason in Reason}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(_versions()),
        "parameters": {
            "indices": {i.name: i.formula for i in request.indices if index in {None, i.name}},
            "masks": [m.name for m in request.masks if mask in {None, m.name}],
            "date_min": request.first, "date_max": request.last,
            "cover_min": request.cover_min, "cover_max": request.cover_max, "pixels": request.pixels,
            "buffer": request.buffer, "stats": list(request.statistics.extra), "min_valid": request.min_valid,
            "units": request.units, "keep_empty": request.keep_empty, "prefer": request.prefer,
            "scale": SCALE, "nodata": NODATA,
        },
        "layer": {
            "path": str(layer.path) if layer.path else None, "name": layer.name, "crs": layer.crs,
            "features": len(layer), "sha256": layer.identity, "repaired": list(layer.repaired),
            "null": list(layer.null), "empty": list(layer.empty),
        },
        "archive": archive,
        "rows": sum(line["rows"] for line in lines),
        "left_out": {name: n for name, n in reasons.items() if n},
        "products": [
            {
                key: line[key]
                for key in ("index", "mask", "acquisition", "value_source", "mask_source", "rows", "error")
                if line[key] != ""
            }
            for line in lines
        ],
    }  # fmt: skip


@functools.cache  # a compilation writes hundreds of files, and finding a version reads one
def _versions() -> tuple[tuple[str, str], ...]:
    return ("python", platform.python_version()), *((name, importlib.metadata.version(name)) for name in _VERSIONS)
