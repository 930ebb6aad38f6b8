"""Providers of Sentinel-2 in STAC catalogues, as frozen values: asset names, hosts and signing of files, the offset.

All of it is from documentation and published items; none of these servers could be asked from where this was written.
Other providers work by the names of `GENERIC`, or by a mapping of the user's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sen2chain.archive.offset_check import Verdict
from sen2chain.remote import Access

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider: which assets of an item are which bands, how its files are fetched, what it says of the offset."""

    name: str
    """Short name, as ``earth-search``."""
    title: str
    """Name in tables and sentences."""
    catalogues: tuple[str, ...] = ()
    """Hosts of its catalogues."""
    address: str = ""
    """Address of its catalogue, which its name stands for; empty where it has none."""
    collections: tuple[str, ...] = ()
    """Collections that this value is for; empty for any."""
    files: Literal["COG", "JP2", ""] = ""
    """Format of its files; empty where it differs."""
    marks: tuple[str, ...] = ()
    """Hosts and buckets (``s3://eodata``) of its files, which tell whose an item of an unknown catalogue is."""
    assets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Band or quality raster -> names of its asset, the preferred one first. The spelling of capitals does not
    matter."""
    access: Access = field(default_factory=Access)
    """How its files are fetched."""
    names: tuple[str, ...] = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "_private.product_name")
    """Properties that hold the name of the product, the preferred one first; then come the item's title and id."""
    baselines: tuple[str, ...] = ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline")
    """Properties that hold the processing baseline (``05.09``)."""
    rule: Verdict = Verdict.UNDECIDED
    """What the documentation of the collection says of the offset in digital numbers."""
    settled: bool = False
    """Whether the rule holds for all items."""
    flags: tuple[str, ...] = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
    """Properties that are true where the offset has been subtracted."""
    lists_offsets: bool = True
    """Whether the offsets that assets list (extension raster) tell of it."""
    offset: str = ""
    """What is known of the offset, for the table of providers."""
    keys: str = ""
    """Keys that reading needs, for the table of providers; empty for none."""
    documentation: str = ""
    """Address of the documentation."""
    tried: str = ""
    """Where it was tried against the real server; empty where it never was."""


_COMMON_NAMES = {
    "B02": ("blue",),
    "B03": ("green",),
    "B04": ("red",),
    "B05": ("rededge1",),
    "B06": ("rededge2",),
    "B07": ("rededge3",),
    "B08": ("nir",),
    "B8A": ("nir08",),
    "B11": ("swir16",),
    "B12": ("swir22",),
    "SCL": ("scl",),
}
_BAND_NAMES = {band: (band,) for band in _COMMON_NAMES}
_NATIVE = {
    "B02": "B02_10m",
    "B03": "B03_10m",
    "B04": "B04_10m",
    "B05": "B05_20m",
    "B06": "B06_20m",
    "B07": "B07_20m",
    "B08": "B08_10m",
    "B8A": "B8A_20m",
    "B11": "B11_20m",
    "B12": "B12_20m",
    "SCL": "SCL_20m",
}

COMMON_BANDS = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "swir16": "B11",
    "swir22": "B12",
}
"""Common name of STAC's extension eo that only one band has -> that band; ``rededge`` is three of them."""

EARTH_SEARCH = Provider(
    name="earth-search",
    title="Earth Search, sentinel-2-l2a",
    catalogues=("earth-search.aws.element84.com",),
    address="https://earth-search.aws.element84.com/v1",
    collections=("sentinel-2-l2a",),
    files="COG",
    marks=("sentinel-cogs.s3.us-west-2.amazonaws.com", "s3://sentinel-cogs"),
    assets=_COMMON_NAMES,
    # Its assets "red-jp2" and so on lie in a bucket in Frankfurt whose readers pay, s3://sentinel-s2-l2a.
    access=Access(
        region="eu-central-1",
        requester_pays=True,
        allowed=("sentinel-cogs.s3.us-west-2.amazonaws.com", "s3://sentinel-s2-l2a"),
    ),
    rule=Verdict.SUBTRACTED,
    lists_offsets=False,  # -0.1 whether subtracted or not
    offset="subtracted, but its flags contradict the pixels: decided for each item",
    documentation="https://earth-search.aws.element84.com/v1/collections/sentinel-2-l2a",
)
"""Cloud-optimized GeoTIFFs of the bucket sentinel-cogs.

The offset: https://github.com/Element84/earth-search/issues/66 and 71, where items with
``earthsearch:boa_offset_applied: false`` have had it subtracted, while on others it is still in.
"""

