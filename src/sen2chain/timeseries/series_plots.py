"""Plots of a time series: all features of an index over time, and one panel for each feature.

`SeriesPlots` chooses rows and texts; `sen2chain.pictures.series_figures` draws them. matplotlib is needed for these
methods alone; it belongs to the extra ``sen2chain[plot]``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sen2chain.atomic import NAME_MAX, check_folder
from sen2chain.errors import LibraryError, RequestError, StoreError, UnknownNameError, choice, escaped, shown
from sen2chain.legends import legend_of
from sen2chain.pictures.figure_files import need_matplotlib, picture_formats, write_figures
from sen2chain.pictures.series_figures import (
    MOST_LINES,
    Captions,
    FeatureLine,
    Overview,
    draw_overview,
    overview_figure,
    overview_of,
    panel_figures,
)
from sen2chain.progress import activity
from sen2chain.smoothing import METHODS, Smoother
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.layer_series import LayerSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sen2chain.index_series import IndexSeries
    from sen2chain.provenance import PlannedTable

    Floats = npt.NDArray[np.float64]
    Fids = npt.NDArray[np.int64]
    Dates = npt.NDArray[np.datetime64]

MOST_PANELS = 200
"""Most features that `plot_details` shows where none are chosen."""
_MOST_CHOSEN = 2000
_MOST_VALUES = 5_000_000
_LEVELS = ("mean", "median", "min", "max", "majority", "minority")
_LONGEST_ENDING = len("_page99.png")


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """Smoothed curves of an index."""

    name: str
    """Their name in legends."""
    points: dict[int, tuple[Dates, Floats]]
    """fid -> dates, and values in index units."""


class SeriesPlots(LayerSeries):
    """The plots of `TimeSeries` and `TimeSeriesCompil`."""

    @suggest_keywords
    def plot_global(
        self,
        out_path: str | Path | None = None,
        *,
        formats: str | Sequence[str] = "png",
        features: Any = None,
        stat: str = "mean",
    ) -> list[Path]:
        """Draw all features over time, one picture for each index (and mask): ``<stem>_plot-global_<INDEX>_...png``.

        Up to 12 features have a line each. Of more, the picture shows the median, the middle half and the middle 80 %
        of the values by date, with a strip that counts the features with a value. Where there are more than 300 days,
        several are drawn together; the subtitle says how many.

        Parameters
        ----------
        out_path
            Folder; pictures go to ``<out_path>/<stem>/``. `TimeSeriesCompil` writes beside its compiled tables where
            it is None.
        formats
            ``png``, ``svg``, ``pdf``, or several of them.
        features
            Features to show: values of `id_field`, or else fids, or names. Up to 12 are drawn as lines, on top of the
            distribution of all where the layer has more; of more than 12 the distribution is that of the chosen ones.
        stat
            A column of the results, as ``mean``, ``median``, ``percentile_25``, ``count``.

        Returns
        -------
        list
            The files. The picture of an index without any value says so, and why.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        RequestError
            If a feature, a format or a column is unknown, or the name of the file is too long.
        OutputError
            If the folder cannot be written.
        """
        need_matplotlib()
        kinds = picture_formats(formats)
        self._check_stat(stat)
        chosen = None if features is None else self._engine.features.find(features)

        def pages(series: IndexSeries) -> Iterator[Figure]:
            lines, overview, captions = self._all_over_time(series, chosen, stat)
            yield overview_figure(lines, captions, overview, _empty_days(series, overview))

        return self._write_pictures(out_path, kinds, ("plot-global", ""), pages)

    @suggest_keywords
    def plot_details(
        self,
        out_path: str | Path | None = None,
        *,
        formats: str | Sequence[str] = "png",
        features: Any = None,
        smoothing: bool | str | Smoother | None = None,
    ) -> list[Path]:
        """Draw one panel for each feature: mean, spread, share of valid pixels, dates without a value, smoothed curve.

        There are two pictures for each index (and mask). In ``<stem>_plot-details_<INDEX>_...png`` lines have gaps at
        dates without a value, which are marked. In ``<stem>_plot-details_<INDEX>-nonan_...png`` these dates are left
        out, so that the line joins all values. A page has 24 features; further pages are ``..._page2.png`` and so on
        (a PDF has all pages).

        Parameters
        ----------
        out_path, formats
            As for `plot_global`.
        features
            As for `plot_global`. None is all, or the first 200 of a larger layer; `notes` says so.
        smoothing
            A curve in each panel: the name of a method, as for `TimeSeriesCompil.compile_data`, True for ``savgol``, or
            a `sen2chain.smoothing.Smoother`. None takes the curves that `TimeSeriesCompil` has written, if it has;
            False draws none.

        Returns
        -------
        list
            The files.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        RequestError
            If a feature, a format or a method is unknown, more than 2,000 features are chosen, or the name of the file
            is too long.
        OutputError
            If the folder cannot be written.
        """
        need_matplotlib()
        kinds = picture_formats(formats)
        smoother = smoother_of(smoothing)
        chosen = self._features_with_panels(features)
        drawn: dict[tuple[str, str], tuple[list[FeatureLine], Captions, str]] = {}

        def contents(series: IndexSeries) -> tuple[list[FeatureLine], Captions, str]:
            key = (series.index.name, series.mask)
            if key not in drawn:
                drawn.clear()  # one index at a time is in memory
                rows = series.frame(chosen)
                curves = self._curves(series, rows, chosen, smoother, files=smoothing is None)
                lines = _panel_lines(series, rows, chosen, curves)
                values = np.concatenate([part for line in lines for part in line.drawn_values()] or [np.zeros(0)])
                if not np.isfinite(values).any():
                    lines = []  # the picture says in words that there is nothing
                drawn[key] = (
                    lines,
                    self._captions(series, "mean", "mean of each feature by date", values),
                    curves.name,
                )
            return drawn[key]

        def with_gaps(series: IndexSeries) -> Iterator[Figure]:
            lines, captions, curve = contents(series)
            yield from panel_figures(lines, captions, gaps=True, curve=curve)

        def joined(series: IndexSeries) -> Iterator[Figure]:
            lines, captions, curve = contents(series)
            yield from panel_figures(lines, captions, gaps=False, curve=curve)

        return self._write_pictures(out_path, kinds, ("plot-details", ""), with_gaps, ("-nonan", joined))

    @suggest_keywords
    def plot(
        self,
        features: Any = None,
        stat: str = "mean",
        ax: Axes | None = None,
        index: str | None = None,
        mask: str | None = None,
    ) -> Axes:
        """Draw features over time into matplotlib axes, as `plot_global` does into a file.

        Parameters
        ----------
        features, stat
            As for `plot_global`.
        ax
            Axes to draw into; None makes a new pyplot figure, which a notebook shows.
        index, mask
            Names; needed where the run has several.

        Returns
        -------
        matplotlib.axes.Axes
            The axes, to be changed further. Values are in index units, dates are a real time axis (UTC).

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        RequestError
            If a name is unknown, the run has several indices or masks and none is chosen, or matplotlib cannot show
            figures here.
        """
        need_matplotlib()
        self._check_stat(stat)
        wanted = (
            _one_of("index", index, [one.name for one in self.request.indices]),
            _one_of("mask", mask, [one.name for one in self.request.masks]),
        )
        chosen = None if features is None else self._engine.features.find(features)
        series = next(one for one in self._series() if (one.index.name, one.mask) == wanted)
        lines, overview, captions = self._all_over_time(series, chosen, stat)
        if ax is None:
            ax = _new_axes()
        draw_overview(ax, lines, captions, overview, named=True)
        return ax

    # --- what is shown

    def _all_over_time(
        self, series: IndexSeries, chosen: Fids | None, stat: str
    ) -> tuple[list[FeatureLine], Overview | None, Captions]:
        """Return the lines, the distribution, and the texts of a picture of all features."""
        features = len(series.features)
        as_lines = np.arange(features) if chosen is None else chosen
        as_lines = as_lines if len(as_lines) <= MOST_LINES else as_lines[:0]
        lines = _stat_lines(series, as_lines, stat, self._factor(series, stat)) if len(as_lines) else []
        overview, parts = None, [stat.replace("_", " ")]
        if features > MOST_LINES and (chosen is None or len(as_lines) or len(chosen) > MOST_LINES):
            only = None if chosen is None or len(as_lines) else chosen
            overview, every = self._overview(series, stat, only)
            of = f"of {features if only is None else len(only):,} features"
            parts = [
                f"{parts[0]} {of} by date"
                if overview.days == 1
                else f"{parts[0]} {of} in steps of {overview.days} days"
            ]
            if every > 1:
                parts.append(f"every {every}th feature is counted")
        else:
            parts = [f"{parts[0]} by date"]
        if any(not line.known.all() for line in lines):
            parts.append("dotted across dates without a value")
        values = np.concatenate(
            [*(line.value for line in lines), *([overview.levels.ravel()] if overview else [])] or [np.zeros(0)]
        )
        return lines, overview, self._captions(series, stat, " · ".join(parts), values)

    def _overview(self, series: IndexSeries, stat: str, only: Fids | None) -> tuple[Overview, int]:
        """Return the distribution over features by date, and a number: every n-th feature is counted."""
        every = max(1, math.ceil(series.rows / _MOST_VALUES)) if only is None else 1
        factor = self._factor(series, stat)
        parts = []
        for table in series.tables():
            fid = table.column("fid").to_numpy()
            kept = fid % every == 0 if only is None else np.isin(fid, only)
            columns = [_numbers(table.column(name))[kept] for name in (stat, "mean")]
            date = table.column("date").to_numpy().astype("datetime64[s]")[kept]
            parts.append((date, fid[kept], np.where(np.isnan(columns[1]), np.nan, columns[0] / factor)))
        if not parts:
            return overview_of(np.zeros(0, "datetime64[s]"), np.zeros(0, np.int64), np.zeros(0)), every
        date, fid, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return overview_of(date, fid, value), every

    def _captions(self, series: IndexSeries, stat: str, what: str, values: Floats) -> Captions:
        """Return the texts, and the usual range of values: the legend's where the column is a value of the index."""
        known = values[np.isfinite(values)]
        is_level = stat in _LEVELS or stat.startswith("percentile_")
        low, high = 0.0, 0.0
        if is_level:
            legend = legend_of(series.index, known if known.size else None)
            low, high = legend.low, legend.high
        days = np.unique(np.concatenate([*series.days.values(), np.zeros(0, "datetime64[s]")]).astype("datetime64[D]"))
        period = "" if not len(days) else f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
        name = series.index.name
        return Captions(
            title=f"{series.features.name}: {name}",
            subtitle=" · ".join(filter(None, [what, series.mask, period])),
            value=name if stat == "mean" else f"{name}: {stat.replace('_', ' ')}",
            low=low,
            high=high,
            if_empty="" if known.size else self._why_empty(series),
        )

    def _why_empty(self, series: IndexSeries) -> str:
        """Return a sentence on why no feature has a value of an index under a mask."""
        report = self._reported().about(series.index.name, series.mask)
        cause = report.main_cause()
        if not cause:
            with contextlib.suppress(LibraryError):  # rows of a folder need no archive
                cause = self._engine.why_nothing(report)
        return escaped(f"No feature has a value of {series.index.name} under {series.mask}. {cause}".strip())

    def _factor(self, series: IndexSeries, stat: str) -> float:
        """Return the number that values of a column are divided by to get index units."""
        return float(series.scale ** self.request.statistics.power(stat))

    def _check_stat(self, stat: str) -> None:
        choice("column", stat, self._engine.row_format().numbers)

    def _features_with_panels(self, features: Any) -> Fids:
        """Return the features that have a panel."""
        found = self._engine.features.find(features)
        if features is None:
            if len(found) > MOST_PANELS:
                self._remarks.append(
                    f"plot_details shows the first {MOST_PANELS} of {len(found):,} features; features= chooses others."
                )
            return found[:MOST_PANELS]
        if len(found) > _MOST_CHOSEN:
            raise RequestError(
                f"plot_details draws at most {_MOST_CHOSEN:,} features, and {len(found):,} are chosen; choose fewer."
            )
        return found

    def _shown_outputs(self) -> list[tuple[str, str]]:
        """Return (index, mask) of each picture: all that are asked for."""
        return list(self._engine.outputs)

    def _smoothed_files(self, index: str, mask: str) -> list[Path]:  # noqa: ARG002
        """Return the files of smoothed rows of all dates, newest last; `TimeSeriesCompil` has some."""
        return []

    def _curves(
        self, series: IndexSeries, rows: pd.DataFrame, fids: Fids, smoother: Smoother | None, *, files: bool
    ) -> _Curves:
        """Return the smoothed curves of features: computed, or as the newest file has them."""
        if smoother is not None:
            return _computed_curves(series, rows, smoother)
        if files:
            for path in self._smoothed_files(series.index.name, series.mask)[-1:]:
                return _stored_curves(path, fids)
        return _Curves("", {})

    # --- files

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind != "plot":
            return super()._planned_results(out_path, kind)
        need_matplotlib()
        self._places(out_path, ("plot-global", "plot-details"), ("", "-nonan"))
        return []  # pictures have no JSON beside them

    def _write_pictures(
        self,
        out_path: str | Path | None,
        formats: Sequence[str],
        name: tuple[str, str],
        pages: Callable[[IndexSeries], Iterator[Figure]],
        *more: tuple[str, Callable[[IndexSeries], Iterator[Figure]]],
    ) -> list[Path]:
        """Write pictures of each index under each mask.

        Parameters
        ----------
        out_path, formats
            As for `plot_global`.
        name
            The kind of picture, and what follows the name of the index.
        pages
            Draws the pages of a picture.
        more
            Further pictures: what follows the name of the index, and what draws them.
        """
        kind, after = name
        pictures = [(after, pages), *more]
        places = self._places(out_path, (kind,), [suffix for suffix, _ in pictures])
        for place in places.values():
            check_folder(place.parent)
        files = []
        for series in self._series():
            for suffix, draw in pictures:
                key = (kind, series.index.name, series.mask, suffix)
                if key not in places:
                    continue
                place = places[key]
                with activity(f"drawing {place.name}", quiet=self._quiet):
                    files += write_figures(draw(series), place, formats)
        return files

    def _places(
        self, out_path: str | Path | None, kinds: Sequence[str], suffixes: Sequence[str]
    ) -> dict[tuple[str, str, str, str], Path]:
        """Return (kind, index, mask, suffix) -> the file of a picture, without its ending.

        Raises
        ------
        RequestError
            If a name is too long for a file.
        """
        places = {}
        for (index, mask), kind, suffix in itertools.product(self._shown_outputs(), kinds, suffixes):
            stem = self._results_stem(f"{index}{suffix}", mask, kind)
            over = len(os.fsencode(stem)) + _LONGEST_ENDING - NAME_MAX
            if over > 0:
                raise RequestError(
                    f"The names of pictures, as {stem[:60]}..., are too long for a file by {over} bytes; pass a "
                    "shorter name=, or rename the layer's file."
                )
            places[kind, index, mask, suffix] = self._results_folder(out_path, index, mask) / stem
        return places


