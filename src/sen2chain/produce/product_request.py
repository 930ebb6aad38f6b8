"""What a run is to produce: one frozen value that checks itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from sen2chain.errors import RequestError, choice, quoted, real_number, whole_number
from sen2chain.indices import Index, resolve_indices
from sen2chain.masks import NO_MASK, Mask
from sen2chain.parallel import MOST_WORKERS
from sen2chain.plan import parse_date
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    import datetime as dt

    from sen2chain.products import Acquisition

MaskFormat = Literal["tif", "jp2"]

_COARSEST = 1.0
"""Largest precision in units of an index."""
_MODEL_RESOLUTIONS = (10, 20)


@dataclass(frozen=True, slots=True)
class ProductRequest:
    """What is to be produced.

    Raises
    ------
    RequestError
        If nothing is asked for, or a value cannot be used.
    """

    indices: tuple[Index, ...] = ()
    """Indices to write as rasters."""
    masks: tuple[Mask, ...] = ()
    """Masks to write; OCM asks for the model. ``none`` is refused."""
    masked: bool = False
    """Whether each index is written under each mask too, as ``<id>_<INDEX>_<MASK>.tif``."""
    quicklooks: bool = False
    """Whether pictures are made: of the true colour and of each index, with the first mask hatched."""
    tiles: tuple[str, ...] | None = None
    """Tiles; None means all of the source."""
    first: dt.date | None = None
    """First sensing date."""
    last: dt.date | None = None
    """Last sensing date."""
    cover: tuple[float, float] = (0, 100)
    """Smallest and largest cloud cover of a product, in percent; products without a figure are kept."""
    precision: float = 0.0
    """Step that index values are rounded to, in units of the index; 0 keeps all of them."""
    mask_format: MaskFormat = "tif"
    """Format of masks."""
    force: bool = False
    """Whether all files are made again, also those of another formula or resolution."""
    verify: bool = False
    """Whether files of products are compared with their checksums before they are read."""
    workers: int = 0
    """Products that are worked on at once; 0 for as many as there are processors and memory for."""
    model_resolution: int = 10
    """Edge of a pixel that OmniCloudMask sees, in metres: 10 or 20."""

    def __post_init__(self) -> None:
        if not (self.indices or self.masks or self.quicklooks):
            raise RequestError("Nothing is asked for; name an index, as NDVI, a mask, as CM004, or quicklooks.")
        object.__setattr__(self, "indices", resolve_indices(self.indices) if self.indices else ())
        object.__setattr__(self, "masks", tuple(dict.fromkeys(self.masks)))
        items: list[Index | Mask] = [*self.indices, *self.masks]
        for item in items:
            if item.sensor != SENTINEL2:
                raise RequestError(f"{item.name} is made for {item.sensor.name}; rasters are produced for Sentinel-2.")
        if any(mask.family == NO_MASK for mask in self.masks):
            raise RequestError("The mask none masks nothing, so there is no raster of it; leave it out.")
        if self.masked and not (self.indices and self.masks):
            raise RequestError("Masked index rasters need at least one index and one mask.")
        self._check_numbers()
        choice("format of masks", self.mask_format, get_args(MaskFormat))
        for name in ("first", "last"):
            value = getattr(self, name)
            object.__setattr__(self, name, parse_date(name, value))

    def takes(self, acquisition: Acquisition) -> bool:
        """Whether a product's cloud cover is within the limits; products without a figure are taken."""
        low, high = self.cover
        if low <= 0 and high >= 100:
            return True
        cover = acquisition.details.cloud_cover()
        return cover is None or low <= cover <= high

    def _check_numbers(self) -> None:
        """Check numbers, and make them plain ones."""
        low, high = (real_number("cloud cover", value, 0, 100, "percentages") for value in self.cover)
        if low > high:
            raise RequestError(f"The smallest cloud cover {low:g} is above the largest, {high:g}; swap them.")
        object.__setattr__(self, "cover", (low, high))
        precision = real_number("precision", self.precision, 0, _COARSEST, "0 for all digits, or steps")
        for index in self.indices:
            step = precision * index.scale
            if precision and (step < 1 or abs(step - round(step)) > 1e-6):
                raise RequestError(
                    f"precision is {precision:g}, and {index.name} is stored in steps of {1 / index.scale:g}; allowed: "
                    "a whole multiple of that step, as 0.001."
                )
        object.__setattr__(self, "precision", precision)
        object.__setattr__(self, "workers", whole_number("workers", self.workers, 0, MOST_WORKERS, "0 for all, or"))
        if self.model_resolution not in _MODEL_RESOLUTIONS:
            raise RequestError(f"resolution is {quoted(self.model_resolution)}; allowed: 10 or 20 metres.")
