"""Baseline audit: dates whose reflectance is 0.1 too high or too low, found by comparison with the dates around them.

An offset that was forgotten, subtracted twice, or subtracted where there is none shifts each pixel in each band by the
same 0.1. Nothing on the ground or in the air does that: harvest, fire and floods change bands differently, haze is blue
and weakens contrast, snow and clouds replace the ground, moisture and light change bright pixels more than dark ones.

Each pixel votes. Its reference is the median of the clear dates around a date. A pixel votes for a shift where all of
its bands have it, up to `TOLERANCE` and some haze. How dates are judged from votes, and how the limits were found, is
told in ``docs/decisions/0018-baseline-audit.md``. Arrays come in and verdicts go out; `audit_pictures` reads the files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

SHIFT = 0.1
"""Reflectance by which a wrong offset shifts all bands."""
TOLERANCE = 0.035
"""Reflectance by which a band may differ from the shift that its pixel votes for."""
MOST_HAZE = 0.15
"""Reflectance in blue up to which haze is allowed for in a vote."""
CLEAREST = 0.35
"""Haze relative to blue that one of the bands must not exceed, so that haze does not look like a shift."""
AROUND = 5
"""Clear dates before a date, and as many after it, whose median is the reference of a pixel."""
LEAST_AROUND = 3
"""Clear dates without which a pixel has no reference."""
MOST_PIXELS = 2000
"""Pixels that vote, the most stable ones in each part of the picture."""
LEAST_PIXELS = 60
"""Votes for one shift without which a date is not judged."""
LEAST_SHARE = 0.2
"""Share of a date's clear pixels that vote for a shift, without which it is not found."""
MAJORITY = 4.0
"""How many times more votes a shift has than any other."""
LEAST_AGREEING = 0.25
"""Share of a date's clear pixels that vote for no shift, without which it is not right."""
AGREEMENT = 2.0
"""How many times more votes no shift has than any other on a date that is right."""
CONTRAST = 0.2
"""Reflectance between the darkest and the brightest band from which a pixel tells a shift from a change of light."""
LIGHT = tuple(np.arange(-0.5, 0.11, 0.05, dtype=np.float32))
"""Changes of light or moisture, in parts of the reflectance, and"""
VEILS = (0.0, 0.04, 0.08)
"""reflectance of haze in blue, which together explain a difference; and"""
SHARES = tuple(np.arange(0.02, 0.31, 0.04, dtype=np.float32))
"""shares of the light that cirrus of the reflectance"""
CIRRUS = np.float32(0.6)
"""sends back, which explain one too, but not where the middle half of the pixels differs by no more than"""
EVEN = 0.015
"""in infrared, and contrast between its bands is not weaker by more than"""
WEAKER = 0.12
"""of itself; nor where"""
UNIFORM = 0.95
"""that share of the pixels with contrast votes for one shift."""
IMPOSSIBLE = -0.03
"""Reflectance that the dark bands of clear pixels are not below; the median over the voting pixels counts."""
ALONE = (0.4, 0.5)
"""Share of the clear pixels that agree with the dates around in all bands but one, and the largest share of these that
does in that one, too, where a date's bands contradict each other; it is"""
STEADY = 0.02
"""off by the shift where its middle half differs by no more than this from pixel to pixel, and its median from it."""
MINORITY = 1 / 3
"""Share of the dates up to which those that differ from the others are the wrong ones."""
_PASSES = 8
_SHIFTS = (-1, 0, 1)
_PARTS = 8  # along an edge of the picture, for the choice of pixels


class Offset(StrEnum):
    """Verdict on the offset of a date."""

    RIGHT = "right"
    """Reflectance agrees with that of the dates around it."""
    TOO_HIGH = "too high"
    """Reflectance is 0.1 too high: an offset is in the digital numbers, and the metadata do not list it."""
    TOO_LOW = "too low"
    """Reflectance is 0.1 too low: the metadata list an offset that is not in the digital numbers, or list it twice."""
    CONTRADICTED = "contradicted"
    """Dates differ by 0.1 from each other, and nothing tells which of them are right."""
    UNDECIDED = "undecided"
    """Pixels do not tell."""


