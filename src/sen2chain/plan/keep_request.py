"""The request to keep pixels: which bands, and how far around the features the quality rasters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sen2chain.errors import RequestError, UnknownNameError, items_of, real_number, shown
from sen2chain.pixel_store import split_kept
from sen2chain.plan.raster_choice import Keeping, MaskKind, ValueKind
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sen2chain.plan.raster_choice import Output
    from sen2chain.products import Acquisition

MOST_MARGIN = 10_000.0
"""Metres around features in which quality rasters may be kept."""
MARGIN = 300.0
"""Metres around features in which quality rasters are kept unless the user says otherwise."""


def kept_bands(value: Any) -> bool | tuple[str, ...]:
    """Check which bands are to be kept, as users write it.

    Parameters
    ----------
    value
        False or None for none, True for those that are decoded anyway, or one or several names of bands.

    Returns
    -------
    bool or tuple
        False, True, or the names in the order of wavelengths.

    Raises
    ------
    UnknownNameError
        If Sentinel-2 has no band of a name whose reflectance is read.
    RequestError
        If it is something else, or an empty list.
    """
    if value is None or isinstance(value, bool | np.bool_):
        return bool(value)
    names = [value] if isinstance(value, str) else items_of("keep_pixels", value, '"B04", or True')
    known = [band.name for band in SENTINEL2.served]
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UnknownNameError("band", name, known)
    if not names:
        raise RequestError(f"keep_pixels is {shown(value)}; pass True, or the names of bands, as B04.")
    return tuple(name for name in known if name in names)


@dataclass(frozen=True, slots=True)
class KeepRequest:
    """The pixels that a run keeps."""

    bands: tuple[str, ...] | None = None
    """Names of bands, of which the pixels of all features are kept; None for the bands that are decoded anyway, whose
    pixels are kept where they are decoded."""
    margin: float = MARGIN
    """Metres around the features in which quality rasters are kept."""

    @classmethod
    def of(cls, keep_pixels: Any, keep_margin: Any) -> Self | None:
        """Build a request from the documented parameters, `keep_margin` None being `MARGIN`.

        None where no pixels are to be kept.

        Raises
        ------
        RequestError
            If a parameter cannot be used, see `kept_bands`.
        """
        bands = kept_bands(keep_pixels)
        if keep_margin is None:
            keep_margin = MARGIN
        elif not bands:
            raise RequestError("keep_margin (--keep-margin) needs keep_pixels (--keep-pixels); no pixels are kept.")
        margin = real_number("keep_margin", keep_margin, 0, MOST_MARGIN, "metres", f" (at most {MOST_MARGIN:,.0f})")
        return cls(None if bands is True else bands or (), margin) if bands else None

    def of_acquisition(self, acquisition: Acquisition, outputs: Iterable[Output]) -> Keeping | None:
        """Return the rasters of an acquisition to keep; those that it lacks are left out. None where it has none.

        Parameters
        ----------
        acquisition
            The acquisition.
        outputs
            What is extracted from it.
        """
        sensor = acquisition.id.sensor
        rasters: dict[str, str] = {}
        if self.bands is None:
            rasters |= _decoded(outputs)
        elif acquisition.details.has_radiometry:  # without scale and offsets the numbers would mean nothing
            rasters |= {band: acquisition.bands[band] for band in self.bands if band in acquisition.bands}
        quality = (raster.name for raster in sensor.quality)
        rasters |= {name: acquisition.bands[name] for name in quality if name in acquisition.bands}
        rasters = {name: where for name, where in rasters.items() if split_kept(where) is None}
        return Keeping(rasters, self.margin, complete=self.bands is not None) if rasters else None


def _decoded(outputs: Iterable[Output]) -> Mapping[str, str]:
    """Return band -> location of the bands that are decoded for outputs."""
    found: dict[str, str] = {}
    for output in outputs:
        if output.reason is None and output.value is not None and output.value.kind is ValueKind.BANDS:
            found |= output.value.rasters
        if output.reason is None and output.clouds is not None and output.clouds.kind is MaskKind.COMPUTED:
            found |= {name: where for name, where in output.clouds.rasters.items() if name in output.mask.bands}
    return found
