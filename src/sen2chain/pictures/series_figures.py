"""Figures of the series of features: all features over time, and one panel for each.

`overview_figure` has lines of few features, or the median and the middle of many with chosen ones on top.
`panel_figures` has a panel for each feature: mean, spread, share of valid pixels, dates without values, and a smoothed
curve. Values are in index units. Colours are those of Okabe and Ito, which people who cannot tell red from green can
tell apart; lines differ in their marker too.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sen2chain.pictures.drawn_text import FONT, drawable, style
from sen2chain.pictures.figure_settings import default_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Dates = npt.NDArray[np.datetime64]

MOST_LINES = 12
"""Most features that an overview shows by a line each."""
PANELS = 24
"""Panels of a page."""
_WIDE_PANELS = 8
_COLUMNS = 3
_LONGEST_NAME = 22
_LONG = 200
"""Dates from which lines are thin, and crosses become bars."""

_BLUE, _VERMILION, _GREY, _TEXT, _FAINT = "#0072B2", "#D55E00", "#6b7280", "#1f2937", "#e5e7eb"
_LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_DAYS = 300
_WIDTHS = (5, 10, 15, 30, 61, 91, 183, 365)  # days that are drawn together where there are many


class Band(NamedTuple):
    """A range of values, and what it is."""

    low: Floats
    high: Floats
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Captions:
    """The texts and the range of a figure."""

    title: str
    subtitle: str = ""
    value: str = ""
    """Label of the axis of values."""
    low: float = 0.0
    """Usual lower end of the axis; it is moved where values are beyond it."""
    high: float = 1.0
    """Usual upper end."""
    if_empty: str = "No feature has a value."
    """Sentences on why there is nothing to see, for the case that there is nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureLine:
    """The series of one feature: one entry for each date on which its tiles were observed, ascending."""

    name: str
    date: Dates
    """(dates,) datetime64[s], UTC."""
    value: Floats
    """(dates,) index units; NaN on a date without a value."""
    quarter: Floats | None = None
    """(dates,) 25th percentile."""
    three_quarters: Floats | None = None
    """(dates,) 75th percentile."""
    std: Floats | None = None
    """(dates,) standard deviation."""
    valid: Floats | None = None
    """(dates,) share of valid pixels, from 0 to 1."""
    smooth_date: Dates = field(default_factory=lambda: np.zeros(0, "datetime64[s]"))
    """(points,) dates of the smoothed curve."""
    smooth: Floats = field(default_factory=lambda: np.zeros(0))
    """(points,) the smoothed curve, index units."""

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(dates,) whether there is a value."""
        found: npt.NDArray[np.bool_] = np.isfinite(self.value)
        return found

    def drawn_values(self) -> list[Floats]:
        """Return everything that needs room on the axis of values."""
        found = [self.value, self.smooth]
        found += [column for column in (self.quarter, self.three_quarters) if column is not None]
        if self.std is not None:
            found += [self.value - self.std, self.value + self.std]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """Values of many features by date, or by steps of several days."""

    date: Dates
    """(steps,) datetime64[s]; the middle of a step of several days."""
    levels: Floats
    """(5, steps) 10th, 25th, 50th, 75th and 90th percentile over all values of the step."""
    features: Ints
    """(steps,) number of features with a value."""
    days: int = 1
    """Days of a step."""

    @property
    def few(self) -> npt.NDArray[np.bool_]:
        """(steps,) whether so few features have a value that they may differ from the others for this reason alone."""
        found: npt.NDArray[np.bool_] = self.features < 0.1 * self.features.max(initial=0)
        return found


def overview_of(date: Dates, fid: Ints, value: Floats) -> Overview:
    """Compute the distribution of values by date.

    Parameters
    ----------
    date, fid, value
        (rows,) in any order; rows without a value (NaN) are left out. Times of one day belong together. Where there are
        more than 300 days, several are taken together.
    """
    known = np.isfinite(value)
    date, fid, value = date[known], fid[known], value[known]
    day = date.astype("datetime64[D]").astype(np.int64)
    step = _days_of_a_step(np.unique(day))
    group = day // step
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1 if len(group) else 0))
    counts = np.diff(starts, append=len(group))
    levels = np.stack([_sorted_quantiles(value, starts, counts, share) for share in (0.1, 0.25, 0.5, 0.75, 0.9)])
    if step == 1:
        # The hour of one of the observations; dates stay what they are in the tables.
        middle = np.minimum.reduceat(date[order], starts) if len(starts) else date[:0]
    else:
        middle = (group[starts] * step).astype("datetime64[D]").astype("datetime64[s]") + np.timedelta64(
            43200 * step, "s"
        )
    features = np.zeros(0, np.int64)
    if len(group):
        span = int(fid.max()) + 1
        # A feature counts once in a step of several days. (numpy's unique is slow where most are.)
        pairs = np.sort((group - group[0]) * span + fid[order])
        by_step = np.bincount(pairs[np.diff(pairs, prepend=-1) > 0] // span)
        features = by_step[by_step > 0]
    return Overview(middle.astype("datetime64[s]"), levels, features.astype(np.int64), step)


def _days_of_a_step(days: Ints) -> int:
    """Return how many days are drawn together, so that a line of them can be read."""
    if len(days) <= _MOST_DAYS:
        return 1
    return next((width for width in _WIDTHS if len(np.unique(days // width)) <= _MOST_DAYS), _WIDTHS[-1])


def _sorted_quantiles(value: Floats, starts: Ints, counts: Ints, share: float) -> Floats:
    """Quantile of each group of sorted values, with linear interpolation, as numpy's default."""
    place = share * (counts - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, counts - 1)
    below, above = value[starts + low], value[starts + high]
    result: Floats = below + (above - below) * (place - low)
    return result


