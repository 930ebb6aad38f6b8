"""matplotlib's own settings while a figure for a file is drawn or saved, whatever the user has set."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What cannot be set twice in a process, starts a backend, or does not change a figure.
_KEPT = frozenset({"backend", "backend_fallback", "date.epoch", "interactive", "toolbar"})

_LOCK = threading.RLock()


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Give ``rcParams`` matplotlib's defaults inside the block, which should draw or save and do nothing else.

    Keywords cannot do this: ticks, their labels, grids, legends and writers of files read dozens of settings
    (``text.usetex``, ``savefig.bbox``, ``figure.autolayout``, ``axes.grid``, ``path.sketch``) that have no keyword,
    some of them only while a file is saved.

    The settings are those of the process. Hence the lock: two threads that draw for this package would undo each
    other's change. Only settings that differ are changed, in most processes none, and a setting that another thread
    changes meanwhile keeps its new value.
    """
    from matplotlib import rcParams, rcParamsDefault  # noqa: PLC0415  # an extra

    settings: Any = rcParams  # some versions of matplotlib declare the names of all settings
    defaults: Any = rcParamsDefault
    with _LOCK:
        changed: dict[str, tuple[Any, Any]] = {}
        try:
            for key, ours in defaults.items():
                if key not in _KEPT and (given := settings[key]) != ours:
                    changed[key] = given, ours
                    settings[key] = ours
            yield
        finally:
            for key, (given, ours) in changed.items():
                if settings[key] == ours:
                    settings[key] = given
