"""Statistics of every band of any raster under the polygons of a layer."""

from __future__ import annotations