@dataclass(frozen=True, slots=True)
class DateVerdict:
    """Verdict on one date, and what it rests on."""

    offset: Offset
    """The verdict."""
    reason: str
    """Clause that says what it rests on, or why there is none."""
    pixels: int = 0
    """Pixels that are clear on this date and have a reference."""
    votes: int = 0
    """Pixels that voted for the shift that was found."""
    shift: float = 0.0
    """Reflectance that is too much; negative where it is too little."""
    band: str = ""
    """The one band that differs from the dates around it where all others agree; `shift` is of it alone then."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Small pictures of one place on several dates, in order of time.

    Negative reflectance is kept.
    """

    reflectance: Floats
    """(dates, rows, columns, bands) float32; NaN for no data."""
    clear: Bools
    """(dates, rows, columns); False under clouds and shadows, as far as these are known."""
    haze: tuple[float, ...]
    """(bands,) brightness of haze relative to blue; 0 in bands that see through it."""
    bands: tuple[str, ...] = ()
    """(bands,) their names, for reasons; they are numbered where there are none."""

    def name(self, number: int) -> str:
        """Return the name of a band."""
        return self.bands[number] if self.bands else f"band {number + 1}"


@dataclass(frozen=True, slots=True)
class _Poll:
    """Votes on one difference between two pictures."""

    pixels: int
    """Pixels that are clear in both."""
    votes: tuple[int, int, int]
    """Voting pixels for each of `_SHIFTS`."""
    contrast: tuple[int, int, int]
    """Those with contrast."""
    is_odd: bool
    """Whether the difference of those that voted for the shift with most of them has no natural explanation."""
    dark: tuple[float, float, float]
    """Median over the voting pixels of their darkest band."""
    alone: tuple[int, float] | None = None
    """The band that differs where all others agree, and its shift: 0 where that is not `SHIFT`."""

    def winner(self) -> int | None:
        """Return the shift that was voted for, in units of `SHIFT`; None where the votes do not decide."""
        # Water votes for a shift under glint, and dark ground under cirrus, so pixels with contrast come first.
        won = _majority(self.contrast)
        low, none, high = self.votes
        agreeing = none >= max(LEAST_AGREEING * self.pixels, AGREEMENT * low, AGREEMENT * high)
        if won == 0 and not agreeing:
            return None
        if won is not None and (won == 0 or self._is_shift(won, self.contrast)):
            return won
        won = _majority(self.votes)
        if won == 0:
            return 0 if agreeing else None
        return won if won == -1 and self.dark[0] < IMPOSSIBLE and self._is_shift(won, self.votes) else None

    def _is_shift(self, won: int, votes: tuple[int, int, int]) -> bool:
        """Whether the votes for a shift are those of a wrong offset."""
        enough = sum(self.votes) >= LEAST_SHARE * self.pixels and votes[won + 1] >= LEAST_PIXELS
        return enough and (
            (self.is_odd and won == _majority(self.contrast)) or (won == -1 and self.dark[0] < IMPOSSIBLE)
        )

    def why_undecided(self) -> str:
        """Say why there is no winner, a clause."""
        if self.pixels < LEAST_PIXELS:
            return f"only {self.pixels} of the pixels that are looked at are clear here and on enough dates around it"
        best = max(range(3), key=lambda k: self.votes[k])
        if _SHIFTS[best] != 0 and self.votes[best] >= max(LEAST_PIXELS, LEAST_SHARE * self.pixels):
            return (
                f"{self.votes[best]} of {self.pixels} clear pixels are {SHIFT:g} off in all bands, but too few of them "
                "are bright in any band to tell a wrong offset from glint or cirrus"
            )
        return (
            f"only {self.votes[1]} of {self.pixels} clear pixels agree with the dates around it, and "
            f"{max(self.votes[0], self.votes[2])} are {SHIFT:g} off (snow, haze, or clouds that are not marked)"
        )


def _majority(votes: tuple[int, int, int]) -> int | None:
    """Return the shift with by far the most votes, None where none has."""
    best = max(range(3), key=lambda k: votes[k])
    others = max(n for k, n in enumerate(votes) if k != best)
    return _SHIFTS[best] if votes[best] >= max(LEAST_PIXELS, MAJORITY * others) else None


