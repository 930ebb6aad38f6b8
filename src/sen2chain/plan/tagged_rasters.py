"""Judgement of stored rasters by their tags and form: which index or mask they serve, and why not.

Tags say how a raster that sen2chain wrote was made. Its form says whether the file is complete and of the right kind.
Rasters without tags are other programs'; what is known of them is their name and form alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.errors import found_text
from sen2chain.indices import INDICES
from sen2chain.raster_tags import FROM_LOSSY, FROM_MODEL, FROM_PRODUCT, RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Acquisition
    from sen2chain.raster_tags import RasterTags


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a stored raster can be used for."""

    usable: bool
    """Whether it holds what is asked for."""
    exact: bool = True
    """Whether its values are those that bands give."""
    why_not: str = ""
    """Why it is not usable, or not exact: a clause whose subject is the stored raster."""
    same_as: Mapping[str, str] = field(default_factory=dict)
    """Role -> location of files that give the same rows, as far as it is known; the location is empty where the archive
    lacks the file."""
    is_foreign: bool = False
    """Whether another program wrote it, so that its name alone tells what it holds."""


def judge_index_raster(acquisition: Acquisition, index: Index, location: str) -> Judgement:
    """Judge a stored raster of an index, masked or not.

    Parameters
    ----------
    acquisition, index
        The product and the index that is asked for.
    location
        The raster.
    """
    if why_not := why_unfit(acquisition, location, "int16"):
        return Judgement(usable=False, why_not=why_not)
    is_tiff = location.endswith(".tif")  # others are lossy, of the original program, which knows twelve indices
    tags = acquisition.details.tags(location) if is_tiff else None
    if tags is None:
        known = is_known(index)
        why_not = "" if known else "does not say by which formula it was made"
        # Of rasters that cannot be looked at here it is not known who wrote them.
        is_foreign = is_tiff and acquisition.details.form(location) is not None
        return Judgement(known, exact=is_tiff, why_not=why_not, is_foreign=is_foreign)
    why_not = _of_another(acquisition, tags, index.name)
    mask = next((suffix for (_, suffix), where in acquisition.masked.items() if where == location), "")
    if tags.mask != mask:
        why_not = f"says that it is masked by {tags.mask}" if tags.mask else "says that it is not masked"
    if not index.is_defined_by(tags.definition):
        why_not = f"was made by another formula, {found_text(tags.definition)}"
    if tags.source not in {FROM_PRODUCT, FROM_LOSSY}:
        why_not = f"was made in a way that this version does not know ({found_text(tags.source)})"
    if why_not:
        return Judgement(usable=False, why_not=why_not)
    if tags.source == FROM_LOSSY:
        lossy = next((where for where in acquisition.indices.get(index.name, ()) if where.endswith(".jp2")), "")
        return Judgement(usable=True, exact=False, same_as={} if mask else {"value": lossy})
    if tags.precision:
        rounded = f"is rounded to {tags.precision:g} (prefer 'stored' takes it)"
        return Judgement(usable=True, exact=False, why_not=rounded)
    return Judgement(usable=True, same_as={} if mask else _present(acquisition, index.bands))


def judge_mask(acquisition: Acquisition, mask: Mask, suffix: str) -> Judgement | None:
    """Judge a stored mask by its tags and form; None where it has no tags and nothing speaks against it.

    Parameters
    ----------
    acquisition, mask
        The product and the mask that is asked for.
    suffix
        The mask as it stands in the file name.
    """
    location = acquisition.masks[suffix]
    if why_not := why_unfit(acquisition, location, "uint8", coarse=True):
        return Judgement(usable=False, why_not=why_not)
    tags = acquisition.details.tags(location)
    if tags is None:
        return None
    if tags.source == FROM_MODEL:
        is_right = tags.product == str(acquisition.id) and tags.name == suffix
        return Judgement(is_right, why_not="" if is_right else _holds(tags))
    if why_not := _of_another(acquisition, tags, suffix):
        return Judgement(usable=False, why_not=why_not)
    # A raster of this mask under another suffix, which the original program may have written, is the same mask.
    return Judgement(usable=True, same_as={**_present(acquisition, mask.inputs), "mask": ""})


def why_unfit(acquisition: Acquisition, location: str, dtype: str, *, coarse: bool = False) -> str:
    """Return a clause on why a stored raster cannot be read as what it is stored for; empty where nothing is seen.

    Parameters
    ----------
    acquisition, location
        The product and the raster.
    dtype
        Type that its values need to have.
    coarse
        Whether its pixels may have a whole multiple of the finest size.
    """
    form = acquisition.details.form(location)
    product = acquisition.id
    return "" if form is None else form.why_not(product.tile, dtype, product.sensor.finest, coarse=coarse)


def is_known(index: Index) -> bool:
    """Whether an index is one of the twelve, of which archives have rasters of other programs."""
    return index.name in INDICES and index.sensor == INDICES[index.name].sensor


def _of_another(acquisition: Acquisition, tags: RasterTags, name: str) -> str:
    """Return why a raster is not one of this product and name, by rules and offsets of today; empty where it is."""
    if tags.product != str(acquisition.id) or tags.name != name:
        return _holds(tags)
    if tags.rules != RULES:
        return "was made by rules of another version of sen2chain"
    known = acquisition.details.remembered_radiometry() if tags.offsets else None
    if known is None:
        return ""
    offsets = {band: known.offsets.get(band) for band in tags.offsets}
    if (tags.quantification, tags.offsets) != (known.quantification, offsets):
        return f"was made with other offsets or another scale than {acquisition.id.sensor.metadata} lists today"
    return ""


def _holds(tags: RasterTags) -> str:
    return f"says that it holds {found_text(tags.name)} of {found_text(tags.product)}"


def _present(acquisition: Acquisition, names: tuple[str, ...]) -> dict[str, str]:
    """Name -> location of bands and quality rasters, empty where the archive lacks them."""
    return {name: acquisition.bands.get(name, "") for name in names}
