"""Sensors as frozen values, and the one that ships: Sentinel-2.

A `Sensor` holds bands with their resolution, digital numbers without a measurement, quality rasters with their classes
or bits, product names and the tile grid. Other modules ask it. This is the only module that reads and writes ESA's
names of products and of the files in a SAFE folder.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Protocol

from sen2chain.errors import RequestError, shown

Integers = Literal["uint8", "uint16", "int16"]
"""Types of stored values, by their names in numpy."""

SENSING_FORMAT = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class Band:
    """One spectral band."""

    name: str
    """As it stands in formulas and in file names."""
    resolution: int
    """Edge of a pixel in metres."""
    served: bool = True
    """Whether its surface reflectance is read, so that formulas may use it."""


@dataclass(frozen=True, slots=True)
class QualityRaster:
    """One raster beside the bands, with the class, the flags or the cloud probability of each pixel."""

    name: str
    """As it stands in the names of masks, and as products list it."""
    resolution: int
    """Edge of a pixel in metres."""
    kind: Literal["classes", "bits", "percent"]
    """Kind of its values: numbers of classes, sets of bits, or percentages from 0 to 100."""
    labels: tuple[str, ...] = ()
    """Meaning of each class or bit, by its number."""
    dtype: Integers = "uint8"
    """Type of its values."""
    title: str = ""
    """Its name in sentences, where that is not `name`."""
    nodata: int | None = None
    """The class of pixels without data; None where it has no such class."""


class NameParts(NamedTuple):
    """Name of a product, taken apart; `sen2chain.products.ProductId` describes the fields."""

    platform: str
    sensing: dt.datetime
    baseline: int
    orbit: int
    tile: str
    generation: str


class Named(Protocol):
    """A product, or the parts of its name."""

    @property
    def platform(self) -> str: ...  # noqa: D102  # see `NameParts`
    @property
    def sensing(self) -> dt.datetime: ...  # noqa: D102
    @property
    def baseline(self) -> int: ...  # noqa: D102
    @property
    def orbit(self) -> int: ...  # noqa: D102
    @property
    def tile(self) -> str: ...  # noqa: D102
    @property
    def generation(self) -> str: ...  # noqa: D102


class Naming(Protocol):
    """Names of the products of a sensor: the protocol that reads and writes them."""

    def read(self, text: str) -> NameParts:
        """Read a product name.

        Raises
        ------
        RequestError
            If `text` is not one; the message shows an example.
        """
        ...

    def write(self, product: Named) -> str:
        """Return the name of a product; `read` gives the same parts again."""
        ...

    def find(self, text: str) -> str | None:
        """Return the last product name that stands between ``_`` in a text, None where there is none.

        A name of the right form whose numbers are impossible counts, so `read` may refuse it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tiling:
    """The tiles that products are cut into: squares around those of the Military Grid Reference System (MGRS)."""

    edge: float
    """Edge of a tile in metres."""
    step: int
    """Metres: corners of tiles are multiples of it, so that pixels of all resolutions share their edges."""
    pattern: str
    """Regular expression of a tile's name: zone, latitude band, column and row."""


