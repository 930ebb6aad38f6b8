"""Metadata of a product, read from ``MTD_MSIL2A.xml``: scale and offsets of digital numbers, cloud cover, footprint."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # `parse` refuses what makes it unsafe

from sen2chain.archive.file_contents import READ_ERRORS, read_whole, why
from sen2chain.errors import RequestError, UnreadableError
from sen2chain.files import has_document_type
from sen2chain.products import ProductId, Radiometry
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sen2chain.products import Footprint

_BANDS = tuple(band.name for band in SENTINEL2.bands)
"""By the metadata's ``band_id``."""
# An offset may be lacking for the others: surface reflectance has no cirrus band, and 60 m bands are not read.
_SERVED = frozenset(band.name for band in SENTINEL2.served)

_ONCE = ("BOA_QUANTIFICATION_VALUE", "PROCESSING_BASELINE", "PRODUCT_URI", "Cloud_Coverage_Assessment")
_FOOTPRINT, _LONGEST_FOOTPRINT = "EXT_POS_LIST", 100_000  # characters
_FORMER = {"L2A_BOA_QUANTIFICATION_VALUE": "BOA_QUANTIFICATION_VALUE", "PRODUCT_URI_2A": "PRODUCT_URI"}
"""Names of elements in the first baselines."""
_LEAST_QUANTIFICATION, _LARGEST_QUANTIFICATION, _LARGEST_OFFSET = 1.0, 1e6, 1e4


@dataclass(frozen=True, slots=True)
class ProductMetadata:
    """Radiometry and cloud cover of one product."""

    quantification: float
    """``BOA_QUANTIFICATION_VALUE``, DN per unit of reflectance."""
    offsets: Mapping[str, float]
    """Band name -> ``BOA_ADD_OFFSET`` in DN; 0.0 for every band of a product from before baseline 04.00."""
    cloud_cover: float | None
    """``Cloud_Coverage_Assessment`` in percent; None where the product does not say."""
    footprint: Footprint | None = None
    """``Product_Footprint``; None where the product does not say."""

    @property
    def radiometry(self) -> Radiometry:
        """Scale and offsets of the digital numbers."""
        return Radiometry(self.quantification, self.offsets)


def read_metadata(location: str, product: ProductId | None = None) -> ProductMetadata:
    """Read a product's ``MTD_MSIL2A.xml``.

    Parameters
    ----------
    location
        Path of the file; ``/vsizip/<archive>.zip/<path inside>`` in a zipped product.
    product
        The product that the file must belong to: platform, orbit, tile, sensing time and baseline are compared where
        the file names its product.

    Raises
    ------
    UnreadableError
        If the file is missing or broken, has no valid quantification value, lacks required offsets, contradicts itself
        or belongs to another product. Offsets are read, never assumed.
    """
    values, offsets = _collect(_root(location), location)
    said = _named(values)
    if product is not None and said is not None and _key(said) != _key(product):
        raise UnreadableError(
            f"The metadata {location} belongs to another product: PRODUCT_URI says {said}, and it lies in {product}."
        )
    quantification = _number(values.get("BOA_QUANTIFICATION_VALUE"))
    if quantification is None or not _LEAST_QUANTIFICATION <= quantification <= _LARGEST_QUANTIFICATION:
        raise UnreadableError(
            f"The metadata {location} has no valid BOA_QUANTIFICATION_VALUE "
            f"({values.get('BOA_QUANTIFICATION_VALUE', 'none')}; it is from 1 to 1000000)."
        )
    if not offsets:
        offsets = _no_offsets(values, said or product, location)
    elif missing := sorted(_SERVED - offsets.keys()):
        raise UnreadableError(f"The metadata {location} has no BOA_ADD_OFFSET for {', '.join(missing)}.")
    return ProductMetadata(
        quantification,
        offsets,
        _number(values.get("Cloud_Coverage_Assessment")),
        _footprint(values.get(_FOOTPRINT)),
    )


def _footprint(text: str | None) -> Footprint | None:
    """Read ``lat lon lat lon ...``; None where it is not a closed outline."""
    if text is None or len(text) > _LONGEST_FOOTPRINT:
        return None
    numbers = [_number(part) for part in text.split()]
    degrees = [number for number in numbers if number is not None]
    corners = tuple(zip(degrees[1::2], degrees[::2], strict=False))
    whole = len(degrees) == len(numbers) and len(degrees) % 2 == 0 and len(corners) > 3 and corners[0] == corners[-1]
    return corners if whole else None


