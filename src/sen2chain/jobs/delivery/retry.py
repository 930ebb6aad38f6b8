"""What all ways of delivery share: how long to try, which names may be sent, what an incomplete delivery is."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sen2chain.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CONTROL = re.compile("[\x00-\x1f\x7f]")


class IncompleteError(DeliveryError):
    """A delivery of which some files may have arrived.

    Parameters
    ----------
    message
        What went wrong and what to do.
    sent
        Names that are known to have been sent completely; there may be more.
    """

    def __init__(self, message: str, sent: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.sent = tuple(sent)


class GoneError(IncompleteError):
    """A destination is not there to which files were delivered before, as when its disk is not mounted.

    Parameters
    ----------
    destination
        The destination.
    """

    def __init__(self, destination: object) -> None:
        super().__init__(
            f"{destination} is not there, but files were sent to it before; mount it, or make the folder by hand."
        )


class Patience:
    """How long to try.

    Parameters
    ----------
    time_limit
        Seconds for everything, pauses too.
    pauses
        Seconds before each further try.
    on_retry
        Is told why there is a pause.
    """

    def __init__(self, time_limit: float, pauses: Sequence[float], on_retry: Callable[[str], None] | None) -> None:
        self.time_limit = time_limit
        self._end = time.monotonic() + time_limit
        self._pauses = iter(pauses)
        self._on_retry = on_retry

    def left(self) -> float:
        """Return how many seconds are left, 0 when the time is over."""
        return max(0.0, self._end - time.monotonic())

    def pause(self, reason: str) -> bool:
        """Wait before the next try; False, at once, when there is to be none."""
        pause = next(self._pauses, None)
        if pause is None or pause >= self.left():
            return False
        if self._on_retry is not None:
            self._on_retry(f"{reason} The next try is in {pause:g} s.")
        time.sleep(pause)
        return True

    def over(self, destination: object, sent: Iterable[str] = ()) -> IncompleteError:
        """Make the error of a delivery that took too long."""
        return IncompleteError(
            f"The delivery to {destination} was stopped after {self.time_limit:g} s; the next delivery sends the rest, "
            "or give it more time.",
            sent,
        )


def checked(root: Path, names: Iterable[str]) -> list[str]:
    """Return the names once each, after a look at every one.

    Raises
    ------
    DeliveryError
        If a name leads out of the folder, cannot be sent, or is not that of a file.
    """
    unique = list(dict.fromkeys(names))
    for name in unique:
        if _CONTROL.search(name):
            raise DeliveryError(f"The file {name!r} has a control character in its name; rename it.")
        # The path's own text has neither empty parts nor '.', both of which mean something to rsync.
        path = PurePosixPath(name)
        if not name or str(path) != name or path.is_absolute() or {".", ".."} & set(path.parts):
            raise DeliveryError(f"{name!r} is no name of a file in {root}; give plain names relative to that folder.")
        try:
            there = os.path.isfile(root / name)  # noqa: PTH113 - False, no error, behind a locked folder
            os.fsencode(name)
        except ValueError:
            there = False
        if not there:
            raise DeliveryError(f"{name!r} is no file in {root}; it may have been removed, so compile again.")
    return unique
