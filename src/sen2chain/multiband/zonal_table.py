"""The statistics of bands as users get them: tables, files, the report and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from sen2chain import export
from sen2chain.atomic import check_folder
from sen2chain.errors import EmptyResultError, choice, escaped
from sen2chain.multiband.wanted_statistics import COUNTS, SHARES
from sen2chain.multiband.zonal_files import SHAPES, conditions_of, planned_report, planned_table
from sen2chain.notebook import card
from sen2chain.progress import activity, counted
from sen2chain.provenance import check_results, has_rows, made_now
from sen2chain.reasons import Reason
from sen2chain.spool import attribute_table
from sen2chain.vectors import to_pandas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.multiband.wanted_statistics import WantedStatistics
    from sen2chain.rasters import Band
    from sen2chain.vectors import Layer

    Floats = npt.NDArray[np.float64]

Shape = Literal["wide", "long"]

REASONS = tuple(Reason)
OF_RASTERS = (
    Reason.NULL_GEOMETRY, Reason.EMPTY_GEOMETRY, Reason.BUFFERED_AWAY, Reason.OUTSIDE_RASTER, Reason.NO_PIXEL,
    Reason.NO_DATA, Reason.UNREADABLE,
)  # fmt: skip
"""The reasons that a feature can have under a raster that is not a product."""
_TOLD = 3  # errors that are told; a file can have thousands of damaged blocks
_OUTSIDE = "the feature lies outside the raster"


@dataclass(frozen=True, slots=True, eq=False)
class BandTable:
    """The statistics of one band; arrays are as long as the layer."""

    raster: str
    """Name of the raster or mosaic; empty where there is one only."""
    label: str
    """The file, in words."""
    band: Band
    """What the file says of the band."""
    columns: Mapping[str, Floats]
    """Statistic -> (features,); NaN where a feature has no value, and in ``nodata`` where its pixels are not known."""
    reason: npt.NDArray[np.int8]
    """(features,) Position of the reason in `Reason` why a feature has no value, or -1."""
    errors: Sequence[str] = ()
    """What went wrong, each sentence once."""

    @property
    def error(self) -> str:
        """What went wrong, in words; empty where nothing did."""
        return _in_words(self.errors)

    @property
    def has_values(self) -> bool:
        """Whether some feature has a value."""
        return bool((self.reason < 0).any())

    @property
    def name(self) -> str:
        """What its columns in the wide table begin with."""
        return _in_columns(self.raster, self.band)


@dataclass(frozen=True, slots=True, eq=False)
class LostRaster:
    """A raster, one of several, that could not be opened."""

    label: str
    """The file."""
    error: str
    """Why."""


@dataclass(eq=False, repr=False)
class ZonalStatistics:
    """Statistics of every band of rasters under the features of a layer; `sen2chain.zonal_statistics` makes it."""

    layer: Layer
    """The features."""
    id_field: str | None
    """The attribute that is the user's own key of features."""
    statistics: WantedStatistics
    """The statistics of each band."""
    tables: Sequence[BandTable]
    """The bands, in order."""
    lost: Sequence[LostRaster]
    """Rasters, of several, that could not be opened."""
    parameters: Mapping[str, Any]
    """How they were made."""
    whole_counts: bool
    """Whether counts are whole numbers of pixels."""
    notes: list[str] = field(default_factory=list)
    """Sentences on the layer, the rasters, and how they were read."""
    quiet: bool = False
    """Whether to show no progress."""
    why_outside: str = ""
    """Where the layer and the rasters lie, a sentence, where no feature lies in them; else empty."""

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def rows(self) -> int:
        """Number of features with a value in at least one band."""
        return int((self._reason() < 0).sum())

    @property
    def incomplete(self) -> bool:
        """Whether a raster, or a block of one, could not be read."""
        return bool(self.lost) or any(table.errors for table in self.tables)

    @property
    def bands(self) -> pd.DataFrame:
        """One line per band: its raster, number, name, type, no-data value, scale, offset and mask, as in the file."""
        return bands_frame((table.label, table.raster, table.band) for table in self.tables)

    @property
    def report(self) -> pd.DataFrame:
        """One line per band: features with a value, those without one by reason, and what went wrong."""
        lines: list[dict[str, Any]] = []
        for table in self.tables:
            counts = np.bincount(table.reason[table.reason >= 0], minlength=len(REASONS))
            reasons = {reason.value: int(counts[REASONS.index(reason)]) for reason in OF_RASTERS}
            rows = len(self) - int(counts.sum())
            lines.append({"raster": table.label, "band": table.name, "rows": rows, **reasons, "error": table.error})
        for lost in self.lost:
            reasons = {r.value: len(self) if r == Reason.UNREADABLE else 0 for r in OF_RASTERS}
            lines.append({"raster": lost.label, "band": "", "rows": 0, **reasons, "error": lost.error})
        return pd.DataFrame(
            lines, columns=["raster", "band", "rows", *(reason.value for reason in OF_RASTERS), "error"]
        )

    def left_out(self) -> dict[Reason, int]:
        """Count the features without a value in any band, by reason."""
        reason = self._reason()
        counts = np.bincount(reason[reason >= 0], minlength=len(REASONS)).tolist()
        return {REASONS[i]: n for i, n in enumerate(counts) if n}

    def why_nothing(self) -> str:
        """Return why no feature has a value; empty where one has."""
        if self.rows:
            return ""
        found = self.left_out()
        parts = [
            self.why_outside
            if self.why_outside and reason is Reason.OUTSIDE_RASTER
            else f"{counted(n, 'feature')}: {sentence_of(reason)}."
            for reason, n in found.items()
        ]
        return " ".join([*parts, self.why_partly()]).rstrip()

    def why_partly(self) -> str:
        """Return what could not be read; empty where all could."""
        lost = [lost.error for lost in self.lost]
        return _in_words([*lost, *(error for table in self.tables for error in table.errors)])

    def to_frame(self, shape: Shape = "wide") -> pd.DataFrame:
        """Return the statistics as a table.

        Parameters
        ----------
        shape
            ``wide``: one row per feature, in the order of the layer, with columns ``<band>_<statistic>``; ``long``: one
            row per feature and band. Both begin with fid, the user's own key and the other attributes, and end with the
            reason why there is no value: in the wide table, in any band.

        Raises
        ------
        UnknownNameError
            If there is no such shape.
        """
        frame: pd.DataFrame = to_pandas(self._table(shape))
        return frame

    def to_csv(self, path: str | Path, shape: Shape = "wide", *, overwrite: bool = False) -> Path:
        """Write the table of `to_frame` as CSV, with a JSON beside it that says how it was made.

        Parameters
        ----------
        path
            The file.
        shape
            As of `to_frame`.
        overwrite
            Replace a file too that was made in another way, or that has rows where this one has none.

        Raises
        ------
        OutputError
            If it cannot be written, or if a file is there that was made in another way.
        EmptyResultError
            If a file with rows is there and no feature has a value.
        """
        return self._write(path, shape, ".csv", overwrite=overwrite)

    def to_parquet(self, path: str | Path, shape: Shape = "wide", *, overwrite: bool = False) -> Path:
        """Write the table of `to_frame` as Parquet; parameters and errors are those of `to_csv`."""
        return self._write(path, shape, ".parquet", overwrite=overwrite)

    def report_to_csv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the report as CSV, with the JSON beside it; `overwrite` as for `to_csv`."""
        table = planned_report(path, self.parameters, self.layer)
        if not overwrite:
            self.notes += check_results([table]).sentences()
        check_folder(table.path.parent)
        export.write_csv([pa.Table.from_pandas(self.report, preserve_index=False)], table.path, self.provenance())
        return table.path

    def provenance(self, shape: Shape = "wide") -> dict[str, Any]:
        """Return how the statistics were made: parameters, versions, layer, rasters and their bands."""
        bands = self.bands.astype(object).where(self.bands.notna(), None)
        return {
            **made_now(),
            **conditions_of(self.parameters, self.layer, shape),
            "rows": self.rows,
            "left_out": {reason.value: n for reason, n in self.left_out().items()},
            "bands": bands.to_dict("records"),
            "lost": [{"raster": lost.label, "error": lost.error} for lost in self.lost],
            "notes": self.notes,
        }

    def _write(self, path: str | Path, shape: Shape, suffix: str, *, overwrite: bool) -> Path:
        table = planned_table(path, suffix, self.parameters, self.layer, shape)
        if not overwrite:
            self.notes += check_results([table]).sentences()
            if not self.rows and has_rows(table.path):
                raise EmptyResultError(
                    f"{table.path} has rows and is kept, since no feature has a value now; overwrite=True "
                    "(--overwrite) replaces it."
                )
        check_folder(table.path.parent)
        write = export.write_csv if suffix == ".csv" else export.write_parquet
        with activity(f"writing {table.path.name}", quiet=self.quiet):
            write([self._table(shape)], table.path, self.provenance(shape))
        return table.path

    # ------------------------------------------------------------------------------------------ tables

    def _reason(self) -> npt.NDArray[np.int8]:
        """(features,) Position of the reason why a feature has no value in any band, or -1."""
        if not self.tables:
            return np.full(len(self), REASONS.index(Reason.UNREADABLE), np.int8)
        every = np.stack([table.reason for table in self.tables])
        found: npt.NDArray[np.int8] = np.where((every < 0).any(axis=0), np.int8(-1), every[0])
        return found

    def _table(self, shape: str) -> pa.Table:
        choice("shape", shape, SHAPES)
        return self._wide() if shape == "wide" else self._long()

    def _wide(self) -> pa.Table:
        columns = {f"{t.name}_{name}": self._column(name, v) for t in self.tables for name, v in t.columns.items()}
        reason = _reason_texts(self._reason())
        return pa.table({**self._features({*columns, "reason"}), **columns, "reason": reason})

    def _long(self) -> pa.Table:
        names = list(dict.fromkeys(name for table in self.tables for name in table.columns))
        several = any(table.raster for table in self.tables)
        head = ["raster"] if several else []
        features = self._features({*head, "band", *names, "reason"})
        pieces = []
        for table in self.tables:
            none = np.where(table.reason < 0, 0.0, np.nan)  # shares of classes that only other bands have
            columns: dict[str, Any] = {"raster": pa.array([table.raster] * len(self))} if several else {}
            columns["band"] = pa.array([table.band.name] * len(self), pa.string())
            columns |= {name: self._column(name, table.columns.get(name, none)) for name in names}
            pieces.append(pa.table({**features, **columns, "reason": _reason_texts(table.reason)}))
        if not pieces:
            return pa.table({**features, "reason": _reason_texts(self._reason())}).slice(0, 0)
        return pa.concat_tables(pieces)

    def _features(self, taken: set[str]) -> dict[str, Any]:
        """Return fid, the user's own key, and the other attributes, under names that no other column has."""
        attributes = attribute_table(self.layer.attributes)
        own = [self.id_field] if self.id_field else []
        columns: dict[str, Any] = {"fid": pa.array(np.arange(len(self)))}
        for name in [*own, *(name for name in attributes.column_names if name not in own)]:
            free = name
            while free in taken or free in columns:
                free = f"attr_{free}"
            columns[free] = attributes[name]
        return columns

    def _column(self, name: str, values: Floats) -> pa.Array:
        if name in COUNTS and self.whole_counts:
            missing = np.isnan(values)
            return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
        return pa.array(values, mask=np.isnan(values))

    def __repr__(self) -> str:
        names = ", ".join(table.name for table in self.tables[:5]) + (", ..." if len(self.tables) > 5 else "")
        bands = counted(len(self.tables), "band")
        return f"<ZonalStatistics of {escaped(self.layer.name)}: {len(self)} features, {bands} ({names})>"

    def _repr_html_(self) -> str:
        """Show in a notebook what this is and why features have no value."""
        facts: list[tuple[str, object]] = [
            ("Layer", self.layer.path or self.layer.name), ("Features", len(self)),
            ("Rasters", ", ".join(dict.fromkeys(table.label for table in self.tables))), ("Bands", len(self.tables)),
            ("Statistics", ", ".join((*COUNTS, *self.statistics.names))), ("Features with a value", self.rows),
        ]  # fmt: skip
        reasons = [(sentence_of(reason), n) for reason, n in self.left_out().items()]
        table = [("Without a value because", "features"), *reasons]
        return card("ZonalStatistics", facts, 'result.to_csv("zonal.csv")', table if reasons else ())