@dataclass(frozen=True, slots=True, repr=False)
class Sensor:
    """Facts that all products of a sensor share. Two values of one name are equal."""

    name: str
    """Its name in sentences."""
    bands: tuple[Band, ...] = field(compare=False)
    """By wavelength, which is also the order in which metadata count them."""
    quality: tuple[QualityRaster, ...] = field(compare=False)
    """The quality rasters."""
    naming: Naming = field(compare=False)
    """Names of products."""
    tiling: Tiling | None = field(default=None, compare=False)
    """The tile grid; None where a raster has to be opened to know where a tile lies."""
    classification: str | None = field(default=None, compare=False)
    """The quality raster with classes, whose shares of a polygon are a statistic."""
    cloud_probability: str | None = field(default=None, compare=False)
    """The quality raster with the probability of cloud in percent, for the column ``cldprb``."""
    true_colour: tuple[str, ...] = field(default=(), compare=False)
    """The bands of red, green and blue, for pictures; empty where there are no such bands."""
    near_infrared: tuple[str, ...] = field(default=(), compare=False)
    """The bands in which vegetation is brightest, the finest first."""
    metadata: str = field(default="", compare=False)
    """The file of a product that lists the offsets and the scale of its digital numbers, for sentences."""
    dtype: Integers = field(default="uint16", compare=False)
    """Type of digital numbers (DN)."""
    nodata: int = field(default=0, compare=False)
    """DN of a pixel without data."""
    saturated: int | None = field(default=None, compare=False)
    """DN of a saturated pixel, which counts as one without data; None where there is none."""
    official_baselines: range = field(default=range(1 << 31), compare=False)
    """Processing baselines (times 100) of the agency; all others rank below them."""
    baselines_with_offsets: range = field(default=range(0), compare=False)
    """Processing baselines (times 100) whose metadata must list the offset of each band."""
    cycle: int = field(default=0, compare=False)
    """Days after which a satellite passes over the same places again; 0 where that is not known."""

    @property
    def served(self) -> tuple[Band, ...]:
        """The bands that formulas may use, by wavelength."""
        return tuple(band for band in self.bands if band.served)

    @property
    def finest(self) -> int:
        """Edge in metres of the smallest pixels of `served`: those of the grid that values are computed on."""
        return min(band.resolution for band in self.served)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands by wavelength, and then of the quality rasters."""
        return (*(band.name for band in self.bands), *(raster.name for raster in self.quality))

    def band(self, name: str) -> Band | None:
        """Return a served band by its name; None where there is none of this name."""
        return next((band for band in self.bands if band.name == name and band.served), None)

    def quality_raster(self, name: str | None) -> QualityRaster | None:
        """Return a quality raster by its name; None where there is none of this name."""
        return next((raster for raster in self.quality if raster.name == name), None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Meaning of each class of `classification`, by its number; empty where there is none."""
        raster = self.quality_raster(self.classification)
        return () if raster is None else raster.labels

    def is_finest(self, name: str) -> bool:
        """Whether a band has the smallest pixels."""
        band = self.band(name)
        return band is not None and band.resolution == self.finest

    def dtype_of(self, name: str) -> Integers:
        """Return the type of the values of a band or a quality raster."""
        raster = self.quality_raster(name)
        return self.dtype if raster is None else raster.dtype

    def has_offsets(self, baseline: float) -> bool:
        """Whether metadata of a processing baseline (4.0 for 04.00) must list offsets."""
        span = self.baselines_with_offsets
        return span.start <= baseline * 100 < span.stop

    def __repr__(self) -> str:
        return f"<Sensor {self.name}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle `SENTINEL2` as its name, so that ids, masks and indices stay small on their way to workers."""
        if self is SENTINEL2:
            return "SENTINEL2"
        return Sensor, tuple(getattr(self, f.name) for f in fields(self))


def check_sensor(sensor: object) -> Sensor:
    """Return a sensor that was given from outside.

    Raises
    ------
    RequestError
        If it is another kind of value.
    """
    if not isinstance(sensor, Sensor):
        raise RequestError(f"sensor is {shown(sensor)}; pass a Sensor, as sen2chain.sensor.SENTINEL2.")
    return sensor


# ---------------------------------------------------------------------------------------------------------- Sentinel-2

_MGRS = r"([0-9]{2})([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])"
_PRODUCT = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL2A_(?P<sensing>\d{8}T\d{6})_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})"
    rf"_T(?P<tile>{_MGRS})_(?P<generation>\d{{8}}T\d{{6}})",
    re.ASCII,  # digits of other scripts are digits for `int`, but not in a name
)
_INSIDE = re.compile(r"(?<=_)S2[A-Z]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\w{5}_\d{8}T\d{6}(?=_)", re.ASCII)
_LIKE_PRODUCT = re.compile(r"S2[A-Z]_|S2_|MSIL[12]|SENTINEL-?2|\.SAFE", re.IGNORECASE)
_SUFFIX = re.compile(r"(\.SAFE)?(\.zip)?\Z", re.IGNORECASE)
_YEARS = range(2015, 2100)  # the first satellite was launched in June 2015
_ORBITS = range(1, 144)
_ZONES = range(1, 61)


