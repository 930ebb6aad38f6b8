"""The machine's own time zone, as its C library tells it: what cron and systemd go by.

Neither the name of the zone nor its file is looked for, so that every way to set one works.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class LocalZone(tzinfo):
    """Local time, with the offset that holds at each moment."""

    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        """Return the offset at a local time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _when: datetime | None, /) -> timedelta | None:
        """Say nothing: nobody asks which part of the offset is summer time's."""
        return None

    def tzname(self, when: datetime | None, /) -> str | None:
        """Return the zone's short name at a local time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: datetime, /) -> datetime:
        """Return the local time at a moment, whose fields are those of UTC."""
        local = when.replace(tzinfo=UTC).astimezone()
        clock = local.replace(tzinfo=self, fold=0)
        # An hour that comes twice reads the same both times; `fold` says that it is the second.
        return clock if clock.utcoffset() == local.utcoffset() else clock.replace(fold=1)