def _new_axes() -> Axes:
    """Return axes of a new pyplot figure, which a notebook shows."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  # an extra

        axes: Axes = plt.subplots(figsize=(9, 4.5), layout="tight")[1]
    except ImportError as error:  # the library of a backend is missing, or there is no display
        raise RequestError(
            f"matplotlib cannot show figures here ({error}); set the environment variable MPLBACKEND to agg, or pass "
            "ax=."
        ) from error
    return axes


def _one_of(what: str, wanted: str | None, names: Sequence[str]) -> str:
    """Return the name that is wanted: in any case, and cut where only one begins so; None is the only one there is."""
    if wanted is None:
        if len(names) > 1:
            raise RequestError(
                f"{what} has to be chosen, as {what}={names[0]!r}, since there are several: {', '.join(names)}."
            )
        return names[0]
    if isinstance(wanted, str) and wanted:
        same = [name for name in names if name.upper() == wanted.upper()]
        begun = [name for name in names if name.upper().startswith(wanted.upper())]
        if same or len(begun) == 1:
            return [*same, *begun][0]
    raise UnknownNameError(what, wanted, names)


def smoother_of(smoothing: bool | str | Smoother | None) -> Smoother | None:  # noqa: FBT001
    """Return the smoother that is asked for."""
    if isinstance(smoothing, Smoother):
        return smoothing
    if isinstance(smoothing, str):
        return Smoother(smoothing)
    if smoothing is None or smoothing is False:
        return None
    if smoothing is True:
        return Smoother(METHODS[0])
    raise RequestError(
        f"smoothing is {shown(smoothing)}; pass True, False, a Smoother, or one of: {', '.join(METHODS)}."
    )


def _rows_by_feature(rows: pd.DataFrame, fids: Fids) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the rows of each feature, in the order of `fids`; rows are sorted by fid."""
    column = rows["fid"].to_numpy()
    first, last = np.searchsorted(column, fids), np.searchsorted(column, fids, side="right")
    for fid, start, end in zip(fids.tolist(), first.tolist(), last.tolist(), strict=True):
        yield fid, rows.iloc[start:end]


