"""The kernel: values, masks and a pixel plan become statistics. Arrays in, arrays out.

`gather` collects the pixels of features, `reduce` turns them into numbers with the help of `buckets` (`tally` those of
very large features), `statistics` knows the numbers by name.
"""

from __future__ import annotations

from sen2chain.zonal.reduce import is_compiled
from sen2chain.zonal.statistics import Statistics, Tally

__all__ = ["Statistics", "Tally", "is_compiled"]
