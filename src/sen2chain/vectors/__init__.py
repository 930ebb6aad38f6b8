"""Read a polygon layer: geometry, attributes, CRS, identity. Nothing is ever written beside the user's file.

The position of a feature in its layer, from 0, is its ``fid``, whatever the format calls its ids. Null and empty
geometries keep their position, so that every feature can be accounted for later.
"""

from __future__ import annotations

from sen2chain.vectors.attributes import to_pandas
from sen2chain.vectors.datum import datum_note
from sen2chain.vectors.layer import Layer, of_features, own_copy
from sen2chain.vectors.layer_cache import keep, load, stamp_of
from sen2chain.vectors.layer_comparison import Summary, same_features, same_shapes, summarize
from sen2chain.vectors.layer_reader import OUTSIDE, read_layer

__all__ = [
    "OUTSIDE", "Layer", "Summary", "datum_note", "keep", "load", "of_features", "own_copy", "read_layer",
    "same_features", "same_shapes", "stamp_of", "summarize", "to_pandas",
]  # fmt: skip
