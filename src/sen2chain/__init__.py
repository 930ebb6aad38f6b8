"""Sentinel-2 archive in, clean time series out.

Importing this package defines names and does nothing else: no file is read, no logging configured, no heavy library
loaded. Names are looked up when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sen2chain.errors import Sen2ChainError
    from sen2chain.indices import INDICES, Index
    from sen2chain.jobs import JobExtraction
    from sen2chain.library import Library
    from sen2chain.masks import Mask
    from sen2chain.multiband import ZonalStatistics, zonal_statistics
    from sen2chain.reasons import Reason
    from sen2chain.timeseries import TimeSeries, TimeSeriesCompil

__all__ = [
    "INDICES",
    "Index",
    "JobExtraction",
    "Library",
    "Mask",
    "Reason",
    "Sen2ChainError",
    "TimeSeries",
    "TimeSeriesCompil",
    "ZonalStatistics",
    "__version__",
    "zonal_statistics",
]

_MODULES = {
    "INDICES": "indices",
    "Index": "indices",
    "JobExtraction": "jobs",
    "Library": "library",
    "Mask": "masks",
    "Reason": "reasons",
    "Sen2ChainError": "errors",
    "TimeSeries": "timeseries",
    "TimeSeriesCompil": "timeseries",
    "ZonalStatistics": "multiband",
    "zonal_statistics": "multiband",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("sen2chain")
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"sen2chain.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'sen2chain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
