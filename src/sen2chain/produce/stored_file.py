"""Judgement of a file that exists: whether it is kept, made again, or must not be replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sen2chain.errors import RasterError, found_text
from sen2chain.indices import INDICES
from sen2chain.parallel import apart
from sen2chain.produce.raster_inputs import difference
from sen2chain.raster_tags import FROM_LOSSY, FROM_MODEL, RULES
from sen2chain.rasters import Raster, environment

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.produce.cloud_model import CloudModel
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.produce.raster_inputs import Inputs
    from sen2chain.products import Acquisition
    from sen2chain.raster_tags import RasterTags


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a file."""

    state: Literal["make", "kept", "refused", "impossible"]
    """What becomes of it."""
    detail: str = ""
    """A sentence on why."""
    exists: bool = False
    """Whether it is there."""
    replaces: bool = False
    """Whether the file that is there is to be replaced."""
    is_foreign: bool = False
    """Whether another program wrote the file that is kept."""


def judge_index(  # noqa: PLR0911  # a table of cases
    path: Path,
    acquisition: Acquisition,
    index: Index,
    inputs: Inputs | str,
    request: ProductRequest,
    source: LibrarySource,
    mask: str = "",
) -> Verdict:
    """Judge the raster of an index, or of one under a mask; `inputs` is a sentence where they are missing."""
    if simple := _without_tags(path, inputs, request) or _unfit(path, acquisition, inputs, source, "int16"):
        return simple
    tags = source.facts.tags(str(path), acquisition.id.tile)
    if tags is None:
        if not _opens(path):
            return _again(path, inputs, "it cannot be opened")
        if index.name not in INDICES:
            return _refused(path, f"it does not say its formula, and {index.name} is your own")
        return _of_another_program(path)
    if another := _of_another_product(path, acquisition, tags, inputs):
        return another
    other = _of_other(tags, index.name, mask)
    if other or not index.is_defined_by(tags.definition):
        return _refused(path, other or f"it holds another formula, {found_text(tags.definition)}")
    if tags.precision != request.precision and tags.source != FROM_LOSSY:
        steps = f"in steps of {tags.precision:g}" if tags.precision else "not rounded"
        return _refused(path, f"its values are {steps}, and that is not what is asked for")
    if tags.source == FROM_LOSSY and not isinstance(inputs, str):
        return _again(path, inputs, "it was converted from a lossy raster, and the bands are there")
    return _by_inputs(path, tags, inputs, source)


def judge_mask(  # noqa: PLR0911  # a table of cases
    path: Path,
    acquisition: Acquisition,
    mask: Mask,
    inputs: Inputs | str,
    request: ProductRequest,
    source: LibrarySource,
) -> Verdict:
    """Judge the raster of a mask; `inputs` is a sentence where they are missing."""
    if simple := _without_tags(path, inputs, request) or _unfit(
        path, acquisition, inputs, source, "uint8", coarse=True
    ):
        return simple
    tags = source.facts.tags(str(path), acquisition.id.tile)
    if tags is None:
        if not _opens(path):
            return _again(path, inputs, "it cannot be opened")
        if mask.stored(acquisition.id, [mask.name]) is None:
            detail = f"{path.name} of the original program is known to be wrong."
            if isinstance(inputs, str):
                return Verdict("impossible", f"{detail} {inputs}", exists=True)
            is_tif = path.suffix == ".tif"
            return Verdict("make", f"{detail} It is made again.", exists=is_tif, replaces=is_tif)
        return _of_another_program(path)
    if another := _of_another_product(path, acquisition, tags, inputs):
        return another
    if other := _of_other(tags, mask.name, ""):
        return _refused(path, other)
    return _by_inputs(path, tags, inputs, source)


def judge_model_mask(  # noqa: PLR0911  # a table of cases
    path: Path,
    acquisition: Acquisition,
    model: CloudModel,
    inputs: Inputs | str,
    request: ProductRequest,
    source: LibrarySource,
) -> Verdict:
    """Judge a mask of OmniCloudMask; `inputs` is a sentence where they are missing."""
    if simple := _without_tags(path, inputs, request) or _unfit(
        path, acquisition, inputs, source, "uint8", coarse=True
    ):
        return simple
    tags = source.facts.tags(str(path), acquisition.id.tile)
    if tags is None:
        if not _opens(path):
            return _again(path, inputs, "it cannot be opened")
        return _of_another_program(path)
    if another := _of_another_product(path, acquisition, tags, inputs):
        return another
    if other := _of_other(tags, model.name, ""):
        return _refused(path, other)
    resolution = tags.more.get("resolution", "")
    if tags.source != FROM_MODEL or resolution != str(model.resolution):
        return _refused(path, f"it was made at {resolution or 'another'} m, and {model.resolution} m are asked for")
    return _by_inputs(path, tags, inputs, source)


