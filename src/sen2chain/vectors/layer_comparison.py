"""Comparison of two layers that may differ in format, CRS and name but hold the same features.

Saving, converting and projecting a layer changes its bytes, the last digits of coordinates, the start and direction of
rings, single against multi, null against empty, column names (a shapefile cuts them to ten characters) and number
types. A layer with these changes is the same; one with another order of features is not, because ``fid`` is the order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely

from sen2chain.vectors.layer import canonical

if TYPE_CHECKING:
    import pandas as pd

    from sen2chain.vectors.layer import Layer

TOLERANCE = 2e-7
"""Degrees by which coordinates may differ: two centimetres, more than any conversion does."""

# Comparing two outlines point by point takes the product of their numbers of points.
_MANY_POINTS = 20_000


@dataclass(frozen=True, slots=True)
class Summary:
    """Facts of a layer that are compared without reading geometries again."""

    features: int
    """Number of features."""
    bounds: tuple[float, float, float, float] | None
    """Box of all features in degrees of WGS 84; None where no feature has a place."""
    attributes: str
    """The SHA-256 (hex) of the attributes' values in a form that survives a change of format."""

    def may_be(self, other: Summary) -> bool:
        """Whether two layers may be the same, so that `same_features` is worth its time."""
        if self.features != other.features or self.attributes != other.attributes:
            return False
        if self.bounds is None or other.bounds is None:
            return self.bounds is other.bounds
        return bool(np.allclose(self.bounds, other.bounds, rtol=0, atol=TOLERANCE))


def summarize(layer: Layer) -> Summary:
    """Summarize a layer for comparison."""
    boxes = shapely.total_bounds(_in_degrees(layer))
    bounds = None if np.isnan(boxes).any() else tuple(boxes.tolist())
    return Summary(len(layer), bounds, attribute_digest(layer.attributes_proper))


def attribute_digest(attributes: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) of attributes: values in their canonical form, without column names.

    A column ``FID`` that counts from 0 is left out: GDAL adds one to a shapefile that has no attributes.
    """
    digest = hashlib.sha256()
    for name in attributes:
        values = canonical(attributes[name])
        if str(name).upper() == "FID" and len(attributes.columns) == 1 and values == list(map(str, range(len(values)))):
            continue
        digest.update("\x1f".join(values).encode() + b"\x1e")
    return digest.hexdigest()


def same_features(one: Layer, other: Layer) -> bool:
    """Tell whether two layers hold the same features in the same order, with the same attributes.

    Parameters
    ----------
    one, other
        The layers, in any CRS.
    """
    if len(one) != len(other):
        return False
    if attribute_digest(one.attributes_proper) != attribute_digest(other.attributes_proper):
        return False
    return bool(same_shapes(one, other).all())


def same_shapes(one: Layer, other: Layer) -> np.ndarray:
    """Compare the geometries of two layers of the same length; (n,) of bool."""
    first, second = _in_degrees(one), _in_degrees(other)
    absent = (shapely.is_missing(first) | shapely.is_empty(first)).astype(int)
    absent += shapely.is_missing(second) | shapely.is_empty(second)
    near = np.isclose(shapely.bounds(first), shapely.bounds(second), rtol=0, atol=TOLERANCE).all(axis=1)
    same: np.ndarray = (absent == 2) | (near & (absent == 0))
    unsure = np.flatnonzero(same & (absent == 0))
    a, b = shapely.normalize(first[unsure]), shapely.normalize(second[unsure])
    differ = ~shapely.equals_exact(a, b, tolerance=TOLERANCE)
    # Tiny differences may have moved the start of a ring, or points may have been added on a straight line.
    for i in np.flatnonzero(differ):
        if max(shapely.get_num_coordinates(a[i]), shapely.get_num_coordinates(b[i])) <= _MANY_POINTS:
            differ[i] = not shapely.hausdorff_distance(a[i], b[i]) <= TOLERANCE * np.sqrt(2)
    same[unsure[differ]] = False
    return same


def _in_degrees(layer: Layer) -> Any:
    """Return the geometries in WGS 84, parts of one made single."""
    shapes = np.array(layer.geometry, dtype=object)
    if layer.crs != "EPSG:4326":
        shapes = np.array(gpd.GeoSeries(shapes, crs=layer.crs).to_crs("EPSG:4326").array, dtype=object)
    single = (shapely.get_type_id(shapes) >= 4) & (shapely.get_num_geometries(shapes) == 1)
    shapes[single] = shapely.get_geometry(shapes[single], 0)
    return shapes