EARTH_SEARCH_C1 = Provider(
    name="earth-search-c1",
    title="Earth Search, sentinel-2-c1-l2a",
    catalogues=("earth-search.aws.element84.com",),
    address="https://earth-search.aws.element84.com/v1",
    collections=("sentinel-2-c1-l2a",),
    files="COG",
    marks=("e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com", "s3://e84-earth-search-sentinel-data"),
    # "cloud" is the file CLD_20m.tif: ESA's MSK_CLDPRB_20m.
    assets={**_COMMON_NAMES, "CLDPRB": ("cloud",)},
    access=Access(allowed=("e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com",)),
    rule=Verdict.INCLUDED,
    settled=True,
    offset="included, as ESA delivers them",
    documentation="https://earth-search.aws.element84.com/v1/collections/sentinel-2-c1-l2a",
)
"""Cloud-optimized GeoTIFFs of ESA's Collection 1 (baseline 05.00 and later), with the cloud probability."""

PLANETARY_COMPUTER = Provider(
    name="planetary-computer",
    title="Planetary Computer, sentinel-2-l2a",
    catalogues=("planetarycomputer.microsoft.com",),
    address="https://planetarycomputer.microsoft.com/api/stac/v1",
    collections=("sentinel-2-l2a",),
    files="COG",
    marks=("sentinel2l2a01.blob.core.windows.net",),
    assets=_BAND_NAMES,
    access=Access(signing="planetary-computer", allowed=("sentinel2l2a01.blob.core.windows.net",)),
    rule=Verdict.INCLUDED,
    settled=True,
    offset="included, as ESA delivers them",
    keys="none (tokens are asked for and renewed)",
    documentation="https://planetarycomputer.microsoft.com/dataset/sentinel-2-l2a",
)
"""Cloud-optimized GeoTIFFs on Azure, which are read with a token of their container that expires within the hour."""

CDSE = Provider(
    name="cdse",
    title="Copernicus Data Space Ecosystem, sentinel-2-l2a",
    catalogues=("stac.dataspace.copernicus.eu", "catalogue.dataspace.copernicus.eu"),
    address="https://stac.dataspace.copernicus.eu/v1",
    collections=("sentinel-2-l2a",),
    files="JP2",
    marks=("s3://eodata",),
    # Not every item may have CLD_20m, ESA's MSK_CLDPRB_20m; masks that need it say so then.
    assets={**{band: (key,) for band, key in _NATIVE.items()}, "CLDPRB": ("CLD_20m", "MSK_CLDPRB_20m")},
    # Its quotas allow four connections at a time, and 50,000 requests a month:
    # https://documentation.dataspace.copernicus.eu/Quotas.html
    access=Access(
        signing="s3",
        at_once=4,
        endpoint="https://eodata.dataspace.copernicus.eu",
        region="default",
        allowed=("s3://eodata", "eodata.dataspace.copernicus.eu"),
    ),
    rule=Verdict.INCLUDED,
    settled=True,
    offset="included, as ESA delivers them",
    keys="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of https://eodata-s3keysmanager.dataspace.copernicus.eu",
    documentation="https://documentation.dataspace.copernicus.eu/APIs/STAC.html",
)
"""ESA's own JPEG 2000 files in the bucket eodata; an item's id is the name of the product."""

GENERIC = Provider(
    name="generic",
    title="Any other catalogue",
    assets={
        **{
            band: (band, key, *_COMMON_NAMES[band], f"{band.replace('B0', 'B')}", f"{band}-{key[-3:]}")
            for band, key in _NATIVE.items()
        },
        "CLDPRB": ("CLDPRB", "MSK_CLDPRB_20m", "CLDPRB_20m", "CLD_20m", "CLD"),
    },
    offset="by flag, offsets of the assets and pixels: decided for each item",
)
"""Usual names of assets: of bands (``B04``, ``B04_10m``), or common names (``red``)."""

PROVIDERS = (EARTH_SEARCH, EARTH_SEARCH_C1, PLANETARY_COMPUTER, CDSE, GENERIC)
"""All of them; `GENERIC`, the last, is for the rest."""

DEFAULT_COLLECTION = "sentinel-2-l2a"
"""Collection of an API that is searched where the user names none."""


def provider_named(name: str) -> Provider | None:
    """Return the provider of a name that stands for the address of its catalogue; None for any other text."""
    return next((one for one in PROVIDERS if one.address and one.name == name.strip().lower()), None)


def provider_of(host: str, collection: str, files: str = "") -> Provider:
    """Return the provider of an item; `GENERIC` for an unknown one.

    Parameters
    ----------
    host
        Host of the catalogue; empty for a file on disk.
    collection
        Collection of the item; empty if it has none.
    files
        Host or bucket (``s3://eodata``) of one of the item's files.
    """
    known = PROVIDERS[:-1]
    for provider in known:
        if host in provider.catalogues and (collection or DEFAULT_COLLECTION) in provider.collections:
            return provider
    return next((provider for provider in known if files in provider.marks), GENERIC)
