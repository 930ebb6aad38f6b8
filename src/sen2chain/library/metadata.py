"""What a product's ``MTD_MSIL2A.xml`` says about its numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # `parse` refuses what makes it unsafe

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.library.contents import READ_ERRORS, read_whole
from sen2chain.records import ProductId

if TYPE_CHECKING:
    from collections.abc import Mapping

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Band names in the order of the metadata's ``band_id``."""

# Surface reflectance has no cirrus band, and 60 m bands are not served: an offset may be lacking for those.
# Offsets exist from this baseline on. Products that users made themselves with Sen2Cor call their baseline 99.99; they
# hold the list where they have offsets.
_FIRST_WITH_OFFSETS, _LOCAL = 4.0, 99.0
_SERVED = frozenset(BAND_IDS) - {"B01", "B09", "B10"}

# A document type, in each encoding that expat reads: UTF-16, and those that spell ASCII as ASCII.
_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class ProductMetadata:
    """Radiometry and cloud cover of one product.

    Surface reflectance is ``(DN + offsets[band]) / quantification``.
    """

    quantification: float
    """``BOA_QUANTIFICATION_VALUE``, DN per unit of reflectance."""
    offsets: Mapping[str, float]
    """Band name -> ``BOA_ADD_OFFSET`` in DN; 0.0 for every band of a product from before baseline 04.00."""
    cloud_cover: float | None
    """``Cloud_Coverage_Assessment`` in percent; None where the product does not say."""


def read_metadata(location: str) -> ProductMetadata:
    """Read a product's ``MTD_MSIL2A.xml``.

    Parameters
    ----------
    location
        Path of the file; ``/vsizip/<archive>.zip/<path inside>`` in a zipped product.

    Raises
    ------
    UnreadableError
        If the file is missing or broken, has no quantification value, or lacks offsets it must have: whether the
        DNs of a product are shifted is read, never assumed.
    """
    values, offsets = _collect(_root(location), location)

    # Before baseline 02.08 the element's name had a prefix.
    quantification = _number(values.get("BOA_QUANTIFICATION_VALUE") or values.get("L2A_BOA_QUANTIFICATION_VALUE"))
    if quantification is None or quantification <= 0:
        raise UnreadableError(f"The metadata {location} has no valid BOA_QUANTIFICATION_VALUE.")
    if not offsets:
        baseline = _number(values.get("PROCESSING_BASELINE"))
        if baseline is None or _FIRST_WITH_OFFSETS <= baseline < _LOCAL:
            said = "no PROCESSING_BASELINE" if baseline is None else f"baseline {baseline:05.2f}"
            raise UnreadableError(f"The metadata {location} has {said} and no BOA_ADD_OFFSET, so its DNs are unclear.")
        offsets = dict.fromkeys(BAND_IDS, 0.0)
    elif missing := sorted(_SERVED - offsets.keys()):
        raise UnreadableError(f"The metadata {location} has no BOA_ADD_OFFSET for {', '.join(missing)}.")
    return ProductMetadata(quantification, offsets, _number(values.get("Cloud_Coverage_Assessment")))


def read_product_id(location: str) -> ProductId:
    """Read which product a ``MTD_MSIL2A.xml`` belongs to.

    Parameters
    ----------
    location
        As for `read_metadata`.

    Raises
    ------
    UnreadableError
        If the file is missing or broken, or does not say it.
    """
    values, _ = _collect(_root(location), location)
    try:
        return ProductId.parse(_product_uri(values))
    except RequestError as error:
        raise UnreadableError(
            f"The metadata {location} has no PRODUCT_URI that tells the product ({error})."
        ) from error


def _product_uri(values: Mapping[str, str]) -> str:
    # The first baselines name the product in an element of their own.
    return values.get("PRODUCT_URI") or values.get("PRODUCT_URI_2A") or ""


def _root(location: str) -> ET.Element:
    try:
        return parse(read_whole(location))
    except (*READ_ERRORS, ET.ParseError) as error:
        raise UnreadableError(f"The metadata {location} cannot be read ({error}).") from error


def parse(document: bytes) -> ET.Element:
    """Parse XML without a document type, which alone can define entities that grow or name other files."""
    if any(doctype in document for doctype in _DOCTYPES):
        raise ValueError("it has a document type (DOCTYPE), which ESA's metadata never have")
    return ET.fromstring(document)  # noqa: S314  # without a document type it is safe


def _collect(root: ET.Element, location: str) -> tuple[dict[str, str], dict[str, float]]:
    """Gather the text of each element (its first occurrence, name without namespace) and the offset per band."""
    values: dict[str, str] = {}
    offsets: dict[str, float] = {}
    for element in root.iter():
        tag, text = str(element.tag).rpartition("}")[2], (element.text or "").strip()
        if tag != "BOA_ADD_OFFSET":
            values.setdefault(tag, text)
            continue
        band, offset = element.get("band_id", ""), _number(text)
        if not re.fullmatch("[0-9]|1[0-2]", band) or offset is None:
            raise UnreadableError(f"The metadata {location} has a BOA_ADD_OFFSET {text!r} for band_id {band!r}.")
        offsets[BAND_IDS[int(band)]] = offset
    return values, offsets


def _number(text: str | None) -> float | None:
    """Read a finite number, None where there is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
