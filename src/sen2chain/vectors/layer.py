"""A layer as the other rooms use it: geometry, attributes, CRS, identity."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import pyproj
import shapely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

LINE_BREAKS = r"[\t\r\n]"
"""Characters that attributes lose, so that a row is one line whatever separates its columns."""

_MULTI = (4, 5, 6, 7)  # shapely's type ids
_ONE_CENTIMETRE = 7  # decimals of a degree, also the precision of GeoJSON files after RFC 7946
_ONE_MILLIMETRE = 3  # decimals of a metre


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer; arrays are indexed by ``fid``, the position of a feature from 0."""

    name: str
    """Stem of result files: the file's stem, ``<stem>-<layer>`` for one of several layers."""
    path: Path | None
    """The user's file, None for a GeoDataFrame."""
    crs: str
    """``EPSG:4326`` where an authority's code matches exactly, else WKT; coordinates are in x, y order."""
    load: Callable[[], np.ndarray]
    """Gives `geometry`. Geometries of a saved layer are only read when something asks for them."""
    bounds: np.ndarray
    """(n, 4) of float64: left, bottom, right, top; NaN where a feature has no place."""
    attributes: pd.DataFrame
    """Attributes (n rows, RangeIndex) in the layer's order, under the names they have in results."""
    repaired: tuple[int, ...] = ()
    """fids whose rings were repaired."""
    null: tuple[int, ...] = ()
    """fids without geometry."""
    empty: tuple[int, ...] = ()
    """fids whose geometry is empty, from the start or after the repair."""
    saved: Path | None = None
    """Where the layer is kept in a form that other processes can load, see `sen2chain.vectors.saved`."""
    known_identity: str | None = None
    """`identity`, where it is known without the geometries."""
    outside: tuple[str, ...] = ()
    """Attributes that take no part in the layer's identity: what its format keeps beside the attributes proper."""
    notes: tuple[str, ...] = ()
    """Sentences on how the layer was read, for the user."""
    encoding: str | None = None
    """The encoding of texts that the user gave."""
    given_crs: str | None = None
    """The CRS that the user gave."""
    own_name: str | None = None
    """What `name` would be if the user had not given one; tells the layers of a file apart."""

    @classmethod
    def of(cls, geometry: np.ndarray, crs: str, *, name: str = "layer", **options: Any) -> Self:
        """Make a layer of geometries in memory.

        Parameters
        ----------
        geometry
            Shapely geometries (n,), 2-D, polygons valid; None where null.
        crs
            Their CRS.
        name
            Stem of result files.
        options
            Other fields; without `attributes` features have none.
        """
        shapes = np.array(geometry, dtype=object)
        shapes.flags.writeable = False
        options.setdefault("path", None)
        options.setdefault("attributes", pd.DataFrame(index=pd.RangeIndex(len(shapes))))
        return cls(
            name=name,
            crs=crs,
            load=lambda: shapes,
            bounds=shapely.bounds(shapes),
            null=_positions(shapely.is_missing(shapes)),
            empty=_positions(shapely.is_empty(shapes)),
            **options,
        )

    def __len__(self) -> int:
        return len(self.bounds)

    def handed_out(self) -> Self:
        """Return the layer for somebody who may change it: what is changed there does not change it here."""
        bounds = self.bounds.view()
        bounds.flags.writeable = False
        other = replace(self, attributes=own_copy(self.attributes), bounds=bounds)
        other.__dict__.update({name: self.__dict__[name] for name in ("geometry", "identity") if name in self.__dict__})
        return other

    @cached_property
    def geometry(self) -> np.ndarray:
        """Shapely geometries (n,), 2-D, polygons valid; None where null. Read-only."""
        return self.load()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 (hex) of CRS and geometry, to the last bit: the key of anything rasterised from them."""
        return self.known_identity or _digest(self.crs, self.geometry).hexdigest()

    @cached_property
    def content_identity(self) -> str:
        """The SHA-256 (hex) of CRS, geometry and attributes in a form that survives a change of format.

        Left out is what converting a layer changes: direction and start of rings, single against multi, null
        against empty, coordinates below 1 mm (1 cm in degrees), column names (a shapefile cuts them to ten
        characters), number types.
        """
        single = np.isin(shapely.get_type_id(self.geometry), _MULTI) & (shapely.get_num_geometries(self.geometry) == 1)
        shapes = np.where(single, shapely.get_geometry(self.geometry, 0), self.geometry)
        shapes[shapely.is_empty(shapes)] = None
        decimals = _ONE_CENTIMETRE if pyproj.CRS(self.crs).is_geographic else _ONE_MILLIMETRE
        rounded = shapely.transform(shapes, lambda xy: np.round(xy, decimals) + 0.0)  # + 0.0: -0.0 becomes 0.0
        digest = _digest(self.crs, shapely.normalize(rounded))
        for name in self.attributes_proper:
            digest.update("\x1f".join(canonical(self.attributes[name])).encode() + b"\x1e")
        return digest.hexdigest()

    @property
    def attributes_proper(self) -> pd.DataFrame:
        """The attributes that take part in the layer's identity."""
        return self.attributes.drop(columns=list(self.outside))


# Until then, pandas shares the memory of shallow copies unless it is asked not to, and changes in one are in the other.
_COPIES_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3


def own_copy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame that can be changed without changing `frame`; its memory is shared where pandas can do that."""
    copy = frame.copy(deep=not _COPIES_ON_WRITE)
    copy.index, copy.columns = frame.index.view(), frame.columns.view()  # whose names can be changed in place
    return copy


def of_features(fids: Sequence[int], total: int, what: str) -> str:
    """Say something of some of a layer's features.

    Parameters
    ----------
    fids
        The features it is true of.
    total
        Features of the layer.
    what
        What they are or have, as in ``are empty``.
    """
    some = ", ".join(map(str, fids[:10])) + (", ..." if len(fids) > 10 else "")
    return f"{len(fids)} of {total} features {what} (fid {some})."


def _positions(flags: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(flags).tolist())


def canonical(column: pd.Series[Any]) -> Iterator[str]:
    """Write the values of an attribute so that 1, 1.0 and True, or None and an empty text, are the same."""
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        yield from map(str, column.tolist())  # to the last digit of an identifier
    elif str(column.dtype) in {"Int64", "UInt64", "boolean"}:  # beside a null
        yield from ("" if value is pd.NA else str(value) for value in column)
    elif pd.api.types.is_numeric_dtype(column):
        for number in column.to_numpy(dtype=float, na_value=np.nan).tolist():
            yield "" if np.isnan(number) else str(int(number)) if number.is_integer() else f"{number:.12g}"
    else:
        for value in column.astype(object):
            yield one_line(value) or ""


def _digest(crs: str, geometry: np.ndarray) -> hashlib._Hash:
    digest = hashlib.sha256(crs.encode())
    digest.update(b"".join(b"-" if shape is None else shape for shape in shapely.to_wkb(geometry, byte_order=1)))
    return digest


def one_line(value: object) -> str | None:
    """Write a value as text on one line; None where it says nothing."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return re.sub(LINE_BREAKS, "", value if isinstance(value, str) else str(value))