# --- all features over time


@default_settings()
def overview_figure(
    lines: Sequence[FeatureLine], captions: Captions, overview: Overview | None = None, empty_dates: Dates | None = None
) -> Figure:
    """Draw features over time: lines of a few, over the median and the middle of all where there are many.

    Parameters
    ----------
    lines
        The features that have a line each, at most `MOST_LINES`.
    captions
        The texts.
    overview
        The distribution over all features, or None.
    empty_dates
        Dates of acquisitions without a value of any feature, marked in the strip below an overview.
    """
    figure = _figure(10.0, 5.6 if overview is None else 6.2)
    right = 8.4 if lines else 9.75
    if overview is None:
        axes = _axes(figure, (0.75, 0.45, right - 0.75, 4.2))
    else:
        axes = _axes(figure, (0.75, 1.35, right - 0.75, 3.6))
    draw_overview(axes, lines, captions, overview)
    _name_lines(axes, lines)
    if overview is not None:
        strip = _axes(figure, (0.75, 0.45, right - 0.75, 0.65))
        _count_strip(strip, overview, empty_dates)
        limits = _time_limits(overview.date, *(line.date for line in lines), *_given(empty_dates))
        for one in (axes, strip):
            _time_axis(one, *limits)
        axes.tick_params(labelbottom=False)
        axes.xaxis.get_offset_text().set_visible(False)
        if not len(overview.date) and not _given(empty_dates):
            strip.tick_params(bottom=False, labelbottom=False)  # there is no time to show
    _head(figure, captions, with_legend=True)
    return figure


