"""A layer as the rest of the package uses it: geometry, attributes, CRS, identity."""

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

from sen2chain.parallel import closed, in_threads, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

LINE_BREAKS = r"[\t\r\n]"
"""Characters that are removed from attributes, so that a row is one line with any separator of columns."""

_AT_ONCE = 1 << 14  # geometries whose content is looked at by one thread
_BREAK = re.compile(LINE_BREAKS)
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
    """Where the layer is kept in a form that other processes can load, see `sen2chain.vectors.layer_cache`."""
    known_identity: str | None = None
    """`identity`, where it is known without the geometries."""
    outside: tuple[str, ...] = ()
    """Attributes that are left out of the layer's identity: columns that its format keeps beside the user's own."""
    notes: tuple[str, ...] = ()
    """Sentences on how the layer was read, for the user."""
    encoding: str | None = None
    """The encoding of texts that the user gave."""
    given_crs: str | None = None
    """The CRS that the user gave."""
    own_name: str | None = None
    """Stem from the file and the layer's name, without the name that the user gave; tells layers of a file apart."""

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
        """Return a copy to hand to users: changes of its attributes do not change this layer."""
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
        return self.known_identity or hashlib.sha256(self.crs.encode() + _wkb(self.geometry)).hexdigest()

    @cached_property
    def content_identity(self) -> str:
        """The SHA-256 (hex) of CRS, geometry and attributes in a form that survives a change of format.

        Properties that a conversion changes are left out: direction and start of rings, single against multi, null
        against empty, coordinates below 1 mm (1 cm in degrees), column names (a shapefile cuts them to ten
        characters), number types.
        """
        decimals = _ONE_CENTIMETRE if pyproj.CRS(self.crs).is_geographic else _ONE_MILLIMETRE
        digest = hashlib.sha256(self.crs.encode())
        parts = (self.geometry[at : at + _AT_ONCE] for at in range(0, len(self), _AT_ONCE))
        with closed(in_threads(lambda shapes: _wkb(_normal(shapes, decimals)), parts, workers())) as pieces:
            for piece in pieces:
                digest.update(piece)
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
    """Write a sentence on some of a layer's features.

    Parameters
    ----------
    fids
        The features.
    total
        Features of the layer.
    what
        The predicate, as in ``are empty``.
    """
    some = ", ".join(map(str, fids[:10])) + (", ..." if len(fids) > 10 else "")
    return f"{len(fids)} of {total} features {what} (fid {some})."


def _positions(flags: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(flags).tolist())


def canonical(column: pd.Series[Any]) -> list[str]:
    """Write the values of an attribute as texts; 1, 1.0 and True give the same text, as do None and an empty text."""
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return list(map(str, column.tolist()))  # to the last digit of an identifier
    if str(column.dtype) in {"Int64", "UInt64", "boolean"}:  # beside a null
        return ["" if value is pd.NA else str(value) for value in column]
    if pd.api.types.is_numeric_dtype(column):
        return _numbers(column.to_numpy(dtype=float, na_value=np.nan))
    known = column.fillna("") if isinstance(column.dtype, pd.StringDtype) else column
    values = ["" if v is None else v if type(v) is str else one_line(v) or "" for v in known.astype(object).tolist()]
    # Almost all are on one line already, which is soon known of all of them together.
    return [_BREAK.sub("", value) for value in values] if _BREAK.search("".join(values)) else values


def _numbers(numbers: np.ndarray) -> list[str]:
    """Write whole numbers with all digits, others with twelve, and NaN as an empty text."""
    text = np.full(len(numbers), "", dtype=object)
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    small = whole & (np.abs(numbers) < 2.0**63)
    for chosen, write in (
        (small, lambda found: map(str, found.astype(np.int64).tolist())),
        (whole & ~small, lambda found: (str(int(number)) for number in found.tolist())),
        (~whole & ~np.isnan(numbers), lambda found: (f"{number:.12g}" for number in found.tolist())),
    ):
        text[chosen] = list(write(numbers[chosen]))
    return text.tolist()


def _normal(geometry: np.ndarray, decimals: int) -> np.ndarray:
    """Normalise geometries, so that those which count as the same content are equal."""
    shapes = geometry.copy()
    single = np.isin(shapely.get_type_id(shapes), _MULTI) & (shapely.get_num_geometries(shapes) == 1)
    shapes[single] = shapely.get_geometry(shapes[single], 0)
    shapes[shapely.is_empty(shapes)] = None
    rounded: np.ndarray = shapely.transform(shapes, lambda xy: np.round(xy, decimals) + 0.0)  # + 0.0: -0.0 becomes 0.0
    return np.asarray(shapely.normalize(rounded))


def _wkb(geometry: np.ndarray) -> bytes:
    shapes = shapely.to_wkb(geometry, byte_order=1)
    shapes[shapely.is_missing(geometry)] = b"-"
    return b"".join(shapes.tolist())


def one_line(value: object) -> str | None:
    """Write a value as text on one line; None for a null."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return _BREAK.sub("", value if isinstance(value, str) else str(value))