def judge_picture(
    path: Path,
    acquisition: Acquisition,
    index: Index | None,
    mask: str,
    inputs: Inputs | str,
    request: ProductRequest,
    source: LibrarySource,
) -> Verdict:
    """Judge a quicklook; `inputs` is a sentence where they are missing."""
    if (simple := _without_tags(path, inputs, request)) is not None:
        return simple
    form, tags = source.facts.form(str(path), acquisition.id.tile), source.facts.tags(str(path), acquisition.id.tile)
    if form is not None and form.damage:
        return _again(path, inputs, f"it {form.damage}")
    if tags is None:
        return _of_another_program(path)
    if another := _of_another_product(path, acquisition, tags, inputs):
        return another
    if tags.mask != mask or (index is not None and not index.is_defined_by(tags.definition)):
        return _again(path, inputs, "it shows another mask" if tags.mask != mask else "it shows another formula")
    return _by_inputs(path, tags, inputs, source)


def _without_tags(path: Path, inputs: Inputs | str, request: ProductRequest) -> Verdict | None:
    """Judge a file where that needs no tags: it is not there, not a file, or to be made again in any case."""
    if not os.path.lexists(path):
        return Verdict("impossible", inputs) if isinstance(inputs, str) else Verdict("make")
    if not path.is_file():
        return Verdict("refused", f"{path} is not a file; move it away.", exists=True)
    if request.force:
        if isinstance(inputs, str):
            return Verdict("kept", f"{path.name} is kept, since it cannot be made again: {inputs}", exists=True)
        return Verdict("make", f"{path.name} is made again, as asked for.", exists=True, replaces=True)
    return None


def _by_inputs(path: Path, tags: RasterTags, inputs: Inputs | str, source: LibrarySource) -> Verdict:
    """Judge a file by the rules and the files it was made from."""
    if tags.rules != RULES:
        return _again(path, inputs, f"its rules are those of version {tags.rules}, and today's are {RULES}")
    if isinstance(inputs, str) or tags.source == FROM_LOSSY:
        return Verdict("kept", exists=True)
    changed = difference(tags.inputs, inputs, source)
    return _again(path, inputs, changed) if changed else Verdict("kept", exists=True)


def _again(path: Path, inputs: Inputs | str, why: str) -> Verdict:
    if isinstance(inputs, str):
        return Verdict("impossible", f"{path.name} has to be made again, since {why}. {inputs}", exists=True)
    return Verdict("make", f"{path.name} is made again: {why}.", exists=True, replaces=True)


def _refused(path: Path, why: str) -> Verdict:
    return Verdict("refused", f"{path.name} is kept, since {why}; --force (force=True) replaces it.", exists=True)


def _unfit(
    path: Path,
    acquisition: Acquisition,
    inputs: Inputs | str,
    source: LibrarySource,
    dtype: str,
    *,
    coarse: bool = False,
) -> Verdict | None:
    """Judge a raster whose header says that it cannot be read as what it is; None where it says nothing of it."""
    product = acquisition.id
    form = source.facts.form(str(path), product.tile)
    why_not = "" if form is None else form.why_not(product.tile, dtype, product.sensor.finest, coarse=coarse)
    if form is None or not why_not:
        return None
    # A complete file of another program may be all that its owner has.
    if not form.damage and source.facts.tags(str(path), product.tile) is None:
        return _refused(path, f"another program wrote it, and it {why_not}")
    return _again(path, inputs, f"it {why_not}")


def _of_another_program(path: Path) -> Verdict:
    return Verdict("kept", f"{path.name} was written by another program, and is kept.", exists=True, is_foreign=True)


def _of_another_product(path: Path, acquisition: Acquisition, tags: RasterTags, inputs: Inputs | str) -> Verdict | None:
    """Judge a file that says that it was made from another product; None where it was made from this one."""
    if tags.product == str(acquisition.id):
        return None
    return _again(path, inputs, f"it was made from another product, {found_text(tags.product)}")


def _of_other(tags: RasterTags, name: str, mask: str) -> str:
    """Return a clause on tags of a file that holds another index or mask than its name says; else empty."""
    if (tags.name, tags.mask) != (name, mask):
        return f"it holds {found_text(tags.name)}{f' under {found_text(tags.mask)}' if tags.mask else ''}"
    return ""


def _opens(path: Path) -> bool:
    """Whether a raster can be opened."""

    def work() -> bool:
        try:
            with environment(), Raster(str(path)):
                return True
        except RasterError:
            return False

    return apart(work)