def audit(pictures: Pictures, witnesses: Sequence[int | None] | None = None) -> list[DateVerdict]:
    """Judge the offset of each date.

    Parameters
    ----------
    pictures
        The dates.
    witnesses
        (dates,) what the pixels of each date alone show: 0 where its offset is right, 1 where its reflectance is
        `SHIFT` too high, -1 where it is too low, None where they do not tell.

    Returns
    -------
    list of DateVerdict
        (dates,) in their order.
    """
    count = len(pictures.reflectance)
    if not count:
        return []
    told = list(witnesses) if witnesses is not None else [None] * count
    if min(pictures.haze, default=1.0) > CLEAREST:
        reason = "no band of infrared is there, so a wrong offset looks like haze"
        return [by_witness(told[d], DateVerdict(Offset.UNDECIDED, reason)) for d in range(count)]
    series = _Series(pictures)
    levels, polls = _levels(series)
    relative = [None if poll.winner() is None else level for level, poll in zip(levels, polls, strict=True)]
    zero = _zero_level(relative, told)
    verdicts = []
    for d, poll in enumerate(polls):
        is_wrong = poll.alone is not None and (told[d] != 0 or poll.alone[1] != 0)
        if relative[d] is None and poll.alone is not None and is_wrong:  # a witness may look at that band alone
            band, shift = pictures.name(poll.alone[0]), poll.alone[1]
            reason = f"its bands contradict each other: all but {band} agree with the dates around it"
            verdicts.append(DateVerdict(Offset.UNDECIDED, reason, poll.pixels, 0, shift, band))
        else:
            verdicts.append(_verdict(poll, relative[d], zero, told[d], series.clear_dates_around(d)))
    return verdicts


def _levels(series: _Series) -> tuple[list[int], list[_Poll]]:
    """Return the level of each date in units of `SHIFT` relative to the others, and the votes that confirm it.

    Dates that stand out from those around them are corrected until none does; then steps between longer stretches
    of dates are.
    """
    levels = [0] * series.count
    polls: list[_Poll] = []
    for _ in range(_PASSES):
        polls = series.polls(levels)
        standing_out = {d: won for d, poll in enumerate(polls) if (won := poll.winner())}
        if not standing_out:
            step = series.step(levels)
            if step is None:
                break
            first, shift = step
            standing_out = dict.fromkeys(range(first, series.count), shift)
        for d, shift in standing_out.items():
            levels[d] += shift
    return levels, polls


def _zero_level(relative: Sequence[int | None], told: Sequence[int | None]) -> int | None:
    """Return the level of the dates whose offset is right; None where that cannot be told.

    The witnesses decide where three or more of them agree on one level, and no more than a tenth speaks against it;
    else the large majority of dates does.
    """
    decided = Counter(level for level in relative if level is not None)
    if not decided:
        return None
    heard = Counter(
        level - said for level, said in zip(relative, told, strict=True) if level is not None and said is not None
    )
    if heard:
        best, votes = heard.most_common(1)[0]
        if votes >= 3 and votes >= 0.9 * heard.total():
            return best
    best, votes = decided.most_common(1)[0]
    return best if decided.total() - votes <= MINORITY * decided.total() else None


def _verdict(poll: _Poll, level: int | None, zero: int | None, told: int | None, around: int) -> DateVerdict:
    """Return the verdict on one date."""
    if level is None:
        reason = poll.why_undecided()
        if around < LEAST_AROUND:
            reason = f"only {around} other dates are clear, and {LEAST_AROUND} are needed to compare it with"
        return by_witness(told, DateVerdict(Offset.UNDECIDED, reason, poll.pixels))
    votes = poll.votes[1]  # after the correction, its pixels vote for no shift
    if zero is None:
        reason = f"dates differ by {SHIFT:g} in all bands, and it cannot be told which of them are right"
        return by_witness(told, DateVerdict(Offset.CONTRADICTED, reason, poll.pixels, votes))
    error = level - zero
    reason = f"{votes} of {poll.pixels} clear pixels"
    if error == 0:
        return DateVerdict(Offset.RIGHT, f"{reason} agree with the dates around it", poll.pixels, votes)
    way = "higher" if error > 0 else "lower"
    reason += f" are {abs(error) * SHIFT:.1f} {way} in all bands than on the dates around it"
    return DateVerdict(_OFFSETS[error > 0], reason, poll.pixels, votes, error * SHIFT)