def sentence_of(reason: Reason) -> str:
    """Return a reason as people read it, about a raster that is not of a tile."""
    if reason == Reason.OUTSIDE_RASTER:
        return _OUTSIDE
    if reason == Reason.NO_DATA:
        return "the raster has no data on the feature"
    return reason.sentence.replace("a file of the product", "a part of the raster")


def share_columns(
    classes: Mapping[float, Floats], count: Floats, scale: float, offset: float
) -> Iterator[tuple[str, Floats]]:
    """Yield the columns of the shares of classes, ascending by class: name, and (features,) shares from 0 to 1."""
    for value in sorted(classes):
        share = np.divide(classes[value], count, out=np.full(len(count), np.nan), where=count > 0)
        yield f"{SHARES.removesuffix('s')}_{value * scale + offset:.12g}", share


def _in_words(errors: Iterable[str]) -> str:
    """Return errors as sentences, each once: the first ones, and how many more there are."""
    every = [error if error.endswith(".") else f"{error}." for error in dict.fromkeys(errors)]
    more = [f"And {len(every) - _TOLD} more."] if len(every) > _TOLD else []
    return " ".join([*every[:_TOLD], *more])


def bands_frame(bands: Iterable[tuple[str, str, Band]]) -> pd.DataFrame:
    """Return a line for each band.

    Parameters
    ----------
    bands
        The file in words, the name of the raster in columns, and what the file says of the band.
    """
    lines = [
        (label, band.number, _in_columns(raster, band), band.dtype, band.nodata, band.scale, band.offset, band.mask)
        for label, raster, band in bands
    ]
    names = ["raster", "number", "band", "dtype", "nodata", "scale", "offset", "mask"]
    return pd.DataFrame(lines, columns=names).astype({"nodata": object})


def _in_columns(raster: str, band: Band) -> str:
    return f"{raster}_{band.name}" if raster else band.name


def _reason_texts(reason: npt.NDArray[np.int8]) -> pa.Array:
    names = np.array([*(item.value for item in REASONS), None], dtype=object)
    return pa.array(names[reason], pa.string())  # -1 is the last one, no reason