@dataclass(frozen=True, slots=True)
class EsaNaming:
    """ESA's names of L2A products since December 2016, the compact form."""

    example: str = "S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533"
    """A name, for messages."""
    beginning: str = "S2"
    """The first letters of all names."""

    def read(self, text: str) -> NameParts:
        """Read a product name, with or without ``.SAFE`` or ``.zip`` behind it, in capitals or not.

        Raises
        ------
        RequestError
            If `text` is not an L2A product name of the compact form, or a part of it has a value that it cannot have.
        """
        return _name_parts(text)

    def write(self, product: Named) -> str:
        """Return the name of a product, without ``.SAFE``."""
        # Many times faster than `strftime`; an archive's names are written by the hundred thousand.
        sensing = product.sensing.isoformat(timespec="seconds").replace("-", "").replace(":", "")
        return (
            f"{product.platform}_MSIL2A_{sensing}_N{product.baseline:04d}"
            f"_R{product.orbit:03d}_T{product.tile}_{product.generation}"
        )

    def find(self, text: str) -> str | None:
        """Return the last product name that stands between ``_`` in a text, see `Naming.find`."""
        found = _INSIDE.findall(f"_{text}")
        return found[-1] if found else None

    def resembles(self, text: str) -> bool:
        """Whether a name looks like that of a Sentinel-2 product of any level and form."""
        return _LIKE_PRODUCT.search(text) is not None

    def is_level_1c(self, text: str) -> bool:
        """Whether a name is that of a Level-1C product, which has no surface reflectance."""
        return "MSIL1C" in text


@functools.lru_cache(maxsize=1 << 13)  # an archive has each name several times: of the SAFE folder, masks, indices
def _name_parts(text: str) -> NameParts:
    """Read a product name, see `EsaNaming.read`."""
    match = _PRODUCT.fullmatch(_SUFFIX.sub("", text))
    if match is None:
        raise RequestError(f"'{text}' is not the name of an L2A product, like {ESA_NAMING.example}.")
    sensing, generated = _time(match["sensing"]), _time(match["generation"])
    if sensing is None:
        raise RequestError(f"'{text}' has no valid sensing date ({match['sensing']}).")
    if generated is None:
        raise RequestError(f"'{text}' has no valid generation date ({match['generation']}).")
    baseline, orbit = int(match["baseline"]), int(match["orbit"])
    if orbit not in _ORBITS:
        raise RequestError(f"'{text}' has no valid relative orbit ({match['orbit']}; there are 1 to 143).")
    if int(match["tile"][:2]) not in _ZONES:
        raise RequestError(f"'{text}' has no valid tile ({match['tile']}; UTM zones are 01 to 60).")
    return NameParts(match["platform"], sensing, baseline, orbit, match["tile"], match["generation"])


def _time(text: str) -> dt.datetime | None:
    """Read a time of a product name, None where it is not one of Sentinel-2's.

    A row's date is written without zone; all times of the archive are UTC.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.year in _YEARS else None


ESA_NAMING = EsaNaming()
"""The names of Sentinel-2's products."""

MGRS_TILES = Tiling(109800.0, 60, _MGRS)
"""The tiles of Sentinel-2: 10980 pixels of 10 m along an edge."""

SENTINEL2 = Sensor(
    name="Sentinel-2",
    bands=(
        Band("B01", 60, served=False),
        Band("B02", 10),
        Band("B03", 10),
        Band("B04", 10),
        Band("B05", 20),
        Band("B06", 20),
        Band("B07", 20),
        Band("B08", 10),
        Band("B8A", 20),
        Band("B09", 60, served=False),
        Band("B10", 60, served=False),  # cirrus, of which there is no surface reflectance
        Band("B11", 20),
        Band("B12", 20),
    ),
    quality=(
        QualityRaster(
            "SCL",
            20,
            "classes",
            (
                "no data",
                "saturated or defective",
                "dark",
                "cloud shadow",
                "vegetation",
                "bare",
                "water",
                "unclassified",
                "cloud, medium probability",
                "cloud, high probability",
                "thin cirrus",
                "snow or ice",
            ),
            nodata=0,
        ),
        QualityRaster("CLDPRB", 20, "percent", title="MSK_CLDPRB_20m"),
    ),
    naming=ESA_NAMING,
    tiling=MGRS_TILES,
    classification="SCL",
    cloud_probability="CLDPRB",
    true_colour=("B04", "B03", "B02"),
    near_infrared=("B08", "B8A"),
    metadata="MTD_MSIL2A.xml",
    nodata=0,
    saturated=65535,
    # Sen2Cor at home says 99.99, some providers say 00.01; ESA's began with 02.00.
    official_baselines=range(200, 9000),
    # Products made at home with Sen2Cor call their baseline 99.99; they list offsets where they have them.
    baselines_with_offsets=range(400, 9900),
    cycle=10,
)
"""Sentinel-2, Level 2A."""


# ----------------------------------------------------------------------------------------------- files in a SAFE folder


