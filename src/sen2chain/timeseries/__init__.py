"""The documented classes: `TimeSeries` extracts all dates at once, `TimeSeriesCompil` into a folder that is kept."""

from sen2chain.timeseries.compil import TimeSeriesCompil
from sen2chain.timeseries.compilation import Compiled
from sen2chain.timeseries.folder_update import Extracted
from sen2chain.timeseries.series import TimeSeries

__all__ = ["Compiled", "Extracted", "TimeSeries", "TimeSeriesCompil"]
