"""The machine's time zone as its C library has it, by which cron and systemd start jobs.

Neither the name nor the file of the zone is looked up, so that every way to set a zone works.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class LocalZone(tzinfo):
    """Local time, with its offset at each moment."""

    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        """Return the offset at a local time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _when: datetime | None, /) -> timedelta | None:
        """Return None: the part of the offset that is summer time is not needed."""
        return None

    def tzname(self, when: datetime | None, /) -> str | None:
        """Return the zone's short name at a local time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: datetime, /) -> datetime:
        """Return the local time of a moment in UTC."""
        local = when.replace(tzinfo=UTC).astimezone()
        clock = local.replace(tzinfo=self, fold=0)
        # An hour that comes twice reads the same both times; `fold` says that it is the second.
        return clock if clock.utcoffset() == local.utcoffset() else clock.replace(fold=1)
