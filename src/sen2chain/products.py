"""Products of an archive: their names, the parts of an acquisition, and the protocols of a source and its details."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from sen2chain.errors import UnreadableError, escaped
from sen2chain.sensor import SENTINEL2, Sensor

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sen2chain.raster_form import RasterForm
    from sen2chain.raster_tags import RasterTags
    from sen2chain.reasons import Reason
    from sen2chain.remote import Access

    Footprint = tuple[tuple[float, float], ...]
    """Corners of an outline as (longitude, latitude) in degrees (WGS 84), the last equal to the first."""


@dataclass(frozen=True, slots=True, order=True)
class ProductId:
    """Name of one product, taken apart; its sensor says how it is read and written."""

    platform: str
    """Satellite, as in ``S2A``."""
    sensing: dt.datetime
    """Sensing start (UTC, no zone, to the second): the date of every row of this product."""
    baseline: int
    """Processing baseline times 100: 214 for N0214, 400 for N0400."""
    orbit: int
    """Relative orbit; 1 to 143 for Sentinel-2."""
    tile: str
    """Tile, as in ``40KCB``: the MGRS name without the leading T."""
    generation: str
    """Generation discriminator, as in ``20210107T084533``."""
    sensor: Sensor = field(default=SENTINEL2, compare=False, repr=False)
    """The sensor."""

    @classmethod
    def parse(cls, text: str, sensor: Sensor = SENTINEL2) -> Self:
        """Read a product name; for Sentinel-2 with or without ``.SAFE`` or ``.zip`` behind it, in capitals or not.

        Raises
        ------
        RequestError
            If `text` is not a product name of the sensor, or a part of it has a value that it cannot have.
        """
        return cls(*sensor.naming.read(text), sensor)

    @property
    def baseline_rank(self) -> int:
        """Rank of the baseline among several of one acquisition: itself, or 0 where it is not the agency's."""
        return self.baseline if self.baseline in self.sensor.official_baselines else 0

    def __str__(self) -> str:
        return self.sensor.naming.write(self)


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle that products are searched for in."""

    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top, in units of `crs`; x is the longitude where that is geographic."""
    crs: str
    """Coordinate reference system, as ``EPSG:32632`` or WKT."""
    margin: float = 0.0
    """Metres that the rectangle grows by on each side."""
    parts: tuple[tuple[float, float, float, float], ...] = ()
    """Smaller rectangles, in units of `crs`, that hold together what lies in this one, where that is spread out; they
    grow by `margin` too. Empty where the rectangle itself is small."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rasters of a source are read."""

    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    """GDAL options beside those of `sen2chain.rasters.GDAL_OPTIONS`, as ``GDAL_HTTP_MAX_RETRY``."""
    at_once: int | None = None
    """Products that are read at once where the user does not say; None for as many as there are processors."""
    file_systems: tuple[str, ...] = ()
    """GDAL's virtual file systems that locations may begin with, as ``/vsimem/``; zip files and files on disk need
    none."""
    access: Access | None = None
    """How remote files (``https://``, ``s3://``) are fetched; None where none may be read."""
    kind: str = "archive"
    """What sentences call the source."""


LOCAL = Reading()
"""How files on disk and in zip files are read."""


@dataclass(frozen=True, slots=True)
class Radiometry:
    """From digital numbers to surface reflectance: ``(DN + offsets[band]) / quantification``."""

    quantification: float
    """DN per unit of reflectance."""
    offsets: Mapping[str, float]
    """Band name -> offset in DN; 0.0 for every band of a product without offsets."""
    note: str = field(default="", compare=False)
    """A sentence for the report on how they were found out; usually empty."""


class Details(Protocol):
    """Facts about one product that its source knows beside the locations of rasters.

    Details are small and can be pickled: they travel with a task to the worker that reads the product.
    """

    @property
    def has_radiometry(self) -> bool:
        """Whether `radiometry` can be asked for, so that bands can be turned into reflectance."""
        ...

    @property
    def has_checksums(self) -> bool:
        """Whether the product lists checksums of its files."""
        ...

    @property
    def inputs(self) -> Mapping[str, str]:
        """Role -> location of files that rows depend on beside rasters: ``metadata``."""
        ...

    def radiometry(self) -> Radiometry:
        """Read the scale and the offsets of the digital numbers.

        Raises
        ------
        UnreadableError
            If they are missing, or cannot be read.
        """
        ...

    def remembered_radiometry(self) -> Radiometry | None:
        """Return scale and offsets without reading metadata again that have kept size and time; None if not known."""
        ...

    def cloud_cover(self) -> float | None:
        """Return the cloud cover in percent, None where it is not known or cannot be read."""
        ...

    def footprint(self) -> Footprint | None:
        """Return the outline of the data, None where it is not known or cannot be read."""
        ...

    def tags(self, location: str) -> RasterTags | None:
        """Return the tags of a stored raster of the product, which tell how it was made; None where it has none."""
        ...

    def form(self, location: str) -> RasterForm | None:
        """Return the form of a stored raster of the product as its header tells it; None where it is not known."""
        ...

    def verifier(self) -> Callable[[str], None] | None:
        """Return a function that compares the file at a location with its checksum; None without checksums.

        The function raises `UnreadableError` where the file is not as it was delivered, or cannot be read. Files
        without a checksum pass.
        """
        ...


