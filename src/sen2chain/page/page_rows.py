"""Rows of one index under one mask for a page: for each feature its dates, and a number for each statistic of each.

Rows are kept one after the other, by feature, then date, so that a date without a row costs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.errors import RequestError, UnknownNameError, items_of, shown
from sen2chain.page.encoding import packed, positions, quantised

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sen2chain.index_series import IndexSeries

    Fids = npt.NDArray[np.int64]

FULL = ("mean", "std", "median", "percentile_25", "percentile_75")
"""Statistics of a page where they fit."""
SHORT = ("mean", "std")
"""Statistics of a page that would be large with all of `FULL`."""

_IN_INDEX_UNITS = re.compile(r"mean|std|median|min|max|range|mad|percentile_.+")
_BYTES_PER_ROW = 2.2  # date and valid share, compressed and as base64
_BYTES_PER_VALUE = 2.3


def statistics_of(wanted: Any, schema: pa.Schema) -> tuple[str, ...]:
    """Return the statistics that a user names, the mean first, which every page has.

    Raises
    ------
    RequestError
        If one is not a column of the rows, or not in index units.
    """
    known = [name for name in schema.names if _IN_INDEX_UNITS.fullmatch(name)]
    names = (
        [wanted]
        if isinstance(wanted, str)
        else [shown(name) for name in items_of("statistics", wanted, "['mean', 'std']")]
    )
    for name in names:
        if name not in known:
            raise UnknownNameError("statistic", name, known)
    if not names:
        raise RequestError("statistics is empty; name some, as mean and std.")
    return tuple(dict.fromkeys(("mean", *names)))


def estimated_size(rows: float, statistics: int) -> float:
    """Return about how many bytes rows take in a page."""
    return rows * (_BYTES_PER_ROW + _BYTES_PER_VALUE * statistics)


@dataclass(frozen=True, eq=False)
class PageRows:
    """The rows of some features, by feature, then date."""

    feature: npt.NDArray[np.int64]
    """(rows,) position of the feature among the chosen ones."""
    times: npt.NDArray[np.int64]
    """(rows,) seconds since 1970."""
    numbers: dict[str, npt.NDArray[np.float64]]
    """Statistic -> (rows,) in index units."""
    valid: npt.NDArray[np.uint8]
    """(rows,) valid share of the pixels, percent."""
    tiles: npt.NDArray[np.int64]
    """(pairs, 2) feature and position in `tile_names`, each pair once, sorted."""
    tile_names: tuple[str, ...]
    """Tiles of the rows and of the acquisitions."""
    scale: float
    """Stored steps of the index per unit."""

    @classmethod
    def read(cls, series: IndexSeries, fids: Fids, statistics: Sequence[str]) -> PageRows:
        """Read the rows with a value.

        Parameters
        ----------
        series
            The index under the mask.
        fids
            The chosen features, ascending.
        statistics
            Names of columns in index units.
        """
        position = np.full(len(series.features.names), -1, dtype=np.int64)
        position[fids] = np.arange(len(fids))
        tiles = {name: place for place, name in enumerate(series.days)}
        pieces = [_piece(table, position, statistics, tiles) for table in series.tables()]

        def joined(name: str, kind: type) -> npt.NDArray[Any]:
            return np.concatenate([np.zeros(0, kind), *(piece[name] for piece in pieces)]).astype(kind)

        feature = joined("fid", np.int64)
        pairs = np.unique(np.column_stack([feature, joined("tile", np.int64)]), axis=0)
        return cls(
            feature,
            joined("date", np.int64),
            {name: joined(name, np.float64) / series.scale for name in statistics},
            np.rint(100.0 * joined("share", np.float64)).astype(np.uint8),
            pairs,
            tuple(tiles),
            float(series.index.scale),
        )

    def packed(self, features: int, days: Sequence[npt.NDArray[np.int64]]) -> dict[str, Any]:
        """Pack the rows.

        Parameters
        ----------
        features
            Number of chosen features.
        days
            For each of `tile_names`: seconds of its acquisitions, ascending.

        Returns
        -------
        dict
            ``dates``: seconds, ascending, of all rows and acquisitions. Packed arrays: ``counts`` rows of each feature,
            ``when`` position in ``dates`` of each row, ``valid``, and each statistic in ``values``, with its
            ``perUnit``. ``tiles``: positions in ``dates`` of each tile's acquisitions; ``groups``: lists of tiles;
            ``group``: the list of each feature, packed.
        """
        dates = np.unique(np.concatenate([self.times, *days]))
        values = {}
        for name, numbers in self.numbers.items():
            steps = quantised(numbers, self.scale)
            values[name] = {"perUnit": steps.per_unit, **packed(steps.numbers)}
        groups, group = self._groups(features)
        return {
            "dates": dates.tolist(),
            "counts": packed(np.bincount(self.feature, minlength=features).astype(np.uint32)),
            "when": packed(positions(np.searchsorted(dates, self.times))),
            "valid": packed(self.valid),
            "values": values,
            "tiles": [packed(positions(np.searchsorted(dates, times))) for times in days],
            "groups": groups,
            "group": packed(group),
        }

    def _groups(self, features: int) -> tuple[list[list[int]], npt.NDArray[Any]]:
        """Return the different lists of tiles, and which of them each feature lies in; the first is of no tile."""
        found: dict[tuple[int, ...], int] = {(): 0}
        starts = np.searchsorted(self.tiles[:, 0], np.arange(features + 1)).tolist()
        tiles = self.tiles[:, 1].tolist()
        group = [found.setdefault(tuple(tiles[begin:end]), len(found)) for begin, end in pairwise(starts)]
        return [list(tiles) for tiles in found], positions(np.array(group, dtype=np.int64))


def _piece(
    table: pa.Table, position: npt.NDArray[np.int64], statistics: Sequence[str], tiles: dict[str, int]
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of the rows that have a value and are of a chosen feature; new tiles are added to `tiles`."""
    columns = {name: _numbers(table.column(name)) for name in ("count", "nodata", *statistics)}
    fid = position[table.column("fid").to_numpy()]
    chosen = (fid >= 0) & np.isfinite(columns["mean"]) & (columns["count"] > 0)
    seconds = table.column("date").cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
    encoded = pc.dictionary_encode(table.column("tile").cast(pa.string()).combine_chunks())
    codes = [tiles.setdefault(str(name), len(tiles)) for name in encoded.dictionary.to_pylist()]
    count, nodata = columns.pop("count")[chosen], columns.pop("nodata")[chosen]
    return {
        "fid": fid[chosen],
        "date": seconds[chosen],
        "tile": np.array(codes, dtype=np.int64)[encoded.indices.to_numpy()[chosen]],
        "share": count / (count + np.nan_to_num(nodata)),
        **{name: numbers[chosen] for name, numbers in columns.items()},
    }


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def seconds_of(days: Iterator[Any]) -> list[npt.NDArray[np.int64]]:
    """Return times, (n,) of datetime64 each, as seconds since 1970."""
    return [np.asarray(times).astype("datetime64[s]").astype(np.int64) for times in days]
