"""Plan of an extraction, from request, layer and source; no pixel is read.

`extraction_request` holds the parameters, `tagged_rasters` judges what stored rasters hold, `raster_choice` chooses the
rasters of each output, `keep_request` the pixels to keep, and `extraction_plan` finds the acquisitions.
"""

from __future__ import annotations

from sen2chain.plan.extraction_plan import ExtractionPlan, area_of, extent_in_words, make_plan, why_outside
from sen2chain.plan.extraction_request import Request, parse_date, resolve_masks
from sen2chain.plan.keep_request import MARGIN, MOST_MARGIN, KeepRequest, kept_bands
from sen2chain.plan.raster_choice import (
    KEPT,
    Keeping,
    MaskKind,
    MaskSource,
    Output,
    Preference,
    Task,
    ValueKind,
    ValueSource,
    kind_of_label,
    masks_that_work,
    notes_on,
    plan_task,
    resolve_mask,
    resolve_sources,
    value_order,
)

__all__ = [
    "KEPT",
    "MARGIN",
    "MOST_MARGIN",
    "ExtractionPlan",
    "KeepRequest",
    "Keeping",
    "MaskKind",
    "MaskSource",
    "Output",
    "Preference",
    "Request",
    "Task",
    "ValueKind",
    "ValueSource",
    "area_of",
    "extent_in_words",
    "kept_bands",
    "kind_of_label",
    "make_plan",
    "masks_that_work",
    "notes_on",
    "parse_date",
    "plan_task",
    "resolve_mask",
    "resolve_masks",
    "resolve_sources",
    "value_order",
    "why_outside",
]
