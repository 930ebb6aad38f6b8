"""Statistics of every band of any raster under the features of a layer.

`zonal_run` has `zonal_statistics`: it opens the files and turns features into pixels. `argument_order` tells where a
raster was given as the layer. `band_layout` decides whether
several files are a mosaic or lie side by side. `piece_runs` cuts the pixels of features to the windows that are read,
`band_walk` reads these in threads and joins what `piece_kernels` compute, `wanted_statistics` names the statistics, and
`zonal_table` is the result and `zonal_files` are its files.
"""

from __future__ import annotations

from sen2chain.multiband.zonal_files import table_file
from sen2chain.multiband.zonal_run import ZonalPlan, plan_zonal, zonal_statistics
from sen2chain.multiband.zonal_table import ZonalStatistics

__all__ = ["ZonalPlan", "ZonalStatistics", "plan_zonal", "table_file", "zonal_statistics"]