_OFFSETS = (Offset.TOO_LOW, Offset.TOO_HIGH)


def by_witness(told: int | None, verdict: DateVerdict) -> DateVerdict:
    """Take what the pixels of a date alone show where the dates around it do not decide.

    Parameters
    ----------
    told
        As of `audit`.
    verdict
        The verdict where that is None.
    """
    if told is None:
        return verdict
    if told == 0:
        return DateVerdict(Offset.RIGHT, "its dark pixels have the reflectance that they should have", verdict.pixels)
    reason = "its dark pixels are too bright for dark ground" if told > 0 else "its dark pixels are below zero"
    return DateVerdict(_OFFSETS[told > 0], reason, verdict.pixels, 0, told * SHIFT)


class _Series:
    """The pixels that vote, on all dates."""

    def __init__(self, pictures: Pictures) -> None:
        chosen = _stable(pictures)
        self.count = len(pictures.reflectance)
        flat = pictures.reflectance.reshape(self.count, -1, len(pictures.haze))[:, chosen]
        self._clear = pictures.clear.reshape(self.count, -1)[:, chosen] & np.isfinite(flat).all(axis=2)
        # The last date is one without data, which missing dates around a date refer to.
        self._values = np.full((self.count + 1, *flat.shape[1:]), np.nan, np.float32)
        self._values[:-1] = np.where(self._clear[..., None], flat, np.nan)
        self._haze = np.array(pictures.haze, np.float32)
        self._before = _nearest(self._clear)
        self._after = self.count - 1 - _nearest(self._clear[::-1])[::-1]
        self._before[self._before < 0] = self.count
        self._columns = np.arange(flat.shape[1])
        self._involved = [
            np.setdiff1d(np.union1d(np.union1d(before, after), [date]), [self.count])
            for date, (before, after) in enumerate(zip(self._before, self._after, strict=True))
        ]
        self._polls: dict[int, tuple[tuple[int, ...], _Poll]] = {}
        self._steps: dict[int, tuple[tuple[int, ...], _Poll]] = {}

    def clear_dates_around(self, date: int) -> int:
        """Return the number of other dates with enough clear pixels to be a reference."""
        enough = self._clear.sum(axis=1) >= LEAST_PIXELS
        return int(enough.sum() - enough[date])

    def polls(self, levels: Sequence[int]) -> list[_Poll]:
        """Take the votes on each date's difference from the dates around it, all of them corrected by their levels."""
        return [self._kept(self._polls, date, self._involved[date], levels, self._poll) for date in range(self.count)]

    def _kept(
        self,
        kept: dict[int, tuple[tuple[int, ...], _Poll]],
        date: int,
        involved: Ints,
        levels: Sequence[int],
        take: Callable[[int, Sequence[int]], _Poll],
    ) -> _Poll:
        """Return the votes on a date; they are taken again only where the level of a date that they rest on changed."""
        now = tuple(levels[d] for d in involved)
        if date not in kept or kept[date][0] != now:
            kept[date] = now, take(date, levels)
        return kept[date][1]

    def _poll(self, date: int, levels: Sequence[int]) -> _Poll:
        around = np.concatenate([self._before[date], self._after[date]])
        today = self._values[date] - np.float32(SHIFT * levels[date])
        return _take(today, self._median(around, levels), self._haze)

    def step(self, levels: Sequence[int]) -> tuple[int, int] | None:
        """Find the largest step between the dates before and after one: its first date, and its shift."""
        found: dict[int, tuple[int, int]] = {}
        # A step shows beside its place, too.
        for first in range(1, self.count):
            involved = np.union1d(self._involved[first], self._involved[first - 1])
            poll = self._kept(self._steps, first, involved, levels, self._poll_step)
            if shift := poll.winner():
                found[first] = poll.votes[shift + 1], shift
        if not found:
            return None
        most = max(votes for votes, _ in found.values())
        near = [first for first, (votes, _) in found.items() if votes >= 0.9 * most]
        first = near[len(near) // 2] if near[-1] - near[0] <= AROUND else near[0]
        return first, found[first][1]

    def _poll_step(self, first: int, levels: Sequence[int]) -> _Poll:
        before = self._median(self._before[first], levels)
        return _take(self._median(self._after[first - 1], levels), before, self._haze)

    def _median(self, dates: Ints, levels: Sequence[int]) -> Floats:
        """Return the median over dates of each pixel, (pixels, bands); NaN where too few are clear.

        Parameters
        ----------
        dates
            (n, pixels) the dates of each pixel; the number of dates where there is none.
        levels
            Levels of all dates.
        """
        values = self._values[dates, self._columns]
        if any(levels):
            values = values - np.float32(SHIFT) * np.array([*levels, 0], np.float32)[dates][..., None]
        values = np.sort(values, axis=0)  # NaN come last
        count = (dates < self.count).sum(axis=0)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(dates) - 1)
        median: Floats = (values[low, self._columns] + values[high, self._columns]) / 2
        median[count < LEAST_AROUND] = np.nan
        return median


