"""How long a delivery is tried, and the errors of a delivery that did not bring all files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sen2chain.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class IncompleteError(DeliveryError):
    """A delivery of which some files may have arrived.

    Parameters
    ----------
    message
        What went wrong and what to do.
    sent
        Names of files that arrived; more may have.
    """

    def __init__(self, message: str, sent: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.sent = tuple(sent)


class GoneError(IncompleteError):
    """A destination to which files were delivered before does not exist any more, as when its disk is not mounted.

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
    """The time limit of a delivery, and the pauses between its tries.

    Parameters
    ----------
    time_limit
        Seconds for everything, pauses too.
    pauses
        Seconds before each further try.
    on_retry
        Called before each pause with a sentence on its reason.
    """

    def __init__(self, time_limit: float, pauses: Sequence[float], on_retry: Callable[[str], None] | None) -> None:
        self.time_limit = time_limit
        self._end = time.monotonic() + time_limit
        self._pauses = iter(pauses)
        self._on_retry = on_retry

    def left(self) -> float:
        """Return the seconds that are left, 0 when the time is over."""
        return max(0.0, self._end - time.monotonic())

    def pause(self, reason: str) -> bool:
        """Wait before the next try; return False at once where no further try is left."""
        pause = next(self._pauses, None)
        if pause is None or pause >= self.left():
            return False
        if self._on_retry is not None:
            self._on_retry(f"{reason} The next try is in {pause:g} s.")
        time.sleep(pause)
        return True

    def over(self, destination: object, sent: Iterable[str] = ()) -> IncompleteError:
        """Return the error of a delivery that took too long."""
        return IncompleteError(
            f"The delivery to {destination} was stopped after {self.time_limit:g} s; the next delivery sends the rest, "
            "or give it more time.",
            sent,
        )
