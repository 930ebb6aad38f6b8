"""Products of an archive: their names, what an acquisition consists of, and the protocol of their sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from sen2chain.errors import escaped
from sen2chain.sensor import SENTINEL2, Sensor

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sen2chain.reasons import Reason


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
class Acquisition:
    """One product and where its parts lie; nothing has been opened yet.

    All locations are texts that GDAL opens (``/vsizip/...`` for a zipped product). Whatever the archive lacks
    is simply absent.
    """

    id: ProductId
    """The product."""
    metadata: str | None = None
    """Location of ``MTD_MSIL2A.xml``."""
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
    manifest: str | None = field(default=None, compare=False)
    """Location of ``manifest.safe``, the list of the product's files with their checksums."""


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


class Source(Protocol):
    """Where products come from: a folder tree, a folder of SAFE products, later a catalogue."""

    def describe(self) -> str:
        """Say in a few words what and where this is, for messages and the JSON beside results."""
        ...

    def tiles(self) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted."""
        ...

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id."""
        ...

    def skipped(self) -> Sequence[Skipped]:
        """List what the calls so far found and could not use."""
        ...
