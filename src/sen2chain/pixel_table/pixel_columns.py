"""Columns of a pixel table: what is collected of each pixel, and how it is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sen2chain.errors import RequestError, UnknownNameError, items_of, shown
from sen2chain.indices import NODATA, SCALE
from sen2chain.masks import NO_MASK

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.plan import Request
    from sen2chain.sensor import Sensor

    Records = npt.NDArray[np.void]

FID, PRODUCT, EPSG, X, Y, DATE, WEIGHT = "fid", "product", "epsg", "x", "y", "date", "weight"
PARTITIONS = ("tile", "month")
"""Columns that the folders of a table hold, from the outermost one."""
_OWN = (FID, *PARTITIONS, PRODUCT, EPSG, X, Y, DATE, WEIGHT)
UNKNOWN = 2
"""What is collected of a mask where it is not known; 1 where it masks, 0 where it does not."""
_TEXT = pa.dictionary(pa.int32(), pa.string())
"""Texts that repeat; pandas reads them as categories, which take little memory."""


@dataclass(frozen=True, slots=True)
class PixelColumns:
    """Columns of a pixel table beside those that name the pixel.

    Raises
    ------
    RequestError
        If two columns would have the same name.
    """

    indices: tuple[Index, ...]
    """Radiometric indices."""
    masks: tuple[Mask, ...]
    """Cloud masks; the mask that masks nothing has no column."""
    bands: tuple[str, ...]
    """Bands whose surface reflectance is written."""
    classification: str | None
    """The quality raster with classes; None where the sensor has none."""
    weighted: bool
    """Whether pixels have weights."""
    in_index_units: bool
    """Whether index values are written as 0.72 instead of 7200."""
    id_field: str = ""
    """Column with the user's own key of features; empty for none."""
    id_type: pa.DataType | None = None
    """Its type."""

    def __post_init__(self) -> None:
        fields = [name for name, _ in self._fields]
        names = Counter(name.lower() for name in fields) + Counter(_OWN) - Counter([WEIGHT] * self.weighted)
        twice = [name for name in fields if names[name.lower()] > 1]
        if twice:
            raise RequestError(
                f"Two columns of the pixel table would be called {twice[-1]}; give the index another name."
            )

    @classmethod
    def of(
        cls, request: Request, bands: object = None, id_field: str = "", id_type: pa.DataType | None = None
    ) -> PixelColumns:
        """Return the columns of a request.

        Parameters
        ----------
        request
            Indices, masks, units and pixel rule.
        bands
            Names of bands, one or several; None takes those of the indices.
        id_field, id_type
            Name and type of the user's own key; it gets ``attr_`` before its name where another column has that.

        Raises
        ------
        UnknownNameError
            If the sensor has no such band.
        RequestError
            If `bands` is another kind of value, or two columns would have the same name.
        """
        sensor = request.sensor
        columns = cls(
            request.indices,
            tuple(mask for mask in request.masks if mask.family != NO_MASK),
            _known_bands(sensor, request.indices, bands),
            sensor.classification,
            request.pixels == "weighted",
            request.units == "index",
        )
        taken = {name.lower() for name in (*_OWN, *(name for name in columns.record_dtype.names or ()))}
        name = id_field
        while name and name.lower() in taken:
            name = f"attr_{name}"
        return cls(
            columns.indices, columns.masks, columns.bands, columns.classification, columns.weighted,
            columns.in_index_units, name, id_type,
        )  # fmt: skip

    def mask_column(self, mask: Mask) -> str:
        """Return the name of the column of a mask: ``masked_CM004``, or in full where there are several of its kind."""
        alone = sum(other.family == mask.family for other in self.masks) == 1
        return f"masked_{mask.family if alone else mask.name.replace('-', '_')}"

    @property
    def record_dtype(self) -> np.dtype[np.void]:
        """Type of what is collected of a pixel: reflectances (NaN for no data), stored index values, masks, class."""
        return np.dtype(self._fields)

    @property
    def _fields(self) -> list[tuple[str, type[np.generic]]]:
        fields: list[tuple[str, type[np.generic]]] = [(band, np.float32) for band in self.bands]
        fields += [(index.name, np.int16) for index in self.indices]
        fields += [(self.mask_column(mask), np.uint8) for mask in self.masks]
        fields += [(self.classification, np.uint8)] if self.classification else []
        return fields + ([(WEIGHT, np.float32)] if self.weighted else [])

    @property
    def schema(self) -> pa.Schema:
        """Columns of a file; tile and month stand in the names of its folders."""
        fields = [_field(FID, pa.int64(), "position of the feature in the layer, from 0")]
        if self.id_field and self.id_type is not None:
            fields.append(_field(self.id_field, self.id_type, "the user's own key of the feature"))
        fields += [
            _field(PRODUCT, _TEXT, "product that the pixel comes from"),
            _field(EPSG, pa.int32(), "EPSG code of the CRS of x and y"),
            _field(X, pa.float64(), "easting of the pixel's centre", "m"),
            _field(Y, pa.float64(), "northing of the pixel's centre", "m"),
            _field(DATE, pa.timestamp("s"), "sensing time (UTC)"),
        ]
        fields += [_field(band, pa.float32(), f"surface reflectance of {band}", "1") for band in self.bands]
        fields += [self._index_field(index) for index in self.indices]
        fields += [_field(self.mask_column(m), pa.bool_(), f"whether {m.name} masks the pixel") for m in self.masks]
        if self.classification:
            fields.append(_field(self.classification, pa.uint8(), "class of the scene classification"))
        if self.weighted:
            fields.append(_field(WEIGHT, pa.float32(), "share of the pixel's area inside the feature", "1"))
        return pa.schema(fields)

    def _index_field(self, index: Index) -> pa.Field:
        title = index.title or index.definition
        if self.in_index_units:
            return _field(index.name, pa.float32(), title, "1")
        kind = pa.int16() if index.scale == SCALE else pa.int32()
        return _field(index.name, kind, f"{title}, times {SCALE}", f"{1 / SCALE:g}")

    def arrays(self, records: Records, missing: Collection[str]) -> dict[str, pa.Array]:
        """Return the columns of collected pixels.

        Parameters
        ----------
        records
            (pixels,) of `record_dtype`.
        missing
            Columns that the product could not give: they are null.
        """
        n, found = len(records), {}
        for band in self.bands:
            values = np.ascontiguousarray(records[band])
            found[band] = pa.array(values, mask=np.isnan(values))
        for index in self.indices:
            stored = np.ascontiguousarray(records[index.name])
            found[index.name] = pa.array(self.in_units(index, stored), mask=stored == NODATA)
        for mask in self.masks:
            name = self.mask_column(mask)
            masked = np.ascontiguousarray(records[name])
            found[name] = pa.array(masked == 1, mask=masked == UNKNOWN)
        for name in filter(None, (self.classification, WEIGHT if self.weighted else None)):
            found[name] = pa.array(np.ascontiguousarray(records[name]))
        return found | {name: pa.nulls(n, self.schema.field(name).type) for name in missing if name in found}

    def in_units(self, index: Index, stored: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
        """Return stored values of an index in the units that are written."""
        if self.in_index_units:
            return (stored / np.float64(index.scale)).astype(np.float32)
        return stored if index.scale == SCALE else stored.astype(np.int32) * (SCALE // index.scale)


def _known_bands(sensor: Sensor, indices: tuple[Index, ...], bands: object) -> tuple[str, ...]:
    """Return the bands asked for, by wavelength where they are those of the indices."""
    served = [band.name for band in sensor.served]
    if bands is None:
        wanted = {band for index in indices for band in index.bands}
        return tuple(name for name in served if name in wanted)
    given = bands.split(",") if isinstance(bands, str) else items_of("bands", bands, '["B04", "B08"]')  # type: ignore[arg-type]  # checked there
    found = []
    for item in given:
        if not isinstance(item, str):
            raise RequestError(f"bands has {shown(item)}; pass names of bands, as {', '.join(served[:2])}.")
        name = item.strip()
        band = sensor.band(name) or sensor.band(name.upper())
        if band is None:
            raise UnknownNameError("band", name, served)
        found.append(band.name)
    return tuple(dict.fromkeys(found))


def _field(name: str, kind: pa.DataType, title: str, units: str = "") -> pa.Field:
    """Return a column with its attributes, named as the CF conventions name them."""
    return pa.field(name, kind, metadata={"long_name": title, **({"units": units} if units else {})})
