"""The timing of a job: the five fields of cron, checked as strictly as Debian's cron checks them.

`cronsim` computes the times. Fields that cron refuses are refused, and so are those that cron accepts with another
meaning than the obvious one, as ``1-5-7`` or a range that runs backwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from cronsim import CronSim, CronSimError

from sen2chain.errors import ScheduleError
from sen2chain.jobs.schedule.time_zone import LocalZone

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PART = re.compile(r"(?:\*|(?P<low>[0-9a-z]+)(?:-(?P<high>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")
_LONGEST_STEP = 999
"""Cron takes longer ones too, until its integers overflow."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: its name, its smallest and largest number, and names for the numbers."""

    called: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """Read a number or a name."""
        if text in self.names:
            return self.first + self.names.index(text)
        if not text.isdecimal() or len(text) > 9 or not self.first <= int(text) <= self.last:
            names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"the {self.called} {text} is not from {self.first} to {self.last}{names}")
        return int(text)

    def plain(self, part: str) -> str:
        """Check one part of a list, and return it in the form in which cronsim and cron agree."""
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"the {self.called} {part!r} is not a *, number, range or step")
        low, high, step = match["low"], match["high"], match["step"]
        if step is not None and not (len(step) < 9 and 1 <= int(step) <= _LONGEST_STEP):
            raise ValueError(f"the step {step} of the {self.called} {part} is not from 1 to {_LONGEST_STEP}")
        if low is None:
            return part
        if high is None:
            if step is not None:
                raise ValueError(f"the {self.called} {part} has a step without a range; write {low}-{self.last}/{step}")
            return str(self.number(low))
        begin, end = self.number(low), self.number(high)
        if begin > end:
            raise ValueError(f"the {self.called} {part} runs backwards, from {begin} to {end}; write two ranges")
        # A step from a single number runs to the last one in cronsim; in cron a range of one number stays that.
        return str(begin) if begin == end else f"{begin}-{end}" + (f"/{step}" if step else "")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """The timing of a job; `parse` makes it."""

    text: str
    """Five fields with single spaces, as they go into a crontab."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a timing as cron does.

        Parameters
        ----------
        text
            Minute, hour, day of the month, month, day of the week; or ``@hourly``, ``@daily``, ``@midnight``,
            ``@weekly``, ``@monthly``, ``@yearly``, ``@annually``.

        Raises
        ------
        ScheduleError
            If cron refuses it, or gives it another meaning than the obvious one; the message has the reason.
        """
        try:
            timing = cls(_normal(text))
            timing._runs(datetime(2000, 1, 1))  # noqa: DTZ001 - cron's fields know no zone
        except CronSimError:
            reason = "no month that it names has such a day"
        except ValueError as error:
            reason = str(error)
        else:
            return timing
        raise ScheduleError(f"timing {text!r} cannot be used: {reason}.")

    def next_run(self, after: datetime | None = None) -> datetime:
        """Return the next time at which cron starts the job.

        When the clock is put forward, a job at a fixed time inside the missing hour runs at its end; when it is put
        back, such a job runs once. Jobs of every minute or hour follow the clock. Both are what Debian's cron does.

        Parameters
        ----------
        after
            The moment after which to look; now by default. Without a zone it is local time.

        Returns
        -------
        datetime
            In local time, with its offset.

        Raises
        ------
        ScheduleError
            If that is more than fifty years away.
        """
        start = (datetime.now(UTC) if after is None else after).astimezone(LocalZone())
        begin = start.astimezone(UTC)
        for run in self._runs(start):
            # In the hour that comes twice, cronsim may name the first passage of a minute when the second has begun;
            # and a day without midnight begins with a time that does not exist.
            moment = run.astimezone(UTC)
            if moment > begin and moment.astimezone(LocalZone()).replace(tzinfo=None) == run.replace(tzinfo=None):
                return moment.astimezone()
        raise ScheduleError(f"timing {self.text!r} cannot be used: it does not come within fifty years.")

    def on_calendar(self) -> list[str]:
        """Return expressions for systemd's ``OnCalendar=``, of which each starts the job."""
        runs = self._runs(datetime(2000, 1, 1))  # noqa: DTZ001 - as above
        weekdays = {day % 7 for day in runs.weekdays if isinstance(day, int)}
        week = "" if len(weekdays) == 7 else ",".join(_WEEKDAYS[day].capitalize() for day in sorted(weekdays)) + " "
        months = _listed(runs.months, range(1, 13))
        days = _listed(runs.days, range(1, 32))
        time = f"{_listed(runs.hours, range(24))}:{_listed(runs.minutes, range(60))}:00"
        if runs.day_and:
            return [f"{week}*-{months}-{days} {time}"]
        return [f"*-{months}-{days} {time}", f"{week}*-{months}-* {time}"]

    def _runs(self, start: datetime) -> CronSim:
        fields = zip(_FIELDS, self.text.split(" "), strict=True)
        return CronSim(" ".join(",".join(map(field.plain, text.split(","))) for field, text in fields), start)


def _normal(text: str) -> str:
    """Return a timing as five fields with single spaces.

    Raises
    ------
    ValueError
        If it does not have five fields; the message has the reason.
    """
    if not text.isascii() or not text.replace("\t", " ").isprintable():
        raise ValueError("it holds characters that cron does not know")
    if text.strip() == "@reboot":
        raise ValueError("@reboot does not say when")
    if text.strip().startswith("@"):
        if text.strip() not in _WORDS:
            raise ValueError(f"of words with @, only {', '.join(_WORDS)} are known")
        return _WORDS[text.strip()]
    fields = text.lower().split()
    if len(fields) != 5:
        wanted = "minute, hour, day of the month, month, day of the week"
        raise ValueError(f"it has {len(fields)} field{'s' * (len(fields) != 1)}, not five ({wanted})")
    return " ".join(fields)


def _listed(numbers: Iterable[int], possible: range) -> str:
    found = sorted(numbers)
    return "*" if found == list(possible) else ",".join(f"{number:02d}" for number in found)