def _no_offsets(values: Mapping[str, str], product: ProductId | None, location: str) -> dict[str, float]:
    """Return offsets of 0 where the baseline has none and the product's name agrees."""
    baseline = _number(values.get("PROCESSING_BASELINE"))
    named = None if product is None else product.baseline / 100
    if baseline is not None and named is not None and SENTINEL2.has_offsets(baseline) != SENTINEL2.has_offsets(named):
        raise UnreadableError(
            f"The metadata {location} has no BOA_ADD_OFFSET, and it is unclear whether the DNs have offsets: "
            f"PROCESSING_BASELINE is {baseline:05.2f}, and the product is called {product}."
        )
    if baseline is None or SENTINEL2.has_offsets(baseline):
        has = "no PROCESSING_BASELINE" if baseline is None else f"baseline {baseline:05.2f}"
        raise UnreadableError(f"The metadata {location} has {has} and no BOA_ADD_OFFSET, so its DNs are unclear.")
    return dict.fromkeys(_BANDS, 0.0)


def _named(values: Mapping[str, str]) -> ProductId | None:
    """Return the product that the metadata name; None where the name has another form, as before 2016."""
    try:
        return ProductId.parse(values.get("PRODUCT_URI", ""))
    except RequestError:
        return None


def _key(product: ProductId) -> tuple[object, ...]:
    """Return the parts of a product's name that a provider keeps when processing or naming it again."""
    return product.platform, product.orbit, product.tile, product.sensing, product.baseline


def read_product_id(location: str, read: Callable[[str], bytes] = read_whole) -> ProductId:
    """Read which product a ``MTD_MSIL2A.xml`` belongs to.

    Parameters
    ----------
    location
        As for `read_metadata`.
    read
        Returns the content of the file at a location.

    Raises
    ------
    UnreadableError
        If the file is missing or broken, or does not name its product.
    """
    values, _ = _collect(_root(location, read), location)
    try:
        return ProductId.parse(values.get("PRODUCT_URI", ""))
    except RequestError as error:
        raise UnreadableError(
            f"The metadata {location} has no PRODUCT_URI that tells the product ({error})."
        ) from error


def _root(location: str, read: Callable[[str], bytes] = read_whole) -> ET.Element:
    try:
        return parse(read(location))
    except (*READ_ERRORS, ET.ParseError) as error:
        raise UnreadableError(f"The metadata {location} cannot be read ({why(error)}).") from error


def parse(document: bytes) -> ET.Element:
    """Parse XML without a document type, which alone can define entities that grow or name other files."""
    if has_document_type(document):
        raise ValueError("it has a document type (DOCTYPE), which ESA's metadata never have")
    return ET.fromstring(document)  # noqa: S314  # without a document type it is safe


def _collect(root: ET.Element, location: str) -> tuple[dict[str, str], dict[str, float]]:
    """Gather the texts of the elements that are used (by name without namespace) and the offset per band.

    Raises
    ------
    UnreadableError
        If one of them has two values, or an offset is not a number.
    """
    values: dict[str, str] = {}
    offsets: dict[str, float] = {}
    for element in root.iter():
        tag, text = str(element.tag).rpartition("}")[2], (element.text or "").strip()
        tag = _FORMER.get(tag, tag)
        if tag in _ONCE and not _same(values.setdefault(tag, text), text):
            raise UnreadableError(f"The metadata {location} has two values of {tag}, {values[tag]!r} and {text!r}.")
        if tag == _FOOTPRINT:  # a footprint in several parts is not one outline
            values[tag] = "" if tag in values else text
        if tag != "BOA_ADD_OFFSET":
            continue
        band, offset = element.get("band_id", ""), _number(text)
        if not re.fullmatch("[0-9]|1[0-2]", band) or offset is None or abs(offset) > _LARGEST_OFFSET:
            raise UnreadableError(f"The metadata {location} has a BOA_ADD_OFFSET {text!r} for band_id {band!r}.")
        name = _BANDS[int(band)]
        if offsets.setdefault(name, offset) != offset:
            raise UnreadableError(
                f"The metadata {location} has two values of BOA_ADD_OFFSET for {name}, {offsets[name]:g} and "
                f"{offset:g}."
            )
    return values, offsets


def _same(one: str, other: str) -> bool:
    return one == other or (_number(one) is not None and _number(one) == _number(other))


def _number(text: str | None) -> float | None:
    """Read a finite number, None where there is none."""
    if text is None or not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None
