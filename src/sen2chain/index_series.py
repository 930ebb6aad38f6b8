"""Series of one index under one mask, with the features that they belong to: what pictures, pages and maps are made of.

`IndexSeries` gives the rows by feature, then date, and the dates on which a feature has none. `LayerFeatures` knows the
names of features for people and for files, and finds the features that a user asks for.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.errors import RequestError, items_of, quoted
from sen2chain.report import BROKEN, LACKING
from sen2chain.vectors import to_pandas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.indices import Index
    from sen2chain.report import Report
    from sen2chain.vectors import Layer

    Dates = npt.NDArray[np.datetime64]
    Fids = npt.NDArray[np.int64]

_LONGEST_KEY = 60  # bytes, so that names of files with layer, index and dates stay far below 255
_UNFIT = re.compile(r"[^\w.-]+")
_WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_UNKNOWN_SHOWN = 5
_DIGITS = 18  # of a fid that is given as a text


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """The features of a layer, and their names."""

    layer: Layer
    """The layer."""
    attributes: pd.DataFrame
    """Attributes (n rows), with the names that they have in results."""
    id_field: str | None = None
    """The attribute, by its name in results, that is the user's own key; None where there is none."""
    name_fields: tuple[str, ...] = ()
    """The attributes, by their names in results, that name a feature in pictures."""

    @property
    def name(self) -> str:
        """Stem of result files."""
        return self.layer.name

    @property
    def geometry(self) -> np.ndarray:
        """Shapely geometries (n,), None where null."""
        return self.layer.geometry

    @property
    def crs(self) -> str:
        """CRS of the geometries."""
        return self.layer.crs

    def __len__(self) -> int:
        return len(self.layer)

    @cached_property
    def names(self) -> list[str]:
        """Name of each feature: its `name_fields`, else its `id_field`; ``fid 7`` where these are empty.

        The fid is added to a name that several features have, as in ``maize (fid 7)``.
        """
        counts = Counter(self._plain_names)
        return [name if counts[name] == 1 else f"{name} (fid {fid})" for fid, name in enumerate(self._plain_names)]

    @cached_property
    def _plain_names(self) -> list[str]:
        """Names as the attributes give them."""
        fields = self.name_fields or ((self.id_field,) if self.id_field else ())
        parts = [_texts(self.attributes[field]) for field in fields]
        joined = [" ".join(filter(None, words)) for words in zip(*parts, strict=True)] if parts else [""] * len(self)
        return [text or f"fid {fid}" for fid, text in enumerate(joined)]

    @cached_property
    def keys(self) -> list[str]:
        """Key of each feature as a part of a file name: unique, also where upper and lower case are the same.

        It is the `id_field`, else the name, else the fid; ``_<fid>`` is added where another feature has the same.
        """
        texts = _texts(self.attributes[self.id_field]) if self.id_field else [""] * len(self)
        plain = [fit_for_files(text or name) for text, name in zip(texts, self._plain_names, strict=True)]
        if not self.id_field and not self.name_fields:
            plain = [str(fid) for fid in range(len(self))]
        common = Counter(key.casefold() for key in plain)
        own = [key if common[key.casefold()] == 1 else f"{key}_{fid}" for fid, key in enumerate(plain)]
        again = Counter(key.casefold() for key in own)  # "a_1" may be the key of another feature
        return [key if again[key.casefold()] == 1 else f"{key}_{fid}" for fid, key in enumerate(own)]

    @cached_property
    def repeated(self) -> list[str]:
        """Values of `id_field` that several features have, as texts; empty where each has its own."""
        if self.id_field is None:
            return []
        counts = Counter(_texts(self.attributes[self.id_field]))
        return [text for text, count in counts.items() if count > 1]

    def find(self, features: Any) -> Fids:
        """Return the fids of features that a user names, in the order in which they are named, each once.

        Parameters
        ----------
        features
            One or several values of `id_field` where the user has given one, else fids; or names of features, as texts.
            None means all.

        Raises
        ------
        RequestError
            If one of them is not in the layer; the message names it.
        """
        if features is None:
            return np.arange(len(self), dtype=np.int64)
        single = isinstance(features, str | bytes) or np.ndim(features) == 0
        wanted = [features] if single else items_of("features", features, "[3, 7]")
        by_text: dict[str, list[int]] = {}
        for texts in (self._plain_names, *([_texts(self.attributes[self.id_field])] if self.id_field else [])):
            for fid, text in enumerate(texts):
                by_text.setdefault(text, []).append(fid)
        found: dict[int, None] = {}
        unknown = []
        for value in wanted:
            fids = self._fids_of(value, by_text)
            found.update(dict.fromkeys(fids))
            if not fids:
                unknown.append(quoted(value))
        if unknown:
            what = f"value of {self.id_field}" if self.id_field else f"fid (0 to {len(self) - 1}) or name"
            some = ", ".join(unknown[:_UNKNOWN_SHOWN]) + (", ..." if len(unknown) > _UNKNOWN_SHOWN else "")
            raise RequestError(f"features: the layer {self.name} has no feature with the {what} {some}.")
        return np.array(list(found), dtype=np.int64)

    def _fids_of(self, value: Any, by_text: Mapping[str, Sequence[int]]) -> Sequence[int]:
        """Return the features that one value names; an empty sequence where it names none."""
        if isinstance(value, str):
            digits = not self.id_field and value not in by_text and value.isdecimal() and len(value) <= _DIGITS
            return (int(value),) if digits and int(value) < len(self) else by_text.get(value, ())
        if self.id_field is not None:
            return by_text.get(_text(value), ())
        is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return (int(value),) if is_number and 0 <= value < len(self) else ()