def _with_gaps(series: IndexSeries, rows: pd.DataFrame) -> tuple[pd.DataFrame, Dates, npt.NDArray[np.intp]]:
    """Return the rows of a feature with values, the dates of all acquisitions, and the place of each row in these."""
    known = rows[rows["mean"].notna()]
    date = known["date"].to_numpy().astype("datetime64[s]")
    dates = np.concatenate([date, series.dates_without_values(rows)])
    order = np.argsort(dates, kind="stable")
    place = np.empty(len(dates), np.intp)
    place[order] = np.arange(len(dates))
    return known, dates[order], place[: len(date)]


def _spread_out(column: Floats, place: npt.NDArray[np.intp], length: int) -> Floats:
    found = np.full(length, np.nan)
    found[place] = column
    return found


def _stat_lines(series: IndexSeries, fids: Fids, stat: str, factor: float) -> list[FeatureLine]:
    """Return the lines of a statistic of features."""
    names, lines = series.features.names, []
    for fid, rows in _rows_by_feature(series.frame(fids), fids):
        known, dates, place = _with_gaps(series, rows)
        value = known[stat].to_numpy(np.float64, na_value=np.nan) / factor
        lines.append(FeatureLine(names[fid], dates, _spread_out(value, place, len(dates))))
    return lines


