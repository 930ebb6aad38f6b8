"""Statistics of every band of any raster under the features of a layer.

`zonal_run` has `zonal_statistics`: it opens the files and turns features into pixels. `argument_order` tells where a
raster was given as the layer. `band_layout` decides whether several files are a mosaic or lie side by side.
`piece_runs` cuts the pixels of features to the windows that are read, and `band_walk` reads these in threads and joins
what each gives. `wanted_statistics` names the statistics, `zonal_table` is the result, and `zonal_files` are its files.

What a window gives is computed by `window_statistics`, which chooses the kernels: `byte_kernels` count the values of
8-bit windows, `real_kernels` select the quantiles of others, and `piece_kernels` are for pixels with weights and for
frequencies and shares of other than 8-bit values. `piece_gather` gathers the values of a piece of a feature for the
first two, and `lanes` copies and sums many values at once inside of them.
"""

from __future__ import annotations

from sen2chain.multiband.zonal_files import table_file
from sen2chain.multiband.zonal_run import ZonalPlan, plan_zonal, zonal_statistics
from sen2chain.multiband.zonal_table import ZonalStatistics

__all__ = ["ZonalPlan", "ZonalStatistics", "plan_zonal", "table_file", "zonal_statistics"]
