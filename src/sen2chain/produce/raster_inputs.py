"""The inputs of a produced raster: which files it is made from, and a text that tells whether these have changed.

Of each file the text has name, size, time of change, and a digest of parts of its content. A file of the same name and
size is the same if its time is the same, or else its digest: so a copied archive is recognised, and an unchanged one is
told without reading it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sen2chain.produce.cloud_model import BANDS as MODEL_BANDS
from sen2chain.progress import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition, Source

Inputs = dict[str, str]
"""Role -> location."""


def index_inputs(acquisition: Acquisition, index: Index) -> Inputs | str:
    """Return the bands and the metadata that an index is computed from, or a sentence on what is missing."""
    missing = [band for band in index.bands if band not in acquisition.bands]
    if missing or not acquisition.details.has_radiometry:
        return _missing(acquisition, index.name, missing)
    return {band: acquisition.bands[band] for band in index.bands} | dict(acquisition.details.inputs)


def mask_inputs(acquisition: Acquisition, mask: Mask) -> Inputs | str:
    """Return the rasters that a mask is computed from, or a sentence on what is missing."""
    if not mask.inputs:
        return f"{acquisition.id}: {mask.name} cannot be computed from the product."
    missing = [name for name in mask.inputs if name not in acquisition.bands]
    if missing or (mask.bands and not acquisition.details.has_radiometry):
        return _missing(acquisition, mask.name, missing)
    found = {name: acquisition.bands[name] for name in mask.inputs}
    return found | (dict(acquisition.details.inputs) if mask.bands else {})


def masked_inputs(acquisition: Acquisition, index: Index, mask: Mask, stored: str = "") -> Inputs | str:
    """Return the files that an index under a mask is made from, or a sentence on what is missing.

    Parameters
    ----------
    acquisition, index, mask
        The acquisition, the index and the mask.
    stored
        The file of the mask, where it cannot be computed.
    """
    values = index_inputs(acquisition, index)
    if isinstance(values, str):
        return values
    clouds = mask_inputs(acquisition, mask)
    if isinstance(clouds, str):
        return values | {"mask": stored} if stored else clouds
    return values | clouds


def model_inputs(acquisition: Acquisition, name: str) -> Inputs | str:
    """Return the bands that OmniCloudMask sees, or a sentence on what is missing; `name` is that of the mask."""
    missing = [band for band in MODEL_BANDS if band not in acquisition.bands]
    return _missing(acquisition, name, missing) if missing else {b: acquisition.bands[b] for b in MODEL_BANDS}


def picture_inputs(
    acquisition: Acquisition, index: Index | None, raster: str, mask: Mask | None, stored: str
) -> Inputs | str:
    """Return the files that a quicklook is made from, or a sentence on what is missing.

    Parameters
    ----------
    acquisition
        The acquisition.
    index, raster
        The index and its raster, empty where there is none; None for the true colour.
    mask, stored
        The mask that is hatched, and its file, empty where it is computed.
    """
    if index is not None:
        if not raster:
            return f"{acquisition.id}: the quicklook of {index.name} needs its raster."
        found: Inputs = {"raster": raster}
    else:
        colours = acquisition.id.sensor.true_colour
        missing = [band for band in colours if band not in acquisition.bands]
        if missing or not acquisition.details.has_radiometry:
            return _missing(acquisition, "the true colour", missing)
        found = {band: acquisition.bands[band] for band in colours} | dict(acquisition.details.inputs)
    if mask is None:
        return found
    clouds = {"mask": stored} if stored else mask_inputs(acquisition, mask)
    return clouds if isinstance(clouds, str) else found | clouds


def _missing(acquisition: Acquisition, name: str, missing: list[str]) -> str:
    what = " and ".join(missing) or f"the metadata {acquisition.id.sensor.metadata}".rstrip()
    because = f" ({acquisition.remark})" if acquisition.remark else ""
    return f"{acquisition.id}: {name} needs {what}, which the archive lacks{because}."


def describe(inputs: Mapping[str, str], source: Source) -> str:
    """Return the text for `RasterTags.inputs`."""
    tokens = source.identify(inputs.values(), ())
    found = {
        role: [tokens[where].name, tokens[where].size, tokens[where].time, source.digest(where)]
        for role, where in inputs.items()
    }
    return json.dumps(found, sort_keys=True)


def difference(described: str, inputs: Mapping[str, str], source: Source) -> str:
    """Return a clause on what has changed since inputs were described; empty where nothing has."""
    try:
        before = {str(role): (str(n), int(s), int(t), str(d)) for role, (n, s, t, d) in json.loads(described).items()}
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):  # from int(inf)
        return "it does not say what it was made from"
    if before.keys() != inputs.keys():
        return "it was made from other files"
    tokens = source.identify(inputs.values(), ())
    changed = []
    for role, where in inputs.items():
        name, size, time, digest = before[role]
        now = tokens[where]
        if (name, size) != (now.name, now.size) or (time != now.time and digest != source.digest(where)):
            changed.append(role)
    if not changed:
        return ""
    return f"{', '.join(sorted(changed))} of the product changed" if len(changed) < 4 else _many(changed)


def _many(changed: list[str]) -> str:
    return f"{counted(len(changed), 'file')} of the product changed"
