"""Accuracy of the shift from a layer's datum to that of the rasters (WGS 84), and the grids that would improve it.

PROJ uses the best operation whose grids it has. Packages from the Python index bring no national grids, so a shift may
be wrong by metres without a warning, and features get other pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
from pyproj.aoi import AreaOfInterest
from pyproj.transformer import TransformerGroup

from sen2chain.parallel import recorded_warnings

if TYPE_CHECKING:
    from sen2chain.vectors.layer import Layer

_WGS84 = pyproj.CRS("EPSG:4326")
# Metres: half of the smallest pixel.
_GOOD = 5.0


def datum_note(layer: Layer) -> str:
    """Sentence on the accuracy of a layer's datum shift; empty where it is the best possible and better than 5 m.

    Parameters
    ----------
    layer
        The layer.
    """
    crs = pyproj.CRS(layer.crs)
    base = crs.geodetic_crs
    # Dynamic frames are realisations of WGS 84 or the ITRF, decimetres apart.
    if base is None or base == _WGS84 or (base.datum and base.datum.type_name.startswith("Dynamic")):
        return ""
    with recorded_warnings():  # pyproj warns of missing grids, which the note tells
        area: Any = _area(layer)  # pyproj's annotations name a private class
        group = TransformerGroup(crs, _WGS84, always_xy=True, area_of_interest=area)
    accuracy = group.transformers[0].accuracy if group.transformers else -1.0
    better = "" if group.best_available else _better(group)
    unknown = accuracy < 0 and not _is_geocentric(base)
    if not (better or unknown or accuracy > _GOOD):
        return ""
    if accuracy < 0:
        sentence = f"PROJ knows no shift from {base.name} to WGS 84 here, so features may lie many metres off."
    else:
        sentence = f"Features are shifted from {base.name} to WGS 84 with an accuracy of {accuracy:g} m."
    return f"{sentence} {better or 'It has no better one; if that matters, give the layer in WGS 84.'}"


def _better(group: TransformerGroup) -> str:
    """Sentence on the best operation and how to get its grids; empty where it needs no grid with a name."""
    lacking = [
        (operation.accuracy if operation.accuracy >= 0 else math.inf, [g.short_name for g in operation.grids])
        for operation in group.unavailable_operations
    ]
    accuracy, names = min(lacking, default=(math.inf, []))
    if not names:
        return ""
    how = f"with {accuracy:g} m" if accuracy < math.inf else "that is better"
    needs = "the grid" if len(names) == 1 else "the grids"
    sync = " and ".join(f"`pyproj sync --file {name}`" for name in names)
    return f"One {how} needs {needs} {' and '.join(names)}, which PROJ lacks: run {sync}, or set PROJ_NETWORK=ON."


def _is_geocentric(base: pyproj.CRS) -> bool:
    """Whether a datum is geocentric, and thus within metres of WGS 84: it has the same ellipsoid."""
    shape = base.ellipsoid
    return bool(
        shape is not None
        and math.isclose(shape.semi_major_metre, 6378137.0, abs_tol=0.5)
        and math.isclose(shape.inverse_flattening, 298.257, abs_tol=0.001)
    )


def _area(layer: Layer) -> AreaOfInterest | None:
    """Area of a layer in longitudes and latitudes; None where no feature has a place."""
    to_degrees = pyproj.Transformer.from_crs(layer.crs, _WGS84, always_xy=True)
    left, bottom, right, top = layer.bounds[np.isfinite(layer.bounds).all(axis=1)].T
    places = np.stack(to_degrees.transform((left + right) / 2, (bottom + top) / 2))
    places = places[:, np.isfinite(places).all(axis=0)]
    if not places.size:
        return None
    west, east = (float(np.clip(edge, -180, 180)) for edge in (places[0].min(), places[0].max()))
    south, north = (float(np.clip(edge, -90, 90)) for edge in (places[1].min(), places[1].max()))
    return AreaOfInterest(west, south, east, north)