def draw_overview(
    axes: Axes,
    lines: Sequence[FeatureLine],
    captions: Captions,
    overview: Overview | None = None,
    *,
    named: bool = False,
) -> None:
    """Draw features over time into axes; see `overview_figure`.

    Axes that show some already keep them: other colours are taken, names say what they are of, and the axes grow.

    Parameters
    ----------
    named
        Whether to add a title, and a legend of the lines.
    """
    former = (axes.get_xlim(), axes.get_ylim(), axes.get_ylabel()) if _colours_taken(axes) else None
    of = f" · {captions.value}" if former else ""
    if overview is not None and len(overview.date):
        _draw_distribution(axes, overview, _next_colour(axes), of)
    for place, line in enumerate(lines):
        look: dict[str, Any] = {"color": _next_colour(axes), "gid": f"line-{place}"}
        known, is_long = line.known, len(line.date) > _LONG
        # Dates without a value part the line; the faint one leads the eye across.
        axes.plot(
            line.date[known], line.value[known], linewidth=0.5 if is_long else 0.9, linestyle=(0, (1, 2)), **look
        )  # fmt: skip
        axes.plot(
            line.date, line.value, linewidth=0.9 if is_long else 1.7, marker=_MARKERS[place % len(_MARKERS)],
            linestyle="-" if place < len(_LINE_COLOURS) or is_long else "--",
            markersize=_marker_size(int(known.sum())), label=f"{drawable(line.name, 40)}{of}", **look,
        )  # fmt: skip
    values = [line.value for line in lines] + ([overview.levels.ravel()] if overview is not None else [])
    _finish(axes, captions, values, [line.date for line in lines] + ([overview.date] if overview is not None else []))
    if not any(np.isfinite(part).any() for part in values) and not former:
        _say_empty(axes, captions)
    elif named:
        legend = axes.legend(loc="best", fontsize=8.5, frameon=False)
        _plain(legend.get_texts(), _ink(axes))
    if former:
        _grow(axes, *former)
    elif named:
        title = drawable(captions.title, 60)
        axes.set_title(title, loc="left", **_words([title], fontsize=11, color=_ink(axes), fontweight="bold"))


def _grow(axes: Axes, x: tuple[float, float], y: tuple[float, float], label: str) -> None:
    """Make room for what was drawn before as well: former ends of the axes, and the former label."""
    (left, right), (low, high), added = axes.get_xlim(), axes.get_ylim(), axes.get_ylabel()
    axes.set_xlim(min(left, x[0]), max(right, x[1]))
    axes.set_ylim(min(low, y[0]), max(high, y[1]))
    axes.set_ylabel(label if added in label.split(", ") else ", ".join(filter(None, [label, added])))


def _colours_taken(axes: Axes) -> list[str]:
    """Return the colours of the medians and lines in axes, each once."""
    ours = [line for line in axes.lines if str(line.get_gid()) == "median" or str(line.get_gid()).startswith("line-")]
    return list(dict.fromkeys(str(line.get_color()) for line in ours))


def _next_colour(axes: Axes) -> str:
    """Return a colour that no line in axes has; the first ones again when all are taken."""
    taken = _colours_taken(axes)
    free = [colour for colour in _LINE_COLOURS if colour not in taken]
    count = sum(str(line.get_gid()).startswith("line-") for line in axes.lines) // 2
    return free[0] if free else _LINE_COLOURS[count % len(_LINE_COLOURS)]


def _ink(axes: Axes) -> str:
    """Return the colour of texts in axes: dark ones, or light ones where the user has a dark background."""
    from matplotlib.colors import to_rgba  # noqa: PLC0415  # an extra

    ground = axes.get_facecolor()
    red, green, blue, opacity = to_rgba(ground)
    if opacity < 0.5:
        red, green, blue, _ = to_rgba(axes.figure.get_facecolor())
    return _TEXT if 0.3 * red + 0.59 * green + 0.11 * blue > 0.4 else _FAINT


def _draw_distribution(axes: Axes, overview: Overview, colour: str, of: str) -> None:
    """Draw bands and the median in a colour; `of` ends their names in the legend."""
    few = overview.few
    low, quarter, median, three_quarters, high = np.where(few, np.nan, overview.levels)
    kept = ~few
    bands = ((low, high, "10 to 90 % of the features", 0.16), (quarter, three_quarters, "25 to 75 %", 0.32))
    for bottom, top, name, opacity in bands:
        axes.fill_between(
            overview.date[kept], bottom[kept], top[kept], color=colour, alpha=opacity, linewidth=0, label=f"{name}{of}"
        )
    axes.plot(
        overview.date[kept], median[kept], color=colour, linewidth=1.8, marker="o",
        markersize=_marker_size(int(kept.sum())), label=f"median{of}", gid="median",
    )  # fmt: skip
    if few.any():
        axes.plot(
            overview.date[few], overview.levels[2, few], color=colour, linestyle="none", marker="o", markersize=4,
            markerfacecolor="white", label=f"median of few features{of}", gid="few",
        )  # fmt: skip


