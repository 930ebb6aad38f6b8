"""Check of one product: its metadata, and all rasters that an archive has of it, one after the other and together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.inspection.findings import DOWNLOAD, Finding, Part, Severity
from sen2chain.inspection.raster_check import (
    MAKE_AGAIN,
    RasterPlace,
    RasterReport,
    Role,
    check_raster,
    judge_together,
)
from sen2chain.inspection.stale_rasters import what_changed
from sen2chain.inspection.value_comparison import compare_values
from sen2chain.masks import Mask
from sen2chain.rasters import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from sen2chain.parallel import Crew
    from sen2chain.products import Acquisition, Source


@dataclass(slots=True)
class ProductReport:
    """What the check of a product found."""

    findings: list[Finding] = field(default_factory=list)
    """What is wrong."""
    rasters: int = 0
    """Rasters that were checked."""
    pixels: int = 0
    """Pixels that were read."""


def check_product(
    acquisition: Acquisition,
    source: Source,
    crew: Crew,
    shown: Callable[[str], str],
    advance: Callable[[float], object] = lambda _: None,
    *,
    read: bool = True,
    verify: bool = True,
) -> ProductReport:
    """Check a product; whatever its files hold, a report comes back.

    Parameters
    ----------
    acquisition
        The product.
    source
        The archive, which tells whether files change.
    crew
        Threads that help with decoding.
    shown
        Returns a location as people know it.
    advance
        Called with the share of its rasters that is done.
    read
        Whether pixels are read; otherwise headers and metadata are judged alone.
    verify
        Whether files are compared with the checksums that the product lists.
    """
    report = ProductReport()
    verifier = acquisition.details.verifier() if verify and read else None
    _check_metadata(acquisition, verifier, shown, report)
    places = list(places_of(acquisition))
    reports = []
    with environment(acquisition.reading):
        for number, place in enumerate(places):
            compare = verifier if place.is_delivered else None
            reports.append(check_raster(place, crew, lambda: environment(acquisition.reading), compare, read=read))
            advance((number + 1) / len(places))
    judge_together(reports)
    for found, clause in compare_values(acquisition, reports):
        found.add(Severity.ERROR, clause)
    for found in reports:
        if not found.is_damaged and (changed := what_changed(acquisition, found.place, source)):
            clause = f"was made from files that are not those of today: {changed}"
            found.add(Severity.WARNING, clause, "make it again with sen2chain produce")
        report.findings += _findings(found, shown)
        report.pixels += found.values.pixels if found.values is not None else 0
    report.rasters = len(places)
    report.findings += _known_wrong(acquisition, places, shown)
    return report


def places_of(acquisition: Acquisition) -> list[RasterPlace]:
    """List the rasters of a product with what their places and names say."""
    product, sensor = acquisition.id, acquisition.id.sensor
    places = []
    for name, where in acquisition.bands.items():
        role = Role.QUALITY if sensor.band(name) is None else Role.BAND
        is_delivered = "/GRANULE/" in where or where.startswith("/vsizip/")
        places.append(RasterPlace(where, product, role, name, is_delivered=is_delivered))
    for name, found in acquisition.indices.items():
        places += [RasterPlace(where, product, Role.INDEX, name) for where in found]
    for (name, mask), where in acquisition.masked.items():
        places.append(RasterPlace(where, product, Role.MASKED, name, mask))
    for name, where in acquisition.masks.items():
        places.append(RasterPlace(where, product, Role.MASK, name))
    return places


def _check_metadata(
    acquisition: Acquisition,
    verifier: Callable[[str], None] | None,
    shown: Callable[[str], str],
    report: ProductReport,
) -> None:
    """Read the metadata of a product, and say what its folder lacks."""
    product = acquisition.id
    has_product = bool(acquisition.remark) or any(product.sensor.band(band) for band in acquisition.bands)
    if acquisition.remark:
        _add(report, Severity.WARNING, acquisition, str(product), f"lacks bands: {acquisition.remark}", DOWNLOAD)
    if not acquisition.details.has_radiometry:
        if has_product:
            clause = f"has no {product.sensor.metadata}, so its bands cannot be used"
            _add(report, Severity.ERROR, acquisition, str(product), clause, DOWNLOAD)
        return
    try:
        acquisition.details.radiometry()
        for where in acquisition.details.inputs.values():
            if verifier is not None:
                verifier(where)
    except UnreadableError as error:
        where = next(iter(acquisition.details.inputs.values()), "")
        _add(report, Severity.ERROR, acquisition, shown(where), f"cannot be used: {error}", DOWNLOAD)


def _add(
    report: ProductReport, severity: Severity, acquisition: Acquisition, item: str, clause: str, advice: str
) -> None:
    tile = acquisition.id.tile
    report.findings.append(Finding(severity, Part.RASTERS, item, clause.rstrip("."), advice, tile))


def _findings(report: RasterReport, shown: Callable[[str], str]) -> list[Finding]:
    """Return the faults of a raster as findings; those that make a raster of the library unusable may be moved."""
    place = report.place
    found = []
    for severity, clause, advice in report.faults:
        movable = severity is Severity.ERROR and not place.is_delivered and not report.is_unread
        # The sentence of an error names the file once more.
        text = clause.replace(place.location, "it").removesuffix(f"; {DOWNLOAD}")
        found.append(
            Finding(
                severity, Part.RASTERS, shown(place.location), text, advice, place.product.tile,
                place.location if movable else "",
            )
        )  # fmt: skip
    return found


def _known_wrong(acquisition: Acquisition, places: list[RasterPlace], shown: Callable[[str], str]) -> list[Finding]:
    """Find stored masks, and indices masked by them, that the original program wrote with errors."""
    found = []
    for place in places:
        suffix = place.name if place.role is Role.MASK else place.mask
        if not suffix:
            continue
        try:
            mask = Mask.parse(suffix, acquisition.id.sensor)
        except RequestError:
            continue  # another program's
        where = place.location

        def is_ours(_: str, where: str = where) -> bool:
            return acquisition.details.tags(where) is not None

        if mask.stored(acquisition.id, [suffix], is_ours) is None:
            why = (
                "the original program dilated masks with ITER0 without end"
                if mask.iterations == 0 and mask.probability is not None
                else "from baseline 04.00 on the original program compared digital numbers with the offset in"
            )
            found.append(
                Finding(
                    Severity.WARNING, Part.RASTERS, shown(where), f"is known to be wrong, and is not read: {why}",
                    MAKE_AGAIN, acquisition.id.tile, where,
                )
            )  # fmt: skip
    return found
