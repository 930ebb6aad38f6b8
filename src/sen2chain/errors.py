"""The exceptions of this package.

::

    Sen2ChainError
    ├── RequestError              what was asked for cannot be understood      (also a ValueError)
    │   ├── UnknownNameError      no such index, mask, band, statistic, option
    │   ├── UnknownKeywordError   no such keyword                               (also a TypeError)
    │   ├── FormulaError          a user's formula that cannot be understood
    │   ├── TooShortError         series that have too few dates to be smoothed
    │   └── SmoothingError        series that cannot be smoothed; everything else was compiled
    ├── LayerError                the polygon layer cannot be used
    ├── LibraryError              the archive cannot be found or read
    ├── RasterError               one raster cannot be used; the run goes on
    │   ├── UnreadableError       missing, truncated, corrupt
    │   └── GridMismatchError     another grid or CRS than its tile's
    ├── ExecutorError             tasks cannot be run where they were asked to be
    ├── StoreError                a folder of raw and compiled rows cannot be used
    ├── OutputError               the result cannot be written, or would replace another one
    │   └── EmptyResultError      it has no rows, and the table that is there has; everything else was written
    └── JobError                  a job cannot be used: its file, its name, another run of it
        ├── ScheduleError         cron or systemd cannot be told when it runs
        └── DeliveryError         files cannot be brought to their destination

Every message is one sentence that names the item and says what to do. Whatever is raised on purpose derives
from `Sen2ChainError`, so that ``except Sen2ChainError`` is enough for a caller. Messages name files and texts that come
from outside, so they are made printable when an error is made.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def escaped(text: str) -> str:
    r"""Return a text from outside so that it can be printed and written anywhere, on one line.

    Characters that are not printable are written as Python escapes: line breaks, what does something to a terminal,
    and the bytes of file names that are not UTF-8 (``\xff``). The result does not change when it is escaped again.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    # Python keeps the bytes 0x80 to 0xff of a file name that is not UTF-8 as U+DC80 to U+DCFF.
    raw = ord(char) - 0xDC00
    return f"\\x{raw:02x}" if 0x80 <= raw <= 0xFF else char.encode("unicode_escape").decode("ascii")


class Sen2ChainError(Exception):
    """Base of all errors raised on purpose by this package."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(escaped(arg) if isinstance(arg, str) else arg for arg in args))


class RequestError(Sen2ChainError, ValueError):
    """A parameter has a value that cannot be used."""

    parameter: str = ""
    """The keyword of a number that is out of its range."""
    value: object = None
    """That number, or what was given in its place."""


class UnknownNameError(RequestError):
    """A name that is not in the list of allowed ones.

    Parameters
    ----------
    kind
        What the name stands for, as users call it: ``"index"``, ``"cloud mask"``, ``"statistic"``.
    name
        The name that was given.
    allowed
        The names that are understood.
    """

    def __init__(self, kind: str, name: object, allowed: Iterable[str]) -> None:
        self.kind, self.name, self.allowed = kind, name, tuple(allowed)
        said = shown(name)
        near = difflib.get_close_matches(said.upper(), [a.upper() for a in self.allowed], n=1)
        hint = ""
        if near:
            match = next(a for a in self.allowed if a.upper() == near[0])
            hint = f" Did you mean {match}?"
        super().__init__(f"Unknown {kind} {said!r}; allowed: {', '.join(self.allowed)}.{hint}")

    def __reduce__(self) -> tuple[type, tuple[str, object, tuple[str, ...]]]:
        """Survive pickling between worker processes, which replays ``__init__``."""
        return type(self), (self.kind, self.name, self.allowed)


class UnknownKeywordError(RequestError, TypeError):
    """A keyword that a function does not have.

    Parameters
    ----------
    function
        The function, as users call it.
    name
        The keyword that was given.
    known
        The keywords that it has.
    meant
        The one that is most likely meant; an empty text where none is.
    """

    def __init__(self, function: str, name: str, known: Iterable[str], meant: str = "") -> None:
        self.function, self.name, self.known, self.meant = function, name, tuple(known), meant
        hint = f"did you mean {meant}?" if meant else f"it has: {', '.join(self.known)}."
        super().__init__(f"{function}() has no keyword {name!r}; {hint}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...], str]]:
        """Survive pickling between worker processes, which replays ``__init__``."""
        return type(self), (self.function, self.name, self.known, self.meant)


def items_of(name: str, given: Iterable[Any], example: str) -> list[Any]:
    """Return what a user gives for a parameter that takes one or several.

    Parameters
    ----------
    name
        The parameter.
    given
        Anything; texts have been dealt with.
    example
        What could be passed instead.

    Raises
    ------
    RequestError
        If they are not several of anything.
    """
    try:
        return list(given)
    except TypeError:
        raise RequestError(f"{name} is {quoted(given)}; pass one or several of them, as {example}.") from None


def out_of_range(parameter: str, value: object, allowed: str) -> RequestError:
    """Return the error for a number that is none, or is out of its range; it keeps the name for the command line.

    Parameters
    ----------
    parameter
        The keyword or setting, as users call it.
    value
        What was given.
    allowed
        What may be, in words.
    """
    error = RequestError(f"{parameter} is {quoted(value)}; allowed: {allowed}.")
    error.parameter, error.value = parameter, value
    return error


def whole_number(parameter: str, value: object, low: int, high: int, allowed: str = "whole numbers") -> int:
    """Return a whole number from outside as Python's own, whether it is that or numpy's.

    Parameters
    ----------
    parameter
        What users call it.
    value
        What was given.
    low, high
        Its range, both inclusive.
    allowed
        What the numbers of the range are.

    Raises
    ------
    RequestError
        If it is something else, a truth value included, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise out_of_range(parameter, value, f"{allowed} from {low} to {high}")
    return int(value)


