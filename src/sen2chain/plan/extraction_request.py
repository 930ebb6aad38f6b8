"""The request of a user as one value, which checks itself."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from sen2chain.coverage import PixelRule
from sen2chain.errors import RequestError, choice, items_of, out_of_range, real_number, truth
from sen2chain.indices import Index, resolve_indices
from sen2chain.masks import NO_MASK, Mask
from sen2chain.sensor import SENTINEL2, Sensor
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Preference = Literal["stored", "masked"]
Units = Literal["scaled", "index"]
Verify = Literal["never", "first"]
Date = dt.date | str | None

MOST_BUFFER = 100_000.0
"""Metres by which features may grow or shrink: about the width of a tile."""

_LIMITS = (
    ("cover_min", 0, 100, "percentages", ""),
    ("cover_max", 0, 100, "percentages", ""),
    ("min_valid", 0, 1, "shares", ", as in 0.8"),
    ("buffer", -MOST_BUFFER, MOST_BUFFER, "metres", f" (at most {MOST_BUFFER:,.0f}, negative to shrink)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Parameters of an extraction, without the layer and the archive."""

    indices: tuple[Index, ...]
    """Radiometric indices."""
    masks: tuple[Mask, ...]
    """Cloud masks; each index is extracted under each."""
    first: dt.date | None = None
    """First sensing date, inclusive; None is open."""
    last: dt.date | None = None
    """Last sensing date, inclusive; None is open."""
    cover_min: float = 0.0
    """Products with a smaller cloud cover (percent) are left out."""
    cover_max: float = 100.0
    """Products with a larger cloud cover (percent) are left out."""
    pixels: PixelRule = "center"
    """Rule that decides which pixels belong to a polygon."""
    buffer: float | None = None
    """Metres by which features grow or shrink."""
    statistics: Statistics = field(default_factory=Statistics)
    """Columns beyond the documented ones."""
    min_valid: float = 0.0
    """Smallest share of valid pixels of a row, 0 to 1."""
    units: Units = "scaled"
    """``scaled`` writes 7200, ``index`` 0.72."""
    keep_empty: bool = False
    """Whether features without valid pixels have rows too."""
    prefer: Preference | None = None
    """Order of sources."""
    verify: Verify = "never"
    """``first``: the files of a product are compared with the checksums that it lists before they are read."""

    def __post_init__(self) -> None:
        for name, low, high, what, more in _LIMITS:
            value = getattr(self, name)
            if not (name == "buffer" and value is None):
                object.__setattr__(self, name, real_number(name, value, low, high, what, more))
        object.__setattr__(self, "keep_empty", truth("keep_empty", self.keep_empty))
        if self.first and self.last and self.first > self.last:
            raise RequestError(f"date_min {self.first} is after date_max {self.last}; swap them.")
        if self.cover_min > self.cover_max:
            raise RequestError(f"cover_min {self.cover_min:g} is above cover_max {self.cover_max:g}; swap them.")
        choice("pixel rule", self.pixels, get_args(PixelRule))
        choice("unit", self.units, get_args(Units))
        choice("verification", self.verify, get_args(Verify))
        if self.prefer is not None:
            choice("preference", self.prefer, get_args(Preference))
        items: list[Index | Mask] = [*self.indices, *(mask for mask in self.masks if mask.family != NO_MASK)]
        for item in items:
            if item.sensor != self.sensor:
                raise RequestError(
                    f"{self.indices[0].name} is made for {self.sensor.name} and {item.name} for {item.sensor.name}; "
                    "extract them in two runs."
                )

    @property
    def sensor(self) -> Sensor:
        """The sensor of all indices and masks."""
        return self.indices[0].sensor if self.indices else SENTINEL2

    @classmethod
    def build(
        cls,
        *,
        indices: Sequence[str | Index] | str | Index | None,
        masks: Iterable[str | Mask] | str | Mask | None,
        keywords: Mapping[str, Any],
        date_min: Date = None,
        date_max: Date = None,
        stats: Iterable[str] | str | None = None,
        **options: Any,
    ) -> Self:
        """Build a request from the documented parameters.

        Parameters
        ----------
        indices
            Names or `Index` values; None means the twelve.
        masks
            Full names, short names (completed by `keywords`) or `Mask` values; None means the mask of `keywords`.
        keywords
            ``cm_version, probability, iterations, cld_shad, cld_med_prob, cld_hi_prob, thin_cir``.
        date_min, date_max
            Dates or ``YYYY-MM-DD``; None or an empty text is open.
        stats
            Extra statistics.
        **options
            The other fields of `Request`.
        """
        found = resolve_indices(indices)
        sensor = found[0].sensor
        return cls(
            indices=found,
            masks=resolve_masks(masks, keywords, sensor),
            first=parse_date("date_min", date_min),
            last=parse_date("date_max", date_max),
            statistics=Statistics.of(stats, sensor),
            **options,
        )


def parse_date(name: str, value: object) -> dt.date | None:
    """Read a date.

    Raises
    ------
    RequestError
        If it is not a date of the calendar.
    """
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, dt.datetime) and value.year == value.year:  # pandas' NaT is a datetime too
        return value.date()
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.datetime.strptime(str(value), "%Y-%m-%d").date()  # noqa: DTZ007  # dates of the archive are UTC
    except ValueError:
        raise out_of_range(name, value, "a date as YYYY-MM-DD, like 2022-06-01") from None


def resolve_masks(
    masks: Iterable[str | Mask] | str | Mask | None, keywords: Mapping[str, Any], sensor: Sensor = SENTINEL2
) -> tuple[Mask, ...]:
    """Turn names into masks of a sensor; `masks` and `keywords` are those of `Request.build`.

    Raises
    ------
    RequestError
        If there is no mask, or a name is unknown.
    """
    if masks is None:
        return (Mask.from_keywords(**keywords, sensor=sensor),)
    given = [masks] if isinstance(masks, str | Mask) else items_of("masks", masks, '"CM004"')
    if not given:
        raise RequestError("No cloud mask is asked for; leave masks out for the documented keywords.")
    found = (
        item if isinstance(item, Mask) else Mask.from_keywords(**{**keywords, "cm_version": item}, sensor=sensor)
        for item in given
    )
    return tuple(dict.fromkeys(found))
