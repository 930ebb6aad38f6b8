"""Features that give no row, so that nothing has to be decoded for them: masks remove them, or they were not kept.

The masks of an acquisition are known before its bands are read. A feature of which a mask removes every pixel has no
valid pixel, whatever the values are. Only its reason would need them; it is taken from the scene classification
instead: no data where all of its pixels have the class of no data, else cloud.

Kept pixels lack features that were removed in the run that kept them. Where no archive has them, this is their reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.coverage import PLANNED, REASONS
from sen2chain.errors import RasterError
from sen2chain.pixel_store import is_kept
from sen2chain.plan import MaskKind, ValueKind
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from sen2chain.acquisition import AcquisitionReader
    from sen2chain.coverage import Coverage
    from sen2chain.plan import Output
    from sen2chain.sensor import Sensor

    Bools = npt.NDArray[np.bool_]
    Codes = npt.NDArray[np.int8]

_NO_DATA, _CLOUD, _NOT_KEPT = (REASONS.index(reason) for reason in (Reason.NO_DATA, Reason.CLOUD, Reason.NOT_KEPT))


@dataclass(frozen=True, slots=True, eq=False)
class RemovedFeatures:
    """The features of a coverage that masks of one acquisition remove entirely."""

    coverage: Coverage
    """The coverage."""
    reasons: Mapping[str, Codes]
    """Mask name -> (features of the coverage,) position of a reason in `REASONS`; `PLANNED` where the feature is not
    removed or has another reason. Masks that remove no feature are left out, and those that are not made from the
    scene classification."""
    of_all: frozenset[str] = frozenset()
    """Names of the masks that leave no feature."""
    lacking: Mapping[str, Bools] = field(default_factory=dict)
    """Location of kept pixels -> (features of the coverage,) True for those that it lacks needed pixels of: of values,
    or of what a mask is computed from."""

    @property
    def is_empty(self) -> bool:
        """Whether no feature is left out of anything."""
        return not (self.reasons or self.lacking)

    @classmethod
    def find(
        cls, reader: AcquisitionReader, coverage: Coverage, outputs: Iterable[Output], sensor: Sensor
    ) -> RemovedFeatures:
        """Find them, when the masks are made and before the pixels are read.

        Parameters
        ----------
        reader
            The reader of the acquisition.
        coverage
            The coverage whose plan it reads.
        outputs
            The outputs that can be made; those whose masks do not fit are left out.
        sensor
            The sensor of the acquisition.
        """
        classes = {o.mask.name: where for o in outputs if (where := _classes(o, sensor)) is not None}
        number = _class_without_data(sensor)
        planned = coverage.state == PLANNED
        found = {mask: removed for mask, removed in reader.removed(classes, planned).items() if removed.any()}
        if not found or number is None:
            return cls(coverage, {})
        # All masks are computed from the same raster of classes.
        without_data = reader.consist_of(number, next(iter(classes.values())), np.logical_or.reduce([*found.values()]))
        codes = np.where(without_data, np.int8(_NO_DATA), np.int8(_CLOUD))
        reasons = {mask: np.where(removed, codes, np.int8(PLANNED)) for mask, removed in found.items()}
        return cls(coverage, reasons, frozenset(mask for mask, removed in found.items() if removed[planned].all()))

    def with_lacking(self, reader: AcquisitionReader, outputs: Iterable[Output]) -> RemovedFeatures:
        """Leave out the features too whose pixels were not kept; for acquisitions that no archive has.

        Parameters
        ----------
        reader
            The reader of the acquisition.
        outputs
            The outputs that can be made.
        """
        found = {}
        for location in dict.fromkeys(where for output in outputs for where in _values(output)):
            if not is_kept(location):
                continue
            try:
                lacking = reader.lacking(location)
            except RasterError as error:
                reader.rasters.fail(location, error)
                continue
            if lacking.any():
                found[location] = lacking
        return replace(self, lacking={**self.lacking, **found}) if found else self

    def of(self, output: Output) -> Codes | None:
        """Return the reasons of the features that are removed from an output; None where there are none."""
        codes = None if _holds_mask(output) else self.reasons.get(output.mask.name)
        lacking = [self.lacking[where] for where in _values(output) if where in self.lacking]
        unmasked = [self.lacking[where] for where in mask_inputs(output) if where in self.lacking]
        if not lacking and not unmasked:
            return codes
        found = np.full(len(self.coverage.fid), PLANNED, np.int8) if codes is None else codes.copy()
        if lacking:
            found[np.logical_or.reduce(lacking) & (found == PLANNED)] = _NOT_KEPT
        if unmasked:  # what their mask would remove is not known
            found[np.logical_or.reduce(unmasked) & (self.coverage.state == PLANNED)] = _NOT_KEPT
        return found

    def hides(self, output: Output) -> Bools:
        """Return for each feature of the coverage whether the mask of an output is known to remove it."""
        codes = self.of(output)
        if codes is None:
            return np.zeros(len(self.coverage.fid), np.bool_)
        hidden: Bools = (codes != PLANNED) & (codes != _NOT_KEPT)
        return hidden

    def is_all(self, output: Output) -> bool:
        """Whether no feature with pixels is left of an output."""
        if not self.lacking:
            return output.mask.name in self.of_all and not _holds_mask(output)
        codes = self.of(output)
        return codes is not None and bool((codes[self.coverage.state == PLANNED] != PLANNED).all())

    def needing(self, outputs: Iterable[Output]) -> tuple[Bools, dict[str, Bools]]:
        """Return the features that are left of some outputs.

        Returns
        -------
        features : numpy.ndarray
            (features of the coverage,) True for those that are left of at least one output.
        by_raster : dict
            Location of a raster of values -> the same of the outputs that need it.
        """
        whole = np.zeros(len(self.coverage.fid), np.bool_)
        by_raster: dict[str, Bools] = {}
        for output in outputs:
            codes = self.of(output)
            left = np.ones_like(whole) if codes is None else codes == PLANNED
            whole |= left
            for location in _values(output):
                by_raster[location] = by_raster[location] | left if location in by_raster else left
        return whole, by_raster


def _values(output: Output) -> Iterable[str]:
    """Return the locations of the rasters of an output's values."""
    return () if output.value is None else output.value.rasters.values()


def mask_inputs(output: Output) -> Iterable[str]:
    """Return the locations of the rasters that the mask of an output is computed from."""
    clouds = output.clouds
    return () if clouds is None or clouds.kind is not MaskKind.COMPUTED else clouds.rasters.values()


def _classes(output: Output, sensor: Sensor) -> str | None:
    """Return the location of the scene classification that the mask of an output is computed from; else None."""
    clouds, name = output.clouds, sensor.classification
    if clouds is None or clouds.kind is not MaskKind.COMPUTED or _holds_mask(output):
        return None
    return None if name is None or _class_without_data(sensor) is None else clouds.rasters.get(name)


def _class_without_data(sensor: Sensor) -> int | None:
    """Return the class of the scene classification that means no data; None where there is none."""
    raster = sensor.quality_raster(sensor.classification)
    return None if raster is None or raster.dtype != "uint8" else raster.nodata


def _holds_mask(output: Output) -> bool:
    """Whether the values of an output are masked already, so that not all pixels under its mask need be removed."""
    return output.value is not None and output.value.kind is ValueKind.MASKED