@dataclass(frozen=True, slots=True)
class KnownDetails:
    """Details that are given as values, without any file; by default nothing is known."""

    known_radiometry: Radiometry | None = None
    """Scale and offsets; None where bands cannot be turned into reflectance."""
    known_cloud_cover: float | None = None
    """Cloud cover in percent."""
    known_footprint: Footprint | None = None
    """Outline of the data."""

    @property
    def has_radiometry(self) -> bool:
        """Whether scale and offsets were given."""
        return self.known_radiometry is not None

    @property
    def has_checksums(self) -> bool:
        """Whether there are checksums: no."""
        return False

    @property
    def inputs(self) -> Mapping[str, str]:
        """Files that rows depend on beside rasters: none."""
        return {}

    def radiometry(self) -> Radiometry:
        """Return the given scale and offsets.

        Raises
        ------
        UnreadableError
            If none were given.
        """
        if self.known_radiometry is None:
            raise UnreadableError("The scale and the offsets of the product's digital numbers are not known.")
        return self.known_radiometry

    def remembered_radiometry(self) -> Radiometry | None:
        """Return the given scale and offsets; None where none were given."""
        return self.known_radiometry

    def cloud_cover(self) -> float | None:
        """Return the given cloud cover."""
        return self.known_cloud_cover

    def footprint(self) -> Footprint | None:
        """Return the given outline."""
        return self.known_footprint

    def tags(self, location: str) -> None:  # noqa: ARG002  # no file is opened
        """Return None: nothing is known of stored rasters."""
        return

    def form(self, location: str) -> None:  # noqa: ARG002  # no file is opened
        """Return None: nothing is known of stored rasters."""
        return

    def verifier(self) -> None:
        """Return None: there are no checksums."""
        return


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One product and the locations of its rasters; nothing has been opened yet.

    All locations are texts that GDAL opens (``/vsizip/...`` for a zipped product). Parts that the archive lacks are
    absent.
    """

    id: ProductId
    """The product."""
    details: Details = KnownDetails()
    """Scale and offsets of the digital numbers, cloud cover, checksums."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """``B02`` ... ``B12``, ``SCL``, ``CLDPRB`` -> location."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """Mask suffix as it stands in the file name (``CM003-PRB1-ITER5``, ``OCM_v1_8_1``) -> location."""
    indices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Index name -> locations of the unmasked raster (``.tif`` before ``.jp2``)."""
    masked: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(index name, mask suffix) -> location of the masked raster."""
    remark: str = field(default="", compare=False)
    """Why the product's own folder gives no bands, or not all, a clause: that it is empty, that they are GeoTIFFs."""
    reading: Reading = field(default=LOCAL, compare=False)
    """How the rasters are read."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the archive that is not a usable product, and why."""

    name: str
    """File or folder name, escaped where it is not printable."""
    tile: str
    """The tile's folder it was found in, or an empty text."""
    reason: Reason
    """Usually `Reason.UNSUPPORTED_NAME`."""
    detail: str
    """One sentence."""

    def __post_init__(self) -> None:
        for name in ("name", "detail"):
            object.__setattr__(self, name, escaped(getattr(self, name)))


ABSENT = -1
"""Size of a file that is not there."""
OF_PARTS = "parts:"
"""Beginning of a digest that only parts of a file's content went into."""


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """What a source knows of a file without reading it, to tell later whether it has changed.

    Two tokens with the same name and size are of the same file if their times are equal, or if their contents are.
    """

    name: str
    """Its name, which sentences show."""
    size: int = ABSENT
    """Bytes (0 where the source does not know); `ABSENT` where there is no such file."""
    time: int = 0
    """Time of the last change in nanoseconds, 0 where the source does not know."""
    content: str = ""
    """Text that changes with the content: a checksum, an entity tag, a version; or a digest that begins with
    `OF_PARTS`. Empty where the content was not looked at."""
    status: int = 0
    """Time of the last change of anything about the file; it tells of changes within a run, and no copy has it."""

    @property
    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.size != ABSENT

    @property
    def is_whole(self) -> bool:
        """Whether the content decides, and not the time."""
        return bool(self.content) and not self.content.startswith(OF_PARTS)


@runtime_checkable
class Source(Protocol):
    """Where products come from: a folder tree, a folder of SAFE products, memory, or a catalogue.

    Only sources know files, addresses and metadata; other modules pass locations on to GDAL.
    """

    def describe(self) -> str:
        """Say in a few words what and where this is, for messages and the JSON beside results."""
        ...

    @property
    def reading(self) -> Reading:
        """How its rasters are read; the `Acquisition.reading` of its products is the same."""
        ...

    def tiles(
        self, area: Area | None = None, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted.

        Tiles away from `area`, and tiles without a product from `first` to `last`, may be left out.
        """
        ...

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None, area: Area | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id.

        Products that do not meet `area` may be left out.
        """
        ...

    def skipped(self) -> Sequence[Skipped]:
        """List what the calls so far found and could not use."""
        ...

    def identify(
        self, locations: Iterable[str], contents: Collection[str] | None = None
    ) -> Mapping[str, IdentityToken]:
        """Look at files and return a token for each location.

        Parameters
        ----------
        locations
            Locations of rasters, or of `Details.inputs`.
        contents
            Those of them whose whole content has to be in the token; None leaves it to the source.
        """
        ...

    def digest(self, location: str) -> str:
        """Return a text that is equal for copies of a file, with `OF_PARTS` before it; empty where there is none."""
        ...

    def save(self) -> None:
        """Keep what was found out about products, so that a later run need not; where nothing is kept, do nothing."""
        ...
