"""Layers of polygons, lines and points: geometry, attributes, CRS, identity. Nothing is written beside the user's file.

The ``fid`` of a feature is its position in the layer, from 0; ids that a format keeps are attributes. Features with a
null or empty geometry keep their position, so that every feature ends as a row or as a counted reason.

`layer_reader` reads a layer from a file or a frame with the help of `file_kinds` (kinds of files, and files that are
refused), `layer_files` (files and temporary copies for readers), `ogr` (GDAL), `text_encoding`, `long_numbers` and
`attributes`; `repair` makes geometries valid. `layer` holds the `Layer`, `layer_cache` saves it, `layer_comparison`
compares two of them, `layer_fields` finds attributes that a user names, and `datum` judges the datum
shift to the rasters.
"""

from __future__ import annotations

from sen2chain.vectors.attributes import to_pandas
from sen2chain.vectors.datum import datum_note
from sen2chain.vectors.layer import Layer, of_features, own_copy
from sen2chain.vectors.layer_cache import keep, load, stamp_of
from sen2chain.vectors.layer_comparison import Summary, same_features, same_shapes, summarize
from sen2chain.vectors.layer_fields import named_fields
from sen2chain.vectors.layer_reader import OUTSIDE, read_layer

__all__ = [
    "OUTSIDE", "Layer", "Summary", "datum_note", "keep", "load", "named_fields", "of_features", "own_copy",
    "read_layer", "same_features", "same_shapes", "stamp_of", "summarize", "to_pandas",
]  # fmt: skip