_SERVED = {band.name: band.resolution for band in SENTINEL2.served} | {"SCL": 20}
# Names that begin with a dot are leavings of file managers ("._T32TPS_..._B02_10m.jp2"), not rasters.
_RASTER = re.compile(
    r"GRANULE/(?P<granule>[^/]+)/(?:"
    r"IMG_DATA/R(?P<metres>10|20)m/[^/.][^/]*_(?P<band>B[0-9][0-9A]|SCL)_(?P=metres)m"
    r"|QI_DATA/(?P<cloud>MSK_CLDPRB|[^/.][^/]*_CLD)_20m"
    r")\.(?P<suffix>jp2|tiff?)",
    re.IGNORECASE,
)
# ESA's names of bands begin with the tile and the sensing time of their product.
_STAMPED = re.compile(r"(?:L2A_)?T(?P<tile>[0-9]{2}[A-Z]{3})_(?P<time>[0-9]{8}T[0-9]{6})_", re.IGNORECASE)
# Names of unfinished downloads and of copies of rasters.
_LIKE_RASTER = re.compile(
    r"GRANULE/[^/]+/IMG_DATA/R(?P<metres>10|20)m/"
    r"(?P<name>[^/.][^/]*_(?P<band>B[0-9][0-9A]|SCL)_(?P=metres)m(?!\.tiff?\Z)[^/]*)(?<!\.aux\.xml)",
    re.IGNORECASE,
)


class SafeRaster(NamedTuple):
    """A raster of a SAFE folder, as its path says."""

    granule: str
    """Its folder below ``GRANULE``."""
    band: str
    """The band or quality raster."""
    suffix: str
    """``jp2``, ``tif`` or ``tiff``, as it is written."""


@dataclass(frozen=True, slots=True)
class SafeLayout:
    """Names of the files in a SAFE folder; paths are relative to it, with ``/`` between their parts."""

    metadata: str = "MTD_MSIL2A.xml"
    """The metadata of a product."""
    metadata_level_1c: str = "MTD_MSIL1C.xml"
    """The metadata of a Level-1C product."""
    manifest: str = "manifest.safe"
    """The list of a product's files with their checksums."""
    folders: tuple[str, ...] = ("IMG_DATA/R10m", "IMG_DATA/R20m", "QI_DATA")
    """The folders of a granule with rasters that are read."""
    images: str = "IMG_DATA/R10m and R20m"
    """Those of the bands, for sentences."""

    def raster(self, path: str) -> SafeRaster | None:
        """Read the path of a raster; None where it is not one that is read, or has another resolution than is read."""
        match = _RASTER.fullmatch(path)
        if match is None:
            return None
        if match["cloud"]:  # some baselines have the probability under both names
            return SafeRaster(match["granule"], "CLDPRB", match["suffix"])
        band = match["band"].upper()
        if _SERVED.get(band) != int(match["metres"]):
            return None
        return SafeRaster(match["granule"], band, match["suffix"])

    def misnamed(self, path: str) -> tuple[str, str] | None:
        """Return band and file name of a path that is almost that of a raster, as of an unfinished download."""
        match = _LIKE_RASTER.fullmatch(path)
        if match is None or _SERVED.get(match["band"].upper()) != int(match["metres"]):
            return None
        return match["band"].upper(), match["name"]

    def documented(self, band: str, product: Named | None) -> str | None:
        """Return the file name that ESA gives a raster of a product; None where it depends on an unknown product."""
        if self.has_two_names(band):
            return "MSK_CLDPRB_20m.jp2"
        if product is None:
            return None
        return f"T{product.tile}_{product.sensing.strftime(SENSING_FORMAT)}{self.ending(band)}"

    def has_two_names(self, band: str) -> bool:
        """Whether a product may have a raster twice, under two names."""
        return band == "CLDPRB"

    def ending(self, band: str) -> str:
        """Return what the file name of a raster ends in, as ``_B02_10m.jp2``."""
        return f"_{band}_{_SERVED[band]}m.jp2"

    def stamp(self, name: str) -> tuple[str, str] | None:
        """Return tile and sensing time that a raster's file name begins with, in capitals; None without them."""
        match = _STAMPED.match(name)
        return None if match is None else (match["tile"].upper(), match["time"].upper())

    def quality(self, name: str) -> str | None:
        """Return the quality raster that a file kept from a deleted SAFE folder holds; None for other files."""
        if name == "MSK_CLDPRB_20m.jp2":
            return "CLDPRB"
        return "SCL" if name.endswith("_SCL_20m.jp2") else None


SAFE = SafeLayout()
"""The layout of Sentinel-2's products."""