def _nearest(clear: Bools) -> Ints:
    """Return the last clear dates before each date, (dates, `AROUND`, pixels); -1 where there are fewer."""
    found = np.full((len(clear), AROUND, clear.shape[1]), -1, np.int64)
    for date in range(1, len(clear)):
        found[date] = found[date - 1]
        was = clear[date - 1]
        found[date, 1:, was] = found[date - 1, :-1, was]
        found[date, 0, was] = date - 1
    return found


def _take(today: Floats, reference: Floats, haze: Floats) -> _Poll:
    """Take the votes of all pixels on a difference; arrays are (pixels, bands), NaN where a pixel is not clear."""
    there = np.isfinite(today).all(axis=1) & np.isfinite(reference).all(axis=1)
    seen, expected = today[there], reference[there]
    difference = seen - expected
    has_contrast = np.ptp(expected, axis=1) >= CONTRAST if len(expected) else np.zeros(0, np.bool_)
    agrees = []
    for shift in _SHIFTS:
        left = difference - np.float32(SHIFT * shift)
        veil = np.clip(left @ haze / max(float(haze @ haze), 1e-9), 0, MOST_HAZE)
        agrees.append((np.abs(left - veil[:, None] * haze) <= TOLERANCE).all(axis=1))
    once = np.sum(agrees, axis=0) == 1
    voting = [agreed & once for agreed in agrees]
    contrast = [votes & has_contrast for votes in voting]
    counts = _three(int(votes.sum()) for votes in contrast)
    own = contrast[1 + (_majority(counts) or 0)]
    return _Poll(
        int(there.sum()),
        _three(int(votes.sum()) for votes in voting),
        counts,
        bool(_majority(counts))
        and _is_odd(difference[own], expected[own], haze, is_uniform=own.sum() >= UNIFORM * has_contrast.sum()),
        _three(float(np.median(seen[votes].min(axis=1))) if votes.any() else 0.0 for votes in voting),
        _alone(difference),
    )


def _alone(difference: Floats) -> tuple[int, float] | None:
    """Return the one band that differs where all others agree, and its shift, see `_Poll.alone`."""
    if len(difference) < LEAST_PIXELS or difference.shape[1] < 3:
        return None
    agree = np.abs(difference) <= TOLERANCE
    band = int(np.argmin(agree.mean(axis=0)))
    rest: Bools = np.logical_and.reduce(np.delete(agree, band, axis=1), axis=1)
    if rest.sum() < max(LEAST_PIXELS, ALONE[0] * len(rest)) or agree[rest, band].mean() > ALONE[1]:
        return None
    low, middle, high = np.quantile(difference[rest, band], (0.25, 0.5, 0.75))
    is_shift = high - low <= STEADY and abs(abs(middle) - SHIFT) <= STEADY
    return band, float(np.copysign(SHIFT, middle)) if is_shift else 0.0


