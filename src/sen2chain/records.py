"""Frozen values that all modules share: product id, acquisition, reasons, and the source Protocol."""

from __future__ import annotations

import datetime as dt
import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from sen2chain.errors import RequestError, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

ROW_COLUMNS = (
    "date",
    "fid",
    "tile",
    "filename",
    "count",
    "nodata",
    "nbcld",
    "cldprb",
    "min",
    "max",
    "mean",
    "std",
    "median",
    "percentile_25",
    "percentile_75",
)
"""Columns of a row, in order, as users of the CSV files know them."""

RESERVED_COLUMNS = frozenset((*ROW_COLUMNS, "completeness", "mask", "reason"))
"""Names an attribute of the layer may not have in a result; it is written as ``attr_<name>``."""

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


class Reason(enum.StrEnum):
    """Why a feature has no row for an acquisition. The value is the column name in the report."""

    NULL_GEOMETRY = "null_geometry"
    EMPTY_GEOMETRY = "empty_geometry"
    BUFFERED_AWAY = "buffered_away"
    OUTSIDE_TILE = "outside_tile"
    OUTSIDE_RASTER = "outside_raster"
    NO_PIXEL = "no_pixel_centre_inside"
    NO_DATA = "no_data"
    CLOUD = "cloud"
    MIN_VALID = "below_min_valid"
    SUPERSEDED = "superseded"
    INDEX_INPUTS_MISSING = "index_inputs_missing"
    MASK_INPUTS_MISSING = "mask_inputs_missing"
    GRID_MISMATCH = "grid_mismatch"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    UNSUPPORTED_NAME = "unsupported_name"
    CHANGED = "changed_while_read"

    @property
    def sentence(self) -> str:
        """The reason as people read it."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NULL_GEOMETRY: "the feature has no geometry",
    Reason.EMPTY_GEOMETRY: "the feature's geometry is empty, has no area, or cannot be used",
    Reason.BUFFERED_AWAY: "nothing is left of the feature after the negative buffer",
    Reason.OUTSIDE_TILE: "the feature lies outside the tile",
    Reason.OUTSIDE_RASTER: "the feature lies in the tile but outside the raster",
    Reason.NO_PIXEL: "no pixel centre lies inside the feature (pixels='weighted' or 'all_touched' gives it a value)",
    Reason.NO_DATA: "the product has no data on the feature",
    Reason.CLOUD: "the cloud mask removed every valid pixel of the feature",
    Reason.MIN_VALID: "the share of valid pixels is below min_valid",
    Reason.SUPERSEDED: "another tile, baseline or part of the same acquisition gave the better row",
    Reason.INDEX_INPUTS_MISSING: "the archive has neither the index nor the bands to compute it",
    Reason.MASK_INPUTS_MISSING: "the archive has neither the mask nor the rasters to compute it",
    Reason.GRID_MISMATCH: "the product has another grid or CRS than its tile",
    Reason.UNREADABLE: "a file of the product cannot be read",
    Reason.FAILED: "the product failed each of the three times it was tried",
    Reason.UNSUPPORTED_NAME: "the product's name is not of the form used since December 2016",
    Reason.CHANGED: "a file of the product was changed while it was read",
}


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


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one output gave: the rows of one index under one mask of one acquisition, and what it did not give."""

    index: str
    """Name of the index."""
    mask: str
    """Name of the mask."""
    product: ProductId
    """The product."""
    filename: str
    """``<L2A id>_<INDEX>_<MASK>.jp2``, whatever the values were read from."""
    columns: Mapping[str, npt.NDArray[np.generic]]
    """Column -> (rows,) array: ``fid`` first, ascending; ``reason`` is a position in `Reason`, or -1 with values."""
    reasons: Mapping[Reason, int]
    """How many features have no row, by reason."""
    value_source: str = ""
    """What served the values."""
    mask_source: str = ""
    """What served the mask."""
    error: str = ""
    """One sentence on what went wrong or is missing."""

    @property
    def rows(self) -> int:
        """Number of rows with values."""
        return int((self.columns["reason"].astype("int8") < 0).sum())


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