@dataclass(frozen=True, eq=False)
class IndexSeries:
    """The rows of one index under one mask."""

    index: Index
    """The index."""
    mask: str
    """Name of the mask."""
    features: LayerFeatures
    """The features."""
    scale: float
    """Row values per index unit: 10000, or 1 where rows are in index units."""
    schema: pa.Schema
    """Columns of the rows, attributes included."""
    tables: Callable[[], Iterator[pa.Table]]
    """Gives the rows by fid, then date, a piece of the layer at a time; a feature's rows are all in one piece."""
    rows: int
    """Number of rows."""
    days: Mapping[str, Dates]
    """Tile -> times of its acquisitions that were used without a fault, ascending, datetime64[s]."""

    def frame(self, fids: Iterable[int] | None = None) -> pd.DataFrame:
        """Return the rows of some features, None for all, by fid, then date; ``date`` is a column."""
        tables: Iterator[pa.Table] = self.tables()
        if fids is not None:
            chosen = pa.array(sorted({int(fid) for fid in fids}), pa.int64())
            tables = (table.filter(pc.is_in(table.column("fid"), value_set=chosen)) for table in tables)
        frame: pd.DataFrame = to_pandas(pa.concat_tables([self.schema.empty_table(), *tables]))
        return frame

    def dates_without_values(self, rows: pd.DataFrame) -> Dates:
        """Return the acquisitions of which a feature has no value: clouds cover it, or there is no data.

        Parameters
        ----------
        rows
            All rows of one feature.

        Returns
        -------
        numpy.ndarray
            datetime64[s], ascending: times of acquisitions of the tiles that the rows are of, on days without a value.
            Without any row the tiles are not known, and all acquisitions are returned.
        """
        known = rows[rows["mean"].notna()]
        tiles = [tile for tile in rows["tile"].unique() if tile in self.days] or list(self.days)
        times = [self.days[tile] for tile in tiles]
        every = np.unique(np.concatenate([*times, np.array([], "datetime64[s]")]))
        seen = known["date"].to_numpy().astype("datetime64[D]")
        return every[~np.isin(every.astype("datetime64[D]"), seen)]


def days_of(report: Report, index: str, mask: str) -> dict[str, Dates]:
    """Return the times of the acquisitions of each tile that an index under a mask was read from without a fault."""
    found: dict[str, set[np.datetime64]] = {}
    faults = [report.counts[reason.value] for reason in (*BROKEN, *LACKING)]
    for line, date in enumerate(report.dates):
        is_own = report.texts["index"][line] == index and report.texts["mask"][line] == mask
        if is_own and date is not None and not any(counts[line] for counts in faults):
            found.setdefault(report.texts["tile"][line], set()).add(np.datetime64(date, "s"))
    return {tile: np.array(sorted(times), "datetime64[s]") for tile, times in found.items()}


def fit_for_files(text: str) -> str:
    """Turn a text into a part of a file name that all systems take: letters, digits, ``_ . -``, at most 60 bytes."""
    plain = _UNFIT.sub("_", unicodedata.normalize("NFC", text)).strip("._")
    plain = plain.encode("utf-8", "replace")[:_LONGEST_KEY].decode("utf-8", "ignore").rstrip("._")
    if not plain:
        return "_"
    return f"_{plain}" if _WINDOWS.fullmatch(plain) or os.fsencode(plain).startswith(b"-") else plain


def _texts(column: pd.Series[Any]) -> list[str]:
    """Return the values of an attribute as texts for people; whole numbers are without a point, nulls are empty."""
    return [_text(value) for value in column.tolist()]


def _text(value: Any) -> str:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    number = float(value) if isinstance(value, float | np.floating) else np.nan
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return str(value)