def real_number(
    parameter: str, value: object, low: float, high: float, allowed: str = "numbers", more: str = ""
) -> float:
    """Return a number from outside as Python's own; the parameters are those of `whole_number`.

    `more` is said after the range.

    Raises
    ------
    RequestError
        If it is something else, not finite, or out of range.
    """
    found: float = math.nan
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        with contextlib.suppress(OverflowError):  # a whole number or a fraction that is too large
            found = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not low <= found <= high:
        raise out_of_range(parameter, value, f"{allowed} from {low:.15g} to {high:.15g}{more}")
    return found


def truth(parameter: str, value: object) -> bool:
    """Return True or False from outside; 0, 1 and None count as such, a text does not.

    Raises
    ------
    RequestError
        If it is neither.
    """
    if not isinstance(value, str | bytes):
        with contextlib.suppress(ValueError, TypeError):  # of arrays and tables, which have many
            return bool(value)
    raise out_of_range(parameter, value, "True or False")


def choice(kind: str, value: object, allowed: Iterable[str]) -> None:
    """Make sure that a value from outside is one of some names.

    Raises
    ------
    UnknownNameError
        If it is not.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise UnknownNameError(kind, value, allowed)


def quoted(value: object) -> str:
    """Return a value from outside as `shown`, a text in quotes."""
    return repr(shown(value)) if isinstance(value, str) else shown(value)


_LONG = 80


def shown(value: object) -> str:
    """Return a value from outside as a sentence shows it: the beginning of a long one, whatever it is."""
    try:
        text = str(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a {type(value).__name__} too large to be written"
    except Exception:  # noqa: BLE001  # a class of the user's that cannot be written
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


class FormulaError(RequestError):
    """A formula that cannot be parsed safely or uses an unknown band."""


class TooShortError(RequestError):
    """Series that have too few dates to be smoothed."""


class SmoothingError(RequestError):
    """Series that cannot be smoothed, told after everything else was compiled.

    Parameters
    ----------
    sentence
        Why.
    compiled
        What was compiled, a `sen2chain.timeseries.Compiled`.
    too_short
        Whether time alone mends it: the series have too few dates yet.
    """

    def __init__(self, sentence: str, compiled: object = None, *, too_short: bool = False) -> None:
        self.compiled, self.too_short = compiled, too_short
        super().__init__(sentence)


class LayerError(Sen2ChainError):
    """The polygon layer cannot be used."""


class LibraryError(Sen2ChainError):
    """The archive cannot be found or read."""


class RasterError(Sen2ChainError):
    """One raster cannot be used; its product is reported and the run goes on."""


class UnreadableError(RasterError):
    """A file is missing, truncated or corrupt."""


class GridMismatchError(RasterError):
    """A raster has another grid or CRS than the other rasters of its tile."""


class ExecutorError(Sen2ChainError):
    """Tasks cannot be run where they were asked to be: no Dask, no scheduler, no shared folder."""


class StoreError(Sen2ChainError):
    """A folder of raw and compiled rows cannot be used: damaged, in use, or made with other options."""


class OutputError(Sen2ChainError):
    """A result cannot be written, or would replace one that was made otherwise."""


class EmptyResultError(OutputError):
    """A table without rows would replace one with rows; told after everything else was written.

    Parameters
    ----------
    sentence
        Which tables are kept.
    files
        What was written.
    """

    def __init__(self, sentence: str, files: Iterable[Path] = ()) -> None:
        self.files = list(files)
        super().__init__(sentence)


class JobError(Sen2ChainError):
    """A recurring extraction cannot be used: its file cannot be understood, or another run of it is going on."""


class ScheduleError(JobError):
    """A schedule cannot be understood, or this machine's cron or systemd cannot be told about it."""


class DeliveryError(JobError):
    """Files cannot be brought to their destination; what was extracted stays."""