def _count_strip(axes: Axes, overview: Overview, empty_dates: Dates | None) -> None:
    """Draw the number of features with a value."""
    most = max(1, int(overview.features.max(initial=0)))
    axes.vlines(overview.date, 0, overview.features, color=_GREY, linewidth=_bar_width(axes, len(overview.date)))
    if empty_dates is not None and len(empty_dates):
        axes.plot(
            empty_dates, np.full(len(empty_dates), most / 2), linestyle="none", marker="x", color=_VERMILION,
            markersize=4.5 if len(empty_dates) <= 60 else 2.5, markeredgewidth=1.1, label="date without any value",
            gid="empty",
        )  # fmt: skip
    axes.set_ylim(0, most * 1.08)
    axes.set_yticks([0, most], labels=["0", f"{most:,}"])
    axes.set_ylabel("features", **_words(["features"], fontsize=8.5, color=_TEXT))
    _spines(axes, 9)


def _name_lines(axes: Axes, lines: Sequence[FeatureLine]) -> None:
    """Write the name of each line at its right end; names are moved apart where they would overlap."""
    named = [(place, line) for place, line in enumerate(lines) if line.known.any()]
    if not named:
        return
    low, high = axes.get_ylim()
    height = _points(axes)[1]
    last = [float((line.value[line.known][-1] - low) / (high - low)) for _, line in named]
    for at, (place, line) in zip(_apart(last, 12.5 / height), named, strict=True):
        name = drawable(line.name, _LONGEST_NAME)
        colour = next(one.get_color() for one in axes.lines if one.get_gid() == f"line-{place}")
        end = (line.date[line.known][-1], line.value[line.known][-1])
        axes.annotate(
            "", xy=end, xytext=(1.015, at), textcoords="axes fraction", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        axes.plot(
            1.02, at, transform=axes.transAxes, clip_on=False, marker=_MARKERS[place % len(_MARKERS)], markersize=4.5,
            color=colour, linestyle="none", gid="key",
        )  # fmt: skip
        axes.text(1.032, at, name, transform=axes.transAxes, va="center", **_words([name], fontsize=9, color=_TEXT))


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places near the wanted ones, from 0 to 1, at least `gap` apart where there is room."""
    gap = min(gap, 1.0 / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    above = -gap
    for i in order:
        above = places[i] = max(wanted[i], above + gap)
    below = 1.0 + gap
    for i in reversed(order):
        below = places[i] = min(places[i], below - gap)
    return places


# --- one panel for each feature


def panel_figures(
    lines: Sequence[FeatureLine], captions: Captions, *, gaps: bool = True, curve: str = "smoothed"
) -> Iterator[Figure]:
    """Draw a panel for each feature: at most `PANELS` on a page, or 8 wide ones where a series has over 200 dates.

    Parameters
    ----------
    lines
        The features.
    captions
        The texts.
    gaps
        True parts the line at dates without a value and marks them; False joins the values and leaves these dates out.
    curve
        Name of the smoothed curve.
    """
    limits = _time_limits(*(line.date for line in lines), *(line.smooth_date for line in lines))
    ends = _value_ends(captions, [part for line in lines for part in line.drawn_values()])
    wide = any(len(line.date) > _LONG for line in lines)
    most = _WIDE_PANELS if wide else PANELS
    pages = [lines[start : start + most] for start in range(0, len(lines), most)] or [()]
    for number, page in enumerate(pages):
        first = number * most
        part = f"features {first + 1} to {first + len(page)} of {len(lines)}" if len(pages) > 1 else ""
        subtitle = " · ".join(text for text in (captions.subtitle, part) if text)
        said = replace(captions, subtitle=subtitle)
        yield _page(page, said, ends, limits, gaps=gaps, curve=curve, wide=wide)


@default_settings()
def _page(
    lines: Sequence[FeatureLine],
    captions: Captions,
    ends: tuple[float, float],
    limits: tuple[Any, Any],
    *,
    gaps: bool,
    curve: str,
    wide: bool,
) -> Figure:
    columns = 1 if wide else min(_COLUMNS, max(1, len(lines)))
    rows = max(1, math.ceil(len(lines) / columns))
    width, height = (12.4, 2.4) if wide else (4.15, 2.0) if columns > 1 else (8.6, 3.6)
    # Narrow pages have two rows of entries in the legend.
    left, top, between, under = 0.75, 1.15 if columns * width > 12 else 1.35, 0.42, 0.62
    figure = _figure(left + columns * width + 0.15, top + rows * (height + under) - 0.1)
    size = figure.get_size_inches()[1]
    last: Axes | None = None
    for place in range(max(1, len(lines))):
        row, column = divmod(place, columns)
        bottom = size - top - row * (height + under) - height
        axes = _axes(figure, (left + column * width, bottom, width - between, height))
        if lines:
            _panel(axes, lines[place], gaps=gaps, curve=curve)
        axes.set_ylim(ends[0] - (ends[1] - ends[0]) * _ROOM / (1 - _ROOM), ends[1])
        _time_axis(axes, *limits)
        _value_axis(axes, captions.value if column == 0 else "", lowest=ends[0], small=columns > 1)
        if not lines:
            _say_empty(axes, captions)
        last = axes
    _head(figure, captions, with_legend=False)
    if lines and last is not None:
        _legend_of_panels(figure, lines, gaps=gaps, curve=curve)
    return figure


def _panel(axes: Axes, line: FeatureLine, *, gaps: bool, curve: str) -> None:
    """Draw one feature."""
    known = line.known
    date, value = line.date[known], line.value[known]
    width = _bar_width(axes, len(line.date))
    if line.std is not None and known.any():
        std = line.std[known]
        axes.vlines(date, value - std, value + std, color=_BLUE, alpha=0.35, linewidth=max(0.6, width / 4), gid="std")
    if line.quarter is not None and line.three_quarters is not None and known.any():
        axes.vlines(
            date, line.quarter[known], line.three_quarters[known], color=_BLUE, alpha=0.35, linewidth=width,
            gid="quartiles",
        )  # fmt: skip
    shown_date, shown = (line.date, line.value) if gaps else (date, value)
    axes.plot(
        shown_date, shown, color=_BLUE, linewidth=1.4 if len(line.date) <= _LONG else 0.7, marker="o",
        markersize=_marker_size(len(date)), gid="mean",
    )  # fmt: skip
    drawn = np.isfinite(line.smooth)
    if drawn.any():  # below the mean, which it would hide; but a long series would hide it
        is_long = len(line.date) > _LONG
        look: dict[str, Any] = {"linewidth": 1.3 if is_long else 2.4, "zorder": 2.5 if is_long else 1.8}
        axes.plot(
            line.smooth_date[drawn], line.smooth[drawn], color=_VERMILION, alpha=0.8, label=curve, gid="smooth",
            **look,
        )  # fmt: skip
    _share_strip(axes, line, width, gaps=gaps)
    name = drawable(line.name, 44)
    axes.set_title(name, loc="left", y=1.0, pad=4, **_words([name], fontsize=9.5, color=_TEXT, fontweight="bold"))
    if not known.any():
        axes.text(0.5, 0.6, "no values", transform=axes.transAxes, ha="center", **_words([], fontsize=9, color=_GREY))


def _share_strip(axes: Axes, line: FeatureLine, width: float, *, gaps: bool) -> None:
    """Draw the share of valid pixels as bars at the bottom, and the dates without a value as crosses."""
    bottom = axes.get_xaxis_transform()
    known = line.known
    axes.axhline(0.0, color=_FAINT, linewidth=0.5)
    axes.plot([0, 1], [_STRIP, _STRIP], transform=axes.transAxes, color=_FAINT, linewidth=0.8, gid="strip")
    if line.valid is not None and known.any():
        axes.vlines(
            line.date[known], 0, _STRIP * np.nan_to_num(line.valid[known]), transform=bottom, color=_GREY, alpha=0.75,
            linewidth=width, gid="valid",
        )  # fmt: skip
    if gaps and not known.all():
        dates = line.date[~known]
        if len(line.date) > _LONG:  # crosses would run into each other
            axes.vlines(
                dates, 0, _STRIP, transform=bottom, color=_VERMILION, alpha=0.35, linewidth=width, gid="without"
            )  # fmt: skip
            return
        axes.plot(
            dates, np.full(len(dates), _STRIP / 2), transform=bottom, linestyle="none", marker="x", color=_VERMILION,
            markersize=4.5 if len(line.date) <= 80 else 3.0, markeredgewidth=1.1 if len(line.date) <= 80 else 0.8,
            gid="without",
        )  # fmt: skip


_STRIP, _ROOM = 0.15, 0.2
"""Height of the strip of valid shares, and of what is kept free of values for it, as parts of a panel."""


def _legend_of_panels(figure: Figure, lines: Sequence[FeatureLine], *, gaps: bool, curve: str) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415  # an extra

    def entry(name: str, **look: Any) -> Line2D:
        return Line2D([], [], label=name, solid_capstyle="butt", **look)

    handles = [entry("mean", color=_BLUE, linewidth=1.4, marker="o", markersize=4)]
    if any(line.quarter is not None for line in lines):
        handles.append(entry("25th to 75th percentile", color=_BLUE, alpha=0.35, linewidth=7))
    if any(line.std is not None for line in lines):
        handles.append(entry("mean ± std", color=_BLUE, alpha=0.35, linewidth=1.5))
    if any(np.isfinite(line.smooth).any() for line in lines):
        handles.append(entry(drawable(curve, 40), color=_VERMILION, linewidth=2.4, alpha=0.8))
    if any(line.valid is not None for line in lines):
        handles.append(entry("valid pixels (line: 100 %)", color=_GREY, alpha=0.75, linewidth=5))
    if gaps and any(not line.known.all() for line in lines):
        long = any(len(line.date) > _LONG for line in lines)
        look: dict[str, Any] = {"alpha": 0.35, "linewidth": 5} if long else {"marker": "x", "linestyle": "none"}
        handles.append(entry("date without a value", color=_VERMILION, markersize=5, **look))
    width, height = figure.get_size_inches()
    ncols = len(handles) if width > 12 else 3
    legend = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.75 / width, 1 - 0.6 / height), ncols=ncols,
        frameon=False, fontsize=8.5, borderpad=0, borderaxespad=0, handlelength=1.6, columnspacing=1.6,
    )  # fmt: skip
    _plain(legend.get_texts())


# --- parts that figures share


def _figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches, with a canvas of its own: pyplot and its backend are not touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Add axes whose left and lower edge, width and height are given in inches."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.set_facecolor("white")
    return axes


def _finish(axes: Axes, captions: Captions, values: Sequence[Floats], dates: Sequence[Dates]) -> None:
    axes.set_ylim(*_value_ends(captions, values))
    _time_axis(axes, *_time_limits(*dates))
    _value_axis(axes, captions.value)


def _value_ends(captions: Captions, values: Sequence[Floats]) -> tuple[float, float]:
    """Return the ends of the axis of values: the usual ones, moved out where values are beyond them."""
    low, high = captions.low, captions.high
    for part in values:
        known = part[np.isfinite(part)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    margin = 0.03 * (high - low)
    low = low if low == captions.low else low - margin
    high = high if high == captions.high else high + margin
    return low, high if high > low else low + 1.0


def _value_axis(axes: Axes, label: str, *, lowest: float = -math.inf, small: bool = False) -> None:
    """Label the axis of values; there are no ticks below `lowest`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator  # noqa: PLC0415  # an extra

    locator = MaxNLocator(5 if small else 7, steps=[1, 2, 2.5, 5, 10])
    axes.yaxis.set_major_locator(locator)
    if math.isfinite(lowest):
        ticks = locator.tick_values(lowest, axes.get_ylim()[1])
        axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick >= lowest]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}".replace("-", "\N{MINUS SIGN}")))
    axes.grid(visible=True, axis="y", color=_FAINT if _ink(axes) == _TEXT else _GREY, linewidth=0.8, linestyle="-")
    axes.set_axisbelow(True)
    if label:
        label = drawable(label)
        axes.set_ylabel(label, **_words([label], fontsize=8.5 if small else 9.5, color=_ink(axes)))
    _spines(axes, 8 if small else 9)


