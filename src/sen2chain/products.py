"""Products of an archive: their names, what an acquisition consists of, and the protocol of their sources."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from sen2chain.errors import RequestError, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sen2chain.reasons import Reason


SENSING_FORMAT = "%Y%m%dT%H%M%S"

_PRODUCT = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL2A_(?P<sensing>\d{8}T\d{6})_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})"
    r"_T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_(?P<generation>\d{8}T\d{6})",
    re.ASCII,  # digits of other scripts are digits for `int`, but not in a name
)
_SUFFIX = re.compile(r"(\.SAFE)?(\.zip)?\Z", re.IGNORECASE)
# Sen2Cor at home says 99.99, some providers say 00.01; ESA's began with 02.00.
_ESA_BASELINES = range(200, 9000)
_YEARS = range(2015, 2100)  # of Sentinel-2, whose first satellite was launched in June 2015
_ORBITS = range(1, 144)
_ZONES = range(1, 61)


@dataclass(frozen=True, slots=True, order=True)
class ProductId:
    """Name of one L2A product, taken apart.

    The text form is that of ESA's naming convention since December 2016, without ``.SAFE``.
    """

    platform: str
    """``S2A``, ``S2B``, ..."""
    sensing: dt.datetime
    """Sensing start (UTC, no zone, to the second): the date of every row of this product."""
    baseline: int
    """Processing baseline times 100: 214 for N0214, 400 for N0400."""
    orbit: int
    """Relative orbit, 1 to 143."""
    tile: str
    """MGRS tile without the leading T, ``40KCB``."""
    generation: str
    """Generation discriminator, ``20210107T084533``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a product name, with or without ``.SAFE`` or ``.zip`` behind it, in capitals or not.

        Raises
        ------
        RequestError
            If `text` is not an L2A product name of the compact form, or a part of it has a value that it cannot have.
        """
        stem = _SUFFIX.sub("", text)
        match = _PRODUCT.fullmatch(stem)
        if match is None:
            example = "S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533"
            raise RequestError(f"'{text}' is not the name of an L2A product, like {example}.")
        sensing, generated = _time(match["sensing"]), _time(match["generation"])
        if sensing is None:
            raise RequestError(f"'{text}' has no valid sensing date ({match['sensing']}).")
        if generated is None:
            raise RequestError(f"'{text}' has no valid generation date ({match['generation']}).")
        if int(match["orbit"]) not in _ORBITS:
            raise RequestError(f"'{text}' has no valid relative orbit ({match['orbit']}; there are 1 to 143).")
        if int(match["tile"][:2]) not in _ZONES:
            raise RequestError(f"'{text}' has no valid tile ({match['tile']}; UTM zones are 01 to 60).")
        return cls(
            match["platform"],
            sensing,
            int(match["baseline"]),
            int(match["orbit"]),
            match["tile"],
            match["generation"],
        )

    @property
    def baseline_rank(self) -> int:
        """The baseline as it ranks among several of one acquisition: 0, below all of ESA's, where it is not ESA's."""
        return self.baseline if self.baseline in _ESA_BASELINES else 0

    def __str__(self) -> str:
        sensing = self.sensing.strftime(SENSING_FORMAT)
        return f"{self.platform}_MSIL2A_{sensing}_N{self.baseline:04d}_R{self.orbit:03d}_T{self.tile}_{self.generation}"


def _time(text: str) -> dt.datetime | None:
    """Read a time of a product name, None where it is not one of Sentinel-2's.

    A row's date is written without zone; all times of the archive are UTC.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.year in _YEARS else None


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
