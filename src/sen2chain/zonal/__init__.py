"""Zonal statistics: values, mask bits and a pixel plan in, statistics of features out. Arrays in, arrays out.

`gather` collects the pixels of features, `reduce` computes their statistics with the sort of `buckets`, and `tally`
those of very large features. `statistics` maps names of statistics to the columns of these kernels.
"""

from __future__ import annotations

from sen2chain.zonal.reduce import is_compiled
from sen2chain.zonal.statistics import Statistics, Tally

__all__ = ["Statistics", "Tally", "is_compiled"]