def _spines(axes: Axes, size: float) -> None:
    """Draw thin lines on the left and below, and labels of ticks of a size in points."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_GREY)
        spine.set_linewidth(0.8)
    axes.tick_params(labelsize=size, labelcolor=_ink(axes), color=_GREY, labelfontfamily=FONT)


def _time_limits(*dates: Dates) -> tuple[np.datetime64, np.datetime64]:
    """Return the ends of the axis of time: those of all dates, with some room."""
    known = [part.astype("datetime64[s]") for part in dates if len(part)]
    if not known:
        return np.datetime64("2015-06-23", "s"), np.datetime64("2016-06-23", "s")  # the first image of Sentinel-2
    first, last = min(part.min() for part in known), max(part.max() for part in known)
    # A single date stands in the middle of two months.
    room = max((last - first) * 0.02, np.timedelta64(1 if last > first else 30, "D"))
    return first - room, last + room


def _time_axis(axes: Axes, first: np.datetime64, last: np.datetime64) -> None:
    import datetime as dt  # noqa: PLC0415

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415

    ends: Any = (first, last)  # dates, which the axis turns into its numbers
    axes.set_xlim(ends)
    locator = AutoDateLocator(tz=dt.UTC, minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    # A day carries its month; the year stands below where no tick names it.
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        tz=dt.UTC,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S.%f"],
        zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
        offset_formats=["", "%Y", "%Y", "%Y", "%Y-%m-%d", "%Y-%m-%d"],
    )
    axes.xaxis.set_major_formatter(formatter)
    offset = axes.xaxis.get_offset_text()
    offset.set(fontsize=8, color=_GREY, fontfamily=FONT)


def _head(figure: Figure, captions: Captions, *, with_legend: bool) -> None:
    """Write title and subtitle at the top left, and the legend of all axes below them."""
    width, height = figure.get_size_inches()
    left = 0.75 / width
    title, subtitle = drawable(captions.title, 90), drawable(captions.subtitle, 170)
    figure.text(
        left, 1 - 0.12 / height, title, va="top", ha="left",
        **_words([title], fontsize=13, color=_TEXT, fontweight="bold"),
    )  # fmt: skip
    figure.text(left, 1 - 0.38 / height, subtitle, va="top", ha="left", **_words([subtitle], fontsize=8.5, color=_GREY))
    if not with_legend:
        return
    shown = [
        (handle, label)
        for part in figure.axes  # the strip below marks dates too
        for handle, label in zip(*part.get_legend_handles_labels(), strict=True)
        if not str(handle.get_gid()).startswith("line-")
    ]
    if shown:
        legend = figure.legend(
            [handle for handle, _ in shown], [label for _, label in shown], loc="upper left",
            bbox_to_anchor=(left, 1 - 0.62 / height), ncols=len(shown), frameon=False, fontsize=9, borderpad=0,
            borderaxespad=0, handlelength=1.6, columnspacing=1.8,
        )  # fmt: skip
        _plain(legend.get_texts())


def _say_empty(axes: Axes, captions: Captions) -> None:
    """Write in words that there is nothing to see, and why."""
    text = "\n".join(textwrap.wrap(drawable(captions.if_empty or "No feature has a value.", 600), 76))
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", linespacing=1.5,
        **_words([text], fontsize=10.5, color=_ink(axes)),
    )  # fmt: skip
    axes.tick_params(bottom=False, labelbottom=False)
    axes.xaxis.get_offset_text().set_visible(False)


def _bar_width(axes: Axes, dates: int) -> float:
    """Return the width in points of bars, one for each date, that leave room between them."""
    return float(np.clip(0.45 * _points(axes)[0] / max(1, dates), 0.6, 6.0))


def _points(axes: Axes) -> tuple[float, float]:
    """Return width and height of axes in points."""
    return axes.bbox.width * 72 / axes.figure.dpi, axes.bbox.height * 72 / axes.figure.dpi


def _marker_size(dates: int) -> float:
    return 4.0 if dates <= 40 else 2.5 if dates <= 150 else 0.0


def _words(texts: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return keywords for texts; see `sen2chain.pictures.drawn_text.style`."""
    return style(texts or ["a"], **more)


def _plain(texts: Sequence[Any], colour: str = _TEXT) -> None:
    """Make texts of a legend plain ones, in a colour."""
    for text in texts:
        text.set(**_words([text.get_text()]), color=colour)


def _given(dates: Dates | None) -> tuple[Dates, ...]:
    return () if dates is None or not len(dates) else (dates,)