def _three(values: Any) -> Any:
    first, second, third = values
    return first, second, third


def _is_odd(difference: Floats, reflectance: Floats, haze: Floats, *, is_uniform: bool) -> bool:
    """Whether the difference of pixels from their reference has no natural explanation.

    It has one where half of them may differ by light, moisture, haze or cirrus.

    Parameters
    ----------
    difference, reflectance
        (pixels, bands) difference from the reference, and the reference.
    haze
        (bands,) brightness of haze.
    is_uniform
        Whether nearly all pixels vote for one shift, as they do not under cirrus, which differs from place to place.
    """
    if not len(difference):
        return False
    veils = [np.float32(veil) * haze for veil in VEILS]
    changes = [light * reflectance + veil for light in LIGHT for veil in veils]
    if not is_uniform and not _is_even(difference[:, haze <= CLEAREST], reflectance[:, haze <= CLEAREST]):
        changes += [share * (CIRRUS - reflectance) + veil for share in SHARES for veil in veils]
    explained = np.zeros(len(difference), np.bool_)
    for change in changes:
        explained |= (np.abs(difference - change) <= TOLERANCE).all(axis=1)
    return bool(explained.mean() < 0.5)


def _is_even(difference: Floats, reflectance: Floats) -> bool:
    """Whether a difference in infrared is more even than cirrus is, over the ground and over dark and bright bands."""
    low, high = np.quantile(difference, (0.25, 0.75), axis=0)
    x = reflectance - reflectance.mean(axis=1, keepdims=True)
    slope = float((difference * x).sum()) / max(float((x * x).sum()), 1e-9)
    return bool(np.median(high - low) <= EVEN and slope >= -WEAKER)


def _stable(pictures: Pictures) -> Ints:
    """Choose the pixels that vote: in each part of the picture those that change least from date to date."""
    dates, rows, columns, bands = pictures.reflectance.shape
    values = pictures.reflectance.reshape(dates, -1, bands)
    clear = pictures.clear.reshape(dates, -1) & np.isfinite(values).all(axis=2)
    times = clear.sum(axis=0)
    change = np.full(rows * columns, np.inf, np.float32)
    useful = np.flatnonzero(times > LEAST_AROUND)
    if len(useful):
        change[useful] = _change(values[:, useful], clear[:, useful])
    row, column = np.divmod(np.arange(rows * columns), columns)
    part = row * _PARTS // rows * _PARTS + column * _PARTS // columns
    usual = np.full((rows * columns, bands), np.nan, np.float32)
    usual[useful] = _medians(values[:, useful], clear[:, useful])
    part = 2 * part + (np.ptp(usual, axis=1) >= CONTRAST)  # as many with contrast as without
    order = np.lexsort((change, part))
    rank = np.arange(len(order)) - np.searchsorted(part[order], part[order])
    keep = np.isfinite(change[order]) & (rank < MOST_PIXELS // (2 * _PARTS**2))
    return np.sort(order[keep])


def _medians(values: Floats, clear: Bools) -> Floats:
    """Return the median of each pixel over the dates on which it is clear, (pixels, bands)."""
    ordered = np.sort(np.where(clear[..., None], values, np.inf), axis=0)
    middle: Floats = ordered[(clear.sum(axis=0) - 1) // 2, np.arange(values.shape[1])]
    return middle


def _change(values: Floats, clear: Bools) -> Floats:
    """Return the median change between successive clear dates, (pixels,): that of the band that changes most."""
    steps = np.full(values.shape, np.nan, np.float32)
    last = np.full(values.shape[1:], np.nan, np.float32)
    for date, (today, is_clear) in enumerate(zip(values, clear, strict=True)):
        steps[date, is_clear] = np.abs(today - last)[is_clear]
        last[is_clear] = today[is_clear]
    steps = np.sort(steps, axis=0)
    count = np.isfinite(steps[..., 0]).sum(axis=0)
    middle = steps[np.maximum(count - 1, 0) // 2, np.arange(values.shape[1])].max(axis=1)
    worst: Floats = np.where(count > 0, middle, np.inf).astype(np.float32)
    return worst