def _panel_lines(series: IndexSeries, rows: pd.DataFrame, fids: Fids, curves: _Curves) -> list[FeatureLine]:
    """Return everything that the panels of features show."""
    names, lines = series.features.names, []
    for fid, own in _rows_by_feature(rows, fids):
        known, dates, place = _with_gaps(series, own)
        mean, quarter, three_quarters, std = (
            _spread_out(known[name].to_numpy(np.float64, na_value=np.nan) / series.scale, place, len(dates))
            for name in ("mean", "percentile_25", "percentile_75", "std")
        )
        count, nodata = (known[name].to_numpy(np.float64, na_value=np.nan) for name in ("count", "nodata"))
        share = np.divide(count, count + nodata, out=np.zeros(len(count)), where=count > 0)
        valid = _spread_out(share, place, len(dates))
        line = FeatureLine(names[fid], dates, mean, quarter, three_quarters, std, valid)
        if fid in curves.points:
            smooth_date, smooth = curves.points[fid]
            line = replace(line, smooth_date=smooth_date, smooth=smooth)
        lines.append(line)
    return lines


def _empty_days(series: IndexSeries, overview: Overview | None) -> Dates | None:
    """Return the acquisitions on days on which no feature has a value."""
    if overview is None or overview.days > 1:
        return None
    every = np.unique(np.concatenate([*series.days.values(), np.zeros(0, "datetime64[s]")]))
    return every[~np.isin(every.astype("datetime64[D]"), overview.date.astype("datetime64[D]"))]


