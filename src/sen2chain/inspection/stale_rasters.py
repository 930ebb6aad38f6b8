"""Stored rasters of sen2chain whose inputs have changed since they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain.errors import RequestError
from sen2chain.indices import Index
from sen2chain.inspection.raster_check import RasterPlace, Role
from sen2chain.masks import Mask
from sen2chain.produce.raster_inputs import difference, index_inputs, mask_inputs, masked_inputs, model_inputs
from sen2chain.raster_tags import FROM_MODEL, FROM_PRODUCT

if TYPE_CHECKING:
    from sen2chain.produce.raster_inputs import Inputs
    from sen2chain.products import Acquisition, Source
    from sen2chain.raster_tags import RasterTags


def what_changed(acquisition: Acquisition, place: RasterPlace, source: Source) -> str:
    """Return a clause on what has changed since a raster was made.

    Parameters
    ----------
    acquisition
        The product.
    place
        The raster.
    source
        The archive, which tells whether files change.

    Returns
    -------
    str
        Empty where nothing has, where the inputs are not there, or where the raster does not list them.
    """
    tags = None if place.role in {Role.BAND, Role.QUALITY} else acquisition.details.tags(place.location)
    if tags is None or not tags.inputs or (tags.product, tags.name) != (str(acquisition.id), place.name):
        return ""
    inputs = _inputs(acquisition, place, tags)
    return difference(tags.inputs, inputs, source) if isinstance(inputs, dict) else ""


def _inputs(acquisition: Acquisition, place: RasterPlace, tags: RasterTags) -> Inputs | str | None:
    """Return the files that a raster would be made from today; a sentence, or None, where it would not."""
    if tags.source == FROM_MODEL:
        return model_inputs(acquisition, place.name)
    if tags.source != FROM_PRODUCT:
        return None
    sensor = acquisition.id.sensor
    name = place.name if place.role is Role.MASK else place.mask
    try:
        mask = Mask.parse(name, sensor) if name else None
        index = None if place.role is Role.MASK else Index.parse(f"{place.name}={tags.definition}", sensor)
    except RequestError:
        return None
    if index is None:
        return None if mask is None else mask_inputs(acquisition, mask)
    if mask is None:
        return index_inputs(acquisition, index)
    return masked_inputs(acquisition, index, mask, acquisition.masks.get(place.mask, ""))
