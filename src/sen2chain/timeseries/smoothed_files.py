"""Smoothed files beside the compiled ones: the series, and a table of how well it fits the observations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow as pa

from sen2chain.atomic import FileGroup
from sen2chain.errors import RequestError, choice, shown, truth
from sen2chain.export import beside, csv_header, csv_lines, text_of
from sen2chain.parallel import closed, in_threads, workers
from sen2chain.smoothing import (
    METHODS,
    Smoother,
    check_any_smoothed,
    read_published,
    smooth_original,
    to_csv_text,
)
from sen2chain.spool import with_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sen2chain.spool import RowFormat

ORIGINAL = "original"
_ADDED = {"pixel_tot", "pct_no_data", "valid", "mean_div", "smoothed", "index"}  # columns of the original's way


@dataclass(frozen=True, slots=True)
class SmoothRequest:
    """The method of smoothing compiled rows, and its parameters; checked when it is built."""

    method: str
    """``original``, or one of `sen2chain.smoothing.METHODS`."""
    window_length: int = 11
    polyorder: int = 3
    covermax: float = 75.0
    season_mean: bool = False
    """Of the original's way: fill long gaps with the mean of other years."""
    reset_smoothing: bool = False
    """Begin anew, instead of continuing or keeping a series that was smoothed the original's way."""

    def __post_init__(self) -> None:
        choice("smoothing", self.method, (*METHODS, ORIGINAL))
        checked = self.smoother()
        for name in ("window_length", "polyorder", "covermax"):
            object.__setattr__(self, name, getattr(checked, name))
        for name in ("season_mean", "reset_smoothing"):
            object.__setattr__(self, name, truth(name, getattr(self, name)))
        if self.season_mean and self.method != ORIGINAL:
            raise RequestError(f"season_mean belongs to smoothing='original'; leave it out with {self.method!r}.")

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self | None:
        """Check the keywords of `TimeSeriesCompil.compile_data` about smoothing; None where it is not asked for."""
        smoothing = keywords.get("smoothing")
        if smoothing is None or (isinstance(smoothing, str | bool) and not smoothing):
            return None
        method = METHODS[0] if smoothing is True else shown(smoothing)
        return cls(method, **{f.name: keywords[f.name] for f in fields(cls) if f.name in keywords})

    def smoother(self) -> Smoother:
        """Return the smoother of this method; for ``original``, one with the same parameters."""
        method = METHODS[0] if self.method == ORIGINAL else self.method
        return Smoother(method, self.window_length, self.polyorder, self.covermax)

    @property
    def suffix(self) -> str:
        """The end of the names of smoothed files: the documented ``_smooth``; other methods stand before it."""
        return "_smooth" if self.method in {METHODS[0], ORIGINAL} else f"_{self.method}_smooth"

    def note(self) -> dict[str, Any]:
        """Return the parameters for the JSON beside the files."""
        note = {name: getattr(self, name) for name in self.__slots__ if name != "reset_smoothing"}
        return note | {"covermax": float(self.covermax)}


def smoothed_names(stem: str) -> list[str]:
    """Return the names that files of smoothed rows may have, of compiled rows with this stem."""
    return [f"{stem}{SmoothRequest(method).suffix}.csv" for method in METHODS]


def stats_path(path: Path) -> Path:
    """Return the path of the table of fit beside a file of smoothed rows."""
    return path.with_name(f"{path.stem}_stats{path.suffix}")


def write_smoothed(
    tables: Iterable[pa.Table],
    path: Path,
    index: str,
    request: SmoothRequest,
    layout: RowFormat,
    note: Mapping[str, Any],
) -> tuple[int, int]:
    """Smooth compiled rows and write both files.

    Parameters
    ----------
    tables
        Compiled rows; each table has the complete series of some features.
    path
        The file of smoothed rows.
    index
        Name of the index.
    request
        The method and its parameters.
    layout
        The columns of the rows, with the attributes of the layer.
    note
        The JSON that goes beside the files.

    Returns
    -------
    tuple
        Number of features that are too short to be smoothed, and of all.

    Raises
    ------
    RequestError
        If all series are too short.
    """
    with FileGroup(path.parent) as files:
        if request.method == ORIGINAL:
            short, features = _original(files, tables, path, index, request)
        else:
            short, features = _ours(files, tables, path, index, request, layout)
        for place, content in beside(path, {**note, "smoothing": request.note()}).items():
            files.append(place, content)
        files.finish()
    return short, features


def check_kind(path: Path, request: SmoothRequest) -> None:
    """Make sure that no file is replaced that was smoothed the other way, ours or the original's.

    Raises
    ------
    RequestError
        If the file holds one.
    """
    if path.exists() and not request.reset_smoothing and _is_original(path) != (request.method == ORIGINAL):
        what, way = ("the original's way", ORIGINAL) if _is_original(path) else ("our way", METHODS[0])
        raise RequestError(
            f"{path} was smoothed {what}; go on with smoothing={way!r}, or pass reset_smoothing=True to replace it."
        )


def _is_original(path: Path) -> bool:
    """Tell whether a file was written the original's way, whose first column has no name."""
    with path.open("rb") as file:
        return file.read(1) == b","


def _original(
    files: FileGroup, tables: Iterable[pa.Table], path: Path, index: str, request: SmoothRequest
) -> tuple[int, int]:
    rows = pa.concat_tables(tables).to_pandas()
    rows = rows.rename(columns={name: f"attr_{name}" for name in _ADDED & set(rows.columns)})
    published = read_published(path) if path.exists() and not request.reset_smoothing else None
    made = smooth_original(
        rows,
        index=index,
        published=published,
        covermax=request.covermax,
        window_length=request.window_length,
        polyorder=request.polyorder,
        season_mean=request.season_mean,
    )
    files.append(path, to_csv_text(made.smoothed).encode())
    files.append(stats_path(path), to_csv_text(made.stats).encode())
    smoothed = made.smoothed.groupby("fid")["smoothed"].count()
    return int((smoothed == 0).sum()), len(smoothed)


def _ours(
    files: FileGroup, tables: Iterable[pa.Table], path: Path, index: str, request: SmoothRequest, layout: RowFormat
) -> tuple[int, int]:
    smoother = request.smoother()
    stats: list[pd.DataFrame] = []
    header = False
    with closed(in_threads(lambda table: smoother(table.to_pandas(), index), tables, workers())) as pieces:
        for made in pieces:
            stats.append(made.stats)
            series = pa.Table.from_pandas(made.series, preserve_index=False)
            series = with_attributes(series, layout.attributes, layout.id_field)
            if not header:
                files.append(path, csv_header(series.schema))
                header = True
            for piece in series.combine_chunks().to_batches(1 << 15):
                files.append(path, text_of(csv_lines(piece)))
    check_any_smoothed(stats, smoother)
    every = pd.concat(stats, ignore_index=True)
    table = pa.Table.from_pandas(every, preserve_index=False)
    files.append(stats_path(path), csv_header(table.schema))
    for piece in table.combine_chunks().to_batches(1 << 15):
        files.append(stats_path(path), text_of(csv_lines(piece)))
    return int((every["note"].fillna("") != "").sum()), len(every)