def _computed_curves(series: IndexSeries, rows: pd.DataFrame, smoother: Smoother) -> _Curves:
    known = rows[rows["mean"].notna()]
    if known.empty:
        return _Curves("", {})
    # The smoother takes values as they are stored, times 10000, whatever the units of the rows.
    scaled = known.assign(mean=known["mean"] * (smoother.scale / series.scale))
    made = smoother(scaled, series.index.name).series
    return _curves_of(f"smoothed ({smoother.method})", made["fid"], made["date"], made["smoothed"])


def _stored_curves(path: Path, fids: Fids) -> _Curves:
    """Read the curves of features from a file of smoothed rows, ours or the original's."""
    options = pa.csv.ConvertOptions(
        include_columns=["date", "fid", "smoothed"],
        column_types={"date": pa.string(), "fid": pa.float64(), "smoothed": pa.float64()},
    )
    wanted = pa.array(fids.astype(np.float64))
    try:
        with path.open("rb") as file:
            is_original = file.read(1) == b","  # whose first column has no name
        with pa.csv.open_csv(path, convert_options=options) as reader:
            parts = [pa.Table.from_batches([piece]) for piece in reader]
        table = pa.concat_tables([part.filter(pc.is_in(part.column("fid"), value_set=wanted)) for part in parts])
        date = np.array(table.column("date").to_pylist(), dtype="datetime64[s]")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); compile it again, or pass smoothing=False.") from None
    method = next((name for name in METHODS if path.stem.endswith(f"_{name}_smooth")), METHODS[0])
    fid = table.column("fid").to_numpy().astype(np.int64)
    return _curves_of(
        f"smoothed ({'original' if is_original else method})", fid, date, _numbers(table.column("smoothed"))
    )


def _curves_of(name: str, fid: Any, date: Any, value: Any) -> _Curves:
    """Part rows by feature."""
    fid, value = np.asarray(fid, np.int64), np.asarray(value, np.float64)
    date = np.asarray(date).astype("datetime64[s]")
    known = np.isfinite(value)
    fid, date, value = fid[known], date[known], value[known]
    order = np.lexsort((date, fid))
    fid, date, value = fid[order], date[order], value[order]
    fids, starts = np.unique(fid, return_index=True)
    cuts = [*starts.tolist(), len(fid)]
    points = {int(one): (date[a:b], value[a:b]) for one, a, b in zip(fids, cuts[:-1], cuts[1:], strict=True)}
    return _Curves(name, points)


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers as float64, NaN for null."""
    found: Floats = pc.cast(column, pa.float64()).to_numpy()
    return found
